/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/control_channel.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* The kernel refuses more than this many fds per message (net/scm.c), so nothing can be cut off unseen. */
#define SCM_MAX_FDS 253

int control_channel_init(struct control_channel *channel, int fd, bool accept_fds)
{
    uint8_t *rx = malloc(CONTROL_FRAME_HEADER_BYTES + CONTROL_FRAME_BYTES);
    uint8_t *tx = malloc(CONTROL_QUEUE_BYTES);
    if (!rx || !tx) {
        free(rx);
        free(tx);
        return -ENOMEM;
    }
    *channel = (struct control_channel){.fd = fd, .accept_fds = accept_fds, .rx = rx, .rx_fd = -1, .tx = tx};
    return 0;
}

void control_channel_finish(struct control_channel *channel)
{
    if (!channel->rx) {
        return;
    }
    close(channel->fd);
    if (channel->rx_fd >= 0) {
        close(channel->rx_fd);
    }
    for (unsigned i = 0; i < channel->tx_fd_count; i++) {
        close(channel->tx_fds[i].fd);
    }
    free(channel->rx);
    free(channel->tx);
    *channel = (struct control_channel){.fd = -1, .rx_fd = -1};
}

/* Takes the fds of one received message: keeps one where that is allowed, closes all others. 0 or -EPROTO. */
static int take_fds(struct control_channel *channel, struct msghdr *message)
{
    int result = message->msg_flags & MSG_CTRUNC ? -EPROTO : 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (channel->accept_fds && channel->rx_fd < 0 && channel->rx_bytes == 0 && count == 1) {
                channel->rx_fd = fd;
            } else {
                close(fd);
                result = -EPROTO;
            }
        }
    }
    return result;
}

/* Reads until rx holds `want` bytes. 1: it does; 0: the socket is empty. */
static int fill(struct control_channel *channel, size_t want)
{
    while (channel->rx_bytes < want) {
        union {
            char bytes[CMSG_SPACE(sizeof(int) * SCM_MAX_FDS)];
            struct cmsghdr align;
        } control;
        struct iovec iov = {channel->rx + channel->rx_bytes, want - channel->rx_bytes};
        struct msghdr message = {.msg_iov = &iov,
                                 .msg_iovlen = 1,
                                 .msg_control = control.bytes,
                                 .msg_controllen = sizeof(control)};
        ssize_t n = recvmsg(channel->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno == EAGAIN ? 0 : -errno;
        }
        int result = take_fds(channel, &message);
        if (result < 0) {
            return result;
        }
        if (n == 0) {
            return -ECONNRESET;
        }
        channel->rx_bytes += (size_t)n;
    }
    return 1;
}

int control_channel_receive(struct control_channel *channel, const uint8_t **ret_payload, size_t *ret_bytes,
                            int *ret_fd)
{
    int result = fill(channel, CONTROL_FRAME_HEADER_BYTES);
    if (result <= 0) {
        return result;
    }
    uint32_t le_bytes;
    memcpy(&le_bytes, channel->rx, sizeof(le_bytes));
    size_t payload_bytes = le32toh(le_bytes);
    if (payload_bytes == 0 || payload_bytes > CONTROL_FRAME_BYTES) {
        return -EPROTO;
    }
    result = fill(channel, CONTROL_FRAME_HEADER_BYTES + payload_bytes);
    if (result <= 0) {
        return result;
    }
    *ret_payload = channel->rx + CONTROL_FRAME_HEADER_BYTES;
    *ret_bytes = payload_bytes;
    *ret_fd = channel->rx_fd;
    channel->rx_fd = -1;
    channel->rx_bytes = 0;
    return 1;
}

bool control_channel_in_frame(const struct control_channel *channel)
{
    return channel->rx_bytes > 0;
}

int control_channel_queue(struct control_channel *channel, const uint8_t *payload, size_t bytes, int fd)
{
    int result = 0;
    if (bytes == 0 || bytes > CONTROL_FRAME_BYTES) {
        result = -EMSGSIZE;
    } else if (CONTROL_FRAME_HEADER_BYTES + bytes > CONTROL_QUEUE_BYTES - channel->tx_bytes ||
               (fd >= 0 && channel->tx_fd_count == CONTROL_QUEUE_FDS)) {
        result = -ENOBUFS;
    }
    if (result < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return result;
    }
    if (fd >= 0) {
        channel->tx_fds[channel->tx_fd_count++] = (struct control_channel_fd){channel->tx_bytes, fd};
    }
    uint32_t le_bytes = htole32((uint32_t)bytes);
    memcpy(channel->tx + channel->tx_bytes, &le_bytes, sizeof(le_bytes));
    memcpy(channel->tx + channel->tx_bytes + CONTROL_FRAME_HEADER_BYTES, payload, bytes);
    channel->tx_bytes += CONTROL_FRAME_HEADER_BYTES + bytes;
    return 0;
}

/* One sendmsg(2) that ends before the next byte that carries an fd. */
static ssize_t send_piece(struct control_channel *channel)
{
    size_t end = channel->tx_bytes;
    bool with_fd = channel->tx_fd_count > 0 && channel->tx_fds[0].at == channel->tx_sent;
    if (channel->tx_fd_count > with_fd) {
        end = channel->tx_fds[with_fd].at;
    }
    struct iovec iov = {channel->tx + channel->tx_sent, end - channel->tx_sent};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    if (with_fd) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &channel->tx_fds[0].fd, sizeof(int));
    }
    ssize_t n = sendmsg(channel->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0 && with_fd) {
        close(channel->tx_fds[0].fd);
        channel->tx_fd_count--;
        memmove(channel->tx_fds, channel->tx_fds + 1, channel->tx_fd_count * sizeof(channel->tx_fds[0]));
    }
    return n;
}

int control_channel_flush(struct control_channel *channel)
{
    int result = 0;
    while (channel->tx_sent < channel->tx_bytes) {
        ssize_t n = send_piece(channel);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (errno != EAGAIN) {
                return -errno;
            }
            result = 1;
            break;
        }
        channel->tx_sent += (size_t)n;
    }
    channel->tx_bytes -= channel->tx_sent;
    memmove(channel->tx, channel->tx + channel->tx_sent, channel->tx_bytes);
    for (unsigned i = 0; i < channel->tx_fd_count; i++) {
        channel->tx_fds[i].at -= channel->tx_sent;
    }
    channel->tx_sent = 0;
    return result;
}
