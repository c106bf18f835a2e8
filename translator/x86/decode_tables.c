/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The opcode maps: SDM volume 2D appendix A. A missing row is #UD.
 */
#include "translator/x86/decode_internal.h"

#define ALU_ROWS(base)                                                                                       \
    [base + 0] = {decode_alu_mr, ROW_MODRM | ROW_BYTE | ROW_LOCK},                                           \
            [base + 1] = {decode_alu_mr, ROW_MODRM | ROW_LOCK},                                              \
            [base + 2] = {decode_alu_rm, ROW_MODRM | ROW_BYTE}, [base + 3] = {decode_alu_rm, ROW_MODRM},     \
            [base + 4] = {decode_alu_ai, ROW_BYTE | ROW_IMM8, (base) >> 3},                                  \
            [base + 5] = {decode_alu_ai, ROW_IMMZ, (base) >> 3}

const struct decode_row decode_map1[256] = {
    ALU_ROWS(0x00),
    [0x06] = {decode_push_seg, ROW_NO64, SEG_ES},
    [0x07] = {decode_pop_seg, ROW_NO64, SEG_ES},
    ALU_ROWS(0x08),
    [0x0e] = {decode_push_seg, ROW_NO64, SEG_CS},
    ALU_ROWS(0x10),
    [0x16] = {decode_push_seg, ROW_NO64, SEG_SS},
    [0x17] = {decode_pop_seg, ROW_NO64, SEG_SS},
    ALU_ROWS(0x18),
    [0x1e] = {decode_push_seg, ROW_NO64, SEG_DS},
    [0x1f] = {decode_pop_seg, ROW_NO64, SEG_DS},
    ALU_ROWS(0x20),
    [0x27] = {decode_sys, ROW_NO64, X86_SYS_DAA},
    ALU_ROWS(0x28),
    [0x2f] = {decode_sys, ROW_NO64, X86_SYS_DAS},
    ALU_ROWS(0x30),
    [0x37] = {decode_sys, ROW_NO64, X86_SYS_AAA},
    ALU_ROWS(0x38),
    [0x3f] = {decode_sys, ROW_NO64, X86_SYS_AAS},
    [0x40 ... 0x47] = {decode_incdec_r, ROW_NO64, IR_INC}, /* 64-bit code: REX, taken by the prefix loop */
    [0x48 ... 0x4f] = {decode_incdec_r, ROW_NO64, IR_DEC},
    [0x50 ... 0x57] = {decode_push_r, ROW_D64},
    [0x58 ... 0x5f] = {decode_pop_r, ROW_D64},
    [0x60] = {decode_sys_stack, ROW_NO64, X86_SYS_PUSHA},
    [0x61] = {decode_sys_stack, ROW_NO64, X86_SYS_POPA},
    [0x62] = {decode_bound, ROW_MODRM | ROW_NO64},
    [0x63] = {decode_movsxd_arpl, ROW_MODRM},
    [0x68] = {decode_push_i, ROW_IMMZ | ROW_D64},
    [0x69] = {decode_imul, ROW_MODRM | ROW_IMMZ},
    [0x6a] = {decode_push_i, ROW_IMM8 | ROW_D64},
    [0x6b] = {decode_imul, ROW_MODRM | ROW_IMM8},
    [0x6c] = {decode_io_string, ROW_BYTE, X86_SYS_INS},
    [0x6d] = {decode_io_string, 0, X86_SYS_INS},
    [0x6e] = {decode_io_string, ROW_BYTE, X86_SYS_OUTS},
    [0x6f] = {decode_io_string, 0, X86_SYS_OUTS},
    [0x70 ... 0x7f] = {decode_jcc, ROW_IMM8 | ROW_F64},
    [0x80] = {decode_alu_imm, ROW_MODRM | ROW_BYTE | ROW_IMM8 | ROW_LOCK},
    [0x81] = {decode_alu_imm, ROW_MODRM | ROW_IMMZ | ROW_LOCK},
    [0x82] = {decode_alu_imm, ROW_MODRM | ROW_BYTE | ROW_IMM8 | ROW_LOCK | ROW_NO64},
    [0x83] = {decode_alu_imm, ROW_MODRM | ROW_IMM8 | ROW_LOCK},
    [0x84] = {decode_test_mr, ROW_MODRM | ROW_BYTE},
    [0x85] = {decode_test_mr, ROW_MODRM},
    [0x86] = {decode_xchg_mr, ROW_MODRM | ROW_BYTE | ROW_LOCK},
    [0x87] = {decode_xchg_mr, ROW_MODRM | ROW_LOCK},
    [0x88] = {decode_mov_mr, ROW_MODRM | ROW_BYTE},
    [0x89] = {decode_mov_mr, ROW_MODRM},
    [0x8a] = {decode_mov_rm, ROW_MODRM | ROW_BYTE},
    [0x8b] = {decode_mov_rm, ROW_MODRM},
    [0x8c] = {decode_mov_from_seg, ROW_MODRM},
    [0x8d] = {decode_lea, ROW_MODRM},
    [0x8e] = {decode_mov_to_seg, ROW_MODRM},
    [0x8f] = {decode_pop_m, ROW_MODRM | ROW_D64},
    [0x90 ... 0x97] = {decode_xchg_ar, 0},
    [0x98 ... 0x99] = {decode_convert, 0},
    [0x9a] = {decode_far, ROW_FAR | ROW_NO64, X86_SYS_CALL_FAR},
    [0x9b] = {decode_fwait, 0},
    [0x9c] = {decode_sys_stack, ROW_D64, X86_SYS_PUSHF},
    [0x9d] = {decode_sys_stack, ROW_D64, X86_SYS_POPF},
    [0x9e] = {decode_lahf_sahf, 0, IR_SAHF},
    [0x9f] = {decode_lahf_sahf, 0, IR_LAHF},
    [0xa0] = {decode_mov_moffs, ROW_BYTE | ROW_MOFFS},
    [0xa1] = {decode_mov_moffs, ROW_MOFFS},
    [0xa2] = {decode_mov_moffs, ROW_BYTE | ROW_MOFFS},
    [0xa3] = {decode_mov_moffs, ROW_MOFFS},
    [0xa4] = {decode_string, ROW_BYTE, IR_MOVS},
    [0xa5] = {decode_string, 0, IR_MOVS},
    [0xa6] = {decode_string, ROW_BYTE, IR_CMPS},
    [0xa7] = {decode_string, 0, IR_CMPS},
    [0xa8] = {decode_alu_ai, ROW_BYTE | ROW_IMM8, IR_TEST},
    [0xa9] = {decode_alu_ai, ROW_IMMZ, IR_TEST},
    [0xaa] = {decode_string, ROW_BYTE, IR_STOS},
    [0xab] = {decode_string, 0, IR_STOS},
    [0xac] = {decode_string, ROW_BYTE, IR_LODS},
    [0xad] = {decode_string, 0, IR_LODS},
    [0xae] = {decode_string, ROW_BYTE, IR_SCAS},
    [0xaf] = {decode_string, 0, IR_SCAS},
    [0xb0 ... 0xb7] = {decode_mov_ri, ROW_BYTE | ROW_IMM8},
    [0xb8 ... 0xbf] = {decode_mov_ri, ROW_IMMV},
    [0xc0] = {decode_shift, ROW_MODRM | ROW_BYTE | ROW_IMM8},
    [0xc1] = {decode_shift, ROW_MODRM | ROW_IMM8},
    [0xc2] = {decode_ret, ROW_IMM16 | ROW_F64},
    [0xc3] = {decode_ret, ROW_F64},
    [0xc4] = {decode_load_far_ptr, ROW_MODRM | ROW_NO64, SEG_ES},
    [0xc5] = {decode_load_far_ptr, ROW_MODRM | ROW_NO64, SEG_DS},
    [0xc6] = {decode_mov_mi, ROW_MODRM | ROW_BYTE | ROW_IMM8},
    [0xc7] = {decode_mov_mi, ROW_MODRM | ROW_IMMZ},
    [0xc8] = {decode_enter, ROW_IMM16 | ROW_IMM8 | ROW_D64},
    [0xc9] = {decode_leave, ROW_D64},
    [0xca] = {decode_ret_far, ROW_IMM16},
    [0xcb] = {decode_ret_far, 0},
    [0xcc] = {decode_sys_end, 0, X86_SYS_INT3},
    [0xcd] = {decode_int, ROW_IMM8},
    [0xce] = {decode_sys_end, ROW_NO64, X86_SYS_INTO},
    [0xcf] = {decode_sys_end, 0, X86_SYS_IRET},
    [0xd0] = {decode_shift, ROW_MODRM | ROW_BYTE},
    [0xd1] = {decode_shift, ROW_MODRM},
    [0xd2] = {decode_shift, ROW_MODRM | ROW_BYTE},
    [0xd3] = {decode_shift, ROW_MODRM},
    [0xd4] = {decode_sys, ROW_IMM8 | ROW_NO64, X86_SYS_AAM},
    [0xd5] = {decode_sys, ROW_IMM8 | ROW_NO64, X86_SYS_AAD},
    [0xd6] = {decode_flagop, ROW_NO64, IR_SALC},
    [0xd7] = {decode_xlat, 0},
    [0xd8 ... 0xdf] = {decode_x87, ROW_MODRM},
    [0xe0] = {decode_loop, ROW_IMM8 | ROW_F64, IR_LOOPNE},
    [0xe1] = {decode_loop, ROW_IMM8 | ROW_F64, IR_LOOPE},
    [0xe2] = {decode_loop, ROW_IMM8 | ROW_F64, IR_LOOP},
    [0xe3] = {decode_loop, ROW_IMM8 | ROW_F64, IR_LOOP_NONE},
    [0xe4] = {decode_io, ROW_BYTE | ROW_IMM8, X86_SYS_IN},
    [0xe5] = {decode_io, ROW_IMM8, X86_SYS_IN},
    [0xe6] = {decode_io, ROW_BYTE | ROW_IMM8, X86_SYS_OUT},
    [0xe7] = {decode_io, ROW_IMM8, X86_SYS_OUT},
    [0xe8] = {decode_call, ROW_IMMZ | ROW_F64},
    [0xe9] = {decode_jmp, ROW_IMMZ | ROW_F64},
    [0xea] = {decode_far, ROW_FAR | ROW_NO64, X86_SYS_JMP_FAR},
    [0xeb] = {decode_jmp, ROW_IMM8 | ROW_F64},
    [0xec] = {decode_io, ROW_BYTE, X86_SYS_IN},
    [0xed] = {decode_io, 0, X86_SYS_IN},
    [0xee] = {decode_io, ROW_BYTE, X86_SYS_OUT},
    [0xef] = {decode_io, 0, X86_SYS_OUT},
    [0xf1] = {decode_sys_end, 0, X86_SYS_INT1},
    [0xf4] = {decode_sys_end, ROW_PRIV, X86_SYS_HLT},
    [0xf5] = {decode_flagop, 0, IR_CMC},
    [0xf6] = {decode_group3, ROW_MODRM | ROW_BYTE | ROW_GROUP3 | ROW_LOCK},
    [0xf7] = {decode_group3, ROW_MODRM | ROW_GROUP3 | ROW_LOCK},
    [0xf8] = {decode_flagop, 0, IR_CLC},
    [0xf9] = {decode_flagop, 0, IR_STC},
    [0xfa] = {decode_sys, 0, X86_SYS_CLI},
    [0xfb] = {decode_sys_end, 0, X86_SYS_STI},
    [0xfc] = {decode_flagop, 0, IR_CLD},
    [0xfd] = {decode_flagop, 0, IR_STD},
    [0xfe] = {decode_group45, ROW_MODRM | ROW_BYTE | ROW_LOCK},
    [0xff] = {decode_group45, ROW_MODRM | ROW_LOCK},
};

