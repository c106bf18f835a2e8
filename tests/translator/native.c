/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/translator/native.h"

#include <asm/ldt.h>
#include <assert.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* At fixed places below 2 GiB, so that the stub reaches them with absolute addresses and no register. */
#define FRAME_ADDRESS UINT64_C(0x40010000)
#define CODE_ADDRESS  UINT64_C(0x40020000)
#define INNER_OFFSET  2048u /* of the legacy-mode part in the code page */

/* Linux's selectors, and those of our LDT. */
#define USER_DS   0x2b
#define USER_CS   0x33
#define USER32_CS 0x23
#define LDT(n)    ((n) << 3 | 7)
enum { LDT_CODE16, LDT_DATA, LDT_EXTRA, LDT_STACK };

struct frame {
    uint64_t host_rsp;
    struct native_state state;
    struct {
        uint32_t offset;
        uint16_t selector;
    } inner; /* operand of the far jump into legacy code */
    uint16_t ds, es, ss, user_ds;
};

static struct frame *frame;
static uint8_t *code;
static bool have_ldt, have_32;
static sigjmp_buf escape;
static uint8_t signal_stack[65536];

static void on_signal(int number, siginfo_t *info, void *context)
{
    const ucontext_t *uc = context;
    siglongjmp(escape, 1 + (int)uc->uc_mcontext.gregs[REG_TRAPNO]);
}

static void *map_at(uintptr_t address, size_t bytes, int protection)
{
    void *p =
        mmap((void *)address, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    assert(p == (void *)address);
    return p;
}

static bool set_ldt(unsigned entry, uint64_t base, uint32_t limit, unsigned contents)
{
    struct user_desc desc = {.entry_number = entry,
                             .base_addr = (unsigned)base,
                             .limit = limit,
                             .contents = contents,
                             .useable = 1};
    return syscall(SYS_modify_ldt, 1, &desc, sizeof(desc)) == 0;
}

uint8_t *native_init(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof(signal_stack)};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_ONSTACK | SA_SIGINFO};
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaction(signals[i], &action, NULL);
    frame = map_at(FRAME_ADDRESS, 4096, PROT_READ | PROT_WRITE);
    code = map_at(CODE_ADDRESS, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    uint8_t *scratch = map_at(NATIVE_SCRATCH, NATIVE_SCRATCH_BYTES, PROT_READ | PROT_WRITE);

    have_ldt = set_ldt(LDT_CODE16, CODE_ADDRESS, 0xffff, 2) &&
               set_ldt(LDT_DATA, NATIVE_SCRATCH, NATIVE_SEG_BYTES - 1, 0) &&
               set_ldt(LDT_EXTRA, NATIVE_SCRATCH + NATIVE_ES_OFFSET, NATIVE_SEG_BYTES - 1, 0) &&
               set_ldt(LDT_STACK, NATIVE_SCRATCH, NATIVE_SEG_BYTES - 1, 0);
    static const uint8_t nop = 0x90;
    struct native_state state = {.gpr = {[4] = NATIVE_SCRATCH + 4096}};
    have_32 = native_run(NATIVE_32, &nop, 1, &state) == -1;
    return scratch;
}

bool native_supports(enum native_mode mode)
{
    return mode == NATIVE_64 || (have_32 && (mode == NATIVE_32 || have_ldt));
}

/* --- the stub ----------------------------------------------------------------------------------------------- */

static uint8_t *put(uint8_t *p, const void *bytes, unsigned count)
{
    memcpy(p, bytes, count);
    return p + count;
}

/* An instruction with ModRM /n and an absolute address; rex and prefix 0: none. */
static uint8_t *put_absolute(uint8_t *p, uint8_t rex, uint8_t opcode, unsigned n, const void *address)
{
    uint32_t low = (uint32_t)(uintptr_t)address;
    if (rex)
        *p++ = rex;
    *p++ = opcode;
    *p++ = (uint8_t)(4 | (n & 7) << 3);
    *p++ = 0x25;
    return put(p, &low, 4);
}

