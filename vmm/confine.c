/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/confine.h"

#include <sys/ioctl.h>
#include <sys/types.h>

#include "protocol/base/sandbox.h"
#include "protocol/base/units.h"

/* Beside the shared sets. */
static const struct sandbox_syscall own_calls[] = {
    SANDBOX_ALLOW(pread64, "kernel and initrd, again at each reset of the machine"),
    SANDBOX_ALLOW(socketpair, "the channel for requests of a device server"),
    SANDBOX_ALLOW_IF(ioctl, 1, SANDBOX_INT, TCSETS, "a terminal's mode at the end"),
    SANDBOX_ALLOW_IF(ioctl, 1, SANDBOX_INT, TCSETSW, "a terminal's mode at the end"),
    SANDBOX_ALLOW(sigaltstack, "reports of crashes are written on a stack of their own"),
    SANDBOX_ALLOW(ftruncate, "guest RAM when no memfd was given"),
};
static const struct sandbox_syscall_set own = SANDBOX_SET(own_calls);

static const struct sandbox_syscall_set *const sets[] = {
    &sandbox_syscalls_threads,
    &sandbox_syscalls_events,
    &sandbox_syscalls_messages,
    &sandbox_syscalls_exec_memory,
    &own,
    NULL,
};

int confine(const struct options *options, int event_fd, int signal_fd, char *why, size_t why_bytes)
{
    const int always[] = {
        options->memory_fd,
        options->kernel_fd,
        options->initrd_fd,
        options->console_in,
        options->console_out,
        options->control_fd,
        options->ready_fd,
        event_fd,
        signal_fd,
    };
    int keep[ARRAY_LEN(always) + VMM_CONTROL_DEVICES_MAX];
    struct sandbox_config config = {.sets = sets, .keep_fds = keep};
    struct sandbox *sandbox = NULL;
    int result;

    for (size_t i = 0; i < ARRAY_LEN(always); i++)
        if (always[i] >= 0)
            keep[config.keep_fds_count++] = always[i];
    for (unsigned i = 0; i < options->device_count; i++)
        if (options->devices[i].fd >= 0)
            keep[config.keep_fds_count++] = options->devices[i].fd;
    result = sandbox_prepare(&config, &sandbox, why, why_bytes);
    if (result == 0)
        result = sandbox_enter(sandbox, why, why_bytes);
    sandbox_destroy(sandbox);
    if (result > 0)
        log_warning("%s", why);
    return result < 0 ? result : 0;
}
