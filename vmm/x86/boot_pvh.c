/* SPDX-License-Identifier: Apache-2.0 */
/* ELF kernels with a PVH entry note (Xen's public headers start_info.h and elfnote.h). */
#include "vmm/x86/boot_internal.h"

#include <assert.h>
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "vmm/x86/layout.h"

#define NOTE_PHYS32_ENTRY   18u
#define START_INFO_MAGIC    0x336ec578u
#define PROGRAM_HEADERS_MAX 64u
#define NOTES_BYTES_MAX     (64 * KIB)

struct start_info {
    uint32_t magic, version, flags, modules;
    uint64_t module_list, cmdline, rsdp, memory_map;
    uint32_t memory_entries, reserved;
};
static_assert(sizeof(struct start_info) == 56, "hvm_start_info version 1");

struct start_module {
    uint64_t base, bytes, cmdline, reserved;
};
static_assert(sizeof(struct start_module) == 32, "hvm_modlist_entry");

struct start_memory {
    uint64_t base, bytes;
    uint32_t type, reserved;
};
static_assert(sizeof(struct start_memory) == 24, "hvm_memmap_table_entry");

/* All of it lies in the page at BOOT_PARAMS. */
struct start_page {
    struct start_info info;
    struct start_module module;
    struct start_memory memory[BOOT_E820_MAX];
};
static_assert(sizeof(struct start_page) <= 4096, "one page");

/* What loading needs of a program header, for both ELF classes. */
struct program {
    uint32_t type;
    uint64_t offset, gpa, file_bytes, memory_bytes, align;
};

struct elf {
    bool wide; /* 64-bit class */
    uint64_t table;
    unsigned count, entry_bytes;
};

static int truncated(const struct boot_job *job)
{
    return boot_fail(job, -ENOEXEC, "the ELF kernel is truncated or damaged: copy it again");
}

