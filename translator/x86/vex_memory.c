/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reference implementation: masked moves and gathers, which access memory element by element.
 *
 * An element whose mask is clear is not accessed at all, so that neither its page nor its segment's limit matters.
 */
#include "translator/interp_internal.h"
#include "translator/mmu.h"
#include "translator/x86/vex_internal.h"

/* Checks the segment's limit, where it matters, and gives the linear address of the element at `offset` in the segment. */
static int element_address(struct x86_cpu *cpu, const struct ir_op *op, uint64_t offset, unsigned bytes,
                           bool write, gva_t *ret_la)
{
    unsigned seg = op->imm & 0xff;

    if (op->flags & IRF_SEGCHECK) {
        int r = interp_seg_check(cpu, seg, offset, bytes, write);
        if (r != X86_OK)
            return r;
    }
    *ret_la = interp_linear(cpu, seg, offset);
    return X86_OK;
}

/* Offset in its segment of the operand's address. */
static uint64_t base_offset(const struct x86_cpu *cpu, const struct ir_op *op)
{
    unsigned seg = op->imm & 0xff;
    uint64_t offset = cpu->ea - (seg == IR_NONE ? 0 : cpu->seg[seg].base);

    return cpu->mode & MODE_CS64 ? offset : (uint32_t)offset;
}

static bool selected(const struct vex_args *args, unsigned i, unsigned lane)
{
    return args->a.b[i * lane + lane - 1] >> 7;
}

/* VMASKMOVPS/PD, VPMASKMOVD/Q. A store checks all its elements before the first is written. */
int vex_maskmov(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn,
                struct vex_args *args)
{
    bool integer = insn->opcode >= 0x8c, store = insn->flags & VECF_RM_W;
    unsigned lane = (integer ? args->wide : insn->opcode & 1) ? 8 : 4;
    uint64_t offset = base_offset(cpu, op);
    union x86_vec d = {0};
    gva_t la[8];

    for (unsigned i = 0; i < args->bytes / lane; i++) {
        if (!selected(args, i, lane))
            continue;
        int r = element_address(cpu, op, offset + i * lane, lane, store, &la[i]);
        if (r == X86_OK)
            r = store ? mmu_probe(cpu, la[i], lane, MMU_WRITE) : mmu_read(cpu, la[i], lane, &d.b[i * lane]);
        if (r != X86_OK)
            return r;
    }
    for (unsigned i = 0; store && i < args->bytes / lane; i++) {
        int r = selected(args, i, lane) ? mmu_write(cpu, la[i], lane, &args->d.b[i * lane]) : X86_OK;
        if (r != X86_OK)
            return r;
    }
    if (!store)
        vex_put(cpu, op->dst, &d, args->bytes);
    return X86_OK;
}

/* Address of element `i` of a VSIB operand. The sum wraps at the address size. */
static int gather_address(struct x86_cpu *cpu, const struct ir_op *op, const struct vex_args *args,
                          unsigned i, unsigned index_bytes, unsigned bytes, gva_t *ret_la)
{
    uint64_t index = index_bytes == 8 ? args->b.q[i] : (uint64_t)(int32_t)args->b.d[i];
    uint64_t offset = base_offset(cpu, op) + (index << (op->sub >> 4));

    return element_address(cpu, op, size_truncate(offset, op->imm >> 8 & 15), bytes, false, ret_la);
}

/*
 * VGATHERxPS/PD, VPGATHERxD/Q, lowest element first. A fault leaves what was done before it in the destination, and the
 * mask of the rest: the instruction begun again goes on there.
 */
int vex_gather(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vex_insn *insn,
               struct vex_args *args)
{
    unsigned lane = args->wide ? 8 : 4, index_bytes = insn->opcode & 1 ? 8 : 4;
    unsigned count = args->bytes / (lane > index_bytes ? lane : index_bytes);
    union x86_vec mask = {0}, d = args->d, zero = {0};
    bool any = false;
    int r = X86_OK;

    for (unsigned i = 0; i < args->bytes / lane; i++)
        memset(&mask.b[i * lane], selected(args, i, lane) ? 0xff : 0, lane);
    for (unsigned i = 0; i < count && r == X86_OK; i++) {
        gva_t la;
        if (!selected(args, i, lane))
            continue;
        r = gather_address(cpu, op, args, i, index_bytes, lane, &la);
        if (r == X86_OK)
            r = mmu_read(cpu, la, lane, &d.b[i * lane]);
        if (r == X86_OK) {
            memset(&mask.b[i * lane], 0, lane);
            any = true;
        }
    }
    if (r == X86_OK || any)
        vex_put(cpu, op->dst, &d, r == X86_OK ? count * lane : args->bytes);
    vex_put(cpu, op->src2, r == X86_OK ? &zero : &mask, args->bytes);
    return r;
}
