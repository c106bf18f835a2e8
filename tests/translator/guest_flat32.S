/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 32-bit programs for test_t0_flat32.c. All begin with esi = operands, fs = a segment of 4 GiB whose base lies behind them,
 * gs = one of 256 bytes that begins at them, and end with HLT.
 */
    .code32
    .set OPERANDS, 0x100000     /* as in test_t0_flat32.c */

    .macro case name
    .section .data.rel.ro, "aw"
    .quad 8f, 9f
    .asciz "\name"
    .balign 16
    .section .rodata
8:
    .endm
    .macro case_end
    hlt
9:
    .endm
    /* The flags that are defined now, mixed into ebp. */
    .macro flags_out
    pushf
    andl $0x8c5, (%esp)
    rol $5, %ebp
    xor (%esp), %ebp
    lea 4(%esp), %esp
    .endm

    .section .data.rel.ro, "aw"
    .globl flat32_cases
    .balign 16
flat32_cases:

    case stack
    push %eax
    push %esp
    push $0x12345678
    push $-3
    pushw %bx
    pushw $0x4321
    pushl 4(%esi)
    pushw 2(%esi)
    pushf
    pushfw
    popw %dx
    pop %ecx
    and $0x8d5, %ecx
    popw 6(%esi)
    popl 8(%esi)
    push %eax
    popl 4(%esp)
    popl (%esp)
    pop %edi
    pusha
    popa
    pushaw
    popaw
    push %fs
    pop %edx
    push %ds
    pop %ds
    enter $24, $2
    leave
    mov %esp, %ebx
    push %esp
    pop %esp
    sub %esp, %ebx
    pushw %sp
    popw %di
    case_end

    case stack_wraps
    mov %esp, %ebx
    mov $2, %esp
    pushw $0x1234
    mov %esp, %edx
    mov %ebx, %esp
    case_end

    case calls
    call 1f
    call 2f
2:  pop %eax
    lea 1f-2b(%eax), %eax
    call *%eax
    mov %eax, 12(%esi)
    call *12(%esi)
    push $0x55
    push $0x66
    lea 3f-1f(%eax), %edx
    call *%edx
    jmp 4f
1:  inc %ebx
    ret
3:  inc %ebx
    ret $8
4:  mov $5, %ecx
5:  add %ecx, %edi
    loop 5b
    mov $3, %ecx
6:  dec %edx
    loopne 6b
    jecxz 7f
    inc %edi
7:  mov $0x50003, %ecx
6:  inc %edi
    addr16 loop 6b
    addr16 jecxz 7f
    jcxz 7f
    inc %edi
