/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash: what is left of a VMM that found a bug in itself.
 *
 * A failed assertion, a fault in our own code or in generated code (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT,
 * SIGSYS), or an accelerator that cannot go on, makes one report: version and build, host processor, what happened and where,
 * host registers, and what the thread's reporter adds (the vCPU's registers, its block). A guest must not be able to bring
 * this about; if it does, that is the bug.
 *
 * The report goes into a memfd of the broker's (--crash-fd), which is mapped from the start, so that no system call is
 * needed; without one it goes to stderr. The process then dies by the same signal. Reports hold no guest memory but code of the
 * block that ran, and registers.
 *
 * The handler runs on a stack of its own (generated code's stack pointer is not a stack), in sections; a section that faults
 * itself is cut short and the next one begins. The first thread that fails writes; others that fail meanwhile wait for
 * the end.
 *
 * crash_init() comes once, before the sandbox; each thread that runs guest code calls crash_thread_begin(). Any thread
 * may fail.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/host_fault.h"
#include "protocol/base/text_buffer.h"

/* Writes part number `part` of what the thread knows; false when there is none. Only reads; may fault. */
typedef bool (*crash_reporter)(void *opaque, const struct host_fault *fault, unsigned part,
                               struct text_buffer *out);

/* fd: a shared memory file of at least VMM_CONTROL_CRASH_BYTES, borrowed until return, or -1. control_fd: gets EV_PANIC, or -1.
 * 0 or a negative errno. */
int crash_init(int fd, int control_fd);
/* Own thread. `name` and `opaque` are borrowed until crash_thread_end(). 0 or -ENOMEM. */
int crash_thread_begin(const char *name, crash_reporter reporter, void *opaque);
void crash_thread_end(void);

/* An inconsistency that was found without a signal: writes the report and returns; the caller stops the machine. */
void crash_report(const char *what);
