/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Execution mode, reset and INIT.
 *
 * cpu->mode is a pure function of the architectural state; every handler that changes an input calls
 * x86_update_mode() before guest code goes on. In 64-bit code the bits that segmentation would need are constant
 * (flat), so that null data segments do not make different blocks.
 */
#include "translator/x86/sys_internal.h"

#include "translator/mmu_walk.h"
#include "translator/x86/debug.h"

#include <errno.h>

static bool seg_is_flat(const struct x86_seg *seg, bool writable)
{
    uint32_t attr = seg->attr;
    if (attr & SEG_ATTR_UNUSABLE || seg->base || seg->limit != UINT32_MAX) {
        return false;
    }
    return !writable || (attr & (SEG_TYPE_CODE | SEG_TYPE_DOWN | SEG_TYPE_WRITABLE)) == SEG_TYPE_WRITABLE;
}

static uint32_t segment_mode(const struct x86_cpu *cpu)
{
    const struct x86_seg *seg = cpu->seg;
    uint32_t mode = 0;
    if (cpu->efer & EFER_LMA && seg[SEG_CS].attr & SEG_ATTR_L) {
        return MODE_CS64 | MODE_FLAT;
    }
    if (seg[SEG_CS].attr & SEG_ATTR_DB) {
        mode |= MODE_CS32;
    }
    if (seg[SEG_SS].attr & SEG_ATTR_DB) {
        mode |= MODE_SS32;
    }
    if (seg_is_flat(&seg[SEG_CS], false) && seg[SEG_CS].attr & SEG_TYPE_READABLE &&
        seg_is_flat(&seg[SEG_SS], true) && seg_is_flat(&seg[SEG_DS], true) &&
        seg_is_flat(&seg[SEG_ES], true)) {
        mode |= MODE_FLAT;
    }
    return mode;
}

void x86_update_mode(struct x86_cpu *cpu)
{
    uint32_t mode = segment_mode(cpu);
    if (cpu->cr0 & CR0_PE) {
        mode |= MODE_PE;
        if (cpu->rflags & FLAG_VM) {
            mode |= MODE_VM;
        }
    }
    if (cpu->cpl == 3) {
        mode |= MODE_CPL3;
        if (cpu->cr0 & CR0_AM && cpu->rflags & FLAG_AC) {
            mode |= MODE_AC;
        }
    } else if (cpu->cpl) {
        mode |= MODE_CPLMID;
    }
    if (cpu->rflags & FLAG_TF) {
        mode |= MODE_TF;
    }
    /* CR0.TS, EM and MP are bits 3, 2 and 1. */
    mode |= cpu->cr0 & CR0_TS ? MODE_NM : 0;
    mode |= cpu->cr0 & CR0_EM ? MODE_EM : 0;
    mode |= cpu->cr0 & CR0_MP ? MODE_MP : 0;
    mode |= cpu->cr4 & CR4_OSFXSR ? 0 : MODE_NOSSE;
    mode |= cpu->efer & EFER_LMA ? MODE_LMA : 0;
    if (cpu->cr4 & CR4_OSXSAVE && cpu->xcr0 & 4) {
        mode |= MODE_AVX;
    }
    cpu->mode = mode;
    mmu_privilege_changed(cpu);
}

void x86_set_rip(struct x86_cpu *cpu, uint64_t rip)
{
    uint64_t linear = rip;
    if (!(cpu->mode & MODE_CS64)) {
        rip = (uint32_t)rip;
        linear = (uint32_t)(rip + cpu->seg[SEG_CS].base);
    }
    cpu->rip = rip;
    cpu->pc_base = rip - (linear & 0xfff);
}

void x86_set_rflags(struct x86_cpu *cpu, uint64_t rflags)
{
    uint64_t changed = cpu->rflags ^ rflags;
    cpu->rflags = rflags;
    if (changed & (FLAG_TF | FLAG_VM | FLAG_AC)) {
        x86_update_mode(cpu);
    }
    if (changed & rflags & FLAG_IF) {
        x86_irq_recheck(cpu);
    }
}

void x86_irq_recheck(struct x86_cpu *cpu)
{
    if (cpu->irq_waiting) {
        cpu->irq_waiting = false;
        engine_request(cpu, X86_REQ_IRQ);
    }
}

void x86_set_flat_segment(struct x86_seg *seg, uint16_t selector, uint32_t attr)
{
    *seg = (struct x86_seg){.sel = selector, .limit = UINT32_MAX, .attr = attr};
}

