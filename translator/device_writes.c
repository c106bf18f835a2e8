/* SPDX-License-Identifier: Apache-2.0 */
#include "translator/device_writes.h"

#include <errno.h>
#include <stdlib.h>

#include "translator/block.h"
#include "translator/vm.h"

void device_writes_create(struct translator_vm *vm)
{
    pthread_mutex_init(&vm->device_writes.lock, NULL);
    device_writes_watch(vm, &vm->device_writes.ended);
}

void device_writes_destroy(struct translator_vm *vm)
{
    struct device_writes *writes = &vm->device_writes;
    free((void *)writes->code);
    free((void *)writes->summary);
    pthread_mutex_destroy(&writes->lock);
}

int device_writes_set_log(struct translator_vm *vm, uint64_t *log, uint64_t bytes)
{
    struct device_writes *writes = &vm->device_writes;
    uint64_t words = bytes / 8;
    _Atomic uint64_t *code = calloc(words, 8), *summary = calloc((words + 63) / 64, 8);
    if (!code || !summary) {
        free((void *)code);
        free((void *)summary);
        return -ENOMEM;
    }
    writes->log = log;
    writes->words = words;
    writes->code = code;
    writes->summary = summary;
    return 0;
}

int device_writes_watch(struct translator_vm *vm, const uint16_t *counter)
{
    struct device_writes *writes = &vm->device_writes;
    int r = -ENOSPC;
    pthread_mutex_lock(&writes->lock);
    for (unsigned i = 0; i < DEVICE_WRITES_COUNTERS; i++) {
        struct device_counter *entry = &writes->counter[i];
        if (!atomic_load(&entry->at)) {
            atomic_store(&entry->seen,
                         __atomic_load_n(counter, __ATOMIC_ACQUIRE) - 1); /* looks once in any case */
            atomic_store(&entry->at, counter);
            if (i >= atomic_load(&writes->count)) {
                atomic_store(&writes->count, i + 1);
            }
            r = 0;
            break;
        }
    }
    pthread_mutex_unlock(&writes->lock);
    return r;
}

void device_writes_unwatch(struct translator_vm *vm, const uint16_t *counter)
{
    struct device_writes *writes = &vm->device_writes;
    pthread_mutex_lock(&writes->lock);
    for (unsigned i = 0; i < DEVICE_WRITES_COUNTERS; i++) {
        if (atomic_load(&writes->counter[i].at) == counter) {
            atomic_store(&writes->counter[i].at, NULL);
        }
    }
    __atomic_fetch_add(&writes->ended, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&writes->lock);
}

void device_writes_note_code(struct translator_vm *vm, gpa_t page, bool code)
{
    struct device_writes *writes = &vm->device_writes;
    uint64_t word = page >> 18, bit = UINT64_C(1) << (page >> 12 & 63);
    if (!writes->log || word >= writes->words) {
        return;
    }
    if (code) {
        atomic_fetch_or(&writes->code[word], bit);
        atomic_fetch_or(&writes->summary[word / 64], UINT64_C(1) << (word % 64));
    } else {
        atomic_fetch_and(&writes->code[word], ~bit);
    }
}

/* Compares what was written since the last time. Bits of other pages stay set until they hold code. */
static void check_word(struct x86_cpu *cpu, uint64_t word)
{
    struct device_writes *writes = &cpu->vm->device_writes;
    uint64_t *log = &writes->log[word];
    uint64_t written = __atomic_load_n(log, __ATOMIC_ACQUIRE) & atomic_load(&writes->code[word]);
    if (!written) {
        return;
    }
    __atomic_fetch_and(log, ~written, __ATOMIC_SEQ_CST); /* a write after this sets its bit again */
    for (; written; written &= written - 1) {
        block_check_page(cpu, word << 18 | (uint64_t)__builtin_ctzll(written) << 12);
    }
}

static void check_written(struct x86_cpu *cpu)
{
    struct device_writes *writes = &cpu->vm->device_writes;
    for (uint64_t i = 0; i < (writes->words + 63) / 64; i++) {
        for (uint64_t bits = atomic_load(&writes->summary[i]); bits; bits &= bits - 1) {
            check_word(cpu, i * 64 + (uint64_t)__builtin_ctzll(bits));
        }
    }
}

static bool counter_moved(const struct device_counter *entry, uint16_t *ret_value)
{
    const uint16_t *at = atomic_load_explicit(&entry->at, memory_order_acquire);
    if (!at) {
        return false;
    }
    *ret_value = __atomic_load_n(at, __ATOMIC_ACQUIRE);
    return *ret_value != atomic_load_explicit(&entry->seen, memory_order_acquire);
}

/* Under the lock, so that who finds a counter unmoved knows that the comparison is over. */
static void catch_up(struct x86_cpu *cpu)
{
    struct device_writes *writes = &cpu->vm->device_writes;
    uint16_t value[DEVICE_WRITES_COUNTERS];
    bool moved[DEVICE_WRITES_COUNTERS], any = false;
    pthread_mutex_lock(&writes->lock);
    unsigned count = atomic_load(&writes->count);
    for (unsigned i = 0; i < count; i++) {
        moved[i] = counter_moved(&writes->counter[i], &value[i]);
        any |= moved[i];
    }
    if (any) {
        bool before = cpu->code_changed;
        cpu->code_changed = false;
        cpu->stats[STAT_DEVICE_CHECKS]++;
        check_written(cpu);
        if (cpu->code_changed) {
            atomic_fetch_add(&writes->generation, 1);
        }
        cpu->code_changed = before;
    }
    for (unsigned i = 0; i < count; i++) {
        if (moved[i]) {
            atomic_store(&writes->counter[i].seen, value[i]);
        }
    }
    pthread_mutex_unlock(&writes->lock);
}

void device_writes_sync(struct x86_cpu *cpu)
{
    struct device_writes *writes = &cpu->vm->device_writes;
    unsigned count = atomic_load_explicit(&writes->count, memory_order_acquire);
    uint16_t value;
    for (unsigned i = 0; i < count; i++) {
        if (counter_moved(&writes->counter[i], &value)) {
            catch_up(cpu);
            break;
        }
    }
    uint32_t generation = atomic_load_explicit(&writes->generation, memory_order_acquire);
    if (cpu->device_generation != generation) {
        cpu->device_generation = generation;
        cpu->code_changed = true;
    }
}
