/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pci/pci.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define BAR_64BIT        0x4u
#define FIRST_CAPABILITY 0x40u

static void set_writable(struct pci_function *function, unsigned offset, unsigned size, uint32_t mask)
{
    memcpy(function->writable + offset, &mask, size);
}

void pci_function_init(struct pci_function *function, const struct pci_identity *identity,
                       const struct pci_function_ops *ops, void *opaque)
{
    memset(function, 0, sizeof(*function));
    pthread_mutex_init(&function->lock, NULL);
    function->ops = ops;
    function->opaque = opaque;
    function->capabilities_end = FIRST_CAPABILITY;
    for (unsigned i = 0; i < PCI_BARS; i++)
        atomic_store(&function->bar[i].address, PCI_NO_ADDRESS);
    pci_put(function, PCI_VENDOR, 2, identity->vendor);
    pci_put(function, PCI_DEVICE, 2, identity->device);
    pci_put(function, PCI_REVISION, 1, identity->revision);
    pci_put(function, PCI_CLASS, 3, identity->class_code);
    pci_put(function, PCI_SUBSYSTEM_VENDOR, 2, identity->subsystem_vendor);
    pci_put(function, PCI_SUBSYSTEM, 2, identity->subsystem);
    pci_put(function, PCI_INTERRUPT_PIN, 1, identity->interrupt_pin);
    set_writable(function, PCI_COMMAND, 2,
                 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
    set_writable(function, PCI_INTERRUPT_LINE, 1, 0xff);
}

void pci_function_finish(struct pci_function *function)
{
    pthread_mutex_destroy(&function->lock);
}

void pci_add_bar(struct pci_function *function, unsigned index, uint64_t bytes, bool wide,
                 const struct bus_ops *ops, void *device)
{
    struct pci_bar *bar = &function->bar[index];
    unsigned offset = PCI_BAR0 + 4 * index;

    assert(index + wide < PCI_BARS && bytes >= 4096 && !(bytes & (bytes - 1)));
    bar->bytes = bytes;
    bar->wide = wide;
    bar->ops = ops;
    bar->device = device;
    set_writable(function, offset, 4, (uint32_t)-bytes);
    if (wide) {
        pci_put(function, offset, 4, BAR_64BIT);
        set_writable(function, offset + 4, 4, (uint32_t)(-bytes >> 32));
    }
}

int pci_add_capability(struct pci_function *function, uint8_t id, unsigned bytes)
{
    unsigned at = function->capabilities_end;

    if (at + bytes > PCI_CONFIG_BYTES)
        return -ENOSPC;
    function->config[at] = id;
    if (function->last_capability)
        function->config[function->last_capability + 1] = (uint8_t)at;
    else
        function->config[PCI_CAPABILITIES] = (uint8_t)at;
    function->config[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;
    function->last_capability = at;
    function->capabilities_end = (at + bytes + 3) & ~3u;
    return (int)at;
}

static uint64_t bar_value(const struct pci_function *function, unsigned index)
{
    unsigned offset = PCI_BAR0 + 4 * index;
    uint64_t value = pci_get(function, offset, 4) & ~UINT64_C(15);

    if (function->bar[index].wide)
        value |= (uint64_t)pci_get(function, offset + 4, 4) << 32;
    return value;
}

/* Locked. After the command register or a BAR changed. */
static void update_decoding(struct pci_function *function)
{
    bool on = pci_get(function, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY;

    for (unsigned i = 0; i < PCI_BARS; i++) {
        struct pci_bar *bar = &function->bar[i];

        if (bar->bytes)
            atomic_store_explicit(&bar->address, on ? bar_value(function, i) : PCI_NO_ADDRESS,
                                  memory_order_release);
    }
}

void pci_function_seal(struct pci_function *function)
{
    for (unsigned i = 0; i < PCI_BARS; i++) {
        if (!function->bar[i].bytes)
            continue;
        pci_put(function, PCI_BAR0 + 4 * i, 4,
                (uint32_t)function->bar[i].preset | (function->bar[i].wide ? BAR_64BIT : 0));
        if (function->bar[i].wide)
            pci_put(function, PCI_BAR0 + 4 * i + 4, 4, (uint32_t)(function->bar[i].preset >> 32));
    }
    memcpy(function->initial, function->config, sizeof(function->initial));
}

void pci_function_reset(struct pci_function *function)
{
    pthread_mutex_lock(&function->lock);
    memcpy(function->config, function->initial, sizeof(function->config));
    update_decoding(function);
    pthread_mutex_unlock(&function->lock);
    if (function->ops->reset)
        function->ops->reset(function);
}

uint32_t pci_config_read(struct pci_function *function, unsigned offset, unsigned size)
{
    uint32_t value;

    if (offset + size > PCI_CONFIG_BYTES)
        return 0; /* no extended capabilities */
    pthread_mutex_lock(&function->lock);
    if (function->ops->config_read)
        function->ops->config_read(function, offset, size);
    value = pci_get(function, offset, size);
    pthread_mutex_unlock(&function->lock);
    return value;
}

void pci_config_write(struct pci_function *function, unsigned offset, unsigned size, uint32_t value)
{
    if (offset + size > PCI_CONFIG_BYTES)
        return;
    pthread_mutex_lock(&function->lock);
    for (unsigned i = 0; i < size; i++) {
        uint8_t mask = function->writable[offset + i];

        function->config[offset + i] =
            (uint8_t)((function->config[offset + i] & ~mask) | ((value >> (i * 8)) & mask));
    }
    if (offset < PCI_BAR0 + 4 * PCI_BARS && offset + size > PCI_COMMAND)
        update_decoding(function);
    if (function->ops->config_written)
        function->ops->config_written(function, offset, size);
    pthread_mutex_unlock(&function->lock);
}

struct pci_bar *pci_bar_find(struct pci_function *function, uint64_t addr, unsigned size,
                             uint64_t *ret_offset)
{
    for (unsigned i = 0; i < PCI_BARS; i++) {
        struct pci_bar *bar = &function->bar[i];
        uint64_t at = atomic_load_explicit(&bar->address, memory_order_acquire);

        if (at <= addr && addr - at < bar->bytes && size <= bar->bytes - (addr - at)) {
            *ret_offset = addr - at;
            return bar;
        }
    }
    return NULL;
}
