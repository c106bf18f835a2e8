/* SPDX-License-Identifier: Apache-2.0 */
/*
 * T0's compiler: one forward pass over a block's IR.
 *
 * Hot code comes first; what is rarely needed (refills, unlinked jumps) is collected as `struct t0_cold` and
 * emitted after it, then copies of the ops that the interpreter needs. An op with a memory operand is emitted
 * as
 *
 *     [save flags] address -> rax; look up -> rax = host address, else cold; body on [rax]
 *
 * The cold part refills the TLB and comes back, or lets the interpreter do the whole instruction (MMIO, page
 * crossings, faults): nothing of an instruction is done before its last look-up.
 *
 * An op that no case handles goes to interp_op() (t0_fallback).
 */
#include <stdlib.h>

#include "translator/t0/compile_internal.h"

/* --- dispatch ------------------------------------------------------------------------------------------- */

/* AH..BH have no register of their own. The common ops go through scratch registers (t0_compile_high_byte() when they write
 * one, MOVZX and MOVSX read them so), the others do not. */
static bool touches_high_byte(const struct ir_op *op)
{
    bool only_reads = op->op == IR_ALU && (op->sub == IR_CMP || op->sub == IR_TEST);
    if (t0_is_high_byte(op->dst) && !only_reads) {
        return true;
    }
    return t0_is_high_byte(op->src) && op->op != IR_MOV && op->op != IR_MOVZX && op->op != IR_MOVSX &&
           op->op != IR_ALU;
}

static bool has_high_byte_form(const struct ir_op *op)
{
    return op->op == IR_MOV || op->op == IR_ALU || op->op == IR_UNARY || op->op == IR_SHIFT || op->op == IR_SETCC;
}

static void body(struct t0_ctx *c, const struct ir_op *op)
{
    switch (op->op) {
    case IR_MOV:
        t0_body_mov(c, op);
        break;
    case IR_MOVZX:
    case IR_MOVSX:
        t0_body_extend(c, op);
        break;
    case IR_ALU:
        t0_body_alu(c, op);
        break;
    case IR_UNARY:
        t0_body_unary(c, op);
        break;
    case IR_SHIFT:
        t0_body_shift(c, op);
        break;
    case IR_SHLD:
        t0_body_shld(c, op);
        break;
    case IR_MUL:
        t0_body_mul(c, op);
        break;
    case IR_IMUL:
        t0_body_imul(c, op);
        break;
    case IR_ADX:
        t0_body_adx(c, op);
        break;
    case IR_BIT:
        t0_body_bit(c, op);
        break;
    case IR_SCAN:
        t0_body_scan(c, op);
        break;
    case IR_MOVBE:
        t0_body_movbe(c, op);
        break;
    case IR_BMI:
        t0_body_bmi(c, op);
        break;
    case IR_CRC32:
        t0_body_crc32(c, op);
        break;
    case IR_CMOV:
        t0_body_cmov(c, op);
        break;
    case IR_SETCC:
        t0_body_setcc(c, op);
        break;
    case IR_XCHG:
        t0_body_xchg(c, op);
        break;
    case IR_XADD:
        t0_body_xadd(c, op);
        break;
    case IR_CMPXCHG:
        t0_body_cmpxchg(c, op);
        break;
    case IR_CMPXCHG16:
        t0_body_cmpxchg16(c, op);
        break;
    default:
        c->full = true;
    }
}

/* How an op with a memory operand uses it, and how much of it. */
static enum mmu_access access_of(const struct ir_op *op, unsigned *ret_size)
{
    *ret_size = op->size;
    switch (op->op) {
    case IR_MOVZX:
    case IR_MOVSX:
    case IR_CRC32:
        *ret_size = op->aux;
        return MMU_READ;
    case IR_SETCC:
        *ret_size = 1;
        return MMU_WRITE;
    case IR_MOV:
    case IR_MOVBE:
        return op->flags & IRF_DST_MEM ? MMU_WRITE : MMU_READ;
    case IR_ALU:
        if (op->sub == IR_CMP || op->sub == IR_TEST) {
            return MMU_READ;
        }
        break;
    case IR_BIT:
        if (op->sub == IR_BT) {
            return MMU_READ;
        }
        break;
    case IR_XCHG:
        return MMU_WRITE;
    default:
        break;
    }
    return op->flags & IRF_DST_MEM ? MMU_WRITE : MMU_READ;
}

