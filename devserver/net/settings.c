/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devserver/net/settings.h"
#include "protocol/base/fd.h"
#include "protocol/base/units.h"

#define SETTINGS_WHY_BYTES 256

static const struct settings defaults = {
    .connected_fd = -1,
    .listen_fd = -1,
    .ready_fd = -1,
    .device = {.mac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56},
               .user_net = {.mtu_bytes = USER_NET_MTU_DEFAULT, .host_loopback = true, .ipv6 = true}},
    .log_level = LOG_LEVEL_INFO,
    .sandbox = true,
};

struct option_row {
    const char *name;
    const char *value; /* its name in --help; NULL: takes none */
    const char *help;
    /* 0 or -EINVAL; may fill `why` with more than 'not a value for this option'. */
    int (*take)(struct settings *settings, const char *value, char *why, size_t why_bytes);
};

static int take_fd_into(int *slot, const char *value, char *why, size_t why_bytes)
{
    int fd = fd_parse(value);

    if (fd == -EBADF)
        snprintf(why, why_bytes, "descriptor %s is not open: pass it through exec", value);
    if (fd < 0)
        return -EINVAL;
    *slot = fd;
    return 0;
}

static int take_fd(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    return take_fd_into(&settings->connected_fd, value, why, why_bytes);
}

static int take_listen_fd(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    return take_fd_into(&settings->listen_fd, value, why, why_bytes);
}

static int take_ready_fd(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    return take_fd_into(&settings->ready_fd, value, why, why_bytes);
}

static int take_socket_path(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    settings->socket_path = value;
    return 0;
}

