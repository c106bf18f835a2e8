/* SPDX-License-Identifier: Apache-2.0 */
#include "translator/lockstep.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "translator/interp.h"
#include "translator/stats.h"
#include "translator/t0/t0.h"
#include "translator/x86/vec.h"

void mmu_journal_write(struct mmu_journal *journal, uint8_t *host, unsigned size)
{
    if (journal->count == JOURNAL_MAX) {
        journal->unrepeatable = true;
        return;
    }
    struct mmu_journal_entry *entry = &journal->entries[journal->count++];
    entry->host = host;
    entry->size = (uint8_t)size;
    memcpy(entry->old, host, size);
}

/* Remembers what was written and puts the old contents back. */
static void journal_undo(struct mmu_journal *journal)
{
    for (unsigned i = 0; i < journal->count; i++) {
        memcpy(journal->entries[i].new, journal->entries[i].host, journal->entries[i].size);
    }
    for (unsigned i = journal->count; i-- > 0;) {
        memcpy(journal->entries[i].host, journal->entries[i].old, journal->entries[i].size);
    }
}

static bool repeatable(const struct ir_block *ir)
{
    for (unsigned i = 0; i < ir->op_count; i++) {
        if (ir->ops[i].op == IR_SYS) {
            return false;
        }
    }
    return true;
}

/* Arithmetic flags that the architecture leaves undefined at the end of the block. */
static uint64_t undefined_flags(const struct ir_block *ir)
{
    uint64_t undefined = 0;
    for (unsigned i = 0; i < ir->op_count; i++) {
        const struct ir_op *op = &ir->ops[i];
        switch (op->op) {
        case IR_ALU:
            undefined = op->sub == IR_AND || op->sub == IR_OR || op->sub == IR_XOR || op->sub == IR_TEST ? FLAG_AF : 0;
            break;
        case IR_UNARY:
            if (op->sub == IR_NEG) {
                undefined = 0;
            }
            break;
        case IR_SHIFT:
            undefined |= op->sub <= IR_RCR ? FLAG_OF : FLAG_AF | FLAG_OF | FLAG_CF;
            break;
        case IR_SHLD:
            undefined |= FLAG_AF | FLAG_OF;
            break;
        case IR_MUL:
        case IR_IMUL:
            undefined = FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF;
            break;
        case IR_DIV:
            undefined = FLAGS_ARITH;
            break;
        case IR_BIT:
            undefined |= FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF;
            break;
        case IR_SCAN:
            undefined = op->sub == IR_POPCNT ? 0 : FLAGS_ARITH & ~(uint64_t)(FLAG_ZF | FLAG_CF);
            if (op->sub == IR_BSF || op->sub == IR_BSR) {
                undefined |= FLAG_CF;
            }
            break;
        case IR_BMI:
            if (op->sub <= IR_BZHI) {
                undefined = FLAG_AF | FLAG_PF | (op->sub == IR_BEXTR ? FLAG_SF : 0);
            }
            break;
        case IR_CMPXCHG:
        case IR_XADD:
            undefined = 0;
            break;
        default:
            break;
        }
    }
    return undefined;
}

static void dump_line(void *opaque, const char *line)
{
    fprintf(stderr, "  %s\n", line);
}

static bool differ(const char *what, uint64_t interpreter, uint64_t t0)
{
    if (interpreter == t0) {
        return false;
    }
    fprintf(stderr, "lock step: %s: interpreter %#" PRIx64 ", T0 %#" PRIx64 "\n", what, interpreter, t0);
    return true;
}

static bool compare_x87(const struct x86_fxsave *a, const struct x86_fxsave *b)
{
    bool bad = differ("x87 control", a->fcw, b->fcw) | differ("x87 status", a->fsw, b->fsw) |
               differ("x87 tags", a->ftw, b->ftw);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t x, y;
        char name[16];
        memcpy(&x, a->st[i], 8);
        memcpy(&y, b->st[i], 8);
        snprintf(name, sizeof(name), "st%u", i);
        bad |= differ(name, x, y);
        memcpy(&x, a->st[i] + 8, 2);
        memcpy(&y, b->st[i] + 8, 2);
        snprintf(name, sizeof(name), "st%u exponent", i);
        bad |= differ(name, x & 0xffff, y & 0xffff);
    }
    return bad;
}

