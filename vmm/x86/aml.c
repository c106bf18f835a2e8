/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/x86/aml.h"

#include <string.h>

enum {
    OP_ZERO = 0x00,
    OP_ONE = 0x01,
    OP_NAME = 0x08,
    OP_BYTE = 0x0a,
    OP_WORD = 0x0b,
    OP_DWORD = 0x0c,
    OP_STRING = 0x0d,
    OP_QWORD = 0x0e,
    OP_SCOPE = 0x10,
    OP_BUFFER = 0x11,
    OP_PACKAGE = 0x12,
    OP_METHOD = 0x14,
    OP_DUAL_NAME = 0x2e,
    OP_EXTENDED = 0x5b,
    OP_EXTENDED_DEVICE = 0x82,
    OP_ARG0 = 0x68,
    OP_RETURN = 0xa4,
};

/* Address space descriptors (ACPI 6.5 section 6.4.3.5): _MIF and _MAF fixed, producer. */
#define ADDRESS_FIXED 0x0c
enum { ADDRESS_MEMORY = 0, ADDRESS_IO = 1, ADDRESS_BUS = 2 };
#define MEMORY_READ_WRITE 0x01
#define IO_ENTIRE_RANGE   0x03

void aml_bytes(struct aml *aml, const void *bytes, size_t count)
{
    if (count > aml->size - aml->used) {
        aml->overflow = true;
        return;
    }
    memcpy(aml->bytes + aml->used, bytes, count);
    aml->used += count;
}

void aml_byte(struct aml *aml, uint8_t byte)
{
    aml_bytes(aml, &byte, 1);
}

static void little_endian(struct aml *aml, uint64_t value, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        aml_byte(aml, (uint8_t)(value >> (i * 8)));
}

/* One segment is padded to four characters; two at most are joined by a dot. */
void aml_name_string(struct aml *aml, const char *name)
{
    if (*name == '\\') {
        aml_byte(aml, '\\');
        name++;
    }
    if (strchr(name, '.'))
        aml_byte(aml, OP_DUAL_NAME);
    while (*name) {
        char segment[4] = {'_', '_', '_', '_'};

        for (unsigned i = 0; i < 4 && *name && *name != '.'; i++)
            segment[i] = *name++;
        aml_bytes(aml, segment, 4);
        if (*name == '.')
            name++;
    }
}

void aml_integer(struct aml *aml, uint64_t value)
{
    if (value <= 1) {
        aml_byte(aml, value ? OP_ONE : OP_ZERO);
    } else if (value <= UINT8_MAX) {
        aml_byte(aml, OP_BYTE);
        little_endian(aml, value, 1);
    } else if (value <= UINT16_MAX) {
        aml_byte(aml, OP_WORD);
        little_endian(aml, value, 2);
    } else if (value <= UINT32_MAX) {
        aml_byte(aml, OP_DWORD);
        little_endian(aml, value, 4);
    } else {
        aml_byte(aml, OP_QWORD);
        little_endian(aml, value, 8);
    }
}

void aml_string(struct aml *aml, const char *text)
{
    aml_byte(aml, OP_STRING);
    aml_bytes(aml, text, strlen(text) + 1);
}

static unsigned hex(char digit)
{
    return digit <= '9' ? (unsigned)(digit - '0') : (unsigned)(digit - 'A' + 10);
}

void aml_eisa_id(struct aml *aml, const char *id)
{
    uint8_t packed[4] = {
        (uint8_t)((id[0] - '@') << 2 | (id[1] - '@') >> 3),
        (uint8_t)((id[1] - '@') << 5 | (id[2] - '@')),
        (uint8_t)(hex(id[3]) << 4 | hex(id[4])),
        (uint8_t)(hex(id[5]) << 4 | hex(id[6])),
    };

    aml_byte(aml, OP_DWORD);
    aml_bytes(aml, packed, 4);
}

void aml_name(struct aml *aml, const char *name)
{
    aml_byte(aml, OP_NAME);
    aml_name_string(aml, name);
}

void aml_name_integer(struct aml *aml, const char *name, uint64_t value)
{
    aml_name(aml, name);
    aml_integer(aml, value);
}

void aml_name_eisa_id(struct aml *aml, const char *name, const char *id)
{
    aml_name(aml, name);
    aml_eisa_id(aml, id);
}

static struct aml_mark begin(struct aml *aml)
{
    return (struct aml_mark){aml->used};
}

