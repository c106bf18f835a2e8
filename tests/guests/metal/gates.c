/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metal32: control transfers through gates and back: call gates with parameters and stack switches (SDM 3A 5.8), interrupt and
 * trap gates of both widths with everything that can be wrong with them (3A 6.12), returns to outer privileges and bad
 * frames (SDM 2A IRET, 2B RET), the I/O bitmap, IOPL, privileged instructions at CPL 3, alignment checks, BOUND, INTO, and what
 * a fault during delivery becomes (3A table 6-5).
 */
#include "metal.h"

const char metal_name[] = "gates";

#define FREE(n)              (SEL_FREE + 8 * (n))
#define FAULT(vector, error) ((vector) << 16 | ((error)&0xffff))
#define NONE                 FAULT(V_NONE, 0)
#define USER_OK              FAULT(V_USER, 0)

#define CODE_R    0x9a
#define CONFORM_R 0x9e
#define DATA_W    0x92
#define DPL(n)    ((n) << 5)
#define BIG       0xc

static uint64_t outcome(void (*body)(void))
{
    unsigned vector = metal_try(body);
    return FAULT(vector, vector == V_NONE || vector == V_USER ? 0 : metal_trap.error);
}

static void set(unsigned n, uint64_t descriptor)
{
    metal_gdt[SEL_FREE / 8 + n] = descriptor;
}

static uint64_t call_gate(unsigned target, word offset, unsigned type, unsigned count)
{
    return (offset & 0xffff) | (uint64_t)target << 16 | (uint64_t)count << 32 | (uint64_t)type << 40 |
           (uint64_t)(offset >> 16) << 48;
}

static void enter(const uint8_t *code, word argument)
{
    metal_enter_user((word)code, argument);
}

static const uint8_t *user_code;
static word user_argument;

static void in_user(void)
{
    enter(user_code, user_argument);
}

static uint64_t user(const uint8_t *code, word argument)
{
    user_code = code;
    user_argument = argument;
    return outcome(in_user);
}

/* --- call gates --------------------------------------------------------------------------------------------------------- */

/* What assembly here refers to is not static. */
struct {
    uint32_t offset;
    uint16_t selector;
} __attribute__((packed)) far_pointer;

/* What the gate's target finds: registers, and its stack from ESP on. */
struct seen {
    word cs, ss, sp, flags, stack[40];
};
struct seen seen;

__asm__(".text\n"
        /* At CPL 0 through a gate: writes down what it sees, returns by RET 12 (three parameters). */
        "gate_target:\n"
        "  push %eax; push %ebx; push %ds; mov $0x10, %eax; mov %eax, %ds\n"
        "  mov %cs, seen; mov %ss, seen + 4; lea 12(%esp), %eax; mov %eax, seen + 8; pushf; pop seen + 12\n"
        "  push %esi; push %edi; push %ecx; push %es; mov $0x10, %ecx; mov %ecx, %es\n"
        "  mov %eax, %esi; mov $seen + 16, %edi; mov $40, %ecx; cld; rep movsl\n"
        "  pop %es; pop %ecx; pop %edi; pop %esi\n"
        "  pop %ds; pop %ebx; pop %eax\n"
        "gate_return:\n"
        "  lret $12\n"
        "gate_return_plain: lret\n"
        "gate_target16: int $0x30\n"
        /* At CPL 3: three parameters, the gate, then a report in registers. */
        "user_call: mov $0x11110003, %ebx; push $0x33; push $0x22; push $0x11; mov %esp, %edx; lcall "
        "*far_pointer\n"
        "  mov %esp, %ecx; mov %ds, %eax; mov %es, %ebx; mov %cs, %esi; int $0x30\n"
        "user_far_jump: ljmp *far_pointer\n"
        "user_after_jump: int $0x30\n");
extern uint8_t gate_target[], gate_target16[], gate_return_plain[], user_call[], user_far_jump[],
    user_after_jump[];

static void kernel_call(void)
{
    __asm__ volatile("push $0x33; push $0x22; push $0x11; lcall *far_pointer" ::: "memory");
}

static void kernel_call_plain(void)
{
    __asm__ volatile("lcall *far_pointer" ::: "memory");
}

static void kernel_jump(void)
{
    __asm__ volatile("ljmp *far_pointer" ::: "memory");
}

