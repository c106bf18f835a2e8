/* SPDX-License-Identifier: Apache-2.0 */
/* Broken if these fail: consoles lose characters or hang the guest, clocks run wrong, kernels fail to calibrate. */
#include "vmm/console.h"
#include "vmm/uart.h"
#include "vmm/x86/pit.h"
#include "vmm/x86/rtc.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct wire {
    _Atomic bool level;
    _Atomic unsigned rises;
};

static void set_wire(void *opaque, unsigned irq, bool level)
{
    struct wire *wire = opaque;

    if (level && !wire->level)
        wire->rises++;
    wire->level = level;
}

static struct irq_line line_to(struct wire *wire)
{
    return (struct irq_line){.set = set_wire, .opaque = wire};
}

/* --- UART --- */

struct line {
    uint8_t sent[256];
    size_t count, room;
    unsigned drained;
};

static size_t line_tx(void *opaque, const uint8_t *bytes, size_t count)
{
    struct line *line = opaque;
    size_t took = MIN(count, line->room);

    memcpy(line->sent + line->count, bytes, took);
    line->count += took;
    line->room -= took;
    return took;
}

static void line_drained(void *opaque)
{
    ((struct line *)opaque)->drained++;
}

static uint8_t in(struct uart *uart, unsigned reg)
{
    return (uint8_t)uart_bus_ops.read(uart, 0, reg, 1);
}

static void out(struct uart *uart, unsigned reg, uint8_t value)
{
    uart_bus_ops.write(uart, 0, reg, 1, value);
}

static void test_uart_transmit(void)
{
    struct line line = {.room = 4};
    struct uart_host host = {line_tx, line_drained, &line};
    struct wire wire = {0};
    struct irq_line irq = line_to(&wire);
    struct uart uart;

    uart_init(&uart, &host, &irq);
    out(&uart, 2, 0x01);
    out(&uart, 4, 0x08);
    g_assert_cmphex(in(&uart, 5), ==, 0x60);
    /* Enabling the interrupt with an empty transmitter raises it; reading IIR takes it back. */
    out(&uart, 1, 0x02);
    g_assert_true(wire.level);
    g_assert_cmphex(in(&uart, 2), ==, 0xc2);
    g_assert_false(wire.level);
    for (unsigned i = 0; i < 10; i++)
        out(&uart, 0, (uint8_t)('a' + i));
    /* Back-pressure: four went out, THRE is low until there is room, nothing is lost. */
    g_assert_cmpuint(line.count, ==, 4);
    g_assert_cmphex(in(&uart, 5) & 0x60, ==, 0);
    g_assert_false(wire.level);
    line.room = 100;
    uart_transmit(&uart);
    g_assert_cmpmem(line.sent, line.count, "abcdefghij", 10);
    g_assert_cmphex(in(&uart, 5) & 0x60, ==, 0x60);
    g_assert_true(wire.level);
    uart_finish(&uart);
}

static void test_uart_receive(void)
{
    struct line line = {.room = 100};
    struct uart_host host = {line_tx, line_drained, &line};
    struct wire wire = {0};
    struct irq_line irq = line_to(&wire);
    struct uart uart;
    uint8_t bytes[40];

    memset(bytes, 'x', sizeof(bytes));
    uart_init(&uart, &host, &irq);
    out(&uart, 2, 0x81);
    out(&uart, 1, 0x01);
    out(&uart, 4, 0x08);
    g_assert_cmpuint(uart_receive(&uart, bytes, 3), ==, 3);
    g_assert_cmphex(in(&uart, 2), ==, 0xcc); /* below the trigger level: time-out */
    g_assert_cmpuint(uart_receive(&uart, bytes, 40), ==, 13);
    g_assert_cmphex(in(&uart, 2), ==, 0xc4);
    g_assert_cmpuint(uart_receive_room(&uart), ==, 0);
    unsigned drained = line.drained;
    for (unsigned i = 0; i < 16; i++)
        g_assert_cmphex(in(&uart, 0), ==, 'x');
    g_assert_cmpuint(line.drained, ==, drained + 1);
    g_assert_false(wire.level);
    g_assert_cmphex(in(&uart, 5) & 1, ==, 0);
    /* Loopback, as drivers use it to find the chip. */
    out(&uart, 4, 0x1a);
    g_assert_cmphex(in(&uart, 6) & 0xf0, ==, 0x90);
    out(&uart, 0, 0x5a);
    g_assert_cmphex(in(&uart, 0), ==, 0x5a);
    out(&uart, 7, 0xa5);
    g_assert_cmphex(in(&uart, 7), ==, 0xa5);
    out(&uart, 3, 0x80);
    out(&uart, 0, 0x0c);
    g_assert_cmphex(in(&uart, 0), ==, 0x0c);
    uart_finish(&uart);
}

