/* SPDX-License-Identifier: Apache-2.0 */
/* Reference implementation: SSE floating-point arithmetic and comparisons. */
#include "translator/x86/vec_fp.h"

#define MXCSR_DAZ (1u << 6)
#define MXCSR_FTZ (1u << 15)

struct softfp_env vec_fp_begin(const struct x86_cpu *cpu)
{
    return (struct softfp_env){
        .rounding = cpu->mxcsr >> 13 & 3,
        .masked = cpu->mxcsr >> 7 & 0x3f,
        .daz = cpu->mxcsr & MXCSR_DAZ,
        .ftz = cpu->mxcsr & MXCSR_FTZ,
    };
}

int vec_fp_end(struct x86_cpu *cpu, const struct softfp_env *env)
{
    unsigned before_rounding = SOFTFP_I | SOFTFP_D | SOFTFP_Z, flags = env->flags;

    if (cpu->fp_deferred) {
        cpu->fp_flags[cpu->fp_step++] |= flags;
        return X86_OK;
    }
    /* An unmasked exception of the operands is raised before any lane is rounded. */
    if (flags & before_rounding & ~env->masked)
        flags &= before_rounding;
    cpu->mxcsr |= flags;
    if (!(flags & ~env->masked))
        return X86_OK;
    return x86_raise(cpu, cpu->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD);
}

void vec_fp_defer(struct x86_cpu *cpu)
{
    cpu->fp_deferred = true;
    cpu->fp_step = 0;
    memset(cpu->fp_flags, 0, sizeof(cpu->fp_flags));
}

void vec_fp_next_lane(struct x86_cpu *cpu)
{
    cpu->fp_step = 0;
}

int vec_fp_deferred(struct x86_cpu *cpu)
{
    struct softfp_env env = vec_fp_begin(cpu);
    int r = X86_OK;

    cpu->fp_deferred = false;
    for (unsigned i = 0; i < cpu->fp_step && r == X86_OK; i++) {
        env.flags = cpu->fp_flags[i];
        r = vec_fp_end(cpu, &env);
    }
    return r;
}

struct softfp vec_fp_get(const struct softfp_env *env, const union x86_vec *v, unsigned i, unsigned bytes)
{
    return bytes == 4 ? softfp_from_single(env, v->d[i]) : softfp_from_double(env, v->q[i]);
}

void vec_fp_put(union x86_vec *v, unsigned i, unsigned bytes, const struct softfp *a)
{
    if (bytes == 4)
        v->d[i] = softfp_to_single(a);
    else
        v->q[i] = softfp_to_double(a);
}

bool vec_fp_nan(struct softfp_env *env, const struct softfp *a, const struct softfp *b, struct softfp *ret)
{
    if (a->cls != SOFTFP_NAN && b->cls != SOFTFP_NAN)
        return false;
    if (softfp_is_snan(a) || softfp_is_snan(b))
        env->flags |= SOFTFP_I;
    *ret = a->cls == SOFTFP_NAN ? *a : *b;
    ret->sig |= 1ull << 62;
    return true;
}

/* Prefix of the row -> bytes of a lane; F2 and F3 are the scalar forms. */
static unsigned lane_bytes(const struct x86_vec_insn *insn)
{
    return insn->prefix == 0x66 || insn->prefix == 0xf2 ? 8 : 4;
}

static bool is_scalar(const struct x86_vec_insn *insn)
{
    return insn->prefix == 0xf3 || insn->prefix == 0xf2;
}

enum {
    FP_SQRT = 0x51,
    FP_ADD = 0x58,
    FP_MUL = 0x59,
    FP_SUB = 0x5c,
    FP_MIN = 0x5d,
    FP_DIV = 0x5e,
    FP_MAX = 0x5f,
    FP_HADD = 0x7c,
    FP_HSUB = 0x7d,
    FP_ADDSUB = 0xd0
};

/* MIN and MAX give the second operand when either is a NaN or both are zero. */
static struct softfp min_max(struct softfp_env *env, bool max, const struct softfp *a, const struct softfp *b)
{
    if (a->cls == SOFTFP_NAN || b->cls == SOFTFP_NAN) {
        env->flags |= SOFTFP_I;
        return *b;
    }
    if (a->denormal || b->denormal)
        env->flags |= SOFTFP_D;
    int order = softfp_compare(a, b);
    return (max ? order > 0 : order < 0) ? *a : *b;
}

static struct softfp compute(struct softfp_env *env, const struct softfp_format *format, unsigned op,
                             struct softfp a, struct softfp b)
{
    struct softfp nan;

    if (op == FP_MIN || op == FP_MAX)
        return min_max(env, op == FP_MAX, &a, &b);
    if (op == FP_SQRT)
        return vec_fp_nan(env, &b, &b, &nan) ? nan : softfp_sqrt(env, format, b);
    if (vec_fp_nan(env, &a, &b, &nan))
        return nan;
    switch (op) {
    case FP_MUL:
        return softfp_mul(env, format, a, b);
    case FP_DIV:
        return softfp_div(env, format, a, b);
    case FP_SUB:
        b.sign = !b.sign;
        return softfp_add(env, format, a, b);
    default:
        return softfp_add(env, format, a, b);
    }
}

