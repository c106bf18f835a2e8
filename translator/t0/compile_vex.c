/* SPDX-License-Identifier: Apache-2.0 */
/*
 * T0: VEX-encoded vector instructions run as they are, like the legacy ones (compile_vec.c): vector registers are the
 * host's own, general ones are mapped, memory is [rax].
 *
 * What writes bits 255:128 says so in x86_cpu.vec_upper, so that the ways into C save and load whole registers only when
 * there is something in them (thunks.c).
 */
#include "translator/t0/compile_internal.h"

static unsigned prefix_flags(const struct x86_vex_insn *insn, const struct ir_op *op)
{
    return (op->size == 8 ? EMIT_W : 0) | (op->sub & 1 ? EMIT_L : 0) |
           (insn->prefix == 0x66   ? EMIT_66
            : insn->prefix == 0xf2 ? EMIT_F2
            : insn->prefix == 0xf3 ? EMIT_F3
                                   : 0);
}

static void set_upper(struct t0_ctx *c, enum x86_vec_upper upper)
{
    emit_insn(c->e, 0, 0, 0xc6, 0, cpu_rm(CPU_OFF(vec_upper), 0)); /* mov byte [], imm8 */
    emit8(c->e, upper);
}

/* ModRM.reg as a general register: written only. `*ret_home` is where rcx must be stored afterwards. */
static unsigned general_reg(const struct ir_op *op, unsigned *ret_home)
{
    if (t0_in_host(op->dst)) {
        return t0_host_reg[op->dst];
    }
    *ret_home = op->dst;
    return H_RCX;
}

/* ModRM.rm as a general register. */
static struct rm general_rm(struct t0_ctx *c, const struct x86_vex_insn *insn, const struct ir_op *op,
                            unsigned *ret_home)
{
    if (t0_in_host(op->src)) {
        return rm_reg(t0_host_reg[op->src]);
    }
    if (insn->flags & VECF_RM_W) {
        *ret_home = op->src;
    } else {
        emit_load(c->e, 8, H_RCX, cpu_rm(t0_home(op->src), 0));
    }
    return rm_reg(H_RCX);
}

static void body(struct t0_ctx *c, const struct ir_op *op, bool memory)
{
    const struct x86_vex_insn *insn = &x86_vex_insns[op->aux];
    unsigned reg = op->dst, home = IR_NONE;
    struct rm rm = rm_reg(op->src);

    if (insn->flags & VECF_IMPLICIT) {
        t0_body_string_compare(c, op, insn->opcode);
        return;
    }
    if (insn->modrm_ext != 0xff) {
        reg = insn->modrm_ext;
    } else if (insn->reg != VEC_XMM) {
        reg = general_reg(op, &home);
    }
    if (memory) {
        rm = t0_guest_mem();
    } else if (insn->rm != VEC_XMM) {
        rm = general_rm(c, insn, op, &home);
    }
    emit_vex(c->e, prefix_flags(insn, op), insn->map, insn->opcode, reg, op->src2, rm);
    if (insn->flags & VECF_IMM8) {
        emit8(c->e, (uint8_t)op->imm);
    }
    if (home != IR_NONE) {
        t0_reg_home_store(c, home, H_RCX);
    }
    if (insn->flags & VECF_FLAGS_W) {
        t0_flags_written(c);
    }
}

/* VZEROUPPER and VZEROALL of 64-bit code. */
static void compile_zero(struct t0_ctx *c, const struct ir_op *op)
{
    emit8(c->e, 0xc5);
    emit8(c->e, op->sub & 1 ? 0xfc : 0xf8);
    emit8(c->e, 0x77);
    set_upper(c, VEC_UPPER_CLEAR);
    c->upper_used = false;
}

/* A masked move of 32-bit code through FS or GS checks the limit element by element. */
static bool in_c(const struct t0_ctx *c, const struct ir_op *op, const struct x86_vex_insn *insn)
{
    return insn->vex & VEXF_GATHER || (insn->vex & VEXF_MASK && op->flags & IRF_SEGCHECK) ||
           (insn->vex & VEXF_ZERO && !(c->ir->mode & MODE_CS64));
}

void t0_compile_vex(struct t0_ctx *c, const struct ir_op *op)
{
    const struct x86_vex_insn *insn = &x86_vex_insns[op->aux];
    bool memory = op->flags & (IRF_SRC_MEM | IRF_DST_MEM);

    if (in_c(c, op, insn)) {
        t0_fallback(c, op);
        return;
    }
    if (insn->vex & VEXF_ZERO) {
        compile_zero(c, op);
        return;
    }
    if (op->sub & 1 && !c->upper_used) {
        set_upper(c, VEC_UPPER_USED);
        c->upper_used = true;
    }
    if (memory) {
        unsigned size = x86_vex_mem_bytes(insn, x86_vex_bytes(op), op->size == 8);
        t0_flags_clobber(c);
        t0_emit_ea(c);
        if (insn->flags & VECF_ALIGN) {
            emit8(c->e, 0xa8); /* test al, imm8 */
            emit8(c->e, (uint8_t)(size - 1));
            t0_cold_add(c, T0_COLD_INTERPRET, emit_jcc_forward(c->e, 5));
        }
        t0_emit_lookup(c, insn->flags & VECF_RM_W ? MMU_WRITE : MMU_READ, size);
    }
    body(c, op, memory);
}
