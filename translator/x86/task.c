/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hardware task switches of legacy protected mode (SDM 3A 8.3), between 16- and 32-bit TSSs.
 *
 * Everything up to the commit point raises in the old task and changes nothing there; what fails while the new task's
 * segments are loaded raises in the new task, as the architecture has it.
 */
#include "translator/mmu_walk.h"
#include "translator/x86/debug.h"
#include "translator/x86/sys_internal.h"

#define TSS32_BYTES 0x68u
#define TSS16_BYTES 0x2cu

/* Register images of both TSS formats, after the stack pointers. */
struct task_state {
    uint32_t cr3, eip, eflags, gpr[8];
    uint16_t sel[6]; /* ES CS SS DS FS GS */
    uint16_t ldt, trap;
};

static unsigned get(const uint8_t *raw, unsigned offset, unsigned size)
{
    uint32_t value = 0;
    memcpy(&value, raw + offset, size);
    return value;
}

static void parse(const uint8_t *raw, bool wide, struct task_state *state)
{
    unsigned size = wide ? 4 : 2, at = wide ? 0x20 : 0x0e;
    memset(state, 0, sizeof(*state));
    state->cr3 = wide ? get(raw, 0x1c, 4) : 0;
    state->eip = get(raw, at, size);
    state->eflags = get(raw, at + size, size);
    at += 2 * size;
    for (unsigned i = 0; i < 8; i++, at += size) {
        state->gpr[i] = get(raw, at, size);
    }
    for (unsigned i = 0; i < (wide ? 6u : 4u); i++, at += size) {
        state->sel[i] = (uint16_t)get(raw, at, 2);
    }
    state->ldt = (uint16_t)get(raw, at, 2);
    state->trap = wide ? get(raw, 0x64, 2) & 1 : 0;
}

/* The dynamic part of the outgoing task: EIP to GS. */
static int save_old(struct x86_cpu *cpu, uint64_t eip, uint64_t eflags)
{
    const struct x86_seg *tr = &cpu->seg[SEG_TR];
    bool wide = (tr->attr & SEG_ATTR_TYPE) >= SYSTEM_TSS32;
    unsigned size = wide ? 4 : 2, bytes = 0;
    uint8_t raw[64] = {0};
    uint64_t values[16] = {eip, eflags};
    unsigned segments = wide ? 6 : 4;
    for (unsigned i = 0; i < 8; i++) {
        values[2 + i] = cpu->gpr[i];
    }
    for (unsigned i = 0; i < segments; i++) {
        values[10 + i] = cpu->seg[i].sel;
    }
    for (unsigned i = 0; i < 10 + segments; i++, bytes += size) {
        memcpy(raw + bytes, &values[i], size);
    }
    return mmu_write_sys(cpu, (uint32_t)(tr->base + (wide ? 0x20 : 0x0e)), bytes, raw);
}

static int read_new(struct x86_cpu *cpu, uint64_t base, bool wide, uint8_t *raw)
{
    int r = mmu_read_sys(cpu, (uint32_t)base, TSS16_BYTES, raw);
    if (!r && wide) {
        r = mmu_read_sys(cpu, (uint32_t)(base + TSS16_BYTES), TSS32_BYTES - TSS16_BYTES, raw + TSS16_BYTES);
    }
    return r;
}

/* Loads CS of the new task: #TS or #NP with its selector. */
static int load_code(struct x86_cpu *cpu, uint16_t selector)
{
    uint64_t raw;
    uint32_t error = selector & 0xfffcu;
    if (x86_selector_null(selector)) {
        return x86_raise_error(cpu, EXC_TS, 0);
    }
    int r = x86_desc_read(cpu, selector, EXC_TS, 0, &raw);
    if (r) {
        return r;
    }
    uint32_t attr = x86_desc_attr(raw);
    unsigned rpl = selector & 3, dpl = x86_attr_dpl(attr);
    bool conforming = attr & SEG_TYPE_CONFORMING;
    if (!x86_attr_is_code(attr) || (conforming ? dpl > rpl : dpl != rpl)) {
        return x86_raise_error(cpu, EXC_TS, error);
    }
    if (!(attr & SEG_ATTR_P)) {
        return x86_raise_error(cpu, EXC_NP, error);
    }
    r = x86_desc_set_accessed(cpu, selector, &raw);
    if (!r) {
        x86_seg_from_desc(&cpu->seg[SEG_CS], selector, raw);
    }
    return r;
}

static int load_stack(struct x86_cpu *cpu, uint16_t selector)
{
    uint64_t raw;
    if (x86_selector_null(selector)) {
        return x86_raise_error(cpu, EXC_TS, 0);
    }
    int r = x86_check_stack_desc(cpu, selector, cpu->cpl, EXC_TS, 0, &raw);
    r = r ? r : x86_desc_set_accessed(cpu, selector, &raw);
    if (!r) {
        x86_seg_from_desc(&cpu->seg[SEG_SS], selector, raw);
    }
    return r;
}

