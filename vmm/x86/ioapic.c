/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/x86/ioapic.h"

#include <string.h>

enum { WINDOW_SELECT = 0x00, WINDOW_DATA = 0x10, WINDOW_EOI = 0x40 };
enum { REG_ID = 0, REG_VERSION = 1, REG_ARBITRATION = 2, REG_TABLE = 0x10 };

#define VERSION (0x20u | (IOAPIC_PINS - 1) << 16)

#define ENTRY_LOGICAL    (UINT64_C(1) << 11)
#define ENTRY_REMOTE_IRR (UINT64_C(1) << 14)
#define ENTRY_LEVEL      (UINT64_C(1) << 15)
#define ENTRY_MASKED     (UINT64_C(1) << 16)
#define ENTRY_READ_ONLY  (ENTRY_REMOTE_IRR | UINT64_C(1) << 12)
#define ENTRY_WRITABLE   UINT64_C(0xff0000000001ffff)

static void send(struct ioapic *ioapic, unsigned pin)
{
    uint64_t entry = ioapic->entry[pin];
    struct lapic_message message = {
        .dest = (uint32_t)(entry >> 56),
        .logical = entry & ENTRY_LOGICAL,
        .level = entry & ENTRY_LEVEL,
        .delivery = (enum lapic_delivery)((entry >> 8) & 7),
        .vector = (uint8_t)entry,
    };

    /* Only fixed and lowest-priority interrupts have an EOI that could clear remote IRR. */
    if (message.level && message.delivery <= LAPIC_LOWEST)
        ioapic->entry[pin] |= ENTRY_REMOTE_IRR;
    lapic_send(ioapic->lapics, &message);
}

/* Locked. A level input that is asserted and may send, sends. */
static void service_level(struct ioapic *ioapic, unsigned pin)
{
    uint64_t entry = ioapic->entry[pin];

    if ((entry & ENTRY_LEVEL) && !(entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR)) && (ioapic->levels >> pin & 1))
        send(ioapic, pin);
}

void ioapic_set(struct ioapic *ioapic, unsigned pin, bool level)
{
    uint32_t bit = 1u << pin;

    if (pin >= IOAPIC_PINS)
        return;
    pthread_mutex_lock(&ioapic->lock);
    bool rises = level && !(ioapic->levels & bit);

    ioapic->levels = level ? ioapic->levels | bit : ioapic->levels & ~bit;
    if (ioapic->entry[pin] & ENTRY_LEVEL)
        service_level(ioapic, pin);
    else if (rises && !(ioapic->entry[pin] & ENTRY_MASKED))
        send(ioapic, pin);
    pthread_mutex_unlock(&ioapic->lock);
}

static void eoi_locked(struct ioapic *ioapic, uint8_t vector)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        if ((ioapic->entry[pin] & ENTRY_REMOTE_IRR) && (uint8_t)ioapic->entry[pin] == vector) {
            ioapic->entry[pin] &= ~ENTRY_REMOTE_IRR;
            service_level(ioapic, pin);
        }
    }
}

void ioapic_eoi(struct ioapic *ioapic, uint8_t vector)
{
    pthread_mutex_lock(&ioapic->lock);
    eoi_locked(ioapic, vector);
    pthread_mutex_unlock(&ioapic->lock);
}

static uint32_t register_read(struct ioapic *ioapic)
{
    uint32_t reg = ioapic->select;

    if (reg == REG_ID || reg == REG_ARBITRATION)
        return ioapic->id << 24;
    if (reg == REG_VERSION)
        return VERSION;
    if (reg >= REG_TABLE && reg < REG_TABLE + 2 * IOAPIC_PINS)
        return (uint32_t)(ioapic->entry[(reg - REG_TABLE) / 2] >> (reg % 2 * 32));
    return 0;
}

static void register_write(struct ioapic *ioapic, uint32_t value)
{
    uint32_t reg = ioapic->select;

    if (reg == REG_ID) {
        ioapic->id = value >> 24 & 0xf;
    } else if (reg >= REG_TABLE && reg < REG_TABLE + 2 * IOAPIC_PINS) {
        unsigned pin = (reg - REG_TABLE) / 2;
        unsigned shift = reg % 2 * 32;
        uint64_t keep = ~(UINT64_C(0xffffffff) << shift) | ENTRY_READ_ONLY | ~ENTRY_WRITABLE;
        uint64_t entry = (ioapic->entry[pin] & keep) | (((uint64_t)value << shift) & ~keep);

        /* Software clears remote IRR by switching an input to edge and back (Linux does for old versions). */
        if (!(entry & ENTRY_LEVEL))
            entry &= ~ENTRY_REMOTE_IRR;
        ioapic->entry[pin] = entry;
        service_level(ioapic, pin);
    }
}

static uint64_t window_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    struct ioapic *ioapic = device;
    uint32_t value = 0;

    if ((offset & 3) || size > 4)
        return 0;
    pthread_mutex_lock(&ioapic->lock);
    if (offset == WINDOW_SELECT)
        value = ioapic->select;
    else if (offset == WINDOW_DATA)
        value = register_read(ioapic);
    pthread_mutex_unlock(&ioapic->lock);
    return value;
}

static void window_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct ioapic *ioapic = device;

    pthread_mutex_lock(&ioapic->lock);
    if (offset == WINDOW_SELECT)
        ioapic->select = (uint8_t)value;
    else if (offset == WINDOW_DATA && size == 4)
        register_write(ioapic, (uint32_t)value);
    else if (offset == WINDOW_EOI)
        eoi_locked(ioapic, (uint8_t)value);
    pthread_mutex_unlock(&ioapic->lock);
}

const struct bus_ops ioapic_bus_ops = {.read = window_read, .write = window_write};

void ioapic_reset(struct ioapic *ioapic)
{
    pthread_mutex_lock(&ioapic->lock);
    ioapic->id = 0;
    ioapic->select = 0;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        ioapic->entry[pin] = ENTRY_MASKED;
    pthread_mutex_unlock(&ioapic->lock);
}

void ioapic_init(struct ioapic *ioapic, struct lapic_set *lapics)
{
    memset(ioapic, 0, sizeof(*ioapic));
    pthread_mutex_init(&ioapic->lock, NULL);
    ioapic->lapics = lapics;
    ioapic_reset(ioapic);
}

void ioapic_finish(struct ioapic *ioapic)
{
    pthread_mutex_destroy(&ioapic->lock);
}
