/* SPDX-License-Identifier: Apache-2.0 */
/* Small 64-bit programs for test_t0.c, which copies them into a bare machine and says what their registers hold. */
    .section .rodata
    .code64

    .macro program name
    .globl t0_\name, t0_\name\()_end
t0_\name:
    .endm
    .macro program_end name
t0_\name\()_end:
    .endm

/* rcx rounds through two blocks of this page, a function at rbx and, as loaded, a page boundary. */
    program chain
1:  call *%rbx
    test $1, %cl
    jz 2f
    add $3, %rax
    jmp 3f
2:  add $5, %rax
    nop
3:  dec %ecx
    jnz 1b
    hlt
    program_end chain

/* Vector registers at r12 go by 256-bit, 128-bit and legacy instructions to rdi, with ways into C (CPUID, and at rsi an operand
 * that crosses pages) in between. */
    program upper
    vmovdqu (%r12), %ymm3
    cpuid
    vmovdqu %ymm3, (%rdi)
    vmovdqu %ymm3, (%rsi)
    vmovdqu (%rsi), %ymm4
    jmp 1f
1:  vzeroupper
    vmovdqu %ymm3, 32(%rdi)
    cpuid
    vmovdqu %ymm4, 64(%rdi)
    vmovdqu (%r12), %ymm7
    vzeroupper
    cpuid
    movaps %xmm7, 96(%rdi)
    jmp 2f
2:  vextractf128 $1, %ymm7, 112(%rdi)
    vmovdqu (%r12), %ymm5
    vmovdqu (%r12), %ymm6
    vpand %xmm5, %xmm5, %xmm5
    pxor %xmm6, %xmm6
    cpuid
    vmovdqu %ymm5, 128(%rdi)
    vmovdqu %ymm6, 160(%rdi)
    vzeroall
    cpuid
    vmovdqu %ymm6, 192(%rdi)
    hlt
    program_end upper

/* POP and PUSH of memory relative to rsp: POP's address is taken after the pop, PUSH's before the push. */
    program pop_relative
    push $1
    push $2
    push $3
    pop 8(%rsp)
    mov 8(%rsp), %rbx
    pop (%rsp)
    mov (%rsp), %rdx
    push (%rsp)
    push $5
    push 8(%rsp)
    pop %rax
    lea 24(%rsp), %rsp
    hlt
    program_end pop_relative

/* rcx rounds through blocks that are linked directly; the immediate in the middle is changed by `poke`. */
    program loop
1:  dec %ecx
    jz 9f
    jmp 2f
    nop
2:  jmp 3f
    .globl t0_loop_changed
t0_loop_changed:
3:  mov $1, %edx
    add %rdx, %rbx
    jmp 1b
9:  hlt
    program_end loop
    program poke
    mov %eax, (%rdi)
    hlt
    program_end poke

/* Calls rdi with the page-table entry at rsi being r12 and r13 in turn, INVLPG of r14 after each change. Sum in rbx. */
    program remap
1:  mov %r12, (%rsi)
    invlpg (%r14)
    call *%rdi
    add %rax, %rbx
    call *%rbp
    add %rax, %rbx
    mov %r13, (%rsi)
    invlpg (%r14)
    call *%rdi
    add %rax, %rbx
    call *%rbp
    add %rax, %rbx
    dec %ecx
    jnz 1b
    hlt
    program_end remap

/* The same with CR3 loaded instead. */
    program remap_cr3
1:  mov %r12, (%rsi)
    mov %cr3, %rax
    mov %rax, %cr3
    call *%rdi
    add %rax, %rbx
    call *%rbp
    add %rax, %rbx
    mov %r13, (%rsi)
    mov %cr3, %rax
    mov %rax, %cr3
    call *%rdi
    add %rax, %rbx
    call *%rbp
    add %rax, %rbx
    dec %ecx
    jnz 1b
    hlt
    program_end remap_cr3

/* Calls rdi after an INVLPG of r14; for what changed while the vCPU was out. */
    program call_fresh
    invlpg (%r14)
    call *%rdi
    hlt
    program_end call_fresh

/* Each store changes the next instruction of its own block. */
    program smc_next
