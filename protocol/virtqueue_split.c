/* SPDX-License-Identifier: Apache-2.0 */
/* The split virtqueue, virtio 1.2 section 2.7. */
#include "protocol/virtqueue_internal.h"

#define AVAIL_F_NO_INTERRUPT 1u
#define USED_F_NO_NOTIFY     1u

struct split_ring { /* available; the used one has entries of 8 bytes */
    uint16_t flags;
    uint16_t idx;
    uint16_t ring[];
};

struct used_elem {
    uint32_t id, len;
};

struct used_ring {
    uint16_t flags;
    uint16_t idx;
    struct used_elem ring[];
};
static_assert(offsetof(struct used_ring, ring) == 4, "wire format");

static uint16_t *split_used_event(const struct virtqueue *vq)
{
    return &((struct split_ring *)vq->driver)->ring[vq->config.size];
}

static uint16_t *split_avail_event(const struct virtqueue *vq)
{
    return (uint16_t *)&((struct used_ring *)vq->device)->ring[vq->config.size];
}

int split_start(struct virtqueue *vq)
{
    const struct virtqueue_config *config = &vq->config;
    uint64_t event_bytes = config->event_idx ? sizeof(uint16_t) : 0;
    uint64_t size = config->size;

    if (size & (size - 1))
        return -EINVAL;
    if (config->desc_gpa % 16 || config->driver_gpa % 2 || config->device_gpa % 4)
        return -EINVAL;
    vq->desc = memory_map_lookup(vq->map, config->desc_gpa, size * DESC_BYTES);
    vq->driver = memory_map_lookup(vq->map, config->driver_gpa,
                                   sizeof(struct split_ring) + size * sizeof(uint16_t) + event_bytes);
    vq->device = memory_map_lookup(vq->map, config->device_gpa,
                                   sizeof(struct used_ring) + size * sizeof(struct used_elem) + event_bytes);
    if (!vq->desc || !vq->driver || !vq->device)
        return -EFAULT;
    vq->next_avail = (uint16_t)config->base;
    vq->next_used = guest_load_u16(&((struct used_ring *)vq->device)->idx);
    return 0;
}

bool split_has_available(const struct virtqueue *vq)
{
    return guest_load_u16_acquire(&((struct split_ring *)vq->driver)->idx) != vq->next_avail;
}

/* The entries of an indirect table, by their next fields. */
static int split_collect_indirect(struct virtqueue *vq, struct virtqueue_element *element,
                                  const struct split_desc *indirect)
{
    unsigned count = 0, at = 0;
    const uint8_t *table =
        virtqueue_indirect_table(vq, indirect->addr, indirect->len, indirect->flags, &count);

    if (!table)
        return vq->broken;
    for (unsigned seen = 0;; seen++) {
        struct split_desc desc;
        int r;

        if (at >= count || seen == count)
            return virtqueue_fail(vq, -EINVAL, "an indirect chain that leaves its table or loops");
        guest_copy_desc(&desc, table + (size_t)at * DESC_BYTES);
        if (desc.flags & DESC_F_INDIRECT)
            return virtqueue_fail(vq, -EINVAL, "an indirect descriptor in an indirect table");
        r = virtqueue_add_buffer(vq, element, desc.addr, desc.len, desc.flags & DESC_F_WRITE);
        if (r < 0 || !(desc.flags & DESC_F_NEXT))
            return r;
        at = desc.next;
    }
}

int split_collect_head(struct virtqueue *vq, struct virtqueue_element *element, uint16_t head)
{
    uint16_t at = head;

    element->id = head;
    for (;;) {
        struct split_desc desc;
        int r;

        if (at >= vq->config.size)
            return virtqueue_fail(vq, -EINVAL, "a descriptor index outside the queue");
        if (element->descriptors == vq->config.size)
            return virtqueue_fail(vq, -EINVAL, "a descriptor chain that loops");
        guest_copy_desc(&desc, (const uint8_t *)vq->desc + (size_t)at * DESC_BYTES);
        element->descriptors++;
        if (desc.flags & DESC_F_INDIRECT) {
            r = split_collect_indirect(vq, element, &desc);
            return r < 0 ? r : 1;
        }
        r = virtqueue_add_buffer(vq, element, desc.addr, desc.len, desc.flags & DESC_F_WRITE);
        if (r < 0)
            return r;
        if (!(desc.flags & DESC_F_NEXT))
            return 1;
        at = desc.next;
    }
}

int split_collect_next(struct virtqueue *vq, struct virtqueue_element *element)
{
    const struct split_ring *avail = vq->driver;
    uint16_t ahead = (uint16_t)(guest_load_u16_acquire(&avail->idx) - vq->next_avail);

    if (ahead == 0)
        return 0;
    if (ahead > vq->config.size)
        return virtqueue_fail(vq, -EINVAL, "an available index ahead by more than the queue size");
    return split_collect_head(vq, element,
                              guest_load_u16(&avail->ring[vq->next_avail & (vq->config.size - 1)]));
}

void split_push(struct virtqueue *vq, uint16_t id, uint32_t written_bytes)
{
    struct used_elem *used = &((struct used_ring *)vq->device)->ring[vq->next_used & (vq->config.size - 1)];

    guest_store_u32(&used->id, id);
    guest_store_u32(&used->len, written_bytes);
    vq->next_used++;
}

bool split_flush(struct virtqueue *vq)
{
    uint16_t old = vq->signalled_used;
    bool valid = vq->signalled_valid;

    guest_store_u16_release(&((struct used_ring *)vq->device)->idx, vq->next_used);
    /* The guest writes its wish, then reads the index; we write the index, then read its wish. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!vq->config.event_idx)
        return !(guest_load_u16(&((struct split_ring *)vq->driver)->flags) & AVAIL_F_NO_INTERRUPT);
    vq->signalled_used = vq->next_used;
    vq->signalled_valid = true;
    return !valid || ring_need_event(guest_load_u16(split_used_event(vq)), vq->next_used, old);
}

void split_set_kick(struct virtqueue *vq, bool enable)
{
    if (!vq->config.event_idx)
        guest_store_u16(&((struct used_ring *)vq->device)->flags, enable ? 0 : USED_F_NO_NOTIFY);
    else if (enable)
        guest_store_u16(split_avail_event(vq), vq->next_avail);
    /* With event_idx an old event index lies behind the next ones: the guest does not kick for them. */
}
