/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkheadd: the broker of one user. See broker.h for what it is; `bulkhead run` starts it where none runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/reason.h"
#include "protocol/base/fd.h"
#include "protocol/base/log.h"

static int option_ready_fd = -1;
static int option_idle_ms = BROKER_IDLE_MS;
static gboolean option_log_file, option_version;

static const GOptionEntry options[] = {
    {"ready-fd", 0, 0, G_OPTION_ARG_INT, &option_ready_fd, "Say \"ready\" or \"error: …\" there once", "N"},
    {"idle-ms", 0, 0, G_OPTION_ARG_INT, &option_idle_ms,
     "End after so long without machine and client (5000)", "MS"},
    {"log-file", 0, 0, G_OPTION_ARG_NONE, &option_log_file, "Log to broker.log in the runtime directory",
     NULL},
    {"version", 0, 0, G_OPTION_ARG_NONE, &option_version, "Print the version", NULL},
    {NULL}};

static void say_ready(const char *line)
{
    if (option_ready_fd >= 0) {
        g_autofree char *text = g_strdup_printf("%s\n", line);
        fd_write_full(option_ready_fd, text, strlen(text));
        fd_close(&option_ready_fd);
    }
}

static int fail(const char *text)
{
    g_autofree char *line = g_strdup_printf("error: %s", text);
    say_ready(line);
    log_error("%s", text);
    return 2;
}

/* Makes the listening socket, unless a broker answers already (-EEXIST). The directory is locked meanwhile. */
static int make_socket(const char *dir, int dir_fd, struct reason *reason)
{
    if (flock(dir_fd, LOCK_EX) < 0) {
        return reason_set(reason, -errno, "cannot lock %s: %s", dir, strerror(errno));
    }
    cleanup_fd int other = control_connect(dir);
    if (other >= 0) {
        flock(dir_fd, LOCK_UN);
        return -EEXIST;
    }
    unlinkat(dir_fd, CONTROL_SOCKET_NAME, 0); /* of one that was killed */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", dir, CONTROL_SOCKET_NAME);
    cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int result = 0;
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 64) < 0) {
        result = reason_set(reason, -errno, "cannot listen on %s: %s; is the file system full?",
                            address.sun_path, strerror(errno));
    }
    flock(dir_fd, LOCK_UN);
    return result < 0 ? result : fd_steal(&fd);
}

/* Sends the log to its file. */
static int open_log(int dir_fd)
{
    cleanup_fd int fd =
        openat(dir_fd, CONTROL_LOG_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || dup2(fd, STDERR_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0) {
        return -errno;
    }
    return 0;
}

/* A machine has up to a few dozen fds: use what the limit allows. */
static void raise_fd_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int serve(void)
{
    char dir[CONTROL_PATH_BYTES], why[CONTROL_WHY_BYTES];
    cleanup_fd int dir_fd = control_runtime_open(dir, why);
    if (dir_fd < 0) {
        return fail(why);
    }
    struct reason reason;
    cleanup_fd int listen_fd = make_socket(dir, dir_fd, &reason);
    if (listen_fd == -EEXIST) {
        say_ready("ready"); /* somebody else was faster, which is as good */
        return 0;
    }
    if (listen_fd < 0) {
        return fail(reason.text);
    }
    if (option_log_file && open_log(dir_fd) < 0) {
        return fail("cannot write its log into the runtime directory; is the file system full?");
    }
    struct broker broker;
    int own_dir_fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
    int result = broker_init(&broker, dir, own_dir_fd, fd_steal(&listen_fd), (uint64_t)option_idle_ms);
    if (result < 0) {
        return fail(strerror(-result));
    }
    say_ready("ready");
    log_info("serves %s (process %d)", dir, getpid());
    broker_run(&broker);
    broker_finish(&broker);
    if (option_log_file) {
        unlinkat(dir_fd, CONTROL_LOG_NAME, 0);
    }
    return 0;
}

int main(int argc, char **argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new("- the broker of Bulkhead");
    g_option_context_add_main_entries(context, options, NULL);
    g_autoptr(GError) error = NULL;
    log_init("bulkheadd", LOG_LEVEL_INFO);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        return fail(error->message);
    }
    if (option_version) {
        g_print("bulkheadd %s\n", BULKHEAD_VERSION);
        return 0;
    }
    if (argc > 1) {
        return fail("takes no arguments; see --help");
    }
    umask(077);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_DUMPABLE, 0); /* its fds are every machine's: no ptrace by others of this uid */
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    raise_fd_limit();
    if (option_ready_fd >= 0) {
        fd_set_cloexec(option_ready_fd, true);
    }
    if (chdir("/") < 0) {
        return fail(strerror(errno));
    }
    return serve();
}
