/* SPDX-License-Identifier: Apache-2.0 */
/* Where T0 finds what an op works on: registers and their homes, flags, linear addresses, the look-up,
 * interp_op(). */
#include "translator/interp.h"
#include "translator/t0/compile_internal.h"
#include "translator/x86/sys.h"

/* --- registers ------------------------------------------------------------------------------------------ */

/* The host register that holds guest `reg`; a register that lives in memory is loaded into `scratch`, so is
 * AH..BH (zero-extended). Flags stay. */
unsigned t0_reg_value(struct t0_ctx *c, unsigned reg, unsigned scratch)
{
    if (t0_in_host(reg)) {
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

/* Stores a result that was computed in `scratch` for a register that lives in memory. `scratch` holds the
 * full merged or zero-extended value. */
void t0_reg_home_store(struct t0_ctx *c, unsigned reg, unsigned scratch)
{
    emit_store(c->e, 8, scratch, cpu_rm(t0_home(reg), 0));
}

/* A source register as a ModRM operand; AH..BH come through `scratch`. */
struct rm t0_src_rm(struct t0_ctx *c, unsigned reg, unsigned scratch)
{
    return t0_is_high_byte(reg) ? rm_reg(t0_reg_value(c, reg, scratch)) : t0_reg_rm(reg);
}

unsigned t0_result_begin(struct t0_ctx *c, unsigned reg, bool load)
{
    if (t0_in_host(reg)) {
        return t0_host_reg[reg];
    }
    if (load) {
        emit_load(c->e, 8, H_RCX, cpu_rm(t0_home(reg), 0));
    }
    return H_RCX;
}

void t0_result_end(struct t0_ctx *c, unsigned reg, unsigned result)
{
    if (result == H_RCX) {
        t0_reg_home_store(c, reg, H_RCX);
    }
}

struct rm t0_modify_begin(struct t0_ctx *c, unsigned reg)
{
    return rm_reg(t0_reg_value(c, reg, H_RAX));
}

void t0_modify_end(struct t0_ctx *c, unsigned reg)
{
    if (!t0_in_host(reg)) {
        t0_reg_home_store(c, reg, H_RAX);
    }
}

/* --- cold parts ----------------------------------------------------------------------------------------- */

struct t0_cold *t0_cold_add(struct t0_ctx *c, enum t0_cold_kind kind, uint8_t *site)
{
    if (c->cold_count == T0_COLD_MAX) {
        c->full = true;
        return &c->cold[T0_COLD_MAX - 1];
    }
    struct t0_cold *cold = &c->cold[c->cold_count++];
    *cold =
        (struct t0_cold){.kind = kind, .site = site, .flags = (uint8_t)c->flags, .pc = (uint16_t)c->insn_pc};
    return cold;
}

/* --- flags ---------------------------------------------------------------------------------------------- */

void t0_emit_save_flags(struct emitter *e)
{
    emit8(e, 0x9f);                                       /* lahf */
    emit_insn(e, EMIT_BYTERM, 1, 0x90, 0, rm_reg(H_RAX)); /* seto al */
    emit_store(e, 4, H_RAX, cpu_rm(CPU_OFF(saved_flags), 0));
}

void t0_emit_restore_flags(struct emitter *e)
{
    emit_load(e, 4, H_RAX, cpu_rm(CPU_OFF(saved_flags), 0));
    emit8(e, 0x04); /* add al, 0x7f: OF = old bit 0 */
    emit8(e, 0x7f);
    emit8(e, 0x9e); /* sahf */
}

/* EFLAGS is about to be destroyed. Uses rax. */
void t0_flags_clobber(struct t0_ctx *c)
{
    if (c->flags == T0_HOST) {
        t0_emit_save_flags(c->e);
        c->flags = T0_SAVED;
    }
    c->flags &= ~(unsigned)T0_HOST;
}

/* The op reads flags or leaves some unchanged. Uses rax. */
void t0_flags_need(struct t0_ctx *c)
{
    if (c->flags == T0_SAVED) {
        t0_emit_restore_flags(c->e);
        c->flags = T0_SAVED | T0_HOST;
    }
}

/* Same with a host address in rax that must survive. */
void t0_flags_need_keep_rax(struct t0_ctx *c)
{
    if (c->flags == T0_SAVED) {
        emit_store(c->e, 8, H_RAX, cpu_rm(CPU_OFF(temp) + 24, 0));
        t0_emit_restore_flags(c->e);
        emit_load(c->e, 8, H_RAX, cpu_rm(CPU_OFF(temp) + 24, 0));
        c->flags = T0_SAVED | T0_HOST;
    }
}

void t0_flags_written(struct t0_ctx *c)
{
    c->flags = T0_HOST;
}

/* --- addresses ------------------------------------------------------------------------------------------ */

/* src + (src2 << sub) + imm (+ pc_base) -> `dst`, truncated to `size` (4 or 8) bytes, without a segment's
 * base. Flags stay; rax and rcx are used. */
void t0_emit_sum(struct t0_ctx *c, const struct ir_op *ea, unsigned size, unsigned dst)
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
        sum = rm_mem(t0_reg_value(c, ea->src, H_RAX), (int32_t)imm);
        if (imm == 0) {
            emit_mov_rr(e, size, dst, sum.base);
            return;
        }
    } else {
        unsigned index = t0_reg_value(c, ea->src2, H_RCX);
        unsigned base = ea->src == IR_NONE ? H_NONE : t0_reg_value(c, ea->src, H_RAX);
        sum = rm_sib(base, index, ea->sub, (int32_t)imm);
    }
    emit_lea(e, size, dst, sum);
}

