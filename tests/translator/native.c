/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/translator/native.h"

#include <assert.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

/* At fixed places below 2 GiB, so that the stub reaches them with absolute addresses and no register. */
#define SCRATCH_ADDRESS UINT64_C(0x40000000)
#define FRAME_ADDRESS   UINT64_C(0x40010000)
#define CODE_ADDRESS    UINT64_C(0x40020000)

struct frame {
    uint64_t host_rsp;
    struct native_state state;
};

static struct frame *frame;
static uint8_t *code;
static sigjmp_buf escape;
static uint8_t signal_stack[65536];

static void on_signal(int number)
{
    siglongjmp(escape, number);
}

static void *map_at(uintptr_t address, size_t bytes, int protection)
{
    void *p = mmap((void *)address, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    assert(p == (void *)address);
    return p;
}

uint8_t *native_init(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof(signal_stack)};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaction(signals[i], &action, NULL);
    frame = map_at(FRAME_ADDRESS, 4096, PROT_READ | PROT_WRITE);
    code = map_at(CODE_ADDRESS, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    return map_at(SCRATCH_ADDRESS, NATIVE_SCRATCH_BYTES, PROT_READ | PROT_WRITE);
}

static uint8_t *put(uint8_t *p, const void *bytes, unsigned count)
{
    memcpy(p, bytes, count);
    return p + count;
}

/* mov between a 64-bit register and an absolute address: opcode 8b loads, 89 stores. */
static uint8_t *put_mov(uint8_t *p, uint8_t opcode, unsigned reg, uintptr_t address)
{
    uint8_t bytes[8] = {(uint8_t)(0x48 | (reg >> 3) << 2), opcode, (uint8_t)(4 | (reg & 7) << 3), 0x25};
    uint32_t low = (uint32_t)address;
    memcpy(bytes + 4, &low, 4);
    return put(p, bytes, 8);
}

/* push or pop qword [address] */
static uint8_t *put_stack(uint8_t *p, uint8_t opcode, uint8_t modrm, uintptr_t address)
{
    uint8_t bytes[7] = {opcode, modrm, 0x25};
    uint32_t low = (uint32_t)address;
    memcpy(bytes + 3, &low, 4);
    return put(p, bytes, 7);
}

static void build(const uint8_t *insn, unsigned bytes)
{
    static const uint8_t save[] = {0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57};
    static const uint8_t restore[] = {0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xfc, 0xc3};
    uintptr_t gpr = (uintptr_t)frame->state.gpr, flags = (uintptr_t)&frame->state.rflags;
    uintptr_t host_rsp = (uintptr_t)&frame->host_rsp;
    uint8_t *p = put(code, save, sizeof(save));
    p = put_mov(p, 0x89, 4, host_rsp);
    p = put_stack(p, 0xff, 0x34, flags);
    *p++ = 0x9d; /* popf */
    for (unsigned i = 0; i < 16; i++)
        p = put_mov(p, 0x8b, i, gpr + i * 8);
    p = put(p, insn, bytes);
    for (unsigned i = 0; i < 16; i++)
        p = put_mov(p, 0x89, i, gpr + i * 8);
    p = put_mov(p, 0x8b, 4, host_rsp);
    *p++ = 0x9c; /* pushf */
    p = put_stack(p, 0x8f, 0x04, flags);
    put(p, restore, sizeof(restore));
}

int native_run(const uint8_t *insn, unsigned bytes, struct native_state *state)
{
    const uint64_t settable = 0xcd5; /* arithmetic flags and DF */
    build(insn, bytes);
    frame->state = *state;
    frame->state.rflags = (state->rflags & settable) | 0x202;
    int signal_number = sigsetjmp(escape, 1);
    if (signal_number) {
        __asm__ volatile("cld");
        return signal_number;
    }
    ((void (*)(void))code)();
    *state = frame->state;
    return 0;
}
