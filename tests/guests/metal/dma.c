/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Code that a device writes: a disk reads different code into the same physical pages again and again; what runs must
 * always be what was read last.
 *
 * What the processor that executes does between learning of the completion and the jump is the case's:
 *   interrupt   it takes the device's interrupt
 *   serialise   polls, then executes a serialising instruction (SDM 3A 9.1.3, 9.3)
 *   register    polls, then reads a device's register
 *   flush       polls, then INVLPG
 *   flag, ipi   other processors execute: they see a flag and serialise, or take an IPI
 */
#include "virtio_blk.h"

const char metal_name[] = "dma";

#define PAGE       4096u
#define VARIANTS   64u
#define ROUNDS     400u
#define VECTOR_BLK 0x60
#define VECTOR_IPI 0x41

/* Where in each 4 KiB of code what begins: the end of a MOV from the page before, code, a loop over a link, the MOV. */
#define AT_TAIL     0
#define AT_PLAIN    0x10
#define AT_LOOP     0x100
#define AT_LOOP2    0x200
#define AT_STRADDLE (PAGE - 3)

/* Two physical pages in a row that the disk writes, in a 2 MiB page of the identity map. */
static uint8_t target[2 * PAGE] __attribute__((aligned(2 * 4096)));
static uint8_t scratch[PAGE] __attribute__((aligned(4096)));
/* The same pages under other addresses, by 4 KiB entries: each page twice, the second time in the other order. */
#define ALIAS ((uint8_t *)(word)0x8000000000)
static uint64_t alias_pdpt[512] __attribute__((aligned(4096))), alias_pd[512] __attribute__((aligned(4096))),
    alias_pt[512] __attribute__((aligned(4096)));
extern uint64_t metal_pml4[512];

static uint32_t seed = 1;
static unsigned cpus;

static uint32_t random_below(uint32_t n)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

static uint16_t tag(unsigned variant)
{
    return (uint16_t)(0x1111 + variant * 0x123);
}

static void put32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, 4);
}

static void make_code(uint8_t *page, unsigned variant)
{
    static const uint8_t loop[] = {0xb9, 4,    0,    0,
                                   0,    0x31, 0xc0, 0xe9}; /* mov $4, %ecx; xor %eax, %eax; jmp */
    static const uint8_t loop2[] = {0x05, 0,    0,    0,    0,
                                    0xff, 0xc9, 0x75, 0xf7, 0xc3}; /* 1: add $, %eax; dec %ecx; jnz 1b; ret */
    uint16_t t = tag(variant);
    memset(page, 0xf4, PAGE);
    memcpy(page + AT_TAIL, &t, 2);
    page[AT_TAIL + 2] = 0xc3;
    page[AT_PLAIN] = 0xb8;
    put32(page + AT_PLAIN + 1, t);
    page[AT_PLAIN + 5] = 0xc3;
    memcpy(page + AT_LOOP, loop, sizeof(loop));
    put32(page + AT_LOOP + sizeof(loop), AT_LOOP2 - (AT_LOOP + sizeof(loop) + 4));
    memcpy(page + AT_LOOP2, loop2, sizeof(loop2));
    put32(page + AT_LOOP2 + 1, t);
    page[AT_STRADDLE] = 0xb8;
    memcpy(page + AT_STRADDLE + 1, &t, 2);
}

static uint32_t call(const uint8_t *code)
{
    uint32_t result;
    __asm__ volatile("call *%1" : "=a"(result) : "r"(code) : "rcx", "memory", "cc");
    return result;
}

static void make_aliases(void)
{
    unsigned order[] = {0, 1, 1, 0};
    metal_pml4[1] = (word)alias_pdpt | 7;
    alias_pdpt[0] = (word)alias_pd | 7;
    alias_pd[0] = (word)alias_pt | 7;
    for (unsigned i = 0; i < 4; i++) {
        alias_pt[i] = ((word)target + order[i] * PAGE) | 7;
    }
}

/* --- reading -------------------------------------------------------------------------------------------------------- */

enum means { POLL_SERIALISE, POLL_REGISTER, POLL_FLUSH, INTERRUPT, MEANS };

static void transfer(bool write, unsigned variant, void *buffer)
{
    virtio_blk_submit(write, variant * (PAGE / SECTOR_BYTES), buffer, PAGE);
    while (!virtio_blk_done()) {
        pause();
    }
}

/* What the handler found. An interrupt of a request before, which was polled, may come late and finds nothing. */
static volatile bool completed;

