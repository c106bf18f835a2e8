/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ram: the guest's memory, one memfd for all of it.
 *
 * The file is sealed against shrinking and growing, so that no peer who holds it can make a mapping fault.
 * File offset and guest address agree below the PCI hole; what does not fit there continues at 4 GiB:
 *
 *     file [0, low)    -> GPA [0, low)              low = min(bytes, start of the hole)
 *     file [low, size) -> GPA [4 GiB, ...)
 *
 * The legacy window (0xa0000-0x100000) is not RAM: it is left out of the regions although the file covers it.
 *
 * Owner thread: main. ram_lookup() from any thread once created.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/units.h"
#include "protocol/memory_map.h"

#define RAM_REGIONS_MAX 3
#define RAM_BYTES_MIN   (16 * MIB)
#define RAM_BYTES_MAX   (1024 * GIB)

struct ram_region {
    gpa_t gpa;
    uint64_t bytes;
    uint64_t file_offset;
    uint8_t *host;
};

struct ram {
    int fd; /* owned */
    uint64_t bytes;
    uint8_t *mapping;
    unsigned region_count;
    struct ram_region regions[RAM_REGIONS_MAX]; /* ascending */
    struct memory_map map;
};

/*
 * `fd` is taken: a memfd of at least `bytes`, or -1 to make one. -EINVAL: `bytes` is not a page multiple or
 * out of bounds; -ENXIO: the file is too short; -EPERM: it cannot be sealed against shrinking; or what the
 * system says. On failure `fd` is closed.
 */
int ram_init(struct ram *ram, int fd, uint64_t bytes);
/* Safe on a zeroed one whose fd is -1. */
void ram_finish(struct ram *ram);
/* All bytes read as zero again, and the host gets its pages back. */
int ram_clear(struct ram *ram);

/* NULL unless [gpa, gpa + bytes) lies in one region. */
void *ram_lookup(const struct ram *ram, gpa_t gpa, uint64_t bytes);
