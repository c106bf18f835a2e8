/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/bulkhead/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "protocol/control_path.h"
#include "protocol/cpu_words.h"

#define CRASH_SHOWN_S (7 * 24 * 3600)

static void reply_free(Bulkhead__Reply **reply)
{
    bulkhead__reply__free_unpacked(*reply, NULL);
}
#define cleanup_reply   __attribute__((cleanup(reply_free)))
#define cleanup_session __attribute__((cleanup(session_close)))

static void machine_free(Bulkhead__Machine **machine)
{
    bulkhead__machine__free_unpacked(*machine, NULL);
}
#define cleanup_machine __attribute__((cleanup(machine_free)))

static Bulkhead__Reply *ask(struct session *session, Bulkhead__Request *request, int *ret_fd,
                            uint64_t *ret_id, GError **error)
{
    *ret_id = session_send(session, request, error);
    return *ret_id ? session_wait(session, *ret_id, ret_fd, error) : NULL;
}

/* The machines that run, of a broker that runs. NULL and no error: there is no broker, so there are none. */
static Bulkhead__Reply *list_machines(struct session *session, GError **error)
{
    gboolean none = FALSE;
    if (!session_open(session, FALSE, &none, error)) {
        return NULL;
    }
    Bulkhead__List list = BULKHEAD__LIST__INIT;
    Bulkhead__Request request = BULKHEAD__REQUEST__INIT;
    request.body_case = BULKHEAD__REQUEST__BODY_LIST;
    request.list = &list;
    uint64_t id;
    return ask(session, &request, NULL, &id, error);
}

/* The machine that the words mean: the one named, or the only one. Returns owned, NULL and an error. */
static char *pick_machine(struct session *session, const char *command, char **words, GError **error)
{
    GError *failure = NULL;
    cleanup_reply Bulkhead__Reply *reply = list_machines(session, &failure);
    if (failure) {
        g_propagate_error(error, failure);
        return NULL;
    }
    size_t count = reply ? reply->list->n_machines : 0;
    if (words[0] && words[1]) {
        cli_fail(error, "%s takes one name; \"%s\" is one too many", command, words[1]);
    } else if (count == 0 && !words[0]) {
        cli_fail(error, "no machine runs; start one with bulkhead run");
    } else if (words[0]) {
        for (size_t i = 0; i < count; i++) {
            if (strcmp(reply->list->machines[i]->name, words[0]) == 0) {
                return g_strdup(words[0]);
            }
        }
        cli_fail(error, "no machine with the name %s runs; bulkhead ps lists them", words[0]);
    } else if (count > 1) {
        cli_fail(error, "%zu machines run: say which one (bulkhead ps lists them)", count);
    } else {
        return g_strdup(reply->list->machines[0]->name);
    }
    return NULL;
}

static int end_status(const Bulkhead__Ended *ended, GError **error)
{
    if (ended->kind == BULKHEAD__END_KIND__END_SHUTDOWN) {
        return CLI_OK;
    }
    cli_fail(error, "%s: %s", ended->name, ended->text);
    return CLI_FAILURE;
}

/* run */

static struct {
    char *kernel, *initrd, *append, *memory, *accel, *cpu;
    int cpus; /* -1: not given */
    char **disks, **nets;
    gboolean detach;
} run_options = {.cpus = -1};

