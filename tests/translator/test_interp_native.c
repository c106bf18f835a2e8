/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every integer instruction, interpreted and on the host CPU, from the same random registers, flags and memory. A failure
 * means that guests compute something else under the interpreter than on a real processor. Flags that the manuals leave open
 * are compared too where the host is of the kind that the interpreter follows.
 */
#include <glib.h>
#include <inttypes.h>
#include <string.h>

#include "tests/translator/fake_cpu.h"
#include "tests/translator/native.h"
#include "translator/interp.h"
#include "translator/x86/decode.h"
#include "translator/x86/sys_internal.h"

#define TRIALS 400

enum {
    NO_MODRM = 1 << 0,
    BYTE = 1 << 1, /* opcode bit 0 clear: byte form; tested with its word form opcode + 1 too */
    MEM = 1 << 2,  /* memory form exists */
    REG = 1 << 3,  /* register form exists */
    RM = MEM | REG,
    LOCK = 1 << 4,
    IMM8 = 1 << 5,
    IMMZ = 1 << 6, /* imm8 for the byte form, else 16 or 32 */
    IMMV = 1 << 7,
    PLUS_R = 1 << 8, /* register in the opcode */
    NO16 = 1 << 9,
    ONLY8 = 1 << 10, /* a byte instruction without a word form */
    STACK = 1 << 11,
    BITS = 1 << 12, /* bit string: the offset register is kept small */
    STRING = 1 << 13,
    DIVIDE = 1 << 14, /* operands are chosen so that most quotients fit */
    ONLY64 = 1 << 15,
    LEGACY = 1 << 16, /* not in 64-bit code */
    FRAME = 1 << 17,  /* ENTER's immediates */
};

#define UNDEF_SHIFT    (FLAG_OF | FLAG_AF | FLAG_CF)
#define UNDEF_MUL      (FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF)
#define UNDEF_BIT      (FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF)
#define UNDEF_SCAN     (FLAGS_ARITH & ~FLAG_ZF)
#define UNDEF_HERE_TOO (1u << 31) /* not what current Intel processors give either */

struct row {
    const char *name;
    uint8_t prefix; /* F2 or F3, or 0 */
    uint8_t map;    /* 0, 0x0f, 0x38 */
    uint8_t opcode;
    int8_t ext; /* /n, or -1: any register */
    uint32_t flags;
    uint32_t undefined; /* flags that the architecture leaves open */
};

