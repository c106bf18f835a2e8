/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CPUID hides does not run: every feature switched off and on, in the interpreter and in T0.
 *
 * A case is a piece of code at CPL 0 that ends with HLT. With its feature it must reach the HLT, without it must raise the
 * exception of a processor that has not got it. Broken if it fails: a guest uses what its CPUID denies (and breaks after a
 * migration to a processor that really has not got it), or cannot use what it offers.
 */
#include <glib.h>
#include <string.h>

#include "tests/translator/sys_machine.h"
#include "translator/mmu_walk.h"
#include "translator/x86/vec.h"
#include "translator/x86/vex.h"

#define DATA       0x40000u
#define CASE_BYTES 64u
#define NO_FAULT   (-1)

/* Everything on but `hidden` (-1: nothing hidden). XCR0 follows from the features. */
static void offer(struct x86_cpu *cpu, int hidden)
{
    uint32_t words[X86_FEATURE_WORDS];
    x86_supported_features(words);
    if (hidden >= 0) {
        words[hidden / 32] &= ~(1u << hidden % 32);
    }
    uint32_t xcr0 = 3 | (x86_has(words, FEAT_AVX) ? 4 : 0) | (x86_has(words, FEAT_PKU) ? 1u << 9 : 0);
    const struct x86_cpuid_leaf leaves[] = {
        {.leaf = 0, .eax = 0xd},
        {.leaf = 1, .eax = 0x30661, .ecx = words[1], .edx = words[0]},
        {.leaf = 7, .index_matters = true, .eax = 1, .ebx = words[2], .ecx = words[3], .edx = words[4]},
        {.leaf = 7, .subleaf = 1, .index_matters = true, .eax = words[8]},
        {.leaf = 0xd, .index_matters = true, .eax = xcr0, .ebx = 576, .ecx = 2696},
        {.leaf = 0xd, .subleaf = 1, .index_matters = true, .eax = words[7]},
        {.leaf = 0x80000000, .eax = 0x80000008},
        {.leaf = 0x80000001, .ecx = words[6], .edx = words[5]},
        {.leaf = 0x80000008, .eax = 48 << 8 | 40},
    };
    g_assert_cmpint(x86_cpu_set_cpuid(cpu, leaves, G_N_ELEMENTS(leaves), NULL), ==, 0);
}

/* A machine whose cases run one after the other at fresh addresses, so that no translation is reused. */
struct bench {
    struct machine machine;
    uint64_t next;
};

static void bench_create(struct bench *bench, enum engine_tier tier)
{
    machine_create(&bench->machine, tier);
    machine_enter_long_mode(&bench->machine);
    bench->next = 0x100000;
}

static void bench_destroy(struct bench *bench)
{
    machine_destroy(&bench->machine);
}

/* Runs code (HLT is appended) from the state that machine_enter_long_mode() makes. The vector it raised, or NO_FAULT. */
static int run_code(struct bench *bench, const void *code, size_t bytes)
{
    struct x86_cpu *cpu = bench->machine.cpu;
    g_assert_cmpuint(bytes, <, CASE_BYTES);
    memcpy(bench->machine.ram + bench->next, code, bytes);
    bench->machine.ram[bench->next + bytes] = 0xf4;
    cpu->exc.pending = false;
    cpu->halted = false;
    x86_set_rip(cpu, bench->next);
    uint64_t end = bench->next + bytes + 1;
    bench->next += CASE_BYTES;
    int r;
    do {
        r = engine_run(cpu);
    } while (r == X86_JUMP);
    if (r == X86_RAISE) {
        g_assert_true(cpu->exc.pending);
        cpu->exc.pending = false;
        return cpu->exc.vector;
    }
    g_assert_cmpint(r, ==, X86_EXIT);
    g_assert_cmphex(cpu->rip, ==, end);
    return NO_FAULT;
}

static void prepare(struct bench *bench)
{
    struct x86_cpu *cpu = bench->machine.cpu;
    machine_enter_long_mode(&bench->machine);
    cpu->cr4 |= x86_has(cpu->features, FEAT_XSAVE) ? CR4_OSXSAVE : 0;
    cpu->cr4 |= x86_has(cpu->features, FEAT_FSGSBASE) ? CR4_FSGSBASE : 0;
    cpu->cr4 |= x86_has(cpu->features, FEAT_PKU) ? CR4_PKE : 0;
    cpu->xcr0 = x86_has(cpu->features, FEAT_XSAVE) ? x86_xcr0_offered(cpu) : 1;
    cpu->mxcsr = MXCSR_INIT;
    memset(&cpu->fx, 0, sizeof(cpu->fx));
    cpu->fx.fcw = 0x37f;
    memset(cpu->gpr, 0, sizeof(cpu->gpr));
    cpu->gpr[IR_RSP] = MACHINE_STACK;
    cpu->gpr[IR_RBX] = DATA;
    cpu->gpr[IR_RDI] = DATA + 256;
    memset(bench->machine.ram + DATA, 0, 4096);
    x86_state_changed(cpu, MACHINE_PML4);
}

