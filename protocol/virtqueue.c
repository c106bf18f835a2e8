/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/virtqueue.h"

#include <stdlib.h>

#include "protocol/virtqueue_inflight_internal.h"

int virtqueue_fail(struct virtqueue *vq, int error, const char *why)
{
    if (vq->broken == 0) {
        vq->broken = error;
        vq->broken_why = why;
    }
    return vq->broken;
}

void virtqueue_break(struct virtqueue *vq, int error, const char *why)
{
    assert(error < 0);
    virtqueue_fail(vq, error, why);
}

bool virtqueue_started(const struct virtqueue *vq)
{
    return vq->slots_of != NULL;
}

int virtqueue_start(struct virtqueue *vq, const struct virtqueue_config *config, const struct memory_map *map)
{
    struct virtqueue started = {.config = *config, .map = map, .kick_enabled = true};
    int r;

    if (config->size == 0 || config->size > VIRTQUEUE_SIZE_MAX)
        return -EINVAL;
    r = config->packed ? packed_start(&started) : split_start(&started);
    if (r < 0)
        return r;
    started.slots_of = calloc(config->size, sizeof(*started.slots_of));
    if (!started.slots_of)
        return -ENOMEM;
    r = inflight_start(&started);
    if (r < 0) {
        free(started.slots_of);
        return r == -EINVAL ? -EBADMSG : r;
    }
    *vq = started;
    return 0;
}

uint32_t virtqueue_stop(struct virtqueue *vq)
{
    uint32_t base;

    if (!virtqueue_started(vq))
        return 0;
    virtqueue_flush(vq);
    inflight_stop(vq);
    free(vq->slots_of);
    vq->slots_of = NULL;
    base = vq->next_avail;
    if (vq->config.packed)
        base |=
            (uint32_t)vq->avail_wrap << 15 | (uint32_t)vq->next_used << 16 | (uint32_t)vq->used_wrap << 31;
    return base;
}

int virtqueue_add_buffer(struct virtqueue *vq, struct virtqueue_element *element, uint64_t addr, uint32_t len,
                         bool writable)
{
    if (writable)
        element->writable_bytes += len;
    else if (element->writable > 0 || element->writable_bytes > 0)
        return virtqueue_fail(vq, -EINVAL, "a readable buffer after a writable one");
    else
        element->readable_bytes += len;
    while (len > 0) {
        unsigned at = element->readable + element->writable;
        uint64_t part;
        void *host = memory_map_lookup_part(vq->map, addr, len, &part);

        if (!host)
            return virtqueue_fail(vq, -EFAULT, "a buffer outside guest memory");
        if (at == element->iov_max)
            return virtqueue_fail(vq, -E2BIG, "a request of too many buffers");
        element->iov[at] = (struct iovec){.iov_base = host, .iov_len = part};
        if (writable)
            element->writable++;
        else
            element->readable++;
        addr += part;
        len -= (uint32_t)part;
    }
    return 0;
}

const uint8_t *virtqueue_indirect_table(struct virtqueue *vq, uint64_t addr, uint32_t len, uint32_t flags,
                                        unsigned *ret_count)
{
    const uint8_t *table = NULL;

    if (!vq->config.indirect)
        virtqueue_fail(vq, -EINVAL, "an indirect descriptor without VIRTIO_F_INDIRECT_DESC");
    else if (flags & DESC_F_NEXT)
        virtqueue_fail(vq, -EINVAL, "an indirect descriptor with NEXT");
    else if (len == 0 || len % DESC_BYTES != 0 || len / DESC_BYTES > VIRTQUEUE_SIZE_MAX)
        virtqueue_fail(vq, -EINVAL, "an indirect table of a wrong length");
    else if (!(table = memory_map_lookup(vq->map, addr, len)))
        virtqueue_fail(vq, -EFAULT, "an indirect table outside guest memory");
    if (table)
        *ret_count = len / DESC_BYTES;
    return table;
}

int virtqueue_book(struct virtqueue *vq, struct virtqueue_element *element)
{
    if (vq->slots_of[element->id] != 0)
        return virtqueue_fail(vq, -EINVAL, "a buffer published again while it is in flight");
    if (vq->in_flight_slots + element->descriptors > vq->config.size)
        return virtqueue_fail(vq, -EINVAL, "more descriptors in flight than the queue has");
    vq->slots_of[element->id] = element->descriptors;
    vq->in_flight++;
    vq->in_flight_slots += element->descriptors;
    return 1;
}

/* We have written to the ring. */
static void log_ring(const struct virtqueue *vq)
{
    const struct virtqueue_config *config = &vq->config;
    const struct memory_log *log = vq->map->log;

    if (!log || !config->log_ring)
        return;
    if (config->packed) {
        memory_log_set(log, config->desc_gpa, (uint64_t)config->size * 16);
        memory_log_set(log, config->device_gpa, 4);
    } else {
        memory_log_set(log, config->log_gpa, 6 + (uint64_t)config->size * 8);
    }
}

/* Makes visible what was pushed. True: the guest wants to be told. */
static bool publish(struct virtqueue *vq)
{
    bool notify = vq->config.packed ? packed_flush(vq) : split_flush(vq);

    inflight_close_batch(vq);
    log_ring(vq);
    vq->unpublished = 0;
    return notify;
}

