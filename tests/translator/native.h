/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs one integer instruction on the host CPU: the oracle for the interpreter's integer ops.
 *
 * The instruction sees exactly `gpr` and the arithmetic flags and DF of `rflags`. It may use memory in the scratch area, which
 * lies below 2 GiB. Not for branches. One thread only.
 */
#pragma once

#include <stdint.h>

#define NATIVE_SCRATCH_BYTES 8192u

struct native_state {
    uint64_t gpr[16];
    uint64_t rflags;
};

/* Maps code and scratch pages; call once. Returns the scratch area. */
uint8_t *native_init(void);
/* 0, or the number of the signal the instruction raised (`state` is then unchanged). */
int native_run(const uint8_t *insn, unsigned bytes, struct native_state *state);
