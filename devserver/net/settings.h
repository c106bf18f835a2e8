/* SPDX-License-Identifier: Apache-2.0 */
/* settings: the command line of bulkhead-net. One table names the options; --help is printed from it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "devserver/net/net_device.h"
#include "devserver/net/resolver.h"
#include "protocol/base/log.h"

#define SETTINGS_PUBLISH_MAX 64

struct settings {
    int connected_fd, listen_fd, ready_fd; /* owned; -1: not given */
    const char *socket_path;
    struct net_device_config device;
    struct user_net_publish publish[SETTINGS_PUBLISH_MAX];
    const char *dns[RESOLVER_SERVERS_MAX];
    size_t dns_count;
    enum log_level log_level;
    bool sandbox;
    bool help, version; /* asked for: print and exit */
};

/* 0, or -EINVAL and one line in `why`. Strings point into argv; device.user_net.publish into *ret_settings.
 */
int settings_parse(int argc, char **argv, struct settings *ret_settings, char *why, size_t why_bytes);
void settings_print_help(void);
