/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments: descriptor look-up and the loads of data, stack and LDT registers (SDM 3A chapter 5, SDM 2B MOV).
 *
 * Order of checks as in the instruction pages: null, table limit, privilege and type, present. A failed load changes
 * nothing.
 */
#include "translator/x86/sys_internal.h"

static int desc_address(struct x86_cpu *cpu, uint16_t selector, unsigned size, enum x86_vector vector,
                        unsigned ext, gva_t *ret_la)
{
    uint32_t offset = selector & 0xfff8;
    uint64_t base;
    uint32_t limit;
    bool usable = true;
    if (selector & 4) {
        const struct x86_seg *ldt = &cpu->seg[SEG_LDTR];
        usable = !(ldt->attr & SEG_ATTR_UNUSABLE);
        base = ldt->base;
        limit = ldt->limit;
    } else {
        base = cpu->gdtr.base;
        limit = cpu->gdtr.limit;
    }
    if (!usable || offset + size - 1 > limit) {
        return x86_raise_error(cpu, vector, (selector & 0xfffcu) | ext);
    }
    *ret_la = x86_long_mode(cpu) ? base + offset : (uint32_t)(base + offset);
    return X86_OK;
}

int x86_desc_read(struct x86_cpu *cpu, uint16_t selector, enum x86_vector vector, unsigned ext,
                  uint64_t *ret_raw)
{
    gva_t la;
    int r = desc_address(cpu, selector, 8, vector, ext, &la);
    return r ? r : mmu_read_sys(cpu, la, 8, ret_raw);
}

int x86_desc_read_high(struct x86_cpu *cpu, uint16_t selector, enum x86_vector vector, unsigned ext,
                       uint64_t *ret_raw)
{
    gva_t la;
    int r = desc_address(cpu, selector, 16, vector, ext, &la);
    return r ? r : mmu_read_sys(cpu, la + 8, 8, ret_raw);
}

/* Writes the access-rights byte of a descriptor, as the processor does: one byte. */
static int desc_write_rights(struct x86_cpu *cpu, uint16_t selector, uint8_t rights)
{
    gva_t la;
    int r = desc_address(cpu, selector, 8, EXC_GP, 0, &la);
    return r ? r : mmu_write_sys(cpu, la + 5, 1, &rights);
}

int x86_desc_set_accessed(struct x86_cpu *cpu, uint16_t selector, uint64_t *raw)
{
    uint64_t accessed = (uint64_t)SEG_TYPE_ACCESSED << 40;
    if (*raw & accessed) {
        return X86_OK;
    }
    int r = desc_write_rights(cpu, selector, (uint8_t)((*raw | accessed) >> 40));
    if (!r) {
        *raw |= accessed;
    }
    return r;
}

int x86_desc_set_busy(struct x86_cpu *cpu, uint16_t selector, bool busy)
{
    uint64_t raw;
    int r = x86_desc_read(cpu, selector, EXC_GP, 0, &raw);
    uint8_t rights = (uint8_t)(raw >> 40);
    return r ? r : desc_write_rights(cpu, selector, busy ? rights | 2 : rights & ~2);
}

void x86_seg_from_desc(struct x86_seg *seg, uint16_t selector, uint64_t raw)
{
    *seg = (struct x86_seg){.sel = selector,
                            .base = x86_desc_base(raw),
                            .limit = x86_desc_limit(raw),
                            .attr = x86_desc_attr(raw)};
}

