/* SPDX-License-Identifier: Apache-2.0 */
/* Event delivery in long mode: frames, privilege and stack changes, error codes, promotion to #DF and shutdown. */
#include <glib.h>
#include <string.h>

#include "tests/translator/sys_machine.h"

#define HANDLER UINT64_C(0x21000)

static void setup(struct machine *machine)
{
    machine_create(machine, ENGINE_INTERPRETER);
    machine_enter_long_mode(machine);
    for (unsigned vector = 0; vector < 256; vector++) {
        machine_set_gate(machine, vector, MACHINE_CS64, HANDLER + vector, 0x8e, 0);
    }
    machine->cpu->rflags = 2 | FLAG_IF | FLAG_CF;
}

static void go_to_user(struct machine *machine)
{
    struct x86_cpu *cpu = machine->cpu;
    x86_set_flat_segment(&cpu->seg[SEG_CS], MACHINE_UCS64 | 3, ATTR_FLAT_CODE64(3u));
    x86_set_flat_segment(&cpu->seg[SEG_SS], MACHINE_USS | 3, ATTR_FLAT_DATA(3u));
    cpu->cpl = 3;
    x86_update_mode(cpu);
}

/* Broken if it fails: the frame that a handler sees is wrong, or the handler runs with the wrong stack or flags. */
static void test_page_fault_from_user(void)
{
    struct machine machine;
    setup(&machine);
    go_to_user(&machine);
    struct x86_cpu *cpu = machine.cpu;
    cpu->gpr[IR_RSP] = 0x123456;
    cpu->rflags |= FLAG_TF | FLAG_AC | FLAG_NT;
    x86_raise_pf(cpu, 0xdead000, 6);
    g_assert_cmpint(x86_deliver_exception(cpu), ==, X86_JUMP);
    uint64_t rsp = cpu->gpr[IR_RSP];
    g_assert_cmphex(rsp, ==, MACHINE_RSP0 - 48);
    g_assert_cmphex(machine_read64(&machine, rsp), ==, 6);
    g_assert_cmphex(machine_read64(&machine, rsp + 8), ==, MACHINE_CODE);
    g_assert_cmphex(machine_read64(&machine, rsp + 16), ==, MACHINE_UCS64 | 3);
    g_assert_cmphex(machine_read64(&machine, rsp + 24), ==,
                    2 | FLAG_IF | FLAG_CF | FLAG_TF | FLAG_AC | FLAG_NT | FLAG_RF);
    g_assert_cmphex(machine_read64(&machine, rsp + 32), ==, 0x123456);
    g_assert_cmphex(machine_read64(&machine, rsp + 40), ==, MACHINE_USS | 3);
    g_assert_cmphex(cpu->rip, ==, HANDLER + EXC_PF);
    g_assert_cmphex(cpu->cr2, ==, 0xdead000);
    g_assert_cmphex(cpu->rflags, ==, 2 | FLAG_CF | FLAG_AC);
    g_assert_cmpuint(cpu->cpl, ==, 0);
    g_assert_cmphex(cpu->seg[SEG_SS].sel, ==, 0);
    g_assert_true(cpu->seg[SEG_SS].attr & SEG_ATTR_UNUSABLE);
    g_assert_false(cpu->exc.pending);
    machine_destroy(&machine);
}

/* Broken if it fails: handlers on an IST stack overwrite the interrupted stack, or the stack is misaligned. */
static void test_ist_and_alignment(void)
{
    struct machine machine;
    setup(&machine);
    struct x86_cpu *cpu = machine.cpu;
    machine_set_gate(&machine, 2, MACHINE_CS64, HANDLER, 0x8f, 1);
    cpu->gpr[IR_RSP] = MACHINE_STACK - 3;
    g_assert_cmpint(x86_deliver_interrupt(cpu, 0x40, false), ==, X86_JUMP);
    g_assert_cmphex(cpu->gpr[IR_RSP], ==, MACHINE_STACK - 16 - 40);
    g_assert_false(cpu->rflags & FLAG_IF);
    cpu->rflags |= FLAG_IF;
    g_assert_cmpint(x86_deliver_interrupt(cpu, 2, true), ==, X86_JUMP);
    g_assert_cmphex(cpu->gpr[IR_RSP], ==, MACHINE_IST1 - 40);
    g_assert_true(cpu->rflags & FLAG_IF); /* a trap gate leaves IF */
    g_assert_true(cpu->nmi_blocked);
    machine_destroy(&machine);
}

