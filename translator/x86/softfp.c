/* SPDX-License-Identifier: Apache-2.0 */
/* Binary floating point in integer arithmetic, see softfp.h. */
#include "translator/x86/softfp.h"

typedef unsigned __int128 u128;

const struct softfp_format softfp_half = {11, -14, 15};
const struct softfp_format softfp_single = {24, -126, 127};
const struct softfp_format softfp_double = {53, -1022, 1023};
const struct softfp_format softfp_extended = {64, -16382, 16383};

#define TOP_BIT (1ull << 63)

struct softfp softfp_default_nan(void)
{
    return (struct softfp){.cls = SOFTFP_NAN, .sign = true, .sig = 3ull << 62};
}

struct softfp softfp_zero(bool sign)
{
    return (struct softfp){.cls = SOFTFP_ZERO, .sign = sign};
}

struct softfp softfp_infinity(bool sign)
{
    return (struct softfp){.cls = SOFTFP_INF, .sign = sign, .sig = TOP_BIT};
}

/* --- packing ------------------------------------------------------------------------------------------------- */

/* `fraction` is left-aligned below bit 63. */
static struct softfp unpack(bool daz, bool sign, int biased, int biased_max, int emin, uint64_t fraction)
{
    struct softfp r = {
        .cls = SOFTFP_NORMAL, .sign = sign, .exp = biased + emin - 1, .sig = TOP_BIT | fraction};

    if (biased == biased_max) {
        r.cls = fraction ? SOFTFP_NAN : SOFTFP_INF;
    } else if (!biased) {
        if (!fraction || daz)
            return softfp_zero(sign);
        int shift = __builtin_clzll(fraction);
        r.sig = fraction << shift;
        r.exp = emin - shift;
        r.denormal = true;
    }
    return r;
}

struct softfp softfp_from_half(uint16_t bits)
{
    struct softfp r = unpack(false, bits >> 15, bits >> 10 & 31, 31, -14, (uint64_t)(bits & 0x3ff) << 53);

    r.denormal = false;
    return r;
}

struct softfp softfp_from_single(const struct softfp_env *env, uint32_t bits)
{
    return unpack(env->daz, bits >> 31, bits >> 23 & 0xff, 0xff, -126, (uint64_t)(bits & 0x7fffff) << 40);
}

struct softfp softfp_from_double(const struct softfp_env *env, uint64_t bits)
{
    return unpack(env->daz, bits >> 63, (int)(bits >> 52 & 0x7ff), 0x7ff, -1022,
                  (bits & 0xfffffffffffff) << 11);
}

struct softfp softfp_from_extended(uint64_t significand, uint16_t sign_exponent)
{
    bool sign = sign_exponent >> 15;
    int biased = sign_exponent & 0x7fff;
    struct softfp r = {.cls = SOFTFP_NORMAL, .sign = sign, .exp = biased - 16383, .sig = significand};

    if (!biased) {
        if (!significand)
            return softfp_zero(sign);
        int shift = __builtin_clzll(significand);
        r.sig <<= shift;
        r.exp = -16382 - shift;
        r.denormal = true;
    } else if (!(significand & TOP_BIT)) {
        r.cls = SOFTFP_UNSUPPORTED;
    } else if (biased == 0x7fff) {
        r.cls = significand << 1 ? SOFTFP_NAN : SOFTFP_INF;
    }
    return r;
}

struct softfp softfp_from_int(int64_t value)
{
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    int shift;

    if (!value)
        return softfp_zero(false);
    shift = __builtin_clzll(magnitude);
    return (struct softfp){
        .cls = SOFTFP_NORMAL, .sign = value < 0, .exp = 63 - shift, .sig = magnitude << shift};
}

/* Biased exponent and fraction with `precision` bits of significand. */
static uint64_t pack(const struct softfp *a, int precision, int emin, uint64_t biased_max)
{
    uint64_t biased = (uint64_t)(a->exp - emin + 1), fraction = a->sig << 1 >> (65 - precision);

    switch (a->cls) {
    case SOFTFP_ZERO:
        return 0;
    case SOFTFP_INF:
        return biased_max << (precision - 1);
    case SOFTFP_NAN:
        return biased_max << (precision - 1) | fraction;
    default:
        break;
    }
    if (a->exp < emin) /* far below it only when an unmasked underflow drops the result */
        return emin - a->exp > 63 ? 0 : a->sig >> (64 - precision) >> (emin - a->exp);
    return biased << (precision - 1) | fraction;
}

uint16_t softfp_to_half(const struct softfp *a)
{
    return (uint16_t)((unsigned)a->sign << 15 | (unsigned)pack(a, 11, -14, 31));
}