/* 3A 5.8.5: parameters are copied, SS:ESP of the caller is on the new stack. */
static void call_gates(void)
{
    word top = metal_tss.tss.sp0;
    far_pointer.selector = FREE(0) | 3;
    far_pointer.offset = 0xdeadbeef; /* not used */
    set(0, call_gate(SEL_CODE, (word)gate_target, 0xec, 3));
    CHECK(user(user_call, 0), USER_OK);
    CHECK(seen.cs, SEL_CODE);
    CHECK(seen.ss, SEL_DATA);
    CHECK(seen.sp, top - 4 * 7);
    CHECK(seen.stack[1], SEL_UCODE);
    CHECK(seen.stack[2], 0x11);
    CHECK(seen.stack[3], 0x22);
    CHECK(seen.stack[4], 0x33);
    CHECK(seen.stack[6], SEL_UDATA);
    CHECK(metal_trap.cx, metal_trap.dx + 12); /* RET 12 releases them on both stacks */
    CHECK(seen.stack[5], metal_trap.dx);
    CHECK(metal_trap.si, SEL_UCODE);
    CHECK(metal_trap.ax, SEL_UDATA);
    /* As many as 31; none. */
    set(0, call_gate(SEL_CODE, (word)gate_target, 0xec, 31));
    user(user_call, 0);
    CHECK(seen.sp, top - 4 * 35);
    CHECK(seen.stack[2], 0x11);
    CHECK(seen.stack[34], SEL_UDATA);
    /* A 16-bit gate: the target's offset has 16 bits, words are copied and pushed. */
    set(0, call_gate(FREE(1), (word)gate_target16 & 0xffff, 0xe4, 3));
    set(1, metal_descriptor((word)gate_target16 & ~0xfffful, 0xfffff, CODE_R, BIG));
    CHECK(user(user_call, 0), USER_OK);
    CHECK(metal_trap.cs, FREE(1));
    CHECK(metal_trap.sp, top - 2 * 7);
    CHECK(((uint16_t *)metal_trap.sp)[1], SEL_UCODE);
    CHECK(((uint16_t *)metal_trap.sp)[2], 0x11);
    CHECK(((uint16_t *)metal_trap.sp)[3], 0);
    CHECK(((uint16_t *)metal_trap.sp)[4], 0x22);
    CHECK(((uint16_t *)metal_trap.sp)[6], SEL_UDATA);
    /* At the same privilege: no copy. */
    set(0, call_gate(SEL_CODE, (word)gate_return_plain, 0x8c, 5));
    far_pointer.selector = FREE(0);
    CHECK(outcome(kernel_call_plain), NONE);
    /* Conforming code: CPL stays. */
    set(0, call_gate(FREE(1), (word)user_after_jump, 0xec, 0));
    set(1, metal_descriptor(0, 0xfffff, CONFORM_R, BIG));
    far_pointer.selector = FREE(0) | 3;
    CHECK(user(user_far_jump, 0), USER_OK);
    CHECK(metal_trap.cs, FREE(1) | 3);
}

static void call_gate_faults(void)
{
    static const struct {
        unsigned type, target, target_access;
        word offset;
        unsigned rpl;
        uint64_t from_user, from_kernel; /* CALL; 0: works */
    } rows[] = {
        {0xec, SEL_CODE, 0, 0, 3, 0, 0},
        {0x8c, SEL_CODE, 0, 0, 3, FAULT(V_GP, FREE(0)), FAULT(V_GP, FREE(0))}, /* DPL below RPL */
        {0x8c, SEL_CODE, 0, 0, 0, FAULT(V_GP, FREE(0)), 0},
        {0x6c, SEL_CODE, 0, 0, 3, FAULT(V_NP, FREE(0)), FAULT(V_NP, FREE(0))},
        {0xec, 0, 0, 0, 3, FAULT(V_GP, 0), FAULT(V_GP, 0)},
        {0xec, 3, 0, 0, 3, FAULT(V_GP, 0), FAULT(V_GP, 0)},
        {0xec, GDT_ENTRIES * 8, 0, 0, 3, FAULT(V_GP, GDT_ENTRIES * 8), FAULT(V_GP, GDT_ENTRIES * 8)},
        {0xec, SEL_DATA, 0, 0, 3, FAULT(V_GP, SEL_DATA), FAULT(V_GP, SEL_DATA)},
        {0xec, FREE(1), CODE_R & ~0x80, 0, 3, FAULT(V_NP, FREE(1)), FAULT(V_NP, FREE(1))},
        {0xec, FREE(1), CODE_R | DPL(3), 0, 3, 1, FAULT(V_GP, FREE(1))}, /* outwards: not by a call */
        {0xec, FREE(1), 0x82, 0, 3, FAULT(V_GP, FREE(1)), FAULT(V_GP, FREE(1))},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        set(0, call_gate(rows[i].target, (word)gate_target, rows[i].type, 3));
        set(1, metal_descriptor(0, 0xfffff, rows[i].target_access, BIG));
        far_pointer.selector = (uint16_t)(FREE(0) | rows[i].rpl);
        if (rows[i].from_user != 1) { /* 1: runs gate_target at CPL 3, which may not load DS so */
            CHECK(user(user_call, 0), rows[i].from_user ? rows[i].from_user : USER_OK);
        }
        CHECK(outcome(kernel_call), rows[i].from_kernel ? rows[i].from_kernel : NONE);
    }
    /* JMP through a gate does not change privilege: #GP(target). */
    set(0, call_gate(SEL_CODE, (word)gate_target, 0xec, 0));
    far_pointer.selector = FREE(0) | 3;
    CHECK(user(user_far_jump, 0), FAULT(V_GP, SEL_CODE));
    /* Beyond the target's limit. */
    set(0, call_gate(FREE(1), 0x1000, 0xec, 0));
    set(1, metal_descriptor(0, 0xfff, CODE_R, 4));
    CHECK(user(user_call, 0), FAULT(V_GP, 0));
    far_pointer.selector = FREE(0);
    CHECK(outcome(kernel_jump), FAULT(V_GP, 0));
}

