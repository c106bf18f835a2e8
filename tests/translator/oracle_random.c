/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/translator/oracle_random.h"

#include <string.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

uint64_t random_value(struct random *random)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     UINT64_MAX,
                                     0x7f,
                                     0x80,
                                     0xff,
                                     0x7fff,
                                     0x8000,
                                     0xffff,
                                     0x7fffffff,
                                     0x80000000,
                                     0xffffffff,
                                     0x100000000,
                                     0x7fffffffffffffff,
                                     0x8000000000000000,
                                     0x8000000080008080,
                                     0x7fffffff7fff7f7f};
    uint64_t value = random_next(random);

    switch (random_below(random, 9)) {
    case 0:
        return value & 0xff;
    case 1:
        return (uint64_t)(int8_t)value;
    case 2:
        return 1ull << (value & 63);
    case 3:
        return (1ull << (value & 63)) - 1;
    case 4:
        return value & 0xffffffff;
    case 5:
        return value & 7 ? value >> (value & 63) : 0;
    case 6:
        return edges[value % LENGTH(edges)];
    default:
        return value;
    }
}

uint16_t random_half(struct random *random)
{
    static const uint16_t special[] = {0,      0x8000, 0x3c00, 0xbc00, 0x7c00, 0xfc00, 0x7e00,
                                       0x7c01, 0xfdff, 0x0001, 0x83ff, 0x0400, 0x7bff, 0xfbff};
    uint16_t value = (uint16_t)random_next(random);

    return one_in(random, 3) ? special[value % LENGTH(special)] : value;
}

uint32_t random_single(struct random *random)
{
    static const uint32_t special[] = {0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000,
                                       0x7fc00000, 0xffc00000, 0x7f800001, 0xff812345, 0x7fd55555, 1,
                                       0x807fffff, 0x00800000, 0x7f7fffff, 0xff7fffff, 0x4f000000, 0xcf000000,
                                       0x4effffff, 0x5f000000, 0xdf000000, 0x33800000, 0x477fe000, 0x47800000,
                                       0x3effffff, 0x3f000000, 0x4b000000, 0x4b800001};
    uint32_t value = (uint32_t)random_next(random);

    switch (random_below(random, 6)) {
    case 0:
        return special[value % LENGTH(special)];
    case 1:
        return value;
    case 2: /* denormals and small numbers */
        return value & 0x80ffffff;
    case 3: /* small integers and halves */
        return (value & 0x80000000) | 0x3f000000 | (value & 0x03f80000);
    default: /* about the same size */
        return (value & 0x83ffffff) | 0x3c000000;
    }
}

uint64_t random_double(struct random *random)
{
    static const uint64_t special[] = {0,
                                       1ull << 63,
                                       0x3ff0000000000000,
                                       0xbff0000000000000,
                                       0x7ff0000000000000,
                                       0xfff0000000000000,
                                       0x7ff8000000000000,
                                       0xfff8000000000000,
                                       0x7ff0000000000001,
                                       0xfff0000123456789,
                                       0x7ffaaaaaaaaaaaaa,
                                       1,
                                       0x800fffffffffffff,
                                       0x0010000000000000,
                                       0x7fefffffffffffff,
                                       0x41dfffffffc00000,
                                       0x41e0000000000000,
                                       0xc1e0000000000000,
                                       0xc1e0000000200000,
                                       0x43e0000000000000,
                                       0xc3e0000000000000,
                                       0x43dfffffffffffff,
                                       0x36a0000000000000,
                                       0x380fffffffffffff,
                                       0x47efffffe0000000,
                                       0x47effffff0000000,
                                       0x3fe0000000000000,
                                       0x4330000000000001};
    uint64_t value = random_next(random);

    switch (random_below(random, 7)) {
    case 0:
        return special[value % LENGTH(special)];
    case 1:
        return value;
    case 2:
        return value & 0x801fffffffffffff;
    case 3:
        return (value & 1ull << 63) | 0x3fe0000000000000 | (value & 0x007f000000000000);
    case 4: /* near the limits of single precision */
        return (value & 0x801fffffffffffff) | 0x3690000000000000 | (value & 0x0800000000000000);
    default:
        return (value & 0x803fffffffffffff) | 0x3fc0000000000000;
    }
}

void random_extended(struct random *random, uint8_t bytes[10])
{
    uint64_t value = random_next(random), significand = random_next(random) | 1ull << 63;
    uint16_t exponent = (uint16_t)value;

    switch (random_below(random, 10)) {
    case 0: /* zero, pseudo-denormal, one, infinity */
        significand = value & 0x10000 ? 1ull << 63 : 0;
        exponent = (uint16_t)((value & 0x8000) | (significand ? value & 0x20000 ? 0x3fff : 0x7fff : 0));
        if (value & 0x40000)
            exponent &= 0x8000;
        break;
    case 1: /* NaNs */
        exponent |= 0x7fff;
        significand = value & 0x30000 ? significand : significand & ~(3ull << 61);
        break;
    case 2: /* denormals */
        exponent &= 0x8000;
        significand >>= value >> 20 & 63;
        break;
    case 3: /* anything, unsupported ones too */
        significand = random_next(random);
        break;
    case 4: /* integers */
        exponent = (uint16_t)((value & 0x8000) | (0x3fff + (value >> 20 & 63)));
        significand = value & 0x10000 ? significand & UINT64_MAX << 56 : significand;
        break;
    case 5: /* near the limits of double and single precision */
        exponent =
            (uint16_t)((value & 0x8000) | ((value & 0x10000 ? 0x3fff + 1020 : 0x3fff - 1078) + (value & 31)));
        if (value & 0x20000)
            exponent = (uint16_t)((value & 0x8000) |
                                  ((value & 0x10000 ? 0x3fff + 124 : 0x3fff - 152) + (value & 31)));
        break;
    default:
        exponent = (uint16_t)((value & 0x8000) | (0x3fff - 32 + (value & 63)));
        break;
    }
    memcpy(bytes, &significand, 8);
    memcpy(bytes + 8, &exponent, 2);
}

static uint64_t random_lanes(struct random *random, enum random_flavour flavour)
{
    switch (flavour) {
    case RANDOM_SINGLE:
        return random_single(random) | (uint64_t)random_single(random) << 32;
    case RANDOM_DOUBLE:
        return random_double(random);
    case RANDOM_TEXT:
        return random_next(random) & 0x0303030303030303;
    case RANDOM_HALF:
        return random_half(random) | (uint64_t)random_half(random) << 16 |
               (uint64_t)random_half(random) << 32 | (uint64_t)random_half(random) << 48;
    case RANDOM_BYTES:
        return random_next(random);
    default:
        return random_value(random);
    }
}

void random_vector(struct random *random, enum random_flavour flavour, uint8_t bytes[16])
{
    for (unsigned i = 0; i < 2; i++) {
        uint64_t value = random_lanes(random, flavour);
        memcpy(bytes + 8 * i, &value, 8);
    }
}
