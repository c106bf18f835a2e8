/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/console.h"

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/watch.h"
#include "protocol/base/fd.h"

#define INPUT_BYTES 4096
#define READ_BYTES  (64 * 1024) /* of output per turn of the loop */

struct viewer {
    struct console *console;
    struct watch *watch;
    uint64_t position; /* of the next byte to show, counted from the machine's first */
    char notice[96];   /* "N bytes skipped", still to be shown */
    size_t notice_bytes;
    char input[INPUT_BYTES];
    size_t input_bytes;
    bool input_ended;
};

struct console {
    uv_loop_t *loop;
    struct watch *vmm; /* NULL once it closed its end */
    GPtrArray *viewers;
    struct deadline *drain; /* draining when not NULL */
    uint64_t head;          /* bytes that ever came out */
    char *ring;             /* byte n is at n % CONSOLE_RING_BYTES */
};

static void viewer_update(struct viewer *viewer);

static void console_free_if_drained(struct console *console)
{
    if (console->drain && console->viewers->len == 0) {
        deadline_destroy(&console->drain);
        g_ptr_array_unref(console->viewers);
        g_free(console->ring);
        g_free(console);
    }
}

static void viewer_drop(struct viewer *viewer)
{
    watch_destroy(&viewer->watch);
    g_ptr_array_remove_fast(viewer->console->viewers, viewer);
    g_free(viewer);
}

/* Moves a viewer that fell out of the ring to its oldest byte, and makes the notice. */
static void viewer_skip(struct viewer *viewer)
{
    struct console *console = viewer->console;
    if (console->head - viewer->position <= CONSOLE_RING_BYTES || viewer->notice_bytes) {
        return;
    }
    uint64_t next = console->head - CONSOLE_RING_BYTES / 2; /* not at once behind again */
    int n = g_snprintf(viewer->notice, sizeof(viewer->notice),
                       "\r\n[bulkhead: %" PRIu64 " bytes skipped]\r\n", next - viewer->position);
    viewer->notice_bytes = (size_t)n;
    viewer->position = next;
}

/* Sends one piece. Bytes sent, 0 when it is up to date, or a negative errno. */
static ssize_t viewer_send(struct viewer *viewer)
{
    struct console *console = viewer->console;
    viewer_skip(viewer);
    int fd = watch_fd(viewer->watch);
    ssize_t n;
    if (viewer->notice_bytes) {
        n = send(fd, viewer->notice, viewer->notice_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            viewer->notice_bytes -= (size_t)n;
            memmove(viewer->notice, viewer->notice + n, viewer->notice_bytes);
        }
    } else {
        if (console->head - viewer->position > CONSOLE_RING_BYTES) {
            viewer->position = console->head - CONSOLE_RING_BYTES; /* fell behind again while being told */
        }
        size_t at = viewer->position % CONSOLE_RING_BYTES;
        size_t bytes = MIN(console->head - viewer->position, CONSOLE_RING_BYTES - at);
        if (bytes == 0) {
            return 0;
        }
        n = send(fd, console->ring + at, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        viewer->position += n > 0 ? (uint64_t)n : 0;
    }
    return n < 0 ? -errno : n;
}

static bool viewer_behind(const struct viewer *viewer)
{
    return viewer->notice_bytes || viewer->position < viewer->console->head;
}

/* Shows what it takes. False: the viewer was dropped. */
static bool viewer_show(struct viewer *viewer)
{
    ssize_t n;
    do {
        n = viewer_send(viewer);
    } while (n > 0 || n == -EINTR);
    if ((n < 0 && n != -EAGAIN) || (viewer->console->drain && !viewer_behind(viewer))) {
        viewer_drop(viewer);
        return false;
    }
    return true;
}

/* Input: reads only when the last piece went to the VMM. */
static void viewer_read(struct viewer *viewer)
{
    if (viewer->input_bytes == 0 && !viewer->input_ended) {
        ssize_t n = read(watch_fd(viewer->watch), viewer->input, sizeof(viewer->input));
        if (n > 0) {
            viewer->input_bytes = (size_t)n;
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            viewer->input_ended = true;
        }
    }
}

static void viewer_give_input(struct viewer *viewer)
{
    struct console *console = viewer->console;
    if (!console->vmm) {
        viewer->input_bytes = 0;
        return;
    }
    while (viewer->input_bytes) {
        ssize_t n =
            send(watch_fd(console->vmm), viewer->input, viewer->input_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR) {
                viewer->input_bytes = 0; /* the VMM is going; its end is told elsewhere */
            }
            return;
        }
        viewer->input_bytes -= (size_t)n;
        memmove(viewer->input, viewer->input + n, viewer->input_bytes);
    }
}

/* Waits for what the viewer and the VMM can do next. */
static void viewer_update(struct viewer *viewer)
{
    bool wants_input = viewer->console->vmm && viewer->input_bytes == 0 && !viewer->input_ended;
    watch_set_events(viewer->watch, (wants_input ? UV_READABLE : 0) |
                                        (viewer_behind(viewer) ? UV_WRITABLE : 0) |
                                        (viewer->input_ended ? 0 : UV_DISCONNECT));
}

