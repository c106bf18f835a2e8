/* SPDX-License-Identifier: Apache-2.0 */
/* Reference implementation: AES round instructions (FIPS 197), SHA-1 and SHA-256 (FIPS 180-4), PCLMULQDQ,
 * GFNI. */
#include "translator/x86/vec_internal.h"

/* --- AES ----------------------------------------------------------------------------------------------------- */

static const uint8_t sbox[256] = {
    // clang-format off
    0x63, 0x7c, 0x77, 0x7b, 0xf2, 0x6b, 0x6f, 0xc5, 0x30, 0x01, 0x67, 0x2b, 0xfe, 0xd7, 0xab, 0x76,
    0xca, 0x82, 0xc9, 0x7d, 0xfa, 0x59, 0x47, 0xf0, 0xad, 0xd4, 0xa2, 0xaf, 0x9c, 0xa4, 0x72, 0xc0,
    0xb7, 0xfd, 0x93, 0x26, 0x36, 0x3f, 0xf7, 0xcc, 0x34, 0xa5, 0xe5, 0xf1, 0x71, 0xd8, 0x31, 0x15,
    0x04, 0xc7, 0x23, 0xc3, 0x18, 0x96, 0x05, 0x9a, 0x07, 0x12, 0x80, 0xe2, 0xeb, 0x27, 0xb2, 0x75,
    0x09, 0x83, 0x2c, 0x1a, 0x1b, 0x6e, 0x5a, 0xa0, 0x52, 0x3b, 0xd6, 0xb3, 0x29, 0xe3, 0x2f, 0x84,
    0x53, 0xd1, 0x00, 0xed, 0x20, 0xfc, 0xb1, 0x5b, 0x6a, 0xcb, 0xbe, 0x39, 0x4a, 0x4c, 0x58, 0xcf,
    0xd0, 0xef, 0xaa, 0xfb, 0x43, 0x4d, 0x33, 0x85, 0x45, 0xf9, 0x02, 0x7f, 0x50, 0x3c, 0x9f, 0xa8,
    0x51, 0xa3, 0x40, 0x8f, 0x92, 0x9d, 0x38, 0xf5, 0xbc, 0xb6, 0xda, 0x21, 0x10, 0xff, 0xf3, 0xd2,
    0xcd, 0x0c, 0x13, 0xec, 0x5f, 0x97, 0x44, 0x17, 0xc4, 0xa7, 0x7e, 0x3d, 0x64, 0x5d, 0x19, 0x73,
    0x60, 0x81, 0x4f, 0xdc, 0x22, 0x2a, 0x90, 0x88, 0x46, 0xee, 0xb8, 0x14, 0xde, 0x5e, 0x0b, 0xdb,
    0xe0, 0x32, 0x3a, 0x0a, 0x49, 0x06, 0x24, 0x5c, 0xc2, 0xd3, 0xac, 0x62, 0x91, 0x95, 0xe4, 0x79,
    0xe7, 0xc8, 0x37, 0x6d, 0x8d, 0xd5, 0x4e, 0xa9, 0x6c, 0x56, 0xf4, 0xea, 0x65, 0x7a, 0xae, 0x08,
    0xba, 0x78, 0x25, 0x2e, 0x1c, 0xa6, 0xb4, 0xc6, 0xe8, 0xdd, 0x74, 0x1f, 0x4b, 0xbd, 0x8b, 0x8a,
    0x70, 0x3e, 0xb5, 0x66, 0x48, 0x03, 0xf6, 0x0e, 0x61, 0x35, 0x57, 0xb9, 0x86, 0xc1, 0x1d, 0x9e,
    0xe1, 0xf8, 0x98, 0x11, 0x69, 0xd9, 0x8e, 0x94, 0x9b, 0x1e, 0x87, 0xe9, 0xce, 0x55, 0x28, 0xdf,
    0x8c, 0xa1, 0x89, 0x0d, 0xbf, 0xe6, 0x42, 0x68, 0x41, 0x99, 0x2d, 0x0f, 0xb0, 0x54, 0xbb, 0x16,
    // clang-format on
};

static uint8_t inverse_sbox[256];

__attribute__((constructor)) static void inverse_sbox_fill(void)
{
    for (unsigned i = 0; i < 256; i++)
        inverse_sbox[sbox[i]] = (uint8_t)i;
}

/* Multiplication in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1. */
static uint8_t gf_mul(uint8_t a, uint8_t b)
{
    uint8_t product = 0;

    for (; b; b >>= 1) {
        if (b & 1)
            product ^= a;
        a = (uint8_t)(a << 1 ^ (a & 0x80 ? 0x1b : 0));
    }
    return product;
}

