/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawn: fork+exec of one program with exactly the file descriptors that were planned.
 *
 * The child has 0 (/dev/null), 1 and 2 (the log), and the planned fds from SPAWN_FIRST_FD on, in the order in which
 * they were added; everything else is closed before exec. It leads a process group of its own, has the default
 * signal dispositions and an empty mask, gets SIGKILL when the broker's thread dies (until a change of credentials
 * clears that: then a closed control or vhost-user socket tells it), stands in / and gets only the environment
 * variables that spawn.c lists.
 *
 * Owner thread: the one thread that lives as long as the broker (parent-death signals belong to threads).
 */
#pragma once

#include <glib.h>
#include <sys/types.h>

#define SPAWN_FIRST_FD 3
#define SPAWN_FDS_MAX  80

struct spawn_plan {
    char *program;   /* absolute path */
    GPtrArray *argv; /* owned strings, no terminator yet */
    int fds[SPAWN_FDS_MAX]; /* borrowed */
    unsigned fd_count;
};

/* `title` becomes argv[0]: what ps(1) shows. */
void spawn_plan_init(struct spawn_plan *plan, const char *program, const char *title);
void spawn_plan_finish(struct spawn_plan *plan);
void spawn_plan_add(struct spawn_plan *plan, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Plans `fd` (borrowed until the child runs) and returns the number that it has in the child. */
int spawn_plan_fd(struct spawn_plan *plan, int fd);

/* Starts it. log_fd is borrowed. 0 with the child's pid and pidfd (owned), or the negative errno of fork or exec. */
int spawn_run(struct spawn_plan *plan, int log_fd, pid_t *ret_pid, int *ret_pidfd);
