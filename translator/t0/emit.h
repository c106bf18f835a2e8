/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86_64 encoder for T0: bytes into a bounded buffer.
 *
 * Writes through the code cache's writable alias; addresses of the executable alias are `pointer + rx_delta`. Running
 * out of space sets `overflow` and writes nothing more; the compiler checks it once per block. Encodings: SDM 2A ch. 2.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum host_reg {
    H_RAX, H_RCX, H_RDX, H_RBX, H_RSP, H_RBP, H_RSI, H_RDI, H_R8, H_R9, H_R10, H_R11, H_R12, H_R13, H_R14, H_R15,
    H_NONE = 0xff,
};

struct emitter {
    uint8_t *p, *end;
    intptr_t rx_delta;
    bool overflow;
};

/* A ModRM operand: a register, or memory [base + index << scale + disp]. */
struct rm {
    bool mem;
    uint8_t base; /* the register itself when !mem */
    uint8_t index;
    uint8_t scale;
    int32_t disp;
};

static inline struct rm rm_reg(unsigned reg)
{
    return (struct rm){.base = (uint8_t)reg, .index = H_NONE};
}

static inline struct rm rm_mem(unsigned base, int32_t disp)
{
    return (struct rm){.mem = true, .base = (uint8_t)base, .index = H_NONE, .disp = disp};
}

static inline struct rm rm_sib(unsigned base, unsigned index, unsigned scale, int32_t disp)
{
    return (struct rm){
        .mem = true, .base = (uint8_t)base, .index = (uint8_t)index, .scale = (uint8_t)scale, .disp = disp};
}

static inline void emit8(struct emitter *e, unsigned byte)
{
    if (e->p < e->end) {
        *e->p++ = (uint8_t)byte;
    } else {
        e->overflow = true;
    }
}

static inline void emit32(struct emitter *e, uint32_t value)
{
    if (e->end - e->p >= 4) {
        memcpy(e->p, &value, 4);
        e->p += 4;
    } else {
        e->overflow = true;
    }
}

static inline void emit64(struct emitter *e, uint64_t value)
{
    emit32(e, (uint32_t)value);
    emit32(e, (uint32_t)(value >> 32));
}

enum emit_flag {
    EMIT_W     = 1 << 0, /* REX.W */
    EMIT_BYTE  = 1 << 1, /* reg is a byte register (SPL.. need REX) */
    EMIT_BYTERM = 1 << 2, /* rm is a byte register */
    EMIT_66    = 1 << 3,
    EMIT_F2    = 1 << 4,
    EMIT_F3    = 1 << 5,
    EMIT_LOCK  = 1 << 6,
    EMIT_L     = 1 << 7, /* VEX.L */
};

/* ModRM, SIB and displacement. */
static inline void emit_modrm(struct emitter *e, unsigned reg, struct rm rm)
{
    reg = (reg & 7) << 3;
    if (!rm.mem) {
        emit8(e, 0xc0 | reg | (rm.base & 7));
        return;
    }
    if (rm.base == H_NONE) { /* [index << scale + disp32] or absolute disp32 */
        emit8(e, reg | 4);
        emit8(e, (unsigned)rm.scale << 6 | (rm.index == H_NONE ? 4u : rm.index & 7u) << 3 | 5);
        emit32(e, (uint32_t)rm.disp);
        return;
    }
    unsigned mod = rm.disp == 0 && (rm.base & 7) != 5 ? 0 : rm.disp >= -128 && rm.disp <= 127 ? 1 : 2;
    if (rm.index == H_NONE && (rm.base & 7) != 4) {
        emit8(e, mod << 6 | reg | (rm.base & 7));
    } else {
        emit8(e, mod << 6 | reg | 4);
        emit8(e, (unsigned)rm.scale << 6 | (rm.index == H_NONE ? 4u : rm.index & 7u) << 3 | (rm.base & 7));
    }
    if (mod == 1) {
        emit8(e, (uint8_t)rm.disp);
    } else if (mod == 2) {
        emit32(e, (uint32_t)rm.disp);
    }
}