static void mix_columns(union x86_vec *v, const uint8_t row[4])
{
    for (unsigned column = 0; column < 16; column += 4) {
        uint8_t in[4];
        memcpy(in, &v->b[column], 4);
        for (unsigned i = 0; i < 4; i++) {
            uint8_t sum = 0;
            for (unsigned j = 0; j < 4; j++)
                sum ^= gf_mul(in[j], row[(j - i) & 3]);
            v->b[column + i] = sum;
        }
    }
}

/* ShiftRows and SubBytes, or their inverses. */
static void shift_and_substitute(union x86_vec *v, bool inverse)
{
    union x86_vec in = *v;

    for (unsigned i = 0; i < 16; i++) {
        unsigned from = (i + 4 * (i & 3)) & 15;
        if (inverse)
            v->b[from] = inverse_sbox[in.b[i]];
        else
            v->b[i] = sbox[in.b[from]];
    }
}

static uint32_t substitute_word(uint32_t word)
{
    return sbox[word & 0xff] | (uint32_t)sbox[word >> 8 & 0xff] << 8 |
           (uint32_t)sbox[word >> 16 & 0xff] << 16 | (uint32_t)sbox[word >> 24] << 24;
}

static uint32_t rotate_right(uint32_t word, unsigned count)
{
    return word >> count | word << (32 - count);
}

static uint32_t rotate_left(uint32_t word, unsigned count)
{
    return word << count | word >> (32 - count);
}

static void key_assist(union x86_vec *d, const union x86_vec *s, uint32_t round_constant)
{
    for (unsigned i = 0; i < 2; i++) {
        uint32_t word = substitute_word(s->d[2 * i + 1]);
        d->d[2 * i] = word;
        d->d[2 * i + 1] = rotate_right(word, 8) ^ round_constant;
    }
}

int vec_aes(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn, union x86_vec *mem)
{
    static const uint8_t forward[4] = {2, 3, 1, 1}, backward[4] = {14, 11, 13, 9};
    union x86_vec state, key;

    vec_get_reg(cpu, op, insn, &state);
    vec_get_rm(cpu, op, insn, mem, &key);
    if (insn->map == 3) {
        key_assist(&state, &key, (uint8_t)op->imm);
    } else if (insn->opcode == 0xdb) { /* AESIMC */
        state = key;
        mix_columns(&state, backward);
    } else {
        bool inverse = insn->opcode >= 0xde, last = insn->opcode & 1;
        shift_and_substitute(&state, inverse);
        if (!last)
            mix_columns(&state, inverse ? backward : forward);
        state.q[0] ^= key.q[0];
        state.q[1] ^= key.q[1];
    }
    vec_put_reg(cpu, op, insn, &state);
    return X86_OK;
}

/* --- SHA ----------------------------------------------------------------------------------------------------- */

static uint32_t choose(uint32_t x, uint32_t y, uint32_t z)
{
    return (x & y) ^ (~x & z);
}

static uint32_t majority(uint32_t x, uint32_t y, uint32_t z)
{
    return (x & y) ^ (x & z) ^ (y & z);
}

static uint32_t sha1_f(unsigned group, uint32_t b, uint32_t c, uint32_t d)
{
    return group == 0 ? choose(b, c, d) : group == 2 ? majority(b, c, d) : b ^ c ^ d;
}

static void sha1_rounds(union x86_vec *state, const union x86_vec *words, unsigned group)
{
    static const uint32_t constant[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
    uint32_t a = state->d[3], b = state->d[2], c = state->d[1], d = state->d[0], e = 0;

    for (unsigned i = 0; i < 4; i++) {
        uint32_t next = sha1_f(group, b, c, d) + rotate_left(a, 5) + words->d[3 - i] + e + constant[group];
        e = d;
        d = c;
        c = rotate_left(b, 30);
        b = a;
        a = next;
    }
    *state = (union x86_vec){.d = {d, c, b, a}};
}

static void sha256_rounds(union x86_vec *cdgh, const union x86_vec *abef, const union x86_vec *words)
{
    uint32_t a = abef->d[3], b = abef->d[2], c = cdgh->d[3], d = cdgh->d[2];
    uint32_t e = abef->d[1], f = abef->d[0], g = cdgh->d[1], h = cdgh->d[0];

    for (unsigned i = 0; i < 2; i++) {
        uint32_t s1 = rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25);
        uint32_t s0 = rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22);
        uint32_t t = choose(e, f, g) + s1 + words->d[i] + h;
        h = g;
        g = f;
        f = e;
        e = d + t;
        d = c;
        c = b;
        b = a;
        a = t + majority(b, c, d) + s0;
    }
    *cdgh = (union x86_vec){.d = {f, e, b, a}};
}

static uint32_t sigma0(uint32_t w)
{
    return rotate_right(w, 7) ^ rotate_right(w, 18) ^ w >> 3;
}

