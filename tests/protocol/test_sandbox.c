/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every test forks a child that enters a real sandbox and then tries what an attacker would. As root each
 * runs twice: as root and as an ordinary user, because the two enter namespaces by different ways.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/base/sandbox.h"

#define ORDINARY_UID 12345
#define CANNOT_ENTER 99 /* exit status of a child whose sandbox failed */

/* Runs in the sandbox. 0: as it should be; the line number of the failed check else. */
typedef int (*attempt_fn)(void *data);
#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            dprintf(STDERR_FILENO, "# %s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);       \
            return 1;                                                                                        \
        }                                                                                                    \
    } while (0)

static pid_t parent_pid;

static int enter(const struct sandbox_config *config)
{
    char why[SANDBOX_WHY_BYTES] = "";
    struct sandbox *sandbox = NULL;

    int ret = sandbox_prepare(config, &sandbox, why, sizeof why);
    if (ret == 0)
        ret = sandbox_enter(sandbox, why, sizeof why);
    sandbox_destroy(sandbox);
    if (ret != 0)
        dprintf(STDERR_FILENO, "# enter: %d %s\n", ret, why);
    return ret;
}

static void become_ordinary(void)
{
    if (setresgid(ORDINARY_UID, ORDINARY_UID, ORDINARY_UID) < 0 ||
        setresuid(ORDINARY_UID, ORDINARY_UID, ORDINARY_UID) < 0)
        _exit(CANNOT_ENTER);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* as after a normal login and exec */
}

static int run_as(bool ordinary, const struct sandbox_config *config, attempt_fn attempt, void *data)
{
    int status;

    pid_t pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        if (ordinary && geteuid() == 0)
            become_ordinary();
        if (enter(config) < 0)
            _exit(CANNOT_ENTER);
        _exit(attempt(data));
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    return status;
}

static void assert_passes(const struct sandbox_config *config, attempt_fn attempt, void *data)
{
    for (int ordinary = geteuid() != 0; ordinary <= 1; ordinary++) {
        int status = run_as(ordinary, config, attempt, data);
        g_assert_true(WIFEXITED(status));
        g_assert_cmpint(WEXITSTATUS(status), ==, 0);
    }
}

static void assert_killed(const struct sandbox_config *config, attempt_fn attempt, void *data)
{
    for (int ordinary = geteuid() != 0; ordinary <= 1; ordinary++) {
        int status = run_as(ordinary, config, attempt, data);
        g_assert_true(WIFSIGNALED(status));
        g_assert_cmpint(WTERMSIG(status), ==, SIGSYS);
    }
}

static const struct sandbox_config closed = {0};

/* What an attacker has after breaking the filter: the other layers must hold alone. */
static const struct sandbox_syscall open_calls[] = {
    SANDBOX_ALLOW(openat, "attack"),
    SANDBOX_ALLOW(open, "attack"),
    SANDBOX_ALLOW(getdents64, "attack"),
    SANDBOX_ALLOW(socket, "attack"),
    SANDBOX_ALLOW(connect, "attack"),
    SANDBOX_ALLOW(kill, "attack"),
    SANDBOX_ALLOW(ptrace, "attack"),
    SANDBOX_ALLOW(mount, "attack"),
    SANDBOX_ALLOW(setresuid, "attack"),
    SANDBOX_ALLOW(setuid, "attack"),
    SANDBOX_ALLOW(prctl, "attack"),
    SANDBOX_ALLOW(capget, "attack"),
    SANDBOX_ALLOW(mkdir, "attack"),
    SANDBOX_ALLOW(mkdirat, "attack"),
    SANDBOX_ALLOW(getppid, "attack"),
    SANDBOX_ALLOW(chroot, "attack"),
    SANDBOX_ALLOW(getrlimit, "attack"),
    SANDBOX_ALLOW(prlimit64, "attack"),
    SANDBOX_ALLOW(process_vm_readv, "attack"),
};
static const struct sandbox_syscall_set open_set = SANDBOX_SET(open_calls);
static const struct sandbox_syscall_set *const open_sets[] = {&open_set, NULL};

