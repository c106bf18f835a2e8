/* SPDX-License-Identifier: Apache-2.0 */
/* T0: moves, arithmetic and conditions on general registers. Bodies work on registers or on [rax]
 * (compile_internal.h). */
#include "translator/t0/compile_internal.h"

void t0_body_mov(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned size = op->size;
    if (op->flags & IRF_DST_MEM) {
        if (op->flags & IRF_SRC_IMM) {
            emit_insn(e, emit_size(size) & ~(unsigned)EMIT_BYTE, 0, size == 1 ? 0xc6 : 0xc7, 0,
                      t0_guest_mem());
            emit_imm(e, size, op->imm);
        } else {
            emit_store(e, size, t0_reg_value(c, op->src, H_RCX), t0_guest_mem());
        }
        return;
    }
    if (op->flags & IRF_SRC_MEM) {
        if (t0_in_host(op->dst)) {
            emit_load(e, size, t0_host_reg[op->dst], t0_guest_mem());
        } else if (size >= 4) {
            emit_load(e, size, H_RCX, t0_guest_mem());
            t0_reg_home_store(c, op->dst, H_RCX);
        } else {
            emit_load(e, size, H_RCX, t0_guest_mem());
            emit_store(e, size, H_RCX, cpu_rm(t0_home(op->dst), 0));
        }
        return;
    }
    if (op->flags & IRF_SRC_IMM) {
        if (size >= 4) {
            uint64_t value = size == 4 ? (uint32_t)op->imm : (uint64_t)op->imm;
            if (t0_in_host(op->dst)) {
                emit_mov_imm(e, t0_host_reg[op->dst], value);
            } else {
                emit_mov_imm(e, H_RCX, value);
                t0_reg_home_store(c, op->dst, H_RCX);
            }
        } else {
            emit_insn(e, emit_size(size) & ~(unsigned)EMIT_BYTE, 0, size == 1 ? 0xc6 : 0xc7, 0,
                      t0_reg_rm(op->dst));
            emit_imm(e, size, op->imm);
        }
        return;
    }
    if (t0_in_host(op->dst)) {
        emit_load(e, size, t0_host_reg[op->dst], t0_src_rm(c, op->src, H_RCX));
    } else if (size >= 4) {
        unsigned src = t0_reg_value(c, op->src, H_RCX);
        if (size == 4) {
            emit_mov_rr(e, 4, H_RCX, src);
            src = H_RCX;
        }
        t0_reg_home_store(c, op->dst, src);
    } else {
        emit_store(e, size, t0_reg_value(c, op->src, H_RCX), cpu_rm(t0_home(op->dst), 0));
    }
}

/* MOVZX, MOVSX */
void t0_body_extend(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    bool sign = op->op == IR_MOVSX;
    unsigned from = op->aux;
    struct rm rm = op->flags & IRF_SRC_MEM ? t0_guest_mem() : t0_src_rm(c, op->src, H_RAX);
    unsigned dst = t0_result_begin(c, op->dst, op->size == 2);
    unsigned flags = (op->size == 8 ? EMIT_W : op->size == 2 ? EMIT_66 : 0) | (from == 1 ? EMIT_BYTERM : 0);

    if (from == 4) {
        emit_insn(e, sign ? flags : 0, 0, sign ? 0x63 : 0x8b, dst, rm);
    } else {
        emit_insn(e, flags, 1, (sign ? 0xbe : 0xb6) + (from == 2 ? 1 : 0), dst, rm);
    }
    t0_result_end(c, op->dst, dst);
}

