/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that walks through the processor's modes as an application processor does: real mode, 32-bit protected mode
 * with rings, a call gate and virtual-8086 mode, compatibility and 64-bit mode with user code in both. Each station
 * writes a letter to port 0xe9; test_sys_guest.c knows the sequence. Loaded at 0x8000, started at 0800:0000. Page tables
 * that map the first 4 MiB to themselves are at 0x10000.
 */
    .section .rodata
    .globl guest_start, guest_end

#define ABS(label) (label - guest_start + 0x8000)
#define REL(label) (label - guest_start)

    .macro put char
    push %ax
    mov $\char, %al
    out %al, $0xe9
    pop %ax
    .endm
    .macro put64 char
    push %rax
    mov $\char, %al
    out %al, $0xe9
    pop %rax
    .endm

/* --- real mode ---------------------------------------------------------------------------------------------- */
    .code16
guest_start:
    cli
    cld
    mov %cs, %ax
    mov %ax, %ds
    xor %ax, %ax
    mov %ax, %es
    mov %ax, %ss
    mov $0x7000, %sp
    put 'R'

    /* vectors 0 (#DE), 0x40 and 0x41 */
    movw $REL(real_divide), %es:0
    mov %cs, %es:2
    movw $REL(real_int), %es:0x100
    mov %cs, %es:0x102
    movw $REL(real_irq), %es:0x104
    mov %cs, %es:0x106
    int $0x40
    xor %cx, %cx
    div %cx                     /* a fault: returns to itself unless the handler steps over it */
    put 'e'
    sti
    mov $0x41, %al
    out %al, $0xea              /* external interrupt: comes at the next poll, in the loop */
    mov $100, %cx
1:  loop 1b
    cli
    lcall $0x0800, $REL(real_far)

    lgdtl REL(gdt_pointer)
    smsw %ax
    or $1, %ax
    lmsw %ax
    ljmpl $0x08, $ABS(protected)

real_int:
    put 'i'
    iret
real_divide:
    put 'd'
    push %bp
    mov %sp, %bp
    addw $2, 2(%bp)
    pop %bp
    iret
real_irq:
    put 'q'
    iret
real_far:
    put 'F'
    lret

/* --- protected mode ----------------------------------------------------------------------------------------- */
    .code32
protected:
    mov $0x10, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7000, %esp
    put 'P'
    lidt ABS(idt32_pointer)
    mov $0x28, %ax
    ltr %ax
    int $0x50
    ud2
    put '.'
    mov $0xf8, %ax              /* beyond the GDT */
    mov %ax, %fs
bad_load_next:

    /* to ring 3 */
    pushl $0x23
    pushl $0x6800
    pushl $0x3002               /* IOPL 3: may use ports */
    pushl $0x1b
    pushl $ABS(ring3)
    iret
ring3:
    put '3'
    int $0x51
    pushl $0x11223344           /* parameter of the call gate */
    lcall $0x30, $0
    put 'g'
    int $0x52                   /* does not come back */

int50:
    put 'p'
    iret
invalid32:
    put 'u'
    addl $2, (%esp)
    iret
general32:
    testl $0x20000, 12(%esp)
    jnz general_v86
    cmpl $0xf8, (%esp)          /* the selector is the error code */
    jne fail
    put 'G'
    movl $ABS(bad_load_next), 4(%esp)
    add $4, %esp
    iret
int51:
    mov %cs, %ax
    test $3, %al
    jnz fail
    cmpl $0x1b, 4(%esp)
    jne fail
    put '1'
    iret
gate_target:
    cmpl $0x11223344, 8(%esp)   /* after EIP and CS */
    jne fail
    put 'C'
    lret $4
int52:
    put '2'
    /* virtual-8086 mode at 0x0900:0 */
    mov $0x6f00, %esp
    pushl $0
    pushl $0
    pushl $0
    pushl $0
    pushl $0
    pushl $0x6000
    pushl $0x20002              /* VM, IOPL 0 */
    pushl $0x800
    pushl $REL(v86)
    iret
