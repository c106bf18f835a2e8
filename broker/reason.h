/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reason: why something that a person asked for cannot be done, in one line: what, where, the cure.
 *
 * It is made where the fault is found and travels up beside the negative errno, to be shown once, by the CLI. It
 * quotes what clients sent, so control characters are made harmless.
 */
#pragma once

#include <stdarg.h>
#include <stdio.h>

struct reason {
    char text[512];
};

/* Fills `reason` and returns `error`, so that a check can say `return reason_set(...)`. */
static inline __attribute__((format(printf, 3, 4))) int reason_set(struct reason *reason, int error,
                                                                   const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(reason->text, sizeof(reason->text), format, args);
    va_end(args);
    for (char *c = reason->text; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = '?';
        }
    }
    return error;
}
