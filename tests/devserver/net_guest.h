/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_guest: a bulkhead-net process under its real sandbox, and the guest's side of it: guest memory, a
 * vhost-user front-end, the two rings, and a net_client whose frames go through them.
 */
#pragma once

#include "devserver/net/virtio_net.h"
#include "protocol/vhost_user_frontend.h"
#include "tests/devserver/net_client.h"
#include "tests/protocol/ring_driver.h"

#define NET_GUEST_RING   256
#define NET_GUEST_MEMORY (64u << 20)
#define NET_GUEST_RX_AT  (16u << 20) /* guest addresses of the buffers */
#define NET_GUEST_TX_AT  (40u << 20)

struct net_guest_queue {
    struct ring_driver ring;
    int kick_fd, call_fd, err_fd;
    unsigned published, used; /* chains */
};

struct net_guest {
    /* Set before net_guest_start(). */
    bool packed, event_idx, mergeable;
    bool starve; /* no receive buffers by itself */
    uint32_t rx_buffer_bytes;
    uint16_t ring_size; /* 0: NET_GUEST_RING */
    size_t mtu;

    int pid;
    int memory_fd;
    uint8_t *memory;
    struct vhost_user_frontend frontend;
    uint64_t features; /* offered */
    struct net_guest_queue rx, tx;
    struct net_client client;
    unsigned valid_flags; /* frames that came with DATA_VALID */
    unsigned largest_merge;
};

/* Runs the program with `arguments` (NULL-terminated, may be NULL) and --fd and --ready-fd; what it says
 * through the latter, without the end of line, g_free(). With `ret_socket` the process lives and *ret_pid is
 * it. */
char *net_guest_spawn(const char *const *arguments, int *ret_socket, int *ret_pid);

/* Starts a process, does the handshake, publishes receive buffers. */
void net_guest_start(struct net_guest *guest, const char *const *arguments);
/* Handshake and rings on a connection that is there. */
void net_guest_connect(struct net_guest *guest, int socket);
void net_guest_disconnect(struct net_guest *guest);
/* Disconnects; the process must end by itself with status 0. */
void net_guest_finish(struct net_guest *guest);

/* Adds a chain to queue 0 or 1 and kicks if the device wants it. */
void net_guest_publish(struct net_guest *guest, struct net_guest_queue *queue,
                       const struct ring_buffer *buffers, unsigned count);
/* All receive buffers that fit. */
void net_guest_fill_rx(struct net_guest *guest);
/* Sends a frame with this header in one chain. */
void net_guest_send(struct net_guest *guest, const struct virtio_net_header *header, const uint8_t *frame,
                    size_t bytes);

/* Waits for the device at most a second, handles what came. */
void net_guest_turn(struct net_guest *guest);
/* Until `condition`, or fails the test. */
#define NET_GUEST_WAIT_FOR(guest, condition)                                                                 \
    do {                                                                                                     \
        gint64 end_us = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;                                        \
        while (!(condition) && g_get_monotonic_time() < end_us)                                              \
            net_guest_turn(guest);                                                                           \
        g_assert_true(condition);                                                                            \
    } while (0)

/* DHCP and ARP. */
void net_guest_join(struct net_guest *guest);
/* The router answers: both rings work. */
void net_guest_check_alive(struct net_guest *guest);
