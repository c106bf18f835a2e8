/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "devserver/net/checksum.h"

/* 32-bit words into 64 bits: cannot overflow below 2^34 bytes, and the compiler makes vectors of it. */
uint16_t checksum_sum(const uint8_t *data, size_t bytes)
{
    uint64_t sum = 0;
    uint32_t word;

    for (; bytes >= sizeof word; data += sizeof word, bytes -= sizeof word) {
        memcpy(&word, data, sizeof word);
        sum += word;
    }
    word = 0;
    memcpy(&word, data, bytes); /* 0 to 3 bytes, padded with zeros */
    sum += word;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

int checksum_complete(uint8_t *frame, size_t bytes, size_t start, size_t offset)
{
    if (start > bytes || offset > bytes - start || bytes - start - offset < sizeof(uint16_t))
        return -EINVAL;
    uint16_t checksum = (uint16_t)~checksum_sum(frame + start, bytes - start);
    if (checksum == 0)
        checksum = 0xffff; /* the same number, and UDP takes 0 for 'none' */
    memcpy(frame + start + offset, &checksum, sizeof checksum);
    return 0;
}
