/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reference implementation of x87: dispatch by encoding, stack, exceptions.
 *
 * Every instruction computes first, gathering exception flags in struct x87; then, unless an unmasked exception of the
 * operands forbids it, writes its destination and pops; commit() ends it by folding the flags into the status word. An
 * unmasked exception only becomes pending (ES); the next waiting instruction raises #MF.
 */
#include "translator/x86/x87_internal.h"

#include "translator/mmu.h"

/* --- frame --------------------------------------------------------------------------------------------------- */

static struct x87 begin(struct x86_cpu *cpu)
{
    return (struct x87){
        .cpu = cpu,
        .fx = &cpu->fx,
        .env = {.rounding = cpu->fx.fcw >> 10 & 3, .masked = cpu->fx.fcw & FSW_EXCEPTIONS},
    };
}

/* An unmasked exception that keeps the destination as it was. */
static bool blocked(const struct x87 *x)
{
    return x->env.flags & (SOFTFP_I | SOFTFP_D | SOFTFP_Z) & ~x->env.masked;
}

/* Memory destinations also stay when overflow or underflow is unmasked. */
static bool blocked_store(const struct x87 *x)
{
    return x->env.flags & (SOFTFP_I | SOFTFP_D | SOFTFP_Z | SOFTFP_O | SOFTFP_U) & ~x->env.masked;
}

static int commit(struct x87 *x)
{
    bool c1 = x->overflow || (x->env.rounded_up && !x->stack_fault);

    x->fx->fsw |= x->env.flags | (x->stack_fault ? FSW_SF : 0);
    x->fx->fsw = (uint16_t)((x->fx->fsw & ~FSW_C1) | (c1 ? FSW_C1 : 0));
    x87_update_es(x->fx);
    return X86_OK;
}

/* For instructions that leave C1 alone unless the stack faults. */
static int commit_keep_c1(struct x87 *x)
{
    unsigned c1 = x->stack_fault ? 0 : x->fx->fsw & FSW_C1;

    commit(x);
    x->fx->fsw |= (uint16_t)c1;
    return X86_OK;
}

static struct softfp stack_fault(struct x87 *x, bool overflow)
{
    x->env.flags = SOFTFP_I;
    x->stack_fault = true;
    x->overflow = overflow;
    return softfp_default_nan();
}

static void pop(struct x87 *x)
{
    x87_set_tag(x->fx, 0, false);
    x87_set_top(x->fx, (x87_top(x->fx) + 1) & 7);
}

/* True when there is room; else the fault is recorded and, if masked, the indefinite value is pushed. */
static bool room_to_push(struct x87 *x)
{
    if (x87_is_empty(x->fx, 7))
        return true;
    struct softfp indefinite = stack_fault(x, true);
    if (!blocked(x)) {
        x87_set_top(x->fx, (x87_top(x->fx) - 1) & 7);
        x87_put(x->fx, 0, &indefinite);
    }
    return false;
}

static void push(struct x87 *x, const struct softfp *value)
{
    if (blocked(x))
        return;
    x87_set_top(x->fx, (x87_top(x->fx) - 1) & 7);
    x87_put(x->fx, 0, value);
}

static void set_cc(struct x87 *x, unsigned mask, unsigned cc)
{
    x->fx->fsw = (uint16_t)((x->fx->fsw & ~mask) | cc);
}

/* --- comparisons --------------------------------------------------------------------------------------------- */

static void compare_cc(struct x87 *x, int order)
{
    static const unsigned cc[4] = {FSW_C0, FSW_C3, 0, FSW_C3 | FSW_C2 | FSW_C0};

    set_cc(x, FSW_C0 | FSW_C2 | FSW_C3, cc[order + 1]); /* also when an exception is unmasked */
}

static int compare(struct x87 *x, const struct softfp *b, bool quiet, unsigned pops)
{
    struct softfp a = x87_get(x->fx, 0);
    int order;

    if (x87_is_empty(x->fx, 0) || !b) {
        stack_fault(x, false);
        order = 2;
    } else {
        order = x87_compare(x, &a, b, quiet);
    }
    compare_cc(x, order);
    for (unsigned i = 0; i < pops && !blocked(x); i++)
        pop(x);
    return commit(x);
}

