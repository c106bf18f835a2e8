/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Binary floating point in integer arithmetic: what the references of SSE and x87 compute with.
 *
 * A number is unpacked into sign, exponent and a 64-bit significand whose top bit is set; operations compute exactly
 * (with a sticky bit) and round once to a format, with the exception flags of IEEE 754 as x86 has them: tininess is
 * detected after rounding, an unmasked underflow is raised by tininess alone. The host's floating-point unit is not
 * touched. NaN selection differs between SSE and x87, so callers deal with NaN operands before they call arithmetic.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum softfp_class { SOFTFP_ZERO, SOFTFP_NORMAL, SOFTFP_INF, SOFTFP_NAN, SOFTFP_UNSUPPORTED /* x87 only */ };

struct softfp {
    uint8_t cls; /* enum softfp_class */
    bool sign;
    bool denormal; /* was a denormal (or pseudo-denormal) operand */
    int32_t exp;   /* value = sig * 2^(exp - 63) */
    uint64_t sig;  /* NaN: fraction left-aligned below bit 63; bit 62 says quiet */
};

/* Bits as in MXCSR and the x87 status word. */
enum softfp_exception {
    SOFTFP_I = 1,
    SOFTFP_D = 2,
    SOFTFP_Z = 4,
    SOFTFP_O = 8,
    SOFTFP_U = 16,
    SOFTFP_P = 32
};
/* As in MXCSR.RC and FCW.RC. */
enum softfp_rounding { SOFTFP_NEAREST, SOFTFP_DOWN, SOFTFP_UP, SOFTFP_TRUNCATE };

struct softfp_format {
    int precision;  /* bits of significand */
    int emin, emax; /* of normal numbers */
};
extern const struct softfp_format softfp_half, softfp_single, softfp_double, softfp_extended;

struct softfp_env {
    uint8_t rounding; /* enum softfp_rounding */
    uint8_t masked;   /* enum softfp_exception bits whose exceptions are masked */
    bool daz, ftz;
    int32_t wrap;    /* x87: exponent adjustment (24576) of an unmasked overflow or underflow; SSE: 0 */
    uint8_t flags;   /* accumulated enum softfp_exception bits */
    bool rounded_up; /* the last rounding increased the magnitude (x87 C1) */
};

/* Half precision denormals are not told from normal numbers, and never taken as zero. */
struct softfp softfp_from_half(uint16_t bits);
struct softfp softfp_from_single(const struct softfp_env *env, uint32_t bits);
struct softfp softfp_from_double(const struct softfp_env *env, uint64_t bits);
struct softfp softfp_from_extended(uint64_t significand, uint16_t sign_exponent);
struct softfp softfp_from_int(int64_t value);
/* The number must already be rounded to the format. */
uint16_t softfp_to_half(const struct softfp *a);
uint32_t softfp_to_single(const struct softfp *a);
uint64_t softfp_to_double(const struct softfp *a);
void softfp_to_extended(const struct softfp *a, uint64_t *ret_significand, uint16_t *ret_sign_exponent);

static inline bool softfp_is_snan(const struct softfp *a)
{
    return a->cls == SOFTFP_NAN && !(a->sig >> 62 & 1);
}

struct softfp softfp_default_nan(void);
struct softfp softfp_zero(bool sign);
struct softfp softfp_infinity(bool sign);

/* Arithmetic on non-NaN operands, rounded to `format`. Invalid operations raise SOFTFP_I and give the default NaN. The
 * denormal-operand flag is raised here, after the invalid and zero-divide checks. */
struct softfp softfp_add(struct softfp_env *env, const struct softfp_format *format, struct softfp a,
                         struct softfp b);
struct softfp softfp_mul(struct softfp_env *env, const struct softfp_format *format, struct softfp a,
                         struct softfp b);
/* a * b + c, rounded once. */
struct softfp softfp_fma(struct softfp_env *env, const struct softfp_format *format, struct softfp a,
                         struct softfp b, struct softfp c);
struct softfp softfp_div(struct softfp_env *env, const struct softfp_format *format, struct softfp a,
                         struct softfp b);
struct softfp softfp_sqrt(struct softfp_env *env, const struct softfp_format *format, struct softfp a);
/* Conversion between formats. */
struct softfp softfp_round(struct softfp_env *env, const struct softfp_format *format, struct softfp a);
/* Rounds sig:extra * 2^(exp - 63); the top bit of `sig` is set, the lowest bit of `extra` may be sticky. */
struct softfp softfp_round_exact(struct softfp_env *env, const struct softfp_format *format, bool sign,
                                 int32_t exp, uint64_t sig, uint64_t extra);
/* To an integral value in the environment's rounding mode; raises only SOFTFP_P. */
struct softfp softfp_round_integral(struct softfp_env *env, struct softfp a);
/* To a signed integer of `bits` (16, 32, 64). NaN, infinity and overflow raise SOFTFP_I and give the most negative
 * one. */
int64_t softfp_to_int(struct softfp_env *env, struct softfp a, unsigned bits);

/* -1, 0, 1 for non-NaN operands; raises nothing. */
int softfp_compare(const struct softfp *a, const struct softfp *b);
