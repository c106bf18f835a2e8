/* SPDX-License-Identifier: Apache-2.0 */
/* Control registers, MSRs, I/O permission, and XSAVE images against the host's own. */
#include <cpuid.h>
#include <glib.h>
#include <string.h>

#include "tests/translator/sys_machine.h"

static void setup(struct machine *machine)
{
    machine_create(machine, ENGINE_INTERPRETER);
    machine_enter_long_mode(machine);
}

struct cr_case {
    unsigned number;
    uint64_t value;
    bool valid;
};

#define CR0_NOW (CR0_PE | CR0_ET | CR0_NE | CR0_WP | (uint64_t)CR0_PG)
#define CR4_NOW (uint64_t)(CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT)

/* Broken if it fails: a reserved bit or a forbidden combination gets into a control register. */
static void test_control_registers(void)
{
    static const struct cr_case cases[] = {
        {0, CR0_NOW | CR0_TS, true},
        {0, CR0_NOW & ~(uint64_t)CR0_PG, false}, /* not from 64-bit code */
        {0, CR0_NOW & ~(uint64_t)CR0_PE, false},
        {0, CR0_NOW | CR0_NW, false},
        {0, CR0_NOW | UINT64_C(1) << 32, false},
        {0, CR0_NOW | UINT64_C(1) << 10, true}, /* reserved low bits are ignored */
        {3, MACHINE_PML4 | UINT64_C(1) << 41, false},
        {3, MACHINE_PML4 | UINT64_C(1) << 63, false}, /* only with PCIDE */
        {3, MACHINE_PML4 | 0x18, true},
        {4, CR4_NOW | CR4_SMEP | CR4_SMAP | CR4_UMIP | CR4_PGE | CR4_FSGSBASE | CR4_OSXSAVE, true},
        {4, CR4_NOW & ~(uint64_t)CR4_PAE, false},
        {4, CR4_NOW | CR4_PKS | CR4_VME | CR4_PVI, true},
        {4, CR4_NOW | UINT64_C(1) << 23, false}, /* CET: not offered */
        {4, CR4_NOW | UINT64_C(1) << 12, false}, /* LA57 */
        {4, CR4_NOW | UINT64_C(1) << 40, false},
        {4, CR4_NOW | CR4_PCIDE, true},
        {8, 15, true},
        {8, 16, false},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct machine machine;
        setup(&machine);
        struct x86_cpu *cpu = machine.cpu;
        struct ir_op op = {
            .op = IR_SYS, .sub = X86_SYS_MOV_TO_CR, .size = 8, .src = IR_RAX, .imm = cases[i].number};
        cpu->gpr[IR_RAX] = cases[i].value;
        g_test_message("case %u", i);
        g_assert_cmpint(x86_sys(cpu, &op), ==, cases[i].valid ? X86_OK : X86_RAISE);
        g_assert_cmpuint(cpu->exc.pending ? cpu->exc.vector : EXC_GP, ==, EXC_GP);
        if (!cases[i].valid) {
            g_assert_cmphex(cpu->cr0, ==, CR0_NOW);
            g_assert_cmphex(cpu->cr4, ==, CR4_NOW);
            g_assert_cmphex(cpu->cr3, ==, MACHINE_PML4);
        }
        machine_destroy(&machine);
    }
}

/* Broken if it fails: PCIDE can be set with a PCID in CR3, or CR3's bit 63 stays in the register. */
static void test_pcid(void)
{
    struct machine machine;
    setup(&machine);
    struct x86_cpu *cpu = machine.cpu;
    struct ir_op cr3 = {.op = IR_SYS, .sub = X86_SYS_MOV_TO_CR, .size = 8, .src = IR_RAX, .imm = 3};
    struct ir_op cr4 = {.op = IR_SYS, .sub = X86_SYS_MOV_TO_CR, .size = 8, .src = IR_RCX, .imm = 4};
    cpu->gpr[IR_RAX] = MACHINE_PML4 | 8;
    cpu->gpr[IR_RCX] = CR4_NOW | CR4_PCIDE;
    g_assert_cmpint(x86_sys(cpu, &cr3), ==, X86_OK);
    g_assert_cmpint(x86_sys(cpu, &cr4), ==, X86_RAISE);
    cpu->gpr[IR_RAX] = MACHINE_PML4;
    g_assert_cmpint(x86_sys(cpu, &cr3), ==, X86_OK);
    g_assert_cmpint(x86_sys(cpu, &cr4), ==, X86_OK);
    cpu->gpr[IR_RAX] = MACHINE_PML4 | 5 | UINT64_C(1) << 63;
    g_assert_cmpint(x86_sys(cpu, &cr3), ==, X86_OK);
    g_assert_cmphex(cpu->cr3, ==, MACHINE_PML4 | 5);
    machine_destroy(&machine);
}

