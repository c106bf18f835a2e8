/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/cpu_words.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "protocol/base/units.h"

#define NAME_COLUMN 22 /* of the list that help prints */

#define BASELINE  "every x86-64 program may use it"
#define LONG_MODE "kernels are started in 64-bit mode"
#define X87_IMAGE "it tells how this x87 unit saves its state"

/* In the order of the CPUID words. */
const struct cpu_feature cpu_features[] = {
    {"fpu", NULL, CPU_1_EDX, 0, NULL, BASELINE},
    {"vme", NULL, CPU_1_EDX, 1, NULL, NULL},
    {"de", NULL, CPU_1_EDX, 2, NULL, NULL},
    {"pse", NULL, CPU_1_EDX, 3, NULL, NULL},
    {"tsc", NULL, CPU_1_EDX, 4, NULL, NULL},
    {"msr", NULL, CPU_1_EDX, 5, NULL, LONG_MODE},
    {"pae", NULL, CPU_1_EDX, 6, NULL, LONG_MODE},
    {"mce", NULL, CPU_1_EDX, 7, NULL, NULL},
    {"cx8", NULL, CPU_1_EDX, 8, NULL, BASELINE},
    {"apic", NULL, CPU_1_EDX, 9, NULL, "all interrupts of this machine come through it"},
    {"sep", NULL, CPU_1_EDX, 11, NULL, NULL},
    {"mtrr", NULL, CPU_1_EDX, 12, NULL, NULL},
    {"pge", NULL, CPU_1_EDX, 13, NULL, NULL},
    {"mca", NULL, CPU_1_EDX, 14, "mce", NULL},
    {"cmov", NULL, CPU_1_EDX, 15, NULL, BASELINE},
    {"pat", NULL, CPU_1_EDX, 16, NULL, NULL},
    {"pse36", NULL, CPU_1_EDX, 17, "pse", NULL},
    {"clflush", "clfsh", CPU_1_EDX, 19, NULL, NULL},
    {"mmx", NULL, CPU_1_EDX, 23, NULL, BASELINE},
    {"fxsr", NULL, CPU_1_EDX, 24, NULL, BASELINE},
    {"sse", NULL, CPU_1_EDX, 25, "fxsr", BASELINE},
    {"sse2", NULL, CPU_1_EDX, 26, "sse", BASELINE},
    {"ss", NULL, CPU_1_EDX, 27, NULL, NULL},
    {"ht", "htt", CPU_1_EDX, 28, NULL, NULL},
    {"pni", "sse3", CPU_1_ECX, 0, "sse2", NULL},
    {"pclmulqdq", "pclmul", CPU_1_ECX, 1, "sse2", NULL},
    {"ssse3", NULL, CPU_1_ECX, 9, "pni", NULL},
    {"fma", NULL, CPU_1_ECX, 12, "avx", NULL},
    {"cx16", NULL, CPU_1_ECX, 13, "cx8", NULL},
    {"pcid", NULL, CPU_1_ECX, 17, "lm", NULL},
    {"sse4_1", NULL, CPU_1_ECX, 19, "ssse3", NULL},
    {"sse4_2", NULL, CPU_1_ECX, 20, "sse4_1", NULL},
    {"x2apic", NULL, CPU_1_ECX, 21, "apic", NULL},
    {"movbe", NULL, CPU_1_ECX, 22, NULL, NULL},
    {"popcnt", NULL, CPU_1_ECX, 23, NULL, NULL},
    {"tsc_deadline_timer", "tsc_deadline", CPU_1_ECX, 24, "apic tsc", NULL},
    {"aes", "aes_ni", CPU_1_ECX, 25, "sse2", NULL},
    {"xsave", NULL, CPU_1_ECX, 26, "fxsr", NULL},
    {"avx", NULL, CPU_1_ECX, 28, "xsave sse4_2", NULL},
    {"f16c", NULL, CPU_1_ECX, 29, "avx", NULL},
    {"rdrand", NULL, CPU_1_ECX, 30, NULL, NULL},
    {"hypervisor", NULL, CPU_1_ECX, 31, NULL, NULL},
    {"fsgsbase", NULL, CPU_7_EBX, 0, "lm", NULL},
    {"tsc_adjust", NULL, CPU_7_EBX, 1, "tsc", NULL},
    {"bmi1", NULL, CPU_7_EBX, 3, NULL, NULL},
    {"avx2", NULL, CPU_7_EBX, 5, "avx", NULL},
    {"fdp_excptn_only", NULL, CPU_7_EBX, 6, NULL, X87_IMAGE},
    {"smep", NULL, CPU_7_EBX, 7, NULL, NULL},
    {"bmi2", NULL, CPU_7_EBX, 8, NULL, NULL},
    {"erms", NULL, CPU_7_EBX, 9, NULL, NULL},
    {"invpcid", NULL, CPU_7_EBX, 10, NULL, NULL},
    {"zero_fcs_fds", NULL, CPU_7_EBX, 13, NULL, X87_IMAGE},
    {"avx512f", NULL, CPU_7_EBX, 16, "avx2 fma", NULL},
    {"avx512dq", NULL, CPU_7_EBX, 17, "avx512f", NULL},
    {"rdseed", NULL, CPU_7_EBX, 18, NULL, NULL},
    {"adx", NULL, CPU_7_EBX, 19, NULL, NULL},
    {"smap", NULL, CPU_7_EBX, 20, NULL, NULL},
    {"avx512ifma", NULL, CPU_7_EBX, 21, "avx512f", NULL},
    {"clflushopt", NULL, CPU_7_EBX, 23, "clflush", NULL},
    {"clwb", NULL, CPU_7_EBX, 24, "clflush", NULL},
    {"avx512cd", NULL, CPU_7_EBX, 28, "avx512f", NULL},
    {"sha_ni", "sha", CPU_7_EBX, 29, "sse2", NULL},
    {"avx512bw", NULL, CPU_7_EBX, 30, "avx512f", NULL},
    {"avx512vl", NULL, CPU_7_EBX, 31, "avx512f", NULL},
    {"avx512vbmi", "avx512_vbmi", CPU_7_ECX, 1, "avx512bw", NULL},
    {"umip", NULL, CPU_7_ECX, 2, NULL, NULL},
    {"pku", NULL, CPU_7_ECX, 3, "xsave lm", NULL},
    {"avx512_vbmi2", NULL, CPU_7_ECX, 6, "avx512bw", NULL},
    {"gfni", NULL, CPU_7_ECX, 8, "sse2", NULL},
    {"vaes", NULL, CPU_7_ECX, 9, "avx aes", NULL},
    {"vpclmulqdq", NULL, CPU_7_ECX, 10, "avx pclmulqdq", NULL},
    {"avx512_vnni", NULL, CPU_7_ECX, 11, "avx512f", NULL},
    {"avx512_bitalg", NULL, CPU_7_ECX, 12, "avx512bw", NULL},
    {"avx512_vpopcntdq", NULL, CPU_7_ECX, 14, "avx512f", NULL},
    {"rdpid", NULL, CPU_7_ECX, 22, NULL, NULL},
    {"cldemote", NULL, CPU_7_ECX, 25, NULL, NULL},
    {"movdiri", NULL, CPU_7_ECX, 27, NULL, NULL},
    {"movdir64b", NULL, CPU_7_ECX, 28, NULL, NULL},
    {"pks", NULL, CPU_7_ECX, 31, "lm", NULL},
    {"fsrm", NULL, CPU_7_EDX, 4, NULL, NULL},
    {"serialize", NULL, CPU_7_EDX, 14, NULL, NULL},
    {"spec_ctrl", "ibrs ibpb", CPU_7_EDX, 26, NULL, NULL},
    {"stibp", NULL, CPU_7_EDX, 27, NULL, NULL},
    {"flush_l1d", "l1d_flush", CPU_7_EDX, 28, NULL, NULL},
    {"arch_capabilities", NULL, CPU_7_EDX, 29, NULL, NULL},
    {"ssbd", NULL, CPU_7_EDX, 31, NULL, NULL},
    {"syscall", NULL, CPU_EXT1_EDX, 11, NULL, BASELINE},
    {"nx", "xd", CPU_EXT1_EDX, 20, NULL, NULL},
    {"pdpe1gb", NULL, CPU_EXT1_EDX, 26, "lm", NULL},
    {"rdtscp", NULL, CPU_EXT1_EDX, 27, "tsc", NULL},
    {"lm", "i64", CPU_EXT1_EDX, 29, NULL, LONG_MODE},
    {"lahf_lm", "lahf", CPU_EXT1_ECX, 0, "lm", NULL},
    {"abm", "lzcnt", CPU_EXT1_ECX, 5, NULL, NULL},
    {"3dnowprefetch", "prefetchw", CPU_EXT1_ECX, 8, NULL, NULL},
    {"avx_vnni", NULL, CPU_71_EAX, 4, "avx2", NULL},
    {"xsaveopt", NULL, CPU_D1_EAX, 0, "xsave", NULL},
    {"xsavec", NULL, CPU_D1_EAX, 1, "xsave", NULL},
    {"xgetbv1", NULL, CPU_D1_EAX, 2, "xsave", NULL},
    {"xsaves", NULL, CPU_D1_EAX, 3, "xsavec", NULL},
};
const unsigned cpu_feature_count = ARRAY_LEN(cpu_features);

