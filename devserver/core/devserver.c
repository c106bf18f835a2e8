/* SPDX-License-Identifier: Apache-2.0 */
#include "devserver/core/devserver.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devserver/core/devserver_internal.h"
#include "protocol/base/fd.h"

#define MESSAGES_PER_WAKEUP 32 /* then other handles of the loop get their turn */

static const struct sandbox_syscall devserver_calls[] = {
    SANDBOX_ALLOW(accept4, "the next front-end, on a listening socket"),
    SANDBOX_ALLOW(dup3, "a new call eventfd under the number that queue threads write to"),
    SANDBOX_ALLOW(fstatfs, "huge page size of a memory region's file"),
};
const struct sandbox_syscall_set devserver_syscalls = SANDBOX_SET(devserver_calls);

int devserver_refuse(struct devserver *server, int error, const char *why)
{
    server->why = why;
    return error;
}

static void maybe_free(struct devserver *server)
{
    if (!server->destroying || server->open_handles > 0)
        return;
    memory_map_finish(&server->memory);
    memory_log_unmap(&server->log);
    for (unsigned i = 0; server->rings && i < server->config.max_queues; i++)
        ring_finish(&server->rings[i]);
    memory_map_guard_install(-1);
    fd_close(&server->lost_fd);
    fd_close(&server->config.listen_fd);
    if (server->closed)
        server->closed(server->config.opaque);
    free(server->rings);
    free(server);
}

uv_poll_t *devserver_watch(struct devserver *server, int fd, uv_poll_cb callback, void *data)
{
    uv_poll_t *poll = calloc(1, sizeof(*poll));

    if (!poll || uv_poll_init(server->loop, poll, fd) < 0) {
        free(poll);
        return NULL;
    }
    poll->data = data;
    server->open_handles++;
    if (uv_poll_start(poll, UV_READABLE, callback) < 0)
        devserver_unwatch(server, &poll);
    return poll;
}

static void watch_closed(uv_handle_t *handle)
{
    struct devserver *server = handle->data;

    free(handle);
    server->open_handles--;
    maybe_free(server);
}

void devserver_unwatch(struct devserver *server, uv_poll_t **poll)
{
    if (!*poll)
        return;
    uv_poll_stop(*poll);
    (*poll)->data = server;
    uv_close((uv_handle_t *)*poll, watch_closed);
    *poll = NULL;
}

static void accept_peer(uv_poll_t *poll, int status, int events);

static void disconnect(struct devserver *server, int reason)
{
    if (server->socket < 0)
        return;
    devserver_unwatch(server, &server->socket_poll);
    devserver_reset_session(server);
    for (unsigned i = 0; i < server->config.max_queues; i++) {
        int call = -1, err = -1;

        ring_set_call(&server->rings[i], &call);
        ring_set_err(&server->rings[i], &err);
    }
    devserver_inflight_drop(server);
    memory_map_clear(&server->memory);
    server->memory.log = NULL;
    memory_log_unmap(&server->log);
    server->protocol_features = 0;
    vhost_user_stream_finish(&server->stream);
    fd_close(&server->socket);
    if (server->config.ops->disconnected)
        server->config.ops->disconnected(server->config.opaque);
    if (server->destroying)
        return;
    if (server->config.listen_fd >= 0) {
        server->listen_poll = devserver_watch(server, server->config.listen_fd, accept_peer, server);
        if (!server->listen_poll)
            log_error("%s: cannot wait for another front-end", server->config.name);
    } else if (server->finished) {
        server->finished(server->config.opaque, reason);
    }
}

static void socket_ready(uv_poll_t *poll, int status, int events)
{
    struct devserver *server = poll->data;
    int r = 1;

    server->why = "framing";
    for (unsigned i = 0; r > 0 && i < MESSAGES_PER_WAKEUP; i++) {
        struct vhost_user_message message;

        r = vhost_user_stream_receive(&server->stream, &message);
        if (r > 0) {
            int handled = devserver_handle(server, &message);

            r = handled < 0 ? handled : 1;
        }
    }
    if (r >= 0)
        return;
    if (r == -EPIPE)
        log_info("%s: the front-end has disconnected", server->config.name);
    else
        log_warning("%s: dropped the front-end: %s (%s)", server->config.name,
                    r == -ECONNRESET ? "it closed the connection inside a message" : server->why,
                    strerror(-r));
    disconnect(server, r);
}