static int compare_register(struct x87 *x, unsigned i, bool quiet, unsigned pops)
{
    struct softfp b = x87_get(x->fx, i);
    return compare(x, x87_is_empty(x->fx, i) ? NULL : &b, quiet, pops);
}

/* FCOMI, FUCOMI and the popping forms. */
static int compare_flags(struct x87 *x, unsigned i, bool quiet, bool pops)
{
    static const uint32_t flags[4] = {FLAG_CF, FLAG_ZF, 0, FLAG_ZF | FLAG_PF | FLAG_CF};
    struct softfp a = x87_get(x->fx, 0), b = x87_get(x->fx, i);
    int order = 2;

    if (x87_is_empty(x->fx, 0) || x87_is_empty(x->fx, i))
        stack_fault(x, false);
    else
        order = x87_compare(x, &a, &b, quiet);
    x->cpu->rflags = (x->cpu->rflags & ~(uint64_t)FLAGS_ARITH) | flags[order + 1];
    if (pops && !blocked(x))
        pop(x);
    return commit_keep_c1(x);
}

static int examine(struct x87 *x)
{
    struct softfp a = x87_get(x->fx, 0);
    unsigned cc = a.sign ? FSW_C1 : 0;

    if (x87_is_empty(x->fx, 0))
        cc |= FSW_C3 | FSW_C0;
    else if (a.cls == SOFTFP_NAN)
        cc |= FSW_C0;
    else if (a.cls == SOFTFP_INF)
        cc |= FSW_C2 | FSW_C0;
    else if (a.cls == SOFTFP_ZERO)
        cc |= FSW_C3;
    else if (a.cls == SOFTFP_NORMAL)
        cc |= a.denormal ? FSW_C3 | FSW_C2 : FSW_C2;
    if (a.cls == SOFTFP_ZERO || a.cls == SOFTFP_UNSUPPORTED)
        cc = (cc & ~FSW_C1) | (x->fx->st[0][9] & 0x80 ? FSW_C1 : 0);
    set_cc(x, FSW_CC, cc);
    return X86_OK;
}

/* --- arithmetic ---------------------------------------------------------------------------------------------- */

/* ST(to) = ST(0) op b; `b` is NULL when its register is empty. */
static int arithmetic(struct x87 *x, enum x87_arith op, const struct softfp *b, unsigned to, bool pops)
{
    struct softfp r;

    if (x87_is_empty(x->fx, 0) || !b)
        r = stack_fault(x, false);
    else
        r = x87_arith(x, op, x87_get(x->fx, 0), *b);
    if (!blocked(x)) {
        x87_put(x->fx, to, &r);
        if (pops)
            pop(x);
    }
    return commit(x);
}

static int arithmetic_register(struct x87 *x, enum x87_arith op, unsigned i, unsigned to, bool pops)
{
    struct softfp b = x87_get(x->fx, i);

    if (op == X87_COM || op == X87_COMP)
        return compare_register(x, i, false, op == X87_COMP);
    return arithmetic(x, op, x87_is_empty(x->fx, i) ? NULL : &b, to, pops);
}

/* ST(0) = f(ST(0)), or f(ST(0), ST(1)). */
static int unary(struct x87 *x, struct softfp (*function)(struct x87 *x, struct softfp a))
{
    struct softfp r = x87_is_empty(x->fx, 0) ? stack_fault(x, false) : function(x, x87_get(x->fx, 0));

    if (!blocked(x))
        x87_put(x->fx, 0, &r);
    return commit(x);
}

static int scale(struct x87 *x)
{
    struct softfp r;

    if (x87_is_empty(x->fx, 0) || x87_is_empty(x->fx, 1))
        r = stack_fault(x, false);
    else
        r = x87_scale(x, x87_get(x->fx, 0), x87_get(x->fx, 1));
    if (!blocked(x))
        x87_put(x->fx, 0, &r);
    return commit(x);
}

