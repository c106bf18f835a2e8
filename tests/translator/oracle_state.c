/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random states for the oracle: registers full of corner cases, memory operands where they are mostly good, sometimes
 * misaligned, over the edge of a page or of a segment, read-only, absent or not canonical.
 */
#include <string.h>

#include "tests/translator/oracle_forms.h"
#include "translator/ir.h"

struct placing {
    const struct insn *insn;
    struct random *random;
    struct oracle_state *state;
    uint32_t pinned; /* general registers that an operand already needs as they are */
};

static uint64_t width_mask(unsigned bits)
{
    return bits >= 64 ? UINT64_MAX : (1ull << bits) - 1;
}

/* Changes the low bits only; what lies above is ignored by whoever uses them. */
static void set_low(uint64_t *reg, unsigned bits, uint64_t value)
{
    *reg = (*reg & ~width_mask(bits)) | (value & width_mask(bits));
}

/* --- x87, vectors -------------------------------------------------------------------------------------------- */

static enum random_flavour insn_flavour(const struct insn *insn, struct random *random)
{
    if (!one_in(random, 6)) {
        for (unsigned i = 0; i < insn->info.operand_count; i++) {
            switch (insn->operands[i].element_type) {
            case ZYDIS_ELEMENT_TYPE_FLOAT16:
                return RANDOM_HALF;
            case ZYDIS_ELEMENT_TYPE_FLOAT32:
                return RANDOM_SINGLE;
            case ZYDIS_ELEMENT_TYPE_FLOAT64:
                return RANDOM_DOUBLE;
            default:
                break;
            }
        }
    }
    return (enum random_flavour)random_below(random, RANDOM_FLAVOURS);
}

static void random_x87(bool busy, struct random *random, struct x86_fxsave *fx)
{
    bool stack_trouble = one_in(random, 4);

    for (unsigned i = 0; i < 8 && (busy || one_in(random, 2)); i++)
        random_extended(random, fx->st[i]);
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
    fx->fop = (uint16_t)(random_next(random) & 0x7ff);
    fx->fip = random_next(random) & 0x7fffffffffff;
    fx->fdp = random_next(random) & 0x7fffffffffff;
}

static uint32_t random_mxcsr(struct random *random)
{
    uint32_t mxcsr = 0x1f80 | (random_next(random) & 0xe000);

    if (one_in(random, 4))
        mxcsr &= 0xfffff07f | (random_next(random) & 0x1f80);
    if (one_in(random, 4))
        mxcsr |= 0x40;
    if (!one_in(random, 4))
        mxcsr &= ~0x8000u;
    if (one_in(random, 2))
        mxcsr |= random_next(random) & 0x3f;
    return mxcsr;
}

static void random_fpu(const struct insn *insn, struct random *random, struct oracle_state *state)
{
    enum random_flavour flavour = insn_flavour(insn, random);
    bool zero_upper = one_in(random, 4);

    memset(&state->fx, 0, sizeof(state->fx));
    memset(state->ymm_high, 0, sizeof(state->ymm_high));
    for (unsigned i = 0; i < 16; i++)
        random_vector(random, flavour, state->fx.xmm[i]);
    for (unsigned i = 0; i < 16 && oracle_native_avx() && !zero_upper; i++) {
        if (insn->form->vex)
            random_vector(random, flavour, state->ymm_high[i]);
        else
            memcpy(state->ymm_high[i], state->fx.xmm[15 - i], 16);
    }
    random_x87(insn_is_x87(insn), random, &state->fx);
    state->fx.mxcsr = random_mxcsr(random);
}

/* --- memory operands ----------------------------------------------------------------------------------------- */

