/* SPDX-License-Identifier: Apache-2.0 */
/* The common configuration structure and the device status (VIRTIO 1.2 sections 2.1, 3.1, 4.1.4.3). */
#include "vmm/virtio/virtio_pci_internal.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

struct common {
    uint32_t device_feature_select, device_feature, driver_feature_select, driver_feature;
    uint16_t config_vector, num_queues;
    uint8_t status, generation;
    uint16_t queue_select, queue_size, queue_vector, queue_enable, queue_notify_off;
    uint64_t queue_desc, queue_driver, queue_device;
    uint16_t queue_notify_data, queue_reset;
    uint32_t reserved;
};
static_assert(sizeof(struct common) == 64 && offsetof(struct common, queue_desc) == 0x20,
              "VIRTIO 1.2 4.1.4.3");

#define FIELD(name) offsetof(struct common, name)

static struct virtio_queue *selected(struct virtio_pci *device)
{
    return device->queue_select < device->config.queues ? &device->queue[device->queue_select] : NULL;
}

/* Reading has no side effects, so that a read is a copy out of the whole structure. */
static void snapshot(struct virtio_pci *device, struct common *common)
{
    const struct virtio_queue *queue = selected(device);

    *common = (struct common){
        .device_feature_select = device->device_feature_select,
        .driver_feature_select = device->driver_feature_select,
        .config_vector = device->config_vector,
        .num_queues = (uint16_t)device->config.queues,
        .status = device->status,
        .generation = atomic_load(&device->generation),
        .queue_select = device->queue_select,
    };
    if (device->device_feature_select < 2)
        common->device_feature = (uint32_t)(device->config.features >> (32 * device->device_feature_select));
    if (device->driver_feature_select < 2)
        common->driver_feature = (uint32_t)(device->driver_features >> (32 * device->driver_feature_select));
    if (queue) {
        common->queue_size = queue->size;
        common->queue_vector = queue->vector;
        common->queue_enable = queue->enabled;
        common->queue_notify_off = device->queue_select;
        common->queue_notify_data = device->queue_select;
        common->queue_desc = queue->desc;
        common->queue_driver = queue->driver;
        common->queue_device = queue->device;
    }
}

uint64_t virtio_common_read(struct virtio_pci *device, uint64_t offset, unsigned size)
{
    struct common common;
    uint64_t value = 0;

    if (offset + size > sizeof(common))
        return 0;
    pthread_mutex_lock(&device->lock);
    snapshot(device, &common);
    pthread_mutex_unlock(&device->lock);
    memcpy(&value, (const uint8_t *)&common + offset, size);
    return value;
}

static void reset_queue(struct virtio_pci *device, unsigned index)
{
    device->queue[index] =
        (struct virtio_queue){.size = (uint16_t)device->config.queue_size_max, .vector = VIRTIO_NO_VECTOR};
    atomic_store(&device->shared_vector[index], VIRTIO_NO_VECTOR);
}

void virtio_common_reset(struct virtio_pci *device)
{
    if (device->running)
        device->config.ops->stop(device->config.opaque);
    device->running = false;
    device->status = 0;
    device->device_feature_select = device->driver_feature_select = 0;
    device->driver_features = 0;
    device->queue_select = 0;
    device->config_vector = VIRTIO_NO_VECTOR;
    atomic_store(&device->shared_config_vector, VIRTIO_NO_VECTOR);
    for (unsigned i = 0; i < device->config.queues; i++)
        reset_queue(device, i);
}

bool virtio_common_set_needs_reset(struct virtio_pci *device)
{
    if (device->status & VIRTIO_STATUS_NEEDS_RESET)
        return false;
    device->status |= VIRTIO_STATUS_NEEDS_RESET;
    return device->status & VIRTIO_STATUS_DRIVER_OK;
}

/* DRIVER_OK: hands all enabled rings over. */
static void start(struct virtio_pci *device)
{
    struct virtio_ring_setup rings[VIRTIO_PCI_QUEUES_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < device->config.queues; i++) {
        const struct virtio_queue *queue = &device->queue[i];

        if (queue->enabled)
            rings[count++] = (struct virtio_ring_setup){.index = i,
                                                        .size = queue->size,
                                                        .desc = queue->desc,
                                                        .driver = queue->driver,
                                                        .device = queue->device};
    }
    if (device->config.ops->start(device->config.opaque, device->driver_features, rings, count) < 0)
        virtio_common_set_needs_reset(device);
    else
        device->running = true;
}

static bool features_acceptable(const struct virtio_pci *device)
{
    return !(device->driver_features & ~device->config.features) &&
           (device->driver_features & VIRTIO_F_VERSION_1) && device->config.ops->alive(device->config.opaque);
}

