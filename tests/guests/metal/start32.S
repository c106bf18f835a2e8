/* SPDX-License-Identifier: Apache-2.0 */
/* metal32: protected mode without paging; tests go on from there. */
#include "start.inc"

        .macro PUSH_ZERO
        push    $0
        .endm
        .macro PUSH_VECTOR vector
        push    $\vector
        .endm
        .macro STUB_WORD label
        .long   \label
        .endm

        .text
        .code32
        .globl metal_entry
metal_entry:
        cli
        cld
        lgdt    gdt_pointer
        ljmp    $0x08, $1f
1:      mov     $stack_top, %esp
        push    %ebx
        call    metal_reload_segments
        call    metal_begin

        .globl metal_reload_segments
metal_reload_segments:
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %fs
        mov     %eax, %gs
        mov     %eax, %ss
        ret

ALL_STUBS
common:
        cld
        push    %eax
        push    %ecx
        push    %edx
        push    %ebx
        push    %ebp
        push    %esi
        push    %edi
        mov     %ds, %ebx
        mov     %es, %esi
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %esp, %eax
        mov     %esp, %ebp
        push    %eax
        call    metal_on_trap
        test    %al, %al
        jz      leave_try
        mov     %ebp, %esp
        mov     %ebx, %ds
        mov     %esi, %es
        pop     %edi
        pop     %esi
        pop     %ebp
        pop     %ebx
        pop     %edx
        pop     %ecx
        pop     %eax
        add     $8, %esp
        iret

        /* unsigned metal_try(void (*body)(void)) */
        .globl metal_try
metal_try:
        push    %ebp
        push    %ebx
        push    %esi
        push    %edi
        mov     20(%esp), %eax
        mov     %esp, metal_try_sp
        call    *%eax
        cli
        mov     $0x1000, %eax
        jmp     1f
leave_try:
        mov     $0x10, %eax
        mov     %eax, %ss
        mov     metal_try_sp, %esp
        mov     metal_trap, %eax
1:      movl    $0, metal_try_sp
        push    %eax
        call    metal_reload_segments
        pop     %eax
        cld
        pop     %edi
        pop     %esi
        pop     %ebx
        pop     %ebp
        ret

        /* void metal_enter_user(word entry, word argument) */
        .globl metal_enter_user
metal_enter_user:
        mov     4(%esp), %ecx
        mov     8(%esp), %eax
        mov     $0x23, %edx
        mov     %edx, %ds
        mov     %edx, %es
        mov     %edx, %fs
        mov     %edx, %gs
        push    %edx
        push    $metal_user_stack + 8192
        push    $0x2
        push    $0x1b
        push    %ecx
        iret

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
        .quad 0x00cf9b000000ffff        /* 08 code */
        .quad 0x00cf93000000ffff        /* 10 data */
        .quad 0x00cffb000000ffff        /* 18 user code */
        .quad 0x00cff3000000ffff        /* 20 user data */
        .quad 0, 0                      /* 28 TSS */
        .quad 0x00cf9b000000ffff        /* 38 */
        .quad 0x00cffb000000ffff        /* 40 */
        .quad 0x00009b000000ffff        /* 48 16-bit code */
        .quad 0x000093000000ffff        /* 50 16-bit data */
        .fill 64 - 11, 8, 0
gdt_pointer:
        .word 64 * 8 - 1
        .long metal_gdt
        .globl metal_try_sp
metal_try_sp:
        .long 0

        .bss
        .balign 4096
        .skip 16384
stack_top:

        .section .note.GNU-stack, "", @progbits