static bool on_completion(struct metal_frame *frame)
{
    if (frame->vector != VECTOR_BLK) {
        return false;
    }
    completed |= virtio_blk_done();
    lapic_write(LAPIC_EOI, 0);
    return true;
}

static void read_code(unsigned variant, uint8_t *page, enum means means)
{
    virtio_blk_want_interrupts(means == INTERRUPT);
    if (means == INTERRUPT) {
        completed = false;
        virtio_blk_submit(false, variant * (PAGE / SECTOR_BYTES), page, PAGE);
        while (!completed) {
            __asm__ volatile("sti; hlt; cli" ::: "memory");
        }
        return;
    }
    transfer(false, variant, page);
    switch (means) {
    case POLL_SERIALISE:
        cpuid(0, 0);
        break;
    case POLL_REGISTER:
        in8(0x3fd);
        break;
    default:
        for (unsigned i = 0; i < 2; i++) {
            invlpg(target + i * PAGE);
            invlpg(ALIAS + i * PAGE);
            invlpg(ALIAS + (i + 2) * PAGE);
        }
    }
}

/* --- one processor ---------------------------------------------------------------------------------------------------- */

/* What is in the two pages; the code under every address must agree. */
static void check_everywhere(unsigned first, unsigned second, unsigned round)
{
    const uint32_t low = tag(first), high = tag(second);
    const struct {
        const uint8_t *code;
        uint32_t expected;
    } calls[] = {
        {target + AT_PLAIN, low},
        {ALIAS + AT_PLAIN, low},
        {ALIAS + 3 * PAGE + AT_PLAIN, low},
        {target + PAGE + AT_LOOP, 4 * high},
        {ALIAS + 2 * PAGE + AT_LOOP, 4 * high},
        {ALIAS + AT_LOOP, 4 * low},
        {target + AT_STRADDLE, low | high << 16},
        {ALIAS + AT_STRADDLE, low | high << 16},
        {ALIAS + 2 * PAGE + AT_STRADDLE, high | low << 16},
    };
    /* From another one each time, so that a stale block cannot hide behind the first call's slow path. */
    for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        unsigned n = (i + round) % (sizeof(calls) / sizeof(calls[0]));
        metal_check("code", call(calls[n].code), calls[n].expected);
    }
}

static void one_cpu(enum means means)
{
    unsigned variant[2] = {0, 1};
    read_code(0, target, means);
    read_code(1, target + PAGE, means);
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned which = random_below(2);
        variant[which] = random_below(VARIANTS);
        read_code(variant[which], target + which * PAGE, means);
        check_everywhere(variant[0], variant[1], i);
    }
}

/* The page is code, then data that the processor writes and reads, then code again from the disk. */
static void code_data_code(enum means means)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned variant = random_below(VARIANTS);
        read_code(variant, target, means);
        metal_check("code", call(target + AT_PLAIN), tag(variant));
        uint32_t *data = (uint32_t *)target;
        for (unsigned j = 0; j < PAGE / 4; j += 1 + i % 3) {
            data[j] = i ^ j;
        }
        metal_check("data", data[3 * (1 + i % 3)], i ^ 3 * (1 + i % 3));
        if (i % 2) { /* code that the processor writes */
            make_code(target, i % VARIANTS);
            metal_check("written code", call(target + AT_PLAIN), tag(i % VARIANTS));
        }
    }
}

/* A loop that lies in the page itself reads its successor: the code after the serialising instruction is new. */
static void replaces_itself(void)
{
    /* cpuid (clobbers ebx: saved in r8); mov $tag, %eax; ret. The disk replaces it by variant code at AT_PLAIN. */
    for (unsigned i = 0; i < 50; i++) {
        unsigned variant = random_below(VARIANTS);
        read_code(variant, target, POLL_SERIALISE);
        metal_check("code", call(target + AT_PLAIN), tag(variant));
        metal_check("code again", call(target + AT_PLAIN), tag(variant));
    }
}

/* --- several processors ----------------------------------------------------------------------------------------------- */

static struct mailbox {
    volatile uint32_t request, answer; /* equal: idle */
    const uint8_t *volatile code;
    volatile uint32_t result;
    volatile bool by_ipi, alive;
    uint8_t pad[64];
} mailbox[16];

