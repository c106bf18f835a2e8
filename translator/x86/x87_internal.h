/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the x87 reference share.
 *
 * The state is cpu->fx in FXSAVE form: registers in stack order (fx.st[i] is ST(i)), one tag bit per physical register.
 * Whatever moves TOP rotates the registers, so that physical contents stay where they were.
 */
#pragma once

#include <string.h>

#include "translator/x86/softfp.h"
#include "translator/x86/vec.h"

#define FSW_EXCEPTIONS 0x3fu
#define FSW_SF         (1u << 6)
#define FSW_ES         (1u << 7)
#define FSW_C0         (1u << 8)
#define FSW_C1         (1u << 9)
#define FSW_C2         (1u << 10)
#define FSW_TOP_SHIFT  11
#define FSW_TOP        (7u << FSW_TOP_SHIFT)
#define FSW_C3         (1u << 14)
#define FSW_B          (1u << 15)
#define FSW_CC         (FSW_C0 | FSW_C1 | FSW_C2 | FSW_C3)

#define FCW_INITIAL 0x37fu
#define FCW_FIXED   0x40u   /* always reads as one */
#define FCW_VALID   0x1f7fu

/* One instruction under way. */
struct x87 {
    struct x86_cpu *cpu;
    struct x86_fxsave *fx;
    struct softfp_env env;  /* FCW's rounding and masks; flags gather here */
    bool stack_fault;
    bool overflow;          /* of the stack: C1 = 1 */
};

static inline unsigned x87_top(const struct x86_fxsave *fx)
{
    return fx->fsw >> FSW_TOP_SHIFT & 7;
}

static inline bool x87_is_empty(const struct x86_fxsave *fx, unsigned i)
{
    return !(fx->ftw >> ((x87_top(fx) + i) & 7) & 1);
}

static inline void x87_set_tag(struct x86_fxsave *fx, unsigned i, bool valid)
{
    unsigned bit = 1u << ((x87_top(fx) + i) & 7);
    fx->ftw = (uint8_t)(valid ? fx->ftw | bit : fx->ftw & ~bit);
}

static inline struct softfp x87_get(const struct x86_fxsave *fx, unsigned i)
{
    uint64_t significand;
    uint16_t sign_exponent;
    memcpy(&significand, fx->st[i], 8);
    memcpy(&sign_exponent, fx->st[i] + 8, 2);
    return softfp_from_extended(significand, sign_exponent);
}

static inline void x87_put(struct x86_fxsave *fx, unsigned i, const struct softfp *value)
{
    uint64_t significand;
    uint16_t sign_exponent;
    softfp_to_extended(value, &significand, &sign_exponent);
    memset(fx->st[i], 0, sizeof(fx->st[i]));
    memcpy(fx->st[i], &significand, 8);
    memcpy(fx->st[i] + 8, &sign_exponent, 2);
    x87_set_tag(fx, i, true);
}

/* x87_state.c: registers as a whole */
void x87_set_top(struct x86_fxsave *fx, unsigned top);
void x87_init(struct x86_fxsave *fx);
/* ES and B follow the exception flags and the masks. */
void x87_update_es(struct x86_fxsave *fx);
/* Environments (SDM 1 figures 8-9 to 8-12), FSAVE images; `size` 2 or 4 is the operand size. */
int x87_store_env(struct x86_cpu *cpu, unsigned size, bool with_registers);
int x87_load_env(struct x86_cpu *cpu, unsigned size, bool with_registers);

/* x87_arith.c: operations on values */
enum x87_arith { X87_ADD, X87_MUL, X87_COM, X87_COMP, X87_SUB, X87_SUBR, X87_DIV, X87_DIVR };
struct softfp x87_arith(struct x87 *x, enum x87_arith op, struct softfp a, struct softfp b);
/* NaN or unsupported operand (b may be NULL): gives the x87 result. */
bool x87_nan(struct x87 *x, const struct softfp *a, const struct softfp *b, struct softfp *ret);
struct softfp x87_sqrt(struct x87 *x, struct softfp a);
struct softfp x87_round_integral(struct x87 *x, struct softfp a);
struct softfp x87_scale(struct x87 *x, struct softfp a, struct softfp b);
/* Remainder, *ret_cc = C0 C1 C2 C3 or X87_NO_QUOTIENT. `nearest`: FPREM1. */
#define X87_NO_QUOTIENT UINT32_MAX
struct softfp x87_remainder(struct x87 *x, struct softfp a, struct softfp b, bool nearest, unsigned *ret_cc);
/* -1, 0, 1, or 2 for unordered. `quiet`: a quiet NaN is not invalid. */
int x87_compare(struct x87 *x, const struct softfp *a, const struct softfp *b, bool quiet);
int64_t x87_to_int(struct x87 *x, struct softfp a, unsigned bits, bool truncate);
void x87_to_bcd(struct x87 *x, struct softfp a, uint8_t bcd[10]);
struct softfp x87_from_bcd(const uint8_t bcd[10]);

/* x87_host.c: F2XM1 FYL2X FPTAN FPATAN FYL2XP1 FSINCOS FSIN FCOS, on the state in cpu->fx; `modrm` after D9. */
void x87_transcendental(struct x86_cpu *cpu, unsigned modrm);
