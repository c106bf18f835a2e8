/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metal32: real-address mode (SDM 3A chapter 20) and virtual-8086 mode (20.2): interrupts and exceptions through the vector table,
 * 64 KiB limits and big real mode, what is undefined there, every way between the modes, I/O and IOPL in virtual-8086 mode.
 */
#include "metal.h"

const char metal_name[] = "real";

/* The 16-bit code is linked high and copied to LOW, where it is entered with every base 0. */
#define LOW   0x6000u
#define STACK 0x5ff0u
#define DATA  0x5000u /* struct report */

extern uint8_t low_start[], low_end[];
#define LOW_ADDRESS(label) (LOW + (word)((label)-low_start))

/* What a body leaves: registers, and the exception that ended it. */
struct report {
    uint16_t vector, ip, cs, flags, sp; /* vector 0xff: it came to its end */
    uint16_t body, limit;               /* in: where to start, limit of the IDT */
    uint32_t ax, bx, cx, dx;
} __attribute__((packed));
#define REPORT ((volatile struct report *)(word)DATA)

#define BODY(name, text)                                                                                     \
    __asm__(".pushsection .text.low, \"ax\"\n.code16\n" #name ": " text                                      \
            "\n jmp real_done\n.code32\n.popsection");                                                       \
    extern uint8_t name[];

word saved_sp;
struct {
    uint16_t limit;
    uint32_t base;
} __attribute__((packed)) real_idt, own_idt;

/* clang-format off */
__asm__(".pushsection .text.low, \"ax\"\n"
        ".code16\n"
        "low_start:\n"
        "enter16: mov $0x50, %ax; mov %ax, %ss; cmpw $0, low_keep_big - low_start + 0x6000; jne 1f\n"
        "  mov %ax, %ds; mov %ax, %es; mov %ax, %fs; mov %ax, %gs\n"
        "1: mov %cr0, %eax; and $0xfe, %al; mov %eax, %cr0\n"
        "  ljmp $0, $(enter_real - low_start + 0x6000)\n"
        "enter_real: xor %ax, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss; mov %ax, %fs; mov %ax, %gs; mov $0x5ff0, %sp\n"
        "  xor %eax, %eax; xor %ebx, %ebx; xor %ecx, %ecx; xor %edx, %edx; jmp *0x500a\n"
        "real_done: movw $0xff, %cs:0x5000\n"
        "real_report: mov %eax, %cs:0x500e; mov %ebx, %cs:0x5012; mov %ecx, %cs:0x5016; mov %edx, %cs:0x501a\n"
        "  cli; mov %cr0, %eax; or $1, %al; mov %eax, %cr0; ljmpl $0x08, $leave_real\n"
        /* A stub for each vector: 4 bytes. */
        "stubs16: .set n, 0; .rept 256; push %ax; mov $n, %al; call common16; .set n, n + 1; .endr\n"
        /* On the stack: return address in a stub, AX, then IP CS FLAGS. */
        "common16: mov %ah, %cs:0x5001; mov %al, %cs:0x5000; movb $0, %cs:0x5001; pop %ax; pop %ax\n"
        "  popw %cs:0x5002; popw %cs:0x5004; popw %cs:0x5006; mov %sp, %cs:0x5008; jmp real_report\n"
        "low_keep_big: .word 0\n"
        ".code32\n.popsection");
extern uint8_t enter16[], stubs16[], low_keep_big[];

__asm__(".text\n"
        "real_run: pusha; mov %esp, saved_sp; sidt own_idt; lidt real_idt; ljmp $0x48, $0x6000\n"
        "leave_real: mov $0x10, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %fs; mov %eax, %gs; mov %eax, %ss\n"
        "  mov saved_sp, %esp; lidt own_idt; popa; ret\n");
void real_run(void);
/* clang-format on */

/* Runs a body in real mode; the vector that ended it, or 0xff. */
static unsigned real(const uint8_t *body)
{
    REPORT->body = (uint16_t)LOW_ADDRESS(body);
    real_idt.base = 0;
    if (!real_idt.limit) {
        real_idt.limit = 0x3ff;
    }
    real_run();
    return REPORT->vector;
}

