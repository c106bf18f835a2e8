/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VEX instructions that do what a legacy one does, in each 128-bit lane: its reference runs on two registers of its own
 * (x86_cpu.vec_lane), which hold the lane's sources and then its result.
 */
#include "translator/x86/vec_fp.h"
#include "translator/x86/vex_internal.h"

/* The legacy instruction that runs on a lane. `op` is IR_VEX still: comparisons have more predicates then. */
static struct ir_op lane_op(const struct ir_op *op, const struct x86_vec_insn *legacy)
{
    struct ir_op lane = *op;

    if (legacy->reg == VEC_XMM)
        lane.dst = VEC_LANE_REG;
    if (legacy->rm == VEC_XMM)
        lane.src = VEC_LANE_RM;
    return lane;
}

static int run_lane(struct x86_cpu *cpu, struct ir_op *lane, const struct x86_vex_insn *insn,
                    const struct x86_vec_insn *legacy, const struct vex_args *args, unsigned i)
{
    const union x86_vec *first = insn->vex & VEXF_NDS ? &args->a : &args->d;
    unsigned stride = insn->vex & VEXF_SAME_SRC ? 0 : insn->vex & VEXF_NARROW_SRC ? legacy->mem_bytes : 16;

    memcpy(&cpu->vec_lane[0], &first->b[16 * i], 16);
    memcpy(&cpu->vec_lane[1], &args->b.b[stride * i], 16);
    lane->imm = args->imm >> (insn->vex / VEXF_STEP * i);
    return legacy->exec(cpu, lane, legacy, args->memory ? &cpu->vec_lane[1] : NULL);
}

int vex_lanes(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn,
              struct vex_args *args)
{
    const struct x86_vec_insn *legacy =
        &x86_vec_insns[x86_vec_find(insn->map, insn->prefix, insn->opcode, insn->modrm_ext << 3)];
    unsigned count = insn->vex & VEXF_LIG ? 1 : args->bytes / 16;
    unsigned result_bytes = count > 1 && insn->vex & VEXF_NARROW_DST ? 8 : 16;
    unsigned result = insn->flags & VECF_RM_W || insn->vex & VEXF_NDD;
    struct ir_op lane = lane_op(op, legacy);
    union x86_vec d = {0};
    int r = X86_OK;

    if (count > 1)
        vec_fp_defer(cpu);
    for (unsigned i = 0; i < count && r == X86_OK; i++) {
        vec_fp_next_lane(cpu);
        r = run_lane(cpu, &lane, insn, legacy, args, i);
        memcpy(&d.b[result_bytes * i], &cpu->vec_lane[result], result_bytes);
    }
    if (count > 1)
        r = vec_fp_deferred(cpu);
    if (insn->flags & VECF_XMM0)
        memset(cpu->vec[0].b + 16, 0, sizeof(cpu->vec[0]) - 16);
    args->d = d;
    return r;
}