/* Where it is: in the writable pages, which the read-only one follows; before and behind lies nothing. */
static uint64_t random_address(struct random *random, unsigned bytes, bool stack)
{
    unsigned align = bytes >= 64 ? 64 : bytes >= 32 ? 32 : bytes >= 16 ? 16 : 8, jitter = bytes + 16;
    unsigned kind = random_below(random, 128);

    if (kind < 3) /* over the end of what is mapped */
        return ORACLE_CONST + 0x1000 - random_below(random, jitter);
    if (kind < 5) /* over its beginning */
        return ORACLE_DATA - random_below(random, jitter);
    if (kind < 8) /* into the read-only page */
        return ORACLE_CONST - random_below(random, jitter);
    if (kind < 10)
        return ORACLE_CONST + random_below(random, 0x800);
    if (kind < 16) /* over a page boundary */
        return ORACLE_DATA + 0x1000 - random_below(random, jitter);
    if (kind < 17 && !stack) /* the code; not POPF's, whose TF is clear */
        return ORACLE_BASE + random_below(random, 0x1000);
    uint64_t room = ORACLE_DATA_BYTES - 0x200 - (bytes < 0x1000 ? bytes : 0x1000);
    uint64_t offset = 0x100 + random_below(random, (unsigned)(room / align)) * align;
    if (stack ? one_in(random, 8) : kind < 48)
        offset += stack ? 4 : random_below(random, align);
    return ORACLE_DATA + offset;
}

static uint64_t segment_base(const struct insn *insn, ZydisRegister segment)
{
    unsigned i = (unsigned)(segment - ZYDIS_REGISTER_ES);

    return i < 6 ? oracle_segments[insn->form->mode][i].base : 0;
}

static unsigned register_bits(ZydisRegister reg)
{
    return ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, reg);
}

/* A vector of indices: mostly small, some equal. */
static void set_indices(struct placing *p, ZydisRegister reg)
{
    unsigned number = (unsigned)ZydisRegisterGetId(reg);
    bool wide = p->insn->info.opcode & 1;

    for (unsigned i = 0; i < 8; i++) {
        uint8_t *at = i < 4 ? p->state->fx.xmm[number] + 4 * i : p->state->ymm_high[number] + 4 * (i - 4);
        int32_t value = (int32_t)random_below(p->random, 256) - 128;
        if (one_in(p->random, 60))
            value = (int32_t)random_next(p->random);
        if (wide && i & 1)
            memcpy(&value, at - 4, 4), value = value < 0 ? -1 : 0;
        memcpy(at, &value, 4);
    }
    if (!oracle_native_avx())
        memset(p->state->ymm_high, 0, sizeof(p->state->ymm_high));
}

/* Makes the operand's registers so that it lies at `address`, as far as they are still free. Returns where it lies. */
static uint64_t place(struct placing *p, const ZydisDecodedOperand *operand, uint64_t address)
{
    const struct insn *insn = p->insn;
    uint64_t *gpr = p->state->gpr, segment = segment_base(insn, operand->mem.segment);
    bool stack =
        operand->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN && insn_gpr(operand->mem.base) == IR_RSP;
    unsigned width = stack ? insn->form->mode == ORACLE_64   ? 64
                             : insn->form->mode == ORACLE_32 ? 32
                                                             : 16
                           : insn->info.address_width;
    uint64_t mask = width_mask(width), offset = (address - segment) & mask;
    int base = insn_gpr(operand->mem.base), index = insn_gpr(operand->mem.index);
    uint64_t sum = (uint64_t)operand->mem.disp.value;
    unsigned scale = operand->mem.scale ? operand->mem.scale : 1;
    unsigned index_bits = register_bits(operand->mem.index);

    if (operand->mem.base == ZYDIS_REGISTER_RIP || operand->mem.base == ZYDIS_REGISTER_EIP)
        return segment + ((ORACLE_INSN + insn->length + sum) & mask);
    if (operand->mem.type == ZYDIS_MEMOP_TYPE_VSIB) {
        set_indices(p, operand->mem.index);
        index = -1;
    }
    if (index >= 0 && index != base && !(p->pinned >> index & 1) && index_bits > 8) {
        if (!one_in(p->random, 3))
            set_low(&gpr[index], width, random_below(p->random, 64));
        p->pinned |= 1u << index;
    }
    if (index >= 0)
        sum += (gpr[index] & width_mask(index_bits)) * scale;
    if (base >= 0 && !(p->pinned >> base & 1)) {
        if (index == base) /* (scale + 1) * base: as near as it gets */
            set_low(&gpr[base], width, (offset - (uint64_t)operand->mem.disp.value) / (scale + 1));
        else
            set_low(&gpr[base], width, offset - sum);
        p->pinned |= 1u << base;
        if (width == 64 && one_in(p->random, 100) && !(insn->form->rule->flags & RULE_GOOD))
            gpr[base] ^= 1ull << (47 + random_below(p->random, 17)); /* not canonical */
        if (index == base)
            sum = (uint64_t)operand->mem.disp.value + gpr[base] * scale;
    } else if (base < 0 && index >= 0) {
        set_low(&gpr[index], width, (offset - (uint64_t)operand->mem.disp.value) / scale);
        sum = (uint64_t)operand->mem.disp.value + gpr[index] * scale;
    }
    if (base >= 0)
        sum += gpr[base];
    return segment + (sum & mask);
}

