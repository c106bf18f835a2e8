/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model-specific registers (SDM 4). What is not listed does not exist: #GP.
 *
 * Registers of the local APIC and the TSC deadline belong to the surroundings (x86_cpu_ops.msr_read/msr_write).
 */
#include "translator/x86/sys_internal.h"

#include <errno.h>

enum msr_number {
    MSR_TSC = 0x10,
    MSR_PLATFORM_ID = 0x17,
    MSR_APIC_BASE = 0x1b,
    MSR_FEATURE_CONTROL = 0x3a,
    MSR_TSC_ADJUST = 0x3b,
    MSR_SPEC_CTRL = 0x48,
    MSR_PRED_CMD = 0x49,
    MSR_MICROCODE = 0x8b,
    MSR_MTRR_CAP = 0xfe,
    MSR_ARCH_CAPABILITIES = 0x10a,
    MSR_FLUSH_CMD = 0x10b,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MCG_CAP = 0x179,
    MSR_MCG_STATUS = 0x17a,
    MSR_MISC_ENABLE = 0x1a0,
    MSR_DEBUGCTL = 0x1d9,
    MSR_MTRR_PHYS = 0x200,
    MSR_MTRR_FIX_64K = 0x250,
    MSR_MTRR_FIX_16K = 0x258,
    MSR_MTRR_FIX_4K = 0x268,
    MSR_PAT = 0x277,
    MSR_MTRR_DEF = 0x2ff,
    MSR_TSC_DEADLINE = 0x6e0,
    MSR_PKRS = 0x6e1,
    MSR_X2APIC = 0x800,
    MSR_XSS = 0xda0,
    MSR_EFER = 0xc0000080,
    MSR_STAR = 0xc0000081,
    MSR_LSTAR = 0xc0000082,
    MSR_CSTAR = 0xc0000083,
    MSR_SFMASK = 0xc0000084,
    MSR_FS_BASE = 0xc0000100,
    MSR_GS_BASE = 0xc0000101,
    MSR_KERNEL_GS_BASE = 0xc0000102,
    MSR_TSC_AUX = 0xc0000103,
};

#define SPEC_CTRL_IBRS  1u
#define SPEC_CTRL_STIBP 2u
#define SPEC_CTRL_SSBD  4u

/* Generated code never speculates past a guest privilege check, because guest privilege is data to it. See
 * docs/decisions/ on the CPU model. */
#define ARCH_CAP_RDCL_NO        (1u << 0)
#define ARCH_CAP_IBRS_ALL       (1u << 1)
#define ARCH_CAP_SKIP_L1DFL     (1u << 3)
#define ARCH_CAP_SSB_NO         (1u << 4)
#define ARCH_CAP_MDS_NO         (1u << 5)
#define ARCH_CAP_PSCHANGE_MC_NO (1u << 6)
#define ARCH_CAP_TAA_NO         (1u << 8)
#define ARCH_CAP_SBDR_SSDP_NO   (1u << 13)
#define ARCH_CAP_FBSDP_NO       (1u << 14)
#define ARCH_CAP_PSDP_NO        (1u << 15)
#define ARCH_CAP_BHI_NO         (1u << 20)
#define ARCH_CAP_PBRSB_NO       (1u << 24)
#define ARCH_CAP_GDS_NO         (1u << 26)
#define ARCH_CAP_RFDS_NO        (1u << 27)
#define ARCH_CAP_ITS_NO         (UINT64_C(1) << 62)
#define ARCH_CAPABILITIES                                                                                    \
    (ARCH_CAP_RDCL_NO | ARCH_CAP_IBRS_ALL | ARCH_CAP_SKIP_L1DFL | ARCH_CAP_SSB_NO | ARCH_CAP_MDS_NO |        \
     ARCH_CAP_PSCHANGE_MC_NO | ARCH_CAP_TAA_NO | ARCH_CAP_SBDR_SSDP_NO | ARCH_CAP_FBSDP_NO |                 \
     ARCH_CAP_PSDP_NO | ARCH_CAP_BHI_NO | ARCH_CAP_PBRSB_NO | ARCH_CAP_GDS_NO | ARCH_CAP_RFDS_NO |           \
     ARCH_CAP_ITS_NO)

#define MTRR_CAP          0x508u /* 8 variable ranges, fixed ranges, write-combining */
#define MTRR_VARIABLE     8u
#define MISC_ENABLE_FIXED 0x1800u /* no BTS, no PEBS */
/* Fast strings, thermal control, SpeedStep, MONITOR, CPUID limit, xTPR, XD disable. The others of these only keep what is
 * written: MWAIT and frequencies are not offered. */
