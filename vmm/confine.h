/* SPDX-License-Identifier: Apache-2.0 */
/*
 * confine: what bulkhead-vmm keeps when it gives up everything else (protocol/base/sandbox.h), before it reads the first
 * byte of kernel, server or broker.
 *
 * It keeps its descriptors (RAM, kernel, initrd, console, control channel, device sockets, two of its own to wake up) and
 * the system calls of threads, events, messages and code generation. Guest code that breaks out of the translator finds
 * no path, no network, no other process.
 *
 * Owner thread: main, while it is the only one.
 */
#pragma once

#include "vmm/options.h"

/* 0 or a negative errno and one line in `why`. A weaker cage than intended is logged as a warning. */
int confine(const struct options *options, int event_fd, int signal_fd, char *why, size_t why_bytes);
