/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile front-end and a hostile guest against the real bulkhead-blk under its real sandbox.
 *
 * Each input that has broken other servers is tried: the server must say what it refuses, and the next request, ring or
 * connection must work. If one of these fails, a guest can take its disk's process down or make it read elsewhere.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "tests/devserver/blk_client.h"

#define TIMEOUT_MS 30000

static const struct blk_client_options split_options = {.packed = false};

/* One server for all tests: each of them leaves it working. */
static struct blk_server server;

static void assert_server_works(void)
{
    struct blk_client client;

    blk_client_start(&client, &server, &split_options);
    blk_client_check(&client);
    blk_client_close(&client);
}

/* The server closes the connection; what it sent before is passed over. */
static void assert_dropped(int socket)
{
    uint8_t bytes[4096];
    ssize_t n;

    do {
        struct pollfd poller = {.fd = socket, .events = POLLIN};

        g_assert_cmpint(poll(&poller, 1, TIMEOUT_MS), ==, 1);
        n = read(socket, bytes, sizeof(bytes));
    } while (n > 0);
    g_assert_true(n == 0 || errno == ECONNRESET);
}

/* ---- messages ---- */

static void set_blocking_send(int socket, const void *bytes, size_t length, const int *fds, unsigned fd_count)
{
    struct iovec iov = {(void *)bytes, length};

    g_assert_cmpint(fd_send(socket, &iov, 1, fds, fd_count), ==, length);
}

struct raw_case {
    const char *name, *log;
    uint32_t request, flags, size;
    uint32_t words[8]; /* the payload's beginning */
    unsigned fds;
};

