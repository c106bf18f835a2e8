/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded piece of text that grows at its end: what does not fit is left out, the text is always terminated.
 *
 * For reports that are written when a process has failed, also from a signal handler: nothing is allocated and no lock is
 * taken. Formats are restricted to integers and strings, for which the C library's vsnprintf() needs neither; no
 * positional arguments, no floating point.
 *
 * Threads: one writer. The memory is borrowed and may be shared with another process, which must not be believed about
 * what it holds: the writer keeps its own position.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct text_buffer {
    char *text;
    size_t bytes, used; /* used < bytes */
};

/* `bytes` is at least 1. */
void text_buffer_init(struct text_buffer *buffer, char *text, size_t bytes);
void text_append(struct text_buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Rows of 16 bytes, each with the address it stands at: `address` that of the first. */
void text_append_bytes(struct text_buffer *buffer, uint64_t address, const void *bytes, size_t count);
