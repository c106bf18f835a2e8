/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The in-flight memory of a session (vhost-user.rst, "Inflight I/O tracking"): one region per queue, made here for a
 * front-end that has none yet, or handed in by one whose last back-end died. The front-end keeps the descriptor.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devserver/core/devserver_internal.h"
#include "protocol/base/fd.h"
#include "protocol/virtqueue_inflight.h"

static bool is_packed(const struct devserver *server)
{
    return server->features & VHOST_USER_BIT(VIRTIO_F_RING_PACKED_BIT);
}

void devserver_inflight_drop(struct devserver *server)
{
    struct inflight_memory *memory = &server->inflight;

    if (memory->mapping)
        munmap(memory->mapping, memory->bytes);
    *memory = (struct inflight_memory){0};
}

void *devserver_inflight_region(const struct devserver *server, unsigned queue)
{
    const struct inflight_memory *memory = &server->inflight;

    if (!memory->mapping || queue >= memory->queues)
        return NULL;
    return (uint8_t *)memory->mapping + queue * memory->stride_bytes;
}

void devserver_inflight_clear(struct devserver *server, unsigned queue)
{
    void *region = devserver_inflight_region(server, queue);

    if (region)
        inflight_region_clear(region);
}

/* What both messages must fulfil. */
static int check_counts(struct devserver *server, const struct vhost_user_inflight *info)
{
    if (info->num_queues == 0 || info->num_queues > server->config.max_queues)
        return devserver_refuse(server, -EINVAL,
                                "in-flight memory for a number of queues that the device has not");
    if (info->queue_size == 0 || info->queue_size > server->config.max_queue_size)
        return devserver_refuse(server, -EINVAL, "in-flight memory for a queue size over the device's limit");
    return 0;
}

/* Takes the place of what there was. */
static int map_memory(struct devserver *server, const struct vhost_user_inflight *info, int fd)
{
    void *mapping =
        mmap(NULL, info->mmap_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)info->mmap_offset);

    if (mapping == MAP_FAILED)
        return devserver_refuse(server, -errno, "the in-flight memory cannot be mapped");
    devserver_inflight_drop(server);
    server->inflight = (struct inflight_memory){
        .mapping = mapping,
        .bytes = info->mmap_bytes,
        .stride_bytes = info->mmap_bytes / info->num_queues / sizeof(uint64_t) * sizeof(uint64_t),
        .queues = info->num_queues,
        .queue_size = info->queue_size,
    };
    return 0;
}

/* A sealed memfd of that size; owned. */
static int create_memory(uint64_t bytes)
{
    cleanup_fd int fd = memfd_create("bulkhead-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return -errno;
    return fd_steal(&fd);
}

int devserver_inflight_get(struct devserver *server, struct vhost_user_inflight *info)
{
    cleanup_fd int fd = -1;
    int r = check_counts(server, info);

    if (r < 0)
        return r;
    info->mmap_bytes =
        info->num_queues * (uint64_t)inflight_region_bytes(is_packed(server), info->queue_size);
    info->mmap_offset = 0;
    fd = create_memory(info->mmap_bytes);
    if (fd < 0)
        return devserver_refuse(server, fd, "there is no memory for in-flight tracking");
    r = map_memory(server, info, fd);
    if (r < 0)
        return r;
    fd_close(&server->reply_fd);
    server->reply_fd = fd_steal(&fd);
    return 0;
}

int devserver_inflight_set(struct devserver *server, const struct vhost_user_inflight *info, int fd)
{
    uint64_t end, page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct stat status;
    int seals = fcntl(fd, F_GET_SEALS);
    int r = check_counts(server, info);

    if (r < 0)
        return r;
    if (seals < 0 || !(seals & F_SEAL_SHRINK))
        return devserver_refuse(server, -EBADF,
                                "the in-flight memory is not a memfd sealed against shrinking");
    if (info->mmap_offset % page != 0 || __builtin_add_overflow(info->mmap_offset, info->mmap_bytes, &end) ||
        fstat(fd, &status) < 0 || end > (uint64_t)status.st_size)
        return devserver_refuse(server, -EINVAL, "the in-flight memory is larger than its file");
    if (info->mmap_bytes / info->num_queues < inflight_region_bytes(is_packed(server), info->queue_size))
        return devserver_refuse(server, -EINVAL, "the in-flight memory is too small for its queues");
    return map_memory(server, info, fd);
}
