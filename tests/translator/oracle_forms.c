/* SPDX-License-Identifier: Apache-2.0 */
/* Forms and states for the native oracle, see oracle_forms.h. */
#include "tests/translator/oracle_forms.h"

#include <cpuid.h>
#include <stdio.h>
#include <string.h>

#include "translator/ir.h"
#include "translator/x86/features.h"
#include "translator/x86/vec.h"

uint64_t random_next(struct random *random)
{
    uint64_t x = random->state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    random->state = x;
    return x * 0x2545f4914f6cdd1dull;
}

unsigned random_below(struct random *random, unsigned limit)
{
    return (unsigned)((random_next(random) >> 32) % limit);
}

static bool one_in(struct random *random, unsigned n)
{
    return random_below(random, n) == 0;
}

/* --- encoding ------------------------------------------------------------------------------------------------ */

enum modrm_kind { NO_MODRM, RM_REGISTER, RM_MEMORY };

/* What is known of an instruction before its registers are chosen. */
struct encoding {
    const char *name;
    uint8_t map; /* 0: one-byte opcodes, 1-3 */
    uint8_t opcode;
    uint8_t mandatory; /* 0, 66, F3, F2 */
    uint8_t size;      /* 1, 2, 4, 8, or 0 when it has no operand size */
    bool lock;
    bool byte_register; /* a byte operand in ModRM.reg or rm: AH.. without REX */
    bool no_rex;        /* register fields of three bits */
    int8_t extension;   /* ModRM /n, or -1 */
    int8_t fixed_modrm; /* x87 register form: whole ModRM in `modrm` */
    uint8_t modrm;
    enum modrm_kind kind;
    uint8_t plus_register; /* opcode + r */
    uint8_t immediate;     /* bytes */
    int64_t immediate_value;
    bool immediate_random;
};

struct builder {
    struct form *form;
    struct random *random;
    uint8_t rex;
};

static void put(struct form *form, uint64_t value, unsigned bytes)
{
    memcpy(form->bytes + form->length, &value, bytes);
    form->length += bytes;
}

static unsigned pick_base(const struct form *form, struct random *random)
{
    for (;;) {
        unsigned base = random_below(random, 16);
        bool reserved = (form->flags & (FORM_STACK | FORM_RET | FORM_STRING)) && base == IR_RSP;
        if ((form->flags & FORM_LEAVE && base == IR_RBP) || (form->flags & FORM_XLAT && base == IR_RBX))
            reserved = true;
        if (!reserved)
            return base;
    }
}

/* ModRM, SIB and displacement of a memory operand; records in the form how its address comes about. */
static unsigned encode_memory(struct builder *b, unsigned reg, uint8_t tail[6])
{
    struct form *form = b->form;
    struct random *random = b->random;

    form->flags |= FORM_MEM;
    form->index = IR_NONE;
    if (one_in(random, 10)) {
        form->relative = true;
        form->base = IR_NONE;
        tail[0] = (uint8_t)(5 | (reg & 7) << 3);
        return 5;
    }
    form->base = (uint8_t)pick_base(form, random);
    bool with_index = one_in(random, 3);
    if (with_index) {
        do
            form->index = (uint8_t)pick_base(form, random);
        while (form->index == IR_RSP || form->index == form->base);
        form->scale = (uint8_t)random_below(random, 4);
    }
    unsigned mod = random_below(random, 3), length = 0;
    if (mod == 0 && (form->base & 7) == IR_RBP)
        mod = 1;
    b->rex |= (uint8_t)(form->base >= 8 ? 1 : 0);
    b->rex |= (uint8_t)(with_index && form->index >= 8 ? 2 : 0);
    bool sib = with_index || (form->base & 7) == IR_RSP;
    tail[length++] = (uint8_t)(mod << 6 | (reg & 7) << 3 | (sib ? 4 : form->base & 7));
    if (sib)
        tail[length++] =
            (uint8_t)(form->scale << 6 | (with_index ? form->index & 7 : 4) << 3 | (form->base & 7));
    if (mod == 1) {
        form->disp = (int8_t)random_next(random);
        tail[length++] = (uint8_t)form->disp;
    } else if (mod == 2) {
        form->disp = (int32_t)random_below(random, 0x2000) - 0x1000;
        memcpy(tail + length, &form->disp, 4);
        length += 4;
    }
    return length;
}

static void put_opcode(struct form *form, const struct encoding *enc, unsigned plus)
{
    if (enc->map)
        put(form, 0x0f, 1);
    if (enc->map == 2)
        put(form, 0x38, 1);
    if (enc->map == 3)
        put(form, 0x3a, 1);
    put(form, enc->opcode + plus, 1);
}

static void encode(struct form *form, struct random *random, const struct encoding *enc)
{
    struct builder b = {.form = form, .random = random};
    unsigned reg =
        enc->extension >= 0 ? (unsigned)enc->extension : random_below(random, enc->no_rex ? 8 : 16);
    unsigned rm = random_below(random, enc->no_rex ? 8 : 16);
    unsigned plus = 0, tail_length = 0;
    uint8_t tail[6];

    form->length = 0;
    form->relative = false;
    form->disp = 0;
    form->scale = 0;
    form->flags &= ~(uint32_t)(FORM_ADDR32 | FORM_GS);
    form->size = enc->size;
    if (form->flags & FORM_JUMP_REG)
        form->base = (uint8_t)rm;
    if (enc->size == 8)
        b.rex |= 8;
    if (enc->kind != NO_MODRM && reg >= 8)
        b.rex |= 4;
    if (enc->kind == RM_REGISTER) {
        if (enc->fixed_modrm) {
            tail[tail_length++] = enc->modrm;
        } else {
            tail[tail_length++] = (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7));
            b.rex |= (uint8_t)(rm >= 8 ? 1 : 0);
        }
    } else if (enc->kind == RM_MEMORY) {
        tail_length = encode_memory(&b, reg, tail);
    } else if (enc->plus_register) {
        plus = rm & 7;
        b.rex |= (uint8_t)(rm >= 8 ? 1 : 0);
    }
    if (enc->byte_register && one_in(random, 2))
        b.rex |= 0x40;

    if (enc->lock)
        put(form, 0xf0, 1);
    if (form->flags & FORM_MEM && !form->relative && one_in(random, 8)) {
        put(form, 0x67, 1);
        form->flags |= FORM_ADDR32;
    }
    if (form->flags & FORM_MEM && one_in(random, 6)) {
        put(form, 0x65, 1);
        form->flags |= FORM_GS;
    }
    if (enc->size == 2)
        put(form, 0x66, 1);
    if (enc->mandatory)
        put(form, enc->mandatory, 1);
    if (b.rex)
        put(form, 0x40 | b.rex, 1);
    put_opcode(form, enc, plus);
    memcpy(form->bytes + form->length, tail, tail_length);
    form->length += (uint8_t)tail_length;
    if (form->relative) {
        form->length -= 4;
        form->disp =
            (int32_t)(ORACLE_DATA + 16 * random_below(random, 0x1f0 / 2) + (one_in(random, 4) ? 3 : 0) -
                      (ORACLE_INSN + form->length + 4 + enc->immediate) -
                      (form->flags & FORM_GS ? ORACLE_GS_BASE : 0));
        put(form, (uint32_t)form->disp, 4);
    }
    put(form, enc->immediate_random ? random_next(random) : (uint64_t)enc->immediate_value, enc->immediate);
}

/* --- integer forms ------------------------------------------------------------------------------------------- */

