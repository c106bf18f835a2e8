/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/console.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "protocol/base/units.h"

#define RING_BYTES (64 * KIB)
#define ESCAPE_KEY 0x1d /* Ctrl-] */

struct console {
    struct console_config config;
    bool is_terminal;
    int quit_fd; /* eventfd: readable once the end has come */
    pthread_t writer, reader;
    bool has_reader;

    pthread_mutex_t lock;
    pthread_cond_t filled;  /* writer: there are bytes, or quit */
    pthread_cond_t drained; /* reader: the serial port has room, or quit */
    pthread_cond_t ended;   /* main: the writer has ended */
    struct uart *uart;      /* NULL until bound */
    uint8_t ring[RING_BYTES];
    size_t head, used;
    bool blocked; /* the serial port was told 'no room' */
    bool uart_has_room, quit, writer_ended, gone;
};

/* Waits until `fd` is ready or the end has come; false for the latter. */
static bool wait_ready(struct console *console, int fd, short events)
{
    struct pollfd fds[2] = {{.fd = fd, .events = events}, {.fd = console->quit_fd, .events = POLLIN}};

    while (poll(fds, 2, -1) < 0 && errno == EINTR)
        ;
    return !fds[1].revents;
}

/* Bytes written, or a negative errno when nobody will ever read more. */
static ssize_t write_some(struct console *console, const uint8_t *bytes, size_t count)
{
    for (;;) {
        ssize_t wrote = write(console->config.out_fd, bytes, count);

        if (wrote >= 0)
            return wrote;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN || !wait_ready(console, console->config.out_fd, POLLOUT))
            return -errno;
    }
}

/* Locked; unlocks while it writes. */
static void write_run(struct console *console)
{
    size_t run = RING_BYTES - console->head;
    ssize_t wrote = 0;

    if (run > console->used)
        run = console->used;
    if (!console->gone) {
        pthread_mutex_unlock(&console->lock);
        wrote = write_some(console, console->ring + console->head, run);
        pthread_mutex_lock(&console->lock);
    }
    if (wrote < 0)
        console->gone = true;
    if (console->gone)
        wrote = (ssize_t)run;
    console->head = (console->head + (size_t)wrote) % RING_BYTES;
    console->used -= (size_t)wrote;
}

static void *writer_thread(void *argument)
{
    struct console *console = argument;

    prctl(PR_SET_NAME, "console-out", 0UL, 0UL, 0UL);
    pthread_mutex_lock(&console->lock);
    while (!console->quit || console->used) {
        if (!console->used) {
            pthread_cond_wait(&console->filled, &console->lock);
            continue;
        }
        write_run(console);
        if (console->blocked && console->used <= RING_BYTES / 2) {
            struct uart *uart = console->uart;

            console->blocked = false;
            pthread_mutex_unlock(&console->lock);
            if (uart)
                uart_transmit(uart);
            pthread_mutex_lock(&console->lock);
        }
    }
    console->writer_ended = true;
    pthread_cond_signal(&console->ended);
    pthread_mutex_unlock(&console->lock);
    return NULL;
}

static size_t console_tx(void *opaque, const uint8_t *bytes, size_t count)
{
    struct console *console = opaque;
    size_t took = 0;

    pthread_mutex_lock(&console->lock);
    bool was_empty = console->used == 0;

    while (took < count && console->used < RING_BYTES) {
        console->ring[(console->head + console->used) % RING_BYTES] = bytes[took++];
        console->used++;
    }
    console->blocked |= took < count;
    if (was_empty)
        pthread_cond_signal(&console->filled);
    pthread_mutex_unlock(&console->lock);
    return took;
}

static void console_drained(void *opaque)
{
    struct console *console = opaque;

    pthread_mutex_lock(&console->lock);
    console->uart_has_room = true;
    pthread_cond_signal(&console->drained);
    pthread_mutex_unlock(&console->lock);
}

struct uart_host console_uart_host(struct console *console)
{
    return (struct uart_host){.tx = console_tx, .drained = console_drained, .opaque = console};
}

