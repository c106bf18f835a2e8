/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The x86 vCPU as the translator holds it.
 *
 * Owner: the thread that runs the vCPU. Other threads touch only the atomics marked [any thread].
 *
 * Generated code addresses this struct through the host's rsp, whose stack lies directly below it; x86_cpu_create()
 * allocates both. Its first fields are the ones generated code uses most.
 *
 * Where the guest's state is:
 *  - outside generated code everything is here, rflags included (arithmetic flags too);
 *  - general registers, xmm and flags are loaded into host registers by T0's entry stub and stored by its exits;
 *  - x87/MMX state lives in `fx` unless x87_live: then it is in the host's x87 registers (x86_x87_sync()).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/units.h"
#include "translator/x86/features.h"

/* --- constants ---------------------------------------------------------------------------------------------- */

enum x86_seg_reg { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT };

#define FLAG_CF   (1u << 0)
#define FLAG_PF   (1u << 2)
#define FLAG_AF   (1u << 4)
#define FLAG_ZF   (1u << 6)
#define FLAG_SF   (1u << 7)
#define FLAG_TF   (1u << 8)
#define FLAG_IF   (1u << 9)
#define FLAG_DF   (1u << 10)
#define FLAG_OF   (1u << 11)
#define FLAG_IOPL (3u << 12)
#define FLAG_NT   (1u << 14)
#define FLAG_RF   (1u << 16)
#define FLAG_VM   (1u << 17)
#define FLAG_AC   (1u << 18)
#define FLAG_VIF  (1u << 19)
#define FLAG_VIP  (1u << 20)
#define FLAG_ID   (1u << 21)
#define FLAGS_ARITH (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

#define CR0_PE (1u << 0)
#define CR0_MP (1u << 1)
#define CR0_EM (1u << 2)
#define CR0_TS (1u << 3)
#define CR0_ET (1u << 4)
#define CR0_NE (1u << 5)
#define CR0_WP (1u << 16)
#define CR0_AM (1u << 18)
#define CR0_NW (1u << 29)
#define CR0_CD (1u << 30)
#define CR0_PG (1u << 31)

#define CR4_VME        (1u << 0)
#define CR4_PVI        (1u << 1)
#define CR4_TSD        (1u << 2)
#define CR4_DE         (1u << 3)
#define CR4_PSE        (1u << 4)
#define CR4_PAE        (1u << 5)
#define CR4_MCE        (1u << 6)
#define CR4_PGE        (1u << 7)
#define CR4_PCE        (1u << 8)
#define CR4_OSFXSR     (1u << 9)
#define CR4_OSXMMEXCPT (1u << 10)
#define CR4_UMIP       (1u << 11)
#define CR4_FSGSBASE   (1u << 16)
#define CR4_PCIDE      (1u << 17)
#define CR4_OSXSAVE    (1u << 18)
#define CR4_SMEP       (1u << 20)
#define CR4_SMAP       (1u << 21)
#define CR4_PKE        (1u << 22)
#define CR4_PKS        (1u << 24)

#define MISC_ENABLE_LIMIT_CPUID (UINT64_C(1) << 22)
#define MISC_ENABLE_XD_DISABLE  (UINT64_C(1) << 34)

#define EFER_SCE (1u << 0)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)
#define EFER_NXE (1u << 11)

enum x86_vector {
    EXC_DE = 0, EXC_DB, EXC_NMI, EXC_BP, EXC_OF, EXC_BR, EXC_UD, EXC_NM, EXC_DF, EXC_TS = 10, EXC_NP, EXC_SS, EXC_GP,
    EXC_PF, EXC_MF = 16, EXC_AC, EXC_MC, EXC_XM,
};

/*
 * What generated code depends on beside its bytes; part of the key of a block. Recomputed by x86_update_mode() after
 * every change of CS, SS, CR0, CR4, EFER, RFLAGS.{TF,VM,AC} or a flat segment.
 */
enum x86_mode {
    MODE_CS64    = 1 << 0, /* 64-bit code */
    MODE_CS32    = 1 << 1, /* D bit: 32-bit default operand and address size */
    MODE_SS32    = 1 << 2, /* B bit: stack uses ESP (64-bit code always RSP) */
    MODE_PE      = 1 << 3, /* protected mode (CR0.PE) */
    MODE_VM      = 1 << 4, /* virtual-8086 */
    MODE_CPL3    = 1 << 5, /* CPL == 3 (user) */
    MODE_CPLMID  = 1 << 6, /* CPL is 1 or 2 */
    MODE_FLAT    = 1 << 7, /* ES CS SS DS: base 0, limit 4 GiB, usable, DS/ES/SS writable: no segment checks needed */
    MODE_TF      = 1 << 8, /* single step: blocks of one instruction */
    MODE_NM      = 1 << 9, /* CR0.TS: FPU/SSE raise #NM */
    MODE_EM      = 1 << 10, /* CR0.EM: x87 #NM, SSE #UD */
    MODE_MP      = 1 << 11, /* CR0.MP: WAIT raises #NM when TS */
    MODE_NOSSE   = 1 << 12, /* CR4.OSFXSR clear: SSE #UD */
    MODE_AC      = 1 << 13, /* CR0.AM, RFLAGS.AC and CPL 3: alignment checks */
    MODE_LMA     = 1 << 14, /* long mode active (64-bit or compatibility) */
    MODE_AVX     = 1 << 15, /* XCR0 enables AVX state */
};