struct msr_case {
    uint32_t msr;
    uint64_t value;
    int write, read; /* 0 or negative */
    uint64_t reads_as;
};

/* Broken if it fails: an MSR takes an invalid value, or one that does not exist answers. */
static void test_msrs(void)
{
    static const struct msr_case cases[] = {
        {0xc0000082, UINT64_C(0xffffffff81000000), 0, 0, UINT64_C(0xffffffff81000000)},
        {0xc0000082, UINT64_C(0x800000000000), -1, 0, 0},
        {0xc0000100, UINT64_C(0x7fffffffffff), 0, 0, UINT64_C(0x7fffffffffff)},
        {0xc0000101, UINT64_C(0x7fffffffffff0000), -1, 0, 0},
        {0xc0000080, EFER_LME | EFER_SCE, 0, 0, EFER_LME | EFER_LMA | EFER_SCE},
        {0xc0000080, EFER_SCE, -1, 0, EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE}, /* LME under paging */
        {0xc0000080, EFER_LME | 1 << 12, -1, 0, EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE},
        {0x277, UINT64_C(0x0407050600070106), 0, 0, UINT64_C(0x0407050600070106)},
        {0x277, 2, -1, 0, UINT64_C(0x0007040600070406)},
        {0x2ff, 0xc06, 0, 0, 0xc06},
        {0x2ff, 0x1006, -1, 0, 0},
        {0x200, 0x80000000 | 6, 0, 0, 0x80000000 | 6},
        {0x200, 2, -1, 0, 0},
        {0x200, UINT64_C(1) << 40 | 6, -1, 0, 0}, /* beyond the address width */
        {0x201, UINT64_C(0xfff0000800), 0, 0, UINT64_C(0xfff0000800)},
        {0x201, UINT64_C(1) << 40 | 0x800, -1, 0, 0},
        {0x210, 0, -1, -1, 0},
        {0x1a0, UINT64_C(0x400c50009), 0, 0, UINT64_C(0x400c51809)}, /* bits that say "not there" stay */
        {0x6e1, 0xffff, 0, 0, 0xffff},
        {0x6e1, UINT64_C(1) << 32, -1, 0, 0},
        {0x250, UINT64_C(0x0606060606060606), 0, 0, UINT64_C(0x0606060606060606)},
        {0x48, 7, 0, 0, 7},
        {0x48, 8, -1, 0, 0},
        {0x49, 1, 0, -1, 0},
        {0x10a, 0, -1, 0, UINT64_C(0x400000000d10e17b)},
        {0xc0000103, UINT64_C(1) << 32, -1, 0, 0},
        {0xc0000103, 5, 0, 0, 5},
        {0xda0, 1, -1, 0, 0},
        {0x179, 1, -1, 0, 0},
        {0x400, 0, -1, -1, 0},
        {0x1b, UINT64_C(0xfee00900), 0, 0, UINT64_C(0xfee00900)},
        {0x12345, 0, -1, -1, 0},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct machine machine;
        uint64_t value;
        setup(&machine);
        g_test_message("case %u", i);
        g_assert_cmpint(x86_msr_write(machine.cpu, cases[i].msr, cases[i].value) < 0, ==, cases[i].write < 0);
        g_assert_cmpint(x86_msr_read(machine.cpu, cases[i].msr, &value) < 0, ==, cases[i].read < 0);
        if (cases[i].read == 0) {
            g_assert_cmphex(value, ==, cases[i].reads_as);
        }
        machine_destroy(&machine);
    }
}

/*
 * Every MSR that exists, with the bits that can be changed one at a time (all others raise #GP then) and those where that depends
 * on the others. The local APIC's registers answer for themselves (tests/vmm/test_irqchips.c).
 */
