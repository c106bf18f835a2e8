/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Front-end handlers of the user-mode integer instructions: SDM volume 2, in the order of the opcode maps.
 */
#include "translator/x86/decode_internal.h"

static unsigned opcode_condition(const struct decoder *d)
{
    return d->opcode & 15;
}

/* --- arithmetic --------------------------------------------------------------------------------------------- */

static enum rm_access alu_access(unsigned alu)
{
    return alu == IR_CMP || alu == IR_TEST ? RM_DST_READ : RM_DST;
}

void decode_alu_mr(struct decoder *d)
{
    unsigned alu = d->opcode >> 3;
    if (d->lock && alu == IR_CMP) {
        decode_ud(d);
        return;
    }
    struct ir_op *op = decode_rm(d, IR_ALU, d->size, alu_access(alu));
    op->sub = alu;
    op->src = decode_reg(d, d->reg, d->size);
}

void decode_alu_rm(struct decoder *d)
{
    struct ir_op *op = decode_rm(d, IR_ALU, d->size, RM_SRC);
    op->sub = d->opcode >> 3;
    op->dst = decode_reg(d, d->reg, d->size);
}

/* Accumulator and immediate; arg = enum ir_alu. */
void decode_alu_ai(struct decoder *d)
{
    struct ir_op *op = decode_emit(d, IR_ALU);
    op->sub = d->row->arg;
    op->dst = IR_RAX;
    op->flags = IRF_SRC_IMM;
    op->imm = d->imm;
}

void decode_alu_imm(struct decoder *d)
{
    unsigned alu = d->modrm >> 3 & 7;
    if (d->lock && alu == IR_CMP) {
        decode_ud(d);
        return;
    }
    struct ir_op *op = decode_rm(d, IR_ALU, d->size, alu_access(alu));
    op->sub = alu;
    op->flags |= IRF_SRC_IMM;
    op->imm = d->imm;
}

void decode_test_mr(struct decoder *d)
{
    struct ir_op *op = decode_rm(d, IR_ALU, d->size, RM_DST_READ);
    op->sub = IR_TEST;
    op->src = decode_reg(d, d->reg, d->size);
}

/* 40-4F; arg = enum ir_unary */
void decode_incdec_r(struct decoder *d)
{
    struct ir_op *op = decode_emit(d, IR_UNARY);
    op->sub = d->row->arg;
    op->dst = d->opcode & 7;
}

void decode_imul(struct decoder *d)
{
    struct ir_op *op = decode_rm(d, IR_IMUL, d->size, RM_SRC);
    op->dst = d->reg;
    if (d->map == 0) {
        op->flags |= IRF_SRC_IMM;
        op->imm = d->imm;
    }
}

/* C0 C1: imm8, D0 D1: 1, D2 D3: CL. */
void decode_shift(struct decoder *d)
{
    unsigned sub = d->modrm >> 3 & 7;
    struct ir_op *op = decode_rm(d, IR_SHIFT, d->size, RM_DST);
    op->sub = sub == IR_SAL_ALIAS ? IR_SHL : sub;
    if ((d->opcode & 0xfe) == 0xd2)
        return;
    op->flags |= IRF_SRC_IMM;
    op->imm = (d->opcode & 0xfe) == 0xd0 ? 1 : d->imm & (d->size == 8 ? 63 : 31);
}

/* A4 AC: imm8, A5 AD: CL. */
void decode_shld(struct decoder *d)
{
    struct ir_op *op = decode_rm(d, IR_SHLD, d->size, RM_DST);
    op->sub = d->opcode >= 0xac;
    op->src = d->reg;
    if (d->opcode & 1)
        return;
    op->flags |= IRF_SRC_IMM;
    op->imm = d->imm & (d->size == 8 ? 63 : 31);
}

void decode_group3(struct decoder *d)
{
    unsigned ext = d->modrm >> 3 & 7;
    if (d->lock && ext != 2 && ext != 3) {
        decode_ud(d);
        return;
    }
    struct ir_op *op;
    switch (ext) {
    case 0:
    case 1:
        op = decode_rm(d, IR_ALU, d->size, RM_DST_READ);
        op->sub = IR_TEST;
        op->flags |= IRF_SRC_IMM;
        op->imm = d->imm;
        return;
    case 2:
    case 3:
        op = decode_rm(d, IR_UNARY, d->size, RM_DST);
        op->sub = ext == 2 ? IR_NOT : IR_NEG;
        return;
    default:
        op = decode_rm(d, ext < 6 ? IR_MUL : IR_DIV, d->size, RM_SRC);
        op->sub = ext & 1;
        return;
    }
}

