/* SPDX-License-Identifier: Apache-2.0 */
/* Broken if these fail: the guest loses interrupts, gets them twice, or takes them in the wrong order. */
#include "vmm/x86/ioapic.h"
#include "vmm/x86/lapic.h"
#include "vmm/x86/pic.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

struct board {
    struct timer_queue *timers;
    struct lapic_set lapics;
    struct ioapic ioapic;
    struct pic pic;
    _Atomic unsigned notified[4];
    unsigned inits[4], startups[4];
    uint8_t startup_vector;
    uint64_t tsc_start_ns;
};

static void notify(void *opaque, unsigned cpu)
{
    ((struct board *)opaque)->notified[cpu]++;
}

static void init(void *opaque, unsigned cpu)
{
    ((struct board *)opaque)->inits[cpu]++;
}

static void startup(void *opaque, unsigned cpu, uint8_t vector)
{
    ((struct board *)opaque)->startups[cpu]++;
    ((struct board *)opaque)->startup_vector = vector;
}

/* Half as fast as the board is told. */
static uint64_t tsc(void *opaque, unsigned cpu)
{
    return (timer_now_ns() - ((struct board *)opaque)->tsc_start_ns) / 2;
}

static int peek(void *opaque)
{
    return pic_peek(&((struct board *)opaque)->pic);
}

static int ack(void *opaque)
{
    return pic_ack(&((struct board *)opaque)->pic);
}

static void eoi(void *opaque, uint8_t vector)
{
    ioapic_eoi(&((struct board *)opaque)->ioapic, vector);
}

static void pic_raise(void *opaque)
{
    lapic_extint_raise(&((struct board *)opaque)->lapics);
}

static struct board *board_create(unsigned cpus)
{
    struct board *b = g_new0(struct board, 1);
    struct lapic_config config = {
        .cpus = cpus,
        .timer_hz = 1000000000,
        .tsc_khz = 1000000,
        .host = {notify, init, startup, tsc, peek, ack, eoi, b},
    };

    b->tsc_start_ns = timer_now_ns();
    g_assert_cmpint(timer_queue_create(&b->timers), ==, 0);
    g_assert_cmpint(lapic_set_init(&b->lapics, b->timers, &config), ==, 0);
    ioapic_init(&b->ioapic, &b->lapics);
    pic_init(&b->pic, pic_raise, b);
    return b;
}

static void board_destroy(struct board *b)
{
    timer_queue_stop(b->timers);
    pic_finish(&b->pic);
    ioapic_finish(&b->ioapic);
    lapic_set_finish(&b->lapics);
    timer_queue_destroy(b->timers);
    g_free(b);
}

static uint32_t apic_read(struct board *b, unsigned cpu, uint32_t reg)
{
    return (uint32_t)lapic_bus_ops.read(&b->lapics, cpu, reg, 4);
}

static void apic_write(struct board *b, unsigned cpu, uint32_t reg, uint32_t value)
{
    lapic_bus_ops.write(&b->lapics, cpu, reg, 4, value);
}

static void enable(struct board *b, unsigned cpu)
{
    apic_write(b, cpu, 0xf0, 0x1ff);
}

static void test_priority(void)
{
    struct board *b = board_create(1);

    enable(b, 0);
    apic_write(b, 0, 0x350, 0x10000);
    g_assert_cmpint(lapic_irq_peek(&b->lapics, 0), ==, -EAGAIN);
    lapic_msi(&b->lapics, 0xfee00000, 0x31);
    lapic_msi(&b->lapics, 0xfee00000, 0x52);
    g_assert_cmpint(lapic_irq_peek(&b->lapics, 0), ==, 0x52);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 0), ==, 0x52);
    g_assert_cmphex(apic_read(b, 0, 0xa0), ==, 0x50);
    /* Lower class waits, the same class too, a higher one nests. */
    g_assert_cmpint(lapic_irq_peek(&b->lapics, 0), ==, -EAGAIN);
    lapic_msi(&b->lapics, 0xfee00000, 0x5f);
    g_assert_cmpint(lapic_irq_peek(&b->lapics, 0), ==, -EAGAIN);
    lapic_msi(&b->lapics, 0xfee00000, 0x61);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 0), ==, 0x61);
    apic_write(b, 0, 0xb0, 0);
    apic_write(b, 0, 0xb0, 0);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 0), ==, 0x5f);
    apic_write(b, 0, 0xb0, 0);
    /* CR8 holds back and lets go. */
    lapic_cr8_write(&b->lapics, 0, 3);
    g_assert_cmpint(lapic_irq_peek(&b->lapics, 0), ==, -EAGAIN);
    lapic_cr8_write(&b->lapics, 0, 2);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 0), ==, 0x31);
    board_destroy(b);
}

