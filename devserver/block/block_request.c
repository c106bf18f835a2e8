/* SPDX-License-Identifier: Apache-2.0 */
#include "devserver/block/block_request.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

#include "protocol/base/units.h"

#define STEP_BYTES_MAX      (1u << 30) /* a transfer's result is an int */
#define ZERO_BYTES          (64u * 1024)
#define RANGE_SECTORS_BYTES 16u

/* Source of written zeros, where the file system cannot make them. */
static const uint8_t zeros[ZERO_BYTES] __attribute__((aligned(4096)));

static int finish_with(struct block_request *request, uint8_t status)
{
    request->status = status;
    return 0;
}

static int next_step(struct block_request *request, const struct block_device *device);

/* ---- buffers ---- */

/* The last writable byte is the status; what is before it stays data. */
static void take_status(struct block_request *request)
{
    struct virtqueue_element *element = &request->element;
    struct iovec *last = &element->iov[element->readable + element->writable - 1];

    request->status_at = (uint8_t *)last->iov_base + last->iov_len - 1;
    last->iov_len--;
    element->writable_bytes--;
    if (last->iov_len == 0)
        element->writable--;
}

/* Drops `bytes` from the front of the data. */
static void advance(struct block_request *request, uint64_t bytes)
{
    while (bytes > 0) {
        struct iovec *first = request->data;

        assert(request->data_count > 0);
        if (bytes < first->iov_len) {
            first->iov_base = (uint8_t *)first->iov_base + bytes;
            first->iov_len -= bytes;
            return;
        }
        bytes -= first->iov_len;
        request->data++;
        request->data_count--;
    }
}

/* Makes the step's iovecs: the first `bytes` of the data. Shortens the last of them, until unclip(). */
static void clip(struct block_request *request, uint64_t bytes)
{
    unsigned count = 0;

    request->clipped = NULL;
    while (bytes > 0) {
        struct iovec *iov = &request->data[count++];

        if (iov->iov_len > bytes) {
            request->clipped = iov;
            request->clipped_bytes = iov->iov_len - bytes;
            iov->iov_len = bytes;
        }
        bytes -= iov->iov_len;
    }
    request->step.iov = request->data;
    request->step.iov_count = count;
}

static void unclip(struct block_request *request)
{
    if (request->clipped)
        request->clipped->iov_len += request->clipped_bytes;
    request->clipped = NULL;
}

/* ---- parsing ---- */

static bool in_disk(const struct block_device *device, uint64_t sector, uint64_t sectors)
{
    return sector <= device->image.sectors && sectors <= device->image.sectors - sector;
}

static int parse_transfer(struct block_request *request, const struct block_device *device, uint64_t sector)
{
    const struct virtqueue_element *element = &request->element;
    bool write = request->type == VIRTIO_BLK_T_OUT;
    uint64_t bytes =
        write ? element->readable_bytes - sizeof(struct virtio_blk_outhdr) : element->writable_bytes;

    if (bytes % SECTOR_BYTES != 0 || bytes > UINT32_MAX || !in_disk(device, sector, bytes / SECTOR_BYTES))
        return finish_with(request, VIRTIO_BLK_S_IOERR);
    request->sector = sector;
    request->left_bytes = bytes;
    if (write) {
        request->data = element->iov;
        request->data_count = element->readable;
        advance(request, sizeof(struct virtio_blk_outhdr));
    } else {
        request->data = element->iov + element->readable;
        request->data_count = element->writable;
    }
    return next_step(request, device);
}

/* One range as the guest wrote it. A status. */
static uint8_t parse_range(struct block_request *request, const struct block_device *device,
                           const struct virtio_blk_discard_write_zeroes *wire)
{
    uint32_t known = request->type == VIRTIO_BLK_T_WRITE_ZEROES ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;

    if (wire->flags & ~known)
        return VIRTIO_BLK_S_UNSUPP;
    if (!in_disk(device, wire->sector, wire->num_sectors))
        return VIRTIO_BLK_S_IOERR;
    if (wire->num_sectors > 0)
        request->ranges[request->range_count++] = (struct block_range){
            .sector = wire->sector,
            .sectors = wire->num_sectors,
            .unmap = wire->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
        };
    return VIRTIO_BLK_S_OK;
}

