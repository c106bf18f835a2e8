/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/virtio_pci_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VIRTIO_VENDOR      0x1af4
#define VIRTIO_DEVICE_BASE 0x1040
#define VIRTIO_REVISION    1

#define BAR           0u
#define BAR_BYTES     0x8000u
#define BAR_COMMON    0x0000u
#define BAR_ISR       0x1000u
#define BAR_DEVICE    0x2000u
#define BAR_MSIX      0x3000u
#define BAR_PBA       0x3800u
#define BAR_NOTIFY    0x4000u
#define REGION_BYTES  0x1000u
#define NOTIFY_STRIDE 4u

/* struct virtio_pci_cap (section 4.1.4) */
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4, CAP_PCI_ACCESS = 5 };
enum { CAP_LENGTH = 2, CAP_TYPE = 3, CAP_BAR = 4, CAP_OFFSET = 8, CAP_SIZE = 12, CAP_BYTES = 16 };
#define CAP_NOTIFY_MULTIPLIER 16 /* after a notify capability */
#define CAP_ACCESS_DATA       16 /* after a PCI access capability */

/* --- interrupts --- */

static void set_intx(struct virtio_pci *device)
{
    bool level = device->isr && !atomic_load(&device->intx_disabled);

    if (level == device->intx_level)
        return;
    device->intx_level = level;
    device->config.intx(device->config.board, device->slot, level);
}

static void raise_isr(struct virtio_pci *device, uint8_t bit)
{
    pthread_mutex_lock(&device->isr_lock);
    device->isr |= bit;
    set_intx(device);
    pthread_mutex_unlock(&device->isr_lock);
}

static uint8_t take_isr(struct virtio_pci *device)
{
    uint8_t isr;

    pthread_mutex_lock(&device->isr_lock);
    isr = device->isr;
    device->isr = 0;
    set_intx(device);
    pthread_mutex_unlock(&device->isr_lock);
    return isr;
}

static void interrupt(struct virtio_pci *device, uint16_t vector, uint8_t isr_bit)
{
    if (msix_enabled(&device->msix))
        msix_trigger(&device->msix, vector);
    else
        raise_isr(device, isr_bit);
}

void virtio_pci_interrupt(struct virtio_pci *device, unsigned queue)
{
    interrupt(device, atomic_load(&device->shared_vector[queue]), ISR_QUEUE);
}

void virtio_pci_config_changed(struct virtio_pci *device)
{
    atomic_fetch_add(&device->generation, 1);
    interrupt(device, atomic_load(&device->shared_config_vector), ISR_CONFIG);
}

void virtio_pci_needs_reset(struct virtio_pci *device)
{
    bool tell;

    pthread_mutex_lock(&device->lock);
    tell = virtio_common_set_needs_reset(device);
    pthread_mutex_unlock(&device->lock);
    if (tell)
        virtio_pci_config_changed(device);
}

/* --- the BAR --- */

static uint64_t device_read(struct virtio_pci *device, uint64_t offset, unsigned size)
{
    uint64_t value = 0;

    if (offset + size > device->config.config_bytes)
        return 0;
    pthread_mutex_lock(&device->lock);
    device->config.ops->config_read(device->config.opaque, (unsigned)offset, &value, size);
    pthread_mutex_unlock(&device->lock);
    return value;
}

static void device_write(struct virtio_pci *device, uint64_t offset, unsigned size, uint64_t value)
{
    if (offset + size > device->config.config_bytes)
        return;
    pthread_mutex_lock(&device->lock);
    device->config.ops->config_write(device->config.opaque, (unsigned)offset, &value, size);
    pthread_mutex_unlock(&device->lock);
}