/* How many bytes the serial port takes now; waits for some. 0: the end has come. */
static size_t wait_room(struct console *console)
{
    for (;;) {
        pthread_mutex_lock(&console->lock);
        console->uart_has_room = false; /* from here on drained() tells of news */
        bool quit = console->quit;
        pthread_mutex_unlock(&console->lock);

        size_t room = uart_receive_room(console->uart);

        if (quit || room)
            return quit ? 0 : room;
        pthread_mutex_lock(&console->lock);
        while (!console->uart_has_room && !console->quit)
            pthread_cond_wait(&console->drained, &console->lock);
        pthread_mutex_unlock(&console->lock);
    }
}

static void *reader_thread(void *argument)
{
    struct console *console = argument;
    uint8_t bytes[UART_FIFO_BYTES];
    size_t room;

    prctl(PR_SET_NAME, "console-in", 0UL, 0UL, 0UL);
    while ((room = wait_room(console)) > 0) {
        if (!wait_ready(console, console->config.in_fd, POLLIN))
            break;
        ssize_t got = read(console->config.in_fd, bytes, room < sizeof(bytes) ? room : sizeof(bytes));

        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0)
            break; /* end of input: the guest keeps its console, nobody types on it */
        if (console->is_terminal && console->config.on_escape && memchr(bytes, ESCAPE_KEY, (size_t)got))
            console->config.on_escape(console->config.opaque);
        else
            uart_receive(console->uart, bytes, (size_t)got);
    }
    return NULL;
}

static void free_console(struct console *console)
{
    pthread_cond_destroy(&console->filled);
    pthread_cond_destroy(&console->drained);
    pthread_cond_destroy(&console->ended);
    pthread_mutex_destroy(&console->lock);
    fd_close(&console->quit_fd);
    free(console);
}

int console_create(const struct console_config *config, struct console **ret_console)
{
    struct console *console = calloc(1, sizeof(*console));
    pthread_condattr_t attributes;
    int result;

    if (!console)
        return -ENOMEM;
    console->quit_fd = fd_eventfd_create();
    if (console->quit_fd < 0) {
        result = console->quit_fd;
        free(console);
        return result;
    }
    console->config = *config;
    console->is_terminal = isatty(config->in_fd);
    pthread_mutex_init(&console->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&console->filled, &attributes);
    pthread_cond_init(&console->drained, &attributes);
    pthread_cond_init(&console->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    result = -pthread_create(&console->writer, NULL, writer_thread, console);
    if (result < 0) {
        free_console(console);
        return result;
    }
    *ret_console = console;
    return 0;
}

int console_bind(struct console *console, struct uart *uart)
{
    int result;

    pthread_mutex_lock(&console->lock);
    console->uart = uart;
    pthread_mutex_unlock(&console->lock);
    result = -pthread_create(&console->reader, NULL, reader_thread, console);
    console->has_reader = result == 0;
    return result;
}

static bool wait_writer(struct console *console, unsigned wait_ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    if (until.tv_nsec >= (long)NS_PER_SEC) {
        until.tv_sec++;
        until.tv_nsec -= (long)NS_PER_SEC;
    }
    while (!console->writer_ended)
        if (pthread_cond_timedwait(&console->ended, &console->lock, &until) == ETIMEDOUT)
            break;
    return console->writer_ended;
}

void console_destroy(struct console *console, unsigned wait_ms)
{
    if (!console)
        return;
    pthread_mutex_lock(&console->lock);
    console->quit = true;
    pthread_cond_signal(&console->filled);
    pthread_cond_signal(&console->drained);
    bool ended = wait_writer(console, wait_ms);

    if (!ended)
        console->uart = NULL;
    pthread_mutex_unlock(&console->lock);
    fd_eventfd_signal(console->quit_fd);
    if (console->has_reader)
        pthread_join(console->reader, NULL);
    if (ended) {
        pthread_join(console->writer, NULL);
        free_console(console);
    } else {
        /* It hangs in write(2) for a reader that does not read, and keeps its memory until the process ends.
         */
        pthread_detach(console->writer);
    }
}
