/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pci/pci_host.h"

#include <errno.h>
#include <string.h>

#define BRIDGE_VENDOR           0x8086
#define BRIDGE_DEVICE           0x29c0 /* q35 memory controller */
#define BRIDGE_CLASS            0x060000
#define BRIDGE_SUBSYSTEM_VENDOR 0x1af4
#define BRIDGE_SUBSYSTEM        0x1100

#define ADDRESS_ENABLE 0x80000000u

static const struct pci_function_ops bridge_ops = {0};

static uint64_t ones(unsigned size)
{
    return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (size * 8)) - 1;
}

/* Bus 0, function 0 of a slot, or nothing. `address` is bus << 20 | slot << 15 | function << 12. */
static struct pci_function *function_at(struct pci_host *host, uint64_t address)
{
    if (address >= PCI_HOST_ECAM_BUS || (address >> 12 & 7))
        return NULL;
    return host->slot[address >> 15 & 31];
}

static uint64_t config_read(struct pci_host *host, uint64_t address, unsigned size)
{
    struct pci_function *function = function_at(host, address);

    return function ? pci_config_read(function, (unsigned)(address & 0xfff), size) : ones(size);
}

static void config_write(struct pci_host *host, uint64_t address, unsigned size, uint64_t value)
{
    struct pci_function *function = function_at(host, address);

    if (function)
        pci_config_write(function, (unsigned)(address & 0xfff), size, (uint32_t)value);
}

static uint64_t ecam_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    if (offset % 4 + size > 4)
        return ones(size); /* an access never crosses a dword */
    return config_read(device, offset, size);
}

static void ecam_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    if (offset % 4 + size <= 4)
        config_write(device, offset, size, value);
}

/* Port 0xcf8 is a dword register; 0xcfc-0xcff are the bytes of the dword that it points to. */
static uint64_t port_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    struct pci_host *host = device;
    uint32_t address = atomic_load(&host->address);

    if (offset < 4)
        return offset == 0 && size == 4 ? address : ones(size);
    if (!(address & ADDRESS_ENABLE) || offset % 4 + size > 4)
        return ones(size);
    return config_read(host, (uint64_t)(address & 0xffff00) << 4 | (address & 0xfc) | (offset & 3), size);
}

static void port_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_host *host = device;
    uint32_t address = atomic_load(&host->address);

    if (offset < 4) {
        if (offset == 0 && size == 4)
            atomic_store(&host->address, (uint32_t)value & 0x80fffffc);
        return;
    }
    if ((address & ADDRESS_ENABLE) && offset % 4 + size <= 4)
        config_write(host, (uint64_t)(address & 0xffff00) << 4 | (address & 0xfc) | (offset & 3), size,
                     value);
}

static struct pci_bar *find_bar(struct pci_host *host, uint64_t addr, unsigned size, uint64_t *ret_offset)
{
    for (unsigned i = 0; i < host->used; i++) {
        struct pci_bar *bar = host->slot[i] ? pci_bar_find(host->slot[i], addr, size, ret_offset) : NULL;

        if (bar)
            return bar;
    }
    return NULL;
}

static uint64_t window_read(struct pci_host *host, unsigned vcpu, uint64_t addr, unsigned size)
{
    uint64_t offset;
    struct pci_bar *bar = find_bar(host, addr, size, &offset);

    return bar ? bar->ops->read(bar->device, vcpu, offset, size) : ones(size);
}

static void window_write(struct pci_host *host, unsigned vcpu, uint64_t addr, unsigned size, uint64_t value)
{
    uint64_t offset;
    struct pci_bar *bar = find_bar(host, addr, size, &offset);

    if (bar)
        bar->ops->write(bar->device, vcpu, offset, size, value);
}

static uint64_t window32_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    struct pci_host *host = device;

    return window_read(host, vcpu, host->window32 + offset, size);
}

static void window32_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_host *host = device;

    window_write(host, vcpu, host->window32 + offset, size, value);
}

static uint64_t window64_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    struct pci_host *host = device;

    return window_read(host, vcpu, host->window64 + offset, size);
}

static void window64_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_host *host = device;

    window_write(host, vcpu, host->window64 + offset, size, value);
}

const struct bus_ops pci_host_ecam_ops = {.read = ecam_read, .write = ecam_write};
const struct bus_ops pci_host_port_ops = {.read = port_read, .write = port_write};
const struct bus_ops pci_host_window32_ops = {.read = window32_read, .write = window32_write};
const struct bus_ops pci_host_window64_ops = {.read = window64_read, .write = window64_write};

void pci_host_init(struct pci_host *host, uint64_t window32, uint64_t window32_bytes, uint64_t window64)
{
    const struct pci_identity identity = {
        .vendor = BRIDGE_VENDOR,
        .device = BRIDGE_DEVICE,
        .class_code = BRIDGE_CLASS,
        .subsystem_vendor = BRIDGE_SUBSYSTEM_VENDOR,
        .subsystem = BRIDGE_SUBSYSTEM,
    };

    memset(host, 0, sizeof(*host));
    host->window32 = window32;
    host->window32_bytes = window32_bytes;
    host->window64 = window64;
    host->next_bar = window32;
    pci_function_init(&host->bridge, &identity, &bridge_ops, NULL);
    pci_function_seal(&host->bridge);
    host->slot[0] = &host->bridge;
    host->used = 1;
}

void pci_host_finish(struct pci_host *host)
{
    pci_function_finish(&host->bridge);
}

void pci_host_reset(struct pci_host *host)
{
    atomic_store(&host->address, 0);
    for (unsigned i = 0; i < host->used; i++)
        if (host->slot[i])
            pci_function_reset(host->slot[i]);
}

static int preset_bars(struct pci_host *host, struct pci_function *function)
{
    for (unsigned i = 0; i < PCI_BARS; i++) {
        struct pci_bar *bar = &function->bar[i];
        uint64_t at = (host->next_bar + bar->bytes - 1) & -bar->bytes;

        if (!bar->bytes)
            continue;
        if (at - host->window32 > host->window32_bytes ||
            bar->bytes > host->window32_bytes - (at - host->window32))
            return -ENOSPC;
        bar->preset = at;
        host->next_bar = at + bar->bytes;
    }
    return 0;
}

int pci_host_add(struct pci_host *host, struct pci_function *function)
{
    unsigned slot = host->used > PCI_HOST_FIRST_SLOT ? host->used : PCI_HOST_FIRST_SLOT;

    if (slot > PCI_HOST_LAST_SLOT || preset_bars(host, function) < 0)
        return -ENOSPC;
    pci_function_seal(function);
    host->slot[slot] = function;
    host->used = slot + 1;
    return (int)slot;
}
