/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devserver/net/settings.h"
#include "protocol/base/units.h"

static int take_mac(void *opaque, const char *value, char *why, size_t why_bytes)
{
    struct settings *settings = opaque;
    uint8_t mac[NET_DEVICE_MAC_BYTES];
    int end = 0;

    if (sscanf(value, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
               &mac[5], &end) != NET_DEVICE_MAC_BYTES ||
        value[end] || strlen(value) != 17)
        return -EINVAL;
    if (mac[0] & 1) {
        snprintf(why, why_bytes, "%s is a multicast address: clear the lowest bit of its first byte", value);
        return -EINVAL;
    }
    memcpy(settings->device.mac, mac, sizeof mac);
    return 0;
}

static int take_mtu(void *opaque, const char *value, char *why, size_t why_bytes)
{
    return command_line_take_number(&((struct settings *)opaque)->device.user_net.mtu_bytes, value,
                                    USER_NET_MTU_MIN, USER_NET_MTU_MAX, "MTU", why, why_bytes);
}

static int take_publish(void *opaque, const char *value, char *why, size_t why_bytes)
{
    struct settings *settings = opaque;
    size_t *count = &settings->device.user_net.publish_count;

    if (*count == SETTINGS_PUBLISH_MAX) {
        snprintf(why, why_bytes, "at most %d ports can be published", SETTINGS_PUBLISH_MAX);
        return -EINVAL;
    }
    int ret = user_net_publish_parse(value, &settings->publish[*count], why, why_bytes);
    if (ret == 0)
        (*count)++;
    return ret;
}

static int take_dns(void *opaque, const char *value, char *why, size_t why_bytes)
{
    struct settings *settings = opaque;
    if (settings->dns_count == RESOLVER_SERVERS_MAX) {
        snprintf(why, why_bytes, "at most %d name servers can be used", RESOLVER_SERVERS_MAX);
        return -EINVAL;
    }
    settings->dns[settings->dns_count++] = value;
    return 0;
}

static int take_hostname(void *opaque, const char *value, char *why, size_t why_bytes)
{
    if (!value[0] || strlen(value) > 32) {
        snprintf(why, why_bytes, "'%.40s' is no host name: use 1 to 32 characters", value);
        return -EINVAL;
    }
    ((struct settings *)opaque)->device.user_net.hostname = value;
    return 0;
}

static int take_no_host_loopback(void *opaque, const char *value, char *why, size_t why_bytes)
{
    ((struct settings *)opaque)->device.user_net.host_loopback = false;
    return 0;
}

static int take_no_ipv6(void *opaque, const char *value, char *why, size_t why_bytes)
{
    ((struct settings *)opaque)->device.user_net.ipv6 = false;
    return 0;
}

const struct command_option net_options[NET_OPTIONS] = {
    {"publish", "SPEC", "[ADDR:]HOSTPORT:GUESTPORT[/udp]: a port of the host leads to the guest (127.0.0.1)",
     take_publish},
    {"mac", "MAC", "the guest's address (52:54:00:12:34:56)", take_mac},
    {"mtu", "BYTES", "the largest packet (16384)", take_mtu},
    {"dns", "ADDR", "name server (those of /etc/resolv.conf)", take_dns},
    {"hostname", "NAME", "the guest's name in DHCP replies", take_hostname},
    {"no-host-loopback", NULL, "10.0.2.2 does not reach the host's own 127.0.0.1", take_no_host_loopback},
    {"no-ipv6", NULL, "IPv4 only", take_no_ipv6},
};

void settings_init(struct settings *ret_settings)
{
    *ret_settings = (struct settings){
        .device = {.mac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56},
                   .user_net = {.mtu_bytes = USER_NET_MTU_DEFAULT, .host_loopback = true, .ipv6 = true}},
    };
    ret_settings->device.user_net.publish = ret_settings->publish;
}
