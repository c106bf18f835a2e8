/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU models: the CPUID table of one vCPU (SDM 2A CPUID).
 *
 * The features come from accel_cpu_choose(); everything else (topology, clocks, XSAVE sizes) follows from the configuration.
 * Why family 6 model 0x36: docs/decisions/0005-cpu-model.md.
 */
#include "accel/accel.h"

#include <stdio.h>
#include <string.h>

#define BIT(n)             (UINT32_C(1) << (n))
#define SIGNATURE          0x30661u /* family 6, model 0x36, stepping 1 */
#define MAX_BASIC_LEAF     0x16u
#define MAX_EXTENDED_LEAF  0x80000008u
#define LINEAR_BITS        48u
#define CRYSTAL_KHZ        (ACCEL_CRYSTAL_HZ / 1000)
#define XSAVE_LEGACY_BYTES 576u

/* XSAVE components in the standard format and the feature that brings them. */
static const struct xsave_component {
    uint8_t number;
    uint16_t offset, bytes;
    uint8_t word; /* enum cpu_word */
    uint8_t bit;
} xsave_components[] = {
    {2, 576, 256, CPU_1_ECX, 28},  {5, 1088, 64, CPU_7_EBX, 16},
    {6, 1152, 512, CPU_7_EBX, 16}, {7, 1664, 1024, CPU_7_EBX, 16},
    {9, 2688, 8, CPU_7_ECX, 3},
};

struct table {
    struct accel_cpuid *rows;
    unsigned count;
    const struct accel_cpu_model_config *config;
    const struct cpu_model *model;
    const uint32_t *words;
};

static struct accel_cpuid *add(struct table *table, uint32_t leaf, uint32_t eax, uint32_t ebx, uint32_t ecx,
                               uint32_t edx)
{
    struct accel_cpuid *row = &table->rows[table->count++];
    *row = (struct accel_cpuid){.leaf = leaf, .eax = eax, .ebx = ebx, .ecx = ecx, .edx = edx};
    return row;
}

static void add_sub(struct table *table, uint32_t leaf, uint32_t subleaf, uint32_t eax, uint32_t ebx,
                    uint32_t ecx, uint32_t edx)
{
    struct accel_cpuid *row = add(table, leaf, eax, ebx, ecx, edx);
    row->subleaf = subleaf;
    row->index_matters = true;
}

static uint32_t four_chars(const char *text)
{
    uint32_t value;
    memcpy(&value, text, sizeof(value));
    return value;
}

/* Bits of the APIC id that tell the vCPUs of the package apart. */
static unsigned apic_id_bits(const struct table *table)
{
    unsigned bits = 0;
    while (1u << bits < table->config->vcpus) {
        bits++;
    }
    return bits;
}

static void add_identity(struct table *table)
{
    uint32_t logical = 1u << apic_id_bits(table);
    add(table, 0, MAX_BASIC_LEAF, four_chars("Genu"), four_chars("ntel"), four_chars("ineI"));
    add(table, 1, SIGNATURE, (table->config->apic_id & 0xff) << 24 | (logical & 0xff) << 16 | 8 << 8,
        table->words[CPU_1_ECX], table->words[CPU_1_EDX]);
    add(table, 2, 0x00feff01, 0xf0, 0, 0); /* TLB and caches: see leaf 4; 64-byte prefetch */
}

/* Deterministic cache parameters: 32 KiB L1 each, 1 MiB L2 per core, 16 MiB L3 of the package. */
static void add_caches(struct table *table)
{
    const uint32_t ids = (1u << apic_id_bits(table)) - 1, cores = ids << 26, shared = ids << 14;
    static const struct {
        uint32_t type_level, ways, sets;
        bool package;
    } caches[] = {
        {0x121, 8, 64, false}, {0x122, 8, 64, false}, {0x143, 16, 1024, false}, {0x163, 16, 16384, true}};
    for (unsigned i = 0; i < ARRAY_LEN(caches); i++) {
        add_sub(table, 4, i, cores | (caches[i].package ? shared : 0) | caches[i].type_level,
                (caches[i].ways - 1) << 22 | 63, caches[i].sets - 1, 0);
    }
    add_sub(table, 4, ARRAY_LEN(caches), 0, 0, 0, 0);
}

static void add_topology(struct table *table)
{
    uint32_t id = table->config->apic_id;
    /* threads of a core; cores of the package */
    add_sub(table, 0xb, 0, 0, 1, 1 << 8, id);
    add_sub(table, 0xb, 1, apic_id_bits(table), table->config->vcpus, 1 | 2 << 8, id);
}

static void add_xsave(struct table *table)
{
    uint32_t xcr0 = 3, bytes = XSAVE_LEGACY_BYTES;
    if (!(table->words[CPU_1_ECX] & BIT(26))) {
        return;
    }
    for (unsigned i = 0; i < ARRAY_LEN(xsave_components); i++) {
        const struct xsave_component *part = &xsave_components[i];
        if (table->words[part->word] & BIT(part->bit)) {
            xcr0 |= BIT(part->number);
            bytes = part->offset + part->bytes;
        }
    }
    /* EBX of both follows XCR0 and IA32_XSS at run time. */
    add_sub(table, 0xd, 0, xcr0, XSAVE_LEGACY_BYTES, bytes, 0);
    add_sub(table, 0xd, 1, table->words[CPU_D1_EAX], XSAVE_LEGACY_BYTES, 0, 0);
    for (unsigned i = 0; i < ARRAY_LEN(xsave_components); i++) {
        const struct xsave_component *part = &xsave_components[i];
        if (xcr0 & BIT(part->number)) {
            add_sub(table, 0xd, part->number, part->bytes, part->offset, 0, 0);
        }
    }
}

