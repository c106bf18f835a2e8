/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Far JMP, CALL and RET in every mode: direct, through call gates of 16, 32 and 64 bits, through task gates and TSS
 * (SDM 2A CALL, JMP; 2B RET; SDM 3A 5.8).
 */
#include "translator/x86/sys_internal.h"

struct far_target {
    uint16_t selector;
    uint64_t offset;
};

static int read_target(struct x86_cpu *cpu, const struct ir_op *op, struct far_target *ret_target)
{
    uint8_t raw[10];
    struct far_target target = {0};
    if (op->flags & IRF_SRC_IMM) {
        target.offset = (uint64_t)op->imm & x86_size_mask(op->size);
        target.selector = op->aux;
    } else {
        int r = x86_align_check(cpu, cpu->ea, op->size);
        r = r ? r : mmu_read(cpu, cpu->ea, op->size + 2u, raw);
        if (r) {
            return r;
        }
        memcpy(&target.offset, raw, op->size);
        memcpy(&target.selector, raw + op->size, 2);
    }
    *ret_target = target;
    return X86_OK;
}

/* --- real and virtual-8086 mode ----------------------------------------------------------------------------- */

static int far_real(struct x86_cpu *cpu, const struct far_target *target, bool call, unsigned size)
{
    struct x86_stack stack;
    int r = X86_OK;
    if (target->offset > cpu->seg[SEG_CS].limit) {
        return x86_gp0(cpu);
    }
    if (call) {
        x86_stack_current(cpu, &stack);
        r = x86_stack_push(cpu, &stack, size, cpu->seg[SEG_CS].sel);
        r = r ? r : x86_stack_push(cpu, &stack, size, cpu->next_rip);
        if (r) {
            return r;
        }
        x86_stack_commit(cpu, &stack);
    }
    x86_seg_real(cpu, SEG_CS, target->selector);
    x86_update_mode(cpu);
    x86_set_rip(cpu, target->offset);
    return X86_JUMP;
}

static int ret_far_real(struct x86_cpu *cpu, unsigned size, unsigned extra)
{
    struct x86_stack stack;
    uint64_t rip, cs;
    x86_stack_current(cpu, &stack);
    int r = x86_stack_pop(cpu, &stack, size, &rip);
    r = r ? r : x86_stack_pop(cpu, &stack, size, &cs);
    if (!r && rip > cpu->seg[SEG_CS].limit) {
        r = x86_gp0(cpu);
    }
    if (r) {
        return r;
    }
    stack.sp += extra;
    x86_stack_commit(cpu, &stack);
    x86_seg_real(cpu, SEG_CS, (uint16_t)cs);
    x86_update_mode(cpu);
    x86_set_rip(cpu, rip);
    return X86_JUMP;
}

/* --- protected mode ----------------------------------------------------------------------------------------- */

static bool code_is_64(const struct x86_cpu *cpu, uint64_t raw)
{
    return x86_long_mode(cpu) && x86_desc_attr(raw) & SEG_ATTR_L;
}

static int check_offset(struct x86_cpu *cpu, uint64_t raw, uint64_t offset)
{
    bool valid = code_is_64(cpu, raw) ? x86_canonical(offset) : offset <= x86_desc_limit(raw);
    return valid ? X86_OK : x86_gp0(cpu);
}

static void set_code(struct x86_cpu *cpu, uint16_t selector, unsigned cpl, uint64_t raw, uint64_t offset)
{
    bool code64 = code_is_64(cpu, raw);
    x86_seg_from_desc(&cpu->seg[SEG_CS], (uint16_t)((selector & ~3u) | cpl), raw);
    if (code64) {
        cpu->seg[SEG_CS].base = 0;
    }
    cpu->cpl = (uint8_t)cpl;
    x86_update_mode(cpu);
    x86_set_rip(cpu, offset);
}

/* L and D together are reserved in IA-32e mode. */
static bool bad_long_code(const struct x86_cpu *cpu, uint32_t attr)
{
    return x86_long_mode(cpu) && (attr & (SEG_ATTR_L | SEG_ATTR_DB)) == (SEG_ATTR_L | SEG_ATTR_DB);
}

