/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtqueues, split and packed: what an honest driver publishes arrives, and every lie of the list in the
 * threat notes (loops, indices out of range, duplicates, nested or odd indirect tables, ...) breaks the queue
 * and nothing else.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/protocol/ring_driver.h"

#define MEMORY_BYTES (1u << 20)
#define QUEUE_SIZE   8
#define RINGS_GPA    0x1000
#define DATA_GPA     0x10000
#define TABLE_GPA    0x20000
#define IOV_MAX_HERE 16

struct fixture {
    uint8_t *memory;
    struct memory_map map;
    struct ring_driver driver;
    struct virtqueue vq;
    struct virtqueue_element element;
    struct iovec iov[IOV_MAX_HERE];
    bool packed;
};

static void start(struct fixture *f, uint16_t size, bool event_idx)
{
    ring_driver_init(&f->driver, f->memory, RINGS_GPA, size, f->packed);
    f->driver.config.event_idx = event_idx;
    g_assert_cmpint(virtqueue_start(&f->vq, &f->driver.config, &f->map), ==, 0);
}

static void set_up(struct fixture *f, const void *packed)
{
    f->packed = packed != NULL;
    f->memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(f->memory != MAP_FAILED);
    g_assert_cmpint(memory_map_init(&f->map), ==, 0);
    g_assert_cmpint(memory_map_add_host(&f->map, 0, MEMORY_BYTES, f->memory), ==, 0);
    f->element.iov = f->iov;
    f->element.iov_max = IOV_MAX_HERE;
    start(f, QUEUE_SIZE, false);
}

static void tear_down(struct fixture *f, const void *packed)
{
    virtqueue_stop(&f->vq);
    memory_map_finish(&f->map);
    munmap(f->memory, MEMORY_BYTES);
}

static int pop(struct fixture *f)
{
    return virtqueue_pop(&f->vq, &f->element);
}

static void assert_broken(struct fixture *f, const char *why)
{
    g_assert_cmpint(pop(f), <, 0);
    g_assert_cmpstr(f->vq.broken_why, ==, why);
    /* For ever, whatever the driver does next. */
    g_assert_cmpint(pop(f), <, 0);
    g_assert_false(virtqueue_has_available(&f->vq));
}

static const struct ring_buffer request[] = {
    {DATA_GPA, 16, 0},
    {DATA_GPA + 0x1000, 512, RING_WRITE},
    {DATA_GPA + 0x2000, 1, RING_WRITE},
};

/* Broken: guests get other requests than they published, or their answers go to other requests. */
static void test_round_trip(struct fixture *f, const void *packed)
{
    for (unsigned round = 0; round < 100; round++) { /* wraps the ring many times, at all offsets */
        uint16_t id = ring_driver_add(&f->driver, request, 3, (uint16_t)(round % QUEUE_SIZE));
        uint32_t used_id, used_len;

        g_assert_cmpint(pop(f), ==, 1);
        g_assert_cmpuint(f->element.id, ==, id);
        g_assert_cmpuint(f->element.readable, ==, 1);
        g_assert_cmpuint(f->element.writable, ==, 2);
        g_assert_cmpuint(f->element.readable_bytes, ==, 16);
        g_assert_cmpuint(f->element.writable_bytes, ==, 513);
        g_assert_true(f->iov[1].iov_base == f->memory + DATA_GPA + 0x1000);
        g_assert_cmpint(pop(f), ==, 0);
        virtqueue_push(&f->vq, f->element.id, 513);
        g_assert_false(ring_driver_used(&f->driver, &used_id, &used_len)); /* not before the flush */
        g_assert_true(virtqueue_flush(&f->vq));
        g_assert_true(ring_driver_used(&f->driver, &used_id, &used_len));
        g_assert_cmpuint(used_id, ==, id);
        g_assert_cmpuint(used_len, ==, 513);
        g_assert_false(virtqueue_flush(&f->vq));
    }
}

