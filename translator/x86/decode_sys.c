/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Front-end handlers of system, x87 and vector instructions, with the #UD/#NM rules that depend on the mode.
 *
 * Order of the checks: undefined encoding or hidden feature (#UD), CR0.EM and CR4.OSFXSR (#UD), CR0.TS (#NM),
 * privilege (#GP); SDM 3A table 6-2.
 */
#include "translator/x86/decode_internal.h"
#include "translator/x86/vec.h"

static struct ir_op *emit_sys(struct decoder *d, enum x86_sys what)
{
    struct ir_op *op = decode_emit(d, IR_SYS);
    op->sub = what;
    return op;
}

/* After it mode, mappings or interrupt state may differ: the block ends here. */
static struct ir_op *emit_sys_end(struct decoder *d, enum x86_sys what)
{
    struct ir_op *op = emit_sys(d, what);
    op->flags |= IRF_END;
    d->ended = true;
    return op;
}

/* With ModRM memory operand; emits IR_EA. */
static struct ir_op *emit_sys_mem(struct decoder *d, enum x86_sys what, unsigned bytes, bool write)
{
    decode_ea(d, bytes, write ? IRF_WRITE : 0);
    struct ir_op *op = emit_sys(d, what);
    op->flags = write ? IRF_DST_MEM : IRF_SRC_MEM;
    return op;
}

static struct ir_op *emit_sys_rm(struct decoder *d, enum x86_sys what, unsigned size, enum rm_access access)
{
    struct ir_op *op = decode_rm(d, IR_SYS, size, access);
    op->sub = what;
    return op;
}

static void mark_end(struct decoder *d, struct ir_op *op)
{
    op->flags |= IRF_END;
    d->ended = true;
}

static bool privileged(struct decoder *d)
{
    if (decode_cpl0(d))
        return false;
    decode_raise(d, X86_SYS_GP);
    return true;
}

/* --- operand-less ------------------------------------------------------------------------------------------- */

/* arg = enum x86_sys */
void decode_sys(struct decoder *d)
{
    emit_sys(d, d->row->arg)->imm = (uint8_t)d->imm;
}

void decode_rdtsc(struct decoder *d)
{
    if (decode_has(d, FEAT_TSC))
        emit_sys(d, X86_SYS_RDTSC);
    else
        decode_ud(d);
}

void decode_sys_end(struct decoder *d)
{
    emit_sys_end(d, d->row->arg);
}

/* PUSHF, POPF, PUSHA, POPA */
void decode_sys_stack(struct decoder *d)
{
    struct ir_op *op = emit_sys(d, d->row->arg);
    op->imm = d->stack_size;
    if (op->sub == X86_SYS_POPF)
        mark_end(d, op);
}

void decode_int(struct decoder *d)
{
    emit_sys_end(d, X86_SYS_INT)->imm = (uint8_t)d->imm;
}

void decode_syscall(struct decoder *d)
{
    enum x86_sys what = d->row->arg;
    bool sep = what == X86_SYS_SYSENTER || what == X86_SYS_SYSEXIT;
    if (sep ? !decode_has(d, FEAT_SEP) : !decode_has(d, FEAT_SYSCALL) || !decode_is64(d))
        decode_ud(d);
    else if ((what == X86_SYS_SYSRET || what == X86_SYS_SYSEXIT) && privileged(d))
        return;
    else
        emit_sys_end(d, what);
}

void decode_fwait(struct decoder *d)
{
    if ((d->mode & (MODE_MP | MODE_NM)) == (MODE_MP | MODE_NM))
        decode_raise(d, X86_SYS_NM);
    else
        emit_sys(d, X86_SYS_FWAIT);
}

/* --- segments, far control flow ----------------------------------------------------------------------------- */

void decode_arpl(struct decoder *d)
{
    if (!decode_protected(d)) {
        decode_ud(d);
        return;
    }
    emit_sys_rm(d, X86_SYS_ARPL, 2, RM_DST)->src = d->reg;
}

void decode_bound(struct decoder *d)
{
    if (!decode_is_mem(d)) {
        decode_ud(d); /* EVEX */
        return;
    }
    emit_sys_mem(d, X86_SYS_BOUND, 2 * d->osize, false)->dst = d->reg;
}

/* arg = segment */
void decode_push_seg(struct decoder *d)
{
    struct ir_op *op = emit_sys(d, X86_SYS_PUSH_SEG);
    op->src = d->row->arg;
    op->imm = d->stack_size;
}

void decode_pop_seg(struct decoder *d)
{
    struct ir_op *op = emit_sys_end(d, X86_SYS_POP_SEG);
    op->dst = d->row->arg;
    op->imm = d->stack_size;
}

void decode_mov_from_seg(struct decoder *d)
{
    unsigned seg = d->modrm >> 3 & 7;
    if (seg > SEG_GS) {
        decode_ud(d);
        return;
    }
    emit_sys_rm(d, X86_SYS_MOV_FROM_SEG, decode_is_mem(d) ? 2 : d->osize, RM_DST)->src = seg;
}

void decode_mov_to_seg(struct decoder *d)
{
    unsigned seg = d->modrm >> 3 & 7;
    if (seg > SEG_GS || seg == SEG_CS) {
        decode_ud(d);
        return;
    }
    struct ir_op *op = emit_sys_rm(d, X86_SYS_MOV_TO_SEG, 2, RM_SRC);
    op->dst = seg;
    mark_end(d, op);
}

/* arg = segment. LES and LDS with a register operand, and in 64-bit code, are VEX prefixes. */
void decode_load_far_ptr(struct decoder *d)
{
    if (!decode_is_mem(d)) {
        decode_ud(d);
        return;
    }
    struct ir_op *op = emit_sys_mem(d, X86_SYS_LOAD_FAR_PTR, d->osize + 2, false);
    op->dst = d->reg;
    op->src2 = d->row->arg;
    mark_end(d, op);
}

/* arg = X86_SYS_JMP_FAR or X86_SYS_CALL_FAR */
void decode_far(struct decoder *d)
{
    struct ir_op *op = emit_sys_end(d, d->row->arg);
    op->flags |= IRF_SRC_IMM;
    op->imm = d->imm;
    op->aux = d->imm2;
}

void decode_far_mem(struct decoder *d, enum x86_sys what)
{
    mark_end(d, emit_sys_mem(d, what, d->osize + 2, false));
}

void decode_ret_far(struct decoder *d)
{
    emit_sys_end(d, X86_SYS_RET_FAR)->imm = d->row->flags & ROW_IMM16 ? d->imm : 0;
}

void decode_enter(struct decoder *d)
{
    emit_sys(d, X86_SYS_ENTER)->imm = d->imm | (int64_t)d->imm2 << 16;
}

/* --- ports -------------------------------------------------------------------------------------------------- */

/* IN, OUT: E4-E7 imm8, EC-EF DX. arg = enum x86_sys */
void decode_io(struct decoder *d)
{
    struct ir_op *op = emit_sys(d, d->row->arg);
    op->size = d->size == 8 ? 4 : d->size;
    if (d->opcode < 0xe8) {
        op->flags = IRF_SRC_IMM;
        op->imm = (uint8_t)d->imm;
    }
}

void decode_io_string(struct decoder *d)
{
    bool check;
    struct ir_op *op = emit_sys(d, d->row->arg);
    op->size = d->size == 8 ? 4 : d->size;
    op->aux = d->asize;
    op->src = decode_segment(d, d->seg != IR_NONE ? d->seg : SEG_DS, &check);
    check = !(d->mode & (MODE_CS64 | MODE_FLAT)) || check;
    op->flags = (d->rep ? IRF_REP : 0) | (check && !decode_is64(d) ? IRF_SEGCHECK : 0);
}

/* --- 0F groups ---------------------------------------------------------------------------------------------- */

void decode_group6(struct decoder *d)
{
    static const uint8_t subs[8] = {X86_SYS_SLDT, X86_SYS_STR,  X86_SYS_LLDT,
                                    X86_SYS_LTR,  X86_SYS_VERR, X86_SYS_VERW};
    unsigned ext = d->modrm >> 3 & 7;
    if (ext > 5 || !decode_protected(d)) {
        decode_ud(d);
        return;
    }
    if (ext < 2) {
        emit_sys_rm(d, subs[ext], decode_is_mem(d) ? 2 : d->osize, RM_DST);
        return;
    }
    if (ext < 4 && privileged(d))
        return;
    emit_sys_rm(d, subs[ext], 2, RM_SRC);
}

static void group7_reg_any(struct decoder *d)
{
    static const struct {
        uint8_t modrm, sub;
        uint8_t rule; /* 0 none, 1 #UD unless CPL 0, 2 #GP unless CPL 0 */
        bool end;
        bool no_prefix; /* 66, F2 and F3 make it undefined */
        bool only64;
        uint16_t feature;
    } rows[] = {
        {0xc8, X86_SYS_MONITOR, 1, false, false, false, FEAT_MONITOR},
        {0xc9, X86_SYS_MWAIT, 1, true, false, false, FEAT_MONITOR},
        {0xca, X86_SYS_CLAC, 1, false, true, false, FEAT_SMAP},
        {0xcb, X86_SYS_STAC, 1, false, true, false, FEAT_SMAP},
        {0xd0, X86_SYS_XGETBV, 0, false, true, false, FEAT_XSAVE},
        {0xd1, X86_SYS_XSETBV, 2, true, true, false, FEAT_XSAVE},
        {0xee, X86_SYS_RDPKRU, 0, false, true, false, FEAT_PKU},
        {0xef, X86_SYS_WRPKRU, 0, true, true, false, FEAT_PKU},
        {0xf8, X86_SYS_SWAPGS, 2, false, false, true, FEAT_LM},
        {0xf9, X86_SYS_RDTSCP, 0, false, false, false, FEAT_RDTSCP},
    };
    if (d->modrm == 0xe8 && !decode_prefix(d) && decode_has(d, FEAT_SERIALIZE)) {
        decode_emit(d, IR_NOP)->sub = IR_NOP_MFENCE; /* changed code is seen without it */
        return;
    }
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].modrm != d->modrm)
            continue;
        if (!decode_has(d, rows[i].feature) || (rows[i].no_prefix && decode_prefix(d)) ||
            (rows[i].only64 && !decode_is64(d)) || (rows[i].rule == 1 && !decode_cpl0(d)))
            break;
        if (rows[i].rule == 2 && privileged(d))
            return;
        struct ir_op *op = emit_sys(d, rows[i].sub);
        if (rows[i].end)
            mark_end(d, op);
        return;
    }
    decode_ud(d);
}

