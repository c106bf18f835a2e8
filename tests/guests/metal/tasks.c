/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metal32: hardware task switches (SDM 3A chapter 7): by JMP, CALL, INT and IRET, through task gates and directly; what is saved and
 * loaded, busy bits, the link and NT, CR0.TS, the T flag, debug registers, an LDT; and the faults before and after the
 * switch.
 */
#include "metal.h"

const char metal_name[] = "tasks";

#define FREE(n)              (SEL_FREE + 8 * (n))
#define FAULT(vector, error) ((vector) << 16 | ((error)&0xffff))
#define NONE                 FAULT(V_NONE, 0)
#define SEL_TASK             FREE(0) /* the other task */
#define SEL_GATE             FREE(1)
#define FLAG_NT              (1u << 14)
#define CR0_TS               8u

static struct tss32 other __attribute__((aligned(128)));
static uint8_t other_stack[4096] __attribute__((aligned(16)));
static uint64_t other_ldt[2];

/* What the other task found when it began; it goes back by IRET or a jump. */
struct seen {
    word ax, bx, cx, dx, si, di, bp, sp, flags, cs, ss, ds, es, fs, gs, tr, ldt, cr0, dr7;
} seen;
word switches;

__asm__(
    ".text\n"
    "task_entry:\n"
    "  mov %eax, seen; mov %ebx, seen + 4; mov %ecx, seen + 8; mov %edx, seen + 12; mov %esi, seen + 16; mov "
    "%edi, seen + 20\n"
    "  mov %ebp, seen + 24; mov %esp, seen + 28; pushf; pop seen + 32; mov %cs, seen + 36; mov %ss, seen + "
    "40\n"
    "  mov %ds, seen + 44; mov %es, seen + 48; mov %fs, seen + 52; mov %gs, seen + 56; str %eax; mov %eax, "
    "seen + 60\n"
    "  sldt %eax; mov %eax, seen + 64; mov %cr0, %eax; mov %eax, seen + 68; mov %dr7, %eax; mov %eax, seen + "
    "72\n"
    "  incl switches; clts; mov $0xaaaa1111, %eax; mov $0xbbbb2222, %ebx\n"
    "task_iret: iret\n"
    "task_again: jmp task_entry\n"
    "task_jump: incl switches; str %eax; mov %eax, seen + 60; pushf; pop seen + 32; clts; ljmp $0x28, $0\n"
    "task_jump_again: jmp task_jump\n"
    "task_error: pop seen; pushf; pop seen + 32; incl switches; str %eax; mov %eax, seen + 60; mov %esp, "
    "seen + 28; clts; iret\n"
    "task_user: int $0x30\n");
extern uint8_t task_entry[], task_iret[], task_again[], task_jump[], task_jump_again[], task_error[],
    task_user[];

static uint64_t outcome(void (*body)(void))
{
    unsigned vector = metal_try(body);
    return FAULT(vector, vector == V_NONE || vector == V_USER ? 0 : metal_trap.error);
}

static unsigned type_of(unsigned selector)
{
    return metal_gdt[selector / 8] >> 40 & 0xff;
}

static void make_other(const uint8_t *entry)
{
    other = (struct tss32){
        .ip = (word)entry,
        .flags = 0x246,
        .ax = 0x11111111,
        .cx = 0x22222222,
        .dx = 0x33333333,
        .bx = 0x44444444,
        .sp = (word)other_stack + sizeof(other_stack),
        .bp = 0x66666666,
        .si = 0x77777777,
        .di = 0x88888888,
        .es = SEL_DATA,
        .cs = SEL_CODE,
        .ss = SEL_DATA,
        .ds = SEL_DATA,
        .fs = SEL_UDATA,
        .gs = 0,
        .io_base = sizeof(other),
        .sp0 = (word)other_stack + 2048,
        .ss0 = SEL_DATA,
    };
    metal_gdt[SEL_TASK / 8] = metal_descriptor((word)&other, sizeof(other) - 1, 0x89, 0);
    metal_gdt[SEL_GATE / 8] = (uint64_t)SEL_TASK << 16 | (uint64_t)0x85 << 40;
}

/* After a test that ended inside the other task: TR, busy bits and NT as they were. */
static void come_home(void)
{
    __asm__ volatile("pushf; andl $~0x4000, (%esp); popf; clts");
    metal_load_tss();
}

static void call_task(void)
{
    __asm__ volatile("mov $0x12345678, %%ebx; mov $0x9abcdef0, %%esi; lcall %0, $0; home: " ::"i"(SEL_TASK)
                     : "eax", "ebx", "ecx", "edx", "esi", "edi", "memory");
}
extern uint8_t home[];

