/* SPDX-License-Identifier: Apache-2.0 */
/* The order of the layers; each layer's own file knows how. See sandbox.h. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "protocol/base/sandbox_internal.h"

#define KEEP_FDS_MAX 1024

#if defined(__SANITIZE_ADDRESS__)
/* The leak check at exit starts a tracer process: not in a sandbox. */
static bool entered;
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return entered;
}
#define NOTE_ENTERED() (entered = true)
#else
#define NOTE_ENTERED() ((void)0)
#endif

struct sandbox {
    struct sandbox_config config; /* what it points to is borrowed */
    struct sandbox_filter filter;
    struct sandbox_landlock landlock;
    struct sandbox_namespaces namespaces;
    int null_fd;
    bool empty_root;
};

int sandbox_fail(char *why, size_t why_bytes, int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, why_bytes, format, args);
    va_end(args);
    return error;
}

static int check_config(const struct sandbox_config *config, char *why, size_t why_bytes)
{
    if (config->keep_fds_count > KEEP_FDS_MAX || config->root_files_count > SANDBOX_ROOT_FILES_MAX)
        return sandbox_fail(why, why_bytes, -E2BIG, "sandbox: too many fds or root files in the description");
    for (size_t i = 0; i < config->keep_fds_count; i++) {
        if (fcntl(config->keep_fds[i], F_GETFD) < 0)
            return sandbox_fail(why, why_bytes, -EBADF, "sandbox: fd %d, which shall be kept, is not open",
                                config->keep_fds[i]);
    }
    for (size_t i = 0; i < config->root_files_count; i++) {
        const struct sandbox_root_file *file = &config->root_files[i];
        const char *slash = file->path[0] == '/' ? strchr(file->path + 1, '/') : NULL;
        if (file->path[0] != '/' || strstr(file->path, "..") || strlen(file->path) >= 64 ||
            (slash && strchr(slash + 1, '/')) || strlen(file->content) > SANDBOX_ROOT_FILE_BYTES_MAX)
            return sandbox_fail(why, why_bytes, -EINVAL, "sandbox: '%s' cannot be a file of the root",
                                file->path);
    }
    return 0;
}

int sandbox_prepare(const struct sandbox_config *config, struct sandbox **ret_sandbox, char *why,
                    size_t why_bytes)
{
    int ret = check_config(config, why, why_bytes);
    if (ret < 0)
        return ret;

    struct sandbox *sandbox = calloc(1, sizeof *sandbox);
    if (!sandbox)
        return sandbox_fail(why, why_bytes, -ENOMEM, "sandbox: no memory");
    sandbox->config = *config;
    sandbox->landlock.ruleset_fd = -1;
    sandbox->namespaces.proc_self_fd = -1;
    sandbox->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (sandbox->null_fd < 0) {
        ret = sandbox_fail(why, why_bytes, -errno, "sandbox: cannot open /dev/null: %s", strerror(errno));
        goto fail;
    }
    ret = sandbox_filter_init(&sandbox->filter, config->sets, why, why_bytes);
    if (ret < 0)
        goto fail;
    sandbox_landlock_init(&sandbox->landlock, !(config->flags & SANDBOX_HOST_NETWORK));
    sandbox_namespaces_init(&sandbox->namespaces, config);
    *ret_sandbox = sandbox;
    return 0;

fail:
    sandbox_destroy(sandbox);
    return ret;
}

void sandbox_destroy(struct sandbox *sandbox)
{
    if (!sandbox)
        return;
    sandbox_filter_finish(&sandbox->filter);
    sandbox_landlock_finish(&sandbox->landlock);
    sandbox_namespaces_finish(&sandbox->namespaces);
    if (sandbox->null_fd >= 0)
        close(sandbox->null_fd);
    free(sandbox);
}

/* unshare() and the credentials are per thread: another one would stay outside. */
static int check_single_thread(const struct sandbox *sandbox, char *why, size_t why_bytes)
{
    struct stat st;

    if (sandbox->namespaces.proc_self_fd < 0 || fstatat(sandbox->namespaces.proc_self_fd, "task", &st, 0) < 0)
        return 0; /* unshare() itself refuses then */
    if (st.st_nlink > 3)
        return sandbox_fail(why, why_bytes, -EBUSY,
                            "sandbox: %u threads run; enter it before the first is started",
                            (unsigned)st.st_nlink - 2);
    return 0;
}

static int compare_ints(const void *a, const void *b)
{
    return *(const int *)a < *(const int *)b ? -1 : *(const int *)a > *(const int *)b;
}