enum row_kind {
    K_MODRM,    /* register and memory forms */
    K_REGISTER, /* register form only */
    K_MEMORY,   /* memory form only */
    K_PLAIN,    /* no ModRM */
    K_PLUS,     /* opcode + r */
};
enum row_immediate { I_NONE, I_BYTE, I_SIZE /* 1, 2, 4, 4 */, I_FULL /* up to 8 */, I_WORD };
enum { B = 1, W = 2, D = 4, Q = 8, BWDQ = 15, WDQ = 14, DQ = 12, WQ = 10 };

struct row {
    const char *name;
    uint8_t map,
        opcode; /* of the byte form when sizes include B and `has_byte`; the others have opcode | 1 */
    uint8_t mandatory;
    int8_t extension;
    uint8_t sizes;     /* B W D Q, or 0 */
    uint8_t kind;      /* enum row_kind */
    uint8_t immediate; /* enum row_immediate */
    uint8_t undefined; /* enum form_undefined */
    bool has_byte;
    bool lock;      /* memory form also with LOCK */
    uint32_t flags; /* enum form_flag */
};

static const struct row rows[] = {
    {"test", 0, 0x84, 0, -1, BWDQ, K_MODRM, I_NONE, UNDEF_AF, true},
    {"xchg", 0, 0x86, 0, -1, BWDQ, K_MODRM, I_NONE, UNDEF_NONE, true},
    {"mov", 0, 0x88, 0, -1, BWDQ, K_MODRM, I_NONE, UNDEF_NONE, true},
    {"mov", 0, 0x8a, 0, -1, BWDQ, K_MODRM, I_NONE, UNDEF_NONE, true},
    {"lea", 0, 0x8d, 0, -1, WDQ, K_MEMORY, I_NONE, UNDEF_NONE},
    {"movsxd", 0, 0x63, 0, -1, WDQ, K_MODRM, I_NONE, UNDEF_NONE},
    {"imul", 0, 0x69, 0, -1, WDQ, K_MODRM, I_SIZE, UNDEF_MUL},
    {"imul", 0, 0x6b, 0, -1, WDQ, K_MODRM, I_BYTE, UNDEF_MUL},
    {"test", 0, 0xa8, 0, -1, BWDQ, K_PLAIN, I_SIZE, UNDEF_AF, true},
    {"mov", 0, 0xb0, 0, -1, B, K_PLUS, I_SIZE, UNDEF_NONE},
    {"mov", 0, 0xb8, 0, -1, WDQ, K_PLUS, I_FULL, UNDEF_NONE},
    {"rol", 0, 0xc0, 0, 0, BWDQ, K_MODRM, I_BYTE, UNDEF_ROTATE, true},
    {"ror", 0, 0xc0, 0, 1, BWDQ, K_MODRM, I_BYTE, UNDEF_ROTATE, true},
    {"rcl", 0, 0xc0, 0, 2, BWDQ, K_MODRM, I_BYTE, UNDEF_ROTATE, true},
    {"rcr", 0, 0xc0, 0, 3, BWDQ, K_MODRM, I_BYTE, UNDEF_ROTATE, true},
    {"shl", 0, 0xc0, 0, 4, BWDQ, K_MODRM, I_BYTE, UNDEF_SHIFT, true},
    {"shr", 0, 0xc0, 0, 5, BWDQ, K_MODRM, I_BYTE, UNDEF_SHIFT, true},
    {"sal", 0, 0xc0, 0, 6, BWDQ, K_MODRM, I_BYTE, UNDEF_SHIFT, true},
    {"sar", 0, 0xc0, 0, 7, BWDQ, K_MODRM, I_BYTE, UNDEF_SHIFT, true},
    {"rol1", 0, 0xd0, 0, 0, BWDQ, K_MODRM, I_NONE, UNDEF_ROTATE, true},
    {"ror1", 0, 0xd0, 0, 1, BWDQ, K_MODRM, I_NONE, UNDEF_ROTATE, true},
    {"rcl1", 0, 0xd0, 0, 2, BWDQ, K_MODRM, I_NONE, UNDEF_ROTATE, true},
    {"rcr1", 0, 0xd0, 0, 3, BWDQ, K_MODRM, I_NONE, UNDEF_ROTATE, true},
    {"shl1", 0, 0xd0, 0, 4, BWDQ, K_MODRM, I_NONE, UNDEF_SHIFT, true},
    {"shr1", 0, 0xd0, 0, 5, BWDQ, K_MODRM, I_NONE, UNDEF_SHIFT, true},
    {"sar1", 0, 0xd0, 0, 7, BWDQ, K_MODRM, I_NONE, UNDEF_SHIFT, true},
    {"rolcl", 0, 0xd2, 0, 0, BWDQ, K_MODRM, I_NONE, UNDEF_ROTATE, true},
    {"rorcl", 0, 0xd2, 0, 1, BWDQ, K_MODRM, I_NONE, UNDEF_ROTATE, true},
    {"rclcl", 0, 0xd2, 0, 2, BWDQ, K_MODRM, I_NONE, UNDEF_ROTATE, true},
    {"rcrcl", 0, 0xd2, 0, 3, BWDQ, K_MODRM, I_NONE, UNDEF_ROTATE, true},
    {"shlcl", 0, 0xd2, 0, 4, BWDQ, K_MODRM, I_NONE, UNDEF_SHIFT, true},
    {"shrcl", 0, 0xd2, 0, 5, BWDQ, K_MODRM, I_NONE, UNDEF_SHIFT, true},
    {"sarcl", 0, 0xd2, 0, 7, BWDQ, K_MODRM, I_NONE, UNDEF_SHIFT, true},
    {"mov", 0, 0xc6, 0, 0, BWDQ, K_MODRM, I_SIZE, UNDEF_NONE, true},
    {"test", 0, 0xf6, 0, 0, BWDQ, K_MODRM, I_SIZE, UNDEF_AF, true},
    {"not", 0, 0xf6, 0, 2, BWDQ, K_MODRM, I_NONE, UNDEF_NONE, true, true},
    {"neg", 0, 0xf6, 0, 3, BWDQ, K_MODRM, I_NONE, UNDEF_NONE, true, true},
    {"mul", 0, 0xf6, 0, 4, BWDQ, K_MODRM, I_NONE, UNDEF_MUL, true},
    {"imul", 0, 0xf6, 0, 5, BWDQ, K_MODRM, I_NONE, UNDEF_MUL, true},
    {"div", 0, 0xf6, 0, 6, BWDQ, K_MODRM, I_NONE, UNDEF_ALL, true, false, FORM_DIV},
    {"idiv", 0, 0xf6, 0, 7, BWDQ, K_MODRM, I_NONE, UNDEF_ALL, true, false, FORM_DIV},
    {"inc", 0, 0xfe, 0, 0, BWDQ, K_MODRM, I_NONE, UNDEF_NONE, true, true},
    {"dec", 0, 0xfe, 0, 1, BWDQ, K_MODRM, I_NONE, UNDEF_NONE, true, true},
    {"call", 0, 0xff, 0, 2, D, K_REGISTER, I_NONE, UNDEF_NONE, false, false, FORM_JUMP_REG | FORM_STACK},
    {"call", 0, 0xff, 0, 2, D, K_MEMORY, I_NONE, UNDEF_NONE, false, false, FORM_JUMP_MEM | FORM_STACK},
    {"jmp", 0, 0xff, 0, 4, D, K_REGISTER, I_NONE, UNDEF_NONE, false, false, FORM_JUMP_REG},
    {"jmp", 0, 0xff, 0, 4, D, K_MEMORY, I_NONE, UNDEF_NONE, false, false, FORM_JUMP_MEM},
    {"push", 0, 0xff, 0, 6, W | D, K_MODRM, I_NONE, UNDEF_NONE, false, false, FORM_STACK},
    {"pop", 0, 0x8f, 0, 0, W | D, K_MODRM, I_NONE, UNDEF_NONE, false, false, FORM_STACK},
    {"push", 0, 0x50, 0, -1, W | D, K_PLUS, I_NONE, UNDEF_NONE, false, false, FORM_STACK},
    {"pop", 0, 0x58, 0, -1, W | D, K_PLUS, I_NONE, UNDEF_NONE, false, false, FORM_STACK},
    {"push", 0, 0x68, 0, -1, W | D, K_PLAIN, I_SIZE, UNDEF_NONE, false, false, FORM_STACK},
    {"push", 0, 0x6a, 0, -1, W | D, K_PLAIN, I_BYTE, UNDEF_NONE, false, false, FORM_STACK},
    {"ret", 0, 0xc3, 0, -1, D, K_PLAIN, I_NONE, UNDEF_NONE, false, false, FORM_RET},
    {"ret", 0, 0xc2, 0, -1, D, K_PLAIN, I_WORD, UNDEF_NONE, false, false, FORM_RET},
    {"leave", 0, 0xc9, 0, -1, W | D, K_PLAIN, I_NONE, UNDEF_NONE, false, false, FORM_LEAVE},
    {"enter", 0, 0xc8, 0, -1, D, K_PLAIN, I_WORD, UNDEF_NONE, false, false, FORM_STACK | FORM_LEAVE},
    {"pushf", 0, 0x9c, 0, -1, W | D, K_PLAIN, I_NONE, UNDEF_NONE, false, false, FORM_STACK},
    {"xchg", 0, 0x90, 0, -1, WDQ, K_PLUS, I_NONE, UNDEF_NONE},
    {"cbw", 0, 0x98, 0, -1, WDQ, K_PLAIN, I_NONE, UNDEF_NONE},
    {"cwd", 0, 0x99, 0, -1, WDQ, K_PLAIN, I_NONE, UNDEF_NONE},
    {"sahf", 0, 0x9e, 0, -1, 0, K_PLAIN, I_NONE, UNDEF_NONE},
    {"lahf", 0, 0x9f, 0, -1, 0, K_PLAIN, I_NONE, UNDEF_NONE},
    {"clc", 0, 0xf8, 0, -1, 0, K_PLAIN, I_NONE, UNDEF_NONE},
    {"stc", 0, 0xf9, 0, -1, 0, K_PLAIN, I_NONE, UNDEF_NONE},
    {"cmc", 0, 0xf5, 0, -1, 0, K_PLAIN, I_NONE, UNDEF_NONE},
    {"cld", 0, 0xfc, 0, -1, 0, K_PLAIN, I_NONE, UNDEF_NONE},
    {"std", 0, 0xfd, 0, -1, 0, K_PLAIN, I_NONE, UNDEF_NONE},
    {"xlat", 0, 0xd7, 0, -1, 0, K_PLAIN, I_NONE, UNDEF_NONE, false, false, FORM_XLAT},
    {"movs", 0, 0xa4, 0, -1, BWDQ, K_PLAIN, I_NONE, UNDEF_NONE, true, false, FORM_STRING},
    {"cmps", 0, 0xa6, 0, -1, BWDQ, K_PLAIN, I_NONE, UNDEF_NONE, true, false, FORM_STRING},
    {"stos", 0, 0xaa, 0, -1, BWDQ, K_PLAIN, I_NONE, UNDEF_NONE, true, false, FORM_STRING},
    {"lods", 0, 0xac, 0, -1, BWDQ, K_PLAIN, I_NONE, UNDEF_NONE, true, false, FORM_STRING},
    {"scas", 0, 0xae, 0, -1, BWDQ, K_PLAIN, I_NONE, UNDEF_NONE, true, false, FORM_STRING},
    {"rep movs", 0, 0xa4, 0xf3, -1, BWDQ, K_PLAIN, I_NONE, UNDEF_NONE, true, false, FORM_STRING},
    {"repe cmps", 0, 0xa6, 0xf3, -1, BWDQ, K_PLAIN, I_NONE, UNDEF_NONE, true, false, FORM_STRING},
    {"repne cmps", 0, 0xa6, 0xf2, -1, BWDQ, K_PLAIN, I_NONE, UNDEF_NONE, true, false, FORM_STRING},
    {"rep stos", 0, 0xaa, 0xf3, -1, BWDQ, K_PLAIN, I_NONE, UNDEF_NONE, true, false, FORM_STRING},
    {"rep lods", 0, 0xac, 0xf3, -1, BWDQ, K_PLAIN, I_NONE, UNDEF_NONE, true, false, FORM_STRING},
    {"repe scas", 0, 0xae, 0xf3, -1, BWDQ, K_PLAIN, I_NONE, UNDEF_NONE, true, false, FORM_STRING},
    {"repne scas", 0, 0xae, 0xf2, -1, BWDQ, K_PLAIN, I_NONE, UNDEF_NONE, true, false, FORM_STRING},
    {"shld", 1, 0xa4, 0, -1, WDQ, K_MODRM, I_BYTE, UNDEF_DOUBLE_SHIFT},
    {"shrd", 1, 0xac, 0, -1, WDQ, K_MODRM, I_BYTE, UNDEF_DOUBLE_SHIFT},
    {"shldcl", 1, 0xa5, 0, -1, WDQ, K_MODRM, I_NONE, UNDEF_DOUBLE_SHIFT},
    {"shrdcl", 1, 0xad, 0, -1, WDQ, K_MODRM, I_NONE, UNDEF_DOUBLE_SHIFT},
    {"bt", 1, 0xa3, 0, -1, WDQ, K_MODRM, I_NONE, UNDEF_BIT, false, false, FORM_BITS},
    {"bts", 1, 0xab, 0, -1, WDQ, K_MODRM, I_NONE, UNDEF_BIT, false, true, FORM_BITS},
    {"btr", 1, 0xb3, 0, -1, WDQ, K_MODRM, I_NONE, UNDEF_BIT, false, true, FORM_BITS},
    {"btc", 1, 0xbb, 0, -1, WDQ, K_MODRM, I_NONE, UNDEF_BIT, false, true, FORM_BITS},
    {"bt", 1, 0xba, 0, 4, WDQ, K_MODRM, I_BYTE, UNDEF_BIT},
    {"bts", 1, 0xba, 0, 5, WDQ, K_MODRM, I_BYTE, UNDEF_BIT, false, true},
    {"btr", 1, 0xba, 0, 6, WDQ, K_MODRM, I_BYTE, UNDEF_BIT, false, true},
    {"btc", 1, 0xba, 0, 7, WDQ, K_MODRM, I_BYTE, UNDEF_BIT, false, true},
    {"imul", 1, 0xaf, 0, -1, WDQ, K_MODRM, I_NONE, UNDEF_MUL},
    {"cmpxchg", 1, 0xb0, 0, -1, BWDQ, K_MODRM, I_NONE, UNDEF_NONE, true, true, FORM_CMPXCHG},
    {"movzx", 1, 0xb6, 0, -1, WDQ, K_MODRM, I_NONE, UNDEF_NONE},
    {"movzx", 1, 0xb7, 0, -1, WDQ, K_MODRM, I_NONE, UNDEF_NONE},
    {"movsx", 1, 0xbe, 0, -1, WDQ, K_MODRM, I_NONE, UNDEF_NONE},
    {"movsx", 1, 0xbf, 0, -1, WDQ, K_MODRM, I_NONE, UNDEF_NONE},
    {"bsf", 1, 0xbc, 0, -1, WDQ, K_MODRM, I_NONE, UNDEF_SCAN},
    {"bsr", 1, 0xbd, 0, -1, WDQ, K_MODRM, I_NONE, UNDEF_SCAN},
    {"tzcnt", 1, 0xbc, 0xf3, -1, WDQ, K_MODRM, I_NONE, UNDEF_COUNT},
    {"lzcnt", 1, 0xbd, 0xf3, -1, WDQ, K_MODRM, I_NONE, UNDEF_COUNT},
    {"popcnt", 1, 0xb8, 0xf3, -1, WDQ, K_MODRM, I_NONE, UNDEF_NONE},
    {"xadd", 1, 0xc0, 0, -1, BWDQ, K_MODRM, I_NONE, UNDEF_NONE, true, true},
    {"cmpxchg8b", 1, 0xc7, 0, 1, D, K_MEMORY, I_NONE, UNDEF_NONE, false, true, FORM_CMPXCHG},
    {"cmpxchg16b", 1, 0xc7, 0, 1, Q, K_MEMORY, I_NONE, UNDEF_NONE, false, true, FORM_CMPXCHG},
    {"bswap", 1, 0xc8, 0, -1, DQ, K_PLUS, I_NONE, UNDEF_NONE},
    {"movnti", 1, 0xc3, 0, -1, DQ, K_MEMORY, I_NONE, UNDEF_NONE},
    {"movbe", 2, 0xf0, 0, -1, WDQ, K_MEMORY, I_NONE, UNDEF_NONE},
    {"movbe", 2, 0xf1, 0, -1, WDQ, K_MEMORY, I_NONE, UNDEF_NONE},
    {"adcx", 2, 0xf6, 0x66, -1, DQ, K_MODRM, I_NONE, UNDEF_NONE},
    {"adox", 2, 0xf6, 0xf3, -1, DQ, K_MODRM, I_NONE, UNDEF_NONE},
    {"movdiri", 2, 0xf9, 0, -1, DQ, K_MEMORY, I_NONE, UNDEF_NONE},
    {"crc32", 2, 0xf0, 0xf2, -1, B | Q, K_MODRM, I_NONE, UNDEF_NONE},
    {"crc32", 2, 0xf1, 0xf2, -1, WDQ, K_MODRM, I_NONE, UNDEF_NONE},
    {"nop", 1, 0x1f, 0, 0, WDQ, K_MODRM, I_NONE, UNDEF_NONE},
    {"ud2", 1, 0x0b, 0, -1, 0, K_PLAIN, I_NONE, UNDEF_NONE},
    {"maskmovdqu", 1, 0xf7, 0x66, -1, 0, K_REGISTER, I_NONE, UNDEF_NONE, false, false,
     FORM_STRING | FORM_VECTOR},
    {"maskmovq", 1, 0xf7, 0, -1, 0, K_REGISTER, I_NONE, UNDEF_NONE, false, false, FORM_STRING | FORM_VECTOR},
    {"ldmxcsr", 1, 0xae, 0, 2, 0, K_MEMORY, I_NONE, UNDEF_NONE},
    {"fxsave", 1, 0xae, 0, 0, 0, K_MEMORY, I_NONE, UNDEF_NONE, false, false, FORM_FXSAVE | FORM_X87 | FORM_ENV},
    {"fxsave64", 1, 0xae, 0, 0, Q, K_MEMORY, I_NONE, UNDEF_NONE, false, false, FORM_FXSAVE | FORM_X87 | FORM_ENV},
    {"fxrstor", 1, 0xae, 0, 1, 0, K_MEMORY, I_NONE, UNDEF_NONE, false, false, FORM_FXSAVE | FORM_X87 | FORM_ENV},
    {"fxrstor64", 1, 0xae, 0, 1, Q, K_MEMORY, I_NONE, UNDEF_NONE, false, false, FORM_FXSAVE | FORM_X87 | FORM_ENV},
    {"stmxcsr", 1, 0xae, 0, 3, 0, K_MEMORY, I_NONE, UNDEF_NONE, false, false, FORM_FP},
};