/* Broken: with requests that finish in another order the driver frees the wrong buffers. */
static void test_out_of_order(struct fixture *f, const void *packed)
{
    uint16_t ids[4];
    uint32_t id, len;

    for (unsigned i = 0; i < 4; i++) {
        ring_driver_add(&f->driver, request, 2, (uint16_t)i);
        g_assert_cmpint(pop(f), ==, 1);
        ids[i] = f->element.id;
    }
    for (unsigned i = 0; i < 4; i++)
        virtqueue_push(&f->vq, ids[3 - i], i);
    g_assert_true(virtqueue_flush(&f->vq));
    for (unsigned i = 0; i < 4; i++) {
        g_assert_true(ring_driver_used(&f->driver, &id, &len));
        g_assert_cmpuint(id, ==, ids[3 - i]);
        g_assert_cmpuint(len, ==, i);
    }
}

/* Broken: a device that needs more buffers than are there loses those that it has taken. */
static void test_unpop(struct fixture *f, const void *packed)
{
    uint16_t first;

    for (unsigned i = 0; i < 3; i++) { /* brings the packed position near the ring's end */
        ring_driver_add(&f->driver, request, 2, 0);
        g_assert_cmpint(pop(f), ==, 1);
        virtqueue_push(&f->vq, f->element.id, 0);
        virtqueue_flush(&f->vq);
    }
    first = ring_driver_add(&f->driver, request, 3, 5);
    g_assert_cmpint(pop(f), ==, 1);
    virtqueue_unpop(&f->vq, &f->element);
    g_assert_cmpint(pop(f), ==, 1);
    g_assert_cmpuint(f->element.id, ==, first);
    g_assert_cmpuint(f->element.descriptors, ==, 3);
}

/* Broken: a stop and start (memory hot-plug, migration) repeats or skips requests. */
static void test_stop_and_start(struct fixture *f, const void *packed)
{
    for (unsigned round = 0; round < 20; round++) {
        uint16_t id = ring_driver_add(&f->driver, request, 3, 1);
        uint32_t used_id, used_len;

        g_assert_cmpint(pop(f), ==, 1);
        virtqueue_push(&f->vq, f->element.id, 7);
        f->driver.config.base = virtqueue_stop(&f->vq);
        g_assert_false(virtqueue_started(&f->vq));
        g_assert_cmpint(virtqueue_start(&f->vq, &f->driver.config, &f->map), ==, 0);
        g_assert_true(ring_driver_used(&f->driver, &used_id, &used_len));
        g_assert_cmpuint(used_id, ==, id);
        g_assert_cmpint(pop(f), ==, 0);
    }
}

/* Broken: no kick when the device sleeps (hang), or a kick per request when it is awake (slow). */
static void test_kick_suppression(struct fixture *f, const void *packed)
{
    for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
        virtqueue_stop(&f->vq);
        start(f, QUEUE_SIZE, event_idx);
        g_assert_false(virtqueue_enable_kick(&f->vq));
        g_assert_true(ring_driver_wants_kick(&f->driver));
        ring_driver_add(&f->driver, request, 1, 0);
        virtqueue_disable_kick(&f->vq);
        g_assert_cmpint(pop(f), ==, 1);
        g_assert_false(ring_driver_wants_kick(&f->driver));
        ring_driver_add(&f->driver, request, 1, 1);
        g_assert_true(virtqueue_enable_kick(&f->vq)); /* came without a kick: look again */
        g_assert_cmpint(pop(f), ==, 1);
        g_assert_false(virtqueue_enable_kick(&f->vq));
        g_assert_true(ring_driver_wants_kick(&f->driver));
    }
}

