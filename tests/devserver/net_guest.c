/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devserver/net/user_net.h"
#include "protocol/base/units.h"
#include "tests/devserver/net_guest.h"

#define USER_BASE    0x7f0000000000ull /* where this front-end claims to have the memory */
#define TX_SLOT      (128u << 10)
#define FEATURE(bit) (UINT64_C(1) << (bit))

char *net_guest_spawn(const char *const *arguments, int *ret_socket, int *ret_pid)
{
    int sockets[2], ready[2], status;
    char line[1024] = "";

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), ==, 0);
    g_assert_cmpint(pipe2(ready, O_CLOEXEC), ==, 0);
    int pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        g_autoptr(GPtrArray) argv = g_ptr_array_new();
        g_ptr_array_add(argv, (char *)g_getenv("BULKHEAD_NET"));
        g_ptr_array_add(argv, g_strdup_printf("--fd=%d", dup(sockets[1])));
        g_ptr_array_add(argv, g_strdup_printf("--ready-fd=%d", dup(ready[1])));
        for (; arguments && *arguments; arguments++)
            g_ptr_array_add(argv, (char *)*arguments);
        g_ptr_array_add(argv, NULL);
        execv(argv->pdata[0], (char **)argv->pdata);
        _exit(127);
    }
    close(sockets[1]);
    close(ready[1]);
    for (size_t used = 0; used < sizeof line - 1;) {
        ssize_t n = read(ready[0], line + used, sizeof line - 1 - used);
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    close(ready[0]);
    if (ret_socket) {
        *ret_socket = sockets[0];
        *ret_pid = pid;
    } else {
        close(sockets[0]);
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_true(WIFEXITED(status));
        g_assert_cmpint(WEXITSTATUS(status), ==, g_str_has_prefix(line, "ready") ? 0 : 2);
    }
    return g_strdup(g_strchomp(line));
}

static void client_send(void *opaque, const uint8_t *frame, size_t bytes)
{
    struct net_guest *guest = opaque;
    struct virtio_net_header header = {0};

    if (guest->client.checksum_start) {
        header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        header.csum_start = (uint16_t)guest->client.checksum_start;
        header.csum_offset = (uint16_t)guest->client.checksum_offset;
    }
    net_guest_send(guest, &header, frame, bytes);
}

static void start_queue(struct net_guest *guest, unsigned index, struct net_guest_queue *queue, uint64_t base)
{
    struct vhost_user_frontend *frontend = &guest->frontend;

    queue->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    queue->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    queue->err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    queue->published = queue->used = 0;
    ring_driver_init(&queue->ring, guest->memory, base, guest->ring_size, guest->packed);
    queue->ring.config.event_idx = guest->event_idx;
    const struct vhost_user_vring_addr addr = {
        .index = index,
        .desc_user = USER_BASE + queue->ring.config.desc_gpa,
        .avail_user = USER_BASE + queue->ring.config.driver_gpa,
        .used_user = USER_BASE + queue->ring.config.device_gpa,
    };
    g_assert_cmpint(vhost_user_frontend_set_vring_num(frontend, index, guest->ring_size), ==, 0);
    unsigned vring_base = guest->packed ? 0x80008000 : 0; /* both wrap counters are 1 */
    g_assert_cmpint(vhost_user_frontend_set_vring_base(frontend, index, vring_base), ==, 0);
    g_assert_cmpint(vhost_user_frontend_set_vring_addr(frontend, &addr), ==, 0);
    g_assert_cmpint(vhost_user_frontend_set_vring_call(frontend, index, queue->call_fd), ==, 0);
    g_assert_cmpint(vhost_user_frontend_set_vring_err(frontend, index, queue->err_fd), ==, 0);
    g_assert_cmpint(vhost_user_frontend_set_vring_kick(frontend, index, queue->kick_fd), ==, 0);
    g_assert_cmpint(vhost_user_frontend_set_vring_enable(frontend, index, true), ==, 0);
}

