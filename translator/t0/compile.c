/* SPDX-License-Identifier: Apache-2.0 */
/*
 * T0's compiler: one forward pass over a block's IR.
 *
 * Hot code comes first; what is rarely needed (refills, unlinked jumps) is collected as `struct cold` and emitted after it,
 * then copies of the ops that the interpreter needs. An op with a memory operand is emitted as
 *
 *     [save flags] address -> rax; look up -> rax = host address, else cold; body on [rax]
 *
 * The cold part refills the TLB and comes back, or lets the interpreter do the whole instruction (MMIO, page crossings,
 * faults): nothing of an instruction is done before its last look-up.
 *
 * An op that no case handles goes to interp_op() (`fallback`).
 */
#include <stdlib.h>

#include "translator/mmu_internal.h"
#include "translator/t0/regs.h"
#include "translator/t0/t0_internal.h"
#include "translator/x86/sys.h"
#include "translator/x86/vec.h"

#define COLD_MAX 1024
#define LINKS_MAX 160

enum cold_kind { COLD_ACCESS, COLD_LINK, COLD_FAR, COLD_INTERPRET, COLD_X87 };

struct cold {
    enum cold_kind kind;
    uint8_t flags;          /* where the flags are at the site */
    uint8_t access;         /* enum mmu_access */
    uint8_t size;
    uint16_t pc;            /* offset of the instruction */
    uint8_t *site;          /* rel32 that leads here, writable alias */
    const uint8_t *back;    /* executable address after the look-up */
    int64_t target;         /* COLD_FAR: page-base-relative; COLD_LINK: index of the link */
};

struct ctx {
    struct emitter *e;
    const struct t0_thunks *thunks;
    struct block *block;
    const struct ir_block *ir;
    const struct ir_op *ea;     /* the live effective address */
    unsigned flags;             /* enum t0_flags */
    unsigned insn_pc, insn_len; /* instruction under way */
    bool straddles;
    bool x87_loaded;            /* the guest's x87 state is in the host's unit here */

    unsigned cold_count;
    unsigned link_count;
    unsigned data_count;
    bool full;                  /* a table overflowed */
    struct cold cold[COLD_MAX];
    struct {
        uint8_t *site;          /* disp32 of a RIP-relative LEA */
        const struct ir_op *op;
    } data[IR_BLOCK_MAX_OPS];   /* copies of ops to be placed after the code */
    struct t0_link links[LINKS_MAX];
};

static void compile_op(struct ctx *c, const struct ir_op *op);

/* --- small pieces ------------------------------------------------------------------------------------------- */

static bool in_host(unsigned reg)
{
    return reg < IR_REG_COUNT && t0_host_reg[reg] != H_NONE;
}

static bool is_high_byte(unsigned reg)
{
    return reg >= IR_AH && reg <= IR_BH;
}

/* A guest register as a ModRM operand: its host register, or its home. */
static struct rm reg_rm(unsigned reg)
{
    return in_host(reg) ? rm_reg(t0_host_reg[reg]) : cpu_rm(t0_home(reg), 0);
}

/* The host register that holds guest `reg`; a register that lives in memory is loaded into `scratch`, so is AH..BH
 * (zero-extended). Flags stay. */
static unsigned reg_value(struct ctx *c, unsigned reg, unsigned scratch)
{
    if (in_host(reg)) {
        return t0_host_reg[reg];
    }
    if (reg == IR_DH || reg == IR_BH) {
        emit_insn(c->e, 0, 1, 0xb6, scratch, rm_reg(reg == IR_DH ? 6 : 7)); /* movzx scratch, dh/bh: no REX */
        return scratch;
    }
    if (reg == IR_AH || reg == IR_CH) {
        emit_store(c->e, 4, t0_host_reg[reg - IR_AH], cpu_rm(CPU_OFF(temp) + 24, 0));
        emit_insn(c->e, 0, 1, 0xb6, scratch, cpu_rm(CPU_OFF(temp) + 25, 0));
        return scratch;
    }
    emit_load(c->e, 8, scratch, cpu_rm(t0_home(reg), 0));
    return scratch;
}

/* Stores a result that was computed in `scratch` for a register that lives in memory. `scratch` holds the full merged or
 * zero-extended value. */
static void reg_home_store(struct ctx *c, unsigned reg, unsigned scratch)
{
    emit_store(c->e, 8, scratch, cpu_rm(t0_home(reg), 0));
}

/* A source register as a ModRM operand; AH..BH come through `scratch`. */
static struct rm src_rm(struct ctx *c, unsigned reg, unsigned scratch)
{
    return is_high_byte(reg) ? rm_reg(reg_value(c, reg, scratch)) : reg_rm(reg);
}

static struct cold *cold_add(struct ctx *c, enum cold_kind kind, uint8_t *site)
{
    if (c->cold_count == COLD_MAX) {
        c->full = true;
        return &c->cold[COLD_MAX - 1];
    }
    struct cold *cold = &c->cold[c->cold_count++];
    *cold = (struct cold){.kind = kind, .site = site, .flags = (uint8_t)c->flags, .pc = (uint16_t)c->insn_pc};
    return cold;
}

/* --- flags -------------------------------------------------------------------------------------------------- */

static void emit_save_flags(struct emitter *e)
{
    emit8(e, 0x9f);                                       /* lahf */
    emit_insn(e, EMIT_BYTERM, 1, 0x90, 0, rm_reg(H_RAX)); /* seto al */
    emit_store(e, 4, H_RAX, cpu_rm(CPU_OFF(saved_flags), 0));
}

static void emit_restore_flags(struct emitter *e)
{
    emit_load(e, 4, H_RAX, cpu_rm(CPU_OFF(saved_flags), 0));
    emit8(e, 0x04); /* add al, 0x7f: OF = old bit 0 */
    emit8(e, 0x7f);
    emit8(e, 0x9e); /* sahf */
}

/* EFLAGS is about to be destroyed. Uses rax. */
static void flags_clobber(struct ctx *c)
{
    if (c->flags == T0_HOST) {
        emit_save_flags(c->e);
        c->flags = T0_SAVED;
    }
    c->flags &= ~(unsigned)T0_HOST;
}

/* The op reads flags or leaves some unchanged. Uses rax. */
static void flags_need(struct ctx *c)
{
    if (c->flags == T0_SAVED) {
        emit_restore_flags(c->e);
        c->flags = T0_SAVED | T0_HOST;
    }
}

/* Same with a host address in rax that must survive. */
static void flags_need_keep_rax(struct ctx *c)
{
    if (c->flags == T0_SAVED) {
        emit_store(c->e, 8, H_RAX, cpu_rm(CPU_OFF(temp) + 24, 0));
        emit_restore_flags(c->e);
        emit_load(c->e, 8, H_RAX, cpu_rm(CPU_OFF(temp) + 24, 0));
        c->flags = T0_SAVED | T0_HOST;
    }
}

static void flags_written(struct ctx *c)
{
    c->flags = T0_HOST;
}

/* --- addresses ---------------------------------------------------------------------------------------------- */

/* src + (src2 << sub) + imm (+ pc_base) -> `dst`, truncated to `size` (4 or 8) bytes, without a segment's base. Flags stay;
 * rax and rcx are used. */
static void emit_sum(struct ctx *c, const struct ir_op *ea, unsigned size, unsigned dst)
{
    struct emitter *e = c->e;
    int64_t imm = ea->imm;

    if (ea->flags & IRF_PCREL) {
        emit_load(e, 8, H_RAX, cpu_rm(CPU_OFF(pc_base), 0));
        emit_lea(e, size, dst, rm_mem(H_RAX, (int32_t)imm));
        return;
    }
    if (ea->src == IR_NONE && ea->src2 == IR_NONE) {
        emit_mov_imm(e, dst, size == 8 ? (uint64_t)imm : (uint32_t)imm);
        return;
    }
    if (imm != (int32_t)imm) { /* only an address without registers has 64 bits */
        c->full = true;
        return;
    }
    struct rm sum;
    if (ea->src2 == IR_NONE) {
        sum = rm_mem(reg_value(c, ea->src, H_RAX), (int32_t)imm);
        if (imm == 0) {
            emit_mov_rr(e, size, dst, sum.base);
            return;
        }
    } else {
        unsigned index = reg_value(c, ea->src2, H_RCX);
        unsigned base = ea->src == IR_NONE ? H_NONE : reg_value(c, ea->src, H_RAX);
        sum = rm_sib(base, index, ea->sub, (int32_t)imm);
    }
    emit_lea(e, size, dst, sum);
}