/* Broken: lost interrupts, or one where the driver asked for none. */
static void test_notification(struct fixture *f, const void *packed)
{
    ring_driver_set_notify(&f->driver, false);
    ring_driver_add(&f->driver, request, 1, 0);
    g_assert_cmpint(pop(f), ==, 1);
    virtqueue_push(&f->vq, f->element.id, 0);
    g_assert_false(virtqueue_flush(&f->vq));
    ring_driver_set_notify(&f->driver, true);
    ring_driver_add(&f->driver, request, 1, 1);
    g_assert_cmpint(pop(f), ==, 1);
    virtqueue_push(&f->vq, f->element.id, 0);
    g_assert_true(virtqueue_flush(&f->vq));
}

/* Broken: with event_idx the device notifies when the driver has not asked for it yet, or not when it has. */
static void test_notification_event(struct fixture *f, const void *packed)
{
    uint32_t id, len;
    uint16_t event = packed ? 3 | 1u << 15 : 3;

    virtqueue_stop(&f->vq);
    start(f, QUEUE_SIZE, true);
    ring_driver_set_event(&f->driver, packed ? 1u << 15 : 0);
    for (unsigned i = 0; i < 5; i++) {
        bool expected = i == 0 || i == 3; /* element 0 makes the state known; 3 is the one asked for */

        if (i == 1)
            ring_driver_set_event(&f->driver, event);
        ring_driver_add(&f->driver, request, 1, (uint16_t)i);
        g_assert_cmpint(pop(f), ==, 1);
        virtqueue_push(&f->vq, f->element.id, 0);
        g_assert_true(virtqueue_flush(&f->vq) == expected);
        g_assert_true(ring_driver_used(&f->driver, &id, &len));
    }
}

static void write_table(struct fixture *f, unsigned index, uint64_t addr, uint32_t len, unsigned flags,
                        unsigned next)
{
    uint8_t *at = f->memory + TABLE_GPA + 16 * index;
    uint16_t flags16 = (uint16_t)flags, next16 = (uint16_t)next;

    memcpy(at, &addr, 8);
    memcpy(at + 8, &len, 4);
    /* packed: id, flags; split: flags, next */
    memcpy(at + 12, f->packed ? &next16 : &flags16, 2);
    memcpy(at + 14, f->packed ? &flags16 : &next16, 2);
}

/* Broken: big requests, which drivers send by indirect tables, fail. */
static void test_indirect(struct fixture *f, const void *packed)
{
    const struct ring_buffer indirect = {TABLE_GPA, 3 * 16, RING_INDIRECT};

    write_table(f, 0, DATA_GPA, 16, RING_NEXT, 1);
    write_table(f, 1, DATA_GPA + 16, 100, RING_NEXT | RING_WRITE, 2);
    write_table(f, 2, DATA_GPA + 200, 1, RING_WRITE, 0);
    ring_driver_add(&f->driver, &indirect, 1, 4);
    g_assert_cmpint(pop(f), ==, 1);
    g_assert_cmpuint(f->element.descriptors, ==, 1);
    g_assert_cmpuint(f->element.readable_bytes, ==, 16);
    g_assert_cmpuint(f->element.writable_bytes, ==, 101);
}

/* Broken: a table of a length that is no multiple of 16, or of 0, is read past its end. */
static void test_indirect_length(struct fixture *f, const void *packed)
{
    static const uint32_t lengths[] = {0, 15, 17, 16 * 40000};

    for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++) {
        const struct ring_buffer indirect = {TABLE_GPA, lengths[i], RING_INDIRECT};

        virtqueue_stop(&f->vq);
        start(f, QUEUE_SIZE, false);
        ring_driver_add(&f->driver, &indirect, 1, 0);
        assert_broken(f, "an indirect table of a wrong length");
    }
}

static void test_indirect_outside(struct fixture *f, const void *packed)
{
    const struct ring_buffer indirect = {MEMORY_BYTES - 16, 32, RING_INDIRECT};

    ring_driver_add(&f->driver, &indirect, 1, 0);
    assert_broken(f, "an indirect table outside guest memory");
}

