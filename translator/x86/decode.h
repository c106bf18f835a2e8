/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86 front end: guest bytes -> IR.
 *
 * Pure: reads only its arguments. Driven by tables of its own (decode_tables.c, x86_vec_insns[]): lengths fall out of
 * parsing the operands, about 17 ns an instruction where Zydis alone takes 42 (docs/decisions/0020); Zydis checks it in the tests.
 * What the guest's CPUID hides raises #UD (an IR_SYS X86_SYS_UD ends the block), and so does what the mode forbids.
 */
#pragma once

#include <stdint.h>

#include "translator/ir.h"

struct x86_decode_input {
    const uint8_t *bytes;  /* code at the block's first instruction */
    unsigned avail;        /* bytes up to the end of the page, plus up to 15 of the next page if `next_page` */
    unsigned in_page;      /* of which lie in the first page */
    uint16_t offset;       /* of bytes[0] in its page */
    uint32_t mode;         /* enum x86_mode */
    const uint32_t *features; /* X86_FEATURE_WORDS words of what the guest may use (translator/x86/features.h) */
    unsigned max_insns;    /* 1 .. IR_BLOCK_MAX_INSNS */
};

/*
 * Decodes one block. Returns 0, or -EAGAIN when the *first* instruction needs bytes of the next page that are not there
 * (`avail` == `in_page`): the caller fetches the next page (which may fault) and calls again. A later instruction that
 * straddles ends the block before it. An instruction longer than 15 bytes raises #GP, as on hardware.
 */
int x86_decode_block(const struct x86_decode_input *input, struct ir_block *ret_block);
