/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout: the PC's physical address map and fixed interrupt numbers. What ACPI, e820, the buses and PCI say
 * agrees because all take it from here.
 *
 *   0          - 0xa0000     RAM
 *   0xa0000    - 0xe0000     nothing (where a VGA and option ROMs would be)
 *   0xe0000    - 0x100000    ROM: the ACPI tables
 *   1 MiB      - up to 3 GiB RAM
 *   3 GiB      - 0xe0000000  32-bit BARs
 *   0xe0000000 + 256 MiB     PCIe configuration space (ECAM)
 *   0xf0000000 - 0xfec00000  nothing
 *   0xfec00000, 0xfee00000   IOAPIC, local APIC
 *   4 GiB      - ...         the rest of RAM
 *   from layout_high_window() 64-bit BARs
 */
#pragma once

#include "protocol/base/units.h"

#define LAYOUT_LOW_END     UINT64_C(0xa0000)
#define LAYOUT_ROM_BASE    UINT64_C(0xe0000)
#define LAYOUT_ROM_BYTES   UINT64_C(0x20000)
#define LAYOUT_MIB_BASE    UINT64_C(0x100000)
#define LAYOUT_HOLE_BASE   UINT64_C(0xc0000000)
#define LAYOUT_BAR32_BASE  LAYOUT_HOLE_BASE
#define LAYOUT_BAR32_BYTES UINT64_C(0x20000000)
#define LAYOUT_ECAM_BASE   UINT64_C(0xe0000000)
#define LAYOUT_ECAM_BYTES  UINT64_C(0x10000000)
#define LAYOUT_HIGH_BASE   (4 * GIB)
#define LAYOUT_BAR64_BYTES (32 * GIB)

/* PCI I/O window of the bridge: nothing decodes there, but a guest wants one. */
#define LAYOUT_PCI_IO_FIRST 0x1000u
#define LAYOUT_PCI_IO_LAST  0xffffu

#define LAYOUT_IRQ_TIMER 0u
#define LAYOUT_IRQ_COM1  4u
#define LAYOUT_IRQ_RTC   8u
#define LAYOUT_IRQ_SCI   9u
#define LAYOUT_GSI_TIMER 2u  /* the IOAPIC input that IRQ 0 is wired to */
#define LAYOUT_GSI_PCI   16u /* INTA# of slot n: 16 + n % 8 */
#define LAYOUT_PCI_LINES 8u
#define LAYOUT_COM1_PORT 0x3f8u

/* Where the 64-bit BARs start for this much RAM: after it, and never in the way of a 36-bit address space. */
static inline gpa_t layout_high_window(uint64_t ram_bytes)
{
    uint64_t ram_end = ram_bytes > LAYOUT_HOLE_BASE ? LAYOUT_HIGH_BASE + ram_bytes - LAYOUT_HOLE_BASE : 0;

    return ram_end <= 32 * GIB ? 32 * GIB : (ram_end + 32 * GIB - 1) / (32 * GIB) * (32 * GIB);
}
