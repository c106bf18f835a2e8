/* SPDX-License-Identifier: Apache-2.0 */
/* Reference implementation: moves, shuffles, inserts, extracts, widening moves. */
#include "translator/x86/vec_internal.h"

static bool is_store(const struct x86_vec_insn *insn)
{
    return insn->flags & VECF_RM_W;
}

/* Whole registers: MOVAPS, MOVDQU, MOVQ mm, LDDQU, non-temporal forms. */
int vec_move(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn, union x86_vec *mem)
{
    union x86_vec v;

    if (is_store(insn)) {
        vec_get_reg(cpu, op, insn, &v);
        vec_put_rm(cpu, op, insn, mem, &v);
    } else {
        vec_get_rm(cpu, op, insn, mem, &v);
        vec_put_reg(cpu, op, insn, &v);
    }
    return X86_OK;
}

/* MOVSS, MOVSD: a load clears the rest, a register form keeps it. */
int vec_move_scalar(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                    union x86_vec *mem)
{
    union x86_vec dst = {0}, src;

    if (is_store(insn)) {
        vec_get_reg(cpu, op, insn, &src);
        if (!mem)
            vec_get(cpu, op, VEC_XMM, op->src, &dst);
        memcpy(&dst, &src, insn->mem_bytes);
        vec_put_rm(cpu, op, insn, mem, &dst);
    } else {
        vec_get_rm(cpu, op, insn, mem, &src);
        if (!mem)
            vec_get_reg(cpu, op, insn, &dst);
        memcpy(&dst, &src, insn->mem_bytes);
        vec_put_reg(cpu, op, insn, &dst);
    }
    return X86_OK;
}

/* MOVLPS, MOVHPS and, in the register forms, MOVHLPS and MOVLHPS. */
int vec_move_half(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                  union x86_vec *mem)
{
    unsigned half = insn->opcode >= 0x16;
    union x86_vec reg, rm = {0};

    vec_get_reg(cpu, op, insn, &reg);
    if (is_store(insn)) {
        rm.q[0] = reg.q[half];
        vec_put_rm(cpu, op, insn, mem, &rm);
        return X86_OK;
    }
    vec_get_rm(cpu, op, insn, mem, &rm);
    reg.q[half] = mem ? rm.q[0] : rm.q[!half];
    vec_put_reg(cpu, op, insn, &reg);
    return X86_OK;
}

/* MOVDDUP, MOVSLDUP, MOVSHDUP. */
int vec_move_dup(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                 union x86_vec *mem)
{
    union x86_vec s, d;

    vec_get_rm(cpu, op, insn, mem, &s);
    if (insn->prefix == 0xf2) {
        d.q[0] = d.q[1] = s.q[0];
    } else {
        unsigned odd = insn->opcode == 0x16;
        d.d[0] = d.d[1] = s.d[odd];
        d.d[2] = d.d[3] = s.d[2 + odd];
    }
    vec_put_reg(cpu, op, insn, &d);
    return X86_OK;
}

/* MOVD and MOVQ between a vector and a general register or memory. */
int vec_move_gpr(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                 union x86_vec *mem)
{
    union x86_vec v = {0}, d = {0};

    if (is_store(insn)) {
        vec_get_reg(cpu, op, insn, &v);
        vec_put_rm(cpu, op, insn, mem, &v);
    } else {
        vec_get_rm(cpu, op, insn, mem, &v);
        d.q[0] = op->size == 8 ? v.q[0] : v.d[0];
        vec_put_reg(cpu, op, insn, &d);
    }
    return X86_OK;
}

/* MOVQ xmm, MOVQ2DQ, MOVDQ2Q: 64 bits, the rest of an XMM destination is cleared. */
int vec_movq(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn, union x86_vec *mem)
{
    union x86_vec s, d = {0};

    if (is_store(insn)) {
        vec_get_reg(cpu, op, insn, &s);
        d.q[0] = s.q[0];
        vec_put_rm(cpu, op, insn, mem, &d);
    } else {
        vec_get_rm(cpu, op, insn, mem, &s);
        d.q[0] = s.q[0];
        vec_put_reg(cpu, op, insn, &d);
    }
    return X86_OK;
}

/* MOVMSKPS, MOVMSKPD, PMOVMSKB. */
int vec_movmsk(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
               union x86_vec *mem)
{
    unsigned bytes = insn->rm == VEC_MMX ? 8 : 16;
    unsigned lane = insn->opcode == 0xd7 ? 1 : insn->prefix == 0x66 ? 8 : 4;
    union x86_vec s, d = {0};

    vec_get_rm(cpu, op, insn, mem, &s);
    for (unsigned i = 0; i < bytes / lane; i++)
        d.d[0] |= (uint32_t)(s.b[i * lane + lane - 1] >> 7) << i;
    vec_put_reg(cpu, op, insn, &d);
    return X86_OK;
}

static void unpack(union x86_vec *d, const union x86_vec *a, const union x86_vec *b, unsigned lane,
                   unsigned bytes, bool high)
{
    unsigned from = high ? bytes / 2 : 0;

    for (unsigned i = 0; i < bytes / 2; i += lane) {
        memcpy(&d->b[2 * i], &a->b[from + i], lane);
        memcpy(&d->b[2 * i + lane], &b->b[from + i], lane);
    }
}

static void shuffle_words(union x86_vec *d, const union x86_vec *s, unsigned first, unsigned order)
{
    for (unsigned i = 0; i < 4; i++)
        d->w[first + i] = s->w[first + (order >> 2 * i & 3)];
}

