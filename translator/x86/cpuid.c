/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID: the guest's table, the few bits of it that follow the vCPU's state, and what the translator can run at all.
 */
#include "translator/x86/sys_internal.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>

#define BIT(n) (1u << (n))

#define LIMITED_BASIC_LEAF 2u /* under IA32_MISC_ENABLE bit 22, for systems that expect no more */

/* Features that come from translated code and C alone: any host runs them. Word order as in features.h. */
static const uint32_t portable_features[X86_FEATURE_WORDS] = {
    /* FPU VME DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2 SS HTT */
    [0] = BIT(0) | BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(9) | BIT(11) | BIT(12) |
          BIT(13) | BIT(14) | BIT(15) | BIT(16) | BIT(17) | BIT(19) | BIT(23) | BIT(24) | BIT(25) | BIT(26) |
          BIT(27) | BIT(28),
    /* CX16 PCID X2APIC TSC_DEADLINE XSAVE OSXSAVE HYPERVISOR */
    [1] = BIT(13) | BIT(17) | BIT(21) | BIT(24) | BIT(26) | BIT(27) | BIT(31),
    /* FSGSBASE TSC_ADJUST FDP_EXCPTN_ONLY SMEP ERMS INVPCID ZERO_FCS_FDS SMAP CLFLUSHOPT CLWB */
    [2] = BIT(0) | BIT(1) | BIT(6) | BIT(7) | BIT(9) | BIT(10) | BIT(13) | BIT(20) | BIT(23) | BIT(24),
    /* UMIP PKU RDPID CLDEMOTE MOVDIRI PKS */
    [3] = BIT(2) | BIT(3) | BIT(22) | BIT(25) | BIT(27) | BIT(31),
    /* FSRM SERIALIZE SPEC_CTRL STIBP L1D_FLUSH ARCH_CAPABILITIES SSBD */
    [4] = BIT(4) | BIT(14) | BIT(26) | BIT(27) | BIT(28) | BIT(29) | BIT(31),
    /* SYSCALL NX PDPE1GB RDTSCP LM */
    [5] = BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29),
    /* LAHF PREFETCHW */
    [6] = BIT(0) | BIT(8),
    /* XSAVEOPT XSAVEC XGETBV1 XSAVES */
    [7] = BIT(0) | BIT(1) | BIT(2) | BIT(3),
};

/* Features whose instructions run on the host itself: offered where the host has them. */
static const uint32_t native_features[X86_FEATURE_WORDS] = {
    /* SSE3 PCLMUL SSSE3 FMA SSE4.1 SSE4.2 MOVBE POPCNT AES AVX F16C RDRAND */
    [1] = BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(19) | BIT(20) | BIT(22) | BIT(23) | BIT(25) | BIT(28) |
          BIT(29) | BIT(30),
    /* BMI1 AVX2 BMI2 RDSEED ADX SHA */
    [2] = BIT(3) | BIT(5) | BIT(8) | BIT(18) | BIT(19) | BIT(29),
    /* GFNI VAES VPCLMULQDQ MOVDIR64B */
    [3] = BIT(8) | BIT(9) | BIT(10) | BIT(28),
    /* LZCNT */
    [6] = BIT(5),
    /* AVX_VNNI */
    [8] = BIT(4),
};

/* Of these, what works only where the host's kernel enables YMM state: AVX FMA F16C, AVX2, VAES VPCLMULQDQ, AVX_VNNI. */
static const uint32_t avx_features[X86_FEATURE_WORDS] = {
    [1] = BIT(12) | BIT(28) | BIT(29),
    [2] = BIT(5),
    [3] = BIT(9) | BIT(10),
    [8] = BIT(4),
};

/* Bits that say something about the platform, not about what may be executed, or follow the vCPU's state. */
static const uint32_t free_bits[X86_FEATURE_WORDS] = {
    [1] = BIT(27) | BIT(31),
};

static void host_features(uint32_t *words)
{
    uint32_t a, b, c, d;
    memset(words, 0, X86_FEATURE_WORDS * sizeof(words[0]));
    if (__get_cpuid(1, &a, &b, &c, &d)) {
        words[0] = d;
        words[1] = c;
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        words[2] = b;
        words[3] = c;
        words[4] = d;
    }
    if (__get_cpuid(0x80000001, &a, &b, &c, &d)) {
        words[5] = d;
        words[6] = c;
    }
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) {
        words[8] = a;
    }
    for (unsigned i = 0; i < X86_FEATURE_WORDS && !__builtin_cpu_supports("avx"); i++) {
        words[i] &= ~avx_features[i];
    }
}

void x86_supported_features(uint32_t *ret_features)
{
    uint32_t host[X86_FEATURE_WORDS];
    host_features(host);
    for (unsigned i = 0; i < X86_FEATURE_WORDS; i++) {
        ret_features[i] = portable_features[i] | (native_features[i] & host[i]);
    }
}

static const struct x86_cpuid_leaf *find_leaf(const struct x86_cpu *cpu, uint32_t leaf, uint32_t subleaf)
{
    for (unsigned i = 0; i < cpu->cpuid_count; i++) {
        const struct x86_cpuid_leaf *row = &cpu->cpuid[i];
        if (row->leaf == leaf && (!row->index_matters || row->subleaf == subleaf)) {
            return row;
        }
    }
    return NULL;
}

