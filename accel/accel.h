/* SPDX-License-Identifier: Apache-2.0 */
/*
 * accel: something that runs vCPUs.
 *
 * One ops table, shaped for KVM as well as for the JIT (accel/kvm, accel/jit). The VMM creates one accel_vm, gives
 * it the guest's RAM, creates its vCPUs and runs each from one thread. Device accesses come back as calls of
 * accel_host_ops on the vCPU's own thread.
 *
 * States of a vCPU: created -> (run -> returned)* -> destroyed. Between two runs its state may be loaded and saved.
 * Owner thread: every call on a vCPU comes from the thread that runs it, except accel_vcpu_kick() and
 * accel_vcpu_notify_irq(), which any thread may call at any time between create and destroy.
 *
 * An accelerator refuses (negative errno): overlapping slots, slots that are not page aligned, more vCPUs than
 * max_vcpus, CPUID leaves that offer what it cannot run.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "accel/x86_state.h"
#include "protocol/base/host_fault.h"
#include "protocol/base/text_buffer.h"
#include "protocol/base/units.h"
#include "protocol/cpu_words.h"

struct accel_vm;
struct accel_vcpu;

enum accel_io_space { ACCEL_IO_PIO, ACCEL_IO_MMIO };

/*
 * What the VMM does for the accelerator. All run on the calling vCPU's thread and must be thread-safe against other
 * vCPUs. `size` is 1, 2, 4 or 8 bytes (PIO: 1, 2, 4); `data` is little-endian in a host integer.
 *
 * The irq_ and msr_ entries serve accelerators without an interrupt controller of their own (the JIT); KVM never
 * calls them.
 */
struct accel_host_ops {
    uint64_t (*io_read)(void *opaque, unsigned vcpu, enum accel_io_space space, uint64_t addr, unsigned size);
    void (*io_write)(void *opaque, unsigned vcpu, enum accel_io_space space, uint64_t addr, unsigned size,
                     uint64_t data);

    /* The vector that would be delivered now (priority above TPR/PPR), or -EAGAIN. Cheap: called at each check. Asked
     * only after accel_vcpu_notify_irq(): whatever makes an interrupt deliverable notifies, also an EOI, a lower TPR or
     * CR8, or a self-IPI that comes from this very vCPU. */
    int (*irq_peek)(void *opaque, unsigned vcpu);
    /* Accepts that interrupt (IRR -> ISR, or the 8259's INTA) and returns its vector, or -EAGAIN. */
    int (*irq_ack)(void *opaque, unsigned vcpu);
    /* True if an NMI is pending; the call takes it. Asked until false. Two that come before the first is taken stay two. */
    bool (*nmi_take)(void *opaque, unsigned vcpu);

    /* IA32_APIC_BASE, IA32_TSC_DEADLINE, x2APIC 0x800..0x8ff. 0, or -EINVAL for #GP. */
    int (*msr_read)(void *opaque, unsigned vcpu, uint32_t msr, uint64_t *ret_value);
    int (*msr_write)(void *opaque, unsigned vcpu, uint32_t msr, uint64_t value);
    /* CR8 (= TPR >> 4). */
    uint8_t (*cr8_read)(void *opaque, unsigned vcpu);
    void (*cr8_write)(void *opaque, unsigned vcpu, uint8_t value);
};

/* One range of guest RAM or ROM. Borrowed memory: it must outlive the accel_vm. Everything else is MMIO. */
struct accel_slot {
    gpa_t gpa;      /* page aligned */
    uint64_t bytes; /* page multiple */
    void *host;     /* page aligned, MAP_SHARED of a sealed memfd for RAM */
    bool readonly;  /* guest writes go to io_write() */
};

/* One CPUID leaf as the guest shall see it. index_matters: `subleaf` is compared with ECX. */
struct accel_cpuid {
    uint32_t leaf, subleaf;
    bool index_matters;
    uint32_t eax, ebx, ecx, edx;
};

struct accel_vm_config {
    unsigned max_vcpus;
    const struct accel_host_ops *host_ops; /* borrowed */
    void *opaque;
    int kvm_fd; /* an open /dev/kvm, owned by the caller, or -1 */
};

enum accel_exit {
    ACCEL_EXIT_HLT,      /* HLT with nothing deliverable; run again once irq_peek() or an NMI has something */
    ACCEL_EXIT_KICKED,   /* accel_vcpu_kick() was called */
    ACCEL_EXIT_SHUTDOWN, /* triple fault */
    ACCEL_EXIT_FATAL,    /* an internal inconsistency; vcpu_report() says what; stop this VM */
};

struct accel_ops {
    const char *name; /* "jit", "kvm" */
    bool has_irqchip; /* LAPIC, IOAPIC, PIT live in the accelerator */
    unsigned max_vcpus;

    /* 0 when usable; else a negative errno and one line for people (what, why, cure) in `why`. */
    int (*probe)(int kvm_fd, char *why, size_t why_bytes);

