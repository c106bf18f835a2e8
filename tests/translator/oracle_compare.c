/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/translator/oracle_compare.h"

#include <stdio.h>
#include <string.h>

#include "translator/ir.h"

/* Where Linux stops telling whether a page is present. */
#define HOST_END 0x7ffffffff000ull

void outcome_normalise(const struct scope *scope, struct oracle_state *state)
{
    state->rflags &= scope->flags;
    for (unsigned i = 0; i < 8; i++)
        memset(state->fx.st[i] + 10, 0, 6);
    state->fx.reserved = 0;
    state->fx.mxcsr_mask = 0;
    memset(state->fx.pad, 0, sizeof(state->fx.pad));
    /* When it ends at once, processors differ in whether they have already cleared the upper halves. */
    for (unsigned i = 0; i < 3 && scope->rep32; i++) {
        static const uint8_t registers[] = {IR_RCX, IR_RSI, IR_RDI};
        state->gpr[registers[i]] = (uint32_t)state->gpr[registers[i]];
    }
    /* The kernel's return to the signal handler makes all null selectors zero. */
    for (unsigned i = 0; i < 6; i++)
        state->seg[i] = state->seg[i] < 4 ? 0 : state->seg[i];
    if (scope->mode == ORACLE_64) {
        state->seg[SEG_CS] = 0;
    } else {
        /* Only the lower halves of eight registers exist; bases follow from selectors. */
        for (unsigned i = 0; i < 16; i++)
            state->gpr[i] = i < 8 ? (uint32_t)state->gpr[i] : 0;
        state->fs_base = state->gs_base = 0;
    }
}

static void differ(GString *report, const char *what, uint64_t native, uint64_t guest)
{
    if (native != guest)
        g_string_append_printf(report, "    %-8s native %016lx  guest %016lx\n", what, native, guest);
}

static void compare_bytes(GString *report, const char *what, unsigned number, const uint8_t *native,
                          const uint8_t *guest, unsigned bytes)
{
    if (!memcmp(native, guest, bytes))
        return;
    g_string_append_printf(report, "    %s%-6u native ", what, number);
    for (unsigned i = bytes; i-- > 0;)
        g_string_append_printf(report, "%02x", native[i]);
    g_string_append(report, "  guest ");
    for (unsigned i = bytes; i-- > 0;)
        g_string_append_printf(report, "%02x", guest[i]);
    g_string_append(report, "\n");
}

static bool memory_fault(const struct oracle_state *state)
{
    return state->vector == EXC_PF || state->vector == EXC_GP || state->vector == EXC_SS ||
           state->vector == EXC_AC;
}

static void compare_fault(const struct scope *scope, const struct oracle_state *native,
                          const struct oracle_state *guest, GString *report)
{
    /* BOUND compares with the lower limit before it reads the upper one. An image has to fit into a segment with all components. */
    if ((scope->rules & RULE_ANY_BYTE && native->vector == EXC_BR && memory_fault(guest)) ||
        (scope->rules & RULE_XIMAGE && scope->mode == ORACLE_16 && native->vector != guest->vector))
        return;
    /* Whether bytes that the mask leaves out fault. */
    if (scope->rules & (RULE_GOOD | RULE_XIMAGE) && (native->vector == EXC_PF || guest->vector == EXC_PF))
        return;
    bool same = native->vector == guest->vector;
    if (!same && memory_fault(native) && memory_fault(guest) &&
        (scope->rules & RULE_ANY_BYTE || scope->any_order ||
         (scope->any_segment_fault && native->vector != EXC_PF && guest->vector != EXC_PF)))
        return;
    /* A store that an unmasked exception or its mask prevents does not look at its segment: here it does. */
    bool prevented = (scope->x87 && native->vector == -1 && native->fx.fsw & 0x80) ||
                     (scope->rules & RULE_LAZY && (native->vector == -1 || native->vector == EXC_XM));
    if (prevented && scope->mode != ORACLE_64 && (guest->vector == EXC_GP || guest->vector == EXC_SS))
        return;
    differ(report, "vector", (uint64_t)native->vector, (uint64_t)guest->vector);
    if (native->address < HOST_END && !(scope->rules & RULE_ANY_BYTE && native->vector == EXC_PF))
        differ(report, "error", native->error, guest->error);
    if (!(scope->rules & RULE_ANY_BYTE))
        differ(report, "cr2", native->address, guest->address);
    differ(report, "rip", native->rip, guest->rip);
}

