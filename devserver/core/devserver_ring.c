/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One ring. Its call and error descriptors keep their numbers for ever: an eventfd of our own that nobody
 * reads stands in where the peer gave none, and the peer's is put in its place with dup3(), which is atomic
 * for a queue thread that writes at that moment.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devserver/core/devserver_internal.h"
#include "protocol/base/fd.h"
#include "protocol/virtqueue_inflight.h"

static int ring_refuse(struct ring *ring, int error, const char *why)
{
    return devserver_refuse(ring->queue.server, error, why);
}

int ring_init(struct ring *ring, struct devserver *server, unsigned index)
{
    memset(ring, 0, sizeof(*ring));
    ring->queue.server = server;
    ring->queue.index = index;
    ring->queue.kick_fd = -1;
    ring->err_fd = -1;
    ring->queue.call_fd = fd_eventfd_create();
    if (ring->queue.call_fd < 0)
        return ring->queue.call_fd;
    ring->err_fd = fd_eventfd_create();
    return ring->err_fd < 0 ? ring->err_fd : 0;
}

void ring_finish(struct ring *ring)
{
    fd_close(&ring->queue.kick_fd);
    fd_close(&ring->queue.call_fd);
    fd_close(&ring->err_fd);
}

static void ring_kicked(uv_poll_t *poll, int status, int events)
{
    struct ring *ring = poll->data;
    struct devserver *server = ring->queue.server;

    errno = 0;
    if (!fd_eventfd_consume(ring->queue.kick_fd)) {
        if (status == 0 && errno == EAGAIN)
            return;
        devserver_unwatch(server, &ring->kick_poll);
        virtqueue_break(&ring->queue.vq, -EIO, "its kick descriptor cannot be read");
        devserver_queue_report(&ring->queue);
        return;
    }
    server->config.ops->queue_kick(server->config.opaque, &ring->queue);
}

/* Gives the started ring to the device. */
static int ring_run(struct ring *ring)
{
    struct devserver *server = ring->queue.server;
    const struct devserver_ops *ops = server->config.ops;
    int r = 0;

    if (!server->config.threaded) {
        ring->kick_poll = devserver_watch(server, ring->queue.kick_fd, ring_kicked, ring);
        if (!ring->kick_poll)
            return ring_refuse(ring, -EIO, "its kick descriptor cannot be watched");
    }
    r = ops->queue_start(server->config.opaque, &ring->queue);
    if (r < 0) {
        devserver_unwatch(server, &ring->kick_poll);
        return ring_refuse(ring, r, "the device could not start its queue");
    }
    ring->running = true;
    if (!server->config.threaded)
        ops->queue_kick(server->config.opaque, &ring->queue);
    return 0;
}

static void ring_halt(struct ring *ring)
{
    struct devserver *server = ring->queue.server;

    if (!ring->running)
        return;
    devserver_unwatch(server, &ring->kick_poll);
    server->config.ops->queue_stop(server->config.opaque, &ring->queue);
    ring->running = false;
}

int ring_update(struct ring *ring)
{
    const struct devserver *server = ring->queue.server;
    bool enabled = ring->enable_wish || !(server->features & VHOST_USER_BIT(VHOST_USER_F_PROTOCOL_FEATURES));

    if (ring->started && enabled && !ring->running)
        return ring_run(ring);
    if (!enabled)
        ring_halt(ring);
    return 0;
}

/* Finds the ring in guest memory. */
static int ring_set_up(struct ring *ring)
{
    const struct devserver *server = ring->queue.server;
    const struct vhost_user_vring_addr *addr = &ring->addr;
    struct virtqueue_config config = {
        .size = (uint16_t)ring->size,
        .packed = server->features & VHOST_USER_BIT(VIRTIO_F_RING_PACKED_BIT),
        .event_idx = server->features & VHOST_USER_BIT(VIRTIO_F_EVENT_IDX_BIT),
        .indirect = server->features & VHOST_USER_BIT(VIRTIO_F_INDIRECT_DESC_BIT),
        .base = ring->base,
        .inflight = devserver_inflight_region(server, ring->queue.index),
        .inflight_desc_num = (uint16_t)server->inflight.queue_size,
        .log_ring = addr->flags & VHOST_USER_VRING_F_LOG,
        .log_gpa = addr->log_gpa,
    };
    int r;

    if (ring->size == 0 || !ring->has_addr)
        return ring_refuse(ring, -EINVAL, "the ring has no size or no address yet");
    /* The features may have changed since the memory was checked. */
    if (config.inflight &&
        server->inflight.stride_bytes < inflight_region_bytes(config.packed, config.inflight_desc_num))
        return ring_refuse(ring, -EINVAL, "the in-flight memory is too small for packed rings");
    if (!config.packed && ring->base > UINT16_MAX)
        return ring_refuse(ring, -EINVAL, "a base over 65535 for a split ring");
    if (memory_map_user_to_gpa(&server->memory, addr->desc_user, 1, &config.desc_gpa) < 0 ||
        memory_map_user_to_gpa(&server->memory, addr->avail_user, 1, &config.driver_gpa) < 0 ||
        memory_map_user_to_gpa(&server->memory, addr->used_user, 1, &config.device_gpa) < 0)
        return ring_refuse(ring, -EFAULT, "a ring address is outside the shared memory");
    r = virtqueue_start(&ring->queue.vq, &config, &server->memory);
    if (r == -EFAULT)
        return ring_refuse(ring, r, "a ring reaches out of its memory region");
    if (r == -EBADMSG)
        return ring_refuse(ring, r, "the in-flight memory contradicts itself or the ring");
    if (r < 0)
        return ring_refuse(ring, r, "the ring's size, base or alignment is wrong");
    return 0;
}

