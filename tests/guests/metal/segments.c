/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metal32: segmentation (SDM 3A chapters 3 and 5): limits, types, expand-down, loading of every kind of descriptor into every
 * kind of register at CPL 0 and 3, LAR LSL VERR VERW ARPL, far jumps, the LDT.
 */
#include "metal.h"

const char metal_name[] = "segments";

/* Access bytes: P, DPL, S, type. */
#define DATA_R    0x90
#define DATA_W    0x92
#define DOWN_W    0x96
#define CODE_X    0x98
#define CODE_R    0x9a
#define CONFORM_R 0x9e
#define DPL(n)    ((n) << 5)
#define NOT_P     0x80
#define ACCESSED  1
#define BIG       0xc /* G, D/B */
#define D32       0x4

#define FREE(n) (SEL_FREE + 8 * (n))

static uint8_t arena[64 * 1024] __attribute__((aligned(65536)));

static word set(unsigned n, uint64_t descriptor)
{
    metal_gdt[SEL_FREE / 8 + n] = descriptor;
    return FREE(n);
}

static word set_segment(unsigned n, uint32_t limit, unsigned access, unsigned flags)
{
    return set(n, metal_descriptor((word)arena, limit, access, flags));
}

/* vector << 16 | error code, as one number to compare. */
#define FAULT(vector, error) ((vector) << 16 | (error))
#define NONE                 FAULT(V_NONE, 0)
#define USER_OK              FAULT(V_USER, 0)

static uint64_t outcome(void (*body)(void))
{
    unsigned vector = metal_try(body);
    return FAULT(vector, vector == V_NONE || vector == V_USER ? 0 : metal_trap.error);
}

/* --- limits ----------------------------------------------------------------------------------------------------------- */

static word selector, offset;
static unsigned size;

static void read_fs(void)
{
    switch (size) {
    case 1:
        __asm__ volatile("mov %w0, %%fs; mov %%fs:(%1), %%al" ::"r"(selector), "r"(offset) : "eax", "memory");
        break;
    case 2:
        __asm__ volatile("mov %w0, %%fs; mov %%fs:(%1), %%ax" ::"r"(selector), "r"(offset) : "eax", "memory");
        break;
    default:
        __asm__ volatile("mov %w0, %%fs; mov %%fs:(%1), %%eax" ::"r"(selector), "r"(offset)
                         : "eax", "memory");
    }
}

static void write_fs(void)
{
    switch (size) {
    case 1:
        __asm__ volatile("mov %w0, %%fs; movb $1, %%fs:(%1)" ::"r"(selector), "r"(offset) : "memory");
        break;
    case 2:
        __asm__ volatile("mov %w0, %%fs; movw $1, %%fs:(%1)" ::"r"(selector), "r"(offset) : "memory");
        break;
    default:
        __asm__ volatile("mov %w0, %%fs; movl $1, %%fs:(%1)" ::"r"(selector), "r"(offset) : "memory");
    }
}

/* User code with eax = selector for SS, ebx = offset: reads a word on the stack segment. */
__asm__(".text\n"
        "user_ss_read: mov %ax, %ss; mov %ss:(%ebx), %ecx; int $0x30\n"
        "user_push: mov %ax, %ss; mov %ebx, %esp; push %ecx; int $0x30\n"
        "user_pop: mov %ax, %ss; mov %ebx, %esp; pop %ecx; int $0x30\n"
        "user_call: mov %ax, %ss; mov %ebx, %esp; call 1f; 1: int $0x30\n");
extern uint8_t user_ss_read[], user_push[], user_pop[], user_call[];
static uint8_t *user_code;

static void in_user(void)
{
    __asm__ volatile("mov %0, %%ebx; push %1; push %2; call metal_enter_user" ::"r"(offset), "r"(selector),
                     "r"(user_code)
                     : "ebx", "memory");
}

