/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the x86 front end and the interpreter: the input is a vCPU's registers and code in a small memory without paging.
 * Whatever a guest executes, the translator stays within its own memory and computes nothing that C leaves undefined.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/translator/fake_cpu.h"
#include "translator/interp.h"
#include "translator/x86/decode.h"
#include "translator/x86/sys.h"

#define BLOCKS     16
#define CODE_START 0x1000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

struct choice {
    uint8_t mode, flags;
    int16_t gpr[16];
    uint8_t vec[64];
};

static const uint32_t modes[] = {
    MODE_CS64 | MODE_PE | MODE_LMA | MODE_FLAT,
    MODE_CS64 | MODE_PE | MODE_LMA | MODE_FLAT | MODE_CPL3 | MODE_AC,
    MODE_CS32 | MODE_SS32 | MODE_PE | MODE_FLAT,
    MODE_CS32 | MODE_SS32 | MODE_PE,
    MODE_PE,
    0,
    MODE_PE | MODE_VM | MODE_CPL3,
    MODE_CS64 | MODE_PE | MODE_LMA | MODE_FLAT | MODE_TF,
};

/* Decodes from a copy that is exactly as long as the page goes on, as the engine does. */
static int decode_at(struct x86_cpu *cpu, struct ir_block *ret_block)
{
    uint64_t la = cpu->seg[SEG_CS].base + cpu->rip;
    if (la >= FAKE_RAM_BYTES - 4096)
        return -EFAULT;
    unsigned in_page = 4096 - (la & 4095);
    struct x86_decode_input input = {.in_page = in_page,
                                     .avail = in_page,
                                     .offset = la & 4095,
                                     .mode = cpu->mode,
                                     .features = cpu->features,
                                     .max_insns = IR_BLOCK_MAX_INSNS};
    int r;
    do {
        uint8_t *copy = malloc(input.avail);
        memcpy(copy, fake_ram + la, input.avail);
        input.bytes = copy;
        r = x86_decode_block(&input, ret_block);
        free(copy);
        if (r == -EAGAIN && input.avail != in_page)
            abort();
        input.avail = in_page + 15;
    } while (r == -EAGAIN);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct x86_cpu cpu;
    static struct ir_block block;
    struct choice choice;
    if (bytes < sizeof(choice) || bytes > sizeof(choice) + 4096)
        return 0;
    memcpy(&choice, data, sizeof(choice));
    memset(fake_ram, 0, FAKE_RAM_BYTES);
    memcpy(fake_ram + CODE_START, data + sizeof(choice), bytes - sizeof(choice));
    fake_cpu_init(&cpu, modes[choice.mode % ARRAY_LEN(modes)]);
    fake_no_host = choice.flags & 1;
    cpu.rflags |= choice.flags & 2 ? FLAG_DF | FLAG_CF : 0;
    if (choice.flags & 4) {
        memset(cpu.features, 0xff, sizeof(cpu.features));
        cpu.mode |= MODE_AVX;
    }
    cpu.mxcsr = choice.flags & 8 ? 0x1f80 : 0;
    for (unsigned i = 0; i < 16; i++) {
        cpu.gpr[i] = (uint64_t)(int64_t)choice.gpr[i];
        memcpy(&cpu.vec[i], choice.vec + i, 48);
    }
    x86_set_rip(&cpu, CODE_START);
    for (unsigned i = 0; i < BLOCKS && decode_at(&cpu, &block) == 0; i++) {
        if (interp_run(&cpu, &block, 0) != X86_JUMP)
            break;
    }
    return 0;
}
