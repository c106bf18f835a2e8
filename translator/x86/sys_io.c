/* SPDX-License-Identifier: Apache-2.0 */
/* IN, OUT, INS, OUTS and the I/O permission bitmap (SDM 1 chapter 19). */
#include "translator/x86/debug.h"
#include "translator/x86/sys_internal.h"

/* #GP(0) unless the port may be accessed: CPL <= IOPL, or a clear bit in the TSS for each byte. */
static int check_port(struct x86_cpu *cpu, unsigned port, unsigned size)
{
    const struct x86_seg *tr = &cpu->seg[SEG_TR];
    uint16_t map, bits;
    if (cpu->debug_active) {
        x86_debug_io(cpu, port, size);
    }
    if (x86_real_mode(cpu) || (!x86_v86_mode(cpu) && cpu->cpl <= x86_iopl(cpu))) {
        return X86_OK;
    }
    if ((tr->attr & SEG_ATTR_TYPE) < SYSTEM_TSS32 || TSS32_IO_MAP + 1 > tr->limit) {
        return x86_gp0(cpu);
    }
    int r = mmu_read_sys(cpu, tr->base + TSS32_IO_MAP, 2, &map);
    if (r) {
        return r;
    }
    /* Two bytes are read always, so that a port's bits may straddle. */
    uint32_t offset = map + port / 8;
    if (offset + 1 > tr->limit) {
        return x86_gp0(cpu);
    }
    r = mmu_read_sys(cpu, tr->base + offset, 2, &bits);
    if (r) {
        return r;
    }
    unsigned mask = ((1u << size) - 1) << port % 8;
    return bits & mask ? x86_gp0(cpu) : X86_OK;
}

static unsigned port_of(const struct x86_cpu *cpu, const struct ir_op *op)
{
    return op->flags & IRF_SRC_IMM ? (uint8_t)op->imm : (uint16_t)cpu->gpr[IR_RDX];
}

X86_SYS_HANDLER(in)
{
    unsigned port = port_of(cpu, op);
    int r = check_port(cpu, port, op->size);
    if (!r) {
        uint64_t value = cpu->ops->io_read(cpu->opaque, cpu->index, false, port, op->size);
        x86_write_reg(cpu, IR_RAX, op->size, value & x86_size_mask(op->size));
    }
    return r;
}

X86_SYS_HANDLER(out)
{
    unsigned port = port_of(cpu, op);
    int r = check_port(cpu, port, op->size);
    if (!r) {
        cpu->ops->io_write(cpu->opaque, cpu->index, false, port, op->size,
                           x86_read_reg(cpu, IR_RAX, op->size));
    }
    return r;
}

/* Adds `size` in the direction of DF to a register under the address size. */
static void advance(struct x86_cpu *cpu, unsigned reg, unsigned address_size, unsigned size)
{
    uint64_t step = cpu->rflags & FLAG_DF ? -(uint64_t)size : size;
    x86_write_reg(cpu, reg, address_size, cpu->gpr[reg] + step);
}

static int ins_once(struct x86_cpu *cpu, const struct ir_op *op, unsigned port)
{
    gva_t la;
    int r = x86_seg_address(cpu, SEG_ES, x86_read_reg(cpu, IR_RDI, op->aux), op->size, true, &la);
    r = r ? r : mmu_probe(cpu, la, op->size, MMU_WRITE); /* before the read, which has side effects */
    if (r) {
        return r;
    }
    uint64_t value = cpu->ops->io_read(cpu->opaque, cpu->index, false, port, op->size);
    r = mmu_write(cpu, la, op->size, &value);
    if (!r) {
        advance(cpu, IR_RDI, op->aux, op->size);
    }
    return r;
}

static int outs_once(struct x86_cpu *cpu, const struct ir_op *op, unsigned port)
{
    gva_t la;
    uint64_t value = 0;
    unsigned seg = op->src < SEG_COUNT ? op->src : SEG_DS;
    int r = x86_seg_address(cpu, seg, x86_read_reg(cpu, IR_RSI, op->aux), op->size, false, &la);
    r = r ? r : mmu_read(cpu, la, op->size, &value);
    if (!r) {
        cpu->ops->io_write(cpu->opaque, cpu->index, false, port, op->size, value);
        advance(cpu, IR_RSI, op->aux, op->size);
    }
    return r;
}

/* Requests and traps stop a repeated instruction between two iterations. */
static bool must_stop(const struct x86_cpu *cpu)
{
    return cpu->mode & MODE_TF || cpu->debug_hits ||
           atomic_load_explicit(&((struct x86_cpu *)cpu)->requests, memory_order_relaxed);
}

/* Restartable: after each iteration the registers are final. */
static int string_io(struct x86_cpu *cpu, const struct ir_op *op,
                     int (*once)(struct x86_cpu *, const struct ir_op *, unsigned))
{
    unsigned port = (uint16_t)cpu->gpr[IR_RDX];
    int r = check_port(cpu, port, op->size);
    if (r || !(op->flags & IRF_REP)) {
        return r ? r : once(cpu, op, port);
    }
    while (x86_read_reg(cpu, IR_RCX, op->aux)) {
        r = once(cpu, op, port);
        if (r) {
            return r;
        }
        x86_write_reg(cpu, IR_RCX, op->aux, cpu->gpr[IR_RCX] - 1);
        if (must_stop(cpu) && x86_read_reg(cpu, IR_RCX, op->aux)) {
            x86_set_rip(cpu, cpu->rip);
            return x86_string_stop(cpu);
        }
    }
    return X86_OK;
}

X86_SYS_HANDLER(ins)
{
    return string_io(cpu, op, ins_once);
}

X86_SYS_HANDLER(outs)
{
    return string_io(cpu, op, outs_once);
}