static void derive_features(const struct x86_cpu *cpu, uint32_t *words)
{
    const struct x86_cpuid_leaf *row;
    memset(words, 0, X86_FEATURE_WORDS * sizeof(words[0]));
    if ((row = find_leaf(cpu, 1, 0))) {
        words[0] = row->edx;
        words[1] = row->ecx;
    }
    if ((row = find_leaf(cpu, 7, 0))) {
        words[2] = row->ebx;
        words[3] = row->ecx;
        words[4] = row->edx;
    }
    if ((row = find_leaf(cpu, 0x80000001, 0))) {
        words[5] = row->edx;
        words[6] = row->ecx;
    }
    if ((row = find_leaf(cpu, 7, 1))) {
        words[8] = row->eax;
    }
    if ((row = find_leaf(cpu, 0xd, 1))) {
        words[7] = row->eax;
    }
}

int x86_cpu_set_cpuid(struct x86_cpu *cpu, const struct x86_cpuid_leaf *leaves, unsigned count,
                      int *ret_feature)
{
    uint32_t supported[X86_FEATURE_WORDS], offered[X86_FEATURE_WORDS];
    struct x86_cpuid_leaf *copy = malloc((count ? count : 1) * sizeof(*copy));
    if (!copy) {
        return -ENOMEM;
    }
    memcpy(copy, leaves, count * sizeof(*copy));
    struct x86_cpuid_leaf *old = cpu->cpuid;
    unsigned old_count = cpu->cpuid_count;
    cpu->cpuid = copy;
    cpu->cpuid_count = count;
    derive_features(cpu, offered);
    x86_supported_features(supported);
    for (unsigned i = 0; i < X86_FEATURE_WORDS; i++) {
        uint32_t excess = offered[i] & ~(supported[i] | free_bits[i]);
        if (excess) {
            if (ret_feature) {
                *ret_feature = (int)(i * 32) + __builtin_ctz(excess);
            }
            cpu->cpuid = old;
            cpu->cpuid_count = old_count;
            free(copy);
            return -ENOTSUP;
        }
    }
    memcpy(cpu->features, offered, sizeof(offered));
    free(old);
    return 0;
}

uint64_t x86_xcr0_offered(const struct x86_cpu *cpu)
{
    const struct x86_cpuid_leaf *row = find_leaf(cpu, 0xd, 0);
    return row ? row->eax | (uint64_t)row->edx << 32 : 1;
}

/* The row that answers: beyond the last leaf of its range, that is the last basic leaf's (SDM 2A CPUID). */
static const struct x86_cpuid_leaf *answering_leaf(const struct x86_cpu *cpu, uint32_t leaf, uint32_t subleaf)
{
    const struct x86_cpuid_leaf *first = find_leaf(cpu, leaf & 0x80000000, 0);
    bool hypervisor = leaf >> 28 == 4;
    if (hypervisor || !first || leaf <= first->eax) {
        return find_leaf(cpu, leaf, subleaf);
    }
    first = find_leaf(cpu, 0, 0);
    return first ? find_leaf(cpu, first->eax, subleaf) : NULL;
}

X86_SYS_HANDLER(cpuid)
{
    uint32_t leaf = (uint32_t)cpu->gpr[IR_RAX], subleaf = (uint32_t)cpu->gpr[IR_RCX];
    const struct x86_cpuid_leaf *row = answering_leaf(cpu, leaf, subleaf);
    struct x86_cpuid_leaf out = row ? *row : (struct x86_cpuid_leaf){.leaf = leaf};
    leaf = out.leaf;

    if (leaf == 0 && cpu->misc_enable & MISC_ENABLE_LIMIT_CPUID) {
        out.eax = out.eax < LIMITED_BASIC_LEAF ? out.eax : LIMITED_BASIC_LEAF;
    } else if (leaf == 0x80000001 && cpu->misc_enable & MISC_ENABLE_XD_DISABLE) {
        out.edx &= ~BIT(20);
    } else if (leaf == 1) {
        uint64_t apic_base;
        if (cpu->ops->msr_read(cpu->opaque, cpu->index, 0x1b, &apic_base) == 0 && !(apic_base & 1 << 11)) {
            out.edx &= ~BIT(9); /* a disabled APIC is not there */
        }
        out.ecx = (out.ecx & ~BIT(27)) | (cpu->cr4 & CR4_OSXSAVE ? BIT(27) : 0);
    } else if (leaf == 7 && subleaf == 0) {
        out.ecx = (out.ecx & ~BIT(4)) | (cpu->cr4 & CR4_PKE ? BIT(4) : 0);
    } else if (leaf == 0x80000001 && !x86_code64(cpu)) {
        out.edx &= ~BIT(11); /* SYSCALL exists in 64-bit code only */
    } else if (leaf == 0xb && !row) {
        const struct x86_cpuid_leaf *first = find_leaf(cpu, 0xb, 0);
        out.ecx = subleaf & 0xff; /* an invalid level answers with its number and the x2APIC id */
        out.edx = first ? first->edx : 0;
    } else if (leaf == 0xd && subleaf == 0 && row) {
        out.ebx = x86_xsave_bytes(cpu->xcr0, false);
    } else if (leaf == 0xd && subleaf == 1 && row && row->eax & (BIT(1) | BIT(3))) {
        out.ebx = x86_xsave_bytes(cpu->xcr0 | cpu->xss, true);
    }
    cpu->gpr[IR_RAX] = out.eax;
    cpu->gpr[IR_RBX] = out.ebx;
    cpu->gpr[IR_RCX] = out.ecx;
    cpu->gpr[IR_RDX] = out.edx;
    return X86_OK;
}
