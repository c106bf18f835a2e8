/* SPDX-License-Identifier: Apache-2.0 */
/* Reference implementation: broadcasts, permutations, blends, variable shifts and dot products of AVX. */
#include "translator/x86/vex_internal.h"

/* VBROADCASTSS, SD, F128, I128 and VPBROADCASTB, W, D, Q. */
int vex_broadcast(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn,
                  struct vex_args *args)
{
    unsigned lane;

    switch (insn->opcode) {
    case 0x18:
    case 0x58:
        lane = 4;
        break;
    case 0x19:
    case 0x59:
        lane = 8;
        break;
    case 0x78:
        lane = 1;
        break;
    case 0x79:
        lane = 2;
        break;
    default:
        lane = 16;
        break;
    }
    for (unsigned i = 0; i < args->bytes; i += lane)
        memcpy(&args->d.b[i], args->b.b, lane);
    return X86_OK;
}

/* Source element of element `i` of VPERMILPS/PD, by an immediate or by the control in ModRM.rm. */
static unsigned permil_index(const struct x86_vex_insn *insn, const struct vex_args *args, unsigned i)
{
    bool quad = insn->opcode & 1;

    if (insn->map == 3)
        return quad ? (i & ~1u) | (args->imm >> i & 1) : (i & ~3u) | (args->imm >> 2 * (i & 3) & 3);
    return quad ? (i & ~1u) | (args->b.q[i] >> 1 & 1) : (i & ~3u) | (args->b.d[i] & 3);
}

/* VPERMILPS/PD within lanes; VPERMD, VPERMPS (0F 38), VPERMQ, VPERMPD (0F 3A) across them. */
int vex_permute(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn,
                struct vex_args *args)
{
    bool in_lane =
        insn->opcode == 0x0c || insn->opcode == 0x0d || insn->opcode == 0x04 || insn->opcode == 0x05;
    bool quad = in_lane ? insn->opcode & 1 : insn->map == 3;
    const union x86_vec *s = in_lane && insn->map == 2 ? &args->a : &args->b;

    for (unsigned i = 0; i < args->bytes / (quad ? 8 : 4); i++) {
        if (quad)
            args->d.q[i] = s->q[in_lane ? permil_index(insn, args, i) : args->imm >> 2 * i & 3];
        else
            args->d.d[i] = s->d[in_lane ? permil_index(insn, args, i) : args->a.d[i] & 7];
    }
    return X86_OK;
}

static void select_lane(union x86_vec *d, unsigned i, const struct vex_args *args, unsigned control)
{
    const union x86_vec *s = control & 2 ? &args->b : &args->a;

    if (control & 8)
        memset(&d->b[16 * i], 0, 16);
    else
        memcpy(&d->b[16 * i], &s->b[16 * (control & 1)], 16);
}

/* VPERM2x128, VINSERTx128, VEXTRACTx128. */
int vex_lane128(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn,
                struct vex_args *args)
{
    union x86_vec d = {0};

    switch (insn->opcode) {
    case 0x18:
    case 0x38:
        memcpy(&d, &args->a, 32);
        memcpy(&d.b[16 * (args->imm & 1)], &args->b, 16);
        break;
    case 0x19:
    case 0x39:
        memcpy(&d, &args->d.b[16 * (args->imm & 1)], 16);
        break;
    default: /* 0x06, 0x46 */
        select_lane(&d, 0, args, args->imm);
        select_lane(&d, 1, args, args->imm >> 4);
        break;
    }
    args->d = d;
    return X86_OK;
}

/* VPBLENDD by the immediate; VBLENDVPS, VBLENDVPD, VPBLENDVB by the signs in the register that it names. */
int vex_blend(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn,
              struct vex_args *args)
{
    const union x86_vec *mask = &cpu->vec[args->imm >> 4];
    unsigned lane = insn->opcode == 0x4c ? 1 : insn->opcode == 0x4b ? 8 : 4;

    for (unsigned i = 0; i < args->bytes / lane; i++) {
        unsigned at = i * lane;
        bool second = insn->opcode == 0x02 ? args->imm >> i & 1 : mask->b[at + lane - 1] >> 7;
        memcpy(&args->d.b[at], second ? &args->b.b[at] : &args->a.b[at], lane);
    }
    return X86_OK;
}

static uint32_t shift32(unsigned opcode, uint32_t value, uint32_t count)
{
    if (opcode == 0x46)
        return (uint32_t)((int32_t)value >> (count < 32 ? count : 31));
    return count >= 32 ? 0 : opcode == 0x45 ? value >> count : value << count;
}

/* VPSRLVD/Q, VPSRAVD, VPSLLVD/Q. */
int vex_shift(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn,
              struct vex_args *args)
{
    for (unsigned i = 0; i < args->bytes / 8 && args->wide; i++) {
        uint64_t value = args->a.q[i], count = args->b.q[i];
        args->d.q[i] = count >= 64 ? 0 : insn->opcode == 0x45 ? value >> count : value << count;
    }
    for (unsigned i = 0; i < args->bytes / 4 && !args->wide; i++)
        args->d.d[i] = shift32(insn->opcode, args->a.d[i], args->b.d[i]);
    return X86_OK;
}

/* VPDPBUSD (unsigned by signed bytes), VPDPWSSD (words): sums of products onto the destination; odd opcodes saturate. */
int vex_dot(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn, struct vex_args *args)
{
    for (unsigned i = 0; i < args->bytes / 4; i++) {
        int64_t sum = (int32_t)args->d.d[i];
        for (unsigned j = 0; j < 4 && insn->opcode < 0x52; j++)
            sum += args->a.b[4 * i + j] * (int8_t)args->b.b[4 * i + j];
        for (unsigned j = 0; j < 2 && insn->opcode >= 0x52; j++)
            sum += (int16_t)args->a.w[2 * i + j] * (int16_t)args->b.w[2 * i + j];
        if (insn->opcode & 1)
            sum = sum < INT32_MIN ? INT32_MIN : sum > INT32_MAX ? INT32_MAX : sum;
        args->d.d[i] = (uint32_t)sum;
    }
    return X86_OK;
}