/* x86-64 psABI, table 3.1; v1 also what this machine relies on. OSXSAVE of v3 is CR4's. */
#define REQUIRED_V1 "fpu msr pae cx8 apic cmov mmx fxsr sse sse2 syscall lm"
#define REQUIRED_V2 REQUIRED_V1 " pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm"
#define REQUIRED_V3 REQUIRED_V2 " xsave avx avx2 bmi1 bmi2 f16c fma abm movbe"
/* For kernels, and known to every processor model of some age. SMAP is left to 'max': decision 0005. */
#define PLATFORM                                                                                             \
    "de pse tsc mce sep mtrr pge mca pat pse36 clflush ss ht pcid x2apic tsc_deadline_timer hypervisor "     \
    "fsgsbase tsc_adjust fdp_excptn_only smep erms invpcid zero_fcs_fds umip fsrm spec_ctrl stibp "          \
    "flush_l1d arch_capabilities ssbd nx pdpe1gb rdtscp"
#define OPTIONAL_V2                                                                                          \
    PLATFORM " pclmulqdq aes xsave xsaveopt xsavec xgetbv1 xsaves rdrand rdseed clflushopt rdpid"

const struct cpu_model cpu_models[] = {
    {"v1", "x86-64-v1: the first 64-bit processors (SSE2)", REQUIRED_V1, PLATFORM, false, false},
    {"v2", "x86-64-v2: 2009 (SSE4.2, POPCNT, CMPXCHG16B)", REQUIRED_V2, OPTIONAL_V2, false, false},
    {"v3", "x86-64-v3: 2013 (AVX2, BMI, FMA, MOVBE)", REQUIRED_V3, OPTIONAL_V2, false, false},
    {"host", "what the host's processor has and the accelerator can run", REQUIRED_V1, PLATFORM, true, false},
    {"max", "everything that the accelerator can run", REQUIRED_V1, PLATFORM, true, true},
};
const unsigned cpu_model_count = ARRAY_LEN(cpu_models);