/* Extension bits R, X and B of a prefix, as in REX. */
static inline unsigned emit_rxb(unsigned reg, struct rm rm)
{
    return (reg >= 8 ? 4u : 0) | (rm.mem && rm.index != H_NONE && rm.index >= 8 ? 2u : 0) |
           (rm.base != H_NONE && rm.base >= 8 ? 1u : 0);
}

/* One instruction: prefixes, REX, escape (map 0 none, 1 0F, 2 0F38, 3 0F3A), opcode, ModRM, SIB, displacement. */
static inline void emit_insn(struct emitter *e, unsigned flags, unsigned map, unsigned opcode, unsigned reg,
                             struct rm rm)
{
    unsigned rex = (flags & EMIT_W ? 8 : 0) | emit_rxb(reg, rm);
    bool need_rex = rex || (flags & EMIT_BYTE && reg >= 4) || (flags & EMIT_BYTERM && !rm.mem && rm.base >= 4);
    if (flags & EMIT_LOCK) {
        emit8(e, 0xf0);
    }
    if (flags & EMIT_66) {
        emit8(e, 0x66);
    }
    if (flags & EMIT_F2) {
        emit8(e, 0xf2);
    }
    if (flags & EMIT_F3) {
        emit8(e, 0xf3);
    }
    if (need_rex) {
        emit8(e, 0x40 | rex);
    }
    if (map) {
        emit8(e, 0x0f);
        if (map > 1) {
            emit8(e, map == 2 ? 0x38 : 0x3a);
        }
    }
    emit8(e, opcode);
    emit_modrm(e, reg, rm);
}

/* One VEX-encoded instruction. `flags`: EMIT_W, EMIT_L and one of EMIT_66, EMIT_F2, EMIT_F3; `vvvv` is 0 where nothing is
 * named. */
static inline void emit_vex(struct emitter *e, unsigned flags, unsigned map, unsigned opcode, unsigned reg,
                            unsigned vvvv, struct rm rm)
{
    unsigned pp = flags & EMIT_66 ? 1 : flags & EMIT_F3 ? 2 : flags & EMIT_F2 ? 3 : 0;
    emit8(e, 0xc4);
    emit8(e, (~emit_rxb(reg, rm) & 7) << 5 | map);
    emit8(e, (flags & EMIT_W ? 0x80u : 0) | (~vvvv & 15) << 3 | (flags & EMIT_L ? 4u : 0) | pp);
    emit8(e, opcode);
    emit_modrm(e, reg, rm);
}

/* Flags for an integer operand of `size` bytes whose reg and rm are both that wide. */
static inline unsigned emit_size(unsigned size)
{
    return size == 8 ? EMIT_W : size == 2 ? EMIT_66 : size == 1 ? EMIT_BYTE | EMIT_BYTERM : 0;
}

/* An opcode pair whose byte form is `opcode` and whose wider form is `opcode + 1` (ADD 00/01, MOV 88/89, TEST 84/85…). */
static inline void emit_sized(struct emitter *e, unsigned size, unsigned map, unsigned opcode, unsigned reg, struct rm rm)
{
    emit_insn(e, emit_size(size), map, opcode + (size == 1 ? 0 : 1), reg, rm);
}

static inline void emit_mov_rr(struct emitter *e, unsigned size, unsigned dst, unsigned src)
{
    emit_sized(e, size, 0, 0x88, src, rm_reg(dst));
}

static inline void emit_load(struct emitter *e, unsigned size, unsigned dst, struct rm mem)
{
    emit_sized(e, size, 0, 0x8a, dst, mem);
}

static inline void emit_store(struct emitter *e, unsigned size, unsigned src, struct rm mem)
{
    emit_sized(e, size, 0, 0x88, src, mem);
}