static const struct row rows[] = {
    /* clang-format off */
    {"add", 0, 0, 0x00, -1, RM | BYTE | LOCK}, {"or", 0, 0, 0x08, -1, RM | BYTE | LOCK, FLAG_AF},
    {"adc", 0, 0, 0x10, -1, RM | BYTE | LOCK}, {"sbb", 0, 0, 0x18, -1, RM | BYTE | LOCK},
    {"and", 0, 0, 0x20, -1, RM | BYTE | LOCK, FLAG_AF}, {"sub", 0, 0, 0x28, -1, RM | BYTE | LOCK},
    {"xor", 0, 0, 0x30, -1, RM | BYTE | LOCK, FLAG_AF}, {"cmp", 0, 0, 0x38, -1, RM | BYTE},
    {"add r", 0, 0, 0x02, -1, RM | BYTE}, {"or r", 0, 0, 0x0a, -1, RM | BYTE, FLAG_AF},
    {"adc r", 0, 0, 0x12, -1, RM | BYTE}, {"sbb r", 0, 0, 0x1a, -1, RM | BYTE},
    {"and r", 0, 0, 0x22, -1, RM | BYTE, FLAG_AF}, {"sub r", 0, 0, 0x2a, -1, RM | BYTE},
    {"xor r", 0, 0, 0x32, -1, RM | BYTE, FLAG_AF}, {"cmp r", 0, 0, 0x3a, -1, RM | BYTE},
    {"add a,i", 0, 0, 0x04, -1, NO_MODRM | BYTE | IMMZ}, {"sbb a,i", 0, 0, 0x1c, -1, NO_MODRM | BYTE | IMMZ},
    {"cmp a,i", 0, 0, 0x3c, -1, NO_MODRM | BYTE | IMMZ}, {"test a,i", 0, 0, 0xa8, -1, NO_MODRM | BYTE | IMMZ},
    {"add i", 0, 0, 0x80, 0, RM | BYTE | IMMZ | LOCK}, {"or i", 0, 0, 0x80, 1, RM | BYTE | IMMZ | LOCK, FLAG_AF},
    {"adc i", 0, 0, 0x80, 2, RM | BYTE | IMMZ | LOCK}, {"sbb i", 0, 0, 0x80, 3, RM | BYTE | IMMZ | LOCK},
    {"and i", 0, 0, 0x80, 4, RM | BYTE | IMMZ | LOCK, FLAG_AF}, {"sub i", 0, 0, 0x80, 5, RM | BYTE | IMMZ | LOCK},
    {"xor i", 0, 0, 0x80, 6, RM | BYTE | IMMZ | LOCK, FLAG_AF}, {"cmp i", 0, 0, 0x80, 7, RM | BYTE | IMMZ},
    {"add i8", 0, 0, 0x83, 0, RM | IMM8 | LOCK}, {"sbb i8", 0, 0, 0x83, 3, RM | IMM8 | LOCK},
    {"cmp i8", 0, 0, 0x83, 7, RM | IMM8},
    {"test", 0, 0, 0x84, -1, RM | BYTE, FLAG_AF}, {"xchg", 0, 0, 0x86, -1, RM | BYTE | LOCK},
    {"mov", 0, 0, 0x88, -1, RM | BYTE}, {"mov r", 0, 0, 0x8a, -1, RM | BYTE},
    {"mov i", 0, 0, 0xc6, 0, RM | BYTE | IMMZ}, {"mov r,i", 0, 0, 0xb8, -1, NO_MODRM | PLUS_R | IMMV},
    {"mov r8,i", 0, 0, 0xb0, -1, NO_MODRM | PLUS_R | IMM8 | ONLY8},
    {"xchg a", 0, 0, 0x90, -1, NO_MODRM | PLUS_R},
    {"lea", 0, 0, 0x8d, -1, MEM}, {"movsxd", 0, 0, 0x63, -1, RM | ONLY64},
    {"movzx b", 0, 0x0f, 0xb6, -1, RM}, {"movzx w", 0, 0x0f, 0xb7, -1, RM},
    {"movsx b", 0, 0x0f, 0xbe, -1, RM}, {"movsx w", 0, 0x0f, 0xbf, -1, RM},
    {"movbe r", 0, 0x38, 0xf0, -1, MEM}, {"movbe m", 0, 0x38, 0xf1, -1, MEM},
    {"movnti", 0, 0x0f, 0xc3, -1, MEM | NO16},
    {"push", 0, 0, 0x50, -1, NO_MODRM | PLUS_R | STACK}, {"pop", 0, 0, 0x58, -1, NO_MODRM | PLUS_R | STACK},
    {"push i", 0, 0, 0x68, -1, NO_MODRM | IMMZ | STACK}, {"push i8", 0, 0, 0x6a, -1, NO_MODRM | IMM8 | STACK},
    {"push m", 0, 0, 0xff, 6, RM | STACK}, {"pop m", 0, 0, 0x8f, 0, RM | STACK},
    {"cbw", 0, 0, 0x98, -1, NO_MODRM}, {"cwd", 0, 0, 0x99, -1, NO_MODRM},
    {"imul i", 0, 0, 0x69, -1, RM | IMMZ, UNDEF_MUL}, {"imul i8", 0, 0, 0x6b, -1, RM | IMM8, UNDEF_MUL},
    {"imul r", 0, 0x0f, 0xaf, -1, RM, UNDEF_MUL},
    {"mul", 0, 0, 0xf6, 4, RM | BYTE, UNDEF_MUL}, {"imul", 0, 0, 0xf6, 5, RM | BYTE, UNDEF_MUL},
    {"div", 0, 0, 0xf6, 6, RM | BYTE | DIVIDE, FLAGS_ARITH}, {"idiv", 0, 0, 0xf6, 7, RM | BYTE | DIVIDE, FLAGS_ARITH},
    {"div any", 0, 0, 0xf6, 6, RM | BYTE, FLAGS_ARITH}, {"idiv any", 0, 0, 0xf6, 7, RM | BYTE, FLAGS_ARITH},
    {"test i", 0, 0, 0xf6, 0, RM | BYTE | IMMZ, FLAG_AF}, {"not", 0, 0, 0xf6, 2, RM | BYTE | LOCK},
    {"neg", 0, 0, 0xf6, 3, RM | BYTE | LOCK}, {"inc", 0, 0, 0xfe, 0, RM | BYTE | LOCK},
    {"dec", 0, 0, 0xfe, 1, RM | BYTE | LOCK},
    {"rol 1", 0, 0, 0xd0, 0, RM | BYTE}, {"ror 1", 0, 0, 0xd0, 1, RM | BYTE}, {"rcl 1", 0, 0, 0xd0, 2, RM | BYTE},
    {"rcr 1", 0, 0, 0xd0, 3, RM | BYTE}, {"shl 1", 0, 0, 0xd0, 4, RM | BYTE, FLAG_AF}, {"shr 1", 0, 0, 0xd0, 5, RM | BYTE, FLAG_AF},
    {"sal 1", 0, 0, 0xd0, 6, RM | BYTE, FLAG_AF}, {"sar 1", 0, 0, 0xd0, 7, RM | BYTE, FLAG_AF},
    {"rol cl", 0, 0, 0xd2, 0, RM | BYTE, FLAG_OF}, {"ror cl", 0, 0, 0xd2, 1, RM | BYTE, FLAG_OF}, {"rcl cl", 0, 0, 0xd2, 2, RM | BYTE, FLAG_OF},
    {"rcr cl", 0, 0, 0xd2, 3, RM | BYTE, FLAG_OF}, {"shl cl", 0, 0, 0xd2, 4, RM | BYTE, UNDEF_SHIFT}, {"shr cl", 0, 0, 0xd2, 5, RM | BYTE, UNDEF_SHIFT},
    {"sal cl", 0, 0, 0xd2, 6, RM | BYTE, UNDEF_SHIFT}, {"sar cl", 0, 0, 0xd2, 7, RM | BYTE, UNDEF_SHIFT},
    {"rol i", 0, 0, 0xc0, 0, RM | BYTE | IMM8, FLAG_OF}, {"ror i", 0, 0, 0xc0, 1, RM | BYTE | IMM8, FLAG_OF},
    {"rcl i", 0, 0, 0xc0, 2, RM | BYTE | IMM8, FLAG_OF}, {"rcr i", 0, 0, 0xc0, 3, RM | BYTE | IMM8, FLAG_OF},
    {"shl i", 0, 0, 0xc0, 4, RM | BYTE | IMM8, UNDEF_SHIFT}, {"shr i", 0, 0, 0xc0, 5, RM | BYTE | IMM8, UNDEF_SHIFT},
    {"sar i", 0, 0, 0xc0, 7, RM | BYTE | IMM8, UNDEF_SHIFT},
    {"shld i", 0, 0x0f, 0xa4, -1, RM | IMM8, UNDEF_SHIFT}, {"shld cl", 0, 0x0f, 0xa5, -1, RM, UNDEF_SHIFT},
    {"shrd i", 0, 0x0f, 0xac, -1, RM | IMM8, UNDEF_SHIFT}, {"shrd cl", 0, 0x0f, 0xad, -1, RM, UNDEF_SHIFT},
    {"bt", 0, 0x0f, 0xa3, -1, RM | BITS, UNDEF_BIT}, {"bts", 0, 0x0f, 0xab, -1, RM | BITS | LOCK, UNDEF_BIT},
    {"btr", 0, 0x0f, 0xb3, -1, RM | BITS | LOCK, UNDEF_BIT}, {"btc", 0, 0x0f, 0xbb, -1, RM | BITS | LOCK, UNDEF_BIT},
    {"bt i", 0, 0x0f, 0xba, 4, RM | IMM8, UNDEF_BIT}, {"bts i", 0, 0x0f, 0xba, 5, RM | IMM8 | LOCK, UNDEF_BIT},
    {"btr i", 0, 0x0f, 0xba, 6, RM | IMM8 | LOCK, UNDEF_BIT}, {"btc i", 0, 0x0f, 0xba, 7, RM | IMM8 | LOCK, UNDEF_BIT},
    {"bsf", 0, 0x0f, 0xbc, -1, RM, UNDEF_SCAN}, {"bsr", 0, 0x0f, 0xbd, -1, RM, UNDEF_SCAN},
    {"tzcnt", 0xf3, 0x0f, 0xbc, -1, RM, UNDEF_BIT}, {"lzcnt", 0xf3, 0x0f, 0xbd, -1, RM, UNDEF_BIT}, {"popcnt", 0xf3, 0x0f, 0xb8, -1, RM},
    {"bswap", 0, 0x0f, 0xc8, -1, NO_MODRM | PLUS_R},
    {"crc32 b", 0xf2, 0x38, 0xf0, -1, RM}, {"crc32", 0xf2, 0x38, 0xf1, -1, RM},
    {"xadd", 0, 0x0f, 0xc0, -1, RM | BYTE | LOCK}, {"cmpxchg", 0, 0x0f, 0xb0, -1, RM | BYTE | LOCK},
    {"cmpxchg8b", 0, 0x0f, 0xc7, 1, MEM | LOCK | NO16},
    {"clc", 0, 0, 0xf8, -1, NO_MODRM}, {"stc", 0, 0, 0xf9, -1, NO_MODRM}, {"cmc", 0, 0, 0xf5, -1, NO_MODRM},
    {"cld", 0, 0, 0xfc, -1, NO_MODRM}, {"std", 0, 0, 0xfd, -1, NO_MODRM},
    {"lahf", 0, 0, 0x9f, -1, NO_MODRM}, {"sahf", 0, 0, 0x9e, -1, NO_MODRM},
    {"xlat", 0, 0, 0xd7, -1, NO_MODRM | ONLY8 | STRING}, {"leave", 0, 0, 0xc9, -1, NO_MODRM | STACK},
    {"movs", 0, 0, 0xa4, -1, NO_MODRM | BYTE | STRING}, {"stos", 0, 0, 0xaa, -1, NO_MODRM | BYTE | STRING},
    {"lods", 0, 0, 0xac, -1, NO_MODRM | BYTE | STRING}, {"cmps", 0, 0, 0xa6, -1, NO_MODRM | BYTE | STRING},
    {"scas", 0, 0, 0xae, -1, NO_MODRM | BYTE | STRING},
    {"rep movs", 0xf3, 0, 0xa4, -1, NO_MODRM | BYTE | STRING}, {"rep stos", 0xf3, 0, 0xaa, -1, NO_MODRM | BYTE | STRING},
    {"rep lods", 0xf3, 0, 0xac, -1, NO_MODRM | BYTE | STRING}, {"repe cmps", 0xf3, 0, 0xa6, -1, NO_MODRM | BYTE | STRING},
    {"repe scas", 0xf3, 0, 0xae, -1, NO_MODRM | BYTE | STRING}, {"repne cmps", 0xf2, 0, 0xa6, -1, NO_MODRM | BYTE | STRING},
    {"repne scas", 0xf2, 0, 0xae, -1, NO_MODRM | BYTE | STRING},
    {"inc r", 0, 0, 0x40, -1, NO_MODRM | PLUS_R | LEGACY}, {"dec r", 0, 0, 0x48, -1, NO_MODRM | PLUS_R | LEGACY},
    {"add i alias", 0, 0, 0x82, 0, RM | IMM8 | ONLY8 | LOCK | LEGACY}, {"salc", 0, 0, 0xd6, -1, NO_MODRM | ONLY8 | LEGACY},
    {"daa", 0, 0, 0x27, -1, NO_MODRM | LEGACY, UNDEF_HERE_TOO | FLAG_OF}, {"das", 0, 0, 0x2f, -1, NO_MODRM | LEGACY, UNDEF_HERE_TOO | FLAG_OF},
    {"aaa", 0, 0, 0x37, -1, NO_MODRM | LEGACY, UNDEF_HERE_TOO | FLAG_OF | FLAG_SF | FLAG_ZF | FLAG_PF},
    {"aas", 0, 0, 0x3f, -1, NO_MODRM | LEGACY, UNDEF_HERE_TOO | FLAG_OF | FLAG_SF | FLAG_ZF | FLAG_PF},
    {"aam", 0, 0, 0xd4, -1, NO_MODRM | IMM8 | LEGACY, UNDEF_HERE_TOO | FLAG_OF | FLAG_AF | FLAG_CF},
    {"aad", 0, 0, 0xd5, -1, NO_MODRM | IMM8 | LEGACY, UNDEF_HERE_TOO | FLAG_OF | FLAG_AF | FLAG_CF},
    {"pusha", 0, 0, 0x60, -1, NO_MODRM | STACK | LEGACY}, {"popa", 0, 0, 0x61, -1, NO_MODRM | STACK | LEGACY},
    {"enter", 0, 0, 0xc8, -1, NO_MODRM | STACK | FRAME},
    {"nop", 0, 0x0f, 0x1f, 0, RM}, {"endbr", 0xf3, 0x0f, 0x1e, -1, RM}, {"prefetch", 0, 0x0f, 0x18, 1, MEM},
    /* clang-format on */
};

