/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. One loop iteration: the kick eventfds and the wire's descriptor wake it; their
 * callbacks move frames; the prepare callback, once before each sleep, publishes what went to the guest with
 * one notification and tells the wire what to wait for.
 *
 * To the guest there is at most one frame under way (`rx`): it collects buffers, and is written into each at
 * once, until it is whole. Buffers that were collected stay ours while it waits for more, so that the ring's
 * available index is reached and the guest's next buffer does kick us (with EVENT_IDX a kick is for 'the next
 * one after those seen'). Only whole frames are pushed. When the ring cannot give more because we hold all of
 * it, the frame is dropped.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devserver/net/checksum.h"
#include "devserver/net/frame_queue.h"
#include "devserver/net/net_device.h"
#include "devserver/net/virtio_net.h"
#include "protocol/base/log.h"

#define QUEUE_RX       0
#define QUEUE_TX       1
#define QUEUE_SIZE_MAX 1024

#define BACKLOG_BYTES    (4 * MIB)
#define TX_BATCH         64   /* chains before the loop looks at everything else again */
#define CHAIN_IOV_MAX    1024 /* buffers in a chain */
#define RX_ELEMENTS_MAX  256  /* chains that one frame may be spread over */
#define FRAME_BYTES_MIN  14
#define HEADER_BYTES_MAX sizeof(struct virtio_net_header)

struct rx_element {
    struct virtqueue_element element;
    uint32_t written_bytes;
};

/* The frame that is being written to the guest. */
struct rx_progress {
    unsigned count;          /* elements held */
    size_t written;          /* of header and frame */
    uint8_t *num_buffers[2]; /* where that header field went, byte by byte */
    struct rx_element elements[RX_ELEMENTS_MAX];
};

enum rx_result { RX_DONE, RX_WAIT, RX_DROP };

struct net_device {
    struct virtio_net_config space;
    struct user_net *user_net;
    struct devserver_queue *rx_queue, *tx_queue; /* NULL while stopped or broken */
    uint64_t features;
    size_t header_bytes;
    struct frame_queue backlog;
    struct rx_progress rx;
    uv_poll_t wire;
    uv_prepare_t before_sleep;
    uv_idle_t more_tx;
    struct log_limit guest_errors, dropped;
    struct iovec rx_iov[CHAIN_IOV_MAX], tx_iov[CHAIN_IOV_MAX];
    uint8_t tx_frame[USER_NET_FRAME_BYTES_MAX];
};

static bool has_feature(const struct net_device *device, unsigned bit)
{
    return device->features & (UINT64_C(1) << bit);
}

/* --- to the guest --- */

static void rx_broken(struct net_device *device)
{
    devserver_queue_report(device->rx_queue);
    device->rx_queue = NULL;
    device->rx.count = 0;
    frame_queue_clear(&device->backlog);
}

static void rx_give_back(struct net_device *device)
{
    struct rx_progress *rx = &device->rx;

    while (rx->count > 0)
        virtqueue_unpop(&device->rx_queue->vq, &rx->elements[--rx->count].element);
}

static uint8_t *byte_at(const struct virtqueue_element *element, size_t offset)
{
    const struct iovec *iov = element->iov + element->readable;

    for (; offset >= iov->iov_len; iov++)
        offset -= iov->iov_len;
    return (uint8_t *)iov->iov_base + offset;
}

static bool rx_write_header(struct net_device *device, const struct virtqueue_element *element)
{
    struct virtio_net_header header = {.gso_type = VIRTIO_NET_HDR_GSO_NONE, .num_buffers = 1};
    const size_t field = offsetof(struct virtio_net_header, num_buffers);

    if (element->writable_bytes < device->header_bytes)
        return false;
    if (has_feature(device, VIRTIO_NET_F_GUEST_CSUM))
        header.flags = VIRTIO_NET_HDR_F_DATA_VALID;
    virtqueue_element_write(element, 0, &header, device->header_bytes);
    if (device->header_bytes == sizeof header) {
        device->rx.num_buffers[0] = byte_at(element, field);
        device->rx.num_buffers[1] = byte_at(element, field + 1);
    }
    device->rx.written = device->header_bytes;
    return true;
}

/* Writes the next part of the frame into a buffer that was just popped. -EPROTO: no receive buffer;
 * -EMSGSIZE: the whole frame had to fit. */
