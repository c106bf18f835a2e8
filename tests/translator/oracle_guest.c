/* SPDX-License-Identifier: Apache-2.0 */
/* The native oracle: the translator's side, see oracle.h. */
#include "tests/translator/oracle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "translator/mmu.h"
#include "translator/x86/sys.h"

#define GUEST_RAM_BYTES 0x40000u
#define GUEST_TABLES    0x1000u /* PML4, PDPT, PD, PT, then the upper half's PDPT, PD, PT */
#define GUEST_CODE      0x10000u
#define GUEST_EXIT      0x11000u
#define GUEST_GDT       0x12000u
#define GUEST_LDT       0x12800u
#define GUEST_TSS       0x12c00u
#define GUEST_DATA      0x20000u
#define GUEST_CONST     (GUEST_DATA + ORACLE_DATA_BYTES)

#define SYSTEM_LINEAR UINT64_C(0xfffffe0000000000) /* the page with the descriptor tables */
#define PTE_USER      0x67u                        /* present, writable, user, accessed, dirty */
#define PTE_SYSTEM    0x63u
#define PTE_READ_ONLY 0x65u
#define PTE_NX        (UINT64_C(1) << 63)

struct oracle_guest {
    struct translator_vm *vm;
    struct x86_cpu *cpu;
    uint8_t *ram;
    struct oracle_code code;
};

static void put64(struct oracle_guest *guest, uint32_t at, uint64_t value)
{
    memcpy(guest->ram + at, &value, 8);
}

static void put_entry(struct oracle_guest *guest, uint32_t table, uint64_t linear, unsigned level,
                      uint64_t value)
{
    put64(guest, table + 8 * (linear >> (12 + 9 * level) & 511), value);
}

static void build_tables(struct oracle_guest *guest)
{
    const uint32_t user = GUEST_TABLES + 0x1000, system = GUEST_TABLES + 0x4000;

    for (unsigned i = 0; i < 2; i++) {
        uint64_t linear = i ? SYSTEM_LINEAR : ORACLE_BASE;
        uint32_t table = i ? system : user;
        put_entry(guest, GUEST_TABLES, linear, 3, table | PTE_USER);
        put_entry(guest, table, linear, 2, (table + 0x1000) | PTE_USER);
        put_entry(guest, table + 0x1000, linear, 1, (table + 0x2000) | PTE_USER);
    }
    const uint32_t pt = user + 0x2000;
    put_entry(guest, pt, ORACLE_BASE, 0, GUEST_CODE | PTE_READ_ONLY);
    put_entry(guest, pt, ORACLE_EXIT, 0, GUEST_EXIT | PTE_READ_ONLY | PTE_NX);
    for (unsigned i = 0; i < ORACLE_DATA_BYTES; i += 0x1000)
        put_entry(guest, pt, ORACLE_DATA + i, 0, (GUEST_DATA + i) | PTE_USER | PTE_NX);
    put_entry(guest, pt, ORACLE_CONST, 0, GUEST_CONST | PTE_READ_ONLY | PTE_NX);
    put_entry(guest, system + 0x2000, SYSTEM_LINEAR, 0, GUEST_GDT | PTE_SYSTEM | PTE_NX);
    for (unsigned i = 0; i < 0x1000; i++)
        guest->ram[GUEST_CONST + i] = oracle_const_byte(i);
    /* The native side's exits hold addresses of its own there. */
    memcpy(guest->ram + GUEST_EXIT, (const void *)(uintptr_t)ORACLE_EXIT, 0x1000);
}

/* --- segments ------------------------------------------------------------------------------------------------ */

static uint32_t segment_attr(const struct oracle_segment *segment)
{
    return 0xf0u | segment->type | (segment->big ? SEG_ATTR_DB : 0) |
           (segment->limit > 0xfffff ? SEG_ATTR_G : 0);
}

/* GDT as Linux has it, as far as user code can tell; LDT as the native side asks for it. */
static void build_descriptors(struct oracle_guest *guest)
{
    static const struct {
        uint8_t selector;
        uint64_t raw;
    } gdt[] = {
        {0x08, UINT64_C(0x00cf9b000000ffff)}, {0x10, UINT64_C(0x00af9b000000ffff)},
        {0x18, UINT64_C(0x00cf93000000ffff)}, {0x20, UINT64_C(0x00cffb000000ffff)},
        {0x28, UINT64_C(0x00cff3000000ffff)}, {0x30, UINT64_C(0x00affb000000ffff)},
        {0x40, UINT64_C(0x00008b0000004087)}, {0x50, UINT64_C(0x000082000000ffff)},
    };

    for (unsigned i = 0; i < sizeof(gdt) / sizeof(gdt[0]); i++)
        put64(guest, GUEST_GDT + gdt[i].selector, gdt[i].raw);
    uint32_t rights = 0, bytes = 0; /* of the segment whose limit tells the processor's number */
    __asm__("lar %2, %0\n\tlsl %2, %1" : "+r"(rights), "+r"(bytes) : "r"(0x7b) : "cc");
    put64(guest, GUEST_GDT + 0x78, (uint64_t)rights << 32 | (bytes & 0xffff));
    for (unsigned mode = ORACLE_32; mode < ORACLE_MODES; mode++) {
        for (unsigned i = 0; i < 6; i++) {
            const struct oracle_segment *segment = &oracle_segments[mode][i];
            uint32_t attr = segment_attr(segment);
            uint32_t limit = attr & SEG_ATTR_G ? segment->limit >> 12 : segment->limit;
            uint64_t raw = (limit & 0xffff) | (uint64_t)(segment->base & 0xffffff) << 16 |
                           (uint64_t)(attr & 0xff) << 40 | (uint64_t)(limit >> 16) << 48 |
                           (uint64_t)(attr >> 12 & 0xf) << 52 | (uint64_t)(segment->base >> 24) << 56;
            if (segment->selector & 4)
                put64(guest, GUEST_LDT + (segment->selector & ~7u), raw);
        }
    }
}

