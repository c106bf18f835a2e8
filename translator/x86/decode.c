/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The x86 front end's parser and block loop.
 *
 * Every instruction is parsed from a window of at least PARSE_WINDOW readable bytes, so that the parser reads on
 * without asking; only its result is compared with what was really there. Near the page's end the window is a
 * zero-padded copy. A byte of guest memory is read once: another vCPU may be writing it.
 */
#include "translator/x86/decode.h"

#include <errno.h>
#include <string.h>

#include "translator/x86/decode_internal.h"
#include "translator/x86/vex.h"

#define INSN_MAX_BYTES 15
#define PARSE_WINDOW   48 /* 15 prefixes, 3 opcode bytes, ModRM, SIB, 8 displacement, 8 immediate fit well */
#define MAX_INSN_OPS   8  /* ops that one instruction may take */

enum parse_result { PARSE_OK, PARSE_UD, PARSE_GP, PARSE_MORE };

uint8_t decode_segment(const struct decoder *d, unsigned seg, bool *ret_check)
{
    if (decode_is64(d)) {
        *ret_check = false;
        return seg == SEG_FS || seg == SEG_GS ? seg : IR_NONE;
    }
    /* A code segment is never writable, so that CS overrides are checked even in the flat model. */
    if ((d->mode & MODE_FLAT) && seg != SEG_FS && seg != SEG_GS && seg != SEG_CS) {
        *ret_check = false;
        return IR_NONE;
    }
    *ret_check = true;
    return seg;
}

void decode_ea(struct decoder *d, unsigned bytes, unsigned flags)
{
    bool check;
    unsigned seg = decode_segment(d, d->ea_seg, &check);
    struct ir_op *op = decode_emit(d, IR_EA);
    op->size = d->asize;
    op->dst = seg;
    op->src = d->ea_base;
    op->src2 = d->ea_index;
    op->sub = d->ea_scale;
    op->aux = bytes;
    op->imm = d->ea_pcrel ? decode_next(d) + d->disp : d->disp;
    op->flags = flags | (d->ea_pcrel ? IRF_PCREL : 0) | (check && bytes ? IRF_SEGCHECK : 0);
}

struct ir_op *decode_rm(struct decoder *d, enum ir_opcode opcode, unsigned size, enum rm_access access)
{
    struct ir_op *op;
    if (decode_is_mem(d)) {
        decode_ea(d, size, access == RM_DST ? IRF_WRITE : 0);
        op = decode_emit(d, opcode);
        op->flags = (access == RM_SRC ? IRF_SRC_MEM : IRF_DST_MEM) | (d->lock ? IRF_LOCK : 0);
    } else {
        op = decode_emit(d, opcode);
        *(access == RM_SRC ? &op->src : &op->dst) = decode_reg(d, d->rm, size);
    }
    op->size = size;
    return op;
}

unsigned decode_stack_check(const struct decoder *d)
{
    return d->mode & (MODE_CS64 | MODE_FLAT) ? 0 : IRF_SEGCHECK;
}

void decode_raise(struct decoder *d, enum x86_sys what)
{
    struct ir_op *op = decode_emit(d, IR_SYS);
    op->sub = what;
    op->flags = IRF_END;
    d->ended = true;
}

void decode_ud(struct decoder *d)
{
    decode_raise(d, X86_SYS_UD);
}

static inline int64_t take_signed(const uint8_t **cursor, unsigned bytes)
{
    const uint8_t *p = *cursor;
    *cursor += bytes;
    switch (bytes) {
    case 1:
        return (int8_t)p[0];
    case 2: {
        int16_t value;
        memcpy(&value, p, sizeof(value));
        return value;
    }
    case 4: {
        int32_t value;
        memcpy(&value, p, sizeof(value));
        return value;
    }
    default: {
        int64_t value;
        memcpy(&value, p, sizeof(value));
        return value;
    }
    }
}

