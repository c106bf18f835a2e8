/* SPDX-License-Identifier: Apache-2.0 */
/* Reference implementation: VEX moves and tests that have no legacy form per lane. */
#include "translator/x86/vex_internal.h"

/* VMOVSS, VMOVSD between registers, in the encoding that names its destination in ModRM.rm. */
int vex_move_scalar(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn,
                    struct vex_args *args)
{
    union x86_vec d = {0};

    memcpy(&d, &args->a, 16);
    memcpy(&d, &args->d, insn->prefix == 0xf2 ? 8 : 4);
    args->d = d;
    return X86_OK;
}

/* VMOVMSKPS, VMOVMSKPD, VPMOVMSKB. */
int vex_movmsk(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn,
               struct vex_args *args)
{
    unsigned lane = insn->opcode == 0xd7 ? 1 : insn->prefix == 0x66 ? 8 : 4;
    union x86_vec mask = {0};

    for (unsigned i = 0; i < args->bytes / lane; i++)
        mask.d[0] |= (uint32_t)(args->b.b[i * lane + lane - 1] >> 7) << i;
    vec_put(cpu, op, VEC_GPR32, op->dst, &mask);
    return X86_OK;
}

/* VPTEST; VTESTPS and VTESTPD look at the signs only. */
int vex_test(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn,
             struct vex_args *args)
{
    static const uint64_t bits[] = {UINT64_C(0x8000000080000000), UINT64_C(1) << 63};
    uint64_t keep = insn->opcode == 0x17 ? UINT64_MAX : bits[insn->opcode & 1], both = 0, only = 0;

    for (unsigned i = 0; i < args->bytes / 8; i++) {
        both |= args->d.q[i] & args->b.q[i] & keep;
        only |= ~args->d.q[i] & args->b.q[i] & keep;
    }
    vec_set_flags(cpu, (both ? 0 : FLAG_ZF) | (only ? 0 : FLAG_CF));
    return X86_OK;
}

/* VZEROUPPER, VZEROALL: outside 64-bit code only the first eight registers. */
int vex_zero(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn,
             struct vex_args *args)
{
    unsigned from = args->bytes == 32 ? 0 : 16, count = cpu->mode & MODE_CS64 ? 16 : 8;

    for (unsigned i = 0; i < count; i++)
        memset(cpu->vec[i].b + from, 0, sizeof(cpu->vec[i]) - from);
    if (count == 16)
        cpu->vec_upper = VEC_UPPER_ZERO;
    return X86_OK;
}
