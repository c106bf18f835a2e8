/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metal64: what long mode has of its own: SYSCALL, SYSRET, SYSENTER, SYSEXIT, IST and the stack frame, IRET from 64-bit code with
 * all its checks, compatibility mode, non-canonical addresses, descriptor tables and 16-byte descriptors, control registers
 * and MSRs with their reserved bits, SWAPGS, FSGSBASE.
 */
#include "metal.h"

const char metal_name[] = "long";

#define FAULT(vector, error) ((vector) << 16 | ((error)&0xffff))
#define NONE                 FAULT(V_NONE, 0)
#define USER_OK              FAULT(V_USER, 0)
#define FREE(n)              (SEL_FREE + 8 * (n))

#define EFER          0xc0000080u
#define STAR          0xc0000081u
#define LSTAR         0xc0000082u
#define CSTAR         0xc0000083u
#define SFMASK        0xc0000084u
#define FS_BASE       0xc0000100u
#define GS_BASE       0xc0000101u
#define KERNEL_GS     0xc0000102u
#define SYSENTER_CS   0x174u
#define EFER_SCE      1u
#define NOT_CANONICAL ((word)1 << 47)

static uint64_t outcome(void (*body)(void))
{
    unsigned vector = metal_try(body);
    return FAULT(vector, vector == V_NONE || vector == V_USER ? 0 : metal_trap.error);
}