general_v86:
    /* INT n with IOPL 0 came here */
    cmpl $REL(v86_int), 4(%esp)
    jne fail
    mov %ds, %ax
    test %ax, %ax
    jnz fail
    mov $0x10, %ax
    mov %ax, %ds
    mov %ax, %es
    put 'v'
    mov $0x7000, %esp
    jmp to_long

    .code16
v86:
    mov $0x1234, %ax
    mov %ax, %ds
v86_int:
    int $0x40
    .code32
to_long:
    mov %cr4, %eax
    or $0x620, %eax             /* PAE, OSFXSR, OSXMMEXCPT */
    mov %eax, %cr4
    mov $0x10000, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x901, %eax             /* NXE, LME, SCE */
    wrmsr
    mov %cr0, %eax
    or $0x80010020, %eax        /* PG, WP, NE */
    mov %eax, %cr0
    put 'L'
    ljmp $0x38, $ABS(long)
fail:
    put '!'
    cli
    hlt

/* --- 64-bit mode -------------------------------------------------------------------------------------------- */
    .code64
long:
    put64 '6'
    lidt ABS(idt64_pointer)
    mov $0x10, %eax
    mov %eax, %ss
    mov $0x7000, %esp
    mov $0x68, %ax
    ltr %ax
    xor %eax, %eax
    mov %eax, %ds
    mov %eax, %es
    int3
    ud2
    put64 '.'
    mov $0x40000000, %rbx
    mov (%rbx), %al             /* #PF: error 0 */
    put64 '.'
    mov $0x8000000000000000, %rbx
    mov (%rbx), %al             /* #GP */
    put64 '.'

    /* STI's shadow: the interrupt comes after exactly one instruction */
    xor %ebp, %ebp
    cli
    mov $0x41, %al
    out %al, $0xea
    sti
    inc %ebp                    /* the handler sees 1 */
    inc %ebp
    cli

    /* an NMI is not nested until IRET */
    out %al, $0xeb
    mov $100, %ecx
1:  loop 1b
    put64 '.'

    /* system call registers */
    mov $0xc0000081, %ecx
    xor %eax, %eax
    mov $0x00480038, %edx       /* kernel CS 0x38; user base 0x48: SS 0x50, CS 0x58 */
    wrmsr
    mov $0xc0000082, %ecx
    mov $ABS(system_call), %eax
    xor %edx, %edx
    wrmsr
    mov $0xc0000084, %ecx
    mov $0x200, %eax
    wrmsr

    pushq $0x53                 /* SS */
    pushq $0x6800
    pushq $0x3202               /* IF, IOPL 3 */
    pushq $0x5b
    pushq $ABS(user64)
    iretq
user64:
    put64 'U'
    syscall
    put64 's'
    int $0x51
    hlt                         /* #GP: stepped over */
    pushfq
    orq $0x100, (%rsp)
    popfq                       /* TF: a trap after each of the next instructions */
    nop
    nop
    syscall                     /* TF is not masked here: one trap in the kernel as well */
    pushfq
    andq $~0x100, (%rsp)
    popfq
    put64 'x'
    int $0x52                   /* does not come back */

system_call:
    put64 'S'
    sysretq

breakpoint64:
    put64 'b'
    iretq
invalid64:
    put64 'u'
    addq $2, (%rsp)
    iretq
page64:
    mov %cr2, %rax
    cmp %rbx, %rax
    jne fail64
    cmpq $0, (%rsp)
    jne fail64
    put64 'f'
    add $8, %rsp
    addq $2, (%rsp)
    iretq
general64:
    cmpq $0, (%rsp)
    jne fail64
    put64 'G'
    add $8, %rsp
    testb $3, 8(%rsp)
    jnz 1f
    addq $1, (%rsp)             /* MOV is two bytes, HLT one */
