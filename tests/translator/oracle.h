/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The native oracle: one instruction, one state, executed by the host CPU and by the translator, then compared.
 *
 * Both executions see the same linear addresses, so that no register or memory content needs translating: the native
 * side maps a code and a data area at ORACLE_BASE of the test's own address space, the guest side builds page tables
 * that map guest RAM there. The guest runs at CPL 3, as the host does. An instruction is followed by HLT, which raises #GP
 * at CPL 3 on both sides, and so is what its branches lead to.
 *
 * x86-64 hosts only. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "translator/engine.h"

#define ORACLE_BASE       0x40000000u            /* below 4 GiB, for 32-bit addresses */
#define ORACLE_INSN       (ORACLE_BASE + 0x400)  /* where the instruction is */
#define ORACLE_TARGET     (ORACLE_INSN + 0x60)   /* where its branch goes */
#define ORACLE_DATA       (ORACLE_BASE + 0x10000)
#define ORACLE_GS_BASE    (ORACLE_BASE + 0x8340) /* on both sides, for operands with a segment prefix */
#define ORACLE_DATA_BYTES 0x2000u                /* followed by unmapped pages */

struct oracle_state {
    uint64_t gpr[16];
    uint64_t rflags;
    uint64_t rip;
    /* Outcome. */
    int vector;       /* of the exception, or -1 */
    uint64_t error;   /* its error code, 0 without one */
    uint64_t address; /* of a page fault */
    _Alignas(64) struct x86_fxsave fx; /* x87, MMX, XMM, MXCSR */
    uint8_t ymm_high[16][16];          /* bits 128-255; zero and not loaded where the host has no AVX */
    _Alignas(64) uint8_t data[ORACLE_DATA_BYTES];
};

/* Prepares the native side (maps memory, installs signal handlers). 0 or -errno. */
int oracle_native_init(void);
/* Does the host (processor and kernel) have YMM registers? */
bool oracle_native_avx(void);
/* Places the instruction on the native side. */
void oracle_native_code(const uint8_t *bytes, unsigned length);
/* Executes it: `state` is both the input and the result. */
void oracle_native_run(struct oracle_state *state);

struct oracle_guest;
/* A vCPU of the given tier, in long mode at CPL 3. 0 or -errno. */
int oracle_guest_create(enum engine_tier tier, struct oracle_guest **ret_guest);
void oracle_guest_destroy(struct oracle_guest *guest);
void oracle_guest_code(struct oracle_guest *guest, const uint8_t *bytes, unsigned length);
void oracle_guest_run(struct oracle_guest *guest, struct oracle_state *state);
/* One of the vCPU's counters, enum translator_stat. */
uint64_t oracle_guest_stat(const struct oracle_guest *guest, unsigned stat);