const struct decode_row decode_map0f[256] = {
    [0x00] = {decode_group6, ROW_MODRM},
    [0x01] = {decode_group7, ROW_MODRM},
    [0x02] = {decode_lar_lsl, ROW_MODRM, X86_SYS_LAR},
    [0x03] = {decode_lar_lsl, ROW_MODRM, X86_SYS_LSL},
    [0x05] = {decode_syscall, 0, X86_SYS_SYSCALL},
    [0x06] = {decode_sys_end, ROW_PRIV, X86_SYS_CLTS},
    [0x07] = {decode_syscall, 0, X86_SYS_SYSRET},
    [0x08] = {decode_sys, ROW_PRIV, X86_SYS_INVD},
    [0x09] = {decode_sys, ROW_PRIV, X86_SYS_WBINVD},
    [0x0d] = {decode_nop_modrm, ROW_MODRM},
    [0x10 ... 0x17] = {decode_vec, ROW_MODRM | ROW_VEC},
    [0x18 ... 0x1f] = {decode_nop_modrm, ROW_MODRM},
    [0x20 ... 0x23] = {decode_mov_cr, ROW_MODRM},
    [0x28 ... 0x2f] = {decode_vec, ROW_MODRM | ROW_VEC},
    [0x30] = {decode_sys_end, ROW_PRIV, X86_SYS_WRMSR},
    [0x31] = {decode_rdtsc, 0},
    [0x32] = {decode_sys, ROW_PRIV, X86_SYS_RDMSR},
    [0x33] = {decode_sys, 0, X86_SYS_RDPMC},
    [0x34] = {decode_syscall, 0, X86_SYS_SYSENTER},
    [0x35] = {decode_syscall, 0, X86_SYS_SYSEXIT},
    [0x40 ... 0x4f] = {decode_cmov, ROW_MODRM},
    [0x50 ... 0x76] = {decode_vec, ROW_MODRM | ROW_VEC},
    [0x77] = {decode_vec, ROW_VEC}, /* EMMS */
    [0x78 ... 0x7f] = {decode_vec, ROW_MODRM | ROW_VEC},
    [0x80 ... 0x8f] = {decode_jcc, ROW_IMMZ | ROW_F64},
    [0x90 ... 0x9f] = {decode_setcc, ROW_MODRM},
    [0xa0] = {decode_push_seg, ROW_D64, SEG_FS},
    [0xa1] = {decode_pop_seg, ROW_D64, SEG_FS},
    [0xa2] = {decode_sys, 0, X86_SYS_CPUID},
    [0xa3] = {decode_bit_r, ROW_MODRM},
    [0xa4] = {decode_shld, ROW_MODRM | ROW_IMM8},
    [0xa5] = {decode_shld, ROW_MODRM},
    [0xa8] = {decode_push_seg, ROW_D64, SEG_GS},
    [0xa9] = {decode_pop_seg, ROW_D64, SEG_GS},
    [0xab] = {decode_bit_r, ROW_MODRM | ROW_LOCK},
    [0xac] = {decode_shld, ROW_MODRM | ROW_IMM8},
    [0xad] = {decode_shld, ROW_MODRM},
    [0xae] = {decode_group15, ROW_MODRM},
    [0xaf] = {decode_imul, ROW_MODRM},
    [0xb0] = {decode_cmpxchg, ROW_MODRM | ROW_BYTE | ROW_LOCK},
    [0xb1] = {decode_cmpxchg, ROW_MODRM | ROW_LOCK},
    [0xb2] = {decode_load_far_ptr, ROW_MODRM, SEG_SS},
    [0xb3] = {decode_bit_r, ROW_MODRM | ROW_LOCK},
    [0xb4] = {decode_load_far_ptr, ROW_MODRM, SEG_FS},
    [0xb5] = {decode_load_far_ptr, ROW_MODRM, SEG_GS},
    [0xb6 ... 0xb7] = {decode_extend, ROW_MODRM},
    [0xb8] = {decode_scan, ROW_MODRM},
    [0xb9] = {decode_ud, ROW_MODRM}, /* UD1 */
    [0xba] = {decode_bit_i, ROW_MODRM | ROW_IMM8 | ROW_LOCK},
    [0xbb] = {decode_bit_r, ROW_MODRM | ROW_LOCK},
    [0xbc ... 0xbd] = {decode_scan, ROW_MODRM},
    [0xbe ... 0xbf] = {decode_extend, ROW_MODRM},
    [0xc0] = {decode_xadd, ROW_MODRM | ROW_BYTE | ROW_LOCK},
    [0xc1] = {decode_xadd, ROW_MODRM | ROW_LOCK},
    [0xc2] = {decode_vec, ROW_MODRM | ROW_VEC},
    [0xc3] = {decode_direct_store, ROW_MODRM, FEAT_SSE2} /* MOVNTI */,
    [0xc4 ... 0xc6] = {decode_vec, ROW_MODRM | ROW_VEC},
    [0xc7] = {decode_group9, ROW_MODRM | ROW_LOCK},
    [0xc8 ... 0xcf] = {decode_bswap, 0},
    [0xd0 ... 0xf6] = {decode_vec, ROW_MODRM | ROW_VEC},
    [0xf7] = {decode_maskmov, ROW_MODRM},
    [0xf8 ... 0xfe] = {decode_vec, ROW_MODRM | ROW_VEC},
    [0xff] = {decode_ud, ROW_MODRM}, /* UD0 */
};

