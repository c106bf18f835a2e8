/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The APIC timer (SDM 3A 11.5.4): one-shot, periodic, TSC deadline. The count is never ticked; it is computed
 * from the time of its load when it is read.
 */
#include "vmm/x86/lapic_internal.h"

#include "protocol/base/units.h"

/* A periodic timer faster than this would only burn the host's CPU: the guest could not run its handler. */
#define MIN_PERIOD_NS UINT64_C(50000)

static uint64_t scale(uint64_t value, uint64_t multiply, uint64_t divide)
{
    unsigned __int128 result = (unsigned __int128)value * multiply / divide;

    return result > INT64_MAX ? INT64_MAX : (uint64_t)result;
}

/* Divide configuration register: bits 3,1,0 = 000 -> 2, 001 -> 4, ... 110 -> 128, 111 -> 1. */
static unsigned divisor(const struct lapic_timer *timer)
{
    unsigned code = (timer->divide & 3) | ((timer->divide >> 1) & 4);

    return code == 7 ? 1 : 2u << code;
}

static uint64_t ticks_to_ns(struct lapic *apic, uint64_t ticks)
{
    return scale(ticks * divisor(&apic->timer), NS_PER_SEC, apic->set->timer_hz);
}

static uint64_t ns_to_ticks(struct lapic *apic, uint64_t ns)
{
    return scale(ns, apic->set->timer_hz, NS_PER_SEC) / divisor(&apic->timer);
}

static bool deadline_mode(const struct lapic_timer *timer)
{
    return LVT_TIMER_MODE(timer->lvt) == LVT_TIMER_DEADLINE;
}

/* Locked. Moves the expiry on from where it is, past `now_ns`. */
static void advance(struct lapic *apic, uint64_t now_ns)
{
    struct lapic_timer *timer = &apic->timer;
    uint64_t hz = apic->set->timer_hz;
    unsigned __int128 period = (unsigned __int128)timer->initial * divisor(timer) * NS_PER_SEC;

    if (period < (unsigned __int128)MIN_PERIOD_NS * hz)
        period = (unsigned __int128)MIN_PERIOD_NS * hz;
    /* Periods that nobody could serve are merged into one interrupt. */
    uint64_t periods = (uint64_t)((unsigned __int128)(now_ns - timer->due_ns) * hz / period) + 1;
    unsigned __int128 total = periods * period + timer->due_rest;

    timer->due_ns += (uint64_t)(total / hz);
    timer->due_rest = (uint64_t)(total % hz);
}

/* Locked. Starts the count at `now_ns`, or stops it. */
static void start(struct lapic *apic, uint64_t now_ns)
{
    struct lapic_timer *timer = &apic->timer;

    timer->due_ns = timer->due_rest = 0;
    if (timer->initial && !deadline_mode(timer)) {
        timer->due_ns = now_ns;
        if (LVT_TIMER_MODE(timer->lvt) == LVT_TIMER_PERIODIC)
            advance(apic, now_ns);
        else
            timer->due_ns += ticks_to_ns(apic, timer->initial);
    }
    if (timer->due_ns)
        timer_arm(&timer->timer, timer->due_ns);
    else
        timer_disarm(&timer->timer);
}

/* Locked. Arms for a deadline of the TSC; false when it has passed. */
static bool arm_deadline(struct lapic *apic, uint64_t now_ns)
{
    struct lapic_timer *timer = &apic->timer;
    const struct lapic_host *host = &apic->set->host;
    uint64_t now_tsc = host->tsc(host->opaque, apic->id);

    if (timer->deadline_tsc <= now_tsc)
        return false;
    timer->due_ns = now_ns + scale(timer->deadline_tsc - now_tsc, 1000000, apic->set->tsc_khz) + 1;
    timer_arm(&timer->timer, timer->due_ns);
    return true;
}

/* Locked. Goes on to the next period or stops, if the timer is due. True: the interrupt of the LVT shall be sent. */
static bool settle(struct lapic *apic, uint64_t now_ns)
{
    struct lapic_timer *timer = &apic->timer;

    if (!timer->due_ns || timer->due_ns > now_ns)
        return false;
    /* The host slews its clock, the TSC goes at its own rate: a far deadline may not have been reached yet. */
    if (deadline_mode(timer) && arm_deadline(apic, now_ns))
        return false;
    if (LVT_TIMER_MODE(timer->lvt) == LVT_TIMER_PERIODIC) {
        advance(apic, now_ns);
        timer_arm(&timer->timer, timer->due_ns);
    } else {
        timer->due_ns = 0;
        timer->deadline_tsc = 0;
    }
    return !(timer->lvt & LVT_MASKED);
}

static void expire(void *opaque, uint64_t now_ns)
{
    struct lapic *apic = opaque;

    pthread_mutex_lock(&apic->timer.lock);
    bool fire = settle(apic, now_ns);
    uint8_t vector = LVT_VECTOR(apic->timer.lvt);
    pthread_mutex_unlock(&apic->timer.lock);
    if (fire)
        lapic_accept(apic, vector, false);
}

void lapic_timer_init(struct lapic *apic, struct timer_queue *timers)
{
    pthread_mutex_init(&apic->timer.lock, NULL);
    timer_init(&apic->timer.timer, timers, expire, apic);
}

