/* SPDX-License-Identifier: Apache-2.0 */
/* Hardware task switches: what is saved and loaded, busy bits and links, faults in the old and in the new task. */
#include <assert.h>
#include <glib.h>
#include <string.h>

#include "tests/translator/sys_machine.h"

#define CODE0 0x08u
#define DATA0 0x10u
#define OLD   0x40u /* the task that runs; its TSS at OLD_TSS */
#define NEW   0x48u
#define NEW16 0x50u

#define OLD_TSS   0x4000u
#define NEW_TSS   0x5000u
#define NEW16_TSS 0x6000u
#define NEW_EIP   0x21000u
#define NEW_STACK 0x30000u
#define NEXT      0x1234u /* the instruction behind the switch */

#define TSS_AVAILABLE 0x89u
#define TSS_BUSY      0x8bu

struct tss32 {
    uint32_t link, stacks[6], cr3, eip, eflags;
    uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi;
    uint32_t es, cs, ss, ds, fs, gs, ldt, trap_and_map;
};
static_assert(sizeof(struct tss32) == 0x68, "SDM 3A figure 8-2");

static struct tss32 *tss(struct machine *machine, uint32_t base)
{
    return (struct tss32 *)(machine->ram + base);
}

static uint64_t tss_desc(uint32_t base, unsigned type, unsigned limit)
{
    return (uint64_t)type << 40 | (uint64_t)base << 16 | limit;
}

static unsigned type_of(const struct machine *machine, uint16_t selector)
{
    return machine_read64(machine, MACHINE_GDT + selector) >> 40 & 0xff;
}

/* Flat 32-bit protected mode without paging, in task OLD; NEW is ready to run. */
static void setup(struct machine *machine)
{
    machine_create(machine, ENGINE_INTERPRETER);
    struct x86_cpu *cpu = machine->cpu;
    machine_set_desc(machine, CODE0, UINT64_C(0x00cf9b000000ffff));
    machine_set_desc(machine, DATA0, UINT64_C(0x00cf93000000ffff));
    machine_set_desc(machine, OLD, tss_desc(OLD_TSS, TSS_BUSY, 0x67));
    machine_set_desc(machine, NEW, tss_desc(NEW_TSS, TSS_AVAILABLE, 0x67));
    machine_set_desc(machine, NEW16, tss_desc(NEW16_TSS, 0x81, 0x2b));
    *tss(machine, NEW_TSS) = (struct tss32){.eip = NEW_EIP,
                                            .eflags = 2,
                                            .eax = 0xaaaa5555,
                                            .esp = NEW_STACK,
                                            .es = DATA0,
                                            .cs = CODE0,
                                            .ss = DATA0,
                                            .ds = DATA0};
    cpu->cr0 = CR0_PE | CR0_ET;
    cpu->gdtr = (struct x86_table){MACHINE_GDT, MACHINE_GDT_LIMIT};
    x86_set_flat_segment(&cpu->seg[SEG_CS], CODE0, ATTR_FLAT_CODE32(0));
    for (unsigned i = 0; i < 6; i++) {
        if (i != SEG_CS) {
            x86_set_flat_segment(&cpu->seg[i], DATA0, ATTR_FLAT_DATA(0));
        }
    }
    cpu->seg[SEG_LDTR] = (struct x86_seg){.attr = SEG_ATTR_UNUSABLE};
    cpu->seg[SEG_TR] = (struct x86_seg){.sel = OLD, .base = OLD_TSS, .limit = 0x67, .attr = TSS_BUSY};
    cpu->gpr[IR_RSP] = MACHINE_STACK;
    cpu->gpr[IR_RBX] = 0x12345678;
    x86_state_changed(cpu, 0);
}

static int switch_to(struct machine *machine, uint16_t selector, enum x86_task_reason reason,
                     const struct x86_event *event)
{
    uint64_t raw = machine_read64(machine, MACHINE_GDT + selector);
    return x86_task_switch(machine->cpu, selector, raw, reason, NEXT, event);
}