/* mov between a 64-bit register and memory: opcode 8b loads, 89 stores. */
static uint8_t *put_mov(uint8_t *p, uint8_t opcode, unsigned reg, const void *address)
{
    return put_absolute(p, (uint8_t)(0x48 | (reg >> 3) << 2), opcode, reg, address);
}

static uint8_t *put_registers(uint8_t *p, uint8_t opcode)
{
    for (unsigned i = 0; i < 16; i++)
        p = put_mov(p, opcode, i, &frame->state.gpr[i]);
    return p;
}

/* The instruction and a far jump back to `resume`. */
static void put_inner(enum native_mode mode, const uint8_t *insn, unsigned bytes, const uint8_t *resume)
{
    uint8_t *p = put(code + INNER_OFFSET, insn, bytes);
    uint32_t offset = (uint32_t)(uintptr_t)resume;
    static const uint16_t selector = USER_CS;
    if (mode == NATIVE_16)
        *p++ = 0x66;
    *p++ = 0xea;
    p = put(p, &offset, 4);
    put(p, &selector, 2);
}

static void set_frame(enum native_mode mode)
{
    bool segmented = mode == NATIVE_16;
    frame->inner.offset = segmented ? INNER_OFFSET : (uint32_t)CODE_ADDRESS + INNER_OFFSET;
    frame->inner.selector = segmented ? LDT(LDT_CODE16) : USER32_CS;
    frame->ds = segmented ? LDT(LDT_DATA) : USER_DS;
    frame->es = segmented ? LDT(LDT_EXTRA) : USER_DS;
    frame->ss = segmented ? LDT(LDT_STACK) : USER_DS;
    frame->user_ds = USER_DS;
}

static void build(enum native_mode mode, const uint8_t *insn, unsigned bytes)
{
    static const uint8_t save[] = {0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57};
    static const uint8_t restore[] = {0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xfc, 0xc3};
    uint8_t *p = put(code, save, sizeof(save));
    p = put_mov(p, 0x89, 4, &frame->host_rsp);
    p = put_absolute(p, 0, 0xff, 6, &frame->state.rflags); /* push */
    *p++ = 0x9d;                                           /* popf */
    if (mode == NATIVE_64) {
        p = put_registers(p, 0x8b);
        p = put(p, insn, bytes);
        p = put_registers(p, 0x89);
    } else {
        p = put_absolute(p, 0, 0x8e, 0, &frame->es);
        p = put_absolute(p, 0, 0x8e, 3, &frame->ds);
        p = put_absolute(p, 0, 0x8e, 2, &frame->ss);
        p = put_registers(p, 0x8b);
        p = put_absolute(p, 0, 0xff, 5, &frame->inner); /* far jump */
        put_inner(mode, insn, bytes, p);
        p = put_registers(p, 0x89);
        p = put_absolute(p, 0, 0x8e, 0, &frame->user_ds);
        p = put_absolute(p, 0, 0x8e, 3, &frame->user_ds);
        p = put_absolute(p, 0, 0x8e, 2, &frame->user_ds);
    }
    p = put_mov(p, 0x8b, 4, &frame->host_rsp);
    *p++ = 0x9c;                                           /* pushf */
    p = put_absolute(p, 0, 0x8f, 0, &frame->state.rflags); /* pop */
    put(p, restore, sizeof(restore));
}

int native_run(enum native_mode mode, const uint8_t *insn, unsigned bytes, struct native_state *state)
{
    const uint64_t settable = 0xcd5; /* arithmetic flags and DF */
    set_frame(mode);
    build(mode, insn, bytes);
    frame->state = *state;
    frame->state.rflags = (state->rflags & settable) | 0x202;
    int raised = sigsetjmp(escape, 1);
    if (raised) {
        __asm__ volatile("cld");
        return raised - 1;
    }
    ((void (*)(void))code)();
    *state = frame->state;
    return -1;
}
