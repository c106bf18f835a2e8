/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reference implementation: packed integer arithmetic, comparison, logic and shifts.
 *
 * Lane by lane: fetch a lane of both operands as a number, compute, store. The functions that change the lane
 * structure (packs, multiply-add, horizontal ones) follow the manuals' text instead.
 */
#include "translator/x86/vec_internal.h"

static uint64_t lane_get(const union x86_vec *v, unsigned i, unsigned bytes)
{
    uint64_t lane = 0;
    memcpy(&lane, &v->b[i * bytes], bytes);
    return lane;
}

static int64_t lane_get_signed(const union x86_vec *v, unsigned i, unsigned bytes)
{
    unsigned unused = 64 - 8 * bytes;
    return (int64_t)(lane_get(v, i, bytes) << unused) >> unused;
}

static void lane_put(union x86_vec *v, unsigned i, unsigned bytes, uint64_t lane)
{
    memcpy(&v->b[i * bytes], &lane, bytes);
}

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

static int64_t clamp_signed(int64_t value, unsigned bytes)
{
    return clamp(value, -(1LL << (8 * bytes - 1)), (1LL << (8 * bytes - 1)) - 1);
}

static int64_t clamp_unsigned(int64_t value, unsigned bytes)
{
    return clamp(value, 0, (1LL << 8 * bytes) - 1);
}

enum lane_op {
    L_ADD,
    L_SUB,
    L_ADDS,
    L_SUBS,
    L_ADDUS,
    L_SUBUS,
    L_CMPEQ,
    L_CMPGT,
    L_MINU,
    L_MAXU,
    L_MINS,
    L_MAXS,
    L_AVG,
    L_MULLO,
    L_MULHI,
    L_MULHU,
    L_AND,
    L_ANDN,
    L_OR,
    L_XOR,
    L_SIGN,
    L_ABS,
    L_MULHRS,
};

struct lane_row {
    uint8_t opcode;
    uint8_t lane; /* bytes */
    uint8_t op;   /* enum lane_op */
};

static uint64_t lane_compute(enum lane_op op, unsigned bytes, uint64_t a, uint64_t b, int64_t sa, int64_t sb)
{
    switch (op) {
    case L_ADD:
        return a + b;
    case L_SUB:
        return a - b;
    case L_ADDS:
        return (uint64_t)clamp_signed(sa + sb, bytes);
    case L_SUBS:
        return (uint64_t)clamp_signed(sa - sb, bytes);
    case L_ADDUS:
        return (uint64_t)clamp_unsigned((int64_t)(a + b), bytes);
    case L_SUBUS:
        return (uint64_t)clamp_unsigned((int64_t)(a - b), bytes);
    case L_CMPEQ:
        return a == b ? UINT64_MAX : 0;
    case L_CMPGT:
        return sa > sb ? UINT64_MAX : 0;
    case L_MINU:
        return a < b ? a : b;
    case L_MAXU:
        return a > b ? a : b;
    case L_MINS:
        return (uint64_t)(sa < sb ? sa : sb);
    case L_MAXS:
        return (uint64_t)(sa > sb ? sa : sb);
    case L_AVG:
        return (a + b + 1) >> 1;
    case L_MULLO:
        return a * b;
    case L_MULHI:
        return (uint64_t)(sa * sb) >> 8 * bytes;
    case L_MULHU:
        return (a * b) >> 8 * bytes;
    case L_AND:
        return a & b;
    case L_ANDN:
        return ~a & b;
    case L_OR:
        return a | b;
    case L_XOR:
        return a ^ b;
    case L_SIGN:
        return sb < 0 ? 0 - a : sb ? a : 0;
    case L_ABS:
        return sb < 0 ? 0 - b : b;
    case L_MULHRS:
        return (uint64_t)(((sa * sb >> 14) + 1) >> 1);
    }
    return 0;
}

static const struct lane_row *lane_find(const struct lane_row *rows, unsigned count, unsigned opcode)
{
    for (unsigned i = 0; i < count; i++)
        if (rows[i].opcode == opcode)
            return &rows[i];
    return NULL;
}

static void lanes(const struct lane_row *row, unsigned bytes, union x86_vec *d, const union x86_vec *a,
                  const union x86_vec *b)
{
    for (unsigned i = 0; i < bytes / row->lane; i++)
        lane_put(d, i, row->lane,
                 lane_compute(row->op, row->lane, lane_get(a, i, row->lane), lane_get(b, i, row->lane),
                              lane_get_signed(a, i, row->lane), lane_get_signed(b, i, row->lane)));
}

/* --- 0F ------------------------------------------------------------------------------------------------------ */

