/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metal: a kernel of our own that tests the processor, for what no program on the host may execute.
 *
 * The same C becomes 32-bit guests (protected mode, no paging: metal32) and 64-bit ones (4-level paging that maps the first
 * 4 GiB to themselves by 2 MiB pages, user accessible: metal64). A guest is entered as PVH describes, with flat segments at
 * CPL 0, interrupts off, the 8259s masked; it prints through COM1 and powers off through ACPI.
 *
 * Result protocol, one line each:
 *     metal: NAME starts
 *     metal: ok CASE
 *     metal: FAIL CASE: got X, expected Y          (as often as it happens)
 *     metal: note TEXT                              something that may differ between processors
 *     metal: passed N                               or: metal: failed M of N
 * Expected values are the manual's; a case names its section. Nothing printed depends on time or addresses, so that what two
 * accelerators print can be compared.
 *
 * The framework itself uses general registers only, no INT3 and no CMPXCHG16B. One vCPU runs tests; others are started
 * by metal_start_cpus() and serve calls.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef unsigned long word; /* a general register */

/* The accumulator's name at that width, for assembly. */
#ifdef __x86_64__
#define METAL_AX "rax"
#else
#define METAL_AX "eax"
#endif

/* --- selectors (metal's GDT; the rest of it is the tests') ----------------------------------------------------- */

#define SEL_CODE    0x08 /* CPL 0 code of the guest's own width */
#define SEL_DATA    0x10
#define SEL_UCODE   0x1b /* CPL 3 */
#define SEL_UDATA   0x23
#define SEL_TSS     0x28 /* 16 bytes in metal64 */
#define SEL_CODE32  0x38 /* metal64: compatibility mode; and for CPL 3: */
#define SEL_UCODE32 0x43
#define SEL_CODE16  0x48
#define SEL_DATA16  0x50
#define SEL_FREE    0x58 /* from here to GDT_ENTRIES: free for tests */
#define GDT_ENTRIES 64
extern uint64_t metal_gdt[GDT_ENTRIES];

enum vector {
    V_DE = 0,
    V_DB,
    V_NMI,
    V_BP,
    V_OF,
    V_BR,
    V_UD,
    V_NM,
    V_DF,
    V_TS = 10,
    V_NP,
    V_SS,
    V_GP,
    V_PF,
    V_MF = 16,
    V_AC,
    V_USER = 0x30,  /* INT $0x30, allowed at CPL 3: the way back from there */
    V_NONE = 0x1000 /* metal_try(): nothing was raised */
};

/* --- output, result -------------------------------------------------------------------------------------------- */

void metal_print(const char *format, ...); /* %s %c %d %u %x (word), %X (uint64_t) */
/* Begins a case; the one before it ends. */
void metal_case(const char *name);
void metal_check(const char *what, uint64_t got, uint64_t expected);
void metal_note(const char *text);
_Noreturn void metal_finish(void);
_Noreturn void metal_fail(const char *why); /* the guest cannot go on */
_Noreturn void metal_power_off(void);
const char *metal_cmdline(void);

#define CHECK(got, expected) metal_check(#got, (uint64_t)(got), (uint64_t)(expected))

/* Each guest's own. */
extern const char metal_name[];
void metal_main(void);

/* --- traps ----------------------------------------------------------------------------------------------------- */

/* What the stubs push, lowest address first. */
struct metal_frame {
#ifdef __x86_64__
    word r15, r14, r13, r12, r11, r10, r9, r8;
#endif
    word di, si, bp, bx, dx, cx, ax;
    word vector, error;
    word ip, cs, flags, sp, ss; /* metal32: sp and ss only if the trap came from another privilege */
#ifndef __x86_64__
    word es, ds, fs, gs; /* only from virtual-8086 mode */
#endif
};

/* The last trap that metal_try() caught. sp and ss: of the interrupted code. */
struct metal_trap {
    word vector, error, ip, cs, flags, sp, ss, cr2, dr6;
    word ax, bx, cx, dx, si, di, bp;
    word handler_sp; /* where the frame began: right above its last word */
    word handler_ss, handler_cs, handler_flags;
};
extern struct metal_trap metal_trap;

/*
 * Runs `body` until it returns or something is raised, on whatever stack, segments or privilege; then data segments, stack
 * and flags are the framework's again. The vector, or V_NONE. Not recursive.
 */
unsigned metal_try(void (*body)(void));

/* A test's own look at a trap before metal_try() sees it: true means handled, and IRET to `frame`. */
extern bool (*metal_hook)(struct metal_frame *frame);

/* Gate for `vector` as it came up, or another target, type or IST. type: 0x8e, 0xee, 0x8f, 0x85 …; 0: not present. */
void metal_gate(unsigned vector, unsigned selector, word target, unsigned type, unsigned ist);
void metal_gate_reset(unsigned vector);
/* The stub that pushes `vector`, for gates of one's own. `with_error`: as if it pushed an error code. */
extern const word metal_stubs[256];
void metal_load_idt(void);