/* The inner stack: #TS for a bad SS0, #SS(SS0) when it is not present or the frame does not fit (3A 5.8.5, 6.15). */
static void inner_stacks(void)
{
    struct tss32 saved = metal_tss.tss;
    static const struct {
        word selector;
        unsigned access;
        uint64_t expected;
    } rows[] = {
        {0, 0, FAULT(V_TS, 0)},
        {FREE(2) | 3, DATA_W, FAULT(V_TS, FREE(2))},
        {FREE(2), DATA_W | DPL(3), FAULT(V_TS, FREE(2))},
        {FREE(2), 0x90, FAULT(V_TS, FREE(2))},
        {FREE(2), CODE_R, FAULT(V_TS, FREE(2))},
        {FREE(2), DATA_W & ~0x80, FAULT(V_SS, FREE(2))},
        {GDT_ENTRIES * 8, 0, FAULT(V_TS, GDT_ENTRIES * 8)},
    };
    /* Faults are delivered on a stack of their own kind: through a gate to conforming code no stack changes. */
    set(3, metal_descriptor(0, 0xfffff, CONFORM_R, BIG));
    far_pointer.selector = FREE(0) | 3;
    set(0, call_gate(SEL_CODE, (word)gate_target, 0xec, 3));
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        extern uint8_t conforming_ts[], conforming_ss[];
        set(2, metal_descriptor(0, 0xfffff, rows[i].access, BIG));
        metal_tss.tss.ss0 = rows[i].selector;
        metal_gate(V_TS, FREE(3), (word)conforming_ts, 0x8e, 0);
        metal_gate(V_SS, FREE(3), (word)conforming_ss, 0x8e, 0);
        metal_tss.tss.ss1 = 0;
        __asm__ volatile("" ::: "memory");
        user(user_call, 0);
        /* conforming_ts puts the vector and error code into registers, mends the TSS, and leaves by INT $0x30. */
        CHECK(FAULT(metal_trap.si, metal_trap.di), rows[i].expected);
        metal_tss.tss = saved;
    }
    metal_gate_reset(V_TS);
    metal_gate_reset(V_SS);
}
__asm__(".text\n"
        "conforming_ts: mov $10, %esi; jmp 1f\n"
        "conforming_ss: mov $12, %esi\n"
        "1: pop %edi; movl $0x10, metal_tss + 8; int $0x30\n");

/* --- returns ------------------------------------------------------------------------------------------------------------ */

static word frame[5]; /* EIP CS EFLAGS ESP SS */

static void iret_to_frame(void)
{
    __asm__ volatile("push %0; push %1; push %2; push %3; push %4; iret" ::"m"(frame[4]), "m"(frame[3]),
                     "m"(frame[2]), "m"(frame[1]), "m"(frame[0]));
}

static void ret_to_frame(void)
{
    __asm__ volatile("push %0; push %1; push %2; push %3; lret" ::"m"(frame[4]), "m"(frame[3]), "m"(frame[1]),
                     "m"(frame[0]));
}

__asm__(".text\nuser_int: int $0x30\n");
extern uint8_t user_int[];

