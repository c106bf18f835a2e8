/* SPDX-License-Identifier: Apache-2.0 */
/* x87 reference: operations on extended-precision values. */
#include "translator/x86/x87_internal.h"

#define EXPONENT_WRAP 24576
#define QUIET_BIT     (1ull << 62)

static const struct softfp_format *precision(const struct x87 *x)
{
    static const struct softfp_format single = {24, -16382, 16383}, extended_double = {53, -16382, 16383};

    switch (x->fx->fcw >> 8 & 3) {
    case 0:
        return &single;
    case 2:
        return &extended_double;
    default:
        return &softfp_extended;
    }
}

bool x87_nan(struct x87 *x, const struct softfp *a, const struct softfp *b, struct softfp *ret)
{
    const struct softfp *pick = a;

    if (a->cls == SOFTFP_UNSUPPORTED || (b && b->cls == SOFTFP_UNSUPPORTED)) {
        x->env.flags |= SOFTFP_I;
        *ret = softfp_default_nan();
        return true;
    }
    if (a->cls != SOFTFP_NAN && (!b || b->cls != SOFTFP_NAN))
        return false;
    if (softfp_is_snan(a) || (b && softfp_is_snan(b)))
        x->env.flags |= SOFTFP_I;
    if (b && a->cls != SOFTFP_NAN)
        pick = b;
    else if (b && b->cls == SOFTFP_NAN) {
        /* A quiet one before a signalling one, then the larger significand, then the positive one. */
        if (softfp_is_snan(a) != softfp_is_snan(b))
            pick = softfp_is_snan(a) ? b : a;
        else if (a->sig != b->sig)
            pick = a->sig > b->sig ? a : b;
        else
            pick = a->sign ? b : a;
    }
    *ret = *pick;
    ret->sig |= QUIET_BIT;
    return true;
}

struct softfp x87_arith(struct x87 *x, enum x87_arith op, struct softfp a, struct softfp b)
{
    struct softfp r;

    if (x87_nan(x, &a, &b, &r))
        return r;
    x->env.wrap = EXPONENT_WRAP;
    switch (op) {
    case X87_ADD:
        return softfp_add(&x->env, precision(x), a, b);
    case X87_MUL:
        return softfp_mul(&x->env, precision(x), a, b);
    case X87_SUB:
        b.sign = !b.sign;
        return softfp_add(&x->env, precision(x), a, b);
    case X87_SUBR:
        a.sign = !a.sign;
        return softfp_add(&x->env, precision(x), b, a);
    case X87_DIV:
        return softfp_div(&x->env, precision(x), a, b);
    default:
        return softfp_div(&x->env, precision(x), b, a);
    }
}

struct softfp x87_sqrt(struct x87 *x, struct softfp a)
{
    struct softfp r;

    x->env.wrap = EXPONENT_WRAP;
    return x87_nan(x, &a, NULL, &r) ? r : softfp_sqrt(&x->env, precision(x), a);
}

/* The denormal exception of an operation that does not round. True when it is unmasked. */
static bool denormal(struct x87 *x, const struct softfp *a)
{
    if (!a->denormal)
        return false;
    x->env.flags |= SOFTFP_D;
    return !(x->env.masked & SOFTFP_D);
}

struct softfp x87_round_integral(struct x87 *x, struct softfp a)
{
    struct softfp r;

    if (x87_nan(x, &a, NULL, &r))
        return r;
    if (denormal(x, &a))
        return a;
    return softfp_round_integral(&x->env, a);
}

struct softfp x87_scale(struct x87 *x, struct softfp a, struct softfp b)
{
    struct softfp r;

    if (x87_nan(x, &a, &b, &r))
        return r;
    if (b.cls == SOFTFP_INF) {
        if (b.sign ? a.cls == SOFTFP_INF : a.cls == SOFTFP_ZERO) {
            x->env.flags |= SOFTFP_I;
            return softfp_default_nan();
        }
        if (denormal(x, &a))
            return a;
        return b.sign ? softfp_zero(a.sign) : softfp_infinity(a.sign);
    }
    if (a.cls != SOFTFP_NORMAL) {
        denormal(x, &b);
        return a;
    }
    if ((denormal(x, &a) | denormal(x, &b)) || b.cls == SOFTFP_ZERO)
        return a;
    int32_t by = 0;
    if (b.cls == SOFTFP_NORMAL && b.exp >= 0) {
        by = b.exp > 16 ? 0x10000 : (int32_t)(b.sig >> (63 - b.exp));
        by = b.sign ? -by : by;
    }
    x->env.wrap = EXPONENT_WRAP;
    return softfp_round_exact(&x->env, &softfp_extended, a.sign, a.exp + by, a.sig, 0);
}

/* |a| mod |b| for normal numbers with a.exp - b.exp in 0..63 (a.exp >= b.exp); `ret_quotient` the low bits. */
static uint64_t reduce(uint64_t a, uint64_t b, int steps, uint64_t *ret_quotient)
{
    unsigned __int128 rest = a;
    uint64_t quotient = 0;

    for (int i = 0; i <= steps; i++) {
        if (i)
            rest <<= 1;
        quotient <<= 1;
        if (rest >= b) {
            rest -= b;
            quotient |= 1;
        }
    }
    *ret_quotient = quotient;
    return (uint64_t)rest;
}