/* What executing guest code can come to. */
enum x86_result {
    X86_OK = 0,    /* go on with the next op / instruction */
    X86_RAISE,     /* an exception is recorded in cpu->exc; rip is the faulting instruction */
    X86_JUMP,      /* rip was set; the block is left */
    X86_EXIT,      /* leave the run loop's inner part: cpu->exit_reason says why (halt, shutdown, fatal) */
};

enum x86_run_exit { X86_RUN_HLT, X86_RUN_KICKED, X86_RUN_SHUTDOWN, X86_RUN_FATAL };

struct x86_seg {
    uint64_t base;
    uint32_t limit; /* bytes, scaled */
    uint32_t attr;  /* X86_ATTR_* as in accel/x86_state.h: type 0-3, S 4, DPL 5-6, P 7, AVL 12, L 13, DB 14, G 15,
                       unusable 16 */
    uint16_t sel;
};

#define SEG_ATTR_TYPE     0x000fu
#define SEG_ATTR_S        0x0010u
#define SEG_ATTR_DPL      0x0060u
#define SEG_ATTR_P        0x0080u
#define SEG_ATTR_L        0x2000u
#define SEG_ATTR_DB       0x4000u
#define SEG_ATTR_G        0x8000u
#define SEG_ATTR_UNUSABLE 0x10000u
/* Bits of the type of code and data segments. */
#define SEG_TYPE_ACCESSED   0x1u
#define SEG_TYPE_WRITABLE   0x2u /* data */
#define SEG_TYPE_READABLE   0x2u /* code */
#define SEG_TYPE_DOWN       0x4u /* data: expand-down */
#define SEG_TYPE_CONFORMING 0x4u /* code */
#define SEG_TYPE_CODE       0x8u

struct x86_table {
    uint64_t base;
    uint16_t limit;
};

/* What is known about bits 255:128 of the vector registers (translator/t0/thunks.c). */
enum x86_vec_upper {
    VEC_UPPER_ZERO,  /* all 0, in `vec` too */
    VEC_UPPER_CLEAR, /* inside generated code only: all 0 in the host's registers, `vec` is stale */
    VEC_UPPER_USED,  /* may be anything; the only one with bit 1 */
};

union x86_vec {
    uint8_t b[64];
    uint16_t w[32];
    uint32_t d[16];
    uint64_t q[8];
    float f[16];
    double lf[8];
};

/* FXSAVE64 image (SDM 1 10.5.1): x87/MMX part is authoritative when !x87_live; its xmm part is not used. */
struct x86_fxsave {
    uint16_t fcw, fsw;
    uint8_t ftw, reserved;
    uint16_t fop;
    uint64_t fip, fdp;
    uint32_t mxcsr, mxcsr_mask;
    uint8_t st[8][16];
    uint8_t xmm[16][16];
    uint8_t pad[96];
};
_Static_assert(sizeof(struct x86_fxsave) == 512, "FXSAVE image");

struct x86_exception {
    bool pending;
    bool has_error;
    bool software;  /* INT n, INT3, INTO: return address is the next instruction, gate DPL is checked */
    bool noncanonical; /* #GP because a linear address is not canonical: #SS if it is the stack segment's */
    uint8_t vector;
    uint32_t error;
    uint64_t cr2;   /* #PF: copied to CR2 on delivery. #DB: the DR6 bits to set */
};

struct translator_vm;
struct mmu_context;
struct mmu_journal;
struct x86_cpu_ops;

#define X87_PC_NONE UINT32_MAX

