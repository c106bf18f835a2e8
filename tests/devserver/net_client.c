/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <string.h>

#include "tests/devserver/net_client.h"

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP  0x0806
#define PROTOCOL_ICMP  1
#define PROTOCOL_TCP   6
#define PROTOCOL_UDP   17
#define ETH_BYTES      14
#define IP_BYTES       20
#define TCP_BYTES      20
#define TCP_WINDOW     65535u

#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define PSH 0x08
#define ACK 0x10

static const uint8_t own_mac[6] = NET_CLIENT_MAC;

static void put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value & 0xffff);
}

static unsigned get16(const uint8_t *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

/* Another implementation than the device's, on purpose. */
static uint32_t sum16(const uint8_t *data, size_t bytes, uint32_t sum)
{
    for (size_t i = 0; i + 1 < bytes; i += 2)
        sum += get16(data + i);
    if (bytes & 1)
        sum += (uint32_t)data[bytes - 1] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static uint32_t pseudo_sum(const uint8_t *ip, unsigned protocol, size_t bytes)
{
    return sum16(ip + 12, 8, protocol + (uint32_t)bytes);
}

void net_client_init(struct net_client *client, size_t mtu,
                     void (*send)(void *opaque, const uint8_t *frame, size_t bytes), void *opaque)
{
    *client = (struct net_client){.mtu = mtu, .send = send, .opaque = opaque, .port = 40000};
}

static void send_eth(struct net_client *client, uint8_t *frame, size_t bytes, unsigned type)
{
    if (client->router_known)
        memcpy(frame, client->router_mac, 6);
    else
        memset(frame, 0xff, 6);
    memcpy(frame + 6, own_mac, 6);
    put16(frame + 12, type);
    client->send(client->opaque, frame, bytes);
    client->checksum_start = 0;
}

/* frame + ETH_BYTES + IP_BYTES holds `bytes` of payload. */
static void send_ip(struct net_client *client, uint8_t *frame, unsigned protocol, uint32_t source,
                    uint32_t destination, size_t bytes)
{
    uint8_t *ip = frame + ETH_BYTES;
    static uint16_t id;

    memset(ip, 0, IP_BYTES);
    ip[0] = 0x45;
    put16(ip + 2, (unsigned)(IP_BYTES + bytes));
    put16(ip + 4, ++id);
    ip[8] = 64;
    ip[9] = (uint8_t)protocol;
    put32(ip + 12, source);
    put32(ip + 16, destination);
    put16(ip + 10, ~sum16(ip, IP_BYTES, 0) & 0xffff);
    if (protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP) {
        uint8_t *field = ip + IP_BYTES + (protocol == PROTOCOL_TCP ? 16 : 6);
        uint32_t pseudo = pseudo_sum(ip, protocol, bytes);
        if (client->partial_checksums) {
            put16(field, pseudo);
            client->checksum_start = ETH_BYTES + IP_BYTES;
            client->checksum_offset = (size_t)(field - ip) - IP_BYTES;
        } else {
            put16(field, 0);
            put16(field, ~sum16(ip + IP_BYTES, bytes, pseudo) & 0xffff);
        }
    }
    send_eth(client, frame, ETH_BYTES + IP_BYTES + bytes, ETHERTYPE_IPV4);
}

static void send_arp(struct net_client *client, unsigned operation, const uint8_t *to_mac, uint32_t to)
{
    uint8_t frame[60] = {0};
    uint8_t *arp = frame + ETH_BYTES;

    put16(arp, 1);
    put16(arp + 2, ETHERTYPE_IPV4);
    arp[4] = 6;
    arp[5] = 4;
    put16(arp + 6, operation);
    memcpy(arp + 8, own_mac, 6);
    put32(arp + 14, NET_CLIENT_ADDRESS);
    memcpy(arp + 18, to_mac, 6);
    put32(arp + 24, to);
    send_eth(client, frame, sizeof frame, ETHERTYPE_ARP);
}

void net_client_ask_router(struct net_client *client)
{
    send_arp(client, 1, (const uint8_t[6]){0}, NET_CLIENT_ROUTER);
}

static void send_udp(struct net_client *client, uint32_t source, uint16_t source_port, uint32_t destination,
                     uint16_t destination_port, const void *data, size_t bytes)
{
    uint8_t frame[ETH_BYTES + IP_BYTES + 8 + 2048];
    uint8_t *udp = frame + ETH_BYTES + IP_BYTES;

    put16(udp, source_port);
    put16(udp + 2, destination_port);
    put16(udp + 4, (unsigned)(8 + bytes));
    put16(udp + 6, 0);
    memcpy(udp + 8, data, bytes);
    send_ip(client, frame, PROTOCOL_UDP, source, destination, 8 + bytes);
}

void net_client_udp(struct net_client *client, uint32_t address, uint16_t port, const void *data,
                    size_t bytes)
{
    client->udp_bytes = 0;
    send_udp(client, NET_CLIENT_ADDRESS, 5353, address, port, data, bytes);
}

/* RFC 2131, 2132 */
void net_client_dhcp(struct net_client *client, bool request)
{
    uint8_t message[300] = {1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78};
    uint8_t *option = message + 236;

    memcpy(message + 28, own_mac, 6);
    put32(option, 0x63825363);
    option += 4;
    *option++ = 53;
    *option++ = 1;
    *option++ = request ? 3 : 1;
    if (request) {
        *option++ = 50;
        *option++ = 4;
        put32(option, client->dhcp_address);
        option += 4;
    }
    *option = 255;
    client->dhcp_type = 0;
    send_udp(client, 0, 68, 0xffffffff, 67, message, sizeof message);
}

void net_client_ping(struct net_client *client, uint32_t address)
{
    uint8_t frame[ETH_BYTES + IP_BYTES + 64] = {0};
    uint8_t *icmp = frame + ETH_BYTES + IP_BYTES;

    icmp[0] = 8;
    memset(icmp + 8, 'p', 56);
    put16(icmp + 2, ~sum16(icmp, 64, 0) & 0xffff);
    send_ip(client, frame, PROTOCOL_ICMP, NET_CLIENT_ADDRESS, address, 64);
}

static void send_tcp(struct net_client *client, unsigned flags, const uint8_t *data, size_t bytes)
{
    uint8_t frame[ETH_BYTES + 65535];
    uint8_t *tcp = frame + ETH_BYTES + IP_BYTES;
    size_t header = TCP_BYTES + (flags & SYN ? 4 : 0);

    put16(tcp, client->port);
    put16(tcp + 2, client->peer_port);
    put32(tcp + 4, client->send_next);
    put32(tcp + 8, flags & ACK ? client->receive_next : 0);
    tcp[12] = (uint8_t)(header / 4 << 4);
    tcp[13] = (uint8_t)flags;
    put16(tcp + 14, TCP_WINDOW);
    put16(tcp + 16, 0);
    put16(tcp + 18, 0);
    if (flags & SYN) {
        tcp[20] = 2;
        tcp[21] = 4;
        put16(tcp + 22, (unsigned)(client->mtu - IP_BYTES - TCP_BYTES));
    }
    if (bytes > 0)
        memcpy(tcp + header, data, bytes);
    client->send_next += (uint32_t)bytes + !!(flags & (SYN | FIN));
    send_ip(client, frame, PROTOCOL_TCP, NET_CLIENT_ADDRESS, client->peer, header + bytes);
}

static void tcp_reset_state(struct net_client *client)
{
    client->send_next = client->send_acked = 1000;
    client->sent_bytes = client->received_bytes = 0;
    client->fin_sent = client->fin_received = client->reset = false;
    client->mss = client->mtu - IP_BYTES - TCP_BYTES;
    client->peer_window = 0;
}

void net_client_tcp_stream(struct net_client *client, const uint8_t *to_send, size_t bytes, uint8_t *received,
                           size_t received_max)
{
    client->to_send = to_send;
    client->to_send_bytes = bytes;
    client->received = received;
    client->received_max = received_max;
}

void net_client_tcp_connect(struct net_client *client, uint32_t address, uint16_t port)
{
    tcp_reset_state(client);
    client->peer = address;
    client->peer_port = port;
    client->port++;
    client->tcp = TCP_SYN_SENT;
    send_tcp(client, SYN, NULL, 0);
}

void net_client_tcp_listen(struct net_client *client, uint16_t port)
{
    tcp_reset_state(client);
    client->port = port;
    client->tcp = TCP_LISTEN;
}

/* Sends what the window lets us; `ack` if something must be said in any case. */
static void tcp_output(struct net_client *client, bool ack)
{
    while (client->sent_bytes < client->to_send_bytes) {
        size_t bytes = client->to_send_bytes - client->sent_bytes;
        size_t window = client->peer_window - (client->send_next - client->send_acked);
        if (window > client->peer_window || window == 0)
            break;
        bytes = bytes > client->mss ? client->mss : bytes;
        bytes = bytes > window ? window : bytes;
        const uint8_t *data = client->to_send + client->sent_bytes;
        client->sent_bytes += bytes; /* first: sending may bring the answer at once */
        ack = false;
        send_tcp(client, ACK | PSH, data, bytes);
    }
    if (client->sent_bytes == client->to_send_bytes && client->close_when_sent && !client->fin_sent) {
        client->fin_sent = true;
        ack = false;
        send_tcp(client, ACK | FIN, NULL, 0);
    }
    if (ack)
        send_tcp(client, ACK, NULL, 0);
}

static void tcp_options(struct net_client *client, const uint8_t *tcp, size_t header)
{
    for (size_t i = TCP_BYTES; i + 1 < header && tcp[i] != 0; i += tcp[i] == 1 ? 1 : tcp[i + 1]) {
        if (tcp[i] == 2 && get16(tcp + i + 2) < client->mss)
            client->mss = get16(tcp + i + 2);
        if (tcp[i] != 1 && tcp[i + 1] < 2)
            return;
    }
}

static bool tcp_handshake(struct net_client *client, const uint8_t *ip, const uint8_t *tcp, size_t header)
{
    unsigned flags = tcp[13];

    if (client->tcp == TCP_LISTEN && (flags & SYN)) {
        client->peer = get32(ip + 12);
        client->peer_port = (uint16_t)get16(tcp);
        client->receive_next = get32(tcp + 4) + 1;
        tcp_options(client, tcp, header);
        client->tcp = TCP_SYN_RECEIVED;
        send_tcp(client, SYN | ACK, NULL, 0);
        return true;
    }
    if (client->tcp == TCP_SYN_SENT && (flags & SYN) && (flags & ACK)) {
        client->receive_next = get32(tcp + 4) + 1;
        client->send_acked = get32(tcp + 8);
        client->peer_window = get16(tcp + 14);
        tcp_options(client, tcp, header);
        client->tcp = TCP_ESTABLISHED;
        tcp_output(client, true);
        return true;
    }
    return false;
}

static void receive_tcp(struct net_client *client, const uint8_t *ip, const uint8_t *tcp, size_t bytes)
{
    size_t header = (size_t)(tcp[12] >> 4) * 4;
    unsigned flags = tcp[13];

    if (get16(tcp + 2) != client->port || client->tcp == TCP_CLOSED || bytes < header)
        return;
    if (flags & RST) {
        client->reset = true;
        client->tcp = TCP_FINISHED;
        return;
    }
    if (tcp_handshake(client, ip, tcp, header))
        return;
    if (client->tcp == TCP_SYN_RECEIVED)
        client->tcp = TCP_ESTABLISHED;
    client->send_acked = get32(tcp + 8);
    client->peer_window = get16(tcp + 14);
    const uint8_t *data = tcp + header;
    size_t data_bytes = bytes - header;
    bool in_order = get32(tcp + 4) == client->receive_next;
    if (in_order && data_bytes > 0 && client->received_bytes + data_bytes <= client->received_max) {
        memcpy(client->received + client->received_bytes, data, data_bytes);
        client->received_bytes += data_bytes;
        client->receive_next += (uint32_t)data_bytes;
    }
    if (in_order && (flags & FIN) && !client->fin_received) {
        client->fin_received = true;
        client->receive_next++;
    }
    tcp_output(client, data_bytes > 0 || (flags & FIN));
    if (client->fin_received && client->fin_sent && client->send_acked == client->send_next)
        client->tcp = TCP_FINISHED;
}

static void receive_dhcp(struct net_client *client, const uint8_t *message, size_t bytes)
{
    client->dhcp_address = get32(message + 16);
    for (size_t i = 240; i + 6 <= bytes && message[i] != 255; i += 2u + message[i + 1]) {
        const uint8_t *value = message + i + 2;
        switch (message[i]) {
        case 53:
            client->dhcp_type = value[0];
            break;
        case 3:
            client->dhcp_router = get32(value);
            break;
        case 6:
            client->dhcp_dns = get32(value);
            break;
        }
    }
}

static void receive_udp(struct net_client *client, const uint8_t *udp, size_t bytes)
{
    if (bytes > 8 + 240 && get16(udp + 2) == 68) {
        receive_dhcp(client, udp + 8, bytes - 8);
    } else if (bytes > 8 && bytes - 8 <= sizeof client->udp_data) {
        client->udp_bytes = bytes - 8;
        memcpy(client->udp_data, udp + 8, client->udp_bytes);
    }
}

static void receive_ip(struct net_client *client, const uint8_t *ip, size_t bytes)
{
    if (bytes < IP_BYTES + 8 || ip[0] != 0x45 || get16(ip + 2) > bytes || sum16(ip, IP_BYTES, 0) != 0xffff) {
        client->bad_checksums++;
        return;
    }
    const uint8_t *payload = ip + IP_BYTES;
    bytes = get16(ip + 2) - IP_BYTES;
    bool summed = (ip[9] == PROTOCOL_UDP && get16(payload + 6) != 0) || ip[9] == PROTOCOL_TCP;
    if (summed && sum16(payload, bytes, pseudo_sum(ip, ip[9], bytes)) != 0xffff) {
        client->bad_checksums++;
        return;
    }
    if (ip[9] == PROTOCOL_UDP)
        receive_udp(client, payload, bytes);
    else if (ip[9] == PROTOCOL_TCP && bytes >= TCP_BYTES)
        receive_tcp(client, ip, payload, bytes);
    else if (ip[9] == PROTOCOL_ICMP) {
        client->echo_replies += payload[0] == 0;
        client->unreachable += payload[0] == 3;
    }
}

void net_client_receive(struct net_client *client, const uint8_t *frame, size_t bytes)
{
    if (bytes < ETH_BYTES + IP_BYTES)
        return;
    if (get16(frame + 12) == ETHERTYPE_ARP) {
        const uint8_t *arp = frame + ETH_BYTES;
        if (get16(arp + 6) == 1 && get32(arp + 24) == NET_CLIENT_ADDRESS) {
            send_arp(client, 2, arp + 8, get32(arp + 14));
        } else if (get16(arp + 6) == 2) {
            client->router_known = true;
            memcpy(client->router_mac, arp + 8, 6);
        }
    } else if (get16(frame + 12) == ETHERTYPE_IPV4) {
        receive_ip(client, frame + ETH_BYTES, bytes - ETH_BYTES);
    }
}