struct gate_case {
    const char *what;
    uint64_t descriptor; /* at MACHINE_SPARE, where the gate points */
    uint8_t rights;
    bool software, user;
    uint8_t vector; /* expected fault */
    uint32_t error;
};

#define IDT_ERROR(vector, ext) ((vector)*8 + 2 + (ext))

static const struct gate_case gate_cases[] = {
    {"good", UINT64_C(0x00af9b000000ffff), 0x8e, false, false, 0xff, 0},
    {"not a 64-bit gate", UINT64_C(0x00af9b000000ffff), 0x86, false, false, EXC_GP, IDT_ERROR(0x50, 1)},
    {"call gate", UINT64_C(0x00af9b000000ffff), 0x8c, false, false, EXC_GP, IDT_ERROR(0x50, 1)},
    {"not present", UINT64_C(0x00af9b000000ffff), 0x0e, false, false, EXC_NP, IDT_ERROR(0x50, 1)},
    {"INT without privilege", UINT64_C(0x00af9b000000ffff), 0x8e, true, true, EXC_GP, IDT_ERROR(0x50, 0)},
    {"INT with privilege", UINT64_C(0x00af9b000000ffff), 0xee, true, true, 0xff, 0},
    {"privilege comes before present", UINT64_C(0x00af9b000000ffff), 0x0e, true, true, EXC_GP,
     IDT_ERROR(0x50, 0)},
    {"data segment", UINT64_C(0x00cf93000000ffff), 0x8e, false, false, EXC_GP, MACHINE_SPARE | 1},
    {"32-bit code", UINT64_C(0x00cf9b000000ffff), 0x8e, false, false, EXC_GP, MACHINE_SPARE | 1},
    {"L and D", UINT64_C(0x00ef9b000000ffff), 0x8e, false, false, EXC_GP, MACHINE_SPARE | 1},
    {"code not present", UINT64_C(0x00af1b000000ffff), 0x8e, false, false, EXC_NP, MACHINE_SPARE | 1},
    {"less privileged code", UINT64_C(0x00affb000000ffff), 0x8e, false, false, EXC_GP, MACHINE_SPARE | 1},
    {"conforming code from user", UINT64_C(0x00af9f000000ffff), 0x8e, false, true, 0xff, 0},
};

/* Broken if it fails: a check of SDM 3A 6.12/6.14 is missing, out of order, or reports the wrong error code. */
static void test_gate_checks(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(gate_cases); i++) {
        const struct gate_case *c = &gate_cases[i];
        struct machine machine;
        setup(&machine);
        machine_set_desc(&machine, MACHINE_SPARE, c->descriptor);
        machine_set_gate(&machine, 0x50, MACHINE_SPARE, HANDLER, c->rights, 0);
        if (c->user) {
            go_to_user(&machine);
        }
        struct x86_event event = {
            .vector = 0x50, .software = c->software, .ext = !c->software, .return_rip = 5, .rflags = 2};
        int r = x86_event_enter(machine.cpu, &event);
        g_test_message("%s", c->what);
        if (c->vector == 0xff) {
            g_assert_cmpint(r, ==, X86_JUMP);
            g_assert_cmphex(machine.cpu->rip, ==, HANDLER);
        } else {
            g_assert_cmpint(r, ==, X86_RAISE);
            g_assert_cmpuint(machine.cpu->exc.vector, ==, c->vector);
            g_assert_cmphex(machine.cpu->exc.error, ==, c->error);
            g_assert_cmphex(machine.cpu->rip, ==, MACHINE_CODE);
        }
        machine_destroy(&machine);
    }
}

