/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linux bzImage through its 64-bit entry point, or, a kernel for i386, through its 32-bit one (kernel
 * Documentation/arch/x86/boot.rst, zero-page.rst).
 */
#include "vmm/x86/boot_internal.h"

#include <errno.h>
#include <string.h>

#include "vmm/x86/layout.h"

#define SECTOR         512u
#define HEADER_OFFSET  0x1f1u
#define HEADER_BYTES   (0x268u - HEADER_OFFSET) /* up to and with init_size and handover_offset */
#define PARAMS_BYTES   4096u
#define ENTRY64_OFFSET 0x200u

#define XLF_KERNEL_64    1u
#define LOADER_UNDEFINED 0xff
#define E820_TABLE_MAX   128u

/* Offsets in the file and, as they are the same, in boot_params. */
enum {
    OFF_ACPI_RSDP = 0x070,
    OFF_E820_ENTRIES = 0x1e8,
    OFF_SETUP_SECTS = 0x1f1,
    OFF_SYSSIZE = 0x1f4,
    OFF_VID_MODE = 0x1fa,
    OFF_VERSION = 0x206,
    OFF_TYPE_OF_LOADER = 0x210,
    OFF_LOADFLAGS = 0x211,
    OFF_RAMDISK_IMAGE = 0x218,
    OFF_RAMDISK_SIZE = 0x21c,
    OFF_CMD_LINE_PTR = 0x228,
    OFF_INITRD_ADDR_MAX = 0x22c,
    OFF_KERNEL_ALIGNMENT = 0x230,
    OFF_RELOCATABLE = 0x234,
    OFF_XLOADFLAGS = 0x236,
    OFF_CMDLINE_SIZE = 0x238,
    OFF_PREF_ADDRESS = 0x258,
    OFF_INIT_SIZE = 0x260,
    OFF_E820_TABLE = 0x2d0,
};

struct setup {
    uint8_t params[PARAMS_BYTES]; /* the zero page in the making */
    uint64_t setup_bytes;         /* where the kernel proper starts in the file */
    uint64_t kernel_bytes;
    uint64_t init_bytes; /* memory it needs from its load address on */
    uint64_t pref_address, alignment;
    uint64_t initrd_max, cmdline_max;
    bool relocatable;
    bool wide; /* has a 64-bit entry */
};

static uint64_t get(const uint8_t *bytes, unsigned offset, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, bytes + offset, size);
    return value;
}

static void put(uint8_t *bytes, unsigned offset, unsigned size, uint64_t value)
{
    memcpy(bytes + offset, &value, size);
}

static int check_sizes(const struct boot_job *job, struct setup *setup)
{
    uint64_t sectors = get(setup->params, OFF_SETUP_SECTS, 1);
    uint64_t claimed = get(setup->params, OFF_SYSSIZE, 4) * 16;

    setup->setup_bytes = ((sectors ? sectors : 4) + 1) * SECTOR;
    if (setup->setup_bytes >= job->kernel_bytes)
        return boot_fail(job, -ENOEXEC, "the kernel image is truncated: copy it again");
    setup->kernel_bytes = job->kernel_bytes - setup->setup_bytes;
    /* syssize counts paragraphs, rounded up; what follows it (a signature) is not loaded. */
    if (claimed == 0 || claimed > setup->kernel_bytes + 15)
        return boot_fail(job, -ENOEXEC, "the kernel image is truncated: copy it again");
    if (claimed < setup->kernel_bytes)
        setup->kernel_bytes = claimed;
    return 0;
}

static int read_setup(const struct boot_job *job, struct setup *setup)
{
    int result =
        boot_read(job->source->kernel_fd, HEADER_OFFSET, setup->params + HEADER_OFFSET, HEADER_BYTES);
    const uint8_t *p = setup->params;

    if (result < 0)
        return boot_fail(job, -ENOEXEC, "the kernel image is truncated: copy it again");
    /* The header ends where its first jump goes to; what comes after it belongs to no field. */
    unsigned header_end = 0x202 + p[0x201];
    if (header_end < HEADER_OFFSET + HEADER_BYTES)
        memset(setup->params + header_end, 0, HEADER_OFFSET + HEADER_BYTES - header_end);
    if (get(p, OFF_VERSION, 2) < 0x20c)
        return boot_fail(job, -ENOEXEC,
                         "the kernel speaks boot protocol %u.%02u, 2.12 is needed: take a newer kernel",
                         (unsigned)get(p, OFF_VERSION + 1, 1), (unsigned)get(p, OFF_VERSION, 1));
    result = check_sizes(job, setup);
    if (result < 0)
        return result;
    setup->wide = get(p, OFF_XLOADFLAGS, 2) & XLF_KERNEL_64;
    setup->relocatable = get(p, OFF_RELOCATABLE, 1);
    setup->alignment = get(p, OFF_KERNEL_ALIGNMENT, 4);
    setup->pref_address = get(p, OFF_PREF_ADDRESS, 8);
    setup->init_bytes = get(p, OFF_INIT_SIZE, 4);
    setup->initrd_max = get(p, OFF_INITRD_ADDR_MAX, 4);
    setup->cmdline_max = get(p, OFF_CMDLINE_SIZE, 4) + 1;
    if (setup->init_bytes < setup->kernel_bytes)
        setup->init_bytes = setup->kernel_bytes;
    if (setup->alignment == 0 || (setup->alignment & (setup->alignment - 1)))
        return boot_fail(job, -ENOEXEC,
                         "the kernel's header asks for an impossible alignment: the file is damaged");
    return 0;
}