static void test_ipi(void)
{
    struct board *b = board_create(4);

    for (unsigned i = 0; i < 4; i++) {
        enable(b, i);
        apic_write(b, i, 0xe0, 0xffffffff);
        apic_write(b, i, 0xd0, 1u << (24 + i));
    }
    /* Physical to CPU 2. */
    apic_write(b, 0, 0x310, 2u << 24);
    apic_write(b, 0, 0x300, 0x40);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 2), ==, 0x40);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 1), ==, -EAGAIN);
    /* Logical to CPUs 1 and 3. */
    apic_write(b, 0, 0x310, 0xau << 24);
    apic_write(b, 0, 0x300, 0x841);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 1), ==, 0x41);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 3), ==, 0x41);
    g_assert_cmpint(lapic_irq_peek(&b->lapics, 2), ==, -EAGAIN);
    /* All but self; self. */
    apic_write(b, 0, 0x300, 0xc0051);
    for (unsigned i = 1; i < 4; i++)
        g_assert_cmpint(lapic_irq_ack(&b->lapics, i), ==, 0x51);
    apic_write(b, 0, 0x300, 0x40052);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 0), ==, 0x52);
    /* NMI is taken once. */
    apic_write(b, 0, 0x310, 1u << 24);
    apic_write(b, 0, 0x300, 0x400);
    g_assert_true(lapic_nmi_take(&b->lapics, 1));
    g_assert_false(lapic_nmi_take(&b->lapics, 1));
    /* Two on their way stay two, more become two. */
    for (unsigned i = 0; i < 3; i++)
        apic_write(b, 0, 0x300, 0x400);
    g_assert_true(lapic_nmi_take(&b->lapics, 1));
    g_assert_true(lapic_nmi_take(&b->lapics, 1));
    g_assert_false(lapic_nmi_take(&b->lapics, 1));
    /* INIT, its de-assert (nothing), SIPI. */
    apic_write(b, 0, 0x300, 0xc500);
    apic_write(b, 0, 0x300, 0x8500);
    apic_write(b, 0, 0x300, 0x699);
    g_assert_cmpuint(b->inits[1], ==, 1);
    g_assert_cmpuint(b->startups[1], ==, 1);
    g_assert_cmphex(b->startup_vector, ==, 0x99);
    /* An illegal vector is an error, not an interrupt. */
    apic_write(b, 0, 0x300, 0x0005);
    apic_write(b, 0, 0x280, 0);
    g_assert_cmphex(apic_read(b, 0, 0x280), ==, 1u << 5);
    board_destroy(b);
}