static void put_data(struct oracle_state *state, uint64_t address, const void *bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t at = address + i - ORACLE_DATA;
        if (at < ORACLE_DATA_BYTES)
            state->data[at] = ((const uint8_t *)bytes)[i];
    }
}

static void get_data(const struct oracle_state *state, uint64_t address, void *bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t at = address + i - ORACLE_DATA;
        if (at < ORACLE_DATA_BYTES)
            ((uint8_t *)bytes)[i] = state->data[at];
    }
}

static uint64_t code_offset(const struct insn *insn, uint64_t linear)
{
    return linear - (insn->form->mode == ORACLE_16 ? ORACLE_BASE : 0);
}

static uint16_t random_selector(struct random *random)
{
    /* Not 78: its limit is the processor's number. */
    static const uint16_t some[] = {0,
                                    1,
                                    3,
                                    0x08,
                                    0x10,
                                    0x18,
                                    0x23,
                                    0x20,
                                    0x2b,
                                    0x28,
                                    0x33,
                                    0x40,
                                    0x50,
                                    0x60,
                                    0x6b,
                                    ORACLE_LDT(0),
                                    ORACLE_LDT(1),
                                    ORACLE_LDT(2),
                                    ORACLE_LDT(3),
                                    ORACLE_LDT(4),
                                    ORACLE_LDT(5),
                                    ORACLE_LDT(6),
                                    ORACLE_LDT(7),
                                    ORACLE_LDT(8),
                                    0x80,
                                    0xfff0,
                                    0x0c,
                                    0x1d};

    return some[random_below(random, sizeof(some) / sizeof(some[0]))];
}

/* A state to be loaded by FXRSTOR or XRSTOR; now and then with something reserved in it. */
static void fill_image(struct placing *p, uint64_t address)
{
    struct oracle_state other;
    uint64_t header[8] = {random_next(p->random) & 7, 0};

    random_fpu(p->insn, p->random, &other);
    if (one_in(p->random, 8))
        other.fx.mxcsr |= 1u << (16 + random_below(p->random, 16));
    put_data(p->state, address, &other.fx, sizeof(other.fx));
    if (!(p->insn->form->rule->flags & RULE_XIMAGE))
        return;
    if (one_in(p->random, 2))
        header[1] = 1ull << 63 | (one_in(p->random, 2) ? 7 : header[0]);
    if (one_in(p->random, 12))
        /* Reserved on both sides: the host has components of its own below. */
        header[random_below(p->random, 8)] |= 1ull << (20 + random_below(p->random, 42));
    put_data(p->state, address + 512, header, sizeof(header));
    put_data(p->state, address + 576, other.ymm_high, sizeof(other.ymm_high));
}

static void fill_environment(struct placing *p, uint64_t address)
{
    struct oracle_state other;
    unsigned step = p->insn->info.operand_width == 16 ? 2 : 4;

    random_fpu(p->insn, p->random, &other);
    uint16_t words[3] = {other.fx.fcw, other.fx.fsw, (uint16_t)random_next(p->random)};
    for (unsigned i = 0; i < 3; i++)
        put_data(p->state, address + i * step, &words[i], 2);
}