void lapic_timer_finish(struct lapic *apic)
{
    timer_disarm(&apic->timer.timer);
    pthread_mutex_destroy(&apic->timer.lock);
}

void lapic_timer_reset(struct lapic *apic)
{
    struct lapic_timer *timer = &apic->timer;

    pthread_mutex_lock(&timer->lock);
    timer->lvt = LVT_MASKED;
    timer->divide = 0;
    timer->initial = 0;
    timer->due_ns = 0;
    timer->deadline_tsc = 0;
    timer_disarm(&timer->timer);
    pthread_mutex_unlock(&timer->lock);
}

uint32_t lapic_timer_lvt(struct lapic *apic)
{
    pthread_mutex_lock(&apic->timer.lock);
    uint32_t lvt = apic->timer.lvt;
    pthread_mutex_unlock(&apic->timer.lock);
    return lvt;
}

void lapic_timer_set_lvt(struct lapic *apic, uint32_t lvt)
{
    struct lapic_timer *timer = &apic->timer;

    pthread_mutex_lock(&timer->lock);
    /* What is due by now still ends under the old settings, whoever looks first. */
    bool fire = settle(apic, timer_now_ns());
    uint8_t vector = LVT_VECTOR(timer->lvt);
    bool mode_changed = LVT_TIMER_MODE(timer->lvt) != LVT_TIMER_MODE(lvt);
    bool was_deadline = deadline_mode(timer);

    timer->lvt = lvt;
    if (mode_changed && (was_deadline || deadline_mode(timer))) {
        /* SDM 3A 11.5.4.1: moving to or from deadline mode disarms. */
        timer->initial = 0;
        timer->deadline_tsc = 0;
        timer->due_ns = 0;
        timer_disarm(&timer->timer);
    }
    pthread_mutex_unlock(&timer->lock);
    if (fire)
        lapic_accept(apic, vector, false);
}

uint32_t lapic_timer_divide(struct lapic *apic)
{
    pthread_mutex_lock(&apic->timer.lock);
    uint32_t divide = apic->timer.divide;
    pthread_mutex_unlock(&apic->timer.lock);
    return divide;
}

void lapic_timer_set_divide(struct lapic *apic, uint32_t divide)
{
    struct lapic_timer *timer = &apic->timer;

    pthread_mutex_lock(&timer->lock);
    if (timer->divide != (divide & 0xb)) {
        timer->divide = divide & 0xb;
        if (timer->due_ns && !deadline_mode(timer))
            start(apic, timer_now_ns());
    }
    pthread_mutex_unlock(&timer->lock);
}

uint32_t lapic_timer_initial(struct lapic *apic)
{
    pthread_mutex_lock(&apic->timer.lock);
    uint32_t initial = apic->timer.initial;
    pthread_mutex_unlock(&apic->timer.lock);
    return initial;
}

void lapic_timer_set_initial(struct lapic *apic, uint32_t initial)
{
    struct lapic_timer *timer = &apic->timer;

    pthread_mutex_lock(&timer->lock);
    if (!deadline_mode(timer)) {
        timer->initial = initial;
        start(apic, timer_now_ns());
    }
    pthread_mutex_unlock(&timer->lock);
}

uint32_t lapic_timer_current(struct lapic *apic)
{
    struct lapic_timer *timer = &apic->timer;
    uint32_t current = 0;

    pthread_mutex_lock(&timer->lock);
    if (timer->due_ns && !deadline_mode(timer)) {
        uint64_t now_ns = timer_now_ns();
        uint64_t passed = timer->due_ns > now_ns ? 0 : ns_to_ticks(apic, now_ns - timer->due_ns);
        uint64_t left = timer->due_ns > now_ns ? ns_to_ticks(apic, timer->due_ns - now_ns) : 0;

        if (left)
            current = left < timer->initial ? (uint32_t)left : timer->initial;
        else if (LVT_TIMER_MODE(timer->lvt) == LVT_TIMER_PERIODIC) /* the timer thread has yet to see it */
            current = timer->initial - (uint32_t)(passed % timer->initial);
    }
    pthread_mutex_unlock(&timer->lock);
    return current;
}

uint64_t lapic_timer_deadline(struct lapic *apic)
{
    pthread_mutex_lock(&apic->timer.lock);
    uint64_t tsc = apic->timer.deadline_tsc;
    pthread_mutex_unlock(&apic->timer.lock);
    return tsc;
}

void lapic_timer_set_deadline(struct lapic *apic, uint64_t tsc)
{
    struct lapic_timer *timer = &apic->timer;
    bool fire = false;

    pthread_mutex_lock(&timer->lock);
    if (deadline_mode(timer)) {
        timer->deadline_tsc = tsc;
        timer->due_ns = 0;
        if (!arm_deadline(apic, timer_now_ns())) {
            fire = tsc && !(timer->lvt & LVT_MASKED);
            timer->deadline_tsc = 0;
            timer_disarm(&timer->timer);
        }
    }
    uint8_t vector = LVT_VECTOR(timer->lvt);
    pthread_mutex_unlock(&timer->lock);
    if (fire)
        lapic_accept(apic, vector, false);
}
