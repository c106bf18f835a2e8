/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readable IR: one line per op, operands in the order dst, src, src2, imm; `[]` is the memory operand.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "translator/ir.h"
#include "translator/x86/cpu.h"
#include "translator/x86/sys.h"
#include "translator/x86/vex.h"

static const char *const opcode_names[IR_OPCODES] = {
    [IR_INSN] = "insn",       [IR_EA] = "ea",         [IR_LEA] = "lea",         [IR_MOV] = "mov",
    [IR_MOVZX] = "movzx",     [IR_MOVSX] = "movsx",   [IR_ALU] = "alu",         [IR_UNARY] = "unary",
    [IR_SHIFT] = "shift",     [IR_SHLD] = "shld",     [IR_MUL] = "mul",         [IR_IMUL] = "imul",
    [IR_DIV] = "div",         [IR_BIT] = "bit",       [IR_SCAN] = "scan",       [IR_BSWAP] = "bswap",
    [IR_MOVBE] = "movbe",     [IR_CRC32] = "crc32",   [IR_CMOV] = "cmov",       [IR_SETCC] = "set",
    [IR_XCHG] = "xchg",       [IR_XADD] = "xadd",     [IR_CMPXCHG] = "cmpxchg", [IR_CMPXCHG16] = "cmpxchg16",
    [IR_PUSH] = "push",       [IR_POP] = "pop",       [IR_LEAVE] = "leave",     [IR_CONVERT] = "convert",
    [IR_FLAGOP] = "flag",     [IR_STRING] = "string", [IR_NOP] = "nop",         [IR_VEC] = "vec", [IR_VEX] = "vex",
    [IR_X87] = "x87",         [IR_SYS] = "sys",       [IR_JCC] = "j",           [IR_JMP] = "jmp",
    [IR_JMP_IND] = "jmp_ind", [IR_RET] = "ret",       [IR_JRCXZ] = "jrcxz",     [IR_END] = "end",
    [IR_ADX] = "adx",         [IR_BMI] = "bmi",
};

static const char *const register_names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                             "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15",
                                             "ah",  "ch",  "dh",  "bh",  "t0",  "t1"};
static const char *const segment_names[] = {"es", "cs", "ss", "ds", "fs", "gs"};
static const char *const condition_names[] = {"o", "no", "b", "ae", "e", "ne", "be", "a",
                                              "s", "ns", "p", "np", "l", "ge", "le", "g"};
static const char *const alu_names[] = {"add", "or", "adc", "sbb", "and", "sub", "xor", "cmp", "test"};
static const char *const unary_names[] = {"inc", "dec", "not", "neg"};
static const char *const shift_names[] = {"rol", "ror", "rcl", "rcr", "shl", "shr", "shl", "sar"};
static const char *const bit_names[] = {"bt", "bts", "btr", "btc"};
static const char *const scan_names[] = {"bsf", "bsr", "tzcnt", "lzcnt", "popcnt"};
static const char *const bmi_names[] = {"andn", "blsr", "blsmsk", "blsi", "bextr", "bzhi", "pdep",
                                        "pext", "mulx", "rorx",   "sarx", "shlx",  "shrx"};
