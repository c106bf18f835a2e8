/* SPDX-License-Identifier: Apache-2.0 */
/*
 * T0 beyond single instructions (those: test_oracle.c): how blocks find each other, how they die when code or
 * mappings change, operands that are not plain RAM, faults, and two vCPUs. Programs are in guest_t0.S; each
 * runs in the interpreter too, which says what is right.
 */
#include <glib.h>
#include <string.h>

#include "tests/translator/sys_machine.h"
#include "translator/stats.h"
#include "translator/vm.h"

#define PROGRAM(name) extern const uint8_t t0_##name[], t0_##name##_end[]
PROGRAM(chain);
PROGRAM(loop);
PROGRAM(poke);
PROGRAM(remap);
PROGRAM(remap_cr3);
PROGRAM(call_fresh);
PROGRAM(smc_next);
PROGRAM(smc_call);
PROGRAM(smc_upper);
PROGRAM(locked);
PROGRAM(ring1);
PROGRAM(ring1_tail);
PROGRAM(privileged);
PROGRAM(places);
PROGRAM(x87);
PROGRAM(upper);
PROGRAM(pop_relative);
PROGRAM(x87_masked);
#undef PROGRAM
extern const uint8_t t0_x87_at[], t0_loop_changed[];
extern const struct {
    const uint8_t *start, *at, *end;
} t0_faults[];

