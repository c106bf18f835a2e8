/* SPDX-License-Identifier: Apache-2.0 */
/* What debugged.gdb debugs. Line numbers do not matter, function and variable names do. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

uint64_t watched;
uint8_t small[8];
int read_only = 7;
double real = 0.5;
static volatile int total;

__attribute__((noinline)) int leaf(int value)
{
    total += value;
    return value * 3;
}

__attribute__((noinline)) int recurse(int depth)
{
    return depth ? leaf(depth) + recurse(depth - 1) : 0;
}

__attribute__((noinline)) void stores(void)
{
    watched = 0x1122334455667788;
    ((uint8_t *)&watched)[3] = 0xaa;
    small[4] = 1;
    small[5] = 2; /* the byte beside the watched one */
    __atomic_fetch_add(&watched, 1, __ATOMIC_SEQ_CST);
}

__attribute__((noinline)) int loads(void)
{
    return read_only + 1;
}

__attribute__((noinline)) void string_store(void)
{
    void *to = small;
    uint64_t count = 8;

    __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(0x5a) : "memory");
}

static void *thread(void *argument)
{
    watched += (uintptr_t)argument;
    return NULL;
}

__attribute__((noinline)) void finished(void)
{
    __asm__ volatile("");
}

int main(void)
{
    pthread_t other;
    int sum = recurse(5);

    real *= 3;
    stores();
    sum += loads();
    string_store();
    pthread_create(&other, NULL, thread, (void *)16);
    pthread_join(other, NULL);
    finished();
    printf("end %d %d %.3f\n", sum, total, real);
    return 0;
}