static void compute_lane(struct softfp_env *env, union x86_vec *d, unsigned i, unsigned bytes, unsigned op,
                         const union x86_vec *a, unsigned ai, const union x86_vec *b, unsigned bi)
{
    struct softfp x = vec_fp_get(env, a, ai, bytes), y = vec_fp_get(env, b, bi, bytes);
    struct softfp r = compute(env, vec_fp_format(bytes), op, x, y);

    vec_fp_put(d, i, bytes, &r);
}

int vec_fp_arith(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                 union x86_vec *mem)
{
    struct softfp_env env = vec_fp_begin(cpu);
    bool sse3 = insn->opcode >= 0x7c; /* there F2 means packed single */
    unsigned bytes = sse3 ? (insn->prefix == 0x66 ? 8 : 4) : lane_bytes(insn);
    unsigned count = is_scalar(insn) && !sse3 ? 1 : 16 / bytes;
    union x86_vec a, b, d;

    vec_get_reg(cpu, op, insn, &a);
    vec_get_rm(cpu, op, insn, mem, &b);
    d = a;
    for (unsigned i = 0; i < count; i++) {
        if (insn->opcode == FP_HADD || insn->opcode == FP_HSUB) {
            const union x86_vec *s = i < count / 2 ? &a : &b;
            unsigned pair = 2 * (i % (count / 2));
            compute_lane(&env, &d, i, bytes, insn->opcode == FP_HADD ? FP_ADD : FP_SUB, s, pair, s, pair + 1);
        } else {
            unsigned kind = insn->opcode != FP_ADDSUB ? insn->opcode : i & 1 ? FP_ADD : FP_SUB;
            compute_lane(&env, &d, i, bytes, kind, &a, i, &b, i);
        }
    }
    int r = vec_fp_end(cpu, &env);
    if (r == X86_OK)
        vec_put_reg(cpu, op, insn, &d);
    return r;
}

/* --- comparisons --------------------------------------------------------------------------------------------- */

enum order { ORDER_LESS = -1, ORDER_EQUAL, ORDER_GREATER, ORDER_NONE };

/* `signalling`: quiet NaNs are invalid, too. */
static enum order compare(struct softfp_env *env, const struct softfp *a, const struct softfp *b,
                          bool signalling)
{
    if (a->cls == SOFTFP_NAN || b->cls == SOFTFP_NAN) {
        if (signalling || softfp_is_snan(a) || softfp_is_snan(b))
            env->flags |= SOFTFP_I;
        return ORDER_NONE;
    }
    if (a->denormal || b->denormal)
        env->flags |= SOFTFP_D;
    return (enum order)softfp_compare(a, b);
}

/* The orders for which a predicate (SDM 2A table 3-1) holds: 1 less, 2 equal, 4 greater, 8 unordered. */
static bool holds(unsigned predicate, enum order order)
{
    static const uint8_t orders[16] = {2, 1, 3, 8, 13, 14, 12, 7, 10, 9, 11, 0, 5, 6, 4, 15};

    return orders[predicate & 15] >> (order + 1) & 1;
}

int vec_fp_cmp(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
               union x86_vec *mem)
{
    struct softfp_env env = vec_fp_begin(cpu);
    unsigned bytes = lane_bytes(insn), count = is_scalar(insn) ? 1 : 16 / bytes;
    unsigned predicate = op->imm & (op->op == IR_VEX ? 31 : 7);
    bool signalling = ((predicate & 3) == 1 || (predicate & 3) == 2) != predicate >> 4;
    union x86_vec a, b, d;

    vec_get_reg(cpu, op, insn, &a);
    vec_get_rm(cpu, op, insn, mem, &b);
    d = a;
    for (unsigned i = 0; i < count; i++) {
        struct softfp x = vec_fp_get(&env, &a, i, bytes), y = vec_fp_get(&env, &b, i, bytes);
        memset(&d.b[i * bytes], holds(predicate, compare(&env, &x, &y, signalling)) ? 0xff : 0, bytes);
    }
    int r = vec_fp_end(cpu, &env);
    if (r == X86_OK)
        vec_put_reg(cpu, op, insn, &d);
    return r;
}

/* UCOMISS, COMISS, UCOMISD, COMISD. */
int vec_fp_comis(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                 union x86_vec *mem)
{
    static const uint32_t flags[] = {FLAG_CF, FLAG_ZF, 0, FLAG_ZF | FLAG_PF | FLAG_CF};
    struct softfp_env env = vec_fp_begin(cpu);
    unsigned bytes = lane_bytes(insn);
    union x86_vec a, b;

    vec_get_reg(cpu, op, insn, &a);
    vec_get_rm(cpu, op, insn, mem, &b);
    struct softfp x = vec_fp_get(&env, &a, 0, bytes), y = vec_fp_get(&env, &b, 0, bytes);
    enum order order = compare(&env, &x, &y, insn->opcode == 0x2f);
    int r = vec_fp_end(cpu, &env);
    if (r == X86_OK)
        vec_set_flags(cpu, flags[order + 1]);
    return r;
}

