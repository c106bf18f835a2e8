/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bus.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

int bus_add(struct bus *bus, const struct bus_range *range)
{
    unsigned at = 0;

    if (range->bytes == 0 || range->base + range->bytes - 1 < range->base)
        return -EINVAL;
    if (range->max_access != 1 && range->max_access != 2 && range->max_access != 4 && range->max_access != 8)
        return -EINVAL;
    while (at < bus->count && bus->ranges[at].base < range->base)
        at++;
    if (at > 0 && range->base - bus->ranges[at - 1].base < bus->ranges[at - 1].bytes)
        return -EEXIST;
    if (at < bus->count && bus->ranges[at].base - range->base < range->bytes)
        return -EEXIST;
    if (bus->count == BUS_MAX_RANGES)
        return -ENOSPC;
    memmove(&bus->ranges[at + 1], &bus->ranges[at], (bus->count - at) * sizeof(bus->ranges[0]));
    bus->ranges[at] = *range;
    bus->count++;
    return 0;
}

static const struct bus_range *find(const struct bus *bus, uint64_t addr)
{
    unsigned low = 0, high = bus->count;

    while (low < high) {
        unsigned middle = (low + high) / 2;

        if (bus->ranges[middle].base <= addr)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;
    const struct bus_range *range = &bus->ranges[low - 1];
    return addr - range->base < range->bytes ? range : NULL;
}

/* Largest power of two that fits `left` bytes, the range's width and the range's end. */
static unsigned piece_size(const struct bus_range *range, uint64_t offset, unsigned left)
{
    unsigned piece = range->max_access;

    while (piece > left || piece > range->bytes - offset)
        piece /= 2;
    return piece;
}

static uint64_t ones(unsigned size)
{
    return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (size * 8)) - 1;
}

uint64_t bus_read(const struct bus *bus, unsigned vcpu, uint64_t addr, unsigned size)
{
    uint64_t value = 0;

    for (unsigned done = 0; done < size;) {
        const struct bus_range *range = find(bus, addr + done);
        unsigned piece = 1;
        uint64_t part = 0xff;

        if (range) {
            uint64_t offset = addr + done - range->base;

            piece = piece_size(range, offset, size - done);
            part = range->ops->read(range->device, vcpu, offset, piece) & ones(piece);
        }
        value |= part << (done * 8);
        done += piece;
    }
    return value;
}

void bus_write(const struct bus *bus, unsigned vcpu, uint64_t addr, unsigned size, uint64_t value)
{
    for (unsigned done = 0; done < size;) {
        const struct bus_range *range = find(bus, addr + done);
        unsigned piece = 1;

        if (range) {
            uint64_t offset = addr + done - range->base;

            piece = piece_size(range, offset, size - done);
            range->ops->write(range->device, vcpu, offset, piece, (value >> (done * 8)) & ones(piece));
        }
        done += piece;
    }
}