static const char *const flagop_names[] = {"clc", "stc", "cmc", "cld", "std", "lahf", "sahf", "salc"};
static const char *const string_names[] = {"movs", "stos", "lods", "cmps", "scas"};
static const char *const loop_names[] = {"jrcxz", "loop", "loope", "loopne"};
static const char *const nop_names[] = {"nop", "pause", "lfence", "sfence", "mfence"};
static const char *const sys_names[X86_SYS_COUNT] = {
    [X86_SYS_UD] = "ud",
    [X86_SYS_GP] = "gp",
    [X86_SYS_NM] = "nm",
    [X86_SYS_HLT] = "hlt",
    [X86_SYS_CPUID] = "cpuid",
    [X86_SYS_RDTSC] = "rdtsc",
    [X86_SYS_RDTSCP] = "rdtscp",
    [X86_SYS_RDPMC] = "rdpmc",
    [X86_SYS_RDPID] = "rdpid",
    [X86_SYS_RDMSR] = "rdmsr",
    [X86_SYS_WRMSR] = "wrmsr",
    [X86_SYS_MOV_FROM_CR] = "mov_from_cr",
    [X86_SYS_MOV_TO_CR] = "mov_to_cr",
    [X86_SYS_MOV_FROM_DR] = "mov_from_dr",
    [X86_SYS_MOV_TO_DR] = "mov_to_dr",
    [X86_SYS_CLTS] = "clts",
    [X86_SYS_LMSW] = "lmsw",
    [X86_SYS_SMSW] = "smsw",
    [X86_SYS_LGDT] = "lgdt",
    [X86_SYS_LIDT] = "lidt",
    [X86_SYS_SGDT] = "sgdt",
    [X86_SYS_SIDT] = "sidt",
    [X86_SYS_LLDT] = "lldt",
    [X86_SYS_LTR] = "ltr",
    [X86_SYS_SLDT] = "sldt",
    [X86_SYS_STR] = "str",
    [X86_SYS_LAR] = "lar",
    [X86_SYS_LSL] = "lsl",
    [X86_SYS_VERR] = "verr",
    [X86_SYS_VERW] = "verw",
    [X86_SYS_ARPL] = "arpl",
    [X86_SYS_MOV_TO_SEG] = "mov_to_seg",
    [X86_SYS_MOV_FROM_SEG] = "mov_from_seg",
    [X86_SYS_POP_SEG] = "pop_seg",
    [X86_SYS_PUSH_SEG] = "push_seg",
    [X86_SYS_LOAD_FAR_PTR] = "load_far_ptr",
    [X86_SYS_JMP_FAR] = "jmp_far",
    [X86_SYS_CALL_FAR] = "call_far",
    [X86_SYS_RET_FAR] = "ret_far",
    [X86_SYS_IRET] = "iret",
    [X86_SYS_INT] = "int",
    [X86_SYS_INT3] = "int3",
    [X86_SYS_INTO] = "into",
    [X86_SYS_INT1] = "int1",
    [X86_SYS_BOUND] = "bound",
    [X86_SYS_SYSCALL] = "syscall",
    [X86_SYS_SYSRET] = "sysret",
    [X86_SYS_SYSENTER] = "sysenter",
    [X86_SYS_SYSEXIT] = "sysexit",
    [X86_SYS_PUSHF] = "pushf",
    [X86_SYS_POPF] = "popf",
    [X86_SYS_CLI] = "cli",
    [X86_SYS_STI] = "sti",
    [X86_SYS_CLAC] = "clac",
    [X86_SYS_STAC] = "stac",
    [X86_SYS_SWAPGS] = "swapgs",
    [X86_SYS_RDFSBASE] = "rdfsbase",
    [X86_SYS_RDGSBASE] = "rdgsbase",
    [X86_SYS_WRFSBASE] = "wrfsbase",
    [X86_SYS_WRGSBASE] = "wrgsbase",
    [X86_SYS_INVLPG] = "invlpg",
    [X86_SYS_INVPCID] = "invpcid",
    [X86_SYS_INVD] = "invd",
    [X86_SYS_WBINVD] = "wbinvd",
    [X86_SYS_CLFLUSH] = "clflush",
    [X86_SYS_IN] = "in",
    [X86_SYS_OUT] = "out",
    [X86_SYS_INS] = "ins",
    [X86_SYS_OUTS] = "outs",
    [X86_SYS_ENTER] = "enter",
    [X86_SYS_PUSHA] = "pusha",
    [X86_SYS_POPA] = "popa",
    [X86_SYS_DAA] = "daa",
    [X86_SYS_DAS] = "das",
    [X86_SYS_AAA] = "aaa",
    [X86_SYS_AAS] = "aas",
    [X86_SYS_AAM] = "aam",
    [X86_SYS_AAD] = "aad",
    [X86_SYS_XLAT] = "xlat",
    [X86_SYS_FXSAVE] = "fxsave",
    [X86_SYS_FXRSTOR] = "fxrstor",
    [X86_SYS_XSAVE] = "xsave",
    [X86_SYS_XSAVEOPT] = "xsaveopt",
    [X86_SYS_XSAVEC] = "xsavec",
    [X86_SYS_XSAVES] = "xsaves",
    [X86_SYS_XRSTOR] = "xrstor",
    [X86_SYS_XRSTORS] = "xrstors",
    [X86_SYS_XGETBV] = "xgetbv",
    [X86_SYS_XSETBV] = "xsetbv",
    [X86_SYS_RDPKRU] = "rdpkru",
    [X86_SYS_WRPKRU] = "wrpkru",
    [X86_SYS_LDMXCSR] = "ldmxcsr",
    [X86_SYS_STMXCSR] = "stmxcsr",
    [X86_SYS_FWAIT] = "fwait",
    [X86_SYS_RDRAND] = "rdrand",
    [X86_SYS_RDSEED] = "rdseed",
    [X86_SYS_MONITOR] = "monitor",
    [X86_SYS_MWAIT] = "mwait",
    [X86_SYS_MASKMOV] = "maskmov",
    [X86_SYS_MOVDIR64B] = "movdir64b",
};

