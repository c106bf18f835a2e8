/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metal64: interrupts as the processor takes them (SDM 3A 6.7, 6.8, chapter 10): NMIs are blocked until IRET, whatever IRET it
 * is; what STI and MOV SS hold back; HLT ends; priorities, TPR and CR8; x2APIC's registers and the ways between the APIC's
 * modes.
 */
#include "metal.h"

const char metal_name[] = "apic";

#define FAULT(vector, error) ((vector) << 16 | ((error)&0xffff))
#define NONE                 FAULT(V_NONE, 0)
#define ICR_NMI              0x400u
#define ICR_SELF             (1u << 18)
#define APIC_BASE            0x1bu
#define X2APIC(offset)       (0x800u + (offset) / 16)

static uint64_t outcome(void (*body)(void))
{
    unsigned vector = metal_try(body);
    return FAULT(vector, vector == V_NONE ? 0 : metal_trap.error);
}

static void self_nmi(void)
{
    /* To this processor's id: the self shorthand is for fixed vectors only (table 10-3). */
    lapic_write(LAPIC_ICR_HIGH, 0);
    lapic_write(LAPIC_ICR, ICR_NMI | 0x4000);
    while (lapic_read(LAPIC_ICR) & 0x1000) {
        pause();
    }
}

static void self_interrupt(unsigned vector)
{
    lapic_write(LAPIC_ICR, ICR_SELF | 0x4000 | vector);
}

/* --- NMI ---------------------------------------------------------------------------------------------------------------- */

static volatile unsigned nmis, depth, deepest, seen_inside;
static unsigned plan; /* what the first NMI's handler does */

static void some_time(void)
{
    for (unsigned i = 0; i < 2000; i++) {
        pause();
    }
}

static bool on_nmi(struct metal_frame *frame)
{
    if (frame->vector == 0x60) {
        return true;
    }
    if (frame->vector != V_NMI) {
        return false;
    }
    nmis++;
    if (++depth > deepest) {
        deepest = depth;
    }
    if (nmis == 1 && plan) {
        self_nmi();
        some_time();
        seen_inside = nmis;
        if (plan == 2) { /* any IRET ends the blocking, this one of a software interrupt too */
            __asm__ volatile("int $0x60");
            some_time();
        }
    }
    depth--;
    return true;
}

static void take_nmi(void)
{
    self_nmi();
    some_time();
}

/* 6.7.1 */
static void nmi_blocking(void)
{
    metal_hook = on_nmi;
    static const unsigned counts[] = {1, 2, 2}, depths[] = {1, 1, 2};
    for (plan = 0; plan < 3; plan++) {
        nmis = depth = deepest = seen_inside = 0;
        CHECK(metal_try(take_nmi), V_NONE);
        CHECK(nmis, counts[plan]);
        CHECK(deepest, depths[plan]);
        if (plan) {
            CHECK(seen_inside, 1); /* held while the handler runs */
        }
    }
    metal_hook = NULL;
}

static void halt_until_nmi(void)
{
    self_nmi();
    __asm__ volatile("1: cmpl $0, %0; jne 2f; hlt; jmp 1b; 2:" : "+m"(nmis));
}

/* --- shadows and HLT ------------------------------------------------------------------------------------------------------ */

static volatile word taken_at;
static bool note_interrupt(struct metal_frame *frame)
{
    if (frame->vector == 0x61) {
        taken_at = frame->ip;
        lapic_write(LAPIC_EOI, 0);
        return true;
    }
    return false;
}

extern uint8_t a0[], a1[], a2[], a3[], a4[], a5[];

static void sti_shadow(void)
{
    __asm__ volatile("cli" ::: "memory");
    self_interrupt(0x61);
    some_time();
    __asm__ volatile("a0: sti; a1: nop; a2: nop; cli" ::: "memory");
}

static void mov_ss_shadow(void)
{
    __asm__ volatile("cli" ::: "memory");
    self_interrupt(0x61);
    some_time();
    __asm__ volatile("mov %%ss, %%eax; sti; mov %%eax, %%ss; a3: nop; a4: nop; cli" ::: "eax", "memory");
}

