/* SPDX-License-Identifier: Apache-2.0 */
/* The wire alone, without rings: a small guest (net_client) on one side, sockets of the host on the other. */
#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "devserver/net/checksum.h"
#include "devserver/net/frame_filter.h"
#include "devserver/net/frame_queue.h"
#include "devserver/net/resolver.h"
#include "devserver/net/user_net.h"
#include "tests/devserver/host_peer.h"
#include "tests/devserver/net_client.h"

#define PATIENCE_MS 30000 /* for a failing test only */

struct wire {
    struct user_net *net;
    struct net_client client;
    GQueue frames; /* for the guest: it must not answer from inside of the call that brings them */
    unsigned guest_errors;
    size_t largest_frame;
};

static void to_guest(void *opaque, const uint8_t *frame, size_t bytes)
{
    struct wire *wire = opaque;

    wire->largest_frame = MAX(wire->largest_frame, bytes);
    g_queue_push_tail(&wire->frames, g_bytes_new(frame, bytes));
}

static void count_guest_error(void *opaque, const char *message)
{
    ((struct wire *)opaque)->guest_errors++;
}

static void from_guest(void *opaque, const uint8_t *frame, size_t bytes)
{
    user_net_input(((struct wire *)opaque)->net, frame, bytes);
}

static const struct user_net_ops ops = {.frame = to_guest, .guest_error = count_guest_error};

static void wire_start(struct wire *wire, unsigned mtu, bool host_loopback, const char *publish)
{
    char why[256] = "";
    struct user_net_publish port;
    struct user_net_config config = {.mtu_bytes = mtu, .host_loopback = host_loopback, .ipv6 = true};

    *wire = (struct wire){.frames = G_QUEUE_INIT};
    if (publish) {
        g_assert_cmpint(user_net_publish_parse(publish, &port, why, sizeof why), ==, 0);
        config.publish = &port;
        config.publish_count = 1;
    }
    int ret = user_net_create(&config, &ops, wire, &wire->net, why, sizeof why);
    g_assert_cmpstr(why, ==, "");
    g_assert_cmpint(ret, ==, 0);
    net_client_init(&wire->client, mtu, from_guest, wire);
}

static void turn_within(struct wire *wire, int timeout_ms)
{
    struct pollfd fd = {.fd = user_net_fd(wire->net), .events = POLLIN};

    user_net_arm(wire->net, true);
    if (poll(&fd, 1, g_queue_is_empty(&wire->frames) ? timeout_ms : 0) > 0)
        user_net_run(wire->net);
    while (!g_queue_is_empty(&wire->frames)) {
        g_autoptr(GBytes) frame = g_queue_pop_head(&wire->frames);
        gsize bytes;
        const uint8_t *data = g_bytes_get_data(frame, &bytes);
        net_client_receive(&wire->client, data, bytes);
    }
}

static void turn(struct wire *wire)
{
    turn_within(wire, 1000);
}

static void wire_finish(struct wire *wire)
{
    user_net_destroy(wire->net);
    g_queue_clear_full(&wire->frames, (GDestroyNotify)g_bytes_unref);
}

/* Until `condition`, or fails the test. */
#define WAIT_FOR(wire, condition)                                                                            \
    do {                                                                                                     \
        gint64 end = g_get_monotonic_time() + PATIENCE_MS * 1000;                                            \
        while (!(condition) && g_get_monotonic_time() < end)                                                 \
            turn(wire);                                                                                      \
        g_assert_true(condition);                                                                            \
    } while (0)

static void join_network(struct wire *wire)
{
    net_client_dhcp(&wire->client, false);
    WAIT_FOR(wire, wire->client.dhcp_type == 2);
    net_client_dhcp(&wire->client, true);
    WAIT_FOR(wire, wire->client.dhcp_type == 5);
    net_client_ask_router(&wire->client);
    WAIT_FOR(wire, wire->client.router_known);
}

/* If it failed, a guest would get no address, or not know router and name server. */
static void test_dhcp(void)
{
    struct wire wire;

    wire_start(&wire, 1500, true, NULL);
    join_network(&wire);
    g_assert_cmphex(wire.client.dhcp_address, ==, NET_CLIENT_ADDRESS);
    g_assert_cmphex(wire.client.dhcp_router, ==, NET_CLIENT_ROUTER);
    g_assert_cmphex(wire.client.dhcp_dns, ==, NET_CLIENT_DNS);
    net_client_ping(&wire.client, NET_CLIENT_ROUTER);
    WAIT_FOR(&wire, wire.client.echo_replies == 1);
    wire_finish(&wire);
}

