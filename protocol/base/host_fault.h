/* SPDX-License-Identifier: Apache-2.0 */
/* The state of the host's processor where a thread failed, as a signal handler hands it to whoever writes the report. */
#pragma once

#include <stdint.h>

struct host_fault {
    const uint8_t *pc; /* NULL: no fault, the failure was noticed by a check; gpr means nothing */
    uint64_t gpr[16];  /* x86-64, in the order of the instruction encoding */
};
