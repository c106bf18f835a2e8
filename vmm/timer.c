/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/timer.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include "protocol/base/units.h"

struct timer_queue {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    uint64_t sleeping_until_ns; /* what the thread waits for; 0 while it is awake */
    bool quit;
    unsigned count;
    struct timer *armed[TIMER_MAX];
};

uint64_t timer_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

static struct timer *earliest(struct timer_queue *queue)
{
    struct timer *best = NULL;

    for (unsigned i = 0; i < queue->count; i++)
        if (!best || queue->armed[i]->deadline_ns < best->deadline_ns)
            best = queue->armed[i];
    return best;
}

static void remove_armed(struct timer_queue *queue, struct timer *timer)
{
    for (unsigned i = 0; i < queue->count; i++) {
        if (queue->armed[i] == timer) {
            queue->armed[i] = queue->armed[--queue->count];
            break;
        }
    }
    timer->armed = false;
}

static void sleep_until(struct timer_queue *queue, uint64_t deadline_ns)
{
    queue->sleeping_until_ns = deadline_ns;
    if (deadline_ns == UINT64_MAX) {
        pthread_cond_wait(&queue->wake, &queue->lock);
    } else {
        struct timespec until = {.tv_sec = (time_t)(deadline_ns / NS_PER_SEC),
                                 .tv_nsec = (long)(deadline_ns % NS_PER_SEC)};

        pthread_cond_timedwait(&queue->wake, &queue->lock, &until);
    }
    queue->sleeping_until_ns = 0;
}

static void *timer_thread(void *argument)
{
    struct timer_queue *queue = argument;

    /* The default slack of 50 us would be added to every guest timer. */
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    prctl(PR_SET_NAME, "timer", 0UL, 0UL, 0UL);
    pthread_mutex_lock(&queue->lock);
    while (!queue->quit) {
        struct timer *next = earliest(queue);
        uint64_t now_ns = timer_now_ns();

        if (!next || next->deadline_ns > now_ns) {
            sleep_until(queue, next ? next->deadline_ns : UINT64_MAX);
            continue;
        }
        remove_armed(queue, next);
        pthread_mutex_unlock(&queue->lock);
        next->fire(next->opaque, now_ns);
        pthread_mutex_lock(&queue->lock);
    }
    pthread_mutex_unlock(&queue->lock);
    return NULL;
}

int timer_queue_create(struct timer_queue **ret_queue)
{
    struct timer_queue *queue = calloc(1, sizeof(*queue));
    pthread_condattr_t attributes;
    int error;

    if (!queue)
        return -ENOMEM;
    pthread_mutex_init(&queue->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    error = pthread_create(&queue->thread, NULL, timer_thread, queue);
    if (error) {
        pthread_cond_destroy(&queue->wake);
        pthread_mutex_destroy(&queue->lock);
        free(queue);
        return -error;
    }
    *ret_queue = queue;
    return 0;
}

void timer_queue_stop(struct timer_queue *queue)
{
    if (!queue || queue->quit)
        return;
    pthread_mutex_lock(&queue->lock);
    queue->quit = true;
    pthread_cond_signal(&queue->wake);
    pthread_mutex_unlock(&queue->lock);
    pthread_join(queue->thread, NULL);
}

void timer_queue_destroy(struct timer_queue *queue)
{
    if (!queue)
        return;
    timer_queue_stop(queue);
    pthread_cond_destroy(&queue->wake);
    pthread_mutex_destroy(&queue->lock);
    free(queue);
}

void timer_init(struct timer *timer, struct timer_queue *queue, void (*fire)(void *opaque, uint64_t now_ns),
                void *opaque)
{
    *timer = (struct timer){.queue = queue, .fire = fire, .opaque = opaque};
}

void timer_arm(struct timer *timer, uint64_t deadline_ns)
{
    struct timer_queue *queue = timer->queue;

    pthread_mutex_lock(&queue->lock);
    timer->deadline_ns = deadline_ns;
    if (!timer->armed) {
        assert(queue->count < TIMER_MAX);
        queue->armed[queue->count++] = timer;
        timer->armed = true;
    }
    /* A thread that already wakes earlier looks again by itself. */
    if (deadline_ns < queue->sleeping_until_ns)
        pthread_cond_signal(&queue->wake);
    pthread_mutex_unlock(&queue->lock);
}

void timer_disarm(struct timer *timer)
{
    struct timer_queue *queue = timer->queue;

    pthread_mutex_lock(&queue->lock);
    if (timer->armed)
        remove_armed(queue, timer);
    pthread_mutex_unlock(&queue->lock);
}
