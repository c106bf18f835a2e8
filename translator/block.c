/* SPDX-License-Identifier: Apache-2.0 */
/* The block index: a hash table by (gpa, mode) and a list of blocks per guest page. */
#include "translator/block.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "translator/block_find.h"
#include "translator/stats.h"
#include "translator/interp.h"
#include "translator/t0/t0.h"
#include "translator/x86/decode.h"

#define BLOCKS_MAX   400000u
/* A page that is written this often while it holds code is given back to data; each time it takes twice as many writes. */
#define WRITE_LIMIT_FIRST 16u
#define WRITE_LIMIT_LAST  8192u
/* How often a block is decoded again because its bytes change all the time. */
#define CHANGES_MAX 8u
#define GRANULE_BITS 6 /* 64-byte granules: a page's code map is one word */

struct code_page {
    gpa_t page;
    uint64_t granules;
    unsigned writes;   /* slow writes since it was protected, and how many release it */
    unsigned write_limit;
    uint64_t hash;     /* of the granules' bytes when all its blocks were last found valid */
    bool hash_valid;
    struct block *blocks;
    struct code_page *next;
};

static unsigned page_hash(gpa_t page)
{
    return (unsigned)((page >> 12) * 0x9e3779b1u >> 16) & (BLOCK_BUCKETS - 1);
}

int block_index_create(struct translator_vm *vm)
{
    struct block_index *index = calloc(1, sizeof(*index));
    if (!index) {
        return -ENOMEM;
    }
    if (getrandom(index->key, sizeof(index->key), 0) != sizeof(index->key)) {
        free(index);
        return -EIO;
    }
    pthread_mutex_init(&index->lock, NULL);
    vm->blocks = index;
    return t0_create(vm);
}

static void block_free(struct block *block)
{
    free(block->ir);
    free(block->t0);
    free(block->guest);
    free(block);
}

void block_index_clear(struct translator_vm *vm)
{
    struct block_index *index = vm->blocks;
    for (struct block *block = index->allocated, *next; block; block = next) {
        next = block->next_allocated;
        block_free(block);
    }
    for (unsigned i = 0; i < BLOCK_BUCKETS; i++) {
        atomic_store(&index->buckets[i], NULL);
        for (struct code_page *page = index->pages[i], *next; page; page = next) {
            next = page->next;
            free(page);
        }
        index->pages[i] = NULL;
    }
    index->allocated = NULL;
    index->count = 0;
    for (unsigned i = 0; i < vm->slot_count; i++) {
        memset((void *)vm->slots[i].page_flags, 0, vm->slots[i].s.bytes >> 12);
    }
    t0_clear(vm);
    for (unsigned i = 0; i < vm->max_cpus; i++) {
        struct x86_cpu *cpu = vm->cpus[i];
        if (cpu) {
            mmu_flush_all(cpu); /* jump caches too */
        }
    }
}

void block_index_destroy(struct translator_vm *vm)
{
    if (!vm->blocks) {
        return;
    }
    block_index_clear(vm);
    t0_destroy(vm);
    pthread_mutex_destroy(&vm->blocks->lock);
    free(vm->blocks);
    vm->blocks = NULL;
}

void *block_jump_miss(struct translator_vm *vm)
{
    return t0_jump_miss(vm);
}

/* --- look-up ------------------------------------------------------------------------------------------------ */

static struct code_page *page_find(struct block_index *index, gpa_t page)
{
    struct code_page *entry = index->pages[page_hash(page)];
    while (entry && entry->page != page) {
        entry = entry->next;
    }
    return entry;
}

static struct code_page *page_get(struct block_index *index, gpa_t page)
{
    struct code_page *entry = page_find(index, page);
    if (!entry) {
        entry = calloc(1, sizeof(*entry));
        if (entry) {
            entry->page = page;
            entry->write_limit = WRITE_LIMIT_FIRST;
            entry->next = index->pages[page_hash(page)];
            index->pages[page_hash(page)] = entry;
        }
    }
    return entry;
}

