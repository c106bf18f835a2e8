/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_device_internal: shared by vhost_device.c (life, rings) and vhost_events.c (what the server sends).
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "protocol/vhost_user_frontend.h"
#include "vmm/virtio/vhost_device.h"

/* What the transport must know of a kind of device before it can show it. */
struct vhost_kind {
    const char *name;
    unsigned device_type; /* VIRTIO 1.2 chapter 5 */
    uint32_t pci_class;
    unsigned config_bytes;
    uint64_t hidden_features; /* they need more than this configuration or these queues */
    uint64_t config_features; /* nor can be had without CONFIG */
    unsigned fixed_queues;    /* 0: what the server says */
    unsigned config_queues;   /* offset of a 16-bit queue count in the configuration, or 0 */
};

struct vhost_ring {
    struct vhost_device *device;
    unsigned index;
    int kick_fd, call_fd;
    bool started;
    const uint16_t *used_index; /* in guest memory, while it is watched */
    struct event_source call_source;
};

struct vhost_device {
    const struct vhost_kind *kind;
    struct vhost_device_config config;
    pthread_mutex_t lock; /* the socket's requests */
    struct vhost_user_frontend frontend;
    uint64_t offered, features; /* by the server; to the driver */
    unsigned queues;
    _Atomic bool lost;
    bool logs; /* the server keeps a log of its writes for us */

    pthread_mutex_t space_lock;
    uint8_t space[VHOST_USER_CONFIG_BYTES_MAX]; /* copy of the configuration */

    int err_fd;
    int own_requests_fd, peer_requests_fd; /* the server's request channel: our end, theirs until sent */
    struct vhost_user_stream requests;
    struct event_source err_source, socket_source, requests_source;
    struct vhost_ring ring[VIRTIO_PCI_QUEUES_MAX];
};

/* Marks it lost and says so once. Any thread. */
void vhost_device_lose(struct vhost_device *device, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Reads the whole configuration again. 0 or a negative errno. */
int vhost_device_fetch_space(struct vhost_device *device);