static const struct raw_case raw_cases[] = {
    {"version 0", "framing", VHOST_USER_GET_FEATURES, 0, 0, {0}, 0},
    {"version 2", "framing", VHOST_USER_GET_FEATURES, 2, 0, {0}, 0},
    {"size over any payload", "framing", VHOST_USER_SET_FEATURES, 1, 0xffffffff, {0}, 0},
    {"a reply", "a reply where a request was due", VHOST_USER_GET_FEATURES, 5, 0, {0}, 0},
    {"request 0", "unknown request", 0, 1, 0, {0}, 0},
    {"request 26", "unknown request", 26, 1, 0, {0}, 0},
    {"request 2^32-1", "unknown request", UINT32_MAX, 1, 8, {0}, 0},
    {"payload too short", "payload too short", VHOST_USER_SET_FEATURES, 1, 4, {0}, 0},
    {"payload too long", "size does not match", VHOST_USER_SET_FEATURES, 1, 12, {0}, 0},
    {"payload where none is due", "size does not match", VHOST_USER_SET_OWNER, 1, 8, {0}, 0},
    {"extra descriptor", "too many descriptors", VHOST_USER_SET_OWNER, 1, 0, {0}, 1},
    {"8 extra descriptors", "too many descriptors", VHOST_USER_GET_FEATURES, 1, 0, {0}, 8},
    {"9 descriptors", "framing", VHOST_USER_GET_FEATURES, 1, 0, {0}, 9},
    {"2 kick descriptors", "descriptor and its 'none' bit disagree", VHOST_USER_SET_VRING_CALL, 1, 8, {0}, 2},
    {"no call descriptor", "descriptor and its 'none' bit disagree", VHOST_USER_SET_VRING_CALL, 1, 8, {0}, 0},
    {"call descriptor and 'none'", "'none' bit disagree", VHOST_USER_SET_VRING_CALL, 1, 8, {0x100}, 1},
    {"call of queue 200", "no such queue", VHOST_USER_SET_VRING_CALL, 1, 8, {200}, 1},
    {"reserved call bits", "reserved bits", VHOST_USER_SET_VRING_CALL, 1, 8, {0, 1}, 1},
    {"size of queue 2^32-1", "no such queue", VHOST_USER_SET_VRING_NUM, 1, 8, {UINT32_MAX, 16}, 0},
    {"queue size 0", "a queue size of 0 or over", VHOST_USER_SET_VRING_NUM, 1, 8, {0, 0}, 0},
    {"queue size 1025", "a queue size of 0 or over", VHOST_USER_SET_VRING_NUM, 1, 8, {0, 1025}, 0},
    {"queue size 2^32-1", "a queue size of 0 or over", VHOST_USER_SET_VRING_NUM, 1, 8, {0, UINT32_MAX}, 0},
    {"base of queue 256", "no such queue", VHOST_USER_SET_VRING_BASE, 1, 8, {256, 0}, 0},
    {"address of queue 77", "no such queue", VHOST_USER_SET_VRING_ADDR, 1, 40, {77}, 0},
    {"ring with a log", "logging was not negotiated", VHOST_USER_SET_VRING_ADDR, 1, 40, {0, 1}, 0},
    {"base asked of queue 99", "no such queue", VHOST_USER_GET_VRING_BASE, 1, 8, {99, 0}, 0},
    {"enable queue 99", "no such queue", VHOST_USER_SET_VRING_ENABLE, 1, 8, {99, 1}, 0},
    {"enable 2", "neither 0 nor 1", VHOST_USER_SET_VRING_ENABLE, 1, 8, {0, 2}, 0},
    {"features that were not offered",
     "features that were not offered",
     VHOST_USER_SET_FEATURES,
     1,
     8,
     {UINT32_MAX, UINT32_MAX},
     0},
    {"protocol features that were not offered",
     "protocol features that were not offered",
     VHOST_USER_SET_PROTOCOL_FEATURES,
     1,
     8,
     {UINT32_MAX, 0},
     0},
    {"9 regions", "more than 8 memory regions", VHOST_USER_SET_MEM_TABLE, 1, 264, {9}, 8},
    {"2^32-1 regions", "more than 8 memory regions", VHOST_USER_SET_MEM_TABLE, 1, 264, {UINT32_MAX}, 8},
    {"2 regions, 1 descriptor",
     "not one descriptor per memory region",
     VHOST_USER_SET_MEM_TABLE,
     1,
     72,
     {2},
     1},
    {"region that is an eventfd",
     "not a file that can be shared",
     VHOST_USER_SET_MEM_TABLE,
     1,
     40,
     {1, 0, 0, 0, 0x1000, 0},
     1},
    {"in-flight area", "was not negotiated", VHOST_USER_GET_INFLIGHT_FD, 1, 20, {0, 0, 0, 0, 0xffffffff}, 0},
    {"in-flight area set", "was not negotiated", VHOST_USER_SET_INFLIGHT_FD, 1, 20, {0}, 1},
    {"log with overflow",
     "was not negotiated",
     VHOST_USER_SET_LOG_BASE,
     1,
     16,
     {0xfffff000, 0xffffffff, 0x1000},
     1},
    {"status without STATUS", "was not negotiated", VHOST_USER_SET_STATUS, 1, 8, {0}, 0},
    {"config without CONFIG", "was not negotiated", VHOST_USER_GET_CONFIG, 1, 16, {0, 4}, 0},
    {"hot-plug without slots", "was not negotiated", VHOST_USER_ADD_MEM_REG, 1, 40, {0}, 1},
    {"kick before the features", "not allowed in this state", VHOST_USER_SET_VRING_KICK, 1, 8, {0}, 1},
    {"IOTLB before the features", "not allowed in this state", VHOST_USER_IOTLB_MSG, 1, 32, {0}, 0},
};

/* Sends one message to a fresh connection that has negotiated nothing: refusal ends the connection. */
static void test_raw(gconstpointer data)
{
    const struct raw_case *raw = data;
    uint8_t bytes[12 + 300] = {0};
    cleanup_fd int socket = blk_connect_socket(&server);
    uint32_t header[3] = {raw->request, raw->flags, raw->size};
    int fds[9];

    memcpy(bytes, header, 12);
    memcpy(bytes + 12, raw->words, sizeof(raw->words));
    for (unsigned i = 0; i < raw->fds; i++)
        fds[i] = fd_eventfd_create();
    set_blocking_send(socket, bytes, 12 + (raw->size < 300 ? raw->size : 0), fds, raw->fds);
    fd_close_all(fds, raw->fds);
    assert_dropped(socket);
    blk_server_expect_log(&server, raw->log);
    assert_server_works();
}

