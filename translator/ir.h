/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The translator's intermediate representation.
 *
 * One compact, linear, fixed-size IR per superblock. A front end (translator/x86/decode.h) makes it from guest code,
 * the interpreter (translator/interp.h) executes it and is the reference, T0 (translator/t0/) compiles it.
 *
 * Invariants of a block:
 *  - it starts at one offset of one guest page and, except for the last instruction, stays in that page;
 *  - every guest instruction begins with IR_INSN; its effects follow in an order such that everything that can fault
 *    comes before the first change of guest-visible state, unless the op itself says otherwise;
 *  - at most one effective address is live: IR_EA makes it, the ops flagged IRF_DST_MEM or IRF_SRC_MEM use it, the
 *    next IR_INSN ends it;
 *  - it is position independent: a code address is an offset from the *code page base*, a value the vCPU keeps
 *    (x86_cpu.pc_base), so the same physical code runs under any mapping. `imm` of IRF_PCREL operands, branch targets
 *    and IR_INSN are such offsets: address = truncate(pc_base + imm);
 *  - the last op is a terminator (IR_JMP, IR_JMP_IND, IR_RET, IR_END or IR_SYS with IRF_END); IR_JCC is a side exit
 *    that falls through into the rest of the block when the condition is false.
 *
 * Sizes are operand sizes in bytes. Writing a 4-byte register clears its upper half, 1 and 2 bytes merge, as x86 has
 * it. Flags: an op writes exactly those of CF PF AF ZF SF OF that the guest instruction writes (undefined ones take
 * the host CPU's values, see docs/translator.md) and reads those it needs.
 */
#pragma once

#include <stdint.h>

/* Registers: 0-15 are the guest's general registers in encoding order; 16-19 are byte registers AH CH DH BH
 * (size 1 only); temporaries live inside one guest instruction. */
enum ir_reg {
    IR_RAX, IR_RCX, IR_RDX, IR_RBX, IR_RSP, IR_RBP, IR_RSI, IR_RDI,
    IR_R8, IR_R9, IR_R10, IR_R11, IR_R12, IR_R13, IR_R14, IR_R15,
    IR_AH, IR_CH, IR_DH, IR_BH,
    IR_T0, IR_T1,
    IR_REG_COUNT,
    IR_NONE = 0xff,
};

enum ir_opcode {
    IR_INSN,     /* imm = offset of this instruction, aux = its length; size = 1 if the next insn must not be
                    interrupted (MOV SS, POP SS, STI ends the block instead) */
    /* Effective address: ea = truncate_size(src + (src2 << sub) + imm) + base(seg in dst); size = address size.
       src/src2 may be IR_NONE; IRF_PCREL: pc_base is added (RIP-relative). dst = enum x86_seg_index or IR_NONE when
       the segment's base is known to be 0. IRF_SEGCHECK: check limit/type for `aux` bytes, IRF_WRITE if written
       (protected/real mode segments that are not flat); raises #GP/#SS. Outside 64-bit code the sum with the base
       wraps at 4 GiB. IRF_POPPED: src RSP counts as RSP + aux.
       IRF_SEGCHECK on IR_PUSH, IR_POP, IR_LEAVE, IR_RET and on IR_JMP_IND with IRF_CALL: the stack segment's base and
       limit apply; without it the base is 0 and nothing is checked. */
    IR_EA,
    IR_LEA,      /* dst = truncate(src + (src2 << sub) + imm) [+ pc_base]; size = operand size, aux = address size */

    IR_MOV,      /* dst = src | imm | mem; or mem = src | imm. Flags untouched. */
    IR_MOVZX,    /* dst(size) = zero extend src|mem (aux = source size) */
    IR_MOVSX,    /* dst(size) = sign extend src|mem (aux = source size) */
    IR_ALU,      /* sub = enum ir_alu; dst|mem op= src|imm|mem; CMP and TEST write flags only. IRF_LOCK. */
    IR_UNARY,    /* sub = enum ir_unary on dst|mem. IRF_LOCK. */
    IR_SHIFT,    /* sub = enum ir_shift on dst|mem; count = imm (IRF_SRC_IMM) or CL */
    IR_SHLD,     /* dst|mem, src; count = imm (IRF_SRC_IMM) or CL. sub = 0 SHLD, 1 SHRD */
    IR_MUL,      /* rdx:rax (ax for size 1) = rax * src|mem; sub = 0 unsigned, 1 signed */
    IR_IMUL,     /* dst = src2|mem * src | imm: three-operand when IRF_SRC_IMM (dst = src|mem * imm), else dst *= src|mem */
    IR_DIV,      /* rdx:rax / src|mem, sub = 0 unsigned, 1 signed; raises #DE */
    IR_BIT,      /* sub = enum ir_bit; bit base dst|mem, offset src or imm (IRF_SRC_IMM). A register offset into memory
                    is a bit string: ea holds the offset without segment, the op moves it by whole operands, truncates
                    it to aux (address size), then applies segment src2 (IRF_SEGCHECK as for IR_EA). IRF_LOCK. */
    IR_SCAN,     /* sub = enum ir_scan: dst = f(src|mem) */
    IR_BSWAP,    /* dst, size 4 or 8 (size 2: undefined in the manuals; CPUs clear the 16 bits) */
    IR_MOVBE,    /* dst = bswap(mem) or mem = bswap(src) */
    IR_ADX,      /* dst += src|mem + carry, where the carry is CF (sub 0, ADCX) or OF (sub 1, ADOX), the only flag that changes */
    IR_BMI,      /* sub = enum ir_bmi; dst = f(src|mem, src2); size 4 or 8. MULX: dst = high half, src2 = low half of
                    rdx * src|mem; RORX: imm instead of src2. Which flags are written: enum ir_bmi */
    IR_CRC32,    /* dst = crc32c(dst, src|mem); aux = source size, size = 4 or 8 */
    IR_CMOV,     /* sub = condition; dst = src|mem if true; size 4 clears the upper half either way; mem is read always */
    IR_SETCC,    /* sub = condition; dst|mem (1 byte) */
    IR_XCHG,     /* dst <-> src, or mem <-> src (always locked) */
    IR_XADD,     /* dst|mem, src. IRF_LOCK */
    IR_CMPXCHG,  /* dst|mem, src, accumulator. IRF_LOCK */
    IR_CMPXCHG16,/* mem, rdx:rax, rcx:rbx; size 8 (CMPXCHG8B) or 16. IRF_LOCK */
    IR_PUSH,     /* push src|imm|mem; imm sign-extended; IRF_PCREL: pc_base + imm (CALL). size = operand, aux = stack
                    address size; also IR_CALL's push. Commits RSP after the store. */
    IR_POP,      /* pop dst|mem: for mem, RSP is advanced before EA is computed: the front end emits IR_EA with IRF_POPPED
                    (src RSP counts as RSP + aux, the operand size) */
    IR_LEAVE,    /* rsp = rbp; pop rbp. size, aux as for IR_POP */
    IR_CONVERT,  /* CBW/CWDE/CDQE (sub 0: ax<-al, eax<-ax, rax<-eax by size), CWD/CDQ/CQO (sub 1) */
    IR_FLAGOP,   /* sub = enum ir_flagop */
    IR_STRING,   /* sub = enum ir_string, size, aux = address size, src = segment of the source (IR_NONE: base 0); the
                    destination is ES (base 0 without IRF_SEGCHECK, which checks both);
                    IRF_REP / IRF_REPNE. Restartable: a fault leaves rsi/rdi/rcx as of the failed iteration. May stop
                    early for an interrupt with rip at this instruction. */
    IR_NOP,      /* PAUSE, NOP, PREFETCH*, ENDBR, LFENCE/SFENCE; sub = enum ir_nop */

    IR_VEC,      /* MMX/SSE/AES/… instruction: aux = index into x86_vec_insns[], dst = ModRM.reg, src = ModRM.rm or mem
                    (IRF_SRC_MEM/IRF_DST_MEM per table), imm = imm8; size = 8 with REX.W */
    IR_VEX,      /* VEX-encoded vector instruction: aux = index into x86_vex_insns[], operands as for IR_VEC, src2 = VEX.vvvv,
                    sub bit 0 = VEX.L, size = 8 with VEX.W. Masked moves and gathers check each element's segment
                    themselves (IRF_SEGCHECK) */
    IR_X87,      /* aux = (opcode & 7) << 8 | ModRM byte; memory forms use ea with mod < 3; size = operand size (format
                    of environments), src2 = segment of the operand whose base is in ea, or IR_NONE */
    IR_SYS,      /* sub = enum x86_sys (translator/x86/sys.h): everything that needs more than the user state.
                    Operands in dst/src/imm/ea as listed there. Runs with all guest state in struct x86_cpu. */

    /* control flow; size = operand size that truncates the new rip */
    IR_JCC,      /* sub = condition; imm = target offset */
    IR_JMP,      /* imm = target offset. Terminator. IRF_CALL: a direct call, whose IR_PUSH (IRF_PCREL | IRF_CALL)
                    comes just before */
    IR_JMP_IND,  /* target = src | mem (absolute). Terminator. IRF_CALL: it is a call (hint for return prediction):
                    the return address was not yet pushed: this op pushes pc_base + imm after reading its target;
                    a target that faults leaves rSP unchanged; aux = stack address size */
    IR_RET,      /* pop rip; rsp += imm. Terminator. aux = stack address size */
    IR_JRCXZ,    /* side exit if rcx (aux = address size) == 0; imm = target. sub = enum ir_loop for LOOP/LOOPE/LOOPNE */
    IR_END,      /* block ends, go on at offset imm (block length limit, page end) */
    IR_OPCODES,
};

enum ir_flag {
    IRF_DST_MEM  = 1 << 0,
    IRF_SRC_MEM  = 1 << 1,
    IRF_SRC_IMM  = 1 << 2,
    IRF_LOCK     = 1 << 3,
    IRF_PCREL    = 1 << 4,
    IRF_SEGCHECK = 1 << 5,
    IRF_WRITE    = 1 << 6,
    IRF_END      = 1 << 7,
    IRF_REP      = 1 << 8,
    IRF_REPNE    = 1 << 9,
    IRF_CALL     = 1 << 10,
    IRF_POPPED   = 1 << 11,
};

/* ModRM /n order of the 80-83 group, then TEST. */
enum ir_alu { IR_ADD, IR_OR, IR_ADC, IR_SBB, IR_AND, IR_SUB, IR_XOR, IR_CMP, IR_TEST };
enum ir_unary { IR_INC, IR_DEC, IR_NOT, IR_NEG };
/* ModRM /n order of the C0/D0 group (6 is an alias of SHL and decoded as IR_SHL). */
enum ir_shift { IR_ROL, IR_ROR, IR_RCL, IR_RCR, IR_SHL, IR_SHR, IR_SAL_ALIAS, IR_SAR };
enum ir_bit { IR_BT, IR_BTS, IR_BTR, IR_BTC };
enum ir_scan { IR_BSF, IR_BSR, IR_TZCNT, IR_LZCNT, IR_POPCNT };
/* BMI1 and BMI2. Those up to IR_BZHI write all flags, the others none. */
enum ir_bmi {
    IR_ANDN,   /* ~src2 & src */
    IR_BLSR, IR_BLSMSK, IR_BLSI,
    IR_BEXTR,  /* src2 = start, length */
    IR_BZHI,   /* src2 = index */
    IR_PDEP, IR_PEXT, /* src2 = value, src = mask */
    IR_MULX, IR_RORX, IR_SARX, IR_SHLX, IR_SHRX,
};
enum ir_flagop { IR_CLC, IR_STC, IR_CMC, IR_CLD, IR_STD, IR_LAHF, IR_SAHF, IR_SALC };
enum ir_string { IR_MOVS, IR_STOS, IR_LODS, IR_CMPS, IR_SCAS };
enum ir_loop { IR_LOOP_NONE, IR_LOOP, IR_LOOPE, IR_LOOPNE };
enum ir_nop { IR_NOP_PLAIN, IR_NOP_PAUSE, IR_NOP_LFENCE, IR_NOP_SFENCE, IR_NOP_MFENCE };

/* Conditions are the x86 ones: 0 O, 1 NO, 2 B, 3 AE, 4 E, 5 NE, 6 BE, 7 A, 8 S, 9 NS, a P, b NP, c L, d GE, e LE, f G */

struct ir_op {
    uint8_t op;   /* enum ir_opcode */
    uint8_t sub;
    uint8_t size;
    uint8_t dst;  /* enum ir_reg */
    uint8_t src;
    uint8_t src2;
    uint16_t flags; /* enum ir_flag */
    uint16_t aux;
    uint16_t insn; /* number of the guest instruction within the block */
    uint32_t pc;   /* offset of the guest instruction from pc_base (0..4095) */
    int64_t imm;
};
_Static_assert(sizeof(struct ir_op) == 24, "IR op size");

#define IR_BLOCK_MAX_INSNS 64
#define IR_BLOCK_MAX_OPS   320

struct ir_block {
    uint32_t mode;      /* enum x86_mode bits the block was decoded for */
    uint16_t offset;    /* of its first byte in the page */
    uint16_t bytes;     /* guest code bytes covered (from offset; > 4096 - offset when it straddles) */
    uint16_t insn_count;
    uint16_t op_count;
    struct ir_op ops[IR_BLOCK_MAX_OPS];
};

/* Writes a readable listing, for dumps and tests. */
void ir_dump(const struct ir_block *block, void (*print)(void *opaque, const char *line), void *opaque);