/* --- what the host has --------------------------------------------------------------------------------------- */

struct host_features {
    uint32_t words[X86_FEATURE_WORDS];
};

static void host_features_read(struct host_features *ret)
{
    uint32_t eax, ebx = 0, ecx = 0, edx = 0;

    memset(ret, 0, sizeof(*ret));
    __get_cpuid(1, &eax, &ebx, &ecx, &edx);
    ret->words[0] = edx;
    ret->words[1] = ecx;
    ebx = 0;
    __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx);
    ret->words[2] = ebx;
    ret->words[3] = ecx;
    ecx = 0;
    __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx);
    ret->words[6] = ecx;
}

/* Integer instructions that not every x86-64 processor has. */
static const struct {
    const char *name;
    enum x86_feature feature;
} optional[] = {
    {"movbe", FEAT_MOVBE}, {"crc32", FEAT_SSE42},     {"popcnt", FEAT_POPCNT}, {"tzcnt", FEAT_BMI1},
    {"lzcnt", FEAT_LZCNT}, {"cmpxchg16b", FEAT_CX16}, {"lahf", FEAT_LAHF},     {"sahf", FEAT_LAHF},
    {"adcx", FEAT_ADX},   {"adox", FEAT_ADX},         {"movdiri", FEAT_MOVDIRI},
};

