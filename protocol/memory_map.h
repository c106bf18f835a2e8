/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's physical memory as this process sees it: which GPA range lies where in our address space.
 *
 * memory_map_lookup() is the one place where a guest physical address becomes a host pointer. It answers only
 * for ranges that lie entirely inside one region; nothing else in the tree adds an offset to a region's base.
 *
 * Regions come from a peer (vhost-user, 'Memory region description') and are hostile. memory_map_add_fd()
 * refuses: empty or wrapping ranges (GPA, front-end's address, file offset), overlap with another region in
 * GPA or in the front-end's address space, files that are not regular, and files shorter than the range
 * (fstat).
 *
 * A file without F_SEAL_SHRINK may still be shortened by its owner after all checks; then an access faults
 * with SIGBUS. memory_map_guard_install() makes that survivable: the fault replaces the whole region by
 * private zero pages and marks it; memory_map_lost() says so and the peer is dropped. System calls on such
 * memory get EFAULT.
 *
 * States: init -> add/remove any number of times -> finish. A map is changed only by its owner thread and
 * only while no other thread looks anything up in it; look-ups then are safe from any thread. Pointers into a
 * region are valid until it is removed.
 *
 * Errors: negative errno; the map is unchanged then. All sizes are bytes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "protocol/memory_log.h"

/* As many as other back-ends offer (the limit of Linux' vhost, less some). */
#define MEMORY_MAP_REGIONS_MAX 509

struct memory_region {
    gpa_t gpa;
    uint64_t bytes;
    uint64_t user_addr; /* where the front-end has it mapped: vring addresses arrive in this space */
    uint8_t *host;      /* where we have it */
    void *mapping;      /* what to munmap, or NULL if `host` is borrowed */
    size_t mapping_bytes;
    int guard; /* slot of the SIGBUS guard, or -1 */
};

struct memory_map {
    unsigned count;
    struct memory_region *regions; /* sorted by gpa, MEMORY_MAP_REGIONS_MAX allocated */
    const struct memory_log *log;  /* borrowed; where writes are recorded, or NULL */
};

/* One region as a peer describes it. */
struct memory_region_info {
    gpa_t gpa;
    uint64_t bytes;
    uint64_t user_addr;
    uint64_t file_offset;
};

/* 0 or -ENOMEM. */
int memory_map_init(struct memory_map *map);
void memory_map_finish(struct memory_map *map);

/* Maps a part of `fd` (borrowed: it may be closed afterwards). -EINVAL: wrap, empty, overlap; -EBADF: not a
 * regular file; -ENXIO: file too short; -ENOSPC: too many regions; or what mmap() says. */
int memory_map_add_fd(struct memory_map *map, const struct memory_region_info *info, int fd);

/* Adds memory that the caller has mapped and keeps mapped (the VMM's own RAM). */
int memory_map_add_host(struct memory_map *map, gpa_t gpa, uint64_t bytes, void *host);

/* Removes the region with exactly this GPA, size and front-end address. -ENOENT. */
int memory_map_remove(struct memory_map *map, const struct memory_region_info *info);
void memory_map_clear(struct memory_map *map);

/* The host address of [gpa, gpa + bytes), or NULL unless it is inside one region. bytes may be 0. */
void *memory_map_lookup(const struct memory_map *map, gpa_t gpa, uint64_t bytes);

/* Like lookup, but for as many bytes as the region holds from `gpa` on (at most `bytes`): for buffers that
 * run over from one region into the next. NULL if not even one byte is there. */
void *memory_map_lookup_part(const struct memory_map *map, gpa_t gpa, uint64_t bytes, uint64_t *ret_bytes);

/* Front-end address to GPA. -EFAULT unless the range is inside one region. */
int memory_map_user_to_gpa(const struct memory_map *map, uint64_t user_addr, uint64_t bytes, gpa_t *ret_gpa);

/* Records that the first `bytes` of these buffers, which lie in the map's regions, were written. Does nothing
 * without a log. After the write, before the guest is told. */
void memory_map_written(const struct memory_map *map, const struct iovec *iov, unsigned count,
                        uint64_t bytes);

/* True once the file behind a region was found to be shorter than when it was mapped. Any thread. */
bool memory_map_lost(const struct memory_map *map);

/* Installs the process-wide SIGBUS handler, before the first region. Other SIGBUSes still kill. `event_fd`
 * (borrowed for ever, or -1; a later call replaces it) is an eventfd that is signalled when a region was
 * lost. */
int memory_map_guard_install(int event_fd);