/* Linear address of the live EA -> rax. Flags are saved already (the segment's base is added). */
static void emit_ea(struct ctx *c)
{
    const struct ir_op *ea = c->ea;
    emit_sum(c, ea, ea->size == 8 ? 8 : 4, H_RAX);
    if (ea->size == 2) {
        emit_insn(c->e, 0, 1, 0xb7, H_RAX, rm_reg(H_RAX));
    }
    if (ea->dst != IR_NONE) {
        int32_t base = CPU_OFF(seg) + (int32_t)(ea->dst * sizeof(struct x86_seg) + offsetof(struct x86_seg, base));
        emit_insn(c->e, EMIT_W, 0, 0x03, H_RAX, cpu_rm(base, 0));
    }
}

/*
 * rax = linear address -> rax = host address of `size` bytes. rcx is used. In the cold part rax is made the linear address
 * again, since it was changed by the comparison only.
 */
static void emit_lookup(struct ctx *c, enum mmu_access access, unsigned size)
{
    struct emitter *e = c->e;
    int32_t tag = (int32_t)offsetof(struct mmu_tlb_entry, tag) + (int32_t)access * 8;
    _Static_assert(sizeof(struct mmu_tlb_entry) == 32, "index scaling below");

    emit_mov_rr(e, 4, H_RCX, H_RAX);
    emit_insn(e, 0, 0, 0xc1, 5, rm_reg(H_RCX)); /* shr ecx, 12 - 5 */
    emit8(e, 7);
    emit_alu_imm(e, 0, IR_AND, 4, rm_reg(H_RCX), (MMU_TLB_ENTRIES - 1) * 32);
    emit_insn(e, EMIT_W, 0, 0x03, H_RCX, cpu_rm(CPU_OFF(tlb), 0));
    emit_insn(e, EMIT_W, 0, 0x33, H_RAX, rm_mem(H_RCX, tag));
    emit8(e, 0x48); /* cmp rax, imm32 */
    emit8(e, 0x3d);
    emit32(e, 4096 - size);
    uint8_t *site = emit_jcc_forward(e, 7);
    emit_insn(e, EMIT_W, 0, 0x03, H_RAX, rm_mem(H_RCX, (int32_t)offsetof(struct mmu_tlb_entry, host)));

    struct cold *cold = cold_add(c, COLD_ACCESS, site);
    cold->access = (uint8_t)access;
    cold->size = (uint8_t)size;
    cold->back = emit_rx(e);
}

/* Nothing of the same instruction follows. (The last op of a block ends it anyway.) */
static bool last_of_insn(const struct ctx *c, const struct ir_op *op)
{
    return op + 1 < c->ir->ops + c->ir->op_count && (op[1].op == IR_INSN || op[1].op == IR_END);
}

static bool ends_block(const struct ir_op *op)
{
    return op->op == IR_SYS && (op->flags & IRF_END || op->sub == X86_SYS_LDMXCSR || op->sub == X86_SYS_FXRSTOR ||
                                op->sub == X86_SYS_XRSTOR || op->sub == X86_SYS_XRSTORS);
}

static uint32_t pcinfo(const struct ctx *c, const struct ir_op *op)
{
    return c->insn_pc | c->insn_len << 16 | (last_of_insn(c, op) ? T0_OP_LAST : 0) | (ends_block(op) ? T0_OP_END : 0);
}

/* interp_op() for this op. */
static void fallback(struct ctx *c, const struct ir_op *op)
{
    flags_clobber(c);
    if (op->flags & (IRF_DST_MEM | IRF_SRC_MEM) && c->ea) {
        emit_ea(c);
        emit_store(c->e, 8, H_RAX, cpu_rm(CPU_OFF(ea), 0));
    }
    emit8(c->e, 0x48); /* lea rcx, [rip + disp32] */
    emit8(c->e, 0x8d);
    emit8(c->e, 0x0d);
    emit32(c->e, 0);
    c->data[c->data_count].site = c->e->p - 4;
    c->data[c->data_count++].op = op;
    emit_mov_imm(c->e, H_RAX, pcinfo(c, op));
    emit_call(c->e, c->thunks->op);
    c->flags = T0_SAVED;
    c->x87_loaded = false;
}

/* --- bodies: integer ---------------------------------------------------------------------------------------- */

static struct rm guest_mem(void)
{
    return rm_mem(H_RAX, 0);
}

static void body_mov(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned size = op->size;
    if (op->flags & IRF_DST_MEM) {
        if (op->flags & IRF_SRC_IMM) {
            emit_insn(e, emit_size(size) & ~(unsigned)EMIT_BYTE, 0, size == 1 ? 0xc6 : 0xc7, 0, guest_mem());
            emit_imm(e, size, op->imm);
        } else {
            emit_store(e, size, reg_value(c, op->src, H_RCX), guest_mem());
        }
        return;
    }
    if (op->flags & IRF_SRC_MEM) {
        if (in_host(op->dst)) {
            emit_load(e, size, t0_host_reg[op->dst], guest_mem());
        } else if (size >= 4) {
            emit_load(e, size, H_RCX, guest_mem());
            reg_home_store(c, op->dst, H_RCX);
        } else {
            emit_load(e, size, H_RCX, guest_mem());
            emit_store(e, size, H_RCX, cpu_rm(t0_home(op->dst), 0));
        }
        return;
    }
    if (op->flags & IRF_SRC_IMM) {
        if (size >= 4) {
            uint64_t value = size == 4 ? (uint32_t)op->imm : (uint64_t)op->imm;
            if (in_host(op->dst)) {
                emit_mov_imm(e, t0_host_reg[op->dst], value);
            } else {
                emit_mov_imm(e, H_RCX, value);
                reg_home_store(c, op->dst, H_RCX);
            }
        } else {
            emit_insn(e, emit_size(size) & ~(unsigned)EMIT_BYTE, 0, size == 1 ? 0xc6 : 0xc7, 0, reg_rm(op->dst));
            emit_imm(e, size, op->imm);
        }
        return;
    }
    if (in_host(op->dst)) {
        emit_load(e, size, t0_host_reg[op->dst], src_rm(c, op->src, H_RCX));
    } else if (size >= 4) {
        unsigned src = reg_value(c, op->src, H_RCX);
        if (size == 4) {
            emit_mov_rr(e, 4, H_RCX, src);
            src = H_RCX;
        }
        reg_home_store(c, op->dst, src);
    } else {
        emit_store(e, size, reg_value(c, op->src, H_RCX), cpu_rm(t0_home(op->dst), 0));
    }
}

/* MOVZX, MOVSX */
static void body_extend(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    bool sign = op->op == IR_MOVSX;
    unsigned from = op->aux;
    struct rm rm = op->flags & IRF_SRC_MEM ? guest_mem() : src_rm(c, op->src, H_RAX);
    unsigned dst = in_host(op->dst) ? t0_host_reg[op->dst] : H_RCX;
    unsigned flags = (op->size == 8 ? EMIT_W : op->size == 2 ? EMIT_66 : 0) | (from == 1 ? EMIT_BYTERM : 0);

    if (dst == H_RCX && op->size == 2) {
        emit_load(e, 8, H_RCX, cpu_rm(t0_home(op->dst), 0));
    }
    if (from == 4) {
        emit_insn(e, sign ? flags : 0, 0, sign ? 0x63 : 0x8b, dst, rm);
    } else {
        emit_insn(e, flags, 1, (sign ? 0xbe : 0xb6) + (from == 2 ? 1 : 0), dst, rm);
    }
    if (dst == H_RCX) {
        reg_home_store(c, op->dst, H_RCX);
    }
}

static void body_alu(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned size = op->size, alu = op->sub;
    bool test = alu == IR_TEST, reads_only = test || alu == IR_CMP;
    unsigned lock = op->flags & IRF_LOCK ? EMIT_LOCK : 0;
    bool memory = op->flags & (IRF_DST_MEM | IRF_SRC_MEM);

    if (alu == IR_ADC || alu == IR_SBB) {
        if (memory) {
            flags_need_keep_rax(c);
        } else {
            flags_need(c);
        }
    }
    if (op->flags & IRF_SRC_IMM) {
        struct rm rm = op->flags & IRF_DST_MEM ? guest_mem() : src_rm(c, op->dst, H_RCX);
        bool home = rm.mem && !(op->flags & IRF_DST_MEM);
        if (home && size == 4 && !reads_only) {
            emit_load(e, 4, H_RCX, rm);
            rm = rm_reg(H_RCX);
        }
        if (test) {
            emit_insn(e, emit_size(size) & ~(unsigned)EMIT_BYTE, 0, size == 1 ? 0xf6 : 0xf7, 0, rm);
            emit_imm(e, size, op->imm);
        } else {
            emit_alu_imm(e, lock, alu, size, rm, op->imm);
        }
        if (home && size == 4 && !reads_only) {
            reg_home_store(c, op->dst, H_RCX);
        }
        flags_written(c);
        return;
    }
    unsigned to_rm = test ? 0x84 : alu << 3, to_reg = test ? 0x84 : (alu << 3) + 2;
    if (op->flags & IRF_DST_MEM) {
        unsigned src = reg_value(c, op->src, H_RCX);
        emit_insn(e, lock | emit_size(size), 0, to_rm + (size == 1 ? 0 : 1), src, guest_mem());
    } else if (in_host(op->dst)) {
        struct rm rm = op->flags & IRF_SRC_MEM ? guest_mem() : src_rm(c, op->src, H_RCX);
        emit_sized(e, size, 0, to_reg, t0_host_reg[op->dst], rm);
    } else {
        struct rm rm = op->flags & IRF_SRC_MEM ? guest_mem() : src_rm(c, op->src, H_RAX);
        reg_value(c, op->dst, H_RCX);
        emit_sized(e, size, 0, to_reg, H_RCX, rm);
        if (!reads_only) {
            reg_home_store(c, op->dst, H_RCX);
        }
    }
    flags_written(c);
}

