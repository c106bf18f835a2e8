/* SPDX-License-Identifier: Apache-2.0 */
/* Comparing two outcomes of the oracle. */
#pragma once

#include <glib.h>

#include "tests/translator/oracle_forms.h"

/* What of an outcome is compared. */
struct scope {
    enum oracle_mode mode;
    uint64_t flags;      /* of EFLAGS */
    uint32_t rules;      /* enum rule_flag of all instructions */
    bool x87;            /* x87 or MMX instructions among them */
    uint64_t address;    /* of the memory operand, for images */
    bool any_segment_fault; /* misaligned and beyond a segment: #GP or #SS */
    bool any_order;         /* of two memory operands: which faults first */
    bool rep32;          /* a REP with 32-bit address size in 64-bit code */
};

/* Blanks what the architecture leaves open. */
void outcome_normalise(const struct scope *scope, struct oracle_state *state);
/* Appends a line for each difference between two outcomes, both normalised. True when there is none. */
bool outcome_compare(const struct scope *scope, const struct oracle_state *native, const struct oracle_state *guest,
                     GString *report);
void state_print(const struct oracle_state *state, uint64_t address);