static int remainder_op(struct x87 *x, bool nearest)
{
    struct softfp r;
    unsigned cc = X87_NO_QUOTIENT;

    if (x87_is_empty(x->fx, 0) || x87_is_empty(x->fx, 1))
        r = stack_fault(x, false);
    else
        r = x87_remainder(x, x87_get(x->fx, 0), x87_get(x->fx, 1), nearest, &cc);
    if (!blocked(x))
        x87_put(x->fx, 0, &r);
    x->env.rounded_up = false;
    commit(x);
    if (cc == X87_NO_QUOTIENT)
        set_cc(x, FSW_C2, 0);
    else
        set_cc(x, FSW_CC, cc);
    return X86_OK;
}

static int extract(struct x87 *x)
{
    struct softfp a = x87_get(x->fx, 0), significand = a, exponent;

    if (x87_is_empty(x->fx, 0)) {
        significand = exponent = stack_fault(x, false);
    } else if (!x87_is_empty(x->fx, 7)) {
        significand = exponent = stack_fault(x, true);
    } else if (x87_nan(x, &a, NULL, &significand)) {
        exponent = significand;
    } else if (a.cls == SOFTFP_ZERO) {
        x->env.flags |= SOFTFP_Z;
        exponent = softfp_infinity(true);
    } else if (a.cls == SOFTFP_INF) {
        exponent = softfp_infinity(false);
    } else {
        x->env.flags |= a.denormal ? SOFTFP_D : 0;
        exponent = softfp_from_int(a.exp);
        significand.exp = 0;
    }
    if (!blocked(x)) {
        x87_put(x->fx, 0, &exponent);
        push(x, &significand);
    }
    return commit(x);
}

/* --- moves --------------------------------------------------------------------------------------------------- */

static int load_register(struct x87 *x, unsigned i)
{
    uint8_t raw[16];

    memcpy(raw, x->fx->st[i], sizeof(raw));
    if (x87_is_empty(x->fx, i)) {
        struct softfp indefinite = stack_fault(x, false);
        push(x, &indefinite);
    } else if (room_to_push(x)) {
        x87_set_top(x->fx, (x87_top(x->fx) - 1) & 7);
        memcpy(x->fx->st[0], raw, sizeof(raw));
        x87_set_tag(x->fx, 0, true);
    }
    return commit(x);
}

static int store_register(struct x87 *x, unsigned i, bool pops)
{
    if (x87_is_empty(x->fx, 0)) {
        struct softfp indefinite = stack_fault(x, false);
        if (!blocked(x))
            x87_put(x->fx, i, &indefinite);
    } else {
        memcpy(x->fx->st[i], x->fx->st[0], sizeof(x->fx->st[i]));
        x87_set_tag(x->fx, i, true);
    }
    if (pops && !blocked(x))
        pop(x);
    return commit(x);
}

/* The alias of FSTP at D9 D8+i: an empty ST(0) is no fault, and only popped. */
static int store_register_unchecked(struct x87 *x, unsigned i)
{
    if (!x87_is_empty(x->fx, 0)) {
        memcpy(x->fx->st[i], x->fx->st[0], sizeof(x->fx->st[i]));
        x87_set_tag(x->fx, i, true);
    }
    pop(x);
    return commit(x);
}

static int exchange(struct x87 *x, unsigned i)
{
    uint8_t raw[16];

    if (x87_is_empty(x->fx, 0) || x87_is_empty(x->fx, i)) {
        struct softfp indefinite = stack_fault(x, false);
        if (blocked(x))
            return commit(x);
        if (x87_is_empty(x->fx, 0))
            x87_put(x->fx, 0, &indefinite);
        if (x87_is_empty(x->fx, i))
            x87_put(x->fx, i, &indefinite);
    }
    memcpy(raw, x->fx->st[0], sizeof(raw));
    memcpy(x->fx->st[0], x->fx->st[i], sizeof(raw));
    memcpy(x->fx->st[i], raw, sizeof(raw));
    return commit(x);
}

/* FCHS, FABS: work on any bit pattern. */
static int change_sign(struct x87 *x, bool absolute)
{
    if (x87_is_empty(x->fx, 0)) {
        struct softfp indefinite = stack_fault(x, false);
        if (!blocked(x))
            x87_put(x->fx, 0, &indefinite);
    } else {
        x->fx->st[0][9] = (uint8_t)(absolute ? x->fx->st[0][9] & 0x7f : x->fx->st[0][9] ^ 0x80);
    }
    return commit(x);
}