static const struct lane_row rows_0f[] = {
    {0x54, 8, L_AND},   {0x55, 8, L_ANDN},  {0x56, 8, L_OR},    {0x57, 8, L_XOR},   {0x64, 1, L_CMPGT},
    {0x65, 2, L_CMPGT}, {0x66, 4, L_CMPGT}, {0x74, 1, L_CMPEQ}, {0x75, 2, L_CMPEQ}, {0x76, 4, L_CMPEQ},
    {0xd4, 8, L_ADD},   {0xd5, 2, L_MULLO}, {0xd8, 1, L_SUBUS}, {0xd9, 2, L_SUBUS}, {0xda, 1, L_MINU},
    {0xdb, 8, L_AND},   {0xdc, 1, L_ADDUS}, {0xdd, 2, L_ADDUS}, {0xde, 1, L_MAXU},  {0xdf, 8, L_ANDN},
    {0xe0, 1, L_AVG},   {0xe3, 2, L_AVG},   {0xe4, 2, L_MULHU}, {0xe5, 2, L_MULHI}, {0xe8, 1, L_SUBS},
    {0xe9, 2, L_SUBS},  {0xea, 2, L_MINS},  {0xeb, 8, L_OR},    {0xec, 1, L_ADDS},  {0xed, 2, L_ADDS},
    {0xee, 2, L_MAXS},  {0xef, 8, L_XOR},   {0xf8, 1, L_SUB},   {0xf9, 2, L_SUB},   {0xfa, 4, L_SUB},
    {0xfb, 8, L_SUB},   {0xfc, 1, L_ADD},   {0xfd, 2, L_ADD},   {0xfe, 4, L_ADD},
};

/* PACKSSWB, PACKSSDW, PACKUSWB, PACKUSDW: first `a`, then `b`, each lane halved with saturation. */
static void pack(union x86_vec *d, const union x86_vec *a, const union x86_vec *b, unsigned bytes,
                 unsigned lane, bool is_signed)
{
    unsigned half = bytes / lane;

    for (unsigned i = 0; i < 2 * half; i++) {
        int64_t value = lane_get_signed(i < half ? a : b, i % half, lane);
        value = is_signed ? clamp_signed(value, lane / 2) : clamp_unsigned(value, lane / 2);
        lane_put(d, i, lane / 2, (uint64_t)value);
    }
}

static void sum_of_differences(union x86_vec *d, const union x86_vec *a, const union x86_vec *b,
                               unsigned bytes)
{
    for (unsigned i = 0; i < bytes / 8; i++) {
        uint64_t sum = 0;
        for (unsigned j = 8 * i; j < 8 * i + 8; j++)
            sum += a->b[j] > b->b[j] ? a->b[j] - b->b[j] : b->b[j] - a->b[j];
        d->q[i] = sum;
    }
}

int vec_int(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn, union x86_vec *mem)
{
    const struct lane_row *row = lane_find(rows_0f, sizeof(rows_0f) / sizeof(rows_0f[0]), insn->opcode);
    unsigned bytes = vec_bytes(insn);
    union x86_vec a, b, d;

    vec_get_reg(cpu, op, insn, &a);
    vec_get_rm(cpu, op, insn, mem, &b);
    if (row) {
        lanes(row, bytes, &d, &a, &b);
        vec_put_reg(cpu, op, insn, &d);
        return X86_OK;
    }
    switch (insn->opcode) {
    case 0x63:
    case 0x67:
        pack(&d, &a, &b, bytes, 2, insn->opcode == 0x63);
        break;
    case 0x6b:
        pack(&d, &a, &b, bytes, 4, true);
        break;
    case 0xf4: /* PMULUDQ */
        for (unsigned i = 0; i < bytes / 8; i++)
            d.q[i] = (uint64_t)a.d[2 * i] * b.d[2 * i];
        break;
    case 0xf5: /* PMADDWD */
        for (unsigned i = 0; i < bytes / 4; i++)
            d.d[i] = (uint32_t)((int16_t)a.w[2 * i] * (int16_t)b.w[2 * i]) +
                     (uint32_t)((int16_t)a.w[2 * i + 1] * (int16_t)b.w[2 * i + 1]);
        break;
    default: /* 0xf6: PSADBW */
        sum_of_differences(&d, &a, &b, bytes);
        break;
    }
    vec_put_reg(cpu, op, insn, &d);
    return X86_OK;
}

/* --- shifts -------------------------------------------------------------------------------------------------- */

enum shift_kind { SHIFT_RIGHT, SHIFT_ARITHMETIC, SHIFT_LEFT };

