/* SPDX-License-Identifier: Apache-2.0 */
/* The native oracle: the host's processor, see oracle.h. */
#include "tests/translator/oracle.h"

#include <asm/ldt.h>
#include <asm/prctl.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "translator/ir.h"

/* Standard format, with all that the oracle compares (SDM 1 13.4). */
struct xsave_image {
    struct x86_fxsave fx;
    uint64_t xstate_bv, xcomp_bv, reserved[6];
    uint8_t ymm_high[16][16];
};
#define XSTATE_X87 1u
#define XSTATE_SSE 2u
#define XSTATE_AVX 4u

/*
 * A stub per mode loads the state and jumps to the instruction; a stub per exit stores it. What faults comes back by a
 * signal, whose handler must not touch thread-local storage before the host's FS base is back: it begins with code here.
 * The frame lies above 4 GiB at an odd place, where no stray operand of a test gets to.
 */
struct native_frame {
    uint8_t code[0x1000];
    _Alignas(64) struct xsave_image fpu;
    uint64_t gpr[16];
    uint64_t clean_flags; /* below rflags: popped with rsp here */
    uint64_t rflags;
    uint64_t host_rsp, host_fs_base;
    uint64_t fs_base, gs_base;
    uint64_t jump; /* the instruction, far pointer for legacy code */
    uint16_t jump_selector;
    uint16_t seg[6], no_seg, user_ds;
    uint32_t exit; /* which one was taken */
    uint32_t host_mxcsr;
    uint64_t handler;
};

#define FRAME_ADDRESS      UINT64_C(0x135a73000)
#define FRAME_FIELD(field) (FRAME_ADDRESS + offsetof(struct native_frame, field))

static struct native_frame *const frame = (struct native_frame *)FRAME_ADDRESS;
static uint8_t *code_alias; /* the code page, writable: at ORACLE_BASE it is not, as in the guest */
static struct oracle_state *fault_state;
static struct oracle_code current_code;
static void (*enter[2])(void); /* 64-bit code, legacy code */
static void (*resume)(void);   /* back to C */
static bool have_avx, have_fsgsbase, have_ldt, have_32;

/* --- emitting ------------------------------------------------------------------------------------------------ */

struct emitter {
    uint64_t at;
};

static void emit(struct emitter *e, const void *bytes, unsigned count)
{
    memcpy((void *)(uintptr_t)e->at, bytes, count);
    e->at += count;
}

/* opcode bytes, then a RIP-relative reference to `address` with ModRM.reg = reg, `tail` bytes of immediate follow. */
static void emit_reference_tail(struct emitter *e, const char *opcode, unsigned count, unsigned reg,
                                uint64_t address, unsigned tail)
{
    uint8_t modrm = (uint8_t)(5 | (reg & 7) << 3);
    uint32_t displacement = (uint32_t)(address - (e->at + count + 5 + tail));

    emit(e, opcode, count);
    emit(e, &modrm, 1);
    emit(e, &displacement, 4);
}

static void emit_reference(struct emitter *e, const char *opcode, unsigned count, unsigned reg,
                           uint64_t address)
{
    emit_reference_tail(e, opcode, count, reg, address, 0);
}

static void emit_registers(struct emitter *e, bool load)
{
    for (unsigned i = 0; i < 16; i++)
        emit_reference(e,
                       load     ? i >= 8 ? "\x4c\x8b" : "\x48\x8b"
                       : i >= 8 ? "\x4c\x89"
                                : "\x48\x89",
                       2, i, FRAME_FIELD(gpr) + 8 * i);
}

/* mov sreg, m16 (8e) or mov m16, sreg (8c), all but CS. */
static void emit_segments(struct emitter *e, const char *opcode)
{
    for (unsigned i = 0; i < 6; i++)
        if (i != SEG_CS)
            emit_reference(e, opcode, 1, i, FRAME_FIELD(seg) + 2 * i);
}

static void emit_get_base(struct emitter *e, unsigned n, uint64_t address)
{
    uint8_t insn[] = {0xf3, 0x48, 0x0f, 0xae, (uint8_t)(0xc0 | n << 3)}; /* rdfsbase, rdgsbase rax */

    emit(e, insn, 5);
    emit_reference(e, "\x48\x89", 2, IR_RAX, address);
}

static void emit_set_base(struct emitter *e, unsigned n, uint64_t address)
{
    uint8_t insn[] = {0xf3, 0x48, 0x0f, 0xae, (uint8_t)(0xd0 | n << 3)};

    emit_reference(e, "\x48\x8b", 2, IR_RAX, address);
    emit(e, insn, 5);
}