#define STUB(name, text)                                                                                     \
    __asm__(".text\n" #name ": " text "\n");                                                                 \
    extern uint8_t name[];

static const uint8_t *user_code;

static void in_user(void)
{
    metal_enter_user((word)user_code, 0);
}

static uint64_t user(const uint8_t *code)
{
    user_code = code;
    return outcome(in_user);
}

/* --- SYSCALL and SYSRET (SDM 2B) ------------------------------------------------------------------------------------ */

/* The GDT for STAR: kernel CS, SS at FREE(0), user CS32, SS, CS64 from FREE(2). */
static void make_star_descriptors(void)
{
    uint64_t *free = &metal_gdt[SEL_FREE / 8];
    free[0] = metal_gdt[SEL_CODE / 8];
    free[1] = metal_gdt[SEL_DATA / 8];
    free[2] = metal_gdt[SEL_UCODE32 / 8];
    free[3] = metal_gdt[SEL_UDATA / 8];
    free[4] = metal_gdt[SEL_UCODE / 8];
    msr_write(STAR, (uint64_t)FREE(0) << 32 | (uint64_t)(FREE(2) | 3) << 48);
}

STUB(u_syscall, "pushq $0x8d7; popf; mov $0x1111, %ebx; syscall; u_after_syscall: int $0x30")
extern uint8_t u_after_syscall[];
/* The kernel's entry: reports in registers by INT $0x30 (the flags before it changes any). */
STUB(k_entry, "pushf_report: mov %cs, %esi; mov %ss, %edi; int $0x30")
/* Or goes back. */
STUB(k_back64, "sysretq")
STUB(k_back32, "sysretl")
STUB(u_from_sysret, "int $0x30")
STUB(u_syscall_back,
     "mov %rsp, %rdx; pushq $0x2d7; popf; syscall; pushf; pop %rbx; mov %cs, %esi; mov %ss, %edi; int $0x30")
static void k_sysret_bad(void)
{
    __asm__ volatile("mov %0, %%rcx; mov $2, %%r11d; sysretq" ::"r"(NOT_CANONICAL) : "rcx", "r11", "memory");
}

STUB(u_sysret, "sysretq")
STUB(u_syscall32, "syscall; int $0x30")

static void k_sysret32(void)
{
    __asm__ volatile("mov %0, %%rcx; mov $0x202, %%r11d; sysretl" ::"r"((word)u_from_sysret | (word)1 << 40)
                     : "rcx", "r11", "memory");
}

static void syscalls(void)
{
    make_star_descriptors();
    CHECK(user(u_syscall32), FAULT(V_UD, 0)); /* EFER.SCE is clear */
    CHECK(outcome(k_sysret32), FAULT(V_UD, 0));
    msr_write(EFER, msr_read(EFER) | EFER_SCE);
    msr_write(LSTAR, (word)k_entry);
    msr_write(SFMASK, 0x800 | 1);
    CHECK(user(u_syscall), USER_OK);
    CHECK(metal_trap.si, FREE(0));
    CHECK(metal_trap.di, FREE(1));
    CHECK(metal_trap.cx, (word)u_after_syscall);
    CHECK(metal_trap.flags & 0xfff, 0xd6); /* without SFMASK's */
    CHECK(metal_trap.cs, FREE(0));
    msr_write(LSTAR, (word)k_back64);
    msr_write(SFMASK, 0x3f7fd5);
    CHECK(user(u_syscall_back), USER_OK);
    CHECK(metal_trap.si, FREE(4) | 3);
    CHECK(metal_trap.di, FREE(3) | 3);
    CHECK(metal_trap.bx & 0xfff, 0x0d7); /* IF cannot be set at IOPL 0, the rest comes back */
    CHECK(metal_trap.sp, metal_trap.dx); /* RSP is nobody's */
    /* To compatibility mode: EIP has 32 bits. */
    CHECK(outcome(k_sysret32), USER_OK);
    CHECK(metal_trap.cs, FREE(2) | 3);
    CHECK(metal_trap.ss, FREE(3) | 3);
    CHECK(metal_trap.ip, (word)u_from_sysret + 2);
    CHECK(metal_trap.flags & 0x200, 0x200);
    CHECK(outcome(k_sysret_bad), FAULT(V_GP, 0)); /* at CPL 0, on its stack (Intel) */
    CHECK(metal_trap.cs, SEL_CODE);
    CHECK(user(u_sysret), FAULT(V_GP, 0));
    msr_write(EFER, msr_read(EFER) & ~(uint64_t)EFER_SCE);
}

/* --- SYSENTER and SYSEXIT (SDM 2B) ------------------------------------------------------------------------------------ */

STUB(u_sysenter, "sysenter")
STUB(u_sysexit, "sysexit")
STUB(k_sysenter, "mov %cs, %esi; mov %ss, %edi; int $0x30")

static void k_sysexit64(void)
{
    __asm__ volatile("mov %0, %%rdx; mov %1, %%rcx; rex64 sysexit" ::"r"((word)u_from_sysret),
                     "r"((word)metal_user_stack + 4096)
                     : "rcx", "rdx");
}

static void k_sysexit32(void)
{
    __asm__ volatile("mov %0, %%rdx; mov %1, %%rcx; sysexit" ::"r"((word)u_from_sysret | (word)1 << 40),
                     "r"(((word)metal_user_stack + 4096) | (word)1 << 40)
                     : "rcx", "rdx");
}

static void k_sysexit_bad(void)
{
    __asm__ volatile("mov %0, %%rdx; mov %1, %%rcx; rex64 sysexit" ::"r"(NOT_CANONICAL),
                     "r"((word)metal_user_stack)
                     : "rcx", "rdx");
}

static void sysenters(void)
{
    /* CS and SS, and 32-bit user CS, SS, 64-bit user CS, SS follow in the GDT. */
    uint64_t *free = &metal_gdt[SEL_FREE / 8];
    free[0] = metal_gdt[SEL_CODE / 8];
    free[1] = metal_gdt[SEL_DATA / 8];
    free[2] = metal_gdt[SEL_UCODE32 / 8];
    free[3] = metal_gdt[SEL_UDATA / 8];
    free[4] = metal_gdt[SEL_UCODE / 8];
    free[5] = metal_gdt[SEL_UDATA / 8];
    msr_write(SYSENTER_CS, 0);
    CHECK(user(u_sysenter), FAULT(V_GP, 0));
    CHECK(outcome(k_sysexit64), FAULT(V_GP, 0));
    msr_write(SYSENTER_CS, 3);
    CHECK(user(u_sysenter), FAULT(V_GP, 0));
    msr_write(SYSENTER_CS, FREE(0));
    msr_write(SYSENTER_CS + 1, (word)metal_trap_stack + 4096);
    msr_write(SYSENTER_CS + 2, (word)k_sysenter);
    CHECK(user(u_sysenter), USER_OK);
    CHECK(metal_trap.si, FREE(0));
    CHECK(metal_trap.di, FREE(1));
    CHECK(metal_trap.sp, (word)metal_trap_stack + 4096);
    CHECK(metal_trap.flags & 0x20202, 2);
    CHECK(outcome(k_sysexit64), USER_OK);
    CHECK(metal_trap.cs, FREE(4) | 3);
    CHECK(metal_trap.ss, FREE(5) | 3);
    CHECK(metal_trap.sp, (word)metal_user_stack + 4096);
    CHECK(outcome(k_sysexit32), USER_OK);
    CHECK(metal_trap.cs, FREE(2) | 3);
    CHECK(metal_trap.ss, FREE(3) | 3);
    CHECK(metal_trap.sp, (word)metal_user_stack + 4096);
    CHECK(outcome(k_sysexit_bad), FAULT(V_GP, 0));
    CHECK(user(u_sysexit), FAULT(V_GP, 0));
}

/* --- the interrupt frame, IST (SDM 3A 6.14) ------------------------------------------------------------------------------ */

static uint8_t ist_stack[4096] __attribute__((aligned(4096)));

static void int60(void)
{
    __asm__ volatile("int $0x60");
}

static void int60_odd(void)
{
    __asm__ volatile("mov %%rsp, %%rbp; sub $3, %%rsp; int $0x60" ::: "rbp");
}

STUB(u_int60, "int $0x60")
STUB(u_ud, "ud2")

static void frames(void)
{
    word top = (word)ist_stack + sizeof(ist_stack);
    metal_gate(0x60, SEL_CODE, metal_stubs[0x60], 0xee, 0);
    CHECK(outcome(int60_odd), FAULT(0x60, 0));
    CHECK(metal_trap.handler_sp, (metal_trap.bp - 3) & ~15ul); /* aligned before the frame */
    CHECK(metal_trap.sp, metal_trap.bp - 3);
    CHECK(metal_trap.ss, SEL_DATA);
    for (unsigned ist = 1; ist < 8; ist++) {
        metal_tss.tss.ist[ist - 1] = top - 1024 + 7 * ist;
        metal_gate(0x60, SEL_CODE, metal_stubs[0x60], 0xee, ist);
        CHECK(outcome(int60), FAULT(0x60, 0));
        CHECK(metal_trap.handler_sp, (top - 1024 + 7 * ist) & ~15ul);
        CHECK(metal_trap.handler_ss, SEL_DATA); /* no change of privilege: SS stays */
        CHECK(user(u_int60), FAULT(0x60, 0));
        CHECK(metal_trap.handler_sp, (top - 1024 + 7 * ist) & ~15ul);
        CHECK(metal_trap.handler_ss, 0); /* a null selector */
        CHECK(metal_trap.ss, SEL_UDATA);
        CHECK(metal_trap.cs, SEL_UCODE);
    }
    metal_tss.tss.ist[0] = NOT_CANONICAL + 4096;
    metal_gate(0x60, SEL_CODE, metal_stubs[0x60], 0xee, 1);
    CHECK(outcome(int60), FAULT(V_SS, 0));
    metal_gate(V_UD, SEL_CODE, metal_stubs[V_UD], 0x8e, 1);
    CHECK(user(u_ud), FAULT(V_SS, 1)); /* EXT */
    metal_gate_reset(V_UD);
    metal_gate_reset(0x60);
}

static void gates(void)
{
    static const struct {
        unsigned selector, type;
        uint64_t descriptor; /* of FREE(0) */
        uint64_t expected;
    } rows[] = {
        {SEL_CODE, 0xee, 0, FAULT(0x60, 0)},
        {SEL_CODE, 0xef, 0, FAULT(0x60, 0)},
        {SEL_CODE, 0xe6, 0, FAULT(V_GP, 0x302)}, /* 16-bit gates are gone */
        {SEL_CODE, 0xe5, 0, FAULT(V_GP, 0x302)}, /* and task gates */
        {SEL_CODE, 0x6e, 0, FAULT(V_NP, 0x302)},
        {0, 0xee, 0, FAULT(V_GP, 0)},
        {SEL_CODE32, 0xee, 0, FAULT(V_GP, SEL_CODE32)}, /* must be 64-bit code */
        {SEL_DATA, 0xee, 0, FAULT(V_GP, SEL_DATA)},
        {SEL_UCODE & ~3, 0xee, 0, FAULT(V_GP, SEL_UCODE & ~3)},
        {FREE(0), 0xee, 0x00ef9b000000ffff, FAULT(V_GP, FREE(0))}, /* L and D */
        {FREE(0), 0xee, 0x00af1b000000ffff, FAULT(V_NP, FREE(0))},
        {FREE(0), 0xee, 0x00af9f000000ffff, FAULT(0x60, 0)}, /* conforming */
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        metal_gdt[SEL_FREE / 8] = rows[i].descriptor;
        metal_gate(0x60, rows[i].selector, metal_stubs[0x60], rows[i].type, 0);
        CHECK(outcome(int60), rows[i].expected);
    }
    metal_gate(0x60, SEL_CODE, NOT_CANONICAL, 0xee, 0);
    CHECK(outcome(int60), FAULT(V_GP, 0));
    metal_gate_reset(0x60);
}

/* --- IRET ----------------------------------------------------------------------------------------------------------------- */

static word frame[5];

static void iret(void)
{
    __asm__ volatile("pushq %0; pushq %1; pushq %2; pushq %3; pushq %4; iretq" ::"m"(frame[4]), "m"(frame[3]),
                     "m"(frame[2]), "m"(frame[1]), "m"(frame[0]));
}

static void far_return(void)
{
    __asm__ volatile("pushq %0; pushq %1; pushq %2; pushq %3; lretq" ::"m"(frame[4]), "m"(frame[3]),
                     "m"(frame[1]), "m"(frame[0]));
}

STUB(k_here, "mov %ss, %edi; int $0x30")

static void irets(void)
{
    word stack = (word)metal_user_stack + 4096;
    const struct {
        word ip, cs, flags, sp, ss;
        uint64_t expected, returned; /* by IRET, by RET; 1: not tried */
    } rows[] = {
        {(word)u_from_sysret, SEL_UCODE, 2, stack, SEL_UDATA, USER_OK, USER_OK},
        {(word)u_from_sysret, SEL_UCODE32, 2, stack, SEL_UDATA, USER_OK, USER_OK},
        {(word)k_here, SEL_CODE, 2, stack, SEL_DATA, USER_OK, 1},
        {(word)k_here, SEL_CODE, 2, stack, 0, USER_OK, 1}, /* null SS at CPL 0 in 64-bit mode */
        {(word)u_from_sysret, SEL_UCODE, 2, stack, 3, FAULT(V_GP, 0), FAULT(V_GP, 0)}, /* not at CPL 3 */
        {(word)u_from_sysret, SEL_UCODE, 2, stack, 0, FAULT(V_GP, 0), FAULT(V_GP, 0)},
        {NOT_CANONICAL, SEL_UCODE, 2, stack, SEL_UDATA, FAULT(V_GP, 0), FAULT(V_GP, 0)},
        {(word)u_from_sysret, 0, 2, stack, SEL_UDATA, FAULT(V_GP, 0), FAULT(V_GP, 0)},
        {(word)u_from_sysret, SEL_DATA, 2, stack, SEL_DATA, FAULT(V_GP, SEL_DATA), FAULT(V_GP, SEL_DATA)},
        {(word)u_from_sysret, SEL_CODE | 3, 2, stack, SEL_UDATA, FAULT(V_GP, SEL_CODE),
         FAULT(V_GP, SEL_CODE)},
        {(word)u_from_sysret, SEL_UCODE, 2, stack, SEL_DATA | 3, FAULT(V_GP, SEL_DATA),
         FAULT(V_GP, SEL_DATA)},
        {(word)u_from_sysret, SEL_UCODE, 2, stack, SEL_UCODE, FAULT(V_GP, SEL_UCODE & ~3),
         FAULT(V_GP, SEL_UCODE & ~3)},
        {(word)u_from_sysret, FREE(0) | 3, 2, stack, SEL_UDATA, FAULT(V_GP, FREE(0)),
         FAULT(V_GP, FREE(0))}, /* L and D */
        {(word)u_from_sysret, FREE(1) | 3, 2, stack, SEL_UDATA, FAULT(V_NP, FREE(1)), FAULT(V_NP, FREE(1))},
        {(word)u_from_sysret, SEL_UCODE, 2, stack, FREE(2) | 3, FAULT(V_SS, FREE(2)), FAULT(V_SS, FREE(2))},
    };
    metal_gdt[SEL_FREE / 8] = 0x00effb000000ffff;
    metal_gdt[SEL_FREE / 8 + 1] = 0x00af7b000000ffff;
    metal_gdt[SEL_FREE / 8 + 2] = 0x00cf73000000ffff;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        memcpy(frame, &rows[i], sizeof(frame));
        CHECK(outcome(iret), rows[i].expected);
        if (rows[i].expected == USER_OK) {
            CHECK(metal_trap.sp, rows[i].sp);
            CHECK(metal_trap.ss, rows[i].ss);
        }
        if (rows[i].returned != 1) {
            CHECK(outcome(far_return), rows[i].returned);
        }
    }
    /* NT: #GP(0) in long mode. */
    __asm__ volatile("pushq $0x4002; popfq");
    CHECK(outcome(iret), FAULT(V_GP, 0));
    __asm__ volatile("pushq $2; popfq");
    /* RF and the like come from the frame; VM does not. */
    word made[] = {(word)u_from_sysret, SEL_UCODE, 0x3f7dd7 & ~0x100100ul, stack, SEL_UDATA};
    memcpy(frame, made, sizeof(made));
    frame[2] = 0x247ed7;
    CHECK(outcome(iret), USER_OK);
    CHECK(metal_trap.flags & 0x247ed7, 0x247ed7);
}

