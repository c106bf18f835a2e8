/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/memory_log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/memory_map_internal.h"

int memory_log_map(struct memory_log *log, int fd, uint64_t offset, uint64_t bytes)
{
    uint64_t skip = offset % (uint64_t)sysconf(_SC_PAGESIZE), end;
    struct memory_log fresh = {.bytes = bytes, .guard = -1};
    int seals = fcntl(fd, F_GET_SEALS);
    struct stat st;

    if (bytes == 0 || __builtin_add_overflow(offset, bytes, &end) || end > INT64_MAX)
        return -EINVAL;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EBADF;
    if (end > (uint64_t)st.st_size)
        return -ENXIO;
    fresh.mapping_bytes = bytes + skip;
    fresh.mapping =
        mmap(NULL, fresh.mapping_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)(offset - skip));
    if (fresh.mapping == MAP_FAILED)
        return -errno;
    fresh.bits = (uint8_t *)fresh.mapping + skip;
    if ((seals < 0 || !(seals & F_SEAL_SHRINK)) && memory_guard_installed()) {
        fresh.guard = memory_guard_add(fresh.mapping, fresh.mapping_bytes);
        if (fresh.guard < 0) {
            munmap(fresh.mapping, fresh.mapping_bytes);
            return -ENOSPC;
        }
    }
    memory_log_unmap(log);
    *log = fresh;
    return 0;
}

void memory_log_unmap(struct memory_log *log)
{
    if (!log->bits)
        return;
    memory_guard_remove(log->guard);
    munmap(log->mapping, log->mapping_bytes);
    *log = (struct memory_log){.guard = -1};
}

void memory_log_set(const struct memory_log *log, gpa_t gpa, uint64_t bytes)
{
    uint64_t page = gpa / MEMORY_LOG_PAGE_BYTES;
    uint64_t last = bytes ? (gpa + bytes - 1) / MEMORY_LOG_PAGE_BYTES : 0;

    while (bytes && page <= last && page / 8 < log->bytes) {
        uint64_t byte_last = page | 7;
        unsigned bits = 0xffu << (page & 7);

        if (last < byte_last)
            bits &= 0xffu >> (byte_last - last);
        __atomic_fetch_or(&log->bits[page / 8], (uint8_t)bits, __ATOMIC_SEQ_CST);
        page = byte_last + 1;
    }
}
