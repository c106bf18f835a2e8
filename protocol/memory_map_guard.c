/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGBUS guard: survives a peer that shortens a file which we have mapped.
 *
 * A fixed table of mappings that the signal handler can read without a lock. On a fault inside one, the
 * handler puts private zero pages over the whole mapping (so it works for huge pages too), marks the slot and
 * returns; the faulting instruction then reads zeros or writes into nothing. mmap() is a bare system call
 * here, safe in a handler.
 *
 * A slot's `end` is 0 while free; it is stored last when added and first when removed.
 */
#include "protocol/memory_map_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>

#include "protocol/base/fd.h"
#include "protocol/memory_map.h"

struct guard_slot {
    _Atomic uintptr_t start, end;
    atomic_bool used, lost;
};

static struct guard_slot guard_slots[MEMORY_MAP_REGIONS_MAX + 8];
static atomic_bool guard_installed;
static atomic_int guard_event_fd = -1;

static void guard_handle_sigbus(int signal_number, siginfo_t *info, void *context)
{
    uintptr_t address = (uintptr_t)info->si_addr;
    int saved_errno = errno;

    for (size_t i = 0; info->si_code > 0 && i < ARRAY_LEN(guard_slots); i++) {
        struct guard_slot *slot = &guard_slots[i];
        uintptr_t end = atomic_load(&slot->end), start = atomic_load(&slot->start);

        if (end == 0 || address < start || address >= end)
            continue;
        if (mmap((void *)start, end - start, PROT_READ | PROT_WRITE,
                 MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED)
            break;
        atomic_store(&slot->lost, true);
        if (atomic_load(&guard_event_fd) >= 0)
            fd_eventfd_signal(atomic_load(&guard_event_fd));
        errno = saved_errno;
        return;
    }
    signal(SIGBUS, SIG_DFL); /* not ours: the instruction faults again and the process dies as it should */
    errno = saved_errno;
}

int memory_map_guard_install(int event_fd)
{
    struct sigaction action = {.sa_sigaction = guard_handle_sigbus, .sa_flags = SA_SIGINFO};

    atomic_store(&guard_event_fd, event_fd);
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGBUS, &action, NULL) < 0)
        return -errno;
    atomic_store(&guard_installed, true);
    return 0;
}

bool memory_guard_installed(void)
{
    return atomic_load(&guard_installed);
}

int memory_guard_add(void *mapping, size_t bytes)
{
    for (size_t i = 0; i < ARRAY_LEN(guard_slots); i++) {
        struct guard_slot *slot = &guard_slots[i];

        if (atomic_exchange(&slot->used, true))
            continue;
        atomic_store(&slot->lost, false);
        atomic_store(&slot->start, (uintptr_t)mapping);
        atomic_store(&slot->end, (uintptr_t)mapping + bytes);
        return (int)i;
    }
    return -1;
}

void memory_guard_remove(int slot)
{
    if (slot < 0)
        return;
    atomic_store(&guard_slots[slot].end, 0);
    atomic_store(&guard_slots[slot].used, false);
}

bool memory_guard_lost(int slot)
{
    return slot >= 0 && atomic_load(&guard_slots[slot].lost);
}
