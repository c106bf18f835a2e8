/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vcpus: one thread per vCPU, and what it does between two runs of the accelerator.
 *
 *   state     meaning                                          leaves on
 *   parked    all threads; none touches the guest              vcpus_start -> running (CPU 0) or waiting (others)
 *   running   inside accel_ops.vcpu_run                        HLT -> halted, INIT -> waiting, park, quit
 *   halted    sleeps until anything happens to its APIC        any event -> running
 *   waiting   application processor before its SIPI            SIPI -> running, park, quit
 *
 * An event is a request bit (park, quit, reset, INIT, SIPI) or an interrupt. Every event first changes what
 * the vCPU will look at, then counts `events` up, then wakes. The thread reads `events` before it looks and
 * sleeps only while the count has not moved since; so no wake-up is lost, and a vCPU that halts with
 * interrupts disabled sleeps until something new happens instead of spinning.
 *
 * Threads: create, start, park and destroy on the main thread; the rest from any thread. The accelerator's
 * vCPU calls are made by the vCPU's own thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "accel/accel.h"

struct vcpus;

/* Called on the vCPU's thread. */
struct vcpus_host {
    void (*init)(void *opaque, unsigned cpu); /* an INIT is being carried out: reset its APIC */
    void (*triple_fault)(void *opaque, unsigned cpu);
    void (*failed)(void *opaque, unsigned cpu, const char *why); /* the accelerator cannot go on */
    void *opaque;
};

struct vcpus_config {
    const struct accel_ops *ops;
    struct accel_vm *vm; /* borrowed */
    unsigned count;
    const char *cpu_model; /* words of protocol/cpu_words.h */
    struct vcpus_host host;
};

/* Threads started, vCPUs created, all parked. Negative errno and one line in `why`. */
int vcpus_create(const struct vcpus_config *config, struct vcpus **ret_vcpus, char *why, size_t why_bytes);
/* Parks, ends and joins; accepts NULL. Everything that notifies from outside (timers, devices) has stopped
 * before. */
void vcpus_destroy(struct vcpus *vcpus);

/* From parked: every vCPU goes to its reset state; CPU 0 gets `prepare` applied to it and runs, others wait
 * for SIPI. */
void vcpus_start(struct vcpus *vcpus, void (*prepare)(void *opaque, struct x86_vcpu_state *state),
                 void *opaque);
/* Asks all to park and returns once they have. */
void vcpus_park(struct vcpus *vcpus);
/* Any thread, from inside a device access too: no vCPU goes on after its current access; does not wait. */
void vcpus_request_park(struct vcpus *vcpus);

/* Any thread. */
void vcpus_notify(struct vcpus *vcpus, unsigned cpu);
void vcpus_request_init(struct vcpus *vcpus, unsigned cpu);
void vcpus_request_startup(struct vcpus *vcpus, unsigned cpu, uint8_t vector);
uint64_t vcpus_tsc(struct vcpus *vcpus, unsigned cpu);