static uint64_t wanted_features(const struct net_guest *guest)
{
    return FEATURE(VIRTIO_F_VERSION_1_BIT) | FEATURE(VHOST_USER_F_PROTOCOL_FEATURES) |
           FEATURE(VIRTIO_NET_F_CSUM) | FEATURE(VIRTIO_NET_F_GUEST_CSUM) | FEATURE(VIRTIO_NET_F_MTU) |
           FEATURE(VIRTIO_NET_F_MAC) | FEATURE(VIRTIO_NET_F_STATUS) |
           (guest->mergeable ? FEATURE(VIRTIO_NET_F_MRG_RXBUF) : 0) |
           (guest->packed ? FEATURE(VIRTIO_F_RING_PACKED_BIT) : 0) |
           (guest->event_idx ? FEATURE(VIRTIO_F_EVENT_IDX_BIT) : 0);
}

void net_guest_connect(struct net_guest *guest, int socket)
{
    struct vhost_user_frontend *frontend = &guest->frontend;
    const struct vhost_user_region region = {.gpa = 0, .bytes = NET_GUEST_MEMORY, .user_addr = USER_BASE};
    uint64_t protocol;

    g_assert_cmpint(vhost_user_frontend_init(frontend, socket, 10000), ==, 0);
    g_assert_cmpint(vhost_user_frontend_get_features(frontend, &guest->features), ==, 0);
    g_assert_cmphex(guest->features & wanted_features(guest), ==, wanted_features(guest));
    g_assert_cmpint(vhost_user_frontend_get_protocol_features(frontend, &protocol), ==, 0);
    protocol &= FEATURE(VHOST_USER_PROTOCOL_F_REPLY_ACK) | FEATURE(VHOST_USER_PROTOCOL_F_CONFIG);
    g_assert_cmpint(vhost_user_frontend_set_protocol_features(frontend, protocol), ==, 0);
    g_assert_cmpint(vhost_user_frontend_set_owner(frontend), ==, 0);
    g_assert_cmpint(vhost_user_frontend_set_features(frontend, wanted_features(guest)), ==, 0);
    g_assert_cmpint(vhost_user_frontend_set_mem_table(frontend, &region, &guest->memory_fd, 1), ==, 0);
    start_queue(guest, 0, &guest->rx, 0);
    start_queue(guest, 1, &guest->tx, 1 * MIB);
    ring_driver_set_notify(&guest->tx.ring, false);
    net_client_init(&guest->client, guest->mtu, client_send, guest);
    guest->client.partial_checksums = true;
    if (!guest->starve)
        net_guest_fill_rx(guest);
}

void net_guest_start(struct net_guest *guest, const char *const *arguments)
{
    int socket;

    guest->mtu = guest->mtu ? guest->mtu : USER_NET_MTU_DEFAULT;
    guest->ring_size = guest->ring_size ? guest->ring_size : NET_GUEST_RING;
    guest->memory_fd = memfd_create("guest", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(guest->memory_fd, NET_GUEST_MEMORY), ==, 0);
    guest->memory = mmap(NULL, NET_GUEST_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, guest->memory_fd, 0);
    g_assert_true(guest->memory != MAP_FAILED);
    g_autofree char *line = net_guest_spawn(arguments, &socket, &guest->pid);
    g_assert_cmpstr(line, ==, "ready");
    net_guest_connect(guest, socket);
}

void net_guest_disconnect(struct net_guest *guest)
{
    struct net_guest_queue *queues[] = {&guest->rx, &guest->tx};

    vhost_user_frontend_finish(&guest->frontend);
    for (unsigned i = 0; i < 2; i++) {
        close(queues[i]->kick_fd);
        close(queues[i]->call_fd);
        close(queues[i]->err_fd);
    }
}

