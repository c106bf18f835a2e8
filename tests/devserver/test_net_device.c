/* SPDX-License-Identifier: Apache-2.0 */
/* bulkhead-net as it runs, in its sandbox, with a front-end and rings of ours. $BULKHEAD_NET names the
 * program. */
#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devserver/net/user_net.h"
#include "tests/devserver/host_peer.h"
#include "tests/devserver/net_guest.h"

static const struct net_guest usual = {.mergeable = true, .rx_buffer_bytes = 1536};

/* If it failed, drivers would see another card than there is. */
static void test_identity(void)
{
    static const char *const arguments[] = {"--mac=52:54:00:01:02:03", "--mtu=9000", NULL};
    static const uint8_t mac[] = {0x52, 0x54, 0, 1, 2, 3};
    struct net_guest guest = usual;
    struct virtio_net_config config;

    net_guest_start(&guest, arguments);
    g_assert_cmpint(vhost_user_frontend_get_config(&guest.frontend, 0, &config, sizeof config), ==, 0);
    g_assert_cmpmem(config.mac, 6, mac, 6);
    g_assert_cmpuint(config.status, ==, VIRTIO_NET_S_LINK_UP);
    g_assert_cmpuint(config.mtu, ==, 9000);
    g_assert_cmphex(guest.features & 1 << 17, ==, 0);   /* no control queue */
    g_assert_cmphex(guest.features & 1 << 22, ==, 0);   /* no multi-queue */
    g_assert_cmphex(guest.features & 0xff << 7, ==, 0); /* no segmentation offloads */
    g_assert_cmpint(vhost_user_frontend_set_config(&guest.frontend, 0, mac, 6), !=, 0);
    net_guest_finish(&guest);
}

static char *status_line(int pid, const char *name)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", pid);
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    char *found = strstr(text, name);
    g_assert_nonnull(found);
    return g_strstrip(g_strndup(found + strlen(name), strcspn(found + strlen(name), "\n")));
}

/* If it failed, the program would work on hostile frames outside of its sandbox. */
static void test_is_confined(void)
{
    struct net_guest guest = usual;

    net_guest_start(&guest, NULL);
    g_autofree char *seccomp = status_line(guest.pid, "Seccomp:");
    g_autofree char *privileges = status_line(guest.pid, "NoNewPrivs:");
    g_autofree char *capabilities = status_line(guest.pid, "CapEff:");
    g_autofree char *threads = status_line(guest.pid, "Threads:");
    g_assert_cmpstr(seccomp, ==, "2");
    g_assert_cmpstr(privileges, ==, "1");
    g_assert_cmpstr(capabilities, ==, "0000000000000000");
    g_assert_cmpstr(threads, ==, "1");
    net_guest_finish(&guest);
}

static void check_transfer(struct net_guest *guest, const char *const *arguments, size_t bytes)
{
    struct host_peer peer;
    g_autofree uint8_t *to_send = host_peer_pattern(bytes, 1);
    g_autofree uint8_t *received = g_malloc(bytes);

    net_guest_start(guest, arguments);
    net_guest_join(guest);
    host_peer_start(&peer, bytes);
    net_client_tcp_stream(&guest->client, to_send, bytes, received, bytes);
    net_client_tcp_connect(&guest->client, NET_CLIENT_ROUTER, peer.port);
    NET_GUEST_WAIT_FOR(guest, guest->client.received_bytes == bytes);
    net_guest_check_alive(guest);
    g_assert_cmpuint(guest->client.bad_checksums, ==, 0);
    net_guest_finish(guest); /* the process ends, and with it the connection and the thread */
    host_peer_join(&peer);
    g_assert_cmpmem(peer.received, peer.received_bytes, to_send, bytes);
    g_assert_cmpmem(received, bytes, peer.sent, bytes);
    host_peer_finish(&peer);
}

