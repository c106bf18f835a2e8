/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "accel/accel.h"
#include "protocol/base/fd.h"
#include "protocol/base/units.h"
#include "vmm/confine.h"
#include "vmm/console.h"
#include "vmm/crash.h"
#include "vmm/devices.h"
#include "vmm/ram.h"
#include "vmm/vcpus.h"
#include "vmm/x86/boot.h"
#include "vmm/x86/pc.h"

#define WHY_BYTES           512
#define CONSOLE_FLUSH_MS    2000
#define DEFAULT_APIC_HZ     UINT64_C(1000000000)
#define CPUID_LEAF_TSC_FREQ 0x15u

/* What vCPU threads ask of the main thread; bits of machine.events. */
enum {
    EVENT_SHUTDOWN = 1 << 0,
    EVENT_RESET = 1 << 1,
    EVENT_TRIPLE_FAULT = 1 << 2,
    EVENT_FAILED = 1 << 3,
    EVENT_ESCAPE = 1 << 4,      /* Ctrl-] on a terminal */
    EVENT_DEVICE_LOST = 1 << 5, /* devices_report_losses() knows which */
};

struct machine {
    struct options *options;
    const struct accel_ops *ops;
    struct accel_vm *vm;
    struct ram ram;
    struct console *console;
    struct pc *pc;
    struct devices *devices;
    struct vcpus *vcpus;
    struct boot_entry entry;
    int event_fd, signal_fd;
    _Atomic uint32_t events;
    _Atomic bool has_failure;
    char failure[WHY_BYTES]; /* written once, before EVENT_FAILED */
    bool running, ended;
    int exit_status;
};

/* --- events from vCPU threads --- */

static void raise_event(struct machine *machine, uint32_t event)
{
    atomic_fetch_or(&machine->events, event);
    fd_eventfd_signal(machine->event_fd);
}

static void on_power(void *opaque, enum acpi_pm_request request)
{
    struct machine *machine = opaque;

    vcpus_request_park(machine->vcpus);
    raise_event(machine, request == ACPI_PM_SHUTDOWN ? EVENT_SHUTDOWN : EVENT_RESET);
}

static void on_vcpu_init(void *opaque, unsigned cpu)
{
    struct machine *machine = opaque;

    lapic_init(&machine->pc->lapics, cpu);
}

static void on_triple_fault(void *opaque, unsigned cpu)
{
    struct machine *machine = opaque;

    vcpus_request_park(machine->vcpus);
    raise_event(machine, EVENT_TRIPLE_FAULT);
}

static void on_accel_failed(void *opaque, unsigned cpu, const char *why)
{
    struct machine *machine = opaque;

    vcpus_request_park(machine->vcpus);
    if (atomic_exchange(&machine->has_failure, true))
        return;
    snprintf(machine->failure, sizeof(machine->failure), "internal error: %s", why);
    raise_event(machine, EVENT_FAILED);
}

static void on_console_escape(void *opaque)
{
    raise_event(opaque, EVENT_ESCAPE);
}

static void on_device_lost(void *opaque)
{
    raise_event(opaque, EVENT_DEVICE_LOST);
}

/* --- the control channel --- */