void x86_seg_real(struct x86_cpu *cpu, enum x86_seg_reg reg, uint16_t selector)
{
    struct x86_seg *seg = &cpu->seg[reg];
    seg->sel = selector;
    seg->base = (uint32_t)selector << 4;
    if (cpu->rflags & FLAG_VM) {
        seg->limit = 0xffff;
        seg->attr = 0xf3;
    } else if (reg == SEG_CS) {
        /* Limit and size stay (unreal mode); a CS that is written to in real mode must be usable as data. */
        seg->attr =
            (seg->attr & ~(SEG_ATTR_UNUSABLE | SEG_ATTR_TYPE | SEG_ATTR_DPL)) | SEG_ATTR_P | SEG_ATTR_S | 0xb;
    } else {
        seg->attr =
            (seg->attr & ~(SEG_ATTR_UNUSABLE | SEG_ATTR_TYPE | SEG_ATTR_DPL)) | SEG_ATTR_P | SEG_ATTR_S | 0x3;
    }
}

static void seg_set_null(struct x86_seg *seg, uint16_t selector)
{
    *seg = (struct x86_seg){.sel = selector, .attr = SEG_ATTR_UNUSABLE};
}

int x86_check_stack_desc(struct x86_cpu *cpu, uint16_t selector, unsigned cpl, enum x86_vector vector,
                         unsigned ext, uint64_t *ret_raw)
{
    uint64_t raw;
    uint32_t error = (selector & 0xfffcu) | ext;
    int r = x86_desc_read(cpu, selector, vector, ext, &raw);
    if (r) {
        return r;
    }
    uint32_t attr = x86_desc_attr(raw);
    if ((selector & 3u) != cpl || !x86_attr_is_writable(attr) || x86_attr_dpl(attr) != cpl) {
        return x86_raise_error(cpu, vector, error);
    }
    if (!(attr & SEG_ATTR_P)) {
        return x86_raise_error(cpu, EXC_SS, error);
    }
    *ret_raw = raw;
    return X86_OK;
}

static int load_stack_segment(struct x86_cpu *cpu, uint16_t selector)
{
    uint64_t raw;
    if (x86_selector_null(selector)) {
        if (!x86_code64(cpu) || cpu->cpl == 3 || (selector & 3) != cpu->cpl) {
            return x86_gp0(cpu);
        }
        seg_set_null(&cpu->seg[SEG_SS], selector);
        cpu->seg[SEG_SS].attr |= (uint32_t)cpu->cpl << 5;
        return X86_OK;
    }
    int r = x86_check_stack_desc(cpu, selector, cpu->cpl, EXC_GP, 0, &raw);
    if (!r) {
        r = x86_desc_set_accessed(cpu, selector, &raw);
    }
    if (!r) {
        x86_seg_from_desc(&cpu->seg[SEG_SS], selector, raw);
    }
    return r;
}

static int load_data_segment(struct x86_cpu *cpu, enum x86_seg_reg reg, uint16_t selector)
{
    uint64_t raw;
    if (x86_selector_null(selector)) {
        seg_set_null(&cpu->seg[reg], selector);
        return X86_OK;
    }
    int r = x86_desc_read(cpu, selector, EXC_GP, 0, &raw);
    if (r) {
        return r;
    }
    uint32_t attr = x86_desc_attr(raw);
    unsigned rpl = selector & 3, dpl = x86_attr_dpl(attr);
    bool code = x86_attr_is_code(attr);
    bool readable = x86_attr_is_data(attr) || (code && attr & SEG_TYPE_READABLE);
    bool conforming = code && attr & SEG_TYPE_CONFORMING;
    if (!readable || (!conforming && (rpl > dpl || cpu->cpl > dpl))) {
        return x86_raise_error(cpu, EXC_GP, selector & 0xfffcu);
    }
    if (!(attr & SEG_ATTR_P)) {
        return x86_raise_error(cpu, EXC_NP, selector & 0xfffcu);
    }
    r = x86_desc_set_accessed(cpu, selector, &raw);
    if (!r) {
        x86_seg_from_desc(&cpu->seg[reg], selector, raw);
    }
    return r;
}

int x86_load_segment(struct x86_cpu *cpu, enum x86_seg_reg reg, uint16_t selector)
{
    if (!x86_protected(cpu)) {
        x86_seg_real(cpu, reg, selector);
        return X86_OK;
    }
    return reg == SEG_SS ? load_stack_segment(cpu, selector) : load_data_segment(cpu, reg, selector);
}

