/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The IR interpreter: portable C, the reference for every op.
 *
 * Works on struct x86_cpu directly (all state in memory, rflags complete).
 */
#pragma once

#include <stdbool.h>

#include "translator/ir.h"
#include "translator/x86/cpu.h"

/*
 * Executes a block from op `first` until it is left. On entry cpu->rip is irrelevant, cpu->pc_base is set.
 * X86_JUMP: left normally, cpu->rip is the next instruction. X86_RAISE: cpu->rip is the faulting one. X86_EXIT as the
 * op said, cpu->rip where to go on.
 */
int interp_run(struct x86_cpu *cpu, const struct ir_block *block, unsigned first);

/*
 * Executes one op that is neither IR_INSN nor control flow, for T0's fall-back: X86_OK, or as above. cpu->rip must be
 * the instruction's address, cpu->next_rip the following one, cpu->ea set when the op has a memory operand.
 */
int interp_op(struct x86_cpu *cpu, const struct ir_op *op);

/*
 * Whether the memory operand of `op` at `ea` is in the stack segment, in 64-bit code: its base is rSP or rBP and neither FS nor
 * GS is named (the other overrides have no effect). If its address is not canonical that raises #SS, otherwise #GP.
 */
static inline bool interp_stack_operand(const struct ir_op *ea, const struct ir_op *op)
{
    bool bit_string = op->op == IR_BIT && !(op->flags & IRF_SRC_IMM);
    return (ea->src == IR_RSP || ea->src == IR_RBP) && (bit_string ? op->src2 : ea->dst) == IR_NONE;
}
