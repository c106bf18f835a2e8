/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtual interrupts: virtual-8086 mode extensions (CR4.VME) and their kin of protected mode (CR4.PVI). Each case is one
 * instruction.
 */
#include <glib.h>
#include <string.h>

#include "tests/translator/sys_machine.h"

#define CODE      0x20000u
#define STACK     0x30000u
#define SP        0x100u
#define TSS_BYTES 0x8fu
#define IO_MAP    0x88u /* the redirection bitmap is the 32 bytes before it */
#define OWN       0x10u /* INT n that the bitmap leaves to the program */
#define OTHER     0x11u
#define HANDLER   0x12340056u /* its entry of the interrupt table */
#define IOPL(n)   ((n) << 12)
#define DONE      0xff

struct v86_case {
    const char *what;
    uint8_t code[4];
    uint64_t cr4, flags; /* beside bit 1 and VM */
    uint16_t image;      /* FLAGS at SS:SP for POPF, with IP and CS for IRET */
    uint8_t vector;      /* what it raises, or DONE */
    uint64_t after;      /* flags */
    uint16_t pushed;     /* FLAGS as PUSHF and INT push them, unless 0 */
    uint32_t target;     /* CS:IP, unless 0 */
};

static const struct v86_case cases[] = {
    {"PUSHF shows VIF", {0x9c}, CR4_VME, FLAG_VIF, 0, DONE, FLAG_VIF, 2 | IOPL(3) | FLAG_IF, 0},
    {"PUSHF hides IF", {0x9c}, CR4_VME, FLAG_IF, 0, DONE, FLAG_IF, 2 | IOPL(3), 0},
    {"PUSHF without VME", {0x9c}, 0, FLAG_VIF, 0, EXC_GP, FLAG_VIF, 0, 0},
    {"PUSHFD", {0x66, 0x9c}, CR4_VME, 0, 0, EXC_GP, 0, 0, 0},
    {"PUSHF at IOPL 3", {0x9c}, CR4_VME, IOPL(3) | FLAG_VIF, 0, DONE, IOPL(3) | FLAG_VIF, 2 | IOPL(3), 0},
    {"POPF sets VIF", {0x9d}, CR4_VME, 0, FLAG_IF | FLAG_CF | IOPL(2), DONE, FLAG_VIF | FLAG_CF, 0, 0},
    {"POPF clears VIF", {0x9d}, CR4_VME, FLAG_VIF | FLAG_IF, 0, DONE, FLAG_IF, 0, 0},
    {"POPF with VIP", {0x9d}, CR4_VME, FLAG_VIP, FLAG_IF, EXC_GP, FLAG_VIP, 0, 0},
    {"POPF with VIP, IF clear", {0x9d}, CR4_VME, FLAG_VIP, FLAG_ZF, DONE, FLAG_VIP | FLAG_ZF, 0, 0},
    {"POPF with TF", {0x9d}, CR4_VME, 0, FLAG_TF, EXC_GP, 0, 0, 0},
    {"POPF without VME", {0x9d}, 0, 0, 0, EXC_GP, 0, 0, 0},
    {"CLI", {0xfa}, CR4_VME, FLAG_VIF | FLAG_IF, 0, DONE, FLAG_IF, 0, 0},
    {"STI", {0xfb}, CR4_VME, 0, 0, DONE, FLAG_VIF, 0, 0},
    {"STI with VIP", {0xfb}, CR4_VME, FLAG_VIP, 0, EXC_GP, FLAG_VIP, 0, 0},
    {"STI without VME", {0xfb}, 0, 0, 0, EXC_GP, 0, 0, 0},
    {"STI at IOPL 3", {0xfb}, CR4_VME, IOPL(3), 0, DONE, IOPL(3) | FLAG_IF, 0, 0},
    {"IRET", {0xcf}, CR4_VME, 0, FLAG_IF | FLAG_CF, DONE, FLAG_VIF | FLAG_CF, 0, 0x56780009},
    {"IRET with VIP", {0xcf}, CR4_VME, FLAG_VIP, FLAG_IF, EXC_GP, FLAG_VIP, 0, 0},
    {"IRET without VME", {0xcf}, 0, 0, FLAG_IF, EXC_GP, 0, 0, 0},
    {"INT within",
     {0xcd, OWN},
     CR4_VME,
     FLAG_VIF | FLAG_IF,
     0,
     DONE,
     FLAG_IF,
     2 | IOPL(3) | FLAG_IF,
     HANDLER},
    {"INT within at IOPL 3",
     {0xcd, OWN},
     CR4_VME,
     IOPL(3) | FLAG_IF | FLAG_VIF,
     0,
     DONE,
     IOPL(3) | FLAG_VIF,
     2 | IOPL(3) | FLAG_IF,
     HANDLER},
    {"INT to the monitor", {0xcd, OTHER}, CR4_VME, 0, 0, EXC_GP, 0, 0, 0},
    {"INT without VME", {0xcd, OWN}, 0, 0, 0, EXC_GP, 0, 0, 0},
};

