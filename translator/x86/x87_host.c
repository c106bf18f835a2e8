/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves the guest's x87/MMX state out of the host's registers.
 *
 * Generated code runs x87 and MMX instructions on the host's own unit and leaves the state there, so that a block
 * without them costs nothing. C code that looks at it, or that may use the unit itself, calls x86_x87_sync() first.
 */
#include "translator/x86/cpu.h"

void x86_x87_sync(struct x86_cpu *cpu)
{
    if (!cpu->x87_live)
        return;
    cpu->x87_live = false;
#if defined(__x86_64__)
    /* FNINIT: compiled code expects an empty stack and the default control word. It also drops a pending exception,
     * which stays pending in the saved image. */
    __asm__ volatile("fxsave64 %0\n\tfninit" : "=m"(cpu->fx));
#endif
}