static const struct msr_range {
    uint32_t first, last;
    bool readable;
    uint64_t writable, depends;
} msr_ranges[] = {
    {0x10, 0x10, true, UINT64_MAX, 0},                 /* IA32_TIME_STAMP_COUNTER */
    {0x17, 0x17, true, 0, 0},                          /* IA32_PLATFORM_ID */
    {0x3a, 0x3a, true, 0, 0},                          /* IA32_FEATURE_CONTROL, locked */
    {0x3b, 0x3b, true, UINT64_MAX, 0},                 /* IA32_TSC_ADJUST */
    {0x48, 0x48, true, 7, 0},                          /* IA32_SPEC_CTRL */
    {0x49, 0x49, false, 1, 0},                         /* IA32_PRED_CMD */
    {0x8b, 0x8b, true, UINT64_C(1) << 32, 0},          /* IA32_BIOS_SIGN_ID: takes zero */
    {0xfe, 0xfe, true, 0, 0},                          /* IA32_MTRRCAP */
    {0x10a, 0x10a, true, 0, 0},                        /* IA32_ARCH_CAPABILITIES */
    {0x10b, 0x10b, false, 1, 0},                       /* IA32_FLUSH_CMD */
    {0x174, 0x174, true, UINT64_MAX, 0},               /* IA32_SYSENTER_CS */
    {0x175, 0x176, true, UINT64_C(0x7fffffffffff), 0}, /* IA32_SYSENTER_ESP, EIP */
    {0x179, 0x17a, true, 0, 0},                        /* IA32_MCG_CAP, STATUS: takes zero */
    {0x1a0, 0x1a0, true, UINT64_C(0x400c50009),
     ~UINT64_C(0x400c50009)},                              /* IA32_MISC_ENABLE: the rest is ignored */
    {0x1d9, 0x1d9, true, 3, 0},                            /* IA32_DEBUGCTL */
    {0x200, 0x20f, true, UINT64_C(0xfffffff000), 0x8ff},   /* IA32_MTRR_PHYSBASE, PHYSMASK: type, valid */
    {0x250, 0x250, true, 0, UINT64_C(0x0707070707070707)}, /* IA32_MTRR_FIX */
    {0x258, 0x259, true, 0, UINT64_C(0x0707070707070707)},
    {0x268, 0x26f, true, 0, UINT64_C(0x0707070707070707)},
    {0x277, 0x277, true, 0, UINT64_C(0x0707070707070707)}, /* IA32_PAT */
    {0x2ff, 0x2ff, true, 0xc00, 0xff},                     /* IA32_MTRR_DEF_TYPE */
    {0x6e1, 0x6e1, true, UINT32_MAX, 0},                   /* IA32_PKRS */
    {0xda0, 0xda0, true, 0, 0},                            /* IA32_XSS */
    {0xc0000080, 0xc0000080, true, 0xc01, 0},              /* IA32_EFER: no change of LME under paging */
    {0xc0000081, 0xc0000081, true, UINT64_MAX, 0},         /* IA32_STAR */
    {0xc0000082, 0xc0000083, true, UINT64_C(0x7fffffffffff), 0},
    {0xc0000084, 0xc0000084, true, UINT32_MAX, 0}, /* IA32_FMASK */
    {0xc0000100, 0xc0000102, true, UINT64_C(0x7fffffffffff), 0},
    {0xc0000103, 0xc0000103, true, UINT32_MAX, 0}, /* IA32_TSC_AUX */
};

static const struct msr_range *find_msr(uint32_t msr)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(msr_ranges); i++) {
        if (msr >= msr_ranges[i].first && msr <= msr_ranges[i].last) {
            return &msr_ranges[i];
        }
    }
    return NULL;
}

static void check_msr(struct x86_cpu *cpu, uint32_t msr)
{
    const struct msr_range *range = find_msr(msr);
    uint64_t value = 0;
    bool readable = x86_msr_read(cpu, msr, &value) == 0;
    if (readable != (range && range->readable)) {
        g_error("MSR %#x %s be read", msr, readable ? "can" : "cannot");
    }
    for (unsigned bit = 0; bit < 64; bit++) {
        bool writable = range && range->writable >> bit & 1, depends = range && range->depends >> bit & 1;
        bool took = x86_msr_write(cpu, msr, value ^ UINT64_C(1) << bit) == 0;
        if (!depends && took != writable) {
            g_error("MSR %#x, bit %u %s be changed", msr, bit, took ? "can" : "cannot");
        }
        if (took && readable) {
            g_assert_cmpint(x86_msr_write(cpu, msr, value) == 0, ==, msr != 0x8b);
        }
    }
}

