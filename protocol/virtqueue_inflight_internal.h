/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of in-flight tracking: what virtqueue.c tells it, and what its common part (virtqueue_inflight.c) asks of
 * the two formats. All functions but inflight_start() do nothing, or say false, for a queue that is not tracked.
 */
#pragma once

#include "protocol/virtqueue_inflight.h"
#include "protocol/virtqueue_internal.h"

#define INFLIGHT_VERSION 1

struct inflight_request {
    uint64_t counter;
    uint16_t entry; /* split: its head; packed: its first entry in the region */
};

struct inflight {
    union {
        struct inflight_split *split;
        struct inflight_packed *packed;
        void *region;
    };
    uint16_t desc_num;
    uint64_t counter; /* of the next request */
    uint16_t *next;   /* by entry. split: the batch's list; packed: what the region's `next` should say */
    uint16_t batch_head;

    /* what a recovery found, in the order in which it was taken */
    struct inflight_request *resubmits;
    unsigned resubmit_count, resubmit_at;

    /* packed only */
    uint16_t free_head;        /* desc_num: the list is empty */
    uint16_t *last;            /* by first entry: its last one */
    uint16_t *entry_of;        /* by buffer id: the first entry */
    struct packed_desc *taken; /* descriptors of the request that is being taken */
    struct packed_desc *found; /* by entry: descriptors of requests to submit again */
};

/* Stores to the region keep their order. */
static inline void region_store_u8(uint8_t *to, uint8_t value)
{
    __atomic_store_n(to, value, __ATOMIC_RELEASE);
    FAULT_POINT();
}

static inline void region_store_u16(uint16_t *to, uint16_t value)
{
    __atomic_store_n(to, value, __ATOMIC_RELEASE);
    FAULT_POINT();
}

static inline void region_store_u64(uint64_t *to, uint64_t value)
{
    __atomic_store_n(to, value, __ATOMIC_RELEASE);
    FAULT_POINT();
}

/* --- for virtqueue.c and the ring formats ---------------------------------------------------------------------- */

/*
 * Takes up the region of vq->config: recovers it (vq's positions become what the region and the ring say), or
 * initialises it. The rings of vq are set up. 0; -EINVAL: the region contradicts itself or the ring; -ENOMEM.
 */
int inflight_start(struct virtqueue *vq);
void inflight_stop(struct virtqueue *vq);

/* Requests to submit again, oldest first: take one (there is one), or take that back. */
bool inflight_has_resubmits(const struct virtqueue *vq);
uint16_t inflight_next_resubmit(struct virtqueue *vq);
void inflight_undo_resubmit(struct virtqueue *vq);
/* Packed: the descriptors of a request to submit again, one by one from *entry on. False: that was its last. */
bool inflight_resubmit_desc(const struct virtqueue *vq, uint16_t *entry, struct packed_desc *ret_desc);

/* Packed: remembers descriptor number `at` of the request being taken, as it was read from the ring. */
void inflight_collect(struct virtqueue *vq, unsigned at, const struct packed_desc *desc);
/* The new request is booked: it is in flight from now on. */
void inflight_take(struct virtqueue *vq, const struct virtqueue_element *element);
/* As if it had never been taken. No batch is open. */
void inflight_untake(struct virtqueue *vq, uint16_t id);
/* Its used element will be written next, at the ring's position vq->next_used, taking `slots`. */
void inflight_use(struct virtqueue *vq, uint16_t id, uint16_t slots);
/* The ring shows all that was used. */
void inflight_close_batch(struct virtqueue *vq);

/* --- the formats -------------------------------------------------------------------------------------------------- */

int inflight_split_recover(struct virtqueue *vq);
void inflight_split_initialise(struct virtqueue *vq);
void inflight_split_take(struct virtqueue *vq, uint16_t head);
void inflight_split_untake(struct virtqueue *vq, uint16_t head);
void inflight_split_use(struct virtqueue *vq, uint16_t head);
void inflight_split_close_batch(struct virtqueue *vq);

int inflight_packed_recover(struct virtqueue *vq);
void inflight_packed_initialise(struct virtqueue *vq);
void inflight_packed_take(struct virtqueue *vq, const struct virtqueue_element *element);
void inflight_packed_untake(struct virtqueue *vq, uint16_t id);
void inflight_packed_use(struct virtqueue *vq, uint16_t id, uint16_t slots);
void inflight_packed_close_batch(struct virtqueue *vq);