/* A reader that does not read holds nobody up but the guest's output; what it reads later is complete. */
static void test_console(void)
{
    struct console *console;
    struct wire wire = {0};
    struct irq_line irq = line_to(&wire);
    struct uart uart;
    int to_guest[2], from_guest[2];
    const unsigned total = 400000;
    unsigned written = 0, got = 0;

    g_assert_cmpint(pipe(to_guest), ==, 0);
    g_assert_cmpint(pipe(from_guest), ==, 0);
    struct console_config config = {.in_fd = to_guest[0], .out_fd = from_guest[1]};
    g_assert_cmpint(console_create(&config, &console), ==, 0);
    struct uart_host host = console_uart_host(console);
    uart_init(&uart, &host, &irq);
    g_assert_cmpint(console_bind(console, &uart), ==, 0);
    out(&uart, 2, 0x01);
    while (got < total) {
        uint8_t bytes[4096];

        while (written < total && (in(&uart, 5) & 0x20))
            out(&uart, 0, (uint8_t)(written++ % 251));
        ssize_t n = read(from_guest[0], bytes, sizeof(bytes));
        g_assert_cmpint(n, >, 0);
        for (ssize_t i = 0; i < n; i++, got++)
            g_assert_cmpuint(bytes[i], ==, got % 251);
    }
    /* Input arrives whole although the FIFO holds 16 bytes. */
    g_assert_cmpint(write(to_guest[1], "the quick brown fox jumps over it", 33), ==, 33);
    for (unsigned i = 0; i < 33;) {
        if (in(&uart, 5) & 1)
            g_assert_cmpint(in(&uart, 0), ==, "the quick brown fox jumps over it"[i++]);
        else
            g_usleep(500);
    }
    console_destroy(console, 5000);
    for (int i = 0; i < 2; i++) {
        close(to_guest[i]);
        close(from_guest[i]);
    }
    uart_finish(&uart);
}

/* --- PIT --- */

static void wait_rises(struct wire *wire, unsigned count)
{
    gint64 give_up = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;

    while (wire->rises < count) {
        g_assert_cmpint(g_get_monotonic_time(), <, give_up);
        g_usleep(500);
    }
}

static void test_pit(void)
{
    struct timer_queue *timers;
    struct wire wire = {0};
    struct irq_line irq = line_to(&wire);
    struct pit pit;

    g_assert_cmpint(timer_queue_create(&timers), ==, 0);
    pit_init(&pit, timers, &irq);
    /* Counter 0, mode 2, 1 kHz: keeps ticking. */
    pit_bus_ops.write(&pit, 0, 3, 1, 0x34);
    pit_bus_ops.write(&pit, 0, 0, 1, 1193 & 0xff);
    pit_bus_ops.write(&pit, 0, 0, 1, 1193 >> 8);
    wait_rises(&wire, 4);
    /* The count stays inside its period; latched, it reads twice the same. */
    pit_bus_ops.write(&pit, 0, 3, 1, 0x00);
    unsigned low = (unsigned)pit_bus_ops.read(&pit, 0, 0, 1),
             high = (unsigned)pit_bus_ops.read(&pit, 0, 0, 1);
    g_assert_cmpuint(low | high << 8, <=, 1193);
    g_assert_cmpuint(low | high << 8, >=, 1);
    /* Counter 2 as kernels calibrate with it: mode 0, gate on, wait for the output. */
    pit_port61_ops.write(&pit, 0, 0, 1, 0x01);
    pit_bus_ops.write(&pit, 0, 3, 1, 0xb0);
    pit_bus_ops.write(&pit, 0, 2, 1, 0x00);
    pit_bus_ops.write(&pit, 0, 2, 1, 0x10);
    gint64 start = g_get_monotonic_time();
    while (!(pit_port61_ops.read(&pit, 0, 0, 1) & 0x20))
        g_assert_cmpint(g_get_monotonic_time() - start, <, 20 * G_USEC_PER_SEC);
    g_assert_cmpint(g_get_monotonic_time() - start, >=, 3400);
    /* Read-back of the status: output high, count loaded, access both, mode 0. */
    pit_bus_ops.write(&pit, 0, 3, 1, 0xe8);
    g_assert_cmphex(pit_bus_ops.read(&pit, 0, 2, 1), ==, 0xb0);
    /* Gate low stops it. */
    pit_port61_ops.write(&pit, 0, 0, 1, 0x00);
    g_assert_cmphex(pit_port61_ops.read(&pit, 0, 0, 1) & 0x03, ==, 0);
    timer_queue_stop(timers);
    /* 1 kHz as the chip divides it, an hour later: what was missed is one interrupt, and no rounding has added up. */
    uint64_t start_ns = pit.counter[0].start_ns, late_ns = start_ns + 3600 * UINT64_C(1000000000);
    uint64_t periods = 3600 * UINT64_C(1193182) / 1193 + 1;
    unsigned rises = wire.rises;
    pit.timer.fire(&pit, late_ns);
    g_assert_cmpuint(wire.rises, ==, rises + 1);
    g_assert_cmpuint(pit.due_ns - start_ns, ==, (uint64_t)((double)periods * 1193 * 1e9 / 1193182) + 1);
    pit_finish(&pit);
    timer_queue_destroy(timers);
}

/* --- RTC --- */