/* --- names -------------------------------------------------------------------------------------------------- */

static char plain(char c)
{
    return c == '-' || c == '.' ? '_' : (char)tolower((unsigned char)c);
}

static bool same_name(const char *name, size_t length, const char *text, size_t text_length)
{
    bool same = length == text_length;
    for (size_t i = 0; same && i < length; i++) {
        same = plain(name[i]) == plain(text[i]);
    }
    return same;
}

/* Takes the next word of a list off *rest; its length, 0 at the end. */
static size_t next_word(const char **rest, const char **ret_word)
{
    const char *word = *rest ? *rest + strspn(*rest, " ") : "";
    size_t length = strcspn(word, " ");
    *ret_word = word;
    *rest = word + length;
    return length;
}

const struct cpu_feature *cpu_feature_find(const char *name, size_t length)
{
    for (unsigned i = 0; i < cpu_feature_count; i++) {
        const struct cpu_feature *feature = &cpu_features[i];
        const char *aliases = feature->alias, *alias;
        size_t n;
        if (same_name(name, length, feature->name, strlen(feature->name))) {
            return feature;
        }
        while ((n = next_word(&aliases, &alias))) {
            if (same_name(name, length, alias, n)) {
                return feature;
            }
        }
    }
    return NULL;
}

struct cpu_bits cpu_bits_named(const char *names)
{
    struct cpu_bits bits = {{0}};
    const char *name;
    size_t length;
    while ((length = next_word(&names, &name))) {
        const struct cpu_feature *feature = cpu_feature_find(name, length);
        if (feature) {
            cpu_bits_add(&bits, feature);
        }
    }
    return bits;
}

