/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interpreter: arithmetic, exchanges, and destinations that are read and written.
 *
 * Flags that the manuals leave undefined take the values current Intel processors give; docs/translator.md lists those
 * that differ between processors and are masked in comparisons.
 */
#include "translator/interp_internal.h"

/* --- read-modify-write destinations --------------------------------------------------------------------------- */

/* Guest operands need no alignment; aligned ones must be read and written in one piece. */
typedef volatile uint16_t __attribute__((aligned(1))) any_u16;
typedef volatile uint32_t __attribute__((aligned(1))) any_u32;
typedef volatile uint64_t __attribute__((aligned(1))) any_u64;

static inline uint64_t host_load(const void *ptr, unsigned size)
{
    switch (size) {
    case 1:
        return *(const volatile uint8_t *)ptr;
    case 2:
        return *(const any_u16 *)ptr;
    case 4:
        return *(const any_u32 *)ptr;
    default:
        return *(const any_u64 *)ptr;
    }
}

static inline void host_store(void *ptr, unsigned size, uint64_t value)
{
    switch (size) {
    case 1:
        *(volatile uint8_t *)ptr = (uint8_t)value;
        break;
    case 2:
        *(any_u16 *)ptr = (uint16_t)value;
        break;
    case 4:
        *(any_u32 *)ptr = (uint32_t)value;
        break;
    default:
        *(any_u64 *)ptr = value;
        break;
    }
}

