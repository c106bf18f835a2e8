/* SPDX-License-Identifier: Apache-2.0 */
/* The catalogue of forms and their random encodings, see oracle_forms.h. */
#include "tests/translator/oracle_forms.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "translator/ir.h"

/* --- assembling ---------------------------------------------------------------------------------------------- */

/* What a form leaves open. */
struct choice {
    uint8_t rex;  /* X and B and R; 0x40: emit it even when zero */
    bool wide, l; /* of VEX, where the form does not care */
    bool vex2;    /* the two-byte prefix where that is possible */
    uint8_t vvvv;
    uint8_t mod, reg, rm, sib;
    uint8_t plus;
    uint8_t extra[3]; /* redundant or segment prefixes */
    unsigned extra_count;
    bool dead_rex;    /* a REX prefix that does not count, as another prefix follows */
    uint8_t tail[16]; /* displacement and immediate */
};

static unsigned put_vex(const struct form *form, const struct choice *choice, uint8_t *at)
{
    unsigned pp = form->prefixes & FORM_66   ? 1
                  : form->prefixes & FORM_F3 ? 2
                  : form->prefixes & FORM_F2 ? 3
                                             : 0;
    uint8_t rex = choice->rex, last = (uint8_t)((~choice->vvvv & 15) << 3 | (choice->l ? 4 : 0) | pp);

    if (choice->vex2 && form->map == 1 && !choice->wide && !(rex & 3)) {
        at[0] = 0xc5;
        at[1] = (uint8_t)((rex & 4 ? 0 : 0x80) | last);
        return 2;
    }
    at[0] = 0xc4;
    at[1] = (uint8_t)((~rex & 7) << 5 | form->map);
    at[2] = (uint8_t)((choice->wide ? 0x80 : 0) | last);
    return 3;
}

static unsigned put_legacy(const struct form *form, const struct choice *choice, uint8_t *at)
{
    static const uint8_t maps[4][3] = {{0}, {1, 0x0f}, {2, 0x0f, 0x38}, {2, 0x0f, 0x3a}};
    unsigned length = 0;

    if (form->prefixes & FORM_66)
        at[length++] = 0x66;
    if (form->prefixes & FORM_F3)
        at[length++] = 0xf3;
    if (form->prefixes & FORM_F2)
        at[length++] = 0xf2;
    if (form->mode == ORACLE_64 && (choice->rex || choice->wide))
        at[length++] = (uint8_t)(0x40 | choice->rex | (choice->wide ? 8 : 0));
    memcpy(at + length, maps[form->map] + 1, maps[form->map][0]);
    return length + maps[form->map][0];
}

/* Up to FORM_CODE_MAX bytes; how many of the tail belong to it is for the decoder to say. */
static void assemble(const struct form *form, const struct choice *choice, uint8_t code[FORM_CODE_MAX])
{
    unsigned length = 0;

    memset(code, 0, FORM_CODE_MAX);
    for (unsigned i = 0; i < choice->extra_count; i++)
        code[length++] = choice->extra[i];
    if (choice->dead_rex)
        code[length++] = (uint8_t)(0x40 | (choice->tail[15] & 15));
    if (form->prefixes & FORM_67)
        code[length++] = 0x67;
    if (form->prefixes & FORM_LOCK)
        code[length++] = 0xf0;
    length += form->vex ? put_vex(form, choice, code + length) : put_legacy(form, choice, code + length);
    code[length++] = (uint8_t)(form->opcode + choice->plus);
    if (form->has_modrm) {
        code[length++] = (uint8_t)(choice->mod << 6 | choice->reg << 3 | choice->rm);
        unsigned address_bits = form->mode == ORACLE_64                                     ? 64
                                : (form->mode == ORACLE_16) != !!(form->prefixes & FORM_67) ? 16
                                                                                            : 32;
        if (choice->mod < 3 && choice->rm == 4 && address_bits > 16)
            code[length++] = choice->sib;
    }
    memcpy(code + length, choice->tail, sizeof(choice->tail));
}

static ZydisDecoder decoders[ORACLE_MODES];