1:  mov %ecx, %eax
    mov %eax, 2f+1(%rip)
2:  mov $0, %edx
    add %rdx, %rbx
    dec %ecx
    jnz 1b
    hlt
    program_end smc_next

/* Changes the immediate at r8 of the function at rdi, calls it. */
    program smc_call
1:  mov %ecx, (%r8)
    call *%rdi
    add %rax, %rbx
    dec %ecx
    jnz 1b
    hlt
    program_end smc_call

/* The same, the upper half of the immediate only. */
    program smc_upper
1:  mov %cx, (%r8)
    call *%rdi
    shr $16, %eax
    add %rax, %rbx
    dec %ecx
    jnz 1b
    hlt
    program_end smc_upper

/* Locked operations on 8 bytes at rdi, and on 4 of them at r8. */
    program locked
1:  lock incq (%rdi)
    mov $1, %eax
    lock xadd %rax, (%rdi)
2:  mov (%rdi), %rax
    lea 1(%rax), %rdx
    lock cmpxchg %rdx, (%rdi)
    jnz 2b
    lock addl $1, (%r8)
    dec %ecx
    jnz 1b
    hlt
    program_end locked

/* Runs the function at rbx at CPL 0, then through IRET (frame on the stack) at CPL 1. */
    program ring1
    call *%rbx
    call *%rbx
    iretq
    program_end ring1
    program ring1_tail
    call *%rbx
    hlt
    program_end ring1_tail
    program privileged
    swapgs
    ret
    program_end privileged

/* Integer, vector and x87 operands at rsi; results of what reads flags go to r15. */
    .macro flags_out
    pushf
    pop %rbp
    and $0x8c5, %ebp            /* without AF */
    rol $5, %r15
    xor %rbp, %r15
    .endm
    program places
    mov 8(%rsi), %rax
    add %rax, (%rsi)
    flags_out
    stc
    mov (%rsi), %edx
    adc 4(%rsi), %dx
    flags_out
    sbb %edx, 8(%rsi)
    flags_out
    lock addq $-5, (%rsi)
    flags_out
    lock xadd %r10, 16(%rsi)
    flags_out
    xchg %r9, 24(%rsi)
    mov (%rsi), %rax
    cmp %rax, %rdx
    lock cmpxchg %r11, (%rsi)
    flags_out
    cmpxchg %ebx, 8(%rsi)
    flags_out
    cmp $7, %r12
    incq 16(%rsi)
    flags_out
    negw 18(%rsi)
    flags_out
    notb 1(%rsi)
    rolq $9, (%rsi)
    shll $3, 8(%rsi)
    flags_out
    mov $5, %ecx
    sarq %cl, 16(%rsi)
    flags_out
    shldq $7, %r9, 24(%rsi)
    lock btsl $3, 4(%rsi)
    setc %r8b
    mov $37, %edi
    btcq %rdi, (%rsi)
    setc %r14b
    bsf 8(%rsi), %rdi
    popcnt (%rsi), %r13
    flags_out
    cmp %rdi, %r13
    cmovb 16(%rsi), %r12
    setg 31(%rsi)
    movzbl 3(%rsi), %r11d
    movswq 6(%rsi), %r10
    movslq 12(%rsi), %rdx
    imul 8(%rsi), %rdx
    mov %dh, 5(%rsi)
    mov 7(%rsi), %bh
    add 2(%rsi), %ah
    movbe (%rsi), %rdi
    movbe %rdi, 16(%rsi)
    crc32q 8(%rsi), %rdi
    pushq (%rsi)
    popq 24(%rsi)
    movups (%rsi), %xmm0
    movups 16(%rsi), %xmm2
    paddb %xmm2, %xmm1
    movups %xmm0, 8(%rsi)
    movq %xmm1, (%rsi)
    pinsrw $2, 2(%rsi), %xmm0
    fninit
    fildll (%rsi)
    fistpll 16(%rsi)
    movl $0x12345678, 12(%rsi)
    movb $0x5a, 30(%rsi)
    testb $0x10, 30(%rsi)
    flags_out
    hlt
    program_end places