/* If it failed, data would be lost, changed or get stuck in one of the forms that rings and buffers have. */
static void test_transfer(void)
{
    static const char *const small[] = {"--mtu=1500", NULL};

    for (int form = 0; form < 8; form++) {
        struct net_guest guest = {.packed = form & 1,
                                  .event_idx = form & 2,
                                  .mergeable = form & 4,
                                  .rx_buffer_bytes = form & 4 ? 1000 : 1600,
                                  .mtu = form & 4 ? 0 : 1500};
        g_test_message("packed %d, event_idx %d, mergeable %d", guest.packed, guest.event_idx,
                       guest.mergeable);
        check_transfer(&guest, form & 4 ? NULL : small, 1 << 20);
        g_assert_cmpuint(guest.valid_flags, >, 0);
        if (guest.mergeable)
            g_assert_cmpuint(guest.largest_merge, >, 10);
    }
}

/* If it failed, a ring that cannot hold one large frame would stop the card for ever. */
static void test_small_ring(void)
{
    static const char *const large[] = {"--mtu=32768", NULL};
    struct net_guest guest = {.mergeable = true, .rx_buffer_bytes = 1024, .ring_size = 16, .mtu = 32768};
    uint16_t port = 0;
    int server = host_peer_udp("127.0.0.1", &port);
    char huge[2048] = "x";

    net_guest_start(&guest, large);
    net_guest_join(&guest);
    net_client_udp(&guest.client, NET_CLIENT_ROUTER, port, "hello", 5);
    struct sockaddr_storage from;
    socklen_t length = sizeof from;
    g_assert_cmpint(recvfrom(server, huge, sizeof huge, 0, (struct sockaddr *)&from, &length), ==, 5);
    g_autofree char *datagram = g_malloc0(20000); /* more than the ring's 16 KiB */
    g_assert_cmpint(sendto(server, datagram, 20000, 0, (struct sockaddr *)&from, length), ==, 20000);
    g_assert_cmpint(sendto(server, "small", 5, 0, (struct sockaddr *)&from, length), ==, 5);
    NET_GUEST_WAIT_FOR(&guest, guest.client.udp_bytes == 5);
    net_guest_check_alive(&guest);
    net_guest_finish(&guest);
    close(server);
}

/* If it failed, connections from the host would not come in through the rings. */
static void test_publish(void)
{
    struct net_guest guest = usual;
    struct host_peer peer;
    const size_t bytes = 1 << 20;
    g_autofree uint8_t *to_send = host_peer_pattern(bytes, 3);
    g_autofree uint8_t *received = g_malloc(bytes);
    uint16_t port = host_peer_free_port();
    g_autofree char *publish = g_strdup_printf("--publish=127.0.0.1:%u:80", port);

    net_guest_start(&guest, (const char *[]){publish, NULL});
    net_guest_join(&guest);
    net_client_tcp_stream(&guest.client, to_send, bytes, received, bytes);
    net_client_tcp_listen(&guest.client, 80);
    host_peer_connect(&peer, port, bytes);
    NET_GUEST_WAIT_FOR(&guest, guest.client.received_bytes == bytes && guest.client.sent_bytes == bytes);
    guest.client.close_when_sent = true;
    NET_GUEST_WAIT_FOR(&guest, guest.client.fin_received);
    net_guest_finish(&guest);
    host_peer_join(&peer);
    g_assert_cmpmem(received, bytes, peer.sent, bytes);
    g_assert_cmpmem(peer.received, peer.received_bytes, to_send, bytes);
    host_peer_finish(&peer);
}

/* If it failed, a connection that the host refuses would hang in the guest, or an error path would leave the sandbox. */
static void test_refused(void)
{
    struct net_guest guest = usual;
    struct host_peer peer;
    uint16_t port = host_peer_free_port();
    uint8_t received[4];

    net_guest_start(&guest, NULL);
    net_guest_join(&guest);
    net_client_tcp_connect(&guest.client, NET_CLIENT_ROUTER, port);
    NET_GUEST_WAIT_FOR(&guest, guest.client.reset);
    for (int i = 0; i < 3; i++) { /* the second one meets the error of the first */
        net_client_udp(&guest.client, NET_CLIENT_ROUTER, port, "hello", 5);
        net_guest_check_alive(&guest);
    }
    NET_GUEST_WAIT_FOR(&guest, guest.client.unreachable > 0);

    host_peer_start(&peer, sizeof received);
    net_client_tcp_stream(&guest.client, (const uint8_t *)"ping", 4, received, sizeof received);
    net_client_tcp_connect(&guest.client, NET_CLIENT_ROUTER, peer.port);
    guest.client.close_when_sent = true; /* half-closed while the answer comes */
    NET_GUEST_WAIT_FOR(&guest, guest.client.tcp == TCP_FINISHED && guest.client.received_bytes == 4);
    host_peer_join(&peer);
    host_peer_finish(&peer);
    net_guest_finish(&guest);
}

