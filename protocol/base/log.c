/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "protocol/base/units.h"

static const char *const log_level_names[] = {"error", "warning", "info", "debug"};
static const int log_level_priorities[] = {3, 4, 6, 7}; /* sd-daemon(3) */

static const char *log_program = "bulkhead";
static _Atomic int log_threshold = LOG_LEVEL_INFO;
static bool log_to_journal;

void log_init(const char *program, enum log_level level)
{
    const char *slash = strrchr(program, '/');

    log_program = slash ? slash + 1 : program;
    log_to_journal = getenv("JOURNAL_STREAM") && !isatty(STDERR_FILENO);
    log_set_level(level);
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&log_threshold, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_threshold, memory_order_relaxed);
}

int log_parse_level(const char *text, enum log_level *ret_level)
{
    for (unsigned i = 0; i < ARRAY_LEN(log_level_names); i++) {
        if (strcmp(text, log_level_names[i]) == 0) {
            *ret_level = (enum log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

void log_write(enum log_level level, const char *format, ...)
{
    char line[LOG_LINE_BYTES_MAX];
    int saved_errno = errno;
    va_list args;
    int head, text;
    size_t bytes;

    if (!log_enabled(level))
        return;
    if (log_to_journal)
        head = snprintf(line, sizeof(line), "<%d>%s: ", log_level_priorities[level], log_program);
    else
        head = snprintf(line, sizeof(line), "%s: %s: ", log_program, log_level_names[level]);
    if (head < 0 || (size_t)head >= sizeof(line) - 1)
        head = 0;
    va_start(args, format);
    text = vsnprintf(line + head, sizeof(line) - 1 - (size_t)head, format, args);
    va_end(args);
    if (text < 0)
        text = 0;
    bytes = (size_t)head + (size_t)text;
    if (bytes > sizeof(line) - 2)
        bytes = sizeof(line) - 2;
    for (size_t i = 0; i < bytes; i++) {
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    }
    line[bytes++] = '\n';
    while (write(STDERR_FILENO, line, bytes) < 0 && errno == EINTR)
        ;
    errno = saved_errno;
}

static uint64_t log_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

bool log_limit_pass(struct log_limit *limit)
{
    uint64_t now = log_now_ns();
    uint64_t start = atomic_load(&limit->window_start_ns);

    if ((start == 0 || now - start > LOG_LIMIT_WINDOW_NS) &&
        atomic_compare_exchange_strong(&limit->window_start_ns, &start, now)) {
        uint32_t dropped = atomic_exchange(&limit->dropped, 0);

        atomic_store(&limit->used, 0);
        if (dropped > 0)
            log_warning("%u more lines of the next kind were left out", dropped);
    }
    if (atomic_fetch_add(&limit->used, 1) < LOG_LIMIT_BURST)
        return true;
    atomic_fetch_add(&limit->dropped, 1);
    return false;
}