/* The host's FS base back, the guest's stored. */
static void emit_bases_out(struct emitter *e)
{
    if (!have_fsgsbase)
        return;
    emit_get_base(e, 0, FRAME_FIELD(fs_base));
    emit_get_base(e, 1, FRAME_FIELD(gs_base));
    emit_set_base(e, 0, FRAME_FIELD(host_fs_base));
}

static void emit_fpu(struct emitter *e, unsigned fx_operation, unsigned xsave_operation)
{
    if (have_avx) {
        emit(e, "\xb8\7\0\0\0\x31\xd2", 7); /* mov eax, 7; xor edx, edx */
        emit_reference(e, "\x48\x0f\xae", 3, xsave_operation, FRAME_FIELD(fpu));
    } else {
        emit_reference(e, "\x48\x0f\xae", 3, fx_operation, FRAME_FIELD(fpu));
    }
}

static void emit_enter(struct emitter *e, bool legacy)
{
    enter[legacy] = (void (*)(void))(uintptr_t)e->at;
    emit(e, "\x53\x55\x41\x54\x41\x55\x41\x56\x41\x57", 10); /* push callee-saved registers */
    emit_reference(e, "\x48\x89", 2, IR_RSP, FRAME_FIELD(host_rsp));
    if (have_fsgsbase)
        emit_segments(e, "\x8e");
    if (have_fsgsbase && !legacy) {
        emit_set_base(e, 0, FRAME_FIELD(fs_base));
        emit_set_base(e, 1, FRAME_FIELD(gs_base));
    }
    emit_fpu(e, 1, 5);
    emit_reference(e, "\x48\x8d", 2, IR_RSP, FRAME_FIELD(rflags));
    emit(e, "\x9d", 1); /* popfq */
    emit_registers(e, true);
    emit_reference(e, "\xff", 1, legacy ? 5 : 4, FRAME_FIELD(jump)); /* jmp, far or near */
}

static void emit_resume(struct emitter *e)
{
    emit_reference(e, "\x8e", 1, SEG_SS, FRAME_FIELD(user_ds));
    emit(e, "\xdb\xe3", 2);                                       /* fninit */
    emit_reference(e, "\x0f\xae", 2, 2, FRAME_FIELD(host_mxcsr)); /* ldmxcsr */
    if (have_avx)
        emit(e, "\xc5\xf8\x77", 3); /* vzeroupper */
    emit_reference(e, "\x48\x8b", 2, IR_RSP, FRAME_FIELD(host_rsp));
    emit(e, "\x41\x5f\x41\x5e\x41\x5d\x41\x5c\x5d\x5b\xc3", 11);
}

static void emit_exit(struct emitter *e, unsigned which)
{
    uint8_t *slot = (uint8_t *)(uintptr_t)oracle_exit(ORACLE_64, which);
    uint32_t number = which;

    memcpy(slot, "\xff\x25\2\0\0\0", 6); /* jmp [rip + 2]; aligned, as EFLAGS.AC may be set */
    memcpy(slot + 8, &e->at, 8);
    emit_registers(e, false);
    emit_reference(e, "\x48\x8d", 2, IR_RSP, FRAME_FIELD(rflags) + 8);
    emit(e, "\x9c", 1); /* pushfq */
    emit_reference(e, "\x48\x8d", 2, IR_RSP, FRAME_FIELD(clean_flags));
    emit(e, "\x9d", 1);
    emit_segments(e, "\x8c");
    emit_bases_out(e);
    emit_fpu(e, 0, 4);
    emit_reference_tail(e, "\xc7", 1, 0, FRAME_FIELD(exit), 4);
    emit(e, &number, 4);
    emit_resume(e);
}

/* Where the kernel enters for a signal: three arguments in registers, our own stack. */
static uint64_t emit_handler(struct emitter *e)
{
    uint64_t start = e->at;

    emit(e, "\x68\2\2\0\0\x9d", 6); /* push 0x202; popfq: EFLAGS.AC is still the test's */
    emit_segments(e, "\x8c");
    emit_bases_out(e);
    emit_reference(e, "\xff", 1, 4, FRAME_FIELD(handler));
    return start;
}

/* --- faults -------------------------------------------------------------------------------------------------- */

