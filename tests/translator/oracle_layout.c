/* SPDX-License-Identifier: Apache-2.0 */
/* What both sides of the oracle have in common: code page, exits, segments. See oracle.h. */
#include "tests/translator/oracle.h"

#include <assert.h>
#include <string.h>

#define TYPE_DATA 0x3
#define TYPE_DOWN 0x7
#define TYPE_CODE 0xb

enum { LDT_CODE16, LDT_DATA, LDT_EXTRA, LDT_STACK, LDT_FS16, LDT_GS16, LDT_FS32, LDT_GS32 };

const struct oracle_segment oracle_segments[ORACLE_MODES][6] = {
    [ORACLE_64] = {
        [SEG_CS] = {.selector = ORACLE_USER_CS},
        [SEG_SS] = {.selector = ORACLE_USER_DS},
        [SEG_FS] = {.base = ORACLE_FS_BASE},
        [SEG_GS] = {.base = ORACLE_GS_BASE},
    },
    [ORACLE_32] = {
        [SEG_ES] = {ORACLE_USER_DS, 0, UINT32_MAX, TYPE_DATA, true},
        [SEG_CS] = {ORACLE_USER32_CS, 0, UINT32_MAX, TYPE_CODE, true},
        [SEG_SS] = {ORACLE_USER_DS, 0, UINT32_MAX, TYPE_DATA, true},
        [SEG_DS] = {ORACLE_USER_DS, 0, UINT32_MAX, TYPE_DATA, true},
        [SEG_FS] = {ORACLE_LDT(LDT_FS32), ORACLE_FS_BASE, UINT32_MAX, TYPE_DATA, true},
        [SEG_GS] = {ORACLE_LDT(LDT_GS32), ORACLE_GS_BASE, 0xa7ff, TYPE_DATA, true},
    },
    [ORACLE_16] = {
        [SEG_ES] = {ORACLE_LDT(LDT_EXTRA), ORACLE_DATA + 0x400, 0x1aff, TYPE_DATA, false},
        [SEG_CS] = {ORACLE_LDT(LDT_CODE16), ORACLE_BASE, 0xffff, TYPE_CODE, false},
        [SEG_SS] = {ORACLE_LDT(LDT_STACK), ORACLE_DATA, 0x1f0f, TYPE_DATA, false},
        [SEG_DS] = {ORACLE_LDT(LDT_DATA), ORACLE_DATA, 0x27ff, TYPE_DATA, false},
        [SEG_FS] = {ORACLE_LDT(LDT_FS16), ORACLE_DATA - 0x800, 0xffff, TYPE_DATA, false},
        [SEG_GS] = {ORACLE_LDT(LDT_GS16), ORACLE_DATA, 0x7ff, TYPE_DOWN, false},
    },
};

static unsigned put_exit(uint8_t *at, uint32_t address, enum oracle_mode mode, unsigned which)
{
    uint32_t to = (uint32_t)oracle_exit(mode, which);

    if (mode == ORACLE_16) { /* jmp far, 32-bit offset */
        static const uint16_t selector = ORACLE_USER32_CS;
        memcpy(at, "\x66\xea", 2);
        memcpy(at + 2, &to, 4);
        memcpy(at + 6, &selector, 2);
        return 8;
    }
    to -= address + 5;
    at[0] = 0xe9;
    memcpy(at + 1, &to, 4);
    return 5;
}

void oracle_code_init(struct oracle_code *code, enum oracle_mode mode, const uint8_t *bytes, unsigned length,
                      bool target)
{
    assert(length <= ORACLE_CODE_MAX - 8);
    memset(code, 0, sizeof(*code));
    memset(code->data, 0xf4, sizeof(code->data));
    code->mode = mode;
    code->length = length;
    memcpy(code->data, bytes, length);
    code->bytes = length + put_exit(code->data + length, ORACLE_INSN + length, mode, 0);
    if (target) {
        unsigned at = ORACLE_TARGET - ORACLE_INSN;
        assert(code->bytes <= at);
        code->bytes = at + put_exit(code->data + at, ORACLE_TARGET, mode, 1);
    }
}

/* 64-bit code leaves by the first two entries, the others by the second two, which lead to the first. */
uint64_t oracle_exit(enum oracle_mode mode, unsigned which)
{
    return ORACLE_EXIT + 16 * which + (mode == ORACLE_64 ? 0 : 32);
}

void oracle_exit_page(uint8_t page[0x1000])
{
    static const uint16_t selector = ORACLE_USER_CS;

    memset(page, 0xf4, 0x1000);
    for (unsigned which = 0; which < 2; which++) {
        uint32_t to = (uint32_t)oracle_exit(ORACLE_64, which);
        uint8_t *at = page + oracle_exit(ORACLE_32, which) - ORACLE_EXIT;
        at[0] = 0xea;
        memcpy(at + 1, &to, 4);
        memcpy(at + 5, &selector, 2);
        /* The native side puts `jmp [rip]` and an address at the others: oracle_native_init(). */
    }
}

uint8_t oracle_const_byte(unsigned offset)
{
    return (uint8_t)((offset * 37 + (offset >> 5) * 101) & 0xfe); /* no POPF finds TF in it */
}