    int (*vm_create)(const struct accel_vm_config *config, struct accel_vm **ret_vm);
    void (*vm_destroy)(struct accel_vm *vm);
    /* Replaces the whole slot table; only while no vCPU runs. */
    int (*vm_set_slots)(struct accel_vm *vm, const struct accel_slot *slots, unsigned count);
    /* For an accelerator that keeps translations of guest code, which devices may overwrite; NULL where the processor sees
     * to it. `log`: a bitmap of guest memory (memory_log.h) that device servers set bits in, borrowed, before any vCPU runs. 0 or
     * -ENOMEM. */
    int (*vm_set_write_log)(struct accel_vm *vm, uint64_t *log, uint64_t bytes);
    /* Any thread: a counter in guest memory (a used index) that moves after a device's writes are in the log, until
     * it is taken back. 0 or -ENOSPC. */
    int (*vm_watch_writes)(struct accel_vm *vm, const uint16_t *counter);
    void (*vm_unwatch_writes)(struct accel_vm *vm, const uint16_t *counter);
    /* Frequency of the guest's TSC against CLOCK_MONOTONIC_RAW, to the nearest kHz. */
    uint32_t (*vm_tsc_khz)(struct accel_vm *vm);
    /* Everything that this accelerator can run on this host, over enum cpu_word. CPUID shows a feature only if its bit is
     * set here. */
    void (*cpu_features)(uint32_t ret_words[CPU_WORDS]);

    /* `index` is 0..max_vcpus-1 and the APIC id. The vCPU starts in its reset state (SDM 3A table 10-1). */
    int (*vcpu_create)(struct accel_vm *vm, unsigned index, const struct accel_cpuid *cpuid, unsigned count,
                       struct accel_vcpu **ret_vcpu);
    void (*vcpu_destroy)(struct accel_vcpu *vcpu);
    enum accel_exit (*vcpu_run)(struct accel_vcpu *vcpu);
    /* state -> vCPU; -EINVAL for an invalid one. A TSC within a second of the vCPU's present one is taken as "leave it",
     * and vCPUs that load theirs within a second of each other stay in step: saving and loading takes time, and guests
     * rely on TSCs that agree between CPUs. */
    int (*vcpu_load)(struct accel_vcpu *vcpu, const struct x86_vcpu_state *state);
    int (*vcpu_save)(struct accel_vcpu *vcpu, struct x86_vcpu_state *ret_state);
    /* INIT: everything except TSC, caches, FPU/SSE and MSRs goes to reset values (SDM 3A 10.4.7.2). */
    void (*vcpu_init)(struct accel_vcpu *vcpu);
    uint64_t (*vcpu_tsc)(struct accel_vcpu *vcpu); /* the guest's TSC now; any thread */
    /* Part number `part` of a report about a vCPU that failed; false when there is none. Part 0 begins with one line that
     * says what is wrong. Own thread, also from a signal handler; only reads, and may fault itself (vmm/crash.h). */
    bool (*vcpu_report)(struct accel_vcpu *vcpu, const struct host_fault *fault, unsigned part, struct text_buffer *out);

    /* Any thread, async-signal-safe. Makes vcpu_run() return ACCEL_EXIT_KICKED soon (also the next run, if none
     * is under way). */
    void (*vcpu_kick)(struct accel_vcpu *vcpu);
    /* Any thread: irq_peek()/nmi_take() may have news; look at the next block boundary. Does not wake a HLT wait,
     * which is the VMM's. */
    void (*vcpu_notify_irq)(struct accel_vcpu *vcpu);
};

extern const struct accel_ops accel_jit_ops;

/*
 * CPU models: what a guest's CPUID shows.
 *
 * Leaf 0x15 tells the TSC's frequency, to the kHz, as a multiple of a crystal of about 25 MHz. That crystal is also the
 * input clock of the local APIC timer (SDM 3A 11.5.4), before its divide configuration: whoever models the timer takes
 * leaf 0x15's ECX.
 */
#define ACCEL_PHYSICAL_BITS 40u       /* address width that every CPU model shows */
#define ACCEL_CRYSTAL_HZ    25000000u /* nominal */
struct accel_cpu_model_config {
    const char
        *model;       /* words of protocol/cpu_words.h; "": the highest level that runs here */
    unsigned vcpus;   /* for topology leaves */
    unsigned apic_id; /* of this vCPU */
    uint32_t tsc_khz; /* leaf 0x15/0x16 */
    char *why;        /* gets one line when a call fails; may be NULL when why_bytes is 0 */
    size_t why_bytes;
};

/* What the words come to on this host. */
struct accel_cpu_features {
    const struct cpu_model *model;
    struct cpu_bits bits;
};
/* 0, -EINVAL for wrong words or a feature without what it needs, -ENOTSUP for what `ops` does not run on this host. */
int accel_cpu_choose(const struct accel_ops *ops, const struct accel_cpu_model_config *config,
                     struct accel_cpu_features *ret_features);

#define ACCEL_CPUID_MAX 64
/* Fills `leaves` (ACCEL_CPUID_MAX entries) with exactly what accel_cpu_choose() gives. Number of leaves, or its error. */
int accel_cpu_model(const struct accel_ops *ops, const struct accel_cpu_model_config *config,
                    struct accel_cpuid *leaves);
