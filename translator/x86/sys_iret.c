/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IRET in every mode (SDM 2A IRET).
 *
 * The frame is popped and every descriptor checked before anything changes; then CS, SS, RSP, RFLAGS and RIP change
 * together.
 */
#include "translator/x86/sys_internal.h"

#define IRET_FLAGS (FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT)

/* RFLAGS after a return: which bits the popped image may change (SDM 2A IRET). */
static uint64_t returned_flags(const struct x86_cpu *cpu, unsigned size, uint64_t image, unsigned cpl)
{
    uint64_t mask = IRET_FLAGS;
    if (cpl <= x86_iopl(cpu)) {
        mask |= FLAG_IF;
    }
    if (size > 2) {
        mask |= FLAG_AC | FLAG_ID | (cpu->debug_active ? FLAG_RF : 0);
    }
    if (cpl == 0) {
        mask |= FLAG_IOPL;
        if (size > 2) {
            mask |= FLAG_VIF | FLAG_VIP;
        }
    }
    return (cpu->rflags & ~(mask | FLAG_RF)) | (image & mask);
}

/* Real mode, and virtual-8086 mode with IOPL 3 or a virtual IF. */
static int iret_real(struct x86_cpu *cpu, unsigned size)
{
    struct x86_stack stack;
    uint64_t rip, cs, flags;
    bool virtual = x86_v86_virtual_if(cpu) && size == 2;
    if (x86_v86_mode(cpu) && x86_iopl(cpu) < 3 && !virtual) {
        return x86_gp0(cpu);
    }
    x86_stack_current(cpu, &stack);
    int r = x86_stack_pop(cpu, &stack, size, &rip);
    r = r ? r : x86_stack_pop(cpu, &stack, size, &cs);
    r = r ? r : x86_stack_pop(cpu, &stack, size, &flags);
    if (!r && rip > cpu->seg[SEG_CS].limit) {
        r = x86_gp0(cpu);
    }
    if (!r && virtual) {
        r = x86_v86_flags_load(cpu, flags);
    }
    if (r) {
        return r;
    }
    uint64_t mask = IRET_FLAGS | FLAG_IF | (size > 2 ? FLAG_AC | FLAG_ID : 0);
    if (!x86_v86_mode(cpu)) {
        mask |= FLAG_IOPL | (size > 2 ? FLAG_VIF | FLAG_VIP : 0);
    }
    x86_stack_commit(cpu, &stack);
    x86_seg_real(cpu, SEG_CS, (uint16_t)cs);
    if (!virtual) {
        x86_set_rflags(cpu, (cpu->rflags & ~(mask | FLAG_RF)) | (flags & mask));
    }
    x86_update_mode(cpu);
    x86_set_rip(cpu, rip);
    return X86_JUMP;
}