void t0_body_alu(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned size = op->size, alu = op->sub;
    bool test = alu == IR_TEST, reads_only = test || alu == IR_CMP;
    unsigned lock = op->flags & IRF_LOCK ? EMIT_LOCK : 0;
    bool memory = op->flags & (IRF_DST_MEM | IRF_SRC_MEM);

    if (alu == IR_ADC || alu == IR_SBB) {
        if (memory) {
            t0_flags_need_keep_rax(c);
        } else {
            t0_flags_need(c);
        }
    }
    if (op->flags & IRF_SRC_IMM) {
        struct rm rm = op->flags & IRF_DST_MEM ? t0_guest_mem() : t0_src_rm(c, op->dst, H_RCX);
        bool home = rm.mem && !(op->flags & IRF_DST_MEM);
        if (home && size == 4 && !reads_only) {
            emit_load(e, 4, H_RCX, rm);
            rm = rm_reg(H_RCX);
        }
        if (test) {
            emit_insn(e, emit_size(size) & ~(unsigned)EMIT_BYTE, 0, size == 1 ? 0xf6 : 0xf7, 0, rm);
            emit_imm(e, size, op->imm);
        } else {
            emit_alu_imm(e, lock, alu, size, rm, op->imm);
        }
        if (home && size == 4 && !reads_only) {
            t0_reg_home_store(c, op->dst, H_RCX);
        }
        t0_flags_written(c);
        return;
    }
    unsigned to_rm = test ? 0x84 : alu << 3, to_reg = test ? 0x84 : (alu << 3) + 2;
    if (op->flags & IRF_DST_MEM) {
        unsigned src = t0_reg_value(c, op->src, H_RCX);
        emit_insn(e, lock | emit_size(size), 0, to_rm + (size == 1 ? 0 : 1), src, t0_guest_mem());
    } else if (t0_in_host(op->dst)) {
        struct rm rm = op->flags & IRF_SRC_MEM ? t0_guest_mem() : t0_src_rm(c, op->src, H_RCX);
        emit_sized(e, size, 0, to_reg, t0_host_reg[op->dst], rm);
    } else {
        struct rm rm = op->flags & IRF_SRC_MEM ? t0_guest_mem() : t0_src_rm(c, op->src, H_RAX);
        t0_reg_value(c, op->dst, H_RCX);
        emit_sized(e, size, 0, to_reg, H_RCX, rm);
        if (!reads_only) {
            t0_reg_home_store(c, op->dst, H_RCX);
        }
    }
    t0_flags_written(c);
}

static const struct {
    uint8_t opcode, ext;
} unary_forms[] = {[IR_INC] = {0xfe, 0}, [IR_DEC] = {0xfe, 1}, [IR_NOT] = {0xf6, 2}, [IR_NEG] = {0xf6, 3}};

void t0_body_unary(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned flags = (op->flags & IRF_LOCK ? EMIT_LOCK : 0) | (emit_size(op->size) & ~(unsigned)EMIT_BYTE);
    unsigned opcode = unary_forms[op->sub].opcode + (op->size == 1 ? 0 : 1);
    bool memory = op->flags & IRF_DST_MEM;

    if (op->sub == IR_INC || op->sub == IR_DEC) {
        if (memory) {
            t0_flags_need_keep_rax(c);
        } else {
            t0_flags_need(c);
        }
    }
    if (memory) {
        emit_insn(e, flags, 0, opcode, unary_forms[op->sub].ext, t0_guest_mem());
    } else if (t0_in_host(op->dst)) {
        emit_insn(e, flags, 0, opcode, unary_forms[op->sub].ext, rm_reg(t0_host_reg[op->dst]));
    } else {
        emit_load(e, 8, H_RCX, cpu_rm(t0_home(op->dst), 0));
        emit_insn(e, flags, 0, opcode, unary_forms[op->sub].ext, rm_reg(H_RCX));
        t0_reg_home_store(c, op->dst, H_RCX);
    }
    if (op->sub != IR_NOT) {
        t0_flags_written(c);
    }
}

void t0_body_imul(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned flags = emit_size(op->size);
    struct rm rm = op->flags & IRF_SRC_MEM ? t0_guest_mem() : t0_reg_rm(op->src);
    unsigned dst = t0_result_begin(c, op->dst, op->size == 2 || !(op->flags & IRF_SRC_IMM));

    if (op->flags & IRF_SRC_IMM) {
        bool small = op->imm >= -128 && op->imm <= 127;
        emit_insn(e, flags, 0, small ? 0x6b : 0x69, dst, rm);
        emit_imm(e, small ? 1 : op->size, op->imm);
    } else {
        emit_insn(e, flags, 1, 0xaf, dst, rm);
    }
    t0_result_end(c, op->dst, dst);
    t0_flags_written(c);
}

void t0_body_adx(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    if (op->flags & IRF_SRC_MEM) {
        t0_flags_need_keep_rax(c);
    } else {
        t0_flags_need(c);
    }
    struct rm rm = op->flags & IRF_SRC_MEM ? t0_guest_mem() : t0_reg_rm(op->src);
    unsigned dst = t0_result_begin(c, op->dst, true);
    emit_insn(e, (op->size == 8 ? EMIT_W : 0) | (op->sub ? EMIT_F3 : EMIT_66), 2, 0xf6, dst, rm);
    t0_result_end(c, op->dst, dst);
    t0_flags_written(c);
}

void t0_body_mul(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned flags = emit_size(op->size) & ~(unsigned)EMIT_BYTE;
    struct rm rm = t0_reg_rm(op->src);
    if (op->flags & IRF_SRC_MEM) {
        emit_mov_rr(e, 8, H_RCX, H_RAX);
        rm = rm_mem(H_RCX, 0);
    }
    emit_mov_rr(e, 8, H_RAX, t0_host_reg[IR_RAX]);
    emit_insn(e, flags, 0, op->size == 1 ? 0xf6 : 0xf7, op->sub ? 5 : 4, rm);
    emit_mov_rr(e, 8, t0_host_reg[IR_RAX], H_RAX);
    t0_flags_written(c);
}

