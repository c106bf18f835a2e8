/* SPDX-License-Identifier: Apache-2.0 */
/* The soft MMU's fills and the data accesses of C code. */
#include <string.h>

#include "translator/block.h"
#include "translator/lockstep.h"
#include "translator/mmu_internal.h"
#include "translator/mmu_walk.h"
#include "translator/vm.h"
#include "translator/x86/debug.h"

/* --- fills -------------------------------------------------------------------------------------------------- */

static void note_filled(struct mmu_table *table, unsigned index, const struct mmu_walk *walk)
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
}

/* INVLPG of any address of a large page must find this part of it. */
static void note_size(struct mmu_table *table, unsigned index, gva_t la, uint64_t page_bytes)
{
    uint64_t bit = UINT64_C(1) << (index % 64);
    if (page_bytes <= 4096) {
        table->large[index / 64] &= ~bit;
        return;
    }
    table->large[index / 64] |= bit;
    if (page_bytes > 4 * MIB) {
        table->huge = true;
        table->large_filter = UINT64_MAX;
    } else {
        table->large_filter |= UINT64_C(3) << (la >> 21 & 62); /* both halves of 4 MiB */
    }
}

static void note_key(struct mmu_table *table, unsigned index, uint8_t key)
{
    if (key != 0 && key != MMU_NO_KEY) {
        table->keyed[index / 64] |= UINT64_C(1) << (index % 64);
        table->any_keyed = true;
    }
}

/* Whether the instruction under way comes from that page: then its block may be changing itself. */
static bool executes_from(struct x86_cpu *cpu, const uint8_t *host)
{
    const struct mmu_tlb_entry *entry =
        &cpu->mmu->table->entries[(cpu->pc_base >> 12) & (MMU_TLB_ENTRIES - 1)];
    return entry->tag[MMU_EXEC] != (cpu->pc_base & ~MMU_PAGE_MASK) || entry->host == (uint64_t)host;
}

static int raise_noncanonical(struct x86_cpu *cpu)
{
    x86_raise_error(cpu, EXC_GP, 0);
    cpu->exc.noncanonical = true;
    return X86_RAISE;
}

/*
 * Translates the page of `la` for an access with `privilege`, enters what may be entered into that privilege's table.
 * X86_OK or X86_RAISE.
 */
int mmu_fill(struct x86_cpu *cpu, gva_t la, enum mmu_access access, enum mmu_privilege privilege,
             struct mmu_page *ret)
{
    struct mmu_context *mmu = cpu->mmu;
    struct mmu_walk walk;
    uint32_t error;

