/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the translator knows about a vCPU when the process has failed, as text for a crash report.
 *
 * Called when nothing can be trusted any more, perhaps from a signal handler in the middle of generated code, while other
 * vCPUs go on: these functions only read, take no lock and allocate nothing. They may fault on what is broken; the caller
 * survives that (vmm/crash.h). No guest memory is shown but the bytes of the block that ran and of that instruction.
 */
#pragma once

#include "protocol/base/host_fault.h"
#include "protocol/base/text_buffer.h"
#include "translator/x86/cpu.h"

/* True if that address lies in the code cache. */
bool report_in_code(const struct x86_cpu *cpu, const uint8_t *host_pc);

/* Registers, control registers, segments, pending exception. In generated code, registers are taken from the host's. */
void report_cpu(const struct x86_cpu *cpu, const struct host_fault *fault, struct text_buffer *out);
/* The block that ran: guest bytes, IR, host code around the fault. */
void report_block(struct x86_cpu *cpu, const struct host_fault *fault, struct text_buffer *out);
/* Where the other vCPUs are, tier, counters. */
void report_vm(const struct x86_cpu *cpu, struct text_buffer *out);
