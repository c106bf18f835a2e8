/* SPDX-License-Identifier: Apache-2.0 */
/* A record is 8 bytes of length and the frame, rounded up to 8. Length WRAP says: go on at the beginning. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devserver/net/frame_queue.h"

#define HEADER_BYTES sizeof(uint64_t)
#define WRAP         UINT64_MAX

int frame_queue_init(struct frame_queue *queue, size_t capacity_bytes)
{
    *queue = (struct frame_queue){.capacity = capacity_bytes & ~(HEADER_BYTES - 1)};
    queue->block = malloc(queue->capacity);
    return queue->block ? 0 : -ENOMEM;
}

void frame_queue_finish(struct frame_queue *queue)
{
    free(queue->block);
    *queue = (struct frame_queue){0};
}

static size_t record_bytes(size_t frame_bytes)
{
    return HEADER_BYTES + ((frame_bytes + HEADER_BYTES - 1) & ~(HEADER_BYTES - 1));
}

static void put_header(struct frame_queue *queue, size_t at, uint64_t value)
{
    memcpy(queue->block + at, &value, sizeof value);
}

static uint64_t get_header(const struct frame_queue *queue, size_t at)
{
    uint64_t value;

    memcpy(&value, queue->block + at, sizeof value);
    return value;
}

bool frame_queue_push(struct frame_queue *queue, const uint8_t *frame, size_t bytes)
{
    size_t need = record_bytes(bytes);
    size_t to_end = queue->capacity - queue->tail;
    size_t skipped = need > to_end ? to_end : 0; /* never 0 < to_end < HEADER_BYTES: all is a multiple of 8 */

    if (need > queue->capacity || need + skipped > queue->capacity - queue->used)
        return false;
    if (skipped) {
        put_header(queue, queue->tail, WRAP);
        queue->tail = 0;
    }
    put_header(queue, queue->tail, bytes);
    memcpy(queue->block + queue->tail + HEADER_BYTES, frame, bytes);
    queue->tail = (queue->tail + need) % queue->capacity;
    queue->used += need + skipped;
    return true;
}

/* Where the oldest record is, after a wrap if there is one. */
static size_t oldest(const struct frame_queue *queue)
{
    return get_header(queue, queue->head) == WRAP ? 0 : queue->head;
}

const uint8_t *frame_queue_peek(const struct frame_queue *queue, size_t *ret_bytes)
{
    if (frame_queue_empty(queue))
        return NULL;
    size_t at = oldest(queue);
    *ret_bytes = get_header(queue, at);
    return queue->block + at + HEADER_BYTES;
}

void frame_queue_pop(struct frame_queue *queue)
{
    assert(!frame_queue_empty(queue));
    size_t at = oldest(queue);
    if (at != queue->head)
        queue->used -= queue->capacity - queue->head;
    size_t bytes = record_bytes(get_header(queue, at));
    queue->used -= bytes;
    queue->head = (at + bytes) % queue->capacity;
    if (queue->used == 0)
        queue->head = queue->tail = 0;
}

void frame_queue_clear(struct frame_queue *queue)
{
    queue->head = queue->tail = queue->used = 0;
}
