/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interpreter: shifts, rotates, bit tests and scans, CRC32.
 */
#include "translator/interp_internal.h"

/* --- shifts ------------------------------------------------------------------------------------------------- */

/*
 * OF is defined for counts of one only; for larger ones current processors give what the first step alone would: a left
 * shift or rotate compares the operand's top two bits, a right one its top bit with the bit that comes in. ROL and ROR of a
 * register by an immediate larger than one keep OF.
 */
static uint64_t overflow_left(uint64_t value, unsigned size)
{
    return size_sign(value ^ value << 1, size) ? FLAG_OF : 0;
}

static uint64_t overflow_right(uint64_t value, bool incoming, unsigned size)
{
    return size_sign(value, size) != incoming ? FLAG_OF : 0;
}

static uint64_t rotate(uint64_t value, unsigned count, unsigned size)
{
    unsigned bits = size * 8;
    count %= bits;
    return count ? size_truncate(value << count | value >> (bits - count), size) : value;
}

/* Rotates the bits + 1 wide value carry:value left by count (1..bits). */
static uint64_t rotate_carry(uint64_t value, bool carry, unsigned count, unsigned size, bool *ret_carry)
{
    unsigned bits = size * 8;
    uint64_t result = count < bits ? value << count : 0;
    result |= (uint64_t)carry << (count - 1);
    if (count > 1)
        result |= value >> (bits - count + 1);
    *ret_carry = value >> (bits - count) & 1;
    return size_truncate(result, size);
}

/* count: masked, not 0. Returns the result; changes *flags (the guest's six). */
static uint64_t shift_compute(const struct ir_op *op, uint64_t value, unsigned count, uint64_t *flags)
{
    unsigned sub = op->sub, size = op->size;
    unsigned bits = size * 8;
    bool carry = *flags & FLAG_CF;
    bool keep_overflow = op->flags & IRF_SRC_IMM && !(op->flags & IRF_DST_MEM) && count > 1;
    uint64_t result, overflow = *flags & FLAG_OF;
    switch ((enum ir_shift)sub) {
    case IR_ROL:
    case IR_ROR:
        result = rotate(value, sub == IR_ROL ? count : bits - count % bits, size);
        carry = sub == IR_ROL ? result & 1 : size_sign(result, size);
        if (!keep_overflow)
            overflow = sub == IR_ROL ? overflow_left(value, size) : overflow_right(value, value & 1, size);
        *flags = (*flags & ~(uint64_t)(FLAG_CF | FLAG_OF)) | carry | overflow;
        return result;
    case IR_RCL:
    case IR_RCR:
        count %= bits + 1;
        if (count == 0)
            return value; /* 8 or 16-bit rotate by 9 or 17 (or twice that) */
        overflow = sub == IR_RCL ? overflow_left(value, size) : overflow_right(value, carry, size);
        result = rotate_carry(value, carry, sub == IR_RCL ? count : bits + 1 - count, size, &carry);
        *flags = (*flags & ~(uint64_t)(FLAG_CF | FLAG_OF)) | carry | overflow;
        return result;
    case IR_SHR:
        result = count < bits ? value >> count : 0;
        carry = count <= bits && value >> (count - 1) & 1;
        *flags = carry | flags_szp(result, size) | overflow_right(value, false, size);
        return result;
    case IR_SAR: {
        int64_t wide = size_sign_extend(value, size);
        result = size_truncate((uint64_t)(wide >> (count < 64 ? count : 63)), size);
        carry = wide >> (count - 1) & 1;
        *flags = carry | flags_szp(result, size);
        return result;
    }
    default: /* IR_SHL */
        result = count < bits ? size_truncate(value << count, size) : 0;
        carry = count <= bits && value >> (bits - count) & 1;
        *flags = carry | flags_szp(result, size) | overflow_left(value, size);
        return result;
    }
}

static unsigned shift_count(const struct x86_cpu *cpu, const struct ir_op *op)
{
    uint64_t count = op->flags & IRF_SRC_IMM ? (uint64_t)op->imm : cpu->gpr[IR_RCX];
    return count & (op->size == 8 ? 63 : 31);
}

int interp_shift(struct x86_cpu *cpu, const struct ir_op *op)
{
    unsigned count = shift_count(cpu, op);
    struct target target;
    uint64_t old;
    int r = target_open(cpu, op, &target, &old);
    if (r != X86_OK)
        return r;
    uint64_t flags = cpu->rflags & FLAGS_ARITH;
    uint64_t result = count ? shift_compute(op, old, count, &flags) : old;
    target_store(cpu, &target, &old, result);
    flags_set(cpu, FLAGS_ARITH, flags);
    return X86_OK;
}

/* 16-bit operands with counts above 16 are undefined in the manuals; processors shift dst:src:dst. */
static uint64_t shld_compute(bool right, uint64_t dst, uint64_t src, unsigned count, unsigned size,
                             uint64_t *ret_flags)
{
    unsigned bits = size * 8;
    uint64_t result;
    bool carry;
    if (size == 2) {
        uint64_t wide = dst << 32 | src << 16 | dst;
        result = size_truncate(right ? wide >> count : wide << count >> 32, 2);
        carry = right ? wide >> (count - 1) & 1 : wide >> (48 - count) & 1;
    } else if (right) {
        result = size_truncate(dst >> count | src << (bits - count), size);
        carry = dst >> (count - 1) & 1;
    } else {
        result = size_truncate(dst << count | src >> (bits - count), size);
        carry = dst >> (bits - count) & 1;
    }
    *ret_flags = carry | flags_szp(result, size) |
                 (right ? overflow_right(dst, src & 1, size) : overflow_left(dst, size));
    return result;
}

