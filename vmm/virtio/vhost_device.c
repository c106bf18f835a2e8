/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/vhost_device_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/fd.h"

#define BIT(n) (UINT64_C(1) << (n))

#define QUEUE_SIZE_MAX 256u

#define F_RING_PACKED BIT(34)
/* Transport features that a server may offer and this transport does not have: IOMMU, SR-IOV, notification
 * data and configuration data, ring reset, administration queue. And vhost's own two bits. */
#define NOT_OURS                                                                                             \
    (BIT(33) | BIT(37) | BIT(38) | BIT(39) | BIT(40) | BIT(41) | BIT(VHOST_F_LOG_ALL) |                      \
     BIT(VHOST_USER_F_PROTOCOL_FEATURES))

static const struct vhost_kind kinds[] = {
    [VHOST_DEVICE_BLK] =
        {
            .name = "blk",
            .device_type = 2,
            .pci_class = 0x018000,
            .config_bytes = 60,                   /* up to and with write_zeroes_may_unmap */
            .hidden_features = BIT(16) | BIT(17), /* secure erase, zoned: their fields lie beyond */
            .config_features = 0,
            .config_queues = 34,
        },
    [VHOST_DEVICE_NET] =
        {
            .name = "net",
            .device_type = 1,
            .pci_class = 0x020000,
            .config_bytes = 12, /* mac, status, max_virtqueue_pairs, mtu */
            /* Control queue and what needs it, hash reports, RSS, speed and duplex. */
            .hidden_features = BIT(17) | BIT(18) | BIT(19) | BIT(20) | BIT(21) | BIT(22) | BIT(23) | BIT(57) |
                               BIT(60) | BIT(63) | BIT(2),
            .config_features = BIT(3) | BIT(5) | BIT(16), /* mtu, mac, status */
            .fixed_queues = 2,
        },
};

/* --- configuration space --- */

int vhost_device_fetch_space(struct vhost_device *device, bool *ret_changed)
{
    uint8_t space[VHOST_USER_CONFIG_BYTES_MAX];
    const struct vhost_kind *kind = device->kind;
    int result;

    if (!(device->frontend.protocol_features & VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_CONFIG)))
        return 0;
    result = vhost_user_frontend_get_config(&device->frontend, 0, space, kind->config_bytes);
    vhost_link_note(device, "reading its configuration", result);
    if (result < 0)
        return result;
    if (kind->config_queues) { /* never more queues than the transport shows */
        uint16_t count;

        memcpy(&count, space + kind->config_queues, sizeof(count));
        if (count > device->queues && device->queues)
            count = (uint16_t)device->queues;
        memcpy(space + kind->config_queues, &count, sizeof(count));
    }
    pthread_mutex_lock(&device->space_lock);
    if (ret_changed)
        *ret_changed = memcmp(device->space, space, kind->config_bytes) != 0;
    memcpy(device->space, space, kind->config_bytes);
    pthread_mutex_unlock(&device->space_lock);
    return 0;
}

static void config_read(void *opaque, unsigned offset, void *buffer, unsigned bytes)
{
    struct vhost_device *device = opaque;

    pthread_mutex_lock(&device->space_lock);
    memcpy(buffer, device->space + offset, bytes);
    pthread_mutex_unlock(&device->space_lock);
}

/* While there is no server the write goes into our copy, and to the successor. */
static void config_write(void *opaque, unsigned offset, const void *data, unsigned bytes)
{
    struct vhost_device *device = opaque;
    int result;

    if (!(device->protocol_features & VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_CONFIG)))
        return;
    pthread_mutex_lock(&device->lock);
    memset(device->written + offset, true, bytes);
    result = atomic_load(&device->lost)
                 ? -ENOTCONN
                 : vhost_user_frontend_set_config(&device->frontend, offset, data, bytes);
    vhost_link_note(device, "writing its configuration", result);
    if (result == 0) {
        vhost_device_fetch_space(device, NULL);
    } else if (atomic_load(&device->lost)) {
        pthread_mutex_lock(&device->space_lock);
        memcpy(device->space + offset, data, bytes);
        pthread_mutex_unlock(&device->space_lock);
    }
    pthread_mutex_unlock(&device->lock);
}

/* Tells a successor what the driver has written. Locked. */
static int restore_config(struct vhost_device *device)
{
    unsigned limit = device->kind->config_bytes, at = 0;
    int result = 0;

    while (at < limit && result == 0) {
        unsigned start = at;

        while (at < limit && device->written[at])
            at++;
        if (at > start)
            result =
                vhost_user_frontend_set_config(&device->frontend, start, device->space + start, at - start);
        else
            at++;
    }
    return result;
}

