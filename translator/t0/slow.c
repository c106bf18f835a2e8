/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What generated code calls in C.
 *
 * They run after the thunk has stored all guest state; t0_refill() (refill.c) is the one that does not.
 */
#include "translator/interp.h"
#include "translator/mmu_internal.h"
#include "translator/t0/regs.h"
#include "translator/t0/t0_internal.h"

static unsigned info_size(uint32_t info)
{
    return info >> 16 & 0xff;
}

static enum t0_slow_kind info_kind(uint32_t info)
{
    return info >> 24;
}

static void raise_at(struct x86_cpu *cpu, uint32_t offset)
{
    cpu->rip = cpu->pc_base + offset;
}

/* Makes flags complete in cpu->rflags, and back. */
static void flags_to_rflags(struct x86_cpu *cpu)
{
    cpu->rflags = (cpu->rflags & ~(uint64_t)FLAGS_ARITH) | t0_unpack_flags(cpu->saved_flags);
}

void *t0_slow_access(struct x86_cpu *cpu)
{
    unsigned size = info_size(cpu->slow_info);
    gva_t la = cpu->slow_la;
    int r;

    flags_to_rflags(cpu);
    switch (info_kind(cpu->slow_info)) {
    case T0_SLOW_READ:
        cpu->stats[STAT_SLOW_READS]++;
        r = mmu_read(cpu, la, size, cpu->bounce);
        if (r == X86_OK) {
            return cpu->bounce;
        }
        break;
    case T0_SLOW_WRITE:
        cpu->stats[STAT_SLOW_WRITES]++;
        r = mmu_probe(cpu, la, size, MMU_WRITE);
        if (r == X86_OK) {
            cpu->slow_rmw.direct = true; /* nothing for mmu_rmw_commit(): t0_commit() writes the bounce buffer */
            return cpu->bounce;
        }
        break;
    default:
        cpu->stats[STAT_SLOW_WRITES]++;
        r = mmu_rmw_begin(cpu, la, size, info_kind(cpu->slow_info) == T0_SLOW_RMW_LOCK, &cpu->slow_rmw);
        if (r == X86_OK) {
            return cpu->slow_rmw.ptr;
        }
    }
    raise_at(cpu, cpu->slow_info & 0xffff);
    return NULL;
}

int t0_commit(struct x86_cpu *cpu)
{
    if (info_kind(cpu->slow_info) == T0_SLOW_WRITE) {
        /* Probed by t0_slow_access(); see mmu_rmw_commit() about the guest changing its tables meanwhile. */
        if (mmu_write(cpu, cpu->slow_la, info_size(cpu->slow_info), cpu->bounce) != X86_OK) {
            cpu->exc.pending = false;
        }
    } else {
        mmu_rmw_commit(cpu, &cpu->slow_rmw);
    }
    if (cpu->code_changed) {
        __atomic_store_n(&cpu->run, 0, __ATOMIC_SEQ_CST); /* out at the next poll if the caller goes on */
        return 1;
    }
    return 0;
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
    cpu->rip = cpu->pc_base + (pcinfo & 0xffff);
    cpu->next_rip = cpu->rip + (pcinfo >> 16 & 0xff);
    int r = interp_op(cpu, op);
    if (r == X86_OK) {
        bool changed = pcinfo & T0_OP_LAST && cpu->code_changed;
        bool unmasked = op->op == IR_X87 && t0_x87_unmasked(cpu); /* goes on in the interpreter */
        if (changed || unmasked || pcinfo & T0_OP_END) {
            cpu->rip = cpu->next_rip;
            r = X86_JUMP;
        }
    }
    cpu->saved_flags = t0_pack_flags(cpu->rflags);
    if (r == X86_JUMP && op->op == IR_SYS && !cpu->code_changed && can_continue(cpu)) {
        r = T0_CONTINUE;
    }
    return r;
}

int t0_raise_gp(struct x86_cpu *cpu, uint32_t offset)
{
    flags_to_rflags(cpu);
    raise_at(cpu, offset);
    return x86_raise_error(cpu, EXC_GP, 0);
}
