/* SPDX-License-Identifier: Apache-2.0 */
/*
 * T0: one iteration of a string instruction. With a repeat prefix the interpreter copies and fills whole runs, better than
 * a loop here could.
 */
#include "translator/t0/compile_internal.h"

static struct rm spill(void)
{
    return cpu_rm(CPU_OFF(temp) + 16, 0);
}

/* The pointer's memory operand, looked up: [rax]. */
static void look_up(struct t0_ctx *c, const struct ir_op *op, unsigned pointer, enum mmu_access access)
{
    emit_mov_rr(c->e, op->aux, H_RAX, t0_host_reg[pointer]);
    t0_emit_lookup(c, access, op->size);
}

static void advance(struct t0_ctx *c, const struct ir_op *op, unsigned pointer)
{
    unsigned reg = t0_host_reg[pointer];
    emit_lea(c->e, op->aux, reg, rm_mem(reg, op->size));
}

/* Both look-ups come before the store. */
static void emit_movs(struct t0_ctx *c, const struct ir_op *op)
{
    look_up(c, op, IR_RSI, MMU_READ);
    emit_load(c->e, op->size, H_RCX, t0_guest_mem());
    emit_store(c->e, op->size, H_RCX, spill());
    look_up(c, op, IR_RDI, MMU_WRITE);
    emit_load(c->e, op->size, H_RCX, spill());
    emit_store(c->e, op->size, H_RCX, t0_guest_mem());
    advance(c, op, IR_RSI);
    advance(c, op, IR_RDI);
}

/* [rSI] - [rDI]; [rDI] is loaded first, which tells when both fault. */
static void emit_cmps(struct t0_ctx *c, const struct ir_op *op)
{
    look_up(c, op, IR_RDI, MMU_READ);
    emit_load(c->e, op->size, H_RCX, t0_guest_mem());
    emit_store(c->e, op->size, H_RCX, spill());
    look_up(c, op, IR_RSI, MMU_READ);
    emit_load(c->e, op->size, H_RCX, spill());
    emit_sized(c->e, op->size, 0, 0x38, H_RCX, t0_guest_mem());
    t0_flags_written(c);
    advance(c, op, IR_RSI);
    advance(c, op, IR_RDI);
}

static void emit_one(struct t0_ctx *c, const struct ir_op *op)
{
    unsigned rax = t0_host_reg[IR_RAX];
    switch ((enum ir_string)op->sub) {
    case IR_MOVS:
        emit_movs(c, op);
        break;
    case IR_CMPS:
        emit_cmps(c, op);
        break;
    case IR_STOS:
        look_up(c, op, IR_RDI, MMU_WRITE);
        emit_store(c->e, op->size, rax, t0_guest_mem());
        advance(c, op, IR_RDI);
        break;
    case IR_LODS:
        look_up(c, op, IR_RSI, MMU_READ);
        emit_load(c->e, op->size, rax, t0_guest_mem());
        advance(c, op, IR_RSI);
        break;
    case IR_SCAS:
        look_up(c, op, IR_RDI, MMU_READ);
        emit_sized(c->e, op->size, 0, 0x3a, rax, t0_guest_mem());
        t0_flags_written(c);
        advance(c, op, IR_RDI);
        break;
    }
}

void t0_compile_string(struct t0_ctx *c, const struct ir_op *op)
{
    bool segment = op->src != IR_NONE || op->flags & IRF_SEGCHECK;
    if (op->flags & (IRF_REP | IRF_REPNE) || op->aux == 2 || segment) {
        t0_fallback(c, op);
        return;
    }
    t0_flags_clobber(c);
    emit_insn(c->e, 0, 0, 0xf6, 0, cpu_rm(CPU_OFF(rflags) + 1, 0)); /* test: downwards */
    emit8(c->e, FLAG_DF >> 8);
    t0_cold_add(c, T0_COLD_INTERPRET, emit_jcc_forward(c->e, 5));
    emit_one(c, op);
}
