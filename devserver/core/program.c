/* SPDX-License-Identifier: Apache-2.0 */
#include "devserver/core/program.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
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

int program_listen(const char *path, char *why, size_t why_bytes)
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

void program_say_ready(int *ready_fd, const char *error)
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

int program_serve(const struct devserver_config *config, int *ready_fd, char *why, size_t why_bytes)
{
    int r = uv_loop_init(&service.loop);

    if (r < 0) {
        snprintf(why, why_bytes, "cannot make an event loop: %s", strerror(-r));
        return r;
    }
    r = service_watch_signals();
    if (r == 0)
        r = devserver_create(&service.loop, config, &service.server);
    if (r < 0) {
        snprintf(why, why_bytes, "cannot serve the vhost-user socket: %s", strerror(-r));
        return r;
    }
    devserver_on_finished(service.server, service_finished);
    program_say_ready(ready_fd, NULL);
    uv_run(&service.loop, UV_RUN_DEFAULT);
    uv_loop_close(&service.loop);
    fd_close(&service.signal_fd);
    return 0;
}
