/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packed virtqueue, virtio 1.2 section 2.8.
 *
 * Pushes of one batch become visible together: the flags of the first used descriptor are stored last, at the
 * flush, because the driver reads used descriptors in ring order and stops at the first that is not used yet.
 */
#include "protocol/virtqueue_inflight_internal.h"

#define EVENT_ENABLE  0u
#define EVENT_DISABLE 1u
#define EVENT_DESC    2u

struct packed_event { /* 2.8.14 */
    uint16_t off_wrap;
    uint16_t flags;
};
static_assert(sizeof(struct packed_event) == 4, "wire format");

static struct packed_desc *packed_slot(const struct virtqueue *vq, uint16_t position)
{
    return (struct packed_desc *)vq->desc + position;
}

int packed_start(struct virtqueue *vq)
{
    const struct virtqueue_config *config = &vq->config;

    if (config->desc_gpa % 16 || config->driver_gpa % 4 || config->device_gpa % 4)
        return -EINVAL;
    vq->next_avail = config->base & 0x7fff;
    vq->avail_wrap = config->base >> 15 & 1;
    vq->next_used = config->base >> 16 & 0x7fff;
    vq->used_wrap = config->base >> 31;
    if (vq->next_avail >= config->size || vq->next_used >= config->size)
        return -EINVAL;
    vq->desc = memory_map_lookup(vq->map, config->desc_gpa, (uint64_t)config->size * DESC_BYTES);
    vq->driver = memory_map_lookup(vq->map, config->driver_gpa, sizeof(struct packed_event));
    vq->device = memory_map_lookup(vq->map, config->device_gpa, sizeof(struct packed_event));
    return vq->desc && vq->driver && vq->device ? 0 : -EFAULT;
}

bool packed_is_available(uint16_t flags, bool wrap)
{
    return !!(flags & DESC_F_AVAIL) == wrap && !!(flags & DESC_F_USED) != wrap;
}

bool packed_has_available(const struct virtqueue *vq)
{
    return packed_is_available(guest_load_u16_acquire(&packed_slot(vq, vq->next_avail)->flags),
                               vq->avail_wrap);
}

void packed_advance(const struct virtqueue *vq, uint16_t *position, bool *wrap, uint16_t slots)
{
    uint32_t next = (uint32_t)*position + slots;

    if (next >= vq->config.size) {
        next -= vq->config.size;
        *wrap = !*wrap;
    }
    *position = (uint16_t)next;
}

/* An indirect table's entries lie in order; only their WRITE flag counts (2.8.19). */
static int packed_collect_indirect(struct virtqueue *vq, struct virtqueue_element *element,
                                   const struct packed_desc *indirect)
{
    unsigned count = 0;
    const uint8_t *table =
        virtqueue_indirect_table(vq, indirect->addr, indirect->len, indirect->flags, &count);

    if (!table)
        return vq->broken;
    for (unsigned i = 0; i < count; i++) {
        struct packed_desc desc;
        int r;

        guest_copy_desc(&desc, table + (size_t)i * DESC_BYTES);
        if (desc.flags & DESC_F_INDIRECT)
            return virtqueue_fail(vq, -EINVAL, "an indirect descriptor in an indirect table");
        r = virtqueue_add_buffer(vq, element, desc.addr, desc.len, desc.flags & DESC_F_WRITE);
        if (r < 0)
            return r;
    }
    return 0;
}

uint16_t packed_flags(const struct virtqueue *vq, uint16_t position)
{
    return guest_load_u16_acquire(&packed_slot(vq, position)->flags);
}

void packed_hide(struct virtqueue *vq, uint16_t position, bool wrap)
{
    guest_store_u16_release(&packed_slot(vq, position)->flags, wrap ? DESC_F_AVAIL : DESC_F_USED);
}

/* One ring descriptor of the element. 1: its last; 0: more follow; negative. */
static int packed_collect_desc(struct virtqueue *vq, struct virtqueue_element *element,
                               const struct packed_desc *desc)
{
    int r;

    element->descriptors++;
    element->id = desc->id; /* the last one's counts */
    if (desc->flags & DESC_F_INDIRECT) {
        if (element->descriptors > 1)
            return virtqueue_fail(vq, -EINVAL, "an indirect descriptor inside a chain");
        r = packed_collect_indirect(vq, element, desc);
        return r < 0 ? r : 1;
    }
    r = virtqueue_add_buffer(vq, element, desc->addr, desc->len, desc->flags & DESC_F_WRITE);
    return r < 0 ? r : !(desc->flags & DESC_F_NEXT);
}