/* If it failed, ordinary code could not run in the cage. */
static int ordinary_work(void *data)
{
    char text[64];
    struct timespec now;

    for (size_t bytes = 16; bytes < 64 << 20; bytes *= 4) {
        volatile char *memory = malloc(bytes);
        CHECK(memory);
        memory[bytes - 1] = 1;
        free((void *)memory);
    }
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    CHECK(snprintf(text, sizeof text, "%f", 1.5) == 8);
    time_t t = 0;
    CHECK(localtime(&t)); /* looks for /etc/localtime */
    CHECK(open("/etc/passwd", O_RDONLY) < 0 && errno == ENOENT);
    CHECK(prctl(PR_SET_NAME, "caged", 0, 0, 0) == 0);
    return 0;
}

static void test_ordinary_work(void)
{
    assert_passes(&closed, ordinary_work, NULL);
}

static void *thread_main(void *data)
{
    *(int *)data = 42;
    return NULL;
}

static int start_thread(void *data)
{
    pthread_t thread;
    int value = 0;

    CHECK(pthread_create(&thread, NULL, thread_main, &value) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(value == 42);
    return 0;
}

/* If it failed, queue threads could not start in the cage, or a cage without them would allow them. */
static void test_threads(void)
{
    static const struct sandbox_syscall_set *const sets[] = {&sandbox_syscalls_threads, NULL};
    const struct sandbox_config threads = {.sets = sets};

    assert_passes(&threads, start_thread, NULL);
    assert_killed(&closed, start_thread, NULL);
}

static int abort_now(void *data)
{
    abort();
}

/* If it failed, a failed assertion would look like an attack. */
static void test_abort(void)
{
    int status = run_as(true, &closed, abort_now, NULL);

    g_assert_true(WIFSIGNALED(status));
    g_assert_cmpint(WTERMSIG(status), ==, SIGABRT);
}

static int raw_call(void *data)
{
    const long *call = data;

    return (int)syscall(call[0], call[1], call[2], call[3], call[4], 0, 0);
}

/* If it failed, a process that an attacker controls could make one of these calls. */
static void test_unlisted_calls_kill(void)
{
    static const char program[] = "/bin/true";
    const long calls[][5] = {
        {SYS_socket, AF_INET, SOCK_STREAM},
        {SYS_socket, AF_UNIX, SOCK_STREAM},
        {SYS_execve, (long)program},
        {SYS_execveat, AT_FDCWD, (long)program},
        {SYS_fork},
        {SYS_vfork},
        {SYS_clone, SIGCHLD},
        {SYS_clone3, 0, 0},
        {SYS_kill, parent_pid, SIGTERM},
        {SYS_tgkill, parent_pid, parent_pid, SIGTERM},
        {SYS_tkill, parent_pid, SIGTERM},
        {SYS_ptrace, PTRACE_ATTACH, parent_pid},
        {SYS_process_vm_readv, parent_pid},
        {SYS_process_vm_writev, parent_pid},
        {SYS_pidfd_open, parent_pid},
        {SYS_mount, (long)"none", (long)"/", (long)"tmpfs"},
        {SYS_umount2, (long)"/"},
        {SYS_pivot_root, (long)".", (long)"."},
        {SYS_chroot, (long)"/"},
        {SYS_unshare, CLONE_NEWUSER},
        {SYS_setns, 0, 0},
        {SYS_setresuid, 0, 0, 0},
        {SYS_setgid, 0},
        {SYS_bpf},
        {SYS_perf_event_open},
        {SYS_keyctl},
        {SYS_add_key},
        {SYS_userfaultfd},
        {SYS_io_uring_setup, 8},
        {SYS_open_by_handle_at},
        {SYS_memfd_create, (long)"x"},
        {SYS_personality, 0xffffffff},
        {SYS_prlimit64},
        {SYS_setrlimit},
        {SYS_prctl, PR_SET_DUMPABLE, 1},
        {SYS_prctl, PR_SET_SECCOMP, 2},
        {SYS_ioctl, 0, TIOCSTI},
        {SYS_fcntl, 0, F_SETOWN, parent_pid},
        {SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS},
        {SYS_mprotect, 0, 4096, PROT_EXEC},
        {SYS_pkey_mprotect, 0, 4096, PROT_EXEC, -1},
        {SYS_shmat},
        {SYS_modify_ldt},
        {SYS_reboot},
        {SYS_openat2, AT_FDCWD},
        {SYS_unlink, (long)"/x"},
        {SYS_rename, (long)"/x", (long)"/y"},
        {0x40000000 | SYS_getpid}, /* the x32 table */
        {-1},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(calls); i++)
        assert_killed(&closed, raw_call, (void *)calls[i]);
}

#ifdef __x86_64__
static int int80_getpid(void *data)
{
    long result;

    __asm__ volatile("int $0x80" : "=a"(result) : "0"(20L) : "memory", "r8", "r9", "r10", "r11");
    return 0;
}

/* If it failed, the numbers of another architecture's table would pass the filter with other meanings. */
static void test_other_architecture(void)
{
    for (int ordinary = geteuid() != 0; ordinary <= 1; ordinary++) {
        int status = run_as(ordinary, &closed, int80_getpid, NULL);
        g_assert_true(WIFSIGNALED(status)); /* SIGSYS, or SIGSEGV from a kernel without the 32-bit entry */
    }
}
#endif

static int look_around(void *data)
{

    CHECK(open("/etc/passwd", O_RDONLY) < 0);
    CHECK(open("/proc/self/mem", O_RDWR) < 0);
    CHECK(open("/../../../etc/passwd", O_RDONLY) < 0);
    CHECK(open("/x", O_RDWR | O_CREAT, 0600) < 0);
    CHECK(open(".", O_RDWR | O_TMPFILE, 0600) < 0);
    CHECK(mkdir("/x", 0700) < 0);
    CHECK(mount("none", "/", "tmpfs", 0, NULL) < 0);
    CHECK(chroot("/") < 0);
    CHECK(!opendir("/")); /* Landlock */
    return 0;
}

static int talk_outside(void *data)
{
    const struct sockaddr_in *listener = data;
    struct sockaddr_un abstract = {.sun_family = AF_UNIX, .sun_path = "\0bulkhead-test"};

    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd < 0 || connect(fd, (const struct sockaddr *)listener, sizeof *listener) < 0);
    int local = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(local < 0 || connect(local, (const struct sockaddr *)&abstract, sizeof abstract) < 0);
    return 0;
}

