/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Branches and operands whose address is not canonical: which exception, where, and what is left behind. The host's processor
 * says what is right; interpreter and T0 run the same bytes at the same linear addresses. x86-64 hosts.
 */
#include <glib.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "tests/translator/sys_machine.h"

#define HOLE        UINT64_C(0x800000000000) /* the first address that is not canonical */
#define FIRST_PLACE UINT64_C(0x7fffc0000000) /* code and stack, less than 2 GiB below it */
#define PLACE_STEP  UINT64_C(0x200000)
#define PLACES      256u
#define AREA_BYTES  0x3000u /* code, stack, operands that are there */
#define STACK_AT    0x1800u
#define FILLER      UINT64_C(0x1111111111111111)

/* Where the area and its page tables are in the bare machine. */
#define FRAME   0x100000u
#define TABLES  0x110000u
#define HANDLER 0x28000u

struct test_case {
    const char *name;
    const char *code;
    unsigned bytes;
};
#define CASE(name, code) {name, code, sizeof(code) - 1}

/* rAX rBP rSI rDI r12 = HOLE, rCX = 5, [rSP] = 1 << 63, [rSP + 16] = HOLE. */
static const struct test_case cases[] = {
    CASE("ret", "\xc3"),
    CASE("ret 16", "\xc2\x10\x00"),
    CASE("ret 0xfff8", "\xc2\xf8\xff"),
    CASE("jmp rax", "\xff\xe0"),
    CASE("call rax", "\xff\xd0"),
    CASE("jmp [rsp]", "\xff\x24\x24"),
    CASE("jmp [rsp+16]", "\xff\x64\x24\x10"),
    CASE("call [rsp+16]", "\xff\x54\x24\x10"),
    CASE("jmp [rax]", "\xff\x20"),
    CASE("call [rbp]", "\xff\x55\x00"),
    CASE("jmp rel32", "\xe9\x00\x00\x00\x7f"),
    CASE("push; jmp rel32", "\x50\xe9\x00\x00\x00\x7f"),
    CASE("call rel32", "\xe8\x00\x00\x00\x7f"),
    CASE("cmp; je rel32", "\x39\xc0\x0f\x84\x00\x00\x00\x7f"),
    CASE("cmp; jae rel32, flags saved", "\x39\xc0\xff\x74\x24\x10\x0f\x83\x00\x00\x00\x7f"),
    CASE("mov rsp, rax; call rel32", "\x48\x89\xc4\x48\x83\xec\x04\xe8\x00\x00\x00\x7f"),
    CASE("mov rsp, rax; pop", "\x48\x89\xc4\x5b"),
    CASE("lea rsp, [rax+64]; push", "\x48\x8d\x60\x40\x50"),
    CASE("lea rsp, [rax+64]; call rel32", "\x48\x8d\x60\x40\xe8\x00\x00\x00\x7f"),
    CASE("lea rsp, [rax+64]; call rax", "\x48\x8d\x60\x40\xff\xd0"),
    CASE("lea rsp, [rax+64]; ret", "\x48\x8d\x60\x40\xc3"),
    CASE("lea rsp, [rax+64]; pushf", "\x48\x8d\x60\x40\x9c"),
    CASE("leave", "\xc9"),
    CASE("mov [rax]", "\x48\x8b\x18"),
    CASE("ss mov [rax]", "\x36\x48\x8b\x18"),
    CASE("mov [rbp]", "\x48\x8b\x5d\x00"),
    CASE("mov [rbp], write", "\x48\x89\x5d\x00"),
    CASE("ds mov [rbp]", "\x3e\x48\x8b\x5d\x00"),
    CASE("fs mov [rbp]", "\x64\x48\x8b\x5d\x00"),
    CASE("mov [rax+rbp]", "\x48\x8b\x1c\x28"),
    CASE("mov [rsp+rax+8]", "\x48\x8b\x5c\x04\x08"),
    CASE("mov [r12]", "\x49\x8b\x1c\x24"),
    CASE("mov [rax-4], across", "\x48\x8b\x58\xfc"),
    CASE("mov [rbp-4], across", "\x48\x8b\x5d\xfc"),
    CASE("push [rax]", "\xff\x30"),
    CASE("push [rbp]", "\xff\x75\x00"),
    CASE("pop [rax]", "\x8f\x00"),
    CASE("pop [rbp]", "\x8f\x45\x00"),
    CASE("lodsb", "\xac"),
    CASE("stosb", "\xaa"),
    CASE("rep movsb", "\xf3\xa4"),
    CASE("add [rbp]", "\x01\x4d\x00"),
    CASE("lock xadd [rbp]", "\xf0\x0f\xc1\x4d\x00"),
    CASE("mul [rbp]", "\xf7\x65\x00"),
    CASE("div [rbp]", "\xf7\x75\x00"),
    CASE("bts [rbp], rcx", "\x48\x0f\xab\x4d\x00"),
    CASE("bts word [rbp], cx", "\x66\x0f\xab\x4d\x00"),
    CASE("fs bts [rbp], rcx", "\x64\x48\x0f\xab\x4d\x00"),
    CASE("cmpxchg16b [rbp]", "\x48\x0f\xc7\x4d\x00"),
    CASE("movups [rbp]", "\x0f\x10\x45\x00"),
    CASE("movaps [rbp+1]", "\x0f\x28\x45\x01"),
    CASE("movaps [rbp]", "\x0f\x28\x45\x00"),
    CASE("fld [rbp]", "\xd9\x45\x00"),
    CASE("fnstcw [rbp]", "\xd9\x7d\x00"),
    CASE("fnstenv [rbp]", "\xd9\x75\x00"),
    CASE("fxsave [rbp]", "\x0f\xae\x45\x00"),
    CASE("stmxcsr [rbp]", "\x0f\xae\x5d\x00"),
    CASE("clflush [rbp]", "\x0f\xae\x7d\x00"),
    CASE("mov [rbp], ds", "\x8c\x5d\x00"),
    CASE("mov r/m16 [rbp] to ds", "\x8e\x5d\x00"),
};

