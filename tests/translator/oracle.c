/* SPDX-License-Identifier: Apache-2.0 */
/* The native oracle: the two machines that execute an instruction, see oracle.h. */
#include "tests/translator/oracle.h"

#include <errno.h>
#include <setjmp.h>
#include <asm/prctl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "translator/mmu.h"
#include "translator/x86/sys.h"

/* --- native -------------------------------------------------------------------------------------------------- */

/*
 * A stub loads the state and jumps to the instruction. What follows that, and the branch target, is HLT on both sides, so
 * that the code page reads the same; the signal of its #GP brings the state back.
 */
/* Standard format, with all that the oracle compares (SDM 1 13.4). */
struct xsave_image {
    struct x86_fxsave fx;
    uint64_t xstate_bv, xcomp_bv, reserved[6];
    uint8_t ymm_high[16][16];
};
#define XSTATE_X87 1u
#define XSTATE_SSE 2u
#define XSTATE_AVX 4u

struct native_frame {
    uint8_t stub[512];
    _Alignas(64) struct xsave_image fpu;
    uint64_t gpr[16];
    uint64_t rflags;
};

#define FRAME_ADDRESS      (ORACLE_BASE + 0x2a5b3000) /* far from what stray operands of a test hit */
#define FRAME_FIELD(field) (FRAME_ADDRESS + (uint32_t)offsetof(struct native_frame, field))

static struct native_frame *const native_frame = (struct native_frame *)(uintptr_t)FRAME_ADDRESS;
static uint8_t *code_alias; /* the code page, writable: at ORACLE_BASE it is not, as in the guest */
static sigjmp_buf fault_return;
static struct oracle_state *fault_state;
static uint64_t landing; /* after the instruction */
static bool have_avx;

struct emitter {
    uint32_t at;
};

static void emit(struct emitter *e, const void *bytes, unsigned count)
{
    memcpy((void *)(uintptr_t)e->at, bytes, count);
    e->at += count;
}

/* opcode bytes, then a RIP-relative reference to `address` with ModRM.reg = reg. */
static void emit_reference(struct emitter *e, const char *opcode, unsigned count, unsigned reg,
                           uint32_t address)
{
    uint8_t modrm = (uint8_t)(5 | (reg & 7) << 3);
    uint32_t displacement = address - (e->at + count + 5);

    emit(e, opcode, count);
    emit(e, &modrm, 1);
    emit(e, &displacement, 4);
}

static void emit_stub(void)
{
    struct emitter e = {FRAME_FIELD(stub)};

    if (have_avx) {
        emit(&e, "\xb8\7\0\0\0\x31\xd2", 7);                      /* mov eax, 7; xor edx, edx */
        emit_reference(&e, "\x48\x0f\xae", 3, 5, FRAME_FIELD(fpu)); /* xrstor64 */
    } else {
        emit_reference(&e, "\x48\x0f\xae", 3, 1, FRAME_FIELD(fpu)); /* fxrstor64 */
    }
    emit_reference(&e, "\x48\x8d", 2, IR_RSP, FRAME_FIELD(rflags));
    emit(&e, "\x9d", 1); /* popfq */
    for (unsigned i = 0; i < 16; i++)
        emit_reference(&e, i >= 8 ? "\x4c\x8b" : "\x48\x8b", 2, i, FRAME_FIELD(gpr) + 8 * i);
    uint32_t displacement = ORACLE_INSN - (e.at + 5);
    emit(&e, "\xe9", 1); /* jmp */
    emit(&e, &displacement, 4);
}

static void reset_host_fpu(void)
{
    static const uint32_t mxcsr = 0x1f80;

    __asm__ volatile("fninit\n\tldmxcsr %0\n\tcld" : : "m"(mxcsr));
}

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
    if (state->vector == EXC_GP && (state->rip == landing || state->rip == ORACLE_TARGET))
        state->vector = -1;
    state->address = state->vector == EXC_PF ? (uint64_t)gregs[REG_CR2] : 0;
    save_fpu((const struct xsave_image *)uc->uc_mcontext.fpregs, state);
    siglongjmp(fault_return, 1);
}

