/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead-blk is killed at random moments while requests are in flight, and a successor takes over with the in-flight
 * memory: each request is answered once, well, and after it was carried out. And what in-flight memory is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/virtio_blk.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "protocol/virtqueue_inflight.h"
#include "tests/devserver/blk_client.h"

#define SLOTS         5 /* requests at a time, per queue */
#define SLOT_BYTES    4096
#define SLOT_SECTORS  (SLOT_BYTES / 512)
#define KILLS         25
#define HEADER_OFFSET SLOT_BYTES
#define STATUS_OFFSET (SLOT_BYTES + 64)

struct slot {
    bool published;
    uint32_t generation;
};

struct load {
    struct blk_server server;
    struct blk_client client;
    struct slot slots[CLIENT_QUEUES_MAX][SLOTS];
    uint64_t answered;
    GRand *random;
};

static uint64_t slot_gpa(unsigned queue, unsigned slot)
{
    return CLIENT_DATA_GPA + (queue * SLOTS + slot) * 0x2000u;
}

static uint64_t slot_sector(unsigned queue, unsigned slot)
{
    return (queue * SLOTS + slot) * SLOT_SECTORS;
}

/* Writes the next generation of a slot's data to its own sectors. */
static void publish(struct load *load, unsigned queue, unsigned at)
{
    struct blk_client *client = &load->client;
    struct ring_driver *ring = &client->ring[queue];
    struct slot *slot = &load->slots[queue][at];
    uint64_t gpa = slot_gpa(queue, at);
    const struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_OUT, .sector = slot_sector(queue, at)};
    const struct ring_buffer buffers[3] = {
        {gpa + HEADER_OFFSET, sizeof(header), 0}, {gpa, SLOT_BYTES, 0}, {gpa + STATUS_OFFSET, 1, RING_WRITE}};
    uint16_t id = (uint16_t)(at * 3);

    slot->published = true;
    slot->generation++;
    memcpy(client->ram + gpa + HEADER_OFFSET, &header, sizeof(header));
    client->ram[gpa + STATUS_OFFSET] = 0xee;
    for (unsigned i = 0; i < SLOT_BYTES; i += sizeof(slot->generation))
        memcpy(client->ram + gpa + i, &slot->generation, sizeof(slot->generation));
    if (ring->config.packed) {
        ring_driver_add(ring, buffers, 3, id);
        return;
    }
    for (unsigned i = 0; i < 3; i++)
        ring_driver_desc(ring, (uint16_t)(id + i), buffers[i].gpa, buffers[i].len,
                         buffers[i].flags | (i < 2 ? RING_NEXT : 0), (uint16_t)(id + i + 1));
    ring_driver_publish(ring, id);
}

static void publish_all(struct load *load)
{
    for (unsigned queue = 0; queue < load->client.queues; queue++) {
        for (unsigned i = 0; i < SLOTS; i++) {
            if (!load->slots[queue][i].published)
                publish(load, queue, i);
        }
        blk_kick(&load->client, queue);
    }
}

static void take_answer(struct load *load, unsigned queue, uint32_t id)
{
    g_assert_cmpuint(id % 3, ==, 0);
    g_assert_cmpuint(id / 3, <, SLOTS);
    struct slot *slot = &load->slots[queue][id / 3];
    g_assert_true(slot->published); /* else it is answered twice */
    g_assert_cmpuint(load->client.ram[slot_gpa(queue, id / 3) + STATUS_OFFSET], ==, VIRTIO_BLK_S_OK);
    slot->published = false;
    load->answered++;
}

/* Takes what is there, without waiting. */
static void reap(struct load *load)
{
    uint32_t id, length;

    for (unsigned queue = 0; queue < load->client.queues; queue++) {
        while (ring_driver_used(&load->client.ring[queue], &id, &length))
            take_answer(load, queue, id);
    }
}

static void reap_rest(struct load *load)
{
    uint32_t id, length;

    for (unsigned queue = 0; queue < load->client.queues; queue++) {
        for (unsigned i = 0; i < SLOTS; i++) {
            while (load->slots[queue][i].published) {
                blk_wait_used(&load->client, queue, &id, &length);
                take_answer(load, queue, id);
            }
        }
    }
}

/* What was answered is in the image. */
static void check_image(struct load *load)
{
    cleanup_fd int fd = open(load->server.image, O_RDONLY | O_CLOEXEC);
    uint8_t data[SLOT_BYTES];

    for (unsigned queue = 0; queue < load->client.queues; queue++) {
        for (unsigned i = 0; i < SLOTS; i++) {
            g_assert_cmpint(pread(fd, data, SLOT_BYTES, (off_t)slot_sector(queue, i) * 512), ==, SLOT_BYTES);
            g_assert_cmpint(memcmp(data, load->client.ram + slot_gpa(queue, i), SLOT_BYTES), ==, 0);
        }
    }
}