static void call_gate(void)
{
    __asm__ volatile("lcall %0, $0" ::"i"(SEL_GATE) : "memory");
}

static void jump_task(void)
{
    __asm__ volatile("ljmp %0, $0" ::"i"(SEL_TASK) : "memory");
}

static void jump_gate(void)
{
    __asm__ volatile("ljmp %0, $0" ::"i"(SEL_GATE) : "memory");
}

static void int_task(void)
{
    __asm__ volatile("int $0x60" ::: "memory");
}

static void iret_nested(void)
{
    __asm__ volatile("pushf; orl $0x4000, (%%esp); popf; iret" ::: "memory");
}

/* --- calls ------------------------------------------------------------------------------------------------------------ */

static void calls(void)
{
    make_other(task_entry);
    switches = 0;
    dr7_write(0x455);
    __asm__ volatile("clts");
    CHECK(outcome(call_task), NONE);
    CHECK(switches, 1);
    CHECK(seen.bx, 0x44444444);
    CHECK(seen.cx, 0x22222222);
    CHECK(seen.dx, 0x33333333);
    CHECK(seen.bp, 0x66666666);
    CHECK(seen.si, 0x77777777);
    CHECK(seen.di, 0x88888888);
    CHECK(seen.sp, (word)other_stack + sizeof(other_stack));
    CHECK(seen.flags, 0x246 | FLAG_NT);
    CHECK(seen.ds & 0xffff, SEL_DATA);
    CHECK(seen.fs & 0xffff, SEL_UDATA);
    CHECK(seen.gs & 0xffff, 0);
    CHECK(seen.tr & 0xffff, SEL_TASK);
    CHECK(seen.cr0 & CR0_TS, CR0_TS);
    CHECK(seen.dr7, 0x400); /* local breakpoints off */
    CHECK(other.link, SEL_TSS);
    /* Saved of the caller, and of the other task when it left. */
    CHECK(metal_tss.tss.bx, 0x12345678);
    CHECK(metal_tss.tss.si, 0x9abcdef0);
    CHECK(metal_tss.tss.ip, (word)home);
    CHECK(metal_tss.tss.cs & 0xffff, SEL_CODE);
    CHECK(metal_tss.tss.flags & FLAG_NT, 0);
    CHECK(other.ax, 0xaaaa1111);
    CHECK(other.bx, 0xbbbb2222);
    CHECK(other.ip, (word)task_again);
    CHECK(other.flags & FLAG_NT, 0); /* IRET clears it in what it saves */
    CHECK(type_of(SEL_TSS), 0x8b);
    CHECK(type_of(SEL_TASK), 0x89);
    CHECK(cr0_read() & CR0_TS, CR0_TS);
    CHECK(flags_read() & FLAG_NT, 0);
    come_home();
    /* Again: it goes on behind its IRET. Through a gate, and by INT. */
    CHECK(outcome(call_gate), NONE);
    CHECK(switches, 2);
    CHECK(seen.bx, 0xbbbb2222);
    metal_gate(0x60, SEL_TASK, 0, 0xe5, 0);
    CHECK(outcome(int_task), NONE);
    CHECK(switches, 3);
    CHECK(other.link, SEL_TSS);
    CHECK(type_of(SEL_TASK), 0x89);
    metal_gate_reset(0x60);
    dr7_write(0x400);
}

static void jumps(void)
{
    make_other(task_jump);
    switches = 0;
    CHECK(outcome(jump_task), NONE);
    CHECK(switches, 1);
    CHECK(seen.flags & FLAG_NT, 0);
    CHECK(other.link, 0); /* not touched */
    CHECK(type_of(SEL_TSS), 0x8b);
    CHECK(type_of(SEL_TASK), 0x89);
    CHECK(other.ip, (word)task_jump_again);
    CHECK(outcome(jump_gate), NONE);
    CHECK(switches, 2);
    come_home();
}

/* --- faults before the switch (3A 7.3, table 7-1) ------------------------------------------------------------------------- */

static word user_selector;
__asm__(".text\nuser_call_task: lcall *user_pointer; int $0x30\n");
struct {
    uint32_t offset;
    uint16_t selector;
} __attribute__((packed)) user_pointer;
extern uint8_t user_call_task[];

static void in_user(void)
{
    user_pointer.selector = (uint16_t)user_selector;
    metal_enter_user((word)user_call_task, 0);
}

