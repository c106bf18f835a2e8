/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resolver: which name servers the sandboxed process shall use.
 *
 * libslirp passes the guest's questions to the first `nameserver` line of /etc/resolv.conf, which it opens by
 * name whenever it changes. In the sandbox there is no such file but the one that we put there: the addresses
 * of the host's file as they were when the process started, and nothing else of it.
 *
 * A scoped address (fe80::1%eth0) names an interface, for which the sandbox has no look-up: left out.
 */
#pragma once

#include <stddef.h>

#define RESOLVER_PATH          "/etc/resolv.conf"
#define RESOLVER_SERVERS_MAX   3 /* as the C library */
#define RESOLVER_CONTENT_BYTES 256

/*
 * Fills `content` with the nameserver lines for the sandbox: of `servers` (addresses, count > 0), or else of
 * the file at `path`. Returns how many servers there are; 0: `content` names the loopback, as an empty file
 * means (resolv.conf(5)). -EINVAL: one of `servers` is no address, *ret_bad is it.
 */
int resolver_content(const char *path, const char *const *servers, size_t count, char *content,
                     size_t content_bytes, const char **ret_bad);
