/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter's loop, control flow, moves and addresses.
 */
#include "translator/interp.h"

#include <assert.h>
#include <stdlib.h>

#include "translator/interp_internal.h"
#include "translator/x86/sys.h"
#include "translator/x86/vex.h"

/* --- memory operands ---------------------------------------------------------------------------------------- */

static bool seg_within_limit(const struct x86_seg *seg, uint64_t offset, unsigned bytes)
{
    uint64_t last = offset + bytes - 1;
    bool expand_down = (seg->attr & (SEG_ATTR_S | 0xc)) == (SEG_ATTR_S | 4);
    if (!expand_down)
        return last <= seg->limit;
    return offset > seg->limit && last <= (seg->attr & SEG_ATTR_DB ? UINT32_MAX : 0xffff);
}

int interp_seg_check(struct x86_cpu *cpu, unsigned seg, uint64_t offset, unsigned bytes, bool write)
{
    const struct x86_seg *s = &cpu->seg[seg];
    bool bad = !seg_within_limit(s, offset, bytes);
    if (cpu->mode & MODE_PE && !(cpu->mode & MODE_VM)) {
        bool code = s->attr & 8;
        bool allowed = write ? !code && s->attr & 2 : !code || s->attr & 2;
        bad |= s->attr & SEG_ATTR_UNUSABLE || !allowed;
    }
    return bad ? x86_raise_error(cpu, seg == SEG_SS ? EXC_SS : EXC_GP, 0) : X86_OK;
}

static int interp_ea(struct x86_cpu *cpu, const struct ir_op *op)
{
    uint64_t offset = (uint64_t)op->imm;
    if (op->src != IR_NONE)
        offset += reg_get(cpu, op->src);
    if (op->src2 != IR_NONE)
        offset += reg_get(cpu, op->src2) << op->sub;
    if (op->flags & IRF_PCREL)
        offset += cpu->pc_base;
    if (op->flags & IRF_POPPED && op->src == IR_RSP)
        offset += op->aux;
    offset = size_truncate(offset, op->size);
    if (UNLIKELY(op->flags & IRF_SEGCHECK)) {
        int r = interp_seg_check(cpu, op->dst, offset, op->aux, op->flags & IRF_WRITE);
        if (r != X86_OK)
            return r;
    }
    cpu->ea = interp_linear(cpu, op->dst, offset);
    return X86_OK;
}

static void interp_lea(struct x86_cpu *cpu, const struct ir_op *op)
{
    uint64_t value = (uint64_t)op->imm;
    if (op->src != IR_NONE)
        value += reg_get(cpu, op->src);
    if (op->src2 != IR_NONE)
        value += reg_get(cpu, op->src2) << op->sub;
    if (op->flags & IRF_PCREL)
        value += cpu->pc_base;
    reg_set(cpu, op->dst, size_truncate(value, op->aux), op->size);
}

/* --- moves -------------------------------------------------------------------------------------------------- */

static int interp_mov(struct x86_cpu *cpu, const struct ir_op *op)
{
    uint64_t value;
    int r = operand_src(cpu, op, op->size, &value);
    if (r != X86_OK)
        return r;
    if (op->flags & IRF_DST_MEM)
        return mem_store(cpu, cpu->ea, op->size, value);
    reg_set(cpu, op->dst, value, op->size);
    return X86_OK;
}

static int interp_extend(struct x86_cpu *cpu, const struct ir_op *op, bool sign)
{
    uint64_t value;
    int r = operand_src(cpu, op, op->aux, &value);
    if (r != X86_OK)
        return r;
    reg_set(cpu, op->dst, sign ? (uint64_t)size_sign_extend(value, op->aux) : value, op->size);
    return X86_OK;
}

static uint64_t byte_swap(uint64_t value, unsigned size)
{
    return __builtin_bswap64(value) >> (64 - size * 8);
}

static int interp_movbe(struct x86_cpu *cpu, const struct ir_op *op)
{
    uint64_t value;
    int r = operand_src(cpu, op, op->size, &value);
    if (r != X86_OK)
        return r;
    value = byte_swap(value, op->size);
    if (op->flags & IRF_DST_MEM)
        return mem_store(cpu, cpu->ea, op->size, value);
    reg_set(cpu, op->dst, value, op->size);
    return X86_OK;
}

