/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/memory_map.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "protocol/memory_map_internal.h"

int memory_map_init(struct memory_map *map)
{
    map->count = 0;
    map->log = NULL;
    map->regions = calloc(MEMORY_MAP_REGIONS_MAX, sizeof(*map->regions));
    return map->regions ? 0 : -ENOMEM;
}

static void memory_region_finish(struct memory_region *region)
{
    memory_guard_remove(region->guard);
    if (region->mapping)
        munmap(region->mapping, region->mapping_bytes);
}

void memory_map_clear(struct memory_map *map)
{
    for (unsigned i = 0; i < map->count; i++)
        memory_region_finish(&map->regions[i]);
    map->count = 0;
}

void memory_map_finish(struct memory_map *map)
{
    memory_map_clear(map);
    free(map->regions);
    map->regions = NULL;
}

static bool ranges_overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes;
}

static bool range_wraps(uint64_t start, uint64_t bytes)
{
    uint64_t end;

    return __builtin_add_overflow(start, bytes, &end);
}

/* Whether a region may join the map, `user_addr` being meaningful only where `has_user`. */
static int memory_map_check(const struct memory_map *map, const struct memory_region_info *info,
                            bool has_user)
{
    if (info->bytes == 0 || info->bytes > INT64_MAX || range_wraps(info->gpa, info->bytes) ||
        range_wraps(info->user_addr, info->bytes) || range_wraps(info->file_offset, info->bytes))
        return -EINVAL;
    if (map->count == MEMORY_MAP_REGIONS_MAX)
        return -ENOSPC;
    for (unsigned i = 0; i < map->count; i++) {
        const struct memory_region *other = &map->regions[i];

        if (ranges_overlap(info->gpa, info->bytes, other->gpa, other->bytes))
            return -EINVAL;
        if (has_user && ranges_overlap(info->user_addr, info->bytes, other->user_addr, other->bytes))
            return -EINVAL;
    }
    return 0;
}

static void memory_map_insert(struct memory_map *map, const struct memory_region *region)
{
    unsigned at = map->count;

    while (at > 0 && map->regions[at - 1].gpa > region->gpa)
        at--;
    memmove(&map->regions[at + 1], &map->regions[at], (map->count - at) * sizeof(*region));
    map->regions[at] = *region;
    map->count++;
}

/* The unit in which a file can be mapped: the page size, or the file's huge page size. 0 on error. */
static uint64_t mapping_unit_bytes(int fd)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0)
        return 0;
    return fs.f_type == HUGETLBFS_MAGIC && fs.f_bsize > 0 ? (uint64_t)fs.f_bsize : page;
}

static int memory_region_map(const struct memory_region_info *info, int fd, struct memory_region *ret_region)
{
    uint64_t unit = mapping_unit_bytes(fd);
    int seals = fcntl(fd, F_GET_SEALS);
    struct memory_region region = {.gpa = info->gpa, .bytes = info->bytes, .user_addr = info->user_addr};
    uint64_t skip, bytes;

    if (unit == 0)
        return -errno;
    skip = info->file_offset % unit;
    if (__builtin_add_overflow(info->bytes, skip + unit - 1, &bytes))
        return -EINVAL;
    bytes -= bytes % unit;
    region.mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
                          (off_t)(info->file_offset - skip));
    if (region.mapping == MAP_FAILED)
        return -errno;
    region.mapping_bytes = bytes;
    region.host = (uint8_t *)region.mapping + skip;
    region.guard = -1;
    if ((seals < 0 || !(seals & F_SEAL_SHRINK)) && memory_guard_installed()) {
        region.guard = memory_guard_add(region.mapping, region.mapping_bytes);
        if (region.guard < 0) {
            munmap(region.mapping, region.mapping_bytes);
            return -ENOSPC;
        }
    }
    madvise(region.mapping, region.mapping_bytes, MADV_DONTDUMP);
    *ret_region = region;
    return 0;
}

