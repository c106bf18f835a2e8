/* SPDX-License-Identifier: Apache-2.0 */
/* The execution engine: look up, run, repeat. */
#include "translator/engine.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "translator/block.h"
#include "translator/interp.h"
#include "translator/lockstep.h"
#include "translator/t0/t0.h"
#include "translator/vm.h"

/* Host stack below struct x86_cpu, on which generated code calls C, and a guard page below that. */
#define CPU_STACK_BYTES (256 * KIB)
#define CPU_GUARD_BYTES 4096u

static size_t cpu_mapping_bytes(void)
{
    return CPU_GUARD_BYTES + CPU_STACK_BYTES + ((sizeof(struct x86_cpu) + 4095) & ~(size_t)4095);
}

int x86_cpu_create(struct translator_vm *vm, unsigned index, const struct x86_cpu_ops *ops, void *opaque,
                   struct x86_cpu **ret_cpu)
{
    if (index >= vm->max_cpus || vm->cpus[index]) {
        return -EINVAL;
    }
    uint8_t *memory = mmap(NULL, cpu_mapping_bytes(), PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED) {
        return -ENOMEM;
    }
    if (mprotect(memory, CPU_GUARD_BYTES, PROT_NONE) < 0) {
        munmap(memory, cpu_mapping_bytes());
        return -ENOMEM;
    }
    struct x86_cpu *cpu = (struct x86_cpu *)(memory + CPU_GUARD_BYTES + CPU_STACK_BYTES);
    cpu->index = index;
    cpu->vm = vm;
    cpu->ops = ops;
    cpu->opaque = opaque;
    cpu->run = 1;
    int r = mmu_create(cpu);
    if (r < 0) {
        munmap(memory, cpu_mapping_bytes());
        return r;
    }
    atomic_store(&vm->cpu_state[index], VM_CPU_OUT);
    vm->cpus[index] = cpu;
    x86_cpu_reset(cpu);
    *ret_cpu = cpu;
    return 0;
}

void x86_cpu_destroy(struct x86_cpu *cpu)
{
    if (!cpu) {
        return;
    }
    cpu->vm->cpus[cpu->index] = NULL;
    for (unsigned i = 0; i < TRANSLATOR_STATS; i++) {
        cpu->vm->stats[i] += cpu->stats[i];
    }
    mmu_destroy(cpu);
    free(cpu->cpuid);
    munmap((uint8_t *)cpu - CPU_STACK_BYTES - CPU_GUARD_BYTES, cpu_mapping_bytes());
}

void engine_request(struct x86_cpu *cpu, uint32_t bits)
{
    atomic_fetch_or(&cpu->requests, bits);
    __atomic_store_n(&cpu->run, 0, __ATOMIC_SEQ_CST);
}

/* In STI's shadow too: the main loop then executes exactly one instruction before it delivers. */
static bool interrupt_possible(const struct x86_cpu *cpu)
{
    return cpu->irq_waiting && cpu->rflags & FLAG_IF;
}

static int run_block(struct x86_cpu *cpu, struct block *block)
{
    if (!block) {
        return block_interpret_one(cpu);
    }
    switch (cpu->vm->tier) {
    case ENGINE_INTERPRETER:
        return block_interpret(cpu, block);
    case ENGINE_LOCKSTEP:
        return lockstep_run(cpu, block);
    default:
        return t0_run(cpu, block);
    }
}

int engine_run(struct x86_cpu *cpu)
{
    int r;
    vm_cpu_enter(cpu);
    for (;;) {
        struct block *block;
        __atomic_store_n(&cpu->run, 1, __ATOMIC_SEQ_CST);
        if (atomic_load(&cpu->requests)) {
            cpu->step = false;
            r = X86_JUMP;
            break;
        }
        r = block_get(cpu, &block);
        if (r != X86_OK) {
            break;
        }
        uint64_t start = cpu->rip;
        uint8_t shadow = cpu->interrupt_shadow;
        cpu->interrupt_shadow = SHADOW_NONE;
        cpu->code_changed = false;
        r = run_block(cpu, block);
        assert(r == X86_JUMP || r == X86_EXIT || (r == X86_RAISE && cpu->exc.pending));
        if (r != X86_JUMP) {
            break;
        }
        if (cpu->rip == start && atomic_load(&cpu->requests)) {
            /* Came out at the first poll: nothing was executed, so the shadow of STI still holds (STI; HLT). */
            cpu->interrupt_shadow |= shadow;
            cpu->step = false;
        }
        if (interrupt_possible(cpu) || cpu->mode & MODE_TF || cpu->step) {
            break;
        }
    }
    vm_cpu_leave(cpu);
    return r;
}

int engine_step(struct x86_cpu *cpu)
{
    vm_cpu_enter(cpu);
    cpu->interrupt_shadow = SHADOW_NONE;
    cpu->code_changed = false;
    int r = block_interpret_one(cpu);
    vm_cpu_leave(cpu);
    return r;
}
