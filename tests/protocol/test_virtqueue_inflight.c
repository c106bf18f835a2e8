/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In-flight tracking against death: a driver and a device do random things with one queue, and the device dies behind
 * each of its stores in turn, also while it recovers from a death. A successor goes on from guest memory and the region
 * alone. Whatever the instant, the driver gets each request back exactly once, and only after it was carried out.
 *
 * The queue's sources are compiled into this program with fault points; dying is a longjmp() away from them.
 */
#include <errno.h>
#include <glib.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "protocol/virtqueue_inflight_internal.h"
#include "tests/protocol/ring_driver.h"

#define MEMORY_BYTES (1u << 20)
#define QUEUE_SIZE   16
#define DESC_NUM     20 /* the region may be made for a larger queue */
#define RINGS_GPA    0x1000
#define DATA_GPA     0x10000
#define TABLE_GPA    0x40000
#define REQUESTS     5
#define OPERATIONS   60
#define IOV_MAX_HERE 8

static jmp_buf death;
static uint64_t fault_countdown; /* 0: never */
static uint64_t faults_seen;
static bool mortal;

void fault_point_reached(void)
{
    if (!mortal)
        return;
    faults_seen++;
    if (fault_countdown > 0 && --fault_countdown == 0)
        longjmp(death, 1);
}

struct request {
    bool published, carried_out;
    unsigned buffers;
    bool indirect;
};

struct world {
    bool packed;
    uint8_t *memory;
    void *region;
    struct memory_map map;
    struct ring_driver driver;
    struct virtqueue vq;
    GRand *random;
    struct request requests[REQUESTS];
    unsigned published, reaped;

    /* the device's own memory: gone with it */
    uint16_t held[REQUESTS];
    unsigned held_count;
    struct virtqueue_element newest;
    bool can_unpop;
    struct iovec iov[IOV_MAX_HERE];
    unsigned resubmits;
};

static uint64_t data_gpa(unsigned id, unsigned buffer)
{
    return DATA_GPA + id * 0x1000 + buffer * 0x100;
}

/* --- the driver ------------------------------------------------------------------------------------------- */

static void publish_split(struct world *w, unsigned id)
{
    const struct request *request = &w->requests[id];
    uint16_t head = (uint16_t)(id * 3);

    for (unsigned i = 0; i < request->buffers && !request->indirect; i++)
        ring_driver_desc(&w->driver, (uint16_t)(head + i), data_gpa(id, i), 16,
                         RING_WRITE | (i + 1 < request->buffers ? RING_NEXT : 0), (uint16_t)(head + i + 1));
    if (request->indirect)
        ring_driver_desc(&w->driver, head, TABLE_GPA + id * 0x100, 16 * request->buffers, RING_INDIRECT, 0);
    ring_driver_publish(&w->driver, head);
}

static void publish_packed(struct world *w, unsigned id)
{
    const struct request *request = &w->requests[id];
    struct ring_buffer buffers[3];

    for (unsigned i = 0; i < request->buffers; i++)
        buffers[i] = (struct ring_buffer){data_gpa(id, i), 16, RING_WRITE};
    if (request->indirect)
        buffers[0] = (struct ring_buffer){TABLE_GPA + id * 0x100, 16 * request->buffers, RING_INDIRECT};
    ring_driver_add(&w->driver, buffers, request->indirect ? 1 : request->buffers, (uint16_t)(id * 3));
}

static void write_table(struct world *w, unsigned id)
{
    unsigned count = w->requests[id].buffers;

    for (unsigned i = 0; i < count; i++) {
        struct split_desc split = {data_gpa(id, i), 16, RING_WRITE | (i + 1 < count ? RING_NEXT : 0),
                                   (uint16_t)(i + 1)};
        struct packed_desc packed = {data_gpa(id, i), 16, 0, RING_WRITE};

        memcpy(w->memory + TABLE_GPA + id * 0x100 + DESC_BYTES * i,
               w->packed ? (void *)&packed : (void *)&split, DESC_BYTES);
    }
}

static void driver_publish(struct world *w)
{
    unsigned id = (unsigned)g_rand_int_range(w->random, 0, REQUESTS);
    struct request *request = &w->requests[id];

    if (request->published)
        return;
    *request = (struct request){.published = true,
                                .buffers = (unsigned)g_rand_int_range(w->random, 1, 4),
                                .indirect = g_rand_boolean(w->random)};
    write_table(w, id);
    if (w->packed)
        publish_packed(w, id);
    else
        publish_split(w, id);
    w->published++;
}