static int rx_fill(struct net_device *device, struct rx_element *part, const uint8_t *frame, size_t bytes)
{
    struct rx_progress *rx = &device->rx;
    const struct virtqueue_element *element = &part->element;
    size_t offset = 0;

    if (element->readable > 0)
        return -EPROTO;
    if (rx->count == 0) {
        if (!rx_write_header(device, element))
            return -EPROTO;
        offset = device->header_bytes;
        if (!has_feature(device, VIRTIO_NET_F_MRG_RXBUF) && element->writable_bytes < offset + bytes)
            return -EMSGSIZE;
    }
    size_t from = rx->written - device->header_bytes;
    size_t written = virtqueue_element_write(element, offset, frame + from, bytes - from);
    rx->written += written;
    part->written_bytes = (uint32_t)(offset + written);
    return 0;
}

static void rx_push(struct net_device *device)
{
    struct rx_progress *rx = &device->rx;

    if (device->header_bytes == sizeof(struct virtio_net_header)) {
        *rx->num_buffers[0] = (uint8_t)rx->count;
        *rx->num_buffers[1] = (uint8_t)(rx->count >> 8);
    }
    for (unsigned i = 0; i < rx->count; i++) {
        const struct rx_element *part = &rx->elements[i];

        virtqueue_written(&device->rx_queue->vq, part->element.iov, part->element.writable,
                          part->written_bytes);
        virtqueue_push(&device->rx_queue->vq, part->element.id, part->written_bytes);
    }
    rx->count = 0;
}

/* Collects buffers for the frame, from where the last call for the same frame ended. */
static enum rx_result rx_collect(struct net_device *device, const uint8_t *frame, size_t bytes)
{
    struct virtqueue *vq = &device->rx_queue->vq;
    struct rx_progress *rx = &device->rx;

    while (rx->count == 0 || rx->written < device->header_bytes + bytes) {
        if (rx->count == RX_ELEMENTS_MAX || vq->in_flight_slots >= vq->config.size) {
            rx_give_back(device);
            return RX_DROP;
        }
        struct rx_element *part = &rx->elements[rx->count];
        part->element.iov = device->rx_iov;
        part->element.iov_max = CHAIN_IOV_MAX;
        int ret = virtqueue_pop(vq, &part->element);
        if (ret == 0)
            return RX_WAIT;
        if (ret > 0)
            ret = rx_fill(device, part, frame, bytes);
        if (ret == -EMSGSIZE) {
            virtqueue_unpop(vq, &part->element);
            return RX_DROP;
        }
        if (ret == -EPROTO)
            virtqueue_break(vq, -EPROTO, "a receive buffer that is readable or has no room for the header");
        if (ret < 0) {
            rx_broken(device);
            return RX_DROP;
        }
        rx->count++;
    }
    rx_push(device);
    return RX_DONE;
}

/* As rx_collect(), but RX_WAIT means that a kick will come. */
static enum rx_result rx_deliver(struct net_device *device, const uint8_t *frame, size_t bytes)
{
    enum rx_result result = rx_collect(device, frame, bytes);

    while (result == RX_WAIT && virtqueue_enable_kick(&device->rx_queue->vq))
        result = rx_collect(device, frame, bytes);
    if (result == RX_DROP)
        log_limited(&device->dropped, LOG_LEVEL_DEBUG,
                    "dropped a frame of %zu bytes: the guest's buffers are too small", bytes);
    return result;
}

static void rx_flush_backlog(struct net_device *device)
{
    const uint8_t *frame;
    size_t bytes;

    if (device->rx_queue)
        virtqueue_disable_kick(&device->rx_queue->vq);
    while (device->rx_queue && (frame = frame_queue_peek(&device->backlog, &bytes))) {
        enum rx_result result = rx_deliver(device, frame, bytes);
        if (result == RX_WAIT || !device->rx_queue)
            return;
        frame_queue_pop(&device->backlog);
    }
}

/* All frames since the last time, with at most one notification. */
static void rx_publish(struct net_device *device)
{
    if (virtqueue_flush(&device->rx_queue->vq))
        devserver_queue_notify(device->rx_queue);
}

/* user_net_ops */
static void on_frame(void *opaque, const uint8_t *frame, size_t bytes)
{
    struct net_device *device = opaque;

    if (!device->rx_queue || bytes > USER_NET_FRAME_BYTES_MAX)
        return;
    /* Without a backlog `rx` is empty, and a frame that has to wait becomes the backlog's first. */
    if (frame_queue_empty(&device->backlog) && rx_deliver(device, frame, bytes) != RX_WAIT)
        return;
    if (!frame_queue_push(&device->backlog, frame, bytes))
        log_limited(&device->dropped, LOG_LEVEL_DEBUG,
                    "dropped a frame of %zu bytes: the guest does not take them", bytes);
}