static bool fits(const struct boot_job *job, const struct setup *setup, gpa_t at)
{
    return at >= LAYOUT_MIB_BASE && boot_ram_after(job->ram, at) >= setup->init_bytes;
}

/* The preferred address when there is RAM; else, for a relocatable kernel, the lowest that is aligned. */
static int choose_address(const struct boot_job *job, const struct setup *setup, gpa_t *ret_at)
{
    gpa_t lowest = (LAYOUT_MIB_BASE + setup->alignment - 1) & ~(setup->alignment - 1);

    if (setup->pref_address < LAYOUT_HOLE_BASE && fits(job, setup, setup->pref_address)) {
        *ret_at = setup->pref_address;
        return 0;
    }
    if (setup->relocatable && fits(job, setup, lowest)) {
        *ret_at = lowest;
        return 0;
    }
    return boot_fail(job, -ENOMEM, "the kernel needs %llu MiB at %#llx: raise --memory",
                     (unsigned long long)(setup->init_bytes / MIB + 1),
                     (unsigned long long)setup->pref_address);
}

static void put_e820(const struct boot_job *job, uint8_t *params)
{
    struct boot_e820 entries[BOOT_E820_MAX];
    unsigned count = boot_memory_map(job->ram, entries);

    _Static_assert(BOOT_E820_MAX <= E820_TABLE_MAX, "the zero page holds them");
    put(params, OFF_E820_ENTRIES, 1, count);
    for (unsigned i = 0; i < count; i++) {
        put(params, OFF_E820_TABLE + i * 20, 8, entries[i].base);
        put(params, OFF_E820_TABLE + i * 20 + 8, 8, entries[i].bytes);
        put(params, OFF_E820_TABLE + i * 20 + 16, 4, entries[i].type);
    }
}

/* Identity map of the first 4 GiB with 2 MiB pages. */
static int place_page_tables(const struct boot_job *job)
{
    uint64_t *tables = ram_lookup(job->ram, BOOT_PAGE_TABLES, 6 * 4096);

    if (!tables)
        return -EFAULT;
    memset(tables, 0, 6 * 4096);
    tables[0] = (BOOT_PAGE_TABLES + 4096) | 3;
    for (uint64_t i = 0; i < 4; i++)
        tables[512 + i] = (BOOT_PAGE_TABLES + 4096 * (2 + i)) | 3;
    for (uint64_t i = 0; i < 4 * 512; i++)
        tables[1024 + i] = i << 21 | 0x83;
    return 0;
}

int boot_load_bzimage(const struct boot_job *job, struct boot_entry *ret_entry)
{
    static const uint64_t gdt64[4] = {0, 0, UINT64_C(0x00af9b000000ffff), UINT64_C(0x00cf93000000ffff)};
    static const uint64_t gdt32[4] = {0, 0, UINT64_C(0x00cf9b000000ffff), UINT64_C(0x00cf93000000ffff)};
    struct setup setup = {0};
    gpa_t kernel = 0, initrd = 0;
    void *params, *table;
    int result = read_setup(job, &setup);

    if (result == 0)
        result = choose_address(job, &setup, &kernel);
    if (result < 0)
        return result;
    result = boot_read_to(job, job->source->kernel_fd, setup.setup_bytes, kernel, setup.kernel_bytes);
    if (result < 0)
        return boot_fail(job, result, "cannot read the kernel: %s", strerror(-result));
    result = boot_place_cmdline(job, setup.cmdline_max);
    if (result == 0)
        result = boot_place_initrd(job, kernel + setup.init_bytes, setup.initrd_max, &initrd);
    if (result < 0)
        return result;

    put(setup.params, OFF_ACPI_RSDP, 8, job->rsdp);
    put(setup.params, OFF_VID_MODE, 2, 0xffff);
    put(setup.params, OFF_TYPE_OF_LOADER, 1, LOADER_UNDEFINED);
    put(setup.params, OFF_RAMDISK_IMAGE, 4, initrd);
    put(setup.params, OFF_RAMDISK_SIZE, 4, initrd ? job->initrd_bytes : 0);
    put(setup.params, OFF_CMD_LINE_PTR, 4, BOOT_CMDLINE);
    put_e820(job, setup.params);

    params = ram_lookup(job->ram, BOOT_PARAMS, PARAMS_BYTES);
    table = ram_lookup(job->ram, BOOT_GDT, sizeof(gdt64));
    if (!params || !table || place_page_tables(job) < 0)
        return boot_fail(job, -EFAULT, "no memory for the boot data: raise --memory");
    memcpy(params, setup.params, PARAMS_BYTES);
    memcpy(table, setup.wide ? gdt64 : gdt32, sizeof(gdt64));
    *ret_entry = (struct boot_entry){.kind = setup.wide ? BOOT_LINUX64 : BOOT_LINUX32,
                                     .entry = kernel + (setup.wide ? ENTRY64_OFFSET : 0),
                                     .info = BOOT_PARAMS};
    return 0;
}
