/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame_queue: frames that wait for the guest to publish receive buffers, first in, first out, in one fixed
 * block.
 *
 * Frames are kept whole and contiguous; the block is used as a ring and a frame that would wrap starts again
 * at its beginning. A frame that does not fit is refused: the caller drops it, as Ethernet does.
 *
 * Thread: one owner. No allocation after init. Sizes are bytes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct frame_queue {
    uint8_t *block; /* owned */
    size_t capacity;
    size_t head, tail; /* next to take, next to fill; multiples of 8 */
    size_t used;       /* of the block, with headers and what a wrap leaves over */
};

int frame_queue_init(struct frame_queue *queue, size_t capacity_bytes); /* 0 or -ENOMEM */
void frame_queue_finish(struct frame_queue *queue);

/* False: no room. */
bool frame_queue_push(struct frame_queue *queue, const uint8_t *frame, size_t bytes);
/* The oldest frame, valid until it is popped, or NULL. */
const uint8_t *frame_queue_peek(const struct frame_queue *queue, size_t *ret_bytes);
void frame_queue_pop(struct frame_queue *queue); /* not when empty */
void frame_queue_clear(struct frame_queue *queue);
static inline bool frame_queue_empty(const struct frame_queue *queue)
{
    return queue->used == 0;
}
