/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole user space of a guest whose clocks are measured (tests/bench/clock): /init of an initramfs of one file.
 *
 * It answers commands on the serial console, one line each:
 *
 *   stamp            "stamp REALTIME MONOTONIC RAW TSC": the clocks in ns (the TSC in cycles), read together
 *   load SECONDS     starts one busy process per processor, ended by itself; "load N"
 *   timer COUNT NS   COUNT absolute sleeps, NS apart; "timer P50 P99 P999 MAX", ns late
 *   order COUNT      two threads on different processors hand a TSC to and fro; "order N", N how often it went backwards
 *   quit             powers off
 *
 * Not as process 1 it is an ordinary program, for the same measurements on the host itself.
 *
 * Answers are stamped by a real-time process, so that load delays them little.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define NS_PER_S     1000000000LL
#define SAMPLES_MAX  200000L
#define LOAD_BYTES   (1 << 20)
#define FIFO_ANSWERS 50

static int64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void stamp(void)
{
    int64_t real = now_ns(CLOCK_REALTIME), monotonic = now_ns(CLOCK_MONOTONIC),
            raw = now_ns(CLOCK_MONOTONIC_RAW);
    printf("stamp %lld %lld %lld %llu\n", (long long)real, (long long)monotonic, (long long)raw,
           (unsigned long long)__rdtsc());
}

/* System calls, memory, floating point and faults, for so long. */
static void work(long seconds)
{
    int64_t end = now_ns(CLOCK_MONOTONIC) + seconds * NS_PER_S;
    static volatile double value = 1;
    while (now_ns(CLOCK_MONOTONIC) < end) {
        char *memory = malloc(LOAD_BYTES);
        for (long i = 0; i < LOAD_BYTES; i += 64) {
            memory[i] = (char)i;
            value = value * 1.0000001 + 1e-9;
        }
        free(memory);
        (void)getppid();
        sched_yield();
    }
}

static void load(long seconds)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    for (long i = 0; i < cpus; i++) {
        if (fork() == 0) {
            struct sched_param normal = {0};
            sched_setscheduler(0, SCHED_OTHER, &normal);
            work(seconds);
            _exit(0);
        }
    }
    printf("load %ld\n", cpus);
}

static int compare(const void *one, const void *other)
{
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return a < b ? -1 : a > b;
}

static void timer(long count, long interval_ns)
{
    static int64_t late[SAMPLES_MAX];
    int64_t due = now_ns(CLOCK_MONOTONIC);
    if (count < 1 || count > SAMPLES_MAX) {
        count = SAMPLES_MAX;
    }
    for (long i = 0; i < count; i++) {
        int64_t before = now_ns(CLOCK_MONOTONIC);
        due = (due > before ? due : before) + interval_ns;
        struct timespec until = {due / NS_PER_S, due % NS_PER_S};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        late[i] = now_ns(CLOCK_MONOTONIC) - due;
    }
    qsort(late, (size_t)count, sizeof(late[0]), compare);
    printf("timer %lld %lld %lld %lld\n", (long long)late[count / 2], (long long)late[count * 99 / 100],
           (long long)late[count * 999 / 1000], (long long)late[count - 1]);
}

/* --- the TSCs of two processors against each other --- */

static _Atomic uint64_t handed; /* the last reader's TSC; 0: not begun */
static _Atomic int turn;
static long backwards;

struct player {
    int self;
    long count;
};

static void *play(void *argument)
{
    const struct player *player = argument;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(player->self, &set);
    pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    for (long i = 0; i < player->count; i++) {
        while (atomic_load(&turn) != player->self) {
            sched_yield();
        }
        unsigned aux;
        uint64_t before = atomic_load(&handed), now = __rdtscp(&aux);
        backwards += now < before;
        atomic_store(&handed, now);
        atomic_store(&turn, !player->self);
    }
    return NULL;
}

static void order(long count)
{
    struct player players[2] = {{0, count}, {1, count}};
    pthread_t threads[2];
    backwards = 0;
    for (int i = 0; i < 2; i++) {
        pthread_create(&threads[i], NULL, play, &players[i]);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    printf("order %ld\n", backwards);
}

/* "clock ready SOURCE": what the kernel's own clock is made from. */
static void report_source(void)
{
    char source[32] = "?";
    FILE *file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "r");
    if (file && fscanf(file, "%31s", source) != 1) {
        source[0] = '?';
    }
    if (file) {
        fclose(file);
    }
    printf("clock ready %s\n", source);
}

static void set_up(void)
{
    struct sched_param fifo = {.sched_priority = FIFO_ANSWERS};
    struct termios terminal;
    if (getpid() == 1) {
        mount("proc", "/proc", "proc", 0, NULL);
        mount("sys", "/sys", "sysfs", 0, NULL);
        sched_setscheduler(0, SCHED_FIFO, &fifo);
    }
    if (tcgetattr(0, &terminal) == 0) {
        terminal.c_lflag &= ~(tcflag_t)(ECHO | ICANON | ISIG);
        terminal.c_iflag &= ~(tcflag_t)ICRNL;
        tcsetattr(0, TCSANOW, &terminal);
    }
    setvbuf(stdout, NULL, _IOLBF, 512);
    report_source();
}

int main(void)
{
    char line[80];
    set_up();
    while (fgets(line, sizeof(line), stdin)) {
        long one = 0, two = 0;
        if (strcmp(line, "stamp\n") == 0) {
            stamp();
        } else if (sscanf(line, "load %ld", &one) == 1) {
            load(one);
        } else if (sscanf(line, "timer %ld %ld", &one, &two) == 2) {
            timer(one, two);
        } else if (sscanf(line, "order %ld", &one) == 1) {
            order(one);
        } else if (strcmp(line, "quit\n") == 0) {
            break;
        }
    }
    return getpid() == 1 ? reboot(RB_POWER_OFF) : 0;
}