static void body_unary(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    static const struct {
        uint8_t opcode, ext;
    } forms[] = {[IR_INC] = {0xfe, 0}, [IR_DEC] = {0xfe, 1}, [IR_NOT] = {0xf6, 2}, [IR_NEG] = {0xf6, 3}};
    unsigned flags = (op->flags & IRF_LOCK ? EMIT_LOCK : 0) | (emit_size(op->size) & ~(unsigned)EMIT_BYTE);
    unsigned opcode = forms[op->sub].opcode + (op->size == 1 ? 0 : 1);
    bool memory = op->flags & IRF_DST_MEM;

    if (op->sub == IR_INC || op->sub == IR_DEC) {
        if (memory) {
            flags_need_keep_rax(c);
        } else {
            flags_need(c);
        }
    }
    if (memory) {
        emit_insn(e, flags, 0, opcode, forms[op->sub].ext, guest_mem());
    } else if (in_host(op->dst)) {
        emit_insn(e, flags, 0, opcode, forms[op->sub].ext, rm_reg(t0_host_reg[op->dst]));
    } else {
        emit_load(e, 8, H_RCX, cpu_rm(t0_home(op->dst), 0));
        emit_insn(e, flags, 0, opcode, forms[op->sub].ext, rm_reg(H_RCX));
        reg_home_store(c, op->dst, H_RCX);
    }
    if (op->sub != IR_NOT) {
        flags_written(c);
    }
}

static void body_shift(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    bool memory = op->flags & IRF_DST_MEM, by_imm = op->flags & IRF_SRC_IMM;
    unsigned count = (unsigned)op->imm & (op->size == 8 ? 63 : 31);
    bool full = by_imm && count && op->sub >= IR_SHL;
    unsigned flags = emit_size(op->size) & ~(unsigned)EMIT_BYTE;

    if (!full) { /* rotates keep most flags, a zero count keeps all */
        if (memory) {
            flags_need_keep_rax(c);
        } else {
            flags_need(c);
        }
    }
    struct rm rm = memory ? guest_mem() : reg_rm(op->dst);
    bool home = !memory && rm.mem;
    if (home) {
        emit_load(e, 8, H_RAX, rm);
        rm = rm_reg(H_RAX);
    }
    if (by_imm) {
        emit_insn(e, flags, 0, op->size == 1 ? 0xc0 : 0xc1, op->sub, rm);
        emit8(e, (uint8_t)op->imm);
    } else {
        emit_mov_rr(e, 4, H_RCX, t0_host_reg[IR_RCX]);
        emit_insn(e, flags, 0, op->size == 1 ? 0xd2 : 0xd3, op->sub, rm);
    }
    if (home) {
        reg_home_store(c, op->dst, H_RAX);
    }
    flags_written(c);
}

static void body_shld(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    bool memory = op->flags & IRF_DST_MEM, by_imm = op->flags & IRF_SRC_IMM;
    unsigned flags = emit_size(op->size);

    /* a source that lives in memory borrows rdx: rax and rcx are the destination and the count */
    bool borrow = !in_host(op->src);
    if (memory) {
        flags_need_keep_rax(c);
    } else {
        flags_need(c);
    }
    struct rm rm = memory ? guest_mem() : reg_rm(op->dst);
    bool home = !memory && rm.mem;
    if (home) {
        emit_load(e, 8, H_RAX, rm);
        rm = rm_reg(H_RAX);
    }
    unsigned src = borrow ? H_RDX : t0_host_reg[op->src];
    if (borrow && by_imm) {
        emit_load(e, 8, H_RCX, cpu_rm(t0_home(op->src), 0));
        src = H_RCX;
        borrow = false;
    }
    if (borrow && !memory && !home && rm.base == H_RDX) {
        emit_mov_rr(e, 8, H_RAX, H_RDX); /* the destination is rdx itself */
        rm = rm_reg(H_RAX);
    }
    if (borrow) {
        emit_store(e, 8, H_RDX, cpu_rm(CPU_OFF(temp) + 24, 0));
        emit_load(e, 8, H_RDX, cpu_rm(t0_home(op->src), 0));
    }
    if (!by_imm) {
        emit_mov_rr(e, 4, H_RCX, t0_host_reg[IR_RCX]);
    }
    emit_insn(e, flags, 1, (op->sub ? 0xac : 0xa4) + (by_imm ? 0 : 1), src, rm);
    if (by_imm) {
        emit8(e, (uint8_t)op->imm);
    }
    if (borrow) {
        emit_load(e, 8, H_RDX, cpu_rm(CPU_OFF(temp) + 24, 0));
        if (op->dst == IR_RDX && !memory) {
            emit_mov_rr(e, 8, H_RDX, H_RAX);
        }
    }
    if (home) {
        reg_home_store(c, op->dst, H_RAX);
    }
    flags_written(c);
}

static void body_imul(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned flags = emit_size(op->size);
    struct rm rm = op->flags & IRF_SRC_MEM ? guest_mem() : reg_rm(op->src);
    unsigned dst = in_host(op->dst) ? t0_host_reg[op->dst] : H_RCX;

    if (dst == H_RCX && (op->size == 2 || !(op->flags & IRF_SRC_IMM))) {
        emit_load(e, 8, H_RCX, cpu_rm(t0_home(op->dst), 0));
    }
    if (op->flags & IRF_SRC_IMM) {
        bool small = op->imm >= -128 && op->imm <= 127;
        emit_insn(e, flags, 0, small ? 0x6b : 0x69, dst, rm);
        emit_imm(e, small ? 1 : op->size, op->imm);
    } else {
        emit_insn(e, flags, 1, 0xaf, dst, rm);
    }
    if (dst == H_RCX) {
        reg_home_store(c, op->dst, H_RCX);
    }
    flags_written(c);
}

static void body_mul(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned flags = emit_size(op->size) & ~(unsigned)EMIT_BYTE;
    struct rm rm = reg_rm(op->src);
    if (op->flags & IRF_SRC_MEM) {
        emit_mov_rr(e, 8, H_RCX, H_RAX);
        rm = rm_mem(H_RCX, 0);
    }
    emit_mov_rr(e, 8, H_RAX, t0_host_reg[IR_RAX]);
    emit_insn(e, flags, 0, op->size == 1 ? 0xf6 : 0xf7, op->sub ? 5 : 4, rm);
    emit_mov_rr(e, 8, t0_host_reg[IR_RAX], H_RAX);
    flags_written(c);
}

/* Division without the cases that fault or are rare: those go to the interpreter. Sizes 4 and 8, divisor in a register. */
static void compile_div(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    if (op->size < 4 || op->flags & IRF_SRC_MEM || op->src == IR_RAX || op->src == IR_RDX) {
        fallback(c, op);
        return;
    }
    flags_clobber(c);
    unsigned before = c->flags;
    unsigned src = reg_value(c, op->src, H_RCX);
    uint8_t *site[2];
    unsigned sites = 0;
    if (!op->sub) {
        emit_sized(e, op->size, 0, 0x3a, H_RDX, rm_reg(src)); /* cmp rdx, src: quotient overflows or src == 0 */
        site[sites++] = emit_jcc_forward(e, 3);
    } else {
        emit_lea(e, op->size, H_RAX, rm_mem(src, 1));
        emit_alu_imm(e, 0, IR_CMP, op->size, rm_reg(H_RAX), 1); /* src is 0 or -1 */
        site[sites++] = emit_jcc_forward(e, 6);
        emit_mov_rr(e, op->size, H_RAX, t0_host_reg[IR_RAX]);
        emit_insn(e, op->size == 8 ? EMIT_W : 0, 0, 0xc1, 7, rm_reg(H_RAX)); /* sar: is rdx the sign extension? */
        emit8(e, op->size * 8 - 1);
        emit_sized(e, op->size, 0, 0x3a, H_RAX, rm_reg(H_RDX));
        site[sites++] = emit_jcc_forward(e, 5);
    }
    emit_mov_rr(e, 8, H_RAX, t0_host_reg[IR_RAX]);
    emit_insn(e, op->size == 8 ? EMIT_W : 0, 0, 0xf7, op->sub ? 7 : 6, rm_reg(src));
    emit_mov_rr(e, 8, t0_host_reg[IR_RAX], H_RAX);
    /* Flags are undefined after DIV: keep what was saved, as the interpreter does. */
    c->flags = before;
    for (unsigned i = 0; i < sites; i++) {
        cold_add(c, COLD_INTERPRET, site[i]);
    }
}

