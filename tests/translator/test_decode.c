/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front end: bytes to IR. A failure means that an encoding does something else than the manual says, or that code the
 * guest's CPU does not have runs.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <Zydis/Zydis.h>

#include "tests/translator/fake_cpu.h"
#include "translator/x86/decode.h"
#include "translator/x86/sys.h"

#define M64  (MODE_CS64 | MODE_PE | MODE_LMA | MODE_FLAT)
#define M32  (MODE_CS32 | MODE_SS32 | MODE_PE | MODE_FLAT)
#define M32S (MODE_CS32 | MODE_SS32 | MODE_PE)
#define M64A (M64 | MODE_AVX)
#define M32A (M32 | MODE_AVX)
#define M16  0u
#define V86  (MODE_PE | MODE_VM | MODE_CPL3)

static unsigned from_hex(const char *hex, uint8_t *ret_bytes)
{
    unsigned n = 0;
    for (; hex[0] && hex[1]; hex += 2)
        ret_bytes[n++] = (uint8_t)(g_ascii_xdigit_value(hex[0]) << 4 | g_ascii_xdigit_value(hex[1]));
    return n;
}

/* Decodes up to `max_insns` of the code in `hex` at the end of a page. */
static int decode(uint32_t mode, const char *hex, unsigned max_insns, struct ir_block *ret_block)
{
    uint8_t bytes[256];
    uint32_t features[X86_FEATURE_WORDS];
    unsigned n = from_hex(hex, bytes);
    fake_features(features);
    struct x86_decode_input input = {
        .bytes = bytes, .avail = n, .in_page = n, .mode = mode, .features = features, .max_insns = max_insns};
    return x86_decode_block(&input, ret_block);
}

static void append_line(void *opaque, const char *line)
{
    GString *text = opaque;
    if (text->len)
        g_string_append(text, " ; ");
    while (*line == ' ')
        line++;
    g_string_append(text, line);
}

/* The dump without the instruction line and IR_END. */
static char *dump(const struct ir_block *block)
{
    GString *text = g_string_new(NULL);
    struct ir_block inner = *block;
    bool ended = block->ops[block->op_count - 1].op == IR_END;
    inner.op_count = (uint16_t)(block->op_count - 1 - ended);
    memmove(inner.ops, inner.ops + 1, inner.op_count * sizeof(inner.ops[0]));
    ir_dump(&inner, append_line, text);
    return g_string_free(text, FALSE);
}

