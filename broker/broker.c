/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/broker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/client.h"
#include "broker/machine.h"
#include "protocol/base/log.h"

struct machine *broker_find(struct broker *broker, const char *name)
{
    for (guint i = 0; i < broker->machines->len; i++) {
        struct machine *machine = g_ptr_array_index(broker->machines, i);
        if (strcmp(machine_get_spec(machine)->name, name) == 0) {
            return machine;
        }
    }
    return NULL;
}

static void listener_update(struct broker *broker)
{
    if (broker->listener) {
        watch_set_events(broker->listener, broker->clients->len < BROKER_CLIENTS_MAX ? UV_READABLE : 0);
    }
}

void broker_look_idle(struct broker *broker)
{
    listener_update(broker);
    if (broker->machines->len || (broker->clients->len && !broker->ending)) {
        deadline_clear(broker->idle);
    } else {
        deadline_set(broker->idle, broker->ending ? 0 : broker->idle_ms);
    }
}

static void listener_ready(void *opaque, int events)
{
    struct broker *broker = opaque;
    while (broker->clients->len < BROKER_CLIENTS_MAX) {
        int fd = accept4(watch_fd(broker->listener), NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED) {
                continue;
            }
            if (errno != EAGAIN) {
                log_error("cannot accept a client: %s", strerror(errno));
            }
            break;
        }
        client_create(broker, fd);
    }
    broker_look_idle(broker);
}

/* Takes the socket away, so that a new broker may make one. From here on nobody can reach this one. */
static void close_door(struct broker *broker)
{
    unlinkat(broker->dir_fd, CONTROL_SOCKET_NAME, 0);
    watch_destroy(&broker->listener);
}

/* Idle for long enough: ends, unless a client is at the door. The lock keeps new brokers from looking meanwhile. */
static void idle_passed(void *opaque)
{
    struct broker *broker = opaque;
    if (broker->listener) {
        if (flock(broker->dir_fd, LOCK_EX | LOCK_NB) < 0) {
            deadline_set(broker->idle, broker->idle_ms);
            return;
        }
        struct pollfd door = {.fd = watch_fd(broker->listener), .events = POLLIN};
        if (!broker->ending && poll(&door, 1, 0) > 0) {
            flock(broker->dir_fd, LOCK_UN);
            return; /* the loop accepts it next */
        }
        close_door(broker);
        flock(broker->dir_fd, LOCK_UN);
    }
    uv_stop(&broker->loop);
}

/* SIGTERM and the like: first the power buttons, a second time by force. */
static void signal_came(uv_signal_t *handle, int number)
{
    struct broker *broker = handle->data;
    log_info("ending on %s with %u machines", strsignal(number), broker->machines->len);
    for (guint i = broker->machines->len; i-- > 0;) {
        struct machine *machine = g_ptr_array_index(broker->machines, i);
        if (broker->ending) {
            machine_kill(machine);
        } else {
            machine_stop(machine, BROKER_STOP_MS);
        }
    }
    broker->ending = true;
    broker_look_idle(broker);
}

int broker_init(struct broker *broker, const char *dir, int dir_fd, int listen_fd, uint64_t idle_ms)
{
    *broker = (struct broker){.dir_fd = dir_fd, .idle_ms = idle_ms};
    g_strlcpy(broker->dir, dir, sizeof(broker->dir));
    int result = uv_loop_init(&broker->loop);
    if (result < 0) {
        close(listen_fd);
        return result;
    }
    broker->clients = g_ptr_array_new();
    broker->machines = g_ptr_array_new();
    broker->idle = deadline_create(&broker->loop, idle_passed, broker);
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
        uv_signal_init(&broker->loop, &broker->signals[i]);
        broker->signals[i].data = broker;
        uv_signal_start(&broker->signals[i], signal_came, numbers[i]);
    }
    result = watch_create(&broker->loop, listen_fd, UV_READABLE, listener_ready, broker, &broker->listener);
    if (result == 0) {
        broker_look_idle(broker);
    }
    return result;
}

void broker_run(struct broker *broker)
{
    uv_run(&broker->loop, UV_RUN_DEFAULT);
}

void broker_finish(struct broker *broker)
{
    if (broker->listener) {
        close_door(broker);
    }
    while (broker->clients->len) {
        client_destroy(g_ptr_array_index(broker->clients, 0));
    }
    deadline_destroy(&broker->idle);
    for (size_t i = 0; i < G_N_ELEMENTS(broker->signals); i++) {
        uv_close((uv_handle_t *)&broker->signals[i], NULL);
    }
    uv_run(&broker->loop, UV_RUN_DEFAULT); /* the handles' closing, and consoles that still drain */
    int result = uv_loop_close(&broker->loop);
    g_assert(result == 0);
    g_ptr_array_unref(broker->clients);
    g_ptr_array_unref(broker->machines);
    close(broker->dir_fd);
}