static void init_decoders(void)
{
    static const ZydisMachineMode modes[ORACLE_MODES] = {
        ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_MACHINE_MODE_LONG_COMPAT_16};
    static const ZydisStackWidth widths[ORACLE_MODES] = {ZYDIS_STACK_WIDTH_64, ZYDIS_STACK_WIDTH_32,
                                                         ZYDIS_STACK_WIDTH_16};

    if (decoders[ORACLE_32].machine_mode)
        return;
    for (unsigned i = 0; i < ORACLE_MODES; i++) {
        ZydisDecoderInit(&decoders[i], modes[i], widths[i]);
        ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
        ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
        ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
    }
}

bool insn_decode(enum oracle_mode mode, const uint8_t *bytes, unsigned length, struct insn *ret)
{
    init_decoders();
    if (length > ZYDIS_MAX_INSTRUCTION_LENGTH)
        length = ZYDIS_MAX_INSTRUCTION_LENGTH;
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoders[mode], bytes, length, &ret->info, ret->operands)))
        return false;
    ret->form = NULL;
    ret->mode = mode;
    ret->length = ret->info.length;
    memcpy(ret->bytes, bytes, ret->length);
    return true;
}

static bool decode(const struct form *form, const uint8_t code[FORM_CODE_MAX], struct insn *ret)
{
    bool good = insn_decode(form->mode, code, FORM_CODE_MAX, ret);
    ret->form = form;
    return good;
}

/* --- what Zydis tells apart ---------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15ull;
    return hash ^ hash >> 29;
}

static const ZydisDecodedOperand *find_encoded(const struct insn *insn, ZydisOperandEncoding encoding)
{
    for (unsigned i = 0; i < insn->info.operand_count; i++)
        if (insn->operands[i].encoding == encoding)
            return &insn->operands[i];
    return NULL;
}

bool insn_has_memory(const struct insn *insn)
{
    for (unsigned i = 0; i < insn->info.operand_count; i++)
        if (insn->operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            return true;
    return false;
}

static uint64_t operand_key(uint64_t hash, const ZydisDecodedOperand *operand)
{
    hash = mix(hash, operand->type);
    hash = mix(hash, operand->size);
    hash = mix(hash, operand->encoding);
    hash = mix(hash, operand->actions);
    hash = mix(hash, (unsigned)operand->element_type << 8 | (unsigned)operand->visibility);
    if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER)
        hash = mix(hash, operand->encoding == ZYDIS_OPERAND_ENCODING_NONE
                             ? 1000u + operand->reg.value
                             : ZydisRegisterGetClass(operand->reg.value));
    if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY)
        hash = mix(hash, operand->mem.type);
    return hash;
}

uint64_t insn_key(const struct insn *insn)
{
    const ZydisDecodedInstruction *info = &insn->info;
    const uint64_t attributes =
        ZYDIS_ATTRIB_HAS_LOCK | ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE;
    bool plus = find_encoded(insn, ZYDIS_OPERAND_ENCODING_OPCODE);
    bool modrm = info->attributes & ZYDIS_ATTRIB_HAS_MODRM;
    uint64_t hash = mix(insn->mode + 1u, info->mnemonic);

    hash = mix(hash, (unsigned)info->encoding << 16 | (unsigned)info->opcode_map << 8 |
                         (plus ? info->opcode & 0xf8u : info->opcode));
    hash = mix(hash, info->attributes & attributes);
    if (modrm) {
        hash = mix(hash, info->raw.modrm.mod == 3);
        if (!find_encoded(insn, ZYDIS_OPERAND_ENCODING_MODRM_REG))
            hash = mix(hash, info->raw.modrm.reg);
        if (info->raw.modrm.mod == 3 && !find_encoded(insn, ZYDIS_OPERAND_ENCODING_MODRM_RM))
            hash = mix(hash, 8u + info->raw.modrm.rm);
    }
    if (insn_has_memory(insn))
        hash = mix(hash, info->address_width);
    for (unsigned i = 0; i < info->operand_count; i++)
        hash = operand_key(hash, &insn->operands[i]);
    return hash;
}

/* --- the catalogue ------------------------------------------------------------------------------------------- */

struct walk {
    struct form_list *list;
    uint64_t *seen; /* open hash set of keys */
    unsigned mask;
    int error;
    void (*undefined)(void *opaque, const struct form *candidate, const uint8_t *code);
    void *opaque;
};

