/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In-flight tracking: which requests of a virtqueue are being worked on, in memory that outlives the back-end, so that
 * its successor submits them again and none else (vhost-user.rst, "Inflight I/O tracking").
 *
 * Each queue has a region in the memory that GET/SET_INFLIGHT_FD pass around. Idea of both formats: every step is a
 * store that either changes nothing yet, or commits what was prepared. So whoever reads the region after a death at any
 * instant finds each request in exactly one of three states: not taken (still available), in flight, or used.
 *
 *   take     descriptors copied (packed), order number, then `inflight` = 1
 *   use      linked into the batch, used elements written; at the flush the ring's index (split) or the flags of the
 *            batch's first element (packed) make it visible; then `inflight` = 0 for each; then the batch is closed
 *            (split: used_idx; packed: the old_* fields)
 *   recover  a batch that is not closed counts as used if the ring shows it, else as in flight
 *
 * The region is shared with the front-end, so it is as hostile as a guest: it is read once, at the start, into private
 * copies that are checked, and only written from then on.
 *
 * Beyond the specification (packed): elements of a batch after its first one were already written when a death hides
 * the first. They would become visible as soon as the successor uses the slot before. So a recovery makes all slots of
 * requests in flight look unused; their descriptors are in the region. And because the specification keeps one free
 * list for both directions, a batch is flushed before the next request is taken.
 *
 * Owner: as the virtqueue. Errors: negative errno. This is about the death of a process, not of the machine: stores are
 * ordered for the compiler, and visible to a successor that the kernel starts later.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inflight_split_desc {
    uint8_t inflight;
    uint8_t padding[5];
    uint16_t next;
    uint64_t counter;
};
_Static_assert(sizeof(struct inflight_split_desc) == 16, "DescStateSplit");

struct inflight_split {
    uint64_t features;
    uint16_t version; /* 1; 0: nothing in it yet */
    uint16_t desc_num;
    uint16_t last_batch_head;
    uint16_t used_idx;
    struct inflight_split_desc desc[];
};
_Static_assert(sizeof(struct inflight_split) == 16, "QueueRegionSplit");

struct inflight_packed_desc {
    uint8_t inflight;
    uint8_t padding;
    uint16_t next, last, num;
    uint64_t counter;
    uint16_t id, flags;
    uint32_t len;
    uint64_t addr;
};
_Static_assert(sizeof(struct inflight_packed_desc) == 32, "DescStatePacked");

struct inflight_packed {
    uint64_t features;
    uint16_t version, desc_num;
    uint16_t free_head, old_free_head;
    uint16_t used_idx, old_used_idx;
    uint8_t used_wrap_counter, old_used_wrap_counter;
    uint8_t padding[10];
    struct inflight_packed_desc desc[];
};
_Static_assert(sizeof(struct inflight_packed) == 32, "QueueRegionPacked");

/* Bytes of one queue's region; a multiple of 64, so that regions can lie one after the other. */
size_t inflight_region_bytes(bool packed, uint16_t desc_num);

/* Forgets what a region holds: the next start begins with its own base and nothing in flight. */
void inflight_region_clear(void *region);