static void compile_plain(struct t0_ctx *c, const struct ir_op *op)
{
    if (!(op->flags & (IRF_DST_MEM | IRF_SRC_MEM))) {
        body(c, op);
        return;
    }
    unsigned size;
    enum mmu_access access = access_of(op, &size);
    t0_flags_clobber(c);
    t0_emit_ea(c);
    if (op->op == IR_BIT && !(op->flags & IRF_SRC_IMM)) {
        /* bit string: move to the word that holds the bit */
        unsigned shift = size == 8 ? 6 : 5;
        emit_mov_rr(c->e, 8, H_RCX, t0_reg_value(c, op->src, H_RCX));
        if (size == 4) {
            emit_insn(c->e, EMIT_W, 0, 0x63, H_RCX, rm_reg(H_RCX));
        }
        emit_insn(c->e, EMIT_W, 0, 0xc1, 7, rm_reg(H_RCX));
        emit8(c->e, shift);
        emit_lea(c->e, op->aux, H_RAX, rm_sib(H_RAX, H_RCX, size == 8 ? 3 : 2, 0));
    }
    if (op->op == IR_CMPXCHG16 && size == 16) { /* must be aligned: #GP */
        emit8(c->e, 0xa8);                      /* test al, 15 */
        emit8(c->e, 15);
        t0_cold_add(c, T0_COLD_INTERPRET, emit_jcc_forward(c->e, 5));
    }
    t0_emit_lookup(c, access, size);
    body(c, op);
}

static void compile_nop(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    switch (op->sub) {
    case IR_NOP_PAUSE:
        emit8(e, 0xf3);
        emit8(e, 0x90);
        break;
    case IR_NOP_LFENCE:
    case IR_NOP_SFENCE:
    case IR_NOP_MFENCE:
        emit8(e, 0x0f);
        emit8(e, 0xae);
        emit8(e, op->sub == IR_NOP_LFENCE ? 0xe8 : op->sub == IR_NOP_MFENCE ? 0xf0 : 0xf8);
        break;
    default:
        break;
    }
}

/* Branches of 32-bit code that cut EIP to 16 bits or count in CX: nobody uses them. */
static bool narrow_branch(const struct ir_op *op)
{
    switch (op->op) {
    case IR_JCC:
    case IR_JMP:
    case IR_JMP_IND:
    case IR_RET:
        return op->size == 2;
    case IR_JRCXZ:
        return op->size == 2 || op->aux == 2;
    case IR_PUSH:
        return op->size == 2 && op->flags & IRF_CALL;
    default:
        return false;
    }
}