1:  addq $1, (%rsp)
    iretq
debug64:
    push %rax
    mov %dr6, %rax
    test $0x4000, %eax
    jz fail64
    xor %eax, %eax
    mov %rax, %dr6
    pop %rax
    put64 't'
    iretq
irq64:
    cmp $1, %ebp
    jne fail64
    put64 'q'
    iretq
nmi64:
    put64 'N'
    cmpl $0, ABS(nmi_count)
    jne 1f
    incl ABS(nmi_count)
    out %al, $0xeb              /* another one: held until IRET */
    nop
    put64 'n'
1:  iretq

call51:
    put64 '1'
    iretq
call52:
    put64 '2'
    /* compatibility mode, user */
    cmpb $0, ABS(compat_done)
    jne finish
    movb $1, ABS(compat_done)
    movl $0x00003202, 16(%rsp)
    movq $0x4b, 8(%rsp)
    movq $ABS(compat), (%rsp)
    iretq
fail64:
    put64 '!'
    cli
    hlt
finish:
    put64 'Z'
    cli
    hlt

    .code32
compat:
    mov $0x53, %eax
    mov %eax, %ds
    put 'c'
    int $0x51
    movl $0x12345678, ABS(scratch)
    cmpl $0x12345678, ABS(scratch)
    jne 1f
    put 'm'
1:  int $0x52

/* --- tables ------------------------------------------------------------------------------------------------- */
    .balign 8
nmi_count:
    .long 0
compat_done:
    .long 0
scratch:
    .long 0
    .balign 8
gdt_pointer:
    .word gdt_end - gdt - 1
    .long ABS(gdt)
idt32_pointer:
    .word 0x53 * 8 - 1
    .long 0x4000
idt64_pointer:
    .word 0x53 * 16 - 1
    .quad 0x5000
    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff    /* 08 kernel code 32 */
    .quad 0x00cf93000000ffff    /* 10 kernel data */
    .quad 0x00cffb000000ffff    /* 18 user code 32 */
    .quad 0x00cff3000000ffff    /* 20 user data */
    .quad 0x0000890030000067    /* 28 TSS at 0x3000 */
    .word ABS(gate_target), 0x08, 0xec01, 0 /* 30 call gate, one parameter, DPL 3 */
    .quad 0x00af9b000000ffff    /* 38 kernel code 64 */
    .quad 0x00cf93000000ffff    /* 40 kernel data (SYSCALL) */
    .quad 0x00cffb000000ffff    /* 48 user code 32 (SYSRET) */
    .quad 0x00cff3000000ffff    /* 50 user data */
    .quad 0x00affb000000ffff    /* 58 user code 64 */
    .quad 0
    .quad 0x0000890034000067    /* 68 TSS64 at 0x3400 */
    .quad 0
gdt_end:

    .globl guest_gates
/* vector, address, rights: 32-bit gates, then 64-bit ones. The test builds the IDTs from them. */
guest_gates:
    .long 32, 6, ABS(invalid32), 0x8e
    .long 32, 13, ABS(general32), 0x8e
    .long 32, 0x50, ABS(int50), 0x8e
    .long 32, 0x51, ABS(int51), 0xee
    .long 32, 0x52, ABS(int52), 0xee
    .long 64, 1, ABS(debug64), 0x8e
    .long 64, 2, ABS(nmi64), 0x8e
    .long 64, 3, ABS(breakpoint64), 0xee
    .long 64, 6, ABS(invalid64), 0x8e
    .long 64, 13, ABS(general64), 0x8e
    .long 64, 14, ABS(page64), 0x8e
    .long 64, 0x41, ABS(irq64), 0x8e
    .long 64, 0x51, ABS(call51), 0xee
    .long 64, 0x52, ABS(call52), 0xee
    .long 0, 0, 0, 0
guest_end:
    .section .note.GNU-stack, "", @progbits
