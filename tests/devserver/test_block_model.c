/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many requests of all kinds at once, on several queues, against a model of the disk: what a read returns must be what
 * was written last. Random, but the same in each run.
 *
 * Each sector holds a stamp, 128 times: unique per write, 0 after zeroes, anything after a discard. Requests in flight at
 * the same time never overlap, because then a disk may do either first.
 */
#include <glib.h>
#include <linux/virtio_blk.h>
#include <string.h>
#include <sys/mman.h>

#include "protocol/base/fd.h"
#include "tests/devserver/blk_client.h"

#define QUEUES         4
#define SLOTS          20 /* five per queue: each may take three of its 16 descriptors */
#define SLOT_BYTES     0x10000
#define SECTORS_MAX    64
#define REQUESTS       6000
#define DATA_BASE      0x200000
#define STAMP_UNKNOWN  UINT32_MAX
#define STAMP_ORIGINAL 0x80000000u

struct slot {
    bool busy;
    uint32_t type, stamp;
    uint64_t sector, sectors;
    uint16_t id;
};

struct model {
    struct blk_client client;
    struct slot slots[SLOTS];
    uint32_t stamps[IMAGE_SECTORS];
    GRand *random;
    uint32_t last_stamp;
    unsigned begun, in_flight, checked;
};

static unsigned pick(struct model *model, unsigned limit)
{
    return (unsigned)g_rand_int_range(model->random, 0, (gint32)limit);
}

static uint8_t *slot_data(struct model *model, unsigned at)
{
    return model->client.ram + DATA_BASE + at * SLOT_BYTES;
}

static bool overlaps(const struct model *model, uint64_t sector, uint64_t sectors)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct slot *slot = &model->slots[i];

        if (slot->busy && sector < slot->sector + slot->sectors && slot->sector < sector + sectors)
            return true;
    }
    return false;
}

static void fill(uint8_t *data, uint64_t sectors, uint32_t stamp)
{
    for (uint64_t i = 0; i < sectors * 128; i++)
        memcpy(data + i * 4, &stamp, 4);
}

static void choose(struct model *model, struct slot *slot)
{
    static const uint32_t types[] = {VIRTIO_BLK_T_IN,           VIRTIO_BLK_T_IN,     VIRTIO_BLK_T_IN,
                                     VIRTIO_BLK_T_OUT,          VIRTIO_BLK_T_OUT,    VIRTIO_BLK_T_FLUSH,
                                     VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_DISCARD};

    do {
        slot->sectors = 1 + pick(model, pick(model, 3) ? 8 : SECTORS_MAX);
        slot->sector = pick(model, IMAGE_SECTORS - SECTORS_MAX);
    } while (overlaps(model, slot->sector, slot->sectors));
    slot->type = types[pick(model, G_N_ELEMENTS(types))];
    if (slot->type == VIRTIO_BLK_T_FLUSH)
        slot->sectors = 0;
}

/* The data of a request, in one to three pieces. */
static unsigned add_data(struct model *model, struct ring_buffer *buffers, uint64_t gpa, uint64_t bytes,
                         unsigned flags)
{
    unsigned count = 0;

    while (bytes > 0) {
        uint64_t part = count < 2 ? 1 + pick(model, (unsigned)bytes) : bytes;

        buffers[count++] = (struct ring_buffer){gpa, (uint32_t)part, flags};
        gpa += part;
        bytes -= part;
    }
    return count;
}

/* Writes the buffers as an indirect table of the slot. */
static struct ring_buffer make_table(struct model *model, unsigned at, const struct ring_buffer *buffers,
                                     unsigned count)
{
    uint64_t gpa = CLIENT_TABLE_GPA + at * 256;
    bool packed = model->client.ring[0].config.packed;

    for (unsigned i = 0; i < count; i++) {
        uint8_t *entry = model->client.ram + gpa + 16 * i;
        uint16_t flags = (uint16_t)(buffers[i].flags | (i + 1 < count ? RING_NEXT : 0)),
                 next = (uint16_t)(i + 1);

        memcpy(entry, &buffers[i].gpa, 8);
        memcpy(entry + 8, &buffers[i].len, 4);
        memcpy(entry + 12, packed ? &next : &flags, 2);
        memcpy(entry + 14, packed ? &flags : &next, 2);
    }
    return (struct ring_buffer){gpa, 16 * count, RING_INDIRECT};
}

