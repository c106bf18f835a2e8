/* SPDX-License-Identifier: Apache-2.0 */
/*
 * T0's thunks: the ways between C and generated code, emitted once at the start of the code cache.
 *
 * Inside generated code rsp is the vCPU; a thunk that was called sees it 8 bytes lower (`bias`). Every C function called
 * from here is entered with rsp 16-byte aligned, as the ABI asks.
 */
#include "translator/mmu_internal.h"
#include "translator/t0/regs.h"
#include "translator/t0/t0_internal.h"

/* Guest registers that C functions may change, and those that they keep. */
static const uint8_t volatile_regs[] = {IR_RAX, IR_RCX, IR_RSP, IR_RDX, IR_RSI, IR_RDI, IR_R8};
static const uint8_t kept_regs[] = {IR_RBX, IR_RBP, IR_R12, IR_R13, IR_R14, IR_R15};

static void store_regs(struct emitter *e, const uint8_t *regs, unsigned count, int32_t bias)
{
    for (unsigned i = 0; i < count; i++) {
        emit_store(e, 8, t0_host_reg[regs[i]], cpu_rm(t0_home(regs[i]), bias));
    }
}

static void load_regs(struct emitter *e, const uint8_t *regs, unsigned count, int32_t bias)
{
    for (unsigned i = 0; i < count; i++) {
        emit_load(e, 8, t0_host_reg[regs[i]], cpu_rm(t0_home(regs[i]), bias));
    }
}

static bool host_has_avx(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx");
#else
    return false;
#endif
}

/* MOVAPS or VMOVAPS of all vector registers: opcode 0x28 loads, 0x29 stores. */
static void move_vectors(struct emitter *e, unsigned opcode, bool wide, int32_t bias)
{
    for (unsigned i = 0; i < 16; i++) {
        struct rm home = cpu_rm(CPU_OFF(vec) + (int32_t)i * 64, bias);
        if (wide) {
            emit_vex(e, EMIT_L, 1, opcode, i, 0, home);
        } else {
            emit_insn(e, 0, 1, opcode, i, home);
        }
    }
}

static void emit_vzeroupper(struct emitter *e)
{
    emit8(e, 0xc5);
    emit8(e, 0xf8);
    emit8(e, 0x77);
}

/*
 * The vector registers to x86_cpu.vec, and MXCSR with them: C runs with the host's. Bits 255:128 only if x86_cpu.vec_upper
 * says that there may be something in them, or that memory does not know yet that there is not; C finds them 0, so that
 * legacy instructions need not preserve them. Destroys EFLAGS.
 */
static void store_vectors(struct emitter *e, int32_t bias)
{
    struct rm upper = cpu_rm(CPU_OFF(vec_upper), bias);
    uint8_t *narrow = NULL, *done = NULL;
    if (host_has_avx()) {
        emit_alu_imm(e, 0, IR_CMP, 1, upper, VEC_UPPER_ZERO);
        narrow = emit_jcc_forward(e, 4);
        move_vectors(e, 0x29, true, bias);
        emit_vzeroupper(e);
        emit_alu_imm(e, 0, IR_AND, 1, upper, VEC_UPPER_USED); /* CLEAR becomes ZERO */
        done = emit_jmp_forward(e);
        emit_bind(e, narrow);
    }
    move_vectors(e, 0x29, false, bias);
    if (done) {
        emit_bind(e, done);
    }
    emit_insn(e, 0, 1, 0xae, 3, cpu_rm(CPU_OFF(mxcsr), bias));      /* stmxcsr */
    emit_insn(e, 0, 1, 0xae, 2, cpu_rm(CPU_OFF(host_mxcsr), bias)); /* ldmxcsr */
}

static void load_vectors(struct emitter *e, int32_t bias)
{
    uint8_t *done = NULL;
    emit_insn(e, 0, 1, 0xae, 2, cpu_rm(CPU_OFF(mxcsr), bias));
    if (host_has_avx()) {
        emit_alu_imm(e, 0, IR_CMP, 1, cpu_rm(CPU_OFF(vec_upper), bias), VEC_UPPER_ZERO);
        uint8_t *narrow = emit_jcc_forward(e, 4);
        move_vectors(e, 0x28, true, bias);
        done = emit_jmp_forward(e);
        emit_bind(e, narrow);
        emit_vzeroupper(e); /* what C left there is not the guest's */
    }
    move_vectors(e, 0x28, false, bias);
    if (done) {
        emit_bind(e, done);
    }
}

