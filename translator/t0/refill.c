/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The refill of the soft TLB, as generated code calls it.
 *
 * It runs with the guest's vector registers still in the host's: this file and what it reaches in the MMU are compiled
 * without them (meson.build: -mgeneral-regs-only).
 */
#include "translator/mmu.h"
#include "translator/t0/t0_internal.h"

void *t0_refill(struct x86_cpu *cpu, gva_t la, uint32_t info)
{
    enum t0_slow_kind kind = info >> 24;
    return mmu_refill(cpu, la, info >> 16 & 0xff, kind == T0_SLOW_READ ? MMU_READ : MMU_WRITE);
}
