/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus: dispatches a guest access to the device that claims the address.
 *
 * One bus per address space (ports, memory-mapped). A bus is a sorted table of ranges that never overlap. It
 * is filled while the board is built and never changes afterwards, so that every vCPU thread reads it without
 * a lock; what moves at run time (PCI BARs) lives behind one fixed window whose owner does its own look-up
 * (pci_host.h).
 *
 * An access is cut into pieces no wider than the range's `max_access` and never across a range's end, as an
 * ISA or PCI bus would do; bytes that nobody claims read as ones and swallow writes.
 *
 * States: building (bus_add) -> running (bus_read, bus_write).
 * Threads: bus_add on the main thread before the first vCPU runs; read and write on any thread. A device
 * takes its own lock inside its ops.
 */
#pragma once

#include <stdint.h>

#define BUS_MAX_RANGES 64

/*
 * `offset` is relative to the range; `size` is 1, 2, 4 or 8 and at most max_access; offset + size never
 * exceeds the range. Values are little-endian in a host integer. `vcpu` is the index of the accessing vCPU.
 */
struct bus_ops {
    uint64_t (*read)(void *device, unsigned vcpu, uint64_t offset, unsigned size);
    void (*write)(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value);
};

struct bus_range {
    uint64_t base;
    uint64_t bytes;
    unsigned max_access; /* widest access the device takes in one piece: 1, 2, 4 or 8 bytes */
    const struct bus_ops *ops;
    void *device;
};

struct bus {
    unsigned count;
    struct bus_range ranges[BUS_MAX_RANGES]; /* sorted by base */
};

/* 0; -EINVAL for an empty or wrapping range or a bad max_access, -EEXIST for an overlap, -ENOSPC when full.
 */
int bus_add(struct bus *bus, const struct bus_range *range);

uint64_t bus_read(const struct bus *bus, unsigned vcpu, uint64_t addr, unsigned size);
void bus_write(const struct bus *bus, unsigned vcpu, uint64_t addr, unsigned size, uint64_t value);