static const struct {
    uint32_t mode;
    const char *hex, *expected;
} rows[] = {
    /* clang-format off */
    {M64, "4801d8", "add.8 rax rbx"},
    {M64, "00e0", "add.1 rax ah"},
    {M64, "4000e0", "add.1 rax rsp"},
    {M64, "f0480fb10d10000000", "ea.8 [pc+25] /8 write ; cmpxchg.8 [] rcx lock"},
    {M64, "6644012c98", "ea.8 [rax+rbx*4+0] /2 write ; add.2 [] r13"},
    {M64, "83c0ff", "add.4 rax $-1"},
    {M64, "6681c03412", "add.2 rax $4660"},
    {M64, "48c7c0ffffffff", "mov.8 rax $-1"},
    {M64, "48b8efcdab8967452301", "mov.8 rax $81985529216486895"},
    {M64, "66b83412", "mov.2 rax $4660"},
    {M64, "b480", "mov.1 ah $-128"},
    {M64, "488d4408f8", "lea.8 rax [rax+rcx*1-8] /8"},
    {M64, "678d4408f8", "lea.4 rax [rax+rcx*1-8] /4"},
    {M64, "8b0425ffffffff", "ea.8 [-1] /4 ; mov.4 rax []"},
    {M64, "64488b042528000000", "ea.8 fs:[+40] /8 ; mov.8 rax []"},
    {M64, "658b00", "ea.8 gs:[rax+0] /4 ; mov.4 rax []"},
    {M64, "3e8b00", "ea.8 [rax+0] /4 ; mov.4 rax []"},
    {M64, "a1f0debc9a78563412", "ea.8 [+1311768467463790320] /4 ; mov.4 rax []"},
    {M64, "67a144332211", "ea.4 [+287454020] /4 ; mov.4 rax []"},
    {M64, "4863c1", "movsx.8 rax rcx /4"},
    {M64, "63c1", "mov.4 rax rcx /4"},
    {M64, "6663c1", "mov.2 rax rcx /2"},
    {M64, "0fb6c4", "movzx.4 rax ah /1"},
    {M64, "400fb6c4", "movzx.4 rax rsp /1"},
    {M64, "480fbf0424", "ea.8 [rsp+0] /2 ; movsx.8 rax [] /2"},
    {M64, "50", "push.8 rax /8"},
    {M64, "4150", "push.8 r8 /8"},
    {M64, "6650", "push.2 rax /8"},
    {M64, "6aff", "push.8 $-1 /8"},
    {M64, "666aff", "push.2 $-1 /8"},
    {M64, "68ffffffff", "push.8 $-1 /8"},
    {M64, "ff3424", "ea.8 [rsp+0] /8 ; push.8 [] /8"},
    {M64, "8f4424f8", "ea.8 [rsp-8] /8 write popped ; pop.8 [] /8"},
    {M64, "8f0424", "ea.8 [rsp+0] /8 write popped ; pop.8 [] /8"},
    {M64, "58", "pop.8 rax /8"},
    {M64, "c9", "leave.8 /8"},
    {M64, "e80b000000", "push.8 5 /8 pcrel call ; jmp.8 16 call"},
    {M64, "66e80b000000", "push.8 6 /8 pcrel call ; jmp.8 17 call"},
    {M64, "ff10", "ea.8 [rax+0] /8 ; jmp_ind.8 [] 2 /8 call"},
    {M64, "ffd0", "jmp_ind.8 rax 2 /8 call"},
    {M64, "ff20", "ea.8 [rax+0] /8 ; jmp_ind.8 [] 2 /8"},
    {M64, "ff6c2408", "ea.8 [rsp+8] /6 ; sys.jmp_far.4 [] end"},
    {M64, "c3", "ret.8 /8"},
    {M64, "c20800", "ret.8 8 /8"},
    {M64, "eb02", "jmp.8 4"},
    {M64, "74fe", "je.8 0"},
    {M64, "0f8400010000", "je.8 262"},
    {M64, "e3fe", "jrcxz.8 0 /8"},
    {M64, "67e302", "jrcxz.8 5 /4"},
    {M64, "e200", "loop.8 2 /8"},
    {M64, "e1fe", "loope.8 0 /8"},
    {M64, "e0fe", "loopne.8 0 /8"},
    {M64, "90", "nop.4"},
    {M64, "f390", "pause.4"},
    {M64, "4190", "xchg.4 rax r8"},
    {M64, "4890", "nop.8"},
    {M64, "87c0", "xchg.4 rax rax"},
    {M64, "8700", "ea.8 [rax+0] /4 write ; xchg.4 [] rax lock"},
    {M64, "d1e0", "shl.4 rax $1"},
    {M64, "c0e009", "shl.1 rax $9"},
    {M64, "48c1e041", "shl.8 rax $1"},
    {M64, "d3f8", "sar.4 rax"},
    {M64, "c1f000", "shl.4 rax $0"},
    {M64, "0fa4c811", "shld.4 rax rcx $17"},
    {M64, "0fadc8", "shrd.4 rax rcx"},
    {M64, "f6f1", "div.1 rcx"},
    {M64, "48f7f9", "idiv.8 rcx"},
    {M64, "f7c001000000", "test.4 rax $1"},
    {M64, "f6c801", "test.1 rax $1"},
    {M64, "0faf08", "ea.8 [rax+0] /4 ; imul.4 rcx []"},
    {M64, "6bc805", "imul.4 rcx rax $5"},
    {M64, "480fa308", "ea.8 [rax+0] ; bt.8 [] rcx /8"},
    {M64, "f0480fab08", "ea.8 [rax+0] ; bts.8 [] rcx /8 lock"},
    {M64, "0fba6805ff", "ea.8 [rax+5] /4 write ; bts.4 [] $31"},
    {M64, "0fbae8ff", "bts.4 rax $31"},
    {M64, "f30fb8c1", "popcnt.4 rax rcx"},
    {M64, "f30fbcc1", "bsf.4 rax rcx"},
    {M64, "f30fbdc1", "bsr.4 rax rcx"},
    {M64, "0fc8", "bswap.4 rax"},
    {M64, "660fc8", "bswap.2 rax"},
    {M64, "490fcf", "bswap.8 r15"},
    {M64, "0f38f000", "ea.8 [rax+0] /4 ; movbe.4 rax []"},
    {M64, "660f38f100", "ea.8 [rax+0] /2 write ; movbe.2 [] rax"},
    {M64, "f20f38f0c1", "crc32.4 rax rcx /1"},
    {M64, "66f20f38f1c1", "crc32.4 rax rcx /2"},
    {M64, "f2480f38f1c1", "crc32.8 rax rcx /8"},
    {M64, "480f44c1", "cmove.8 rax rcx"},
    {M64, "0f9500", "ea.8 [rax+0] /1 write ; setne.1 []"},
    {M64, "0fc101", "ea.8 [rcx+0] /4 write ; xadd.4 [] rax"},
    {M64, "f00fc709", "ea.8 [rcx+0] /8 write ; cmpxchg16.8 [] lock"},
    {M64, "f0480fc709", "ea.8 [rcx+0] /16 write ; cmpxchg16.16 [] lock"},
    {M64, "98", "convert_ax.4"},
    {M64, "4898", "convert_ax.8"},
    {M64, "6699", "convert_dx.2"},
    {M64, "9f", "lahf.4"},
    {M64, "f8", "clc.4"},
    {M64, "d7", "movzx.8 t0 rax /1 ; ea.8 [rbx+t0*1+0] /1 ; mov.1 rax []"},
    {M64, "a4", "movs.1 /8"},
    {M64, "f348ab", "stos.8 /8 rep"},
    {M64, "f267a6", "cmps.1 /4 repne"},
    {M64, "64ac", "lods.1 fs /8"},
    {M64, "66f3ad", "lods.2 /8 rep"},
    {M64, "0f1f4000", "nop.4"},
    {M64, "f30f1efa", "nop.4"},
    {M64, "0f18c8", "nop.4"},
    {M64, "0faee8", "lfence.4"},
    {M64, "0faef0", "mfence.4"},
    {M64, "0faef8", "sfence.4"},
    {M64, "0fc301", "ea.8 [rcx+0] /4 write ; mov.4 [] rax"},
    {M64, "0f10c1", "vec.movups.4 %0 %1"},
    {M64, "660f6f00", "ea.8 [rax+0] /16 ; vec.movdqa.4 %0 []"},
    {M64, "f30f7e08", "ea.8 [rax+0] /8 ; vec.movq.4 %1 []"},
    {M64, "660ff7ca", "ea.8 [rdi+0] /16 write ; sys.maskmov.16 [] rcx rdx"},
    {M64, "0ff7ca", "ea.8 [rdi+0] /8 write ; sys.maskmov.8 [] rcx rdx"},
    {M64, "0f77", "vec.emms.4 %0 %0"},
    {M64A, "c5f058c2", "vex128.vaddps.4 %0 %2 %1"},
    {M64A, "c4e17058c2", "vex128.vaddps.4 %0 %2 %1"},
    {M64A, "c44124588df0ffffff", "ea.8 [r13-16] /32 ; vex256.vaddps.4 %9 [] %11"},
    {M64A, "c5f8110425ffffffff", "ea.8 [-1] /16 write ; vex128.vmovups.4 [] %0 %0"},
    {M64A, "c4e3714ac230", "vex128.vblendvps.4 %0 %2 %1 48"},
    {M64A, "c5f171d003", "vex128.vpsrlw.4 %2 %0 %1 3"},
    {M64A, "c4e1f97ec8", "vex128.vmovd.8 %1 %0 %0"},
    {M64A, "c4e2792c02", "ea.8 [rdx+0] ; vex128.vmaskmovps.4 %0 [] %0 2303"},
    {M64A, "c5f877", "vex128.vzeroupper.4 %0 %0"},
    {M64A, "c5fc77", "vex256.vzeroall.4 %0 %0"},
    {M64A, "c5f8ae10", "ea.8 [rax+0] /4 ; sys.ldmxcsr.4 []"},
    {M64A, "c5f9f7ca", "ea.8 [rdi+0] /16 write ; sys.maskmov.16 [] rcx rdx"},
    /* REX in front of a segment prefix is nothing; eight registers, and VEX.B and VEX.vvvv's top bit are ignored */
    {M64A, "4836c5f877", "vex128.vzeroupper.4 %0 %0"},
    {M32A, "c4c139feca", "vex128.vpaddd.4 %1 %2 %0"},
    {M32A, "c4e1f97ec8", "vex128.vmovd.4 %1 %0 %0"},
    {M32A, "c500", "ea.4 [rax+0] /6 ; sys.load_far_ptr.4 rax [] ds end"},
    {M64, "d9c0", "x87.4 /448"},
    {M64, "d900", "ea.8 [rax+0] /4 ; x87.4 [] /256"},
    {M64, "dd30", "ea.8 [rax+0] /108 write ; x87.4 [] /1328"},
    {M64, "9b", "sys.fwait.4"},
    {M64, "0fa2", "sys.cpuid.4"},
    {M64, "cd80", "sys.int.4 128 end"},
    {M64, "cc", "sys.int3.4 end"},
    {M64, "f4", "sys.hlt.4 end"},
    {M64, "fa", "sys.cli.4"},
    {M64, "fb", "sys.sti.4 end"},
    {M64, "0f01f8", "sys.swapgs.4"},
    {M64, "0f01ca", "sys.clac.4"},
    {M64, "0f22c0", "sys.mov_to_cr.8 rax end"},
    {M64, "440f22c0", "sys.mov_to_cr.8 rax 8 end"},
    {M64, "0f20d8", "sys.mov_from_cr.8 rax 3"},
    {M64, "8ed0", "sys.mov_to_seg.2 ss rax end"},
    {M64, "8cd8", "sys.mov_from_seg.4 rax ds"},
    {M64, "8c18", "ea.8 [rax+0] /2 write ; sys.mov_from_seg.2 [] ds"},
    {M64, "0f05", "sys.syscall.4 end"},
    {M64, "480f07", "sys.sysret.8 end"},
    {M64, "48cf", "sys.iret.8 end"},
    {M64, "ec", "sys.in.1"},
    {M64, "e680", "sys.out.1 $128"},
    {M64, "f36c", "sys.ins.1 /8 rep"},
    {M64, "48ff28", "ea.8 [rax+0] /10 ; sys.jmp_far.8 [] end"},
    {M64, "48cb", "sys.ret_far.8 end"},
    {M64, "c8100001", "sys.enter.8 65552"},
    {M64, "9c", "sys.pushf.8 8"},
    {M64, "669d", "sys.popf.2 8 end"},
    {M64, "0f00d8", "sys.ltr.2 rax"},
    {M64, "0f0118", "ea.8 [rax+0] /10 ; sys.lidt.8 []"},
    {M64, "0f013b", "ea.8 [rbx+0] ; sys.invlpg.4 [] end"},
    {M64, "0fae00", "ea.8 [rax+0] /512 write ; sys.fxsave.4 []"},
    {M64, "480fae28", "ea.8 [rax+0] /576 ; sys.xrstor.8 []"},
    {M64, "f30faec0", "sys.rdfsbase.4 rax"},
    {M64, "f3480faed9", "sys.wrgsbase.8 rcx"},
    {M64, "660fae38", "ea.8 [rax+0] /1 ; sys.clflush.4 []"},
    {M64, "660f388200", "ea.8 [rax+0] /16 ; sys.invpcid.8 rax [] end"},
    {M64, "0fc7f0", "sys.rdrand.4 rax"},
    {M32, "8b4508", "ea.4 [rbp+8] /4 ; mov.4 rax []"},
    {M32, "678b4608", "ea.2 [rbp+8] /4 ; mov.4 rax []"},
    {M32, "67660301", "ea.2 [rbx+rdi*1+0] /2 ; add.2 rax []"},
    {M32, "648b00", "ea.4 fs:[rax+0] /4 segcheck ; mov.4 rax []"},
    {M32, "2e8900", "ea.4 cs:[rax+0] /4 segcheck write ; mov.4 [] rax"},
    {M32, "8b0510000000", "ea.4 [+16] /4 ; mov.4 rax []"},
    {M32, "40", "inc.4 rax"},
    {M32, "6648", "dec.2 rax"},
    {M32, "60", "sys.pusha.4 4"},
    {M32, "27", "sys.daa.4"},
    {M32, "c400", "ea.4 [rax+0] /6 ; sys.load_far_ptr.4 rax [] es end"},
    {M32, "9a785634122b00", "sys.call_far.4 $305419896 /43 end"},
    {M32, "66ea34122b00", "sys.jmp_far.2 $4660 /43 end"},
    {M32, "6633c0", "xor.2 rax rax"},
    {M32, "06", "sys.push_seg.4 es 4"},
    {M32, "6607", "sys.pop_seg.2 es 4 end"},
    {M32, "0fa1", "sys.pop_seg.4 fs 4 end"},
    {M32, "ff1d10000000", "ea.4 [+16] /6 ; sys.call_far.4 [] end"},
    {M32, "63c1", "sys.arpl.2 rcx rax"},
    {M32, "6200", "ea.4 [rax+0] /8 ; sys.bound.4 rax []"},
    {M32, "ce", "sys.into.4 end"},
    {M32, "c8040000", "sys.enter.4 4"},
    {M32S, "8b4508", "ea.4 ss:[rbp+8] /4 segcheck ; mov.4 rax []"},
    {M32S, "8900", "ea.4 ds:[rax+0] /4 segcheck write ; mov.4 [] rax"},
    {M32S, "50", "push.4 rax /4 segcheck"},
    {M32S, "ff7508", "ea.4 ss:[rbp+8] /4 segcheck ; push.4 [] /4 segcheck"},
    {M32S, "a5", "movs.4 ds /4 segcheck"},
    {M32S, "65a5", "movs.4 gs /4 segcheck"},
    {M32S, "0fab08", "ea.4 [rax+0] ; bts.4 [] rcx ds /4 segcheck"},
    {M32S, "e800000000", "push.4 5 /4 pcrel segcheck call ; jmp.4 5 call"},
    {M32S, "c3", "ret.4 /4 segcheck"},
    {M32S, "d7", "movzx.8 t0 rax /1 ; ea.4 ds:[rbx+t0*1+0] /1 segcheck ; mov.1 rax []"},
    {M16, "b83412", "mov.2 rax $4660"},
    {M16, "66b878563412", "mov.4 rax $305419896"},
    {M16, "8b460a", "ea.2 ss:[rbp+10] /2 segcheck ; mov.2 rax []"},
    {M16, "8b00", "ea.2 ds:[rbx+rsi*1+0] /2 segcheck ; mov.2 rax []"},
    {M16, "8b1e3412", "ea.2 ds:[+4660] /2 segcheck ; mov.2 rbx []"},
    {M16, "678b00", "ea.4 ds:[rax+0] /2 segcheck ; mov.2 rax []"},
    {M16, "67668b0424", "ea.4 ss:[rsp+0] /4 segcheck ; mov.4 rax []"},
    {M16, "ebfe", "jmp.2 0"},
    {M16, "e9fdff", "jmp.2 0"},
    {M16, "66e9faffffff", "jmp.4 0"},
    {M16, "ff2e0010", "ea.2 ds:[+4096] /4 segcheck ; sys.jmp_far.2 [] end"},
    {M16, "cf", "sys.iret.2 end"},
    {M16, "0f01160010", "ea.2 ds:[+4096] /6 segcheck ; sys.lgdt.2 []"},
    {M16, "0f22c0", "sys.mov_to_cr.4 rax end"},
    {M16, "f3a4", "movs.1 ds /2 segcheck rep"},
    {M16, "67f366a5", "movs.4 ds /4 segcheck rep"},
    {M16, "e2fe", "loop.2 0 /2"},
    /* clang-format on */
};

