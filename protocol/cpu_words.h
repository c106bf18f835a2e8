/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_words: the words that choose a guest's processor, as in `--cpu v2,+aes,-x2apic`.
 *
 *     [MODEL][,{+|-}FEATURE]...        also FEATURE=on and FEATURE=off
 *
 * A model is a psABI level (v1, v2, v3), `host` or `max`; without one the accelerator's highest level is meant. A feature is
 * one CPUID bit, by the name that Linux shows in /proc/cpuinfo; QEMU's spellings are understood, and '-', '_' and '.' are
 * the same in all names. What an accelerator can run is not known here: accel_cpu_model() joins the two.
 *
 * Pure; any thread. Errors: negative errno and one line in `why`, which names the word and the cure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The CPUID words where features are told: leaf (and register), 7 is 7.0, 71 is 7.1, D1 is D.1, EXT1 is 80000001. */
enum cpu_word {
    CPU_1_EDX, CPU_1_ECX, CPU_7_EBX, CPU_7_ECX, CPU_7_EDX, CPU_EXT1_EDX, CPU_EXT1_ECX, CPU_D1_EAX,
    CPU_71_EAX, CPU_WORDS,
};

struct cpu_bits {
    uint32_t word[CPU_WORDS];
};

struct cpu_feature {
    const char *name;  /* as Linux has it */
    const char *alias; /* other names, separated by spaces, or NULL */
    uint8_t word, bit; /* enum cpu_word */
    const char *needs; /* features it is useless without, separated by spaces, or NULL */
    const char *fixed; /* why it cannot be taken away, or NULL */
};
extern const struct cpu_feature cpu_features[];
extern const unsigned cpu_feature_count;

struct cpu_model {
    const char *name, *summary;
    const char *required; /* features that it promises */
    const char *optional; /* what else it shows where the accelerator can */
    bool host;            /* and what the host's own CPUID shows */
    bool all;             /* and everything else */
};
/* The levels in ascending order come first. */
#define CPU_LEVELS 3
extern const struct cpu_model cpu_models[];
extern const unsigned cpu_model_count;

#define CPU_TEXT_MAX 1024 /* longest description, with its terminator */

/* What a description says. */
struct cpu_choice {
    const struct cpu_model *model; /* NULL: the default */
    struct cpu_bits add, remove;   /* disjoint */
};

static inline bool cpu_bits_has(const struct cpu_bits *bits, const struct cpu_feature *feature)
{
    return bits->word[feature->word] >> feature->bit & 1;
}

static inline void cpu_bits_add(struct cpu_bits *bits, const struct cpu_feature *feature)
{
    bits->word[feature->word] |= UINT32_C(1) << feature->bit;
}

static inline void cpu_bits_remove(struct cpu_bits *bits, const struct cpu_feature *feature)
{
    bits->word[feature->word] &= ~(UINT32_C(1) << feature->bit);
}

/* The bits of names in a space-separated list of cpu_features[]. */
struct cpu_bits cpu_bits_named(const char *names);
/* By name or alias, `length` characters; NULL if there is none. */
const struct cpu_feature *cpu_feature_find(const char *name, size_t length);

/* 0, or -EINVAL. "" is the default without changes. */
int cpu_choice_parse(const char *text, struct cpu_choice *ret_choice, char *why, size_t why_bytes);

/* Drops from `bits` what lacks something that it needs. */
void cpu_bits_close(struct cpu_bits *bits);
/* 0, or -EINVAL when something in `bits`, the outcome of `choice`, lacks what it needs. */
int cpu_bits_check(const struct cpu_bits *bits, const struct cpu_choice *choice, char *why, size_t why_bytes);

/* The answer to `--cpu help`. `runs`: what the accelerator can run here; NULL if that is not known. */
void cpu_words_help(FILE *out, const struct cpu_bits *runs);