static const GOptionEntry run_entries[] = {
    {"kernel", 0, 0, G_OPTION_ARG_FILENAME, &run_options.kernel,
     "Linux kernel to boot (bzImage or ELF with PVH)", "FILE"},
    {"initrd", 0, 0, G_OPTION_ARG_FILENAME, &run_options.initrd, "Its initial RAM disk", "FILE"},
    {"append", 0, 0, G_OPTION_ARG_STRING, &run_options.append, "Its command line (default: console=ttyS0)",
     "STR"},
    {"cpus", 0, 0, G_OPTION_ARG_INT, &run_options.cpus, "Virtual CPUs (default: up to 4)", "N"},
    {"memory", 0, 0, G_OPTION_ARG_STRING, &run_options.memory,
     "RAM, like 512M or 2G (default: up to 4G, at most half of the host's)", "SIZE"},
    {"disk", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &run_options.disks,
     "A raw disk image or block device; may be repeated", "FILE[,format=raw][,readonly][,ephemeral]"},
    {"net", 0, 0, G_OPTION_ARG_STRING_ARRAY, &run_options.nets,
     "A network card behind user-mode NAT; may be repeated", "user[,publish=[ADDR:]HOSTPORT:GUESTPORT]…"},
    {"accel", 0, 0, G_OPTION_ARG_STRING, &run_options.accel, "What runs the CPUs (default: auto)",
     "auto|kvm|jit"},
    {"cpu", 0, 0, G_OPTION_ARG_STRING, &run_options.cpu, "CPU model and features; 'help' lists them",
     "MODEL[,{+|-}FEATURE]…"},
    {"detach", 'd', 0, G_OPTION_ARG_NONE, &run_options.detach, "Return once it runs; it goes on by itself",
     NULL},
    {NULL}};

static char *or_empty(const char *text)
{
    return g_strdup(text ? text : "");
}

static Bulkhead__Machine *machine_from_options(char **words, GError **error)
{
    cleanup_machine Bulkhead__Machine *machine = g_new(Bulkhead__Machine, 1);
    bulkhead__machine__init(machine);
    if (words[0] && words[1]) {
        cli_fail(error, "run takes one name; \"%s\" is one too many (quote the text of --append)", words[1]);
        return NULL;
    }
    if (run_options.cpus < 1 && run_options.cpus != -1) {
        cli_fail(error, "--cpus %d: use 1 or more", run_options.cpus);
        return NULL;
    }
    machine->name = or_empty(words[0]);
    machine->kernel = run_options.kernel ? words_path(run_options.kernel) : g_strdup("");
    machine->initrd = run_options.initrd ? words_path(run_options.initrd) : g_strdup("");
    machine->append = or_empty(run_options.append);
    machine->accel = or_empty(run_options.accel);
    machine->cpu = or_empty(run_options.cpu);
    machine->cpus = run_options.cpus > 0 ? (uint32_t)run_options.cpus : 0;
    if (run_options.memory && !words_size("--memory", run_options.memory, &machine->memory_bytes, error)) {
        return NULL;
    }
    machine->disks = g_new0(Bulkhead__Disk *, run_options.disks ? g_strv_length(run_options.disks) : 0);
    for (char **word = run_options.disks; word && *word; word++) {
        Bulkhead__Disk *disk = words_disk(*word, error);
        if (!disk) {
            return NULL;
        }
        machine->disks[machine->n_disks++] = disk;
    }
    machine->nets = g_new0(Bulkhead__Net *, run_options.nets ? g_strv_length(run_options.nets) : 0);
    for (char **word = run_options.nets; word && *word; word++) {
        Bulkhead__Net *net = words_net(*word, error);
        if (!net) {
            return NULL;
        }
        machine->nets[machine->n_nets++] = net;
    }
    return g_steal_pointer(&machine);
}

static gboolean release_machine(struct session *session, const char *name, GError **error)
{
    Bulkhead__Release release = BULKHEAD__RELEASE__INIT;
    release.name = (char *)name;
    Bulkhead__Request request = BULKHEAD__REQUEST__INIT;
    request.body_case = BULKHEAD__REQUEST__BODY_RELEASE;
    request.release = &release;
    uint64_t id;
    cleanup_reply Bulkhead__Reply *reply = ask(session, &request, NULL, &id, error);
    return reply != NULL;
}