BODY(b_nothing, "mov %cs, %bx; mov $0x12345678, %eax; pushf; pop %cx; smsw %dx")
BODY(b_int, "mov $0x5ff0, %sp; sti; stc; int $0x60")
BODY(b_ud, "ud2")
BODY(b_de, "xor %cx, %cx; div %cx")
BODY(b_int3, "int3")
BODY(b_into, "mov $0x7f, %al; inc %al; into")
BODY(b_bound, "mov $0x5100, %bx; movw $1, (%bx); movw $2, 2(%bx); mov $3, %ax; bound %ax, (%bx)")
BODY(b_word_end, "mov $0xffff, %bx; mov (%bx), %ax")
BODY(b_dword_end, "mov $0xfffd, %bx; mov (%bx), %eax")
BODY(b_word_ok, "mov $0xfffe, %bx; mov (%bx), %ax")
BODY(b_stack_end, "mov $0xffff, %bp; mov (%bp), %ax")
BODY(b_address32, "mov $0x10000, %ebx; mov (%ebx), %al")
BODY(b_big, "mov $0x100000, %ebx; mov (%ebx), %eax; mov $0x1234, %cx; mov %cx, %ds; mov $0x20000, %ebx; mov "
            "(%ebx), %dl")
BODY(b_segments, "mov $0x500, %ax; mov %ax, %es; movw $0xbeef, 0x5200; mov %es:0x200, %bx; mov $0xffff, %cx; "
                 "mov %cx, %fs; mov %fs:0x10, %cx; "
                 "mov %es, %dx")
BODY(b_lar, "lar %ax, %bx")
BODY(b_lldt, "lldt %ax")
BODY(b_str, "str %ax")
BODY(b_arpl, "arpl %ax, %bx")
BODY(b_verr, "verr %ax")
BODY(b_iret,
     "push $1; push %cs; push $(1f - low_start + 0x6000); iret; 1: pushf; pop %bx; "
     "pushl $0x40001; pushl $0; pushl $(2f - low_start + 0x6000); iretl; 2: pushfl; pop %ecx; mov %sp, %dx")
BODY(b_far, "lcall $0x600, $(2f - low_start); jmp 3f; 2: mov %cs, %bx; mov %sp, %cx; lret; 3: mov %sp, %dx")
BODY(b_push32, "mov $0x11223344, %eax; push %eax; pop %bx; pop %cx; pushal; mov %sp, %dx; popal")
BODY(b_shadow,
     "movw $0x1234, 0x5300; mov $0x5300, %si; mov $0x5310, %di; mov $2, %cx; cld; rep movsb; mov 0x5310, %ax")
BODY(b_past_end, "ljmp $0xf000, $0xffff")
BODY(b_mov_cr3, "mov %cr3, %eax; mov %eax, %cr3; mov %dr7, %ebx; clts; invd; mov $1, %ecx")
BODY(b_lock, ".byte 0xf0, 0x90")
BODY(b_protected,
     "mov %cr0, %eax; or $1, %al; mov %eax, %cr0; jmp 1f; 1: mov %cs, %bx; mov $0x10, %cx; mov %cx, %es; "
     "mov $0x100000, %edx; mov %es:(%edx), %ecx; and $0xfe, %al; mov %eax, %cr0; jmp 1f; 1: xor %ax, %ax; "
     "mov %ax, %es; mov $7, %dx")
BODY(b_lmsw, "mov $1, %ax; lmsw %ax; xor %ax, %ax; lmsw %ax; smsw %bx; mov %cr0, %eax; and $0xfe, %al; mov "
             "%eax, %cr0; smsw %cx")

static void make_low(void)
{
    memcpy((void *)(word)LOW, low_start, (size_t)(low_end - low_start));
    for (unsigned i = 0; i < 256; i++) {
        /* push %ax; mov $n, %al; call rel16: 6 bytes */
        ((volatile uint32_t *)0)[i] = (uint32_t)LOW_ADDRESS(stubs16) + 6 * i;
    }
}

static void keep_big(bool keep)
{
    *(volatile uint16_t *)LOW_ADDRESS(low_keep_big) = keep;
}

