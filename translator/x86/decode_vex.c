/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of VEX-encoded instructions. The prefix itself is parsed in decode.c. */
#include "translator/x86/decode_internal.h"
#include "translator/x86/vex.h"

/* What makes a row's encoding undefined in this block. */
static bool undefined(const struct decoder *d, const struct x86_vex_insn *insn)
{
    bool names_vvvv = insn->vex & (VEXF_NDS | VEXF_NDD | VEXF_MASK | VEXF_GATHER);
    unsigned feature = d->vex_l ? insn->feature256 : insn->feature128;

    if (!(d->mode & MODE_AVX) || !decode_has(d, feature) || (d->vvvv && !names_vvvv))
        return true;
    return d->vsib && ((d->modrm & 7) != 4 || d->asize == 2);
}

/* VEX.W names the size of a general register in 64-bit code only. */
static bool wide(const struct decoder *d, const struct x86_vex_insn *insn)
{
    bool general = insn->reg == VEC_GPR || insn->rm == VEC_GPR || insn->flags & VECF_IMPLICIT;
    return d->vex_w && (decode_is64(d) || !general);
}

void decode_vex(struct decoder *d)
{
    const struct x86_vex_insn *insn = &x86_vex_insns[d->vec];
    bool mem = decode_is_mem(d), store = insn->flags & VECF_RM_W;
    unsigned registers = decode_is64(d) ? 15 : 7;

    if (undefined(d, insn)) {
        decode_ud(d);
        return;
    }
    if (d->mode & MODE_NM) {
        decode_raise(d, X86_SYS_NM);
        return;
    }
    if (mem)
        decode_ea(d, x86_vex_mem_bytes(insn, d->vex_l ? 32 : 16, wide(d, insn)), store ? IRF_WRITE : 0);
    struct ir_op *op = decode_emit(d, IR_VEX);
    op->aux = d->vec;
    op->sub = d->vex_l;
    op->size = wide(d, insn) ? 8 : 4;
    op->dst = d->reg;
    op->src = mem || insn->rm == VEC_NONE ? IR_NONE : d->rm;
    op->src2 = d->vvvv & registers;
    op->flags = !mem ? 0 : store ? IRF_DST_MEM : IRF_SRC_MEM;
    if (insn->flags & VECF_IMM8)
        op->imm = (uint8_t)d->imm;
}

/* 0F 38 F0-F7 and 0F 3A F0-FF: general registers, no AVX state. */
void decode_vex_gpr(struct decoder *d)
{
    decode_ud(d);
}