static void test_rows(void)
{
    static struct ir_block block;
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_assert_cmpint(decode(rows[i].mode, rows[i].hex, 1, &block), ==, 0);
        char *text = dump(&block);
        if (strcmp(text, rows[i].expected) != 0) {
            g_test_message("%s: %s, expected %s", rows[i].hex, text, rows[i].expected);
            g_test_fail();
        }
        g_assert_cmpuint(block.bytes, ==, strlen(rows[i].hex) / 2);
        g_assert_cmpuint(block.insn_count, ==, 1);
        g_free(text);
    }
}

/* What must raise at decode time, and what. */
static const struct {
    uint32_t mode;
    const char *hex;
    uint8_t what;
} raising[] = {
    /* clang-format off */
    /* not in 64-bit code */
    {M64, "06", X86_SYS_UD}, {M64, "27", X86_SYS_UD}, {M64, "60", X86_SYS_UD}, {M64, "62c0", X86_SYS_UD},
    {M64, "8200ff", X86_SYS_UD}, {M64, "9a000000000000", X86_SYS_UD}, {M64, "ce", X86_SYS_UD},
    {M64, "d400", X86_SYS_UD}, {M64, "d6", X86_SYS_UD}, {M64, "ea000000000000", X86_SYS_UD},
    {M64, "c400000000", X86_SYS_UD}, {M64, "c5f877", X86_SYS_UD}, {M32, "c5f877", X86_SYS_UD}, {M32, "62f1", X86_SYS_UD},
    /* LOCK where it is not allowed */
    {M64, "f001c0", X86_SYS_UD}, {M64, "f03900", X86_SYS_UD}, {M64, "f08b00", X86_SYS_UD}, {M64, "f08900", X86_SYS_UD},
    {M64, "f08038ff", X86_SYS_UD}, {M64, "f0f60001", X86_SYS_UD}, {M64, "f0f720", X86_SYS_UD}, {M64, "f0ff10", X86_SYS_UD},
    {M64, "f0ff30", X86_SYS_UD}, {M64, "f00fa300", X86_SYS_UD}, {M64, "f00fba2000", X86_SYS_UD}, {M64, "f090", X86_SYS_UD},
    {M64, "f087c0", X86_SYS_UD}, {M64, "f00fc7f0", X86_SYS_UD}, {M64, "f0d1e0", X86_SYS_UD}, {M64, "f0c3", X86_SYS_UD},
    {M64, "f00f5800", X86_SYS_UD}, {M64, "f0d900", X86_SYS_UD}, {M64, "f00f20c0", X86_SYS_UD},
    /* undefined group members and registers */
    {M64, "fed0", X86_SYS_UD}, {M64, "fff8", X86_SYS_UD}, {M64, "ffd800", X86_SYS_UD}, {M64, "ffe8", X86_SYS_UD},
    {M64, "c6c800", X86_SYS_UD}, {M64, "8fc8", X86_SYS_UD}, {M64, "8dc0", X86_SYS_UD}, {M64, "8ec8", X86_SYS_UD},
    {M64, "8ef0", X86_SYS_UD}, {M64, "8cf8", X86_SYS_UD}, {M64, "0fbac000", X86_SYS_UD}, {M64, "0fb200", 0xff},
    {M64, "0fb2c0", X86_SYS_UD}, {M64, "0f22c8", X86_SYS_UD}, {M64, "440f22c8", X86_SYS_UD}, {M64, "440f23c0", X86_SYS_UD},
    {M64, "0fc706", X86_SYS_UD}, {M64, "0fc7c8", X86_SYS_UD}, {M64, "0faee0", X86_SYS_UD}, {M64, "0f01c1", X86_SYS_UD},
    {M64, "0f0b", X86_SYS_UD}, {M64, "0fb9c0", X86_SYS_UD}, {M64, "0fffc0", X86_SYS_UD}, {M64, "0f04", X86_SYS_UD},
    {M64, "0faa", X86_SYS_UD}, {M64, "0f0f00bf", X86_SYS_UD}, {M64, "0f3800c0", 0xff}, {M64, "0f38ffc0", X86_SYS_UD},
    {M64, "0f38f0c0", X86_SYS_UD}, {M64, "0fb8c0", X86_SYS_UD}, {M64, "d9d1", X86_SYS_UD}, {M64, "dde8", 0xff},
    {M64, "660fae28", X86_SYS_UD}, {M64, "f30f01ca", X86_SYS_UD}, {M64, "660f01d0", X86_SYS_UD},
    {M64, "0fc3c0", X86_SYS_UD}, {M64, "660f6c00", 0xff}, {M64, "0f6c00", X86_SYS_UD},
    /* features this CPU has not: F3 0F BC is BSF, SHLX and RDSEED are nothing */
    {M64, "f30fbcc0", 0xff}, {M64, "c4e2f9f7c0", X86_SYS_UD}, {M64, "0fc7f8", X86_SYS_UD}, {M64, "f30fc7f8", X86_SYS_UD},
    {M64, "660fae30", X86_SYS_UD}, {M64, "0f01ee", X86_SYS_UD}, {M64, "0f01c8", X86_SYS_UD},
    /* modes */
    {M16, "0f00c0", X86_SYS_UD}, {M16, "0f02c0", X86_SYS_UD}, {M16, "63c0", X86_SYS_UD}, {V86, "0f00c0", X86_SYS_UD},
    {V86, "63c0", X86_SYS_UD}, {M32, "0f05", X86_SYS_UD}, {M32, "0f07", X86_SYS_UD}, {M32, "0f01f8", X86_SYS_UD},
    {M32, "f30faec0", X86_SYS_UD}, {M32, "0f20c0", 0xff}, {M16, "8ed0", 0xff},
    /* privilege */
    {M64 | MODE_CPL3, "f4", X86_SYS_GP}, {M64 | MODE_CPL3, "0f30", X86_SYS_GP}, {M64 | MODE_CPL3, "0f32", X86_SYS_GP},
    {M64 | MODE_CPL3, "0f20c0", X86_SYS_GP}, {M64 | MODE_CPL3, "0f20c8", X86_SYS_UD}, {M64 | MODE_CPL3, "0f06", X86_SYS_GP},
    {M64 | MODE_CPL3, "0f0110", X86_SYS_GP}, {M64 | MODE_CPL3, "0f0138", X86_SYS_GP}, {M64 | MODE_CPL3, "0f01f8", X86_SYS_GP},
    {M64 | MODE_CPL3, "0f01d1", X86_SYS_GP}, {M64 | MODE_CPL3, "0f00d0", X86_SYS_GP}, {M64 | MODE_CPL3, "0f01ca", X86_SYS_UD},
    {M64 | MODE_CPL3, "480f07", X86_SYS_GP}, {M64 | MODE_CPL3, "0f09", X86_SYS_GP}, {M64 | MODE_CPL3, "660f388200", X86_SYS_GP},
    {M64 | MODE_CPLMID, "f4", X86_SYS_GP}, {V86, "f4", X86_SYS_GP}, {M64 | MODE_CPL3, "0f01e0", 0xff},
    {M64 | MODE_CPL3, "fa", 0xff}, {M64 | MODE_CPL3, "ec", 0xff}, {M64 | MODE_CPL3, "0f31", 0xff},
    /* FPU and SSE switched off */
    {M64 | MODE_NM, "0f58c0", X86_SYS_NM}, {M64 | MODE_EM, "0f58c0", X86_SYS_UD}, {M64 | MODE_NOSSE, "0f58c0", X86_SYS_UD},
    {M64 | MODE_NOSSE | MODE_NM, "0f58c0", X86_SYS_UD}, {M64 | MODE_NM, "0f6f00", X86_SYS_NM},
    {M64 | MODE_NOSSE, "0f6f00", 0xff}, {M64 | MODE_EM, "0f6f00", X86_SYS_UD}, {M64 | MODE_NM, "d9c0", X86_SYS_NM},
    {M64 | MODE_EM, "d9c0", X86_SYS_NM}, {M64 | MODE_NM, "9b", 0xff}, {M64 | MODE_NM | MODE_MP, "9b", X86_SYS_NM},
    {M64 | MODE_MP, "9b", 0xff}, {M64 | MODE_NM, "0fae00", X86_SYS_NM}, {M64 | MODE_EM, "0fae08", X86_SYS_NM},
    {M64 | MODE_NM, "0fae10", X86_SYS_NM}, {M64 | MODE_NOSSE, "0fae18", X86_SYS_UD}, {M64 | MODE_NM, "0fc300", 0xff},
    {M64 | MODE_NM | MODE_EM, "0faef0", 0xff}, {M64 | MODE_NM, "f20f38f0c0", 0xff}, {M64 | MODE_NM, "f30fb8c0", 0xff},
    {M64 | MODE_NM, "0f77", X86_SYS_NM}, {M64 | MODE_NM, "660ff7c0", X86_SYS_NM}, {M64 | MODE_NM, "0f1800", 0xff},
    /* VEX: state not enabled, prefixes before it, vvvv that names nothing, L and W, a hidden feature, maps, old modes */
    {M64, "c5f058c2", X86_SYS_UD}, {M64A | MODE_NM, "c5f058c2", X86_SYS_NM}, {M64A | MODE_EM | MODE_NOSSE, "c5f058c2", 0xff},
    {M64A, "66c5f058c2", X86_SYS_UD}, {M64A, "f2c5f058c2", X86_SYS_UD}, {M64A, "f3c5f058c2", X86_SYS_UD},
    {M64A, "f0c5f058c2", X86_SYS_UD}, {M64A, "48c5f058c2", X86_SYS_UD}, {M64A, "67c5f058c2", 0xff},
    {M64A, "c5f828c1", 0xff}, {M64A, "c5f028c1", X86_SYS_UD}, {M32A, "c4e13828c1", X86_SYS_UD}, {M64A, "c5f077", X86_SYS_UD},
    {M64A, "c5fd6ec0", X86_SYS_UD}, {M64A, "c4e2f91800", X86_SYS_UD}, {M64A, "c5f1fec2", 0xff}, {M64A, "c5f5fec2", X86_SYS_UD},
    {M64A, "c4e078580090", X86_SYS_UD}, {M64A, "c4e478580090", X86_SYS_UD}, {M64A, "c5f070c000", X86_SYS_UD},
    {M64A, "c5f8ae08", X86_SYS_UD}, {M64A, "c5fcae10", X86_SYS_UD}, {M64A, "c5f9f700", X86_SYS_UD},
    {V86 | MODE_AVX, "c5f058c2", X86_SYS_UD}, {M16 | MODE_AVX, "c5f058c2", X86_SYS_UD}, {V86, "c500", 0xff},
    /* too long */
    {M64, "666666666666666666666666666690", 0xff}, {M64, "66666666666666666666666666666690", X86_SYS_GP},
    {M64, "6666666666666666666666664805000000", X86_SYS_GP}, {M64, "f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3", X86_SYS_GP},
    /* clang-format on */
};

