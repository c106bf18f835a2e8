/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter where the host CPU cannot be asked: what faults, interrupts and code changes leave behind, control flow,
 * and the bulk paths of string instructions against single iterations.
 */
#include <glib.h>
#include <inttypes.h>
#include <string.h>

#include "tests/translator/fake_cpu.h"
#include "translator/interp.h"
#include "translator/x86/decode.h"
#include "translator/x86/sys.h"

#define M64  (MODE_CS64 | MODE_PE | MODE_LMA | MODE_FLAT)
#define M32  (MODE_CS32 | MODE_SS32 | MODE_PE | MODE_FLAT)
#define M16  0u
#define CODE UINT64_C(0x1000)
#define DATA UINT64_C(0x4000)

static struct x86_cpu cpu;

static void setup(uint32_t mode)
{
    fake_limit = FAKE_RAM_BYTES;
    fake_no_host = false;
    memset(fake_ram, 0, sizeof(fake_ram));
    fake_cpu_init(&cpu, mode);
    cpu.gpr[IR_RSP] = 0x8000;
    x86_set_rip(&cpu, CODE);
}

/* Runs one block of the code in `hex` at cpu.rip. */
static int run(const char *hex)
{
    static struct ir_block block;
    uint8_t *bytes = fake_ram + cpu.seg[SEG_CS].base + cpu.rip;
    for (unsigned n = 0; hex[2 * n]; n++)
        bytes[n] = (uint8_t)(g_ascii_xdigit_value(hex[2 * n]) << 4 | g_ascii_xdigit_value(hex[2 * n + 1]));
    unsigned length = (unsigned)strlen(hex) / 2; /* the page ends here */
    unsigned offset = (cpu.seg[SEG_CS].base + cpu.rip) & 4095;
    struct x86_decode_input input = {.bytes = bytes,
                                     .avail = length,
                                     .in_page = length,
                                     .offset = (uint16_t)offset,
                                     .mode = cpu.mode,
                                     .features = cpu.features,
                                     .max_insns = IR_BLOCK_MAX_INSNS};
    g_assert_cmpint(x86_decode_block(&input, &block), ==, 0);
    return interp_run(&cpu, &block, 0);
}

static void assert_raised(int r, unsigned vector)
{
    g_assert_cmpint(r, ==, X86_RAISE);
    g_assert_true(cpu.exc.pending);
    g_assert_cmpuint(cpu.exc.vector, ==, vector);
    cpu.exc.pending = false;
}

/* --- control flow ------------------------------------------------------------------------------------------- */

static void test_branches(void)
{
    setup(M64);
    g_assert_cmpint(run("eb0e"), ==, X86_JUMP);
    g_assert_cmphex(cpu.rip, ==, CODE + 0x10);
    g_assert_cmphex(cpu.pc_base, ==, CODE);
    setup(M64);
    cpu.rflags |= FLAG_ZF;
    g_assert_cmpint(run("7510740e90"), ==, X86_JUMP);
    g_assert_cmphex(cpu.rip, ==, CODE + 0x12);
    setup(M64);
    g_assert_cmpint(run("e8fb0f0000"), ==, X86_JUMP); /* CALL */
    g_assert_cmphex(cpu.rip, ==, CODE + 0x1000);
    g_assert_cmphex(cpu.pc_base, ==, CODE + 0x1000);
    g_assert_cmphex(cpu.gpr[IR_RSP], ==, 0x7ff8);
    g_assert_cmphex(*(uint64_t *)(fake_ram + 0x7ff8), ==, CODE + 5);
    g_assert_cmpint(run("c21000"), ==, X86_JUMP); /* RET 16 */
    g_assert_cmphex(cpu.rip, ==, CODE + 5);
    g_assert_cmphex(cpu.gpr[IR_RSP], ==, 0x8010);
    setup(M64);
    cpu.gpr[IR_RSP] = 0x8000;
    *(uint64_t *)(fake_ram + 0x7ff8) = 0x2345; /* CALL [rsp - 8] reads its target before it pushes */
    g_assert_cmpint(run("ff5424f8"), ==, X86_JUMP);
    g_assert_cmphex(cpu.rip, ==, 0x2345);
    g_assert_cmphex(*(uint64_t *)(fake_ram + 0x7ff8), ==, CODE + 4);
}

