/* SPDX-License-Identifier: Apache-2.0 */
/*
 * T0's register convention.
 *
 *   rsp        struct x86_cpu of the vCPU; its host stack lies below
 *   rax, rcx   scratch
 *   rdx rbx rbp rsi rdi r8 r12-r15   the guest registers of the same name
 *   r9, r10, r11                     guest rax, rcx, rsp
 *   guest r9, r10, r11               in x86_cpu.gpr (the least used ones)
 *   xmm0-15                          the guest's
 *   MXCSR                            the guest's
 *   x87/MMX                          the guest's if x86_cpu.x87_live, loaded by the first instruction that needs it
 *   EFLAGS                           see below; DF and AC are always clear
 *
 * The guest's arithmetic flags are in EFLAGS (HOST), or in x86_cpu.saved_flags (SAVED), or in both. SAVED is the image of
 * LAHF in bits 8-15 and SETO in bits 0-7. A soft-MMU look-up destroys EFLAGS, so flags are saved before it; every
 * instruction that can fault therefore finds them exact. A block has an entry for either place (t0.h).
 */
#pragma once

#include <stddef.h>

#include "translator/ir.h"
#include "translator/t0/emit.h"
#include "translator/x86/cpu.h"

static const uint8_t t0_host_reg[IR_REG_COUNT] = {
    [IR_RAX] = H_R9,  [IR_RCX] = H_R10, [IR_RDX] = H_RDX,  [IR_RBX] = H_RBX,  [IR_RSP] = H_R11, [IR_RBP] = H_RBP,
    [IR_RSI] = H_RSI, [IR_RDI] = H_RDI, [IR_R8] = H_R8,    [IR_R9] = H_NONE,  [IR_R10] = H_NONE, [IR_R11] = H_NONE,
    [IR_R12] = H_R12, [IR_R13] = H_R13, [IR_R14] = H_R14,  [IR_R15] = H_R15,  [IR_AH] = H_NONE, [IR_CH] = H_NONE,
    [IR_DH] = H_NONE, [IR_BH] = H_NONE, [IR_T0] = H_NONE,  [IR_T1] = H_NONE,
};

#define CPU_OFF(field) ((int32_t)offsetof(struct x86_cpu, field))

/* Field of struct x86_cpu as an operand, `bias` bytes below which rsp stands (return addresses pushed). */
static inline struct rm cpu_rm(int32_t offset, int32_t bias)
{
    return rm_mem(H_RSP, offset + bias);
}

/* Home of a guest register in struct x86_cpu. */
static inline int32_t t0_home(unsigned reg)
{
    if (reg == IR_T0 || reg == IR_T1) {
        return CPU_OFF(temp) + (int32_t)(reg - IR_T0) * 8;
    }
    return CPU_OFF(gpr) + (int32_t)reg * 8;
}

/* T0 compiles 64-bit code and flat 32-bit code of protected mode, without single steps, alignment checks or unmasked SIMD
 * exceptions. */
static inline bool t0_compilable(const struct x86_cpu *cpu)
{
    const uint32_t flat32 = MODE_CS32 | MODE_SS32 | MODE_PE | MODE_FLAT;
    bool known = cpu->mode & MODE_CS64 || (cpu->mode & (flat32 | MODE_VM)) == flat32;
    return known && !(cpu->mode & (MODE_TF | MODE_AC)) && (cpu->mxcsr & 0x1f80) == 0x1f80;
}

/* The instruction `offset` bytes from the code page base. */
static inline uint64_t t0_rip_at(const struct x86_cpu *cpu, uint64_t offset)
{
    uint64_t rip = cpu->pc_base + offset;
    return cpu->mode & MODE_CS64 ? rip : (uint32_t)rip;
}

static inline uint64_t t0_pack_flags(uint64_t rflags)
{
    return (rflags & 0xff) << 8 | (rflags >> 11 & 1);
}

static inline uint64_t t0_unpack_flags(uint64_t saved)
{
    return (saved >> 8 & (FLAGS_ARITH & 0xff)) | (saved & 1) << 11;
}