/* Shows the console until it is over, and turns the end into a status. */
static int show_console(struct session *session, uint64_t id, const char *name, int console_fd,
                        gboolean owner, GError **error)
{
    Bulkhead__Ended *ended = NULL;
    int status = CLI_FAILURE;
    switch (terminal_relay(session, id, name, console_fd, owner, &ended, error)) {
    case TERMINAL_ENDED:
        status = end_status(ended, error);
        if (status == CLI_OK && isatty(STDERR_FILENO)) {
            cli_say("%s: %s", name, ended->text);
        }
        bulkhead__ended__free_unpacked(ended, NULL);
        break;
    case TERMINAL_DETACHED:
        if (owner && !release_machine(session, name, error)) {
            break;
        }
        fputc('\n', stderr);
        cli_say("detached; %s runs on. Attach again: bulkhead console %s", name, name);
        status = CLI_OK;
        break;
    case TERMINAL_SIGNALLED:
        cli_fail(error, "%s: ended by a signal%s", name, owner ? "; the machine is being stopped" : "");
        break;
    case TERMINAL_FAILED:
        break;
    }
    return status;
}

static void say_started(const Bulkhead__Started *started)
{
    g_autofree char *memory = words_show_bytes(started->memory_bytes);
    cli_say("%s: %u CPU%s, %s, accelerator %s (%s)", started->name, started->cpus,
            started->cpus == 1 ? "" : "s", memory, started->accel, started->accel_reason);
    if (run_options.detach) {
        cli_say("%s runs by itself. Its console: bulkhead console %s; its end: bulkhead stop %s",
                started->name, started->name, started->name);
    } else if (isatty(STDIN_FILENO)) {
        cli_say("this terminal is its serial console; Ctrl-] detaches from it");
    }
}

static int run_command(char **words, GError **error)
{
    if (run_options.cpu && strcmp(run_options.cpu, "help") == 0) {
        cpu_words_help(stdout, NULL);
        return CLI_OK;
    }
    cleanup_machine Bulkhead__Machine *machine = machine_from_options(words, error);
    cleanup_session struct session session = {0};
    if (!machine || !session_open(&session, TRUE, NULL, error)) {
        return CLI_FAILURE;
    }
    Bulkhead__Run run = BULKHEAD__RUN__INIT;
    run.machine = machine;
    run.detach = run_options.detach;
    Bulkhead__Request request = BULKHEAD__REQUEST__INIT;
    request.body_case = BULKHEAD__REQUEST__BODY_RUN;
    request.run = &run;
    uint64_t id;
    cleanup_fd int console_fd = -1;
    cleanup_reply Bulkhead__Reply *reply = ask(&session, &request, &console_fd, &id, error);
    if (!reply) {
        return CLI_FAILURE;
    }
    say_started(reply->started);
    if (run_options.detach) {
        printf("%s\n", reply->started->name);
        return CLI_OK;
    }
    if (console_fd < 0) {
        cli_fail(error, "%s: the broker gave no console", reply->started->name);
        return CLI_FAILURE;
    }
    return show_console(&session, id, reply->started->name, fd_steal(&console_fd), TRUE, error);
}

/* ps */

static gboolean ps_json;
static const GOptionEntry ps_entries[] = {
    {"json", 0, 0, G_OPTION_ARG_NONE, &ps_json, "Print a JSON array", NULL}, {NULL}};

static void print_json(const Bulkhead__MachineStatus *machine)
{
    g_autofree char *name = words_json(machine->name);
    printf("{\"name\":%s,\"state\":\"%s\",\"cpus\":%u,\"memory_bytes\":%" PRIu64 ",\"accel\":\"%s\","
           "\"uptime_ms\":%" PRIu64 ",\"resets\":%u,\"consoles\":%u,\"processes\":[",
           name, machine->state, machine->cpus, machine->memory_bytes, machine->accel, machine->uptime_ms,
           machine->resets, machine->consoles);
    for (size_t i = 0; i < machine->n_processes; i++) {
        const Bulkhead__ProcessStatus *process = machine->processes[i];
        g_autofree char *text = words_json(process->text);
        printf("%s{\"name\":\"%s\",\"pid\":%d,\"state\":\"%s\",\"restarts\":%u,\"text\":%s}", i ? "," : "",
               process->name, process->pid, process->state, process->restarts, text);
    }
    printf("]}");
}