/* --- instructions ------------------------------------------------------------------------------------------- */

struct insn_case {
    const char *name;
    uint16_t feature;
    const char *code;
    uint8_t bytes;
    int on; /* vector with the feature; without it #UD */
};
#define CODE(text) text, sizeof(text) - 1
static const struct insn_case insn_cases[] = {
    {"rdtsc", FEAT_TSC, CODE("\x0f\x31"), NO_FAULT},
    {"cmpxchg8b", FEAT_CX8, CODE("\x0f\xc7\x0b"), NO_FAULT},
    {"sysenter", FEAT_SEP, CODE("\x0f\x34"), EXC_GP}, /* no entry point is set */
    {"sysexit", FEAT_SEP, CODE("\x0f\x35"), EXC_GP},
    {"cmov", FEAT_CMOV, CODE("\x0f\x44\xc1"), NO_FAULT},
    {"clflush", FEAT_CLFSH, CODE("\x0f\xae\x3b"), NO_FAULT},
    {"fxsave", FEAT_FXSR, CODE("\x0f\xae\x03"), NO_FAULT},
    {"fxrstor", FEAT_FXSR, CODE("\x0f\xae\x0b"), NO_FAULT},
    {"ldmxcsr", FEAT_SSE, CODE("\xc7\x03\x80\x1f\0\0\x0f\xae\x13"), NO_FAULT},
    {"stmxcsr", FEAT_SSE, CODE("\x0f\xae\x1b"), NO_FAULT},
    {"maskmovq", FEAT_SSE, CODE("\x0f\xf7\xc1"), NO_FAULT},
    {"maskmovdqu", FEAT_SSE2, CODE("\x66\x0f\xf7\xc1"), NO_FAULT},
    {"movnti", FEAT_SSE2, CODE("\x0f\xc3\x03"), NO_FAULT},
    {"lfence", FEAT_SSE2, CODE("\x0f\xae\xe8"), NO_FAULT},
    {"mfence", FEAT_SSE2, CODE("\x0f\xae\xf0"), NO_FAULT},
    {"fisttp m16", FEAT_SSE3, CODE("\xd9\xe8\xdf\x0b"), NO_FAULT},
    {"fisttp m32", FEAT_SSE3, CODE("\xd9\xe8\xdb\x0b"), NO_FAULT},
    {"fisttp m64", FEAT_SSE3, CODE("\xd9\xe8\xdd\x0b"), NO_FAULT},
    {"crc32 b", FEAT_SSE42, CODE("\xf2\x0f\x38\xf0\xc1"), NO_FAULT},
    {"crc32 d", FEAT_SSE42, CODE("\xf2\x0f\x38\xf1\xc1"), NO_FAULT},
    {"cmpxchg16b", FEAT_CX16, CODE("\xf0\x48\x0f\xc7\x0b"), NO_FAULT},
    {"movbe load", FEAT_MOVBE, CODE("\x0f\x38\xf0\x03"), NO_FAULT},
    {"movbe store", FEAT_MOVBE, CODE("\x0f\x38\xf1\x03"), NO_FAULT},
    {"popcnt", FEAT_POPCNT, CODE("\xf3\x0f\xb8\xc1"), NO_FAULT},
    {"rdrand", FEAT_RDRAND, CODE("\x0f\xc7\xf0"), NO_FAULT},
    {"rdseed", FEAT_RDSEED, CODE("\x0f\xc7\xf8"), NO_FAULT},
    {"xgetbv", FEAT_XSAVE, CODE("\x31\xc9\x0f\x01\xd0"), NO_FAULT},
    {"xsetbv", FEAT_XSAVE, CODE("\xb8\x03\0\0\0\x0f\x01\xd1"), NO_FAULT},
    {"xsave", FEAT_XSAVE, CODE("\xb8\x03\0\0\0\x0f\xae\x23"), NO_FAULT},
    {"xrstor", FEAT_XSAVE, CODE("\xb8\x03\0\0\0\x0f\xae\x2b"), NO_FAULT},
    {"xsaveopt", FEAT_XSAVEOPT, CODE("\xb8\x03\0\0\0\x0f\xae\x33"), NO_FAULT},
    {"xsavec", FEAT_XSAVEC, CODE("\xb8\x03\0\0\0\x0f\xc7\x23"), NO_FAULT},
    {"xsaves", FEAT_XSAVES, CODE("\xb8\x03\0\0\0\x0f\xc7\x2b"), NO_FAULT},
    {"xrstors", FEAT_XSAVES, CODE("\x0f\xc7\x2b\x0f\xc7\x1b"), NO_FAULT},
    {"rdfsbase", FEAT_FSGSBASE, CODE("\xf3\x0f\xae\xc0"), NO_FAULT},
    {"rdgsbase", FEAT_FSGSBASE, CODE("\xf3\x0f\xae\xc8"), NO_FAULT},
    {"wrfsbase", FEAT_FSGSBASE, CODE("\xf3\x0f\xae\xd0"), NO_FAULT},
    {"wrgsbase", FEAT_FSGSBASE, CODE("\xf3\x0f\xae\xd8"), NO_FAULT},
    {"invpcid", FEAT_INVPCID, CODE("\xb8\x02\0\0\0\x66\x0f\x38\x82\x03"), NO_FAULT},
    {"adcx", FEAT_ADX, CODE("\x66\x0f\x38\xf6\xc1"), NO_FAULT},
    {"adox", FEAT_ADX, CODE("\xf3\x0f\x38\xf6\xc1"), NO_FAULT},
    {"clac", FEAT_SMAP, CODE("\x0f\x01\xca"), NO_FAULT},
    {"stac", FEAT_SMAP, CODE("\x0f\x01\xcb\x0f\x01\xca"), NO_FAULT},
    {"clflushopt", FEAT_CLFLUSHOPT, CODE("\x66\x0f\xae\x3b"), NO_FAULT},
    {"clwb", FEAT_CLWB, CODE("\x66\x0f\xae\x33"), NO_FAULT},
    {"rdpkru", FEAT_PKU, CODE("\x31\xc9\x0f\x01\xee"), NO_FAULT},
    {"wrpkru", FEAT_PKU, CODE("\x31\xc9\x31\xd2\x31\xc0\x0f\x01\xef"), NO_FAULT},
    {"rdpid", FEAT_RDPID, CODE("\xf3\x0f\xc7\xf8"), NO_FAULT},
    {"movdiri", FEAT_MOVDIRI, CODE("\x0f\x38\xf9\x03"), NO_FAULT},
    {"movdir64b", FEAT_MOVDIR64B, CODE("\x66\x0f\x38\xf8\x3b"), NO_FAULT},
    {"andn", FEAT_BMI1, CODE("\xc4\xe2\x70\xf2\xc1"), NO_FAULT},
    {"bextr", FEAT_BMI1, CODE("\xc4\xe2\x70\xf7\xc1"), NO_FAULT},
    {"blsi", FEAT_BMI1, CODE("\xc4\xe2\x70\xf3\xd9"), NO_FAULT},
    {"bzhi", FEAT_BMI2, CODE("\xc4\xe2\x70\xf5\xc1"), NO_FAULT},
    {"pdep", FEAT_BMI2, CODE("\xc4\xe2\x73\xf5\xc1"), NO_FAULT},
    {"pext", FEAT_BMI2, CODE("\xc4\xe2\x72\xf5\xc1"), NO_FAULT},
    {"mulx", FEAT_BMI2, CODE("\xc4\xe2\x73\xf6\xc1"), NO_FAULT},
    {"rorx", FEAT_BMI2, CODE("\xc4\xe3\x7b\xf0\xc1\x05"), NO_FAULT},
    {"shlx", FEAT_BMI2, CODE("\xc4\xe2\x71\xf7\xc1"), NO_FAULT},
    {"sarx", FEAT_BMI2, CODE("\xc4\xe2\x72\xf7\xc1"), NO_FAULT},
    {"shrx", FEAT_BMI2, CODE("\xc4\xe2\x73\xf7\xc1"), NO_FAULT},
    {"serialize", FEAT_SERIALIZE, CODE("\x0f\x01\xe8"), NO_FAULT},
    {"rdtscp", FEAT_RDTSCP, CODE("\x0f\x01\xf9"), NO_FAULT},
    {"lahf", FEAT_LAHF, CODE("\x9f"), NO_FAULT},
    {"sahf", FEAT_LAHF, CODE("\x9e"), NO_FAULT},
};

