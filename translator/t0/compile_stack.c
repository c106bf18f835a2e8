/* SPDX-License-Identifier: Apache-2.0 */
/* T0: the stack. A stack pointer moves only after the look-up: a fault finds it unchanged. */
#include "translator/t0/compile_internal.h"

static void body_push(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    if (op->flags & IRF_PCREL) {
        emit_load(e, 8, H_RCX, cpu_rm(CPU_OFF(pc_base), 0));
        emit_lea(e, 8, H_RCX, rm_mem(H_RCX, (int32_t)op->imm));
        emit_store(e, op->size, H_RCX, t0_guest_mem());
    } else if (op->flags & IRF_SRC_IMM) {
        emit_insn(e, emit_size(op->size), 0, 0xc7, 0, t0_guest_mem());
        emit_imm(e, op->size, op->imm);
    } else if (op->flags & IRF_SRC_MEM) {
        emit_load(e, 8, H_RCX, cpu_rm(CPU_OFF(temp) + 16, 0));
        emit_store(e, op->size, H_RCX, t0_guest_mem());
    } else {
        emit_store(e, op->size, t0_reg_value(c, op->src, H_RCX), t0_guest_mem());
    }
    unsigned rsp = t0_host_reg[IR_RSP];
    emit_lea(e, t0_word(c), rsp, rm_mem(rsp, -(int32_t)op->size));
}

/* rsp - size -> rax, looked up for writing. */
void t0_push_lookup(struct t0_ctx *c, unsigned size)
{
    emit_lea(c->e, t0_word(c), H_RAX, rm_mem(t0_host_reg[IR_RSP], -(int32_t)size));
    t0_emit_lookup(c, MMU_WRITE, size);
}

void t0_compile_push(struct t0_ctx *c, const struct ir_op *op)
{
    t0_flags_clobber(c);
    if (op->flags & IRF_SRC_MEM) {
        t0_emit_ea(c);
        t0_emit_lookup(c, MMU_READ, op->size);
        emit_load(c->e, op->size, H_RCX, t0_guest_mem());
        emit_store(c->e, 8, H_RCX, cpu_rm(CPU_OFF(temp) + 16, 0));
    }
    t0_push_lookup(c, op->size);
    body_push(c, op);
}

void t0_compile_pop(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned rsp = t0_host_reg[IR_RSP];
    if (op->flags & IRF_DST_MEM) {
        t0_fallback(c, op);
        return;
    }
    t0_flags_clobber(c);
    emit_mov_rr(e, t0_word(c), H_RAX, rsp);
    t0_emit_lookup(c, MMU_READ, op->size);
    emit_load(e, op->size, H_RCX, t0_guest_mem());
    emit_lea(e, t0_word(c), rsp, rm_mem(rsp, op->size));
    if (op->size == 2) {
        emit_store(e, 2, H_RCX, cpu_rm(CPU_OFF(temp) + 16, 0));
        if (t0_in_host(op->dst)) {
            emit_load(e, 2, t0_host_reg[op->dst], cpu_rm(CPU_OFF(temp) + 16, 0));
        } else {
            emit_store(e, 2, H_RCX, cpu_rm(t0_home(op->dst), 0));
        }
    } else if (t0_in_host(op->dst)) {
        emit_mov_rr(e, 8, t0_host_reg[op->dst], H_RCX);
    } else {
        t0_reg_home_store(c, op->dst, H_RCX);
    }
}

void t0_compile_leave(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned size = t0_word(c);
    if (op->size != size) {
        t0_fallback(c, op);
        return;
    }
    t0_flags_clobber(c);
    emit_mov_rr(e, size, H_RAX, t0_host_reg[IR_RBP]);
    t0_emit_lookup(c, MMU_READ, size);
    emit_lea(e, size, t0_host_reg[IR_RSP], rm_mem(t0_host_reg[IR_RBP], (int32_t)size));
    emit_load(e, size, t0_host_reg[IR_RBP], t0_guest_mem());
}
