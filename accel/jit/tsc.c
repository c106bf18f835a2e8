/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Always measured: what leaf 0x15 of the host says is the nominal clock, under another hypervisor perhaps that of another
 * machine, while the guest's clock must keep up with the one that the host's kernel keeps. The best of many paired readings
 * at both ends is good to a few nanoseconds, so 30 ms between them give the frequency to about 0.1 ppm.
 */
#include "accel/jit/tsc.h"

#include <pthread.h>
#include <time.h>
#include <x86intrin.h>

#include "protocol/base/units.h"

#define CALIBRATION_NS (30 * 1000000L)
#define SAMPLES        200

static uint64_t monotonic_raw_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

struct instant {
    uint64_t tsc, ns;
};

/* A pair read together: of many tries the one with the least time between its two TSC reads. */
static struct instant read_instant(void)
{
    struct instant best = {0};
    uint64_t best_gap = UINT64_MAX;
    for (unsigned i = 0; i < SAMPLES; i++) {
        uint64_t before = __rdtsc(), ns = monotonic_raw_ns(), after = __rdtsc();
        if (after - before < best_gap) {
            best_gap = after - before;
            best = (struct instant){before + (after - before) / 2, ns};
        }
    }
    return best;
}

static uint32_t measure_khz(void)
{
    struct instant start = read_instant();
    struct timespec pause = {.tv_nsec = CALIBRATION_NS};
    nanosleep(&pause, NULL); /* woken early by a signal: the measurement is just shorter */
    struct instant end = read_instant();
    uint64_t ns = end.ns - start.ns;
    return ns ? (uint32_t)(((end.tsc - start.tsc) * 1000000 + ns / 2) / ns) : 0;
}

static uint32_t khz;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void determine(void)
{
    khz = measure_khz();
}

uint32_t jit_host_tsc_khz(void)
{
    pthread_once(&once, determine);
    return khz;
}
