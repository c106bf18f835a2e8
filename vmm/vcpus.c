/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vcpus.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/crash.h"

enum {
    REQUEST_PARK = 1 << 0,
    REQUEST_QUIT = 1 << 1,
    REQUEST_RESET = 1 << 2,
    REQUEST_INIT = 1 << 3,
    REQUEST_STARTUP = 1 << 4,
};

/* MTRRs enabled, write-back by default: what firmware sets on every CPU. A kernel that finds them off does not use the PAT
 * either. */
#define MTRR_DEF_WRITE_BACK 0x806u

struct vcpu {
    struct vcpus *all;
    unsigned index;
    pthread_t thread;
    struct accel_vcpu *accel; /* set before the thread first parks */
    _Atomic uint32_t events;
    _Atomic uint32_t requests;
    _Atomic uint32_t startup_vector;
    _Atomic bool sleeping;
    bool waiting; /* own thread: for SIPI */
    struct x86_vcpu_state reset_state;
};

struct vcpus {
    struct vcpus_config config;
    unsigned started; /* threads */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under lock. */
    unsigned parked;
    unsigned failed; /* threads that ended without a vCPU */
    int create_error;
    uint64_t park_epoch; /* counts starts */
    void (*prepare)(void *opaque, struct x86_vcpu_state *state);
    void *prepare_opaque;
    struct vcpu cpu[];
};

