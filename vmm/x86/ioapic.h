/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ioapic: one I/O APIC with 24 inputs (Intel 82093AA with the EOI register of version 0x20).
 *
 * An edge input sends its message when it rises; an edge while masked is lost, as on hardware. A level input
 * sends while it is asserted, unmasked and its remote IRR is clear; the EOI of its vector clears remote IRR
 * and looks again. Inputs are wires: lines that share one are merged by the board (counted assertions).
 *
 * Threads: any; one lock inside, held while the message is sent. Messages take no lock.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/x86/lapic.h"

#define IOAPIC_BASE         UINT64_C(0xfec00000)
#define IOAPIC_WINDOW_BYTES 0x1000u
#define IOAPIC_PINS         24u

struct ioapic {
    pthread_mutex_t lock;
    struct lapic_set *lapics;
    uint32_t id, select;
    uint32_t levels; /* bit per input: its wire now */
    uint64_t entry[IOAPIC_PINS];
};

extern const struct bus_ops ioapic_bus_ops; /* at IOAPIC_BASE; device is the ioapic */

void ioapic_init(struct ioapic *ioapic, struct lapic_set *lapics);
void ioapic_finish(struct ioapic *ioapic);
void ioapic_reset(struct ioapic *ioapic);

void ioapic_set(struct ioapic *ioapic, unsigned pin, bool level);
/* A local APIC has finished a level interrupt with this vector. */
void ioapic_eoi(struct ioapic *ioapic, uint8_t vector);
