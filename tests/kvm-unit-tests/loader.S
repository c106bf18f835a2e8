/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loader.S: what a multiboot loader does, for a VMM that knows PVH. `run` links it with a test's image:
 *
 *   PAYLOAD        file with the test's segments as they lie in memory
 *   PAYLOAD_BASE   where they belong, PAYLOAD_TOP where its bss ends, PAYLOAD_ENTRY
 *
 * The loader lies at 1 MiB, where no test puts anything, the payload's copy above PAYLOAD_TOP. It is entered as PVH
 * says (32-bit, flat, paging off, EBX = hvm_start_info), makes a multiboot information block of the start info, moves
 * the payload down and enters it as multiboot says (EAX the magic number, EBX the block). Like a PC's firmware it
 * leaves the interrupt controllers at vectors 8 and 0x70, the timer ticking, and a table of real-mode vectors that
 * all lead to a handler.
 */
#define START_INFO_MODULE_COUNT 12
#define START_INFO_MODULES      16
#define START_INFO_CMDLINE      24
#define START_INFO_MEMORY       40
#define START_INFO_MEMORY_COUNT 48
#define START_MEMORY_BYTES      24

#define MULTIBOOT_MAGIC   0x2badb002
#define MULTIBOOT_FLAGS   0x4f /* memory, boot device, command line, modules, memory map */
#define MEMORY_ENTRIES    16
#define MEMORY_BYTES      24 /* of an entry, its size field included */
#define CMDLINE_BYTES_MAX 2048

#define REAL_HANDLER 0x600

    .section .note.Xen, "a", @note
    .align 4
    .long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long loader_entry

    .text
    .code32
    .globl loader_entry
loader_entry:
    cld
    mov $loader_stack, %esp
    mov %ebx, %ebp

    mov START_INFO_CMDLINE(%ebp), %esi
    mov $cmdline, %edi
    mov $CMDLINE_BYTES_MAX - 1, %ecx
1:  lodsb
    stosb
    test %al, %al
    loopnz 1b

    cmpl $0, START_INFO_MODULE_COUNT(%ebp)
    je 2f
    mov START_INFO_MODULES(%ebp), %esi
    mov (%esi), %eax
    mov %eax, module_start
    add 8(%esi), %eax
    mov %eax, module_end
    movl $1, module_count

2:  mov START_INFO_MEMORY(%ebp), %esi
    mov START_INFO_MEMORY_COUNT(%ebp), %edx
    mov $memory, %edi
3:  test %edx, %edx
    jz 5f
    dec %edx
    movl $MEMORY_BYTES - 4, (%edi)
    cmpl $0x100000, (%esi) /* RAM from 1 MiB on */
    jne 4f
    mov 8(%esi), %eax
    shr $10, %eax
    mov %eax, memory_upper
4:  add $4, %edi
    push %esi
    mov $5, %ecx
    rep movsl /* base, bytes, type */
    pop %esi
    add $START_MEMORY_BYTES, %esi
    jmp 3b
5:  sub $memory, %edi
    mov %edi, memory_bytes

    mov $chips, %esi /* port, value */
6:  movzbl (%esi), %edx
    mov 1(%esi), %al
    out %al, %dx
    add $2, %esi
    cmp $chips_end, %esi
    jne 6b
    mov $real_handler, %esi
    mov $REAL_HANDLER, %edi
    mov $real_handler_end - real_handler, %ecx
    rep movsb
    mov $REAL_HANDLER, %eax /* segment 0 */
    xor %edi, %edi
    mov $256, %ecx
    rep stosl

    mov $payload, %esi
    mov $PAYLOAD_BASE, %edi
    mov $payload_end - payload, %ecx
    rep movsb
    mov $PAYLOAD_TOP, %ecx
    sub %edi, %ecx
    xor %eax, %eax
    rep stosb

    mov $MULTIBOOT_MAGIC, %eax
    mov $information, %ebx
    mov $PAYLOAD_ENTRY, %ecx
    jmp *%ecx

    .code16
real_handler:
    push %ax
    mov $0x20, %al
    out %al, $0x20
    pop %ax
    iret
real_handler_end:

    .data
chips:
    .byte 0x20, 0x11, 0x21, 0x08, 0x21, 0x04, 0x21, 0x01, 0x21, 0xfa /* all but the timer and the cascade masked */
    .byte 0xa0, 0x11, 0xa1, 0x70, 0xa1, 0x02, 0xa1, 0x01, 0xa1, 0xff
    .byte 0x43, 0x34, 0x40, 0x00, 0x40, 0x00 /* mode 2, 65536 */
chips_end:
    .align 16
information:
    .long MULTIBOOT_FLAGS, 640
memory_upper:
    .long 0
    .long 0, cmdline
module_count:
    .long 0
    .long module
    .long 0, 0, 0, 0
memory_bytes:
    .long 0
    .long memory
    .fill 17, 4, 0
module:
module_start:
    .long 0
module_end:
    .long 0
    .long 0, 0

    .bss
    .align 16
memory:
    .space MEMORY_ENTRIES * MEMORY_BYTES
cmdline:
    .space CMDLINE_BYTES_MAX
    .align 16
    .space 256
loader_stack:

    .section .payload, "a"
payload:
    .incbin PAYLOAD
payload_end:
