/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an accelerator needs beyond running: whole-state access to a vCPU that does not run. On its thread.
 */
#pragma once

#include "translator/x86/cpu.h"

#define X86_XSAVE_IMAGE_BYTES 4096u

/* XSAVE image in the standard format. export writes X86_XSAVE_IMAGE_BYTES; import takes x87, SSE and extended state
 * from one: 0, or -EINVAL (header or MXCSR invalid). */
void x86_xsave_export(struct x86_cpu *cpu, void *image);
int x86_xsave_import(struct x86_cpu *cpu, const void *image);

/* After the fields of struct x86_cpu were set from outside: derives mode, MMU context and pc_base. `cr3` is loaded with a
 * complete flush. */
void x86_state_changed(struct x86_cpu *cpu, uint64_t cr3);

/* 0, or -EINVAL when the combination of CR0, CR3, CR4, EFER, XCR0 and RFLAGS is one that no guest could be in. */
int x86_state_check(const struct x86_cpu *cpu, uint64_t cr0, uint64_t cr4, uint64_t efer, uint64_t xcr0);

static inline uint64_t x86_host_tsc(void)
{
    return __builtin_ia32_rdtsc();
}

/* Not before the loads that stand before it, as RDTSCP promises, and LFENCE; RDTSC (which the interpreter's LFENCE, having
 * nothing to wait for, does not order): else a vCPU finds a TSC older than the one that another has just handed to it. */
static inline uint64_t x86_host_tsc_ordered(void)
{
    __asm__ volatile("lfence" ::: "memory");
    return x86_host_tsc();
}