void decode_group7(struct decoder *d)
{
    unsigned ext = d->modrm >> 3 & 7;
    bool mem = decode_is_mem(d);
    if (ext == 4) {
        emit_sys_rm(d, X86_SYS_SMSW, mem ? 2 : d->osize, RM_DST);
        return;
    }
    if (ext == 6) {
        if (!privileged(d))
            mark_end(d, emit_sys_rm(d, X86_SYS_LMSW, 2, RM_SRC));
        return;
    }
    if (!mem) {
        group7_reg_any(d);
        return;
    }
    unsigned table_bytes = decode_is64(d) ? 10 : 6;
    struct ir_op *op;
    switch (ext) {
    case 0:
    case 1:
        op = emit_sys_mem(d, ext ? X86_SYS_SIDT : X86_SYS_SGDT, table_bytes, true);
        op->size = decode_is64(d) ? 8 : d->osize;
        return;
    case 2:
    case 3:
        if (privileged(d))
            return;
        op = emit_sys_mem(d, ext == 3 ? X86_SYS_LIDT : X86_SYS_LGDT, table_bytes, false);
        op->size = decode_is64(d) ? 8 : d->osize;
        return;
    case 7:
        if (!privileged(d))
            mark_end(d, emit_sys_mem(d, X86_SYS_INVLPG, 0, false));
        return;
    default:
        decode_ud(d);
        return;
    }
}

