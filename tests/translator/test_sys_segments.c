/* SPDX-License-Identifier: Apache-2.0 */
/* Segment register loads and descriptor queries: every check with its exception, in the order of the manual. */
#include <glib.h>
#include <string.h>

#include "tests/translator/sys_machine.h"

#define DATA0      UINT64_C(0x00cf93000000ffff)
#define DATA3      UINT64_C(0x00cff3000000ffff)
#define READ_ONLY0 UINT64_C(0x00cf91000000ffff)
#define CODE0      UINT64_C(0x00cf9b000000ffff)
#define CODE_XO0   UINT64_C(0x00cf99000000ffff)
#define CODE_CONF0 UINT64_C(0x00cf9f000000ffff)
#define ABSENT     (UINT64_C(1) << 47)
#define OK         0xff

struct load_case {
    const char *what;
    uint64_t descriptor;
    uint16_t selector;
    enum x86_seg_reg reg;
    uint8_t cpl;
    uint8_t vector;
    uint16_t error;
    bool code32;
};

#define S MACHINE_SPARE

static const struct load_case load_cases[] = {
    {"data", DATA0, S, SEG_DS, 0, OK, 0},
    {"null DS", DATA0, 3, SEG_DS, 3, OK, 0},
    {"null SS in 64-bit kernel", DATA0, 0, SEG_SS, 0, OK, 0},
    {"null SS with wrong RPL", DATA0, 1, SEG_SS, 0, EXC_GP, 0},
    {"null SS in user mode", DATA0, 3, SEG_SS, 3, EXC_GP, 0},
    {"null SS outside 64-bit code", DATA0, 0, SEG_SS, 0, EXC_GP, 0, true},
    {"beyond the GDT", DATA0, 0x100, SEG_DS, 0, EXC_GP, 0x100},
    {"no LDT", DATA0, S | 4, SEG_DS, 0, EXC_GP, S | 4},
    {"RPL above DPL", DATA0, S | 3, SEG_DS, 0, EXC_GP, S},
    {"CPL above DPL", DATA0, S, SEG_DS, 3, EXC_GP, S},
    {"user data", DATA3, S | 3, SEG_DS, 3, OK, 0},
    {"readable code", CODE0, S, SEG_DS, 0, OK, 0},
    {"execute-only code", CODE_XO0, S, SEG_DS, 0, EXC_GP, S},
    {"conforming code ignores privilege", CODE_CONF0, S | 3, SEG_DS, 3, OK, 0},
    {"system descriptor", UINT64_C(0x00008b0000000067), S, SEG_DS, 0, EXC_GP, S},
    {"data not present", DATA0 & ~ABSENT, S, SEG_DS, 0, EXC_NP, S},
    {"privilege before present", DATA0 & ~ABSENT, S, SEG_DS, 3, EXC_GP, S},
    {"stack", DATA0, S, SEG_SS, 0, OK, 0},
    {"stack not present", DATA0 & ~ABSENT, S, SEG_SS, 0, EXC_SS, S},
    {"read-only stack", READ_ONLY0, S, SEG_SS, 0, EXC_GP, S},
    {"stack of another privilege", DATA3, S | 3, SEG_SS, 0, EXC_GP, S},
    {"stack with another RPL", DATA0, S | 1, SEG_SS, 0, EXC_GP, S},
};

static void set_cpl(struct machine *machine, unsigned cpl, bool code32)
{
    struct x86_cpu *cpu = machine->cpu;
    uint32_t attr = code32 ? ATTR_FLAT_CODE32(cpl) : ATTR_FLAT_CODE64(cpl);
    x86_set_flat_segment(&cpu->seg[SEG_CS], (uint16_t)(MACHINE_CS64 | cpl), attr);
    cpu->cpl = (uint8_t)cpl;
    x86_update_mode(cpu);
}

