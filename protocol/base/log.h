/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line per event on stderr, written with one write(2), so that lines of several threads and processes
 * that share the stream never mix.
 *
 * A line is "<N>program: text\n" when stderr is the journal ($JOURNAL_STREAM, sd-daemon(3) priorities), else
 * "program: level: text\n". Bytes of the text that are not printable are shown as '?', so that a peer's
 * string cannot forge lines or drive a terminal.
 *
 * Threads: log_init() once at start; everything else from any thread. Allocates nothing, takes no lock, and
 * after log_init() needs only write(2) from the sandbox.
 *
 * What a guest or peer can trigger again and again goes through log_limited(): LOG_LIMIT_BURST lines per
 * LOG_LIMIT_WINDOW_NS and call site's limit, then one line that says how many were left out.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

#define LOG_LINE_BYTES_MAX  1024
#define LOG_LIMIT_BURST     10
#define LOG_LIMIT_WINDOW_NS UINT64_C(5000000000)

/* Zero-initialised; shared by any number of threads. */
struct log_limit {
    _Atomic uint64_t window_start_ns;
    _Atomic uint32_t used, dropped;
};

/* `program` is borrowed for ever (a literal or argv[0]). */
void log_init(const char *program, enum log_level level);
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/* "error", "warning", "info", "debug". 0 or -EINVAL. */
int log_parse_level(const char *text, enum log_level *ret_level);

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* True when the caller may log now. */
bool log_limit_pass(struct log_limit *limit);

#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                                       \
    do {                                                                                                     \
        if (log_enabled(LOG_LEVEL_DEBUG))                                                                    \
            log_write(LOG_LEVEL_DEBUG, __VA_ARGS__);                                                         \
    } while (0)
#define log_limited(limit, level, ...)                                                                       \
    do {                                                                                                     \
        if (log_enabled(level) && log_limit_pass(limit))                                                     \
            log_write(level, __VA_ARGS__);                                                                   \
    } while (0)
