/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/x86/pc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/x86/acpi_tables.h"

#define PCI_PORTS        0xcf8u
#define PCI_PORT_BYTES   8u
#define UNKNOWN_CLOCK_HZ 1000000000u /* until pc_set_clocks() */

/* --- wires --- */

static void isa_irq(void *opaque, unsigned irq, bool level)
{
    struct pc *pc = opaque;

    pic_set(&pc->pic, irq, level);
    ioapic_set(&pc->ioapic, irq == LAYOUT_IRQ_TIMER ? LAYOUT_GSI_TIMER : irq, level);
}

static struct irq_line isa_line(struct pc *pc, unsigned irq)
{
    return (struct irq_line){.set = isa_irq, .opaque = pc, .irq = irq};
}

void pc_pci_intx(struct pc *pc, unsigned slot, bool level)
{
    unsigned line = slot % LAYOUT_PCI_LINES;

    pthread_mutex_lock(&pc->pci_lines_lock);
    pc->pci_lines[line] += level ? 1 : -1u;
    ioapic_set(&pc->ioapic, LAYOUT_GSI_PCI + line, pc->pci_lines[line] > 0);
    pthread_mutex_unlock(&pc->pci_lines_lock);
}

static void pic_output(void *opaque)
{
    struct pc *pc = opaque;

    lapic_extint_raise(&pc->lapics);
}

static void apic_notify(void *opaque, unsigned cpu)
{
    struct pc *pc = opaque;

    if (pc->vcpus)
        vcpus_notify(pc->vcpus, cpu);
}

static void apic_init(void *opaque, unsigned cpu)
{
    struct pc *pc = opaque;

    if (pc->vcpus)
        vcpus_request_init(pc->vcpus, cpu);
}

static void apic_startup(void *opaque, unsigned cpu, uint8_t vector)
{
    struct pc *pc = opaque;

    if (pc->vcpus)
        vcpus_request_startup(pc->vcpus, cpu, vector);
}

static uint64_t apic_tsc(void *opaque, unsigned cpu)
{
    struct pc *pc = opaque;

    return pc->vcpus ? vcpus_tsc(pc->vcpus, cpu) : 0;
}

static int apic_extint_peek(void *opaque)
{
    struct pc *pc = opaque;

    return pic_peek(&pc->pic);
}

static int apic_extint_ack(void *opaque)
{
    struct pc *pc = opaque;

    return pic_ack(&pc->pic);
}

static void apic_eoi(void *opaque, uint8_t vector)
{
    struct pc *pc = opaque;

    ioapic_eoi(&pc->ioapic, vector);
}

/* --- what the accelerator asks --- */

static uint64_t host_io_read(void *opaque, unsigned vcpu, enum accel_io_space space, uint64_t addr,
                             unsigned size)
{
    struct pc *pc = opaque;

    if (space == ACCEL_IO_PIO)
        return bus_read(&pc->pio, vcpu, addr, size);
    if (lapic_claims(&pc->lapics, vcpu, addr)) /* never across its end: a device access lies within a page */
        return lapic_bus_ops.read(&pc->lapics, vcpu, addr % LAPIC_WINDOW_BYTES, size);
    return bus_read(&pc->mmio, vcpu, addr, size);
}

static void host_io_write(void *opaque, unsigned vcpu, enum accel_io_space space, uint64_t addr,
                          unsigned size, uint64_t data)
{
    struct pc *pc = opaque;

    if (space == ACCEL_IO_PIO)
        bus_write(&pc->pio, vcpu, addr, size, data);
    else if (lapic_claims(&pc->lapics, vcpu, addr))
        lapic_bus_ops.write(&pc->lapics, vcpu, addr % LAPIC_WINDOW_BYTES, size, data);
    else
        bus_write(&pc->mmio, vcpu, addr, size, data);
}

static int host_irq_peek(void *opaque, unsigned vcpu)
{
    struct pc *pc = opaque;

    return lapic_irq_peek(&pc->lapics, vcpu);
}

static int host_irq_ack(void *opaque, unsigned vcpu)
{
    struct pc *pc = opaque;

    return lapic_irq_ack(&pc->lapics, vcpu);
}

static bool host_nmi_take(void *opaque, unsigned vcpu)
{
    struct pc *pc = opaque;

    return lapic_nmi_take(&pc->lapics, vcpu);
}

static int host_msr_read(void *opaque, unsigned vcpu, uint32_t msr, uint64_t *ret_value)
{
    struct pc *pc = opaque;

    return lapic_msr_read(&pc->lapics, vcpu, msr, ret_value);
}

