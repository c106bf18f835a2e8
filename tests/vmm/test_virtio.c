/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Broken if these fail: a guest finds no virtio device, its rings are handed over wrongly, interrupts get lost, or a
 * server's death takes more than its own device.
 */
#include "vmm/pci/pci_host.h"
#include "vmm/virtio/vhost_device.h"
#include "vmm/virtio/virtio_pci.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "protocol/vhost_user.h"

/* --- a board with one function on it, and a back-end that writes down what it is asked --- */

struct fake_backend {
    unsigned starts, stops, kicks[4], rings;
    uint64_t features;
    struct virtio_ring_setup ring[4];
    uint8_t space[16];
    bool refuse_start, dead;
};

static int backend_start(void *opaque, uint64_t features, const struct virtio_ring_setup *rings,
                         unsigned count)
{
    struct fake_backend *backend = opaque;

    backend->starts++;
    backend->features = features;
    backend->rings = count;
    memcpy(backend->ring, rings, count * sizeof(*rings));
    return backend->refuse_start ? -EIO : 0;
}

static void backend_stop(void *opaque)
{
    ((struct fake_backend *)opaque)->stops++;
}

static bool backend_alive(void *opaque)
{
    return !((struct fake_backend *)opaque)->dead;
}

static void backend_config_read(void *opaque, unsigned offset, void *buffer, unsigned bytes)
{
    memcpy(buffer, ((struct fake_backend *)opaque)->space + offset, bytes);
}

static void backend_config_write(void *opaque, unsigned offset, const void *data, unsigned bytes)
{
    memcpy(((struct fake_backend *)opaque)->space + offset, data, bytes);
}

static void backend_kick(void *opaque, unsigned queue)
{
    ((struct fake_backend *)opaque)->kicks[queue]++;
}

static const struct virtio_backend_ops backend_ops = {
    backend_start, backend_stop, backend_alive, backend_config_read, backend_config_write, backend_kick,
};

#define WINDOW 0xc0000000u

struct board {
    struct pci_host host;
    struct fake_backend backend;
    struct virtio_pci *virtio;
    unsigned msis;
    uint64_t msi_address;
    uint32_t msi_data;
    bool intx;
    uint64_t bar;                         /* where BAR 0 is */
    unsigned common, notify, isr, device; /* offsets in it, from the capabilities */
    unsigned msix, access;                /* capabilities in configuration space */
};

static void send_msi(void *opaque, uint64_t address, uint32_t data)
{
    struct board *b = opaque;

    b->msis++;
    b->msi_address = address;
    b->msi_data = data;
}

static void set_intx(void *opaque, unsigned slot, bool level)
{
    ((struct board *)opaque)->intx = level;
}

/* Configuration accesses go through ECAM, slot 1. */
static uint32_t config_read(struct board *b, unsigned offset, unsigned size)
{
    return (uint32_t)pci_host_ecam_ops.read(&b->host, 0, (1u << 15) + offset, size);
}

static void config_write(struct board *b, unsigned offset, unsigned size, uint32_t value)
{
    pci_host_ecam_ops.write(&b->host, 0, (1u << 15) + offset, size, value);
}

static uint64_t bar_read(struct board *b, uint64_t offset, unsigned size)
{
    return pci_host_window32_ops.read(&b->host, 0, b->bar + offset - WINDOW, size);
}

static void bar_write(struct board *b, uint64_t offset, unsigned size, uint64_t value)
{
    pci_host_window32_ops.write(&b->host, 0, b->bar + offset - WINDOW, size, value);
}

/* As a driver does: walks the capability list. */
static void find_capabilities(struct board *b)
{
    for (unsigned at = config_read(b, PCI_CAPABILITIES, 1); at; at = config_read(b, at + 1, 1)) {
        unsigned offset = config_read(b, at + 8, 4);

        if (config_read(b, at, 1) == PCI_CAP_MSIX)
            b->msix = at;
        if (config_read(b, at, 1) != PCI_CAP_VENDOR)
            continue;
        switch (config_read(b, at + 3, 1)) {
        case 1:
            b->common = offset;
            break;
        case 2:
            b->notify = offset;
            break;
        case 3:
            b->isr = offset;
            break;
        case 4:
            b->device = offset;
            break;
        case 5:
            b->access = at;
            break;
        }
    }
}

static struct board *board_create(void)
{
    struct board *b = g_new0(struct board, 1);
    struct virtio_pci_config config = {
        .device_type = 2,
        .pci_class = 0x018000,
        .features = VIRTIO_F_VERSION_1 | 0x41,
        .queues = 3,
        .queue_size_max = 256,
        .config_bytes = 16,
        .ops = &backend_ops,
        .opaque = &b->backend,
        .msi = send_msi,
        .intx = set_intx,
        .board = b,
    };