static struct softfp from_rest(struct x87 *x, bool sign, int32_t exp, uint64_t rest)
{
    if (!rest)
        return softfp_zero(sign);
    int shift = __builtin_clzll(rest);
    return softfp_round_exact(&x->env, &softfp_extended, sign, exp - shift, rest << shift, 0);
}

static unsigned quotient_cc(uint64_t quotient)
{
    return (quotient & 4 ? FSW_C0 : 0) | (quotient & 2 ? FSW_C3 : 0) | (quotient & 1 ? FSW_C1 : 0);
}

struct softfp x87_remainder(struct x87 *x, struct softfp a, struct softfp b, bool nearest, unsigned *ret_cc)
{
    struct softfp r;
    uint64_t quotient;

    *ret_cc = X87_NO_QUOTIENT;
    x->env.wrap = EXPONENT_WRAP;
    if (x87_nan(x, &a, &b, &r))
        return r;
    if (a.cls == SOFTFP_INF || b.cls == SOFTFP_ZERO) {
        x->env.flags |= SOFTFP_I;
        return softfp_default_nan();
    }
    if (denormal(x, &a) | denormal(x, &b))
        return a;
    *ret_cc = 0;
    if (a.cls == SOFTFP_ZERO || b.cls == SOFTFP_INF)
        return a;
    int difference = a.exp - b.exp;
    if (difference >= 64) { /* a partial remainder: the same number of bits as Intel's processors take off */
        int take = (difference & 31) | 32;
        uint64_t rest = reduce(a.sig, b.sig, take, &quotient);
        *ret_cc = FSW_C2;
        return from_rest(x, a.sign, a.exp - take, rest);
    }
    if (difference < (nearest ? -1 : 0))
        return softfp_round_exact(&x->env, &softfp_extended, a.sign, a.exp, a.sig, 0);

    uint64_t rest;
    bool sign = a.sign;
    int32_t exp = b.exp;
    if (difference < 0) { /* FPREM1 with b / 2 <= |a| < b: the quotient is 0 or 1 */
        quotient = 0;
        if (a.sig > b.sig) { /* |a| > b / 2 */
            quotient = 1;
            rest = b.sig - (a.sig - b.sig); /* 2b - a in units of a's exponent */
            exp = a.exp;
            sign = !sign;
        } else {
            return softfp_round_exact(&x->env, &softfp_extended, a.sign, a.exp, a.sig, 0);
        }
    } else {
        rest = reduce(a.sig, b.sig, difference, &quotient);
        uint64_t other = b.sig - rest;
        if (nearest && (rest > other || (rest == other && quotient & 1))) {
            rest = other;
            quotient++;
            sign = !sign;
        }
    }
    *ret_cc = quotient_cc(quotient);
    if (!rest)
        return softfp_zero(a.sign);
    return from_rest(x, sign, exp, rest);
}

int x87_compare(struct x87 *x, const struct softfp *a, const struct softfp *b, bool quiet)
{
    if (a->cls == SOFTFP_UNSUPPORTED || b->cls == SOFTFP_UNSUPPORTED) {
        x->env.flags |= SOFTFP_I;
        return 2;
    }
    if (a->cls == SOFTFP_NAN || b->cls == SOFTFP_NAN) {
        if (!quiet || softfp_is_snan(a) || softfp_is_snan(b))
            x->env.flags |= SOFTFP_I;
        return 2;
    }
    if (a->denormal || b->denormal)
        x->env.flags |= SOFTFP_D;
    return softfp_compare(a, b);
}

int64_t x87_to_int(struct x87 *x, struct softfp a, unsigned bits, bool truncate)
{
    uint8_t rounding = x->env.rounding;

    if (truncate)
        x->env.rounding = SOFTFP_TRUNCATE;
    int64_t value = softfp_to_int(&x->env, a, bits);
    x->env.rounding = rounding;
    return value;
}

#define BCD_LIMIT 1000000000000000000ll /* 18 digits */

void x87_to_bcd(struct x87 *x, struct softfp a, uint8_t bcd[10])
{
    static const uint8_t indefinite[10] = {0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff};
    uint8_t before = x->env.flags;
    int64_t value = softfp_to_int(&x->env, a, 64);
    uint64_t digits = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

    if (digits >= BCD_LIMIT) {
        x->env.flags = before | SOFTFP_I;
        x->env.rounded_up = false;
        memcpy(bcd, indefinite, 10);
        return;
    }
    for (unsigned i = 0; i < 9; i++, digits /= 100)
        bcd[i] = (uint8_t)(digits % 10 | digits / 10 % 10 << 4);
    bcd[9] = a.sign ? 0x80 : 0;
}

struct softfp x87_from_bcd(const uint8_t bcd[10])
{
    int64_t value = 0;

    for (int i = 8; i >= 0; i--)
        value = value * 100 + (bcd[i] >> 4) * 10 + (bcd[i] & 15);
    struct softfp r = softfp_from_int(value);
    r.sign = bcd[9] >> 7;
    return r;
}