uint32_t softfp_to_single(const struct softfp *a)
{
    return (uint32_t)a->sign << 31 | (uint32_t)pack(a, 24, -126, 0xff);
}

uint64_t softfp_to_double(const struct softfp *a)
{
    return (uint64_t)a->sign << 63 | pack(a, 53, -1022, 0x7ff);
}

void softfp_to_extended(const struct softfp *a, uint64_t *ret_significand, uint16_t *ret_sign_exponent)
{
    unsigned sign = a->sign ? 0x8000 : 0;

    *ret_significand = a->cls == SOFTFP_ZERO ? 0 : a->sig;
    if (a->cls == SOFTFP_ZERO) {
        *ret_sign_exponent = (uint16_t)sign;
    } else if (a->cls != SOFTFP_NORMAL) {
        *ret_sign_exponent = (uint16_t)(sign | 0x7fff);
    } else if (a->exp < -16382) {
        *ret_significand = a->sig >> (-16382 - a->exp);
        *ret_sign_exponent = (uint16_t)sign;
    } else {
        *ret_sign_exponent = (uint16_t)(sign | (unsigned)(a->exp + 16383));
    }
}

/* --- rounding ------------------------------------------------------------------------------------------------ */

struct rounded {
    uint64_t sig;
    int32_t exp;
    bool inexact, up;
};

/* Keeps the upper `precision` bits (0..64) of sig:extra. A carry out of the top moves the exponent. precision 0 means
 * that the first dropped bit is the top bit of `sig`; less than that must have been shifted in as sticky. */
static struct rounded round_at(int mode, bool sign, int32_t exp, uint64_t sig, uint64_t extra, int precision)
{
    struct rounded r = {.exp = exp};
    uint64_t kept = precision ? sig >> (64 - precision) : 0;
    uint64_t rest = precision == 64 ? extra
                    : precision     ? sig << precision | (extra != 0)
                                    : sig | (extra != 0);

    r.inexact = rest != 0;
    switch (mode) {
    case SOFTFP_NEAREST:
        r.up = rest > TOP_BIT || (rest == TOP_BIT && kept & 1);
        break;
    case SOFTFP_DOWN:
        r.up = sign && r.inexact;
        break;
    case SOFTFP_UP:
        r.up = !sign && r.inexact;
        break;
    default:
        break;
    }
    kept += r.up;
    if (precision == 64 ? r.up && !kept : precision && kept >> precision) {
        kept = 1ull << (precision ? precision - 1 : 0);
        r.exp++;
    }
    r.sig = precision ? kept << (64 - precision) : kept; /* precision 0: 0 or 1 unit */
    return r;
}

static struct softfp overflow(struct softfp_env *env, const struct softfp_format *format, bool sign,
                              struct rounded r)
{
    struct softfp result = {.cls = SOFTFP_NORMAL, .sign = sign, .exp = r.exp - env->wrap, .sig = r.sig};

    env->flags |= SOFTFP_O;
    if (!(env->masked & SOFTFP_O) && (!env->wrap || result.exp <= format->emax)) {
        if (r.inexact)
            env->flags |= SOFTFP_P;
        env->rounded_up = r.up;
        return result;
    }
    env->flags |= SOFTFP_P;
    if (!(env->masked & SOFTFP_O) || env->rounding == SOFTFP_NEAREST ||
        env->rounding == (sign ? SOFTFP_DOWN : SOFTFP_UP)) {
        env->rounded_up = true;
        return softfp_infinity(sign);
    }
    env->rounded_up = false;
    result.exp = format->emax;
    result.sig = UINT64_MAX << (64 - format->precision);
    return result;
}

static void shift_right_jam(uint64_t *sig, uint64_t *extra, unsigned count)
{
    u128 v = (u128)*sig << 64 | *extra;
    u128 lost = count >= 128 ? v : count ? v << (128 - count) : 0;

    v = count >= 128 ? 0 : v >> count;
    v |= lost != 0;
    *sig = (uint64_t)(v >> 64);
    *extra = (uint64_t)v;
}

