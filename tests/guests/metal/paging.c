/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paging (SDM 3A chapter 4): every combination of rights in the entry that maps a page and in one above it, of CR0.WP, CR4.SMEP,
 * CR4.SMAP, EFER.NXE and RFLAGS.AC, for reads, writes and fetches of supervisor and user, in every page size, against the
 * manual's rules: the fault's error code and address, and exactly which accessed and dirty bits are set.
 *
 * metal64 tests 4-level paging, metal32 both PAE and 32-bit paging. The guest's own mapping is for the supervisor only; user code
 * runs at an alias.
 */
#include "metal.h"

#ifdef __x86_64__
const char metal_name[] = "paging64";
#else
const char metal_name[] = "paging32";
#endif

#define PTE_P  1u
#define PTE_W  2u
#define PTE_U  4u
#define PTE_A  0x20u
#define PTE_D  0x40u
#define PTE_PS 0x80u
#define PTE_G  0x100u
#define PTE_NX (UINT64_C(1) << 63)

#define CR0_WP   (1u << 16)
#define CR0_PG   (1u << 31)
#define CR4_PSE  (1u << 4)
#define CR4_PAE  (1u << 5)
#define CR4_PGE  (1u << 7)
#define CR4_SMEP (1u << 20)
#define CR4_SMAP (1u << 21)
#define CR4_PKE  (1u << 22)
#define EFER     0xc0000080u
#define EFER_NXE (1u << 11)
#define FLAG_AC  (1u << 18)

#define PF_P    1u
#define PF_W    2u
#define PF_U    4u
#define PF_RSVD 8u
#define PF_I    16u
#define PF_PK   32u

#define PAGE 4096u

struct level {
    unsigned shift, bits;
    bool may_map;
};

/* A paging mode: its levels from the top. PAE's top entries have no rights and no accessed bit. */
static const struct format {
    const char *name;
    struct level level[4];
    unsigned levels, entry_bytes;
    bool pae_top;
} formats[] = {
#ifdef __x86_64__
    {"4-level", {{39, 9, false}, {30, 9, true}, {21, 9, true}, {12, 9, true}}, 4, 8, false},
#else
    {"PAE", {{30, 2, false}, {21, 9, true}, {12, 9, true}}, 3, 8, true},
    {"32-bit", {{22, 10, true}, {12, 10, true}}, 2, 4, false},
#endif
};

#ifdef __x86_64__
#define TEST_BASE  ((word)0x10000000000) /* for the page under test */
#define ALIAS_BASE ((word)0x18000000000) /* memory for user code */
#else
#define TEST_BASE  0x40000000u
#define ALIAS_BASE 0x80000000u
#endif

static const struct format *format;
static uint8_t tables[12][PAGE] __attribute__((aligned(4096)));
static unsigned tables_used;
static void *entry[4]; /* of the test page, by level */
static word test_page; /* its linear address */
static unsigned leaf;  /* level that maps it */
static word root;
static uint32_t features_7b, features_7c;
static bool have_nx, have_1g;

/* What is executed there: for the supervisor RET at 16, for the user INT $0x30 at 0. Inside a 1 GiB or 2 MiB page too. */
static uint8_t target[PAGE] __attribute__((aligned(4096))) = {0xcd, 0x30, [16] = 0xc3};

/* --- tables ------------------------------------------------------------------------------------------------------- */

static uint64_t get(unsigned level)
{
    return format->entry_bytes == 8 ? *(volatile uint64_t *)entry[level] : *(volatile uint32_t *)entry[level];
}

static void put(void *at, uint64_t value)
{
    if (format->entry_bytes == 8) {
        *(volatile uint64_t *)at = value;
    } else {
        *(volatile uint32_t *)at = (uint32_t)value;
    }
}

static void *new_table(void)
{
    if (tables_used == sizeof(tables) / PAGE) {
        metal_fail("too few page tables");
    }
    memset(tables[tables_used], 0, PAGE);
    return tables[tables_used++];
}

