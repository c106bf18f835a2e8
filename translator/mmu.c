/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The soft MMU: contexts and flushes. Fills and data accesses are in mmu_access.c, code in mmu_code.c.
 *
 * Theory of operation. A vCPU has MMU_SPACES address spaces, keyed by PCID (one only, without PCIDs), each with one
 * table per privilege (mmu_walk.h). cpu->tlb points to the table in use; a privilege or CR3 change moves the pointer. A
 * table remembers which entries it filled, so that flushing a small process's table does not touch all of it.
 *
 * Large pages are entered 4 KiB at a time. INVLPG must remove all of a large page: a table keeps a small filter of the
 * 2 MiB regions that large mappings were filled from, and sweeps the region's indices when the filter says so.
 *
 * Writes to pages that hold translated code never get a write tag; they come here, and blocks they hit are dropped.
 */
#include "translator/mmu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "translator/block.h"
#include "translator/mmu_internal.h"
#include "translator/mmu_walk.h"
#include "translator/vm.h"

/* --- tables ------------------------------------------------------------------------------------------------- */

static void jump_cache_clear(struct mmu_table *table)
{
    const struct jump_entry empty = {JUMP_INVALID, table->jump_miss};
    if (table->jump_count > MMU_FILLED_MAX) {
        for (unsigned i = 0; i < JUMP_CACHE_ENTRIES; i++) {
            table->jumps[i] = empty;
        }
    } else {
        for (unsigned i = 0; i < table->jump_count; i++) {
            table->jumps[table->jump_filled[i]] = empty;
        }
    }
    table->jumps[0].rip = JUMP_INVALID_FIRST;
    table->jump_count = 0;
}

/* Forgets everything but global pages. */
static void table_flush_local(struct mmu_table *table)
{
    if (!table->ready) {
        return;
    }
    if (table->filled_count > MMU_FILLED_MAX) {
        for (unsigned i = 0; i < MMU_TLB_ENTRIES; i++) {
            if (!(table->global[i / 64] >> (i % 64) & 1)) {
                mmu_entry_clear(table, i);
            }
        }
    } else {
        for (unsigned i = 0; i < table->filled_count; i++) {
            unsigned index = table->filled[i];
            if (!(table->global[index / 64] >> (index % 64) & 1)) {
                mmu_entry_clear(table, index);
            }
        }
    }
    table->filled_count = 0;
    if (table->local_code) {
        jump_cache_clear(table);
        table->local_code = false;
    }
}

static void table_flush(struct mmu_table *table)
{
    if (!table->ready) {
        return;
    }
    for (unsigned i = 0; i < MMU_TLB_ENTRIES / 64; i++) {
        for (uint64_t bits = table->global[i]; bits; bits &= bits - 1) {
            mmu_entry_clear(table, i * 64 + (unsigned)__builtin_ctzll(bits));
        }
        table->global[i] = 0;
    }
    table_flush_local(table);
    jump_cache_clear(table);
    table->large_filter = 0;
    table->huge = false;
    for (unsigned i = 0; i < ARRAY_LEN(table->executed); i++) {
        table->executed[i] = 0;
    }
}

void mmu_table_prepare(struct mmu_table *table)
{
    for (unsigned i = 0; i < MMU_TLB_ENTRIES; i++) {
        mmu_entry_clear(table, i);
    }
    table->jump_count = MMU_FILLED_MAX + 1;
    jump_cache_clear(table);
    table->ready = true;
}

static enum mmu_privilege current_privilege(const struct x86_cpu *cpu)
{
    if (cpu->cpl == 3) {
        return MMU_USER;
    }
    return cpu->cr4 & CR4_SMAP && cpu->rflags & FLAG_AC ? MMU_KERNEL_AC : MMU_KERNEL;
}

static void select_table(struct x86_cpu *cpu)
{
    struct mmu_context *mmu = cpu->mmu;
    mmu->privilege = current_privilege(cpu);
    struct mmu_table *table = &mmu->current->table[mmu->privilege];
    if (!table->ready) {
        mmu_table_prepare(table);
    }
    /* CPL 3 has tables of its own; the rest of the mode, CPL 1 and 2 against 0 too, is told apart here. */
    uint32_t mode = cpu->mode & ~(uint32_t)MODE_CPL3;
    if (table->jump_mode != mode) {
        jump_cache_clear(table);
        table->jump_mode = mode;
    }
    mmu->table = table;
    cpu->tlb = table->entries;
    cpu->jump_cache = table->jumps;
}

