/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/x86/pit.h"

#include <string.h>

#include "protocol/base/units.h"

/* IRQ 0 faster than this would only burn the host's CPU; the counter itself still reads exactly. */
#define MIN_PERIOD_NS UINT64_C(50000)

static uint64_t ns_to_ticks(uint64_t ns)
{
    return (uint64_t)((unsigned __int128)ns * PIT_HZ / NS_PER_SEC);
}

static uint64_t ticks_to_ns(uint64_t ticks)
{
    return (uint64_t)(((unsigned __int128)ticks * NS_PER_SEC + PIT_HZ - 1) / PIT_HZ);
}

static uint32_t from_bcd(uint16_t value)
{
    return (value >> 12) * 1000u + (value >> 8 & 15) * 100u + (value >> 4 & 15) * 10u + (value & 15);
}

static uint16_t to_bcd(uint32_t value)
{
    return (uint16_t)((value / 1000 % 10) << 12 | (value / 100 % 10) << 8 | (value / 10 % 10) << 4 |
                      value % 10);
}

static uint64_t elapsed(const struct pit_counter *counter, uint64_t now_ns)
{
    return now_ns > counter->start_ns ? ns_to_ticks(now_ns - counter->start_ns) : 0;
}

static bool counting(const struct pit_counter *counter)
{
    return counter->loaded && counter->start_ns != 0;
}

static bool output(const struct pit_counter *counter, uint64_t now_ns)
{
    uint64_t ticks;

    if (!counting(counter))
        return counter->mode != 0;
    ticks = elapsed(counter, now_ns);
    switch (counter->mode) {
    case 0: /* low until the end */
    case 1: /* one-shot pulse, started by the gate */
        return ticks >= counter->count;
    case 2: /* low for the last tick of each period */
        return ticks % counter->count != counter->count - 1;
    case 3: /* square wave: high in the first half */
        return ticks % counter->count < (counter->count + 1) / 2;
    default: /* 4, 5: low for one tick at the end */
        return ticks != counter->count;
    }
}

static uint16_t value_now(const struct pit_counter *counter, uint64_t now_ns)
{
    uint64_t ticks = counting(counter) ? elapsed(counter, now_ns) : 0;
    uint32_t modulus = counter->bcd ? 10000 : 65536;
    uint32_t value;

    switch (counter->mode) {
    case 2:
        value = counter->count - (uint32_t)(ticks % counter->count);
        break;
    case 3: /* counts by two, twice per period */
        value = counter->count - (uint32_t)(2 * ticks % counter->count);
        value &= ~1u;
        break;
    default: /* wraps and goes on below zero */
        value = (uint32_t)((counter->count + (uint64_t)modulus - ticks % modulus) % modulus);
        break;
    }
    value %= modulus;
    return counter->bcd ? to_bcd(value) : (uint16_t)value;
}

/* Locked. When counter 0's output rises next, after now_ns; 0 when it does not. Computed from the start of the count, so that
 * roundings do not add up. */
static uint64_t next_rise(const struct pit_counter *counter, uint64_t now_ns)
{
    uint64_t period, passed, skip;

    if (!counting(counter))
        return 0;
    passed = now_ns - counter->start_ns;
    switch (counter->mode) {
    case 2:
    case 3:
        period = ticks_to_ns(counter->count);
        skip = period < MIN_PERIOD_NS ? MIN_PERIOD_NS - period : 0;
        return counter->start_ns +
               ticks_to_ns((ns_to_ticks(passed + skip) / counter->count + 1) * counter->count);
    default:
        period = ticks_to_ns(counter->count);
        return passed < period ? counter->start_ns + period : 0;
    }
}

/* Locked. After any change of counter 0. */
static void schedule(struct pit *pit, uint64_t now_ns)
{
    pit->due_ns = next_rise(&pit->counter[0], now_ns);
    if (pit->due_ns)
        timer_arm(&pit->timer, pit->due_ns);
    else
        timer_disarm(&pit->timer);
}

static void expire(void *opaque, uint64_t now_ns)
{
    struct pit *pit = opaque;
    bool fire;

    pthread_mutex_lock(&pit->lock);
    fire = pit->due_ns && pit->due_ns <= now_ns;
    if (fire)
        schedule(pit, now_ns);
    pthread_mutex_unlock(&pit->lock);
    if (fire)
        irq_line_edge(&pit->irq);
}

static void load(struct pit *pit, unsigned index, uint16_t written)
{
    struct pit_counter *counter = &pit->counter[index];
    uint64_t now_ns = timer_now_ns();
    uint32_t count = counter->bcd ? from_bcd(written) : written;

    if (count == 0)
        count = counter->bcd ? 10000 : 65536;
    /* The data sheet forbids a count of one in modes 2 and 3. */
    if (count == 1 && (counter->mode == 2 || counter->mode == 3))
        count = 2;
    counter->count = count;
    counter->loaded = true;
    if (counter->mode == 1 || counter->mode == 5)
        counter->start_ns = 0; /* these wait for a rising gate */
    else
        counter->start_ns = counter->gate ? now_ns : 0;
    if (index == 0)
        schedule(pit, now_ns);
}

static void latch_count(struct pit_counter *counter, uint64_t now_ns)
{
    if (counter->count_latched)
        return;
    counter->latch = value_now(counter, now_ns);
    counter->count_latched = true;
}