    pci_host_init(&b->host, WINDOW, 0x20000000, 0x800000000);
    g_assert_cmpint(virtio_pci_create(&config, &b->virtio), ==, 0);
    g_assert_cmpint(pci_host_add(&b->host, &b->virtio->function), ==, 1);
    b->virtio->slot = 1;
    pci_host_reset(&b->host);
    g_assert_cmphex(config_read(b, 0, 4), ==, 0x10421af4);
    b->bar = config_read(b, PCI_BAR0, 4) & ~15u;
    find_capabilities(b);
    config_write(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    return b;
}

static void board_destroy(struct board *b)
{
    virtio_pci_destroy(b->virtio);
    pci_host_finish(&b->host);
    g_free(b);
}

static void set_status(struct board *b, uint8_t status)
{
    bar_write(b, b->common + 0x14, 1, status);
}

static uint8_t get_status(struct board *b)
{
    return (uint8_t)bar_read(b, b->common + 0x14, 1);
}

static void negotiate(struct board *b, uint64_t features)
{
    set_status(b, 1);
    set_status(b, 3);
    for (unsigned i = 0; i < 2; i++) {
        bar_write(b, b->common + 0x08, 4, i);
        bar_write(b, b->common + 0x0c, 4, (uint32_t)(features >> (32 * i)));
    }
    set_status(b, 0xb);
}

static void setup_queue(struct board *b, unsigned index)
{
    bar_write(b, b->common + 0x16, 2, index);
    bar_write(b, b->common + 0x18, 2, 128);
    bar_write(b, b->common + 0x1a, 2, index + 1);
    bar_write(b, b->common + 0x20, 4, 0x100000 * (index + 1));
    bar_write(b, b->common + 0x24, 4, 1);
    bar_write(b, b->common + 0x28, 8, 0x200000);
    bar_write(b, b->common + 0x30, 8, 0x300000);
    bar_write(b, b->common + 0x1c, 2, 1);
}

static void test_life(void)
{
    struct board *b = board_create();

    g_assert_cmpuint(bar_read(b, b->common + 0x12, 2), ==, 3);
    g_assert_cmpuint(bar_read(b, b->common, 4), ==, 0);
    g_assert_cmphex(bar_read(b, b->common + 4, 4), ==, 0x41);
    bar_write(b, b->common, 4, 1);
    g_assert_cmphex(bar_read(b, b->common + 4, 4), ==, 1);
    bar_write(b, b->common, 4, 2);
    g_assert_cmphex(bar_read(b, b->common + 4, 4), ==, 0);
    /* Features that were not offered, and none of VERSION_1, do not stick. */
    negotiate(b, VIRTIO_F_VERSION_1 | 2);
    g_assert_cmphex(get_status(b), ==, 3);
    set_status(b, 0);
    negotiate(b, 1);
    g_assert_cmphex(get_status(b), ==, 3);
    set_status(b, 0xf);
    g_assert_cmpuint(b->backend.starts, ==, 0);
    set_status(b, 0);
    negotiate(b, VIRTIO_F_VERSION_1 | 1);
    g_assert_cmphex(get_status(b), ==, 0xb);
    setup_queue(b, 0);
    setup_queue(b, 2);
    set_status(b, 0xf);
    g_assert_cmpuint(b->backend.starts, ==, 1);
    g_assert_cmphex(b->backend.features, ==, VIRTIO_F_VERSION_1 | 1);
    g_assert_cmpuint(b->backend.rings, ==, 2);
    g_assert_cmpuint(b->backend.ring[1].index, ==, 2);
    g_assert_cmpuint(b->backend.ring[1].size, ==, 128);
    g_assert_cmphex(b->backend.ring[1].desc, ==, 0x100300000);
    /* Rings are frozen now; notifications pass; there is no fourth queue. */
    bar_write(b, b->common + 0x20, 8, 0);
    g_assert_cmphex(bar_read(b, b->common + 0x20, 8), ==, 0x100300000);
    bar_write(b, b->notify + 4 * 2, 2, 2);
    bar_write(b, b->notify + 4 * 3, 2, 3);
    g_assert_cmpuint(b->backend.kicks[2], ==, 1);
    g_assert_cmpuint(b->backend.kicks[3], ==, 0);
    /* Configuration space, in bounds only. */
    b->backend.space[15] = 0x77;
    g_assert_cmphex(bar_read(b, b->device + 15, 1), ==, 0x77);
    g_assert_cmphex(bar_read(b, b->device + 15, 2), ==, 0);
    set_status(b, 0);
    g_assert_cmpuint(b->backend.stops, ==, 1);
    g_assert_cmphex(get_status(b), ==, 0);
    board_destroy(b);
}

static void start_device(struct board *b)
{
    negotiate(b, VIRTIO_F_VERSION_1);
    setup_queue(b, 0);
    set_status(b, 0xf);
}

static void test_msix(void)
{
    struct board *b = board_create();
    unsigned table = config_read(b, b->msix + 4, 4), pba = config_read(b, b->msix + 8, 4);

    g_assert_cmpuint(config_read(b, b->msix + 2, 2), ==, 3);
    config_write(b, b->msix + 2, 2, 0x8000);
    start_device(b);
    bar_write(b, table + 16, 8, 0xfee01000);
    bar_write(b, table + 24, 4, 0x41);
    /* Masked at reset: pending, sent on unmasking. */
    virtio_pci_interrupt(b->virtio, 0);
    g_assert_cmpuint(b->msis, ==, 0);
    g_assert_cmphex(bar_read(b, pba, 8), ==, 2);
    bar_write(b, table + 28, 4, 0);
    g_assert_cmpuint(b->msis, ==, 1);
    g_assert_cmphex(b->msi_address, ==, 0xfee01000);
    g_assert_cmphex(b->msi_data, ==, 0x41);
    g_assert_cmphex(bar_read(b, pba, 8), ==, 0);
    virtio_pci_interrupt(b->virtio, 0);
    g_assert_cmpuint(b->msis, ==, 2);
    /* Function mask. */
    config_write(b, b->msix + 2, 2, 0xc000);
    virtio_pci_interrupt(b->virtio, 0);
    g_assert_cmpuint(b->msis, ==, 2);
    config_write(b, b->msix + 2, 2, 0x8000);
    g_assert_cmpuint(b->msis, ==, 3);
    /* No vector: nothing. A vector that does not exist reads back as none. */
    virtio_pci_interrupt(b->virtio, 1);
    bar_write(b, b->common + 0x10, 2, 4);
    g_assert_cmphex(bar_read(b, b->common + 0x10, 2), ==, 0xffff);
    g_assert_cmpuint(b->msis, ==, 3);
    board_destroy(b);
}

static void test_intx(void)
{
    struct board *b = board_create();

    start_device(b);
    virtio_pci_interrupt(b->virtio, 0);
    g_assert_true(b->intx);
    config_write(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE);
    g_assert_false(b->intx);
    config_write(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    g_assert_true(b->intx);
    g_assert_cmphex(bar_read(b, b->isr, 1), ==, 1);
    g_assert_false(b->intx);
    g_assert_cmphex(bar_read(b, b->isr, 1), ==, 0);
    board_destroy(b);
}

static void test_needs_reset(void)
{
    struct board *b = board_create();

    b->backend.refuse_start = true;
    start_device(b);
    g_assert_cmphex(get_status(b), ==, 0x4f);
    set_status(b, 0);
    b->backend.refuse_start = false;
    start_device(b);
    g_assert_cmphex(get_status(b), ==, 0xf);
    virtio_pci_needs_reset(b->virtio);
    g_assert_cmphex(get_status(b), ==, 0x4f);
    g_assert_cmphex(bar_read(b, b->isr, 1), ==, 2);
    /* A back-end that is gone is never negotiated with again. */
    b->backend.dead = true;
    set_status(b, 0);
    negotiate(b, VIRTIO_F_VERSION_1);
    g_assert_cmphex(get_status(b), ==, 3);
    board_destroy(b);
}

static void test_bars(void)
{
    struct board *b = board_create();
    uint64_t bar = b->bar;

    /* Sizing, moving, hiding. */
    config_write(b, PCI_BAR0, 4, 0xffffffff);
    g_assert_cmphex(config_read(b, PCI_BAR0, 4), ==, 0xffff8004);
    config_write(b, PCI_BAR0 + 4, 4, 0xffffffff);
    g_assert_cmphex(config_read(b, PCI_BAR0 + 4, 4), ==, 0xffffffff);
    config_write(b, PCI_BAR0 + 4, 4, 0);
    config_write(b, PCI_BAR0, 4, 0xd0000000);
    g_assert_cmphex(bar_read(b, b->common + 0x12, 2), ==, 0xffff);
    b->bar = 0xd0000000;
    g_assert_cmpuint(bar_read(b, b->common + 0x12, 2), ==, 3);
    config_write(b, PCI_BAR0, 4, 0x00100000); /* over RAM: never reached */
    config_write(b, PCI_COMMAND, 2, 0);
    b->bar = bar;
    g_assert_cmphex(bar_read(b, b->common + 0x12, 2), ==, 0xffff);
    config_write(b, PCI_BAR0, 4, (uint32_t)bar);
    config_write(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    /* Through the capability that needs no BAR, and through the old ports. */
    config_write(b, b->access + 8, 4, b->common + 0x12);
    config_write(b, b->access + 12, 4, 2);
    g_assert_cmpuint(config_read(b, b->access + 16, 2), ==, 3);
    config_write(b, b->access + 12, 4, 0x1000);
    g_assert_cmpuint(config_read(b, b->access + 16, 4), !=, 0xffffffff);
    pci_host_port_ops.write(&b->host, 0, 0, 4, 0x80000800);
    g_assert_cmphex(pci_host_port_ops.read(&b->host, 0, 4, 4), ==, 0x10421af4);
    g_assert_cmphex(pci_host_port_ops.read(&b->host, 0, 6, 2), ==, 0x1042);
    pci_host_port_ops.write(&b->host, 0, 0, 4, 0x80010800);
    g_assert_cmphex(pci_host_port_ops.read(&b->host, 0, 4, 4), ==, 0xffffffff);
    board_destroy(b);
}

/* Every size over every register with odd values: nothing may crash, and the function must still answer. */
static void test_hostile(void)
{
    static const uint64_t values[] = {0, 1, 0xff, 0xffff, 0xffffffff, UINT64_MAX, 0x8000, 0x4f};
    struct board *b = board_create();

    for (size_t v = 0; v < G_N_ELEMENTS(values); v++) {
        for (unsigned size = 1; size <= 8; size *= 2) {
            for (uint64_t offset = 0; offset < 0x8000 + 8; offset++) {
                if (offset % 0x1000 > 0x900 && offset % 0x1000 < 0xff0)
                    continue;
                bar_read(b, offset, size);
                bar_write(b, offset, size, values[v]);
            }
        }
        for (unsigned size = 1; size <= 4; size *= 2) {
            for (unsigned offset = 0; offset < 4096; offset += offset < 256 ? 1 : 61) {
                config_read(b, offset, size);
                config_write(b, offset, size, (uint32_t)values[v]);
            }
        }
        pci_host_reset(&b->host);
        config_write(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    }
    g_assert_cmphex(config_read(b, 0, 4), ==, 0x10421af4);
    board_destroy(b);
}

/* --- the vhost-user client against a peer in this process --- */

struct peer {
    int socket;
    GThread *thread;
    GMutex lock;
    GCond changed;
    GArray *requests;
    uint64_t protocol_features;
    uint64_t features, log_bytes;
    int call_fd, kick_fd, err_fd, channel_fd;
    unsigned regions;
    uint64_t desc_user;
    bool refuse_addr; /* answers SET_VRING_ADDR with an error */
    unsigned die_at;  /* request at which it closes the socket, or 0 */
    int inflight_fd;
    uint8_t written, config_byte; /* byte 32 as set; what the others are, 0: 0x21 */
    bool fewer_features, fewer_queues;
    uint64_t hidden_protocol_features;
};

#define PEER_PROTOCOL                                                                                        \
    (VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_MQ) | VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) |            \
     VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_CONFIG) | VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) |      \
     VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_STATUS) | VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) |   \
     VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_LOG_SHMFD))

