/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vCPU's main loop: what happens between two stretches of guest code.
 *
 * At each turn, at an instruction boundary, in the order of SDM 3A table 6-2: a pending exception or single-step trap,
 * NMI, interrupt. Interrupts: X86_REQ_IRQ means "ask irq_peek()"; if one is pending but held back by IF or the shadow
 * of STI, irq_waiting stays set and whatever lifts the obstacle asks again, so that nobody polls.
 */
#include "translator/x86/sys_internal.h"

#include "translator/vm.h"
#include "translator/x86/debug.h"

/*
 * The processor itself holds at most one NMI: those that arrive while they are blocked become one, two that arrive before
 * the first is delivered stay two (SDM 3A 6.7.1).
 */
static void hold_nmis(struct x86_cpu *cpu)
{
    while (cpu->ops->nmi_take(cpu->opaque, cpu->index)) {
        cpu->nmi_pending = true;
    }
}

void x86_unblock_nmi(struct x86_cpu *cpu)
{
    hold_nmis(cpu);
    cpu->nmi_blocked = false;
    x86_irq_recheck(cpu);
}

/* True: deliver one now. */
static bool take_nmi(struct x86_cpu *cpu)
{
    if (cpu->nmi_blocked) {
        hold_nmis(cpu);
        return false;
    }
    if (cpu->interrupt_shadow) {
        return false;
    }
    if (cpu->nmi_pending) {
        cpu->nmi_pending = false;
        return true;
    }
    return cpu->ops->nmi_take(cpu->opaque, cpu->index);
}

static bool interrupt_deliverable(const struct x86_cpu *cpu)
{
    return cpu->rflags & FLAG_IF && !cpu->interrupt_shadow;
}

/* Takes requests. True: return X86_RUN_KICKED. */
static bool process_requests(struct x86_cpu *cpu)
{
    uint32_t requests = atomic_exchange(&cpu->requests, 0);
    if (requests & X86_REQ_TLB) {
        vm_cpu_enter(
            cpu); /* it looks at blocks and mappings, which an exclusive section of another vCPU may throw away */
        mmu_process_requests(cpu);
        vm_cpu_leave(cpu);
    }
    if (requests & X86_REQ_IRQ) {
        cpu->irq_waiting = true;
    }
    return requests & X86_REQ_KICK;
}

/* Delivers an NMI or interrupt if one can be taken now: X86_OK (none), X86_JUMP, X86_EXIT. */
static int deliver_pending(struct x86_cpu *cpu)
{
    if (take_nmi(cpu)) {
        return x86_deliver_interrupt(cpu, EXC_NMI, true);
    }
    if (!interrupt_deliverable(cpu)) {
        return X86_OK;
    }
    int vector = cpu->ops->irq_peek(cpu->opaque, cpu->index);
    if (vector >= 0) {
        vector = cpu->ops->irq_ack(cpu->opaque, cpu->index);
    }
    if (vector < 0) {
        cpu->irq_waiting = false; /* the next one comes with its own request */
        return X86_OK;
    }
    return x86_deliver_interrupt(cpu, (uint8_t)vector, false);
}

/* One event per turn: afterwards the loop looks for the next one. X86_OK when there is none. */
static int deliver_events(struct x86_cpu *cpu)
{
    int r = X86_OK;
    if (!cpu->exc.pending && !cpu->irq_waiting) {
        return X86_OK;
    }
    vm_cpu_enter(cpu);
    device_writes_sync(cpu);
    if (cpu->exc.pending) {
        r = x86_deliver_exception(cpu);
    }
    while (r != X86_EXIT && cpu->irq_waiting) {
        r = deliver_pending(cpu);
        if (r == X86_OK || !interrupt_deliverable(cpu)) {
            break;
        }
    }
    vm_cpu_leave(cpu);
    return r == X86_EXIT ? X86_EXIT : X86_OK;
}

/* With an interrupt waiting behind STI's shadow, exactly one instruction; otherwise as far as it goes. */
static int execute(struct x86_cpu *cpu)
{
    if (cpu->debug_active) {
        return x86_debug_step(cpu);
    }
    bool behind_shadow = cpu->irq_waiting && cpu->interrupt_shadow && cpu->rflags & FLAG_IF;
    return behind_shadow ? engine_step(cpu) : engine_run(cpu);
}

/* The trap after an instruction that began with TF set or met a data breakpoint. */
static void raise_debug_trap(struct x86_cpu *cpu)
{
    x86_raise(cpu, EXC_DB);
    cpu->exc.cr2 = cpu->debug_hits | (cpu->step ? DR6_BS : 0);
    cpu->step = false;
    cpu->debug_hits = 0;
}

enum x86_run_exit x86_run(struct x86_cpu *cpu)
{
    cpu->irq_waiting = true; /* things may have happened since the last run */
    for (;;) {
        if (atomic_load(&cpu->requests) && process_requests(cpu)) {
            return X86_RUN_KICKED;
        }
        if (deliver_events(cpu) == X86_EXIT) {
            return cpu->exit_reason;
        }
        if (cpu->halted) {
            return X86_RUN_HLT;
        }
        cpu->step = cpu->rflags & FLAG_TF;
        switch (execute(cpu)) {
        case X86_EXIT:
            if (cpu->exit_reason != X86_RUN_HLT) {
                return cpu->exit_reason;
            }
            cpu->irq_waiting = true; /* HLT with a deliverable interrupt goes on */
            break;
        case X86_JUMP:
            if (cpu->step || (cpu->debug_hits && !cpu->interrupt_shadow)) {
                raise_debug_trap(cpu);
            }
            break;
        default: /* X86_RAISE: cpu->exc is pending */
            break;
        }
    }
}