static void on_guest_error(void *opaque, const char *message)
{
    struct net_device *device = opaque;

    log_limited(&device->guest_errors, LOG_LEVEL_WARNING, "the guest sent a bad packet: %s", message);
}

static const struct user_net_ops wire_ops = {.frame = on_frame, .guest_error = on_guest_error};

/* --- from the guest --- */

static const char *tx_frame(struct net_device *device, const struct virtqueue_element *element)
{
    struct virtio_net_header header = {0};
    size_t header_bytes = device->header_bytes;

    if (element->readable_bytes < header_bytes + FRAME_BYTES_MIN)
        return "too short";
    if (element->readable_bytes > header_bytes + sizeof device->tx_frame)
        return "too long";
    virtqueue_element_read(element, 0, &header, header_bytes);
    size_t bytes = virtqueue_element_read(element, header_bytes, device->tx_frame, sizeof device->tx_frame);
    if (header.gso_type != VIRTIO_NET_HDR_GSO_NONE)
        return "it asks for segmentation, which was not offered";
    if (header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
        if (!has_feature(device, VIRTIO_NET_F_CSUM))
            return "it asks for a checksum, which was not negotiated";
        if (checksum_complete(device->tx_frame, bytes, header.csum_start, header.csum_offset) < 0)
            return "its checksum is outside of it";
    }
    user_net_input(device->user_net, device->tx_frame, bytes);
    return NULL;
}

/* True when the ring is empty and the guest will kick; false when there is more to do, or never again. */
static bool tx_batch(struct net_device *device)
{
    struct virtqueue *vq = &device->tx_queue->vq;
    struct virtqueue_element element = {.iov = device->tx_iov, .iov_max = CHAIN_IOV_MAX};
    unsigned count = 0;
    int ret;

    virtqueue_disable_kick(vq);
    do {
        while (count < TX_BATCH && (ret = virtqueue_pop(vq, &element)) > 0) {
            const char *fault = tx_frame(device, &element);
            if (fault)
                log_limited(&device->dropped, LOG_LEVEL_WARNING, "dropped a frame of the guest: %s", fault);
            virtqueue_push(vq, element.id, 0);
            count++;
        }
        if (count == TX_BATCH)
            return false;
        if (ret < 0) {
            devserver_queue_report(device->tx_queue);
            device->tx_queue = NULL;
            return false;
        }
    } while (virtqueue_enable_kick(vq));
    return true;
}

static void on_more_tx(uv_idle_t *handle);

static void tx_work(struct net_device *device)
{
    struct devserver_queue *queue = device->tx_queue;
    bool more = !tx_batch(device) && device->tx_queue;

    if (virtqueue_flush(&queue->vq))
        devserver_queue_notify(queue);
    if (more)
        uv_idle_start(&device->more_tx, on_more_tx);
    else
        uv_idle_stop(&device->more_tx);
}

static void on_more_tx(uv_idle_t *handle)
{
    struct net_device *device = handle->data;

    if (device->tx_queue)
        tx_work(device);
    else
        uv_idle_stop(handle);
}

/* --- the loop --- */

static void on_before_sleep(uv_prepare_t *handle)
{
    struct net_device *device = handle->data;

    if (device->rx_queue)
        rx_publish(device);
    user_net_arm(device->user_net, device->backlog.used < device->backlog.capacity / 2);
}

static void on_wire(uv_poll_t *handle, int status, int events)
{
    struct net_device *device = handle->data;

    user_net_run(device->user_net);
}

/* --- the devserver's ops --- */

static void on_config_get(void *opaque, unsigned offset, void *buffer, unsigned bytes)
{
    struct net_device *device = opaque;

    memcpy(buffer, (const uint8_t *)&device->space + offset, bytes);
}

static int on_features_set(void *opaque, uint64_t features)
{
    struct net_device *device = opaque;

    device->features = features;
    bool full = has_feature(device, VIRTIO_F_VERSION_1_BIT) || has_feature(device, VIRTIO_NET_F_MRG_RXBUF);
    device->header_bytes = full ? sizeof(struct virtio_net_header) : VIRTIO_NET_HEADER_LEGACY_BYTES;
    return 0;
}

