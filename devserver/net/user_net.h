/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user_net: the guest's network made of ordinary sockets of this process, by libslirp. No privilege, no tap.
 *
 * The guest sees an Ethernet segment with a router that is also everything else:
 *
 *     10.0.2.0/24, fec0::/64   the network         10.0.2.15   the guest, by DHCP
 *     10.0.2.2, fec0::2        router, and the host's own loopback unless that is switched off
 *     10.0.2.3, fec0::3        name server, passed on to the first one of resolv.conf
 *
 * TCP and UDP go out as sockets; ICMP echo as ping sockets, where net.ipv4.ping_group_range has this
 * process's group (the router itself always answers). Published ports are listening sockets of the host,
 * bound by user_net_create(), that is before the process confines itself: their errors are start errors.
 *
 * libslirp reads /etc/resolv.conf by name: the sandbox's root holds a copy (resolver.h).
 *
 * Event loop: everything that libslirp waits for is behind one epoll descriptor. The owner's loop does
 *
 *     before it sleeps:   user_net_arm(net, room_for_guest)   what to wait for now
 *     fd is readable:     user_net_run(net)                   sockets and timers; calls ops->frame
 *     frame from guest:   user_net_input(net, ...)            may call ops->frame
 *
 * Backpressure: user_net_arm(net, false) leaves data for the guest in the host's socket buffers.
 *
 * Bounds: at most USER_NET_SOCKETS_MAX sockets; a connection beyond is refused, or waits in its listen queue.
 * Thread: one owner. One user_net per process (libslirp keeps its clock in a global).
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Packets far larger than Ethernet's 1500 save work per byte, which a guest without hardware help feels most.
 * But libslirp announces TCP windows of at most 64 KiB, and re-opens a full one only when two segments fit:
 * with more than half of it per segment an upload that fills the window stands still until the guest's probe
 * timer fires.
 */
#define USER_NET_MTU_MIN     1280u /* IPv6's least */
#define USER_NET_MTU_DEFAULT 16384u
#define USER_NET_MTU_MAX     32768u
#define USER_NET_SOCKETS_MAX 4000
/* The largest frame in either direction: Ethernet header and an IP packet. */
#define USER_NET_FRAME_BYTES_MAX (14u + 65535u)

struct user_net;

struct user_net_publish {
    bool udp;
    struct in_addr host_address;
    uint16_t host_port, guest_port; /* host byte order */
};

/* "[ADDR:]HOSTPORT:GUESTPORT[/tcp|/udp]", ADDR an IPv4 address (127.0.0.1 if left out, 0.0.0.0 for all). 0,
 * or -EINVAL and one line in `why`. */
int user_net_publish_parse(const char *text, struct user_net_publish *ret_publish, char *why,
                           size_t why_bytes);

struct user_net_config {
    unsigned mtu_bytes;
    bool host_loopback; /* 10.0.2.2 reaches the host's loopback */
    bool ipv6;
    const char *hostname; /* in DHCP replies; NULL: none */
    const struct user_net_publish *publish;
    size_t publish_count;
};

struct user_net_ops {
    /* An Ethernet frame for the guest; borrowed for the call. At most 14 + mtu_bytes bytes. */
    void (*frame)(void *opaque, const uint8_t *frame, size_t bytes);
    /* The guest did something wrong (one line, from libslirp). May come often. */
    void (*guest_error)(void *opaque, const char *message);
};

/* ops and opaque are borrowed until destroy. 0 and an owned object, or a negative errno and one line in
 * `why`. */
int user_net_create(const struct user_net_config *config, const struct user_net_ops *ops, void *opaque,
                    struct user_net **ret_net, char *why, size_t why_bytes);
/* Closes every connection. Accepts NULL. */
void user_net_destroy(struct user_net *net);

/* Readable when user_net_run() has something to do. Owned by `net`. */
int user_net_fd(const struct user_net *net);

/* Every descriptor that it holds now, for the sandbox to keep; the number, at most `max`. */
size_t user_net_list_fds(const struct user_net *net, int *fds, size_t max);

void user_net_arm(struct user_net *net, bool room_for_guest);
void user_net_run(struct user_net *net);

/* A frame that the guest has sent; not believed in anything. What frame_filter.h does not pass is dropped. */
void user_net_input(struct user_net *net, const uint8_t *frame, size_t bytes);

/* Whether ICMP echo can go out: this process, as it is now, may have ping sockets. */
bool user_net_can_ping(void);

/* The system calls of libslirp and of this module, for the sandbox. */
struct sandbox_syscall_set;
extern const struct sandbox_syscall_set user_net_syscalls;
