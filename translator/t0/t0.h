/* SPDX-License-Identifier: Apache-2.0 */
/*
 * T0: the superblock compiler for x86_64 hosts.
 *
 * One pass over a block's IR emits host code into the VM's code cache. Guest state lives in host registers between
 * blocks (t0/regs.h has the convention); what T0 does not compile it hands to the
 * interpreter, by op or by instruction.
 *
 * The code cache is a memfd mapped twice: read-execute for vCPU threads and read-write for the compiler.
 */
#pragma once

#include <stdbool.h>

#include "translator/block.h"

int t0_create(struct translator_vm *vm);
void t0_destroy(struct translator_vm *vm);
/* Drops all code; every vCPU is out of generated code. */
void t0_clear(struct translator_vm *vm);
bool t0_full(struct translator_vm *vm);

/* Executes from `block` on until control comes back to C: as interp_run(). Compiles it first if need be. */
int t0_run(struct x86_cpu *cpu, struct block *block);
/* Compiles the block from its IR if nobody has yet. False: no memory or no room; the block is interpreted. */
bool t0_prepare(struct x86_cpu *cpu, struct block *block, const struct ir_block *ir);
/* Whether this vCPU's present mode is one that T0 compiles. */
bool t0_compiles(const struct x86_cpu *cpu);
/* Makes a dead block's entry points, and links to it, lead out. Under the index's lock; other vCPUs may be executing
 * it. Uses no vector registers. */
void t0_kill(struct translator_vm *vm, struct block *block);
/* Where empty jump-cache entries lead. */
void *t0_jump_miss(struct translator_vm *vm);
