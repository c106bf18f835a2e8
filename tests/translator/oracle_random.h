/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers for the oracle: reproducible on every machine, and with a taste for corners. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* xorshift64*. The state must not be 0. */
struct random {
    uint64_t state;
};

static inline uint64_t random_next(struct random *random)
{
    uint64_t x = random->state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    random->state = x;
    return x * 0x2545f4914f6cdd1dull;
}

static inline unsigned random_below(struct random *random, unsigned limit)
{
    return (unsigned)(((random_next(random) >> 32) * limit) >> 32);
}

static inline bool one_in(struct random *random, unsigned n)
{
    return random_below(random, n) == 0;
}

/* A generator for a thing with a number of its own, so that it can be repeated alone. */
static inline struct random random_fork(uint64_t seed, uint64_t number)
{
    uint64_t x = (seed + 1) * 0x9e3779b97f4a7c15ull ^ (number + 1) * 0xbf58476d1ce4e5b9ull;

    x = (x ^ x >> 31) * 0x94d049bb133111ebull;
    return (struct random){(x ^ x >> 29) | 1};
}

/* Zero, ones, small, powers of two and their neighbours, sign extensions, anything. */
uint64_t random_value(struct random *random);
/* Bit patterns: zeros, denormals, halves, infinities, NaNs of both kinds with payloads, limits of the conversions. */
uint16_t random_half(struct random *random);
uint32_t random_single(struct random *random);
uint64_t random_double(struct random *random);
/* 10 bytes: pseudo-denormals, unnormals and pseudo-NaNs too. */
void random_extended(struct random *random, uint8_t bytes[10]);

/* What 16 bytes are filled with. */
enum random_flavour {
    RANDOM_SINGLE, RANDOM_DOUBLE, RANDOM_TEXT /* short strings over a small alphabet */, RANDOM_INTEGER, RANDOM_BYTES,
    RANDOM_HALF, RANDOM_FLAVOURS,
};
void random_vector(struct random *random, enum random_flavour flavour, uint8_t bytes[16]);