/* Division without the cases that fault or are rare: those go to the interpreter. Sizes 4 and 8, divisor in a
 * register. */
void t0_compile_div(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    if (op->size < 4) {
        t0_fallback(c, op);
        return;
    }
    t0_flags_clobber(c);
    unsigned before = c->flags;
    unsigned src = H_RCX;
    if (op->flags & IRF_SRC_MEM) {
        t0_emit_ea(c);
        t0_emit_lookup(c, MMU_READ, op->size);
        emit_load(e, op->size, H_RCX, t0_guest_mem());
    } else {
        src = t0_reg_value(c, op->src, H_RCX);
    }
    uint8_t *site[2];
    unsigned sites = 0;
    if (!op->sub) {
        emit_sized(e, op->size, 0, 0x3a, H_RDX,
                   rm_reg(src)); /* cmp rdx, src: quotient overflows or src == 0 */
        site[sites++] = emit_jcc_forward(e, 3);
    } else {
        emit_lea(e, op->size, H_RAX, rm_mem(src, 1));
        emit_alu_imm(e, 0, IR_CMP, op->size, rm_reg(H_RAX), 1); /* src is 0 or -1 */
        site[sites++] = emit_jcc_forward(e, 6);
        emit_mov_rr(e, op->size, H_RAX, t0_host_reg[IR_RAX]);
        emit_insn(e, op->size == 8 ? EMIT_W : 0, 0, 0xc1, 7,
                  rm_reg(H_RAX)); /* sar: is rdx the sign extension? */
        emit8(e, op->size * 8 - 1);
        emit_sized(e, op->size, 0, 0x3a, H_RAX, rm_reg(H_RDX));
        site[sites++] = emit_jcc_forward(e, 5);
    }
    emit_mov_rr(e, 8, H_RAX, t0_host_reg[IR_RAX]);
    emit_insn(e, op->size == 8 ? EMIT_W : 0, 0, 0xf7, op->sub ? 7 : 6, rm_reg(src));
    emit_mov_rr(e, 8, t0_host_reg[IR_RAX], H_RAX);
    /* Flags are undefined after DIV: keep what was saved, as the interpreter does. */
    c->flags = before;
    for (unsigned i = 0; i < sites; i++) {
        t0_cold_add(c, T0_COLD_INTERPRET, site[i]);
    }
}

void t0_body_cmov(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    if (op->flags & IRF_SRC_MEM) {
        t0_flags_need_keep_rax(c);
    } else {
        t0_flags_need(c);
    }
    struct rm rm = op->flags & IRF_SRC_MEM ? t0_guest_mem() : t0_reg_rm(op->src);
    unsigned dst = t0_result_begin(c, op->dst, true);
    emit_insn(e, emit_size(op->size), 1, 0x40u | op->sub, dst, rm);
    t0_result_end(c, op->dst, dst);
}

void t0_body_setcc(struct t0_ctx *c, const struct ir_op *op)
{
    if (op->flags & IRF_DST_MEM) {
        t0_flags_need_keep_rax(c);
    } else {
        t0_flags_need(c);
    }
    emit_insn(c->e, EMIT_BYTERM, 1, 0x90u | op->sub, 0,
              op->flags & IRF_DST_MEM ? t0_guest_mem() : t0_reg_rm(op->dst));
}

void t0_compile_lea(struct t0_ctx *c, const struct ir_op *op)
{
    unsigned size = op->size == 8 && op->aux == 8 ? 8 : 4;
    if (op->size >= 4 && op->aux >= 4) {
        unsigned dst = t0_in_host(op->dst) ? t0_host_reg[op->dst] : H_RAX;
        t0_emit_sum(c, op, size, dst);
        if (dst == H_RAX) {
            t0_reg_home_store(c, op->dst, H_RAX);
        }
        return;
    }
    t0_emit_sum(c, op, 4, H_RAX);
    if (op->aux == 2) {
        emit_insn(c->e, 0, 1, 0xb7, H_RAX, rm_reg(H_RAX));
    }
    if (op->size == 2) {
        emit_store(c->e, 2, H_RAX, t0_reg_rm(op->dst));
    } else if (t0_in_host(op->dst)) {
        emit_mov_rr(c->e, 4, t0_host_reg[op->dst], H_RAX);
    } else {
        t0_reg_home_store(c, op->dst, H_RAX);
    }
}

