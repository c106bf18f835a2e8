/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's side of a virtqueue, for tests: honest by default, and with every field of the rings open to
 * lies.
 *
 * Rings lie one after the other in guest memory at `base`: descriptors, driver area, device area. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "protocol/virtqueue.h"

#define RING_NEXT     1u
#define RING_WRITE    2u
#define RING_INDIRECT 4u

struct ring_buffer {
    uint64_t gpa;
    uint32_t len;
    unsigned flags; /* RING_WRITE, RING_INDIRECT */
};

struct ring_driver {
    struct virtqueue_config config;
    uint8_t *memory; /* host address of guest address 0 */
    uint16_t next_slot;
    bool wrap;
    uint16_t next_used;
    bool used_wrap;
    uint16_t slots_of[1024]; /* packed: by id */
};

/* Zeroes the rings. `memory` is borrowed. Returns the first guest address after the rings. */
uint64_t ring_driver_init(struct ring_driver *driver, uint8_t *memory, uint64_t base, uint16_t size,
                          bool packed);

/* Writes one descriptor (split) as it is. */
void ring_driver_desc(struct ring_driver *driver, uint16_t index, uint64_t addr, uint32_t len, unsigned flags,
                      uint16_t next);
/* Puts a head into the available ring and moves the index (split). */
void ring_driver_publish(struct ring_driver *driver, uint16_t head);
void ring_driver_set_avail_idx(struct ring_driver *driver, uint16_t idx);
uint16_t ring_driver_avail_idx(const struct ring_driver *driver);

/* Adds a chain of `count` buffers and publishes it; its head or id. Packed: `id` is used; split: from slot
 * next_slot on. */
uint16_t ring_driver_add(struct ring_driver *driver, const struct ring_buffer *buffers, unsigned count,
                         uint16_t id);

/* Takes one used element. False: there is none. */
bool ring_driver_used(struct ring_driver *driver, uint32_t *ret_id, uint32_t *ret_len);

/* Whether the device asks for kicks for the next buffer. */
bool ring_driver_wants_kick(const struct ring_driver *driver);
/* The driver's wish for notifications: all, or none. */
void ring_driver_set_notify(struct ring_driver *driver, bool wanted);
/* With event_idx: notify when used passes `position` (split: index; packed: with wrap bit). */
void ring_driver_set_event(struct ring_driver *driver, uint16_t position);