/* Broken if it fails: an MSR that does not exist answers, or a reserved bit can be set. */
static void test_msr_sweep(void)
{
    static const uint32_t starts[] = {0,          0x40000000, 0x40010000, 0x4b564d00,
                                      0xc0000000, 0xc0010000, 0xc0011000};
    struct machine machine;
    setup(&machine);
    for (unsigned i = 0; i < G_N_ELEMENTS(starts); i++) {
        for (uint32_t msr = starts[i]; msr < starts[i] + 0x1800; msr++) {
            if (msr != 0x1b && msr != 0x6e0 && (msr < 0x800 || msr > 0x8ff)) {
                check_msr(machine.cpu, msr);
            }
        }
    }
    machine_destroy(&machine);
}

/* Broken if it fails: INVLPG of one address of a large page leaves translations of other addresses of it. */
static void test_invlpg_large(void)
{
    const struct {
        bool long_mode;
        uint64_t entry; /* where the large page's entry is */
        uint64_t value;
        gva_t first, second;
    } cases[] = {
        {true, MACHINE_PML4 + 0x1008, 0x83, 0x40005000, 0x70200000}, /* 1 GiB */
        {true, MACHINE_PML4 + 0x2010, 0x83, 0x405000, 0x5ff000},     /* 2 MiB */
        {false, MACHINE_PML4 + 4, 0x83, 0x405000, 0x7ff000},         /* 4 MiB, 32-bit paging */
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct machine machine;
        uint8_t byte;
        setup(&machine);
        struct x86_cpu *cpu = machine.cpu;
        if (!cases[i].long_mode) {
            cpu->efer = 0;
            cpu->cr4 = CR4_PSE;
            memset(machine.ram + MACHINE_PML4, 0, 4096);
            x86_set_flat_segment(&cpu->seg[SEG_CS], MACHINE_CS64, ATTR_FLAT_CODE32(0));
            x86_state_changed(cpu, MACHINE_PML4);
        }
        memcpy(machine.ram + cases[i].entry, &cases[i].value, cases[i].long_mode ? 8 : 4);
        g_test_message("case %u", i);
        g_assert_cmpint(mmu_read(cpu, cases[i].first, 1, &byte), ==, X86_OK);
        g_assert_cmpint(mmu_write(cpu, cases[i].first, 1, &byte), ==, X86_OK);
        memset(machine.ram + cases[i].entry, 0, 4);
        g_assert_cmpint(mmu_read(cpu, cases[i].first, 1, &byte), ==, X86_OK); /* still in the TLB */
        mmu_invlpg(cpu, cases[i].second);
        g_assert_cmpint(mmu_read(cpu, cases[i].first, 1, &byte), ==, X86_RAISE);
        g_assert_cmpuint(cpu->exc.vector, ==, EXC_PF);
        cpu->exc.pending = false;
        machine_destroy(&machine);
    }
}

/* Broken if it fails: TSC, TSC_ADJUST and the offset disagree. */
static void test_tsc(void)
{
    struct machine machine;
    uint64_t adjust, offset;
    setup(&machine);
    struct x86_cpu *cpu = machine.cpu;
    offset = cpu->tsc_offset;
    g_assert_cmpint(x86_msr_write(cpu, 0x3b, 1000), ==, 0);
    g_assert_cmphex(cpu->tsc_offset, ==, offset + 1000);
    g_assert_cmpint(x86_msr_write(cpu, 0x10, 0), ==, 0);
    g_assert_cmpint(x86_msr_read(cpu, 0x3b, &adjust), ==, 0);
    g_assert_cmphex(adjust - 1000, ==, cpu->tsc_offset - (offset + 1000));
    machine_destroy(&machine);
}