static void peer_reply(struct peer *peer, struct vhost_user_message *message, uint32_t size)
{
    message->header.flags = VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY;
    message->header.size = size;
    message->fd_count = 0;
    g_assert_cmpint(vhost_user_send(peer->socket, message), ==, 0);
}

static void peer_make_inflight(struct peer *peer, struct vhost_user_message *m)
{
    fd_close(&peer->inflight_fd);
    peer->inflight_fd = memfd_create("inflight", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(peer->inflight_fd, 4096), ==, 0);
    m->payload.inflight.mmap_bytes = 4096;
    m->payload.inflight.mmap_offset = 0;
    m->header.flags = VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY;
    m->header.size = sizeof(m->payload.inflight);
    m->fds[0] = peer->inflight_fd;
    m->fd_count = 1;
    g_assert_cmpint(vhost_user_send(peer->socket, m), ==, 0);
    m->fd_count = 0;
}

static void peer_handle(struct peer *peer, struct vhost_user_message *m)
{
    bool ack = m->header.flags & VHOST_USER_FLAG_NEED_REPLY;
    uint64_t result = 0;

    switch (m->header.request) {
    case VHOST_USER_GET_FEATURES:
        m->payload.u64 = VIRTIO_F_VERSION_1 | UINT64_C(1) << 33 |
                         UINT64_C(1) << VHOST_USER_F_PROTOCOL_FEATURES | UINT64_C(1) << VHOST_F_LOG_ALL |
                         UINT64_C(1) << 34 | (peer->fewer_features ? 0 : 1 << 12);
        peer_reply(peer, m, 8);
        return;
    case VHOST_USER_GET_PROTOCOL_FEATURES:
        m->payload.u64 = PEER_PROTOCOL & ~peer->hidden_protocol_features;
        peer_reply(peer, m, 8);
        return;
    case VHOST_USER_SET_PROTOCOL_FEATURES:
        peer->protocol_features = m->payload.u64;
        break;
    case VHOST_USER_SET_FEATURES:
        peer->features = m->payload.u64;
        break;
    case VHOST_USER_SET_LOG_BASE:
        peer->log_bytes = m->payload.log.bytes;
        m->payload.u64 = 0;
        peer_reply(peer, m, 8);
        return;
    case VHOST_USER_GET_QUEUE_NUM:
        m->payload.u64 = peer->fewer_queues ? 3 : 4;
        peer_reply(peer, m, 8);
        return;
    case VHOST_USER_GET_INFLIGHT_FD:
        peer_make_inflight(peer, m);
        return;
    case VHOST_USER_SET_INFLIGHT_FD:
        fd_close(&peer->inflight_fd);
        peer->inflight_fd = fd_steal(&m->fds[0]);
        break;
    case VHOST_USER_SET_CONFIG:
        g_assert_cmpuint(m->payload.config.offset, ==, 32);
        g_assert_cmpuint(m->payload.config.size, ==, 1);
        peer->written = m->payload.config.region[0];
        break;
    case VHOST_USER_GET_CONFIG:
        memset(m->payload.config.region, peer->config_byte ? peer->config_byte : 0x21,
               m->payload.config.size);
        if (peer->written)
            m->payload.config.region[32] = peer->written;
        m->payload.config.region[34] = 9;
        m->payload.config.region[35] = 0;
        peer_reply(peer, m, VHOST_USER_CONFIG_HEADER_BYTES + m->payload.config.size);
        return;
    case VHOST_USER_GET_VRING_BASE:
        m->payload.state.num = 5;
        peer_reply(peer, m, 8);
        return;
    case VHOST_USER_SET_MEM_TABLE:
        peer->regions = m->payload.mem_table.count;
        break;
    case VHOST_USER_SET_VRING_ADDR:
        peer->desc_user = m->payload.addr.desc_user;
        result = peer->refuse_addr;
        break;
    case VHOST_USER_SET_VRING_CALL:
        fd_close(&peer->call_fd);
        peer->call_fd = fd_steal(&m->fds[0]);
        break;
    case VHOST_USER_SET_VRING_KICK:
        fd_close(&peer->kick_fd);
        peer->kick_fd = fd_steal(&m->fds[0]);
        break;
    case VHOST_USER_SET_VRING_ERR:
        fd_close(&peer->err_fd);
        peer->err_fd = fd_steal(&m->fds[0]);
        break;
    case VHOST_USER_SET_BACKEND_REQ_FD:
        peer->channel_fd = fd_steal(&m->fds[0]);
        break;
    default:
        break;
    }
    if (ack) {
        m->payload.u64 = result;
        peer_reply(peer, m, 8);
    }
}

