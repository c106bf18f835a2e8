/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the vCPUs of one VM share inside the translator: physical memory, the block index and code cache, and the
 * exclusive section. Internal to translator/.
 *
 * Locking: `slots` change only while no vCPU runs. The block index is guarded by block_index.lock for changes and read
 * without it. The exclusive section orders itself.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "translator/device_writes.h"
#include "translator/engine.h"
#include "translator/mmu.h"
#include "translator/stats.h"

#define VM_MAX_SLOTS 32
#define VM_MAX_CPUS  64

/* One range of RAM with a byte of flags for each of its pages. */
struct vm_slot {
    struct mmu_slot s;
    _Atomic uint8_t *page_flags; /* enum vm_page_flag */
};

enum vm_page_flag {
    VM_PAGE_CODE = 1 << 0, /* blocks were made from this page: writes must not bypass the MMU's slow path */
};

/* Where a vCPU stands with respect to exclusive sections. */
enum vm_cpu_state {
    VM_CPU_OUT,       /* outside generated code and not in an instruction */
    VM_CPU_RUNNING,   /* executing guest code */
    VM_CPU_MID_INSN,  /* inside an instruction, waiting for its own exclusive section */
};

struct block_index;
struct code_cache;

struct translator_vm {
    struct vm_slot slots[VM_MAX_SLOTS];
    unsigned slot_count;

    unsigned max_cpus;
    _Atomic(struct x86_cpu *) cpus[VM_MAX_CPUS];
    _Atomic int cpu_state[VM_MAX_CPUS]; /* enum vm_cpu_state */

    enum engine_tier tier;
    struct block_index *blocks;
    struct code_cache *code;
    struct device_writes device_writes;
    uint64_t stats[TRANSLATOR_STATS]; /* of vCPUs that are gone */

    pthread_mutex_t exclusive_lock;
    pthread_cond_t exclusive_cond;
    int exclusive_owner;              /* vCPU index or -1; under the lock */
    unsigned exclusive_waiters;       /* under the lock */
    _Atomic bool exclusive_wanted;    /* owner set or waiters > 0 */
};

/* The slot that holds gpa, or NULL. */
static inline struct vm_slot *vm_slot_find(struct translator_vm *vm, gpa_t gpa)
{
    for (unsigned i = 0; i < vm->slot_count; i++) {
        struct vm_slot *slot = &vm->slots[i];
        if (gpa - slot->s.gpa < slot->s.bytes) {
            return slot;
        }
    }
    return NULL;
}

/*
 * Exclusive section: on return no other vCPU executes guest code. `code_out`: the others are also out of generated
 * code (for changes to the code cache); without it they may be inside an instruction of their own, waiting. Called by
 * a vCPU's thread; may wait. Not recursive.
 */
void vm_exclusive_begin(struct x86_cpu *cpu, bool code_out);
void vm_exclusive_end(struct x86_cpu *cpu);
/* Marks the calling vCPU as executing guest code, waiting for exclusive sections first; and as out again. */
void vm_cpu_enter(struct x86_cpu *cpu);
void vm_cpu_leave(struct x86_cpu *cpu);

/* Marks a page as holding code and takes away every vCPU's direct write access to it. The caller's own is gone on
 * return; another vCPU's goes at its next poll, when it re-checks the page's blocks (block_check_page()). */
void mmu_protect_code(struct x86_cpu *cpu, gpa_t page);
/* Handles X86_REQ_TLB. */
void mmu_process_requests(struct x86_cpu *cpu);
