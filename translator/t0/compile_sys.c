/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few system instructions that kernels execute all the time, emitted inline; the others run in C.
 *
 * Only what needs no check that could fail in the block's mode: CLI, STI and SWAPGS at CPL 0, PUSHF, RDTSC(P) while CR4.TSD is
 * clear, MOV from a segment register.
 */
#include "translator/t0/compile_internal.h"
#include "translator/x86/sys.h"

static bool at_cpl0(const struct t0_ctx *c)
{
    return !(c->block->mode & (MODE_CPL3 | MODE_CPLMID));
}

static struct rm rflags(void)
{
    return cpu_rm(CPU_OFF(rflags), 0);
}

static void test_imm32(struct t0_ctx *c, struct rm rm, uint32_t mask)
{
    emit_insn(c->e, 0, 0, 0xf7, 0, rm);
    emit32(c->e, mask);
}

static void compile_cli(struct t0_ctx *c)
{
    t0_flags_clobber(c);
    emit_alu_imm(c->e, 0, IR_AND, 4, rflags(), ~(int64_t)FLAG_IF);
}

/*
 * The next instruction is not interrupted: x86_cpu.sti_rip remembers which it is, for the case that the very next poll comes
 * out. With an interrupt already waiting or a request not yet looked at, go out at once.
 */
static void compile_sti(struct t0_ctx *c)
{
    struct emitter *e = c->e;
    int32_t next = (int32_t)(c->insn_pc + c->insn_len);
    t0_flags_clobber(c);
    test_imm32(c, rflags(), FLAG_IF);
    uint8_t *set = emit_jcc_forward(e, 5);
    emit_alu_imm(e, 0, IR_OR, 4, rflags(), FLAG_IF);
    emit_load(e, 8, H_RAX, cpu_rm(CPU_OFF(pc_base), 0));
    emit_lea(e, t0_word(c), H_RAX, rm_mem(H_RAX, next));
    emit_store(e, 8, H_RAX, cpu_rm(CPU_OFF(sti_rip), 0));
    emit_alu_imm(e, 0, IR_CMP, 1, cpu_rm(CPU_OFF(irq_waiting), 0), 0);
    struct t0_cold *cold = t0_cold_add(c, T0_COLD_OUT, emit_jcc_forward(e, 5));
    cold->target = next;
    /* One that was requested since the last poll: STI, NOP, CLI must let it in. */
    emit_alu_imm(e, 0, IR_CMP, 4, cpu_rm(CPU_OFF(requests), 0), 0);
    cold = t0_cold_add(c, T0_COLD_OUT, emit_jcc_forward(e, 5));
    cold->target = next;
    emit_bind(e, set);
    t0_emit_goto(c, -1, next, T0_NOTE_NONE);
}

static void compile_swapgs(struct t0_ctx *c)
{
    struct emitter *e = c->e;
    struct rm base = cpu_rm(CPU_OFF(seg) + (int32_t)(SEG_GS * sizeof(struct x86_seg) + offsetof(struct x86_seg, base)), 0);
    struct rm other = cpu_rm(CPU_OFF(kernel_gs_base), 0);
    emit_load(e, 8, H_RAX, base);
    emit_load(e, 8, H_RCX, other);
    emit_store(e, 8, H_RAX, other);
    emit_store(e, 8, H_RCX, base);
}

/* Puts the arithmetic flags back into the image, from LAHF's and SETO's. */
static void compile_pushf(struct t0_ctx *c)
{
    struct emitter *e = c->e;
    unsigned rsp = t0_host_reg[IR_RSP], size = t0_word(c);
    t0_flags_clobber(c);
    emit_load(e, 4, H_RAX, cpu_rm(CPU_OFF(saved_flags), 0));
    emit_insn(e, 0, 1, 0xb6, H_RCX, rm_reg(4)); /* movzx ecx, ah */
    emit_alu_imm(e, 0, IR_AND, 4, rm_reg(H_RCX), FLAGS_ARITH & 0xff);
    emit_alu_imm(e, 0, IR_AND, 4, rm_reg(H_RAX), 1);
    emit_insn(e, 0, 0, 0xc1, 4, rm_reg(H_RAX)); /* shl: OF */
    emit8(e, 11);
    emit_insn(e, 0, 0, 0x09, H_RAX, rm_reg(H_RCX)); /* or ecx, eax */
    emit_load(e, 4, H_RAX, rflags());
    emit_alu_imm(e, 0, IR_AND, 4, rm_reg(H_RAX), ~(int64_t)(FLAGS_ARITH | FLAG_VM | FLAG_RF));
    emit_insn(e, 0, 0, 0x09, H_RAX, rm_reg(H_RCX));
    emit_store(e, 8, H_RCX, cpu_rm(CPU_OFF(temp) + 16, 0));
    t0_push_lookup(c, size);
    emit_load(e, 8, H_RCX, cpu_rm(CPU_OFF(temp) + 16, 0));
    emit_store(e, size, H_RCX, t0_guest_mem());
    emit_lea(e, size, rsp, rm_mem(rsp, -(int32_t)size));
}

