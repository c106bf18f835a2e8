/* SPDX-License-Identifier: Apache-2.0 */
/* The words of --cpu: what is understood, and what people are told about what is not. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "protocol/cpu_words.h"

static const struct cpu_feature *feature(const char *name)
{
    const struct cpu_feature *found = cpu_feature_find(name, strlen(name));
    g_assert_nonnull(found);
    return found;
}

/* Broken if it fails: a correct description is refused or means something else. */
static void test_accepted(void)
{
    static const struct {
        const char *text, *model, *add, *remove;
    } cases[] = {
        {"", NULL, "", ""},
        {"v1", "v1", "", ""},
        {"MAX", "max", "", ""},
        {"v2,+aes,-x2apic", "v2", "aes", "x2apic"},
        {"+aes", NULL, "aes", ""},
        {"host,-tsc-deadline", "host", "", "tsc_deadline_timer"},
        {"v1,+sse4.1,+sse4-2,+sse3", "v1", "sse4_1 sse4_2 pni", ""}, /* QEMU's spellings */
        {"v2,lzcnt=on,xd=off,sha-ni=on", "v2", "abm sha_ni", "nx"},
        {"v2,+adx,-adx", "v2", "", "adx"}, /* the last word counts */
        {"v2,-adx,+adx", "v2", "adx", ""},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct cpu_choice choice;
        char why[200];
        g_test_message("%s", cases[i].text);
        g_assert_cmpint(cpu_choice_parse(cases[i].text, &choice, why, sizeof(why)), ==, 0);
        g_assert_cmpstr(choice.model ? choice.model->name : NULL, ==, cases[i].model);
        struct cpu_bits add = cpu_bits_named(cases[i].add), remove = cpu_bits_named(cases[i].remove);
        g_assert_cmpmem(&choice.add, sizeof(add), &add, sizeof(add));
        g_assert_cmpmem(&choice.remove, sizeof(remove), &remove, sizeof(remove));
    }
}

/* Broken if it fails: nonsense is accepted, or the message does not name the word and the cure. */
static void test_refused(void)
{
    g_autofree char *endless = g_strnfill(CPU_TEXT_MAX, '+');
    const struct {
        const char *text, *says;
    } cases[] = {
        {"v9", "v1, v2, v3, host, max"},
        {"sse2", "begin with +"},
        {"v2,aes", "neither + nor -"},
        {"v2,+aess", "did you mean aes"},
        {"v2,+movbr", "did you mean movbe"},
        {"v2,+", "no feature ''"},
        {"v2,+zzzzzz", "--cpu help"},
        {"v2,aes=maybe", "neither + nor -"},
        {",", "no model ''"},
        {"v2,-sse2", "every x86-64 program"},
        {"v2,-lm", "64-bit mode"},
        {"max,-apic", "interrupts"},
        {"v2,+a\nb", "0x0a"},
        {"v2,+%s", "0x25"},
        {endless, "longer"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct cpu_choice choice;
        char why[200];
        g_assert_cmpint(cpu_choice_parse(cases[i].text, &choice, why, sizeof(why)), ==, -EINVAL);
        g_test_message("%s: %s", cases[i].text, why);
        g_assert_nonnull(strstr(why, cases[i].says));
        g_assert_null(strchr(why, '\n'));
    }
}

/* Broken if it fails: a guest is shown AVX without XSAVE and the like, or the cure in the message does not cure. */
static void test_needs(void)
{
    static const struct {
        const char *has, *text, *says; /* NULL: correct */
    } cases[] = {
        {"fxsr sse sse2 xsave xsaveopt", "v2", NULL},
        {"fxsr sse sse2 xsaveopt xsavec xsaves", "v2,-xsave", "-xsaveopt,-xsavec,-xsaves"},
        {"fxsr sse sse2", "v2,-xsave,-xsaveopt", NULL},
        {"fxsr sse sse2 sse4_2", "v1,+sse4.2", "+pni,+ssse3,+sse4_1"},
        {"fxsr sse sse2 lm pku", "v2,+pku,-xsave", "exclude each other"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct cpu_bits bits = cpu_bits_named(cases[i].has);
        struct cpu_choice choice;
        char why[300] = "";
        g_assert_cmpint(cpu_choice_parse(cases[i].text, &choice, why, sizeof(why)), ==, 0);
        g_assert_cmpint(cpu_bits_check(&bits, &choice, why, sizeof(why)), ==, cases[i].says ? -EINVAL : 0);
        g_test_message("%s: %s", cases[i].text, why);
        g_assert_true(!cases[i].says || strstr(why, cases[i].says));
    }
    struct cpu_bits bits = cpu_bits_named("fxsr sse sse2 avx avx2 vaes aes");
    cpu_bits_close(&bits);
    struct cpu_bits closed = cpu_bits_named("fxsr sse sse2 aes");
    g_assert_cmpmem(&bits, sizeof(bits), &closed, sizeof(closed));
}

/* Broken if it fails: the tables contradict themselves: two names for one bit, a need or a model's word that is no feature, a
 * level that lacks what its own features need. */
static void test_tables(void)
{
    for (unsigned i = 0; i < cpu_feature_count; i++) {
        g_assert_true(feature(cpu_features[i].name) == &cpu_features[i]);
        for (unsigned j = 0; j < i; j++) {
            g_assert_true(cpu_features[i].word != cpu_features[j].word ||
                          cpu_features[i].bit != cpu_features[j].bit);
        }
        g_auto(GStrv) needs = g_strsplit(cpu_features[i].needs ? cpu_features[i].needs : "", " ", 0);
        for (char **need = needs; *need; need++) {
            feature(*need);
        }
    }
    for (unsigned i = 0; i < cpu_model_count; i++) {
        g_autofree char *all = g_strdup_printf("%s %s", cpu_models[i].required, cpu_models[i].optional);
        g_auto(GStrv) names = g_strsplit(all, " ", 0);
        for (char **name = names; *name; name++) {
            feature(*name);
        }
        struct cpu_bits bits = cpu_bits_named(cpu_models[i].required), closed = bits;
        cpu_bits_close(&closed);
        g_assert_cmpmem(&bits, sizeof(bits), &closed, sizeof(closed));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/protocol/cpu-words/accepted", test_accepted);
    g_test_add_func("/protocol/cpu-words/refused", test_refused);
    g_test_add_func("/protocol/cpu-words/needs", test_needs);
    g_test_add_func("/protocol/cpu-words/tables", test_tables);
    return g_test_run();
}
