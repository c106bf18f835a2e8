/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/vmm/fake_accel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/timer.h"

struct accel_vcpu {
    unsigned index;
    _Atomic bool kicked;
};

struct fake_guest fake_guest;

static int probe(int kvm_fd, char *why, size_t why_bytes)
{
    return 0;
}

static int vm_create(const struct accel_vm_config *config, struct accel_vm **ret_vm)
{
    fake_guest.host = config->host_ops;
    fake_guest.host_opaque = config->opaque;
    *ret_vm = (struct accel_vm *)&fake_guest;
    return 0;
}

static void vm_destroy(struct accel_vm *vm)
{
}

static int vm_set_slots(struct accel_vm *vm, const struct accel_slot *slots, unsigned count)
{
    return 0;
}

static uint32_t vm_tsc_khz(struct accel_vm *vm)
{
    return 1000000; /* one tick per ns */
}

static int vcpu_create(struct accel_vm *vm, unsigned index, const struct accel_cpuid *cpuid, unsigned count,
                       struct accel_vcpu **ret_vcpu)
{
    if (fake_guest.fail_create == index + 1)
        return -ENOMEM;
    *ret_vcpu = calloc(1, sizeof(**ret_vcpu));
    (*ret_vcpu)->index = index;
    return 0;
}

static void vcpu_destroy(struct accel_vcpu *vcpu)
{
    free(vcpu);
}

static enum accel_exit vcpu_run(struct accel_vcpu *vcpu)
{
    if (atomic_exchange(&vcpu->kicked, false))
        return ACCEL_EXIT_KICKED;
    atomic_fetch_add(&fake_guest.runs[vcpu->index], 1);
    return fake_guest.program(&fake_guest, vcpu->index);
}

static int vcpu_load(struct accel_vcpu *vcpu, const struct x86_vcpu_state *state)
{
    fake_guest.state[vcpu->index] = *state;
    return 0;
}

static int vcpu_save(struct accel_vcpu *vcpu, struct x86_vcpu_state *ret_state)
{
    *ret_state = fake_guest.state[vcpu->index];
    return 0;
}

static void vcpu_init(struct accel_vcpu *vcpu)
{
    memset(fake_guest.state[vcpu->index].gpr, 0, sizeof(fake_guest.state[0].gpr));
}

static uint64_t vcpu_tsc(struct accel_vcpu *vcpu)
{
    return timer_now_ns();
}

static bool vcpu_report(struct accel_vcpu *vcpu, const struct host_fault *fault, unsigned part,
                        struct text_buffer *out)
{
    text_append(out, "fake vCPU %u\n", vcpu->index);
    return false;
}

static void vcpu_kick(struct accel_vcpu *vcpu)
{
    atomic_fetch_add(&fake_guest.kicks[vcpu->index], 1);
    atomic_store(&vcpu->kicked, true);
}

static void vcpu_notify_irq(struct accel_vcpu *vcpu)
{
    atomic_fetch_add(&fake_guest.notified[vcpu->index], 1);
}

const struct accel_ops fake_accel_ops = {
    .name = "fake",
    .max_vcpus = 16,
    .probe = probe,
    .vm_create = vm_create,
    .vm_destroy = vm_destroy,
    .vm_set_slots = vm_set_slots,
    .vm_tsc_khz = vm_tsc_khz,
    .vcpu_create = vcpu_create,
    .vcpu_destroy = vcpu_destroy,
    .vcpu_run = vcpu_run,
    .vcpu_load = vcpu_load,
    .vcpu_save = vcpu_save,
    .vcpu_init = vcpu_init,
    .vcpu_tsc = vcpu_tsc,
    .vcpu_report = vcpu_report,
    .vcpu_kick = vcpu_kick,
    .vcpu_notify_irq = vcpu_notify_irq,
};

int accel_cpu_model(const struct accel_ops *ops, const struct accel_cpu_model_config *config,
                    struct accel_cpuid *leaves)
{
    leaves[0] = (struct accel_cpuid){.leaf = 0x15, .eax = 1, .ebx = 1, .ecx = 1000000000};
    return strcmp(config->model, "none") == 0 ? -EINVAL : 1;
}