static uint64_t bar_read(void *opaque, unsigned vcpu, uint64_t offset, unsigned size)
{
    struct virtio_pci *device = opaque;
    uint64_t in_region = offset % REGION_BYTES;

    switch (offset - in_region) {
    case BAR_COMMON:
        return virtio_common_read(device, in_region, size);
    case BAR_ISR:
        return in_region == 0 ? take_isr(device) : 0;
    case BAR_DEVICE:
        return device_read(device, in_region, size);
    case BAR_MSIX:
        return in_region < BAR_PBA - BAR_MSIX ? msix_table_read(&device->msix, in_region, size)
                                              : msix_pba_read(&device->msix, offset - BAR_PBA, size);
    default:
        return 0;
    }
}

static void bar_write(void *opaque, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct virtio_pci *device = opaque;
    uint64_t in_region = offset % REGION_BYTES;

    switch (offset - in_region) {
    case BAR_COMMON:
        virtio_common_write(device, in_region, size, value);
        break;
    case BAR_DEVICE:
        device_write(device, in_region, size, value);
        break;
    case BAR_MSIX:
        msix_table_write(&device->msix, in_region, size, value);
        break;
    case BAR_NOTIFY:
        if (in_region / NOTIFY_STRIDE < device->config.queues)
            device->config.ops->kick(device->config.opaque, (unsigned)(in_region / NOTIFY_STRIDE));
        break;
    default:
        break;
    }
}

static const struct bus_ops bar_ops = {.read = bar_read, .write = bar_write};

/* --- configuration space --- */

/* The window that the PCI access capability points to, when the guest set it up sensibly (section 4.1.4.9).
 */
static bool access_window(struct virtio_pci *device, uint64_t *ret_offset, unsigned *ret_size)
{
    const struct pci_function *function = &device->function;
    unsigned at = device->access_capability;
    uint32_t offset = pci_get(function, at + CAP_OFFSET, 4), size = pci_get(function, at + CAP_SIZE, 4);

    if (pci_get(function, at + CAP_BAR, 1) != BAR || (size != 1 && size != 2 && size != 4) || offset % size ||
        offset >= BAR_BYTES)
        return false;
    *ret_offset = offset;
    *ret_size = size;
    return true;
}

static bool touches_access_data(const struct virtio_pci *device, unsigned offset, unsigned size)
{
    unsigned data = device->access_capability + CAP_ACCESS_DATA;

    return offset < data + 4 && offset + size > data;
}

static void config_read(struct pci_function *function, unsigned offset, unsigned size)
{
    struct virtio_pci *device = function->opaque;
    uint64_t at;
    unsigned width;

    if (touches_access_data(device, offset, size) && access_window(device, &at, &width))
        pci_put(function, device->access_capability + CAP_ACCESS_DATA, 4,
                (uint32_t)bar_read(device, 0, at, width));
}

