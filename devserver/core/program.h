/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the main() of every device server does around its device: a socket to be found at, telling who started
 * it whether it could start, and running the loop until its front-end has gone.
 *
 * Threads: the main thread, before and after the loop runs.
 * Errors: negative errno and one line (what, where, cure) in `why`.
 */
#pragma once

#include "devserver/core/devserver.h"

#define PROGRAM_EXIT_CANNOT_START 2

/* Listens on a Unix socket at `path`; a socket file that nobody listens on any more is replaced. Returns
 * owned. */
int program_listen(const char *path, char *why, size_t why_bytes);

/* Tells the starter, once: "ready\n" if `error` is NULL, else "error: LINE\n", which is also logged. Closes
 * *ready_fd, which may be -1. */
void program_say_ready(int *ready_fd, const char *error);

/*
 * Creates a devserver, says ready, and serves: with connected_fd until the peer has gone, with listen_fd
 * until SIGTERM or SIGINT (both end it in either case). Takes the descriptors of `config`. 0 after an orderly
 * end; negative if it could not begin.
 */
int program_serve(const struct devserver_config *config, int *ready_fd, char *why, size_t why_bytes);

/* System calls of program_serve(), beside those of the devserver. */
extern const struct sandbox_syscall_set program_syscalls;