static void setup(struct machine *machine, uint64_t cr4, uint64_t flags, bool v86)
{
    machine_create(machine, ENGINE_INTERPRETER);
    struct x86_cpu *cpu = machine->cpu;
    cpu->cr0 = CR0_PE | CR0_ET;
    cpu->cr4 = cr4;
    cpu->seg[SEG_LDTR] = (struct x86_seg){.attr = SEG_ATTR_UNUSABLE};
    cpu->seg[SEG_TR] = (struct x86_seg){.sel = 0x40, .base = MACHINE_TSS, .limit = TSS_BYTES, .attr = 0x8b};
    memset(machine->ram + MACHINE_TSS, 0xff, TSS_BYTES + 1);
    machine->ram[MACHINE_TSS + 0x66] = IO_MAP;
    machine->ram[MACHINE_TSS + 0x67] = 0;
    machine->ram[MACHINE_TSS + IO_MAP - 32 + OWN / 8] &= (uint8_t) ~(1u << OWN % 8);
    const uint32_t handler = HANDLER;
    memcpy(machine->ram + OWN * 4, &handler, 4);
    cpu->rflags = 2 | flags | (v86 ? FLAG_VM : 0);
    cpu->cpl = 3;
    x86_state_changed(cpu, 0);
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
        if (v86) {
            x86_seg_real(cpu, i, i == SEG_CS ? CODE >> 4 : STACK >> 4);
        } else {
            x86_set_flat_segment(&cpu->seg[i], i == SEG_CS ? MACHINE_UCS32 | 3 : MACHINE_USS | 3,
                                 i == SEG_CS ? ATTR_FLAT_CODE32(3u) : ATTR_FLAT_DATA(3u));
        }
    }
    cpu->cpl = 3;
    x86_update_mode(cpu);
    cpu->gpr[IR_RSP] = SP;
    cpu->rip = v86 ? 0 : CODE;
}

static uint16_t stack_word(const struct machine *machine, unsigned index)
{
    return (uint16_t)machine_read64(machine, STACK + machine->cpu->gpr[IR_RSP] + index * 2);
}

/* Broken if it fails: a program in virtual-8086 mode turns off the machine's interrupts, sees another IF than its own, or
 * misses its monitor. */
static void test_virtual_8086(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        const struct v86_case *c = &cases[i];
        struct machine machine;
        setup(&machine, c->cr4, c->flags, true);
        struct x86_cpu *cpu = machine.cpu;
        memcpy(machine.ram + CODE, c->code, sizeof(c->code));
        const uint16_t frame[3] = {0x0009, 0x5678, c->image};
        bool iret = c->code[0] == 0xcf;
        memcpy(machine.ram + STACK + SP, iret ? frame : &c->image, iret ? sizeof(frame) : 2);
        g_test_message("%s", c->what);
        int r = engine_step(cpu);
        g_assert_cmphex(cpu->rflags, ==, 2 | FLAG_VM | c->after);
        if (c->vector != DONE) {
            g_assert_cmpint(r, ==, X86_RAISE);
            g_assert_cmpuint(cpu->exc.vector, ==, c->vector);
            g_assert_cmphex(cpu->gpr[IR_RSP], ==, SP);
        } else {
            g_assert_cmpint(r, ==, X86_JUMP);
        }
        if (c->target) {
            g_assert_cmphex((uint32_t)cpu->seg[SEG_CS].sel << 16 | cpu->rip, ==, c->target);
        }
        if (c->pushed) {
            bool frame_pushed = c->code[0] == 0xcd;
            g_assert_cmphex(stack_word(&machine, frame_pushed ? 2 : 0), ==, c->pushed);
            g_assert_cmphex(cpu->gpr[IR_RSP], ==, SP - (frame_pushed ? 6 : 2));
        }
        machine_destroy(&machine);
    }
}

/* Broken if it fails: user code under CR4.PVI reaches IF, or its VIF does not follow. */
static void test_protected(void)
{
    static const struct {
        uint8_t code;
        uint64_t cr4, flags, after;
        bool faults;
    } rows[] = {
        {0xfb, CR4_PVI, 0, FLAG_VIF, false},
        {0xfb, CR4_PVI, FLAG_VIP, FLAG_VIP, true},
        {0xfa, CR4_PVI, FLAG_VIF | FLAG_IF, FLAG_IF, false},
        {0xfb, CR4_VME, 0, 0, true},
        {0xfa, 0, FLAG_VIF, FLAG_VIF, true},
        {0xfb, CR4_PVI, IOPL(3), IOPL(3) | FLAG_IF, false},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct machine machine;
        setup(&machine, rows[i].cr4, rows[i].flags, false);
        machine.ram[CODE] = rows[i].code;
        g_test_message("row %u", i);
        g_assert_cmpint(engine_step(machine.cpu), ==, rows[i].faults ? X86_RAISE : X86_JUMP);
        g_assert_cmphex(machine.cpu->rflags, ==, 2 | rows[i].after);
        machine_destroy(&machine);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sys/v86/virtual-8086", test_virtual_8086);
    g_test_add_func("/sys/v86/protected", test_protected);
    return g_test_run();
}