/* Descriptors of the new task, in its own context. */
static int load_segments(struct x86_cpu *cpu, const struct task_state *state)
{
    static const enum x86_seg_reg data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
        cpu->seg[i] = (struct x86_seg){.sel = state->sel[i], .attr = SEG_ATTR_UNUSABLE};
    }
    cpu->seg[SEG_LDTR] = (struct x86_seg){.sel = state->ldt, .attr = SEG_ATTR_UNUSABLE};
    x86_update_mode(cpu); /* EFLAGS.VM of the new task says how segments are loaded */
    int r = x86_load_ldt(cpu, state->ldt, EXC_TS);
    if (r) {
        return r;
    }
    if (cpu->rflags & FLAG_VM) {
        cpu->cpl = 3;
        for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
            x86_seg_real(cpu, i, state->sel[i]);
        }
        return X86_OK;
    }
    cpu->cpl = state->sel[SEG_CS] & 3;
    r = load_code(cpu, state->sel[SEG_CS]);
    r = r ? r : load_stack(cpu, state->sel[SEG_SS]);
    for (unsigned i = 0; !r && i < ARRAY_LEN(data); i++) {
        r = x86_load_segment(cpu, data[i], state->sel[data[i]]);
        if (r && cpu->exc.vector == EXC_GP) {
            cpu->exc.vector = EXC_TS;
        }
    }
    return r;
}

int x86_task_switch(struct x86_cpu *cpu, uint16_t selector, uint64_t raw, enum x86_task_reason reason,
                    uint64_t next_rip, const struct x86_event *event)
{
    uint8_t image[TSS32_BYTES] = {0};
    struct task_state state;
    uint16_t old_selector = cpu->seg[SEG_TR].sel;
    unsigned ext = event ? event->ext : 0;
    uint32_t attr = x86_desc_attr(raw), error = (selector & 0xfffcu) | ext;
    bool wide = (attr & SEG_ATTR_TYPE) >= SYSTEM_TSS32;
    uint64_t base = x86_desc_base(raw), old_flags = event ? event->rflags : cpu->rflags;

    if (reason == TASK_IRET) {
        unsigned type = attr & (SEG_ATTR_S | SEG_ATTR_TYPE);
        if (selector & 4 || (type != SYSTEM_TSS16_BUSY && type != SYSTEM_TSS32_BUSY)) {
            return x86_raise_error(cpu, EXC_TS, error);
        }
        if (!(attr & SEG_ATTR_P)) {
            return x86_raise_error(cpu, EXC_NP, error);
        }
        old_flags &= ~(uint64_t)FLAG_NT;
    }
    if (x86_desc_limit(raw) < (wide ? TSS32_BYTES : TSS16_BYTES) - 1) {
        return x86_raise_error(cpu, EXC_TS, error);
    }
    int r = read_new(cpu, base, wide, image);
    r = r ? r : save_old(cpu, next_rip, old_flags);
    if (!r && (reason == TASK_CALL || reason == TASK_EVENT)) {
        r = mmu_write_sys(cpu, (uint32_t)base, 2, &old_selector);
    }
    if (!r && (reason == TASK_JUMP || reason == TASK_IRET)) {
        r = x86_desc_set_busy(cpu, old_selector, false);
    }
    if (!r && reason != TASK_IRET) {
        r = x86_desc_set_busy(cpu, selector, true);
    }
    if (r) {
        return r;
    }

    /* Commit: from here on faults belong to the new task. */
    parse(image, wide, &state);
    struct x86_seg *tr = &cpu->seg[SEG_TR];
    bool bad_tables = false;
    x86_seg_from_desc(tr, selector, raw);
    tr->attr |= 2;
    cpu->cr0 |= CR0_TS;
    if (wide && cpu->cr0 & CR0_PG) {
        /* Task switches exist outside long mode only. Bad top entries of PAE are the new task's fault. */
        bad_tables = cpu->cr4 & CR4_PAE && mmu_load_pdptes(cpu, state.cr3) < 0;
        mmu_set_cr3(cpu, state.cr3);
    }
    for (unsigned i = 0; i < 8; i++) {
        cpu->gpr[i] = wide ? state.gpr[i] : (cpu->gpr[i] & 0xffff0000) | state.gpr[i];
    }
    const uint64_t defined = FLAGS_ARITH | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT | FLAG_VM |
                             FLAG_AC | FLAG_ID | FLAG_VIF | FLAG_VIP;
    cpu->rflags = (state.eflags & defined) | 2;
    if (reason == TASK_CALL || reason == TASK_EVENT) {
        cpu->rflags |= FLAG_NT;
    }
    cpu->dr[7] &= ~UINT64_C(0x155); /* local breakpoints */
    x86_debug_changed(cpu);
    r = load_segments(cpu, &state);
    cpu->step = false;
    x86_update_mode(cpu);
    x86_set_rip(cpu, state.eip);
    cpu->irq_waiting = true;
    if (r) {
        return r;
    }
    if (bad_tables || state.eip > cpu->seg[SEG_CS].limit) {
        return x86_gp0(cpu);
    }
    if (event && event->has_error) {
        struct x86_stack stack;
        x86_stack_current(cpu, &stack);
        r = x86_stack_push(cpu, &stack, wide ? 4 : 2, event->error);
        if (r) {
            return r;
        }
        x86_stack_commit(cpu, &stack);
    }
    if (state.trap) {
        x86_raise(cpu, EXC_DB);
        cpu->exc.cr2 = DR6_BT;
        return X86_RAISE;
    }
    return X86_JUMP;
}