#define LOAD(machine, address, name)                                                                         \
    memcpy((machine)->ram + (address), t0_##name, (size_t)(t0_##name##_end - t0_##name))

/* 2 MiB of 4 KiB mappings beyond RAM's. */
#define WINDOW    0x400000u
#define WINDOW_PT 0x13000u
#define HANDLER   0x28000u /* of every exception: HLT */
#define FRAME_A   0x100000u
#define FRAME_B   0x101000u
#define FRAME_C   0x102000u
#define PTE_RW    3u
#define PTE_RO    1u

static void setup(struct machine *machine, enum engine_tier tier)
{
    machine_create(machine, tier);
    machine_enter_long_mode(machine);
    machine_write64(machine, MACHINE_PML4 + 0x2000 + (WINDOW >> 21) * 8, WINDOW_PT | 7);
    machine->ram[HANDLER] = 0xf4;
    for (unsigned vector = 0; vector < 20; vector++) {
        machine_set_gate(machine, vector, MACHINE_CS64, HANDLER, 0x8e, 1);
    }
    mmu_flush_all(machine->cpu);
}

static void map(struct machine *machine, unsigned page, uint64_t entry)
{
    machine_write64(machine, WINDOW_PT + page * 8, entry);
}

static void run_at(struct x86_cpu *cpu, uint64_t rip)
{
    cpu->halted = false;
    x86_set_rip(cpu, rip);
    g_assert_cmpint(x86_run(cpu), ==, X86_RUN_HLT);
}

static void in_both_tiers(void (*test)(enum engine_tier tier))
{
    test(ENGINE_INTERPRETER);
    test(ENGINE_T0);
}

/* mov eax, value; ret */
static void put_function(uint8_t *at, uint32_t value)
{
    at[0] = 0xb8;
    memcpy(at + 1, &value, 4);
    at[5] = 0xc3;
}

/* --- links and jump caches ------------------------------------------------------------------------------ */

/* Broken if it fails: jumps within a page, across pages or through a register go astray, or each of them
 * costs a way out to C. `where` puts a page boundary at every place of the program. */
static void chain(enum engine_tier tier)
{
    struct machine machine;
    setup(&machine, tier);
    struct x86_cpu *cpu = machine.cpu;
    memcpy(machine.ram + 0x24000, "\x48\xff\xc2\xc3", 4); /* inc rdx; ret */
    unsigned bytes = (unsigned)(t0_chain_end - t0_chain);
    for (unsigned where = 0; where <= bytes; where++) {
        uint64_t start = 0x40000 + where * 0x2000 - where;
        LOAD(&machine, start, chain);
        uint64_t entries = cpu->stats[STAT_ENTRIES];
        cpu->gpr[IR_RAX] = cpu->gpr[IR_RDX] = 0;
        cpu->gpr[IR_RBX] = 0x24000;
        cpu->gpr[IR_RCX] = 10000;
        run_at(cpu, start);
        g_assert_cmpuint(cpu->gpr[IR_RAX], ==, 5000 * 8);
        g_assert_cmpuint(cpu->gpr[IR_RDX], ==, 10000);
        g_assert_cmpuint(cpu->stats[STAT_ENTRIES] - entries, <, 100);
    }
    machine_destroy(&machine);
}

static void test_chain(void)
{
    in_both_tiers(chain);
}

/* Broken if it fails: after a block died, those that were linked to it go out to C for ever. */
static void relink(enum engine_tier tier)
{
    enum { ROUNDS = 10000 };
    struct machine machine;
    setup(&machine, tier);
    struct x86_cpu *cpu = machine.cpu;
    LOAD(&machine, MACHINE_CODE, loop);
    LOAD(&machine, 0x24000, poke);
    for (unsigned i = 1; i < 5; i++) {
        cpu->gpr[IR_RDI] = MACHINE_CODE + (uint64_t)(t0_loop_changed - t0_loop) + 1;
        cpu->gpr[IR_RAX] = i;
        run_at(cpu, 0x24000);
        uint64_t entries = cpu->stats[STAT_ENTRIES];
        cpu->gpr[IR_RBX] = 0;
        cpu->gpr[IR_RCX] = ROUNDS + 1;
        run_at(cpu, MACHINE_CODE);
        g_assert_cmpuint(cpu->gpr[IR_RBX], ==, i * ROUNDS);
        g_assert_cmpuint(cpu->stats[STAT_ENTRIES] - entries, <, 100);
    }
    machine_destroy(&machine);
}

static void test_relink(void)
{
    in_both_tiers(relink);
}

#define REMAPS 50

static uint64_t remap_sum(struct machine *machine, bool cr3, uint64_t target, uint64_t by_jump, unsigned page,
                          uint64_t first, uint64_t second)
{
    struct x86_cpu *cpu = machine->cpu;
    if (cr3) {
        LOAD(machine, MACHINE_CODE, remap_cr3);
    } else {
        LOAD(machine, MACHINE_CODE, remap);
    }
    cpu->gpr[IR_RBX] = 0;
    cpu->gpr[IR_RCX] = REMAPS;
    cpu->gpr[IR_RDI] = target;
    cpu->gpr[IR_RBP] = by_jump;
    cpu->gpr[IR_RSI] = WINDOW_PT + page * 8;
    cpu->gpr[IR_R12] = first;
    cpu->gpr[IR_R13] = second;
    cpu->gpr[IR_R14] = WINDOW + page * 0x1000;
    mmu_flush_all(cpu); /* the program was changed from outside */
    run_at(cpu, MACHINE_CODE);
    return cpu->gpr[IR_RBX];
}

/* Broken if it fails: code runs that a page-table entry no longer points to (jump cache or link outlive
 * INVLPG or CR3). */
static void remap(enum engine_tier tier)
{
    for (int cr3 = 0; cr3 < 2; cr3++) {
        struct machine machine;
        setup(&machine, tier);
        put_function(machine.ram + FRAME_A + 0x10, 1);
        put_function(machine.ram + FRAME_B + 0x10, 1000);
        memcpy(machine.ram + FRAME_A + 0x80, "\xeb\x8e", 2); /* jmp .10 */
        memcpy(machine.ram + FRAME_B + 0x80, "\xeb\x8e", 2);
        uint64_t sum =
            remap_sum(&machine, cr3, WINDOW + 0x10, WINDOW + 0x80, 0, FRAME_A | PTE_RW, FRAME_B | PTE_RW);
        g_assert_cmpuint(sum, ==, REMAPS * 2002);
        machine_destroy(&machine);
    }
}

static void test_remap(void)
{
    in_both_tiers(remap);
}

/* Broken if it fails: an instruction that crosses pages keeps the tail it had under an earlier mapping of the
 * second page, entered by a call or by a jump within the first page. */
static void remap_second_page_of(enum engine_tier tier, uint64_t first_frame)
{
    for (int cr3 = 0; cr3 < 2; cr3++) {
        struct machine machine;
        setup(&machine, tier);
        map(&machine, 0, FRAME_A | PTE_RW);
        memcpy(machine.ram + FRAME_A + 0xffd, "\xb8\x07\x00", 3);
        memcpy(machine.ram + FRAME_A + 0xf80, "\xeb\x7b", 2);
        memcpy(machine.ram + first_frame, "\x01\x00\xc3", 3);
        memcpy(machine.ram + FRAME_C, "\x02\x00\xc3", 3);
        uint64_t sum = remap_sum(&machine, cr3, WINDOW + 0xffd, WINDOW + 0xf80, 1, first_frame | PTE_RW,
                                 FRAME_C | PTE_RW);
        g_assert_cmphex(sum, ==, REMAPS * 2 * (0x10007 + 0x20007));
        machine_destroy(&machine);
    }
}

static void remap_second_page(enum engine_tier tier)
{
    remap_second_page_of(tier, FRAME_B);
    remap_second_page_of(tier, 0);
}

static void test_remap_second_page(void)
{
    in_both_tiers(remap_second_page);
}

/* Broken if it fails: the tail of an instruction in the first page of memory can be changed without notice. */
static void tail_in_page_0(enum engine_tier tier)
{
    struct machine machine;
    setup(&machine, tier);
    struct x86_cpu *cpu = machine.cpu;
    map(&machine, 0, FRAME_A | PTE_RW);
    map(&machine, 1, 0 | PTE_RW);
    memcpy(machine.ram + FRAME_A + 0xffd, "\xb8\x07\x00", 3);  /* mov eax, 7 + tail */
    memcpy(machine.ram, "\x01\x00\xf4", 3);                    /* hlt */
    memcpy(machine.ram + MACHINE_CODE, "\xc6\x07\x02\xf4", 4); /* mov byte [rdi], 2; hlt */
    run_at(cpu, WINDOW + 0xffd);
    g_assert_cmphex(cpu->gpr[IR_RAX], ==, 0x10007);
    cpu->gpr[IR_RDI] = 0;
    run_at(cpu, MACHINE_CODE);
    run_at(cpu, WINDOW + 0xffd);
    g_assert_cmphex(cpu->gpr[IR_RAX], ==, 0x20007);
    machine_destroy(&machine);
}

static void test_tail_in_page_0(void)
{
    in_both_tiers(tail_in_page_0);
}

/* Broken if it fails: a guest that runs into a hole of its address space stops its machine, or hangs it for ever,
 * instead of finding what an open bus holds. */
static void open_bus(enum engine_tier tier)
{
    const uint64_t nowhere = MACHINE_RAM_BYTES * 4;
    struct machine machine;
    setup(&machine, tier);
    struct x86_cpu *cpu = machine.cpu;
    machine.ram[HANDLER + 16] = 0xf4;
    machine_set_gate(&machine, EXC_UD, MACHINE_CS64, HANDLER + 16, 0x8e, 1);
    map(&machine, 0, FRAME_A | PTE_RW);
    map(&machine, 1, nowhere | PTE_RW);
    memcpy(machine.ram + FRAME_A + 0xffe, "\xb8\x07", 2); /* mov eax, 7 + tail */
    for (unsigned round = 0; round < 2; round++) {
        run_at(cpu, WINDOW + 0x1ffd);
        g_assert_cmphex(cpu->rip, ==, HANDLER + 17);
        g_assert_cmphex(machine_read64(&machine, MACHINE_IST1 - 40), ==, WINDOW + 0x1ffd);
        run_at(cpu, WINDOW + 0xffe);
        g_assert_cmphex(cpu->rip, ==, HANDLER + 17);
        g_assert_cmphex(cpu->gpr[IR_RAX], ==, 0xffffff07);
        g_assert_cmphex(machine_read64(&machine, MACHINE_IST1 - 40), ==, WINDOW + 0x1003);
    }
    machine_destroy(&machine);
}

static void test_open_bus(void)
{
    in_both_tiers(open_bus);
}

/* Broken if it fails: code translated for CPL 0, privilege checks and all, runs at CPL 1. */
static void ring1(enum engine_tier tier)
{
    struct machine machine;
    const uint64_t function = 0x21000, tail = 0x20800;
    setup(&machine, tier);
    struct x86_cpu *cpu = machine.cpu;
    machine_set_desc(&machine, MACHINE_SPARE, UINT64_C(0x00afbb000000ffff));
    machine_set_desc(&machine, MACHINE_SPARE + 8, UINT64_C(0x00cfb3000000ffff));
    LOAD(&machine, MACHINE_CODE, ring1);
    LOAD(&machine, tail, ring1_tail);
    LOAD(&machine, function, privileged);
    const uint64_t frame[] = {tail, MACHINE_SPARE | 1, 2, MACHINE_STACK, (MACHINE_SPARE + 8) | 1};
    for (unsigned i = 0; i < 6; i++) { /* what IRET takes away from CPL 1 it would change the mode with */
        if (i != SEG_CS && i != SEG_SS) {
            x86_set_flat_segment(&cpu->seg[i], MACHINE_USS | 3, ATTR_FLAT_DATA(3));
        }
    }
    cpu->gpr[IR_RSP] = MACHINE_STACK - sizeof(frame);
    memcpy(machine.ram + cpu->gpr[IR_RSP], frame, sizeof(frame));
    cpu->gpr[IR_RBX] = function;
    run_at(cpu, MACHINE_CODE);
    g_assert_cmphex(cpu->gpr[IR_RSP], ==, MACHINE_IST1 - 48);
    g_assert_cmphex(machine_read64(&machine, cpu->gpr[IR_RSP] + 8), ==, function);
    g_assert_cmphex(machine_read64(&machine, cpu->gpr[IR_RSP] + 16), ==, MACHINE_SPARE | 1);
    machine_destroy(&machine);
}

static void test_ring1(void)
{
    in_both_tiers(ring1);
}

/* --- changed code --------------------------------------------------------------------------------------- */

/* Broken if it fails: a store into the next instruction of the same block comes too late. */
static void smc_next(enum engine_tier tier)
{
    struct machine machine;
    setup(&machine, tier);
    LOAD(&machine, MACHINE_CODE, smc_next);
    machine.cpu->gpr[IR_RBX] = 0;
    machine.cpu->gpr[IR_RCX] = 1000;
    run_at(machine.cpu, MACHINE_CODE);
    g_assert_cmpuint(machine.cpu->gpr[IR_RBX], ==, 500500);
    machine_destroy(&machine);
}

static void test_smc_next(void)
{
    in_both_tiers(smc_next);
}

static void smc_call(struct machine *machine, uint64_t function, uint64_t immediate, unsigned rounds)
{
    struct x86_cpu *cpu = machine->cpu;
    LOAD(machine, MACHINE_CODE, smc_call);
    cpu->gpr[IR_RBX] = 0;
    cpu->gpr[IR_RCX] = rounds;
    cpu->gpr[IR_RDI] = function;
    cpu->gpr[IR_R8] = immediate;
    run_at(cpu, MACHINE_CODE);
    g_assert_cmpuint(cpu->gpr[IR_RBX], ==, (uint64_t)rounds * (rounds + 1) / 2);
}

/* Broken if it fails: translations outlive stores into the code they were made from: in the storing page, in
 * another page, across a page boundary, through another mapping; while the page is protected, released to
 * data and protected again. */
static void smc(enum engine_tier tier)
{
    static const struct {
        uint64_t function, immediate;
    } cases[] = {
        {MACHINE_CODE + 0x800, MACHINE_CODE + 0x801},
        {0x24000, 0x24001},
        {0x25ffd, 0x25ffe},
        {0x26ffc, 0x26ffd},
        {0x27fff, 0x28000}, /* all of it in the second page */
        {FRAME_A + 0x100, WINDOW + 0x101},
        {WINDOW + 0x200, FRAME_A + 0x201},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct machine machine;
        setup(&machine, tier);
        map(&machine, 0, FRAME_A | PTE_RW);
        uint64_t at = cases[i].function;
        put_function(machine.ram + (at >= WINDOW ? at - WINDOW + FRAME_A : at), 0);
        smc_call(&machine, at, cases[i].immediate, 3000);
        machine_destroy(&machine);
    }
}

static void test_smc(void)
{
    in_both_tiers(smc);
}

/* Broken if it fails: an instruction whose two pages are the same physical page keeps its old tail. */
static void smc_same_page(enum engine_tier tier)
{
    struct machine machine;
    setup(&machine, tier);
    struct x86_cpu *cpu = machine.cpu;
    map(&machine, 0, FRAME_A | PTE_RW);
    map(&machine, 1, FRAME_A | PTE_RW);
    memcpy(machine.ram + FRAME_A + 0xffd, "\xb8\x07\x00", 3);
    memcpy(machine.ram + FRAME_A, "\x00\x00\xc3", 3);
    LOAD(&machine, MACHINE_CODE, smc_upper);
    cpu->gpr[IR_RBX] = 0;
    cpu->gpr[IR_RCX] = 100;
    cpu->gpr[IR_RDI] = WINDOW + 0xffd;
    cpu->gpr[IR_R8] = FRAME_A;
    run_at(cpu, MACHINE_CODE);
    g_assert_cmpuint(cpu->gpr[IR_RBX], ==, 5050);
    machine_destroy(&machine);
}

static void test_smc_same_page(void)
{
    in_both_tiers(smc_same_page);
}

/* Broken if it fails: code that a device wrote over older code does not run, although the guest flushed the
 * mapping (design document, section 5). The second half changes only the second page of an instruction. */
static void dma(enum engine_tier tier)
{
    struct machine machine;
    setup(&machine, tier);
    struct x86_cpu *cpu = machine.cpu;
    map(&machine, 0, FRAME_A | PTE_RW);
    map(&machine, 1, FRAME_B | PTE_RW);
    LOAD(&machine, MACHINE_CODE, call_fresh);
    for (uint32_t i = 1; i < 100; i++) {
        put_function(machine.ram + FRAME_A + 0x10, i);
        cpu->gpr[IR_RDI] = WINDOW + 0x10;
        cpu->gpr[IR_R14] = WINDOW;
        run_at(cpu, MACHINE_CODE);
        g_assert_cmpuint(cpu->gpr[IR_RAX], ==, i);

        memcpy(machine.ram + FRAME_A + 0xffd, "\xb8\x07\x00", 3);
        memcpy(machine.ram + FRAME_B, &i, 2);
        machine.ram[FRAME_B + 2] = 0xc3;
        cpu->gpr[IR_RDI] = WINDOW + 0xffd;
        cpu->gpr[IR_R14] = WINDOW + 0x1000;
        run_at(cpu, MACHINE_CODE);
        g_assert_cmphex(cpu->gpr[IR_RAX], ==, i << 16 | 7);
    }
    machine_destroy(&machine);
}

static void test_dma(void)
{
    in_both_tiers(dma);
}

/* --- operands and faults -------------------------------------------------------------------------------- */

static void fill_registers(struct x86_cpu *cpu)
{
    for (unsigned i = 0; i < 16; i++) {
        if (i != IR_RSP) {
            cpu->gpr[i] = (i + 1) * UINT64_C(0x0123456789abcdef);
        }
    }
    for (unsigned i = 0; i < 4; i++) {
        memset(&cpu->vec[i], (int)(0x11 * (i + 1)), 16);
    }
    cpu->gpr[IR_RSP] = MACHINE_STACK;
    cpu->rflags = 2;
}

static void assert_same_registers(const struct x86_cpu *a, const struct x86_cpu *b, const char *what,
                                  unsigned number)
{
    for (unsigned i = 0; i < 16; i++) {
        if (a->gpr[i] != b->gpr[i]) {
            g_error("%s %u: register %u is %#lx, should be %#lx", what, number, i, (unsigned long)b->gpr[i],
                    (unsigned long)a->gpr[i]);
        }
    }
    for (unsigned i = 0; i < 4; i++) {
        g_assert_cmpmem(&a->vec[i], 16, &b->vec[i], 16);
    }
    g_assert_cmphex(a->rflags & FLAGS_ARITH & ~FLAG_AF, ==, b->rflags & FLAGS_ARITH & ~FLAG_AF);
    g_assert_cmphex(a->cr2, ==, b->cr2);
}

/* Where the operands of `places` can lie; the code page holds a function right before and after them. */
enum place { PLACE_RAM, PLACE_CROSSING, PLACE_CODE, PLACE_MMIO, PLACE_MMIO_CROSSING, PLACES };

static uint8_t *place(struct machine *machine, enum place where, uint64_t *ret_address)
{
    switch (where) {
    case PLACE_RAM:
        *ret_address = FRAME_A;
        return machine->ram + FRAME_A;
    case PLACE_CROSSING:
        *ret_address = FRAME_A + 0xff3;
        return machine->ram + *ret_address;
    case PLACE_CODE:
        put_function(machine->ram + FRAME_B + 0x100 - 6, 1);
        put_function(machine->ram + FRAME_B + 0x120, 1);
        LOAD(machine, MACHINE_CODE, call_fresh);
        for (unsigned i = 0; i < 2; i++) {
            machine->cpu->gpr[IR_RDI] = i ? FRAME_B + 0x120 : FRAME_B + 0x100 - 6;
            run_at(machine->cpu, MACHINE_CODE);
        }
        *ret_address = FRAME_B + 0x100;
        return machine->ram + *ret_address;
    case PLACE_MMIO:
        map(machine, 4, MACHINE_MMIO | PTE_RW);
        *ret_address = WINDOW + 0x4000;
        return machine->mmio;
    default: /* 16 bytes of RAM, then registers */
        map(machine, 5, FRAME_C | PTE_RW);
        map(machine, 6, MACHINE_MMIO | PTE_RW);
        *ret_address = WINDOW + 0x5ff0;
        return machine->ram + FRAME_C + 0xff0;
    }
}

static void run_places(struct machine *machine, enum engine_tier tier, enum place where, uint8_t memory[32])
{
    uint64_t address;
    setup(machine, tier);
    uint8_t *at = place(machine, where, &address);
    unsigned first = where == PLACE_MMIO_CROSSING ? 16 : 32;
    uint8_t initial[32];
    for (unsigned i = 0; i < 32; i++) {
        initial[i] = (uint8_t)(i * 37 + 5);
    }
    memcpy(at, initial, first);
    memcpy(machine->mmio, initial + first, 32 - first);
    const uint64_t program = 0x50000;
    LOAD(machine, program, places);
    for (unsigned round = 0; round < 3; round++) {
        fill_registers(machine->cpu);
        machine->cpu->gpr[IR_RSI] = address;
        run_at(machine->cpu, program);
        if (machine->cpu->gpr[IR_RSP] != MACHINE_STACK) {
            g_error("exception at program + %#lx",
                    (unsigned long)(machine_read64(machine, machine->cpu->gpr[IR_RSP]) - program));
        }
    }
    machine->cpu->gpr[IR_RSI] = 0;
    memcpy(memory, at, first);
    memcpy(memory + first, machine->mmio, 32 - first);
}

/* Broken if it fails: an operand on a page with code, across pages or in a device is not what it is in RAM,
 * or flags do not survive the way there. */
static void test_places(void)
{
    struct machine reference, machine;
    uint8_t expected[32], memory[32];
    run_places(&reference, ENGINE_INTERPRETER, PLACE_RAM, expected);
    for (unsigned tier = 0; tier < 2; tier++) {
        for (enum place where = 0; where < PLACES; where++) {
            run_places(&machine, tier ? ENGINE_T0 : ENGINE_INTERPRETER, where, memory);
            g_test_message("tier %u, place %u", tier, where);
            g_assert_cmpmem(memory, 32, expected, 32);
            assert_same_registers(reference.cpu, machine.cpu, tier ? "place (t0)" : "place", where);
            machine_destroy(&machine);
        }
    }
    machine_destroy(&reference);
}

#define FAULT_PAGES 8 /* of the window; the third is not there, the fourth is read-only */

static void run_fault(struct machine *machine, enum engine_tier tier, unsigned number)
{
    setup(machine, tier);
    struct x86_cpu *cpu = machine->cpu;
    const uint64_t program = 0x50000;
    for (unsigned i = 0; i < FAULT_PAGES; i++) {
        if (i != 2) {
            map(machine, i, (FRAME_A + i * 0x1000) | (i == 3 ? PTE_RO : PTE_RW));
        }
    }
    memset(machine->ram + FRAME_A, 0x3c, FAULT_PAGES * 0x1000);
    memcpy(machine->ram + program, t0_faults[number].start,
           (size_t)(t0_faults[number].end - t0_faults[number].start));
    fill_registers(cpu);
    cpu->gpr[IR_RSI] = cpu->gpr[IR_R9] = WINDOW + 0x2000;
    cpu->gpr[IR_R10] = WINDOW + 0x3000;
    run_at(cpu, program);
    /* The frame: error code or not, then RIP. */
    unsigned error = cpu->gpr[IR_RSP] == MACHINE_IST1 - 48 ? 8 : 0;
    g_assert_cmphex(cpu->gpr[IR_RSP], ==, MACHINE_IST1 - 40 - error);
    uint64_t at = program + (uint64_t)(t0_faults[number].at - t0_faults[number].start);
    g_assert_cmphex(machine_read64(machine, cpu->gpr[IR_RSP] + error), ==, at);
}

/* Broken if it fails: an instruction that faults has changed something, or what came before it is lost. */
static void test_faults(void)
{
    for (unsigned i = 0; t0_faults[i].start; i++) {
        struct machine reference, machine;
        run_fault(&reference, ENGINE_INTERPRETER, i);
        run_fault(&machine, ENGINE_T0, i);
        assert_same_registers(reference.cpu, machine.cpu, "fault", i + 1);
        uint64_t *expected = (uint64_t *)(reference.ram + reference.cpu->gpr[IR_RSP]);
        uint64_t *frame = (uint64_t *)(machine.ram + machine.cpu->gpr[IR_RSP]);
        for (unsigned j = 0; expected + j < (uint64_t *)(reference.ram + MACHINE_IST1); j++) {
            g_assert_cmphex(frame[j] & ~(uint64_t)FLAG_AF, ==, expected[j] & ~(uint64_t)FLAG_AF);
        }
        g_assert_cmpmem(machine.ram + FRAME_A, FAULT_PAGES * 0x1000, reference.ram + FRAME_A,
                        FAULT_PAGES * 0x1000);
        machine_destroy(&machine);
        machine_destroy(&reference);
    }
}

/* Broken if it fails: an unmasked x87 exception is lost, comes at the wrong instruction, or masked ones
 * trap. */
static void x87(enum engine_tier tier)
{
    struct machine machine;
    setup(&machine, tier);
    struct x86_cpu *cpu = machine.cpu;
    const uint16_t words[] = {0x37b, 0x37f};
    LOAD(&machine, MACHINE_CODE, x87);
    LOAD(&machine, MACHINE_CODE + 0x100, x87_masked);
    for (unsigned i = 0; i < 5; i++) {
        memcpy(machine.ram + FRAME_A, words, sizeof(words));
        cpu->gpr[IR_RSI] = FRAME_A;
        cpu->gpr[IR_RBX] = 0;
        cpu->gpr[IR_RSP] = MACHINE_STACK;
        run_at(cpu, MACHINE_CODE);
        g_assert_cmphex(cpu->gpr[IR_RSP], ==, MACHINE_IST1 - 40);
        g_assert_cmphex(machine_read64(&machine, MACHINE_IST1 - 40), ==,
                        MACHINE_CODE + (uint64_t)(t0_x87_at - t0_x87));
        g_assert_cmpuint(cpu->gpr[IR_RBX], ==, 1);
        cpu->gpr[IR_RSP] = MACHINE_STACK;
        run_at(cpu, MACHINE_CODE + 0x100);
        g_assert_cmphex(cpu->gpr[IR_RSP], ==, MACHINE_STACK);
        g_assert_cmphex(machine_read64(&machine, FRAME_A + 8), ==, UINT64_C(0x7ff0000000000000));
    }
    machine_destroy(&machine);
}

static void test_x87(void)
{
    in_both_tiers(x87);
}

/* --- two vCPUs ------------------------------------------------------------------------------------------ */

static void *vcpu_thread(void *opaque)
{
    return GINT_TO_POINTER(x86_run(opaque) == X86_RUN_HLT);
}

/* Runs both from MACHINE_CODE until they halt. */
static void run_both(struct x86_cpu *a, struct x86_cpu *b)
{
    x86_set_rip(a, MACHINE_CODE);
    x86_set_rip(b, MACHINE_CODE);
    GThread *other = g_thread_new("vcpu1", vcpu_thread, b);
    g_assert_true(vcpu_thread(a));
    g_assert_true(g_thread_join(other));
}

/* Broken if it fails: locked instructions lose updates when their operand crosses pages, or crosses under one
 * vCPU and is half of the operand under the other. */
static void locked(enum engine_tier tier)
{
    enum { ROUNDS = 2000 };
    struct machine machine;
    setup(&machine, tier);
    struct x86_cpu *cpus[2] = {machine.cpu, machine_add_cpu(&machine)};
    const uint64_t counter = FRAME_B - 4;
    LOAD(&machine, MACHINE_CODE, locked);
    for (unsigned i = 0; i < 2; i++) {
        cpus[i]->gpr[IR_RCX] = ROUNDS;
        cpus[i]->gpr[IR_RDI] = counter;
        cpus[i]->gpr[IR_R8] = FRAME_B;
    }
    run_both(cpus[0], cpus[1]);
    g_assert_cmphex(machine_read64(&machine, counter), ==, UINT64_C(2) * ROUNDS << 32 | 2 * 3 * ROUNDS);
    x86_cpu_destroy(cpus[1]);
    machine_destroy(&machine);
}

static void test_locked(void)
{
    in_both_tiers(locked);
}

/* Broken if it fails: emptying the full code cache takes code away from under the other vCPU, or leaves ways
 * into it. */
static void test_cache_full(void)
{
    enum { INCREMENTS = 60, ROUNDS = 14000 };
    struct machine machine;
    setup(&machine, ENGINE_T0);
    struct x86_cpu *cpus[2] = {machine.cpu, machine_add_cpu(&machine)};
    uint64_t flushes = cpus[0]->stats[MMU_STAT_FLUSHES] + cpus[1]->stats[MMU_STAT_FLUSHES];
    LOAD(&machine, MACHINE_CODE, smc_call);
    for (unsigned i = 0; i < 2; i++) {
        /* A function that is long in host code: mov eax, …; inc qword [rsi + …], again and again. */
        uint64_t function = FRAME_A + i * 0x1000;
        uint8_t *at = machine.ram + function;
        put_function(at, 0);
        at += 5;
        for (uint32_t j = 0; j < INCREMENTS; j++, at += 7) {
            const uint32_t displacement = j * 8;
            memcpy(at, "\x48\xff\x86", 3);
            memcpy(at + 3, &displacement, 4);
        }
        *at = 0xc3;
        cpus[i]->gpr[IR_RBX] = 0;
        cpus[i]->gpr[IR_RCX] = ROUNDS;
        cpus[i]->gpr[IR_RDI] = function;
        cpus[i]->gpr[IR_R8] = function + 1;
        cpus[i]->gpr[IR_RSI] = FRAME_A + 0x10000 + i * 0x1000;
    }
    run_both(cpus[0], cpus[1]);
    for (unsigned i = 0; i < 2; i++) {
        g_assert_cmpuint(cpus[i]->gpr[IR_RBX], ==, (uint64_t)ROUNDS * (ROUNDS + 1) / 2);
        for (unsigned j = 0; j < INCREMENTS; j++) {
            g_assert_cmpuint(machine_read64(&machine, FRAME_A + 0x10000 + i * 0x1000 + j * 8), ==, ROUNDS);
        }
    }
    g_assert_cmpuint(cpus[0]->stats[STAT_CODE_BYTES] + cpus[1]->stats[STAT_CODE_BYTES], >, 96 * MIB);
    g_assert_cmpuint(cpus[0]->stats[MMU_STAT_FLUSHES] + cpus[1]->stats[MMU_STAT_FLUSHES], >, flushes);
    x86_cpu_destroy(cpus[1]);
    machine_destroy(&machine);
}

/* --- upper halves of vector registers ------------------------------------------------------------------- */

/* Broken if it fails: bits 255:128 get lost, or come back, on a way into C and out again: T0 saves them only while there
 * may be something in them. */
static void upper(enum engine_tier tier)
{
    const uint64_t a = 0x0123456789abcdef, b = 0xfedcba9876543210, c = 0x1111222233334444, d = 0x5555666677778888;
    const uint64_t expected[] = {a, b, c, d, a, b, 0, 0, a, b, 0, 0, a, b, 0, 0, a, b, 0, 0, 0, 0, c, d, 0, 0, 0, 0};
    const uint64_t pattern[] = {a, b, c, d};
    struct machine machine;
    setup(&machine, tier);
    struct x86_cpu *cpu = machine.cpu;
    cpu->cr4 |= CR4_OSXSAVE;
    cpu->xcr0 = 7;
    x86_update_mode(cpu);
    LOAD(&machine, 0x40000, upper);
    memcpy(machine.ram + 0x50000, pattern, sizeof(pattern));
    for (unsigned i = 0; i < 3; i++) {
        cpu->gpr[IR_R12] = 0x50000;
        cpu->gpr[IR_RDI] = 0x51000;
        cpu->gpr[IR_RSI] = 0x52ff0;
        memset(machine.ram + 0x51000, 0xa5, sizeof(expected));
        run_at(cpu, 0x40000);
        g_assert_cmpmem(machine.ram + 0x51000, sizeof(expected), expected, sizeof(expected));
        g_assert_cmpmem(machine.ram + 0x52ff0, sizeof(pattern), pattern, sizeof(pattern));
    }
    machine_destroy(&machine);
}

static void test_upper(void)
{
    if (!__builtin_cpu_supports("avx")) {
        g_test_skip("the host has no AVX");
        return;
    }
    in_both_tiers(upper);
}

/* Broken if it fails: node ends with SIGSEGV as it starts. V8's builtins move a return address by `pop 8(%rsp)`. */
static void pop_relative(enum engine_tier tier)
{
    struct machine machine;
    setup(&machine, tier);
    struct x86_cpu *cpu = machine.cpu;
    uint64_t rsp = cpu->gpr[IR_RSP] = 0x60000;
    LOAD(&machine, 0x40000, pop_relative);
    for (unsigned i = 0; i < 3; i++) {
        run_at(cpu, 0x40000);
        g_assert_cmphex(cpu->gpr[IR_RBX], ==, 3);
        g_assert_cmphex(cpu->gpr[IR_RDX], ==, 2);
        g_assert_cmphex(cpu->gpr[IR_RAX], ==, 2);
        g_assert_cmphex(cpu->gpr[IR_RSP], ==, rsp);
    }
    machine_destroy(&machine);
}

static void test_pop_relative(void)
{
    in_both_tiers(pop_relative);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/t0/chain", test_chain);
    g_test_add_func("/t0/relink", test_relink);
    g_test_add_func("/t0/remap", test_remap);
    g_test_add_func("/t0/remap-second-page", test_remap_second_page);
    g_test_add_func("/t0/tail-in-page-0", test_tail_in_page_0);
    g_test_add_func("/t0/open-bus", test_open_bus);
    g_test_add_func("/t0/ring1", test_ring1);
    g_test_add_func("/t0/smc/next", test_smc_next);
    g_test_add_func("/t0/smc/pages", test_smc);
    g_test_add_func("/t0/smc/same-page", test_smc_same_page);
    g_test_add_func("/t0/dma", test_dma);
    g_test_add_func("/t0/places", test_places);
    g_test_add_func("/t0/faults", test_faults);
    g_test_add_func("/t0/x87", test_x87);
    g_test_add_func("/t0/locked", test_locked);
    g_test_add_func("/t0/cache-full", test_cache_full);
    g_test_add_func("/t0/pop-relative", test_pop_relative);
    g_test_add_func("/t0/upper-halves", test_upper);
    return g_test_run();
}
