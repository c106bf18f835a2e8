/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of MMX and SSE instructions, its index, and the frame around their reference implementations.
 *
 * Rows are sorted by map, opcode, prefix and ModRM extension. Not here: integer instructions that live in the same
 * opcode space (CRC32, MOVBE, POPCNT, MOVNTI), MASKMOVQ/MASKMOVDQU (X86_SYS_MASKMOV), LDMXCSR/STMXCSR, prefetches and fences.
 */
#include "translator/x86/vec_internal.h"

#include "translator/mmu.h"
#include "translator/x86/features.h"

/* Abbreviations for the table: operand kinds, then what happens to ModRM.reg and ModRM.rm. */
enum { N = VEC_NONE, X = VEC_XMM, M = VEC_MMX, G = VEC_GPR, G32 = VEC_GPR32, ANY = 0xff };
enum {
    LOAD = VECF_REG_W | VECF_RM_R,
    STORE = VECF_REG_R | VECF_RM_W,
    RMW = VECF_REG_R | VECF_REG_W | VECF_RM_R,
    READ = VECF_REG_R | VECF_RM_R,
    RM_RW = VECF_RM_R | VECF_RM_W,
    ALIGN = VECF_ALIGN,
    IMM8 = VECF_IMM8,
    FLAGS_W = VECF_FLAGS_W,
    XMM0 = VECF_XMM0,
    IMPLICIT = VECF_IMPLICIT,
    FP = VECF_FP,
    MEM_ONLY = VECF_MEM_ONLY,
    REG_ONLY = VECF_REG_ONLY,
    MEM_W64 = VECF_MEM_W64,
};

