/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the interpreter: operands, flags and memory of struct x86_cpu, for the files interp*.c.
 *
 * Values travel in uint64_t, zero-extended from the operand size; helpers that take a size mask what they need.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "translator/interp.h"
#include "translator/mmu.h"

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* --- numbers ------------------------------------------------------------------------------------------------ */

static inline uint64_t size_mask(unsigned size)
{
    return ~UINT64_C(0) >> (64 - size * 8);
}

static inline uint64_t size_truncate(uint64_t value, unsigned size)
{
    return value & size_mask(size);
}

static inline int64_t size_sign_extend(uint64_t value, unsigned size)
{
    unsigned unused = 64 - size * 8;
    return (int64_t)(value << unused) >> unused;
}

static inline bool size_sign(uint64_t value, unsigned size)
{
    return value >> (size * 8 - 1) & 1;
}

/* --- registers ---------------------------------------------------------------------------------------------- */

/* Not truncated, except for the high byte registers. */
static inline uint64_t reg_get(const struct x86_cpu *cpu, unsigned reg)
{
    if (LIKELY(reg < IR_AH))
        return cpu->gpr[reg];
    if (reg < IR_T0)
        return cpu->gpr[reg - IR_AH] >> 8 & 0xff;
    return cpu->temp[reg - IR_T0];
}

static inline void reg_set(struct x86_cpu *cpu, unsigned reg, uint64_t value, unsigned size)
{
    if (UNLIKELY(reg >= IR_AH)) {
        if (reg >= IR_T0)
            cpu->temp[reg - IR_T0] = size_truncate(value, size);
        else
            cpu->gpr[reg - IR_AH] = (cpu->gpr[reg - IR_AH] & ~UINT64_C(0xff00)) | (value & 0xff) << 8;
        return;
    }
    if (size == 8)
        cpu->gpr[reg] = value;
    else if (size == 4)
        cpu->gpr[reg] = (uint32_t)value;
    else
        cpu->gpr[reg] = (cpu->gpr[reg] & ~size_mask(size)) | size_truncate(value, size);
}

/* --- flags -------------------------------------------------------------------------------------------------- */

static inline void flags_set(struct x86_cpu *cpu, uint64_t mask, uint64_t value)
{
    cpu->rflags = (cpu->rflags & ~mask) | value;
}

/* SF, ZF and PF of a result. */
static inline uint64_t flags_szp(uint64_t result, unsigned size)
{
    return (size_sign(result, size) ? FLAG_SF : 0) | (size_truncate(result, size) == 0 ? FLAG_ZF : 0) |
           (__builtin_parity((unsigned)(result & 0xff)) ? 0 : FLAG_PF);
}

/* All six flags of result = a + b + carry and a - b - borrow. */
static inline uint64_t flags_add(uint64_t a, uint64_t b, uint64_t result, unsigned size)
{
    uint64_t carry = (a & b) | ((a | b) & ~result);
    uint64_t overflow = (a ^ result) & (b ^ result);
    return flags_szp(result, size) | (size_sign(carry, size) ? FLAG_CF : 0) |
           (size_sign(overflow, size) ? FLAG_OF : 0) | ((a ^ b ^ result) & FLAG_AF);
}

static inline uint64_t flags_sub(uint64_t a, uint64_t b, uint64_t result, unsigned size)
{
    uint64_t borrow = (~a & b) | ((~a | b) & result);
    uint64_t overflow = (a ^ b) & (a ^ result);
    return flags_szp(result, size) | (size_sign(borrow, size) ? FLAG_CF : 0) |
           (size_sign(overflow, size) ? FLAG_OF : 0) | ((a ^ b ^ result) & FLAG_AF);
}

static inline bool flags_condition(uint64_t rflags, unsigned condition)
{
    bool value;
    switch (condition >> 1) {
    case 0:
        value = rflags & FLAG_OF;
        break;
    case 1:
        value = rflags & FLAG_CF;
        break;
    case 2:
        value = rflags & FLAG_ZF;
        break;
    case 3:
        value = rflags & (FLAG_CF | FLAG_ZF);
        break;
    case 4:
        value = rflags & FLAG_SF;
        break;
    case 5:
        value = rflags & FLAG_PF;
        break;
    case 6:
        value = !(rflags & FLAG_SF) != !(rflags & FLAG_OF);
        break;
    default:
        value = rflags & FLAG_ZF || !(rflags & FLAG_SF) != !(rflags & FLAG_OF);
        break;
    }
    return value != (condition & 1);
}

/* --- memory ------------------------------------------------------------------------------------------------- */

/* Limit and type check of a segment outside 64-bit code: X86_OK or #GP(0)/#SS(0). */
int interp_seg_check(struct x86_cpu *cpu, unsigned seg, uint64_t offset, unsigned bytes, bool write);

/* Linear address from a segment's base (IR_NONE: 0) and an offset. */
static inline gva_t interp_linear(const struct x86_cpu *cpu, unsigned seg, uint64_t offset)
{
    gva_t la = seg == IR_NONE ? offset : cpu->seg[seg].base + offset;
    return cpu->mode & MODE_CS64 ? la : (uint32_t)la;
}

