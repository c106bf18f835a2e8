/* SPDX-License-Identifier: Apache-2.0 */
/* What a device server sends by itself: interrupts, ring errors, requests of its own, and its end. Event
 * thread. */
#include "vmm/virtio/vhost_device_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "protocol/base/fd.h"

/* Edge-triggered, so that the eventfd need not be read: each signal is an edge, a burst of them becomes one interrupt. */
static void on_call(void *opaque, uint32_t events)
{
    struct vhost_ring *ring = opaque;

    ring->device->config.host.interrupt(ring->device->config.host.opaque, ring->index);
}

static void on_ring_error(void *opaque, uint32_t events)
{
    struct vhost_device *device = opaque;

    if (fd_eventfd_consume(device->err_fd))
        device->config.host.broken(device->config.host.opaque);
}

static void on_hangup(void *opaque, uint32_t events)
{
    vhost_device_lose(opaque, "the device server has closed its socket");
}

static int acknowledge(struct vhost_device *device, const struct vhost_user_message *request, uint64_t value)
{
    const struct vhost_user_message reply = {
        .header = {.request = request->header.request,
                   .flags = VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY,
                   .size = sizeof(uint64_t)},
        .payload = {.u64 = value},
    };

    if (!(request->header.flags & VHOST_USER_FLAG_NEED_REPLY))
        return 0;
    return vhost_user_send(device->own_requests_fd, &reply);
}

/* One request. Negative: the channel is of no more use. The answer goes out before anything that needs the
 * main socket, whose owner may be waiting for this very server. */
static int handle_request(struct vhost_device *device, struct vhost_user_message *request)
{
    const char *why;
    int result = vhost_user_check_request(VHOST_USER_TO_FRONTEND, request, device->frontend.protocol_features,
                                          VHOST_USER_STATE_RUNNING, &why);

    if (result < 0)
        return result;
    if (request->header.request != VHOST_USER_BACKEND_CONFIG_CHANGE_MSG)
        return acknowledge(device, request, 1); /* well-formed, but nothing that we offered to do */
    result = acknowledge(device, request, 0);
    if (result == 0 && vhost_device_fetch_space(device) == 0)
        device->config.host.config_changed(device->config.host.opaque);
    return result;
}

static void on_requests(void *opaque, uint32_t events)
{
    struct vhost_device *device = opaque;
    struct vhost_user_message request;
    int result = vhost_user_stream_receive(&device->requests, &request);

    if (result == 1) {
        result = handle_request(device, &request);
        vhost_user_message_finish(&request);
    }
    if (result < 0) {
        /* No more requests are read; the device goes on without. A closed descriptor leaves the epoll set. */
        vhost_user_stream_finish(&device->requests);
        fd_close(&device->own_requests_fd);
    }
}

static int watch(struct event_thread *thread, struct event_source *source, int fd, uint32_t events,
                 void (*ready)(void *, uint32_t), void *opaque)
{
    *source = (struct event_source){.fd = fd, .epoll_events = events, .ready = ready, .opaque = opaque};
    return event_thread_add(thread, source);
}

int vhost_device_attach(struct vhost_device *device, struct event_thread *thread)
{
    int result = watch(thread, &device->err_source, device->err_fd, EPOLLIN, on_ring_error, device);

    for (unsigned i = 0; i < device->queues && result == 0; i++)
        result = watch(thread, &device->ring[i].call_source, device->ring[i].call_fd, EPOLLIN | EPOLLET,
                       on_call, &device->ring[i]);
    if (result == 0)
        result = watch(thread, &device->socket_source, device->frontend.socket, EPOLLRDHUP | EPOLLONESHOT,
                       on_hangup, device);
    if (result == 0 && device->own_requests_fd >= 0)
        result =
            watch(thread, &device->requests_source, device->own_requests_fd, EPOLLIN, on_requests, device);
    return result;
}
