/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pieces of code of several instructions: random instructions, conditional jumps forward over some of them, one loop, one
 * call of a subroutine. What T0 keeps in registers and flags from one instruction and block to the next is tested with these,
 * and the state at a fault in the middle.
 *
 * They end: loops count down in CX, which nothing inside changes; other branches go forward.
 */
#pragma once

#include "tests/translator/oracle_forms.h"

#define SEQUENCE_MAX 16

struct sequence {
    struct insn insns[SEQUENCE_MAX];
    const struct insn *pointers[SEQUENCE_MAX]; /* to them, for state_random() */
    unsigned count;
    bool loop, call;
    uint8_t bytes[ORACLE_CODE_MAX];
    unsigned length;
};

/* May it be part of one? `open_flags`: also when the architecture leaves flags open that others could read. */
bool sequence_accepts(const struct form *form, bool open_flags);
/* `forms` are all of one mode, and accepted. */
void sequence_make(const struct form *const *forms, unsigned count, struct random *random, struct sequence *ret);
void sequence_state(const struct sequence *sequence, struct random *random, struct oracle_state *ret_state);
