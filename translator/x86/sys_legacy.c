/* SPDX-License-Identifier: Apache-2.0 */
/* ENTER, PUSHA, POPA and decimal adjustment (SDM 2A/2B). */
#include "translator/x86/sys_internal.h"

X86_SYS_HANDLER(enter)
{
    struct x86_stack stack, frame;
    uint64_t value, frame_pointer;
    unsigned alloc = (unsigned)op->imm & 0xffff, level = (unsigned)(op->imm >> 16) & 31, size = op->size;

    x86_stack_current(cpu, &stack);
    int r = x86_stack_push(cpu, &stack, size, cpu->gpr[IR_RBP]);
    frame_pointer = stack.sp;
    frame = stack;
    frame.sp = cpu->gpr[IR_RBP];
    for (unsigned i = 1; !r && i < level; i++) {
        struct x86_stack from = frame;
        frame.sp -= size;
        from.sp = frame.sp;
        r = x86_stack_pop(cpu, &from, size, &value);
        r = r ? r : x86_stack_push(cpu, &stack, size, value);
    }
    if (level) {
        r = r ? r : x86_stack_push(cpu, &stack, size, frame_pointer);
    }
    stack.sp -= alloc;
    if (!r) {
        /* The final stack top must be writable (SDM: #PF/#SS if a write would cause it). */
        struct x86_stack top = stack;
        top.sp &= top.mask;
        gva_t la = top.code64 ? top.sp : (uint32_t)(top.ss->base + top.sp);
        r = x86_align_check(cpu, la, size);
        r = r ? r : mmu_probe(cpu, la, 1, MMU_WRITE);
    }
    if (r) {
        return r;
    }
    x86_stack_commit(cpu, &stack);
    /* With a 16-bit stack and 32-bit operands, EBP gets the upper half that ESP has. */
    x86_write_reg(cpu, IR_RBP, size, (cpu->gpr[IR_RSP] & ~stack.mask) | (frame_pointer & stack.mask));
    return X86_OK;
}

X86_SYS_HANDLER(pusha)
{
    struct x86_stack stack;
    int r = X86_OK;
    x86_stack_current(cpu, &stack);
    for (unsigned reg = IR_RAX; !r && reg <= IR_RDI; reg++) {
        r = x86_stack_push(cpu, &stack, op->size, cpu->gpr[reg]);
    }
    if (!r) {
        x86_stack_commit(cpu, &stack);
    }
    return r;
}

X86_SYS_HANDLER(popa)
{
    struct x86_stack stack;
    uint64_t values[8];
    int r = X86_OK;
    x86_stack_current(cpu, &stack);
    for (unsigned i = 8; !r && i-- > 0;) {
        r = x86_stack_pop(cpu, &stack, op->size, &values[i]);
    }
    if (r) {
        return r;
    }
    for (unsigned reg = IR_RAX; reg <= IR_RDI; reg++) {
        if (reg != IR_RSP) {
            x86_write_reg(cpu, reg, op->size, values[reg]);
        }
    }
    x86_stack_commit(cpu, &stack);
    return X86_OK;
}

/* --- decimal ------------------------------------------------------------------------------------------------ */

static void set_result_flags(struct x86_cpu *cpu, uint8_t value, bool carry, bool adjust)
{
    uint64_t flags = cpu->rflags & ~(uint64_t)FLAGS_ARITH;
    flags |= carry ? FLAG_CF : 0;
    flags |= adjust ? FLAG_AF : 0;
    flags |= value == 0 ? FLAG_ZF : 0;
    flags |= value & 0x80 ? FLAG_SF : 0;
    flags |= __builtin_parity(value) ? 0 : FLAG_PF;
    cpu->rflags = flags;
}

static void packed_adjust(struct x86_cpu *cpu, bool subtract)
{
    uint8_t old = (uint8_t)cpu->gpr[IR_RAX], al = old;
    bool old_carry = cpu->rflags & FLAG_CF, carry = false, adjust = false;
    if ((al & 0xf) > 9 || cpu->rflags & FLAG_AF) {
        carry = old_carry || (subtract ? al < 6 : al > 0xff - 6);
        al = (uint8_t)(subtract ? al - 6 : al + 6);
        adjust = true;
    }
    if (old > 0x99 || old_carry) {
        al = (uint8_t)(subtract ? al - 0x60 : al + 0x60);
        carry = true;
    }
    x86_write_reg(cpu, IR_RAX, 1, al);
    set_result_flags(cpu, al, carry, adjust);
}

static void ascii_adjust(struct x86_cpu *cpu, bool subtract)
{
    uint16_t ax = (uint16_t)cpu->gpr[IR_RAX];
    bool adjust = (ax & 0xf) > 9 || cpu->rflags & FLAG_AF;
    if (adjust) {
        ax = (uint16_t)(subtract ? ax - 0x106 : ax + 0x106);
    }
    ax &= 0xff0f;
    x86_write_reg(cpu, IR_RAX, 2, ax);
    set_result_flags(cpu, (uint8_t)ax, adjust, adjust);
}

/* Flags, those that are left open too, are an ADD's of 8 bits. */
static void adjust_division(struct x86_cpu *cpu, uint8_t a, uint8_t b)
{
    uint8_t sum = (uint8_t)(a + b);
    x86_write_reg(cpu, IR_RAX, 2, sum);
    set_result_flags(cpu, sum, sum < a, (a ^ b ^ sum) & 0x10);
    cpu->rflags |= (a ^ sum) & (b ^ sum) & 0x80 ? FLAG_OF : 0;
}

X86_SYS_HANDLER(decimal)
{
    uint8_t al = (uint8_t)cpu->gpr[IR_RAX], ah = (uint8_t)(cpu->gpr[IR_RAX] >> 8), base = (uint8_t)op->imm;
    switch (op->sub) {
    case X86_SYS_DAA:
    case X86_SYS_DAS:
        packed_adjust(cpu, op->sub == X86_SYS_DAS);
        return X86_OK;
    case X86_SYS_AAA:
    case X86_SYS_AAS:
        ascii_adjust(cpu, op->sub == X86_SYS_AAS);
        return X86_OK;
    case X86_SYS_AAM:
        if (!base) {
            return x86_raise(cpu, EXC_DE);
        }
        ah = al / base;
        al = al % base;
        break;
    default: /* AAD */
        adjust_division(cpu, al, (uint8_t)(ah * base));
        return X86_OK;
    }
    x86_write_reg(cpu, IR_RAX, 2, (uint64_t)ah << 8 | al);
    set_result_flags(cpu, al, false, false);
    return X86_OK;
}