static uint32_t sigma1(uint32_t w)
{
    return rotate_right(w, 17) ^ rotate_right(w, 19) ^ w >> 10;
}

static void sha1_message2(union x86_vec *d, const union x86_vec *s)
{
    uint32_t w16 = rotate_left(d->d[3] ^ s->d[2], 1), w17 = rotate_left(d->d[2] ^ s->d[1], 1);
    uint32_t w18 = rotate_left(d->d[1] ^ s->d[0], 1), w19 = rotate_left(d->d[0] ^ w16, 1);

    *d = (union x86_vec){.d = {w19, w18, w17, w16}};
}

static void sha256_message2(union x86_vec *d, const union x86_vec *s)
{
    uint32_t w16 = d->d[0] + sigma1(s->d[2]), w17 = d->d[1] + sigma1(s->d[3]);

    *d = (union x86_vec){.d = {w16, w17, d->d[2] + sigma1(w16), d->d[3] + sigma1(w17)}};
}

int vec_sha(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn, union x86_vec *mem)
{
    union x86_vec d, s;

    vec_get_reg(cpu, op, insn, &d);
    vec_get_rm(cpu, op, insn, mem, &s);
    if (insn->map == 3) {
        sha1_rounds(&d, &s, op->imm & 3);
    } else if (insn->opcode == 0xc8) { /* SHA1NEXTE */
        uint32_t e = rotate_left(d.d[3], 30);
        d = s;
        d.d[3] += e;
    } else if (insn->opcode == 0xc9) { /* SHA1MSG1 */
        d = (union x86_vec){.d = {d.d[0] ^ s.d[2], d.d[1] ^ s.d[3], d.d[2] ^ d.d[0], d.d[3] ^ d.d[1]}};
    } else if (insn->opcode == 0xca) {
        sha1_message2(&d, &s);
    } else if (insn->opcode == 0xcb) {
        sha256_rounds(&d, &s, &cpu->vec[0]);
    } else if (insn->opcode == 0xcc) { /* SHA256MSG1 */
        d = (union x86_vec){.d = {d.d[0] + sigma0(d.d[1]), d.d[1] + sigma0(d.d[2]), d.d[2] + sigma0(d.d[3]),
                                  d.d[3] + sigma0(s.d[0])}};
    } else {
        sha256_message2(&d, &s);
    }
    vec_put_reg(cpu, op, insn, &d);
    return X86_OK;
}

/* --- carry-less multiplication ------------------------------------------------------------------------------- */

int vec_pclmul(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn,
               union x86_vec *mem)
{
    union x86_vec a, b;
    unsigned __int128 product = 0;

    vec_get_reg(cpu, op, insn, &a);
    vec_get_rm(cpu, op, insn, mem, &b);
    for (unsigned i = 0; i < 64; i++)
        if (b.q[op->imm >> 4 & 1] >> i & 1)
            product ^= (unsigned __int128)a.q[op->imm & 1] << i;
    a.q[0] = (uint64_t)product;
    a.q[1] = (uint64_t)(product >> 64);
    vec_put_reg(cpu, op, insn, &a);
    return X86_OK;
}

/* --- GF(2^8) ------------------------------------------------------------------------------------------------- */

/* x^254, which is 1/x, and 0 for 0. */
static uint8_t gf_inverse(uint8_t x)
{
    uint8_t result = 1;

    for (unsigned i = 0; i < 7; i++) {
        x = gf_mul(x, x);
        result = gf_mul(result, x);
    }
    return result;
}

/* Row i of the matrix, which gives bit i of the product, is its byte 7 - i. */
static uint8_t gf_matrix_mul(uint64_t matrix, uint8_t x)
{
    uint8_t result = 0;

    for (unsigned i = 0; i < 8; i++)
        result |= (uint8_t)(__builtin_parity((uint8_t)(matrix >> (56 - 8 * i)) & x) << i);
    return result;
}

int vec_gfni(struct x86_cpu *cpu, const struct ir_op *op, const struct x86_vec_insn *insn, union x86_vec *mem)
{
    union x86_vec d, s;
    bool affine = insn->map == 3, inverse = affine && insn->opcode == 0xcf;

    vec_get_reg(cpu, op, insn, &d);
    vec_get_rm(cpu, op, insn, mem, &s);
    for (unsigned i = 0; i < 16; i++) {
        uint8_t x = inverse ? gf_inverse(d.b[i]) : d.b[i];
        d.b[i] = affine ? gf_matrix_mul(s.q[i / 8], x) ^ (uint8_t)op->imm : gf_mul(x, s.b[i]);
    }
    vec_put_reg(cpu, op, insn, &d);
    return X86_OK;
}