static void sleep_unless_moved(struct vcpu *vcpu, uint32_t seen)
{
    atomic_store(&vcpu->sleeping, true);
    while (atomic_load(&vcpu->events) == seen)
        syscall(SYS_futex, &vcpu->events, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_store(&vcpu->sleeping, false);
}

static void wake(struct vcpu *vcpu)
{
    atomic_fetch_add(&vcpu->events, 1);
    if (atomic_load(&vcpu->sleeping))
        syscall(SYS_futex, &vcpu->events, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void request(struct vcpu *vcpu, uint32_t bits)
{
    atomic_fetch_or(&vcpu->requests, bits);
    wake(vcpu);
    if (vcpu->accel)
        vcpu->all->config.ops->vcpu_kick(vcpu->accel);
}

/* Stays in the parked state until vcpus_start() or quit. */
static void stay_parked(struct vcpu *vcpu)
{
    struct vcpus *all = vcpu->all;

    pthread_mutex_lock(&all->lock);
    uint64_t epoch = all->park_epoch;

    all->parked++;
    pthread_cond_broadcast(&all->changed);
    while (all->park_epoch == epoch && !(atomic_load(&vcpu->requests) & REQUEST_QUIT))
        pthread_cond_wait(&all->changed, &all->lock);
    all->parked--;
    pthread_mutex_unlock(&all->lock);
}

static void go_to_reset(struct vcpu *vcpu)
{
    const struct vcpus_config *config = &vcpu->all->config;
    struct x86_vcpu_state state = vcpu->reset_state;

    if (vcpu->index == 0)
        vcpu->all->prepare(vcpu->all->prepare_opaque, &state);
    vcpu->waiting = vcpu->index != 0;
    config->ops->vcpu_load(vcpu->accel, &state);
}

static void carry_out_init(struct vcpu *vcpu)
{
    const struct vcpus_config *config = &vcpu->all->config;

    /* INIT of the boot processor starts firmware at the reset vector; there is none, so the machine starts
     * again. */
    if (vcpu->index == 0) {
        config->host.triple_fault(config->host.opaque, 0);
        return;
    }
    config->ops->vcpu_init(vcpu->accel);
    config->host.init(config->host.opaque, vcpu->index);
    vcpu->waiting = true;
}

static void carry_out_startup(struct vcpu *vcpu)
{
    const struct vcpus_config *config = &vcpu->all->config;
    uint32_t vector = atomic_load(&vcpu->startup_vector);
    struct x86_vcpu_state state;

    if (!vcpu->waiting)
        return; /* a SIPI to a running CPU is dropped */
    config->ops->vcpu_save(vcpu->accel, &state);
    state.seg[X86_CS].selector = (uint16_t)(vector << 8);
    state.seg[X86_CS].base = vector << 12;
    state.rip = 0;
    state.halted = 0;
    config->ops->vcpu_load(vcpu->accel, &state);
    vcpu->waiting = false;
}

/* True when the vCPU may run on after its requests; false when it shall look again or end. */
static bool handle_requests(struct vcpu *vcpu, bool *ret_quit)
{
    uint32_t requests = atomic_load(&vcpu->requests);

    if (requests == 0)
        return true;
    if (requests & REQUEST_QUIT) {
        *ret_quit = true;
        return false;
    }
    if (requests & REQUEST_PARK) {
        stay_parked(vcpu);
        return false;
    }
    atomic_fetch_and(&vcpu->requests, ~requests);
    if (requests & REQUEST_RESET)
        go_to_reset(vcpu);
    if (requests & REQUEST_INIT)
        carry_out_init(vcpu);
    if (requests & REQUEST_STARTUP)
        carry_out_startup(vcpu);
    return false;
}

/* What crash.h asks. */
static bool report(void *opaque, const struct host_fault *fault, unsigned part, struct text_buffer *out)
{
    struct vcpu *vcpu = opaque;

    return vcpu->accel && vcpu->all->config.ops->vcpu_report(vcpu->accel, fault, part, out);
}

static void fail(struct vcpu *vcpu)
{
    const struct vcpus_config *config = &vcpu->all->config;
    const struct host_fault none = {0};
    struct text_buffer first;
    char text[512];

    text_buffer_init(&first, text, sizeof(text));
    config->ops->vcpu_report(vcpu->accel, &none, 0, &first);
    text[strcspn(text, "\n")] = '\0';
    atomic_fetch_or(&vcpu->requests, REQUEST_PARK);
    crash_report(text);
    config->host.failed(config->host.opaque, vcpu->index, text);
}

static void run_until_quit(struct vcpu *vcpu)
{
    const struct vcpus_config *config = &vcpu->all->config;
    bool quit = false;

    while (!quit) {
        uint32_t seen = atomic_load(&vcpu->events);

        if (!handle_requests(vcpu, &quit))
            continue;
        if (vcpu->waiting) {
            sleep_unless_moved(vcpu, seen);
            continue;
        }
        switch (config->ops->vcpu_run(vcpu->accel)) {
        case ACCEL_EXIT_HLT:
            sleep_unless_moved(vcpu, seen);
            break;
        case ACCEL_EXIT_KICKED:
            break;
        case ACCEL_EXIT_SHUTDOWN:
            atomic_fetch_or(&vcpu->requests, REQUEST_PARK);
            config->host.triple_fault(config->host.opaque, vcpu->index);
            break;
        case ACCEL_EXIT_FATAL:
            fail(vcpu);
            break;
        }
    }
}

static int create_accel(struct vcpu *vcpu)
{
    const struct vcpus_config *config = &vcpu->all->config;
    struct accel_cpu_model_config model = {
        .model = config->cpu_model,
        .vcpus = config->count,
        .apic_id = vcpu->index,
        .tsc_khz = config->ops->vm_tsc_khz(config->vm),
    };
    struct accel_cpuid leaves[ACCEL_CPUID_MAX];
    struct accel_vcpu *accel;
    int count = accel_cpu_model(config->ops, &model, leaves), result;

    if (count < 0)
        return count;
    result = config->ops->vcpu_create(config->vm, vcpu->index, leaves, (unsigned)count, &accel);
    if (result < 0)
        return result;
    result = config->ops->vcpu_save(accel, &vcpu->reset_state);
    if (result < 0) {
        config->ops->vcpu_destroy(accel);
        return result;
    }
    vcpu->reset_state.mtrr_def_type = MTRR_DEF_WRITE_BACK;
    vcpu->accel = accel;
    return 0;
}

static void *vcpu_thread(void *argument)
{
    struct vcpu *vcpu = argument;
    char name[16];
    int result;

    snprintf(name, sizeof(name), "vcpu-%u", vcpu->index);
    prctl(PR_SET_NAME, name, 0UL, 0UL, 0UL);
    result = crash_thread_begin(name, report, vcpu);
    if (result == 0)
        result = create_accel(vcpu);
    if (result < 0) {
        crash_thread_end();
        pthread_mutex_lock(&vcpu->all->lock);
        vcpu->all->create_error = result;
        vcpu->all->failed++;
        pthread_cond_broadcast(&vcpu->all->changed);
        pthread_mutex_unlock(&vcpu->all->lock);
        return NULL;
    }
    run_until_quit(vcpu);
    crash_thread_end();
    vcpu->all->config.ops->vcpu_destroy(vcpu->accel);
    return NULL;
}

static void wait_parked(struct vcpus *vcpus)
{
    pthread_mutex_lock(&vcpus->lock);
    while (vcpus->parked + vcpus->failed < vcpus->started)
        pthread_cond_wait(&vcpus->changed, &vcpus->lock);
    pthread_mutex_unlock(&vcpus->lock);
}

int vcpus_create(const struct vcpus_config *config, struct vcpus **ret_vcpus, char *why, size_t why_bytes)
{
    size_t bytes = sizeof(struct vcpus) + config->count * sizeof(struct vcpu);
    struct vcpus *vcpus = aligned_alloc(_Alignof(struct vcpus), bytes);
    int error = 0;

    if (!vcpus) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    memset(vcpus, 0, bytes);
    vcpus->config = *config;
    pthread_mutex_init(&vcpus->lock, NULL);
    pthread_cond_init(&vcpus->changed, NULL);
    for (unsigned i = 0; i < config->count && !error; i++) {
        struct vcpu *vcpu = &vcpus->cpu[i];

        vcpu->all = vcpus;
        vcpu->index = i;
        atomic_store(&vcpu->requests, REQUEST_PARK);
        error = -pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);
        if (!error)
            vcpus->started++;
    }
    wait_parked(vcpus);
    if (!error)
        error = vcpus->create_error;
    if (error) {
        snprintf(why, why_bytes, "cannot create the vCPUs: %s; check --cpus and --cpu", strerror(-error));
        vcpus_destroy(vcpus);
        return error;
    }
    *ret_vcpus = vcpus;
    return 0;
}

void vcpus_destroy(struct vcpus *vcpus)
{
    if (!vcpus)
        return;
    /* Once all are parked nobody reaches for another's accelerator; then each takes its own down. */
    vcpus_park(vcpus);
    pthread_mutex_lock(&vcpus->lock);
    for (unsigned i = 0; i < vcpus->started; i++)
        atomic_fetch_or(&vcpus->cpu[i].requests, REQUEST_QUIT);
    pthread_cond_broadcast(&vcpus->changed);
    pthread_mutex_unlock(&vcpus->lock);
    for (unsigned i = 0; i < vcpus->started; i++)
        pthread_join(vcpus->cpu[i].thread, NULL);
    pthread_cond_destroy(&vcpus->changed);
    pthread_mutex_destroy(&vcpus->lock);
    free(vcpus);
}

void vcpus_start(struct vcpus *vcpus, void (*prepare)(void *opaque, struct x86_vcpu_state *state),
                 void *opaque)
{
    pthread_mutex_lock(&vcpus->lock);
    vcpus->prepare = prepare;
    vcpus->prepare_opaque = opaque;
    for (unsigned i = 0; i < vcpus->started; i++)
        atomic_store(&vcpus->cpu[i].requests, REQUEST_RESET);
    vcpus->park_epoch++;
    pthread_cond_broadcast(&vcpus->changed);
    pthread_mutex_unlock(&vcpus->lock);
}

void vcpus_request_park(struct vcpus *vcpus)
{
    for (unsigned i = 0; i < vcpus->started; i++)
        request(&vcpus->cpu[i], REQUEST_PARK);
}

void vcpus_park(struct vcpus *vcpus)
{
    vcpus_request_park(vcpus);
    wait_parked(vcpus);
}

void vcpus_notify(struct vcpus *vcpus, unsigned cpu)
{
    struct vcpu *vcpu = &vcpus->cpu[cpu];

    wake(vcpu);
    if (vcpu->accel)
        vcpus->config.ops->vcpu_notify_irq(vcpu->accel);
}

void vcpus_request_init(struct vcpus *vcpus, unsigned cpu)
{
    request(&vcpus->cpu[cpu], REQUEST_INIT);
}

void vcpus_request_startup(struct vcpus *vcpus, unsigned cpu, uint8_t vector)
{
    atomic_store(&vcpus->cpu[cpu].startup_vector, vector);
    request(&vcpus->cpu[cpu], REQUEST_STARTUP);
}

uint64_t vcpus_tsc(struct vcpus *vcpus, unsigned cpu)
{
    return vcpus->config.ops->vcpu_tsc(vcpus->cpu[cpu].accel);
}
