/* SPDX-License-Identifier: Apache-2.0 */
/* Frequency of the host's TSC. */
#pragma once

#include <stdint.h>

/* In kHz. From CPUID leaf 0x15 where it is complete, else measured against CLOCK_MONOTONIC_RAW (about 30 ms, once per
 * process; error below 5 ppm). */
uint32_t jit_host_tsc_khz(void);
