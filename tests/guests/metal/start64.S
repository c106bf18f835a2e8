/* SPDX-License-Identifier: Apache-2.0 */
/* metal64: long mode, and the way there for every processor. */
#include "start.inc"

        .macro PUSH_ZERO
        pushq   $0
        .endm
        .macro PUSH_VECTOR vector
        pushq   $\vector
        .endm
        .macro STUB_WORD label
        .quad   \label
        .endm

        .text
        .code32
        .globl metal_entry
metal_entry:
        cli
        cld
        /* 4 GiB in 2 MiB pages: present, writable, user. */
        mov     $metal_pd, %edi
        mov     $0x87, %eax
1:      mov     %eax, (%edi)
        movl    $0, 4(%edi)
        add     $8, %edi
        add     $0x200000, %eax
        jnc     1b
        mov     %ebx, %esi
        mov     $stack_top, %esp
        mov     $begin64, %ebx
        jmp     enter_long

        /* 32-bit protected mode -> 64-bit code at ebx; keeps esi, edi, esp. */
enter_long:
        lgdt    gdt_pointer
        mov     $1 << 5, %eax           /* CR4.PAE */
        mov     %eax, %cr4
        mov     $metal_pml4, %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx       /* EFER.LME */
        rdmsr
        or      $1 << 8, %eax
        wrmsr
        mov     $0x80010033, %eax       /* PG, WP, NE, ET, MP, PE */
        mov     %eax, %cr0
        ljmp    $0x08, $1f
        .code64
1:      mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        mov     %ebx, %ebx
        mov     %esp, %esp
        jmp     *%rbx

begin64:
        mov     %esi, %edi
        call    metal_begin

        /* The first code of another processor, copied to a page below 1 MiB: SIPI's vector is its number. */
        .code16
        .globl metal_trampoline, metal_trampoline_end
metal_trampoline:
        cli
        mov     %cs, %ax
        mov     %ax, %ds
        lgdtl   trampoline_gdt - metal_trampoline
        mov     %cr0, %eax
        or      $1, %al
        mov     %eax, %cr0
        ljmpl   $0x38, $cpu32
trampoline_gdt:
        .word   64 * 8 - 1
        .long   metal_gdt
metal_trampoline_end:

        .code32
cpu32:
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     0xfee00020, %edi        /* APIC id */
        shr     $24, %edi
        mov     %edi, %eax
        shl     $13, %eax
        lea     cpu_stacks(%eax), %esp
        mov     $cpu64, %ebx
        jmp     enter_long
        .code64
cpu64:
        push    %rdi
        call    metal_load_idt
        pop     %rdi
        call    metal_cpu_main
1:      cli
        hlt
        jmp     1b

ALL_STUBS
common:
        cld
        push    %rax
        push    %rcx
        push    %rdx
        push    %rbx
        push    %rbp
        push    %rsi
        push    %rdi
        push    %r8
        push    %r9
        push    %r10
        push    %r11
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        mov     %rsp, %rdi
        mov     %rsp, %rbp
        and     $-16, %rsp
        call    metal_on_trap
        test    %al, %al
        jz      leave_try
        mov     %rbp, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %r11
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rdi
        pop     %rsi
        pop     %rbp
        pop     %rbx
        pop     %rdx
        pop     %rcx
        pop     %rax
        add     $16, %rsp
        iretq

        /* unsigned metal_try(void (*body)(void)) */
        .globl metal_try
metal_try:
        push    %rbp
        push    %rbx
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        sub     $8, %rsp
        mov     %rsp, metal_try_sp
        call    *%rdi
        cli
        mov     $0x1000, %eax
        jmp     1f
leave_try:
        mov     metal_try_sp, %rsp
        mov     metal_trap, %eax
1:      movq    $0, metal_try_sp
        mov     $0x10, %ecx
        mov     %ecx, %ds
        mov     %ecx, %es
        mov     %ecx, %ss
        cld
        add     $8, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbx
        pop     %rbp
        ret

        /* void metal_enter_user(word entry, word argument) */
        .globl metal_enter_user
metal_enter_user:
        mov     %rsi, %rax
        pushq   $0x23
        pushq   $metal_user_stack + 8192
        pushq   $0x2
        pushq   $0x1b
        push    %rdi
        iretq

        .section .rodata
        .globl metal_stubs
        .balign 8
metal_stubs:
        ALL_ADDRESSES

        .data
        .balign 16
        .globl metal_gdt
metal_gdt:
        .quad 0
        .quad 0x00af9b000000ffff        /* 08 64-bit code */
        .quad 0x00cf93000000ffff        /* 10 data */
        .quad 0x00affb000000ffff        /* 18 user code */
        .quad 0x00cff3000000ffff        /* 20 user data */
        .quad 0, 0                      /* 28 TSS */
        .quad 0x00cf9b000000ffff        /* 38 32-bit code */
        .quad 0x00cffb000000ffff        /* 40 32-bit user code */
        .quad 0x00009b000000ffff        /* 48 16-bit code */
        .quad 0x000093000000ffff        /* 50 16-bit data */
        .fill 64 - 11, 8, 0
gdt_pointer:
        .word 64 * 8 - 1
        .long metal_gdt
        .long 0
        .globl metal_try_sp
        .balign 8
metal_try_sp:
        .quad 0

        .balign 4096
        .globl metal_pml4
metal_pml4:
        .quad metal_pdpt + 7
        .fill 511, 8, 0
metal_pdpt:
        .quad metal_pd + 7, metal_pd + 0x1007, metal_pd + 0x2007, metal_pd + 0x3007
        .fill 508, 8, 0

        .bss
        .balign 4096
        .globl metal_pd
metal_pd:
        .skip 4 * 4096
        .skip 16384
stack_top:
cpu_stacks:
        .skip 16 * 8192                 /* processor n's ends at n * 8192 */

        .section .note.GNU-stack, "", @progbits
