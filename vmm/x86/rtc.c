/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/x86/rtc.h"

#include <string.h>
#include <time.h>

#include "protocol/base/units.h"

enum {
    REG_SECONDS = 0,
    REG_SECONDS_ALARM = 1,
    REG_MINUTES = 2,
    REG_MINUTES_ALARM = 3,
    REG_HOURS = 4,
    REG_HOURS_ALARM = 5,
    REG_WEEKDAY = 6,
    REG_DAY = 7,
    REG_MONTH = 8,
    REG_YEAR = 9,
    REG_A = 10,
    REG_B = 11,
    REG_C = 12,
    REG_D = 13,
    REG_CENTURY = 0x32,
};

#define A_UPDATING    0x80
#define B_SET         0x80
#define B_BINARY      0x04
#define B_24_HOURS    0x02
#define FLAG_PERIODIC 0x40 /* the same bits in B (enable) and C (flag) */
#define FLAG_ALARM    0x20
#define FLAG_UPDATE   0x10
#define C_IRQ         0x80
#define D_VALID       0x80

/* The alarm matches any value when its two top bits are set. */
#define ALARM_ANY 0xc0

/* How long before the end of a second 'update in progress' shows (data sheet: 244 us before, 1984 us during).
 */
#define UPDATE_NS UINT64_C(2228000)

#define DAY_S     INT64_C(86400)
#define CYCLES_HZ 32768u /* of the crystal */

/* The years that the registers can show: 1900 to 9999. */
#define FIRST_SECOND INT64_C(-2208988800)
#define LAST_SECOND  INT64_C(253402300799)

static void wall_clock(int64_t *ret_s, uint64_t *ret_ns)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    *ret_s = now.tv_sec;
    *ret_ns = (uint64_t)now.tv_nsec;
}

static int64_t guest_seconds(const struct rtc *rtc)
{
    int64_t now_s;
    uint64_t ns;

    if (rtc->cmos[REG_B] & B_SET)
        return rtc->frozen_s;
    wall_clock(&now_s, &ns);
    now_s += rtc->offset_s;
    return now_s < FIRST_SECOND ? FIRST_SECOND : now_s > LAST_SECOND ? LAST_SECOND : now_s;
}

static uint8_t encode(const struct rtc *rtc, int value)
{
    return (uint8_t)(rtc->cmos[REG_B] & B_BINARY ? value : (value / 10 << 4 | value % 10));
}

static int decode(const struct rtc *rtc, uint8_t value)
{
    return rtc->cmos[REG_B] & B_BINARY ? value : (value >> 4) * 10 + (value & 15);
}

static uint8_t encode_hours(const struct rtc *rtc, int hours)
{
    if (rtc->cmos[REG_B] & B_24_HOURS)
        return encode(rtc, hours);
    return encode(rtc, hours % 12 ? hours % 12 : 12) | (hours >= 12 ? 0x80 : 0);
}

static int decode_hours(const struct rtc *rtc, uint8_t value)
{
    if (rtc->cmos[REG_B] & B_24_HOURS)
        return decode(rtc, value);
    return decode(rtc, value & 0x7f) % 12 + (value & 0x80 ? 12 : 0);
}

static uint8_t time_register(const struct rtc *rtc, uint8_t index)
{
    time_t seconds = (time_t)guest_seconds(rtc);
    struct tm t;

    if (!gmtime_r(&seconds, &t))
        memset(&t, 0, sizeof(t));
    switch (index) {
    case REG_SECONDS:
        return encode(rtc, t.tm_sec);
    case REG_MINUTES:
        return encode(rtc, t.tm_min);
    case REG_HOURS:
        return encode_hours(rtc, t.tm_hour);
    case REG_WEEKDAY:
        return encode(rtc, t.tm_wday + 1);
    case REG_DAY:
        return encode(rtc, t.tm_mday);
    case REG_MONTH:
        return encode(rtc, t.tm_mon + 1);
    case REG_YEAR:
        return encode(rtc, t.tm_year % 100);
    default:
        return encode(rtc, (t.tm_year + 1900) / 100 % 100);
    }
}

