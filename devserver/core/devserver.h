/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libbulkhead-devserver: the back-end side of vhost-user, so that a device is an ops struct and a short
 * main().
 *
 * A devserver owns one vhost-user socket (or listens for one after the other), the guest memory map, and the
 * rings' set-up. The device sees only: features, config space, and queues that start and stop.
 *
 *     connected -> features_set() -> queue_start(0) queue_start(1) ... -> queue_stop(...) -> disconnected()
 *
 * Between queue_start() and the return of queue_stop() the device owns queue->vq: it pops, pushes and
 * flushes, on whatever one thread it likes. Outside that the core may change rings and memory. So memory
 * hot-plug, RESET_DEVICE, a lost peer and the end of the process all look alike to a device: stop, perhaps
 * start again.
 *
 * Two ways to work a queue, chosen with `threaded`:
 *   - on the loop thread (threaded = false): the core watches the kick eventfd and calls queue_kick(); the
 * device does its work there and in callbacks of its own handles on the same libuv loop (devserver_loop()).
 *   - on a thread of the device (threaded = true): the device watches queue->kick_fd itself, from
 * queue_start() on. queue_stop() returns when that thread has let go: nothing in flight, no pointer into
 * guest memory kept. In both, look at the ring once after the start even without a kick: one may have come
 * before.
 *
 * Notifications: `if (virtqueue_flush(&queue->vq)) devserver_queue_notify(queue);`
 * A broken queue (virtqueue_pop() < 0): devserver_queue_report(queue), once, and leave it alone until it is
 * stopped.
 *
 * One devserver per process: it owns the process's SIGBUS guard (memory_map.h).
 *
 * Threads: every function and op on the loop's thread, but those marked 'any thread'.
 * Errors: negative errno. What a peer does wrong is logged here and ends the connection at worst.
 * Specification: QEMU docs/interop/vhost-user.rst. State tables: docs/vhost-user.md.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "protocol/base/sandbox.h"
#include "protocol/memory_map.h"
#include "protocol/virtqueue.h"

struct devserver;

struct devserver_queue {
    unsigned index;
    struct virtqueue vq; /* the device's between queue_start() and queue_stop() */
    int kick_fd;         /* owned by the core, non-blocking; valid between queue_start() and queue_stop() */
    int call_fd;         /* owned by the core; use devserver_queue_notify() */
    struct devserver *server;
    void *opaque; /* the device's own, e.g. its worker; NULL at first, kept over stops */
};

/* All pointers to ops receive the `opaque` of devserver_config. Optional ones may be NULL. */
struct devserver_ops {
    /* Config space. Ranges are inside config_bytes (what lies beyond reads as zeros). Set: 0 or negative
     * errno (refused); optional. */
    void (*config_get)(void *opaque, unsigned offset, void *buffer, unsigned bytes);
    int (*config_set)(void *opaque, unsigned offset, const void *data, unsigned bytes);

    /* The driver's choice, a subset of config.features; may come again while no queue runs. 0 or negative
     * errno. Optional. */
    int (*features_set)(void *opaque, uint64_t features);

    /* queue->vq is started. Negative errno: the queue stays stopped, the peer is told through its error
     * eventfd. */
    int (*queue_start)(void *opaque, struct devserver_queue *queue);
    /* Returns when the device has let go of the queue. What is in flight is finished first. */
    void (*queue_stop)(void *opaque, struct devserver_queue *queue);
    /* Not threaded only: the guest has kicked, or the queue was just started. */
    void (*queue_kick)(void *opaque, struct devserver_queue *queue);

    /* The peer has gone; all queues are stopped already. Forget per-connection state. Optional. */
    void (*disconnected)(void *opaque);

    /* For a device with handles of its own on the loop: start them before the first peer (0 or negative errno), close them
     * at the end, after the last queue_stop(); the device outlives the loop. Both or none. */
    int (*loop_start)(void *opaque, uv_loop_t *loop);
    void (*loop_stop)(void *opaque);
};

struct devserver_config {
    const char *name;    /* for logs: "blk"; borrowed */
    uint64_t features;   /* virtio feature bits of the device type; the core adds the transport's */
    unsigned max_queues; /* 1..VHOST_USER_QUEUES_MAX */
    unsigned max_queue_size;
    unsigned config_bytes; /* size of the config space, at most VHOST_USER_CONFIG_BYTES_MAX */
    bool threaded;
    const struct devserver_ops *ops; /* borrowed */
    void *opaque;                    /* borrowed */
    int connected_fd;                /* a connected socket (taken), or -1 */
    int listen_fd;                   /* a listening socket (taken), or -1: serves one peer after the other */
};

/* Exactly one of connected_fd and listen_fd. Starts watching the socket on `loop` (borrowed); returns owned.
 * On failure the descriptors stay the caller's. */
int devserver_create(uv_loop_t *loop, const struct devserver_config *config, struct devserver **ret_server);

/*
 * Stops all queues, closes the connection and the handles, and frees the object from their close callbacks:
 * run the loop until it returns. `closed` (optional) is called last.
 */
void devserver_destroy(struct devserver *server, void (*closed)(void *opaque));

uv_loop_t *devserver_loop(const struct devserver *server);
uint64_t devserver_features(const struct devserver *server); /* negotiated */
const struct memory_map *devserver_memory(const struct devserver *server);

/* With connected_fd: called when the peer has gone for good, after disconnected(). A main() stops its loop
 * there. */
void devserver_on_finished(struct devserver *server, void (*finished)(void *opaque, int reason));

/* Sends a notification to the driver. Any thread. */
void devserver_queue_notify(struct devserver_queue *queue);

/* Logs why queue->vq is broken (rate limited) and signals the error eventfd. The thread that works the queue.
 */
void devserver_queue_report(struct devserver_queue *queue);

/* System calls of this library, for the sandbox of the program; beside the sets base, events and messages. */
extern const struct sandbox_syscall_set devserver_syscalls;