void x86_drop_inner_segments(struct x86_cpu *cpu)
{
    static const enum x86_seg_reg regs[] = {SEG_ES, SEG_FS, SEG_GS, SEG_DS};
    for (unsigned i = 0; i < ARRAY_LEN(regs); i++) {
        struct x86_seg *seg = &cpu->seg[regs[i]];
        bool conforming = x86_attr_is_code(seg->attr) && seg->attr & SEG_TYPE_CONFORMING;
        if (!(seg->attr & SEG_ATTR_UNUSABLE) && !conforming && x86_attr_dpl(seg->attr) < cpu->cpl) {
            seg->sel = 0;
            seg->attr |= SEG_ATTR_UNUSABLE; /* the base stays, as for FS and GS in 64-bit mode */
        }
    }
}

int x86_load_ldt(struct x86_cpu *cpu, uint16_t selector, enum x86_vector vector)
{
    uint64_t raw, high = 0;
    struct x86_seg *ldt = &cpu->seg[SEG_LDTR];
    if (x86_selector_null(selector)) {
        seg_set_null(ldt, selector);
        return X86_OK;
    }
    uint32_t error = selector & 0xfffcu;
    if (selector & 4) {
        return x86_raise_error(cpu, vector, error);
    }
    int r = x86_desc_read(cpu, selector, vector, 0, &raw);
    if (!r && x86_long_mode(cpu)) {
        r = x86_desc_read_high(cpu, selector, vector, 0, &high);
    }
    if (r) {
        return r;
    }
    uint32_t attr = x86_desc_attr(raw);
    if ((attr & (SEG_ATTR_S | SEG_ATTR_TYPE)) != SYSTEM_LDT || high >> 40 & 0x1f) {
        return x86_raise_error(cpu, vector, error);
    }
    if (!(attr & SEG_ATTR_P)) {
        return x86_raise_error(cpu, vector == EXC_TS ? EXC_TS : EXC_NP, error);
    }
    uint64_t base = x86_desc_base(raw) | high << 32;
    if (!x86_canonical(base)) {
        return x86_raise_error(cpu, vector, error);
    }
    x86_seg_from_desc(ldt, selector, raw);
    ldt->base = base;
    return X86_OK;
}

int x86_seg_address(struct x86_cpu *cpu, enum x86_seg_reg reg, uint64_t offset, unsigned size, bool write,
                    gva_t *ret_la)
{
    const struct x86_seg *seg = &cpu->seg[reg];
    if (x86_code64(cpu)) {
        gva_t la = offset + (reg == SEG_FS || reg == SEG_GS ? seg->base : 0);
        if (!x86_canonical(la) || !x86_canonical(la + size - 1)) {
            return x86_raise_error(cpu, reg == SEG_SS ? EXC_SS : EXC_GP, 0);
        }
        *ret_la = la;
        return X86_OK;
    }
    uint32_t start = (uint32_t)offset, last = start + size - 1;
    bool code = x86_attr_is_code(seg->attr);
    bool allowed = !(seg->attr & SEG_ATTR_UNUSABLE);
    if (x86_protected(cpu)) {
        allowed =
            allowed && (write ? x86_attr_is_writable(seg->attr) : !code || seg->attr & SEG_TYPE_READABLE);
    }
    bool inside = last >= start && last <= seg->limit;
    if (!code && seg->attr & SEG_TYPE_DOWN) {
        inside =
            last >= start && start > seg->limit && last <= (seg->attr & SEG_ATTR_DB ? UINT32_MAX : 0xffff);
    }
    if (!allowed || !inside) {
        return x86_raise_error(cpu, reg == SEG_SS ? EXC_SS : EXC_GP, 0);
    }
    *ret_la = (uint32_t)(seg->base + start);
    return X86_OK;
}