static int host_msr_write(void *opaque, unsigned vcpu, uint32_t msr, uint64_t value)
{
    struct pc *pc = opaque;

    return lapic_msr_write(&pc->lapics, vcpu, msr, value);
}

static uint8_t host_cr8_read(void *opaque, unsigned vcpu)
{
    struct pc *pc = opaque;

    return lapic_cr8_read(&pc->lapics, vcpu);
}

static void host_cr8_write(void *opaque, unsigned vcpu, uint8_t value)
{
    struct pc *pc = opaque;

    lapic_cr8_write(&pc->lapics, vcpu, value);
}

const struct accel_host_ops pc_accel_ops = {
    .io_read = host_io_read,
    .io_write = host_io_write,
    .irq_peek = host_irq_peek,
    .irq_ack = host_irq_ack,
    .nmi_take = host_nmi_take,
    .msr_read = host_msr_read,
    .msr_write = host_msr_write,
    .cr8_read = host_cr8_read,
    .cr8_write = host_cr8_write,
};

/* --- ports 0xcf8-0xcff: the bridge's two dwords, with the reset register in the middle of the first --- */

static uint64_t config_port_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    struct pc *pc = device;

    if (offset == ACPI_PM_RESET_PORT - PCI_PORTS && size == 1)
        return acpi_pm_reset_ops.read(&pc->pm, vcpu, 0, 1);
    return pci_host_port_ops.read(&pc->pci, vcpu, offset, size);
}

static void config_port_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct pc *pc = device;

    if (offset == ACPI_PM_RESET_PORT - PCI_PORTS && size == 1)
        acpi_pm_reset_ops.write(&pc->pm, vcpu, 0, 1, value);
    else
        pci_host_port_ops.write(&pc->pci, vcpu, offset, size, value);
}

static const struct bus_ops config_port_ops = {.read = config_port_read, .write = config_port_write};

/* --- building --- */

static int populate_buses(struct pc *pc, uint64_t ram_bytes)
{
    const struct bus_range ports[] = {
        {0x20, 2, 1, &pic_first_ops, &pc->pic},
        {0xa0, 2, 1, &pic_second_ops, &pc->pic},
        {0x4d0, 2, 1, &pic_elcr_ops, &pc->pic},
        {0x40, 4, 1, &pit_bus_ops, &pc->pit},
        {0x61, 1, 1, &pit_port61_ops, &pc->pit},
        {0x64, 1, 1, &acpi_pm_keyboard_ops, &pc->pm},
        {0x70, 2, 1, &rtc_bus_ops, &pc->rtc},
        {0x92, 1, 1, &acpi_pm_port92_ops, &pc->pm},
        {LAYOUT_COM1_PORT, 8, 1, &uart_bus_ops, &pc->com1},
        {ACPI_PM_BASE, ACPI_PM_BYTES, 4, &acpi_pm_bus_ops, &pc->pm},
        {PCI_PORTS, PCI_PORT_BYTES, 4, &config_port_ops, pc},
    };
    const struct bus_range memory[] = {
        {IOAPIC_BASE, IOAPIC_WINDOW_BYTES, 4, &ioapic_bus_ops, &pc->ioapic},
        {LAYOUT_ECAM_BASE, LAYOUT_ECAM_BYTES, 4, &pci_host_ecam_ops, &pc->pci},
        {LAYOUT_BAR32_BASE, LAYOUT_BAR32_BYTES, 8, &pci_host_window32_ops, &pc->pci},
        {layout_high_window(ram_bytes), LAYOUT_BAR64_BYTES, 8, &pci_host_window64_ops, &pc->pci},
    };
    int result = 0;

    for (size_t i = 0; i < ARRAY_LEN(ports) && result == 0; i++)
        result = bus_add(&pc->pio, &ports[i]);
    for (size_t i = 0; i < ARRAY_LEN(memory) && result == 0; i++)
        result = bus_add(&pc->mmio, &memory[i]);
    return result;
}

