/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bare machine for tests of the x86 system level: a vCPU (or two) of the real translator over 4 MiB of RAM at 0, a
 * debug port that collects text, and interrupts and NMIs that the test (or the guest, through ports) raises.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "translator/engine.h"
#include "translator/mmu.h"
#include "translator/x86/sys_internal.h"

#define MACHINE_RAM_BYTES (4u << 20)
#define MACHINE_PORT_TEXT 0xe9 /* OUT: one character of text */
#define MACHINE_PORT_IRQ  0xea /* OUT: raises the interrupt with this vector */
#define MACHINE_PORT_NMI  0xeb /* OUT: raises an NMI */
#define MACHINE_PORT_ECHO 0xec /* IN: last value written to it */
#define MACHINE_MMIO      0x10000000u

struct machine {
    struct translator_vm *vm;
    struct x86_cpu *cpu;
    uint8_t *ram;
    char text[4096];
    unsigned text_bytes;
    int irq; /* vector or -1 */
    unsigned nmis; /* at most 2, as in the APIC */
    uint64_t echo;
    uint64_t apic_base;
    uint64_t other_msr; /* IA32_TSC_DEADLINE and the x2APIC's SVR hold what was written last */
    uint8_t mmio[128]; /* registers at MACHINE_MMIO that hold what was written */
};

void machine_create(struct machine *machine, enum engine_tier tier);
void machine_destroy(struct machine *machine);
/* An NMI arrives, as by MACHINE_PORT_NMI. */
void machine_nmi(struct machine *machine);
/* A second vCPU in the state of the first, with its stack at MACHINE_STACK1. Destroy it before the machine. */
struct x86_cpu *machine_add_cpu(struct machine *machine);

/* 64-bit mode, CPL 0, flat segments, paging with 2 MiB pages that map RAM to itself (user accessible), GDT at MACHINE_GDT,
 * an empty IDT at MACHINE_IDT, a TSS at MACHINE_TSS. */
#define MACHINE_GDT       0x1000u
#define MACHINE_IDT       0x2000u
#define MACHINE_TSS       0x3000u
#define MACHINE_PML4      0x10000u
#define MACHINE_CODE      0x20000u
#define MACHINE_STACK     0x30000u /* RSP */
#define MACHINE_STACK1    0x34000u
#define MACHINE_RSP0      0x38000u
#define MACHINE_IST1      0x3c000u
#define MACHINE_CS64      0x08u
#define MACHINE_SS        0x10u
#define MACHINE_UCS32     0x18u
#define MACHINE_USS       0x20u
#define MACHINE_UCS64     0x28u
#define MACHINE_TR        0x30u /* 16 bytes */
#define MACHINE_SPARE     0x40u /* free descriptors from here to MACHINE_GDT_LIMIT */
#define MACHINE_GDT_LIMIT 0xffu
void machine_enter_long_mode(struct machine *machine);

/* An IDT entry of long mode. `type`: 0xe or 0xf, with DPL and P as in `rights` = 0x8e, 0xee, … */
void machine_set_gate(struct machine *machine, unsigned vector, uint16_t selector, uint64_t offset,
                      uint8_t rights, unsigned ist);
void machine_set_desc(struct machine *machine, uint16_t selector, uint64_t raw);
uint64_t machine_read64(const struct machine *machine, uint64_t address);
void machine_write64(struct machine *machine, uint64_t address, uint64_t value);
