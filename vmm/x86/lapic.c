/* SPDX-License-Identifier: Apache-2.0 */
/* Registers of the local APIC, and what it offers to its CPU (SDM 3A 11.4, 11.8, 11.12). */
#include "vmm/x86/lapic_internal.h"

#include <errno.h>
#include <string.h>

#define APIC_VERSION 0x00060014u /* version 0x14, seven LVT entries */

enum {
    REG_ID = 0x020,
    REG_VERSION = 0x030,
    REG_TPR = 0x080,
    REG_APR = 0x090,
    REG_PPR = 0x0a0,
    REG_EOI = 0x0b0,
    REG_LDR = 0x0d0,
    REG_DFR = 0x0e0,
    REG_SVR = 0x0f0,
    REG_ISR = 0x100,
    REG_TMR = 0x180,
    REG_IRR = 0x200,
    REG_ESR = 0x280,
    REG_LVT_CMCI = 0x2f0,
    REG_ICR_LOW = 0x300,
    REG_ICR_HIGH = 0x310,
    REG_LVT_TIMER = 0x320,
    REG_LVT_THERMAL = 0x330,
    REG_LVT_PERF = 0x340,
    REG_LVT_LINT0 = 0x350,
    REG_LVT_LINT1 = 0x360,
    REG_LVT_ERROR = 0x370,
    REG_TIMER_INITIAL = 0x380,
    REG_TIMER_CURRENT = 0x390,
    REG_TIMER_DIVIDE = 0x3e0,
    REG_SELF_IPI = 0x3f0,
};

