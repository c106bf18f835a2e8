/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board with vCPU threads over a fake accelerator. Broken if these fail: a halted CPU sleeps through its interrupt,
 * application processors do not start, a reset leaves something running, or a hostile access crashes the VMM.
 */
#include "tests/vmm/fake_accel.h"
#include "vmm/ram.h"
#include "vmm/vcpus.h"
#include "vmm/x86/pc.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

struct bench {
    struct pc *pc;
    struct vcpus *vcpus;
    _Atomic unsigned resets, shutdowns, triple_faults, failures, inits;
    _Atomic unsigned step;
};

static struct bench *bench;

static size_t swallow(void *opaque, const uint8_t *bytes, size_t count)
{
    return count;
}

static void ignore(void *opaque)
{
}

static void on_power(void *opaque, enum acpi_pm_request request)
{
    vcpus_request_park(bench->vcpus);
    if (request == ACPI_PM_RESET)
        bench->resets++;
    else
        bench->shutdowns++;
}

static void on_init(void *opaque, unsigned cpu)
{
    lapic_init(&bench->pc->lapics, cpu);
    bench->inits++;
}

static void on_triple_fault(void *opaque, unsigned cpu)
{
    bench->triple_faults++;
}

static void on_failed(void *opaque, unsigned cpu, const char *why)
{
    g_assert_cmpstr(why, ==, "fake vCPU 0");
    bench->failures++;
}

static void bench_create(unsigned cpus, enum accel_exit (*program)(struct fake_guest *, unsigned))
{
    struct pc_config pc = {
        .cpus = cpus, .ram_bytes = 64 * MIB, .console = {swallow, ignore, NULL}, .power = on_power};
    struct vcpus_config vcpus = {
        .ops = &fake_accel_ops,
        .count = cpus,
        .cpu_model = "v2",
        .host = {on_init, on_triple_fault, on_failed, NULL},
    };
    struct accel_vm_config vm = {.max_vcpus = cpus, .host_ops = &pc_accel_ops};
    char why[256];

    bench = g_new0(struct bench, 1);
    memset(&fake_guest, 0, sizeof(fake_guest));
    fake_guest.program = program;
    g_assert_cmpint(pc_create(&pc, &bench->pc), ==, 0);
    vm.opaque = bench->pc;
    g_assert_cmpint(fake_accel_ops.vm_create(&vm, &vcpus.vm), ==, 0);
    g_assert_cmpint(vcpus_create(&vcpus, &bench->vcpus, why, sizeof(why)), ==, 0);
    pc_attach(bench->pc, bench->vcpus);
}

static void bench_destroy(void)
{
    pc_stop_timers(bench->pc);
    vcpus_destroy(bench->vcpus);
    pc_destroy(bench->pc);
    g_free(bench);
}

static void prepare(void *opaque, struct x86_vcpu_state *state)
{
    state->rip = 0x1000;
}

static void wait_until(_Atomic unsigned *counter, unsigned value)
{
    gint64 give_up = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;

    while (*counter < value) {
        g_assert_cmpint(g_get_monotonic_time(), <, give_up);
        g_usleep(500);
    }
}

static void apic_write(struct fake_guest *guest, unsigned cpu, uint32_t reg, uint32_t value)
{
    guest->host->io_write(guest->host_opaque, cpu, ACCEL_IO_MMIO, LAPIC_BASE + reg, 4, value);
}

/* Halts until its timer has fired five times, then shuts down by ACPI. */
static enum accel_exit timer_program(struct fake_guest *guest, unsigned cpu)
{
    const struct accel_host_ops *host = guest->host;
    int vector;

    if (bench->step == 0) {
        g_assert_cmphex(guest->state[0].rip, ==, 0x1000);
        apic_write(guest, cpu, 0xf0, 0x1ff);
        apic_write(guest, cpu, 0x350, 0x10000);
        apic_write(guest, cpu, 0x3e0, 0xb);
        apic_write(guest, cpu, 0x320, 0x200a0);
        apic_write(guest, cpu, 0x380, 1000000);
        bench->step = 1;
    }
    while ((vector = host->irq_ack(guest->host_opaque, cpu)) >= 0) {
        g_assert_cmphex(vector, ==, 0xa0);
        apic_write(guest, cpu, 0xb0, 0);
        if (++bench->step == 6)
            host->io_write(guest->host_opaque, cpu, ACCEL_IO_PIO, 0x604, 2, 5 << 10 | 1 << 13);
    }
    return ACCEL_EXIT_HLT;
}