int ring_start(struct ring *ring)
{
    int r;

    if (ring->started)
        return 0;
    r = ring_set_up(ring);
    if (r < 0)
        return r;
    ring->started = true;
    r = ring_update(ring);
    if (r < 0)
        ring_stop(ring);
    else if (ring->queue.vq.inflight)
        devserver_queue_notify(&ring->queue); /* a predecessor may have died before it could */
    return r;
}

void ring_pause(struct ring *ring)
{
    ring_halt(ring);
    if (ring->started)
        ring->base = virtqueue_stop(&ring->queue.vq);
}

void ring_resume(struct ring *ring)
{
    int r;

    if (!ring->started)
        return;
    ring->started = false;
    r = ring_start(ring);
    if (r < 0) {
        log_limited(&ring->broken_limit, LOG_LEVEL_WARNING,
                    "%s: queue %u stopped with the memory it was in: %s", ring->queue.server->config.name,
                    ring->queue.index, ring->queue.server->why);
        fd_eventfd_signal(ring->err_fd);
    }
}

void ring_stop(struct ring *ring)
{
    ring_pause(ring);
    ring->started = false;
    fd_close(&ring->queue.kick_fd);
}

void ring_reset(struct ring *ring)
{
    ring_stop(ring);
    ring->size = 0;
    ring->base = 0;
    ring->has_addr = false;
    ring->enable_wish = false;
    ring->base_told = false;
}

/* The peer's eventfd, ready for use; *fd stays the caller's. */
static int ring_check_eventfd(struct ring *ring, int fd)
{
    if (fd_check_eventfd(fd) < 0)
        return ring_refuse(ring, -EINVAL, "the descriptor is not an eventfd");
    if (fd_set_nonblock(fd, true) < 0)
        return ring_refuse(ring, -EINVAL, "the eventfd cannot be made non-blocking");
    return 0;
}

int ring_set_kick(struct ring *ring, int *fd)
{
    int r;

    if (*fd < 0)
        return ring_refuse(ring, -EOPNOTSUPP, "a ring without a kick eventfd (polling) is not offered");
    r = ring_check_eventfd(ring, *fd);
    if (r < 0)
        return r;
    ring_halt(ring);
    fd_close(&ring->queue.kick_fd);
    ring->queue.kick_fd = fd_steal(fd);
    return ring->started ? ring_update(ring) : ring_start(ring);
}

/* Puts *fd, or an eventfd that nobody reads, where `target` is. */
static int ring_replace_fd(struct ring *ring, int target, int *fd)
{
    int r;

    if (*fd >= 0)
        r = ring_check_eventfd(ring, *fd);
    else
        r = *fd = fd_eventfd_create();
    if (r < 0)
        return r;
    r = dup3(*fd, target, O_CLOEXEC) < 0 ? -errno : 0;
    fd_close(fd);
    return r;
}

int ring_set_call(struct ring *ring, int *fd)
{
    int r = ring_replace_fd(ring, ring->queue.call_fd, fd);

    if (r == 0 && ring->started)
        fd_eventfd_signal(ring->queue.call_fd); /* a notification may have gone to the old one */
    return r;
}

int ring_set_err(struct ring *ring, int *fd)
{
    return ring_replace_fd(ring, ring->err_fd, fd);
}

void devserver_queue_notify(struct devserver_queue *queue)
{
    fd_eventfd_signal(queue->call_fd);
}

void devserver_queue_report(struct devserver_queue *queue)
{
    struct ring *ring = (struct ring *)queue; /* its first member */

    log_limited(&ring->broken_limit, LOG_LEVEL_WARNING,
                "%s: queue %u is broken by the guest: %s; waiting for a reset", queue->server->config.name,
                queue->index, queue->vq.broken_why);
    fd_eventfd_signal(ring->err_fd);
}
