/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The soft MMU: guest linear address -> host address, per vCPU.
 *
 * Idea: each vCPU keeps several address-space contexts (by PCID, or CR3 without PCIDs, and by user/supervisor), each
 * with a direct-mapped table of 4 KiB entries, so that a context switch changes one pointer and flushes nothing. An
 * entry has one tag per kind of access. A tag equals the page's linear address exactly when that access is allowed and
 * needs no further work (accessed and dirty bits set, no code on the page for writes, RAM behind it); everything else
 * takes the slow path.
 *
 * All functions run on the vCPU's thread unless said otherwise. Those that return enum x86_result return X86_OK or
 * X86_RAISE with the exception recorded and nothing changed.
 *
 * Accesses may be unaligned and cross pages; both pages are checked before the first byte is written.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/units.h"
#include "translator/x86/cpu.h"

enum mmu_access { MMU_READ, MMU_WRITE, MMU_EXEC };

struct mmu_tlb_entry {
    uint64_t tag[3];  /* by enum mmu_access: page address, or a value that no address of this entry matches */
    uint64_t host;    /* host address of the page */
};

/* --- data accesses at the current privilege ---------------------------------------------------------------- */

/* Reads/writes `size` bytes (1..64) at linear address `la` into/from `data`. Aligned accesses of up to 8 bytes are
 * single-copy atomic when they hit RAM. MMIO is split by the caller's size (1,2,4,8; larger ones in 8-byte pieces). */
int mmu_read(struct x86_cpu *cpu, gva_t la, unsigned size, void *data);
int mmu_write(struct x86_cpu *cpu, gva_t la, unsigned size, const void *data);
/* As above but always with supervisor rights (descriptor tables, TSS, IDT, stacks during delivery use
 * mmu_write_as()). */
int mmu_read_sys(struct x86_cpu *cpu, gva_t la, unsigned size, void *data);
int mmu_write_sys(struct x86_cpu *cpu, gva_t la, unsigned size, const void *data);
/* With the rights of `cpl` (0 or 3): pushes onto another privilege's stack. */
int mmu_write_as(struct x86_cpu *cpu, unsigned cpl, gva_t la, unsigned size, const void *data);
int mmu_read_as(struct x86_cpu *cpu, unsigned cpl, gva_t la, unsigned size, void *data);

/* Raises the fault that an access would raise; changes nothing but A/D bits. */
int mmu_probe(struct x86_cpu *cpu, gva_t la, unsigned size, enum mmu_access access);

/*
 * A read-modify-write of `size` bytes (1..16). begin: checks write permission and gives `ptr`, either the RAM itself
 * (then an atomic host operation on it is atomic for the guest) or a private buffer that already holds the present
 * value (page crossing, MMIO, code page); `direct` says which. commit: writes the private buffer back (no-op when
 * direct); it cannot fault. A locked operation on a private buffer is exclusive against other vCPUs from begin to
 * commit. Every successful begin is followed by one commit.
 */
struct mmu_rmw {
    void *ptr;
    bool direct, exclusive;
    gva_t la;
    unsigned size;
    _Alignas(16) uint8_t buffer[64];
};
int mmu_rmw_begin(struct x86_cpu *cpu, gva_t la, unsigned size, bool locked, struct mmu_rmw *ret_rmw);
void mmu_rmw_commit(struct x86_cpu *cpu, struct mmu_rmw *rmw);

/* Host pointer to `size` bytes of RAM at `la` that may be accessed now without side effects (not MMIO, not crossing a
 * page; for MMU_WRITE: no code page), or NULL. Never raises. Valid until the next call into the translator. For string
 * instructions and the like. */
void *mmu_host(struct x86_cpu *cpu, gva_t la, unsigned size, enum mmu_access access);

/* As mmu_host(), after translating the page if it was not yet; NULL also when that faults. Uses no vector registers, nor does
 * what it calls. */
void *mmu_refill(struct x86_cpu *cpu, gva_t la, unsigned size, enum mmu_access access);

/* --- code fetch --------------------------------------------------------------------------------------------- */

/* Physical address and host pointer of the instruction byte at linear `la`. X86_OK or X86_RAISE (#PF with I/D). A page
 * outside RAM gives *ret_host == NULL. */
int mmu_fetch(struct x86_cpu *cpu, gva_t la, gpa_t *ret_gpa, const uint8_t **ret_host);

/* --- physical memory ---------------------------------------------------------------------------------------- */

/* One range of RAM or ROM; same rules as struct accel_slot. */
struct mmu_slot {
    gpa_t gpa;
    uint64_t bytes;
    uint8_t *host;
    bool readonly;
};
/* Replaces the table; no vCPU runs. Copies. 0 or -EINVAL (overlap, unaligned) or -ENOMEM. */
int mmu_set_slots(struct translator_vm *vm, const struct mmu_slot *slots, unsigned count);
/* RAM at gpa (whole 4 KiB page), or NULL. */
uint8_t *mmu_phys_page(struct translator_vm *vm, gpa_t page, bool *ret_readonly);

/* Physical address of a byte of RAM. */
gpa_t mmu_host_to_gpa(struct translator_vm *vm, const uint8_t *host);

/* --- what the guest can do to its mappings ------------------------------------------------------------------ */

void mmu_set_cr3(struct x86_cpu *cpu, uint64_t value);     /* MOV CR3 incl. bit 63; sets cpu->cr3 */
void mmu_paging_changed(struct x86_cpu *cpu);              /* CR0.PG/WP, CR4.PAE/PSE/PGE/SMEP/SMAP/PCIDE, EFER.NXE: flush all */
/* WRPKRU, XRSTOR; IA32_PKRS: sets cpu->pkru, cpu->pkrs. Cheap while key 0 keeps its rights, as systems do. */
void mmu_set_pkru(struct x86_cpu *cpu, uint32_t value);
void mmu_set_pkrs(struct x86_cpu *cpu, uint32_t value);
void mmu_privilege_changed(struct x86_cpu *cpu);           /* CPL or RFLAGS.AC changed: select the context */
void mmu_invlpg(struct x86_cpu *cpu, gva_t la);
int mmu_invpcid(struct x86_cpu *cpu, unsigned type, uint64_t pcid, gva_t la); /* X86_OK or #GP */
void mmu_flush_all(struct x86_cpu *cpu);

int mmu_create(struct x86_cpu *cpu);   /* 0 or -ENOMEM */
void mmu_destroy(struct x86_cpu *cpu);