static void body_bit(struct ctx *c, const struct ir_op *op)
{
    static const uint8_t by_reg[] = {0xa3, 0xab, 0xb3, 0xbb};
    struct emitter *e = c->e;
    bool memory = op->flags & IRF_DST_MEM;
    unsigned flags = (op->flags & IRF_LOCK ? EMIT_LOCK : 0) | emit_size(op->size);

    bool by_reg_offset = !(op->flags & IRF_SRC_IMM);
    struct rm rm = memory ? guest_mem() : reg_rm(op->dst);
    unsigned src = by_reg_offset ? reg_value(c, op->src, H_RCX) : 0;
    if (memory && by_reg_offset) {
        /* rax already points to the word; what is left is the offset in it. EFLAGS are free: a look-up was made. */
        if (src != H_RCX) {
            emit_mov_rr(e, 4, H_RCX, src);
        }
        emit_alu_imm(e, 0, IR_AND, 4, rm_reg(H_RCX), op->size * 8 - 1);
        src = H_RCX;
    }
    if (memory) {
        flags_need_keep_rax(c);
    } else {
        flags_need(c);
    }
    bool home = !memory && rm.mem;
    if (home) {
        emit_load(e, 8, H_RAX, rm);
        rm = rm_reg(H_RAX);
    }
    if (by_reg_offset) {
        emit_insn(e, flags, 1, by_reg[op->sub], src, rm);
    } else {
        emit_insn(e, flags, 1, 0xba, 4u + op->sub, rm);
        emit8(e, (uint8_t)op->imm & (op->size * 8 - 1));
    }
    if (home && op->sub != IR_BT) {
        reg_home_store(c, op->dst, H_RAX);
    }
    flags_written(c);
}

static void body_scan(struct ctx *c, const struct ir_op *op)
{
    static const struct {
        uint8_t opcode, prefix;
    } forms[] = {[IR_BSF] = {0xbc, 0}, [IR_BSR] = {0xbd, 0}, [IR_TZCNT] = {0xbc, EMIT_F3}, [IR_LZCNT] = {0xbd, EMIT_F3},
                 [IR_POPCNT] = {0xb8, EMIT_F3}};
    struct emitter *e = c->e;
    struct rm rm = op->flags & IRF_SRC_MEM ? guest_mem() : reg_rm(op->src);
    unsigned dst = in_host(op->dst) ? t0_host_reg[op->dst] : H_RCX;
    if (dst == H_RCX) {
        emit_load(e, 8, H_RCX, cpu_rm(t0_home(op->dst), 0));
    }
    emit_insn(e, emit_size(op->size) | forms[op->sub].prefix, 1, forms[op->sub].opcode, dst, rm);
    if (dst == H_RCX) {
        reg_home_store(c, op->dst, H_RCX);
    }
    flags_written(c);
}

static void body_movbe(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    bool store = op->flags & IRF_DST_MEM;
    unsigned flags = op->size == 8 ? EMIT_W : op->size == 2 ? EMIT_66 : 0;
    if (store) {
        emit_insn(e, flags, 2, 0xf1, reg_value(c, op->src, H_RCX), guest_mem());
        return;
    }
    unsigned dst = in_host(op->dst) ? t0_host_reg[op->dst] : H_RCX;
    if (dst == H_RCX) {
        emit_load(e, 8, H_RCX, cpu_rm(t0_home(op->dst), 0));
    }
    emit_insn(e, flags, 2, 0xf0, dst, guest_mem());
    if (dst == H_RCX) {
        reg_home_store(c, op->dst, H_RCX);
    }
}

static void body_crc32(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    struct rm rm = op->flags & IRF_SRC_MEM ? guest_mem() : reg_rm(op->src);
    unsigned dst = in_host(op->dst) ? t0_host_reg[op->dst] : H_RCX;
    unsigned from = op->aux;
    if (dst == H_RCX) {
        emit_load(e, 8, H_RCX, cpu_rm(t0_home(op->dst), 0));
    }
    emit_insn(e, EMIT_F2 | (op->size == 8 ? EMIT_W : 0) | (from == 2 ? EMIT_66 : 0) | (from == 1 ? EMIT_BYTERM : 0), 2,
              from == 1 ? 0xf0 : 0xf1, dst, rm);
    if (dst == H_RCX) {
        reg_home_store(c, op->dst, H_RCX);
    }
}

static void body_cmov(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    if (op->flags & IRF_SRC_MEM) {
        flags_need_keep_rax(c);
    } else {
        flags_need(c);
    }
    struct rm rm = op->flags & IRF_SRC_MEM ? guest_mem() : reg_rm(op->src);
    unsigned dst = in_host(op->dst) ? t0_host_reg[op->dst] : H_RCX;
    if (dst == H_RCX) {
        emit_load(e, 8, H_RCX, cpu_rm(t0_home(op->dst), 0));
    }
    emit_insn(e, emit_size(op->size), 1, 0x40u | op->sub, dst, rm);
    if (dst == H_RCX) {
        reg_home_store(c, op->dst, H_RCX);
    }
}

static void body_setcc(struct ctx *c, const struct ir_op *op)
{
    if (op->flags & IRF_DST_MEM) {
        flags_need_keep_rax(c);
    } else {
        flags_need(c);
    }
    emit_insn(c->e, EMIT_BYTERM, 1, 0x90u | op->sub, 0, op->flags & IRF_DST_MEM ? guest_mem() : reg_rm(op->dst));
}

static void body_xchg(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned size = op->size;
    if (op->flags & IRF_DST_MEM) {
        unsigned src = reg_value(c, op->src, H_RCX);
        emit_sized(e, size, 0, 0x86, src, guest_mem());
        if (src == H_RCX) {
            reg_home_store(c, op->src, H_RCX);
        }
        return;
    }
    if (size == 4 && op->dst == op->src) { /* clears the upper half */
        if (in_host(op->dst)) {
            emit_mov_rr(e, 4, t0_host_reg[op->dst], t0_host_reg[op->dst]);
        } else {
            emit_load(e, 4, H_RCX, cpu_rm(t0_home(op->dst), 0));
            reg_home_store(c, op->dst, H_RCX);
        }
        return;
    }
    unsigned a = reg_value(c, op->dst, H_RAX), b = reg_value(c, op->src, H_RCX);
    emit_sized(e, size, 0, 0x86, a, rm_reg(b));
    if (a == H_RAX) {
        reg_home_store(c, op->dst, H_RAX);
    }
    if (b == H_RCX) {
        reg_home_store(c, op->src, H_RCX);
    }
}

static void body_xadd(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned src = reg_value(c, op->src, H_RCX);
    unsigned lock = op->flags & IRF_LOCK ? EMIT_LOCK : 0;
    emit_insn(e, lock | emit_size(op->size), 1, op->size == 1 ? 0xc0 : 0xc1, src, guest_mem());
    if (src == H_RCX) {
        reg_home_store(c, op->src, H_RCX);
    }
    flags_written(c);
}

/* Memory form. The accumulator is host rax, so the address moves to rcx, and a source that lives in memory borrows rdx. */
static void body_cmpxchg(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned lock = op->flags & IRF_LOCK ? EMIT_LOCK : 0;
    bool borrow = !in_host(op->src);
    unsigned src = borrow ? H_RDX : t0_host_reg[op->src];

    emit_mov_rr(e, 8, H_RCX, H_RAX);
    if (borrow) {
        emit_store(e, 8, H_RDX, cpu_rm(CPU_OFF(temp) + 24, 0));
        emit_load(e, 8, H_RDX, cpu_rm(t0_home(op->src), 0));
    }
    emit_mov_rr(e, 8, H_RAX, t0_host_reg[IR_RAX]);
    emit_insn(e, lock | emit_size(op->size), 1, op->size == 1 ? 0xb0 : 0xb1, src, rm_mem(H_RCX, 0));
    emit_mov_rr(e, 8, t0_host_reg[IR_RAX], H_RAX);
    if (borrow) {
        emit_load(e, 8, H_RDX, cpu_rm(CPU_OFF(temp) + 24, 0));
    }
    flags_written(c);
}

