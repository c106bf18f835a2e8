/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk-register DEVICE SECONDS THREADS: a register checker for a disk, inside the guest.
 *
 * Each thread owns blocks of its own. It writes each with the block's number and a version of that write, past the page
 * cache, and reads blocks back: a block must hold the last version that was acknowledged, entirely. Ends with one line,
 * "register: ok OPERATIONS p50=US p99=US max=US" (how long single operations took) or "register: failed: WHAT".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_BYTES     4096
#define BLOCKS          512 /* per thread */
#define THREADS_MAX     16
#define LATENCY_BUCKETS 4000 /* of 0.1 ms; the last takes all longer ones */

static int disk;
static uint64_t end_us;
static _Atomic uint64_t operations, longest_us, latencies[LATENCY_BUCKETS];

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static _Noreturn void fail(const char *what, uint64_t block, uint64_t expected, uint64_t found)
{
    printf("register: failed: %s, block %llu: expected %llu, found %llu (%s)\n", what, (unsigned long long)block,
           (unsigned long long)expected, (unsigned long long)found, strerror(errno));
    fflush(stdout);
    _exit(1);
}

static void note_latency(uint64_t us)
{
    uint64_t bucket = us / 100, seen = atomic_load(&longest_us);

    atomic_fetch_add(&latencies[bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1], 1);
    while (us > seen && !atomic_compare_exchange_weak(&longest_us, &seen, us)) {
    }
}

static void fill(uint64_t *data, uint64_t block, uint64_t version)
{
    for (unsigned i = 0; i < BLOCK_BYTES / 8; i += 2) {
        data[i] = block;
        data[i + 1] = version;
    }
}

static void check(const uint64_t *data, uint64_t block, uint64_t version)
{
    for (unsigned i = 0; i < BLOCK_BYTES / 8; i += 2) {
        if (data[i] != block)
            fail("another block's data", block, block, data[i]);
        if (data[i + 1] != version)
            fail("another version", block, version, data[i + 1]);
    }
}

static void *work(void *argument)
{
    unsigned thread = (unsigned)(uintptr_t)argument, seed = thread + 1;
    uint64_t *data = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES), versions[BLOCKS] = {0}, version = 0;

    while (now_us() < end_us) {
        unsigned slot = (unsigned)rand_r(&seed) % BLOCKS;
        uint64_t block = (uint64_t)thread * BLOCKS + slot, start = now_us();
        off_t offset = (off_t)(block * BLOCK_BYTES);

        if (versions[slot] == 0 || rand_r(&seed) % 2) {
            fill(data, block, ++version);
            if (pwrite(disk, data, BLOCK_BYTES, offset) != BLOCK_BYTES)
                fail("write", block, version, 0);
            versions[slot] = version;
        } else {
            memset(data, 0xee, BLOCK_BYTES);
            if (pread(disk, data, BLOCK_BYTES, offset) != BLOCK_BYTES)
                fail("read", block, versions[slot], 0);
            check(data, block, versions[slot]);
        }
        if (rand_r(&seed) % 64 == 0 && fdatasync(disk) < 0)
            fail("flush", block, 0, 0);
        note_latency(now_us() - start);
        atomic_fetch_add(&operations, 1);
    }
    for (unsigned slot = 0; slot < BLOCKS; slot++) { /* everything once more */
        uint64_t block = (uint64_t)thread * BLOCKS + slot;

        if (versions[slot] == 0)
            continue;
        if (pread(disk, data, BLOCK_BYTES, (off_t)(block * BLOCK_BYTES)) != BLOCK_BYTES)
            fail("last read", block, versions[slot], 0);
        check(data, block, versions[slot]);
    }
    free(data);
    return NULL;
}

/* The latency that `share` per mille of the operations did not exceed. */
static uint64_t quantile_us(unsigned share)
{
    uint64_t sum = 0, limit = atomic_load(&operations) * share / 1000;

    for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
        sum += atomic_load(&latencies[i]);
        if (sum >= limit)
            return (i + 1) * UINT64_C(100);
    }
    return atomic_load(&longest_us);
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS_MAX];
    unsigned count = argc == 4 ? (unsigned)atoi(argv[3]) : 0;

    if (count < 1 || count > THREADS_MAX) {
        fprintf(stderr, "usage: disk-register DEVICE SECONDS THREADS\n");
        return 2;
    }
    disk = open(argv[1], O_RDWR | O_DIRECT);
    if (disk < 0)
        fail(argv[1], 0, 0, 0);
    end_us = now_us() + (uint64_t)atoi(argv[2]) * 1000000;
    for (unsigned i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)i);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    printf("register: ok %llu p50=%llu p99=%llu max=%llu\n", (unsigned long long)atomic_load(&operations),
           (unsigned long long)quantile_us(500), (unsigned long long)quantile_us(990),
           (unsigned long long)atomic_load(&longest_us));
    return 0;
}