static int touch_parent(void *data)
{
    char byte;
    struct iovec mine = {&byte, 1}, theirs = {data, 1};

    CHECK(ptrace(PTRACE_ATTACH, parent_pid, NULL, NULL) < 0);
    CHECK(process_vm_readv(parent_pid, &mine, 1, &theirs, 1, 0) < 0);
    CHECK(setresuid(0, 0, 0) < 0 || geteuid() != 0);
    return 0;
}

static int read_identity(void *data)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2];

    CHECK(geteuid() == (uid_t) * (int *)data && getuid() == geteuid());
    CHECK(syscall(SYS_capget, &header, caps) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(!caps[i].effective && !caps[i].permitted && !caps[i].inheritable);
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        CHECK(prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 0);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
    CHECK(prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2);
    return 0;
}

/* If it failed, a hole in the filter would be a hole in the sandbox. */
static void test_layers_under_the_filter(void)
{
    const struct sandbox_config config = {.sets = open_sets};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    char secret = 1;

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(listener, (struct sockaddr *)&address, sizeof address), ==, 0);
    g_assert_cmpint(listen(listener, 1), ==, 0);
    g_assert_cmpint(getsockname(listener, (struct sockaddr *)&address, &length), ==, 0);
    assert_passes(&config, look_around, NULL);
    assert_passes(&config, talk_outside, &address);
    assert_passes(&config, touch_parent, &secret);
    close(listener);

    int uid = geteuid() == 0 ? SANDBOX_DEFAULT_UID : (int)geteuid();
    g_assert_cmpint(run_as(false, &config, read_identity, &uid), ==, 0);
    if (geteuid() == 0) {
        int ordinary = ORDINARY_UID;
        g_assert_cmpint(run_as(true, &config, read_identity, &ordinary), ==, 0);
    }
}

static int use_root_file(void *data)
{
    char text[64] = "";

    int fd = open("/etc/resolv.conf", O_RDONLY);
    CHECK(fd >= 0);
    CHECK(read(fd, text, sizeof text - 1) == 21);
    CHECK(strcmp(text, "nameserver 192.0.2.1\n") == 0);
    CHECK(open("/etc/resolv.conf", O_RDWR) < 0);
    CHECK(open("/etc/passwd", O_RDONLY) < 0);
    return 0;
}

