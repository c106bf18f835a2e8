/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/uart.h"

#include <string.h>

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_RX         0x01
#define IER_TX         0x02
#define IER_LINE       0x04
#define IER_MODEM      0x08
#define IIR_NONE       0x01
#define IIR_MODEM      0x00
#define IIR_TX         0x02
#define IIR_RX         0x04
#define IIR_LINE       0x06
#define IIR_RX_TIMEOUT 0x0c
#define IIR_FIFO       0xc0
#define FCR_ENABLE     0x01
#define FCR_CLEAR_RX   0x02
#define FCR_CLEAR_TX   0x04
#define LCR_DLAB       0x80
#define MCR_DTR        0x01
#define MCR_RTS        0x02
#define MCR_OUT1       0x04
#define MCR_OUT2       0x08 /* on a PC: connects the interrupt */
#define MCR_LOOP       0x10
#define LSR_DATA       0x01
#define LSR_OVERRUN    0x02
#define LSR_THRE       0x20
#define LSR_TEMT       0x40
#define MSR_CTS        0x10
#define MSR_DSR        0x20
#define MSR_RI         0x40
#define MSR_DCD        0x80

static unsigned capacity(const struct uart *uart)
{
    return uart->fcr & FCR_ENABLE ? UART_FIFO_BYTES : 1;
}

static void push(struct uart_fifo *fifo, uint8_t byte)
{
    fifo->bytes[(fifo->head + fifo->count) % UART_FIFO_BYTES] = byte;
    fifo->count++;
}

static uint8_t pop(struct uart_fifo *fifo)
{
    uint8_t byte = fifo->bytes[fifo->head];

    fifo->head = (fifo->head + 1) % UART_FIFO_BYTES;
    fifo->count--;
    return byte;
}

static unsigned trigger(const struct uart *uart)
{
    static const uint8_t levels[4] = {1, 4, 8, 14};

    return uart->fcr & FCR_ENABLE ? levels[uart->fcr >> 6] : 1;
}

/* The interrupt with the highest priority, as IIR shows it. */
static uint8_t identify(const struct uart *uart)
{
    if ((uart->ier & IER_LINE) && uart->errors)
        return IIR_LINE;
    if ((uart->ier & IER_RX) && uart->rx.count >= trigger(uart))
        return IIR_RX;
    if ((uart->ier & IER_RX) && uart->rx.count && uart->timeout_pending)
        return IIR_RX_TIMEOUT;
    if ((uart->ier & IER_TX) && uart->thre_pending)
        return IIR_TX;
    if ((uart->ier & IER_MODEM) && uart->msr_delta)
        return IIR_MODEM;
    return IIR_NONE;
}

static void update_irq(struct uart *uart)
{
    irq_line_set(&uart->irq, identify(uart) != IIR_NONE && (uart->mcr & MCR_OUT2));
}

static void flush_tx(struct uart *uart)
{
    if (!uart->tx.count)
        return;
    while (uart->tx.count) {
        unsigned run = UART_FIFO_BYTES - uart->tx.head;
        size_t took;

        if (run > uart->tx.count)
            run = uart->tx.count;
        took = uart->host.tx(uart->host.opaque, uart->tx.bytes + uart->tx.head, run);
        uart->tx.head = (uart->tx.head + took) % UART_FIFO_BYTES;
        uart->tx.count -= took;
        if (took < run)
            break;
    }
    if (!uart->tx.count)
        uart->thre_pending = true;
}

static void write_data(struct uart *uart, uint8_t byte)
{
    if (uart->mcr & MCR_LOOP) {
        if (uart->rx.count < capacity(uart))
            push(&uart->rx, byte);
        else
            uart->errors |= LSR_OVERRUN;
        uart->timeout_pending = true;
        uart->thre_pending = true;
        return;
    }
    uart->thre_pending = false;
    /* A guest that writes without looking at THRE loses the byte, as on a real line. */
    if (uart->tx.count < capacity(uart))
        push(&uart->tx, byte);
    flush_tx(uart);
}

static uint8_t read_data(struct uart *uart)
{
    uint8_t byte;

    if (!uart->rx.count)
        return 0;
    byte = pop(&uart->rx);
    if (!uart->rx.count) {
        uart->timeout_pending = false;
        uart->host.drained(uart->host.opaque);
    }
    return byte;
}

