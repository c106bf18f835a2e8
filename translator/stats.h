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
    STAT_COMPILED,        /* blocks compiled by T0 */
    STAT_CODE_BYTES,      /* host code bytes emitted */
    STAT_ENTRIES,         /* entries into generated code from C */
    STAT_JUMP_MISSES,     /* jump-cache misses */
    STAT_INTERPRETED,     /* instructions that generated code left to the interpreter: MMIO, page crossings, faults */
    STAT_FALLBACKS,       /* ops handed to the interpreter */
    STAT_INTERRUPTS,
    STAT_EXCEPTIONS,
    TRANSLATOR_STATS,
};
