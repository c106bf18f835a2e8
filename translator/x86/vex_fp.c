/* SPDX-License-Identifier: Apache-2.0 */
/* Reference implementation: fused multiply-add and the conversions of half precision. */
#include "translator/x86/vec_fp.h"
#include "translator/x86/vex_internal.h"

/* --- FMA ----------------------------------------------------------------------------------------------------- */

/* a * b + c. Of several NaNs the first operand's wins, then the multiplier's. */
static struct softfp multiply_add(struct softfp_env *env, const struct softfp_format *format, struct softfp a,
                                  struct softfp b, struct softfp c, bool negate_product, bool negate_c)
{
    struct softfp nan;

    if (vec_fp_nan(env, &a, &b, &nan)) {
        if (softfp_is_snan(&c))
            env->flags |= SOFTFP_I;
        return nan;
    }
    if (vec_fp_nan(env, &c, &c, &nan))
        return nan;
    a.sign ^= negate_product;
    c.sign ^= negate_c;
    return softfp_fma(env, format, a, b, c);
}

/* Opcode: high digit 9 = 132, A = 213, B = 231; low digit 6 = addsub, 7 = subadd, then pairs of packed and scalar: 8 madd,
 * A msub, C nmadd, E nmsub. */
int vex_fma(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn,
            struct vex_args *args)
{
    static const uint8_t order[3][3] = {{0, 2, 1}, {1, 0, 2}, {1, 2, 0}}; /* of destination, vvvv, rm */
    const union x86_vec *sources[3] = {&args->d, &args->a, &args->b};
    const uint8_t *use = order[(insn->opcode >> 4) - 9];
    unsigned bytes = args->wide ? 8 : 4, kind = insn->opcode & 15;
    bool scalar = kind >= 8 && kind & 1, alternate = kind < 8;
    struct softfp_env env = vec_fp_begin(cpu);
    union x86_vec d = {0};

    memcpy(&d, &args->d, scalar ? 16 : args->bytes);
    for (unsigned i = 0; i < (scalar ? 1 : args->bytes / bytes); i++) {
        struct softfp a = vec_fp_get(&env, sources[use[0]], i, bytes);
        struct softfp b = vec_fp_get(&env, sources[use[1]], i, bytes);
        struct softfp c = vec_fp_get(&env, sources[use[2]], i, bytes);
        bool subtract = alternate ? (i & 1) == (kind & 1) : kind & 2;
        struct softfp r = multiply_add(&env, vec_fp_format(bytes), a, b, c, !alternate && kind & 4, subtract);
        vec_fp_put(&d, i, bytes, &r);
    }
    args->d = d;
    return vec_fp_end(cpu, &env);
}

/* --- F16C ---------------------------------------------------------------------------------------------------- */

/* Bit 2 of the immediate: MXCSR's rounding. FTZ has no effect. */
static void to_half(struct softfp_env *env, const struct vex_args *args, union x86_vec *d)
{
    env->ftz = false;
    if (!(args->imm & 4))
        env->rounding = args->imm & 3;
    for (unsigned i = 0; i < args->bytes / 4; i++) {
        struct softfp x = vec_fp_get(env, &args->d, i, 4), r;
        if (!vec_fp_nan(env, &x, &x, &r))
            r = softfp_round(env, &softfp_half, x);
        if (x.denormal && env->flags & SOFTFP_U)
            env->flags |= SOFTFP_P; /* even where an unmasked underflow gives an exact result */
        d->w[i] = softfp_to_half(&r);
    }
}

int vex_cvt_half(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn,
                 struct vex_args *args)
{
    struct softfp_env env = vec_fp_begin(cpu);
    union x86_vec d = {0};

    if (insn->map == 3) {
        to_half(&env, args, &d);
    } else {
        for (unsigned i = 0; i < args->bytes / 4; i++) {
            struct softfp x = softfp_from_half(args->b.w[i]), r;
            if (!vec_fp_nan(&env, &x, &x, &r))
                r = x;
            d.d[i] = softfp_to_single(&r);
        }
    }
    args->d = d;
    return vec_fp_end(cpu, &env);
}
