/* SPDX-License-Identifier: Apache-2.0 */
/* Interpreter: the bit manipulation instructions of BMI1 and BMI2. Flags that the manuals leave undefined become 0. */
#include "translator/interp_internal.h"

/* Scatters the low bits of `value` to where `mask` has ones. */
static uint64_t deposit(uint64_t value, uint64_t mask)
{
    uint64_t result = 0;
    for (; mask; mask &= mask - 1, value >>= 1)
        result |= value & 1 ? mask & -mask : 0;
    return result;
}

/* Gathers the bits of `value` where `mask` has ones. */
static uint64_t extract(uint64_t value, uint64_t mask)
{
    uint64_t result = 0;
    for (unsigned i = 0; mask; mask &= mask - 1, i++)
        result |= value & mask & -mask ? UINT64_C(1) << i : 0;
    return result;
}

static uint64_t low_bits(uint64_t value, unsigned count)
{
    return count < 64 ? value & ((UINT64_C(1) << count) - 1) : value;
}

/* Result of those that write flags; a: src|mem, b: src2. */
static uint64_t compute_with_flags(const struct ir_op *op, uint64_t a, uint64_t b, uint64_t *ret_flags)
{
    unsigned bits = op->size * 8, start = b & 0xff, length = b >> 8 & 0xff;
    uint64_t result;
    bool carry = false;
    switch (op->sub) {
    case IR_ANDN:
        result = ~b & a;
        break;
    case IR_BLSR:
        result = a & (a - 1);
        carry = a == 0;
        break;
    case IR_BLSMSK:
        result = size_truncate(a ^ (a - 1), op->size);
        carry = a == 0;
        break;
    case IR_BLSI:
        result = a & -a;
        carry = a != 0;
        break;
    case IR_BEXTR:
        result = low_bits(start < bits ? a >> start : 0, length);
        *ret_flags = result ? 0 : FLAG_ZF;
        return result;
    default: /* IR_BZHI */
        result = low_bits(a, start);
        carry = start >= bits;
        break;
    }
    *ret_flags = (flags_szp(result, op->size) & ~(uint64_t)FLAG_PF) | (carry ? FLAG_CF : 0);
    return result;
}

static uint64_t compute(const struct ir_op *op, uint64_t a, uint64_t b)
{
    unsigned bits = op->size * 8, count = b & (bits - 1);
    switch (op->sub) {
    case IR_PDEP:
        return deposit(b, a);
    case IR_PEXT:
        return extract(b, a);
    case IR_RORX:
        count = (unsigned)op->imm & (bits - 1);
        return count ? a >> count | a << (bits - count) : a;
    case IR_SARX:
        return (uint64_t)(size_sign_extend(a, op->size) >> count);
    case IR_SHLX:
        return a << count;
    default: /* IR_SHRX */
        return a >> count;
    }
}

/* Both destinations may be one register, which then gets the high half. */
static void multiply(struct x86_cpu *cpu, const struct ir_op *op, uint64_t a)
{
    unsigned __int128 product = (unsigned __int128)size_truncate(cpu->gpr[IR_RDX], op->size) * a;
    reg_set(cpu, op->src2, (uint64_t)product, op->size);
    reg_set(cpu, op->dst, (uint64_t)(product >> (op->size * 8)), op->size);
}

int interp_bmi(struct x86_cpu *cpu, const struct ir_op *op)
{
    uint64_t a;
    int r = operand_src(cpu, op, op->size, &a);
    if (r != X86_OK)
        return r;
    if (op->sub == IR_MULX) {
        multiply(cpu, op, a);
        return X86_OK;
    }
    uint64_t b = op->src2 == IR_NONE ? 0 : size_truncate(reg_get(cpu, op->src2), op->size);
    if (op->sub <= IR_BZHI) {
        uint64_t flags, result = compute_with_flags(op, a, b, &flags);
        reg_set(cpu, op->dst, result, op->size);
        flags_set(cpu, FLAGS_ARITH, flags);
    } else {
        reg_set(cpu, op->dst, compute(op, a, b), op->size);
    }
    return X86_OK;
}
