/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side of the network tests: sockets on the loopback, each served by a thread of the test. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* `bytes` that differ at every place, from `seed`; g_free(). */
uint8_t *host_peer_pattern(size_t bytes, unsigned seed);

/* Accepts one connection: reads `bytes`, then sends `bytes` of a pattern, then closes. */
struct host_peer {
    uint16_t port;
    int listener;
    size_t bytes;
    uint8_t *received; /* by us */
    size_t received_bytes;
    uint8_t *sent;
    void *thread;
};
void host_peer_start(struct host_peer *peer, size_t bytes);
void host_peer_join(struct host_peer *peer); /* waits for the thread */
void host_peer_finish(struct host_peer *peer);

/* The same from the other end: connects to 127.0.0.1:port, sends, receives, closes. */
void host_peer_connect(struct host_peer *peer, uint16_t port, size_t bytes);

/* A UDP socket at address:port (0: any) that answers each datagram by itself with "re:" before it. -1: not
 * possible. */
int host_peer_udp(const char *address, uint16_t *port);
/* Answers one datagram of such a socket. */
void host_peer_udp_answer(int fd);

uint16_t host_peer_free_port(void);
