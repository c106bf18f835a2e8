/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi_tables: RSDP, XSDT, FADT, FACS, MADT, MCFG, SPCR and DSDT of the PC (ACPI 6.5 chapter 5).
 *
 * The tables are built into a buffer that becomes ROM at `base`; the RSDP is at its very start, in the BIOS
 * area, where a kernel that was told nothing finds it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "protocol/base/units.h"

struct acpi_config {
    unsigned cpus;
    uint64_t ram_bytes; /* decides where the 64-bit window is */
};

/* Builds into `rom` (zeroed), as seen by the guest at `base`. Bytes used, or -ENOSPC. */
int acpi_tables_build(const struct acpi_config *config, gpa_t base, uint8_t *rom, size_t rom_bytes);