/* 3A 5.3 */
static void limits(void)
{
    static const struct {
        uint32_t limit;
        unsigned access, flags;
        word first, last; /* valid offsets */
    } rows[] = {
        {0xfff, DATA_W, D32, 0, 0xfff},
        {0xffe, DATA_W, D32, 0, 0xffe},
        {0, DATA_W, D32, 0, 0},
        {0xffff, DATA_W, 0, 0, 0xffff},
        {0x3, DATA_W, BIG, 0, 0x3fff},
        {0, DATA_W, BIG, 0, 0xfff},
        {0xfffff, DATA_W, D32, 0, 0xfffff},
        {0xfff, DOWN_W, D32, 0x1000, 0xffffffff},
        {0xfff, DOWN_W, 0, 0x1000, 0xffff},
        {0x3, DOWN_W, BIG, 0x4000, 0xffffffff},
        {0xffff, DOWN_W, 0, 1, 0}, /* none */
        {0x1ff, CODE_R, D32, 0, 0x1ff},
    };
    static const unsigned sizes[] = {1, 2, 4};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bool code = rows[i].access & 8;
        selector = set_segment(0, rows[i].limit, rows[i].access, rows[i].flags);
        for (unsigned s = 0; s < 3; s++) {
            word around[] = {rows[i].first,
                             rows[i].first - 1,
                             rows[i].last,
                             rows[i].last + 1,
                             rows[i].last - 1,
                             rows[i].last - 3,
                             0,
                             0x10000,
                             0xfffffffe};
            size = sizes[s];
            for (unsigned a = 0; a < sizeof(around) / sizeof(around[0]); a++) {
                offset = around[a];
                word end = offset + size - 1;
                bool valid = rows[i].first <= rows[i].last && offset >= rows[i].first &&
                             end <= rows[i].last && end >= offset;
                /* Past the arena there is memory of ours, or nothing; reads do no harm. */
                CHECK(outcome(read_fs), valid ? NONE : FAULT(V_GP, 0));
                if (offset < sizeof(arena) || !valid) {
                    CHECK(outcome(write_fs), valid && !code ? NONE : FAULT(V_GP, 0));
                }
            }
        }
    }
}

/* 3A 5.3, 6.15 (#SS): through SS it is #SS(0). */
static void stack_limits(void)
{
    static const struct {
        uint8_t *code;
        word offset;
        uint64_t expected;
    } up[] =
        {
            {user_ss_read, 0xffc, USER_OK},
            {user_ss_read, 0xffd, FAULT(V_SS, 0)},
            {user_push, 4, USER_OK},
            {user_push, 0, FAULT(V_SS, 0)},
            {user_push, 2, FAULT(V_SS, 0)},
            {user_push, 0x1000, USER_OK},
            {user_push, 0x1001, FAULT(V_SS, 0)},
            {user_pop, 0xffc, USER_OK},
            {user_pop, 0xffe, FAULT(V_SS, 0)},
            {user_call, 0x1002, FAULT(V_SS, 0)},
        },
      down[] = {
          {user_ss_read, 0x1000, USER_OK}, {user_ss_read, 0xfff, FAULT(V_SS, 0)},
          {user_push, 0x1004, USER_OK},    {user_push, 0x1003, FAULT(V_SS, 0)},
          {user_pop, 0x1000, USER_OK},     {user_call, 0x1001, FAULT(V_SS, 0)},
      };
    selector = set_segment(0, 0xfff, DATA_W | DPL(3), D32) | 3;
    for (unsigned i = 0; i < sizeof(up) / sizeof(up[0]); i++) {
        user_code = up[i].code;
        offset = up[i].offset;
        CHECK(outcome(in_user), up[i].expected);
    }
    selector = set_segment(0, 0xfff, DOWN_W | DPL(3), D32) | 3;
    for (unsigned i = 0; i < sizeof(down) / sizeof(down[0]); i++) {
        user_code = down[i].code;
        offset = down[i].offset;
        CHECK(outcome(in_user), down[i].expected);
    }
    /* A 16-bit stack: SP wraps, the upper half of ESP stays. */
    selector = set_segment(0, 0xffff, DATA_W | DPL(3), 0) | 3;
    user_code = user_push;
    offset = 0x12340000;
    CHECK(outcome(in_user), USER_OK);
    CHECK(metal_trap.sp, 0x1234fffc);
}

/* --- types ------------------------------------------------------------------------------------------------------------ */

static void read_cs_through_fs(void)
{
    size = 1;
    offset = 0;
    read_fs();
}

static void write_through_fs(void)
{
    size = 1;
    offset = 0;
    write_fs();
}