#define SEEN_SLOTS 65536u

static bool see(struct walk *walk, uint64_t key)
{
    unsigned i = (unsigned)key & walk->mask;

    for (; walk->seen[i]; i = (i + 1) & walk->mask)
        if (walk->seen[i] == key)
            return false;
    walk->seen[i] = key;
    return true;
}

static void name_form(struct form *form, const struct insn *insn)
{
    static const char *const modes[ORACLE_MODES] = {"64", "32", "16"};
    char operands[32] = "";
    unsigned length = 0;

    for (unsigned i = 0; i < insn->info.operand_count && length < 24; i++) {
        const ZydisDecodedOperand *operand = &insn->operands[i];
        static const char letters[] = "-rmpi";
        if (operand->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
            operand->type != ZYDIS_OPERAND_TYPE_MEMORY)
            continue;
        length += (unsigned)snprintf(operands + length, sizeof(operands) - length, " %c%u",
                                     letters[operand->type], operand->size);
    }
    snprintf(form->name, sizeof(form->name), "%s %s%s%s%s%s%s%s /%x", modes[form->mode],
             form->prefixes & FORM_LOCK ? "lock " : "",
             insn->info.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE) ? "rep " : "",
             insn->info.attributes & ZYDIS_ATTRIB_HAS_REPNE ? "repne " : "",
             form->prefixes & FORM_67 ? "a67 " : "",
             form->vex && ZydisMnemonicGetString(form->mnemonic)[0] != 'v' ? "vex " : "",
             ZydisMnemonicGetString(form->mnemonic), operands, form->opcode);
}