/* CMPXCHG8B/16B: rcx is taken by the instruction, the address borrows rsi. */
static void body_cmpxchg16(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    flags_need_keep_rax(c); /* only ZF changes */
    emit_store(e, 8, H_RSI, cpu_rm(CPU_OFF(temp) + 24, 0));
    emit_mov_rr(e, 8, H_RSI, H_RAX);
    emit_mov_rr(e, 8, H_RAX, t0_host_reg[IR_RAX]);
    emit_mov_rr(e, 8, H_RCX, t0_host_reg[IR_RCX]);
    emit_insn(e, (op->flags & IRF_LOCK ? EMIT_LOCK : 0) | (op->size == 16 ? EMIT_W : 0), 1, 0xc7, 1, rm_mem(H_RSI, 0));
    emit_load(e, 8, H_RSI, cpu_rm(CPU_OFF(temp) + 24, 0));
    emit_mov_rr(e, 8, t0_host_reg[IR_RAX], H_RAX);
    flags_written(c);
}

/* --- stack -------------------------------------------------------------------------------------------------- */

static void body_push(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    if (op->flags & IRF_PCREL) {
        emit_load(e, 8, H_RCX, cpu_rm(CPU_OFF(pc_base), 0));
        emit_lea(e, 8, H_RCX, rm_mem(H_RCX, (int32_t)op->imm));
        emit_store(e, op->size, H_RCX, guest_mem());
    } else if (op->flags & IRF_SRC_IMM) {
        emit_insn(e, emit_size(op->size), 0, 0xc7, 0, guest_mem());
        emit_imm(e, op->size, op->imm);
    } else if (op->flags & IRF_SRC_MEM) {
        emit_load(e, 8, H_RCX, cpu_rm(CPU_OFF(temp) + 16, 0));
        emit_store(e, op->size, H_RCX, guest_mem());
    } else {
        emit_store(e, op->size, reg_value(c, op->src, H_RCX), guest_mem());
    }
    unsigned rsp = t0_host_reg[IR_RSP];
    emit_lea(e, 8, rsp, rm_mem(rsp, -(int32_t)op->size));
}

/* rsp - size -> rax, looked up for writing. */
static void push_lookup(struct ctx *c, unsigned size)
{
    emit_lea(c->e, 8, H_RAX, rm_mem(t0_host_reg[IR_RSP], -(int32_t)size));
    emit_lookup(c, MMU_WRITE, size);
}

static void compile_push(struct ctx *c, const struct ir_op *op)
{
    flags_clobber(c);
    if (op->flags & IRF_SRC_MEM) {
        emit_ea(c);
        emit_lookup(c, MMU_READ, op->size);
        emit_load(c->e, op->size, H_RCX, guest_mem());
        emit_store(c->e, 8, H_RCX, cpu_rm(CPU_OFF(temp) + 16, 0));
    }
    push_lookup(c, op->size);
    body_push(c, op);
}

static void compile_pop(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned rsp = t0_host_reg[IR_RSP];
    if (op->flags & IRF_DST_MEM) {
        fallback(c, op);
        return;
    }
    flags_clobber(c);
    emit_mov_rr(e, 8, H_RAX, rsp);
    emit_lookup(c, MMU_READ, op->size);
    emit_load(e, op->size, H_RCX, guest_mem());
    emit_lea(e, 8, rsp, rm_mem(rsp, op->size));
    if (op->size == 2) {
        emit_store(e, 2, H_RCX, cpu_rm(CPU_OFF(temp) + 16, 0));
        if (in_host(op->dst)) {
            emit_load(e, 2, t0_host_reg[op->dst], cpu_rm(CPU_OFF(temp) + 16, 0));
        } else {
            emit_store(e, 2, H_RCX, cpu_rm(t0_home(op->dst), 0));
        }
    } else if (in_host(op->dst)) {
        emit_mov_rr(e, 8, t0_host_reg[op->dst], H_RCX);
    } else {
        reg_home_store(c, op->dst, H_RCX);
    }
}

static void compile_leave(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    if (op->size != 8) {
        fallback(c, op);
        return;
    }
    flags_clobber(c);
    emit_mov_rr(e, 8, H_RAX, t0_host_reg[IR_RBP]);
    emit_lookup(c, MMU_READ, 8);
    emit_lea(e, 8, t0_host_reg[IR_RSP], rm_mem(t0_host_reg[IR_RBP], 8));
    emit_load(e, 8, t0_host_reg[IR_RBP], guest_mem());
}

/* --- vector instructions ------------------------------------------------------------------------------------ */

static bool vec_native(const struct x86_vec_insn *insn)
{
    return !(insn->flags & VECF_IMPLICIT);
}

/* MMX registers are the x87 unit's; EMMS has no operand at all. */
static bool vec_uses_x87(const struct x86_vec_insn *insn)
{
    return insn->reg == VEC_MMX || insn->rm == VEC_MMX || (insn->reg == VEC_NONE && insn->rm == VEC_NONE);
}

/* Sees to it that the guest's x87 state is in the host's unit. Destroys EFLAGS (saved before). */
static void x87_load(struct ctx *c)
{
    struct emitter *e = c->e;
    if (c->x87_loaded) {
        return;
    }
    flags_clobber(c);
    emit_alu_imm(e, 0, IR_CMP, 1, cpu_rm(CPU_OFF(x87_live), 0), 0);
    struct cold *cold = cold_add(c, COLD_X87, emit_jcc_forward(e, 4));
    cold->back = emit_rx(e);
    c->x87_loaded = true;
}

static bool vec_is_gpr(unsigned kind)
{
    return kind == VEC_GPR || kind == VEC_GPR32 || kind == VEC_GPR64;
}

static unsigned vec_mem_bytes(const struct x86_vec_insn *insn, const struct ir_op *op)
{
    return insn->flags & VECF_MEM_W64 && op->size == 8 ? 8 : insn->mem_bytes;
}

/* The instruction itself with xmm registers unchanged, general registers mapped and memory at [rax]. */
static void body_vec(struct ctx *c, const struct ir_op *op)
{
    const struct x86_vec_insn *insn = &x86_vec_insns[op->aux];
    struct emitter *e = c->e;
    unsigned flags = (op->size == 8 ? EMIT_W : 0) | (insn->prefix == 0x66   ? EMIT_66
                                                     : insn->prefix == 0xf2 ? EMIT_F2
                                                     : insn->prefix == 0xf3 ? EMIT_F3
                                                                            : 0);
    bool memory = op->flags & (IRF_SRC_MEM | IRF_DST_MEM);
    unsigned reg = insn->modrm_ext != 0xff ? insn->modrm_ext : op->dst;
    unsigned home = IR_NONE;

    if (insn->modrm_ext == 0xff && vec_is_gpr(insn->reg)) {
        if (in_host(reg)) {
            reg = t0_host_reg[reg];
        } else {
            home = reg;
            reg = H_RCX;
        }
    }
    struct rm rm;
    if (memory) {
        rm = guest_mem();
    } else if (vec_is_gpr(insn->rm)) {
        if (in_host(op->src)) {
            rm = rm_reg(t0_host_reg[op->src]);
        } else {
            rm = rm_reg(H_RCX);
            if (insn->flags & VECF_RM_W) {
                home = op->src;
            } else {
                emit_load(e, 8, H_RCX, cpu_rm(t0_home(op->src), 0));
            }
        }
    } else {
        rm = rm_reg(op->src);
    }
    if (insn->reg == VEC_NONE && insn->rm == VEC_NONE) {
        emit8(e, 0x0f); /* EMMS */
        emit8(e, insn->opcode);
        return;
    }
    emit_insn(e, flags, insn->map, insn->opcode, reg, rm);
    if (insn->flags & VECF_IMM8) {
        emit8(e, (uint8_t)op->imm);
    }
    if (home != IR_NONE) {
        reg_home_store(c, home, H_RCX);
    }
    if (insn->flags & VECF_FLAGS_W) {
        flags_written(c);
    }
}

static void compile_vec(struct ctx *c, const struct ir_op *op)
{
    const struct x86_vec_insn *insn = &x86_vec_insns[op->aux];
    if (!vec_native(insn)) {
        fallback(c, op);
        return;
    }
    if (vec_uses_x87(insn)) {
        x87_load(c);
    }
    if (!(op->flags & (IRF_SRC_MEM | IRF_DST_MEM))) {
        body_vec(c, op);
        return;
    }
    bool write = insn->flags & VECF_RM_W;
    unsigned size = vec_mem_bytes(insn, op);
    flags_clobber(c);
    emit_ea(c);
    if (insn->flags & VECF_ALIGN) {
        emit8(c->e, 0xa8); /* test al, 15 */
        emit8(c->e, (uint8_t)(size - 1));
        cold_add(c, COLD_INTERPRET, emit_jcc_forward(c->e, 5));
    }
    emit_lookup(c, write ? MMU_WRITE : MMU_READ, size);
    body_vec(c, op);
}

/* --- x87 ---------------------------------------------------------------------------------------------------- */

static void body_x87(struct ctx *c, const struct ir_op *op)
{
    unsigned opcode = 0xd8 | op->aux >> 8, modrm = op->aux & 0xff;
    if (modrm < 0xc0) {
        emit_insn(c->e, 0, 0, opcode, modrm >> 3 & 7, guest_mem());
        return;
    }
    emit8(c->e, opcode);
    emit8(c->e, modrm);
}

