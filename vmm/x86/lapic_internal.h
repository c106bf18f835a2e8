/* SPDX-License-Identifier: Apache-2.0 */
/* lapic_internal: shared by lapic.c (registers), lapic_timer.c and lapic_message.c. */
#pragma once

#include "accel/accel.h"
#include "vmm/x86/lapic.h"

#define LAPIC_BASE_BSP     (UINT64_C(1) << 8)
#define LAPIC_BASE_EXTD    (UINT64_C(1) << 10)
#define LAPIC_BASE_EN      (UINT64_C(1) << 11)
#define LAPIC_BASE_ADDRESS ((UINT64_C(1) << ACCEL_PHYSICAL_BITS) - LAPIC_WINDOW_BYTES)

#define LVT_MASKED        (1u << 16)
#define LVT_MODE(lvt)     (((lvt) >> 8) & 7)
#define LVT_VECTOR(lvt)   ((uint8_t)(lvt))
#define LVT_TIMER_MODE(l) (((l) >> 17) & 3)
#define SVR_ENABLE        (1u << 8)

#define ESR_SEND_ILLEGAL    (1u << 5)
#define ESR_RECEIVE_ILLEGAL (1u << 6)
#define ESR_REGISTER        (1u << 7)

enum { LVT_TIMER_ONESHOT = 0, LVT_TIMER_PERIODIC = 1, LVT_TIMER_DEADLINE = 2 };

static inline bool lapic_hw_enabled(struct lapic *apic)
{
    return atomic_load_explicit(&apic->base, memory_order_relaxed) & LAPIC_BASE_EN;
}

static inline bool lapic_x2(struct lapic *apic)
{
    return atomic_load_explicit(&apic->base, memory_order_relaxed) & LAPIC_BASE_EXTD;
}

static inline bool lapic_sw_enabled(struct lapic *apic)
{
    return atomic_load_explicit(&apic->svr, memory_order_relaxed) & SVR_ENABLE;
}

/* Any thread: a fixed interrupt for this APIC. */
void lapic_accept(struct lapic *apic, uint8_t vector, bool level);
/* Any thread: records an error of ESR and raises LVT ERROR. */
void lapic_error(struct lapic *apic, uint32_t bit);
/* Own thread: a message built from the interrupt command register (SDM 3A 11.6.1). */
void lapic_send_command(struct lapic *apic, uint64_t icr);

void lapic_timer_init(struct lapic *apic, struct timer_queue *timers);
void lapic_timer_finish(struct lapic *apic);
void lapic_timer_reset(struct lapic *apic);
uint32_t lapic_timer_lvt(struct lapic *apic);
void lapic_timer_set_lvt(struct lapic *apic, uint32_t lvt);
uint32_t lapic_timer_divide(struct lapic *apic);
void lapic_timer_set_divide(struct lapic *apic, uint32_t divide);
uint32_t lapic_timer_initial(struct lapic *apic);
void lapic_timer_set_initial(struct lapic *apic, uint32_t initial);
uint32_t lapic_timer_current(struct lapic *apic);
uint64_t lapic_timer_deadline(struct lapic *apic);
void lapic_timer_set_deadline(struct lapic *apic, uint64_t tsc);