void decode_group9(struct decoder *d)
{
    unsigned ext = d->modrm >> 3 & 7;
    bool wide = d->rex & 8;
    bool mem = decode_is_mem(d);
    if (d->lock && ext != 1) {
        decode_ud(d);
        return;
    }
    if (mem && ext == 1 && decode_has(d, wide ? FEAT_CX16 : FEAT_CX8)) {
        decode_rm(d, IR_CMPXCHG16, wide ? 16 : 8, RM_DST);
        return;
    }
    static const struct {
        uint8_t ext, sub;
        uint16_t feature;
    } xsaves[] = {{3, X86_SYS_XRSTORS, FEAT_XSAVES},
                  {4, X86_SYS_XSAVEC, FEAT_XSAVEC},
                  {5, X86_SYS_XSAVES, FEAT_XSAVES}};
    for (unsigned i = 0; mem && !decode_prefix(d) && i < ARRAY_LEN(xsaves); i++) {
        if (xsaves[i].ext != ext || !decode_has(d, xsaves[i].feature))
            continue;
        if (ext != 4 && privileged(d))
            return;
        emit_sys_mem(d, xsaves[i].sub, 512 + 64, ext != 3);
        return;
    }
    if (!mem && ext == 7 && d->rep == 0xf3 && decode_has(d, FEAT_RDPID)) {
        struct ir_op *op = emit_sys(d, X86_SYS_RDPID);
        op->dst = d->rm;
        op->size = decode_is64(d) ? 8 : 4;
        return;
    }
    if (!mem && ext >= 6 && !d->rep && decode_has(d, ext == 6 ? FEAT_RDRAND : FEAT_RDSEED)) {
        emit_sys(d, ext == 6 ? X86_SYS_RDRAND : X86_SYS_RDSEED)->dst = d->rm;
        return;
    }
    decode_ud(d);
}

