/* SPDX-License-Identifier: Apache-2.0 */
/* settings: what only bulkhead-blk is told on its command line. */
#pragma once

#include <stdbool.h>

#include "devserver/core/command_line.h"

struct settings {
    int image_fd; /* owned until taken; -1 */
    const char *image_path;
    int overlay_fd; /* owned until taken; -1 */
    bool readonly;
    const char *serial;
    unsigned num_queues;
};

#define SETTINGS_DEFAULTS                                                                                    \
    {                                                                                                        \
        .image_fd = -1, .overlay_fd = -1, .serial = "", .num_queues = 1                                      \
    }

#define BLOCK_OPTIONS 7
extern const struct command_option block_options[BLOCK_OPTIONS];

/* What no single option can tell; as `check` in devserver/core/program.h. */
int settings_check(const void *opaque, char *why, size_t why_bytes);