void t0_compile_convert(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned flags = op->size == 8 ? EMIT_W : op->size == 2 ? EMIT_66 : 0;
    unsigned rax = t0_host_reg[IR_RAX];
    if (op->sub == 0) {
        if (op->size == 8) {
            emit_insn(e, flags, 0, 0x63, rax, rm_reg(rax));
        } else {
            emit_insn(e, flags | EMIT_BYTERM, 1, op->size == 4 ? 0xbf : 0xbe, rax, rm_reg(rax));
        }
        return;
    }
    emit_mov_rr(e, 8, H_RAX, rax);
    if (op->size == 2) {
        emit8(e, 0x66);
    } else if (op->size == 8) {
        emit8(e, 0x48);
    }
    emit8(e, 0x99); /* cwd/cdq/cqo: rdx is the guest's */
}

void t0_compile_flagop(struct t0_ctx *c, const struct ir_op *op)
{
    static const uint8_t opcode[] = {[IR_CLC] = 0xf8, [IR_STC] = 0xf9, [IR_CMC] = 0xf5};
    switch (op->sub) {
    case IR_CLC:
    case IR_STC:
    case IR_CMC:
        t0_flags_need(c);
        emit8(c->e, opcode[op->sub]);
        t0_flags_written(c);
        break;
    case IR_CLD:
        t0_flags_clobber(c);
        emit_alu_imm(c->e, 0, IR_AND, 4, cpu_rm(CPU_OFF(rflags), 0), ~(int64_t)FLAG_DF);
        break;
    default:
        t0_fallback(c, op);
    }
}

/* --- AH CH DH BH as destinations ------------------------------------------------------------------------ */

/* The register goes to rax, whose second byte has a name: AH, encoded 4 without REX. */
static const struct rm high_byte = {.base = 4, .index = H_NONE};

/* The source goes to cl. */
static void high_byte_source(struct t0_ctx *c, const struct ir_op *op)
{
    if (op->flags & IRF_SRC_MEM) {
        t0_flags_clobber(c);
        t0_emit_ea(c);
        t0_emit_lookup(c, MMU_READ, 1);
        emit_load(c->e, 1, H_RCX, t0_guest_mem());
    } else if (!(op->flags & IRF_SRC_IMM)) {
        unsigned src = t0_reg_value(c, op->src, H_RCX);
        if (src != H_RCX) {
            emit_mov_rr(c->e, 4, H_RCX, src);
        }
    }
}

/* Whether it reads flags or keeps some. */
static bool high_byte_needs_flags(const struct ir_op *op)
{
    switch (op->op) {
    case IR_ALU:
        return op->sub == IR_ADC || op->sub == IR_SBB;
    case IR_UNARY:
        return op->sub == IR_INC || op->sub == IR_DEC;
    case IR_SHIFT:
        return t0_shift_keeps_flags(op);
    default:
        return op->op == IR_SETCC;
    }
}

static void high_byte_operation(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    bool by_imm = op->flags & IRF_SRC_IMM;
    switch (op->op) {
    case IR_MOV:
        emit_insn(e, 0, 0, by_imm ? 0xc6 : 0x88, by_imm ? 0 : H_RCX, high_byte);
        break;
    case IR_ALU:
        emit_insn(e, 0, 0, by_imm ? 0x80 : (unsigned)op->sub << 3, by_imm ? op->sub : H_RCX, high_byte);
        break;
    case IR_UNARY:
        emit_insn(e, 0, 0, unary_forms[op->sub].opcode, unary_forms[op->sub].ext, high_byte);
        break;
    case IR_SHIFT:
        emit_insn(e, 0, 0, by_imm ? 0xc0 : 0xd2, op->sub, high_byte);
        break;
    default:
        emit_insn(e, 0, 1, 0x90u | op->sub, 0, high_byte);
        return;
    }
    if (by_imm) {
        emit8(e, (uint8_t)op->imm);
    }
}

void t0_compile_high_byte(struct t0_ctx *c, const struct ir_op *op)
{
    unsigned dst = t0_host_reg[op->dst - IR_AH];
    if (op->op == IR_MOV || op->op == IR_ALU) {
        high_byte_source(c, op);
    } else if (op->op == IR_SHIFT && !(op->flags & IRF_SRC_IMM)) {
        emit_mov_rr(c->e, 4, H_RCX, t0_host_reg[IR_RCX]);
    }
    if (high_byte_needs_flags(op)) {
        t0_flags_need(c);
    }
    emit_mov_rr(c->e, 8, H_RAX, dst);
    high_byte_operation(c, op);
    emit_mov_rr(c->e, 8, dst, H_RAX);
    bool writes_flags = op->op == IR_ALU || op->op == IR_SHIFT || (op->op == IR_UNARY && op->sub != IR_NOT);
    if (writes_flags) {
        t0_flags_written(c);
    }
}
