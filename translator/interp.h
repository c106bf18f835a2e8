/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The IR interpreter: portable C, the reference for every op.
 *
 * Works on struct x86_cpu directly (all state in memory, rflags complete).
 */
#pragma once

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
