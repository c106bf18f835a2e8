/* SPDX-License-Identifier: Apache-2.0 */
/* T0: shifts, bit tests and scans, BMI, byte order, CRC32. */
#include "translator/t0/compile_internal.h"

/* Rotates keep most flags, a zero count keeps all. */
bool t0_shift_keeps_flags(const struct ir_op *op)
{
    unsigned count = (unsigned)op->imm & (op->size == 8 ? 63 : 31);
    return !(op->flags & IRF_SRC_IMM && count && op->sub >= IR_SHL);
}

void t0_body_shift(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    bool memory = op->flags & IRF_DST_MEM, by_imm = op->flags & IRF_SRC_IMM;
    unsigned flags = emit_size(op->size) & ~(unsigned)EMIT_BYTE;

    if (t0_shift_keeps_flags(op)) {
        if (memory) {
            t0_flags_need_keep_rax(c);
        } else {
            t0_flags_need(c);
        }
    }
    struct rm rm = memory ? t0_guest_mem() : t0_modify_begin(c, op->dst);
    if (by_imm) {
        emit_insn(e, flags, 0, op->size == 1 ? 0xc0 : 0xc1, op->sub, rm);
        emit8(e, (uint8_t)op->imm);
    } else {
        emit_mov_rr(e, 4, H_RCX, t0_host_reg[IR_RCX]);
        emit_insn(e, flags, 0, op->size == 1 ? 0xd2 : 0xd3, op->sub, rm);
    }
    if (!memory) {
        t0_modify_end(c, op->dst);
    }
    t0_flags_written(c);
}

void t0_body_shld(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    bool memory = op->flags & IRF_DST_MEM, by_imm = op->flags & IRF_SRC_IMM;
    unsigned flags = emit_size(op->size);

    /* a source that lives in memory borrows rdx: rax and rcx are the destination and the count */
    bool borrow = !t0_in_host(op->src);
    if (memory) {
        t0_flags_need_keep_rax(c);
    } else {
        t0_flags_need(c);
    }
    struct rm rm = memory ? t0_guest_mem() : t0_modify_begin(c, op->dst);
    unsigned src = borrow ? H_RDX : t0_host_reg[op->src];
    if (borrow && by_imm) {
        emit_load(e, 8, H_RCX, cpu_rm(t0_home(op->src), 0));
        src = H_RCX;
        borrow = false;
    }
    if (borrow && !memory && rm.base == H_RDX) {
        emit_mov_rr(e, 8, H_RAX, H_RDX); /* the destination is rdx itself */
        rm = rm_reg(H_RAX);
    }
    if (borrow) {
        emit_store(e, 8, H_RDX, cpu_rm(CPU_OFF(temp) + 24, 0));
        emit_load(e, 8, H_RDX, cpu_rm(t0_home(op->src), 0));
    }
    if (!by_imm) {
        emit_mov_rr(e, 4, H_RCX, t0_host_reg[IR_RCX]);
    }
    emit_insn(e, flags, 1, (op->sub ? 0xac : 0xa4) + (by_imm ? 0 : 1), src, rm);
    if (by_imm) {
        emit8(e, (uint8_t)op->imm);
    }
    if (borrow) {
        emit_load(e, 8, H_RDX, cpu_rm(CPU_OFF(temp) + 24, 0));
        if (op->dst == IR_RDX && !memory) {
            emit_mov_rr(e, 8, H_RDX, H_RAX);
        }
    }
    if (!memory) {
        t0_modify_end(c, op->dst);
    }
    t0_flags_written(c);
}

void t0_body_bit(struct t0_ctx *c, const struct ir_op *op)
{
    static const uint8_t by_reg[] = {0xa3, 0xab, 0xb3, 0xbb};
    struct emitter *e = c->e;
    bool memory = op->flags & IRF_DST_MEM;
    unsigned flags = (op->flags & IRF_LOCK ? EMIT_LOCK : 0) | emit_size(op->size);

    bool by_reg_offset = !(op->flags & IRF_SRC_IMM);
    unsigned src = by_reg_offset ? t0_reg_value(c, op->src, H_RCX) : 0;
    if (memory && by_reg_offset) {
        /* rax already points to the word; what is left is the offset in it. EFLAGS are free: a look-up was
         * made. */
        if (src != H_RCX) {
            emit_mov_rr(e, 4, H_RCX, src);
        }
        emit_alu_imm(e, 0, IR_AND, 4, rm_reg(H_RCX), op->size * 8 - 1);
        src = H_RCX;
    }
    if (memory) {
        t0_flags_need_keep_rax(c);
    } else {
        t0_flags_need(c);
    }
    struct rm rm = memory ? t0_guest_mem() : t0_modify_begin(c, op->dst);
    if (by_reg_offset) {
        emit_insn(e, flags, 1, by_reg[op->sub], src, rm);
    } else {
        emit_insn(e, flags, 1, 0xba, 4u + op->sub, rm);
        emit8(e, (uint8_t)op->imm & (op->size * 8 - 1));
    }
    if (!memory && op->sub != IR_BT) {
        t0_modify_end(c, op->dst);
    }
    t0_flags_written(c);
}