/* RDTSC, or RDTSCP with `processor`, which reads the counter after all earlier loads. */
static void compile_rdtsc(struct t0_ctx *c, bool processor)
{
    struct emitter *e = c->e;
    t0_flags_clobber(c);
    test_imm32(c, cpu_rm(CPU_OFF(cr4), 0), CR4_TSD);
    t0_cold_add(c, T0_COLD_INTERPRET, emit_jcc_forward(e, 5));
    if (processor) {
        emit8(e, 0x0f); /* lfence */
        emit8(e, 0xae);
        emit8(e, 0xe8);
    }
    emit8(e, 0x0f);
    emit8(e, 0x31);
    emit_insn(e, EMIT_W, 0, 0xc1, 4, rm_reg(H_RDX)); /* shl rdx, 32 */
    emit8(e, 32);
    emit_insn(e, EMIT_W, 0, 0x09, H_RAX, rm_reg(H_RDX)); /* or rdx, rax */
    emit_insn(e, EMIT_W, 0, 0x03, H_RDX, cpu_rm(CPU_OFF(tsc_offset), 0));
    emit_mov_rr(e, 4, t0_host_reg[IR_RAX], H_RDX);
    emit_insn(e, EMIT_W, 0, 0xc1, 5, rm_reg(H_RDX)); /* shr rdx, 32 */
    emit8(e, 32);
    if (processor) {
        emit_load(e, 4, t0_host_reg[IR_RCX], cpu_rm(CPU_OFF(tsc_aux), 0));
    }
}

static void compile_mov_from_seg(struct t0_ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    struct rm sel = cpu_rm(CPU_OFF(seg) + (int32_t)(op->src * sizeof(struct x86_seg) + offsetof(struct x86_seg, sel)), 0);
    emit_insn(e, 0, 1, 0xb7, H_RCX, sel);
    if (op->size == 2) {
        emit_store(e, 2, H_RCX, t0_reg_rm(op->dst));
    } else if (t0_in_host(op->dst)) {
        emit_mov_rr(e, 4, t0_host_reg[op->dst], H_RCX);
    } else {
        t0_reg_home_store(c, op->dst, H_RCX);
    }
}

void t0_compile_sys(struct t0_ctx *c, const struct ir_op *op)
{
    bool inline_here = true;
    switch (op->sub) {
    case X86_SYS_CLI:
        inline_here = at_cpl0(c);
        if (inline_here) {
            compile_cli(c);
        }
        break;
    case X86_SYS_STI:
        if (at_cpl0(c)) {
            compile_sti(c);
            return;
        }
        inline_here = false;
        break;
    case X86_SYS_SWAPGS:
        inline_here = at_cpl0(c);
        if (inline_here) {
            compile_swapgs(c);
        }
        break;
    case X86_SYS_PUSHF:
        inline_here = op->size == t0_word(c);
        if (inline_here) {
            compile_pushf(c);
        }
        break;
    case X86_SYS_RDTSC:
    case X86_SYS_RDTSCP:
        compile_rdtsc(c, op->sub == X86_SYS_RDTSCP);
        break;
    case X86_SYS_MOV_FROM_SEG:
        inline_here = !(op->flags & IRF_DST_MEM);
        if (inline_here) {
            compile_mov_from_seg(c, op);
        }
        break;
    default:
        inline_here = false;
    }
    if (!inline_here) {
        t0_fallback(c, op);
    } else if (op->flags & IRF_END) {
        t0_emit_goto(c, -1, c->insn_pc + c->insn_len, T0_NOTE_NONE);
    }
}
