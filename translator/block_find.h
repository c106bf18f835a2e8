/* SPDX-License-Identifier: Apache-2.0 */
/* The block index's look-up, without a lock: for block.c and for generated code's jump-cache refill. */
#pragma once

#include "translator/block.h"

#define BLOCK_BUCKETS (1u << 16)

struct code_page;

struct block_index {
    pthread_mutex_t lock;
    _Atomic(struct block *) buckets[BLOCK_BUCKETS];
    struct code_page *pages[BLOCK_BUCKETS];
    struct block *allocated;
    unsigned count;
    uint64_t key[4096 / 8]; /* of code_hash() */
};

static inline unsigned block_hash(gpa_t gpa, uint32_t mode)
{
    uint64_t h = (gpa ^ ((uint64_t)mode << 40)) * UINT64_C(0x9e3779b97f4a7c15);
    return (unsigned)(h >> 48);
}

/* The living block for `gpa` and `mode`; one that straddles only if its tail lies in `second_page`
 * (BLOCK_NO_PAGE: none does). */
static inline struct block *block_find(struct block_index *index, gpa_t gpa, uint32_t mode, gpa_t second_page)
{
    struct block *block = atomic_load_explicit(&index->buckets[block_hash(gpa, mode)], memory_order_acquire);
    for (; block; block = atomic_load_explicit(&block->next, memory_order_acquire)) {
        if (block->gpa == gpa && block->mode == mode && !atomic_load_explicit(&block->dead, memory_order_acquire) &&
            (!block_straddles(block) || block->second_page == second_page)) {
            return block;
        }
    }
    return NULL;
}