static bool host_has_row(const struct host_features *host, const char *name)
{
    for (unsigned i = 0; i < sizeof(optional) / sizeof(optional[0]); i++)
        if (!strcmp(optional[i].name, name))
            return x86_has(host->words, optional[i].feature);
    return true;
}

struct walk {
    struct random *random;
    struct host_features host;
    void (*each)(void *opaque, const struct form *form);
    void *opaque;
};

static void emit_form(const struct walk *walk, struct form *form, const struct encoding *enc)
{
    static const char *const kinds[] = {"", " reg", " mem"};

    encode(form, walk->random, enc);
    if (form->flags & FORM_X87 || !strncmp(enc->name, "dpp", 3))
        form->flags |= FORM_VENDOR;
    snprintf(form->name, sizeof(form->name), "%s%s%s%s%.0u", enc->lock ? "lock " : "", enc->name,
             enc->size == 1   ? " b"
             : enc->size == 2 ? " w"
             : enc->size == 4 ? " d"
             : enc->size == 8 ? " q"
                              : "",
             kinds[enc->kind], 0u);
    walk->each(walk->opaque, form);
}

static unsigned immediate_bytes(const struct row *row, unsigned size)
{
    switch (row->immediate) {
    case I_BYTE:
        return 1;
    case I_WORD:
        return 2;
    case I_SIZE:
        return size == 8 ? 4 : size;
    case I_FULL:
        return size;
    default:
        return 0;
    }
}

