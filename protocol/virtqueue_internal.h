/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the split and the packed format share: wire structs, single-fetch access, and the collector that turns
 * descriptors into a checked element.
 */
#pragma once

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "protocol/base/fault_point.h"
#include "protocol/virtqueue.h"

#define DESC_F_NEXT     (1u << 0)
#define DESC_F_WRITE    (1u << 1)
#define DESC_F_INDIRECT (1u << 2)
#define DESC_F_AVAIL    (1u << 7)
#define DESC_F_USED     (1u << 15)

struct split_desc { /* 2.7.5 */
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};
static_assert(sizeof(struct split_desc) == 16, "wire format");

struct packed_desc { /* 2.8.13 */
    uint64_t addr;
    uint32_t len;
    uint16_t id;
    uint16_t flags;
};
static_assert(sizeof(struct packed_desc) == 16, "wire format");

#define DESC_BYTES 16u

/* Reads 16 bytes of guest memory once each; indirect tables may have any alignment. */
static inline void guest_copy_desc(void *to, const void *from)
{
    typedef struct {
        uint64_t v;
    } __attribute__((packed, may_alias)) any_u64;
    const volatile any_u64 *source = from;
    uint64_t copy[2] = {source[0].v, source[1].v};

    memcpy(to, copy, sizeof(copy));
}

static inline uint16_t guest_load_u16(const void *from)
{
    return __atomic_load_n((const uint16_t *)from, __ATOMIC_RELAXED);
}

static inline uint16_t guest_load_u16_acquire(const void *from)
{
    return __atomic_load_n((const uint16_t *)from, __ATOMIC_ACQUIRE);
}

static inline void guest_store_u16(void *to, uint16_t value)
{
    __atomic_store_n((uint16_t *)to, value, __ATOMIC_RELAXED);
    FAULT_POINT();
}

static inline void guest_store_u16_release(void *to, uint16_t value)
{
    __atomic_store_n((uint16_t *)to, value, __ATOMIC_RELEASE);
    FAULT_POINT();
}

static inline void guest_store_u32(void *to, uint32_t value)
{
    __atomic_store_n((uint32_t *)to, value, __ATOMIC_RELAXED);
    FAULT_POINT();
}

static inline void guest_store_u64(void *to, uint64_t value)
{
    __atomic_store_n((uint64_t *)to, value, __ATOMIC_RELAXED);
    FAULT_POINT();
}

/* virtio 2.7.7.2: has the index passed `event` on the way from `old` to `now`? */
static inline bool ring_need_event(uint16_t event, uint16_t now, uint16_t old)
{
    return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

int virtqueue_fail(struct virtqueue *vq, int error, const char *why);

/* Adds one buffer to the element. 0, or the queue is broken. */
int virtqueue_add_buffer(struct virtqueue *vq, struct virtqueue_element *element, uint64_t addr, uint32_t len,
                         bool writable);
/* The table of an indirect descriptor, checked: its host address, or NULL and the queue is broken. */
const uint8_t *virtqueue_indirect_table(struct virtqueue *vq, uint64_t addr, uint32_t len, uint32_t flags,
                                        unsigned *ret_count);
/* The last step of pop: refuses duplicates and too many in flight, and books the element. 1 or negative. */
int virtqueue_book(struct virtqueue *vq, struct virtqueue_element *element);

/* Collect: the element's id, descriptors and buffers, checked. 1, 0 (next: nothing there) or negative. */
int split_start(struct virtqueue *vq);
int split_collect_next(struct virtqueue *vq, struct virtqueue_element *element);
int split_collect_head(struct virtqueue *vq, struct virtqueue_element *element, uint16_t head);
void split_push(struct virtqueue *vq, uint16_t id, uint32_t written_bytes);
bool split_flush(struct virtqueue *vq);
void split_set_kick(struct virtqueue *vq, bool enable);
bool split_has_available(const struct virtqueue *vq);

int packed_start(struct virtqueue *vq);
int packed_collect_next(struct virtqueue *vq, struct virtqueue_element *element);
int packed_collect_resubmit(struct virtqueue *vq, struct virtqueue_element *element, uint16_t entry);
void packed_push(struct virtqueue *vq, uint16_t id, uint16_t slots, uint32_t written_bytes);
bool packed_flush(struct virtqueue *vq);
void packed_set_kick(struct virtqueue *vq, bool enable);
bool packed_has_available(const struct virtqueue *vq);
void packed_unpop(struct virtqueue *vq, uint16_t slots);
/* A ring position `slots` further on. */
void packed_advance(const struct virtqueue *vq, uint16_t *position, bool *wrap, uint16_t slots);
/* The flags of a slot, and whether they say 'available' in a lap of that wrap counter; makes it look so. */
uint16_t packed_flags(const struct virtqueue *vq, uint16_t position);
bool packed_is_available(uint16_t flags, bool wrap);
void packed_hide(struct virtqueue *vq, uint16_t position, bool wrap);