void t0_body_scan(struct t0_ctx *c, const struct ir_op *op)
{
    static const struct {
        uint8_t opcode, prefix;
    } forms[] = {[IR_BSF] = {0xbc, 0},
                 [IR_BSR] = {0xbd, 0},
                 [IR_TZCNT] = {0xbc, EMIT_F3},
                 [IR_LZCNT] = {0xbd, EMIT_F3},
                 [IR_POPCNT] = {0xb8, EMIT_F3}};
    struct emitter *e = c->e;
    struct rm rm = op->flags & IRF_SRC_MEM ? t0_guest_mem() : t0_reg_rm(op->src);
    unsigned dst = t0_result_begin(c, op->dst, true);
    emit_insn(e, emit_size(op->size) | forms[op->sub].prefix, 1, forms[op->sub].opcode, dst, rm);
    t0_result_end(c, op->dst, dst);
    t0_flags_written(c);
}

void t0_body_movbe(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    bool store = op->flags & IRF_DST_MEM;
    unsigned flags = op->size == 8 ? EMIT_W : op->size == 2 ? EMIT_66 : 0;
    if (store) {
        emit_insn(e, flags, 2, 0xf1, t0_reg_value(c, op->src, H_RCX), t0_guest_mem());
        return;
    }
    unsigned dst = t0_result_begin(c, op->dst, true);
    emit_insn(e, flags, 2, 0xf0, dst, t0_guest_mem());
    t0_result_end(c, op->dst, dst);
}

void t0_body_crc32(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    struct rm rm = op->flags & IRF_SRC_MEM ? t0_guest_mem() : t0_reg_rm(op->src);
    unsigned dst = t0_result_begin(c, op->dst, true);
    unsigned from = op->aux;
    emit_insn(
        e, EMIT_F2 | (op->size == 8 ? EMIT_W : 0) | (from == 2 ? EMIT_66 : 0) | (from == 1 ? EMIT_BYTERM : 0),
        2, from == 1 ? 0xf0 : 0xf1, dst, rm);
    t0_result_end(c, op->dst, dst);
}

/*
 * The instruction itself. A register that lives in memory is ModRM's operand as it stands; as the second source it is loaded to
 * rcx, which may be the result's place, too. MULX's halves need a place each: with a memory operand rax is free once that is
 * read.
 */
void t0_body_bmi(struct t0_ctx *c, const struct ir_op *op)
{
    static const struct {
        uint8_t prefix, map, opcode;
        uint8_t ext; /* ModRM /n when VEX.vvvv is the destination, or 0 */
    } forms[] = {[IR_ANDN] = {0, 2, 0xf2},         [IR_BLSR] = {0, 2, 0xf3, 1},   [IR_BLSMSK] = {0, 2, 0xf3, 2},
                 [IR_BLSI] = {0, 2, 0xf3, 3},      [IR_BEXTR] = {0, 2, 0xf7},     [IR_BZHI] = {0, 2, 0xf5},
                 [IR_PDEP] = {EMIT_F2, 2, 0xf5},   [IR_PEXT] = {EMIT_F3, 2, 0xf5}, [IR_MULX] = {EMIT_F2, 2, 0xf6},
                 [IR_RORX] = {EMIT_F2, 3, 0xf0},   [IR_SARX] = {EMIT_F3, 2, 0xf7}, [IR_SHLX] = {EMIT_66, 2, 0xf7},
                 [IR_SHRX] = {EMIT_F2, 2, 0xf7}};
    struct emitter *e = c->e;
    struct rm rm = op->flags & IRF_SRC_MEM ? t0_guest_mem() : t0_reg_rm(op->src);
    unsigned flags = forms[op->sub].prefix | (op->size == 8 ? EMIT_W : 0);
    unsigned dst = t0_in_host(op->dst) ? t0_host_reg[op->dst] : op->sub == IR_MULX ? H_RAX : H_RCX;
    unsigned vvvv = 0;

    if (op->sub == IR_MULX) {
        vvvv = op->src2 == op->dst ? dst : t0_in_host(op->src2) ? t0_host_reg[op->src2] : H_RCX;
    } else if (op->src2 != IR_NONE) {
        vvvv = t0_reg_value(c, op->src2, H_RCX);
    }
    if (forms[op->sub].ext) {
        emit_vex(e, flags, forms[op->sub].map, forms[op->sub].opcode, forms[op->sub].ext, dst, rm);
    } else {
        emit_vex(e, flags, forms[op->sub].map, forms[op->sub].opcode, dst, vvvv, rm);
    }
    if (op->sub == IR_RORX) {
        emit8(e, (uint8_t)op->imm);
    }
    if (op->sub == IR_MULX && vvvv == H_RCX) {
        t0_reg_home_store(c, op->src2, H_RCX);
    }
    if (!t0_in_host(op->dst)) {
        t0_reg_home_store(c, op->dst, dst);
    }
    if (op->sub <= IR_BZHI) {
        t0_flags_written(c);
    }
}