static void read_null(void)
{
    __asm__ volatile("mov %w0, %%gs; mov %%gs:0x100, %%al" ::"r"(0) : "eax");
}

static void write_code(void)
{
    __asm__ volatile("movb $0, %%cs:%0" : "=m"(arena[0]));
}

static void types(void)
{
    selector = set_segment(0, 0xfff, DATA_R, D32);
    CHECK(outcome(read_cs_through_fs), NONE);
    CHECK(outcome(write_through_fs), FAULT(V_GP, 0));
    selector = set_segment(0, 0xfff, CODE_R, D32);
    CHECK(outcome(read_cs_through_fs), NONE);
    CHECK(outcome(write_through_fs), FAULT(V_GP, 0));
    CHECK(outcome(write_code), FAULT(V_GP, 0));
    CHECK(outcome(read_null), FAULT(V_GP, 0));
    /* 3A 3.4.5.1: loading sets the accessed bit. */
    selector = set_segment(0, 0xfff, DATA_W, D32);
    CHECK(outcome(read_cs_through_fs), NONE);
    CHECK(metal_gdt[SEL_FREE / 8] >> 40 & 0xff, DATA_W | ACCESSED);
}

/* --- loading ------------------------------------------------------------------------------------------------------------ */

static void load_fs(void)
{
    __asm__ volatile("mov %w0, %%fs" ::"r"(selector));
}

static void load_ss(void)
{
    __asm__ volatile("mov %w0, %%ss; mov %w1, %%ss" ::"r"(selector), "r"(SEL_DATA));
}

static void load_pop_gs(void)
{
    __asm__ volatile("push %0; pop %%gs" ::"r"(selector));
}

static void load_lfs(void)
{
    struct {
        uint32_t offset;
        uint16_t selector;
    } __attribute__((packed)) pointer = {0x1234, (uint16_t)selector};
    word value;
    __asm__ volatile("lfs %1, %0" : "=r"(value) : "m"(pointer));
    CHECK(value, 0x1234);
}

__asm__(".text\n"
        "user_load_fs: mov %ax, %fs; int $0x30\n"
        "user_load_ss: mov %ax, %ss; int $0x30\n");
extern uint8_t user_load_fs[], user_load_ss[];

/* SDM 2B MOV, "Loading a segment register"; 3A 5.6, 5.7. */
static void loading(void)
{
    enum { OK, GP, NP, SS };
    static const struct {
        unsigned access;
        uint8_t data0, data3, stack0, stack3; /* into FS and SS at CPL 0 and 3, RPL = CPL */
    } rows[] = {
        {DATA_W, OK, GP, OK, GP},
        {DATA_R, OK, GP, GP, GP},
        {DOWN_W, OK, GP, OK, GP},
        {DATA_W | DPL(3), OK, OK, GP, OK},
        {DATA_R | DPL(3), OK, OK, GP, GP},
        {DATA_W | DPL(1), OK, GP, GP, GP},
        {CODE_X, GP, GP, GP, GP},
        {CODE_R, OK, GP, GP, GP},
        {CODE_R | DPL(3), OK, OK, GP, GP},
        {CONFORM_R, OK, OK, GP, GP},
        {CONFORM_R | DPL(3), OK, OK, GP, GP},
        {0x9c, GP, GP, GP, GP}, /* conforming, not readable */
        {DATA_W & ~NOT_P, NP, GP, SS, GP},
        {(DATA_W | DPL(3)) & ~NOT_P, NP, NP, GP, SS},
        {CODE_X & ~NOT_P, GP, GP, GP, GP}, /* the type comes before presence */
        {CONFORM_R & ~NOT_P, NP, NP, GP, GP},
        {0x82, GP, GP, GP, GP},          /* LDT */
        {0x89, GP, GP, GP, GP},          /* TSS */
        {0x8c | DPL(3), GP, GP, GP, GP}, /* call gate */
        {0x80 | DPL(3), GP, GP, GP, GP}, /* reserved type */
    };
    static const unsigned vectors[] = {[GP] = V_GP, [NP] = V_NP, [SS] = V_SS};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
#define EXPECTED(what, good) (rows[i].what == OK ? (good) : FAULT(vectors[rows[i].what], selector & 0xfffc))
        selector = set_segment(0, 0xfff, rows[i].access, D32);
        CHECK(outcome(load_fs), EXPECTED(data0, NONE));
        CHECK(outcome(load_pop_gs), EXPECTED(data0, NONE));
        CHECK(outcome(load_lfs), EXPECTED(data0, NONE));
        CHECK(outcome(load_ss), EXPECTED(stack0, NONE));
        selector |= 3;
        user_code = user_load_fs;
        CHECK(outcome(in_user), EXPECTED(data3, USER_OK));
        user_code = user_load_ss;
        CHECK(outcome(in_user), EXPECTED(stack3, USER_OK));
        /* RPL 0 at CPL 3: no way to a stack; data as RPL 3. */
        selector &= ~3ul;
        CHECK(outcome(in_user), FAULT(V_GP, selector));
        user_code = user_load_fs;
        CHECK(outcome(in_user), EXPECTED(data3, USER_OK));
    }
    /* RPL 3 at CPL 0: DPL must be at least RPL; SS's RPL must be CPL. */
    selector = set_segment(0, 0xfff, DATA_W, D32) | 3;
    CHECK(outcome(load_fs), FAULT(V_GP, selector & ~3ul));
    CHECK(outcome(load_ss), FAULT(V_GP, selector & ~3ul));
    selector = 0;
    CHECK(outcome(load_fs), NONE);
    CHECK(outcome(load_ss), FAULT(V_GP, 0));
    selector = 3;
    CHECK(outcome(load_fs), NONE);
    user_code = user_load_ss;
    CHECK(outcome(in_user), FAULT(V_GP, 0));
    selector = GDT_ENTRIES * 8;
    CHECK(outcome(load_fs), FAULT(V_GP, selector));
    CHECK(outcome(load_ss), FAULT(V_GP, selector));
    selector = SEL_DATA | 4; /* the LDT is null */
    CHECK(outcome(load_fs), FAULT(V_GP, selector));
}

