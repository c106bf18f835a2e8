/* SPDX-License-Identifier: Apache-2.0 */
/* T0: exchanges. With LOCK they run as the host's own atomic instructions on guest RAM. */
#include "translator/t0/compile_internal.h"

void t0_body_xchg(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned size = op->size;
    if (op->flags & IRF_DST_MEM) {
        unsigned src = t0_reg_value(c, op->src, H_RCX);
        emit_sized(e, size, 0, 0x86, src, t0_guest_mem());
        if (src == H_RCX) {
            t0_reg_home_store(c, op->src, H_RCX);
        }
        return;
    }
    if (size == 4 && op->dst == op->src) { /* clears the upper half */
        if (t0_in_host(op->dst)) {
            emit_mov_rr(e, 4, t0_host_reg[op->dst], t0_host_reg[op->dst]);
        } else {
            emit_load(e, 4, H_RCX, cpu_rm(t0_home(op->dst), 0));
            t0_reg_home_store(c, op->dst, H_RCX);
        }
        return;
    }
    unsigned a = t0_reg_value(c, op->dst, H_RAX), b = t0_reg_value(c, op->src, H_RCX);
    emit_sized(e, size, 0, 0x86, a, rm_reg(b));
    if (a == H_RAX) {
        t0_reg_home_store(c, op->dst, H_RAX);
    }
    if (b == H_RCX) {
        t0_reg_home_store(c, op->src, H_RCX);
    }
}

void t0_body_xadd(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned src = t0_reg_value(c, op->src, H_RCX);
    unsigned lock = op->flags & IRF_LOCK ? EMIT_LOCK : 0;
    emit_insn(e, lock | emit_size(op->size), 1, op->size == 1 ? 0xc0 : 0xc1, src, t0_guest_mem());
    if (src == H_RCX) {
        t0_reg_home_store(c, op->src, H_RCX);
    }
    t0_flags_written(c);
}

/* Memory form. The accumulator is host rax, so the address moves to rcx, and a source that lives in memory
 * borrows rdx. */
void t0_body_cmpxchg(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned lock = op->flags & IRF_LOCK ? EMIT_LOCK : 0;
    bool borrow = !t0_in_host(op->src);
    unsigned src = borrow ? H_RDX : t0_host_reg[op->src];

    emit_mov_rr(e, 8, H_RCX, H_RAX);
    if (borrow) {
        emit_store(e, 8, H_RDX, cpu_rm(CPU_OFF(temp) + 24, 0));
        emit_load(e, 8, H_RDX, cpu_rm(t0_home(op->src), 0));
    }
    emit_mov_rr(e, 8, H_RAX, t0_host_reg[IR_RAX]);
    emit_insn(e, lock | emit_size(op->size), 1, op->size == 1 ? 0xb0 : 0xb1, src, rm_mem(H_RCX, 0));
    emit_mov_rr(e, 8, t0_host_reg[IR_RAX], H_RAX);
    if (borrow) {
        emit_load(e, 8, H_RDX, cpu_rm(CPU_OFF(temp) + 24, 0));
    }
    t0_flags_written(c);
}

/* CMPXCHG8B/16B: rcx is taken by the instruction, the address borrows rsi. */
void t0_body_cmpxchg16(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    t0_flags_need_keep_rax(c); /* only ZF changes */
    emit_store(e, 8, H_RSI, cpu_rm(CPU_OFF(temp) + 24, 0));
    emit_mov_rr(e, 8, H_RSI, H_RAX);
    emit_mov_rr(e, 8, H_RAX, t0_host_reg[IR_RAX]);
    emit_mov_rr(e, 8, H_RCX, t0_host_reg[IR_RCX]);
    emit_insn(e, (op->flags & IRF_LOCK ? EMIT_LOCK : 0) | (op->size == 16 ? EMIT_W : 0), 1, 0xc7, 1,
              rm_mem(H_RSI, 0));
    emit_load(e, 8, H_RSI, cpu_rm(CPU_OFF(temp) + 24, 0));
    emit_mov_rr(e, 8, t0_host_reg[IR_RAX], H_RAX);
    t0_flags_written(c);
}
