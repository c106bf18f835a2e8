/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MMX on top of the x87 registers (SDM 1 chapter 9.5, 3A table 12-2).
 *
 * MMn is the significand of physical register n; struct x86_fxsave holds the registers in stack order, so that entering
 * MMX rotates them by TOP.
 */
#include "translator/x86/vec_internal.h"

#define FSW_TOP_SHIFT 11
#define FSW_TOP       (7u << FSW_TOP_SHIFT)
#define FSW_ES        (1u << 7)

int vec_mmx_check(struct x86_cpu *cpu)
{
    x86_x87_sync(cpu);
    return cpu->fx.fsw & FSW_ES ? x86_raise(cpu, EXC_MF) : X86_OK;
}

static void set_top_zero(struct x86_cpu *cpu)
{
    unsigned top = (cpu->fx.fsw & FSW_TOP) >> FSW_TOP_SHIFT;
    uint8_t old[8][16];

    if (!top)
        return;
    memcpy(old, cpu->fx.st, sizeof(old));
    for (unsigned n = 0; n < 8; n++)
        memcpy(cpu->fx.st[n], old[(n - top) & 7], sizeof(old[0]));
    cpu->fx.fsw &= (uint16_t)~FSW_TOP;
}

void vec_mmx_enter(struct x86_cpu *cpu)
{
    set_top_zero(cpu);
    cpu->fx.ftw = 0xff;
}

int vec_emms(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn, union x86_vec *mem)
{
    int r = vec_mmx_check(cpu);

    if (r != X86_OK)
        return r;
    set_top_zero(cpu);
    cpu->fx.ftw = 0;
    return X86_OK;
}