static void check_insn(struct bench *bench, const struct insn_case *c)
{
    uint32_t words[X86_FEATURE_WORDS];
    x86_supported_features(words);
    g_test_message("%s", c->name);
    offer(bench->machine.cpu, c->feature);
    prepare(bench);
    g_assert_cmpint(run_code(bench, c->code, c->bytes), ==, EXC_UD);
    if (!x86_has(words, c->feature)) {
        return; /* not on this host */
    }
    offer(bench->machine.cpu, -1);
    prepare(bench);
    g_assert_cmpint(run_code(bench, c->code, c->bytes), ==, c->on);
}

static void test_instructions(const void *tier)
{
    struct bench bench;
    bench_create(&bench, GPOINTER_TO_INT(tier));
    for (unsigned i = 0; i < G_N_ELEMENTS(insn_cases); i++) {
        check_insn(&bench, &insn_cases[i]);
    }
    bench_destroy(&bench);
}

/* Each row of the vector table: register form, or memory at rbx where there is no other. */
static void test_vector_rows(const void *tier)
{
    struct bench bench;
    bench_create(&bench, GPOINTER_TO_INT(tier));
    for (unsigned i = 0; i < x86_vec_insn_count; i++) {
        const struct x86_vec_insn *insn = &x86_vec_insns[i];
        char code[16];
        unsigned bytes = 0;
        if (insn->prefix) {
            code[bytes++] = (char)insn->prefix;
        }
        code[bytes++] = 0x0f;
        if (insn->map > 1) {
            code[bytes++] = insn->map == 2 ? 0x38 : 0x3a;
        }
        code[bytes++] = (char)insn->opcode;
        if (insn->reg != VEC_NONE || insn->rm != VEC_NONE) {
            unsigned reg = insn->modrm_ext == 0xff ? 1 : insn->modrm_ext;
            code[bytes++] = (char)((insn->flags & VECF_MEM_ONLY ? 0 : 0xc0) | reg << 3 | 3);
        }
        if (insn->flags & VECF_IMM8) {
            code[bytes++] = 0;
        }
        const struct insn_case c = {insn->name, insn->feature, code, (uint8_t)bytes, NO_FAULT};
        check_insn(&bench, &c);
    }
    bench_destroy(&bench);
}

