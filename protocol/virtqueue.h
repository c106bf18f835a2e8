/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's side of a virtqueue, split or packed (virtio 1.2, sections 2.7 and 2.8), over guest memory
 * that the guest changes while we read it.
 *
 * Rules kept here, so that devices need not know them:
 *   - every field of the ring is read once, into our own memory, and only the copy is checked and used;
 *   - a chain has at most `size` descriptors (an indirect one: as many as its table, and never more buffers
 * than the caller's iovec array); loops, indices out of range, indirect inside indirect, INDIRECT with NEXT,
 * table lengths that are not a multiple of 16, a readable after a writable buffer, buffers outside guest
 * memory: refused;
 *   - a head (packed: buffer id) that is in flight already is refused, so that a request object per head is
 * safe;
 *   - never more than `size` descriptors in flight, and an available index that runs ahead by more is
 * refused. A refusal makes the queue broken: pop returns the error now and for ever, what is in flight may
 * still be pushed.
 *
 * One round of a device:
 *     virtqueue_disable_kick(vq);
 *     do {
 *         while ((r = virtqueue_pop(vq, &element)) > 0)   // 0: nothing there, negative: broken
 *             ... work, now or later: virtqueue_push(vq, element.id, written_bytes);
 *     } while (virtqueue_enable_kick(vq));                // true: more came meanwhile
 *     if (virtqueue_flush(vq)) signal the call eventfd;   // publishes all pushes at once
 *
 * States: start -> (pop, push, flush)* -> stop. Owner: one thread at a time from start to stop.
 * Nothing here allocates between start and stop, locks, or makes a system call.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "protocol/memory_map.h"

#define VIRTQUEUE_SIZE_MAX 32768

/* Virtio feature bits (numbers) that change rings. */
#define VIRTIO_F_INDIRECT_DESC_BIT 28
#define VIRTIO_F_EVENT_IDX_BIT     29
#define VIRTIO_F_VERSION_1_BIT     32
#define VIRTIO_F_RING_PACKED_BIT   34

struct virtqueue_config {
    uint16_t size;    /* entries; split: a power of two */
    bool packed;      /* VIRTIO_F_RING_PACKED negotiated */
    bool event_idx;   /* VIRTIO_F_EVENT_IDX */
    bool indirect;    /* VIRTIO_F_INDIRECT_DESC */
    gpa_t desc_gpa;   /* descriptor table, or packed ring */
    gpa_t driver_gpa; /* available ring, or driver event suppression */
    gpa_t device_gpa; /* used ring, or device event suppression */
    bool log_ring;    /* record our own writes to the ring too, where the map has a log... */
    gpa_t log_gpa;    /* ...a split ring's as if its used ring were here (SET_VRING_ADDR) */
    /* As in SET_VRING_BASE: split: the next available index; packed: bits 0-14 next available, 15 its wrap
     * counter, 16-30 next used, 31 its wrap counter. */
    uint32_t base;
    /* In-flight tracking (virtqueue_inflight.h): this queue's region, or NULL. Shared with the front-end, borrowed until
     * stop, inflight_region_bytes() long. When it holds a queue already, that counts, and `base` does not. */
    void *inflight;
    uint16_t inflight_desc_num; /* at least `size` */
};

/* A request that the guest has published. The caller owns the iovec array and sets iov and iov_max before
 * pop. */
struct virtqueue_element {
    struct iovec *iov; /* device-readable buffers first, then the writable ones; none is empty */
    unsigned iov_max;
    unsigned readable, writable; /* counts in iov */
    uint64_t readable_bytes, writable_bytes;
    uint16_t id;          /* for push; below the queue size, and unique among those in flight */
    uint16_t descriptors; /* ring slots that it takes */
    bool resubmitted;     /* was in flight when another process died: it may have been carried out already */
};

struct virtqueue {
    struct virtqueue_config config;
    const struct memory_map *map;   /* borrowed until stop */
    void *desc, *driver, *device;   /* rings in guest memory */
    uint16_t next_avail, next_used; /* split: free-running; packed: ring positions */
    bool avail_wrap, used_wrap;     /* packed */
    uint16_t signalled_used;        /* next_used at the last decision to notify */
    bool signalled_valid;
    bool kick_enabled;
    int broken; /* negative errno once broken */
    const char *broken_why;
    unsigned in_flight;       /* elements popped and not pushed */
    unsigned in_flight_slots; /* ring slots of those */
    uint16_t *slots_of;       /* by id: ring slots taken while in flight, else 0 */
    bool batch_open;          /* packed: the first used descriptor of a batch is held back */
    uint16_t batch_position, batch_flags;
    unsigned unpublished;      /* pushed since the last flush */
    bool notify_later;         /* a flush of our own found that the guest wants a notification */
    struct inflight *inflight; /* owned; NULL: not tracked */
};

/*
 * Starts a queue: finds its rings in `map` and checks alignment and size. Allocates. -EINVAL: bad size or
 * alignment; -EFAULT: a ring is not inside one region of guest memory; -ENOMEM; -EBADMSG: its in-flight
 * region contradicts itself or the ring. A split ring's used index is taken from the ring.
 */
int virtqueue_start(struct virtqueue *vq, const struct virtqueue_config *config,
                    const struct memory_map *map);

/* Publishes what was pushed and forgets the rest. Returns the base for GET_VRING_BASE. Nothing if not
 * started. */
uint32_t virtqueue_stop(struct virtqueue *vq);
bool virtqueue_started(const struct virtqueue *vq);

/* First what was in flight when a predecessor died, in its order, then what the guest has published.
 * 1: *element is filled; 0: the guest has published nothing more; negative errno: broken, see broken_why. */
int virtqueue_pop(struct virtqueue *vq, struct virtqueue_element *element);

/* Takes the last popped element(s) back, newest first, as if never popped. */
void virtqueue_unpop(struct virtqueue *vq, const struct virtqueue_element *element);

/* Done with an element: `written_bytes` of its writable buffers, from the first on, were written. Any order.
 */
void virtqueue_push(struct virtqueue *vq, uint16_t id, uint32_t written_bytes);

/* The first `bytes` of an element's buffers in `iov` were written: for the map's log (memory_map_written()). Before the
 * flush that tells the guest. */
void virtqueue_written(const struct virtqueue *vq, const struct iovec *iov, unsigned count, uint64_t bytes);

/* Publishes all pushes since the last flush (with a packed ring that is tracked, a pop or unpop may have done so before).
 * True: the guest wants a notification (and there is something
 * new). */
bool virtqueue_flush(struct virtqueue *vq);

/* Ask the guest not to kick (a hint), or to kick for the next buffer: enable is true if one is there already,
 * which may come without a kick. */
void virtqueue_disable_kick(struct virtqueue *vq);
bool virtqueue_enable_kick(struct virtqueue *vq);

/* True if pop would find something now. */
bool virtqueue_has_available(const struct virtqueue *vq);

/* Makes the queue broken for a device's own reason (a literal): a request that the device's section of the
 * specification forbids and that cannot be answered. */
void virtqueue_break(struct virtqueue *vq, int error, const char *why);

/* Copies between an element's readable (writable) bytes from `offset` on and a buffer; the number copied,
 * less than `bytes` only at the end of the element. */
size_t virtqueue_element_read(const struct virtqueue_element *element, size_t offset, void *buffer,
                              size_t bytes);
size_t virtqueue_element_write(const struct virtqueue_element *element, size_t offset, const void *data,
                               size_t bytes);