static void row_form(const struct walk *walk, const struct row *row, unsigned size, enum modrm_kind kind,
                     bool lock)
{
    struct form form = {.undefined = row->undefined, .flags = row->flags, .base = IR_NONE, .index = IR_NONE};
    struct encoding enc = {
        .name = row->name,
        .map = row->map,
        .opcode = row->has_byte && size > 1 ? row->opcode | 1 : row->opcode,
        .mandatory = row->mandatory,
        .size = (uint8_t)size,
        .lock = lock,
        .byte_register = size == 1 || (row->map == 1 && (row->opcode == 0xb6 || row->opcode == 0xbe)),
        .no_rex = row->flags & FORM_VECTOR && !row->mandatory,
        .extension = row->extension,
        .kind = kind,
        .plus_register = row->kind == K_PLUS,
        .immediate = (uint8_t)immediate_bytes(row, size),
        .immediate_random = true,
    };

    if (row->undefined == UNDEF_SHIFT || row->undefined == UNDEF_ROTATE ||
        row->undefined == UNDEF_DOUBLE_SHIFT) {
        form.count = 0xff;
        if (row->immediate == I_BYTE) {
            unsigned limit = size == 8 ? 64 : row->undefined == UNDEF_DOUBLE_SHIFT && size == 2 ? 17 : 32;
            form.count = (uint8_t)random_below(walk->random, limit);
            enc.immediate_random = false;
            enc.immediate_value = form.count;
        } else if (row->opcode == 0xd0) {
            form.count = 1;
        }
    }
    if (row->immediate == I_WORD) { /* RET n, ENTER n, 0 */
        enc.immediate_random = false;
        enc.immediate_value = random_below(walk->random, 64);
        enc.immediate = row->opcode == 0xc8 ? 3 : 2;
    }
    if (row->flags & FORM_BITS && kind == RM_MEMORY)
        form.flags |= FORM_MEM;
    emit_form(walk, &form, &enc);
}

static void row_forms(const struct walk *walk, const struct row *row)
{
    for (unsigned size = row->sizes ? 1 : 0; size <= 8; size = size ? size * 2 : 16) {
        if (row->sizes && !(row->sizes & size))
            continue;
        if (row->kind == K_PLAIN || row->kind == K_PLUS) {
            row_form(walk, row, size, NO_MODRM, false);
            continue;
        }
        if (row->kind != K_MEMORY)
            row_form(walk, row, size, RM_REGISTER, false);
        if (row->kind != K_REGISTER) {
            row_form(walk, row, size, RM_MEMORY, false);
            row_form(walk, row, size, RM_MEMORY, false);
            if (row->lock)
                row_form(walk, row, size, RM_MEMORY, true);
        }
    }
}

static void alu_forms(const struct walk *walk)
{
    static const char *const names[8] = {"add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"};

    for (unsigned i = 0; i < 8; i++) {
        uint8_t undefined = i == 1 || i == 4 || i == 6 ? UNDEF_AF : UNDEF_NONE;
        const struct row alu[] = {
            {names[i], 0, (uint8_t)(8 * i), 0, -1, BWDQ, K_MODRM, I_NONE, undefined, true, i != 7},
            {names[i], 0, (uint8_t)(8 * i + 2), 0, -1, BWDQ, K_MODRM, I_NONE, undefined, true},
            {names[i], 0, (uint8_t)(8 * i + 4), 0, -1, BWDQ, K_PLAIN, I_SIZE, undefined, true},
            {names[i], 0, 0x80, 0, (int8_t)i, BWDQ, K_MODRM, I_SIZE, undefined, true, i != 7},
            {names[i], 0, 0x83, 0, (int8_t)i, WDQ, K_MODRM, I_BYTE, undefined, false, i != 7},
        };
        for (unsigned j = 0; j < sizeof(alu) / sizeof(alu[0]); j++)
            row_forms(walk, &alu[j]);
    }
}

static void condition_forms(const struct walk *walk)
{
    static const char *const jcc[16] = {"jo", "jno", "jb", "jae", "je", "jne", "jbe", "ja",
                                        "js", "jns", "jp", "jnp", "jl", "jge", "jle", "jg"};
    static const char *const cmov[16] = {"cmovo",  "cmovno", "cmovb",  "cmovae", "cmove", "cmovne",
                                         "cmovbe", "cmova",  "cmovs",  "cmovns", "cmovp", "cmovnp",
                                         "cmovl",  "cmovge", "cmovle", "cmovg"};
    static const char *const set[16] = {"seto", "setno", "setb", "setae", "sete", "setne", "setbe", "seta",
                                        "sets", "setns", "setp", "setnp", "setl", "setge", "setle", "setg"};

    for (unsigned i = 0; i < 16; i++) {
        const struct row conditional[] = {
            {cmov[i], 1, (uint8_t)(0x40 + i), 0, -1, WDQ, K_MODRM, I_NONE, UNDEF_NONE},
            {set[i], 1, (uint8_t)(0x90 + i), 0, 0, B, K_MODRM, I_NONE, UNDEF_NONE},
        };
        row_forms(walk, &conditional[0]);
        row_forms(walk, &conditional[1]);

        struct form form = {.base = IR_NONE, .index = IR_NONE};
        struct encoding enc = {
            .name = jcc[i], .opcode = (uint8_t)(0x70 + i), .immediate = 1, .extension = -1};
        enc.immediate_value = ORACLE_TARGET - (ORACLE_INSN + 2);
        emit_form(walk, &form, &enc);
        enc.map = 1;
        enc.opcode = (uint8_t)(0x80 + i);
        enc.immediate = 4;
        enc.immediate_value = ORACLE_TARGET - (ORACLE_INSN + 6);
        emit_form(walk, &form, &enc);
    }
}

static void branch_forms(const struct walk *walk)
{
    static const struct {
        const char *name;
        uint8_t opcode, immediate;
        uint32_t flags;
    } branches[] = {
        {"jmp", 0xeb, 1, 0},
        {"jmp", 0xe9, 4, 0},
        {"call", 0xe8, 4, FORM_STACK},
        {"loopne", 0xe0, 1, FORM_STRING},
        {"loope", 0xe1, 1, FORM_STRING},
        {"loop", 0xe2, 1, FORM_STRING},
        {"jrcxz", 0xe3, 1, FORM_STRING},
    };

    for (unsigned i = 0; i < sizeof(branches) / sizeof(branches[0]); i++) {
        struct form form = {.base = IR_NONE, .index = IR_NONE, .flags = branches[i].flags};
        struct encoding enc = {.name = branches[i].name,
                               .opcode = branches[i].opcode,
                               .extension = -1,
                               .immediate = branches[i].immediate};
        enc.immediate_value = (int64_t)ORACLE_TARGET - (ORACLE_INSN + 1 + branches[i].immediate);
        emit_form(walk, &form, &enc);
        if (form.flags & FORM_STRING) { /* 32-bit count */
            enc.mandatory = 0x67;
            enc.immediate_value--;
            emit_form(walk, &form, &enc);
        }
    }
}

/* --- vector and x87 forms ------------------------------------------------------------------------------------ */

static void vector_form(const struct walk *walk, const struct x86_vec_insn *insn, enum modrm_kind kind,
                        bool wide)
{
    struct form form = {.flags = FORM_VECTOR | (insn->flags & VECF_FP ? FORM_FP : 0),
                        .base = IR_NONE,
                        .index = IR_NONE,
                        .vec_prefix = insn->prefix};
    struct encoding enc = {
        .name = insn->name,
        .map = insn->map,
        .opcode = insn->opcode,
        .mandatory = insn->prefix,
        .size = wide ? 8 : 0,
        .extension = insn->modrm_ext == 0xff ? -1 : (int8_t)insn->modrm_ext,
        .no_rex = insn->reg == VEC_MMX || insn->rm == VEC_MMX,
        .kind = kind,
        .immediate = insn->flags & VECF_IMM8 ? 1 : 0,
        .immediate_random = true,
    };

    if (insn->reg == VEC_MMX || insn->rm == VEC_MMX)
        form.flags |= FORM_X87;
    emit_form(walk, &form, &enc);
}