/* A VEX row's instruction on registers 1, 2 and 3, or with memory at rbx where there is no other form. */
static unsigned encode_vex(const struct x86_vex_insn *insn, bool l256, char *code)
{
    const unsigned names_vvvv = VEXF_NDS | VEXF_NDD | VEXF_MASK | VEXF_GATHER;
    unsigned bytes = 0, pp = insn->prefix == 0x66   ? 1
                             : insn->prefix == 0xf3 ? 2
                             : insn->prefix == 0xf2 ? 3
                                                    : 0;
    unsigned vvvv = insn->vex & names_vvvv ? 2 : 0;
    bool gather = insn->vex & VEXF_GATHER;
    code[bytes++] = (char)0xc4;
    code[bytes++] = (char)(0xe0 | insn->map);
    code[bytes++] = (char)((insn->vex & VEXF_W1 ? 0x80u : 0) | (~vvvv & 15) << 3 | (l256 ? 4u : 0) | pp);
    code[bytes++] = (char)insn->opcode;
    if (!(insn->vex & VEXF_ZERO)) {
        unsigned reg = insn->modrm_ext == 0xff ? 1 : insn->modrm_ext;
        code[bytes++] = (char)((insn->flags & VECF_MEM_ONLY ? 0 : 0xc0) | reg << 3 | (gather ? 4 : 3));
    }
    if (gather) {
        code[bytes++] = 4 << 3 | IR_RBX; /* [rbx + xmm4] */
    }
    if (insn->flags & VECF_IMM8) {
        code[bytes++] = 0;
    }
    return bytes;
}

/* Each row of the VEX table in both lengths: without its feature, without AVX, and with XCR0 that does not enable it. */
static void test_vex_rows(const void *tier)
{
    uint32_t words[X86_FEATURE_WORDS];
    struct bench bench;
    x86_supported_features(words);
    if (!x86_has(words, FEAT_AVX)) {
        g_test_skip("the host has no AVX");
        return;
    }
    bench_create(&bench, GPOINTER_TO_INT(tier));
    for (unsigned i = 0; i < 2 * x86_vex_insn_count; i++) {
        const struct x86_vex_insn *insn = &x86_vex_insns[i / 2];
        bool l256 = i & 1;
        unsigned feature = l256 ? insn->feature256 : insn->feature128;
        char code[16];
        if (feature == VEX_NO) {
            continue;
        }
        struct insn_case c = {insn->name, (uint16_t)feature, code, (uint8_t)encode_vex(insn, l256, code),
                              NO_FAULT};
        check_insn(&bench, &c);
        c.feature = FEAT_AVX;
        check_insn(&bench, &c);
        offer(bench.machine.cpu, -1);
        prepare(&bench);
        bench.machine.cpu->xcr0 = 3;
        x86_update_mode(bench.machine.cpu);
        g_assert_cmpint(run_code(&bench, code, c.bytes), ==, EXC_UD);
    }
    bench_destroy(&bench);
}

/* Without BMI1 or LZCNT the encodings are BSF and BSR, whose result for 0b1000 differs only for LZCNT, for 0 for both. */
static void test_counts(const void *tier)
{
    static const struct {
        const char *code;
        uint16_t feature;
        uint64_t source, with, without;
    } cases[] = {
        {"\xf3\x0f\xbc\xc1", FEAT_BMI1, 8, 3, 3},
        {"\xf3\x0f\xbc\xc1", FEAT_BMI1, 0, 32, 77},
        {"\xf3\x0f\xbd\xc1", FEAT_LZCNT, 8, 28, 3},
        {"\xf3\x0f\xbd\xc1", FEAT_LZCNT, 0, 32, 77},
    };
    uint32_t words[X86_FEATURE_WORDS];
    x86_supported_features(words);
    struct bench bench;
    bench_create(&bench, GPOINTER_TO_INT(tier));
    struct x86_cpu *cpu = bench.machine.cpu;
    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(cases); i++) {
        bool on = i & 1;
        offer(cpu, on ? -1 : cases[i / 2].feature);
        if (on && !x86_has(words, cases[i / 2].feature)) {
            continue;
        }
        prepare(&bench);
        cpu->gpr[IR_RAX] = 77;
        cpu->gpr[IR_RCX] = cases[i / 2].source;
        g_assert_cmpint(run_code(&bench, cases[i / 2].code, 4), ==, NO_FAULT);
        g_assert_cmpuint(cpu->gpr[IR_RAX], ==, on ? cases[i / 2].with : cases[i / 2].without);
    }
    bench_destroy(&bench);
}

