/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints one line per part of the C machine model: integers of all sizes, floating point, long double, strings,
 * sorting, threads, signals. Each line is a digest that depends neither on the word size nor on the library, so what
 * the host's processor prints for this source is right for every guest, 32-bit ones included.
 *
 * Build: gcc [-m32 -msse2 -mfpmath=sse] -O2 -ffp-contract=off -pthread selfcheck.c -lm
 */
#include <fenv.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);
static uint64_t digest;

static uint64_t next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void add(uint64_t value)
{
    digest = (digest ^ value) * UINT64_C(0x100000001b3);
    digest ^= digest >> 29;
}

static void report(const char *part)
{
    printf("%-12s %016llx\n", part, (unsigned long long)digest);
    digest = 0;
}

#define INTEGERS(TYPE, UNSIGNED)                                                                             \
    static void integers_##UNSIGNED(void)                                                                    \
    {                                                                                                        \
        for (int i = 0; i < 20000; i++) {                                                                    \
            volatile UNSIGNED a = (UNSIGNED)next(), b = (UNSIGNED)next() >> (next() % (8 * sizeof(a)));      \
            volatile TYPE c = (TYPE)a, d = (TYPE)b;                                                          \
            unsigned count = (unsigned)(next() % (8 * sizeof(a)));                                           \
            UNSIGNED rotated = (UNSIGNED)(a << count | a >> (-count & (8 * sizeof(a) - 1)));                 \
            add((UNSIGNED)((uint64_t)a * b));                                                                \
            add(b ? (UNSIGNED)(a / b) : 1);                                                                  \
            add(b ? (UNSIGNED)(a % b) : 2);                                                                  \
            if (d > 0) {                                                                                     \
                add((uint64_t)(int64_t)(TYPE)(c / d));                                                       \
                add((uint64_t)(int64_t)(TYPE)(c % d));                                                       \
            }                                                                                                \
            add((UNSIGNED)(a << count));                                                                     \
            add((UNSIGNED)(a >> count));                                                                     \
            add((uint64_t)(int64_t)(TYPE)(c >> count));                                                      \
            add(rotated);                                                                                    \
            add(__builtin_add_overflow(c, d, &(TYPE){0}) +                                                   \
                2u * __builtin_sub_overflow(a, b, &(UNSIGNED){0}) +                                          \
                4u * __builtin_mul_overflow(c, d, &(TYPE){0}));                                              \
            add((uint64_t)(c < d) + 2u * (a < b) + 4u * (c <= d) + 8u * (a >= b));                           \
            add((uint64_t)__builtin_popcountll(a) + 64u * (unsigned)__builtin_ctzll(a | UINT64_C(1) << 63) + \
                4096u * (unsigned)__builtin_clzll(a | 1u));                                                  \
        }                                                                                                    \
    }
INTEGERS(int8_t, uint8_t)
INTEGERS(int16_t, uint16_t)
INTEGERS(int32_t, uint32_t)
INTEGERS(int64_t, uint64_t)

static void integers(void)
{
    integers_uint8_t();
    report("int8");
    integers_uint16_t();
    report("int16");
    integers_uint32_t();
    report("int32");
    integers_uint64_t();
    report("int64");
    for (int i = 0; i < 20000; i++) {
        uint64_t value = next();

        add(__builtin_bswap64(value) ^ __builtin_bswap32((uint32_t)value) ^
            __builtin_bswap16((uint16_t)value));
    }
    report("bswap");
}

static uint64_t bits(double value)
{
    uint64_t image;

    if (value != value)
        return 0x7ff8;
    memcpy(&image, &value, sizeof(image));
    return image;
}

static double random_double(void)
{
    uint64_t image = next();
    double value;

    /* exponents from the subnormals to 2^40: rounding, underflow, cancellation */
    if (next() % 8)
        image = (image & UINT64_C(0x800fffffffffffff)) | (1000 + next() % 64) << 52;
    memcpy(&value, &image, sizeof(value));
    return value == value ? value : 1.5;
}

