/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/translator/oracle_sequence.h"

#include <string.h>

#include "translator/ir.h"

#define BYTES_MAX 0x1c0u /* of ORACLE_CODE_MAX, with room for what closes a sequence */

struct jump {
    unsigned from; /* behind its displacement, 0: none */
    unsigned bytes;
    unsigned skip; /* instructions to go */
};

struct builder {
    struct sequence *sequence;
    struct random *random;
    enum oracle_mode mode;
    uint32_t keep;
    struct jump jump;
};

bool sequence_accepts(const struct form *form, bool open_flags)
{
    const struct rule *rule = form->rule;
    const ZydisMnemonic m = form->mnemonic;

    if (form_status(form) != FORM_RUNS || rule->flags & (RULE_ALONE | RULE_RETURN))
        return false;
    if (form->mode == ORACLE_64 && rule->flags & RULE_COUNT && form->prefixes & FORM_67)
        return false; /* open upper halves of registers */
    if (form->mode == ORACLE_16 && form->memory &&
        (rule->flags & RULE_LAZY || (form->map == 0 && (form->opcode & 0xf8) == 0xd8)))
        return false; /* stores that an exception prevents, outside their segment */
    if (m == ZYDIS_MNEMONIC_CALL || m == ZYDIS_MNEMONIC_JMP || m == ZYDIS_MNEMONIC_UD2 ||
        m == ZYDIS_MNEMONIC_UD0 || m == ZYDIS_MNEMONIC_UD1)
        return false;
    if ((form->opcode & 0xf0) == 0x70 && form->map == 0 && !form->vex)
        return false;
    if ((form->opcode & 0xf0) == 0x80 && form->map == 1 && !form->vex)
        return false;
    if (form->map == 0 && !form->vex && form->opcode >= 0xe0 && form->opcode <= 0xe3)
        return false;
    return open_flags || rule->undefined == UNDEF_NONE || rule->undefined == UNDEF_AF ||
           rule->undefined == UNDEF_TABLE;
}

static void put(struct builder *b, const void *bytes, unsigned count)
{
    memcpy(b->sequence->bytes + b->sequence->length, bytes, count);
    b->sequence->length += count;
}

static void land(struct builder *b, struct jump *jump)
{
    struct sequence *sequence = b->sequence;

    if (jump->from) {
        int32_t distance = (int32_t)(sequence->length - jump->from);
        memcpy(sequence->bytes + jump->from - jump->bytes, &distance, jump->bytes);
    }
    jump->from = 0;
}

/* A conditional jump over some of the next instructions. */
static void put_jump(struct builder *b)
{
    static const uint8_t space[4];
    uint8_t condition = (uint8_t)random_below(b->random, 16);
    bool far = one_in(b->random, 2);
    uint8_t code[] = {0x0f, (uint8_t)(0x80 | condition)};

    b->jump.skip = 1 + random_below(b->random, 4);
    b->jump.bytes = far ? b->mode == ORACLE_16 ? 2 : 4 : 1;
    code[1] = (uint8_t)((far ? 0x80 : 0x70) | condition);
    put(b, code + !far, 1 + far);
    put(b, space, b->jump.bytes);
    b->jump.from = b->sequence->length;
}

/* Counts down and back to `start`: LOOP, or DEC and JNZ. */
static void put_loop(struct builder *b, unsigned start)
{
    struct sequence *sequence = b->sequence;
    bool dec = one_in(b->random, 2) && b->mode != ORACLE_16;
    int32_t distance;

    land(b, &b->jump);
    if (!dec && sequence->length + 2 - start < 128) {
        put(b, "\xe2", 1);
        int8_t back = (int8_t)(start - (sequence->length + 1));
        put(b, &back, 1);
        return;
    }
    put(b, b->mode == ORACLE_64 ? "\x48\xff\xc9\x0f\x85" : "\x90\xff\xc9\x0f\x85",
        5); /* dec rcx or (e)cx; jnz */
    unsigned bytes = b->mode == ORACLE_16 ? 2 : 4;
    distance = (int32_t)(start - (sequence->length + bytes));
    put(b, &distance, bytes);
}

