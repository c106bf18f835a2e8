/* SPDX-License-Identifier: Apache-2.0 */
/*
 * T0 on 32-bit code: the programs of guest_flat32.S in compatibility mode and in protected mode, by the interpreter and by T0,
 * with the same outcome. (The interpreter against the host's processor: test_oracle.c.)
 */
#include <glib.h>
#include <string.h>

#include "tests/translator/sys_machine.h"
#include "translator/stats.h"

#define OPERANDS  0x100000u
#define FS_BASE   0x100100u
#define ABSENT    0x300000u /* the last 2 MiB are mapped by 4 KiB pages; this one is not there */
#define PAGE_TABLE 0x14000u
#define HANDLER   0x28000u
#define CS32      MACHINE_SPARE
#define FS        (MACHINE_SPARE + 8)
#define GS        (MACHINE_SPARE + 16)

struct flat32_case {
    const uint8_t *start, *end;
    char name[];
};
extern const uint8_t flat32_cases[];

static const struct flat32_case *next_case(const struct flat32_case *c)
{
    size_t bytes = sizeof(*c) + strlen(c->name) + 1;
    return (const void *)((const uint8_t *)c + ((bytes + 15) & ~(size_t)15));
}

static uint64_t data_descriptor(uint32_t base, uint32_t limit_raw, uint64_t attributes)
{
    return (limit_raw & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | attributes << 40 |
           (uint64_t)(limit_raw >> 16) << 48 | (uint64_t)(base >> 24) << 56;
}

/* Legacy gates are 8 bytes, long mode's 16. */
static void set_gates(struct machine *machine, bool legacy)
{
    machine->ram[HANDLER] = 0xf4;
    for (unsigned vector = 0; vector < 20; vector++) {
        if (legacy) {
            machine_write64(machine, MACHINE_IDT + vector * 8,
                            (HANDLER & 0xffff) | (uint64_t)CS32 << 16 | UINT64_C(0x8e00) << 32 |
                                (uint64_t)(HANDLER >> 16) << 48);
        } else {
            machine_set_gate(machine, vector, MACHINE_CS64, HANDLER, 0x8e, 1);
        }
    }
}

static void map_last_region(struct machine *machine)
{
    machine_write64(machine, MACHINE_PML4 + 0x2000 + 8, PAGE_TABLE | 7);
    for (unsigned i = 0; i < 512; i++) {
        uint64_t page = 0x200000 + i * 0x1000;
        machine_write64(machine, PAGE_TABLE + i * 8, page == ABSENT ? 0 : page | 7);
    }
}

static void setup(struct machine *machine, enum engine_tier tier, bool legacy)
{
    machine_create(machine, tier);
    machine_enter_long_mode(machine);
    machine_set_desc(machine, CS32, UINT64_C(0x00cf9b000000ffff));
    machine_set_desc(machine, FS, data_descriptor(FS_BASE, 0xfffff, 0xc093));
    machine_set_desc(machine, GS, data_descriptor(OPERANDS, 0xff, 0x4093));
    map_last_region(machine);
    set_gates(machine, legacy);

    struct x86_cpu *cpu = machine->cpu;
    x86_set_flat_segment(&cpu->seg[SEG_CS], CS32, ATTR_FLAT_CODE32(0));
    cpu->seg[SEG_FS] = (struct x86_seg){.sel = FS, .base = FS_BASE, .limit = UINT32_MAX, .attr = 0xc093};
    cpu->seg[SEG_GS] = (struct x86_seg){.sel = GS, .base = OPERANDS, .limit = 0xff, .attr = 0x4093};
    if (legacy) {
        cpu->efer = 0;
        machine_write64(machine, 0x16000, (MACHINE_PML4 + 0x2000) | 1); /* PAE: page-directory pointers */
        x86_state_changed(cpu, 0x16000);
    } else {
        x86_state_changed(cpu, MACHINE_PML4);
    }
}

static void fill_state(struct machine *machine, bool legacy)
{
    struct x86_cpu *cpu = machine->cpu;
    for (unsigned i = 0; i < 16; i++) {
        cpu->gpr[i] = (i + 1) * (legacy && i < 8 ? UINT64_C(0x1234567) : UINT64_C(0x0123456789abcdef));
    }
    for (unsigned i = 0; i < 8; i++) {
        memset(&cpu->vec[i], (int)(0x11 * (i + 1)), 16);
    }
    /* As 64-bit code may leave them: addresses count 32 bits. */
    const uint64_t upper = legacy ? 0 : UINT64_C(0xabcd) << 32;
    cpu->gpr[IR_RSI] = upper | OPERANDS;
    cpu->gpr[IR_RSP] = upper | MACHINE_STACK;
    cpu->rflags = 2;
    for (unsigned i = 0; i < 0x400; i++) {
        machine->ram[OPERANDS + i] = (uint8_t)(i * 37 + 5);
    }
}

/* How it ended: HLT, or shutdown where a fault finds no stack for its frame. */
static enum x86_run_exit run(struct machine *machine, enum engine_tier tier, bool legacy, const struct flat32_case *c)
{
    enum x86_run_exit end = X86_RUN_FATAL;
    setup(machine, tier, legacy);
    struct x86_cpu *cpu = machine->cpu;
    memcpy(machine->ram + MACHINE_CODE, c->start, (size_t)(c->end - c->start));
    /* Again with all blocks there, from the same state. */
    for (unsigned round = 0; round < 2; round++) {
        fill_state(machine, legacy);
        cpu->halted = false;
        x86_set_flat_segment(&cpu->seg[SEG_CS], CS32, ATTR_FLAT_CODE32(0));
        x86_set_flat_segment(&cpu->seg[SEG_SS], MACHINE_SS, ATTR_FLAT_DATA(0));
        cpu->seg[SEG_GS] = (struct x86_seg){.sel = GS, .base = OPERANDS, .limit = 0xff, .attr = 0x4093};
        x86_update_mode(cpu);
        x86_set_rip(cpu, MACHINE_CODE);
        end = x86_run(cpu);
    }
    x86_x87_sync(cpu);
    return end;
}

static void compare(const struct machine *expected, const struct machine *machine)
{
    const struct x86_cpu *a = expected->cpu, *b = machine->cpu;
    for (unsigned i = 0; i < 16; i++) {
        g_test_message("register %u", i);
        g_assert_cmphex(b->gpr[i], ==, a->gpr[i]);
        g_assert_cmpmem(&a->vec[i], 16, &b->vec[i], 16);
    }
    g_assert_cmphex(b->rip, ==, a->rip);
    g_assert_cmphex(b->rflags & ~(uint64_t)FLAG_AF, ==, a->rflags & ~(uint64_t)FLAG_AF);
    g_assert_cmphex(b->cr2, ==, a->cr2);
    g_assert_cmphex(b->fx.fsw, ==, a->fx.fsw);
    g_assert_cmphex(b->fx.fcw, ==, a->fx.fcw);
    g_assert_cmpmem(expected->ram + OPERANDS, 0x400, machine->ram + OPERANDS, 0x400);
    /* Exception frames too, without AF in their flags: nothing here leaves it defined. */
    for (unsigned at = MACHINE_STACK - 0x80; at < MACHINE_IST1; at += 4) {
        uint32_t x, y;
        memcpy(&x, expected->ram + at, 4);
        memcpy(&y, machine->ram + at, 4);
        g_assert_cmphex(x & ~FLAG_AF, ==, y & ~FLAG_AF);
    }
}

static void both_tiers(bool legacy)
{
    for (const struct flat32_case *c = (const void *)flat32_cases; c->start; c = next_case(c)) {
        struct machine expected, machine;
        g_test_message("%s", c->name);
        enum x86_run_exit end = run(&expected, ENGINE_INTERPRETER, legacy, c);
        g_assert_true(end == X86_RUN_HLT || end == X86_RUN_SHUTDOWN);
        g_assert_cmpint(run(&machine, ENGINE_T0, legacy, c), ==, end);
        compare(&expected, &machine);
        g_assert_cmpuint(machine.cpu->stats[STAT_COMPILED], >, 0);
        machine_destroy(&machine);
        machine_destroy(&expected);
    }
}

/* Broken if it fails: an i386 program under a 64-bit kernel goes another way than in the interpreter. */
static void test_compatibility(void)
{
    both_tiers(false);
}

/* Broken if it fails: an i386 kernel does. */
static void test_protected(void)
{
    both_tiers(true);
}

/* Broken if it fails: 32-bit code is interpreted, or each of its jumps costs a way out to C. */
static void test_stays_in_generated_code(void)
{
    /* 1: call 2f; dec ecx; jnz 1b; hlt; 2: add eax, fs:[4]; push eax; pop ebx; ret */
    static const uint8_t program[] = {0xe8, 4, 0, 0, 0, 0x49, 0x75, 0xf8, 0xf4, 0x64, 0x03,
                                      0x05, 4, 0, 0, 0, 0x50, 0x5b, 0xc3};
    enum { ROUNDS = 10000 };
    for (unsigned legacy = 0; legacy < 2; legacy++) {
        struct machine machine;
        setup(&machine, ENGINE_T0, legacy);
        struct x86_cpu *cpu = machine.cpu;
        fill_state(&machine, legacy);
        memcpy(machine.ram + MACHINE_CODE, program, sizeof(program));
        machine_write64(&machine, FS_BASE + 4, 3);
        cpu->gpr[IR_RAX] = 0;
        cpu->gpr[IR_RCX] = ROUNDS;
        x86_set_rip(cpu, MACHINE_CODE);
        g_assert_cmpint(x86_run(cpu), ==, X86_RUN_HLT);
        g_assert_cmphex(cpu->gpr[IR_RBX], ==, 3 * ROUNDS);
        g_assert_cmpuint(cpu->stats[STAT_ENTRIES], <, 100);
        g_assert_cmpuint(cpu->stats[STAT_INTERPRETED] + cpu->stats[STAT_FALLBACKS], <, 100);
        machine_destroy(&machine);
    }
}

/* Broken if it fails: lock step stops at differences that are none, or does not run 32-bit code at all. */
static void test_lock_step(void)
{
    for (unsigned legacy = 0; legacy < 2; legacy++) {
        for (const struct flat32_case *c = (const void *)flat32_cases; c->start; c = next_case(c)) {
            struct machine machine;
            g_test_message("%s", c->name);
            enum x86_run_exit end = run(&machine, ENGINE_LOCKSTEP, legacy, c);
            g_assert_true(end == X86_RUN_HLT || end == X86_RUN_SHUTDOWN);
            g_assert_cmpuint(machine.cpu->stats[STAT_BLOCKS], >, 0);
            machine_destroy(&machine);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/t0-flat32/compatibility", test_compatibility);
    g_test_add_func("/t0-flat32/protected", test_protected);
    g_test_add_func("/t0-flat32/stays-in-generated-code", test_stays_in_generated_code);
    g_test_add_func("/t0-flat32/lock-step", test_lock_step);
    return g_test_run();
}