/* --- rings --- */

static bool in_ram(const struct vhost_device *device, gpa_t gpa, uint64_t bytes, unsigned align)
{
    return gpa % align == 0 && ram_lookup(device->config.ram, gpa, bytes);
}

/* VIRTIO 1.2 sections 2.7 (split) and 2.8 (packed): sizes and alignments of the three areas. */
static bool ring_valid(const struct vhost_device *device, uint64_t features,
                       const struct virtio_ring_setup *ring)
{
    uint64_t size = ring->size;

    if (ring->index >= device->queues || size == 0 || size > QUEUE_SIZE_MAX)
        return false;
    if (features & F_RING_PACKED)
        return in_ram(device, ring->desc, 16 * size, 16) && in_ram(device, ring->driver, 4, 4) &&
               in_ram(device, ring->device, 4, 4);
    return (size & (size - 1)) == 0 && in_ram(device, ring->desc, 16 * size, 16) &&
           in_ram(device, ring->driver, 6 + 2 * size, 2) && in_ram(device, ring->device, 6 + 8 * size, 4);
}

static int send_memory(struct vhost_device *device)
{
    const struct ram *ram = device->config.ram;
    struct vhost_user_region regions[RAM_REGIONS_MAX];
    int fds[RAM_REGIONS_MAX];

    for (unsigned i = 0; i < ram->region_count; i++) {
        regions[i] = (struct vhost_user_region){
            .gpa = ram->regions[i].gpa,
            .bytes = ram->regions[i].bytes,
            .user_addr = ram->regions[i].gpa,
            .mmap_offset = ram->regions[i].file_offset,
        };
        fds[i] = ram->fd;
    }
    return vhost_user_frontend_set_mem_table(&device->frontend, regions, fds, ram->region_count);
}

/* What the driver will take as "done". */
static void watch_ring(struct vhost_device *device, struct vhost_ring *ring,
                       const struct virtio_ring_setup *setup)
{
    const struct vhost_device_host *host = &device->config.host;
    const uint8_t *used = ram_lookup(device->config.ram, setup->device, 4);

    if (!device->logs || !host->ring_started)
        return;
    ring->used_index = (const uint16_t *)(used + 2);
    host->ring_started(host->opaque, ring->used_index);
}

static void unwatch_ring(struct vhost_device *device, struct vhost_ring *ring)
{
    const struct vhost_device_host *host = &device->config.host;

    if (ring->used_index)
        host->ring_stopped(host->opaque, ring->used_index);
    ring->used_index = NULL;
}

static int start_ring(struct vhost_device *device, uint64_t features, const struct virtio_ring_setup *setup)
{
    struct vhost_user_frontend *frontend = &device->frontend;
    struct vhost_ring *ring = &device->ring[setup->index];
    const struct vhost_user_vring_addr addr = {
        .index = setup->index,
        .desc_user = setup->desc,
        .avail_user = setup->driver,
        .used_user = setup->device,
    };
    /* A fresh packed ring starts with both wrap counters at one. */
    unsigned base = features & F_RING_PACKED ? 0x80008000u : 0;
    int result = vhost_user_frontend_set_vring_num(frontend, setup->index, setup->size);

    if (result == 0)
        result = vhost_user_frontend_set_vring_base(frontend, setup->index, base);
    if (result == 0)
        result = vhost_user_frontend_set_vring_addr(frontend, &addr);
    if (result == 0)
        result = vhost_user_frontend_set_vring_err(frontend, setup->index, device->err_fd);
    if (result == 0)
        result = vhost_user_frontend_set_vring_call(frontend, setup->index, ring->call_fd);
    if (result == 0)
        result = vhost_user_frontend_set_vring_kick(frontend, setup->index, ring->kick_fd);
    if (result < 0)
        return result;
    ring->started = true;
    watch_ring(device, ring, setup);
    if (device->offered & BIT(VHOST_USER_F_PROTOCOL_FEATURES))
        result = vhost_user_frontend_set_vring_enable(frontend, setup->index, true);
    return result;
}

static void send_status(struct vhost_device *device, uint8_t status)
{
    if (device->frontend.protocol_features & VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_STATUS))
        vhost_user_frontend_set_status(&device->frontend, status);
}

