/* SPDX-License-Identifier: Apache-2.0 */
/* The guest memory map: its one look-up, and the regions that a hostile peer may offer. */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "protocol/memory_map.h"

#define PAGE 4096

static int make_memfd(size_t bytes)
{
    int fd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)bytes), ==, 0);
    return fd;
}

static int add(struct memory_map *map, uint64_t gpa, uint64_t bytes, uint64_t user, uint64_t offset, int fd)
{
    const struct memory_region_info info = {gpa, bytes, user, offset};

    return memory_map_add_fd(map, &info, fd);
}

/* Broken: guest addresses reach the wrong host bytes, or bytes beyond a region. */
static void test_lookup(void)
{
    cleanup_fd int fd = make_memfd(4 * PAGE);
    struct memory_map map;
    uint64_t part;
    gpa_t gpa;
    uint8_t *low, *high;

    g_assert_cmpint(memory_map_init(&map), ==, 0);
    g_assert_cmpint(add(&map, 0x100000, 2 * PAGE, 0x7000000, 2 * PAGE, fd), ==, 0);
    g_assert_cmpint(add(&map, 0x1000, 2 * PAGE, 0x9000000, 0, fd), ==, 0);
    low = memory_map_lookup(&map, 0x1000, 2 * PAGE);
    high = memory_map_lookup(&map, 0x100000, 2 * PAGE);
    g_assert_nonnull(low);
    g_assert_nonnull(high);
    low[0] = 11;
    high[1] = 22;
    g_assert_cmpint(pread(fd, &part, 1, 0), ==, 1);
    g_assert_cmpint((uint8_t)part, ==, 11);
    g_assert_cmpint(pread(fd, &part, 1, 2 * PAGE + 1), ==, 1);
    g_assert_cmpint((uint8_t)part, ==, 22);

    g_assert_null(memory_map_lookup(&map, 0xfff, 1));
    g_assert_null(memory_map_lookup(&map, 0xfff, 2));
    g_assert_null(memory_map_lookup(&map, 0x1000 + 2 * PAGE, 0));
    g_assert_null(memory_map_lookup(&map, 0x1000 + 2 * PAGE - 1, 2));
    g_assert_null(memory_map_lookup(&map, 0x1000, UINT64_MAX));
    g_assert_null(memory_map_lookup(&map, UINT64_MAX, 2));
    g_assert_nonnull(memory_map_lookup(&map, 0x1000 + 2 * PAGE - 1, 1));
    g_assert_true(memory_map_lookup_part(&map, 0x1000 + PAGE, 2 * PAGE, &part) == low + PAGE);
    g_assert_cmpuint(part, ==, PAGE);

    g_assert_cmpint(memory_map_user_to_gpa(&map, 0x7000010, 16, &gpa), ==, 0);
    g_assert_cmpuint(gpa, ==, 0x100010);
    g_assert_cmpint(memory_map_user_to_gpa(&map, 0x7000000 + 2 * PAGE - 1, 2, &gpa), ==, -EFAULT);
    g_assert_cmpint(memory_map_user_to_gpa(&map, 0x6ffffff, 1, &gpa), ==, -EFAULT);
    g_assert_cmpint(memory_map_user_to_gpa(&map, UINT64_MAX, 1, &gpa), ==, -EFAULT);
    memory_map_finish(&map);
}