static struct softfp underflow(struct softfp_env *env, const struct softfp_format *format, bool sign,
                               int32_t exp, uint64_t sig, uint64_t extra, struct rounded r)
{
    struct softfp result = {.cls = SOFTFP_NORMAL, .sign = sign, .exp = r.exp + env->wrap, .sig = r.sig};
    unsigned shift = (unsigned)(format->emin - exp);

    if (!(env->masked & SOFTFP_U)) {
        env->flags |= SOFTFP_U | (r.inexact ? SOFTFP_P : 0);
        env->rounded_up = r.up;
        if (!env->wrap || result.exp >= format->emin)
            return result;
        env->flags |= SOFTFP_P; /* FSCALE by very much: tiny even after the adjustment */
        env->rounded_up = false;
        return softfp_zero(sign);
    }
    if (env->ftz) {
        env->flags |= SOFTFP_U | SOFTFP_P;
        return softfp_zero(sign);
    }
    shift_right_jam(&sig, &extra, shift);
    r = round_at(env->rounding, sign, format->emin, sig, extra, format->precision);
    env->rounded_up = r.up;
    if (r.inexact)
        env->flags |= SOFTFP_U | SOFTFP_P;
    if (!r.sig)
        return softfp_zero(sign);
    int normalise = __builtin_clzll(r.sig);
    result.sig = r.sig << normalise;
    result.exp = r.exp - normalise;
    return result;
}

struct softfp softfp_round_exact(struct softfp_env *env, const struct softfp_format *format, bool sign,
                                 int32_t exp, uint64_t sig, uint64_t extra)
{
    struct rounded r = round_at(env->rounding, sign, exp, sig, extra, format->precision);

    if (r.exp > format->emax)
        return overflow(env, format, sign, r);
    if (r.exp < format->emin)
        return underflow(env, format, sign, exp, sig, extra, r);
    if (exp <
        format
            ->emin) { /* rounds up to the smallest normal number: not tiny, but the bits are counted there */
        unsigned shift = (unsigned)(format->emin - exp);
        shift_right_jam(&sig, &extra, shift);
        r = round_at(env->rounding, sign, format->emin, sig, extra, format->precision);
        int normalise = __builtin_clzll(r.sig);
        r.sig <<= normalise;
        r.exp -= normalise;
    }
    env->rounded_up = r.up;
    if (r.inexact)
        env->flags |= SOFTFP_P;
    return (struct softfp){.cls = SOFTFP_NORMAL, .sign = sign, .exp = r.exp, .sig = r.sig};
}

static void check_denormal(struct softfp_env *env, const struct softfp *a)
{
    if (a->denormal)
        env->flags |= SOFTFP_D;
}

struct softfp softfp_round(struct softfp_env *env, const struct softfp_format *format, struct softfp a)
{
    env->rounded_up = false;
    check_denormal(env, &a);
    a.denormal = false;
    if (a.cls != SOFTFP_NORMAL || (env->flags & SOFTFP_D & ~env->masked))
        return a;
    return softfp_round_exact(env, format, a.sign, a.exp, a.sig, 0);
}

struct softfp softfp_round_integral(struct softfp_env *env, struct softfp a)
{
    env->rounded_up = false;
    if (a.cls != SOFTFP_NORMAL || a.exp >= 63)
        return a;
    uint64_t sig = a.sig, extra = 0;
    int precision = a.exp + 1;
    if (precision < 0) {
        shift_right_jam(&sig, &extra, (unsigned)-precision);
        precision = 0;
    }
    struct rounded r = round_at(env->rounding, a.sign, a.exp, sig, extra, precision);
    env->rounded_up = r.up;
    if (r.inexact)
        env->flags |= SOFTFP_P;
    if (!precision) {
        if (!r.sig)
            return softfp_zero(a.sign);
        r.sig = TOP_BIT;
        r.exp = 0;
    }
    return (struct softfp){.cls = SOFTFP_NORMAL, .sign = a.sign, .exp = r.exp, .sig = r.sig};
}

int64_t softfp_to_int(struct softfp_env *env, struct softfp a, unsigned bits)
{
    int64_t indefinite = (int64_t)(UINT64_MAX << (bits - 1));
    uint8_t before = env->flags;

    env->rounded_up = false;
    if (a.cls == SOFTFP_ZERO)
        return 0;
    if (a.cls == SOFTFP_NORMAL) {
        struct softfp r = softfp_round_integral(env, a);
        if (r.cls == SOFTFP_ZERO)
            return 0;
        if (r.exp < (int)bits - 1) {
            int64_t magnitude = (int64_t)(r.sig >> (63 - r.exp));
            return r.sign ? -magnitude : magnitude;
        }
        if (r.sign && r.exp == (int)bits - 1 && r.sig == TOP_BIT)
            return indefinite;
    }
    env->rounded_up = false;
    env->flags = before | SOFTFP_I;
    return indefinite;
}

/* --- arithmetic ---------------------------------------------------------------------------------------------- */

static struct softfp invalid(struct softfp_env *env)
{
    env->flags |= SOFTFP_I;
    return softfp_default_nan();
}

