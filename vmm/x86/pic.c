/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/x86/pic.h"

#include <errno.h>
#include <string.h>

#define CASCADE 2u

/* Distance from the highest priority: 0 is served first, 8 is nothing. */
static unsigned priority(const struct pic_chip *chip, uint8_t mask)
{
    for (unsigned i = 0; i < 8; i++)
        if (mask >> ((chip->lowest + 1 + i) & 7) & 1)
            return i;
    return 8;
}

static unsigned input_of(const struct pic_chip *chip, unsigned distance)
{
    return (chip->lowest + 1 + distance) & 7;
}

/* The input that the chip would serve now, or -1. */
static int request(const struct pic_chip *chip, bool first)
{
    unsigned wanted = priority(chip, chip->irr & ~chip->imr);
    uint8_t serving = chip->isr;

    if (wanted == 8)
        return -1;
    if (chip->special_mask)
        serving &= ~chip->imr;
    /* Special fully nested: the second chip may interrupt its own handler. */
    if (chip->special_nested && first)
        serving &= ~(1u << CASCADE);
    if (chip->special_mask ? (serving >> input_of(chip, wanted) & 1) : priority(chip, serving) <= wanted)
        return -1;
    return (int)input_of(chip, wanted);
}

/* Locked. Recomputes the cascade and the output after any change. */
static void update(struct pic *pic)
{
    struct pic_chip *first = &pic->chip[0];
    bool output;

    if (request(&pic->chip[1], false) >= 0)
        first->irr |= 1u << CASCADE;
    else
        first->irr &= ~(1u << CASCADE);
    output = request(first, true) >= 0;
    if (atomic_exchange(&pic->output, output) != output && output)
        pic->raise(pic->opaque);
}

static void set_input(struct pic_chip *chip, unsigned input, bool level)
{
    uint8_t bit = (uint8_t)(1u << input);

    if (chip->elcr & bit)
        chip->irr = level ? chip->irr | bit : chip->irr & ~bit;
    else if (!level)
        chip->irr &= ~bit;
    else if (!(chip->lines & bit))
        chip->irr |= bit;
    chip->lines = level ? chip->lines | bit : chip->lines & ~bit;
}

void pic_set(struct pic *pic, unsigned irq, bool level)
{
    if (irq > 15 || irq == CASCADE)
        return;
    pthread_mutex_lock(&pic->lock);
    set_input(&pic->chip[irq / 8], irq % 8, level);
    update(pic);
    pthread_mutex_unlock(&pic->lock);
}

static void acknowledge(struct pic_chip *chip, unsigned input)
{
    uint8_t bit = (uint8_t)(1u << input);

    if (!(chip->elcr & bit))
        chip->irr &= ~bit;
    if (!chip->auto_eoi)
        chip->isr |= bit;
    else if (chip->rotate_on_auto_eoi)
        chip->lowest = (uint8_t)input;
}

/* Locked. The vector, with its side effects when `accept`. -EAGAIN when there is no request. */
static int interrupt_vector(struct pic *pic, bool accept)
{
    int input = request(&pic->chip[0], true), second;

    if (input < 0)
        return -EAGAIN;
    if (input != (int)CASCADE) {
        if (accept)
            acknowledge(&pic->chip[0], (unsigned)input);
        return pic->chip[0].base + input;
    }
    second = request(&pic->chip[1], false);
    if (accept) {
        acknowledge(&pic->chip[0], CASCADE);
        if (second >= 0)
            acknowledge(&pic->chip[1], (unsigned)second);
    }
    return pic->chip[1].base + (second >= 0 ? second : 7);
}

int pic_peek(struct pic *pic)
{
    int vector;

    if (!atomic_load_explicit(&pic->output, memory_order_acquire))
        return -EAGAIN;
    pthread_mutex_lock(&pic->lock);
    vector = interrupt_vector(pic, false);
    pthread_mutex_unlock(&pic->lock);
    return vector;
}

int pic_ack(struct pic *pic)
{
    int vector;

    if (!atomic_load_explicit(&pic->output, memory_order_acquire))
        return -EAGAIN;
    pthread_mutex_lock(&pic->lock);
    vector = interrupt_vector(pic, true);
    update(pic);
    pthread_mutex_unlock(&pic->lock);
    return vector;
}

static void reset_chip(struct pic_chip *chip)
{
    uint8_t elcr = chip->elcr, writable = chip->elcr_writable, lines = chip->lines;

    *chip = (struct pic_chip){.elcr = elcr, .elcr_writable = writable, .lines = lines, .lowest = 7};
    chip->irr = lines & elcr;
}

static void end_of_interrupt(struct pic_chip *chip, uint8_t command)
{
    unsigned input;

    if (command & 0x40) { /* specific */
        input = command & 7;
    } else {
        uint8_t candidates = chip->special_mask ? chip->isr & ~chip->imr : chip->isr;
        unsigned distance = priority(chip, candidates);

        if (distance == 8)
            return;
        input = input_of(chip, distance);
    }
    chip->isr &= ~(1u << input);
    if (command & 0x80)
        chip->lowest = (uint8_t)input;
}

