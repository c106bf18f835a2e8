/* SPDX-License-Identifier: Apache-2.0 */
/*
 * irq_line: a wire from a device to whatever interrupt controllers the board has.
 *
 * Level semantics: true is asserted. Setting the level it already has is allowed and does nothing. Any
 * thread; the receiver takes its own lock, which comes after every device's lock.
 */
#pragma once

#include <stdbool.h>

struct irq_line {
    void (*set)(void *opaque, unsigned irq, bool level);
    void *opaque;
    unsigned irq;
};

static inline void irq_line_set(const struct irq_line *line, bool level)
{
    line->set(line->opaque, line->irq, level);
}

/* A new rising edge; the wire stays high, as a timer's output does between its pulses. */
static inline void irq_line_edge(const struct irq_line *line)
{
    irq_line_set(line, false);
    irq_line_set(line, true);
}
