/* SPDX-License-Identifier: Apache-2.0 */
/*
 * T0: control flow. A jump within the block's page is a link that is patched when its target exists; any
 * other goes through the jump cache, which follows the mapping.
 */
#include "translator/t0/compile_internal.h"

int32_t t0_branch_note(const struct t0_ctx *c, int32_t undo)
{
    return (int32_t)((uint32_t)undo << 12 | c->insn_pc);
}

/* rax = rip, flags are SAVED. */
static void emit_jump(struct t0_ctx *c, int32_t note)
{
    if (t0_word(c) == 8) {
        emit_insn(c->e, 0, 0, 0xc7, 0, cpu_rm(CPU_OFF(branch_note), 0));
        emit32(c->e, (uint32_t)note);
    }
    emit_jmp(c->e, c->thunks->jump);
}

void t0_emit_far(struct t0_ctx *c, int64_t target, int32_t note)
{
    emit_load(c->e, 8, H_RAX, cpu_rm(CPU_OFF(pc_base), 0));
    if (target == (int32_t)target) {
        emit_lea(c->e, t0_word(c), H_RAX, rm_mem(H_RAX, (int32_t)target));
    } else {
        emit_mov_imm(c->e, H_RCX, (uint64_t)target);
        emit_lea(c->e, t0_word(c), H_RAX, rm_sib(H_RAX, H_RCX, 0, 0));
    }
    emit_jump(c, note);
}

static bool linkable(const struct t0_ctx *c, int64_t target)
{
    return target >= 0 && target < 4096 && !c->straddles;
}

void t0_emit_goto(struct t0_ctx *c, int cc, int64_t target, int32_t note)
{
    struct emitter *e = c->e;
    if (linkable(c, target)) {
        if (c->link_count == T0_LINKS_MAX) {
            c->full = true;
            return;
        }
        emit_align(e, 4, cc < 0 ? 1 : 2);
        uint8_t *site = cc < 0 ? emit_jmp_forward(e) : emit_jcc_forward(e, (unsigned)cc);
        struct t0_cold *cold = t0_cold_add(c, T0_COLD_LINK, site);
        cold->target = c->link_count;
        c->links[c->link_count++] = (struct t0_link){
            .site = site, .from = c->block, .target = (uint16_t)target, .flags = (uint8_t)c->flags};
        return;
    }
    if (cc < 0) {
        if (c->flags == T0_HOST) {
            t0_flags_clobber(c);
        }
        t0_emit_far(c, target, note);
        return;
    }
    struct t0_cold *cold = t0_cold_add(c, T0_COLD_FAR, emit_jcc_forward(e, (unsigned)cc));
    cold->target = target;
    cold->note = note;
}

void t0_compile_jcc(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    if (c->flags == T0_SAVED && op->sub < 12) {
        /* One bit (two for BE) of the saved image decides: no need to restore. */
        static const struct {
            uint8_t byte, mask;
        } bits[] = {{0, 1}, {1, FLAG_CF}, {1, FLAG_ZF}, {1, FLAG_CF | FLAG_ZF}, {1, FLAG_SF}, {1, FLAG_PF}};
        emit_insn(e, 0, 0, 0xf6, 0, cpu_rm(CPU_OFF(saved_flags) + bits[op->sub / 2].byte, 0));
        emit8(e, bits[op->sub / 2].mask);
        t0_emit_goto(c, op->sub & 1 ? 4 : 5, op->imm, t0_branch_note(c, 0));
        return;
    }
    t0_flags_need(c);
    t0_emit_goto(c, op->sub, op->imm, t0_branch_note(c, 0));
}

void t0_compile_jrcxz(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned counter = t0_host_reg[IR_RCX];
    unsigned size = op->aux == 8 ? 8 : 4;
    if (op->sub != IR_LOOP_NONE && !linkable(c, op->imm)) {
        t0_emit_interpret(c); /* it may fault after having counted */
        return;
    }
    if (op->sub != IR_LOOP_NONE) {
        emit_lea(e, size, counter, rm_mem(counter, -1));
        if (op->sub != IR_LOOP) {
            t0_flags_need(c);
        }
    }
    emit_mov_rr(e, size, H_RCX, counter);
    if (op->sub == IR_LOOP_NONE) {
        emit8(e, 0xe3); /* jrcxz over the jump that skips the exit */
        emit8(e, 5);
        uint8_t *skip = emit_jmp_forward(e);
        unsigned flags = c->flags;
        t0_emit_goto(c, -1, op->imm, t0_branch_note(c, 0));
        c->flags = flags;
        emit_bind(e, skip);
        return;
    }
    emit8(e, 0xe3); /* jrcxz: count is used up */
    emit8(e, 2);
    emit8(e, 0xeb);
    emit8(e, 5);
    uint8_t *done = emit_jmp_forward(e);
    uint8_t *other = op->sub == IR_LOOP ? NULL : emit_jcc_forward(e, op->sub == IR_LOOPE ? 5 : 4);
    unsigned flags = c->flags;
    t0_emit_goto(c, -1, op->imm, t0_branch_note(c, 0));
    c->flags = flags;
    emit_bind(e, done);
    if (other) {
        emit_bind(e, other);
    }
}

void t0_compile_jmp_ind(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned size = t0_word(c);
    t0_flags_clobber(c);
    if (op->flags & IRF_SRC_MEM) {
        t0_emit_ea(c);
        t0_emit_lookup(c, MMU_READ, size);
        emit_load(e, size, H_RAX, t0_guest_mem());
    } else {
        unsigned src = t0_reg_value(c, op->src, H_RAX);
        if (src != H_RAX) {
            emit_mov_rr(e, size, H_RAX, src);
        }
    }
    if (op->flags & IRF_CALL) {
        emit_store(e, 8, H_RAX, cpu_rm(CPU_OFF(temp) + 16, 0));
        t0_push_lookup(c, size);
        emit_load(e, 8, H_RCX, cpu_rm(CPU_OFF(pc_base), 0));
        emit_lea(e, 8, H_RCX, rm_mem(H_RCX, (int32_t)op->imm));
        emit_store(e, size, H_RCX, t0_guest_mem());
        emit_lea(e, size, t0_host_reg[IR_RSP], rm_mem(t0_host_reg[IR_RSP], -(int32_t)size));
        emit_load(e, 8, H_RAX, cpu_rm(CPU_OFF(temp) + 16, 0));
    }
    emit_jump(c, t0_branch_note(c, op->flags & IRF_CALL ? (int32_t)size : 0));
}

void t0_compile_ret(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned rsp = t0_host_reg[IR_RSP], size = t0_word(c);
    t0_flags_clobber(c);
    emit_mov_rr(e, size, H_RAX, rsp);
    t0_emit_lookup(c, MMU_READ, size);
    emit_load(e, size, H_RAX, t0_guest_mem());
    emit_lea(e, size, rsp, rm_mem(rsp, (int32_t)size + (int32_t)op->imm));
    emit_jump(c, t0_branch_note(c, -((int32_t)size + (int32_t)op->imm)));
}