/* If it failed, libraries that must read one file would not find it, or find more. */
static void test_root_file(void)
{
    const struct sandbox_root_file files[] = {{"/etc/resolv.conf", "nameserver 192.0.2.1\n"}};
    const struct sandbox_config config = {.sets = open_sets, .root_files = files, .root_files_count = 1};
    const struct sandbox_root_file bad[] = {{"/../etc/x", "x"}, {"etc", "x"}, {"/a/b/c", "x"}};
    char why[SANDBOX_WHY_BYTES];
    struct sandbox *sandbox;

    assert_passes(&config, use_root_file, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        const struct sandbox_config wrong = {.root_files = &bad[i], .root_files_count = 1};
        g_assert_cmpint(sandbox_prepare(&wrong, &sandbox, why, sizeof why), ==, -EINVAL);
        g_assert_nonnull(strstr(why, bad[i].path));
    }
}

struct fds {
    int kept, lost;
};

static int use_fds(void *data)
{
    const struct fds *fds = data;
    char byte = 0;

    CHECK(write(fds->kept, "k", 1) == 1);
    CHECK(write(fds->lost, "l", 1) < 0 && errno == EBADF);
    CHECK(read(STDIN_FILENO, &byte, 1) == 0); /* /dev/null */
    for (int fd = 3; fd < 300; fd++)
        CHECK(fd == fds->kept || fcntl(fd, F_GETFD) < 0);
    return 0;
}

/* If it failed, an fd that the launcher leaked would be in the hands of an attacker. */
static void test_fds(void)
{
    int kept[2], lost[2];

    g_assert_cmpint(pipe(kept), ==, 0);
    g_assert_cmpint(pipe(lost), ==, 0);
    struct fds fds = {kept[1], lost[1]};
    const struct sandbox_config config = {.keep_fds = &fds.kept, .keep_fds_count = 1};
    assert_passes(&config, use_fds, &fds);
    for (int i = 0; i < 2; i++) {
        close(kept[i]);
        close(lost[i]);
    }
    char why[SANDBOX_WHY_BYTES];
    struct sandbox *sandbox;
    g_assert_cmpint(sandbox_prepare(&config, &sandbox, why, sizeof why), ==, -EBADF);
}

static int read_limits(void *data)
{
    struct rlimit limit;

    CHECK(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0);
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 17 && limit.rlim_max == 17);
    return 0;
}

/* If it failed, limits would be asked for and not be there. */
static void test_rlimits(void)
{
    const struct sandbox_rlimit limits[] = {{RLIMIT_NOFILE, 17}};
    const struct sandbox_config config = {.sets = open_sets, .rlimits = limits, .rlimits_count = 1};

    assert_passes(&config, read_limits, NULL);
}

static int generate_code(void *data)
{
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    return 0;
}

/* If it failed, the translator could not map code, or everything could. */
static void test_exec_memory(void)
{
    static const struct sandbox_syscall_set *const sets[] = {&sandbox_syscalls_exec_memory, NULL};
    const struct sandbox_config config = {.sets = sets};

    assert_passes(&config, generate_code, NULL);
    assert_killed(&closed, generate_code, NULL);
}

static int nothing(void *data)
{
    return 0;
}

/* An outer sandbox that forbids `call` with EPERM, as container run-times do. */
static void forbid(int call)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);

    if (!ctx || seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), call, 0) < 0 || seccomp_load(ctx) < 0)
        _exit(CANNOT_ENTER);
    seccomp_release(ctx);
}

/* Enters under an outer sandbox; checks the result and that `word` is named. */
static void check_degraded(bool no_unshare, bool no_landlock, unsigned flags, int expected, const char *word)
{
    for (int ordinary = geteuid() != 0; ordinary <= 1; ordinary++) {
        int status;
        pid_t pid = fork();
        if (pid == 0) {
            struct sandbox_config config = {.sets = open_sets, .flags = flags};
            struct sandbox *sandbox = NULL;
            char why[SANDBOX_WHY_BYTES] = "";
            if (ordinary && geteuid() == 0)
                become_ordinary();
            if (no_unshare)
                forbid(SCMP_SYS(unshare));
            if (no_landlock)
                forbid(SCMP_SYS(landlock_create_ruleset));
            if (sandbox_prepare(&config, &sandbox, why, sizeof why) < 0)
                _exit(CANNOT_ENTER);
            int ret = sandbox_enter(sandbox, why, sizeof why);
            bool closed_paths = expected < 0 || open("/etc/passwd", O_RDONLY) < 0;
            dprintf(STDERR_FILENO, "# %d %s\n", ret, why);
            _exit(ret == expected && strstr(why, word) && closed_paths ? 0 : 1);
        }
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_cmpint(status, ==, 0);
    }
}

