/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of VEX-encoded instructions. The prefix itself is parsed in decode.c. */
#include "translator/x86/decode_internal.h"
#include "translator/x86/vex.h"

/* What makes a row's encoding undefined for this guest. A gather's three registers must differ. */
static bool undefined(const struct decoder *d, const struct x86_vex_insn *insn)
{
    bool names_vvvv = insn->vex & (VEXF_NDS | VEXF_NDD | VEXF_MASK | VEXF_GATHER);
    unsigned feature = d->vex_l ? insn->feature256 : insn->feature128;

    if (!decode_has(d, feature) || (d->vvvv && !names_vvvv))
        return true;
    if (!d->vsib)
        return false;
    return (d->modrm & 7) != 4 || d->asize == 2 || d->reg == d->ea_index || d->reg == d->vvvv ||
           d->vvvv == d->ea_index;
}

/* VEX.W names the size of a general register in 64-bit code only. */
static bool wide(const struct decoder *d, const struct x86_vex_insn *insn)
{
    bool general = insn->reg == VEC_GPR || insn->rm == VEC_GPR || insn->flags & VECF_IMPLICIT;
    return d->vex_w && (decode_is64(d) || !general);
}

/* #UD and #NM of instructions that use AVX state. */
static bool unavailable(struct decoder *d, bool undefined_encoding)
{
    if (undefined_encoding || !(d->mode & MODE_AVX)) {
        decode_ud(d);
        return true;
    }
    if (d->mode & MODE_NM) {
        decode_raise(d, X86_SYS_NM);
        return true;
    }
    return false;
}

/* The operand of a masked move or gather: its elements' own checks need segment and address size. */
static void emit_elements(struct decoder *d, struct ir_op *op)
{
    bool check;
    op->imm = decode_segment(d, d->ea_seg, &check) | d->asize << 8;
    op->flags |= check ? IRF_SEGCHECK : 0;
}

static void emit_vex_op(struct decoder *d, const struct x86_vex_insn *insn)
{
    bool mem = decode_is_mem(d), store = insn->flags & VECF_RM_W, w = wide(d, insn);
    bool elements = insn->vex & (VEXF_MASK | VEXF_GATHER);
    uint8_t rm = d->vsib ? d->ea_index : mem || insn->rm == VEC_NONE ? IR_NONE : d->rm;

    if (d->vsib)
        d->ea_index = IR_NONE;
    if (mem)
        decode_ea(d, elements ? 0 : x86_vex_mem_bytes(insn, d->vex_l ? 32 : 16, w), store ? IRF_WRITE : 0);
    struct ir_op *op = decode_emit(d, IR_VEX);
    op->aux = d->vec;
    op->sub = d->vex_l | (d->vsib ? d->ea_scale << 4 : 0);
    op->size = w ? 8 : 4;
    op->dst = d->reg;
    op->src = rm;
    op->src2 = d->vvvv & (decode_is64(d) ? 15 : 7);
    op->flags = !mem ? 0 : store ? IRF_DST_MEM : IRF_SRC_MEM;
    if (elements)
        emit_elements(d, op);
    else if (insn->flags & VECF_IMM8)
        op->imm = (uint8_t)d->imm & (insn->vex & VEXF_IS4 && !decode_is64(d) ? 0x7f : 0xff); /* eight registers */
}

void decode_vex(struct decoder *d)
{
    const struct x86_vex_insn *insn = &x86_vex_insns[d->vec];

    if (!unavailable(d, undefined(d, insn)))
        emit_vex_op(d, insn);
}

/* VLDMXCSR, VSTMXCSR. */
void decode_vex_mxcsr(struct decoder *d)
{
    unsigned ext = d->modrm >> 3 & 7;
    bool store = ext == 3;

    if (unavailable(d, (ext != 2 && !store) || !decode_is_mem(d) || d->vex_pp || d->vex_l || d->vvvv))
        return;
    decode_ea(d, 4, store ? IRF_WRITE : 0);
    struct ir_op *op = decode_emit(d, IR_SYS);
    op->sub = store ? X86_SYS_STMXCSR : X86_SYS_LDMXCSR;
    op->flags = store ? IRF_DST_MEM : IRF_SRC_MEM;
}

/* VMASKMOVDQU. */
void decode_vex_maskmov(struct decoder *d)
{
    if (!unavailable(d, decode_is_mem(d) || d->vex_pp != 0x66 || d->vex_l || d->vvvv))
        decode_emit_maskmov(d, true);
}

/* Rows of BMI1 and BMI2 (SDM 2D table, opcode extensions of group 17). */
struct gpr_row {
    uint8_t map, prefix, opcode, ext; /* ext: ModRM /n, or 0xff */
    uint8_t sub;                      /* enum ir_bmi */
    bool vvvv_dst;                    /* VEX.vvvv is the destination */
    uint16_t feature;
};

static const struct gpr_row gpr_rows[] = {
    {2, 0x00, 0xf2, 0xff, IR_ANDN, false, FEAT_BMI1}, {2, 0x00, 0xf3, 1, IR_BLSR, true, FEAT_BMI1},
    {2, 0x00, 0xf3, 2, IR_BLSMSK, true, FEAT_BMI1},   {2, 0x00, 0xf3, 3, IR_BLSI, true, FEAT_BMI1},
    {2, 0x00, 0xf5, 0xff, IR_BZHI, false, FEAT_BMI2}, {2, 0xf3, 0xf5, 0xff, IR_PEXT, false, FEAT_BMI2},
    {2, 0xf2, 0xf5, 0xff, IR_PDEP, false, FEAT_BMI2}, {2, 0xf2, 0xf6, 0xff, IR_MULX, false, FEAT_BMI2},
    {2, 0x00, 0xf7, 0xff, IR_BEXTR, false, FEAT_BMI1}, {2, 0x66, 0xf7, 0xff, IR_SHLX, false, FEAT_BMI2},
    {2, 0xf3, 0xf7, 0xff, IR_SARX, false, FEAT_BMI2}, {2, 0xf2, 0xf7, 0xff, IR_SHRX, false, FEAT_BMI2},
    {3, 0xf2, 0xf0, 0xff, IR_RORX, false, FEAT_BMI2},
};

static const struct gpr_row *gpr_row_find(const struct decoder *d)
{
    for (unsigned i = 0; i < ARRAY_LEN(gpr_rows); i++) {
        const struct gpr_row *row = &gpr_rows[i];
        if (row->map == d->map && row->prefix == d->vex_pp && row->opcode == d->opcode &&
            (row->ext == 0xff || row->ext == (d->modrm >> 3 & 7)))
            return row;
    }
    return NULL;
}

/* 0F 38 F0-F7 and 0F 3A F0-FF: general registers, no AVX state. VEX.L must be 0 (SDM 2A 2.4, class 13). */
void decode_vex_gpr(struct decoder *d)
{
    const struct gpr_row *row = gpr_row_find(d);
    if (!row || d->vex_l || !decode_has(d, row->feature) || (row->sub == IR_RORX && d->vvvv)) {
        decode_ud(d);
        return;
    }
    unsigned vvvv = d->vvvv & (decode_is64(d) ? 15 : 7);
    struct ir_op *op = decode_rm(d, IR_BMI, d->vex_w && decode_is64(d) ? 8 : 4, RM_SRC);
    op->sub = row->sub;
    op->dst = row->vvvv_dst ? vvvv : d->reg;
    op->src2 = row->vvvv_dst || row->sub == IR_RORX ? IR_NONE : vvvv;
    op->imm = row->sub == IR_RORX ? (uint8_t)d->imm : 0;
}