static void print_machine(const Bulkhead__MachineStatus *machine, int name_width)
{
    g_autofree char *memory = words_show_bytes(machine->memory_bytes);
    g_autofree char *uptime = words_show_duration(machine->uptime_ms);
    printf("%-*s  %-8s  %4u  %8s  %-5s  %7s ", name_width, machine->name, machine->state, machine->cpus,
           memory, machine->accel, uptime);
    for (size_t i = 0; i < machine->n_processes; i++) {
        const Bulkhead__ProcessStatus *process = machine->processes[i];
        if (process->pid) {
            printf(" %s:%d", process->name, process->pid);
        } else {
            printf(" %s:%s", process->name, process->state);
        }
    }
    printf("\n");
    for (size_t i = 0; i < machine->n_processes; i++) {
        const Bulkhead__ProcessStatus *process = machine->processes[i];
        if (strcmp(process->state, "lost") == 0 || strcmp(process->state, "restarting") == 0) {
            printf("  %s is %s: %s\n", process->name, process->state, process->text);
        } else if (process->restarts > 0) {
            printf("  %s was started again %u time%s\n", process->name, process->restarts,
                   process->restarts == 1 ? "" : "s");
        }
    }
}

/* Reports of machines that failed in the last week: what they were about is not running any more. */
static void print_crashes(void)
{
    char state[PATH_MAX];
    if (control_state_path(state) < 0) {
        return;
    }
    g_autofree char *dir = g_build_filename(state, CONTROL_CRASH_DIR, NULL);
    g_autoptr(GDir) entries = g_dir_open(dir, 0, NULL);
    time_t now = time(NULL);
    for (const char *name; entries && (name = g_dir_read_name(entries));) {
        g_autofree char *path = g_build_filename(dir, name, NULL);
        struct stat st;
        const char *end = g_strrstr(name, "-20"); /* NAME-DATE */
        if (end && g_str_has_suffix(name, ".txt") && stat(path, &st) == 0 && now - st.st_mtime < CRASH_SHOWN_S) {
            printf("crashed: %.*s: report in %s\n", (int)(end - name), name, path);
        }
    }
}

static int ps_command(char **words, GError **error)
{
    if (words[0]) {
        cli_fail(error, "ps takes no names; \"%s\" is one too many", words[0]);
        return CLI_FAILURE;
    }
    cleanup_session struct session session = {0};
    GError *failure = NULL;
    cleanup_reply Bulkhead__Reply *reply = list_machines(&session, &failure);
    if (failure) {
        g_propagate_error(error, failure);
        return CLI_FAILURE;
    }
    size_t count = reply ? reply->list->n_machines : 0;
    if (ps_json) {
        printf("[");
        for (size_t i = 0; i < count; i++) {
            printf("%s", i ? ",\n" : "");
            print_json(reply->list->machines[i]);
        }
        printf("]\n");
        return CLI_OK;
    }
    int name_width = 4;
    for (size_t i = 0; i < count; i++) {
        name_width = MAX(name_width, (int)strlen(reply->list->machines[i]->name));
    }
    printf("%-*s  %-8s  %4s  %8s  %-5s  %7s  %s\n", name_width, "NAME", "STATE", "CPUS", "MEMORY", "ACCEL",
           "UPTIME", "PROCESSES");
    for (size_t i = 0; i < count; i++) {
        print_machine(reply->list->machines[i], name_width);
    }
    print_crashes();
    return CLI_OK;
}

/* stop, kill */

static int stop_timeout_s = 30;
static const GOptionEntry stop_entries[] = {{"timeout", 't', 0, G_OPTION_ARG_INT, &stop_timeout_s,
                                             "Force it off after so long (default: 30)", "SECONDS"},
                                            {NULL}};
