/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes a whole back-end session: the input is a list of messages with descriptors, for a device that takes and answers
 * whatever its rings hold.
 *
 * One message of the input: what descriptors go with it (1 byte, enum kind), request (1), flags (1), size (2,
 * little-endian), payload. Memory descriptors are files of 64 KiB whose rings lie where the seed's messages say.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devserver/core/devserver.h"
#include "protocol/base/fd.h"
#include "protocol/base/log.h"
#include "protocol/vhost_user.h"

#define RAM_BYTES    (64u * 1024)
#define MESSAGES_MAX 64
#define BUFFERS_MAX      16

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum kind { KIND_NONE, KIND_EVENTFD, KIND_MEMORY, KIND_SHRUNK, KIND_TWO, KIND_COUNT };

static bool running[4];

static int queue_start(void *opaque, struct devserver_queue *queue)
{
    if (running[queue->index])
        abort();
    running[queue->index] = true;
    return 0;
}

static void queue_stop(void *opaque, struct devserver_queue *queue)
{
    if (!running[queue->index])
        abort();
    running[queue->index] = false;
}

static void queue_kick(void *opaque, struct devserver_queue *queue)
{
    struct iovec iov[BUFFERS_MAX];
    struct virtqueue_element element = {.iov = iov, .iov_max = BUFFERS_MAX};
    int r = 0;

    for (unsigned i = 0; i < 100 && (r = virtqueue_pop(&queue->vq, &element)) > 0; i++) {
        size_t written = virtqueue_element_write(&element, 0, "answer", 6);

        virtqueue_push(&queue->vq, element.id, (uint32_t)written);
    }
    if (r < 0)
        devserver_queue_report(queue);
    if (virtqueue_flush(&queue->vq))
        devserver_queue_notify(queue);
}

static void config_get(void *opaque, unsigned offset, void *buffer, unsigned bytes)
{
    memset(buffer, 0x55, bytes);
}

static const struct devserver_ops ops = {
    .config_get = config_get,
    .queue_start = queue_start,
    .queue_stop = queue_stop,
    .queue_kick = queue_kick,
};

static int make_fd(enum kind kind)
{
    int fd;

    if (kind == KIND_EVENTFD || kind == KIND_TWO)
        return fd_eventfd_create();
    fd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (ftruncate(fd, kind == KIND_SHRUNK ? 4096 : RAM_BYTES) < 0)
        abort();
    if (kind == KIND_MEMORY)
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
    return fd;
}

/* Sends one message of the input; the bytes that it took, 0 at the end. */
static size_t send_one(int socket, const uint8_t *data, size_t bytes)
{
    uint8_t wire[12 + 512];
    struct vhost_user_header header;
    struct iovec iov = {.iov_base = wire};
    size_t size, fd_count = 0;
    int fds[2];
    enum kind kind;

    if (bytes < 5)
        return 0;
    kind = (enum kind)(data[0] % KIND_COUNT);
    size = data[3] | (size_t)data[4] << 8;
    header = (struct vhost_user_header){data[1], data[2], (uint32_t)size};
    if (size > bytes - 5)
        size = bytes - 5;
    if (size > 512)
        size = 512;
    memcpy(wire, &header, sizeof(header));
    memcpy(wire + sizeof(header), data + 5, size);
    iov.iov_len = sizeof(header) + size;
    if (kind != KIND_NONE)
        fds[fd_count++] = make_fd(kind);
    if (kind == KIND_TWO)
        fds[fd_count++] = make_fd(kind);
    fd_send(socket, &iov, 1, fds, fd_count);
    fd_close_all(fds, fd_count);
    return 5 + size;
}

static void drain(int socket)
{
    uint8_t buffer[4096];

    while (read(socket, buffer, sizeof(buffer)) > 0)
        ;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    log_init("fuzz", LOG_LEVEL_ERROR);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct devserver_config config = {
        .name = "fuzz",
        .max_queues = 4,
        .max_queue_size = 256,
        .config_bytes = 60,
        .ops = &ops,
        .listen_fd = -1,
    };
    struct devserver *server;
    uv_loop_t loop;
    int sockets[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) < 0)
        abort();
    uv_loop_init(&loop);
    config.connected_fd = sockets[0];
    if (devserver_create(&loop, &config, &server) < 0)
        abort();
    for (unsigned i = 0; i < MESSAGES_MAX; i++) {
        size_t taken = send_one(sockets[1], data, bytes);

        if (taken == 0)
            break;
        data += taken;
        bytes -= taken;
        uv_run(&loop, UV_RUN_NOWAIT);
        drain(sockets[1]);
    }
    devserver_destroy(server, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    fd_close(&sockets[1]);
    for (unsigned i = 0; i < 4; i++) {
        if (running[i])
            abort();
    }
    return 0;
}
