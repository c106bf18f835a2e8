/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Internet checksum (RFC 1071), as virtio-net asks for it: the driver leaves the pseudo-header's sum in
 * the checksum field and the device completes it over [start, end) (virtio 1.2, 5.1.6.2.1,
 * VIRTIO_NET_HDR_F_NEEDS_CSUM).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The 16-bit one's complement sum of the bytes, folded, not inverted, in network byte order as loaded by
 * memcpy. */
uint16_t checksum_sum(const uint8_t *data, size_t bytes);

/* Writes the checksum of frame[start..bytes) at start + offset. -EINVAL if that is not inside the frame. */
int checksum_complete(uint8_t *frame, size_t bytes, size_t start, size_t offset);