/* Code segment as the direct target of JMP or CALL. */
static int far_code(struct x86_cpu *cpu, const struct far_target *target, uint64_t raw, bool call,
                    unsigned size)
{
    uint32_t attr = x86_desc_attr(raw), error = target->selector & 0xfffcu;
    unsigned dpl = x86_attr_dpl(attr), rpl = target->selector & 3;
    bool conforming = attr & SEG_TYPE_CONFORMING;
    if (bad_long_code(cpu, attr) || (conforming ? dpl > cpu->cpl : rpl > cpu->cpl || dpl != cpu->cpl)) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    if (!(attr & SEG_ATTR_P)) {
        return x86_raise_error(cpu, EXC_NP, error);
    }
    struct x86_stack stack;
    int r = X86_OK;
    if (call) {
        x86_stack_current(cpu, &stack);
        r = x86_stack_push(cpu, &stack, size, cpu->seg[SEG_CS].sel);
        r = r ? r : x86_stack_push(cpu, &stack, size, cpu->next_rip);
    }
    r = r ? r : check_offset(cpu, raw, target->offset);
    r = r ? r : x86_desc_set_accessed(cpu, target->selector, &raw);
    if (r) {
        return r;
    }
    if (call) {
        x86_stack_commit(cpu, &stack);
    }
    set_code(cpu, target->selector, cpu->cpl, raw, target->offset);
    return X86_JUMP;
}

struct call_gate {
    unsigned size;   /* of what is pushed: 2, 4, 8 */
    unsigned params; /* words copied to the inner stack */
    uint16_t selector;
    uint64_t offset;
};

static int read_call_gate(struct x86_cpu *cpu, uint16_t selector, uint64_t raw, struct call_gate *ret_gate)
{
    uint64_t high = 0;
    unsigned type = x86_desc_attr(raw) & SEG_ATTR_TYPE;
    *ret_gate = (struct call_gate){
        .size = type == SYSTEM_CALL16 ? 2
                : x86_long_mode(cpu)  ? 8
                                      : 4,
        .params = raw >> 32 & 0x1f,
        .selector = (uint16_t)(raw >> 16),
        .offset = (raw & 0xffff) | (type == SYSTEM_CALL16 ? 0 : raw >> 32 & 0xffff0000),
    };
    if (!x86_long_mode(cpu)) {
        return X86_OK;
    }
    int r = x86_desc_read_high(cpu, selector, EXC_GP, 0, &high);
    if (r) {
        return r;
    }
    if (high >> 40 & 0x1f) {
        return x86_raise_error(cpu, EXC_GP, selector & 0xfffcu);
    }
    ret_gate->offset |= high << 32;
    ret_gate->params = 0;
    return X86_OK;
}

/* Inner stack of a call gate with the caller's SS:RSP and parameters on it. */
static int gate_inner_stack(struct x86_cpu *cpu, const struct call_gate *gate, unsigned cpl,
                            struct x86_seg *ret_ss, struct x86_stack *ret_stack)
{
    struct x86_stack old;
    int r;
    if (x86_long_mode(cpu)) {
        uint64_t rsp;
        r = x86_tss_stack64(cpu, 4 + cpl * 8, 0, &rsp);
        if (r) {
            return r;
        }
        *ret_ss = (struct x86_seg){.sel = (uint16_t)cpl, .attr = SEG_ATTR_UNUSABLE | cpl << 5};
        *ret_stack = (struct x86_stack){
            .sp = rsp, .mask = UINT64_MAX, .ss = ret_ss, .code64 = true, .cpl = (uint8_t)cpl};
    } else {
        uint16_t selector;
        uint32_t esp;
        uint64_t raw;
        r = x86_tss_stack(cpu, cpl, 0, &selector, &esp);
        if (!r && x86_selector_null(selector)) {
            r = x86_raise_error(cpu, EXC_TS, 0);
        }
        r = r ? r : x86_check_stack_desc(cpu, selector, cpl, EXC_TS, 0, &raw);
        r = r ? r : x86_desc_set_accessed(cpu, selector, &raw);
        if (r) {
            return r;
        }
        x86_seg_from_desc(ret_ss, selector, raw);
        *ret_stack = (struct x86_stack){.sp = esp,
                                        .mask = ret_ss->attr & SEG_ATTR_DB ? UINT32_MAX : 0xffff,
                                        .ss = ret_ss,
                                        .cpl = (uint8_t)cpl,
                                        .error = selector & 0xfffcu};
    }
    x86_stack_current(cpu, &old);
    r = x86_stack_push(cpu, ret_stack, gate->size, cpu->seg[SEG_SS].sel);
    r = r ? r : x86_stack_push(cpu, ret_stack, gate->size, cpu->gpr[IR_RSP]);
    for (unsigned i = gate->params; !r && i-- > 0;) {
        struct x86_stack from = old;
        uint64_t value;
        from.sp += i * gate->size;
        r = x86_stack_pop(cpu, &from, gate->size, &value);
        r = r ? r : x86_stack_push(cpu, ret_stack, gate->size, value);
    }
    return r;
}