/* The entry at `level` for `address`, making what is above it. Links get all rights. */
static void *entry_at(word address, unsigned level)
{
    uint8_t *table = (uint8_t *)root;
    for (unsigned i = 0;; i++) {
        unsigned index = (unsigned)(address >> format->level[i].shift) & ((1u << format->level[i].bits) - 1);
        uint8_t *at = table + index * format->entry_bytes;
        uint64_t value = format->entry_bytes == 8 ? *(uint64_t *)at : *(uint32_t *)at;
        if (i == level) {
            return at;
        }
        if (!(value & PTE_P)) {
            value = (word)new_table() | (format->pae_top && i == 0 ? PTE_P : PTE_P | PTE_W | PTE_U);
            put(at, value);
        }
        table = (uint8_t *)(word)(value & ~(uint64_t)(PAGE - 1));
    }
}

static void load_root(void)
{
    cr3_write(root);
}

/* The low 4 GiB (metal64) or the low GiB and the devices at the top (metal32) for the supervisor; the low memory's alias. */
static void make_tables(void)
{
    tables_used = 0;
    root = (word)new_table();
#ifdef __x86_64__
    extern uint64_t metal_pml4[512];
    uint64_t *pdpt = new_table(), *own = (uint64_t *)(word)(metal_pml4[0] & ~(uint64_t)(PAGE - 1));
    for (unsigned i = 0; i < 4; i++) {
        pdpt[i] = own[i];
    }
    ((uint64_t *)root)[0] = (word)pdpt | PTE_P | PTE_W;
    uint64_t *alias = new_table();
    alias[0] = own[0];
    put(entry_at(ALIAS_BASE, 0), (word)alias | PTE_P | PTE_W | PTE_U);
#else
    unsigned large = format->pae_top ? 21 : 22, map = format->pae_top ? 1 : 0;
    for (word at = 0; at < 64u << 20; at += 1u << large) {
        put(entry_at(at, map), at | PTE_P | PTE_W | PTE_PS);
        put(entry_at(ALIAS_BASE + at, map), at | PTE_P | PTE_W | PTE_U | PTE_PS);
    }
    put(entry_at(LAPIC_BASE, map), (LAPIC_BASE >> large << large) | PTE_P | PTE_W | PTE_PS);
#endif
}

static void place_test_page(unsigned level)
{
    leaf = level;
    /* A large page starts below the target: the same physical page, at the same offset. */
    word size = (word)1 << format->level[leaf].shift;
    test_page = TEST_BASE + ((word)target & (size - 1));
    for (unsigned i = 0; i <= leaf; i++) {
        entry[i] = entry_at(test_page, i);
    }
    load_root(); /* PAE's top entries are read now and not later */
}

static uint64_t leaf_address(void)
{
    return (word)target & ~(((uint64_t)1 << format->level[leaf].shift) - 1);
}

/* --- accesses ----------------------------------------------------------------------------------------------------- */

enum access { READ, WRITE, FETCH };

static void supervisor_read(void)
{
    (void)*(volatile uint8_t *)(test_page + 32);
}

static void supervisor_write(void)
{
    *(volatile uint8_t *)(test_page + 32) = 1;
}

static void supervisor_fetch(void)
{
    ((void (*)(void))(test_page + 16))();
}

__asm__(".text\n"
        "user_read:  mov 32(%" METAL_AX "), %cl; int $0x30\n"
        "user_write: movb $1, 32(%" METAL_AX "); int $0x30\n"
        "user_fetch: jmp *%" METAL_AX "\n");
extern uint8_t user_read[], user_write[], user_fetch[];

static uint8_t *user_code;

static void user_access(void)
{
    metal_enter_user(ALIAS_BASE + (word)user_code, test_page);
}

/* 0, or vector << 32 | error code. */
static uint64_t access(enum access how, bool user, bool ac)
{
    static void (*const supervisor[])(void) = {supervisor_read, supervisor_write, supervisor_fetch};
    static uint8_t *const users[] = {user_read, user_write, user_fetch};
    user_code = users[how];
    if (ac) {
        __asm__ volatile("stac");
    }
    unsigned vector = metal_try(user ? user_access : supervisor[how]);
    if (ac) {
        __asm__ volatile("clac");
    }
    if (vector == V_NONE || vector == V_USER) {
        return 0;
    }
    return (uint64_t)vector << 32 | metal_trap.error;
}