static void compare_fpu(const struct scope *scope, const struct oracle_state *native,
                        const struct oracle_state *guest, GString *report)
{
    /* A faulting MMX instruction has already made TOP zero on some processors. */
    bool x87 = !(scope->x87 && memory_fault(native));

    for (unsigned i = 0; i < 16; i++)
        compare_bytes(report, "xmm", i, native->fx.xmm[i], guest->fx.xmm[i], 16);
    for (unsigned i = 0; i < 16; i++)
        compare_bytes(report, "ymmh", i, native->ymm_high[i], guest->ymm_high[i], 16);
    differ(report, "mxcsr", native->fx.mxcsr, guest->fx.mxcsr);
    differ(report, "fcw", native->fx.fcw, guest->fx.fcw);
    differ(report, "ftw", native->fx.ftw, guest->fx.ftw);
    if (!x87)
        return;
    differ(report, "fsw", native->fx.fsw, guest->fx.fsw);
    for (unsigned i = 0; i < 8; i++)
        compare_bytes(report, "st", i, native->fx.st[i], guest->fx.st[i], 10);
    differ(report, "fop", native->fx.fop, guest->fx.fop);
    differ(report, "fip", native->fx.fip, guest->fx.fip);
    differ(report, "fdp", native->fx.fdp, guest->fx.fdp);
}

bool outcome_compare(const struct scope *scope, const struct oracle_state *native,
                     const struct oracle_state *guest, GString *report)
{
    static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    static const char *const segments[6] = {"es", "cs", "ss", "ds", "fs", "gs"};

    if (!memcmp(native, guest, sizeof(*native)))
        return true;
    gsize before = report->len;
    compare_fault(scope, native, guest, report);
    if (native->vector != guest->vector || (scope->rules & RULE_GOOD && native->vector == EXC_PF))
        return report->len == before;
    bool data = !(scope->rules & (RULE_ANY_BYTE | RULE_GOOD) && memory_fault(native));
    for (unsigned i = 0; i < 16 && data; i++)
        differ(report, names[i], native->gpr[i], guest->gpr[i]);
    differ(report, "rflags", native->rflags, guest->rflags);
    for (unsigned i = 0; i < 6; i++)
        differ(report, segments[i], native->seg[i], guest->seg[i]);
    differ(report, "fs base", native->fs_base, guest->fs_base);
    differ(report, "gs base", native->gs_base, guest->gs_base);
    if (data)
        compare_fpu(scope, native, guest, report);
    for (unsigned i = 0; i < ORACLE_DATA_BYTES && data; i += 16)
        if (memcmp(native->data + i, guest->data + i, 16))
            compare_bytes(report, "data+", i, native->data + i, guest->data + i, 16);
    return report->len == before;
}

void state_print(const struct oracle_state *state, uint64_t address)
{
    printf("  before: rflags %lx mxcsr %x fcw %x fsw %x ftw %x, operand at %lx\n", state->rflags,
           state->fx.mxcsr, state->fx.fcw, state->fx.fsw, state->fx.ftw, address);
    for (unsigned i = 0; i < 16; i++) {
        uint64_t words[4];
        memcpy(words, state->fx.xmm[i], 16);
        memcpy(words + 2, state->ymm_high[i], 16);
        printf("    r%-2u %016lx  ymm%-2u %016lx%016lx%016lx%016lx\n", i, state->gpr[i], i, words[3],
               words[2], words[1], words[0]);
    }
    for (unsigned i = 0; i < 8; i++) {
        uint64_t significand;
        uint16_t exponent;
        memcpy(&significand, state->fx.st[i], 8);
        memcpy(&exponent, state->fx.st[i] + 8, 2);
        printf("    st%u %04x %016lx%s", i, exponent, significand, i & 1 ? "\n" : "");
    }
    if (address - ORACLE_DATA < ORACLE_DATA_BYTES - 32) {
        printf("    operand ");
        for (unsigned i = 0; i < 32; i++)
            printf("%02x", state->data[address - ORACLE_DATA + i]);
        printf("\n");
    }
}