static void early_faults(void)
{
    static const struct {
        unsigned access;
        uint32_t limit;
        uint64_t call, iret;
    } rows[] = {
        {0x8b, 103, FAULT(V_GP, SEL_TASK), 0},                     /* busy: for IRET it must be */
        {0x09, 103, FAULT(V_NP, SEL_TASK), FAULT(V_TS, SEL_TASK)}, /* IRET: not busy comes first */
        {0x0b, 103, FAULT(V_GP, SEL_TASK), FAULT(V_NP, SEL_TASK)},
        {0x89, 102, FAULT(V_TS, SEL_TASK), FAULT(V_TS, SEL_TASK)},
        {0x8b, 102, FAULT(V_GP, SEL_TASK), FAULT(V_TS, SEL_TASK)},
        {0x82, 103, FAULT(V_GP, SEL_TASK), FAULT(V_TS, SEL_TASK)},
        {0x92, 103, FAULT(V_GP, SEL_TASK), FAULT(V_TS, SEL_TASK)},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        make_other(task_entry);
        metal_gdt[SEL_TASK / 8] = metal_descriptor((word)&other, rows[i].limit, rows[i].access, 0);
        CHECK(outcome(call_task), rows[i].call);
        CHECK(metal_trap.cs, SEL_CODE);
        if (rows[i].iret) {
            metal_tss.tss.link = SEL_TASK;
            CHECK(outcome(iret_nested), rows[i].iret);
        }
        come_home();
    }
    /* A link into the LDT, or nowhere. */
    metal_tss.tss.link = SEL_TASK | 4;
    CHECK(outcome(iret_nested), FAULT(V_TS, SEL_TASK | 4));
    metal_tss.tss.link = 0;
    CHECK(outcome(iret_nested), FAULT(V_TS, 0));
    come_home();
    /* Privilege: DPL of the TSS descriptor, or of the gate alone. */
    make_other(task_entry);
    user_selector = SEL_TASK;
    CHECK(outcome(in_user), FAULT(V_GP, SEL_TASK));
    user_selector = SEL_GATE;
    CHECK(outcome(in_user), FAULT(V_GP, SEL_GATE));
    metal_gdt[SEL_GATE / 8] |= (uint64_t)0x60 << 40;
    CHECK(outcome(in_user), FAULT(V_USER, 0));
    CHECK(metal_trap.cs, SEL_UCODE);
    metal_gdt[SEL_GATE / 8] &= ~((uint64_t)0x80 << 40);
    CHECK(outcome(in_user), FAULT(V_NP, SEL_GATE));
    metal_gdt[SEL_GATE / 8] = (uint64_t)(SEL_TASK | 4) << 16 | (uint64_t)0xe5 << 40;
    CHECK(outcome(in_user), FAULT(V_GP, SEL_TASK | 4));
    come_home();
}

/* --- faults after it: the new task's --------------------------------------------------------------------------------------- */

static void late_faults(void)
{
    static const struct {
        unsigned offset; /* of a selector in the TSS */
        unsigned selector;
        uint64_t expected;
    } rows[] = {
        {offsetof(struct tss32, cs), 0, FAULT(V_TS, 0)},
        {offsetof(struct tss32, cs), SEL_DATA, FAULT(V_TS, SEL_DATA)},
        {offsetof(struct tss32, cs), FREE(2), FAULT(V_NP, FREE(2))},
        {offsetof(struct tss32, ss), 0, FAULT(V_TS, 0)},
        {offsetof(struct tss32, ss), SEL_UDATA, FAULT(V_TS, SEL_UDATA & ~3)},
        {offsetof(struct tss32, ds), FREE(4), FAULT(V_TS, FREE(4))}, /* execute-only */
        {offsetof(struct tss32, ds), FREE(3), FAULT(V_NP, FREE(3))},
        {offsetof(struct tss32, gs), GDT_ENTRIES * 8, FAULT(V_TS, GDT_ENTRIES * 8)},
        {offsetof(struct tss32, ldt), SEL_DATA, FAULT(V_TS, SEL_DATA)},
        {offsetof(struct tss32, ldt), FREE(5), FAULT(V_TS, FREE(5))}, /* an LDT that is not present */
    };
    metal_gdt[SEL_FREE / 8 + 2] = metal_descriptor(0, 0xfffff, 0x1a, 0xc);
    metal_gdt[SEL_FREE / 8 + 3] = metal_descriptor(0, 0xfffff, 0x12, 0xc);
    metal_gdt[SEL_FREE / 8 + 4] = metal_descriptor(0, 0xfffff, 0x98, 0xc);
    metal_gdt[SEL_FREE / 8 + 5] = metal_descriptor((word)other_ldt, 15, 0x02, 0);
    /* The new task may have no stack to take the fault on: a task of its own takes it. */
    static struct tss32 doctor;
    static uint8_t doctor_stack[4096] __attribute__((aligned(16)));
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        unsigned vector = (unsigned)(rows[i].expected >> 16);
        make_other(task_entry);
        memcpy((uint8_t *)&other + rows[i].offset, &rows[i].selector, 2);
        doctor = (struct tss32){.ip = metal_stubs[vector],
                                .flags = 2,
                                .sp = (word)doctor_stack + sizeof(doctor_stack),
                                .es = SEL_DATA,
                                .cs = SEL_CODE,
                                .ss = SEL_DATA,
                                .ds = SEL_DATA,
                                .fs = SEL_DATA,
                                .gs = SEL_DATA};
        metal_gdt[SEL_FREE / 8 + 6] = metal_descriptor((word)&doctor, sizeof(doctor) - 1, 0x89, 0);
        metal_gate(vector, FREE(6), 0, 0x85, 0);
        unsigned got = metal_try(call_task);
        /* The stub takes the error code that the switch left for the first word of its frame. */
        CHECK(FAULT(got, metal_trap.error), rows[i].expected);
        CHECK(doctor.link & 0xffff, SEL_TASK); /* it happened in the new task */
        CHECK(other.ip, (word)task_entry);
        metal_gate_reset(vector);
        come_home();
    }
}

