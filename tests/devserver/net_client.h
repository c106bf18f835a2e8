/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_client: a guest in a few hundred lines, for tests: ARP, DHCP, UDP and one TCP connection at a time,
 * over any wire that loses and reorders nothing (so there is no retransmission).
 *
 * The test gives frames in with net_client_receive() and gets frames out through send(). Nothing blocks;
 * conditions are looked at between frames.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_CLIENT_MAC                                                                                       \
    {                                                                                                        \
        0x52, 0x54, 0x00, 0xab, 0xcd, 0xef                                                                   \
    }
#define NET_CLIENT_ADDRESS 0x0a00020fu /* 10.0.2.15 */
#define NET_CLIENT_ROUTER  0x0a000202u
#define NET_CLIENT_DNS     0x0a000203u

enum net_client_tcp { TCP_CLOSED, TCP_LISTEN, TCP_SYN_SENT, TCP_SYN_RECEIVED, TCP_ESTABLISHED, TCP_FINISHED };

struct net_client {
    void (*send)(void *opaque, const uint8_t *frame, size_t bytes);
    void *opaque;
    size_t mtu;
    bool partial_checksums; /* leave TCP and UDP checksums to the device */
    size_t checksum_start, checksum_offset; /* of the frame in send(); 0: it is complete */

    bool router_known;
    uint8_t router_mac[6];

    unsigned dhcp_type; /* of the last reply: 2 offer, 5 ack */
    uint32_t dhcp_address, dhcp_router, dhcp_dns;

    unsigned echo_replies, unreachable; /* ICMP */

    uint8_t udp_data[2048];
    size_t udp_bytes; /* of the last datagram; 0: none */

    enum net_client_tcp tcp;
    uint32_t peer;
    uint16_t peer_port, port;
    uint32_t send_next, send_acked, receive_next;
    uint32_t peer_window;
    size_t mss; /* to send with */
    const uint8_t *to_send;
    size_t to_send_bytes, sent_bytes;
    bool close_when_sent, fin_sent, fin_received, reset;
    uint8_t *received; /* the test's */
    size_t received_bytes, received_max;
    unsigned bad_checksums;
};

void net_client_init(struct net_client *client, size_t mtu,
                     void (*send)(void *opaque, const uint8_t *frame, size_t bytes), void *opaque);
void net_client_receive(struct net_client *client, const uint8_t *frame, size_t bytes);

void net_client_ask_router(struct net_client *client);         /* ARP */
void net_client_dhcp(struct net_client *client, bool request); /* DISCOVER, or REQUEST of what was offered */
void net_client_ping(struct net_client *client, uint32_t address);
void net_client_udp(struct net_client *client, uint32_t address, uint16_t port, const void *data,
                    size_t bytes);
void net_client_tcp_connect(struct net_client *client, uint32_t address, uint16_t port);
void net_client_tcp_listen(struct net_client *client, uint16_t port);
/* What a connection carries; borrowed. Set before it is made. */
void net_client_tcp_stream(struct net_client *client, const uint8_t *to_send, size_t bytes, uint8_t *received,
                           size_t received_max);