struct outcome {
    unsigned vector;
    uint64_t rip, rsp, rcx; /* rip and rsp from the area's start where they lie in it */
    uint64_t below, at;     /* [rsp - 8] and [rsp] of the initial stack pointer */
};

static uint64_t relative(uint64_t address, uint64_t area)
{
    return address - area < AREA_BYTES ? address - area : address;
}

static void fill_area(uint8_t *area, const struct test_case *c)
{
    const uint64_t filler = FILLER, far = UINT64_C(1) << 63, hole = HOLE;
    for (unsigned i = 0; i < AREA_BYTES; i += 8) {
        memcpy(area + i, &filler, 8);
    }
    memcpy(area, c->code, c->bytes);
    memcpy(area + c->bytes, "\x0f\x0b", 2);
    memcpy(area + STACK_AT, &far, 8);
    memcpy(area + STACK_AT + 16, &hole, 8);
}

static void read_area(const uint8_t *area, struct outcome *outcome)
{
    memcpy(&outcome->below, area + STACK_AT - 8, 8);
    memcpy(&outcome->at, area + STACK_AT, 8);
}

/* --- the host's processor ------------------------------------------------------------------------------- */

static sigjmp_buf back;
static volatile struct outcome native;

static void caught(int signal, siginfo_t *info, void *context)
{
    const greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    native.vector = (unsigned)regs[REG_TRAPNO];
    native.rip = (uint64_t)regs[REG_RIP];
    native.rsp = (uint64_t)regs[REG_RSP];
    native.rcx = (uint64_t)regs[REG_RCX];
    siglongjmp(back, 1);
}

