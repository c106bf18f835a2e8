/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi_pm: the fixed hardware of ACPI (ACPI 6.5 section 4.8) and the ways to reset a PC.
 *
 * PM1a event block (power button and timer status), PM1a control (S5), the 3.579545 MHz PM timer; port 0xcf9,
 * the keyboard controller's reset pulse (0x64 <- 0xfe) and port 0x92. There is no SMM: SCI_EN is always on.
 *
 * Threads: any; one lock inside. request() is called with no lock held, on the vCPU's thread that asked.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/irq_line.h"
#include "vmm/timer.h"

#define ACPI_PM_BASE        0x600u /* +0 PM1a_STS, +2 PM1a_EN, +4 PM1a_CNT, +8 PM_TMR */
#define ACPI_PM_BYTES       16u
#define ACPI_PM_EVENT       (ACPI_PM_BASE + 0)
#define ACPI_PM_CONTROL     (ACPI_PM_BASE + 4)
#define ACPI_PM_TIMER       (ACPI_PM_BASE + 8)
#define ACPI_PM_TIMER_HZ    3579545u
#define ACPI_PM_S5_TYPE     5u
#define ACPI_PM_RESET_PORT  0xcf9u
#define ACPI_PM_RESET_VALUE 0x06u

enum acpi_pm_request { ACPI_PM_SHUTDOWN, ACPI_PM_RESET };

struct acpi_pm {
    pthread_mutex_t lock;
    struct irq_line sci;
    struct timer timer; /* PM timer carry, while its interrupt is enabled */
    uint64_t start_ns;
    uint64_t carry_seen; /* how many times bit 31 had toggled when last looked */
    uint16_t status, enable, control;
    uint8_t reset_control; /* 0xcf9 */
    void (*request)(void *opaque, enum acpi_pm_request request);
    void *opaque;
};

extern const struct bus_ops acpi_pm_bus_ops;      /* ACPI_PM_BASE, up to 4 bytes */
extern const struct bus_ops acpi_pm_reset_ops;    /* byte port 0xcf9 */
extern const struct bus_ops acpi_pm_keyboard_ops; /* byte port 0x64 */
extern const struct bus_ops acpi_pm_port92_ops;   /* byte port 0x92 */

void acpi_pm_init(struct acpi_pm *pm, struct timer_queue *timers, const struct irq_line *sci,
                  void (*request)(void *opaque, enum acpi_pm_request request), void *opaque);
void acpi_pm_finish(struct acpi_pm *pm);
void acpi_pm_reset(struct acpi_pm *pm);
/* Presses the power button. */
void acpi_pm_power_button(struct acpi_pm *pm);
