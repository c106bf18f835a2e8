/* SPDX-License-Identifier: Apache-2.0 */
/* Software interrupts: INT n, INT3, INTO, INT1, BOUND (SDM 2A INT n). */
#include "translator/x86/sys_internal.h"

/* Raises a software event; its return address is the next instruction, a fault's is this one. */
static int software(struct x86_cpu *cpu, uint8_t vector, bool check_dpl)
{
    struct x86_event event = {
        .vector = vector,
        .software = check_dpl,
        .ext = !check_dpl,
        .return_rip = cpu->next_rip,
        .rflags = cpu->rflags,
    };
    return x86_event_enter(cpu, &event);
}

X86_SYS_HANDLER(int_n)
{
    /* INT n (not INT3) is IOPL-sensitive in virtual-8086 mode. */
    if (op->sub == X86_SYS_INT && x86_v86_mode(cpu) && x86_iopl(cpu) < 3) {
        return x86_gp0(cpu);
    }
    return software(cpu, op->sub == X86_SYS_INT3 ? EXC_BP : (uint8_t)op->imm, true);
}

X86_SYS_HANDLER(into)
{
    if (x86_code64(cpu)) {
        return x86_raise(cpu, EXC_UD);
    }
    return cpu->rflags & FLAG_OF ? software(cpu, EXC_OF, true) : X86_OK;
}

X86_SYS_HANDLER(int1)
{
    cpu->dr[6] |= cpu->debug_hits; /* what MOV SS held back comes with it */
    cpu->debug_hits = 0;
    return software(cpu, EXC_DB, false);
}

X86_SYS_HANDLER(bound)
{
    if (x86_code64(cpu)) {
        return x86_raise(cpu, EXC_UD);
    }
    unsigned size = op->size;
    int64_t index, lower, upper;
    uint64_t bounds = 0;
    int r = x86_align_check(cpu, cpu->ea, size);
    r = r ? r : mmu_read(cpu, cpu->ea, size * 2, &bounds);
    if (r) {
        return r;
    }
    if (size == 2) {
        index = (int16_t)x86_read_reg(cpu, op->dst, 2);
        lower = (int16_t)bounds;
        upper = (int16_t)(bounds >> 16);
    } else {
        index = (int32_t)x86_read_reg(cpu, op->dst, 4);
        lower = (int32_t)bounds;
        upper = (int32_t)(bounds >> 32);
    }
    return index < lower || index > upper ? x86_raise(cpu, EXC_BR) : X86_OK;
}