/* What power-on and INIT have in common (SDM 3A table 10-1). */
static void reset_common(struct x86_cpu *cpu)
{
    memset(cpu->gpr, 0, sizeof(cpu->gpr));
    for (const struct x86_cpuid_leaf *leaf = cpu->cpuid, *end = leaf + cpu->cpuid_count; leaf < end; leaf++) {
        if (leaf->leaf == 1) {
            cpu->gpr[IR_RDX] = leaf->eax; /* family, model, stepping */
        }
    }
    cpu->rflags = 2;
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        cpu->seg[i] = (struct x86_seg){.limit = 0xffff, .attr = 0x93};
    }
    cpu->seg[SEG_CS] = (struct x86_seg){.sel = 0xf000, .base = 0xffff0000, .limit = 0xffff, .attr = 0x9b};
    cpu->seg[SEG_LDTR].attr = 0x82;
    cpu->seg[SEG_TR].attr = 0x8b;
    cpu->gdtr = cpu->idtr = (struct x86_table){.limit = 0xffff};
    cpu->cr0 = (cpu->cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
    cpu->cr2 = cpu->cr4 = 0;
    cpu->efer = 0;
    memset(cpu->dr, 0, sizeof(cpu->dr));
    cpu->dr[6] = DR6_FIXED;
    cpu->dr[7] = DR7_FIXED;
    x86_debug_changed(cpu);
    cpu->cpl = 0;
    cpu->exc.pending = false;
    cpu->halted = cpu->nmi_blocked = cpu->nmi_pending = cpu->step = false;
    cpu->interrupt_shadow = SHADOW_NONE;
    mmu_set_cr3(cpu, 0);
    mmu_paging_changed(cpu);
    x86_update_mode(cpu);
    x86_set_rip(cpu, 0xfff0);
}

static void reset_fpu(struct x86_cpu *cpu)
{
    x86_x87_sync(cpu);
    memset(&cpu->fx, 0, sizeof(cpu->fx));
    cpu->fx.fcw = 0x40; /* power-on; FINIT gives 0x37f */
    cpu->fx.ftw = 0xff; /* abridged: every register holds 0.0, valid */
    memset(cpu->vec, 0, sizeof(cpu->vec));
    cpu->vec_upper = VEC_UPPER_ZERO;
    memset(cpu->opmask, 0, sizeof(cpu->opmask));
    cpu->mxcsr = MXCSR_INIT;
    cpu->pkru = cpu->pkrs = 0;
}

void x86_cpu_reset(struct x86_cpu *cpu)
{
    reset_fpu(cpu);
    cpu->xcr0 = 1;
    cpu->xss = 0;
    cpu->cr0 = CR0_CD | CR0_NW;
    cpu->star = cpu->lstar = cpu->cstar = cpu->sfmask = cpu->kernel_gs_base = 0;
    cpu->sysenter_cs = cpu->sysenter_esp = cpu->sysenter_eip = 0;
    cpu->tsc_aux = cpu->tsc_adjust = cpu->spec_ctrl = 0;
    cpu->pat = UINT64_C(0x0007040600070406);
    cpu->misc_enable = 1; /* fast strings */
    cpu->mtrr_def_type = 0;
    memset(cpu->mtrr_fixed, 0, sizeof(cpu->mtrr_fixed));
    memset(cpu->mtrr_phys_base, 0, sizeof(cpu->mtrr_phys_base));
    memset(cpu->mtrr_phys_mask, 0, sizeof(cpu->mtrr_phys_mask));
    cpu->irq_waiting = false;
    reset_common(cpu);
}

void x86_cpu_init_signal(struct x86_cpu *cpu)
{
    reset_common(cpu);
}

int x86_state_check(const struct x86_cpu *cpu, uint64_t cr0, uint64_t cr4, uint64_t efer, uint64_t xcr0)
{
    bool paging = cr0 & CR0_PG, lma = efer & EFER_LMA;
    if (cr0 >> 32 || (paging && !(cr0 & CR0_PE)) || (cr0 & (CR0_NW | CR0_CD)) == CR0_NW) {
        return -EINVAL;
    }
    if (cr4 & ~x86_cr4_defined(cpu) || !x86_xcr0_valid(cpu, xcr0)) {
        return -EINVAL;
    }
    if (lma != (paging && efer & EFER_LME) || (lma && !(cr4 & CR4_PAE)) || (!lma && cr4 & CR4_PCIDE)) {
        return -EINVAL;
    }
    return efer & ~(uint64_t)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE) ? -EINVAL : 0;
}

void x86_state_changed(struct x86_cpu *cpu, uint64_t cr3)
{
    bool code64 = cpu->efer & EFER_LMA && cpu->seg[SEG_CS].attr & SEG_ATTR_L;
    if (!(cpu->cr0 & CR0_PE)) {
        cpu->cpl = 0;
    } else {
        cpu->cpl = cpu->rflags & FLAG_VM ? 3 : cpu->seg[SEG_SS].attr >> 5 & 3;
    }
    if (code64) {
        cpu->seg[SEG_CS].base = 0;
        cpu->cpl = cpu->seg[SEG_CS].sel & 3;
    }
    if (cpu->cr0 & CR0_PG && cpu->cr4 & CR4_PAE && !(cpu->efer & EFER_LMA)) {
        mmu_load_pdptes(cpu, cr3);
    }
    mmu_set_cr3(cpu, cr3);
    mmu_paging_changed(cpu);
    x86_debug_changed(cpu);
    x86_update_mode(cpu);
    x86_set_rip(cpu, cpu->rip);
    cpu->irq_waiting = true;
}
