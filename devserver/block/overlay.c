/* SPDX-License-Identifier: Apache-2.0 */
#include "devserver/block/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "protocol/base/units.h"

#define MAP_ALIGN_BYTES UINT64_C(4096)
#define WORD_BITS       64u

static uint64_t align_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

/* Makes the file as large as it must be, with the map's space allocated. */
static int overlay_prepare(int fd, uint64_t map_offset, uint64_t map_bytes)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR)
        return -EINVAL;
    if (st.st_size != 0 && (uint64_t)st.st_size != map_offset + map_bytes)
        return -EINVAL;
    if (ftruncate(fd, (off_t)(map_offset + map_bytes)) < 0)
        return -errno;
    return fallocate(fd, 0, (off_t)map_offset, (off_t)map_bytes) < 0 ? -errno : 0;
}

int overlay_open(struct overlay *overlay, int fd, uint64_t sectors, char *why, size_t why_bytes)
{
    uint64_t map_offset = align_up(sectors * SECTOR_BYTES, MAP_ALIGN_BYTES);
    uint64_t map_bytes = align_up((sectors + 7) / 8, MAP_ALIGN_BYTES);
    int r = overlay_prepare(fd, map_offset, map_bytes);
    void *map;

    if (r < 0) {
        snprintf(why, why_bytes, "the overlay: %s",
                 r == -EINVAL ? "it must be an empty file, open for reading and writing" : strerror(-r));
        return r;
    }
    map = mmap(NULL, map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)map_offset);
    if (map == MAP_FAILED) {
        r = -errno;
        snprintf(why, why_bytes, "the overlay's map: %s", strerror(-r));
        return r;
    }
    fd_set_nonblock(fd, false);
    *overlay = (struct overlay){.fd = fd, .sectors = sectors, .map = map, .map_bytes = map_bytes};
    return 0;
}

void overlay_finish(struct overlay *overlay)
{
    if (overlay->map)
        munmap(overlay->map, overlay->map_bytes);
    overlay->map = NULL;
    fd_close(&overlay->fd);
}

static uint64_t map_word(const struct overlay *overlay, uint64_t index)
{
    return __atomic_load_n(&overlay->map[index], __ATOMIC_ACQUIRE);
}

uint64_t overlay_run(const struct overlay *overlay, uint64_t sector, uint64_t count, bool *ret_in_overlay)
{
    bool in_overlay = map_word(overlay, sector / WORD_BITS) >> (sector % WORD_BITS) & 1;
    uint64_t run = 0;

    *ret_in_overlay = in_overlay;
    while (run < count) {
        uint64_t at = sector + run;
        unsigned shift = at % WORD_BITS;
        uint64_t word = map_word(overlay, at / WORD_BITS);
        uint64_t differs = (in_overlay ? ~word : word) >> shift;

        if (differs != 0) {
            run += (unsigned)__builtin_ctzll(differs);
            break;
        }
        run += WORD_BITS - shift;
    }
    return run < count ? run : count;
}

void overlay_mark(struct overlay *overlay, uint64_t sector, uint64_t count)
{
    while (count > 0) {
        unsigned shift = sector % WORD_BITS;
        uint64_t part = count < WORD_BITS - shift ? count : WORD_BITS - shift;
        uint64_t mask = (part == WORD_BITS ? UINT64_MAX : (UINT64_C(1) << part) - 1) << shift;

        /* Most sectors that are written are written again: do not make the page of the map dirty for nothing.
         */
        if ((map_word(overlay, sector / WORD_BITS) & mask) != mask)
            __atomic_fetch_or(&overlay->map[sector / WORD_BITS], mask, __ATOMIC_RELEASE);
        sector += part;
        count -= part;
    }
}
