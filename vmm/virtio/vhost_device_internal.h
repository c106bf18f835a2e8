/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_device_internal: shared by vhost_device.c (life, rings, configuration), vhost_link.c (the connection to a
 * server) and vhost_events.c (what the server sends). */
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

/* What the driver has asked for; kept so that a successor can be told. */
struct vhost_wish {
    bool running;
    uint64_t features;
    unsigned count;
    struct virtio_ring_setup rings[VIRTIO_PCI_QUEUES_MAX];
};

struct vhost_device {
    const struct vhost_kind *kind;
    struct vhost_device_config config;
    struct event_thread *thread; /* NULL until attach */

    pthread_mutex_t lock; /* the socket's requests, the wish, the in-flight memory */
    struct vhost_user_frontend frontend;
    uint64_t offered, features; /* by the server; to the driver */
    uint64_t protocol_features; /* with the first server */
    unsigned queues;            /* 0 until the first handshake is done */
    _Atomic bool lost;          /* no server at the moment, or no more */
    bool logs;                  /* the server keeps a log of its writes for us */
    struct vhost_wish wish;
    struct vhost_user_inflight inflight;
    int inflight_fd; /* -1: none */

    pthread_mutex_t space_lock;
    uint8_t space[VHOST_USER_CONFIG_BYTES_MAX]; /* copy of the configuration */
    bool written[VHOST_USER_CONFIG_BYTES_MAX];  /* bytes that the driver has written since its reset */

    int err_fd;
    int requests_fd; /* our end of the server's request channel, or -1 */
    struct vhost_user_stream requests;
    bool requests_failed; /* event thread: nothing more is read */
    struct event_source err_source, socket_source, requests_source;
    struct vhost_ring ring[VIRTIO_PCI_QUEUES_MAX];
};

/* Marks it lost and says so once. Any thread. */
void vhost_device_lose(struct vhost_device *device, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Reads the whole configuration again; *ret_changed (may be NULL): whether it differs. 0 or a negative errno. */
int vhost_device_fetch_space(struct vhost_device *device, bool *ret_changed);

/* --- vhost_link.c; main thread, with the lock held or before other threads know the device ---------------------- */

/* Takes `fd` and does the handshake; with a successor, checks that it can go on. Negative errno and a reason. */
int vhost_link_open(struct vhost_device *device, int fd, const char **ret_why);
/* The descriptors are not watched any more. */
void vhost_link_close(struct vhost_device *device);
/* After a failed request: a broken connection is a loss; a refusal is not. Returns `error`. Any thread with the lock. */
int vhost_link_note(struct vhost_device *device, const char *what, int error);
/* Gives the server the in-flight memory that there is, or asks it for one. Before the rings start. */
int vhost_link_share_inflight(struct vhost_device *device, unsigned queue_size);
void vhost_link_forget_inflight(struct vhost_device *device);
/* Without the lock. */
int vhost_link_watch(struct vhost_device *device);
void vhost_link_unwatch(struct vhost_device *device);

/* vhost_events.c: the server's own requests are there to read. Event thread. */
void vhost_events_on_requests(void *opaque, uint32_t events);
