/* SPDX-License-Identifier: Apache-2.0 */
/* The text form of a published port. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devserver/net/user_net.h"

#define TEXT_BYTES_MAX 64

static int parse_port(const char *text, uint16_t *ret_port)
{
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return -EINVAL;
    unsigned long port = strtoul(text, &end, 10);
    if (*end || port < 1 || port > UINT16_MAX)
        return -EINVAL;
    *ret_port = (uint16_t)port;
    return 0;
}

/* Cuts `text` at its last `separator` and returns what follows, or NULL. */
static char *cut_last(char *text, char separator)
{
    char *found = strrchr(text, separator);

    if (!found)
        return NULL;
    *found = '\0';
    return found + 1;
}

static int parse(char *text, struct user_net_publish *publish)
{
    const char *protocol = cut_last(text, '/');
    if (protocol && strcmp(protocol, "udp") == 0)
        publish->udp = true;
    else if (protocol && strcmp(protocol, "tcp") != 0)
        return -EINVAL;

    const char *guest_port = cut_last(text, ':');
    if (!guest_port || parse_port(guest_port, &publish->guest_port) < 0)
        return -EINVAL;
    const char *host_port = cut_last(text, ':');
    if (host_port && inet_pton(AF_INET, text, &publish->host_address) != 1)
        return -EINVAL;
    return parse_port(host_port ? host_port : text, &publish->host_port);
}

int user_net_publish_parse(const char *text, struct user_net_publish *ret_publish, char *why,
                           size_t why_bytes)
{
    struct user_net_publish publish = {.host_address.s_addr = htonl(INADDR_LOOPBACK)};
    char copy[TEXT_BYTES_MAX];

    if (strlen(text) >= sizeof copy || parse(strcpy(copy, text), &publish) < 0) {
        snprintf(why, why_bytes,
                 "'%.60s' is not a published port: use [ADDR:]HOSTPORT:GUESTPORT[/tcp|/udp] with an IPv4 "
                 "address and "
                 "ports from 1 to 65535, for example 8080:80",
                 text);
        return -EINVAL;
    }
    *ret_publish = publish;
    return 0;
}