/* SDM 2A IRET, 2B RET: in the order of the checks. */
static void bad_frames(void)
{
    static const struct {
        word cs, ss;
        unsigned cs_access, ss_access; /* of FREE(0), FREE(1) */
        uint64_t expected;
    } rows[] = {
        {SEL_UCODE, SEL_UDATA, 0, 0, USER_OK},
        {0, SEL_UDATA, 0, 0, FAULT(V_GP, 0)},
        {3, SEL_UDATA, 0, 0, FAULT(V_GP, 0)},
        {GDT_ENTRIES * 8 | 3, SEL_UDATA, 0, 0, FAULT(V_GP, GDT_ENTRIES * 8)},
        {SEL_CODE | 3, SEL_UDATA, 0, 0, FAULT(V_GP, SEL_CODE)},    /* RPL 3, DPL 0, not conforming */
        {SEL_UDATA, SEL_UDATA, 0, 0, FAULT(V_GP, SEL_UDATA & ~3)}, /* no code */
        {FREE(0) | 3, SEL_UDATA, (CODE_R | DPL(3)) & ~0x80, 0, FAULT(V_NP, FREE(0))},
        {FREE(0) | 3, SEL_UDATA, CONFORM_R, 0, USER_OK},
        {FREE(0) | 3, SEL_UDATA, CONFORM_R | DPL(3), 0, USER_OK},
        {SEL_UCODE, 0, 0, 0, FAULT(V_GP, 0)},
        {SEL_UCODE, 3, 0, 0, FAULT(V_GP, 0)},
        {SEL_UCODE, GDT_ENTRIES * 8 | 3, 0, 0, FAULT(V_GP, GDT_ENTRIES * 8)},
        {SEL_UCODE, SEL_DATA | 3, 0, 0, FAULT(V_GP, SEL_DATA)},
        {SEL_UCODE, SEL_UDATA & ~3, 0, 0, FAULT(V_GP, SEL_UDATA & ~3)},
        {SEL_UCODE, FREE(1) | 3, 0, 0x90 | DPL(3), FAULT(V_GP, FREE(1))},
        {SEL_UCODE, FREE(1) | 3, 0, CODE_R | DPL(3), FAULT(V_GP, FREE(1))},
        {SEL_UCODE, FREE(1) | 3, 0, (DATA_W | DPL(3)) & ~0x80, FAULT(V_SS, FREE(1))},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        set(0, metal_descriptor(0, 0xfffff, rows[i].cs_access, BIG));
        set(1, metal_descriptor(0, 0xfffff, rows[i].ss_access, BIG));
        word made[] = {(word)user_int, rows[i].cs, 2, (word)metal_user_stack + 4096, rows[i].ss};
        memcpy(frame, made, sizeof(made));
        CHECK(outcome(iret_to_frame), rows[i].expected);
        if (rows[i].expected == USER_OK) {
            CHECK(metal_trap.sp, frame[3]);
            CHECK(metal_trap.cs, frame[1]);
        }
        CHECK(outcome(ret_to_frame), rows[i].expected);
    }
    /* EIP beyond the limit: #GP(0), before anything has changed. */
    set(0, metal_descriptor(0, 0xfff, CODE_R | DPL(3), 4));
    word made[] = {0x1000, FREE(0) | 3, 2, (word)metal_user_stack + 4096, SEL_UDATA};
    memcpy(frame, made, sizeof(made));
    CHECK(outcome(iret_to_frame), FAULT(V_GP, 0));
    CHECK(metal_trap.cs, SEL_CODE);
    CHECK(outcome(ret_to_frame), FAULT(V_GP, 0));
}

__asm__(".text\nuser_segments: mov %ds, %eax; mov %es, %ebx; mov %fs, %ecx; mov %gs, %edx; int $0x30\n");
extern uint8_t user_segments[];

static void iret_with_segments(void)
{
    __asm__ volatile(
        "mov %0, %%ds; mov %1, %%es; mov %2, %%fs; mov %3, %%gs\n"
        "push $0x23; push $metal_user_stack + 4096; push $2; push $0x1b; push $user_segments; iret" ::"r"(
            SEL_UDATA),
        "r"(SEL_DATA), "r"(FREE(0)), "r"(FREE(1)));
}

/* SDM 2A IRET: what the outer privilege may not have becomes null; conforming code stays. */
static void dropped_segments(void)
{
    set(0, metal_descriptor(0, 0xfffff, CONFORM_R, BIG));
    set(1, metal_descriptor(0, 0xfffff, CODE_R, BIG));
    CHECK(outcome(iret_with_segments), USER_OK);
    CHECK(metal_trap.ax, SEL_UDATA);
    CHECK(metal_trap.bx, 0);
    CHECK(metal_trap.cx, FREE(0));
    CHECK(metal_trap.dx, 0);
}

static word flags_after;

static void iret_flags(void)
{
    __asm__ volatile("pushl %1; push %%cs; push $1f; iret; 1: pushf; pop %0; push $2; popf"
                     : "=m"(flags_after)
                     : "m"(frame[2]));
}