static bool add_insn(struct builder *b, const struct form *form)
{
    struct sequence *sequence = b->sequence;
    struct insn *insn = &sequence->insns[sequence->count];

    if (sequence->length + ZYDIS_MAX_INSTRUCTION_LENGTH > BYTES_MAX - 32 ||
        !form_encode(form, b->random, sequence->length, b->keep, insn))
        return false;
    sequence->pointers[sequence->count++] = insn;
    put(b, insn->bytes, insn->length);
    if (b->jump.from && --b->jump.skip == 0)
        land(b, &b->jump);
    return true;
}

void sequence_make(const struct form *const *forms, unsigned count, struct random *random,
                   struct sequence *ret)
{
    struct builder b = {.sequence = ret, .random = random, .mode = forms[0]->mode};
    unsigned wanted = 2 + random_below(random, SEQUENCE_MAX - 2), start = 0, begin, end, subroutine;
    unsigned call_at = 0;

    ret->count = ret->length = 0;
    ret->loop = one_in(random, 2);
    ret->call = one_in(random, 4);
    b.keep = one_in(random, 5) ? 0 : one_in(random, 3) ? 1u << IR_RBX | 1u << IR_RBP : INSN_BASES;
    if (ret->loop)
        b.keep |= 1u << IR_RCX;
    if (ret->call || one_in(random, 2))
        b.keep |= 1u << IR_RSP;
    begin = random_below(random, wanted);
    end = begin + 1 + random_below(random, wanted - begin);
    subroutine = ret->call ? begin + random_below(random, wanted - begin) : wanted;
    for (unsigned tries = 0; ret->count < wanted && tries < 200; tries++) {
        if (ret->count == begin && !start)
            land(&b, &b.jump), start = ret->length + 1;
        if (ret->call && !call_at && ret->count == subroutine) { /* its body is behind the end */
            put(&b, "\xe8\0\0\0\0", b.mode == ORACLE_16 ? 3 : 5);
            call_at = ret->length;
        }
        if (!b.jump.from && one_in(random, 5))
            put_jump(&b);
        add_insn(&b, forms[random_below(random, count)]);
        if (ret->loop && ret->count >= end && start) {
            put_loop(&b, start - 1);
            ret->loop = false;
            start = UINT32_MAX;
        }
    }
    if (ret->loop && start && start != UINT32_MAX)
        put_loop(&b, start - 1);
    land(&b, &b.jump);
    ret->loop = b.keep >> IR_RCX & 1;
    if (!call_at)
        return;
    /* jmp over it; the subroutine: one instruction, ret */
    unsigned width = b.mode == ORACLE_16 ? 2 : 4;
    put(&b, "\xe9\0\0\0\0", 1 + width);
    struct jump over = {.from = ret->length, .bytes = width}, call = {.from = call_at, .bytes = width};
    land(&b, &call);
    const struct form *body = forms[random_below(random, count)];
    if (ret->count < SEQUENCE_MAX && !body->memory &&
        !body->hidden_memory) /* it could change where RET goes */
        add_insn(&b, body);
    put(&b, "\xc3", 1);
    land(&b, &over);
}

void sequence_state(const struct sequence *sequence, struct random *random, struct oracle_state *ret_state)
{
    uint64_t address;

    state_random(sequence->pointers, sequence->count, random, ret_state, &address);
    if (!one_in(random, 4)) { /* unmasked exceptions keep T0 from running */
        ret_state->fx.mxcsr |= 0x1f80;
        ret_state->fx.fcw |= 0x3f;
        ret_state->fx.fsw &= (uint16_t)~0x8080;
    }
    if (!one_in(random, 8))
        ret_state->rflags &= ~(uint64_t)FLAG_AC;
    if (sequence->loop)
        ret_state->gpr[IR_RCX] = 1 + random_below(random, 5);
    if (sequence->call && one_in(random, 2)) {
        bool flat = sequence->insns[0].form->mode != ORACLE_16;
        ret_state->gpr[IR_RSP] = (flat ? ORACLE_DATA : 0) + 0x800 + 8 * random_below(random, 64);
    }
}
