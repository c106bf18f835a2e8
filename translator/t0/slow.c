/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What generated code calls in C.
 *
 * They run after the thunk has stored all guest state; t0_refill() (refill.c) is the one that does not.
 */
#include "translator/interp.h"
#include "translator/stats.h"
#include "translator/t0/regs.h"
#include "translator/t0/t0_internal.h"

/* Makes flags complete in cpu->rflags, and back. */
static void flags_to_rflags(struct x86_cpu *cpu)
{
    cpu->rflags = (cpu->rflags & ~(uint64_t)FLAGS_ARITH) | t0_unpack_flags(cpu->saved_flags);
}

/* Whether generated code can go on at cpu->rip, or the run loop must have a look first. */
static bool can_continue(const struct x86_cpu *cpu)
{
    return __atomic_load_n(&cpu->run, __ATOMIC_ACQUIRE) && !cpu->interrupt_shadow && t0_compilable(cpu) &&
           !(cpu->irq_waiting && cpu->rflags & FLAG_IF) && cpu->vm->tier != ENGINE_LOCKSTEP;
}

int t0_call_op(struct x86_cpu *cpu, const struct ir_op *op, uint32_t pcinfo)
{
    cpu->stats[STAT_FALLBACKS]++;
    flags_to_rflags(cpu);
    cpu->rip = t0_rip_at(cpu, pcinfo & 0xffff);
    cpu->next_rip = t0_rip_at(cpu, (pcinfo & 0xffff) + (pcinfo >> 16 & 0xff));
    int r = interp_op(cpu, op);
    if (r == X86_RAISE && cpu->exc.noncanonical && pcinfo & T0_OP_STACK) {
        cpu->exc.vector = EXC_SS;
    }
    if (r == X86_OK) {
        bool changed = pcinfo & T0_OP_LAST && cpu->code_changed;
        if (changed || pcinfo & T0_OP_END) {
            cpu->rip = cpu->next_rip;
            r = X86_JUMP;
        }
    }
    cpu->saved_flags = t0_pack_flags(cpu->rflags);
    if (r == X86_JUMP && can_continue(cpu)) {
        cpu->code_changed = false;
        r = T0_CONTINUE;
    }
    return r;
}

/* For what generated code does not do itself: memory that is not plain RAM, operands that cross pages, faults. Nothing of the
 * instruction was done yet. */
int t0_interpret(struct x86_cpu *cpu, uint32_t offset)
{
    cpu->stats[STAT_INTERPRETED]++;
    cpu->t0_partial = true;
    flags_to_rflags(cpu);
    cpu->rip = t0_rip_at(cpu, offset);
    int r = block_interpret_one(cpu);
    cpu->saved_flags = t0_pack_flags(cpu->rflags);
    if (r == X86_JUMP && can_continue(cpu)) {
        cpu->code_changed = false; /* whatever changed is dead and not entered any more */
        r = T0_CONTINUE;
    }
    return r;
}