static void vector_forms(const struct walk *walk)
{
    for (unsigned i = 0; i < x86_vec_insn_count; i++) {
        const struct x86_vec_insn *insn = &x86_vec_insns[i];
        bool wide =
            insn->reg == VEC_GPR || insn->rm == VEC_GPR || insn->opcode == 0x60 || insn->opcode == 0x61;
        unsigned repeat = insn->flags & VECF_IMM8 ? 8 : 1;

        if (!x86_has(walk->host.words, insn->feature))
            continue;
        if (insn->reg == VEC_NONE && insn->rm == VEC_NONE) {
            struct form form = {.base = IR_NONE, .index = IR_NONE, .flags = FORM_X87};
            struct encoding enc = {
                .name = insn->name, .map = insn->map, .opcode = insn->opcode, .extension = -1};
            emit_form(walk, &form, &enc);
            continue;
        }
        for (unsigned j = 0; j < repeat; j++) {
            if (!(insn->flags & VECF_MEM_ONLY))
                vector_form(walk, insn, RM_REGISTER, false);
            if (!(insn->flags & VECF_REG_ONLY))
                vector_form(walk, insn, RM_MEMORY, false);
            if (wide && !(insn->flags & VECF_MEM_ONLY))
                vector_form(walk, insn, RM_REGISTER, true);
            if (wide && !(insn->flags & VECF_REG_ONLY))
                vector_form(walk, insn, RM_MEMORY, true);
        }
    }
}

static void x87_forms(const struct walk *walk)
{
    for (unsigned opcode = 0; opcode < 8; opcode++) {
        for (unsigned n = 0; n < 8; n++) {
            bool write;
            char name[16];
            if (!x86_x87_mem(opcode, n << 3, &write))
                continue;
            struct form form = {.flags = FORM_X87 | FORM_FP, .base = IR_NONE, .index = IR_NONE};
            struct encoding enc = {
                .name = name, .opcode = (uint8_t)(0xd8 + opcode), .extension = (int8_t)n, .kind = RM_MEMORY};
            snprintf(name, sizeof(name), "x87 %02x/%u", 0xd8 + opcode, n);
            bool environment = (opcode == 1 || opcode == 5) && (n == 4 || n == 6);
            if ((opcode == 3 && n == 7) || (opcode == 7 && n == 6))
                form.flags |= FORM_STORE10;
            if (environment)
                form.flags |= n == 6 ? FORM_ENV32 | FORM_ENV : FORM_ENV;
            emit_form(walk, &form, &enc);
            emit_form(walk, &form, &enc);
            if (environment) {
                form = (struct form){.flags = FORM_X87 | FORM_ENV | (n == 6 ? FORM_ENV16 : 0),
                                     .base = IR_NONE,
                                     .index = IR_NONE};
                enc.size = 2;
                emit_form(walk, &form, &enc);
            }
        }
        for (unsigned modrm = 0xc0; modrm < 0x100; modrm++) {
            char name[16];
            if (!x86_x87_valid(opcode, modrm))
                continue;
            struct form form = {.flags = FORM_X87, .base = IR_NONE, .index = IR_NONE};
            struct encoding enc = {.name = name,
                                   .opcode = (uint8_t)(0xd8 + opcode),
                                   .extension = -1,
                                   .no_rex = true,
                                   .kind = RM_REGISTER,
                                   .fixed_modrm = 1,
                                   .modrm = (uint8_t)modrm};
            snprintf(name, sizeof(name), "x87 %02x %02x", 0xd8 + opcode, modrm);
            emit_form(walk, &form, &enc);
        }
    }
    struct form wait = {.flags = FORM_X87, .base = IR_NONE, .index = IR_NONE};
    struct encoding enc = {.name = "fwait", .opcode = 0x9b, .extension = -1};
    emit_form(walk, &wait, &enc);
}

void forms_each(struct random *random, void (*each)(void *opaque, const struct form *form), void *opaque)
{
    struct walk walk = {.random = random, .each = each, .opaque = opaque};

    host_features_read(&walk.host);
    alu_forms(&walk);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (host_has_row(&walk.host, rows[i].name))
            row_forms(&walk, &rows[i]);
    condition_forms(&walk);
    branch_forms(&walk);
    vector_forms(&walk);
    x87_forms(&walk);
}

/* --- states -------------------------------------------------------------------------------------------------- */

static uint64_t random_value(struct random *random)
{
    uint64_t value = random_next(random);

    switch (random_below(random, 8)) {
    case 0:
        return value & 0xff;
    case 1:
        return (uint64_t)(int8_t)value;
    case 2:
        return 1ull << (value & 63);
    case 3:
        return (1ull << (value & 63)) - 1;
    case 4:
        return value & 0xffffffff;
    case 5:
        return value & 7 ? value >> (value & 63) : 0;
    default:
        return value;
    }
}

static uint32_t random_single(struct random *random)
{
    static const uint32_t special[] = {0,          0x80000000, 0x3f800000, 0x7f800000, 0xff800000,
                                       0x7fc00000, 0x7f800001, 1,          0x807fffff, 0x00800000,
                                       0x7f7fffff, 0x4f000000, 0xcf000000, 0x5f000000};
    uint32_t value = (uint32_t)random_next(random);

    switch (random_below(random, 6)) {
    case 0:
        return special[value % (sizeof(special) / sizeof(special[0]))];
    case 1:
        return value;
    case 2: /* denormals and small numbers */
        return value & 0x80ffffff;
    case 3: /* small integers and halves */
        return (value & 0x80000000) | 0x3f000000 | (value & 0x03f80000);
    default: /* about the same size */
        return (value & 0x83ffffff) | 0x3c000000;
    }
}

static uint64_t random_double(struct random *random)
{
    static const uint64_t special[] = {0,
                                       1ull << 63,
                                       0x3ff0000000000000,
                                       0x7ff0000000000000,
                                       0xfff0000000000000,
                                       0x7ff8000000000000,
                                       0x7ff0000000000001,
                                       1,
                                       0x800fffffffffffff,
                                       0x0010000000000000,
                                       0x7fefffffffffffff,
                                       0x41dfffffffc00000,
                                       0xc1e0000000000000,
                                       0x43e0000000000000,
                                       0x36a0000000000000,
                                       0x47efffffe0000000};
    uint64_t value = random_next(random);

    switch (random_below(random, 7)) {
    case 0:
        return special[value % (sizeof(special) / sizeof(special[0]))];
    case 1:
        return value;
    case 2:
        return value & 0x801fffffffffffff;
    case 3:
        return (value & 1ull << 63) | 0x3fe0000000000000 | (value & 0x007f000000000000);
    case 4: /* near the limits of single precision */
        return (value & 0x801fffffffffffff) | 0x3690000000000000 | (value & 0x0800000000000000);
    default:
        return (value & 0x803fffffffffffff) | 0x3fc0000000000000;
    }
}

static void random_vector(struct random *random, unsigned flavour, uint8_t bytes[16])
{
    for (unsigned i = 0; i < 2; i++) {
        uint64_t value;
        if (flavour == 0)
            value = random_single(random) | (uint64_t)random_single(random) << 32;
        else if (flavour == 1)
            value = random_double(random);
        else if (flavour == 2) /* short strings over a small alphabet */
            value = random_next(random) & 0x0303030303030303;
        else
            value = random_value(random);
        memcpy(bytes + 8 * i, &value, 8);
    }
}

