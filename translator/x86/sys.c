/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch of system instructions, and the ones that are a few lines. */
#include "translator/vm.h"
#include "translator/x86/sys_internal.h"
#include "translator/x86/vec_internal.h"

#include <immintrin.h>

int x86_sys_read(struct x86_cpu *cpu, const struct ir_op *op, unsigned size, uint64_t *ret_value)
{
    if (!(op->flags & IRF_SRC_MEM)) {
        *ret_value = x86_read_reg(cpu, op->src, size);
        return X86_OK;
    }
    uint64_t value = 0;
    int r = x86_align_check(cpu, cpu->ea, size);
    r = r ? r : mmu_read(cpu, cpu->ea, size, &value);
    if (!r) {
        *ret_value = value;
    }
    return r;
}

int x86_sys_write(struct x86_cpu *cpu, const struct ir_op *op, unsigned reg_size, unsigned mem_size,
                  uint64_t value)
{
    if (op->flags & IRF_DST_MEM) {
        int r = x86_align_check(cpu, cpu->ea, mem_size);
        return r ? r : mmu_write(cpu, cpu->ea, mem_size, &value);
    }
    x86_write_reg(cpu, op->dst, reg_size, value);
    return X86_OK;
}

static X86_SYS_HANDLER(ud)
{
    return x86_raise(cpu, EXC_UD);
}

static X86_SYS_HANDLER(gp)
{
    return x86_gp0(cpu);
}

static X86_SYS_HANDLER(nm)
{
    return x86_raise(cpu, EXC_NM);
}

static X86_SYS_HANDLER(hlt)
{
    if (cpu->cpl) {
        return x86_gp0(cpu);
    }
    x86_set_rip(cpu, cpu->next_rip);
    cpu->interrupt_shadow = SHADOW_NONE;
    if (cpu->step || cpu->debug_hits) {
        return X86_JUMP; /* the trap that follows ends the halt */
    }
    cpu->halted = true;
    cpu->exit_reason = X86_RUN_HLT;
    return X86_EXIT;
}

/* --- time --------------------------------------------------------------------------------------------------- */

static bool tsc_forbidden(const struct x86_cpu *cpu)
{
    return cpu->cr4 & CR4_TSD && cpu->cpl;
}

static X86_SYS_HANDLER(rdtsc)
{
    if (tsc_forbidden(cpu)) {
        return x86_gp0(cpu);
    }
    uint64_t tsc = x86_host_tsc_ordered() + cpu->tsc_offset;
    cpu->gpr[IR_RAX] = (uint32_t)tsc;
    cpu->gpr[IR_RDX] = tsc >> 32;
    if (op->sub == X86_SYS_RDTSCP) {
        cpu->gpr[IR_RCX] = (uint32_t)cpu->tsc_aux;
    }
    return X86_OK;
}

/* No performance counter exists, so every index is invalid. */
static X86_SYS_HANDLER(rdpmc)
{
    return x86_gp0(cpu);
}

static X86_SYS_HANDLER(rdpid)
{
    x86_write_reg(cpu, op->dst, 8, cpu->tsc_aux);
    return X86_OK;
}

/* --- random numbers ----------------------------------------------------------------------------------------- */