/* Writable bits of each LVT entry; LVT_MASKED is one of them everywhere. */
static const uint32_t lvt_writable[LVT_COUNT] = {
    [LVT_CMCI] = 0x107ff,  [LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERF] = 0x107ff,
    [LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff, [LVT_ERROR] = 0x100ff,
};

static int highest(const uint64_t bits[4])
{
    for (int word = 3; word >= 0; word--)
        if (bits[word])
            return word * 64 + 63 - __builtin_clzll(bits[word]);
    return -1;
}

static int highest_irr(struct lapic *apic)
{
    for (int word = 3; word >= 0; word--) {
        uint64_t bits = atomic_load_explicit(&apic->irr[word], memory_order_acquire);

        if (bits)
            return word * 64 + 63 - __builtin_clzll(bits);
    }
    return -1;
}

static uint8_t ppr(struct lapic *apic)
{
    int serving = highest(apic->isr);
    uint8_t tpr = (uint8_t)atomic_load_explicit(&apic->tpr, memory_order_relaxed);

    if (serving < 0 || (tpr & 0xf0) >= (serving & 0xf0))
        return tpr;
    return serving & 0xf0;
}

/* The 8259 pair reaches the first CPU only: through LINT0 in ExtINT mode, or past a disabled APIC. */
static bool extint_accepted(struct lapic *apic)
{
    uint32_t lint0;

    if (apic->id != 0)
        return false;
    if (!lapic_hw_enabled(apic))
        return true;
    lint0 = atomic_load_explicit(&apic->lint0, memory_order_relaxed);
    return !(lint0 & LVT_MASKED) && LVT_MODE(lint0) == LAPIC_EXTINT;
}

int lapic_irq_peek(struct lapic_set *set, unsigned cpu)
{
    struct lapic *apic = &set->cpu[cpu];
    int vector;

    if (extint_accepted(apic)) {
        vector = set->host.extint_peek(set->host.opaque);
        if (vector >= 0)
            return vector;
    }
    vector = highest_irr(apic);
    if (vector < 0 || !lapic_hw_enabled(apic) || !lapic_sw_enabled(apic))
        return -EAGAIN;
    return (vector & 0xf0) > (ppr(apic) & 0xf0) ? vector : -EAGAIN;
}

int lapic_irq_ack(struct lapic_set *set, unsigned cpu)
{
    struct lapic *apic = &set->cpu[cpu];
    int vector;

    if (extint_accepted(apic)) {
        vector = set->host.extint_ack(set->host.opaque);
        if (vector >= 0)
            return vector;
    }
    vector = highest_irr(apic);
    if (vector < 0 || !lapic_hw_enabled(apic) || !lapic_sw_enabled(apic) ||
        (vector & 0xf0) <= (ppr(apic) & 0xf0))
        return -EAGAIN;
    atomic_fetch_and(&apic->irr[vector / 64], ~(UINT64_C(1) << (vector & 63)));
    apic->isr[vector / 64] |= UINT64_C(1) << (vector & 63);
    return vector;
}

bool lapic_nmi_take(struct lapic_set *set, unsigned cpu)
{
    struct lapic *apic = &set->cpu[cpu];

    return atomic_load_explicit(&apic->nmis, memory_order_relaxed) && atomic_fetch_sub(&apic->nmis, 1);
}

/* Something that was held back by priority may be deliverable now. */
static void recheck(struct lapic *apic)
{
    if (highest_irr(apic) >= 0)
        apic->set->host.notify(apic->set->host.opaque, apic->id);
}

static void set_tpr(struct lapic *apic, uint8_t tpr)
{
    bool lower = tpr < atomic_load_explicit(&apic->tpr, memory_order_relaxed);

    atomic_store_explicit(&apic->tpr, tpr, memory_order_relaxed);
    if (lower)
        recheck(apic);
}

static void end_of_interrupt(struct lapic *apic)
{
    int vector = highest(apic->isr);
    uint64_t bit;

    if (vector < 0)
        return;
    bit = UINT64_C(1) << (vector & 63);
    apic->isr[vector / 64] &= ~bit;
    if (atomic_load_explicit(&apic->tmr[vector / 64], memory_order_relaxed) & bit)
        apic->set->host.eoi(apic->set->host.opaque, (uint8_t)vector);
    recheck(apic);
}

static int lvt_index(uint32_t reg)
{
    switch (reg) {
    case REG_LVT_CMCI:
        return LVT_CMCI;
    case REG_LVT_TIMER:
        return LVT_TIMER;
    case REG_LVT_THERMAL:
        return LVT_THERMAL;
    case REG_LVT_PERF:
        return LVT_PERF;
    case REG_LVT_LINT0:
        return LVT_LINT0;
    case REG_LVT_LINT1:
        return LVT_LINT1;
    case REG_LVT_ERROR:
        return LVT_ERROR;
    default:
        return -1;
    }
}

static uint32_t get_lvt(struct lapic *apic, int index)
{
    if (index == LVT_TIMER)
        return lapic_timer_lvt(apic);
    return index == LVT_LINT0 ? atomic_load(&apic->lint0) : apic->lvt[index];
}

static void set_lvt(struct lapic *apic, int index, uint32_t value)
{
    value &= lvt_writable[index];
    if (!lapic_sw_enabled(apic))
        value |= LVT_MASKED;
    if (index == LVT_TIMER) {
        lapic_timer_set_lvt(apic, value);
    } else if (index == LVT_LINT0) {
        atomic_store(&apic->lint0, value);
        apic->set->host.notify(apic->set->host.opaque, apic->id);
    } else {
        __atomic_store_n(&apic->lvt[index], value, __ATOMIC_RELAXED);
    }
}

static void set_svr(struct lapic *apic, uint32_t value)
{
    atomic_store(&apic->svr, value & 0x1ff);
    if (!(value & SVR_ENABLE))
        for (int i = 0; i < LVT_COUNT; i++)
            set_lvt(apic, i, get_lvt(apic, i) | LVT_MASKED);
    else
        recheck(apic);
}

static uint32_t logical_id(struct lapic *apic)
{
    if (lapic_x2(apic))
        return ((apic->id >> 4) << 16) | (1u << (apic->id & 15));
    return atomic_load(&apic->ldr);
}

/* A 256-bit register is eight 32-bit ones, 16 bytes apart. */
static uint32_t bits_word(const uint64_t bits[4], uint32_t reg)
{
    unsigned word = (reg >> 4) & 7;

    return (uint32_t)(bits[word / 2] >> (word % 2 * 32));
}

static uint32_t atomic_bits_word(_Atomic uint64_t bits[4], uint32_t reg)
{
    uint64_t copy[4];

    for (int i = 0; i < 4; i++)
        copy[i] = atomic_load(&bits[i]);
    return bits_word(copy, reg);
}

/* Registers of both modes. `reg` is the xAPIC offset. 0 or -EINVAL for a register that is not there. */
static int read_register(struct lapic *apic, uint32_t reg, uint32_t *ret_value)
{
    int lvt = lvt_index(reg);

    if (lvt >= 0) {
        *ret_value = get_lvt(apic, lvt);
        return 0;
    }
    if (reg >= REG_ISR && reg < REG_ESR) {
        *ret_value = reg < REG_TMR   ? bits_word(apic->isr, reg)
                     : reg < REG_IRR ? atomic_bits_word(apic->tmr, reg)
                                     : atomic_bits_word(apic->irr, reg);
        return 0;
    }
    switch (reg) {
    case REG_ID:
        *ret_value = lapic_x2(apic) ? apic->id : atomic_load(&apic->xapic_id) << 24;
        return 0;
    case REG_VERSION:
        *ret_value = APIC_VERSION;
        return 0;
    case REG_TPR:
        *ret_value = atomic_load(&apic->tpr);
        return 0;
    case REG_PPR:
        *ret_value = ppr(apic);
        return 0;
    case REG_LDR:
        *ret_value = logical_id(apic);
        return 0;
    case REG_SVR:
        *ret_value = atomic_load(&apic->svr);
        return 0;
    case REG_ESR:
        *ret_value = apic->esr;
        return 0;
    case REG_ICR_LOW:
        *ret_value = (uint32_t)apic->icr;
        return 0;
    case REG_TIMER_INITIAL:
        *ret_value = lapic_timer_initial(apic);
        return 0;
    case REG_TIMER_CURRENT:
        *ret_value = lapic_timer_current(apic);
        return 0;
    case REG_TIMER_DIVIDE:
        *ret_value = lapic_timer_divide(apic);
        return 0;
    default:
        return -EINVAL;
    }
}

static int write_register(struct lapic *apic, uint32_t reg, uint32_t value)
{
    int lvt = lvt_index(reg);

    if (lvt >= 0) {
        set_lvt(apic, lvt, value);
        return 0;
    }
    switch (reg) {
    case REG_TPR:
        set_tpr(apic, (uint8_t)value);
        return 0;
    case REG_EOI:
        end_of_interrupt(apic);
        return 0;
    case REG_SVR:
        set_svr(apic, value);
        return 0;
    case REG_ESR:
        apic->esr = atomic_exchange(&apic->errors, 0);
        return 0;
    case REG_TIMER_INITIAL:
        lapic_timer_set_initial(apic, value);
        return 0;
    case REG_TIMER_DIVIDE:
        lapic_timer_set_divide(apic, value);
        return 0;
    default:
        return -EINVAL;
    }
}

static uint32_t mmio_read(struct lapic *apic, uint32_t reg)
{
    uint32_t value = 0;

    switch (reg) {
    case REG_DFR:
        return atomic_load(&apic->dfr);
    case REG_ICR_HIGH:
        return (uint32_t)(apic->icr >> 32);
    case REG_APR:
        return 0;
    default:
        if (read_register(apic, reg, &value) < 0)
            lapic_error(apic, ESR_REGISTER);
        return value;
    }
}

static void mmio_write(struct lapic *apic, uint32_t reg, uint32_t value)
{
    switch (reg) {
    case REG_ID:
        atomic_store(&apic->xapic_id, value >> 24);
        break;
    case REG_LDR:
        atomic_store(&apic->ldr, value & 0xff000000);
        break;
    case REG_DFR:
        atomic_store(&apic->dfr, value | 0x0fffffff);
        break;
    case REG_ICR_LOW:
        apic->icr = (apic->icr & ~UINT64_C(0xffffffff)) | (value & 0x000ccfff);
        lapic_send_command(apic, apic->icr);
        break;
    case REG_ICR_HIGH:
        apic->icr = (apic->icr & 0xffffffff) | (uint64_t)(value & 0xff000000) << 32;
        break;
    default:
        if (write_register(apic, reg, value) < 0)
            lapic_error(apic, ESR_REGISTER);
        break;
    }
}

/* Registers are 32 bits wide at 16-byte steps; a narrower read sees its part, a narrower write is undefined
 * and dropped. */
static uint64_t window_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    struct lapic_set *set = device;
    struct lapic *apic = &set->cpu[vcpu];

    if (!lapic_hw_enabled(apic) || lapic_x2(apic))
        return UINT64_MAX;
    if ((offset & 15) >= 4)
        return 0;
    return (uint64_t)mmio_read(apic, (uint32_t)offset & 0xff0) >> ((offset & 3) * 8);
}