/* Broken: a peer that dies inside any message leaves the server waiting for the rest. */
static void test_disconnect_at_every_byte(void)
{
    const struct vhost_user_vring_addr addr = {.index = 0, .desc_user = 0x1000};
    uint8_t bytes[52];
    uint32_t header[3] = {VHOST_USER_SET_VRING_ADDR, 1, sizeof(addr)};

    memcpy(bytes, header, 12);
    memcpy(bytes + 12, &addr, sizeof(addr));
    for (unsigned cut = 0; cut <= sizeof(bytes); cut++) {
        int socket = blk_connect_socket(&server);

        if (cut > 0)
            g_assert_cmpint(write(socket, bytes, cut), ==, cut);
        close(socket);
    }
    assert_server_works();
}

/* Broken: messages in pieces, or several in one write, are misread. */
static void test_split_and_coalesced(void)
{
    cleanup_fd int socket = blk_connect_socket(&server);
    uint32_t messages[2][3] = {{VHOST_USER_GET_FEATURES, 1, 0}, {VHOST_USER_GET_PROTOCOL_FEATURES, 1, 0}};
    uint8_t reply[20];

    for (unsigned i = 0; i < 12; i++)
        set_blocking_send(socket, (uint8_t *)messages[0] + i, 1, NULL, 0);
    g_assert_cmpint(fd_read_full(socket, reply, sizeof(reply)), ==, 0);
    set_blocking_send(socket, messages, sizeof(messages), NULL, 0);
    g_assert_cmpint(fd_read_full(socket, reply, sizeof(reply)), ==, 0);
    g_assert_cmpuint(reply[0], ==, VHOST_USER_GET_FEATURES);
    g_assert_cmpint(fd_read_full(socket, reply, sizeof(reply)), ==, 0);
    g_assert_cmpuint(reply[0], ==, VHOST_USER_GET_PROTOCOL_FEATURES);
}

/* Broken: a peer that stops in mid-message stops its own rings; or one that never reads fills our memory or blocks us. */
static void test_silent_peer(void)
{
    const uint32_t request[3] = {VHOST_USER_GET_FEATURES, 1, 0};
    struct blk_client client;
    cleanup_fd int socket = -1;
    int flooded = 0;

    blk_client_start(&client, &server, &split_options);
    g_assert_cmpint(write(client.frontend.socket, request, 5), ==, 5);
    blk_client_check(&client);
    blk_client_close(&client);

    socket = blk_connect_socket(&server);
    fd_set_nonblock(socket, true);
    while (flooded >= 0) { /* ends when the server has dropped us */
        struct pollfd poller = {.fd = socket, .events = POLLOUT};

        g_assert_cmpint(poll(&poller, 1, TIMEOUT_MS), ==, 1);
        flooded = send(socket, request, sizeof(request), MSG_NOSIGNAL) < 0 && errno != EAGAIN ? -1 : 0;
    }
    blk_server_expect_log(&server, "the peer does not take replies");
    assert_server_works();
}

/* ---- requests in a negotiated session: refused with an answer, and the session goes on ---- */

static void refused(struct blk_client *client, struct vhost_user_message *message, const char *log)
{
    g_test_message("%s", log);
    g_assert_cmpint(vhost_user_frontend_call(&client->frontend, message), ==, -EREMOTEIO);
    blk_server_expect_log(&server, log);
}

static void test_memory_regions(void)
{
    static const struct {
        struct vhost_user_region region;
        const char *log;
    } cases[] = {
        {{CLIENT_RAM_BYTES, 0, 0x1000, 0}, "empty, wraps or overlaps"},
        {{UINT64_MAX - 0xfff, 0x2000, 0x1000, 0}, "empty, wraps or overlaps"},
        {{CLIENT_RAM_BYTES, 0x1000, UINT64_MAX - 0xffe, 0}, "empty, wraps or overlaps"},
        {{CLIENT_RAM_BYTES, 0x1000, 0x1000, UINT64_MAX - 0xffe}, "empty, wraps or overlaps"},
        {{CLIENT_RAM_BYTES - 0x1000, 0x2000, 0x1000, 0}, "empty, wraps or overlaps"},
        {{CLIENT_RAM_BYTES, 0x1000, CLIENT_USER_BASE + CLIENT_RAM_BYTES - 1, 0}, "empty, wraps or overlaps"},
        {{CLIENT_RAM_BYTES, CLIENT_RAM_BYTES + 1, 0x1000, 0}, "larger than its file"},
        {{CLIENT_RAM_BYTES, 0x1000, 0x1000, CLIENT_RAM_BYTES}, "larger than its file"},
        {{CLIENT_RAM_BYTES, UINT64_C(1) << 63, 0x1000, 0}, "empty, wraps or overlaps"},
    };
    struct blk_client client;

    blk_client_start(&client, &server, &split_options);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct vhost_user_message message = {
            .header.request = VHOST_USER_ADD_MEM_REG,
            .payload.mem_reg.region = cases[i].region,
            .fds = {client.ram_fd},
            .fd_count = 1,
        };

        refused(&client, &message, cases[i].log);
        blk_client_check(&client);
    }
    struct vhost_user_message message = {
        .header.request = VHOST_USER_REM_MEM_REG,
        .payload.mem_reg.region = {0, CLIENT_RAM_BYTES, 1, 0},
    };
    refused(&client, &message, "no such memory region");
    blk_client_check(&client);
    blk_client_close(&client);
}

