/* SPDX-License-Identifier: Apache-2.0 */
/* RFLAGS: PUSHF, POPF, CLI, STI, CLAC, STAC (SDM 2B; without VME and PVI). */
#include "translator/x86/sys_internal.h"

/* In virtual-8086 mode IOPL must be 3. */
static bool v86_forbids(const struct x86_cpu *cpu)
{
    return x86_v86_mode(cpu) && x86_iopl(cpu) < 3;
}

X86_SYS_HANDLER(pushf)
{
    struct x86_stack stack;
    if (v86_forbids(cpu)) {
        return x86_gp0(cpu);
    }
    x86_stack_current(cpu, &stack);
    int r = x86_stack_push(cpu, &stack, op->size, cpu->rflags & ~(uint64_t)(FLAG_VM | FLAG_RF));
    if (!r) {
        x86_stack_commit(cpu, &stack);
    }
    return r;
}

X86_SYS_HANDLER(popf)
{
    struct x86_stack stack;
    uint64_t image, mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;
    if (v86_forbids(cpu)) {
        return x86_gp0(cpu);
    }
    x86_stack_current(cpu, &stack);
    int r = x86_stack_pop(cpu, &stack, op->size, &image);
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

X86_SYS_HANDLER(cli)
{
    if (interrupt_flag_forbidden(cpu)) {
        return x86_gp0(cpu);
    }
    cpu->rflags &= ~(uint64_t)FLAG_IF;
    return X86_OK;
}

X86_SYS_HANDLER(sti)
{
    if (interrupt_flag_forbidden(cpu)) {
        return x86_gp0(cpu);
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
