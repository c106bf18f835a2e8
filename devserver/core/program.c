/* SPDX-License-Identifier: Apache-2.0 */
#include "devserver/core/program.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "protocol/base/log.h"

static const struct sandbox_syscall program_calls[] = {
    SANDBOX_ALLOW(signalfd4, "SIGTERM and SIGINT as events"),
};
const struct sandbox_syscall_set program_syscalls = SANDBOX_SET(program_calls);

/* A socket file that nobody listens on is left over from a killed process. */
static bool socket_is_stale(const struct sockaddr_un *address)
{
    cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    return fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
           errno == ECONNREFUSED;
}

static int bind_socket(int fd, const struct sockaddr_un *address)
{
    if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
        return 0;
    if (errno != EADDRINUSE || !socket_is_stale(address) || unlink(address->sun_path) < 0)
        return -EADDRINUSE;
    return bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
}

/* Returns a listening socket. A socket file that nobody listens on any more is replaced. */
static int listen_at(const char *path, char *why, size_t why_bytes)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    cleanup_fd int fd = -1;
    int r;

    if (strlen(path) >= sizeof(address.sun_path)) {
        snprintf(why, why_bytes, "the socket path is longer than %zu bytes: use a shorter one",
                 sizeof(address.sun_path) - 1);
        return -ENAMETOOLONG;
    }
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    r = fd < 0 ? -errno : bind_socket(fd, &address);
    if (r == 0 && listen(fd, 1) < 0)
        r = -errno;
    if (r < 0) {
        snprintf(why, why_bytes, "cannot listen on %s: %s%s", path, strerror(-r),
                 r == -EADDRINUSE ? "; another process does, or another file is there: remove it" : "");
        return r;
    }
    return fd_steal(&fd);
}

/* Tells the starter, once: ready if `error` is NULL, else the error, which is also logged. */
static void say_ready(int *ready_fd, const char *error)
{
    char line[LOG_LINE_BYTES_MAX];

    if (error)
        log_error("%s", error);
    if (*ready_fd < 0)
        return;
    snprintf(line, sizeof(line), error ? "error: %.*s\n" : "ready\n", (int)sizeof(line) - 16, error);
    fd_write_full(*ready_fd, line, strlen(line));
    fd_close(ready_fd);
}

/* The loop, its devserver and its signals, while the program serves. */
struct service {
    uv_loop_t loop;
    struct devserver *server;
    uv_poll_t signal_poll;
    int signal_fd;
    void *opaque; /* of the device */
};

static struct service service; /* one per process, because devserver_on_finished() has the device's opaque */

static void service_end(void)
{
    devserver_destroy(service.server, NULL);
    service.server = NULL;
    if (!uv_is_closing((uv_handle_t *)&service.signal_poll))
        uv_close((uv_handle_t *)&service.signal_poll, NULL);
}

static void service_signalled(uv_poll_t *poll, int status, int events)
{
    log_info("told to stop");
    service_end();
}

static void service_finished(void *opaque, int reason)
{
    service_end();
}

static int service_watch_signals(void)
{
    sigset_t signals;
    int r;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    service.signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (service.signal_fd < 0)
        return -errno;
    r = uv_poll_init(&service.loop, &service.signal_poll, service.signal_fd);
    return r < 0 ? r : uv_poll_start(&service.signal_poll, UV_READABLE, service_signalled);
}

int program_serve(struct program_settings *program, struct devserver_config config, char *why,
                  size_t why_bytes)
{
    int r = uv_loop_init(&service.loop);

    if (r < 0) {
        snprintf(why, why_bytes, "cannot make an event loop: %s", strerror(-r));
        return r;
    }
    config.connected_fd = program->connected_fd;
    config.listen_fd = program->listen_fd;
    r = service_watch_signals();
    if (r == 0)
        r = devserver_create(&service.loop, &config, &service.server);
    if (r < 0) {
        snprintf(why, why_bytes, "cannot serve the vhost-user socket: %s", strerror(-r));
        return r;
    }
    devserver_on_finished(service.server, service_finished);
    say_ready(&program->ready_fd, NULL);
    uv_run(&service.loop, UV_RUN_DEFAULT);
    uv_loop_close(&service.loop);
    fd_close(&service.signal_fd);
    return 0;
}

int program_enter_sandbox(const struct program_settings *program, struct sandbox_config config, int *keep_fds,
                          char *why, size_t why_bytes)
{
    const int ours[PROGRAM_SANDBOX_FDS] = {program->connected_fd, program->listen_fd, program->ready_fd};
    struct sandbox *sandbox = NULL;

    if (!program->sandbox)
        return 0;
    for (unsigned i = 0; i < PROGRAM_SANDBOX_FDS; i++) {
        if (ours[i] >= 0)
            keep_fds[config.keep_fds_count++] = ours[i];
    }
    config.keep_fds = keep_fds;
    int r = sandbox_prepare(&config, &sandbox, why, why_bytes);
    if (r == 0)
        r = sandbox_enter(sandbox, why, why_bytes);
    sandbox_destroy(sandbox);
    if (r > 0)
        log_warning("%s", why);
    return r < 0 ? r : 0;
}

/* Everything behind --help and --version. */
static int run(const struct program *program, struct program_settings *common, void *settings, char *why,
               size_t why_bytes)
{
    int r = program->check ? program->check(settings, why, why_bytes) : 0;

    if (r == 0 && common->socket_path) {
        common->listen_fd = listen_at(common->socket_path, why, why_bytes);
        r = common->listen_fd < 0 ? common->listen_fd : 0;
    }
    return r < 0 ? r : program->run(common, settings, why, why_bytes);
}

int program_main(const struct program *program, int argc, char **argv, void *settings)
{
    const struct command_line *line = &program->command_line;
    struct program_settings common;
    char why[SANDBOX_WHY_BYTES] = "";

    log_init(line->program, LOG_LEVEL_INFO);
    int r = command_line_parse(line, argc, argv, &common, settings, why, sizeof(why));
    if (r == 0 && common.help) {
        command_line_print_help(line);
        return EXIT_SUCCESS;
    }
    if (r == 0 && common.version) {
        printf("%s %s\n", line->program, BULKHEAD_VERSION);
        return EXIT_SUCCESS;
    }
    log_set_level(common.log_level);
    if (r == 0)
        r = run(program, &common, settings, why, sizeof(why));
    if (r < 0)
        say_ready(&common.ready_fd, why);
    return r < 0 ? PROGRAM_EXIT_CANNOT_START : EXIT_SUCCESS;
}
