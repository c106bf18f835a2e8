/* SPDX-License-Identifier: Apache-2.0 */
/* Runs guest_modes.S from real mode to 64-bit user code in every tier. */
#include <glib.h>
#include <inttypes.h>
#include <string.h>

#include "tests/translator/sys_machine.h"

extern const uint8_t guest_start[], guest_end[], guest_gates[];

#define GUEST_BASE  0x8000u
#define GUEST_IDT32 0x4000u
#define GUEST_IDT64 0x5000u

static const char expected[] = "RideqF"              /* real mode: INT, #DE, IRQ, far call */
                               "Ppu.G31Cg2v"         /* protected: rings, call gate, virtual-8086 mode */
                               "L6bu.f.G.qNnN."      /* long mode: exceptions, STI shadow, NMI blocking */
                               "USs1GtttttSttttttx2" /* 64-bit user code: SYSCALL, single step */
                               "c1m2Z";              /* compatibility mode */

static void build_tables(struct machine *machine)
{
    const uint32_t *gate = (const uint32_t *)guest_gates;
    for (; gate[0]; gate += 4) {
        if (gate[0] == 32) {
            uint64_t raw =
                (gate[2] & 0xffff) | 8u << 16 | (uint64_t)gate[3] << 40 | (uint64_t)(gate[2] >> 16) << 48;
            machine_write64(machine, GUEST_IDT32 + gate[1] * 8, raw);
        } else {
            uint64_t raw =
                (gate[2] & 0xffff) | 0x38u << 16 | (uint64_t)gate[3] << 40 | (uint64_t)(gate[2] >> 16) << 48;
            machine_write64(machine, GUEST_IDT64 + gate[1] * 16, raw);
        }
    }
    machine_write64(machine, 0x3000 + 4, 0x7000 | UINT64_C(0x10) << 32); /* ESP0, SS0 */
    machine_write64(machine, 0x3400 + 4, 0x7000);                        /* RSP0 */
    machine_write64(machine, 0x10000, 0x11000 | 7);
    machine_write64(machine, 0x11000, 0x12000 | 7);
    machine_write64(machine, 0x12000, 0x87);
    machine_write64(machine, 0x12008, 0x200087);
}

static void run_in(enum engine_tier tier)
{
    struct machine machine;
    machine_create(&machine, tier);
    memcpy(machine.ram + GUEST_BASE, guest_start, (size_t)(guest_end - guest_start));
    build_tables(&machine);
    struct x86_cpu *cpu = machine.cpu;
    cpu->seg[SEG_CS].sel = GUEST_BASE >> 4;
    cpu->seg[SEG_CS].base = GUEST_BASE;
    cpu->rip = 0;
    x86_state_changed(cpu, 0);
    enum x86_run_exit exit = x86_run(cpu);
    g_test_message("text '%s' rip %#" PRIx64 " mode %#x", machine.text, cpu->rip, cpu->mode);
    g_assert_cmpstr(machine.text, ==, expected);
    g_assert_cmpint(exit, ==, X86_RUN_HLT);
    machine_destroy(&machine);
}

/* Broken if it fails: an application processor does not get from SIPI to the kernel, or a mode loses interrupts. */
static void test_interpreter(void)
{
    run_in(ENGINE_INTERPRETER);
}

/* The same through generated code. */
static void test_t0(void)
{
    run_in(ENGINE_T0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sys/guest/interpreter", test_interpreter);
    g_test_add_func("/sys/guest/t0", test_t0);
    return g_test_run();
}
