/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BMI1, BMI2, ADX and the counts on general registers: the host's processor against the interpreter and T0, over all
 * combinations of registers that T0 treats differently (its own, scratch, in memory).
 *
 * Broken if it fails: such an instruction gives another result or other flags, or its undefined encodings run.
 */
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/translator/native.h"
#include "tests/translator/sys_machine.h"

#define DATA   0x40000u
#define CODE   0x100000u
#define STATES 12

enum { LEGACY, VEX };

struct row {
    const char *name;
    uint8_t kind, map, prefix, opcode;
    uint8_t ext; /* ModRM /n, or 0xff */
    bool vvvv;   /* names a register */
    bool imm;
    uint16_t feature;
    uint64_t undefined;
};
static const struct row rows[] = {
    {"andn", VEX, 2, 0, 0xf2, 0xff, true, false, FEAT_BMI1, FLAG_AF | FLAG_PF},
    {"blsr", VEX, 2, 0, 0xf3, 1, true, false, FEAT_BMI1, FLAG_AF | FLAG_PF},
    {"blsmsk", VEX, 2, 0, 0xf3, 2, true, false, FEAT_BMI1, FLAG_AF | FLAG_PF},
    {"blsi", VEX, 2, 0, 0xf3, 3, true, false, FEAT_BMI1, FLAG_AF | FLAG_PF},
    {"bextr", VEX, 2, 0, 0xf7, 0xff, true, false, FEAT_BMI1, FLAG_AF | FLAG_PF | FLAG_SF},
    {"bzhi", VEX, 2, 0, 0xf5, 0xff, true, false, FEAT_BMI2, FLAG_AF | FLAG_PF},
    {"pdep", VEX, 2, 0xf2, 0xf5, 0xff, true, false, FEAT_BMI2, 0},
    {"pext", VEX, 2, 0xf3, 0xf5, 0xff, true, false, FEAT_BMI2, 0},
    {"mulx", VEX, 2, 0xf2, 0xf6, 0xff, true, false, FEAT_BMI2, 0},
    {"rorx", VEX, 3, 0xf2, 0xf0, 0xff, false, true, FEAT_BMI2, 0},
    {"sarx", VEX, 2, 0xf3, 0xf7, 0xff, true, false, FEAT_BMI2, 0},
    {"shlx", VEX, 2, 0x66, 0xf7, 0xff, true, false, FEAT_BMI2, 0},
    {"shrx", VEX, 2, 0xf2, 0xf7, 0xff, true, false, FEAT_BMI2, 0},
    {"adcx", LEGACY, 2, 0x66, 0xf6, 0xff, false, false, FEAT_ADX, 0},
    {"adox", LEGACY, 2, 0xf3, 0xf6, 0xff, false, false, FEAT_ADX, 0},
    {"tzcnt", LEGACY, 1, 0xf3, 0xbc, 0xff, false, false, FEAT_BMI1, FLAG_AF | FLAG_PF | FLAG_SF | FLAG_OF},
    {"lzcnt", LEGACY, 1, 0xf3, 0xbd, 0xff, false, false, FEAT_LZCNT, FLAG_AF | FLAG_PF | FLAG_SF | FLAG_OF},
    {"popcnt", LEGACY, 1, 0xf3, 0xb8, 0xff, false, false, FEAT_POPCNT, 0},
};

struct encoding {
    uint8_t bytes[15];
    unsigned length;
};

static void put(struct encoding *e, unsigned byte)
{
    e->bytes[e->length++] = (uint8_t)byte;
}

/* rm: a register, or IR_NONE for [rbx]. */
static struct encoding encode(const struct row *row, bool wide, unsigned reg, unsigned vvvv, unsigned rm,
                              unsigned imm)
{
    struct encoding e = {.length = 0};
    bool memory = rm == IR_NONE;
    unsigned base = memory ? IR_RBX : rm, r = reg >> 3, b = base >> 3;
    if (row->kind == VEX) {
        unsigned pp = row->prefix == 0x66 ? 1 : row->prefix == 0xf3 ? 2 : row->prefix == 0xf2 ? 3 : 0;
        put(&e, 0xc4);
        put(&e, (r ^ 1) << 7 | 1 << 6 | (b ^ 1) << 5 | row->map);
        put(&e, (wide ? 0x80u : 0) | (~vvvv & 15) << 3 | pp);
    } else {
        put(&e, row->prefix);
        put(&e, 0x40 | (wide ? 8u : 0) | r << 2 | b);
        put(&e, 0x0f);
        if (row->map == 2) {
            put(&e, 0x38);
        }
    }
    put(&e, row->opcode);
    put(&e, (memory ? 0 : 0xc0) | (reg & 7) << 3 | (base & 7));
    if (row->imm) {
        put(&e, imm);
    }
    return e;
}