/* A packed region cannot keep an open batch over the taking of a request. */
static void close_open_batch(struct virtqueue *vq)
{
    if (vq->inflight && vq->config.packed && vq->unpublished > 0 && publish(vq))
        vq->notify_later = true;
}

/* Books the element that a format has collected; a new one goes on record. 1 or negative. */
static int pop_finish(struct virtqueue *vq, struct virtqueue_element *element)
{
    int r = virtqueue_book(vq, element);

    if (r < 0 || element->resubmitted)
        return r;
    inflight_take(vq, element);
    if (vq->config.packed)
        packed_advance(vq, &vq->next_avail, &vq->avail_wrap, element->descriptors);
    else
        vq->next_avail++;
    return r;
}

int virtqueue_pop(struct virtqueue *vq, struct virtqueue_element *element)
{
    int r;

    assert(virtqueue_started(vq));
    if (vq->broken)
        return vq->broken;
    close_open_batch(vq);
    element->readable = element->writable = 0;
    element->readable_bytes = element->writable_bytes = 0;
    element->descriptors = 0;
    element->resubmitted = inflight_has_resubmits(vq);
    if (element->resubmitted)
        r = vq->config.packed ? packed_collect_resubmit(vq, element, inflight_next_resubmit(vq))
                              : split_collect_head(vq, element, inflight_next_resubmit(vq));
    else
        r = vq->config.packed ? packed_collect_next(vq, element) : split_collect_next(vq, element);
    return r > 0 ? pop_finish(vq, element) : r;
}

/* Takes a slot count out of the books. */
static uint16_t virtqueue_release(struct virtqueue *vq, uint16_t id)
{
    uint16_t slots;

    assert(virtqueue_started(vq) && id < vq->config.size && vq->slots_of[id] != 0);
    slots = vq->slots_of[id];
    vq->slots_of[id] = 0;
    vq->in_flight--;
    vq->in_flight_slots -= slots;
    return slots;
}

void virtqueue_unpop(struct virtqueue *vq, const struct virtqueue_element *element)
{
    uint16_t slots;

    close_open_batch(vq);
    slots = virtqueue_release(vq, element->id);
    if (element->resubmitted) {
        inflight_undo_resubmit(vq);
        return;
    }
    inflight_untake(vq, element->id);
    if (vq->config.packed)
        packed_unpop(vq, slots);
    else
        vq->next_avail--;
}

void virtqueue_push(struct virtqueue *vq, uint16_t id, uint32_t written_bytes)
{
    uint16_t slots = virtqueue_release(vq, id);

    inflight_use(vq, id, slots);
    vq->unpublished++;
    if (vq->config.packed)
        packed_push(vq, id, slots, written_bytes);
    else
        split_push(vq, id, written_bytes);
}

void virtqueue_written(const struct virtqueue *vq, const struct iovec *iov, unsigned count, uint64_t bytes)
{
    memory_map_written(vq->map, iov, count, bytes);
}

bool virtqueue_flush(struct virtqueue *vq)
{
    bool notify = vq->notify_later;

    if (!virtqueue_started(vq))
        return false;
    vq->notify_later = false;
    return vq->unpublished > 0 && publish(vq) ? true : notify;
}

void virtqueue_disable_kick(struct virtqueue *vq)
{
    if (!vq->kick_enabled)
        return;
    vq->kick_enabled = false;
    if (vq->config.packed)
        packed_set_kick(vq, false);
    else
        split_set_kick(vq, false);
    log_ring(vq);
}

bool virtqueue_enable_kick(struct virtqueue *vq)
{
    if (vq->broken)
        return false;
    vq->kick_enabled = true;
    if (vq->config.packed)
        packed_set_kick(vq, true);
    else
        split_set_kick(vq, true);
    log_ring(vq);
    /* The guest publishes, then reads our wish; we write our wish, then read what is published. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return virtqueue_has_available(vq);
}

bool virtqueue_has_available(const struct virtqueue *vq)
{
    if (vq->broken)
        return false;
    if (inflight_has_resubmits(vq))
        return true;
    return vq->config.packed ? packed_has_available(vq) : split_has_available(vq);
}

/* Walks `count` iovecs from byte `offset` on and copies to or from `buffer`. */
static size_t iov_copy(const struct iovec *iov, unsigned count, size_t offset, void *buffer, size_t bytes,
                       bool to_iov)
{
    size_t done = 0;

    for (unsigned i = 0; i < count && done < bytes; i++) {
        size_t part = iov[i].iov_len;
        uint8_t *at = iov[i].iov_base;

        if (offset >= part) {
            offset -= part;
            continue;
        }
        at += offset;
        part -= offset;
        offset = 0;
        if (part > bytes - done)
            part = bytes - done;
        if (to_iov)
            memcpy(at, (uint8_t *)buffer + done, part);
        else
            memcpy((uint8_t *)buffer + done, at, part);
        done += part;
    }
    return done;
}

size_t virtqueue_element_read(const struct virtqueue_element *element, size_t offset, void *buffer,
                              size_t bytes)
{
    return iov_copy(element->iov, element->readable, offset, buffer, bytes, false);
}

size_t virtqueue_element_write(const struct virtqueue_element *element, size_t offset, const void *data,
                               size_t bytes)
{
    return iov_copy(element->iov + element->readable, element->writable, offset, (void *)data, bytes, true);
}
