/* SPDX-License-Identifier: Apache-2.0 */
/*
 * console: carries a serial port's bytes to and from file descriptors (a stream socket, a terminal, pipes).
 *
 * Out: a ring that the vCPU fills without waiting and a writer thread empties. When the ring is full the
 * serial port holds back the guest (uart.h); when the reader has gone away what follows is dropped. In: a
 * reader thread takes what the serial port has room for and sleeps while it has none.
 *
 * Both threads use the descriptors as they are, blocking or not: a terminal or pipe is shared with other
 * processes, who would suffer from O_NONBLOCK.
 *
 * Threads: create, bind and destroy on the main thread; the serial port's callbacks from any.
 * Lock order: the serial port's lock before this module's.
 */
#pragma once

#include "vmm/uart.h"

struct console;

/* Borrows the descriptors. `on_escape` (may be NULL) is called on the reader thread when a terminal's user
 * types Ctrl-]. */
struct console_config {
    int in_fd, out_fd;
    void (*on_escape)(void *opaque);
    void *opaque;
};

/* 0 or a negative errno. */
int console_create(const struct console_config *config, struct console **ret_console);
/* What the serial port needs; valid from create on. */
struct uart_host console_uart_host(struct console *console);
/* Starts reading for `uart`, which outlives the console. Once. */
int console_bind(struct console *console, struct uart *uart);
/* Waits at most `wait_ms` until all output is written, then gives up on it. Accepts NULL. */
void console_destroy(struct console *console, unsigned wait_ms);