/* Broken if it fails: a task that calls another one does not come back as it was. */
static void test_call_and_return(void)
{
    struct machine machine;
    setup(&machine);
    struct x86_cpu *cpu = machine.cpu;
    cpu->rflags = 2 | FLAG_CF;
    cpu->dr[7] = 0x4ff;
    g_assert_cmpint(switch_to(&machine, NEW, TASK_CALL, NULL), ==, X86_JUMP);
    g_assert_cmphex(cpu->rip, ==, NEW_EIP);
    g_assert_cmphex(cpu->rflags, ==, 2 | FLAG_NT);
    g_assert_cmphex(cpu->gpr[IR_RAX], ==, 0xaaaa5555);
    g_assert_cmphex(cpu->gpr[IR_RSP], ==, NEW_STACK);
    g_assert_cmphex(cpu->seg[SEG_TR].sel, ==, NEW);
    g_assert_true(cpu->seg[SEG_FS].attr & SEG_ATTR_UNUSABLE);
    g_assert_true(cpu->cr0 & CR0_TS);
    g_assert_cmphex(cpu->dr[7], ==, 0x4aa); /* local breakpoints are the old task's */
    g_assert_cmphex(tss(&machine, NEW_TSS)->link, ==, OLD);
    g_assert_cmphex(type_of(&machine, OLD), ==, TSS_BUSY);
    g_assert_cmphex(type_of(&machine, NEW), ==, TSS_BUSY);
    g_assert_cmphex(tss(&machine, OLD_TSS)->eip, ==, NEXT);
    g_assert_cmphex(tss(&machine, OLD_TSS)->eflags, ==, 2 | FLAG_CF);
    g_assert_cmphex(tss(&machine, OLD_TSS)->ebx, ==, 0x12345678);

    cpu->gpr[IR_RAX] = 1;
    g_assert_cmpint(switch_to(&machine, OLD, TASK_IRET, NULL), ==, X86_JUMP);
    g_assert_cmphex(cpu->rip, ==, NEXT);
    g_assert_cmphex(cpu->rflags, ==, 2 | FLAG_CF);
    g_assert_cmphex(cpu->gpr[IR_RBX], ==, 0x12345678);
    g_assert_cmphex(cpu->seg[SEG_FS].sel, ==, DATA0);
    g_assert_cmphex(type_of(&machine, NEW), ==, TSS_AVAILABLE);
    g_assert_cmphex(tss(&machine, NEW_TSS)->eax, ==, 1);
    g_assert_false(tss(&machine, NEW_TSS)->eflags & FLAG_NT);
    machine_destroy(&machine);
}

/* Broken if it fails: JMP to a task leaves it nested, or the old one busy. */
static void test_jump(void)
{
    struct machine machine;
    setup(&machine);
    g_assert_cmpint(switch_to(&machine, NEW, TASK_JUMP, NULL), ==, X86_JUMP);
    g_assert_cmphex(machine.cpu->rflags, ==, 2);
    g_assert_cmphex(tss(&machine, NEW_TSS)->link, ==, 0);
    g_assert_cmphex(type_of(&machine, OLD), ==, TSS_AVAILABLE);
    g_assert_cmphex(type_of(&machine, NEW), ==, TSS_BUSY);
    machine_destroy(&machine);
}

/* Broken if it fails: a 16-bit task runs with wide registers, or loses the halves that its TSS does not hold. */
static void test_16_bit(void)
{
    struct machine machine;
    setup(&machine);
    struct x86_cpu *cpu = machine.cpu;
    const uint16_t image[22] = {
        [7] = 0x2100, [8] = 2, [9] = 0x5555, [17] = DATA0, [18] = CODE0, [19] = DATA0, [20] = DATA0};
    memcpy(machine.ram + NEW16_TSS, image, sizeof(image));
    cpu->gpr[IR_RAX] = 0xcafe0000;
    g_assert_cmpint(switch_to(&machine, NEW16, TASK_JUMP, NULL), ==, X86_JUMP);
    g_assert_cmphex(cpu->rip, ==, 0x2100);
    g_assert_cmphex(cpu->gpr[IR_RAX], ==, 0xcafe5555);
    g_assert_cmphex(cpu->seg[SEG_GS].sel, ==, 0);
    machine_destroy(&machine);
}

/* Broken if it fails: an exception in virtual-8086 mode whose gate is a task gate finds real-mode segments in the handler's
 * task. */
