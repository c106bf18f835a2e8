/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "protocol/base/log.h"

void process_init(struct process *process, uv_loop_t *loop, const struct process_events *events, void *opaque,
                  const char *name)
{
    *process = (struct process){.loop = loop, .events = events, .opaque = opaque};
    g_strlcpy(process->name, name, sizeof(process->name));
}

bool process_alive(const struct process *process)
{
    return process->state == PROCESS_STARTING || process->state == PROCESS_RUNNING;
}

/* The line that a child wrote, without what could drive a terminal or forge a line. */
static void clean_line(char *line)
{
    for (char *c = line; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = '?';
        }
    }
}

static void log_line_complete(struct process *process)
{
    process->log_line[process->log_bytes] = '\0';
    process->log_bytes = 0;
    clean_line(process->log_line);
    if (!process->log_line[0]) {
        return;
    }
    g_strlcpy(process->last_line, process->log_line, sizeof(process->last_line));
    if (process->log_total > PROCESS_LOG_BYTES) {
        return;
    }
    log_info("[%s] %s", process->name, process->log_line);
    process->log_total += strlen(process->log_line) + 1;
    if (process->log_total > PROCESS_LOG_BYTES) {
        log_warning("[%s] has logged %d KiB; the rest is left out", process->name, PROCESS_LOG_BYTES / 1024);
    }
}

/* One bounded read. False at end of file. */
static bool log_read(struct process *process)
{
    char bytes[4096];
    ssize_t n = read(watch_fd(process->log), bytes, sizeof(bytes));
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    for (ssize_t i = 0; i < n; i++) {
        if (bytes[i] != '\n' && process->log_bytes < sizeof(process->log_line) - 1) {
            process->log_line[process->log_bytes++] = bytes[i];
        } else if (bytes[i] == '\n') {
            log_line_complete(process);
        }
    }
    return n > 0;
}

static void log_ready(void *opaque, int events)
{
    struct process *process = opaque;
    if (!log_read(process)) {
        watch_destroy(&process->log);
    }
}

/* The ready pipe: one line, then closed. */
static void ready_complete(struct process *process)
{
    process->ready_line[process->ready_bytes] = '\0';
    watch_destroy(&process->ready);
    char *newline = strchr(process->ready_line, '\n');
    if (!newline) {
        return; /* cut off: its end says the rest */
    }
    *newline = '\0';
    clean_line(process->ready_line);
    process->told_ready = true;
    if (strcmp(process->ready_line, "ready") == 0) {
        process->state = PROCESS_RUNNING;
        process->events->ready(process->opaque, NULL);
    } else {
        const char *text = process->ready_line;
        process->events->ready(process->opaque, g_str_has_prefix(text, "error: ") ? text + 7 : text);
    }
}

/* Reads what the ready pipe has. True when the line is complete, or will never be. */
static bool ready_read(struct process *process)
{
    size_t room = sizeof(process->ready_line) - 1 - process->ready_bytes;
    ssize_t n = read(watch_fd(process->ready), process->ready_line + process->ready_bytes, room);
    if (n < 0) {
        return errno != EAGAIN && errno != EINTR;
    }
    process->ready_bytes += (size_t)n;
    return n == 0 || (size_t)n == room || memchr(process->ready_line, '\n', process->ready_bytes);
}

void process_look_ready(struct process *process)
{
    if (process->ready && ready_read(process)) {
        ready_complete(process);
    }
}

static void ready_ready(void *opaque, int events)
{
    process_look_ready(opaque);
}

/* Kills what is left of its group, then reaps it: the group's number is not re-used before that. */
static void reap(struct process *process)
{
    kill(-process->pid, SIGKILL);
    siginfo_t info = {0};
    int result;
    do {
        result = waitid(P_PID, (id_t)process->pid, &info, WEXITED);
    } while (result < 0 && errno == EINTR);

    char cause[80];
    if (result == 0 && info.si_code == CLD_EXITED) {
        process->exit_status = info.si_status;
        g_snprintf(cause, sizeof(cause), "ended with status %d", info.si_status);
    } else {
        process->exit_status = -1;
        g_snprintf(cause, sizeof(cause), "was ended by signal %d (%s)", info.si_status,
                   strsignal(info.si_status));
    }
    while (process->log && log_read(process) && process->log_total <= PROCESS_LOG_BYTES) {
        int pending = 0;
        if (ioctl(watch_fd(process->log), FIONREAD, &pending) < 0 || pending == 0) {
            break;
        }
    }
    if (process->log_bytes) {
        log_line_complete(process);
    }
    g_snprintf(process->exit_text, sizeof(process->exit_text), "%s%s%s", cause,
               process->last_line[0] ? ": " : "", process->last_line);
    process->pid = 0;
    process->state = PROCESS_ENDED;
    watch_destroy(&process->pidfd);
    watch_destroy(&process->ready);
    watch_destroy(&process->log);
}

static void pidfd_ready(void *opaque, int events)
{
    struct process *process = opaque;
    process_look_ready(process); /* what it said in its last moment comes before its end */
    reap(process);
    process->events->ended(process->opaque);
}

int process_start(struct process *process, struct spawn_plan *plan, struct reason *reason)
{
    int ready[2], log[2];
    if (pipe2(ready, O_CLOEXEC) < 0) {
        return reason_set(reason, -errno, "%s: cannot make a pipe: %s", process->name, strerror(errno));
    }
    cleanup_fd int ready_read_fd = ready[0];
    cleanup_fd int ready_write_fd = ready[1];
    if (pipe2(log, O_CLOEXEC) < 0) {
        return reason_set(reason, -errno, "%s: cannot make a pipe: %s", process->name, strerror(errno));
    }
    cleanup_fd int log_read_fd = log[0];
    cleanup_fd int log_write_fd = log[1];
    spawn_plan_add(plan, "--ready-fd=%d", spawn_plan_fd(plan, ready_write_fd));

    int pidfd;
    int result = spawn_run(plan, log_write_fd, &process->pid, &pidfd);
    if (result < 0) {
        process->pid = 0;
        return reason_set(reason, result, "cannot start %s: %s; is Bulkhead installed completely?",
                          plan->program, strerror(-result));
    }
    process->state = PROCESS_STARTING;
    process->told_ready = false;
    process->ready_bytes = process->log_bytes = 0;
    process->last_line[0] = process->exit_text[0] = '\0';
    result = watch_create(process->loop, pidfd, UV_READABLE, pidfd_ready, process, &process->pidfd);
    if (result == 0) {
        result = watch_create(process->loop, fd_steal(&ready_read_fd), UV_READABLE, ready_ready, process,
                              &process->ready);
    }
    if (result == 0) {
        result = watch_create(process->loop, fd_steal(&log_read_fd), UV_READABLE, log_ready, process,
                              &process->log);
    }
    if (result < 0) {
        process_finish(process);
        return reason_set(reason, result, "%s: cannot watch its process: %s", process->name,
                          strerror(-result));
    }
    return 0;
}

void process_kill(struct process *process)
{
    if (process_alive(process)) {
        kill(process->pid, SIGKILL);
        kill(-process->pid, SIGKILL);
    }
}

void process_finish(struct process *process)
{
    if (process_alive(process)) {
        process_kill(process);
        reap(process);
    }
}