static void emit_call_indirect(struct decoder *d, bool call)
{
    struct ir_op *op = decode_rm(d, IR_JMP_IND, d->osize, RM_SRC);
    op->aux = d->stack_size;
    op->flags |= call ? IRF_CALL | decode_stack_check(d) : 0;
    op->imm = decode_next(d);
    d->ended = true;
}

static void emit_push(struct decoder *d)
{
    struct ir_op *op = decode_rm(d, IR_PUSH, d->osize, RM_SRC);
    op->aux = d->stack_size;
    op->flags |= decode_stack_check(d);
}

/* FE and FF. In 64-bit code, near branches and PUSH have their own operand size rules. */
void decode_group45(struct decoder *d)
{
    unsigned ext = d->modrm >> 3 & 7;
    bool byte = d->size == 1;
    bool far = ext == 3 || ext == 5;
    if (ext == 7 || (byte && ext > 1) || (d->lock && ext > 1) || (far && !decode_is_mem(d))) {
        decode_ud(d);
        return;
    }
    if (decode_is64(d) && (ext == 2 || ext == 4))
        d->osize = 8;
    else if (decode_is64(d) && ext == 6)
        d->osize = d->opsize_prefix && !(d->rex & 8) ? 2 : 8;

    switch (ext) {
    case 0:
    case 1:
        decode_rm(d, IR_UNARY, d->size, RM_DST)->sub = ext == 0 ? IR_INC : IR_DEC;
        return;
    case 2:
    case 4:
        emit_call_indirect(d, ext == 2);
        return;
    case 6:
        emit_push(d);
        return;
    default:
        decode_far_mem(d, ext == 3 ? X86_SYS_CALL_FAR : X86_SYS_JMP_FAR);
        return;
    }
}

/* --- moves -------------------------------------------------------------------------------------------------- */

void decode_xchg_mr(struct decoder *d)
{
    struct ir_op *op = decode_rm(d, IR_XCHG, d->size, RM_DST);
    op->src = decode_reg(d, d->reg, d->size);
    if (decode_is_mem(d))
        op->flags |= IRF_LOCK;
}

/* 90-97: also NOP and PAUSE. */
void decode_xchg_ar(struct decoder *d)
{
    unsigned reg = (d->opcode & 7) | (d->rex & 1) << 3;
    if (reg == 0 || (d->opcode == 0x90 && d->rep == 0xf3)) { /* PAUSE whatever REX.B says */
        decode_emit(d, IR_NOP)->sub = d->rep == 0xf3 ? IR_NOP_PAUSE : IR_NOP_PLAIN;
        return;
    }
    struct ir_op *op = decode_emit(d, IR_XCHG);
    op->dst = IR_RAX;
    op->src = reg;
}

void decode_mov_mr(struct decoder *d)
{
    decode_rm(d, IR_MOV, d->size, RM_DST)->src = decode_reg(d, d->reg, d->size);
}

void decode_mov_rm(struct decoder *d)
{
    decode_rm(d, IR_MOV, d->size, RM_SRC)->dst = decode_reg(d, d->reg, d->size);
}

void decode_mov_mi(struct decoder *d)
{
    if (d->modrm >> 3 & 7) {
        decode_ud(d);
        return;
    }
    struct ir_op *op = decode_rm(d, IR_MOV, d->size, RM_DST);
    op->flags |= IRF_SRC_IMM;
    op->imm = d->imm;
}

void decode_mov_ri(struct decoder *d)
{
    struct ir_op *op = decode_emit(d, IR_MOV);
    op->dst = decode_reg(d, (d->opcode & 7) | (d->rex & 1) << 3, d->size);
    op->flags = IRF_SRC_IMM;
    op->imm = d->imm;
}

static void set_ea(struct decoder *d, unsigned base, unsigned index, int64_t disp, unsigned default_seg)
{
    d->ea_base = base;
    d->ea_index = index;
    d->ea_scale = 0;
    d->ea_pcrel = false;
    d->disp = disp;
    d->ea_seg = d->seg != IR_NONE ? d->seg : default_seg;
}