/* What the instruction reads there. */
static void fill(struct placing *p, const ZydisDecodedOperand *operand, uint64_t address)
{
    const struct insn *insn = p->insn;
    uint32_t flags = insn->form->rule->flags;
    unsigned bytes = operand->size / 8;
    uint8_t data[64 + 16];

    if (!(operand->actions & ZYDIS_OPERAND_ACTION_MASK_READ) &&
        !(flags & (RULE_XIMAGE | RULE_FXIMAGE | RULE_ENV)))
        return;
    enum random_flavour flavour = insn_flavour(insn, p->random);
    for (unsigned i = 0; i < 64; i += 16) {
        if (operand->element_type == ZYDIS_ELEMENT_TYPE_FLOAT80)
            random_extended(p->random, data + i);
        else
            random_vector(p->random, flavour, data + i);
    }
    if (flags & RULE_FLAGS)
        data[1] &= (uint8_t)~1; /* TF */
    if (flags & RULE_MXCSR && !one_in(p->random, 6)) {
        uint32_t mxcsr = random_mxcsr(p->random);
        memcpy(data, &mxcsr, 4);
    }
    if (flags & RULE_SELECTOR || insn->info.meta.category == ZYDIS_CATEGORY_SEGOP) {
        uint16_t selector = random_selector(p->random);
        memcpy(data + (flags & RULE_FAR ? bytes - 2 : 0), &selector, 2);
    }
    if (insn_is_branch(insn)) {
        uint64_t to = code_offset(insn, ORACLE_TARGET);
        unsigned size = insn->info.operand_width / 8;
        memcpy(data, &to, size);
        if (insn->info.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
            uint16_t selector = oracle_segments[insn->form->mode][SEG_CS].selector;
            memcpy(data + size, &selector, 2);
        }
    }
    put_data(p->state, address, data, bytes && bytes < 64 ? bytes : 64);
    if (flags & (RULE_FXIMAGE | RULE_XIMAGE))
        fill_image(p, address);
    if (flags & RULE_ENV)
        fill_environment(p, address);
}

static void place_operands(struct placing *p, uint64_t *ret_address)
{
    const struct insn *insn = p->insn;
    uint32_t flags = insn->form->rule->flags;

    for (unsigned i = 0; i < insn->info.operand_count; i++) {
        const ZydisDecodedOperand *operand = &insn->operands[i];
        if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY || operand->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
            continue;
        bool stack =
            insn_gpr(operand->mem.base) == IR_RSP && operand->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN;
        unsigned bytes = flags & RULE_XIMAGE ? 832 : flags & RULE_FXIMAGE ? 512 : operand->size / 8;
        uint64_t address = random_address(p->random, bytes, stack);
        if (flags & RULE_GOOD)
            address = ORACLE_DATA + 0x800 + random_below(p->random, 0x1000);
        if (flags & (RULE_XIMAGE | RULE_FXIMAGE) && !one_in(p->random, 6))
            address &= ~63ull;
        address = place(p, operand, address);
        if (!*ret_address || !stack)
            *ret_address = address;
        fill(p, operand, address);
    }
}

/* --- what instructions want ---------------------------------------------------------------------------------- */

static void set_operand_registers(struct placing *p)
{
    const struct insn *insn = p->insn;
    uint32_t flags = insn->form->rule->flags;

    for (unsigned i = 0; i < insn->info.operand_count; i++) {
        const ZydisDecodedOperand *operand = &insn->operands[i];
        if (operand->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        int gpr = insn_gpr(operand->reg.value);
        if (gpr < 0 || p->pinned >> gpr & 1 || operand->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN)
            continue;
        bool write_only = !(operand->actions & ZYDIS_OPERAND_ACTION_MASK_READ);
        if (flags & RULE_BITS && insn->form->memory) {
            if (!one_in(p->random, 8))
                p->state->gpr[gpr] = (uint64_t)(int64_t)((int)random_below(p->random, 0x1000) - 0x800);
            p->pinned |= 1u << gpr;
        }
        if (insn_is_branch(insn) && !one_in(p->random, 16)) {
            p->state->gpr[gpr] = code_offset(insn, ORACLE_TARGET);
            p->pinned |= 1u << gpr;
        }
        if ((flags & RULE_SELECTOR || insn->info.meta.category == ZYDIS_CATEGORY_SEGOP ||
             ZydisRegisterGetClass(insn->operands[0].reg.value) == ZYDIS_REGCLASS_SEGMENT) &&
            !write_only && operand->encoding != ZYDIS_OPERAND_ENCODING_NONE)
            set_low(&p->state->gpr[gpr], 16, random_selector(p->random));
    }
}

static void set_divide(struct placing *p)
{
    uint64_t *gpr = p->state->gpr;

    if (one_in(p->random, 4))
        return;
    if (!(p->pinned >> IR_RDX & 1))
        gpr[IR_RDX] = one_in(p->random, 2)   ? 0
                      : one_in(p->random, 3) ? UINT64_MAX
                                             : random_below(p->random, 64);
    if (p->insn->operands[0].size == 8 && !(p->pinned & 1))
        gpr[IR_RAX] = random_below(p->random, 0x400);
}

/* Accumulator (and RDX) equal to the operand, so that the exchange takes place. */
static void set_compare(struct placing *p, uint64_t address)
{
    const ZydisDecodedOperand *operand = &p->insn->operands[0];
    unsigned bytes = operand->size / 8;
    uint8_t value[16];

    if (one_in(p->random, 2) || bytes > 16)
        return;
    if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER) {
        p->state->gpr[IR_RAX] = p->state->gpr[insn_gpr(operand->reg.value)];
        return;
    }
    memset(value, 0, sizeof(value));
    get_data(p->state, address, value, bytes);
    bool pair = p->insn->info.mnemonic != ZYDIS_MNEMONIC_CMPXCHG;
    unsigned half = pair ? bytes / 2 : bytes;
    if (!(p->pinned & 1))
        memcpy(&p->state->gpr[IR_RAX], value, half);
    if (pair && !(p->pinned >> IR_RDX & 1))
        memcpy(&p->state->gpr[IR_RDX], value + half, half);
}

