/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rtc: the MC146818 clock and its 128 bytes of CMOS memory, ports 0x70 (index) and 0x71 (data), IRQ 8.
 *
 * The clock runs as an offset from the host's UTC, so that a guest that sets it keeps its own time.
 * Update-ended, periodic and alarm interrupts come from one host timer that runs only while one of them is
 * enabled; without them flags are computed when register C is read. CMOS memory holds no configuration: the
 * machine is described by ACPI.
 *
 * Threads: any; one lock inside.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/irq_line.h"
#include "vmm/timer.h"

#define RTC_CMOS_BYTES 128u

struct rtc {
    pthread_mutex_t lock;
    uint8_t index;
    uint8_t cmos[RTC_CMOS_BYTES]; /* registers A, B and D, the alarm and the memory */
    uint8_t flags;                /* register C without its IRQF */
    int64_t offset_s;             /* guest time minus host time */
    int64_t frozen_s;             /* guest time while SET is on */
    int64_t seen_s;               /* last second that update and alarm flags were computed for */
    uint64_t due_ns;              /* next timer tick; 0 when it is off */
    uint64_t next_periodic_ns;    /* 0 while it is off */
    uint64_t periodic_start_ns;   /* from which periods are counted */
    struct timer timer;
    struct irq_line irq;
};

extern const struct bus_ops rtc_bus_ops; /* byte ports 0x70-0x71 */

void rtc_init(struct rtc *rtc, struct timer_queue *timers, const struct irq_line *irq);
void rtc_finish(struct rtc *rtc);
/* Interrupts off; time and memory stay, as a battery would keep them. */
void rtc_reset(struct rtc *rtc);
