/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which x87 encodings exist, and what their memory forms access (SDM 2D table A-7 ff.). The aliases that Intel's and
 * AMD's processors execute without documenting them (FCOM2, FXCH4, FFREEP …) count as existing.
 */
#include "translator/x86/vec.h"

struct mem_form {
    uint8_t bytes;
    bool write;
};

/* [opcode & 7][ModRM /n]; environments with their 32-bit size. */
static const struct mem_form mem_forms[8][8] = {
    [0] = {{4}, {4}, {4}, {4}, {4}, {4}, {4}, {4}},
    [1] = {{4}, {0}, {4, true}, {4, true}, {28}, {2}, {28, true}, {2, true}},
    [2] = {{4}, {4}, {4}, {4}, {4}, {4}, {4}, {4}},
    [3] = {{4}, {4, true}, {4, true}, {4, true}, {0}, {10}, {0}, {10, true}},
    [4] = {{8}, {8}, {8}, {8}, {8}, {8}, {8}, {8}},
    [5] = {{8}, {8, true}, {8, true}, {8, true}, {108}, {0}, {108, true}, {2, true}},
    [6] = {{2}, {2}, {2}, {2}, {2}, {2}, {2}, {2}},
    [7] = {{2}, {2, true}, {2, true}, {2, true}, {10}, {8}, {10, true}, {8, true}},
};

/* [opcode & 7]: bit modrm - 0xc0. */
static const uint64_t reg_forms[8] = {
    [0] = UINT64_MAX,
    [1] = 0xffff7f33ff01ffff, /* FLD FXCH; FNOP; FSTP; FCHS FABS FTST FXAM; constants; F0-FF */
    [2] = 0x00000200ffffffff, /* FCMOVcc; FUCOMPP */
    [3] = 0x00ffff1fffffffff, /* FCMOVNcc; FENI FDISI FNCLEX FNINIT FSETPM; FUCOMI; FCOMI */
    [4] = UINT64_MAX,
    [5] = 0x0000ffffffffffff, /* FFREE FXCH FST FSTP FUCOM FUCOMP */
    [6] = 0xffffffff02ffffff, /* FADDP FMULP FCOMP; FCOMPP; FSUBRP FSUBP FDIVRP FDIVP */
    [7] = 0x00ffff01ffffffff, /* FFREEP FXCH FSTP FSTP; FNSTSW AX; FUCOMIP; FCOMIP */
};

unsigned x86_x87_mem(unsigned opcode, unsigned modrm, unsigned osize, bool *ret_write)
{
    const struct mem_form *form = &mem_forms[opcode & 7][modrm >> 3 & 7];
    bool environment = form->bytes > 10; /* seven fields of four bytes, or of two */

    *ret_write = form->write;
    return environment && osize == 2 ? form->bytes - 14u : form->bytes;
}

bool x86_x87_valid(unsigned opcode, unsigned modrm)
{
    return reg_forms[opcode & 7] >> (modrm & 0x3f) & 1;
}

bool x86_x87_no_wait(unsigned opcode, unsigned modrm)
{
    return modrm < 0xc0 && (opcode & 3) == 1 && (modrm >> 4 & 3) == 3;
}

bool x86_x87_sets_fip(unsigned opcode, unsigned modrm)
{
    if (modrm < 0xc0)
        return (opcode & 3) != 1 || (modrm >> 3 & 7) < 4;
    return !(opcode == 7 && modrm == 0xe0) && !(opcode == 3 && modrm >= 0xe0 && modrm <= 0xe4);
}