/* FCMOVcc: bits 3-4 of ModRM choose CF, ZF, CF | ZF, PF; DB negates. */
static int conditional_move(struct x87 *x, unsigned modrm, bool negate)
{
    static const uint32_t flags[4] = {FLAG_CF, FLAG_ZF, FLAG_CF | FLAG_ZF, FLAG_PF};
    unsigned i = modrm & 7;

    if (x87_is_empty(x->fx, 0) || x87_is_empty(x->fx, i)) {
        struct softfp indefinite = stack_fault(x, false);
        if (!blocked(x))
            x87_put(x->fx, 0, &indefinite);
    } else if (!(x->cpu->rflags & flags[modrm >> 3 & 3]) == negate) {
        memcpy(x->fx->st[0], x->fx->st[i], sizeof(x->fx->st[0]));
    }
    return commit_keep_c1(x);
}

static int load_constant(struct x87 *x, unsigned which)
{
    /* Truncated significand, exponent, and whether the first dropped bit is set. */
    static const struct {
        uint64_t sig;
        int32_t exp;
        bool round;
    } constants[7] = {
        {1ull << 63, 0, false},         /* 1 */
        {0xd49a784bcd1b8afe, 1, false}, /* log2 10 */
        {0xb8aa3b295c17f0bb, 0, true},  /* log2 e */
        {0xc90fdaa22168c234, 1, true},  /* pi */
        {0x9a209a84fbcff798, -2, true}, /* log10 2 */
        {0xb17217f7d1cf79ab, -1, true}, /* ln 2 */
        {0, 0, false},
    };
    struct softfp value = {.cls = which == 6 ? SOFTFP_ZERO : SOFTFP_NORMAL,
                           .exp = constants[which].exp,
                           .sig = constants[which].sig};

    if (which > 0 && which < 6 &&
        (x->env.rounding == SOFTFP_UP || (x->env.rounding == SOFTFP_NEAREST && constants[which].round)))
        value.sig++;
    if (room_to_push(x))
        push(x, &value);
    return commit(x);
}

/* --- memory operands ----------------------------------------------------------------------------------------- */

static int read_extended(struct x86_cpu *cpu, uint8_t raw[16])
{
    memset(raw, 0, 16);
    return mmu_read(cpu, cpu->ea, 10, raw);
}

static int load_extended(struct x87 *x)
{
    uint8_t raw[16];
    int r = read_extended(x->cpu, raw);

    if (r != X86_OK)
        return r;
    if (room_to_push(x)) {
        x87_set_top(x->fx, (x87_top(x->fx) - 1) & 7);
        memcpy(x->fx->st[0], raw, sizeof(raw));
        x87_set_tag(x->fx, 0, true);
    }
    return commit(x);
}

/* Kinds of numbers in memory by opcode & 6: single, 32-bit integer, double, 16-bit integer. */
static int read_number(struct x86_cpu *cpu, unsigned kind, struct softfp *ret)
{
    static const uint8_t bytes[4] = {4, 4, 8, 2};
    const struct softfp_env env = {0};
    uint64_t raw = 0;
    int r = mmu_read(cpu, cpu->ea, bytes[kind], &raw);

    if (r != X86_OK)
        return r;
    switch (kind) {
    case 0:
        *ret = softfp_from_single(&env, (uint32_t)raw);
        break;
    case 1:
        *ret = softfp_from_int((int32_t)raw);
        break;
    case 2:
        *ret = softfp_from_double(&env, raw);
        break;
    default:
        *ret = softfp_from_int((int16_t)raw);
        break;
    }
    return X86_OK;
}

/* FLD m32, FLD m64, FILD. */
static int load_number(struct x87 *x, struct softfp value)
{
    struct softfp nan;

    if (room_to_push(x)) {
        if (x87_nan(x, &value, NULL, &nan))
            value = nan;
        push(x, &value);
        if (value.denormal)
            x->env.flags |= SOFTFP_D; /* does not keep the value from being pushed, not even unmasked */
    }
    return commit(x);
}