static int interp_cmov(struct x86_cpu *cpu, const struct ir_op *op)
{
    uint64_t value;
    int r = operand_src(cpu, op, op->size, &value);
    if (r != X86_OK)
        return r;
    if (!flags_condition(cpu->rflags, op->sub))
        value = reg_get(cpu, op->dst);
    reg_set(cpu, op->dst, value, op->size);
    return X86_OK;
}

static int interp_setcc(struct x86_cpu *cpu, const struct ir_op *op)
{
    uint64_t value = flags_condition(cpu->rflags, op->sub);
    if (op->flags & IRF_DST_MEM)
        return mem_store(cpu, cpu->ea, 1, value);
    reg_set(cpu, op->dst, value, 1);
    return X86_OK;
}

int interp_op(struct x86_cpu *cpu, const struct ir_op *op)
{
    switch ((enum ir_opcode)op->op) {
    case IR_EA:
        return interp_ea(cpu, op);
    case IR_LEA:
        interp_lea(cpu, op);
        return X86_OK;
    case IR_MOV:
        return interp_mov(cpu, op);
    case IR_MOVZX:
        return interp_extend(cpu, op, false);
    case IR_MOVSX:
        return interp_extend(cpu, op, true);
    case IR_ALU:
        return interp_alu(cpu, op);
    case IR_UNARY:
        return interp_unary(cpu, op);
    case IR_SHIFT:
        return interp_shift(cpu, op);
    case IR_SHLD:
        return interp_shld(cpu, op);
    case IR_MUL:
        return interp_mul(cpu, op);
    case IR_IMUL:
        return interp_imul(cpu, op);
    case IR_DIV:
        return interp_div(cpu, op);
    case IR_BIT:
        return interp_bit(cpu, op);
    case IR_SCAN:
        return interp_scan(cpu, op);
    case IR_BSWAP:
        reg_set(cpu, op->dst, op->size == 2 ? 0 : byte_swap(reg_get(cpu, op->dst), op->size), op->size);
        return X86_OK;
    case IR_MOVBE:
        return interp_movbe(cpu, op);
    case IR_ADX:
        return interp_adx(cpu, op);
    case IR_BMI:
        return interp_bmi(cpu, op);
    case IR_CRC32:
        return interp_crc32(cpu, op);
    case IR_CMOV:
        return interp_cmov(cpu, op);
    case IR_SETCC:
        return interp_setcc(cpu, op);
    case IR_XCHG:
        return interp_xchg(cpu, op);
    case IR_XADD:
        return interp_xadd(cpu, op);
    case IR_CMPXCHG:
        return interp_cmpxchg(cpu, op);
    case IR_CMPXCHG16:
        return interp_cmpxchg16(cpu, op);
    case IR_PUSH:
        return interp_push(cpu, op);
    case IR_POP:
        return interp_pop(cpu, op);
    case IR_LEAVE:
        return interp_leave(cpu, op);
    case IR_CONVERT:
        interp_convert(cpu, op);
        return X86_OK;
    case IR_FLAGOP:
        interp_flagop(cpu, op);
        return X86_OK;
    case IR_STRING:
        return interp_string(cpu, op);
    case IR_NOP:
        if (op->sub == IR_NOP_MFENCE)
            atomic_thread_fence(memory_order_seq_cst);
        return X86_OK;
    case IR_VEC:
        return x86_vec_exec(cpu, op);
    case IR_VEX:
        return x86_vex_exec(cpu, op);
    case IR_X87:
        return x86_x87_exec(cpu, op);
    case IR_SYS:
        return x86_sys(cpu, op);
    case IR_INSN:
    case IR_JCC:
    case IR_JMP:
    case IR_JMP_IND:
    case IR_RET:
    case IR_JRCXZ:
    case IR_END:
    case IR_OPCODES:
        break;
    }
    assert(!"an op that is none, or is interp_run()'s own");
    abort();
}

/* --- control flow ------------------------------------------------------------------------------------------- */

static inline int jump(struct x86_cpu *cpu, uint64_t target)
{
    int r = interp_check_target(cpu, target);
    if (r != X86_OK)
        return r;
    x86_set_rip(cpu, target);
    return X86_JUMP;
}