/* If it failed, names would not resolve in the guest, because the name server is not known in the sandbox. */
static void test_dns(void)
{
    static const char *const arguments[] = {"--dns=127.7.7.7", "--no-host-loopback", NULL};
    struct net_guest guest = usual;
    uint16_t port = 53;
    int server = host_peer_udp("127.7.7.7", &port);

    if (server < 0) {
        g_test_skip("port 53 is for root");
        return;
    }
    net_guest_start(&guest, arguments);
    net_guest_join(&guest);
    for (int i = 0; i < 2; i++) {
        net_client_udp(&guest.client, NET_CLIENT_DNS, 53, "name?", 5);
        host_peer_udp_answer(server);
        NET_GUEST_WAIT_FOR(&guest, guest.client.udp_bytes > 0);
        g_assert_cmpmem(guest.client.udp_data, guest.client.udp_bytes, "re:name?", 8);
        if (i == 0) /* libslirp looks at the file again when what it knows is older than a second */
            g_usleep(1100 * 1000);
    }
    net_guest_finish(&guest);
    close(server);
}

/* If it failed, data would be lost when the guest is slow to give buffers, or pile up in our memory without
 * end. */
static void test_starved(void)
{
    const size_t bytes = 4 << 20;
    struct net_guest guest = usual;
    struct host_peer peer;
    g_autofree uint8_t *to_send = host_peer_pattern(bytes, 1);
    g_autofree uint8_t *received = g_malloc(bytes);

    guest.starve = true;
    net_guest_start(&guest, NULL);
    net_guest_fill_rx(&guest);
    net_guest_join(&guest);
    host_peer_start(&peer, bytes);
    net_client_tcp_stream(&guest.client, to_send, bytes, received, bytes);
    net_client_tcp_connect(&guest.client, NET_CLIENT_ROUTER, peer.port);
    while (guest.client.received_bytes < bytes) {
        /* Only when the last buffer is used there are more, and then fewer than the next frames need. */
        unsigned want = guest.rx.used + 3;
        net_guest_turn(&guest);
        while (guest.rx.published - guest.rx.used < 3 || guest.rx.published < want) {
            const struct ring_buffer buffer = {
                NET_GUEST_RX_AT + (uint64_t)(guest.rx.published % guest.ring_size) * guest.rx_buffer_bytes,
                guest.rx_buffer_bytes, RING_WRITE};
            if (guest.rx.published - guest.rx.used >= guest.ring_size)
                break;
            net_guest_publish(&guest, &guest.rx, &buffer, 1);
        }
        if (guest.rx.published - guest.rx.used < 24)
            net_guest_fill_rx(&guest);
    }
    g_assert_cmpmem(received, bytes, peer.sent, bytes);
    net_guest_finish(&guest);
    host_peer_join(&peer);
    g_assert_cmpmem(peer.received, peer.received_bytes, to_send, bytes);
    host_peer_finish(&peer);
}