static int take_mac(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
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

static int take_mtu(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    char *end;
    unsigned long mtu = strtoul(value, &end, 10);

    if (value[0] < '0' || value[0] > '9' || *end || mtu < USER_NET_MTU_MIN || mtu > USER_NET_MTU_MAX) {
        snprintf(why, why_bytes, "'%.40s' is no MTU: use %u to %u", value, USER_NET_MTU_MIN,
                 USER_NET_MTU_MAX);
        return -EINVAL;
    }
    settings->device.user_net.mtu_bytes = (unsigned)mtu;
    return 0;
}

static int take_publish(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
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

static int take_dns(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    if (settings->dns_count == RESOLVER_SERVERS_MAX) {
        snprintf(why, why_bytes, "at most %d name servers can be used", RESOLVER_SERVERS_MAX);
        return -EINVAL;
    }
    settings->dns[settings->dns_count++] = value;
    return 0;
}

static int take_hostname(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    if (!value[0] || strlen(value) > 32) {
        snprintf(why, why_bytes, "'%.40s' is no host name: use 1 to 32 characters", value);
        return -EINVAL;
    }
    settings->device.user_net.hostname = value;
    return 0;
}

static int take_no_host_loopback(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    settings->device.user_net.host_loopback = false;
    return 0;
}

static int take_no_ipv6(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    settings->device.user_net.ipv6 = false;
    return 0;
}

static int take_log_level(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    return log_parse_level(value, &settings->log_level);
}

static int take_no_sandbox(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    settings->sandbox = false;
    return 0;
}

static int take_help(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    settings->help = true;
    return 0;
}

static int take_version(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    settings->version = true;
    return 0;
}

static const struct option_row options[] = {
    {"fd", "N", "serve the vhost-user front-end on this connected socket", take_fd},
    {"listen-fd", "N", "serve one front-end after the other on this listening socket", take_listen_fd},
    {"socket-path", "PATH", "as listen-fd, on a socket made at PATH", take_socket_path},
    {"publish", "SPEC", "[ADDR:]HOSTPORT:GUESTPORT[/udp]: a port of the host leads to the guest (127.0.0.1)",
     take_publish},
    {"mac", "MAC", "the guest's address (52:54:00:12:34:56)", take_mac},
    {"mtu", "BYTES", "the largest packet (16384)", take_mtu},
    {"dns", "ADDR", "name server (those of /etc/resolv.conf)", take_dns},
    {"hostname", "NAME", "the guest's name in DHCP replies", take_hostname},
    {"no-host-loopback", NULL, "10.0.2.2 does not reach the host's own 127.0.0.1", take_no_host_loopback},
    {"no-ipv6", NULL, "IPv4 only", take_no_ipv6},
    {"ready-fd", "N", "write 'ready' or 'error: why' to this descriptor once", take_ready_fd},
    {"log-level", "LEVEL", "error, warning, info or debug (info)", take_log_level},
    {"no-sandbox", NULL, "do not confine the process (for debugging)", take_no_sandbox},
    {"help", NULL, "print this", take_help},
    {"version", NULL, "print the version", take_version},
};

static const struct option_row *find_option(const char *argument, const char **ret_value)
{
    const char *equals = strchr(argument, '=');
    size_t length = equals ? (size_t)(equals - argument) : strlen(argument);

    *ret_value = equals ? equals + 1 : NULL;
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        if (strlen(options[i].name) == length && strncmp(options[i].name, argument, length) == 0)
            return &options[i];
    }
    return NULL;
}

static int take_argument(struct settings *settings, char **argv, int *index, char *why, size_t why_bytes)
{
    const char *argument = argv[*index];
    const char *value = NULL;
    const struct option_row *option = NULL;

    if (strncmp(argument, "--", 2) == 0)
        option = find_option(argument + 2, &value);
    if (!option) {
        snprintf(why, why_bytes, "unknown option '%.60s': see --help", argument);
        return -EINVAL;
    }
    if (option->value && !value)
        value = argv[*index + 1] ? argv[++*index] : NULL;
    if (!option->value != !value) {
        snprintf(why, why_bytes, "option --%s %s: see --help", option->name,
                 option->value ? "needs a value" : "takes no value");
        return -EINVAL;
    }
    why[0] = '\0';
    int ret = option->take(settings, value, why, why_bytes);
    if (ret < 0 && !why[0])
        snprintf(why, why_bytes, "'%.60s' is no value for --%s: see --help", value ? value : "",
                 option->name);
    return ret;
}

int settings_parse(int argc, char **argv, struct settings *ret_settings, char *why, size_t why_bytes)
{
    struct settings *settings = ret_settings;

    *settings = defaults;
    settings->device.user_net.publish = settings->publish;
    /* The first fault is reported, but all are read: --ready-fd may be among the rest. */
    char later[SETTINGS_WHY_BYTES];
    int ret = 0;
    for (int i = 1; i < argc; i++) {
        int fault =
            take_argument(settings, argv, &i, ret == 0 ? why : later, ret == 0 ? why_bytes : sizeof later);
        ret = ret == 0 ? fault : ret;
    }
    if (ret < 0)
        return ret;
    int sockets =
        (settings->connected_fd >= 0) + (settings->listen_fd >= 0) + (settings->socket_path != NULL);
    if (sockets != 1 && !settings->help && !settings->version) {
        snprintf(why, why_bytes, "%s: give one of --fd, --listen-fd and --socket-path",
                 sockets ? "more than one socket" : "no socket");
        return -EINVAL;
    }
    return 0;
}

void settings_print_help(void)
{
    printf("Usage: bulkhead-net --fd=N | --listen-fd=N | --socket-path=PATH [OPTION...]\n"
           "A network card for one virtual machine (vhost-user), with the host's sockets as its wire.\n\n");
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        char left[40];
        snprintf(left, sizeof left, "--%s%s%s", options[i].name, options[i].value ? "=" : "",
                 options[i].value ? options[i].value : "");
        printf("  %-22s %s\n", left, options[i].help);
    }
    printf("\nExample: bulkhead-net --socket-path=/run/user/1000/net.sock --publish=2222:22\n");
}
