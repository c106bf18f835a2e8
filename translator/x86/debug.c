/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hardware breakpoints (SDM 3B 17.2): DR7 enables up to four addresses.
 *
 * While any is enabled the vCPU runs one instruction at a time in the interpreter (x86_run()), which checks the
 * address of each instruction before it and collects the data accesses that match; generated code knows nothing of
 * them. Systems load DR7 only for the threads that are being watched, so nobody else pays.
 */
#include "translator/x86/debug.h"

#include "translator/x86/sys_internal.h"

enum breakpoint_kind { BREAK_EXECUTE, BREAK_WRITE, BREAK_IO, BREAK_ACCESS };

static bool enabled(const struct x86_cpu *cpu, unsigned i)
{
    return cpu->dr[7] >> i * 2 & 3;
}

static enum breakpoint_kind kind(const struct x86_cpu *cpu, unsigned i)
{
    return (enum breakpoint_kind)(cpu->dr[7] >> (16 + i * 4) & 3);
}

/* True if [first, first + size) touches the breakpoint's aligned range. */
static bool touches(const struct x86_cpu *cpu, unsigned i, uint64_t first, unsigned size)
{
    static const uint8_t lengths[] = {1, 2, 8, 4};
    uint64_t length = lengths[cpu->dr[7] >> (18 + i * 4) & 3], start = cpu->dr[i] & ~(length - 1);
    return first < start + length && start < first + size;
}

void x86_debug_changed(struct x86_cpu *cpu)
{
    bool active = cpu->dr[7] & 0xff;
    if (active && !cpu->debug_active) {
        engine_request(cpu, X86_REQ_IRQ); /* out of generated code */
    }
    if (!active) {
        cpu->rflags &= ~(uint64_t)FLAG_RF; /* kept only for instruction breakpoints */
        cpu->debug_hits = 0;
    }
    cpu->debug_active = active;
}

void x86_debug_access(struct x86_cpu *cpu, gva_t la, unsigned size, bool write)
{
    for (unsigned i = 0; i < 4; i++) {
        bool watched = kind(cpu, i) == BREAK_ACCESS || (write && kind(cpu, i) == BREAK_WRITE);
        if (enabled(cpu, i) && watched && touches(cpu, i, la, size)) {
            cpu->debug_hits |= (uint8_t)(1u << i);
        }
    }
}

void x86_debug_io(struct x86_cpu *cpu, unsigned port, unsigned size)
{
    for (unsigned i = 0; i < 4 && cpu->cr4 & CR4_DE; i++) {
        if (enabled(cpu, i) && kind(cpu, i) == BREAK_IO && touches(cpu, i, port, size)) {
            cpu->debug_hits |= (uint8_t)(1u << i);
        }
    }
}

static unsigned instruction_hits(const struct x86_cpu *cpu)
{
    uint64_t la = cpu->rip + cpu->seg[SEG_CS].base;
    unsigned hits = 0;
    if (!x86_code64(cpu)) {
        la = (uint32_t)la;
    }
    for (unsigned i = 0; i < 4; i++) {
        if (enabled(cpu, i) && kind(cpu, i) == BREAK_EXECUTE && cpu->dr[i] == la) {
            hits |= 1u << i;
        }
    }
    return hits;
}

int x86_debug_step(struct x86_cpu *cpu)
{
    bool held = cpu->rflags & FLAG_RF || cpu->interrupt_shadow == SHADOW_MOV_SS;
    unsigned hits = held ? 0 : instruction_hits(cpu);
    if (hits) {
        x86_raise(cpu, EXC_DB);
        cpu->exc.cr2 = hits;
        return X86_RAISE;
    }
    cpu->rflags &= ~(uint64_t)FLAG_RF; /* of a fault it is pushed set all the same */
    int r = engine_step(cpu);
    if (r == X86_RAISE) {
        cpu->debug_hits = 0; /* the instruction did not complete */
    }
    return r;
}
