/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the sandbox helper: sandbox.c calls each part in the order that sandbox.h gives. */
#pragma once

#include <linux/filter.h>
#include <stdbool.h>

#include "protocol/base/sandbox.h"

enum sandbox_violation { SANDBOX_VIOLATION_KILL, SANDBOX_VIOLATION_EPERM, SANDBOX_VIOLATION_LOG };

struct sandbox_filter {
    enum sandbox_violation violation;
    struct sock_filter *code; /* owned */
    unsigned short count;
};

/* Compiles the base set and `sets` to BPF. 0, or a negative errno and `why`. Filter is finished by the
 * caller. */
int sandbox_filter_init(struct sandbox_filter *filter, const struct sandbox_syscall_set *const *sets,
                        char *why, size_t why_bytes);
void sandbox_filter_finish(struct sandbox_filter *filter);
/* Makes the kernel use it for this thread and all that it starts. 0 or a negative errno. */
int sandbox_filter_load(const struct sandbox_filter *filter);

struct sandbox_landlock {
    int ruleset_fd; /* owned; -1: the kernel has none */
    int missing_errno;
};

/* Rules that deny all that this kernel's Landlock knows; never fails, but ruleset_fd may be -1. */
void sandbox_landlock_init(struct sandbox_landlock *landlock, bool deny_tcp);
void sandbox_landlock_finish(struct sandbox_landlock *landlock);
/* May read the file at `path` as it is now. 0 or a negative errno. */
int sandbox_landlock_allow_read(struct sandbox_landlock *landlock, const char *path);
int sandbox_landlock_enter(struct sandbox_landlock *landlock);

/* What entering namespaces needs from /proc, opened while there is one. */
struct sandbox_namespaces {
    unsigned flags;   /* CLONE_NEW... */
    bool use_user;    /* without CAP_SYS_ADMIN: inside a user namespace */
    int proc_self_fd; /* owned; -1: no /proc */
};

void sandbox_namespaces_init(struct sandbox_namespaces *namespaces, const struct sandbox_config *config);
void sandbox_namespaces_finish(struct sandbox_namespaces *namespaces);
/* 0; or a negative errno and `why`, and nothing has changed. */
int sandbox_namespaces_enter(struct sandbox_namespaces *namespaces, char *why, size_t why_bytes);
/* In the new mount namespace: an empty read-only root with `files`. */
int sandbox_empty_root_enter(const struct sandbox_root_file *files, size_t count, char *why,
                             size_t why_bytes);

/* Fills `why` and returns `error` (a negative errno). */
__attribute__((format(printf, 4, 5))) int sandbox_fail(char *why, size_t why_bytes, int error,
                                                       const char *format, ...);
