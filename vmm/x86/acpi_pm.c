/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/x86/acpi_pm.h"

#include <string.h>

#include "protocol/base/units.h"

#define STS_TIMER         (1u << 0)
#define STS_POWER_BUTTON  (1u << 8)
#define STS_ALL           (STS_TIMER | 1u << 4 | 1u << 5 | STS_POWER_BUTTON | 1u << 9 | 1u << 10 | 1u << 15)
#define EN_ALL            (STS_TIMER | 1u << 5 | STS_POWER_BUTTON | 1u << 9 | 1u << 10)
#define CNT_SCI_EN        (1u << 0)
#define CNT_SLEEP_EN      (1u << 13)
#define CNT_SLEEP_TYPE(c) (((c) >> 10) & 7)

#define CARRY_TICKS (UINT64_C(1) << 31)

static uint64_t ticks(const struct acpi_pm *pm, uint64_t now_ns)
{
    return (uint64_t)((unsigned __int128)(now_ns - pm->start_ns) * ACPI_PM_TIMER_HZ / NS_PER_SEC);
}

/* Locked. The timer status is set each time the timer's top bit toggles. */
static void update(struct acpi_pm *pm)
{
    uint64_t now_ns = timer_now_ns();
    uint64_t carry = ticks(pm, now_ns) / CARRY_TICKS;

    if (carry != pm->carry_seen) {
        pm->carry_seen = carry;
        pm->status |= STS_TIMER;
    }
    if (pm->enable & STS_TIMER) {
        uint64_t next = (carry + 1) * CARRY_TICKS;

        timer_arm(&pm->timer,
                  pm->start_ns + (uint64_t)((unsigned __int128)next * NS_PER_SEC / ACPI_PM_TIMER_HZ) + 1);
    } else {
        timer_disarm(&pm->timer);
    }
    irq_line_set(&pm->sci, pm->status & pm->enable);
}

static void carry(void *opaque, uint64_t now_ns)
{
    struct acpi_pm *pm = opaque;

    pthread_mutex_lock(&pm->lock);
    if (pm->enable & STS_TIMER)
        update(pm);
    pthread_mutex_unlock(&pm->lock);
}

static uint64_t register_at(struct acpi_pm *pm, uint64_t dword)
{
    switch (dword) {
    case 0:
        update(pm);
        return pm->status | (uint32_t)pm->enable << 16;
    case 4:
        return pm->control | CNT_SCI_EN;
    case 8:
        return (uint32_t)ticks(pm, timer_now_ns());
    default:
        return 0;
    }
}

static uint64_t block_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    struct acpi_pm *pm = device;
    uint64_t value;

    pthread_mutex_lock(&pm->lock);
    value = register_at(pm, offset & ~UINT64_C(3));
    if (offset % 4 + size > 4)
        value |= register_at(pm, (offset & ~UINT64_C(3)) + 4) << 32;
    pthread_mutex_unlock(&pm->lock);
    return value >> (offset % 4 * 8);
}

/* Locked. One byte at a time, so that every width and alignment means what it says. True when S5 is entered.
 */
static bool write_byte(struct acpi_pm *pm, uint64_t offset, uint8_t value)
{
    unsigned shift = offset % 2 * 8;
    uint16_t lane = (uint16_t)(0xff << shift), bits = (uint16_t)(value << shift);

    switch (offset & ~UINT64_C(1)) {
    case 0:
        pm->status &= ~(bits & STS_ALL);
        return false;
    case 2:
        pm->enable = ((pm->enable & ~lane) | bits) & EN_ALL;
        return false;
    case 4:
        pm->control = ((pm->control & ~lane) | bits) & ~(CNT_SLEEP_EN | CNT_SCI_EN);
        return (bits & CNT_SLEEP_EN) && CNT_SLEEP_TYPE(pm->control) == ACPI_PM_S5_TYPE;
    default:
        return false;
    }
}

static void block_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct acpi_pm *pm = device;
    bool shutdown = false;

    pthread_mutex_lock(&pm->lock);
    update(pm);
    for (unsigned i = 0; i < size; i++)
        shutdown |= write_byte(pm, offset + i, (uint8_t)(value >> (i * 8)));
    update(pm);
    pthread_mutex_unlock(&pm->lock);
    if (shutdown)
        pm->request(pm->opaque, ACPI_PM_SHUTDOWN);
}

static uint64_t reset_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    struct acpi_pm *pm = device;

    pthread_mutex_lock(&pm->lock);
    uint8_t value = pm->reset_control;
    pthread_mutex_unlock(&pm->lock);
    return value;
}

static void reset_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct acpi_pm *pm = device;

    pthread_mutex_lock(&pm->lock);
    bool rises = (value & 0x04) && !(pm->reset_control & 0x04);

    pm->reset_control = value & 0x0a;
    pthread_mutex_unlock(&pm->lock);
    if (rises)
        pm->request(pm->opaque, ACPI_PM_RESET);
}

static uint64_t keyboard_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    return 0; /* input and output buffer empty */
}

static void keyboard_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct acpi_pm *pm = device;

    /* Commands 0xf0-0xff pulse the output lines whose bit is clear; bit 0 is the CPU's reset. */
    if ((value & 0xf1) == 0xf0)
        pm->request(pm->opaque, ACPI_PM_RESET);
}

static uint64_t port92_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    return 0x02; /* A20 is always open */
}

static void port92_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct acpi_pm *pm = device;

    if (value & 0x01)
        pm->request(pm->opaque, ACPI_PM_RESET);
}

const struct bus_ops acpi_pm_bus_ops = {.read = block_read, .write = block_write};
const struct bus_ops acpi_pm_reset_ops = {.read = reset_read, .write = reset_write};
const struct bus_ops acpi_pm_keyboard_ops = {.read = keyboard_read, .write = keyboard_write};
const struct bus_ops acpi_pm_port92_ops = {.read = port92_read, .write = port92_write};

void acpi_pm_power_button(struct acpi_pm *pm)
{
    pthread_mutex_lock(&pm->lock);
    pm->status |= STS_POWER_BUTTON;
    update(pm);
    pthread_mutex_unlock(&pm->lock);
}

void acpi_pm_reset(struct acpi_pm *pm)
{
    pthread_mutex_lock(&pm->lock);
    pm->status = pm->enable = pm->control = 0;
    pm->reset_control = 0;
    update(pm);
    pthread_mutex_unlock(&pm->lock);
}

void acpi_pm_init(struct acpi_pm *pm, struct timer_queue *timers, const struct irq_line *sci,
                  void (*request)(void *opaque, enum acpi_pm_request request), void *opaque)
{
    memset(pm, 0, sizeof(*pm));
    pthread_mutex_init(&pm->lock, NULL);
    timer_init(&pm->timer, timers, carry, pm);
    pm->sci = *sci;
    pm->start_ns = timer_now_ns();
    pm->request = request;
    pm->opaque = opaque;
    acpi_pm_reset(pm);
}

void acpi_pm_finish(struct acpi_pm *pm)
{
    timer_disarm(&pm->timer);
    pthread_mutex_destroy(&pm->lock);
}
