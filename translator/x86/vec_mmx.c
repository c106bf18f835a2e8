/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MMX on top of the x87 registers (SDM 1 chapter 9.5, 3A table 12-2).
 *
 * MMn is the significand of physical register n; struct x86_fxsave holds the registers in stack order, so that entering
 * MMX rotates them by TOP.
 */
#include "translator/x86/vec_internal.h"
#include "translator/x86/x87_internal.h"

int vec_mmx_check(struct x86_cpu *cpu)
{
    x86_x87_sync(cpu);
    return cpu->fx.fsw & FSW_ES ? x86_raise(cpu, EXC_MF) : X86_OK;
}

void vec_mmx_enter(struct x86_cpu *cpu)
{
    x87_set_top(&cpu->fx, 0);
    cpu->fx.ftw = 0xff;
}

int vec_emms(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn, union x86_vec *mem)
{
    int r = vec_mmx_check(cpu);

    if (r != X86_OK)
        return r;
    x87_set_top(&cpu->fx, 0);
    cpu->fx.ftw = 0;
    return X86_OK;
}