static void load_segments(struct x86_cpu *cpu, enum oracle_mode mode)
{
    for (unsigned i = 0; i < 6; i++) {
        const struct oracle_segment *segment = &oracle_segments[mode][i];
        cpu->seg[i] = (struct x86_seg){.sel = segment->selector,
                                       .base = segment->base,
                                       .limit = segment->limit,
                                       .attr = segment_attr(segment)};
        if (mode == ORACLE_64)
            cpu->seg[i].attr = segment->selector ? 0xc0f3 : SEG_ATTR_UNUSABLE;
    }
    if (mode == ORACLE_64) {
        cpu->seg[SEG_CS].attr = 0xa0fb;
        cpu->seg[SEG_CS].limit = cpu->seg[SEG_SS].limit = UINT32_MAX;
    }
}

/* --- setting up ---------------------------------------------------------------------------------------------- */

static int set_cpuid(struct x86_cpu *cpu)
{
    uint32_t words[X86_FEATURE_WORDS];

    x86_supported_features(words);
    const struct x86_cpuid_leaf leaves[] = {
        {.leaf = 1, .eax = 0x30661, .ecx = words[1], .edx = words[0]},
        {.leaf = 7, .index_matters = true, .eax = 1, .ebx = words[2], .ecx = words[3], .edx = words[4]},
        {.leaf = 7, .subleaf = 1, .index_matters = true, .eax = words[8]},
        {.leaf = 0xd, .index_matters = true, .eax = 7, .ebx = 832, .ecx = 832},
        {.leaf = 0xd, .subleaf = 1, .index_matters = true, .eax = words[7]},
        {.leaf = 0xd, .subleaf = 2, .index_matters = true, .eax = 256, .ebx = 576},
        {.leaf = 0x80000001, .ecx = words[6], .edx = words[5]},
        {.leaf = 0x80000008, .eax = 48 << 8 | 40},
    };
    return x86_cpu_set_cpuid(cpu, leaves, sizeof(leaves) / sizeof(leaves[0]), NULL);
}

static void enter_user_mode(struct x86_cpu *cpu)
{
    cpu->cr0 = CR0_PG | CR0_PE | CR0_NE | CR0_ET | CR0_MP | CR0_WP | CR0_AM;
    cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE | CR4_UMIP;
    cpu->xcr0 = oracle_native_avx() ? 7 : 3;
    cpu->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    cpu->gdtr = (struct x86_table){.base = SYSTEM_LINEAR, .limit = 0x7f};
    cpu->seg[SEG_LDTR] = (struct x86_seg){
        .sel = 0x50, .base = SYSTEM_LINEAR + (GUEST_LDT - GUEST_GDT), .limit = 8 * 8 - 1, .attr = 0x82};
    /* A TSS without I/O bitmap. */
    cpu->seg[SEG_TR] = (struct x86_seg){
        .sel = 0x40, .base = SYSTEM_LINEAR + (GUEST_TSS - GUEST_GDT), .limit = 0x67, .attr = 0x8b};
    load_segments(cpu, ORACLE_64);
    cpu->cpl = 3;
    mmu_paging_changed(cpu);
    mmu_set_cr3(cpu, GUEST_TABLES);
    x86_update_mode(cpu);
}

