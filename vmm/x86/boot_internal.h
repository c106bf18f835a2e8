/* SPDX-License-Identifier: Apache-2.0 */
/* boot_internal: shared by the loaders of each format. */
#pragma once

#include "vmm/x86/boot.h"

struct boot_job {
    struct ram *ram;
    gpa_t rsdp;
    const struct boot_source *source;
    uint64_t kernel_bytes, initrd_bytes; /* file sizes */
    char *why;
    size_t why_bytes;
};

#define BOOT_E820_MAX 16
enum { BOOT_E820_RAM = 1, BOOT_E820_RESERVED = 2 };

struct boot_e820 {
    uint64_t base, bytes;
    uint32_t type;
};

/* Sets `why` and returns `error`. */
int boot_fail(const struct boot_job *job, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Exactly `bytes` at `offset`; -ENODATA at the file's end. */
int boot_read(int fd, uint64_t offset, void *buffer, uint64_t bytes);
/* File to RAM, checked; -EFAULT when the place is not RAM. */
int boot_read_to(const struct boot_job *job, int fd, uint64_t offset, gpa_t gpa, uint64_t bytes);

/* Bytes of RAM from `gpa` on, without a gap. */
uint64_t boot_ram_after(const struct ram *ram, gpa_t gpa);

/* The memory map that the guest is told. Number of entries. */
unsigned boot_memory_map(const struct ram *ram, struct boot_e820 entries[BOOT_E820_MAX]);

int boot_place_cmdline(const struct boot_job *job, uint64_t limit_bytes);
/*
 * Puts the initrd as high as it goes: in low RAM, ending at or below `last` (inclusive), starting at or above
 * `floor`. *ret_gpa is 0 without an initrd.
 */
int boot_place_initrd(const struct boot_job *job, gpa_t floor, gpa_t last, gpa_t *ret_gpa);

int boot_load_bzimage(const struct boot_job *job, struct boot_entry *ret_entry);
int boot_load_pvh(const struct boot_job *job, struct boot_entry *ret_entry);
