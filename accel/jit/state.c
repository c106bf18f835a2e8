/* SPDX-License-Identifier: Apache-2.0 */
/* struct x86_vcpu_state <-> struct x86_cpu. A state is checked completely before anything changes. */
#include "accel/jit/jit_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "translator/mmu.h"
#include "translator/x86/state.h"

#define RFLAGS_DEFINED UINT64_C(0x3f7fd5)
#define SEG_ATTR_ALL   0x1f0ffu
#define TSC_AUX_MAX    UINT32_MAX

_Static_assert((int)X86_SEGS == (int)SEG_COUNT && (int)X86_TR == (int)SEG_TR, "one order of segments");
_Static_assert(sizeof(((struct x86_vcpu_state *)0)->xsave) == X86_XSAVE_IMAGE_BYTES, "one XSAVE image size");

static void load_segments(struct x86_cpu *cpu, const struct x86_vcpu_state *state)
{
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        const struct x86_segment *from = &state->seg[i];
        cpu->seg[i] = (struct x86_seg){.base = from->base,
                                       .limit = from->limit,
                                       .attr = from->attr & SEG_ATTR_ALL,
                                       .sel = from->selector};
    }
    cpu->gdtr = (struct x86_table){state->gdtr.base, state->gdtr.limit};
    cpu->idtr = (struct x86_table){state->idtr.base, state->idtr.limit};
}

/*
 * A TSC that differs by less than a second from what the vCPU has is left alone; otherwise vCPUs whose offsets would
 * differ by less than that share the first one's.
 */
static void load_tsc(struct accel_vcpu *vcpu, uint64_t tsc)
{
    struct accel_vm *vm = vcpu->vm;
    int64_t second = (int64_t)vm->tsc_khz * 1000;
    uint64_t wanted = tsc - x86_host_tsc();
    if (llabs((int64_t)(wanted - vcpu->cpu->tsc_offset)) < second) {
        return;
    }
    pthread_mutex_lock(&vm->tsc_lock);
    if (llabs((int64_t)(wanted - vm->tsc_offset)) >= second) {
        vm->tsc_offset = wanted;
    }
    vcpu->cpu->tsc_offset = vm->tsc_offset;
    pthread_mutex_unlock(&vm->tsc_lock);
}

static void load_msrs(struct x86_cpu *cpu, const struct x86_vcpu_state *state)
{
    cpu->star = state->star;
    cpu->lstar = state->lstar;
    cpu->cstar = state->cstar;
    cpu->sfmask = state->sfmask;
    cpu->kernel_gs_base = state->kernel_gs_base;
    cpu->sysenter_cs = state->sysenter_cs;
    cpu->sysenter_esp = state->sysenter_esp;
    cpu->sysenter_eip = state->sysenter_eip;
    cpu->tsc_aux = state->tsc_aux & TSC_AUX_MAX;
    cpu->tsc_adjust = state->tsc_adjust;
    cpu->pat = state->pat;
    cpu->misc_enable = state->misc_enable;
    cpu->pkrs = (uint32_t)state->pkrs;
    cpu->spec_ctrl = state->spec_ctrl;
    cpu->mtrr_def_type = state->mtrr_def_type;
    memcpy(cpu->mtrr_fixed, state->mtrr_fixed, sizeof(cpu->mtrr_fixed));
    memcpy(cpu->mtrr_phys_base, state->mtrr_phys_base, sizeof(cpu->mtrr_phys_base));
    memcpy(cpu->mtrr_phys_mask, state->mtrr_phys_mask, sizeof(cpu->mtrr_phys_mask));
}