static void check_transfer(unsigned mtu, size_t bytes)
{
    struct wire wire;
    struct host_peer peer;
    g_autofree uint8_t *to_send = host_peer_pattern(bytes, 1);
    g_autofree uint8_t *received = g_malloc(bytes);

    wire_start(&wire, mtu, true, NULL);
    join_network(&wire);
    host_peer_start(&peer, bytes);
    net_client_tcp_stream(&wire.client, to_send, bytes, received, bytes);
    net_client_tcp_connect(&wire.client, NET_CLIENT_ROUTER, peer.port);
    WAIT_FOR(&wire, wire.client.received_bytes == bytes);
    wire.client.close_when_sent = true;
    WAIT_FOR(&wire, wire.client.fin_received);
    wire_finish(&wire); /* closes the connection, which ends the thread */
    host_peer_join(&peer);
    g_assert_cmpmem(peer.received, peer.received_bytes, to_send, bytes);
    g_assert_cmpmem(received, bytes, peer.sent, bytes);
    g_assert_cmpuint(wire.client.bad_checksums, ==, 0);
    g_assert_cmpuint(wire.largest_frame, <=, mtu + 14);
    if (mtu > 15000)
        g_assert_cmpuint(wire.largest_frame, >, 10000); /* or a large MTU would be good for nothing */
    host_peer_finish(&peer);
}

/* If it failed, TCP out of the guest would lose or change data. */
static void test_tcp_out(void)
{
    check_transfer(1500, 1 << 20);
    check_transfer(USER_NET_MTU_DEFAULT, 4 << 20);
    check_transfer(USER_NET_MTU_MAX, 4 << 20);
}

/* If it failed, published ports would not reach the guest. */
static void test_publish(void)
{
    struct wire wire;
    struct host_peer peer;
    const size_t bytes = 1 << 20;
    g_autofree uint8_t *to_send = host_peer_pattern(bytes, 3);
    g_autofree uint8_t *received = g_malloc(bytes);
    uint16_t port = host_peer_free_port();
    g_autofree char *spec = g_strdup_printf("%u:80", port);

    wire_start(&wire, 1500, true, spec);
    join_network(&wire);
    net_client_tcp_stream(&wire.client, to_send, bytes, received, bytes);
    net_client_tcp_listen(&wire.client, 80);
    host_peer_connect(&peer, port, bytes);
    WAIT_FOR(&wire, wire.client.received_bytes == bytes && wire.client.sent_bytes == bytes);
    wire.client.close_when_sent = true;
    WAIT_FOR(&wire, wire.client.fin_received);
    wire_finish(&wire);
    host_peer_join(&peer);
    g_assert_cmpmem(received, bytes, peer.sent, bytes);
    g_assert_cmpmem(peer.received, peer.received_bytes, to_send, bytes);
    host_peer_finish(&peer);
}

/* If it failed, a port in use would be reported late, wrongly, or not at all. */
static void test_publish_in_use(void)
{
    struct host_peer peer, other;
    struct user_net *net = NULL;
    struct user_net_publish port;
    struct user_net_config config = {.mtu_bytes = 1500, .publish = &port, .publish_count = 1};
    struct wire wire;
    char why[256];

    host_peer_start(&peer, 1);
    g_autofree char *spec = g_strdup_printf("127.0.0.1:%u:80", peer.port);
    g_autofree char *named = g_strdup_printf("TCP port 127.0.0.1:%u", peer.port);
    g_assert_cmpint(user_net_publish_parse(spec, &port, why, sizeof why), ==, 0);
    g_assert_cmpint(user_net_create(&config, &ops, &wire, &net, why, sizeof why), ==, -EADDRINUSE);
    g_assert_nonnull(strstr(why, named));
    g_assert_null(net);
    host_peer_connect(&other, peer.port, 1); /* ends the thread */
    host_peer_join(&other);
    host_peer_join(&peer);
    host_peer_finish(&other);
    host_peer_finish(&peer);
}

