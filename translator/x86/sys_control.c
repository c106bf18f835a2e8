/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control and debug registers, TLB and cache control (SDM 2B MOV CR/DR, SDM 3A 2.5).
 *
 * A MOV to CR checks the new value completely, then changes the register and tells the MMU.
 */
#include "translator/mmu_walk.h"
#include "translator/x86/debug.h"
#include "translator/x86/sys_internal.h"

#define CR0_DEFINED                                                                                          \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)
#define CR3_PCID          UINT64_C(0xfff)
#define CR3_NOFLUSH       (UINT64_C(1) << 63)
#define PHYS_BITS_DEFAULT 36

unsigned x86_phys_bits(const struct x86_cpu *cpu)
{
    for (unsigned i = 0; i < cpu->cpuid_count; i++) {
        if (cpu->cpuid[i].leaf == 0x80000008) {
            return cpu->cpuid[i].eax & 0xff;
        }
    }
    return PHYS_BITS_DEFAULT;
}

/* CR4 bits that the offered features define (SDM 3A 2.5). */
uint64_t x86_cr4_defined(const struct x86_cpu *cpu)
{
    static const struct {
        uint32_t bits;
        uint16_t feature;
    } rows[] = {
        {CR4_TSD, FEAT_TSC},
        {CR4_PAE, FEAT_PAE},
        {CR4_PGE, FEAT_PGE},
        {CR4_UMIP, FEAT_UMIP},
        {CR4_FSGSBASE, FEAT_FSGSBASE},
        {CR4_PCIDE, FEAT_PCID},
        {CR4_SMEP, FEAT_SMEP},
        {CR4_SMAP, FEAT_SMAP},
        {CR4_OSXSAVE, FEAT_XSAVE},
        {CR4_PKE, FEAT_PKU},
        {CR4_PKS, FEAT_PKS},
        {CR4_VME | CR4_PVI, FEAT_VME},
        {CR4_OSFXSR, FEAT_FXSR},
        {CR4_OSXMMEXCPT, FEAT_SSE},
        {CR4_DE, FEAT_DE},
        {CR4_PSE, FEAT_PSE},
        {CR4_MCE, FEAT_MCE},
    };
    uint64_t defined = CR4_PCE;
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        if (x86_has(cpu->features, rows[i].feature)) {
            defined |= rows[i].bits;
        }
    }
    return defined;
}

/* PAE paging with these values: its top entries are to be loaded (SDM 3A 4.4.1). */
static bool uses_pdptes(const struct x86_cpu *cpu, uint64_t cr0, uint64_t cr4)
{
    return cr0 & CR0_PG && cr4 & CR4_PAE && !(cpu->efer & EFER_LME);
}

static int set_cr0(struct x86_cpu *cpu, uint64_t value)
{
    uint64_t old = cpu->cr0;
    if (value >> 32) {
        return x86_gp0(cpu);
    }
    value = (value & CR0_DEFINED) | CR0_ET;
    uint64_t changed = old ^ value;
    if ((value & (CR0_PG | CR0_PE)) == CR0_PG || (value & (CR0_NW | CR0_CD)) == CR0_NW) {
        return x86_gp0(cpu);
    }
    if (changed & (CR0_PG | CR0_CD | CR0_NW) && uses_pdptes(cpu, value, cpu->cr4) &&
        mmu_load_pdptes(cpu, cpu->cr3) < 0) {
        return x86_gp0(cpu);
    }
    if (changed & CR0_PG) {
        if (!(value & CR0_PG)) {
            if (x86_code64(cpu) || cpu->cr4 & CR4_PCIDE) {
                return x86_gp0(cpu);
            }
            cpu->efer &= ~(uint64_t)EFER_LMA;
        } else if (cpu->efer & EFER_LME) {
            bool tss16 = (cpu->seg[SEG_TR].attr & SEG_ATTR_TYPE & ~2u) == SYSTEM_TSS16;
            if (!(cpu->cr4 & CR4_PAE) || cpu->seg[SEG_CS].attr & SEG_ATTR_L || (tss16 && cpu->cr0 & CR0_PE)) {
                return x86_gp0(cpu);
            }
            cpu->efer |= EFER_LMA;
        }
    }
    cpu->cr0 = value;
    if (changed & CR0_PE && !(value & CR0_PE)) {
        cpu->cpl = 0;
    }
    if (changed & (CR0_PG | CR0_WP)) {
        mmu_paging_changed(cpu);
    }
    x86_update_mode(cpu);
    return X86_OK;
}