static const GOptionEntry no_entries[] = {{NULL}};

/* Sends a request that is answered by the machine's end, and says how it ended. */
static int end_machine(struct session *session, Bulkhead__Request *request, GError **error)
{
    uint64_t id;
    cleanup_reply Bulkhead__Reply *reply = ask(session, request, NULL, &id, error);
    if (!reply) {
        return CLI_FAILURE;
    }
    cli_say("%s: %s", reply->ended->name, reply->ended->text);
    return CLI_OK;
}

static int stop_command(char **words, GError **error)
{
    if (stop_timeout_s < 0 || stop_timeout_s > 86400) {
        cli_fail(error, "--timeout %d: use 0 to 86400 seconds", stop_timeout_s);
        return CLI_FAILURE;
    }
    cleanup_session struct session session = {0};
    g_autofree char *name = pick_machine(&session, "stop", words, error);
    if (!name) {
        return CLI_FAILURE;
    }
    Bulkhead__Stop stop = BULKHEAD__STOP__INIT;
    stop.name = name;
    stop.timeout_ms = (uint32_t)stop_timeout_s * 1000;
    Bulkhead__Request request = BULKHEAD__REQUEST__INIT;
    request.body_case = BULKHEAD__REQUEST__BODY_STOP;
    request.stop = &stop;
    return end_machine(&session, &request, error);
}

static int kill_command(char **words, GError **error)
{
    cleanup_session struct session session = {0};
    g_autofree char *name = pick_machine(&session, "kill", words, error);
    if (!name) {
        return CLI_FAILURE;
    }
    Bulkhead__Kill kill = BULKHEAD__KILL__INIT;
    kill.name = name;
    Bulkhead__Request request = BULKHEAD__REQUEST__INIT;
    request.body_case = BULKHEAD__REQUEST__BODY_KILL;
    request.kill = &kill;
    return end_machine(&session, &request, error);
}

/* console */

static int console_command(char **words, GError **error)
{
    cleanup_session struct session session = {0};
    g_autofree char *name = pick_machine(&session, "console", words, error);
    if (!name) {
        return CLI_FAILURE;
    }
    Bulkhead__Console console = BULKHEAD__CONSOLE__INIT;
    console.name = name;
    Bulkhead__Request request = BULKHEAD__REQUEST__INIT;
    request.body_case = BULKHEAD__REQUEST__BODY_CONSOLE;
    request.console = &console;
    uint64_t id;
    cleanup_fd int console_fd = -1;
    cleanup_reply Bulkhead__Reply *reply = ask(&session, &request, &console_fd, &id, error);
    if (!reply) {
        return CLI_FAILURE;
    }
    if (console_fd < 0) {
        cli_fail(error, "%s: the broker gave no console", name);
        return CLI_FAILURE;
    }
    if (isatty(STDIN_FILENO)) {
        cli_say("the serial console of %s; Ctrl-] detaches from it", name);
    }
    return show_console(&session, id, name, fd_steal(&console_fd), FALSE, error);
}

const struct cli_command cli_commands[] = {
    {"run", "[NAME]", "start a machine; this terminal becomes its console",
     "bulkhead run web --kernel vmlinuz --initrd initrd.img --append \"console=ttyS0 root=/dev/vda\" \\\n"
     "      --disk disk.img --net user,publish=2222:22",
     run_entries, run_command},
    {"ps", "", "list the machines that run, with their processes", "bulkhead ps --json", ps_entries,
     ps_command},
    {"stop", "[NAME]", "press the power button, and force the machine off if that does not help",
     "bulkhead stop web --timeout 60", stop_entries, stop_command},
    {"kill", "[NAME]", "end a machine at once, like pulling its plug", "bulkhead kill web", no_entries,
     kill_command},
    {"console", "[NAME]", "attach this terminal to a machine's serial console", "bulkhead console web",
     no_entries, console_command},
    {NULL}};