/* The operands' denormal exception; true when it is unmasked and ends the operation. */
static bool denormal_operand(struct softfp_env *env, const struct softfp *a, const struct softfp *b)
{
    env->rounded_up = false;
    check_denormal(env, a);
    check_denormal(env, b);
    return (a->denormal || b->denormal) && !(env->masked & SOFTFP_D);
}

static struct softfp normalise_and_round(struct softfp_env *env, const struct softfp_format *format,
                                         bool sign, int32_t exp, u128 v)
{
    uint64_t high = (uint64_t)(v >> 64);
    int shift = high ? __builtin_clzll(high) : 64 + __builtin_clzll((uint64_t)v);

    v <<= shift;
    return softfp_round_exact(env, format, sign, exp - shift, (uint64_t)(v >> 64), (uint64_t)v);
}

struct softfp softfp_add(struct softfp_env *env, const struct softfp_format *format, struct softfp a,
                         struct softfp b)
{
    if (a.cls == SOFTFP_INF && b.cls == SOFTFP_INF && a.sign != b.sign)
        return invalid(env);
    if (denormal_operand(env, &a, &b))
        return a;
    a.denormal = b.denormal = false;
    if (a.cls == SOFTFP_INF || b.cls == SOFTFP_INF)
        return a.cls == SOFTFP_INF ? a : b;
    if (a.cls == SOFTFP_ZERO && b.cls == SOFTFP_ZERO)
        return softfp_zero(a.sign == b.sign ? a.sign : env->rounding == SOFTFP_DOWN);
    if (a.cls == SOFTFP_ZERO || b.cls == SOFTFP_ZERO) {
        struct softfp *other = a.cls == SOFTFP_ZERO ? &b : &a;
        return softfp_round_exact(env, format, other->sign, other->exp, other->sig, 0);
    }
    if (a.exp < b.exp || (a.exp == b.exp && a.sig < b.sig)) {
        struct softfp swap = a;
        a = b;
        b = swap;
    }
    /* One bit of headroom above the significands, 63 bits of room below them. */
    uint64_t high = b.sig >> 1, low = b.sig << 63;
    shift_right_jam(&high, &low, (unsigned)(a.exp - b.exp));
    u128 x = (u128)a.sig << 63, y = (u128)high << 64 | low;
    u128 sum = a.sign == b.sign ? x + y : x - y;
    if (!sum)
        return softfp_zero(env->rounding == SOFTFP_DOWN);
    return normalise_and_round(env, format, a.sign, a.exp + 1, sum);
}

struct softfp softfp_mul(struct softfp_env *env, const struct softfp_format *format, struct softfp a,
                         struct softfp b)
{
    bool sign = a.sign ^ b.sign;

    if ((a.cls == SOFTFP_INF && b.cls == SOFTFP_ZERO) || (a.cls == SOFTFP_ZERO && b.cls == SOFTFP_INF))
        return invalid(env);
    if (denormal_operand(env, &a, &b))
        return a;
    if (a.cls == SOFTFP_INF || b.cls == SOFTFP_INF)
        return softfp_infinity(sign);
    if (a.cls == SOFTFP_ZERO || b.cls == SOFTFP_ZERO)
        return softfp_zero(sign);
    return normalise_and_round(env, format, sign, a.exp + b.exp + 1, (u128)a.sig * b.sig);
}

static u128 shift_right_jam128(u128 v, unsigned count)
{
    uint64_t high = (uint64_t)(v >> 64), low = (uint64_t)v;

    shift_right_jam(&high, &low, count);
    return (u128)high << 64 | low;
}

/* product + c, where v * 2^(exp - 127) is the product's magnitude and neither is 0. */
static struct softfp add_product(struct softfp_env *env, const struct softfp_format *format, bool sign, int32_t exp,
                                 u128 v, const struct softfp *c)
{
    /* One bit of headroom. The significands have at most 106 and 53 bits, so that bits are lost only where the exponents
     * are so far apart that a sticky bit stands for them. */
    u128 x = v >> 1, y = (u128)c->sig << 63;

    if (exp >= c->exp)
        y = shift_right_jam128(y, (unsigned)(exp - c->exp));
    else
        x = shift_right_jam128(x, (unsigned)(c->exp - exp));
    exp = exp > c->exp ? exp : c->exp;
    if (sign == c->sign)
        return normalise_and_round(env, format, sign, exp + 1, x + y);
    if (x == y)
        return softfp_zero(env->rounding == SOFTFP_DOWN);
    return normalise_and_round(env, format, x > y ? sign : c->sign, exp + 1, x > y ? x - y : y - x);
}

