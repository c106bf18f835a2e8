/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the kernel loaders: the input is the kernel file, behind one byte that adds an initrd or shortens memory. No
 * input may crash; what loads has its entry and its boot data in RAM.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/x86/boot.h"
#include "vmm/x86/layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct ram ram[2];
static int kernel_fd, initrd_fd;

static void set_up(void)
{
    if (ram_init(&ram[0], -1, 32 * MIB) < 0 || ram_init(&ram[1], -1, 64 * MIB) < 0)
        abort();
    kernel_fd = memfd_create("kernel", MFD_CLOEXEC);
    initrd_fd = memfd_create("initrd", MFD_CLOEXEC);
    if (kernel_fd < 0 || initrd_fd < 0 || ftruncate(initrd_fd, 12345) < 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct boot_source source = {.initrd_fd = -1, .cmdline = "console=ttyS0"};
    struct x86_vcpu_state state = {0};
    struct boot_entry entry;
    struct ram *memory;
    char why[256] = "";

    if (!kernel_fd)
        set_up();
    if (bytes < 1 || bytes > 64 * KIB)
        return -1;
    memory = &ram[data[0] & 1];
    if (data[0] & 2)
        source.initrd_fd = initrd_fd;
    source.kernel_fd = kernel_fd;
    if (ftruncate(kernel_fd, 0) < 0 || pwrite(kernel_fd, data + 1, bytes - 1, 0) != (ssize_t)bytes - 1)
        abort();
    if (boot_load(memory, LAYOUT_ROM_BASE, &source, &entry, why, sizeof(why)) < 0) {
        if (!why[0])
            abort(); /* a refusal without a reason */
        return 0;
    }
    boot_entry_state(&entry, &state);
    if (!ram_lookup(memory, state.rip, 1) || !ram_lookup(memory, entry.info, 4096))
        abort();
    return 0;
}
