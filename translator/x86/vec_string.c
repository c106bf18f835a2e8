/* SPDX-License-Identifier: Apache-2.0 */
/* Reference implementation: PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM (SDM 2B 4.1). */
#include "translator/x86/vec_internal.h"

struct string_operand {
    int32_t element[16];
    int length; /* valid elements */
};

static void load_string(struct string_operand *ret, const union x86_vec *v, unsigned imm, bool is_explicit,
                        int64_t length)
{
    int count = imm & 1 ? 8 : 16;

    for (int i = 0; i < count; i++) {
        if (imm & 1)
            ret->element[i] = imm & 2 ? (int16_t)v->w[i] : v->w[i];
        else
            ret->element[i] = imm & 2 ? (int8_t)v->b[i] : v->b[i];
    }
    if (is_explicit) {
        ret->length = length > count || length < -count ? count : (int)(length < 0 ? -length : length);
        return;
    }
    ret->length = 0;
    while (ret->length < count && ret->element[ret->length])
        ret->length++;
}

static uint32_t equal_any(const struct string_operand *a, const struct string_operand *b)
{
    uint32_t result = 0;

    for (int j = 0; j < b->length; j++)
        for (int i = 0; i < a->length; i++)
            if (a->element[i] == b->element[j])
                result |= 1u << j;
    return result;
}

static uint32_t ranges(const struct string_operand *a, const struct string_operand *b)
{
    uint32_t result = 0;

    for (int j = 0; j < b->length; j++)
        for (int i = 0; i + 1 < a->length; i += 2)
            if (b->element[j] >= a->element[i] && b->element[j] <= a->element[i + 1])
                result |= 1u << j;
    return result;
}

/* Both invalid counts as equal, one invalid as different. */
static uint32_t equal_each(const struct string_operand *a, const struct string_operand *b, int count)
{
    uint32_t result = 0;

    for (int i = 0; i < count; i++) {
        bool valid_a = i < a->length, valid_b = i < b->length;
        if (valid_a == valid_b && (!valid_a || a->element[i] == b->element[i]))
            result |= 1u << i;
    }
    return result;
}

static uint32_t equal_ordered(const struct string_operand *a, const struct string_operand *b, int count)
{
    uint32_t result = 0;

    for (int j = 0; j < count; j++) {
        bool match = true;
        for (int i = 0; i < a->length && i + j < count && match; i++)
            match = i + j < b->length && a->element[i] == b->element[i + j];
        result |= (uint32_t)match << j;
    }
    return result;
}

static uint32_t aggregate(const struct string_operand *a, const struct string_operand *b, unsigned imm,
                          int count)
{
    switch (imm >> 2 & 3) {
    case 0:
        return equal_any(a, b);
    case 1:
        return ranges(a, b);
    case 2:
        return equal_each(a, b, count);
    default:
        return equal_ordered(a, b, count);
    }
}

static void put_mask(struct x86_cpu *cpu, uint32_t result, unsigned imm, int count)
{
    union x86_vec *xmm0 = &cpu->vec[0];
    int lane = 16 / count;

    xmm0->q[0] = xmm0->q[1] = 0;
    if (!(imm & 0x40))
        xmm0->q[0] = result;
    for (int i = 0; i < 16 && imm & 0x40; i++)
        xmm0->b[i] = result >> (i / lane) & 1 ? 0xff : 0;
}

static void put_index(struct x86_cpu *cpu, uint32_t result, unsigned imm, int count)
{
    if (!result)
        cpu->gpr[IR_RCX] = (uint64_t)count;
    else if (imm & 0x40)
        cpu->gpr[IR_RCX] = 31 - (unsigned)__builtin_clz(result);
    else
        cpu->gpr[IR_RCX] = (unsigned)__builtin_ctz(result);
}

int vec_pcmpstr(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                union x86_vec *mem)
{
    unsigned imm = (uint8_t)op->imm;
    bool is_explicit = insn->opcode < 0x62, wide = op->size == 8;
    int count = imm & 1 ? 8 : 16;
    uint32_t all = (1u << count) - 1;
    struct string_operand a, b;
    union x86_vec va, vb;

    vec_get_reg(cpu, op, insn, &va);
    vec_get_rm(cpu, op, insn, mem, &vb);
    load_string(&a, &va, imm, is_explicit, wide ? (int64_t)cpu->gpr[IR_RAX] : (int32_t)cpu->gpr[IR_RAX]);
    load_string(&b, &vb, imm, is_explicit, wide ? (int64_t)cpu->gpr[IR_RDX] : (int32_t)cpu->gpr[IR_RDX]);

    uint32_t result = aggregate(&a, &b, imm, count);
    if ((imm & 0x30) == 0x10)
        result ^= all;
    else if ((imm & 0x30) == 0x30)
        result ^= (1u << b.length) - 1;

    vec_set_flags(cpu, (result ? FLAG_CF : 0) | (b.length < count ? FLAG_ZF : 0) |
                           (a.length < count ? FLAG_SF : 0) | (result & 1 ? FLAG_OF : 0));
    if (insn->opcode & 1)
        put_index(cpu, result, imm, count);
    else
        put_mask(cpu, result, imm, count);
    return X86_OK;
}