static void test_x2apic(void)
{
    struct board *b = board_create(3);
    uint64_t value;

    for (unsigned i = 0; i < 3; i++)
        enable(b, i);
    g_assert_cmpint(lapic_msr_read(&b->lapics, 1, 0x802, &value), ==, -EINVAL);
    for (unsigned i = 0; i < 3; i++)
        g_assert_cmpint(lapic_msr_write(&b->lapics, i, 0x1b, 0xfee00c00), ==, 0);
    g_assert_cmpint(lapic_msr_read(&b->lapics, 1, 0x802, &value), ==, 0);
    g_assert_cmpuint(value, ==, 1);
    g_assert_cmpint(lapic_msr_read(&b->lapics, 2, 0x80d, &value), ==, 0);
    g_assert_cmphex(value, ==, 4);
    g_assert_cmphex(apic_read(b, 0, 0x30), ==, 0xffffffff);
    g_assert_cmpint(lapic_msr_write(&b->lapics, 0, 0x830, UINT64_C(2) << 32 | 0x45), ==, 0);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 2), ==, 0x45);
    g_assert_cmpint(lapic_msr_write(&b->lapics, 0, 0x830, UINT64_C(6) << 32 | 0x846), ==, 0);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 1), ==, 0x46);
    g_assert_cmpint(lapic_msr_write(&b->lapics, 2, 0x80b, 0), ==, 0);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 2), ==, 0x46);
    g_assert_cmpint(lapic_msr_write(&b->lapics, 0, 0x83f, 0x47), ==, 0);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 0), ==, 0x47);
    /* Refused: back to xAPIC, bits beyond, read-only and missing registers. */
    g_assert_cmpint(lapic_msr_write(&b->lapics, 0, 0x1b, 0xfee00800), ==, -EINVAL);
    g_assert_cmpint(lapic_msr_write(&b->lapics, 0, 0x1b, UINT64_C(1) << 40 | 0xfee00c00), ==, -EINVAL);
    g_assert_cmpint(lapic_msr_write(&b->lapics, 0, 0x1b, 0xfee00c01), ==, -EINVAL);
    g_assert_cmpint(lapic_msr_write(&b->lapics, 0, 0x802, 1), ==, -EINVAL);
    g_assert_cmpint(lapic_msr_write(&b->lapics, 0, 0x80b, 1), ==, -EINVAL);
    g_assert_cmpint(lapic_msr_write(&b->lapics, 0, 0x808, 0x100), ==, -EINVAL);
    g_assert_cmpint(lapic_msr_read(&b->lapics, 0, 0x80b, &value), ==, -EINVAL);
    g_assert_cmpint(lapic_msr_read(&b->lapics, 0, 0x80e, &value), ==, -EINVAL);
    board_destroy(b);
}

/* Broken if it fails: the window does not follow IA32_APIC_BASE, or a changed xAPIC id is not the one that messages find. */
static void test_base_and_id(void)
{
    struct board *b = board_create(2);
    uint64_t value;

    enable(b, 0);
    enable(b, 1);
    g_assert_true(lapic_claims(&b->lapics, 1, 0xfee00030));
    g_assert_false(lapic_claims(&b->lapics, 1, 0xfee01000));
    g_assert_cmpint(lapic_msr_write(&b->lapics, 1, 0x1b, 0xfed40800), ==, 0);
    g_assert_false(lapic_claims(&b->lapics, 1, 0xfee00030));
    g_assert_true(lapic_claims(&b->lapics, 1, 0xfed40ffc));
    g_assert_true(lapic_claims(&b->lapics, 0, 0xfee00030)); /* the other one has not moved */
    g_assert_cmpint(lapic_msr_read(&b->lapics, 1, 0x1b, &value), ==, 0);
    g_assert_cmphex(value, ==, 0xfed40800);

    apic_write(b, 1, 0x20, 0x77000000);
    g_assert_cmphex(apic_read(b, 1, 0x20), ==, 0x77000000);
    apic_write(b, 0, 0x310, 0x77000000);
    apic_write(b, 0, 0x300, 0x4040);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 1), ==, 0x40);
    /* INIT leaves both; switching off and on again gives the power-up id. */
    lapic_init(&b->lapics, 1);
    g_assert_cmphex(apic_read(b, 1, 0x20), ==, 0x77000000);
    g_assert_cmpint(lapic_msr_write(&b->lapics, 1, 0x1b, 0xfee00000), ==, 0);
    g_assert_false(lapic_claims(&b->lapics, 1, 0xfee00030));
    g_assert_cmpint(lapic_msr_write(&b->lapics, 1, 0x1b, 0xfee00800), ==, 0);
    g_assert_cmphex(apic_read(b, 1, 0x20), ==, 0x01000000);
    /* x2APIC has no window and its own id. */
    g_assert_cmpint(lapic_msr_write(&b->lapics, 1, 0x1b, 0xfee00c00), ==, 0);
    g_assert_false(lapic_claims(&b->lapics, 1, 0xfee00030));
    board_destroy(b);
}

