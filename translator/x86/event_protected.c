/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Event delivery in legacy protected mode, from virtual-8086 mode too (SDM 3A 6.12, 3B 20.2.1): 16- and 32-bit
 * interrupt and trap gates, task gates.
 *
 * The new stack is written before any register changes.
 */
#include "translator/x86/sys_internal.h"

int x86_tss_stack(struct x86_cpu *cpu, unsigned cpl, unsigned ext, uint16_t *ret_ss, uint32_t *ret_esp)
{
    const struct x86_seg *tr = &cpu->seg[SEG_TR];
    bool wide = (tr->attr & SEG_ATTR_TYPE) >= SYSTEM_TSS32;
    unsigned offset = wide ? 4 + cpl * 8 : 2 + cpl * 4;
    unsigned bytes = wide ? 6 : 4;
    uint8_t raw[6];
    if (offset + bytes - 1 > tr->limit) {
        return x86_raise_error(cpu, EXC_TS, (tr->sel & 0xfffcu) | ext);
    }
    int r = mmu_read_sys(cpu, (uint32_t)(tr->base + offset), bytes, raw);
    if (r) {
        return r;
    }
    *ret_esp = (uint32_t)(raw[0] | raw[1] << 8);
    if (wide) {
        *ret_esp |= (uint32_t)raw[2] << 16 | (uint32_t)raw[3] << 24;
    }
    *ret_ss = (uint16_t)(raw[bytes - 2] | raw[bytes - 1] << 8);
    return X86_OK;
}

/* Vector -> descriptor of the gate, checked for type, privilege and presence. */
static int read_gate(struct x86_cpu *cpu, const struct x86_event *event, uint64_t *ret_raw)
{
    const unsigned gates = 1u << SYSTEM_TASK | 1u << SYSTEM_INT16 | 1u << SYSTEM_TRAP16 | 1u << SYSTEM_INT32 |
                           1u << SYSTEM_TRAP32;
    uint32_t offset = event->vector * 8u;
    uint32_t error = offset + 2 + event->ext;
    if (offset + 7 > cpu->idtr.limit) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    int r = mmu_read_sys(cpu, (uint32_t)(cpu->idtr.base + offset), 8, ret_raw);
    if (r) {
        return r;
    }
    uint32_t attr = x86_desc_attr(*ret_raw);
    if (attr & SEG_ATTR_S || !(gates >> (attr & SEG_ATTR_TYPE) & 1)) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    if (event->software && x86_attr_dpl(attr) < cpu->cpl) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    return attr & SEG_ATTR_P ? X86_OK : x86_raise_error(cpu, EXC_NP, error);
}

static int through_task_gate(struct x86_cpu *cpu, const struct x86_event *event, uint16_t selector)
{
    uint64_t raw;
    uint32_t error = (selector & 0xfffcu) | event->ext;
    if (selector & 4) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    int r = x86_desc_read(cpu, selector, EXC_GP, event->ext, &raw);
    if (r) {
        return r;
    }
    unsigned type = x86_desc_attr(raw) & (SEG_ATTR_S | SEG_ATTR_TYPE);
    if (type != SYSTEM_TSS16 && type != SYSTEM_TSS32) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    if (!(x86_desc_attr(raw) & SEG_ATTR_P)) {
        return x86_raise_error(cpu, EXC_NP, error);
    }
    return x86_task_switch(cpu, selector, raw, TASK_EVENT, event->return_rip, event);
}

static int check_handler(struct x86_cpu *cpu, uint16_t selector, unsigned ext, uint64_t *ret_raw,
                         unsigned *ret_cpl)
{
    uint32_t error = (selector & 0xfffcu) | ext;
    if (x86_selector_null(selector)) {
        return x86_raise_error(cpu, EXC_GP, ext);
    }
    int r = x86_desc_read(cpu, selector, EXC_GP, ext, ret_raw);
    if (r) {
        return r;
    }
    uint32_t attr = x86_desc_attr(*ret_raw);
    unsigned dpl = x86_attr_dpl(attr);
    bool conforming = attr & SEG_TYPE_CONFORMING;
    if (!x86_attr_is_code(attr) || dpl > cpu->cpl) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    if (!(attr & SEG_ATTR_P)) {
        return x86_raise_error(cpu, EXC_NP, error);
    }
    if (x86_v86_mode(cpu) && (conforming || dpl)) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    *ret_cpl = conforming ? cpu->cpl : dpl;
    return X86_OK;
}