static void window_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct lapic_set *set = device;
    struct lapic *apic = &set->cpu[vcpu];

    if (!lapic_hw_enabled(apic) || lapic_x2(apic) || (offset & 15) || size < 4)
        return;
    mmio_write(apic, (uint32_t)offset, (uint32_t)value);
}

bool lapic_claims(struct lapic_set *set, unsigned cpu, uint64_t addr)
{
    uint64_t base = atomic_load_explicit(&set->cpu[cpu].base, memory_order_relaxed);

    return (base & (LAPIC_BASE_EN | LAPIC_BASE_EXTD)) == LAPIC_BASE_EN &&
           (addr & LAPIC_BASE_ADDRESS) == (base & LAPIC_BASE_ADDRESS);
}

const struct bus_ops lapic_bus_ops = {.read = window_read, .write = window_write};

static int base_write(struct lapic *apic, uint64_t value)
{
    uint64_t old = atomic_load(&apic->base);
    bool was_x2 = old & LAPIC_BASE_EXTD, is_x2 = value & LAPIC_BASE_EXTD;
    bool was_on = old & LAPIC_BASE_EN, is_on = value & LAPIC_BASE_EN;

    if (value & ~(LAPIC_BASE_EN | LAPIC_BASE_EXTD | LAPIC_BASE_BSP | LAPIC_BASE_ADDRESS))
        return -EINVAL;
    if (is_x2 && !is_on)
        return -EINVAL;
    if (was_x2 && is_on && !is_x2)
        return -EINVAL;
    if (is_x2 && !was_on)
        return -EINVAL;
    atomic_store(&apic->base, (value & ~LAPIC_BASE_BSP) | (old & LAPIC_BASE_BSP));
    if (was_on && !is_on) {
        atomic_store(&apic->xapic_id, apic->id);
        lapic_init(apic->set, apic->id);
    }
    return 0;
}