int oracle_native_init(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    static uint8_t stack[64 * 1024];
    const stack_t alternative = {.ss_sp = stack, .ss_size = sizeof(stack)};
    const int fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    void *code = (void *)(uintptr_t)ORACLE_BASE, *data = (void *)(uintptr_t)ORACLE_DATA;

    int fd = memfd_create("oracle", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, 0x1000) < 0)
        return -errno;
    code_alias = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (code_alias == MAP_FAILED ||
        mmap(code, 0x1000, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) != code ||
        mmap(native_frame, 0x1000, PROT_READ | PROT_WRITE | PROT_EXEC, fixed, -1, 0) != native_frame ||
        mmap(data, ORACLE_DATA_BYTES, PROT_READ | PROT_WRITE, fixed, -1, 0) != data)
        return -ENOMEM;
    close(fd);
    memset(code_alias, 0xf4, 0x1000);
    have_avx = __builtin_cpu_supports("avx");
    emit_stub();
    if (syscall(SYS_arch_prctl, ARCH_SET_GS, (unsigned long)ORACLE_GS_BASE) < 0)
        return -errno;
    if (sigaltstack(&alternative, NULL) < 0)
        return -errno;
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        if (sigaction(signals[i], &action, NULL) < 0)
            return -errno;
    return 0;
}

bool oracle_native_avx(void)
{
    return have_avx;
}

void oracle_native_code(const uint8_t *bytes, unsigned length)
{
    uint8_t *at = code_alias + (ORACLE_INSN - ORACLE_BASE);

    memset(at, 0xf4, ORACLE_TARGET - ORACLE_INSN);
    memcpy(at, bytes, length);
    landing = ORACLE_INSN + length;
}

void oracle_native_run(struct oracle_state *state)
{
    void (*stub)(void) = (void (*)(void))native_frame->stub;

    native_frame->fpu = (struct xsave_image){
        .fx = state->fx,
        .xstate_bv = XSTATE_X87 | XSTATE_SSE | XSTATE_AVX,
    };
    memcpy(native_frame->fpu.ymm_high, state->ymm_high, sizeof(state->ymm_high));
    memcpy(native_frame->gpr, state->gpr, sizeof(state->gpr));
    native_frame->rflags = state->rflags;
    memcpy((void *)(uintptr_t)ORACLE_DATA, state->data, sizeof(state->data));
    fault_state = state;
    if (!sigsetjmp(fault_return, 0))
        stub();
    fault_state = NULL;
    reset_host_fpu();
    memcpy(state->data, (void *)(uintptr_t)ORACLE_DATA, sizeof(state->data));
}

/* --- guest --------------------------------------------------------------------------------------------------- */

#define GUEST_RAM_BYTES 0x40000u
#define GUEST_TABLES    0x1000u /* PML4, PDPT, PD, PT */
#define GUEST_CODE      0x10000u
#define GUEST_DATA      0x20000u

struct oracle_guest {
    struct translator_vm *vm;
    struct x86_cpu *cpu;
    uint8_t *ram;
    unsigned length;
};

static void put_entry(struct oracle_guest *guest, uint32_t table, unsigned index, uint64_t value)
{
    memcpy(guest->ram + table + 8 * index, &value, 8);
}

static void build_tables(struct oracle_guest *guest)
{
    const uint64_t user = 0x67; /* present, writable, user, accessed, dirty */
    const uint32_t pt = GUEST_TABLES + 0x3000;

    put_entry(guest, GUEST_TABLES, 0, (GUEST_TABLES + 0x1000) | user);
    put_entry(guest, GUEST_TABLES + 0x1000, ORACLE_BASE >> 30, (GUEST_TABLES + 0x2000) | user);
    put_entry(guest, GUEST_TABLES + 0x2000, ORACLE_BASE >> 21 & 511, pt | user);
    put_entry(guest, pt, ORACLE_BASE >> 12 & 511, GUEST_CODE | (user & ~2ull)); /* not writable */
    for (unsigned i = 0; i < ORACLE_DATA_BYTES / 0x1000; i++)
        put_entry(guest, pt, (ORACLE_DATA >> 12 & 511) + i, (GUEST_DATA + i * 0x1000) | user);
}

static void enter_user_mode(struct x86_cpu *cpu)
{
    const struct x86_seg data = {.limit = UINT32_MAX, .attr = 0xc0f3, .sel = 0x2b};

    cpu->cr0 = CR0_PG | CR0_PE | CR0_NE | CR0_ET | CR0_MP | CR0_WP;
    cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    cpu->xcr0 = XSTATE_X87 | XSTATE_SSE | (have_avx ? XSTATE_AVX : 0);
    cpu->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        cpu->seg[i] = data;
    cpu->seg[SEG_CS] = (struct x86_seg){.limit = UINT32_MAX, .attr = 0xa0fb, .sel = 0x33};
    cpu->seg[SEG_GS].base = ORACLE_GS_BASE;
    cpu->cpl = 3;
    mmu_paging_changed(cpu);
    mmu_set_cr3(cpu, GUEST_TABLES);
    x86_update_mode(cpu);
}

