/* SPDX-License-Identifier: Apache-2.0 */
/* The soft MMU's tables. For mmu.c, the block index (jump caches) and T0 (offsets). */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "translator/mmu.h"
#include "translator/mmu_walk.h"
#include "translator/stats.h"

#define MMU_SPACES         8
#define MMU_TLB_ENTRIES    4096
#define MMU_FILLED_MAX     512
#define MMU_QUEUE_MAX      32
#define JUMP_CACHE_BITS    14
#define JUMP_CACHE_ENTRIES (1 << JUMP_CACHE_BITS)
#define JUMP_CACHE_HASH    0x9e3779b1u
#define MMU_PAGE_MASK      UINT64_C(0xfff)
/* Not canonical, so never an instruction's address; nor does a jump there find the invalid entries: the first hashes to entry
 * 0 and stands in all others, the second stands in entry 0. */
#define JUMP_INVALID       (UINT64_C(1) << 63)
#define JUMP_INVALID_FIRST (JUMP_INVALID | 1)

/* Block entry by guest rip. */
struct jump_entry {
    uint64_t rip;
    void *code;
};

struct mmu_table {
    struct mmu_tlb_entry *entries;
    struct jump_entry *jumps;
    void *jump_miss;
    uint64_t large_filter;   /* 2 MiB regions (number mod 64) that large pages with entries cover */
    uint64_t executed[16];   /* pages (number hashed to 1024) with exec tags since the last flush */
    uint32_t jump_mode;      /* mode bits (without CPL) the jump cache was filled under */
    uint64_t global[MMU_TLB_ENTRIES / 64]; /* entries of global pages, which CR3 loads keep */
    uint64_t large[MMU_TLB_ENTRIES / 64];  /* entries that are parts of large pages */
    uint64_t keyed[MMU_TLB_ENTRIES / 64];  /* entries whose rights PKRU went into; a key's other than 0 */
    bool any_keyed;
    unsigned filled_count;   /* entries of other pages; > MMU_FILLED_MAX: list overflowed */
    uint16_t filled[MMU_FILLED_MAX];
    unsigned jump_count;     /* used jump-cache entries; > MMU_FILLED_MAX: list overflowed */
    uint16_t jump_filled[MMU_FILLED_MAX];
    bool ready, huge;
    bool local_code;         /* code of a page that is not global was executed: CR3 loads clear the jump cache */
};

struct mmu_space {
    bool used;
    uint64_t key;   /* PCID, or 0 */
    uint64_t stamp; /* of last use */
    struct mmu_table table[MMU_PRIVILEGES];
};

struct mmu_context {
    struct mmu_space *current;
    struct mmu_table *table;
    enum mmu_privilege privilege;
    uint64_t stamp;
    struct mmu_space spaces[MMU_SPACES];
    void *memory;
    size_t memory_bytes;

    _Atomic uint64_t write_filter[512]; /* physical pages (number mod 32768) that may have write tags */

    pthread_mutex_t queue_lock;
    unsigned queue_count;
    gpa_t queue[MMU_QUEUE_MAX];         /* pages whose write tags another vCPU wants gone */
};

/* A translated page: RAM when host is set; code: translations were made from it. */
struct mmu_page {
    gpa_t gpa;
    uint8_t *host;
    bool readonly, code;
};

/* A tag that no address with this index has: its lowest index bit is the other one. */
static inline uint64_t mmu_invalid_tag(unsigned index)
{
    return (uint64_t)(index ^ 1) << 12;
}

static inline void mmu_entry_clear(struct mmu_table *table, unsigned index)
{
    struct mmu_tlb_entry *entry = &table->entries[index];
    entry->tag[MMU_READ] = entry->tag[MMU_WRITE] = entry->tag[MMU_EXEC] = mmu_invalid_tag(index);
}

static inline bool mmu_canonical(struct x86_cpu *cpu, gva_t la)
{
    return !(cpu->efer & EFER_LMA) || (uint64_t)((int64_t)(la << 16) >> 16) == la;
}

static inline struct mmu_tlb_entry *mmu_lookup(struct mmu_table *table, gva_t la)
{
    return &table->entries[(la >> 12) & (MMU_TLB_ENTRIES - 1)];
}

/* Offset in the page if the whole access hits, otherwise something >= 4096. */
static inline uint64_t mmu_hit_offset(const struct mmu_tlb_entry *entry, gva_t la, unsigned size, enum mmu_access access)
{
    uint64_t offset = la ^ entry->tag[access];
    return offset <= 4096 - size ? offset : UINT64_MAX;
}

/* Host address of the byte at `la` if instructions may be fetched from it without further ado, else NULL. */
static inline const uint8_t *mmu_fetch_hit(const struct mmu_table *table, gva_t la)
{
    const struct mmu_tlb_entry *entry = &table->entries[(la >> 12) & (MMU_TLB_ENTRIES - 1)];
    uint64_t offset = la ^ entry->tag[MMU_EXEC];
    return offset > 4095 ? NULL : (const uint8_t *)entry->host + offset;
}

static inline void mmu_write_filter_set(struct mmu_context *mmu, gpa_t page)
{
    unsigned number = (unsigned)(page >> 12) & 32767;
    _Atomic uint64_t *word = &mmu->write_filter[number / 64];
    uint64_t bit = UINT64_C(1) << (number % 64);
    if (!(atomic_load_explicit(word, memory_order_relaxed) & bit)) {
        atomic_fetch_or(word, bit);
    }
}

static inline bool mmu_write_filter_test(struct mmu_context *mmu, gpa_t page)
{
    unsigned number = (unsigned)(page >> 12) & 32767;
    return atomic_load(&mmu->write_filter[number / 64]) >> (number % 64) & 1;
}

static inline void mmu_write_filter_clear(struct mmu_context *mmu)
{
    for (unsigned i = 0; i < 512; i++) {
        atomic_store(&mmu->write_filter[i], 0);
    }
}

/* Enters a block's code for `rip`; T0's jump thunk computes the same index. */
static inline void mmu_jump_set(struct mmu_table *table, uint64_t rip, void *code)
{
    unsigned index = (uint32_t)rip * JUMP_CACHE_HASH >> (32 - JUMP_CACHE_BITS);
    table->jumps[index] = (struct jump_entry){rip, code};
    if (table->jump_count < MMU_FILLED_MAX) {
        table->jump_filled[table->jump_count++] = (uint16_t)index;
    } else {
        table->jump_count = MMU_FILLED_MAX + 1;
    }
}

static inline unsigned mmu_executed_bit(gva_t page)
{
    return (unsigned)((page >> 12) ^ (page >> 22)) & 1023;
}

static inline void mmu_executed_set(struct mmu_table *table, gva_t page)
{
    unsigned bit = mmu_executed_bit(page);
    table->executed[bit / 64] |= UINT64_C(1) << (bit % 64);
}

static inline bool mmu_executed_test(const struct mmu_table *table, gva_t page)
{
    unsigned bit = mmu_executed_bit(page);
    return table->executed[bit / 64] >> (bit % 64) & 1;
}

/* mmu.c: makes an empty table of one that was never used. */
void mmu_table_prepare(struct mmu_table *table);
/* mmu_access.c: translates the page of `la` for an access with `privilege` and enters what may be entered into that privilege's
 * table. X86_OK or X86_RAISE. */
int mmu_fill(struct x86_cpu *cpu, gva_t la, enum mmu_access access, enum mmu_privilege privilege, struct mmu_page *ret);