static void set_time_register(struct rtc *rtc, uint8_t index, uint8_t value)
{
    time_t seconds = (time_t)guest_seconds(rtc);
    struct tm t;
    int full_year;

    if (!gmtime_r(&seconds, &t))
        return;
    full_year = t.tm_year + 1900;
    switch (index) {
    case REG_SECONDS:
        t.tm_sec = decode(rtc, value);
        break;
    case REG_MINUTES:
        t.tm_min = decode(rtc, value);
        break;
    case REG_HOURS:
        t.tm_hour = decode_hours(rtc, value);
        break;
    case REG_DAY:
        t.tm_mday = decode(rtc, value);
        break;
    case REG_MONTH:
        t.tm_mon = decode(rtc, value) - 1;
        break;
    case REG_YEAR:
        t.tm_year = full_year / 100 * 100 + decode(rtc, value) - 1900;
        break;
    case REG_CENTURY:
        t.tm_year = decode(rtc, value) * 100 + full_year % 100 - 1900;
        break;
    default: /* the weekday follows from the date */
        return;
    }
    int64_t changed_s = timegm(&t);

    if (changed_s < FIRST_SECOND)
        changed_s = FIRST_SECOND;
    if (changed_s > LAST_SECOND)
        changed_s = LAST_SECOND;
    if (rtc->cmos[REG_B] & B_SET)
        rtc->frozen_s = changed_s;
    else
        rtc->offset_s += changed_s - seconds;
    rtc->seen_s += changed_s - seconds; /* an alarm between the two did not pass */
}

static bool alarm_field_matches(const struct rtc *rtc, uint8_t alarm_index, uint8_t value)
{
    uint8_t alarm = rtc->cmos[alarm_index];

    return (alarm & ALARM_ANY) == ALARM_ANY || alarm == value;
}

static bool alarm_matches(const struct rtc *rtc, int64_t second)
{
    int of_day = (int)((second % DAY_S + DAY_S) % DAY_S);

    return alarm_field_matches(rtc, REG_SECONDS_ALARM, encode(rtc, of_day % 60)) &&
           alarm_field_matches(rtc, REG_MINUTES_ALARM, encode(rtc, of_day / 60 % 60)) &&
           alarm_field_matches(rtc, REG_HOURS_ALARM, encode_hours(rtc, of_day / 3600));
}

/* Whether the alarm's time came after the second `seen_s` and not later than `now_s`: nobody may have looked for a while, and
 * the host's clock may have been stepped. Once it goes backwards only the present second counts. */
static bool alarm_passed(const struct rtc *rtc, int64_t seen_s, int64_t now_s)
{
    int64_t passed_s = now_s <= seen_s ? 1 : now_s - seen_s < DAY_S ? now_s - seen_s : DAY_S;

    for (int64_t second = now_s - passed_s + 1; second <= now_s; second++)
        if (alarm_matches(rtc, second))
            return true;
    return false;
}

/* Locked. Flags for the seconds that have passed since the last look. */
static void update_flags(struct rtc *rtc, uint64_t now_ns)
{
    int64_t now_s = guest_seconds(rtc);

    if (rtc->next_periodic_ns && now_ns >= rtc->next_periodic_ns)
        rtc->flags |= FLAG_PERIODIC;
    if (rtc->cmos[REG_B] & B_SET || now_s == rtc->seen_s)
        return;
    rtc->flags |= FLAG_UPDATE;
    if (alarm_passed(rtc, rtc->seen_s, now_s))
        rtc->flags |= FLAG_ALARM;
    rtc->seen_s = now_s;
}

static bool irq_active(const struct rtc *rtc)
{
    return rtc->flags & rtc->cmos[REG_B] & (FLAG_PERIODIC | FLAG_ALARM | FLAG_UPDATE);
}