static int finish_store(struct x87 *x, unsigned bytes, const void *data, bool pops)
{
    if (blocked_store(x)) {
        x->env.flags &= (uint8_t)~SOFTFP_P; /* nothing was stored, so nothing was rounded */
        x->env.rounded_up = false;
    } else {
        int r = x86_align_check(x->cpu, x->cpu->ea, bytes == 10 ? 8 : bytes);
        r = r != X86_OK ? r : mmu_write(x->cpu, x->cpu->ea, bytes, data);
        if (r != X86_OK)
            return r;
        if (pops)
            pop(x);
    }
    return commit(x);
}

/* FST m32, FST m64. */
static int store_float(struct x87 *x, unsigned bytes, bool pops)
{
    const struct softfp_format *format = bytes == 4 ? &softfp_single : &softfp_double;
    struct softfp a = x87_get(x->fx, 0), r = a;

    if (x87_is_empty(x->fx, 0))
        r = stack_fault(x, false);
    else if (!x87_nan(x, &a, NULL, &r) && a.cls == SOFTFP_NORMAL)
        r = softfp_round_exact(&x->env, format, a.sign, a.exp, a.sig, 0);
    uint64_t raw = 0;
    if (!blocked_store(x))
        raw = bytes == 4 ? softfp_to_single(&r) : softfp_to_double(&r);
    return finish_store(x, bytes, &raw, pops);
}

static int store_int(struct x87 *x, unsigned bytes, bool truncate, bool pops)
{
    int64_t value;

    if (x87_is_empty(x->fx, 0)) {
        stack_fault(x, false);
        value = (int64_t)(UINT64_MAX << (8 * bytes - 1));
    } else {
        value = x87_to_int(x, x87_get(x->fx, 0), 8 * bytes, truncate);
    }
    return finish_store(x, bytes, &value, pops);
}

static int store_extended(struct x87 *x)
{
    struct softfp indefinite;
    uint64_t significand = 3ull << 62;
    uint16_t sign_exponent = 0xffff;
    uint8_t raw[16];

    memcpy(raw, x->fx->st[0], sizeof(raw));
    if (x87_is_empty(x->fx, 0)) {
        indefinite = stack_fault(x, false);
        softfp_to_extended(&indefinite, &significand, &sign_exponent);
        memcpy(raw, &significand, 8);
        memcpy(raw + 8, &sign_exponent, 2);
    }
    return finish_store(x, 10, raw, true);
}

static int store_bcd(struct x87 *x)
{
    struct softfp a = x87_get(x->fx, 0);
    uint8_t bcd[10];

    if (x87_is_empty(x->fx, 0))
        a = stack_fault(x, false);
    x87_to_bcd(x, a, bcd);
    return finish_store(x, 10, bcd, true);
}

static int load_bcd(struct x87 *x)
{
    uint8_t raw[16];
    int r = read_extended(x->cpu, raw);

    if (r != X86_OK)
        return r;
    return load_number(x, x87_from_bcd(raw));
}

/* --- control instructions ------------------------------------------------------------------------------------ */

static int load_control_word(struct x86_cpu *cpu)
{
    uint16_t fcw;
    int r = mmu_read(cpu, cpu->ea, sizeof(fcw), &fcw);

    if (r != X86_OK)
        return r;
    cpu->fx.fcw = (uint16_t)((fcw & FCW_VALID) | FCW_FIXED);
    x87_update_es(&cpu->fx);
    return X86_OK;
}

static bool is_memory(unsigned modrm)
{
    return modrm < 0xc0;
}

static int align_check(struct x86_cpu *cpu, const struct ir_op *op, unsigned opcode, unsigned modrm)
{
    bool write;
    unsigned bytes = x86_x87_mem(opcode, modrm, op->size, &write);
    return x86_align_check(cpu, cpu->ea, bytes == 10 ? 8 : bytes > 10 ? op->size == 2 ? 2 : 4 : bytes);
}

