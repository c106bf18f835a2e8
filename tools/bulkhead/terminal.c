/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay between this process's stdin and stdout and a console stream.
 *
 * Only what poll(2) says can be done is done, in pieces of one pipe's atomic size, so that a terminal that is halted
 * (Ctrl-S) or a pipe that nobody reads never keeps signals and the broker's messages waiting. What stdout does not
 * take stays in the broker, which bounds it.
 *
 * The bytes go through as they are, in both directions: the guest asks the terminal itself for its size where it
 * wants to know it (a serial line has no other way), and gets the answer as key strokes.
 */
#include "tools/bulkhead/cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "protocol/base/fd.h"

#define DETACH_KEY  0x1d /* Ctrl-] */
#define PIECE_BYTES 4096 /* PIPE_BUF: a poll(2)ed stdout takes that much without blocking */
#define STOP_MS     10000

static struct {
    struct termios before;
    bool raw;
} tty;

static void tty_restore(void)
{
    if (tty.raw) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &tty.before);
        tty.raw = false;
        if (isatty(STDOUT_FILENO)) {
            fputs("\033[m\033[?25h", stdout); /* the guest's colours, and a cursor it may have hidden */
            fflush(stdout);
        }
    }
}

static void tty_make_raw(void)
{
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &tty.before) < 0) {
        return;
    }
    struct termios raw = tty.before;
    cfmakeraw(&raw);
    if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) == 0) {
        tty.raw = true;
        atexit(tty_restore);
    }
}

struct relay {
    struct session *session;
    uint64_t id;
    const char *name;
    gboolean owner;
    int console_fd, signal_fd;
    char in[PIECE_BYTES], out[PIECE_BYTES];
    size_t in_bytes, out_bytes;
    gboolean in_ended, out_ended, detach;
    unsigned signals;
    Bulkhead__Ended *ended;
};

static void read_stdin(struct relay *relay)
{
    ssize_t n = read(STDIN_FILENO, relay->in, sizeof(relay->in));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return;
    }
    if (n <= 0) {
        relay->in_ended = TRUE;
        shutdown(relay->console_fd, SHUT_WR);
        return;
    }
    const char *key = tty.raw ? memchr(relay->in, DETACH_KEY, (size_t)n) : NULL;
    relay->detach = key != NULL;
    relay->in_bytes = key ? (size_t)(key - relay->in) : (size_t)n;
}

static void write_console(struct relay *relay)
{
    ssize_t n = send(relay->console_fd, relay->in, relay->in_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
        relay->in_bytes -= (size_t)n;
        memmove(relay->in, relay->in + n, relay->in_bytes);
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        relay->in_bytes = 0; /* the machine ends */
        relay->in_ended = TRUE;
    }
}

static void read_console(struct relay *relay)
{
    ssize_t n = recv(relay->console_fd, relay->out, sizeof(relay->out), MSG_DONTWAIT);
    if (n > 0) {
        relay->out_bytes = (size_t)n;
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        relay->out_ended = TRUE;
    }
}

static gboolean write_stdout(struct relay *relay, GError **error)
{
    ssize_t n = write(STDOUT_FILENO, relay->out, relay->out_bytes);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR
                   ? TRUE
                   : cli_fail(error, "cannot write to stdout: %s", g_strerror(errno));
    }
    relay->out_bytes -= (size_t)n;
    memmove(relay->out, relay->out + n, relay->out_bytes);
    return TRUE;
}

/* What the broker says meanwhile: only the machine's end matters. */
static gboolean read_session(struct relay *relay, GError **error)
{
    while (!relay->ended) {
        int fd = -1;
        GError *failure = NULL;
        Bulkhead__Reply *reply = session_receive(relay->session, &fd, &failure);
        if (failure) {
            g_propagate_error(error, failure);
            return FALSE;
        }
        if (!reply) {
            return TRUE;
        }
        fd_close(&fd);
        if (reply->id == relay->id && reply->body_case == BULKHEAD__REPLY__BODY_ENDED) {
            relay->ended = g_steal_pointer(&reply->ended);
            reply->body_case = BULKHEAD__REPLY__BODY__NOT_SET;
        }
        bulkhead__reply__free_unpacked(reply, NULL);
    }
    return TRUE;
}