/* --- the manual's rules ----------------------------------------------------------------------------------------- */

struct controls {
    bool wp, smep, smap, nxe, ac;
};

/* The error code of the #PF (SDM 3A 4.6, 4.7), or -1. `all`: rights that every entry gives; nx: some entry forbids fetches. */
static int expected_fault(const struct controls *c, enum access how, bool user, bool present, bool reserved,
                          bool writable, bool user_page, bool nx)
{
    int code = (how == WRITE ? PF_W : 0) | (user ? PF_U : 0);
    bool fetch_bit = c->smep || (c->nxe && format->entry_bytes == 8);
    bool denied;
    if (how == FETCH && fetch_bit) {
        code |= PF_I;
    }
    if (!present) {
        return code;
    }
    if (reserved) {
        return code | PF_P | PF_RSVD;
    }
    if (user) {
        denied = !user_page || (how == WRITE && !writable) || (how == FETCH && nx);
    } else if (how == FETCH) {
        denied = nx || (user_page && c->smep);
    } else {
        denied = (how == WRITE && !writable && c->wp) || (user_page && c->smap && !c->ac);
    }
    return denied ? code | (int)PF_P : -1;
}

static void set_controls(const struct controls *c)
{
    word cr4 = cr4_read() & ~(word)(CR4_SMEP | CR4_SMAP);
    if (have_nx) {
        msr_write(EFER, (msr_read(EFER) & ~(uint64_t)EFER_NXE) | (c->nxe ? EFER_NXE : 0));
    }
    cr0_write((cr0_read() & ~(word)CR0_WP) | (c->wp ? CR0_WP : 0));
    cr4_write(cr4 | (c->smep ? CR4_SMEP : 0) | (c->smap ? CR4_SMAP : 0));
}

static unsigned long counted;
static unsigned failed;

/* What the leaf and one entry above it say; bits as in an entry. */
static void one_page(const struct controls *c, uint64_t low, unsigned above, uint64_t high)
{
    bool pae_top = format->pae_top && above == 0;
    for (unsigned i = 0; i < leaf; i++) {
        uint64_t rights = i == above ? high : PTE_P | PTE_W | PTE_U;
        if (format->pae_top && i == 0) {
            rights = PTE_P; /* no rights there */
        }
        put(entry[i], (get(i) & ~(uint64_t)(PTE_P | PTE_W | PTE_U | PTE_A | PTE_NX)) | rights);
    }
    if (pae_top) {
        high = PTE_P | PTE_W | PTE_U;
    }
    uint64_t value = leaf_address() | low | (leaf + 1 < format->levels ? PTE_PS : 0);
    bool nx = (low | high) & PTE_NX;
    bool reserved = nx && !c->nxe;
    bool present = low & high & PTE_P;
    if (!(high & PTE_P)) {
        reserved = false;
    } else if (high & PTE_NX && !c->nxe) {
        present = true; /* the reserved bit above comes first */
    } else {
        reserved = low & PTE_NX && !c->nxe;
    }
    for (unsigned n = 0; n < 6; n++) {
        enum access how = (enum access)(n % 3);
        bool user = n >= 3;
        if (user && c->ac) {
            continue; /* AC is the supervisor's concern; at CPL 3 it would ask for alignment checks */
        }
        int fault =
            expected_fault(c, how, user, present, reserved, low & high & PTE_W, low & high & PTE_U, nx);
        put(entry[leaf], value);
        for (unsigned i = 0; i < leaf; i++) {
            put(entry[i], get(i) & ~(uint64_t)(format->pae_top && i == 0 ? 0 : PTE_A));
        }
        invlpg((void *)test_page);
        uint64_t got = access(how, user, c->ac);
        uint64_t want = fault < 0 ? 0 : (uint64_t)V_PF << 32 | (unsigned)fault;
        counted++;
        if (got != want && failed++ < 5) {
            metal_print(
                "metal: note leaf level %u %X, level %u %X, wp %u smep %u smap %u nxe %u ac %u, %s %s\n",
                leaf, low, above, high, c->wp, c->smep, c->smap, c->nxe, c->ac, user ? "user" : "supervisor",
                how == READ    ? "read"
                : how == WRITE ? "write"
                               : "fetch");
        }
        if (got != want) {
            CHECK(got, want);
            return;
        }
        if (fault >= 0) {
            word where = test_page + (how != FETCH ? 32 : user ? 0 : 16);
            if (metal_trap.cr2 != where) {
                CHECK(metal_trap.cr2, where);
            }
            if (get(leaf) != value) { /* 4.8: no flag of the leaf by an access that is not done */
                metal_check("the leaf after a fault", get(leaf), value);
            }
            continue;
        }
        uint64_t after = value | PTE_A | (how == WRITE ? PTE_D : 0);
        if (get(leaf) != after) {
            metal_check("accessed and dirty bits of the leaf", get(leaf), after);
        }
        for (unsigned i = format->pae_top; i < leaf; i++) {
            if (!(get(i) & PTE_A)) {
                metal_check("accessed bit above the leaf", get(i) & PTE_A, PTE_A);
            }
        }
    }
}