int memory_map_add_fd(struct memory_map *map, const struct memory_region_info *info, int fd)
{
    struct memory_region region;
    struct stat st;
    int r = memory_map_check(map, info, true);

    if (r < 0)
        return r;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EBADF;
    if (st.st_size < 0 || info->file_offset + info->bytes > (uint64_t)st.st_size)
        return -ENXIO;
    r = memory_region_map(info, fd, &region);
    if (r < 0)
        return r;
    memory_map_insert(map, &region);
    return 0;
}

int memory_map_add_host(struct memory_map *map, gpa_t gpa, uint64_t bytes, void *host)
{
    const struct memory_region_info info = {.gpa = gpa, .bytes = bytes, .user_addr = (uintptr_t)host};
    struct memory_region region = {
        .gpa = gpa,
        .bytes = bytes,
        .user_addr = (uintptr_t)host,
        .host = host,
        .guard = -1,
    };
    int r = memory_map_check(map, &info, false);

    if (r < 0)
        return r;
    memory_map_insert(map, &region);
    return 0;
}

int memory_map_remove(struct memory_map *map, const struct memory_region_info *info)
{
    for (unsigned i = 0; i < map->count; i++) {
        struct memory_region *region = &map->regions[i];

        if (region->gpa != info->gpa || region->bytes != info->bytes || region->user_addr != info->user_addr)
            continue;
        memory_region_finish(region);
        map->count--;
        memmove(region, region + 1, (map->count - i) * sizeof(*region));
        return 0;
    }
    return -ENOENT;
}

/* The region that holds `gpa`, or NULL. */
static const struct memory_region *memory_map_find(const struct memory_map *map, gpa_t gpa)
{
    unsigned low = 0, high = map->count;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct memory_region *region = &map->regions[middle];

        if (gpa < region->gpa)
            high = middle;
        else if (gpa - region->gpa >= region->bytes)
            low = middle + 1;
        else
            return region;
    }
    return NULL;
}

void *memory_map_lookup_part(const struct memory_map *map, gpa_t gpa, uint64_t bytes, uint64_t *ret_bytes)
{
    const struct memory_region *region = memory_map_find(map, gpa);
    uint64_t left;

    if (!region)
        return NULL;
    left = region->bytes - (gpa - region->gpa);
    *ret_bytes = bytes < left ? bytes : left;
    return region->host + (gpa - region->gpa);
}

void *memory_map_lookup(const struct memory_map *map, gpa_t gpa, uint64_t bytes)
{
    uint64_t part;
    void *host = memory_map_lookup_part(map, gpa, bytes, &part);

    return host && part == bytes ? host : NULL;
}

int memory_map_user_to_gpa(const struct memory_map *map, uint64_t user_addr, uint64_t bytes, gpa_t *ret_gpa)
{
    for (unsigned i = 0; i < map->count; i++) {
        const struct memory_region *region = &map->regions[i];
        uint64_t offset = user_addr - region->user_addr;

        if (user_addr < region->user_addr || offset >= region->bytes || bytes > region->bytes - offset)
            continue;
        *ret_gpa = region->gpa + offset;
        return 0;
    }
    return -EFAULT;
}

static void log_buffer(const struct memory_map *map, const uint8_t *host, uint64_t bytes)
{
    for (unsigned i = 0; i < map->count; i++) {
        const struct memory_region *region = &map->regions[i];
        uint64_t offset = (uint64_t)(host - region->host);

        if (host >= region->host && offset < region->bytes) {
            memory_log_set(map->log, region->gpa + offset, bytes);
            return;
        }
    }
}

void memory_map_written(const struct memory_map *map, const struct iovec *iov, unsigned count, uint64_t bytes)
{
    if (!map->log)
        return;
    for (unsigned i = 0; i < count && bytes > 0; i++) {
        uint64_t part = iov[i].iov_len < bytes ? iov[i].iov_len : bytes;

        log_buffer(map, iov[i].iov_base, part);
        bytes -= part;
    }
}

bool memory_map_lost(const struct memory_map *map)
{
    for (unsigned i = 0; i < map->count; i++) {
        if (memory_guard_lost(map->regions[i].guard))
            return true;
    }
    return false;
}