/* If it failed, frames or headers of a hostile driver could break the card for good. */
static void test_hostile_frames(void)
{
    struct net_guest guest = usual;
    g_autofree uint8_t *frame = g_malloc0(100000);
    static const struct virtio_net_header headers[] = {
        {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 65535, .csum_offset = 65535},
        {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 59, .csum_offset = 0},
        {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 0, .csum_offset = 59},
        {.gso_type = 1, .gso_size = 1},
        {.gso_type = 0xff, .flags = 0xff, .hdr_len = 0xffff, .num_buffers = 0xffff},
    };

    net_guest_start(&guest, NULL);
    net_guest_join(&guest);
    for (size_t i = 0; i < G_N_ELEMENTS(headers); i++)
        net_guest_send(&guest, &headers[i], frame, 60);
    for (size_t bytes = 0; bytes < 30; bytes++)
        net_guest_send(&guest, &headers[0], frame, bytes);
    net_guest_send(&guest, &(struct virtio_net_header){0}, frame, USER_NET_FRAME_BYTES_MAX);
    net_guest_send(&guest, &(struct virtio_net_header){0}, frame, USER_NET_FRAME_BYTES_MAX + 1);
    net_guest_send(&guest, &(struct virtio_net_header){0}, frame, 100000);
    const struct ring_buffer part_of_header = {NET_GUEST_TX_AT, 5, 0};
    net_guest_publish(&guest, &guest.tx, &part_of_header, 1);
    const struct ring_buffer writable = {NET_GUEST_TX_AT, 100, RING_WRITE};
    net_guest_publish(&guest, &guest.tx, &writable, 1);
    g_autoptr(GRand) random = g_rand_new_with_seed(3);
    for (int i = 0; i < 2000; i++) {
        struct virtio_net_header header = {.flags = (uint8_t)g_rand_int_range(random, 0, 2),
                                           .csum_start = (uint16_t)g_rand_int_range(random, 0, 80),
                                           .csum_offset = (uint16_t)g_rand_int_range(random, 0, 20)};
        for (size_t j = 0; j < 80; j++)
            frame[j] = (uint8_t)g_rand_int(random);
        memcpy(frame + 12, i & 1 ? "\x08\x00\x45" : "\x86\xdd\x60", 3);
        memcpy(frame + 30, (const uint8_t[]){10, 0, 2, 2}, 4);
        net_guest_send(&guest, &header, frame, 60);
    }
    net_guest_check_alive(&guest);
    net_guest_finish(&guest);
}

/* One buffer that a ring must not hold; then the ring is broken, which is told, and the process goes on. */
static void check_broken(unsigned queue_index, const struct ring_buffer *buffers, unsigned count)
{
    struct net_guest guest = usual;
    unsigned base;

    guest.starve = true;
    net_guest_start(&guest, NULL);
    struct net_guest_queue *queue = queue_index ? &guest.tx : &guest.rx;
    net_guest_publish(&guest, queue, buffers, count);
    if (queue_index == 0) { /* a frame must come for it to be looked at */
        net_client_ask_router(&guest.client);
    }
    struct pollfd error = {.fd = queue->err_fd, .events = POLLIN};
    g_assert_cmpint(poll(&error, 1, 30000), ==, 1);
    g_assert_cmpint(vhost_user_frontend_get_vring_base(&guest.frontend, queue_index, &base), ==, 0);
    g_assert_cmpint(kill(guest.pid, 0), ==, 0);
    net_guest_finish(&guest);
}

/* If it failed, rings of a hostile driver could make the card read or write what is not the driver's. */
static void test_hostile_rings(void)
{
    static const struct ring_buffer outside = {NET_GUEST_MEMORY - 4, 100, 0}, far = {UINT64_MAX - 10, 100, 0};
    static const struct ring_buffer rx_outside = {NET_GUEST_MEMORY - 4, 100, RING_WRITE};
    static const struct ring_buffer readable = {NET_GUEST_RX_AT, 2000, 0};
    static const struct ring_buffer tiny = {NET_GUEST_RX_AT, 5, RING_WRITE};
    static const struct ring_buffer order[] = {{NET_GUEST_RX_AT, 100, RING_WRITE}, {NET_GUEST_TX_AT, 100, 0}};
    static const struct ring_buffer mixed[] = {{NET_GUEST_TX_AT, 100, 0},
                                               {NET_GUEST_RX_AT, 2000, RING_WRITE}};

    check_broken(1, &outside, 1);
    check_broken(1, &far, 1);
    check_broken(1, order, 2);
    check_broken(0, &rx_outside, 1);
    check_broken(0, &readable, 1);
    check_broken(0, &tiny, 1);
    check_broken(0, mixed, 2);
}

