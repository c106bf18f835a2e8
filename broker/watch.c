/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/watch.h"

#include <glib.h>
#include <unistd.h>

struct watch {
    uv_poll_t handle;
    int fd;
    int events;
    watch_fn ready;
    void *opaque;
};

static void watch_closed(uv_handle_t *handle)
{
    struct watch *watch = handle->data;
    close(watch->fd);
    g_free(watch);
}

static void watch_ready(uv_poll_t *handle, int status, int events)
{
    struct watch *watch = handle->data;
    if (status < 0) { /* libuv has stopped the handle */
        events = watch->events;
        watch->events = 0;
    }
    watch->ready(watch->opaque, events);
}

int watch_create(uv_loop_t *loop, int fd, int events, watch_fn ready, void *opaque, struct watch **ret_watch)
{
    struct watch *watch = g_new0(struct watch, 1);
    watch->fd = fd;
    watch->ready = ready;
    watch->opaque = opaque;
    int result = uv_poll_init(loop, &watch->handle, fd);
    if (result < 0) {
        close(fd);
        g_free(watch);
        return result;
    }
    watch->handle.data = watch;
    watch_set_events(watch, events);
    *ret_watch = watch;
    return 0;
}

void watch_set_events(struct watch *watch, int events)
{
    if (events == watch->events) {
        return;
    }
    watch->events = events;
    if (events) {
        uv_poll_start(&watch->handle, events, watch_ready);
    } else {
        uv_poll_stop(&watch->handle);
    }
}

int watch_fd(const struct watch *watch)
{
    return watch->fd;
}

void watch_destroy(struct watch **watch)
{
    if (*watch) {
        uv_close((uv_handle_t *)&(*watch)->handle, watch_closed);
        *watch = NULL;
    }
}

struct deadline {
    uv_timer_t handle;
    deadline_fn passed;
    void *opaque;
};

static void deadline_closed(uv_handle_t *handle)
{
    g_free(handle->data);
}

static void deadline_passed(uv_timer_t *handle)
{
    struct deadline *deadline = handle->data;
    deadline->passed(deadline->opaque);
}

struct deadline *deadline_create(uv_loop_t *loop, deadline_fn passed, void *opaque)
{
    struct deadline *deadline = g_new0(struct deadline, 1);
    deadline->passed = passed;
    deadline->opaque = opaque;
    uv_timer_init(loop, &deadline->handle);
    deadline->handle.data = deadline;
    return deadline;
}

void deadline_set(struct deadline *deadline, uint64_t delay_ms)
{
    uv_update_time(deadline->handle.loop);
    uv_timer_start(&deadline->handle, deadline_passed, delay_ms, 0);
}

void deadline_clear(struct deadline *deadline)
{
    uv_timer_stop(&deadline->handle);
}

void deadline_destroy(struct deadline **deadline)
{
    if (*deadline) {
        uv_close((uv_handle_t *)&(*deadline)->handle, deadline_closed);
        *deadline = NULL;
    }
}