static void test_timer(void)
{
    bench_create(1, timer_program);
    vcpus_start(bench->vcpus, prepare, NULL);
    wait_until(&bench->shutdowns, 1);
    vcpus_park(bench->vcpus);
    /* A halted CPU is not run in a loop: about once per interrupt. */
    g_assert_cmpuint(fake_guest.runs[0], <, 50);
    bench_destroy();
}

/* CPU 0 starts all others by INIT and SIPI; each answers with an IPI; CPU 0 then resets the machine. */
static enum accel_exit smp_program(struct fake_guest *guest, unsigned cpu)
{
    int vector;

    if (cpu != 0) {
        g_assert_cmphex(guest->state[cpu].seg[X86_CS].base, ==, 0x9a000);
        g_assert_cmphex(guest->state[cpu].seg[X86_CS].selector, ==, 0x9a00);
        if (guest->runs[cpu] == 1 || guest->state[cpu].gpr[0] == 0) {
            guest->state[cpu].gpr[0] = 1;
            apic_write(guest, cpu, 0xf0, 0x1ff);
            apic_write(guest, cpu, 0x310, 0);
            apic_write(guest, cpu, 0x300, 0x80 + (cpu << 4));
        }
        return ACCEL_EXIT_HLT;
    }
    if (bench->step == 0) {
        bench->step = 1;
        apic_write(guest, cpu, 0xf0, 0x1ff);
        apic_write(guest, cpu, 0x350, 0x10000);
        apic_write(guest, cpu, 0x300, 0xc4500);
        apic_write(guest, cpu, 0x300, 0xc469a);
        apic_write(guest, cpu, 0x300, 0xc469a);
    }
    while ((vector = guest->host->irq_ack(guest->host_opaque, cpu)) >= 0) {
        apic_write(guest, cpu, 0xb0, 0);
        if (++bench->step == 4)
            guest->host->io_write(guest->host_opaque, cpu, ACCEL_IO_PIO, 0xcf9, 1, 6);
    }
    return ACCEL_EXIT_HLT;
}

static void test_smp_and_reset(void)
{
    bench_create(4, smp_program);
    for (unsigned round = 1; round <= 20; round++) {
        bench->step = 0;
        vcpus_start(bench->vcpus, prepare, NULL);
        wait_until(&bench->resets, round);
        vcpus_park(bench->vcpus);
        pc_reset(bench->pc);
        for (unsigned cpu = 1; cpu < 4; cpu++)
            fake_guest.state[cpu].gpr[0] = 0;
    }
    g_assert_cmpuint(bench->inits, ==, 20 * 3);
    bench_destroy();
}

static enum accel_exit dying_program(struct fake_guest *guest, unsigned cpu)
{
    return bench->step++ == 0 ? ACCEL_EXIT_SHUTDOWN : ACCEL_EXIT_FATAL;
}

static void test_death(void)
{
    bench_create(2, dying_program);
    vcpus_start(bench->vcpus, prepare, NULL);
    wait_until(&bench->triple_faults, 1);
    vcpus_park(bench->vcpus);
    vcpus_start(bench->vcpus, prepare, NULL);
    wait_until(&bench->failures, 1);
    bench_destroy();
}

static void test_create_failure(void)
{
    struct vcpus_config config = {.ops = &fake_accel_ops, .count = 4, .cpu_model = "v2"};
    struct vcpus *vcpus;
    char why[256];

    memset(&fake_guest, 0, sizeof(fake_guest));
    fake_guest.fail_create = 3;
    g_assert_cmpint(vcpus_create(&config, &vcpus, why, sizeof(why)), ==, -ENOMEM);
    g_assert_cmpstr(why, !=, "");
    fake_guest.fail_create = 0;
    config.cpu_model = "none";
    g_assert_cmpint(vcpus_create(&config, &vcpus, why, sizeof(why)), ==, -EINVAL);
}

