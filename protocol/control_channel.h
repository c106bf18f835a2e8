/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_channel: length-prefixed frames with fd passing over one connected Unix stream socket.
 *
 * A frame is le32 payload bytes (1 .. CONTROL_FRAME_BYTES) and the payload, one protobuf message of control.proto.
 * At most one fd rides on a frame, attached to its first byte (SCM_RIGHTS).
 *
 * The channel never blocks and has no policy: the caller says when to read and when to write, and decides what an
 * error costs. What is held for the peer is bounded both ways: one frame and one fd per direction that is received,
 * CONTROL_QUEUE_BYTES and CONTROL_QUEUE_FDS that are to be sent. A peer that sends a length of zero or one that is
 * too long, a second fd on a frame, or an fd where `accept_fds` is false, gets -EPROTO: drop it.
 *
 * States: open -> (any error) -> broken; after an error only finish is allowed.
 * Owner thread: the caller's. Received fds are close-on-exec.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTROL_FRAME_HEADER_BYTES 4
#define CONTROL_FRAME_BYTES        (64u * 1024)
#define CONTROL_QUEUE_BYTES        (256u * 1024)
#define CONTROL_QUEUE_FDS          8

struct control_channel {
    int fd;
    bool accept_fds;

    uint8_t *rx; /* header and payload of the frame that is coming in */
    size_t rx_bytes;
    int rx_fd; /* came with that frame; -1 if none */

    uint8_t *tx;
    size_t tx_bytes, tx_sent;
    struct control_channel_fd {
        size_t at; /* rides on tx[at] */
        int fd;
    } tx_fds[CONTROL_QUEUE_FDS];
    unsigned tx_fd_count;
};

/* Takes `fd`, a connected SOCK_STREAM Unix socket. 0 or -ENOMEM (then `fd` stays the caller's). */
int control_channel_init(struct control_channel *channel, int fd, bool accept_fds);
/* Closes the socket and every fd that is still held. Accepts one that is zeroed or finished already. */
void control_channel_finish(struct control_channel *channel);

/*
 * Reads what there is of one frame. 1: a frame is complete; *ret_payload borrows it until the next call and *ret_fd
 * is its fd (returned owned) or -1. 0: not complete yet, wait for the socket to become readable. -ECONNRESET: end of
 * file, also in the middle of a frame. -EPROTO: see above. Other negative errno: from recvmsg(2).
 */
int control_channel_receive(struct control_channel *channel, const uint8_t **ret_payload, size_t *ret_bytes,
                            int *ret_fd);
/* True while a frame has begun but is not complete. */
bool control_channel_in_frame(const struct control_channel *channel);

/*
 * Queues one frame; takes `fd` (-1: none) whatever the result. 0; -EMSGSIZE for an empty or too long payload; -ENOBUFS
 * when the queue is full (the peer does not read). Nothing is sent before control_channel_flush().
 */
int control_channel_queue(struct control_channel *channel, const uint8_t *payload, size_t bytes, int fd);
/* Sends what the socket takes. 0: all is sent; 1: the rest waits for the socket to become writable; else -errno. */
int control_channel_flush(struct control_channel *channel);