static void all_rights(void)
{
    bool quick = metal_has_word(metal_cmdline(), "quick"); /* a sample, for slow processors */
    static const uint64_t highs[] = {PTE_P | PTE_W | PTE_U, PTE_P | PTE_U, PTE_P | PTE_W, PTE_W | PTE_U,
                                     PTE_P | PTE_W | PTE_U | PTE_NX};
    for (unsigned control = 0; control < 32; control++) {
        struct controls c = {control & 1, control & 2, control & 4, control & 8, control & 16};
        bool smap = features_7b >> 20 & 1, smep = features_7b >> 7 & 1;
        bool nx_possible = have_nx && format->entry_bytes == 8;
        if ((c.smap && !smap) || (c.smep && !smep) || (c.nxe && !nx_possible) || (c.ac && !smap)) {
            continue;
        }
        set_controls(&c);
        for (unsigned h = 0; h < (nx_possible ? 5 : 4); h++) {
            if (leaf == 0 && h > 0) {
                continue;
            }
            for (unsigned l = 0; l < (nx_possible ? 48 : 24); l++) {
                static const uint64_t ad[] = {0, PTE_A, PTE_A | PTE_D};
                if (quick && (control + h + l) % 11) {
                    continue;
                }
                uint64_t low = (l & 7) | ad[l / 8 % 3] | (l >= 24 ? PTE_NX : 0);
                one_page(&c, low, leaf ? leaf - 1 - h % (format->pae_top && leaf > 1 ? leaf - 1 : leaf) : 0,
                         highs[h]);
            }
        }
    }
    set_controls(&(struct controls){.wp = true});
}

/* --- reserved bits ------------------------------------------------------------------------------------------------- */

static unsigned physical_bits(void)
{
    return cpuid(0x80000000, 0).a >= 0x80000008 ? cpuid(0x80000008, 0).a & 0xff : 36;
}

static void try_reserved(unsigned level, uint64_t bit, bool is_reserved)
{
    uint64_t before = get(level);
    put(entry[level], before | bit);
    invlpg((void *)test_page);
    uint64_t got = access(READ, false, false);
    metal_check("a reserved bit", got, is_reserved ? (uint64_t)V_PF << 32 | PF_P | PF_RSVD : 0);
    put(entry[level], before);
    invlpg((void *)test_page);
}