struct trial {
    uint8_t insn[16];
    unsigned bytes;
    struct native_state state;
    unsigned size;
    bool memory;
    enum native_mode mode;
};

static uint8_t *scratch;
static uint8_t initial[NATIVE_SCRATCH_BYTES], native_after[NATIVE_SCRATCH_BYTES];

/* Values at the edges of every size, or anything. */
static uint64_t random_value(void)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     0x7f,
                                     0x80,
                                     0xff,
                                     0x7fff,
                                     0x8000,
                                     0xffff,
                                     0x7fffffff,
                                     0x80000000,
                                     0xffffffff,
                                     0x7fffffffffffffff,
                                     0x8000000000000000,
                                     0xffffffffffffffff};
    uint64_t value = (uint64_t)g_random_int() << 32 | g_random_int();
    switch (g_random_int_range(0, 4)) {
    case 0:
        return edges[g_random_int_range(0, G_N_ELEMENTS(edges))];
    case 1:
        return value & 0x1f;
    default:
        return value;
    }
}

/* A place in the scratch area's middle, as an address or an offset in the data (or extra) segment; in segmented code
 * sometimes across the segment's end. Upper bits that the address size ignores are anything. */
static uint64_t scratch_address(enum native_mode mode, bool extra)
{
    uint64_t offset = NATIVE_SCRATCH_BYTES / 2 - 256 + (unsigned)g_random_int_range(0, 512);
    if (mode != NATIVE_16)
        return NATIVE_SCRATCH + offset;
    if (g_random_int_range(0, 16) == 0)
        offset = NATIVE_SEG_BYTES - (unsigned)g_random_int_range(0, 9);
    else if (extra)
        offset -= NATIVE_ES_OFFSET;
    return offset | (random_value() & UINT64_C(0xffff0000));
}