/* At CPL 0 IRET sets all but reserved bits; at CPL 3 neither IF nor IOPL (with IOPL 0). */
static void returned_flags(void)
{
    static const word all = 0x244ed5; /* AC, ID, OF, DF, SF ZF AF PF CF, NT; not IF, TF, VM, RF */
    frame[2] = all;
    CHECK(outcome(iret_flags), NONE);
    CHECK(flags_after, all | 2);
    frame[2] = 0x3002;
    CHECK(outcome(iret_flags), NONE);
    CHECK(flags_after, 0x3002);
    frame[2] = 0xffc0802a; /* reserved bits are not kept */
    CHECK(outcome(iret_flags), NONE);
    CHECK(flags_after, 2);
    word made[] = {(word)user_int, SEL_UCODE, 0x203, (word)metal_user_stack + 4096, SEL_UDATA};
    memcpy(frame, made, sizeof(made));
    CHECK(outcome(iret_to_frame), USER_OK);
    CHECK(metal_trap.flags & 0x3203, 0x203);
}

/* --- interrupt gates ------------------------------------------------------------------------------------------------------ */

#define V_TEST 0x60

static void int_test(void)
{
    __asm__ volatile("int $0x60");
}

static void undefined(void)
{
    __asm__ volatile("ud2");
}

__asm__(".text\nuser_int_test: int $0x60\nuser_ud: ud2\nuser_int3: int3\nuser_into: mov $0x7fffffff, %eax; "
        "inc %eax; into; int $0x30\n");
extern uint8_t user_int_test[], user_ud[], user_int3[], user_into[];

/* 3A 6.12, 6.13: the error code names the gate (bit 1) or the segment; EXT for what is not INT n. */
static void gate_faults(void)
{
    static const struct {
        unsigned selector, type, access;
        uint64_t software, hardware, from_user; /* INT $0x60, #UD, INT $0x60 at CPL 3; 0: delivered */
    } rows[] = {
        {SEL_CODE, 0xee, 0, 0, 0, 0},
        {SEL_CODE, 0x8e, 0, 0, 0, FAULT(V_GP, V_TEST * 8 + 2)},
        {SEL_CODE, 0xef, 0, 0, 0, 0},
        {SEL_CODE, 0x6e, 0, FAULT(V_NP, V_TEST * 8 + 2), FAULT(V_NP, V_UD * 8 + 3),
         FAULT(V_NP, V_TEST * 8 + 2)},
        {SEL_CODE, 0xec, 0, FAULT(V_GP, V_TEST * 8 + 2), FAULT(V_GP, V_UD * 8 + 3),
         FAULT(V_GP, V_TEST * 8 + 2)}, /* type */
        {SEL_CODE, 0xf2, 0, FAULT(V_GP, V_TEST * 8 + 2), FAULT(V_GP, V_UD * 8 + 3),
         FAULT(V_GP, V_TEST * 8 + 2)},
        {0, 0xee, 0, FAULT(V_GP, 0), FAULT(V_GP, 1), FAULT(V_GP, 0)},
        {SEL_DATA, 0xee, 0, FAULT(V_GP, SEL_DATA), FAULT(V_GP, SEL_DATA + 1), FAULT(V_GP, SEL_DATA)},
        {GDT_ENTRIES * 8, 0xee, 0, FAULT(V_GP, GDT_ENTRIES * 8), FAULT(V_GP, GDT_ENTRIES * 8 + 1),
         FAULT(V_GP, GDT_ENTRIES * 8)},
        {FREE(0), 0xee, CODE_R & ~0x80, FAULT(V_NP, FREE(0)), FAULT(V_NP, FREE(0) + 1), FAULT(V_NP, FREE(0))},
        {FREE(0), 0xee, CODE_R | DPL(3), FAULT(V_GP, FREE(0)), FAULT(V_GP, FREE(0) + 1), 0},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        set(0, metal_descriptor(0, 0xfffff, rows[i].access, BIG));
        metal_gate(V_TEST, rows[i].selector, metal_stubs[V_TEST], rows[i].type, 0);
        CHECK(outcome(int_test), rows[i].software ? rows[i].software : FAULT(V_TEST, 0));
        if (rows[i].from_user || rows[i].selector != FREE(0)) {
            CHECK(user(user_int_test, 0), rows[i].from_user ? rows[i].from_user : FAULT(V_TEST, 0));
        }
        metal_gate(V_UD, rows[i].selector, metal_stubs[V_UD], rows[i].type, 0);
        CHECK(outcome(undefined), rows[i].hardware ? rows[i].hardware : FAULT(V_UD, 0));
        metal_gate_reset(V_UD);
    }
    metal_gate_reset(V_TEST);
}