/* --- the T flag, an LDT, CPL 3 --------------------------------------------------------------------------------------------- */

static void extras(void)
{
    make_other(task_entry);
    other.trap = 1;
    dr6_write(0);
    CHECK(outcome(call_task), FAULT(V_DB, 0));
    CHECK(metal_trap.dr6 & 0xe00f, 0x8000);
    CHECK(metal_trap.ip, (word)task_entry);
    come_home();
    other_ldt[1] = metal_descriptor(0x1000, 0xfff, 0x92, 4);
    metal_gdt[SEL_FREE / 8 + 5] = metal_descriptor((word)other_ldt, 15, 0x82, 0);
    make_other(task_entry);
    other.ldt = FREE(5);
    other.fs = 8 | 4;
    CHECK(outcome(call_task), NONE);
    CHECK(seen.ldt & 0xffff, FREE(5));
    CHECK(seen.fs & 0xffff, 8 | 4);
    come_home();
    __asm__ volatile("lldt %w0" ::"r"(0));
    make_other(task_user);
    other.cs = SEL_UCODE;
    other.ss = other.ds = other.es = SEL_UDATA;
    CHECK(outcome(call_task), FAULT(V_USER, 0));
    CHECK(metal_trap.cs, SEL_UCODE);
    CHECK(metal_trap.handler_sp, other.sp0); /* its own inner stack */
    come_home();
    /* EIP beyond the code's limit: #GP(0) of the new task. */
    metal_gdt[SEL_FREE / 8 + 2] = metal_descriptor(0, 0xfff, 0x9a, 4);
    make_other(task_entry);
    other.cs = FREE(2);
    CHECK(outcome(call_task), FAULT(V_GP, 0));
    CHECK(metal_trap.cs, FREE(2));
    come_home();
}

/* An exception through a task gate: its error code is on the new task's stack (3A 6.12.2). */
static void np_load(void)
{
    __asm__ volatile("mov %0, %%fs" ::"r"(FREE(7)));
}

static void error_codes(void)
{
    make_other(task_error);
    metal_gdt[SEL_FREE / 8 + 7] = metal_descriptor(0, 0xfffff, 0x12, 0xc); /* not present */
    metal_gate(V_NP, SEL_TASK, 0, 0x85, 0);
    /* The load is tried again when the task returns, faults again and goes on behind the task's IRET: into INT $0x30. */
    switches = 0;
    seen.ax = 0;
    CHECK(outcome(np_load), FAULT(V_USER, 0));
    CHECK(switches, 1);
    CHECK(seen.ax, FREE(7));
    CHECK(seen.flags & FLAG_NT, FLAG_NT);
    CHECK(seen.sp, (word)other_stack + sizeof(other_stack));
    metal_gate_reset(V_NP);
    come_home();
}

void metal_main(void)
{
    metal_case("CALL, INT and IRET (SDM 3A 7.3, 7.4)");
    calls();
    metal_case("JMP (SDM 3A 7.3)");
    jumps();
    metal_case("faults before the switch (SDM 3A table 7-1)");
    early_faults();
    metal_case("faults after the switch (SDM 3A table 7-1)");
    late_faults();
    metal_case("error codes on the new stack (SDM 3A 6.12.2)");
    error_codes();
    metal_case("T flag, LDT, CPL 3");
    extras();
}