static int parse_ranges(struct block_request *request, const struct block_device *device)
{
    uint64_t bytes = request->element.readable_bytes - sizeof(struct virtio_blk_outhdr);

    static_assert(sizeof(struct virtio_blk_discard_write_zeroes) == RANGE_SECTORS_BYTES, "wire format");
    if (bytes == 0 || bytes % RANGE_SECTORS_BYTES != 0 || bytes / RANGE_SECTORS_BYTES > BLOCK_RANGES_MAX)
        return finish_with(request, VIRTIO_BLK_S_IOERR);
    for (uint64_t at = 0; at < bytes; at += RANGE_SECTORS_BYTES) {
        struct virtio_blk_discard_write_zeroes wire;
        uint8_t status;

        virtqueue_element_read(&request->element, sizeof(struct virtio_blk_outhdr) + at, &wire, sizeof(wire));
        status = parse_range(request, device, &wire);
        if (status != VIRTIO_BLK_S_OK)
            return finish_with(request, status);
    }
    request->sync_after = block_device_write_through(device) && request->type == VIRTIO_BLK_T_WRITE_ZEROES;
    if (request->range_count > 0) {
        request->sector = request->ranges[0].sector;
        request->left_bytes = request->ranges[0].sectors * SECTOR_BYTES;
    }
    return next_step(request, device);
}

static int parse_id(struct block_request *request, const struct block_device *device)
{
    size_t written = virtqueue_element_write(&request->element, 0, device->serial, VIRTIO_BLK_ID_BYTES);

    request->read_bytes = (uint32_t)written;
    return finish_with(request, VIRTIO_BLK_S_OK);
}

static int parse_flush(struct block_request *request, const struct block_device *device)
{
    request->sync_after = device->image.writable;
    return next_step(request, device);
}

int block_request_parse(struct block_request *request, const struct block_device *device)
{
    struct virtio_blk_outhdr header;

    request->status = VIRTIO_BLK_S_OK;
    request->read_bytes = 0;
    request->left_bytes = 0;
    request->data_count = 0;
    request->range = request->range_count = request->fallback = 0;
    request->sync_after = false;
    request->clipped = NULL;
    if (request->element.writable_bytes == 0)
        return -EINVAL;
    take_status(request);
    if (virtqueue_element_read(&request->element, 0, &header, sizeof(header)) != sizeof(header))
        return finish_with(request, VIRTIO_BLK_S_IOERR);
    request->type = header.type;
    switch (header.type) {
    case VIRTIO_BLK_T_IN:
        return parse_transfer(request, device, header.sector);
    case VIRTIO_BLK_T_FLUSH:
        return parse_flush(request, device);
    case VIRTIO_BLK_T_GET_ID:
        return parse_id(request, device);
    case VIRTIO_BLK_T_OUT:
        if (!block_device_writable(device))
            return finish_with(request, VIRTIO_BLK_S_IOERR);
        return parse_transfer(request, device, header.sector);
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        if (!block_device_writable(device))
            return finish_with(request, VIRTIO_BLK_S_IOERR);
        return parse_ranges(request, device);
    default:
        return finish_with(request, VIRTIO_BLK_S_UNSUPP);
    }
}

/* ---- steps ---- */

static int step_transfer(struct block_request *request, const struct block_device *device)
{
    struct block_step *step = &request->step;
    bool has_overlay = device->overlay.fd >= 0;

    step->op = request->type == VIRTIO_BLK_T_OUT ? BLOCK_OP_WRITE : BLOCK_OP_READ;
    step->bytes = request->left_bytes < STEP_BYTES_MAX ? request->left_bytes : STEP_BYTES_MAX;
    step->on_overlay = has_overlay;
    if (has_overlay && step->op == BLOCK_OP_READ)
        step->bytes = SECTOR_BYTES * overlay_run(&device->overlay, request->sector,
                                                 step->bytes / SECTOR_BYTES, &step->on_overlay);
    step->durable = step->op == BLOCK_OP_WRITE && block_device_write_through(device);
    step->offset_bytes = request->sector * SECTOR_BYTES;
    clip(request, step->bytes);
    return 1;
}

/* Zeros, written out: the data buffers are not used by such a request, so their iovecs are free. */
static int step_write_zeros(struct block_request *request)
{
    struct block_step *step = &request->step;
    uint64_t bytes = request->left_bytes;
    unsigned count = 0;

    step->op = BLOCK_OP_WRITE;
    step->durable = false;
    step->bytes = 0;
    while (bytes > 0 && count < BLOCK_IOV_MAX) {
        size_t part = bytes < ZERO_BYTES ? bytes : ZERO_BYTES;

        request->iov[count++] = (struct iovec){.iov_base = (void *)zeros, .iov_len = part};
        step->bytes += part;
        bytes -= part;
    }
    step->iov = request->iov;
    step->iov_count = count;
    return 1;
}

