/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Event delivery in IA-32e mode (SDM 3A 6.14): 64-bit gates, IST and RSPn from the 64-bit TSS, one 40- or 48-byte
 * frame on an aligned stack. Nothing of the vCPU changes before the frame has been written.
 */
#include "translator/x86/sys_internal.h"

#define GATE_BYTES  16
#define TSS64_RSP0  4
#define TSS64_IST1  36
#define TSS64_TYPES (1u << SYSTEM_TSS32 | 1u << SYSTEM_TSS32_BUSY)

int x86_tss_stack64(struct x86_cpu *cpu, unsigned offset, unsigned ext, uint64_t *ret_rsp)
{
    const struct x86_seg *tr = &cpu->seg[SEG_TR];
    if (offset + 7 > tr->limit) {
        return x86_raise_error(cpu, EXC_TS, (tr->sel & 0xfffcu) | ext);
    }
    return mmu_read_sys(cpu, tr->base + offset, 8, ret_rsp);
}

struct long_gate {
    uint16_t selector;
    uint8_t ist;
    bool interrupt; /* clears IF; a trap gate does not */
    uint64_t offset;
};

static int read_gate(struct x86_cpu *cpu, const struct x86_event *event, struct long_gate *ret_gate)
{
    uint32_t offset = event->vector * GATE_BYTES;
    uint32_t error = event->vector * 8u + 2 + event->ext;
    uint64_t raw[2];

    if (offset + GATE_BYTES - 1 > cpu->idtr.limit) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    int r = mmu_read_sys(cpu, cpu->idtr.base + offset, GATE_BYTES, raw);
    if (r) {
        return r;
    }
    uint32_t attr = x86_desc_attr(raw[0]);
    unsigned type = attr & (SEG_ATTR_S | SEG_ATTR_TYPE);
    if (type != SYSTEM_INT32 && type != SYSTEM_TRAP32) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    if (event->software && x86_attr_dpl(attr) < cpu->cpl) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    if (!(attr & SEG_ATTR_P)) {
        return x86_raise_error(cpu, EXC_NP, error);
    }
    *ret_gate = (struct long_gate){
        .selector = (uint16_t)(raw[0] >> 16),
        .ist = raw[0] >> 32 & 7,
        .interrupt = type == SYSTEM_INT32,
        .offset = (raw[0] & 0xffff) | (raw[0] >> 32 & 0xffff0000) | raw[1] << 32,
    };
    return X86_OK;
}

/* Checks the handler's code segment; *ret_cpl is the privilege that it runs with. */
static int check_handler(struct x86_cpu *cpu, uint16_t selector, unsigned ext, uint64_t *ret_raw,
                         unsigned *ret_cpl)
{
    uint64_t raw;
    uint32_t error = (selector & 0xfffcu) | ext;
    if (x86_selector_null(selector)) {
        return x86_raise_error(cpu, EXC_GP, ext);
    }
    int r = x86_desc_read(cpu, selector, EXC_GP, ext, &raw);
    if (r) {
        return r;
    }
    uint32_t attr = x86_desc_attr(raw);
    unsigned dpl = x86_attr_dpl(attr);
    if (!x86_attr_is_code(attr) || dpl > cpu->cpl) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    if (!(attr & SEG_ATTR_P)) {
        return x86_raise_error(cpu, EXC_NP, error);
    }
    if ((attr & (SEG_ATTR_L | SEG_ATTR_DB)) != SEG_ATTR_L) {
        return x86_raise_error(cpu, EXC_GP, error);
    }
    *ret_raw = raw;
    *ret_cpl = attr & SEG_TYPE_CONFORMING ? cpu->cpl : dpl;
    return X86_OK;
}

int x86_event_long(struct x86_cpu *cpu, const struct x86_event *event)
{
    struct long_gate gate;
    uint64_t raw, rsp = cpu->gpr[IR_RSP];
    unsigned cpl;

    int r = read_gate(cpu, event, &gate);
    if (!r) {
        r = check_handler(cpu, gate.selector, event->ext, &raw, &cpl);
    }
    if (r) {
        return r;
    }
    bool inner = cpl < cpu->cpl;
    if (gate.ist) {
        r = x86_tss_stack64(cpu, TSS64_IST1 + (gate.ist - 1u) * 8, event->ext, &rsp);
    } else if (inner) {
        r = x86_tss_stack64(cpu, TSS64_RSP0 + cpl * 8, event->ext, &rsp);
    }
    if (r) {
        return r;
    }

    unsigned words = event->has_error ? 6 : 5;
    uint64_t frame[6] = {event->error,  event->return_rip, cpu->seg[SEG_CS].sel,
                         event->rflags, cpu->gpr[IR_RSP],  cpu->seg[SEG_SS].sel};
    rsp = (rsp & ~UINT64_C(15)) - words * 8;
    if (!x86_canonical(rsp) || !x86_canonical(rsp + words * 8 - 1)) {
        return x86_raise_error(cpu, EXC_SS, event->ext);
    }
    r = mmu_write_as(cpu, cpl, rsp, words * 8, &frame[6 - words]);
    if (!r) {
        r = x86_desc_set_accessed(cpu, gate.selector, &raw);
    }
    if (!r && !x86_canonical(gate.offset)) {
        r = x86_raise_error(cpu, EXC_GP, event->ext);
    }
    if (r) {
        return r;
    }

    x86_seg_from_desc(&cpu->seg[SEG_CS], (uint16_t)((gate.selector & ~3u) | cpl), raw);
    cpu->seg[SEG_CS].base = 0;
    if (inner) {
        cpu->seg[SEG_SS] = (struct x86_seg){.sel = (uint16_t)cpl, .attr = SEG_ATTR_UNUSABLE | cpl << 5};
        cpu->cpl = (uint8_t)cpl;
    }
    cpu->gpr[IR_RSP] = rsp;
    uint64_t cleared = FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM | (gate.interrupt ? FLAG_IF : 0);
    cpu->rflags &= ~cleared;
    cpu->step = false;
    x86_update_mode(cpu);
    x86_set_rip(cpu, gate.offset);
    return X86_JUMP;
}