static void space_flush(struct mmu_space *space)
{
    for (unsigned i = 0; i < MMU_PRIVILEGES; i++) {
        table_flush(&space->table[i]);
    }
}

/* The space for `key`, taking the least recently used one if there is none yet. */
static struct mmu_space *space_get(struct mmu_context *mmu, uint64_t key)
{
    struct mmu_space *oldest = &mmu->spaces[0];
    for (unsigned i = 0; i < MMU_SPACES; i++) {
        struct mmu_space *space = &mmu->spaces[i];
        if (space->used && space->key == key) {
            return space;
        }
        if (!space->used || (oldest->used && space->stamp < oldest->stamp)) {
            oldest = space;
        }
    }
    space_flush(oldest);
    oldest->used = true;
    oldest->key = key;
    return oldest;
}

static void select_space(struct x86_cpu *cpu)
{
    struct mmu_context *mmu = cpu->mmu;
    uint64_t key = cpu->cr4 & CR4_PCIDE ? cpu->cr3 & 0xfff : 0;
    mmu->current = space_get(mmu, key);
    mmu->current->stamp = ++mmu->stamp;
    select_table(cpu);
}

int mmu_create(struct x86_cpu *cpu)
{
    size_t table_bytes =
        MMU_TLB_ENTRIES * sizeof(struct mmu_tlb_entry) + JUMP_CACHE_ENTRIES * sizeof(struct jump_entry);
    struct mmu_context *mmu = calloc(1, sizeof(*mmu));
    if (!mmu) {
        return -ENOMEM;
    }
    mmu->memory_bytes = table_bytes * MMU_SPACES * MMU_PRIVILEGES;
    mmu->memory = mmap(NULL, mmu->memory_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mmu->memory == MAP_FAILED) {
        free(mmu);
        return -ENOMEM;
    }
    uint8_t *memory = mmu->memory;
    for (unsigned i = 0; i < MMU_SPACES; i++) {
        for (unsigned j = 0; j < MMU_PRIVILEGES; j++, memory += table_bytes) {
            struct mmu_table *table = &mmu->spaces[i].table[j];
            table->entries = (struct mmu_tlb_entry *)memory;
            table->jumps = (struct jump_entry *)(memory + MMU_TLB_ENTRIES * sizeof(struct mmu_tlb_entry));
            table->jump_miss = block_jump_miss(cpu->vm);
        }
    }
    pthread_mutex_init(&mmu->queue_lock, NULL);
    cpu->mmu = mmu;
    select_space(cpu);
    return 0;
}

void mmu_destroy(struct x86_cpu *cpu)
{
    struct mmu_context *mmu = cpu->mmu;
    if (!mmu) {
        return;
    }
    pthread_mutex_destroy(&mmu->queue_lock);
    munmap(mmu->memory, mmu->memory_bytes);
    free(mmu);
    cpu->mmu = NULL;
}

/* --- the guest's changes ------------------------------------------------------------------------------------ */

void mmu_set_cr3(struct x86_cpu *cpu, uint64_t value)
{
    bool pcids = cpu->cr4 & CR4_PCIDE;
    bool keep = pcids && value >> 63;
    cpu->cr3 = value & ~(UINT64_C(1) << 63);
    cpu->stats[MMU_STAT_CR3]++;
    select_space(cpu);
    if (!keep) {
        for (unsigned i = 0; i < MMU_PRIVILEGES; i++) {
            table_flush_local(&cpu->mmu->current->table[i]);
        }
    }
}

void mmu_flush_all(struct x86_cpu *cpu)
{
    struct mmu_context *mmu = cpu->mmu;
    cpu->stats[MMU_STAT_FLUSHES]++;
    for (unsigned i = 0; i < MMU_SPACES; i++) {
        space_flush(&mmu->spaces[i]);
    }
    mmu_write_filter_clear(mmu);
    select_space(cpu);
}

void mmu_paging_changed(struct x86_cpu *cpu)
{
    mmu_flush_all(cpu);
}

/* Takes the rights for data of entries with a key; code stays executable. */
static void table_flush_keyed(struct mmu_table *table)
{
    for (unsigned i = 0; table->any_keyed && i < MMU_TLB_ENTRIES / 64; i++) {
        for (uint64_t bits = table->keyed[i]; bits; bits &= bits - 1) {
            unsigned index = i * 64 + (unsigned)__builtin_ctzll(bits);
            struct mmu_tlb_entry *entry = &table->entries[index];
            entry->tag[MMU_READ] = entry->tag[MMU_WRITE] = mmu_invalid_tag(index);
        }
        table->keyed[i] = 0;
    }
    table->any_keyed = false;
}