void decode_mov_moffs(struct decoder *d)
{
    bool store = d->opcode & 2;
    set_ea(d, IR_NONE, IR_NONE, d->imm, SEG_DS);
    decode_ea(d, d->size, store ? IRF_WRITE : 0);
    struct ir_op *op = decode_emit(d, IR_MOV);
    *(store ? &op->src : &op->dst) = IR_RAX;
    op->flags = store ? IRF_DST_MEM : IRF_SRC_MEM;
}

/* 0F38 F0 and F1: CRC32 with F2, MOVBE without. */
void decode_movbe_crc32(struct decoder *d)
{
    bool odd = d->opcode & 1;
    struct ir_op *op;
    if (d->rep == 0xf2) {
        if (!decode_has(d, FEAT_SSE42)) {
            decode_ud(d);
            return;
        }
        unsigned source = odd ? d->osize : 1;
        op = decode_rm(d, IR_CRC32, source, RM_SRC);
        op->aux = source;
        op->size = d->osize == 8 ? 8 : 4;
        op->dst = d->reg;
        return;
    }
    if (d->rep || !decode_is_mem(d) || !decode_has(d, FEAT_MOVBE)) {
        decode_ud(d);
        return;
    }
    op = decode_rm(d, IR_MOVBE, d->osize, odd ? RM_DST : RM_SRC);
    *(odd ? &op->src : &op->dst) = d->reg;
}

/* ADCX with 66, ADOX with F3. */
void decode_adx(struct decoder *d)
{
    unsigned prefix = decode_prefix(d);
    if ((prefix != 0x66 && prefix != 0xf3) || !decode_has(d, FEAT_ADX)) {
        decode_ud(d);
        return;
    }
    struct ir_op *op = decode_rm(d, IR_ADX, d->rex & 8 ? 8 : 4, RM_SRC);
    op->sub = prefix == 0xf3;
    op->dst = d->reg;
}

/* MOVNTI and MOVDIRI, stores of a general register whose hints make no difference here; arg = enum x86_feature. */
void decode_direct_store(struct decoder *d)
{
    if (decode_prefix(d) || !decode_is_mem(d) || !decode_has(d, d->row->arg)) {
        decode_ud(d);
        return;
    }
    decode_rm(d, IR_MOV, d->rex & 8 ? 8 : 4, RM_DST)->src = d->reg;
}

/* MOVZX and MOVSX: B6 B7, BE BF. */
void decode_extend(struct decoder *d)
{
    unsigned source = d->opcode & 1 ? 2 : 1;
    struct ir_op *op = decode_rm(d, d->opcode & 8 ? IR_MOVSX : IR_MOVZX, source, RM_SRC);
    op->aux = source;
    op->size = d->osize;
    op->dst = d->reg;
}

void decode_movsxd_arpl(struct decoder *d)
{
    if (!decode_is64(d)) {
        decode_arpl(d);
        return;
    }
    unsigned source = d->osize == 2 ? 2 : 4;
    struct ir_op *op = decode_rm(d, d->osize == 8 ? IR_MOVSX : IR_MOV, source, RM_SRC);
    op->aux = source;
    op->size = d->osize;
    op->dst = d->reg;
}

void decode_lea(struct decoder *d)
{
    if (!decode_is_mem(d)) {
        decode_ud(d);
        return;
    }
    struct ir_op *op = decode_emit(d, IR_LEA);
    op->dst = d->reg;
    op->src = d->ea_base;
    op->src2 = d->ea_index;
    op->sub = d->ea_scale;
    op->aux = d->asize;
    op->imm = d->ea_pcrel ? decode_next(d) + d->disp : d->disp;
    op->flags = d->ea_pcrel ? IRF_PCREL : 0;
}

void decode_xlat(struct decoder *d)
{
    struct ir_op *op = decode_emit(d, IR_MOVZX);
    op->dst = IR_T0;
    op->src = IR_RAX;
    op->size = 8;
    op->aux = 1;
    set_ea(d, IR_RBX, IR_T0, 0, SEG_DS);
    decode_ea(d, 1, 0);
    op = decode_emit(d, IR_MOV);
    op->dst = IR_RAX;
    op->size = 1;
    op->flags = IRF_SRC_MEM;
}