static gpointer peer_run(gpointer data)
{
    struct peer *peer = data;
    struct vhost_user_stream stream;
    struct vhost_user_message message;

    vhost_user_stream_init(&stream, peer->socket);
    while (vhost_user_stream_receive(&stream, &message) == 1) {
        uint32_t request = message.header.request;

        if (request == peer->die_at)
            shutdown(peer->socket, SHUT_RDWR);
        else
            peer_handle(peer, &message);
        g_mutex_lock(&peer->lock);
        g_array_append_val(peer->requests, request);
        g_cond_broadcast(&peer->changed);
        g_mutex_unlock(&peer->lock);
        vhost_user_message_finish(&message);
    }
    vhost_user_stream_finish(&stream);
    return NULL;
}

static int peer_start(struct peer *peer)
{
    int pair[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    peer->socket = pair[1];
    peer->call_fd = peer->kick_fd = peer->err_fd = peer->channel_fd = peer->inflight_fd = -1;
    peer->requests = g_array_new(false, false, sizeof(uint32_t));
    g_mutex_init(&peer->lock);
    g_cond_init(&peer->changed);
    peer->thread = g_thread_new("peer", peer_run, peer);
    return pair[0];
}

/* Its list of requests is complete afterwards. */
static void peer_join(struct peer *peer)
{
    shutdown(peer->socket, SHUT_RDWR);
    if (peer->thread)
        g_thread_join(peer->thread);
    peer->thread = NULL;
}

static void peer_end(struct peer *peer)
{
    peer_join(peer);
    fd_close(&peer->socket);
    fd_close(&peer->call_fd);
    fd_close(&peer->kick_fd);
    fd_close(&peer->err_fd);
    fd_close(&peer->channel_fd);
    fd_close(&peer->inflight_fd);
    g_array_free(peer->requests, true);
    g_free(peer);
}

struct watcher {
    GMutex lock;
    GCond changed;
    unsigned interrupts, config_changes, broken, lost;
    unsigned last_queue;
    const uint16_t *used_index;
};

static void count_event(struct watcher *watcher, unsigned *counter)
{
    g_mutex_lock(&watcher->lock);
    (*counter)++;
    g_cond_broadcast(&watcher->changed);
    g_mutex_unlock(&watcher->lock);
}

static void on_interrupt(void *opaque, unsigned queue)
{
    ((struct watcher *)opaque)->last_queue = queue;
    count_event(opaque, &((struct watcher *)opaque)->interrupts);
}

static void on_config(void *opaque)
{
    count_event(opaque, &((struct watcher *)opaque)->config_changes);
}

static void on_broken(void *opaque)
{
    count_event(opaque, &((struct watcher *)opaque)->broken);
}

static void on_lost(void *opaque, const char *why)
{
    count_event(opaque, &((struct watcher *)opaque)->lost);
}

static void on_ring_started(void *opaque, const uint16_t *used_index)
{
    ((struct watcher *)opaque)->used_index = used_index;
}

static void on_ring_stopped(void *opaque, const uint16_t *used_index)
{
    g_assert_true(((struct watcher *)opaque)->used_index == used_index);
    ((struct watcher *)opaque)->used_index = NULL;
}

static void wait_for(struct watcher *watcher, unsigned *counter, unsigned value)
{
    gint64 until = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;

    g_mutex_lock(&watcher->lock);
    while (*counter < value)
        g_assert_true(g_cond_wait_until(&watcher->changed, &watcher->lock, until));
    g_mutex_unlock(&watcher->lock);
}

struct session {
    struct peer *peer;
    struct watcher watcher;
    struct ram ram;
    struct vhost_device *device;
    struct event_thread *thread;
    struct virtio_pci_config shown;
};

static struct session *session_open(unsigned die_at, int expected, int log_fd, bool await_successor)
{
    struct session *s = g_new0(struct session, 1);
    struct vhost_device_config config = {
        .kind = VHOST_DEVICE_BLK,
        .timeout_ms = 10000,
        .ram = &s->ram,
        .await_successor = await_successor,
        .log_fd = log_fd,
        .log_bytes = 2048,
        .host = {.interrupt = on_interrupt,
                 .config_changed = on_config,
                 .broken = on_broken,
                 .lost = on_lost,
                 .ring_started = on_ring_started,
                 .ring_stopped = on_ring_stopped,
                 .opaque = &s->watcher},
    };
    char why[256];

    g_assert_cmpint(ram_init(&s->ram, -1, 64 * MIB), ==, 0);
    s->peer = g_new0(struct peer, 1);
    s->peer->die_at = die_at;
    config.fd = peer_start(s->peer);
    g_assert_cmpint(vhost_device_create(&config, &s->device, why, sizeof(why)) < 0 ? -1 : 0, ==, expected);
    if (expected == 0) {
        g_assert_cmpint(event_thread_create(&s->thread), ==, 0);
        vhost_device_describe(s->device, &s->shown);
        g_assert_cmpint(vhost_device_attach(s->device, s->thread), ==, 0);
    }
    return s;
}

static struct session *session_create(unsigned die_at, int expected)
{
    return session_open(die_at, expected, -1, false);
}

static void session_destroy(struct session *s)
{
    event_thread_stop(s->thread);
    vhost_device_destroy(s->device);
    peer_end(s->peer);
    ram_finish(&s->ram);
    g_free(s);
}

static int start_rings(struct session *s, gpa_t desc)
{
    struct virtio_ring_setup ring = {
        .index = 1, .size = 64, .desc = desc, .driver = 0x210000, .device = 0x220000};

    return s->shown.ops->start(s->shown.opaque, VIRTIO_F_VERSION_1, &ring, 1);
}

static void test_client(void)
{
    struct session *s = session_create(0, 0);
    struct vhost_user_message change = {
        .header = {VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY, 0}};
    uint16_t queues;

    /* IOMMU, logging and vhost's own bit are not the driver's business; the count of queues is the transport's. */
    g_assert_cmphex(s->shown.features, ==, VIRTIO_F_VERSION_1 | UINT64_C(1) << 34 | 1 << 12);
    g_assert_cmpuint(s->shown.queues, ==, 4);
    s->shown.ops->config_read(s->shown.opaque, 34, &queues, 2);
    g_assert_cmpuint(queues, ==, 4);
    g_assert_cmphex(s->peer->protocol_features & VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_LOG_SHMFD), ==, 0);
    g_assert_cmpint(start_rings(s, 0x200000), ==, 0);
    g_assert_cmpuint(s->peer->regions, ==, 2);
    g_assert_cmphex(s->peer->desc_user, ==, 0x200000);
    /* A kick is there from the start; the doorbells are eventfds end to end. */
    g_assert_true(fd_eventfd_consume(s->peer->kick_fd));
    s->shown.ops->kick(s->shown.opaque, 1);
    g_assert_true(fd_eventfd_consume(s->peer->kick_fd));
    fd_eventfd_signal(s->peer->call_fd);
    wait_for(&s->watcher, &s->watcher.interrupts, 1);
    g_assert_cmpuint(s->watcher.last_queue, ==, 1);
    g_assert_cmpint(vhost_user_send(s->peer->channel_fd, &change), ==, 0);
    wait_for(&s->watcher, &s->watcher.config_changes, 1);
    /* The server gives up on a ring: told, and no loss. */
    fd_eventfd_signal(s->peer->err_fd);
    wait_for(&s->watcher, &s->watcher.broken, 1);
    g_assert_cmpuint(s->watcher.lost, ==, 0);
    s->shown.ops->stop(s->shown.opaque);
    /* Rings outside RAM are refused before the server sees them. */
    g_assert_cmpint(start_rings(s, 0x10000000), ==, -EINVAL);
    g_assert_cmpint(start_rings(s, 0xfffffffffffffff0), ==, -EINVAL);
    g_assert_cmpint(start_rings(s, 0x200008), ==, -EINVAL);
    /* A refusal is no loss. */
    s->peer->refuse_addr = true;
    g_assert_cmpint(start_rings(s, 0x200000), <, 0);
    g_assert_true(s->shown.ops->alive(s->shown.opaque));
    s->peer->refuse_addr = false;
    g_assert_cmpint(start_rings(s, 0x200000), ==, 0);
    /* Its death is, once, and everything afterwards fails at once. */
    shutdown(s->peer->socket, SHUT_RDWR);
    wait_for(&s->watcher, &s->watcher.lost, 1);
    g_assert_false(s->shown.ops->alive(s->shown.opaque));
    s->shown.ops->stop(s->shown.opaque);
    g_assert_cmpint(start_rings(s, 0x200000), ==, -ENOTCONN);
    g_assert_cmpuint(s->watcher.lost, ==, 1);
    session_destroy(s);
}