static inline void emit_lea(struct emitter *e, unsigned size, unsigned dst, struct rm mem)
{
    emit_insn(e, size == 8 ? EMIT_W : size == 2 ? EMIT_66 : 0, 0, 0x8d, dst, mem);
}

/* dst = value, flags untouched; shortest form. */
static inline void emit_mov_imm(struct emitter *e, unsigned dst, uint64_t value)
{
    if (value <= UINT32_MAX) {
        if (dst >= 8) {
            emit8(e, 0x41);
        }
        emit8(e, 0xb8 | (dst & 7));
        emit32(e, (uint32_t)value);
    } else if ((int64_t)value == (int32_t)value) {
        emit_insn(e, EMIT_W, 0, 0xc7, 0, rm_reg(dst));
        emit32(e, (uint32_t)value);
    } else {
        emit8(e, 0x48 | (dst >= 8 ? 1 : 0));
        emit8(e, 0xb8 | (dst & 7));
        emit64(e, value);
    }
}

static inline void emit_imm(struct emitter *e, unsigned size, int64_t imm)
{
    if (size == 1) {
        emit8(e, (uint8_t)imm);
    } else if (size == 2) {
        emit8(e, (uint8_t)imm);
        emit8(e, (uint8_t)(imm >> 8));
    } else {
        emit32(e, (uint32_t)imm);
    }
}

/* ALU group 80/81/83: `op` is enum ir_alu's number (0..7). The immediate must fit 32 bits sign-extended. */
static inline void emit_alu_imm(struct emitter *e, unsigned flags, unsigned op, unsigned size, struct rm rm, int64_t imm)
{
    flags |= emit_size(size) & ~(unsigned)EMIT_BYTE;
    if (size == 1) {
        emit_insn(e, flags, 0, 0x80, op, rm);
        emit8(e, (uint8_t)imm);
    } else if (imm >= -128 && imm <= 127) {
        emit_insn(e, flags, 0, 0x83, op, rm);
        emit8(e, (uint8_t)imm);
    } else {
        emit_insn(e, flags, 0, 0x81, op, rm);
        emit_imm(e, size, imm);
    }
}

static inline uint8_t *emit_rx(const struct emitter *e)
{
    return e->p + e->rx_delta;
}

/* Jumps and calls to executable addresses within 2 GiB. */
static inline void emit_rel32(struct emitter *e, const uint8_t *rx_target)
{
    emit32(e, (uint32_t)(rx_target - (emit_rx(e) + 4)));
}

static inline void emit_jmp(struct emitter *e, const uint8_t *rx_target)
{
    emit8(e, 0xe9);
    emit_rel32(e, rx_target);
}

static inline void emit_call(struct emitter *e, const uint8_t *rx_target)
{
    emit8(e, 0xe8);
    emit_rel32(e, rx_target);
}

static inline void emit_jcc(struct emitter *e, unsigned cc, const uint8_t *rx_target)
{
    emit8(e, 0x0f);
    emit8(e, 0x80 | cc);
    emit_rel32(e, rx_target);
}

/* A forward jcc/jmp whose target is not known yet; returns where its rel32 stands. */
static inline uint8_t *emit_jcc_forward(struct emitter *e, unsigned cc)
{
    emit8(e, 0x0f);
    emit8(e, 0x80 | cc);
    emit32(e, 0);
    return e->p - 4;
}

static inline uint8_t *emit_jmp_forward(struct emitter *e)
{
    emit8(e, 0xe9);
    emit32(e, 0);
    return e->p - 4;
}

static inline void emit_bind(struct emitter *e, uint8_t *rel32)
{
    if (!e->overflow) {
        uint32_t value = (uint32_t)(e->p - (rel32 + 4));
        memcpy(rel32, &value, 4);
    }
}

/* Multi-byte NOPs until the position is `align`ed after `lead` more bytes. */
static inline void emit_align(struct emitter *e, unsigned align, unsigned lead)
{
    while (((uintptr_t)e->p + lead) & (align - 1)) {
        emit8(e, 0x90);
    }
}
