/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of a device server: the options that every one has, and a table of its device's own. The tables are
 * the parser and the help text at once.
 *
 * Threads: the main thread, at start.
 * Errors: -EINVAL and one line (what, and what would be right) in `why`. Every argument is read in any case and the first
 * fault is the one that is told: --ready-fd, where it is told, may stand behind it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "protocol/base/log.h"

/* What every server can be told. Strings point into argv. */
struct program_settings {
    int connected_fd, listen_fd, ready_fd; /* owned until taken; -1: not given */
    const char *socket_path;               /* NULL: not given */
    enum log_level log_level;
    bool sandbox;
    bool help, version; /* asked for: print and exit */
};

struct command_option {
    const char *name;
    const char *value; /* its name in the help text; NULL: takes none */
    const char *help;
    /* 0 or -EINVAL; may say more in `why` than 'not a value for this option'. `settings` is the device's own. */
    int (*take)(void *settings, const char *value, char *why, size_t why_bytes);
};

struct command_line {
    const char *program;
    const char *usage;                    /* what is needed beside one of the sockets, "" if nothing */
    const char *summary;                  /* one sentence */
    const char *example;                  /* options of a working call */
    const struct command_option *options; /* the device's own */
    size_t option_count;
};

int command_line_parse(const struct command_line *line, int argc, char **argv,
                       struct program_settings *ret_program, void *settings, char *why, size_t why_bytes);
void command_line_print_help(const struct command_line *line);

/* For `take`: an open descriptor; a decimal number between `min` and `max`, called `what` in the error. */
int command_line_take_fd(int *slot, const char *value, char *why, size_t why_bytes);
int command_line_take_number(unsigned *slot, const char *value, unsigned min, unsigned max, const char *what,
                             char *why, size_t why_bytes);
