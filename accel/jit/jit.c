/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JIT as an accelerator: accel.h's operations over the translator's vCPU.
 *
 * All vCPUs of a VM share one TSC offset, taken when the VM is created, so that their TSCs agree from the start.
 */
#include "accel/jit/jit_internal.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accel/jit/tsc.h"
#include "translator/device_writes.h"
#include "translator/mmu.h"
#include "translator/report.h"
#include "translator/stats.h"
#include "translator/x86/state.h"

#define JIT_MAX_VCPUS 16

_Static_assert(sizeof(struct accel_cpuid) == sizeof(struct x86_cpuid_leaf) &&
                   offsetof(struct accel_cpuid, index_matters) ==
                       offsetof(struct x86_cpuid_leaf, index_matters) &&
                   offsetof(struct accel_cpuid, edx) == offsetof(struct x86_cpuid_leaf, edx),
               "one shape of CPUID leaf");
_Static_assert(CPU_WORDS == X86_FEATURE_WORDS, "one order of feature words");

/* --- the translator's questions, passed on ------------------------------------------------------------------ */

static uint64_t io_read(void *opaque, unsigned vcpu, bool mmio, uint64_t addr, unsigned size)
{
    struct accel_vm *vm = opaque;
    return vm->host->io_read(vm->opaque, vcpu, mmio ? ACCEL_IO_MMIO : ACCEL_IO_PIO, addr, size);
}

static void io_write(void *opaque, unsigned vcpu, bool mmio, uint64_t addr, unsigned size, uint64_t data)
{
    struct accel_vm *vm = opaque;
    vm->host->io_write(vm->opaque, vcpu, mmio ? ACCEL_IO_MMIO : ACCEL_IO_PIO, addr, size, data);
}

static int irq_peek(void *opaque, unsigned vcpu)
{
    struct accel_vm *vm = opaque;
    return vm->host->irq_peek(vm->opaque, vcpu);
}

static int irq_ack(void *opaque, unsigned vcpu)
{
    struct accel_vm *vm = opaque;
    return vm->host->irq_ack(vm->opaque, vcpu);
}

static bool nmi_take(void *opaque, unsigned vcpu)
{
    struct accel_vm *vm = opaque;
    return vm->host->nmi_take(vm->opaque, vcpu);
}

static int msr_read(void *opaque, unsigned vcpu, uint32_t msr, uint64_t *ret_value)
{
    struct accel_vm *vm = opaque;
    return vm->host->msr_read(vm->opaque, vcpu, msr, ret_value);
}

static int msr_write(void *opaque, unsigned vcpu, uint32_t msr, uint64_t value)
{
    struct accel_vm *vm = opaque;
    return vm->host->msr_write(vm->opaque, vcpu, msr, value);
}

static uint8_t cr8_read(void *opaque, unsigned vcpu)
{
    struct accel_vm *vm = opaque;
    return vm->host->cr8_read(vm->opaque, vcpu);
}

static void cr8_write(void *opaque, unsigned vcpu, uint8_t value)
{
    struct accel_vm *vm = opaque;
    vm->host->cr8_write(vm->opaque, vcpu, value);
}

const struct x86_cpu_ops jit_cpu_ops = {
    .io_read = io_read,
    .io_write = io_write,
    .irq_peek = irq_peek,
    .irq_ack = irq_ack,
    .nmi_take = nmi_take,
    .msr_read = msr_read,
    .msr_write = msr_write,
    .cr8_read = cr8_read,
    .cr8_write = cr8_write,
};

/* --- VM ----------------------------------------------------------------------------------------------------- */

/* Generated code saves the host's flags with LAHF in 64-bit mode and moves x87 state with FXSAVE. */
static int probe(int kvm_fd, char *why, size_t why_bytes)
{
    uint32_t eax, ebx, ecx, edx;
    if (!__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) || !(ecx & 1)) {
        snprintf(why, why_bytes,
                 "this processor has no LAHF in 64-bit mode, which the JIT needs: use a newer host");
        return -ENOTSUP;
    }
    return 0;
}

/* For debugging: which tier executes guest code. */
static int tier_from_environment(enum engine_tier *ret_tier)
{
    static const struct {
        const char *name;
        enum engine_tier tier;
    } tiers[] = {{"auto", ENGINE_AUTO},
                 {"interpreter", ENGINE_INTERPRETER},
                 {"t0", ENGINE_T0},
                 {"lockstep", ENGINE_LOCKSTEP}};
    const char *name = getenv("BULKHEAD_JIT_TIER");
    for (unsigned i = 0; i < ARRAY_LEN(tiers); i++) {
        if (strcmp(name ? name : "auto", tiers[i].name) == 0) {
            *ret_tier = tiers[i].tier;
            return 0;
        }
    }
    return -EINVAL;
}

static void vm_destroy(struct accel_vm *vm)
{
    if (!vm) {
        return;
    }
    if (getenv("BULKHEAD_JIT_STATS") && vm->translator) {
        char text[2048];
        translator_stats(vm->translator, text, sizeof(text));
        fputs(text, stderr);
    }
    translator_vm_destroy(vm->translator);
    pthread_mutex_destroy(&vm->tsc_lock);
    free(vm);
}

