/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page-table walk: no paging, 32-bit, PAE and 4-level (SDM 3A chapter 4).
 *
 * Table entries are read and their A/D bits set in guest RAM with atomic operations, since other vCPUs walk the same
 * tables. An entry outside RAM reads as zero (not present).
 */
#include "translator/mmu_walk.h"

#include <errno.h>
#include <string.h>

#include "translator/vm.h"

#define PTE_P  UINT64_C(0x001)
#define PTE_W  UINT64_C(0x002)
#define PTE_U  UINT64_C(0x004)
#define PTE_A  UINT64_C(0x020)
#define PTE_D  UINT64_C(0x040)
#define PTE_PS UINT64_C(0x080)
#define PTE_G  UINT64_C(0x100)
#define PTE_NX (UINT64_C(1) << 63)
#define PTE_KEY_SHIFT 59

#define PHYS_MASK     ((UINT64_C(1) << X86_PHYS_BITS) - 1)
#define PTE_ADDRESS   (PHYS_MASK & ~UINT64_C(0xfff))
#define RSVD_HIGH     (((UINT64_C(1) << 52) - 1) & ~PHYS_MASK)

/* Of PAE's top entries: all but present, cache control, what software may use, and the address (SDM 3A table 4-8). */
#define PDPTE_RSVD (~(PTE_ADDRESS | UINT64_C(0xe19)))

#define PF_PRESENT 1u
#define PF_WRITE   2u
#define PF_USER    4u
#define PF_RSVD    8u
#define PF_FETCH   16u
#define PF_KEY     32u

/* What one level looks like; tables below are in walk order. */
struct level {
    uint8_t shift;  /* lowest linear-address bit of its index */
    uint8_t bits;   /* index width */
    bool can_map;   /* an entry here may be a page (PS) */
};

static const struct level levels_4[] = {{39, 9, false}, {30, 9, true}, {21, 9, true}, {12, 9, true}};
static const struct level levels_pae[] = {{21, 9, true}, {12, 9, true}}; /* below the top entries */
static const struct level levels_32[] = {{22, 10, true}, {12, 10, true}};

static void *entry_pointer(struct x86_cpu *cpu, gpa_t gpa, bool *ret_readonly)
{
    uint8_t *page = mmu_phys_page(cpu->vm, gpa & ~UINT64_C(0xfff), ret_readonly);
    return page ? page + (gpa & 0xfff) : NULL;
}

static uint64_t entry_read(void *pointer, unsigned bytes)
{
    if (!pointer) {
        return 0;
    }
    return bytes == 8 ? __atomic_load_n((uint64_t *)pointer, __ATOMIC_ACQUIRE)
                      : __atomic_load_n((uint32_t *)pointer, __ATOMIC_ACQUIRE);
}