void metal_cpu_main(unsigned cpu)
{
    struct mailbox *box = &mailbox[cpu];
    uint32_t seen = 0;
    metal_enable_lapic();
    box->alive = true;
    for (;;) {
        while (box->request == seen) {
            if (box->by_ipi) {
                __asm__ volatile("sti; hlt; cli" ::: "memory");
            } else {
                pause();
            }
        }
        seen = box->request;
        if (!box->by_ipi) {
            cpuid(0, 0);
        }
        box->result = call(box->code);
        __atomic_store_n(&box->answer, seen, __ATOMIC_SEQ_CST);
    }
}

static void ask(unsigned cpu, const uint8_t *code)
{
    struct mailbox *box = &mailbox[cpu];
    box->code = code;
    __atomic_store_n(&box->request, box->request + 1, __ATOMIC_SEQ_CST);
    if (box->by_ipi) {
        metal_send_ipi(cpu, VECTOR_IPI);
    }
}

static uint32_t answer(unsigned cpu)
{
    struct mailbox *box = &mailbox[cpu];
    while (__atomic_load_n(&box->answer, __ATOMIC_SEQ_CST) != box->request) {
        pause();
    }
    return box->result;
}

/* How the others wait changes only while they are idle; an IPI brings a halted one out to look. */
static void wait_by(bool ipi)
{
    for (unsigned cpu = 1; cpu < cpus; cpu++) {
        bool halted = mailbox[cpu].by_ipi;
        mailbox[cpu].by_ipi = ipi;
        if (halted) {
            metal_send_ipi(cpu, VECTOR_IPI);
        }
    }
}

/* With more processors than the host may have, each hand-over waits for the host's scheduler. */
static void several_cpus(enum means means, bool ipi)
{
    wait_by(ipi);
    read_code(0, target + PAGE, means);
    for (unsigned i = 0; i < (cpus > 2 ? ROUNDS / 40 : ROUNDS / 4); i++) {
        unsigned variant = random_below(VARIANTS);
        const uint32_t low = tag(variant), high = tag(0);
        static const struct {
            uint64_t offset;
            unsigned kind; /* low, 4 * low, straddling */
        } places[] = {{AT_PLAIN, 0}, {AT_LOOP, 1}, {AT_STRADDLE, 2}};
        read_code(variant, target, means);
        for (unsigned cpu = 1; cpu < cpus; cpu++) {
            ask(cpu,
                (i + cpu) % 2 ? ALIAS + places[(i + cpu) % 3].offset : target + places[(i + cpu) % 3].offset);
        }
        if (i % 3 == 0) { /* every third time nobody else has noticed the change before */
            metal_check("own code", call(target + AT_PLAIN), low);
        }
        for (unsigned cpu = 1; cpu < cpus; cpu++) {
            unsigned kind = places[(i + cpu) % 3].kind;
            uint32_t expected = kind == 0 ? low : kind == 1 ? 4 * low : low | high << 16;
            metal_check("code on another processor", answer(cpu), expected);
        }
    }
    wait_by(false);
}

static void start_others(void)
{
    cpus = 1;
    while (metal_has_word(metal_cmdline(), "cpus=2") && cpus < 2) {
        cpus++;
    }
    if (metal_has_word(metal_cmdline(), "cpus=4")) {
        cpus = 4;
    }
    metal_start_cpus(cpus);
    for (unsigned cpu = 1; cpu < cpus; cpu++) {
        while (!mailbox[cpu].alive) {
            pause();
        }
    }
}

void metal_main(void)
{
    static const char *const names[MEANS] = {
        "one processor, poll and serialise (SDM 3A 9.1.3)", "one processor, poll and read a register",
        "one processor, poll and flush (SDM 3A 4.10.4)", "one processor, interrupt"};
    metal_enable_lapic();
    metal_hook = on_completion;
    virtio_blk_start(VECTOR_BLK, 0);
    virtio_blk_want_interrupts(false);
    make_aliases();
    start_others();
    metal_case("code goes to the disk");
    for (unsigned i = 0; i < VARIANTS; i++) {
        make_code(scratch, i);
        transfer(true, i, scratch);
    }
    for (unsigned i = 0; i < MEANS; i++) {
        metal_case(names[i]);
        one_cpu((enum means)i);
    }
    metal_case("code, data, code");
    code_data_code(POLL_SERIALISE);
    code_data_code(INTERRUPT);
    metal_case("again and again");
    replaces_itself();
    if (cpus > 1) {
        metal_case("others see a flag and serialise (SDM 3A 9.1.3)");
        several_cpus(POLL_REGISTER, false);
        several_cpus(INTERRUPT, false);
        metal_case("others take an IPI");
        several_cpus(POLL_REGISTER, true);
        several_cpus(INTERRUPT, true);
    }
}
