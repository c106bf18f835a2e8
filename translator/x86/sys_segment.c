/* SPDX-License-Identifier: Apache-2.0 */
/* Instructions that load and store segment registers (SDM 2B MOV, POP, PUSH, LDS). */
#include "translator/x86/sys_internal.h"

/* After a load of SS the next instruction is not interrupted, so that RSP can follow. */
static void segment_loaded(struct x86_cpu *cpu, enum x86_seg_reg reg)
{
    if (reg == SEG_SS) {
        cpu->interrupt_shadow = SHADOW_MOV_SS;
        cpu->step = false; /* nor trapped */
    }
    if (reg < SEG_FS) {
        x86_update_mode(cpu);
    }
}

X86_SYS_HANDLER(mov_to_seg)
{
    uint64_t selector;
    int r = x86_sys_read(cpu, op, 2, &selector);
    r = r ? r : x86_load_segment(cpu, op->dst, (uint16_t)selector);
    if (!r) {
        segment_loaded(cpu, op->dst);
    }
    return r;
}

X86_SYS_HANDLER(mov_from_seg)
{
    return x86_sys_write(cpu, op, op->size, 2, cpu->seg[op->src].sel);
}

X86_SYS_HANDLER(pop_seg)
{
    struct x86_stack stack, before;
    uint64_t value;
    x86_stack_current(cpu, &stack);
    before = stack;
    /* Only the selector is read; the stack pointer moves by the operand size. */
    int r = x86_stack_pop(cpu, &stack, 2, &value);
    if (r) {
        return r;
    }
    r = x86_load_segment(cpu, op->dst, (uint16_t)value);
    if (r) {
        return r;
    }
    stack.sp = before.sp + op->size;
    x86_stack_commit(cpu, &stack);
    segment_loaded(cpu, op->dst);
    return X86_OK;
}

X86_SYS_HANDLER(push_seg)
{
    struct x86_stack stack;
    x86_stack_current(cpu, &stack);
    uint64_t sp = stack.sp;
    /* Of a 32-bit push Intel's processors write the lower half only (SDM 2B PUSH). */
    if (op->size == 4) {
        stack.sp -= 2;
    }
    int r = x86_stack_push(cpu, &stack, op->size == 4 ? 2 : op->size, cpu->seg[op->src].sel);
    if (!r) {
        stack.sp = sp - op->size;
        x86_stack_commit(cpu, &stack);
    }
    return r;
}

X86_SYS_HANDLER(load_far_ptr)
{
    uint8_t raw[10];
    uint64_t offset = 0;
    uint16_t selector;
    int r = x86_align_check(cpu, cpu->ea, op->size);
    r = r ? r : mmu_read(cpu, cpu->ea, op->size + 2u, raw);
    if (r) {
        return r;
    }
    memcpy(&offset, raw, op->size);
    memcpy(&selector, raw + op->size, 2);
    r = x86_load_segment(cpu, op->src2, selector);
    if (!r) {
        x86_write_reg(cpu, op->dst, op->size, offset);
        segment_loaded(cpu, op->src2);
    }
    return r;
}