static void sti_cli(void)
{
    __asm__ volatile("cli" ::: "memory");
    self_interrupt(0x61);
    some_time();
    __asm__ volatile("sti; cli; nop; nop" ::: "memory");
}

static void sti_hlt(void)
{
    __asm__ volatile("cli" ::: "memory");
    self_interrupt(0x61);
    some_time();
    __asm__ volatile("sti; hlt; a5: cli" ::: "memory");
}

/* 6.8.1, 6.8.3; SDM 2B STI */
static void shadows(void)
{
    metal_hook = note_interrupt;
    taken_at = 0;
    CHECK(metal_try(sti_shadow), V_NONE);
    CHECK(taken_at, (word)a2);
    taken_at = 0;
    CHECK(metal_try(sti_cli), V_NONE);
    CHECK(taken_at, 0); /* STI; CLI lets nothing in */
    __asm__ volatile("sti; nop; nop; cli" ::: "memory");
    CHECK(taken_at != 0, true);
    taken_at = 0;
    CHECK(metal_try(sti_hlt), V_NONE);
    CHECK(taken_at, (word)a5);
    taken_at = 0;
    CHECK(metal_try(mov_ss_shadow), V_NONE);
    CHECK(taken_at == (word)a3 || taken_at == (word)a4, true); /* one shadow behind another may not last */
    metal_hook = on_nmi;
    plan = nmis = depth = 0;
    CHECK(metal_try(halt_until_nmi), V_NONE); /* IF is clear */
    CHECK(nmis, 1);
    metal_hook = NULL;
}

/* --- priorities ----------------------------------------------------------------------------------------------------------- */

static uint8_t order[8];
static volatile unsigned order_count;

static bool note_order(struct metal_frame *frame)
{
    if (frame->vector < 0x60 || frame->vector > 0x9f) {
        return false;
    }
    order[order_count++ % sizeof(order)] = (uint8_t)frame->vector;
    lapic_write(LAPIC_EOI, 0);
    return true;
}

static word cr8_value;
static void write_cr8(void)
{
    __asm__ volatile("mov %0, %%cr8" ::"r"(cr8_value));
}

static word read_cr8(void)
{
    word value;
    __asm__ volatile("mov %%cr8, %0" : "=r"(value));
    return value;
}

/* 10.8.3 */
static void priorities(void)
{
    static const uint8_t vectors[] = {0x62, 0x91, 0x75, 0x63}, expected[] = {0x91, 0x75, 0x63, 0x62};
    metal_hook = note_order;
    order_count = 0;
    for (unsigned i = 0; i < 4; i++) {
        self_interrupt(vectors[i]);
    }
    some_time();
    CHECK(lapic_read(0x200 + 0x10 * (0x91 / 32)) >> (0x91 % 32) & 1, 1); /* IRR */
    __asm__ volatile("sti; nop; nop; cli" ::: "memory");
    CHECK(order_count, 4);
    CHECK(memcmp(order, expected, 4), 0);
    /* TPR holds back its class and those below. */
    cr8_value = 7;
    write_cr8();
    CHECK(lapic_read(0x80), 0x70);
    order_count = 0;
    self_interrupt(0x75);
    self_interrupt(0x91);
    some_time();
    __asm__ volatile("sti; nop; nop; cli" ::: "memory");
    CHECK(order_count, 1);
    CHECK(order[0], 0x91);
    lapic_write(0x80, 0x65);
    CHECK(read_cr8(), 6);
    __asm__ volatile("sti; nop; nop; cli" ::: "memory");
    CHECK(order_count, 2);
    cr8_value = 0;
    write_cr8();
    cr8_value = 0x10;
    CHECK(outcome(write_cr8), FAULT(V_GP, 0));
    metal_hook = NULL;
}

/* --- x2APIC ---------------------------------------------------------------------------------------------------------------- */

static uint32_t msr;
static uint64_t value;

static void write_msr(void)
{
    msr_write(msr, value);
}

static void read_msr(void)
{
    value = msr_read(msr);
}

