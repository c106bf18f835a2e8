/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interpreter: PUSH, POP, LEAVE, RET. rSP changes after the access succeeded.
 */
#include "translator/interp_internal.h"
#include "translator/x86/sys.h"

/* Linear address of `size` bytes of stack at `offset`. */
static int stack_address(struct x86_cpu *cpu, const struct ir_op *op, uint64_t offset, unsigned size,
                         bool write, gva_t *ret_la)
{
    if (LIKELY(!(op->flags & IRF_SEGCHECK))) {
        *ret_la = offset;
        return X86_OK;
    }
    *ret_la = interp_linear(cpu, SEG_SS, offset);
    return interp_seg_check(cpu, SEG_SS, offset, size, write);
}

/* A stack access with a non-canonical address is #SS, not #GP. */
static int stack_fault(struct x86_cpu *cpu, int r)
{
    if (r == X86_RAISE && cpu->exc.vector == EXC_GP)
        cpu->exc.vector = EXC_SS;
    return r;
}

static int stack_load(struct x86_cpu *cpu, const struct ir_op *op, uint64_t offset, unsigned size,
                      uint64_t *ret_value)
{
    gva_t la;
    int r = stack_address(cpu, op, offset, size, false, &la);
    return r != X86_OK ? r : stack_fault(cpu, mem_load(cpu, la, size, ret_value));
}

static inline uint64_t stack_pointer(const struct x86_cpu *cpu, const struct ir_op *op)
{
    return size_truncate(cpu->gpr[IR_RSP], op->aux);
}

int interp_push_value(struct x86_cpu *cpu, const struct ir_op *op, uint64_t value)
{
    uint64_t sp = size_truncate(cpu->gpr[IR_RSP] - op->size, op->aux);
    gva_t la;
    int r = stack_address(cpu, op, sp, op->size, true, &la);
    if (r == X86_OK)
        r = stack_fault(cpu, mem_store(cpu, la, op->size, value));
    if (r == X86_OK)
        reg_set(cpu, IR_RSP, sp, op->aux);
    return r;
}

int interp_push(struct x86_cpu *cpu, const struct ir_op *op)
{
    uint64_t value;
    if (op->flags & IRF_PCREL) {
        value = cpu->pc_base + (uint64_t)op->imm;
    } else {
        int r = operand_src(cpu, op, op->size, &value);
        if (r != X86_OK)
            return r;
    }
    return interp_push_value(cpu, op, value);
}

int interp_pop(struct x86_cpu *cpu, const struct ir_op *op)
{
    uint64_t sp = stack_pointer(cpu, op);
    uint64_t value;
    int r = stack_load(cpu, op, sp, op->size, &value);
    if (r == X86_OK && op->flags & IRF_DST_MEM)
        r = mem_store(cpu, cpu->ea, op->size, value);
    if (r != X86_OK)
        return r;
    reg_set(cpu, IR_RSP, sp + op->size, op->aux);
    if (!(op->flags & IRF_DST_MEM))
        reg_set(cpu, op->dst, value, op->size);
    return X86_OK;
}

int interp_leave(struct x86_cpu *cpu, const struct ir_op *op)
{
    uint64_t frame = size_truncate(cpu->gpr[IR_RBP], op->aux);
    uint64_t value;
    int r = stack_load(cpu, op, frame, op->size, &value);
    if (r != X86_OK)
        return r;
    reg_set(cpu, IR_RSP, frame + op->size, op->aux);
    reg_set(cpu, IR_RBP, value, op->size);
    return X86_OK;
}

int interp_ret(struct x86_cpu *cpu, const struct ir_op *op)
{
    uint64_t sp = stack_pointer(cpu, op);
    uint64_t target;
    int r = stack_load(cpu, op, sp, op->size, &target);
    if (r == X86_OK)
        r = interp_check_target(cpu, target);
    if (r != X86_OK)
        return r;
    reg_set(cpu, IR_RSP, sp + op->size + (uint64_t)op->imm, op->aux);
    x86_set_rip(cpu, target);
    return X86_JUMP;
}