static int on_queue_start(void *opaque, struct devserver_queue *queue)
{
    struct net_device *device = opaque;

    if (queue->index == QUEUE_RX) {
        device->rx_queue = queue;
        virtqueue_disable_kick(&queue->vq);
    } else {
        device->tx_queue = queue;
    }
    return 0;
}

static void on_queue_stop(void *opaque, struct devserver_queue *queue)
{
    struct net_device *device = opaque;

    if (queue == device->rx_queue) {
        rx_give_back(device);
        rx_publish(device);
        frame_queue_clear(&device->backlog);
        device->rx_queue = NULL;
    } else if (queue == device->tx_queue) {
        device->tx_queue = NULL;
        uv_idle_stop(&device->more_tx);
    }
}

static void on_queue_kick(void *opaque, struct devserver_queue *queue)
{
    struct net_device *device = opaque;

    if (queue == device->rx_queue)
        rx_flush_backlog(device);
    else if (queue == device->tx_queue)
        tx_work(device);
}

static int on_loop_start(void *opaque, uv_loop_t *loop)
{
    struct net_device *device = opaque;

    int ret = uv_poll_init(loop, &device->wire, user_net_fd(device->user_net));
    if (ret < 0)
        return ret;
    uv_prepare_init(loop, &device->before_sleep);
    uv_idle_init(loop, &device->more_tx);
    device->wire.data = device->before_sleep.data = device->more_tx.data = device;
    uv_poll_start(&device->wire, UV_READABLE, on_wire);
    uv_prepare_start(&device->before_sleep, on_before_sleep);
    return 0;
}

static void on_loop_stop(void *opaque)
{
    struct net_device *device = opaque;

    uv_close((uv_handle_t *)&device->wire, NULL);
    uv_close((uv_handle_t *)&device->before_sleep, NULL);
    uv_close((uv_handle_t *)&device->more_tx, NULL);
}

static const struct devserver_ops ops = {
    .config_get = on_config_get,
    .features_set = on_features_set,
    .queue_start = on_queue_start,
    .queue_stop = on_queue_stop,
    .queue_kick = on_queue_kick,
    .loop_start = on_loop_start,
    .loop_stop = on_loop_stop,
};

/* --- life --- */

int net_device_create(const struct net_device_config *config, struct net_device **ret_device, char *why,
                      size_t why_bytes)
{
    struct net_device *device = calloc(1, sizeof *device);
    if (!device || frame_queue_init(&device->backlog, BACKLOG_BYTES) < 0) {
        free(device);
        snprintf(why, why_bytes, "no memory for the network device");
        return -ENOMEM;
    }
    memcpy(device->space.mac, config->mac, sizeof config->mac);
    device->space.status = VIRTIO_NET_S_LINK_UP;
    device->space.max_virtqueue_pairs = 1;
    device->space.mtu = (uint16_t)config->user_net.mtu_bytes;
    device->header_bytes = sizeof(struct virtio_net_header);
    int ret = user_net_create(&config->user_net, &wire_ops, device, &device->user_net, why, why_bytes);
    if (ret < 0) {
        net_device_destroy(device);
        return ret;
    }
    *ret_device = device;
    return 0;
}

size_t net_device_list_fds(const struct net_device *device, int *fds, size_t max)
{
    return user_net_list_fds(device->user_net, fds, max);
}

struct devserver_config net_device_server_config(struct net_device *device)
{
    return (struct devserver_config){
        .name = "net",
        .features = UINT64_C(1) << VIRTIO_NET_F_CSUM | UINT64_C(1) << VIRTIO_NET_F_GUEST_CSUM |
                    UINT64_C(1) << VIRTIO_NET_F_MTU | UINT64_C(1) << VIRTIO_NET_F_MAC |
                    UINT64_C(1) << VIRTIO_NET_F_MRG_RXBUF | UINT64_C(1) << VIRTIO_NET_F_STATUS,
        .max_queues = 2,
        .max_queue_size = QUEUE_SIZE_MAX,
        .config_bytes = sizeof device->space,
        .ops = &ops,
        .opaque = device,
        .connected_fd = -1,
        .listen_fd = -1,
    };
}

void net_device_destroy(struct net_device *device)
{
    if (!device)
        return;
    user_net_destroy(device->user_net);
    frame_queue_finish(&device->backlog);
    free(device);
}