/* Broken: rings that are started without memory, or before they are described, are read at address 0. */
static void test_rings_before_memory(void)
{
    const struct vhost_user_region region = {0, CLIENT_RAM_BYTES, CLIENT_USER_BASE, 0};
    struct blk_client client;

    blk_client_open(&client, &server, &split_options);
    g_assert_cmpint(vhost_user_frontend_set_vring_kick(&client.frontend, 0, client.kick[0]), ==, -EREMOTEIO);
    blk_server_expect_log(&server, "the ring has no size or no address yet");
    g_assert_cmpint(blk_client_start_queue(&client, 0), ==, -EREMOTEIO);
    blk_server_expect_log(&server, "a ring address is outside the shared memory");
    blk_client_set_memory(&client);
    g_assert_cmpint(blk_client_start_queue(&client, 0), ==, 0);
    blk_client_check(&client);
    /* and the other way round: the memory goes from under a running ring */
    g_assert_cmpint(vhost_user_frontend_rem_mem_reg(&client.frontend, &region), ==, 0);
    blk_wait(client.err[0]);
    blk_client_set_memory(&client);
    ring_driver_init(&client.ring[0], client.ram, 0x1000, CLIENT_QUEUE_SIZE, false);
    client.ring[0].config.event_idx = true;
    g_assert_cmpint(blk_client_start_queue(&client, 0), ==, 0);
    blk_client_check(&client);
    blk_client_close(&client);
}

/* Broken: rings partly outside memory, misaligned or of a wrong size or base are used. */
static void test_ring_addresses(void)
{
    struct blk_client client;

    blk_client_open(&client, &server, &split_options);
    blk_client_set_memory(&client);
    for (unsigned i = 0; i < 9; i++) {
        const struct virtqueue_config good = client.ring[0].config;
        struct virtqueue_config *config = &client.ring[0].config;

        switch (i) {
        case 0:
            config->desc_gpa = CLIENT_RAM_BYTES - 16;
            break;
        case 1:
            config->driver_gpa = CLIENT_RAM_BYTES - 2;
            break;
        case 2:
            config->device_gpa = CLIENT_RAM_BYTES - 4;
            break;
        case 3:
            config->desc_gpa += 8;
            break;
        case 4:
            config->driver_gpa += 1;
            break;
        case 5:
            config->device_gpa += 2;
            break;
        case 6:
            config->size = 12;
            break;
        case 7:
            config->base = 65536;
            break;
        default:
            config->desc_gpa = -CLIENT_USER_BASE;
            break;
        }
        g_assert_cmpint(blk_client_start_queue(&client, 0), ==, -EREMOTEIO);
        *config = good;
    }
    g_assert_cmpint(blk_client_start_queue(&client, 0), ==, 0);
    blk_client_check(&client);
    blk_client_close(&client);
}

/* Broken: a kick or call descriptor that is no eventfd blocks or spins a thread. */
static void test_not_eventfds(void)
{
    cleanup_fd int file = memfd_create("x", MFD_CLOEXEC);
    struct blk_client client;
    int sockets[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), ==, 0);
    blk_client_start(&client, &server, &split_options);
    g_assert_cmpint(vhost_user_frontend_set_vring_kick(&client.frontend, 0, file), ==, -EREMOTEIO);
    g_assert_cmpint(vhost_user_frontend_set_vring_kick(&client.frontend, 0, sockets[0]), ==, -EREMOTEIO);
    g_assert_cmpint(vhost_user_frontend_set_vring_call(&client.frontend, 0, file), ==, -EREMOTEIO);
    g_assert_cmpint(vhost_user_frontend_set_vring_err(&client.frontend, 0, sockets[0]), ==, -EREMOTEIO);
    g_assert_cmpint(vhost_user_frontend_set_vring_kick(&client.frontend, 0, -1), ==, -EREMOTEIO);
    blk_server_expect_log(&server, "the descriptor is not an eventfd");
    blk_client_check(&client); /* the ring works on with its old ones */
    blk_client_close(&client);
    fd_close_all(sockets, 2);
}

