/* SPDX-License-Identifier: Apache-2.0 */
/* RFLAGS: PUSHF, POPF, CLI, STI, CLAC, STAC (SDM 2B), with virtual interrupts (SDM 3A 20.3, 20.4). */
#include "translator/x86/sys_internal.h"

/* In virtual-8086 mode IOPL must be 3, or IF be virtual. */
static bool v86_forbids(const struct x86_cpu *cpu, unsigned size)
{
    return x86_v86_mode(cpu) && x86_iopl(cpu) < 3 && !(x86_v86_virtual_if(cpu) && size == 2);
}

uint64_t x86_v86_flags_image(const struct x86_cpu *cpu)
{
    if (!x86_v86_virtual_if(cpu)) {
        return cpu->rflags;
    }
    return (cpu->rflags & ~(uint64_t)FLAG_IF) | FLAG_IOPL | (cpu->rflags & FLAG_VIF ? FLAG_IF : 0);
}

int x86_v86_flags_load(struct x86_cpu *cpu, uint64_t image)
{
    const uint64_t mask = FLAGS_ARITH | FLAG_DF | FLAG_NT;
    if (image & FLAG_TF || (image & FLAG_IF && cpu->rflags & FLAG_VIP)) {
        return x86_gp0(cpu);
    }
    x86_set_rflags(cpu, (cpu->rflags & ~(mask | FLAG_TF | FLAG_VIF | FLAG_RF)) | (image & mask) |
                            (image & FLAG_IF ? FLAG_VIF : 0));
    return X86_OK;
}

X86_SYS_HANDLER(pushf)
{
    struct x86_stack stack;
    if (v86_forbids(cpu, op->size)) {
        return x86_gp0(cpu);
    }
    x86_stack_current(cpu, &stack);
    uint64_t image = x86_v86_flags_image(cpu);
    int r = x86_stack_push(cpu, &stack, op->size, image & ~(uint64_t)(FLAG_VM | FLAG_RF));
    if (!r) {
        x86_stack_commit(cpu, &stack);
    }
    return r;
}

X86_SYS_HANDLER(popf)
{
    struct x86_stack stack;
    uint64_t image, mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;
    if (v86_forbids(cpu, op->size)) {
        return x86_gp0(cpu);
    }
    x86_stack_current(cpu, &stack);
    int r = x86_stack_pop(cpu, &stack, op->size, &image);
    if (!r && x86_v86_virtual_if(cpu)) {
        r = x86_v86_flags_load(cpu, image);
        if (!r) {
            x86_stack_commit(cpu, &stack);
        }
        return r;
    }
    if (r) {
        return r;
    }
    x86_stack_commit(cpu, &stack);
    if (op->size > 2) {
        mask |= FLAG_AC | FLAG_ID;
    }
    if (x86_v86_mode(cpu)) {
        mask |= FLAG_IF;
    } else if (cpu->cpl == 0) {
        mask |= FLAG_IF | FLAG_IOPL;
        if (op->size > 2) {
            image &= ~(uint64_t)(FLAG_VIF | FLAG_VIP);
            mask |= FLAG_VIF | FLAG_VIP;
        }
    } else if (cpu->cpl <= x86_iopl(cpu)) {
        mask |= FLAG_IF;
    }
    x86_set_rflags(cpu, (cpu->rflags & ~(mask | FLAG_RF)) | (image & mask));
    return X86_OK;
}

static bool interrupt_flag_forbidden(const struct x86_cpu *cpu)
{
    return !x86_real_mode(cpu) && cpu->cpl > x86_iopl(cpu);
}

/* CLI and STI work on VIF instead. */
static bool interrupt_flag_virtual(const struct x86_cpu *cpu)
{
    return x86_v86_mode(cpu) ? x86_v86_virtual_if(cpu) : cpu->cpl == 3 && cpu->cr4 & CR4_PVI;
}

X86_SYS_HANDLER(cli)
{
    if (interrupt_flag_forbidden(cpu)) {
        if (!interrupt_flag_virtual(cpu)) {
            return x86_gp0(cpu);
        }
        cpu->rflags &= ~(uint64_t)FLAG_VIF;
        return X86_OK;
    }
    cpu->rflags &= ~(uint64_t)FLAG_IF;
    return X86_OK;
}

X86_SYS_HANDLER(sti)
{
    if (interrupt_flag_forbidden(cpu)) {
        if (!interrupt_flag_virtual(cpu) || cpu->rflags & FLAG_VIP) {
            return x86_gp0(cpu);
        }
        cpu->rflags |= FLAG_VIF;
        return X86_OK;
    }
    if (!(cpu->rflags & FLAG_IF)) {
        cpu->rflags |= FLAG_IF;
        cpu->interrupt_shadow = SHADOW_STI;
        x86_irq_recheck(cpu);
    }
    return X86_OK;
}

X86_SYS_HANDLER(clac_stac)
{
    if (cpu->cpl) {
        return x86_raise(cpu, EXC_UD);
    }
    uint64_t rflags = cpu->rflags & ~(uint64_t)FLAG_AC;
    x86_set_rflags(cpu, op->sub == X86_SYS_STAC ? rflags | FLAG_AC : rflags);
    return X86_OK;
}
