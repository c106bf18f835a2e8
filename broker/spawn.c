/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/base/fd.h"

void spawn_plan_init(struct spawn_plan *plan, const char *program, const char *title)
{
    *plan = (struct spawn_plan){.program = g_strdup(program), .argv = g_ptr_array_new_with_free_func(g_free)};
    g_ptr_array_add(plan->argv, g_strdup(title));
}

void spawn_plan_finish(struct spawn_plan *plan)
{
    g_free(plan->program);
    g_ptr_array_unref(plan->argv);
}

void spawn_plan_add(struct spawn_plan *plan, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_ptr_array_add(plan->argv, g_strdup_vprintf(format, args));
    va_end(args);
}

int spawn_plan_fd(struct spawn_plan *plan, int fd)
{
    g_assert(plan->fd_count < SPAWN_FDS_MAX && fd >= 0);
    plan->fds[plan->fd_count] = fd;
    return SPAWN_FIRST_FD + (int)plan->fd_count++;
}

/* What a child may know of our environment: the loader's and the sanitizers' switches, and our own. */
static char **child_environment(void)
{
    static const char *const names[] = {"LD_LIBRARY_PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS",
                                        "LSAN_OPTIONS"};
    GPtrArray *environment = g_ptr_array_new();
    for (char **e = environ; *e; e++) {
        bool keep = strncmp(*e, "BULKHEAD_", strlen("BULKHEAD_")) == 0;
        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
            size_t n = strlen(names[i]);
            keep = keep || (strncmp(*e, names[i], n) == 0 && (*e)[n] == '=');
        }
        if (keep) {
            g_ptr_array_add(environment, *e);
        }
    }
    g_ptr_array_add(environment, NULL);
    return (char **)g_ptr_array_free(environment, FALSE);
}

/* Puts fds[i] at first + i. All are first moved above every target, so that no target hides a source. */
static int place_fds(int *fds, unsigned count, int first)
{
    for (unsigned i = 0; i < count; i++) {
        fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, first + (int)count);
        if (fds[i] < 0) {
            return -errno;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        if (dup2(fds[i], first + (int)i) < 0) {
            return -errno;
        }
    }
    return 0;
}

/* Between fork and exec: only async-signal-safe calls. Does not return; the errno of a failure goes to error_fd. */
static _Noreturn void child_main(const struct spawn_plan *plan, char **environment, int log_fd, int error_fd,
                                 pid_t broker_pid)
{
    int fds[SPAWN_FIRST_FD + SPAWN_FDS_MAX + 1];
    unsigned count = 0;
    fds[count++] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    fds[count++] = log_fd;
    fds[count++] = log_fd;
    memcpy(fds + count, plan->fds, plan->fd_count * sizeof(int));
    count += plan->fd_count;
    fds[count++] = error_fd; /* becomes the one that stays close-on-exec */

    int error = -place_fds(fds, count, 0);
    if (error == 0) {
        error_fd = (int)count - 1;
        fcntl(error_fd, F_SETFD, FD_CLOEXEC);
        syscall(SYS_close_range, count, ~0u, 0);
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != broker_pid) {
            _exit(1); /* the broker died before the line above */
        }
        for (int i = 1; i < NSIG; i++) {
            signal(i, SIG_DFL);
        }
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        error = chdir("/") < 0 ? errno : 0;
    }
    if (error == 0) {
        execve(plan->program, (char **)plan->argv->pdata, environment);
        error = errno;
    }
    ssize_t n = write(error_fd, &error, sizeof(error));
    _exit(n < 0 ? 126 : 127);
}

int spawn_run(struct spawn_plan *plan, int log_fd, pid_t *ret_pid, int *ret_pidfd)
{
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0) {
        return -errno;
    }
    cleanup_fd int error_read = pair[0];
    cleanup_fd int error_write = pair[1];
    g_ptr_array_add(plan->argv, NULL);
    g_autofree char **environment = child_environment();
    pid_t broker_pid = getpid();
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* no handler of ours may run in the child */
    pid_t pid = fork();
    int fork_error = errno;
    if (pid == 0) {
        child_main(plan, environment, log_fd, error_write, broker_pid);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (pid < 0) {
        return -fork_error;
    }
    setpgid(pid, pid); /* also here: the group must exist before anybody wants to kill it */
    cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    int error = pidfd < 0 ? errno : 0;
    fd_close(&error_write);
    if (error == 0) {
        ssize_t n;
        do {
            n = read(error_read, &error, sizeof(error));
        } while (n < 0 && errno == EINTR);
        if (n != sizeof(error)) {
            error = 0; /* closed by exec */
        }
    }
    if (error) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return -error;
    }
    fcntl(pidfd, F_SETFD, FD_CLOEXEC);
    *ret_pid = pid;
    *ret_pidfd = fd_steal(&pidfd);
    return 0;
}