static void wait_vector(struct board *b, int vector)
{
    gint64 give_up = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;

    while (lapic_irq_peek(&b->lapics, 0) != vector) {
        g_assert_cmpint(g_get_monotonic_time(), <, give_up);
        g_usleep(1000);
    }
    lapic_irq_ack(&b->lapics, 0);
    apic_write(b, 0, 0xb0, 0);
}

static void test_timer(void)
{
    struct board *b = board_create(1);
    uint64_t value;

    enable(b, 0);
    apic_write(b, 0, 0x3e0, 0xb);
    apic_write(b, 0, 0x320, 0x60);
    apic_write(b, 0, 0x380, 2000000);
    wait_vector(b, 0x60);
    g_assert_cmpuint(apic_read(b, 0, 0x390), ==, 0);
    apic_write(b, 0, 0x320, 0x20061);
    apic_write(b, 0, 0x380, 1000000);
    wait_vector(b, 0x61);
    wait_vector(b, 0x61);
    apic_write(b, 0, 0x380, 0);
    /* Deadline: passed at once, in the future and never before it is reached, disarmed by a change of mode. */
    apic_write(b, 0, 0x320, 0x40062);
    g_assert_cmpint(lapic_msr_write(&b->lapics, 0, 0x6e0, 1), ==, 0);
    wait_vector(b, 0x62);
    uint64_t deadline = tsc(b, 0) + 1000000;
    g_assert_cmpint(lapic_msr_write(&b->lapics, 0, 0x6e0, deadline), ==, 0);
    wait_vector(b, 0x62);
    g_assert_cmpuint(tsc(b, 0), >=, deadline);
    lapic_msr_write(&b->lapics, 0, 0x6e0, UINT64_MAX);
    lapic_msr_read(&b->lapics, 0, 0x6e0, &value);
    g_assert_cmphex(value, ==, UINT64_MAX);
    apic_write(b, 0, 0x320, 0x63);
    lapic_msr_read(&b->lapics, 0, 0x6e0, &value);
    g_assert_cmphex(value, ==, 0);
    /* Periods that are no whole number of ns, an hour later: one interrupt, and no rounding has added up. */
    timer_queue_stop(b->timers);
    struct lapic_timer *timer = &b->lapics.cpu[0].timer;
    b->lapics.timer_hz = 700000000;
    apic_write(b, 0, 0x320, 0x20064);
    apic_write(b, 0, 0x380, 1000001);
    uint64_t start_ns = timer->due_ns - UINT64_C(1000001) * 10 / 7;
    uint64_t periods = 3600 * UINT64_C(700000000) / 1000001 + 1;
    timer->timer.fire(timer->timer.opaque, start_ns + 3600 * UINT64_C(1000000000));
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 0), ==, 0x64);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 0), ==, -EAGAIN);
    g_assert_cmpuint(timer->due_ns - start_ns, ==, periods * 1000001 * 10 / 7);
    board_destroy(b);
}

static void ioapic_entry(struct board *b, unsigned pin, uint64_t entry)
{
    ioapic_bus_ops.write(&b->ioapic, 0, 0x00, 4, 0x11 + 2 * pin);
    ioapic_bus_ops.write(&b->ioapic, 0, 0x10, 4, entry >> 32);
    ioapic_bus_ops.write(&b->ioapic, 0, 0x00, 4, 0x10 + 2 * pin);
    ioapic_bus_ops.write(&b->ioapic, 0, 0x10, 4, (uint32_t)entry);
}