static void random_extended(struct random *random, uint8_t bytes[16])
{
    uint64_t value = random_next(random), significand = random_next(random) | 1ull << 63;
    uint16_t exponent = (uint16_t)value;

    memset(bytes, 0, 16);
    switch (random_below(random, 10)) {
    case 0: /* zero, pseudo-denormal, one, infinity */
        significand = value & 0x10000 ? 1ull << 63 : 0;
        exponent = (uint16_t)((value & 0x8000) | (significand ? value & 0x20000 ? 0x3fff : 0x7fff : 0));
        break;
    case 1: /* NaNs */
        exponent |= 0x7fff;
        significand = value & 0x30000 ? significand : significand & ~(3ull << 61);
        break;
    case 2: /* denormals */
        exponent &= 0x8000;
        significand >>= value >> 20 & 63;
        break;
    case 3: /* anything, unsupported ones too */
        significand = random_next(random);
        break;
    case 4: /* integers */
        exponent = (uint16_t)((value & 0x8000) | (0x3fff + (value >> 20 & 63)));
        significand = value & 0x10000 ? significand & UINT64_MAX << 56 : significand;
        break;
    case 5: /* near the limits of double precision */
        exponent =
            (uint16_t)((value & 0x8000) | ((value & 0x10000 ? 0x3fff + 1020 : 0x3fff - 1078) + (value & 31)));
        break;
    default:
        exponent = (uint16_t)((value & 0x8000) | (0x3fff - 32 + (value & 63)));
        break;
    }
    memcpy(bytes, &significand, 8);
    memcpy(bytes + 8, &exponent, 2);
}

static void random_fpu(const struct form *form, struct random *random, struct x86_fxsave *fx)
{
    bool stack_trouble = one_in(random, 4);
    unsigned flavour = form->flags & FORM_FP ? (form->vec_prefix == 0x66 || form->vec_prefix == 0xf2)
                                             : random_below(random, 4);

    memset(fx, 0, sizeof(*fx));
    if (one_in(random, 6))
        flavour = random_below(random, 4);
    for (unsigned i = 0; i < 16; i++)
        random_vector(random, flavour, fx->xmm[i]);
    for (unsigned i = 0; i < 8; i++)
        random_extended(random, fx->st[i]);
    if (!(form->flags & FORM_X87) && one_in(random, 2))
        memset(fx->st, 0, sizeof(fx->st));
    /* Rounding and precision at random; exceptions mostly masked. */
    fx->fcw = (uint16_t)(0x007f | (random_next(random) & 0x0c00) | random_below(random, 3) << 8);
    if ((fx->fcw & 0x300) == 0x100)
        fx->fcw |= 0x200;
    if (one_in(random, 4))
        fx->fcw &= (uint16_t)(0xffc0 | random_next(random));
    fx->fsw = (uint16_t)(random_next(random) & 0x7f00);
    if (one_in(random, 3))
        fx->fsw |= random_next(random) & 0x7f;
    if (fx->fsw & ~fx->fcw & 0x3f) {
        if (one_in(random, 2))
            fx->fsw |= 0x8080;
        else
            fx->fsw &= (uint16_t)~0x7f;
    }
    fx->ftw = stack_trouble ? (uint8_t)random_next(random) : 0xff;
    if (!stack_trouble && one_in(random, 2)) /* room to push */
        fx->ftw &= (uint8_t) ~(1u << (((fx->fsw >> 11) + 7) & 7));
    fx->mxcsr = 0x1f80 | (random_next(random) & 0xe000);
    if (one_in(random, 4))
        fx->mxcsr &= 0xfffff07f | (random_next(random) & 0x1f80);
    if (one_in(random, 4))
        fx->mxcsr |= 0x40;
    if (!one_in(random, 4))
        fx->mxcsr &= ~0x8000u;
    if (one_in(random, 2))
        fx->mxcsr |= random_next(random) & 0x3f;
}

/* Where the memory operand is: mostly aligned, sometimes not, sometimes over the end. */
static uint64_t random_address(struct random *random)
{
    if (one_in(random, 40))
        return ORACLE_DATA + ORACLE_DATA_BYTES - random_below(random, 32);
    if (one_in(random, 60))
        return ORACLE_DATA - random_below(random, 32);
    if (one_in(random, 40)) /* over a page boundary */
        return ORACLE_DATA + 0x1000 - random_below(random, 64);
    return ORACLE_DATA + 0x100 + 16 * random_below(random, 0x1d0) +
           (one_in(random, 4) ? random_below(random, 16) : 0);
}

static void fill_operand(const struct form *form, struct random *random, struct oracle_state *state,
                         uint64_t address)
{
    uint8_t operand[112];

    for (unsigned i = 0; i < sizeof(operand); i += 16) {
        if (form->flags & FORM_X87 && one_in(random, 2))
            random_extended(random, operand + i);
        else
            random_vector(random, form->flags & FORM_FP ? (form->bytes[0] & 4) != 0 : random_below(random, 4),
                          operand + i);
    }
    if (form->flags & FORM_FP && form->flags & FORM_VECTOR)
        random_vector(random, form->vec_prefix == 0x66 || form->vec_prefix == 0xf2, operand);
    if (form->flags & FORM_JUMP_MEM) {
        uint64_t target = ORACLE_TARGET;
        memcpy(operand, &target, 8);
    }
    for (unsigned i = 0; i < sizeof(operand); i++) {
        uint64_t at = address + i - ORACLE_DATA;
        if (at < ORACLE_DATA_BYTES)
            state->data[at] = operand[i];
    }
}

/* Another state's image, for FXRSTOR; now and then with a reserved bit of MXCSR. */
static void fill_image(const struct form *form, struct random *random, struct oracle_state *state,
                       uint64_t address)
{
    struct x86_fxsave image;

    random_fpu(form, random, &image);
    if (one_in(random, 8))
        image.mxcsr |= 1u << (16 + random_below(random, 16));
    for (unsigned i = 0; i < sizeof(image); i++) {
        uint64_t at = address + i - ORACLE_DATA;
        if (at < ORACLE_DATA_BYTES)
            state->data[at] = ((const uint8_t *)&image)[i];
    }
}

static void set_implicit(const struct form *form, struct random *random, struct oracle_state *state)
{
    uint64_t *gpr = state->gpr;

    if (form->flags & (FORM_STACK | FORM_RET)) {
        gpr[IR_RSP] = ORACLE_DATA + 0x800 + 8 * random_below(random, 0x200) + (one_in(random, 8) ? 4 : 0);
        if (one_in(random, 30))
            gpr[IR_RSP] =
                ORACLE_DATA + (one_in(random, 2) ? 0 : ORACLE_DATA_BYTES) + 4 * random_below(random, 3);
        uint64_t at = gpr[IR_RSP] - ORACLE_DATA, target = ORACLE_TARGET;
        if (form->flags & FORM_RET && at <= ORACLE_DATA_BYTES - 8)
            memcpy(state->data + at, &target, 8);
    }
    if (form->flags & FORM_STRING) {
        gpr[IR_RSI] = ORACLE_DATA + 0x400 + random_below(random, 0x800);
        gpr[IR_RDI] = one_in(random, 3) ? gpr[IR_RSI] + random_below(random, 16)
                                        : ORACLE_DATA + random_below(random, 0x1c00) + 0x200;
        if (one_in(random, 20) &&
            !(form->flags & FORM_VECTOR)) /* faults of masked-out bytes are the processor's choice */
            gpr[IR_RDI] =
                ORACLE_DATA + (one_in(random, 2) ? 0 : ORACLE_DATA_BYTES - 4) + random_below(random, 12);
        gpr[IR_RCX] = random_below(random, 24) | (one_in(random, 8) ? 1ull << 32 : 0);
        if (form->bytes[0] >= 0xf2 || form->bytes[1] >= 0xf2)
            gpr[IR_RCX] &= 0xff;
        if (one_in(random, 2))
            memset(state->data, (int)random_below(random, 2), 0x600);
        if (one_in(random, 3))
            gpr[IR_RAX] = 0;
    }
    if (form->flags & FORM_LEAVE)
        gpr[IR_RBP] = ORACLE_DATA + 0x800 + random_below(random, 0x800);
    if (form->flags & FORM_XLAT)
        gpr[IR_RBX] = ORACLE_DATA + random_below(random, 0x1000);
    if (form->flags & FORM_DIV && !one_in(random, 4)) {
        gpr[IR_RDX] = one_in(random, 2) ? 0 : random_below(random, 64);
        if (one_in(random, 3))
            gpr[IR_RDX] = UINT64_MAX;
        if (form->size == 1)
            gpr[IR_RAX] = random_below(random, 0x400);
    }
}

