/* SPDX-License-Identifier: Apache-2.0 */
/* Broken if these fail: an access reaches the wrong device, at a wrong offset, or wider than the device
 * takes. */
#include "vmm/bus.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

struct recorder {
    unsigned calls;
    uint64_t offset, value;
    unsigned size;
    uint8_t bytes[16];
};

static uint64_t record_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    struct recorder *r = device;
    uint64_t value = 0;

    r->calls++;
    r->offset = offset;
    r->size = size;
    memcpy(&value, r->bytes + offset, size);
    return value;
}

static void record_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct recorder *r = device;

    r->calls++;
    r->offset = offset;
    r->size = size;
    memcpy(r->bytes + offset, &value, size);
}

static const struct bus_ops ops = {.read = record_read, .write = record_write};

static void test_refusals(void)
{
    static struct bus bus;
    struct bus_range range = {.base = 0x100, .bytes = 8, .max_access = 4, .ops = &ops};

    g_assert_cmpint(bus_add(&bus, &range), ==, 0);
    g_assert_cmpint(bus_add(&bus, &range), ==, -EEXIST);
    range.base = 0xfc;
    g_assert_cmpint(bus_add(&bus, &range), ==, -EEXIST);
    range.base = 0x107;
    g_assert_cmpint(bus_add(&bus, &range), ==, -EEXIST);
    range.base = UINT64_MAX;
    g_assert_cmpint(bus_add(&bus, &range), ==, -EINVAL);
    range = (struct bus_range){.base = 0x200, .bytes = 0, .max_access = 4, .ops = &ops};
    g_assert_cmpint(bus_add(&bus, &range), ==, -EINVAL);
    range = (struct bus_range){.base = 0x200, .bytes = 4, .max_access = 3, .ops = &ops};
    g_assert_cmpint(bus_add(&bus, &range), ==, -EINVAL);
}

static void test_pieces(void)
{
    static struct bus bus;
    struct recorder bytes = {.bytes = {1, 2, 3, 4}}, words = {.bytes = {5, 6, 7, 8, 9, 10, 11, 12}};

    bus_add(&bus, &(struct bus_range){0x10, 4, 1, &ops, &bytes});
    bus_add(&bus, &(struct bus_range){0x14, 8, 8, &ops, &words});
    g_assert_cmphex(bus_read(&bus, 0, 0x10, 4), ==, 0x04030201);
    g_assert_cmpuint(bytes.calls, ==, 4);
    g_assert_cmphex(bus_read(&bus, 0, 0x14, 8), ==, UINT64_C(0x0c0b0a0908070605));
    g_assert_cmpuint(words.calls, ==, 1);
    /* Over the end of one range into the next, and into nothing. */
    g_assert_cmphex(bus_read(&bus, 0, 0x12, 4), ==, 0x06050403);
    g_assert_cmphex(bus_read(&bus, 0, 0x1a, 4), ==, 0xffff0c0b);
    g_assert_cmphex(bus_read(&bus, 0, 0x0f, 2), ==, 0x01ff);
    g_assert_cmphex(bus_read(&bus, 0, UINT64_MAX, 8), ==, UINT64_MAX);
    bus_write(&bus, 0, 0x12, 4, 0xddccbbaa);
    g_assert_cmphex(bytes.bytes[2], ==, 0xaa);
    g_assert_cmphex(bytes.bytes[3], ==, 0xbb);
    g_assert_cmphex(words.bytes[0], ==, 0xcc);
    g_assert_cmphex(words.bytes[1], ==, 0xdd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/bus/refusals", test_refusals);
    g_test_add_func("/bus/pieces", test_pieces);
    return g_test_run();
}