static inline uint64_t direct_target(const struct x86_cpu *cpu, const struct ir_op *op)
{
    return size_truncate(cpu->pc_base + (uint64_t)op->imm, op->size);
}

/* A call whose target faults has written the return address, as processors do, but rSP is what it was before. */
static int interp_jmp(struct x86_cpu *cpu, const struct ir_op *op)
{
    int r = jump(cpu, direct_target(cpu, op));
    if (r == X86_RAISE && op->flags & IRF_CALL) {
        const struct ir_op *push = op - 1;
        reg_set(cpu, IR_RSP, cpu->gpr[IR_RSP] + push->size, push->aux);
    }
    return r;
}

static int interp_jmp_ind(struct x86_cpu *cpu, const struct ir_op *op)
{
    uint64_t target, rsp = cpu->gpr[IR_RSP];
    int r = operand_src(cpu, op, op->size, &target);
    if (r == X86_OK && op->flags & IRF_CALL)
        r = interp_push_value(cpu, op, direct_target(cpu, op));
    if (r == X86_OK)
        r = jump(cpu, target);
    if (r == X86_RAISE)
        cpu->gpr[IR_RSP] = rsp;
    return r;
}

/* LOOPcc and JrCXZ: X86_OK falls through. */
static int interp_jrcxz(struct x86_cpu *cpu, const struct ir_op *op)
{
    uint64_t count = size_truncate(cpu->gpr[IR_RCX], op->aux);
    bool taken = count == 0;
    if (op->sub != IR_LOOP_NONE) {
        bool zero = cpu->rflags & FLAG_ZF;
        count = size_truncate(count - 1, op->aux);
        taken = count != 0 && (op->sub == IR_LOOP || zero == (op->sub == IR_LOOPE));
    }
    uint64_t target = direct_target(cpu, op);
    int r = taken ? interp_check_target(cpu, target) : X86_OK;
    if (r != X86_OK)
        return r;
    if (op->sub != IR_LOOP_NONE)
        reg_set(cpu, IR_RCX, count, op->aux);
    if (!taken)
        return X86_OK;
    x86_set_rip(cpu, target);
    return X86_JUMP;
}

/* The MMU knows only addresses: what it raised for `op` is put right here. */
static void name_segment_fault(struct x86_cpu *cpu, const struct ir_op *op)
{
    const struct ir_op *ea = op;
    if (!cpu->exc.noncanonical || !(op->flags & (IRF_SRC_MEM | IRF_DST_MEM)))
        return;
    while (ea->op != IR_EA && ea->op != IR_INSN)
        ea--;
    if (ea->op == IR_EA && interp_stack_operand(ea, op))
        cpu->exc.vector = EXC_SS;
}

int interp_run(struct x86_cpu *cpu, const struct ir_block *block, unsigned first)
{
    const unsigned pc_size = cpu->mode & MODE_CS64 ? 8 : 4;
    for (const struct ir_op *op = &block->ops[first];; op++) {
        int r;
        switch (op->op) {
        case IR_INSN:
            cpu->rip = size_truncate(cpu->pc_base + (uint64_t)op->imm, pc_size);
            cpu->next_rip = size_truncate(cpu->rip + op->aux, pc_size);
            if (UNLIKELY(cpu->code_changed)) {
                cpu->code_changed = false;
                return X86_JUMP;
            }
            continue;
        case IR_JCC:
            if (!flags_condition(cpu->rflags, op->sub))
                continue;
            return jump(cpu, direct_target(cpu, op));
        case IR_JMP:
            return interp_jmp(cpu, op);
        case IR_JMP_IND:
            r = interp_jmp_ind(cpu, op);
            break;
        case IR_RET:
            return interp_ret(cpu, op);
        case IR_JRCXZ:
            r = interp_jrcxz(cpu, op);
            break;
        case IR_END:
            x86_set_rip(cpu, direct_target(cpu, op));
            return X86_JUMP;
        case IR_SYS:
            r = x86_sys(cpu, op);
            if (r == X86_OK && op->flags & IRF_END) {
                x86_set_rip(cpu, cpu->next_rip);
                return X86_JUMP;
            }
            break;
        default:
            r = interp_op(cpu, op);
            break;
        }
        if (UNLIKELY(r != X86_OK)) {
            if (r == X86_RAISE)
                name_segment_fault(cpu, op);
            return r;
        }
    }
}