static void real_mode(void)
{
    CHECK(real(b_nothing), 0xff);
    CHECK(REPORT->ax, 0x12345678);
    CHECK(REPORT->bx & 0xffff, 0);
    CHECK(REPORT->cx & 0x7f02, 2);
    CHECK(REPORT->dx & 1, 0);
    CHECK(real(b_int), 0x60);
    CHECK(REPORT->flags & 0x301, 0x201);
    CHECK(REPORT->sp, STACK);
    CHECK(REPORT->cs, 0);
    static const struct {
        uint8_t *body;
        unsigned vector;
        bool is_fault;
    } rows[] = {
        {b_ud, V_UD, true},  {b_int3, V_BP, false}, {b_lar, V_UD, true},  {b_lldt, V_UD, true},
        {b_str, V_UD, true}, {b_arpl, V_UD, true},  {b_verr, V_UD, true}, {b_lock, V_UD, true},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        CHECK(real(rows[i].body), rows[i].vector);
        CHECK(REPORT->ip, LOW_ADDRESS(rows[i].body) + !rows[i].is_fault);
        CHECK(REPORT->sp, STACK); /* no error code */
    }
    CHECK(real(b_de), V_DE);
    CHECK(REPORT->ip, LOW_ADDRESS(b_de) + 2);
    CHECK(real(b_into), V_OF);
    CHECK(real(b_bound), V_BR);
    CHECK(real(b_mov_cr3), 0xff);
    CHECK(REPORT->cx, 1);
}

static void limits(void)
{
    CHECK(real(b_word_end), V_GP);
    CHECK(REPORT->ip, LOW_ADDRESS(b_word_end) + 3);
    CHECK(REPORT->sp, STACK);
    CHECK(real(b_dword_end), V_GP);
    CHECK(real(b_word_ok), 0xff);
    CHECK(real(b_stack_end), V_SS);
    CHECK(real(b_address32), V_GP);
    CHECK(real(b_past_end), V_GP);
    real_idt.limit = 4 * 32 - 1; /* INT 60h is beyond it */
    CHECK(real(b_int), V_GP);
    real_idt.limit = 0x3ff;
    /* A limit that protected mode left stays, whatever is loaded afterwards. */
    keep_big(true);
    CHECK(real(b_big), 0xff);
    CHECK(REPORT->ax, *(uint32_t *)0x100000);
    keep_big(false);
    CHECK(real(b_big), V_GP);
}

static void operands(void)
{
    *(volatile uint16_t *)0x100000; /* what FFFF:0010 sees: no wrap at 1 MiB */
    CHECK(real(b_segments), 0xff);
    CHECK(REPORT->bx & 0xffff, 0xbeef);
    CHECK(REPORT->cx & 0xffff, *(volatile uint16_t *)0x100000);
    CHECK(REPORT->dx & 0xffff, 0x500);
    CHECK(real(b_far), 0xff);
    CHECK(REPORT->bx & 0xffff, 0x600);
    CHECK(REPORT->cx & 0xffff, STACK - 4);
    CHECK(REPORT->dx & 0xffff, STACK);
    CHECK(real(b_push32), 0xff);
    CHECK(REPORT->bx & 0xffff, 0x3344);
    CHECK(REPORT->cx & 0xffff, 0x1122);
    CHECK(real(b_iret), 0xff);
    CHECK(REPORT->bx & 0xffff, 3);
    CHECK(REPORT->cx, 0x40003);
    CHECK(REPORT->dx & 0xffff, STACK);
    CHECK(real(b_shadow), 0xff);
    CHECK(REPORT->ax & 0xffff, 0x1234);
}

static void transitions(void)
{
    CHECK(real(b_protected), 0xff);
    CHECK(REPORT->bx & 0xffff, 0); /* CS stays what it was until a far transfer */
    CHECK(REPORT->cx, *(uint32_t *)0x100000);
    CHECK(REPORT->dx & 0xffff, 7);
    CHECK(real(b_lmsw), 0xff);
    CHECK(REPORT->bx & 1, 1); /* LMSW cannot clear PE */
    CHECK(REPORT->cx & 1, 0);
    for (unsigned i = 0; i < 200; i++) {
        CHECK(real(b_nothing), 0xff);
    }
}

/* --- virtual-8086 mode ------------------------------------------------------------------------------------------------- */

/* Flags of the next entry, and the segment values that a trap found. */
static word v86_flags, v86_ds = 0x510, v86_ss;
static word found_es, found_ds, found_fs, found_gs;
static const uint8_t *v86_body;

#define VM (1u << 17)

static bool look(struct metal_frame *frame)
{
    if (frame->flags & VM) {
        found_es = frame->es;
        found_ds = frame->ds;
        found_fs = frame->fs;
        found_gs = frame->gs;
    }
    return false;
}

