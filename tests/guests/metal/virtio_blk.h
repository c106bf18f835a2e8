/* SPDX-License-Identifier: Apache-2.0 */
/* metal64: a driver for one virtio-blk device behind virtio-pci (VIRTIO 1.2 sections 2.7, 4.1, 5.2): one queue, one request at
 * a time, completion by polling or by MSI-X. */
#pragma once

#include "metal.h"

#define SECTOR_BYTES 512

/* Finds and starts the first one. `vector`: of the completion interrupt, sent to processor `cpu`; 0: none, poll. */
void virtio_blk_start(unsigned vector, unsigned cpu);
/* Whether completions raise interrupts (the driver's avail flag; a hint to the device). */
void virtio_blk_want_interrupts(bool wanted);
/* Puts one request on the ring and rings the bell. */
void virtio_blk_submit(bool write, uint64_t sector, void *buffer, uint32_t bytes);
/* Whether it is done; reads memory and nothing else. The status byte must be 0, or the guest ends. */
bool virtio_blk_done(void);