static uint64_t set_address(const struct form *form, struct random *random, struct oracle_state *state)
{
    uint64_t address = random_address(random), offset = form->flags & FORM_GS ? ORACLE_GS_BASE : 0;
    if (form->relative)
        return ORACLE_INSN + form->length + (uint64_t)form->disp + offset;
    if (form->index != IR_NONE) {
        if (!one_in(random, 3))
            state->gpr[form->index] = random_below(random, 64);
        offset += state->gpr[form->index] << form->scale;
    }
    state->gpr[form->base] = address - offset - (uint64_t)form->disp;
    if (form->flags & FORM_ADDR32 && one_in(random, 2))
        state->gpr[form->base] ^= random_next(random) << 32;
    else if (!(form->flags & FORM_ADDR32) && form->base != IR_RSP && form->base != IR_RBP &&
             one_in(random, 100))
        state->gpr[form->base] ^= 1ull << 62; /* not canonical; rsp and rbp would raise #SS instead of #GP */
    return address;
}

void form_state(const struct form *form, struct random *random, struct oracle_state *ret_state,
                uint64_t *ret_address)
{
    struct oracle_state *state = ret_state;

    for (unsigned i = 0; i < 16; i++)
        state->gpr[i] = random_value(random);
    for (unsigned i = 0; i < ORACLE_DATA_BYTES; i += 8) {
        uint64_t value = random_next(random);
        memcpy(state->data + i, &value, 8);
    }
    random_fpu(form, random, &state->fx);
    memset(state->ymm_high, 0, sizeof(state->ymm_high));
    for (unsigned i = 0; i < 16 && oracle_native_avx(); i++)
        memcpy(state->ymm_high[i], state->fx.xmm[random_below(random, 16)], 16);
    state->rflags = 0x202 | (random_next(random) & (FLAGS_ARITH | FLAG_DF));
    state->rip = ORACLE_INSN;
    state->vector = -1;
    state->error = state->address = 0;
    if (form->count == 0xff && one_in(random, 2))
        state->gpr[IR_RCX] = random_below(random, 70);
    if (form->undefined == UNDEF_DOUBLE_SHIFT && form->size == 2 && form->count == 0xff)
        state->gpr[IR_RCX] = random_below(random, 17);
    if (form->flags & FORM_BITS && form->flags & FORM_MEM) {
        for (unsigned i = 0; i < 16; i++) /* ModRM.reg is the bit offset */
            state->gpr[i] = random_below(random, 0x800);
    }
    set_implicit(form, random, state);
    *ret_address = 0;
    if (form->flags & FORM_MEM) {
        *ret_address = set_address(form, random, state);
        fill_operand(form, random, state, *ret_address);
    }
    if (form->flags & FORM_FXSAVE)
        fill_image(form, random, state, *ret_address);
    if (form->flags & FORM_JUMP_REG)
        state->gpr[form->base] = ORACLE_TARGET;
    if (form->flags & FORM_CMPXCHG && one_in(random, 2) && form->flags & FORM_MEM &&
        *ret_address - ORACLE_DATA <= ORACLE_DATA_BYTES - 16) {
        unsigned half = form->size == 8 ? 8 : 4;
        memcpy(&state->gpr[IR_RAX], state->data + (*ret_address - ORACLE_DATA), half);
        memcpy(&state->gpr[IR_RDX], state->data + (*ret_address - ORACLE_DATA) + half, half);
        if (form->base == IR_RAX || form->base == IR_RDX || form->index == IR_RAX || form->index == IR_RDX)
            *ret_address = set_address(form, random, state);
    }
    /* The result of a form with an environment is compared with FCW's and FSW's own values: nothing pending. */
}

/* --- sequences ----------------------------------------------------------------------------------------------- */

static bool is_short_jcc(const struct form *form)
{
    return form->length == 2 && form->bytes[0] >> 4 == 7;
}

bool form_can_join(const struct form *form)
{
    static const char *const branches[] = {"call", "jmp", "loop", "jrcxz", "ret", "ud2"};

    for (unsigned i = 0; i < sizeof(branches) / sizeof(branches[0]); i++)
        if (!strncmp(form->name, branches[i], strlen(branches[i])))
            return false;
    if (form->name[0] == 'j' && !is_short_jcc(form))
        return false;
    if (form->flags & (FORM_ENV | FORM_FXSAVE) || !strncmp(form->name, "maskmov", 7))
        return false;
    return !form->relative && form->undefined <= UNDEF_AF;
}

unsigned sequence_join(const struct form *const *forms, unsigned count, uint8_t *ret_bytes,
                       unsigned *ret_length)
{
    unsigned length = 0, i;

    for (i = 0; i < count && length + forms[i]->length < ORACLE_TARGET - ORACLE_INSN - 20; i++) {
        memcpy(ret_bytes + length, forms[i]->bytes, forms[i]->length);
        length += forms[i]->length;
        if (is_short_jcc(forms[i]))
            ret_bytes[length - 1] = (uint8_t)(ORACLE_TARGET - (ORACLE_INSN + length));
    }
    *ret_length = length;
    return i;
}

void sequence_state(const struct form *const *forms, unsigned count, struct random *random,
                    struct oracle_state *ret_state)
{
    uint64_t address;

    form_state(forms[random_below(random, count)], random, ret_state, &address);
    if (!one_in(random, 4)) { /* unmasked exceptions keep T0 from running */
        ret_state->fx.mxcsr |= 0x1f80;
        ret_state->fx.fcw |= 0x3f;
        ret_state->fx.fsw &= (uint16_t)~0x8080;
    }
    for (unsigned i = count; i-- > 0;) {
        set_implicit(forms[i], random, ret_state);
        if (forms[i]->flags & FORM_MEM)
            set_address(forms[i], random, ret_state);
    }
}

uint64_t form_defined_flags(const struct form *form, const struct oracle_state *before)
{
    uint64_t all = FLAGS_ARITH | FLAG_DF;
    unsigned mask = form->size == 8 ? 63 : 31, bits = form->size * 8;
    unsigned count = (form->count == 0xff ? (unsigned)before->gpr[IR_RCX] : form->count) & mask;

    switch (form->undefined) {
    case UNDEF_AF:
        return all & ~(uint64_t)FLAG_AF;
    case UNDEF_SHIFT:
        if (!count)
            return all;
        return all & ~(uint64_t)(FLAG_AF | (count != 1 ? FLAG_OF : 0) | (count >= bits ? FLAG_CF : 0));
    case UNDEF_ROTATE:
        return count && count != 1 ? all & ~(uint64_t)FLAG_OF : all;
    case UNDEF_DOUBLE_SHIFT:
        if (!count)
            return all;
        return all & ~(uint64_t)(FLAG_AF | (count != 1 ? FLAG_OF : 0) | (count >= bits ? FLAG_CF : 0));
    case UNDEF_MUL:
        return all & ~(uint64_t)(FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF);
    case UNDEF_ALL:
        return FLAG_DF;
    case UNDEF_BIT:
        return all & ~(uint64_t)(FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF);
    case UNDEF_SCAN:
        return FLAG_ZF | FLAG_DF;
    case UNDEF_COUNT:
        return FLAG_ZF | FLAG_CF | FLAG_DF;
    default:
        return all;
    }
}