static void call_c(struct emitter *e, void *function)
{
    emit_mov_imm(e, H_RAX, (uint64_t)function);
    emit_insn(e, 0, 0, 0xff, 2, rm_reg(H_RAX));
}

static void save_flags(struct emitter *e)
{
    emit8(e, 0x9f);                                   /* lahf */
    emit_insn(e, EMIT_BYTERM, 1, 0x90, 0, rm_reg(H_RAX)); /* seto al */
    emit_store(e, 4, H_RAX, cpu_rm(CPU_OFF(saved_flags), 0));
}

static void add_rsp(struct emitter *e, int32_t bytes)
{
    emit_lea(e, 8, H_RSP, rm_mem(H_RSP, bytes));
}

static void emit_enter(struct emitter *e)
{
    static const uint8_t kept[] = {H_RBX, H_RBP, H_R12, H_R13, H_R14, H_R15};
    for (unsigned i = 0; i < sizeof(kept); i++) {
        if (kept[i] >= 8) {
            emit8(e, 0x41);
        }
        emit8(e, 0x50 | (kept[i] & 7));
    }
    emit_insn(e, 0, 1, 0xae, 3, rm_mem(H_RDI, CPU_OFF(host_mxcsr)));
    emit_store(e, 8, H_RSP, rm_mem(H_RDI, CPU_OFF(host_rsp)));
    emit_mov_rr(e, 8, H_RSP, H_RDI);
    emit_mov_rr(e, 8, H_RCX, H_RSI);
    load_vectors(e, 0);
    load_regs(e, volatile_regs, sizeof(volatile_regs), 0);
    load_regs(e, kept_regs, sizeof(kept_regs), 0);
    emit_insn(e, 0, 0, 0xff, 4, rm_reg(H_RCX)); /* jmp rcx */
}

/* Back to the C stack with everything stored; returns 0 from enter(). */
static void emit_leave(struct emitter *e)
{
    static const uint8_t kept[] = {H_R15, H_R14, H_R13, H_R12, H_RBP, H_RBX};
    emit_load(e, 8, H_RSP, cpu_rm(CPU_OFF(host_rsp), 0));
    for (unsigned i = 0; i < sizeof(kept); i++) {
        if (kept[i] >= 8) {
            emit8(e, 0x41);
        }
        emit8(e, 0x58 | (kept[i] & 7));
    }
    emit_insn(e, 0, 0, 0x31, H_RAX, rm_reg(H_RAX));
    emit8(e, 0xc3);
}

static void set_exit(struct emitter *e, enum t0_exit exit)
{
    emit_insn(e, 0, 0, 0xc7, 0, cpu_rm(CPU_OFF(t0_exit), 0));
    emit32(e, exit);
}

