/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Code that devices write. Device servers write guest memory behind the translator's back, so translations of a page may be
 * older than its bytes. Two things find that out:
 *
 *   - a page's translations are compared with its bytes whenever an instruction mapping of it is filled (block.h);
 *   - device servers set the page's bit in a log that they share with us, before they tell the guest of what they
 *     wrote, which moves a counter in guest memory (a virtqueue's used index). At the points below a vCPU looks whether a counter
 *     has moved, and if so compares the pages that hold code and were written.
 *
 * A vCPU looks after every serialising instruction (SDM 3A 9.3) and every access to a device, and when an interrupt or
 * exception is delivered. So the rule for guests is the architecture's for cross-modifying code (SDM 3A 9.1.3): who learns that
 * new code has arrived executes a serialising instruction, takes an interrupt or exception, reads a device's register or flushes the
 * mapping before going there. Only a jump straight out of a loop that polls memory is not enough; processors usually
 * get that right, but do not promise it.
 *
 * Cost: one load per counter at each point; when one has moved, a pass over the words of the log whose pages hold code.
 *
 * Threads: set_log() before vCPUs run; the counters from any thread; sync from vCPUs, inside vm_cpu_enter().
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/units.h"

#define DEVICE_WRITES_COUNTERS 128u

struct translator_vm;
struct x86_cpu;

struct device_counter {
    _Atomic(const uint16_t *) at; /* in guest memory, or NULL */
    _Atomic uint16_t seen;
};

struct device_writes {
    pthread_mutex_t lock;
    uint64_t *log; /* borrowed, shared with device servers: a bit per page; NULL: none is kept */
    uint64_t words;
    _Atomic uint64_t *code;      /* pages that hold code, as in log */
    _Atomic uint64_t *summary;   /* words of `code` that may not be zero */
    _Atomic unsigned count;      /* counters in use are below it */
    uint16_t ended;              /* moves when a counter goes; the first one watched */
    _Atomic uint32_t generation; /* moves when translations were dropped */
    struct device_counter counter[DEVICE_WRITES_COUNTERS];
};

void device_writes_create(struct translator_vm *vm);
void device_writes_destroy(struct translator_vm *vm);
/* `log` is borrowed, of `bytes` (a multiple of 8), bit gpa >> 12. 0 or -ENOMEM. */
int device_writes_set_log(struct translator_vm *vm, uint64_t *log, uint64_t bytes);
/* From now on `counter` (in guest memory) is watched. 0 or -ENOSPC. */
int device_writes_watch(struct translator_vm *vm, const uint16_t *counter);
/* Not any more. All of the log is looked at once more. */
void device_writes_unwatch(struct translator_vm *vm, const uint16_t *counter);

/* The page holds code from now on, or no more. */
void device_writes_note_code(struct translator_vm *vm, gpa_t page, bool code);

/* A vCPU at one of the points; sets cpu->code_changed if translations were dropped since its last one. */
void device_writes_sync(struct x86_cpu *cpu);