/* A signal: an owner stops the machine, then kills it; others just go. False: leave. */
static gboolean take_signal(struct relay *relay, GError **error)
{
    struct signalfd_siginfo info;
    if (read(relay->signal_fd, &info, sizeof(info)) != sizeof(info)) {
        return TRUE;
    }
    if (!relay->owner || info.ssi_signo == SIGHUP) {
        return FALSE; /* an owner's machine is stopped by the broker once we are gone */
    }
    Bulkhead__Stop stop = BULKHEAD__STOP__INIT;
    Bulkhead__Kill kill = BULKHEAD__KILL__INIT;
    Bulkhead__Request request = BULKHEAD__REQUEST__INIT;
    if (relay->signals++ == 0) {
        cli_say("%s: stopping %s (power button, then force after %d s; once more to force now)\r",
                strsignal((int)info.ssi_signo), relay->name, STOP_MS / 1000);
        stop.name = (char *)relay->name;
        stop.timeout_ms = STOP_MS;
        request.body_case = BULKHEAD__REQUEST__BODY_STOP;
        request.stop = &stop;
    } else {
        kill.name = (char *)relay->name;
        request.body_case = BULKHEAD__REQUEST__BODY_KILL;
        request.kill = &kill;
    }
    return session_send(relay->session, &request, error) != 0;
}

/* One turn. False: the relay is over, with or without an error. */
static gboolean relay_turn(struct relay *relay, GError **error)
{
    bool wants_in = !relay->in_ended && relay->in_bytes == 0;
    struct pollfd polls[] = {
        {wants_in ? STDIN_FILENO : -1, POLLIN, 0},
        {relay->out_bytes ? STDOUT_FILENO : -1, POLLOUT, 0},
        {relay->out_ended && !relay->in_bytes ? -1 : relay->console_fd,
         (short)((relay->in_bytes ? POLLOUT : 0) | (relay->out_bytes || relay->out_ended ? 0 : POLLIN)), 0},
        {relay->ended ? -1 : relay->session->channel.fd, POLLIN, 0},
        {relay->signal_fd, POLLIN, 0},
    };
    if (poll(polls, G_N_ELEMENTS(polls), -1) < 0) {
        return errno == EINTR ? TRUE : cli_fail(error, "poll: %s", g_strerror(errno));
    }
    if (polls[4].revents && !take_signal(relay, error)) {
        return FALSE;
    }
    if (polls[0].revents) {
        read_stdin(relay);
    }
    if (polls[1].revents && !write_stdout(relay, error)) {
        return FALSE;
    }
    if (relay->in_bytes && (polls[2].revents & (POLLOUT | POLLHUP | POLLERR))) {
        write_console(relay);
    }
    if (!relay->out_bytes && !relay->out_ended && (polls[2].revents & (POLLIN | POLLHUP | POLLERR))) {
        read_console(relay);
    }
    if (polls[3].revents && !read_session(relay, error)) {
        return FALSE;
    }
    bool all_out = relay->out_ended && relay->out_bytes == 0;
    return !(relay->detach && relay->in_bytes == 0) && !(relay->ended && all_out);
}

enum terminal_end terminal_relay(struct session *session, uint64_t id, const char *name, int console_fd,
                                 gboolean owner, Bulkhead__Ended **ret_ended, GError **error)
{
    cleanup_fd int own_console_fd = console_fd;
    sigset_t signals, before;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, &before);
    cleanup_fd int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    struct relay relay = {.session = session,
                          .id = id,
                          .name = name,
                          .owner = owner,
                          .console_fd = console_fd,
                          .signal_fd = signal_fd};
    GError *failure = NULL;
    tty_make_raw();
    while (relay_turn(&relay, &failure)) {
    }
    tty_restore();
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (failure) {
        g_propagate_error(error, failure);
        bulkhead__ended__free_unpacked(relay.ended, NULL);
        return TERMINAL_FAILED;
    }
    if (relay.ended) {
        *ret_ended = relay.ended;
        return TERMINAL_ENDED;
    }
    return relay.detach ? TERMINAL_DETACHED : TERMINAL_SIGNALLED;
}
