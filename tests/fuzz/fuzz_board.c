/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes what a guest can reach: the input is a list of accesses (ports, registers, configuration space, a virtio
 * function's BAR, MSRs, interrupts) to the whole board, by two CPUs. No list may crash it or read outside a register.
 */
#include <stdlib.h>
#include <string.h>

#include "vmm/virtio/virtio_pci.h"
#include "vmm/x86/pc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* One access; what its fields mean depends on `kind`. */
struct step {
    uint8_t kind, size, window, cpu;
    uint32_t offset;
    uint64_t value;
};
_Static_assert(sizeof(struct step) == 16, "inputs are made of these");

enum {
    STEP_PORT_READ,
    STEP_PORT_WRITE,
    STEP_READ,
    STEP_WRITE,
    STEP_MSR_READ,
    STEP_MSR_WRITE,
    STEP_INTERRUPT,
    STEP_EVENT
};

static struct pc *pc;
static struct virtio_pci *virtio;

/* vmm/vcpus.c wants one; no vCPU is made here. */
int accel_cpu_model(const struct accel_ops *ops, const struct accel_cpu_model_config *config,
                    struct accel_cpuid *leaves)
{
    return -1;
}

static size_t swallow(void *opaque, const uint8_t *bytes, size_t count)
{
    return count & 7;
}

static void ignore(void *opaque)
{
}

static void ignore_power(void *opaque, enum acpi_pm_request request)
{
}

static int backend_start(void *opaque, uint64_t features, const struct virtio_ring_setup *rings,
                         unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (rings[i].index >= 3 || rings[i].size == 0 || rings[i].size > 256)
            abort();
    return count == 2 ? -1 : 0;
}

static bool backend_alive(void *opaque)
{
    return true;
}

static void backend_config_read(void *opaque, unsigned offset, void *buffer, unsigned bytes)
{
    if (offset + bytes > 60)
        abort();
    memset(buffer, 0x5a, bytes);
}

static void backend_config_write(void *opaque, unsigned offset, const void *data, unsigned bytes)
{
    if (offset + bytes > 60)
        abort();
}

static void backend_kick(void *opaque, unsigned queue)
{
    if (queue >= 3)
        abort();
}

static void send_msi(void *opaque, uint64_t address, uint32_t data)
{
    lapic_msi(&pc->lapics, address, data);
}

static void set_intx(void *opaque, unsigned slot, bool level)
{
    pc_pci_intx(pc, slot, level);
}

static void set_up(void)
{
    static const struct virtio_backend_ops ops = {
        backend_start, ignore, backend_alive, backend_config_read, backend_config_write, backend_kick,
    };
    const struct pc_config board = {
        .cpus = 2, .ram_bytes = 64 * MIB, .console = {swallow, ignore, NULL}, .power = ignore_power};
    const struct virtio_pci_config function = {
        .device_type = 2,
        .features = VIRTIO_F_VERSION_1 | 0xff,
        .queues = 3,
        .queue_size_max = 256,
        .config_bytes = 60,
        .ops = &ops,
        .msi = send_msi,
        .intx = set_intx,
    };

    if (pc_create(&board, &pc) < 0 || virtio_pci_create(&function, &virtio) < 0 ||
        pci_host_add(&pc->pci, &virtio->function) != 1)
        abort();
    virtio->slot = 1;
}

static uint64_t window_base(uint8_t window)
{
    switch (window % 6) {
    case 0:
        return LAPIC_BASE;
    case 1:
        return IOAPIC_BASE;
    case 2:
        return LAYOUT_ECAM_BASE + (1 << 15); /* the virtio function */
    case 3:
        return LAYOUT_BAR32_BASE;
    case 4:
        return layout_high_window(64 * MIB);
    default:
        return 0;
    }
}

static void run(const struct step *step)
{
    const struct accel_host_ops *ops = &pc_accel_ops;
    unsigned cpu = step->cpu & 1, size = 1u << (step->size & 3);
    uint64_t at = window_base(step->window) + step->offset, value;

    switch (step->kind % 8) {
    case STEP_PORT_READ:
        ops->io_read(pc, cpu, ACCEL_IO_PIO, step->offset & 0xffff, size > 4 ? 4 : size);
        break;
    case STEP_PORT_WRITE:
        ops->io_write(pc, cpu, ACCEL_IO_PIO, step->offset & 0xffff, size > 4 ? 4 : size, step->value);
        break;
    case STEP_READ:
        value = ops->io_read(pc, cpu, ACCEL_IO_MMIO, at, size);
        if (size < 8 && value >> (size * 8))
            abort();
        break;
    case STEP_WRITE:
        ops->io_write(pc, cpu, ACCEL_IO_MMIO, at, size, step->value);
        break;
    case STEP_MSR_READ:
        ops->msr_read(pc, cpu, step->offset & 0xfff, &value);
        break;
    case STEP_MSR_WRITE:
        ops->msr_write(pc, cpu, step->offset & 0xfff, step->value);
        break;
    case STEP_INTERRUPT:
        if (ops->irq_peek(pc, cpu) >= 256 || ops->irq_ack(pc, cpu) >= 256)
            abort();
        ops->nmi_take(pc, cpu);
        ops->cr8_write(pc, cpu, (uint8_t)step->value);
        break;
    default:
        if (step->size & 1)
            virtio_pci_interrupt(virtio, step->offset % 3);
        else if (step->size & 2)
            virtio_pci_needs_reset(virtio);
        else
            acpi_pm_power_button(&pc->pm);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (!pc)
        set_up();
    pc_reset(pc);
    for (size_t at = 0; at + sizeof(struct step) <= bytes && at < 512 * sizeof(struct step);
         at += sizeof(struct step)) {
        struct step step;

        memcpy(&step, data + at, sizeof(step));
        run(&step);
    }
    return 0;
}