/* If it failed, specifications would be taken for others, or nonsense be accepted. */
static void test_publish_parse(void)
{
    static const char *const bad[] = {"",       ":",        "80",          "80:",         ":80",
                                      "0:80",   "80:65536", "80:80/sctp",  "1.2.3:80:80", "host:80:80",
                                      "80:80x", "-1:80",    "80:80:80:80", " 80:80",      "[::1]:80:80",
                                      "80:80/", "+80:80",   "1.2.3.4:80"};
    struct user_net_publish port;
    char why[256];

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_cmpint(user_net_publish_parse(bad[i], &port, why, sizeof why), ==, -EINVAL);
        g_assert_nonnull(strstr(why, "8080:80"));
    }
    g_assert_cmpint(user_net_publish_parse("8080:80", &port, why, sizeof why), ==, 0);
    g_assert_cmphex(ntohl(port.host_address.s_addr), ==, INADDR_LOOPBACK);
    g_assert_cmpuint(port.host_port, ==, 8080);
    g_assert_cmpuint(port.guest_port, ==, 80);
    g_assert_false(port.udp);
    g_assert_cmpint(user_net_publish_parse("0.0.0.0:53:5353/udp", &port, why, sizeof why), ==, 0);
    g_assert_cmphex(port.host_address.s_addr, ==, 0);
    g_assert_true(port.udp);
}

/* If it failed, UDP would not come through, or the host's loopback be reachable although it was forbidden. */
static void test_udp_and_loopback_policy(void)
{
    struct wire wire;

    for (int allowed = 0; allowed <= 1; allowed++) {
        uint16_t port = 0;
        int server = host_peer_udp("127.0.0.1", &port);
        struct pollfd request = {.fd = server, .events = POLLIN};
        wire_start(&wire, 1500, allowed, NULL);
        join_network(&wire);
        net_client_udp(&wire.client, NET_CLIENT_ROUTER, port, "hello", 5);
        net_client_ping(&wire.client,
                        NET_CLIENT_ROUTER); /* its answer comes after what the datagram causes */
        WAIT_FOR(&wire, wire.client.echo_replies == 1);
        if (allowed) {
            host_peer_udp_answer(server);
            WAIT_FOR(&wire, wire.client.udp_bytes > 0);
            g_assert_cmpmem(wire.client.udp_data, wire.client.udp_bytes, "re:hello", 8);
        } else {
            g_assert_cmpint(poll(&request, 1, 0), ==, 0);
        }
        wire_finish(&wire);
        close(server);
    }
}

/* Random contents under headers that get past the first checks; never to the outside. */
static void make_plausible(GRand *random, uint8_t *frame, size_t bytes)
{
    static const uint8_t types[][2] = {{8, 0}, {8, 6}, {0x86, 0xdd}}, protocols[] = {1, 6, 17, 58};
    int type = g_rand_int_range(random, 0, 3);
    uint8_t *ip = frame + 14;

    memcpy(frame + 12, types[type], 2);
    if (type == 0 && bytes >= 42) {
        memcpy(ip, (const uint8_t[]){0x45, 0, 0, (uint8_t)(bytes - 14)}, 4);
        if (g_rand_int_range(random, 0, 4)) /* else it is a fragment */
            ip[6] = ip[7] = 0;
        ip[9] = protocols[g_rand_int_range(random, 0, 3)];
        memcpy(ip + 12, (const uint8_t[]){10, 0, 2, 15, 10, 0, 2, 2}, 8);
        if (ip[9] == 17)
            memcpy(ip + 22,
                   (const uint8_t[]){0, (uint8_t)g_rand_int_range(random, 60, 72), 0, (uint8_t)(bytes - 34),
                                     0, 0},
                   6);
        memset(ip + 10, 0, 2);
        uint16_t sum = (uint16_t)~checksum_sum(ip, 20);
        memcpy(ip + 10, &sum, 2);
    } else if (type == 2 && bytes >= 62) {
        memcpy(ip, (const uint8_t[]){0x60, 0, 0, 0, 0, (uint8_t)(bytes - 54)}, 6);
        ip[6] = protocols[g_rand_int_range(random, 1, 4)];
        memcpy(ip + 24, (const uint8_t[]){0xfe, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}, 16);
    }
}