/* --- compatibility mode ---------------------------------------------------------------------------------------------------- */

STUB(c_code, ".code32; mov $0x89abcdef, %eax; inc %eax; dec %eax; push %eax; pop %ebx; mov %esp, %ecx; push "
             "%cs; pop %edx; int $0x30; .code64")
STUB(c_segment,
     ".code32; mov $0x58, %eax; mov %eax, %gs; mov %gs:0x10, %ebx; mov %gs:0x1000, %ebx; int $0x30; .code64")
STUB(
    c_arpl,
    ".code32; mov $0x13, %eax; mov $0x12, %ebx; arpl %ax, %bx; setz %cl; movzx %cl, %ecx; int $0x30; .code64")
STUB(c_syscall, ".code32; syscall; .code64")
STUB(c_sysenter, ".code32; sysenter; .code64")
static uint8_t small_segment[32] __attribute__((aligned(16)));

static void run_compatible(void)
{
    frame[1] = SEL_UCODE32;
    frame[2] = 2;
    frame[3] = (word)metal_user_stack + 4096;
    frame[4] = SEL_UDATA;
    iret();
}

static void compatibility(void)
{
    frame[0] = (word)c_code;
    CHECK(outcome(run_compatible), USER_OK);
    CHECK(metal_trap.ax, 0x89abcdef);
    CHECK(metal_trap.bx, 0x89abcdef);
    CHECK(metal_trap.cx, (word)metal_user_stack + 4096);
    CHECK(metal_trap.dx & 0xffff, SEL_UCODE32);
    /* Segments count: base and limit. */
    metal_gdt[SEL_FREE / 8] = metal_descriptor((uint32_t)(word)small_segment, 0xfff, 0xf2, 4);
    *(uint32_t *)(small_segment + 0x10) = 0x5a5a5a5a;
    frame[0] = (word)c_segment;
    CHECK(outcome(run_compatible), FAULT(V_GP, 0));
    CHECK(metal_trap.bx, 0x5a5a5a5a);
    frame[0] = (word)c_arpl;
    CHECK(outcome(run_compatible), USER_OK);
    CHECK(metal_trap.cx, 1);
    /* SYSCALL in compatibility mode is #UD on Intel's processors; SYSENTER works. */
    msr_write(EFER, msr_read(EFER) | EFER_SCE);
    frame[0] = (word)c_syscall;
    CHECK(outcome(run_compatible), FAULT(V_UD, 0));
    msr_write(EFER, msr_read(EFER) & ~(uint64_t)EFER_SCE);
    msr_write(SYSENTER_CS, SEL_CODE);
    frame[0] = (word)c_sysenter;
    CHECK(outcome(run_compatible), USER_OK);
    CHECK(metal_trap.si, SEL_CODE);
}