static void consider(struct walk *walk, const struct form *candidate, const struct choice *choice)
{
    uint8_t code[FORM_CODE_MAX];
    struct insn insn;
    struct form form = *candidate;

    assemble(&form, choice, code);
    bool good = decode(&form, code, &insn);
    if (!good && walk->undefined)
        walk->undefined(walk->opaque, candidate, code);
    if (!good || (unsigned)insn.info.opcode_map != form.map || insn.info.opcode != form.opcode ||
        insn.info.encoding != (form.vex ? ZYDIS_INSTRUCTION_ENCODING_VEX : ZYDIS_INSTRUCTION_ENCODING_LEGACY))
        return;
    form.rule = rule_of(insn.info.mnemonic);
    form.key = insn_key(&insn);
    if (!see(walk, form.key))
        return;
    form.mnemonic = insn.info.mnemonic;
    form.isa_set = insn.info.meta.isa_set;
    form.plus = find_encoded(&insn, ZYDIS_OPERAND_ENCODING_OPCODE);
    form.memory = form.has_modrm && choice->mod < 3;
    form.hidden_memory = !form.memory && insn_has_memory(&insn);
    if (form.has_modrm) {
        form.reg = find_encoded(&insn, ZYDIS_OPERAND_ENCODING_MODRM_REG) ? 0xff : choice->reg;
        form.rm = choice->mod < 3 || find_encoded(&insn, ZYDIS_OPERAND_ENCODING_MODRM_RM) ? 0xff : choice->rm;
    }
    form.vvvv = find_encoded(&insn, ZYDIS_OPERAND_ENCODING_NDSNDD);
    name_form(&form, &insn);

    struct form_list *list = walk->list;
    if (list->count == list->capacity) {
        unsigned capacity = list->capacity ? list->capacity * 2 : 1024;
        struct form *items = realloc(list->items, capacity * sizeof(*items));
        if (!items) {
            walk->error = -ENOMEM;
            return;
        }
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = form;
}

/* Does Zydis see a ModRM byte? 0 or 1, or -1 when this is not an instruction with any ModRM. */
static int probe_modrm(const struct form *form)
{
    uint8_t code[FORM_CODE_MAX];
    struct insn insn;
    struct form copy = *form;

    copy.has_modrm = true;
    for (unsigned modrm = 0; modrm < 256; modrm += 8) {
        const struct choice choice = {.wide = form->wide,
                                      .l = form->l,
                                      .mod = (uint8_t)(modrm >> 6),
                                      .reg = modrm >> 3 & 7,
                                      .rm = (uint8_t)(modrm >> 6 == 3 ? 0 : 3),
                                      .vex2 = false};
        assemble(&copy, &choice, code);
        if (decode(&copy, code, &insn))
            return (insn.info.attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0;
    }
    return 1; /* perhaps with another rm */
}

static void consider_opcode(struct walk *walk, struct form *form)
{
    form->rule = rule_of(ZYDIS_MNEMONIC_INVALID);
    form->has_modrm = probe_modrm(form);
    for (unsigned vvvv = 0; vvvv < (form->vex ? 2 : 1); vvvv++) {
        struct choice choice = {.wide = form->wide, .l = form->l, .vvvv = (uint8_t)(vvvv ? 1 : 0)};
        if (!form->has_modrm) {
            consider(walk, form, &choice);
            continue;
        }
        for (unsigned reg = 0; reg < 8; reg++) {
            choice.reg = (uint8_t)reg;
            choice.mod = 1; /* base register and disp8; VSIB needs rm 4 */
            choice.rm = 3;
            consider(walk, form, &choice);
            choice.rm = 4;
            choice.sib = 0x0b;
            consider(walk, form, &choice);
            choice.mod = 3;
            for (choice.rm = 0; choice.rm < 8; choice.rm++)
                consider(walk, form, &choice);
        }
    }
}

static void walk_legacy(struct walk *walk, enum oracle_mode mode)
{
    /* From the fewest prefixes to the most, so that a redundant one does not become part of a form. */
    static const uint8_t prefixes[] = {0, FORM_66, FORM_F3, FORM_F2, FORM_66 | FORM_F3, FORM_66 | FORM_F2};

    for (unsigned map = 0; map < 4; map++) {
        for (unsigned opcode = 0; opcode < 256; opcode++) {
            if (map == 0 && (opcode == 0x0f || opcode == 0x62 || opcode == 0xc4 || opcode == 0xc5) &&
                mode == ORACLE_64)
                continue;
            if (map == 0 && opcode == 0x0f)
                continue;
            for (unsigned bits = 0; bits < 8 * sizeof(prefixes); bits++) {
                struct form form = {.mode = mode,
                                    .map = (uint8_t)map,
                                    .opcode = (uint8_t)opcode,
                                    .prefixes = (uint8_t)(prefixes[bits / 8] | (bits & 2 ? FORM_67 : 0) |
                                                          (bits & 4 ? FORM_LOCK : 0)),
                                    .wide = bits & 1,
                                    .reg = 0xff,
                                    .rm = 0xff};
                if (!form.wide || mode == ORACLE_64)
                    consider_opcode(walk, &form);
            }
        }
    }
}

static void walk_vex(struct walk *walk, enum oracle_mode mode)
{
    static const uint8_t pp[] = {0, FORM_66, FORM_F3, FORM_F2};

    for (unsigned map = 1; map < 4; map++) {
        for (unsigned opcode = 0; opcode < 256; opcode++) {
            for (unsigned bits = 0; bits < 32; bits++) {
                struct form form = {.mode = mode,
                                    .vex = true,
                                    .map = (uint8_t)map,
                                    .opcode = (uint8_t)opcode,
                                    .prefixes = (uint8_t)(pp[bits / 8] | (bits & 4 ? FORM_67 : 0)),
                                    .wide = bits & 1,
                                    .l = bits & 2,
                                    .reg = 0xff,
                                    .rm = 0xff};
                consider_opcode(walk, &form);
            }
        }
    }
}

int form_catalogue(enum oracle_mode mode, struct form_list *ret_list)
{
    return form_catalogue_all(mode, ret_list, NULL, NULL);
}

int form_catalogue_all(enum oracle_mode mode, struct form_list *ret_list,
                       void (*undefined)(void *opaque, const struct form *candidate, const uint8_t *code),
                       void *opaque)
{
    struct walk walk = {.list = ret_list, .mask = SEEN_SLOTS - 1, .undefined = undefined, .opaque = opaque};

    init_decoders();
    memset(ret_list, 0, sizeof(*ret_list));
    walk.seen = calloc(SEEN_SLOTS, sizeof(*walk.seen));
    if (!walk.seen)
        return -ENOMEM;
    walk_legacy(&walk, mode);
    walk_vex(&walk, mode);
    free(walk.seen);
    if (walk.error)
        form_list_finish(ret_list);
    return walk.error;
}

void form_list_finish(struct form_list *list)
{
    free(list->items);
    memset(list, 0, sizeof(*list));
}

/* --- what runs here ------------------------------------------------------------------------------------------ */

static void host_words(uint32_t *words)
{
    uint32_t a, b, c, d;

    memset(words, 0, X86_FEATURE_WORDS * sizeof(words[0]));
    if (__get_cpuid(1, &a, &b, &c, &d)) {
        words[0] = d;
        words[1] = c;
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        words[2] = b;
        words[3] = c;
        words[4] = d;
    }
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d))
        words[8] = a;
    if (__get_cpuid(0x80000001, &a, &b, &c, &d)) {
        words[5] = d;
        words[6] = c;
    }
    if (__get_cpuid_count(0xd, 1, &a, &b, &c, &d))
        words[7] = a;
    if (!oracle_native_avx())
        words[FEAT_AVX / 32] &= ~(1u << FEAT_AVX % 32);
    if (!oracle_native_fsgsbase())
        words[FEAT_FSGSBASE / 32] &= ~(1u << FEAT_FSGSBASE % 32);
}