/* Broken: a running ring is changed under its thread. */
static void test_changes_while_running(void)
{
    const struct vhost_user_vring_addr addr = {.index = 0, .desc_user = CLIENT_USER_BASE + 0x8000};
    struct blk_client client;

    blk_client_start(&client, &server, &split_options);
    g_assert_cmpint(vhost_user_frontend_set_vring_num(&client.frontend, 0, 8), ==, -EREMOTEIO);
    g_assert_cmpint(vhost_user_frontend_set_vring_base(&client.frontend, 0, 8), ==, -EREMOTEIO);
    g_assert_cmpint(vhost_user_frontend_set_vring_addr(&client.frontend, &addr), ==, -EREMOTEIO);
    g_assert_cmpint(vhost_user_frontend_set_features(&client.frontend, 0), ==, -EREMOTEIO);
    g_assert_cmpint(vhost_user_frontend_set_protocol_features(&client.frontend, 0), ==, -EREMOTEIO);
    blk_client_check(&client);
    blk_client_close(&client);
}

static void test_config_ranges(void)
{
    struct blk_client client;
    uint8_t bytes[256];

    blk_client_start(&client, &server, &split_options);
    g_assert_cmpint(vhost_user_frontend_get_config(&client.frontend, 200, bytes, 57), ==, -EREMOTEIO);
    g_assert_cmpint(vhost_user_frontend_get_config(&client.frontend, UINT32_MAX, bytes, 2), ==, -EREMOTEIO);
    g_assert_cmpint(vhost_user_frontend_get_config(&client.frontend, 0, bytes, 256), ==, 0);
    g_assert_cmpuint(bytes[255], ==, 0);
    g_assert_cmpint(vhost_user_frontend_set_config(&client.frontend, UINT32_MAX, bytes, 2), ==, -EREMOTEIO);
    blk_client_check(&client);
    blk_client_close(&client);
}