void t0_make_thunks(struct emitter *e, struct t0_thunks *ret)
{
    *ret = (struct t0_thunks){0};
    ret->enter = (int (*)(struct x86_cpu *, void *))emit_rx(e);
    emit_enter(e);

    /* everything stored already: rax = result */
    const uint8_t *exit_result = emit_rx(e);
    emit_store(e, 8, H_RAX, cpu_rm(CPU_OFF(t0_argument), 0));
    set_exit(e, T0_EXIT_RESULT);
    emit_leave(e);

    /* rcx = argument, exit code set */
    const uint8_t *exit_common = emit_rx(e);
    emit_store(e, 8, H_RCX, cpu_rm(CPU_OFF(t0_argument), 0));
    store_regs(e, volatile_regs, sizeof(volatile_regs), 0);
    store_regs(e, kept_regs, sizeof(kept_regs), 0);
    store_vectors(e, 0);
    emit_leave(e);

    ret->exit_poll[1] = emit_rx(e);
    save_flags(e);
    ret->exit_poll[0] = emit_rx(e);
    set_exit(e, T0_EXIT_POLL);
    emit_jmp(e, exit_common);

    ret->exit_link[1] = emit_rx(e);
    save_flags(e);
    ret->exit_link[0] = emit_rx(e);
    set_exit(e, T0_EXIT_LINK);
    emit_jmp(e, exit_common);

    /* rax = rip, flags SAVED. Not in the jump cache: C may know its block; else out. */
    ret->jump_miss = emit_rx(e);
    store_regs(e, volatile_regs, sizeof(volatile_regs), 0);
    emit_store(e, 8, H_RAX, cpu_rm(CPU_OFF(rip), 0));
    emit_mov_rr(e, 8, H_RDI, H_RSP);
    call_c(e, (void *)t0_resolve);
    load_regs(e, volatile_regs, sizeof(volatile_regs), 0);
    emit_insn(e, EMIT_W, 0, 0x85, H_RAX, rm_reg(H_RAX));
    uint8_t *unknown = emit_jcc_forward(e, 4);
    emit_insn(e, 0, 0, 0xff, 4, rm_reg(H_RAX));
    emit_bind(e, unknown);
    emit_load(e, 8, H_RCX, cpu_rm(CPU_OFF(rip), 0));
    set_exit(e, T0_EXIT_JUMP);
    emit_jmp(e, exit_common);

    /* rax = rip: its jump-cache entry (mmu_jump_set() computes the same), then its code page base */
    emit_align(e, 16, 0);
    ret->jump = emit_rx(e);
    emit_insn(e, 0, 0, 0x69, H_RCX, rm_reg(H_RAX)); /* imul ecx, eax, imm32 */
    emit32(e, JUMP_CACHE_HASH);
    emit_insn(e, 0, 0, 0xc1, 5, rm_reg(H_RCX)); /* shr ecx: the index, times 16 */
    emit8(e, 32 - JUMP_CACHE_BITS - 4);
    emit_alu_imm(e, 0, IR_AND, 4, rm_reg(H_RCX), (JUMP_CACHE_ENTRIES - 1) * 16);
    emit_insn(e, EMIT_W, 0, 0x03, H_RCX, cpu_rm(CPU_OFF(jump_cache), 0));
    emit_insn(e, EMIT_W, 0, 0x3b, H_RAX, rm_mem(H_RCX, 0));
    emit_jcc(e, 5, ret->jump_miss);
    emit_alu_imm(e, 0, IR_AND, 8, rm_reg(H_RAX), -4096);
    emit_store(e, 8, H_RAX, cpu_rm(CPU_OFF(pc_base), 0));
    emit_insn(e, 0, 0, 0xff, 4, rm_mem(H_RCX, 8));

    ret->far_link[1] = emit_rx(e);
    save_flags(e);
    ret->far_link[0] = emit_rx(e);
    emit_insn(e, 0, 1, 0xb7, H_RAX, rm_mem(H_RCX, (int32_t)offsetof(struct t0_link, target)));
    emit_insn(e, EMIT_W, 0, 0x03, H_RAX, cpu_rm(CPU_OFF(pc_base), 0));
    emit_jmp(e, ret->jump);

    /* Slow memory access. */
    emit_align(e, 16, 0);
    ret->slow = emit_rx(e);
    store_regs(e, volatile_regs, sizeof(volatile_regs), 8);
    emit_store(e, 8, H_RAX, cpu_rm(CPU_OFF(slow_la), 8));
    emit_store(e, 4, H_RCX, cpu_rm(CPU_OFF(slow_info), 8));
    emit_lea(e, 8, H_RDI, rm_mem(H_RSP, 8));
    emit_mov_rr(e, 8, H_RSI, H_RAX);
    emit_mov_rr(e, 4, H_RDX, H_RCX);
    add_rsp(e, -8);
    call_c(e, (void *)t0_refill);
    add_rsp(e, 8);
    emit_insn(e, EMIT_W, 0, 0x85, H_RAX, rm_reg(H_RAX));
    uint8_t *full = emit_jcc_forward(e, 4);
    load_regs(e, volatile_regs, sizeof(volatile_regs), 8);
    emit_mov_imm(e, H_RCX, 0);
    emit8(e, 0xc3);
    emit_bind(e, full);
    load_regs(e, volatile_regs, sizeof(volatile_regs), 8);
    emit_insn(e, 0, 1, 0xb7, H_RCX, cpu_rm(CPU_OFF(slow_info), 8)); /* movzx: the offset */
    add_rsp(e, 8);
    uint8_t *interpret = emit_jmp_forward(e);

    /* One op in C. */
    emit_align(e, 16, 0);
    ret->op = emit_rx(e);
    store_regs(e, volatile_regs, sizeof(volatile_regs), 8);
    store_regs(e, kept_regs, sizeof(kept_regs), 8);
    store_vectors(e, 8);
    emit_lea(e, 8, H_RDI, rm_mem(H_RSP, 8));
    emit_mov_rr(e, 8, H_RSI, H_RCX);
    emit_mov_rr(e, 4, H_RDX, H_RAX);
    add_rsp(e, -8);
    call_c(e, (void *)t0_call_op);
    add_rsp(e, 8);
    emit_insn(e, 0, 0, 0x85, H_RAX, rm_reg(H_RAX));
    uint8_t *out = emit_jcc_forward(e, 5);
    load_vectors(e, 8);
    load_regs(e, volatile_regs, sizeof(volatile_regs), 8);
    load_regs(e, kept_regs, sizeof(kept_regs), 8);
    emit8(e, 0xc3);
    emit_bind(e, out);
    add_rsp(e, 8);
    const uint8_t *result = emit_rx(e);
    emit_alu_imm(e, 0, IR_CMP, 4, rm_reg(H_RAX), T0_CONTINUE);
    emit_jcc(e, 5, exit_result);
    load_vectors(e, 0);
    load_regs(e, volatile_regs, sizeof(volatile_regs), 0);
    load_regs(e, kept_regs, sizeof(kept_regs), 0);
    emit_load(e, 8, H_RAX, cpu_rm(CPU_OFF(rip), 0));
    emit_insn(e, 0, 0, 0xc7, 0, cpu_rm(CPU_OFF(branch_note), 0));
    emit32(e, (uint32_t)T0_NOTE_NONE);
    emit_jmp(e, ret->jump);

    emit_align(e, 16, 0);
    emit_bind(e, interpret);
    ret->interpret = emit_rx(e);
    store_regs(e, volatile_regs, sizeof(volatile_regs), 0);
    store_regs(e, kept_regs, sizeof(kept_regs), 0);
    store_vectors(e, 0);
    emit_mov_rr(e, 8, H_RDI, H_RSP);
    emit_mov_rr(e, 4, H_RSI, H_RCX);
    call_c(e, (void *)t0_interpret);
    emit_jmp(e, result);

    ret->branch_back = emit_rx(e);
    emit_load(e, 4, H_RCX, cpu_rm(CPU_OFF(slow_info), 0));
    emit_jmp(e, ret->interpret);

    /* FXRSTOR loads vector state too: give it what is there. */
    ret->x87_load = emit_rx(e);
    emit_insn(e, 0, 1, 0xb7, H_RAX, cpu_rm(CPU_OFF(fx.fcw), 8)); /* an exception is not masked: the interpreter's business */
    emit_insn(e, 0, 0, 0xf7, 2, rm_reg(H_RAX));                  /* not eax */
    emit8(e, 0xa8);
    emit8(e, 0x3f);
    uint8_t *masked = emit_jcc_forward(e, 4);
    add_rsp(e, 8);
    emit_jmp(e, ret->interpret);
    emit_bind(e, masked);
    for (unsigned i = 0; i < 16; i++) {
        emit_insn(e, 0, 1, 0x29, i, cpu_rm(CPU_OFF(fx.xmm) + (int32_t)i * 16, 8));
    }
    emit_insn(e, 0, 1, 0xae, 3, cpu_rm(CPU_OFF(fx.mxcsr), 8));
    emit_insn(e, EMIT_W, 1, 0xae, 1, cpu_rm(CPU_OFF(fx), 8));
    emit_insn(e, 0, 0, 0xc6, 0, cpu_rm(CPU_OFF(x87_live), 8));
    emit8(e, 1);
    emit_insn(e, 0, 0, 0xc7, 0, cpu_rm(CPU_OFF(x87_pc), 8));
    emit32(e, X87_PC_NONE);
    emit8(e, 0xc3);
}