#define MISC_ENABLE_WRITE   (UINT64_C(0x00850009) | MISC_ENABLE_LIMIT_CPUID | MISC_ENABLE_XD_DISABLE)
#define MICROCODE_REVISION  (UINT64_C(1) << 32)
#define FEATURE_CTRL_LOCKED 1u
#define APIC_BASE_X2APIC    (1u << 10)

static bool memory_type_valid(uint8_t type, bool pat)
{
    return type == 0 || type == 1 || (type >= 4 && type <= 6) || (pat && type == 7);
}

static bool memory_types_valid(uint64_t types, bool pat)
{
    for (unsigned i = 0; i < 8; i++) {
        if (!memory_type_valid((uint8_t)(types >> i * 8), pat)) {
            return false;
        }
    }
    return true;
}

/* The field behind an MTRR or NULL. */
static uint64_t *mtrr_field(struct x86_cpu *cpu, uint32_t msr)
{
    if (msr >= MSR_MTRR_PHYS && msr < MSR_MTRR_PHYS + 2 * MTRR_VARIABLE) {
        unsigned i = (msr - MSR_MTRR_PHYS) / 2;
        return msr & 1 ? &cpu->mtrr_phys_mask[i] : &cpu->mtrr_phys_base[i];
    }
    if (msr == MSR_MTRR_FIX_64K) {
        return &cpu->mtrr_fixed[0];
    }
    if (msr >= MSR_MTRR_FIX_16K && msr < MSR_MTRR_FIX_16K + 2) {
        return &cpu->mtrr_fixed[1 + msr - MSR_MTRR_FIX_16K];
    }
    if (msr >= MSR_MTRR_FIX_4K && msr < MSR_MTRR_FIX_4K + 8) {
        return &cpu->mtrr_fixed[3 + msr - MSR_MTRR_FIX_4K];
    }
    return NULL;
}

static int write_mtrr(struct x86_cpu *cpu, uint32_t msr, uint64_t value)
{
    uint64_t *field = mtrr_field(cpu, msr);
    bool variable = msr < MSR_MTRR_FIX_64K;
    uint64_t beyond = ~UINT64_C(0) << x86_phys_bits(cpu);
    bool valid = !variable ? memory_types_valid(value, false)
                 : msr & 1 ? !(value & (beyond | 0x7ff))
                           : !(value & (beyond | 0xf00)) && memory_type_valid((uint8_t)value, false);
    if (!valid) {
        return -EINVAL;
    }
    *field = value;
    return 0;
}

/* Registers of the surroundings. */
static bool is_external(uint32_t msr)
{
    return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE || (msr >= MSR_X2APIC && msr < MSR_X2APIC + 0x100);
}

/* Registers that come with a feature; TSC_AUX and SPEC_CTRL come with any of several. */
static bool is_offered(const struct x86_cpu *cpu, uint32_t msr)
{
    static const struct {
        uint32_t first, last;
        uint16_t feature;
    } rows[] = {
        {MSR_TSC, MSR_TSC, FEAT_TSC},
        {MSR_APIC_BASE, MSR_APIC_BASE, FEAT_APIC},
        {MSR_TSC_ADJUST, MSR_TSC_ADJUST, FEAT_TSC_ADJUST},
        {MSR_PRED_CMD, MSR_PRED_CMD, FEAT_SPEC_CTRL},
        {MSR_MTRR_CAP, MSR_MTRR_CAP, FEAT_MTRR},
        {MSR_ARCH_CAPABILITIES, MSR_ARCH_CAPABILITIES, FEAT_ARCH_CAPABILITIES},
        {MSR_FLUSH_CMD, MSR_FLUSH_CMD, FEAT_L1D_FLUSH},
        {MSR_SYSENTER_CS, MSR_SYSENTER_EIP, FEAT_SEP},
        {MSR_MCG_CAP, MSR_MCG_STATUS, FEAT_MCA},
        {MSR_MTRR_PHYS, MSR_MTRR_FIX_4K + 7, FEAT_MTRR},
        {MSR_PAT, MSR_PAT, FEAT_PAT},
        {MSR_MTRR_DEF, MSR_MTRR_DEF, FEAT_MTRR},
        {MSR_TSC_DEADLINE, MSR_TSC_DEADLINE, FEAT_TSC_DEADLINE},
        {MSR_PKRS, MSR_PKRS, FEAT_PKS},
        {MSR_X2APIC, MSR_X2APIC + 0xff, FEAT_X2APIC},
        {MSR_XSS, MSR_XSS, FEAT_XSAVES},
        {MSR_STAR, MSR_STAR, FEAT_SYSCALL},
        {MSR_LSTAR, MSR_SFMASK, FEAT_LM},
        {MSR_FS_BASE, MSR_KERNEL_GS_BASE, FEAT_LM},
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        if (msr >= rows[i].first && msr <= rows[i].last) {
            return x86_has(cpu->features, rows[i].feature);
        }
    }
    return true;
}