/* SDM 3A tables 4-2 to 4-20. Bits of other features (protection keys, HLAT) are ignored without them. */
static void reserved_bits(void)
{
    unsigned bits = physical_bits();
    for (unsigned i = 0; i <= leaf; i++) {
        put(entry[i],
            (i == leaf ? leaf_address() | (leaf + 1 < format->levels ? PTE_PS : 0) : get(i) & ~PTE_NX) |
                PTE_P | (format->pae_top && i == 0 ? 0 : PTE_W | PTE_U));
    }
    for (unsigned i = format->pae_top; i <= leaf; i++) {
        unsigned shift = format->level[i].shift;
        bool maps = i == leaf;
        if (format->entry_bytes == 8) {
            for (unsigned bit = bits; bit < 52; bit++) {
                try_reserved(i, (uint64_t)1 << bit, true);
            }
            for (unsigned bit = 52; bit < 63; bit++) {
                try_reserved(i, (uint64_t)1 << bit, format->pae_top);
            }
            for (unsigned bit = 13; maps && bit < shift; bit++) {
                try_reserved(i, (uint64_t)1 << bit, true);
            }
            if (have_nx) {
                try_reserved(i, PTE_NX, true); /* EFER.NXE is clear */
            }
        } else if (maps && shift == 22) {
            try_reserved(i, 1u << 21, true); /* PSE-36 reaches no further than 40 bits */
        }
        try_reserved(i, 0xe00, false);
        if (shift == 39) {
            try_reserved(i, PTE_PS, true);
        }
        if (maps) {
            try_reserved(i, PTE_G, false);
        }
    }
}

/* --- invalidation --------------------------------------------------------------------------------------------------- */

static uint8_t page_a[PAGE] __attribute__((aligned(4096))), page_b[PAGE] __attribute__((aligned(4096)));

static void map_small(const void *page, uint64_t flags)
{
    place_test_page(format->levels - 1);
    for (unsigned i = 0; i < leaf; i++) {
        put(entry[i], get(i) | PTE_P | (format->pae_top && i == 0 ? 0 : PTE_W | PTE_U));
    }
    put(entry[leaf], (word)page | PTE_P | PTE_W | PTE_U | flags);
}

static uint8_t byte(void)
{
    return *(volatile uint8_t *)test_page;
}

/* 4.10.4: what must be seen after each instruction that invalidates. */
static void invalidation(void)
{
    page_a[0] = 0xaa;
    page_b[0] = 0xbb;
    map_small(page_a, 0);
    invlpg((void *)test_page);
    CHECK(byte(), 0xaa);
    map_small(page_b, 0);
    invlpg((void *)test_page);
    metal_check("after INVLPG", byte(), 0xbb);
    map_small(page_a, 0);
    load_root();
    metal_check("after MOV to CR3", byte(), 0xaa);
    cr4_write(cr4_read() | CR4_PGE);
    map_small(page_b, PTE_G);
    invlpg((void *)test_page);
    metal_check("a global page", byte(), 0xbb);
    map_small(page_a, PTE_G);
    cr4_write(cr4_read() & ~(word)CR4_PGE);
    metal_check("a global page after CR4.PGE changed", byte(), 0xaa);
    cr4_write(cr4_read() | CR4_PGE);
    map_small(page_b, PTE_G);
    invlpg((void *)(test_page + 123));
    metal_check("a global page after INVLPG", byte(), 0xbb);
    cr4_write(cr4_read() & ~(word)CR4_PGE);
    map_small(page_a, 0);
    cr0_write(cr0_read() ^ CR0_WP);
    cr0_write(cr0_read() ^ CR0_WP);
    invlpg((void *)test_page);
    CHECK(byte(), 0xaa);
}

/* A page table changes from one that maps small pages to a large page and back. */
static void sizes_change(void)
{
    unsigned upper = format->levels - 2;
    map_small(page_b, 0);
    invlpg((void *)test_page);
    CHECK(byte(), 0xbb);
    uint64_t table = get(upper);
    word offset = (word)page_a & (((word)1 << format->level[upper].shift) - 1);
    put(entry[upper], ((word)page_a - offset) | PTE_P | PTE_W | PTE_PS);
    load_root();
    metal_check(
        "a large page",
        *(volatile uint8_t *)(((test_page >> format->level[upper].shift) << format->level[upper].shift) +
                              offset),
        0xaa);
    put(entry[upper], table);
    load_root();
    metal_check("a small page again", byte(), 0xbb);
}

/* An access over a page end faults with the address of the first byte that is not mapped, and changes nothing. */
static uint8_t two_pages[2 * PAGE] __attribute__((aligned(4096)));