/* --- stack -------------------------------------------------------------------------------------------------- */

void decode_push_r(struct decoder *d)
{
    struct ir_op *op = decode_emit(d, IR_PUSH);
    op->src = (d->opcode & 7) | (d->rex & 1) << 3;
    op->aux = d->stack_size;
    op->flags = decode_stack_check(d);
}

void decode_pop_r(struct decoder *d)
{
    struct ir_op *op = decode_emit(d, IR_POP);
    op->dst = (d->opcode & 7) | (d->rex & 1) << 3;
    op->aux = d->stack_size;
    op->flags = decode_stack_check(d);
}

void decode_push_i(struct decoder *d)
{
    struct ir_op *op = decode_emit(d, IR_PUSH);
    op->aux = d->stack_size;
    op->flags = IRF_SRC_IMM | decode_stack_check(d);
    op->imm = d->imm;
}

void decode_pop_m(struct decoder *d)
{
    if (d->modrm >> 3 & 7) {
        decode_ud(d);
        return;
    }
    struct ir_op *op;
    if (decode_is_mem(d)) {
        decode_ea(d, d->osize, IRF_WRITE | IRF_POPPED);
        op = decode_emit(d, IR_POP);
        op->flags = IRF_DST_MEM;
    } else {
        op = decode_emit(d, IR_POP);
        op->dst = d->rm;
    }
    op->aux = d->stack_size;
    op->flags |= decode_stack_check(d);
}

void decode_leave(struct decoder *d)
{
    struct ir_op *op = decode_emit(d, IR_LEAVE);
    op->aux = d->stack_size;
    op->flags = decode_stack_check(d);
}

/* --- bits --------------------------------------------------------------------------------------------------- */

/* BT BTS BTR BTC are A3 AB B3 BB and BA /4../7. */
static bool bit_lock_allowed(struct decoder *d, unsigned bit)
{
    if (d->lock && bit == IR_BT) {
        decode_ud(d);
        return false;
    }
    return true;
}

/*
 * The offset in a register may address any bit of a string around the memory operand, so that the op itself finds the
 * address, with the segment (src2) applied after the move.
 */
void decode_bit_r(struct decoder *d)
{
    unsigned bit = d->opcode >> 3 & 3;
    if (!bit_lock_allowed(d, bit))
        return;
    if (!decode_is_mem(d)) {
        struct ir_op *op = decode_rm(d, IR_BIT, d->size, bit == IR_BT ? RM_DST_READ : RM_DST);
        op->sub = bit;
        op->src = d->reg;
        return;
    }
    bool check;
    unsigned seg = decode_segment(d, d->ea_seg, &check);
    decode_ea(d, 0, 0);
    d->block->ops[d->block->op_count - 1].dst = IR_NONE;
    struct ir_op *op = decode_emit(d, IR_BIT);
    op->sub = bit;
    op->src = d->reg;
    op->src2 = seg;
    op->aux = d->asize;
    op->flags = IRF_DST_MEM | (check ? IRF_SEGCHECK : 0) | (d->lock ? IRF_LOCK : 0);
}

void decode_bit_i(struct decoder *d)
{
    unsigned ext = d->modrm >> 3 & 7;
    if (ext < 4) {
        decode_ud(d);
        return;
    }
    if (!bit_lock_allowed(d, ext & 3))
        return;
    struct ir_op *op = decode_rm(d, IR_BIT, d->size, (ext & 3) == IR_BT ? RM_DST_READ : RM_DST);
    op->sub = ext & 3;
    op->flags |= IRF_SRC_IMM;
    op->imm = d->imm & (d->size * 8 - 1);
}

/* POPCNT, BSF or TZCNT, BSR or LZCNT; without the feature F3 is ignored for the latter two. */
void decode_scan(struct decoder *d)
{
    unsigned scan;
    if (d->opcode == 0xb8) {
        if (d->rep != 0xf3 || !decode_has(d, FEAT_POPCNT)) {
            decode_ud(d);
            return;
        }
        scan = IR_POPCNT;
    } else if (d->opcode == 0xbc) {
        scan = d->rep == 0xf3 && decode_has(d, FEAT_BMI1) ? IR_TZCNT : IR_BSF;
    } else {
        scan = d->rep == 0xf3 && decode_has(d, FEAT_LZCNT) ? IR_LZCNT : IR_BSR;
    }
    struct ir_op *op = decode_rm(d, IR_SCAN, d->size, RM_SRC);
    op->sub = scan;
    op->dst = d->reg;
}