/* Plain 64-bit registers, with whether their value must be canonical. NULL: not one of them. */
static uint64_t *plain_field(struct x86_cpu *cpu, uint32_t msr, bool *ret_canonical)
{
    *ret_canonical = false;
    switch (msr) {
    case MSR_STAR:
        return &cpu->star;
    case MSR_SYSENTER_CS:
        return &cpu->sysenter_cs;
    case MSR_SFMASK:
        return &cpu->sfmask;
    default:
        break;
    }
    *ret_canonical = true;
    switch (msr) {
    case MSR_LSTAR:
        return &cpu->lstar;
    case MSR_CSTAR:
        return &cpu->cstar;
    case MSR_FS_BASE:
        return &cpu->seg[SEG_FS].base;
    case MSR_GS_BASE:
        return &cpu->seg[SEG_GS].base;
    case MSR_KERNEL_GS_BASE:
        return &cpu->kernel_gs_base;
    case MSR_SYSENTER_ESP:
        return &cpu->sysenter_esp;
    case MSR_SYSENTER_EIP:
        return &cpu->sysenter_eip;
    default:
        return NULL;
    }
}

/* Bits of IA32_SPEC_CTRL; it exists if it has any. */
static uint64_t spec_ctrl_valid(const struct x86_cpu *cpu)
{
    uint64_t valid = x86_has(cpu->features, FEAT_SPEC_CTRL) ? SPEC_CTRL_IBRS : 0;
    valid |= x86_has(cpu->features, FEAT_STIBP) ? SPEC_CTRL_STIBP : 0;
    return valid | (x86_has(cpu->features, FEAT_SSBD) ? SPEC_CTRL_SSBD : 0);
}

int x86_msr_read(struct x86_cpu *cpu, uint32_t msr, uint64_t *ret_value)
{
    bool canonical;
    if (!is_offered(cpu, msr)) {
        return -EINVAL;
    }
    uint64_t *plain = plain_field(cpu, msr, &canonical);
    if (!plain) {
        plain = mtrr_field(cpu, msr);
    }
    if (plain) {
        *ret_value = *plain;
        return 0;
    }
    if (is_external(msr)) {
        return cpu->ops->msr_read(cpu->opaque, cpu->index, msr, ret_value);
    }
    const uint32_t *features = cpu->features;
    switch (msr) {
    case MSR_EFER:
        *ret_value = cpu->efer;
        return 0;
    case MSR_TSC:
        *ret_value = x86_host_tsc() + cpu->tsc_offset;
        return 0;
    case MSR_TSC_ADJUST:
        *ret_value = cpu->tsc_adjust;
        return 0;
    case MSR_TSC_AUX:
        *ret_value = cpu->tsc_aux;
        return x86_has(features, FEAT_RDTSCP) || x86_has(features, FEAT_RDPID) ? 0 : -EINVAL;
    case MSR_SPEC_CTRL:
        *ret_value = cpu->spec_ctrl;
        return spec_ctrl_valid(cpu) ? 0 : -EINVAL;
    case MSR_ARCH_CAPABILITIES:
        *ret_value = ARCH_CAPABILITIES;
        return 0;
    case MSR_PAT:
        *ret_value = cpu->pat;
        return 0;
    case MSR_MTRR_CAP:
        *ret_value = MTRR_CAP;
        return 0;
    case MSR_MTRR_DEF:
        *ret_value = cpu->mtrr_def_type;
        return 0;
    case MSR_MISC_ENABLE:
        *ret_value = cpu->misc_enable | MISC_ENABLE_FIXED;
        return 0;
    case MSR_XSS:
        *ret_value = cpu->xss;
        return 0;
    case MSR_PKRS:
        *ret_value = cpu->pkrs;
        return 0;
    case MSR_MICROCODE:
        *ret_value = MICROCODE_REVISION;
        return 0;
    case MSR_FEATURE_CONTROL:
        *ret_value = FEATURE_CTRL_LOCKED;
        return 0;
    case MSR_PLATFORM_ID:
    case MSR_MCG_CAP:
    case MSR_MCG_STATUS:
    case MSR_DEBUGCTL:
        *ret_value = 0;
        return 0;
    default:
        return -EINVAL;
    }
}

