/* SPDX-License-Identifier: Apache-2.0 */
/* T0's code cache: memory, entry and exit. */
#include "translator/t0/t0.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "translator/interp.h"
#include "translator/mmu_internal.h"
#include "translator/t0/regs.h"
#include "translator/t0/t0_internal.h"
#include "translator/x86/sys.h"

#define CACHE_BYTES     (96 * MIB)
#define BLOCK_MAX_BYTES (128 * KIB) /* room that must be left before a block is compiled */

/* Executable and writable view of the same memory: no page is ever both (W^X). */
static int map_cache(struct code_cache *code)
{
    code->fd = memfd_create("bulkhead-code", MFD_CLOEXEC);
    if (code->fd < 0 || ftruncate(code->fd, (off_t)code->bytes) < 0) {
        return -errno;
    }
    code->rw = mmap(NULL, code->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, code->fd, 0);
    if (code->rw == MAP_FAILED) {
        code->rw = NULL;
        return -errno;
    }
    code->rx = mmap(NULL, code->bytes, PROT_READ | PROT_EXEC, MAP_SHARED, code->fd, 0);
    if (code->rx == MAP_FAILED) {
        code->rx = NULL;
        return -errno;
    }
    return 0;
}

static struct emitter emitter_at(struct code_cache *code, size_t offset)
{
    return (struct emitter){
        .p = code->rw + offset, .end = code->rw + code->bytes, .rx_delta = code->rx - code->rw};
}

int t0_create(struct translator_vm *vm)
{
    struct code_cache *code = calloc(1, sizeof(*code));
    if (!code) {
        return -ENOMEM;
    }
    code->bytes = CACHE_BYTES;
    code->fd = -1;
    pthread_mutex_init(&code->lock, NULL);
    vm->code = code;
    int r = map_cache(code);
    if (r < 0) {
        return r;
    }
    struct emitter e = emitter_at(code, 0);
    t0_make_thunks(&e, &code->thunks);
    code->start = code->used = (size_t)(e.p - code->rw);
    return 0;
}

void t0_destroy(struct translator_vm *vm)
{
    struct code_cache *code = vm->code;
    if (!code) {
        return;
    }
    if (code->rx) {
        munmap(code->rx, code->bytes);
    }
    if (code->rw) {
        munmap(code->rw, code->bytes);
    }
    if (code->fd >= 0) {
        close(code->fd);
    }
    pthread_mutex_destroy(&code->lock);
    free(code);
    vm->code = NULL;
}

void t0_clear(struct translator_vm *vm)
{
    vm->code->used = vm->code->start;
    vm->code->generation++;
}

bool t0_full(struct translator_vm *vm)
{
    return vm->code->bytes - vm->code->used < BLOCK_MAX_BYTES;
}

void *t0_jump_miss(struct translator_vm *vm)
{
    return (void *)vm->code->thunks.jump_miss;
}

bool t0_compiles(const struct x86_cpu *cpu)
{
    return t0_compilable(cpu);
}

bool t0_prepare(struct x86_cpu *cpu, struct block *block, const struct ir_block *ir)
{
    struct code_cache *code = cpu->vm->code;
    bool ready = true;
    pthread_mutex_lock(&code->lock);
    if (!block->code) {
        struct emitter e = emitter_at(code, (code->used + 15) & ~(size_t)15);
        uint8_t *start = e.p;
        struct t0_block *t0 = t0_full(cpu->vm) ? NULL : t0_compile(&e, &code->thunks, block, ir);
        ready = t0 != NULL;
        if (ready) {
            code->used = (size_t)(e.p - code->rw);
            cpu->stats[STAT_COMPILED]++;
            cpu->stats[STAT_CODE_BYTES] += (uint64_t)(e.p - start);
            block->t0 = t0;
            atomic_store_explicit(&block->code, t0->entry[0], memory_order_release);
            if (atomic_load(&block->dead)) {
                t0_kill_locked(code, block);
            }
        }
    }
    pthread_mutex_unlock(&code->lock);
    return ready;
}

/* For a block that was made while it could not be compiled, or in lock step. */
static bool prepare_late(struct x86_cpu *cpu, struct block *block)
{
    struct ir_block ir;
    return block->ir ? t0_prepare(cpu, block, block->ir)
                     : block_decode(cpu, block, &ir) == 0 && t0_prepare(cpu, block, &ir);
}

int t0_run(struct x86_cpu *cpu, struct block *block)
{
    struct code_cache *code = cpu->vm->code;
    struct t0_link *link = cpu->pending_link;
    bool jump = cpu->pending_jump;
    bool current = cpu->t0_generation == code->generation;

    cpu->pending_link = NULL;
    cpu->pending_jump = false;
    cpu->t0_generation = code->generation;
    if (!t0_compilable(cpu) || (!atomic_load_explicit(&block->code, memory_order_acquire) && !prepare_late(cpu, block))) {
        return block_interpret(cpu, block);
    }
    if (link && current) {
        t0_link_blocks(code, link, block);
    }
    if (jump || (link && block_straddles(block))) {
        mmu_jump_set(cpu->mmu->table, cpu->rip, block->t0->entry[0]);
    }

    cpu->stats[STAT_ENTRIES]++;
    cpu->saved_flags = t0_pack_flags(cpu->rflags);
    code->thunks.enter(cpu, block->t0->entry[0]);
    if (cpu->t0_exit == T0_EXIT_RESULT) {
        return (int)cpu->t0_argument;
    }
    cpu->rflags = (cpu->rflags & ~(uint64_t)FLAGS_ARITH) | t0_unpack_flags(cpu->saved_flags);
    switch (cpu->t0_exit) {
    case T0_EXIT_POLL:
        cpu->rip = t0_rip_at(cpu, cpu->t0_argument);
        /* Nobody asked for it: the block is dead, and a jump cache may have led here. */
        cpu->pending_jump = __atomic_load_n(&cpu->run, __ATOMIC_RELAXED);
        break;
    case T0_EXIT_LINK:
        cpu->pending_link = (void *)cpu->t0_argument;
        cpu->rip = cpu->pc_base + ((struct t0_link *)cpu->pending_link)->target;
        break;
    case T0_EXIT_JUMP:
        x86_set_rip(cpu, cpu->t0_argument);
        cpu->pending_jump = true;
        break;
    default:
        assert(!"a way out of generated code that does not exist");
    }
    if (cpu->rip == cpu->sti_rip) {
        cpu->interrupt_shadow = SHADOW_STI;
    }
    cpu->sti_rip = JUMP_INVALID;
    return X86_JUMP;
}