/* Broken: the server does not record what it writes, so that stale translations of code that it has overwritten run. */
static void test_client_log(void)
{
    cleanup_fd int log = memfd_create("log", MFD_CLOEXEC);
    struct session *s = session_open(0, 0, log, false);

    /* A packed ring has no used index that could be watched. */
    g_assert_cmphex(s->shown.features, ==, VIRTIO_F_VERSION_1 | 1 << 12);
    for (unsigned i = 0; i < 2; i++) {
        g_assert_cmpint(start_rings(s, 0x200000), ==, 0);
        g_assert_cmphex(s->peer->features & UINT64_C(1) << VHOST_F_LOG_ALL, !=, 0);
        g_assert_cmpuint(s->peer->log_bytes, ==, 2048);
        g_assert_true(s->watcher.used_index == ram_lookup(&s->ram, 0x220002, 2));
        s->shown.ops->stop(s->shown.opaque);
        g_assert_null(s->watcher.used_index);
    }
    session_destroy(s);
}

/* The server dies at each message of the handshake, or at each of the start. */
static void test_death(void)
{
    static const unsigned handshake[] = {VHOST_USER_GET_FEATURES, VHOST_USER_GET_PROTOCOL_FEATURES,
                                         VHOST_USER_GET_QUEUE_NUM, VHOST_USER_GET_CONFIG};
    static const unsigned starting[] = {VHOST_USER_SET_FEATURES,   VHOST_USER_SET_MEM_TABLE,
                                        VHOST_USER_SET_VRING_NUM,  VHOST_USER_SET_VRING_BASE,
                                        VHOST_USER_SET_VRING_ADDR, VHOST_USER_SET_VRING_CALL,
                                        VHOST_USER_SET_VRING_KICK, VHOST_USER_SET_VRING_ENABLE};

    for (size_t i = 0; i < G_N_ELEMENTS(handshake); i++)
        session_destroy(session_create(handshake[i], -1));
    for (size_t i = 0; i < G_N_ELEMENTS(starting); i++) {
        struct session *s = session_create(starting[i], 0);

        g_assert_cmpint(start_rings(s, 0x200000), <, 0);
        wait_for(&s->watcher, &s->watcher.lost, 1);
        session_destroy(s);
    }
}