static void test_raising(void)
{
    static struct ir_block block;
    for (unsigned i = 0; i < G_N_ELEMENTS(raising); i++) {
        g_assert_cmpint(decode(raising[i].mode, raising[i].hex, 1, &block), ==, 0);
        const struct ir_op *op = &block.ops[block.op_count - 1];
        bool raises = op->op == IR_SYS && op->sub <= X86_SYS_NM;
        unsigned what = raises ? op->sub : 0xff;
        if (what != raising[i].what) {
            g_test_message("%s in mode %#x raises %u, expected %u", raising[i].hex, raising[i].mode, what,
                           raising[i].what);
            g_test_fail();
        }
        if (raises) {
            g_assert_cmpuint(block.op_count, ==, 2);
            g_assert_true(op->flags & IRF_END);
        }
    }
}

/* An instruction that goes on in the next page asks for it only when it is the first of its block. */
static void test_straddle(void)
{
    static struct ir_block block;
    uint8_t bytes[64];
    uint32_t features[X86_FEATURE_WORDS];
    fake_features(features);
    unsigned n = from_hex("9090b8010203", bytes); /* the last byte of MOV is missing */
    struct x86_decode_input input = {.bytes = bytes,
                                     .avail = n,
                                     .in_page = n,
                                     .offset = (uint16_t)(4096 - n),
                                     .mode = M64,
                                     .features = features,
                                     .max_insns = 64};
    g_assert_cmpint(x86_decode_block(&input, &block), ==, 0);
    g_assert_cmpuint(block.insn_count, ==, 2);
    g_assert_cmpuint(block.bytes, ==, 2);
    g_assert_cmpint(block.ops[block.op_count - 1].op, ==, IR_END);
    g_assert_cmpint(block.ops[block.op_count - 1].imm, ==, 4092);

    for (unsigned have = 1; have < 5; have++) {
        from_hex("b801020304", bytes);
        input.avail = input.in_page = have;
        input.offset = (uint16_t)(4096 - have);
        g_assert_cmpint(x86_decode_block(&input, &block), ==, -EAGAIN);
    }
    n = from_hex("b801020304909090909090909090909090909090", bytes);
    input.in_page = 2;
    input.avail = 2 + 15;
    input.offset = 4094;
    g_assert_cmpint(x86_decode_block(&input, &block), ==, 0);
    g_assert_cmpuint(block.insn_count, ==, 1);
    g_assert_cmpuint(block.bytes, ==, 5);
    g_assert_cmpint(block.ops[block.op_count - 1].imm, ==, 4099);
    /* Prefixes alone up to the page's end. */
    memset(bytes, 0x66, sizeof(bytes));
    input.avail = input.in_page = 3;
    g_assert_cmpint(x86_decode_block(&input, &block), ==, -EAGAIN);
    input.avail = 18;
    g_assert_cmpint(x86_decode_block(&input, &block), ==, 0);
    g_assert_cmpint(block.ops[1].sub, ==, X86_SYS_GP);
}

