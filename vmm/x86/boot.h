/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot: puts a kernel into guest RAM as a boot loader would, and says in what state the first vCPU enters it.
 *
 *   bzImage  Linux boot protocol 2.12 or newer: 64-bit entry, or the 32-bit one of a kernel that has no other
 *            (kernel Documentation/arch/x86/boot.rst)
 *   ELF      with a PVH note: 32-bit entry, hvm_start_info (xen/include/public/arch-x86/hvm/start_info.h)
 *
 * Kernel, initrd and command line are hostile: each field is read once from the file, checked, and only then
 * used; nothing is ever written outside RAM. The files are read with pread(), so that one pair of descriptors
 * serves every reboot of the machine.
 *
 * Errors: negative errno and one line for people in `why` (what and the cure).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "accel/x86_state.h"
#include "vmm/ram.h"

/* Where boot data lies. All below 640 KiB; the kernel takes it over before it uses that memory. */
#define BOOT_GDT         0x6000u
#define BOOT_PARAMS      0x7000u /* "zero page", or hvm_start_info with its lists */
#define BOOT_PAGE_TABLES 0x9000u /* PML4, PDPT, four page directories */
#define BOOT_CMDLINE     0x20000u
#define BOOT_CMDLINE_MAX 0x10000u /* bytes, with the terminator */

struct boot_source {
    int kernel_fd;
    int initrd_fd; /* or -1 */
    const char *cmdline;
};

enum boot_kind { BOOT_LINUX64, BOOT_LINUX32, BOOT_PVH };

struct boot_entry {
    enum boot_kind kind;
    gpa_t entry; /* first instruction */
    gpa_t info;  /* boot_params or hvm_start_info */
};

int boot_load(struct ram *ram, gpa_t rsdp, const struct boot_source *source, struct boot_entry *ret_entry,
              char *why, size_t why_bytes);

/* Turns the reset state into the state at the kernel's entry. */
void boot_entry_state(const struct boot_entry *entry, struct x86_vcpu_state *state);
