/* SPDX-License-Identifier: Apache-2.0 */
/* In-flight tracking of a packed virtqueue; the order of stores is that of vhost-user.rst. */
#include <stdlib.h>

#include "protocol/virtqueue_inflight_internal.h"

/* --- while it runs -------------------------------------------------------------------------------------------- */

void inflight_packed_initialise(struct virtqueue *vq)
{
    struct inflight *inflight = vq->inflight;
    struct inflight_packed *region = inflight->packed;

    memset(region, 0, inflight_region_bytes(true, inflight->desc_num));
    region->desc_num = inflight->desc_num;
    region->used_idx = region->old_used_idx = vq->next_used;
    region->used_wrap_counter = region->old_used_wrap_counter = vq->used_wrap;
    for (uint16_t i = 0; i < inflight->desc_num; i++)
        region->desc[i].next = inflight->next[i] = (uint16_t)(i + 1);
    region_store_u16(&region->version, INFLIGHT_VERSION);
}

static void set_free_head(struct inflight *inflight, uint16_t entry)
{
    inflight->free_head = entry;
    region_store_u16(&inflight->packed->free_head, entry);
}

void inflight_collect(struct virtqueue *vq, unsigned at, const struct packed_desc *desc)
{
    if (vq->inflight)
        vq->inflight->taken[at] = *desc;
}

static void copy_desc(struct inflight_packed_desc *to, const struct packed_desc *from)
{
    to->addr = from->addr;
    to->len = from->len;
    to->flags = from->flags;
    to->id = from->id;
    FAULT_POINT();
}

void inflight_packed_take(struct virtqueue *vq, const struct virtqueue_element *element)
{
    struct inflight *inflight = vq->inflight;
    struct inflight_packed *region = inflight->packed;
    uint16_t first = inflight->free_head, at = first;
    struct inflight_packed_desc *head = &region->desc[first];

    region_store_u16(&head->num, 0);
    region_store_u64(&head->counter, inflight->counter++);
    region_store_u8(&head->inflight, 1);
    for (unsigned i = 0; i < element->descriptors; i++) {
        at = inflight->free_head;
        region_store_u16(&head->last, at);
        region_store_u16(&head->num, (uint16_t)(i + 1));
        copy_desc(&region->desc[at], &inflight->taken[i]);
        set_free_head(inflight, inflight->next[at]);
    }
    inflight->last[first] = at;
    inflight->entry_of[element->id] = first;
    region_store_u16(&region->old_free_head, inflight->free_head);
}

/* Its entries are the first free ones again, once the caller commits that. */
static uint16_t give_back(struct virtqueue *vq, uint16_t id)
{
    struct inflight *inflight = vq->inflight;
    uint16_t first = inflight->entry_of[id], last = inflight->last[first];

    inflight->next[last] = inflight->free_head;
    region_store_u16(&inflight->packed->desc[last].next, inflight->free_head);
    set_free_head(inflight, first);
    return first;
}

void inflight_packed_untake(struct virtqueue *vq, uint16_t id)
{
    struct inflight_packed *region = vq->inflight->packed;
    uint16_t first = give_back(vq, id);

    region_store_u16(&region->old_free_head, first);
    region_store_u8(&region->desc[first].inflight, 0);
}

void inflight_packed_use(struct virtqueue *vq, uint16_t id, uint16_t slots)
{
    struct inflight_packed *region = vq->inflight->packed;
    uint16_t position = vq->next_used;
    bool wrap = vq->used_wrap;

    give_back(vq, id);
    packed_advance(vq, &position, &wrap, slots);
    region_store_u16(&region->used_idx, position);
    region_store_u8(&region->used_wrap_counter, wrap);
}

/* The batch's requests are the first `unpublished` ones of the free list. */
void inflight_packed_close_batch(struct virtqueue *vq)
{
    struct inflight *inflight = vq->inflight;
    struct inflight_packed *region = inflight->packed;
    uint16_t at = inflight->free_head;

    for (unsigned count = vq->unpublished; count > 0; count--) {
        region_store_u8(&region->desc[at].inflight, 0);
        at = inflight->next[inflight->last[at]];
    }
    region_store_u16(&region->old_free_head, inflight->free_head);
    region_store_u16(&region->old_used_idx, vq->next_used);
    region_store_u8(&region->old_used_wrap_counter, vq->used_wrap);
}

/* --- recovery ----------------------------------------------------------------------------------------------------- */

/* The region's heads, read once. */
struct heads {
    uint16_t free_head, used_idx;
    bool used_wrap;
};

static struct heads load_heads(const struct inflight_packed *region, bool old)
{
    return (struct heads){
        .free_head = __atomic_load_n(old ? &region->old_free_head : &region->free_head, __ATOMIC_RELAXED),
        .used_idx = __atomic_load_n(old ? &region->old_used_idx : &region->used_idx, __ATOMIC_RELAXED),
        .used_wrap = __atomic_load_n(old ? &region->old_used_wrap_counter : &region->used_wrap_counter,
                                     __ATOMIC_RELAXED) != 0,
    };
}

