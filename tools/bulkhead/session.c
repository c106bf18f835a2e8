/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/bulkhead/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "protocol/base/program_path.h"
#include "protocol/control_path.h"

#define VERSION         1
#define BROKER_START_MS 20000
#define START_TRIES     3 /* a broker that ends because it is idle may close its door in our face */

/* Forks the broker off, so that it is nobody's child here: in the middle stands a process that ends at once. */
static gboolean fork_broker(const char *program, int ready_fd, GError **error)
{
    g_autofree char *ready_option = g_strdup_printf("--ready-fd=%d", ready_fd);
    pid_t middle = fork();
    if (middle == 0) {
        setsid();
        if (fork() == 0) {
            int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
            dup2(null_fd, STDIN_FILENO);
            dup2(null_fd, STDOUT_FILENO);
            dup2(null_fd, STDERR_FILENO);
            fd_set_cloexec(ready_fd, false);
            execl(program, "bulkheadd", "--log-file", ready_option, NULL);
        }
        _exit(0);
    }
    if (middle < 0) {
        return cli_fail(error, "cannot start the broker: %s", g_strerror(errno));
    }
    waitpid(middle, NULL, 0);
    return TRUE;
}

/* Starts a broker and waits until it, or one that was faster, answers. */
static gboolean start_broker(GError **error)
{
    char program[PATH_MAX];
    if (program_path("bulkheadd", program) < 0) {
        return cli_fail(
            error, "cannot find bulkheadd beside this program or in its libexec folder; is Bulkhead built "
                   "and installed completely?");
    }
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0) {
        return cli_fail(error, "cannot make a pipe: %s", g_strerror(errno));
    }
    cleanup_fd int ready = pair[0];
    cleanup_fd int broker_end = pair[1];
    if (!fork_broker(program, broker_end, error)) {
        return FALSE;
    }
    fd_close(&broker_end);
    char line[512];
    size_t bytes = 0;
    for (;;) {
        struct pollfd pollfd = {.fd = ready, .events = POLLIN};
        int result = poll(&pollfd, 1, BROKER_START_MS);
        if (result == 0) {
            return cli_fail(error, "the broker (%s) did not get ready in %d seconds", program,
                            BROKER_START_MS / 1000);
        }
        ssize_t n = result < 0 ? result : read(ready, line + bytes, sizeof(line) - 1 - bytes);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        bytes += (size_t)n;
    }
    line[bytes] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (strcmp(line, "ready") == 0) {
        return TRUE;
    }
    return cli_fail(error, "the broker (%s) cannot start: %s", program,
                    g_str_has_prefix(line, "error: ") ? line + 7 : "it ended without a word");
}

/* Connects. 0, or -ECONNREFUSED/-ENOENT when there is no broker; other failures set the error. */
static int connect_once(struct session *session, const char *dir, GError **error)
{
    int fd = control_connect(dir);
    if (fd == -ECONNREFUSED || fd == -ENOENT) {
        return fd;
    }
    if (fd < 0) {
        cli_fail(error, "cannot reach the broker at %s/%s: %s", dir, CONTROL_SOCKET_NAME, g_strerror(-fd));
        return fd;
    }
    *session = (struct session){.next_id = 1};
    int result = control_channel_init(&session->channel, fd, true);
    if (result < 0) {
        close(fd);
        cli_fail(error, "out of memory");
        return result;
    }
    Bulkhead__Hello hello = BULKHEAD__HELLO__INIT;
    hello.version = VERSION;
    Bulkhead__Request request = BULKHEAD__REQUEST__INIT;
    request.body_case = BULKHEAD__REQUEST__BODY_HELLO;
    request.hello = &hello;
    uint64_t id = session_send(session, &request, error);
    Bulkhead__Reply *reply = id ? session_wait(session, id, NULL, error) : NULL;
    result = reply ? 0 : -ECONNRESET;
    bulkhead__reply__free_unpacked(reply, NULL);
    if (result < 0) {
        session_close(session);
    }
    return result;
}

