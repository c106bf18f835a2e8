/* SPDX-License-Identifier: Apache-2.0 */
/* Counters per vCPU (x86_cpu.stats), for --jit-stats and benchmarks. */
#pragma once

enum translator_stat {
    MMU_STAT_FILLS,       /* TLB fills (page walks) */
    MMU_STAT_IO,          /* MMIO accesses */
    MMU_STAT_CODE_WRITES, /* writes to pages with translated code */
    MMU_STAT_CR3,         /* CR3 loads */
    MMU_STAT_FLUSHES,     /* flushes of everything */
    MMU_STAT_INVLPG,
    STAT_BLOCKS,          /* blocks decoded */
    STAT_INSNS,           /* guest instructions decoded */
    STAT_TRANSLATE_NS,    /* time spent decoding and compiling */
    STAT_COMPILED,        /* blocks compiled by T0 */
    STAT_CODE_BYTES,      /* host code bytes emitted */
    STAT_ENTRIES,         /* entries into generated code from C */
    STAT_JUMP_MISSES,     /* jump-cache misses */
    STAT_INTERPRETED,     /* instructions that generated code left to the interpreter: MMIO, page crossings, faults */
    STAT_FALLBACKS,       /* ops handed to the interpreter */
    STAT_COMPARED,        /* blocks that ran in lock step */
    STAT_INTERRUPTS,
    STAT_EXCEPTIONS,
    STAT_DEVICE_CHECKS,   /* looks at the log of device writes (device_writes.h) */
    TRANSLATOR_STATS,
};

struct translator_vm;

const char *translator_stat_name(enum translator_stat stat);

/* Writes the sums over all vCPUs (living and destroyed) as "name value" lines into `text`. Any thread; the values of a
 * running vCPU are approximate. */
void translator_stats(struct translator_vm *vm, char *text, unsigned long text_bytes);
