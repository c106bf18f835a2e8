/* SPDX-License-Identifier: Apache-2.0 */
/*
 * T0: vector and x87 instructions run as they are, on the guest's registers in the host's own: only general
 * registers are mapped and memory becomes [rax]. What shows or changes state that the host has of its own
 * goes to interp_op().
 */
#include "translator/t0/compile_internal.h"

/* --- vector instructions -------------------------------------------------------------------------------- */

/* MMX registers are the x87 unit's; EMMS has no operand at all. */
bool t0_vec_uses_x87(const struct x86_vec_insn *insn)
{
    return insn->reg == VEC_MMX || insn->rm == VEC_MMX || (insn->reg == VEC_NONE && insn->rm == VEC_NONE);
}

/* Sees to it that the guest's x87 state is in the host's unit. Destroys EFLAGS (saved before). */
static void x87_load(struct t0_ctx *c)
{
    struct emitter *e = c->e;
    if (c->x87_loaded) {
        return;
    }
    t0_flags_clobber(c);
    emit_alu_imm(e, 0, IR_CMP, 1, cpu_rm(CPU_OFF(x87_live), 0), 0);
    struct t0_cold *cold = t0_cold_add(c, T0_COLD_X87, emit_jcc_forward(e, 4));
    cold->back = emit_rx(e);
    c->x87_loaded = true;
}

static bool vec_is_gpr(unsigned kind)
{
    return kind == VEC_GPR || kind == VEC_GPR32 || kind == VEC_GPR64;
}

static unsigned vec_mem_bytes(const struct x86_vec_insn *insn, const struct ir_op *op)
{
    return insn->flags & VECF_MEM_W64 && op->size == 8 ? 8 : insn->mem_bytes;
}

void t0_body_string_compare(struct t0_ctx *c, const struct ir_op *op, unsigned opcode)
{
    struct emitter *e = c->e;
    struct rm rm = rm_reg(op->src);
    unsigned flags = EMIT_66 | (op->size == 8 ? EMIT_W : 0);
    bool index = opcode & 1;
    if (op->flags & IRF_SRC_MEM) {
        emit_mov_rr(e, 8, H_RCX, H_RAX);
        rm = rm_mem(H_RCX, 0);
    }
    emit_mov_rr(e, 8, H_RAX, t0_host_reg[IR_RAX]);
    if (op->op == IR_VEX) {
        emit_vex(e, flags, 3, opcode, op->dst, 0, rm);
    } else {
        emit_insn(e, flags, 3, opcode, op->dst, rm);
    }
    emit8(e, (uint8_t)op->imm);
    if (index) {
        emit_mov_rr(e, 4, t0_host_reg[IR_RCX], H_RCX);
    }
    t0_flags_written(c);
}

/* The instruction itself with xmm registers unchanged, general registers mapped and memory at [rax]. */
static void body_vec(struct t0_ctx *c, const struct ir_op *op)
{
    const struct x86_vec_insn *insn = &x86_vec_insns[op->aux];
    struct emitter *e = c->e;
    unsigned flags = (op->size == 8 ? EMIT_W : 0) | (insn->prefix == 0x66   ? EMIT_66
                                                     : insn->prefix == 0xf2 ? EMIT_F2
                                                     : insn->prefix == 0xf3 ? EMIT_F3
                                                                            : 0);
    bool memory = op->flags & (IRF_SRC_MEM | IRF_DST_MEM);
    unsigned reg = insn->modrm_ext != 0xff ? insn->modrm_ext : op->dst;
    unsigned home = IR_NONE;

    if (insn->modrm_ext == 0xff && vec_is_gpr(insn->reg)) {
        if (t0_in_host(reg)) {
            reg = t0_host_reg[reg];
        } else {
            home = reg;
            reg = H_RCX;
        }
    }
    struct rm rm;
    if (memory) {
        rm = t0_guest_mem();
    } else if (vec_is_gpr(insn->rm)) {
        if (t0_in_host(op->src)) {
            rm = rm_reg(t0_host_reg[op->src]);
        } else {
            rm = rm_reg(H_RCX);
            if (insn->flags & VECF_RM_W) {
                home = op->src;
            } else {
                emit_load(e, 8, H_RCX, cpu_rm(t0_home(op->src), 0));
            }
        }
    } else {
        rm = rm_reg(op->src);
    }
    if (insn->flags & VECF_IMPLICIT) {
        t0_body_string_compare(c, op, insn->opcode);
        return;
    }
    if (insn->reg == VEC_NONE && insn->rm == VEC_NONE) {
        emit8(e, 0x0f); /* EMMS */
        emit8(e, insn->opcode);
        return;
    }
    emit_insn(e, flags, insn->map, insn->opcode, reg, rm);
    if (insn->flags & VECF_IMM8) {
        emit8(e, (uint8_t)op->imm);
    }
    if (home != IR_NONE) {
        t0_reg_home_store(c, home, H_RCX);
    }
    if (insn->flags & VECF_FLAGS_W) {
        t0_flags_written(c);
    }
}