static void test_loops(void)
{
    setup(M64);
    cpu.gpr[IR_RCX] = 2;
    g_assert_cmpint(run("e2fe"), ==, X86_JUMP);
    g_assert_cmphex(cpu.rip, ==, CODE);
    g_assert_cmpuint(cpu.gpr[IR_RCX], ==, 1);
    g_assert_cmpint(run("e2fe"), ==, X86_JUMP);
    g_assert_cmphex(cpu.rip, ==, CODE + 2);
    g_assert_cmpuint(cpu.gpr[IR_RCX], ==, 0);
    setup(M64);
    cpu.gpr[IR_RCX] = UINT64_C(0x100000000); /* 67: ECX, and the write clears the upper half */
    g_assert_cmpint(run("67e37f67e2fd"), ==, X86_JUMP);
    g_assert_cmphex(cpu.rip, ==, CODE + 3 + 0x7f);
    setup(M64);
    cpu.gpr[IR_RCX] = UINT64_C(0x500000001);
    g_assert_cmpint(run("67e2fd"), ==, X86_JUMP);
    g_assert_cmphex(cpu.rip, ==, CODE + 3);
    g_assert_cmphex(cpu.gpr[IR_RCX], ==, 0);
    setup(M64);
    cpu.gpr[IR_RCX] = 5;
    cpu.rflags &= ~(uint64_t)FLAG_ZF;
    g_assert_cmpint(run("e1fe"), ==, X86_JUMP); /* LOOPE with ZF clear falls through but counts */
    g_assert_cmphex(cpu.rip, ==, CODE + 2);
    g_assert_cmpuint(cpu.gpr[IR_RCX], ==, 4);
    g_assert_cmpint(run("e0fe"), ==, X86_JUMP);
    g_assert_cmphex(cpu.rip, ==, CODE + 2);
    g_assert_cmpuint(cpu.gpr[IR_RCX], ==, 3);
}

/* A transfer to an address that cannot be executed faults before anything changed. */
static void test_bad_targets(void)
{
    setup(M64);
    cpu.gpr[IR_RAX] = UINT64_C(0x800000000000);
    assert_raised(run("ffd0"), EXC_GP);
    g_assert_cmphex(cpu.rip, ==, CODE);
    g_assert_cmphex(cpu.gpr[IR_RSP], ==, 0x8000);
    assert_raised(run("ffe0"), EXC_GP);
    *(uint64_t *)(fake_ram + 0x8000) = UINT64_C(0x8000000000000000);
    assert_raised(run("c3"), EXC_GP);
    g_assert_cmphex(cpu.gpr[IR_RSP], ==, 0x8000);
    setup(M16);
    cpu.gpr[IR_RAX] = 0x10000;
    assert_raised(run("66ffe0"), EXC_GP); /* beyond the limit of CS */
    assert_raised(run("66e900000100"), EXC_GP);
    setup(M64);
    cpu.gpr[IR_RSP] = fake_limit + 8; /* the push faults: no transfer */
    assert_raised(run("e800000000"), EXC_PF);
    g_assert_cmphex(cpu.gpr[IR_RSP], ==, fake_limit + 8);
    g_assert_cmphex(cpu.rip, ==, CODE);
}

/* 16-bit IP and segment bases. */
static void test_real_mode(void)
{
    setup(M16);
    cpu.seg[SEG_CS].base = 0x1230;
    x86_set_rip(&cpu, 0x10);
    g_assert_cmphex(cpu.pc_base, ==, UINT64_C(0x10) - 0x240);
    g_assert_cmpint(run("e9edff"), ==, X86_JUMP);
    g_assert_cmphex(cpu.rip, ==, 0);
    x86_set_rip(&cpu, 0);
    g_assert_cmpint(run("ebf0"), ==, X86_JUMP); /* wraps at 64 KiB */
    g_assert_cmphex(cpu.rip, ==, 0xfff2);
    x86_set_rip(&cpu, 0x10);
    cpu.seg[SEG_SS].base = 0x4000;
    cpu.gpr[IR_RSP] = 0xabcd0002;
    g_assert_cmpint(run("e80000"), ==, X86_JUMP);
    g_assert_cmphex(cpu.gpr[IR_RSP], ==, 0xabcd0000);
    g_assert_cmphex(*(uint16_t *)(fake_ram + 0x4000), ==, 0x13);
    cpu.seg[SEG_DS].base = 0x4000;
    cpu.gpr[IR_RBX] = 0xffff;
    assert_raised(run("8b07"), EXC_GP); /* a word at offset 0xffff */
    cpu.gpr[IR_RBP] = 0xffff;
    assert_raised(run("8b4600"), EXC_SS);
}

