/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of a devserver: devserver.c (life cycle, connection), devserver_session.c (one handler per
 * message), devserver_ring.c (set-up, start and stop of one ring), devserver_inflight.c (in-flight memory).
 *
 * A ring is
 *     stopped    no SET_VRING_KICK yet, or GET_VRING_BASE, reset, end of connection since
 *     started    its virtqueue is set up in guest memory
 *     running    started and enabled: the device owns the virtqueue (queue_start() was called)
 * While memory changes, all running rings are paused: queue_stop(), new memory, queue_start().
 */
#pragma once

#include "devserver/core/devserver.h"
#include "protocol/base/log.h"
#include "protocol/vhost_user.h"

struct ring {
    struct devserver_queue queue; /* the device's view */
    unsigned size;
    uint32_t base;
    bool has_addr;
    struct vhost_user_vring_addr addr;
    int err_fd;
    bool enable_wish; /* SET_VRING_ENABLE */
    bool started, running;
    bool base_told; /* GET_VRING_BASE has been answered: the next base counts, not the in-flight region */
    uv_poll_t *kick_poll; /* heap; freed in its close callback */
    struct log_limit broken_limit;
};

/* The in-flight memory of a session; all zero: there is none. */
struct inflight_memory {
    void *mapping;
    size_t bytes, stride_bytes; /* from one queue's region to the next */
    unsigned queues, queue_size;
};

struct devserver {
    struct devserver_config config;
    uv_loop_t *loop;
    struct memory_map memory;
    struct memory_log log; /* mapped by SET_LOG_BASE; in use while LOG_ALL is negotiated */
    struct ring *rings;    /* config.max_queues of them */

    /* Session: from connect to disconnect. */
    int socket; /* -1: not connected */
    struct vhost_user_stream stream;
    uv_poll_t *socket_poll;
    uint64_t features, protocol_features;
    bool features_acked;
    uint8_t status;
    const char *why; /* reason of the last refusal, a literal */
    int reply_fd;    /* goes with the reply to the request under way; owned, or -1 */
    struct inflight_memory inflight;

    uv_poll_t *listen_poll;
    int lost_fd; /* eventfd of the SIGBUS guard */
    uv_poll_t *lost_poll;
    struct log_limit refusal_limit;

    void (*finished)(void *opaque, int reason);
    void (*closed)(void *opaque);
    unsigned open_handles;
    bool destroying;
    bool device_on_loop; /* ops->loop_start() has succeeded */
};

/* devserver.c */
uv_poll_t *devserver_watch(struct devserver *server, int fd, uv_poll_cb callback, void *data);
void devserver_unwatch(struct devserver *server, uv_poll_t **poll);
/* Remembers why and passes the error on. */
int devserver_refuse(struct devserver *server, int error, const char *why);

/* devserver_session.c */
uint64_t devserver_offered_features(const struct devserver *server);
/* Handles one request; 0, or a negative errno after which the connection must be dropped. */
int devserver_handle(struct devserver *server, struct vhost_user_message *message);
/* Back to what a fresh connection has, except for memory and descriptors. */
void devserver_reset_session(struct devserver *server);

/* devserver_ring.c */
int ring_init(struct ring *ring, struct devserver *server, unsigned index);
void ring_finish(struct ring *ring);
int ring_start(struct ring *ring);
void ring_stop(struct ring *ring);
/* Lets the device have or give back a started ring, as enable_wish and the features say. */
int ring_update(struct ring *ring);
/* Before and after a change of memory. */
void ring_pause(struct ring *ring);
void ring_resume(struct ring *ring);
void ring_reset(struct ring *ring);
/* All take the descriptor from *fd. KICK: a ring that has started takes the new one at once. */
int ring_set_kick(struct ring *ring, int *fd);
int ring_set_call(struct ring *ring, int *fd);
int ring_set_err(struct ring *ring, int *fd);

/* devserver_inflight.c. get: fills the reply, with the new memory's descriptor in reply_fd. set: borrows `fd`. */
int devserver_inflight_get(struct devserver *server, struct vhost_user_inflight *info);
int devserver_inflight_set(struct devserver *server, const struct vhost_user_inflight *info, int fd);
void devserver_inflight_drop(struct devserver *server);
/* The region of a queue, or NULL; clear: it holds nothing any more. */
void *devserver_inflight_region(const struct devserver *server, unsigned queue);
void devserver_inflight_clear(struct devserver *server, unsigned queue);