static int far_call_gate(struct x86_cpu *cpu, uint16_t selector, uint64_t raw_gate, bool call)
{
    uint32_t attr = x86_desc_attr(raw_gate);
    struct call_gate gate;
    uint64_t raw;
    if (x86_attr_dpl(attr) < cpu->cpl || x86_attr_dpl(attr) < (selector & 3u)) {
        return x86_raise_error(cpu, EXC_GP, selector & 0xfffcu);
    }
    if (!(attr & SEG_ATTR_P)) {
        return x86_raise_error(cpu, EXC_NP, selector & 0xfffcu);
    }
    int r = read_call_gate(cpu, selector, raw_gate, &gate);
    if (r) {
        return r;
    }
    uint32_t error = gate.selector & 0xfffcu;
    if (x86_selector_null(gate.selector)) {
        return x86_gp0(cpu);
    }
    r = x86_desc_read(cpu, gate.selector, EXC_GP, 0, &raw);
    if (r) {
        return r;
    }
    uint32_t code = x86_desc_attr(raw);
    unsigned dpl = x86_attr_dpl(code);
    bool conforming = code & SEG_TYPE_CONFORMING;
    bool lma = x86_long_mode(cpu);
    if (!x86_attr_is_code(code) || dpl > cpu->cpl || (!call && !conforming && dpl != cpu->cpl) ||
        (lma && (code & (SEG_ATTR_L | SEG_ATTR_DB)) != SEG_ATTR_L)) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    if (!(code & SEG_ATTR_P)) {
        return x86_raise_error(cpu, EXC_NP, error);
    }

    bool inner = call && !conforming && dpl < cpu->cpl;
    unsigned cpl = inner ? dpl : cpu->cpl;
    struct x86_seg new_ss = cpu->seg[SEG_SS];
    struct x86_stack stack;
    x86_stack_current(cpu, &stack);
    if (lma) {
        stack.code64 = true; /* the handler's view of the stack */
        stack.mask = UINT64_MAX;
    }
    if (inner) {
        r = gate_inner_stack(cpu, &gate, cpl, &new_ss, &stack);
    }
    if (call) {
        r = r ? r : x86_stack_push(cpu, &stack, gate.size, cpu->seg[SEG_CS].sel);
        r = r ? r : x86_stack_push(cpu, &stack, gate.size, cpu->next_rip);
    }
    r = r ? r : check_offset(cpu, raw, gate.offset);
    r = r ? r : x86_desc_set_accessed(cpu, gate.selector, &raw);
    if (r) {
        return r;
    }
    cpu->seg[SEG_SS] = new_ss;
    if (call) {
        x86_stack_commit(cpu, &stack);
    }
    set_code(cpu, gate.selector, cpl, raw, gate.offset);
    return X86_JUMP;
}

/* JMP or CALL to a TSS or task gate. */
static int far_task(struct x86_cpu *cpu, uint16_t selector, uint64_t raw, bool call)
{
    uint32_t attr = x86_desc_attr(raw);
    if (x86_attr_dpl(attr) < cpu->cpl || x86_attr_dpl(attr) < (selector & 3u)) {
        return x86_raise_error(cpu, EXC_GP, selector & 0xfffcu);
    }
    if ((attr & SEG_ATTR_TYPE) == SYSTEM_TASK) {
        if (!(attr & SEG_ATTR_P)) {
            return x86_raise_error(cpu, EXC_NP, selector & 0xfffcu);
        }
        selector = (uint16_t)(raw >> 16);
        if (selector & 4) {
            return x86_raise_error(cpu, EXC_GP, selector & 0xfffcu);
        }
        int r = x86_desc_read(cpu, selector, EXC_GP, 0, &raw);
        if (r) {
            return r;
        }
        attr = x86_desc_attr(raw);
    }
    unsigned type = attr & (SEG_ATTR_S | SEG_ATTR_TYPE);
    if (selector & 4 || (type != SYSTEM_TSS16 && type != SYSTEM_TSS32)) {
        return x86_raise_error(cpu, EXC_GP, selector & 0xfffcu);
    }
    if (!(attr & SEG_ATTR_P)) {
        return x86_raise_error(cpu, EXC_NP, selector & 0xfffcu);
    }
    return x86_task_switch(cpu, selector, raw, call ? TASK_CALL : TASK_JUMP, cpu->next_rip, NULL);
}