static void enter_v86(void)
{
    __asm__ volatile(
        "push $0x513; push $0x512; push %0; push $0x511; push %1; push $0x5ff0; push %2; push $0; push %3\n"
        "xor %%eax, %%eax; xor %%ebx, %%ebx; xor %%ecx, %%ecx; xor %%edx, %%edx; iret" ::"r"(v86_ds),
        "r"(v86_ss), "r"(v86_flags | VM | 2), "r"(LOW_ADDRESS(v86_body)));
}

static uint64_t v86(const uint8_t *body, word flags)
{
    v86_body = body;
    v86_flags = flags;
    unsigned vector = metal_try(enter_v86);
    return vector << 16 | (vector == V_USER ? 0 : metal_trap.error & 0xffff);
}

#define FAULT(vector, error) ((vector) << 16 | (error))
#define IOPL(n)              ((word)(n) << 12)

BODY(v_done, "mov %cs, %ax; mov %ds, %bx; mov %es, %cx; mov %ss, %dx; int $0x30")
BODY(v_read, "mov 0x100, %eax; int $0x30")
BODY(v_end, "mov $0xffff, %bx; mov (%bx), %ax; int $0x30")
BODY(v_stack_end, "mov $0xffff, %bp; mov (%bp), %ax; int $0x30")
BODY(v_address32, "mov $0x10000, %ebx; mov (%ebx), %al; int $0x30")
BODY(v_hlt, "hlt")
BODY(v_cli, "cli; int $0x30")
BODY(v_pushf, "pushf; int $0x30")
BODY(v_popf, "pushw $0x0ed7; popf; int $0x30")
BODY(v_int60, "int $0x60")
BODY(v_int3, "int3")
BODY(v_iret, "iret")
BODY(v_lar, "lar %ax, %bx")
BODY(v_sldt, "sldt %ax")
BODY(v_arpl, "arpl %ax, %bx")
BODY(v_lgdt, "lgdt 0x100")
BODY(v_mov_cr, "mov %cr0, %eax")
BODY(v_in, "mov $0x3fd, %dx; in %dx, %al; int $0x30")
BODY(v_ud, "ud2")
BODY(v_far, "lcall $0x600, $(2f - low_start); int $0x30; 2: mov %cs, %bx; lret")
BODY(v_load, "mov $0xffff, %ax; mov %ax, %ds; mov 0x10, %ebx; int $0x30")
BODY(v_smsw, "smsw %ax; int $0x30")

static void virtual_mode(void)
{
    metal_hook = look;
    CHECK(v86(v_done, IOPL(3)), FAULT(V_USER, 0));
    CHECK(metal_trap.flags & VM, VM);
    CHECK(metal_trap.cs, 0);
    CHECK(metal_trap.bx, 0x510);
    CHECK(metal_trap.cx, 0x511);
    CHECK(found_ds & 0xffff, 0x510);
    CHECK(found_es & 0xffff, 0x511);
    CHECK(found_fs & 0xffff, 0x512);
    CHECK(found_gs & 0xffff, 0x513);
    CHECK(metal_trap.sp, STACK);
    CHECK(metal_trap.handler_sp,
          metal_tss.tss.sp0 - 16); /* nine words and an error code's place; `ss` ends our frame */
    *(volatile uint32_t *)0x5200 = 0xcafebabe;
    CHECK(v86(v_read, IOPL(3)), FAULT(V_USER, 0));
    CHECK(metal_trap.ax, 0xcafebabe);
    CHECK(v86(v_end, 0), FAULT(V_GP, 0));
    CHECK(v86(v_stack_end, 0), FAULT(V_SS, 0));
    CHECK(v86(v_address32, 0), FAULT(V_GP, 0));
    CHECK(v86(v_far, IOPL(3)), FAULT(V_USER, 0));
    CHECK(metal_trap.bx, 0x600);
    CHECK(v86(v_load, IOPL(3)), FAULT(V_USER, 0));
    CHECK(metal_trap.bx, *(uint32_t *)0x100000);
    CHECK(v86(v_smsw, IOPL(3)), FAULT(V_USER, 0));
    CHECK(metal_trap.ax & 1, 1);
}

