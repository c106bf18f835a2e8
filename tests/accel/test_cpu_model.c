/* SPDX-License-Identifier: Apache-2.0 */
/* CPU models: what is offered is what runs, and the arithmetic that guests do on the tables comes out right. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "accel/accel.h"

static const struct accel_cpuid *find(const struct accel_cpuid *rows, int count, uint32_t leaf,
                                      uint32_t subleaf)
{
    for (int i = 0; i < count; i++) {
        if (rows[i].leaf == leaf && (!rows[i].index_matters || rows[i].subleaf == subleaf)) {
            return &rows[i];
        }
    }
    return NULL;
}

static char why[256];

static int make(const char *model, unsigned vcpus, unsigned apic_id, uint32_t tsc_khz,
                struct accel_cpuid *rows)
{
    struct accel_cpu_model_config config = {.model = model,
                                            .vcpus = vcpus,
                                            .apic_id = apic_id,
                                            .tsc_khz = tsc_khz,
                                            .why = why,
                                            .why_bytes = sizeof(why)};
    return accel_cpu_model(&accel_jit_ops, &config, rows);
}

/* The features that a table shows. */
static struct cpu_bits shown(const struct accel_cpuid *rows, int count)
{
    const struct accel_cpuid *one = find(rows, count, 1, 0), *seven = find(rows, count, 7, 0);
    const struct accel_cpuid *extended = find(rows, count, 0x80000001, 0), *xsave = find(rows, count, 0xd, 1);
    return (struct cpu_bits){{one->edx, one->ecx, seven->ebx, seven->ecx, seven->edx, extended->edx,
                              extended->ecx, xsave ? xsave->eax : 0}};
}

static bool covers(const struct cpu_bits *all, const struct cpu_bits *part)
{
    bool covered = true;
    for (unsigned i = 0; i < CPU_WORDS; i++) {
        covered = covered && !(part->word[i] & ~all->word[i]);
    }
    return covered;
}

/* Broken if it fails: a model shows a feature that the accelerator has not, lacks one that it promises, or shows one whose
 * needs are missing. */
static void test_models(void)
{
    struct cpu_bits can;
    struct accel_cpuid rows[ACCEL_CPUID_MAX];
    accel_jit_ops.cpu_features(can.word);
    for (unsigned i = 0; i < cpu_model_count; i++) {
        struct cpu_bits required = cpu_bits_named(cpu_models[i].required);
        int count = make(cpu_models[i].name, 2, 1, 2600000, rows);
        g_test_message("%s: %d %s", cpu_models[i].name, count, why);
        if (!covers(&can, &required)) {
            g_assert_cmpint(count, ==, -ENOTSUP);
            g_assert_nonnull(strstr(why, cpu_models[i].name));
            continue;
        }
        g_assert_cmpint(count, >, 0);
        g_assert_cmpint(count, <=, ACCEL_CPUID_MAX);
        struct cpu_bits bits = shown(rows, count), closed = bits;
        cpu_bits_close(&closed);
        g_assert_true(covers(&can, &bits));
        g_assert_true(covers(&bits, &required));
        g_assert_cmpmem(&bits, sizeof(bits), &closed, sizeof(closed));
    }
    g_assert_cmpint(make("", 1, 0, 2600000, rows), >, 0); /* the default runs everywhere */
}

static const char *without; /* features that fewer_features() leaves out */

static void fewer_features(uint32_t *ret_words)
{
    struct cpu_bits less = cpu_bits_named(without);
    accel_jit_ops.cpu_features(ret_words);
    for (unsigned i = 0; i < CPU_WORDS; i++) {
        ret_words[i] &= ~less.word[i];
    }
}

/* Broken if it fails: a machine that names no model does not start on an old host, or is kept below what a new one can. */
static void test_default(void)
{
    static const struct {
        const char *without, *model;
    } cases[] = {{"avx2", "v2"}, {"movbe", "v2"}, {"sse4_2", "v1"}, {"pku", NULL}};
    struct accel_ops ops = accel_jit_ops;
    ops.cpu_features = fewer_features;
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct accel_cpu_model_config config = {.model = "", .vcpus = 1, .why = why, .why_bytes = sizeof(why)};
        struct accel_cpu_features features;
        struct cpu_bits can, highest = cpu_bits_named(cpu_models[CPU_LEVELS - 1].required);
        accel_jit_ops.cpu_features(can.word);
        without = cases[i].without;
        g_assert_cmpint(accel_cpu_choose(&ops, &config, &features), ==, 0);
        if (cases[i].model || covers(&can, &highest)) {
            const char *expected = cases[i].model ? cases[i].model : cpu_models[CPU_LEVELS - 1].name;
            g_assert_cmpstr(features.model->name, ==, expected);
        }
    }
}

