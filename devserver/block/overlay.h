/* SPDX-License-Identifier: Apache-2.0 */
/*
 * overlay: where the writes of an ephemeral disk go, so that the image stays as it is.
 *
 * The overlay file is sparse: sector n of the disk is at the same offset as in the image, and after the last
 * sector, from the next 4 KiB boundary on, comes a map of one bit per sector: set, the sector is in the
 * overlay, else in the image. So any sector may be written without copying its neighbours, there is nothing
 * to allocate on the data path, and a restarted process that is given the same file goes on with it. The map
 * costs 1/4096 of the disk's size and is allocated at the start, so that storing a bit cannot fail.
 *
 * Order: a sector's bit is set when its write is complete, and before the guest is told so.
 *
 * Threads: any number of queue threads at once; bits are atomic. Two requests for the same sector at the same
 * time give one or the other, as on any disk.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct overlay {
    int fd; /* owned; -1: no overlay */
    uint64_t sectors;
    uint64_t *map; /* shared mapping of the file's end */
    size_t map_bytes;
};

/* Takes `fd` on success: an empty regular file or memfd, or one that was an overlay of a disk of this size.
 * Negative errno and one line in `why`. */
int overlay_open(struct overlay *overlay, int fd, uint64_t sectors, char *why, size_t why_bytes);
void overlay_finish(struct overlay *overlay);

/* How many of the `count` (at least 1) sectors from `sector` on are in the same place, and in which. */
uint64_t overlay_run(const struct overlay *overlay, uint64_t sector, uint64_t count, bool *ret_in_overlay);

void overlay_mark(struct overlay *overlay, uint64_t sector, uint64_t count);