struct softfp softfp_fma(struct softfp_env *env, const struct softfp_format *format, struct softfp a,
                         struct softfp b, struct softfp c)
{
    bool sign = a.sign ^ b.sign, infinite = a.cls == SOFTFP_INF || b.cls == SOFTFP_INF;
    bool zero = a.cls == SOFTFP_ZERO || b.cls == SOFTFP_ZERO;

    if ((infinite && zero) || (infinite && c.cls == SOFTFP_INF && c.sign != sign))
        return invalid(env);
    check_denormal(env, &c);
    if (denormal_operand(env, &a, &b) || (c.denormal && !(env->masked & SOFTFP_D)))
        return a;
    if (infinite)
        return softfp_infinity(sign);
    c.denormal = false;
    if (c.cls == SOFTFP_INF)
        return c;
    if (zero && c.cls == SOFTFP_ZERO)
        return softfp_zero(sign == c.sign ? sign : env->rounding == SOFTFP_DOWN);
    if (zero)
        return softfp_round_exact(env, format, c.sign, c.exp, c.sig, 0);
    u128 product = (u128)a.sig * b.sig;
    int32_t exp = a.exp + b.exp + 1;
    if (c.cls == SOFTFP_ZERO)
        return normalise_and_round(env, format, sign, exp, product);
    if (!(product >> 127)) {
        product <<= 1;
        exp--;
    }
    return add_product(env, format, sign, exp, product, &c);
}

struct softfp softfp_div(struct softfp_env *env, const struct softfp_format *format, struct softfp a,
                         struct softfp b)
{
    bool sign = a.sign ^ b.sign;

    env->rounded_up = false;
    if (a.cls == b.cls && (a.cls == SOFTFP_INF || a.cls == SOFTFP_ZERO))
        return invalid(env);
    if (b.cls == SOFTFP_ZERO && a.cls == SOFTFP_NORMAL) {
        env->flags |= SOFTFP_Z;
        return softfp_infinity(sign);
    }
    if (denormal_operand(env, &a, &b))
        return a;
    if (a.cls == SOFTFP_INF)
        return softfp_infinity(sign);
    if (a.cls == SOFTFP_ZERO || b.cls == SOFTFP_INF)
        return softfp_zero(sign);
    bool below = a.sig < b.sig;
    u128 numerator = (u128)a.sig << (below ? 64 : 63);
    uint64_t quotient = (uint64_t)(numerator / b.sig), remainder = (uint64_t)(numerator % b.sig);
    u128 rest = (u128)remainder << 64;
    uint64_t extra = (uint64_t)(rest / b.sig) | (rest % b.sig != 0);
    return softfp_round_exact(env, format, sign, a.exp - b.exp - below, quotient, extra);
}

struct softfp softfp_sqrt(struct softfp_env *env, const struct softfp_format *format, struct softfp a)
{
    env->rounded_up = false;
    if (a.cls == SOFTFP_ZERO)
        return a;
    if (a.sign)
        return invalid(env);
    if (denormal_operand(env, &a, &a) || a.cls == SOFTFP_INF)
        return a;
    /* Root of sig * 2^63 or sig * 2^64, whichever makes the exponent even: 64 bits with the top one set. */
    bool odd = a.exp & 1;
    u128 rest = (u128)a.sig << (odd ? 64 : 63);
    uint64_t root = 0;
    for (int bit = 63; bit >= 0; bit--) {
        uint64_t trial = root | 1ull << bit;
        if ((u128)trial * trial <= rest)
            root = trial;
    }
    u128 remainder = rest - (u128)root * root;
    uint64_t extra = (remainder > root ? TOP_BIT : 0) | (remainder != 0);
    int32_t exp = odd ? (a.exp - 1) / 2 : a.exp / 2;
    return softfp_round_exact(env, format, false, exp, root, extra);
}

int softfp_compare(const struct softfp *a, const struct softfp *b)
{
    int sign = a->sign ? -1 : 1;

    if (a->cls == SOFTFP_ZERO && b->cls == SOFTFP_ZERO)
        return 0;
    if (a->cls == SOFTFP_ZERO)
        return b->sign ? 1 : -1;
    if (b->cls == SOFTFP_ZERO || a->sign != b->sign)
        return sign;
    if (a->cls == SOFTFP_INF || b->cls == SOFTFP_INF)
        return a->cls == b->cls ? 0 : a->cls == SOFTFP_INF ? sign : -sign;
    if (a->exp != b->exp)
        return a->exp > b->exp ? sign : -sign;
    return a->sig == b->sig ? 0 : a->sig > b->sig ? sign : -sign;
}
