/* SPDX-License-Identifier: Apache-2.0 */
/* Event delivery in real mode: the interrupt vector table (SDM 3B 20.1.4). No error codes are pushed. */
#include "translator/x86/sys_internal.h"

int x86_event_real(struct x86_cpu *cpu, const struct x86_event *event)
{
    struct x86_stack stack;
    uint32_t vector = 0, offset = event->vector * 4u;

    if (offset + 3 > cpu->idtr.limit) {
        return x86_raise_error(cpu, EXC_GP, event->vector * 8u + 2 + event->ext);
    }
    int r = mmu_read_sys(cpu, (uint32_t)(cpu->idtr.base + offset), 4, &vector);
    x86_stack_current(cpu, &stack);
    r = r ? r : x86_stack_push(cpu, &stack, 2, event->rflags);
    r = r ? r : x86_stack_push(cpu, &stack, 2, cpu->seg[SEG_CS].sel);
    r = r ? r : x86_stack_push(cpu, &stack, 2, event->return_rip);
    if (r) {
        return r;
    }
    x86_stack_commit(cpu, &stack);
    cpu->rflags &= ~(uint64_t)(FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF);
    x86_seg_real(cpu, SEG_CS, (uint16_t)(vector >> 16));
    cpu->step = false;
    x86_update_mode(cpu);
    x86_set_rip(cpu, vector & 0xffff);
    return X86_JUMP;
}