struct line {
    char text[200];
    size_t used;
};

__attribute__((format(printf, 2, 3))) static void append(struct line *line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line->text + line->used, sizeof(line->text) - line->used, format, args);
    va_end(args);
    if (n > 0)
        line->used +=
            (size_t)n < sizeof(line->text) - line->used ? (size_t)n : sizeof(line->text) - line->used - 1;
}

static const char *pick(const char *const *names, unsigned count, unsigned index)
{
    return index < count && names[index] ? names[index] : "?";
}
#define PICK(names, index) pick(names, ARRAY_LEN(names), index)

static void append_name(struct line *line, const struct ir_op *op)
{
    switch ((enum ir_opcode)op->op) {
    case IR_ALU:
        append(line, "%s", PICK(alu_names, op->sub));
        break;
    case IR_UNARY:
        append(line, "%s", PICK(unary_names, op->sub));
        break;
    case IR_SHIFT:
        append(line, "%s", PICK(shift_names, op->sub));
        break;
    case IR_SHLD:
        append(line, "%s", op->sub ? "shrd" : "shld");
        break;
    case IR_BMI:
        append(line, "%s", PICK(bmi_names, op->sub));
        break;
    case IR_ADX:
        append(line, "%s", op->sub ? "adox" : "adcx");
        break;
    case IR_MUL:
    case IR_DIV:
        append(line, "%s%s", op->sub ? "i" : "", PICK(opcode_names, op->op));
        break;
    case IR_BIT:
        append(line, "%s", PICK(bit_names, op->sub));
        break;
    case IR_SCAN:
        append(line, "%s", PICK(scan_names, op->sub));
        break;
    case IR_FLAGOP:
        append(line, "%s", PICK(flagop_names, op->sub));
        break;
    case IR_STRING:
        append(line, "%s", PICK(string_names, op->sub));
        break;
    case IR_JRCXZ:
        append(line, "%s", PICK(loop_names, op->sub));
        break;
    case IR_NOP:
        append(line, "%s", PICK(nop_names, op->sub));
        break;
    case IR_SYS:
        append(line, "sys.%s", PICK(sys_names, op->sub));
        break;
    case IR_VEC:
        append(line, "vec.%s", op->aux < x86_vec_insn_count ? x86_vec_insns[op->aux].name : "?");
        break;
    case IR_VEX:
        append(line, "vex%u.%s", x86_vex_bytes(op) * 8,
               op->aux < x86_vex_insn_count ? x86_vex_insns[op->aux].name : "?");
        break;
    case IR_CONVERT:
        append(line, "%s", op->sub ? "convert_dx" : "convert_ax");
        break;
    case IR_CMOV:
    case IR_SETCC:
    case IR_JCC:
        append(line, "%s%s", PICK(opcode_names, op->op), PICK(condition_names, op->sub));
        break;
    default:
        append(line, "%s", PICK(opcode_names, op->op));
        break;
    }
}