static void lost_memory(uv_poll_t *poll, int status, int events)
{
    struct devserver *server = poll->data;

    fd_eventfd_consume(server->lost_fd);
    if (server->socket < 0 || !memory_map_lost(&server->memory))
        return;
    log_warning("%s: dropped the front-end: it shortened a file that it had shared as guest memory",
                server->config.name);
    disconnect(server, -EFAULT);
}

/* Takes *socket. */
static int connect_peer(struct devserver *server, int *socket)
{
    int r = fd_set_nonblock(*socket, true);

    if (r < 0)
        return r;
    server->socket_poll = devserver_watch(server, *socket, socket_ready, server);
    if (!server->socket_poll)
        return -EIO;
    server->socket = fd_steal(socket);
    server->refusal_limit = (struct log_limit){0}; /* one peer's noise must not hide another's */
    vhost_user_stream_init(&server->stream, server->socket);
    return 0;
}

static void accept_peer(uv_poll_t *poll, int status, int events)
{
    struct devserver *server = poll->data;
    cleanup_fd int socket = accept4(server->config.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    int r;

    if (socket < 0)
        return;
    r = connect_peer(server, &socket);
    if (r < 0) {
        log_warning("%s: cannot serve a front-end: %s", server->config.name, strerror(-r));
        return;
    }
    log_info("%s: a front-end has connected", server->config.name);
    devserver_unwatch(server, &server->listen_poll);
}

static int server_init(struct devserver *server)
{
    int r = memory_map_init(&server->memory);

    if (r < 0)
        return r;
    server->rings = calloc(server->config.max_queues, sizeof(*server->rings));
    if (!server->rings)
        return -ENOMEM;
    for (unsigned i = 0; i < server->config.max_queues; i++) {
        int opened = ring_init(&server->rings[i], server, i);

        r = opened < 0 ? opened : r;
    }
    if (r < 0)
        return r;
    server->lost_fd = fd_eventfd_create();
    if (server->lost_fd < 0)
        return server->lost_fd;
    r = memory_map_guard_install(server->lost_fd);
    if (r < 0)
        return r;
    server->lost_poll = devserver_watch(server, server->lost_fd, lost_memory, server);
    return server->lost_poll ? 0 : -EIO;
}

/* The descriptors of the configuration. */
static int server_open(struct devserver *server)
{
    int r;

    if (server->config.listen_fd < 0)
        return connect_peer(server, &server->config.connected_fd);
    r = fd_set_nonblock(server->config.listen_fd, true);
    if (r < 0)
        return r;
    server->listen_poll = devserver_watch(server, server->config.listen_fd, accept_peer, server);
    return server->listen_poll ? 0 : -EIO;
}

int devserver_create(uv_loop_t *loop, const struct devserver_config *config, struct devserver **ret_server)
{
    struct devserver *server = calloc(1, sizeof(*server));
    int r;

    assert((config->connected_fd < 0) != (config->listen_fd < 0));
    assert(config->max_queues > 0 && config->max_queues <= VHOST_USER_QUEUES_MAX);
    assert(config->config_bytes <= VHOST_USER_CONFIG_BYTES_MAX);
    assert(config->threaded || config->ops->queue_kick);
    if (!server)
        return -ENOMEM;
    server->config = *config;
    server->loop = loop;
    server->socket = -1;
    server->reply_fd = -1;
    server->lost_fd = -1;
    r = server_init(server);
    if (r == 0 && config->ops->loop_start) {
        r = config->ops->loop_start(config->opaque, loop);
        server->device_on_loop = r == 0;
    }
    if (r == 0)
        r = server_open(server);
    if (r < 0) {
        server->config.listen_fd = -1; /* stays the caller's */
        devserver_destroy(server, NULL);
        return r;
    }
    *ret_server = server;
    return 0;
}

void devserver_destroy(struct devserver *server, void (*closed)(void *opaque))
{
    if (!server)
        return;
    server->destroying = true;
    server->closed = closed;
    server->open_handles++; /* so that the last close callback is not inside this function */
    disconnect(server, 0);
    if (server->device_on_loop)
        server->config.ops->loop_stop(server->config.opaque);
    devserver_unwatch(server, &server->listen_poll);
    devserver_unwatch(server, &server->lost_poll);
    server->open_handles--;
    maybe_free(server);
}

uv_loop_t *devserver_loop(const struct devserver *server)
{
    return server->loop;
}

uint64_t devserver_features(const struct devserver *server)
{
    return server->features;
}

const struct memory_map *devserver_memory(const struct devserver *server)
{
    return &server->memory;
}

void devserver_on_finished(struct devserver *server, void (*finished)(void *opaque, int reason))
{
    server->finished = finished;
}