static int write_efer(struct x86_cpu *cpu, uint64_t value)
{
    uint64_t valid = EFER_LMA;
    valid |= x86_has(cpu->features, FEAT_SYSCALL) ? EFER_SCE : 0;
    valid |= x86_has(cpu->features, FEAT_LM) ? EFER_LME : 0;
    bool nx = x86_has(cpu->features, FEAT_NX) && !(cpu->misc_enable & MISC_ENABLE_XD_DISABLE);
    valid |= nx ? EFER_NXE : 0;
    if (value & ~valid) {
        return -EINVAL;
    }
    value = (value & ~(uint64_t)EFER_LMA) | (cpu->efer & EFER_LMA);
    uint64_t changed = value ^ cpu->efer;
    if (changed & EFER_LME && cpu->cr0 & CR0_PG) {
        return -EINVAL;
    }
    cpu->efer = value;
    if (changed & EFER_NXE) {
        mmu_paging_changed(cpu);
    }
    return 0;
}

static int write_spec_ctrl(struct x86_cpu *cpu, uint64_t value)
{
    uint64_t valid = spec_ctrl_valid(cpu);
    if (!valid || value & ~valid) {
        return -EINVAL;
    }
    cpu->spec_ctrl = value;
    return 0;
}

int x86_msr_write(struct x86_cpu *cpu, uint32_t msr, uint64_t value)
{
    bool canonical;
    if (!is_offered(cpu, msr)) {
        return -EINVAL;
    }
    uint64_t *plain = plain_field(cpu, msr, &canonical);
    if (plain) {
        if ((canonical && !x86_canonical(value)) || (msr == MSR_SFMASK && value >> 32)) {
            return -EINVAL;
        }
        *plain = value;
        return 0;
    }
    if (msr == MSR_APIC_BASE && value & APIC_BASE_X2APIC && !x86_has(cpu->features, FEAT_X2APIC)) {
        return -EINVAL;
    }
    if (is_external(msr)) {
        return cpu->ops->msr_write(cpu->opaque, cpu->index, msr, value);
    }
    if (mtrr_field(cpu, msr)) {
        return write_mtrr(cpu, msr, value);
    }
    const uint32_t *features = cpu->features;
    switch (msr) {
    case MSR_EFER:
        return write_efer(cpu, value);
    case MSR_TSC: {
        uint64_t delta = value - (x86_host_tsc() + cpu->tsc_offset);
        cpu->tsc_offset += delta;
        cpu->tsc_adjust += delta;
        return 0;
    }
    case MSR_TSC_ADJUST:
        cpu->tsc_offset += value - cpu->tsc_adjust;
        cpu->tsc_adjust = value;
        return 0;
    case MSR_TSC_AUX:
        if (value >> 32 || (!x86_has(features, FEAT_RDTSCP) && !x86_has(features, FEAT_RDPID))) {
            return -EINVAL;
        }
        cpu->tsc_aux = value;
        return 0;
    case MSR_SPEC_CTRL:
        return write_spec_ctrl(cpu, value);
    case MSR_PRED_CMD:
    case MSR_FLUSH_CMD: /* one command, bit 0 */
        return value & ~UINT64_C(1) ? -EINVAL : 0;
    case MSR_PAT:
        if (!memory_types_valid(value, true)) {
            return -EINVAL;
        }
        cpu->pat = value;
        return 0;
    case MSR_MTRR_DEF:
        if (value & ~UINT64_C(0xcff) || !memory_type_valid((uint8_t)value, false)) {
            return -EINVAL;
        }
        cpu->mtrr_def_type = value;
        return 0;
    case MSR_MISC_ENABLE:
        cpu->misc_enable = value & MISC_ENABLE_WRITE;
        return 0;
    case MSR_PKRS:
        if (value >> 32) {
            return -EINVAL;
        }
        mmu_set_pkrs(cpu, (uint32_t)value);
        return 0;
    case MSR_XSS: /* no supervisor component is offered */
        return value ? -EINVAL : 0;
    case MSR_MICROCODE:
    case MSR_MCG_STATUS:
        return value ? -EINVAL : 0;
    case MSR_DEBUGCTL: /* LBR and BTF are accepted and do nothing: there is no branch record */
        return value & ~UINT64_C(3) ? -EINVAL : 0;
    default:
        return -EINVAL;
    }
}

X86_SYS_HANDLER(rdmsr)
{
    uint64_t value;
    if (cpu->cpl || x86_msr_read(cpu, (uint32_t)cpu->gpr[IR_RCX], &value) < 0) {
        return x86_gp0(cpu);
    }
    cpu->gpr[IR_RAX] = (uint32_t)value;
    cpu->gpr[IR_RDX] = value >> 32;
    return X86_OK;
}

X86_SYS_HANDLER(wrmsr)
{
    uint64_t value = (uint32_t)cpu->gpr[IR_RAX] | cpu->gpr[IR_RDX] << 32;
    if (cpu->cpl || x86_msr_write(cpu, (uint32_t)cpu->gpr[IR_RCX], value) < 0) {
        return x86_gp0(cpu);
    }
    return X86_OK;
}