static int set_cr3(struct x86_cpu *cpu, uint64_t value)
{
    if (x86_long_mode(cpu)) {
        uint64_t reserved = ~((UINT64_C(1) << x86_phys_bits(cpu)) - 1);
        if (cpu->cr4 & CR4_PCIDE) {
            reserved &= ~CR3_NOFLUSH;
        }
        if (value & reserved) {
            return x86_gp0(cpu);
        }
    } else if (uses_pdptes(cpu, cpu->cr0, cpu->cr4) && mmu_load_pdptes(cpu, value) < 0) {
        return x86_gp0(cpu);
    }
    mmu_set_cr3(cpu, value);
    return X86_OK;
}

static int set_cr4(struct x86_cpu *cpu, uint64_t value)
{
    const uint64_t paging = CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE |
                            CR4_PKS;
    uint64_t changed = cpu->cr4 ^ value;
    if (value & ~x86_cr4_defined(cpu)) {
        return x86_gp0(cpu);
    }
    if (x86_long_mode(cpu) && !(value & CR4_PAE)) {
        return x86_gp0(cpu);
    }
    if (changed & value & CR4_PCIDE && (!x86_long_mode(cpu) || cpu->cr3 & CR3_PCID)) {
        return x86_gp0(cpu);
    }
    if (changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP) && uses_pdptes(cpu, cpu->cr0, value) &&
        mmu_load_pdptes(cpu, cpu->cr3) < 0) {
        return x86_gp0(cpu);
    }
    cpu->cr4 = value;
    if (changed & paging) {
        mmu_paging_changed(cpu);
    }
    x86_update_mode(cpu);
    return X86_OK;
}

X86_SYS_HANDLER(mov_from_cr)
{
    uint64_t value;
    if (cpu->cpl) {
        return x86_gp0(cpu);
    }
    switch (op->imm) {
    case 0:
        value = cpu->cr0;
        break;
    case 2:
        value = cpu->cr2;
        break;
    case 3:
        value = cpu->cr3;
        break;
    case 4:
        value = cpu->cr4;
        break;
    case 8:
        value = cpu->ops->cr8_read(cpu->opaque, cpu->index);
        break;
    default:
        return x86_raise(cpu, EXC_UD);
    }
    x86_write_reg(cpu, op->dst, x86_code64(cpu) ? 8 : 4, value);
    return X86_OK;
}

X86_SYS_HANDLER(mov_to_cr)
{
    uint64_t value = x86_read_reg(cpu, op->src, x86_code64(cpu) ? 8 : 4);
    if (cpu->cpl) {
        return x86_gp0(cpu);
    }
    switch (op->imm) {
    case 0:
        return set_cr0(cpu, value);
    case 2:
        cpu->cr2 = value;
        return X86_OK;
    case 3:
        return set_cr3(cpu, value);
    case 4:
        return set_cr4(cpu, value);
    case 8:
        if (value >> 4) {
            return x86_gp0(cpu);
        }
        cpu->ops->cr8_write(cpu->opaque, cpu->index, (uint8_t)value);
        return X86_OK;
    default:
        return x86_raise(cpu, EXC_UD);
    }
}

X86_SYS_HANDLER(clts)
{
    if (cpu->cpl) {
        return x86_gp0(cpu);
    }
    cpu->cr0 &= ~(uint64_t)CR0_TS;
    x86_update_mode(cpu);
    return X86_OK;
}

