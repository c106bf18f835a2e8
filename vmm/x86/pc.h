/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pc: the board. Puts the chips on the buses, wires their interrupts, and is what the accelerator asks
 * (accel_host_ops).
 *
 * Wiring: ISA interrupt n goes to the 8259 pair's input n and to IOAPIC input n, but the timer (0) to IOAPIC
 * input 2. PCI's four-wire INTx of slot s goes to IOAPIC input 16 + s % 8, level, shared: an input is high
 * while any of its sources is. The 8259's output goes to LINT0 of the first CPU.
 *
 * States: create -> [pci_host_add(&pc->pci) while no vCPU runs] -> attach -> running; pc_reset while all are
 * parked. Threads: create, attach, reset and destroy on the main thread. Bus accesses on vCPU threads. No
 * lock of its own but that of the shared lines.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "accel/accel.h"
#include "vmm/bus.h"
#include "vmm/pci/pci_host.h"
#include "vmm/ram.h"
#include "vmm/timer.h"
#include "vmm/uart.h"
#include "vmm/vcpus.h"
#include "vmm/x86/acpi_pm.h"
#include "vmm/x86/ioapic.h"
#include "vmm/x86/lapic.h"
#include "vmm/x86/layout.h"
#include "vmm/x86/pic.h"
#include "vmm/x86/pit.h"
#include "vmm/x86/rtc.h"

struct pc {
    struct bus pio, mmio;
    struct timer_queue *timers;
    struct lapic_set lapics;
    struct ioapic ioapic;
    struct pic pic;
    struct pit pit;
    struct rtc rtc;
    struct uart com1;
    struct acpi_pm pm;
    struct pci_host pci;
    pthread_mutex_t pci_lines_lock;
    unsigned pci_lines[LAYOUT_PCI_LINES]; /* sources that hold each one */
    struct vcpus *vcpus;                  /* borrowed; NULL until attached */
    uint8_t *rom;                         /* LAYOUT_ROM_BYTES, page aligned */
};

struct pc_config {
    unsigned cpus;
    uint64_t ram_bytes;
    struct uart_host console;
    void (*power)(void *opaque, enum acpi_pm_request request); /* on the asking vCPU's thread */
    void *opaque;
};

extern const struct accel_host_ops pc_accel_ops; /* opaque is the pc */

int pc_create(const struct pc_config *config, struct pc **ret_pc);
/* The accelerator's clocks, once it exists and before any vCPU runs. */
void pc_set_clocks(struct pc *pc, uint32_t tsc_khz, uint64_t apic_timer_hz);
/* After the vCPUs are gone; accepts NULL. */
void pc_destroy(struct pc *pc);
/* From now on interrupts wake these. */
void pc_attach(struct pc *pc, struct vcpus *vcpus);
/* Stops the timer thread: the first step of the end. */
void pc_stop_timers(struct pc *pc);
/* Every chip to its power-up state; all vCPUs are parked. */
void pc_reset(struct pc *pc);

/* RAM and ROM as the accelerator's slots. `slots` holds RAM_REGIONS_MAX + 1; returns the count. */
unsigned pc_slots(struct pc *pc, const struct ram *ram, struct accel_slot *slots);

/* INTx of a PCI slot; called on changes only. Any thread. */
void pc_pci_intx(struct pc *pc, unsigned slot, bool level);
