/* SPDX-License-Identifier: Apache-2.0 */
/* settings: what only bulkhead-net is told on its command line. */
#pragma once

#include <stddef.h>

#include "devserver/core/command_line.h"
#include "devserver/net/net_device.h"
#include "devserver/net/resolver.h"

#define SETTINGS_PUBLISH_MAX 64

/* Strings point into argv; device.user_net.publish into the struct itself, which so must not move. */
struct settings {
    struct net_device_config device;
    struct user_net_publish publish[SETTINGS_PUBLISH_MAX];
    const char *dns[RESOLVER_SERVERS_MAX];
    size_t dns_count;
};

#define NET_OPTIONS 7
extern const struct command_option net_options[NET_OPTIONS];

void settings_init(struct settings *ret_settings);