/* From CPL 0 with VM set in the image: to virtual-8086 mode. */
static int iret_to_v86(struct x86_cpu *cpu, struct x86_stack *stack, uint64_t rip, uint64_t cs,
                       uint64_t flags)
{
    static const enum x86_seg_reg order[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    uint64_t esp, ss, data[4];
    int r = x86_stack_pop(cpu, stack, 4, &esp);
    r = r ? r : x86_stack_pop(cpu, stack, 4, &ss);
    for (unsigned i = 0; !r && i < 4; i++) {
        r = x86_stack_pop(cpu, stack, 4, &data[i]);
    }
    if (!r && rip > 0xffff) {
        r = x86_gp0(cpu);
    }
    if (r) {
        return r;
    }
    uint64_t mask = IRET_FLAGS | FLAG_IF | FLAG_AC | FLAG_ID | FLAG_IOPL | FLAG_VM | FLAG_VIF | FLAG_VIP;
    uint64_t old = cpu->rflags;
    cpu->rflags = (old & ~(mask | FLAG_RF)) | (flags & mask);
    x86_seg_real(cpu, SEG_CS, (uint16_t)cs);
    x86_seg_real(cpu, SEG_SS, (uint16_t)ss);
    for (unsigned i = 0; i < 4; i++) {
        x86_seg_real(cpu, order[i], (uint16_t)data[i]);
    }
    cpu->cpl = 3;
    cpu->gpr[IR_RSP] = esp;
    if (cpu->rflags & ~old & FLAG_IF) {
        x86_irq_recheck(cpu);
    }
    x86_update_mode(cpu);
    x86_set_rip(cpu, rip);
    return X86_JUMP;
}

/* The code segment that is returned to; shared with the checks of the instruction page. */
static int check_return_cs(struct x86_cpu *cpu, uint16_t selector, uint64_t *ret_raw)
{
    uint64_t raw;
    uint32_t error = selector & 0xfffcu;
    unsigned rpl = selector & 3;
    if (x86_selector_null(selector)) {
        return x86_gp0(cpu);
    }
    int r = x86_desc_read(cpu, selector, EXC_GP, 0, &raw);
    if (r) {
        return r;
    }
    uint32_t attr = x86_desc_attr(raw);
    unsigned dpl = x86_attr_dpl(attr);
    bool conforming = attr & SEG_TYPE_CONFORMING;
    if (!x86_attr_is_code(attr) || rpl < cpu->cpl || (conforming ? dpl > rpl : dpl != rpl)) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    if (x86_long_mode(cpu) && (attr & (SEG_ATTR_L | SEG_ATTR_DB)) == (SEG_ATTR_L | SEG_ATTR_DB)) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    if (!(attr & SEG_ATTR_P)) {
        return x86_raise_error(cpu, EXC_NP, error);
    }
    *ret_raw = raw;
    return x86_desc_set_accessed(cpu, selector, ret_raw);
}

/* SS that is returned to; a null one is allowed for 64-bit code of privilege 0-2 (*ret_raw = 0). */
static int check_return_ss(struct x86_cpu *cpu, uint16_t selector, unsigned cpl, bool to64, uint64_t *ret_raw)
{
    if (x86_selector_null(selector)) {
        if (!to64 || cpl == 3 || (selector & 3u) != cpl) {
            return x86_gp0(cpu);
        }
        *ret_raw = 0;
        return X86_OK;
    }
    int r = x86_check_stack_desc(cpu, selector, cpl, EXC_GP, 0, ret_raw);
    return r ? r : x86_desc_set_accessed(cpu, selector, ret_raw);
}

static bool return_rip_valid(uint64_t raw_cs, bool to64, uint64_t rip)
{
    return to64 ? x86_canonical(rip) : (uint32_t)rip <= x86_desc_limit(raw_cs);
}

static int iret_protected(struct x86_cpu *cpu, unsigned size)
{
    struct x86_stack stack;
    uint64_t rip, cs, flags, rsp = 0, ss = 0, raw_cs, raw_ss = 0;
    bool from64 = x86_code64(cpu);

    x86_stack_current(cpu, &stack);
    int r = x86_stack_pop(cpu, &stack, size, &rip);
    r = r ? r : x86_stack_pop(cpu, &stack, size, &cs);
    r = r ? r : x86_stack_pop(cpu, &stack, size, &flags);
    if (r) {
        return r;
    }
    cs = (uint16_t)cs;
    if (size == 4 && flags & FLAG_VM && cpu->cpl == 0 && !x86_long_mode(cpu)) {
        return iret_to_v86(cpu, &stack, rip, cs, flags);
    }
    r = check_return_cs(cpu, (uint16_t)cs, &raw_cs);
    if (r) {
        return r;
    }
    unsigned cpl = cs & 3;
    bool outer = cpl > cpu->cpl;
    bool to64 = x86_long_mode(cpu) && x86_desc_attr(raw_cs) & SEG_ATTR_L;
    bool with_stack = outer || from64;
    if (with_stack) {
        r = x86_stack_pop(cpu, &stack, size, &rsp);
        r = r ? r : x86_stack_pop(cpu, &stack, size, &ss);
        r = r ? r : check_return_ss(cpu, (uint16_t)ss, cpl, to64, &raw_ss);
    }
    if (!r && !return_rip_valid(raw_cs, to64, rip)) {
        r = x86_gp0(cpu);
    }
    if (r) {
        return r;
    }

    uint64_t old = cpu->rflags;
    cpu->rflags = returned_flags(cpu, size, flags, cpu->cpl); /* privilege before the return */
    x86_seg_from_desc(&cpu->seg[SEG_CS], (uint16_t)cs, raw_cs);
    if (to64) {
        cpu->seg[SEG_CS].base = 0;
    }
    cpu->cpl = (uint8_t)cpl;
    if (!with_stack) {
        x86_stack_commit(cpu, &stack);
    } else if (raw_ss) {
        x86_seg_from_desc(&cpu->seg[SEG_SS], (uint16_t)ss, raw_ss);
    } else {
        cpu->seg[SEG_SS] = (struct x86_seg){.sel = (uint16_t)ss, .attr = SEG_ATTR_UNUSABLE | cpl << 5};
    }
    if (outer) {
        x86_drop_inner_segments(cpu);
    }
    x86_update_mode(cpu);
    if (with_stack) {
        if (to64) {
            cpu->gpr[IR_RSP] = rsp;
        } else {
            stack.sp = rsp;
            stack.mask = cpu->mode & MODE_SS32 ? UINT32_MAX : 0xffff;
            x86_stack_commit(cpu, &stack);
        }
    }
    if (cpu->rflags & ~old & FLAG_IF) {
        x86_irq_recheck(cpu);
    }
    x86_set_rip(cpu, rip);
    return X86_JUMP;
}

/* The common case: 64-bit frame in one read. False: take the general path (which also raises what is to be raised). */
static bool iret_long_fast(struct x86_cpu *cpu)
{
    uint64_t frame[5], raw_cs, raw_ss;
    const struct {
        uint64_t gdt;
        uint32_t limit;
    } table = {cpu->gdtr.base, cpu->gdtr.limit};
    const uint64_t *host = mmu_host(cpu, cpu->gpr[IR_RSP], sizeof(frame), MMU_READ);
    if (!host) {
        return false;
    }
    memcpy(frame, host, sizeof(frame));
    uint16_t cs = (uint16_t)frame[1], ss = (uint16_t)frame[4];
    unsigned cpl = cs & 3;
    /* GDT selectors, equal privilege in CS and SS, to the same or to user privilege */
    if ((cs | ss) & 4 || (ss & 3u) != cpl || cpl < cpu->cpl || cs < 8 || (cs | 7u) > table.limit ||
        (ss | 7u) > table.limit || !x86_canonical(frame[0])) {
        return false;
    }
    if (mmu_read_sys(cpu, table.gdt + (cs & 0xfff8), 8, &raw_cs)) {
        cpu->exc.pending = false;
        return false;
    }
    uint32_t attr = x86_desc_attr(raw_cs);
    if ((attr & 0x60ff) !=
        (0x209b | cpl << 5)) { /* present, accessed, readable, non-conforming 64-bit code */
        return false;
    }
    if (ss >= 8) {
        if (mmu_read_sys(cpu, table.gdt + (ss & 0xfff8), 8, &raw_ss)) {
            cpu->exc.pending = false;
            return false;
        }
        if ((x86_desc_attr(raw_ss) & 0xff) != (0x93 | cpl << 5)) {
            return false;
        }
        x86_seg_from_desc(&cpu->seg[SEG_SS], ss, raw_ss);
    } else if (cpl == 3) {
        return false;
    } else {
        cpu->seg[SEG_SS] = (struct x86_seg){.sel = ss, .attr = SEG_ATTR_UNUSABLE | cpl << 5};
    }
    uint64_t old = cpu->rflags;
    cpu->rflags = returned_flags(cpu, 8, frame[2], cpu->cpl);
    cpu->gpr[IR_RSP] = frame[3];
    x86_seg_from_desc(&cpu->seg[SEG_CS], cs, raw_cs);
    cpu->seg[SEG_CS].base = 0;
    if (cpl > cpu->cpl) {
        cpu->cpl = (uint8_t)cpl;
        x86_drop_inner_segments(cpu);
    }
    x86_update_mode(cpu);
    if (cpu->rflags & ~old & FLAG_IF) {
        x86_irq_recheck(cpu);
    }
    x86_set_rip(cpu, frame[0]);
    return true;
}

X86_SYS_HANDLER(iret)
{
    if (cpu->nmi_blocked) {
        x86_unblock_nmi(cpu);
    }
    if (!x86_protected(cpu)) {
        return iret_real(cpu, op->size);
    }
    if (cpu->rflags & FLAG_NT) {
        if (x86_long_mode(cpu)) {
            return x86_gp0(cpu);
        }
        uint16_t link;
        uint64_t raw;
        int r = mmu_read_sys(cpu, cpu->seg[SEG_TR].base, 2, &link);
        r = r ? r : x86_desc_read(cpu, link, EXC_TS, 0, &raw);
        return r ? r : x86_task_switch(cpu, link, raw, TASK_IRET, cpu->next_rip, NULL);
    }
    if (op->size == 8 && iret_long_fast(cpu)) {
        return X86_JUMP;
    }
    return iret_protected(cpu, op->size);
}
