/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of bulkhead-blk. One table (settings.c) is the parser, the help text and the man page's
 * source. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "protocol/base/log.h"

struct settings {
    int connected_fd, listen_fd; /* owned until taken; -1 */
    const char *socket_path;
    int image_fd; /* owned until taken; -1 */
    const char *image_path;
    int overlay_fd; /* owned until taken; -1 */
    int ready_fd;
    bool readonly;
    const char *serial;
    unsigned num_queues;
    enum log_level log_level;
    bool sandbox;
    bool help, version;
};

/* 0, or -EINVAL and one line in `why`. ready_fd and log_level are set as far as parsing went. */
int settings_parse(int argc, char **argv, struct settings *ret_settings, char *why, size_t why_bytes);
void settings_print_help(void);