static void test_indirect_nested(struct fixture *f, const void *packed)
{
    const struct ring_buffer indirect = {TABLE_GPA, 16, RING_INDIRECT};

    write_table(f, 0, TABLE_GPA, 16, RING_INDIRECT, 0);
    ring_driver_add(&f->driver, &indirect, 1, 0);
    assert_broken(f, "an indirect descriptor in an indirect table");
}

static void test_indirect_next(struct fixture *f, const void *packed)
{
    const struct ring_buffer buffers[] = {{TABLE_GPA, 16, RING_INDIRECT}, {DATA_GPA, 16, 0}};

    ring_driver_add(&f->driver, buffers, 2, 0);
    assert_broken(f, "an indirect descriptor with NEXT");
}

static void test_indirect_not_negotiated(struct fixture *f, const void *packed)
{
    const struct ring_buffer indirect = {TABLE_GPA, 16, RING_INDIRECT};

    virtqueue_stop(&f->vq);
    f->driver.config.indirect = false;
    g_assert_cmpint(virtqueue_start(&f->vq, &f->driver.config, &f->map), ==, 0);
    ring_driver_add(&f->driver, &indirect, 1, 0);
    assert_broken(f, "an indirect descriptor without VIRTIO_F_INDIRECT_DESC");
}

/* Broken: a buffer below or over guest memory, or that wraps, becomes a host pointer. */
static void test_buffer_outside(struct fixture *f, const void *packed)
{
    static const struct ring_buffer lies[] = {
        {MEMORY_BYTES, 1, 0},        {MEMORY_BYTES - 1, 2, 0},
        {UINT64_MAX, 2, RING_WRITE}, {UINT64_MAX - 15, 0xffffffff, 0},
        {0, 0xffffffff, RING_WRITE},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(lies); i++) {
        virtqueue_stop(&f->vq);
        start(f, QUEUE_SIZE, false);
        ring_driver_add(&f->driver, &lies[i], 1, 0);
        assert_broken(f, "a buffer outside guest memory");
    }
}

static void test_writable_before_readable(struct fixture *f, const void *packed)
{
    const struct ring_buffer buffers[] = {{DATA_GPA, 16, RING_WRITE}, {DATA_GPA, 16, 0}};

    ring_driver_add(&f->driver, buffers, 2, 0);
    assert_broken(f, "a readable buffer after a writable one");
}

/* Also when the writable one is empty, which leaves no iovec behind. */
static void test_empty_writable_before_readable(struct fixture *f, const void *packed)
{
    const struct ring_buffer buffers[] = {{DATA_GPA, 16, RING_WRITE}, {DATA_GPA, 0, 0}};

    ring_driver_add(&f->driver, buffers, 2, 0);
    assert_broken(f, "a readable buffer after a writable one");
}

/* Broken: an empty buffer, which is allowed, makes an iovec that others trip over. */
static void test_empty_buffer(struct fixture *f, const void *packed)
{
    const struct ring_buffer buffers[] = {
        {DATA_GPA, 0, 0}, {MEMORY_BYTES * 2ull, 0, 0}, {DATA_GPA, 8, RING_WRITE}};

    ring_driver_add(&f->driver, buffers, 3, 0);
    g_assert_cmpint(pop(f), ==, 1);
    g_assert_cmpuint(f->element.readable, ==, 0);
    g_assert_cmpuint(f->element.writable, ==, 1);
}

static void test_too_many_buffers(struct fixture *f, const void *packed)
{
    struct ring_buffer indirect = {TABLE_GPA, (IOV_MAX_HERE + 1) * 16, RING_INDIRECT};

    for (unsigned i = 0; i <= IOV_MAX_HERE; i++)
        write_table(f, i, DATA_GPA, 16, i < IOV_MAX_HERE ? RING_NEXT : 0, i + 1);
    ring_driver_add(&f->driver, &indirect, 1, 0);
    assert_broken(f, "a request of too many buffers");
}

