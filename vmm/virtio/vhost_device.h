/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost_device: a device that lives in a vhost-user server; the back-end behind virtio_pci.
 *
 *   connected   create(): handshake done, features and configuration known      -> running (start), lost
 *   running     rings handed over                                               -> connected (stop), lost
 *   lost        the server has gone, stays silent or breaks the protocol        -> connected or running (resume)
 *
 * A lost device whose server tracked what is in flight, on a machine that awaits successors, stays alive for its driver:
 * start() and stop() change what a successor will be told, configuration is read from our copy and written into it, and
 * resume() hands everything over, in-flight memory included. Any other lost device is lost for good: start() fails.
 *
 * The order of messages is that of protocol/vhost_user_frontend.h. The memory table is sent at every start,
 * so that a server may forget it with the rings. "User addresses" on the wire are guest physical addresses:
 * the server learns nothing of our address space. Ring addresses are checked against RAM before the server
 * sees them.
 *
 * Doorbells: notification -> kick eventfd (written by the vCPU) -> server; server -> call eventfd -> event
 * thread -> host.interrupt(). The server's own requests come on a second socket and are answered by the event
 * thread.
 *
 * Threads: create, attach and destroy on the main thread; the back-end ops on vCPU threads, serialised by
 * virtio_pci's lock, kick() without it. host callbacks come from the event thread, but lost() from the thread
 * that noticed. A lock inside orders requests on the socket; each has a time-out.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "vmm/event_thread.h"
#include "vmm/ram.h"
#include "vmm/virtio/virtio_pci.h"

struct vhost_device;

enum vhost_device_kind { VHOST_DEVICE_BLK, VHOST_DEVICE_NET };

struct vhost_device_host {
    void (*interrupt)(void *opaque, unsigned queue);
    void (*config_changed)(void *opaque);
    void (*broken)(void *opaque); /* the server has given up on a ring */
    /* Once for each server. Must not take locks that are held around back-end ops. */
    void (*lost)(void *opaque, const char *why);
    /* While a ring runs: its used index, which moves after what the device wrote is in the log. Optional; only with a log. */
    void (*ring_started)(void *opaque, const uint16_t *used_index);
    void (*ring_stopped)(void *opaque, const uint16_t *used_index);
    void *opaque;
};

struct vhost_device_config {
    enum vhost_device_kind kind;
    int fd;               /* connected socket; taken */
    unsigned max_queues;  /* 0: as many as the server offers */
    int timeout_ms;       /* for one request */
    bool await_successor; /* vhost_device_resume() may be called after a loss */
    const struct ram *ram;
    /* A memfd with a bitmap (memory_log.h) where the server is to record its writes to guest memory; -1: none. Then packed
     * rings, which have no used index, are not offered. */
    int log_fd; /* borrowed */
    uint64_t log_bytes;
    struct vhost_device_host host;
};

/* Does the handshake. Negative errno and one line in `why`. */
int vhost_device_create(const struct vhost_device_config *config, struct vhost_device **ret_device, char *why,
                        size_t why_bytes);
/* Accepts NULL. The event thread has stopped. */
void vhost_device_destroy(struct vhost_device *device);
/* What virtio_pci needs to know: type, class, features, queues, configuration size, ops. */
void vhost_device_describe(struct vhost_device *device, struct virtio_pci_config *ret_config);
/* From now on call eventfds and the socket are watched. */
int vhost_device_attach(struct vhost_device *device, struct event_thread *thread);

/*
 * After a loss, or to leave a server that still lives: goes on with another one, connected at `fd` (taken). On failure
 * it is lost (again), without a call of host.lost(); negative errno and one line in `why`. Main thread; blocks for as
 * long as the server may take to answer.
 */
int vhost_device_resume(struct vhost_device *device, int fd, char *why, size_t why_bytes);
/* Whether a loss can be mended at all. */
bool vhost_device_awaits_successor(struct vhost_device *device);