void decode_bswap(struct decoder *d)
{
    decode_emit(d, IR_BSWAP)->dst = (d->opcode & 7) | (d->rex & 1) << 3;
}

/* --- conditions, flags, conversions ------------------------------------------------------------------------- */

void decode_cmov(struct decoder *d)
{
    if (!decode_has(d, FEAT_CMOV)) {
        decode_ud(d);
        return;
    }
    struct ir_op *op = decode_rm(d, IR_CMOV, d->size, RM_SRC);
    op->sub = opcode_condition(d);
    op->dst = d->reg;
}

void decode_setcc(struct decoder *d)
{
    decode_rm(d, IR_SETCC, 1, RM_DST)->sub = opcode_condition(d);
}

void decode_convert(struct decoder *d)
{
    decode_emit(d, IR_CONVERT)->sub = d->opcode & 1;
}

/* arg = enum ir_flagop */
void decode_flagop(struct decoder *d)
{
    decode_emit(d, IR_FLAGOP)->sub = d->row->arg;
}

void decode_lahf_sahf(struct decoder *d)
{
    if (decode_is64(d) && !decode_has(d, FEAT_LAHF))
        decode_ud(d);
    else
        decode_flagop(d);
}

void decode_cmpxchg(struct decoder *d)
{
    decode_rm(d, IR_CMPXCHG, d->size, RM_DST)->src = decode_reg(d, d->reg, d->size);
}

void decode_xadd(struct decoder *d)
{
    decode_rm(d, IR_XADD, d->size, RM_DST)->src = decode_reg(d, d->reg, d->size);
}

/* Hints with a ModRM operand that is not accessed: prefetches, NOP, ENDBR. */
void decode_nop_modrm(struct decoder *d)
{
    decode_emit(d, IR_NOP)->sub = IR_NOP_PLAIN;
}

/* --- strings ------------------------------------------------------------------------------------------------ */

/* arg = enum ir_string */
void decode_string(struct decoder *d)
{
    bool check;
    struct ir_op *op = decode_emit(d, IR_STRING);
    op->sub = d->row->arg;
    op->aux = d->asize;
    op->src = decode_segment(d, d->seg != IR_NONE ? d->seg : SEG_DS, &check);
    check = !(d->mode & (MODE_CS64 | MODE_FLAT)) || check;
    op->flags = (d->rep == 0xf3   ? IRF_REP
                 : d->rep == 0xf2 ? IRF_REPNE
                                  : 0) |
                (check && !decode_is64(d) ? IRF_SEGCHECK : 0);
}

/* --- control flow ------------------------------------------------------------------------------------------- */

static int64_t branch_target(const struct decoder *d)
{
    return decode_next(d) + d->imm;
}

void decode_jcc(struct decoder *d)
{
    struct ir_op *op = decode_emit(d, IR_JCC);
    op->sub = opcode_condition(d);
    op->imm = branch_target(d);
}

void decode_jmp(struct decoder *d)
{
    decode_emit(d, IR_JMP)->imm = branch_target(d);
    d->ended = true;
}

void decode_call(struct decoder *d)
{
    struct ir_op *op = decode_emit(d, IR_PUSH);
    op->aux = d->stack_size;
    op->flags = IRF_PCREL | IRF_CALL | decode_stack_check(d);
    op->imm = decode_next(d);
    op = decode_emit(d, IR_JMP);
    op->flags = IRF_CALL;
    op->imm = branch_target(d);
    d->ended = true;
}

void decode_ret(struct decoder *d)
{
    struct ir_op *op = decode_emit(d, IR_RET);
    op->aux = d->stack_size;
    op->flags = decode_stack_check(d);
    op->imm = d->row->flags & ROW_IMM16 ? d->imm : 0;
    d->ended = true;
}

/* arg = enum ir_loop */
void decode_loop(struct decoder *d)
{
    struct ir_op *op = decode_emit(d, IR_JRCXZ);
    op->sub = d->row->arg;
    op->aux = d->asize;
    op->imm = branch_target(d);
}
