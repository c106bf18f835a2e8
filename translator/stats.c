/* SPDX-License-Identifier: Apache-2.0 */
/* The translator's counters as text. */
#include "translator/stats.h"

#include <inttypes.h>
#include <stdio.h>

#include "translator/vm.h"

static const char *const names[TRANSLATOR_STATS] = {
    [MMU_STAT_FILLS] = "tlb-fills",
    [MMU_STAT_IO] = "mmio-accesses",
    [MMU_STAT_CODE_WRITES] = "code-page-writes",
    [MMU_STAT_CR3] = "cr3-loads",
    [MMU_STAT_FLUSHES] = "full-flushes",
    [MMU_STAT_INVLPG] = "invlpg",
    [STAT_BLOCKS] = "blocks",
    [STAT_INSNS] = "translated-instructions",
    [STAT_TRANSLATE_NS] = "translation-ns",
    [STAT_COMPILED] = "compiled-blocks",
    [STAT_CODE_BYTES] = "code-bytes",
    [STAT_ENTRIES] = "entries-from-c",
    [STAT_JUMP_MISSES] = "jump-cache-misses",
    [STAT_INTERPRETED] = "interpreted-instructions",
    [STAT_FALLBACKS] = "ops-in-c",
    [STAT_COMPARED] = "compared-blocks",
    [STAT_INTERRUPTS] = "interrupts",
    [STAT_EXCEPTIONS] = "exceptions",
    [STAT_DEVICE_CHECKS] = "device-write-checks",
};

const char *translator_stat_name(enum translator_stat stat)
{
    return names[stat] ? names[stat] : "?";
}

void translator_stats(struct translator_vm *vm, char *text, unsigned long text_bytes)
{
    size_t used = 0;
    for (unsigned i = 0; i < TRANSLATOR_STATS && used < text_bytes; i++) {
        uint64_t sum = vm->stats[i];
        for (unsigned j = 0; j < vm->max_cpus; j++) {
            const struct x86_cpu *cpu = vm->cpus[j];
            sum += cpu ? cpu->stats[i] : 0;
        }
        int n = snprintf(text + used, text_bytes - used, "%s %" PRIu64 "\n", names[i], sum);
        used += n > 0 ? (size_t)n : 0;
    }
}