/* --- successors ----------------------------------------------------------------------------------------------- */

static uint64_t inode(int fd)
{
    struct stat status;

    g_assert_cmpint(fstat(fd, &status), ==, 0);
    return status.st_ino;
}

/* The peer dies, and the device has noticed. */
static void lose_peer(struct session *s, unsigned losses)
{
    shutdown(s->peer->socket, SHUT_RDWR);
    wait_for(&s->watcher, &s->watcher.lost, losses);
    peer_end(s->peer);
}

static int resume(struct session *s, const struct peer *like)
{
    char why[256];
    int fd;

    s->peer = g_memdup2(like, sizeof(*like));
    fd = peer_start(s->peer);
    return vhost_device_resume(s->device, fd, why, sizeof(why));
}

static unsigned position(const struct peer *peer, uint32_t request)
{
    for (unsigned i = 0; i < peer->requests->len; i++) {
        if (g_array_index(peer->requests, uint32_t, i) == request)
            return i;
    }
    return UINT_MAX;
}

/* Broken: the driver sees its device fail when its server is replaced, or requests in flight are lost. */
static void test_successor(void)
{
    struct session *s = session_open(0, 0, -1, true);
    uint64_t inflight;
    uint8_t wce = 1;

    g_assert_cmpint(start_rings(s, 0x200000), ==, 0);
    inflight = inode(s->peer->inflight_fd);
    s->shown.ops->config_write(s->shown.opaque, 32, &wce, 1);
    g_assert_cmpuint(s->peer->written, ==, 1);
    lose_peer(s, 1);
    g_assert_true(s->shown.ops->alive(s->shown.opaque));
    s->shown.ops->kick(s->shown.opaque, 1); /* waits in the eventfd */
    wce = 7;
    s->shown.ops->config_write(s->shown.opaque, 32, &wce, 1);
    wce = 0;
    s->shown.ops->config_read(s->shown.opaque, 32, &wce, 1);
    g_assert_cmpuint(wce, ==, 7);

    g_assert_cmpint(resume(s, &(struct peer){0}), ==, 0);
    g_assert_cmpuint(inode(s->peer->inflight_fd), ==, inflight);
    g_assert_cmpuint(position(s->peer, VHOST_USER_SET_INFLIGHT_FD), <,
                     position(s->peer, VHOST_USER_SET_VRING_NUM));
    g_assert_cmpuint(position(s->peer, VHOST_USER_SET_FEATURES), <,
                     position(s->peer, VHOST_USER_SET_INFLIGHT_FD));
    g_assert_cmphex(s->peer->desc_user, ==, 0x200000);
    g_assert_cmpuint(s->peer->written, ==, 7);
    g_assert_true(fd_eventfd_consume(s->peer->kick_fd));
    fd_eventfd_signal(s->peer->call_fd);
    wait_for(&s->watcher, &s->watcher.interrupts, 1);

    /* Replaced while it lives: its rings are stopped in order first. */
    struct peer *old = s->peer;
    g_assert_cmpint(resume(s, &(struct peer){.config_byte = 0x55}), ==, 0);
    g_assert_cmpuint(inode(s->peer->inflight_fd), ==, inflight);
    wait_for(&s->watcher, &s->watcher.config_changes, 1); /* another size, say */
    peer_join(old);
    g_assert_cmpuint(position(old, VHOST_USER_GET_VRING_BASE), !=, UINT_MAX);
    peer_end(old);
    g_assert_cmpuint(s->watcher.lost, ==, 1);

    /* The driver resets it: the next start is with fresh in-flight memory. */
    s->shown.ops->stop(s->shown.opaque);
    g_assert_cmpint(start_rings(s, 0x200000), ==, 0);
    g_assert_cmpuint(inode(s->peer->inflight_fd), !=, inflight);
    session_destroy(s);
}