static void driver_reap(struct world *w)
{
    uint32_t id, length;

    while (ring_driver_used(&w->driver, &id, &length)) {
        struct request *request;

        g_assert_cmpuint(id % 3, ==, 0);
        g_assert_cmpuint(id / 3, <, REQUESTS);
        request = &w->requests[id / 3];
        g_assert_true(request->published);
        g_assert_true(request->carried_out);
        g_assert_cmpuint(length, ==, request->buffers);
        request->published = false;
        w->reaped++;
    }
}

/* --- the device -------------------------------------------------------------------------------------------- */

static void device_pop(struct world *w)
{
    struct virtqueue_element element = {.iov = w->iov, .iov_max = IOV_MAX_HERE};
    int r = virtqueue_pop(&w->vq, &element);

    g_assert_cmpint(r, >=, 0);
    if (r == 0)
        return;
    unsigned id = element.id / 3;
    g_assert_cmpuint(element.id % 3, ==, 0);
    g_assert_cmpuint(id, <, REQUESTS);
    g_assert_true(w->requests[id].published);
    g_assert_cmpuint(element.writable, ==, w->requests[id].buffers);
    for (unsigned i = 0; i < element.writable; i++)
        g_assert_true(w->iov[i].iov_base == w->memory + data_gpa(id, i));
    w->resubmits += element.resubmitted;
    w->held[w->held_count++] = element.id;
    w->newest = element;
    w->can_unpop = true;
}

static void device_push(struct world *w)
{
    unsigned at;
    uint16_t id;

    if (w->held_count == 0)
        return;
    at = (unsigned)g_rand_int_range(w->random, 0, (gint32)w->held_count);
    id = w->held[at];
    w->held[at] = w->held[--w->held_count];
    w->requests[id / 3].carried_out = true;
    if (w->newest.id == id)
        w->can_unpop = false;
    virtqueue_push(&w->vq, id, w->requests[id / 3].buffers);
}

static void device_unpop(struct world *w)
{
    if (!w->can_unpop || w->held_count == 0 || w->held[w->held_count - 1] != w->newest.id)
        return;
    w->can_unpop = false;
    w->held_count--;
    virtqueue_unpop(&w->vq, &w->newest);
}

static void device_start(struct world *w)
{
    struct virtqueue_config config = w->driver.config;

    /* A front-end whose back-end died does not know the base. */
    config.base = w->packed ? 5u | 9u << 16 : 0x1234;
    if (w->published == 0)
        config.base = w->driver.config.base;
    config.inflight = w->region;
    config.inflight_desc_num = DESC_NUM;
    g_assert_cmpint(virtqueue_start(&w->vq, &config, &w->map), ==, 0);
}

/* What a death leaves of the process: nothing. */
static void device_forget(struct world *w)
{
    inflight_stop(&w->vq);
    free(w->vq.slots_of);
    memset(&w->vq, 0, sizeof(w->vq));
    w->held_count = 0;
    w->can_unpop = false;
}

static void device_step(struct world *w, unsigned what)
{
    switch (what) {
    case 0:
    case 1:
        device_pop(w);
        break;
    case 2:
    case 3:
        device_push(w);
        break;
    case 4:
        virtqueue_flush(&w->vq);
        break;
    default:
        device_unpop(w);
    }
}

/* Does one thing, and starts successors until one lives. Returns false if the device died. */
static bool survive(struct world *w, unsigned what)
{
    volatile bool starting = false;

    mortal = true;
    if (setjmp(death) != 0) {
        if (starting)
            inflight_stop(&w->vq); /* died in the middle of a start: vq is still the empty one */
        device_forget(w);
        starting = true;
        fault_countdown = (uint64_t)g_rand_int_range(w->random, 0, 40);
    }
    if (starting)
        device_start(w);
    else
        device_step(w, what);
    mortal = false;
    return !starting;
}

/* --- one life ------------------------------------------------------------------------------------------------- */