int oracle_guest_create(enum engine_tier tier, struct oracle_guest **ret_guest)
{
    static const struct x86_cpu_ops no_ops;
    struct oracle_guest *guest = calloc(1, sizeof(*guest));
    int r;

    if (!guest)
        return -ENOMEM;
    guest->ram = mmap(NULL, GUEST_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (guest->ram == MAP_FAILED) {
        free(guest);
        return -ENOMEM;
    }
    const struct mmu_slot slot = {.bytes = GUEST_RAM_BYTES, .host = guest->ram};
    r = translator_vm_create(1, tier, &guest->vm);
    if (r == 0)
        r = mmu_set_slots(guest->vm, &slot, 1);
    if (r == 0)
        r = x86_cpu_create(guest->vm, 0, &no_ops, NULL, &guest->cpu);
    if (r < 0) {
        oracle_guest_destroy(guest);
        return r;
    }
    memset(guest->cpu->features, 0xff, sizeof(guest->cpu->features));
    build_tables(guest);
    enter_user_mode(guest->cpu);
    *ret_guest = guest;
    return 0;
}

void oracle_guest_destroy(struct oracle_guest *guest)
{
    if (!guest)
        return;
    x86_cpu_destroy(guest->cpu);
    translator_vm_destroy(guest->vm);
    munmap(guest->ram, GUEST_RAM_BYTES);
    free(guest);
}

void oracle_guest_code(struct oracle_guest *guest, const uint8_t *bytes, unsigned length)
{
    memset(guest->ram + GUEST_CODE, 0xf4, 0x1000);
    memcpy(guest->ram + GUEST_CODE + (ORACLE_INSN - ORACLE_BASE), bytes, length);
    guest->length = length;
    /* The engine compares translations with the page when it fills an instruction mapping. */
    mmu_flush_all(guest->cpu);
}

static void load(struct x86_cpu *cpu, const struct oracle_state *state)
{
    memcpy(cpu->gpr, state->gpr, sizeof(cpu->gpr));
    cpu->rflags = state->rflags;
    cpu->fx = state->fx;
    cpu->mxcsr = state->fx.mxcsr;
    cpu->x87_live = false;
    for (unsigned i = 0; i < 16; i++) {
        memcpy(cpu->vec[i].b, state->fx.xmm[i], 16);
        memcpy(cpu->vec[i].b + 16, state->ymm_high[i], 16);
    }
    cpu->vec_upper = VEC_UPPER_USED;
    memset(&cpu->exc, 0, sizeof(cpu->exc));
    x86_update_mode(cpu);
    x86_set_rip(cpu, ORACLE_INSN);
}

static void save(struct x86_cpu *cpu, struct oracle_state *state)
{
    x86_x87_sync(cpu);
    memcpy(state->gpr, cpu->gpr, sizeof(cpu->gpr));
    state->rflags = cpu->rflags;
    state->rip = cpu->rip;
    state->fx = cpu->fx;
    state->fx.mxcsr = cpu->mxcsr;
    for (unsigned i = 0; i < 16; i++) {
        memcpy(state->fx.xmm[i], cpu->vec[i].b, 16);
        memcpy(state->ymm_high[i], cpu->vec[i].b + 16, 16);
    }
}

void oracle_guest_run(struct oracle_guest *guest, struct oracle_state *state)
{
    struct x86_cpu *cpu = guest->cpu;

    load(cpu, state);
    memcpy(guest->ram + GUEST_DATA, state->data, sizeof(state->data));
    int r = engine_run(cpu);
    save(cpu, state);
    memcpy(state->data, guest->ram + GUEST_DATA, sizeof(state->data));
    state->vector = -1;
    state->error = state->address = 0;
    bool landed = state->rip == ORACLE_INSN + guest->length || state->rip == ORACLE_TARGET;
    if (r != X86_RAISE) {
        state->vector = 1000 + r; /* no way out that an instruction of user mode may take */
    } else if (!landed || cpu->exc.vector != EXC_GP) {
        state->vector = cpu->exc.vector;
        state->error = cpu->exc.has_error ? cpu->exc.error : 0;
        state->address = cpu->exc.vector == EXC_PF ? cpu->exc.cr2 : 0;
    }
}

uint64_t oracle_guest_stat(const struct oracle_guest *guest, unsigned stat)
{
    return guest->cpu->stats[stat];
}