word gate_seen[3], gate_flags;
__asm__(
    ".text\n"
    "sixteen: push %eax; mov 4(%esp), %eax; mov %eax, gate_seen; mov 8(%esp), %eax; mov %eax, gate_seen + 4\n"
    "  mov %esp, gate_seen + 8; int $0x30\n"
    "trap_gate: pushf; pop gate_flags; iret\n");
extern uint8_t sixteen[], trap_gate[];

static word before_sp;

static void int_sixteen(void)
{
    __asm__ volatile("mov %%esp, %0; int $0x60" : "=m"(before_sp)::"memory");
}

static void int_with_if(void)
{
    __asm__ volatile("sti; nop; int $0x60; cli" ::: "memory");
}

/* 3A 6.12.1: a 16-bit gate pushes words; a trap gate leaves IF, an interrupt gate clears it. TF, NT, RF go. */
static void gate_kinds(void)
{
    /* Its offset has 16 bits. */
    set(0, metal_descriptor((word)sixteen & ~0xffffu, 0xfffff, CODE_R, BIG));
    metal_gate(V_TEST, FREE(0), (word)sixteen & 0xffff, 0x86, 0);
    CHECK(outcome(int_sixteen), USER_OK);
    CHECK(gate_seen[2], before_sp - 6 - 4);
    CHECK(gate_seen[0] >> 16, SEL_CODE);
    metal_gate(V_TEST, SEL_CODE, (word)trap_gate, 0x8f, 0);
    CHECK(outcome(int_with_if), NONE);
    CHECK(gate_flags & 0x200, 0x200);
    metal_gate(V_TEST, SEL_CODE, (word)trap_gate, 0x8e, 0);
    CHECK(outcome(int_with_if), NONE);
    CHECK(gate_flags & 0x200, 0);
    metal_gate_reset(V_TEST);
}

static void short_idt(void)
{
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) pointer;
    __asm__ volatile("sidt %0" : "=m"(pointer));
    pointer.limit = V_TEST * 8 + 6;
    __asm__ volatile("lidt %0; int $0x60" ::"m"(pointer));
}

static void interrupts(void)
{
    CHECK(outcome(short_idt), FAULT(V_GP, V_TEST * 8 + 2));
    metal_load_idt();
    /* Return addresses: faults at the instruction, traps after it. */
    CHECK(user(user_ud, 0), FAULT(V_UD, 0));
    CHECK(metal_trap.ip, (word)user_ud);
    CHECK(metal_trap.handler_sp, metal_tss.tss.sp0);
    CHECK(metal_trap.ss, SEL_UDATA);
    CHECK(user(user_int3, 0), FAULT(V_BP, 0));
    CHECK(metal_trap.ip, (word)user_int3 + 1);
    CHECK(user(user_into, 0), FAULT(V_OF, 0));
    /* INT3 and INTO obey the gate's DPL, INT1 does not. */
    metal_gate(V_BP, SEL_CODE, metal_stubs[V_BP], 0x8e, 0);
    metal_gate(V_OF, SEL_CODE, metal_stubs[V_OF], 0x8e, 0);
    CHECK(user(user_int3, 0), FAULT(V_GP, V_BP * 8 + 2));
    CHECK(metal_trap.ip, (word)user_int3);
    CHECK(user(user_into, 0), FAULT(V_GP, V_OF * 8 + 2));
    metal_gate_reset(V_BP);
    metal_gate_reset(V_OF);
}

__asm__(".text\nuser_int1: .byte 0xf1; int $0x30\n");
extern uint8_t user_int1[];

static int32_t bounds[2] = {-5, 7};
static int32_t bound_value;

static void bound(void)
{
    __asm__ volatile("bound %0, %1" ::"r"(bound_value), "m"(bounds));
}

static void bound_register(void)
{
    __asm__ volatile(".byte 0x62, 0xc0");
}

static void bound_tests(void)
{
    static const int32_t values[] = {-6, -5, 0, 7, 8};
    for (unsigned i = 0; i < 5; i++) {
        bound_value = values[i];
        CHECK(outcome(bound), i == 0 || i == 4 ? FAULT(V_BR, 0) : NONE);
    }
    CHECK(outcome(bound_register), FAULT(V_UD, 0));
    CHECK(user(user_int1, 0), FAULT(V_DB, 0));
    CHECK(metal_trap.ip, (word)user_int1 + 1);
    CHECK(metal_trap.dr6 & 0x600f, 0); /* INT1 sets no cause */
}

/* --- what CPL 3 may not do ------------------------------------------------------------------------------------------------ */

