/* SPDX-License-Identifier: Apache-2.0 */
#include <netinet/in.h>

#include "devserver/net/frame_filter.h"

#define ETHERNET_BYTES 14
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP  0x0806
#define ETHERTYPE_IPV6 0x86dd
#define ARP_BYTES      28
#define IPV4_BYTES     20
#define IPV6_BYTES     40
#define TCP_BYTES      20
#define UDP_BYTES      8
#define ICMP_BYTES     8
#define PORT_TFTP      69

#define IPV4_FRAGMENT_MASK 0x3fff /* more fragments, and the offset */

static unsigned get16(const uint8_t *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

/* `bytes` of a packet's payload, whose protocol is `protocol`. */
static bool pass_payload(unsigned protocol, const uint8_t *payload, size_t bytes)
{
    switch (protocol) {
    case IPPROTO_TCP: {
        size_t header = bytes >= TCP_BYTES ? (size_t)(payload[12] >> 4) * 4 : 0;
        return header >= TCP_BYTES && header <= bytes;
    }
    case IPPROTO_UDP:
        return bytes >= UDP_BYTES && get16(payload + 4) == bytes && get16(payload + 2) != PORT_TFTP;
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
        return bytes >= ICMP_BYTES;
    default:
        return false;
    }
}

static bool pass_ipv4(const uint8_t *ip, size_t bytes)
{
    if (bytes < IPV4_BYTES || ip[0] >> 4 != 4)
        return false;
    size_t header = (size_t)(ip[0] & 0xf) * 4, total = get16(ip + 2);
    if (header < IPV4_BYTES || total < header || total > bytes || (get16(ip + 6) & IPV4_FRAGMENT_MASK))
        return false;
    return pass_payload(ip[9], ip + header, total - header);
}

static bool pass_ipv6(const uint8_t *ip, size_t bytes)
{
    if (bytes < IPV6_BYTES || ip[0] >> 4 != 6 || get16(ip + 4) > bytes - IPV6_BYTES)
        return false;
    return pass_payload(ip[6], ip + IPV6_BYTES, get16(ip + 4));
}

bool frame_filter_pass(const uint8_t *frame, size_t bytes)
{
    if (bytes < ETHERNET_BYTES)
        return false;
    switch (get16(frame + 12)) {
    case ETHERTYPE_ARP:
        return bytes >= ETHERNET_BYTES + ARP_BYTES;
    case ETHERTYPE_IPV4:
        return pass_ipv4(frame + ETHERNET_BYTES, bytes - ETHERNET_BYTES);
    case ETHERTYPE_IPV6:
        return pass_ipv6(frame + ETHERNET_BYTES, bytes - ETHERNET_BYTES);
    default:
        return false;
    }
}