/* --- canonical addresses (SDM 1 3.3.7.1) ------------------------------------------------------------------------------------- */

static word address;

static void read_there(void)
{
    __asm__ volatile("mov (%0), %%eax" ::"r"(address) : "eax");
}

static void read_stack_there(void)
{
    __asm__ volatile("mov %0, %%rbp; mov (%%rbp), %%eax" ::"r"(address) : "eax", "rbp");
}

static void push_there(void)
{
    __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; push %%rax; mov %%rbx, %%rsp" ::"r"(address)
                     : "rbx", "memory");
}

static void jump_there(void)
{
    __asm__ volatile("jmp *%0" ::"r"(address));
}

static void invlpg_there(void)
{
    invlpg((void *)address);
}

static void lidt_there(void)
{
    struct {
        uint16_t limit;
        word base;
    } __attribute__((packed)) pointer = {0xfff, NOT_CANONICAL};
    __asm__ volatile("lidt %0" ::"m"(pointer));
}

static void canonical(void)
{
    address = NOT_CANONICAL;
    CHECK(outcome(read_there), FAULT(V_GP, 0));
    CHECK(outcome(read_stack_there), FAULT(V_SS, 0));
    CHECK(outcome(jump_there), FAULT(V_GP, 0));
    CHECK(outcome(invlpg_there), NONE);
    CHECK(outcome(lidt_there), FAULT(V_GP, 0));
    metal_load_idt();
    address = NOT_CANONICAL - 2; /* its last bytes are not canonical */
    CHECK(outcome(read_there), FAULT(V_GP, 0));
    address = -NOT_CANONICAL - 1;
    CHECK(outcome(read_there), FAULT(V_GP, 0));
    /* A stack that is not canonical: #SS, whose frame needs a stack of its own. */
    metal_tss.tss.ist[0] = (word)ist_stack + 4096;
    metal_gate(V_SS, SEL_CODE, metal_stubs[V_SS], 0x8e, 1);
    address = NOT_CANONICAL + 8;
    CHECK(outcome(push_there), FAULT(V_SS, 0));
    metal_gate_reset(V_SS);
}