X86_SYS_HANDLER(lmsw)
{
    uint64_t value;
    if (cpu->cpl) {
        return x86_gp0(cpu);
    }
    int r = x86_sys_read(cpu, op, 2, &value);
    if (r) {
        return r;
    }
    /* PE can be set but not cleared. */
    uint64_t low = (value & (CR0_PE | CR0_MP | CR0_EM | CR0_TS)) | (cpu->cr0 & CR0_PE);
    return set_cr0(cpu, (cpu->cr0 & ~(uint64_t)0xf) | low);
}

X86_SYS_HANDLER(smsw)
{
    if (cpu->cpl && cpu->cr4 & CR4_UMIP) {
        return x86_gp0(cpu);
    }
    return x86_sys_write(cpu, op, op->size, 2, cpu->cr0);
}

/* --- debug registers ---------------------------------------------------------------------------------------- */

/* Common checks of SDM 3B 17.2.2; gives the register with DR4/DR5 as aliases. */
static int debug_register(struct x86_cpu *cpu, const struct ir_op *op, unsigned *ret_number)
{
    unsigned number = (unsigned)op->imm & 7;
    if (number == 4 || number == 5) {
        if (cpu->cr4 & CR4_DE) {
            return x86_raise(cpu, EXC_UD);
        }
        number += 2;
    }
    if (cpu->cpl) {
        return x86_gp0(cpu);
    }
    if (cpu->dr[7] & DR7_GD) {
        x86_raise(cpu, EXC_DB);
        cpu->exc.cr2 = DR6_BD;
        return X86_RAISE;
    }
    *ret_number = number;
    return X86_OK;
}

X86_SYS_HANDLER(mov_from_dr)
{
    unsigned number;
    int r = debug_register(cpu, op, &number);
    if (!r) {
        x86_write_reg(cpu, op->dst, x86_code64(cpu) ? 8 : 4, cpu->dr[number]);
    }
    return r;
}

X86_SYS_HANDLER(mov_to_dr)
{
    unsigned number;
    uint64_t value = x86_read_reg(cpu, op->src, x86_code64(cpu) ? 8 : 4);
    int r = debug_register(cpu, op, &number);
    if (r) {
        return r;
    }
    if (number >= 6 && value >> 32) {
        return x86_gp0(cpu);
    }
    if (number == 6) {
        value = (value & 0xe00f) | DR6_FIXED;
    } else if (number == 7) {
        value = (value & 0xffff2bff) | DR7_FIXED;
    }
    cpu->dr[number] = value;
    x86_debug_changed(cpu);
    return X86_OK;
}

/* --- TLB and caches ----------------------------------------------------------------------------------------- */

X86_SYS_HANDLER(invlpg)
{
    if (cpu->cpl) {
        return x86_gp0(cpu);
    }
    mmu_invlpg(cpu, cpu->ea); /* of a non-canonical address: no effect, no fault */
    return X86_OK;
}

X86_SYS_HANDLER(invpcid)
{
    uint64_t descriptor[2];
    if (x86_real_mode(cpu)) {
        return x86_raise(cpu, EXC_UD);
    }
    if (cpu->cpl) {
        return x86_gp0(cpu);
    }
    int r = mmu_read(cpu, cpu->ea, 16, descriptor);
    if (r) {
        return r;
    }
    uint64_t type = x86_read_reg(cpu, op->src, x86_code64(cpu) ? 8 : 4);
    bool with_pcid = type < 2;
    if (type > 3 || descriptor[0] >> 12 || (with_pcid && descriptor[0] && !(cpu->cr4 & CR4_PCIDE)) ||
        (type == 0 && !x86_canonical(descriptor[1]))) {
        return x86_gp0(cpu);
    }
    return mmu_invpcid(cpu, (unsigned)type, descriptor[0], descriptor[1]);
}

/* Caches are coherent: nothing to write back or to lose. */
X86_SYS_HANDLER(cache)
{
    return cpu->cpl ? x86_gp0(cpu) : X86_OK;
}

X86_SYS_HANDLER(clflush)
{
    return mmu_probe(cpu, cpu->ea, 1, MMU_READ);
}
