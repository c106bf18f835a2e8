/* SPDX-License-Identifier: Apache-2.0 */
/* Broken if these fail: a damaged or hostile kernel file crashes the VMM, or a good one is entered in a wrong
 * state. */
#include "vmm/x86/boot.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/x86/layout.h"

static char why[512];

static int file_of(const void *bytes, size_t count)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(write(fd, bytes, count), ==, count);
    return fd;
}

static void put(uint8_t *bytes, unsigned offset, unsigned size, uint64_t value)
{
    memcpy(bytes + offset, &value, size);
}

#define BZ_BYTES (512 * 3 + 8192)

/* A minimal image: two setup sectors and 8 KiB of kernel. */
static void make_bzimage(uint8_t image[BZ_BYTES])
{
    memset(image, 0, BZ_BYTES);
    put(image, 0x1f1, 1, 2);
    put(image, 0x1f4, 4, 8192 / 16);
    put(image, 0x1fe, 2, 0xaa55);
    put(image, 0x200, 2, 0x6aeb);
    memcpy(image + 0x202, "HdrS", 4);
    put(image, 0x206, 2, 0x20f);
    put(image, 0x22c, 4, 0x7fffffff);
    put(image, 0x230, 4, 0x200000);
    put(image, 0x234, 1, 1);
    put(image, 0x236, 2, 1);
    put(image, 0x238, 4, 2047);
    put(image, 0x258, 8, 0x1000000);
    put(image, 0x260, 4, 0x100000);
    memset(image + 512 * 3, 0x90, 8192);
}

static int try_boot(struct ram *ram, const void *image, size_t bytes, int initrd_fd, struct boot_entry *ret)
{
    struct boot_source source = {
        .kernel_fd = file_of(image, bytes), .initrd_fd = initrd_fd, .cmdline = "console=ttyS0"};
    int result = boot_load(ram, LAYOUT_ROM_BASE, &source, ret, why, sizeof(why));

    close(source.kernel_fd);
    return result;
}

static void test_bzimage(void)
{
    uint8_t image[BZ_BYTES], initrd[5000];
    struct ram ram;
    struct boot_entry entry;
    struct x86_vcpu_state state = {0};
    uint64_t value = 0;
    int initrd_fd;

    memset(initrd, 0x42, sizeof(initrd));
    initrd_fd = file_of(initrd, sizeof(initrd));
    make_bzimage(image);
    g_assert_cmpint(ram_init(&ram, -1, 64 * MIB), ==, 0);
    g_assert_cmpint(try_boot(&ram, image, sizeof(image), initrd_fd, &entry), ==, 0);
    g_assert_cmphex(entry.entry, ==, 0x1000200);
    boot_entry_state(&entry, &state);
    g_assert_cmphex(state.rip, ==, 0x1000200);
    g_assert_cmphex(state.gpr[6], ==, BOOT_PARAMS);
    g_assert_true(state.seg[X86_CS].attr & X86_ATTR_L);
    uint8_t *params = ram_lookup(&ram, BOOT_PARAMS, 4096);
    memcpy(&value, params + 0x228, 4);
    g_assert_cmphex(value, ==, BOOT_CMDLINE);
    g_assert_cmpstr(ram_lookup(&ram, BOOT_CMDLINE, 14), ==, "console=ttyS0");
    memcpy(&value, params + 0x218, 4);
    g_assert_cmpuint(value + sizeof(initrd), <=, 64 * MIB);
    g_assert_cmpmem(ram_lookup(&ram, value, sizeof(initrd)), sizeof(initrd), initrd, sizeof(initrd));
    g_assert_cmpuint(params[0x1e8], ==, 4);
    g_assert_cmpmem(ram_lookup(&ram, 0x1000000, 16), 16, image + 512 * 3, 16);
    close(initrd_fd);
    ram_finish(&ram);
}

