/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the oracle executes: forms (one instruction encoding each) and states for them.
 *
 * Integer forms come from a table here, vector forms from x86_vec_insns[], x87 forms from x86_x87_mem() and
 * x86_x87_valid(). Registers, addressing and immediates of a form are random, but the same for all of its states.
 */
#pragma once

#include "tests/translator/oracle.h"

/* What the architecture leaves undefined, or what a state must look like. */
enum form_undefined {
    UNDEF_NONE, UNDEF_AF, UNDEF_SHIFT, UNDEF_ROTATE, UNDEF_DOUBLE_SHIFT, UNDEF_MUL, UNDEF_ALL, UNDEF_BIT, UNDEF_SCAN,
    UNDEF_COUNT,
};
enum form_flag {
    FORM_MEM       = 1 << 0,  /* has a ModRM memory operand: base, index, scale, disp below */
    FORM_STACK     = 1 << 1,  /* rsp must point into the data */
    FORM_STRING    = 1 << 2,  /* rsi and rdi too, rcx small */
    FORM_JUMP_REG  = 1 << 3,  /* register `base` holds the branch target */
    FORM_JUMP_MEM  = 1 << 4,  /* the memory operand holds it */
    FORM_RET       = 1 << 5,  /* the top of the stack holds it */
    FORM_DIV       = 1 << 6,  /* small dividends */
    FORM_X87       = 1 << 7,  /* interesting x87 state */
    FORM_ENV32     = 1 << 8,  /* writes an x87 environment to memory: pointers in it are undefined */
    FORM_ENV16     = 1 << 9,
    FORM_LEAVE     = 1 << 10, /* rbp into the data */
    FORM_XLAT      = 1 << 11, /* rbx into the data */
    FORM_FP        = 1 << 12, /* floating-point operands */
    FORM_ADDR32    = 1 << 13, /* 67: base may have a garbage upper half */
    FORM_BITS      = 1 << 14, /* bit offset register `index` addresses memory: keep it near */
    FORM_VECTOR    = 1 << 15,
    FORM_RSP_BASE  = 1 << 16, /* base register is rsp as used by POP mem */
    FORM_ENV       = 1 << 18, /* reads or writes one: which of its bytes faults first is the processor's choice */
    FORM_STORE10   = 1 << 19, /* FSTP m80, FBSTP */
    FORM_GS        = 1 << 20, /* GS prefix */
    FORM_VENDOR    = 1 << 21, /* results differ between vendors in corner cases */
    FORM_FXSAVE    = 1 << 22, /* an FXSAVE image: its instruction and data pointers are not compared */
    FORM_CMPXCHG   = 1 << 17, /* accumulator often equal to the operand */
};

struct form {
    char name[40];
    uint8_t bytes[16];
    uint8_t length;
    uint8_t size;        /* operand size */
    uint8_t undefined;   /* enum form_undefined */
    uint8_t count;       /* of a shift by an immediate; 0xff: CL */
    uint8_t base, index; /* registers, IR_NONE */
    uint8_t scale;       /* shift */
    bool relative;       /* RIP-relative: the address is fixed */
    int32_t disp;
    uint8_t vec_prefix;  /* mandatory prefix of a vector row: says the format of its lanes */
    uint32_t flags;      /* enum form_flag */
};

/* xorshift64*: reproducible on every machine. */
struct random {
    uint64_t state;
};
uint64_t random_next(struct random *random);
unsigned random_below(struct random *random, unsigned limit);

/* Calls `each` for all forms that this host can execute, once with fresh random registers. */
void forms_each(struct random *random, void (*each)(void *opaque, const struct form *form), void *opaque);

/* Fills a state for `form`. `*ret_address` is where its memory operand is. */
void form_state(const struct form *form, struct random *random, struct oracle_state *ret_state,
                uint64_t *ret_address);

/*
 * Joins up to SEQUENCE_MAX forms to one piece of straight code (short conditional jumps out of it allowed) and makes a
 * state in which their memory operands are where they should be, as far as they do not disturb each other. Returns
 * the number of forms that fit.
 */
#define SEQUENCE_MAX 8
bool form_can_join(const struct form *form);
unsigned sequence_join(const struct form *const *forms, unsigned count, uint8_t *ret_bytes, unsigned *ret_length);
void sequence_state(const struct form *const *forms, unsigned count, struct random *random,
                    struct oracle_state *ret_state);

/* Arithmetic flags that must agree. */
uint64_t form_defined_flags(const struct form *form, const struct oracle_state *before);
