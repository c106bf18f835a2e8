/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/protocol/ring_driver.h"

#include <string.h>

#define AVAIL_BIT (1u << 7)
#define USED_BIT  (1u << 15)

static uint16_t load16(const void *at)
{
    return __atomic_load_n((const uint16_t *)at, __ATOMIC_ACQUIRE);
}

static void store16(void *at, unsigned value)
{
    __atomic_store_n((uint16_t *)at, (uint16_t)value, __ATOMIC_RELEASE);
}

static uint64_t align16(uint64_t value)
{
    return (value + 15) & ~UINT64_C(15);
}

uint64_t ring_driver_init(struct ring_driver *driver, uint8_t *memory, uint64_t base, uint16_t size,
                          bool packed)
{
    uint64_t end;

    memset(driver, 0, sizeof(*driver));
    driver->memory = memory;
    driver->config.size = size;
    driver->config.packed = packed;
    driver->config.indirect = true;
    driver->config.desc_gpa = align16(base);
    driver->config.driver_gpa = driver->config.desc_gpa + 16u * size;
    driver->config.device_gpa = align16(driver->config.driver_gpa + 6u + 2u * size);
    end = align16(driver->config.device_gpa + 6u + 8u * size);
    driver->wrap = driver->used_wrap = true;
    if (packed)
        driver->config.base = 1u << 15 | 1u << 31;
    memset(memory + driver->config.desc_gpa, 0, end - driver->config.desc_gpa);
    return end;
}

static uint8_t *desc_at(const struct ring_driver *driver, uint16_t index)
{
    return driver->memory + driver->config.desc_gpa + 16u * index;
}

static uint8_t *driver_area(const struct ring_driver *driver)
{
    return driver->memory + driver->config.driver_gpa;
}

static uint8_t *device_area(const struct ring_driver *driver)
{
    return driver->memory + driver->config.device_gpa;
}

void ring_driver_desc(struct ring_driver *driver, uint16_t index, uint64_t addr, uint32_t len, unsigned flags,
                      uint16_t next)
{
    uint8_t *at = desc_at(driver, index);

    memcpy(at, &addr, 8);
    memcpy(at + 8, &len, 4);
    store16(at + 12, flags);
    store16(at + 14, next);
}

uint16_t ring_driver_avail_idx(const struct ring_driver *driver)
{
    return load16(driver_area(driver) + 2);
}

void ring_driver_set_avail_idx(struct ring_driver *driver, uint16_t idx)
{
    store16(driver_area(driver) + 2, idx);
}

void ring_driver_publish(struct ring_driver *driver, uint16_t head)
{
    uint16_t idx = ring_driver_avail_idx(driver);

    store16(driver_area(driver) + 4 + 2 * (idx % driver->config.size), head);
    ring_driver_set_avail_idx(driver, (uint16_t)(idx + 1));
}

static uint16_t add_split(struct ring_driver *driver, const struct ring_buffer *buffers, unsigned count)
{
    uint16_t head = driver->next_slot;

    for (unsigned i = 0; i < count; i++) {
        uint16_t slot = (uint16_t)((head + i) % driver->config.size);
        unsigned next = i + 1 < count ? RING_NEXT : 0;

        ring_driver_desc(driver, slot, buffers[i].gpa, buffers[i].len, buffers[i].flags | next,
                         (uint16_t)((slot + 1) % driver->config.size));
    }
    driver->next_slot = (uint16_t)((head + count) % driver->config.size);
    ring_driver_publish(driver, head);
    return head;
}

static void advance(const struct ring_driver *driver, uint16_t *position, bool *wrap, unsigned slots)
{
    unsigned next = *position + slots;

    if (next >= driver->config.size) {
        next -= driver->config.size;
        *wrap = !*wrap;
    }
    *position = (uint16_t)next;
}

static uint16_t add_packed(struct ring_driver *driver, const struct ring_buffer *buffers, unsigned count,
                           uint16_t id)
{
    uint8_t *first = desc_at(driver, driver->next_slot);
    unsigned first_flags = 0;

    for (unsigned i = 0; i < count; i++) {
        uint8_t *at = desc_at(driver, driver->next_slot);
        unsigned flags =
            buffers[i].flags | (i + 1 < count ? RING_NEXT : 0) | (driver->wrap ? AVAIL_BIT : USED_BIT);

        memcpy(at, &buffers[i].gpa, 8);
        memcpy(at + 8, &buffers[i].len, 4);
        memcpy(at + 12, &id, 2);
        if (i == 0)
            first_flags = flags;
        else
            store16(at + 14, flags);
        advance(driver, &driver->next_slot, &driver->wrap, 1);
    }
    if (id < 1024)
        driver->slots_of[id] = (uint16_t)count;
    store16(first + 14, first_flags);
    return id;
}

uint16_t ring_driver_add(struct ring_driver *driver, const struct ring_buffer *buffers, unsigned count,
                         uint16_t id)
{
    return driver->config.packed ? add_packed(driver, buffers, count, id) : add_split(driver, buffers, count);
}

static bool used_packed(struct ring_driver *driver, uint32_t *ret_id, uint32_t *ret_len)
{
    const uint8_t *at = desc_at(driver, driver->next_used);
    uint16_t flags = load16(at + 14);
    uint16_t id;

    if (!!(flags & AVAIL_BIT) != driver->used_wrap || !!(flags & USED_BIT) != driver->used_wrap)
        return false;
    memcpy(&id, at + 12, 2);
    memcpy(ret_len, at + 8, 4);
    *ret_id = id;
    advance(driver, &driver->next_used, &driver->used_wrap, driver->slots_of[id]);
    return true;
}

bool ring_driver_used(struct ring_driver *driver, uint32_t *ret_id, uint32_t *ret_len)
{
    const uint8_t *entry = device_area(driver) + 4 + 8u * (driver->next_used % driver->config.size);

    if (driver->config.packed)
        return used_packed(driver, ret_id, ret_len);
    if (load16(device_area(driver) + 2) == driver->next_used)
        return false;
    memcpy(ret_id, entry, 4);
    memcpy(ret_len, entry + 4, 4);
    driver->next_used++;
    return true;
}

bool ring_driver_wants_kick(const struct ring_driver *driver)
{
    const uint8_t *area = device_area(driver);
    uint16_t position;

    if (driver->config.packed) {
        position = (uint16_t)(driver->next_slot | (unsigned)driver->wrap << 15);
        return load16(area + 2) == 0 || (load16(area + 2) == 2 && load16(area) == position);
    }
    if (driver->config.event_idx)
        return load16(area + 4 + 8u * driver->config.size) == ring_driver_avail_idx(driver);
    return !(load16(area) & 1);
}

void ring_driver_set_notify(struct ring_driver *driver, bool wanted)
{
    store16(driver_area(driver) + (driver->config.packed ? 2 : 0), wanted ? 0 : 1);
}

void ring_driver_set_event(struct ring_driver *driver, uint16_t position)
{
    uint8_t *area = driver_area(driver);

    if (!driver->config.packed) {
        store16(area + 4 + 2 * driver->config.size, position);
        return;
    }
    store16(area, position);
    store16(area + 2, 2);
}
