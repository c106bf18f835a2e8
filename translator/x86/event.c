/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exceptions and interrupts: what is pushed, and what happens when delivery itself faults (SDM 3A 6.4-6.15).
 *
 * event_real.c, event_protected.c and event_long.c make one attempt each; this file chooses between them and promotes
 * faults during delivery to #DF and shutdown.
 */
#include "translator/x86/sys_internal.h"

#include "translator/stats.h"

/* SDM 3A table 6-4. */
enum exception_class { CLASS_BENIGN, CLASS_CONTRIBUTORY, CLASS_PAGE_FAULT, CLASS_DOUBLE_FAULT };

static enum exception_class exception_class(uint8_t vector)
{
    switch (vector) {
    case EXC_DE:
    case EXC_TS:
    case EXC_NP:
    case EXC_SS:
    case EXC_GP:
        return CLASS_CONTRIBUTORY;
    case EXC_PF:
        return CLASS_PAGE_FAULT;
    case EXC_DF:
        return CLASS_DOUBLE_FAULT;
    default:
        return CLASS_BENIGN;
    }
}

/* SDM 3A table 6-5: what a second exception during delivery of the first becomes. */
enum promotion { DELIVER_SECOND, DELIVER_DOUBLE_FAULT, SHUT_DOWN };

static enum promotion promote(enum exception_class first, enum exception_class second)
{
    static const uint8_t table[4][3] = {
        /* second:               benign          contributory          page fault */
        [CLASS_BENIGN] = {DELIVER_SECOND, DELIVER_SECOND, DELIVER_SECOND},
        [CLASS_CONTRIBUTORY] = {DELIVER_SECOND, DELIVER_DOUBLE_FAULT, DELIVER_SECOND},
        [CLASS_PAGE_FAULT] = {DELIVER_SECOND, DELIVER_DOUBLE_FAULT, DELIVER_DOUBLE_FAULT},
        [CLASS_DOUBLE_FAULT] = {DELIVER_SECOND, SHUT_DOWN, SHUT_DOWN},
    };
    return second == CLASS_DOUBLE_FAULT ? SHUT_DOWN : table[first][second];
}

/* Faults push RF set so that an instruction breakpoint does not fire again (SDM 3B 17.3.1.1). #DB is a fault only for
 * general detect and instruction breakpoints, and for these RF is pushed as it was: the handler sets it. */
static bool pushes_rf(const struct x86_exception *exc)
{
    switch (exc->vector) {
    case EXC_DB:
        return exc->cr2 & DR6_BD;
    case EXC_NMI:
    case EXC_BP:
    case EXC_OF:
    case EXC_DF:
    case EXC_MC:
        return false;
    default:
        return true;
    }
}

int x86_event_enter(struct x86_cpu *cpu, const struct x86_event *event)
{
    cpu->interrupt_shadow = SHADOW_NONE;
    if (x86_long_mode(cpu)) {
        return x86_event_long(cpu, event);
    }
    return x86_real_mode(cpu) ? x86_event_real(cpu, event) : x86_event_protected(cpu, event);
}

/* Side effects of an exception beside its delivery. */
static void exception_effects(struct x86_cpu *cpu, const struct x86_exception *exc)
{
    if (exc->vector == EXC_PF) {
        cpu->cr2 = exc->cr2;
    } else if (exc->vector == EXC_DB) {
        cpu->dr[6] = (cpu->dr[6] & ~UINT64_C(0xf)) | exc->cr2;
        cpu->dr[7] &= ~(uint64_t)DR7_GD;
    }
}

static int shut_down(struct x86_cpu *cpu)
{
    cpu->exc.pending = false;
    cpu->exit_reason = X86_RUN_SHUTDOWN;
    return X86_EXIT;
}

/* Delivers `exc`, which happened while an event of class `first` was delivered (CLASS_BENIGN: while none was). */
static int deliver_after(struct x86_cpu *cpu, struct x86_exception exc, enum exception_class first,
                         bool nested)
{
    for (;;) {
        enum exception_class class = exception_class(exc.vector);
        if (nested) {
            enum promotion what = promote(first, class);
            if (what == SHUT_DOWN) {
                return shut_down(cpu);
            }
            if (what == DELIVER_DOUBLE_FAULT) {
                exception_effects(cpu, &exc); /* CR2 shows the second fault */
                exc = (struct x86_exception){.vector = EXC_DF, .has_error = true};
                class = CLASS_DOUBLE_FAULT;
            }
        }
        cpu->exc.pending = false;
        exception_effects(cpu, &exc);
        struct x86_event event = {
            .vector = exc.vector,
            .has_error = exc.has_error,
            .software = exc.software,
            .ext = !exc.software,
            .error = exc.error,
            .return_rip = exc.software ? cpu->next_rip : cpu->rip,
            .rflags = pushes_rf(&exc) ? cpu->rflags | FLAG_RF : cpu->rflags,
        };
        int r = x86_event_enter(cpu, &event);
        if (r != X86_RAISE) {
            return r;
        }
        exc = cpu->exc;
        first = class;
        nested = true;
    }
}

int x86_deliver_exception(struct x86_cpu *cpu)
{
    cpu->stats[STAT_EXCEPTIONS]++;
    cpu->step = false;
    return deliver_after(cpu, cpu->exc, CLASS_BENIGN, false);
}

int x86_deliver_interrupt(struct x86_cpu *cpu, uint8_t vector, bool nmi)
{
    struct x86_event event = {.vector = vector, .ext = 1, .return_rip = cpu->rip, .rflags = cpu->rflags};
    cpu->stats[STAT_INTERRUPTS]++;
    cpu->halted = false;
    if (nmi) {
        cpu->nmi_blocked = true;
    }
    int r = x86_event_enter(cpu, &event);
    return r == X86_RAISE ? deliver_after(cpu, cpu->exc, CLASS_BENIGN, true) : r;
}