/* An open batch counts if the driver can see its first element. Returns how things stand then. */
static int settle_last_batch(struct virtqueue *vq, struct heads *ret_heads)
{
    struct inflight_packed *region = vq->inflight->packed;
    struct heads now = load_heads(region, false), old = load_heads(region, true);

    if (now.used_idx >= vq->config.size || old.used_idx >= vq->config.size)
        return -EINVAL;
    bool open = now.used_idx != old.used_idx || now.used_wrap != old.used_wrap;
    bool shown = open && !packed_is_available(packed_flags(vq, old.used_idx), old.used_wrap);
    if (shown)
        old = now;
    region_store_u16(&region->old_free_head, old.free_head);
    region_store_u16(&region->old_used_idx, old.used_idx);
    region_store_u8(&region->old_used_wrap_counter, old.used_wrap);
    region_store_u16(&region->free_head, old.free_head);
    region_store_u16(&region->used_idx, old.used_idx);
    region_store_u8(&region->used_wrap_counter, old.used_wrap);
    *ret_heads = old;
    return 0;
}

/* Marks the entries of the free list in `owned`. */
static int read_free_list(struct virtqueue *vq, uint16_t free_head, bool *owned)
{
    struct inflight *inflight = vq->inflight;
    struct inflight_packed *region = inflight->packed;

    inflight->free_head = free_head;
    for (uint16_t at = free_head; at != inflight->desc_num; at = inflight->next[at]) {
        if (at > inflight->desc_num || owned[at])
            return -EINVAL;
        owned[at] = true;
        region_store_u8(&region->desc[at].inflight, 0);
        inflight->next[at] = __atomic_load_n(&region->desc[at].next, __ATOMIC_RELAXED);
    }
    return 0;
}

/* One request that is in flight, from entry `first` on; adds its descriptors to *slots. */
static int read_request(struct virtqueue *vq, uint16_t first, bool *owned, unsigned *slots)
{
    struct inflight *inflight = vq->inflight;
    const struct inflight_packed *region = inflight->packed;
    uint16_t count = __atomic_load_n(&region->desc[first].num, __ATOMIC_RELAXED), at = first;

    if (count == 0 || count > vq->config.size - *slots)
        return -EINVAL;
    *slots += count;
    for (;;) {
        const struct inflight_packed_desc *from = &region->desc[at];

        if (owned[at])
            return -EINVAL;
        owned[at] = true;
        inflight->found[at] = (struct packed_desc){
            .addr = __atomic_load_n(&from->addr, __ATOMIC_RELAXED),
            .len = __atomic_load_n(&from->len, __ATOMIC_RELAXED),
            .id = __atomic_load_n(&from->id, __ATOMIC_RELAXED),
            .flags = __atomic_load_n(&from->flags, __ATOMIC_RELAXED),
        };
        if (--count == 0)
            break;
        inflight->next[at] = __atomic_load_n(&from->next, __ATOMIC_RELAXED);
        at = inflight->next[at];
        if (at >= inflight->desc_num)
            return -EINVAL;
    }
    inflight->last[first] = at;
    inflight->next[at] = inflight->desc_num;
    if (inflight->found[at].id >= vq->config.size)
        return -EINVAL;
    inflight->entry_of[inflight->found[at].id] = first;
    inflight->resubmits[inflight->resubmit_count++] = (struct inflight_request){
        .counter = __atomic_load_n(&region->desc[first].counter, __ATOMIC_RELAXED), .entry = first};
    return 0;
}

static int read_requests(struct virtqueue *vq, uint16_t free_head, unsigned *ret_slots)
{
    struct inflight *inflight = vq->inflight;
    bool *owned = calloc(inflight->desc_num, sizeof(*owned));
    int r;

    if (!owned)
        return -ENOMEM;
    *ret_slots = 0;
    r = read_free_list(vq, free_head, owned);
    for (uint16_t i = 0; i < inflight->desc_num && r == 0; i++) {
        if (__atomic_load_n(&inflight->packed->desc[i].inflight, __ATOMIC_RELAXED))
            r = read_request(vq, i, owned, ret_slots);
    }
    for (uint16_t i = 0; i < inflight->desc_num && r == 0; i++) {
        if (!owned[i])
            r = -EINVAL;
    }
    free(owned);
    return r;
}

int inflight_packed_recover(struct virtqueue *vq)
{
    struct heads heads;
    unsigned slots;
    int r = settle_last_batch(vq, &heads);

    if (r == 0)
        r = read_requests(vq, heads.free_head, &slots);
    if (r < 0)
        return r;
    vq->next_used = vq->next_avail = heads.used_idx;
    vq->used_wrap = vq->avail_wrap = heads.used_wrap;
    for (; slots > 0; slots--) {
        packed_hide(vq, vq->next_avail, vq->avail_wrap);
        packed_advance(vq, &vq->next_avail, &vq->avail_wrap, 1);
    }
    return 0;
}

bool inflight_resubmit_desc(const struct virtqueue *vq, uint16_t *entry, struct packed_desc *ret_desc)
{
    const struct inflight *inflight = vq->inflight;

    *ret_desc = inflight->found[*entry];
    *entry = inflight->next[*entry];
    return *entry != inflight->desc_num;
}
