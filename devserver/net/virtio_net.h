/* SPDX-License-Identifier: Apache-2.0 */
/* Virtio network device: numbers and layouts (virtio 1.2, sections 5.1.3, 5.1.4, 5.1.6). */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

enum virtio_net_feature { /* bit numbers */
                          VIRTIO_NET_F_CSUM = 0,
                          VIRTIO_NET_F_GUEST_CSUM = 1,
                          VIRTIO_NET_F_MTU = 3,
                          VIRTIO_NET_F_MAC = 5,
                          VIRTIO_NET_F_MRG_RXBUF = 15,
                          VIRTIO_NET_F_STATUS = 16,
};

#define VIRTIO_NET_S_LINK_UP 1

struct virtio_net_config {
    uint8_t mac[6];
    uint16_t status;
    uint16_t max_virtqueue_pairs;
    uint16_t mtu;
} __attribute__((packed));
static_assert(sizeof(struct virtio_net_config) == 12, "virtio 1.2, 5.1.4");

#define VIRTIO_NET_HDR_F_NEEDS_CSUM 1
#define VIRTIO_NET_HDR_F_DATA_VALID 2
#define VIRTIO_NET_HDR_GSO_NONE     0

struct virtio_net_header {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t hdr_len;
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
    uint16_t num_buffers; /* not there for a legacy driver without MRG_RXBUF */
};
static_assert(sizeof(struct virtio_net_header) == 12, "virtio 1.2, 5.1.6");
static_assert(offsetof(struct virtio_net_header, num_buffers) == 10, "virtio 1.2, 5.1.6");
#define VIRTIO_NET_HEADER_LEGACY_BYTES 10