gboolean session_open(struct session *session, gboolean start, gboolean *ret_none, GError **error)
{
    char dir[CONTROL_PATH_BYTES], why[CONTROL_WHY_BYTES];
    int dir_fd = control_runtime_open(dir, why);
    if (dir_fd < 0) {
        return cli_fail(error, "%s", why);
    }
    close(dir_fd);
    for (int tries = 0;; tries++) {
        g_clear_error(error);
        int result = connect_once(session, dir, error);
        if (result == 0) {
            return TRUE;
        }
        bool none = result == -ECONNREFUSED || result == -ENOENT;
        if (none && !start) {
            *ret_none = TRUE;
            return FALSE;
        }
        if ((!none && result != -ECONNRESET) || tries == START_TRIES) {
            if (none) {
                cli_fail(error, "the broker ended as soon as it had started; see %s/%s", dir,
                         CONTROL_LOG_NAME);
            }
            return FALSE;
        }
        if (none && !start_broker(error)) {
            return FALSE;
        }
    }
}

void session_close(struct session *session)
{
    control_channel_finish(&session->channel);
}

uint64_t session_send(struct session *session, Bulkhead__Request *request, GError **error)
{
    request->id = session->next_id;
    size_t bytes = bulkhead__request__get_packed_size(request);
    if (bytes > CONTROL_FRAME_BYTES) {
        cli_fail(error, "the request is longer than %u KiB; use fewer words", CONTROL_FRAME_BYTES / 1024);
        return 0;
    }
    g_autofree uint8_t *packed = g_malloc(bytes);
    bulkhead__request__pack(request, packed);
    int result = control_channel_queue(&session->channel, packed, bytes, -1);
    while (result >= 0 && (result = control_channel_flush(&session->channel)) > 0) {
        struct pollfd pollfd = {.fd = session->channel.fd, .events = POLLOUT};
        poll(&pollfd, 1, -1);
    }
    if (result < 0 && result != -EPIPE && result != -ECONNRESET) { /* a closed one shows at the next reply */
        cli_fail(error, "cannot send to the broker: %s", g_strerror(-result));
        return 0;
    }
    return session->next_id++;
}

Bulkhead__Reply *session_receive(struct session *session, int *ret_fd, GError **error)
{
    const uint8_t *payload;
    size_t bytes;
    int result = control_channel_receive(&session->channel, &payload, &bytes, ret_fd);
    if (result == 0) {
        return NULL;
    }
    if (result < 0) {
        cli_fail(error, "lost the broker: %s",
                 result == -ECONNRESET ? "it closed the connection" : g_strerror(-result));
        return NULL;
    }
    Bulkhead__Reply *reply = bulkhead__reply__unpack(NULL, bytes, payload);
    if (!reply) {
        fd_close(ret_fd);
        cli_fail(error, "the broker sent what this command does not understand; are both of one version?");
    }
    return reply;
}

Bulkhead__Reply *session_wait(struct session *session, uint64_t id, int *ret_fd, GError **error)
{
    for (;;) {
        int fd = -1;
        GError *failure = NULL;
        Bulkhead__Reply *reply = session_receive(session, &fd, &failure);
        if (failure) {
            g_propagate_error(error, failure);
            return NULL;
        }
        if (reply && reply->id == id) {
            if (reply->body_case == BULKHEAD__REPLY__BODY_ERROR) {
                cli_fail(error, "%s", reply->error->text);
                fd_close(&fd);
                bulkhead__reply__free_unpacked(reply, NULL);
                return NULL;
            }
            if (ret_fd) {
                *ret_fd = fd;
            } else {
                fd_close(&fd);
            }
            return reply;
        }
        fd_close(&fd);
        bulkhead__reply__free_unpacked(reply, NULL);
        if (!reply) {
            struct pollfd pollfd = {.fd = session->channel.fd, .events = POLLIN};
            poll(&pollfd, 1, -1);
        }
    }
}
