/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/timer.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "protocol/base/units.h"

struct timer_queue {
    pthread_t thread;
    pthread_mutex_t lock;
    int timer_fd; /* what the thread sleeps on */
    uint64_t
        programmed_ns; /* when it expires; never later than the earliest armed timer, but maybe earlier */
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

/* Locked. UINT64_MAX: never. A kernel timer, so that arming from a vCPU wakes no thread. */
static void program(struct timer_queue *queue, uint64_t deadline_ns)
{
    struct itimerspec when = {0};

    queue->programmed_ns = deadline_ns;
    if (deadline_ns == 0)
        deadline_ns = 1; /* zero would switch it off */
    if (deadline_ns != UINT64_MAX) {
        when.it_value.tv_sec = (time_t)(deadline_ns / NS_PER_SEC);
        when.it_value.tv_nsec = (long)(deadline_ns % NS_PER_SEC);
    }
    timerfd_settime(queue->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Locked; sleeps without the lock. */
static void sleep_programmed(struct timer_queue *queue)
{
    uint64_t expirations;

    pthread_mutex_unlock(&queue->lock);
    while (read(queue->timer_fd, &expirations, sizeof(expirations)) < 0 && errno == EINTR)
        ;
    pthread_mutex_lock(&queue->lock);
}

static void *timer_thread(void *argument)
{
    struct timer_queue *queue = argument;

    prctl(PR_SET_NAME, "timer", 0UL, 0UL, 0UL);
    pthread_mutex_lock(&queue->lock);
    while (!queue->quit) {
        struct timer *next = earliest(queue);
        uint64_t now_ns = timer_now_ns();

        if (!next || next->deadline_ns > now_ns) {
            program(queue, next ? next->deadline_ns : UINT64_MAX);
            sleep_programmed(queue);
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
    int error = 0;

    if (!queue)
        return -ENOMEM;
    pthread_mutex_init(&queue->lock, NULL);
    queue->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (queue->timer_fd < 0)
        error = errno;
    else
        error = pthread_create(&queue->thread, NULL, timer_thread, queue);
    if (error) {
        fd_close(&queue->timer_fd);
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
    program(queue, 0);
    pthread_mutex_unlock(&queue->lock);
    pthread_join(queue->thread, NULL);
}

void timer_queue_destroy(struct timer_queue *queue)
{
    if (!queue)
        return;
    timer_queue_stop(queue);
    fd_close(&queue->timer_fd);
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
    /* A thread that wakes earlier than needed looks again by itself. */
    if (deadline_ns < queue->programmed_ns && !queue->quit)
        program(queue, deadline_ns);
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
