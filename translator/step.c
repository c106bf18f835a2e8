/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One instruction, decoded for the occasion and interpreted.
 *
 * For the shadow of STI and MOV SS with an interrupt waiting behind it: the interrupt comes after exactly one
 * instruction, and not at the end of whatever block begins there ("sti; nop; cli" must let it in).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "translator/engine.h"
#include "translator/interp.h"
#include "translator/vm.h"
#include "translator/x86/decode.h"

#define INSN_BYTES_MAX 15u

static gva_t wrap(const struct x86_cpu *cpu, gva_t la)
{
    return cpu->efer & EFER_LMA ? la : (uint32_t)la;
}

/* Copies up to 15 bytes at `la` that lie in its page; with `second`, goes on in the next one. */
static int fetch(struct x86_cpu *cpu, gva_t la, bool second, uint8_t *bytes, unsigned *ret_in_page)
{
    gpa_t gpa;
    const uint8_t *host;
    unsigned in_page = 4096 - (unsigned)(la & 0xfff);
    unsigned first = in_page < INSN_BYTES_MAX ? in_page : INSN_BYTES_MAX;
    int r = mmu_fetch(cpu, la, &gpa, &host);
    if (r != X86_OK) {
        return r;
    }
    if (!host) {
        snprintf(cpu->fatal, sizeof(cpu->fatal),
                 "the guest executes at physical address %#llx (rip %#llx), where there is no memory",
                 (unsigned long long)gpa, (unsigned long long)cpu->rip);
        cpu->exit_reason = X86_RUN_FATAL;
        return X86_EXIT;
    }
    memcpy(bytes, host, first);
    *ret_in_page = first;
    if (!second || first == INSN_BYTES_MAX) {
        return X86_OK;
    }
    r = mmu_fetch(cpu, wrap(cpu, (la | 0xfff) + 1), &gpa, &host);
    if (r == X86_OK && host) {
        memcpy(bytes + first, host, INSN_BYTES_MAX - first);
    } else if (r == X86_OK) {
        memset(bytes + first, 0xff, INSN_BYTES_MAX - first); /* no memory: reads as an open bus */
    }
    return r;
}

static int step(struct x86_cpu *cpu)
{
    uint8_t bytes[2 * INSN_BYTES_MAX] = {0};
    struct ir_block ir;
    gva_t la = wrap(cpu, cpu->seg[SEG_CS].base + cpu->rip);
    struct x86_decode_input input = {
        .bytes = bytes,
        .offset = (uint16_t)(la & 0xfff),
        .mode = cpu->mode,
        .features = cpu->features,
        .max_insns = 1,
    };
    int r = fetch(cpu, la, false, bytes, &input.in_page);
    if (r != X86_OK) {
        return r;
    }
    input.avail = input.in_page;
    r = x86_decode_block(&input, &ir);
    if (r == -EAGAIN) {
        r = fetch(cpu, la, true, bytes, &input.in_page);
        if (r != X86_OK) {
            return r;
        }
        input.avail = INSN_BYTES_MAX;
        r = x86_decode_block(&input, &ir);
    }
    if (r < 0) {
        snprintf(cpu->fatal, sizeof(cpu->fatal), "no instruction could be decoded at rip %#llx",
                 (unsigned long long)cpu->rip);
        cpu->exit_reason = X86_RUN_FATAL;
        return X86_EXIT;
    }
    cpu->interrupt_shadow = false;
    cpu->code_changed = false;
    return interp_run(cpu, &ir, 0);
}

int engine_step(struct x86_cpu *cpu)
{
    vm_cpu_enter(cpu);
    int r = step(cpu);
    vm_cpu_leave(cpu);
    return r;
}
