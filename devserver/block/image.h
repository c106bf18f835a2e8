/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image: the file or block device behind a disk, in raw format: sector n of the disk is at byte n * 512.
 *
 * Checked once at start, before the sandbox: it must be a regular file or a block device, of a size that is a
 * multiple of the logical block size and not zero, opened for what is asked of it, and not in use. 'In use'
 * is an open-file-description lock on the whole file, shared for readers and exclusive for a writer, which
 * lasts as long as any descriptor of the same open does: so a broker that keeps one also keeps the lock over
 * restarts of this process.
 *
 * Thread: immutable after image_open(). Errors: negative errno and one line with what and the cure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct image {
    int fd; /* owned */
    bool writable;
    bool is_device;
    uint64_t sectors;
    uint32_t logical_bytes;  /* block size that the guest is told; a power of two, at least 512 */
    uint32_t physical_bytes; /* at least logical_bytes */
    uint32_t optimal_bytes;  /* 0: unknown */
};

/* Takes `fd` on success. `name` is for messages. */
int image_open(struct image *image, int fd, const char *name, bool writable, char *why, size_t why_bytes);
void image_finish(struct image *image);
