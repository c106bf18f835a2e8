/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File descriptors: ownership, checks, and passing them over Unix sockets.
 *
 * An owned descriptor lives in an int that is -1 when empty. `cleanup_fd int fd = -1;` closes at end of
 * scope; fd_steal() hands it on. Every descriptor made or received here is close-on-exec.
 *
 * Threads: no state; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* The most descriptors that one message may carry; the kernel's own limit (SCM_MAX_FD) is 253. */
#define FD_PASS_MAX 32

/* Closes *fd unless it is negative, and makes it -1. Keeps errno. */
void fd_close(int *fd);
void fd_close_all(int *fds, size_t count);
#define cleanup_fd __attribute__((cleanup(fd_close)))

/* Returns *fd owned and leaves -1. */
static inline int fd_steal(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

/* A decimal number of a descriptor that is open in this process, from a command line; makes it close-on-exec.
 * Negative: -EINVAL (not a number), -EBADF (not open). Returns owned. */
int fd_parse(const char *text);

int fd_set_nonblock(int fd, bool nonblock);
int fd_set_cloexec(int fd, bool cloexec);

/*
 * 0 if `fd` behaves as an eventfd, else -EINVAL. Works without /proc: an anonymous inode that refuses the one
 * value that no eventfd takes. Timer, signal and epoll descriptors are refused where they show it; the rest
 * is harmless (a read or write that fails), because callers use O_NONBLOCK and check sizes.
 */
int fd_check_eventfd(int fd);

int fd_eventfd_create(void);     /* non-blocking, close-on-exec; owned, or negative errno */
void fd_eventfd_signal(int fd);  /* adds 1; never blocks on a non-blocking eventfd */
bool fd_eventfd_consume(int fd); /* true if it was signalled; resets it */

/* All bytes or an error; retries EINTR. For blocking descriptors. -EPIPE at end of file. */
int fd_read_full(int fd, void *buffer, size_t bytes);
int fd_write_full(int fd, const void *buffer, size_t bytes);

/*
 * One sendmsg/recvmsg with SCM_RIGHTS. Bytes sent or received, 0 at end of file, or negative errno (-EAGAIN
 * on a non-blocking socket). On receive `*fd_count` holds the room in `fds` before and the number received
 * after; more descriptors than room: all are closed and the result is -E2BIG. Received descriptors are owned.
 */
ssize_t fd_send(int socket, const struct iovec *iov, size_t iov_count, const int *fds, size_t fd_count);
ssize_t fd_receive(int socket, const struct iovec *iov, size_t iov_count, int *fds, size_t *fd_count);