static void latch_status(struct pit_counter *counter, uint64_t now_ns)
{
    if (counter->status_latched)
        return;
    counter->status = (uint8_t)(output(counter, now_ns) << 7 | !counter->loaded << 6 | counter->access << 4 |
                                counter->mode << 1 | counter->bcd);
    counter->status_latched = true;
}

static void read_back(struct pit *pit, uint8_t command)
{
    uint64_t now_ns = timer_now_ns();

    for (unsigned i = 0; i < 3; i++) {
        if (!(command & (2u << i)))
            continue;
        if (!(command & 0x20))
            latch_count(&pit->counter[i], now_ns);
        if (!(command & 0x10))
            latch_status(&pit->counter[i], now_ns);
    }
}

static void write_control(struct pit *pit, uint8_t value)
{
    unsigned index = value >> 6;
    struct pit_counter *counter;

    if (index == 3) {
        read_back(pit, value);
        return;
    }
    counter = &pit->counter[index];
    if (!(value & 0x30)) {
        latch_count(counter, timer_now_ns());
        return;
    }
    *counter = (struct pit_counter){
        .mode = value >> 1 & 7,
        .access = value >> 4 & 3,
        .bcd = value & 1,
        .gate = counter->gate,
        .count = 65536,
    };
    if (counter->mode > 5)
        counter->mode -= 4; /* 6 and 7 are 2 and 3 */
    if (index == 0)
        schedule(pit, timer_now_ns());
}

static void write_count(struct pit *pit, unsigned index, uint8_t value)
{
    struct pit_counter *counter = &pit->counter[index];

    if (counter->access == 1) {
        load(pit, index, value);
    } else if (counter->access == 2) {
        load(pit, index, (uint16_t)(value << 8));
    } else if (!counter->write_high) {
        counter->write_low = value;
        counter->write_high = true;
    } else {
        counter->write_high = false;
        load(pit, index, (uint16_t)(value << 8 | counter->write_low));
    }
}

static uint8_t read_count(struct pit_counter *counter)
{
    uint16_t value;
    bool high;

    if (counter->status_latched) {
        counter->status_latched = false;
        return counter->status;
    }
    value = counter->count_latched ? counter->latch : value_now(counter, timer_now_ns());
    high = counter->access == 2 || (counter->access == 3 && counter->read_high);
    if (counter->access == 3)
        counter->read_high = !counter->read_high;
    if (counter->access != 3 || high)
        counter->count_latched = false;
    return (uint8_t)(high ? value >> 8 : value);
}

static uint64_t port_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    struct pit *pit = device;
    uint8_t value = 0;

    if (offset > 2)
        return 0;
    pthread_mutex_lock(&pit->lock);
    value = read_count(&pit->counter[offset]);
    pthread_mutex_unlock(&pit->lock);
    return value;
}

static void port_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct pit *pit = device;

    pthread_mutex_lock(&pit->lock);
    if (offset == 3)
        write_control(pit, (uint8_t)value);
    else
        write_count(pit, (unsigned)offset, (uint8_t)value);
    pthread_mutex_unlock(&pit->lock);
}

static void set_gate(struct pit_counter *counter, bool gate)
{
    bool rises = gate && !counter->gate;

    counter->gate = gate;
    if (!counter->loaded)
        return;
    if (rises)
        counter->start_ns = timer_now_ns();
    else if (!gate && counter->mode != 1 && counter->mode != 5)
        counter->start_ns = 0;
}

static uint64_t port61_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    struct pit *pit = device;
    uint64_t now_ns = timer_now_ns();
    uint8_t value;

    pthread_mutex_lock(&pit->lock);
    value = (uint8_t)(pit->counter[2].gate | pit->speaker_data << 1 | output(&pit->counter[2], now_ns) << 5);
    pthread_mutex_unlock(&pit->lock);
    /* Bit 4 toggles with each DRAM refresh, every 15 us. */
    return value | ((now_ns / 15085) & 1) << 4;
}

static void port61_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct pit *pit = device;

    pthread_mutex_lock(&pit->lock);
    set_gate(&pit->counter[2], value & 1);
    pit->speaker_data = value & 2;
    pthread_mutex_unlock(&pit->lock);
}

const struct bus_ops pit_bus_ops = {.read = port_read, .write = port_write};
const struct bus_ops pit_port61_ops = {.read = port61_read, .write = port61_write};

void pit_reset(struct pit *pit)
{
    pthread_mutex_lock(&pit->lock);
    for (unsigned i = 0; i < 3; i++)
        pit->counter[i] = (struct pit_counter){.mode = 3, .access = 3, .gate = i != 2, .count = 65536};
    pit->speaker_data = false;
    schedule(pit, timer_now_ns());
    pthread_mutex_unlock(&pit->lock);
}

void pit_init(struct pit *pit, struct timer_queue *timers, const struct irq_line *irq)
{
    memset(pit, 0, sizeof(*pit));
    pthread_mutex_init(&pit->lock, NULL);
    timer_init(&pit->timer, timers, expire, pit);
    pit->irq = *irq;
    pit_reset(pit);
}

void pit_finish(struct pit *pit)
{
    timer_disarm(&pit->timer);
    pthread_mutex_destroy(&pit->lock);
}
