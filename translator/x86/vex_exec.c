/* SPDX-License-Identifier: Apache-2.0 */
/* The frame around the references of VEX instructions: operands, memory, destinations. */
#include "translator/x86/vex_internal.h"

#include "translator/mmu.h"

void vex_put(struct x86_cpu *cpu, unsigned n, const union x86_vec *value, unsigned bytes)
{
    union x86_vec *reg = &cpu->vec[n];

    memcpy(reg->b, value->b, bytes);
    memset(reg->b + bytes, 0, sizeof(*reg) - bytes);
    if (bytes > 16)
        cpu->vec_upper = VEC_UPPER_USED;
}

/* A destination may fault when it is written, after MXCSR has its flags, as on processors. */
static int open_memory(struct x86_cpu *cpu, const struct x86_vex_insn *insn, struct vex_args *args,
                       unsigned bytes)
{
    if (insn->flags & VECF_ALIGN && cpu->ea & (bytes - 1))
        return x86_raise_error(cpu, EXC_GP, 0);
    /* Neither 16 bytes and more nor the half-precision conversions check alignment. */
    bool checked = bytes < 16 && insn->feature128 != FEAT_F16C && !(insn->vex & VEXF_MASK);
    int r = checked ? x86_align_check(cpu, cpu->ea, bytes) : X86_OK;
    return r != X86_OK || insn->flags & VECF_RM_W ? r : mmu_read(cpu, cpu->ea, bytes, &args->b);
}

static void load_registers(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn,
                           struct vex_args *args)
{
    if (insn->vex & (VEXF_NDS | VEXF_MASK | VEXF_GATHER))
        memcpy(&args->a, &cpu->vec[op->src2], args->bytes);
    if (insn->reg == VEC_XMM)
        memcpy(&args->d, &cpu->vec[op->dst], args->bytes);
    if (op->src == IR_NONE)
        return;
    if (insn->rm == VEC_XMM)
        memcpy(&args->b, &cpu->vec[op->src], args->bytes);
    else
        vec_get(cpu, op, insn->rm, op->src, &args->b);
}

/* General registers are written by the references themselves. */
static int store_result(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn,
                        const struct vex_args *args, unsigned memory_bytes)
{
    if (insn->vex & VEXF_NDD)
        vex_put(cpu, op->src2, &args->d, args->bytes);
    else if (insn->flags & VECF_RM_W && args->memory)
        return mmu_write(cpu, cpu->ea, memory_bytes, &args->d);
    else if (insn->flags & VECF_RM_W && insn->rm == VEC_XMM)
        vex_put(cpu, op->src, &args->d, args->bytes);
    else if (insn->flags & VECF_REG_W && insn->reg == VEC_XMM)
        vex_put(cpu, op->dst, &args->d, args->bytes);
    return X86_OK;
}

int x86_vex_exec(struct x86_cpu *cpu, const struct ir_op *op)
{
    const struct x86_vex_insn *insn = &x86_vex_insns[op->aux];
    struct vex_args args = {.bytes = x86_vex_bytes(op),
                            .wide = op->size == 8,
                            .memory = op->flags & (IRF_SRC_MEM | IRF_DST_MEM),
                            .imm = (uint8_t)op->imm};
    unsigned memory_bytes = x86_vex_mem_bytes(insn, args.bytes, args.wide);
    int r = X86_OK;

    load_registers(cpu, op, insn, &args);
    if (insn->vex & (VEXF_MASK | VEXF_GATHER | VEXF_ZERO)) /* these have accesses and results of their own */
        return insn->exec(cpu, op, insn, &args);
    if (args.memory)
        r = open_memory(cpu, insn, &args, memory_bytes);
    if (r == X86_OK)
        r = insn->exec(cpu, op, insn, &args);
    return r != X86_OK ? r : store_result(cpu, op, insn, &args, memory_bytes);
}