/* --- LAR, LSL, VERR, VERW, ARPL ------------------------------------------------------------------------------------------- */

struct asked {
    bool lar, lsl, verr, verw;
    uint32_t rights, limit;
};
static struct asked asked;

static void ask(void)
{
    asked.rights = asked.limit = 0xdead;
    __asm__ volatile("lar %2, %0; setz %1" : "+r"(asked.rights), "=qm"(asked.lar) : "r"(selector));
    __asm__ volatile("lsl %2, %0; setz %1" : "+r"(asked.limit), "=qm"(asked.lsl) : "r"(selector));
    __asm__ volatile("verr %w1; setz %0" : "=qm"(asked.verr) : "r"(selector));
    __asm__ volatile("verw %w1; setz %0" : "=qm"(asked.verw) : "r"(selector));
}

static void ask_and_return(void)
{
    ask();
    METAL_USER_RETURN();
}

static void ask_in_user(void)
{
    metal_enter_user((word)ask_and_return, 0);
}

/* SDM 2A LAR, LSL; 2B VERR. */
static void queries(void)
{
    for (unsigned access = 0; access < 256; access++) {
        unsigned type = access & 15, dpl = access >> 5 & 3;
        bool segment = access & 0x10, code = segment && type & 8, conforming = code && type & 4;
        static const uint16_t lar_types =
            1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 9 | 1 << 11 | 1 << 12;
        static const uint16_t lsl_types = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 9 | 1 << 11;
        for (unsigned user = 0; user < 2; user++) {
            bool reachable = conforming || dpl >= (user ? 3u : 0u);
            set(0, metal_descriptor(0x123456, 0xabcde, access, access & 1 ? 0xd : 0x4));
            selector = FREE(0) | (user ? 3 : 0);
            if (user) {
                CHECK(metal_try(ask_in_user), V_USER);
            } else {
                ask();
            }
            CHECK(asked.lar, reachable && (segment || lar_types >> type & 1));
            CHECK(asked.lsl, reachable && (segment || lsl_types >> type & 1));
            CHECK(asked.verr, reachable && segment && (!code || type & 2));
            CHECK(asked.verw, reachable && segment && !code && type & 2);
            CHECK(asked.rights & (asked.lar ? 0xf0ff00 : ~0u), /* bits 16-19 are undefined */
                  asked.lar ? (uint32_t)(metal_gdt[SEL_FREE / 8] >> 32) & 0xf0ff00 : 0xdead);
            CHECK(asked.limit, !asked.lsl ? 0xdead : access & 1 ? 0xabcdefff : 0xabcde);
        }
    }
    static const word nowhere[] = {0, 3, GDT_ENTRIES * 8, SEL_DATA | 4};
    for (unsigned i = 0; i < 4; i++) {
        selector = nowhere[i];
        ask();
        CHECK(asked.lar || asked.lsl || asked.verr || asked.verw, false);
    }
}

