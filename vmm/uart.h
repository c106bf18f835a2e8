/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uart: a 16550A serial port (TI TL16C550C data sheet), eight byte-wide registers.
 *
 * Its line is a pair of byte streams that somebody else carries: tx() takes what the guest sends,
 * uart_receive() gives it what arrives. Back-pressure instead of waiting: tx() takes what fits; the rest
 * stays in the transmit FIFO, THRE stays low, and uart_transmit() goes on when there is room again. A vCPU
 * never blocks here. Received bytes are taken only as far as the FIFO has room; drained() says when it has
 * again.
 *
 * Threads: any; one lock inside. tx(), drained() and the interrupt line are called with it held and must not
 * call back.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/irq_line.h"

#define UART_FIFO_BYTES 16u

struct uart_fifo {
    uint8_t bytes[UART_FIFO_BYTES];
    unsigned head, count;
};

struct uart_host {
    /* Takes at most `count` bytes without waiting; how many it took. */
    size_t (*tx)(void *opaque, const uint8_t *bytes, size_t count);
    void (*drained)(void *opaque); /* the receive FIFO is empty again */
    void *opaque;
};

struct uart {
    pthread_mutex_t lock;
    struct uart_host host;
    struct irq_line irq;
    struct uart_fifo rx, tx;
    uint8_t ier, lcr, mcr, scr, dll, dlm;
    uint8_t fcr;    /* only FIFO enable and trigger level */
    uint8_t errors; /* LSR: overrun */
    uint8_t msr_delta;
    bool thre_pending;    /* the transmitter-empty interrupt is due */
    bool timeout_pending; /* bytes below the trigger level wait */
};

extern const struct bus_ops uart_bus_ops; /* 8 byte ports */

void uart_init(struct uart *uart, const struct uart_host *host, const struct irq_line *irq);
void uart_finish(struct uart *uart);
void uart_reset(struct uart *uart);

/* How many of `count` bytes the receiver took. */
size_t uart_receive(struct uart *uart, const uint8_t *bytes, size_t count);
size_t uart_receive_room(struct uart *uart);
/* There is room for tx() again. */
void uart_transmit(struct uart *uart);
