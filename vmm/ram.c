/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ram.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "vmm/x86/layout.h"

#define PAGE_BYTES UINT64_C(4096)

static int create_memfd(uint64_t bytes)
{
    cleanup_fd int fd = memfd_create("guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)bytes) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    return fd_steal(&fd);
}

/* Device servers hold the same file: none of them may shorten it under our mapping. */
static int check_seals(int fd)
{
    int seals = fcntl(fd, F_GET_SEALS);

    if (seals >= 0 && (seals & F_SEAL_SHRINK))
        return 0;
    return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0 ? -EPERM : 0;
}

static void add_region(struct ram *ram, gpa_t gpa, uint64_t end, uint64_t file_offset)
{
    if (end <= gpa)
        return;
    ram->regions[ram->region_count++] = (struct ram_region){
        .gpa = gpa, .bytes = end - gpa, .file_offset = file_offset, .host = ram->mapping + file_offset};
}

static int map_regions(struct ram *ram)
{
    uint64_t low = ram->bytes < LAYOUT_HOLE_BASE ? ram->bytes : LAYOUT_HOLE_BASE;
    int result;

    ram->region_count = 0;
    add_region(ram, 0, LAYOUT_LOW_END, 0);
    add_region(ram, LAYOUT_MIB_BASE, low, LAYOUT_MIB_BASE);
    add_region(ram, LAYOUT_HIGH_BASE, LAYOUT_HIGH_BASE + ram->bytes - low, low);
    result = memory_map_init(&ram->map);
    for (unsigned i = 0; result == 0 && i < ram->region_count; i++)
        result =
            memory_map_add_host(&ram->map, ram->regions[i].gpa, ram->regions[i].bytes, ram->regions[i].host);
    return result;
}

int ram_init(struct ram *ram, int fd, uint64_t bytes)
{
    struct stat status;
    void *mapping;
    int result;

    memset(ram, 0, sizeof(*ram));
    ram->fd = fd;
    if (bytes < RAM_BYTES_MIN || bytes > RAM_BYTES_MAX || bytes % PAGE_BYTES) {
        fd_close(&ram->fd);
        return -EINVAL;
    }
    if (fd < 0) {
        ram->fd = create_memfd(bytes);
        if (ram->fd < 0)
            return ram->fd;
    }
    result = check_seals(ram->fd);
    if (result == 0 && (fstat(ram->fd, &status) < 0 || (uint64_t)status.st_size < bytes))
        result = -ENXIO;
    if (result < 0) {
        fd_close(&ram->fd);
        return result;
    }
    mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, ram->fd, 0);
    if (mapping == MAP_FAILED) {
        result = -errno;
        fd_close(&ram->fd);
        return result;
    }
    ram->bytes = bytes;
    ram->mapping = mapping;
    result = map_regions(ram);
    if (result < 0)
        ram_finish(ram);
    return result;
}

void ram_finish(struct ram *ram)
{
    memory_map_finish(&ram->map);
    if (ram->mapping)
        munmap(ram->mapping, ram->bytes);
    ram->mapping = NULL;
    fd_close(&ram->fd);
}

int ram_clear(struct ram *ram)
{
    return madvise(ram->mapping, ram->bytes, MADV_REMOVE) < 0 ? -errno : 0;
}

void *ram_lookup(const struct ram *ram, gpa_t gpa, uint64_t bytes)
{
    return memory_map_lookup(&ram->map, gpa, bytes);
}