static uint8_t cmos(struct rtc *rtc, uint8_t index)
{
    rtc_bus_ops.write(rtc, 0, 0, 1, index);
    return (uint8_t)rtc_bus_ops.read(rtc, 0, 1, 1);
}

static void set_cmos(struct rtc *rtc, uint8_t index, uint8_t value)
{
    rtc_bus_ops.write(rtc, 0, 0, 1, index);
    rtc_bus_ops.write(rtc, 0, 1, 1, value);
}

static unsigned bcd(uint8_t value)
{
    return (value >> 4) * 10u + (value & 15);
}

static void test_rtc(void)
{
    struct timer_queue *timers;
    struct wire wire = {0};
    struct irq_line irq = line_to(&wire);
    struct rtc rtc;

    g_assert_cmpint(timer_queue_create(&timers), ==, 0);
    rtc_init(&rtc, timers, &irq);
    time_t before = time(NULL);
    unsigned year = bcd(cmos(&rtc, 0x32)) * 100 + bcd(cmos(&rtc, 9));
    struct tm *now = gmtime(&before);
    g_assert_cmpuint(year, >=, (unsigned)now->tm_year + 1900);
    g_assert_cmpuint(year, <=, (unsigned)now->tm_year + 1901);
    g_assert_cmphex(cmos(&rtc, 13), ==, 0x80);
    /* Setting the time: frozen while SET, then it goes on from there. */
    set_cmos(&rtc, 11, 0x82);
    set_cmos(&rtc, 9, 0x31);
    set_cmos(&rtc, 8, 0x02);
    set_cmos(&rtc, 7, 0x03);
    set_cmos(&rtc, 4, 0x23);
    set_cmos(&rtc, 2, 0x59);
    set_cmos(&rtc, 0, 0x10);
    g_assert_cmphex(cmos(&rtc, 0), ==, 0x10);
    set_cmos(&rtc, 11, 0x02);
    g_assert_cmphex(cmos(&rtc, 9), ==, 0x31);
    g_assert_cmphex(cmos(&rtc, 8), ==, 0x02);
    g_assert_cmphex(cmos(&rtc, 4), ==, 0x23);
    /* 12-hour and binary modes. */
    set_cmos(&rtc, 11, 0x00);
    g_assert_cmphex(cmos(&rtc, 4), ==, 0x91);
    set_cmos(&rtc, 11, 0x06);
    g_assert_cmphex(cmos(&rtc, 4), ==, 23);
    /* Periodic interrupt, 1024 Hz, acknowledged by reading C. */
    set_cmos(&rtc, 11, 0x42);
    wait_rises(&wire, 1);
    g_assert_cmphex(cmos(&rtc, 12) & 0xc0, ==, 0xc0);
    wait_rises(&wire, 2);
    timer_queue_stop(timers);
    /* 1024 Hz, an hour later. */
    rtc.timer.fire(&rtc, rtc.periodic_start_ns + 3600 * UINT64_C(1000000000));
    g_assert_cmpuint(rtc.next_periodic_ns - rtc.periodic_start_ns, ==,
                     (3600 * 1024 + 1) * UINT64_C(1000000000) / 1024 + 1);
    set_cmos(&rtc, 11, 0x02);
    cmos(&rtc, 12);
    g_assert_false(wire.level);
    /* An alarm that came while nobody looked (a stopped VMM, a stepped host clock) is not lost; one that the guest sets to a
     * time that has passed is for tomorrow. */
    set_cmos(&rtc, 11, 0x86);
    set_cmos(&rtc, 4, 12);
    set_cmos(&rtc, 2, 30);
    set_cmos(&rtc, 0, 30);
    set_cmos(&rtc, 11, 0x06);
    set_cmos(&rtc, 5, 12);
    set_cmos(&rtc, 3, 30);
    set_cmos(&rtc, 1, 10);
    cmos(&rtc, 12);
    g_assert_cmphex(cmos(&rtc, 12) & 0x20, ==, 0);
    rtc.seen_s -= 10;
    g_assert_cmphex(cmos(&rtc, 12) & 0x20, ==, 0);
    rtc.seen_s -= 100;
    g_assert_cmphex(cmos(&rtc, 12) & 0x20, ==, 0x20);
    rtc.seen_s -= 1000000;
    g_assert_cmphex(cmos(&rtc, 12) & 0x20, ==, 0x20);
    rtc.seen_s += 50;
    g_assert_cmphex(cmos(&rtc, 12) & 0x20, ==, 0);
    /* Memory. */
    set_cmos(&rtc, 0x40, 0x99);
    g_assert_cmphex(cmos(&rtc, 0x40), ==, 0x99);
    timer_queue_stop(timers);
    rtc_finish(&rtc);
    timer_queue_destroy(timers);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/uart/transmit", test_uart_transmit);
    g_test_add_func("/uart/receive", test_uart_receive);
    g_test_add_func("/console/back-pressure", test_console);
    g_test_add_func("/pit/counters", test_pit);
    g_test_add_func("/rtc/clock", test_rtc);
    return g_test_run();
}