/* Blocks end at terminators, at their instruction limit, at the page's end, and have room for every op. */
static void test_block_end(void)
{
    static struct ir_block block;
    g_assert_cmpint(decode(M64, "907402900f8500000000c390", 64, &block), ==, 0);
    g_assert_cmpuint(block.insn_count, ==, 5);
    g_assert_cmpint(block.ops[block.op_count - 1].op, ==, IR_RET);
    g_assert_cmpint(decode(M64, "90909090", 3, &block), ==, 0);
    g_assert_cmpuint(block.insn_count, ==, 3);
    g_assert_cmpint(decode(M64 | MODE_TF, "90909090", 64, &block), ==, 0);
    g_assert_cmpuint(block.insn_count, ==, 1);

    GString *hex = g_string_new(NULL);
    for (unsigned i = 0; i < 100; i++)
        g_string_append(hex, "d7"); /* XLAT: the most ops */
    g_assert_cmpint(decode(M64, hex->str, IR_BLOCK_MAX_INSNS, &block), ==, 0);
    g_assert_cmpuint(block.insn_count, ==, IR_BLOCK_MAX_INSNS);
    g_assert_cmpuint(block.op_count, <=, IR_BLOCK_MAX_OPS);
    g_string_free(hex, TRUE);
}

/* Whatever the bytes and the mode, the front end stays within its block and covers what it decoded. */
static void test_random(void)
{
    static const uint32_t modes[] = {M64,           M64 | MODE_CPL3,     M32,          M32S, M16, V86,
                                     M64 | MODE_TF, MODE_PE | MODE_CS32, M64 | MODE_NM};
    static struct ir_block block;
    uint8_t bytes[96];
    uint32_t features[X86_FEATURE_WORDS];
    fake_features(features);
    for (unsigned i = 0; i < 200000; i++) {
        for (unsigned j = 0; j < sizeof(bytes); j += 4) {
            uint32_t word = g_random_int();
            memcpy(bytes + j, &word, 4);
        }
        unsigned in_page = (unsigned)g_random_int_range(1, 80);
        unsigned avail = g_random_boolean() ? in_page : in_page + 15;
        uint8_t *exact = g_memdup2(bytes, avail); /* exactly as long, so that a sanitizer sees an overrun */
        struct x86_decode_input input = {.bytes = exact,
                                         .avail = avail,
                                         .in_page = in_page,
                                         .offset = (uint16_t)(4096 - in_page),
                                         .mode = modes[g_random_int_range(0, G_N_ELEMENTS(modes))],
                                         .features = features,
                                         .max_insns = IR_BLOCK_MAX_INSNS};
        int r = x86_decode_block(&input, &block);
        if (r == -EAGAIN) {
            g_assert_cmpuint(avail, ==, in_page);
            g_assert_cmpuint(avail, <, 15);
        } else {
            g_assert_cmpint(r, ==, 0);
            g_assert_cmpuint(block.op_count, <=, IR_BLOCK_MAX_OPS);
            g_assert_cmpuint(block.bytes, >, 0);
            g_assert_cmpuint(block.bytes, <=, avail);
            g_assert_true(block.bytes <= in_page || block.insn_count == 1);
            int last = block.ops[block.op_count - 1].op;
            g_assert_true(last == IR_JMP || last == IR_JMP_IND || last == IR_RET || last == IR_END ||
                          (last == IR_SYS && block.ops[block.op_count - 1].flags & IRF_END));
        }
        g_free(exact);
    }
}