static void kill_and_replace(struct load *load)
{
    g_usleep((gulong)g_rand_int_range(load->random, 0, 300)); /* the moment of death: any */
    blk_server_kill(&load->server);
    reap(load);
    blk_server_restart(&load->server);
    /* A front-end that lost its back-end does not know the base. */
    for (unsigned i = 0; i < load->client.queues; i++)
        load->client.ring[i].config.base = load->client.options.packed ? 3u | 7u << 16 : 0x4321;
    blk_client_reconnect(&load->client, &load->server);
}

struct shape {
    bool packed;
    unsigned queues;
};

/* Broken: the guest sees an I/O error, a hang or corruption when a disk server dies. */
static void test_kills(const void *opaque)
{
    const struct shape *shape = opaque;
    const struct blk_client_options options = {.packed = shape->packed, .queues = shape->queues};
    g_autofree char *queues = g_strdup_printf("--num-queues=%u", shape->queues);
    const char *arguments[] = {queues, NULL};
    struct load load = {.random = g_rand_new_with_seed(shape->queues)};

    blk_server_start(&load.server, arguments);
    blk_client_open(&load.client, &load.server, &options);
    blk_client_get_inflight(&load.client);
    blk_client_set_memory(&load.client);
    for (unsigned i = 0; i < shape->queues; i++)
        g_assert_cmpint(blk_client_start_queue(&load.client, i), ==, 0);
    for (unsigned i = 0; i < KILLS; i++) {
        publish_all(&load);
        kill_and_replace(&load);
        if (i % 2)
            reap(&load);
    }
    reap_rest(&load);
    g_assert_cmpuint(load.answered, >=, SLOTS * shape->queues);
    check_image(&load);
    publish_all(&load); /* and it goes on as ever */
    reap_rest(&load);
    check_image(&load);
    blk_client_close(&load.client);
    blk_server_stop(&load.server);
    g_rand_free(load.random);
}

/* Broken: a guest's reset, or an orderly stop, is taken for a death: requests of the past come back. */
static void test_orderly_stop(const void *opaque)
{
    const struct shape *shape = opaque;
    const struct blk_client_options options = {.packed = shape->packed};
    struct blk_server server;
    struct blk_client client;
    uint32_t base;

    blk_server_start(&server, NULL);
    blk_client_open(&client, &server, &options);
    blk_client_get_inflight(&client);
    blk_client_set_memory(&client);
    g_assert_cmpint(blk_client_start_queue(&client, 0), ==, 0);
    for (unsigned i = 0; i < 5; i++)
        g_assert_cmpuint(blk_request(&client, 0, VIRTIO_BLK_T_FLUSH, 0, 0), ==, VIRTIO_BLK_S_OK);
    g_assert_cmpint(vhost_user_frontend_get_vring_base(&client.frontend, 0, &base), ==, 0);
    ring_driver_init(&client.ring[0], client.ram, 0x1000, CLIENT_QUEUE_SIZE,
                     shape->packed); /* a new driver */
    client.ring[0].config.event_idx = true;
    g_assert_cmpint(blk_client_start_queue(&client, 0), ==, 0);
    blk_client_check(&client);
    g_assert_cmpint(vhost_user_frontend_get_vring_base(&client.frontend, 0, &client.ring[0].config.base), ==,
                    0);
    g_assert_cmpint(blk_client_start_queue(&client, 0), ==, 0); /* the same driver goes on */
    blk_client_check(&client);
    blk_client_close(&client);
    blk_server_stop(&server);
}

/* --- what is refused -------------------------------------------------------------------------------------------- */

static int offer(struct blk_client *client, uint64_t bytes, uint64_t offset, unsigned queues, unsigned size,
                 int fd)
{
    const struct vhost_user_inflight info = {bytes, offset, (uint16_t)queues, (uint16_t)size};

    return vhost_user_frontend_set_inflight_fd(&client->frontend, &info, fd);
}