static bool compare(const struct x86_cpu *a, const struct x86_cpu *b, const struct block *block, int ra, int rb)
{
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    bool bad = differ("result", (uint64_t)ra, (uint64_t)rb) | differ("rip", a->rip, b->rip);
    uint64_t mask = ~undefined_flags(block->ir);
    bad |= differ("rflags", a->rflags & mask, b->rflags & mask);
    for (unsigned i = 0; i < 16; i++) {
        bad |= differ(names[i], a->gpr[i], b->gpr[i]);
        char name[16];
        snprintf(name, sizeof(name), "xmm%u low", i);
        bad |= differ(name, a->vec[i].q[0], b->vec[i].q[0]);
        snprintf(name, sizeof(name), "xmm%u high", i);
        bad |= differ(name, a->vec[i].q[1], b->vec[i].q[1]);
        snprintf(name, sizeof(name), "ymm%u low", i);
        bad |= differ(name, a->vec[i].q[2], b->vec[i].q[2]);
        snprintf(name, sizeof(name), "ymm%u high", i);
        bad |= differ(name, a->vec[i].q[3], b->vec[i].q[3]);
    }
    bad |= differ("mxcsr", a->mxcsr, b->mxcsr) | compare_x87(&a->fx, &b->fx);
    bad |= differ("exception", a->exc.pending, b->exc.pending);
    if (a->exc.pending && b->exc.pending) {
        bad |= differ("vector", a->exc.vector, b->exc.vector) | differ("error code", a->exc.error, b->exc.error) |
               differ("cr2", a->exc.cr2, b->exc.cr2);
    }
    return bad;
}

static bool compare_memory(const struct mmu_journal *journal)
{
    /* The last write to a place decides: walk backwards and skip what a later entry covers. */
    bool bad = false;
    for (unsigned i = 0; i < journal->count; i++) {
        const struct mmu_journal_entry *entry = &journal->entries[i];
        if (memcmp(entry->host, entry->new, entry->size) != 0) {
            uint64_t want = 0, got = 0;
            unsigned n = entry->size > 8 ? 8 : entry->size;
            memcpy(&want, entry->new, n);
            memcpy(&got, entry->host, n);
            fprintf(stderr, "lock step: memory at host %p, %u bytes: interpreter %#" PRIx64 ", T0 %#" PRIx64 "\n",
                    (void *)entry->host, entry->size, want, got);
            bad = true;
        }
    }
    return bad;
}

/* T0 came out of the middle of the block, after an instruction that it leaves to the interpreter: the rest of the block. */
static int finish(struct x86_cpu *cpu, const struct ir_block *ir, int result)
{
    if (result != X86_JUMP || !cpu->t0_partial) {
        return result;
    }
    for (unsigned i = 1; i < ir->op_count; i++) {
        if (ir->ops[i].op == IR_INSN && cpu->pc_base + ir->ops[i].pc == cpu->rip) {
            return interp_run(cpu, ir, i);
        }
    }
    return result;
}

int lockstep_run(struct x86_cpu *cpu, struct block *block)
{
    static _Thread_local struct mmu_journal *journal;
    static _Thread_local struct x86_cpu *before, *after;
    if (!journal) {
        journal = malloc(sizeof(*journal));
        before = aligned_alloc(64, (sizeof(*before) + 63) & ~(size_t)63);
        after = aligned_alloc(64, (sizeof(*after) + 63) & ~(size_t)63);
    }
    if (!journal || !before || !after || !repeatable(block->ir)) {
        cpu->pending_link = NULL;
        cpu->pending_jump = false;
        return block_interpret(cpu, block);
    }
    journal->count = 0;
    journal->unrepeatable = false;
    cpu->pending_link = NULL; /* blocks stay unlinked */
    cpu->pending_jump = false;
    x86_x87_sync(cpu); /* what the host's unit holds cannot be put back */
    memcpy(before, cpu, sizeof(*cpu));
    cpu->journal = journal;
    int expected = block_interpret(cpu, block);
    cpu->journal = NULL;
    if (journal->unrepeatable || atomic_load(&cpu->requests)) { /* a request may have cut a string instruction short */
        return expected;
    }
    journal_undo(journal);
    memcpy(after, cpu, sizeof(*cpu));
    /* Everything back, except what others may have written since. */
    uint32_t requests = atomic_load(&cpu->requests);
    memcpy(cpu, before, sizeof(*cpu));
    atomic_fetch_or(&cpu->requests, requests);

    cpu->t0_partial = false;
    int result = finish(cpu, block->ir, t0_run(cpu, block));
    x86_x87_sync(cpu);
    cpu->stats[STAT_COMPARED]++;
    if (atomic_load(&cpu->requests) || __atomic_load_n(&cpu->run, __ATOMIC_SEQ_CST) == 0) {
        /* It may have come out at its first poll, or within a string instruction. */
        return result;
    }
    if (compare(after, cpu, block, expected, result) | compare_memory(journal)) {
        fprintf(stderr, "lock step: block at rip %#" PRIx64 ", %u instructions, bytes", before->rip,
                block->insn_count);
        for (unsigned i = 0; i < block->bytes; i++) {
            fprintf(stderr, " %02x", block->guest[i]);
        }
        fprintf(stderr, "\n");
        for (unsigned i = 0; i < 16; i++) {
            fprintf(stderr, "  gpr[%u] before %#" PRIx64 "\n", i, before->gpr[i]);
        }
        fprintf(stderr, "  rflags before %#" PRIx64 "\n", before->rflags);
        ir_dump(block->ir, dump_line, NULL);
        snprintf(cpu->fatal, sizeof(cpu->fatal), "lock step: T0 and the interpreter differ on the block at rip %#" PRIx64,
                 before->rip);
        cpu->exit_reason = X86_RUN_FATAL;
        return X86_EXIT;
    }
    return result;
}
