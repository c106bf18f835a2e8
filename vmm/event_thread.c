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
};

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

    return epoll_ctl(thread->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0 ? -errno : 0;
}

void event_thread_stop(struct event_thread *thread)
{
    if (!thread)
        return;
    fd_eventfd_signal(thread->quit_fd);
    pthread_join(thread->thread, NULL);
    destroy(thread);
}