enum outcome { SECOND, DOUBLE, SHUTDOWN };

struct promotion_case {
    uint8_t first;
    uint8_t second; /* made by breaking the first's gate: NP, or PF by pointing the IDT at nothing */
    enum outcome outcome;
};

/* Breaks the gate of `first` so that its delivery meets `second`. */
static void break_gate(struct machine *machine, uint8_t first, uint8_t second)
{
    switch (second) {
    case EXC_NP:
        machine_set_gate(machine, first, MACHINE_CS64, HANDLER, 0x0e, 0);
        break;
    case EXC_GP:
        machine_set_gate(machine, first, 0, HANDLER, 0x8e, 0);
        break;
    default: /* EXC_PF: the gate uses a stack that is not mapped */
        machine_set_gate(machine, first, MACHINE_CS64, HANDLER, 0x8e, 2);
        machine_write64(machine, MACHINE_TSS + 44, 0x40000000);
        break;
    }
}

/* Broken if it fails: SDM 3A table 6-5 is not followed. */
static void test_promotion(void)
{
    static const struct promotion_case cases[] = {
        {EXC_UD, EXC_NP, SECOND},   {EXC_UD, EXC_PF, SECOND}, {EXC_GP, EXC_NP, DOUBLE},
        {EXC_DE, EXC_GP, DOUBLE},   {EXC_GP, EXC_PF, SECOND}, {EXC_PF, EXC_NP, DOUBLE},
        {EXC_TS, EXC_NP, DOUBLE},   {EXC_NM, EXC_GP, SECOND}, {EXC_DF, EXC_NP, SHUTDOWN},
        {EXC_DF, EXC_PF, SHUTDOWN}, {EXC_AC, EXC_GP, SECOND},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        const struct promotion_case *c = &cases[i];
        struct machine machine;
        setup(&machine);
        break_gate(&machine, c->first, c->second);
        struct x86_cpu *cpu = machine.cpu;
        if (c->first == EXC_UD || c->first == EXC_NM || c->first == EXC_DE) {
            x86_raise(cpu, c->first);
        } else {
            x86_raise_error(cpu, c->first, 0);
        }
        int r = x86_deliver_exception(cpu);
        g_test_message("case %u", i);
        if (c->outcome == SHUTDOWN) {
            g_assert_cmpint(r, ==, X86_EXIT);
            g_assert_cmpint(cpu->exit_reason, ==, X86_RUN_SHUTDOWN);
        } else {
            g_assert_cmpint(r, ==, X86_JUMP);
            g_assert_cmphex(cpu->rip, ==, HANDLER + (c->outcome == SECOND ? c->second : EXC_DF));
        }
        if (c->outcome == DOUBLE) {
            g_assert_cmphex(machine_read64(&machine, cpu->gpr[IR_RSP]), ==, 0);
        }
        machine_destroy(&machine);
    }
}

/* Broken if it fails: a fault during delivery of a page fault hides its own address. */
static void test_page_fault_twice(void)
{
    struct machine machine;
    setup(&machine);
    break_gate(&machine, EXC_PF, EXC_PF);
    x86_raise_pf(machine.cpu, 0x1000000, 0);
    g_assert_cmpint(x86_deliver_exception(machine.cpu), ==, X86_JUMP);
    g_assert_cmphex(machine.cpu->rip, ==, HANDLER + EXC_DF);
    g_assert_cmphex(machine.cpu->cr2, ==, 0x40000000 - 48);
    machine_destroy(&machine);
}

