/* SPDX-License-Identifier: Apache-2.0 */
/* Hardware breakpoints and single steps, as debuggers in the guest use them. */
#include <glib.h>
#include <string.h>

#include "tests/translator/sys_machine.h"

#define HANDLER 0x22000u
#define DATA    0x50000u

/* Runs `code` in 64-bit mode until a HLT; the #DB handler is one. */
static void run(struct machine *machine, enum engine_tier tier, const void *code, size_t bytes, uint64_t dr0,
                uint64_t dr7, uint64_t rflags)
{
    machine_create(machine, tier);
    machine_enter_long_mode(machine);
    machine_set_gate(machine, EXC_DB, MACHINE_CS64, HANDLER, 0x8e, 0);
    machine->ram[HANDLER] = 0xf4;
    memcpy(machine->ram + MACHINE_CODE, code, bytes);
    struct x86_cpu *cpu = machine->cpu;
    cpu->gpr[IR_RBX] = DATA;
    cpu->gpr[IR_RCX] = 3;
    cpu->gpr[IR_RDI] = DATA - 4;
    cpu->dr[0] = dr0;
    cpu->dr[7] = dr7;
    cpu->rflags = rflags;
    x86_state_changed(cpu, MACHINE_PML4);
    g_assert_cmpint(x86_run(cpu), ==, X86_RUN_HLT);
}

struct debug_case {
    const char *what;
    uint8_t code[16];
    uint64_t dr0, dr7, rflags;
    bool hits;
    uint64_t rip; /* in the frame, relative to MACHINE_CODE */
    bool rf;
    uint64_t dr6;
    uint64_t rcx; /* 3 unless told */
};

#define WRITE4  UINT64_C(0xd0402)
#define ACCESS4 UINT64_C(0xf0402)
#define EXECUTE UINT64_C(0x00402)
#define NONE    UINT64_MAX

static const struct debug_case cases[] = {
    {"write", {0x90, 0x89, 0x03, 0x90, 0xf4}, DATA, WRITE4, 2, true, 3, false, 0xffff0ff1},
    {"write beside it", {0x90, 0x89, 0x03, 0x90, 0xf4}, DATA + 4, WRITE4, 2, false, 0, false, 0},
    {"byte within it", {0x90, 0x88, 0x03, 0x90, 0xf4}, DATA, WRITE4, 2, true, 3, false, 0xffff0ff1},
    {"read of a write watch", {0x90, 0x8b, 0x03, 0x90, 0xf4}, DATA, WRITE4, 2, false, 0, false, 0},
    {"read", {0x90, 0x8b, 0x03, 0x90, 0xf4}, DATA, ACCESS4, 2, true, 3, false, 0xffff0ff1},
    {"locked add", {0xf0, 0x01, 0x03, 0x90, 0xf4}, DATA, WRITE4, 2, true, 3, false, 0xffff0ff1},
    {"execute", {0x90, 0x90, 0x90, 0xf4}, MACHINE_CODE + 2, EXECUTE, 2, true, 2, false, 0xffff0ff1},
    {"execute with RF", {0x90, 0xf4}, MACHINE_CODE, EXECUTE, 2 | FLAG_RF, false, 0, false, 0},
    {"disabled", {0x90, 0x89, 0x03, 0x90, 0xf4}, DATA, WRITE4 & ~UINT64_C(3), 2, false, 0, false, 0},
    {"single step", {0x90, 0x90, 0xf4}, 0, 0x400, 2 | FLAG_TF, true, 1, false, 0xffff4ff0},
    {"single step over STI; HLT", {0xf4, 0x90, 0xf4}, 0, 0x400, 2 | FLAG_TF, true, 1, false, 0xffff4ff0},
    {"single step of MOV SS",
     {0x8e, 0xd0, 0x90, 0x90, 0xf4},
     0,
     0x400,
     2 | FLAG_TF,
     true,
     3,
     false,
     0xffff4ff0},
    {"execute behind MOV SS", {0x8e, 0xd0, 0x90, 0xf4}, MACHINE_CODE + 2, EXECUTE, 2, false, 0, false, 0},
    {"execute behind STI", {0xfb, 0x90, 0xf4}, MACHINE_CODE + 1, EXECUTE, 2, true, 1, false, 0xffff0ff1},
    {"access by MOV SS", {0x8e, 0x13, 0x90, 0xf4}, DATA, ACCESS4, 2, true, 3, false, 0xffff0ff1},
    {"second of three iterations", {0xf3, 0xab, 0xf4}, DATA, WRITE4, 2, true, 0, true, 0xffff0ff1, 1},
    {"last of three iterations", {0xf3, 0xab, 0xf4}, DATA + 4, WRITE4, 2, true, 2, false, 0xffff0ff1, NONE},
    {"INS, first of three iterations", {0xf3, 0x6d, 0xf4}, DATA - 4, WRITE4, 2, true, 0, true, 0xffff0ff1, 2},
    {"single step of an iteration", {0xf3, 0xab, 0xf4}, 0, 0x400, 2 | FLAG_TF, true, 0, true, 0xffff4ff0, 2},
    {"the same of INS", {0xf3, 0x6d, 0xf4}, 0, 0x400, 2 | FLAG_TF, true, 0, true, 0xffff4ff0, 2},
};

/* Broken if it fails: a watchpoint in the guest's debugger does not fire, or fires at the wrong place. */
static void check_all(enum engine_tier tier)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        const struct debug_case *c = &cases[i];
        struct machine machine;
        run(&machine, tier, c->code, sizeof(c->code), c->dr0, c->dr7, c->rflags);
        struct x86_cpu *cpu = machine.cpu;
        g_test_message("%s", c->what);
        g_assert_cmpint(cpu->rip == HANDLER + 1, ==, c->hits);
        if (c->hits) {
            uint64_t rsp = cpu->gpr[IR_RSP];
            g_assert_cmphex(machine_read64(&machine, rsp), ==, MACHINE_CODE + c->rip);
            g_assert_cmpint(!!(machine_read64(&machine, rsp + 16) & FLAG_RF), ==, c->rf);
            g_assert_cmphex(cpu->dr[6], ==, c->dr6);
            g_assert_cmphex(cpu->gpr[IR_RCX], ==, c->rcx == NONE ? 0 : c->rcx ? c->rcx : 3);
        }
        machine_destroy(&machine);
    }
}

static void test_interpreter(void)
{
    check_all(ENGINE_INTERPRETER);
}

static void test_t0(void)
{
    check_all(ENGINE_T0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sys/debug/interpreter", test_interpreter);
    g_test_add_func("/sys/debug/t0", test_t0);
    return g_test_run();
}