/* Environment and control-word loads and stores: they show or unmask what the host's unit has of its own. */
static bool x87_in_c(unsigned opcode, unsigned modrm)
{
    unsigned ext = modrm >> 3 & 7;
    return modrm < 0xc0 && ((opcode == 1 && ext >= 4 && ext <= 6) || (opcode == 5 && (ext == 4 || ext == 6)));
}

static void compile_x87(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned opcode = op->aux >> 8, modrm = op->aux & 0xff, ext = modrm >> 3 & 7;
    if (x87_in_c(opcode, modrm)) {
        fallback(c, op);
        return;
    }
    x87_load(c);
    if (modrm < 0xc0) {
        bool write;
        unsigned size = x86_x87_mem(opcode, modrm, &write);
        flags_clobber(c);
        emit_ea(c);
        emit_lookup(c, write ? MMU_WRITE : MMU_READ, size);
        body_x87(c, op);
        return;
    }
    if (opcode == 7 && modrm == 0xe0) { /* FNSTSW AX */
        body_x87(c, op);
        emit_mov_rr(e, 2, t0_host_reg[IR_RAX], H_RAX);
        return;
    }
    bool compares = (opcode == 3 || opcode == 7) && (ext == 5 || ext == 6); /* FCOMI, FUCOMI, FCOMIP, FUCOMIP */
    bool moves = (opcode == 2 || opcode == 3) && ext < 4;                  /* FCMOVcc */
    if (compares || moves) {
        flags_need(c);
    }
    body_x87(c, op);
    if (compares) {
        flags_written(c);
    }
}

/* --- control flow ------------------------------------------------------------------------------------------- */

/* Flags are SAVED; rax = rip is loaded; goes to the jump thunk. */
static void emit_far(struct ctx *c, int64_t target)
{
    emit_load(c->e, 8, H_RAX, cpu_rm(CPU_OFF(pc_base), 0));
    if (target == (int32_t)target) {
        emit_lea(c->e, 8, H_RAX, rm_mem(H_RAX, (int32_t)target));
    } else {
        emit_mov_imm(c->e, H_RCX, (uint64_t)target);
        emit_lea(c->e, 8, H_RAX, rm_sib(H_RAX, H_RCX, 0, 0));
    }
    emit_jmp(c->e, c->thunks->jump);
}

static bool linkable(const struct ctx *c, int64_t target)
{
    return target >= 0 && target < 4096 && !c->straddles;
}

/* Goes to `target` always (cc < 0) or if `cc` holds (flags in EFLAGS). */
static void emit_goto(struct ctx *c, int cc, int64_t target)
{
    struct emitter *e = c->e;
    if (linkable(c, target)) {
        if (c->link_count == LINKS_MAX) {
            c->full = true;
            return;
        }
        emit_align(e, 4, cc < 0 ? 1 : 2);
        uint8_t *site = cc < 0 ? emit_jmp_forward(e) : emit_jcc_forward(e, (unsigned)cc);
        struct cold *cold = cold_add(c, COLD_LINK, site);
        cold->target = c->link_count;
        c->links[c->link_count++] = (struct t0_link){
            .site = site, .from = c->block, .target = (uint16_t)target, .flags = (uint8_t)c->flags};
        return;
    }
    if (cc < 0) {
        if (c->flags == T0_HOST) {
            flags_clobber(c);
        }
        emit_far(c, target);
        return;
    }
    struct cold *cold = cold_add(c, COLD_FAR, emit_jcc_forward(e, (unsigned)cc));
    cold->target = target;
}

static void compile_jcc(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    if (c->flags == T0_SAVED && op->sub < 12) {
        /* One bit (two for BE) of the saved image decides: no need to restore. */
        static const struct {
            uint8_t byte, mask;
        } bits[] = {{0, 1}, {1, FLAG_CF}, {1, FLAG_ZF}, {1, FLAG_CF | FLAG_ZF}, {1, FLAG_SF}, {1, FLAG_PF}};
        emit_insn(e, 0, 0, 0xf6, 0, cpu_rm(CPU_OFF(saved_flags) + bits[op->sub / 2].byte, 0));
        emit8(e, bits[op->sub / 2].mask);
        emit_goto(c, op->sub & 1 ? 4 : 5, op->imm);
        return;
    }
    flags_need(c);
    emit_goto(c, op->sub, op->imm);
}

static void compile_jrcxz(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned counter = t0_host_reg[IR_RCX];
    unsigned size = op->aux == 8 ? 8 : 4;
    if (op->aux == 2) {
        c->full = true; /* cannot be encoded in 64-bit code */
        return;
    }
    if (op->sub != IR_LOOP_NONE) {
        emit_lea(e, size, counter, rm_mem(counter, -1));
        if (op->sub != IR_LOOP) {
            flags_need(c);
        }
    }
    emit_mov_rr(e, size, H_RCX, counter);
    if (op->sub == IR_LOOP_NONE) {
        emit8(e, 0xe3); /* jrcxz over the jump that skips the exit */
        emit8(e, 5);
        uint8_t *skip = emit_jmp_forward(e);
        unsigned flags = c->flags;
        emit_goto(c, -1, op->imm);
        c->flags = flags;
        emit_bind(e, skip);
        return;
    }
    emit8(e, 0xe3); /* jrcxz: count is used up */
    emit8(e, 2);
    emit8(e, 0xeb);
    emit8(e, 5);
    uint8_t *done = emit_jmp_forward(e);
    uint8_t *other = op->sub == IR_LOOP ? NULL : emit_jcc_forward(e, op->sub == IR_LOOPE ? 5 : 4);
    unsigned flags = c->flags;
    emit_goto(c, -1, op->imm);
    c->flags = flags;
    emit_bind(e, done);
    if (other) {
        emit_bind(e, other);
    }
}

static void compile_jmp_ind(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    flags_clobber(c);
    if (op->flags & IRF_SRC_MEM) {
        emit_ea(c);
        emit_lookup(c, MMU_READ, 8);
        emit_load(e, 8, H_RAX, guest_mem());
    } else {
        unsigned src = reg_value(c, op->src, H_RAX);
        if (src != H_RAX) {
            emit_mov_rr(e, 8, H_RAX, src);
        }
    }
    if (op->flags & IRF_CALL) {
        emit_store(e, 8, H_RAX, cpu_rm(CPU_OFF(temp) + 16, 0));
        push_lookup(c, 8);
        emit_load(e, 8, H_RCX, cpu_rm(CPU_OFF(pc_base), 0));
        emit_lea(e, 8, H_RCX, rm_mem(H_RCX, (int32_t)op->imm));
        emit_store(e, 8, H_RCX, guest_mem());
        emit_lea(e, 8, t0_host_reg[IR_RSP], rm_mem(t0_host_reg[IR_RSP], -8));
        emit_load(e, 8, H_RAX, cpu_rm(CPU_OFF(temp) + 16, 0));
    }
    emit_jmp(e, c->thunks->jump);
}

static void compile_ret(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned rsp = t0_host_reg[IR_RSP];
    flags_clobber(c);
    emit_mov_rr(e, 8, H_RAX, rsp);
    emit_lookup(c, MMU_READ, 8);
    emit_load(e, 8, H_RAX, guest_mem());
    emit_lea(e, 8, rsp, rm_mem(rsp, 8 + (int32_t)op->imm));
    emit_jmp(e, c->thunks->jump);
}

/* --- dispatch ----------------------------------------------------------------------------------------------- */

/* AH..BH have no register of their own: some ops read them through a scratch register, none writes them. */
static bool touches_high_byte(const struct ir_op *op)
{
    bool only_reads = op->op == IR_ALU && (op->sub == IR_CMP || op->sub == IR_TEST);
    if (is_high_byte(op->dst) && !only_reads) {
        return true;
    }
    return is_high_byte(op->src) && op->op != IR_MOV && op->op != IR_MOVZX && op->op != IR_MOVSX && op->op != IR_ALU;
}

static void body(struct ctx *c, const struct ir_op *op)
{
    switch (op->op) {
    case IR_MOV:
        body_mov(c, op);
        break;
    case IR_MOVZX:
    case IR_MOVSX:
        body_extend(c, op);
        break;
    case IR_ALU:
        body_alu(c, op);
        break;
    case IR_UNARY:
        body_unary(c, op);
        break;
    case IR_SHIFT:
        body_shift(c, op);
        break;
    case IR_SHLD:
        body_shld(c, op);
        break;
    case IR_MUL:
        body_mul(c, op);
        break;
    case IR_IMUL:
        body_imul(c, op);
        break;
    case IR_BIT:
        body_bit(c, op);
        break;
    case IR_SCAN:
        body_scan(c, op);
        break;
    case IR_MOVBE:
        body_movbe(c, op);
        break;
    case IR_CRC32:
        body_crc32(c, op);
        break;
    case IR_CMOV:
        body_cmov(c, op);
        break;
    case IR_SETCC:
        body_setcc(c, op);
        break;
    case IR_XCHG:
        body_xchg(c, op);
        break;
    case IR_XADD:
        body_xadd(c, op);
        break;
    case IR_CMPXCHG:
        body_cmpxchg(c, op);
        break;
    case IR_CMPXCHG16:
        body_cmpxchg16(c, op);
        break;
    default:
        c->full = true;
    }
}