static void shift(union x86_vec *v, unsigned bytes, unsigned lane, enum shift_kind kind, uint64_t count)
{
    unsigned bits = 8 * lane;

    for (unsigned i = 0; i < bytes / lane; i++) {
        uint64_t value = lane_get(v, i, lane);
        if (kind == SHIFT_ARITHMETIC)
            value = (uint64_t)(lane_get_signed(v, i, lane) >> (count < bits ? count : bits - 1));
        else if (count >= bits)
            value = 0;
        else
            value = kind == SHIFT_LEFT ? value << count : value >> count;
        lane_put(v, i, lane, value);
    }
}

/* Dx = right, Ex = arithmetic, Fx = left; 1 = words, 2 = doublewords, 3 = quadwords. */
int vec_shift(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
              union x86_vec *mem)
{
    union x86_vec v, count;

    vec_get_reg(cpu, op, insn, &v);
    vec_get_rm(cpu, op, insn, mem, &count);
    shift(&v, vec_bytes(insn), 1u << (insn->opcode & 15), (enum shift_kind)((insn->opcode >> 4) - 0xd),
          count.q[0]);
    vec_put_reg(cpu, op, insn, &v);
    return X86_OK;
}

/* 71 = words, 72 = doublewords, 73 = quadwords; /2 right, /4 arithmetic, /6 left, 73 /3 and /7 whole register. */
int vec_shift_imm(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
                  union x86_vec *mem)
{
    unsigned count = (uint8_t)op->imm;
    union x86_vec v;

    vec_get_rm(cpu, op, insn, mem, &v);
    if (insn->modrm_ext & 1) {
        unsigned bytes = count < 16 ? count : 16;
        union x86_vec d = {0};
        if (insn->modrm_ext == 7)
            memcpy(&d.b[bytes], v.b, 16 - bytes);
        else
            memcpy(d.b, &v.b[bytes], 16 - bytes);
        v = d;
    } else {
        shift(&v, vec_bytes(insn), 1u << (insn->opcode & 3), (enum shift_kind)(insn->modrm_ext / 2 - 1),
              count);
    }
    vec_put_rm(cpu, op, insn, mem, &v);
    return X86_OK;
}

/* --- 0F 38 --------------------------------------------------------------------------------------------------- */

static const struct lane_row rows_0f38[] = {
    {0x08, 1, L_SIGN}, {0x09, 2, L_SIGN}, {0x0a, 4, L_SIGN},  {0x0b, 2, L_MULHRS}, {0x1c, 1, L_ABS},
    {0x1d, 2, L_ABS},  {0x1e, 4, L_ABS},  {0x29, 8, L_CMPEQ}, {0x37, 8, L_CMPGT},  {0x38, 1, L_MINS},
    {0x39, 4, L_MINS}, {0x3a, 2, L_MINU}, {0x3b, 4, L_MINU},  {0x3c, 1, L_MAXS},   {0x3d, 4, L_MAXS},
    {0x3e, 2, L_MAXU}, {0x3f, 4, L_MAXU}, {0x40, 4, L_MULLO},
};

/* PHADDW/D/SW, PHSUBW/D/SW: opcode & 3 is 1 word, 2 doubleword, 3 word saturating. */
static void horizontal(union x86_vec *d, const union x86_vec *a, const union x86_vec *b, unsigned bytes,
                       unsigned opcode)
{
    unsigned lane = (opcode & 3) == 2 ? 4 : 2, half = bytes / lane / 2;

    for (unsigned i = 0; i < 2 * half; i++) {
        const union x86_vec *s = i < half ? a : b;
        int64_t x = lane_get_signed(s, 2 * (i % half), lane),
                y = lane_get_signed(s, 2 * (i % half) + 1, lane);
        int64_t value = opcode < 4 ? x + y : x - y;
        lane_put(d, i, lane, (uint64_t)((opcode & 3) == 3 ? clamp_signed(value, lane) : value));
    }
}

static void shuffle_bytes(union x86_vec *d, const union x86_vec *a, const union x86_vec *b, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        d->b[i] = b->b[i] & 0x80 ? 0 : a->b[b->b[i] & (bytes - 1)];
}

static void multiply_add_bytes(union x86_vec *d, const union x86_vec *a, const union x86_vec *b,
                               unsigned bytes)
{
    for (unsigned i = 0; i < bytes / 2; i++) {
        int sum = a->b[2 * i] * (int8_t)b->b[2 * i] + a->b[2 * i + 1] * (int8_t)b->b[2 * i + 1];
        d->w[i] = (uint16_t)clamp_signed(sum, 2);
    }
}

static void minimum_position(union x86_vec *d, const union x86_vec *s)
{
    unsigned best = 0;

    for (unsigned i = 1; i < 8; i++)
        if (s->w[i] < s->w[best])
            best = i;
    *d = (union x86_vec){.w = {s->w[best], (uint16_t)best}};
}