/* Runs a seed's sequence with a death behind store number `fault` (0: none). Returns the number of stores. */
static uint64_t run(bool packed, uint32_t seed, uint64_t fault)
{
    struct world w = {.packed = packed, .random = g_rand_new_with_seed(seed)};

    w.memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(w.memory != MAP_FAILED);
    w.region = g_malloc0(inflight_region_bytes(packed, DESC_NUM));
    g_assert_cmpint(memory_map_init(&w.map), ==, 0);
    g_assert_cmpint(memory_map_add_host(&w.map, 0, MEMORY_BYTES, w.memory), ==, 0);
    ring_driver_init(&w.driver, w.memory, RINGS_GPA, QUEUE_SIZE, packed);
    device_start(&w);
    fault_countdown = fault;
    faults_seen = 0;
    for (unsigned i = 0; i < OPERATIONS; i++) {
        unsigned what = (unsigned)g_rand_int_range(w.random, 0, 9);

        if (what >= 7)
            driver_publish(&w);
        else if (what == 6)
            driver_reap(&w);
        else
            survive(&w, what);
    }
    fault_countdown = 0;
    while (w.reaped < w.published) { /* all that is left */
        unsigned before = w.reaped;

        for (unsigned i = 0; i < REQUESTS; i++)
            device_pop(&w);
        while (w.held_count > 0)
            device_push(&w);
        virtqueue_flush(&w.vq);
        driver_reap(&w);
        g_assert_cmpuint(w.reaped, >, before); /* else one is lost */
    }
    virtqueue_stop(&w.vq);
    memory_map_finish(&w.map);
    munmap(w.memory, MEMORY_BYTES);
    g_free(w.region);
    g_rand_free(w.random);
    return faults_seen;
}

/* Broken: a server's death loses a request, or answers one twice, or before it is done. */
static void test_death_behind_each_store(const void *packed)
{
    unsigned seeds = g_test_thorough() ? 2000 : 60;

    for (uint32_t seed = 0; seed < seeds; seed++) {
        uint64_t stores = run(packed != NULL, seed, 0);

        g_assert_cmpuint(stores, >, 0);
        for (uint64_t fault = 1; fault <= stores; fault++)
            run(packed != NULL, seed, fault);
    }
}

/* --- hostile regions -------------------------------------------------------------------------------------------- */

/*
 * Broken: a front-end that writes rubbish into the region makes the server read or write outside of it, loop for ever,
 * or fail an assertion. (Under the sanitizers this is the test's teeth.)
 */
static void test_rubbish(const void *packed_pointer)
{
    bool packed = packed_pointer != NULL;
    size_t bytes = inflight_region_bytes(packed, DESC_NUM);
    g_autoptr(GRand) random = g_rand_new_with_seed(7);
    unsigned started = 0, refused = 0;

    for (unsigned round = 0; round < 20000; round++) {
        struct world w = {.packed = packed};
        g_autofree uint8_t *memory = g_malloc0(MEMORY_BYTES);
        g_autofree uint16_t *region = g_malloc0(bytes);

        w.memory = memory;
        w.region = region;
        g_assert_cmpint(memory_map_init(&w.map), ==, 0);
        g_assert_cmpint(memory_map_add_host(&w.map, 0, MEMORY_BYTES, memory), ==, 0);
        ring_driver_init(&w.driver, memory, RINGS_GPA, QUEUE_SIZE, packed);
        struct virtqueue_config config = w.driver.config;
        config.inflight = region;
        config.inflight_desc_num = DESC_NUM;
        if (round % 2) { /* a good one, with some wrong fields */
            g_assert_cmpint(virtqueue_start(&w.vq, &config, &w.map), ==, 0);
            virtqueue_stop(&w.vq);
        } else {
            region[4] = 1;
            region[5] = DESC_NUM;
        }
        for (int i = g_rand_int_range(random, 1, round % 2 ? 4 : 200); i > 0; i--)
            region[g_rand_int_range(random, 6, (gint32)(bytes / 2))] =
                (uint16_t)g_rand_int_range(random, 0, g_rand_boolean(random) ? DESC_NUM + 2 : 0x10000);
        if (virtqueue_start(&w.vq, &config, &w.map) < 0) {
            refused++;
        } else {
            struct virtqueue_element element = {.iov = w.iov, .iov_max = IOV_MAX_HERE};

            started++;
            while (virtqueue_pop(&w.vq, &element) > 0)
                virtqueue_push(&w.vq, element.id, 0);
            virtqueue_stop(&w.vq);
        }
        memory_map_finish(&w.map);
    }
    g_assert_cmpuint(started, >, 100);
    g_assert_cmpuint(refused, >, 100);
}

/* A death in the middle of a start leaks what the start had allocated; the process would be gone. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/inflight/split/death-behind-each-store", NULL, test_death_behind_each_store);
    g_test_add_data_func("/inflight/packed/death-behind-each-store", "", test_death_behind_each_store);
    g_test_add_data_func("/inflight/split/rubbish", NULL, test_rubbish);
    g_test_add_data_func("/inflight/packed/rubbish", "", test_rubbish);
    return g_test_run();
}
