/* SPDX-License-Identifier: Apache-2.0 */
/* bulkhead-blk as a disk: every request type, errors that a guest must see, overlay, read-only, start
 * failures. */
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <linux/virtio_blk.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "tests/devserver/blk_client.h"

static const struct blk_client_options split_options = {.packed = false};
static const struct blk_client_options packed_options = {.packed = true};

static uint8_t *data(struct blk_client *client)
{
    return client->ram + CLIENT_DATA_GPA;
}

static void assert_image_byte(const struct blk_server *server, uint64_t offset, uint8_t expected)
{
    cleanup_fd int fd = open(server->image, O_RDONLY | O_CLOEXEC);
    uint8_t byte;

    g_assert_cmpint(pread(fd, &byte, 1, (off_t)offset), ==, 1);
    g_assert_cmpuint(byte, ==, expected);
}

/* Broken: the guest reads other data than it wrote, or the image has other data. */
static void test_read_write(const void *options)
{
    struct blk_server server;
    struct blk_client client;

    blk_server_start(&server, NULL);
    blk_client_start(&client, &server, options);
    for (unsigned i = 0; i < 50; i++) {
        uint64_t sector = i * 7;

        memset(data(&client), 0x80 + (int)i, 4096);
        g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_OUT, sector, 4096), ==, VIRTIO_BLK_S_OK);
        memset(data(&client), 0, 4096);
        g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_IN, sector, 4096), ==, VIRTIO_BLK_S_OK);
        g_assert_cmpuint(data(&client)[0], ==, 0x80 + i);
        g_assert_cmpuint(data(&client)[4095], ==, 0x80 + i);
    }
    g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_FLUSH, 0, 0), ==, VIRTIO_BLK_S_OK);
    assert_image_byte(&server, 49 * 7 * 512, 0x80 + 49);
    g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_IN, IMAGE_SECTORS - 1, 512), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpuint(data(&client)[0], ==, (IMAGE_SECTORS - 1) & 0xff);
    blk_client_close(&client);
    blk_server_stop(&server);
}

/* Broken: guests see another disk than the one configured. */
static void test_config_and_id(void)
{
    const char *const arguments[] = {"--serial=SN-0123456789", "--num-queues=3", NULL};
    struct blk_server server;
    struct blk_client client;
    struct virtio_blk_config config;
    unsigned queues;

    blk_server_start(&server, arguments);
    blk_client_start(&client, &server, &split_options);
    g_assert_cmpint(vhost_user_frontend_get_config(&client.frontend, 0, &config, sizeof(config)), ==, 0);
    g_assert_cmpuint(config.capacity, ==, IMAGE_SECTORS);
    g_assert_cmpuint(config.blk_size, ==, 512);
    g_assert_cmpuint(config.physical_block_exp, ==, 3);
    g_assert_cmpuint(config.num_queues, ==, 3);
    g_assert_cmpuint(config.wce, ==, 1);
    g_assert_cmpuint(config.max_discard_seg, >=, 1);
    g_assert_cmpint(vhost_user_frontend_get_queue_num(&client.frontend, &queues), ==, 0);
    g_assert_cmpuint(queues, ==, 3);
    g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_GET_ID, 0, 20), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpmem(data(&client), 20, "SN-0123456789\0\0\0\0\0\0\0", 20);
    blk_client_close(&client);
    blk_server_stop(&server);
}