static void catch_faults(void)
{
    static uint8_t stack[64 << 10];
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigaltstack(&alternative, NULL);
    const int signals[] = {SIGSEGV, SIGBUS, SIGILL};
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++) {
        sigaction(signals[i], &action, NULL);
    }
}

/* The process's own stack may be up there too. */
static uint8_t *map_area(void)
{
    for (unsigned i = 0; i < PLACES; i++) {
        void *want = (void *)(FIRST_PLACE + i * PLACE_STEP);
        void *area = mmap(want, AREA_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (area == want) {
            return area;
        }
        if (area != MAP_FAILED) {
            munmap(area, AREA_BYTES);
        }
    }
    return NULL;
}

static struct outcome run_native(uint8_t *area, const struct test_case *c)
{
    fill_area(area, c);
    if (!sigsetjmp(back, 1)) {
        __asm__ volatile("mov %%rdx, %%rsp; mov %%rax, %%rbp; mov %%rax, %%rsi; mov %%rax, %%r12;"
                         "mov %%rdi, %%rdx; mov %%rax, %%rdi; mov $5, %%ecx; xor %%ebx, %%ebx; jmp *%%rdx"
                         :
                         : "d"(area + STACK_AT), "a"(HOLE), "D"(area)
                         : "memory");
    }
    struct outcome outcome = native;
    outcome.rip = relative(outcome.rip, (uint64_t)area);
    outcome.rsp = relative(outcome.rsp, (uint64_t)area);
    read_area(area, &outcome);
    return outcome;
}

/* --- the translator ------------------------------------------------------------------------------------- */

static void map_in_machine(struct machine *machine, uint64_t area)
{
    machine_write64(machine, MACHINE_PML4 + (area >> 39 & 511) * 8, TABLES | 7);
    machine_write64(machine, TABLES + (area >> 30 & 511) * 8, (TABLES + 0x1000) | 7);
    machine_write64(machine, TABLES + 0x1000 + (area >> 21 & 511) * 8, (TABLES + 0x2000) | 7);
    for (unsigned i = 0; i < AREA_BYTES >> 12; i++) {
        machine_write64(machine, TABLES + 0x2000 + i * 8, (FRAME + i * 0x1000) | 7);
    }
}

static struct outcome run_translated(enum engine_tier tier, uint64_t area, const struct test_case *c)
{
    struct machine machine;
    struct outcome outcome = {0};
    machine_create(&machine, tier);
    machine_enter_long_mode(&machine);
    map_in_machine(&machine, area);
    for (unsigned vector = 0; vector < 20; vector++) {
        machine.ram[HANDLER + vector] = 0xf4;
        machine_set_gate(&machine, vector, MACHINE_CS64, HANDLER + vector, 0x8e, 1);
    }
    struct x86_cpu *cpu = machine.cpu;
    mmu_flush_all(cpu);
    for (unsigned round = 0; round < 2; round++) {
        fill_area(machine.ram + FRAME, c);
        cpu->gpr[IR_RAX] = cpu->gpr[IR_RBP] = cpu->gpr[IR_RSI] = cpu->gpr[IR_RDI] = cpu->gpr[IR_R12] = HOLE;
        cpu->gpr[IR_RBX] = 0;
        cpu->gpr[IR_RCX] = 5;
        cpu->gpr[IR_RSP] = area + STACK_AT;
        cpu->halted = false;
        x86_set_rip(cpu, area);
        g_assert_cmpint(x86_run(cpu), ==, X86_RUN_HLT);
        outcome.vector = (unsigned)(cpu->rip - HANDLER - 1);
        const uint64_t *frame = (const uint64_t *)(machine.ram + cpu->gpr[IR_RSP]);
        frame += cpu->gpr[IR_RSP] == MACHINE_IST1 - 48 ? 1 : 0; /* the error code */
        outcome.rip = relative(frame[0], area);
        outcome.rsp = relative(frame[3], area);
        outcome.rcx = cpu->gpr[IR_RCX];
        read_area(machine.ram + FRAME, &outcome);
    }
    machine_destroy(&machine);
    return outcome;
}

static void compare(const struct outcome *expected, const struct outcome *outcome, const char *who)
{
    g_test_message("%s", who);
    g_assert_cmpuint(outcome->vector, ==, expected->vector);
    g_assert_cmphex(outcome->rip, ==, expected->rip);
    g_assert_cmphex(outcome->rsp, ==, expected->rsp);
    g_assert_cmphex(outcome->rcx, ==, expected->rcx);
    g_assert_cmphex(outcome->below, ==, expected->below);
    g_assert_cmphex(outcome->at, ==, expected->at);
}

/* Broken if it fails: a wild branch is reported at its target or with its stack moved, or a wild operand by the other of #GP
 * and #SS, so that a guest's handler blames the wrong code. */
static void test_as_native(void)
{
    uint8_t *area = map_area();
    if (!area) {
        g_test_skip("no room at the top of the address space");
        return;
    }
    catch_faults();
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("%s", cases[i].name);
        struct outcome expected = run_native(area, &cases[i]);
        struct outcome interpreter = run_translated(ENGINE_INTERPRETER, (uint64_t)area, &cases[i]);
        struct outcome t0 = run_translated(ENGINE_T0, (uint64_t)area, &cases[i]);
        compare(&expected, &interpreter, "interpreter");
        compare(&expected, &t0, "T0");
    }
    munmap(area, AREA_BYTES);
}

