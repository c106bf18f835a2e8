/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/x86/boot_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/x86/layout.h"

int boot_fail(const struct boot_job *job, int error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(job->why, job->why_bytes, format, arguments);
    va_end(arguments);
    return error;
}

int boot_read(int fd, uint64_t offset, void *buffer, uint64_t bytes)
{
    uint8_t *out = buffer;

    if (offset > INT64_MAX || bytes > INT64_MAX - offset)
        return -ENODATA;
    while (bytes) {
        ssize_t got = pread(fd, out, bytes, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            return -ENODATA;
        out += got;
        offset += (uint64_t)got;
        bytes -= (uint64_t)got;
    }
    return 0;
}

int boot_read_to(const struct boot_job *job, int fd, uint64_t offset, gpa_t gpa, uint64_t bytes)
{
    void *host = ram_lookup(job->ram, gpa, bytes);

    return host ? boot_read(fd, offset, host, bytes) : -EFAULT;
}

uint64_t boot_ram_after(const struct ram *ram, gpa_t gpa)
{
    for (unsigned i = 0; i < ram->region_count; i++) {
        const struct ram_region *region = &ram->regions[i];

        if (gpa >= region->gpa && gpa - region->gpa < region->bytes)
            return region->bytes - (gpa - region->gpa);
    }
    return 0;
}

unsigned boot_memory_map(const struct ram *ram, struct boot_e820 entries[BOOT_E820_MAX])
{
    unsigned count = 0;

    for (unsigned i = 0; i < ram->region_count; i++)
        entries[count++] = (struct boot_e820){ram->regions[i].gpa, ram->regions[i].bytes, BOOT_E820_RAM};
    entries[count++] = (struct boot_e820){LAYOUT_ROM_BASE, LAYOUT_ROM_BYTES, BOOT_E820_RESERVED};
    entries[count++] = (struct boot_e820){LAYOUT_ECAM_BASE, LAYOUT_ECAM_BYTES, BOOT_E820_RESERVED};
    for (unsigned i = 1; i < count; i++) { /* ascending, as loaders give it */
        struct boot_e820 moved = entries[i];
        unsigned at = i;

        for (; at > 0 && entries[at - 1].base > moved.base; at--)
            entries[at] = entries[at - 1];
        entries[at] = moved;
    }
    return count;
}

int boot_place_cmdline(const struct boot_job *job, uint64_t limit_bytes)
{
    size_t bytes = strlen(job->source->cmdline) + 1;
    void *host;

    if (limit_bytes > BOOT_CMDLINE_MAX)
        limit_bytes = BOOT_CMDLINE_MAX;
    if (bytes > limit_bytes)
        return boot_fail(job, -E2BIG,
                         "kernel command line is %zu bytes, the kernel takes %llu: shorten --append",
                         bytes - 1, (unsigned long long)limit_bytes - 1);
    host = ram_lookup(job->ram, BOOT_CMDLINE, bytes);
    if (!host)
        return boot_fail(job, -EFAULT, "no memory for the kernel command line: raise --memory");
    memcpy(host, job->source->cmdline, bytes);
    return 0;
}

int boot_place_initrd(const struct boot_job *job, gpa_t floor, gpa_t last, gpa_t *ret_gpa)
{
    const uint64_t page = 4096;
    gpa_t top = LAYOUT_MIB_BASE + boot_ram_after(job->ram, LAYOUT_MIB_BASE);
    gpa_t at;
    int result;

    if (job->source->initrd_fd < 0 || job->initrd_bytes == 0) {
        *ret_gpa = 0;
        return 0;
    }
    if (last < top - 1)
        top = last + 1;
    if (floor >= top || job->initrd_bytes > top - floor)
        return boot_fail(job, -ENOMEM, "initrd of %llu MiB does not fit beside the kernel: raise --memory",
                         (unsigned long long)(job->initrd_bytes / MIB + 1));
    at = (top - job->initrd_bytes) & ~(page - 1);
    if (at < floor)
        return boot_fail(job, -ENOMEM, "initrd of %llu MiB does not fit beside the kernel: raise --memory",
                         (unsigned long long)(job->initrd_bytes / MIB + 1));
    result = boot_read_to(job, job->source->initrd_fd, 0, at, job->initrd_bytes);
    if (result < 0)
        return boot_fail(job, result, "cannot read the initrd: %s", strerror(-result));
    *ret_gpa = at;
    return 0;
}

static int file_bytes(const struct boot_job *job, const char *what, int fd, uint64_t *ret_bytes)
{
    struct stat status;

    if (fstat(fd, &status) < 0)
        return boot_fail(job, -errno, "cannot read the %s: %s", what, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return boot_fail(job, -EINVAL, "the %s is not a regular file", what);
    *ret_bytes = (uint64_t)status.st_size;
    return 0;
}

int boot_load(struct ram *ram, gpa_t rsdp, const struct boot_source *source, struct boot_entry *ret_entry,
              char *why, size_t why_bytes)
{
    struct boot_job job = {.ram = ram, .rsdp = rsdp, .source = source, .why = why, .why_bytes = why_bytes};
    uint8_t magic[4], header[4];
    int result = file_bytes(&job, "kernel", source->kernel_fd, &job.kernel_bytes);

    if (result == 0 && source->initrd_fd >= 0)
        result = file_bytes(&job, "initrd", source->initrd_fd, &job.initrd_bytes);
    if (result < 0)
        return result;
    if (boot_read(source->kernel_fd, 0, magic, sizeof(magic)) == 0 && memcmp(magic, "\177ELF", 4) == 0)
        return boot_load_pvh(&job, ret_entry);
    if (boot_read(source->kernel_fd, 0x202, header, sizeof(header)) == 0 && memcmp(header, "HdrS", 4) == 0)
        return boot_load_bzimage(&job, ret_entry);
    return boot_fail(
        &job, -ENOEXEC,
        "the kernel is neither a Linux bzImage nor an ELF file with a PVH entry: give a vmlinuz of x86_64");
}

static struct x86_segment flat(uint16_t selector, uint32_t attributes)
{
    return (struct x86_segment){.base = 0, .limit = UINT32_MAX, .attr = attributes, .selector = selector};
}

/* Attributes: present, S, type execute/read accessed (0xb) or read/write accessed (0x3), granularity. */
#define CODE_ATTR (0xbu | X86_ATTR_S | X86_ATTR_P | X86_ATTR_G)
#define DATA_ATTR (0x3u | X86_ATTR_S | X86_ATTR_P | X86_ATTR_G | X86_ATTR_DB)

#define BOOT_CS 0x10u /* the selectors that the Linux boot protocol asks for */
#define BOOT_DS 0x18u

#define CR0_PE   (UINT64_C(1) << 0)
#define CR0_ET   (UINT64_C(1) << 4)
#define CR0_NE   (UINT64_C(1) << 5)
#define CR0_PG   (UINT64_C(1) << 31)
#define CR4_PAE  (UINT64_C(1) << 5)
#define EFER_LME (UINT64_C(1) << 8)
#define EFER_LMA (UINT64_C(1) << 10)

static void enter_long_mode(const struct boot_entry *entry, struct x86_vcpu_state *state)
{
    state->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
    state->cr3 = BOOT_PAGE_TABLES;
    state->cr4 = CR4_PAE;
    state->efer = EFER_LME | EFER_LMA;
    state->seg[X86_CS] = flat(BOOT_CS, CODE_ATTR | X86_ATTR_L);
    state->gpr[6] = entry->info; /* RSI */
    state->gdtr = (struct x86_table_register){.base = BOOT_GDT, .limit = 4 * 8 - 1};
}

static void enter_protected_mode(const struct boot_entry *entry, struct x86_vcpu_state *state)
{
    state->cr0 = CR0_PE | CR0_ET;
    state->cr3 = 0;
    state->cr4 = 0;
    state->efer = 0;
    state->seg[X86_CS] = flat(BOOT_CS, CODE_ATTR | X86_ATTR_DB);
    state->gpr[entry->kind == BOOT_LINUX32 ? 6 : 3] = entry->info; /* ESI, or EBX with PVH */
    state->gdtr = (struct x86_table_register){.base = BOOT_GDT, .limit = 4 * 8 - 1};
}

void boot_entry_state(const struct boot_entry *entry, struct x86_vcpu_state *state)
{
    memset(state->gpr, 0, sizeof(state->gpr));
    state->rip = entry->entry;
    state->rflags = 2;
    for (int i = X86_ES; i <= X86_GS; i++)
        state->seg[i] = flat(BOOT_DS, DATA_ATTR);
    state->seg[X86_LDTR] = (struct x86_segment){.attr = X86_ATTR_UNUSABLE};
    state->seg[X86_TR] = (struct x86_segment){.limit = 0x67, .attr = 0xbu | X86_ATTR_P};
    state->idtr = (struct x86_table_register){0};
    state->halted = 0;
    if (entry->kind == BOOT_LINUX64)
        enter_long_mode(entry, state);
    else
        enter_protected_mode(entry, state);
}