/* Broken: the write-back switch of the guest has no effect, or other fields can be written. */
static void test_write_through(void)
{
    const struct blk_client_options no_flush = {.no_flush = true};
    const uint8_t off = 0, bad = 2;
    struct blk_server server;
    struct blk_client client;
    uint8_t wce = 9;

    blk_server_start(&server, NULL);
    blk_client_start(&client, &server, &split_options);
    g_assert_cmpint(vhost_user_frontend_set_config(&client.frontend, 32, &off, 1), ==, 0);
    g_assert_cmpint(vhost_user_frontend_get_config(&client.frontend, 32, &wce, 1), ==, 0);
    g_assert_cmpuint(wce, ==, 0);
    g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_OUT, 1, 512), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpint(vhost_user_frontend_set_config(&client.frontend, 32, &bad, 1), ==, -EREMOTEIO);
    g_assert_cmpint(vhost_user_frontend_set_config(&client.frontend, 0, &off, 1), ==, -EREMOTEIO);
    blk_client_check(&client);
    blk_client_close(&client);
    blk_client_start(&client, &server, &no_flush);
    g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_OUT, 1, 512), ==, VIRTIO_BLK_S_OK);
    blk_client_close(&client);
    blk_server_stop(&server);
}

static uint8_t range_request(struct blk_client *client, uint32_t type, uint64_t sector, uint32_t sectors,
                             uint32_t flags, uint32_t bytes)
{
    const struct virtio_blk_discard_write_zeroes range = {sector, sectors, flags};

    memcpy(data(client), &range, sizeof(range));
    return blk_request(client, 0, type, 0, bytes);
}