static void set_special(struct placing *p, uint64_t address)
{
    uint32_t flags = p->insn->form->rule->flags;
    uint64_t *gpr = p->state->gpr;
    const ZydisInstructionAttributes repeat =
        ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE;

    if (flags & RULE_FRAME && !(p->pinned >> IR_RBP & 1)) {
        uint64_t base = oracle_segments[p->insn->form->mode][SEG_SS].base;
        unsigned bits = p->insn->form->mode == ORACLE_64 ? 64 : p->insn->form->mode == ORACLE_32 ? 32 : 16;
        set_low(&gpr[IR_RBP], bits, random_address(p->random, 8, true) - base);
        p->pinned |= 1u << IR_RBP;
    }
    if (flags & RULE_COUNT && !(p->pinned >> IR_RCX & 1)) {
        if (p->insn->info.attributes & repeat) {
            /* A count that no REP finishes must not run into what the test itself has mapped. */
            gpr[IR_RCX] = random_below(p->random, one_in(p->random, 8) ? 1200 : 24);
            if (p->insn->info.address_width < 64)
                gpr[IR_RCX] |= random_next(p->random) << p->insn->info.address_width;
        } else if (one_in(p->random, 2)) {
            gpr[IR_RCX] =
                random_below(p->random, 70) | (one_in(p->random, 4) ? random_next(p->random) << 32 : 0);
        }
    }
    if (p->insn->info.attributes & repeat && one_in(p->random, 2))
        memset(p->state->data, (int)random_below(p->random, 2), sizeof(p->state->data));
    if (flags & RULE_DIVIDE)
        set_divide(p);
    if (flags & RULE_CMPXCHG)
        set_compare(p, address);
    if (flags & RULE_XIMAGE) {
        if (!(p->pinned & 1))
            gpr[IR_RAX] &= 0xffffffff0000001f;
        if (!(p->pinned >> IR_RDX & 1))
            gpr[IR_RDX] &= 0xffffffff00000000;
    }
    /* So that branches into and out of page and segment have something to compare. */
    if (p->insn->info.mnemonic == ZYDIS_MNEMONIC_BOUND && !one_in(p->random, 3)) {
        uint8_t bounds[8] = {0, 0, 0, 0x80, 0xff, 0xff, 0xff, 0x7f};
        if (p->insn->info.operand_width == 16)
            memcpy(bounds, "\0\x80\xff\x7f", 4);
        put_data(p->state, address, bounds, 8);
    }
}

