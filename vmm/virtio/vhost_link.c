/* SPDX-License-Identifier: Apache-2.0 */
/* The connection to one device server: handshake, what a successor must bring, and what is watched of it. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "protocol/base/fd.h"
#include "vmm/virtio/vhost_device_internal.h"

#define WANTED_PROTOCOL_FEATURES                                                                             \
    (VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_MQ) | VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) |            \
     VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) | VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_CONFIG) |      \
     VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) | VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_STATUS))

/* --- loss --------------------------------------------------------------------------------------------------- */

void vhost_device_lose(struct vhost_device *device, const char *format, ...)
{
    char why[256];
    va_list arguments;

    if (atomic_exchange(&device->lost, true))
        return;
    va_start(arguments, format);
    vsnprintf(why, sizeof(why), format, arguments);
    va_end(arguments);
    device->config.host.lost(device->config.host.opaque, why);
}

int vhost_link_note(struct vhost_device *device, const char *what, int error)
{
    if (error < 0 && device->frontend.failed)
        vhost_device_lose(device, "device server: %s: %s", what, strerror(-error));
    return error;
}

/* --- handshake ------------------------------------------------------------------------------------------------- */

static int negotiate_protocol(struct vhost_device *device)
{
    const uint64_t log = device->config.log_fd >= 0 && device->offered & VHOST_USER_BIT(VHOST_F_LOG_ALL)
                             ? VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_LOG_SHMFD)
                             : 0;
    uint64_t offered;
    int result;

    if (!(device->offered & VHOST_USER_BIT(VHOST_USER_F_PROTOCOL_FEATURES)))
        return 0;
    result = vhost_user_frontend_get_protocol_features(&device->frontend, &offered);
    if (result == 0)
        result = vhost_user_frontend_set_protocol_features(&device->frontend,
                                                           offered & (log | WANTED_PROTOCOL_FEATURES));
    device->logs = result == 0 && offered & log;
    return result;
}

static int count_queues(struct vhost_device *device, unsigned *ret_queues)
{
    unsigned offered, limit = VIRTIO_PCI_QUEUES_MAX;
    int result = vhost_user_frontend_get_queue_num(&device->frontend, &offered);

    if (result < 0)
        return result;
    if (device->config.max_queues && device->config.max_queues < limit)
        limit = device->config.max_queues;
    *ret_queues = device->kind->fixed_queues ? device->kind->fixed_queues : offered < limit ? offered : limit;
    return 0;
}

static int open_request_channel(struct vhost_device *device)
{
    cleanup_fd int peer = -1;
    int pair[2];

    if (!(device->frontend.protocol_features & VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ)))
        return 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    device->requests_fd = pair[0];
    peer = pair[1];
    fd_set_nonblock(peer, false); /* the server's end is as a server expects it */
    vhost_user_stream_init(&device->requests, device->requests_fd);
    return vhost_user_frontend_set_backend_req_fd(&device->frontend, peer);
}

/* A successor must be able to go on with what the driver was shown. */
static int check_successor(const struct vhost_device *device, uint64_t protocol_features, unsigned queues,
                           const char **ret_why)
{
    *ret_why = NULL;
    if (device->features & ~device->offered)
        *ret_why = "it lacks features that the driver was shown";
    else if (protocol_features & ~device->frontend.protocol_features)
        *ret_why = "it lacks protocol features that its predecessor had";
    else if (queues < device->queues)
        *ret_why = "it has fewer queues than its predecessor";
    return *ret_why ? -ENOTSUP : 0;
}

static int handshake(struct vhost_device *device, const char **ret_why)
{
    struct vhost_user_frontend *frontend = &device->frontend;
    bool successor = device->queues > 0;
    uint64_t protocol_features = device->protocol_features;
    unsigned queues = 0;
    int result = vhost_user_frontend_get_features(frontend, &device->offered);

    if (result == 0)
        result = negotiate_protocol(device);
    if (result == 0)
        result = vhost_user_frontend_set_owner(frontend);
    if (result == 0)
        result = count_queues(device, &queues);
    if (result == 0 && successor)
        result = check_successor(device, protocol_features, queues, ret_why);
    if (result == 0)
        result = open_request_channel(device);
    if (result < 0)
        return result;
    if (!successor) {
        device->queues = queues;
        device->protocol_features = frontend->protocol_features;
    }
    return 0;
}

int vhost_link_open(struct vhost_device *device, int fd, const char **ret_why)
{
    int result = vhost_user_frontend_init(&device->frontend, fd, device->config.timeout_ms);

    *ret_why = NULL;
    if (result < 0)
        fd_close(&fd);
    else
        result = handshake(device, ret_why);
    if (result < 0 && !*ret_why)
        *ret_why = strerror(-result);
    return result;
}

void vhost_link_close(struct vhost_device *device)
{
    vhost_user_frontend_finish(&device->frontend);
    if (device->requests_fd >= 0)
        vhost_user_stream_finish(&device->requests);
    fd_close(&device->requests_fd);
}

/* --- in-flight memory -------------------------------------------------------------------------------------------- */

void vhost_link_forget_inflight(struct vhost_device *device)
{
    fd_close(&device->inflight_fd);
}

int vhost_link_share_inflight(struct vhost_device *device, unsigned queue_size)
{
    if (!(device->frontend.protocol_features & VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD)))
        return 0;
    if (device->inflight_fd >= 0)
        return vhost_user_frontend_set_inflight_fd(&device->frontend, &device->inflight, device->inflight_fd);
    return vhost_user_frontend_get_inflight_fd(&device->frontend, device->queues, queue_size,
                                               &device->inflight, &device->inflight_fd);
}

/* --- watching ---------------------------------------------------------------------------------------------------- */

static void on_hangup(void *opaque, uint32_t events)
{
    vhost_device_lose(opaque, "the device server has closed its socket");
}

int vhost_link_watch(struct vhost_device *device)
{
    int result;

    device->socket_source = (struct event_source){.fd = device->frontend.socket,
                                                  .epoll_events = EPOLLRDHUP | EPOLLONESHOT,
                                                  .ready = on_hangup,
                                                  .opaque = device};
    result = event_thread_add(device->thread, &device->socket_source);
    if (result < 0 || device->requests_fd < 0)
        return result;
    device->requests_source = (struct event_source){.fd = device->requests_fd,
                                                    .epoll_events = EPOLLIN | EPOLLET,
                                                    .ready = vhost_events_on_requests,
                                                    .opaque = device};
    return event_thread_add(device->thread, &device->requests_source);
}

void vhost_link_unwatch(struct vhost_device *device)
{
    if (!device->thread)
        return;
    event_thread_remove(device->thread, &device->socket_source);
    event_thread_remove(device->thread, &device->requests_source);
}