/* --- registers ------------------------------------------------------------------------------------------------------------ */

static uint32_t msr;
static uint64_t value;

static void write_msr(void)
{
    msr_write(msr, value);
}

static void read_msr(void)
{
    msr_read(msr);
}

static void write_cr0(void)
{
    cr0_write(value);
}

static void write_cr4(void)
{
    cr4_write(value);
}

static void write_cr3(void)
{
    cr3_write(value);
}

static void write_cr8(void)
{
    __asm__ volatile("mov %0, %%cr8" ::"r"(value));
}

static void write_dr7(void)
{
    dr7_write(value);
}

static void write_dr6(void)
{
    dr6_write(value);
}

static void read_cr1(void)
{
    __asm__ volatile(".byte 0x0f, 0x20, 0xc8");
}

/* SDM 4, SDM 2B MOV. */
static void registers(void)
{
    static const struct {
        uint32_t msr;
        uint64_t value;
        uint64_t expected;
    } rows[] = {
        {FS_BASE, NOT_CANONICAL, FAULT(V_GP, 0)},
        {GS_BASE, NOT_CANONICAL, FAULT(V_GP, 0)},
        {KERNEL_GS, NOT_CANONICAL, FAULT(V_GP, 0)},
        {LSTAR, NOT_CANONICAL, FAULT(V_GP, 0)},
        {CSTAR, NOT_CANONICAL, FAULT(V_GP, 0)},
        {SYSENTER_CS + 1, NOT_CANONICAL, FAULT(V_GP, 0)},
        {SYSENTER_CS + 2, NOT_CANONICAL, FAULT(V_GP, 0)},
        {KERNEL_GS, 0xffff800000000000, NONE},
        {SFMASK, (uint64_t)1 << 32, FAULT(V_GP, 0)},
        {EFER, 0x500 | 2, FAULT(V_GP, 0)},
        {EFER, 0, FAULT(V_GP, 0)}, /* LME may not change while paging is on */
        {0x277, 0x0007040600070406, NONE},
        {0x277, 0x0007040600070402, FAULT(V_GP, 0)}, /* PAT: 2 and 3 are reserved */
        {0x277, 0x0807040600070406, FAULT(V_GP, 0)},
        {0xfe, 0, FAULT(V_GP, 0)}, /* MTRRcap is read-only */
        {0x2ff, 0xc06, NONE},
        {0x2ff, 0xc02, FAULT(V_GP, 0)},
        {0x250, 0x0202020202020202, FAULT(V_GP, 0)},
        {0x12345678, 0, FAULT(V_GP, 0)},
        {0xc0000103, 0x12345678, NONE},
        {0xc0000103, (uint64_t)1 << 32, FAULT(V_GP, 0)},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        msr = rows[i].msr;
        value = rows[i].value;
        uint64_t got = outcome(write_msr);
        if (got != rows[i].expected) {
            metal_print("metal: note MSR %X, value %X\n", (uint64_t)msr, value);
        }
        CHECK(got, rows[i].expected);
        if (rows[i].expected == NONE) {
            CHECK(msr_read(msr), value);
        }
    }
    msr = 0x12345678;
    CHECK(outcome(read_msr), FAULT(V_GP, 0));
    static const struct {
        void (*write)(void);
        uint64_t flip, value; /* CR0, CR4: what changes; else the value */
        uint64_t expected;
    } controls[] = {
        {write_cr0, 0x80000000, 0, FAULT(V_GP, 0)}, /* PG in 64-bit mode */
        {write_cr0, 1, 0, FAULT(V_GP, 0)},
        {write_cr0, 0x20000000, 0, FAULT(V_GP, 0)}, /* NW without CD */
        {write_cr0, (uint64_t)1 << 32, 0, FAULT(V_GP, 0)},
        {write_cr4, 0x20, 0, FAULT(V_GP, 0)}, /* PAE */
        {write_cr4, (uint64_t)1 << 31, 0, FAULT(V_GP, 0)},
        {write_cr4, (uint64_t)1 << 32, 0, FAULT(V_GP, 0)},
        {write_cr3, 0, (uint64_t)1 << 52, FAULT(V_GP, 0)},
        {write_cr8, 0, 16, FAULT(V_GP, 0)},
        {write_cr8, 0, 15, NONE},
        {write_cr8, 0, 0, NONE},
        {write_dr7, 0, (uint64_t)1 << 32, FAULT(V_GP, 0)},
        {write_dr6, 0, (uint64_t)1 << 32, FAULT(V_GP, 0)},
        {read_cr1, 0, 0, FAULT(V_UD, 0)},
    };
    for (unsigned i = 0; i < sizeof(controls) / sizeof(controls[0]); i++) {
        void (*write)(void) = controls[i].write;
        value = write == write_cr0   ? cr0_read() ^ controls[i].flip
                : write == write_cr4 ? cr4_read() ^ controls[i].flip
                                     : controls[i].value;
        CHECK(outcome(write), controls[i].expected);
    }
    dr7_write(0xffff27ff & ~0xffff20fful);
    CHECK(dr7_read(), 0x700 & ~0x0ul);
    dr7_write(0x400);
    dr6_write(0);
    CHECK(dr6_read() & ~0x10800ul, 0xfffe07f0 & ~0x10800ul); /* bit 11: bus-lock detection; bit 16: RTM */
}