static void write_over_the_end(void)
{
    *(volatile uint32_t *)(test_page + PAGE - 2) = 0x12345678;
}

static void read_over_the_end(void)
{
    (void)*(volatile uint32_t *)(test_page + PAGE - 2);
}

static void page_ends(void)
{
    map_small(two_pages, 0);
    void *second = (uint8_t *)entry[leaf] + format->entry_bytes;
    put(second, 0);
    invlpg((void *)test_page);
    invlpg((void *)(test_page + PAGE));
    CHECK(metal_try(write_over_the_end), V_PF);
    CHECK(metal_trap.error, PF_W);
    CHECK(metal_trap.cr2, test_page + PAGE);
    CHECK(*(uint16_t *)(two_pages + PAGE - 2), 0);
    CHECK(metal_try(read_over_the_end), V_PF);
    CHECK(metal_trap.cr2, test_page + PAGE);
    put(second, ((word)two_pages + PAGE) | PTE_P);
    invlpg((void *)(test_page + PAGE));
    CHECK(metal_try(write_over_the_end), V_PF);
    CHECK(metal_trap.error, PF_W | PF_P);
    CHECK(*(uint16_t *)(two_pages + PAGE - 2), 0);
    put(second, ((word)two_pages + PAGE) | PTE_P | PTE_W);
    put(entry[leaf], 0);
    invlpg((void *)test_page);
    invlpg((void *)(test_page + PAGE));
    CHECK(metal_try(write_over_the_end), V_PF);
    CHECK(metal_trap.cr2, test_page + PAGE - 2);
    CHECK(two_pages[PAGE], 0);
    put(second, 0);
}

/* --- PCIDs, protection keys (4-level only) ---------------------------------------------------------------------------- */

#ifdef __x86_64__
static word cr3_value, cr4_value;

static void write_cr3(void)
{
    cr3_write(cr3_value);
}

static void write_cr4(void)
{
    cr4_write(cr4_value);
}

static void clear_pg(void)
{
    cr0_write(cr0_read() & ~(word)CR0_PG);
}

static void invpcid(uint64_t type, uint64_t pcid, uint64_t address)
{
    struct {
        uint64_t pcid, address;
    } descriptor = {pcid, address};
    __asm__ volatile("invpcid %0, %1" ::"m"(descriptor), "r"(type) : "memory");
}

static uint64_t invpcid_arguments[3];

static void try_invpcid(void)
{
    invpcid(invpcid_arguments[0], invpcid_arguments[1], invpcid_arguments[2]);
}

#define NO_FLUSH  ((word)1 << 63)
#define CR4_PCIDE (1u << 17)

/* 4.10.1; MOV to CR in SDM 2B. */
static void pcids(void)
{
    if (!(cpuid(1, 0).c >> 17 & 1)) {
        metal_note("no PCIDs");
        return;
    }
    cr3_value = root | NO_FLUSH;
    CHECK(metal_try(write_cr3), V_GP);
    cr3_write(root | 0x18);
    cr4_value = cr4_read() | CR4_PCIDE;
    CHECK(metal_try(write_cr4), V_GP);
    cr3_write(root);
    CHECK(metal_try(write_cr4), V_NONE);
    CHECK(metal_try(clear_pg), V_GP);
    map_small(page_a, 0);
    cr3_write(root | 1);
    CHECK(byte(), 0xaa);
    map_small(page_b, 0);
    cr3_write(root | 2);
    metal_check("another PCID", byte(), 0xbb);
    cr3_write(root | 1 | NO_FLUSH); /* may still see the first page */
    CHECK(byte() == 0xaa || byte() == 0xbb, true);
    CHECK(cr3_read(), root | 1);
    cr3_write(root | 1);
    metal_check("its PCID loaded again", byte(), 0xbb);
    map_small(page_a, 0);
    cr3_write(root | 2 | NO_FLUSH);
    invlpg((void *)test_page);
    metal_check("INVLPG in this PCID", byte(), 0xaa);
    if (features_7b >> 10 & 1) {
        static const uint64_t bad[][3] = {
            {4, 0, 0}, {0, 0x1000, 0}, {1, 0x1000, 0}, {0, 1, (uint64_t)1 << 47}, {UINT64_MAX, 0, 0}};
        for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
            memcpy(invpcid_arguments, bad[i], sizeof(bad[i]));
            CHECK(metal_try(try_invpcid), V_GP);
        }
        for (unsigned type = 0; type < 4; type++) {
            cr3_write(root | 1 | NO_FLUSH);
            (void)byte();
            cr3_write(root | 2 | NO_FLUSH);
            map_small(type % 2 ? page_a : page_b, 0);
            invpcid(type, 1, test_page);
            cr3_write(root | 1 | NO_FLUSH);
            metal_check("after INVPCID", byte(), type % 2 ? 0xaa : 0xbb);
        }
    }
    cr3_write(root);
    cr4_write(cr4_read() & ~(word)CR4_PCIDE);
    if (features_7b >> 10 & 1) {
        static const uint64_t without[3] = {1, 1, 0};
        memcpy(invpcid_arguments, without, sizeof(without));
        CHECK(metal_try(try_invpcid), V_GP);
    }
}