static uint64_t wr(uint32_t number, uint64_t what)
{
    msr = number;
    value = what;
    return outcome(write_msr);
}

static uint64_t rd(uint32_t number)
{
    msr = number;
    return outcome(read_msr);
}

/* 10.12.1, 10.12.2, 10.12.5 */
static void x2apic(void)
{
    if (!(cpuid(1, 0).c >> 21 & 1)) {
        metal_note("no x2APIC");
        return;
    }
    uint64_t base = msr_read(APIC_BASE);
    CHECK(base & 0x900, 0x900);
    CHECK(rd(X2APIC(LAPIC_ID)), FAULT(V_GP, 0)); /* not in xAPIC mode */
    CHECK(wr(APIC_BASE, (base & ~0x800ull) | 0x400), FAULT(V_GP, 0));
    CHECK(wr(APIC_BASE, base | 0x400), NONE);
    CHECK(msr_read(X2APIC(LAPIC_ID)), 0);
    CHECK(wr(APIC_BASE, base), FAULT(V_GP, 0)); /* back to xAPIC: only by way of disabled */
    CHECK(msr_read(X2APIC(LAPIC_SVR)) & 0x1ff, 0x1ff);
    CHECK(rd(X2APIC(LAPIC_EOI)), FAULT(V_GP, 0)); /* write-only */
    CHECK(wr(X2APIC(LAPIC_EOI), 1), FAULT(V_GP, 0));
    CHECK(wr(X2APIC(LAPIC_EOI), 0), NONE);
    CHECK(wr(X2APIC(LAPIC_ID), 0), FAULT(V_GP, 0)); /* read-only */
    CHECK(rd(X2APIC(LAPIC_ICR_HIGH)), FAULT(V_GP, 0));
    CHECK(rd(X2APIC(0x3f0)), FAULT(V_GP, 0)); /* self IPI: write-only */
    CHECK(wr(X2APIC(0x80), 0x100), FAULT(V_GP, 0));
    CHECK(wr(X2APIC(LAPIC_ICR), 1u << 13), FAULT(V_GP, 0)); /* a reserved bit */
    CHECK(wr(APIC_BASE, base & ~0xc00ull), NONE);           /* disabled */
    CHECK(cpuid(1, 0).d >> 9 & 1, 0);                       /* and gone from CPUID */
    CHECK(wr(APIC_BASE, base | 0x400), FAULT(V_GP, 0));
    CHECK(wr(APIC_BASE, base), NONE);
    metal_enable_lapic();
}

static volatile unsigned self_ipis;
static bool on_self_ipi(struct metal_frame *frame)
{
    if (frame->vector != 0x61) {
        return false;
    }
    self_ipis++;
    msr_write(X2APIC(LAPIC_EOI), 0);
    return true;
}

static void x2apic_ipis(void)
{
    if (!(cpuid(1, 0).c >> 21 & 1)) {
        return;
    }
    uint64_t base = msr_read(APIC_BASE);
    msr_write(APIC_BASE, base | 0x400);
    metal_hook = on_self_ipi;
    msr_write(X2APIC(0x3f0), 0x61);
    __asm__ volatile("sti; nop; nop; cli" ::: "memory");
    CHECK(self_ipis, 1);
    msr_write(X2APIC(LAPIC_ICR), 0x4061); /* physical destination 0: this one */
    some_time();
    __asm__ volatile("sti; nop; nop; cli" ::: "memory");
    CHECK(self_ipis, 2);
    metal_hook = NULL;
    msr_write(APIC_BASE, base & ~0xc00ull);
    msr_write(APIC_BASE, base);
    metal_enable_lapic();
}

void metal_main(void)
{
    metal_enable_lapic();
    metal_case("NMIs are blocked until IRET (SDM 3A 6.7.1)");
    nmi_blocking();
    metal_case("STI, MOV SS, HLT (SDM 3A 6.8)");
    shadows();
    metal_case("priorities, TPR and CR8 (SDM 3A 10.8)");
    priorities();
    metal_case("x2APIC (SDM 3A 10.12)");
    x2apic();
    x2apic_ipis();
}
