/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the oracle does not run, and where our decoder and Zydis disagree.
 *
 *  - Every form that Zydis knows either runs in the oracle, or its instruction set extension is not offered, or
 *    oracle_rules.c has a reason.
 *  - The catalogue is complete: random bytes are never an instruction of a form that it lacks.
 *  - The decoder accepts every form that is offered, and raises #UD for every other.
 *  - What Zydis calls undefined, the decoder does, too.
 * Exceptions have their reason in the tables below. Broken if it fails: an instruction that nothing compares with the
 * processor, or that the guest can use although its CPUID hides it.
 *
 * --list prints what is not run, with reasons.
 */
#include <glib.h>
#include <stdio.h>
#include <string.h>

#include "tests/translator/oracle_forms.h"
#include "translator/x86/decode.h"
#include "translator/x86/sys.h"

static gboolean list_all;
static unsigned failures;

static const uint32_t modes[ORACLE_MODES] = {
    [ORACLE_64] = MODE_CS64 | MODE_PE | MODE_LMA | MODE_FLAT | MODE_CPL3 | MODE_AVX,
    [ORACLE_32] = MODE_CS32 | MODE_SS32 | MODE_PE | MODE_LMA | MODE_FLAT | MODE_CPL3 | MODE_AVX,
    [ORACLE_16] = MODE_PE | MODE_LMA | MODE_CPL3 | MODE_AVX,
};
static const char *const mode_names[ORACLE_MODES] = {"64", "32", "16"};

/* Accepted although the extension is foreign, or not although it is offered. */
static const struct {
    ZydisMnemonic mnemonic;
    bool accepted;
    const char *reason;
} exceptions[] = {
    {ZYDIS_MNEMONIC_CLAC, false, "is #UD at CPL 3"},
    {ZYDIS_MNEMONIC_STAC, false, "is #UD at CPL 3"},
    {ZYDIS_MNEMONIC_RSM, false, "is #UD outside system management mode"},
    {ZYDIS_MNEMONIC_TZCNT, true, "without BMI1 it is BSF"},
    {ZYDIS_MNEMONIC_LZCNT, true, "without LZCNT it is BSR"},
    {ZYDIS_MNEMONIC_UD0, false, "is #UD"},
    {ZYDIS_MNEMONIC_UD1, false, "is #UD"},
    {ZYDIS_MNEMONIC_UD2, false, "is #UD"},
};

/* Opcodes that processors accept and Zydis does not, or the other way round. */
static const struct {
    bool vex;
    uint8_t map, first, last;
    const char *reason;
} tolerated[] = {
    {false, 1, 0xff, 0xff, "UD0 with and without ModRM: the length of what raises #UD"},
};

static bool accepts(enum oracle_mode mode, const uint8_t *bytes)
{
    static struct ir_block block;
    static uint32_t features[X86_FEATURE_WORDS];
    uint8_t code[64] = {0};

    if (!features[0])
        x86_supported_features(features);
    memcpy(code, bytes, ZYDIS_MAX_INSTRUCTION_LENGTH);
    const struct x86_decode_input input = {
        .bytes = code, .avail = 64, .in_page = 64, .mode = modes[mode], .features = features, .max_insns = 1};
    if (x86_decode_block(&input, &block) != 0)
        return false;
    return !(block.ops[1].op == IR_SYS && block.ops[1].sub == X86_SYS_UD);
}

static void complain(const char *what, enum oracle_mode mode, const char *name, const uint8_t *bytes,
                     unsigned length)
{
    if (failures++ > 200)
        return;
    printf("%s: %s-bit %s:", what, mode_names[mode], name);
    for (unsigned i = 0; i < length; i++)
        printf(" %02x", bytes[i]);
    printf("\n");
}

/* --- forms --------------------------------------------------------------------------------------------------- */

static const char *exception_of(const struct form *form, bool accepted)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(exceptions); i++)
        if (exceptions[i].mnemonic == form->mnemonic && exceptions[i].accepted == accepted)
            return exceptions[i].reason;
    return NULL;
}