/* From the kernel's signal frame. Components in their initial state may be absent. */
static void save_fpu(const struct xsave_image *image, struct oracle_state *state)
{
    state->fx = image->fx;
    memset(state->ymm_high, 0, sizeof(state->ymm_high));
    if (have_avx && image->xstate_bv & XSTATE_AVX)
        memcpy(state->ymm_high, image->ymm_high, sizeof(state->ymm_high));
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    static const uint8_t order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                      REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    const ucontext_t *uc = context;
    const greg_t *gregs = uc->uc_mcontext.gregs;
    struct oracle_state *state = fault_state;

    if (!state) { /* a fault of the test itself */
        signal(number, SIG_DFL);
        return;
    }
    for (unsigned i = 0; i < 16; i++)
        state->gpr[i] = (uint64_t)gregs[order[i]];
    state->rflags = (uint64_t)gregs[REG_EFL];
    state->rip = (uint64_t)gregs[REG_RIP];
    state->vector = (int)gregs[REG_TRAPNO];
    state->error = (uint64_t)gregs[REG_ERR];
    state->address = state->vector == EXC_PF ? (uint64_t)gregs[REG_CR2] : 0;
    save_fpu((const struct xsave_image *)uc->uc_mcontext.fpregs, state);
    frame->seg[SEG_CS] = (uint16_t)gregs[REG_CSGSFS];
    frame->seg[SEG_SS] = (uint16_t)((uint64_t)gregs[REG_CSGSFS] >> 48);
    resume();
}

static int install_handlers(uint64_t entry)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    static uint8_t stack[64 * 1024];
    const stack_t alternative = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

    action.sa_sigaction = (void (*)(int, siginfo_t *, void *))(uintptr_t)entry;
    if (sigaltstack(&alternative, NULL) < 0)
        return -errno;
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        if (sigaction(signals[i], &action, NULL) < 0)
            return -errno;
    return 0;
}

/* --- setting up ---------------------------------------------------------------------------------------------- */

static void *map_at(uint64_t address, size_t bytes, int protection, int flags, int fd)
{
    void *wanted = (void *)(uintptr_t)address;
    void *p = mmap(wanted, bytes, protection, flags | MAP_FIXED_NOREPLACE, fd, 0);

    return p == wanted ? p : NULL;
}

static int map_memory(void)
{
    const int private = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
    int fd = memfd_create("oracle", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, 0x1000) < 0)
        return -errno;
    code_alias = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    uint8_t *exits = map_at(ORACLE_EXIT, 0x1000, PROT_READ | PROT_WRITE, private, -1);
    uint8_t *fixed = map_at(ORACLE_CONST, 0x1000, PROT_READ | PROT_WRITE, private, -1);
    if (code_alias == MAP_FAILED || !exits || !fixed ||
        !map_at(ORACLE_BASE, 0x1000, PROT_READ | PROT_EXEC, MAP_SHARED, fd) ||
        !map_at(FRAME_ADDRESS, sizeof(*frame), PROT_READ | PROT_WRITE | PROT_EXEC, private, -1) ||
        !map_at(ORACLE_DATA, ORACLE_DATA_BYTES, PROT_READ | PROT_WRITE, private, -1))
        return -ENOMEM;
    close(fd);
    memset(code_alias, 0xf4, 0x1000);
    for (unsigned i = 0; i < 0x1000; i++)
        fixed[i] = oracle_const_byte(i);
    mprotect(fixed, 0x1000, PROT_READ);
    oracle_exit_page(exits);
    /* Error codes tell present pages from absent ones: they must not be swapped out. Not allowed everywhere, rarely needed. */
    if (mlock((void *)(uintptr_t)ORACLE_BASE, 0x1000) == 0)
        mlock((void *)(uintptr_t)ORACLE_DATA, ORACLE_DATA_BYTES + 0x1000);
    return 0;
}

static void set_ldt(void)
{
    have_ldt = true;
    for (unsigned mode = ORACLE_32; mode < ORACLE_MODES; mode++) {
        for (unsigned i = 0; i < 6; i++) {
            const struct oracle_segment *segment = &oracle_segments[mode][i];
            bool pages = segment->limit > 0xfffff;
            struct user_desc desc = {.entry_number = segment->selector >> 3,
                                     .base_addr = segment->base,
                                     .limit = pages ? segment->limit >> 12 : segment->limit,
                                     .seg_32bit = segment->big,
                                     .contents = segment->type >> 2,
                                     .limit_in_pages = pages};
            if (segment->selector & 4 && syscall(SYS_modify_ldt, 1, &desc, sizeof(desc)) < 0)
                have_ldt = false;
        }
    }
}