/* Broken: the same head twice in flight frees a request under the other's I/O. */
static void test_duplicate(struct fixture *f, const void *packed)
{
    ring_driver_add(&f->driver, request, 1, 2);
    g_assert_cmpint(pop(f), ==, 1);
    if (packed)
        ring_driver_add(&f->driver, request, 1, 2);
    else
        ring_driver_publish(&f->driver, f->element.id);
    assert_broken(f, "a buffer published again while it is in flight");
    virtqueue_push(&f->vq, f->element.id, 0); /* the first is still answered */
    g_assert_true(virtqueue_flush(&f->vq));
}

/* Broken: requests without end in flight. */
static void test_too_many_in_flight(struct fixture *f, const void *packed)
{
    if (packed) {
        for (uint16_t i = 0; i < 3; i++)
            ring_driver_add(&f->driver, request, 2, i);
        for (unsigned i = 0; i < 3; i++)
            g_assert_cmpint(pop(f), ==, 1);
        ring_driver_add(&f->driver, request, 3, 3);
    } else {
        /* Chains that share descriptors: more descriptors in flight than the ring has. */
        for (uint16_t i = 0; i < QUEUE_SIZE; i++)
            ring_driver_desc(&f->driver, i, DATA_GPA, 16, i < QUEUE_SIZE - 1 ? RING_NEXT : 0,
                             (uint16_t)(i + 1));
        ring_driver_publish(&f->driver, 3);
        ring_driver_publish(&f->driver, 2);
        g_assert_cmpint(pop(f), ==, 1);
    }
    assert_broken(f, "more descriptors in flight than the queue has");
}

/* Broken: a queue that is stopped at index 65535 hangs or repeats requests. */
static void test_index_wrap(struct fixture *f, const void *packed)
{
    uint32_t id, len;

    virtqueue_stop(&f->vq);
    ring_driver_init(&f->driver, f->memory, RINGS_GPA, QUEUE_SIZE, false);
    f->driver.config.base = 65534;
    f->driver.next_used = 65534;
    ring_driver_set_avail_idx(&f->driver, 65534);
    *(uint16_t *)(f->memory + f->driver.config.device_gpa + 2) = 65534;
    g_assert_cmpint(virtqueue_start(&f->vq, &f->driver.config, &f->map), ==, 0);
    for (unsigned i = 0; i < 5; i++) {
        ring_driver_add(&f->driver, request, 1, 0);
        g_assert_cmpint(pop(f), ==, 1);
        virtqueue_push(&f->vq, f->element.id, i);
        g_assert_true(virtqueue_flush(&f->vq));
        g_assert_true(ring_driver_used(&f->driver, &id, &len));
        g_assert_cmpuint(len, ==, i);
    }
    g_assert_cmpuint(virtqueue_stop(&f->vq), ==, 3);
}

static void test_split_loop(struct fixture *f, const void *packed)
{
    ring_driver_desc(&f->driver, 0, DATA_GPA, 16, RING_NEXT, 1);
    ring_driver_desc(&f->driver, 1, DATA_GPA, 16, RING_NEXT, 0);
    ring_driver_publish(&f->driver, 0);
    assert_broken(f, "a descriptor chain that loops");
}

static void test_split_next_outside(struct fixture *f, const void *packed)
{
    ring_driver_desc(&f->driver, 0, DATA_GPA, 16, RING_NEXT, QUEUE_SIZE);
    ring_driver_publish(&f->driver, 0);
    assert_broken(f, "a descriptor index outside the queue");
}

static void test_split_head_outside(struct fixture *f, const void *packed)
{
    ring_driver_publish(&f->driver, 0xffff);
    assert_broken(f, "a descriptor index outside the queue");
}