/* --- control registers, MSRs -------------------------------------------------------------------------------- */

/* Bits that come with a feature: #GP without it. */
static void test_control_bits(void)
{
    static const struct {
        uint64_t bits;
        uint16_t feature;
    } cases[] = {
        {CR4_DE, FEAT_DE},          {CR4_TSD, FEAT_TSC},           {CR4_PSE, FEAT_PSE},
        {CR4_MCE, FEAT_MCE},        {CR4_PGE, FEAT_PGE},           {CR4_OSFXSR, FEAT_FXSR},
        {CR4_UMIP, FEAT_UMIP},      {CR4_FSGSBASE, FEAT_FSGSBASE}, {CR4_PCIDE, FEAT_PCID},
        {CR4_OSXSAVE, FEAT_XSAVE},  {CR4_SMEP, FEAT_SMEP},         {CR4_SMAP, FEAT_SMAP},
        {CR4_OSXMMEXCPT, FEAT_SSE}, {CR4_PKE, FEAT_PKU},
    };
    struct bench bench;
    bench_create(&bench, ENGINE_INTERPRETER);
    struct x86_cpu *cpu = bench.machine.cpu;
    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(cases); i++) {
        bool on = i & 1;
        g_test_message("CR4 %lx %d", cases[i / 2].bits, on);
        offer(cpu, on ? -1 : cases[i / 2].feature);
        machine_enter_long_mode(&bench.machine);
        cpu->gpr[IR_RAX] = CR4_PAE | cases[i / 2].bits;
        struct ir_op op = {.op = IR_SYS, .sub = X86_SYS_MOV_TO_CR, .size = 8, .src = IR_RAX, .imm = 4};
        g_assert_cmpint(x86_sys(cpu, &op), ==, on ? X86_OK : X86_RAISE);
        g_assert_cmpuint(on ? EXC_GP : cpu->exc.vector, ==, EXC_GP);
        g_assert_cmphex(cpu->cr4 & cases[i / 2].bits & ~(uint64_t)(CR4_OSFXSR | CR4_OSXMMEXCPT), ==,
                        on ? cases[i / 2].bits & ~(uint64_t)(CR4_OSFXSR | CR4_OSXMMEXCPT) : 0);
    }
    bench_destroy(&bench);
}

struct msr_case {
    uint32_t msr;
    uint16_t feature;
    uint64_t value; /* allowed with the feature */
    bool write_only, read_only;
};

static void test_msrs(const void *tier)
{
    static const struct msr_case cases[] = {
        {0x10, FEAT_TSC, 5},
        {0x1b, FEAT_APIC, 0xfee00900},
        {0x3b, FEAT_TSC_ADJUST, 5},
        {0x49, FEAT_SPEC_CTRL, 1, .write_only = true},
        {0xfe, FEAT_MTRR, .read_only = true},
        {0x10a, FEAT_ARCH_CAPABILITIES, .read_only = true},
        {0x10b, FEAT_L1D_FLUSH, 1, .write_only = true},
        {0x174, FEAT_SEP, 8},
        {0x175, FEAT_SEP, 8},
        {0x176, FEAT_SEP, 8},
        {0x179, FEAT_MCA, .read_only = true},
        {0x17a, FEAT_MCA, 0},
        {0x200, FEAT_MTRR, 6},
        {0x20f, FEAT_MTRR, 0x800},
        {0x250, FEAT_MTRR, 0},
        {0x26f, FEAT_MTRR, 0},
        {0x277, FEAT_PAT, 0x0007040600070406},
        {0x2ff, FEAT_MTRR, 0xc06},
        {0x6e0, FEAT_TSC_DEADLINE, 5},
        {0x80f, FEAT_X2APIC, 0x1ff},
        {0xda0, FEAT_XSAVES, 0},
        {0xc0000081, FEAT_SYSCALL, 5},
    };
    struct bench bench;
    bench_create(&bench, GPOINTER_TO_INT(tier));
    struct x86_cpu *cpu = bench.machine.cpu;
    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(cases); i++) {
        const struct msr_case *c = &cases[i / 2];
        bool on = i & 1;
        g_test_message("MSR %x %d", c->msr, on);
        offer(cpu, on ? -1 : c->feature);
        prepare(&bench);
        for (unsigned write = 0; write < 2; write++) {
            bool skipped = write ? c->read_only : c->write_only;
            cpu->gpr[IR_RCX] = c->msr;
            cpu->gpr[IR_RAX] = (uint32_t)c->value;
            cpu->gpr[IR_RDX] = c->value >> 32;
            int vector = skipped && on ? NO_FAULT : run_code(&bench, write ? "\x0f\x30" : "\x0f\x32", 2);
            g_assert_cmpint(vector, ==, on ? NO_FAULT : EXC_GP);
        }
    }
    bench_destroy(&bench);
}

