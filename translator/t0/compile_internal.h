/* SPDX-License-Identifier: Apache-2.0 */
/*
 * T0's compiler among its own files; one struct t0_ctx per compilation, on one thread.
 *
 * A body (t0_body_*) emits the operation itself: with a memory operand the host address is in rax and EFLAGS
 * are free, without one both scratch registers are. compile.c has looked the address up before. t0_compile_*
 * emit an op as a whole. The guest's flags are where `flags` says; whoever emits a host instruction that
 * reads or changes them says so first by t0_flags_need() or t0_flags_clobber(), and afterwards by
 * t0_flags_written().
 */
#pragma once

#include "translator/mmu_internal.h"
#include "translator/t0/regs.h"
#include "translator/t0/t0_internal.h"
#include "translator/x86/vex.h"

#define T0_COLD_MAX  1024
#define T0_LINKS_MAX 160

enum t0_cold_kind { T0_COLD_ACCESS, T0_COLD_LINK, T0_COLD_FAR, T0_COLD_INTERPRET, T0_COLD_OUT, T0_COLD_X87 };

struct t0_cold {
    enum t0_cold_kind kind;
    uint8_t flags;  /* where the flags are at the site */
    uint8_t access; /* enum mmu_access */
    uint8_t size;
    uint16_t pc;         /* offset of the instruction */
    uint8_t *site;       /* rel32 that leads here, writable alias */
    const uint8_t *back; /* executable address after the look-up */
    int32_t note;        /* T0_COLD_FAR */
    int64_t target;      /* T0_COLD_FAR: page-base-relative; T0_COLD_LINK: index of the link; T0_COLD_OUT: next instruction */
};

struct t0_ctx {
    struct emitter *e;
    const struct t0_thunks *thunks;
    struct block *block;
    const struct ir_block *ir;
    const struct ir_op *ea;     /* the live effective address */
    unsigned flags;             /* enum t0_flags */
    unsigned insn_pc, insn_len; /* instruction under way */
    bool straddles;
    bool upper_used; /* x86_cpu.vec_upper is VEC_UPPER_USED here */
    bool x87_based;  /* x86_cpu.x87_base is this block's pc_base here */
    bool x87_loaded; /* the guest's x87 state is in the host's unit here */

    unsigned cold_count;
    unsigned link_count;
    unsigned data_count;
    bool full; /* a table overflowed */
    struct t0_cold cold[T0_COLD_MAX];
    struct {
        uint8_t *site; /* disp32 of a RIP-relative LEA */
        const struct ir_op *op;
    } data[IR_BLOCK_MAX_OPS]; /* copies of ops to be placed after the code */
    struct t0_link links[T0_LINKS_MAX];
};

/* compile_address.c */
/* The host register that holds guest `reg`; a register that lives in memory is loaded into `scratch`, so is
 * AH..BH (zero-extended). Flags stay. */
unsigned t0_reg_value(struct t0_ctx *c, unsigned reg, unsigned scratch);
/* Stores a result that was computed in `scratch` for a register that lives in memory. `scratch` holds the
 * full merged or zero-extended value. */
void t0_reg_home_store(struct t0_ctx *c, unsigned reg, unsigned scratch);
/* Where an instruction puts a new value of guest `reg`: its host register, or rcx, which holds the old value
 * if `load`. The end stores rcx to the register's home. */
unsigned t0_result_begin(struct t0_ctx *c, unsigned reg, bool load);
void t0_result_end(struct t0_ctx *c, unsigned reg, unsigned result);
/* Guest `reg` as an operand that is changed in place: its host register, or rax with its value. The end
 * stores rax to the register's home. */
struct rm t0_modify_begin(struct t0_ctx *c, unsigned reg);
void t0_modify_end(struct t0_ctx *c, unsigned reg);
/* A source register as a ModRM operand; AH..BH come through `scratch`. */
struct rm t0_src_rm(struct t0_ctx *c, unsigned reg, unsigned scratch);
/* A cold part to which the jump at `site` leads, with the present flags and instruction. */
struct t0_cold *t0_cold_add(struct t0_ctx *c, enum t0_cold_kind kind, uint8_t *site);
void t0_emit_save_flags(struct emitter *e);
void t0_emit_restore_flags(struct emitter *e);
/* EFLAGS is about to be destroyed. Uses rax. */
void t0_flags_clobber(struct t0_ctx *c);
/* The op reads flags or leaves some unchanged. Uses rax; the second keeps the host address in it. */
void t0_flags_need(struct t0_ctx *c);
void t0_flags_need_keep_rax(struct t0_ctx *c);
/* All flags that the guest can see are in EFLAGS now. */
void t0_flags_written(struct t0_ctx *c);
/* src + (src2 << sub) + imm (+ pc_base) -> `dst`, truncated to `size` (4 or 8) bytes, without a segment's
 * base. Flags stay; rax and rcx are used. */
void t0_emit_sum(struct t0_ctx *c, const struct ir_op *ea, unsigned size, unsigned dst);
/* Linear address of the live EA -> rax. Flags are saved already. */
void t0_emit_ea(struct t0_ctx *c);
/* rax = linear address -> rax = host address of `size` bytes. rcx and EFLAGS are used. */
void t0_emit_lookup(struct t0_ctx *c, enum mmu_access access, unsigned size);
/* interp_op() for this op. */
void t0_fallback(struct t0_ctx *c, const struct ir_op *op);
/* The interpreter does the whole instruction under way, of which nothing was done yet. */
void t0_emit_interpret(struct t0_ctx *c);

