/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptor-table registers and descriptor queries: LGDT…SIDT, LLDT, LTR, SLDT, STR, LAR, LSL, VERR, VERW, ARPL. */
#include "translator/x86/sys_internal.h"

static bool umip_forbids(const struct x86_cpu *cpu)
{
    return cpu->cpl && cpu->cr4 & CR4_UMIP;
}

X86_SYS_HANDLER(load_table)
{
    uint8_t raw[10] = {0};
    bool code64 = x86_code64(cpu);
    struct x86_table table;

    if (cpu->cpl) {
        return x86_gp0(cpu);
    }
    int r = mmu_read(cpu, cpu->ea, code64 ? 10 : 6, raw);
    if (r) {
        return r;
    }
    table.base = 0;
    memcpy(&table.limit, raw, 2);
    memcpy(&table.base, raw + 2, code64 ? 8 : 4);
    if (op->size == 2) {
        table.base &= 0xffffff;
    }
    if (code64 && !x86_canonical(table.base)) {
        return x86_gp0(cpu);
    }
    *(op->sub == X86_SYS_LGDT ? &cpu->gdtr : &cpu->idtr) = table;
    return X86_OK;
}

X86_SYS_HANDLER(store_table)
{
    const struct x86_table *table = op->sub == X86_SYS_SGDT ? &cpu->gdtr : &cpu->idtr;
    uint8_t raw[10];
    if (umip_forbids(cpu)) {
        return x86_gp0(cpu);
    }
    memcpy(raw, &table->limit, 2);
    memcpy(raw + 2, &table->base, 8);
    return mmu_write(cpu, cpu->ea, x86_code64(cpu) ? 10 : 6, raw);
}

X86_SYS_HANDLER(lldt)
{
    uint64_t selector;
    if (!x86_protected(cpu)) {
        return x86_raise(cpu, EXC_UD);
    }
    if (cpu->cpl) {
        return x86_gp0(cpu);
    }
    int r = x86_sys_read(cpu, op, 2, &selector);
    return r ? r : x86_load_ldt(cpu, (uint16_t)selector, EXC_GP);
}

static int load_task_register(struct x86_cpu *cpu, uint16_t selector)
{
    uint64_t raw, high = 0;
    uint32_t error = selector & 0xfffcu;
    bool lma = x86_long_mode(cpu);
    if (x86_selector_null(selector)) {
        return x86_gp0(cpu);
    }
    if (selector & 4) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    int r = x86_desc_read(cpu, selector, EXC_GP, 0, &raw);
    if (!r && lma) {
        r = x86_desc_read_high(cpu, selector, EXC_GP, 0, &high);
    }
    if (r) {
        return r;
    }
    uint32_t attr = x86_desc_attr(raw);
    unsigned type = attr & (SEG_ATTR_S | SEG_ATTR_TYPE);
    if ((type != SYSTEM_TSS32 && (lma || type != SYSTEM_TSS16)) || high >> 40 & 0x1f) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    if (!(attr & SEG_ATTR_P)) {
        return x86_raise_error(cpu, EXC_NP, error);
    }
    uint64_t base = x86_desc_base(raw) | high << 32;
    if (!x86_canonical(base)) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    r = x86_desc_set_busy(cpu, selector, true);
    if (r) {
        return r;
    }
    struct x86_seg *tr = &cpu->seg[SEG_TR];
    x86_seg_from_desc(tr, selector, raw);
    tr->base = base;
    tr->attr |= 2; /* busy */
    return X86_OK;
}

X86_SYS_HANDLER(ltr)
{
    uint64_t selector;
    if (!x86_protected(cpu)) {
        return x86_raise(cpu, EXC_UD);
    }
    if (cpu->cpl) {
        return x86_gp0(cpu);
    }
    int r = x86_sys_read(cpu, op, 2, &selector);
    return r ? r : load_task_register(cpu, (uint16_t)selector);
}

X86_SYS_HANDLER(store_system_selector)
{
    if (!x86_protected(cpu)) {
        return x86_raise(cpu, EXC_UD);
    }
    if (umip_forbids(cpu)) {
        return x86_gp0(cpu);
    }
    return x86_sys_write(cpu, op, op->size, 2, cpu->seg[op->sub == X86_SYS_SLDT ? SEG_LDTR : SEG_TR].sel);
}

/* --- queries: they answer in ZF and never fault on a bad selector ------------------------------------------- */

static int set_zf(struct x86_cpu *cpu, bool zf)
{
    cpu->rflags = zf ? cpu->rflags | FLAG_ZF : cpu->rflags & ~(uint64_t)FLAG_ZF;
    return X86_OK;
}

