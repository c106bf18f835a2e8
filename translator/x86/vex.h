/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VEX-encoded vector instructions (AVX, AVX2, FMA, F16C and the VEX forms of SSE, AES, PCLMULQDQ): one table that the
 * front end, the interpreter and T0 share, as x86_vec_insns[] is for the legacy encodings.
 *
 * A row is one encoding: prefix, map, opcode, and which of VEX.W and VEX.L are defined. Most instructions do to each 128-bit
 * lane what the legacy instruction of the same prefix, map and opcode does; such a row has `exec` vex_lanes, which runs the
 * legacy row's reference (vec.h) once per lane. Every vector destination is written whole: what lies above the vector's
 * length becomes 0.
 *
 * Everything runs on the vCPU's thread. SDM 2A 2.3 (encoding), 2.4 (exceptions by class).
 */
#pragma once

#include <stdint.h>

#include "translator/x86/vec.h"

/* Beside enum x86_vec_flag. */
enum x86_vex_flag {
    VEXF_NDS        = 1 << 0,  /* VEX.vvvv is the first source, otherwise it must be 1111b */
    VEXF_NDD        = 1 << 1,  /* … the destination (shifts by an immediate) */
    VEXF_MASK       = 1 << 2,  /* … the mask of a masked move: only elements whose sign is set are accessed */
    VEXF_W0         = 1 << 3,  /* VEX.W must be 0 */
    VEXF_W1         = 1 << 4,  /* … 1; neither: ignored */
    VEXF_LIG        = 1 << 5,  /* VEX.L is ignored */
    VEXF_IS4        = 1 << 6,  /* bits 7:4 of the immediate name a vector register that is read */
    VEXF_NARROW_SRC = 1 << 7,  /* lanes: the source's are as small as the legacy row's memory operand */
    VEXF_NARROW_DST = 1 << 8,  /* lanes: the low halves of the results are joined */
    VEXF_SAME_SRC   = 1 << 9,  /* lanes: all use the low lane of ModRM.rm (shift counts) */
    VEXF_GATHER     = 1 << 10, /* ModRM is a vector of addresses (VSIB), vvvv the mask */
    VEXF_ZERO       = 1 << 11, /* VZEROUPPER, VZEROALL */
    VEXF_STEP       = 1 << 12, /* lanes: times the bits of the immediate that belong to the first lane alone */
};

/* Bytes of the memory operand: below VEX_MEM_FULL as they stand, else a part of the vector's length. */
enum { VEX_MEM_FULL = 0xf0, VEX_MEM_HALF, VEX_MEM_QUARTER, VEX_MEM_EIGHTH };

#define VEX_NO 0xffff /* this length is undefined */

/* What a reference works on. Sources beyond their length are 0. */
struct vex_args {
    unsigned bytes;  /* of the vector: 16 or 32 */
    bool wide;       /* VEX.W */
    bool memory;     /* ModRM.rm is memory */
    unsigned imm;    /* imm8 */
    union x86_vec a; /* VEX.vvvv */
    union x86_vec b; /* ModRM.rm: vector, general register or memory */
    union x86_vec d; /* in: ModRM.reg; out: the destination, whichever operand that is */
};

struct x86_vex_insn {
    const char *name;
    uint8_t map, prefix, opcode;
    uint8_t modrm_ext;              /* /n, or 0xff */
    uint8_t reg, rm;                /* enum x86_vec_operand; VEC_XMM stands for both lengths */
    uint8_t mem;                    /* bytes of the memory form, or VEX_MEM_*; 0: none */
    uint16_t flags;                 /* enum x86_vec_flag */
    uint16_t vex;                   /* enum x86_vex_flag */
    uint16_t feature128, feature256; /* enum x86_feature beside AVX state, or VEX_NO */
    /* X86_OK, or X86_RAISE: then nothing was changed but MXCSR. */
    int (*exec)(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn, struct vex_args *args);
};

extern const struct x86_vex_insn x86_vex_insns[];
extern const unsigned x86_vex_insn_count;

/* Row for an encoding, or -1. `prefix` is the one that VEX.pp stands for. */
int x86_vex_find(unsigned map, unsigned prefix, unsigned opcode, unsigned modrm, bool wide, bool l256);

/* Bytes of its memory operand; masked moves and gathers access fewer. */
static inline unsigned x86_vex_mem_bytes(const struct x86_vex_insn *insn, unsigned vector_bytes, bool wide)
{
    if (insn->mem >= VEX_MEM_FULL)
        return vector_bytes >> (insn->mem - VEX_MEM_FULL);
    return insn->flags & VECF_MEM_W64 && wide ? 8 : insn->mem;
}

/* VEX.L of an IR_VEX, VEX.W, and the scale of its VSIB operand. */
static inline unsigned x86_vex_bytes(const struct ir_op *op)
{
    return op->sub & 1 ? 32 : 16;
}

/* Executes IR_VEX. X86_OK or X86_RAISE. */
int x86_vex_exec(struct x86_cpu *cpu, const struct ir_op *op);
