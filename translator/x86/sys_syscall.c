/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fast system calls, SWAPGS and FS/GS base access (SDM 2B SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS).
 *
 * These load fixed flat segments without reading descriptors.
 */
#include "translator/x86/sys_internal.h"

static void set_code_and_stack(struct x86_cpu *cpu, uint16_t cs, uint32_t cs_attr, uint16_t ss, unsigned cpl)
{
    x86_set_flat_segment(&cpu->seg[SEG_CS], cs, cs_attr);
    x86_set_flat_segment(&cpu->seg[SEG_SS], ss, ATTR_FLAT_DATA(cpl));
    cpu->cpl = (uint8_t)cpl;
}

X86_SYS_HANDLER(syscall)
{
    if (!x86_code64(cpu) || !(cpu->efer & EFER_SCE)) {
        return x86_raise(cpu, EXC_UD);
    }
    uint16_t cs = cpu->star >> 32 & 0xfffc;
    cpu->gpr[IR_RCX] = cpu->next_rip;
    cpu->gpr[IR_R11] = cpu->rflags & ~(uint64_t)FLAG_RF;
    cpu->rflags = (cpu->rflags & ~(cpu->sfmask | FLAG_RF)) | 2;
    set_code_and_stack(cpu, cs, ATTR_FLAT_CODE64(0), (uint16_t)(cs + 8), 0);
    x86_update_mode(cpu);
    x86_set_rip(cpu, cpu->lstar);
    cpu->step = cpu->rflags & FLAG_TF; /* the trap after SYSCALL goes by the new TF */
    return X86_JUMP;
}

X86_SYS_HANDLER(sysret)
{
    if (!x86_code64(cpu) || !(cpu->efer & EFER_SCE)) {
        return x86_raise(cpu, EXC_UD);
    }
    bool to64 = op->size == 8;
    uint64_t target = cpu->gpr[IR_RCX], old = cpu->rflags;
    if (cpu->cpl || (to64 && !x86_canonical(target))) {
        return x86_gp0(cpu);
    }
    uint16_t base = (uint16_t)(cpu->star >> 48);
    cpu->rflags = (cpu->gpr[IR_R11] & 0x3c7fd7) | 2;
    set_code_and_stack(cpu, (uint16_t)((to64 ? base + 16 : base) | 3),
                       to64 ? ATTR_FLAT_CODE64(3u) : ATTR_FLAT_CODE32(3u), (uint16_t)((base + 8) | 3), 3);
    x86_update_mode(cpu);
    if (cpu->rflags & ~old & FLAG_IF) {
        x86_irq_recheck(cpu);
    }
    x86_set_rip(cpu, target);
    cpu->step = cpu->rflags & FLAG_TF; /* as if the SYSCALL in user mode had just completed */
    return X86_JUMP;
}

X86_SYS_HANDLER(sysenter)
{
    uint16_t cs = cpu->sysenter_cs & 0xfffc;
    bool lma = x86_long_mode(cpu);
    if (x86_real_mode(cpu) || !cs) {
        return x86_gp0(cpu);
    }
    cpu->rflags &= ~(uint64_t)(FLAG_VM | FLAG_IF | FLAG_RF);
    set_code_and_stack(cpu, cs, lma ? ATTR_FLAT_CODE64(0) : ATTR_FLAT_CODE32(0), (uint16_t)(cs + 8), 0);
    x86_update_mode(cpu);
    cpu->gpr[IR_RSP] = lma ? cpu->sysenter_esp : (uint32_t)cpu->sysenter_esp;
    x86_set_rip(cpu, cpu->sysenter_eip);
    return X86_JUMP;
}

X86_SYS_HANDLER(sysexit)
{
    uint16_t base = cpu->sysenter_cs & 0xfffc;
    bool to64 = op->size == 8;
    if (x86_real_mode(cpu) || x86_v86_mode(cpu) || !base || cpu->cpl) {
        return x86_gp0(cpu);
    }
    uint64_t rsp = cpu->gpr[IR_RCX], rip = cpu->gpr[IR_RDX];
    if (to64 && (!x86_canonical(rsp) || !x86_canonical(rip))) {
        return x86_gp0(cpu);
    }
    uint16_t cs = (uint16_t)((to64 ? base + 32 : base + 16) | 3);
    set_code_and_stack(cpu, cs, to64 ? ATTR_FLAT_CODE64(3u) : ATTR_FLAT_CODE32(3u), (uint16_t)(cs + 8), 3);
    x86_update_mode(cpu);
    cpu->gpr[IR_RSP] = to64 ? rsp : (uint32_t)rsp;
    x86_set_rip(cpu, rip);
    return X86_JUMP;
}

X86_SYS_HANDLER(swapgs)
{
    if (!x86_code64(cpu)) {
        return x86_raise(cpu, EXC_UD);
    }
    if (cpu->cpl) {
        return x86_gp0(cpu);
    }
    uint64_t base = cpu->seg[SEG_GS].base;
    cpu->seg[SEG_GS].base = cpu->kernel_gs_base;
    cpu->kernel_gs_base = base;
    return X86_OK;
}

X86_SYS_HANDLER(fsgsbase)
{
    if (!x86_code64(cpu) || !(cpu->cr4 & CR4_FSGSBASE)) {
        return x86_raise(cpu, EXC_UD);
    }
    bool gs = op->sub == X86_SYS_RDGSBASE || op->sub == X86_SYS_WRGSBASE;
    struct x86_seg *seg = &cpu->seg[gs ? SEG_GS : SEG_FS];
    if (op->sub == X86_SYS_RDFSBASE || op->sub == X86_SYS_RDGSBASE) {
        x86_write_reg(cpu, op->dst, op->size, seg->base);
        return X86_OK;
    }
    uint64_t base = x86_read_reg(cpu, op->src, op->size);
    if (!x86_canonical(base)) {
        return x86_gp0(cpu);
    }
    seg->base = base;
    return X86_OK;
}