static int vm_create(const struct accel_vm_config *config, struct accel_vm **ret_vm)
{
    enum engine_tier tier;
    if (!config->max_vcpus || config->max_vcpus > JIT_MAX_VCPUS) {
        return -EINVAL;
    }
    int r = tier_from_environment(&tier);
    if (r < 0) {
        return r;
    }
    struct accel_vm *vm = calloc(1, sizeof(*vm));
    if (!vm) {
        return -ENOMEM;
    }
    vm->host = config->host_ops;
    vm->opaque = config->opaque;
    vm->max_vcpus = config->max_vcpus;
    r = translator_vm_create(config->max_vcpus, tier, &vm->translator);
    if (r < 0) {
        free(vm);
        return r;
    }
    vm->tsc_khz = jit_host_tsc_khz();
    vm->tsc_offset = -x86_host_tsc();
    pthread_mutex_init(&vm->tsc_lock, NULL);
    *ret_vm = vm;
    return 0;
}

static int vm_set_slots(struct accel_vm *vm, const struct accel_slot *slots, unsigned count)
{
    struct mmu_slot *made = calloc(count ? count : 1, sizeof(*made));
    if (!made) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < count; i++) {
        made[i] = (struct mmu_slot){slots[i].gpa, slots[i].bytes, slots[i].host, slots[i].readonly};
    }
    int r = mmu_set_slots(vm->translator, made, count);
    free(made);
    return r;
}

static int vm_set_write_log(struct accel_vm *vm, uint64_t *log, uint64_t bytes)
{
    return device_writes_set_log(vm->translator, log, bytes);
}

static int vm_watch_writes(struct accel_vm *vm, const uint16_t *counter)
{
    return device_writes_watch(vm->translator, counter);
}

static void vm_unwatch_writes(struct accel_vm *vm, const uint16_t *counter)
{
    device_writes_unwatch(vm->translator, counter);
}

static uint32_t vm_tsc_khz(struct accel_vm *vm)
{
    return vm->tsc_khz;
}

/* --- vCPU --------------------------------------------------------------------------------------------------- */

static void vcpu_destroy(struct accel_vcpu *vcpu)
{
    if (!vcpu) {
        return;
    }
    x86_cpu_destroy(vcpu->cpu);
    free(vcpu);
}

static int vcpu_create(struct accel_vm *vm, unsigned index, const struct accel_cpuid *cpuid, unsigned count,
                       struct accel_vcpu **ret_vcpu)
{
    struct accel_vcpu *vcpu = calloc(1, sizeof(*vcpu));
    if (!vcpu) {
        return -ENOMEM;
    }
    vcpu->vm = vm;
    int r = x86_cpu_create(vm->translator, index, &jit_cpu_ops, vm, &vcpu->cpu);
    if (r == 0) {
        r = x86_cpu_set_cpuid(vcpu->cpu, (const struct x86_cpuid_leaf *)cpuid, count, NULL);
    }
    if (r < 0) {
        vcpu_destroy(vcpu);
        return r;
    }
    x86_cpu_reset(vcpu->cpu); /* once more: RDX of the reset state is CPUID's signature */
    vcpu->cpu->tsc_offset = vm->tsc_offset;
    *ret_vcpu = vcpu;
    return 0;
}

static enum accel_exit vcpu_run(struct accel_vcpu *vcpu)
{
    static const enum accel_exit exits[] = {
        [X86_RUN_HLT] = ACCEL_EXIT_HLT,
        [X86_RUN_KICKED] = ACCEL_EXIT_KICKED,
        [X86_RUN_SHUTDOWN] = ACCEL_EXIT_SHUTDOWN,
        [X86_RUN_FATAL] = ACCEL_EXIT_FATAL,
    };
    return exits[x86_run(vcpu->cpu)];
}

static void vcpu_init(struct accel_vcpu *vcpu)
{
    x86_cpu_init_signal(vcpu->cpu);
}

static uint64_t vcpu_tsc(struct accel_vcpu *vcpu)
{
    return x86_host_tsc() + __atomic_load_n(&vcpu->cpu->tsc_offset, __ATOMIC_RELAXED);
}

static bool vcpu_report(struct accel_vcpu *vcpu, const struct host_fault *fault, unsigned part,
                        struct text_buffer *out)
{
    switch (part) {
    case 0:
        report_cpu(vcpu->cpu, fault, out);
        return true;
    case 1:
        report_block(vcpu->cpu, fault, out);
        return true;
    case 2:
        report_vm(vcpu->cpu, out);
        return true;
    default:
        return false;
    }
}

static void vcpu_kick(struct accel_vcpu *vcpu)
{
    engine_request(vcpu->cpu, X86_REQ_KICK);
}

static void vcpu_notify_irq(struct accel_vcpu *vcpu)
{
    engine_request(vcpu->cpu, X86_REQ_IRQ);
}

const struct accel_ops accel_jit_ops = {
    .name = "jit",
    .has_irqchip = false,
    .max_vcpus = JIT_MAX_VCPUS,
    .probe = probe,
    .vm_create = vm_create,
    .vm_destroy = vm_destroy,
    .vm_set_slots = vm_set_slots,
    .vm_set_write_log = vm_set_write_log,
    .vm_watch_writes = vm_watch_writes,
    .vm_unwatch_writes = vm_unwatch_writes,
    .vm_tsc_khz = vm_tsc_khz,
    .cpu_features = x86_supported_features,
    .vcpu_create = vcpu_create,
    .vcpu_destroy = vcpu_destroy,
    .vcpu_run = vcpu_run,
    .vcpu_load = jit_vcpu_load,
    .vcpu_save = jit_vcpu_save,
    .vcpu_init = vcpu_init,
    .vcpu_tsc = vcpu_tsc,
    .vcpu_report = vcpu_report,
    .vcpu_kick = vcpu_kick,
    .vcpu_notify_irq = vcpu_notify_irq,
};