static uint64_t random_value(GRand *rand)
{
    uint64_t value = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
    switch (g_rand_int_range(rand, 0, 6)) {
    case 0:
        return 0;
    case 1:
        return value & 0xffff;
    case 2:
        return (uint64_t)1 << (value & 63);
    case 3:
        return UINT64_MAX;
    default:
        return value;
    }
}

struct bench {
    struct machine machine[2];
    uint8_t *scratch;
    GRand *rand;
    uint64_t code; /* of the next instruction: none is translated twice */
};

static const enum engine_tier tiers[] = {ENGINE_INTERPRETER, ENGINE_T0};

/* A vector or -1; the state afterwards in *state. */
static int run_guest(struct bench *bench, unsigned tier, const struct encoding *e, bool memory,
                     struct native_state *state, uint64_t operand)
{
    struct machine *machine = &bench->machine[tier];
    struct x86_cpu *cpu = machine->cpu;
    memcpy(machine->ram + bench->code, e->bytes, e->length);
    machine->ram[bench->code + e->length] = 0xf4;
    machine_write64(machine, DATA, operand);
    memcpy(cpu->gpr, state->gpr, sizeof(cpu->gpr));
    if (memory) {
        cpu->gpr[IR_RBX] = DATA;
    }
    cpu->rflags = (state->rflags & FLAGS_ARITH) | 2;
    cpu->exc.pending = cpu->halted = false;
    x86_update_mode(cpu);
    x86_set_rip(cpu, bench->code);
    int r;
    do {
        r = engine_run(cpu);
    } while (r == X86_JUMP);
    uint64_t rbx = state->gpr[IR_RBX];
    memcpy(state->gpr, cpu->gpr, sizeof(cpu->gpr));
    if (memory) {
        state->gpr[IR_RBX] = rbx;
    }
    state->rflags = cpu->rflags;
    return r == X86_RAISE ? cpu->exc.vector : -1;
}

/* Not by an assertion: native.c has taken the signals. */
_Noreturn static void fail(const struct row *row, unsigned tier, const struct encoding *e, const char *what,
                           uint64_t guest, uint64_t native)
{
    printf("Bail out! %s (", row->name);
    for (unsigned i = 0; i < e->length; i++) {
        printf("%s%02x", i ? " " : "", e->bytes[i]);
    }
    printf(") tier %u: %s is %lx, on the host %lx\n", tier, what, guest, native);
    exit(1);
}

static void check(struct bench *bench, const struct row *row, const struct encoding *e, bool memory)
{
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    for (unsigned n = 0; n < STATES; n++) {
        struct native_state before = {.rflags = g_rand_int(bench->rand) & FLAGS_ARITH}, native, guest;
        for (unsigned i = 0; i < 16; i++) {
            before.gpr[i] = random_value(bench->rand);
        }
        uint64_t operand = random_value(bench->rand);
        native = before;
        if (memory) {
            native.gpr[IR_RBX] = (uintptr_t)bench->scratch;
            memcpy(bench->scratch, &operand, 8);
        }
        int expected = native_run(NATIVE_64, e->bytes, e->length, &native);
        if (expected >= 0) {
            native.rflags = before.rflags;
        }
        if (memory) {
            native.gpr[IR_RBX] = before.gpr[IR_RBX];
        }
        for (unsigned tier = 0; tier < G_N_ELEMENTS(tiers); tier++) {
            guest = before;
            int vector = run_guest(bench, tier, e, memory, &guest, operand);
            uint64_t mask = FLAGS_ARITH & ~row->undefined;
            if (vector != expected) {
                fail(row, tier, e, "vector", (uint64_t)vector, (uint64_t)expected);
            }
            for (unsigned i = 0; i < 16 && expected < 0; i++) {
                if (guest.gpr[i] != native.gpr[i]) {
                    fail(row, tier, e, names[i], guest.gpr[i], native.gpr[i]);
                }
            }
            if ((guest.rflags ^ native.rflags) & mask) {
                fail(row, tier, e, "flags", guest.rflags & mask, native.rflags & mask);
            }
        }
    }
    bench->code += 32;
}

