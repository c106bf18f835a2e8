/* SPDX-License-Identifier: Apache-2.0 */
/* In-flight tracking of a split virtqueue; the order of stores is that of vhost-user.rst. */
#include "protocol/virtqueue_inflight_internal.h"

void inflight_split_initialise(struct virtqueue *vq)
{
    struct inflight_split *region = vq->inflight->split;

    memset(region, 0, inflight_region_bytes(false, vq->inflight->desc_num));
    region->desc_num = vq->inflight->desc_num;
    region->used_idx = vq->next_used;
    region_store_u16(&region->version, INFLIGHT_VERSION);
}

/* The last batch is in the ring, but its requests may still be marked. */
static int settle_last_batch(struct virtqueue *vq)
{
    const struct inflight *inflight = vq->inflight;
    struct inflight_split *region = inflight->split;
    uint16_t count = (uint16_t)(vq->next_used - __atomic_load_n(&region->used_idx, __ATOMIC_RELAXED));
    uint16_t at = __atomic_load_n(&region->last_batch_head, __ATOMIC_RELAXED);

    if (count > inflight->desc_num)
        return -EINVAL;
    for (; count > 0; count--) {
        if (at >= inflight->desc_num)
            return -EINVAL;
        region_store_u8(&region->desc[at].inflight, 0);
        at = __atomic_load_n(&region->desc[at].next, __ATOMIC_RELAXED);
    }
    region_store_u16(&region->used_idx, vq->next_used);
    return 0;
}

int inflight_split_recover(struct virtqueue *vq)
{
    struct inflight *inflight = vq->inflight;
    struct inflight_split *region = inflight->split;
    int r = settle_last_batch(vq);

    if (r < 0)
        return r;
    for (uint16_t i = 0; i < inflight->desc_num; i++) {
        if (!__atomic_load_n(&region->desc[i].inflight, __ATOMIC_RELAXED))
            continue;
        if (i >= vq->config.size)
            return -EINVAL;
        inflight->resubmits[inflight->resubmit_count++] = (struct inflight_request){
            .counter = __atomic_load_n(&region->desc[i].counter, __ATOMIC_RELAXED), .entry = i};
    }
    /* Each head that was taken is used or in flight. */
    vq->next_avail = (uint16_t)(vq->next_used + inflight->resubmit_count);
    return 0;
}

void inflight_split_take(struct virtqueue *vq, uint16_t head)
{
    struct inflight_split_desc *desc = &vq->inflight->split->desc[head];

    region_store_u64(&desc->counter, vq->inflight->counter++);
    region_store_u8(&desc->inflight, 1);
}

void inflight_split_untake(struct virtqueue *vq, uint16_t head)
{
    region_store_u8(&vq->inflight->split->desc[head].inflight, 0);
}

void inflight_split_use(struct virtqueue *vq, uint16_t head)
{
    struct inflight *inflight = vq->inflight;

    inflight->next[head] = inflight->batch_head;
    region_store_u16(&inflight->split->desc[head].next, inflight->batch_head);
    inflight->batch_head = head;
    region_store_u16(&inflight->split->last_batch_head, head);
}

void inflight_split_close_batch(struct virtqueue *vq)
{
    struct inflight *inflight = vq->inflight;
    uint16_t at = inflight->batch_head;

    for (unsigned count = vq->unpublished; count > 0; count--) {
        region_store_u8(&inflight->split->desc[at].inflight, 0);
        at = inflight->next[at];
    }
    region_store_u16(&inflight->split->used_idx, vq->next_used);
}