    if (!mmu_canonical(cpu, la)) {
        return raise_noncanonical(cpu);
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
        mmu_table_prepare(table);
    }
    unsigned index = (unsigned)(la >> 12) & (MMU_TLB_ENTRIES - 1);
    struct mmu_tlb_entry *entry = &table->entries[index];
    uint64_t page = la & ~MMU_PAGE_MASK;
    if (entry->host != (uint64_t)ret->host || (entry->tag[MMU_READ] != page && entry->tag[MMU_EXEC] != page)) {
        mmu_entry_clear(table, index);
        note_filled(table, index, &walk);
    }
    entry->host = (uint64_t)ret->host;
    note_size(table, index, la, walk.page_bytes);
    note_key(table, index, walk.key);
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

static struct mmu_table *table_for(struct x86_cpu *cpu, enum mmu_privilege privilege)
{
    struct mmu_table *table = &cpu->mmu->current->table[privilege];
    if (!table->ready) {
        mmu_table_prepare(table);
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
    device_writes_sync(cpu);
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
    device_writes_sync(cpu);
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
    gva_t next = (la | MMU_PAGE_MASK) + 1;
    return cpu->efer & EFER_LMA ? next : (uint32_t)next;
}

/* The first page of an access. One that runs out of the canonical range raises #GP before any page is looked at. */
static int fill_first(struct x86_cpu *cpu, gva_t la, unsigned size, enum mmu_access access,
                      enum mmu_privilege privilege, struct mmu_page *ret)
{
    if ((la & MMU_PAGE_MASK) + size > 4096 && !mmu_canonical(cpu, next_page(cpu, la))) {
        return raise_noncanonical(cpu);
    }
    return mmu_fill(cpu, la, access, privilege, ret);
}

static int read_slow(struct x86_cpu *cpu, enum mmu_privilege privilege, gva_t la, unsigned size, void *data)
{
    struct mmu_page page, second;
    unsigned offset = la & MMU_PAGE_MASK;
    unsigned first_bytes = offset + size > 4096 ? 4096 - offset : size;

    int r = fill_first(cpu, la, size, MMU_READ, privilege, &page);
    if (r != X86_OK) {
        return r;
    }
    if (first_bytes < size) {
        r = mmu_fill(cpu, next_page(cpu, la), MMU_READ, privilege, &second);
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
    unsigned offset = la & MMU_PAGE_MASK;
    unsigned first_bytes = offset + size > 4096 ? 4096 - offset : size;

    int r = fill_first(cpu, la, size, MMU_WRITE, privilege, &page);
    if (r != X86_OK) {
        return r;
    }
    if (first_bytes < size) {
        r = mmu_fill(cpu, next_page(cpu, la), MMU_WRITE, privilege, &second);
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
    struct mmu_tlb_entry *entry = mmu_lookup(table, la);
    uint64_t offset = mmu_hit_offset(entry, la, size, MMU_READ);
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
    struct mmu_tlb_entry *entry = mmu_lookup(table, la);
    uint64_t offset = mmu_hit_offset(entry, la, size, MMU_WRITE);
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
    if (mmu_hit_offset(mmu_lookup(cpu->mmu->table, la), la, size, access) != UINT64_MAX) {
        return X86_OK;
    }
    int r = fill_first(cpu, la, size, access, privilege, &page);
    if (r == X86_OK && (la & MMU_PAGE_MASK) + size > 4096) {
        r = mmu_fill(cpu, next_page(cpu, la), access, privilege, &page);
    }
    return r;
}

/* RAM behind a write that the fast path refused only because of code elsewhere on the page, or NULL. */
static uint8_t *writable_beside_code(struct x86_cpu *cpu, gva_t la, unsigned size)
{
    struct mmu_page page;
    if ((la & MMU_PAGE_MASK) + size > 4096 || mmu_fill(cpu, la, MMU_WRITE, cpu->mmu->privilege, &page) != X86_OK) {
        return NULL;
    }
    if (!page.host || page.readonly ||
        (page.code && block_code_overlaps(cpu->vm, page.gpa + (la & MMU_PAGE_MASK), size))) {
        return NULL;
    }
    return page.host + (la & MMU_PAGE_MASK);
}

int mmu_rmw_begin(struct x86_cpu *cpu, gva_t la, unsigned size, bool locked, struct mmu_rmw *ret_rmw)
{
    struct mmu_tlb_entry *entry = mmu_lookup(cpu->mmu->table, la);
    uint64_t offset = mmu_hit_offset(entry, la, size, MMU_WRITE);
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
    struct mmu_tlb_entry *entry = mmu_lookup(cpu->mmu->table, la);
    uint64_t offset = mmu_hit_offset(entry, la, size, access);
    return offset == UINT64_MAX || cpu->journal || cpu->debug_active ? NULL : (uint8_t *)entry->host + offset;
}

void *mmu_refill(struct x86_cpu *cpu, gva_t la, unsigned size, enum mmu_access access)
{
    struct mmu_page page;
    if ((la & MMU_PAGE_MASK) + size > 4096) {
        return NULL;
    }
    if (mmu_fill(cpu, la, access, cpu->mmu->privilege, &page) != X86_OK) {
        cpu->exc.pending = false; /* the slow path raises it again */
        return NULL;
    }
    return mmu_host(cpu, la, size, access);
}
