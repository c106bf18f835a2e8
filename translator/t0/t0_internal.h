/* SPDX-License-Identifier: Apache-2.0 */
/* T0's parts among themselves: code cache, thunks, compiler, slow paths. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "translator/block.h"
#include "translator/t0/emit.h"
#include "translator/vm.h"

/* Places of the guest's flags (regs.h), as a set. Empty: nobody can see them before they are written. */
enum t0_flags { T0_SAVED = 1, T0_HOST = 2 };

/* How generated code comes out; `argument` in x86_cpu.t0_argument. */
enum t0_exit {
    T0_EXIT_POLL,   /* at a block boundary: argument = offset of the next instruction from pc_base */
    T0_EXIT_LINK,   /* a direct jump that is not linked yet: argument = struct t0_link */
    T0_EXIT_JUMP,   /* jump-cache miss: argument = rip */
    T0_EXIT_RESULT, /* an op came back with argument = enum x86_result; all state is in struct x86_cpu */
};

/* x86_cpu.slow_info: instruction offset | size << 16 | enum mmu_access << 24 */

/* For t0_call_op(): nothing of the instruction follows; the block ends here whatever the op says. */
#define T0_OP_LAST (1u << 24)
#define T0_OP_END  (1u << 25)
/* Its memory operand is in the stack segment: #SS if the address is not canonical. */
#define T0_OP_STACK (1u << 26)
/* Its answer beside enum x86_result: go on in generated code at cpu->rip. */
#define T0_CONTINUE 16

/*
 * A branch of 64-bit code to an address that is not canonical faults at the branch. Nothing on the hot path looks for that:
 * such a target is in no jump cache, and t0_resolve() takes the branch back with what x86_cpu.branch_note says: the offset of
 * its instruction and, times 4096, what must be added to rSP. T0_NOTE_NONE: control has moved on to the next instruction.
 */
#define T0_NOTE_NONE INT32_MIN

/* A direct jump within a page, to be patched when its target exists. */
struct t0_link {
    uint8_t *site;         /* rel32 in the writable alias, 4-byte aligned */
    uint8_t *stub_site;    /* likewise, of the jump to exit_link in the link's cold part */
    uint8_t *stub;         /* executable address of that cold part */
    struct block *from;
    struct t0_link *next;  /* of those that lead to the same block; valid while `linked` */
    uint16_t target;       /* page offset */
    uint8_t flags;         /* enum t0_flags at the jump */
    bool linked;
};

struct t0_block {
    uint8_t *entry[2];     /* executable addresses: [0] flags SAVED, [1] flags in EFLAGS */
    uint8_t *poll[2];      /* writable addresses of the polls to overwrite when the block dies, or NULL */
    uint8_t *poll_stub[2]; /* writable addresses of where these then lead */
    struct t0_link *incoming; /* links that lead here */
    unsigned link_count;
    struct t0_link links[];
};

struct t0_thunks {
    int (*enter)(struct x86_cpu *cpu, void *code);
    const uint8_t *exit_poll[2];  /* ecx = offset; by flags place: [0] SAVED, [1] HOST */
    const uint8_t *exit_link[2];  /* rcx = link */
    const uint8_t *far_link[2];   /* rcx = link whose target cannot be linked: through the jump cache */
    const uint8_t *jump;          /* rax = rip, flags SAVED, branch_note set: looks up and goes there */
    const uint8_t *jump_miss;
    const uint8_t *branch_back;   /* jmp: interprets the instruction at the offset in x86_cpu.slow_info */
    const uint8_t *slow;          /* call: rax = address, ecx = slow_info -> rax = host pointer; or does not come back:
                                     the instruction was interpreted */
    const uint8_t *interpret;     /* jmp: ecx = offset: interprets that instruction, goes on after it; flags SAVED */
    const uint8_t *op;            /* call: rcx = struct ir_op, eax = offset | length << 16 | T0_OP_*; flags SAVED */
    const uint8_t *x87_load;      /* call: ecx = offset: x86_cpu.fx -> the host's unit, or as `interpret`; flags SAVED */
};

struct code_cache {
    int fd;
    uint8_t *rx, *rw;
    size_t bytes, used, start;    /* start: end of the thunks */
    uint32_t generation;
    pthread_mutex_t lock;
    struct t0_thunks thunks;
};

/* thunks.c: emits the thunks. */
void t0_make_thunks(struct emitter *e, struct t0_thunks *ret_thunks);
/* compile.c: emits `block`; NULL when memory or the emitter's space ran out. */
struct t0_block *t0_compile(struct emitter *e, const struct t0_thunks *thunks, struct block *block,
                            const struct ir_block *ir);

/* link.c: points the jump that control last left by to `block`, if it is its target. A block that straddles is valid only
 * under its second page's mapping, which the jump cache follows and a link would not. */
void t0_link_blocks(struct code_cache *code, struct t0_link *link, struct block *block);
/* t0_kill() with the code cache's lock held. */
void t0_kill_locked(struct code_cache *code, struct block *block);

/* Called by the thunks. refill.c: */
void *t0_refill(struct x86_cpu *cpu, gva_t la, uint32_t info);
void *t0_resolve(struct x86_cpu *cpu);
/* slow.c: */
int t0_call_op(struct x86_cpu *cpu, const struct ir_op *op, uint32_t pcinfo);
int t0_interpret(struct x86_cpu *cpu, uint32_t offset);
