/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine: one virtual machine from its start to its end; owns everything in this process.
 *
 *   starting    chips, devices and vCPUs are made, the kernel is loaded      -> running, or an error and exit 1
 *   running     the main thread serves the control channel and the events below
 *   resetting   all vCPUs parked; chips and devices reset, RAM cleared, the same kernel loaded again -> running
 *   ended       vCPUs gone, console written out, exit status decided
 *
 * Events come from vCPU threads (guest shuts down, resets, triple-faults; the accelerator fails), from the
 * broker (protocol/vmm_control.h) and from signals (SIGTERM, SIGINT: end at once). A vCPU that raises one
 * stops before its next instruction; the main thread does the rest.
 *
 * Owner thread: main.
 */
#pragma once

#include "vmm/options.h"

/* Runs it to its end. The process' exit status: 0 after the guest shut down or was told to quit, else 1. Logs
 * the cause. Takes the descriptors that it uses out of *options. */
int machine_run(struct options *options);
/* The answer to --cpu help: models, features, and what runs on this host. */
void machine_cpu_help(void);
