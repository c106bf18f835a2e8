/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupt messages: destination matching and delivery (SDM 3A 11.6, 11.11, 11.12.10). */
#include "vmm/x86/lapic_internal.h"

enum { SHORTHAND_NONE, SHORTHAND_SELF, SHORTHAND_ALL, SHORTHAND_OTHERS };

static bool match_logical(struct lapic *apic, const struct lapic_message *message)
{
    if (lapic_x2(apic)) {
        uint32_t ldr = ((apic->id >> 4) << 16) | (1u << (apic->id & 15));

        if (message->wide && message->dest == UINT32_MAX)
            return true;
        return (message->dest >> 16) == (ldr >> 16) && (message->dest & ldr & 0xffff);
    }

    uint8_t ldr = atomic_load_explicit(&apic->ldr, memory_order_relaxed) >> 24;
    uint8_t dest = (uint8_t)message->dest;
    uint32_t dfr = atomic_load_explicit(&apic->dfr, memory_order_relaxed);

    if (message->wide && message->dest > 0xff)
        return message->dest == UINT32_MAX;
    if (dfr >> 28 == 0xf)
        return ldr & dest;
    if (dest == 0xff)
        return true;
    return dfr >> 28 == 0 && ldr >> 4 == dest >> 4 && (ldr & dest & 0xf);
}

static bool match(struct lapic *apic, const struct lapic_message *message)
{
    if (!lapic_hw_enabled(apic))
        return false;
    if (message->logical)
        return match_logical(apic, message);
    if (message->dest == (message->wide ? UINT32_MAX : 0xff))
        return true;
    return message->dest == (lapic_x2(apic) ? apic->id : atomic_load(&apic->xapic_id));
}

void lapic_error(struct lapic *apic, uint32_t bit)
{
    uint32_t lvt = __atomic_load_n(&apic->lvt[LVT_ERROR], __ATOMIC_RELAXED);

    atomic_fetch_or(&apic->errors, bit);
    /* An illegal vector in LVT ERROR itself must not report itself for ever. */
    if (!(lvt & LVT_MASKED) && LVT_VECTOR(lvt) >= 16)
        lapic_accept(apic, LVT_VECTOR(lvt), false);
}

void lapic_accept(struct lapic *apic, uint8_t vector, bool level)
{
    uint64_t bit = UINT64_C(1) << (vector & 63);

    if (vector < 16) {
        lapic_error(apic, ESR_RECEIVE_ILLEGAL);
        return;
    }
    if (!lapic_sw_enabled(apic))
        return;
    if (level)
        atomic_fetch_or(&apic->tmr[vector / 64], bit);
    else
        atomic_fetch_and(&apic->tmr[vector / 64], ~bit);
    if (!(atomic_fetch_or(&apic->irr[vector / 64], bit) & bit))
        apic->set->host.notify(apic->set->host.opaque, apic->id);
}

static void add_nmi(struct lapic *apic)
{
    uint8_t before = atomic_load(&apic->nmis);

    while (before < 2 && !atomic_compare_exchange_weak(&apic->nmis, &before, before + 1))
        ;
}

static void deliver(struct lapic *apic, const struct lapic_message *message)
{
    const struct lapic_host *host = &apic->set->host;

    switch (message->delivery) {
    case LAPIC_FIXED:
    case LAPIC_LOWEST:
        lapic_accept(apic, message->vector, message->level);
        break;
    case LAPIC_NMI:
        add_nmi(apic);
        host->notify(host->opaque, apic->id);
        break;
    case LAPIC_INIT:
        host->init(host->opaque, apic->id);
        break;
    case LAPIC_STARTUP:
        host->startup(host->opaque, apic->id, message->vector);
        break;
    case LAPIC_EXTINT:
        /* The 8259's line is seen through LINT0 of the first CPU; here it only wakes the target. */
        host->notify(host->opaque, apic->id);
        break;
    case LAPIC_SMI: /* there is no SMM */
        break;
    }
}

/* Of all that match, the one with the lowest task priority; among equals they take turns. */
static bool send_lowest(struct lapic_set *set, const struct lapic_message *message)
{
    unsigned first = atomic_fetch_add_explicit(&set->lowest_turn, 1, memory_order_relaxed);
    struct lapic *best = NULL;

    for (unsigned i = 0; i < set->count; i++) {
        struct lapic *apic = &set->cpu[(first + i) % set->count];

        if (match(apic, message) && lapic_sw_enabled(apic) && (!best || apic->tpr < best->tpr))
            best = apic;
    }
    if (best)
        deliver(best, message);
    return best != NULL;
}

bool lapic_send(struct lapic_set *set, const struct lapic_message *message)
{
    bool matched = false;

    if (message->delivery == LAPIC_LOWEST)
        return send_lowest(set, message);
    for (unsigned i = 0; i < set->count; i++) {
        if (match(&set->cpu[i], message)) {
            deliver(&set->cpu[i], message);
            matched = true;
        }
    }
    return matched;
}

void lapic_msi(struct lapic_set *set, uint64_t address, uint32_t data)
{
    if ((address & ~UINT64_C(0xfffff)) != LAPIC_BASE)
        return;

    struct lapic_message message = {
        .dest = (address >> 12) & 0xff,
        .logical = address & 0x4,
        .level = data & 0x8000,
        .delivery = (enum lapic_delivery)((data >> 8) & 7),
        .vector = (uint8_t)data,
    };

    if (message.delivery == LAPIC_STARTUP || message.delivery == LAPIC_INIT)
        return;
    lapic_send(set, &message);
}

static void send_to_all(struct lapic *self, const struct lapic_message *message, bool with_self)
{
    for (unsigned i = 0; i < self->set->count; i++) {
        struct lapic *apic = &self->set->cpu[i];

        if ((with_self || apic != self) && lapic_hw_enabled(apic))
            deliver(apic, message);
    }
}

void lapic_send_command(struct lapic *apic, uint64_t icr)
{
    bool wide = lapic_x2(apic);
    bool level_trigger = icr & (1u << 15);
    bool assert_level = icr & (1u << 14);
    struct lapic_message message = {
        .dest = wide ? (uint32_t)(icr >> 32) : (uint32_t)(icr >> 56),
        .wide = wide,
        .logical = icr & (1u << 11),
        .delivery = (enum lapic_delivery)((icr >> 8) & 7),
        .vector = (uint8_t)icr,
    };

    if (message.delivery == LAPIC_INIT && level_trigger && !assert_level)
        return; /* INIT level de-assert: only sets arbitration ids, which newer CPUs do not have */
    if ((message.delivery == LAPIC_FIXED || message.delivery == LAPIC_LOWEST) && message.vector < 16) {
        lapic_error(apic, ESR_SEND_ILLEGAL);
        return;
    }
    switch ((icr >> 18) & 3) {
    case SHORTHAND_NONE:
        lapic_send(apic->set, &message);
        break;
    case SHORTHAND_SELF:
        if (message.delivery == LAPIC_FIXED)
            lapic_accept(apic, message.vector, false);
        break;
    case SHORTHAND_ALL:
        send_to_all(apic, &message, true);
        break;
    case SHORTHAND_OTHERS:
        send_to_all(apic, &message, false);
        break;
    }
}

void lapic_extint_raise(struct lapic_set *set)
{
    set->host.notify(set->host.opaque, 0);
}
