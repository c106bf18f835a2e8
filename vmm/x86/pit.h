/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pit: the 8254 programmable interval timer (Intel 8254 data sheet), ports 0x40-0x43, and port 0x61.
 *
 * Three counters at 1.193182 MHz. A counter is never ticked: its value and output are computed from the time
 * of its load. Counter 0 drives IRQ 0 by a host timer; counter 1 (once DRAM refresh) only counts; counter 2's
 * gate is bit 0 of port 0x61 and its output bit 5 of it (kernels calibrate their clocks with that).
 *
 * Threads: any; one lock inside.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/irq_line.h"
#include "vmm/timer.h"

#define PIT_HZ 1193182u

struct pit_counter {
    uint8_t mode;   /* 0-5 */
    uint8_t access; /* 1 low byte, 2 high byte, 3 low then high */
    bool bcd;
    bool gate;
    bool loaded;                /* a count was written since the mode */
    uint32_t count;             /* 1-65536 */
    uint64_t start_ns;          /* when counting began; 0: waits for its gate or count */
    bool write_high, read_high; /* next byte of access 3 */
    uint8_t write_low;
    bool count_latched, status_latched;
    uint16_t latch;
    uint8_t status;
};

struct pit {
    pthread_mutex_t lock;
    struct pit_counter counter[3];
    bool speaker_data; /* bit 1 of port 0x61 */
    struct timer timer;
    uint64_t due_ns; /* next edge of counter 0; 0 when there is none */
    struct irq_line irq;
};

extern const struct bus_ops pit_bus_ops;    /* byte ports 0x40-0x43 */
extern const struct bus_ops pit_port61_ops; /* byte port 0x61 */

void pit_init(struct pit *pit, struct timer_queue *timers, const struct irq_line *irq);
void pit_finish(struct pit *pit);
void pit_reset(struct pit *pit);