/* Broken: a peer that shortens its memory file kills the server with SIGBUS. */
static void test_shrunk_memory(void)
{
    const struct blk_client_options options = {.no_seals = true};
    struct blk_client client;

    blk_client_start(&client, &server, &options);
    blk_client_check(&client);
    munmap(client.ram, CLIENT_RAM_BYTES);
    g_assert_cmpint(ftruncate(client.ram_fd, 0), ==, 0);
    client.ram = mmap(NULL, CLIENT_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    blk_kick(&client, 0);
    assert_dropped(client.frontend.socket);
    blk_server_expect_log(&server, "it shortened a file that it had shared as guest memory");
    blk_client_close(&client);
    assert_server_works();
}

/* ---- rings ---- */

static const struct ring_buffer honest[] = {
    {CLIENT_HEADER_GPA, 16, 0}, {CLIENT_DATA_GPA, 512, RING_WRITE}, {CLIENT_STATUS_GPA, 1, RING_WRITE}};

static void write_table(struct blk_client *client, unsigned index, uint64_t addr, uint32_t len,
                        uint16_t flags, uint16_t next)
{
    uint8_t *at = client->ram + CLIENT_TABLE_GPA + 16 * index;
    bool packed = client->ring[0].config.packed;

    memcpy(at, &addr, 8);
    memcpy(at + 8, &len, 4);
    memcpy(at + 12, packed ? &next : &flags, 2);
    memcpy(at + 14, packed ? &flags : &next, 2);
}

static void lie_outside(struct blk_client *client)
{
    const struct ring_buffer buffers[] = {honest[0], {CLIENT_RAM_BYTES - 1, 512, RING_WRITE}, honest[2]};

    ring_driver_add(&client->ring[0], buffers, 3, 0);
}

static void lie_wrap(struct blk_client *client)
{
    const struct ring_buffer buffers[] = {honest[0], {UINT64_MAX - 100, 512, RING_WRITE}, honest[2]};

    ring_driver_add(&client->ring[0], buffers, 3, 0);
}

static void lie_order(struct blk_client *client)
{
    const struct ring_buffer buffers[] = {honest[1], honest[0], honest[2]};

    ring_driver_add(&client->ring[0], buffers, 3, 0);
}

static void lie_no_status(struct blk_client *client)
{
    ring_driver_add(&client->ring[0], honest, 1, 0);
}

static void lie_odd_table(struct blk_client *client)
{
    const struct ring_buffer buffer = {CLIENT_TABLE_GPA, 17, RING_INDIRECT};

    ring_driver_add(&client->ring[0], &buffer, 1, 0);
}

static void lie_nested_table(struct blk_client *client)
{
    const struct ring_buffer buffer = {CLIENT_TABLE_GPA, 16, RING_INDIRECT};

    write_table(client, 0, CLIENT_TABLE_GPA, 16, RING_INDIRECT, 0);
    ring_driver_add(&client->ring[0], &buffer, 1, 0);
}

static void lie_table_and_next(struct blk_client *client)
{
    const struct ring_buffer buffers[] = {{CLIENT_TABLE_GPA, 16, RING_INDIRECT}, honest[2]};

    ring_driver_add(&client->ring[0], buffers, 2, 0);
}

static void lie_huge_table(struct blk_client *client)
{
    const struct ring_buffer buffer = {CLIENT_TABLE_GPA, 16 * 1000, RING_INDIRECT};

    for (unsigned i = 0; i < 1000; i++)
        write_table(client, i, CLIENT_DATA_GPA, 16, RING_NEXT, (uint16_t)(i + 1));
    ring_driver_add(&client->ring[0], &buffer, 1, 0);
}

static void lie_split_loop(struct blk_client *client)
{
    ring_driver_desc(&client->ring[0], 0, CLIENT_DATA_GPA, 16, RING_NEXT, 1);
    ring_driver_desc(&client->ring[0], 1, CLIENT_DATA_GPA, 16, RING_NEXT, 0);
    ring_driver_publish(&client->ring[0], 0);
}

static void lie_split_table_loop(struct blk_client *client)
{
    const struct ring_buffer buffer = {CLIENT_TABLE_GPA, 32, RING_INDIRECT};

    write_table(client, 0, CLIENT_DATA_GPA, 16, RING_NEXT, 1);
    write_table(client, 1, CLIENT_DATA_GPA, 16, RING_NEXT, 1);
    ring_driver_add(&client->ring[0], &buffer, 1, 0);
}

static void lie_split_next(struct blk_client *client)
{
    ring_driver_desc(&client->ring[0], 0, CLIENT_DATA_GPA, 16, RING_NEXT, 16);
    ring_driver_publish(&client->ring[0], 0);
}

static void lie_split_head(struct blk_client *client)
{
    ring_driver_publish(&client->ring[0], CLIENT_QUEUE_SIZE);
}

static void lie_split_jump(struct blk_client *client)
{
    ring_driver_set_avail_idx(&client->ring[0],
                              (uint16_t)(ring_driver_avail_idx(&client->ring[0]) + CLIENT_QUEUE_SIZE + 1));
}

/* The same head twice at once: the second comes while the first is in flight. */
static void lie_split_duplicate(struct blk_client *client)
{
    const struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_FLUSH};
    const struct ring_buffer buffers[] = {honest[0], honest[2]};
    uint16_t head = client->ring[0].next_slot;

    memcpy(client->ram + CLIENT_HEADER_GPA, &header, sizeof(header));
    ring_driver_add(&client->ring[0], buffers, 2, 0);
    for (unsigned i = 0; i < CLIENT_QUEUE_SIZE - 1; i++)
        ring_driver_publish(&client->ring[0], head);
}

static void lie_packed_id(struct blk_client *client)
{
    ring_driver_add(&client->ring[0], honest, 3, 0xffff);
}

static void lie_packed_endless(struct blk_client *client)
{
    struct ring_buffer buffers[CLIENT_QUEUE_SIZE];

    for (unsigned i = 0; i < CLIENT_QUEUE_SIZE; i++)
        buffers[i] = (struct ring_buffer){CLIENT_DATA_GPA, 16, RING_NEXT};
    ring_driver_add(&client->ring[0], buffers, CLIENT_QUEUE_SIZE, 0);
}

