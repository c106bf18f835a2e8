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
    return vhost_user_send(device->requests_fd, &reply);
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
    if (result < 0)
        return result;
    pthread_mutex_lock(&device->lock);
    int fetched = atomic_load(&device->lost) ? -ENOTCONN : vhost_device_fetch_space(device, NULL);
    pthread_mutex_unlock(&device->lock);
    if (fetched == 0)
        device->config.host.config_changed(device->config.host.opaque);
    return 0;
}

void vhost_events_on_requests(void *opaque, uint32_t events)
{
    struct vhost_device *device = opaque;
    int result = 1;

    while (result == 1 && !device->requests_failed) {
        struct vhost_user_message request;

        result = vhost_user_stream_receive(&device->requests, &request);
        if (result == 1) {
            int handled = handle_request(device, &request);

            vhost_user_message_finish(&request);
            result = handled < 0 ? handled : 1;
        }
    }
    if (result < 0)
        device->requests_failed = true; /* the device goes on without */
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
    device->thread = thread;
    return result < 0 ? result : vhost_link_watch(device);
}