/* #UD and #NM of instructions that use SSE (or only MMX) state. */
static bool simd_unavailable(struct decoder *d, bool sse)
{
    if (d->mode & MODE_EM || (sse && d->mode & MODE_NOSSE)) {
        decode_ud(d);
        return true;
    }
    if (d->mode & MODE_NM) {
        decode_raise(d, X86_SYS_NM);
        return true;
    }
    return false;
}

static void group15_reg(struct decoder *d)
{
    static const uint8_t bases[4] = {X86_SYS_RDFSBASE, X86_SYS_RDGSBASE, X86_SYS_WRFSBASE, X86_SYS_WRGSBASE};
    static const uint8_t fences[8] = {[5] = IR_NOP_LFENCE, [6] = IR_NOP_MFENCE, [7] = IR_NOP_SFENCE};
    unsigned ext = d->modrm >> 3 & 7;
    if (ext < 4 && d->rep == 0xf3 && decode_is64(d) && decode_has(d, FEAT_FSGSBASE)) {
        struct ir_op *op = emit_sys(d, bases[ext]);
        *(ext < 2 ? &op->dst : &op->src) = d->rm;
        op->size = d->rex & 8 ? 8 : 4; /* 66 does not count */
    } else if (ext > 4 && !decode_prefix(d) && decode_has(d, FEAT_SSE2)) {
        decode_emit(d, IR_NOP)->sub = fences[ext];
    } else {
        decode_ud(d);
    }
}

