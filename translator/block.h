/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks: translations of guest code, found by physical address and mode.
 *
 * A block is found by (gpa of its first byte, mode). It stays valid until a byte it was made from changes: writes by
 * vCPUs come through the MMU's slow path (block_code_written()), writes by device servers are found when an instruction
 * mapping is filled (block_check_page() compares the page's blocks with their copies of the guest's bytes).
 *
 * A dropped block is dead: it is not found any more and its entry points lead out, but its memory stays until the whole
 * index is cleared, which happens with every vCPU out of generated code.
 *
 * Threads: all functions may be called by any vCPU's thread; changes are under one lock.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "translator/ir.h"
#include "translator/vm.h"

#define BLOCK_NO_PAGE UINT64_MAX /* no page's address */

struct block {
    struct block *next_in_page[2];        /* lists of the pages it lies in */
    _Atomic(struct block *) next;         /* hash chain */
    struct block *next_allocated;
    gpa_t gpa;
    gpa_t second_page;                    /* page of its last instruction's tail, or BLOCK_NO_PAGE */
    uint32_t mode;
    uint16_t bytes;
    _Atomic bool dead;
    uint16_t insn_count;
    uint8_t *guest;                       /* copy of the bytes it was made from */
    struct ir_block *ir;                  /* for tiers that interpret again and again, else NULL: block_decode(); its ops
                                             are allocated only up to op_count */
    /* T0: entry points, see t0/; NULL while it is only interpreted */
    uint8_t *_Atomic code;
    struct t0_block *t0;
};

int block_index_create(struct translator_vm *vm);
void block_index_destroy(struct translator_vm *vm);
/* Forgets every block. No vCPU runs, or the caller holds an exclusive section with code_out. */
void block_index_clear(struct translator_vm *vm);

static inline bool block_straddles(const struct block *block)
{
    return block->second_page != BLOCK_NO_PAGE;
}

/* The block at cpu->rip in cpu->mode, decoded now if need be. X86_OK, X86_RAISE, or X86_EXIT when memory ran out
 * (cpu->fatal). *ret_block is NULL where some of its bytes do not lie in RAM: block_interpret_one() then. */
int block_get(struct x86_cpu *cpu, struct block **ret_block);

/* Decodes the block once more from its copy of the guest's bytes. 0 or a negative errno. */
int block_decode(struct x86_cpu *cpu, const struct block *block, struct ir_block *ret_ir);
/* Interprets the block from its start: as interp_run(). */
int block_interpret(struct x86_cpu *cpu, struct block *block);
/* Interprets the one instruction at cpu->rip: as interp_run(). Where there is no memory it finds an open bus, FF bytes. */
int block_interpret_one(struct x86_cpu *cpu);

void block_code_written(struct x86_cpu *cpu, gpa_t gpa, unsigned size);
/* A write to a page that holds code came to the slow path. True: the page's blocks were dropped, because it is written too
 * often or none was left, and it need not be protected any more. Uses no vector registers. */
bool block_write_wanted(struct x86_cpu *cpu, gpa_t page);
bool block_code_overlaps(struct translator_vm *vm, gpa_t gpa, unsigned size);
void block_check_page(struct x86_cpu *cpu, gpa_t page);
void block_check_all(struct x86_cpu *cpu);

/* What an empty jump cache entry points to. */
void *block_jump_miss(struct translator_vm *vm);
