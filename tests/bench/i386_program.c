/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 32-bit program as the guest's init (tests/bench/i386 builds and times it): prints "i386 NAME CHECKSUM" after each
 * part and powers off. As an ordinary process it does the same on the host.
 */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint32_t state;

static uint32_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static uint32_t fibonacci(uint32_t n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static uint64_t calls(void)
{
    return fibonacci(34);
}

static int compare_words(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t sort(void)
{
    enum { WORDS = 1000000 };
    static uint32_t words[WORDS];
    uint64_t sum = 0;
    for (unsigned i = 0; i < WORDS; i++) {
        words[i] = next_random();
    }
    qsort(words, WORDS, sizeof(words[0]), compare_words);
    for (unsigned i = 0; i < WORDS; i++) {
        sum = sum * 31 + words[i];
    }
    return sum;
}

/* 64-bit numbers in pairs of registers. */
static uint64_t wide(void)
{
    uint64_t x = 1, sum = 0;
    for (unsigned i = 0; i < 8000000; i++) {
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        sum += x / (i + 3) + (x >> 33) % 7;
    }
    return sum;
}

static uint64_t sieve(void)
{
    enum { LIMIT = 8000000 };
    static char prime[LIMIT + 1];
    unsigned count = 0;
    memset(prime, 1, sizeof(prime));
    for (unsigned i = 2; i <= LIMIT; i++) {
        if (prime[i]) {
            count++;
            for (unsigned j = 2 * i; j <= LIMIT; j += i) {
                prime[j] = 0;
            }
        }
    }
    return count;
}

static uint64_t x87(void)
{
    double sum = 0;
    uint64_t bits;
    for (int i = 1; i < 2000000; i++) {
        sum += sin(i) * sqrt(i) / (i + 1.0) + (int)(sum * 1000);
    }
    memcpy(&bits, &sum, sizeof(bits));
    return bits;
}

static uint64_t format(void)
{
    char text[256], copy[256];
    uint64_t sum = 0;
    for (int i = 0; i < 60000; i++) {
        snprintf(text, sizeof(text), "%d %s %x %llu %f", i, "hello", next_random(), (unsigned long long)next_random() << 20,
                 i / 7.0);
        strcpy(copy, text);
        strcat(copy, "!");
        sum = sum * 33 + strlen(copy) + (strchr(copy, '5') ? 1 : 0) + (unsigned)strcmp(copy, text);
    }
    return sum;
}

static uint64_t sysenter(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < 500000; i++) {
        sum += syscall(SYS_getppid) >= 0;
    }
    return sum;
}

static uint64_t int80(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < 200000; i++) {
        int result;
        __asm__ volatile("int $0x80" : "=a"(result) : "0"(SYS_getppid) : "memory");
        sum += result >= 0;
    }
    return sum;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t shared;
static __thread uint32_t own;

static void *thread(void *argument)
{
    for (unsigned i = 0; i < 300000; i++) {
        own += i;
        pthread_mutex_lock(&lock);
        shared += own & 7;
        pthread_mutex_unlock(&lock);
    }
    return argument;
}

static uint64_t threads(void)
{
    pthread_t ids[4];
    for (unsigned i = 0; i < 4; i++) {
        pthread_create(&ids[i], NULL, thread, NULL);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(ids[i], NULL);
    }
    return shared;
}

static sigjmp_buf back;
static volatile sig_atomic_t caught;

static void handler(int number)
{
    caught++;
    siglongjmp(back, number);
}

static uint64_t signals(void)
{
    signal(SIGFPE, handler);
    for (volatile int i = 0; i < 40000; i++) {
        if (!sigsetjmp(back, 1)) {
            volatile int zero = 0;
            caught += 5 / zero;
        }
    }
    return (uint64_t)caught;
}

int main(void)
{
    static const struct {
        const char *name;
        uint64_t (*run)(void);
    } parts[] = {{"calls", calls},   {"sort", sort},         {"wide", wide},   {"sieve", sieve},     {"x87", x87},
                 {"format", format}, {"sysenter", sysenter}, {"int80", int80}, {"threads", threads}, {"signals", signals}};
    printf("i386 start 0\n");
    fflush(stdout);
    for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        state = 12345;
        printf("i386 %s %016llx\n", parts[i].name, (unsigned long long)parts[i].run());
        fflush(stdout);
    }
    if (getpid() == 1) {
        reboot(RB_POWER_OFF);
    }
    return 0;
}
