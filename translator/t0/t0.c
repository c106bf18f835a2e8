/* SPDX-License-Identifier: Apache-2.0 */
#include "translator/t0/t0.h"

#include "translator/interp.h"

int t0_create(struct translator_vm *vm)
{
    return 0;
}

void t0_destroy(struct translator_vm *vm)
{
}

void t0_clear(struct translator_vm *vm)
{
}

bool t0_full(struct translator_vm *vm)
{
    return false;
}

int t0_run(struct x86_cpu *cpu, struct block *block)
{
    return interp_run(cpu, &block->ir, 0);
}

void t0_kill(struct block *block)
{
}

void *t0_jump_miss(struct translator_vm *vm)
{
    return NULL;
}