/* How an op with a memory operand uses it, and how much of it. */
static enum mmu_access access_of(const struct ir_op *op, unsigned *ret_size)
{
    *ret_size = op->size;
    switch (op->op) {
    case IR_MOVZX:
    case IR_MOVSX:
    case IR_CRC32:
        *ret_size = op->aux;
        return MMU_READ;
    case IR_SETCC:
        *ret_size = 1;
        return MMU_WRITE;
    case IR_MOV:
    case IR_MOVBE:
        return op->flags & IRF_DST_MEM ? MMU_WRITE : MMU_READ;
    case IR_ALU:
        if (op->sub == IR_CMP || op->sub == IR_TEST) {
            return MMU_READ;
        }
        break;
    case IR_BIT:
        if (op->sub == IR_BT) {
            return MMU_READ;
        }
        break;
    case IR_XCHG:
        return MMU_WRITE;
    default:
        break;
    }
    return op->flags & IRF_DST_MEM ? MMU_WRITE : MMU_READ;
}

static void compile_plain(struct ctx *c, const struct ir_op *op)
{
    if (!(op->flags & (IRF_DST_MEM | IRF_SRC_MEM))) {
        body(c, op);
        return;
    }
    unsigned size;
    enum mmu_access access = access_of(op, &size);
    flags_clobber(c);
    emit_ea(c);
    if (op->op == IR_BIT && !(op->flags & IRF_SRC_IMM)) {
        /* bit string: move to the word that holds the bit */
        unsigned shift = size == 8 ? 6 : 5;
        emit_mov_rr(c->e, 8, H_RCX, reg_value(c, op->src, H_RCX));
        if (size == 4) {
            emit_insn(c->e, EMIT_W, 0, 0x63, H_RCX, rm_reg(H_RCX));
        }
        emit_insn(c->e, EMIT_W, 0, 0xc1, 7, rm_reg(H_RCX));
        emit8(c->e, shift);
        emit_lea(c->e, 8, H_RAX, rm_sib(H_RAX, H_RCX, size == 8 ? 3 : 2, 0));
    }
    if (op->op == IR_CMPXCHG16 && size == 16) { /* must be aligned: #GP */
        emit8(c->e, 0xa8);                      /* test al, 15 */
        emit8(c->e, 15);
        cold_add(c, COLD_INTERPRET, emit_jcc_forward(c->e, 5));
    }
    emit_lookup(c, access, size);
    body(c, op);
}

static void compile_lea(struct ctx *c, const struct ir_op *op)
{
    unsigned size = op->size == 8 && op->aux == 8 ? 8 : 4;
    if (op->size >= 4 && op->aux >= 4) {
        unsigned dst = in_host(op->dst) ? t0_host_reg[op->dst] : H_RAX;
        emit_sum(c, op, size, dst);
        if (dst == H_RAX) {
            reg_home_store(c, op->dst, H_RAX);
        }
        return;
    }
    emit_sum(c, op, 4, H_RAX);
    if (op->aux == 2) {
        emit_insn(c->e, 0, 1, 0xb7, H_RAX, rm_reg(H_RAX));
    }
    if (op->size == 2) {
        emit_store(c->e, 2, H_RAX, reg_rm(op->dst));
    } else if (in_host(op->dst)) {
        emit_mov_rr(c->e, 4, t0_host_reg[op->dst], H_RAX);
    } else {
        reg_home_store(c, op->dst, H_RAX);
    }
}

static void compile_convert(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    unsigned flags = op->size == 8 ? EMIT_W : op->size == 2 ? EMIT_66 : 0;
    unsigned rax = t0_host_reg[IR_RAX];
    if (op->sub == 0) {
        if (op->size == 8) {
            emit_insn(e, flags, 0, 0x63, rax, rm_reg(rax));
        } else {
            emit_insn(e, flags | EMIT_BYTERM, 1, op->size == 4 ? 0xbf : 0xbe, rax, rm_reg(rax));
        }
        return;
    }
    emit_mov_rr(e, 8, H_RAX, rax);
    if (op->size == 2) {
        emit8(e, 0x66);
    } else if (op->size == 8) {
        emit8(e, 0x48);
    }
    emit8(e, 0x99); /* cwd/cdq/cqo: rdx is the guest's */
}

static void compile_flagop(struct ctx *c, const struct ir_op *op)
{
    static const uint8_t opcode[] = {[IR_CLC] = 0xf8, [IR_STC] = 0xf9, [IR_CMC] = 0xf5};
    switch (op->sub) {
    case IR_CLC:
    case IR_STC:
    case IR_CMC:
        flags_need(c);
        emit8(c->e, opcode[op->sub]);
        flags_written(c);
        break;
    case IR_CLD:
        flags_clobber(c);
        emit_alu_imm(c->e, 0, IR_AND, 4, cpu_rm(CPU_OFF(rflags), 0), ~(int64_t)FLAG_DF);
        break;
    default:
        fallback(c, op);
    }
}

static void compile_nop(struct ctx *c, const struct ir_op *op)
{
    struct emitter *e = c->e;
    switch (op->sub) {
    case IR_NOP_PAUSE:
        emit8(e, 0xf3);
        emit8(e, 0x90);
        break;
    case IR_NOP_LFENCE:
    case IR_NOP_SFENCE:
    case IR_NOP_MFENCE:
        emit8(e, 0x0f);
        emit8(e, 0xae);
        emit8(e, op->sub == IR_NOP_LFENCE ? 0xe8 : op->sub == IR_NOP_MFENCE ? 0xf0 : 0xf8);
        break;
    default:
        break;
    }
}

static void compile_op(struct ctx *c, const struct ir_op *op)
{
    if (op->op > IR_LEA && op->op < IR_VEC && touches_high_byte(op)) {
        fallback(c, op);
        return;
    }
    switch (op->op) {
    case IR_INSN:
        c->insn_pc = op->pc;
        c->insn_len = op->aux;
        c->ea = NULL;
        break;
    case IR_EA:
        c->ea = op;
        break;
    case IR_LEA:
        compile_lea(c, op);
        break;
    case IR_PUSH:
        compile_push(c, op);
        break;
    case IR_POP:
        compile_pop(c, op);
        break;
    case IR_LEAVE:
        compile_leave(c, op);
        break;
    case IR_DIV:
        compile_div(c, op);
        break;
    case IR_CMPXCHG:
    case IR_XADD:
        if (op->flags & IRF_DST_MEM) {
            compile_plain(c, op);
        } else {
            fallback(c, op);
        }
        break;
    case IR_BIT:
        /* Bit strings only where neither address truncation nor a segment comes after the displacement. */
        if (op->size == 2 || (!(op->flags & IRF_SRC_IMM) && op->flags & (IRF_DST_MEM | IRF_SRC_MEM) &&
                              (op->src2 != IR_NONE || op->aux != 8))) {
            fallback(c, op);
        } else {
            compile_plain(c, op);
        }
        break;
    case IR_BSWAP:
        if (op->size != 2 && in_host(op->dst)) {
            unsigned reg = t0_host_reg[op->dst];
            emit8(c->e, 0x40 | (op->size == 8 ? 8 : 0) | (reg >= 8 ? 1 : 0));
            emit8(c->e, 0x0f);
            emit8(c->e, 0xc8 | (reg & 7));
        } else {
            fallback(c, op);
        }
        break;
    case IR_MOV:
    case IR_MOVZX:
    case IR_MOVSX:
    case IR_ALU:
    case IR_UNARY:
    case IR_SHIFT:
    case IR_SHLD:
    case IR_MUL:
    case IR_IMUL:
    case IR_SCAN:
    case IR_MOVBE:
    case IR_CRC32:
    case IR_CMOV:
    case IR_SETCC:
    case IR_XCHG:
    case IR_CMPXCHG16:
        compile_plain(c, op);
        break;
    case IR_CONVERT:
        compile_convert(c, op);
        break;
    case IR_FLAGOP:
        compile_flagop(c, op);
        break;
    case IR_NOP:
        compile_nop(c, op);
        break;
    case IR_VEC:
        compile_vec(c, op);
        break;
    case IR_X87:
        compile_x87(c, op);
        break;
    case IR_SYS:
        fallback(c, op);
        break;
    case IR_JCC:
        compile_jcc(c, op);
        break;
    case IR_JRCXZ:
        compile_jrcxz(c, op);
        break;
    case IR_JMP:
    case IR_END:
        emit_goto(c, -1, op->imm);
        break;
    case IR_JMP_IND:
        compile_jmp_ind(c, op);
        break;
    case IR_RET:
        compile_ret(c, op);
        break;
    default: /* IR_STRING */
        fallback(c, op);
    }
}