/* Interrupts from other threads while the CPU halts again and again: none may be slept through. */
static enum accel_exit counting_program(struct fake_guest *guest, unsigned cpu)
{
    if (bench->inits == 0) {
        apic_write(guest, cpu, 0xf0, 0x1ff);
        apic_write(guest, cpu, 0x350, 0x10000);
        bench->inits = 1;
    }
    while (guest->host->irq_ack(guest->host_opaque, cpu) >= 0) {
        apic_write(guest, cpu, 0xb0, 0);
        bench->step++;
    }
    return ACCEL_EXIT_HLT;
}

static void test_no_lost_wakeup(void)
{
    bench_create(1, counting_program);
    vcpus_start(bench->vcpus, prepare, NULL);
    wait_until(&bench->inits, 1);
    for (unsigned i = 1; i <= 20000; i++) {
        gint64 give_up = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;

        lapic_msi(&bench->pc->lapics, LAPIC_BASE, 0x55);
        while (bench->step < i)
            if (g_get_monotonic_time() > give_up)
                g_assert_not_reached();
    }
    vcpus_park(bench->vcpus);
    bench_destroy();
}

/* Every size and alignment over every port and every register window, with odd values. */
static void hostile_access(enum accel_io_space space, uint64_t base, uint64_t bytes, uint64_t step)
{
    static const uint64_t values[] = {0, UINT64_MAX, 0xa5a5a5a5a5a5a5a5, 0x8000000000000001};
    const struct accel_host_ops *host = &pc_accel_ops;

    for (unsigned size = 1; size <= (space == ACCEL_IO_PIO ? 4 : 8); size *= 2) {
        for (uint64_t at = base; at - base < bytes; at += step) {
            host->io_read(bench->pc, 1, space, at, size);
            for (size_t i = 0; i < G_N_ELEMENTS(values); i++)
                host->io_write(bench->pc, 1, space, at, size, values[i]);
            host->io_read(bench->pc, 0, space, at, size);
        }
    }
}

static enum accel_exit idle_program(struct fake_guest *guest, unsigned cpu)
{
    guest->host->irq_peek(guest->host_opaque, cpu);
    return ACCEL_EXIT_HLT;
}

static void test_hostile(void)
{
    const struct accel_host_ops *host = &pc_accel_ops;
    uint64_t value;

    bench_create(2, idle_program);
    vcpus_start(bench->vcpus, prepare, NULL);
    hostile_access(ACCEL_IO_PIO, 0, 0x10000, 1);
    hostile_access(ACCEL_IO_MMIO, LAPIC_BASE - 8, 0x1010, 1);
    hostile_access(ACCEL_IO_MMIO, IOAPIC_BASE - 8, 0x1010, 1);
    hostile_access(ACCEL_IO_MMIO, LAYOUT_ECAM_BASE, 0x2000, 1);
    hostile_access(ACCEL_IO_MMIO, LAYOUT_ECAM_BASE, LAYOUT_ECAM_BYTES, 0x10003);
    hostile_access(ACCEL_IO_MMIO, 0, 0x140000000, 0x100001);
    hostile_access(ACCEL_IO_MMIO, UINT64_MAX - 16, 16, 1);
    for (uint32_t msr = 0; msr < 0x1000; msr++) {
        for (unsigned bit = 0; bit < 64; bit++)
            host->msr_write(bench->pc, 0, msr, UINT64_C(1) << bit);
        host->msr_write(bench->pc, 0, msr, 0xfee00c00);
        host->msr_read(bench->pc, 0, msr, &value);
    }
    for (unsigned i = 0; i < 1000; i++) {
        host->irq_peek(bench->pc, i & 1);
        host->irq_ack(bench->pc, i & 1);
        host->nmi_take(bench->pc, i & 1);
        host->cr8_write(bench->pc, i & 1, (uint8_t)i);
    }
    vcpus_park(bench->vcpus);
    pc_reset(bench->pc);
    g_assert_cmpuint(bench->resets, >, 0);
    bench_destroy();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/machine/timer", test_timer);
    g_test_add_func("/machine/smp-and-reset", test_smp_and_reset);
    g_test_add_func("/machine/death", test_death);
    g_test_add_func("/machine/create-failure", test_create_failure);
    g_test_add_func("/machine/no-lost-wakeup", test_no_lost_wakeup);
    g_test_add_func("/machine/hostile", test_hostile);
    return g_test_run();
}
