/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the front end and the interpreter need around them, for tests without paging: guest linear addresses below
 * FAKE_RAM_BYTES are offsets into fake_ram, or, when fake_identity is set, linear addresses are host addresses.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "translator/x86/cpu.h"

#define FAKE_RAM_BYTES 65536u

extern uint8_t fake_ram[FAKE_RAM_BYTES];
extern bool fake_identity;
/* Accesses at or above it (and not identical) raise #PF. */
extern uint64_t fake_limit;
/* What mmu_host() refuses, so that slow paths run. */
extern bool fake_no_host;

/* All features of CPU level v2 and those beside it. */
void fake_features(uint32_t *features);
void fake_cpu_init(struct x86_cpu *cpu, uint32_t mode);