__attribute__((target("rdrnd"))) static bool host_rdrand(uint64_t *ret_value)
{
    unsigned long long value;
    for (unsigned i = 0; i < 10; i++) {
        if (_rdrand64_step(&value)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

__attribute__((target("rdseed"))) static bool host_rdseed(uint64_t *ret_value)
{
    unsigned long long value;
    for (unsigned i = 0; i < 100; i++) {
        if (_rdseed64_step(&value)) {
            *ret_value = value;
            return true;
        }
        _mm_pause();
    }
    return false;
}

/* The features are offered only where the host has them (x86_supported_features()). */
static X86_SYS_HANDLER(random)
{
    uint64_t value = 0;
    bool valid = op->sub == X86_SYS_RDRAND ? host_rdrand(&value) : host_rdseed(&value);
    cpu->rflags &= ~(uint64_t)FLAGS_ARITH;
    cpu->rflags |= valid ? FLAG_CF : 0;
    x86_write_reg(cpu, op->dst, op->size, value);
    return X86_OK;
}

/* --- monitor ------------------------------------------------------------------------------------------------ */

/* An implementation-dependent optimisation: waking at once is always allowed. */
static X86_SYS_HANDLER(monitor)
{
    if (cpu->cpl) {
        return x86_raise(cpu, EXC_UD);
    }
    if (cpu->gpr[IR_RCX] & (op->sub == X86_SYS_MONITOR ? UINT64_MAX : ~UINT64_C(1))) {
        return x86_gp0(cpu);
    }
    return X86_OK;
}

X86_SYS_HANDLER(xlat)
{
    uint8_t value;
    int r = mmu_read(cpu, cpu->ea, 1, &value);
    if (!r) {
        x86_write_reg(cpu, IR_RAX, 1, value);
    }
    return r;
}

/* Bytes whose mask has its top bit set are stored; all of them are checked first. */
X86_SYS_HANDLER(maskmov)
{
    unsigned size = op->size;
    uint8_t data[16], mask[16];
    if (size == 8) {
        int pending = vec_mmx_check(cpu);
        if (pending) {
            return pending;
        }
        vec_mmx_enter(cpu);
        memcpy(data, cpu->fx.st[op->dst & 7], 8);
        memcpy(mask, cpu->fx.st[op->src & 7], 8);
    } else {
        memcpy(data, &cpu->vec[op->dst], 16);
        memcpy(mask, &cpu->vec[op->src], 16);
    }
    bool any = false;
    for (unsigned i = 0; i < size; i++) {
        any |= mask[i] >> 7;
    }
    int r = any ? mmu_probe(cpu, cpu->ea, size, MMU_WRITE) : X86_OK;
    for (unsigned i = 0; !r && i < size; i++) {
        if (mask[i] >> 7) {
            r = mmu_write(cpu, cpu->ea + i, 1, &data[i]);
        }
    }
    return r;
}

__attribute__((target("movdir64b"))) static void host_movdir64b(void *to, const void *from)
{
    _movdir64b(to, from);
}

/* 64 bytes as one write, which only the host's own instruction can do to RAM (it is offered only where the host has it). */
static X86_SYS_HANDLER(movdir64b)
{
    uint8_t data[64];
    gva_t la;
    int r = mmu_read(cpu, cpu->ea, sizeof(data), data);
    r = r ? r
          : x86_seg_address(cpu, SEG_ES, x86_read_reg(cpu, op->src, op->aux), sizeof(data), true, &la);
    if (r) {
        return r;
    }
    if (la & (sizeof(data) - 1)) {
        return x86_gp0(cpu);
    }
    r = mmu_probe(cpu, la, sizeof(data), MMU_WRITE);
    if (r) {
        return r;
    }
    void *host = mmu_host(cpu, la, sizeof(data), MMU_WRITE);
    if (!host) {
        return mmu_write(cpu, la, sizeof(data), data);
    }
    host_movdir64b(host, data);
    return X86_OK;
}

typedef int sys_handler(struct x86_cpu *cpu, const struct ir_op *op);

static sys_handler *const handlers[X86_SYS_COUNT] = {
    [X86_SYS_UD] = x86_sys_ud,
    [X86_SYS_GP] = x86_sys_gp,
    [X86_SYS_NM] = x86_sys_nm,
    [X86_SYS_HLT] = x86_sys_hlt,
    [X86_SYS_CPUID] = x86_sys_cpuid,
    [X86_SYS_RDTSC] = x86_sys_rdtsc,
    [X86_SYS_RDTSCP] = x86_sys_rdtsc,
    [X86_SYS_RDPMC] = x86_sys_rdpmc,
    [X86_SYS_RDPID] = x86_sys_rdpid,
    [X86_SYS_RDMSR] = x86_sys_rdmsr,
    [X86_SYS_WRMSR] = x86_sys_wrmsr,
    [X86_SYS_MOV_FROM_CR] = x86_sys_mov_from_cr,
    [X86_SYS_MOV_TO_CR] = x86_sys_mov_to_cr,
    [X86_SYS_MOV_FROM_DR] = x86_sys_mov_from_dr,
    [X86_SYS_MOV_TO_DR] = x86_sys_mov_to_dr,
    [X86_SYS_CLTS] = x86_sys_clts,
    [X86_SYS_LMSW] = x86_sys_lmsw,
    [X86_SYS_SMSW] = x86_sys_smsw,
    [X86_SYS_LGDT] = x86_sys_load_table,
    [X86_SYS_LIDT] = x86_sys_load_table,
    [X86_SYS_SGDT] = x86_sys_store_table,
    [X86_SYS_SIDT] = x86_sys_store_table,
    [X86_SYS_LLDT] = x86_sys_lldt,
    [X86_SYS_LTR] = x86_sys_ltr,
    [X86_SYS_SLDT] = x86_sys_store_system_selector,
    [X86_SYS_STR] = x86_sys_store_system_selector,
    [X86_SYS_LAR] = x86_sys_lar_lsl,
    [X86_SYS_LSL] = x86_sys_lar_lsl,
    [X86_SYS_VERR] = x86_sys_verify,
    [X86_SYS_VERW] = x86_sys_verify,
    [X86_SYS_ARPL] = x86_sys_arpl,
    [X86_SYS_MOV_TO_SEG] = x86_sys_mov_to_seg,
    [X86_SYS_MOV_FROM_SEG] = x86_sys_mov_from_seg,
    [X86_SYS_POP_SEG] = x86_sys_pop_seg,
    [X86_SYS_PUSH_SEG] = x86_sys_push_seg,
    [X86_SYS_LOAD_FAR_PTR] = x86_sys_load_far_ptr,
    [X86_SYS_JMP_FAR] = x86_sys_jmp_far,
    [X86_SYS_CALL_FAR] = x86_sys_call_far,
    [X86_SYS_RET_FAR] = x86_sys_ret_far,
    [X86_SYS_IRET] = x86_sys_iret,
    [X86_SYS_INT] = x86_sys_int_n,
    [X86_SYS_INT3] = x86_sys_int_n,
    [X86_SYS_INTO] = x86_sys_into,
    [X86_SYS_INT1] = x86_sys_int1,
    [X86_SYS_BOUND] = x86_sys_bound,
    [X86_SYS_SYSCALL] = x86_sys_syscall,
    [X86_SYS_SYSRET] = x86_sys_sysret,
    [X86_SYS_SYSENTER] = x86_sys_sysenter,
    [X86_SYS_SYSEXIT] = x86_sys_sysexit,
    [X86_SYS_PUSHF] = x86_sys_pushf,
    [X86_SYS_POPF] = x86_sys_popf,
    [X86_SYS_CLI] = x86_sys_cli,
    [X86_SYS_STI] = x86_sys_sti,
    [X86_SYS_CLAC] = x86_sys_clac_stac,
    [X86_SYS_STAC] = x86_sys_clac_stac,
    [X86_SYS_SWAPGS] = x86_sys_swapgs,
    [X86_SYS_RDFSBASE] = x86_sys_fsgsbase,
    [X86_SYS_RDGSBASE] = x86_sys_fsgsbase,
    [X86_SYS_WRFSBASE] = x86_sys_fsgsbase,
    [X86_SYS_WRGSBASE] = x86_sys_fsgsbase,
    [X86_SYS_INVLPG] = x86_sys_invlpg,
    [X86_SYS_INVPCID] = x86_sys_invpcid,
    [X86_SYS_INVD] = x86_sys_cache,
    [X86_SYS_WBINVD] = x86_sys_cache,
    [X86_SYS_CLFLUSH] = x86_sys_clflush,
    [X86_SYS_IN] = x86_sys_in,
    [X86_SYS_OUT] = x86_sys_out,
    [X86_SYS_INS] = x86_sys_ins,
    [X86_SYS_OUTS] = x86_sys_outs,
    [X86_SYS_ENTER] = x86_sys_enter,
    [X86_SYS_PUSHA] = x86_sys_pusha,
    [X86_SYS_POPA] = x86_sys_popa,
    [X86_SYS_DAA] = x86_sys_decimal,
    [X86_SYS_DAS] = x86_sys_decimal,
    [X86_SYS_AAA] = x86_sys_decimal,
    [X86_SYS_AAS] = x86_sys_decimal,
    [X86_SYS_AAM] = x86_sys_decimal,
    [X86_SYS_AAD] = x86_sys_decimal,
    [X86_SYS_XLAT] = x86_sys_xlat,
    [X86_SYS_FXSAVE] = x86_sys_fxsave,
    [X86_SYS_FXRSTOR] = x86_sys_fxrstor,
    [X86_SYS_XSAVE] = x86_sys_xsave,
    [X86_SYS_XSAVEOPT] = x86_sys_xsave,
    [X86_SYS_XSAVEC] = x86_sys_xsave,
    [X86_SYS_XSAVES] = x86_sys_xsave,
    [X86_SYS_XRSTOR] = x86_sys_xrstor,
    [X86_SYS_XRSTORS] = x86_sys_xrstor,
    [X86_SYS_XGETBV] = x86_sys_xgetbv,
    [X86_SYS_XSETBV] = x86_sys_xsetbv,
    [X86_SYS_RDPKRU] = x86_sys_pkru,
    [X86_SYS_WRPKRU] = x86_sys_pkru,
    [X86_SYS_LDMXCSR] = x86_sys_ldmxcsr,
    [X86_SYS_STMXCSR] = x86_sys_stmxcsr,
    [X86_SYS_FWAIT] = x86_sys_fwait,
    [X86_SYS_RDRAND] = x86_sys_random,
    [X86_SYS_RDSEED] = x86_sys_random,
    [X86_SYS_MONITOR] = x86_sys_monitor,
    [X86_SYS_MWAIT] = x86_sys_monitor,
    [X86_SYS_MASKMOV] = x86_sys_maskmov,
    [X86_SYS_MOVDIR64B] = x86_sys_movdir64b,
};

/* Where code that a device has written must be noticed (device_writes.h): serialising instructions (SDM 3A 9.3), accesses to
 * devices, and far transfers, which end boot loaders. */
static const bool notices_writes[X86_SYS_COUNT] = {
    [X86_SYS_CPUID] = true,   [X86_SYS_MOV_TO_CR] = true, [X86_SYS_MOV_TO_DR] = true,
    [X86_SYS_WRMSR] = true,   [X86_SYS_INVLPG] = true,    [X86_SYS_INVPCID] = true,
    [X86_SYS_INVD] = true,    [X86_SYS_WBINVD] = true,    [X86_SYS_LGDT] = true,
    [X86_SYS_LIDT] = true,    [X86_SYS_LLDT] = true,      [X86_SYS_LTR] = true,
    [X86_SYS_LMSW] = true,    [X86_SYS_IRET] = true,      [X86_SYS_IN] = true,
    [X86_SYS_OUT] = true,     [X86_SYS_INS] = true,       [X86_SYS_OUTS] = true,
    [X86_SYS_JMP_FAR] = true, [X86_SYS_CALL_FAR] = true,  [X86_SYS_RET_FAR] = true,
};

int x86_sys(struct x86_cpu *cpu, const struct ir_op *op)
{
    int r = handlers[op->sub](cpu, op);
    if (notices_writes[op->sub]) {
        device_writes_sync(cpu);
    }
    return r;
}