#define USER_STUB(name, text)                                                                                \
    __asm__(".text\n" #name ": " text "; int $0x30\n");                                                      \
    extern uint8_t name[];
USER_STUB(u_hlt, "hlt")
USER_STUB(u_cli, "cli")
USER_STUB(u_sti, "sti")
USER_STUB(u_in, "mov %eax, %edx; in %dx, %al")
USER_STUB(u_in16, "mov %eax, %edx; in %dx, %ax")
USER_STUB(u_in32, "mov %eax, %edx; in %dx, %eax")
USER_STUB(u_popf, "push %eax; popf; pushf; pop %ecx")
USER_STUB(u_cr0, "mov %cr0, %eax")
USER_STUB(u_cr3, "mov %eax, %cr3")
USER_STUB(u_dr, "mov %dr7, %eax")
USER_STUB(u_lgdt, "lgdt (%eax)")
USER_STUB(u_lidt, "lidt (%eax)")
USER_STUB(u_ltr, "ltr %ax")
USER_STUB(u_lmsw, "lmsw %ax")
USER_STUB(u_clts, "clts")
USER_STUB(u_invd, "invd")
USER_STUB(u_wbinvd, "wbinvd")
USER_STUB(u_invlpg, "invlpg (%eax)")
USER_STUB(u_rdmsr, "rdmsr")
USER_STUB(u_wrmsr, "wrmsr")
USER_STUB(u_unaligned, "mov (%eax), %ecx")
USER_STUB(u_unaligned16, "mov (%eax), %cx")
USER_STUB(u_ac, "pushf; orl $0x40000, (%esp); popf; mov 1(%eax), %ecx")
USER_STUB(u_ac16, "pushf; orl $0x40000, (%esp); popf; mov 1(%eax), %cx")
USER_STUB(u_ac8, "pushf; orl $0x40000, (%esp); popf; mov 1(%eax), %cl; mov 4(%eax), %ecx; mov 2(%eax), %cx")
USER_STUB(u_ac_push, "pushf; orl $0x40000, (%esp); popf; sub $1, %esp; push %eax")

static void privileged(void)
{
    static uint8_t *const codes[] = {u_hlt, u_cli,  u_sti,  u_cr0,  u_cr3,    u_dr,     u_lgdt,  u_lidt,
                                     u_ltr, u_lmsw, u_clts, u_invd, u_wbinvd, u_invlpg, u_rdmsr, u_wrmsr};
    for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        CHECK(user(codes[i], 0), FAULT(V_GP, 0));
    }
    /* IF, IOPL, VIF do not change; AC, NT, ID and the rest do. */
    CHECK(user(u_popf, 0x3202), USER_OK);
    CHECK(metal_trap.cx, 2);
    CHECK(user(u_popf, 0x244cd7), USER_OK);
    CHECK(metal_trap.cx & ~0x40000ul, 0x204cd7);
}

/* SDM 1 19.5.2 */
static void io_bitmap(void)
{
    static const struct {
        uint16_t port;
        uint8_t *code;
        unsigned clear_first, clear_count; /* ports whose bits are 0 */
        bool ok;
    } rows[] = {
        {0x3fd, u_in, 0x3fd, 1, true},
        {0x3fd, u_in, 0x3fc, 1, false},
        {0x3fd, u_in16, 0x3fd, 1, false},
        {0x3fd, u_in16, 0x3fd, 2, true},
        {0x3fd, u_in32, 0x3fd, 3, false},
        {0x3fd, u_in32, 0x3fd, 4, true},
        {0x3ff, u_in16, 0x3ff, 2, true},
        {0x3ff, u_in16, 0x400, 2, false},
        {0xffff, u_in, 0xffff, 1, true},
        {0xffff, u_in16, 0xffff, 1, false},
        {0, u_in, 0, 1, true},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        memset(metal_tss.io, 0xff, sizeof(metal_tss.io));
        for (unsigned n = 0; n < rows[i].clear_count; n++) {
            unsigned port = rows[i].clear_first + n;
            metal_tss.io[port / 8] &= (uint8_t) ~(1u << port % 8);
        }
        CHECK(user(rows[i].code, rows[i].port), rows[i].ok ? USER_OK : FAULT(V_GP, 0));
    }
    /* The bitmap ends with the TSS's limit; two bytes are read. */
    memset(metal_tss.io, 0, sizeof(metal_tss.io));
    metal_gdt[SEL_TSS / 8] = metal_descriptor((word)&metal_tss, sizeof(struct tss32) + 0x3ff / 8, 0x89, 0);
    __asm__ volatile("ltr %w0" ::"r"(SEL_TSS));
    CHECK(user(u_in, 0x3f7), USER_OK);
    CHECK(user(u_in, 0x3f8), FAULT(V_GP, 0));
    metal_tss.tss.io_base = 0xfff0;
    CHECK(user(u_in, 0), FAULT(V_GP, 0));
    metal_tss.tss.io_base = sizeof(struct tss32);
    memset(metal_tss.io, 0xff, sizeof(metal_tss.io));
    metal_load_tss();
    /* IOPL 3: everything. */
    word made[] = {(word)u_in, SEL_UCODE, 0x3002, (word)metal_user_stack + 4096, SEL_UDATA};
    memcpy(frame, made, sizeof(made));
    CHECK(outcome(iret_to_frame), USER_OK);
    frame[0] = (word)u_cli;
    CHECK(outcome(iret_to_frame), USER_OK);
    CHECK(metal_trap.flags & 0x200, 0);
}