static void put_immediate(struct trial *t, const struct row *row, bool byte)
{
    unsigned bytes = 0;
    if (row->flags & FRAME) {
        t->insn[t->bytes++] = (uint8_t)g_random_int_range(0, 64);
        t->insn[t->bytes++] = 0;
        bytes = 1;
    } else if (row->flags & IMM8)
        bytes = 1;
    else if (row->flags & IMMZ)
        bytes = byte ? 1 : t->size == 2 ? 2 : 4;
    else if (row->flags & IMMV)
        bytes = t->size;
    uint64_t value = random_value();
    memcpy(t->insn + t->bytes, &value, bytes);
    t->bytes += bytes;
}

/* Quotients that fit: a high half smaller than the divisor. */
static void set_dividend(struct trial *t)
{
    unsigned shift = (unsigned)g_random_int_range(0, 64);
    t->state.gpr[IR_RDX] = g_random_boolean() ? 0 : t->state.gpr[IR_RDX] >> shift;
    t->state.gpr[IR_RAX] = t->size == 1 ? random_value() & 0xff : random_value();
    if (g_random_boolean())
        t->state.gpr[IR_RDX] = t->state.gpr[IR_RAX] >> (t->size * 8 - 1) & 1 ? UINT64_MAX : 0;
}

static unsigned choose_size(const struct row *row, enum native_mode mode)
{
    static const uint8_t sizes[] = {2, 4, 8};
    unsigned size = sizes[g_random_int_range(row->flags & NO16 ? 1 : 0, mode == NATIVE_64 ? 3 : 2)];
    return mode == NATIVE_64 && row->flags & STACK && size == 4 ? 8 : size;
}

