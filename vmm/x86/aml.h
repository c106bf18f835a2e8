/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aml: writes ACPI Machine Language (ACPI 6.5 chapter 20) into a bounded buffer.
 *
 * Objects that have a length nest: aml_scope() and its kin return a mark, aml_end() closes it. Running out of
 * room is remembered (`overflow`) and checked once at the end; nothing is written outside the buffer. Names
 * are ACPI name strings in ASL notation: "\\_SB", "PCI0", "_HID".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
    uint8_t *bytes;
    size_t size, used;
    bool overflow;
};

struct aml_mark {
    size_t at; /* where the package length goes */
};

void aml_bytes(struct aml *aml, const void *bytes, size_t count);
void aml_byte(struct aml *aml, uint8_t byte);
void aml_name_string(struct aml *aml, const char *name);

/* Data: the shortest encoding. */
void aml_integer(struct aml *aml, uint64_t value);
void aml_string(struct aml *aml, const char *text);
/* A compressed EISA id such as "PNP0A08". */
void aml_eisa_id(struct aml *aml, const char *id);

/* Name (name, <next object>) */
void aml_name(struct aml *aml, const char *name);
void aml_name_integer(struct aml *aml, const char *name, uint64_t value);
void aml_name_eisa_id(struct aml *aml, const char *name, const char *id);

struct aml_mark aml_scope(struct aml *aml, const char *name);
struct aml_mark aml_device(struct aml *aml, const char *name);
struct aml_mark aml_method(struct aml *aml, const char *name, unsigned arguments);
struct aml_mark aml_package(struct aml *aml, uint8_t elements);
void aml_return_arg(struct aml *aml, unsigned argument);
void aml_end(struct aml *aml, struct aml_mark mark);

/* ResourceTemplate () { ... }: descriptors between begin and end. */
struct aml_mark aml_resources(struct aml *aml);
void aml_resources_end(struct aml *aml, struct aml_mark mark);
void aml_io(struct aml *aml, uint16_t port, uint8_t count);
void aml_irq(struct aml *aml, uint8_t irq);
void aml_memory32_fixed(struct aml *aml, uint32_t base, uint32_t bytes);
/* Windows of a bridge, min and max fixed, producer. */
void aml_word_bus(struct aml *aml, uint16_t first, uint16_t last);
void aml_word_io(struct aml *aml, uint16_t first, uint16_t last);
void aml_dword_memory(struct aml *aml, uint32_t first, uint32_t last);
void aml_qword_memory(struct aml *aml, uint64_t first, uint64_t last);