static void begin(struct model *model, unsigned at)
{
    struct slot *slot = &model->slots[at];
    uint64_t data_gpa = DATA_BASE + at * SLOT_BYTES, data_bytes;
    struct ring_buffer buffers[6] = {{CLIENT_HEADER_GPA + at * 16, 16, 0}};
    struct ring_buffer table;
    unsigned count = 1, queue = at / (SLOTS / QUEUES);
    bool ranged;

    choose(model, slot);
    ranged = slot->type == VIRTIO_BLK_T_WRITE_ZEROES || slot->type == VIRTIO_BLK_T_DISCARD;
    const struct virtio_blk_outhdr header = {.type = slot->type, .sector = ranged ? 0 : slot->sector};
    const struct virtio_blk_discard_write_zeroes range = {
        slot->sector, (uint32_t)slot->sectors, slot->type == VIRTIO_BLK_T_WRITE_ZEROES ? pick(model, 2) : 0};
    memcpy(model->client.ram + CLIENT_HEADER_GPA + at * 16, &header, sizeof(header));
    model->client.ram[CLIENT_STATUS_GPA + at] = 0xee;
    data_bytes = ranged ? sizeof(range) : slot->sectors * 512;
    slot->stamp = ++model->last_stamp;
    if (ranged)
        memcpy(slot_data(model, at), &range, sizeof(range));
    else
        fill(slot_data(model, at), slot->sectors, slot->type == VIRTIO_BLK_T_OUT ? slot->stamp : 0x55555555);
    count += add_data(model, buffers + count, data_gpa, data_bytes,
                      slot->type == VIRTIO_BLK_T_IN ? RING_WRITE : 0);
    buffers[count++] = (struct ring_buffer){CLIENT_STATUS_GPA + at, 1, RING_WRITE};
    table = make_table(model, at, buffers, count);
    slot->busy = true;
    if (!model->client.ring[queue].config.packed)
        model->client.ring[queue].next_slot = (uint16_t)(at % (SLOTS / QUEUES)); /* a descriptor that is free */
    slot->id = ring_driver_add(&model->client.ring[queue], &table, 1, (uint16_t)(at % (SLOTS / QUEUES)));
    blk_kick(&model->client, queue);
    model->begun++;
    model->in_flight++;
}

static void check_read(struct model *model, unsigned at)
{
    const struct slot *slot = &model->slots[at];

    for (uint64_t i = 0; i < slot->sectors * 128; i++) {
        uint32_t expected = model->stamps[slot->sector + i / 128], stamp;

        memcpy(&stamp, slot_data(model, at) + i * 4, 4);
        if (expected == STAMP_ORIGINAL)
            expected = (uint32_t)((slot->sector + i / 128) & 0xff) * 0x01010101u;
        if (expected != STAMP_UNKNOWN && stamp != expected)
            g_error("sector %" G_GUINT64_FORMAT " word %u: %08x, not %08x", slot->sector + i / 128,
                    (unsigned)(i % 128), stamp, expected);
        model->checked++;
    }
}

static void end(struct model *model, unsigned at)
{
    struct slot *slot = &model->slots[at];
    uint32_t stamp = slot->type == VIRTIO_BLK_T_OUT            ? slot->stamp
                     : slot->type == VIRTIO_BLK_T_WRITE_ZEROES ? 0
                                                               : STAMP_UNKNOWN;

    g_assert_cmpuint(model->client.ram[CLIENT_STATUS_GPA + at], ==, VIRTIO_BLK_S_OK);
    if (slot->type == VIRTIO_BLK_T_IN)
        check_read(model, at);
    else
        for (uint64_t i = 0; i < slot->sectors; i++)
            model->stamps[slot->sector + i] = stamp;
    slot->busy = false;
    model->in_flight--;
}

/* Ends what one queue has done, at least one request. */
static void collect(struct model *model, unsigned queue)
{
    uint32_t id, len;

    blk_wait_used(&model->client, queue, &id, &len);
    do {
        unsigned at = queue * (SLOTS / QUEUES);

        while (!model->slots[at].busy || model->slots[at].id != id)
            at++;
        g_assert_cmpuint(at, <, (queue + 1) * (SLOTS / QUEUES));
        end(model, at);
    } while (ring_driver_used(&model->client.ring[queue], &id, &len));
}

static bool queue_busy(const struct model *model, unsigned queue)
{
    for (unsigned i = 0; i < SLOTS / QUEUES; i++) {
        if (model->slots[queue * (SLOTS / QUEUES) + i].busy)
            return true;
    }
    return false;
}

static void run(struct model *model)
{
    while (model->begun < REQUESTS || model->in_flight > 0) {
        unsigned queue = pick(model, QUEUES);

        for (unsigned at = 0; at < SLOTS && model->begun < REQUESTS; at++) {
            if (!model->slots[at].busy)
                begin(model, at);
        }
        if (queue_busy(model, queue))
            collect(model, queue);
    }
}

/* Broken: data is lost, mixed up, or goes to the wrong sectors or buffers. */
static void test_model(bool packed, bool with_overlay)
{
    const struct blk_client_options options = {.packed = packed, .queues = QUEUES};
    cleanup_fd int overlay = memfd_create("overlay", MFD_CLOEXEC);
    g_autofree char *option = g_strdup_printf("--overlay-fd=%d", overlay);
    const char *const arguments[] = {"--num-queues=4", with_overlay ? option : NULL, NULL};
    struct blk_server server;
    struct model *model = g_new0(struct model, 1);

    model->random = g_rand_new_with_seed(packed ? 1 : 2);
    for (unsigned i = 0; i < IMAGE_SECTORS; i++)
        model->stamps[i] = STAMP_ORIGINAL;
    blk_server_start(&server, arguments);
    blk_client_start(&model->client, &server, &options);
    run(model);
    g_assert_cmpuint(model->checked, >, REQUESTS);
    blk_client_close(&model->client);
    blk_server_stop(&server);
    g_rand_free(model->random);
    g_free(model);
}

static void test_split(void)
{
    test_model(false, false);
}

static void test_packed(void)
{
    test_model(true, false);
}

static void test_split_overlay(void)
{
    test_model(false, true);
}

static void test_packed_overlay(void)
{
    test_model(true, true);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/block-model/split", test_split);
    g_test_add_func("/block-model/packed", test_packed);
    g_test_add_func("/block-model/split-overlay", test_split_overlay);
    g_test_add_func("/block-model/packed-overlay", test_packed_overlay);
    return g_test_run();
}