void decode_group15(struct decoder *d)
{
    if (!decode_is_mem(d)) {
        group15_reg(d);
        return;
    }
    static const struct {
        uint8_t sub;
        bool write;
        uint16_t bytes;
        uint16_t feature, feature66; /* 0: undefined */
    } rows[8] = {
        {X86_SYS_FXSAVE, true, 512, FEAT_FXSR},
        {X86_SYS_FXRSTOR, false, 512, FEAT_FXSR},
        {X86_SYS_LDMXCSR, false, 4, FEAT_SSE},
        {X86_SYS_STMXCSR, true, 4, FEAT_SSE},
        {X86_SYS_XSAVE, true, 576, FEAT_XSAVE},
        {X86_SYS_XRSTOR, false, 576, FEAT_XSAVE},
        {X86_SYS_XSAVEOPT, true, 576, FEAT_XSAVEOPT, FEAT_CLWB},
        {X86_SYS_CLFLUSH, false, 1, FEAT_CLFSH, FEAT_CLFLUSHOPT},
    };
    unsigned ext = d->modrm >> 3 & 7;
    unsigned prefix = decode_prefix(d);
    unsigned feature = prefix == 0 ? rows[ext].feature : prefix == 0x66 ? rows[ext].feature66 : 0;
    if (!feature || !decode_has(d, feature)) {
        decode_ud(d);
        return;
    }
    unsigned sub = prefix ? X86_SYS_CLFLUSH : rows[ext].sub;
    if ((sub == X86_SYS_LDMXCSR || sub == X86_SYS_STMXCSR) && simd_unavailable(d, true))
        return;
    if ((sub == X86_SYS_FXSAVE || sub == X86_SYS_FXRSTOR) && d->mode & (MODE_EM | MODE_NM)) {
        decode_raise(d, X86_SYS_NM);
        return;
    }
    struct ir_op *op = emit_sys_mem(d, sub, sub == X86_SYS_CLFLUSH ? 1 : rows[ext].bytes,
                                    rows[ext].write && sub != X86_SYS_CLFLUSH);
    op->size = d->rex & 8 ? 8 : 4;
}

void decode_lar_lsl(struct decoder *d)
{
    if (!decode_protected(d)) {
        decode_ud(d);
        return;
    }
    struct ir_op *op = emit_sys_rm(d, d->row->arg, 2, RM_SRC);
    op->size = d->osize;
    op->dst = d->reg;
}

/* 20-23: bit 0 debug registers, bit 1 to the register. */
void decode_mov_cr(struct decoder *d)
{
    bool debug = d->opcode & 1, to = d->opcode & 2;
    bool exists = debug ? d->reg < 8 : (0x11du >> d->reg & 1) && (d->reg != 8 || decode_is64(d));
    if (!exists) {
        decode_ud(d);
        return;
    }
    if (privileged(d))
        return;
    struct ir_op *op = emit_sys(d, debug ? (to ? X86_SYS_MOV_TO_DR : X86_SYS_MOV_FROM_DR)
                                         : (to ? X86_SYS_MOV_TO_CR : X86_SYS_MOV_FROM_CR));
    *(to ? &op->src : &op->dst) = d->rm;
    op->imm = d->reg;
    op->size = decode_is64(d) ? 8 : 4;
    if (to)
        mark_end(d, op);
}

void decode_invpcid(struct decoder *d)
{
    if (decode_prefix(d) != 0x66 || !decode_is_mem(d) || !decode_has(d, FEAT_INVPCID)) {
        decode_ud(d);
        return;
    }
    if (privileged(d))
        return;
    struct ir_op *op = emit_sys_mem(d, X86_SYS_INVPCID, 16, false);
    op->src = d->reg;
    op->size = decode_is64(d) ? 8 : 4;
    mark_end(d, op);
}

/* --- x87 and vectors ---------------------------------------------------------------------------------------- */

void decode_x87(struct decoder *d)
{
    unsigned opcode = d->opcode & 7;
    bool write = false;
    unsigned bytes = decode_is_mem(d) ? x86_x87_mem(opcode, d->modrm, d->osize, &write) : 0;
    bool fisttp = opcode & 1 && (d->modrm >> 3 & 7) == 1 && bytes;
    if (decode_is_mem(d) ? !bytes || (fisttp && !decode_has(d, FEAT_SSE3)) : !x86_x87_valid(opcode, d->modrm)) {
        decode_ud(d);
        return;
    }
    if (d->mode & (MODE_EM | MODE_NM)) {
        decode_raise(d, X86_SYS_NM);
        return;
    }
    bool check = false;
    unsigned segment = decode_is_mem(d) ? decode_segment(d, d->ea_seg, &check) : IR_NONE;
    if (check && !x86_x87_no_wait(opcode, d->modrm))
        emit_sys(d, X86_SYS_FWAIT); /* a pending exception comes before what is wrong with the segment */
    if (decode_is_mem(d))
        decode_ea(d, bytes, write ? IRF_WRITE : 0);
    struct ir_op *op = decode_emit(d, IR_X87);
    op->aux = opcode << 8 | d->modrm;
    op->size = d->osize; /* format of environments */
    op->src2 = segment;
    op->flags = !decode_is_mem(d) ? 0 : write ? IRF_DST_MEM : IRF_SRC_MEM;
}