/* Descriptor for metal_gdt. access: type, S, DPL, P; flags: AVL, L, D/B, G as in bits 20-23 (0 to 15). */
uint64_t metal_descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flags);

/* CPL 3 at `entry` with `argument` in rax (eax), stack metal_user_stack. For metal_try() bodies; come back by INT $0x30. */
_Noreturn void metal_enter_user(word entry, word argument);
extern uint8_t metal_user_stack[8192], metal_trap_stack[8192];
#define METAL_USER_RETURN() __asm__ volatile("int $0x30" ::: "memory")

/* --- the TSS --------------------------------------------------------------------------------------------------- */

struct tss32 {
    uint32_t link, sp0, ss0, sp1, ss1, sp2, ss2, cr3, ip, flags, ax, cx, dx, bx, sp, bp, si, di, es, cs, ss,
        ds, fs, gs, ldt;
    uint16_t trap, io_base;
} __attribute__((packed));
struct tss64 {
    uint32_t reserved;
    uint64_t rsp[3], reserved1, ist[7], reserved2;
    uint16_t reserved3, io_base;
} __attribute__((packed));
#ifdef __x86_64__
#define metal_tss_type tss64
#else
#define metal_tss_type tss32
#endif
extern struct metal_tss {
    struct metal_tss_type tss;
    uint8_t io[8192 + 1];
} metal_tss;
void metal_load_tss(void); /* from its descriptor, made available again */

/* --- instructions ---------------------------------------------------------------------------------------------- */

#define METAL_CR(n)                                                                                          \
    static inline word cr##n##_read(void)                                                                    \
    {                                                                                                        \
        word value;                                                                                          \
        __asm__ volatile("mov %%cr" #n ", %0" : "=r"(value)::"memory");                                      \
        return value;                                                                                        \
    }                                                                                                        \
    static inline void cr##n##_write(word value)                                                             \
    {                                                                                                        \
        __asm__ volatile("mov %0, %%cr" #n ::"r"(value) : "memory");                                         \
    }
METAL_CR(0)
METAL_CR(2)
METAL_CR(3)
METAL_CR(4)

#define METAL_DR(n)                                                                                          \
    static inline word dr##n##_read(void)                                                                    \
    {                                                                                                        \
        word value;                                                                                          \
        __asm__ volatile("mov %%dr" #n ", %0" : "=r"(value));                                                \
        return value;                                                                                        \
    }                                                                                                        \
    static inline void dr##n##_write(word value)                                                             \
    {                                                                                                        \
        __asm__ volatile("mov %0, %%dr" #n ::"r"(value));                                                    \
    }
METAL_DR(0)
METAL_DR(1)
METAL_DR(2)
METAL_DR(3)
METAL_DR(6)
METAL_DR(7)

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

static inline void out16(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

static inline void out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

static inline uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline uint32_t in32(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline uint64_t msr_read(uint32_t msr)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return (uint64_t)high << 32 | low;
}

static inline void msr_write(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

struct cpuid {
    uint32_t a, b, c, d;
};

static inline struct cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid r;
    __asm__ volatile("cpuid"
                     : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d)
                     : "a"(leaf), "c"(subleaf)
                     : "memory");
    return r;
}

static inline void invlpg(const void *address)
{
    __asm__ volatile("invlpg (%0)" ::"r"(address) : "memory");
}

static inline word flags_read(void)
{
    word flags;
    __asm__ volatile("pushf; pop %0" : "=r"(flags)::"memory");
    return flags;
}

static inline void pause(void)
{
    __asm__ volatile("pause" ::: "memory");
}

void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);
int strcmp(const char *a, const char *b);
bool metal_has_word(const char *text, const char *word_wanted);

/* --- local APIC (xAPIC at its reset address) and more processors (metal64) -------------------------------------- */

#define LAPIC_BASE 0xfee00000u
static inline uint32_t lapic_read(unsigned offset)
{
    return *(volatile uint32_t *)(word)(LAPIC_BASE + offset);
}

static inline void lapic_write(unsigned offset, uint32_t value)
{
    *(volatile uint32_t *)(word)(LAPIC_BASE + offset) = value;
}

enum { LAPIC_ID = 0x20, LAPIC_EOI = 0xb0, LAPIC_SVR = 0xf0, LAPIC_ICR = 0x300, LAPIC_ICR_HIGH = 0x310 };

/* Interrupts whose handler only counts and ends them: metal_interrupts[vector - 0x40], vectors 0x40 to 0x4f. */
extern volatile uint32_t metal_interrupts[16];
void metal_enable_lapic(void);

/* Starts processors 1 to count - 1 by INIT and SIPI (SDM 3A 9.4); each then calls metal_cpu_main(its APIC id). */
void metal_start_cpus(unsigned count);
void metal_cpu_main(unsigned cpu);
void metal_send_ipi(unsigned cpu, unsigned vector);
