/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs one integer instruction on the host CPU, in 64-bit, 32-bit or segmented 16-bit code: the oracle for the
 * interpreter's integer ops.
 *
 * The instruction sees exactly `gpr` (the low halves outside 64-bit code, registers 0-7) and the arithmetic flags and DF
 * of `rflags`. It may use memory in the scratch area, which lies below 2 GiB. Not for branches. One thread only.
 *
 * 16-bit code is protected-mode code with segments from an LDT: CS and SS have 16-bit size; DS and SS are the scratch
 * area's first NATIVE_SEG_BYTES, ES the NATIVE_SEG_BYTES from NATIVE_ES_OFFSET.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define NATIVE_SCRATCH_BYTES 8192u
#define NATIVE_SEG_BYTES     6144u
#define NATIVE_ES_OFFSET     2048u
#define NATIVE_SCRATCH       UINT64_C(0x40000000)

enum native_mode { NATIVE_64, NATIVE_32, NATIVE_16, NATIVE_MODES };

struct native_state {
    uint64_t gpr[16];
    uint64_t rflags;
};

/* Maps code and scratch pages; call once. Returns the scratch area, at NATIVE_SCRATCH. */
uint8_t *native_init(void);
/* Does the kernel let this process run 32-bit (and with its own LDT 16-bit) code? */
bool native_supports(enum native_mode mode);
/* -1, or the vector of the exception that the instruction raised (`state` is then unchanged). */
int native_run(enum native_mode mode, const uint8_t *insn, unsigned bytes, struct native_state *state);