static uint8_t vec_register(unsigned kind, unsigned number)
{
    return kind == VEC_MMX ? number & 7 : number;
}

void decode_vec(struct decoder *d)
{
    const struct x86_vec_insn *insn = &x86_vec_insns[d->vec];
    bool mem = decode_is_mem(d);
    if (!decode_has(d, insn->feature) || (insn->flags & (mem ? VECF_REG_ONLY : VECF_MEM_ONLY))) {
        decode_ud(d);
        return;
    }
    if (simd_unavailable(d, insn->reg == VEC_XMM || insn->rm == VEC_XMM))
        return;
    unsigned flags = 0;
    if (mem) {
        bool check;
        decode_segment(d, d->ea_seg, &check);
        if (check && insn->reg == VEC_MMX)
            emit_sys(d, X86_SYS_FWAIT);
        unsigned bytes = insn->flags & VECF_MEM_W64 && d->rex & 8 ? 8 : insn->mem_bytes;
        decode_ea(d, bytes, insn->flags & VECF_RM_W ? IRF_WRITE : 0);
        flags = insn->flags & VECF_RM_W ? IRF_DST_MEM : IRF_SRC_MEM;
    }
    struct ir_op *op = decode_emit(d, IR_VEC);
    op->aux = d->vec;
    op->size = d->rex & 8 ? 8 : 4;
    op->dst = vec_register(insn->reg, d->reg);
    op->src = mem ? IR_NONE : vec_register(insn->rm, d->rm);
    op->flags = flags;
    if (insn->flags & VECF_IMM8)
        op->imm = (uint8_t)d->imm;
}

/* MASKMOVQ, and with 66 MASKMOVDQU: to rDI. */
void decode_maskmov(struct decoder *d)
{
    bool xmm = d->opsize_prefix;
    if (d->rep || decode_is_mem(d) || !decode_has(d, xmm ? FEAT_SSE2 : FEAT_SSE)) {
        decode_ud(d);
        return;
    }
    if (!simd_unavailable(d, xmm))
        decode_emit_maskmov(d, xmm);
}

void decode_emit_maskmov(struct decoder *d, bool xmm)
{
    d->ea_base = IR_RDI;
    d->ea_index = IR_NONE;
    d->ea_scale = 0;
    d->ea_pcrel = false;
    d->disp = 0;
    d->ea_seg = d->seg != IR_NONE ? d->seg : SEG_DS;
    bool check;
    decode_segment(d, d->ea_seg, &check);
    if (check && !xmm)
        emit_sys(d, X86_SYS_FWAIT); /* a pending x87 exception comes first */
    struct ir_op *op = emit_sys_mem(d, X86_SYS_MASKMOV, xmm ? 16 : 8, true);
    op->size = xmm ? 16 : 8;
    op->dst = vec_register(xmm ? VEC_XMM : VEC_MMX, d->reg);
    op->src = vec_register(xmm ? VEC_XMM : VEC_MMX, d->rm);
}

/* 64 bytes from memory to where a register points in ES. */
void decode_movdir64b(struct decoder *d)
{
    if (decode_prefix(d) != 0x66 || !decode_is_mem(d) || !decode_has(d, FEAT_MOVDIR64B)) {
        decode_ud(d);
        return;
    }
    struct ir_op *op = emit_sys_mem(d, X86_SYS_MOVDIR64B, 64, false);
    op->src = d->reg;
    op->aux = d->asize;
}