const struct x86_vec_insn x86_vec_insns[] = {
    /* name, map, prefix, opcode, /n, reg, rm, memory bytes, flags, feature, reference */

    /* --- 0F --- */
    {"movups", 1, 0x00, 0x10, ANY, X, X, 16, LOAD, FEAT_SSE, vec_move},
    {"movupd", 1, 0x66, 0x10, ANY, X, X, 16, LOAD, FEAT_SSE2, vec_move},
    {"movss", 1, 0xf3, 0x10, ANY, X, X, 4, RMW, FEAT_SSE, vec_move_scalar},
    {"movsd", 1, 0xf2, 0x10, ANY, X, X, 8, RMW, FEAT_SSE2, vec_move_scalar},
    {"movups", 1, 0x00, 0x11, ANY, X, X, 16, STORE, FEAT_SSE, vec_move},
    {"movupd", 1, 0x66, 0x11, ANY, X, X, 16, STORE, FEAT_SSE2, vec_move},
    {"movss", 1, 0xf3, 0x11, ANY, X, X, 4, STORE, FEAT_SSE, vec_move_scalar},
    {"movsd", 1, 0xf2, 0x11, ANY, X, X, 8, STORE, FEAT_SSE2, vec_move_scalar},
    {"movlps", 1, 0x00, 0x12, ANY, X, X, 8, RMW, FEAT_SSE, vec_move_half},
    {"movlpd", 1, 0x66, 0x12, ANY, X, X, 8, RMW | MEM_ONLY, FEAT_SSE2, vec_move_half},
    {"movsldup", 1, 0xf3, 0x12, ANY, X, X, 16, LOAD | ALIGN, FEAT_SSE3, vec_move_dup},
    {"movddup", 1, 0xf2, 0x12, ANY, X, X, 8, LOAD, FEAT_SSE3, vec_move_dup},
    {"movlps", 1, 0x00, 0x13, ANY, X, X, 8, STORE | MEM_ONLY, FEAT_SSE, vec_move_half},
    {"movlpd", 1, 0x66, 0x13, ANY, X, X, 8, STORE | MEM_ONLY, FEAT_SSE2, vec_move_half},
    {"unpcklps", 1, 0x00, 0x14, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE, vec_shuffle},
    {"unpcklpd", 1, 0x66, 0x14, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_shuffle},
    {"unpckhps", 1, 0x00, 0x15, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE, vec_shuffle},
    {"unpckhpd", 1, 0x66, 0x15, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_shuffle},
    {"movhps", 1, 0x00, 0x16, ANY, X, X, 8, RMW, FEAT_SSE, vec_move_half},
    {"movhpd", 1, 0x66, 0x16, ANY, X, X, 8, RMW | MEM_ONLY, FEAT_SSE2, vec_move_half},
    {"movshdup", 1, 0xf3, 0x16, ANY, X, X, 16, LOAD | ALIGN, FEAT_SSE3, vec_move_dup},
    {"movhps", 1, 0x00, 0x17, ANY, X, X, 8, STORE | MEM_ONLY, FEAT_SSE, vec_move_half},
    {"movhpd", 1, 0x66, 0x17, ANY, X, X, 8, STORE | MEM_ONLY, FEAT_SSE2, vec_move_half},
    {"movaps", 1, 0x00, 0x28, ANY, X, X, 16, LOAD | ALIGN, FEAT_SSE, vec_move},
    {"movapd", 1, 0x66, 0x28, ANY, X, X, 16, LOAD | ALIGN, FEAT_SSE2, vec_move},
    {"movaps", 1, 0x00, 0x29, ANY, X, X, 16, STORE | ALIGN, FEAT_SSE, vec_move},
    {"movapd", 1, 0x66, 0x29, ANY, X, X, 16, STORE | ALIGN, FEAT_SSE2, vec_move},
    {"cvtpi2ps", 1, 0x00, 0x2a, ANY, X, M, 8, RMW | FP, FEAT_SSE, vec_cvt_mmx},
    {"cvtpi2pd", 1, 0x66, 0x2a, ANY, X, M, 8, LOAD, FEAT_SSE2, vec_cvt_mmx},
    {"cvtsi2ss", 1, 0xf3, 0x2a, ANY, X, G, 4, RMW | FP | MEM_W64, FEAT_SSE, vec_cvt_gpr},
    {"cvtsi2sd", 1, 0xf2, 0x2a, ANY, X, G, 4, RMW | FP | MEM_W64, FEAT_SSE2, vec_cvt_gpr},
    {"movntps", 1, 0x00, 0x2b, ANY, X, X, 16, STORE | ALIGN | MEM_ONLY, FEAT_SSE, vec_move},
    {"movntpd", 1, 0x66, 0x2b, ANY, X, X, 16, STORE | ALIGN | MEM_ONLY, FEAT_SSE2, vec_move},
    {"cvttps2pi", 1, 0x00, 0x2c, ANY, M, X, 8, LOAD | FP, FEAT_SSE, vec_cvt_mmx},
    {"cvttpd2pi", 1, 0x66, 0x2c, ANY, M, X, 16, LOAD | FP | ALIGN, FEAT_SSE2, vec_cvt_mmx},
    {"cvttss2si", 1, 0xf3, 0x2c, ANY, G, X, 4, LOAD | FP, FEAT_SSE, vec_cvt_gpr},
    {"cvttsd2si", 1, 0xf2, 0x2c, ANY, G, X, 8, LOAD | FP, FEAT_SSE2, vec_cvt_gpr},
    {"cvtps2pi", 1, 0x00, 0x2d, ANY, M, X, 8, LOAD | FP, FEAT_SSE, vec_cvt_mmx},
    {"cvtpd2pi", 1, 0x66, 0x2d, ANY, M, X, 16, LOAD | FP | ALIGN, FEAT_SSE2, vec_cvt_mmx},
    {"cvtss2si", 1, 0xf3, 0x2d, ANY, G, X, 4, LOAD | FP, FEAT_SSE, vec_cvt_gpr},
    {"cvtsd2si", 1, 0xf2, 0x2d, ANY, G, X, 8, LOAD | FP, FEAT_SSE2, vec_cvt_gpr},
    {"ucomiss", 1, 0x00, 0x2e, ANY, X, X, 4, READ | FP | FLAGS_W, FEAT_SSE, vec_fp_comis},
    {"ucomisd", 1, 0x66, 0x2e, ANY, X, X, 8, READ | FP | FLAGS_W, FEAT_SSE2, vec_fp_comis},
    {"comiss", 1, 0x00, 0x2f, ANY, X, X, 4, READ | FP | FLAGS_W, FEAT_SSE, vec_fp_comis},
    {"comisd", 1, 0x66, 0x2f, ANY, X, X, 8, READ | FP | FLAGS_W, FEAT_SSE2, vec_fp_comis},
    {"movmskps", 1, 0x00, 0x50, ANY, G, X, 0, LOAD | REG_ONLY, FEAT_SSE, vec_movmsk},
    {"movmskpd", 1, 0x66, 0x50, ANY, G, X, 0, LOAD | REG_ONLY, FEAT_SSE2, vec_movmsk},
    {"sqrtps", 1, 0x00, 0x51, ANY, X, X, 16, LOAD | ALIGN | FP, FEAT_SSE, vec_fp_arith},
    {"sqrtpd", 1, 0x66, 0x51, ANY, X, X, 16, LOAD | ALIGN | FP, FEAT_SSE2, vec_fp_arith},
    {"sqrtss", 1, 0xf3, 0x51, ANY, X, X, 4, RMW | FP, FEAT_SSE, vec_fp_arith},
    {"sqrtsd", 1, 0xf2, 0x51, ANY, X, X, 8, RMW | FP, FEAT_SSE2, vec_fp_arith},
    {"rsqrtps", 1, 0x00, 0x52, ANY, X, X, 16, LOAD | ALIGN, FEAT_SSE, vec_fp_approx},
    {"rsqrtss", 1, 0xf3, 0x52, ANY, X, X, 4, RMW, FEAT_SSE, vec_fp_approx},
    {"rcpps", 1, 0x00, 0x53, ANY, X, X, 16, LOAD | ALIGN, FEAT_SSE, vec_fp_approx},
    {"rcpss", 1, 0xf3, 0x53, ANY, X, X, 4, RMW, FEAT_SSE, vec_fp_approx},
    {"andps", 1, 0x00, 0x54, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE, vec_int},
    {"andpd", 1, 0x66, 0x54, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"andnps", 1, 0x00, 0x55, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE, vec_int},
    {"andnpd", 1, 0x66, 0x55, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"orps", 1, 0x00, 0x56, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE, vec_int},
    {"orpd", 1, 0x66, 0x56, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"xorps", 1, 0x00, 0x57, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE, vec_int},
    {"xorpd", 1, 0x66, 0x57, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"addps", 1, 0x00, 0x58, ANY, X, X, 16, RMW | ALIGN | FP, FEAT_SSE, vec_fp_arith},
    {"addpd", 1, 0x66, 0x58, ANY, X, X, 16, RMW | ALIGN | FP, FEAT_SSE2, vec_fp_arith},
    {"addss", 1, 0xf3, 0x58, ANY, X, X, 4, RMW | FP, FEAT_SSE, vec_fp_arith},
    {"addsd", 1, 0xf2, 0x58, ANY, X, X, 8, RMW | FP, FEAT_SSE2, vec_fp_arith},
    {"mulps", 1, 0x00, 0x59, ANY, X, X, 16, RMW | ALIGN | FP, FEAT_SSE, vec_fp_arith},
    {"mulpd", 1, 0x66, 0x59, ANY, X, X, 16, RMW | ALIGN | FP, FEAT_SSE2, vec_fp_arith},
    {"mulss", 1, 0xf3, 0x59, ANY, X, X, 4, RMW | FP, FEAT_SSE, vec_fp_arith},
    {"mulsd", 1, 0xf2, 0x59, ANY, X, X, 8, RMW | FP, FEAT_SSE2, vec_fp_arith},
    {"cvtps2pd", 1, 0x00, 0x5a, ANY, X, X, 8, LOAD | FP, FEAT_SSE2, vec_cvt},
    {"cvtpd2ps", 1, 0x66, 0x5a, ANY, X, X, 16, LOAD | ALIGN | FP, FEAT_SSE2, vec_cvt},
    {"cvtss2sd", 1, 0xf3, 0x5a, ANY, X, X, 4, RMW | FP, FEAT_SSE2, vec_cvt},
    {"cvtsd2ss", 1, 0xf2, 0x5a, ANY, X, X, 8, RMW | FP, FEAT_SSE2, vec_cvt},
    {"cvtdq2ps", 1, 0x00, 0x5b, ANY, X, X, 16, LOAD | ALIGN | FP, FEAT_SSE2, vec_cvt},
    {"cvtps2dq", 1, 0x66, 0x5b, ANY, X, X, 16, LOAD | ALIGN | FP, FEAT_SSE2, vec_cvt},
    {"cvttps2dq", 1, 0xf3, 0x5b, ANY, X, X, 16, LOAD | ALIGN | FP, FEAT_SSE2, vec_cvt},
    {"subps", 1, 0x00, 0x5c, ANY, X, X, 16, RMW | ALIGN | FP, FEAT_SSE, vec_fp_arith},
    {"subpd", 1, 0x66, 0x5c, ANY, X, X, 16, RMW | ALIGN | FP, FEAT_SSE2, vec_fp_arith},
    {"subss", 1, 0xf3, 0x5c, ANY, X, X, 4, RMW | FP, FEAT_SSE, vec_fp_arith},
    {"subsd", 1, 0xf2, 0x5c, ANY, X, X, 8, RMW | FP, FEAT_SSE2, vec_fp_arith},
    {"minps", 1, 0x00, 0x5d, ANY, X, X, 16, RMW | ALIGN | FP, FEAT_SSE, vec_fp_arith},
    {"minpd", 1, 0x66, 0x5d, ANY, X, X, 16, RMW | ALIGN | FP, FEAT_SSE2, vec_fp_arith},
    {"minss", 1, 0xf3, 0x5d, ANY, X, X, 4, RMW | FP, FEAT_SSE, vec_fp_arith},
    {"minsd", 1, 0xf2, 0x5d, ANY, X, X, 8, RMW | FP, FEAT_SSE2, vec_fp_arith},
    {"divps", 1, 0x00, 0x5e, ANY, X, X, 16, RMW | ALIGN | FP, FEAT_SSE, vec_fp_arith},
    {"divpd", 1, 0x66, 0x5e, ANY, X, X, 16, RMW | ALIGN | FP, FEAT_SSE2, vec_fp_arith},
    {"divss", 1, 0xf3, 0x5e, ANY, X, X, 4, RMW | FP, FEAT_SSE, vec_fp_arith},
    {"divsd", 1, 0xf2, 0x5e, ANY, X, X, 8, RMW | FP, FEAT_SSE2, vec_fp_arith},
    {"maxps", 1, 0x00, 0x5f, ANY, X, X, 16, RMW | ALIGN | FP, FEAT_SSE, vec_fp_arith},
    {"maxpd", 1, 0x66, 0x5f, ANY, X, X, 16, RMW | ALIGN | FP, FEAT_SSE2, vec_fp_arith},
    {"maxss", 1, 0xf3, 0x5f, ANY, X, X, 4, RMW | FP, FEAT_SSE, vec_fp_arith},
    {"maxsd", 1, 0xf2, 0x5f, ANY, X, X, 8, RMW | FP, FEAT_SSE2, vec_fp_arith},
    {"punpcklbw", 1, 0x00, 0x60, ANY, M, M, 4, RMW, FEAT_MMX, vec_shuffle},
    {"punpcklbw", 1, 0x66, 0x60, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_shuffle},
    {"punpcklwd", 1, 0x00, 0x61, ANY, M, M, 4, RMW, FEAT_MMX, vec_shuffle},
    {"punpcklwd", 1, 0x66, 0x61, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_shuffle},
    {"punpckldq", 1, 0x00, 0x62, ANY, M, M, 4, RMW, FEAT_MMX, vec_shuffle},
    {"punpckldq", 1, 0x66, 0x62, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_shuffle},
    {"packsswb", 1, 0x00, 0x63, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"packsswb", 1, 0x66, 0x63, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"pcmpgtb", 1, 0x00, 0x64, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"pcmpgtb", 1, 0x66, 0x64, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"pcmpgtw", 1, 0x00, 0x65, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"pcmpgtw", 1, 0x66, 0x65, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"pcmpgtd", 1, 0x00, 0x66, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"pcmpgtd", 1, 0x66, 0x66, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"packuswb", 1, 0x00, 0x67, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"packuswb", 1, 0x66, 0x67, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"punpckhbw", 1, 0x00, 0x68, ANY, M, M, 8, RMW, FEAT_MMX, vec_shuffle},
    {"punpckhbw", 1, 0x66, 0x68, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_shuffle},
    {"punpckhwd", 1, 0x00, 0x69, ANY, M, M, 8, RMW, FEAT_MMX, vec_shuffle},
    {"punpckhwd", 1, 0x66, 0x69, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_shuffle},
    {"punpckhdq", 1, 0x00, 0x6a, ANY, M, M, 8, RMW, FEAT_MMX, vec_shuffle},
    {"punpckhdq", 1, 0x66, 0x6a, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_shuffle},
    {"packssdw", 1, 0x00, 0x6b, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"packssdw", 1, 0x66, 0x6b, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"punpcklqdq", 1, 0x66, 0x6c, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_shuffle},
    {"punpckhqdq", 1, 0x66, 0x6d, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_shuffle},
    {"movd", 1, 0x00, 0x6e, ANY, M, G, 4, LOAD | MEM_W64, FEAT_MMX, vec_move_gpr},
    {"movd", 1, 0x66, 0x6e, ANY, X, G, 4, LOAD | MEM_W64, FEAT_SSE2, vec_move_gpr},
    {"movq", 1, 0x00, 0x6f, ANY, M, M, 8, LOAD, FEAT_MMX, vec_move},
    {"movdqa", 1, 0x66, 0x6f, ANY, X, X, 16, LOAD | ALIGN, FEAT_SSE2, vec_move},
    {"movdqu", 1, 0xf3, 0x6f, ANY, X, X, 16, LOAD, FEAT_SSE2, vec_move},
    {"pshufw", 1, 0x00, 0x70, ANY, M, M, 8, LOAD | IMM8, FEAT_SSE, vec_shuffle},
    {"pshufd", 1, 0x66, 0x70, ANY, X, X, 16, LOAD | IMM8 | ALIGN, FEAT_SSE2, vec_shuffle},
    {"pshufhw", 1, 0xf3, 0x70, ANY, X, X, 16, LOAD | IMM8 | ALIGN, FEAT_SSE2, vec_shuffle},
    {"pshuflw", 1, 0xf2, 0x70, ANY, X, X, 16, LOAD | IMM8 | ALIGN, FEAT_SSE2, vec_shuffle},
    {"psrlw", 1, 0x00, 0x71, 2, N, M, 0, RM_RW | IMM8 | REG_ONLY, FEAT_MMX, vec_shift_imm},
    {"psraw", 1, 0x00, 0x71, 4, N, M, 0, RM_RW | IMM8 | REG_ONLY, FEAT_MMX, vec_shift_imm},
    {"psllw", 1, 0x00, 0x71, 6, N, M, 0, RM_RW | IMM8 | REG_ONLY, FEAT_MMX, vec_shift_imm},
    {"psrlw", 1, 0x66, 0x71, 2, N, X, 0, RM_RW | IMM8 | REG_ONLY, FEAT_SSE2, vec_shift_imm},
    {"psraw", 1, 0x66, 0x71, 4, N, X, 0, RM_RW | IMM8 | REG_ONLY, FEAT_SSE2, vec_shift_imm},
    {"psllw", 1, 0x66, 0x71, 6, N, X, 0, RM_RW | IMM8 | REG_ONLY, FEAT_SSE2, vec_shift_imm},
    {"psrld", 1, 0x00, 0x72, 2, N, M, 0, RM_RW | IMM8 | REG_ONLY, FEAT_MMX, vec_shift_imm},
    {"psrad", 1, 0x00, 0x72, 4, N, M, 0, RM_RW | IMM8 | REG_ONLY, FEAT_MMX, vec_shift_imm},
    {"pslld", 1, 0x00, 0x72, 6, N, M, 0, RM_RW | IMM8 | REG_ONLY, FEAT_MMX, vec_shift_imm},
    {"psrld", 1, 0x66, 0x72, 2, N, X, 0, RM_RW | IMM8 | REG_ONLY, FEAT_SSE2, vec_shift_imm},
    {"psrad", 1, 0x66, 0x72, 4, N, X, 0, RM_RW | IMM8 | REG_ONLY, FEAT_SSE2, vec_shift_imm},
    {"pslld", 1, 0x66, 0x72, 6, N, X, 0, RM_RW | IMM8 | REG_ONLY, FEAT_SSE2, vec_shift_imm},
    {"psrlq", 1, 0x00, 0x73, 2, N, M, 0, RM_RW | IMM8 | REG_ONLY, FEAT_MMX, vec_shift_imm},
    {"psllq", 1, 0x00, 0x73, 6, N, M, 0, RM_RW | IMM8 | REG_ONLY, FEAT_MMX, vec_shift_imm},
    {"psrlq", 1, 0x66, 0x73, 2, N, X, 0, RM_RW | IMM8 | REG_ONLY, FEAT_SSE2, vec_shift_imm},
    {"psrldq", 1, 0x66, 0x73, 3, N, X, 0, RM_RW | IMM8 | REG_ONLY, FEAT_SSE2, vec_shift_imm},
    {"psllq", 1, 0x66, 0x73, 6, N, X, 0, RM_RW | IMM8 | REG_ONLY, FEAT_SSE2, vec_shift_imm},
    {"pslldq", 1, 0x66, 0x73, 7, N, X, 0, RM_RW | IMM8 | REG_ONLY, FEAT_SSE2, vec_shift_imm},
    {"pcmpeqb", 1, 0x00, 0x74, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"pcmpeqb", 1, 0x66, 0x74, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"pcmpeqw", 1, 0x00, 0x75, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"pcmpeqw", 1, 0x66, 0x75, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"pcmpeqd", 1, 0x00, 0x76, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"pcmpeqd", 1, 0x66, 0x76, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"emms", 1, 0x00, 0x77, ANY, N, N, 0, 0, FEAT_MMX, vec_emms},
    {"haddpd", 1, 0x66, 0x7c, ANY, X, X, 16, RMW | ALIGN | FP, FEAT_SSE3, vec_fp_arith},
    {"haddps", 1, 0xf2, 0x7c, ANY, X, X, 16, RMW | ALIGN | FP, FEAT_SSE3, vec_fp_arith},
    {"hsubpd", 1, 0x66, 0x7d, ANY, X, X, 16, RMW | ALIGN | FP, FEAT_SSE3, vec_fp_arith},
    {"hsubps", 1, 0xf2, 0x7d, ANY, X, X, 16, RMW | ALIGN | FP, FEAT_SSE3, vec_fp_arith},
    {"movd", 1, 0x00, 0x7e, ANY, M, G, 4, STORE | MEM_W64, FEAT_MMX, vec_move_gpr},
    {"movd", 1, 0x66, 0x7e, ANY, X, G, 4, STORE | MEM_W64, FEAT_SSE2, vec_move_gpr},
    {"movq", 1, 0xf3, 0x7e, ANY, X, X, 8, LOAD, FEAT_SSE2, vec_movq},
    {"movq", 1, 0x00, 0x7f, ANY, M, M, 8, STORE, FEAT_MMX, vec_move},
    {"movdqa", 1, 0x66, 0x7f, ANY, X, X, 16, STORE | ALIGN, FEAT_SSE2, vec_move},
    {"movdqu", 1, 0xf3, 0x7f, ANY, X, X, 16, STORE, FEAT_SSE2, vec_move},
    {"cmpps", 1, 0x00, 0xc2, ANY, X, X, 16, RMW | ALIGN | FP | IMM8, FEAT_SSE, vec_fp_cmp},
    {"cmppd", 1, 0x66, 0xc2, ANY, X, X, 16, RMW | ALIGN | FP | IMM8, FEAT_SSE2, vec_fp_cmp},
    {"cmpss", 1, 0xf3, 0xc2, ANY, X, X, 4, RMW | FP | IMM8, FEAT_SSE, vec_fp_cmp},
    {"cmpsd", 1, 0xf2, 0xc2, ANY, X, X, 8, RMW | FP | IMM8, FEAT_SSE2, vec_fp_cmp},
    {"pinsrw", 1, 0x00, 0xc4, ANY, M, G32, 2, RMW | IMM8, FEAT_SSE, vec_insert},
    {"pinsrw", 1, 0x66, 0xc4, ANY, X, G32, 2, RMW | IMM8, FEAT_SSE2, vec_insert},
    {"pextrw", 1, 0x00, 0xc5, ANY, G, M, 0, LOAD | IMM8 | REG_ONLY, FEAT_SSE, vec_pextrw},
    {"pextrw", 1, 0x66, 0xc5, ANY, G, X, 0, LOAD | IMM8 | REG_ONLY, FEAT_SSE2, vec_pextrw},
    {"shufps", 1, 0x00, 0xc6, ANY, X, X, 16, RMW | IMM8 | ALIGN, FEAT_SSE, vec_shuffle},
    {"shufpd", 1, 0x66, 0xc6, ANY, X, X, 16, RMW | IMM8 | ALIGN, FEAT_SSE2, vec_shuffle},
    {"addsubpd", 1, 0x66, 0xd0, ANY, X, X, 16, RMW | ALIGN | FP, FEAT_SSE3, vec_fp_arith},
    {"addsubps", 1, 0xf2, 0xd0, ANY, X, X, 16, RMW | ALIGN | FP, FEAT_SSE3, vec_fp_arith},
    {"psrlw", 1, 0x00, 0xd1, ANY, M, M, 8, RMW, FEAT_MMX, vec_shift},
    {"psrlw", 1, 0x66, 0xd1, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_shift},
    {"psrld", 1, 0x00, 0xd2, ANY, M, M, 8, RMW, FEAT_MMX, vec_shift},
    {"psrld", 1, 0x66, 0xd2, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_shift},
    {"psrlq", 1, 0x00, 0xd3, ANY, M, M, 8, RMW, FEAT_MMX, vec_shift},
    {"psrlq", 1, 0x66, 0xd3, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_shift},
    {"paddq", 1, 0x00, 0xd4, ANY, M, M, 8, RMW, FEAT_SSE2, vec_int},
    {"paddq", 1, 0x66, 0xd4, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"pmullw", 1, 0x00, 0xd5, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"pmullw", 1, 0x66, 0xd5, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"movq", 1, 0x66, 0xd6, ANY, X, X, 8, STORE, FEAT_SSE2, vec_movq},
    {"movq2dq", 1, 0xf3, 0xd6, ANY, X, M, 0, LOAD | REG_ONLY, FEAT_SSE2, vec_movq},
    {"movdq2q", 1, 0xf2, 0xd6, ANY, M, X, 0, LOAD | REG_ONLY, FEAT_SSE2, vec_movq},
    {"pmovmskb", 1, 0x00, 0xd7, ANY, G, M, 0, LOAD | REG_ONLY, FEAT_SSE, vec_movmsk},
    {"pmovmskb", 1, 0x66, 0xd7, ANY, G, X, 0, LOAD | REG_ONLY, FEAT_SSE2, vec_movmsk},
    {"psubusb", 1, 0x00, 0xd8, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"psubusb", 1, 0x66, 0xd8, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"psubusw", 1, 0x00, 0xd9, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"psubusw", 1, 0x66, 0xd9, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"pminub", 1, 0x00, 0xda, ANY, M, M, 8, RMW, FEAT_SSE, vec_int},
    {"pminub", 1, 0x66, 0xda, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"pand", 1, 0x00, 0xdb, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"pand", 1, 0x66, 0xdb, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"paddusb", 1, 0x00, 0xdc, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"paddusb", 1, 0x66, 0xdc, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"paddusw", 1, 0x00, 0xdd, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"paddusw", 1, 0x66, 0xdd, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"pmaxub", 1, 0x00, 0xde, ANY, M, M, 8, RMW, FEAT_SSE, vec_int},
    {"pmaxub", 1, 0x66, 0xde, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"pandn", 1, 0x00, 0xdf, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"pandn", 1, 0x66, 0xdf, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"pavgb", 1, 0x00, 0xe0, ANY, M, M, 8, RMW, FEAT_SSE, vec_int},
    {"pavgb", 1, 0x66, 0xe0, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"psraw", 1, 0x00, 0xe1, ANY, M, M, 8, RMW, FEAT_MMX, vec_shift},
    {"psraw", 1, 0x66, 0xe1, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_shift},
    {"psrad", 1, 0x00, 0xe2, ANY, M, M, 8, RMW, FEAT_MMX, vec_shift},
    {"psrad", 1, 0x66, 0xe2, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_shift},
    {"pavgw", 1, 0x00, 0xe3, ANY, M, M, 8, RMW, FEAT_SSE, vec_int},
    {"pavgw", 1, 0x66, 0xe3, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"pmulhuw", 1, 0x00, 0xe4, ANY, M, M, 8, RMW, FEAT_SSE, vec_int},
    {"pmulhuw", 1, 0x66, 0xe4, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"pmulhw", 1, 0x00, 0xe5, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"pmulhw", 1, 0x66, 0xe5, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"cvttpd2dq", 1, 0x66, 0xe6, ANY, X, X, 16, LOAD | ALIGN | FP, FEAT_SSE2, vec_cvt},
    {"cvtdq2pd", 1, 0xf3, 0xe6, ANY, X, X, 8, LOAD, FEAT_SSE2, vec_cvt},
    {"cvtpd2dq", 1, 0xf2, 0xe6, ANY, X, X, 16, LOAD | ALIGN | FP, FEAT_SSE2, vec_cvt},
    {"movntq", 1, 0x00, 0xe7, ANY, M, M, 8, STORE | MEM_ONLY, FEAT_SSE, vec_move},
    {"movntdq", 1, 0x66, 0xe7, ANY, X, X, 16, STORE | ALIGN | MEM_ONLY, FEAT_SSE2, vec_move},
    {"psubsb", 1, 0x00, 0xe8, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"psubsb", 1, 0x66, 0xe8, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"psubsw", 1, 0x00, 0xe9, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"psubsw", 1, 0x66, 0xe9, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"pminsw", 1, 0x00, 0xea, ANY, M, M, 8, RMW, FEAT_SSE, vec_int},
    {"pminsw", 1, 0x66, 0xea, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"por", 1, 0x00, 0xeb, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"por", 1, 0x66, 0xeb, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"paddsb", 1, 0x00, 0xec, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"paddsb", 1, 0x66, 0xec, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"paddsw", 1, 0x00, 0xed, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"paddsw", 1, 0x66, 0xed, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"pmaxsw", 1, 0x00, 0xee, ANY, M, M, 8, RMW, FEAT_SSE, vec_int},
    {"pmaxsw", 1, 0x66, 0xee, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"pxor", 1, 0x00, 0xef, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"pxor", 1, 0x66, 0xef, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"lddqu", 1, 0xf2, 0xf0, ANY, X, X, 16, LOAD | MEM_ONLY, FEAT_SSE3, vec_move},
    {"psllw", 1, 0x00, 0xf1, ANY, M, M, 8, RMW, FEAT_MMX, vec_shift},
    {"psllw", 1, 0x66, 0xf1, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_shift},
    {"pslld", 1, 0x00, 0xf2, ANY, M, M, 8, RMW, FEAT_MMX, vec_shift},
    {"pslld", 1, 0x66, 0xf2, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_shift},
    {"psllq", 1, 0x00, 0xf3, ANY, M, M, 8, RMW, FEAT_MMX, vec_shift},
    {"psllq", 1, 0x66, 0xf3, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_shift},
    {"pmuludq", 1, 0x00, 0xf4, ANY, M, M, 8, RMW, FEAT_SSE2, vec_int},
    {"pmuludq", 1, 0x66, 0xf4, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"pmaddwd", 1, 0x00, 0xf5, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"pmaddwd", 1, 0x66, 0xf5, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"psadbw", 1, 0x00, 0xf6, ANY, M, M, 8, RMW, FEAT_SSE, vec_int},
    {"psadbw", 1, 0x66, 0xf6, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"psubb", 1, 0x00, 0xf8, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"psubb", 1, 0x66, 0xf8, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"psubw", 1, 0x00, 0xf9, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"psubw", 1, 0x66, 0xf9, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"psubd", 1, 0x00, 0xfa, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"psubd", 1, 0x66, 0xfa, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"psubq", 1, 0x00, 0xfb, ANY, M, M, 8, RMW, FEAT_SSE2, vec_int},
    {"psubq", 1, 0x66, 0xfb, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"paddb", 1, 0x00, 0xfc, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"paddb", 1, 0x66, 0xfc, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"paddw", 1, 0x00, 0xfd, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"paddw", 1, 0x66, 0xfd, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},
    {"paddd", 1, 0x00, 0xfe, ANY, M, M, 8, RMW, FEAT_MMX, vec_int},
    {"paddd", 1, 0x66, 0xfe, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE2, vec_int},

    /* --- 0F 38 --- */
    {"pshufb", 2, 0x00, 0x00, ANY, M, M, 8, RMW, FEAT_SSSE3, vec_int38},
    {"pshufb", 2, 0x66, 0x00, ANY, X, X, 16, RMW | ALIGN, FEAT_SSSE3, vec_int38},
    {"phaddw", 2, 0x00, 0x01, ANY, M, M, 8, RMW, FEAT_SSSE3, vec_int38},
    {"phaddw", 2, 0x66, 0x01, ANY, X, X, 16, RMW | ALIGN, FEAT_SSSE3, vec_int38},
    {"phaddd", 2, 0x00, 0x02, ANY, M, M, 8, RMW, FEAT_SSSE3, vec_int38},
    {"phaddd", 2, 0x66, 0x02, ANY, X, X, 16, RMW | ALIGN, FEAT_SSSE3, vec_int38},
    {"phaddsw", 2, 0x00, 0x03, ANY, M, M, 8, RMW, FEAT_SSSE3, vec_int38},
    {"phaddsw", 2, 0x66, 0x03, ANY, X, X, 16, RMW | ALIGN, FEAT_SSSE3, vec_int38},
    {"pmaddubsw", 2, 0x00, 0x04, ANY, M, M, 8, RMW, FEAT_SSSE3, vec_int38},
    {"pmaddubsw", 2, 0x66, 0x04, ANY, X, X, 16, RMW | ALIGN, FEAT_SSSE3, vec_int38},
    {"phsubw", 2, 0x00, 0x05, ANY, M, M, 8, RMW, FEAT_SSSE3, vec_int38},
    {"phsubw", 2, 0x66, 0x05, ANY, X, X, 16, RMW | ALIGN, FEAT_SSSE3, vec_int38},
    {"phsubd", 2, 0x00, 0x06, ANY, M, M, 8, RMW, FEAT_SSSE3, vec_int38},
    {"phsubd", 2, 0x66, 0x06, ANY, X, X, 16, RMW | ALIGN, FEAT_SSSE3, vec_int38},
    {"phsubsw", 2, 0x00, 0x07, ANY, M, M, 8, RMW, FEAT_SSSE3, vec_int38},
    {"phsubsw", 2, 0x66, 0x07, ANY, X, X, 16, RMW | ALIGN, FEAT_SSSE3, vec_int38},
    {"psignb", 2, 0x00, 0x08, ANY, M, M, 8, RMW, FEAT_SSSE3, vec_int38},
    {"psignb", 2, 0x66, 0x08, ANY, X, X, 16, RMW | ALIGN, FEAT_SSSE3, vec_int38},
    {"psignw", 2, 0x00, 0x09, ANY, M, M, 8, RMW, FEAT_SSSE3, vec_int38},
    {"psignw", 2, 0x66, 0x09, ANY, X, X, 16, RMW | ALIGN, FEAT_SSSE3, vec_int38},
    {"psignd", 2, 0x00, 0x0a, ANY, M, M, 8, RMW, FEAT_SSSE3, vec_int38},
    {"psignd", 2, 0x66, 0x0a, ANY, X, X, 16, RMW | ALIGN, FEAT_SSSE3, vec_int38},
    {"pmulhrsw", 2, 0x00, 0x0b, ANY, M, M, 8, RMW, FEAT_SSSE3, vec_int38},
    {"pmulhrsw", 2, 0x66, 0x0b, ANY, X, X, 16, RMW | ALIGN, FEAT_SSSE3, vec_int38},
    {"pblendvb", 2, 0x66, 0x10, ANY, X, X, 16, RMW | ALIGN | XMM0, FEAT_SSE41, vec_int38},
    {"blendvps", 2, 0x66, 0x14, ANY, X, X, 16, RMW | ALIGN | XMM0, FEAT_SSE41, vec_int38},
    {"blendvpd", 2, 0x66, 0x15, ANY, X, X, 16, RMW | ALIGN | XMM0, FEAT_SSE41, vec_int38},
    {"ptest", 2, 0x66, 0x17, ANY, X, X, 16, READ | ALIGN | FLAGS_W, FEAT_SSE41, vec_ptest},
    {"pabsb", 2, 0x00, 0x1c, ANY, M, M, 8, LOAD, FEAT_SSSE3, vec_int38},
    {"pabsb", 2, 0x66, 0x1c, ANY, X, X, 16, LOAD | ALIGN, FEAT_SSSE3, vec_int38},
    {"pabsw", 2, 0x00, 0x1d, ANY, M, M, 8, LOAD, FEAT_SSSE3, vec_int38},
    {"pabsw", 2, 0x66, 0x1d, ANY, X, X, 16, LOAD | ALIGN, FEAT_SSSE3, vec_int38},
    {"pabsd", 2, 0x00, 0x1e, ANY, M, M, 8, LOAD, FEAT_SSSE3, vec_int38},
    {"pabsd", 2, 0x66, 0x1e, ANY, X, X, 16, LOAD | ALIGN, FEAT_SSSE3, vec_int38},
    {"pmovsxbw", 2, 0x66, 0x20, ANY, X, X, 8, LOAD, FEAT_SSE41, vec_extend},
    {"pmovsxbd", 2, 0x66, 0x21, ANY, X, X, 4, LOAD, FEAT_SSE41, vec_extend},
    {"pmovsxbq", 2, 0x66, 0x22, ANY, X, X, 2, LOAD, FEAT_SSE41, vec_extend},
    {"pmovsxwd", 2, 0x66, 0x23, ANY, X, X, 8, LOAD, FEAT_SSE41, vec_extend},
    {"pmovsxwq", 2, 0x66, 0x24, ANY, X, X, 4, LOAD, FEAT_SSE41, vec_extend},
    {"pmovsxdq", 2, 0x66, 0x25, ANY, X, X, 8, LOAD, FEAT_SSE41, vec_extend},
    {"pmuldq", 2, 0x66, 0x28, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE41, vec_int38},
    {"pcmpeqq", 2, 0x66, 0x29, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE41, vec_int38},
    {"movntdqa", 2, 0x66, 0x2a, ANY, X, X, 16, LOAD | ALIGN | MEM_ONLY, FEAT_SSE41, vec_move},
    {"packusdw", 2, 0x66, 0x2b, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE41, vec_int38},
    {"pmovzxbw", 2, 0x66, 0x30, ANY, X, X, 8, LOAD, FEAT_SSE41, vec_extend},
    {"pmovzxbd", 2, 0x66, 0x31, ANY, X, X, 4, LOAD, FEAT_SSE41, vec_extend},
    {"pmovzxbq", 2, 0x66, 0x32, ANY, X, X, 2, LOAD, FEAT_SSE41, vec_extend},
    {"pmovzxwd", 2, 0x66, 0x33, ANY, X, X, 8, LOAD, FEAT_SSE41, vec_extend},
    {"pmovzxwq", 2, 0x66, 0x34, ANY, X, X, 4, LOAD, FEAT_SSE41, vec_extend},
    {"pmovzxdq", 2, 0x66, 0x35, ANY, X, X, 8, LOAD, FEAT_SSE41, vec_extend},
    {"pcmpgtq", 2, 0x66, 0x37, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE42, vec_int38},
    {"pminsb", 2, 0x66, 0x38, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE41, vec_int38},
    {"pminsd", 2, 0x66, 0x39, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE41, vec_int38},
    {"pminuw", 2, 0x66, 0x3a, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE41, vec_int38},
    {"pminud", 2, 0x66, 0x3b, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE41, vec_int38},
    {"pmaxsb", 2, 0x66, 0x3c, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE41, vec_int38},
    {"pmaxsd", 2, 0x66, 0x3d, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE41, vec_int38},
    {"pmaxuw", 2, 0x66, 0x3e, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE41, vec_int38},
    {"pmaxud", 2, 0x66, 0x3f, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE41, vec_int38},
    {"pmulld", 2, 0x66, 0x40, ANY, X, X, 16, RMW | ALIGN, FEAT_SSE41, vec_int38},
    {"phminposuw", 2, 0x66, 0x41, ANY, X, X, 16, LOAD | ALIGN, FEAT_SSE41, vec_int38},
    {"sha1nexte", 2, 0x00, 0xc8, ANY, X, X, 16, RMW | ALIGN, FEAT_SHA, vec_sha},
    {"sha1msg1", 2, 0x00, 0xc9, ANY, X, X, 16, RMW | ALIGN, FEAT_SHA, vec_sha},
    {"sha1msg2", 2, 0x00, 0xca, ANY, X, X, 16, RMW | ALIGN, FEAT_SHA, vec_sha},
    {"sha256rnds2", 2, 0x00, 0xcb, ANY, X, X, 16, RMW | ALIGN | XMM0, FEAT_SHA, vec_sha},
    {"sha256msg1", 2, 0x00, 0xcc, ANY, X, X, 16, RMW | ALIGN, FEAT_SHA, vec_sha},
    {"sha256msg2", 2, 0x00, 0xcd, ANY, X, X, 16, RMW | ALIGN, FEAT_SHA, vec_sha},
    {"gf2p8mulb", 2, 0x66, 0xcf, ANY, X, X, 16, RMW | ALIGN, FEAT_GFNI, vec_gfni},
    {"aesimc", 2, 0x66, 0xdb, ANY, X, X, 16, LOAD | ALIGN, FEAT_AES, vec_aes},
    {"aesenc", 2, 0x66, 0xdc, ANY, X, X, 16, RMW | ALIGN, FEAT_AES, vec_aes},
    {"aesenclast", 2, 0x66, 0xdd, ANY, X, X, 16, RMW | ALIGN, FEAT_AES, vec_aes},
    {"aesdec", 2, 0x66, 0xde, ANY, X, X, 16, RMW | ALIGN, FEAT_AES, vec_aes},
    {"aesdeclast", 2, 0x66, 0xdf, ANY, X, X, 16, RMW | ALIGN, FEAT_AES, vec_aes},

    /* --- 0F 3A --- */
    {"roundps", 3, 0x66, 0x08, ANY, X, X, 16, LOAD | ALIGN | IMM8 | FP, FEAT_SSE41, vec_fp_round},
    {"roundpd", 3, 0x66, 0x09, ANY, X, X, 16, LOAD | ALIGN | IMM8 | FP, FEAT_SSE41, vec_fp_round},
    {"roundss", 3, 0x66, 0x0a, ANY, X, X, 4, RMW | IMM8 | FP, FEAT_SSE41, vec_fp_round},
    {"roundsd", 3, 0x66, 0x0b, ANY, X, X, 8, RMW | IMM8 | FP, FEAT_SSE41, vec_fp_round},
    {"blendps", 3, 0x66, 0x0c, ANY, X, X, 16, RMW | ALIGN | IMM8, FEAT_SSE41, vec_int3a},
    {"blendpd", 3, 0x66, 0x0d, ANY, X, X, 16, RMW | ALIGN | IMM8, FEAT_SSE41, vec_int3a},
    {"pblendw", 3, 0x66, 0x0e, ANY, X, X, 16, RMW | ALIGN | IMM8, FEAT_SSE41, vec_int3a},
    {"palignr", 3, 0x00, 0x0f, ANY, M, M, 8, RMW | IMM8, FEAT_SSSE3, vec_int3a},
    {"palignr", 3, 0x66, 0x0f, ANY, X, X, 16, RMW | ALIGN | IMM8, FEAT_SSSE3, vec_int3a},
    {"pextrb", 3, 0x66, 0x14, ANY, X, G32, 1, STORE | IMM8, FEAT_SSE41, vec_extract},
    {"pextrw", 3, 0x66, 0x15, ANY, X, G32, 2, STORE | IMM8, FEAT_SSE41, vec_extract},
    {"pextrd", 3, 0x66, 0x16, ANY, X, G, 4, STORE | IMM8 | MEM_W64, FEAT_SSE41, vec_extract},
    {"extractps", 3, 0x66, 0x17, ANY, X, G32, 4, STORE | IMM8, FEAT_SSE41, vec_extract},
    {"pinsrb", 3, 0x66, 0x20, ANY, X, G32, 1, RMW | IMM8, FEAT_SSE41, vec_insert},
    {"insertps", 3, 0x66, 0x21, ANY, X, X, 4, RMW | IMM8, FEAT_SSE41, vec_insert},
    {"pinsrd", 3, 0x66, 0x22, ANY, X, G, 4, RMW | IMM8 | MEM_W64, FEAT_SSE41, vec_insert},
    {"dpps", 3, 0x66, 0x40, ANY, X, X, 16, RMW | ALIGN | IMM8 | FP, FEAT_SSE41, vec_fp_dot},
    {"dppd", 3, 0x66, 0x41, ANY, X, X, 16, RMW | ALIGN | IMM8 | FP, FEAT_SSE41, vec_fp_dot},
    {"mpsadbw", 3, 0x66, 0x42, ANY, X, X, 16, RMW | ALIGN | IMM8, FEAT_SSE41, vec_int3a},
    {"pclmulqdq", 3, 0x66, 0x44, ANY, X, X, 16, RMW | ALIGN | IMM8, FEAT_PCLMUL, vec_pclmul},
    {"pcmpestrm", 3, 0x66, 0x60, ANY, X, X, 16, READ | IMM8 | FLAGS_W | IMPLICIT | XMM0, FEAT_SSE42,
     vec_pcmpstr},
    {"pcmpestri", 3, 0x66, 0x61, ANY, X, X, 16, READ | IMM8 | FLAGS_W | IMPLICIT, FEAT_SSE42, vec_pcmpstr},
    {"pcmpistrm", 3, 0x66, 0x62, ANY, X, X, 16, READ | IMM8 | FLAGS_W | XMM0, FEAT_SSE42, vec_pcmpstr},
    {"pcmpistri", 3, 0x66, 0x63, ANY, X, X, 16, READ | IMM8 | FLAGS_W | IMPLICIT, FEAT_SSE42, vec_pcmpstr},
    {"sha1rnds4", 3, 0x00, 0xcc, ANY, X, X, 16, RMW | ALIGN | IMM8, FEAT_SHA, vec_sha},
    {"gf2p8affineqb", 3, 0x66, 0xce, ANY, X, X, 16, RMW | ALIGN | IMM8, FEAT_GFNI, vec_gfni},
    {"gf2p8affineinvqb", 3, 0x66, 0xcf, ANY, X, X, 16, RMW | ALIGN | IMM8, FEAT_GFNI, vec_gfni},
    {"aeskeygenassist", 3, 0x66, 0xdf, ANY, X, X, 16, LOAD | ALIGN | IMM8, FEAT_AES, vec_aes},
};