/* Single bits of MSRs, and MSRs that come with any of several features. */
static void test_msr_bits(void)
{
    static const struct {
        uint32_t msr;
        uint64_t bit;
        uint16_t feature;
    } cases[] = {
        {0x48, 1, FEAT_SPEC_CTRL},
        {0x48, 2, FEAT_STIBP},
        {0x48, 4, FEAT_SSBD},
        {0xc0000080, EFER_SCE, FEAT_SYSCALL},
        {0xc0000080, EFER_NXE, FEAT_NX},
        {0x1b, 1 << 10 | 1 << 11, FEAT_X2APIC},
    };
    struct bench bench;
    bench_create(&bench, ENGINE_INTERPRETER);
    struct x86_cpu *cpu = bench.machine.cpu;
    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(cases); i++) {
        bool on = i & 1;
        offer(cpu, on ? -1 : cases[i / 2].feature);
        prepare(&bench);
        uint64_t value = cases[i / 2].bit | (cases[i / 2].msr == 0xc0000080 ? EFER_LME | EFER_LMA : 0);
        g_assert_cmpint(x86_msr_write(cpu, cases[i / 2].msr, value) == 0, ==, on);
    }
    bench_destroy(&bench);
}

/* XCR0 bits exist exactly as leaf D offers them; XGETBV with ECX = 1 with its own feature. */
static void test_xcr0(void)
{
    static const struct {
        uint64_t value;
        uint16_t feature;
    } cases[] = {{7, FEAT_AVX}, {3 | 1 << 9, FEAT_PKU}};
    uint32_t words[X86_FEATURE_WORDS];
    x86_supported_features(words);
    struct bench bench;
    bench_create(&bench, ENGINE_INTERPRETER);
    struct x86_cpu *cpu = bench.machine.cpu;
    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(cases); i++) {
        bool on = i & 1;
        offer(cpu, on ? -1 : cases[i / 2].feature);
        prepare(&bench);
        cpu->gpr[IR_RAX] = cases[i / 2].value;
        on = on && x86_has(words, cases[i / 2].feature);
        g_assert_cmpint(run_code(&bench, "\x0f\x01\xd1", 3), ==, on ? NO_FAULT : EXC_GP);
    }
    for (unsigned on = 0; on < 2; on++) {
        offer(cpu, on ? -1 : FEAT_XGETBV1);
        prepare(&bench);
        cpu->gpr[IR_RCX] = 1;
        g_assert_cmpint(run_code(&bench, "\x0f\x01\xd0", 3), ==, on ? NO_FAULT : EXC_GP);
    }
    bench_destroy(&bench);
}

/* --- paging ------------------------------------------------------------------------------------------------- */

static uint32_t walk_error(struct x86_cpu *cpu, gva_t la)
{
    struct mmu_walk walk;
    uint32_t error = 0;
    return mmu_walk(cpu, la, MMU_READ, MMU_KERNEL, &walk, &error) < 0 ? error : 0;
}

/* 1 GiB pages, 36-bit 4 MiB pages and NX are reserved bits of the entries without their features. */
static void test_paging(void)
{
    struct bench bench;
    bench_create(&bench, ENGINE_INTERPRETER);
    struct x86_cpu *cpu = bench.machine.cpu;
    machine_write64(&bench.machine, MACHINE_PML4 + 0x1008, UINT64_C(1) << 30 | 0x87);
    for (unsigned on = 0; on < 2; on++) {
        offer(cpu, on ? -1 : FEAT_PDPE1GB);
        prepare(&bench);
        g_assert_cmphex(walk_error(cpu, 1 << 30), ==, on ? 0 : 9);
        offer(cpu, on ? -1 : FEAT_PSE36);
        prepare(&bench);
        uint32_t *directory = (uint32_t *)(bench.machine.ram + DATA);
        directory[1] = 1 << 13 | 0x83;
        cpu->efer = 0;
        cpu->cr4 = CR4_PSE;
        x86_set_flat_segment(&cpu->seg[SEG_CS], MACHINE_CS64, ATTR_FLAT_CODE32(0));
        x86_state_changed(cpu, DATA);
        g_assert_cmphex(walk_error(cpu, 4 << 20), ==, on ? 0 : 9);
    }
    bench_destroy(&bench);
}

/* --- protection keys ---------------------------------------------------------------------------------------- */

/*
 * Broken if it fails: protection keys do not protect, protect too much (code, supervisor pages), or a change of PKRU or PKRS is not
 * seen because a translation was kept. Error codes as SDM 3A 4.7 has them.
 */