static void test_event_from_virtual_8086(void)
{
    struct machine machine;
    setup(&machine);
    struct x86_cpu *cpu = machine.cpu;
    const struct x86_event event = {
        .vector = EXC_GP, .ext = 1, .has_error = true, .error = 0x77, .rflags = 2 | FLAG_VM | FLAG_RF};
    cpu->rflags = 2 | FLAG_VM;
    cpu->cpl = 3;
    x86_update_mode(cpu);
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
        x86_seg_real(cpu, i, 0x1000);
    }
    x86_update_mode(cpu);
    g_assert_cmpint(switch_to(&machine, NEW, TASK_EVENT, &event), ==, X86_JUMP);
    g_assert_cmpuint(cpu->cpl, ==, 0);
    g_assert_cmphex(cpu->rflags, ==, 2 | FLAG_NT);
    g_assert_cmphex(cpu->seg[SEG_DS].base, ==, 0);
    g_assert_cmphex(cpu->seg[SEG_DS].limit, ==, UINT32_MAX);
    g_assert_cmphex(cpu->gpr[IR_RSP], ==, NEW_STACK - 4);
    g_assert_cmphex((uint32_t)machine_read64(&machine, NEW_STACK - 4), ==, 0x77);
    g_assert_cmphex(tss(&machine, OLD_TSS)->eflags, ==, 2 | FLAG_VM | FLAG_RF);
    g_assert_cmphex(tss(&machine, OLD_TSS)->ds, ==, 0x1000);

    /* And back: the link leads to a task in virtual-8086 mode. */
    g_assert_cmpint(switch_to(&machine, OLD, TASK_IRET, NULL), ==, X86_JUMP);
    g_assert_true(cpu->rflags & FLAG_VM);
    g_assert_cmpuint(cpu->cpl, ==, 3);
    g_assert_cmphex(cpu->seg[SEG_DS].base, ==, 0x10000);
    g_assert_cmphex(cpu->seg[SEG_DS].limit, ==, 0xffff);
    machine_destroy(&machine);
}

struct fault_case {
    const char *what;
    enum x86_task_reason reason;
    uint64_t descriptor; /* of NEW */
    struct tss32 tss;    /* fields that are not zero replace those of NEW */
    uint8_t vector;
    uint16_t error;
    bool in_new;
};

#define GOOD tss_desc(NEW_TSS, TSS_AVAILABLE, 0x67)

/* Broken if it fails: a bad task is entered, or the fault is raised in the wrong one. */
static void test_faults(void)
{
    const struct fault_case cases[] = {
        {"TSS too short", TASK_CALL, tss_desc(NEW_TSS, TSS_AVAILABLE, 0x66), {0}, EXC_TS, NEW, false},
        {"return to a task that is not busy", TASK_IRET, GOOD, {0}, EXC_TS, NEW, false},
        {"return to no task", TASK_IRET, UINT64_C(0x00cf93000000ffff), {0}, EXC_TS, NEW, false},
        {"return to an absent task", TASK_IRET, tss_desc(NEW_TSS, 0x0b, 0x67), {0}, EXC_NP, NEW, false},
        {"code is data", TASK_CALL, GOOD, {.cs = DATA0}, EXC_TS, DATA0, true},
        {"code of another privilege", TASK_CALL, GOOD, {.cs = CODE0 | 3}, EXC_TS, CODE0, true},
        {"stack of another privilege", TASK_CALL, GOOD, {.ss = DATA0 | 3}, EXC_TS, DATA0, true},
        {"data is a TSS", TASK_CALL, GOOD, {.ds = OLD}, EXC_TS, OLD, true},
        {"LDT is a TSS", TASK_CALL, GOOD, {.ldt = OLD}, EXC_TS, OLD, true},
        {"trap bit", TASK_CALL, GOOD, {.trap_and_map = 1}, EXC_DB, 0, true},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        const struct fault_case *c = &cases[i];
        struct machine machine;
        setup(&machine);
        uint32_t *to = (uint32_t *)(machine.ram + NEW_TSS);
        const uint32_t *from = (const uint32_t *)&c->tss;
        for (unsigned field = 0; field < sizeof(c->tss) / 4; field++) {
            to[field] = from[field] ? from[field] : to[field];
        }
        machine_set_desc(&machine, NEW, c->descriptor);
        g_test_message("%s", c->what);
        g_assert_cmpint(switch_to(&machine, NEW, c->reason, NULL), ==, X86_RAISE);
        g_assert_cmpuint(machine.cpu->exc.vector, ==, c->vector);
        g_assert_cmphex(machine.cpu->exc.error, ==, c->error);
        g_assert_cmphex(machine.cpu->seg[SEG_TR].sel, ==, c->in_new ? NEW : OLD);
        g_assert_cmphex(type_of(&machine, OLD), ==, TSS_BUSY);
        if (c->vector == EXC_DB) {
            g_assert_cmphex(machine.cpu->exc.cr2, ==, DR6_BT);
        }
        machine_destroy(&machine);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sys/tasks/call-and-return", test_call_and_return);
    g_test_add_func("/sys/tasks/jump", test_jump);
    g_test_add_func("/sys/tasks/16-bit", test_16_bit);
    g_test_add_func("/sys/tasks/event-from-virtual-8086", test_event_from_virtual_8086);
    g_test_add_func("/sys/tasks/faults", test_faults);
    return g_test_run();
}