static void set_registers(struct trial *t, const struct row *row)
{
    for (unsigned i = 0; i < 16; i++)
        t->state.gpr[i] = random_value();
    t->state.rflags = random_value() & (FLAGS_ARITH | (g_random_int_range(0, 4) ? 0 : FLAG_DF));
    if (row->flags & DIVIDE)
        set_dividend(t);
    if (row->flags & STRING) {
        uint64_t count = (unsigned)g_random_int_range(0, 100);
        t->state.gpr[IR_RCX] = t->mode == NATIVE_16 ? count | (random_value() & UINT64_C(0xffff0000)) : count;
        t->state.gpr[IR_RSI] = scratch_address(t->mode, false);
        t->state.gpr[IR_RDI] = scratch_address(t->mode, true);
        t->state.gpr[IR_RBX] = scratch_address(t->mode, false);
    }
    if (row->flags & STACK) {
        t->state.gpr[IR_RSP] = scratch_address(t->mode, false);
        t->state.gpr[IR_RBP] = scratch_address(t->mode, false);
    }
}

/* ModRM, SIB and displacement of a memory operand with one base register. */
static void put_memory(struct trial *t, const struct row *row, unsigned reg, unsigned rm, unsigned rex,
                       bool address32)
{
    unsigned base = rm | (rex & 1) << 3, field = reg | (rex & 4) << 1;
    int32_t disp = g_random_int_range(-64, 64);
    t->insn[t->bytes++] = (uint8_t)(0x80 | reg << 3 | rm);
    if (rm == 4)
        t->insn[t->bytes++] = 0x24; /* SIB: base only */
    memcpy(t->insn + t->bytes, &disp, 4);
    t->bytes += 4;
    t->state.gpr[base] = scratch_address(t->mode, false) & (address32 ? 0xfff8 : ~UINT64_C(7));
    if (row->flags & BITS && row->ext < 0) {
        t->state.gpr[field] &= g_random_boolean() ? 63 : 2047;
        if (field == base)
            t->bytes = 0; /* the address is the offset too: out of the scratch area */
    }
    if (row->opcode == 0xc7 && row->map && t->size == 8) { /* CMPXCHG16B */
        memset(t->insn + t->bytes - 4, 0, 4);
        t->state.gpr[base] &= ~UINT64_C(15);
    }
}