static uint8_t read_iir(struct uart *uart)
{
    uint8_t id = identify(uart);

    if (id == IIR_TX)
        uart->thre_pending = false;
    return id | (uart->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static uint8_t read_lsr(struct uart *uart)
{
    uint8_t value =
        uart->errors | (uart->rx.count ? LSR_DATA : 0) | (uart->tx.count ? 0 : LSR_THRE | LSR_TEMT);

    uart->errors = 0;
    return value;
}

static uint8_t modem_lines(const struct uart *uart)
{
    if (!(uart->mcr & MCR_LOOP))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (uint8_t)((uart->mcr & MCR_RTS ? MSR_CTS : 0) | (uart->mcr & MCR_DTR ? MSR_DSR : 0) |
                     (uart->mcr & MCR_OUT1 ? MSR_RI : 0) | (uart->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static uint8_t read_msr(struct uart *uart)
{
    uint8_t value = modem_lines(uart) | uart->msr_delta;

    uart->msr_delta = 0;
    return value;
}

static void write_mcr(struct uart *uart, uint8_t value)
{
    uint8_t before = modem_lines(uart), changed;

    uart->mcr = value & 0x1f;
    changed = before ^ modem_lines(uart);
    uart->msr_delta |= changed >> 4 & 0x0b;
    if ((before & MSR_RI) && (changed & MSR_RI)) /* only the trailing edge of ring */
        uart->msr_delta |= 0x04;
}

static void write_fcr(struct uart *uart, uint8_t value)
{
    if ((value ^ uart->fcr) & FCR_ENABLE)
        value |= FCR_CLEAR_RX | FCR_CLEAR_TX;
    if (value & FCR_CLEAR_RX) {
        uart->rx = (struct uart_fifo){0};
        uart->timeout_pending = false;
        uart->host.drained(uart->host.opaque);
    }
    if ((value & FCR_CLEAR_TX) && uart->tx.count) {
        uart->tx = (struct uart_fifo){0};
        uart->thre_pending = true;
    }
    uart->fcr = value & 0xc1;
}

static void write_ier(struct uart *uart, uint8_t value)
{
    bool tx_enabled = (value & IER_TX) && !(uart->ier & IER_TX);

    uart->ier = value & 0x0f;
    /* Enabling the interrupt while the transmitter is empty raises it. */
    if (tx_enabled && !uart->tx.count)
        uart->thre_pending = true;
}

static uint8_t register_read(struct uart *uart, uint64_t reg)
{
    bool dlab = uart->lcr & LCR_DLAB;

    switch (reg) {
    case REG_DATA:
        return dlab ? uart->dll : read_data(uart);
    case REG_IER:
        return dlab ? uart->dlm : uart->ier;
    case REG_IIR_FCR:
        return read_iir(uart);
    case REG_LCR:
        return uart->lcr;
    case REG_MCR:
        return uart->mcr;
    case REG_LSR:
        return read_lsr(uart);
    case REG_MSR:
        return read_msr(uart);
    default:
        return uart->scr;
    }
}

static void register_write(struct uart *uart, uint64_t reg, uint8_t value)
{
    bool dlab = uart->lcr & LCR_DLAB;

    switch (reg) {
    case REG_DATA:
        if (dlab)
            uart->dll = value;
        else
            write_data(uart, value);
        break;
    case REG_IER:
        if (dlab)
            uart->dlm = value;
        else
            write_ier(uart, value);
        break;
    case REG_IIR_FCR:
        write_fcr(uart, value);
        break;
    case REG_LCR:
        uart->lcr = value;
        break;
    case REG_MCR:
        write_mcr(uart, value);
        break;
    case REG_LSR: /* factory test */
    case REG_MSR:
        break;
    default:
        uart->scr = value;
        break;
    }
}

static uint64_t port_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    struct uart *uart = device;
    uint8_t value;

    pthread_mutex_lock(&uart->lock);
    value = register_read(uart, offset & 7);
    update_irq(uart);
    pthread_mutex_unlock(&uart->lock);
    return value;
}

static void port_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct uart *uart = device;

    pthread_mutex_lock(&uart->lock);
    register_write(uart, offset & 7, (uint8_t)value);
    update_irq(uart);
    pthread_mutex_unlock(&uart->lock);
}

const struct bus_ops uart_bus_ops = {.read = port_read, .write = port_write};

size_t uart_receive(struct uart *uart, const uint8_t *bytes, size_t count)
{
    size_t took = 0;

    pthread_mutex_lock(&uart->lock);
    if (!(uart->mcr & MCR_LOOP))
        while (took < count && uart->rx.count < capacity(uart))
            push(&uart->rx, bytes[took++]);
    /* There is no baud clock: a burst that ends below the trigger level has timed out by the time it is read.
     */
    if (took) {
        uart->timeout_pending = true;
        update_irq(uart);
    }
    pthread_mutex_unlock(&uart->lock);
    return took;
}

size_t uart_receive_room(struct uart *uart)
{
    size_t room = 0;

    pthread_mutex_lock(&uart->lock);
    if (!(uart->mcr & MCR_LOOP) && uart->rx.count < capacity(uart))
        room = capacity(uart) - uart->rx.count;
    pthread_mutex_unlock(&uart->lock);
    return room;
}

void uart_transmit(struct uart *uart)
{
    pthread_mutex_lock(&uart->lock);
    flush_tx(uart);
    update_irq(uart);
    pthread_mutex_unlock(&uart->lock);
}

void uart_reset(struct uart *uart)
{
    pthread_mutex_lock(&uart->lock);
    uart->rx = uart->tx = (struct uart_fifo){0};
    uart->ier = uart->mcr = uart->scr = uart->fcr = uart->errors = uart->msr_delta = 0;
    uart->lcr = 3; /* 8n1, as firmware would leave it */
    uart->dll = 1; /* 115200 baud */
    uart->dlm = 0;
    uart->thre_pending = uart->timeout_pending = false;
    update_irq(uart);
    uart->host.drained(uart->host.opaque);
    pthread_mutex_unlock(&uart->lock);
}

void uart_init(struct uart *uart, const struct uart_host *host, const struct irq_line *irq)
{
    memset(uart, 0, sizeof(*uart));
    pthread_mutex_init(&uart->lock, NULL);
    uart->host = *host;
    uart->irq = *irq;
    uart_reset(uart);
}

void uart_finish(struct uart *uart)
{
    pthread_mutex_destroy(&uart->lock);
}