/* Edits (insert, delete, replace) that make one name of the other, Levenshtein's distance. */
static unsigned distance(const char *a, size_t a_length, const char *b)
{
    unsigned row[32];
    size_t b_length = strlen(b);
    if (a_length >= ARRAY_LEN(row) || b_length >= ARRAY_LEN(row)) {
        return ARRAY_LEN(row);
    }
    for (unsigned j = 0; j <= b_length; j++) {
        row[j] = j;
    }
    for (unsigned i = 1; i <= a_length; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b_length; j++) {
            unsigned replaced = diagonal + (plain(a[i - 1]) != plain(b[j - 1]));
            unsigned shorter = row[j] < row[j - 1] ? row[j] : row[j - 1];
            diagonal = row[j];
            row[j] = replaced < shorter + 1 ? replaced : shorter + 1;
        }
    }
    return row[b_length];
}

static const struct cpu_feature *nearest(const char *name, size_t length)
{
    const struct cpu_feature *best = NULL;
    unsigned least = length > 3 ? 3 : 2; /* one more than is still a typing error */
    for (unsigned i = 0; i < cpu_feature_count; i++) {
        unsigned d = distance(name, length, cpu_features[i].name);
        if (d < least) {
            least = d;
            best = &cpu_features[i];
        }
    }
    return best;
}

/* --- parsing ------------------------------------------------------------------------------------------------ */

__attribute__((format(printf, 3, 4))) static int wrong(char *why, size_t why_bytes, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, why_bytes, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

static int unknown_feature(const char *name, size_t length, char *why, size_t why_bytes)
{
    const struct cpu_feature *near = nearest(name, length);
    return wrong(why, why_bytes, "--cpu: there is no feature '%.*s'%s%s; '--cpu help' lists them",
                 (int)(length < 40 ? length : 40), name, near ? ", did you mean " : "",
                 near ? near->name : "");
}

static int take_feature(struct cpu_choice *choice, const char *name, size_t length, bool add, char *why,
                        size_t why_bytes)
{
    const struct cpu_feature *feature = cpu_feature_find(name, length);
    if (!feature) {
        return unknown_feature(name, length, why, why_bytes);
    }
    if (!add && feature->fixed) {
        return wrong(why, why_bytes, "--cpu: %s cannot be taken away: %s", feature->name, feature->fixed);
    }
    cpu_bits_add(add ? &choice->add : &choice->remove, feature);
    cpu_bits_remove(add ? &choice->remove : &choice->add, feature); /* the last word counts */
    return 0;
}

static int take_model(struct cpu_choice *choice, const char *name, size_t length, char *why, size_t why_bytes)
{
    for (unsigned i = 0; i < cpu_model_count; i++) {
        if (same_name(name, length, cpu_models[i].name, strlen(cpu_models[i].name))) {
            choice->model = &cpu_models[i];
            return 0;
        }
    }
    char list[80] = "";
    for (unsigned i = 0; i < cpu_model_count; i++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "", cpu_models[i].name);
    }
    bool feature = cpu_feature_find(name, length);
    return wrong(why, why_bytes, "--cpu: there is no model '%.*s'; models are %s%s",
                 (int)(length < 40 ? length : 40), name, list,
                 feature ? ", and features begin with + or -" : "");
}