/* compile_int.c */
void t0_body_mov(struct t0_ctx *c, const struct ir_op *op);
void t0_body_extend(struct t0_ctx *c, const struct ir_op *op);
void t0_body_alu(struct t0_ctx *c, const struct ir_op *op);
void t0_body_unary(struct t0_ctx *c, const struct ir_op *op);
void t0_body_adx(struct t0_ctx *c, const struct ir_op *op);
void t0_body_imul(struct t0_ctx *c, const struct ir_op *op);
void t0_body_mul(struct t0_ctx *c, const struct ir_op *op);
void t0_body_cmov(struct t0_ctx *c, const struct ir_op *op);
void t0_body_setcc(struct t0_ctx *c, const struct ir_op *op);
/* MOV, ALU, UNARY, SHIFT or SETCC that writes AH..BH. */
void t0_compile_high_byte(struct t0_ctx *c, const struct ir_op *op);
void t0_compile_div(struct t0_ctx *c, const struct ir_op *op);
void t0_compile_lea(struct t0_ctx *c, const struct ir_op *op);
void t0_compile_convert(struct t0_ctx *c, const struct ir_op *op);
void t0_compile_flagop(struct t0_ctx *c, const struct ir_op *op);

/* compile_bit.c */
bool t0_shift_keeps_flags(const struct ir_op *op);
void t0_body_shift(struct t0_ctx *c, const struct ir_op *op);
void t0_body_shld(struct t0_ctx *c, const struct ir_op *op);
void t0_body_bit(struct t0_ctx *c, const struct ir_op *op);
void t0_body_scan(struct t0_ctx *c, const struct ir_op *op);
void t0_body_movbe(struct t0_ctx *c, const struct ir_op *op);
void t0_body_bmi(struct t0_ctx *c, const struct ir_op *op);
void t0_body_crc32(struct t0_ctx *c, const struct ir_op *op);

/* compile_atomic.c */
void t0_body_xchg(struct t0_ctx *c, const struct ir_op *op);
void t0_body_xadd(struct t0_ctx *c, const struct ir_op *op);
void t0_body_cmpxchg(struct t0_ctx *c, const struct ir_op *op);
void t0_body_cmpxchg16(struct t0_ctx *c, const struct ir_op *op);

/* compile_stack.c */
/* rsp - size -> rax, looked up for writing. */
void t0_push_lookup(struct t0_ctx *c, unsigned size);
void t0_compile_push(struct t0_ctx *c, const struct ir_op *op);
void t0_compile_pop(struct t0_ctx *c, const struct ir_op *op);
void t0_compile_leave(struct t0_ctx *c, const struct ir_op *op);

/* compile_string.c */
void t0_compile_string(struct t0_ctx *c, const struct ir_op *op);

/* compile_vec.c */
/* Whether the guest's x87 unit must be loaded for it. */
bool t0_vec_uses_x87(const struct x86_vec_insn *insn);
/* PCMPxSTRx: lengths in the guest's rax and rdx, the index form's result in rcx. */
void t0_body_string_compare(struct t0_ctx *c, const struct ir_op *op, unsigned opcode);
void t0_compile_vec(struct t0_ctx *c, const struct ir_op *op);
void t0_compile_x87(struct t0_ctx *c, const struct ir_op *op);

/* compile_vex.c */
void t0_compile_vex(struct t0_ctx *c, const struct ir_op *op);

/* compile_flow.c */
/* The branch under way, for x86_cpu.branch_note; `undo` is what it took from rSP. */
int32_t t0_branch_note(const struct t0_ctx *c, int32_t undo);
/* Goes to `target` (page-base-relative) through the jump cache. Flags are SAVED. `note` is t0_branch_note() or
 * T0_NOTE_NONE. */
void t0_emit_far(struct t0_ctx *c, int64_t target, int32_t note);
/* Goes to `target` always (cc < 0) or if `cc` holds (flags in EFLAGS). */
void t0_emit_goto(struct t0_ctx *c, int cc, int64_t target, int32_t note);
void t0_compile_jcc(struct t0_ctx *c, const struct ir_op *op);
void t0_compile_jrcxz(struct t0_ctx *c, const struct ir_op *op);
void t0_compile_jmp_ind(struct t0_ctx *c, const struct ir_op *op);
void t0_compile_ret(struct t0_ctx *c, const struct ir_op *op);

/* compile_sys.c */
void t0_compile_sys(struct t0_ctx *c, const struct ir_op *op);

/* Bytes of an address, of rip and of the stack pointer: 8 in 64-bit code, else 4. */
static inline unsigned t0_word(const struct t0_ctx *c)
{
    return c->block->mode & MODE_CS64 ? 8 : 4;
}

static inline bool t0_in_host(unsigned reg)
{
    return reg < IR_REG_COUNT && t0_host_reg[reg] != H_NONE;
}

static inline bool t0_is_high_byte(unsigned reg)
{
    return reg >= IR_AH && reg <= IR_BH;
}

/* A guest register as a ModRM operand: its host register, or its home. */
static inline struct rm t0_reg_rm(unsigned reg)
{
    return t0_in_host(reg) ? rm_reg(t0_host_reg[reg]) : cpu_rm(t0_home(reg), 0);
}

/* The memory operand of a body. */
static inline struct rm t0_guest_mem(void)
{
    return rm_mem(H_RAX, 0);
}