/* --- exactness at faults ------------------------------------------------------------------------------------- */

static void test_stack_faults(void)
{
    setup(M64);
    cpu.gpr[IR_RSP] = fake_limit;
    assert_raised(run("58"), EXC_PF);
    g_assert_cmphex(cpu.gpr[IR_RSP], ==, fake_limit);
    cpu.gpr[IR_RSP] = 4;
    cpu.gpr[IR_RBP] = fake_limit;
    assert_raised(run("c9"), EXC_PF);
    g_assert_cmphex(cpu.gpr[IR_RSP], ==, 4);
    g_assert_cmphex(cpu.gpr[IR_RBP], ==, fake_limit);
    /* POP [rax]: the store faults, RSP stays. */
    setup(M64);
    cpu.gpr[IR_RAX] = fake_limit;
    assert_raised(run("8f00"), EXC_PF);
    g_assert_cmphex(cpu.gpr[IR_RSP], ==, 0x8000);
    /* POP [rsp]: the address uses RSP after the pop. */
    *(uint64_t *)(fake_ram + 0x8000) = 0x1122;
    g_assert_cmpint(run("8f0424"), ==, X86_JUMP);
    g_assert_cmphex(*(uint64_t *)(fake_ram + 0x8008), ==, 0x1122);
    /* A non-canonical stack is #SS. */
    setup(M64);
    cpu.gpr[IR_RSP] = UINT64_C(0x800000000000);
    assert_raised(run("50"), EXC_PF); /* just below it is canonical, only unmapped here */
    cpu.gpr[IR_RSP] = UINT64_C(0x900000000000);
    assert_raised(run("50"), EXC_SS);
    assert_raised(run("c3"), EXC_SS);
    assert_raised(run("8b0424"), EXC_SS); /* so is one with rSP or rBP as base */
    assert_raised(run("0f280424"), EXC_SS);
    cpu.gpr[IR_RBP] = cpu.gpr[IR_RCX] = cpu.gpr[IR_RSP];
    assert_raised(run("014d00"), EXC_SS);
    assert_raised(run("8b01"), EXC_GP);
    assert_raised(run("64488b4500"), EXC_GP);
}

static void test_operand_faults(void)
{
    setup(M64);
    cpu.gpr[IR_RBX] = fake_limit;
    cpu.gpr[IR_RAX] = 7;
    uint64_t flags = cpu.rflags |= FLAG_CF;
    assert_raised(run("1103"), EXC_PF); /* ADC */
    assert_raised(run("0fc103"), EXC_PF);
    assert_raised(run("0fb003"), EXC_PF);
    assert_raised(run("8703"), EXC_PF);
    assert_raised(run("0f4503"), EXC_PF); /* CMOV reads even when the condition is false */
    assert_raised(run("f733"), EXC_PF);
    g_assert_cmphex(cpu.rflags, ==, flags);
    g_assert_cmpuint(cpu.gpr[IR_RAX], ==, 7);
    cpu.gpr[IR_RBX] = DATA + 8;
    assert_raised(run("480fc70b"), EXC_GP); /* CMPXCHG16B unaligned */
    cpu.gpr[IR_RBX] = 0;
    assert_raised(run("f7f3"), EXC_DE);
    g_assert_cmpuint(cpu.gpr[IR_RAX], ==, 7);
    cpu.mode |= MODE_AC | MODE_CPL3;
    cpu.gpr[IR_RBX] = DATA + 1;
    assert_raised(run("8b03"), EXC_AC);
    g_assert_cmpint(run("8a03"), ==, X86_JUMP);
}

/* What comes before the faulting instruction has happened, and rip is the faulting one. */
static void test_fault_position(void)
{
    setup(M64);
    cpu.gpr[IR_RBX] = fake_limit;
    assert_raised(run("ffc0ffc08b03ffc0"), EXC_PF);
    g_assert_cmpuint(cpu.gpr[IR_RAX], ==, 2);
    g_assert_cmphex(cpu.rip, ==, CODE + 4);
    g_assert_cmphex(cpu.exc.cr2, ==, fake_limit);
}