static int packed_check_id(struct virtqueue *vq, const struct virtqueue_element *element)
{
    if (element->id >= vq->config.size)
        return virtqueue_fail(vq, -EINVAL, "a buffer id outside the queue");
    return 1;
}

int packed_collect_next(struct virtqueue *vq, struct virtqueue_element *element)
{
    /* Read once: availability and the first descriptor's flags come from the same load. */
    uint16_t flags = packed_flags(vq, vq->next_avail);
    uint16_t position = vq->next_avail;
    bool wrap = vq->avail_wrap;
    int r = 0;

    if (!packed_is_available(flags, wrap))
        return 0;
    while (r == 0) {
        struct packed_desc desc;

        if (element->descriptors == vq->config.size)
            return virtqueue_fail(vq, -EINVAL, "a descriptor chain that loops");
        guest_copy_desc(&desc, packed_slot(vq, position));
        if (element->descriptors == 0)
            desc.flags = flags;
        inflight_collect(vq, element->descriptors, &desc);
        r = packed_collect_desc(vq, element, &desc);
        packed_advance(vq, &position, &wrap, 1);
    }
    return r < 0 ? r : packed_check_id(vq, element);
}

int packed_collect_resubmit(struct virtqueue *vq, struct virtqueue_element *element, uint16_t entry)
{
    struct packed_desc desc;
    bool more = true;
    int r = 0;

    while (r == 0 && more) {
        more = inflight_resubmit_desc(vq, &entry, &desc);
        r = packed_collect_desc(vq, element, &desc);
    }
    if (r >= 0 && (r == 0 || more))
        return virtqueue_fail(vq, -EBADMSG, "an in-flight request whose end is somewhere else");
    return r < 0 ? r : packed_check_id(vq, element);
}

void packed_unpop(struct virtqueue *vq, uint16_t slots)
{
    if (vq->next_avail < slots) {
        vq->next_avail = (uint16_t)(vq->next_avail + vq->config.size);
        vq->avail_wrap = !vq->avail_wrap;
    }
    vq->next_avail = (uint16_t)(vq->next_avail - slots);
}

void packed_push(struct virtqueue *vq, uint16_t id, uint16_t slots, uint32_t written_bytes)
{
    struct packed_desc *used = packed_slot(vq, vq->next_used);
    uint16_t flags =
        (uint16_t)((vq->used_wrap ? DESC_F_AVAIL | DESC_F_USED : 0) | (written_bytes > 0 ? DESC_F_WRITE : 0));

    guest_store_u16(&used->id, id);
    guest_store_u32(&used->len, written_bytes);
    if (vq->batch_open) {
        guest_store_u16_release(&used->flags, flags);
    } else {
        vq->batch_open = true;
        vq->batch_position = vq->next_used;
        vq->batch_flags = flags;
    }
    packed_advance(vq, &vq->next_used, &vq->used_wrap, slots);
    if (vq->next_used < slots) /* wrapped: an event offset can no longer be compared with the old position */
        vq->signalled_valid = false;
}

static bool packed_wants_event(struct virtqueue *vq)
{
    const struct packed_event *event = vq->driver;
    uint16_t flags = guest_load_u16_acquire(&event->flags);
    uint16_t off_wrap, offset, old = vq->signalled_used;
    bool valid = vq->signalled_valid;

    vq->signalled_used = vq->next_used;
    vq->signalled_valid = true;
    if (flags == EVENT_DISABLE)
        return false;
    if (flags != EVENT_DESC || !vq->config.event_idx || !valid)
        return true;
    off_wrap = guest_load_u16(&event->off_wrap);
    offset = off_wrap & 0x7fff;
    if (off_wrap >> 15 != vq->used_wrap)
        offset = (uint16_t)(offset - vq->config.size);
    return ring_need_event(offset, vq->next_used, old);
}

bool packed_flush(struct virtqueue *vq)
{
    assert(vq->batch_open);
    guest_store_u16_release(&packed_slot(vq, vq->batch_position)->flags, vq->batch_flags);
    vq->batch_open = false;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return packed_wants_event(vq);
}

void packed_set_kick(struct virtqueue *vq, bool enable)
{
    struct packed_event *event = vq->device;

    if (!enable) {
        guest_store_u16(&event->flags, EVENT_DISABLE);
        return;
    }
    if (vq->config.event_idx) {
        guest_store_u16(&event->off_wrap, (uint16_t)(vq->next_avail | (unsigned)vq->avail_wrap << 15));
        guest_store_u16_release(&event->flags, EVENT_DESC);
    } else {
        guest_store_u16(&event->flags, EVENT_ENABLE);
    }
}
