/* SPDX-License-Identifier: Apache-2.0 */
/* metal64: more processors (SDM 3A 9.4, 11.6). */
#include "metal.h"

#define TRAMPOLINE 0x8000u
#define ICR_INIT   0x4500u
#define ICR_SIPI   0x4600u

extern const uint8_t metal_trampoline[], metal_trampoline_end[];

static void send(unsigned cpu, uint32_t command)
{
    lapic_write(LAPIC_ICR_HIGH, cpu << 24);
    lapic_write(LAPIC_ICR, command);
    while (lapic_read(LAPIC_ICR) & 0x1000) {
        pause();
    }
}

void metal_start_cpus(unsigned count)
{
    memcpy((void *)(word)TRAMPOLINE, metal_trampoline, (size_t)(metal_trampoline_end - metal_trampoline));
    for (unsigned cpu = 1; cpu < count; cpu++) {
        send(cpu, ICR_INIT);
        send(cpu, ICR_SIPI | TRAMPOLINE >> 12);
    }
}

/* For guests that start none. */
__attribute__((weak)) void metal_cpu_main(unsigned cpu)
{
}

void metal_send_ipi(unsigned cpu, unsigned vector)
{
    send(cpu, 0x4000 | vector);
}