/*
 * The ways to discard or zero a range, best first. In an overlay a discarded range reads as zeros. A file
 * system or device that cannot do one of them says so, and the next is tried.
 */
static int step_range(struct block_request *request, const struct block_device *device)
{
    struct block_step *step = &request->step;
    bool discard = request->type == VIRTIO_BLK_T_DISCARD;
    bool punch = discard || request->ranges[request->range].unmap || device->overlay.fd >= 0;

    step->on_overlay = device->overlay.fd >= 0;
    step->offset_bytes = request->sector * SECTOR_BYTES;
    step->bytes = request->left_bytes;
    step->op = BLOCK_OP_ALLOCATE;
    if (request->fallback == 0 && !punch)
        request->fallback = 1;
    switch (request->fallback) {
    case 0:
        step->allocate_mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        return 1;
    case 1:
        step->allocate_mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
        return 1;
    default:
        return step_write_zeros(request);
    }
}

static int next_step(struct block_request *request, const struct block_device *device)
{
    if (request->left_bytes > 0)
        return request->range_count > 0 ? step_range(request, device) : step_transfer(request, device);
    if (request->sync_after) {
        request->sync_after = false;
        request->step = (struct block_step){.op = BLOCK_OP_SYNC};
        return 1;
    }
    return finish_with(request, VIRTIO_BLK_S_OK);
}

/* `bytes` more are done. */
static void account(struct block_request *request, const struct block_device *device, uint64_t bytes)
{
    if (request->type == VIRTIO_BLK_T_IN)
        request->read_bytes += (uint32_t)bytes;
    else if (request->step.on_overlay)
        overlay_mark((struct overlay *)&device->overlay, request->sector, bytes / SECTOR_BYTES);
    request->sector += bytes / SECTOR_BYTES;
    request->left_bytes -= bytes;
    if (request->left_bytes == 0 && request->range + 1 < request->range_count) {
        const struct block_range *range = &request->ranges[++request->range];

        request->sector = range->sector;
        request->left_bytes = range->sectors * SECTOR_BYTES;
        request->fallback = 0;
    }
}

static int complete_transfer(struct block_request *request, const struct block_device *device, int32_t result)
{
    uint64_t done = (uint64_t)result - (uint64_t)result % SECTOR_BYTES;

    unclip(request);
    /* Less than a sector: the image was cut under us, or the disk is full. */
    if (done == 0)
        return finish_with(request, VIRTIO_BLK_S_IOERR);
    if (request->range_count == 0)
        advance(request, done);
    account(request, device, done);
    return next_step(request, device);
}

static int complete_allocate(struct block_request *request, const struct block_device *device, int32_t result)
{
    if (result == -EOPNOTSUPP || result == -ENOSYS || result == -EINVAL) {
        if (request->type == VIRTIO_BLK_T_DISCARD) {
            /* A hint only: not doing it is allowed. The old data stays where it is. */
            request->step.on_overlay = false;
            account(request, device, request->left_bytes);
            return next_step(request, device);
        }
        request->fallback++;
        return next_step(request, device);
    }
    if (result < 0)
        return finish_with(request, VIRTIO_BLK_S_IOERR);
    account(request, device, request->left_bytes);
    return next_step(request, device);
}

int block_request_complete(struct block_request *request, const struct block_device *device, int32_t result)
{
    if (result == -EINTR || result == -EAGAIN)
        return 1;
    switch (request->step.op) {
    case BLOCK_OP_ALLOCATE:
        return complete_allocate(request, device, result);
    case BLOCK_OP_READ:
    case BLOCK_OP_WRITE:
        if (result > 0)
            return complete_transfer(request, device, result);
        return finish_with(request, VIRTIO_BLK_S_IOERR);
    default:
        return result < 0 ? finish_with(request, VIRTIO_BLK_S_IOERR) : next_step(request, device);
    }
}

uint32_t block_request_finish(struct block_request *request)
{
    *(volatile uint8_t *)request->status_at = request->status;
    return (request->status == VIRTIO_BLK_S_OK ? request->read_bytes : 0) + 1;
}
