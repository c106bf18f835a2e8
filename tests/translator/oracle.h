/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The native oracle: one piece of code, one state, executed by the host CPU and by the translator, then compared.
 *
 * Both executions see the same linear addresses, so that no register or memory content needs translating: the native
 * side maps code and data at ORACLE_BASE of the test's own address space, the guest side builds page tables and
 * descriptor tables that give its RAM there. The guest runs at CPL 3, as the host does.
 *
 *     ORACLE_BASE   code      read, execute: HLT, but for the instructions at ORACLE_INSN and the jumps behind them
 *     ORACLE_EXIT   exits     where those jumps lead. The guest may not execute them: its #PF is the end
 *     ORACLE_DATA   2 pages   read, write: part of the state; nothing is mapped below
 *     ORACLE_CONST  1 page    read only; nothing is mapped above
 *
 * Three kinds of code: 64-bit; 32-bit with flat CS, DS, ES, SS; 16-bit with segments from an LDT, so that limits, 16-bit
 * stacks and 16-bit addressing are the processor's own. In the latter two FS and GS are of the LDT too.
 *
 * An instruction's outcome is an exception, or the place where it went on: ORACLE_INSN + length, or ORACLE_TARGET.
 *
 * x86-64 hosts only. One thread, one instance.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "translator/engine.h"

#define ORACLE_BASE       0x40000000u           /* below 2 GiB, for 32-bit displacements */
#define ORACLE_INSN       (ORACLE_BASE + 0x400) /* where the instruction is */
#define ORACLE_TARGET     (ORACLE_INSN + 0x60)  /* where its branch goes */
#define ORACLE_CODE_MAX   0x200u                /* bytes at ORACLE_INSN */
#define ORACLE_EXIT       (ORACLE_BASE + 0x1000)
#define ORACLE_DATA       (ORACLE_BASE + 0x10000)
#define ORACLE_DATA_BYTES 0x2000u
#define ORACLE_CONST      (ORACLE_DATA + ORACLE_DATA_BYTES)
#define ORACLE_FS_BASE    (ORACLE_BASE + 0x7128) /* in 64-bit and 32-bit code */
#define ORACLE_GS_BASE    (ORACLE_BASE + 0x8340)

enum oracle_mode { ORACLE_64, ORACLE_32, ORACLE_16, ORACLE_MODES };

/* Selectors: Linux's own, and those of the LDT. */
#define ORACLE_USER32_CS 0x23
#define ORACLE_USER_DS   0x2b
#define ORACLE_USER_CS   0x33
#define ORACLE_LDT(n)    ((n) << 3 | 7)

/* What a segment register holds when the instruction begins; also the LDT's entries. */
struct oracle_segment {
    uint16_t selector;
    uint32_t base, limit; /* limit in bytes */
    uint8_t type;         /* with the accessed bit */
    bool big;             /* D/B */
};
extern const struct oracle_segment oracle_segments[ORACLE_MODES][6]; /* by enum x86_seg_reg; base and limit unused for ORACLE_64 */

struct oracle_state {
    uint64_t gpr[16];
    uint64_t rflags;
    uint64_t rip;
    uint16_t seg[6]; /* outcome: selectors, by enum x86_seg_reg */
    uint64_t fs_base, gs_base; /* outcome, 64-bit code */
    /* Outcome. */
    int vector;       /* of the exception, or -1 */
    uint64_t error;   /* its error code, 0 without one */
    uint64_t address; /* of a page fault */
    _Alignas(64) struct x86_fxsave fx; /* x87, MMX, XMM, MXCSR */
    uint8_t ymm_high[16][16];          /* bits 128-255; zero and not loaded where the host has no AVX */
    _Alignas(64) uint8_t data[ORACLE_DATA_BYTES];
};

/* Flags that a state sets and that are compared. */
#define ORACLE_FLAGS (FLAGS_ARITH | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID)

/* Code as it stands at ORACLE_INSN, jumps to the exits behind it included. */
struct oracle_code {
    enum oracle_mode mode;
    unsigned length; /* without those jumps */
    unsigned bytes;  /* with all that is not HLT */
    uint8_t data[ORACLE_CODE_MAX];
};
/* `target`: something may branch to ORACLE_TARGET. */
void oracle_code_init(struct oracle_code *code, enum oracle_mode mode, const uint8_t *bytes, unsigned length,
                      bool target);
/* Where the exits are: 0 behind the code, 1 from ORACLE_TARGET. */
uint64_t oracle_exit(enum oracle_mode mode, unsigned which);
/* The content of the exit page. */
void oracle_exit_page(uint8_t page[0x1000]);
/* Content of ORACLE_CONST. */
uint8_t oracle_const_byte(unsigned offset);

/* --- native, oracle_native.c --------------------------------------------------------------------------------- */

/* Maps memory, sets up segments, installs signal handlers. 0 or -errno. */
int oracle_native_init(void);
bool oracle_native_supports(enum oracle_mode mode);
/* Does the host (processor and kernel) have YMM registers? */
bool oracle_native_avx(void);
/* May user code write FS.base and GS.base? Then FS and GS are as above, else FS is not to be touched. */
bool oracle_native_fsgsbase(void);
void oracle_native_code(const struct oracle_code *code);
/* Executes it: `state` is both the input and the result. */
void oracle_native_run(struct oracle_state *state);

/* --- guest, oracle_guest.c ----------------------------------------------------------------------------------- */

struct oracle_guest;
/* A vCPU of the given tier, in long mode at CPL 3, with all features that the translator has on this host. 0 or -errno. */
int oracle_guest_create(enum engine_tier tier, struct oracle_guest **ret_guest);
void oracle_guest_destroy(struct oracle_guest *guest);
void oracle_guest_code(struct oracle_guest *guest, const struct oracle_code *code);
void oracle_guest_run(struct oracle_guest *guest, struct oracle_state *state);
/* One of the vCPU's counters, enum translator_stat. */
uint64_t oracle_guest_stat(const struct oracle_guest *guest, unsigned stat);