static uint32_t aligned_words[4];

static void kernel_unaligned(void)
{
    __asm__ volatile(
        "pushf; orl $0x40000, (%%esp); popf; mov 1(%0), %%ecx; push $2; popf" ::"r"(aligned_words)
        : "ecx");
}

/* 3A 6.15 (#AC): CR0.AM, EFLAGS.AC and CPL 3. */
static void alignment(void)
{
    word data = (word)aligned_words;
    CHECK(user(u_ac, data), USER_OK); /* CR0.AM is clear */
    cr0_write(cr0_read() | 1u << 18);
    CHECK(user(u_ac, data), FAULT(V_AC, 0));
    CHECK(user(u_ac16, data), FAULT(V_AC, 0));
    CHECK(user(u_ac8, data), USER_OK);
    CHECK(user(u_ac_push, data), FAULT(V_AC, 0));
    CHECK(user(u_unaligned, data + 1), USER_OK); /* AC clear */
    CHECK(user(u_unaligned16, data + 1), USER_OK);
    CHECK(outcome(kernel_unaligned), NONE);
    cr0_write(cr0_read() & ~(word)(1u << 18));
}

/* --- faults on the way to a handler (3A table 6-5) ---------------------------------------------------------------------- */

static void general_protection(void)
{
    __asm__ volatile("mov %0, %%fs" ::"r"(GDT_ENTRIES * 8));
}

static void divide(void)
{
    __asm__ volatile("div %0" ::"r"(0), "a"(1), "d"(0));
}

static void double_faults(void)
{
    /* benign, then contributory: the second is delivered. */
    metal_gate(V_UD, SEL_DATA, 0, 0x8e, 0);
    CHECK(outcome(undefined), FAULT(V_GP, SEL_DATA + 1));
    metal_gate_reset(V_UD);
    /* contributory twice: #DF(0). */
    metal_gate(V_GP, SEL_DATA, 0, 0x8e, 0);
    CHECK(outcome(general_protection), FAULT(V_DF, 0));
    metal_gate(V_GP, SEL_CODE, metal_stubs[V_GP], 0x0e, 0);
    CHECK(outcome(general_protection), FAULT(V_DF, 0));
    metal_gate_reset(V_GP);
    metal_gate(V_DE, SEL_CODE, metal_stubs[V_DE], 0x0e, 0);
    CHECK(outcome(divide), FAULT(V_DF, 0));
    metal_gate_reset(V_DE);
    /* INT n is no exception: what it meets is delivered. */
    metal_gate(V_TEST, SEL_DATA, 0, 0x8e, 0);
    CHECK(outcome(int_test), FAULT(V_GP, SEL_DATA));
    metal_gate_reset(V_TEST);
}

void metal_main(void)
{
    metal_case("call gates (SDM 3A 5.8.3 to 5.8.5)");
    call_gates();
    metal_case("call gates that fault");
    call_gate_faults();
    metal_case("inner stacks (SDM 3A 5.8.5)");
    inner_stacks();
    metal_case("return frames (SDM 2A IRET, 2B RET)");
    bad_frames();
    metal_case("segments after a return (SDM 2A IRET)");
    dropped_segments();
    metal_case("flags after a return");
    returned_flags();
    metal_case("interrupt gates (SDM 3A 6.12)");
    gate_faults();
    metal_case("kinds of gates (SDM 3A 6.12.1)");
    gate_kinds();
    metal_case("INT n, INT3, INTO (SDM 3A 6.4)");
    interrupts();
    metal_case("BOUND, INT1");
    bound_tests();
    metal_case("privileged instructions (SDM 3A 5.9)");
    privileged();
    metal_case("the I/O bitmap (SDM 1 19.5.2)");
    io_bitmap();
    metal_case("alignment checks (SDM 3A 6.15)");
    alignment();
    metal_case("double faults (SDM 3A table 6-5)");
    double_faults();
}