/* Broken if it fails: user code reaches a port that the I/O bitmap or IOPL denies it, or not one that they allow. */
static void test_io_permission(void)
{
    static const struct {
        unsigned iopl, port, size;
        bool allowed;
    } cases[] = {{3, 0xec, 1, true}, {0, 0xec, 1, true},  {0, 0xed, 1, false}, {0, 0xec, 2, false},
                 {0, 0xe8, 4, true}, {0, 0xe7, 2, false}, {0, 0x80, 1, false}, {0, 0xffff, 1, false}};
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct machine machine;
        setup(&machine);
        struct x86_cpu *cpu = machine.cpu;
        memset(machine.ram + MACHINE_TSS + 0x68, 0xff, 0x22);
        machine.ram[MACHINE_TSS + 0x66] = 0x68;
        machine.ram[MACHINE_TSS + 0x67] = 0;
        machine.ram[MACHINE_TSS + 0x68 + 0xe8 / 8] = 0xe0; /* ports e8-ec */
        cpu->seg[SEG_TR].limit = 0x68 + 0x20;
        x86_set_flat_segment(&cpu->seg[SEG_CS], MACHINE_UCS64 | 3, ATTR_FLAT_CODE64(3u));
        cpu->cpl = 3;
        cpu->rflags = 2 | cases[i].iopl << 12;
        x86_update_mode(cpu);
        cpu->gpr[IR_RDX] = cases[i].port;
        struct ir_op op = {.op = IR_SYS, .sub = X86_SYS_IN, .size = (uint8_t)cases[i].size};
        g_test_message("case %u", i);
        g_assert_cmpint(x86_sys(cpu, &op), ==, cases[i].allowed ? X86_OK : X86_RAISE);
        machine_destroy(&machine);
    }
}

/* --- XSAVE -------------------------------------------------------------------------------------------------- */

#define IMAGE 0x40000u

static bool host_has_xsavec(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(0xd, 1, &a, &b, &c, &d) && a & 2;
}

static bool host_has_avx(void)
{
    return __builtin_cpu_supports("avx");
}

/* Components that the tests save and load: x87, SSE, AVX. */
#define XCR0_TESTED (host_has_avx() ? 7 : 3)

struct fpu_image {
    _Alignas(64) uint8_t bytes[4096];
};

enum save_kind { KIND_FXSAVE, KIND_XSAVE, KIND_XSAVEOPT, KIND_XSAVEC };

/* Loads `from` with XRSTOR64 on the host and saves it with the instruction of `kind`. */
static void host_save(const struct fpu_image *from, struct fpu_image *to, enum save_kind kind)
{
    _Alignas(64) static struct fpu_image mine;
    struct fpu_image *saved = &mine;
    __asm__ volatile("xsave64 (%[saved])\n\t xrstor64 (%[from])\n\t"
                     "cmp $0, %[kind]\n\t jne 1f\n\t fxsave64 (%[to])\n\t jmp 9f\n\t"
                     "1: cmp $1, %[kind]\n\t jne 2f\n\t xsave64 (%[to])\n\t jmp 9f\n\t"
                     "2: cmp $2, %[kind]\n\t jne 3f\n\t xsaveopt64 (%[to])\n\t jmp 9f\n\t"
                     "3: xsavec64 (%[to])\n\t"
                     "9: xrstor64 (%[saved])"
                     :
                     : [saved] "r"(saved), [from] "r"(from), [to] "r"(to), [kind] "r"((int)kind),
                       "a"((unsigned)XCR0_TESTED), "d"(0)
                     : "memory", "cc");
}

static void random_state(struct x86_cpu *cpu, unsigned seed)
{
    GRand *rand = g_rand_new_with_seed(seed);
    uint8_t *st = (uint8_t *)cpu->fx.st;
    memset(&cpu->fx, 0, sizeof(cpu->fx));
    memset(cpu->vec, 0, sizeof(cpu->vec));
    cpu->fx.fcw = 0x37f;
    cpu->mxcsr = MXCSR_INIT;
    if (seed & 1) {
        cpu->fx.fcw = 0x27f;
        cpu->fx.fsw = (uint16_t)(g_rand_int(rand) & 0x7f00);
        cpu->fx.ftw = (uint8_t)g_rand_int(rand);
        for (unsigned i = 0; i < 128; i++) {
            st[i] = i % 16 < 10 ? (uint8_t)g_rand_int(rand) : 0;
        }
    }
    for (unsigned i = 0; seed & 2 && i < 16; i++) {
        cpu->vec[i].q[0] = g_rand_int(rand);
        cpu->vec[i].q[1] = g_rand_int(rand);
    }
    if (seed & 4) {
        cpu->mxcsr = 0x5f80;
    }
    for (unsigned i = 0; seed & 16 && host_has_avx() && i < 16; i++) {
        cpu->vec[i].q[2] = g_rand_int(rand);
        cpu->vec[i].q[3] = g_rand_int(rand);
    }
    g_rand_free(rand);
}