int interp_shld(struct x86_cpu *cpu, const struct ir_op *op)
{
    unsigned count = shift_count(cpu, op);
    struct target target;
    uint64_t old, src = size_truncate(reg_get(cpu, op->src), op->size);
    int r = target_open(cpu, op, &target, &old);
    if (r != X86_OK)
        return r;
    uint64_t flags = cpu->rflags & FLAGS_ARITH;
    uint64_t result = count ? shld_compute(op->sub, old, src, count, op->size, &flags) : old;
    target_store(cpu, &target, &old, result);
    flags_set(cpu, FLAGS_ARITH, flags);
    return X86_OK;
}

/* --- single bits -------------------------------------------------------------------------------------------- */

/* Moves cpu->ea to the unit of a bit string that holds the bit at `offset`. */
static int bit_string_address(struct x86_cpu *cpu, const struct ir_op *op, int64_t offset)
{
    int64_t unit = offset >> (op->size == 8 ? 6 : op->size == 4 ? 5 : 4);
    uint64_t address = size_truncate(cpu->ea + (uint64_t)(unit * op->size), op->aux);
    if (op->flags & IRF_SEGCHECK) {
        int r = interp_seg_check(cpu, op->src2, address, op->size, op->sub != IR_BT);
        if (r != X86_OK)
            return r;
    }
    cpu->ea = interp_linear(cpu, op->src2, address);
    return X86_OK;
}

static uint64_t bit_compute(unsigned sub, uint64_t value, uint64_t mask)
{
    switch ((enum ir_bit)sub) {
    case IR_BTS:
        return value | mask;
    case IR_BTR:
        return value & ~mask;
    case IR_BTC:
        return value ^ mask;
    default:
        return value;
    }
}

int interp_bit(struct x86_cpu *cpu, const struct ir_op *op)
{
    bool immediate = op->flags & IRF_SRC_IMM;
    uint64_t offset = immediate ? (uint64_t)op->imm : reg_get(cpu, op->src);
    uint64_t mask = UINT64_C(1) << (offset & (op->size * 8 - 1));
    uint64_t old;
    int r = X86_OK;
    if (op->flags & IRF_DST_MEM && !immediate)
        r = bit_string_address(cpu, op, size_sign_extend(offset, op->size));
    if (r != X86_OK)
        return r;
    if (op->sub == IR_BT) {
        r = operand_dst(cpu, op, op->size, &old);
        if (r != X86_OK)
            return r;
    } else {
        struct target target;
        r = target_open(cpu, op, &target, &old);
        if (r != X86_OK)
            return r;
        while (!target_store(cpu, &target, &old, bit_compute(op->sub, old, mask)))
            ;
    }
    flags_set(cpu, FLAG_CF, old & mask ? FLAG_CF : 0);
    return X86_OK;
}

/* --- scans -------------------------------------------------------------------------------------------------- */

int interp_scan(struct x86_cpu *cpu, const struct ir_op *op)
{
    unsigned bits = op->size * 8;
    uint64_t value, result, flags;
    int r = operand_src(cpu, op, op->size, &value);
    if (r != X86_OK)
        return r;
    switch ((enum ir_scan)op->sub) {
    case IR_TZCNT:
        result = value ? (unsigned)__builtin_ctzll(value) : bits;
        flags = (value ? 0 : FLAG_CF) | (result ? 0 : FLAG_ZF);
        break;
    case IR_LZCNT:
        result = value ? (unsigned)__builtin_clzll(value) - (64 - bits) : bits;
        flags = (value ? 0 : FLAG_CF) | (result ? 0 : FLAG_ZF);
        break;
    case IR_POPCNT:
        result = (unsigned)__builtin_popcountll(value);
        flags = value ? 0 : FLAG_ZF;
        break;
    default:
        if (!value) {
            flags_set(cpu, FLAGS_ARITH,
                      FLAG_ZF | FLAG_PF); /* the destination keeps its value, upper half included */
            return X86_OK;
        }
        result = op->sub == IR_BSF ? (unsigned)__builtin_ctzll(value) : 63 - (unsigned)__builtin_clzll(value);
        flags = flags_szp(result, op->size) & FLAG_PF;
        break;
    }
    reg_set(cpu, op->dst, result, op->size);
    flags_set(cpu, FLAGS_ARITH, flags);
    return X86_OK;
}

/* CRC-32C, reflected, without inversion. */
int interp_crc32(struct x86_cpu *cpu, const struct ir_op *op)
{
    uint64_t value;
    int r = operand_src(cpu, op, op->aux, &value);
    if (r != X86_OK)
        return r;
    uint32_t crc = (uint32_t)reg_get(cpu, op->dst);
    for (unsigned i = 0; i < op->aux; i++) {
        crc ^= (uint8_t)(value >> i * 8);
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    reg_set(cpu, op->dst, crc, 8);
    return X86_OK;
}