/* The stack of the inner privilege, from the TSS. */
static int inner_stack(struct x86_cpu *cpu, unsigned cpl, unsigned ext, struct x86_seg *ret_ss,
                       struct x86_stack *ret_stack)
{
    uint16_t selector;
    uint32_t esp;
    uint64_t raw;
    int r = x86_tss_stack(cpu, cpl, ext, &selector, &esp);
    if (r) {
        return r;
    }
    if (x86_selector_null(selector)) {
        return x86_raise_error(cpu, EXC_TS, ext);
    }
    r = x86_check_stack_desc(cpu, selector, cpl, EXC_TS, ext, &raw);
    r = r ? r : x86_desc_set_accessed(cpu, selector, &raw);
    if (r) {
        return r;
    }
    x86_seg_from_desc(ret_ss, selector, raw);
    *ret_stack = (struct x86_stack){
        .sp = esp,
        .mask = ret_ss->attr & SEG_ATTR_DB ? UINT32_MAX : 0xffff,
        .ss = ret_ss,
        .cpl = (uint8_t)cpl,
        .error = (selector & 0xfffcu) | ext,
    };
    return X86_OK;
}

static int push_frame(struct x86_cpu *cpu, const struct x86_event *event, struct x86_stack *stack,
                      unsigned size, bool inner)
{
    static const enum x86_seg_reg v86_order[] = {SEG_GS, SEG_FS, SEG_DS, SEG_ES};
    int r = X86_OK;
    if (inner && x86_v86_mode(cpu)) {
        for (unsigned i = 0; !r && i < ARRAY_LEN(v86_order); i++) {
            r = x86_stack_push(cpu, stack, size, cpu->seg[v86_order[i]].sel);
        }
    }
    if (inner) {
        r = r ? r : x86_stack_push(cpu, stack, size, cpu->seg[SEG_SS].sel);
        r = r ? r : x86_stack_push(cpu, stack, size, cpu->gpr[IR_RSP]);
    }
    r = r ? r : x86_stack_push(cpu, stack, size, event->rflags);
    r = r ? r : x86_stack_push(cpu, stack, size, cpu->seg[SEG_CS].sel);
    r = r ? r : x86_stack_push(cpu, stack, size, event->return_rip);
    if (event->has_error) {
        r = r ? r : x86_stack_push(cpu, stack, size, event->error);
    }
    return r;
}

int x86_event_protected(struct x86_cpu *cpu, const struct x86_event *event)
{
    uint64_t gate, raw;
    unsigned cpl;
    int r = read_gate(cpu, event, &gate);
    if (r) {
        return r;
    }
    unsigned type = x86_desc_attr(gate) & SEG_ATTR_TYPE;
    uint16_t selector = (uint16_t)(gate >> 16);
    if (type == SYSTEM_TASK) {
        return through_task_gate(cpu, event, selector);
    }
    unsigned size = type >= SYSTEM_INT32 ? 4 : 2;
    uint32_t target = (gate & 0xffff) | (size == 4 ? gate >> 32 & 0xffff0000 : 0);

    r = check_handler(cpu, selector, event->ext, &raw, &cpl);
    if (r) {
        return r;
    }
    bool inner = cpl < cpu->cpl, from_v86 = x86_v86_mode(cpu);
    struct x86_stack stack;
    struct x86_seg new_ss = cpu->seg[SEG_SS];
    if (inner) {
        r = inner_stack(cpu, cpl, event->ext, &new_ss, &stack);
    } else {
        x86_stack_current(cpu, &stack);
        stack.error = event->ext;
    }
    r = r ? r : push_frame(cpu, event, &stack, size, inner);
    if (!r && target > x86_desc_limit(raw)) {
        r = x86_raise_error(cpu, EXC_GP, event->ext);
    }
    r = r ? r : x86_desc_set_accessed(cpu, selector, &raw);
    if (r) {
        return r;
    }

    x86_seg_from_desc(&cpu->seg[SEG_CS], (uint16_t)((selector & ~3u) | cpl), raw);
    cpu->seg[SEG_SS] = new_ss;
    cpu->cpl = (uint8_t)cpl;
    if (from_v86) {
        static const enum x86_seg_reg data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
        for (unsigned i = 0; i < ARRAY_LEN(data); i++) {
            cpu->seg[data[i]] = (struct x86_seg){.attr = SEG_ATTR_UNUSABLE};
        }
    }
    x86_stack_commit(cpu, &stack);
    bool interrupt = type == SYSTEM_INT16 || type == SYSTEM_INT32;
    cpu->rflags &= ~(uint64_t)(FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM | (interrupt ? FLAG_IF : 0u));
    cpu->step = false;
    x86_update_mode(cpu);
    x86_set_rip(cpu, target);
    return X86_JUMP;
}