/* NAME=on or NAME=off; length 0: neither. */
static size_t switch_length(const char *word, size_t length, bool *ret_add)
{
    const char *equals = memchr(word, '=', length);
    size_t value = equals ? length - (size_t)(equals + 1 - word) : 0;
    if (value == 2 && memcmp(equals + 1, "on", 2) == 0) {
        *ret_add = true;
    } else if (value == 3 && memcmp(equals + 1, "off", 3) == 0) {
        *ret_add = false;
    } else {
        return 0;
    }
    return (size_t)(equals - word);
}

int cpu_choice_parse(const char *text, struct cpu_choice *ret_choice, char *why, size_t why_bytes)
{
    struct cpu_choice choice = {0};
    if (strlen(text) >= CPU_TEXT_MAX) {
        return wrong(why, why_bytes, "--cpu: longer than %d characters", CPU_TEXT_MAX - 1);
    }
    for (const char *c = text; *c; c++) {
        if (!isalnum((unsigned char)*c) && !strchr("_-.+,=", *c)) {
            return wrong(why, why_bytes, "--cpu: no name has a character 0x%02x", (unsigned char)*c);
        }
    }
    for (const char *word = text; *word;) {
        size_t length = strcspn(word, ","), name;
        bool first = word == text, add = *word == '+';
        int result;
        if (*word == '+' || *word == '-') {
            result = take_feature(&choice, word + 1, length - 1, add, why, why_bytes);
        } else if ((name = switch_length(word, length, &add))) {
            result = take_feature(&choice, word, name, add, why, why_bytes);
        } else if (first) {
            result = take_model(&choice, word, length, why, why_bytes);
        } else {
            result = wrong(why, why_bytes, "--cpu: '%.*s' begins with neither + nor -",
                           (int)(length < 40 ? length : 40), word);
        }
        if (result < 0) {
            return result;
        }
        word += length + (word[length] == ',');
    }
    *ret_choice = choice;
    return 0;
}

/* --- what needs what ---------------------------------------------------------------------------------------- */

/* The first feature that `feature` needs and `bits` has not, or NULL. */
static const struct cpu_feature *missing_need(const struct cpu_bits *bits, const struct cpu_feature *feature)
{
    const char *needs = feature->needs, *name;
    size_t length;
    while ((length = next_word(&needs, &name))) {
        const struct cpu_feature *need = cpu_feature_find(name, length);
        if (!cpu_bits_has(bits, need)) {
            return need;
        }
    }
    return NULL;
}

void cpu_bits_close(struct cpu_bits *bits)
{
    bool changed;
    do {
        changed = false;
        for (unsigned i = 0; i < cpu_feature_count; i++) {
            if (cpu_bits_has(bits, &cpu_features[i]) && missing_need(bits, &cpu_features[i])) {
                cpu_bits_remove(bits, &cpu_features[i]);
                changed = true;
            }
        }
    } while (changed);
}