static void pkru_write(uint32_t value)
{
    __asm__ volatile("wrpkru" ::"a"(value), "c"(0), "d"(0) : "memory");
}

/* 4.6.2. Keys concern data accesses to user pages; writes of the supervisor only with CR0.WP. */
static void protection_keys(void)
{
    if (!(features_7c >> 3 & 1)) {
        metal_note("no protection keys");
        return;
    }
    cr4_write(cr4_read() | CR4_PKE);
    for (unsigned key = 0; key < 16; key += 5) {
        for (unsigned rights = 0; rights < 4; rights++) {
            for (unsigned user_page = 0; user_page < 2; user_page++) {
                for (unsigned n = 0; n < 12; n++) {
                    enum access how = (enum access)(n % 3);
                    bool user = n / 3 % 2, wp = n / 6;
                    map_small(target, (uint64_t)key << 59);
                    put(entry[leaf], get(leaf) & ~(uint64_t)(user_page ? 0 : PTE_U));
                    cr0_write((cr0_read() & ~(word)CR0_WP) | (wp ? CR0_WP : 0));
                    invlpg((void *)test_page);
                    pkru_write(rights << (2 * key));
                    uint64_t got = access(how, user, false);
                    pkru_write(0);
                    uint64_t want = 0;
                    unsigned code = PF_P | (how == WRITE ? PF_W : 0) | (user ? PF_U : 0);
                    if (user && !user_page) {
                        want = (uint64_t)V_PF << 32 | code;
                    } else if (user_page && how != FETCH &&
                               (rights & 1 || (rights & 2 && how == WRITE && (user || wp)))) {
                        want = (uint64_t)V_PF << 32 | code | PF_PK;
                    }
                    metal_check("an access under a protection key", got, want);
                }
            }
        }
    }
    cr0_write(cr0_read() | CR0_WP);
    cr4_write(cr4_read() & ~(word)CR4_PKE);
}
#else
/* --- PAE's page-directory-pointer registers, 32-bit paging without PSE ---------------------------------------------- */

static word cr3_value;

static void write_cr3(void)
{
    cr3_write(cr3_value);
}

/* 4.4.1: the four entries are loaded by MOV to CR3 (and when paging begins), with #GP for reserved bits; memory does not
 * count afterwards. */
static void pae_pointers(void)
{
    map_small(page_a, 0);
    load_root();
    CHECK(byte(), 0xaa);
    uint64_t before = get(0);
    put(entry[0], 0);
    invlpg((void *)test_page);
    metal_check("an entry that was loaded before it went", byte(), 0xaa);
    cr3_value = root;
    CHECK(metal_try(write_cr3), V_NONE);
    CHECK(access(READ, false, false), (uint64_t)V_PF << 32);
    static const uint64_t reserved[] = {
        2, 4, 0x20, 0x40, 0x80, 0x100, (uint64_t)1 << 52, (uint64_t)1 << 62, PTE_NX};
    for (unsigned i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        put(entry[0], before | reserved[i]);
        metal_check("a reserved bit in an entry of the top", metal_try(write_cr3), V_GP);
        put(entry[0], reserved[i]);
        metal_check("a reserved bit in one that is not present", metal_try(write_cr3), V_NONE);
    }
    put(entry[0], before | 0x218);
    CHECK(metal_try(write_cr3), V_NONE);
    CHECK(byte(), 0xaa);
    put(entry[0], before);
    cr3_write(root);
}