static void test_split_avail_jump(struct fixture *f, const void *packed)
{
    ring_driver_set_avail_idx(&f->driver, QUEUE_SIZE + 1);
    assert_broken(f, "an available index ahead by more than the queue size");
}

static void test_split_indirect_loop(struct fixture *f, const void *packed)
{
    const struct ring_buffer indirect = {TABLE_GPA, 32, RING_INDIRECT};

    write_table(f, 0, DATA_GPA, 16, RING_NEXT, 1);
    write_table(f, 1, DATA_GPA, 16, RING_NEXT, 0);
    ring_driver_add(&f->driver, &indirect, 1, 0);
    assert_broken(f, "an indirect chain that leaves its table or loops");
}

static void test_split_indirect_next_outside(struct fixture *f, const void *packed)
{
    const struct ring_buffer indirect = {TABLE_GPA, 32, RING_INDIRECT};

    write_table(f, 0, DATA_GPA, 16, RING_NEXT, 2);
    ring_driver_add(&f->driver, &indirect, 1, 0);
    assert_broken(f, "an indirect chain that leaves its table or loops");
}

static void test_packed_id_outside(struct fixture *f, const void *packed)
{
    ring_driver_add(&f->driver, request, 1, QUEUE_SIZE);
    assert_broken(f, "a buffer id outside the queue");
}

static void test_packed_endless_chain(struct fixture *f, const void *packed)
{
    struct ring_buffer endless[QUEUE_SIZE];

    for (unsigned i = 0; i < QUEUE_SIZE; i++)
        endless[i] = (struct ring_buffer){DATA_GPA, 16, RING_NEXT};
    ring_driver_add(&f->driver, endless, QUEUE_SIZE, 0);
    assert_broken(f, "a descriptor chain that loops");
}

/* Broken: a driver that sees part of a batch of used descriptors. */
static void test_packed_batch_is_atomic(struct fixture *f, const void *packed)
{
    uint32_t id, len;

    for (uint16_t i = 0; i < 3; i++) {
        ring_driver_add(&f->driver, request, 1, i);
        g_assert_cmpint(pop(f), ==, 1);
        virtqueue_push(&f->vq, f->element.id, i);
    }
    g_assert_false(ring_driver_used(&f->driver, &id, &len));
    virtqueue_flush(&f->vq);
    for (uint16_t i = 0; i < 3; i++) {
        g_assert_true(ring_driver_used(&f->driver, &id, &len));
        g_assert_cmpuint(id, ==, i);
    }
}

/* Broken: rings outside memory, misaligned or of odd sizes are used. */
static void test_start_refusals(struct fixture *f, const void *packed)
{
    const struct virtqueue_config good = f->driver.config;
    struct virtqueue_config bad;
    struct virtqueue vq;

#define REFUSED(error, change)                                                                               \
    bad = good;                                                                                              \
    change;                                                                                                  \
    g_assert_cmpint(virtqueue_start(&vq, &bad, &f->map), ==, error)

    REFUSED(-EINVAL, bad.size = 0);
    REFUSED(-EINVAL, bad.size = 32769);
    REFUSED(-EINVAL, bad.desc_gpa += 8);
    REFUSED(-EINVAL, bad.driver_gpa += 1);
    REFUSED(-EINVAL, bad.device_gpa += 2);
    REFUSED(-EFAULT, bad.desc_gpa = MEMORY_BYTES);
    REFUSED(-EFAULT, bad.desc_gpa = MEMORY_BYTES - 16);
    REFUSED(-EFAULT, bad.driver_gpa = UINT64_MAX - 3);
    REFUSED(-EFAULT, bad.device_gpa = MEMORY_BYTES);
    if (packed) {
        REFUSED(-EINVAL, bad.base = QUEUE_SIZE);
        REFUSED(-EINVAL, bad.base = QUEUE_SIZE << 16);
    } else {
        REFUSED(-EINVAL, bad.size = 6);
    }
}

/* Broken: a buffer over the border of two regions that are neighbours for the guest but not for us is one
 * pointer. */
