/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the vector reference implementation share. Everything runs on the vCPU's thread. */
#pragma once

#include <string.h>

#include "translator/x86/vec.h"

typedef int vec_exec_fn(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                        union x86_vec *mem);

/* vec_move.c: moves, shuffles, inserts and extracts */
vec_exec_fn vec_move, vec_move_scalar, vec_move_half, vec_move_dup, vec_move_gpr, vec_movq, vec_movmsk,
    vec_shuffle, vec_insert, vec_extract, vec_pextrw, vec_extend;
/* vec_int.c: packed integer arithmetic and logic */
vec_exec_fn vec_int, vec_int38, vec_int3a, vec_shift, vec_shift_imm, vec_ptest;
/* vec_string.c, vec_crypto.c */
vec_exec_fn vec_pcmpstr, vec_aes, vec_sha, vec_pclmul, vec_gfni;
/* vec_fp.c: floating-point arithmetic; vec_cvt.c: conversions */
vec_exec_fn vec_fp_arith, vec_fp_approx, vec_fp_cmp, vec_fp_comis, vec_fp_round, vec_fp_dot;
vec_exec_fn vec_cvt, vec_cvt_gpr, vec_cvt_mmx;
/* vec_mmx.c */
vec_exec_fn vec_emms;

/* Raises #MF when an unmasked x87 exception is pending, as every MMX instruction does. Brings the x87 state into
 * cpu->fx. X86_OK or X86_RAISE. */
int vec_mmx_check(struct x86_cpu *cpu);
/* x87 -> MMX: TOP becomes 0 and all tags valid, so that fx.st[n] is MMn. */
void vec_mmx_enter(struct x86_cpu *cpu);

/* Operand numbers of x86_cpu.vec_lane (vex_lanes.c). */
enum { VEC_LANE_REG = 0x20, VEC_LANE_RM = 0x21 };

static inline union x86_vec *vec_at(struct x86_cpu *cpu, unsigned n)
{
    return n < 16 ? &cpu->vec[n] : &cpu->vec_lane[n & 1];
}

/* Reads register `n` of `kind` (enum x86_vec_operand) into the low bytes of `ret`; GPRs by operand size. */
static inline void vec_get(struct x86_cpu *cpu, const struct ir_op *op, unsigned kind, unsigned n,
                           union x86_vec *ret)
{
    switch (kind) {
    case VEC_XMM:
        memcpy(ret, vec_at(cpu, n), 16);
        break;
    case VEC_MMX:
        memcpy(ret, cpu->fx.st[n & 7], 8);
        break;
    case VEC_GPR64:
        ret->q[0] = cpu->gpr[n & 15];
        break;
    case VEC_GPR:
        ret->q[0] = op->size == 8 ? cpu->gpr[n & 15] : (uint32_t)cpu->gpr[n & 15];
        break;
    default:
        ret->q[0] = (uint32_t)cpu->gpr[n & 15];
        break;
    }
}

static inline void vec_put(struct x86_cpu *cpu, const struct ir_op *op, unsigned kind, unsigned n,
                           const union x86_vec *value)
{
    switch (kind) {
    case VEC_XMM:
        memcpy(vec_at(cpu, n), value, 16);
        break;
    case VEC_MMX:
        memcpy(cpu->fx.st[n & 7], value, 8);
        cpu->fx.st[n & 7][8] = 0xff; /* the aliased x87 register becomes a NaN or infinity */
        cpu->fx.st[n & 7][9] = 0xff;
        break;
    case VEC_GPR64:
        cpu->gpr[n & 15] = value->q[0];
        break;
    case VEC_GPR:
        cpu->gpr[n & 15] = op->size == 8 ? value->q[0] : value->d[0];
        break;
    default:
        cpu->gpr[n & 15] = value->d[0];
        break;
    }
}

static inline void vec_get_reg(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                               union x86_vec *ret)
{
    vec_get(cpu, op, insn->reg, op->dst, ret);
}

static inline void vec_put_reg(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                               const union x86_vec *value)
{
    vec_put(cpu, op, insn->reg, op->dst, value);
}

static inline void vec_get_rm(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                              const union x86_vec *mem, union x86_vec *ret)
{
    if (mem)
        memcpy(ret, mem, 16);
    else
        vec_get(cpu, op, insn->rm, op->src, ret);
}

static inline void vec_put_rm(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                              union x86_vec *mem, const union x86_vec *value)
{
    if (mem)
        memcpy(mem, value, 16);
    else
        vec_put(cpu, op, insn->rm, op->src, value);
}

/* Bytes of a packed operand: 8 for the MMX rows. */
static inline unsigned vec_bytes(const struct x86_vec_insn *insn)
{
    return insn->reg == VEC_MMX || (insn->reg == VEC_NONE && insn->rm == VEC_MMX) ? 8 : 16;
}

static inline void vec_set_flags(struct x86_cpu *cpu, uint64_t arith)
{
    cpu->rflags = (cpu->rflags & ~(uint64_t)FLAGS_ARITH) | arith;
}