static void write_status(struct virtio_pci *device, uint8_t value)
{
    uint8_t added = value & ~device->status;

    if (value == 0) {
        virtio_common_reset(device);
        return;
    }
    if ((added & VIRTIO_STATUS_FEATURES_OK) && !features_acceptable(device))
        value &= ~VIRTIO_STATUS_FEATURES_OK;
    /* DRIVER_OK without FEATURES_OK is a driver that skipped the negotiation. */
    if (!(value & VIRTIO_STATUS_FEATURES_OK))
        value &= ~VIRTIO_STATUS_DRIVER_OK;
    /* Bits are only ever added; NEEDS_RESET is ours. */
    device->status |= value & ~VIRTIO_STATUS_NEEDS_RESET;
    if ((added & value & VIRTIO_STATUS_DRIVER_OK) && !device->running)
        start(device);
}

static void write_driver_feature(struct virtio_pci *device, uint32_t value)
{
    unsigned shift = 32 * device->driver_feature_select;

    if (device->driver_feature_select >= 2 || (device->status & VIRTIO_STATUS_FEATURES_OK))
        return;
    device->driver_features &= ~(UINT64_C(0xffffffff) << shift);
    device->driver_features |= (uint64_t)value << shift;
}

static uint16_t valid_vector(const struct virtio_pci *device, uint64_t value)
{
    return value < device->msix.count ? (uint16_t)value : VIRTIO_NO_VECTOR;
}

/* Split rings need a power of two; packed ones any size. The back-end checks what it negotiated. */
static void write_queue_size(struct virtio_pci *device, struct virtio_queue *queue, uint16_t value)
{
    if (value && value <= device->config.queue_size_max && !queue->enabled)
        queue->size = value;
}

static void write_address(uint64_t *field, uint64_t part, unsigned size, uint64_t value)
{
    if (size == 8)
        *field = value;
    else if (part == 0)
        *field = (*field & ~UINT64_C(0xffffffff)) | (uint32_t)value;
    else
        *field = (*field & 0xffffffff) | value << 32;
}

/* Fields of the selected queue; none of them when there is no such queue. */
static void write_queue_field(struct virtio_pci *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct virtio_queue *queue = selected(device);

    if (!queue)
        return;
    switch (offset) {
    case FIELD(queue_size):
        write_queue_size(device, queue, (uint16_t)value);
        break;
    case FIELD(queue_vector):
        queue->vector = valid_vector(device, value);
        atomic_store(&device->shared_vector[device->queue_select], queue->vector);
        break;
    case FIELD(queue_enable):
        /* Only before DRIVER_OK (section 4.1.4.3.2), and never back: rings stop by a device reset. */
        if (value == 1 && !(device->status & VIRTIO_STATUS_DRIVER_OK))
            queue->enabled = true;
        break;
    case FIELD(queue_desc):
    case FIELD(queue_desc) + 4:
        if (!queue->enabled)
            write_address(&queue->desc, offset - FIELD(queue_desc), size, value);
        break;
    case FIELD(queue_driver):
    case FIELD(queue_driver) + 4:
        if (!queue->enabled)
            write_address(&queue->driver, offset - FIELD(queue_driver), size, value);
        break;
    case FIELD(queue_device):
    case FIELD(queue_device) + 4:
        if (!queue->enabled)
            write_address(&queue->device, offset - FIELD(queue_device), size, value);
        break;
    default:
        break;
    }
}

/* The driver must use each field's own width; 64-bit ones may come in halves (section 4.1.3.1). */
static unsigned field_size(uint64_t offset)
{
    if (offset < FIELD(config_vector))
        return 4;
    if (offset == FIELD(status) || offset == FIELD(generation))
        return 1;
    if (offset < FIELD(queue_desc) || offset >= FIELD(queue_notify_data))
        return 2;
    return offset % 8 ? 4 : 8;
}

static void write_field(struct virtio_pci *device, uint64_t offset, unsigned size, uint64_t value)
{
    switch (offset) {
    case FIELD(device_feature_select):
        device->device_feature_select = (uint32_t)value;
        break;
    case FIELD(driver_feature_select):
        device->driver_feature_select = (uint32_t)value;
        break;
    case FIELD(driver_feature):
        write_driver_feature(device, (uint32_t)value);
        break;
    case FIELD(config_vector):
        device->config_vector = valid_vector(device, value);
        atomic_store(&device->shared_config_vector, device->config_vector);
        break;
    case FIELD(status):
        write_status(device, (uint8_t)value);
        break;
    case FIELD(queue_select):
        device->queue_select = (uint16_t)value;
        break;
    default:
        write_queue_field(device, offset, size, value);
        break;
    }
}

void virtio_common_write(struct virtio_pci *device, uint64_t offset, unsigned size, uint64_t value)
{
    unsigned width = field_size(offset);

    if (offset + size > sizeof(struct common) || (size != width && !(width == 8 && size == 4)))
        return;
    pthread_mutex_lock(&device->lock);
    write_field(device, offset, size, value);
    pthread_mutex_unlock(&device->lock);
}