/* Encodings that exist on processors without MPX (as NOP) and in real mode, and that Zydis does not know as such. */
static bool zydis_is_stricter(const uint8_t *bytes, unsigned length)
{
    for (unsigned i = 0; i + 1 < length; i++) {
        if (bytes[i] == 0x0f &&
            (bytes[i + 1] == 0x1a || bytes[i + 1] == 0x1b || (bytes[i + 1] & 0xfe) == 0x34))
            return true;
    }
    return false;
}

/* An independent decoder agrees about every length, and accepts what we accept. */
static void test_zydis(void)
{
    static const struct {
        uint32_t mode;
        ZydisMachineMode machine;
        ZydisStackWidth stack;
    } modes[] = {{M64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
                 {M32, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
                 {M16, ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16}};
    static struct ir_block block;
    uint8_t bytes[64];
    uint32_t features[X86_FEATURE_WORDS];
    fake_features(features);
    for (unsigned m = 0; m < G_N_ELEMENTS(modes); m++) {
        ZydisDecoder decoder;
        ZydisDecoderInit(&decoder, modes[m].machine, modes[m].stack);
        for (unsigned i = 0; i < 200000; i++) {
            for (unsigned j = 0; j < sizeof(bytes); j += 4) {
                uint32_t word = g_random_int();
                memcpy(bytes + j, &word, 4);
            }
            struct x86_decode_input input = {.bytes = bytes,
                                             .avail = 64,
                                             .in_page = 64,
                                             .mode = modes[m].mode,
                                             .features = features,
                                             .max_insns = 1};
            g_assert_cmpint(x86_decode_block(&input, &block), ==, 0);
            if (block.ops[1].op == IR_SYS && block.ops[1].sub <= X86_SYS_NM)
                continue; /* our CPU has less than Zydis knows */
            ZydisDecodedInstruction insn;
            bool good =
                ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, sizeof(bytes), &insn));
            if (good ? insn.length == block.bytes : zydis_is_stricter(bytes, block.bytes))
                continue;
            g_test_message("%02x %02x %02x %02x %02x %02x: %u bytes, Zydis %d", bytes[0], bytes[1], bytes[2],
                           bytes[3], bytes[4], bytes[5], block.bytes, good ? insn.length : -1);
            g_test_fail();
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/decode/rows", test_rows);
    g_test_add_func("/decode/raising", test_raising);
    g_test_add_func("/decode/straddle", test_straddle);
    g_test_add_func("/decode/block-end", test_block_end);
    g_test_add_func("/decode/random", test_random);
    g_test_add_func("/decode/zydis", test_zydis);
    return g_test_run();
}