static void test_protection_keys(const void *tier)
{
    enum { LOAD, STORE };
    static const struct {
        uint32_t pkru;
        uint8_t access;
        bool user_mode, user_page, wp;
        int error; /* -1: none */
        uint32_t pkrs;
    } cases[] = {
        {0, LOAD, true, true, true, -1},
        {0, STORE, true, true, true, -1},
        {1 << 10, LOAD, true, true, true, 0x25}, /* AD of key 5 */
        {1 << 10, STORE, true, true, true, 0x27},
        {1 << 11, LOAD, true, true, true, -1}, /* WD */
        {1 << 11, STORE, true, true, true, 0x27},
        {1 << 8, STORE, true, true, true, -1},     /* another key */
        {1 << 11, STORE, false, true, true, 0x23}, /* the supervisor on a user page */
        {1 << 11, STORE, false, true, false, -1},  /* … without CR0.WP */
        {1 << 10, LOAD, false, true, true, 0x21},
        {3 << 10, STORE, false, false, true, -1},     /* PKRU is not for supervisor pages … */
        {0, LOAD, false, false, true, 0x21, 1 << 10}, /* … PKRS is */
        {0, STORE, false, false, true, 0x23, 1 << 11},
        {0, STORE, false, false, false, -1, 1 << 11},
        {0, LOAD, false, false, true, -1, 1 << 11},
        {0, STORE, false, false, true, -1, 3 << 8},
        {0, STORE, false, true, true, -1, 3 << 10}, /* and not for user pages */
        {0, LOAD, true, false, true, 5, 3 << 10},   /* U/S comes first */
        {0, STORE, true, true, true, -1},
    };
    struct bench bench;
    bench_create(&bench, GPOINTER_TO_INT(tier));
    struct x86_cpu *cpu = bench.machine.cpu;
    offer(cpu, -1);
    prepare(&bench);
    cpu->cr4 |= CR4_PKS;
    mmu_paging_changed(cpu);
    const uint64_t pt = MACHINE_PML4 + 0x3000, page = 2 << 20 | DATA;
    machine_write64(&bench.machine, MACHINE_PML4 + 0x2008, pt | 7); /* second 2 MiB by 4 KiB pages */
    for (unsigned i = 0; i < 512; i++) {
        machine_write64(&bench.machine, pt + i * 8, (uint64_t)i << 12 | UINT64_C(5) << 59 | 7);
    }
    for (unsigned round = 0; round < 3; round++) { /* later rounds find translations of earlier ones */
        for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
            g_test_message("round %u case %u", round, i);
            uint64_t entry = DATA | UINT64_C(5) << 59 | (cases[i].user_page ? 7 : 3);
            if (machine_read64(&bench.machine, pt + (DATA >> 12) * 8) % 64 != entry % 64) {
                machine_write64(&bench.machine, pt + (DATA >> 12) * 8, entry);
                mmu_invlpg(cpu, page);
            }
            cpu->cr0 = cases[i].wp ? cpu->cr0 | CR0_WP : cpu->cr0 & ~(uint64_t)CR0_WP;
            cpu->cpl = 0;
            x86_set_flat_segment(&cpu->seg[SEG_CS], MACHINE_CS64, ATTR_FLAT_CODE64(0));
            x86_set_flat_segment(&cpu->seg[SEG_SS], MACHINE_SS, ATTR_FLAT_DATA(0));
            if (i && cases[i].wp != cases[i - 1].wp) {
                mmu_paging_changed(cpu);
            }
            x86_update_mode(cpu);
            cpu->gpr[IR_RAX] = cases[i].pkru;
            cpu->gpr[IR_RCX] = cpu->gpr[IR_RDX] = 0;
            g_assert_cmpint(run_code(&bench, "\x0f\x01\xef", 3), ==, NO_FAULT);
            g_assert_cmphex(cpu->pkru, ==, cases[i].pkru);
            g_assert_cmpint(x86_msr_write(cpu, 0x6e1, cases[i].pkrs), ==, 0);
            if (cases[i].user_mode) {
                cpu->cpl = 3;
                x86_set_flat_segment(&cpu->seg[SEG_CS], MACHINE_UCS64 | 3, ATTR_FLAT_CODE64(3u));
                x86_set_flat_segment(&cpu->seg[SEG_SS], MACHINE_USS | 3, ATTR_FLAT_DATA(3u));
                x86_update_mode(cpu);
            }
            cpu->gpr[IR_RBX] = page;
            /* mov to or from [rbx], then UD2 */
            int vector =
                run_code(&bench, cases[i].access == STORE ? "\x89\x03\x0f\x0b" : "\x8b\x03\x0f\x0b", 4);
            g_assert_cmpint(vector, ==, cases[i].error < 0 ? EXC_UD : EXC_PF);
            if (cases[i].error >= 0) {
                g_assert_cmphex(cpu->exc.error, ==, (unsigned)cases[i].error);
                g_assert_cmphex(cpu->exc.cr2, ==, page);
            }
        }
    }
    bench_destroy(&bench);
}