/* Returns the cursor behind the prefixes; at most INSN_MAX_BYTES of them. */
static const uint8_t *parse_prefixes(struct decoder *d, const uint8_t *start)
{
    const uint8_t *p = start;
    d->rep = d->rex = 0;
    d->lock = d->opsize_prefix = d->addrsize_prefix = false;
    d->seg = IR_NONE;
    for (; p < start + INSN_MAX_BYTES; p++) {
        unsigned seg = IR_NONE;
        uint8_t byte = *p;
        switch (byte) {
        case 0x26:
            seg = SEG_ES;
            break;
        case 0x2e:
            seg = SEG_CS;
            break;
        case 0x36:
            seg = SEG_SS;
            break;
        case 0x3e:
            seg = SEG_DS;
            break;
        case 0x64:
            seg = SEG_FS;
            break;
        case 0x65:
            seg = SEG_GS;
            break;
        case 0x66:
            d->opsize_prefix = true;
            break;
        case 0x67:
            d->addrsize_prefix = true;
            break;
        case 0xf0:
            d->lock = true;
            break;
        case 0xf2:
        case 0xf3:
            d->rep = byte;
            break;
        default:
            if (!decode_is64(d) || (byte & 0xf0) != 0x40) {
                d->opcode = byte;
                return p + 1;
            }
            d->rex = byte; /* counts only when it is the last one */
            continue;
        }
        d->rex = 0;
        /* In 64-bit code the other four overrides have no effect, not even on an earlier FS or GS. */
        if (seg != IR_NONE && (!decode_is64(d) || seg == SEG_FS || seg == SEG_GS))
            d->seg = seg;
    }
    d->opcode = 0;
    return p + 1; /* too long whatever follows */
}

/* C4 and C5 are LES and LDS in real and virtual-8086 mode, and elsewhere outside 64-bit code with a memory operand. */
static bool is_vex(const struct decoder *d, uint8_t next)
{
    return (d->opcode & 0xfe) == 0xc4 && decode_protected(d) && (decode_is64(d) || next >= 0xc0);
}

/* SDM 2A 2.3.5. `*cursor` is behind C4 or C5. */
static const struct decode_row *parse_vex(struct decoder *d, const uint8_t **cursor)
{
    static const uint8_t prefixes[4] = {0, 0x66, 0xf3, 0xf2};
    bool legacy_prefix = d->lock || d->opsize_prefix || d->rep || d->rex;
    bool three = d->opcode == 0xc4;
    const uint8_t *p = *cursor;
    unsigned first = *p++, last = three ? *p++ : first;
    unsigned rxb = ~first >> 5 & (three ? 7 : 4);

    d->map = three ? first & 31 : 1;
    d->opcode = *p++;
    *cursor = p;
    d->vex = true;
    d->vex_w = three && last & 0x80;
    d->vex_l = last & 4;
    d->vex_pp = prefixes[last & 3];
    d->vvvv = (~last >> 3 & 15);
    d->rex = decode_is64(d) ? 0x40 | (d->vex_w ? 8 : 0) | rxb : 0;
    d->vsib = d->map == 2 && (d->opcode & 0xfc) == 0x90;
    return decode_row_vex(legacy_prefix ? 0 : d->map, d->opcode);
}

static const struct decode_row *parse_opcode(struct decoder *d, const uint8_t **cursor)
{
    d->map = 0;
    d->vex = d->vsib = false;
    if (is_vex(d, **cursor))
        return parse_vex(d, cursor);
    if (d->opcode != 0x0f)
        return &decode_map1[d->opcode];

    d->opcode = *(*cursor)++;
    d->map = 1;
    if (d->opcode == 0x38) {
        d->map = 2;
        d->opcode = *(*cursor)++;
        return decode_row_0f38(d->opcode);
    }
    if (d->opcode == 0x3a) {
        d->map = 3;
        d->opcode = *(*cursor)++;
        return &decode_row_vec_imm8;
    }
    return &decode_map0f[d->opcode];
}

static void parse_sizes(struct decoder *d)
{
    unsigned flags = d->row->flags;
    if (decode_is64(d)) {
        if (flags & ROW_F64)
            d->osize = 8;
        else if (d->rex & 8)
            d->osize = 8;
        else if (d->opsize_prefix)
            d->osize = 2;
        else
            d->osize = flags & ROW_D64 ? 8 : 4;
        d->asize = d->addrsize_prefix ? 4 : 8;
    } else {
        bool code32 = d->mode & MODE_CS32;
        d->osize = code32 != d->opsize_prefix ? 4 : 2;
        d->asize = code32 != d->addrsize_prefix ? 4 : 2;
    }
    d->size = flags & ROW_BYTE ? 1 : d->osize;
}