/* Leaf 0x15: the TSC runs at crystal * numerator / denominator. */
struct clock_ratio {
    uint32_t crystal_khz, numerator, denominator;
};

/* A ratio with this crystal that is the frequency or up to 16 Hz more. */
static bool find_ratio(uint32_t tsc_khz, uint32_t crystal_khz, struct clock_ratio *ret_ratio)
{
    for (uint32_t denominator = 1; (uint64_t)tsc_khz * (denominator + 1) <= UINT32_MAX; denominator++) {
        uint32_t product = tsc_khz * denominator;
        uint32_t numerator = (uint32_t)(((uint64_t)product + crystal_khz - 1) / crystal_khz);
        uint64_t excess_khz = (uint64_t)numerator * crystal_khz - product; /* times denominator */
        if (excess_khz * 64 <= denominator && product + excess_khz <= UINT32_MAX) {
            *ret_ratio = (struct clock_ratio){crystal_khz, numerator, denominator};
            return true;
        }
    }
    return false;
}

/*
 * Guests multiply the crystal (in kHz) by the numerator in 32 bits and cut the quotient to kHz; a frequency that comes out
 * 1 kHz wrong is a drift of a quarter of a millisecond in ten minutes. A crystal of 25 MHz does not divide every frequency
 * well with numbers that small, so it varies by up to 1 %. Should none of these do, a crystal of about a megahertz always
 * does: it is the denominator itself.
 */
static struct clock_ratio clock_ratio_for(uint32_t tsc_khz)
{
    struct clock_ratio ratio;
    for (uint32_t away = 0; away <= CRYSTAL_KHZ / 100; away++) {
        if (find_ratio(tsc_khz, CRYSTAL_KHZ + away, &ratio) ||
            find_ratio(tsc_khz, CRYSTAL_KHZ - away, &ratio)) {
            return ratio;
        }
    }
    uint32_t denominator = UINT32_MAX / tsc_khz;
    return (struct clock_ratio){denominator, tsc_khz, denominator};
}

static void add_clocks(struct table *table)
{
    uint32_t tsc_khz = table->config->tsc_khz, mhz = (tsc_khz + 500) / 1000;
    struct clock_ratio ratio = clock_ratio_for(tsc_khz);
    add(table, 0x15, ratio.denominator, ratio.numerator, ratio.crystal_khz * 1000, 0);
    add(table, 0x16, mhz, mhz, 100, 0);
}

static void add_extensions(struct table *table)
{
    bool more = table->words[CPU_71_EAX];
    add_sub(table, 7, 0, more, table->words[CPU_7_EBX], table->words[CPU_7_ECX], table->words[CPU_7_EDX]);
    if (more) {
        add_sub(table, 7, 1, table->words[CPU_71_EAX], 0, 0, 0);
    }
}

static void add_extended(struct table *table)
{
    char brand[48] = "";
    bool level = table->model < cpu_models + CPU_LEVELS;
    snprintf(brand, sizeof(brand), "Bulkhead x86-64%s%s processor", level ? "-" : "", level ? table->model->name : "");
    add(table, 0x80000000, MAX_EXTENDED_LEAF, 0, 0, 0);
    add(table, 0x80000001, 0, 0, table->words[CPU_EXT1_ECX], table->words[CPU_EXT1_EDX]);
    for (unsigned i = 0; i < 3; i++) {
        const char *part = brand + i * 16;
        add(table, 0x80000002 + i, four_chars(part), four_chars(part + 4), four_chars(part + 8),
            four_chars(part + 12));
    }
    add(table, 0x80000006, 0, 0, 1024 << 16 | 8 << 12 | 64, 0); /* L2: 1 MiB, 16 ways, 64-byte lines */
    add(table, 0x80000007, 0, 0, 0, BIT(8));                    /* invariant TSC */
    add(table, 0x80000008, LINEAR_BITS << 8 | ACCEL_PHYSICAL_BITS, 0, 0, 0);
}

int accel_cpu_model(const struct accel_ops *ops, const struct accel_cpu_model_config *config,
                    struct accel_cpuid *leaves)
{
    struct accel_cpu_features features;
    int result = accel_cpu_choose(ops, config, &features);
    if (result < 0) {
        return result;
    }
    if (config->vcpus < 2) {
        features.bits.word[CPU_1_EDX] &= ~BIT(28); /* HTT: more than one logical processor */
    }
    struct table table = {
        .rows = leaves, .config = config, .model = features.model, .words = features.bits.word};

    add_identity(&table);
    add_caches(&table);
    add(&table, 6, BIT(2), 0, 0, 0); /* ARAT: the APIC timer never stops */
    add_extensions(&table);
    add_topology(&table);
    add_xsave(&table);
    add_clocks(&table);
    add(&table, 0x40000000, 0x40000000, four_chars("Bulk"), four_chars("head"), four_chars("JIT "));
    add_extended(&table);
    return (int)table.count;
}