static void config_written(struct pci_function *function, unsigned offset, unsigned size)
{
    struct virtio_pci *device = function->opaque;
    uint64_t at;
    unsigned width;

    if (touches_access_data(device, offset, size) && access_window(device, &at, &width))
        bar_write(device, 0, at, width,
                  pci_get(function, device->access_capability + CAP_ACCESS_DATA, width));
    if (offset < device->msix.capability + 4 && offset + size > device->msix.capability)
        msix_config_written(&device->msix);
    if (offset < PCI_COMMAND + 2 && offset + size > PCI_COMMAND) {
        atomic_store(&device->intx_disabled, pci_get(function, PCI_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE);
        pthread_mutex_lock(&device->isr_lock);
        set_intx(device);
        pthread_mutex_unlock(&device->isr_lock);
    }
}

static void reset(struct pci_function *function)
{
    struct virtio_pci *device = function->opaque;

    pthread_mutex_lock(&device->lock);
    virtio_common_reset(device);
    pthread_mutex_unlock(&device->lock);
    msix_reset(&device->msix);
    atomic_store(&device->intx_disabled, false);
    take_isr(device);
}

static const struct pci_function_ops function_ops = {
    .config_read = config_read, .config_written = config_written, .reset = reset};

static int add_capability(struct virtio_pci *device, uint8_t type, uint32_t offset, uint32_t size,
                          unsigned extra)
{
    struct pci_function *function = &device->function;
    int at = pci_add_capability(function, PCI_CAP_VENDOR, CAP_BYTES + extra);

    if (at < 0)
        return at;
    pci_put(function, (unsigned)at + CAP_LENGTH, 1, CAP_BYTES + extra);
    pci_put(function, (unsigned)at + CAP_TYPE, 1, type);
    pci_put(function, (unsigned)at + CAP_BAR, 1, BAR);
    pci_put(function, (unsigned)at + CAP_OFFSET, 4, offset);
    pci_put(function, (unsigned)at + CAP_SIZE, 4, size);
    return at;
}

static int add_access_capability(struct virtio_pci *device)
{
    int at = add_capability(device, CAP_PCI_ACCESS, 0, 0, 4);

    if (at < 0)
        return at;
    device->access_capability = (unsigned)at;
    device->function.writable[at + CAP_BAR] = 0xff;
    memset(device->function.writable + at + CAP_OFFSET, 0xff, 12);
    return 0;
}

static int add_capabilities(struct virtio_pci *device)
{
    const struct msix_place place = {.bar = BAR, .table_offset = BAR_MSIX, .pba_offset = BAR_PBA};
    int notify;

    if (add_capability(device, CAP_COMMON, BAR_COMMON, 64, 0) < 0 ||
        add_capability(device, CAP_ISR, BAR_ISR, 1, 0) < 0)
        return -ENOSPC;
    if (device->config.config_bytes &&
        add_capability(device, CAP_DEVICE, BAR_DEVICE, device->config.config_bytes, 0) < 0)
        return -ENOSPC;
    notify = add_capability(device, CAP_NOTIFY, BAR_NOTIFY, NOTIFY_STRIDE * device->config.queues, 4);
    if (notify < 0 || add_access_capability(device) < 0)
        return -ENOSPC;
    pci_put(&device->function, (unsigned)notify + CAP_NOTIFY_MULTIPLIER, 4, NOTIFY_STRIDE);
    return msix_init(&device->msix, &device->function, device->config.queues + 1, &place, device->config.msi,
                     device->config.board);
}

int virtio_pci_create(const struct virtio_pci_config *config, struct virtio_pci **ret_device)
{
    const struct pci_identity identity = {
        .vendor = VIRTIO_VENDOR,
        .device = (uint16_t)(VIRTIO_DEVICE_BASE + config->device_type),
        .subsystem_vendor = VIRTIO_VENDOR,
        .subsystem = (uint16_t)(VIRTIO_DEVICE_BASE + config->device_type),
        .revision = VIRTIO_REVISION,
        .class_code = config->pci_class,
        .interrupt_pin = true,
    };
    struct virtio_pci *device;
    int result;

    if (!(config->features & VIRTIO_F_VERSION_1) || config->queues == 0 ||
        config->queues > VIRTIO_PCI_QUEUES_MAX || config->config_bytes > REGION_BYTES)
        return -EINVAL;
    device = calloc(1, sizeof(*device));
    if (!device)
        return -ENOMEM;
    device->config = *config;
    pthread_mutex_init(&device->lock, NULL);
    pthread_mutex_init(&device->isr_lock, NULL);
    pci_function_init(&device->function, &identity, &function_ops, device);
    pci_add_bar(&device->function, BAR, BAR_BYTES, true, &bar_ops, device);
    result = add_capabilities(device);
    if (result < 0) {
        virtio_pci_destroy(device);
        return result;
    }
    virtio_common_reset(device);
    *ret_device = device;
    return 0;
}

void virtio_pci_destroy(struct virtio_pci *device)
{
    if (!device)
        return;
    if (device->running)
        device->config.ops->stop(device->config.opaque);
    if (device->msix.count)
        msix_finish(&device->msix);
    pci_function_finish(&device->function);
    pthread_mutex_destroy(&device->isr_lock);
    pthread_mutex_destroy(&device->lock);
    free(device);
}
