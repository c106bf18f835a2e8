/* SPDX-License-Identifier: Apache-2.0 */
/* The VM-wide part of the translator: creation, physical memory, exclusive sections. */
#include "translator/vm.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "translator/block.h"

int translator_vm_create(unsigned max_cpus, enum engine_tier tier, struct translator_vm **ret_vm)
{
    if (max_cpus == 0 || max_cpus > VM_MAX_CPUS) {
        return -EINVAL;
    }
    struct translator_vm *vm = calloc(1, sizeof(*vm));
    if (!vm) {
        return -ENOMEM;
    }
    vm->max_cpus = max_cpus;
    vm->tier = tier;
    vm->exclusive_owner = -1;
    pthread_mutex_init(&vm->exclusive_lock, NULL);
    pthread_cond_init(&vm->exclusive_cond, NULL);
    device_writes_create(vm);
    int r = block_index_create(vm);
    if (r < 0) {
        translator_vm_destroy(vm);
        return r;
    }
    *ret_vm = vm;
    return 0;
}

static void free_slots(struct translator_vm *vm)
{
    for (unsigned i = 0; i < vm->slot_count; i++) {
        free((void *)vm->slots[i].page_flags);
    }
    vm->slot_count = 0;
}

void translator_vm_destroy(struct translator_vm *vm)
{
    if (!vm) {
        return;
    }
    block_index_destroy(vm);
    free_slots(vm);
    device_writes_destroy(vm);
    pthread_cond_destroy(&vm->exclusive_cond);
    pthread_mutex_destroy(&vm->exclusive_lock);
    free(vm);
}

int mmu_set_slots(struct translator_vm *vm, const struct mmu_slot *slots, unsigned count)
{
    if (count > VM_MAX_SLOTS) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < count; i++) {
        const struct mmu_slot *a = &slots[i];
        if (!a->bytes || (a->gpa | a->bytes | (uintptr_t)a->host) & 0xfff || a->gpa + a->bytes < a->gpa) {
            return -EINVAL;
        }
        for (unsigned j = 0; j < i; j++) {
            const struct mmu_slot *b = &slots[j];
            if (a->gpa < b->gpa + b->bytes && b->gpa < a->gpa + a->bytes) {
                return -EINVAL;
            }
        }
    }
    struct vm_slot made[VM_MAX_SLOTS];
    for (unsigned i = 0; i < count; i++) {
        made[i].s = slots[i];
        made[i].page_flags = calloc(slots[i].bytes >> 12, 1);
        if (!made[i].page_flags) {
            while (i-- > 0) {
                free((void *)made[i].page_flags);
            }
            return -ENOMEM;
        }
    }
    block_index_clear(vm);
    free_slots(vm);
    memcpy(vm->slots, made, count * sizeof(made[0]));
    vm->slot_count = count;
    for (unsigned i = 0; i < vm->max_cpus; i++) {
        struct x86_cpu *cpu = vm->cpus[i];
        if (cpu) {
            mmu_flush_all(cpu);
        }
    }
    return 0;
}

uint8_t *mmu_phys_page(struct translator_vm *vm, gpa_t page, bool *ret_readonly)
{
    struct vm_slot *slot = vm_slot_find(vm, page);
    if (!slot) {
        return NULL;
    }
    if (ret_readonly) {
        *ret_readonly = slot->s.readonly;
    }
    return slot->s.host + (page - slot->s.gpa);
}

/* --- exclusive sections ------------------------------------------------------------------------------------- */

static bool others_stopped(struct translator_vm *vm, unsigned self, bool code_out)
{
    bool stopped = true;
    for (unsigned i = 0; i < vm->max_cpus; i++) {
        struct x86_cpu *cpu = vm->cpus[i];
        if (!cpu || i == self) {
            continue;
        }
        int state = atomic_load(&vm->cpu_state[i]);
        if (state == VM_CPU_RUNNING || (state == VM_CPU_MID_INSN && code_out)) {
            engine_request(cpu, X86_REQ_STOP);
            stopped = false;
        }
    }
    return stopped;
}

void vm_exclusive_begin(struct x86_cpu *cpu, bool code_out)
{
    struct translator_vm *vm = cpu->vm;
    pthread_mutex_lock(&vm->exclusive_lock);
    vm->exclusive_waiters++;
    atomic_store(&vm->exclusive_wanted, true);
    atomic_store(&vm->cpu_state[cpu->index], code_out ? VM_CPU_OUT : VM_CPU_MID_INSN);
    pthread_cond_broadcast(&vm->exclusive_cond);
    while (vm->exclusive_owner >= 0 || !others_stopped(vm, cpu->index, code_out)) {
        pthread_cond_wait(&vm->exclusive_cond, &vm->exclusive_lock);
    }
    vm->exclusive_waiters--;
    vm->exclusive_owner = (int)cpu->index;
    atomic_store(&vm->cpu_state[cpu->index], VM_CPU_RUNNING);
    pthread_mutex_unlock(&vm->exclusive_lock);
}

void vm_exclusive_end(struct x86_cpu *cpu)
{
    struct translator_vm *vm = cpu->vm;
    pthread_mutex_lock(&vm->exclusive_lock);
    assert(vm->exclusive_owner == (int)cpu->index);
    vm->exclusive_owner = -1;
    atomic_store(&vm->exclusive_wanted, vm->exclusive_waiters > 0);
    pthread_cond_broadcast(&vm->exclusive_cond);
    pthread_mutex_unlock(&vm->exclusive_lock);
}

/* Waits until nobody owns or wants the exclusive section; then this vCPU runs. */
static void enter_slow(struct x86_cpu *cpu)
{
    struct translator_vm *vm = cpu->vm;
    pthread_mutex_lock(&vm->exclusive_lock);
    atomic_store(&vm->cpu_state[cpu->index], VM_CPU_OUT);
    pthread_cond_broadcast(&vm->exclusive_cond);
    while (vm->exclusive_owner >= 0 || vm->exclusive_waiters > 0) {
        pthread_cond_wait(&vm->exclusive_cond, &vm->exclusive_lock);
    }
    atomic_store(&vm->cpu_state[cpu->index], VM_CPU_RUNNING);
    pthread_mutex_unlock(&vm->exclusive_lock);
}

void vm_cpu_enter(struct x86_cpu *cpu)
{
    struct translator_vm *vm = cpu->vm;
    /* Sequentially consistent against exclusive_wanted: either we see that somebody wants us out, or they see us. */
    atomic_store(&vm->cpu_state[cpu->index], VM_CPU_RUNNING);
    if (atomic_load(&vm->exclusive_wanted)) {
        enter_slow(cpu);
    }
}

void vm_cpu_leave(struct x86_cpu *cpu)
{
    struct translator_vm *vm = cpu->vm;
    atomic_store(&vm->cpu_state[cpu->index], VM_CPU_OUT);
    if (atomic_load(&vm->exclusive_wanted)) {
        pthread_mutex_lock(&vm->exclusive_lock);
        pthread_cond_broadcast(&vm->exclusive_cond);
        pthread_mutex_unlock(&vm->exclusive_lock);
    }
}