static void arpl(void)
{
    for (unsigned i = 0; i < 16; i++) {
        uint16_t destination = (uint16_t)(0x1230 | (i & 3)), source = (uint16_t)(0x4560 | i >> 2);
        bool zero, raised = (i & 3) < i >> 2;
        __asm__ volatile("arpl %2, %0; setz %1" : "+r"(destination), "=qm"(zero) : "r"(source));
        CHECK(zero, raised);
        CHECK(destination, 0x1230 | (raised ? i >> 2 : i & 3));
    }
}

/* --- far jumps ------------------------------------------------------------------------------------------------------------ */

static struct {
    uint32_t offset;
    uint16_t selector;
} __attribute__((packed)) far_pointer;

/* Jumps to far_pointer, whose code is at 1:, runs there, and comes back to the guest's own CS. */
static void far_jump(void)
{
    __asm__ volatile("mov $1f, %%eax; test %1, %1; jz 2f; mov %1, %%eax; 2: mov %%eax, %0; ljmp *%0\n"
                     "1: mov %%cs, %%ebx; ljmp $0x08, $3f\n"
                     "3:"
                     : "+m"(far_pointer)
                     : "r"(offset)
                     : "eax", "ebx", "memory");
}

static void in_user_jump(void)
{
    metal_enter_user((word)far_jump, 0);
}

/* SDM 2A JMP; 3A 5.8.1. */
static void jumps(void)
{
    static const struct {
        unsigned access;
        unsigned rpl;
        unsigned vector; /* 0: it works */
    } rows[] = {
        {CODE_R, 0, 0},
        {CODE_X, 0, 0},
        {CODE_R, 3, V_GP},
        {CODE_R | DPL(3), 0, V_GP},
        {CODE_R | DPL(3), 3, V_GP},
        {CONFORM_R, 0, 0},
        {CONFORM_R, 3, 0},
        {CONFORM_R | DPL(3), 0, V_GP},
        {CODE_R & ~NOT_P, 0, V_NP},
        {(CODE_R | DPL(3)) & ~NOT_P, 0, V_GP},
        {DATA_W, 0, V_GP},
        {0x82, 0, V_GP},
        {0x8e, 0, V_GP},
    };
    offset = 0;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        set(0, metal_descriptor(0, 0xfffff, rows[i].access, BIG));
        far_pointer.selector = (uint16_t)(FREE(0) | rows[i].rpl);
        CHECK(outcome(far_jump), rows[i].vector ? FAULT(rows[i].vector, FREE(0)) : NONE);
        if (!rows[i].vector) { /* accessed; CS has CPL for RPL */
            CHECK(metal_gdt[SEL_FREE / 8] >> 40 & 1, 1);
        }
    }
    far_pointer.selector = 0;
    CHECK(outcome(far_jump), FAULT(V_GP, 0));
    far_pointer.selector = GDT_ENTRIES * 8;
    CHECK(outcome(far_jump), FAULT(V_GP, GDT_ENTRIES * 8));
    /* Beyond the limit: #GP(0). */
    set(0, metal_descriptor(0, 0xff, CODE_R, D32));
    far_pointer.selector = FREE(0);
    CHECK(outcome(far_jump), FAULT(V_GP, 0));
    /* At CPL 3 to conforming code of DPL 0: CPL stays, and so #GP for what comes back to CPL 0's code. */
    set(0, metal_descriptor(0, 0xfffff, CONFORM_R, BIG));
    far_pointer.selector = FREE(0);
    CHECK(outcome(in_user_jump), FAULT(V_GP, SEL_CODE));
    CHECK(metal_trap.cs, FREE(0) | 3);
    CHECK(metal_trap.bx, FREE(0) | 3);
}