/* Broken if this fails: an i386 kernel, which has no 64-bit entry, is refused or entered where it has no code. */
static void test_bzimage_i386(void)
{
    uint8_t image[BZ_BYTES];
    struct ram ram;
    struct boot_entry entry;
    struct x86_vcpu_state state = {0};
    uint64_t code = 0;

    make_bzimage(image);
    put(image, 0x236, 2, 0);
    g_assert_cmpint(ram_init(&ram, -1, 64 * MIB), ==, 0);
    g_assert_cmpint(try_boot(&ram, image, sizeof(image), -1, &entry), ==, 0);
    boot_entry_state(&entry, &state);
    g_assert_cmphex(state.rip, ==, 0x1000000);
    g_assert_cmphex(state.gpr[6], ==, BOOT_PARAMS);
    g_assert_cmphex(state.gpr[3], ==, 0);
    g_assert_cmphex(state.cr0 & 0x80000001, ==, 1);
    g_assert_cmphex(state.efer, ==, 0);
    g_assert_cmphex(state.seg[X86_CS].selector, ==, 0x10);
    g_assert_cmphex(state.seg[X86_SS].selector, ==, 0x18);
    g_assert_cmphex(state.seg[X86_CS].attr & (X86_ATTR_L | X86_ATTR_DB), ==, X86_ATTR_DB);
    memcpy(&code, (uint8_t *)ram_lookup(&ram, state.gdtr.base, 32) + 0x10, 8);
    g_assert_cmphex(code, ==, 0x00cf9b000000ffff);
    ram_finish(&ram);
}

static void test_bzimage_truncated(void)
{
    uint8_t image[BZ_BYTES];
    struct ram ram;
    struct boot_entry entry;

    make_bzimage(image);
    g_assert_cmpint(ram_init(&ram, -1, 32 * MIB), ==, 0);
    /* The header counts 16-byte paragraphs, so that the last 15 bytes cannot be missed. */
    for (size_t bytes = 0; bytes < sizeof(image) - 15; bytes += bytes < 700 ? 1 : 97) {
        g_assert_cmpint(try_boot(&ram, image, bytes, -1, &entry), <, 0);
        g_assert_cmpstr(why, !=, "");
    }
    ram_finish(&ram);
}

/* Every header field with hostile values: refused or loaded, never out of bounds. */
static void test_bzimage_hostile(void)
{
    static const uint64_t values[] = {0,          1,          0x7f,       0xff,    0xffff,
                                      0x80000000, 0xffffffff, UINT64_MAX, 0xa0000, 0xfffff000};
    uint8_t image[BZ_BYTES];
    struct ram ram;
    struct boot_entry entry;

    g_assert_cmpint(ram_init(&ram, -1, 32 * MIB), ==, 0);
    for (unsigned offset = 0x1f1; offset < 0x268; offset++) {
        for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
            make_bzimage(image);
            put(image, offset, 8, values[i]);
            if (try_boot(&ram, image, sizeof(image), -1, &entry) == 0)
                g_assert_nonnull(ram_lookup(&ram, entry.entry, 1));
        }
    }
    ram_finish(&ram);
}

static void test_limits(void)
{
    g_autofree char *line = g_strnfill(3000, 'x');
    uint8_t image[BZ_BYTES];
    struct ram ram;
    struct boot_entry entry;
    struct boot_source source = {.initrd_fd = -1, .cmdline = line};
    int big = memfd_create("initrd", MFD_CLOEXEC);

    make_bzimage(image);
    g_assert_cmpint(ram_init(&ram, -1, 32 * MIB), ==, 0);
    source.kernel_fd = file_of(image, sizeof(image));
    g_assert_cmpint(boot_load(&ram, 0, &source, &entry, why, sizeof(why)), ==, -E2BIG);
    close(source.kernel_fd);
    g_assert_cmpint(ftruncate(big, 40 * MIB), ==, 0);
    g_assert_cmpint(try_boot(&ram, image, sizeof(image), big, &entry), ==, -ENOMEM);
    close(big);
    g_assert_cmpint(try_boot(&ram, "hello", 5, -1, &entry), ==, -ENOEXEC);
    ram_finish(&ram);
}

struct pvh_image {
    Elf64_Ehdr header;
    Elf64_Phdr programs[2];
    struct {
        Elf64_Nhdr header;
        char name[4];
        uint32_t entry;
    } note;
    uint8_t code[64];
};

static struct pvh_image make_pvh(void)
{
    struct pvh_image image = {
        .header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1},
                   .e_machine = EM_X86_64,
                   .e_phoff = offsetof(struct pvh_image, programs),
                   .e_phentsize = sizeof(Elf64_Phdr),
                   .e_phnum = 2},
        .programs = {{.p_type = PT_LOAD,
                      .p_offset = offsetof(struct pvh_image, code),
                      .p_paddr = 0x200000,
                      .p_filesz = 64,
                      .p_memsz = 8192},
                     {.p_type = PT_NOTE,
                      .p_offset = offsetof(struct pvh_image, note),
                      .p_filesz = sizeof(image.note),
                      .p_align = 4}},
        .note = {.header = {.n_namesz = 4, .n_descsz = 4, .n_type = 18}, .name = "Xen", .entry = 0x200010},
    };

    memset(image.code, 0x90, sizeof(image.code));
    return image;
}