static void compile_op(struct t0_ctx *c, const struct ir_op *op)
{
    if (narrow_branch(op)) {
        t0_emit_interpret(c);
        return;
    }
    if (op->op > IR_LEA && op->op < IR_VEC && touches_high_byte(op)) {
        if (t0_is_high_byte(op->dst) && has_high_byte_form(op)) {
            t0_compile_high_byte(c, op);
        } else {
            t0_fallback(c, op);
        }
        return;
    }
    switch (op->op) {
    case IR_INSN:
        c->insn_pc = op->pc;
        c->insn_len = op->aux;
        c->ea = NULL;
        break;
    case IR_EA:
        c->ea = op;
        break;
    case IR_LEA:
        t0_compile_lea(c, op);
        break;
    case IR_PUSH:
        t0_compile_push(c, op);
        break;
    case IR_POP:
        t0_compile_pop(c, op);
        break;
    case IR_LEAVE:
        t0_compile_leave(c, op);
        break;
    case IR_DIV:
        t0_compile_div(c, op);
        break;
    case IR_CMPXCHG:
    case IR_XADD:
        if (op->flags & IRF_DST_MEM) {
            compile_plain(c, op);
        } else {
            t0_fallback(c, op);
        }
        break;
    case IR_BIT:
        /* Bit strings only where no segment comes after the displacement. */
        if (op->size == 2 || (!(op->flags & IRF_SRC_IMM) && op->flags & (IRF_DST_MEM | IRF_SRC_MEM) &&
                              (op->src2 != IR_NONE || op->aux == 2))) {
            t0_fallback(c, op);
        } else {
            compile_plain(c, op);
        }
        break;
    case IR_BSWAP:
        if (op->size != 2 && t0_in_host(op->dst)) {
            unsigned reg = t0_host_reg[op->dst];
            emit8(c->e, 0x40 | (op->size == 8 ? 8 : 0) | (reg >= 8 ? 1 : 0));
            emit8(c->e, 0x0f);
            emit8(c->e, 0xc8 | (reg & 7));
        } else {
            t0_fallback(c, op);
        }
        break;
    case IR_MOV:
    case IR_MOVZX:
    case IR_MOVSX:
    case IR_ALU:
    case IR_UNARY:
    case IR_SHIFT:
    case IR_SHLD:
    case IR_MUL:
    case IR_IMUL:
    case IR_ADX:
    case IR_SCAN:
    case IR_MOVBE:
    case IR_BMI:
    case IR_CRC32:
    case IR_CMOV:
    case IR_SETCC:
    case IR_XCHG:
    case IR_CMPXCHG16:
        compile_plain(c, op);
        break;
    case IR_CONVERT:
        t0_compile_convert(c, op);
        break;
    case IR_FLAGOP:
        t0_compile_flagop(c, op);
        break;
    case IR_NOP:
        compile_nop(c, op);
        break;
    case IR_VEC:
        t0_compile_vec(c, op);
        break;
    case IR_VEX:
        t0_compile_vex(c, op);
        break;
    case IR_X87:
        t0_compile_x87(c, op);
        break;
    case IR_SYS:
        t0_compile_sys(c, op);
        break;
    case IR_JCC:
        t0_compile_jcc(c, op);
        break;
    case IR_JRCXZ:
        t0_compile_jrcxz(c, op);
        break;
    case IR_JMP:
        t0_emit_goto(c, -1, op->imm, t0_branch_note(c, op->flags & IRF_CALL ? 8 : 0));
        break;
    case IR_END:
        t0_emit_goto(c, -1, op->imm, T0_NOTE_NONE);
        break;
    case IR_JMP_IND:
        t0_compile_jmp_ind(c, op);
        break;
    case IR_RET:
        t0_compile_ret(c, op);
        break;
    case IR_STRING:
        t0_compile_string(c, op);
        break;
    default:
        t0_fallback(c, op);
    }
}

/* --- cold parts ----------------------------------------------------------------------------------------- */

static void compile_cold(struct t0_ctx *c, struct t0_cold *cold, struct t0_link *links)
{
    struct emitter *e = c->e;
    emit_bind(e, cold->site);
    c->flags = cold->flags;
    switch (cold->kind) {
    case T0_COLD_LINK:
        c->links[cold->target].stub = emit_rx(e);
        emit_mov_imm(e, H_RCX, (uint64_t)&links[cold->target]);
        emit_align(e, 4, 1);
        emit_jmp(e, c->thunks->exit_link[cold->flags & T0_SAVED ? 0 : 1]);
        c->links[cold->target].stub_site = e->p - 4;
        break;
    case T0_COLD_FAR:
        t0_flags_clobber(c);
        t0_emit_far(c, cold->target, cold->note);
        break;
    case T0_COLD_OUT:
        emit_mov_imm(e, H_RCX, (uint64_t)cold->target);
        emit_jmp(e, c->thunks->exit_poll[cold->flags & T0_SAVED ? 0 : 1]);
        break;
    case T0_COLD_INTERPRET:
        emit_mov_imm(e, H_RCX, cold->pc);
        emit_jmp(e, c->thunks->interpret);
        break;
    case T0_COLD_X87:
        emit_mov_imm(e, H_RCX, cold->pc);
        emit_call(e, c->thunks->x87_load);
        emit_jmp(e, cold->back);
        break;
    case T0_COLD_ACCESS:
        emit_insn(e, EMIT_W, 0, 0x33, H_RAX,
                  rm_mem(H_RCX, (int32_t)offsetof(struct mmu_tlb_entry, tag) + cold->access * 8));
        emit_mov_imm(e, H_RCX, cold->pc | (uint32_t)cold->size << 16 | (uint32_t)cold->access << 24);
        emit_call(e, c->thunks->slow);
        emit_jmp(e, cold->back);
        break;
    }
}

