/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "devserver/net/resolver.h"

static bool is_address(const char *text)
{
    struct in6_addr address;

    return inet_pton(AF_INET, text, &address) == 1 || inet_pton(AF_INET6, text, &address) == 1;
}

/* The content has room for RESOLVER_SERVERS_MAX of the longest addresses. */
static void append(char *content, size_t content_bytes, const char *server)
{
    size_t used = strlen(content);

    snprintf(content + used, content_bytes - used, "nameserver %s\n", server);
}

static int from_file(const char *path, char *content, size_t content_bytes)
{
    char line[512], server[64];
    int count = 0;

    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    while (count < RESOLVER_SERVERS_MAX && fgets(line, sizeof line, file)) {
        if (sscanf(line, " nameserver %63s", server) == 1 && is_address(server)) {
            append(content, content_bytes, server);
            count++;
        }
    }
    fclose(file);
    return count;
}

int resolver_content(const char *path, const char *const *servers, size_t count, char *content,
                     size_t content_bytes, const char **ret_bad)
{
    int found = 0;

    content[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        if (!is_address(servers[i])) {
            *ret_bad = servers[i];
            return -EINVAL;
        }
        if (found < RESOLVER_SERVERS_MAX) {
            append(content, content_bytes, servers[i]);
            found++;
        }
    }
    if (count == 0)
        found = from_file(path, content, content_bytes);
    if (found == 0)
        append(content, content_bytes, "127.0.0.1");
    return found;
}