/* ModRM and displacement with 16-bit addressing. */
static void put_memory16(struct trial *t, const struct row *row, unsigned reg, unsigned rm)
{
    static const uint8_t bases[8] = {IR_RBX, IR_RBX, IR_RBP, IR_RBP, IR_RSI, IR_RDI, IR_RBP, IR_RBX};
    static const uint8_t indices[4] = {IR_RSI, IR_RDI, IR_RSI, IR_RDI};
    int16_t disp = (int16_t)g_random_int_range(-64, 64);
    t->insn[t->bytes++] = (uint8_t)(0x80 | reg << 3 | rm);
    memcpy(t->insn + t->bytes, &disp, 2);
    t->bytes += 2;
    t->state.gpr[bases[rm]] = scratch_address(t->mode, false);
    if (rm < 4)
        t->state.gpr[indices[rm]] &= ~UINT64_C(0xff00);
    if (row->flags & BITS && row->ext < 0) {
        t->state.gpr[reg] &= g_random_boolean() ? 63 : 2047;
        if (reg == bases[rm] || (rm < 4 && reg == indices[rm]))
            t->bytes = 0;
    }
}

static void make_trial(struct trial *t, const struct row *row, enum native_mode mode)
{
    bool byte = row->flags & ONLY8 || (row->flags & BYTE && g_random_boolean());
    unsigned size = choose_size(row, mode);
    unsigned rex =
        mode == NATIVE_64 && g_random_int_range(0, 3) ? 0x40u | (unsigned)g_random_int_range(0, 8) : 0;
    memset(t, 0, sizeof(*t));
    t->mode = mode;
    t->memory = !(row->flags & NO_MODRM) && (!(row->flags & REG) || (row->flags & MEM && g_random_boolean()));
    bool lock = t->memory && row->flags & LOCK && g_random_boolean();
    bool address32 = mode == NATIVE_16 && t->memory && g_random_int_range(0, 4) == 0;
    rex = size == 8 ? (rex | 0x48) : rex & ~8u;
    t->size = byte ? 1 : size;
    set_registers(t, row);

    unsigned reg = (unsigned)g_random_int_range(0, 8), rm = (unsigned)g_random_int_range(0, 8);
    if (t->memory && row->flags & STACK && (mode != NATIVE_16 || address32) && g_random_boolean())
        rm = IR_RSP;
    if (t->memory && rm == 4)
        rex &= ~2u; /* no index */
    if (lock)
        t->insn[t->bytes++] = 0xf0;
    if ((size == 2) != (mode == NATIVE_16))
        t->insn[t->bytes++] = 0x66;
    if (address32)
        t->insn[t->bytes++] = 0x67;
    if (mode == NATIVE_16 && g_random_int_range(0, 8) == 0)
        t->insn[t->bytes++] = g_random_boolean() ? 0x36 : 0x26;
    if (row->prefix)
        t->insn[t->bytes++] = row->prefix;
    if (rex)
        t->insn[t->bytes++] = (uint8_t)rex;
    if (row->map)
        t->insn[t->bytes++] = 0x0f;
    if (row->map == 0x38)
        t->insn[t->bytes++] = 0x38;
    t->insn[t->bytes++] =
        (uint8_t)(row->opcode + (row->flags & BYTE && !byte) + (row->flags & PLUS_R ? reg : 0));
    if (!(row->flags & NO_MODRM)) {
        if (row->ext >= 0)
            reg = (unsigned)row->ext;
        if (!t->memory)
            t->insn[t->bytes++] = (uint8_t)(0xc0 | reg << 3 | rm);
        else if (mode == NATIVE_16 && !address32)
            put_memory16(t, row, reg, rm);
        else
            put_memory(t, row, reg, rm, rex, address32);
    }
    if (t->bytes)
        put_immediate(t, row, byte);
}