static inline int mem_load(struct x86_cpu *cpu, gva_t la, unsigned size, uint64_t *ret_value)
{
    int r = x86_align_check(cpu, la, size);
    if (r != X86_OK)
        return r;
    uint64_t value = 0;
    r = mmu_read(cpu, la, size, &value);
    *ret_value = value;
    return r;
}

static inline int mem_store(struct x86_cpu *cpu, gva_t la, unsigned size, uint64_t value)
{
    int r = x86_align_check(cpu, la, size);
    return r != X86_OK ? r : mmu_write(cpu, la, size, &value);
}

/* src operand: immediate, memory or register; truncated to `size`. */
static inline int operand_src(struct x86_cpu *cpu, const struct ir_op *op, unsigned size, uint64_t *ret_value)
{
    if (op->flags & IRF_SRC_IMM)
        *ret_value = size_truncate((uint64_t)op->imm, size);
    else if (op->flags & IRF_SRC_MEM)
        return mem_load(cpu, cpu->ea, size, ret_value);
    else
        *ret_value = size_truncate(reg_get(cpu, op->src), size);
    return X86_OK;
}

/* dst operand that is only read. */
static inline int operand_dst(struct x86_cpu *cpu, const struct ir_op *op, unsigned size, uint64_t *ret_value)
{
    if (op->flags & IRF_DST_MEM)
        return mem_load(cpu, cpu->ea, size, ret_value);
    *ret_value = size_truncate(reg_get(cpu, op->dst), size);
    return X86_OK;
}

/*
 * A destination that is read and written:
 *     r = target_open(cpu, op, &target, &old);
 *     do { new = f(old); } while (!target_store(cpu, &target, &old, new));
 * A locked one is a compare-and-swap loop, so the new value is made again from what another vCPU wrote meanwhile.
 * target_close() instead of a store leaves the operand as it is.
 */
struct target {
    const struct ir_op *op;
    unsigned size;
    struct mmu_rmw rmw;
};

int target_open(struct x86_cpu *cpu, const struct ir_op *op, struct target *ret_target, uint64_t *ret_old);
bool target_store(struct x86_cpu *cpu, struct target *target, uint64_t *old, uint64_t value);
void target_close(struct x86_cpu *cpu, struct target *target);

/* --- control flow ------------------------------------------------------------------------------------------- */

static inline bool address_canonical(uint64_t address)
{
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

/* May control go to `target` (truncated to the operand size)? X86_OK or #GP(0). */
static inline int interp_check_target(struct x86_cpu *cpu, uint64_t target)
{
    bool good = cpu->mode & MODE_CS64 ? address_canonical(target)
                                      : cpu->mode & MODE_FLAT || target <= cpu->seg[SEG_CS].limit;
    return LIKELY(good) ? X86_OK : x86_raise_error(cpu, EXC_GP, 0);
}

/* --- ops ---------------------------------------------------------------------------------------------------- */

/* interp_int.c */
int interp_alu(struct x86_cpu *cpu, const struct ir_op *op);
int interp_unary(struct x86_cpu *cpu, const struct ir_op *op);
int interp_mul(struct x86_cpu *cpu, const struct ir_op *op);
int interp_imul(struct x86_cpu *cpu, const struct ir_op *op);
int interp_div(struct x86_cpu *cpu, const struct ir_op *op);
int interp_xchg(struct x86_cpu *cpu, const struct ir_op *op);
int interp_xadd(struct x86_cpu *cpu, const struct ir_op *op);
int interp_cmpxchg(struct x86_cpu *cpu, const struct ir_op *op);
int interp_cmpxchg16(struct x86_cpu *cpu, const struct ir_op *op);
void interp_convert(struct x86_cpu *cpu, const struct ir_op *op);
void interp_flagop(struct x86_cpu *cpu, const struct ir_op *op);

/* interp_bit.c */
int interp_shift(struct x86_cpu *cpu, const struct ir_op *op);
int interp_shld(struct x86_cpu *cpu, const struct ir_op *op);
int interp_bit(struct x86_cpu *cpu, const struct ir_op *op);
int interp_scan(struct x86_cpu *cpu, const struct ir_op *op);
int interp_adx(struct x86_cpu *cpu, const struct ir_op *op);
int interp_bmi(struct x86_cpu *cpu, const struct ir_op *op);
int interp_crc32(struct x86_cpu *cpu, const struct ir_op *op);

/* interp_string.c: also X86_JUMP with rip at this instruction, to be continued */
int interp_string(struct x86_cpu *cpu, const struct ir_op *op);

/* interp_stack.c */
int interp_push_value(struct x86_cpu *cpu, const struct ir_op *op, uint64_t value);
int interp_push(struct x86_cpu *cpu, const struct ir_op *op);
int interp_pop(struct x86_cpu *cpu, const struct ir_op *op);
int interp_leave(struct x86_cpu *cpu, const struct ir_op *op);
int interp_ret(struct x86_cpu *cpu, const struct ir_op *op);
