/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch: file descriptors and deadlines on the broker's loop, with an end that cannot be got wrong.
 *
 * libuv closes handles asynchronously. Here the handle lives in an object of its own, so that whoever owns the watch
 * may destroy it (also from within its own callback) and free himself at once: after destroy returns the callback is
 * never called again; the handle, and for a watch its fd, go when libuv is done with them.
 *
 * Owner thread: the loop's.
 */
#pragma once

#include <stdint.h>
#include <uv.h>

struct watch;
typedef void (*watch_fn)(void *opaque, int events); /* events: UV_READABLE, UV_WRITABLE, UV_DISCONNECT */

/*
 * Takes `fd` (made non-blocking) and calls `ready` on `events`. 0, or a negative errno and `fd` is closed.
 * An error of the fd shows as all events that were asked for.
 */
int watch_create(uv_loop_t *loop, int fd, int events, watch_fn ready, void *opaque, struct watch **ret_watch);
void watch_set_events(struct watch *watch, int events); /* 0: none for now */
int watch_fd(const struct watch *watch);                /* borrowed */
void watch_destroy(struct watch **watch);               /* closes the fd; accepts NULL within; leaves NULL */

struct deadline;
typedef void (*deadline_fn)(void *opaque);

struct deadline *deadline_create(uv_loop_t *loop, deadline_fn passed, void *opaque);
void deadline_set(struct deadline *deadline, uint64_t delay_ms); /* from now; replaces an earlier one */
void deadline_clear(struct deadline *deadline);
void deadline_destroy(struct deadline **deadline);
