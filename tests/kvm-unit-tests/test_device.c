/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_device: what kvm-unit-tests expects of its test machine and no product needs. The program that `run` uses is
 * bulkhead-vmm with three functions wrapped: pc_create() also puts these on the buses, machine_run() ends with the
 * status that the guest gave, and pc_reset() ends the machine: a test that resets it has crashed.
 *
 *   port 0xe0, 4 bytes    reads what was written last
 *   port 0xe4, 4 bytes    swallows writes (QEMU unmaps the page for a moment, which a guest cannot notice)
 *   port 0xf4, 4 bytes    ends the machine, its status is value + 32
 *   port 0x2000 + n       level of input n of the interrupt controllers, 24 of them
 *   0xff000000, 64 KiB    memory that is reached as a device
 */
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/units.h"
#include "vmm/machine.h"
#include "vmm/x86/pc.h"

#define PORT_ECHO        0xe0u
#define PORT_FLUSH       0xe4u
#define PORT_EXIT        0xf4u
#define EXIT_RESET       2
#define EXIT_STATUS_BASE 32 /* apart from what the VMM's own ends give */
#define PORT_LINES       0x2000u
#define MEMORY_BASE      UINT64_C(0xff000000)
#define MEMORY_SIZE      0x10000u

static uint8_t echo[4], memory[MEMORY_SIZE];
static _Atomic int exit_status = -1;

static uint64_t echo_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, (uint8_t *)device + offset, size);
    return value;
}

static void echo_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    memcpy((uint8_t *)device + offset, &value, size);
}

static uint64_t nothing_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    return 0;
}

static void nothing_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
}

/* The main loop flushes the console on its way out. */
static void end(int status)
{
    atomic_store(&exit_status, status);
    kill(getpid(), SIGTERM);
}

static void exit_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    end((int)(value + EXIT_STATUS_BASE) & 0xff);
}

static void lines_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct pc *pc = device;

    if (offset < 16)
        pic_set(&pc->pic, (unsigned)offset, value != 0);
    ioapic_set(&pc->ioapic, offset == LAYOUT_IRQ_TIMER ? LAYOUT_GSI_TIMER : (unsigned)offset, value != 0);
}

static const struct bus_ops echo_ops = {.read = echo_read, .write = echo_write};
static const struct bus_ops nothing_ops = {.read = nothing_read, .write = nothing_write};
static const struct bus_ops exit_ops = {.read = nothing_read, .write = exit_write};
static const struct bus_ops lines_ops = {.read = nothing_read, .write = lines_write};

int __real_pc_create(const struct pc_config *config, struct pc **ret_pc);
int __wrap_pc_create(const struct pc_config *config, struct pc **ret_pc);
void __real_pc_reset(struct pc *pc);
void __wrap_pc_reset(struct pc *pc);
int __real_machine_run(struct options *options);
int __wrap_machine_run(struct options *options);

int __wrap_pc_create(const struct pc_config *config, struct pc **ret_pc)
{
    int result = __real_pc_create(config, ret_pc);

    if (result < 0)
        return result;
    const struct bus_range ports[] = {
        {PORT_ECHO, sizeof(echo), 4, &echo_ops, echo},
        {PORT_FLUSH, 4, 4, &nothing_ops, NULL},
        {PORT_EXIT, 4, 4, &exit_ops, NULL},
        {PORT_LINES, IOAPIC_PINS, 1, &lines_ops, *ret_pc},
    };
    const struct bus_range window = {MEMORY_BASE, MEMORY_SIZE, 8, &echo_ops, memory};

    for (size_t i = 0; i < ARRAY_LEN(ports) && result == 0; i++)
        result = bus_add(&(*ret_pc)->pio, &ports[i]);
    if (result == 0)
        result = bus_add(&(*ret_pc)->mmio, &window);
    if (result < 0)
        pc_destroy(*ret_pc);
    return result;
}

void __wrap_pc_reset(struct pc *pc)
{
    __real_pc_reset(pc);
    end(EXIT_RESET);
}

int __wrap_machine_run(struct options *options)
{
    int result = __real_machine_run(options);
    int status = atomic_load(&exit_status);

    return status < 0 ? result : status;
}