void net_guest_finish(struct net_guest *guest)
{
    int status;

    net_guest_disconnect(guest);
    g_assert_cmpint(waitpid(guest->pid, &status, 0), ==, guest->pid);
    g_assert_cmpint(status, ==, 0);
    munmap(guest->memory, NET_GUEST_MEMORY);
    close(guest->memory_fd);
}

/* virtio 1.2, 2.7.10 and 2.8.10: exactly when the device has asked for it, so that a device that forgets to
 * ask hangs. Slots are those that the last chain took: 1 in a split ring's available ring, its descriptors in
 * a packed one. */
static bool wants_kick(const struct net_guest *guest, const struct ring_driver *ring, unsigned slots)
{
    const struct virtqueue_config *config = &ring->config;
    uint16_t area[2], event, new;

    atomic_thread_fence(memory_order_seq_cst);
    memcpy(area, guest->memory + config->device_gpa, sizeof area);
    if (config->packed) {
        if (area[1] != 2)
            return area[1] == 0;
        new = ring->next_slot;
        event = area[0] & 0x7fff;
        if (area[0] >> 15 != ring->wrap)
            event = (uint16_t)(event - config->size);
    } else {
        if (!config->event_idx)
            return !(area[0] & 1);
        new = ring_driver_avail_idx(ring);
        memcpy(&event, guest->memory + config->device_gpa + 4 + 8u * config->size, sizeof event);
    }
    return (uint16_t)(new - event - 1) < (uint16_t)slots;
}

void net_guest_publish(struct net_guest *guest, struct net_guest_queue *queue,
                       const struct ring_buffer *buffers, unsigned count)
{
    ring_driver_add(&queue->ring, buffers, count, (uint16_t)(queue->published % guest->ring_size));
    queue->published++;
    if (wants_kick(guest, &queue->ring, guest->packed ? count : 1))
        eventfd_write(queue->kick_fd, 1);
}

static uint64_t rx_buffer_at(const struct net_guest *guest, unsigned number)
{
    return NET_GUEST_RX_AT + (uint64_t)(number % guest->ring_size) * guest->rx_buffer_bytes;
}

void net_guest_fill_rx(struct net_guest *guest)
{
    while (guest->rx.published - guest->rx.used < guest->ring_size) {
        const struct ring_buffer buffer = {rx_buffer_at(guest, guest->rx.published), guest->rx_buffer_bytes,
                                           RING_WRITE};
        net_guest_publish(guest, &guest->rx, &buffer, 1);
    }
}

static void harvest_tx(struct net_guest *guest)
{
    uint32_t id, length;

    while (ring_driver_used(&guest->tx.ring, &id, &length)) {
        g_assert_cmpuint(length, ==, 0);
        guest->tx.used++;
    }
}

/* Three descriptors: the header and the frame in two parts. */
void net_guest_send(struct net_guest *guest, const struct virtio_net_header *header, const uint8_t *frame,
                    size_t bytes)
{
    unsigned slots = guest->ring_size / 4;
    gint64 end_us = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;

    for (harvest_tx(guest); guest->tx.published - guest->tx.used >= slots; harvest_tx(guest)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end_us);
        g_thread_yield(); /* notifications for this ring are off */
    }
    uint64_t at = NET_GUEST_TX_AT + guest->tx.published % slots * TX_SLOT;
    g_assert_cmpuint(at + TX_SLOT, <=, NET_GUEST_MEMORY);
    memcpy(guest->memory + at, header, sizeof *header);
    memcpy(guest->memory + at + sizeof *header, frame, bytes);
    uint32_t first = bytes > 20 ? 20 : (uint32_t)bytes;
    const struct ring_buffer buffers[] = {{at, sizeof *header, 0},
                                          {at + sizeof *header, first, 0},
                                          {at + sizeof *header + first, (uint32_t)bytes - first, 0}};
    net_guest_publish(guest, &guest->tx, buffers, bytes > 20 ? 3 : bytes > 0 ? 2 : 1);
}

