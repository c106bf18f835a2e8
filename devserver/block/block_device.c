/* SPDX-License-Identifier: Apache-2.0 */
#include "devserver/block/block_device.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devserver/block/block_queue.h"

#define BIT(name) (UINT64_C(1) << VIRTIO_BLK_F_##name)

/* One request may discard or zero so much: 1 GiB keeps a single fallocate() short. */
#define RANGE_SECTORS_MAX (UINT32_C(1) << 21)

uint64_t block_device_features(const struct block_device *device)
{
    uint64_t features = BIT(SEG_MAX) | BIT(BLK_SIZE) | BIT(FLUSH) | BIT(TOPOLOGY) | BIT(CONFIG_WCE);

    if (device->num_queues > 1)
        features |= BIT(MQ);
    features |= block_device_writable(device) ? BIT(DISCARD) | BIT(WRITE_ZEROES) : BIT(RO);
    return features;
}

static uint8_t log2_of(uint32_t power)
{
    return (uint8_t)__builtin_ctz(power);
}

static void fill_config(struct block_device *device)
{
    const struct image *image = &device->image;

    device->config = (struct virtio_blk_config){
        .capacity = image->sectors,
        .seg_max = BLOCK_SEGMENTS_MAX,
        .blk_size = image->logical_bytes,
        .physical_block_exp = log2_of(image->physical_bytes / image->logical_bytes),
        .min_io_size = (uint16_t)(image->physical_bytes / image->logical_bytes),
        .opt_io_size = image->optimal_bytes / image->logical_bytes,
        .num_queues = (uint16_t)device->num_queues,
        .max_discard_sectors = RANGE_SECTORS_MAX,
        .max_discard_seg = BLOCK_RANGES_MAX,
        .discard_sector_alignment = image->physical_bytes / SECTOR_BYTES,
        .max_write_zeroes_sectors = RANGE_SECTORS_MAX,
        .max_write_zeroes_seg = BLOCK_RANGES_MAX,
        .write_zeroes_may_unmap = 1,
    };
}

int block_device_init(struct block_device *device, char *why, size_t why_bytes)
{
    int r = 0;

    fill_config(device);
    atomic_store(&device->writeback, 1);
    device->queues = calloc(device->num_queues, sizeof(*device->queues));
    if (!device->queues)
        return -ENOMEM;
    for (unsigned i = 0; i < device->num_queues; i++) {
        char text[160];
        int made = block_queue_init(&device->queues[i], device, text, sizeof(text));

        if (made < 0 && r == 0) {
            r = made;
            snprintf(why, why_bytes, "%s", text);
        }
    }
    return r;
}

int block_device_start(struct block_device *device, char *why, size_t why_bytes)
{
    for (unsigned i = 0; i < device->num_queues; i++) {
        int r = block_queue_spawn(&device->queues[i]);

        if (r < 0) {
            snprintf(why, why_bytes, "the thread of queue %u cannot be started: %s", i, strerror(-r));
            return r;
        }
    }
    return 0;
}

void block_device_finish(struct block_device *device)
{
    for (unsigned i = 0; device->queues && i < device->num_queues; i++)
        block_queue_finish(&device->queues[i]);
    free(device->queues);
    device->queues = NULL;
    overlay_finish(&device->overlay);
    image_finish(&device->image);
}

size_t block_device_list_fds(const struct block_device *device, int *fds, size_t fds_max)
{
    size_t count = 0;

    fds[count++] = device->image.fd;
    if (device->overlay.fd >= 0)
        fds[count++] = device->overlay.fd;
    for (unsigned i = 0; i < device->num_queues && count + 2 <= fds_max; i++) {
        fds[count++] = device->queues[i].ring.ring_fd;
        fds[count++] = device->queues[i].wake_fd;
    }
    return count;
}

static void config_get(void *opaque, unsigned offset, void *buffer, unsigned bytes)
{
    struct block_device *device = opaque;
    struct virtio_blk_config config = device->config;

    config.wce = atomic_load(&device->writeback);
    memcpy(buffer, (const uint8_t *)&config + offset, bytes);
}

/* The one field that a driver may write is `writeback`. */
static int config_set(void *opaque, unsigned offset, const void *data, unsigned bytes)
{
    struct block_device *device = opaque;
    uint8_t value;

    if (offset != offsetof(struct virtio_blk_config, wce) || bytes != sizeof(value))
        return -EROFS;
    memcpy(&value, data, sizeof(value));
    if (value > 1)
        return -EINVAL;
    atomic_store(&device->writeback, value);
    return 0;
}

static int features_set(void *opaque, uint64_t features)
{
    struct block_device *device = opaque;

    device->features = features;
    return 0;
}

static int queue_start(void *opaque, struct devserver_queue *queue)
{
    struct block_device *device = opaque;

    block_queue_start(&device->queues[queue->index], queue);
    return 0;
}

static void queue_stop(void *opaque, struct devserver_queue *queue)
{
    struct block_device *device = opaque;

    block_queue_stop(&device->queues[queue->index]);
}

static void disconnected(void *opaque)
{
    struct block_device *device = opaque;

    device->features = 0;
    atomic_store(&device->writeback, 1);
}

const struct devserver_ops block_device_ops = {
    .config_get = config_get,
    .config_set = config_set,
    .features_set = features_set,
    .queue_start = queue_start,
    .queue_stop = queue_stop,
    .disconnected = disconnected,
};