static void blend_by_sign(union x86_vec *d, const union x86_vec *a, const union x86_vec *b,
                          const union x86_vec *mask, unsigned lane)
{
    for (unsigned i = 0; i < 16 / lane; i++)
        lane_put(d, i, lane, lane_get(lane_get_signed(mask, i, lane) < 0 ? b : a, i, lane));
}

int vec_int38(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
              union x86_vec *mem)
{
    const struct lane_row *row = lane_find(rows_0f38, sizeof(rows_0f38) / sizeof(rows_0f38[0]), insn->opcode);
    unsigned bytes = vec_bytes(insn);
    union x86_vec a, b, d;

    vec_get_reg(cpu, op, insn, &a);
    vec_get_rm(cpu, op, insn, mem, &b);
    if (row) {
        lanes(row, bytes, &d, &a, &b);
        vec_put_reg(cpu, op, insn, &d);
        return X86_OK;
    }
    switch (insn->opcode) {
    case 0x00:
        shuffle_bytes(&d, &a, &b, bytes);
        break;
    case 0x04:
        multiply_add_bytes(&d, &a, &b, bytes);
        break;
    case 0x10:
        blend_by_sign(&d, &a, &b, &cpu->vec[0], 1);
        break;
    case 0x14:
        blend_by_sign(&d, &a, &b, &cpu->vec[0], 4);
        break;
    case 0x15:
        blend_by_sign(&d, &a, &b, &cpu->vec[0], 8);
        break;
    case 0x28: /* PMULDQ */
        for (unsigned i = 0; i < 2; i++)
            d.q[i] = (uint64_t)((int64_t)(int32_t)a.d[2 * i] * (int32_t)b.d[2 * i]);
        break;
    case 0x2b:
        pack(&d, &a, &b, 16, 4, false);
        break;
    case 0x41:
        minimum_position(&d, &b);
        break;
    default: /* 01-03, 05-07 */
        horizontal(&d, &a, &b, bytes, insn->opcode);
        break;
    }
    vec_put_reg(cpu, op, insn, &d);
    return X86_OK;
}

int vec_ptest(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
              union x86_vec *mem)
{
    union x86_vec a, b;

    vec_get_reg(cpu, op, insn, &a);
    vec_get_rm(cpu, op, insn, mem, &b);
    vec_set_flags(cpu, (!((a.q[0] & b.q[0]) | (a.q[1] & b.q[1])) ? FLAG_ZF : 0) |
                           (!((~a.q[0] & b.q[0]) | (~a.q[1] & b.q[1])) ? FLAG_CF : 0));
    return X86_OK;
}

/* --- 0F 3A --------------------------------------------------------------------------------------------------- */

static void align_right(union x86_vec *d, const union x86_vec *a, const union x86_vec *b, unsigned bytes,
                        unsigned count)
{
    uint8_t both[64] = {0};

    memcpy(both, b, bytes);
    memcpy(both + bytes, a, bytes);
    memcpy(d, both + (count < 2 * bytes ? count : 2 * bytes), bytes);
}

static void multiple_sums(union x86_vec *d, const union x86_vec *a, const union x86_vec *b, unsigned imm)
{
    unsigned from_a = (imm >> 2 & 1) * 4, from_b = (imm & 3) * 4;

    for (unsigned i = 0; i < 8; i++) {
        unsigned sum = 0;
        for (unsigned j = 0; j < 4; j++) {
            int difference = a->b[from_a + i + j] - b->b[from_b + j];
            sum += (unsigned)(difference < 0 ? -difference : difference);
        }
        d->w[i] = (uint16_t)sum;
    }
}

static void blend_by_imm(union x86_vec *d, const union x86_vec *a, const union x86_vec *b, unsigned lane,
                         unsigned imm)
{
    for (unsigned i = 0; i < 16 / lane; i++)
        lane_put(d, i, lane, lane_get(imm >> i & 1 ? b : a, i, lane));
}

int vec_int3a(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
              union x86_vec *mem)
{
    unsigned imm = (uint8_t)op->imm;
    union x86_vec a, b, d;

    vec_get_reg(cpu, op, insn, &a);
    vec_get_rm(cpu, op, insn, mem, &b);
    switch (insn->opcode) {
    case 0x0c:
        blend_by_imm(&d, &a, &b, 4, imm);
        break;
    case 0x0d:
        blend_by_imm(&d, &a, &b, 8, imm);
        break;
    case 0x0e:
        blend_by_imm(&d, &a, &b, 2, imm);
        break;
    case 0x0f:
        align_right(&d, &a, &b, vec_bytes(insn), imm);
        break;
    default: /* 0x42: MPSADBW */
        multiple_sums(&d, &a, &b, imm);
        break;
    }
    vec_put_reg(cpu, op, insn, &d);
    return X86_OK;
}
