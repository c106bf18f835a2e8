/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/devserver/blk_client.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/base/fd.h"

#define TIMEOUT_MS 30000

static const char *program(void)
{
    const char *path = g_getenv("BULKHEAD_BLK");

    g_assert_nonnull(path);
    return path;
}

/* fork+exec; `fds` are given under their own numbers. stderr goes to log_fd. */
static pid_t spawn(const char *const *arguments, const int *fds, unsigned fd_count, int log_fd)
{
    const char *argv[40] = {program()};
    unsigned count = 1;
    pid_t pid;

    for (; arguments && *arguments; arguments++)
        argv[count++] = *arguments;
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid > 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves no server behind */
    dup2(log_fd, STDERR_FILENO);
    for (unsigned i = 0; i < fd_count; i++)
        fd_set_cloexec(fds[i], false);
    execv(argv[0], (char *const *)argv);
    _exit(127);
}

static char *read_log(int fd)
{
    char *text = g_malloc0(65536);
    ssize_t n = pread(fd, text, 65535, 0);

    g_assert_cmpint(n, >=, 0);
    return text;
}

static int wait_exit(pid_t pid)
{
    int status;

    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int blk_run(const char *const *arguments, const int *fds, unsigned fd_count, char **ret_log)
{
    cleanup_fd int log = memfd_create("log", MFD_CLOEXEC);
    int status = wait_exit(spawn(arguments, fds, fd_count, log));

    *ret_log = read_log(log);
    return status;
}

static void make_image(const char *path)
{
    cleanup_fd int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    uint8_t sector[512];

    g_assert_cmpint(fd, >=, 0);
    for (unsigned i = 0; i < IMAGE_SECTORS; i++) {
        memset(sector, (int)(i & 0xff), sizeof(sector));
        g_assert_cmpint(write(fd, sector, sizeof(sector)), ==, sizeof(sector));
    }
}

/* Starts the program on the server's image and socket, and waits until it is ready. */
static void launch(struct blk_server *server)
{
    g_autofree char *image_option = NULL, *socket_option = NULL, *ready_option = NULL;
    const char *argv[32];
    unsigned count = 0;
    char line[256] = "";
    int ready[2], fds[8];
    unsigned fd_count = 0;

    g_assert_cmpint(pipe2(ready, O_CLOEXEC), ==, 0);
    argv[count++] = image_option = g_strdup_printf("--image=%s", server->image);
    argv[count++] = socket_option = g_strdup_printf("--socket-path=%s", server->socket_path);
    argv[count++] = ready_option = g_strdup_printf("--ready-fd=%d", ready[1]);
    fds[fd_count++] = ready[1];
    for (const char *const *argument = server->arguments; argument && *argument; argument++) {
        if (g_str_has_prefix(*argument, "--overlay-fd="))
            fds[fd_count++] = atoi(*argument + strlen("--overlay-fd="));
        argv[count++] = *argument;
    }
    argv[count] = NULL;
    server->pid = spawn(argv, fds, fd_count, server->log_fd);
    close(ready[1]);
    g_assert_cmpint(read(ready[0], line, sizeof(line) - 1), >, 0);
    close(ready[0]);
    g_assert_cmpstr(line, ==, "ready\n");
}

void blk_server_start(struct blk_server *server, const char *const *arguments)
{
    server->folder = g_dir_make_tmp("bulkhead-blk-XXXXXX", NULL);
    server->image = g_build_filename(server->folder, "image", NULL);
    server->socket_path = g_build_filename(server->folder, "socket", NULL);
    server->arguments = arguments;
    server->log_fd = memfd_create("log", MFD_CLOEXEC);
    make_image(server->image);
    launch(server);
}

void blk_server_kill(struct blk_server *server)
{
    g_assert_cmpint(kill(server->pid, SIGKILL), ==, 0);
    g_assert_cmpint(wait_exit(server->pid), ==, 128 + SIGKILL);
}

void blk_server_restart(struct blk_server *server)
{
    launch(server);
}

void blk_server_expect_log(struct blk_server *server, const char *text)
{
    for (unsigned waited_ms = 0; waited_ms < TIMEOUT_MS; waited_ms += 10) {
        g_autofree char *log = read_log(server->log_fd);

        if (strstr(log, text))
            return;
        g_usleep(10000); /* a file cannot be waited for */
    }
    g_autofree char *log = read_log(server->log_fd);
    g_error("the log has no '%s':\n%s", text, log);
}

void blk_server_stop(struct blk_server *server)
{
    int status;

    g_assert_cmpint(waitpid(server->pid, &status, WNOHANG), ==, 0);
    g_assert_cmpint(kill(server->pid, SIGTERM), ==, 0);
    g_assert_cmpint(wait_exit(server->pid), ==, 0);
    fd_close(&server->log_fd);
    g_unlink(server->image);
    g_unlink(server->socket_path);
    g_rmdir(server->folder);
    g_free(server->image);
    g_free(server->socket_path);
    g_free(server->folder);
}

int blk_connect_socket(const struct blk_server *server)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, server->socket_path, sizeof(address.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    return fd;
}

/* Connects and negotiates. */
static void negotiate(struct blk_client *client, const struct blk_server *server)
{
    const struct blk_client_options *options = &client->options;
    struct vhost_user_frontend *frontend = &client->frontend;
    uint64_t features, protocol_features;

    g_assert_cmpint(vhost_user_frontend_init(frontend, blk_connect_socket(server), TIMEOUT_MS), ==, 0);
    client->connected = true;
    g_assert_cmpint(vhost_user_frontend_get_features(frontend, &features), ==, 0);
    g_assert_cmpint(vhost_user_frontend_get_protocol_features(frontend, &protocol_features), ==, 0);
    g_assert_cmpint(vhost_user_frontend_set_protocol_features(frontend, protocol_features), ==, 0);
    g_assert_cmpint(vhost_user_frontend_set_owner(frontend), ==, 0);
    if (!options->packed)
        features &= ~VHOST_USER_BIT(VIRTIO_F_RING_PACKED_BIT);
    if (options->no_event_idx)
        features &= ~VHOST_USER_BIT(VIRTIO_F_EVENT_IDX_BIT);
    if (options->no_flush)
        features &= ~VHOST_USER_BIT(VIRTIO_BLK_F_FLUSH);
    g_assert_cmpint(vhost_user_frontend_set_features(frontend, features), ==, 0);
}

void blk_client_open(struct blk_client *client, const struct blk_server *server,
                     const struct blk_client_options *options)
{
    memset(client, 0, sizeof(*client));
    client->options = *options;
    client->inflight_fd = -1;
    client->queues = options->queues ? options->queues : 1;
    for (unsigned i = 0; i < client->queues; i++) {
        client->kick[i] = fd_eventfd_create();
        client->call[i] = fd_eventfd_create();
        client->err[i] = fd_eventfd_create();
    }
    client->ram_fd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    g_assert_cmpint(ftruncate(client->ram_fd, CLIENT_RAM_BYTES), ==, 0);
    if (!options->no_seals)
        g_assert_cmpint(fcntl(client->ram_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), ==, 0);
    client->ram = mmap(NULL, CLIENT_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, client->ram_fd, 0);
    g_assert_true(client->ram != MAP_FAILED);
    negotiate(client, server);
    for (unsigned i = 0; i < client->queues; i++) {
        ring_driver_init(&client->ring[i], client->ram, 0x1000 + i * 0x4000, CLIENT_QUEUE_SIZE,
                         options->packed);
        client->ring[i].config.event_idx = !options->no_event_idx;
    }
}

void blk_client_get_inflight(struct blk_client *client)
{
    g_assert_cmpint(vhost_user_frontend_get_inflight_fd(&client->frontend, client->queues, CLIENT_QUEUE_SIZE,
                                                        &client->inflight, &client->inflight_fd),
                    ==, 0);
}

void blk_client_reconnect(struct blk_client *client, const struct blk_server *server)
{
    vhost_user_frontend_finish(&client->frontend);
    negotiate(client, server);
    g_assert_cmpint(
        vhost_user_frontend_set_inflight_fd(&client->frontend, &client->inflight, client->inflight_fd), ==,
        0);
    blk_client_set_memory(client);
    for (unsigned i = 0; i < client->queues; i++)
        g_assert_cmpint(blk_client_start_queue(client, i), ==, 0);
}

void blk_client_set_memory(struct blk_client *client)
{
    const struct vhost_user_region region = {0, CLIENT_RAM_BYTES, CLIENT_USER_BASE, 0};

    g_assert_cmpint(vhost_user_frontend_add_mem_reg(&client->frontend, &region, client->ram_fd), ==, 0);
}

int blk_client_start_queue(struct blk_client *client, unsigned queue)
{
    struct vhost_user_frontend *frontend = &client->frontend;
    const struct virtqueue_config *config = &client->ring[queue].config;
    const struct vhost_user_vring_addr addr = {
        .index = queue,
        .desc_user = CLIENT_USER_BASE + config->desc_gpa,
        .avail_user = CLIENT_USER_BASE + config->driver_gpa,
        .used_user = CLIENT_USER_BASE + config->device_gpa,
    };
    int r = vhost_user_frontend_set_vring_num(frontend, queue, config->size);

    if (r == 0)
        r = vhost_user_frontend_set_vring_base(frontend, queue, config->base);
    if (r == 0)
        r = vhost_user_frontend_set_vring_addr(frontend, &addr);
    if (r == 0)
        r = vhost_user_frontend_set_vring_call(frontend, queue, client->call[queue]);
    if (r == 0)
        r = vhost_user_frontend_set_vring_err(frontend, queue, client->err[queue]);
    if (r == 0)
        r = vhost_user_frontend_set_vring_kick(frontend, queue, client->kick[queue]);
    return r == 0 ? vhost_user_frontend_set_vring_enable(frontend, queue, true) : r;
}

void blk_client_start(struct blk_client *client, const struct blk_server *server,
                      const struct blk_client_options *options)
{
    blk_client_open(client, server, options);
    blk_client_set_memory(client);
    for (unsigned i = 0; i < client->queues; i++)
        g_assert_cmpint(blk_client_start_queue(client, i), ==, 0);
}

void blk_client_close(struct blk_client *client)
{
    if (client->connected)
        vhost_user_frontend_finish(&client->frontend);
    for (unsigned i = 0; i < client->queues; i++) {
        fd_close(&client->kick[i]);
        fd_close(&client->call[i]);
        fd_close(&client->err[i]);
    }
    munmap(client->ram, CLIENT_RAM_BYTES);
    fd_close(&client->ram_fd);
    fd_close(&client->inflight_fd);
}

void blk_kick(struct blk_client *client, unsigned queue)
{
    fd_eventfd_signal(client->kick[queue]);
}

void blk_wait(int fd)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};

    g_assert_cmpint(poll(&poller, 1, TIMEOUT_MS), ==, 1);
    g_assert_true(fd_eventfd_consume(fd));
}