int lapic_msr_read(struct lapic_set *set, unsigned cpu, uint32_t msr, uint64_t *ret_value)
{
    struct lapic *apic = &set->cpu[cpu];
    uint32_t reg = (msr - LAPIC_MSR_X2_FIRST) << 4, low;

    if (msr == LAPIC_MSR_BASE) {
        *ret_value = atomic_load(&apic->base);
        return 0;
    }
    if (msr == LAPIC_MSR_DEADLINE) {
        *ret_value = lapic_timer_deadline(apic);
        return 0;
    }
    if (msr < LAPIC_MSR_X2_FIRST || msr > LAPIC_MSR_X2_LAST || !lapic_x2(apic))
        return -EINVAL;
    if (reg == REG_ICR_LOW) {
        *ret_value = apic->icr;
        return 0;
    }
    if (read_register(apic, reg, &low) < 0)
        return -EINVAL;
    *ret_value = low;
    return 0;
}

/* SDM 3A 10.12.9. Delivery status, bit 12, is reserved too, but software that knows the xAPIC writes it. */
#define X2_ICR_RESERVED 0xfff32000u

static int x2_write(struct lapic *apic, uint32_t reg, uint64_t value)
{
    int lvt = lvt_index(reg);

    if (reg == REG_ICR_LOW) {
        if (value & X2_ICR_RESERVED)
            return -EINVAL;
        apic->icr = value & UINT64_C(0xffffffff000ccfff);
        lapic_send_command(apic, apic->icr);
        return 0;
    }
    if (value >> 32)
        return -EINVAL;
    if (lvt >= 0 && (value & ~(lvt_writable[lvt] | 0x5000u)))
        return -EINVAL;
    if (reg == REG_SELF_IPI) {
        if (value >> 8)
            return -EINVAL;
        lapic_accept(apic, (uint8_t)value, false);
        return 0;
    }
    if ((reg == REG_EOI || reg == REG_ESR) && value)
        return -EINVAL;
    if (reg == REG_TPR && value >> 8)
        return -EINVAL;
    return write_register(apic, reg, (uint32_t)value);
}

