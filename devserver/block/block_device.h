/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_device: a virtio block device (virtio 1.2, section 5.2) on an image, as ops for devserver/core.
 *
 * What all queues share: the image, the overlay, the negotiated features, and the write mode. It is immutable
 * while a queue runs, but for the write mode (the guest's `writeback` field), which is atomic.
 *
 * Durability: with the flush feature negotiated and write-back mode on, a write is durable after the next
 * flush; else every write is durable before it is acknowledged. An overlay is temporary: flushes of it are
 * no-ops.
 *
 * Thread: the loop's, but for block_device_write_through(). Each queue has a thread of its own
 * (block_queue.h).
 */
#pragma once

#include <linux/virtio_blk.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "devserver/block/image.h"
#include "devserver/block/overlay.h"
#include "devserver/core/devserver.h"

#define BLOCK_QUEUES_MAX     16
#define BLOCK_QUEUE_SIZE_MAX 1024

struct block_queue;

struct block_device {
    struct image image;
    struct overlay overlay; /* fd is -1 without one */
    char serial[VIRTIO_BLK_ID_BYTES + 1];
    unsigned num_queues;
    uint64_t features; /* negotiated */
    _Atomic uint8_t writeback;
    struct virtio_blk_config config; /* what the guest reads, but for `writeback` */
    struct block_queue *queues;      /* num_queues of them */
};

extern const struct devserver_ops block_device_ops;

/* image, overlay, serial and num_queues are set. Makes the queues' rings, before the sandbox. */
int block_device_init(struct block_device *device, char *why, size_t why_bytes);
/* Starts the queue threads, inside the sandbox. */
int block_device_start(struct block_device *device, char *why, size_t why_bytes);
/* After all queues were stopped: joins the threads. Closes image and overlay. Accepts a half-built device. */
void block_device_finish(struct block_device *device);

uint64_t block_device_features(const struct block_device *device); /* to be offered */

/* Descriptors that must stay open in the sandbox; their number. */
size_t block_device_list_fds(const struct block_device *device, int *fds, size_t fds_max);

static inline bool block_device_writable(const struct block_device *device)
{
    return device->image.writable || device->overlay.fd >= 0;
}

/* Whether a write must be durable before it is acknowledged. Any thread. */
static inline bool block_device_write_through(const struct block_device *device)
{
    return device->overlay.fd < 0 && (!(device->features & (UINT64_C(1) << VIRTIO_BLK_F_FLUSH)) ||
                                      !atomic_load_explicit(&device->writeback, memory_order_relaxed));
}
