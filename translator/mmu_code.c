/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The soft MMU's view of code: fetches, and the protection of pages that blocks were made from.
 *
 * Writes to such pages never get a write tag; they come to the slow path, and blocks they hit are dropped.
 */
#include <string.h>

#include "translator/block.h"
#include "translator/mmu_internal.h"
#include "translator/vm.h"

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
    struct mmu_tlb_entry *entry = mmu_lookup(cpu->mmu->table, la);
    uint64_t offset = mmu_hit_offset(entry, la, 1, MMU_EXEC);
    if (__builtin_expect(offset != UINT64_MAX, 1)) {
        *ret_host = (const uint8_t *)entry->host + offset;
        *ret_gpa = mmu_host_to_gpa(cpu->vm, *ret_host);
        return X86_OK;
    }
    struct mmu_page page;
    int r = mmu_fill(cpu, la, MMU_EXEC, cpu->mmu->privilege, &page);
    if (r == X86_OK) {
        *ret_gpa = page.gpa + (la & MMU_PAGE_MASK);
        *ret_host = page.host ? page.host + (la & MMU_PAGE_MASK) : NULL;
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
                    table->entries[k].tag[MMU_WRITE] = mmu_invalid_tag(k);
                }
            }
        }
    }
}

void mmu_protect_code(struct x86_cpu *cpu, gpa_t page)
{
    struct translator_vm *vm = cpu->vm;
    struct vm_slot *slot = vm_slot_find(vm, page);
    _Atomic uint8_t *flags = slot ? &slot->page_flags[(page - slot->s.gpa) >> 12] : NULL;
    if (!slot || atomic_load(flags) & VM_PAGE_CODE) {
        return;
    }
    device_writes_note_code(vm, page, true); /* before the flag: who sees that relies on it */
    if (atomic_fetch_or(flags, VM_PAGE_CODE) & VM_PAGE_CODE) {
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