enum form_status form_status(const struct form *form)
{
    static uint32_t host[X86_FEATURE_WORDS], guest[X86_FEATURE_WORDS];
    static bool known;
    const ZydisDecodedInstruction info = {.mnemonic = form->mnemonic, .meta.isa_set = form->isa_set};
    int feature = rule_feature(&info);

    if (!known) {
        host_words(host);
        x86_supported_features(guest);
        known = true;
    }
    if (feature == FORM_FOREIGN)
        return FORM_NOT_OFFERED;
    bool offered = (feature < 0 || x86_has(guest, (enum x86_feature)feature)) &&
                   (!form->vex || x86_has(guest, FEAT_AVX));
    bool here =
        (feature < 0 || x86_has(host, (enum x86_feature)feature)) && (!form->vex || x86_has(host, FEAT_AVX));
    if (!offered)
        return FORM_NOT_OFFERED;
    if (form->rule->reason)
        return FORM_EXCLUDED;
    return here ? FORM_RUNS : FORM_NOT_HERE;
}

/* --- random encodings ---------------------------------------------------------------------------------------- */

int insn_gpr(ZydisRegister reg)
{
    ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

    return whole >= ZYDIS_REGISTER_RAX && whole <= ZYDIS_REGISTER_R15 ? (int)(whole - ZYDIS_REGISTER_RAX)
                                                                      : -1;
}

