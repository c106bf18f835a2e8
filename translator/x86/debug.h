/* SPDX-License-Identifier: Apache-2.0 */
/* Hardware breakpoints, as the MMU and the run loop see them. On the vCPU's thread. */
#pragma once

#include "translator/x86/cpu.h"

/* After every change of DR7: computes cpu->debug_active. */
void x86_debug_changed(struct x86_cpu *cpu);
/* Notes a data access or a port access, only while cpu->debug_active: cpu->debug_hits gets the matching ones. */
void x86_debug_access(struct x86_cpu *cpu, gva_t la, unsigned size, bool write);
void x86_debug_io(struct x86_cpu *cpu, unsigned port, unsigned size);
/* Executes one instruction unless a breakpoint stops before it: results as of engine_run(). */
int x86_debug_step(struct x86_cpu *cpu);
