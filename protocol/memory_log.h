/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_log: which pages of guest memory a process has written (vhost-user 'Migration', LOG_SHMFD): a bitmap that it
 * shares with whoever wants to know, one bit per 4 KiB, bit number guest physical address >> 12, little-endian bytes.
 *
 * A writer sets bits after its writes and before it tells the guest of them; a reader clears a bit atomically before it looks
 * at the page. Then no write is missed: setting is one locked instruction, so the write before it is visible to whoever
 * sees the bit.
 *
 * The file comes from a peer and is as hostile as its memory regions (memory_map.h): -EINVAL for an empty or wrapping
 * range, -EBADF for a file that is not regular, -ENXIO for one that is too short. Pages beyond the bitmap are not recorded.
 *
 * Threads: set from any; map and unmap while nobody sets.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "protocol/base/units.h"

#define MEMORY_LOG_PAGE_BYTES 4096u

struct memory_log {
    uint8_t *bits; /* NULL: there is none */
    uint64_t bytes;
    void *mapping;
    size_t mapping_bytes;
    int guard; /* slot of the SIGBUS guard, or -1 */
};

/* Maps `bytes` of `fd` (borrowed) from `offset` on, instead of what *log had. On failure *log is unchanged. */
int memory_log_map(struct memory_log *log, int fd, uint64_t offset, uint64_t bytes);
/* Accepts a zeroed one. */
void memory_log_unmap(struct memory_log *log);
/* Records that [gpa, gpa + bytes) was written. */
void memory_log_set(const struct memory_log *log, gpa_t gpa, uint64_t bytes);

/* Bytes of bitmap that cover guest memory up to `end`, in whole 8-byte words. */
static inline uint64_t memory_log_bytes(gpa_t end)
{
    return (end + 64 * MEMORY_LOG_PAGE_BYTES - 1) / (64 * MEMORY_LOG_PAGE_BYTES) * 8;
}