/* Locked. Each ring that was started is stopped; what was in flight is done when this returns. */
static void stop_rings(struct vhost_device *device)
{
    for (unsigned i = 0; i < device->queues; i++) {
        unsigned base;
        int result;

        if (!device->ring[i].started)
            continue;
        device->ring[i].started = false;
        if (!device->frontend.failed) {
            result = vhost_user_frontend_get_vring_base(&device->frontend, i, &base);
            vhost_link_note(device, "stopping a ring", result);
        }
        unwatch_ring(device, &device->ring[i]);
    }
}

static unsigned largest_ring(const struct vhost_wish *wish)
{
    unsigned largest = 1;

    for (unsigned i = 0; i < wish->count; i++)
        largest = wish->rings[i].size > largest ? wish->rings[i].size : largest;
    return largest;
}

/* Hands the rings of the wish over. With in-flight memory the server goes on where that says. Locked. */
static int start_rings(struct vhost_device *device)
{
    const struct vhost_wish *wish = &device->wish;
    uint64_t own =
        (device->offered & BIT(VHOST_USER_F_PROTOCOL_FEATURES)) | (device->logs ? BIT(VHOST_F_LOG_ALL) : 0);
    int result = vhost_user_frontend_set_features(&device->frontend, wish->features | own);

    if (result == 0)
        result = vhost_link_share_inflight(device, largest_ring(wish));
    if (result == 0)
        result = send_memory(device);
    if (result == 0 && device->logs)
        result = vhost_user_frontend_set_log_base(&device->frontend, device->config.log_fd, 0,
                                                  device->config.log_bytes);
    if (result == 0)
        send_status(device, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK);
    for (unsigned i = 0; i < wish->count && result == 0; i++)
        result = start_ring(device, wish->features, &wish->rings[i]);
    if (result == 0)
        send_status(device, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK |
                                VIRTIO_STATUS_DRIVER_OK);
    vhost_link_note(device, "starting its rings", result);
    if (result < 0)
        stop_rings(device);
    return result;
}

/* A notification may have come before the server had the eventfd, or have been read by one that died. Locked. */
static void kick_all(struct vhost_device *device)
{
    for (unsigned i = 0; i < device->wish.count; i++)
        fd_eventfd_signal(device->ring[device->wish.rings[i].index].kick_fd);
}

static bool recoverable(const struct vhost_device *device)
{
    return device->config.await_successor &&
           device->protocol_features & VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD);
}

static int start(void *opaque, uint64_t features, const struct virtio_ring_setup *rings, unsigned count)
{
    struct vhost_device *device = opaque;
    int result = -ENOTCONN;

    for (unsigned i = 0; i < count; i++)
        if (!ring_valid(device, features, &rings[i]))
            return -EINVAL;
    pthread_mutex_lock(&device->lock);
    device->wish = (struct vhost_wish){.running = true, .features = features, .count = count};
    memcpy(device->wish.rings, rings, count * sizeof(*rings));
    vhost_link_forget_inflight(device);
    if (!atomic_load(&device->lost))
        result = start_rings(device);
    if (result == 0)
        kick_all(device);
    else if (recoverable(device) && atomic_load(&device->lost))
        result = 0; /* its successor will do it */
    else
        device->wish.running = false;
    pthread_mutex_unlock(&device->lock);
    return result;
}

static void stop(void *opaque)
{
    struct vhost_device *device = opaque;

    pthread_mutex_lock(&device->lock);
    device->wish.running = false;
    memset(device->written, 0, sizeof(device->written));
    stop_rings(device);
    if (!device->frontend.failed && !atomic_load(&device->lost))
        send_status(device, 0);
    vhost_link_forget_inflight(device);
    pthread_mutex_unlock(&device->lock);
}

static bool alive(void *opaque)
{
    struct vhost_device *device = opaque;

    return !atomic_load(&device->lost) || recoverable(device);
}

static void kick(void *opaque, unsigned queue)
{
    struct vhost_device *device = opaque;

    fd_eventfd_signal(device->ring[queue].kick_fd);
}

static const struct virtio_backend_ops backend_ops = {
    .start = start,
    .stop = stop,
    .alive = alive,
    .config_read = config_read,
    .config_write = config_write,
    .kick = kick,
};

/* --- life --- */

static int open_eventfds(struct vhost_device *device)
{
    device->err_fd = fd_eventfd_create();
    if (device->err_fd < 0)
        return device->err_fd;
    for (unsigned i = 0; i < device->queues; i++) {
        struct vhost_ring *ring = &device->ring[i];

        ring->kick_fd = fd_eventfd_create();
        ring->call_fd = fd_eventfd_create();
        if (ring->kick_fd < 0 || ring->call_fd < 0)
            return -EMFILE;
    }
    return 0;
}

