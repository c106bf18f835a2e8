/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Direct jumps between blocks, and the end of both: links are made when control first takes them, and taken
 * back when their target dies. All under the code cache's lock; other vCPUs may be executing what is patched,
 * so each change is one aligned store.
 *
 * t0_kill() runs with the guest's vector registers still in the host's (meson.build: -mgeneral-regs-only).
 */
#include <assert.h>

#include "translator/t0/t0.h"
#include "translator/t0/t0_internal.h"

/* Where a jump with its flags in `flags` (enum t0_flags) enters `block`: without conversion if it can. */
static uint8_t *entry_for(const struct t0_block *block, unsigned flags)
{
    bool native_saved = block->poll[0] != NULL;
    if (flags & T0_SAVED && (native_saved || !(flags & T0_HOST))) {
        return block->entry[0];
    }
    return block->entry[1];
}

static void patch_rel32(const struct code_cache *code, uint8_t *site, const uint8_t *target)
{
    assert(site >= code->rw && site < code->rw + code->used && target >= code->rx && target < code->rx + code->used);
    int32_t rel = (int32_t)(target - (site + (code->rx - code->rw) + 4));
    __atomic_store_n((int32_t *)site, rel, __ATOMIC_RELEASE);
}

void t0_link_blocks(struct code_cache *code, struct t0_link *link, struct block *block)
{
    if ((block->gpa ^ link->from->gpa) >> 12 || (block->gpa & 0xfff) != link->target ||
        block->mode != link->from->mode) {
        return;
    }
    pthread_mutex_lock(&code->lock);
    if (block_straddles(block)) {
        patch_rel32(code, link->stub_site, code->thunks.far_link[link->flags & T0_SAVED ? 0 : 1]);
    } else if (!link->linked && !atomic_load(&block->dead)) {
        link->linked = true;
        link->next = block->t0->incoming;
        block->t0->incoming = link;
        patch_rel32(code, link->site, entry_for(block->t0, link->flags));
    }
    pthread_mutex_unlock(&code->lock);
}

void t0_kill_locked(struct code_cache *code, struct block *block)
{
    struct t0_block *t0 = block->t0;
    if (!atomic_load_explicit(&block->code, memory_order_acquire)) {
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        if (t0->poll[i]) {
            ptrdiff_t distance = t0->poll_stub[i] - (t0->poll[i] + 2);
            assert(distance == (int8_t)distance);
            uint16_t jump = (uint16_t)(0xeb | (uint8_t)distance << 8);
            __atomic_store_n((uint16_t *)t0->poll[i], jump, __ATOMIC_RELEASE);
        }
    }
    for (struct t0_link *link = t0->incoming; link; link = link->next) {
        patch_rel32(code, link->site, link->stub);
        link->linked = false;
    }
    t0->incoming = NULL;
}

void t0_kill(struct translator_vm *vm, struct block *block)
{
    pthread_mutex_lock(&vm->code->lock);
    t0_kill_locked(vm->code, block);
    pthread_mutex_unlock(&vm->code->lock);
}