static void console_update(struct console *console)
{
    bool input_waits = false;
    for (guint i = 0; i < console->viewers->len; i++) {
        struct viewer *viewer = g_ptr_array_index(console->viewers, i);
        viewer_update(viewer);
        input_waits = input_waits || viewer->input_bytes;
    }
    if (console->vmm) {
        watch_set_events(console->vmm, UV_READABLE | (input_waits ? UV_WRITABLE : 0));
    }
}

/* Both directions closed; one that closed only its input (a script that ended) still wants the output. */
static bool viewer_gone(const struct viewer *viewer)
{
    struct pollfd pollfd = {.fd = watch_fd(viewer->watch)};
    return poll(&pollfd, 1, 0) == 1 && (pollfd.revents & (POLLHUP | POLLERR));
}

static void viewer_ready(void *opaque, int events)
{
    struct viewer *viewer = opaque;
    struct console *console = viewer->console;
    bool alive = !(events & UV_WRITABLE) || viewer_show(viewer);
    if (alive && (events & (UV_READABLE | UV_DISCONNECT))) {
        viewer_read(viewer);
        viewer_give_input(viewer);
        if (viewer->input_ended && viewer_gone(viewer)) {
            viewer_drop(viewer);
        }
    }
    console_update(console);
    console_free_if_drained(console);
}

static void show_all(struct console *console)
{
    for (guint i = console->viewers->len; i-- > 0;) {
        viewer_show(g_ptr_array_index(console->viewers, i)); /* may remove this one, by one from behind */
    }
}

/* Reads up to READ_BYTES of output. False at the end of it. */
static bool console_read(struct console *console, size_t limit)
{
    while (limit > 0) {
        size_t at = console->head % CONSOLE_RING_BYTES;
        ssize_t n = read(watch_fd(console->vmm), console->ring + at, MIN(limit, CONSOLE_RING_BYTES - at));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 && errno == EAGAIN;
        }
        console->head += (uint64_t)n;
        limit -= (size_t)n;
    }
    return true;
}

static void vmm_ready(void *opaque, int events)
{
    struct console *console = opaque;
    if ((events & UV_READABLE) && !console_read(console, READ_BYTES)) {
        watch_destroy(&console->vmm);
    }
    show_all(console);
    for (guint i = 0; i < console->viewers->len; i++) {
        viewer_give_input(g_ptr_array_index(console->viewers, i));
    }
    console_update(console);
}

int console_create(uv_loop_t *loop, int vmm_fd, struct console **ret_console)
{
    struct console *console = g_new0(struct console, 1);
    console->loop = loop;
    int result = watch_create(loop, vmm_fd, UV_READABLE, vmm_ready, console, &console->vmm);
    if (result < 0) {
        g_free(console);
        return result;
    }
    console->viewers = g_ptr_array_new();
    console->ring = g_malloc(CONSOLE_RING_BYTES); /* untouched pages cost nothing */
    *ret_console = console;
    return 0;
}

/* Where a replay begins: after the first line end of the last CONSOLE_REPLAY_BYTES, or at the start of everything. */
static uint64_t replay_start(const struct console *console)
{
    if (console->head <= CONSOLE_REPLAY_BYTES) {
        return 0;
    }
    uint64_t start = console->head - CONSOLE_REPLAY_BYTES;
    for (uint64_t at = start; at < console->head; at++) {
        if (console->ring[at % CONSOLE_RING_BYTES] == '\n') {
            return at + 1;
        }
    }
    return start;
}

int console_attach(struct console *console, bool from_start)
{
    if (console->viewers->len == CONSOLE_VIEWERS_MAX) {
        return -EBUSY;
    }
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        return -errno;
    }
    struct viewer *viewer = g_new0(struct viewer, 1);
    viewer->console = console;
    int result = watch_create(console->loop, pair[0], UV_READABLE, viewer_ready, viewer, &viewer->watch);
    if (result < 0) {
        close(pair[1]);
        g_free(viewer);
        return result;
    }
    uint64_t oldest = console->head > CONSOLE_RING_BYTES ? console->head - CONSOLE_RING_BYTES : 0;
    viewer->position = from_start ? oldest : replay_start(console);
    g_ptr_array_add(console->viewers, viewer);
    viewer_update(viewer);
    return pair[1];
}

unsigned console_viewers(const struct console *console)
{
    return console->viewers->len;
}

static void drain_passed(void *opaque)
{
    struct console *console = opaque;
    for (guint i = console->viewers->len; i-- > 0;) {
        viewer_drop(g_ptr_array_index(console->viewers, i));
    }
    console_free_if_drained(console);
}

void console_end(struct console *console)
{
    if (!console) {
        return;
    }
    if (console->vmm) {
        console_read(console, CONSOLE_RING_BYTES); /* its socket holds less than that */
        watch_destroy(&console->vmm);
    }
    console->drain = deadline_create(console->loop, drain_passed, console);
    deadline_set(console->drain, CONSOLE_DRAIN_MS);
    show_all(console);
    console_update(console);
    console_free_if_drained(console);
}