/* Places the copies of ops and points their users to them. */
static void emit_data(struct t0_ctx *c)
{
    struct emitter *e = c->e;
    emit_align(e, 8, 0);
    for (unsigned i = 0; i < c->data_count; i++) {
        if (e->end - e->p < (ptrdiff_t)sizeof(struct ir_op)) {
            e->overflow = true;
            return;
        }
        emit_bind(e, c->data[i].site);
        memcpy(e->p, c->data[i].op, sizeof(struct ir_op));
        e->p += sizeof(struct ir_op);
    }
}

/* --- blocks --------------------------------------------------------------------------------------------- */

/* What the block does with the flags first: reads them, destroys EFLAGS, or writes all of them. */
static unsigned entry_flags(const struct ir_block *ir)
{
    for (unsigned i = 0; i < ir->op_count; i++) {
        const struct ir_op *op = &ir->ops[i];
        bool memory = op->flags & (IRF_DST_MEM | IRF_SRC_MEM);
        switch (op->op) {
        case IR_INSN:
        case IR_EA:
        case IR_LEA:
        case IR_CONVERT:
        case IR_BSWAP:
        case IR_NOP:
            continue;
        case IR_JCC:
        case IR_JRCXZ:
        case IR_JMP:
        case IR_END:
            return T0_HOST;
        case IR_MOV:
        case IR_MOVZX:
        case IR_MOVSX:
        case IR_CRC32:
        case IR_XCHG:
            if (memory || touches_high_byte(op)) {
                return T0_SAVED;
            }
            continue;
        case IR_SETCC:
        case IR_CMOV:
        case IR_ADX:
        case IR_BIT:
        case IR_SHLD:
            return memory || touches_high_byte(op) || op->size == 2 ? T0_SAVED : T0_HOST;
        case IR_UNARY:
            if (memory || touches_high_byte(op)) {
                return T0_SAVED;
            }
            if (op->sub == IR_NOT) {
                continue;
            }
            return op->sub == IR_NEG ? 0 : T0_HOST;
        case IR_SHIFT:
            if (memory || touches_high_byte(op)) {
                return T0_SAVED;
            }
            return op->flags & IRF_SRC_IMM && op->imm & (op->size == 8 ? 63 : 31) && op->sub >= IR_SHL
                       ? 0
                       : T0_HOST;
        case IR_ALU:
            if (memory || touches_high_byte(op)) {
                return T0_SAVED;
            }
            return op->sub == IR_ADC || op->sub == IR_SBB ? T0_HOST : 0;
        case IR_BMI:
            if (memory || op->sub <= IR_BZHI) {
                return memory ? T0_SAVED : 0;
            }
            continue;
        case IR_IMUL:
        case IR_SCAN:
            return memory ? T0_SAVED : 0;
        case IR_FLAGOP:
            return op->sub <= IR_CMC ? T0_HOST : T0_SAVED;
        case IR_VEC: {
            const struct x86_vec_insn *insn = &x86_vec_insns[op->aux];
            if (memory || t0_vec_uses_x87(insn)) {
                return T0_SAVED;
            }
            if (insn->flags & VECF_FLAGS_W) {
                return 0;
            }
            continue;
        }
        case IR_VEX:
            if (memory) {
                return T0_SAVED;
            }
            if (x86_vex_insns[op->aux].flags & VECF_FLAGS_W) {
                return 0;
            }
            continue;
        default:
            return T0_SAVED;
        }
    }
    return T0_HOST;
}