const unsigned x86_vec_insn_count = sizeof(x86_vec_insns) / sizeof(x86_vec_insns[0]);

/* First row of (map - 1, prefix, opcode), or -1. Filled before main() so that look-ups need no synchronisation. */
static int16_t row_index[3][4][256];

static unsigned prefix_index(unsigned prefix)
{
    switch (prefix) {
    case 0x66:
        return 1;
    case 0xf3:
        return 2;
    case 0xf2:
        return 3;
    default:
        return 0;
    }
}

__attribute__((constructor)) static void row_index_fill(void)
{
    for (unsigned map = 0; map < 3; map++)
        for (unsigned prefix = 0; prefix < 4; prefix++)
            for (unsigned opcode = 0; opcode < 256; opcode++)
                row_index[map][prefix][opcode] = -1;
    for (unsigned i = x86_vec_insn_count; i-- > 0;) {
        const struct x86_vec_insn *row = &x86_vec_insns[i];
        row_index[row->map - 1][prefix_index(row->prefix)][row->opcode] = (int16_t)i;
    }
}

static bool same_opcode(const struct x86_vec_insn *a, const struct x86_vec_insn *b)
{
    return a->map == b->map && a->prefix == b->prefix && a->opcode == b->opcode;
}

/* Rows that share an opcode differ in modrm_ext and follow one another, with those of another prefix in between. */
int x86_vec_find(unsigned map, unsigned prefix, unsigned opcode, unsigned modrm)
{
    if (map < 1 || map > 3 || opcode > 0xff)
        return -1;
    int first = row_index[map - 1][prefix_index(prefix)][opcode];
    if (first < 0 || x86_vec_insns[first].modrm_ext == ANY)
        return first;
    for (unsigned i = (unsigned)first; i < x86_vec_insn_count && x86_vec_insns[i].opcode == opcode; i++) {
        if (same_opcode(&x86_vec_insns[i], &x86_vec_insns[first]) &&
            x86_vec_insns[i].modrm_ext == (modrm >> 3 & 7))
            return (int)i;
    }
    return -1;
}