static int build_rom(struct pc *pc, const struct pc_config *config)
{
    const struct acpi_config acpi = {.cpus = config->cpus, .ram_bytes = config->ram_bytes};
    void *rom = mmap(NULL, LAYOUT_ROM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int result;

    if (rom == MAP_FAILED)
        return -errno;
    pc->rom = rom;
    result = acpi_tables_build(&acpi, LAYOUT_ROM_BASE, pc->rom, LAYOUT_ROM_BYTES);
    return result < 0 ? result : 0;
}

static int init_chips(struct pc *pc, const struct pc_config *config)
{
    const struct lapic_config lapics = {
        .cpus = config->cpus,
        .timer_hz = UNKNOWN_CLOCK_HZ,
        .tsc_khz = UNKNOWN_CLOCK_HZ / 1000,
        .host = {.notify = apic_notify,
                 .init = apic_init,
                 .startup = apic_startup,
                 .tsc = apic_tsc,
                 .extint_peek = apic_extint_peek,
                 .extint_ack = apic_extint_ack,
                 .eoi = apic_eoi,
                 .opaque = pc},
    };
    struct irq_line timer = isa_line(pc, LAYOUT_IRQ_TIMER), com1 = isa_line(pc, LAYOUT_IRQ_COM1);
    struct irq_line rtc = isa_line(pc, LAYOUT_IRQ_RTC), sci = isa_line(pc, LAYOUT_IRQ_SCI);
    int result = lapic_set_init(&pc->lapics, pc->timers, &lapics);

    if (result < 0)
        return result;
    pthread_mutex_init(&pc->pci_lines_lock, NULL);
    pci_host_init(&pc->pci, LAYOUT_BAR32_BASE, LAYOUT_BAR32_BYTES, layout_high_window(config->ram_bytes));
    ioapic_init(&pc->ioapic, &pc->lapics);
    pic_init(&pc->pic, pic_output, pc);
    pit_init(&pc->pit, pc->timers, &timer);
    rtc_init(&pc->rtc, pc->timers, &rtc);
    uart_init(&pc->com1, &config->console, &com1);
    acpi_pm_init(&pc->pm, pc->timers, &sci, config->power, config->opaque);
    return 0;
}

static void finish_chips(struct pc *pc)
{
    acpi_pm_finish(&pc->pm);
    uart_finish(&pc->com1);
    rtc_finish(&pc->rtc);
    pit_finish(&pc->pit);
    pic_finish(&pc->pic);
    ioapic_finish(&pc->ioapic);
    pci_host_finish(&pc->pci);
    pthread_mutex_destroy(&pc->pci_lines_lock);
    lapic_set_finish(&pc->lapics);
}

int pc_create(const struct pc_config *config, struct pc **ret_pc)
{
    struct pc *pc = calloc(1, sizeof(*pc));
    int result;

    if (!pc)
        return -ENOMEM;
    result = timer_queue_create(&pc->timers);
    if (result == 0)
        result = init_chips(pc, config);
    if (result < 0) {
        timer_queue_destroy(pc->timers);
        free(pc);
        return result;
    }
    result = build_rom(pc, config);
    if (result == 0)
        result = populate_buses(pc, config->ram_bytes);
    if (result < 0) {
        pc_destroy(pc);
        return result;
    }
    *ret_pc = pc;
    return 0;
}

void pc_stop_timers(struct pc *pc)
{
    timer_queue_stop(pc->timers);
}

void pc_destroy(struct pc *pc)
{
    if (!pc)
        return;
    timer_queue_stop(pc->timers);
    finish_chips(pc);
    timer_queue_destroy(pc->timers);
    if (pc->rom)
        munmap(pc->rom, LAYOUT_ROM_BYTES);
    free(pc);
}

void pc_set_clocks(struct pc *pc, uint32_t tsc_khz, uint64_t apic_timer_hz)
{
    pc->lapics.tsc_khz = tsc_khz;
    pc->lapics.timer_hz = apic_timer_hz;
}

void pc_attach(struct pc *pc, struct vcpus *vcpus)
{
    pc->vcpus = vcpus;
}

void pc_reset(struct pc *pc)
{
    pci_host_reset(&pc->pci); /* first: device servers let go of guest memory */
    pit_reset(&pc->pit);
    rtc_reset(&pc->rtc);
    uart_reset(&pc->com1);
    acpi_pm_reset(&pc->pm);
    pic_reset(&pc->pic);
    ioapic_reset(&pc->ioapic);
    lapic_set_reset(&pc->lapics);
}

unsigned pc_slots(struct pc *pc, const struct ram *ram, struct accel_slot *slots)
{
    unsigned count = 0;

    for (unsigned i = 0; i < ram->region_count; i++)
        slots[count++] = (struct accel_slot){
            .gpa = ram->regions[i].gpa, .bytes = ram->regions[i].bytes, .host = ram->regions[i].host};
    slots[count++] = (struct accel_slot){
        .gpa = LAYOUT_ROM_BASE, .bytes = LAYOUT_ROM_BYTES, .host = pc->rom, .readonly = true};
    return count;
}