/* --- SWAPGS, FSGSBASE ------------------------------------------------------------------------------------------------------- */

STUB(u_swapgs, "swapgs")
STUB(u_rdfsbase, "rdfsbase %rax; int $0x30")

static void wrgsbase(void)
{
    __asm__ volatile("wrgsbase %0" ::"r"(value));
}

static void bases(void)
{
    msr_write(GS_BASE, 0x1000);
    msr_write(KERNEL_GS, 0xffff800000001000);
    __asm__ volatile("swapgs");
    CHECK(msr_read(GS_BASE), 0xffff800000001000);
    CHECK(msr_read(KERNEL_GS), 0x1000);
    CHECK(user(u_swapgs), FAULT(V_GP, 0));
    if (!(cpuid(7, 0).b & 1)) {
        metal_note("no FSGSBASE");
        return;
    }
    CHECK(user(u_rdfsbase), FAULT(V_UD, 0));
    cr4_write(cr4_read() | 1u << 16);
    msr_write(FS_BASE, 0x12345678abc);
    CHECK(user(u_rdfsbase), USER_OK);
    CHECK(metal_trap.ax, 0x12345678abc);
    value = NOT_CANONICAL;
    CHECK(outcome(wrgsbase), FAULT(V_GP, 0));
    value = 0x2000;
    CHECK(outcome(wrgsbase), NONE);
    CHECK(msr_read(GS_BASE), 0x2000);
    cr4_write(cr4_read() & ~(word)(1u << 16));
}

