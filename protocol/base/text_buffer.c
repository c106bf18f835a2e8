/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/base/text_buffer.h"

#include <stdarg.h>
#include <stdio.h>

#define ROW_BYTES 16

void text_buffer_init(struct text_buffer *buffer, char *text, size_t bytes)
{
    *buffer = (struct text_buffer){.text = text, .bytes = bytes};
    text[0] = '\0';
}

void text_append(struct text_buffer *buffer, const char *format, ...)
{
    size_t room = buffer->bytes - buffer->used;
    va_list args;

    va_start(args, format);
    int written = vsnprintf(buffer->text + buffer->used, room, format, args);
    va_end(args);
    if (written > 0)
        buffer->used += (size_t)written < room ? (size_t)written : room - 1;
}

void text_append_bytes(struct text_buffer *buffer, uint64_t address, const void *bytes, size_t count)
{
    const uint8_t *at = bytes;

    for (size_t row = 0; row < count; row += ROW_BYTES) {
        text_append(buffer, "  %016llx", (unsigned long long)(address + row));
        for (size_t i = row; i < count && i < row + ROW_BYTES; i++)
            text_append(buffer, " %02x", at[i]);
        text_append(buffer, "\n");
    }
}