/* Broken: discard or write-zeroes hits other sectors than the guest said, or outside the disk. */
static void test_discard_and_zeroes(void)
{
    struct blk_server server;
    struct blk_client client;

    blk_server_start(&server, NULL);
    blk_client_start(&client, &server, &split_options);
    for (uint32_t unmap = 0; unmap < 2; unmap++) {
        uint64_t sector = 257 + unmap * 100;

        g_assert_cmpuint(range_request(&client, VIRTIO_BLK_T_WRITE_ZEROES, sector, 33, unmap, 16), ==,
                         VIRTIO_BLK_S_OK);
        g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_IN, sector - 1, 35 * 512), ==, VIRTIO_BLK_S_OK);
        g_assert_cmpuint(data(&client)[0], ==, (sector - 1) & 0xff);
        for (unsigned i = 512; i < 34 * 512; i++)
            g_assert_cmpuint(data(&client)[i], ==, 0);
        g_assert_cmpuint(data(&client)[34 * 512], ==, (sector + 33) & 0xff);
    }
    g_assert_cmpuint(range_request(&client, VIRTIO_BLK_T_DISCARD, 800, 16, 0, 16), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_IN, 816, 512), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpuint(data(&client)[0], ==, 816 & 0xff);

    g_assert_cmpuint(range_request(&client, VIRTIO_BLK_T_DISCARD, 0, 1, 1, 16), ==, VIRTIO_BLK_S_UNSUPP);
    g_assert_cmpuint(range_request(&client, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 2, 16), ==, VIRTIO_BLK_S_UNSUPP);
    g_assert_cmpuint(range_request(&client, VIRTIO_BLK_T_DISCARD, IMAGE_SECTORS - 1, 2, 0, 16), ==,
                     VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(range_request(&client, VIRTIO_BLK_T_DISCARD, UINT64_MAX, 2, 0, 16), ==,
                     VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(range_request(&client, VIRTIO_BLK_T_DISCARD, 0, 1, 0, 15), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(range_request(&client, VIRTIO_BLK_T_DISCARD, 0, 1, 0, 0), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(range_request(&client, VIRTIO_BLK_T_DISCARD, 0, 1, 0, 33 * 16), ==, VIRTIO_BLK_S_IOERR);
    blk_client_close(&client);
    blk_server_stop(&server);
}

/* Broken: a request that the specification forbids reads outside the disk, hangs, or ends the server. */
static void test_bad_requests(const void *options)
{
    static const struct {
        uint32_t type;
        uint64_t sector;
        uint32_t bytes;
        uint8_t status;
    } cases[] = {
        {VIRTIO_BLK_T_IN, IMAGE_SECTORS, 512, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_IN, IMAGE_SECTORS - 1, 1024, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_OUT, UINT64_MAX, 512, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_OUT, UINT64_MAX / 512, 512, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_IN, 0, 511, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_OUT, 0, 513, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_IN, 0, 0, VIRTIO_BLK_S_OK},
        {VIRTIO_BLK_T_SECURE_ERASE, 0, 16, VIRTIO_BLK_S_UNSUPP},
        {2, 0, 0, VIRTIO_BLK_S_UNSUPP},
        {UINT32_MAX, 0, 512, VIRTIO_BLK_S_UNSUPP},
    };
    const struct ring_buffer short_header[] = {{CLIENT_HEADER_GPA, 15, 0},
                                               {CLIENT_STATUS_GPA, 1, RING_WRITE}};
    struct blk_server server;
    struct blk_client client;
    uint32_t id, len;

    blk_server_start(&server, NULL);
    blk_client_start(&client, &server, options);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++)
        g_assert_cmpuint(blk_request(&client, 0, cases[i].type, cases[i].sector, cases[i].bytes), ==,
                         cases[i].status);
    ring_driver_add(&client.ring[0], short_header, 2, client.next_id++ % CLIENT_QUEUE_SIZE);
    blk_kick(&client, 0);
    blk_wait_used(&client, 0, &id, &len);
    g_assert_cmpuint(client.ram[CLIENT_STATUS_GPA], ==, VIRTIO_BLK_S_IOERR);
    blk_client_check(&client);
    blk_client_close(&client);
    blk_server_stop(&server);
}

/* Header, data and status in as many pieces as they have: a layout that old drivers do not use, but may. */
static void test_any_layout(const void *options)
{
    const struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_IN, .sector = 10};
    const struct ring_buffer buffers[] = {
        {CLIENT_HEADER_GPA, 3, 0},
        {CLIENT_HEADER_GPA + 3, 13, 0},
        {CLIENT_DATA_GPA, 5, RING_WRITE},
        {CLIENT_DATA_GPA + 5, 507 + 512 + 1, RING_WRITE}, /* its last byte is the status */
    };
    struct blk_server server;
    struct blk_client client;
    uint32_t id, len;

    blk_server_start(&server, NULL);
    blk_client_start(&client, &server, options);
    memcpy(client.ram + CLIENT_HEADER_GPA, &header, sizeof(header));
    ring_driver_add(&client.ring[0], buffers, 4, 0);
    blk_kick(&client, 0);
    blk_wait_used(&client, 0, &id, &len);
    g_assert_cmpuint(len, ==, 1025);
    g_assert_cmpuint(data(&client)[511], ==, 10);
    g_assert_cmpuint(data(&client)[512], ==, 11);
    g_assert_cmpuint(data(&client)[1024], ==, VIRTIO_BLK_S_OK);
    blk_client_close(&client);
    blk_server_stop(&server);
}

/* Broken: a batch of requests on several queues loses or mixes answers. */
static void test_batches_on_queues(const void *packed)
{
    const struct blk_client_options options = {.packed = packed != NULL, .queues = 4};
    const char *const arguments[] = {"--num-queues=4", NULL};
    struct blk_server server;
    struct blk_client client;

    blk_server_start(&server, arguments);
    blk_client_start(&client, &server, &options);
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned q = 0; q < 4; q++) {
            for (unsigned i = 0; i < 5; i++) {
                uint32_t slot = q * 5 + i;
                struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_IN, .sector = slot + round};
                const struct ring_buffer buffers[] = {
                    {CLIENT_HEADER_GPA + slot * 16, 16, 0},
                    {CLIENT_DATA_GPA + slot * 512, 512, RING_WRITE},
                    {CLIENT_STATUS_GPA + slot, 1, RING_WRITE},
                };

                memcpy(client.ram + CLIENT_HEADER_GPA + slot * 16, &header, sizeof(header));
                client.ram[CLIENT_STATUS_GPA + slot] = 0xee;
                ring_driver_add(&client.ring[q], buffers, 3, (uint16_t)i);
            }
            blk_kick(&client, q);
        }
        for (unsigned q = 0; q < 4; q++) {
            uint32_t id, len;

            for (unsigned i = 0; i < 5; i++)
                blk_wait_used(&client, q, &id, &len);
        }
        for (uint32_t slot = 0; slot < 20; slot++) {
            g_assert_cmpuint(client.ram[CLIENT_STATUS_GPA + slot], ==, 0);
            g_assert_cmpuint(data(&client)[slot * 512], ==, (slot + round) & 0xff);
        }
    }
    blk_client_close(&client);
    blk_server_stop(&server);
}