/* --- cold parts --------------------------------------------------------------------------------------------- */

static void compile_cold(struct ctx *c, struct cold *cold, struct t0_link *links)
{
    struct emitter *e = c->e;
    emit_bind(e, cold->site);
    c->flags = cold->flags;
    switch (cold->kind) {
    case COLD_LINK:
        emit_mov_imm(e, H_RCX, (uint64_t)&links[cold->target]);
        emit_align(e, 4, 1);
        emit_jmp(e, c->thunks->exit_link[cold->flags & T0_SAVED ? 0 : 1]);
        c->links[cold->target].stub_site = e->p - 4;
        break;
    case COLD_FAR:
        flags_clobber(c);
        emit_far(c, cold->target);
        break;
    case COLD_INTERPRET:
        emit_mov_imm(e, H_RCX, cold->pc);
        emit_jmp(e, c->thunks->interpret);
        break;
    case COLD_X87:
        emit_mov_imm(e, H_RCX, cold->pc);
        emit_call(e, c->thunks->x87_load);
        emit_jmp(e, cold->back);
        break;
    case COLD_ACCESS:
        emit_insn(e, EMIT_W, 0, 0x33, H_RAX,
                  rm_mem(H_RCX, (int32_t)offsetof(struct mmu_tlb_entry, tag) + cold->access * 8));
        emit_mov_imm(e, H_RCX, cold->pc | (uint32_t)cold->size << 16 | (uint32_t)cold->access << 24);
        emit_call(e, c->thunks->slow);
        emit_jmp(e, cold->back);
        break;
    }
}

/* Places the copies of ops and points their users to them. */
static void emit_data(struct ctx *c)
{
    struct emitter *e = c->e;
    emit_align(e, 8, 0);
    for (unsigned i = 0; i < c->data_count; i++) {
        if (e->end - e->p < (ptrdiff_t)sizeof(struct ir_op)) {
            e->overflow = true;
            return;
        }
        emit_bind(e, c->data[i].site);
        memcpy(e->p, c->data[i].op, sizeof(struct ir_op));
        e->p += sizeof(struct ir_op);
    }
}

/* --- blocks ------------------------------------------------------------------------------------------------- */

/* What the block does with the flags first: reads them, destroys EFLAGS, or writes all of them. */
static unsigned entry_flags(const struct ir_block *ir)
{
    for (unsigned i = 0; i < ir->op_count; i++) {
        const struct ir_op *op = &ir->ops[i];
        bool memory = op->flags & (IRF_DST_MEM | IRF_SRC_MEM);
        switch (op->op) {
        case IR_INSN:
        case IR_EA:
        case IR_LEA:
        case IR_CONVERT:
        case IR_BSWAP:
        case IR_NOP:
            continue;
        case IR_JCC:
        case IR_JRCXZ:
        case IR_JMP:
        case IR_END:
            return T0_HOST;
        case IR_MOV:
        case IR_MOVZX:
        case IR_MOVSX:
        case IR_CRC32:
        case IR_XCHG:
            if (memory || touches_high_byte(op)) {
                return T0_SAVED;
            }
            continue;
        case IR_SETCC:
        case IR_CMOV:
        case IR_BIT:
        case IR_SHLD:
            return memory || touches_high_byte(op) || op->size == 2 ? T0_SAVED : T0_HOST;
        case IR_UNARY:
            if (memory || touches_high_byte(op)) {
                return T0_SAVED;
            }
            if (op->sub == IR_NOT) {
                continue;
            }
            return op->sub == IR_NEG ? 0 : T0_HOST;
        case IR_SHIFT:
            if (memory || touches_high_byte(op)) {
                return T0_SAVED;
            }
            return op->flags & IRF_SRC_IMM && op->imm & (op->size == 8 ? 63 : 31) && op->sub >= IR_SHL ? 0 : T0_HOST;
        case IR_ALU:
            if (memory || touches_high_byte(op)) {
                return T0_SAVED;
            }
            return op->sub == IR_ADC || op->sub == IR_SBB ? T0_HOST : 0;
        case IR_IMUL:
        case IR_SCAN:
            return memory ? T0_SAVED : 0;
        case IR_FLAGOP:
            return op->sub <= IR_CMC ? T0_HOST : T0_SAVED;
        case IR_VEC: {
            const struct x86_vec_insn *insn = &x86_vec_insns[op->aux];
            if (memory || !vec_native(insn) || vec_uses_x87(insn)) {
                return T0_SAVED;
            }
            if (insn->flags & VECF_FLAGS_W) {
                return 0;
            }
            continue;
        }
        default:
            return T0_SAVED;
        }
    }
    return T0_HOST;
}

/* A poll: leaves through `stub` (just before it) when x86_cpu.run is 0. Two-byte aligned, so that t0_kill() can replace its
 * first two bytes by a short jump to the stub. */
static void emit_poll(struct ctx *c, unsigned flags, struct t0_block *t0, unsigned which)
{
    struct emitter *e = c->e;
    uint8_t *stub = e->p;
    emit8(e, 0xb9);
    emit32(e, c->block->gpa & 0xfff);
    emit_jmp(e, c->thunks->exit_poll[flags == T0_SAVED ? 0 : 1]);
    emit_align(e, 16, 0);
    t0->poll_stub[which] = stub;
    t0->poll[which] = e->p;
    _Static_assert(offsetof(struct x86_cpu, run) == 0, "poll is mov ecx, [rsp]");
    emit_load(e, 4, H_RCX, cpu_rm(CPU_OFF(run), 0));
    emit8(e, 0xe3);
    emit8(e, (uint8_t)(stub - (e->p + 1)));
}

static void emit_entries(struct ctx *c, struct t0_block *t0)
{
    struct emitter *e = c->e;
    unsigned native = entry_flags(c->ir);
    if (native == 0) {
        /* Nobody sees the flags before they are written; but a poll must leave them where they are. */
        emit_poll(c, T0_SAVED, t0, 0);
        t0->entry[0] = t0->poll[0] + e->rx_delta;
        uint8_t *over = emit_jmp_forward(e);
        emit_poll(c, T0_HOST, t0, 1);
        t0->entry[1] = t0->poll[1] + e->rx_delta;
        emit_bind(e, over);
    } else if (native == T0_SAVED) {
        emit_poll(c, T0_SAVED, t0, 0);
        t0->entry[0] = t0->poll[0] + e->rx_delta;
        uint8_t *over = emit_jmp_forward(e);
        t0->entry[1] = emit_rx(e);
        emit_save_flags(e);
        emit_jmp(e, t0->entry[0]);
        emit_bind(e, over);
    } else {
        emit_poll(c, T0_HOST, t0, 1);
        t0->entry[1] = t0->poll[1] + e->rx_delta;
        uint8_t *over = emit_jmp_forward(e);
        t0->entry[0] = emit_rx(e);
        emit_restore_flags(e);
        emit_jmp(e, t0->entry[1]);
        emit_bind(e, over);
    }
    c->flags = native;
}

static void compile_hot(struct ctx *c, struct t0_block *ret_entries)
{
    emit_align(c->e, 16, 0);
    emit_entries(c, ret_entries);
    for (unsigned i = 0; i < c->ir->op_count; i++) {
        compile_op(c, &c->ir->ops[i]);
    }
}

struct t0_block *t0_compile(struct emitter *e, const struct t0_thunks *thunks, struct block *block,
                            const struct ir_block *ir)
{
    struct t0_block entries = {0};
    struct ctx *c = malloc(sizeof(*c));
    if (!c) {
        return NULL;
    }
    c->e = e;
    c->thunks = thunks;
    c->block = block;
    c->ir = ir;
    c->ea = NULL;
    c->insn_pc = c->insn_len = 0;
    c->straddles = block->second_page != 0;
    c->cold_count = c->link_count = c->data_count = 0;
    c->full = c->x87_loaded = false;
    compile_hot(c, &entries);

    struct t0_block *t0 = malloc(sizeof(*t0) + c->link_count * sizeof(c->links[0]));
    if (t0) {
        for (unsigned i = 0; i < c->cold_count; i++) {
            compile_cold(c, &c->cold[i], t0->links);
        }
        emit_data(c);
        *t0 = entries;
        t0->link_count = c->link_count;
        memcpy(t0->links, c->links, c->link_count * sizeof(c->links[0]));
        if (c->full || e->overflow) {
            free(t0);
            t0 = NULL;
        }
    }
    free(c);
    return t0;
}
