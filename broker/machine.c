/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/machine.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/crash_report.h"
#include "broker/machine_internal.h"
#include "broker/resource.h"
#include "protocol/base/fd.h"
#include "protocol/base/log.h"
#include "protocol/base/program_path.h"
#include "protocol/vmm_control.h"

#define START_MS         30000 /* from the first process to a ready VMM */
#define END_MS           3000  /* for processes to end by themselves once their sockets are closed */
#define CONTROL_PER_TURN 32    /* messages of one VMM per turn of the loop */

static struct machine_process *machine_vmm(struct machine *machine)
{
    return &machine->processes[0];
}

/* Keeps the first cause. */
static void set_end(struct machine *machine, Bulkhead__EndKind kind, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
static void set_end(struct machine *machine, Bulkhead__EndKind kind, const char *format, ...)
{
    if (machine->end_kind != BULKHEAD__END_KIND__END_UNKNOWN) {
        return;
    }
    machine->end_kind = kind;
    va_list args;
    va_start(args, format);
    vsnprintf(machine->end_text, sizeof(machine->end_text), format, args);
    va_end(args);
    log_info("[%s] %s", machine->spec.name, machine->end_text);
}

static void kill_all(struct machine *machine)
{
    for (unsigned i = 0; i < machine->process_count; i++) {
        process_kill(&machine->processes[i].process);
    }
}

/* Nothing more is expected of it: what does not end by itself is killed when the deadline passes. */
static void machine_end(struct machine *machine)
{
    machine->state = MACHINE_ENDING;
    deadline_set(machine->deadline, END_MS);
}

static void machine_fail(struct machine *machine, const char *text)
{
    set_end(machine, BULKHEAD__END_KIND__END_FAILED, "%s", text);
    if (machine->state == MACHINE_STARTING) {
        kill_all(machine); /* no guest has run: there is nothing to finish */
    }
    process_kill(&machine_vmm(machine)->process);
    machine_end(machine);
}

static void machine_notify(struct machine *machine, enum machine_event event)
{
    g_autofree gpointer *observers =
        g_memdup2(machine->observers->pdata, machine->observers->len * sizeof(gpointer));
    guint count = machine->observers->len;
    for (guint i = 0; i < count; i++) {
        if (g_ptr_array_find(machine->observers, observers[i],
                             NULL)) { /* an earlier one may have taken it off */
            struct machine_observer *observer = observers[i];
            observer->event(observer, event);
        }
    }
}

/* Frees all that a machine holds; its processes must be gone. */
static void machine_free(struct machine *machine)
{
    for (unsigned i = 0; i < machine->process_count; i++) {
        struct machine_process *process = &machine->processes[i];
        process_finish(&process->process);
        recovery_finish(process);
        fd_close(&process->server_fd);
        fd_close(&process->vmm_fd);
    }
    for (unsigned i = 0; i < MACHINE_DISKS_MAX; i++) {
        fd_close(&machine->disks[i].image_fd);
        fd_close(&machine->disks[i].overlay_fd);
    }
    fd_close(&machine->memory_fd);
    fd_close(&machine->crash_fd);
    fd_close(&machine->kernel_fd);
    fd_close(&machine->initrd_fd);
    fd_close(&machine->vmm_console_fd);
    fd_close(&machine->vmm_control_fd);
    watch_destroy(&machine->control);
    console_end(machine->console);
    deadline_destroy(&machine->deadline);
    while (machine->observers->len) {
        machine_unobserve(g_ptr_array_index(machine->observers, 0));
    }
    g_ptr_array_unref(machine->observers);
    g_free(machine->processes);
    machine_spec_finish(&machine->spec);
    g_free(machine);
}

static void machine_gone(struct machine *machine)
{
    struct broker *broker = machine->broker;
    g_ptr_array_remove(broker->machines, machine);
    console_end(g_steal_pointer(&machine->console));
    /* Locks and memory go before anybody hears of the end, so that he may start the machine again at once. */
    for (unsigned i = 0; i < machine->spec.disk_count; i++) {
        fd_close(&machine->disks[i].image_fd);
        fd_close(&machine->disks[i].overlay_fd);
    }
    fd_close(&machine->memory_fd);
    machine_notify(machine, MACHINE_ENDED);
    machine_free(machine);
    broker_look_idle(broker);
}

static void look_gone(struct machine *machine)
{
    if (machine->state != MACHINE_ENDING) {
        return;
    }
    for (unsigned i = 0; i < machine->process_count; i++) {
        if (process_alive(&machine->processes[i].process)) {
            return;
        }
    }
    machine_gone(machine);
}

bool machine_serves(const struct machine *machine)
{
    return machine->state == MACHINE_RUNNING || machine->state == MACHINE_STOPPING;
}

/* The VMM's control channel. */

static void control_message(struct machine *machine, const struct vmm_control_message *message)
{
    switch (message->kind) {
    case VMM_CONTROL_EV_RESET:
        machine->resets++;
        break;
    case VMM_CONTROL_EV_SHUTDOWN:
        set_end(machine, BULKHEAD__END_KIND__END_SHUTDOWN, "the guest shut down");
        machine_end(machine); /* the VMM exits next */
        break;
    case VMM_CONTROL_EV_PANIC:
        set_end(machine, BULKHEAD__END_KIND__END_FAILED, "the machine failed: %s", message->text);
        machine_end(machine);
        break;
    case VMM_CONTROL_EV_DEVICE_LOST:
    case VMM_CONTROL_EV_DEVICE_REFUSED:
    case VMM_CONTROL_EV_DEVICE_FAILED:
    case VMM_CONTROL_EV_DEVICE_RESUMED:
        if (message->device + 1 < machine->process_count && machine_serves(machine)) {
            recovery_vmm_event(&machine->processes[message->device + 1], message);
        }
        break;
    default:
        break;
    }
}

/* Reads up to `limit` messages. */
static void control_read(struct machine *machine, unsigned limit)
{
    while (limit-- && machine->control) {
        uint8_t packet[VMM_CONTROL_PACKET_BYTES + 1]; /* one more, to see what is too long */
        ssize_t n = recv(watch_fd(machine->control), packet, sizeof(packet), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (n <= 0) {
            watch_destroy(&machine->control); /* its pidfd tells the rest */
            return;
        }
        struct vmm_control_message message;
        if (vmm_control_decode(packet, (size_t)n, 0, true, &message) < 0) {
            watch_destroy(&machine->control);
            machine_fail(machine, "bulkhead-vmm sent what is not in vmm_control.h; please report this");
            return;
        }
        control_message(machine, &message);
    }
}

static void control_ready(void *opaque, int events)
{
    struct machine *machine = opaque;
    if (machine->state == MACHINE_STARTING) {
        process_look_ready(&machine_vmm(machine)->process); /* it spoke there first */
    }
    control_read(machine, CONTROL_PER_TURN);
}

static void control_send(struct machine *machine, enum vmm_control_kind kind)
{
    uint8_t packet[VMM_CONTROL_PACKET_BYTES];
    size_t bytes = vmm_control_encode(kind, 0, 0, NULL, packet);
    if (machine->control &&
        send(watch_fd(machine->control), packet, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        log_warning("[%s] cannot send %s to the VMM: %s", machine->spec.name, vmm_control_rule(kind)->name,
                    strerror(errno));
    }
}

/* Starting. */

/* Starts one process of the table and closes what only it should hold. */
int machine_start_process(struct machine_process *process, struct reason *reason)
{
    char program[PATH_MAX];
    int result = program_path(process->kind->program, program);
    if (result < 0) {
        return reason_set(reason, result,
                          "cannot find the program %s (%s); is Bulkhead installed completely?",
                          process->kind->program, strerror(-result));
    }
    g_autofree char *title =
        g_strdup_printf("%s[%s/%s]", process->kind->program, process->machine->spec.name, process->id);
    struct spawn_plan plan;
    spawn_plan_init(&plan, program, title);
    process->kind->plan(process, &plan);
    result = process_start(&process->process, &plan, reason);
    spawn_plan_finish(&plan);
    fd_close(&process->server_fd);
    if (result == 0) {
        log_info("[%s] process %d holds: %s", process->process.name, process->process.pid,
                 process->kind->holds);
    }
    return result;
}

static int start_vmm(struct machine *machine, struct reason *reason)
{
    int result = machine_start_process(machine_vmm(machine), reason);
    fd_close(&machine->vmm_console_fd);
    fd_close(&machine->vmm_control_fd);
    for (unsigned i = 1; i < machine->process_count; i++) {
        fd_close(&machine->processes[i].vmm_fd);
    }
    return result;
}

static bool servers_ready(const struct machine *machine)
{
    for (unsigned i = 1; i < machine->process_count; i++) {
        if (machine->processes[i].process.state != PROCESS_RUNNING) {
            return false;
        }
    }
    return true;
}

/*
 * What a start failure is about, in the words of the command line: the children know fds, people know paths. A line
 * of the VMM that speaks of the initrd or the kernel gets its path. Returns owned, "" or "… : ".
 */
static char *process_subject(const struct machine_process *process, const char *error_text)
{
    const struct machine_spec *spec = &process->machine->spec;
    if (process->kind == &process_kind_blk) {
        return g_strdup_printf("--disk %s: ", spec->disks[process->index].path);
    }
    if (process->kind == &process_kind_net) {
        return g_strdup("--net user: ");
    }
    if (spec->initrd && strstr(error_text, "initrd")) {
        return g_strdup_printf("--initrd %s: ", spec->initrd);
    }
    return strstr(error_text, "kernel") ? g_strdup_printf("--kernel %s: ", spec->kernel) : g_strdup("");
}

static void process_ready(void *opaque, const char *error_text)
{
    struct machine_process *process = opaque;
    struct machine *machine = process->machine;
    if (machine->state != MACHINE_STARTING) {
        if (process != machine_vmm(machine)) {
            recovery_process_ready(process, error_text);
        }
        return;
    }
    if (error_text) {
        g_autofree char *where = process_subject(process, error_text);
        g_autofree char *text = g_strdup_printf("%s%s", where, error_text);
        machine_fail(machine, text);
    } else if (process == machine_vmm(machine)) {
        deadline_clear(machine->deadline);
        machine->state = MACHINE_RUNNING;
        for (unsigned i = 1; i < machine->process_count; i++) {
            recovery_init(&machine->processes[i]);
        }
        machine_notify(machine, MACHINE_STARTED);
    } else if (servers_ready(machine)) {
        struct reason reason;
        if (start_vmm(machine, &reason) < 0) {
            machine_fail(machine, reason.text);
        }
    }
}

/* Whatever the end was said to be: a report that a crash has left is worth telling. */
static void save_crash_report(struct machine *machine)
{
    char path[PATH_MAX];
    int result = crash_report_save(machine->crash_fd, machine->spec.name, path);
    size_t used = strlen(machine->end_text), room = sizeof(machine->end_text) - used;
    if (result > 0) {
        g_snprintf(machine->end_text + used, room, "; crashed: report in %s", path);
        log_error("[%s] crashed: report in %s", machine->spec.name, path);
    } else if (result < 0) {
        log_error("[%s] its crash report cannot be saved in %s: %s", machine->spec.name, path,
                  strerror(-result));
    }
}

static void vmm_ended(struct machine *machine)
{
    control_read(machine, UINT_MAX); /* what it said last */
    watch_destroy(&machine->control);
    set_end(machine, BULKHEAD__END_KIND__END_FAILED, "bulkhead-vmm %s",
            machine_vmm(machine)->process.exit_text);
    save_crash_report(machine);
    machine_end(machine);
}

static void server_ended(struct machine_process *process)
{
    struct machine *machine = process->machine;
    if (machine->state == MACHINE_STARTING) {
        g_autofree char *where = process_subject(process, "");
        g_autofree char *cause = g_strdup_printf("%s%s %s; see broker.log in the runtime directory", where,
                                                 process->kind->program, process->process.exit_text);
        machine_fail(machine, cause);
    } else if (machine_serves(machine)) {
        recovery_process_ended(process);
    }
}

static void process_ended(void *opaque)
{
    struct machine_process *process = opaque;
    struct machine *machine = process->machine;
    if (process == machine_vmm(machine)) {
        vmm_ended(machine);
    } else {
        server_ended(process);
    }
    look_gone(machine);
}

static const struct process_events process_events = {.ready = process_ready, .ended = process_ended};

static void deadline_over(void *opaque)
{
    struct machine *machine = opaque;
    switch (machine->state) {
    case MACHINE_STARTING:
        machine_fail(machine, "its processes did not get ready in 30 seconds; see the broker's log");
        break;
    case MACHINE_STOPPING:
        set_end(machine, BULKHEAD__END_KIND__END_STOPPED,
                "forced off: the guest did not react to the power button");
        process_kill(&machine_vmm(machine)->process);
        machine_end(machine);
        break;
    default:
        kill_all(machine);
        break;
    }
}

/* Resources. */

static bool holds(const struct machine *machine, const struct stat *st)
{
    for (unsigned i = 0; i < machine->spec.disk_count; i++) {
        const struct machine_disk *disk = &machine->disks[i];
        if (disk->image_fd >= 0 && disk->stat.st_dev == st->st_dev && disk->stat.st_ino == st->st_ino) {
            return true;
        }
    }
    return false;
}

static bool find_holder(void *opaque, const struct stat *st, char *name, size_t name_bytes)
{
    const struct machine *self = opaque;
    if (holds(self, st)) {
        g_snprintf(name, name_bytes, "this very machine (another --disk)");
        return true;
    }
    for (guint i = 0; i < self->broker->machines->len; i++) {
        const struct machine *other = g_ptr_array_index(self->broker->machines, i);
        if (holds(other, st)) {
            g_snprintf(name, name_bytes, "machine %s", other->spec.name);
            return true;
        }
    }
    return false;
}

static int open_disks(struct machine *machine, struct reason *reason)
{
    for (unsigned i = 0; i < machine->spec.disk_count; i++) {
        const struct disk_spec *spec = &machine->spec.disks[i];
        struct machine_disk *disk = &machine->disks[i];
        int fd = resource_open_disk(spec, find_holder, machine, &disk->stat, reason);
        if (fd < 0) {
            return fd;
        }
        disk->image_fd = fd;
        if (spec->ephemeral) {
            fd = resource_create_overlay(reason);
            if (fd < 0) {
                return fd;
            }
            disk->overlay_fd = fd;
        }
    }
    return 0;
}

static bool publishes(const struct machine *machine, uint16_t host_port)
{
    for (unsigned i = 0; i < machine->spec.net_count; i++) {
        for (unsigned k = 0; k < machine->spec.nets[i].publish_count; k++) {
            if (machine->spec.nets[i].publish[k].host_port == host_port) {
                return true;
            }
        }
    }
    return false;
}

/* The machine of ours that publishes that port, as " by machine NAME"; "" if none does. */
static void find_publisher(const struct machine *machine, uint16_t host_port, char *text, size_t text_bytes)
{
    text[0] = '\0';
    for (guint i = 0; i < machine->broker->machines->len; i++) {
        const struct machine *other = g_ptr_array_index(machine->broker->machines, i);
        if (publishes(other, host_port)) {
            g_snprintf(text, text_bytes, " by machine %s", other->spec.name);
        }
    }
}

static int check_ports(const struct machine *machine, struct reason *reason)
{
    for (unsigned i = 0; i < machine->spec.net_count; i++) {
        for (unsigned k = 0; k < machine->spec.nets[i].publish_count; k++) {
            const struct publish_spec *publish = &machine->spec.nets[i].publish[k];
            char holder[MACHINE_NAME_BYTES + 16];
            find_publisher(machine, publish->host_port, holder, sizeof(holder));
            int result = resource_check_port(publish, holder, reason);
            if (result < 0) {
                return result;
            }
        }
    }
    return 0;
}

static int open_resources(struct machine *machine, struct reason *reason)
{
    struct machine_spec *spec = &machine->spec;
    machine->kernel_fd = resource_open_boot_file("--kernel", spec->kernel, reason);
    if (machine->kernel_fd < 0) {
        return machine->kernel_fd;
    }
    if (spec->initrd) {
        machine->initrd_fd = resource_open_boot_file("--initrd", spec->initrd, reason);
        if (machine->initrd_fd < 0) {
            return machine->initrd_fd;
        }
    }
    int result = open_disks(machine, reason);
    if (result == 0) {
        result = check_ports(machine, reason);
    }
    if (result == 0) {
        machine->memory_fd = resource_create_memory(spec->memory_bytes, reason);
        result = MIN(machine->memory_fd, 0);
    }
    if (result == 0) {
        machine->crash_fd = resource_create_memfd("bulkhead-crash", VMM_CONTROL_CRASH_BYTES);
        if (machine->crash_fd < 0) {
            result = reason_set(reason, machine->crash_fd, "cannot make room for a crash report: %s; see errno(3)",
                                strerror(-machine->crash_fd));
        }
    }
    return result;
}

static int make_pair(int type, int *ret_ours, int *ret_theirs)
{
    int pair[2];
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) < 0) {
        return -errno;
    }
    *ret_ours = pair[0];
    *ret_theirs = pair[1];
    return 0;
}

int machine_connect_server(struct machine_process *server)
{
    fd_close(&server->vmm_fd);
    fd_close(&server->server_fd);
    return make_pair(SOCK_STREAM, &server->vmm_fd, &server->server_fd);
}

int machine_hand_over(struct machine_process *server, uint32_t serial)
{
    struct machine *machine = server->machine;
    uint8_t packet[VMM_CONTROL_PACKET_BYTES];
    uint32_t device = (uint32_t)(server - machine->processes) - 1;
    const struct iovec iov = {.iov_base = packet,
                              .iov_len = vmm_control_encode(VMM_CONTROL_DEVICE_SOCKET, device, serial, NULL, packet)};
    if (!machine->control) {
        return -ENOTCONN;
    }
    ssize_t sent = fd_send(watch_fd(machine->control), &iov, 1, &server->vmm_fd, 1);
    fd_close(&server->vmm_fd);
    return sent < 0 ? (int)sent : 0;
}

static int make_sockets(struct machine *machine, struct reason *reason)
{
    int ours = -1;
    int result = make_pair(SOCK_SEQPACKET, &ours, &machine->vmm_control_fd);
    if (result == 0) {
        result = watch_create(&machine->broker->loop, ours, UV_READABLE, control_ready, machine,
                              &machine->control);
    }
    if (result == 0) {
        result = make_pair(SOCK_STREAM, &ours, &machine->vmm_console_fd);
    }
    if (result == 0) {
        result = console_create(&machine->broker->loop, ours, &machine->console);
    }
    for (unsigned i = 1; i < machine->process_count && result == 0; i++) {
        result = machine_connect_server(&machine->processes[i]);
    }
    if (result < 0) {
        reason_set(reason, result, "cannot make the machine's sockets: %s; raise the limit on open files",
                   strerror(-result));
    }
    return result;
}

static void add_process(struct machine *machine, const struct process_kind *kind, unsigned index,
                        const char *id)
{
    struct machine_process *process = &machine->processes[machine->process_count++];
    *process = (struct machine_process){
        .machine = machine, .kind = kind, .index = index, .server_fd = -1, .vmm_fd = -1};
    g_strlcpy(process->id, id, sizeof(process->id));
    char name[sizeof(process->process.name)];
    g_snprintf(name, sizeof(name), "%s/%s", machine->spec.name, id);
    process_init(&process->process, &machine->broker->loop, &process_events, process, name);
}

/* The VMM first, then the servers in the order of the VMM's --device options. */
static void add_processes(struct machine *machine)
{
    const struct machine_spec *spec = &machine->spec;
    machine->processes = g_new0(struct machine_process, 1 + spec->disk_count + spec->net_count);
    add_process(machine, &process_kind_vmm, 0, "vmm");
    char id[16];
    for (unsigned i = 0; i < spec->disk_count; i++) {
        g_snprintf(id, sizeof(id), "disk%u", i);
        add_process(machine, &process_kind_blk, i, id);
    }
    for (unsigned i = 0; i < spec->net_count; i++) {
        g_snprintf(id, sizeof(id), "net%u", i);
        add_process(machine, &process_kind_net, i, id);
    }
}

static int start_first(struct machine *machine, struct reason *reason)
{
    if (machine->process_count == 1) {
        return start_vmm(machine, reason);
    }
    int result = 0;
    for (unsigned i = 1; i < machine->process_count && result == 0; i++) {
        result = machine_start_process(&machine->processes[i], reason);
    }
    return result;
}

static bool name_taken(void *opaque, const char *name)
{
    return broker_find(opaque, name) != NULL;
}

static struct machine *machine_new(struct broker *broker)
{
    struct machine *machine = g_new0(struct machine, 1);
    machine->broker = broker;
    machine->memory_fd = machine->kernel_fd = machine->initrd_fd = machine->crash_fd = -1;
    machine->vmm_console_fd = machine->vmm_control_fd = -1;
    for (unsigned i = 0; i < MACHINE_DISKS_MAX; i++) {
        machine->disks[i].image_fd = machine->disks[i].overlay_fd = -1;
    }
    machine->observers = g_ptr_array_new();
    machine->deadline = deadline_create(&broker->loop, deadline_over, machine);
    machine->started_ms = uv_now(&broker->loop);
    return machine;
}

int machine_create(struct broker *broker, const Bulkhead__Machine *wanted, struct reason *reason,
                   struct machine **ret_machine)
{
    struct machine *machine = machine_new(broker);
    int result = machine_spec_init(&machine->spec, wanted, reason);
    if (result == 0 && machine->spec.name[0] && broker_find(broker, machine->spec.name)) {
        result = reason_set(reason, -EEXIST,
                            "a machine with the name %s runs already; choose another name, or stop "
                            "it: bulkhead stop %s",
                            machine->spec.name, machine->spec.name);
    }
    if (result == 0) {
        if (!machine->spec.name[0]) {
            machine_name_generate(machine->spec.name, name_taken, broker);
        }
        result = open_resources(machine, reason);
    }
    if (result == 0) {
        add_processes(machine);
        result = make_sockets(machine, reason);
    }
    if (result == 0) {
        result = start_first(machine, reason);
    }
    if (result < 0) {
        machine_free(machine);
        return result;
    }
    deadline_set(machine->deadline, START_MS);
    g_ptr_array_add(broker->machines, machine);
    *ret_machine = machine;
    return 0;
}

/* What clients ask for. */

void machine_observe(struct machine *machine, struct machine_observer *observer)
{
    observer->machine = machine;
    g_ptr_array_add(machine->observers, observer);
}

void machine_unobserve(struct machine_observer *observer)
{
    if (observer->machine) {
        g_ptr_array_remove(observer->machine->observers, observer);
        observer->machine = NULL;
    }
}

void machine_stop(struct machine *machine, uint32_t timeout_ms)
{
    uint64_t force_at_ms = uv_now(&machine->broker->loop) + timeout_ms;
    if (machine->state == MACHINE_STARTING) {
        machine_fail(machine, "stopped before it had started");
        return;
    }
    if (machine->state == MACHINE_ENDING ||
        (machine->state == MACHINE_STOPPING && machine->force_at_ms <= force_at_ms)) {
        return;
    }
    machine->state = MACHINE_STOPPING;
    machine->force_at_ms = force_at_ms;
    deadline_set(machine->deadline, timeout_ms);
    control_send(machine, VMM_CONTROL_POWER_BUTTON);
}

void machine_kill(struct machine *machine)
{
    set_end(machine, BULKHEAD__END_KIND__END_KILLED, "killed");
    machine_end(machine);
    kill_all(machine);
}

int machine_attach(struct machine *machine, bool from_start)
{
    return machine->console ? console_attach(machine->console, from_start) : -ENXIO;
}

const struct machine_spec *machine_get_spec(const struct machine *machine)
{
    return &machine->spec;
}

Bulkhead__EndKind machine_get_end(const struct machine *machine, const char **ret_text)
{
    *ret_text = machine->end_text;
    return machine->end_kind;
}

static bool is_recovering(const struct machine_process *process)
{
    return process->recovery.deadline && process->recovery.phase != RECOVERY_SERVING;
}

static const char *process_state_name(const struct machine_process *process)
{
    if (is_recovering(process)) {
        return recovery_state_name(process);
    }
    switch (process->process.state) {
    case PROCESS_RUNNING:
        return "running";
    case PROCESS_ENDED:
        return "ended";
    default:
        return "starting";
    }
}

static const char *process_text(const struct machine_process *process)
{
    if (is_recovering(process)) {
        return recovery_text(process);
    }
    if (process->process.state == PROCESS_ENDED) {
        return process->process.exit_text;
    }
    const struct machine_spec *spec = &process->machine->spec;
    if (process->kind == &process_kind_blk) {
        return spec->disks[process->index].path;
    }
    return process->kind == &process_kind_net ? "user" : spec->kernel;
}

void machine_status_init(const struct machine *machine, Bulkhead__MachineStatus *status)
{
    static const char *const states[] = {
        [MACHINE_STARTING] = "starting",
        [MACHINE_RUNNING] = "running",
        [MACHINE_STOPPING] = "stopping",
        [MACHINE_ENDING] = "ending",
    };
    bulkhead__machine_status__init(status);
    status->name = (char *)machine->spec.name;
    status->state = (char *)states[machine->state];
    status->cpus = machine->spec.cpus;
    status->memory_bytes = machine->spec.memory_bytes;
    status->accel = (char *)machine->spec.accel;
    status->uptime_ms = uv_now(&machine->broker->loop) - machine->started_ms;
    status->resets = machine->resets;
    status->consoles = machine->console ? console_viewers(machine->console) : 0;
    status->n_processes = machine->process_count;
    status->processes = g_new(Bulkhead__ProcessStatus *, machine->process_count);
    for (unsigned i = 0; i < machine->process_count; i++) {
        const struct machine_process *process = &machine->processes[i];
        Bulkhead__ProcessStatus *entry = g_new(Bulkhead__ProcessStatus, 1);
        bulkhead__process_status__init(entry);
        entry->name = (char *)process->id;
        entry->pid = process->process.pid;
        entry->state = (char *)process_state_name(process);
        entry->text = g_strdup(process_text(process));
        entry->restarts = process->recovery.restarts;
        status->processes[i] = entry;
    }
}

void machine_status_finish(Bulkhead__MachineStatus *status)
{
    for (size_t i = 0; i < status->n_processes; i++) {
        g_free(status->processes[i]->text);
        g_free(status->processes[i]);
    }
    g_free(status->processes);
}