/* Descriptor for a query: false when the selector is null or beyond its table. *ret is X86_RAISE on a page fault. */
static bool query_descriptor(struct x86_cpu *cpu, uint16_t selector, uint64_t *ret_raw, int *ret)
{
    *ret = X86_OK;
    if (x86_selector_null(selector)) {
        return false;
    }
    if (x86_desc_read(cpu, selector, EXC_GP, 0, ret_raw) == X86_OK) {
        return true;
    }
    if (cpu->exc.vector == EXC_PF) {
        *ret = X86_RAISE;
    } else {
        cpu->exc.pending = false;
    }
    return false;
}

static bool query_privileged(const struct x86_cpu *cpu, uint16_t selector, uint32_t attr)
{
    unsigned dpl = x86_attr_dpl(attr);
    if (x86_attr_is_code(attr) && attr & SEG_TYPE_CONFORMING) {
        return true;
    }
    return dpl >= cpu->cpl && dpl >= (selector & 3u);
}

X86_SYS_HANDLER(lar_lsl)
{
    const unsigned long_lar =
        1u << SYSTEM_LDT | 1u << SYSTEM_TSS32 | 1u << SYSTEM_TSS32_BUSY | 1u << SYSTEM_CALL32;
    const unsigned long_lsl = 1u << SYSTEM_LDT | 1u << SYSTEM_TSS32 | 1u << SYSTEM_TSS32_BUSY;
    const unsigned both16 = 1u << SYSTEM_TSS16 | 1u << SYSTEM_TSS16_BUSY;
    const unsigned gates = 1u << SYSTEM_CALL16 | 1u << SYSTEM_TASK;
    uint64_t selector, raw;
    bool lar = op->sub == X86_SYS_LAR;
    int r;

    if (!x86_protected(cpu)) {
        return x86_raise(cpu, EXC_UD);
    }
    r = x86_sys_read(cpu, op, 2, &selector);
    if (r) {
        return r;
    }
    if (!query_descriptor(cpu, (uint16_t)selector, &raw, &r)) {
        return r ? r : set_zf(cpu, false);
    }
    uint32_t attr = x86_desc_attr(raw);
    unsigned valid = lar ? long_lar : long_lsl;
    if (!x86_long_mode(cpu)) {
        valid |= both16 | (lar ? gates : 0);
    }
    if ((!(attr & SEG_ATTR_S) && !(valid >> (attr & SEG_ATTR_TYPE) & 1)) ||
        !query_privileged(cpu, (uint16_t)selector, attr)) {
        return set_zf(cpu, false);
    }
    x86_write_reg(cpu, op->dst, op->size, lar ? raw >> 32 & 0x00ffff00 : x86_desc_limit(raw));
    return set_zf(cpu, true);
}

X86_SYS_HANDLER(verify)
{
    uint64_t selector, raw;
    int r;
    if (!x86_protected(cpu)) {
        return x86_raise(cpu, EXC_UD);
    }
    r = x86_sys_read(cpu, op, 2, &selector);
    if (r) {
        return r;
    }
    if (!query_descriptor(cpu, (uint16_t)selector, &raw, &r)) {
        return r ? r : set_zf(cpu, false);
    }
    uint32_t attr = x86_desc_attr(raw);
    bool type = op->sub == X86_SYS_VERW
                    ? x86_attr_is_writable(attr)
                    : x86_attr_is_data(attr) || (x86_attr_is_code(attr) && attr & SEG_TYPE_READABLE);
    return set_zf(cpu, type && query_privileged(cpu, (uint16_t)selector, attr));
}

X86_SYS_HANDLER(arpl)
{
    uint64_t dst = 0;
    if (!x86_protected(cpu)) {
        return x86_raise(cpu, EXC_UD);
    }
    unsigned rpl = cpu->gpr[op->src] & 3;
    int r = X86_OK;
    if (op->flags & IRF_DST_MEM) {
        r = x86_align_check(cpu, cpu->ea, 2);
        r = r ? r : mmu_read(cpu, cpu->ea, 2, &dst);
    } else {
        dst = x86_read_reg(cpu, op->dst, 2);
    }
    if (r) {
        return r;
    }
    if ((dst & 3) >= rpl) {
        return set_zf(cpu, false);
    }
    r = x86_sys_write(cpu, op, 2, 2, (dst & ~UINT64_C(3)) | rpl);
    return r ? r : set_zf(cpu, true);
}