/* Broken: an ephemeral disk changes the image, forgets writes, or mixes up what is where. */
static void test_overlay(void)
{
    cleanup_fd int overlay = memfd_create("overlay", MFD_CLOEXEC);
    g_autofree char *option = g_strdup_printf("--overlay-fd=%d", overlay);
    const char *const arguments[] = {option, NULL};
    struct blk_server server;
    struct blk_client client;

    blk_server_start(&server, arguments);
    blk_client_start(&client, &server, &split_options);
    memset(data(&client), 0xf1, 512);
    g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_OUT, 65, 512), ==, VIRTIO_BLK_S_OK);
    memset(data(&client), 0xf2, 1024);
    g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_OUT, 127, 1024), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpuint(range_request(&client, VIRTIO_BLK_T_DISCARD, 70, 2, 0, 16), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpuint(range_request(&client, VIRTIO_BLK_T_WRITE_ZEROES, 80, 3, 0, 16), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_FLUSH, 0, 0), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_IN, 60, 100 * 512), ==, VIRTIO_BLK_S_OK);
    for (unsigned i = 0; i < 100; i++) {
        unsigned sector = 60 + i;
        uint8_t expected = (uint8_t)sector;

        expected = sector == 65 ? 0xf1 : sector == 127 || sector == 128 ? 0xf2 : expected;
        expected = sector == 70 || sector == 71 || (sector >= 80 && sector < 83) ? 0 : expected;
        g_assert_cmpuint(data(&client)[i * 512], ==, expected);
        g_assert_cmpuint(data(&client)[i * 512 + 511], ==, expected);
        assert_image_byte(&server, sector * 512, (uint8_t)sector);
    }
    blk_client_close(&client);
    /* Another machine on the same, and then another server process with the same overlay: both find the
     * writes. */
    blk_client_start(&client, &server, &packed_options);
    g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_IN, 65, 512), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpuint(data(&client)[0], ==, 0xf1);
    blk_client_close(&client);
    blk_server_stop(&server);
    blk_server_start(&server, arguments);
    blk_client_start(&client, &server, &split_options);
    g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_IN, 127, 512), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpuint(data(&client)[0], ==, 0xf2);
    blk_client_close(&client);
    blk_server_stop(&server);
}

/* Broken: a read-only disk is written, or the guest is not told that it is one. */
static void test_readonly(void)
{
    const char *const arguments[] = {"--readonly", NULL};
    struct blk_server server;
    struct blk_client client;
    uint64_t features;

    blk_server_start(&server, arguments);
    blk_client_start(&client, &server, &split_options);
    g_assert_cmpint(vhost_user_frontend_get_features(&client.frontend, &features), ==, 0);
    g_assert_true(features & VHOST_USER_BIT(VIRTIO_BLK_F_RO));
    g_assert_false(features & VHOST_USER_BIT(VIRTIO_BLK_F_DISCARD));
    g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_OUT, 0, 512), ==, VIRTIO_BLK_S_IOERR);
    g_assert_cmpuint(range_request(&client, VIRTIO_BLK_T_DISCARD, 0, 8, 0, 16), ==, VIRTIO_BLK_S_IOERR);
    blk_client_check(&client);
    blk_client_close(&client);
    blk_server_stop(&server);
}