static void parse_ea16(struct decoder *d, const uint8_t **cursor)
{
    static const uint8_t bases[8] = {IR_RBX, IR_RBX, IR_RBP, IR_RBP, IR_RSI, IR_RDI, IR_RBP, IR_RBX};
    static const uint8_t indices[8] = {IR_RSI, IR_RDI, IR_RSI, IR_RDI, IR_NONE, IR_NONE, IR_NONE, IR_NONE};

    d->ea_base = bases[d->rm];
    d->ea_index = indices[d->rm];
    d->ea_scale = 0;
    d->disp = 0;
    if (d->mod == 0 && d->rm == 6) {
        d->ea_base = IR_NONE;
        d->disp = take_signed(cursor, 2);
    } else if (d->mod) {
        d->disp = take_signed(cursor, d->mod == 1 ? 1 : 2);
    }
    d->ea_seg = d->ea_base == IR_RBP ? SEG_SS : SEG_DS;
}

static void parse_ea(struct decoder *d, const uint8_t **cursor)
{
    unsigned base = d->modrm & 7;
    unsigned rex_b = (d->rex & 1) << 3;
    d->ea_index = IR_NONE;
    d->ea_scale = 0;
    d->ea_pcrel = false;
    d->disp = 0;
    if (base == 4) {
        unsigned sib = *(*cursor)++;
        unsigned index = (sib >> 3 & 7) | (d->rex & 2) << 2;
        if (index != 4 || d->vsib) {
            d->ea_index = index;
            d->ea_scale = sib >> 6;
        }
        base = sib & 7;
        d->ea_base = base | rex_b;
        if (base == 5 && d->mod == 0) {
            d->ea_base = IR_NONE;
            d->disp = take_signed(cursor, 4);
        }
    } else if (base == 5 && d->mod == 0) {
        d->ea_base = IR_NONE;
        d->ea_pcrel = decode_is64(d);
        d->disp = take_signed(cursor, 4);
    } else {
        d->ea_base = base | rex_b;
    }
    if (d->mod)
        d->disp = take_signed(cursor, d->mod == 1 ? 1 : 4);
    d->ea_seg = d->ea_base == IR_RSP || d->ea_base == IR_RBP ? SEG_SS : SEG_DS;
}

static void parse_modrm(struct decoder *d, const uint8_t **cursor)
{
    d->modrm = *(*cursor)++;
    d->mod = d->modrm >> 6;
    d->reg = (d->modrm >> 3 & 7) | (d->rex & 4) << 1;
    d->rm = (d->modrm & 7) | (d->rex & 1) << 3;
    if (d->mod == 3)
        return;
    /* MOV to and from control and debug registers have no memory form: mod is ignored. */
    if (d->map == 1 && (d->opcode & 0xfc) == 0x20) {
        d->mod = 3;
        return;
    }
    if (d->asize == 2) {
        d->ea_pcrel = false;
        parse_ea16(d, cursor);
    } else {
        parse_ea(d, cursor);
    }
    if (d->seg != IR_NONE)
        d->ea_seg = d->seg;
}

static void parse_immediate(struct decoder *d, unsigned flags, const uint8_t **cursor)
{
    d->imm = 0; /* handlers shared by rows with and without one read it */
    if (flags & ROW_GROUP3)
        flags |= (d->modrm >> 3 & 7) > 1 ? 0 : flags & ROW_BYTE ? ROW_IMM8 : ROW_IMMZ;
    if (flags & ROW_IMM16) {
        d->imm = (uint16_t)take_signed(cursor, 2);
        if (flags & ROW_IMM8)
            d->imm2 = (uint8_t)take_signed(cursor, 1);
    } else if (flags & ROW_IMM8) {
        d->imm = take_signed(cursor, 1);
    } else if (flags & ROW_IMMZ) {
        d->imm = take_signed(cursor, d->osize == 2 ? 2 : 4);
    } else if (flags & ROW_IMMV) {
        d->imm = take_signed(cursor, d->size);
    } else if (flags & ROW_MOFFS) {
        d->imm = take_signed(cursor, d->asize);
    } else if (flags & ROW_FAR) {
        d->imm = d->osize == 2 ? (int64_t)(uint16_t)take_signed(cursor, 2)
                               : (int64_t)(uint32_t)take_signed(cursor, 4);
        d->imm2 = (uint16_t)take_signed(cursor, 2);
    }
}

