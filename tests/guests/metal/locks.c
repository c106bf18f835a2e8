/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metal64: locked operations (SDM 3A 8.1) by two processors at once: within a cache line, across lines, across pages, beside code,
 * and in what is code; CMPXCHG8B, CMPXCHG16B (this guest alone), XCHG without a prefix. And messages between
 * processors: stores become visible in order, an IPI arrives after the stores before it.
 */
#include "metal.h"

const char metal_name[] = "locks";

#define ROUNDS 400u
#define PAGE   4096u

static uint8_t arena[4 * PAGE] __attribute__((aligned(4096)));
/* A page with code on it, which both write beside. */
static uint8_t code_page[2 * PAGE] __attribute__((aligned(4096)));

static volatile uint32_t phase, done, alive;
static void (*volatile work)(uint8_t *at);
static uint8_t *volatile work_at;

static void add32(uint8_t *at)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        __asm__ volatile("lock incl %0" : "+m"(*at)::"memory", "cc");
    }
}

static void add64(uint8_t *at)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        __asm__ volatile("lock addq $0x10001, %0" : "+m"(*at)::"memory", "cc");
    }
}

static void xadd(uint8_t *at)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint32_t one = 1;
        __asm__ volatile("lock xaddl %1, %0" : "+m"(*at), "+r"(one)::"memory", "cc");
    }
}

static void cmpxchg(uint8_t *at)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint32_t old = *(volatile uint32_t *)at;
        __asm__ volatile("1: lea 1(%%rax), %%ecx; lock cmpxchgl %%ecx, %1; jnz 1b"
                         : "+a"(old), "+m"(*at)::"rcx", "memory", "cc");
    }
}

static void cmpxchg8b(uint8_t *at)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        __asm__ volatile(
            "xor %%eax, %%eax; xor %%edx, %%edx\n"
            "1: mov %%eax, %%ebx; mov %%edx, %%ecx; add $1, %%ebx; adc $0, %%ecx; lock cmpxchg8b %0; jnz 1b"
            : "+m"(*at)::"rax", "rbx", "rcx", "rdx", "memory", "cc");
    }
}

static void cmpxchg16b(uint8_t *at)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        __asm__ volatile(
            "xor %%eax, %%eax; xor %%edx, %%edx\n"
            "1: mov %%rax, %%rbx; mov %%rdx, %%rcx; add $1, %%rbx; adc $0, %%rcx; lock cmpxchg16b %0; jnz 1b"
            : "+m"(*at)::"rax", "rbx", "rcx", "rdx", "memory", "cc");
    }
}

/* A spin lock of XCHG around an increment that is not locked, in the next word. */
static void spin_lock(uint8_t *at)
{
    for (unsigned i = 0; i < ROUNDS / 4; i++) {
        uint32_t taken = 1;
        do {
            __asm__ volatile("xchgl %0, %1" : "+r"(taken), "+m"(*at)::"memory");
            if (taken) {
                pause();
            }
        } while (taken);
        ++*(volatile uint32_t *)(at + 4);
        __asm__ volatile("" ::: "memory");
        *(volatile uint32_t *)at = 0;
    }
}

/* Sets and clears bits of one dword: the other processor has the other ones. */
static volatile uint32_t bit_errors;
static void bits(uint8_t *at)
{
    static volatile uint32_t turn;
    uint32_t mine = __atomic_fetch_add(&turn, 1, __ATOMIC_SEQ_CST) & 1 ? 16 : 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint32_t bit = mine + i % 16;
        uint8_t was;
        __asm__ volatile("lock btsl %2, %0; setc %1" : "+m"(*at), "=q"(was) : "r"(bit) : "memory", "cc");
        bit_errors += was;
        __asm__ volatile("lock btrl %2, %0; setc %1" : "+m"(*at), "=q"(was) : "r"(bit) : "memory", "cc");
        bit_errors += !was;
    }
}

void metal_cpu_main(unsigned cpu)
{
    uint32_t seen = 0;
    alive = 1;
    for (;;) {
        while (phase == seen) {
            pause();
        }
        seen = phase;
        work(work_at);
        __atomic_store_n(&done, seen, __ATOMIC_SEQ_CST);
    }
}

static void both(void (*what)(uint8_t *), uint8_t *at)
{
    memset(at, 0, 16);
    work = what;
    work_at = at;
    __atomic_store_n(&phase, phase + 1, __ATOMIC_SEQ_CST);
    what(at);
    while (done != phase) {
        pause();
    }
}

static uint64_t read64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, 8);
    return value;
}

static void everywhere(void)
{
    /* Aligned, over a cache line's end, over a page's end, beside code, over the end of a page of code. */
    uint8_t *const places[] = {arena, arena + 62, arena + PAGE - 2, code_page + 1024, code_page + PAGE - 3};
    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        uint8_t *at = places[i];
        ((void (*)(void))code_page)();
        both(add32, at);
        CHECK(*(uint32_t *)at, 2 * ROUNDS);
        both(add64, at);
        CHECK(read64(at), 2 * ROUNDS * (uint64_t)0x10001);
        both(xadd, at);
        CHECK(*(uint32_t *)at, 2 * ROUNDS);
        both(cmpxchg, at);
        CHECK(*(uint32_t *)at, 2 * ROUNDS);
        both(cmpxchg8b, at);
        CHECK(read64(at), 2 * ROUNDS);
        both(bits, at);
        CHECK(bit_errors, 0);
        CHECK(*(uint32_t *)at, 0);
    }
    both(spin_lock, arena);
    CHECK(*(uint32_t *)(arena + 4), 2 * (ROUNDS / 4));
    if (cpuid(1, 0).c >> 13 & 1) {
        both(cmpxchg16b, arena + 32);
        CHECK(read64(arena + 32), 2 * ROUNDS);
    }
}

static void misaligned16(void)
{
    cmpxchg16b(arena + 8);
}

/* --- order (SDM 3A 8.2.2) ------------------------------------------------------------------------------------------------- */

static volatile uint64_t ring[64];

static void produce(uint8_t *at)
{
    volatile uint64_t *head = (volatile uint64_t *)at;
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        while (i - ring[63] > 32) {
            pause();
        }
        ring[i % 32] = i * 0x0101010101;
        *head = i; /* stores are seen in order */
    }
}

static void in_order(void)
{
    volatile uint64_t *head = (volatile uint64_t *)arena;
    *head = 0;
    ring[63] = 0;
    unsigned wrong = 0;
    work = produce;
    work_at = arena;
    __atomic_store_n(&phase, phase + 1, __ATOMIC_SEQ_CST);
    for (uint64_t next = 1; next <= ROUNDS; next++) {
        while (*head < next) {
            pause();
        }
        wrong += ring[next % 32] != next * 0x0101010101;
        ring[63] = next;
    }
    while (done != phase) {
        pause();
    }
    CHECK(wrong, 0);
}

void metal_main(void)
{
    metal_start_cpus(2);
    while (!alive) {
        pause();
    }
    code_page[0] = 0xc3;
    code_page[PAGE] = 0xc3;
    metal_case("locked operations are atomic (SDM 3A 8.1.2)");
    everywhere();
    metal_case("CMPXCHG16B must be aligned (SDM 2A)");
    if (cpuid(1, 0).c >> 13 & 1) {
        CHECK(metal_try(misaligned16), V_GP);
    }
    metal_case("stores in order (SDM 3A 8.2.2)");
    in_order();
}