/* Broken: memory hot-plug, a ring's stop or a new kick eventfd lose a request. */
static void test_reconfigure(const void *options)
{
    const struct vhost_user_region more = {0x40000000, 0x1000, CLIENT_USER_BASE + 0x40000000, 0x1000};
    struct blk_server server;
    struct blk_client client;
    unsigned base;

    blk_server_start(&server, NULL);
    blk_client_start(&client, &server, options);
    blk_client_check(&client);
    g_assert_cmpint(vhost_user_frontend_add_mem_reg(&client.frontend, &more, client.ram_fd), ==, 0);
    blk_client_check(&client);
    g_assert_cmpint(vhost_user_frontend_rem_mem_reg(&client.frontend, &more), ==, 0);
    blk_client_check(&client);
    g_assert_cmpint(vhost_user_frontend_get_vring_base(&client.frontend, 0, &base), ==, 0);
    client.ring[0].config.base = base;
    fd_close(&client.kick[0]);
    client.kick[0] = fd_eventfd_create();
    fd_close(&client.call[0]);
    client.call[0] = fd_eventfd_create();
    g_assert_cmpint(blk_client_start_queue(&client, 0), ==, 0);
    blk_client_check(&client);
    g_assert_cmpint(vhost_user_frontend_set_vring_enable(&client.frontend, 0, false), ==, 0);
    blk_kick(&client, 0); /* a kick while disabled must not be lost */
    g_assert_cmpint(vhost_user_frontend_set_vring_enable(&client.frontend, 0, true), ==, 0);
    blk_client_check(&client);
    blk_client_close(&client);
    blk_server_stop(&server);
}

/* Broken: RESET_DEVICE or status 0 leaves something of the old life. */
static void test_reset(void)
{
    struct blk_server server;
    struct blk_client client;
    uint64_t features;
    uint8_t status;

    blk_server_start(&server, NULL);
    blk_client_start(&client, &server, &split_options);
    blk_client_check(&client);
    for (unsigned i = 0; i < 2; i++) {
        g_assert_cmpint(vhost_user_frontend_get_features(&client.frontend, &features), ==, 0);
        g_assert_cmpint(vhost_user_frontend_set_status(&client.frontend, 15), ==, 0);
        g_assert_cmpint(i == 0 ? vhost_user_frontend_reset_device(&client.frontend)
                               : vhost_user_frontend_set_status(&client.frontend, 0),
                        ==, 0);
        g_assert_cmpint(vhost_user_frontend_get_status(&client.frontend, &status), ==, 0);
        g_assert_cmpuint(status, ==, 0);
        features &= ~VHOST_USER_BIT(VIRTIO_F_RING_PACKED_BIT);
        g_assert_cmpint(vhost_user_frontend_set_features(&client.frontend, features), ==, 0);
        ring_driver_init(&client.ring[0], client.ram, 0x1000, CLIENT_QUEUE_SIZE, false);
        client.ring[0].config.event_idx = true;
        g_assert_cmpint(blk_client_start_queue(&client, 0), ==, 0);
        blk_client_check(&client);
    }
    blk_client_close(&client);
    blk_server_stop(&server);
}

/* ---- start failures: one line with what, where and the cure, and exit status 2 ---- */

static void assert_fails(const char *image, const char *option, const char *message)
{
    g_autofree char *image_option = g_strdup_printf("--image=%s", image);
    const char *const arguments[] = {"--fd=3", image_option, option, NULL};
    g_autofree char *log = NULL;
    int sockets[2], fd = 3;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), ==, 0);
    if (sockets[0] != fd)
        g_assert_cmpint(dup2(sockets[0], fd), ==, fd);
    g_assert_cmpint(blk_run(arguments, &fd, 1, &log), ==, 2);
    if (!strstr(log, message))
        g_error("'%s' is not in: %s", message, log);
    g_assert_true(strchr(log, '\n') == log + strlen(log) - 1); /* one line */
    fd_close_all(sockets, 2);
}

