/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refills: of the soft TLB and of the jump cache, as generated code calls them.
 *
 * They run with the guest's vector registers still in the host's: this file and what it reaches are compiled
 * without them (meson.build: -mgeneral-regs-only).
 */
#include "translator/block_find.h"
#include "translator/mmu_internal.h"
#include "translator/t0/t0_internal.h"

void *t0_refill(struct x86_cpu *cpu, gva_t la, uint32_t info)
{
    return mmu_refill(cpu, la, info >> 16 & 0xff, info >> 24);
}

/* The branch that went to cpu->rip, which is not canonical, is taken back and left to the interpreter, which raises #GP. */
static void *branch_back(struct x86_cpu *cpu)
{
    int32_t note = cpu->branch_note;
    if (note == T0_NOTE_NONE) {
        return NULL;
    }
    cpu->gpr[IR_RSP] += (uint64_t)(int64_t)(note >> 12);
    cpu->slow_info = note & 0xfff;
    return (void *)cpu->vm->code->thunks.branch_back;
}

/* Where to go on for cpu->rip, flags SAVED: the block there if it exists, is compiled and its mapping is known; it is entered
 * into the jump cache. NULL: go out and look properly. */
void *t0_resolve(struct x86_cpu *cpu)
{
    struct translator_vm *vm = cpu->vm;
    struct mmu_table *table = cpu->mmu->table;
    const uint8_t *host = mmu_fetch_hit(table, cpu->rip);
    cpu->stats[STAT_JUMP_MISSES]++;
    if (cpu->mode & MODE_CS64 && !mmu_canonical(cpu, cpu->rip)) {
        return branch_back(cpu);
    }
    if (!host || vm->tier == ENGINE_LOCKSTEP) {
        return NULL;
    }
    gpa_t second_page = BLOCK_NO_PAGE;
    if ((cpu->rip & 0xfff) > 4096 - 15) {
        const uint8_t *next = mmu_fetch_hit(table, (cpu->rip | 0xfff) + 1);
        second_page = next ? mmu_host_to_gpa(vm, next) : BLOCK_NO_PAGE;
    }
    const struct block *block = block_find(vm->blocks, mmu_host_to_gpa(vm, host), cpu->mode, second_page);
    if (!block || !atomic_load_explicit(&block->code, memory_order_acquire)) {
        return NULL;
    }
    mmu_jump_set(table, cpu->rip, block->t0->entry[0]);
    cpu->pc_base = cpu->rip & ~MMU_PAGE_MASK;
    return block->t0->entry[0];
}