/* Instructions that neither wait nor touch the last-instruction pointers. X86_OK and *ret_done, or a fault. */
static int no_wait(struct x86_cpu *cpu, const struct ir_op *op, unsigned opcode, unsigned modrm,
                   bool *ret_done)
{
    unsigned key = opcode << 8 | (is_memory(modrm) ? modrm >> 3 & 7 : modrm);

    *ret_done = true;
    if (x86_x87_no_wait(opcode, modrm)) {
        int r = align_check(cpu, op, opcode, modrm);
        if (r != X86_OK)
            return r;
    }
    switch (key) {
    case 0x106: /* FNSTENV */
        return x87_store_env(cpu, op->size, false);
    case 0x506: /* FNSAVE */
        return x87_store_env(cpu, op->size, true);
    case 0x107: /* FNSTCW */
        return mmu_write(cpu, cpu->ea, 2, &cpu->fx.fcw);
    case 0x507: /* FNSTSW m16 */
        return mmu_write(cpu, cpu->ea, 2, &cpu->fx.fsw);
    case 0x7e0: /* FNSTSW AX */
        cpu->gpr[IR_RAX] = (cpu->gpr[IR_RAX] & ~0xffffull) | cpu->fx.fsw;
        return X86_OK;
    case 0x3e2: /* FNCLEX */
        cpu->fx.fsw &= (uint16_t) ~(FSW_EXCEPTIONS | FSW_SF | FSW_ES | FSW_B);
        return X86_OK;
    case 0x3e3: /* FNINIT */
        x87_init(&cpu->fx);
        return X86_OK;
    case 0x3e0: /* FNENI, FNDISI, FNSETPM: nothing since the 80387 */
    case 0x3e1:
    case 0x3e4:
        return X86_OK;
    default:
        *ret_done = false;
        return X86_OK;
    }
}

/* Waiting control instructions. */
static int control(struct x86_cpu *cpu, const struct ir_op *op, unsigned opcode, unsigned modrm,
                   bool *ret_done)
{
    unsigned key = opcode << 8 | (is_memory(modrm) ? modrm >> 3 & 7 : modrm);

    *ret_done = true;
    switch (key) {
    case 0x104: /* FLDENV */
        return x87_load_env(cpu, op->size, false);
    case 0x504: /* FRSTOR */
        return x87_load_env(cpu, op->size, true);
    case 0x105: /* FLDCW */
        return load_control_word(cpu);
    default:
        *ret_done = false;
        return X86_OK;
    }
}

/* --- dispatch ------------------------------------------------------------------------------------------------ */

static int execute_memory(struct x87 *x, unsigned opcode, unsigned n)
{
    struct softfp value;
    int r;

    if (!(opcode & 1) || n == 0) { /* arithmetic, FLD, FILD */
        r = read_number(x->cpu, opcode >> 1, &value);
        if (r != X86_OK)
            return r;
        if (opcode & 1)
            return load_number(x, value);
        if (n == X87_COM || n == X87_COMP)
            return compare(x, &value, false, n == X87_COMP);
        return arithmetic(x, n, &value, 0, false);
    }
    switch (opcode << 4 | n) {
    case 0x12: /* FST m32, FSTP m32 */
    case 0x13:
        return store_float(x, 4, n == 3);
    case 0x52:
    case 0x53:
        return store_float(x, 8, n == 3);
    case 0x31: /* FISTTP m32, m64, m16 */
        return store_int(x, 4, true, true);
    case 0x51:
        return store_int(x, 8, true, true);
    case 0x71:
        return store_int(x, 2, true, true);
    case 0x32: /* FIST, FISTP m32 */
    case 0x33:
        return store_int(x, 4, false, n == 3);
    case 0x72: /* FIST, FISTP m16 */
    case 0x73:
        return store_int(x, 2, false, n == 3);
    case 0x77:
        return store_int(x, 8, false, true);
    case 0x35:
        return load_extended(x);
    case 0x37:
        return store_extended(x);
    case 0x74:
        return load_bcd(x);
    case 0x76:
        return store_bcd(x);
    default: { /* 0x75: FILD m64 */
        int64_t integer;
        r = mmu_read(x->cpu, x->cpu->ea, sizeof(integer), &integer);
        return r != X86_OK ? r : load_number(x, softfp_from_int(integer));
    }
    }
}