static void test_host(void)
{
    /* host registers, guest registers in other host registers, guest registers in memory */
    static const uint8_t registers[] = {IR_RAX, IR_RCX, IR_RDX, IR_RSI, IR_R8, IR_R9, IR_R10, IR_R11, IR_R13};
    uint32_t can[X86_FEATURE_WORDS];
    struct bench bench = {.scratch = native_init(), .rand = g_rand_new_with_seed(7), .code = CODE};
    x86_supported_features(can);
    for (unsigned tier = 0; tier < G_N_ELEMENTS(tiers); tier++) {
        machine_create(&bench.machine[tier], tiers[tier]);
        machine_enter_long_mode(&bench.machine[tier]);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(rows) * 2; i++) {
        const struct row *row = &rows[i / 2];
        bool wide = i & 1;
        if (!x86_has(can, row->feature)) {
            g_test_message("the host has no %s", row->name);
            continue;
        }
        for (unsigned j = 0; j < G_N_ELEMENTS(registers) * G_N_ELEMENTS(registers); j++) {
            unsigned a = registers[j % G_N_ELEMENTS(registers)], b = registers[j / G_N_ELEMENTS(registers)];
            unsigned c = registers[g_rand_int_range(bench.rand, 0, G_N_ELEMENTS(registers))];
            unsigned reg = row->ext == 0xff ? a : row->ext, vvvv = row->vvvv ? b : 0;
            unsigned imm = g_rand_int(bench.rand) & 0xff;
            struct encoding e = encode(row, wide, reg, vvvv, c, imm);
            check(&bench, row, &e, false);
            e = encode(row, wide, reg, vvvv, IR_NONE, imm);
            check(&bench, row, &e, true);
        }
    }
    for (unsigned tier = 0; tier < G_N_ELEMENTS(tiers); tier++) {
        machine_destroy(&bench.machine[tier]);
    }
    g_rand_free(bench.rand);
}

/* Encodings that are undefined although their neighbours are not. */
static void test_undefined(void)
{
    static const struct {
        const char *name, *code;
        uint8_t bytes;
    } cases[] = {
        {"VEX.L", "\xc4\xe2\x74\xf2\xc1", 5},
        {"group 17 /0", "\xc4\xe2\x78\xf3\xc1", 5},
        {"group 17 /4", "\xc4\xe2\x78\xf3\xe1", 5},
        {"andn with 66", "\xc4\xe2\x71\xf2\xc1", 5},
        {"rorx with vvvv", "\xc4\xe3\x73\xf0\xc1\x05", 6},
        {"66 before VEX", "\x66\xc4\xe2\x70\xf2\xc1", 6},
        {"REX before VEX", "\x48\xc4\xe2\x70\xf2\xc1", 6},
        {"LOCK before VEX", "\xf0\xc4\xe2\x70\xf2\x03", 6},
        {"adcx without prefix", "\x0f\x38\xf6\xc1", 4},
    };
    struct bench bench = {.code = CODE};
    for (unsigned i = 0; i < G_N_ELEMENTS(cases) * 2; i++) {
        struct machine *machine = &bench.machine[i & 1];
        struct encoding e = {.length = cases[i / 2].bytes};
        struct native_state state = {.rflags = 0};
        memcpy(e.bytes, cases[i / 2].code, e.length);
        machine_create(machine, tiers[i & 1]);
        machine_enter_long_mode(machine);
        g_test_message("%s", cases[i / 2].name);
        g_assert_cmpint(run_guest(&bench, i & 1, &e, true, &state, 0), ==, EXC_UD);
        machine_destroy(machine);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/bmi/host", test_host);
    g_test_add_func("/bmi/undefined", test_undefined);
    return g_test_run();
}
