/* SPDX-License-Identifier: Apache-2.0 */
/* Reference implementation: SSE conversions. */
#include "translator/x86/vec_fp.h"

/* One lane from floating point to floating point. */
static void convert_format(struct softfp_env *env, union x86_vec *d, unsigned i, unsigned to,
                           const union x86_vec *s, unsigned from)
{
    struct softfp x = vec_fp_get(env, s, i, from), r;

    if (!vec_fp_nan(env, &x, &x, &r))
        r = softfp_round(env, vec_fp_format(to), x);
    vec_fp_put(d, i, to, &r);
}

static void convert_from_int(struct softfp_env *env, union x86_vec *d, unsigned i, unsigned to, int64_t value)
{
    struct softfp r = softfp_round(env, vec_fp_format(to), softfp_from_int(value));

    vec_fp_put(d, i, to, &r);
}

static int64_t convert_to_int(const struct softfp_env *outer, uint8_t *flags, const union x86_vec *s,
                              unsigned i, unsigned from, unsigned bits, bool truncate)
{
    struct softfp_env env = *outer;
    struct softfp x = vec_fp_get(&env, s, i, from);

    env.flags = 0;
    if (truncate)
        env.rounding = SOFTFP_TRUNCATE;
    int64_t value = softfp_to_int(&env, x, bits);
    *flags |= env.flags;
    return value;
}

static int finish(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                  const struct softfp_env *env, const union x86_vec *d)
{
    int r = vec_fp_end(cpu, env);

    if (r == X86_OK)
        vec_put_reg(cpu, op, insn, d);
    return r;
}

/* Between vector registers. */
int vec_cvt(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn, union x86_vec *mem)
{
    struct softfp_env env = vec_fp_begin(cpu);
    union x86_vec d = {0}, s;

    vec_get_rm(cpu, op, insn, mem, &s);
    switch (insn->opcode << 8 | insn->prefix) {
    case 0x5a00: /* CVTPS2PD */
        for (unsigned i = 0; i < 2; i++)
            convert_format(&env, &d, i, 8, &s, 4);
        break;
    case 0x5a66: /* CVTPD2PS */
        for (unsigned i = 0; i < 2; i++)
            convert_format(&env, &d, i, 4, &s, 8);
        break;
    case 0x5af3: /* CVTSS2SD */
        vec_get_reg(cpu, op, insn, &d);
        convert_format(&env, &d, 0, 8, &s, 4);
        break;
    case 0x5af2: /* CVTSD2SS */
        vec_get_reg(cpu, op, insn, &d);
        convert_format(&env, &d, 0, 4, &s, 8);
        break;
    case 0x5b00: /* CVTDQ2PS */
        for (unsigned i = 0; i < 4; i++)
            convert_from_int(&env, &d, i, 4, (int32_t)s.d[i]);
        break;
    case 0x5b66: /* CVTPS2DQ, CVTTPS2DQ */
    case 0x5bf3:
        for (unsigned i = 0; i < 4; i++)
            d.d[i] = (uint32_t)convert_to_int(&env, &env.flags, &s, i, 4, 32, insn->prefix == 0xf3);
        break;
    case 0xe6f3: /* CVTDQ2PD */
        for (unsigned i = 0; i < 2; i++)
            convert_from_int(&env, &d, i, 8, (int32_t)s.d[i]);
        break;
    default: /* e666 CVTTPD2DQ, e6f2 CVTPD2DQ */
        for (unsigned i = 0; i < 2; i++)
            d.d[i] = (uint32_t)convert_to_int(&env, &env.flags, &s, i, 8, 32, insn->prefix == 0x66);
        break;
    }
    return finish(cpu, op, insn, &env, &d);
}

/* CVTSI2SS, CVTSI2SD, CVTSS2SI, CVTSD2SI and the truncating forms; F2 is double. */
int vec_cvt_gpr(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                union x86_vec *mem)
{
    struct softfp_env env = vec_fp_begin(cpu);
    unsigned bytes = insn->prefix == 0xf2 ? 8 : 4;
    bool wide = op->size == 8;
    union x86_vec d = {0}, s;

    vec_get_rm(cpu, op, insn, mem, &s);
    if (insn->opcode == 0x2a) {
        vec_get_reg(cpu, op, insn, &d);
        convert_from_int(&env, &d, 0, bytes, wide ? (int64_t)s.q[0] : (int32_t)s.d[0]);
    } else {
        d.q[0] =
            (uint64_t)convert_to_int(&env, &env.flags, &s, 0, bytes, wide ? 64 : 32, insn->opcode == 0x2c);
    }
    return finish(cpu, op, insn, &env, &d);
}

/* CVTPI2PS, CVTPI2PD, CVTPS2PI, CVTPD2PI and the truncating forms; 66 is double. */
int vec_cvt_mmx(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                union x86_vec *mem)
{
    struct softfp_env env = vec_fp_begin(cpu);
    unsigned bytes = insn->prefix == 0x66 ? 8 : 4;
    union x86_vec d = {0}, s;

    vec_get_rm(cpu, op, insn, mem, &s);
    if (insn->opcode == 0x2a)
        vec_get_reg(cpu, op, insn, &d);
    for (unsigned i = 0; i < 2; i++) {
        if (insn->opcode == 0x2a)
            convert_from_int(&env, &d, i, bytes, (int32_t)s.d[i]);
        else
            d.d[i] = (uint32_t)convert_to_int(&env, &env.flags, &s, i, bytes, 32, insn->opcode == 0x2c);
    }
    return finish(cpu, op, insn, &env, &d);
}
