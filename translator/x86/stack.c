/* SPDX-License-Identifier: Apache-2.0 */
/* Stack accesses of multi-step transfers: RSP is committed only after everything that can fault. */
#include "translator/x86/sys_internal.h"

void x86_stack_current(struct x86_cpu *cpu, struct x86_stack *ret_stack)
{
    bool code64 = x86_code64(cpu);
    *ret_stack = (struct x86_stack){
        .sp = cpu->gpr[IR_RSP],
        .mask = code64                  ? UINT64_MAX
                : cpu->mode & MODE_SS32 ? UINT32_MAX
                                        : 0xffff,
        .ss = &cpu->seg[SEG_SS],
        .code64 = code64,
        .cpl = cpu->cpl,
    };
}

/* True if `size` bytes at `offset` lie inside the segment. */
static bool in_limit(const struct x86_seg *seg, uint32_t offset, unsigned size)
{
    uint32_t last = offset + size - 1;
    if (last < offset) {
        return seg->limit == UINT32_MAX && !(seg->attr & SEG_TYPE_DOWN);
    }
    if ((seg->attr & (SEG_TYPE_CODE | SEG_TYPE_DOWN)) == SEG_TYPE_DOWN) {
        return offset > seg->limit && last <= (seg->attr & SEG_ATTR_DB ? UINT32_MAX : 0xffff);
    }
    return last <= seg->limit;
}

static int stack_address(struct x86_cpu *cpu, const struct x86_stack *stack, uint64_t sp, unsigned size,
                         gva_t *ret_la)
{
    uint64_t offset = sp & stack->mask;
    if (stack->code64) {
        if (!x86_canonical(offset) || !x86_canonical(offset + size - 1)) {
            return x86_raise_error(cpu, EXC_SS, stack->error);
        }
        *ret_la = offset;
        return X86_OK;
    }
    if (!in_limit(stack->ss, (uint32_t)offset, size)) {
        return x86_raise_error(cpu, EXC_SS, stack->error);
    }
    *ret_la = (uint32_t)(stack->ss->base + offset);
    return X86_OK;
}

int x86_stack_push(struct x86_cpu *cpu, struct x86_stack *stack, unsigned size, uint64_t value)
{
    gva_t la;
    uint64_t sp = stack->sp - size;
    int r = stack_address(cpu, stack, sp, size, &la);
    if (!r && stack->cpl == 3) {
        r = x86_align_check(cpu, la, size);
    }
    if (!r) {
        r = mmu_write_as(cpu, stack->cpl, la, size, &value);
    }
    if (!r) {
        stack->sp = sp;
    }
    return r;
}

int x86_stack_pop(struct x86_cpu *cpu, struct x86_stack *stack, unsigned size, uint64_t *ret_value)
{
    gva_t la;
    uint64_t value = 0;
    int r = stack_address(cpu, stack, stack->sp, size, &la);
    if (!r && stack->cpl == 3) {
        r = x86_align_check(cpu, la, size);
    }
    if (!r) {
        r = mmu_read_as(cpu, stack->cpl, la, size, &value);
    }
    if (!r) {
        stack->sp += size;
        *ret_value = value;
    }
    return r;
}

void x86_stack_commit(struct x86_cpu *cpu, const struct x86_stack *stack)
{
    uint64_t *rsp = &cpu->gpr[IR_RSP];
    if (stack->mask == UINT32_MAX) {
        *rsp = (uint32_t)stack->sp;
    } else {
        *rsp = (*rsp & ~stack->mask) | (stack->sp & stack->mask);
    }
}