static const struct lie {
    const char *name;
    void (*tell)(struct blk_client *client);
    bool split, packed;
} lies[] = {
    {"buffer outside memory", lie_outside, true, true},
    {"buffer wraps", lie_wrap, true, true},
    {"writable before readable", lie_order, true, true},
    {"no status byte", lie_no_status, true, true},
    {"odd indirect length", lie_odd_table, true, true},
    {"indirect in indirect", lie_nested_table, true, true},
    {"indirect with next", lie_table_and_next, true, true},
    {"1000 buffers", lie_huge_table, true, true},
    {"loop", lie_split_loop, true, false},
    {"loop in a table", lie_split_table_loop, true, false},
    {"next outside", lie_split_next, true, false},
    {"head outside", lie_split_head, true, false},
    {"index jumps", lie_split_jump, true, false},
    {"same head 16 times", lie_split_duplicate, true, false},
    {"id outside", lie_packed_id, false, true},
    {"endless chain", lie_packed_endless, false, true},
};

/* Stops the queue and starts it with clean rings. */
static void restart_queue(struct blk_client *client)
{
    bool packed = client->ring[0].config.packed;
    unsigned base;

    g_assert_cmpint(vhost_user_frontend_get_vring_base(&client->frontend, 0, &base), ==, 0);
    ring_driver_init(&client->ring[0], client->ram, 0x1000, CLIENT_QUEUE_SIZE, packed);
    client->ring[0].config.event_idx = true;
    fd_eventfd_consume(client->err[0]);
    g_assert_cmpint(blk_client_start_queue(client, 0), ==, 0);
}

/* Broken: a guest's broken ring costs it more than that queue, until it resets it. */
static void test_lies(gconstpointer packed)
{
    const struct blk_client_options options = {.packed = packed != NULL};
    struct blk_client client;

    blk_client_start(&client, &server, &options);
    for (unsigned i = 0; i < G_N_ELEMENTS(lies); i++) {
        if (!(packed ? lies[i].packed : lies[i].split))
            continue;
        g_test_message("%s", lies[i].name);
        blk_client_check(&client);
        lies[i].tell(&client);
        blk_kick(&client, 0);
        /* Requests of a duplicated head that were done before the next one was seen are no duplicates. */
        if (lies[i].tell != lie_split_duplicate)
            blk_wait(client.err[0]);
        restart_queue(&client);
        blk_client_check(&client);
    }
    blk_client_close(&client);
}

/* Broken: a buffer from one region to another that is not its neighbour gives access to what is between (CVE-2018-1059). */
static void test_buffer_over_a_gap(void)
{
    const struct vhost_user_region far = {CLIENT_RAM_BYTES + 0x1000, 0x1000, 0x1000, 0};
    const struct ring_buffer buffers[] = {honest[0], {CLIENT_RAM_BYTES - 512, 0x2000, RING_WRITE}, honest[2]};
    struct blk_client client;

    blk_client_start(&client, &server, &split_options);
    g_assert_cmpint(vhost_user_frontend_add_mem_reg(&client.frontend, &far, client.ram_fd), ==, 0);
    ring_driver_add(&client.ring[0], buffers, 3, 0);
    blk_kick(&client, 0);
    blk_wait(client.err[0]);
    blk_client_close(&client);
    assert_server_works();
}

static void fill_with_reads(struct blk_client *client)
{
    const struct ring_buffer buffers[] = {{CLIENT_HEADER_GPA, 16, 0},
                                          {CLIENT_DATA_GPA, 0x100000, RING_WRITE},
                                          {CLIENT_STATUS_GPA, 1, RING_WRITE}};
    const struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_IN, .sector = 0};

    memcpy(client->ram + CLIENT_HEADER_GPA, &header, sizeof(header));
    for (uint16_t i = 0; i < CLIENT_QUEUE_SIZE / 3; i++) /* one buffer in many chains */
        ring_driver_add(&client->ring[0], buffers, 3, i);
    blk_kick(client, 0);
}

