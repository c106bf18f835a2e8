/* SPDX-License-Identifier: Apache-2.0 */
/* CPU features as one bit set: what CPUID offers, the decoder accepts, and nothing else. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Number = word * 32 + bit. Words: 0 = 1.EDX, 1 = 1.ECX, 2 = 7.0.EBX, 3 = 7.0.ECX, 4 = 7.0.EDX, 5 = 80000001.EDX,
 * 6 = 80000001.ECX, 7 = D.1.EAX,
 * 8 = 7.1.EAX. */
#define X86_FEATURE_WORDS 9
enum x86_feature {
    FEAT_FPU = 0, FEAT_VME = 1, FEAT_DE = 2, FEAT_PSE = 3, FEAT_TSC = 4, FEAT_MSR = 5, FEAT_PAE = 6, FEAT_MCE = 7, FEAT_CX8 = 8,
    FEAT_APIC = 9, FEAT_SEP = 11, FEAT_MTRR = 12, FEAT_PGE = 13, FEAT_MCA = 14, FEAT_CMOV = 15, FEAT_PAT = 16,
    FEAT_PSE36 = 17, FEAT_CLFSH = 19, FEAT_MMX = 23, FEAT_FXSR = 24, FEAT_SSE = 25, FEAT_SSE2 = 26,
    FEAT_SSE3 = 32 + 0, FEAT_PCLMUL = 32 + 1, FEAT_MONITOR = 32 + 3, FEAT_SSSE3 = 32 + 9, FEAT_FMA = 32 + 12,
    FEAT_CX16 = 32 + 13, FEAT_PCID = 32 + 17, FEAT_SSE41 = 32 + 19, FEAT_SSE42 = 32 + 20, FEAT_X2APIC = 32 + 21,
    FEAT_MOVBE = 32 + 22, FEAT_POPCNT = 32 + 23, FEAT_TSC_DEADLINE = 32 + 24, FEAT_AES = 32 + 25, FEAT_XSAVE = 32 + 26,
    FEAT_OSXSAVE = 32 + 27, FEAT_AVX = 32 + 28, FEAT_F16C = 32 + 29, FEAT_RDRAND = 32 + 30,
    FEAT_FSGSBASE = 64 + 0, FEAT_TSC_ADJUST = 64 + 1, FEAT_BMI1 = 64 + 3, FEAT_AVX2 = 64 + 5, FEAT_SMEP = 64 + 7,
    FEAT_BMI2 = 64 + 8, FEAT_ERMS = 64 + 9, FEAT_INVPCID = 64 + 10, FEAT_RDSEED = 64 + 18, FEAT_ADX = 64 + 19,
    FEAT_SMAP = 64 + 20, FEAT_CLFLUSHOPT = 64 + 23, FEAT_CLWB = 64 + 24, FEAT_SHA = 64 + 29,
    FEAT_UMIP = 96 + 2, FEAT_PKU = 96 + 3, FEAT_OSPKE = 96 + 4, FEAT_GFNI = 96 + 8, FEAT_VAES = 96 + 9,
    FEAT_VPCLMULQDQ = 96 + 10, FEAT_RDPID = 96 + 22, FEAT_CLDEMOTE = 96 + 25, FEAT_MOVDIRI = 96 + 27,
    FEAT_MOVDIR64B = 96 + 28, FEAT_PKS = 96 + 31,
    FEAT_SERIALIZE = 128 + 14, FEAT_SPEC_CTRL = 128 + 26, FEAT_STIBP = 128 + 27, FEAT_L1D_FLUSH = 128 + 28,
    FEAT_ARCH_CAPABILITIES = 128 + 29, FEAT_SSBD = 128 + 31,
    FEAT_SYSCALL = 160 + 11, FEAT_NX = 160 + 20, FEAT_PDPE1GB = 160 + 26, FEAT_RDTSCP = 160 + 27, FEAT_LM = 160 + 29,
    FEAT_LAHF = 192 + 0, FEAT_LZCNT = 192 + 5, FEAT_PREFETCHW = 192 + 8,
    FEAT_XSAVEOPT = 224 + 0, FEAT_XSAVEC = 224 + 1, FEAT_XGETBV1 = 224 + 2, FEAT_XSAVES = 224 + 3,
    FEAT_AVX_VNNI = 256 + 4,
};

static inline bool x86_has(const uint32_t *features, enum x86_feature feature)
{
    return features[feature / 32] >> (feature % 32) & 1;
}