/* --- rounding, dot products, approximations ------------------------------------------------------------------ */

/* ROUNDPS and others: imm bits 0-1 the mode unless bit 2 (MXCSR's), bit 3 suppresses the inexact flag. */
int vec_fp_round(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                 union x86_vec *mem)
{
    struct softfp_env env = vec_fp_begin(cpu);
    unsigned bytes = insn->opcode & 1 ? 8 : 4, count = insn->opcode >= 0x0a ? 1 : 16 / bytes;
    union x86_vec a, b, d;

    if (!(op->imm & 4))
        env.rounding = op->imm & 3;
    vec_get_reg(cpu, op, insn, &a);
    vec_get_rm(cpu, op, insn, mem, &b);
    d = a;
    for (unsigned i = 0; i < count; i++) {
        struct softfp x = vec_fp_get(&env, &b, i, bytes), r;
        if (!vec_fp_nan(&env, &x, &x, &r))
            r = softfp_round_integral(&env, x);
        vec_fp_put(&d, i, bytes, &r);
    }
    if (op->imm & 8)
        env.flags &= (uint8_t)~SOFTFP_P;
    int r = vec_fp_end(cpu, &env);
    if (r == X86_OK)
        vec_put_reg(cpu, op, insn, &d);
    return r;
}

/* DPPS, DPPD: products selected by imm 4-7, summed in pairs, broadcast by imm 0-3. Which operand of a sum comes first
 * matters only for which of two NaNs wins: in the last sum a lane's own term does, before it the other one. */
int vec_fp_dot(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
               union x86_vec *mem)
{
    struct softfp_env env = vec_fp_begin(cpu);
    unsigned bytes = insn->opcode == 0x41 ? 8 : 4, count = 16 / bytes;
    union x86_vec a, b, sum = {0}, d = {0};

    vec_get_reg(cpu, op, insn, &a);
    vec_get_rm(cpu, op, insn, mem, &b);
    for (unsigned i = 0; i < count; i++)
        if (op->imm >> (4 + i) & 1)
            compute_lane(&env, &sum, i, bytes, FP_MUL, &a, i, &b, i);
    for (unsigned width = 1; width < count; width *= 2) {
        union x86_vec term = sum;
        int r = vec_fp_end(cpu, &env);
        if (r != X86_OK)
            return r;
        bool own_first = width == count / 2;
        for (unsigned i = 0; i < count; i++)
            compute_lane(&env, &sum, i, bytes, FP_ADD, &term, own_first ? i : i ^ width, &term,
                         own_first ? i ^ width : i);
    }
    for (unsigned i = 0; i < count; i++)
        if (op->imm >> i & 1)
            memcpy(&d.b[i * bytes], &sum.b[i * bytes], bytes);
    int r = vec_fp_end(cpu, &env);
    if (r == X86_OK)
        vec_put_reg(cpu, op, insn, &d);
    return r;
}

/*
 * RCP and RSQRT promise 12 bits and no more; processors differ in the rest. On an x86 host the reference asks the host,
 * so that it agrees with generated code, elsewhere it rounds the exact value to 12 bits.
 */
#if defined(__x86_64__)
static uint32_t approximate(uint32_t bits, bool root)
{
    if (root)
        __asm__("movd %0, %%xmm0; rsqrtss %%xmm0, %%xmm0; movd %%xmm0, %0" : "+r"(bits) : : "xmm0");
    else
        __asm__("movd %0, %%xmm0; rcpss %%xmm0, %%xmm0; movd %%xmm0, %0" : "+r"(bits) : : "xmm0");
    return bits;
}
#else
static uint32_t approximate(uint32_t bits, bool root)
{
    static const struct softfp_format twelve_bits = {12, -126, 127};
    struct softfp_env env = {.masked = 0x3f, .daz = true, .ftz = true};
    struct softfp x = softfp_from_single(&env, bits), one = softfp_from_int(1);

    if (x.cls == SOFTFP_NAN) {
        x.sig |= 1ull << 62;
        return softfp_to_single(&x);
    }
    if (root && x.cls != SOFTFP_ZERO)
        x = softfp_sqrt(&env, &softfp_extended, x);
    if (x.cls == SOFTFP_ZERO)
        x = softfp_infinity(x.sign);
    else if (x.cls != SOFTFP_NAN)
        x = softfp_div(&env, &twelve_bits, one, x);
    return softfp_to_single(&x);
}
#endif

int vec_fp_approx(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                  union x86_vec *mem)
{
    union x86_vec d, s;

    vec_get_reg(cpu, op, insn, &d);
    vec_get_rm(cpu, op, insn, mem, &s);
    for (unsigned i = 0; i < (insn->prefix == 0xf3 ? 1u : 4u); i++)
        d.d[i] = approximate(s.d[i], insn->opcode == 0x52);
    vec_put_reg(cpu, op, insn, &d);
    return X86_OK;
}