/* The last page below the hole, where no process may be: LOOP, and running on. */
static void test_last_page(void)
{
    static const struct {
        const char *code;
        unsigned bytes, rip;
        uint64_t from_end; /* where it starts, from the hole downwards */
    } last[] = {
        {"\xe2\x10", 2, 0, 2},           /* loop +16 */
        {"\x90\xe0\x10", 3, 1, 3},       /* nop; loopne +16 */
        {"\x90\x90", 2, 2, 2},           /* runs out of the range: at the hole */
        {"\x39\xc0\x74\x10", 4, 2, 4},    /* je +16 */
    };
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned tier = 0; tier < 2; tier++) {
            struct machine machine;
            machine_create(&machine, tier ? ENGINE_T0 : ENGINE_INTERPRETER);
            machine_enter_long_mode(&machine);
            const uint64_t area = HOLE - AREA_BYTES, start = HOLE - last[i].from_end;
            machine_write64(&machine, MACHINE_PML4 + (area >> 39 & 511) * 8, TABLES | 7);
            machine_write64(&machine, TABLES + (area >> 30 & 511) * 8, (TABLES + 0x1000) | 7);
            machine_write64(&machine, TABLES + 0x1000 + (area >> 21 & 511) * 8, (TABLES + 0x2000) | 7);
            machine_write64(&machine, TABLES + 0x2000 + 511 * 8, FRAME | 7);
            machine.ram[HANDLER] = 0xf4;
            machine_set_gate(&machine, EXC_GP, MACHINE_CS64, HANDLER, 0x8e, 1);
            mmu_flush_all(machine.cpu);
            memcpy(machine.ram + FRAME + 0x1000 - last[i].from_end, last[i].code, last[i].bytes);
            machine.cpu->gpr[IR_RCX] = 5;
            machine.cpu->rflags = 2;
            x86_set_rip(machine.cpu, start);
            g_assert_cmpint(x86_run(machine.cpu), ==, X86_RUN_HLT);
            g_assert_cmphex(machine_read64(&machine, machine.cpu->gpr[IR_RSP] + 8), ==, start + last[i].rip);
            g_assert_cmphex(machine.cpu->gpr[IR_RCX], ==, 5);
            machine_destroy(&machine);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/noncanonical/as-native", test_as_native);
    g_test_add_func("/noncanonical/last-page", test_last_page);
    return g_test_run();
}