/* In cycles of 32768 Hz. Register A rate select: 1 and 2 are 256 and 128 Hz, 3..15 are 8192 Hz down to 2 Hz. 0: off. */
static uint64_t period_cycles(const struct rtc *rtc)
{
    unsigned rate = rtc->cmos[REG_A] & 15;

    if (rate == 0 || (rtc->cmos[REG_A] & 0x70) != 0x20)
        return 0;
    if (rate <= 2)
        rate += 7;
    return UINT64_C(1) << (rate - 1);
}

/* The first end of a period after now_ns, counted from the start, so that roundings do not add up. */
static uint64_t next_period(const struct rtc *rtc, uint64_t now_ns, uint64_t cycles)
{
    unsigned __int128 passed = (unsigned __int128)(now_ns - rtc->periodic_start_ns) * CYCLES_HZ / NS_PER_SEC;
    unsigned __int128 next = (passed / cycles + 1) * cycles;

    return rtc->periodic_start_ns + (uint64_t)((next * NS_PER_SEC + CYCLES_HZ - 1) / CYCLES_HZ);
}

/* Locked. Arms the timer for the earliest interrupt that is enabled. */
static void schedule(struct rtc *rtc, uint64_t now_ns)
{
    uint64_t cycles = period_cycles(rtc);
    uint8_t enabled = rtc->cmos[REG_B];

    rtc->due_ns = 0;
    if (enabled & (FLAG_ALARM | FLAG_UPDATE) && !(enabled & B_SET)) {
        int64_t now_s;
        uint64_t wall_ns;

        wall_clock(&now_s, &wall_ns);
        rtc->due_ns = now_ns + (NS_PER_SEC - wall_ns) + 1000;
    }
    if (!(enabled & FLAG_PERIODIC) || !cycles) {
        rtc->next_periodic_ns = 0;
    } else if (rtc->next_periodic_ns <= now_ns) {
        if (!rtc->next_periodic_ns)
            rtc->periodic_start_ns = now_ns;
        rtc->next_periodic_ns = next_period(rtc, now_ns, cycles);
    }
    if (rtc->next_periodic_ns && (!rtc->due_ns || rtc->next_periodic_ns < rtc->due_ns))
        rtc->due_ns = rtc->next_periodic_ns;
    if (rtc->due_ns)
        timer_arm(&rtc->timer, rtc->due_ns);
    else
        timer_disarm(&rtc->timer);
}

static void expire(void *opaque, uint64_t now_ns)
{
    struct rtc *rtc = opaque;

    pthread_mutex_lock(&rtc->lock);
    if (rtc->due_ns && rtc->due_ns <= now_ns) {
        update_flags(rtc, now_ns);
        schedule(rtc, now_ns);
        irq_line_set(&rtc->irq, irq_active(rtc));
    }
    pthread_mutex_unlock(&rtc->lock);
}

static uint8_t read_a(const struct rtc *rtc)
{
    int64_t now_s;
    uint64_t ns;

    wall_clock(&now_s, &ns);
    bool updating = !(rtc->cmos[REG_B] & B_SET) && ns >= NS_PER_SEC - UPDATE_NS;
    return (rtc->cmos[REG_A] & 0x7f) | (updating ? A_UPDATING : 0);
}

static uint8_t read_c(struct rtc *rtc)
{
    uint8_t value;

    update_flags(rtc, timer_now_ns());
    value = rtc->flags | (irq_active(rtc) ? C_IRQ : 0);
    rtc->flags = 0;
    irq_line_set(&rtc->irq, false);
    return value;
}

static bool is_time(uint8_t index)
{
    return index == REG_SECONDS || index == REG_MINUTES || index == REG_HOURS ||
           (index >= REG_WEEKDAY && index <= REG_YEAR) || index == REG_CENTURY;
}

