/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System instructions: everything that needs more than the user-mode state. IR_SYS carries one of these.
 *
 * Calling convention of every handler: cpu->rip is the instruction, cpu->next_rip the following one, cpu->ea the linear
 * address of its memory operand if op->flags has IRF_SRC_MEM/IRF_DST_MEM, op->size the operand size. Returns
 * enum x86_result: X86_OK (go on at next_rip), X86_RAISE, X86_JUMP (rip and pc_base set), X86_EXIT (rip set).
 * The front end marks with IRF_END those after which mode, mappings or interrupt state may differ.
 */
#pragma once

#include "translator/ir.h"
#include "translator/x86/cpu.h"

enum x86_sys {
    X86_SYS_UD,          /* #UD */
    X86_SYS_GP,          /* #GP(0) (too long instruction, privileged at decode time) */
    X86_SYS_NM,          /* #NM */
    X86_SYS_HLT,
    X86_SYS_CPUID,
    X86_SYS_RDTSC, X86_SYS_RDTSCP, X86_SYS_RDPMC, X86_SYS_RDPID /* dst */,
    X86_SYS_RDMSR, X86_SYS_WRMSR,
    X86_SYS_MOV_FROM_CR, /* dst = CR[imm] */
    X86_SYS_MOV_TO_CR,   /* CR[imm] = src */
    X86_SYS_MOV_FROM_DR, X86_SYS_MOV_TO_DR,
    X86_SYS_CLTS, X86_SYS_LMSW /* src|mem */, X86_SYS_SMSW /* dst|mem */,
    X86_SYS_LGDT, X86_SYS_LIDT, X86_SYS_SGDT, X86_SYS_SIDT, /* mem */
    X86_SYS_LLDT, X86_SYS_LTR, /* src|mem */ X86_SYS_SLDT, X86_SYS_STR, /* dst|mem */
    X86_SYS_LAR, X86_SYS_LSL, X86_SYS_VERR, X86_SYS_VERW, X86_SYS_ARPL, /* dst, src|mem */
    X86_SYS_MOV_TO_SEG,   /* seg[dst] = src|mem */
    X86_SYS_MOV_FROM_SEG, /* dst|mem = seg[src] */
    X86_SYS_POP_SEG,      /* dst = segment; imm = stack address size */
    X86_SYS_PUSH_SEG,     /* src = segment; imm = stack address size */
    X86_SYS_LOAD_FAR_PTR, /* LES LDS LSS LFS LGS: dst register, src2 = segment, mem = offset:selector */
    X86_SYS_JMP_FAR, X86_SYS_CALL_FAR, /* mem, or imm = offset and aux = selector (IRF_SRC_IMM) */
    X86_SYS_RET_FAR,      /* imm = extra bytes */
    X86_SYS_IRET,
    X86_SYS_INT,          /* imm = vector */
    X86_SYS_INT3, X86_SYS_INTO, X86_SYS_INT1, X86_SYS_BOUND,
    X86_SYS_SYSCALL, X86_SYS_SYSRET, X86_SYS_SYSENTER, X86_SYS_SYSEXIT,
    X86_SYS_PUSHF, X86_SYS_POPF, /* imm = stack address size */
    X86_SYS_CLI, X86_SYS_STI, X86_SYS_CLAC, X86_SYS_STAC,
    X86_SYS_SWAPGS,
    X86_SYS_RDFSBASE, X86_SYS_RDGSBASE /* dst */, X86_SYS_WRFSBASE, X86_SYS_WRGSBASE, /* src */
    X86_SYS_INVLPG, X86_SYS_INVPCID /* src = type register, mem = descriptor */, X86_SYS_INVD, X86_SYS_WBINVD,
    X86_SYS_CLFLUSH, /* mem; also CLFLUSHOPT, CLWB: check the address, nothing else */
    X86_SYS_IN, X86_SYS_OUT,   /* port = imm (IRF_SRC_IMM) or DX; accumulator of `size` */
    X86_SYS_INS, X86_SYS_OUTS, /* aux = address size, src = segment, IRF_REP */
    X86_SYS_ENTER,        /* imm = alloc | level << 16 */
    X86_SYS_PUSHA, X86_SYS_POPA, X86_SYS_DAA, X86_SYS_DAS, X86_SYS_AAA, X86_SYS_AAS, X86_SYS_AAM, X86_SYS_AAD, /* imm */
    X86_SYS_XLAT,         /* mem */
    X86_SYS_FXSAVE, X86_SYS_FXRSTOR, X86_SYS_XSAVE, X86_SYS_XSAVEOPT, X86_SYS_XSAVEC, X86_SYS_XSAVES, X86_SYS_XRSTOR,
    X86_SYS_XRSTORS,      /* mem, size 8 with REX.W */
    X86_SYS_XGETBV, X86_SYS_XSETBV, X86_SYS_RDPKRU, X86_SYS_WRPKRU,
    X86_SYS_LDMXCSR, X86_SYS_STMXCSR, /* mem */
    X86_SYS_FWAIT,
    X86_SYS_RDRAND, X86_SYS_RDSEED, /* dst, size */
    X86_SYS_MONITOR, X86_SYS_MWAIT,
    X86_SYS_MASKMOV,      /* MASKMOVDQU/MASKMOVQ: dst = data reg, src = mask reg, ea; size 8 = MMX, 16 = SSE */
    X86_SYS_MOVDIR64B,    /* src = register with the destination's offset in ES, aux = address size; mem = 64 bytes */
    X86_SYS_COUNT,
};

/* Dispatches op->sub. */
int x86_sys(struct x86_cpu *cpu, const struct ir_op *op);

/* --- events (translator/x86/event.c) ------------------------------------------------------------------------ */

/* Delivers cpu->exc (clears it): X86_JUMP with rip at the handler; handles double fault promotion; X86_EXIT with
 * exit_reason = X86_RUN_SHUTDOWN on triple fault. */
int x86_deliver_exception(struct x86_cpu *cpu);
/* Delivers an external interrupt or NMI; same results. */
int x86_deliver_interrupt(struct x86_cpu *cpu, uint8_t vector, bool nmi);

/* Sets rip and pc_base together; used by everything that changes control flow outside generated code. */
void x86_set_rip(struct x86_cpu *cpu, uint64_t rip);
