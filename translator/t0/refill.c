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

/* Executable address (flags SAVED) of the block at cpu->rip if it exists, is compiled and its mapping is known; enters it into
 * the jump cache. NULL: go out and look properly. 64-bit code only. */
void *t0_resolve(struct x86_cpu *cpu)
{
    struct mmu_table *table = cpu->mmu->table;
    const struct mmu_tlb_entry *entry = &table->entries[(cpu->rip >> 12) & (MMU_TLB_ENTRIES - 1)];
    uint64_t offset = cpu->rip ^ entry->tag[MMU_EXEC];
    cpu->stats[STAT_JUMP_MISSES]++;
    if (offset > 4095 || cpu->vm->tier == ENGINE_LOCKSTEP) {
        return NULL;
    }
    gpa_t gpa = mmu_host_to_gpa(cpu->vm, (const uint8_t *)entry->host + offset);
    const struct block *block = block_find(cpu->vm->blocks, gpa, cpu->mode, 0);
    if (!block || block->second_page || !atomic_load_explicit(&block->code, memory_order_acquire)) {
        return NULL;
    }
    uint32_t hash = (uint32_t)cpu->rip * T0_JUMP_HASH;
    mmu_jump_set(table, hash >> 20, cpu->rip, block->t0->entry[0]);
    return block->t0->entry[0];
}