/* Sets `bits` if the entry still is `old`. */
static bool entry_update(void *pointer, unsigned bytes, uint64_t old, uint64_t bits)
{
    if (bytes == 8) {
        return __atomic_compare_exchange_n((uint64_t *)pointer, &old, old | bits, false, __ATOMIC_ACQ_REL,
                                           __ATOMIC_ACQUIRE);
    }
    uint32_t old32 = (uint32_t)old;
    return __atomic_compare_exchange_n((uint32_t *)pointer, &old32, (uint32_t)(old | bits), false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

static uint32_t fault_code(struct x86_cpu *cpu, enum mmu_access access, enum mmu_privilege privilege, uint32_t extra)
{
    bool fetch_bit = (cpu->efer & EFER_NXE && cpu->cr4 & CR4_PAE) || cpu->cr4 & CR4_SMEP;
    return extra | (access == MMU_WRITE ? PF_WRITE : 0) | (privilege == MMU_USER ? PF_USER : 0) |
           (access == MMU_EXEC && fetch_bit ? PF_FETCH : 0);
}

/* Reserved bits of an entry at `level`; `maps`: it maps a page. */
static uint64_t reserved_bits(struct x86_cpu *cpu, const struct level *level, bool maps, bool legacy)
{
    if (legacy) {
        /* PSE-36 with 40-bit addresses: bits 13-20 carry address bits 32-39, bit 21 is reserved. */
        bool wide = x86_has(cpu->features, FEAT_PSE36);
        return maps && level->shift == 22 ? (wide ? UINT64_C(1) << 21 : UINT64_C(0x1ff) << 13) : 0;
    }
    uint64_t reserved = RSVD_HIGH | (cpu->efer & EFER_NXE ? 0 : PTE_NX);
    if (!(cpu->efer & EFER_LMA)) {
        reserved |= UINT64_C(0x7ff) << 52;
    }
    if (maps && level->shift > 12) {
        reserved |= ((UINT64_C(1) << level->shift) - 1) & ~UINT64_C(0x1fff);
    }
    if (level->shift == 39 || (level->shift == 30 && !x86_has(cpu->features, FEAT_PDPE1GB))) {
        reserved |= PTE_PS;
    }
    return reserved;
}

/* What `privilege` may do with a page whose combined U/S, R/W and NX are given. */
static unsigned page_rights(struct x86_cpu *cpu, enum mmu_privilege privilege, bool user, bool writable, bool nx)
{
    unsigned rights;
    if (privilege == MMU_USER) {
        if (!user) {
            return 0;
        }
        rights = MMU_R | MMU_X | (writable ? MMU_W : 0);
    } else {
        rights = MMU_R | MMU_X | (writable || !(cpu->cr0 & CR0_WP) ? MMU_W : 0);
        if (user) {
            if (cpu->cr4 & CR4_SMEP) {
                rights &= ~(unsigned)MMU_X;
            }
            if (cpu->cr4 & CR4_SMAP && privilege == MMU_KERNEL) {
                rights &= ~(unsigned)(MMU_R | MMU_W);
            }
        }
    }
    if (nx) {
        rights &= ~(unsigned)MMU_X;
    }
    return rights;
}

/* Whether protection keys govern accesses through a leaf whose combined U/S is `user`, and by which key. */
static unsigned page_key(const struct x86_cpu *cpu, uint64_t entry, bool user)
{
    bool governed = cpu->cr4 & (user ? CR4_PKE : CR4_PKS) && cpu->efer & EFER_LMA;
    return governed ? entry >> PTE_KEY_SHIFT & 15 : MMU_NO_KEY;
}

/* What PKRU or, on a supervisor page, PKRS takes away from `privilege` on a page with that key; instructions are fetched
 * regardless (SDM 3A 4.6.2). */
static unsigned key_denied(const struct x86_cpu *cpu, enum mmu_privilege privilege, unsigned key, bool user)
{
    if (key == MMU_NO_KEY || (privilege == MMU_USER && !user)) {
        return 0;
    }
    unsigned bits = (user ? cpu->pkru : cpu->pkrs) >> (2 * key) & 3; /* bit 0: no access, bit 1: no writes */
    bool write_denied = bits & 2 && (privilege == MMU_USER || cpu->cr0 & CR0_WP);
    return bits & 1 ? MMU_R | MMU_W : write_denied ? MMU_W : 0;
}

int mmu_load_pdptes(struct x86_cpu *cpu, uint64_t cr3)
{
    uint64_t made[4];
    for (unsigned i = 0; i < 4; i++) {
        bool readonly;
        made[i] = entry_read(entry_pointer(cpu, (cr3 & 0xffffffe0) + i * 8, &readonly), 8);
        if (made[i] & PTE_P && made[i] & PDPTE_RSVD) {
            return -EINVAL;
        }
    }
    memcpy(cpu->pdpte, made, sizeof(made));
    return 0;
}

static int walk_once(struct x86_cpu *cpu, gva_t la, enum mmu_access access, enum mmu_privilege privilege,
                     struct mmu_walk *ret, uint32_t *ret_error)
{
    static const unsigned needed[] = {[MMU_READ] = MMU_R, [MMU_WRITE] = MMU_W, [MMU_EXEC] = MMU_X};
    const struct level *level;
    unsigned count;
    unsigned bytes = 8;
    bool legacy = false;
    gpa_t table;

    if (!(cpu->cr0 & CR0_PG)) {
        *ret = (struct mmu_walk){.page = la & ~UINT64_C(0xfff),
                                 .page_bytes = 4096,
                                 .rights = MMU_R | MMU_W | MMU_X,
                                 .key = MMU_NO_KEY};
        return 0;
    }
    if (cpu->efer & EFER_LMA) {
        level = levels_4;
        count = ARRAY_LEN(levels_4);
        table = cpu->cr3 & PTE_ADDRESS;
    } else if (cpu->cr4 & CR4_PAE) {
        level = levels_pae;
        count = ARRAY_LEN(levels_pae);
        table = cpu->pdpte[la >> 30 & 3];
        if (!(table & PTE_P)) {
            *ret_error = fault_code(cpu, access, privilege, 0);
            return -1;
        }
        table &= PTE_ADDRESS;
    } else {
        level = levels_32;
        count = ARRAY_LEN(levels_32);
        table = cpu->cr3 & 0xfffff000;
        bytes = 4;
        legacy = true;
    }

    bool user = true, writable = true, nx = false;
    for (unsigned i = 0; i < count; i++, level++) {
        unsigned index = (unsigned)(la >> level->shift) & ((1u << level->bits) - 1);
        bool table_readonly = false;
        void *pointer = entry_pointer(cpu, table + index * bytes, &table_readonly);
        uint64_t entry = entry_read(pointer, bytes);

        if (!(entry & PTE_P)) {
            *ret_error = fault_code(cpu, access, privilege, 0);
            return -1;
        }
        bool last = i == count - 1;
        bool maps = last || (level->can_map && entry & PTE_PS && (!legacy || cpu->cr4 & CR4_PSE));
        if (entry & reserved_bits(cpu, level, maps, legacy)) {
            *ret_error = fault_code(cpu, access, privilege, PF_PRESENT | PF_RSVD);
            return -1;
        }
        user = user && entry & PTE_U;
        writable = writable && entry & PTE_W;
        nx = nx || (!legacy && entry & PTE_NX);
        uint64_t set = entry & PTE_A ? 0 : PTE_A;
        if (maps) {
            unsigned key = page_key(cpu, entry, user), denied = key_denied(cpu, privilege, key, user);
            unsigned rights = page_rights(cpu, privilege, user, writable, nx) & ~denied;
            if (!(rights & needed[access])) {
                *ret_error =
                    fault_code(cpu, access, privilege, PF_PRESENT | (denied & needed[access] ? PF_KEY : 0));
                return -1;
            }
            if (access == MMU_WRITE && !(entry & PTE_D)) {
                set |= PTE_D;
            }
            if (set && !table_readonly && !entry_update(pointer, bytes, entry, set)) {
                return 1;
            }
            entry |= set;
            if (!(entry & PTE_D)) {
                rights &= ~(unsigned)MMU_W;
            }
            uint64_t page_mask = (UINT64_C(1) << level->shift) - 1;
            gpa_t base = legacy && level->shift == 22
                             ? (entry & 0xffc00000) | ((entry >> 13 & 0xff) << 32)
                             : entry & PTE_ADDRESS & ~page_mask;
            *ret = (struct mmu_walk){
                .page = base | (la & page_mask & ~UINT64_C(0xfff)),
                .page_bytes = page_mask + 1,
                .rights = rights,
                .global = entry & PTE_G && cpu->cr4 & CR4_PGE,
                .key = (uint8_t)key,
            };
            return 0;
        }
        if (set && !table_readonly && !entry_update(pointer, bytes, entry, set)) {
            return 1;
        }
        table = entry & (legacy ? 0xfffff000 : PTE_ADDRESS);
    }
    return -1; /* not reached: the last level maps */
}

int mmu_walk(struct x86_cpu *cpu, gva_t la, enum mmu_access access, enum mmu_privilege privilege,
             struct mmu_walk *ret, uint32_t *ret_error)
{
    int r;
    do {
        r = walk_once(cpu, la, access, privilege, ret, ret_error); /* > 0: an entry changed under us */
    } while (r > 0);
    return r;
}
