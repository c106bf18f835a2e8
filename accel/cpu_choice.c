/* SPDX-License-Identifier: Apache-2.0 */
/* From the words of --cpu to the features that a guest is shown: exactly what the accelerator runs on this host. */
#include "accel/accel.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct cpu_bits host_bits(void)
{
    struct cpu_bits bits = {{0}};
    uint32_t a, b, c, d;
    if (__get_cpuid(1, &a, &b, &c, &d)) {
        bits.word[CPU_1_EDX] = d;
        bits.word[CPU_1_ECX] = c;
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        bits.word[CPU_7_EBX] = b;
        bits.word[CPU_7_ECX] = c;
        bits.word[CPU_7_EDX] = d;
    }
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) {
        bits.word[CPU_71_EAX] = a;
    }
    if (__get_cpuid_count(0xd, 1, &a, &b, &c, &d)) {
        bits.word[CPU_D1_EAX] = a;
    }
    if (__get_cpuid(0x80000001, &a, &b, &c, &d)) {
        bits.word[CPU_EXT1_EDX] = d;
        bits.word[CPU_EXT1_ECX] = c;
    }
    return bits;
}

/* The first feature of `wanted` that `can` has not, or NULL. */
static const struct cpu_feature *first_missing(const struct cpu_bits *wanted, const struct cpu_bits *can)
{
    for (unsigned i = 0; i < cpu_feature_count; i++) {
        if (cpu_bits_has(wanted, &cpu_features[i]) && !cpu_bits_has(can, &cpu_features[i])) {
            return &cpu_features[i];
        }
    }
    return NULL;
}

/* The highest level that runs here. */
static const struct cpu_model *default_model(const struct cpu_bits *can)
{
    const struct cpu_model *model = &cpu_models[0];
    for (unsigned i = 1; i < CPU_LEVELS; i++) {
        struct cpu_bits required = cpu_bits_named(cpu_models[i].required);
        if (!first_missing(&required, can)) {
            model = &cpu_models[i];
        }
    }
    return model;
}

/* `model` needs the feature; NULL: it was asked for by name. */
static int refuse(const struct accel_ops *ops, const struct accel_cpu_model_config *config, const char *model,
                  const struct cpu_feature *feature)
{
    struct cpu_bits host = host_bits();
    bool has = cpu_bits_has(&host, feature);
    snprintf(config->why, config->why_bytes, "--cpu: %s%s%s%s %s%s; '--cpu help' lists what runs here",
             model ? model : "", model ? " needs " : "", feature->name, model ? ", which" : "",
             has ? "is not run by the accelerator " : "is not in this host's processor",
             has ? ops->name : "");
    return -ENOTSUP;
}

int accel_cpu_choose(const struct accel_ops *ops, const struct accel_cpu_model_config *config,
                     struct accel_cpu_features *ret_features)
{
    struct cpu_bits can, bits;
    struct cpu_choice choice;
    int result = cpu_choice_parse(config->model, &choice, config->why, config->why_bytes);
    if (result < 0) {
        return result;
    }
    ops->cpu_features(can.word);
    cpu_bits_close(&can);
    const struct cpu_model *model = choice.model ? choice.model : default_model(&can);
    struct cpu_bits required = cpu_bits_named(model->required), host = host_bits();
    const struct cpu_feature *missing = first_missing(&required, &can);
    if (missing) {
        return refuse(ops, config, model->name, missing);
    }
    missing = first_missing(&choice.add, &can);
    if (missing) {
        return refuse(ops, config, NULL, missing);
    }
    bits = cpu_bits_named(model->optional);
    for (unsigned i = 0; i < CPU_WORDS; i++) {
        bits.word[i] |= required.word[i] | (model->host ? host.word[i] : 0) | (model->all ? UINT32_MAX : 0);
        bits.word[i] &= can.word[i];
        bits.word[i] = (bits.word[i] | choice.add.word[i]) & ~choice.remove.word[i];
    }
    bits.word[CPU_1_ECX] &= ~(UINT32_C(1) << 27); /* OSXSAVE follows CR4 */
    result = cpu_bits_check(&bits, &choice, config->why, config->why_bytes);
    if (result == 0) {
        *ret_features = (struct accel_cpu_features){.model = model, .bits = bits};
    }
    return result;
}