/* 20.2.7, 20.2.8 */
static void sensitive(void)
{
    static const struct {
        uint8_t *body;
        uint64_t low, high; /* with IOPL 0 and 3 */
    } rows[] = {
        {v_hlt, FAULT(V_GP, 0), FAULT(V_GP, 0)},       {v_cli, FAULT(V_GP, 0), FAULT(V_USER, 0)},
        {v_pushf, FAULT(V_GP, 0), FAULT(V_USER, 0)},   {v_popf, FAULT(V_GP, 0), FAULT(V_USER, 0)},
        {v_int60, FAULT(V_GP, 0), FAULT(V_GP, 0x302)}, {v_int3, FAULT(V_BP, 0), FAULT(V_BP, 0)},
        {v_lar, FAULT(V_UD, 0), FAULT(V_UD, 0)},       {v_sldt, FAULT(V_UD, 0), FAULT(V_UD, 0)},
        {v_arpl, FAULT(V_UD, 0), FAULT(V_UD, 0)},      {v_lgdt, FAULT(V_GP, 0), FAULT(V_GP, 0)},
        {v_mov_cr, FAULT(V_GP, 0), FAULT(V_GP, 0)},    {v_in, FAULT(V_GP, 0), FAULT(V_GP, 0)},
        {v_ud, FAULT(V_UD, 0), FAULT(V_UD, 0)},        {v_iret, FAULT(V_GP, 0), 0},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        CHECK(v86(rows[i].body, IOPL(0)), rows[i].low);
        if (rows[i].high) {
            CHECK(v86(rows[i].body, IOPL(3)), rows[i].high);
        }
    }
    CHECK(v86(v_cli, IOPL(3) | 0x200), FAULT(V_USER, 0));
    CHECK(metal_trap.flags & 0x200, 0);
    CHECK(v86(v_popf, IOPL(3)), FAULT(V_USER, 0));
    CHECK(metal_trap.flags & 0x3ed7, 0x3ed7); /* IOPL itself stays */
    CHECK(metal_trap.flags & VM, VM);
    /* The bitmap decides, whatever IOPL is. */
    metal_tss.io[0x3fd / 8] &= (uint8_t) ~(1u << 5);
    CHECK(v86(v_in, IOPL(3)), FAULT(V_USER, 0));
    CHECK(v86(v_in, IOPL(0)), FAULT(V_GP, 0)); /* of INT $0x30 this time */
    CHECK(metal_trap.ip, LOW_ADDRESS(v_in) + 4);
    metal_tss.io[0x3fd / 8] = 0xff;
    /* 20.3.1: the handler must run at CPL 0. */
    metal_gdt[SEL_FREE / 8] = metal_descriptor(0, 0xfffff, 0xfa, 0xc);
    metal_gdt[SEL_FREE / 8 + 1] = metal_descriptor(0, 0xfffff, 0x9e, 0xc);
    metal_gate(0x60, SEL_FREE, metal_stubs[0x60], 0xee, 0);
    CHECK(v86(v_int60, IOPL(3)), FAULT(V_GP, SEL_FREE));
    metal_gate(0x60, SEL_FREE + 8, metal_stubs[0x60], 0xee, 0);
    CHECK(v86(v_int60, IOPL(3)), FAULT(V_GP, SEL_FREE + 8));
    metal_gate_reset(0x60);
}

static void user_iret_vm(void)
{
    __asm__ volatile("pushf; orl %0, (%%esp); push %%cs; push $1f; iret; 1: int $0x30" ::"i"(VM));
}

static void in_user(void)
{
    metal_enter_user((word)user_iret_vm, 0);
}

static void no_way_in(void)
{
    CHECK(metal_try(in_user), V_USER); /* at CPL 3 VM in the image is ignored */
    CHECK(metal_trap.flags & VM, 0);
    CHECK(metal_trap.cs, SEL_UCODE);
    /* Nor by POPF. */
    __asm__ volatile("pushf; orl %0, (%%esp); popf" ::"i"(VM) : "cc");
    CHECK(flags_read() & VM, 0);
}

__asm__(".pushsection .text.low, \"ax\"\nlow_end:\n.popsection");

void metal_main(void)
{
    make_low();
    metal_case("real mode: interrupts and exceptions (SDM 3A 20.1)");
    real_mode();
    metal_case("real mode: limits, big real mode");
    limits();
    metal_case("real mode: operands");
    operands();
    metal_case("into protected mode and back (SDM 3A 9.9)");
    transitions();
    metal_case("virtual-8086 mode (SDM 3A 20.2)");
    virtual_mode();
    metal_case("virtual-8086 mode: sensitive instructions (SDM 3A 20.2.7)");
    sensitive();
    metal_case("virtual-8086 mode: no way in but CPL 0's IRET");
    no_way_in();
}