/* Broken if it fails: the guest can load a segment that it must not have, or gets the wrong fault. */
static void test_loads(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(load_cases); i++) {
        const struct load_case *c = &load_cases[i];
        struct machine machine;
        machine_create(&machine, ENGINE_INTERPRETER);
        machine_enter_long_mode(&machine);
        machine_set_desc(&machine, MACHINE_SPARE, c->descriptor);
        set_cpl(&machine, c->cpl, c->code32);
        struct x86_seg before = machine.cpu->seg[c->reg];
        int r = x86_load_segment(machine.cpu, c->reg, c->selector);
        g_test_message("%s", c->what);
        if (c->vector == OK) {
            g_assert_cmpint(r, ==, X86_OK);
            g_assert_cmphex(machine.cpu->seg[c->reg].sel, ==, c->selector);
        } else {
            g_assert_cmpint(r, ==, X86_RAISE);
            g_assert_cmpuint(machine.cpu->exc.vector, ==, c->vector);
            g_assert_cmphex(machine.cpu->exc.error, ==, c->error);
            g_assert_cmpint(memcmp(&before, &machine.cpu->seg[c->reg], sizeof(before)), ==, 0);
        }
        machine_destroy(&machine);
    }
}

/* Broken if it fails: the accessed bit is not written, or base, limit and granularity are read wrong. */
static void test_fields(void)
{
    struct machine machine;
    machine_create(&machine, ENGINE_INTERPRETER);
    machine_enter_long_mode(&machine);
    machine_set_desc(&machine, MACHINE_SPARE, UINT64_C(0x12409234567889ab));
    g_assert_cmpint(x86_load_segment(machine.cpu, SEG_FS, MACHINE_SPARE), ==, X86_OK);
    const struct x86_seg *fs = &machine.cpu->seg[SEG_FS];
    g_assert_cmphex(fs->base, ==, 0x12345678);
    g_assert_cmphex(fs->limit, ==, 0x089ab);
    g_assert_cmphex(fs->attr, ==, 0x4093);
    g_assert_cmphex(machine_read64(&machine, MACHINE_GDT + MACHINE_SPARE), ==, UINT64_C(0x12409334567889ab));
    machine_set_desc(&machine, MACHINE_SPARE, UINT64_C(0x00cf93000000ffff));
    g_assert_cmpint(x86_load_segment(machine.cpu, SEG_FS, MACHINE_SPARE), ==, X86_OK);
    g_assert_cmphex(fs->limit, ==, UINT32_MAX);
    machine_destroy(&machine);
}

struct query_case {
    uint8_t sub;
    uint64_t descriptor;
    uint16_t selector;
    uint8_t cpl;
    bool zf;
    uint64_t result;
};

static const struct query_case query_cases[] = {
    {X86_SYS_LAR, DATA0, S, 0, true, 0xcf9300}, /* with the limit's upper bits, as the processor does it */
    {X86_SYS_LAR, DATA0, S, 3, false, 0},
    {X86_SYS_LAR, DATA0, 0, 0, false, 0},
    {X86_SYS_LAR, DATA0, 0x100, 0, false, 0},
    {X86_SYS_LAR, UINT64_C(0x00008e0000000000), S, 0, false, 0}, /* interrupt gate */
    {X86_SYS_LAR, UINT64_C(0x00008c0000000000), S, 0, true, 0x8c00},
    {X86_SYS_LSL, UINT64_C(0x00008c0000000000), S, 0, false, 0},
    {X86_SYS_LSL, DATA0, S, 0, true, UINT32_MAX},
    {X86_SYS_LSL, UINT64_C(0x0040f3000000000f), S | 3, 3, true, 0xf}, /* how Linux finds the CPU number */
    {X86_SYS_LSL, DATA0, S | 3, 0, false, 0},
    {X86_SYS_VERR, CODE_XO0, S, 0, false, 0},
    {X86_SYS_VERR, CODE0, S, 0, true, 0},
    {X86_SYS_VERW, READ_ONLY0, S, 0, false, 0},
    {X86_SYS_VERW, DATA0, S, 0, true, 0},
    {X86_SYS_VERW, DATA0, S, 3, false, 0},
};