static void test_two_regions(struct fixture *f, const void *packed)
{
    uint8_t *other = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const struct ring_buffer buffers[] = {{MEMORY_BYTES - 10, 30, 0}, {MEMORY_BYTES - 1, 5, RING_WRITE}};
    uint8_t data[30], expected[30];

    g_assert_cmpint(memory_map_add_host(&f->map, MEMORY_BYTES, 4096, other), ==, 0);
    memset(f->memory + MEMORY_BYTES - 10, 1, 10);
    memset(other, 2, 20);
    ring_driver_add(&f->driver, buffers, 2, 0);
    g_assert_cmpint(pop(f), ==, 1);
    g_assert_cmpuint(f->element.readable, ==, 2);
    g_assert_cmpuint(f->element.writable, ==, 2);
    g_assert_cmpuint(virtqueue_element_read(&f->element, 0, data, 100 > sizeof(data) ? sizeof(data) : 100),
                     ==, 30);
    memset(expected, 1, 10);
    memset(expected + 10, 2, 20);
    g_assert_cmpmem(data, 30, expected, 30);
    g_assert_cmpuint(virtqueue_element_write(&f->element, 1, "xyzw", 4), ==, 4);
    g_assert_cmpmem(other, 4, "xyzw", 4);
    g_assert_cmpuint(virtqueue_element_write(&f->element, 3, "123", 3), ==, 2);
    munmap(other, 4096);
}

#define BOTH(name, function)                                                                                 \
    g_test_add("/virtqueue/split/" name, struct fixture, NULL, set_up, function, tear_down);                 \
    g_test_add("/virtqueue/packed/" name, struct fixture, "packed", set_up, function, tear_down)
#define SPLIT(name, function)                                                                                \
    g_test_add("/virtqueue/split/" name, struct fixture, NULL, set_up, function, tear_down)
#define PACKED(name, function)                                                                               \
    g_test_add("/virtqueue/packed/" name, struct fixture, "packed", set_up, function, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    BOTH("round-trip", test_round_trip);
    BOTH("out-of-order", test_out_of_order);
    BOTH("unpop", test_unpop);
    BOTH("stop-and-start", test_stop_and_start);
    BOTH("kick-suppression", test_kick_suppression);
    BOTH("notification", test_notification);
    BOTH("notification-event", test_notification_event);
    BOTH("indirect", test_indirect);
    BOTH("indirect-length", test_indirect_length);
    BOTH("indirect-outside", test_indirect_outside);
    BOTH("indirect-nested", test_indirect_nested);
    BOTH("indirect-next", test_indirect_next);
    BOTH("indirect-not-negotiated", test_indirect_not_negotiated);
    BOTH("buffer-outside", test_buffer_outside);
    BOTH("writable-before-readable", test_writable_before_readable);
    BOTH("empty-writable-before-readable", test_empty_writable_before_readable);
    BOTH("empty-buffer", test_empty_buffer);
    BOTH("too-many-buffers", test_too_many_buffers);
    BOTH("duplicate", test_duplicate);
    BOTH("too-many-in-flight", test_too_many_in_flight);
    BOTH("start-refusals", test_start_refusals);
    BOTH("two-regions", test_two_regions);
    SPLIT("index-wrap", test_index_wrap);
    SPLIT("loop", test_split_loop);
    SPLIT("next-outside", test_split_next_outside);
    SPLIT("head-outside", test_split_head_outside);
    SPLIT("avail-jump", test_split_avail_jump);
    SPLIT("indirect-loop", test_split_indirect_loop);
    SPLIT("indirect-next-outside", test_split_indirect_next_outside);
    PACKED("id-outside", test_packed_id_outside);
    PACKED("endless-chain", test_packed_endless_chain);
    PACKED("batch-is-atomic", test_packed_batch_is_atomic);
    return g_test_run();
}