static bool keeps(const struct sandbox_config *config, int fd)
{
    for (size_t i = 0; i < config->keep_fds_count; i++) {
        if (config->keep_fds[i] == fd)
            return true;
    }
    return false;
}

static int close_gap(int first, int last)
{
    if (first > last)
        return 0;
    return syscall(SYS_close_range, (unsigned)first, (unsigned)last, 0) < 0 ? -errno : 0;
}

static int close_fds(const struct sandbox *sandbox, char *why, size_t why_bytes)
{
    const struct sandbox_config *config = &sandbox->config;
    int keep[KEEP_FDS_MAX + 8];
    size_t count = 0;
    int next = STDERR_FILENO + 1, ret = 0;

    for (int fd = STDIN_FILENO; fd <= STDOUT_FILENO; fd++) {
        if (!keeps(config, fd) && dup2(sandbox->null_fd, fd) < 0)
            return sandbox_fail(why, why_bytes, -errno, "sandbox: cannot point fd %d to /dev/null: %s", fd,
                                strerror(errno));
    }
    if (fcntl(STDERR_FILENO, F_GETFD) < 0 && dup2(sandbox->null_fd, STDERR_FILENO) < 0)
        return sandbox_fail(why, why_bytes, -errno, "sandbox: no stderr: %s", strerror(errno));
    for (; count < config->keep_fds_count; count++)
        keep[count] = config->keep_fds[count];
    keep[count++] = sandbox->null_fd;
    keep[count++] = sandbox->landlock.ruleset_fd;
    keep[count++] = sandbox->namespaces.proc_self_fd;
    qsort(keep, count, sizeof keep[0], compare_ints);
    for (size_t i = 0; i < count && ret == 0; i++) {
        if (keep[i] < next)
            continue;
        ret = close_gap(next, keep[i] - 1);
        next = keep[i] + 1;
    }
    if (ret == 0)
        ret = close_gap(next, INT32_MAX);
    if (ret < 0)
        return sandbox_fail(why, why_bytes, ret, "sandbox: close_range: %s (needs Linux 5.9)",
                            strerror(-ret));
    return 0;
}

static int set_rlimits(const struct sandbox_config *config, char *why, size_t why_bytes)
{
    const struct rlimit no_core = {0, 0};

    if (setrlimit(RLIMIT_CORE, &no_core) < 0)
        return sandbox_fail(why, why_bytes, -errno, "sandbox: RLIMIT_CORE: %s", strerror(errno));
    for (size_t i = 0; i < config->rlimits_count; i++) {
        struct rlimit limit = {config->rlimits[i].limit, config->rlimits[i].limit};
        if (setrlimit((__rlimit_resource_t)config->rlimits[i].resource, &limit) < 0)
            return sandbox_fail(why, why_bytes, -errno,
                                "sandbox: resource limit %d of %llu: %s (start it with a higher hard limit)",
                                config->rlimits[i].resource, (unsigned long long)limit.rlim_cur,
                                strerror(errno));
    }
    return 0;
}

/* Root without CAP_SETUID and CAP_SETGID (in a container, or inside the user namespace) stays that root. */
static int drop_identity(const struct sandbox *sandbox, char *why, size_t why_bytes)
{
    uid_t uid = sandbox->config.uid ? sandbox->config.uid : SANDBOX_DEFAULT_UID;
    gid_t gid = sandbox->config.gid ? sandbox->config.gid : SANDBOX_DEFAULT_UID;

    if (geteuid() != 0 || sandbox->namespaces.use_user)
        return 0;
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return sandbox_fail(why, why_bytes, -errno, "sandbox: cannot become uid %u, gid %u: %s", uid, gid,
                            strerror(errno));
    return 0;
}

/* The bounding set needs CAP_SETPCAP, so it goes before the identity does. */
static int drop_bounding_set(char *why, size_t why_bytes)
{
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0)
            continue;
        if (errno == EPERM)
            return 0; /* an ordinary user without a user namespace: no_new_privs makes the set void */
        return sandbox_fail(why, why_bytes, -errno,
                            "sandbox: cannot drop capability %d from the bounding set: %s", cap,
                            strerror(errno));
    }
    return 0;
}

static int drop_capabilities(char *why, size_t why_bytes)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

    if (syscall(SYS_capset, &header, none) < 0)
        return sandbox_fail(why, why_bytes, -errno, "sandbox: cannot drop capabilities: %s", strerror(errno));
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return sandbox_fail(why, why_bytes, -errno, "sandbox: cannot clear ambient capabilities: %s",
                            strerror(errno));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return sandbox_fail(why, why_bytes, -errno, "sandbox: no_new_privs: %s", strerror(errno));
    return 0;
}

