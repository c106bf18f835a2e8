/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox: how a process gives up everything that it does not need, before it reads its first untrusted byte.
 *
 * A program describes its cage with one `struct sandbox_config` and two calls:
 *
 *     sandbox_prepare()   checks the description, compiles the filter, opens what entering needs; confines nothing
 *     sandbox_enter()     confines the calling process, for good
 *
 * Layers, in the order in which they are entered. Each one holds when all others fail:
 *
 *     1  file descriptors   everything except `keep_fds` and stderr is closed; 0 and 1 become /dev/null if not kept
 *     2  namespaces         mount, IPC, UTS, cgroup and, unless SANDBOX_HOST_NETWORK, network; with CAP_SYS_ADMIN
 *                           directly, otherwise inside a new user namespace that maps the caller's own ids only
 *     3  empty root         pivot_root() to a read-only tmpfs that holds `root_files` and nothing else
 *     4  resource limits    no core files, and `rlimits`
 *     5  identity           root becomes `uid`/`gid`; all capability sets are emptied; no_new_privs
 *     6  Landlock           no path may be used (but reading `root_files`), no TCP unless SANDBOX_HOST_NETWORK, no
 *                           signal or abstract socket reaches out
 *     7  not dumpable       nobody of the same uid can ptrace it or open its /proc files
 *     8  seccomp            only listed system calls, of the native architecture
 *
 * A process cannot move itself into a PID namespace (only its children would), so that is the launcher's
 * part; the filter refuses every system call that names another process.
 *
 * Layers 5 (capabilities, no_new_privs), 7 and 8 are there on every kernel we support, and failing one is an
 * error. Where 2 and 3, or 6, are not to be had (a container that forbids namespaces, a kernel without
 * Landlock), sandbox_enter() goes on without that layer and says so: it returns 1 and one line to log as a
 * warning. When neither an empty root nor Landlock would hold, it is an error.
 *
 * A program lists its system calls beside the code that makes them, as tables of `struct sandbox_syscall`
 * with the reason in each line, and names the tables in its config. sandbox_syscalls_base (the C library's
 * own needs) is always there. What is not listed kills the process with SIGSYS; the environment variable
 * BULKHEAD_SANDBOX chooses otherwise for debugging: `log` names each refused call on stderr and fails it with
 * EPERM, `eperm` only fails it. io_uring operations do not pass through seccomp: restrict the ring itself
 * (IORING_REGISTER_RESTRICTIONS).
 *
 * States: created by prepare -> entered (or failed) by enter -> destroyed. One thread only, and the process
 * must have no other thread when it enters (threads that it starts later inherit every layer). Prepare and
 * enter must happen in the same process.
 *
 * Errors: negative errno and one line of text: what failed, and the cure. After a failed enter the process is
 * half confined and must exit.
 */
#pragma once

#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

struct sandbox;

/* Passes when every used condition holds: (argument[arg] & mask) == value. Arguments that the kernel takes as
 * `int` need a 32-bit mask. A condition with mask 0 is unused. */
struct sandbox_condition {
    unsigned arg;
    uint64_t mask, value;
};
#define SANDBOX_CONDITIONS_MAX 3

struct sandbox_syscall {
    int number;       /* SCMP_SYS(name) */
    int refuse_errno; /* 0: allowed; else this call fails with that errno and nothing else happens */
    const char *why;  /* for the reader */
    struct sandbox_condition when[SANDBOX_CONDITIONS_MAX];
};

#define SANDBOX_ALLOW(name, why_)                                                                            \
    {                                                                                                        \
        SCMP_SYS(name), 0, why_,                                                                             \
        {                                                                                                    \
            {                                                                                                \
                0                                                                                            \
            }                                                                                                \
        }                                                                                                    \
    }
/* Only if (argument `arg` & mask) == value; more of them for one call are alternatives. */
#define SANDBOX_ALLOW_IF(name, arg, mask, value, why_)                                                       \
    {                                                                                                        \
        SCMP_SYS(name), 0, why_,                                                                             \
        {                                                                                                    \
            {                                                                                                \
                arg, mask, value                                                                             \
            }                                                                                                \
        }                                                                                                    \
    }
#define SANDBOX_INT UINT64_C(0xffffffff) /* mask of a whole `int` argument */
#define SANDBOX_REFUSE(name, errno_, why_)                                                                   \
    {                                                                                                        \
        SCMP_SYS(name), errno_, why_,                                                                        \
        {                                                                                                    \
            {                                                                                                \
                0                                                                                            \
            }                                                                                                \
        }                                                                                                    \
    }

struct sandbox_syscall_set {
    const struct sandbox_syscall *calls;
    size_t count;
};
#define SANDBOX_SET(table)                                                                                   \
    {                                                                                                        \
        (table), sizeof(table) / sizeof((table)[0])                                                          \
    }

/* Memory, futexes, clocks, random numbers, read and write on open fds, exit. Always included. No PROT_EXEC.
 */
extern const struct sandbox_syscall_set sandbox_syscalls_base;
/* pthread_create() and joining. */
extern const struct sandbox_syscall_set sandbox_syscalls_threads;
/* poll, epoll, eventfd, timerfd and what libuv's loop asks of open fds. */
extern const struct sandbox_syscall_set sandbox_syscalls_events;
/* recvmsg and sendmsg on sockets that are open already, shutdown, and memfds of our own. */
extern const struct sandbox_syscall_set sandbox_syscalls_messages;
/* mmap and mprotect with PROT_EXEC: only for a process that generates code. */
extern const struct sandbox_syscall_set sandbox_syscalls_exec_memory;

struct sandbox_rlimit {
    int resource; /* RLIMIT_... */
    rlim_t limit; /* soft and hard */
};

/* A small file of the new root that libraries insist to read by name. Absolute path, at most one folder deep.
 */
struct sandbox_root_file {
    const char *path;
    const char *content;
};
#define SANDBOX_ROOT_FILES_MAX      4
#define SANDBOX_ROOT_FILE_BYTES_MAX 4096

enum sandbox_flags {
    SANDBOX_HOST_NETWORK =
        1 << 0,              /* the network is this process's job: stay in the caller's network namespace */
    SANDBOX_STRICT = 1 << 1, /* a layer that is not to be had is an error, not a warning */
};

#define SANDBOX_DEFAULT_UID 65534

/* Everything is borrowed and must live until sandbox_enter() has returned. */
struct sandbox_config {
    unsigned flags;
    const struct sandbox_syscall_set *const *sets; /* NULL-terminated; NULL: the base set only */
    const int *keep_fds;
    size_t keep_fds_count;
    const struct sandbox_rlimit *rlimits;
    size_t rlimits_count;
    const struct sandbox_root_file *root_files;
    size_t root_files_count;
    uid_t uid; /* what root turns into; 0: SANDBOX_DEFAULT_UID. Not used by other users */
    gid_t gid;
    int parent_death_signal; /* 0: none. The caller checks by getppid() that its parent is still there */
};

#define SANDBOX_WHY_BYTES 512

/* 0 and a sandbox that the caller owns, or a negative errno and one line in `why`. */
int sandbox_prepare(const struct sandbox_config *config, struct sandbox **ret_sandbox, char *why,
                    size_t why_bytes);

/*
 * 0: confined. 1: confined with a weaker cage, `why` says in one line what is missing and how to have it: log
 * it as a warning. Negative errno: `why` says which step failed and the cure; exit.
 */
int sandbox_enter(struct sandbox *sandbox, char *why, size_t why_bytes);

/* Accepts NULL. */
void sandbox_destroy(struct sandbox *sandbox);
