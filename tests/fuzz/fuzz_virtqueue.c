/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the virtqueue walker: the input is guest memory with rings in it, which changes between two looks. Every byte of
 * every buffer that comes out is touched, so that the sanitizer sees an address that was not checked.
 */
#include <stdlib.h>
#include <string.h>

#include "protocol/virtqueue.h"

#define LOW_BYTES  4096u
#define HIGH_BYTES 2048u
#define BUFFERS_MAX    24
#define ROUNDS     64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* What the fuzzer chooses beside the memory. */
struct choice {
    uint8_t flags, size, base_low, base_high;
};

static void touch(const struct virtqueue_element *element)
{
    volatile uint8_t sum = 0;
    uint8_t byte = 0;

    for (unsigned i = 0; i < element->readable + element->writable; i++) {
        uint8_t *at = element->iov[i].iov_base;

        if (element->iov[i].iov_len == 0)
            abort();
        sum = (uint8_t)(sum + at[0] + at[element->iov[i].iov_len - 1]);
    }
    virtqueue_element_read(element, element->readable_bytes / 2, &byte, 1);
    if (element->writable_bytes > 0)
        virtqueue_element_write(element, element->writable_bytes - 1, &byte, 1);
}

static void run(struct virtqueue *vq, uint8_t *memory, const uint8_t *changes, size_t change_bytes)
{
    struct iovec iov[BUFFERS_MAX];
    struct virtqueue_element element = {.iov = iov, .iov_max = BUFFERS_MAX};
    uint16_t in_flight[ROUNDS];
    unsigned count = 0;

    for (unsigned round = 0; round < ROUNDS; round++) {
        virtqueue_disable_kick(vq);
        if (virtqueue_pop(vq, &element) <= 0)
            break;
        touch(&element);
        if (round % 5 == 3)
            virtqueue_unpop(vq, &element);
        else
            in_flight[count++] = element.id;
        if (count > 3 || (count > 0 && round % 3 == 0))
            virtqueue_push(vq, in_flight[--count], (uint32_t)element.writable_bytes);
        if (round % 4 == 1)
            virtqueue_flush(vq);
        virtqueue_enable_kick(vq);
        if (change_bytes >= 3) { /* the guest changes one byte */
            memory[(changes[0] | (unsigned)changes[1] << 8) % LOW_BYTES] = changes[2];
            changes += 3;
            change_bytes -= 3;
        }
    }
    while (count > 0)
        virtqueue_push(vq, in_flight[--count], 1);
    virtqueue_stop(vq);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct choice choice;
    struct virtqueue_config config = {0};
    struct memory_map map;
    struct virtqueue vq = {0};
    uint8_t *low, *high;
    size_t used;

    if (bytes < sizeof(choice))
        return 0;
    memcpy(&choice, data, sizeof(choice));
    data += sizeof(choice);
    bytes -= sizeof(choice);
    low = calloc(1, LOW_BYTES);
    high = calloc(1, HIGH_BYTES);
    used = bytes < LOW_BYTES ? bytes : LOW_BYTES;
    memcpy(low, data, used);
    memory_map_init(&map);
    memory_map_add_host(&map, 0, LOW_BYTES, low);
    memory_map_add_host(&map, LOW_BYTES, HIGH_BYTES, high); /* a neighbour for the guest only */
    config.packed = choice.flags & 1;
    config.event_idx = choice.flags & 2;
    config.indirect = choice.flags & 4;
    config.size = config.packed ? 1 + choice.size % 64 : (uint16_t)(1 << choice.size % 7);
    config.driver_gpa = 0x400;
    config.device_gpa = choice.flags & 8 ? 0x600 : 0x200; /* may overlap the descriptors */
    config.base = choice.base_low | (uint32_t)choice.base_high << 8 | (uint32_t)choice.base_low << 16;
    if (virtqueue_start(&vq, &config, &map) == 0)
        run(&vq, low, data + used, bytes - used);
    memory_map_finish(&map);
    free(low);
    free(high);
    return 0;
}