/* If it failed, hostile frames could crash or hang the network of a guest. */
static void test_hostile_frames(void)
{
    struct wire wire;
    g_autofree uint8_t *frame = g_malloc0(USER_NET_FRAME_BYTES_MAX + 100);

    wire_start(&wire, 1500, true, NULL);
    join_network(&wire);
    for (size_t bytes = 0; bytes <= 64; bytes++)
        user_net_input(wire.net, frame, bytes);
    user_net_input(wire.net, frame, USER_NET_FRAME_BYTES_MAX + 1);
    g_autoptr(GRand) random = g_rand_new_with_seed(1);
    for (int i = 0; i < 60000; i++) {
        size_t bytes = (size_t)g_rand_int_range(random, 14, 200);
        for (size_t j = 0; j < bytes; j++)
            frame[j] = (uint8_t)g_rand_int(random);
        if (g_rand_boolean(random))
            make_plausible(random, frame, bytes);
        user_net_input(wire.net, frame, bytes);
        if (i % 100 == 0)
            turn_within(&wire, 0);
    }
    net_client_ping(&wire.client, NET_CLIENT_ROUTER);
    WAIT_FOR(&wire, wire.client.echo_replies >= 1);
    wire_finish(&wire);
}

/* If it failed, frames that we mean to keep from libslirp would reach it, or good ones would be lost. */
static void test_frame_filter(void)
{
    uint8_t good[62] = {[12] = 8, [14] = 0x45, [17] = 48, [23] = 17, [37] = 53, [39] = 28};
    static const struct {
        unsigned at;
        uint8_t value;
        const char *what;
    } bad[] = {
        {12, 0x88, "type"},
        {14, 0x55, "version"},
        {14, 0x44, "header length"},
        {17, 49, "longer than the frame"},
        {17, 19, "no payload"},
        {20, 0x20, "fragment"},
        {21, 1, "offset"},
        {23, 33, "protocol"},
        {39, 29, "UDP length"},
        {37, 69, "TFTP"},
        {14, 0x4f, "options past the end"},
    };

    g_assert_true(frame_filter_pass(good, sizeof good));
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        uint8_t frame[sizeof good];
        memcpy(frame, good, sizeof frame);
        frame[bad[i].at] = bad[i].value;
        g_test_message("%s", bad[i].what);
        g_assert_false(frame_filter_pass(frame, sizeof frame));
    }
    for (size_t bytes = 0; bytes < sizeof good; bytes++)
        g_assert_false(frame_filter_pass(good, bytes));
    uint8_t ipv6[74] = {[12] = 0x86, [13] = 0xdd, [14] = 0x60, [19] = 20, [20] = 6, [66] = 0x50};
    g_assert_true(frame_filter_pass(ipv6, sizeof ipv6));
    ipv6[20] = 44; /* fragment header */
    g_assert_false(frame_filter_pass(ipv6, sizeof ipv6));
}

/* If it failed, a guest that takes no frames would make us read and throw away its data. */
static void test_backpressure(void)
{
    struct wire wire;
    uint16_t port = 0;
    int server = host_peer_udp("127.0.0.1", &port);

    wire_start(&wire, 1500, true, NULL);
    join_network(&wire);
    net_client_udp(&wire.client, NET_CLIENT_ROUTER, port, "hello", 5);
    host_peer_udp_answer(server);
    user_net_arm(wire.net, false);
    user_net_run(wire.net);
    g_assert_true(g_queue_is_empty(&wire.frames));
    WAIT_FOR(&wire, wire.client.udp_bytes > 0);
    wire_finish(&wire);
    close(server);
}

/* If it failed, checksums that the guest leaves to us would be wrong, or be written outside of the frame. */
static void test_checksum(void)
{
    uint8_t frame[64];

    for (size_t bytes = 0; bytes < sizeof frame; bytes++) {
        uint32_t sum = 0;
        for (size_t i = 0; i < sizeof frame; i++)
            frame[i] = (uint8_t)(i * 37 + 11);
        for (size_t i = 0; i < bytes; i++)
            sum += i & 1 ? frame[i] : (uint32_t)frame[i] << 8;
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        g_assert_cmphex(g_ntohs(checksum_sum(frame, bytes)), ==, sum);
    }
    memset(frame, 0, sizeof frame);
    g_assert_cmpint(checksum_complete(frame, 60, 34, 6), ==, 0);
    g_assert_cmphex(frame[40], ==, 0xff); /* never 0 */
    g_assert_cmpint(checksum_complete(frame, 60, 52, 6), ==, 0);
    g_assert_cmpint(checksum_complete(frame, 60, 52, 7), ==, -EINVAL);
    g_assert_cmpint(checksum_complete(frame, 60, 61, 0), ==, -EINVAL);
    g_assert_cmpint(checksum_complete(frame, 60, 65535, 65535), ==, -EINVAL);
    g_assert_cmpint(checksum_complete(frame, 60, 0, 65535), ==, -EINVAL);
}