/* Does the kernel let us run legacy code at all? */
static bool try_legacy(enum oracle_mode mode)
{
    static struct oracle_state state;
    struct oracle_code code;

    oracle_code_init(&code, mode, (const uint8_t *)"\x90", 1, false);
    oracle_native_code(&code);
    memset(&state, 0, sizeof(state));
    state.rflags = 2;
    state.fx.fcw = 0x37f;
    state.fx.mxcsr = 0x1f80;
    oracle_native_run(&state);
    return state.vector == -1 && state.rip == ORACLE_INSN + 1;
}

int oracle_native_init(void)
{
    int r = map_memory();
    cpu_set_t one;

    CPU_ZERO(&one); /* LSL of one of Linux's segments tells the processor's number */
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof(one), &one);

    if (r < 0)
        return r;
    have_avx = __builtin_cpu_supports("avx");
    have_fsgsbase = getauxval(AT_HWCAP2) & 2;
    if (syscall(SYS_arch_prctl, ARCH_GET_FS, &frame->host_fs_base) < 0 ||
        (!have_fsgsbase && syscall(SYS_arch_prctl, ARCH_SET_GS, (unsigned long)ORACLE_GS_BASE) < 0))
        return -errno;
    frame->clean_flags = 0x202;
    frame->host_mxcsr = 0x1f80;
    frame->user_ds = ORACLE_USER_DS;
    frame->handler = (uint64_t)(uintptr_t)on_fault;

    struct emitter e = {FRAME_FIELD(code)};
    emit_enter(&e, false);
    emit_enter(&e, true);
    resume = (void (*)(void))(uintptr_t)e.at;
    emit_resume(&e);
    emit_exit(&e, 0);
    emit_exit(&e, 1);
    mprotect((void *)(uintptr_t)ORACLE_EXIT, 0x1000, PROT_READ | PROT_EXEC);
    r = install_handlers(emit_handler(&e));
    if (r < 0)
        return r;
    if (have_fsgsbase) {
        set_ldt();
        have_32 = have_ldt && try_legacy(ORACLE_32);
    }
    return 0;
}

bool oracle_native_supports(enum oracle_mode mode)
{
    return mode == ORACLE_64 || have_32;
}

bool oracle_native_avx(void)
{
    return have_avx;
}

bool oracle_native_fsgsbase(void)
{
    return have_fsgsbase;
}

/* --- running ------------------------------------------------------------------------------------------------- */

void oracle_native_code(const struct oracle_code *code)
{
    const struct oracle_segment *segments = oracle_segments[code->mode];

    current_code = *code;
    memcpy(code_alias + (ORACLE_INSN - ORACLE_BASE), code->data, sizeof(code->data));
    frame->jump = ORACLE_INSN - (code->mode == ORACLE_16 ? ORACLE_BASE : 0);
    if (code->mode != ORACLE_64) /* m16:32 */
        frame->jump |= (uint64_t)segments[SEG_CS].selector << 32;
}

void oracle_native_run(struct oracle_state *state)
{
    enum oracle_mode mode = current_code.mode;

    frame->fpu.fx = state->fx;
    memcpy(frame->fpu.ymm_high, state->ymm_high, sizeof(state->ymm_high));
    /* Zeros count as the initial state, as in the translator: XSAVE tells. */
    frame->fpu.xstate_bv = XSTATE_X87 | XSTATE_SSE;
    for (unsigned i = 0; i < sizeof(state->ymm_high); i++)
        frame->fpu.xstate_bv |= ((const uint8_t *)state->ymm_high)[i] ? XSTATE_AVX : 0;
    memcpy(frame->gpr, state->gpr, sizeof(state->gpr));
    frame->rflags = state->rflags;
    for (unsigned i = 0; i < 6; i++)
        frame->seg[i] = oracle_segments[mode][i].selector;
    frame->fs_base = ORACLE_FS_BASE;
    frame->gs_base = ORACLE_GS_BASE;
    memcpy((void *)(uintptr_t)ORACLE_DATA, state->data, sizeof(state->data));
    state->vector = -1;
    state->error = state->address = 0;
    frame->exit = UINT32_MAX;
    fault_state = state;
    enter[mode != ORACLE_64]();
    fault_state = NULL;
    if (frame->exit != UINT32_MAX) {
        memcpy(state->gpr, frame->gpr, sizeof(state->gpr));
        state->rflags = frame->rflags;
        state->rip = frame->exit ? ORACLE_TARGET : ORACLE_INSN + current_code.length;
        save_fpu(&frame->fpu, state);
    }
    memcpy(state->seg, frame->seg, sizeof(state->seg));
    state->fs_base = frame->fs_base;
    state->gs_base = frame->gs_base;
    memcpy(state->data, (void *)(uintptr_t)ORACLE_DATA, sizeof(state->data));
}