static void test_ioapic(void)
{
    struct board *b = board_create(2);

    enable(b, 0);
    enable(b, 1);
    /* Edge to CPU 1: once per edge, not while masked. */
    ioapic_entry(b, 4, UINT64_C(1) << 56 | 0x34);
    ioapic_set(&b->ioapic, 4, true);
    ioapic_set(&b->ioapic, 4, true);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 1), ==, 0x34);
    apic_write(b, 1, 0xb0, 0);
    g_assert_cmpint(lapic_irq_peek(&b->lapics, 1), ==, -EAGAIN);
    /* Level to CPU 0: again after each EOI while asserted, silent until then. */
    ioapic_entry(b, 16, 0x8050);
    ioapic_set(&b->ioapic, 16, true);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 0), ==, 0x50);
    ioapic_set(&b->ioapic, 16, true);
    apic_write(b, 0, 0xb0, 0);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 0), ==, 0x50);
    ioapic_set(&b->ioapic, 16, false);
    apic_write(b, 0, 0xb0, 0);
    g_assert_cmpint(lapic_irq_peek(&b->lapics, 0), ==, -EAGAIN);
    /* Asserted while masked: sent when unmasked. */
    ioapic_entry(b, 16, 0x18050);
    ioapic_set(&b->ioapic, 16, true);
    g_assert_cmpint(lapic_irq_peek(&b->lapics, 0), ==, -EAGAIN);
    ioapic_entry(b, 16, 0x8050);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 0), ==, 0x50);
    board_destroy(b);
}

static void pic_setup(struct board *b)
{
    pic_first_ops.write(&b->pic, 0, 0, 1, 0x11);
    pic_first_ops.write(&b->pic, 0, 1, 1, 0x30);
    pic_first_ops.write(&b->pic, 0, 1, 1, 0x04);
    pic_first_ops.write(&b->pic, 0, 1, 1, 0x01);
    pic_second_ops.write(&b->pic, 0, 0, 1, 0x11);
    pic_second_ops.write(&b->pic, 0, 1, 1, 0x38);
    pic_second_ops.write(&b->pic, 0, 1, 1, 0x02);
    pic_second_ops.write(&b->pic, 0, 1, 1, 0x01);
}

static void test_pic(void)
{
    struct board *b = board_create(1);

    pic_setup(b);
    /* Linux probes the pair by the mask register. */
    pic_first_ops.write(&b->pic, 0, 1, 1, 0xfb);
    g_assert_cmphex(pic_first_ops.read(&b->pic, 0, 1, 1), ==, 0xfb);
    pic_first_ops.write(&b->pic, 0, 1, 1, 0x00);
    pic_second_ops.write(&b->pic, 0, 1, 1, 0x00);
    /* Through LINT0 of CPU 0; higher priority first; specific order kept through EOI. */
    pic_set(&b->pic, 4, true);
    pic_set(&b->pic, 12, true);
    g_assert_cmpint(lapic_irq_peek(&b->lapics, 0), ==, 0x3c);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 0), ==, 0x3c);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 0), ==, -EAGAIN);
    pic_second_ops.write(&b->pic, 0, 0, 1, 0x20);
    pic_first_ops.write(&b->pic, 0, 0, 1, 0x20);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 0), ==, 0x34);
    pic_first_ops.write(&b->pic, 0, 0, 1, 0x20);
    /* An edge that goes away before INTA leaves nothing behind. */
    pic_set(&b->pic, 5, true);
    pic_set(&b->pic, 5, false);
    g_assert_cmpint(lapic_irq_peek(&b->lapics, 0), ==, -EAGAIN);
    /* Level by ELCR: comes again while asserted. */
    pic_elcr_ops.write(&b->pic, 0, 1, 1, 0x02);
    pic_set(&b->pic, 9, true);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 0), ==, 0x39);
    pic_second_ops.write(&b->pic, 0, 0, 1, 0x20);
    pic_first_ops.write(&b->pic, 0, 0, 1, 0x20);
    g_assert_cmpint(lapic_irq_ack(&b->lapics, 0), ==, 0x39);
    /* Masked at LINT0: nothing arrives. */
    apic_write(b, 0, 0x350, 0x10700);
    pic_set(&b->pic, 0, true);
    g_assert_cmpint(lapic_irq_peek(&b->lapics, 0), ==, -EAGAIN);
    board_destroy(b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/lapic/priority", test_priority);
    g_test_add_func("/lapic/ipi", test_ipi);
    g_test_add_func("/lapic/x2apic", test_x2apic);
    g_test_add_func("/lapic/base-and-id", test_base_and_id);
    g_test_add_func("/lapic/timer", test_timer);
    g_test_add_func("/ioapic/edge-and-level", test_ioapic);
    g_test_add_func("/pic/pair", test_pic);
    return g_test_run();
}
