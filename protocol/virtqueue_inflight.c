/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/virtqueue_inflight.h"

#include <stdlib.h>

#include "protocol/virtqueue_inflight_internal.h"

#define REGION_ALIGN 64

size_t inflight_region_bytes(bool packed, uint16_t desc_num)
{
    size_t bytes = packed ? sizeof(struct inflight_packed) + desc_num * sizeof(struct inflight_packed_desc)
                          : sizeof(struct inflight_split) + desc_num * sizeof(struct inflight_split_desc);

    return (bytes + REGION_ALIGN - 1) / REGION_ALIGN * REGION_ALIGN;
}

void inflight_region_clear(void *region)
{
    region_store_u16(&((struct inflight_split *)region)->version, 0); /* at the same place in both formats */
}
_Static_assert(offsetof(struct inflight_split, version) == offsetof(struct inflight_packed, version),
               "version");

static void inflight_free(struct inflight *inflight)
{
    if (!inflight)
        return;
    free(inflight->next);
    free(inflight->resubmits);
    free(inflight->last);
    free(inflight->entry_of);
    free(inflight->taken);
    free(inflight->found);
    free(inflight);
}

static struct inflight *inflight_alloc(const struct virtqueue_config *config)
{
    struct inflight *inflight = calloc(1, sizeof(*inflight));
    size_t count = config->inflight_desc_num;
    bool packed = config->packed;

    if (!inflight)
        return NULL;
    inflight->region = config->inflight;
    inflight->desc_num = config->inflight_desc_num;
    inflight->next = calloc(count, sizeof(*inflight->next));
    inflight->resubmits = calloc(count, sizeof(*inflight->resubmits));
    if (packed) {
        inflight->last = calloc(count, sizeof(*inflight->last));
        inflight->entry_of = calloc(config->size, sizeof(*inflight->entry_of));
        inflight->taken = calloc(config->size, sizeof(*inflight->taken));
        inflight->found = calloc(count, sizeof(*inflight->found));
    }
    if (!inflight->next || !inflight->resubmits ||
        (packed && (!inflight->last || !inflight->entry_of || !inflight->taken || !inflight->found))) {
        inflight_free(inflight);
        return NULL;
    }
    return inflight;
}

static int by_counter(const void *left, const void *right)
{
    uint64_t a = ((const struct inflight_request *)left)->counter;
    uint64_t b = ((const struct inflight_request *)right)->counter;

    return (a > b) - (a < b);
}

static void sort_resubmits(struct inflight *inflight)
{
    unsigned count = inflight->resubmit_count;

    qsort(inflight->resubmits, count, sizeof(*inflight->resubmits), by_counter);
    inflight->counter = count > 0 ? inflight->resubmits[count - 1].counter + 1 : 0;
}

int inflight_start(struct virtqueue *vq)
{
    const struct virtqueue_config *config = &vq->config;
    struct inflight_split *region = config->inflight;
    uint16_t version, desc_num;
    int r = 0;

    if (!region)
        return 0;
    version = __atomic_load_n(&region->version, __ATOMIC_ACQUIRE);
    desc_num = __atomic_load_n(&region->desc_num, __ATOMIC_RELAXED);
    if (config->inflight_desc_num < config->size || version > INFLIGHT_VERSION ||
        (version != 0 && desc_num != config->inflight_desc_num))
        return -EINVAL;
    vq->inflight = inflight_alloc(config);
    if (!vq->inflight)
        return -ENOMEM;
    if (version == 0 && config->packed)
        inflight_packed_initialise(vq);
    else if (version == 0)
        inflight_split_initialise(vq);
    else
        r = config->packed ? inflight_packed_recover(vq) : inflight_split_recover(vq);
    if (r < 0)
        inflight_stop(vq);
    else
        sort_resubmits(vq->inflight);
    return r;
}

void inflight_stop(struct virtqueue *vq)
{
    inflight_free(vq->inflight);
    vq->inflight = NULL;
}

bool inflight_has_resubmits(const struct virtqueue *vq)
{
    return vq->inflight && vq->inflight->resubmit_at < vq->inflight->resubmit_count;
}

uint16_t inflight_next_resubmit(struct virtqueue *vq)
{
    return vq->inflight->resubmits[vq->inflight->resubmit_at++].entry;
}

void inflight_undo_resubmit(struct virtqueue *vq)
{
    vq->inflight->resubmit_at--;
}

void inflight_take(struct virtqueue *vq, const struct virtqueue_element *element)
{
    if (!vq->inflight)
        return;
    if (vq->config.packed)
        inflight_packed_take(vq, element);
    else
        inflight_split_take(vq, element->id);
}

void inflight_untake(struct virtqueue *vq, uint16_t id)
{
    if (!vq->inflight)
        return;
    if (vq->config.packed)
        inflight_packed_untake(vq, id);
    else
        inflight_split_untake(vq, id);
}

void inflight_use(struct virtqueue *vq, uint16_t id, uint16_t slots)
{
    if (!vq->inflight)
        return;
    if (vq->config.packed)
        inflight_packed_use(vq, id, slots);
    else
        inflight_split_use(vq, id);
}

void inflight_close_batch(struct virtqueue *vq)
{
    if (!vq->inflight)
        return;
    if (vq->config.packed)
        inflight_packed_close_batch(vq);
    else
        inflight_split_close_batch(vq);
}