/*
 * Leaves an access to the interpreter unless its segment is a writable one that goes up to 4 GiB, as FS and GS of thread and
 * per-CPU data are. Of the others only CS overrides are left, in the flat model.
 */
static void emit_segment_check(struct t0_ctx *c, const struct ir_op *ea)
{
    struct emitter *e = c->e;
    int32_t seg = CPU_OFF(seg) + (int32_t)(ea->dst * sizeof(struct x86_seg));
    if (ea->dst == SEG_CS) { /* readable, never writable */
        if (ea->flags & IRF_WRITE) {
            t0_cold_add(c, T0_COLD_INTERPRET, emit_jmp_forward(e));
        }
        return;
    }
    emit_alu_imm(e, 0, IR_CMP, 4, cpu_rm(seg + (int32_t)offsetof(struct x86_seg, limit), 0), -1);
    t0_cold_add(c, T0_COLD_INTERPRET, emit_jcc_forward(e, 5));
    emit_load(e, 4, H_RCX, cpu_rm(seg + (int32_t)offsetof(struct x86_seg, attr), 0));
    emit_alu_imm(e, 0, IR_AND, 4, rm_reg(H_RCX), SEG_ATTR_UNUSABLE | SEG_TYPE_CODE | SEG_TYPE_DOWN | SEG_TYPE_WRITABLE);
    emit_alu_imm(e, 0, IR_CMP, 4, rm_reg(H_RCX), SEG_TYPE_WRITABLE);
    t0_cold_add(c, T0_COLD_INTERPRET, emit_jcc_forward(e, 5));
}

/* Linear address of the live EA -> rax. Flags are saved already (the segment's base is added). */
void t0_emit_ea(struct t0_ctx *c)
{
    const struct ir_op *ea = c->ea;
    if (ea->flags & IRF_SEGCHECK) {
        emit_segment_check(c, ea);
    }
    struct ir_op sum = *ea;
    if (ea->flags & IRF_POPPED && ea->src == IR_RSP) {
        sum.imm += ea->aux;
    }
    t0_emit_sum(c, &sum, ea->size == 8 ? 8 : 4, H_RAX);
    if (ea->size == 2) {
        emit_insn(c->e, 0, 1, 0xb7, H_RAX, rm_reg(H_RAX));
    }
    if (ea->dst != IR_NONE) {
        int32_t base =
            CPU_OFF(seg) + (int32_t)(ea->dst * sizeof(struct x86_seg) + offsetof(struct x86_seg, base));
        emit_insn(c->e, t0_word(c) == 8 ? EMIT_W : 0, 0, 0x03, H_RAX, cpu_rm(base, 0));
    }
}

/*
 * rax = linear address -> rax = host address of `size` bytes. rcx is used. In the cold part rax is made the
 * linear address again, since it was changed by the comparison only.
 */
void t0_emit_lookup(struct t0_ctx *c, enum mmu_access access, unsigned size)
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

    struct t0_cold *cold = t0_cold_add(c, T0_COLD_ACCESS, site);
    cold->access = (uint8_t)access;
    cold->size = (uint8_t)size;
    cold->back = emit_rx(e);
}

/* --- the interpreter's op ------------------------------------------------------------------------------- */

/* Nothing of the same instruction follows. (The last op of a block ends it anyway.) */
static bool last_of_insn(const struct t0_ctx *c, const struct ir_op *op)
{
    return op + 1 < c->ir->ops + c->ir->op_count && (op[1].op == IR_INSN || op[1].op == IR_END);
}

static bool ends_block(const struct ir_op *op)
{
    return op->op == IR_SYS &&
           (op->flags & IRF_END || op->sub == X86_SYS_LDMXCSR || op->sub == X86_SYS_FXRSTOR ||
            op->sub == X86_SYS_XRSTOR || op->sub == X86_SYS_XRSTORS);
}

static bool in_stack_segment(const struct t0_ctx *c, const struct ir_op *op)
{
    return c->ea && op->flags & (IRF_SRC_MEM | IRF_DST_MEM) && interp_stack_operand(c->ea, op);
}

static uint32_t pcinfo(const struct t0_ctx *c, const struct ir_op *op)
{
    return c->insn_pc | c->insn_len << 16 | (last_of_insn(c, op) ? T0_OP_LAST : 0) | (ends_block(op) ? T0_OP_END : 0) |
           (in_stack_segment(c, op) ? T0_OP_STACK : 0);
}

/* interp_op() for this op. */
void t0_fallback(struct t0_ctx *c, const struct ir_op *op)
{
    t0_flags_clobber(c);
    if (op->flags & (IRF_DST_MEM | IRF_SRC_MEM) && c->ea) {
        t0_emit_ea(c);
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
    c->x87_loaded = c->upper_used = false;
}

void t0_emit_interpret(struct t0_ctx *c)
{
    t0_flags_clobber(c);
    emit_mov_imm(c->e, H_RCX, c->insn_pc);
    emit_jmp(c->e, c->thunks->interpret);
}