/* Broken if it fails: a handler whose address or stack is not canonical corrupts the vCPU. */
static void test_canonical(void)
{
    struct machine machine;
    setup(&machine);
    struct x86_event event = {.vector = 0x50, .ext = 1, .rflags = 2};
    machine_set_gate(&machine, 0x50, MACHINE_CS64, UINT64_C(0x800000000000), 0x8e, 0);
    g_assert_cmpint(x86_event_enter(machine.cpu, &event), ==, X86_RAISE);
    g_assert_cmpuint(machine.cpu->exc.vector, ==, EXC_GP);
    machine.cpu->exc.pending = false;
    machine_set_gate(&machine, 0x50, MACHINE_CS64, HANDLER, 0x8e, 2);
    machine_write64(&machine, MACHINE_TSS + 44, UINT64_C(0x900000000000));
    g_assert_cmpint(x86_event_enter(machine.cpu, &event), ==, X86_RAISE);
    g_assert_cmpuint(machine.cpu->exc.vector, ==, EXC_SS);
    g_assert_cmphex(machine.cpu->gpr[IR_RSP], ==, MACHINE_STACK);
    machine_destroy(&machine);
}

#define NMI_COUNT 0x5000u

/* NMIs that the handler gets when `before` arrive at once and three more in its first run. */
static uint32_t count_nmis(unsigned before, bool more, enum engine_tier tier)
{
    static const uint8_t halt[] = {0xf4, 0xeb, 0xfd}; /* 1: hlt; jmp 1b */
    static const uint8_t handler[] = {
        0xff, 0x04, 0x25, 0x00, 0x50, 0x00, 0x00,       /* inc dword [NMI_COUNT] */
        0x83, 0x3c, 0x25, 0x00, 0x50, 0x00, 0x00, 0x01, /* cmp dword [NMI_COUNT], 1 */
        0x75, 0x06,                                     /* jne 1f */
        0xe6, 0xeb, 0xe6, 0xeb, 0xe6, 0xeb,             /* out MACHINE_PORT_NMI, al, three times */
        0x48, 0xcf,                                     /* 1: iretq */
    };
    struct machine machine;
    machine_create(&machine, tier);
    machine_enter_long_mode(&machine);
    memcpy(machine.ram + MACHINE_CODE, halt, sizeof(halt));
    memcpy(machine.ram + HANDLER, handler, sizeof(handler));
    if (!more) {
        memset(machine.ram + HANDLER + 17, 0x90, 6);
    }
    machine_set_gate(&machine, EXC_NMI, MACHINE_CS64, HANDLER, 0x8e, 0);
    for (unsigned i = 0; i < before; i++) {
        machine_nmi(&machine);
    }
    g_assert_cmpint(x86_run(machine.cpu), ==, X86_RUN_HLT);
    g_assert_false(machine.cpu->nmi_blocked);
    uint32_t count = (uint32_t)machine_read64(&machine, NMI_COUNT);
    machine_destroy(&machine);
    return count;
}

/* Broken if it fails: a kernel loses an NMI that came together with another, or gets more than one for those that came
 * while its handler ran. */
static void test_nmi_latch(void)
{
    for (enum engine_tier tier = ENGINE_INTERPRETER; tier <= ENGINE_T0; tier++) {
        g_assert_cmpuint(count_nmis(1, false, tier), ==, 1);
        g_assert_cmpuint(count_nmis(2, false, tier), ==, 2);
        g_assert_cmpuint(count_nmis(3, false, tier), ==, 2);
        g_assert_cmpuint(count_nmis(1, true, tier), ==, 2);
        g_assert_cmpuint(count_nmis(2, true, tier), ==, 2);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sys/events/page-fault-from-user", test_page_fault_from_user);
    g_test_add_func("/sys/events/ist-and-alignment", test_ist_and_alignment);
    g_test_add_func("/sys/events/gate-checks", test_gate_checks);
    g_test_add_func("/sys/events/promotion", test_promotion);
    g_test_add_func("/sys/events/page-fault-twice", test_page_fault_twice);
    g_test_add_func("/sys/events/canonical", test_canonical);
    g_test_add_func("/sys/events/nmi-latch", test_nmi_latch);
    return g_test_run();
}