/* --- out of long mode and in again (SDM 3A 9.8.5.4) --------------------------------------------------------------------------- */

/* By way of compatibility mode: paging off, EFER.LME off, CR4.PAE off, and all on again. */
uint64_t leave_stack;
uint32_t efer_outside, cr0_outside;
__asm__(".text\n"
        "leave_and_return:\n"
        "  push %rbx; push %rbp; mov %rsp, leave_stack; ljmp *leave_target\n"
        "leave_target: .long 1f; .word 0x38\n"
        ".code32\n"
        "1: mov $0x10, %eax; mov %eax, %ds; mov %eax, %ss\n"
        "  mov %cr0, %eax; and $0x7fffffff, %eax; mov %eax, %cr0\n"
        "  mov $0xc0000080, %ecx; rdmsr; mov %eax, efer_outside; and $~0x100, %eax; wrmsr\n"
        "  mov %cr0, %eax; mov %eax, cr0_outside; mov %cr4, %ebx; mov %ebx, %eax; and $~0x20, %eax; mov "
        "%eax, %cr4; mov %ebx, %cr4\n"
        "  rdmsr; or $0x100, %eax; wrmsr\n"
        "  mov %cr0, %eax; or $0x80000000, %eax; mov %eax, %cr0\n"
        "  ljmp $0x08, $2f\n"
        ".code64\n"
        "2: mov leave_stack, %rsp; pop %rbp; pop %rbx; ret\n");