/* Adds what `bits` needs and has not, with what that needs. */
static void add_needs(struct cpu_bits *bits)
{
    bool changed;
    do {
        changed = false;
        for (unsigned i = 0; i < cpu_feature_count; i++) {
            const struct cpu_feature *need;
            while (cpu_bits_has(bits, &cpu_features[i]) && (need = missing_need(bits, &cpu_features[i]))) {
                cpu_bits_add(bits, need);
                changed = true;
            }
        }
    } while (changed);
}

/* "+x,+y": the features of `more` that are not in `less`. */
static void list_difference(const struct cpu_bits *more, const struct cpu_bits *less, char sign, char *text,
                            size_t text_bytes)
{
    size_t used = 0;
    for (unsigned i = 0; i < cpu_feature_count && used < text_bytes; i++) {
        if (cpu_bits_has(more, &cpu_features[i]) && !cpu_bits_has(less, &cpu_features[i])) {
            used += (size_t)snprintf(text + used, text_bytes - used, "%s%c%s", used ? "," : "", sign,
                                     cpu_features[i].name);
        }
    }
}

int cpu_bits_check(const struct cpu_bits *bits, const struct cpu_choice *choice, char *why, size_t why_bytes)
{
    for (unsigned i = 0; i < cpu_feature_count; i++) {
        const struct cpu_feature *feature = &cpu_features[i];
        const struct cpu_feature *need = cpu_bits_has(bits, feature) ? missing_need(bits, feature) : NULL;
        if (!need) {
            continue;
        }
        bool added = cpu_bits_has(&choice->add, feature), removed = cpu_bits_has(&choice->remove, need);
        struct cpu_bits other = *bits;
        char list[200] = "";
        if (added && removed) {
            return wrong(why, why_bytes, "--cpu: %s needs %s: +%s and -%s exclude each other", feature->name,
                         need->name, feature->name, need->name);
        }
        if (added) {
            add_needs(&other);
            list_difference(&other, bits, '+', list, sizeof(list));
            return wrong(why, why_bytes, "--cpu: %s needs %s; write %s as well", feature->name, need->name,
                         list);
        }
        cpu_bits_close(&other);
        list_difference(bits, &other, '-', list, sizeof(list));
        return wrong(why, why_bytes, "--cpu: %s cannot go alone, as %s needs it; write %s as well",
                     need->name, feature->name, list);
    }
    return 0;
}

void cpu_words_help(FILE *out, const struct cpu_bits *runs)
{
    fprintf(out, "--cpu [MODEL][,{+|-}FEATURE]...   for example --cpu v2,+adx,-x2apic\n\nModels:\n");
    for (unsigned i = 0; i < cpu_model_count; i++) {
        struct cpu_bits required = cpu_bits_named(cpu_models[i].required);
        bool can = true;
        for (unsigned word = 0; runs && word < CPU_WORDS; word++) {
            can = can && !(required.word[word] & ~runs->word[word]);
        }
        fprintf(out, "  %-5s %s%s\n", cpu_models[i].name, cpu_models[i].summary,
                can ? "" : " (cannot run here)");
    }
    fprintf(out, "\nFeatures:\n");
    for (unsigned i = 0; i < cpu_feature_count; i++) {
        const struct cpu_feature *feature = &cpu_features[i];
        const char *const notes[][2] = {
            {"also ", feature->alias},
            {"needs ", feature->needs},
            {"always there", feature->fixed ? "" : NULL},
            {"cannot run here", runs && !cpu_bits_has(runs, feature) ? "" : NULL}};
        int width = fprintf(out, "  %s", feature->name);
        for (unsigned j = 0; j < ARRAY_LEN(notes); j++) {
            if (notes[j][1]) {
                fprintf(out, "%*s%s%s%s", width < NAME_COLUMN ? NAME_COLUMN - width : 0, "",
                        width > NAME_COLUMN ? "; " : "", notes[j][0], notes[j][1]);
                width = NAME_COLUMN + 1;
            }
        }
        fputc('\n', out);
    }
}