/* If it failed, a missing layer would be silent, or bulkhead could not run in a container at all. */
static void test_missing_layers(void)
{
    if (run_as(true, &(struct sandbox_config){.flags = SANDBOX_STRICT}, nothing, NULL) != 0) {
        g_test_skip("this machine itself lacks a layer (see the line above)");
        return;
    }
    check_degraded(true, false, 0, 1, "namespaces");
    check_degraded(false, true, 0, 1, "Landlock");
    check_degraded(true, true, 0, -EPERM, "Landlock");
    check_degraded(true, false, SANDBOX_STRICT, -EPERM, "namespaces");
}

static void *wait_for_ever(void *data)
{
    char byte;

    if (read(*(int *)data, &byte, 1) < 0)
        return NULL;
    return NULL;
}

/* If it failed, a thread that was there before would run outside of the sandbox. */
static void test_refuses_threads(void)
{
    int status;

    pid_t pid = fork();
    if (pid == 0) {
        pthread_t thread;
        int pipe_fds[2];
        if (pipe(pipe_fds) < 0 || pthread_create(&thread, NULL, wait_for_ever, &pipe_fds[0]) != 0)
            _exit(CANNOT_ENTER);
        _exit(enter(&closed) == -EBUSY ? 0 : 1);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
}

static int call_socket(void *data)
{
    CHECK(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM);
    return 0;
}

/* If it failed, nobody could find out which system call a list lacks. */
static void test_log_mode(void)
{
    char text[1024] = "";
    int pipe_fds[2], status;

    g_assert_cmpint(pipe(pipe_fds), ==, 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipe_fds[1], STDERR_FILENO);
        setenv("BULKHEAD_SANDBOX", "log", 1);
        if (enter(&closed) != 1)
            _exit(CANNOT_ENTER);
        _exit(call_socket(NULL));
    }
    close(pipe_fds[1]);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
    g_assert_cmpint(read(pipe_fds[0], text, sizeof text - 1), >, 0);
    g_assert_nonnull(strstr(text, "socket ("));
    close(pipe_fds[0]);
}

static int wait_for_death(void *data)
{
    const int *fds = data;

    CHECK(write(fds[1], "r", 1) == 1);
    for (;;)
        poll(NULL, 0, -1);
}

/* If it failed, a killed broker would leave its servers behind. */
static void test_parent_death(void)
{
    static const struct sandbox_syscall_set *const sets[] = {&sandbox_syscalls_events, NULL};
    int fds[2], status;
    char byte;

    g_assert_cmpint(pipe(fds), ==, 0);
    const struct sandbox_config config = {
        .sets = sets, .keep_fds = &fds[1], .keep_fds_count = 1, .parent_death_signal = SIGKILL};
    pid_t middle = fork();
    if (middle == 0) {
        run_as(false, &config, wait_for_death, fds);
        _exit(0);
    }
    close(fds[1]);
    g_assert_cmpint(read(fds[0], &byte, 1), ==, 1);
    kill(middle, SIGKILL);
    g_assert_cmpint(waitpid(middle, &status, 0), ==, middle);
    g_assert_cmpint(read(fds[0], &byte, 1), ==, 0); /* the last holder of the write end is gone */
    close(fds[0]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    parent_pid = getpid();
    unsetenv("BULKHEAD_SANDBOX");
    g_test_add_func("/sandbox/ordinary-work", test_ordinary_work);
    g_test_add_func("/sandbox/threads", test_threads);
    g_test_add_func("/sandbox/abort", test_abort);
    g_test_add_func("/sandbox/unlisted-calls-kill", test_unlisted_calls_kill);
#ifdef __x86_64__
    g_test_add_func("/sandbox/other-architecture", test_other_architecture);
#endif
    g_test_add_func("/sandbox/layers-under-the-filter", test_layers_under_the_filter);
    g_test_add_func("/sandbox/root-file", test_root_file);
    g_test_add_func("/sandbox/fds", test_fds);
    g_test_add_func("/sandbox/rlimits", test_rlimits);
    g_test_add_func("/sandbox/exec-memory", test_exec_memory);
    g_test_add_func("/sandbox/missing-layers", test_missing_layers);
    g_test_add_func("/sandbox/refuses-threads", test_refuses_threads);
    g_test_add_func("/sandbox/log-mode", test_log_mode);
    g_test_add_func("/sandbox/parent-death", test_parent_death);
    return g_test_run();
}