/* Broken: a region that wraps, is empty, overlaps, or is larger than its file is taken. */
static void test_refusals(void)
{
    cleanup_fd int fd = make_memfd(4 * PAGE);
    cleanup_fd int event = eventfd(0, EFD_CLOEXEC);
    struct memory_map map;

    g_assert_cmpint(memory_map_init(&map), ==, 0);
    g_assert_cmpint(add(&map, 0x10000, 2 * PAGE, 0x700000, 0, fd), ==, 0);
    g_assert_cmpint(add(&map, 0x20000, 0, 0x800000, 0, fd), ==, -EINVAL);
    g_assert_cmpint(add(&map, UINT64_MAX - PAGE + 2, PAGE, 0x800000, 0, fd), ==, -EINVAL);
    g_assert_cmpint(add(&map, 0x20000, PAGE, UINT64_MAX - PAGE + 2, 0, fd), ==, -EINVAL);
    g_assert_cmpint(add(&map, 0x20000, PAGE, 0x800000, UINT64_MAX - PAGE + 2, fd), ==, -EINVAL);
    g_assert_cmpint(add(&map, 0x20000, UINT64_MAX, 0x800000, 0, fd), ==, -EINVAL);
    /* overlap in guest addresses, in the front-end's, by one byte at either end */
    g_assert_cmpint(add(&map, 0x10000 + 2 * PAGE - 1, PAGE, 0x800000, 0, fd), ==, -EINVAL);
    g_assert_cmpint(add(&map, 0x10000 - PAGE + 1, PAGE, 0x800000, 0, fd), ==, -EINVAL);
    g_assert_cmpint(add(&map, 0x20000, PAGE, 0x700000 + 2 * PAGE - 1, 0, fd), ==, -EINVAL);
    /* file too short, by size and by offset */
    g_assert_cmpint(add(&map, 0x20000, 4 * PAGE + 1, 0x800000, 0, fd), ==, -ENXIO);
    g_assert_cmpint(add(&map, 0x20000, PAGE, 0x800000, 3 * PAGE + 1, fd), ==, -ENXIO);
    g_assert_cmpint(add(&map, 0x20000, PAGE, 0x800000, 0, event), ==, -EBADF);
    g_assert_cmpint(add(&map, 0x20000, PAGE, 0x800000, 0, -1), ==, -EBADF);
    g_assert_cmpuint(map.count, ==, 1);
    /* neighbours are no overlap */
    g_assert_cmpint(add(&map, 0x10000 + 2 * PAGE, PAGE, 0x700000 + 2 * PAGE, 0, fd), ==, 0);
    memory_map_finish(&map);
}

/* Broken: memory hot-unplug removes the wrong region. */
static void test_remove(void)
{
    cleanup_fd int fd = make_memfd(PAGE);
    struct memory_map map;
    struct memory_region_info info = {0x3000, PAGE, 0x3000, 0};

    g_assert_cmpint(memory_map_init(&map), ==, 0);
    for (unsigned i = 5; i-- > 1;)
        g_assert_cmpint(add(&map, i * 0x1000, PAGE, i * 0x1000, 0, fd), ==, 0);
    info.bytes = PAGE - 1;
    g_assert_cmpint(memory_map_remove(&map, &info), ==, -ENOENT);
    info.bytes = PAGE;
    g_assert_cmpint(memory_map_remove(&map, &info), ==, 0);
    g_assert_cmpint(memory_map_remove(&map, &info), ==, -ENOENT);
    g_assert_null(memory_map_lookup(&map, 0x3000, 1));
    g_assert_nonnull(memory_map_lookup(&map, 0x2000, PAGE));
    g_assert_nonnull(memory_map_lookup(&map, 0x4000, PAGE));
    memory_map_finish(&map);
}

static void test_limit(void)
{
    cleanup_fd int fd = make_memfd(PAGE);
    struct memory_map map;

    g_assert_cmpint(memory_map_init(&map), ==, 0);
    for (unsigned i = 0; i < MEMORY_MAP_REGIONS_MAX; i++)
        g_assert_cmpint(add(&map, i * 0x1000ull, PAGE, i * 0x1000ull, 0, fd), ==, 0);
    g_assert_cmpint(add(&map, 0x10000000, PAGE, 0x10000000, 0, fd), ==, -ENOSPC);
    memory_map_finish(&map);
}

/* Broken: a peer that shortens its file kills the process with SIGBUS. */
static void test_shrunk_file(void)
{
    cleanup_fd int fd = make_memfd(4 * PAGE);
    cleanup_fd int lost = fd_eventfd_create();
    struct memory_map map;
    volatile uint8_t *memory;

    g_assert_cmpint(memory_map_guard_install(lost), ==, 0);
    g_assert_cmpint(memory_map_init(&map), ==, 0);
    g_assert_cmpint(add(&map, 0, 4 * PAGE, 0, 0, fd), ==, 0);
    memory = memory_map_lookup(&map, 0, 4 * PAGE);
    memory[3 * PAGE] = 1;
    g_assert_false(memory_map_lost(&map));
    g_assert_cmpint(ftruncate(fd, PAGE), ==, 0);
    g_assert_cmpint(memory[3 * PAGE], ==, 0);
    g_assert_true(memory_map_lost(&map));
    g_assert_true(fd_eventfd_consume(lost));
    memory_map_finish(&map);
    g_assert_cmpint(memory_map_guard_install(-1), ==, 0);
}