void t0_compile_vec(struct t0_ctx *c, const struct ir_op *op)
{
    const struct x86_vec_insn *insn = &x86_vec_insns[op->aux];
    if (t0_vec_uses_x87(insn)) {
        x87_load(c);
    }
    if (!(op->flags & (IRF_SRC_MEM | IRF_DST_MEM))) {
        body_vec(c, op);
        return;
    }
    bool write = insn->flags & VECF_RM_W;
    unsigned size = vec_mem_bytes(insn, op);
    t0_flags_clobber(c);
    t0_emit_ea(c);
    if (insn->flags & VECF_ALIGN) {
        emit8(c->e, 0xa8); /* test al, 15 */
        emit8(c->e, (uint8_t)(size - 1));
        t0_cold_add(c, T0_COLD_INTERPRET, emit_jcc_forward(c->e, 5));
    }
    t0_emit_lookup(c, write ? MMU_WRITE : MMU_READ, size);
    body_vec(c, op);
}

/* --- x87 ------------------------------------------------------------------------------------------------ */

/* Where FIP is to be taken from, should anybody ask. Destroys rcx. */
static void note_x87(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    if (!x86_x87_sets_fip(op->aux >> 8, op->aux & 0xff)) {
        return;
    }
    if (!c->x87_based) {
        emit_load(e, 8, H_RCX, cpu_rm(CPU_OFF(pc_base), 0));
        emit_store(e, 8, H_RCX, cpu_rm(CPU_OFF(x87_base), 0));
        c->x87_based = true;
    }
    emit_insn(e, 0, 0, 0xc7, 0, cpu_rm(CPU_OFF(x87_pc), 0)); /* mov dword [], imm32 */
    emit32(e, op->pc);
}

static void body_x87(struct t0_ctx *c, const struct ir_op *op)
{
    unsigned opcode = 0xd8 | op->aux >> 8, modrm = op->aux & 0xff;
    note_x87(c, op);
    if (modrm < 0xc0) {
        emit_insn(c->e, 0, 0, opcode, modrm >> 3 & 7, t0_guest_mem());
        return;
    }
    emit8(c->e, opcode);
    emit8(c->e, modrm);
}

/* Environment loads and stores, and FNINIT: they show or unmask what the host's unit has of its own. */
static bool x87_in_c(unsigned opcode, unsigned modrm)
{
    unsigned ext = modrm >> 3 & 7;
    bool environment = modrm < 0xc0 && (opcode & 3) == 1 && (ext == 4 || ext == 6);
    return environment || (opcode == 3 && modrm == 0xe3);
}

/* FLDCW of a word that masks everything; casts to integer in i386 code are full of them. Another word is the interpreter's. */
static void compile_fldcw(struct t0_ctx *c)
{
    struct emitter *e = c->e;
    struct rm word = cpu_rm(CPU_OFF(temp) + 16, 0);
    t0_flags_clobber(c);
    t0_emit_ea(c);
    t0_emit_lookup(c, MMU_READ, 2);
    emit_insn(e, 0, 1, 0xb7, H_RAX, t0_guest_mem()); /* read once: another vCPU may be writing it */
    emit_store(e, 4, H_RAX, word);
    emit_insn(e, 0, 0, 0xf7, 2, rm_reg(H_RAX)); /* not eax */
    emit8(e, 0xa8);                             /* test al, imm8 */
    emit8(e, 0x3f);
    t0_cold_add(c, T0_COLD_INTERPRET, emit_jcc_forward(e, 5));
    emit_insn(e, 0, 0, 0xd9, 5, word);
}

void t0_compile_x87(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned opcode = op->aux >> 8, modrm = op->aux & 0xff, ext = modrm >> 3 & 7;
    if (x87_in_c(opcode, modrm)) {
        t0_fallback(c, op);
        return;
    }
    x87_load(c);
    if (modrm < 0xc0 && opcode == 1 && ext == 5) {
        compile_fldcw(c);
        return;
    }
    if (modrm < 0xc0) {
        bool write;
        unsigned size = x86_x87_mem(opcode, modrm, op->size, &write);
        t0_flags_clobber(c);
        t0_emit_ea(c);
        t0_emit_lookup(c, write ? MMU_WRITE : MMU_READ, size);
        body_x87(c, op);
        return;
    }
    if (opcode == 7 && modrm == 0xe0) { /* FNSTSW AX */
        body_x87(c, op);
        emit_mov_rr(e, 2, t0_host_reg[IR_RAX], H_RAX);
        return;
    }
    bool compares =
        (opcode == 3 || opcode == 7) && (ext == 5 || ext == 6); /* FCOMI, FUCOMI, FCOMIP, FUCOMIP */
    bool moves = (opcode == 2 || opcode == 3) && ext < 4;       /* FCMOVcc */
    if (compares || moves) {
        t0_flags_need(c);
    }
    body_x87(c, op);
    if (compares) {
        t0_flags_written(c);
    }
}