int lapic_msr_write(struct lapic_set *set, unsigned cpu, uint32_t msr, uint64_t value)
{
    struct lapic *apic = &set->cpu[cpu];

    if (msr == LAPIC_MSR_BASE)
        return base_write(apic, value);
    if (msr == LAPIC_MSR_DEADLINE) {
        lapic_timer_set_deadline(apic, value);
        return 0;
    }
    if (msr < LAPIC_MSR_X2_FIRST || msr > LAPIC_MSR_X2_LAST || !lapic_x2(apic))
        return -EINVAL;
    return x2_write(apic, (msr - LAPIC_MSR_X2_FIRST) << 4, value);
}

uint8_t lapic_cr8_read(struct lapic_set *set, unsigned cpu)
{
    return (atomic_load_explicit(&set->cpu[cpu].tpr, memory_order_relaxed) >> 4) & 0xf;
}

void lapic_cr8_write(struct lapic_set *set, unsigned cpu, uint8_t value)
{
    set_tpr(&set->cpu[cpu], (uint8_t)(value << 4));
}

void lapic_init(struct lapic_set *set, unsigned cpu)
{
    struct lapic *apic = &set->cpu[cpu];

    for (int i = 0; i < 4; i++) {
        atomic_store(&apic->irr[i], 0);
        atomic_store(&apic->tmr[i], 0);
        apic->isr[i] = 0;
    }
    atomic_store(&apic->svr, 0xff);
    atomic_store(&apic->ldr, 0);
    atomic_store(&apic->dfr, UINT32_MAX);
    atomic_store(&apic->tpr, 0);
    atomic_store(&apic->errors, 0);
    atomic_store(&apic->nmis, 0);
    atomic_store(&apic->lint0, LVT_MASKED);
    for (int i = 0; i < LVT_COUNT; i++)
        apic->lvt[i] = LVT_MASKED;
    apic->esr = 0;
    apic->icr = 0;
    lapic_timer_reset(apic);
}

void lapic_set_reset(struct lapic_set *set)
{
    for (unsigned i = 0; i < set->count; i++) {
        atomic_store(&set->cpu[i].xapic_id, i);
        atomic_store(&set->cpu[i].base, LAPIC_BASE | LAPIC_BASE_EN | (i == 0 ? LAPIC_BASE_BSP : 0));
        lapic_init(set, i);
    }
    /*
     * Firmware leaves the first CPU in virtual wire mode: the 8259 pair through LINT0, NMI through LINT1. A
     * directly booted kernel never ran any, so that this is its state at entry.
     */
    atomic_store(&set->cpu[0].svr, 0xff | SVR_ENABLE);
    atomic_store(&set->cpu[0].lint0, LAPIC_EXTINT << 8);
    set->cpu[0].lvt[LVT_LINT1] = LAPIC_NMI << 8;
}

int lapic_set_init(struct lapic_set *set, struct timer_queue *timers, const struct lapic_config *config)
{
    if (config->cpus == 0 || config->cpus > LAPIC_MAX_CPUS || !config->timer_hz || !config->tsc_khz)
        return -EINVAL;
    memset(set, 0, sizeof(*set));
    set->count = config->cpus;
    set->timer_hz = config->timer_hz;
    set->tsc_khz = config->tsc_khz;
    set->host = config->host;
    for (unsigned i = 0; i < set->count; i++) {
        set->cpu[i].set = set;
        set->cpu[i].id = i;
        lapic_timer_init(&set->cpu[i], timers);
    }
    lapic_set_reset(set);
    return 0;
}

void lapic_set_finish(struct lapic_set *set)
{
    for (unsigned i = 0; i < set->count; i++)
        lapic_timer_finish(&set->cpu[i]);
    set->count = 0;
}