/* If it failed, frames would be lost, changed or swapped while a guest is slow. */
static void test_frame_queue(void)
{
    struct frame_queue queue;
    uint8_t frame[300];
    unsigned pushed = 0, popped = 0;
    g_autoptr(GRand) random = g_rand_new_with_seed(2);

    g_assert_cmpint(frame_queue_init(&queue, 1000), ==, 0);
    g_assert_false(frame_queue_push(&queue, frame, 0) && false);
    frame_queue_clear(&queue);
    for (int i = 0; i < 100000; i++) {
        if (g_rand_boolean(random)) {
            memset(frame, (int)(pushed & 0xff), sizeof frame);
            pushed += frame_queue_push(&queue, frame, 1 + pushed % sizeof frame);
        } else {
            size_t bytes;
            const uint8_t *oldest = frame_queue_peek(&queue, &bytes);
            g_assert_true(!oldest == (pushed == popped));
            if (!oldest)
                continue;
            g_assert_cmpuint(bytes, ==, 1 + popped % sizeof frame);
            g_assert_cmphex(oldest[0], ==, popped & 0xff);
            g_assert_cmphex(oldest[bytes - 1], ==, popped & 0xff);
            frame_queue_pop(&queue);
            popped++;
        }
        g_assert_cmpuint(queue.used, <=, queue.capacity);
    }
    g_assert_cmpuint(popped, >, 10000);
    g_assert_false(frame_queue_push(&queue, frame, 1000)); /* larger than all of it */
    frame_queue_finish(&queue);
}

/* If it failed, the sandboxed server would ask other name servers than the host does. */
static void test_resolver(void)
{
    static const char file[] =
        "# comment\nsearch example.org\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n"
        "nameserver nonsense\nnameserver 2001:db8::1\nnameserver 192.0.2.2\n"
        "nameserver 192.0.2.3\n";
    char content[RESOLVER_CONTENT_BYTES];
    const char *bad = NULL;
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "bulkhead-resolver-XXXXXX", NULL);

    int fd = g_mkstemp(path);
    g_assert_cmpint(write(fd, file, sizeof file - 1), ==, sizeof file - 1);
    close(fd);
    g_assert_cmpint(resolver_content(path, NULL, 0, content, sizeof content, &bad), ==, 3);
    g_assert_cmpstr(content, ==, "nameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver 192.0.2.2\n");
    unlink(path);
    g_assert_cmpint(resolver_content(path, NULL, 0, content, sizeof content, &bad), ==, 0);
    g_assert_cmpstr(content, ==, "nameserver 127.0.0.1\n");
    g_assert_cmpint(resolver_content(path, (const char *[]){"::1"}, 1, content, sizeof content, &bad), ==, 1);
    g_assert_cmpstr(content, ==, "nameserver ::1\n");
    g_assert_cmpint(resolver_content(path, (const char *[]){"x"}, 1, content, sizeof content, &bad), ==,
                    -EINVAL);
    g_assert_cmpstr(bad, ==, "x");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    g_test_add_func("/user-net/dhcp", test_dhcp);
    g_test_add_func("/user-net/tcp-out", test_tcp_out);
    g_test_add_func("/user-net/publish", test_publish);
    g_test_add_func("/user-net/publish-in-use", test_publish_in_use);
    g_test_add_func("/user-net/publish-parse", test_publish_parse);
    g_test_add_func("/user-net/udp-and-loopback-policy", test_udp_and_loopback_policy);
    g_test_add_func("/user-net/hostile-frames", test_hostile_frames);
    g_test_add_func("/user-net/frame-filter", test_frame_filter);
    g_test_add_func("/user-net/backpressure", test_backpressure);
    g_test_add_func("/user-net/checksum", test_checksum);
    g_test_add_func("/user-net/frame-queue", test_frame_queue);
    g_test_add_func("/user-net/resolver", test_resolver);
    return g_test_run();
}
