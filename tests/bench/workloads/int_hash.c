/* SPDX-License-Identifier: Apache-2.0 */
/* Integer work: FNV-1a over bytes, and open hashing with a 64-bit multiply. */
#include <stdint.h>
#include <stdio.h>

enum { SLOTS = 1 << 16 };
static uint64_t table[SLOTS];
static uint8_t bytes[1 << 16];

int main(void)
{
    uint64_t seed = 88172645463325252u, fnv = 14695981039346656037u, found = 0;
    for (unsigned i = 0; i < sizeof bytes; i++) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        bytes[i] = seed;
    }
    for (int times = 0; times < 1500; times++)
        for (unsigned i = 0; i < sizeof bytes; i++)
            fnv = (fnv ^ bytes[i]) * 1099511628211u;
    for (int i = 0; i < 12000000; i++) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        uint64_t *slot = &table[(seed * 0x9e3779b97f4a7c15u) >> 48];
        found += (*slot ^ seed) & 1;
        *slot = seed;
    }
    printf("%lx %lu\n", (unsigned long)fnv, (unsigned long)found);
    return 0;
}