static const uint32_t translator_modes[NATIVE_MODES] = {
    [NATIVE_64] = MODE_CS64 | MODE_PE | MODE_LMA | MODE_FLAT | MODE_CPL3,
    [NATIVE_32] = MODE_CS32 | MODE_SS32 | MODE_PE | MODE_LMA | MODE_FLAT | MODE_CPL3,
    [NATIVE_16] = MODE_PE | MODE_LMA | MODE_CPL3,
};

static void set_segments(struct x86_cpu *cpu)
{
    for (unsigned i = SEG_ES; i <= SEG_DS; i++) {
        cpu->seg[i].base = NATIVE_SCRATCH + (i == SEG_ES ? NATIVE_ES_OFFSET : 0);
        cpu->seg[i].limit = NATIVE_SEG_BYTES - 1;
        cpu->seg[i].attr = i == SEG_CS ? 0xfb : 0xf3;
    }
}

/* The system instructions that are tested here too. */
static int run_sys(struct x86_cpu *cpu, const struct ir_op *op)
{
    switch (op->sub) {
    case X86_SYS_PUSHA:
        return x86_sys_pusha(cpu, op);
    case X86_SYS_POPA:
        return x86_sys_popa(cpu, op);
    case X86_SYS_ENTER:
        return x86_sys_enter(cpu, op);
    default:
        return x86_sys_decimal(cpu, op);
    }
}

static int interpret(const struct trial *t, struct x86_cpu *cpu)
{
    static struct ir_block block;
    uint8_t bytes[32] = {0};
    memcpy(bytes, t->insn, t->bytes);
    fake_cpu_init(cpu, translator_modes[t->mode]);
    if (t->mode == NATIVE_16)
        set_segments(cpu);
    cpu->features[FEAT_BMI1 / 32] |= 1u << FEAT_BMI1 % 32;
    cpu->features[FEAT_LZCNT / 32] |= 1u << FEAT_LZCNT % 32;
    memcpy(cpu->gpr, t->state.gpr, sizeof(cpu->gpr));
    cpu->rflags = (t->state.rflags & (FLAGS_ARITH | FLAG_DF)) | 0x202;
    struct x86_decode_input input = {.bytes = bytes,
                                     .avail = 32,
                                     .in_page = 32,
                                     .mode = cpu->mode,
                                     .features = cpu->features,
                                     .max_insns = 1};
    g_assert_cmpint(x86_decode_block(&input, &block), ==, 0);
    g_assert_cmpuint(block.bytes, ==, t->bytes);
    return interp_run(cpu, &block, 0);
}

static G_GNUC_PRINTF(3, 4) void complain(const struct row *row, const struct trial *t, const char *format,
                                         ...)
{
    static const char *const modes[NATIVE_MODES] = {"64", "32", "16"};
    GString *text = g_string_new(row->name);
    g_string_append_printf(text, ", %s-bit:", modes[t->mode]);
    for (unsigned i = 0; i < t->bytes; i++)
        g_string_append_printf(text, " %02x", t->insn[i]);
    g_string_append(text, ": ");
    va_list args;
    va_start(args, format);
    g_string_append_vprintf(text, format, args);
    va_end(args);
    g_test_message("%s", text->str);
    g_string_free(text, TRUE);
    g_test_fail();
}

/* Is this one of the processors whose undefined flags the interpreter gives? Elsewhere they are not compared. */
static bool reference_host(void)
{
    return __builtin_cpu_is("intel") && __builtin_cpu_supports("avx512f");
}

/* Does the host execute it as what it is? TZCNT and LZCNT are BSF and BSR on processors from before AVX2. */
static bool host_has(const struct row *row)
{
    bool counts = row->prefix == 0xf3 && (row->opcode == 0xbc || row->opcode == 0xbd);
    return !counts || __builtin_cpu_supports("avx2");
}

/* Trials whose result, not only its flags, the manuals leave open: SHLD and SHRD of 16 bits by more, BSWAP of 16 bits, BSF and
 * BSR of zero. */