int jit_vcpu_load(struct accel_vcpu *vcpu, const struct x86_vcpu_state *state)
{
    struct x86_cpu *cpu = vcpu->cpu;
    if (x86_state_check(cpu, state->cr0, state->cr4, state->efer, state->xcr0) < 0 || state->cr8 > 15 ||
        (state->exception_pending && state->exception_vector > 31)) {
        return -EINVAL;
    }
    int r = x86_xsave_import(cpu, state->xsave);
    if (r < 0) {
        return r;
    }
    memcpy(cpu->gpr, state->gpr, sizeof(cpu->gpr));
    cpu->rip = state->rip;
    cpu->rflags = (state->rflags & RFLAGS_DEFINED & ~(uint64_t)FLAG_RF) | 2;
    load_segments(cpu, state);
    cpu->cr0 = state->cr0 | CR0_ET;
    cpu->cr2 = state->cr2;
    cpu->cr4 = state->cr4;
    cpu->efer = state->efer;
    cpu->xcr0 = state->xcr0;
    memcpy(cpu->dr, state->dr, sizeof(cpu->dr));
    load_msrs(cpu, state);
    load_tsc(vcpu, state->tsc);
    cpu->ops->cr8_write(cpu->opaque, cpu->index, (uint8_t)state->cr8);
    cpu->halted = state->halted;
    cpu->nmi_blocked = state->nmi_blocked;
    cpu->nmi_pending = state->nmi_pending;
    cpu->interrupt_shadow = state->interrupt_shadow;
    cpu->exc = (struct x86_exception){
        .pending = state->exception_pending,
        .has_error = state->exception_has_error,
        .vector = state->exception_vector,
        .error = state->exception_error,
        .cr2 = state->exception_vector == EXC_PF ? state->cr2 : 0,
    };
    x86_state_changed(cpu, state->cr3);
    return 0;
}

int jit_vcpu_save(struct accel_vcpu *vcpu, struct x86_vcpu_state *ret_state)
{
    struct x86_cpu *cpu = vcpu->cpu;
    struct x86_vcpu_state *state = ret_state;
    memset(state, 0, sizeof(*state));
    memcpy(state->gpr, cpu->gpr, sizeof(cpu->gpr));
    state->rip = cpu->rip;
    state->rflags = cpu->rflags;
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        const struct x86_seg *from = &cpu->seg[i];
        state->seg[i] = (struct x86_segment){
            .base = from->base, .limit = from->limit, .attr = from->attr, .selector = from->sel};
    }
    state->gdtr = (struct x86_table_register){cpu->gdtr.base, cpu->gdtr.limit};
    state->idtr = (struct x86_table_register){cpu->idtr.base, cpu->idtr.limit};
    state->cr0 = cpu->cr0;
    state->cr2 = cpu->cr2;
    state->cr3 = cpu->cr3;
    state->cr4 = cpu->cr4;
    state->cr8 = cpu->ops->cr8_read(cpu->opaque, cpu->index);
    state->efer = cpu->efer;
    state->xcr0 = cpu->xcr0;
    memcpy(state->dr, cpu->dr, sizeof(cpu->dr));
    state->star = cpu->star;
    state->lstar = cpu->lstar;
    state->cstar = cpu->cstar;
    state->sfmask = cpu->sfmask;
    state->kernel_gs_base = cpu->kernel_gs_base;
    state->sysenter_cs = cpu->sysenter_cs;
    state->sysenter_esp = cpu->sysenter_esp;
    state->sysenter_eip = cpu->sysenter_eip;
    state->tsc = x86_host_tsc() + cpu->tsc_offset;
    state->tsc_aux = cpu->tsc_aux;
    state->tsc_adjust = cpu->tsc_adjust;
    state->pat = cpu->pat;
    state->misc_enable = cpu->misc_enable;
    state->pkrs = cpu->pkrs;
    state->spec_ctrl = cpu->spec_ctrl;
    state->mtrr_def_type = cpu->mtrr_def_type;
    memcpy(state->mtrr_fixed, cpu->mtrr_fixed, sizeof(cpu->mtrr_fixed));
    memcpy(state->mtrr_phys_base, cpu->mtrr_phys_base, sizeof(cpu->mtrr_phys_base));
    memcpy(state->mtrr_phys_mask, cpu->mtrr_phys_mask, sizeof(cpu->mtrr_phys_mask));
    x86_xsave_export(cpu, state->xsave);
    state->halted = cpu->halted;
    state->nmi_blocked = cpu->nmi_blocked;
    state->nmi_pending = cpu->nmi_pending;
    state->interrupt_shadow = cpu->interrupt_shadow;
    state->exception_pending = cpu->exc.pending;
    state->exception_vector = cpu->exc.vector;
    state->exception_has_error = cpu->exc.has_error;
    state->exception_error = cpu->exc.error;
    if (cpu->exc.pending && cpu->exc.vector == EXC_PF) {
        state->cr2 = cpu->exc.cr2;
    }
    return 0;
}