/* Unmasked x87 exceptions: reported at the next waiting instruction; the control words at rsi. */
    program x87
    fninit
    fldcw (%rsi)
    fld1
    fldz
    fdivrp %st, %st(1)
    mov $1, %ebx
    .globl t0_x87_at
t0_x87_at:
    fld1
    mov $2, %ebx
    hlt
    program_end x87
    program x87_masked
    fnclex
    fldcw 2(%rsi)
    fld1
    fldz
    fdivrp %st, %st(1)
    fstpl 8(%rsi)
    hlt
    program_end x87_masked

/* Instructions that fault. rsi: a page that is not there (the one before is); r9: the same; r10: read-only memory. */
    .section .data.rel.ro, "aw"
    .globl t0_faults
    .balign 8
t0_faults:
    .macro faulting number
    .quad fault_\number, fault_\number\()_at, fault_\number\()_end
    .endm
    .irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26
    faulting \n
    .endr
    .quad 0

    .section .rodata
    .macro case number
fault_\number:
    .endm
    .macro at number
fault_\number\()_at:
    .endm
    .macro case_end number
    hlt
fault_\number\()_end:
    .endm

    case 1
    add $0x7fffffff, %eax
    at 1
    adc %rbx, (%rsi)
    case_end 1
    case 2
    stc
    at 2
    mov (%rsi), %rbx
    case_end 2
    case 3
    sub %rdx, %rax
    at 3
    pushq (%rsi)
    case_end 3
    case 4
    lea 8(%rsi,%rax), %rsp
    sub %rax, %rsp
    shl $3, %rax
    at 4
    push %rax
    case_end 4
    case 5
    xor %edx, %edx
    at 5
    cmpxchg %rcx, (%rsi)
    case_end 5
    case 6
    dec %rcx
    at 6
    lock xadd %r10, (%r9)
    case_end 6
    case 7
    cmc
    at 7
    xchg %r11, (%rsi)
    case_end 7
    case 8
    inc %rdi
    cmc
    at 8
    call *(%rsi)
    case_end 8
    case 9
    lea 8(%rsi), %rsp
    add %rdi, %rdi
    at 9
    call *%rbx
    case_end 9
    case 10
    mov %rsi, %rsp
    neg %rdi
    at 10
    ret
    case_end 10
    case 11
    mov %rsi, %rsp
    imul %rax, %rdx
    at 11
    pop %rax
    case_end 11
    case 12
    mov %rsi, %rbp
    sub $1, %rax
    at 12
    leave
    case_end 12
    case 13
    add %rax, %rax
    at 13
    add %rax, -4(%rsi)
    case_end 13
    case 14
    lea -8(%rsi), %rdi
    mov $16, %ecx
    lea -0x1000(%rsi), %rsi
    cmp %rax, %rbx
    at 14
    rep movsb
    case_end 14
    case 15
    cmp %rbx, %rax
    at 15
    movups %xmm0, -8(%rsi)
    case_end 15
    case 16
    fninit
    fld1
    or %rax, %rbx
    at 16
    fstpt -4(%rsi)
    case_end 16
    case 17
    cmp %rbx, %rax
    at 17
    bts %rdx, (%rsi)
    case_end 17
    case 18
    cmp %rbx, %rax
    at 18
    lock cmpxchg16b (%rsi)
    case_end 18
    case 19
    add %rbx, %rax
    mov $0, %ecx
    at 19
    div %ecx
    case_end 19
    case 20
    mov $0x80000000, %eax
    cltd
    mov $-1, %ecx
    cmp %rbx, %rdx
    at 20
    idiv %ecx
    case_end 20
    case 21
    sbb %rax, %rbx
    at 21
    ud2
    case_end 21
    case 22
    cmp %rbx, %rax
    at 22
    lock incq (%r10)
    case_end 22
    case 23
    stc
    at 23
    shld %cl, %r11, -4(%r9)
    case_end 23
    case 24
    stc
    at 24
    movaps 1(%r10), %xmm3
    case_end 24
    case 25
    mov $0x800000000000, %rax
    stc
    at 25
    adc %ebx, (%rax)
    case_end 25
    case 26
    stc
    at 26
    rcll $3, (%r9)
    case_end 26

    .section .note.GNU-stack, "", @progbits