static bool result_open(const struct row *row, const struct trial *t, uint64_t flags_after)
{
    if (row->map != 0x0f)
        return false;
    switch (row->opcode) {
    case 0xa4:
    case 0xac:
        return t->size == 2 && (t->insn[t->bytes - 1] & 31) > 16;
    case 0xa5:
    case 0xad:
        return t->size == 2 && (t->state.gpr[IR_RCX] & 31) > 16;
    case 0xc8:
        return t->size == 2;
    case 0xbc:
    case 0xbd:
        return row->prefix == 0 && flags_after & FLAG_ZF;
    default:
        return false;
    }
}

/* Returns whether the trial agreed. */
static bool check_trial(const struct row *row, const struct trial *t)
{
    static struct x86_cpu cpu;
    /* Only the middle is ever addressed; the rest stays zero to show stray writes. */
    for (unsigned i = NATIVE_SCRATCH_BYTES / 2 - 1024; i < NATIVE_SCRATCH_BYTES / 2 + 1024; i += 8) {
        uint64_t value =
            row->flags & STRING && g_random_boolean() ? UINT64_C(0x5555555555555555) : random_value();
        memcpy(initial + i, &value, 8);
    }
    memcpy(scratch, initial, sizeof(initial));
    struct native_state native = t->state;
    int vector = native_run(t->mode, t->insn, t->bytes, &native);
    memcpy(native_after, scratch, sizeof(native_after));
    memcpy(scratch, initial, sizeof(initial));
    int r = interpret(t, &cpu);
    int raised = r == X86_RAISE ? cpu.exc.vector : -1;
    if (vector == EXC_UD && raised < 0)
        return true; /* an old host without MOVBE, CRC32 or POPCNT */
    /* Which of two operands beyond their segments is reported is not architected. */
    bool both_segments = vector + raised == EXC_SS + EXC_GP && vector != raised;
    if (vector != raised && !both_segments) {
        complain(row, t, "exception %d, interpreter %d", vector, raised);
        return false;
    }
    if (raised >= 0 || (!reference_host() && result_open(row, t, native.rflags)))
        return true;
    uint64_t mask = t->mode == NATIVE_64 ? UINT64_MAX : UINT32_MAX;
    for (unsigned i = 0; i < (t->mode == NATIVE_64 ? 16 : 8); i++) {
        if ((native.gpr[i] ^ cpu.gpr[i]) & mask) {
            complain(row, t,
                     "register %u: %#" PRIx64 ", host gives %#" PRIx64 " (was %#" PRIx64 ", rcx %#" PRIx64
                     ")",
                     i, cpu.gpr[i], native.gpr[i], t->state.gpr[i], t->state.gpr[1]);
            return false;
        }
    }
    uint64_t open = reference_host() && !(row->undefined & UNDEF_HERE_TOO) ? 0 : row->undefined;
    uint64_t difference = (native.rflags ^ cpu.rflags) & (FLAGS_ARITH | FLAG_DF) & ~open;
    if (difference) {
        complain(row, t, "flags %#" PRIx64 ", host gives %#" PRIx64 " (was %#" PRIx64 "), rcx %#" PRIx64,
                 cpu.rflags & 0xfff, native.rflags & 0xfff, t->state.rflags & 0xfff, t->state.gpr[1]);
        return false;
    }
    if (memcmp(scratch, native_after, sizeof(native_after))) {
        complain(row, t, "memory differs");
        return false;
    }
    return true;
}

static void test_row(const void *data)
{
    const struct row *row = data;
    for (unsigned mode = NATIVE_64; mode < NATIVE_MODES; mode++) {
        unsigned failures = 0;
        if (!native_supports(mode) || !host_has(row) || row->flags & (mode == NATIVE_64 ? LEGACY : ONLY64))
            continue;
        for (unsigned i = 0; i < TRIALS && failures < 5; i++) {
            struct trial t;
            do {
                make_trial(&t, row, mode);
            } while (!t.bytes);
            failures += !check_trial(row, &t);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_set_nonfatal_assertions();
    scratch = native_init();
    fake_window = NATIVE_SCRATCH;
    fake_window_bytes = NATIVE_SCRATCH_BYTES;
    fake_sys = run_sys;
    for (unsigned mode = NATIVE_64; mode < NATIVE_MODES; mode++)
        g_test_message("mode %u: %s", mode, native_supports(mode) ? "tested" : "not possible here");
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        char *path = g_strdup_printf("/interp/native/%s", rows[i].name);
        g_test_add_data_func(path, &rows[i], test_row);
        g_free(path);
    }
    return g_test_run();
}
