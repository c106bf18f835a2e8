/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registers SECONDS: keeps a pattern of its own in all sixteen YMM registers of several threads and processes, while the
 * kernel switches between them and a signal handler fills the registers with something else.
 *
 * Broken if it fails: the translator, or the guest's kernel on its XSAVE, loses or mixes up vector registers.
 */
#define _GNU_SOURCE
#include <immintrin.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define REGISTERS 16

static int seconds;

static void on_signal(int number)
{
    (void)number;
    __asm__ volatile("vpcmpeqb %%ymm0, %%ymm0, %%ymm0\n\t"
                     "vmovdqa %%ymm0, %%ymm1\n\tvmovdqa %%ymm0, %%ymm7\n\tvmovdqa %%ymm0, %%ymm8\n\t"
                     "vmovdqa %%ymm0, %%ymm15\n\tvzeroupper"
                     :
                     :
                     : "ymm0", "ymm1", "ymm7", "ymm8", "ymm15");
}

#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define LOAD(n)  "vmovdqu " #n "*32(%0), %%ymm" #n "\n\t"
#define STORE(n) "vmovdqu %%ymm" #n ", " #n "*32(%1)\n\t"

/* Loads all registers, spins (every second time through the kernel), stores them. */
static void round_trip(const uint8_t *from, uint8_t *to, uint64_t spins, long call)
{
    __asm__ volatile(EACH(LOAD) "1: mov %3, %%rax\n\ttest %%rax, %%rax\n\tjs 2f\n\tsyscall\n\t"
                                "2: dec %2\n\tjnz 1b\n\t" EACH(STORE) "vzeroupper"
                     : "+r"(from), "+r"(to), "+r"(spins)
                     : "r"(call)
                     : "rax", "rcx", "r11", "memory", "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7",
                       "ymm8", "ymm9", "ymm10", "ymm11", "ymm12", "ymm13", "ymm14", "ymm15");
}

static void *watch(void *argument)
{
    const long sched_yield_call = 24;
    uint8_t from[REGISTERS * 32], to[REGISTERS * 32];
    uint64_t pattern = (uint64_t)(uintptr_t)argument * 0x9e3779b97f4a7c15u ^ (uint64_t)getpid() << 40;
    time_t end = time(NULL) + seconds;

    for (unsigned round = 0; time(NULL) < end; round++) {
        for (unsigned i = 0; i < sizeof(from); i += 8) {
            pattern = pattern * 6364136223846793005u + 1442695040888963407u;
            memcpy(from + i, &pattern, 8);
        }
        if (round % 5 == 0) /* and with the upper halves in their initial state */
            for (unsigned i = 0; i < REGISTERS; i++)
                memset(from + 32 * i + 16, 0, 16);
        if (round & 1)
            round_trip(from, to, 200, sched_yield_call);
        else
            round_trip(from, to, 200000, -1);
        for (unsigned i = 0; i < REGISTERS; i++)
            if (memcmp(from + 32 * i, to + 32 * i, 32)) {
                fprintf(stderr, "registers: ymm%u changed in round %u\n", i, round);
                exit(1);
            }
    }
    return NULL;
}

static void run(void)
{
    const struct itimerval every = {{0, 3000}, {0, 3000}};
    pthread_t threads[2];

    signal(SIGALRM, on_signal);
    setitimer(ITIMER_REAL, &every, NULL);
    for (uintptr_t i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, watch, (void *)(i + 1)))
            exit(2);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

int main(int argc, char **argv)
{
    seconds = argc > 1 ? atoi(argv[1]) : 5;
    for (unsigned i = 0; i < 2; i++) {
        if (fork() == 0) {
            run();
            exit(0);
        }
    }
    run();
    int failed = 0, status;
    while (wait(&status) > 0)
        failed |= status;
    if (!failed)
        puts("registers: all kept");
    return failed != 0;
}