static bool uses_mmx(const struct x86_vec_insn *insn, bool memory)
{
    return insn->reg == VEC_MMX || (insn->rm == VEC_MMX && !memory);
}

int x86_vec_exec(struct x86_cpu *cpu, const struct ir_op *op)
{
    const struct x86_vec_insn *insn = &x86_vec_insns[op->aux];
    bool memory = op->flags & (IRF_SRC_MEM | IRF_DST_MEM);
    unsigned bytes = (insn->flags & VECF_MEM_W64) && op->size == 8 ? 8 : insn->mem_bytes;
    union x86_vec buffer = {0};
    int r;

    if (insn->exec == vec_emms)
        return vec_emms(cpu, op, insn, NULL);
    if (uses_mmx(insn, memory) && (r = vec_mmx_check(cpu)) != X86_OK)
        return r;
    if (memory) {
        if ((insn->flags & VECF_ALIGN) && (cpu->ea & (bytes - 1)))
            return x86_raise_error(cpu, EXC_GP, 0);
        if (bytes < 16 && (r = x86_align_check(cpu, cpu->ea, bytes)) != X86_OK)
            return r;
        if ((insn->flags & VECF_RM_R) && !(insn->flags & VECF_RM_W))
            r = mmu_read(cpu, cpu->ea, bytes, &buffer);
        else
            r = mmu_probe(cpu, cpu->ea, bytes, MMU_WRITE);
        if (r != X86_OK)
            return r;
    }
    if (uses_mmx(insn, memory))
        vec_mmx_enter(cpu); /* also when the conversion then raises #XM, as processors do */
    r = insn->exec(cpu, op, insn, memory ? &buffer : NULL);
    if (r == X86_OK && memory && (insn->flags & VECF_RM_W))
        r = mmu_write(cpu, cpu->ea, bytes, &buffer);
    return r;
}