const struct decode_row decode_row_vec_imm8 = {decode_vec, ROW_MODRM | ROW_VEC | ROW_IMM8};

/* Vector instructions but for these. */
const struct decode_row *decode_row_0f38(unsigned opcode)
{
    static const struct decode_row vec = {decode_vec, ROW_MODRM | ROW_VEC}, invpcid = {decode_invpcid, ROW_MODRM};
    static const struct decode_row f0[] = {
        [0x0 ... 0x1] = {decode_movbe_crc32, ROW_MODRM},
        [0x6] = {decode_adx, ROW_MODRM},
        [0x8] = {decode_movdir64b, ROW_MODRM},
        [0x9] = {decode_direct_store, ROW_MODRM, FEAT_MOVDIRI},
    };
    if (opcode == 0x82)
        return &invpcid;
    return opcode >= 0xf0 && opcode - 0xf0 < ARRAY_LEN(f0) && f0[opcode - 0xf0].emit ? &f0[opcode - 0xf0] : &vec;
}

/* Vector instructions, but for those on general registers at the maps' ends. VZEROUPPER has no ModRM. */
const struct decode_row *decode_row_vex(unsigned map, unsigned opcode)
{
    static const struct decode_row none = {0}, vec = {decode_vex, ROW_MODRM | ROW_VEC}, zero = {decode_vex, ROW_VEC};
    static const struct decode_row mxcsr = {decode_vex_mxcsr, ROW_MODRM}, maskmov = {decode_vex_maskmov, ROW_MODRM};
    static const struct decode_row gpr = {decode_vex_gpr, ROW_MODRM}, gpr_imm8 = {decode_vex_gpr, ROW_MODRM | ROW_IMM8};
    switch (map) {
    case 1:
        return opcode == 0x77 ? &zero : opcode == 0xae ? &mxcsr : opcode == 0xf7 ? &maskmov : &vec;
    case 2:
        return opcode >= 0xf0 ? &gpr : &vec;
    case 3:
        return opcode >= 0xf0 ? &gpr_imm8 : &vec;
    default:
        return &none;
    }
}