/* D9 D0-FF */
static int execute_d9(struct x87 *x, unsigned modrm)
{
    struct softfp zero = softfp_zero(false);

    switch (modrm) {
    case 0xd0: /* FNOP */
        return X86_OK;
    case 0xe0:
    case 0xe1:
        return change_sign(x, modrm == 0xe1);
    case 0xe4: /* FTST */
        return compare(x, &zero, false, 0);
    case 0xe5:
        return examine(x);
    case 0xf4:
        return extract(x);
    case 0xf5: /* FPREM1 */
    case 0xf8:
        return remainder_op(x, modrm == 0xf5);
    case 0xf6: /* FDECSTP */
    case 0xf7:
        x87_set_top(x->fx, (x87_top(x->fx) + (modrm == 0xf6 ? 7 : 1)) & 7);
        return commit(x);
    case 0xfa:
        return unary(x, x87_sqrt);
    case 0xfc:
        return unary(x, x87_round_integral);
    case 0xfd:
        return scale(x);
    default:
        break;
    }
    if (modrm >= 0xe8 && modrm <= 0xee)
        return load_constant(x, modrm - 0xe8);
    x87_transcendental(x->cpu, modrm);
    return X86_OK;
}

static int execute_register(struct x87 *x, unsigned opcode, unsigned modrm)
{
    unsigned i = modrm & 7, n = modrm >> 3 & 7;

    switch (opcode) {
    case 0: /* ST(0) op= ST(i) */
        return arithmetic_register(x, n, i, 0, false);
    case 4: /* ST(i) op= ST(0) */
        return arithmetic_register(x, n, i, i, false);
    case 6:
        if (modrm == 0xd9) /* FCOMPP */
            return compare_register(x, 1, false, 2);
        if (n == X87_COM) /* an alias of FCOMP */
            return compare_register(x, i, false, 1);
        return arithmetic_register(x, n, i, i, true);
    case 1:
        if (n == 0)
            return load_register(x, i);
        if (n == 1)
            return exchange(x, i);
        if (n == 3)
            return store_register_unchecked(x, i);
        return execute_d9(x, modrm);
    case 2:
        return modrm == 0xe9 ? compare_register(x, 1, true, 2) : conditional_move(x, modrm, false);
    case 3:
        return n >= 5 ? compare_flags(x, i, n == 5, false) : conditional_move(x, modrm, true);
    case 5:
        break;
    default:
        if (n >= 5)
            return compare_flags(x, i, n == 5, true);
        break;
    }
    /* DD, and the aliases in DF */
    switch (n) {
    case 0: /* FFREE, FFREEP */
        x87_set_tag(x->fx, i, false);
        if (opcode == 7)
            pop(x);
        return commit(x);
    case 1:
        return exchange(x, i);
    case 2:
        return store_register(x, i, opcode == 7);
    case 3:
        return store_register(x, i, true);
    default: /* FUCOM, FUCOMP */
        return compare_register(x, i, true, n == 5);
    }
}

/* The last instruction's pointers. Opcode and operand only with an unmasked exception (CPUID.7.0:EBX.6, SDM 1 8.1.8). */
static void note_instruction(struct x86_cpu *cpu, const struct ir_op *op, unsigned opcode, unsigned modrm)
{
    cpu->fx.fip = cpu->rip;
    if (!(cpu->fx.fsw & FSW_ES))
        return;
    cpu->fx.fop = (uint16_t)(opcode << 8 | modrm);
    if (is_memory(modrm)) {
        uint64_t offset = cpu->ea - (op->src2 == IR_NONE ? 0 : cpu->seg[op->src2].base);
        cpu->fx.fdp = cpu->mode & MODE_CS64 ? offset : (uint32_t)offset;
    }
}

int x86_x87_exec(struct x86_cpu *cpu, const struct ir_op *op)
{
    unsigned opcode = op->aux >> 8 & 7, modrm = op->aux & 0xff;
    bool done;
    int r;

    x86_x87_sync(cpu);
    r = no_wait(cpu, op, opcode, modrm, &done);
    if (done)
        return r;
    if (cpu->fx.fsw & FSW_ES)
        return x86_raise(cpu, EXC_MF);
    if (is_memory(modrm) && op->flags & IRF_SRC_MEM && (r = align_check(cpu, op, opcode, modrm)) != X86_OK)
        return r;
    r = control(cpu, op, opcode, modrm, &done);
    if (done)
        return r;

    struct x87 x = begin(cpu);
    r = is_memory(modrm) ? execute_memory(&x, opcode, modrm >> 3 & 7) : execute_register(&x, opcode, modrm);
    if (r == X86_OK)
        note_instruction(cpu, op, opcode, modrm);
    return r;
}
