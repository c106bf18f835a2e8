/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The soft MMU: contexts, TLB fills, slow paths of data accesses, flushes.
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
#include "translator/lockstep.h"
#include "translator/mmu_internal.h"
#include "translator/mmu_walk.h"
#include "translator/vm.h"
#include "translator/x86/debug.h"

#define PAGE_MASK UINT64_C(0xfff)

/* --- tables ------------------------------------------------------------------------------------------------- */

/* A tag that no address with this index has: its lowest index bit is the other one. */
static uint64_t invalid_tag(unsigned index)
{
    return (uint64_t)(index ^ 1) << 12;
}

static void entry_clear(struct mmu_table *table, unsigned index)
{
    struct mmu_tlb_entry *entry = &table->entries[index];
    entry->tag[MMU_READ] = entry->tag[MMU_WRITE] = entry->tag[MMU_EXEC] = invalid_tag(index);
}

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
                entry_clear(table, i);
            }
        }
    } else {
        for (unsigned i = 0; i < table->filled_count; i++) {
            unsigned index = table->filled[i];
            if (!(table->global[index / 64] >> (index % 64) & 1)) {
                entry_clear(table, index);
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
            entry_clear(table, i * 64 + (unsigned)__builtin_ctzll(bits));
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

static void table_prepare(struct mmu_table *table)
{
    for (unsigned i = 0; i < MMU_TLB_ENTRIES; i++) {
        entry_clear(table, i);
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
        table_prepare(table);
    }
    /* CPL 3 has tables of its own; the rest of the mode, CPL 1 and 2 against 0 too, is told apart here. */
    uint32_t mode = cpu->mode & ~(uint32_t)MODE_CPL3;
    if (table->jump_mode != mode) {
        jump_cache_clear(table);
        table->jump_mode = mode;
    }
    mmu->table = table;
    cpu->tlb = table->entries;
    cpu->tlb_mask = (uint64_t)(MMU_TLB_ENTRIES - 1) * sizeof(struct mmu_tlb_entry);
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
    size_t table_bytes = MMU_TLB_ENTRIES * sizeof(struct mmu_tlb_entry) + JUMP_CACHE_ENTRIES * sizeof(struct jump_entry);
    struct mmu_context *mmu = calloc(1, sizeof(*mmu));
    if (!mmu) {
        return -ENOMEM;
    }
    mmu->memory_bytes = table_bytes * MMU_SPACES * MMU_PRIVILEGES;
    mmu->memory = mmap(NULL, mmu->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                       -1, 0);
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

/* --- fills -------------------------------------------------------------------------------------------------- */

static bool canonical(struct x86_cpu *cpu, gva_t la)
{
    return !(cpu->efer & EFER_LMA) || (uint64_t)((int64_t)(la << 16) >> 16) == la;
}

static void note_filled(struct mmu_table *table, unsigned index, gva_t la, const struct mmu_walk *walk)
{
    uint64_t bit = UINT64_C(1) << (index % 64);
    if (walk->global) {
        table->global[index / 64] |= bit;
    } else {
        table->global[index / 64] &= ~bit;
        if (table->filled_count < MMU_FILLED_MAX) {
            table->filled[table->filled_count++] = (uint16_t)index;
        } else {
            table->filled_count = MMU_FILLED_MAX + 1;
        }
    }
    if (walk->page_bytes > 2 * MIB) {
        table->huge = true;
        table->large_filter |= UINT64_C(1) << (la >> 21 & 63);
    } else if (walk->page_bytes > 4096) {
        table->large_filter |= UINT64_C(1) << (la >> 21 & 63);
    }
}

/* Whether the instruction under way comes from that page: then its block may be changing itself. */
static bool executes_from(struct x86_cpu *cpu, const uint8_t *host)
{
    const struct mmu_tlb_entry *entry =
        &cpu->mmu->table->entries[(cpu->pc_base >> 12) & (MMU_TLB_ENTRIES - 1)];
    return entry->tag[MMU_EXEC] != (cpu->pc_base & ~PAGE_MASK) || entry->host == (uint64_t)host;
}

/*
 * Translates the page of `la` for an access with `privilege`, enters what may be entered into that privilege's table.
 * X86_OK or X86_RAISE.
 */
static int fill(struct x86_cpu *cpu, gva_t la, enum mmu_access access, enum mmu_privilege privilege,
                struct mmu_page *ret)
{
    struct mmu_context *mmu = cpu->mmu;
    struct mmu_walk walk;
    uint32_t error;

    if (!canonical(cpu, la)) {
        return x86_raise_error(cpu, EXC_GP, 0);
    }
    cpu->stats[MMU_STAT_FILLS]++;
    if (mmu_walk(cpu, la, access, privilege, &walk, &error) < 0) {
        return x86_raise_pf(cpu, la, error);
    }
    struct vm_slot *slot = vm_slot_find(cpu->vm, walk.page);
    *ret = (struct mmu_page){.gpa = walk.page};
    if (!slot) {
        return X86_OK;
    }
    size_t number = (walk.page - slot->s.gpa) >> 12;
    ret->host = slot->s.host + (number << 12);
    ret->readonly = slot->s.readonly;

    struct mmu_table *table = &mmu->current->table[privilege];
    if (!table->ready) {
        table_prepare(table);
    }
    unsigned index = (unsigned)(la >> 12) & (MMU_TLB_ENTRIES - 1);
    struct mmu_tlb_entry *entry = &table->entries[index];
    uint64_t page = la & ~PAGE_MASK;
    if (entry->host != (uint64_t)ret->host || (entry->tag[MMU_READ] != page && entry->tag[MMU_EXEC] != page)) {
        entry_clear(table, index);
        note_filled(table, index, la, &walk);
    }
    entry->host = (uint64_t)ret->host;
    if (walk.rights & MMU_R) {
        entry->tag[MMU_READ] = page;
    }
    if (walk.rights & MMU_W && !slot->s.readonly) {
        /* Announce the write tag before looking at the page's flag: mmu_protect_code() sets the flag and then looks
         * at the announcement, so one of the two sees the other. */
        mmu_write_filter_set(mmu, walk.page);
        bool code = atomic_load(&slot->page_flags[number]) & VM_PAGE_CODE;
        if (code && access == MMU_WRITE && !executes_from(cpu, ret->host)) {
            code = !block_write_wanted(cpu, walk.page);
        }
        if (!code) {
            entry->tag[MMU_WRITE] = page;
        }
    }
    ret->code = atomic_load_explicit(&slot->page_flags[number], memory_order_relaxed) & VM_PAGE_CODE;
    if (access == MMU_EXEC) {
        if (ret->code) {
            block_check_page(cpu, walk.page);
        }
        entry->tag[MMU_EXEC] = page;
        table->local_code |= !walk.global;
        mmu_executed_set(table, page);
    }
    return X86_OK;
}

static struct mmu_tlb_entry *lookup(struct mmu_table *table, gva_t la)
{
    return &table->entries[(la >> 12) & (MMU_TLB_ENTRIES - 1)];
}

/* Offset in the page if the whole access hits, otherwise something >= 4096. */
static uint64_t hit_offset(const struct mmu_tlb_entry *entry, gva_t la, unsigned size, enum mmu_access access)
{
    uint64_t offset = la ^ entry->tag[access];
    return offset <= 4096 - size ? offset : UINT64_MAX;
}

static struct mmu_table *table_for(struct x86_cpu *cpu, enum mmu_privilege privilege)
{
    struct mmu_table *table = &cpu->mmu->current->table[privilege];
    if (!table->ready) {
        table_prepare(table);
    }
    return table;
}

/* --- data accesses ------------------------------------------------------------------------------------------ */

static void copy_sized(void *to, const void *from, unsigned size)
{
    switch (size) {
    case 1:
        *(uint8_t *)to = *(const uint8_t *)from;
        break;
    case 2:
        __builtin_memcpy(to, from, 2);
        break;
    case 4:
        __builtin_memcpy(to, from, 4);
        break;
    case 8:
        __builtin_memcpy(to, from, 8);
        break;
    default:
        memcpy(to, from, size);
    }
}

/* Largest power of two up to 8 that is not more than `size`. */
static unsigned io_piece(unsigned size)
{
    return size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
}

static void io_read(struct x86_cpu *cpu, gpa_t gpa, unsigned size, uint8_t *data)
{
    cpu->stats[MMU_STAT_IO]++;
    if (cpu->journal) {
        cpu->journal->unrepeatable = true;
    }
    while (size) {
        unsigned piece = io_piece(size);
        uint64_t value = cpu->ops->io_read(cpu->opaque, cpu->index, true, gpa, piece);
        memcpy(data, &value, piece);
        gpa += piece;
        data += piece;
        size -= piece;
    }
}

static void io_write(struct x86_cpu *cpu, gpa_t gpa, unsigned size, const uint8_t *data)
{
    cpu->stats[MMU_STAT_IO]++;
    if (cpu->journal) {
        cpu->journal->unrepeatable = true;
    }
    while (size) {
        unsigned piece = io_piece(size);
        uint64_t value = 0;
        memcpy(&value, data, piece);
        cpu->ops->io_write(cpu->opaque, cpu->index, true, gpa, piece, value);
        gpa += piece;
        data += piece;
        size -= piece;
    }
}

static void page_read(struct x86_cpu *cpu, const struct mmu_page *page, unsigned offset, unsigned size, void *data)
{
    if (page->host) {
        copy_sized(data, page->host + offset, size);
    } else {
        io_read(cpu, page->gpa + offset, size, data);
    }
}

static void page_write(struct x86_cpu *cpu, const struct mmu_page *page, unsigned offset, unsigned size,
                       const void *data)
{
    if (!page->host || page->readonly) {
        io_write(cpu, page->gpa + offset, size, data);
        return;
    }
    if (__builtin_expect(cpu->journal != NULL, 0)) {
        mmu_journal_write(cpu->journal, page->host + offset, size);
        cpu->journal->unrepeatable |= page->code && block_code_overlaps(cpu->vm, page->gpa + offset, size);
    }
    copy_sized(page->host + offset, data, size);
    if (page->code) {
        cpu->stats[MMU_STAT_CODE_WRITES]++;
        block_code_written(cpu, page->gpa + offset, size);
    }
}

/* Linear addresses wrap at 4 GiB outside long mode. */
static gva_t next_page(struct x86_cpu *cpu, gva_t la)
{
    gva_t next = (la | PAGE_MASK) + 1;
    return cpu->efer & EFER_LMA ? next : (uint32_t)next;
}

/* The first page of an access. One that runs out of the canonical range raises #GP before any page is looked at. */
static int fill_first(struct x86_cpu *cpu, gva_t la, unsigned size, enum mmu_access access,
                      enum mmu_privilege privilege, struct mmu_page *ret)
{
    if ((la & PAGE_MASK) + size > 4096 && !canonical(cpu, next_page(cpu, la))) {
        return x86_raise_error(cpu, EXC_GP, 0);
    }
    return fill(cpu, la, access, privilege, ret);
}

static int read_slow(struct x86_cpu *cpu, enum mmu_privilege privilege, gva_t la, unsigned size, void *data)
{
    struct mmu_page page, second;
    unsigned offset = la & PAGE_MASK;
    unsigned first_bytes = offset + size > 4096 ? 4096 - offset : size;

    int r = fill_first(cpu, la, size, MMU_READ, privilege, &page);
    if (r != X86_OK) {
        return r;
    }
    if (first_bytes < size) {
        r = fill(cpu, next_page(cpu, la), MMU_READ, privilege, &second);
        if (r != X86_OK) {
            return r;
        }
        page_read(cpu, &second, 0, size - first_bytes, (uint8_t *)data + first_bytes);
    }
    page_read(cpu, &page, offset, first_bytes, data);
    return X86_OK;
}

static int write_slow(struct x86_cpu *cpu, enum mmu_privilege privilege, gva_t la, unsigned size, const void *data)
{
    struct mmu_page page, second;
    unsigned offset = la & PAGE_MASK;
    unsigned first_bytes = offset + size > 4096 ? 4096 - offset : size;

    int r = fill_first(cpu, la, size, MMU_WRITE, privilege, &page);
    if (r != X86_OK) {
        return r;
    }
    if (first_bytes < size) {
        r = fill(cpu, next_page(cpu, la), MMU_WRITE, privilege, &second);
        if (r != X86_OK) {
            return r;
        }
        page_write(cpu, &second, 0, size - first_bytes, (const uint8_t *)data + first_bytes);
    }
    page_write(cpu, &page, offset, first_bytes, data);
    return X86_OK;
}

static inline int read_with(struct x86_cpu *cpu, struct mmu_table *table, enum mmu_privilege privilege, gva_t la,
                            unsigned size, void *data)
{
    if (__builtin_expect(cpu->debug_active, 0)) {
        x86_debug_access(cpu, la, size, false);
    }
    struct mmu_tlb_entry *entry = lookup(table, la);
    uint64_t offset = hit_offset(entry, la, size, MMU_READ);
    if (__builtin_expect(offset != UINT64_MAX, 1)) {
        copy_sized(data, (const uint8_t *)entry->host + offset, size);
        return X86_OK;
    }
    return read_slow(cpu, privilege, la, size, data);
}

static inline int write_with(struct x86_cpu *cpu, struct mmu_table *table, enum mmu_privilege privilege, gva_t la,
                             unsigned size, const void *data)
{
    if (__builtin_expect(cpu->debug_active, 0)) {
        x86_debug_access(cpu, la, size, true);
    }
    struct mmu_tlb_entry *entry = lookup(table, la);
    uint64_t offset = hit_offset(entry, la, size, MMU_WRITE);
    if (__builtin_expect(offset != UINT64_MAX && !cpu->journal, 1)) {
        copy_sized((uint8_t *)entry->host + offset, data, size);
        return X86_OK;
    }
    return write_slow(cpu, privilege, la, size, data);
}

int mmu_read(struct x86_cpu *cpu, gva_t la, unsigned size, void *data)
{
    return read_with(cpu, cpu->mmu->table, cpu->mmu->privilege, la, size, data);
}

int mmu_write(struct x86_cpu *cpu, gva_t la, unsigned size, const void *data)
{
    return write_with(cpu, cpu->mmu->table, cpu->mmu->privilege, la, size, data);
}

int mmu_read_sys(struct x86_cpu *cpu, gva_t la, unsigned size, void *data)
{
    return read_with(cpu, table_for(cpu, MMU_KERNEL), MMU_KERNEL, la, size, data);
}

int mmu_write_sys(struct x86_cpu *cpu, gva_t la, unsigned size, const void *data)
{
    return write_with(cpu, table_for(cpu, MMU_KERNEL), MMU_KERNEL, la, size, data);
}

static enum mmu_privilege privilege_of(struct x86_cpu *cpu, unsigned cpl)
{
    return cpl == 3 ? MMU_USER : cpu->cpl == 3 ? MMU_KERNEL : cpu->mmu->privilege;
}

int mmu_write_as(struct x86_cpu *cpu, unsigned cpl, gva_t la, unsigned size, const void *data)
{
    enum mmu_privilege privilege = privilege_of(cpu, cpl);
    return write_with(cpu, table_for(cpu, privilege), privilege, la, size, data);
}

int mmu_read_as(struct x86_cpu *cpu, unsigned cpl, gva_t la, unsigned size, void *data)
{
    enum mmu_privilege privilege = privilege_of(cpu, cpl);
    return read_with(cpu, table_for(cpu, privilege), privilege, la, size, data);
}

int mmu_probe(struct x86_cpu *cpu, gva_t la, unsigned size, enum mmu_access access)
{
    struct mmu_page page;
    enum mmu_privilege privilege = cpu->mmu->privilege;
    if (hit_offset(lookup(cpu->mmu->table, la), la, size, access) != UINT64_MAX) {
        return X86_OK;
    }
    int r = fill_first(cpu, la, size, access, privilege, &page);
    if (r == X86_OK && (la & PAGE_MASK) + size > 4096) {
        r = fill(cpu, next_page(cpu, la), access, privilege, &page);
    }
    return r;
}

/* RAM behind a write that the fast path refused only because of code elsewhere on the page, or NULL. */
static uint8_t *writable_beside_code(struct x86_cpu *cpu, gva_t la, unsigned size)
{
    struct mmu_page page;
    if ((la & PAGE_MASK) + size > 4096 || fill(cpu, la, MMU_WRITE, cpu->mmu->privilege, &page) != X86_OK) {
        return NULL;
    }
    if (!page.host || page.readonly ||
        (page.code && block_code_overlaps(cpu->vm, page.gpa + (la & PAGE_MASK), size))) {
        return NULL;
    }
    return page.host + (la & PAGE_MASK);
}

int mmu_rmw_begin(struct x86_cpu *cpu, gva_t la, unsigned size, bool locked, struct mmu_rmw *ret_rmw)
{
    struct mmu_tlb_entry *entry = lookup(cpu->mmu->table, la);
    uint64_t offset = hit_offset(entry, la, size, MMU_WRITE);
    ret_rmw->exclusive = false;
    if (__builtin_expect(cpu->debug_active, 0)) {
        x86_debug_access(cpu, la, size, true);
    }
    if (__builtin_expect(offset != UINT64_MAX && !cpu->journal, 1)) {
        ret_rmw->direct = true;
        ret_rmw->ptr = (uint8_t *)entry->host + offset;
        return X86_OK;
    }
    int r = mmu_probe(cpu, la, size, MMU_WRITE);
    if (r != X86_OK) {
        return r;
    }
    ret_rmw->ptr = cpu->journal ? NULL : writable_beside_code(cpu, la, size);
    ret_rmw->direct = ret_rmw->ptr != NULL;
    if (ret_rmw->direct) {
        return X86_OK;
    }
    if (locked) {
        vm_exclusive_begin(cpu, false);
        ret_rmw->exclusive = true;
    }
    ret_rmw->la = la;
    ret_rmw->size = size;
    ret_rmw->ptr = ret_rmw->buffer;
    r = mmu_read(cpu, la, size, ret_rmw->buffer);
    if (r != X86_OK && ret_rmw->exclusive) {
        vm_exclusive_end(cpu);
    }
    return r;
}

void mmu_rmw_commit(struct x86_cpu *cpu, struct mmu_rmw *rmw)
{
    if (rmw->direct) {
        return;
    }
    /* Cannot fault: begin probed for writing and this vCPU did nothing since that changes its TLB's view. Should the
     * guest have changed the tables meanwhile, the write is lost with its mapping. */
    if (mmu_write(cpu, rmw->la, rmw->size, rmw->buffer) != X86_OK) {
        cpu->exc.pending = false;
    }
    if (rmw->exclusive) {
        vm_exclusive_end(cpu);
    }
}

void *mmu_host(struct x86_cpu *cpu, gva_t la, unsigned size, enum mmu_access access)
{
    struct mmu_tlb_entry *entry = lookup(cpu->mmu->table, la);
    uint64_t offset = hit_offset(entry, la, size, access);
    return offset == UINT64_MAX || cpu->journal || cpu->debug_active ? NULL : (uint8_t *)entry->host + offset;
}

void *mmu_refill(struct x86_cpu *cpu, gva_t la, unsigned size, enum mmu_access access)
{
    struct mmu_page page;
    if ((la & PAGE_MASK) + size > 4096) {
        return NULL;
    }
    if (fill(cpu, la, access, cpu->mmu->privilege, &page) != X86_OK) {
        cpu->exc.pending = false; /* the slow path raises it again */
        return NULL;
    }
    return mmu_host(cpu, la, size, access);
}

/* --- code --------------------------------------------------------------------------------------------------- */

gpa_t mmu_host_to_gpa(struct translator_vm *vm, const uint8_t *host)
{
    for (unsigned i = 0; i < vm->slot_count; i++) {
        const struct mmu_slot *slot = &vm->slots[i].s;
        if ((uint64_t)(host - slot->host) < slot->bytes) {
            return slot->gpa + (uint64_t)(host - slot->host);
        }
    }
    return 0;
}

int mmu_fetch(struct x86_cpu *cpu, gva_t la, gpa_t *ret_gpa, const uint8_t **ret_host)
{
    struct mmu_tlb_entry *entry = lookup(cpu->mmu->table, la);
    uint64_t offset = hit_offset(entry, la, 1, MMU_EXEC);
    if (__builtin_expect(offset != UINT64_MAX, 1)) {
        *ret_host = (const uint8_t *)entry->host + offset;
        *ret_gpa = mmu_host_to_gpa(cpu->vm, *ret_host);
        return X86_OK;
    }
    struct mmu_page page;
    int r = fill(cpu, la, MMU_EXEC, cpu->mmu->privilege, &page);
    if (r == X86_OK) {
        *ret_gpa = page.gpa + (la & PAGE_MASK);
        *ret_host = page.host ? page.host + (la & PAGE_MASK) : NULL;
    }
    return r;
}

/* Takes the write tags of one physical page out of all of this vCPU's tables. */
static void drop_write_tags(struct x86_cpu *cpu, const uint8_t *host)
{
    struct mmu_context *mmu = cpu->mmu;
    for (unsigned i = 0; i < MMU_SPACES; i++) {
        for (unsigned j = 0; j < MMU_PRIVILEGES; j++) {
            struct mmu_table *table = &mmu->spaces[i].table[j];
            if (!table->ready) {
                continue;
            }
            for (unsigned k = 0; k < MMU_TLB_ENTRIES; k++) {
                if (table->entries[k].host == (uint64_t)host) {
                    table->entries[k].tag[MMU_WRITE] = invalid_tag(k);
                }
            }
        }
    }
}

void mmu_protect_code(struct x86_cpu *cpu, gpa_t page)
{
    struct translator_vm *vm = cpu->vm;
    struct vm_slot *slot = vm_slot_find(vm, page);
    if (!slot || atomic_fetch_or(&slot->page_flags[(page - slot->s.gpa) >> 12], VM_PAGE_CODE) & VM_PAGE_CODE) {
        return;
    }
    for (unsigned i = 0; i < vm->max_cpus; i++) {
        struct x86_cpu *other = vm->cpus[i];
        if (!other || !mmu_write_filter_test(other->mmu, page)) {
            continue;
        }
        if (other == cpu) {
            drop_write_tags(cpu, slot->s.host + (page - slot->s.gpa));
            continue;
        }
        struct mmu_context *mmu = other->mmu;
        pthread_mutex_lock(&mmu->queue_lock);
        if (mmu->queue_count < MMU_QUEUE_MAX) {
            mmu->queue[mmu->queue_count] = page;
        }
        mmu->queue_count++; /* beyond the maximum: flush everything */
        pthread_mutex_unlock(&mmu->queue_lock);
        engine_request(other, X86_REQ_TLB);
    }
}

void mmu_process_requests(struct x86_cpu *cpu)
{
    struct mmu_context *mmu = cpu->mmu;
    gpa_t pages[MMU_QUEUE_MAX];
    pthread_mutex_lock(&mmu->queue_lock);
    unsigned count = mmu->queue_count;
    memcpy(pages, mmu->queue, sizeof(pages));
    mmu->queue_count = 0;
    pthread_mutex_unlock(&mmu->queue_lock);
    if (count > MMU_QUEUE_MAX) {
        mmu_flush_all(cpu);
        block_check_all(cpu);
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        uint8_t *host = mmu_phys_page(cpu->vm, pages[i], NULL);
        if (host) {
            drop_write_tags(cpu, host);
            block_check_page(cpu, pages[i]);
        }
    }
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

void mmu_privilege_changed(struct x86_cpu *cpu)
{
    if (cpu->mmu) {
        select_table(cpu);
    }
}

static void table_invalidate(struct mmu_table *table, gva_t la)
{
    if (!table->ready) {
        return;
    }
    uint64_t page = la & ~PAGE_MASK;
    if (table->large_filter >> (la >> 21 & 63) & 1) {
        if (table->huge) {
            table_flush(table);
            return;
        }
        /* 4 MiB covers both large page sizes. */
        gva_t start = la & ~(4 * MIB - 1);
        for (unsigned i = 0; i < 1024; i++) {
            gva_t address = start + ((uint64_t)i << 12);
            unsigned index = (unsigned)(address >> 12) & (MMU_TLB_ENTRIES - 1);
            const struct mmu_tlb_entry *entry = &table->entries[index];
            if (entry->tag[MMU_READ] == address || entry->tag[MMU_EXEC] == address) {
                entry_clear(table, index);
            }
        }
        jump_cache_clear(table);
        return;
    }
    unsigned index = (unsigned)(page >> 12) & (MMU_TLB_ENTRIES - 1);
    const struct mmu_tlb_entry *entry = &table->entries[index];
    if (entry->tag[MMU_READ] == page || entry->tag[MMU_WRITE] == page || entry->tag[MMU_EXEC] == page) {
        entry_clear(table, index);
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
        (type == 0 && !canonical(cpu, la))) {
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