static void test_bad_images(void)
{
    g_autofree char *folder = g_dir_make_tmp("bulkhead-blk-XXXXXX", NULL);
    g_autofree char *odd = g_build_filename(folder, "odd", NULL);
    g_autofree char *empty = g_build_filename(folder, "empty", NULL);
    g_autofree char *missing = g_build_filename(folder, "missing", NULL);

    g_assert_true(g_file_set_contents(odd, "not a disk", -1, NULL));
    g_assert_true(g_file_set_contents(empty, "", 0, NULL));
    assert_fails(odd, NULL, "has 10 bytes, which is no multiple of 512");
    assert_fails(empty, NULL, "is empty; make it with");
    assert_fails(missing, NULL, "cannot be opened: No such file or directory");
    assert_fails(folder, "--readonly", "is neither a file nor a block device");
    assert_fails("/dev/null", NULL, "is neither a file nor a block device");
    assert_fails(odd, "--format=qcow2", "only 'raw' is");
    assert_fails(odd, "--num-queues=0", "is no number of queues");
    assert_fails(odd, "--frobnicate", "unknown option '--frobnicate'");
    assert_fails(odd, "--overlay-fd=99", "descriptor 99 is not open");
    g_unlink(odd);
    g_unlink(empty);
    g_rmdir(folder);
}

/* Broken: two machines write to one image. */
static void test_lock(void)
{
    struct blk_server server;
    g_autofree char *pid = NULL;

    blk_server_start(&server, NULL);
    pid = g_strdup_printf("is in use by bulkhead-blk (process %d)", server.pid);
    assert_fails(server.image, NULL, pid);
    assert_fails(server.image, "--readonly", pid);
    blk_server_stop(&server);
}

/* Broken: readers exclude one another. */
static void test_shared_lock(void)
{
    const char *const readonly[] = {"--readonly", NULL};
    struct blk_server server;
    struct blk_client client;
    g_autofree char *image = NULL, *socket = NULL, *pid = NULL;
    g_autofree char *log = NULL;
    int sockets[2];

    blk_server_start(&server, readonly);
    pid = g_strdup_printf("is in use by bulkhead-blk (process %d)", server.pid);
    assert_fails(server.image, NULL, pid);
    image = g_strdup_printf("--image=%s", server.image);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), ==, 0);
    socket = g_strdup_printf("--fd=%d", sockets[0]);
    fd_close(&sockets[1]); /* it starts, finds its front-end gone, and ends */
    const char *const arguments[] = {image, socket, "--readonly", NULL};
    g_assert_cmpint(blk_run(arguments, sockets, 1, &log), ==, 0);
    fd_close(&sockets[0]);
    blk_client_start(&client, &server, &split_options);
    blk_client_check(&client);
    blk_client_close(&client);
    blk_server_stop(&server);
}

static bool log_has(const uint8_t *log, gpa_t gpa)
{
    return log[gpa >> 15] >> (gpa >> 12 & 7) & 1;
}

/* Broken: writes of the server are missing in the log that it shares (migration and the translator would lose them), or it
 * logs what it did not write, or when it was not asked to. */