uint32_t insn_writes(const struct insn *insn)
{
    uint32_t mask = 0;

    for (unsigned i = 0; i < insn->info.operand_count; i++) {
        const ZydisDecodedOperand *operand = &insn->operands[i];
        if (operand->type != ZYDIS_OPERAND_TYPE_REGISTER ||
            !(operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            continue;
        int gpr = insn_gpr(operand->reg.value);
        if (gpr >= 0)
            mask |= 1u << gpr;
    }
    return mask;
}

/* General registers that memory operands are made of. */
static uint32_t insn_addresses(const struct insn *insn)
{
    uint32_t mask = 0;

    for (unsigned i = 0; i < insn->info.operand_count; i++) {
        const ZydisDecodedOperand *operand = &insn->operands[i];
        if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY)
            continue;
        int base = insn_gpr(operand->mem.base), index = insn_gpr(operand->mem.index);
        mask |= (base >= 0 ? 1u << base : 0) | (index >= 0 ? 1u << index : 0);
    }
    return mask;
}

bool insn_is_x87(const struct insn *insn)
{
    for (unsigned i = 0; i < insn->info.operand_count; i++)
        if (insn->operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(insn->operands[i].reg.value) == ZYDIS_REGCLASS_MMX)
            return true;
    return (!insn->form->vex && insn->form->map == 0 && (insn->info.opcode & 0xf8) == 0xd8) ||
           insn->info.opcode == 0x9b || insn->info.mnemonic == ZYDIS_MNEMONIC_EMMS;
}

unsigned insn_memory_operands(const struct insn *insn)
{
    unsigned count = 0;

    for (unsigned i = 0; i < insn->info.operand_count; i++)
        count += insn->operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY;
    return count;
}

unsigned insn_bytes(const struct insn *insn)
{
    unsigned bytes = 0;

    for (unsigned i = 0; i < insn->info.operand_count; i++)
        if (insn->operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY && insn->operands[i].size / 8u > bytes)
            bytes = insn->operands[i].size / 8u;
    return bytes;
}

bool insn_is_branch(const struct insn *insn)
{
    return insn->info.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE;
}

/* ModRM and SIB of a memory operand. */
static void choose_memory(const struct form *form, struct random *random, struct choice *choice,
                          uint32_t keep)
{
    static const uint8_t bases[] = {IR_RBX, IR_RBP, IR_RSI, IR_RDI};
    uint8_t base = (uint8_t)random_below(random, 16), index = (uint8_t)random_below(random, 16);

    if (keep)
        base = bases[random_below(random, 4)];
    if (form->mode != ORACLE_64) {
        base &= 7;
        index &= 7;
    }
    choice->mod = (uint8_t)random_below(random, 3);
    choice->rex |= (base >> 3) | (index >> 3) << 1;
    choice->rm = base & 7;
    if (!keep && one_in(random, 8)) { /* RIP-relative, absolute, or BP's place */
        choice->mod = 0;
        choice->rm = 5;
    } else if (one_in(random, 3)) {
        choice->rm = 4;
        if (keep)
            index = IR_RSP; /* none */
    }
    if (form->rule->flags & RULE_GATHER)
        choice->rm = 4;
    choice->sib = (uint8_t)(random_below(random, 4) << 6 | (index & 7) << 3 | (base & 7));
    if (keep && choice->rm == 4 && choice->mod == 0 && (choice->sib & 7) == 5)
        choice->mod = 1;
    if (keep && choice->rm == 5 && choice->mod == 0)
        choice->mod = 1;
    if (keep)
        choice->rex &= (uint8_t)~3;
}

static void choose(const struct form *form, struct random *random, struct choice *choice, uint32_t keep,
                   bool plain)
{
    static const uint8_t segments[] = {0x64, 0x65, 0x26, 0x36, 0x3e, 0x2e};

    *choice = (struct choice){.wide = form->wide, .l = form->l};
    for (unsigned i = 0; i < sizeof(choice->tail); i += 8) {
        uint64_t value = one_in(random, 3) ? random_value(random) : random_next(random);
        memcpy(choice->tail + i, &value, 8);
    }
    choice->reg = (uint8_t)random_below(random, 8);
    choice->rm = (uint8_t)random_below(random, 8);
    choice->vex2 = !one_in(random, 3);
    if (form->mode == ORACLE_64) {
        choice->rex = (uint8_t)(random_next(random) & (one_in(random, 3) ? 0 : 7));
        if (!form->vex && one_in(random, 4))
            choice->rex |= 0x40;
    }
    if (form->plus)
        choice->plus = (uint8_t)(random_below(random, 8) - (form->opcode & 7));
    if (form->vvvv)
        choice->vvvv = (uint8_t)random_below(random, form->mode == ORACLE_64 ? 16 : 8);
    choice->mod = 3;
    if (form->memory)
        choose_memory(form, random, choice, keep);
    if (form->reg != 0xff)
        choice->reg = form->reg;
    if (form->rm != 0xff)
        choice->rm = form->rm;
    if (plain)
        return;
    if (form->vex && one_in(random, 2))
        choice->wide = one_in(random, 2);
    if (form->vex && one_in(random, 2))
        choice->l = one_in(random, 2);
    if (!form->wide && form->mode == ORACLE_64 && one_in(random, 8))
        choice->wide = true;
    /* Outside 64-bit code CS, which is last here, cannot be written. */
    bool lazy = form->mode != ORACLE_64 &&
                (form->rule->flags & RULE_LAZY || (form->map == 0 && (form->opcode & 0xf8) == 0xd8));
    while (choice->extra_count < sizeof(choice->extra) && one_in(random, 4))
        choice->extra[choice->extra_count++] = segments[random_below(random, lazy ? 5 : 6)];
    if (one_in(random, 16) && choice->extra_count < sizeof(choice->extra) && !form->vex)
        choice->extra[choice->extra_count++] = one_in(random, 2) ? 0x66 : one_in(random, 2) ? 0xf2 : 0xf3;
    if (one_in(random, 16) && choice->extra_count < sizeof(choice->extra))
        choice->extra[choice->extra_count++] = 0x67;
    choice->dead_rex =
        form->mode == ORACLE_64 && !form->vex && form->prefixes & ~FORM_F2 && one_in(random, 8);
}

static void patch(struct insn *insn, unsigned offset, unsigned bits, uint64_t value)
{
    memcpy(insn->bytes + offset, &value, bits / 8);
}

/* Immediates and displacements that must lead somewhere. */
static bool fix_up(struct insn *insn, struct random *random, unsigned offset, bool keep)
{
    const ZydisDecodedInstruction *info = &insn->info;
    uint64_t next = ORACLE_INSN + offset + insn->length;
    bool changed = false;

    if (info->raw.imm[0].is_relative) {
        if (keep)
            return false;
        patch(insn, info->raw.imm[0].offset, info->raw.imm[0].size, ORACLE_TARGET - next);
        changed = true;
    } else if (insn->form->rule->flags & RULE_ENTER && info->raw.imm[0].size == 16) {
        patch(insn, info->raw.imm[0].offset, 16, random_below(random, 64));
        if (info->raw.imm[1].size)
            patch(insn, info->raw.imm[1].offset, 8, one_in(random, 2) ? 0 : random_below(random, 40));
        changed = true;
    }
    for (unsigned i = 0; i < info->operand_count; i++) {
        const ZydisDecodedOperand *operand = &insn->operands[i];
        if (operand->type == ZYDIS_OPERAND_TYPE_POINTER) { /* jmp, call far: here */
            uint64_t to = insn->form->mode == ORACLE_16 ? ORACLE_TARGET - ORACLE_BASE : ORACLE_TARGET;
            uint16_t selector = oracle_segments[insn->form->mode][SEG_CS].selector;
            patch(insn, info->raw.imm[0].offset, info->raw.imm[0].size, to);
            patch(insn, info->raw.imm[1].offset, 16, selector);
            changed = true;
        }
        if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY || info->raw.disp.size < 16)
            continue;
        bool relative = operand->mem.base == ZYDIS_REGISTER_RIP || operand->mem.base == ZYDIS_REGISTER_EIP;
        bool absolute = operand->mem.base == ZYDIS_REGISTER_NONE && operand->mem.index == ZYDIS_REGISTER_NONE;
        uint64_t disp = random_below(random, 0x2000) - 0x1000;
        if (relative || absolute) {
            if (keep)
                return false;
            unsigned segment = operand->mem.segment - ZYDIS_REGISTER_ES;
            uint64_t base = oracle_segments[insn->form->mode][segment].base;
            disp = ORACLE_DATA + random_below(random, 0x2040) - base - (relative ? next : 0);
            if (!one_in(random, 8))
                disp &= ~15ull;
            if (relative && !one_in(random, 8))
                disp += (16 - (next + disp)) & 15;
        }
        patch(insn, info->raw.disp.offset, info->raw.disp.size, disp);
        changed = true;
        break;
    }
    uint8_t code[FORM_CODE_MAX] = {0};
    memcpy(code, insn->bytes, insn->length);
    return !changed || decode(insn->form, code, insn);
}

bool form_encode(const struct form *form, struct random *random, unsigned offset, uint32_t keep,
                 struct insn *ret_insn)
{
    uint8_t code[FORM_CODE_MAX];
    struct choice choice;

    for (unsigned attempt = 0; attempt < 64; attempt++) {
        choose(form, random, &choice, keep, attempt >= 32);
        assemble(form, &choice, code);
        if (!decode(form, code, ret_insn) || insn_key(ret_insn) != form->key)
            continue;
        if (keep & insn_writes(ret_insn))
            continue;
        if (form->rule->flags & RULE_XIMAGE && insn_addresses(ret_insn) & (1u << IR_RAX | 1u << IR_RDX))
            continue; /* they are the components */
        if (fix_up(ret_insn, random, offset, keep))
            return true;
    }
    return false;
}
