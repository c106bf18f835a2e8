/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/devserver/host_peer.h"

uint8_t *host_peer_pattern(size_t bytes, unsigned seed)
{
    uint8_t *data = g_malloc(bytes);
    uint32_t state = seed * 2654435761u + 1;

    for (size_t i = 0; i < bytes; i++) {
        state = state * 1664525u + 1013904223u;
        data[i] = (uint8_t)(state >> 24);
    }
    return data;
}

static int bound_socket(int type, const char *address, uint16_t *port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(*port)};
    socklen_t length = sizeof name;

    inet_pton(AF_INET, address, &name.sin_addr);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    g_assert_cmpint(fd, >=, 0);
    if (bind(fd, (struct sockaddr *)&name, sizeof name) < 0) {
        close(fd);
        return -1;
    }
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&name, &length), ==, 0);
    *port = ntohs(name.sin_port);
    return fd;
}

static void transfer(struct host_peer *peer, int fd, bool send_first)
{
    struct timeval limit = {.tv_sec = 60};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    for (int turn = 0; turn < 2; turn++) {
        size_t done = 0;
        ssize_t n = 1;
        while (done < peer->bytes && n > 0) {
            n = (turn == 0) == send_first ? send(fd, peer->sent + done, peer->bytes - done, MSG_NOSIGNAL)
                                          : recv(fd, peer->received + done, peer->bytes - done, 0);
            done += n > 0 ? (size_t)n : 0;
        }
        if ((turn == 0) != send_first)
            peer->received_bytes = done;
    }
    shutdown(fd, SHUT_WR);
    char end;
    while (recv(fd, &end, 1, 0) > 0)
        ; /* until the guest closes */
    close(fd);
}

static void *serve(void *data)
{
    struct host_peer *peer = data;

    int fd = accept(peer->listener, NULL, NULL);
    if (fd >= 0)
        transfer(peer, fd, false);
    return NULL;
}

static void *call(void *data)
{
    struct host_peer *peer = data;
    struct sockaddr_in name = {
        .sin_family = AF_INET, .sin_port = htons(peer->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&name, sizeof name) == 0)
        transfer(peer, fd, true);
    else
        close(fd);
    return NULL;
}

static void prepare(struct host_peer *peer, size_t bytes, unsigned seed)
{
    *peer = (struct host_peer){.listener = -1, .bytes = bytes};
    peer->received = g_malloc0(bytes + 1);
    peer->sent = host_peer_pattern(bytes, seed);
}

void host_peer_start(struct host_peer *peer, size_t bytes)
{
    prepare(peer, bytes, 7);
    peer->listener = bound_socket(SOCK_STREAM, "127.0.0.1", &peer->port);
    g_assert_cmpint(listen(peer->listener, 5), ==, 0);
    peer->thread = g_thread_new("host-peer", serve, peer);
}

void host_peer_connect(struct host_peer *peer, uint16_t port, size_t bytes)
{
    prepare(peer, bytes, 9);
    peer->port = port;
    peer->thread = g_thread_new("host-peer", call, peer);
}

void host_peer_join(struct host_peer *peer)
{
    g_thread_join(peer->thread);
}

void host_peer_finish(struct host_peer *peer)
{
    if (peer->listener >= 0)
        close(peer->listener);
    g_free(peer->received);
    g_free(peer->sent);
}

int host_peer_udp(const char *address, uint16_t *port)
{
    return bound_socket(SOCK_DGRAM, address, port);
}

void host_peer_udp_answer(int fd)
{
    char data[2048] = "re:";
    struct sockaddr_in from;
    socklen_t length = sizeof from;

    ssize_t bytes = recvfrom(fd, data + 3, sizeof data - 3, 0, (struct sockaddr *)&from, &length);
    if (bytes > 0 && sendto(fd, data, (size_t)bytes + 3, 0, (struct sockaddr *)&from, length) < 0)
        g_test_message("sendto: %s", g_strerror(errno));
}

uint16_t host_peer_free_port(void)
{
    uint16_t port = 0;

    close(bound_socket(SOCK_STREAM, "127.0.0.1", &port));
    return port;
}