int oracle_guest_create(enum engine_tier tier, struct oracle_guest **ret_guest)
{
    static const struct x86_cpu_ops no_ops;
    struct oracle_guest *guest = calloc(1, sizeof(*guest));
    int r;

    if (!guest)
        return -ENOMEM;
    guest->ram = mmap(NULL, GUEST_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (guest->ram == MAP_FAILED) {
        free(guest);
        return -ENOMEM;
    }
    const struct mmu_slot slot = {.bytes = GUEST_RAM_BYTES, .host = guest->ram};
    r = translator_vm_create(1, tier, &guest->vm);
    if (r == 0)
        r = mmu_set_slots(guest->vm, &slot, 1);
    if (r == 0)
        r = x86_cpu_create(guest->vm, 0, &no_ops, NULL, &guest->cpu);
    if (r == 0)
        r = set_cpuid(guest->cpu);
    if (r < 0) {
        oracle_guest_destroy(guest);
        return r;
    }
    build_tables(guest);
    build_descriptors(guest);
    memset(guest->ram + GUEST_TSS + 0x66, 0xff, 2);
    memset(guest->ram + GUEST_CODE, 0xf4, 0x1000);
    enter_user_mode(guest->cpu);
    *ret_guest = guest;
    return 0;
}

void oracle_guest_destroy(struct oracle_guest *guest)
{
    if (!guest)
        return;
    x86_cpu_destroy(guest->cpu);
    translator_vm_destroy(guest->vm);
    munmap(guest->ram, GUEST_RAM_BYTES);
    free(guest);
}

uint64_t oracle_guest_stat(const struct oracle_guest *guest, unsigned stat)
{
    return guest->cpu->stats[stat];
}

/* --- running ------------------------------------------------------------------------------------------------- */

void oracle_guest_code(struct oracle_guest *guest, const struct oracle_code *code)
{
    guest->code = *code;
    memcpy(guest->ram + GUEST_CODE + (ORACLE_INSN - ORACLE_BASE), code->data, sizeof(code->data));
    /* The engine compares translations with the page when it fills an instruction mapping. */
    mmu_flush_all(guest->cpu);
}

static void load(struct oracle_guest *guest, const struct oracle_state *state)
{
    struct x86_cpu *cpu = guest->cpu;

    memcpy(cpu->gpr, state->gpr, sizeof(cpu->gpr));
    cpu->rflags = state->rflags;
    cpu->fx = state->fx;
    cpu->mxcsr = state->fx.mxcsr;
    cpu->x87_live = false;
    for (unsigned i = 0; i < 16; i++) {
        memcpy(cpu->vec[i].b, state->fx.xmm[i], 16);
        memcpy(cpu->vec[i].b + 16, state->ymm_high[i], 16);
    }
    cpu->vec_upper = VEC_UPPER_USED;
    memset(&cpu->exc, 0, sizeof(cpu->exc));
    load_segments(cpu, guest->code.mode);
    x86_update_mode(cpu);
    x86_set_rip(cpu, ORACLE_INSN - (guest->code.mode == ORACLE_16 ? ORACLE_BASE : 0));
}

static void save(struct x86_cpu *cpu, struct oracle_state *state)
{
    x86_x87_sync(cpu);
    memcpy(state->gpr, cpu->gpr, sizeof(cpu->gpr));
    state->rflags = cpu->rflags;
    state->rip = cpu->rip;
    for (unsigned i = 0; i < 6; i++)
        state->seg[i] = cpu->seg[i].sel;
    state->fs_base = cpu->seg[SEG_FS].base;
    state->gs_base = cpu->seg[SEG_GS].base;
    state->fx = cpu->fx;
    state->fx.mxcsr = cpu->mxcsr;
    for (unsigned i = 0; i < 16; i++) {
        memcpy(state->fx.xmm[i], cpu->vec[i].b, 16);
        memcpy(state->ymm_high[i], cpu->vec[i].b + 16, 16);
    }
}

enum end { END_FAULT, END_EXIT, END_HLT };

/* Is this the #PF that is an exit? Then the state's rip says where from. */
static enum end find_end(const struct oracle_guest *guest, struct oracle_state *state)
{
    const struct x86_cpu *cpu = guest->cpu;

    if (cpu->exc.vector != EXC_PF || !(cpu->exc.error & 0x10))
        return END_FAULT;
    for (unsigned which = 0; which < 2; which++) {
        if (cpu->rip != oracle_exit(guest->code.mode, which))
            continue;
        state->rip = which ? ORACLE_TARGET : ORACLE_INSN + guest->code.length;
        state->seg[SEG_CS] = oracle_segments[guest->code.mode][SEG_CS].selector;
        return END_EXIT;
    }
    /* A branch into the page beside them: the native side executes HLT there. */
    uint64_t offset = cpu->exc.cr2 - ORACLE_EXIT;
    return offset < 0x1000 && guest->ram[GUEST_EXIT + offset] == 0xf4 ? END_HLT : END_FAULT;
}

void oracle_guest_run(struct oracle_guest *guest, struct oracle_state *state)
{
    struct x86_cpu *cpu = guest->cpu;

    load(guest, state);
    memcpy(guest->ram + GUEST_DATA, state->data, sizeof(state->data));
    int r = engine_run(cpu);
    save(cpu, state);
    memcpy(state->data, guest->ram + GUEST_DATA, sizeof(state->data));
    state->vector = -1;
    state->error = state->address = 0;
    if (r != X86_RAISE) {
        state->vector = 1000 + r; /* no way out that an instruction of user mode may take */
        return;
    }
    switch (find_end(guest, state)) {
    case END_FAULT:
        state->vector = cpu->exc.vector;
        state->error = cpu->exc.has_error ? cpu->exc.error : 0;
        state->address = cpu->exc.vector == EXC_PF ? cpu->exc.cr2 : 0;
        break;
    case END_HLT:
        state->vector = EXC_GP;
        break;
    default:
        break;
    }
}
