/* SPDX-License-Identifier: Apache-2.0 */
/* x87 reference: the state as a whole: TOP, initial state, environments and FSAVE images. */
#include "translator/x86/x87_internal.h"

#include "translator/mmu.h"

#define FSAVE_REGISTER 10 /* bytes */

void x87_set_top(struct x86_fxsave *fx, unsigned top)
{
    unsigned by = (top - x87_top(fx)) & 7;
    uint8_t old[8][16];

    if (!by)
        return;
    memcpy(old, fx->st, sizeof(old));
    for (unsigned i = 0; i < 8; i++)
        memcpy(fx->st[i], old[(i + by) & 7], sizeof(old[0]));
    fx->fsw = (uint16_t)((fx->fsw & ~FSW_TOP) | (top & 7) << FSW_TOP_SHIFT);
}

void x87_init(struct x86_fxsave *fx)
{
    x87_set_top(fx, 0);
    fx->fcw = FCW_INITIAL;
    fx->fsw = 0;
    fx->ftw = 0;
    fx->fop = 0;
    fx->fip = fx->fdp = 0;
}

void x87_update_es(struct x86_fxsave *fx)
{
    if (fx->fsw & ~fx->fcw & FSW_EXCEPTIONS)
        fx->fsw |= FSW_ES | FSW_B;
    else
        fx->fsw &= (uint16_t) ~(FSW_ES | FSW_B);
}

/* Two bits for each physical register: 0 valid, 1 zero, 2 special, 3 empty. */
static uint16_t full_tags(const struct x86_fxsave *fx)
{
    unsigned top = x87_top(fx), tags = 0;

    for (unsigned i = 0; i < 8; i++) {
        struct softfp value = x87_get(fx, i);
        unsigned tag = value.cls == SOFTFP_ZERO ? 1 : value.cls != SOFTFP_NORMAL || value.denormal ? 2 : 0;
        tags |= (x87_is_empty(fx, i) ? 3 : tag) << 2 * ((top + i) & 7);
    }
    return (uint16_t)tags;
}

static uint8_t short_tags(uint16_t tags)
{
    unsigned result = 0;

    for (unsigned i = 0; i < 8; i++)
        result |= (unsigned)((tags >> 2 * i & 3) != 3) << i;
    return (uint8_t)result;
}

static bool is_real_mode(const struct x86_cpu *cpu)
{
    return !(cpu->mode & MODE_PE) || (cpu->mode & MODE_VM);
}

/* The seven fields as words; the 16-bit format keeps the lower half of each. */
static void env_fields(const struct x86_cpu *cpu, uint32_t field[7])
{
    const struct x86_fxsave *fx = &cpu->fx;
    uint32_t fip = (uint32_t)fx->fip, fdp = (uint32_t)fx->fdp;

    field[0] = 0xffff0000 | fx->fcw;
    field[1] = 0xffff0000 | fx->fsw;
    field[2] = 0xffff0000 | full_tags(fx);
    if (is_real_mode(cpu)) {
        field[3] = fip & 0xffff;
        field[4] = (fip >> 16) << 12 | (fx->fop & 0x7ff);
        field[5] = fdp & 0xffff;
        field[6] = (fdp >> 16) << 12;
    } else {
        field[3] = fip;
        field[4] = (uint32_t)(fx->fop & 0x7ff) << 16; /* selectors are zero: CPUID.7.0:EBX.13 */
        field[5] = fdp;
        field[6] = 0xffff0000;
    }
}

/* Both pages are checked before anything changes. */
static int probe_ends(struct x86_cpu *cpu, unsigned bytes, enum mmu_access access)
{
    int r = mmu_probe(cpu, cpu->ea, 1, access);
    return r != X86_OK ? r : mmu_probe(cpu, cpu->ea + bytes - 1, 1, access);
}

int x87_store_env(struct x86_cpu *cpu, unsigned size, bool with_registers)
{
    unsigned width = size == 2 ? 2 : 4, bytes = 7 * width;
    uint8_t image[28 + 8 * FSAVE_REGISTER];
    uint32_t field[7];

    env_fields(cpu, field);
    for (unsigned i = 0; i < 7; i++)
        memcpy(image + i * width, &field[i], width);
    for (unsigned i = 0; i < 8 && with_registers; i++, bytes += FSAVE_REGISTER)
        memcpy(image + bytes, cpu->fx.st[i], FSAVE_REGISTER);
    int r = probe_ends(cpu, bytes, MMU_WRITE);
    if (r != X86_OK)
        return r;
    for (unsigned at = 0; at < bytes; at += 64) {
        r = mmu_write(cpu, cpu->ea + at, bytes - at < 64 ? bytes - at : 64, image + at);
        if (r != X86_OK)
            return r;
    }
    if (with_registers) {
        x87_init(&cpu->fx);
    } else {
        cpu->fx.fcw |= FSW_EXCEPTIONS;
        x87_update_es(&cpu->fx);
    }
    return X86_OK;
}

static void env_load_fields(struct x86_cpu *cpu, const uint32_t field[7], unsigned width)
{
    struct x86_fxsave *fx = &cpu->fx;

    fx->fcw = (uint16_t)((field[0] & FCW_VALID) | FCW_FIXED);
    x87_set_top(fx, field[1] >> FSW_TOP_SHIFT & 7);
    fx->fsw = (uint16_t)field[1];
    fx->ftw = short_tags((uint16_t)field[2]);
    if (is_real_mode(cpu)) {
        fx->fip = (field[3] & 0xffff) | (field[4] & 0x0ffff000) << 4;
        fx->fop = field[4] & 0x7ff;
        fx->fdp = (field[5] & 0xffff) | (field[6] & 0x0ffff000) << 4;
    } else {
        fx->fip = field[3];
        fx->fop = width == 4 ? field[4] >> 16 & 0x7ff : 0;
        fx->fdp = field[5];
    }
    x87_update_es(fx);
}

int x87_load_env(struct x86_cpu *cpu, unsigned size, bool with_registers)
{
    unsigned width = size == 2 ? 2 : 4, bytes = 7 * width + (with_registers ? 8 * FSAVE_REGISTER : 0);
    uint8_t image[28 + 8 * FSAVE_REGISTER];
    uint32_t field[7] = {0};

    int r = probe_ends(cpu, bytes, MMU_READ);
    if (r != X86_OK)
        return r;
    for (unsigned at = 0; at < bytes; at += 64) {
        r = mmu_read(cpu, cpu->ea + at, bytes - at < 64 ? bytes - at : 64, image + at);
        if (r != X86_OK)
            return r;
    }
    for (unsigned i = 0; i < 7; i++)
        memcpy(&field[i], image + i * width, width);
    env_load_fields(cpu, field, width);
    for (unsigned i = 0; i < 8 && with_registers; i++) {
        memset(cpu->fx.st[i], 0, sizeof(cpu->fx.st[i]));
        memcpy(cpu->fx.st[i], image + 7 * width + i * FSAVE_REGISTER, FSAVE_REGISTER);
    }
    return X86_OK;
}