/* Puts a frame together from its buffers. */
static void harvest_rx(struct net_guest *guest)
{
    static uint8_t frame[USER_NET_FRAME_BYTES_MAX];
    uint32_t id, length;

    while (ring_driver_used(&guest->rx.ring, &id, &length)) {
        struct virtio_net_header header;
        size_t bytes = 0;
        memcpy(&header, guest->memory + rx_buffer_at(guest, guest->rx.used), sizeof header);
        g_assert_cmpuint(header.num_buffers, >=, 1);
        g_assert_cmpuint(header.num_buffers, <=, guest->mergeable ? guest->ring_size : 1);
        guest->largest_merge = MAX(guest->largest_merge, header.num_buffers);
        guest->valid_flags += !!(header.flags & VIRTIO_NET_HDR_F_DATA_VALID);
        for (unsigned i = 0; i < header.num_buffers; i++) {
            size_t skip = i == 0 ? sizeof header : 0;
            if (i > 0) /* a frame is published as a whole */
                g_assert_true(ring_driver_used(&guest->rx.ring, &id, &length));
            g_assert_cmpuint(length, >, skip);
            g_assert_cmpuint(length, <=, guest->rx_buffer_bytes);
            memcpy(frame + bytes, guest->memory + rx_buffer_at(guest, guest->rx.used) + skip, length - skip);
            bytes += length - skip;
            guest->rx.used++;
        }
        if (!guest->starve)
            net_guest_fill_rx(guest);
        net_client_receive(&guest->client, frame, bytes);
    }
}

/* Asks for a notification of the next used element. True: one is there already. */
static bool rx_ask_notification(struct net_guest *guest)
{
    struct ring_driver *ring = &guest->rx.ring;
    unsigned before = guest->rx.used;

    if (!guest->event_idx)
        return false;
    ring_driver_set_event(ring, guest->packed ? (uint16_t)(ring->next_used | (unsigned)ring->used_wrap << 15)
                                              : ring->next_used);
    atomic_thread_fence(memory_order_seq_cst);
    harvest_rx(guest);
    return guest->rx.used != before;
}

/* Nothing was notified: if there is something nevertheless, its notification must be under way. */
static void check_not_lost(struct net_guest *guest)
{
    struct pollfd fd = {.fd = guest->rx.call_fd, .events = POLLIN};
    unsigned before = guest->rx.used;

    harvest_rx(guest);
    if (guest->rx.used != before)
        g_assert_cmpint(poll(&fd, 1, 30000), ==, 1);
}

void net_guest_turn(struct net_guest *guest)
{
    struct pollfd fd = {.fd = guest->rx.call_fd, .events = POLLIN};
    unsigned before = guest->rx.used;
    eventfd_t count;

    harvest_rx(guest);
    while (rx_ask_notification(guest))
        ;
    if (guest->rx.used != before) {
        harvest_tx(guest);
        return;
    }
    if (poll(&fd, 1, 1000) > 0)
        eventfd_read(guest->rx.call_fd, &count);
    else
        check_not_lost(guest);
    harvest_rx(guest);
    harvest_tx(guest);
}

void net_guest_join(struct net_guest *guest)
{
    net_client_dhcp(&guest->client, false);
    NET_GUEST_WAIT_FOR(guest, guest->client.dhcp_type == 2);
    net_client_dhcp(&guest->client, true);
    NET_GUEST_WAIT_FOR(guest, guest->client.dhcp_type == 5);
    net_client_ask_router(&guest->client);
    NET_GUEST_WAIT_FOR(guest, guest->client.router_known);
}

void net_guest_check_alive(struct net_guest *guest)
{
    unsigned before = guest->client.echo_replies;

    net_client_ping(&guest->client, NET_CLIENT_ROUTER);
    NET_GUEST_WAIT_FOR(guest, guest->client.echo_replies > before);
}