/* Broken: a stop, reset, unplug or disconnect in mid-I/O leaves I/O that lands in memory which is no longer there. */
static void test_end_in_mid_io(gconstpointer packed)
{
    const struct blk_client_options options = {.packed = packed != NULL};
    const struct vhost_user_region region = {0, CLIENT_RAM_BYTES, CLIENT_USER_BASE, 0};

    for (unsigned i = 0; i < 40; i++) {
        struct blk_client client;
        unsigned base;

        blk_client_start(&client, &server, &options);
        fill_with_reads(&client);
        switch (i % 5) {
        case 0:
            g_assert_cmpint(vhost_user_frontend_get_vring_base(&client.frontend, 0, &base), ==, 0);
            break;
        case 1:
            g_assert_cmpint(vhost_user_frontend_reset_device(&client.frontend), ==, 0);
            break;
        case 2:
            g_assert_cmpint(vhost_user_frontend_rem_mem_reg(&client.frontend, &region), ==, 0);
            break;
        case 3:
            g_assert_cmpint(vhost_user_frontend_set_vring_enable(&client.frontend, 0, false), ==, 0);
            break;
        default:
            break; /* just goes away */
        }
        blk_client_close(&client);
    }
    assert_server_works();
}

/* ---- memory that changes under the reader ---- */

struct mutator {
    struct blk_client *client;
    atomic_bool stop;
};

static void *mutate(void *opaque)
{
    struct mutator *mutator = opaque;
    uint32_t random = 12345;

    while (!atomic_load_explicit(&mutator->stop, memory_order_relaxed)) {
        const struct virtqueue_config *config = &mutator->client->ring[0].config;

        random = random * 1664525 + 1013904223;
        /* one byte of the descriptors, the tables or the header */
        if (random & 0x80000000)
            mutator->client->ram[config->desc_gpa + (random >> 8) % (CLIENT_QUEUE_SIZE * 16)] ^=
                (uint8_t)(random >> 3);
        else
            mutator->client->ram[CLIENT_HEADER_GPA + (random >> 8) % 16] ^= (uint8_t)(random >> 3);
    }
    return NULL;
}

/* Broken: a field is read twice, and the second value was not checked. */
static void test_double_fetch(gconstpointer packed)
{
    const struct blk_client_options options = {.packed = packed != NULL};
    struct blk_client client;
    struct mutator mutator = {.client = &client};
    pthread_t thread;

    blk_client_start(&client, &server, &options);
    atomic_store(&mutator.stop, false);
    g_assert_cmpint(pthread_create(&thread, NULL, mutate, &mutator), ==, 0);
    for (unsigned i = 0; i < 300; i++) {
        fill_with_reads(&client);
        restart_queue(&client);
    }
    atomic_store(&mutator.stop, true);
    pthread_join(thread, NULL);
    restart_queue(&client);
    blk_client_close(&client);
    assert_server_works();
}

static int finish(int status)
{
    blk_server_stop(&server);
    return status;
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    blk_server_start(&server, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(raw_cases); i++) {
        g_autofree char *path = g_strdup_printf("/hostile/message/%s", raw_cases[i].name);

        g_test_add_data_func(path, &raw_cases[i], test_raw);
    }
    g_test_add_func("/hostile/disconnect-at-every-byte", test_disconnect_at_every_byte);
    g_test_add_func("/hostile/split-and-coalesced", test_split_and_coalesced);
    g_test_add_func("/hostile/silent-peer", test_silent_peer);
    g_test_add_func("/hostile/memory-regions", test_memory_regions);
    g_test_add_func("/hostile/rings-before-memory", test_rings_before_memory);
    g_test_add_func("/hostile/ring-addresses", test_ring_addresses);
    g_test_add_func("/hostile/not-eventfds", test_not_eventfds);
    g_test_add_func("/hostile/changes-while-running", test_changes_while_running);
    g_test_add_func("/hostile/config-ranges", test_config_ranges);
    g_test_add_func("/hostile/shrunk-memory", test_shrunk_memory);
    g_test_add_func("/hostile/buffer-over-a-gap", test_buffer_over_a_gap);
    g_test_add_data_func("/hostile/split/lies", NULL, test_lies);
    g_test_add_data_func("/hostile/packed/lies", "packed", test_lies);
    g_test_add_data_func("/hostile/split/end-in-mid-io", NULL, test_end_in_mid_io);
    g_test_add_data_func("/hostile/packed/end-in-mid-io", "packed", test_end_in_mid_io);
    g_test_add_data_func("/hostile/split/double-fetch", NULL, test_double_fetch);
    g_test_add_data_func("/hostile/packed/double-fetch", "packed", test_double_fetch);
    return finish(g_test_run());
}