static void test_pvh(void)
{
    struct pvh_image image = make_pvh();
    struct ram ram;
    struct boot_entry entry;
    struct x86_vcpu_state state = {0};

    g_assert_cmpint(ram_init(&ram, -1, 32 * MIB), ==, 0);
    g_assert_cmpint(try_boot(&ram, &image, sizeof(image), -1, &entry), ==, 0);
    boot_entry_state(&entry, &state);
    g_assert_cmphex(state.rip, ==, 0x200010);
    g_assert_cmphex(state.gpr[3], ==, BOOT_PARAMS);
    g_assert_cmphex(state.cr0 & 0x80000001, ==, 1);
    g_assert_cmphex(*(uint32_t *)ram_lookup(&ram, BOOT_PARAMS, 4), ==, 0x336ec578);
    for (size_t bytes = 0; bytes < offsetof(struct pvh_image, code) + sizeof(image.code); bytes++)
        g_assert_cmpint(try_boot(&ram, &image, bytes, -1, &entry), <, 0);
    ram_finish(&ram);
}

static void test_pvh_hostile(void)
{
    static const uint64_t values[] = {0, 1, 0xff, 0xffff, 0xffffffff, UINT64_MAX, INT64_MAX, 0x1ff0000};
    struct ram ram;
    struct boot_entry entry;

    g_assert_cmpint(ram_init(&ram, -1, 32 * MIB), ==, 0);
    for (unsigned offset = 0; offset < offsetof(struct pvh_image, code); offset++) {
        for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
            struct pvh_image image = make_pvh();

            memcpy((uint8_t *)&image + offset, &values[i], MIN(8, sizeof(image) - offset));
            if (try_boot(&ram, &image, sizeof(image), -1, &entry) == 0)
                g_assert_nonnull(ram_lookup(&ram, entry.entry, 1));
        }
    }
    ram_finish(&ram);
}

/* A file that a device server could shorten under us is refused; sizes are checked. */
static void test_ram(void)
{
    int plain = memfd_create("ram", MFD_CLOEXEC),
        open_to_seals = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct ram ram;

    g_assert_cmpint(ftruncate(plain, 32 * MIB), ==, 0);
    g_assert_cmpint(ram_init(&ram, plain, 32 * MIB), ==, -EPERM);
    g_assert_cmpint(ftruncate(open_to_seals, 32 * MIB), ==, 0);
    g_assert_cmpint(ram_init(&ram, dup(open_to_seals), 64 * MIB), ==, -ENXIO);
    g_assert_cmpint(ram_init(&ram, open_to_seals, 32 * MIB), ==, 0);
    g_assert_cmpint(ftruncate(ram.fd, MIB), ==, -1);
    /* The map: no RAM in the legacy window, nothing across it. */
    g_assert_nonnull(ram_lookup(&ram, LAYOUT_LOW_END - 1, 1));
    g_assert_null(ram_lookup(&ram, LAYOUT_LOW_END - 1, 2));
    g_assert_null(ram_lookup(&ram, LAYOUT_ROM_BASE, 1));
    g_assert_null(ram_lookup(&ram, 32 * MIB, 1));
    memset(ram_lookup(&ram, LAYOUT_MIB_BASE, 4096), 0x5a, 4096);
    g_assert_cmpint(ram_clear(&ram), ==, 0);
    g_assert_cmphex(*(uint8_t *)ram_lookup(&ram, LAYOUT_MIB_BASE, 1), ==, 0);
    ram_finish(&ram);
    /* What does not fit below the hole is above 4 GiB. */
    g_assert_cmpint(ram_init(&ram, -1, 4 * GIB), ==, 0);
    g_assert_cmpuint(ram.region_count, ==, 3);
    g_assert_null(ram_lookup(&ram, LAYOUT_HOLE_BASE, 1));
    g_assert_nonnull(ram_lookup(&ram, LAYOUT_HIGH_BASE, GIB));
    g_assert_null(ram_lookup(&ram, LAYOUT_HIGH_BASE, GIB + 1));
    ram_finish(&ram);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ram/map-and-seals", test_ram);
    g_test_add_func("/boot/bzimage", test_bzimage);
    g_test_add_func("/boot/bzimage-i386", test_bzimage_i386);
    g_test_add_func("/boot/bzimage-truncated", test_bzimage_truncated);
    g_test_add_func("/boot/bzimage-hostile", test_bzimage_hostile);
    g_test_add_func("/boot/limits", test_limits);
    g_test_add_func("/boot/pvh", test_pvh);
    g_test_add_func("/boot/pvh-hostile", test_pvh_hostile);
    return g_test_run();
}