void leave_and_return(void);

static void out_and_in(void)
{
    for (unsigned i = 0; i < 100; i++) {
        leave_and_return();
        CHECK(efer_outside & 0x500, 0x100); /* LMA goes with paging, LME stays */
        CHECK(cr0_outside >> 31, 0);
        CHECK(msr_read(EFER) & 0x500, 0x500);
    }
}

/* --- what 64-bit mode does not have ------------------------------------------------------------------------------------------ */

STUB(i_push_cs, ".byte 0x0e")
STUB(i_daa, ".byte 0x27")
STUB(i_into, ".byte 0xce")
STUB(i_pusha, ".byte 0x60")
STUB(i_les, ".byte 0xc4, 0x00")
STUB(i_bound, ".byte 0x62, 0x00")
STUB(i_call_far, ".byte 0x9a, 0, 0, 0, 0, 0, 0")
STUB(i_jmp_far, ".byte 0xea, 0, 0, 0, 0, 0, 0")
STUB(i_salc, ".byte 0xd6")
STUB(i_lock_nop, ".byte 0xf0, 0x90")
STUB(i_lock_mov, ".byte 0xf0, 0x89, 0x00")
STUB(i_lock_add_reg, ".byte 0xf0, 0x01, 0xc0")
STUB(i_ud0, ".byte 0x0f, 0xff, 0xc0")
STUB(i_ud1, ".byte 0x0f, 0xb9, 0xc0")
STUB(i_long,
     ".byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90")

static void undefined(void)
{
    static uint8_t *const codes[] = {i_push_cs,      i_daa,     i_into, i_pusha,    i_les,
                                     i_call_far,     i_jmp_far, i_salc, i_lock_nop, i_lock_mov,
                                     i_lock_add_reg, i_ud0,     i_ud1};
    for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        CHECK(user(codes[i]), FAULT(V_UD, 0));
        CHECK(metal_trap.ip, (word)codes[i]);
    }
    CHECK(user(i_long), FAULT(V_GP, 0));
}

void metal_main(void)
{
    metal_case("SYSCALL, SYSRET (SDM 2B)");
    syscalls();
    metal_case("SYSENTER, SYSEXIT (SDM 2B)");
    sysenters();
    metal_case("the interrupt frame and IST (SDM 3A 6.14)");
    frames();
    metal_case("gates (SDM 3A 6.14.1)");
    gates();
    metal_case("IRET, RET (SDM 2A)");
    irets();
    metal_case("compatibility mode");
    compatibility();
    metal_case("canonical addresses (SDM 1 3.3.7.1)");
    canonical();
    metal_case("control registers and MSRs (SDM 2B MOV, SDM 4)");
    registers();
    metal_case("SWAPGS, FSGSBASE");
    bases();
    metal_case("out of long mode and in again (SDM 3A 9.8.5)");
    out_and_in();
    metal_case("undefined in 64-bit mode");
    undefined();
}