7:  case_end

    case addresses
    mov $0xfffffffc, %edx
    mov 8(%esi,%edx), %eax
    lea -1(%edx,%edx,4), %ebx
    mov $0x40000000, %ecx
    add 4(%esi,%ecx,4), %eax
    movzwl 3(%esi), %edi
    mov %edi, 0x10(%esi,%edx,1)
    movl $0x1234, 20(%esi)
    lea 0x7fff(%bp,%si), %edx
    leaw 4(%eax,%ebx), %dx
    mov $0x9000, %ebx
    mov $0x7010, %edi
    addr16 mov 0x10(%bx,%di), %ecx
    addr16 movb %cl, 0x14(%bx,%di)
    mov %esi, %ebx
    mov 4(%ebx), %al
    xlat
    case_end

    case segments
    mov %fs:-8, %eax
    add %eax, %fs:-16
    flags_out
    mov %fs:-0x18(,%edx,1), %cl
    movl $0x77, %fs:0x10
    mov $0xfffffff0, %ebx
    xchg %edi, %fs:4(%ebx)
    lock incl %fs:(%ebx)
    mov %gs:8, %edx
    mov %dx, %gs:2
    mov %cs:(%esi), %ecx
    addl $3, %ss:4(%esi)
    mov %es:8(%esi), %dh
    movups %fs:-0x20, %xmm1
    movups %xmm1, %fs:0x20
    push %fs:-4
    pop %fs:0x40
    flags_out
    case_end

    case strings
    cld
    mov %esi, %ebx
    lea 64(%esi), %edi
    mov $7, %ecx
    rep movsl
    mov %ebx, %esi
    mov $5, %ecx
    fs lodsl
    gs movsb
    repe cmpsb
    flags_out
    mov $9, %ecx
    mov $0x5a, %al
    rep stosb
    std
    repne scasb
    cld
    flags_out
    mov %edi, %edx
    mov $0, %edi
    mov %ebx, %esi
    case_end

    case single_strings
    cld
    lea 0x80(%esi), %edi
    movsb
    movsw
    movsl
    addr16 movsb
    mov %edi, %ebx
    mov $OPERANDS, %esi
    mov %esi, %edi
    add $0x200, %edi
    add $0x40, %esi
    lodsb
    lodsw
    flags_out
    lodsl
    stosb
    stosw
    stosl
    cmp %eax, %ebx
    scasb
    flags_out
    scasl
    flags_out
    cmpsb
    flags_out
    cmpsl
    flags_out
    std
    movsl
    lodsw
    scasw
    cld
    flags_out
    gs lodsb
    case_end

    case arithmetic
    add %ebx, %eax
    flags_out
    adc 4(%esi), %ah
    sbb %ch, 1(%esi)
    flags_out
    inc %edx
    dec %ebx
    flags_out
    inc %dh
    negb %bh
    shlb $3, %ah
    rorb %cl, %ch
    notb %dh
    flags_out
    xchg %ah, %bl
    xchg %bh, 3(%esi)
    xadd %ah, %dl
    setg %ch
    setbe %ah
    cmp %ah, %bh
    cmova %ebx, %edi
    flags_out
    movzbl %ah, %ebx
    movsbl %ch, %edx
    mov $0x5a, %dh
    or %al, %bh
    mulb %ah
    imul $-77, %edi, %edi
    mov $77, %ecx
    xor %edx, %edx
    div %ecx
    cltd
    idivl 4(%esi)
    cwtl
    shld $3, %ebx, %eax
    shrd %cl, %edx, 8(%esi)
    flags_out
    mov $0x73, %al
    add $0x99, %al
    daa
    das
    aam
    aad
    aaa
    mov %eax, 16(%esi)
    mov $37, %ebx
    btsl %ebx, (%esi)
    setc %cl
    lock btrl $5, 8(%esi)
    setc %ch
    bsf 4(%esi), %edi
    bswap %edi
    xchg %eax, %ecx
    cmpxchg %ecx, 8(%esi)
    flags_out
    mov (%esi), %eax
    mov 4(%esi), %edx
    cmpxchg8b (%esi)
    lahf
    sahf
    .byte 0xd6                  /* SALC */
    clc
    cmc
    flags_out
    case_end

    case floating
    fninit
    fildl (%esi)
    fnstcw 28(%esi)
    movw $0xf7f, 30(%esi)
    fldcw 30(%esi)
    fistpl 4(%esi)
    fldcw 28(%esi)
    fld1
    fldpi
    fyl2x
    fstpl 8(%esi)
    fnstenv 32(%esi)
    fldenv 32(%esi)
    .irp at, 44, 48, 52, 56     /* T0 does not keep the pointers to the last instruction and operand */
    movl $0, \at\()(%esi)
    .endr
    movd %eax, %mm0
    paddd (%esi), %mm0
    movq %mm0, 16(%esi)
    emms
    movd %ebx, %xmm0
    cvtsi2sd %ecx, %xmm1
    mulpd %xmm1, %xmm1
    cvttsd2si %xmm1, %edx
    pextrw $0, %xmm1, %edi
    movups %xmm0, 20(%esi)
    case_end

    case narrow_jump
    xor %ebx, %ebx
    cmp %eax, %eax
    inc %ebx
    data16 jne 1f
    data16 jnz 1f
    inc %ebx
    mov $1, %ecx
    .byte 0x66
    jecxz 1f
    inc %ebx
1:  case_end

    case interrupt
    stc
    int3
    case_end
    case software_interrupt
    stc
    int $3
    case_end
    case into
    mov $0x7fffffff, %eax
    add $1, %eax
    into
    case_end
    case bound
    mov $0, %eax
    movl $5, (%esi)
    movl $9, 4(%esi)
    bound %eax, (%esi)
1:  case_end
    case divide
    xor %ecx, %ecx
    sub %ebx, %eax
    div %ecx
    case_end
    case write_to_code
    sub %ebx, %eax
    movl $1, %cs:(%esi)
    case_end
    case beyond_limit
    sub %ebx, %eax
    mov %gs:0xfe, %eax
    case_end
    case beyond_limit_stack
    sub %ebx, %eax
    pushl %gs:0xfe
    case_end
    case null_segment
    xor %eax, %eax
    mov %eax, %gs
    mov %gs:(%esi), %ebx
    case_end
    case not_there
    mov $0x300000, %edx
    add %ebx, %eax
    adc %ebx, (%edx)
    case_end
    case not_there_call
    mov $0x300004, %esp
    add %ebx, %eax
    call *%ebx
    case_end
    case not_there_direct
    mov $0x300004, %esp
    add %ebx, %eax
    call 1f
1:  case_end
    case not_there_pop
    mov $0x300000, %edx
    add %ebx, %eax
    popl (%edx)
    case_end
    case not_there_target
    mov $0x300000, %edx
    push %edx
    sub %ebx, %eax
    ret
    case_end
    case not_there_movs
    mov $0x300000, %edi
    add %ebx, %eax
    movsw
    case_end
    case not_there_cmps
    mov $0x2fffff, %edi
    mov $0x300000, %esi
    add %ebx, %eax
    cmpsb
    case_end
    case not_there_lods
    mov $0x2fffff, %esi
    add %ebx, %eax
    lodsl
    case_end
    case invalid
    xor %eax, %eax
    ud2
    case_end

    .section .data.rel.ro, "aw"
    .quad 0

    .section .note.GNU-stack, "", @progbits
