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

static int make(const char *model, unsigned vcpus, unsigned apic_id, uint32_t tsc_khz,
                struct accel_cpuid *rows)
{
    struct accel_cpu_model_config config = {
        .model = model, .vcpus = vcpus, .apic_id = apic_id, .tsc_khz = tsc_khz};
    return accel_cpu_model(&accel_jit_ops, &config, rows);
}

/* Broken if it fails: a model shows a feature that the accelerator has not, or an unknown model is accepted. */
static void test_features(void)
{
    static const char *const names[] = {"v2", "max"};
    uint32_t can[ACCEL_CPU_WORDS];
    struct accel_cpuid rows[ACCEL_CPUID_MAX];
    accel_jit_ops.cpu_features(can);
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        int count = make(names[i], 2, 1, 2600000, rows);
        g_assert_cmpint(count, >, 0);
        g_assert_cmpint(count, <=, ACCEL_CPUID_MAX);
        const struct accel_cpuid *one = find(rows, count, 1, 0), *seven = find(rows, count, 7, 0);
        const struct accel_cpuid *extended = find(rows, count, 0x80000001, 0),
                                 *xsave = find(rows, count, 0xd, 1);
        g_assert_cmphex(one->edx & ~can[ACCEL_CPU_1_EDX], ==, 0);
        g_assert_cmphex(one->ecx & ~can[ACCEL_CPU_1_ECX], ==, 0);
        g_assert_cmphex(seven->ebx & ~can[ACCEL_CPU_7_EBX], ==, 0);
        g_assert_cmphex(seven->ecx & ~can[ACCEL_CPU_7_ECX], ==, 0);
        g_assert_cmphex(seven->edx & ~can[ACCEL_CPU_7_EDX], ==, 0);
        g_assert_cmphex(extended->edx & ~can[ACCEL_CPU_EXT1_EDX], ==, 0);
        g_assert_cmphex(extended->ecx & ~can[ACCEL_CPU_EXT1_ECX], ==, 0);
        g_assert_cmphex(xsave->eax & ~can[ACCEL_CPU_D1_EAX], ==, 0);
        /* psABI x86-64-v2: SSE3 SSSE3 CX16 SSE4.1 SSE4.2 POPCNT, LAHF */
        g_assert_cmphex(one->ecx & 0x00982201, ==, 0x00982201);
        g_assert_cmphex(extended->ecx & 1, ==, 1);
        g_assert_cmphex(one->ecx >> 28 & 1, ==, 0); /* AVX */
    }
    g_assert_cmpint(make("v9", 1, 0, 2600000, rows), ==, -EINVAL);
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
    g_test_add_func("/accel/cpu-model/features", test_features);
    g_test_add_func("/accel/cpu-model/clocks", test_clocks);
    g_test_add_func("/accel/cpu-model/topology", test_topology);
    return g_test_run();
}
