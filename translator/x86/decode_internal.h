/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the x86 front end: the instruction being decoded, the opcode maps' rows, and the helpers of the handlers.
 *
 * decode.c parses (prefixes, opcode, ModRM, displacement, immediate), guided by the row of the opcode map; the row's
 * handler then emits IR. A handler that finds the encoding undefined calls decode_ud() before it has emitted anything.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "translator/ir.h"
#include "translator/x86/cpu.h"
#include "translator/x86/features.h"
#include "translator/x86/sys.h"

struct decoder;

enum row_flag {
    ROW_MODRM = 1 << 0,
    ROW_BYTE = 1 << 1,    /* operand size is 1 */
    ROW_IMM8 = 1 << 2,    /* sign-extended */
    ROW_IMMZ = 1 << 3,    /* 16 bits with 16-bit operand size, else 32, sign-extended */
    ROW_IMMV = 1 << 4,    /* operand size */
    ROW_IMM16 = 1 << 5,   /* zero-extended; with ROW_IMM8: 16 then 8 bits (ENTER), the latter in imm2 */
    ROW_MOFFS = 1 << 6,   /* address size */
    ROW_FAR = 1 << 7,     /* offset of operand size, then a 16-bit selector in imm2 */
    ROW_D64 = 1 << 8,     /* 64-bit code: operand size 8 by default, 2 with 66h */
    ROW_F64 = 1 << 9,     /* 64-bit code: operand size 8 always */
    ROW_NO64 = 1 << 10,   /* 64-bit code: #UD */
    ROW_LOCK = 1 << 11,   /* LOCK is allowed when ModRM is memory (the handler may narrow this) */
    ROW_PRIV = 1 << 12,   /* CPL > 0: #GP(0) */
    ROW_GROUP3 = 1 << 13, /* /0 and /1 have an immediate as ROW_IMMZ, or ROW_IMM8 for bytes */
    ROW_VEC = 1 << 14,    /* look the encoding up in x86_vec_insns[], or x86_vex_insns[] */
};

struct decode_row {
    void (*emit)(struct decoder *d); /* NULL: #UD */
    uint16_t flags;
    uint16_t arg; /* what the handler makes of it */
};

extern const struct decode_row decode_map1[256];  /* one byte */
extern const struct decode_row decode_map0f[256]; /* 0F xx */
extern const struct decode_row decode_row_vec_imm8;
/* 0F 38 xx */
const struct decode_row *decode_row_0f38(unsigned opcode);
/* VEX-encoded; its `emit` is NULL where all of the map is undefined. */
const struct decode_row *decode_row_vex(unsigned map, unsigned opcode);

struct decoder {
    /* the block */
    struct ir_block *block;
    const uint32_t *features;
    uint32_t mode;
    uint8_t stack_size; /* stack address size */
    bool ended;         /* a terminator was emitted */

    /* the instruction */
    uint32_t pc; /* its offset from the code page base */
    unsigned length;
    const struct decode_row *row;
    uint8_t map; /* 0 one byte, 1 = 0F, 2 = 0F38, 3 = 0F3A */
    uint8_t opcode;
    uint8_t rep; /* last of F2/F3, or 0 */
    uint8_t rex; /* REX byte in effect, or 0 */
    bool lock, opsize_prefix, addrsize_prefix;
    uint8_t seg;                 /* override (enum x86_seg_reg), or IR_NONE */
    uint8_t osize;               /* operand size of non-byte operands */
    uint8_t size;                /* operand size with ROW_BYTE applied */
    uint8_t asize;               /* address size */
    uint8_t modrm, mod, reg, rm; /* reg and rm with REX bits */
    uint8_t ea_base, ea_index, ea_scale, ea_seg;
    bool ea_pcrel;
    int64_t disp;
    int64_t imm;
    uint32_t imm2;
    int vec; /* row of x86_vec_insns[], or with `vex` of x86_vex_insns[] */
    bool vex;          /* VEX-encoded: */
    bool vex_w, vex_l; /* then `rex` has W, R, X and B in 64-bit code, and is 0 elsewhere */
    bool vsib;         /* SIB's index is a vector register */
    uint8_t vex_pp;    /* the mandatory prefix that VEX.pp stands for */
    uint8_t vvvv;      /* not inverted any more; 0 where nothing is named */
};

static inline struct ir_op *decode_emit(struct decoder *d, enum ir_opcode opcode)
{
    struct ir_op *op = &d->block->ops[d->block->op_count++];
    *op = (struct ir_op){
        .op = opcode,
        .size = d->size,
        .dst = IR_NONE,
        .src = IR_NONE,
        .src2 = IR_NONE,
        .insn = d->block->insn_count,
        .pc = d->pc,
    };
    return op;
}

static inline bool decode_has(const struct decoder *d, enum x86_feature feature)
{
    return x86_has(d->features, feature);
}

static inline bool decode_is64(const struct decoder *d)
{
    return d->mode & MODE_CS64;
}

/* Protected mode proper: neither real nor virtual-8086. */
static inline bool decode_protected(const struct decoder *d)
{
    return (d->mode & (MODE_PE | MODE_VM)) == MODE_PE;
}

static inline bool decode_cpl0(const struct decoder *d)
{
    return !(d->mode & (MODE_CPL3 | MODE_CPLMID | MODE_VM));
}

static inline bool decode_is_mem(const struct decoder *d)
{
    return d->mod != 3;
}

/* Mandatory prefix in effect for the 0F maps. */
static inline unsigned decode_prefix(const struct decoder *d)
{
    return d->vex ? d->vex_pp : d->rep ? d->rep : d->opsize_prefix ? 0x66 : 0;
}