/* Noise: half of it kept from state to state, as making it costs more than anything else. */
static void random_data(struct random *random, struct oracle_state *state)
{
    static uint64_t pool[2 * ORACLE_DATA_BYTES / 8];
    static unsigned uses;

    if (uses++ % 4096 == 0) {
        struct random noise = {0x5851f42d4c957f2d};
        for (unsigned i = 0; i < sizeof(pool) / 8; i++)
            pool[i] = random_next(&noise) & 0xfefefefefefefefe; /* never TF for a stray POPF */
    }
    memcpy(state->data, pool + random_below(random, ORACLE_DATA_BYTES / 8), ORACLE_DATA_BYTES);
}

void state_random(const struct insn *const *insns, unsigned count, struct random *random,
                  struct oracle_state *ret_state, uint64_t *ret_address)
{
    struct oracle_state *state = ret_state;
    struct placing placing = {.random = random, .state = state};
    const struct insn *main = insns[count > 1 ? random_below(random, count) : 0];

    for (unsigned i = 0; i < 16; i++)
        state->gpr[i] = random_value(random);
    if (main->form->mode != ORACLE_64) /* upper halves do not survive legacy code */
        for (unsigned i = 0; i < 16; i++)
            state->gpr[i] = (uint32_t)state->gpr[i];
    random_data(random, state);
    random_fpu(main, random, state);
    state->rflags = 0x202 | (random_next(random) & (FLAGS_ARITH | FLAG_ID));
    if (one_in(random, 4))
        state->rflags |= FLAG_DF;
    if (one_in(random, 16))
        state->rflags |= FLAG_NT;
    /* Whether images that are not aligned raise #AC or #GP is open. */
    if (one_in(random, 24) && !(main->form->rule->flags & (RULE_ANY_BYTE | RULE_GOOD)))
        state->rflags |= FLAG_AC;
    state->rip = ORACLE_INSN;
    state->vector = -1;
    state->error = state->address = 0;
    *ret_address = 0;
    for (unsigned i = 0; i < count; i++) {
        uint64_t address = 0;
        placing.insn = insns[i];
        place_operands(&placing, &address);
        set_operand_registers(&placing);
        set_special(&placing, address);
        if (i == 0)
            *ret_address = address;
    }
    if (main->form->mode != ORACLE_64)
        for (unsigned i = 0; i < 16; i++)
            state->gpr[i] = i < 8 ? (uint32_t)state->gpr[i] : 0;
}

/* --- what is open -------------------------------------------------------------------------------------------- */

static unsigned shift_count(const struct insn *insn, const struct oracle_state *before)
{
    unsigned mask = insn->info.operand_width == 64 ? 63 : 31;

    for (unsigned i = 0; i < insn->info.operand_count; i++)
        if (insn->operands[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
            return (unsigned)insn->operands[i].imm.value.u & mask;
    if ((insn->info.opcode & 0xfe) == 0xd0 && insn->form->map == 0)
        return 1;
    return (unsigned)before->gpr[IR_RCX] & mask;
}

uint64_t insn_defined_flags(const struct insn *insn, const struct oracle_state *before)
{
    const uint64_t all = ORACLE_FLAGS;
    unsigned bits = insn->operands[0].size, count;

    switch (insn->form->rule->undefined) {
    case UNDEF_NONE:
        return all;
    case UNDEF_AF:
        return all & ~(uint64_t)FLAG_AF;
    case UNDEF_SHIFT:
    case UNDEF_DOUBLE_SHIFT:
        count = shift_count(insn, before);
        if (!count)
            return all;
        return all & ~(uint64_t)(FLAG_AF | (count != 1 ? FLAG_OF : 0) | (count >= bits ? FLAG_CF : 0));
    case UNDEF_ROTATE:
        count = shift_count(insn, before);
        return count && count != 1 ? all & ~(uint64_t)FLAG_OF : all;
    case UNDEF_MUL:
        return all & ~(uint64_t)(FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF);
    case UNDEF_ALL:
        return all & ~(uint64_t)FLAGS_ARITH;
    case UNDEF_BIT:
        return all & ~(uint64_t)(FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF);
    case UNDEF_SCAN:
        return all & ~(uint64_t)(FLAGS_ARITH & ~FLAG_ZF);
    case UNDEF_COUNT:
        return all & ~(uint64_t)(FLAGS_ARITH & ~(FLAG_ZF | FLAG_CF));
    default:
        return all & ~(insn->info.cpu_flags ? (uint64_t)insn->info.cpu_flags->undefined : 0);
    }
}