/* If it failed, a front-end that went away would leave the network without a card, or with its old state. */
static void test_reconnect(void)
{
    struct net_guest guest = usual;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_autofree char *folder = g_dir_make_tmp("bulkhead-net-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "net.sock", NULL);
    g_autofree char *option = g_strdup_printf("--listen-fd=%d", 9);

    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    g_assert_cmpint(bind(listener, (struct sockaddr *)&address, sizeof address), ==, 0);
    g_assert_cmpint(listen(listener, 1), ==, 0);
    int pid = fork();
    if (pid == 0) {
        if (listener != 9)
            dup2(listener, 9);
        execl(g_getenv("BULKHEAD_NET"), "bulkhead-net", option, NULL);
        _exit(127);
    }
    close(listener);
    guest.mtu = USER_NET_MTU_DEFAULT;
    guest.ring_size = NET_GUEST_RING;
    guest.memory_fd = memfd_create("guest", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(guest.memory_fd, NET_GUEST_MEMORY), ==, 0);
    guest.memory = mmap(NULL, NET_GUEST_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, guest.memory_fd, 0);
    for (int i = 0; i < 3; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
        net_guest_connect(&guest, fd);
        net_guest_join(&guest);
        net_guest_check_alive(&guest);
        net_guest_disconnect(&guest);
    }
    int status;
    kill(pid, SIGTERM);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
    munmap(guest.memory, NET_GUEST_MEMORY);
    close(guest.memory_fd);
    unlink(path);
    rmdir(folder);
}

static void check_refused(const char *argument, const char *expected)
{
    g_autofree char *line = net_guest_spawn((const char *[]){argument, NULL}, NULL, NULL);

    g_assert_true(g_str_has_prefix(line, "error: "));
    g_assert_null(strchr(line, '\n'));
    if (!strstr(line, expected))
        g_error("'%s' does not say '%s'", line, expected);
}

/* If it failed, a server that cannot start would not say why. */
static void test_start_errors(void)
{
    struct host_peer peer;

    host_peer_start(&peer, 1);
    g_autofree char *in_use = g_strdup_printf("--publish=127.0.0.1:%u:80", peer.port);
    g_autofree char *named = g_strdup_printf("TCP port 127.0.0.1:%u: Address already in use", peer.port);
    check_refused(in_use, named);
    check_refused("--publish=80", "8080:80");
    check_refused("--publish=198.51.100.7:8080:80", "no such address");
    check_refused("--mtu=99", "1280");
    check_refused("--mtu=99999", "32768");
    check_refused("--mac=01:00:00:00:00:00", "multicast");
    check_refused("--mac=nonsense", "--mac");
    check_refused("--dns=nonsense", "name server");
    check_refused("--listen-fd=999", "not open");
    check_refused("--frobnicate", "unknown option");
    check_refused("--mtu", "needs a value");
    check_refused("--no-ipv6=1", "takes no value");
    check_refused("--socket-path=/nonexistent/x", "more than one socket");
    struct host_peer end;
    host_peer_connect(&end, peer.port, 1);
    host_peer_join(&end);
    host_peer_join(&peer);
    host_peer_finish(&end);
    host_peer_finish(&peer);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    g_assert_nonnull(g_getenv("BULKHEAD_NET"));
    g_test_add_func("/net-device/identity", test_identity);
    g_test_add_func("/net-device/is-confined", test_is_confined);
    g_test_add_func("/net-device/transfer", test_transfer);
    g_test_add_func("/net-device/small-ring", test_small_ring);
    g_test_add_func("/net-device/publish", test_publish);
    g_test_add_func("/net-device/refused", test_refused);
    g_test_add_func("/net-device/dns", test_dns);
    g_test_add_func("/net-device/starved", test_starved);
    g_test_add_func("/net-device/hostile-frames", test_hostile_frames);
    g_test_add_func("/net-device/hostile-rings", test_hostile_rings);
    g_test_add_func("/net-device/reconnect", test_reconnect);
    g_test_add_func("/net-device/start-errors", test_start_errors);
    return g_test_run();
}
