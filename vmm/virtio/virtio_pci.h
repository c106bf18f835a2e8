/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_pci: the modern virtio-pci transport (VIRTIO 1.2 section 4.1) and nothing of any device.
 *
 * Features, configuration space and rings belong to a back-end behind struct virtio_backend_ops (the
 * vhost-user client, vhost_device.h). The transport keeps what the driver writes and calls the back-end when
 * the device status says so:
 *
 *   status            back-end      leaves on
 *   0 .. FEATURES_OK  stopped       DRIVER_OK -> start(); write 0 -> all registers to their reset values
 *   DRIVER_OK         running       write 0 -> stop(), which returns when no ring is touched any more
 *   NEEDS_RESET       dead or not   write 0; set when start() fails, a ring breaks or the back-end is lost
 *
 * FEATURES_OK is refused (does not stick) when the driver asks for what was not offered, or not for
 * VERSION_1, or when the back-end is gone.
 *
 * One BAR: common configuration, ISR, device configuration, MSI-X table and pending bits, notifications (four
 * bytes per queue). A notification takes no lock: it is one write to the queue's eventfd.
 *
 * Threads: registers from any vCPU under one lock per device; interrupts from any thread. The back-end is
 * called with the lock held and must not call back except through virtio_pci_interrupt() and
 * virtio_pci_config_changed().
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/units.h"
#include "vmm/pci/msix.h"
#include "vmm/pci/pci.h"

#define VIRTIO_PCI_QUEUES_MAX 64u
#define VIRTIO_NO_VECTOR      0xffffu

#define VIRTIO_STATUS_ACKNOWLEDGE 0x01
#define VIRTIO_STATUS_DRIVER      0x02
#define VIRTIO_STATUS_DRIVER_OK   0x04
#define VIRTIO_STATUS_FEATURES_OK 0x08
#define VIRTIO_STATUS_NEEDS_RESET 0x40
#define VIRTIO_STATUS_FAILED      0x80

#define VIRTIO_F_VERSION_1 (UINT64_C(1) << 32)

/* One ring as the driver has set it up. Addresses are guest physical and unchecked. */
struct virtio_ring_setup {
    unsigned index, size;
    gpa_t desc, driver, device;
};

struct virtio_backend_ops {
    /* All rings that are enabled. 0 or a negative errno; then nothing runs. */
    int (*start)(void *opaque, uint64_t features, const struct virtio_ring_setup *rings, unsigned count);
    void (*stop)(void *opaque);
    /* False once it is gone for good. */
    bool (*alive)(void *opaque);
    /* Ranges are inside config_bytes. */
    void (*config_read)(void *opaque, unsigned offset, void *buffer, unsigned bytes);
    void (*config_write)(void *opaque, unsigned offset, const void *data, unsigned bytes);
    /* Any thread, no lock. */
    void (*kick)(void *opaque, unsigned queue);
};

struct virtio_pci_config {
    unsigned device_type; /* VIRTIO 1.2 chapter 5: 1 network, 2 block */
    uint32_t pci_class;
    uint64_t features; /* what the back-end offers, VERSION_1 included */
    unsigned queues, queue_size_max;
    unsigned config_bytes;
    const struct virtio_backend_ops *ops;
    void *opaque;
    void (*msi)(void *opaque, uint64_t address, uint32_t data);
    void (*intx)(void *opaque, unsigned slot, bool level);
    void *board; /* opaque of msi and intx */
};

struct virtio_queue {
    uint16_t size, vector;
    bool enabled;
    uint64_t desc, driver, device;
};

struct virtio_pci {
    struct pci_function function;
    struct msix msix;
    struct virtio_pci_config config;
    unsigned slot;
    unsigned access_capability; /* offset of VIRTIO_PCI_CAP_PCI_CFG */

    pthread_mutex_t lock;
    uint32_t device_feature_select, driver_feature_select;
    uint64_t driver_features;
    uint16_t config_vector, queue_select;
    _Atomic uint16_t shared_config_vector; /* what interrupts read */
    _Atomic uint16_t shared_vector[VIRTIO_PCI_QUEUES_MAX];
    uint8_t status;
    bool running;
    _Atomic uint8_t generation;
    struct virtio_queue queue[VIRTIO_PCI_QUEUES_MAX];

    pthread_mutex_t isr_lock;
    uint8_t isr;
    bool intx_level;
    _Atomic bool intx_disabled;
};

/* The function is not on the bus yet: pci_host_add(&device->function), then set `slot`. -EINVAL for a
 * back-end without VERSION_1 or with a queue count out of bounds. */
int virtio_pci_create(const struct virtio_pci_config *config, struct virtio_pci **ret_device);
/* Stops the back-end if it runs. Accepts NULL. */
void virtio_pci_destroy(struct virtio_pci *device);

/* Any thread: the back-end used buffers of this queue. */
void virtio_pci_interrupt(struct virtio_pci *device, unsigned queue);
/* Any thread: configuration space has changed. */
void virtio_pci_config_changed(struct virtio_pci *device);
/* Any thread that holds no lock of the back-end: a ring is broken or the back-end has gone. */
void virtio_pci_needs_reset(struct virtio_pci *device);