static void choose_features(struct vhost_device *device)
{
    device->features = device->offered & ~(NOT_OURS | device->kind->hidden_features);
    if (!(device->frontend.protocol_features & VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_CONFIG)))
        device->features &= ~device->kind->config_features;
    if (device->logs)
        device->features &= ~F_RING_PACKED;
}

int vhost_device_create(const struct vhost_device_config *config, struct vhost_device **ret_device, char *why,
                        size_t why_bytes)
{
    struct vhost_device *device = calloc(1, sizeof(*device));
    const char *reason = NULL;
    int fd = config->fd, result;

    if (!device) {
        fd_close(&fd);
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    device->kind = &kinds[config->kind];
    device->config = *config;
    device->err_fd = device->requests_fd = device->inflight_fd = -1;
    for (unsigned i = 0; i < VIRTIO_PCI_QUEUES_MAX; i++)
        device->ring[i] = (struct vhost_ring){.device = device, .index = i, .kick_fd = -1, .call_fd = -1};
    pthread_mutex_init(&device->lock, NULL);
    pthread_mutex_init(&device->space_lock, NULL);
    atomic_store(&device->lost, true); /* nobody is told of a failure in here but our caller */
    device->frontend.socket = -1;
    result = vhost_link_open(device, fd, &reason);
    if (result == 0)
        result = vhost_device_fetch_space(device, NULL);
    if (result == 0)
        result = open_eventfds(device);
    if (result < 0) {
        snprintf(why, why_bytes, "the handshake with the %s server failed: %s; is it a vhost-user-%s server?",
                 device->kind->name, reason ? reason : strerror(-result), device->kind->name);
        vhost_device_destroy(device);
        return result;
    }
    choose_features(device);
    atomic_store(&device->lost, false);
    *ret_device = device;
    return 0;
}

void vhost_device_destroy(struct vhost_device *device)
{
    if (!device)
        return;
    vhost_link_close(device);
    vhost_link_forget_inflight(device);
    fd_close(&device->err_fd);
    for (unsigned i = 0; i < VIRTIO_PCI_QUEUES_MAX; i++) {
        fd_close(&device->ring[i].kick_fd);
        fd_close(&device->ring[i].call_fd);
    }
    pthread_mutex_destroy(&device->space_lock);
    pthread_mutex_destroy(&device->lock);
    free(device);
}

/* Everything that a successor is told before it is watched. Locked. */
static int take_successor(struct vhost_device *device, int fd, bool *ret_changed, const char **ret_why)
{
    int result = vhost_link_open(device, fd, ret_why);

    if (result == 0)
        result = restore_config(device);
    if (result == 0)
        result = vhost_device_fetch_space(device, ret_changed);
    if (result == 0 && device->wish.running)
        result = start_rings(device);
    if (result < 0 && !*ret_why)
        *ret_why = strerror(-result);
    return result;
}

int vhost_device_resume(struct vhost_device *device, int fd, char *why, size_t why_bytes)
{
    const char *reason = NULL;
    bool changed = false;
    int result;

    vhost_link_unwatch(device);
    pthread_mutex_lock(&device->lock);
    atomic_store(&device->lost, true); /* nobody is told of a failure in here but our caller */
    stop_rings(device);                /* if it lives: nothing stays in flight */
    vhost_link_close(device);
    device->requests_failed = false;
    result = take_successor(device, fd, &changed, &reason);
    if (result == 0) {
        atomic_store(&device->lost, false);
        if (device->wish.running)
            kick_all(device);
        result = vhost_link_watch(device);
    }
    if (result < 0) {
        snprintf(why, why_bytes, "the successor of its server cannot go on: %s",
                 reason ? reason : strerror(-result));
        atomic_store(&device->lost, true);
    }
    pthread_mutex_unlock(&device->lock);
    if (result == 0 && changed)
        device->config.host.config_changed(device->config.host.opaque);
    return result;
}

bool vhost_device_awaits_successor(struct vhost_device *device)
{
    return recoverable(device);
}

void vhost_device_describe(struct vhost_device *device, struct virtio_pci_config *ret_config)
{
    ret_config->device_type = device->kind->device_type;
    ret_config->pci_class = device->kind->pci_class;
    ret_config->features = device->features;
    ret_config->queues = device->queues;
    ret_config->queue_size_max = QUEUE_SIZE_MAX;
    ret_config->config_bytes = device->kind->config_bytes;
    ret_config->ops = &backend_ops;
    ret_config->opaque = device;
}