static void check_form(const struct form *form, unsigned counts[4])
{
    struct random random = random_fork(1, form->key);
    enum form_status status = form_status(form);
    const ZydisDecodedInstruction info = {.mnemonic = form->mnemonic, .meta.isa_set = form->isa_set};
    struct insn insn;

    counts[status]++;
    if (rule_feature(&info) == FORM_FOREIGN && !rule_foreign(form->isa_set))
        complain("neither offered nor explained in oracle_rules.c", form->mode, form->name, NULL, 0);
    if (list_all && status == FORM_EXCLUDED)
        printf("not run: %s: %s\n", form->name, form->rule->reason);
    if (list_all && status == FORM_NOT_HERE)
        printf("not run: %s: this processor lacks it\n", form->name);
    for (unsigned i = 0; i < 8; i++) {
        if (!form_encode(form, &random, 0, 0, &insn)) {
            complain("no encoding", form->mode, form->name, NULL, 0);
            return;
        }
        bool accepted = accepts(form->mode, insn.bytes);
        if (accepted == (status != FORM_NOT_OFFERED) || exception_of(form, accepted))
            continue;
        complain(accepted ? "accepted, but not offered" : "offered, but #UD", form->mode, form->name,
                 insn.bytes, insn.length);
        return;
    }
}

/* --- what Zydis calls undefined ------------------------------------------------------------------------------ */

static void check_undefined(void *opaque, const struct form *candidate, const uint8_t *code)
{
    GHashTable *seen = opaque;

    if (!accepts(candidate->mode, code))
        return;
    for (unsigned i = 0; i < G_N_ELEMENTS(tolerated); i++)
        if (tolerated[i].vex == candidate->vex && tolerated[i].map == candidate->map &&
            candidate->opcode >= tolerated[i].first && candidate->opcode <= tolerated[i].last)
            return;
    unsigned key = (unsigned)candidate->mode << 16 | candidate->vex << 12 | (unsigned)candidate->map << 8 |
                   candidate->opcode;
    if (g_hash_table_add(seen, GUINT_TO_POINTER(key)))
        complain("accepted, but undefined for Zydis", candidate->mode, candidate->vex ? "VEX" : "", code, 12);
}

/* --- is the catalogue complete? ------------------------------------------------------------------------------ */

static void check_random(enum oracle_mode mode, GHashTable *keys)
{
    struct random random = random_fork(2, mode);
    uint8_t bytes[24];
    struct insn insn;

    for (unsigned i = 0; i < 300000; i++) {
        for (unsigned j = 0; j < sizeof(bytes); j += 8) {
            uint64_t value = random_next(&random);
            memcpy(bytes + j, &value, 8);
        }
        if (i & 1) /* the second map is half of all there is */
            bytes[0] = 0x0f;
        if (!insn_decode(mode, bytes, sizeof(bytes), &insn) ||
            (insn.info.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
             insn.info.encoding != ZYDIS_INSTRUCTION_ENCODING_VEX))
            continue;
        uint64_t key = insn_key(&insn);
        if (!g_hash_table_contains(keys, &key))
            complain("not in the catalogue", mode, ZydisMnemonicGetString(insn.info.mnemonic), bytes,
                     insn.length);
    }
}

static void check_mode(enum oracle_mode mode)
{
    struct form_list list;
    unsigned counts[4] = {0};
    g_autoptr(GHashTable) keys = g_hash_table_new(g_int64_hash, g_int64_equal);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_direct_hash, g_direct_equal);

    if (form_catalogue_all(mode, &list, check_undefined, seen) < 0)
        g_error("out of memory");
    for (unsigned i = 0; i < list.count; i++) {
        check_form(&list.items[i], counts);
        g_hash_table_add(keys, &list.items[i].key);
    }
    check_random(mode, keys);
    printf("%s-bit code: Zydis knows %u forms; %u run, %u have a reason not to, %u are not on this "
           "processor, %u are "
           "not offered\n",
           mode_names[mode], list.count, counts[FORM_RUNS], counts[FORM_EXCLUDED], counts[FORM_NOT_HERE],
           counts[FORM_NOT_OFFERED]);
    form_list_finish(&list);
}

int main(int argc, char **argv)
{
    const GOptionEntry options[] = {
        {"list", 'l', 0, G_OPTION_ARG_NONE, &list_all, "Print what is not run, with reasons", NULL}, {NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new("- what the native oracle does not run");
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "%s\n", error->message);
        return 2;
    }
    if (oracle_native_init() < 0)
        return 2;
    for (unsigned mode = 0; mode < ORACLE_MODES; mode++)
        check_mode(mode);
    printf("%u unexplained\n", failures);
    return failures > 0;
}