static int far_transfer(struct x86_cpu *cpu, const struct ir_op *op, bool call)
{
    struct far_target target;
    uint64_t raw;
    int r = read_target(cpu, op, &target);
    if (r) {
        return r;
    }
    if (!x86_protected(cpu)) {
        return far_real(cpu, &target, call, op->size);
    }
    if (x86_selector_null(target.selector)) {
        return x86_gp0(cpu);
    }
    r = x86_desc_read(cpu, target.selector, EXC_GP, 0, &raw);
    if (r) {
        return r;
    }
    uint32_t attr = x86_desc_attr(raw);
    if (x86_attr_is_code(attr)) {
        return far_code(cpu, &target, raw, call, op->size);
    }
    unsigned type = attr & (SEG_ATTR_S | SEG_ATTR_TYPE);
    bool lma = x86_long_mode(cpu);
    if (type == SYSTEM_CALL32 || (type == SYSTEM_CALL16 && !lma)) {
        return far_call_gate(cpu, target.selector, raw, call);
    }
    if (!lma && (type == SYSTEM_TASK || type == SYSTEM_TSS16 || type == SYSTEM_TSS32)) {
        return far_task(cpu, target.selector, raw, call);
    }
    return x86_raise_error(cpu, EXC_GP, target.selector & 0xfffcu);
}

X86_SYS_HANDLER(jmp_far)
{
    return far_transfer(cpu, op, false);
}

X86_SYS_HANDLER(call_far)
{
    return far_transfer(cpu, op, true);
}

/* --- RET ---------------------------------------------------------------------------------------------------- */

static int check_return_code(struct x86_cpu *cpu, uint16_t selector, uint64_t *ret_raw)
{
    if (x86_selector_null(selector)) {
        return x86_gp0(cpu);
    }
    int r = x86_desc_read(cpu, selector, EXC_GP, 0, ret_raw);
    if (r) {
        return r;
    }
    uint32_t attr = x86_desc_attr(*ret_raw), error = selector & 0xfffcu;
    unsigned rpl = selector & 3, dpl = x86_attr_dpl(attr);
    bool conforming = attr & SEG_TYPE_CONFORMING;
    if (!x86_attr_is_code(attr) || rpl < cpu->cpl || bad_long_code(cpu, attr) ||
        (conforming ? dpl > rpl : dpl != rpl)) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    return attr & SEG_ATTR_P ? X86_OK : x86_raise_error(cpu, EXC_NP, error);
}

static int ret_far_protected(struct x86_cpu *cpu, unsigned size, unsigned extra)
{
    struct x86_stack stack;
    uint64_t rip, cs, rsp = 0, ss = 0, raw, raw_ss = 0;
    x86_stack_current(cpu, &stack);
    int r = x86_stack_pop(cpu, &stack, size, &rip);
    r = r ? r : x86_stack_pop(cpu, &stack, size, &cs);
    r = r ? r : check_return_code(cpu, (uint16_t)cs, &raw);
    if (r) {
        return r;
    }
    unsigned cpl = cs & 3;
    bool outer = cpl > cpu->cpl, to64 = code_is_64(cpu, raw);
    stack.sp += extra;
    if (outer) {
        r = x86_stack_pop(cpu, &stack, size, &rsp);
        r = r ? r : x86_stack_pop(cpu, &stack, size, &ss);
        if (!r && x86_selector_null((uint16_t)ss)) {
            r = to64 && cpl != 3 && (ss & 3) == cpl ? X86_OK : x86_gp0(cpu);
        } else if (!r) {
            r = x86_check_stack_desc(cpu, (uint16_t)ss, cpl, EXC_GP, 0, &raw_ss);
            r = r ? r : x86_desc_set_accessed(cpu, (uint16_t)ss, &raw_ss);
        }
    }
    r = r ? r : check_offset(cpu, raw, rip);
    r = r ? r : x86_desc_set_accessed(cpu, (uint16_t)cs, &raw);
    if (r) {
        return r;
    }
    if (!outer) {
        x86_stack_commit(cpu, &stack);
        set_code(cpu, (uint16_t)cs, cpl, raw, rip);
        return X86_JUMP;
    }
    if (raw_ss) {
        x86_seg_from_desc(&cpu->seg[SEG_SS], (uint16_t)ss, raw_ss);
    } else {
        cpu->seg[SEG_SS] = (struct x86_seg){.sel = (uint16_t)ss, .attr = SEG_ATTR_UNUSABLE | cpl << 5};
    }
    stack.sp = rsp + extra;
    stack.mask = to64 ? UINT64_MAX : cpu->seg[SEG_SS].attr & SEG_ATTR_DB ? UINT32_MAX : 0xffff;
    x86_stack_commit(cpu, &stack);
    cpu->cpl = (uint8_t)cpl;
    x86_drop_inner_segments(cpu);
    set_code(cpu, (uint16_t)cs, cpl, raw, rip);
    return X86_JUMP;
}

X86_SYS_HANDLER(ret_far)
{
    unsigned extra = (unsigned)op->imm & 0xffff;
    return x86_protected(cpu) ? ret_far_protected(cpu, op->size, extra) : ret_far_real(cpu, op->size, extra);
}