static bool find_vec(struct decoder *d)
{
    d->vec = d->vex ? x86_vex_find(d->map, d->vex_pp, d->opcode, d->modrm, d->vex_w, d->vex_l)
                    : x86_vec_find(d->map, decode_prefix(d), d->opcode, d->modrm);
    return d->vec >= 0;
}

static bool vec_has_imm8(const struct decoder *d)
{
    return (d->vex ? x86_vex_insns[d->vec].flags : x86_vec_insns[d->vec].flags) & VECF_IMM8;
}

/* Parses one instruction of which `avail` bytes are really there. */
static enum parse_result parse(struct decoder *d, const uint8_t *start, unsigned avail)
{
    bool bad = false;
    d->imm = 0;
    const uint8_t *p = parse_prefixes(d, start);
    d->row = parse_opcode(d, &p);
    unsigned flags = d->row->flags;
    if (d->row->emit && !(flags & ROW_NO64 && decode_is64(d))) {
        parse_sizes(d);
        if (flags & ROW_MODRM) {
            parse_modrm(d, &p);
        } else {
            d->modrm = 0xc0;
            d->mod = 3;
            d->reg = d->rm = 0;
        }
        if (flags & ROW_VEC) {
            bad = !find_vec(d);
            if (!bad && vec_has_imm8(d))
                flags |= ROW_IMM8;
        }
        parse_immediate(d, flags, &p);
        bad |= d->lock && (!(flags & ROW_LOCK) || !decode_is_mem(d));
    } else {
        d->size = d->osize = 4;
        bad = true;
    }
    d->length = p - start;
    if (d->length > avail && avail < INSN_MAX_BYTES)
        return PARSE_MORE;
    if (d->length > INSN_MAX_BYTES)
        return PARSE_GP;
    return bad ? PARSE_UD : PARSE_OK;
}

static void emit_insn(struct decoder *d)
{
    struct ir_op *op = decode_emit(d, IR_INSN);
    op->size = 0;
    op->imm = d->pc;
    op->aux = d->length;
}

static void translate(struct decoder *d, enum parse_result parsed)
{
    emit_insn(d);
    if (parsed == PARSE_UD)
        decode_ud(d);
    else if (parsed == PARSE_GP || (d->row->flags & ROW_PRIV && !decode_cpl0(d)))
        decode_raise(d, X86_SYS_GP);
    else
        d->row->emit(d);
}

static void emit_end(struct decoder *d)
{
    struct ir_op *op = decode_emit(d, IR_END);
    op->imm = d->pc;
}

int x86_decode_block(const struct x86_decode_input *input, struct ir_block *ret_block)
{
    struct ir_block *block = ret_block;
    struct decoder d;
    d.block = block;
    d.features = input->features;
    d.mode = input->mode;
    d.stack_size = input->mode & MODE_CS64 ? 8 : input->mode & MODE_SS32 ? 4 : 2;
    d.ended = false;
    d.imm2 = 0;

    block->mode = input->mode;
    block->offset = input->offset;
    block->insn_count = block->op_count = 0;
    unsigned max_insns = input->mode & MODE_TF ? 1 : input->max_insns;
    unsigned position = 0;
    while (!d.ended && block->insn_count < max_insns &&
           block->op_count <= IR_BLOCK_MAX_OPS - MAX_INSN_OPS - 1 && position < input->in_page) {
        uint8_t window[PARSE_WINDOW];
        const uint8_t *bytes = input->bytes + position;
        unsigned avail = (block->insn_count ? input->in_page : input->avail) - position;
        if (avail < PARSE_WINDOW) {
            memset(window, 0, sizeof(window));
            memcpy(window, bytes, avail);
            bytes = window;
        }
        d.pc = input->offset + position;
        enum parse_result parsed = parse(&d, bytes, avail);
        if (parsed == PARSE_MORE) {
            if (!block->insn_count)
                return -EAGAIN;
            break;
        }
        translate(&d, parsed);
        block->insn_count++;
        position += d.length;
    }
    block->bytes = position;
    if (!d.ended) {
        d.pc = input->offset + position;
        d.size = d.mode & MODE_CS64 ? 8 : 4;
        emit_end(&d);
    }
    return 0;
}