/* Broken if it fails: an image differs from the one that the host's instruction writes for the same state. */
static void test_save_images(void)
{
    static const uint8_t subs[] = {X86_SYS_FXSAVE, X86_SYS_XSAVE, X86_SYS_XSAVEOPT, X86_SYS_XSAVEC};
    if (!host_has_xsavec()) {
        g_test_skip("the host has no XSAVEC");
        return;
    }
    for (unsigned seed = 0; seed < 32; seed++) {
        for (unsigned kind = 0; kind < G_N_ELEMENTS(subs); kind++) {
            struct machine machine;
            struct fpu_image state, host;
            setup(&machine);
            struct x86_cpu *cpu = machine.cpu;
            cpu->cr4 |= CR4_OSXSAVE;
            cpu->xcr0 = XCR0_TESTED;
            random_state(cpu, seed);
            x86_xsave_export(cpu, state.bytes);
            memset(host.bytes, 0xa5, sizeof(host.bytes));
            memset(host.bytes + 512, 0, 64);
            /* in place, then across a page */
            cpu->ea = seed & 8 ? IMAGE + 4096 - 256 : IMAGE;
            memcpy(machine.ram + cpu->ea, host.bytes, sizeof(host.bytes));
            cpu->gpr[IR_RAX] = XCR0_TESTED;
            struct ir_op op = {.op = IR_SYS, .sub = subs[kind], .size = 8, .flags = IRF_DST_MEM};
            g_assert_cmpint(x86_sys(cpu, &op), ==, X86_OK);
            host_save(&state, &host, kind);
            g_test_message("seed %u kind %u", seed, kind);
            g_assert_true(kind == KIND_FXSAVE || !(seed & 16) || !host_has_avx() ||
                          machine_read64(&machine, cpu->ea + 512) & 4);
            if (kind == KIND_XSAVEOPT || kind == KIND_XSAVEC) {
                /* The host may count initial components as in use: compare those that both wrote. */
                uint64_t ours = machine_read64(&machine, cpu->ea + 512), theirs;
                memcpy(&theirs, host.bytes + 512, 8);
                g_assert_cmphex(ours & ~theirs, ==, 0);
                if (ours & 1) {
                    g_assert_cmpmem(machine.ram + cpu->ea, 24, host.bytes, 24);
                    g_assert_cmpmem(machine.ram + cpu->ea + 32, 128, host.bytes + 32, 128);
                }
                if (ours & 2) {
                    g_assert_cmpmem(machine.ram + cpu->ea + 160, 256, host.bytes + 160, 256);
                }
                if (ours & 4) {
                    g_assert_cmpmem(machine.ram + cpu->ea + 576, 256, host.bytes + 576, 256);
                }
                g_assert_cmpmem(machine.ram + cpu->ea + 520, 56, host.bytes + 520, 56);
            } else {
                g_assert_cmpmem(machine.ram + cpu->ea, 28, host.bytes,
                                28); /* MXCSR_MASK: the host's may have MM */
                g_assert_cmpmem(machine.ram + cpu->ea + 32, 480, host.bytes + 32, 480);
                g_assert_cmpmem(machine.ram + cpu->ea + 576, 256, host.bytes + 576, 256);
            }
            machine_destroy(&machine);
        }
    }
}

static void keep_upper_halves(uint8_t *image, const struct x86_cpu *cpu)
{
    for (unsigned i = 0; host_has_avx() && i < 16; i++) {
        memcpy(image + 576 + 16 * i, cpu->vec[i].b + 16, 16);
    }
}