/* The vCPU overwrote translated code: the block is left before the next instruction. */
static void test_code_changed(void)
{
    static struct ir_block block;
    static const uint8_t bytes[] = {0xff, 0xc0, 0xff, 0xc0, 0xff, 0xc0};
    setup(M64);
    struct x86_decode_input input = {
        .bytes = bytes, .avail = 6, .in_page = 6, .mode = M64, .features = cpu.features, .max_insns = 3};
    g_assert_cmpint(x86_decode_block(&input, &block), ==, 0);
    cpu.code_changed = true;
    g_assert_cmpint(interp_run(&cpu, &block, 2), ==, X86_JUMP); /* from the second instruction */
    g_assert_cmphex(cpu.rip, ==, CODE + 2);
    g_assert_false(cpu.code_changed);
    g_assert_cmpuint(cpu.gpr[IR_RAX], ==, 0);
}

/* --- strings ------------------------------------------------------------------------------------------------ */

static void test_string_fault(void)
{
    setup(M64);
    cpu.gpr[IR_RCX] = 100;
    cpu.gpr[IR_RSI] = DATA;
    cpu.gpr[IR_RDI] = fake_limit - 40;
    memset(fake_ram + DATA, 0xab, 1024);
    assert_raised(run("f3a4"), EXC_PF);
    g_assert_cmpuint(cpu.gpr[IR_RCX], ==, 60);
    g_assert_cmphex(cpu.gpr[IR_RSI], ==, DATA + 40);
    g_assert_cmphex(cpu.gpr[IR_RDI], ==, fake_limit);
    g_assert_cmphex(cpu.exc.cr2, ==, fake_limit);
    g_assert_cmphex(cpu.rip, ==, CODE);
    g_assert_cmphex(fake_ram[fake_limit - 1], ==, 0xab);
    /* Downwards, in words. */
    setup(M64);
    cpu.rflags |= FLAG_DF;
    cpu.gpr[IR_RCX] = 10;
    cpu.gpr[IR_RDI] = 8;
    cpu.gpr[IR_RAX] = 0x1122334455667788;
    assert_raised(run("f348ab"), EXC_PF);
    g_assert_cmpuint(cpu.gpr[IR_RCX], ==, 8);
    g_assert_cmphex(cpu.gpr[IR_RDI], ==, UINT64_C(0) - 8);
    /* A comparison that faults leaves the flags of before the instruction. */
    setup(M64);
    cpu.gpr[IR_RCX] = 100;
    cpu.gpr[IR_RDI] = fake_limit - 4;
    cpu.rflags |= FLAG_CF | FLAG_OF;
    uint64_t flags = cpu.rflags;
    assert_raised(run("f3ae"), EXC_PF);
    g_assert_cmphex(cpu.rflags, ==, flags);
    g_assert_cmpuint(cpu.gpr[IR_RCX], ==, 96);
}

/* A request ends a long instruction between two iterations; it goes on to the same result. */
static void test_string_interrupted(void)
{
    for (unsigned no_host = 0; no_host < 2; no_host++) {
        setup(M64);
        fake_no_host = no_host;
        cpu.gpr[IR_RCX] = 20000;
        cpu.gpr[IR_RDI] = DATA;
        cpu.gpr[IR_RAX] = 0x5a;
        atomic_store(&cpu.requests, X86_REQ_KICK);
        unsigned rounds = 0;
        while (cpu.rip == CODE) {
            g_assert_cmpint(run("f3aa"), ==, X86_JUMP);
            g_assert_cmpuint(cpu.gpr[IR_RDI] - DATA + cpu.gpr[IR_RCX], ==, 20000);
            rounds++;
        }
        g_assert_cmpuint(rounds, >, 3);
        g_assert_cmphex(cpu.rip, ==, CODE + 2);
        g_assert_cmpuint(cpu.gpr[IR_RCX], ==, 0);
        for (unsigned i = 0; i < 20000; i++)
            g_assert_cmphex(fake_ram[DATA + i], ==, 0x5a);
        g_assert_cmphex(fake_ram[DATA + 20000], ==, 0);
    }
    /* Single step: one iteration at a time. */
    setup(M64 | MODE_TF);
    cpu.gpr[IR_RCX] = 3;
    cpu.gpr[IR_RDI] = DATA;
    for (unsigned left = 2; left > 0; left--) {
        g_assert_cmpint(run("f3aa"), ==, X86_JUMP);
        g_assert_cmpuint(cpu.gpr[IR_RCX], ==, left);
        g_assert_cmphex(cpu.rip, ==, CODE);
    }
    g_assert_cmpint(run("f3aa"), ==, X86_JUMP);
    g_assert_cmphex(cpu.rip, ==, CODE + 2);
}

