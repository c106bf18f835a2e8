/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event_thread: one thread that waits for the devices' file descriptors: call eventfds, sockets of device
 * servers.
 *
 * ready() runs on this thread, as often as the source's epoll events say: level-triggered, edge-triggered or once. A source
 * lives until it is removed or the thread has stopped.
 *
 * Threads: create, add, remove and stop on the main thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct event_thread;

struct event_source {
    int fd;                /* borrowed */
    uint32_t epoll_events; /* EPOLLIN, EPOLLRDHUP; EPOLLET, EPOLLONESHOT */
    void (*ready)(void *opaque, uint32_t epoll_events);
    void *opaque;
    bool added; /* the thread's own */
};

int event_thread_create(struct event_thread **ret_thread);
/* `source` stays where it is until it is removed. 0 or a negative errno. */
int event_thread_add(struct event_thread *thread, struct event_source *source);
/* Waits: its ready() does not run afterwards. The caller holds no lock that any ready() takes. A source that was never
 * added is passed over. Its descriptor is still open, or it left the set when it was closed. */
void event_thread_remove(struct event_thread *thread, struct event_source *source);
/* Joins: no ready() runs afterwards. Accepts NULL. */
void event_thread_stop(struct event_thread *thread);
