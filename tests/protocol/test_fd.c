/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors: what is taken for an eventfd, and passing them over sockets. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/base/fd.h"

static unsigned count_open(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* Broken: a peer's file or socket is polled and written to as if it were a doorbell. */
static void test_check_eventfd(void)
{
    cleanup_fd int good = fd_eventfd_create();
    cleanup_fd int file = memfd_create("x", MFD_CLOEXEC);
    int pipes[2], sockets[2];

    g_assert_cmpint(pipe2(pipes, O_CLOEXEC), ==, 0);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), ==, 0);
    g_assert_cmpint(fd_check_eventfd(good), ==, 0);
    g_assert_false(fd_eventfd_consume(good)); /* the check leaves no mark */
    fd_eventfd_signal(good);
    fd_eventfd_signal(good);
    g_assert_cmpint(fd_check_eventfd(good), ==, 0);
    g_assert_true(fd_eventfd_consume(good));
    g_assert_cmpint(fd_check_eventfd(file), <, 0);
    g_assert_cmpint(lseek(file, 0, SEEK_END), ==, 0);
    g_assert_cmpint(fd_check_eventfd(pipes[0]), <, 0);
    g_assert_cmpint(fd_check_eventfd(pipes[1]), <, 0);
    g_assert_cmpint(fd_check_eventfd(sockets[0]), <, 0);
    g_assert_cmpint(fd_check_eventfd(-1), <, 0);
    fd_close_all(pipes, 2);
    fd_close_all(sockets, 2);
}

/* Broken: received descriptors leak into children, or more than there is room for stay open. */
static void test_pass(void)
{
    int sockets[2], sent[3], received[3] = {-1, -1, -1};
    char byte = 'x';
    struct iovec iov = {&byte, 1};
    size_t count = 3;
    unsigned open_before;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets), ==, 0);
    for (unsigned i = 0; i < 3; i++)
        sent[i] = fd_eventfd_create();
    g_assert_cmpint(fd_receive(sockets[1], &iov, 1, received, &count), ==, -EAGAIN);
    g_assert_cmpint(fd_send(sockets[0], &iov, 1, sent, 3), ==, 1);
    g_assert_cmpint(fd_receive(sockets[1], &iov, 1, received, &count), ==, 1);
    g_assert_cmpuint(count, ==, 3);
    for (unsigned i = 0; i < 3; i++)
        g_assert_cmpint(fcntl(received[i], F_GETFD), ==, FD_CLOEXEC);
    fd_close_all(received, 3);
    open_before = count_open();
    count = 2;
    g_assert_cmpint(fd_send(sockets[0], &iov, 1, sent, 3), ==, 1);
    g_assert_cmpint(fd_receive(sockets[1], &iov, 1, received, &count), ==, -E2BIG);
    g_assert_cmpuint(count_open(), ==, open_before);

    close(sockets[0]);
    count = 3;
    g_assert_cmpint(fd_receive(sockets[1], &iov, 1, received, &count), ==, 0);
    close(sockets[1]);
    fd_close_all(sent, 3);
}

/* Broken: a mistyped number on the command line is taken for a descriptor. */
static void test_parse(void)
{
    cleanup_fd int fd = fd_eventfd_create();
    char text[16];

    g_snprintf(text, sizeof(text), "%d", fd);
    g_assert_cmpint(fd_parse(text), ==, fd);
    g_assert_cmpint(fd_parse(""), ==, -EINVAL);
    g_assert_cmpint(fd_parse("3x"), ==, -EINVAL);
    g_assert_cmpint(fd_parse("-1"), ==, -EINVAL);
    g_assert_cmpint(fd_parse("99999999999"), ==, -EINVAL);
    g_assert_cmpint(fd_parse("99999"), ==, -EBADF);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fd/check-eventfd", test_check_eventfd);
    g_test_add_func("/fd/pass", test_pass);
    g_test_add_func("/fd/parse", test_parse);
    return g_test_run();
}