static bool is_alarm(uint8_t index)
{
    return index == REG_SECONDS_ALARM || index == REG_MINUTES_ALARM || index == REG_HOURS_ALARM;
}

static uint8_t read_index(struct rtc *rtc)
{
    uint8_t index = rtc->index;

    if (is_time(index))
        return time_register(rtc, index);
    if (index == REG_A)
        return read_a(rtc);
    if (index == REG_C)
        return read_c(rtc);
    return rtc->cmos[index];
}

static void write_b(struct rtc *rtc, uint8_t value)
{
    uint8_t old = rtc->cmos[REG_B];
    uint64_t now_ns = timer_now_ns();

    update_flags(rtc, now_ns);
    if ((value & B_SET) && !(old & B_SET))
        rtc->frozen_s = guest_seconds(rtc);
    rtc->cmos[REG_B] = value & B_SET ? value & ~FLAG_UPDATE : value;
    if (!(value & B_SET) && (old & B_SET)) {
        int64_t now_s;
        uint64_t ns;

        wall_clock(&now_s, &ns);
        rtc->offset_s = rtc->frozen_s - now_s;
        rtc->seen_s = rtc->frozen_s;
    }
    schedule(rtc, now_ns);
    irq_line_set(&rtc->irq, irq_active(rtc));
}

static void write_index(struct rtc *rtc, uint8_t value)
{
    uint8_t index = rtc->index;

    if (is_time(index)) {
        set_time_register(rtc, index, value);
    } else if (is_alarm(index)) {
        update_flags(rtc, timer_now_ns()); /* what has passed was about the old alarm */
        rtc->cmos[index] = value;
    } else if (index == REG_A) {
        rtc->cmos[REG_A] = value & 0x7f;
        rtc->next_periodic_ns = 0;
        schedule(rtc, timer_now_ns());
    } else if (index == REG_B) {
        write_b(rtc, value);
    } else if (index != REG_C && index != REG_D) {
        rtc->cmos[index] = value;
    }
}

static uint64_t port_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    struct rtc *rtc = device;
    uint8_t value = 0xff; /* the index register is write-only */

    if (offset == 1) {
        pthread_mutex_lock(&rtc->lock);
        value = read_index(rtc);
        pthread_mutex_unlock(&rtc->lock);
    }
    return value;
}

static void port_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct rtc *rtc = device;

    pthread_mutex_lock(&rtc->lock);
    if (offset == 0)
        rtc->index = value & (RTC_CMOS_BYTES - 1); /* bit 7 would mask NMI */
    else
        write_index(rtc, (uint8_t)value);
    pthread_mutex_unlock(&rtc->lock);
}

const struct bus_ops rtc_bus_ops = {.read = port_read, .write = port_write};

void rtc_reset(struct rtc *rtc)
{
    pthread_mutex_lock(&rtc->lock);
    rtc->index = 0;
    rtc->cmos[REG_A] = 0x26; /* 32.768 kHz time base, 1024 Hz */
    rtc->cmos[REG_B] = B_24_HOURS;
    rtc->cmos[REG_D] = D_VALID;
    rtc->flags = 0;
    rtc->next_periodic_ns = 0;
    rtc->seen_s = guest_seconds(rtc);
    schedule(rtc, timer_now_ns());
    irq_line_set(&rtc->irq, false);
    pthread_mutex_unlock(&rtc->lock);
}

void rtc_init(struct rtc *rtc, struct timer_queue *timers, const struct irq_line *irq)
{
    memset(rtc, 0, sizeof(*rtc));
    pthread_mutex_init(&rtc->lock, NULL);
    timer_init(&rtc->timer, timers, expire, rtc);
    rtc->irq = *irq;
    rtc_reset(rtc);
}

void rtc_finish(struct rtc *rtc)
{
    timer_disarm(&rtc->timer);
    pthread_mutex_destroy(&rtc->lock);
}
