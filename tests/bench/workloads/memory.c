/* SPDX-License-Identifier: Apache-2.0 */
/* Memory: a pointer chase over 16 MB, then copies of 8 MB. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { NODES = 1 << 21 };
static uint64_t next[NODES];
static char from[8 << 20], to[8 << 20];

int main(void)
{
    for (uint64_t i = 0; i < NODES; i++)
        next[i] = i;
    uint64_t seed = 1;
    for (uint64_t i = NODES - 1; i > 0; i--) { /* Sattolo: one cycle through all nodes */
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t j = (seed >> 33) % i, kept = next[i];
        next[i] = next[j], next[j] = kept;
    }
    uint64_t at = 0;
    for (int i = 0; i < 4000000; i++)
        at = next[at];
    for (int times = 0; times < 60; times++) {
        from[times] = (char)times;
        memcpy(to, from, sizeof to);
    }
    printf("%lu %d\n", (unsigned long)at, to[59]);
    return 0;
}
