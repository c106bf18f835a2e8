/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The execution engine: finds or makes the block at cpu->rip and runs it in the tier that fits, again and again.
 *
 * translator/x86/run.c is its only caller: it handles requests, interrupts and exceptions between two calls.
 */
#pragma once

#include "translator/x86/cpu.h"

enum engine_tier { ENGINE_AUTO, ENGINE_INTERPRETER, ENGINE_T0, ENGINE_LOCKSTEP /* lockstep.h */ };

/* Creates the VM-wide part (code cache, block index). `max_cpus` bounds x86_cpu.index. 0 or -errno. */
int translator_vm_create(unsigned max_cpus, enum engine_tier tier, struct translator_vm **ret_vm);
void translator_vm_destroy(struct translator_vm *vm);

/* Allocates a vCPU (with its host stack below it), attaches it to `vm`, creates its MMU; then x86_cpu_reset(). */
int x86_cpu_create(struct translator_vm *vm, unsigned index, const struct x86_cpu_ops *ops, void *opaque,
                   struct x86_cpu **ret_cpu);
void x86_cpu_destroy(struct x86_cpu *cpu);

/*
 * Executes guest code from cpu->rip (pc_base consistent, no pending exception). Comes out with
 *  X86_JUMP   at an instruction boundary because cpu->requests is set, an interrupt shadow ended, or RFLAGS.IF/TF
 *             matter (an op marked IRF_END that may have enabled interrupts);
 *  X86_RAISE  cpu->exc is to be delivered, cpu->rip is the faulting instruction;
 *  X86_EXIT   cpu->exit_reason.
 */
int engine_run(struct x86_cpu *cpu);

/* Executes one instruction from cpu->rip in the interpreter, whatever requests there are; results as above. */
int engine_step(struct x86_cpu *cpu);

/* Any thread: sets request bits and makes generated code come out at its next poll. */
void engine_request(struct x86_cpu *cpu, uint32_t bits);

/* --- translator/x86/run.c ------------------------------------------------------------------------------------ */

/* The vCPU's main loop: requests, NMI and interrupt delivery, exceptions, engine_run(), until one of the reasons. */
enum x86_run_exit x86_run(struct x86_cpu *cpu);