static void write_ocw2(struct pic_chip *chip, uint8_t value)
{
    switch (value >> 5) {
    case 0:
        chip->rotate_on_auto_eoi = false;
        break;
    case 4:
        chip->rotate_on_auto_eoi = true;
        break;
    case 6: /* set priority */
        chip->lowest = value & 7;
        break;
    case 2: /* no operation */
        break;
    default: /* 1, 3, 5, 7: EOI commands */
        end_of_interrupt(chip, value);
        break;
    }
}

static void write_command(struct pic_chip *chip, uint8_t value)
{
    if (value & 0x10) { /* ICW1 */
        reset_chip(chip);
        chip->icw3 = !(value & 0x02);
        chip->icw4 = value & 0x01;
        chip->icw_step = 2;
    } else if (value & 0x08) { /* OCW3 */
        if (value & 0x04)
            chip->poll = true;
        if (value & 0x02)
            chip->read_isr = value & 0x01;
        if (value & 0x40)
            chip->special_mask = value & 0x20;
    } else {
        write_ocw2(chip, value);
    }
}

static void write_data(struct pic_chip *chip, uint8_t value)
{
    switch (chip->icw_step) {
    case 2:
        chip->base = value & 0xf8;
        chip->icw_step = chip->icw3 ? 3 : chip->icw4 ? 4 : 0;
        break;
    case 3: /* how the pair is wired: fixed on a PC */
        chip->icw_step = chip->icw4 ? 4 : 0;
        break;
    case 4:
        chip->special_nested = value & 0x10;
        chip->auto_eoi = value & 0x02;
        chip->icw_step = 0;
        break;
    default:
        chip->imr = value;
        break;
    }
}

static uint8_t read_poll(struct pic_chip *chip, bool first)
{
    int input = request(chip, first);

    chip->poll = false;
    if (input < 0)
        return 0;
    acknowledge(chip, (unsigned)input);
    return 0x80 | (uint8_t)input;
}

static uint64_t port_read(struct pic *pic, unsigned which, uint64_t offset)
{
    struct pic_chip *chip = &pic->chip[which];
    uint8_t value;

    pthread_mutex_lock(&pic->lock);
    if (chip->poll) {
        value = read_poll(chip, which == 0);
        update(pic);
    } else if (offset == 1) {
        value = chip->imr;
    } else {
        value = chip->read_isr ? chip->isr : chip->irr;
    }
    pthread_mutex_unlock(&pic->lock);
    return value;
}

static void port_write(struct pic *pic, unsigned which, uint64_t offset, uint8_t value)
{
    pthread_mutex_lock(&pic->lock);
    if (offset == 0)
        write_command(&pic->chip[which], value);
    else
        write_data(&pic->chip[which], value);
    update(pic);
    pthread_mutex_unlock(&pic->lock);
}

static uint64_t first_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    return port_read(device, 0, offset);
}

static void first_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    port_write(device, 0, offset, (uint8_t)value);
}

static uint64_t second_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    return port_read(device, 1, offset);
}

static void second_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    port_write(device, 1, offset, (uint8_t)value);
}

static uint64_t elcr_read(void *device, unsigned vcpu, uint64_t offset, unsigned size)
{
    struct pic *pic = device;

    pthread_mutex_lock(&pic->lock);
    uint8_t value = pic->chip[offset & 1].elcr;
    pthread_mutex_unlock(&pic->lock);
    return value;
}

static void elcr_write(void *device, unsigned vcpu, uint64_t offset, unsigned size, uint64_t value)
{
    struct pic *pic = device;
    struct pic_chip *chip = &pic->chip[offset & 1];

    pthread_mutex_lock(&pic->lock);
    chip->elcr = (uint8_t)value & chip->elcr_writable;
    update(pic);
    pthread_mutex_unlock(&pic->lock);
}

const struct bus_ops pic_first_ops = {.read = first_read, .write = first_write};
const struct bus_ops pic_second_ops = {.read = second_read, .write = second_write};
const struct bus_ops pic_elcr_ops = {.read = elcr_read, .write = elcr_write};

void pic_reset(struct pic *pic)
{
    pthread_mutex_lock(&pic->lock);
    for (unsigned i = 0; i < 2; i++) {
        pic->chip[i].elcr = 0;
        reset_chip(&pic->chip[i]);
        pic->chip[i].imr = 0xff;
    }
    update(pic);
    pthread_mutex_unlock(&pic->lock);
}

void pic_init(struct pic *pic, void (*raise)(void *opaque), void *opaque)
{
    memset(pic, 0, sizeof(*pic));
    pthread_mutex_init(&pic->lock, NULL);
    pic->raise = raise;
    pic->opaque = opaque;
    pic->chip[0].elcr_writable = 0xf8; /* inputs 0-2 are edge by wiring, as are 8 and 13 */
    pic->chip[1].elcr_writable = 0xde;
    pic_reset(pic);
}

void pic_finish(struct pic *pic)
{
    pthread_mutex_destroy(&pic->lock);
}
