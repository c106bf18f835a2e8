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

/* Whether the TSS's redirection bitmap leaves INT n to the program in virtual-8086 mode: a clear bit (SDM 3A 20.3.3). */
static int redirected(struct x86_cpu *cpu, uint8_t vector, bool *ret_redirected)
{
    const struct x86_seg *tr = &cpu->seg[SEG_TR];
    uint16_t map;
    uint8_t bits;
    *ret_redirected = false;
    if ((tr->attr & SEG_ATTR_TYPE) < SYSTEM_TSS32) {
        return X86_OK;
    }
    int r = mmu_read_sys(cpu, (uint32_t)(tr->base + TSS32_IO_MAP), 2, &map);
    if (r) {
        return r;
    }
    uint32_t offset = map - 32u + vector / 8;
    if (offset > tr->limit) {
        return x86_gp0(cpu);
    }
    r = mmu_read_sys(cpu, (uint32_t)(tr->base + offset), 1, &bits);
    *ret_redirected = !r && !(bits >> vector % 8 & 1);
    return r;
}

/* INT n to the program's own handler, by the interrupt table at 0. */
static int int_within_v86(struct x86_cpu *cpu, uint8_t vector)
{
    struct x86_stack stack;
    uint32_t handler;
    int r = mmu_read(cpu, vector * 4u, 4, &handler);
    x86_stack_current(cpu, &stack);
    r = r ? r : x86_stack_push(cpu, &stack, 2, x86_v86_flags_image(cpu));
    r = r ? r : x86_stack_push(cpu, &stack, 2, cpu->seg[SEG_CS].sel);
    r = r ? r : x86_stack_push(cpu, &stack, 2, cpu->next_rip);
    if (r) {
        return r;
    }
    x86_stack_commit(cpu, &stack);
    cpu->rflags &= ~(uint64_t)(FLAG_TF | FLAG_NT | FLAG_RF | (x86_iopl(cpu) < 3 ? FLAG_VIF : FLAG_IF));
    x86_seg_real(cpu, SEG_CS, (uint16_t)(handler >> 16));
    cpu->step = false;
    x86_update_mode(cpu);
    x86_set_rip(cpu, handler & 0xffff);
    return X86_JUMP;
}

/* INT n (not INT3) in virtual-8086 mode: X86_OK when it goes through the IDT. */
static int int_v86(struct x86_cpu *cpu, uint8_t vector)
{
    if (cpu->cr4 & CR4_VME) {
        bool own;
        int r = redirected(cpu, vector, &own);
        if (r || own) {
            return r ? r : int_within_v86(cpu, vector);
        }
    }
    return x86_iopl(cpu) < 3 ? x86_gp0(cpu) : X86_OK;
}

X86_SYS_HANDLER(int_n)
{
    if (op->sub == X86_SYS_INT && x86_v86_mode(cpu)) {
        int r = int_v86(cpu, (uint8_t)op->imm);
        if (r) {
            return r;
        }
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