/* Unpacks and immediate shuffles. */
int vec_shuffle(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                union x86_vec *mem)
{
    unsigned bytes = vec_bytes(insn), imm = (uint8_t)op->imm;
    unsigned fp_lane = insn->prefix == 0x66 ? 8 : 4;
    union x86_vec a, b, d;

    vec_get_reg(cpu, op, insn, &a);
    vec_get_rm(cpu, op, insn, mem, &b);
    d = b;
    switch (insn->opcode) {
    case 0x14: /* UNPCKLPS, UNPCKLPD */
    case 0x15:
        unpack(&d, &a, &b, fp_lane, 16, insn->opcode == 0x15);
        break;
    case 0x60: /* PUNPCKLBW, WD, DQ */
    case 0x61:
    case 0x62:
        unpack(&d, &a, &b, 1u << (insn->opcode - 0x60), bytes, false);
        break;
    case 0x68:
    case 0x69:
    case 0x6a:
        unpack(&d, &a, &b, 1u << (insn->opcode - 0x68), bytes, true);
        break;
    case 0x6c: /* PUNPCKLQDQ, PUNPCKHQDQ */
    case 0x6d:
        unpack(&d, &a, &b, 8, 16, insn->opcode == 0x6d);
        break;
    case 0x70:
        if (insn->prefix == 0x66) {
            for (unsigned i = 0; i < 4; i++)
                d.d[i] = b.d[imm >> 2 * i & 3];
        } else {
            shuffle_words(&d, &b, insn->prefix == 0xf3 ? 4 : 0, imm);
        }
        break;
    default: /* 0xc6: SHUFPS, SHUFPD */
        if (insn->prefix == 0x66) {
            d.q[0] = a.q[imm & 1];
            d.q[1] = b.q[imm >> 1 & 1];
        } else {
            d.d[0] = a.d[imm & 3];
            d.d[1] = a.d[imm >> 2 & 3];
            d.d[2] = b.d[imm >> 4 & 3];
            d.d[3] = b.d[imm >> 6 & 3];
        }
        break;
    }
    vec_put_reg(cpu, op, insn, &d);
    return X86_OK;
}

/* PINSRB, PINSRW, PINSRD, PINSRQ, INSERTPS. */
int vec_insert(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
               union x86_vec *mem)
{
    unsigned imm = (uint8_t)op->imm;
    union x86_vec d, s;

    vec_get_reg(cpu, op, insn, &d);
    vec_get_rm(cpu, op, insn, mem, &s);
    if (insn->opcode == 0xc4) {
        d.w[imm & (insn->reg == VEC_MMX ? 3 : 7)] = s.w[0];
    } else if (insn->opcode == 0x20) {
        d.b[imm & 15] = s.b[0];
    } else if (insn->opcode == 0x21) {
        d.d[imm >> 4 & 3] = s.d[mem ? 0 : imm >> 6];
        for (unsigned i = 0; i < 4; i++)
            if (imm >> i & 1)
                d.d[i] = 0;
    } else if (op->size == 8) {
        d.q[imm & 1] = s.q[0];
    } else {
        d.d[imm & 3] = s.d[0];
    }
    vec_put_reg(cpu, op, insn, &d);
    return X86_OK;
}

/* PEXTRB, PEXTRW (0F 3A), PEXTRD, PEXTRQ, EXTRACTPS. */
int vec_extract(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                union x86_vec *mem)
{
    unsigned imm = (uint8_t)op->imm;
    union x86_vec s, d = {0};

    vec_get_reg(cpu, op, insn, &s);
    if (insn->opcode == 0x14)
        d.q[0] = s.b[imm & 15];
    else if (insn->opcode == 0x15)
        d.q[0] = s.w[imm & 7];
    else if (insn->opcode == 0x16 && op->size == 8)
        d.q[0] = s.q[imm & 1];
    else
        d.q[0] = s.d[imm & 3];
    vec_put_rm(cpu, op, insn, mem, &d);
    return X86_OK;
}

/* PEXTRW (0F C5): register to register. */
int vec_pextrw(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
               union x86_vec *mem)
{
    union x86_vec s, d = {0};

    vec_get_rm(cpu, op, insn, mem, &s);
    d.q[0] = s.w[op->imm & (insn->rm == VEC_MMX ? 3 : 7)];
    vec_put_reg(cpu, op, insn, &d);
    return X86_OK;
}

/* PMOVSX*, PMOVZX*: opcode & 7 selects the pair of widths. */
int vec_extend(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
               union x86_vec *mem)
{
    static const uint8_t from[6] = {1, 1, 1, 2, 2, 4}, to[6] = {2, 4, 8, 4, 8, 8};
    unsigned narrow = from[insn->opcode & 7], wide = to[insn->opcode & 7];
    bool is_signed = insn->opcode < 0x30;
    union x86_vec s, d = {0};

    vec_get_rm(cpu, op, insn, mem, &s);
    for (unsigned i = 0; i < 16 / wide; i++) {
        uint64_t lane = 0;
        memcpy(&lane, &s.b[i * narrow], narrow);
        if (is_signed) {
            unsigned unused = 64 - 8 * narrow;
            lane = (uint64_t)((int64_t)(lane << unused) >> unused);
        }
        memcpy(&d.b[i * wide], &lane, wide);
    }
    vec_put_reg(cpu, op, insn, &d);
    return X86_OK;
}