void blk_wait_used(struct blk_client *client, unsigned queue, uint32_t *ret_id, uint32_t *ret_len)
{
    struct ring_driver *ring = &client->ring[queue];
    uint16_t event;

    for (;;) {
        /* Asks for a notification of the next one before it looks. */
        event = ring->config.packed ? (uint16_t)(ring->next_used | (unsigned)ring->used_wrap << 15)
                                    : ring->next_used;
        if (ring->config.event_idx)
            ring_driver_set_event(ring, event);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (ring_driver_used(ring, ret_id, ret_len))
            return;
        blk_wait(client->call[queue]);
    }
}

uint8_t blk_request(struct blk_client *client, unsigned queue, uint32_t type, uint64_t sector, uint32_t bytes)
{
    const struct virtio_blk_outhdr header = {.type = type, .sector = sector};
    bool to_guest = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
    struct ring_buffer buffers[3] = {{CLIENT_HEADER_GPA, sizeof(header), 0}};
    unsigned count = 1;
    uint32_t id, len;
    uint16_t expected;

    memcpy(client->ram + CLIENT_HEADER_GPA, &header, sizeof(header));
    client->ram[CLIENT_STATUS_GPA] = 0xee;
    if (bytes > 0)
        buffers[count++] = (struct ring_buffer){CLIENT_DATA_GPA, bytes, to_guest ? RING_WRITE : 0};
    buffers[count++] = (struct ring_buffer){CLIENT_STATUS_GPA, 1, RING_WRITE};
    expected = ring_driver_add(&client->ring[queue], buffers, count, client->next_id++ % CLIENT_QUEUE_SIZE);
    blk_kick(client, queue);
    blk_wait_used(client, queue, &id, &len);
    g_assert_cmpuint(id, ==, expected);
    g_assert_cmpuint(len, >=, 1);
    return client->ram[CLIENT_STATUS_GPA];
}

void blk_client_check(struct blk_client *client)
{
    g_assert_cmpuint(blk_request(client, 0, VIRTIO_BLK_T_IN, 7, 1024), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpuint(client->ram[CLIENT_DATA_GPA], ==, 7);
    g_assert_cmpuint(client->ram[CLIENT_DATA_GPA + 512], ==, 8);
    g_assert_cmpuint(blk_request(client, 0, VIRTIO_BLK_T_FLUSH, 0, 0), ==, VIRTIO_BLK_S_OK);
}