/* Broken: the guard hides SIGBUSes that are our own bugs. */
static void test_other_sigbus_kills(void)
{
    if (g_test_subprocess()) {
        int fd = make_memfd(PAGE);
        volatile uint8_t *memory = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);

        memory_map_guard_install(-1);
        g_assert_cmpint(ftruncate(fd, 0), ==, 0);
        g_assert_cmpint(memory[0], ==, 0);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
}

/* Broken: a reader of the log (migration, the translator) misses a page that was written, or a hostile log is mapped. */
static void test_log(void)
{
    static const struct {
        gpa_t gpa;
        uint64_t bytes, expected; /* of pages 0 to 63 */
    } writes[] = {
        {0, 1, 1},
        {PAGE - 1, 2, 3},
        {7 * PAGE, PAGE, 1 << 7},
        {7 * PAGE, PAGE + 1, 3 << 7},
        {5 * PAGE + 9, 20 * PAGE, UINT64_C(0x3ffffe0)},
        {3 * PAGE, 0, 0},
        {60 * PAGE, 100 * PAGE, UINT64_C(0xf) << 60}, /* beyond the bitmap: not recorded */
        {UINT64_MAX - 10, 10, 0},
    };
    cleanup_fd int fd = make_memfd(2 * PAGE);
    struct memory_log log = {0};
    struct memory_map map;
    uint8_t *ram;

    g_assert_cmpint(memory_log_map(&log, fd, 0, 0), ==, -EINVAL);
    g_assert_cmpint(memory_log_map(&log, fd, UINT64_MAX - 8, 16), ==, -EINVAL);
    g_assert_cmpint(memory_log_map(&log, fd, PAGE, PAGE + 1), ==, -ENXIO);
    cleanup_fd int event = fd_eventfd_create();
    g_assert_cmpint(memory_log_map(&log, event, 0, 8), ==, -EBADF);
    g_assert_null(log.bits);
    g_assert_cmpint(memory_log_map(&log, fd, PAGE - 8, 8), ==,
                    0); /* crosses no page, but does not begin one */
    for (size_t i = 0; i < G_N_ELEMENTS(writes); i++) {
        uint64_t bits = 0;

        memcpy(log.bits, &bits, 8);
        memory_log_set(&log, writes[i].gpa, writes[i].bytes);
        memcpy(&bits, log.bits, 8);
        g_assert_cmphex(bits, ==, writes[i].expected);
    }
    /* Through a map: buffers of two regions, only as far as they were written. */
    cleanup_fd int ram_fd = make_memfd(8 * PAGE);
    g_assert_cmpint(memory_map_init(&map), ==, 0);
    g_assert_cmpint(add(&map, 0, 4 * PAGE, 0, 0, ram_fd), ==, 0);
    g_assert_cmpint(add(&map, 16 * PAGE, 4 * PAGE, 16 * PAGE, 4 * PAGE, ram_fd), ==, 0);
    ram = memory_map_lookup(&map, 16 * PAGE, PAGE);
    const struct iovec iov[] = {{memory_map_lookup(&map, 2 * PAGE, 8), 8}, {ram, 2 * PAGE}};
    memset(log.bits, 0, 8);
    memory_map_written(&map, iov, 2, PAGE);
    g_assert_cmphex(log.bits[0], ==, 0); /* no log is in use */
    map.log = &log;
    memory_map_written(&map, iov, 2, 8 + PAGE);
    g_assert_cmphex(log.bits[0], ==, 1 << 2);
    g_assert_cmphex(log.bits[2], ==, 1);
    memory_map_finish(&map);
    memory_log_unmap(&log);
    memory_log_unmap(&log);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/memory-map/lookup", test_lookup);
    g_test_add_func("/memory-map/refusals", test_refusals);
    g_test_add_func("/memory-map/remove", test_remove);
    g_test_add_func("/memory-map/log", test_log);
    g_test_add_func("/memory-map/limit", test_limit);
    g_test_add_func("/memory-map/shrunk-file", test_shrunk_file);
    g_test_add_func("/memory-map/other-sigbus-kills", test_other_sigbus_kills);
    return g_test_run();
}