static bool is_segment_operand(const struct ir_op *op, const uint8_t *operand)
{
    if (op->op == IR_STRING)
        return operand == &op->src;
    if (op->op != IR_SYS)
        return op->op == IR_BIT && operand == &op->src2;
    switch (op->sub) {
    case X86_SYS_MOV_TO_SEG:
    case X86_SYS_POP_SEG:
        return operand == &op->dst;
    case X86_SYS_MOV_FROM_SEG:
    case X86_SYS_PUSH_SEG:
    case X86_SYS_INS:
    case X86_SYS_OUTS:
        return operand == &op->src;
    case X86_SYS_LOAD_FAR_PTR:
        return operand == &op->src2;
    default:
        return false;
    }
}

static void append_register(struct line *line, const struct ir_op *op, const uint8_t *operand)
{
    if (*operand == IR_NONE)
        return;
    if (op->op == IR_VEC || op->op == IR_VEX)
        append(line, " %%%u", *operand);
    else if (is_segment_operand(op, operand))
        append(line, " %s", PICK(segment_names, *operand));
    else
        append(line, " %s", PICK(register_names, *operand));
}

static void append_address(struct line *line, const struct ir_op *op)
{
    append(line, " ");
    if (op->op == IR_EA && op->dst != IR_NONE)
        append(line, "%s:", PICK(segment_names, op->dst));
    append(line, "[%s", op->flags & IRF_PCREL ? "pc" : "");
    if (op->src != IR_NONE)
        append(line, "%s%s", op->flags & IRF_PCREL ? "+" : "", PICK(register_names, op->src));
    if (op->src2 != IR_NONE)
        append(line, "+%s*%u", PICK(register_names, op->src2), 1u << op->sub);
    append(line, "%+" PRId64 "]", op->imm);
}

static bool imm_matters(const struct ir_op *op)
{
    switch (op->op) {
    case IR_JCC:
    case IR_JMP:
    case IR_JRCXZ:
    case IR_END:
        return true;
    default:
        return op->imm != 0 || op->flags & IRF_SRC_IMM;
    }
}

static void append_flags(struct line *line, const struct ir_op *op)
{
    static const char *const names[] = {"",      "",    "",    "lock",  "pcrel", "segcheck",
                                        "write", "end", "rep", "repne", "call",  "popped"};
    for (unsigned i = 3; i < ARRAY_LEN(names); i++) {
        if (op->flags >> i & 1 && !(1 << i == IRF_PCREL && (op->op == IR_EA || op->op == IR_LEA)))
            append(line, " %s", names[i]);
    }
}

static void dump_op(struct line *line, const struct ir_op *op)
{
    line->used = 0;
    line->text[0] = 0;
    if (op->op == IR_INSN) {
        append(line, "%03" PRIx64 " +%u", (uint64_t)op->imm, op->aux);
        return;
    }
    append(line, "    ");
    append_name(line, op);
    append(line, ".%u", op->size);
    if (op->op == IR_EA || op->op == IR_LEA) {
        if (op->op == IR_LEA)
            append_register(line, op, &op->dst);
        append_address(line, op);
        if (op->aux)
            append(line, " /%u", op->aux);
    } else {
        if (op->flags & IRF_DST_MEM)
            append(line, " []");
        append_register(line, op, &op->dst);
        append_register(line, op, &op->src);
        if (op->flags & IRF_SRC_MEM)
            append(line, " []");
        append_register(line, op, &op->src2);
        if (imm_matters(op))
            append(line, op->flags & IRF_SRC_IMM ? " $%" PRId64 : " %" PRId64, op->imm);
        if (op->aux && op->op != IR_VEC && op->op != IR_VEX)
            append(line, " /%u", op->aux);
    }
    append_flags(line, op);
}

void ir_dump(const struct ir_block *block, void (*print)(void *opaque, const char *line), void *opaque)
{
    struct line line;
    for (unsigned i = 0; i < block->op_count; i++) {
        dump_op(&line, &block->ops[i]);
        print(opaque, line.text);
    }
}
