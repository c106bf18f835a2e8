/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the main() of every device server does around its device: a socket to be found at, telling who started
 * it whether it could start, and running the loop until its front-end has gone.
 *
 * Threads: the main thread, before and after the loop runs.
 * Errors: negative errno and one line (what, where, cure) in `why`.
 */
#pragma once

#include "devserver/core/command_line.h"
#include "devserver/core/devserver.h"

#define PROGRAM_EXIT_CANNOT_START 2
#define PROGRAM_SANDBOX_FDS       3 /* of program_settings */

/* One device's part of the program. `settings` is its own struct, which the command line fills. */
struct program {
    struct command_line command_line;
    /* Checks what no single option can; 0 or -EINVAL. May be NULL. */
    int (*check)(const void *settings, char *why, size_t why_bytes);
    /* Opens the device, enters the sandbox and serves (program_enter_sandbox(), program_serve()). */
    int (*run)(struct program_settings *program, void *settings, char *why, size_t why_bytes);
};

/*
 * The whole of main(): command line, help and version, the socket at --socket-path (which becomes listen_fd), run(), and
 * the exit status. What goes wrong is told in one line, on stderr and to who started us, on --ready-fd.
 */
int program_main(const struct program *program, int argc, char **argv, void *settings);

/*
 * Confines the process by `config`, to which the descriptors of `program` are added: keep_fds has
 * PROGRAM_SANDBOX_FDS more elements of space than keep_fds_count says. A part of the sandbox that this host lacks is
 * logged. Does nothing with --no-sandbox.
 */
int program_enter_sandbox(const struct program_settings *program, struct sandbox_config config, int *keep_fds,
                          char *why, size_t why_bytes);

/*
 * Creates a devserver, says ready, and serves: with connected_fd until the peer has gone, with listen_fd
 * until SIGTERM or SIGINT (both end it in either case). Sets the sockets of `config` and takes them from
 * `program`. 0 after an orderly end; negative if it could not begin.
 */
int program_serve(struct program_settings *program, struct devserver_config config, char *why,
                  size_t why_bytes);

/* System calls of program_serve(), beside those of the devserver. */
extern const struct sandbox_syscall_set program_syscalls;