/* 3A 5.3: an instruction whose last byte is beyond the limit. */
static void fetch_limits(void)
{
    static const uint8_t code[] = {0x90, 0xb8, 1, 2, 3, 4, 0xcd, 0x30}; /* nop; mov $, %eax; int $0x30 */
    memcpy(arena, code, sizeof(code));
    far_pointer.selector = FREE(0);
    offset = 16; /* not 0, which far_jump() takes for its own */
    for (unsigned last = 0; last < 8; last++) {
        set(0, metal_descriptor((word)arena - offset, last + offset, CODE_R, D32));
        CHECK(outcome(far_jump), last == 7 ? USER_OK : FAULT(V_GP, 0));
        CHECK(metal_trap.ip, offset + (last < 5 ? 1 : last < 7 ? 6 : 8));
    }
}

/* --- the LDT ---------------------------------------------------------------------------------------------------------------- */

static uint64_t ldt[4];

static void load_ldt(void)
{
    __asm__ volatile("lldt %w0" ::"r"(selector));
}

static void user_load_ldt(void)
{
    __asm__ volatile("lldt %w0" ::"r"(selector));
    METAL_USER_RETURN();
}

static void in_user_ldt(void)
{
    metal_enter_user((word)user_load_ldt, 0);
}

static void ldt_tests(void)
{
    word stored = 0x55aa55aa;
    ldt[1] = metal_descriptor((word)arena, 0xfff, DATA_W, D32);
    arena[0x10] = 0x77;
    selector = set(1, metal_descriptor((word)ldt, sizeof(ldt) - 1, 0x82, 0));
    CHECK(outcome(load_ldt), NONE);
    __asm__ volatile("sldt %0" : "=r"(stored));
    CHECK(stored & 0xffff, selector);
    selector = 8 | 4;
    offset = 0x10;
    size = 1;
    CHECK(outcome(read_fs), NONE);
    selector = sizeof(ldt) | 4;
    CHECK(outcome(load_fs), FAULT(V_GP, sizeof(ldt) | 4));
    static const struct {
        unsigned access, vector;
    } rows[] = {{0x02, V_NP}, {0x89, V_GP}, {0x92, V_GP}, {0x81, V_GP}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        selector = set(2, metal_descriptor((word)ldt, sizeof(ldt) - 1, rows[i].access, 0));
        CHECK(outcome(load_ldt), FAULT(rows[i].vector, selector));
    }
    CHECK(outcome(in_user_ldt), FAULT(V_GP, 0));
    selector = 8 | 4; /* an LDT in the LDT */
    CHECK(outcome(load_ldt), FAULT(V_GP, 8 | 4));
    selector = 0;
    CHECK(outcome(load_ldt), NONE);
    selector = 8 | 4;
    CHECK(outcome(load_fs), FAULT(V_GP, 8 | 4));
}

static void move_to_cs(void)
{
    __asm__ volatile(".byte 0x8e, 0xc8"); /* mov %eax, %cs */
}

static void move_from_seven(void)
{
    __asm__ volatile(".byte 0x8c, 0xf8"); /* mov %seg7, %eax */
}

static void stores(void)
{
    uint32_t memory = 0xaaaaaaaa;
    word value = 0xffffffff;
    __asm__ volatile("mov %%ds, %0" : "+m"(memory));
    CHECK(memory, 0xaaaa0000 | SEL_DATA); /* memory: 16 bits */
    __asm__ volatile("movl %%ds, %0" : "=r"(value));
    CHECK(value, SEL_DATA);
    CHECK(outcome(move_to_cs), FAULT(V_UD, 0));
    CHECK(outcome(move_from_seven), FAULT(V_UD, 0));
}

void metal_main(void)
{
    metal_case("limits (SDM 3A 5.3)");
    limits();
    metal_case("limits of stacks");
    stack_limits();
    metal_case("types (SDM 3A 5.5)");
    types();
    metal_case("loading segment registers (SDM 3A 5.6, 5.7)");
    loading();
    metal_case("LAR, LSL, VERR, VERW");
    queries();
    metal_case("ARPL");
    arpl();
    metal_case("far jumps (SDM 3A 5.8.1)");
    jumps();
    metal_case("limits of code");
    fetch_limits();
    metal_case("the LDT");
    ldt_tests();
    metal_case("segment registers as operands");
    stores();
}