static void test_log(const void *options)
{
    const uint64_t log_bytes = memory_log_bytes(CLIENT_RAM_BYTES);
    cleanup_fd int fd = memfd_create("log", MFD_CLOEXEC);
    struct vhost_user_vring_addr addr = {.flags = VHOST_USER_VRING_F_LOG};
    struct blk_server server;
    struct blk_client client;
    uint64_t features;
    uint8_t *log;

    g_assert_cmpint(ftruncate(fd, (off_t)log_bytes), ==, 0);
    log = mmap(NULL, log_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    blk_server_start(&server, NULL);
    blk_client_start(&client, &server, options);
    const struct virtqueue_config *ring = &client.ring[0].config;
    g_assert_cmpint(vhost_user_frontend_set_log_base(&client.frontend, fd, 0, log_bytes), ==, 0);
    g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_IN, 0, 8192), ==, VIRTIO_BLK_S_OK);
    g_assert_true(log_has(log, CLIENT_DATA_GPA) && log_has(log, CLIENT_DATA_GPA + 4096));
    g_assert_true(log_has(log, CLIENT_STATUS_GPA));
    g_assert_false(log_has(log, CLIENT_DATA_GPA + 8192));
    g_assert_false(log_has(log, ring->device_gpa)); /* the ring itself only on request */
    memset(log, 0, log_bytes);
    g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_OUT, 0, 8192), ==, VIRTIO_BLK_S_OK);
    g_assert_false(log_has(log, CLIENT_DATA_GPA));
    g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_GET_ID, 0, 20), ==, VIRTIO_BLK_S_OK);
    g_assert_true(log_has(log, CLIENT_DATA_GPA));
    /* Both switches move while the queue runs. */
    addr.desc_user = CLIENT_USER_BASE + ring->desc_gpa;
    addr.avail_user = CLIENT_USER_BASE + ring->driver_gpa;
    addr.used_user = CLIENT_USER_BASE + ring->device_gpa;
    addr.log_gpa = ring->device_gpa;
    g_assert_cmpint(vhost_user_frontend_set_vring_addr(&client.frontend, &addr), ==, 0);
    blk_client_check(&client);
    g_assert_true(log_has(log, ring->packed ? ring->desc_gpa : ring->device_gpa));
    g_assert_cmpint(vhost_user_frontend_get_features(&client.frontend, &features), ==, 0);
    features &= ~VHOST_USER_BIT(VHOST_F_LOG_ALL);
    if (!ring->packed)
        features &= ~VHOST_USER_BIT(VIRTIO_F_RING_PACKED_BIT);
    g_assert_cmpint(vhost_user_frontend_set_features(&client.frontend, features), ==, 0);
    memset(log, 0, log_bytes);
    blk_client_check(&client);
    for (uint64_t i = 0; i < log_bytes; i++)
        g_assert_cmpuint(log[i], ==, 0);
    /* A log that is not in its file is refused, which ends the session; the server goes on. */
    g_assert_cmpint(vhost_user_frontend_set_log_base(&client.frontend, fd, 0, log_bytes + 1), <, 0);
    blk_client_close(&client);
    blk_client_start(&client, &server, options);
    blk_client_check(&client);
    blk_client_close(&client);
    munmap(log, log_bytes);
    blk_server_stop(&server);
}

#define BOTH(name, function)                                                                                 \
    g_test_add_data_func("/block/split/" name, &split_options, function);                                    \
    g_test_add_data_func("/block/packed/" name, &packed_options, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    BOTH("read-write", test_read_write);
    BOTH("bad-requests", test_bad_requests);
    BOTH("any-layout", test_any_layout);
    BOTH("reconfigure", test_reconfigure);
    BOTH("log", test_log);
    g_test_add_data_func("/block/split/batches-on-queues", NULL, test_batches_on_queues);
    g_test_add_data_func("/block/packed/batches-on-queues", "packed", test_batches_on_queues);
    g_test_add_func("/block/config-and-id", test_config_and_id);
    g_test_add_func("/block/write-through", test_write_through);
    g_test_add_func("/block/discard-and-zeroes", test_discard_and_zeroes);
    g_test_add_func("/block/overlay", test_overlay);
    g_test_add_func("/block/readonly", test_readonly);
    g_test_add_func("/block/reset", test_reset);
    g_test_add_func("/block/bad-images", test_bad_images);
    g_test_add_func("/block/lock", test_lock);
    g_test_add_func("/block/shared-lock", test_shared_lock);
    return g_test_run();
}