static void no_large_pages(void)
{
    /* 4.3: without CR4.PSE bit 7 of a directory entry is ignored. The guest's own large pages must then be small ones. */
    static uint32_t directory[1024] __attribute__((aligned(4096))),
        low[16][1024] __attribute__((aligned(4096)));
    for (unsigned i = 0; i < 16 * 1024; i++) {
        low[i / 1024][i % 1024] = i * PAGE | PTE_P | PTE_W;
    }
    for (unsigned i = 0; i < 16; i++) {
        directory[i] = directory[(ALIAS_BASE >> 22) + i] = (word)low[i] | PTE_P | PTE_W;
    }
    cr3_write((word)directory);
    cr4_write(cr4_read() & ~(word)CR4_PSE);
    for (unsigned i = 0; i < 1024; i++) {
        directory[i] |= PTE_PS;
    }
    cr3_write((word)directory);
    *(volatile uint8_t *)(page_a + 1) = 0x5a;
    CHECK(*(volatile uint8_t *)(ALIAS_BASE + (word)page_a + 1), 0x5a);
    for (unsigned i = 0; i < 1024; i++) {
        directory[i] &= ~PTE_PS;
    }
    cr4_write(cr4_read() | CR4_PSE);
    cr3_write(root);
}
#endif

static void test_format(const struct format *which)
{
    static const char *const sizes[] = {"4 KiB pages", "large pages", "1 GiB pages"};
    format = which;
    make_tables();
#ifdef __x86_64__
    load_root();
#else
    cr0_write(cr0_read() & ~(word)CR0_PG);
    cr3_write(root);
    cr4_write((cr4_read() & ~(word)CR4_PAE) | CR4_PSE | (which->pae_top ? CR4_PAE : 0));
    cr0_write(cr0_read() | CR0_PG | CR0_WP);
#endif
    for (unsigned level = format->levels; level-- > 0;) {
        if (!format->level[level].may_map || (format->level[level].shift == 30 && !have_1g)) {
            continue;
        }
        place_test_page(level);
        metal_case(sizes[format->levels - 1 - level]);
        metal_print("metal: note %s paging\n", format->name);
        all_rights();
        metal_case("reserved bits (SDM 3A 4.7)");
        reserved_bits();
        if (level < format->levels - 1) {
            put(entry[level], 0); /* a table may come here again */
        }
    }
    metal_case("invalidation (SDM 3A 4.10.4)");
    invalidation();
    metal_case("page sizes change");
    sizes_change();
    metal_case("accesses over page ends");
    page_ends();
}

void metal_main(void)
{
    features_7b = cpuid(0, 0).a >= 7 ? cpuid(7, 0).b : 0;
    features_7c = cpuid(0, 0).a >= 7 ? cpuid(7, 0).c : 0;
    have_nx = cpuid(0x80000001, 0).d >> 20 & 1;
    have_1g = cpuid(0x80000001, 0).d >> 26 & 1;
    for (unsigned i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        test_format(&formats[i]);
#ifdef __x86_64__
        metal_case("PCIDs (SDM 3A 4.10.1)");
        pcids();
        metal_case("protection keys (SDM 3A 4.6.2)");
        protection_keys();
#else
        if (formats[i].pae_top) {
            metal_case("PAE's top entries (SDM 3A 4.4.1)");
            pae_pointers();
        } else {
            metal_case("32-bit paging without PSE (SDM 3A 4.3)");
            no_large_pages();
        }
#endif
    }
    metal_print("metal: note %x accesses\n", (word)counted);
}