/* Broken if it fails: +feature and -feature change something else than that CPUID bit. */
static void test_changes(void)
{
    static const struct {
        const char *model, *words, *on, *off;
    } cases[] = {
        {"v1", "v1,+pni", "pni", ""},
        {"v2", "v2,-x2apic", "", "x2apic"},
        {"v2", "v2,+smap,-xsave,-xsaveopt,-xsavec,-xgetbv1,-xsaves", "smap",
         "xsave xsaveopt xsavec xgetbv1 xsaves"},
        {"max", "max,-pku", "", "pku"},
    };
    struct accel_cpuid rows[ACCEL_CPUID_MAX];
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        int count = make(cases[i].model, 2, 0, 2600000, rows);
        struct cpu_bits expected = shown(rows, count), on = cpu_bits_named(cases[i].on),
                        off = cpu_bits_named(cases[i].off);
        count = make(cases[i].words, 2, 0, 2600000, rows);
        g_test_message("%s: %s", cases[i].words, why);
        g_assert_cmpint(count, >, 0);
        struct cpu_bits bits = shown(rows, count);
        for (unsigned j = 0; j < CPU_WORDS; j++) {
            g_assert_cmphex(bits.word[j], ==, (expected.word[j] | on.word[j]) & ~off.word[j]);
        }
    }
    int count = make("v1", 1, 0, 2600000, rows);
    g_assert_null(find(rows, count, 0xd, 0)); /* no XSAVE, no leaf */
    count = make("v2,+pku", 1, 0, 2600000, rows);
    g_assert_cmphex(find(rows, count, 0xd, 0)->eax, ==, 3 | 1 << 9);
    g_assert_cmpuint(find(rows, count, 0xd, 0)->ecx, ==, 2696);
    g_assert_cmpint(make("v9", 1, 0, 2600000, rows), ==, -EINVAL);
    g_assert_cmpint(make("v2,-xsave", 1, 0, 2600000, rows), ==, -EINVAL);
    g_assert_nonnull(strstr(why, "-xsaveopt,-xsavec,-xgetbv1,-xsaves"));
    g_assert_cmpint(make("v2,+avx512ifma", 1, 0, 2600000, rows), ==, -ENOTSUP);
    g_assert_nonnull(strstr(why, "avx512ifma"));
}

/* Broken if it fails: a guest's 32-bit arithmetic on leaf 0x15 overflows, or its clock drifts. */
static void check_clock(uint32_t khz)
{
    struct accel_cpuid rows[ACCEL_CPUID_MAX];
    int count = make("v2", 1, 0, khz, rows);
    const struct accel_cpuid *row = find(rows, count, 0x15, 0);
    uint32_t crystal_khz = row->ecx / 1000;
    g_assert_cmpuint(row->ecx % 1000, ==, 0);
    g_assert_cmpuint(ABS((int64_t)row->ecx - ACCEL_CRYSTAL_HZ), <=, ACCEL_CRYSTAL_HZ / 100);
    g_assert_cmpuint(crystal_khz * row->ebx / row->eax, ==, khz); /* as Linux computes it */
    uint64_t hz = (uint64_t)row->ecx * row->ebx / row->eax;       /* as FreeBSD does */
    g_assert_cmpuint(hz - (uint64_t)khz * 1000, <=, 16);
}

static void test_clocks(void)
{
    static const uint32_t khz[] = {800000,  1000000, 1999993, 2100000, 2600001,
                                   3000017, 3400000, 4100007, 5800000, 6200123};
    for (unsigned i = 0; i < G_N_ELEMENTS(khz); i++) {
        check_clock(khz[i]);
    }
    for (uint32_t odd = 700001; odd < 6500000; odd += 7919) {
        check_clock(odd);
    }
}

/* Broken if it fails: a guest finds another number of processors than there are, or two with one id. */
static void test_topology(void)
{
    struct accel_cpuid rows[ACCEL_CPUID_MAX];
    int count = make("v2", 6, 5, 2600000, rows);
    g_assert_cmpuint(find(rows, count, 1, 0)->ebx >> 24, ==, 5);
    g_assert_cmpuint(find(rows, count, 1, 0)->ebx >> 16 & 0xff, ==, 8);
    g_assert_cmpuint(find(rows, count, 0xb, 1)->eax, ==, 3);
    g_assert_cmpuint(find(rows, count, 0xb, 1)->ebx, ==, 6);
    g_assert_cmpuint(find(rows, count, 0xb, 1)->edx, ==, 5);
    g_assert_cmpuint(find(rows, count, 4, 0)->eax >> 26, ==, 7);
    count = make("v2", 1, 0, 2600000, rows);
    g_assert_cmpuint(find(rows, count, 1, 0)->edx >> 28 & 1, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/accel/cpu-model/models", test_models);
    g_test_add_func("/accel/cpu-model/default", test_default);
    g_test_add_func("/accel/cpu-model/changes", test_changes);
    g_test_add_func("/accel/cpu-model/clocks", test_clocks);
    g_test_add_func("/accel/cpu-model/topology", test_topology);
    return g_test_run();
}