/* Broken if it fails: LAR, LSL, VERR or VERW leak a descriptor across privilege, or fault where they must not. */
static void test_queries(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(query_cases); i++) {
        const struct query_case *c = &query_cases[i];
        struct machine machine;
        machine_create(&machine, ENGINE_INTERPRETER);
        machine_enter_long_mode(&machine);
        machine_set_desc(&machine, MACHINE_SPARE, c->descriptor);
        set_cpl(&machine, c->cpl, false);
        struct ir_op op = {.op = IR_SYS, .sub = c->sub, .size = 8, .dst = IR_RAX, .src = IR_RCX};
        machine.cpu->gpr[IR_RCX] = c->selector;
        machine.cpu->gpr[IR_RAX] = 0x77;
        g_test_message("case %u", i);
        g_assert_cmpint(x86_sys(machine.cpu, &op), ==, X86_OK);
        g_assert_false(machine.cpu->exc.pending);
        g_assert_cmpint(!!(machine.cpu->rflags & FLAG_ZF), ==, c->zf);
        bool writes = c->zf && c->sub <= X86_SYS_LSL;
        g_assert_cmphex(machine.cpu->gpr[IR_RAX], ==, writes ? c->result : 0x77);
        machine_destroy(&machine);
    }
}

struct task_case {
    const char *what;
    uint8_t sub;
    uint64_t low, high;
    uint16_t selector;
    uint8_t vector;
    uint16_t error;
};

#define TSS_FREE UINT64_C(0x0000890000000067)
#define LDT      UINT64_C(0x0000820000000fff)

static const struct task_case task_cases[] = {
    {"LTR", X86_SYS_LTR, TSS_FREE, 0, S, OK, 0},
    {"LTR null", X86_SYS_LTR, TSS_FREE, 0, 0, EXC_GP, 0},
    {"LTR busy", X86_SYS_LTR, UINT64_C(0x00008b0000000067), 0, S, EXC_GP, S},
    {"LTR 16-bit in long mode", X86_SYS_LTR, UINT64_C(0x0000810000000067), 0, S, EXC_GP, S},
    {"LTR not present", X86_SYS_LTR, TSS_FREE & ~ABSENT, 0, S, EXC_NP, S},
    {"LTR through TI", X86_SYS_LTR, TSS_FREE, 0, S | 4, EXC_GP, S | 4},
    {"LTR type in the upper half", X86_SYS_LTR, TSS_FREE, UINT64_C(1) << 40, S, EXC_GP, S},
    {"LTR upper half beyond the GDT", X86_SYS_LTR, TSS_FREE, 0, 0xf8, EXC_GP, 0xf8},
    {"LLDT", X86_SYS_LLDT, LDT, 0, S, OK, 0},
    {"LLDT null", X86_SYS_LLDT, LDT, 0, 0, OK, 0},
    {"LLDT of a TSS", X86_SYS_LLDT, TSS_FREE, 0, S, EXC_GP, S},
    {"LLDT not present", X86_SYS_LLDT, LDT & ~ABSENT, 0, S, EXC_NP, S},
};

/* Broken if it fails: LTR or LLDT accepts a descriptor of the wrong kind. */
static void test_system_segments(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(task_cases); i++) {
        const struct task_case *c = &task_cases[i];
        struct machine machine;
        machine_create(&machine, ENGINE_INTERPRETER);
        machine_enter_long_mode(&machine);
        machine_set_desc(&machine, MACHINE_SPARE, c->low);
        machine_set_desc(&machine, MACHINE_SPARE + 8, c->high);
        machine_set_desc(&machine, 0xf8, c->low);
        struct ir_op op = {.op = IR_SYS, .sub = c->sub, .size = 2, .dst = IR_NONE, .src = IR_RCX};
        machine.cpu->gpr[IR_RCX] = c->selector;
        g_test_message("%s", c->what);
        int r = x86_sys(machine.cpu, &op);
        if (c->vector == OK) {
            g_assert_cmpint(r, ==, X86_OK);
            if (c->sub == X86_SYS_LTR) {
                g_assert_cmphex(machine_read64(&machine, MACHINE_GDT + MACHINE_SPARE) >> 40 & 0xff, ==, 0x8b);
            }
        } else {
            g_assert_cmpint(r, ==, X86_RAISE);
            g_assert_cmpuint(machine.cpu->exc.vector, ==, c->vector);
            g_assert_cmphex(machine.cpu->exc.error, ==, c->error);
        }
        machine_destroy(&machine);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sys/segments/loads", test_loads);
    g_test_add_func("/sys/segments/fields", test_fields);
    g_test_add_func("/sys/segments/queries", test_queries);
    g_test_add_func("/sys/segments/system", test_system_segments);
    return g_test_run();
}
