/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_device: a virtio network device (virtio 1.2, section 5.1) behind vhost-user, whose wire is a user_net.
 *
 * Queue 0 is receiveq1 (to the guest), queue 1 transmitq1 (from the guest); no control queue, no multi-queue.
 *
 * Offered:  MAC, STATUS (link always up), MTU, MRG_RXBUF;
 *           CSUM: we complete checksums, once, on our copy of the frame;
 *           GUEST_CSUM: frames to the guest carry DATA_VALID, because libslirp has just computed their
 * checksums. Not:      TSO/GSO: libslirp takes packets up to its MTU only. A large MTU does the same work
 * (user_net.h).
 *
 * From the guest: a chain is copied into our memory once and only the copy is used. A frame that is too
 * short, too long or has a header that asks for what was not offered is dropped (counted, logged at a limited
 * rate).
 *
 * To the guest: a frame goes into the ring at once if it has buffers for it, else into a bounded queue; a
 * kick of queue 0 goes on with it. While the queue is more than half full the sockets of the host are left
 * unread; what comes nevertheless (answers to the guest's own frames) is dropped when the queue is full. A
 * guest whose buffers cannot hold a frame (no MRG_RXBUF and a small buffer) does not get it.
 *
 * Thread: the loop's. States: create -> destroy; the devserver's states are in devserver.h.
 */
#pragma once

#include <stdint.h>

#include "devserver/core/devserver.h"
#include "devserver/net/user_net.h"

#define NET_DEVICE_MAC_BYTES 6

struct net_device;

struct net_device_config {
    uint8_t mac[NET_DEVICE_MAC_BYTES];
    struct user_net_config user_net;
};

/* Makes the network and binds published ports. 0 and an owned object, or negative errno and one line in
 * `why`. */
int net_device_create(const struct net_device_config *config, struct net_device **ret_device, char *why,
                      size_t why_bytes);

/* Every descriptor that it holds before it serves, for the sandbox to keep; the number, at most `max`. */
size_t net_device_list_fds(const struct net_device *device, int *fds, size_t max);

/* How to serve it: for devserver_create() or program_serve(). No socket yet. Borrows `device`. */
struct devserver_config net_device_server_config(struct net_device *device);

/* Not while it is served. Accepts NULL. */
void net_device_destroy(struct net_device *device);
