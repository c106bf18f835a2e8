/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lapic: the local APICs of all vCPUs and the messages between them (SDM 3A chapter 11, "Advanced
 * Programmable Interrupt Controller"), for accelerators that have none of their own.
 *
 * Each vCPU's APIC has two kinds of state. What only its own vCPU thread touches (ISR, TPR, ICR, the LVT
 * except LINT0 and timer) is plain. What others reach (IRR, TMR, the destination registers, NMI, error
 * status) is atomic, so that an interrupt is delivered without a lock: set TMR, set IRR, then tell the vCPU.
 * The timer has a small lock of its own because its deadline fires on the timer thread.
 *
 * States of an APIC (IA32_APIC_BASE bits EN, EXTD): disabled -> xAPIC -> x2APIC -> disabled, as SDM
 * 3A 11.12.5 allows; every other change is refused. Each APIC's register window is where its IA32_APIC_BASE puts it,
 * seen by its own vCPU only; RAM at the same place is in front of it.
 *
 * Threads: functions marked "own thread" belong to the vCPU's thread; lapic_send() and lapic_msi() to any.
 * Locks: none is held while the host callbacks run, except that lapic_send() may be called under a device's
 * lock.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/timer.h"

#define LAPIC_MAX_CPUS     16
#define LAPIC_BASE         UINT64_C(0xfee00000)
#define LAPIC_WINDOW_BYTES 0x1000u
#define LAPIC_MSR_BASE     0x1bu
#define LAPIC_MSR_DEADLINE 0x6e0u
#define LAPIC_MSR_X2_FIRST 0x800u
#define LAPIC_MSR_X2_LAST  0x8ffu

enum lapic_delivery {
    LAPIC_FIXED = 0,
    LAPIC_LOWEST = 1,
    LAPIC_SMI = 2,
    LAPIC_NMI = 4,
    LAPIC_INIT = 5,
    LAPIC_STARTUP = 6,
    LAPIC_EXTINT = 7,
};

enum lapic_lvt { LVT_CMCI, LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

/* One interrupt message, from an APIC, the IOAPIC or an MSI. */
struct lapic_message {
    uint32_t dest; /* 8 bits, or 32 with `wide` */
    bool wide;     /* dest is an x2APIC one */
    bool logical;  /* destination mode */
    bool level;    /* trigger mode */
    enum lapic_delivery delivery;
    uint8_t vector;
};

/* What the APICs need from the board. All may be called on any thread. */
struct lapic_host {
    void (*notify)(void *opaque, unsigned cpu);                  /* something became pending for `cpu` */
    void (*init)(void *opaque, unsigned cpu);                    /* INIT arrived */
    void (*startup)(void *opaque, unsigned cpu, uint8_t vector); /* SIPI arrived */
    uint64_t (*tsc)(void *opaque, unsigned cpu);                 /* the guest's TSC now */
    int (*extint_peek)(void *opaque);                            /* the 8259 pair's vector or -EAGAIN */
    int (*extint_ack)(void *opaque);                             /* INTA */
    void (*eoi)(void *opaque, uint8_t vector);                   /* EOI of a level interrupt, to the IOAPIC */
    void *opaque;
};

struct lapic_timer {
    pthread_mutex_t lock;
    struct timer timer;
    uint32_t lvt, divide, initial;
    uint64_t due_ns;       /* next expiry; 0 when stopped */
    uint64_t due_rest;     /* periodic: what due_ns leaves out, in 1/timer_hz ns, so that roundings do not add up */
    uint64_t deadline_tsc; /* IA32_TSC_DEADLINE; 0 when disarmed */
};

struct lapic {
    struct lapic_set *set;
    uint32_t id;                     /* index of the CPU, initial APIC id */
    _Atomic uint32_t xapic_id;       /* what the guest made of it; x2APIC mode has `id` */
    _Atomic uint64_t base;           /* IA32_APIC_BASE */
    _Atomic uint64_t irr[4], tmr[4]; /* 256 bits each */
    _Atomic uint32_t svr, ldr, dfr, lint0, tpr;
    _Atomic uint32_t errors; /* collected since the last write of ESR */
    _Atomic uint8_t nmis;    /* on their way to the CPU, at most 2: one that it takes, one that it keeps */
    struct lapic_timer timer;

    /* Own thread from here on. */
    uint64_t isr[4];
    uint32_t esr, lvt[LVT_COUNT];
    uint64_t icr;
};

struct lapic_set {
    unsigned count;
    uint64_t timer_hz; /* input clock of the APIC timers, before the divider */
    uint32_t tsc_khz;
    struct lapic_host host;
    _Atomic unsigned lowest_turn;
    struct lapic cpu[LAPIC_MAX_CPUS];
};

struct lapic_config {
    unsigned cpus;
    uint64_t timer_hz;
    uint32_t tsc_khz;
    struct lapic_host host;
};

/* Own thread. True when the register window of this vCPU's APIC covers the address; then lapic_bus_ops serve it. */
bool lapic_claims(struct lapic_set *set, unsigned cpu, uint64_t addr);
extern const struct bus_ops lapic_bus_ops; /* the window; device is the lapic_set */

/* Before any vCPU runs; `set` must stay where it is. -EINVAL for 0 or too many CPUs. */
int lapic_set_init(struct lapic_set *set, struct timer_queue *timers, const struct lapic_config *config);
void lapic_set_finish(struct lapic_set *set);
/* Power-up reset of all, while no vCPU runs. */
void lapic_set_reset(struct lapic_set *set);

/* Own thread. INIT: as reset, but APIC id and IA32_APIC_BASE stay (SDM 3A 11.4.7.3). */
void lapic_init(struct lapic_set *set, unsigned cpu);

/* Own thread; as in struct accel_host_ops. */
int lapic_irq_peek(struct lapic_set *set, unsigned cpu);
int lapic_irq_ack(struct lapic_set *set, unsigned cpu);
bool lapic_nmi_take(struct lapic_set *set, unsigned cpu);
int lapic_msr_read(struct lapic_set *set, unsigned cpu, uint32_t msr, uint64_t *ret_value);
int lapic_msr_write(struct lapic_set *set, unsigned cpu, uint32_t msr, uint64_t value);
uint8_t lapic_cr8_read(struct lapic_set *set, unsigned cpu);
void lapic_cr8_write(struct lapic_set *set, unsigned cpu, uint8_t value);

/* Any thread. True if at least one APIC matched the destination. */
bool lapic_send(struct lapic_set *set, const struct lapic_message *message);
/* Any thread. A memory write by a device: address 0xfeexxxxx and data of SDM 3A 11.11. Others are dropped. */
void lapic_msi(struct lapic_set *set, uint64_t address, uint32_t data);
/* Any thread: the 8259 pair's output went up. */
void lapic_extint_raise(struct lapic_set *set);