/* The host's compare-and-swap; like the guest's it works on unaligned addresses. Updates *expected on failure. */
static bool host_cas(void *ptr, unsigned size, uint64_t *expected, uint64_t desired)
{
    switch (size) {
    case 1: {
        uint8_t old = (uint8_t)*expected;
        bool done = __atomic_compare_exchange_n((uint8_t *)ptr, &old, (uint8_t)desired, false,
                                                __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        *expected = old;
        return done;
    }
    case 2: {
        uint16_t old = (uint16_t)*expected;
        bool done = __atomic_compare_exchange_n((uint16_t *)ptr, &old, (uint16_t)desired, false,
                                                __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        *expected = old;
        return done;
    }
    case 4: {
        uint32_t old = (uint32_t)*expected;
        bool done = __atomic_compare_exchange_n((uint32_t *)ptr, &old, (uint32_t)desired, false,
                                                __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        *expected = old;
        return done;
    }
    default:
        return __atomic_compare_exchange_n((uint64_t *)ptr, expected, desired, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST);
    }
}

int target_open(struct x86_cpu *cpu, const struct ir_op *op, struct target *ret_target, uint64_t *ret_old)
{
    ret_target->op = op;
    ret_target->size = op->size;
    if (!(op->flags & IRF_DST_MEM)) {
        *ret_old = size_truncate(reg_get(cpu, op->dst), op->size);
        return X86_OK;
    }
    int r = x86_align_check(cpu, cpu->ea, op->size);
    if (r == X86_OK)
        r = mmu_rmw_begin(cpu, cpu->ea, op->size, op->flags & IRF_LOCK, &ret_target->rmw);
    if (r == X86_OK)
        *ret_old = host_load(ret_target->rmw.ptr, op->size);
    return r;
}

bool target_store(struct x86_cpu *cpu, struct target *target, uint64_t *old, uint64_t value)
{
    const struct ir_op *op = target->op;
    if (!(op->flags & IRF_DST_MEM)) {
        reg_set(cpu, op->dst, value, target->size);
        return true;
    }
    if (!(op->flags & IRF_LOCK))
        host_store(target->rmw.ptr, target->size, value);
    else if (!host_cas(target->rmw.ptr, target->size, old, value))
        return false;
    mmu_rmw_commit(cpu, &target->rmw);
    return true;
}

void target_close(struct x86_cpu *cpu, struct target *target)
{
    if (target->op->flags & IRF_DST_MEM)
        mmu_rmw_commit(cpu, &target->rmw);
}

/* --- two-operand arithmetic --------------------------------------------------------------------------------- */

/* Result of `sub` on a and b; *ret_flags gets all six flags. */
static inline uint64_t alu_compute(unsigned sub, uint64_t a, uint64_t b, bool carry, unsigned size,
                                   uint64_t *ret_flags)
{
    uint64_t result;
    switch ((enum ir_alu)sub) {
    case IR_ADD:
        result = a + b;
        *ret_flags = flags_add(a, b, result, size);
        return result;
    case IR_ADC:
        result = a + b + carry;
        *ret_flags = flags_add(a, b, result, size);
        return result;
    case IR_SUB:
    case IR_CMP:
        result = a - b;
        *ret_flags = flags_sub(a, b, result, size);
        return result;
    case IR_SBB:
        result = a - b - carry;
        *ret_flags = flags_sub(a, b, result, size);
        return result;
    case IR_OR:
        result = a | b;
        break;
    case IR_XOR:
        result = a ^ b;
        break;
    default: /* IR_AND, IR_TEST */
        result = a & b;
        break;
    }
    *ret_flags = flags_szp(result, size);
    return result;
}

int interp_alu(struct x86_cpu *cpu, const struct ir_op *op)
{
    bool carry = cpu->rflags & FLAG_CF;
    uint64_t a, b, flags;
    int r = operand_src(cpu, op, op->size, &b);
    if (r != X86_OK)
        return r;
    if (op->sub == IR_CMP || op->sub == IR_TEST) {
        r = operand_dst(cpu, op, op->size, &a);
        if (r != X86_OK)
            return r;
        alu_compute(op->sub, a, b, carry, op->size, &flags);
    } else if (!(op->flags & IRF_DST_MEM)) {
        a = size_truncate(reg_get(cpu, op->dst), op->size);
        reg_set(cpu, op->dst, alu_compute(op->sub, a, b, carry, op->size, &flags), op->size);
    } else {
        struct target target;
        uint64_t result;
        r = target_open(cpu, op, &target, &a);
        if (r != X86_OK)
            return r;
        do {
            result = alu_compute(op->sub, a, b, carry, op->size, &flags);
        } while (!target_store(cpu, &target, &a, result));
    }
    flags_set(cpu, FLAGS_ARITH, flags);
    return X86_OK;
}

static uint64_t unary_compute(unsigned sub, uint64_t a, unsigned size, uint64_t *ret_flags)
{
    uint64_t result;
    switch ((enum ir_unary)sub) {
    case IR_INC:
        result = a + 1;
        *ret_flags = flags_add(a, 1, result, size);
        return result;
    case IR_DEC:
        result = a - 1;
        *ret_flags = flags_sub(a, 1, result, size);
        return result;
    case IR_NEG:
        result = -a;
        *ret_flags = flags_sub(0, a, result, size);
        return result;
    default:
        return ~a;
    }
}

int interp_unary(struct x86_cpu *cpu, const struct ir_op *op)
{
    static const uint32_t written[] = {[IR_INC] = FLAGS_ARITH & ~FLAG_CF,
                                       [IR_DEC] = FLAGS_ARITH & ~FLAG_CF,
                                       [IR_NOT] = 0,
                                       [IR_NEG] = FLAGS_ARITH};
    struct target target;
    uint64_t old, result, flags = 0;
    int r = target_open(cpu, op, &target, &old);
    if (r != X86_OK)
        return r;
    do {
        result = unary_compute(op->sub, old, op->size, &flags);
    } while (!target_store(cpu, &target, &old, result));
    flags_set(cpu, written[op->sub], flags & written[op->sub]);
    return X86_OK;
}

/* --- multiplication and division ---------------------------------------------------------------------------- */

typedef unsigned __int128 uint128;
typedef __int128 int128;

/* Writes a double-width result to AX, or DX:AX, EDX:EAX, RDX:RAX. */
static void set_double_width(struct x86_cpu *cpu, uint64_t low, uint64_t high, unsigned size)
{
    if (size == 1) {
        reg_set(cpu, IR_RAX, (low & 0xff) | high << 8, 2);
        return;
    }
    reg_set(cpu, IR_RAX, low, size);
    reg_set(cpu, IR_RDX, high, size);
}

static uint128 get_double_width(const struct x86_cpu *cpu, unsigned size)
{
    if (size == 1)
        return cpu->gpr[IR_RAX] & 0xffff;
    return (uint128)size_truncate(cpu->gpr[IR_RDX], size) << (size * 8) |
           size_truncate(cpu->gpr[IR_RAX], size);
}

/* CF and OF say that the product does not fit; the rest follows the low half. */
static uint64_t multiply_flags(uint64_t low, bool overflow, unsigned size)
{
    return (flags_szp(low, size) & ~(uint64_t)FLAG_ZF) | (overflow ? FLAG_CF | FLAG_OF : 0);
}

int interp_mul(struct x86_cpu *cpu, const struct ir_op *op)
{
    uint64_t a = size_truncate(cpu->gpr[IR_RAX], op->size), b;
    int r = operand_src(cpu, op, op->size, &b);
    if (r != X86_OK)
        return r;
    uint128 product = op->sub
                          ? (uint128)((int128)size_sign_extend(a, op->size) * size_sign_extend(b, op->size))
                          : (uint128)a * b;
    uint64_t low = size_truncate((uint64_t)product, op->size);
    uint64_t high = size_truncate((uint64_t)(product >> (op->size * 8)), op->size);
    bool overflow = op->sub ? (int128)product != size_sign_extend(low, op->size) : high != 0;
    set_double_width(cpu, low, high, op->size);
    flags_set(cpu, FLAGS_ARITH, multiply_flags(low, overflow, op->size));
    return X86_OK;
}

int interp_imul(struct x86_cpu *cpu, const struct ir_op *op)
{
    uint64_t a, b;
    int r;
    if (op->flags & IRF_SRC_IMM) {
        a = size_truncate((uint64_t)op->imm, op->size);
        r = op->flags & IRF_SRC_MEM ? mem_load(cpu, cpu->ea, op->size, &b) : X86_OK;
        if (!(op->flags & IRF_SRC_MEM))
            b = size_truncate(reg_get(cpu, op->src), op->size);
    } else {
        a = size_truncate(reg_get(cpu, op->dst), op->size);
        r = operand_src(cpu, op, op->size, &b);
    }
    if (r != X86_OK)
        return r;
    int128 product = (int128)size_sign_extend(a, op->size) * size_sign_extend(b, op->size);
    uint64_t low = size_truncate((uint64_t)product, op->size);
    reg_set(cpu, op->dst, low, op->size);
    flags_set(cpu, FLAGS_ARITH, multiply_flags(low, product != size_sign_extend(low, op->size), op->size));
    return X86_OK;
}

/* Addition whose carry comes from and goes to one flag, CF or OF. */
int interp_adx(struct x86_cpu *cpu, const struct ir_op *op)
{
    const uint64_t flag = op->sub ? FLAG_OF : FLAG_CF;
    uint64_t b;
    int r = operand_src(cpu, op, op->size, &b);
    if (r != X86_OK)
        return r;
    uint64_t a = size_truncate(reg_get(cpu, op->dst), op->size);
    uint64_t sum = a + b + (cpu->rflags & flag ? 1 : 0);
    bool carry = size_sign((a & b) | ((a | b) & ~sum), op->size);
    reg_set(cpu, op->dst, sum, op->size);
    flags_set(cpu, flag, carry ? flag : 0);
    return X86_OK;
}

static int divide_error(struct x86_cpu *cpu)
{
    return x86_raise(cpu, EXC_DE);
}

static int divide_unsigned(struct x86_cpu *cpu, uint64_t divisor, unsigned size)
{
    uint128 dividend = get_double_width(cpu, size);
    if (divisor == 0 || dividend >> (size * 8) >= divisor)
        return divide_error(cpu);
    if (size < 8) {
        uint64_t n = (uint64_t)dividend;
        set_double_width(cpu, n / divisor, n % divisor, size);
    } else {
        set_double_width(cpu, (uint64_t)(dividend / divisor), (uint64_t)(dividend % divisor), size);
    }
    return X86_OK;
}

/* On magnitudes, so that no host division can overflow. */
static int divide_signed(struct x86_cpu *cpu, uint64_t divisor_bits, unsigned size)
{
    unsigned shift = 128 - size * 16;
    int128 dividend = (int128)(get_double_width(cpu, size) << shift) >> shift;
    int64_t divisor = size_sign_extend(divisor_bits, size);
    if (divisor == 0)
        return divide_error(cpu);
    bool negative = (dividend < 0) != (divisor < 0);
    uint128 n = dividend < 0 ? -(uint128)dividend : (uint128)dividend;
    uint64_t d = divisor < 0 ? -(uint64_t)divisor : (uint64_t)divisor;
    uint128 quotient = n / d;
    uint64_t remainder = (uint64_t)(n % d);
    uint128 largest = ((uint128)1 << (size * 8 - 1)) - !negative;
    if (quotient > largest)
        return divide_error(cpu);
    uint64_t q = negative ? -(uint64_t)quotient : (uint64_t)quotient;
    if (dividend < 0)
        remainder = -remainder;
    set_double_width(cpu, size_truncate(q, size), size_truncate(remainder, size), size);
    return X86_OK;
}

int interp_div(struct x86_cpu *cpu, const struct ir_op *op)
{
    uint64_t divisor;
    int r = operand_src(cpu, op, op->size, &divisor);
    if (r != X86_OK)
        return r;
    return op->sub ? divide_signed(cpu, divisor, op->size) : divide_unsigned(cpu, divisor, op->size);
}

/* --- exchanges ---------------------------------------------------------------------------------------------- */

int interp_xchg(struct x86_cpu *cpu, const struct ir_op *op)
{
    struct target target;
    uint64_t old, value = size_truncate(reg_get(cpu, op->src), op->size);
    int r = target_open(cpu, op, &target, &old);
    if (r != X86_OK)
        return r;
    while (!target_store(cpu, &target, &old, value))
        ;
    reg_set(cpu, op->src, old, op->size);
    return X86_OK;
}

int interp_xadd(struct x86_cpu *cpu, const struct ir_op *op)
{
    struct target target;
    uint64_t old, sum, value = size_truncate(reg_get(cpu, op->src), op->size);
    int r = target_open(cpu, op, &target, &old);
    if (r != X86_OK)
        return r;
    if (!(op->flags & IRF_DST_MEM))
        reg_set(cpu, op->src, old, op->size); /* first: XADD of a register with itself leaves the sum */
    do {
        sum = old + value;
    } while (!target_store(cpu, &target, &old, sum));
    if (op->flags & IRF_DST_MEM)
        reg_set(cpu, op->src, old, op->size);
    flags_set(cpu, FLAGS_ARITH, flags_add(old, value, sum, op->size));
    return X86_OK;
}

int interp_cmpxchg(struct x86_cpu *cpu, const struct ir_op *op)
{
    struct target target;
    uint64_t accumulator = size_truncate(cpu->gpr[IR_RAX], op->size);
    uint64_t old, value = size_truncate(reg_get(cpu, op->src), op->size);
    int r = target_open(cpu, op, &target, &old);
    if (r != X86_OK)
        return r;
    bool stored = false;
    while (old == accumulator && !stored)
        stored = target_store(cpu, &target, &old, value);
    if (!stored) {
        /* The processor writes the old value back: a 32-bit register destination loses its upper half. */
        if (op->flags & IRF_DST_MEM)
            target_close(cpu, &target);
        reg_set(cpu, IR_RAX, old, op->size);
    }
    flags_set(cpu, FLAGS_ARITH, flags_sub(accumulator, old, accumulator - old, op->size));
    return X86_OK;
}

static bool host_cas16(void *ptr, uint128 *expected, uint128 desired)
{
#if defined(__x86_64__)
    /* Every x86-64 processor since 2004 has it, but compilers want -mcx16 for their built-in. */
    uint64_t low = (uint64_t)*expected, high = (uint64_t)(*expected >> 64);
    bool done;
    __asm__ volatile("lock cmpxchg16b %1"
                     : "=@ccz"(done), "+m"(*(uint128 *)ptr), "+a"(low), "+d"(high)
                     : "b"((uint64_t)desired), "c"((uint64_t)(desired >> 64))
                     : "memory");
    *expected = (uint128)high << 64 | low;
    return done;
#else
    uint128 old = __sync_val_compare_and_swap((uint128 *)ptr, *expected, desired);
    bool done = old == *expected;
    *expected = old;
    return done;
#endif
}

static uint128 pair_get(const struct x86_cpu *cpu, unsigned low, unsigned high, unsigned half)
{
    return (uint128)size_truncate(cpu->gpr[high], half) << (half * 8) | size_truncate(cpu->gpr[low], half);
}

int interp_cmpxchg16(struct x86_cpu *cpu, const struct ir_op *op)
{
    unsigned half = op->size / 2;
    uint128 accumulator = pair_get(cpu, IR_RAX, IR_RDX, half);
    uint128 value = pair_get(cpu, IR_RBX, IR_RCX, half);
    struct mmu_rmw rmw;
    if (op->size == 16 && cpu->ea & 15)
        return x86_raise_error(cpu, EXC_GP, 0);
    int r = x86_align_check(cpu, cpu->ea, op->size);
    if (r == X86_OK)
        r = mmu_rmw_begin(cpu, cpu->ea, op->size, op->flags & IRF_LOCK, &rmw);
    if (r != X86_OK)
        return r;
    uint128 old = accumulator;
    bool equal;
    if (op->size == 16) {
        equal = host_cas16(rmw.ptr, &old, value);
    } else {
        uint64_t old8 = (uint64_t)old;
        equal = host_cas(rmw.ptr, 8, &old8, (uint64_t)value);
        old = old8;
    }
    mmu_rmw_commit(cpu, &rmw);
    if (!equal) {
        reg_set(cpu, IR_RAX, (uint64_t)old, half);
        reg_set(cpu, IR_RDX, (uint64_t)(old >> (half * 8)), half);
    }
    flags_set(cpu, FLAG_ZF, equal ? FLAG_ZF : 0);
    return X86_OK;
}

/* --- conversions, single flags ------------------------------------------------------------------------------ */

void interp_convert(struct x86_cpu *cpu, const struct ir_op *op)
{
    unsigned size = op->size;
    if (op->sub == 0)
        reg_set(cpu, IR_RAX, (uint64_t)size_sign_extend(cpu->gpr[IR_RAX], size / 2), size);
    else
        reg_set(cpu, IR_RDX, size_sign(cpu->gpr[IR_RAX], size) ? UINT64_MAX : 0, size);
}

void interp_flagop(struct x86_cpu *cpu, const struct ir_op *op)
{
    const uint64_t in_ah = FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF | FLAG_CF;
    switch ((enum ir_flagop)op->sub) {
    case IR_CLC:
        cpu->rflags &= ~(uint64_t)FLAG_CF;
        break;
    case IR_STC:
        cpu->rflags |= FLAG_CF;
        break;
    case IR_CMC:
        cpu->rflags ^= FLAG_CF;
        break;
    case IR_CLD:
        cpu->rflags &= ~(uint64_t)FLAG_DF;
        break;
    case IR_STD:
        cpu->rflags |= FLAG_DF;
        break;
    case IR_LAHF:
        reg_set(cpu, IR_AH, (cpu->rflags & in_ah) | 2, 1);
        break;
    case IR_SAHF:
        flags_set(cpu, in_ah, reg_get(cpu, IR_AH) & in_ah);
        break;
    case IR_SALC:
        reg_set(cpu, IR_RAX, cpu->rflags & FLAG_CF ? 0xff : 0, 1);
        break;
    }
}
