/* SPDX-License-Identifier: Apache-2.0 */
/* Page-table walk (SDM 3A chapter 4). Internal to the MMU. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "translator/mmu.h"

/* Width of guest physical addresses, as CPUID 80000008 shows it. */
#define X86_PHYS_BITS 40

#define MMU_NO_KEY 0xffu

enum mmu_page_right { MMU_R = 1, MMU_W = 2, MMU_X = 4 };

struct mmu_walk {
    gpa_t page;          /* 4 KiB page that holds the address */
    uint64_t page_bytes; /* size of the mapping: 4 KiB, 2/4 MiB, 1 GiB */
    unsigned rights;     /* what this privilege may do with it; W only with the dirty bit set */
    bool global;
    uint8_t key;         /* protection key that went into the rights, or MMU_NO_KEY */
};

/* Privileges of an access; also the index of the TLB table that holds its translations. */
enum mmu_privilege { MMU_USER, MMU_KERNEL, MMU_KERNEL_AC, MMU_PRIVILEGES };

/* PAE paging: loads the four top entries that `cr3` points to into cpu->pdpte. -EINVAL, with nothing changed, if one has a
 * reserved bit set: #GP(0). */
int mmu_load_pdptes(struct x86_cpu *cpu, uint64_t cr3);

/* Translates `la` and sets accessed/dirty bits. 0, or -1 with *ret_error = page-fault error code. */
int mmu_walk(struct x86_cpu *cpu, gva_t la, enum mmu_access access, enum mmu_privilege privilege,
             struct mmu_walk *ret, uint32_t *ret_error);
