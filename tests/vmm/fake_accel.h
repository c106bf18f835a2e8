/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_accel: an accelerator for tests, whose guest code is a C function.
 *
 * vcpu_run() calls `program` on the vCPU's thread; it does its device accesses through fake_host() and
 * returns an exit. Each vCPU keeps the state that it was loaded with, and remembers kicks.
 */
#pragma once

#include <stdatomic.h>

#include "accel/accel.h"

struct fake_guest {
    enum accel_exit (*program)(struct fake_guest *guest, unsigned vcpu);
    void *opaque;
    const struct accel_host_ops *host;
    void *host_opaque;
    struct x86_vcpu_state state[16];
    _Atomic unsigned runs[16], kicks[16], notified[16];
    unsigned fail_create; /* this vCPU cannot be created (index + 1), or 0 */
};

extern struct fake_guest fake_guest; /* the one guest; tests set it before vm_create */
extern const struct accel_ops fake_accel_ops;