/* Bulk runs equal single iterations, whatever the overlap, alignment, direction and size. */
static void test_string_bulk(void)
{
    static const char *const insns[] = {"f3a4", "f366a5", "f3a5", "f348a5",
                                        "f3aa", "f366ab", "f3ab", "f348ab"};
    static uint8_t before[FAKE_RAM_BYTES], single[FAKE_RAM_BYTES];
    for (unsigned i = 0; i < 3000; i++) {
        const char *insn = insns[g_random_int_range(0, G_N_ELEMENTS(insns))];
        uint64_t source = DATA + (unsigned)g_random_int_range(0, 8192);
        uint64_t destination = g_random_boolean() ? source + (uint64_t)(int64_t)g_random_int_range(-20, 20)
                                                  : DATA + (unsigned)g_random_int_range(0, 8192);
        uint64_t count = (unsigned)g_random_int_range(0, g_random_boolean() ? 40 : 1200);
        bool down = g_random_int_range(0, 4) == 0;
        uint64_t registers[2][3];
        for (unsigned no_host = 0; no_host < 2; no_host++) {
            if (no_host)
                memcpy(single, fake_ram, sizeof(single));
            setup(M64);
            if (!no_host)
                for (unsigned j = 0; j < sizeof(before); j++)
                    before[j] = (uint8_t)(j * 7 + (j >> 8) + i);
            memcpy(fake_ram, before, sizeof(before));
            fake_no_host = no_host;
            cpu.rflags |= down ? FLAG_DF : 0;
            cpu.gpr[IR_RSI] = source;
            cpu.gpr[IR_RDI] = destination;
            cpu.gpr[IR_RCX] = count;
            cpu.gpr[IR_RAX] = UINT64_C(0x8877665544332211);
            g_assert_cmpint(run(insn), ==, X86_JUMP);
            g_assert_cmphex(cpu.rip, >, CODE);
            registers[no_host][0] = cpu.gpr[IR_RSI];
            registers[no_host][1] = cpu.gpr[IR_RDI];
            registers[no_host][2] = cpu.gpr[IR_RCX];
        }
        g_assert_cmpmem(registers[0], sizeof(registers[0]), registers[1], sizeof(registers[1]));
        g_assert_cmpmem(fake_ram, sizeof(single), single, sizeof(single));
    }
}

/* 16 and 32-bit counters wrap around and leave upper halves alone, or clear them. */
static void test_string_wrap(void)
{
    setup(M16);
    cpu.gpr[IR_RCX] = 0xabcd0008;
    cpu.gpr[IR_RDI] = 0x1234fffc;
    cpu.gpr[IR_RAX] = 0x77;
    g_assert_cmpint(run("f3aa"), ==, X86_JUMP);
    g_assert_cmphex(cpu.gpr[IR_RDI], ==, 0x12340004);
    g_assert_cmphex(cpu.gpr[IR_RCX], ==, 0xabcd0000);
    g_assert_cmphex(fake_ram[0xffff], ==, 0x77);
    g_assert_cmphex(fake_ram[3], ==, 0x77);
    g_assert_cmphex(fake_ram[4], ==, 0);
    setup(M64);
    cpu.gpr[IR_RCX] = UINT64_C(0x100000002);
    cpu.gpr[IR_RDI] = UINT64_C(0x500000000) + DATA;
    g_assert_cmpint(run("f367aa"), ==, X86_JUMP);
    g_assert_cmphex(cpu.gpr[IR_RDI], ==, DATA + 2);
    g_assert_cmphex(cpu.gpr[IR_RCX], ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/interp/branches", test_branches);
    g_test_add_func("/interp/loops", test_loops);
    g_test_add_func("/interp/bad-targets", test_bad_targets);
    g_test_add_func("/interp/real-mode", test_real_mode);
    g_test_add_func("/interp/stack-faults", test_stack_faults);
    g_test_add_func("/interp/operand-faults", test_operand_faults);
    g_test_add_func("/interp/fault-position", test_fault_position);
    g_test_add_func("/interp/code-changed", test_code_changed);
    g_test_add_func("/interp/string-fault", test_string_fault);
    g_test_add_func("/interp/string-interrupted", test_string_interrupted);
    g_test_add_func("/interp/string-bulk", test_string_bulk);
    g_test_add_func("/interp/string-wrap", test_string_wrap);
    return g_test_run();
}