/* Broken: what the driver does while there is no server is forgotten, or blocks its vCPU. */
static void test_driver_without_server(void)
{
    struct session *s = session_open(0, 0, -1, true);

    lose_peer(s, 1);
    g_assert_cmpint(start_rings(s, 0x200000), ==, 0);
    g_assert_cmpint(start_rings(s, 0x200008), ==, -EINVAL);
    s->shown.ops->stop(s->shown.opaque);
    g_assert_cmpint(start_rings(s, 0x240000), ==, 0);
    g_assert_cmpint(resume(s, &(struct peer){0}), ==, 0);
    g_assert_cmphex(s->peer->desc_user, ==, 0x240000);
    g_assert_cmpuint(position(s->peer, VHOST_USER_SET_INFLIGHT_FD), ==, UINT_MAX);
    g_assert_cmpuint(position(s->peer, VHOST_USER_GET_INFLIGHT_FD), !=, UINT_MAX);
    lose_peer(s, 2);
    s->shown.ops->stop(s->shown.opaque);
    g_assert_cmpint(resume(s, &(struct peer){0}), ==, 0);
    g_assert_cmpuint(position(s->peer, VHOST_USER_SET_VRING_NUM), ==, UINT_MAX);
    session_destroy(s);
}

/* Broken: a successor that cannot go on, or dies while it is told, ends the device instead of waiting for another. */
static void test_bad_successors(void)
{
    static const struct peer bad[] = {
        {.fewer_features = true},
        {.fewer_queues = true},
        {.hidden_protocol_features = VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD)},
        {.hidden_protocol_features = VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_CONFIG)},
        {.die_at = VHOST_USER_GET_FEATURES},
        {.die_at = VHOST_USER_SET_BACKEND_REQ_FD},
        {.die_at = VHOST_USER_SET_CONFIG},
        {.die_at = VHOST_USER_GET_CONFIG},
        {.die_at = VHOST_USER_SET_INFLIGHT_FD},
        {.die_at = VHOST_USER_SET_MEM_TABLE},
        {.die_at = VHOST_USER_SET_VRING_CALL},
        {.die_at = VHOST_USER_SET_VRING_ENABLE},
    };
    struct session *s = session_open(0, 0, -1, true);
    uint8_t wce = 3;

    g_assert_cmpint(start_rings(s, 0x200000), ==, 0);
    s->shown.ops->config_write(s->shown.opaque, 32, &wce, 1);
    lose_peer(s, 1);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_cmpint(resume(s, &bad[i]), <, 0);
        peer_end(s->peer);
        g_assert_true(s->shown.ops->alive(s->shown.opaque));
        g_assert_cmpuint(s->watcher.lost, ==, 1); /* the caller was told */
    }
    g_assert_cmpint(resume(s, &(struct peer){0}), ==, 0);
    g_assert_cmphex(s->peer->desc_user, ==, 0x200000);
    fd_eventfd_signal(s->peer->call_fd);
    wait_for(&s->watcher, &s->watcher.interrupts, 1);
    session_destroy(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/virtio-pci/life", test_life);
    g_test_add_func("/virtio-pci/msix", test_msix);
    g_test_add_func("/virtio-pci/intx", test_intx);
    g_test_add_func("/virtio-pci/needs-reset", test_needs_reset);
    g_test_add_func("/virtio-pci/bars", test_bars);
    g_test_add_func("/virtio-pci/hostile", test_hostile);
    g_test_add_func("/vhost-device/client", test_client);
    g_test_add_func("/vhost-device/log", test_client_log);
    g_test_add_func("/vhost-device/death", test_death);
    g_test_add_func("/vhost-device/successor", test_successor);
    g_test_add_func("/vhost-device/driver-without-server", test_driver_without_server);
    g_test_add_func("/vhost-device/bad-successors", test_bad_successors);
    return g_test_run();
}