static uint64_t granule_mask(unsigned first, unsigned last)
{
    unsigned a = first >> GRANULE_BITS, b = last >> GRANULE_BITS;
    return (~UINT64_C(0) << a) & (~UINT64_C(0) >> (63 - b));
}

/* Bytes of `block` within `page`: first and last offset. */
static void block_extent(const struct block *block, gpa_t page, unsigned *ret_first, unsigned *ret_last)
{
    unsigned offset = block->gpa & 0xfff;
    bool first_page = (block->gpa & ~UINT64_C(0xfff)) == page, second_page = block->second_page == page;
    if (first_page && second_page) { /* one physical page mapped twice in a row */
        *ret_first = 0;
        *ret_last = 4095;
    } else if (second_page) {
        *ret_first = 0;
        *ret_last = offset + block->bytes - 4096 - 1;
    } else {
        unsigned end = offset + block->bytes;
        *ret_first = offset;
        *ret_last = (end > 4096 ? 4096 : end) - 1;
    }
}

static bool link_page(struct block_index *index, struct block *block, gpa_t page, unsigned which)
{
    struct code_page *entry = page_get(index, page);
    if (!entry) {
        return false;
    }
    unsigned first, last;
    block_extent(block, page, &first, &last);
    entry->granules |= granule_mask(first, last);
    entry->hash_valid = false;
    block->next_in_page[which] = entry->blocks;
    entry->blocks = block;
    return true;
}

static struct block *block_next_in_page(struct block *block, gpa_t page)
{
    return block->next_in_page[(block->gpa & ~UINT64_C(0xfff)) == page ? 0 : 1];
}

static bool block_matches(struct translator_vm *vm, const struct block *block);

/* --- making ------------------------------------------------------------------------------------------------- */

static int out_of_memory(struct x86_cpu *cpu)
{
    snprintf(cpu->fatal, sizeof(cpu->fatal), "out of memory while translating guest code at %#llx",
             (unsigned long long)cpu->rip);
    cpu->exit_reason = X86_RUN_FATAL;
    return X86_EXIT;
}

static int clear_when_full(struct x86_cpu *cpu)
{
    struct translator_vm *vm = cpu->vm;
    if (vm->blocks->count < BLOCKS_MAX && !t0_full(vm)) {
        return 0;
    }
    vm_exclusive_begin(cpu, true);
    if (vm->blocks->count >= BLOCKS_MAX || t0_full(vm)) {
        block_index_clear(vm);
        cpu->stats[MMU_STAT_FLUSHES]++;
    }
    vm_exclusive_end(cpu);
    return 1;
}

/* Fetches up to `avail` bytes: the rest of the page, and 15 of the next one when `straddle`. */
struct fetched {
    const uint8_t *bytes;
    unsigned avail, in_page;
    gpa_t second_page;
    uint8_t buffer[64];
};

static int fetch_straddle(struct x86_cpu *cpu, gva_t la, struct fetched *fetched)
{
    gpa_t gpa;
    const uint8_t *host;
    gva_t next = (la | 0xfff) + 1;
    if (!(cpu->efer & EFER_LMA)) {
        next = (uint32_t)next;
    }
    int r = mmu_fetch(cpu, next, &gpa, &host);
    if (r != X86_OK) {
        return r;
    }
    unsigned first = fetched->in_page;
    memcpy(fetched->buffer, fetched->bytes, first);
    if (host) {
        memcpy(fetched->buffer + first, host, 15);
    } else {
        memset(fetched->buffer + first, 0xff, 15);
    }
    fetched->bytes = fetched->buffer;
    fetched->avail = first + 15;
    fetched->second_page = gpa & ~UINT64_C(0xfff);
    return X86_OK;
}

static struct ir_block *ir_copy(const struct ir_block *ir)
{
    size_t bytes = offsetof(struct ir_block, ops) + ir->op_count * sizeof(ir->ops[0]);
    struct ir_block *copy = malloc(bytes);
    return copy ? memcpy(copy, ir, bytes) : NULL;
}