struct x86_cpu {
    /* hot, used by generated code */
    uint32_t run;            /* [any thread] 1; 0 asks generated code to come out at the next poll */
    uint32_t mode;           /* enum x86_mode bits */
    uint64_t saved_flags;    /* T0: AH and AL image of LAHF/SETO, see docs/translator.md */
    uint64_t pc_base;        /* code page base: rip - (linear rip & 0xfff) */
    void *tlb;               /* current TLB table, see mmu.h */
    int32_t branch_note;     /* T0: how to take back the branch under way (t0_internal.h) */
    void *jump_cache;        /* current context's table of block entries by rip */
    uint64_t gpr[16];
    uint64_t ea;             /* effective (linear) address of the instruction under way */
    uint64_t temp[4];        /* IR_T0, IR_T1 and spills */
    uint64_t tsc_offset;     /* guest TSC = host TSC + offset */

    uint64_t rip;            /* outside generated code: current or, on X86_RAISE, faulting instruction */
    uint64_t next_rip;       /* set before IR_SYS: the following instruction */
    uint64_t rflags;         /* all bits; bit 1 always set */

    struct x86_seg seg[SEG_COUNT];
    struct x86_table gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, efer, xcr0;
    uint64_t dr[8];
    uint64_t pdpte[4];       /* PAE paging: the top entries, loaded with CR3 (SDM 3A 4.4.1) */
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t tsc_aux, tsc_adjust, pat, misc_enable, spec_ctrl;
    uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_phys_base[8], mtrr_phys_mask[8];
    uint64_t xss;
    uint32_t pkru, pkrs;     /* rights by protection key, of user and of supervisor pages */
    uint8_t cpl;             /* 0-3 */

    struct x86_exception exc;
    bool halted;             /* HLT executed, nothing deliverable yet */
    bool nmi_blocked;        /* until IRET */
    bool nmi_pending;        /* one came while they were blocked */
    uint8_t interrupt_shadow; /* enum x86_shadow: the next instruction is not interrupted; executing one clears it */
    bool irq_waiting;        /* run.c: an interrupt is pending that RFLAGS.IF or the shadow holds back; engine_run()
                                comes out once neither does */
    bool code_changed;       /* this vCPU's own write dropped translated code: the executor leaves its block at the
                                next instruction boundary (X86_JUMP) and clears this */
    bool step;               /* the instruction under way began with RFLAGS.TF: #DB after it. engine_run() comes out after
                                one instruction, and clears this when it executed none */
    bool debug_active;       /* DR7 enables a breakpoint: one instruction at a time (x86/debug.c) */
    uint8_t debug_hits;      /* data breakpoints that the instruction under way met, as in DR6 */
    enum x86_run_exit exit_reason;
    char fatal[160];         /* X86_RUN_FATAL: one line for people */

    _Alignas(64) union x86_vec vec[32];
    uint64_t opmask[8];
    uint32_t mxcsr;
    bool x87_live;
    uint32_t x87_pc;   /* while x87_live: the last x87 instruction's offset from x87_base, X87_PC_NONE: as in fx.fip */
    uint64_t x87_base; /* pc_base as it was executed */
    uint8_t vec_upper;       /* enum x86_vec_upper */
    bool fp_deferred;        /* vec_fp_defer() */
    uint8_t fp_step, fp_flags[3];
    union x86_vec vec_lane[2]; /* what the references of legacy vector instructions work on for one lane of a VEX one */
    _Alignas(64) struct x86_fxsave fx;

    /* who we are */
    unsigned index;
    struct translator_vm *vm;
    const struct x86_cpu_ops *ops;
    void *opaque;
    struct x86_cpuid_leaf *cpuid; /* owned; see x86_cpu_set_cpuid() */
    unsigned cpuid_count;
    uint32_t features[X86_FEATURE_WORDS]; /* what the guest may use */

    struct mmu_context *mmu; /* owned by mmu.c */

    /* T0: what generated code and C tell each other (t0/thunks.c) */
    uint64_t sti_rip;        /* the instruction behind the last inline STI: it is in the shadow */
    uint64_t host_rsp;       /* C stack to return to */
    uint32_t host_mxcsr;
    uint32_t t0_exit;        /* enum t0_exit of the last way out, and its argument */
    uint64_t t0_argument;
    uint64_t slow_la;        /* slow path under way: linear address, T0_SLOW_* */
    uint32_t slow_info;
    uint32_t t0_generation;  /* code cache generation that pending_link belongs to */
    void *pending_link;      /* direct jump to patch once its target block is known */
    bool t0_partial;         /* lock step: T0 left the block after interpreting one instruction */
    bool pending_jump;       /* indirect jump whose target goes into the jump cache */
    struct mmu_journal *journal;     /* lock step: where the MMU records writes, else NULL */

    uint32_t device_generation; /* device_writes.h: what this vCPU has seen */
    _Atomic uint32_t requests; /* [any thread] enum x86_request bits */
    uint64_t stats[32];      /* enum translator_stat */
};

enum x86_shadow {
    SHADOW_NONE,
    SHADOW_STI,    /* no interrupts, no NMI */
    SHADOW_MOV_SS, /* nor any #DB */
};

