/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MMX, SSE…SSE4.2, AES, PCLMUL, SHA (later VEX/EVEX) instructions: one table that the front end, the interpreter and T0
 * share.
 *
 * A row says how an instruction is encoded and what it touches, which is all that the front end (operands, faults) and T0
 * (pass the instruction through with the memory operand and general registers replaced) need; `exec` is the portable
 * reference.
 */
#pragma once

#include <stdint.h>

#include "translator/ir.h"
#include "translator/x86/cpu.h"

enum x86_vec_operand {
    VEC_NONE, /* no such operand (modrm_ext used, or 0-operand EMMS) */
    VEC_XMM,
    VEC_MMX,
    VEC_GPR,  /* 32 bits, 64 with REX.W */
    VEC_GPR32, VEC_GPR64,
};
enum x86_vec_flag {
    VECF_REG_W    = 1 << 0, /* ModRM.reg operand is written */
    VECF_REG_R    = 1 << 1, /* … read */
    VECF_RM_W     = 1 << 2, /* ModRM.rm operand is written (a store when it is memory) */
    VECF_RM_R     = 1 << 3,
    VECF_ALIGN    = 1 << 4, /* memory operand must be aligned to mem_bytes, else #GP(0) */
    VECF_IMM8     = 1 << 5,
    VECF_FLAGS_W  = 1 << 6, /* writes arithmetic flags (COMISS, PTEST, PCMPxSTRx) */
    VECF_XMM0     = 1 << 7, /* implicit xmm0: read (BLENDV*, SHA256RNDS2) or written (PCMPxSTRM) */
    VECF_IMPLICIT = 1 << 8, /* implicit RAX/RDX/RCX operands (PCMPESTRx reads EAX/EDX, PCMPxSTRI writes ECX) */
    VECF_FP       = 1 << 9, /* may raise SIMD floating-point exceptions (#XM) */
    VECF_MEM_ONLY = 1 << 10, /* register form is #UD */
    VECF_REG_ONLY = 1 << 11, /* memory form is #UD */
    VECF_MEM_W64  = 1 << 12, /* memory operand is 8 bytes with REX.W, mem_bytes (4) without */
};

struct x86_vec_insn {
    const char *name;      /* lower case mnemonic, for dumps */
    uint8_t map;           /* 1 = 0F, 2 = 0F38, 3 = 0F3A */
    uint8_t prefix;        /* 0, 0x66, 0xf3, 0xf2 */
    uint8_t opcode;
    uint8_t modrm_ext;     /* /n, or 0xff */
    uint8_t reg, rm;       /* enum x86_vec_operand */
    uint8_t mem_bytes;     /* of the memory form, 0: none */
    uint16_t flags;        /* enum x86_vec_flag */
    uint16_t feature;      /* enum x86_feature */
    /* Executes on cpu->vec / cpu->fx / cpu->gpr. `mem` points to a private copy of the memory operand (read), or to the
     * buffer for its new value (written); NULL for register forms. X86_OK or X86_RAISE (#XM, #MF). */
    int (*exec)(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn, union x86_vec *mem);
};

extern const struct x86_vec_insn x86_vec_insns[];
extern const unsigned x86_vec_insn_count;

/* Row for an encoding, or -1. `prefix` is the mandatory prefix in effect (F2/F3 win over 66). The same opcode may have
 * rows for 66 and none (MMX/SSE). */
int x86_vec_find(unsigned map, unsigned prefix, unsigned opcode, unsigned modrm);

/* Executes IR_VEC / IR_X87 with loads, stores and alignment checks (through mmu.h). */
int x86_vec_exec(struct x86_cpu *cpu, const struct ir_op *op);
int x86_x87_exec(struct x86_cpu *cpu, const struct ir_op *op);

/* Bytes and direction of the memory form of an x87 instruction: `opcode` 0..7 = D8..DF, `modrm` with mod < 3; `osize`, the
 * operand size in bytes, tells the two sizes of environments apart. Returns 0 when it is undefined. */
unsigned x86_x87_mem(unsigned opcode, unsigned modrm, unsigned osize, bool *ret_write);
/* A memory form that does not wait for pending exceptions: FNSTENV, FNSAVE, FNSTCW, FNSTSW? */
bool x86_x87_no_wait(unsigned opcode, unsigned modrm);
/* Does it become the last instruction, whose address FIP is? Control instructions do not. */
bool x86_x87_sets_fip(unsigned opcode, unsigned modrm);
/* Register form defined? (mod == 3) */
bool x86_x87_valid(unsigned opcode, unsigned modrm);