static void send_device_event(struct machine *machine, enum vmm_control_kind kind, uint32_t device,
                              uint32_t serial, const char *text)
{
    uint8_t packet[VMM_CONTROL_PACKET_BYTES];
    size_t bytes;

    if (machine->options->control_fd < 0)
        return;
    bytes = vmm_control_encode(kind, device, serial, text, packet);
    if (send(machine->options->control_fd, packet, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("control channel: event dropped: %s", strerror(errno));
}

static void send_event(struct machine *machine, enum vmm_control_kind kind, const char *text)
{
    send_device_event(machine, kind, 0, 0, text);
}

static void end(struct machine *machine, int exit_status)
{
    machine->ended = true;
    machine->exit_status = exit_status;
}

static void panic(struct machine *machine, const char *why)
{
    log_error("%s", why);
    send_event(machine, VMM_CONTROL_EV_PANIC, why);
    end(machine, 1);
}

/* --- start and reset --- */

static void prepare_boot_cpu(void *opaque, struct x86_vcpu_state *state)
{
    struct machine *machine = opaque;

    boot_entry_state(&machine->entry, state);
}

static int load_kernel(struct machine *machine, char *why)
{
    const struct boot_source source = {
        .kernel_fd = machine->options->kernel_fd,
        .initrd_fd = machine->options->initrd_fd,
        .cmdline = machine->options->append,
    };

    return boot_load(&machine->ram, LAYOUT_ROM_BASE, &source, &machine->entry, why, WHY_BYTES);
}

static void reset(struct machine *machine, const char *why)
{
    char error[WHY_BYTES];

    log_info("reset: %s", why);
    vcpus_park(machine->vcpus);
    /* What vCPUs asked for on their way to the stop is the same reset. */
    atomic_fetch_and(&machine->events, EVENT_DEVICE_LOST);
    pc_reset(machine->pc);
    if (ram_clear(&machine->ram) < 0 || load_kernel(machine, error) < 0) {
        panic(machine, "cannot load the kernel again for a reset");
        return;
    }
    vcpus_start(machine->vcpus, prepare_boot_cpu, machine);
    send_event(machine, VMM_CONTROL_EV_RESET, why);
}

static const struct accel_ops *find_accelerator(const char *name)
{
    static const struct accel_ops *const all[] = {&accel_jit_ops};

    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (strcmp(all[i]->name, name) == 0)
            return all[i];
    return NULL;
}

void machine_cpu_help(void)
{
    struct cpu_bits runs;

    find_accelerator("jit")->cpu_features(runs.word);
    cpu_words_help(stdout, &runs);
}

static int create_vm(struct machine *machine, char *why)
{
    const struct options *options = machine->options;
    struct accel_vm_config config = {
        .max_vcpus = options->cpus, .host_ops = &pc_accel_ops, .opaque = machine->pc, .kvm_fd = -1};
    struct accel_slot slots[RAM_REGIONS_MAX + 1];
    int result = machine->ops->vm_create(&config, &machine->vm);

    if (result == 0)
        result = machine->ops->vm_set_slots(machine->vm, slots, pc_slots(machine->pc, &machine->ram, slots));
    if (result < 0)
        snprintf(why, WHY_BYTES, "cannot create the virtual machine: %s", strerror(-result));
    return result;
}

/* The APIC timer runs at the crystal clock that CPUID shows, if it shows one (SDM 3A 11.5.4). */
static int apic_clock(struct machine *machine, uint32_t tsc_khz, uint64_t *ret_hz, char *why)
{
    struct accel_cpu_model_config model = {.model = machine->options->cpu_model,
                                           .vcpus = machine->options->cpus,
                                           .tsc_khz = tsc_khz,
                                           .why = why,
                                           .why_bytes = WHY_BYTES};
    struct accel_cpuid leaves[ACCEL_CPUID_MAX];
    int count = accel_cpu_model(machine->ops, &model, leaves);

    if (count < 0)
        return count;
    *ret_hz = DEFAULT_APIC_HZ;
    for (int i = 0; i < count; i++)
        if (leaves[i].leaf == CPUID_LEAF_TSC_FREQ && leaves[i].ecx)
            *ret_hz = leaves[i].ecx;
    return 0;
}

static int create_board(struct machine *machine, char *why)
{
    const struct console_config console = {
        .in_fd = machine->options->console_in,
        .out_fd = machine->options->console_out,
        .on_escape = on_console_escape,
        .opaque = machine,
    };
    struct pc_config pc = {
        .cpus = machine->options->cpus,
        .ram_bytes = machine->options->memory_bytes,
        .power = on_power,
        .opaque = machine,
    };
    int result = console_create(&console, &machine->console);

    if (result == 0) {
        pc.console = console_uart_host(machine->console);
        result = pc_create(&pc, &machine->pc);
    }
    if (result == 0)
        result = console_bind(machine->console, &machine->pc->com1);
    if (result < 0)
        snprintf(why, WHY_BYTES, "cannot build the machine: %s", strerror(-result));
    return result;
}

static int create_clocks(struct machine *machine, char *why)
{
    uint32_t tsc_khz = machine->ops->vm_tsc_khz(machine->vm);
    uint64_t apic_hz;
    int result = apic_clock(machine, tsc_khz, &apic_hz, why);

    if (result == 0)
        pc_set_clocks(machine->pc, tsc_khz, apic_hz);
    return result;
}

static int create_devices(struct machine *machine, char *why)
{
    const struct devices_config config = {
        .options = machine->options,
        .ram = &machine->ram,
        .pc = machine->pc,
        .ops = machine->ops,
        .vm = machine->vm,
        .noticed = on_device_lost,
        .opaque = machine,
    };
    int result = devices_create(&config, &machine->devices, why, WHY_BYTES);

    if (result == 0)
        pci_host_reset(&machine->pc->pci); /* BARs and registers to where firmware leaves them */
    return result;
}

static int create_vcpus(struct machine *machine, char *why)
{
    const struct vcpus_config config = {
        .ops = machine->ops,
        .vm = machine->vm,
        .count = machine->options->cpus,
        .cpu_model = machine->options->cpu_model,
        .host = {.init = on_vcpu_init,
                 .triple_fault = on_triple_fault,
                 .failed = on_accel_failed,
                 .opaque = machine},
    };
    int result = vcpus_create(&config, &machine->vcpus, why, WHY_BYTES);

    if (result == 0)
        pc_attach(machine->pc, machine->vcpus);
    return result;
}

static int create_ram(struct machine *machine, char *why)
{
    int result =
        ram_init(&machine->ram, fd_steal(&machine->options->memory_fd), machine->options->memory_bytes);

    if (result == -EINVAL)
        snprintf(why, WHY_BYTES, "--memory must be at least %llu MiB and a multiple of 4 KiB",
                 (unsigned long long)(RAM_BYTES_MIN / MIB));
    else if (result == -EPERM)
        snprintf(why, WHY_BYTES,
                 "--memory-fd is no memfd that can be sealed: make it with MFD_ALLOW_SEALING");
    else if (result == -ENXIO)
        snprintf(why, WHY_BYTES, "--memory-fd is smaller than --memory");
    else if (result < 0)
        snprintf(why, WHY_BYTES, "cannot have %llu MiB of guest memory: %s; lower --memory",
                 (unsigned long long)(machine->options->memory_bytes / MIB), strerror(-result));
    return result;
}

static int start(struct machine *machine, char *why)
{
    int result;

    machine->ops = find_accelerator(machine->options->accel);
    if (!machine->ops) {
        snprintf(why, WHY_BYTES, "accelerator '%s' is not built in; take --accel jit",
                 machine->options->accel);
        return -EINVAL;
    }
    result = machine->ops->probe(-1, why, WHY_BYTES);
    if (result == 0)
        result = create_ram(machine, why);
    if (result == 0)
        result = create_board(machine, why);
    if (result == 0)
        result = create_vm(machine, why);
    if (result == 0)
        result = create_clocks(machine, why);
    if (result == 0)
        result = load_kernel(machine, why);
    if (result == 0)
        result = create_devices(machine, why);
    if (result == 0)
        result = create_vcpus(machine, why);
    return result;
}

static void report_ready(struct machine *machine, int result, const char *why)
{
    char line[WHY_BYTES + 16];
    int bytes = result < 0 ? snprintf(line, sizeof(line), "error: %s\n", why)
                           : snprintf(line, sizeof(line), "ready\n");

    if (machine->options->ready_fd >= 0) {
        fd_write_full(machine->options->ready_fd, line, (size_t)bytes);
        fd_close(&machine->options->ready_fd);
    } else if (result < 0) {
        log_error("%s", why);
    }
}

static void destroy(struct machine *machine)
{
    if (machine->pc)
        pc_stop_timers(machine->pc);
    devices_stop(machine->devices);
    vcpus_destroy(machine->vcpus);
    devices_destroy(machine->devices);
    if (machine->vm)
        machine->ops->vm_destroy(machine->vm);
    console_destroy(machine->console, CONSOLE_FLUSH_MS);
    pc_destroy(machine->pc);
    ram_finish(&machine->ram);
    fd_close(&machine->event_fd);
    fd_close(&machine->signal_fd);
}

/* --- main loop --- */

static void report_loss(void *opaque, unsigned index, uint32_t serial, const char *why, bool final)
{
    struct machine *machine = opaque;

    log_warning("device %s: %s; %s", devices_id(machine->devices, index), why,
                final ? "the machine goes on without it" : "its driver waits for a successor");
    send_device_event(machine, final ? VMM_CONTROL_EV_DEVICE_FAILED : VMM_CONTROL_EV_DEVICE_LOST, index,
                      serial, why);
}

/* Takes `fd`. */
static void resume_device(struct machine *machine, const struct vmm_control_message *command, int fd)
{
    unsigned index = command->device;
    char why[WHY_BYTES];

    if (devices_resume(machine->devices, index, command->serial, fd, why, sizeof(why)) < 0) {
        log_warning("device %u: %s", index, why);
        send_device_event(machine, VMM_CONTROL_EV_DEVICE_REFUSED, index, command->serial, why);
        return;
    }
    log_info("device %s: a successor of its server goes on", devices_id(machine->devices, index));
    send_device_event(machine, VMM_CONTROL_EV_DEVICE_RESUMED, index, command->serial, NULL);
}

static void handle_events(struct machine *machine)
{
    uint32_t events;

    fd_eventfd_consume(machine->event_fd);
    events = atomic_exchange(&machine->events, 0);
    if (events & EVENT_DEVICE_LOST)
        devices_report_losses(machine->devices, report_loss, machine);
    if (events & EVENT_FAILED) {
        panic(machine, machine->failure);
    } else if (events & EVENT_SHUTDOWN) {
        log_info("the guest has shut down");
        send_event(machine, VMM_CONTROL_EV_SHUTDOWN, NULL);
        end(machine, 0);
    } else if (events & EVENT_ESCAPE) {
        end(machine, 0);
    } else if (events & EVENT_TRIPLE_FAULT) {
        reset(machine, "triple fault");
    } else if (events & EVENT_RESET) {
        reset(machine, "asked for by the guest");
    }
}

static void handle_command(struct machine *machine)
{
    uint8_t packet[VMM_CONTROL_PACKET_BYTES + 1];
    const struct iovec iov = {.iov_base = packet, .iov_len = sizeof(packet)};
    struct vmm_control_message message;
    cleanup_fd int fd = -1;
    size_t fds = 1;
    ssize_t got = fd_receive(machine->options->control_fd, &iov, 1, &fd, &fds);

    if (got == -EAGAIN || got == -EINTR)
        return;
    if (got <= 0) {
        log_error("the broker is gone: the machine ends");
        end(machine, 1);
        return;
    }
    if (vmm_control_decode(packet, (size_t)got, fds, 0, &message) < 0) {
        panic(machine, "the broker sent a malformed command");
        return;
    }
    switch (message.kind) {
    case VMM_CONTROL_POWER_BUTTON:
        acpi_pm_power_button(&machine->pc->pm);
        break;
    case VMM_CONTROL_RESET:
        reset(machine, "asked for by the broker");
        break;
    case VMM_CONTROL_DEVICE_SOCKET:
        resume_device(machine, &message, fd_steal(&fd));
        break;
    default: /* decode lets nothing else of the broker through but QUIT */
        end(machine, 0);
        break;
    }
}

static void handle_signal(struct machine *machine)
{
    struct signalfd_siginfo info;

    if (read(machine->signal_fd, &info, sizeof(info)) != sizeof(info))
        return;
    log_info("ended by signal %u", info.ssi_signo);
    end(machine, 1);
}

static void serve(struct machine *machine)
{
    while (!machine->ended) {
        struct pollfd fds[3] = {
            {.fd = machine->event_fd, .events = POLLIN},
            {.fd = machine->signal_fd, .events = POLLIN},
            {.fd = machine->options->control_fd, .events = POLLIN}, /* negative: ignored */
        };

        if (poll(fds, ARRAY_LEN(fds), -1) < 0)
            continue;
        if (fds[0].revents)
            handle_events(machine);
        if (fds[1].revents && !machine->ended)
            handle_signal(machine);
        if (fds[2].revents && !machine->ended)
            handle_command(machine);
    }
}

static int open_event_sources(struct machine *machine)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* threads inherit it: only the main loop sees them */
    signal(SIGPIPE, SIG_IGN);
    machine->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (machine->signal_fd < 0)
        return -errno;
    machine->event_fd = fd_eventfd_create();
    return machine->event_fd < 0 ? machine->event_fd : 0;
}

int machine_run(struct options *options)
{
    struct machine *machine = calloc(1, sizeof(*machine));
    char why[WHY_BYTES] = "out of memory";
    int result, exit_status;

    if (!machine) {
        log_error("%s", why);
        return 1;
    }
    machine->options = options;
    machine->ram.fd = machine->event_fd = machine->signal_fd = -1;
    machine->exit_status = 1;
    result = open_event_sources(machine);
    if (result == 0)
        result = crash_init(options->crash_fd, options->control_fd);
    if (result == 0 && options->sandbox)
        result = confine(options, machine->event_fd, machine->signal_fd, why, sizeof(why));
    if (result == 0)
        result = start(machine, why);
    report_ready(machine, result, why);
    if (result == 0) {
        send_event(machine, VMM_CONTROL_EV_RUNNING, NULL);
        vcpus_start(machine->vcpus, prepare_boot_cpu, machine);
        serve(machine);
    }
    exit_status = machine->exit_status;
    destroy(machine);
    free(machine);
    return exit_status;
}
