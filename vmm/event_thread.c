/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/event_thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "protocol/base/fd.h"

#define BATCH 32

struct event_thread {
    pthread_t thread;
    int epoll_fd, quit_fd;

    /* event_thread_remove() waits for a pass through the loop that began after it had taken the source out */
    struct event_source pass;
    pthread_mutex_t lock;
    pthread_cond_t passed;
    bool pass_wanted;
};

/* epoll_wait() reported this after the source had left the set, so the source is not in this batch or a later one. */
static void pass_through(void *opaque, uint32_t events)
{
    struct event_thread *thread = opaque;

    fd_eventfd_consume(thread->pass.fd);
    pthread_mutex_lock(&thread->lock);
    thread->pass_wanted = false;
    pthread_cond_signal(&thread->passed);
    pthread_mutex_unlock(&thread->lock);
}

static void *run(void *argument)
{
    struct event_thread *thread = argument;
    struct epoll_event events[BATCH];

    prctl(PR_SET_NAME, "devices", 0UL, 0UL, 0UL);
    for (;;) {
        int count = epoll_wait(thread->epoll_fd, events, BATCH, -1);

        for (int i = 0; i < count; i++) {
            struct event_source *source = events[i].data.ptr;

            if (!source)
                return NULL; /* quit */
            source->ready(source->opaque, events[i].events);
        }
    }
}

static void destroy(struct event_thread *thread)
{
    fd_close(&thread->epoll_fd);
    fd_close(&thread->quit_fd);
    fd_close(&thread->pass.fd);
    pthread_cond_destroy(&thread->passed);
    pthread_mutex_destroy(&thread->lock);
    free(thread);
}

int event_thread_create(struct event_thread **ret_thread)
{
    struct event_thread *thread = calloc(1, sizeof(*thread));
    struct epoll_event quit = {.events = EPOLLIN};
    int result = 0;

    if (!thread)
        return -ENOMEM;
    thread->quit_fd = -1;
    thread->pass = (struct event_source){
        .fd = fd_eventfd_create(), .epoll_events = EPOLLIN, .ready = pass_through, .opaque = thread};
    pthread_mutex_init(&thread->lock, NULL);
    pthread_cond_init(&thread->passed, NULL);
    thread->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (thread->epoll_fd < 0) {
        result = -errno;
        destroy(thread);
        return result;
    }
    thread->quit_fd = fd_eventfd_create();
    if (thread->quit_fd < 0)
        result = thread->quit_fd;
    else if (epoll_ctl(thread->epoll_fd, EPOLL_CTL_ADD, thread->quit_fd, &quit) < 0)
        result = -errno;
    else
        result = event_thread_add(thread, &thread->pass);
    if (result == 0)
        result = -pthread_create(&thread->thread, NULL, run, thread);
    if (result < 0) {
        destroy(thread);
        return result;
    }
    *ret_thread = thread;
    return 0;
}

int event_thread_add(struct event_thread *thread, struct event_source *source)
{
    struct epoll_event event = {.events = source->epoll_events, .data = {.ptr = source}};

    if (epoll_ctl(thread->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0)
        return -errno;
    source->added = true;
    return 0;
}

void event_thread_remove(struct event_thread *thread, struct event_source *source)
{
    if (!source->added)
        return;
    source->added = false;
    epoll_ctl(thread->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    pthread_mutex_lock(&thread->lock);
    thread->pass_wanted = true;
    fd_eventfd_signal(thread->pass.fd);
    while (thread->pass_wanted)
        pthread_cond_wait(&thread->passed, &thread->lock);
    pthread_mutex_unlock(&thread->lock);
}

void event_thread_stop(struct event_thread *thread)
{
    if (!thread)
        return;
    fd_eventfd_signal(thread->quit_fd);
    pthread_join(thread->thread, NULL);
    destroy(thread);
}