static int read_elf_header(const struct boot_job *job, struct elf *elf)
{
    union {
        unsigned char ident[EI_NIDENT];
        Elf32_Ehdr e32;
        Elf64_Ehdr e64;
    } header = {0};
    int fd = job->source->kernel_fd;

    if (boot_read(fd, 0, header.ident, EI_NIDENT) < 0)
        return truncated(job);
    if (header.ident[EI_DATA] != ELFDATA2LSB ||
        (header.ident[EI_CLASS] != ELFCLASS32 && header.ident[EI_CLASS] != ELFCLASS64))
        return boot_fail(job, -ENOEXEC, "the ELF kernel is not for x86");
    elf->wide = header.ident[EI_CLASS] == ELFCLASS64;
    if (boot_read(fd, 0, &header, elf->wide ? sizeof(header.e64) : sizeof(header.e32)) < 0)
        return truncated(job);
    uint16_t machine = elf->wide ? header.e64.e_machine : header.e32.e_machine;
    if (machine != EM_X86_64 && machine != EM_386)
        return boot_fail(job, -ENOEXEC, "the ELF kernel is not for x86");
    elf->table = elf->wide ? header.e64.e_phoff : header.e32.e_phoff;
    elf->count = elf->wide ? header.e64.e_phnum : header.e32.e_phnum;
    elf->entry_bytes = elf->wide ? header.e64.e_phentsize : header.e32.e_phentsize;
    if (elf->count == 0 || elf->count > PROGRAM_HEADERS_MAX ||
        elf->entry_bytes != (elf->wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
        return truncated(job);
    return 0;
}

static int read_program(const struct boot_job *job, const struct elf *elf, unsigned index,
                        struct program *ret)
{
    uint64_t at;

    if (__builtin_add_overflow(elf->table, (uint64_t)index * elf->entry_bytes, &at))
        return truncated(job);
    if (elf->wide) {
        Elf64_Phdr p;

        if (boot_read(job->source->kernel_fd, at, &p, sizeof(p)) < 0)
            return truncated(job);
        *ret = (struct program){p.p_type, p.p_offset, p.p_paddr, p.p_filesz, p.p_memsz, p.p_align};
    } else {
        Elf32_Phdr p;

        if (boot_read(job->source->kernel_fd, at, &p, sizeof(p)) < 0)
            return truncated(job);
        *ret = (struct program){p.p_type, p.p_offset, p.p_paddr, p.p_filesz, p.p_memsz, p.p_align};
    }
    return 0;
}

static int load_segment(const struct boot_job *job, const struct program *program, gpa_t *top)
{
    uint8_t *host;
    int result;

    if (program->memory_bytes == 0)
        return 0;
    if (program->file_bytes > program->memory_bytes)
        return truncated(job);
    /* Boot data lives below 1 MiB and must not be overwritten. */
    host = program->gpa >= LAYOUT_MIB_BASE ? ram_lookup(job->ram, program->gpa, program->memory_bytes) : NULL;
    if (!host)
        return boot_fail(job, -ENOMEM, "the kernel needs memory at %#llx: raise --memory",
                         (unsigned long long)program->gpa);
    result = boot_read(job->source->kernel_fd, program->offset, host, program->file_bytes);
    if (result < 0)
        return truncated(job);
    memset(host + program->file_bytes, 0, program->memory_bytes - program->file_bytes);
    if (program->gpa + program->memory_bytes > *top)
        *top = program->gpa + program->memory_bytes;
    return 0;
}

/* Looks through a note segment for the PVH entry; leaves *entry alone when it is not there. */
static int scan_notes(const struct boot_job *job, const struct program *program, uint64_t *entry)
{
    uint8_t notes[4096];
    uint64_t left = program->file_bytes, at = program->offset;
    uint64_t align = program->align == 8 ? 8 : 4;

    if (left > NOTES_BYTES_MAX)
        return truncated(job);
    while (left >= sizeof(Elf32_Nhdr)) {
        Elf32_Nhdr note;
        uint64_t name_bytes, total;

        if (boot_read(job->source->kernel_fd, at, &note, sizeof(note)) < 0)
            return truncated(job);
        name_bytes = (note.n_namesz + align - 1) & ~(align - 1);
        total = sizeof(note) + name_bytes + ((note.n_descsz + align - 1) & ~(align - 1));
        if (total > left)
            break; /* the last one need not be padded, but ours always fits */
        if (note.n_namesz == 4 && note.n_type == NOTE_PHYS32_ENTRY && note.n_descsz <= 8 &&
            note.n_descsz >= 4) {
            if (boot_read(job->source->kernel_fd, at + sizeof(note), notes, name_bytes + note.n_descsz) < 0)
                return truncated(job);
            if (memcmp(notes, "Xen", 4) == 0) {
                uint64_t value = 0;

                memcpy(&value, notes + name_bytes, note.n_descsz);
                *entry = value;
                return 0;
            }
        }
        at += total;
        left -= total;
    }
    return 0;
}

static int place_start_info(const struct boot_job *job, gpa_t initrd)
{
    static const uint64_t gdt[4] = {0, 0, UINT64_C(0x00cf9b000000ffff), UINT64_C(0x00cf93000000ffff)};
    struct boot_e820 map[BOOT_E820_MAX];
    struct start_page page = {.info = {
                                  .magic = START_INFO_MAGIC,
                                  .version = 1,
                                  .cmdline = BOOT_CMDLINE,
                                  .rsdp = job->rsdp,
                                  .memory_map = BOOT_PARAMS + offsetof(struct start_page, memory),
                              }};
    void *host = ram_lookup(job->ram, BOOT_PARAMS, sizeof(page));
    void *table = ram_lookup(job->ram, BOOT_GDT, sizeof(gdt));

    if (!host || !table)
        return boot_fail(job, -EFAULT, "no memory for the boot data: raise --memory");
    if (initrd) {
        page.info.modules = 1;
        page.info.module_list = BOOT_PARAMS + offsetof(struct start_page, module);
        page.module.base = initrd;
        page.module.bytes = job->initrd_bytes;
    }
    page.info.memory_entries = boot_memory_map(job->ram, map);
    for (unsigned i = 0; i < page.info.memory_entries; i++)
        page.memory[i] =
            (struct start_memory){.base = map[i].base, .bytes = map[i].bytes, .type = map[i].type};
    memcpy(host, &page, sizeof(page));
    memcpy(table, gdt, sizeof(gdt));
    return 0;
}

int boot_load_pvh(const struct boot_job *job, struct boot_entry *ret_entry)
{
    uint64_t entry = UINT64_MAX;
    gpa_t top = LAYOUT_MIB_BASE, initrd = 0;
    struct elf elf = {0};
    int result = read_elf_header(job, &elf);

    for (unsigned i = 0; result == 0 && i < elf.count; i++) {
        struct program program = {0};

        result = read_program(job, &elf, i, &program);
        if (result == 0 && program.type == PT_LOAD)
            result = load_segment(job, &program, &top);
        else if (result == 0 && program.type == PT_NOTE && entry == UINT64_MAX)
            result = scan_notes(job, &program, &entry);
    }
    if (result < 0)
        return result;
    if (entry == UINT64_MAX)
        return boot_fail(job, -ENOEXEC,
                         "the ELF kernel has no PVH entry: build it with CONFIG_PVH, or give its bzImage");
    if (entry > UINT32_MAX || !ram_lookup(job->ram, entry, 1))
        return truncated(job);
    result = boot_place_cmdline(job, BOOT_CMDLINE_MAX);
    if (result == 0)
        result = boot_place_initrd(job, top, UINT32_MAX, &initrd);
    if (result == 0)
        result = place_start_info(job, initrd);
    if (result == 0)
        *ret_entry = (struct boot_entry){.kind = BOOT_PVH, .entry = entry, .info = BOOT_PARAMS};
    return result;
}
