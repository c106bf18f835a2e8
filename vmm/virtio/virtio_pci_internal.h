/* SPDX-License-Identifier: Apache-2.0 */
/* virtio_pci_internal: shared by virtio_pci.c (life, interrupts, BAR) and virtio_pci_common.c (common
 * configuration). */
#pragma once

#include "vmm/virtio/virtio_pci.h"

#define ISR_QUEUE  0x1
#define ISR_CONFIG 0x2

/* Common configuration (VIRTIO 1.2 section 4.1.4.3); any width, any alignment. */
uint64_t virtio_common_read(struct virtio_pci *device, uint64_t offset, unsigned size);
void virtio_common_write(struct virtio_pci *device, uint64_t offset, unsigned size, uint64_t value);

/* Locked: registers to their reset values, the back-end stopped. */
void virtio_common_reset(struct virtio_pci *device);
/* Locked: NEEDS_RESET, and whether the driver must be told. */
bool virtio_common_set_needs_reset(struct virtio_pci *device);