/* Layers 2 and 3. Their absence is remembered, not fatal yet. */
static void enter_namespaces(struct sandbox *sandbox, char *missing, size_t missing_bytes)
{
    const struct sandbox_config *config = &sandbox->config;

    int ret = sandbox_namespaces_enter(&sandbox->namespaces, missing, missing_bytes);
    if (ret == 0)
        ret = sandbox_empty_root_enter(config->root_files, config->root_files_count, missing, missing_bytes);
    sandbox->empty_root = ret == 0;
    sandbox_namespaces_finish(&sandbox->namespaces);
}

static int enter_landlock(struct sandbox *sandbox, char *missing, size_t missing_bytes)
{
    struct sandbox_landlock *landlock = &sandbox->landlock;
    int ret = -landlock->missing_errno;

    for (size_t i = 0; ret == 0 && i < sandbox->config.root_files_count; i++) {
        ret = sandbox_landlock_allow_read(landlock, sandbox->config.root_files[i].path);
        if (ret == -ENOENT && !sandbox->empty_root)
            ret = 0; /* the host has no such file either */
    }
    if (ret == 0)
        ret = sandbox_landlock_enter(landlock);
    sandbox_landlock_finish(landlock);
    if (ret < 0)
        sandbox_fail(
            missing, missing_bytes, ret,
            "no Landlock: %s (use Linux 5.13 or later with 'landlock' in the kernel parameter lsm=, and an "
            "outer sandbox that permits it)",
            strerror(-ret));
    return ret;
}

static int finish_identity(const struct sandbox *sandbox, char *why, size_t why_bytes)
{
    /* Changes of identity have cleared the signal and may have changed dumpable, so both come after them. */
    if (sandbox->config.parent_death_signal &&
        prctl(PR_SET_PDEATHSIG, (unsigned long)sandbox->config.parent_death_signal, 0, 0, 0) < 0)
        return sandbox_fail(why, why_bytes, -errno, "sandbox: PR_SET_PDEATHSIG: %s", strerror(errno));
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return sandbox_fail(why, why_bytes, -errno, "sandbox: PR_SET_DUMPABLE: %s", strerror(errno));
    return 0;
}

int sandbox_enter(struct sandbox *sandbox, char *why, size_t why_bytes)
{
    char no_root[SANDBOX_WHY_BYTES] = "", no_landlock[SANDBOX_WHY_BYTES] = "";

    int ret = check_single_thread(sandbox, why, why_bytes);
    if (ret == 0)
        ret = close_fds(sandbox, why, why_bytes);
    if (ret < 0)
        return ret;
    close(sandbox->null_fd);
    sandbox->null_fd = -1;

    enter_namespaces(sandbox, no_root, sizeof no_root);
    ret = set_rlimits(&sandbox->config, why, why_bytes);
    if (ret == 0)
        ret = drop_bounding_set(why, why_bytes);
    if (ret == 0)
        ret = drop_identity(sandbox, why, why_bytes);
    if (ret == 0)
        ret = drop_capabilities(why, why_bytes);
    if (ret < 0)
        return ret;
    bool landlock = enter_landlock(sandbox, no_landlock, sizeof no_landlock) == 0;

    const char *separator = no_root[0] && no_landlock[0] ? "; " : "";
    bool weaker = !landlock || !sandbox->empty_root;
    if ((!landlock && !sandbox->empty_root) || (weaker && (sandbox->config.flags & SANDBOX_STRICT)))
        return sandbox_fail(why, why_bytes, -EPERM, "sandbox: %s%s%s", no_root, separator, no_landlock);
    ret = finish_identity(sandbox, why, why_bytes);
    if (ret < 0)
        return ret;
    NOTE_ENTERED();
    ret = sandbox_filter_load(&sandbox->filter);
    if (ret < 0)
        return sandbox_fail(
            why, why_bytes, ret,
            "sandbox: cannot load the system call filter: %s (needs a kernel with CONFIG_SECCOMP_FILTER)",
            strerror(-ret));
    if (weaker)
        return sandbox_fail(why, why_bytes, 1, "the sandbox is weaker than it should be: %s%s%s", no_root,
                            separator, no_landlock);
    if (sandbox->filter.violation != SANDBOX_VIOLATION_KILL)
        return sandbox_fail(
            why, why_bytes, 1,
            "the sandbox only refuses unlisted system calls (BULKHEAD_SANDBOX is set): for debugging");
    return 0;
}
