/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio_blk.h"

#define ECAM       0xe0000000u
#define SLOTS      32u
#define VIRTIO_BLK 0x10421af4u
#define QUEUE_SIZE 8u
#define NO_VECTOR  0xffffu

enum { CAP_VENDOR = 9, CAP_MSIX = 17 };
enum { CFG_COMMON = 1, CFG_NOTIFY = 2 };
enum { STATUS_ACKNOWLEDGE = 1, STATUS_DRIVER = 2, STATUS_DRIVER_OK = 4, STATUS_FEATURES_OK = 8 };
enum { DESC_NEXT = 1, DESC_WRITE = 2 };

struct common {
    uint32_t device_feature_select, device_feature, driver_feature_select, driver_feature;
    uint16_t config_vector, num_queues;
    uint8_t status, generation;
    uint16_t queue_select, queue_size, queue_vector, queue_enable, queue_notify_off;
    uint64_t queue_desc, queue_driver, queue_device;
};

static struct {
    struct desc {
        uint64_t address;
        uint32_t bytes;
        uint16_t flags, next;
    } desc[QUEUE_SIZE];
    struct {
        uint16_t flags, index, ring[QUEUE_SIZE], used_event;
    } avail;
    struct {
        uint16_t flags, index;
        struct {
            uint32_t id, bytes;
        } ring[QUEUE_SIZE];
    } used __attribute__((aligned(4096)));
} ring __attribute__((aligned(4096)));

static struct {
    uint32_t type, reserved;
    uint64_t sector;
} header;
static volatile uint8_t status;
static volatile uint16_t *doorbell;
static uint16_t expected;

static volatile uint8_t *find_function(void)
{
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        volatile uint8_t *config = (volatile uint8_t *)(word)(ECAM + (slot << 15));
        if (*(volatile uint32_t *)config == VIRTIO_BLK) {
            return config;
        }
    }
    metal_fail("there is no virtio-blk device");
}

static uint64_t bar(volatile uint8_t *config, unsigned index)
{
    uint64_t low = *(volatile uint32_t *)(config + 0x10 + 4 * index);
    uint64_t high = low & 4 ? *(volatile uint32_t *)(config + 0x14 + 4 * index) : 0;
    return (low & ~15u) | high << 32;
}

/* The structure that a vendor capability of `type` points to; *ret_capability is where it lies. */
static uint64_t structure(volatile uint8_t *config, unsigned type, volatile uint8_t **ret_capability)
{
    for (unsigned at = config[0x34]; at; at = config[at + 1]) {
        if (config[at] == CAP_VENDOR && config[at + 3] == type) {
            *ret_capability = config + at;
            return bar(config, config[at + 4]) + *(volatile uint32_t *)(config + at + 8);
        }
    }
    metal_fail("a virtio capability is missing");
}

static void enable_msix(volatile uint8_t *config, unsigned vector, unsigned cpu)
{
    unsigned at = config[0x34];
    while (at && config[at] != CAP_MSIX) {
        at = config[at + 1];
    }
    if (!at) {
        metal_fail("the device has no MSI-X");
    }
    uint32_t table = *(volatile uint32_t *)(config + at + 4);
    volatile uint32_t *entry = (volatile uint32_t *)(word)(bar(config, table & 7) + (table & ~7u));
    entry[0] = LAPIC_BASE | cpu << 12;
    entry[1] = 0;
    entry[2] = vector;
    entry[3] = 0;
    *(volatile uint16_t *)(config + at + 2) = 0x8000;
}

void virtio_blk_start(unsigned vector, unsigned cpu)
{
    volatile uint8_t *config = find_function(), *capability;
    *(volatile uint16_t *)(config + 4) = 6; /* memory, bus master */
    volatile struct common *common =
        (volatile struct common *)(word)structure(config, CFG_COMMON, &capability);
    if (vector) {
        enable_msix(config, vector, cpu);
    }
    common->status = 0;
    common->status = STATUS_ACKNOWLEDGE | STATUS_DRIVER;
    common->driver_feature_select = 0;
    common->driver_feature = 0;
    common->driver_feature_select = 1;
    common->driver_feature = 1; /* VERSION_1 */
    common->status = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;
    if (!(common->status & STATUS_FEATURES_OK)) {
        metal_fail("the device refuses VERSION_1 alone");
    }
    common->queue_select = 0;
    common->queue_size = QUEUE_SIZE;
    common->queue_vector = vector ? 0 : NO_VECTOR;
    common->queue_desc = (word)ring.desc;
    common->queue_driver = (word)&ring.avail;
    common->queue_device = (word)&ring.used;
    common->queue_enable = 1;
    uint64_t notify = structure(config, CFG_NOTIFY, &capability);
    doorbell = (volatile uint16_t *)(word)(notify + common->queue_notify_off *
                                                        *(volatile uint32_t *)(capability + 16));
    common->status = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK;
}

void virtio_blk_want_interrupts(bool wanted)
{
    __atomic_store_n(&ring.avail.flags, wanted ? 0 : 1, __ATOMIC_SEQ_CST);
}

void virtio_blk_submit(bool write, uint64_t sector, void *buffer, uint32_t bytes)
{
    header.type = write;
    header.sector = sector;
    status = 0xff;
    ring.desc[0] = (struct desc){(word)&header, sizeof(header), DESC_NEXT, 1};
    ring.desc[1] = (struct desc){(word)buffer, bytes, DESC_NEXT | (write ? 0 : DESC_WRITE), 2};
    ring.desc[2] = (struct desc){(word)&status, 1, DESC_WRITE, 0};
    ring.avail.ring[ring.avail.index % QUEUE_SIZE] = 0;
    expected = (uint16_t)(ring.avail.index + 1);
    __atomic_store_n(&ring.avail.index, expected, __ATOMIC_SEQ_CST);
    *doorbell = 0;
}

bool virtio_blk_done(void)
{
    if (__atomic_load_n(&ring.used.index, __ATOMIC_ACQUIRE) != expected) {
        return false;
    }
    if (status) {
        metal_fail("a disk request failed");
    }
    return true;
}