/* Only what IEEE 754 defines to the last bit. */
static void floating(void)
{
    static const int modes[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};

    for (unsigned mode = 0; mode < 4; mode++) {
        fesetround(modes[mode]);
        for (int i = 0; i < 20000; i++) {
            volatile double a = random_double(), b = random_double();
            volatile float x = (float)a, y = (float)b;

            add(bits(a + b));
            add(bits(a - b));
            add(bits(a * b));
            add(bits(a / b));
            add(bits(sqrt(fabs(a))));
            add(bits((double)(x + y)));
            add(bits((double)(x * y)));
            add(bits((double)(x / y)));
            add((uint64_t)(a < b) + 2u * (a <= b) + 4u * (a == b) + 8u * (x > y));
            if (fabs(a) < 1e9)
                add((uint64_t)(int64_t)(int32_t)a + (uint64_t)llrint(b < 1e15 && b > -1e15 ? b : 0));
            add(bits((double)(int64_t)next()));
            add(bits(nearbyint(a)) ^ bits(floor(b)) ^ bits(ceil(a)) ^ bits(trunc(b)));
        }
    }
    fesetround(FE_TONEAREST);
    report("double");
}

static void add_long(long double value)
{
    unsigned char image[16] = {0};
    uint64_t low, high = 0;

    memcpy(image, &value, 10);
    memcpy(&low, image, 8);
    memcpy(&high, image + 8, 2);
    add(value == value ? low : 3);
    add(value == value ? high : 3);
}

/* long double is the x87's own format, on both word sizes. */
static void extended(void)
{
    static const int modes[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};

    for (unsigned mode = 0; mode < 4; mode++) {
        fesetround(modes[mode]);
        for (int i = 0; i < 10000; i++) {
            volatile long double a = (long double)random_double() * (long double)random_double();
            volatile long double b = random_double();

            add_long(a + b);
            add_long(a - b);
            add_long(a * b);
            add_long(a / b);
            add_long(sqrtl(fabsl(a)));
            add_long(rintl(b));
            add_long((long double)(int64_t)next());
            add(bits((double)a));
            add((uint64_t)(fabsl(b) < 1e15L ? llrintl(b) : 0));
        }
    }
    fesetround(FE_TONEAREST);
    report("long-double");
}

/* The transcendentals need not be exact; ten digits of them must be. */
static void library(void)
{
    char text[80];

    for (int i = 1; i < 2000; i++) {
        double x = i / 37.0;

        snprintf(text, sizeof(text), "%.9e %.9e %.9e %.9e", sin(x), exp(x / 10), log(x), pow(x, 1.25));
        for (const char *p = text; *p; p++)
            add((unsigned char)*p);
        add(bits(strtod(text, NULL)));
    }
    report("libm");
}

static int compare(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

    return a < b ? -1 : a > b;
}

static void memory(void)
{
    enum { COUNT = 20000 };
    uint32_t *values = malloc(COUNT * sizeof(*values));
    unsigned char *a = malloc(70000), *b = malloc(70000);

    for (int i = 0; i < COUNT; i++)
        values[i] = (uint32_t)next();
    qsort(values, COUNT, sizeof(*values), compare);
    for (int i = 0; i < COUNT; i++)
        add(values[i]);
    report("qsort");
    for (int i = 0; i < 70000; i++)
        a[i] = (unsigned char)(next() | 1);
    for (int i = 0; i < 4000; i++) {
        size_t from = next() % 5000, to = next() % 5000, bytes = next() % (i % 16 ? 300 : 60000);

        memcpy(b + to, a + from, bytes);
        memmove(b + to / 2, b + to, bytes);
        memset(a + from, (int)(next() | 1), bytes % 777);
        b[to + bytes] = 0;
        add(strlen((char *)b + to));
        add((uint64_t)(memcmp(a + from, b + to, bytes) > 0));
        add((uint64_t)((unsigned char *)memchr(b, 0, 70000) - b));
    }
    for (int i = 0; i < 60000; i++)
        add(b[i]);
    report("strings");
    free(values);
    free(a);
    free(b);
}