/* A poll: leaves through `stub` (just before it) when x86_cpu.run is 0. Two-byte aligned, so that t0_kill()
 * can replace its first two bytes by a short jump to the stub. */
static void emit_poll(struct t0_ctx *c, unsigned flags, struct t0_block *t0, unsigned which)
{
    struct emitter *e = c->e;
    uint8_t *stub = e->p;
    emit8(e, 0xb9);
    emit32(e, c->block->gpa & 0xfff);
    emit_jmp(e, c->thunks->exit_poll[flags == T0_SAVED ? 0 : 1]);
    emit_align(e, 16, 0);
    t0->poll_stub[which] = stub;
    t0->poll[which] = e->p;
    _Static_assert(offsetof(struct x86_cpu, run) == 0, "poll is mov ecx, [rsp]");
    emit_load(e, 4, H_RCX, cpu_rm(CPU_OFF(run), 0));
    emit8(e, 0xe3);
    emit8(e, (uint8_t)(stub - (e->p + 1)));
}

static void emit_entries(struct t0_ctx *c, struct t0_block *t0)
{
    struct emitter *e = c->e;
    unsigned native = entry_flags(c->ir);
    if (native == 0) {
        /* Nobody sees the flags before they are written; but a poll must leave them where they are. */
        emit_poll(c, T0_SAVED, t0, 0);
        t0->entry[0] = t0->poll[0] + e->rx_delta;
        uint8_t *over = emit_jmp_forward(e);
        emit_poll(c, T0_HOST, t0, 1);
        t0->entry[1] = t0->poll[1] + e->rx_delta;
        emit_bind(e, over);
    } else if (native == T0_SAVED) {
        emit_poll(c, T0_SAVED, t0, 0);
        t0->entry[0] = t0->poll[0] + e->rx_delta;
        uint8_t *over = emit_jmp_forward(e);
        t0->entry[1] = emit_rx(e);
        t0_emit_save_flags(e);
        emit_jmp(e, t0->entry[0]);
        emit_bind(e, over);
    } else {
        emit_poll(c, T0_HOST, t0, 1);
        t0->entry[1] = t0->poll[1] + e->rx_delta;
        uint8_t *over = emit_jmp_forward(e);
        t0->entry[0] = emit_rx(e);
        t0_emit_restore_flags(e);
        emit_jmp(e, t0->entry[1]);
        emit_bind(e, over);
    }
    c->flags = native;
}

static void compile_hot(struct t0_ctx *c, struct t0_block *ret_entries)
{
    emit_align(c->e, 16, 0);
    emit_entries(c, ret_entries);
    for (unsigned i = 0; i < c->ir->op_count; i++) {
        compile_op(c, &c->ir->ops[i]);
    }
}

struct t0_block *t0_compile(struct emitter *e, const struct t0_thunks *thunks, struct block *block,
                            const struct ir_block *ir)
{
    struct t0_block entries = {0};
    struct t0_ctx *c = malloc(sizeof(*c));
    if (!c) {
        return NULL;
    }
    c->e = e;
    c->thunks = thunks;
    c->block = block;
    c->ir = ir;
    c->ea = NULL;
    c->insn_pc = c->insn_len = 0;
    c->straddles = block_straddles(block);
    c->cold_count = c->link_count = c->data_count = 0;
    c->full = c->x87_based = c->x87_loaded = c->upper_used = false;
    compile_hot(c, &entries);

    struct t0_block *t0 = malloc(sizeof(*t0) + c->link_count * sizeof(c->links[0]));
    if (t0) {
        for (unsigned i = 0; i < c->cold_count; i++) {
            compile_cold(c, &c->cold[i], t0->links);
        }
        emit_data(c);
        *t0 = entries;
        t0->link_count = c->link_count;
        memcpy(t0->links, c->links, c->link_count * sizeof(c->links[0]));
        if (c->full || e->overflow) {
            free(t0);
            t0 = NULL;
        }
    }
    free(c);
    return t0;
}
