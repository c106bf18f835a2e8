/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/translator/fake_cpu.h"

#include <string.h>

#include "translator/mmu.h"
#include "translator/x86/features.h"
#include "translator/x86/sys.h"
#include "translator/x86/vec.h"

uint8_t fake_ram[FAKE_RAM_BYTES];
uint64_t fake_limit = FAKE_RAM_BYTES;
bool fake_no_host;

static uint8_t *host_of(gva_t la, unsigned size)
{
    return la < fake_limit && size <= fake_limit - la ? fake_ram + la : NULL;
}

static bool canonical(gva_t la)
{
    return (gva_t)((int64_t)(la << 16) >> 16) == la;
}

static int fault(struct x86_cpu *cpu, gva_t la, bool write)
{
    if (canonical(la))
        return x86_raise_pf(cpu, la, write ? 2 : 0);
    x86_raise_error(cpu, EXC_GP, 0);
    cpu->exc.noncanonical = true;
    return X86_RAISE;
}

int mmu_read(struct x86_cpu *cpu, gva_t la, unsigned size, void *data)
{
    const uint8_t *host = host_of(la, size);
    if (!host)
        return fault(cpu, la, false);
    memcpy(data, host, size);
    return X86_OK;
}

int mmu_write(struct x86_cpu *cpu, gva_t la, unsigned size, const void *data)
{
    uint8_t *host = host_of(la, size);
    if (!host)
        return fault(cpu, la, true);
    memcpy(host, data, size);
    return X86_OK;
}

int mmu_read_as(struct x86_cpu *cpu, unsigned cpl, gva_t la, unsigned size, void *data)
{
    return mmu_read(cpu, la, size, data);
}

int mmu_write_as(struct x86_cpu *cpu, unsigned cpl, gva_t la, unsigned size, const void *data)
{
    return mmu_write(cpu, la, size, data);
}

int mmu_probe(struct x86_cpu *cpu, gva_t la, unsigned size, enum mmu_access access)
{
    return host_of(la, size) ? X86_OK : fault(cpu, la, access == MMU_WRITE);
}

int mmu_rmw_begin(struct x86_cpu *cpu, gva_t la, unsigned size, bool locked, struct mmu_rmw *ret_rmw)
{
    ret_rmw->ptr = host_of(la, size);
    ret_rmw->direct = true;
    return ret_rmw->ptr ? X86_OK : fault(cpu, la, true);
}

void mmu_rmw_commit(struct x86_cpu *cpu, struct mmu_rmw *rmw)
{
}

void *mmu_host(struct x86_cpu *cpu, gva_t la, unsigned size, enum mmu_access access)
{
    bool one_page = (la & 4095) + size <= 4096;
    return fake_no_host || !one_page ? NULL : host_of(la, size);
}

void x86_set_rip(struct x86_cpu *cpu, uint64_t rip)
{
    cpu->rip = rip;
    cpu->pc_base = rip - ((cpu->seg[SEG_CS].base + rip) & 4095);
}

int x86_sys(struct x86_cpu *cpu, const struct ir_op *op)
{
    switch (op->sub) {
    case X86_SYS_UD:
        return x86_raise(cpu, EXC_UD);
    case X86_SYS_NM:
        return x86_raise(cpu, EXC_NM);
    case X86_SYS_GP:
        return x86_raise_error(cpu, EXC_GP, 0);
    default:
        cpu->exit_reason = X86_RUN_FATAL;
        return X86_EXIT;
    }
}

void fake_features(uint32_t *features)
{
    static const uint16_t numbers[] = {
        FEAT_FPU,     FEAT_TSC,    FEAT_MSR,      FEAT_PAE,     FEAT_CX8,   FEAT_SEP,        FEAT_CMOV,
        FEAT_CLFSH,   FEAT_MMX,    FEAT_FXSR,     FEAT_SSE,     FEAT_SSE2,  FEAT_SSE3,       FEAT_PCLMUL,
        FEAT_SSSE3,   FEAT_CX16,   FEAT_SSE41,    FEAT_SSE42,   FEAT_MOVBE, FEAT_POPCNT,     FEAT_AES,
        FEAT_XSAVE,   FEAT_RDRAND, FEAT_FSGSBASE, FEAT_INVPCID, FEAT_SMAP,  FEAT_CLFLUSHOPT, FEAT_SHA,
        FEAT_SYSCALL, FEAT_RDTSCP, FEAT_LM,       FEAT_LAHF,    FEAT_AVX,
    };
    memset(features, 0, X86_FEATURE_WORDS * sizeof(features[0]));
    for (unsigned i = 0; i < ARRAY_LEN(numbers); i++)
        features[numbers[i] / 32] |= 1u << (numbers[i] % 32);
}

void fake_cpu_init(struct x86_cpu *cpu, uint32_t mode)
{
    memset(cpu, 0, sizeof(*cpu));
    cpu->run = 1;
    cpu->mode = mode;
    cpu->rflags = 2;
    fake_features(cpu->features);
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        cpu->seg[i].limit = mode & MODE_FLAT ? UINT32_MAX : 0xffff;
        cpu->seg[i].attr = i == SEG_CS ? 0x9b : 0x93;
    }
}