static uint64_t shared_sum;
static uint32_t shared_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t locked_sum;

static void *worker(void *argument)
{
    uintptr_t mine = (uintptr_t)argument;

    for (int i = 0; i < 50000; i++) {
        __atomic_fetch_add(&shared_sum, i * mine, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&shared_count, 1, __ATOMIC_RELAXED);
        if (i % 16 == 0) {
            pthread_mutex_lock(&lock);
            locked_sum += mine;
            pthread_mutex_unlock(&lock);
        }
    }
    return NULL;
}

static void threads(void)
{
    pthread_t thread[4];

    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&thread[i], NULL, worker, (void *)(i + 1));
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    add(shared_sum);
    add(shared_count);
    add(locked_sum);
    report("threads");
}

static sigjmp_buf back;
static volatile unsigned char *expected_address;
static volatile int seen;

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    seen = number * 2 + (expected_address && info->si_addr == (void *)expected_address);
    siglongjmp(back, 1);
}

static void signals(void)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};
    long page = sysconf(_SC_PAGESIZE);
    volatile unsigned char *map =
        mmap(NULL, 3 * (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    volatile int zero = 0, minimum = INT32_MIN, minus_one = -1;

    mprotect((void *)(map + page), (size_t)page, PROT_NONE);
    for (int number = 1; number < 32; number++) {
        if (number == SIGSEGV || number == SIGFPE || number == SIGTRAP || number == SIGILL ||
            number == SIGBUS)
            sigaction(number, &action, NULL);
    }
    for (volatile int i = 0; i < 200; i++) {
        expected_address = map + page + next() % (uint64_t)page;
        if (!sigsetjmp(back, 1))
            *expected_address = 1;
        add((uint64_t)seen);
        if (!sigsetjmp(back, 1))
            add(*expected_address);
        add((uint64_t)seen);
        expected_address = NULL;
        if (!sigsetjmp(back, 1))
            add((uint64_t)(1 / zero));
        add((uint64_t)seen);
        if (!sigsetjmp(back, 1))
            add((uint64_t)(minimum % minus_one));
        add((uint64_t)seen);
        if (!sigsetjmp(back, 1))
            __asm__ volatile("int3");
        add((uint64_t)seen);
        if (!sigsetjmp(back, 1))
            __asm__ volatile("ud2");
        add((uint64_t)seen);
        if (!sigsetjmp(back, 1))
            __asm__ volatile("hlt");
        add((uint64_t)seen);
    }
    report("signals");
}

static void processes(void)
{
    for (int i = 0; i < 20; i++) {
        int status = 0;
        pid_t child = fork();

        if (child == 0) {
            if (i % 4 == 3)
                raise(SIGKILL);
            _exit(i * 7);
        }
        waitpid(child, &status, 0);
        add((uint64_t)status);
    }
    report("processes");
}

/* Code that is written, run, changed and run again, on the page it ran on before. */
static void changed_code(void)
{
    static const unsigned char load_and_return[] = {0xb8, 0, 0, 0, 0, 0xc3};
    unsigned char *code =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    for (uint32_t i = 0; i < 3000; i++) {
        unsigned at = (i % 7) * 16;
        uint32_t (*function)(void) = (uint32_t(*)(void))(uintptr_t)(code + at);

        memcpy(code + at, load_and_return, sizeof(load_and_return));
        memcpy(code + at + 1, &i, sizeof(i));
        add(function());
        code[at + 2] ^= 0x5a;
        add(function());
    }
    report("changed-code");
}

int main(void)
{
    integers();
    floating();
    extended();
    library();
    memory();
    threads();
    signals();
    processes();
    changed_code();
    return 0;
}