static struct block *block_make(struct x86_cpu *cpu, gpa_t gpa, const struct fetched *fetched, const struct ir_block *ir)
{
    struct block *block = calloc(1, sizeof(*block));
    uint8_t *guest = malloc(ir->bytes);
    bool keep = cpu->vm->tier == ENGINE_INTERPRETER || cpu->vm->tier == ENGINE_LOCKSTEP;
    struct ir_block *copy = keep ? ir_copy(ir) : NULL;
    if (!block || !guest || (keep && !copy)) {
        free(block);
        free(guest);
        free(copy);
        return NULL;
    }
    block->ir = copy;
    block->gpa = gpa;
    block->second_page = BLOCK_NO_PAGE;
    block->mode = cpu->mode;
    block->bytes = ir->bytes;
    block->insn_count = ir->insn_count;
    block->guest = guest;
    memcpy(guest, fetched->bytes, ir->bytes);
    if ((gpa & 0xfff) + ir->bytes > 4096) {
        block->second_page = fetched->second_page;
    }
    return block;
}

int block_decode(struct x86_cpu *cpu, const struct block *block, struct ir_block *ret_ir)
{
    unsigned offset = block->gpa & 0xfff;
    struct x86_decode_input input = {
        .bytes = block->guest,
        .avail = block->bytes,
        .in_page = block->bytes > 4096 - offset ? 4096 - offset : block->bytes,
        .offset = (uint16_t)offset,
        .mode = block->mode,
        .features = cpu->features,
        .max_insns = block->insn_count,
    };
    return x86_decode_block(&input, ret_ir);
}

/*
 * Decodes at `la`, whose bytes in its page are `fetched`; an instruction that straddles is decoded alone, with
 * fetched->second_page set. X86_OK, X86_RAISE (fetching the second page), X86_EXIT.
 */
static int decode(struct x86_cpu *cpu, gva_t la, unsigned max_insns, struct fetched *fetched, struct ir_block *ret_ir)
{
    fetched->in_page = fetched->avail = 4096 - (la & 0xfff);
    fetched->second_page = BLOCK_NO_PAGE;
    struct x86_decode_input input = {
        .bytes = fetched->bytes,
        .avail = fetched->avail,
        .in_page = fetched->in_page,
        .offset = (uint16_t)(la & 0xfff),
        .mode = cpu->mode,
        .features = cpu->features,
        .max_insns = max_insns,
    };
    int r = x86_decode_block(&input, ret_ir);
    if (r == -EAGAIN) {
        r = fetch_straddle(cpu, la, fetched);
        if (r != X86_OK) {
            return r;
        }
        input.bytes = fetched->bytes;
        input.avail = fetched->avail;
        input.max_insns = 1;
        r = x86_decode_block(&input, ret_ir);
        if (r == 0 && (la & 0xfff) + ret_ir->bytes <= 4096) {
            fetched->second_page = BLOCK_NO_PAGE; /* it only looked as if it straddled */
        }
    }
    return r < 0 ? out_of_memory(cpu) : X86_OK;
}

static gva_t code_address(struct x86_cpu *cpu)
{
    gva_t la = cpu->seg[SEG_CS].base + cpu->rip;
    return cpu->efer & EFER_LMA ? la : (uint32_t)la;
}

/* What an instruction fetch finds where no memory answers: an open bus. FF FF is #UD. */
static const uint8_t open_bus[4096] = {[0 ... 4095] = 0xff};

/* Whether code at cpu->rip of so many bytes runs out of its segment. */
static bool runs_beyond_limit(const struct x86_cpu *cpu, unsigned bytes)
{
    return !(cpu->mode & (MODE_CS64 | MODE_FLAT)) && cpu->rip + bytes - 1 > cpu->seg[SEG_CS].limit;
}

int block_interpret(struct x86_cpu *cpu, struct block *block)
{
    if (__builtin_expect(runs_beyond_limit(cpu, block->bytes), 0)) {
        return block_interpret_one(cpu); /* as far as it goes */
    }
    if (block->ir) {
        return interp_run(cpu, block->ir, 0);
    }
    struct ir_block ir;
    return block_decode(cpu, block, &ir) < 0 ? out_of_memory(cpu) : interp_run(cpu, &ir, 0);
}