/* IR register of a ModRM/opcode register number. */
static inline uint8_t decode_reg(const struct decoder *d, unsigned number, unsigned size)
{
    return size == 1 && !d->rex && number >= 4 ? IR_AH + number - 4 : number;
}

/* Offset of the next instruction, and of a relative branch's target, from the code page base. */
static inline int64_t decode_next(const struct decoder *d)
{
    return (int64_t)d->pc + d->length;
}

enum rm_access {
    RM_SRC,      /* the operand is read; it becomes src */
    RM_DST,      /* … written (or read and written); it becomes dst */
    RM_DST_READ, /* … in the place of dst but only read (CMP, TEST, BT) */
};

/* Segment to put into an op: IR_NONE when its base is known to be 0 and nothing is to be checked; *ret_check says
 * whether IRF_SEGCHECK is needed. */
uint8_t decode_segment(const struct decoder *d, unsigned seg, bool *ret_check);
/* IR_EA for ModRM's memory operand of `bytes` (0: only the address counts) with IRF_WRITE or IRF_POPPED. */
void decode_ea(struct decoder *d, unsigned bytes, unsigned flags);
/* An op with ModRM.rm as src or dst of `size`: emits IR_EA first when it is memory; takes LOCK over. */
struct ir_op *decode_rm(struct decoder *d, enum ir_opcode opcode, unsigned size, enum rm_access access);
/* IRF_SEGCHECK when stack accesses need it, else 0. */
unsigned decode_stack_check(const struct decoder *d);
/* A terminating IR_SYS. */
void decode_raise(struct decoder *d, enum x86_sys what);
void decode_ud(struct decoder *d);

/* Handlers, decode_int.c */
void decode_alu_mr(struct decoder *d);
void decode_alu_rm(struct decoder *d);
void decode_alu_ai(struct decoder *d);
void decode_alu_imm(struct decoder *d);
void decode_test_mr(struct decoder *d);
void decode_xchg_mr(struct decoder *d);
void decode_xchg_ar(struct decoder *d);
void decode_mov_mr(struct decoder *d);
void decode_mov_rm(struct decoder *d);
void decode_mov_mi(struct decoder *d);
void decode_mov_ri(struct decoder *d);
void decode_mov_moffs(struct decoder *d);
void decode_movbe_crc32(struct decoder *d);
void decode_adx(struct decoder *d);
void decode_direct_store(struct decoder *d);
void decode_extend(struct decoder *d);
void decode_movsxd_arpl(struct decoder *d);
void decode_lea(struct decoder *d);
void decode_push_r(struct decoder *d);
void decode_pop_r(struct decoder *d);
void decode_push_i(struct decoder *d);
void decode_pop_m(struct decoder *d);
void decode_leave(struct decoder *d);
void decode_convert(struct decoder *d);
void decode_imul(struct decoder *d);
void decode_incdec_r(struct decoder *d);
void decode_shift(struct decoder *d);
void decode_shld(struct decoder *d);
void decode_group3(struct decoder *d);
void decode_group45(struct decoder *d);
void decode_bit_r(struct decoder *d);
void decode_bit_i(struct decoder *d);
void decode_scan(struct decoder *d);
void decode_bswap(struct decoder *d);
void decode_cmov(struct decoder *d);
void decode_setcc(struct decoder *d);
void decode_cmpxchg(struct decoder *d);
void decode_xadd(struct decoder *d);
void decode_string(struct decoder *d);
void decode_flagop(struct decoder *d);
void decode_lahf_sahf(struct decoder *d);
void decode_xlat(struct decoder *d);
void decode_nop_modrm(struct decoder *d);
void decode_jcc(struct decoder *d);
void decode_jmp(struct decoder *d);
void decode_call(struct decoder *d);
void decode_ret(struct decoder *d);
void decode_loop(struct decoder *d);

/* Handlers, decode_vex.c */
void decode_vex(struct decoder *d);
void decode_vex_mxcsr(struct decoder *d);
void decode_vex_maskmov(struct decoder *d);
void decode_vex_gpr(struct decoder *d);

/* Handlers, decode_sys.c */
void decode_sys(struct decoder *d);
void decode_sys_end(struct decoder *d);
void decode_rdtsc(struct decoder *d);
void decode_sys_stack(struct decoder *d);
void decode_int(struct decoder *d);
void decode_arpl(struct decoder *d);
void decode_bound(struct decoder *d);
void decode_push_seg(struct decoder *d);
void decode_pop_seg(struct decoder *d);
void decode_mov_from_seg(struct decoder *d);
void decode_mov_to_seg(struct decoder *d);
void decode_load_far_ptr(struct decoder *d);
void decode_far(struct decoder *d);
void decode_far_mem(struct decoder *d, enum x86_sys what);
void decode_ret_far(struct decoder *d);
void decode_io(struct decoder *d);
void decode_io_string(struct decoder *d);
void decode_enter(struct decoder *d);
void decode_fwait(struct decoder *d);
void decode_x87(struct decoder *d);
void decode_vec(struct decoder *d);
void decode_maskmov(struct decoder *d);
/* The op of MASKMOVDQU (`xmm`) or MASKMOVQ, after all checks. */
void decode_emit_maskmov(struct decoder *d, bool xmm);
void decode_movdir64b(struct decoder *d);
void decode_group6(struct decoder *d);
void decode_group7(struct decoder *d);
void decode_group9(struct decoder *d);
void decode_group15(struct decoder *d);
void decode_lar_lsl(struct decoder *d);
void decode_mov_cr(struct decoder *d);
void decode_syscall(struct decoder *d);
void decode_invpcid(struct decoder *d);