/* `changed` are bits of PKRU or PKRS. */
static void keys_changed(struct x86_cpu *cpu, uint32_t changed)
{
    if (changed & 3) {
        mmu_flush_all(cpu); /* every page without a key of its own */
        return;
    }
    for (unsigned i = 0; i < MMU_SPACES; i++) {
        for (unsigned j = 0; j < MMU_PRIVILEGES; j++) {
            table_flush_keyed(&cpu->mmu->spaces[i].table[j]);
        }
    }
}

void mmu_set_pkru(struct x86_cpu *cpu, uint32_t value)
{
    uint32_t changed = cpu->pkru ^ value;
    cpu->pkru = value;
    if (changed && cpu->cr4 & CR4_PKE) { /* setting CR4.PKE flushes everything */
        keys_changed(cpu, changed);
    }
}

void mmu_set_pkrs(struct x86_cpu *cpu, uint32_t value)
{
    uint32_t changed = cpu->pkrs ^ value;
    cpu->pkrs = value;
    if (changed && cpu->cr4 & CR4_PKS) {
        keys_changed(cpu, changed);
    }
}

void mmu_privilege_changed(struct x86_cpu *cpu)
{
    if (cpu->mmu) {
        select_table(cpu);
    }
}

/* Entries of the large page around `la`; 4 MiB covers both sizes that are not huge. */
static void table_invalidate_large(struct mmu_table *table, gva_t la)
{
    gva_t start = la & ~(4 * MIB - 1);
    unsigned first = (unsigned)(start >> 12) & (MMU_TLB_ENTRIES - 1);
    for (unsigned i = 0; i < 1024; i += 64) {
        for (uint64_t bits = table->large[(first + i) / 64]; bits; bits &= bits - 1) {
            unsigned offset = i + (unsigned)__builtin_ctzll(bits);
            gva_t address = start + ((uint64_t)offset << 12);
            const struct mmu_tlb_entry *entry = &table->entries[first + offset];
            if (entry->tag[MMU_READ] == address || entry->tag[MMU_EXEC] == address) {
                mmu_entry_clear(table, first + offset);
            }
        }
    }
}

static void table_invalidate(struct mmu_table *table, gva_t la)
{
    if (!table->ready) {
        return;
    }
    uint64_t page = la & ~MMU_PAGE_MASK;
    if (table->large_filter >> (la >> 21 & 63) & 1) {
        if (table->huge) {
            table_flush(table);
            return;
        }
        table_invalidate_large(table, la);
        jump_cache_clear(table);
    }
    unsigned index = (unsigned)(page >> 12) & (MMU_TLB_ENTRIES - 1);
    const struct mmu_tlb_entry *entry = &table->entries[index];
    if (entry->tag[MMU_READ] == page || entry->tag[MMU_WRITE] == page || entry->tag[MMU_EXEC] == page) {
        mmu_entry_clear(table, index);
    }
    if (mmu_executed_test(table, page)) {
        jump_cache_clear(table);
    }
}

void mmu_invlpg(struct x86_cpu *cpu, gva_t la)
{
    struct mmu_context *mmu = cpu->mmu;
    cpu->stats[MMU_STAT_INVLPG]++;
    /* Other spaces may hold the page as a global one; dropping it there too is always allowed. */
    for (unsigned i = 0; i < MMU_SPACES; i++) {
        if (mmu->spaces[i].used) {
            for (unsigned j = 0; j < MMU_PRIVILEGES; j++) {
                table_invalidate(&mmu->spaces[i].table[j], la);
            }
        }
    }
}

int mmu_invpcid(struct x86_cpu *cpu, unsigned type, uint64_t pcid, gva_t la)
{
    struct mmu_context *mmu = cpu->mmu;
    if (type > 3 || (type < 2 && (pcid & ~UINT64_C(0xfff) || (!(cpu->cr4 & CR4_PCIDE) && pcid))) ||
        (type == 0 && !mmu_canonical(cpu, la))) {
        return x86_raise_error(cpu, EXC_GP, 0);
    }
    for (unsigned i = 0; i < MMU_SPACES; i++) {
        struct mmu_space *space = &mmu->spaces[i];
        if (!space->used || (type < 2 && space->key != pcid)) {
            continue;
        }
        if (type == 0) {
            for (unsigned j = 0; j < MMU_PRIVILEGES; j++) {
                table_invalidate(&space->table[j], la);
            }
        } else {
            space_flush(space);
        }
    }
    return X86_OK;
}