/* PkgLength counts itself (ACPI 6.5 section 20.2.4); it is as short as it can be. */
void aml_end(struct aml *aml, struct aml_mark mark)
{
    size_t body = aml->used - mark.at;
    unsigned width = body + 1 < 0x40 ? 1 : body + 2 < 0x1000 ? 2 : body + 3 < 0x100000 ? 3 : 4;
    size_t length = body + width;
    uint8_t encoded[4];

    if (aml->overflow || width > aml->size - aml->used) {
        aml->overflow = true;
        return;
    }
    if (width == 1) {
        encoded[0] = (uint8_t)length;
    } else {
        encoded[0] = (uint8_t)((width - 1) << 6 | (length & 15));
        for (unsigned i = 1; i < width; i++)
            encoded[i] = (uint8_t)(length >> (4 + (i - 1) * 8));
    }
    memmove(aml->bytes + mark.at + width, aml->bytes + mark.at, body);
    memcpy(aml->bytes + mark.at, encoded, width);
    aml->used += width;
}

struct aml_mark aml_scope(struct aml *aml, const char *name)
{
    aml_byte(aml, OP_SCOPE);
    struct aml_mark mark = begin(aml);
    aml_name_string(aml, name);
    return mark;
}

struct aml_mark aml_device(struct aml *aml, const char *name)
{
    aml_byte(aml, OP_EXTENDED);
    aml_byte(aml, OP_EXTENDED_DEVICE);
    struct aml_mark mark = begin(aml);
    aml_name_string(aml, name);
    return mark;
}

struct aml_mark aml_method(struct aml *aml, const char *name, unsigned arguments)
{
    aml_byte(aml, OP_METHOD);
    struct aml_mark mark = begin(aml);
    aml_name_string(aml, name);
    aml_byte(aml, (uint8_t)(arguments & 7));
    return mark;
}

struct aml_mark aml_package(struct aml *aml, uint8_t elements)
{
    aml_byte(aml, OP_PACKAGE);
    struct aml_mark mark = begin(aml);
    aml_byte(aml, elements);
    return mark;
}

void aml_return_arg(struct aml *aml, unsigned argument)
{
    aml_byte(aml, OP_RETURN);
    aml_byte(aml, (uint8_t)(OP_ARG0 + argument));
}

/* Buffer (size) { descriptors }: the size is a word constant that is filled in at the end. */
struct aml_mark aml_resources(struct aml *aml)
{
    aml_byte(aml, OP_BUFFER);
    struct aml_mark mark = begin(aml);
    aml_byte(aml, OP_WORD);
    little_endian(aml, 0, 2);
    return mark;
}

void aml_resources_end(struct aml *aml, struct aml_mark mark)
{
    size_t size;

    aml_byte(aml, 0x79); /* end tag; a zero checksum is not checked */
    aml_byte(aml, 0x00);
    if (aml->overflow)
        return;
    size = aml->used - mark.at - 3;
    aml->bytes[mark.at + 1] = (uint8_t)size;
    aml->bytes[mark.at + 2] = (uint8_t)(size >> 8);
    aml_end(aml, mark);
}

void aml_io(struct aml *aml, uint16_t port, uint8_t count)
{
    aml_byte(aml, 0x47);
    aml_byte(aml, 0x01); /* 16-bit decode */
    little_endian(aml, port, 2);
    little_endian(aml, port, 2);
    aml_byte(aml, 1);
    aml_byte(aml, count);
}

void aml_irq(struct aml *aml, uint8_t irq)
{
    aml_byte(aml, 0x22); /* edge, high, exclusive */
    little_endian(aml, UINT64_C(1) << irq, 2);
}

void aml_memory32_fixed(struct aml *aml, uint32_t base, uint32_t bytes)
{
    aml_byte(aml, 0x86);
    little_endian(aml, 9, 2);
    aml_byte(aml, 0x01); /* read and write */
    little_endian(aml, base, 4);
    little_endian(aml, bytes, 4);
}

static void address_space(struct aml *aml, uint8_t tag, unsigned width, uint8_t type, uint8_t type_flags,
                          uint64_t first, uint64_t last)
{
    aml_byte(aml, tag);
    little_endian(aml, 3 + 5 * width, 2);
    aml_byte(aml, type);
    aml_byte(aml, ADDRESS_FIXED);
    aml_byte(aml, type_flags);
    little_endian(aml, 0, width); /* granularity */
    little_endian(aml, first, width);
    little_endian(aml, last, width);
    little_endian(aml, 0, width); /* translation */
    little_endian(aml, last - first + 1, width);
}

void aml_word_bus(struct aml *aml, uint16_t first, uint16_t last)
{
    address_space(aml, 0x88, 2, ADDRESS_BUS, 0, first, last);
}

void aml_word_io(struct aml *aml, uint16_t first, uint16_t last)
{
    address_space(aml, 0x88, 2, ADDRESS_IO, IO_ENTIRE_RANGE, first, last);
}

void aml_dword_memory(struct aml *aml, uint32_t first, uint32_t last)
{
    address_space(aml, 0x87, 4, ADDRESS_MEMORY, MEMORY_READ_WRITE, first, last);
}

void aml_qword_memory(struct aml *aml, uint64_t first, uint64_t last)
{
    address_space(aml, 0x8a, 8, ADDRESS_MEMORY, MEMORY_READ_WRITE, first, last);
}