int block_interpret_one(struct x86_cpu *cpu)
{
    struct fetched fetched = {0};
    struct ir_block ir;
    gva_t la = code_address(cpu);
    gpa_t gpa;
    if (runs_beyond_limit(cpu, 1)) {
        return x86_raise_error(cpu, EXC_GP, 0);
    }
    int r = mmu_fetch(cpu, la, &gpa, &fetched.bytes);
    if (r != X86_OK) {
        return r;
    }
    if (!fetched.bytes) {
        fetched.bytes = open_bus + (la & 0xfff);
    }
    r = decode(cpu, la, 1, &fetched, &ir);
    if (r != X86_OK) {
        return r;
    }
    if (runs_beyond_limit(cpu, ir.bytes)) {
        return x86_raise_error(cpu, EXC_GP, 0);
    }
    cpu->pc_base = cpu->rip - (la & 0xfff);
    return interp_run(cpu, &ir, 0);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

static bool page_protected(struct translator_vm *vm, gpa_t gpa)
{
    struct vm_slot *slot = vm_slot_find(vm, gpa);
    return slot && atomic_load(&slot->page_flags[(gpa - slot->s.gpa) >> 12]) & VM_PAGE_CODE;
}

int block_get(struct x86_cpu *cpu, struct block **ret_block)
{
    struct translator_vm *vm = cpu->vm;
    struct block_index *index = vm->blocks;
    gva_t la = code_address(cpu);
    gpa_t gpa;
    struct fetched fetched = {0};
    struct ir_block ir;
    unsigned changed = 0;

    cpu->pc_base = cpu->rip - (la & 0xfff);
    if (runs_beyond_limit(cpu, 1)) {
        return x86_raise_error(cpu, EXC_GP, 0);
    }
again:;
    int r = mmu_fetch(cpu, la, &gpa, &fetched.bytes);
    if (r != X86_OK) {
        return r;
    }
    if (!fetched.bytes) {
        *ret_block = NULL;
        return X86_OK;
    }
    struct block *block = block_find(index, gpa, cpu->mode, BLOCK_NO_PAGE);
    if (block) {
        *ret_block = block;
        return X86_OK;
    }
    if (clear_when_full(cpu)) {
        goto again;
    }
    uint64_t started_ns = now_ns();
    /* From here on writes to the page are seen, so what we decode is what we compare with later. */
    mmu_protect_code(cpu, gpa & ~UINT64_C(0xfff));
    r = decode(cpu, la, cpu->mode & MODE_TF ? 1 : IR_BLOCK_MAX_INSNS, &fetched, &ir);
    if (r == X86_OK && fetched.second_page != BLOCK_NO_PAGE) {
        block = block_find(index, gpa, cpu->mode, fetched.second_page);
        if (block || !vm_slot_find(vm, fetched.second_page)) {
            *ret_block = block;
            return X86_OK;
        }
        mmu_protect_code(cpu, fetched.second_page);
        r = decode(cpu, la, 1, &fetched, &ir); /* once more, now that writes are seen */
    }
    if (r != X86_OK) {
        return r;
    }
    block = block_make(cpu, gpa, &fetched, &ir);
    if (!block) {
        return out_of_memory(cpu);
    }

    pthread_mutex_lock(&index->lock);
    struct block *other = block_find(index, gpa, cpu->mode, block->second_page);
    if (other && other->second_page == block->second_page) {
        pthread_mutex_unlock(&index->lock);
        block_free(block);
        *ret_block = other;
        return X86_OK;
    }
    if (!page_protected(vm, gpa) || (block_straddles(block) && !page_protected(vm, block->second_page))) {
        /* Released meanwhile: what we decoded may have changed unseen. */
        pthread_mutex_unlock(&index->lock);
        block_free(block);
        goto again;
    }
    if (!block_matches(vm, block) && changed++ < CHANGES_MAX) {
        /* A device has written, and whoever compared the page's blocks did not know of this one. */
        pthread_mutex_unlock(&index->lock);
        block_free(block);
        goto again;
    }
    bool linked = link_page(index, block, gpa & ~UINT64_C(0xfff), 0) &&
                  (!block_straddles(block) || block->second_page == (gpa & ~UINT64_C(0xfff)) ||
                   link_page(index, block, block->second_page, 1));
    if (!linked) {
        atomic_store(&block->dead, true); /* it may hang in one list: keep its memory */
    }
    block->next_allocated = index->allocated;
    index->allocated = block;
    index->count++;
    cpu->stats[STAT_BLOCKS]++;
    cpu->stats[STAT_INSNS] += ir.insn_count;
    if (linked) {
        unsigned bucket = block_hash(gpa, cpu->mode);
        atomic_store_explicit(&block->next, atomic_load(&index->buckets[bucket]), memory_order_relaxed);
        atomic_store_explicit(&index->buckets[bucket], block, memory_order_release);
    }
    pthread_mutex_unlock(&index->lock);
    if (!linked) {
        return out_of_memory(cpu);
    }
    if (!block->ir && t0_compiles(cpu)) {
        t0_prepare(cpu, block, &ir);
    }
    cpu->stats[STAT_TRANSLATE_NS] += now_ns() - started_ns;
    *ret_block = block;
    return X86_OK;
}

/* --- dropping ----------------------------------------------------------------------------------------------- */

/* Under the lock. The block stays in its page's lists and the allocation list. */
static void block_kill(struct translator_vm *vm, struct block *block)
{
    struct block_index *index = vm->blocks;
    _Atomic(struct block *) *link = &index->buckets[block_hash(block->gpa, block->mode)];
    struct block *entry;
    while ((entry = atomic_load(link)) && entry != block) {
        link = &entry->next;
    }
    if (entry) {
        /* A reader that stands on `block` still finds the rest of the chain through it. */
        atomic_store_explicit(link, atomic_load(&block->next), memory_order_release);
    }
    atomic_store(&block->dead, true);
    t0_kill(vm, block);
}

/* Removes dead blocks from a page's list and rebuilds its code map. */
static void page_sweep(struct code_page *page)
{
    struct block *kept = NULL;
    page->granules = 0;
    page->hash_valid = false;
    for (struct block *block = page->blocks, *next; block; block = next) {
        next = block_next_in_page(block, page->page);
        if (!atomic_load(&block->dead)) {
            unsigned first, last;
            block_extent(block, page->page, &first, &last);
            page->granules |= granule_mask(first, last);
            block->next_in_page[(block->gpa & ~UINT64_C(0xfff)) == page->page ? 0 : 1] = kept;
            kept = block;
        }
    }
    page->blocks = kept;
}

void block_code_written(struct x86_cpu *cpu, gpa_t gpa, unsigned size)
{
    struct block_index *index = cpu->vm->blocks;
    gpa_t page_address = gpa & ~UINT64_C(0xfff);
    unsigned first = gpa & 0xfff, last = first + size - 1;
    bool killed = false;

    pthread_mutex_lock(&index->lock);
    struct code_page *page = page_find(index, page_address);
    if (page && page->granules & granule_mask(first, last > 4095 ? 4095 : last)) {
        for (struct block *block = page->blocks; block; block = block_next_in_page(block, page_address)) {
            unsigned block_first, block_last;
            block_extent(block, page_address, &block_first, &block_last);
            if (block_first <= last && first <= block_last && !atomic_load(&block->dead)) {
                block_kill(cpu->vm, block);
                killed = true;
            }
        }
        if (killed) {
            page_sweep(page);
            cpu->code_changed = true;
        }
    }
    pthread_mutex_unlock(&index->lock);
}

/* Under the lock. */
static void page_release(struct x86_cpu *cpu, struct code_page *page)
{
    struct vm_slot *slot = vm_slot_find(cpu->vm, page->page);
    for (struct block *block = page->blocks; block; block = block_next_in_page(block, page->page)) {
        if (!atomic_load(&block->dead)) {
            block_kill(cpu->vm, block);
        }
    }
    page_sweep(page);
    page->writes = 0;
    if (page->write_limit < WRITE_LIMIT_LAST) {
        page->write_limit *= 2;
    }
    device_writes_note_code(cpu->vm, page->page, false);
    atomic_fetch_and(&slot->page_flags[(page->page - slot->s.gpa) >> 12], (uint8_t)~VM_PAGE_CODE);
}

bool block_write_wanted(struct x86_cpu *cpu, gpa_t page_address)
{
    struct block_index *index = cpu->vm->blocks;
    bool released = false;
    pthread_mutex_lock(&index->lock);
    struct code_page *page = page_find(index, page_address);
    if (page && (!page->granules || ++page->writes >= page->write_limit)) {
        page_release(cpu, page);
        released = true;
    }
    pthread_mutex_unlock(&index->lock);
    return released;
}

bool block_code_overlaps(struct translator_vm *vm, gpa_t gpa, unsigned size)
{
    struct block_index *index = vm->blocks;
    unsigned first = gpa & 0xfff, last = first + size - 1;
    pthread_mutex_lock(&index->lock);
    struct code_page *page = page_find(index, gpa & ~UINT64_C(0xfff));
    bool overlaps = page && page->granules & granule_mask(first, last > 4095 ? 4095 : last);
    pthread_mutex_unlock(&index->lock);
    return overlaps;
}

static bool block_matches(struct translator_vm *vm, const struct block *block)
{
    unsigned offset = block->gpa & 0xfff;
    unsigned first = offset + block->bytes > 4096 ? 4096 - offset : block->bytes;
    const uint8_t *host = mmu_phys_page(vm, block->gpa & ~UINT64_C(0xfff), NULL);
    if (!host || memcmp(host + offset, block->guest, first) != 0) {
        return false;
    }
    if (first == block->bytes) {
        return true;
    }
    host = mmu_phys_page(vm, block->second_page, NULL);
    return host && memcmp(host, block->guest + first, block->bytes - first) == 0;
}

/*
 * Universal hash (NH, as in UMAC, RFC 4418 5.2) of a page's code granules under the index's random key: two different
 * contents agree with probability 2^-64, also when a guest chooses them.
 */
static uint64_t code_hash(const struct block_index *index, const uint8_t *host, uint64_t granules)
{
    uint64_t sum = 0;
    for (; granules; granules &= granules - 1) {
        unsigned granule = (unsigned)__builtin_ctzll(granules);
        const uint64_t *key = index->key + granule * 8;
        uint64_t word[8];
        memcpy(word, host + granule * 64, sizeof(word));
        for (unsigned i = 0; i < 8; i += 2) {
            unsigned __int128 product = (unsigned __int128)(word[i] + key[i]) * (word[i + 1] + key[i + 1]);
            sum += (uint64_t)(product >> 64) ^ (uint64_t)product;
        }
    }
    return sum;
}

static void check_page_locked(struct x86_cpu *cpu, struct code_page *page)
{
    bool killed = false;
    const uint8_t *host = mmu_phys_page(cpu->vm, page->page, NULL);
    uint64_t hash = host ? code_hash(cpu->vm->blocks, host, page->granules) : 0;
    if (host && page->hash_valid && page->hash == hash) {
        return;
    }
    for (struct block *block = page->blocks; block; block = block_next_in_page(block, page->page)) {
        if (!atomic_load(&block->dead) && !block_matches(cpu->vm, block)) {
            block_kill(cpu->vm, block);
            killed = true;
        }
    }
    if (killed) {
        page_sweep(page);
        cpu->code_changed = true;
        return;
    }
    page->hash = hash;
    page->hash_valid = true;
}

void block_check_page(struct x86_cpu *cpu, gpa_t page_address)
{
    struct block_index *index = cpu->vm->blocks;
    pthread_mutex_lock(&index->lock);
    struct code_page *page = page_find(index, page_address);
    if (page) {
        check_page_locked(cpu, page);
    }
    pthread_mutex_unlock(&index->lock);
}

void block_check_all(struct x86_cpu *cpu)
{
    struct block_index *index = cpu->vm->blocks;
    pthread_mutex_lock(&index->lock);
    for (unsigned i = 0; i < BLOCK_BUCKETS; i++) {
        for (struct code_page *page = index->pages[i]; page; page = page->next) {
            check_page_locked(cpu, page);
        }
    }
    pthread_mutex_unlock(&index->lock);
}