/* Broken: a front-end makes the server map what is not there, or die of it. */
static void test_refusals(void)
{
    struct blk_server server;
    struct blk_client client;
    cleanup_fd int memory = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    cleanup_fd int unsealed = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    uint64_t bytes = inflight_region_bytes(false, CLIENT_QUEUE_SIZE);
    struct vhost_user_inflight info;
    int fd = -1;

    g_assert_cmpint(ftruncate(memory, 8192), ==, 0);
    g_assert_cmpint(ftruncate(unsealed, 8192), ==, 0);
    g_assert_cmpint(fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK), ==, 0);
    blk_server_start(&server, NULL);
    blk_client_open(&client, &server, &(struct blk_client_options){0});
    g_assert_cmpint(offer(&client, bytes, 0, 0, CLIENT_QUEUE_SIZE, memory), ==, -EREMOTEIO);
    g_assert_cmpint(offer(&client, bytes, 0, 2, CLIENT_QUEUE_SIZE, memory), ==, -EREMOTEIO);
    g_assert_cmpint(offer(&client, bytes, 0, 1, 0, memory), ==, -EREMOTEIO);
    g_assert_cmpint(offer(&client, bytes, 0, 1, 65535, memory), ==, -EREMOTEIO);
    g_assert_cmpint(offer(&client, bytes, 0, 1, CLIENT_QUEUE_SIZE, unsealed), ==, -EREMOTEIO);
    g_assert_cmpint(offer(&client, bytes, 0, 1, CLIENT_QUEUE_SIZE, client.kick[0]), ==, -EREMOTEIO);
    g_assert_cmpint(offer(&client, bytes, 64, 1, CLIENT_QUEUE_SIZE, memory), ==, -EREMOTEIO);
    g_assert_cmpint(offer(&client, bytes, 8192, 1, CLIENT_QUEUE_SIZE, memory), ==, -EREMOTEIO);
    g_assert_cmpint(offer(&client, bytes, UINT64_MAX - 4095, 1, CLIENT_QUEUE_SIZE, memory), ==, -EREMOTEIO);
    g_assert_cmpint(offer(&client, UINT64_MAX, 4096, 1, CLIENT_QUEUE_SIZE, memory), ==, -EREMOTEIO);
    g_assert_cmpint(offer(&client, bytes - 64, 0, 1, CLIENT_QUEUE_SIZE, memory), ==, -EREMOTEIO);
    g_assert_cmpint(offer(&client, bytes, 0, 1, CLIENT_QUEUE_SIZE, memory), ==, 0);
    for (unsigned i = 0; i < 100; i++) { /* repeated questions do not pile up */
        g_assert_cmpint(vhost_user_frontend_get_inflight_fd(&client.frontend, 1, 4, &info, &fd), ==, 0);
        fd_close(&fd);
    }
    blk_client_set_memory(&client);
    g_assert_cmpint(blk_client_start_queue(&client, 0), ==, -EREMOTEIO); /* 16 entries, and memory for 4 */
    g_assert_cmpint(offer(&client, bytes, 0, 1, CLIENT_QUEUE_SIZE, memory), ==, 0);
    g_assert_cmpint(blk_client_start_queue(&client, 0), ==, 0);
    blk_client_check(&client);
    g_assert_cmpint(offer(&client, bytes, 0, 1, CLIENT_QUEUE_SIZE, memory), ==,
                    -EREMOTEIO); /* while it runs */
    blk_client_check(&client);
    blk_client_close(&client);
    blk_server_stop(&server);
}

/* Broken: memory that was checked for split rings is used for packed ones, which need more: a write behind its end. */
static void test_other_format(void)
{
    struct blk_server server;
    struct blk_client client;
    cleanup_fd int memory = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    uint64_t features;

    g_assert_cmpint(ftruncate(memory, 8192), ==, 0);
    g_assert_cmpint(fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK), ==, 0);
    blk_server_start(&server, NULL);
    blk_client_open(&client, &server, &(struct blk_client_options){0});
    g_assert_cmpint(
        offer(&client, inflight_region_bytes(false, CLIENT_QUEUE_SIZE), 0, 1, CLIENT_QUEUE_SIZE, memory), ==,
        0);
    g_assert_cmpint(vhost_user_frontend_get_features(&client.frontend, &features), ==, 0);
    g_assert_cmpint(vhost_user_frontend_set_features(&client.frontend, features), ==, 0); /* packed, too */
    ring_driver_init(&client.ring[0], client.ram, 0x1000, CLIENT_QUEUE_SIZE, true);
    blk_client_set_memory(&client);
    g_assert_cmpint(blk_client_start_queue(&client, 0), ==, -EREMOTEIO);
    blk_server_expect_log(&server, "the in-flight memory is too small for packed rings");
    blk_client_close(&client);
    blk_server_stop(&server);
}

int main(int argc, char **argv)
{
    static const struct shape split_1 = {false, 1}, split_4 = {false, 4}, packed_1 = {true, 1},
                              packed_4 = {true, 4};

    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/block-inflight/kills/split-1", &split_1, test_kills);
    g_test_add_data_func("/block-inflight/kills/split-4", &split_4, test_kills);
    g_test_add_data_func("/block-inflight/kills/packed-1", &packed_1, test_kills);
    g_test_add_data_func("/block-inflight/kills/packed-4", &packed_4, test_kills);
    g_test_add_data_func("/block-inflight/orderly-stop/split", &split_1, test_orderly_stop);
    g_test_add_data_func("/block-inflight/orderly-stop/packed", &packed_1, test_orderly_stop);
    g_test_add_func("/block-inflight/refusals", test_refusals);
    g_test_add_func("/block-inflight/other-format", test_other_format);
    return g_test_run();
}
