/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the front end and the interpreter need around them, for tests without paging: linear addresses below fake_limit are
 * offsets into fake_ram.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "translator/ir.h"
#include "translator/x86/cpu.h"

#define FAKE_RAM_BYTES 65536u

extern uint8_t fake_ram[FAKE_RAM_BYTES];
/* Accesses at or above it raise #PF. */
extern uint64_t fake_limit;
/* What mmu_host() refuses, so that slow paths run. */
extern bool fake_no_host;

/* All features of CPU level v2 and those beside it. */
void fake_features(uint32_t *features);
void fake_cpu_init(struct x86_cpu *cpu, uint32_t mode);