enum x86_request {
    X86_REQ_KICK  = 1 << 0, /* return X86_RUN_KICKED */
    X86_REQ_IRQ   = 1 << 1, /* ask ops->irq_peek() again */
    X86_REQ_TLB   = 1 << 2, /* mmu work queued by another vCPU (code page write tags) */
    X86_REQ_STOP  = 1 << 3, /* exclusive section wanted by another vCPU */
};

/* What the translator asks of its surroundings (accel/jit). On the vCPU's thread. Same meaning as accel_host_ops. */
struct x86_cpu_ops {
    uint64_t (*io_read)(void *opaque, unsigned vcpu, bool mmio, uint64_t addr, unsigned size);
    void (*io_write)(void *opaque, unsigned vcpu, bool mmio, uint64_t addr, unsigned size, uint64_t data);
    int (*irq_peek)(void *opaque, unsigned vcpu);
    int (*irq_ack)(void *opaque, unsigned vcpu);
    bool (*nmi_take)(void *opaque, unsigned vcpu);
    int (*msr_read)(void *opaque, unsigned vcpu, uint32_t msr, uint64_t *ret_value);
    int (*msr_write)(void *opaque, unsigned vcpu, uint32_t msr, uint64_t value);
    uint8_t (*cr8_read)(void *opaque, unsigned vcpu);
    void (*cr8_write)(void *opaque, unsigned vcpu, uint8_t value);
};

/* Records an exception and returns X86_RAISE, so that callers write `return x86_raise(...)`. */
static inline int x86_raise(struct x86_cpu *cpu, enum x86_vector vector)
{
    cpu->exc = (struct x86_exception){.pending = true, .vector = (uint8_t)vector};
    return X86_RAISE;
}

static inline int x86_raise_error(struct x86_cpu *cpu, enum x86_vector vector, uint32_t error)
{
    cpu->exc = (struct x86_exception){.pending = true, .has_error = true, .vector = (uint8_t)vector, .error = error};
    return X86_RAISE;
}

/*
 * #AC of an access to `la` that should be aligned to `size`, a power of two, where EFLAGS.AC asks for it. It comes before
 * a page fault, but after the #GP or #SS of an address that is not canonical, which is for the access to raise.
 */
static inline int x86_align_check(struct x86_cpu *cpu, gva_t la, unsigned size)
{
    bool wrong = cpu->mode & MODE_AC && la & (size - 1);
    return wrong && (gva_t)((int64_t)(la << 16) >> 16) == la ? x86_raise_error(cpu, EXC_AC, 0) : X86_OK;
}

static inline int x86_raise_pf(struct x86_cpu *cpu, gva_t address, uint32_t error)
{
    cpu->exc = (struct x86_exception){
        .pending = true, .has_error = true, .vector = EXC_PF, .error = error, .cr2 = address};
    return X86_RAISE;
}

/* A repeated string instruction stops with iterations left. What traps now pushes RF (SDM 3B 17.3.1.1), so that an
 * instruction breakpoint does not meet the rest again. */
static inline int x86_string_stop(struct x86_cpu *cpu)
{
    if (cpu->debug_active || cpu->mode & MODE_TF) {
        cpu->rflags |= FLAG_RF;
    }
    return X86_JUMP;
}

/* Recomputes cpu->mode (and tells the MMU about CPL/SMAP changes). translator/x86/mode.c */
void x86_update_mode(struct x86_cpu *cpu);
/* One CPUID leaf as the guest sees it (same shape as struct accel_cpuid). */
struct x86_cpuid_leaf {
    uint32_t leaf, subleaf;
    bool index_matters;
    uint32_t eax, ebx, ecx, edx;
};
/* Copies the table and derives cpu->features. 0, -ENOMEM, or -ENOTSUP when it offers what the translator cannot run
 * (*ret_feature, if not NULL, is the first such enum x86_feature). translator/x86/cpuid.c */
int x86_cpu_set_cpuid(struct x86_cpu *cpu, const struct x86_cpuid_leaf *leaves, unsigned count, int *ret_feature);
/* Everything that the translator can run on this host, X86_FEATURE_WORDS words. */
void x86_supported_features(uint32_t *ret_features);

/* Power-on state (SDM 3A table 10-1) and INIT. translator/x86/mode.c */
void x86_cpu_reset(struct x86_cpu *cpu);
void x86_cpu_init_signal(struct x86_cpu *cpu);

/* Moves x87/MMX state between the host's registers and cpu->fx. translator/x86/x87_host.c */
void x86_x87_sync(struct x86_cpu *cpu);  /* host -> fx; afterwards !x87_live */
