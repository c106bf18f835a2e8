/* SPDX-License-Identifier: Apache-2.0 */
/* metal64: a fault that cannot be delivered, nor the double fault after it, shuts the processor down, and this board resets
 * (SDM 3A 6.15, #DF). The guest starts again, with memory as it was loaded, for ever: its observer counts. */
#include "metal.h"

const char metal_name[] = "reset";

static volatile uint32_t starts;

void metal_main(void)
{
    static const struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) nothing = {0, 0};
    if (starts++) {
        metal_fail("memory was not loaded again");
    }
    CHECK(cr2_read(), 0);
    CHECK(dr7_read(), 0x400);
    metal_print("metal: note shuts down\n");
    __asm__ volatile("lidt %0; mov %1, %%cr2; mov %1, %%dr7; ud2" ::"m"(nothing), "r"((word)0x455));
}
