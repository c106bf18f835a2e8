/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_request: one request of the guest, from its buffers to its status byte, as a chain of steps.
 *
 * A step is one operation on the image or the overlay: as much of the request as lies in one place. Most
 * requests have one; a short read or write, a disk with an overlay, several discard ranges, or a fallback
 * make more.
 *
 *     parse -> (step, complete)* -> finish
 *
 * block_request_parse() copies the header and the ranges out of guest memory and checks the copy; data stays
 * where it is and is transferred in place. While a step is under way only the kernel uses the request's
 * iovecs.
 *
 * Thread: the queue's. Nothing here allocates or makes a system call.
 */
#pragma once

#include <linux/virtio_blk.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devserver/block/block_device.h"
#include "protocol/virtqueue.h"

/* What the guest is told, and what a chain may have beside: header, status, and cuts at memory regions' ends.
 */
#define BLOCK_SEGMENTS_MAX 126
#define BLOCK_IOV_MAX      (BLOCK_SEGMENTS_MAX + 8)
#define BLOCK_RANGES_MAX   32

enum block_op { BLOCK_OP_NONE, BLOCK_OP_READ, BLOCK_OP_WRITE, BLOCK_OP_ALLOCATE, BLOCK_OP_SYNC };

/* One operation for the ring. */
struct block_step {
    enum block_op op;
    bool on_overlay;
    bool durable;      /* WRITE: RWF_DSYNC */
    int allocate_mode; /* ALLOCATE: of fallocate(2) */
    uint64_t offset_bytes;
    uint64_t bytes;
    struct iovec *iov; /* READ, WRITE */
    unsigned iov_count;
};

struct block_range {
    uint64_t sector, sectors;
    bool unmap;
};

struct block_request {
    struct virtqueue_element element;
    struct block_request *next_free;

    uint32_t type;
    uint8_t status;      /* VIRTIO_BLK_S_..., once finished */
    uint8_t *status_at;  /* in guest memory */
    uint32_t read_bytes; /* data bytes written to the guest */

    /* What is left: of data for reads and writes, else of ranges[range]. */
    uint64_t sector;
    uint64_t left_bytes;
    struct iovec *data;
    unsigned data_count;
    unsigned range, range_count;
    unsigned fallback; /* ranges: 0: the best operation, then the next ones */
    bool sync_after;   /* a sync must follow before the guest is told */

    struct block_step step;
    struct iovec *clipped; /* this iovec was shortened for the step under way */
    size_t clipped_bytes;  /* by so much */

    struct block_range ranges[BLOCK_RANGES_MAX];
    struct iovec iov[BLOCK_IOV_MAX];
};

/*
 * Starts a popped request (element is filled, its iov is request->iov). 1: request->step is to be done; 0:
 * finished, request->status holds the answer; negative: there is no place for an answer, the queue is broken.
 */
int block_request_parse(struct block_request *request, const struct block_device *device);

/* The step has given `result`: bytes, or a negative errno. 1: request->step is the next one; 0: finished. */
int block_request_complete(struct block_request *request, const struct block_device *device, int32_t result);

/* Stores the status byte; returns the number of bytes that the device has written, for virtqueue_push(). */
uint32_t block_request_finish(struct block_request *request);