/* PKRU in XSAVE images: saved, restored with effect on what was translated before, initial when left out. */
static void test_keys_xsave(void)
{
    struct bench bench;
    bench_create(&bench, ENGINE_INTERPRETER);
    struct x86_cpu *cpu = bench.machine.cpu;
    offer(cpu, -1);
    prepare(&bench);
    mmu_set_pkru(cpu, 0x55555554);
    cpu->gpr[IR_RAX] = 1 << 9;
    g_assert_cmpint(run_code(&bench, "\x0f\xae\x23", 3), ==, NO_FAULT); /* xsave [rbx] */
    g_assert_cmphex(machine_read64(&bench.machine, DATA + 512), ==, 1 << 9);
    g_assert_cmphex(machine_read64(&bench.machine, DATA + 2688), ==, 0x55555554);
    mmu_set_pkru(cpu, 0);
    g_assert_cmpint(run_code(&bench, "\x0f\xae\x2b", 3), ==, NO_FAULT); /* xrstor [rbx] */
    g_assert_cmphex(cpu->pkru, ==, 0x55555554);
    machine_write64(&bench.machine, DATA + 512, 0);
    g_assert_cmpint(run_code(&bench, "\x0f\xae\x2b", 3), ==, NO_FAULT);
    g_assert_cmphex(cpu->pkru, ==, 0);
    bench_destroy(&bench);
}

/* --- CPUID -------------------------------------------------------------------------------------------------- */

static void cpuid(struct x86_cpu *cpu, uint32_t leaf, uint32_t subleaf)
{
    struct ir_op op = {.op = IR_SYS, .sub = X86_SYS_CPUID};
    cpu->gpr[IR_RAX] = leaf;
    cpu->gpr[IR_RCX] = subleaf;
    g_assert_cmpint(x86_sys(cpu, &op), ==, X86_OK);
}

/* Broken if it fails: OSXSAVE, OSPKE, SYSCALL, the APIC's bit or the XSAVE area's size do not follow the state. */
static void test_dynamic_cpuid(void)
{
    struct bench bench;
    bench_create(&bench, ENGINE_INTERPRETER);
    struct x86_cpu *cpu = bench.machine.cpu;
    offer(cpu, -1);
    for (unsigned on = 0; on < 2; on++) {
        prepare(&bench);
        if (!on) {
            cpu->cr4 &= ~(uint64_t)(CR4_OSXSAVE | CR4_PKE);
        }
        cpu->xcr0 = on ? 3 | 1 << 9 : 3;
        bench.machine.apic_base = on ? 0xfee00800 : 0xfee00000;
        cpuid(cpu, 1, 0);
        g_assert_cmpuint(cpu->gpr[IR_RCX] >> 27 & 1, ==, on);
        g_assert_cmpuint(cpu->gpr[IR_RDX] >> 9 & 1, ==, on);
        cpuid(cpu, 7, 0);
        g_assert_cmpuint(cpu->gpr[IR_RCX] >> 4 & 1, ==, on);
        cpuid(cpu, 0xd, 0);
        g_assert_cmpuint(cpu->gpr[IR_RBX], ==, on ? 2696 : 576);
        cpuid(cpu, 0xd, 1);
        g_assert_cmpuint(cpu->gpr[IR_RBX], ==, on ? 576 + 8 : 576);
        x86_set_flat_segment(&cpu->seg[SEG_CS], MACHINE_CS64, on ? ATTR_FLAT_CODE64(0) : ATTR_FLAT_CODE32(0));
        x86_update_mode(cpu);
        cpuid(cpu, 0x80000001, 0);
        g_assert_cmpuint(cpu->gpr[IR_RDX] >> 11 & 1, ==, on);
        cpuid(cpu, 0x13, 0); /* beyond the last leaf: as that */
        g_assert_cmpuint(cpu->gpr[IR_RBX], ==, on ? 2696 : 576);
    }
    bench_destroy(&bench);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(const void *tier);
    } both[] = {
        {"instructions", test_instructions},
        {"vector-rows", test_vector_rows},
        {"vex-rows", test_vex_rows},
        {"counts", test_counts},
        {"msrs", test_msrs},
        {"protection-keys", test_protection_keys},
    };
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(both); i++) {
        g_autofree char *interpreter = g_strdup_printf("/features/%s/interpreter", both[i].name);
        g_autofree char *t0 = g_strdup_printf("/features/%s/t0", both[i].name);
        g_test_add_data_func(interpreter, GINT_TO_POINTER(ENGINE_INTERPRETER), both[i].run);
        g_test_add_data_func(t0, GINT_TO_POINTER(ENGINE_T0), both[i].run);
    }
    g_test_add_func("/features/control-bits", test_control_bits);
    g_test_add_func("/features/msr-bits", test_msr_bits);
    g_test_add_func("/features/xcr0", test_xcr0);
    g_test_add_func("/features/paging", test_paging);
    g_test_add_func("/features/keys-xsave", test_keys_xsave);
    g_test_add_func("/features/cpuid", test_dynamic_cpuid);
    return g_test_run();
}
