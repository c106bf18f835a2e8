/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timer: one thread that fires the board's timers.
 *
 * A timer belongs to a device and carries one absolute deadline (CLOCK_MONOTONIC, ns). When it passes, fire()
 * runs on the timer thread with no lock of this module held, so that it may take its device's lock and arm
 * timers again. A timer that is disarmed or re-armed while it is about to fire may still fire once with the
 * old deadline: fire() compares its device's own state with the time it is given and does nothing if it came
 * for no reason.
 *
 * States of a timer: idle -> armed -> (fired) idle. timer_queue_destroy() comes after all timers are out of
 * use. Threads: arm and disarm from any thread. Lock order: a device's lock before this module's. Timers are
 * few (one per vCPU and a handful of devices), so that a scan beats a heap.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define TIMER_MAX 64

struct timer_queue;

struct timer {
    struct timer_queue *queue;
    void (*fire)(void *opaque, uint64_t now_ns);
    void *opaque;
    uint64_t deadline_ns;
    bool armed;
};

uint64_t timer_now_ns(void);

/* Starts the thread. 0, -ENOMEM or -EAGAIN. */
int timer_queue_create(struct timer_queue **ret_queue);
/* Joins the thread: nothing fires any more; arming stays harmless. Accepts NULL; may be called again. */
void timer_queue_stop(struct timer_queue *queue);
/* Stops it first; accepts NULL. */
void timer_queue_destroy(struct timer_queue *queue);

void timer_init(struct timer *timer, struct timer_queue *queue, void (*fire)(void *opaque, uint64_t now_ns),
                void *opaque);
/* A deadline in the past fires at once. A timer that is armed already moves. */
void timer_arm(struct timer *timer, uint64_t deadline_ns);
void timer_disarm(struct timer *timer);
