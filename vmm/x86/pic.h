/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pic: the pair of 8259A interrupt controllers of a PC (Intel 8259A data sheet), the second cascaded on
 * input 2.
 *
 * Ports 0x20-0x21, 0xa0-0xa1 and the edge/level control registers 0x4d0-0x4d1. Modes: fully nested, special
 * mask, special fully nested, automatic EOI, rotation, poll. The output goes to LINT0 of the first CPU's
 * APIC.
 *
 * Threads: any; one lock inside. The output callback runs with it held and takes no other lock.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/bus.h"

struct pic_chip {
    uint8_t irr, isr, imr;
    uint8_t lines, elcr, elcr_writable;
    uint8_t base;     /* first vector, ICW2 */
    uint8_t lowest;   /* input with the lowest priority */
    uint8_t icw_step; /* 0 operational, else the ICW expected next (2, 3, 4) */
    bool icw3, icw4;  /* the initialisation sequence has these */
    bool auto_eoi, rotate_on_auto_eoi, special_mask, special_nested, read_isr, poll;
};

struct pic {
    pthread_mutex_t lock;
    struct pic_chip chip[2];
    _Atomic bool output;
    void (*raise)(void *opaque); /* the output has gone up */
    void *opaque;
};

extern const struct bus_ops pic_first_ops, pic_second_ops, pic_elcr_ops; /* byte ports; device is the pic */

void pic_init(struct pic *pic, void (*raise)(void *opaque), void *opaque);
void pic_finish(struct pic *pic);
void pic_reset(struct pic *pic);

/* irq 0-15; 2 is the cascade and is ignored. */
void pic_set(struct pic *pic, unsigned irq, bool level);
/* The vector that INTA would return now, or -EAGAIN. Cheap when the output is low. */
int pic_peek(struct pic *pic);
/* INTA: the vector (a spurious one if the request has gone), or -EAGAIN if the output is low. */
int pic_ack(struct pic *pic);
