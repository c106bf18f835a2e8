/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lock step: every block runs first in the interpreter, with its memory writes journalled and undone, then in T0 from the
 * same state; both results must be equal.
 *
 * For tests and for finding translator faults, on one vCPU and without devices that write guest memory. A block that
 * reaches a device, changes translated code or executes an IR_SYS op cannot be repeated: it runs in the interpreter only.
 */
#pragma once

#include "translator/block.h"

#define JOURNAL_MAX 16384

struct mmu_journal_entry {
    uint8_t *host;
    uint8_t size;
    uint8_t old[64], new[64];
};

struct mmu_journal {
    unsigned count;
    bool unrepeatable; /* an access had effects outside RAM, or the journal is full */
    struct mmu_journal_entry entries[JOURNAL_MAX];
};

/* Runs `block` as t0_run() does. A difference ends the VM: X86_EXIT with cpu->fatal naming the block, details on stderr. */
int lockstep_run(struct x86_cpu *cpu, struct block *block);

/* Records that `size` bytes at `host` are about to change. Called by the MMU while x86_cpu.journal is set. */
void mmu_journal_write(struct mmu_journal *journal, uint8_t *host, unsigned size);