/* Broken if it fails: what was saved does not come back, or components that were left out are not initialised. */
static void test_round_trip(void)
{
    static const struct {
        uint8_t save, restore;
    } pairs[] = {{X86_SYS_FXSAVE, X86_SYS_FXRSTOR},
                 {X86_SYS_XSAVE, X86_SYS_XRSTOR},
                 {X86_SYS_XSAVEOPT, X86_SYS_XRSTOR},
                 {X86_SYS_XSAVEC, X86_SYS_XRSTOR},
                 {X86_SYS_XSAVES, X86_SYS_XRSTORS}};
    for (unsigned seed = 0; seed < 32; seed++) {
        for (unsigned i = 0; i < G_N_ELEMENTS(pairs); i++) {
            struct machine machine;
            uint8_t before[4096], after[4096];
            setup(&machine);
            struct x86_cpu *cpu = machine.cpu;
            cpu->cr4 |= CR4_OSXSAVE;
            cpu->xcr0 = XCR0_TESTED;
            random_state(cpu, seed);
            x86_xsave_export(cpu, before);
            cpu->ea = IMAGE;
            cpu->gpr[IR_RAX] = XCR0_TESTED;
            struct ir_op save = {.op = IR_SYS, .sub = pairs[i].save, .size = 8, .flags = IRF_DST_MEM};
            struct ir_op restore = {.op = IR_SYS, .sub = pairs[i].restore, .size = 8, .flags = IRF_SRC_MEM};
            g_assert_cmpint(x86_sys(cpu, &save), ==, X86_OK);
            random_state(cpu, pairs[i].save == X86_SYS_FXSAVE ? 7 | (seed & 16) : 23);
            if (pairs[i].save == X86_SYS_FXSAVE) { /* which leaves upper halves alone */
                keep_upper_halves(before, cpu);
            }
            cpu->mxcsr = MXCSR_INIT;
            g_assert_cmpint(x86_sys(cpu, &restore), ==, X86_OK);
            x86_xsave_export(cpu, after);
            g_test_message("seed %u pair %u", seed, i);
            g_assert_cmpmem(before, sizeof(before), after, sizeof(after));
            machine_destroy(&machine);
        }
    }
}

/* Broken if it fails: a guest loads reserved MXCSR bits or an image whose header the manual forbids. */
static void test_bad_images(void)
{
    static const struct {
        unsigned offset;
        uint64_t value;
        bool supervisor;
        bool aligned;
    } cases[] = {
        {24, 0x10000, false, true},                /* MXCSR reserved */
        {512, 4, false, true},                     /* AVX not in XCR0 */
        {520, 1, false, true},                     /* XCOMP_BV without the compaction bit */
        {528, 1, false, true},                     /* reserved header bytes */
        {520, UINT64_C(1) << 63 | 4, false, true}, /* compacted with a component not enabled */
        {520, UINT64_C(1) << 63, false, true},     /* XSTATE_BV has what XCOMP_BV has not */
        {0, 0, true, true},                        /* XRSTORS of the standard format */
        {0, 0, false, false},                      /* not aligned */
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct machine machine;
        setup(&machine);
        struct x86_cpu *cpu = machine.cpu;
        cpu->cr4 |= CR4_OSXSAVE;
        cpu->xcr0 = 3;
        x86_xsave_export(cpu, machine.ram + IMAGE);
        if (cases[i].offset) {
            machine_write64(&machine, IMAGE + cases[i].offset, cases[i].value);
        }
        cpu->ea = IMAGE + (cases[i].aligned ? 0 : 16);
        cpu->gpr[IR_RAX] = 3;
        struct ir_op op = {.op = IR_SYS,
                           .sub = cases[i].supervisor ? X86_SYS_XRSTORS : X86_SYS_XRSTOR,
                           .size = 8,
                           .flags = IRF_SRC_MEM};
        uint32_t mxcsr = cpu->mxcsr;
        g_test_message("case %u", i);
        g_assert_cmpint(x86_sys(cpu, &op), ==, X86_RAISE);
        g_assert_cmpuint(cpu->exc.vector, ==, EXC_GP);
        g_assert_cmphex(cpu->mxcsr, ==, mxcsr);
        machine_destroy(&machine);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sys/registers/control", test_control_registers);
    g_test_add_func("/sys/registers/pcid", test_pcid);
    g_test_add_func("/sys/registers/msrs", test_msrs);
    g_test_add_func("/sys/registers/msr-sweep", test_msr_sweep);
    g_test_add_func("/sys/registers/invlpg-large", test_invlpg_large);
    g_test_add_func("/sys/registers/tsc", test_tsc);
    g_test_add_func("/sys/registers/io-permission", test_io_permission);
    g_test_add_func("/sys/xsave/images", test_save_images);
    g_test_add_func("/sys/xsave/round-trip", test_round_trip);
    g_test_add_func("/sys/xsave/bad-images", test_bad_images);
    return g_test_run();
}
