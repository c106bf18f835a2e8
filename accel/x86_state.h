/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one x86 vCPU state that every accelerator loads and saves (and that migration carries).
 *
 * Plain values as the architecture defines them; no accelerator's internals.
 */
#pragma once

#include <stdint.h>

/* Order of the encodings in instructions (SDM 2B, segment register field), then the system segments. */
enum x86_seg_index { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_LDTR, X86_TR, X86_SEGS };

/*
 * A segment register with its hidden part. `attr` are the descriptor's access rights as in VMX (SDM 3C 25.4.1):
 * bits 0-3 type, 4 S, 5-6 DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G, 16 unusable. `limit` is in bytes (scaled).
 */
struct x86_segment {
    uint64_t base;
    uint32_t limit;
    uint32_t attr;
    uint16_t selector;
};

#define X86_ATTR_TYPE     0x000fu
#define X86_ATTR_S        0x0010u
#define X86_ATTR_DPL      0x0060u
#define X86_ATTR_P        0x0080u
#define X86_ATTR_AVL      0x1000u
#define X86_ATTR_L        0x2000u
#define X86_ATTR_DB       0x4000u
#define X86_ATTR_G        0x8000u
#define X86_ATTR_UNUSABLE 0x10000u

struct x86_table_register {
    uint64_t base;
    uint16_t limit;
};

struct x86_vcpu_state {
    uint64_t gpr[16]; /* rax rcx rdx rbx rsp rbp rsi rdi r8..r15 */
    uint64_t rip, rflags;
    struct x86_segment seg[X86_SEGS];
    struct x86_table_register gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer, xcr0;
    uint64_t dr[8];

    uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t tsc, tsc_aux, tsc_adjust, pat, misc_enable, spec_ctrl, pkrs;
    uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_phys_base[8], mtrr_phys_mask[8];

    /* Standard format of XSAVE without compaction (SDM 1 13.4): legacy area, header, AVX state. */
    _Alignas(64) uint8_t xsave[4096];

    uint8_t halted;
    uint8_t nmi_blocked;
    uint8_t nmi_pending;       /* the one that waits behind it */
    uint8_t interrupt_shadow;  /* after STI or MOV SS */
    uint8_t exception_pending; /* an exception that is raised and not yet delivered */
    uint8_t exception_vector;
    uint8_t exception_has_error;
    uint32_t exception_error;
};
