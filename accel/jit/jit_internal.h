/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the JIT accelerator. */
#pragma once

#include <pthread.h>

#include "accel/accel.h"
#include "translator/engine.h"
#include "translator/x86/cpu.h"

struct accel_vm {
    struct translator_vm *translator;
    const struct accel_host_ops *host;
    void *opaque;
    unsigned max_vcpus;
    uint32_t tsc_khz;

    pthread_mutex_t tsc_lock;
    uint64_t tsc_offset; /* last one that a vCPU was given, under tsc_lock */
};

struct accel_vcpu {
    struct accel_vm *vm;
    struct x86_cpu *cpu;
};

/* The host ops as the translator asks for them. */
extern const struct x86_cpu_ops jit_cpu_ops;

int jit_vcpu_load(struct accel_vcpu *vcpu, const struct x86_vcpu_state *state);
int jit_vcpu_save(struct accel_vcpu *vcpu, struct x86_vcpu_state *ret_state);
