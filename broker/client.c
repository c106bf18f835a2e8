/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/client.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/machine.h"
#include "protocol/base/fd.h"
#include "protocol/base/log.h"
#include "protocol/control_channel.h"

#define VERSION 1

/* A request whose last answer is still to come: the machine's end. */
struct pending {
    struct machine_observer observer;
    struct client *client;
    uint64_t id;
    bool owns; /* started it in the foreground */
    bool wants_started;
};

struct client {
    struct broker *broker;
    struct watch *watch;
    struct control_channel channel; /* holds a duplicate of the watch's fd */
    struct deadline *deadline;
    GPtrArray *pendings;
    bool greeted;
    bool broken; /* to be destroyed by whoever is at the bottom of the stack */
};

/* Answers. */

static void client_update(struct client *client)
{
    int result = client->broken ? -ECONNRESET : control_channel_flush(&client->channel);
    if (result < 0) {
        client->broken = true;
        return;
    }
    watch_set_events(client->watch, UV_READABLE | (result > 0 ? UV_WRITABLE : 0));
}

/* Queues a reply; takes fd (-1: none). */
static void client_reply(struct client *client, const Bulkhead__Reply *reply, int fd)
{
    size_t bytes = bulkhead__reply__get_packed_size(reply);
    g_autofree uint8_t *packed = g_malloc(bytes);
    bulkhead__reply__pack(reply, packed);
    if (client->broken || control_channel_queue(&client->channel, packed, bytes, fd) < 0) {
        client->broken = true;
    }
    client_update(client);
}

static void reply_error(struct client *client, uint64_t id, const char *text)
{
    Bulkhead__Error error = BULKHEAD__ERROR__INIT;
    error.text = (char *)text;
    Bulkhead__Reply reply = BULKHEAD__REPLY__INIT;
    reply.id = id;
    reply.body_case = BULKHEAD__REPLY__BODY_ERROR;
    reply.error = &error;
    client_reply(client, &reply, -1);
}

static void reply_started(struct client *client, uint64_t id, struct machine *machine)
{
    const struct machine_spec *spec = machine_get_spec(machine);
    int console_fd = machine_attach(machine, true);
    Bulkhead__Started started = BULKHEAD__STARTED__INIT;
    started.name = (char *)spec->name;
    started.cpus = spec->cpus;
    started.memory_bytes = spec->memory_bytes;
    started.accel = (char *)spec->accel;
    started.accel_reason = (char *)spec->accel_reason;
    Bulkhead__Reply reply = BULKHEAD__REPLY__INIT;
    reply.id = id;
    reply.body_case = BULKHEAD__REPLY__BODY_STARTED;
    reply.started = &started;
    client_reply(client, &reply, console_fd);
}

static void reply_ended(struct client *client, uint64_t id, struct machine *machine)
{
    const char *text;
    Bulkhead__Ended ended = BULKHEAD__ENDED__INIT;
    ended.kind = machine_get_end(machine, &text);
    ended.name = (char *)machine_get_spec(machine)->name;
    ended.text = (char *)text;
    Bulkhead__Reply reply = BULKHEAD__REPLY__INIT;
    reply.id = id;
    reply.body_case = BULKHEAD__REPLY__BODY_ENDED;
    reply.ended = &ended;
    client_reply(client, &reply, -1);
}

/* Pending requests. */

static void pending_free(struct pending *pending)
{
    machine_unobserve(&pending->observer);
    g_ptr_array_remove_fast(pending->client->pendings, pending);
    g_free(pending);
}

static void client_settle(struct client *client);

static void pending_event(struct machine_observer *observer, enum machine_event event)
{
    struct pending *pending = (struct pending *)observer;
    struct client *client = pending->client;
    const char *text;
    if (event == MACHINE_STARTED) {
        if (pending->wants_started) {
            pending->wants_started = false;
            reply_started(client, pending->id, observer->machine);
        }
    } else {
        if (pending->wants_started) {
            machine_get_end(observer->machine, &text);
            reply_error(client, pending->id, text);
        } else {
            reply_ended(client, pending->id, observer->machine);
        }
        pending_free(pending);
    }
    client_settle(client);
}

static struct pending *pending_add(struct client *client, uint64_t id, struct machine *machine)
{
    struct pending *pending = g_new0(struct pending, 1);
    pending->observer.event = pending_event;
    pending->client = client;
    pending->id = id;
    g_ptr_array_add(client->pendings, pending);
    machine_observe(machine, &pending->observer);
    return pending;
}

/* Requests. Each handler answers, or adds a pending. */

static struct machine *find_or_refuse(struct client *client, uint64_t id, const char *name)
{
    struct machine *machine = machine_name_valid(name) ? broker_find(client->broker, name) : NULL;
    if (!machine) {
        g_autofree char *text =
            g_strdup_printf("no machine with the name %.60s runs; bulkhead ps lists them", name);
        reply_error(client, id, text);
    }
    return machine;
}

static void handle_hello(struct client *client, const Bulkhead__Request *request)
{
    if (request->hello->version != VERSION) {
        reply_error(client, request->id,
                    "this broker speaks version 1 of the control protocol; use the bulkhead "
                    "command that belongs to it, or end all machines to let a new broker start");
        return;
    }
    client->greeted = true;
    Bulkhead__HelloReply hello = BULKHEAD__HELLO_REPLY__INIT;
    hello.version = VERSION;
    hello.broker_pid = getpid();
    hello.release = (char *)BULKHEAD_VERSION;
    Bulkhead__Reply reply = BULKHEAD__REPLY__INIT;
    reply.id = request->id;
    reply.body_case = BULKHEAD__REPLY__BODY_HELLO;
    reply.hello = &hello;
    client_reply(client, &reply, -1);
}

static void handle_run(struct client *client, const Bulkhead__Request *request)
{
    if (client->broker->ending) {
        reply_error(client, request->id, "the broker is ending; try again");
        return;
    }
    if (!request->run->machine) {
        reply_error(client, request->id, "the request names no machine");
        return;
    }
    struct reason reason;
    struct machine *machine;
    if (machine_create(client->broker, request->run->machine, &reason, &machine) < 0) {
        reply_error(client, request->id, reason.text);
        return;
    }
    struct pending *pending = pending_add(client, request->id, machine);
    pending->wants_started = true;
    pending->owns = !request->run->detach;
}

static void handle_list(struct client *client, const Bulkhead__Request *request)
{
    GPtrArray *machines = client->broker->machines;
    g_autofree Bulkhead__MachineStatus *status = g_new(Bulkhead__MachineStatus, machines->len);
    g_autofree Bulkhead__MachineStatus **pointers = g_new(Bulkhead__MachineStatus *, machines->len);
    for (guint i = 0; i < machines->len; i++) {
        machine_status_init(g_ptr_array_index(machines, i), &status[i]);
        pointers[i] = &status[i];
    }
    Bulkhead__ListReply list = BULKHEAD__LIST_REPLY__INIT;
    list.n_machines = machines->len;
    list.machines = pointers;
    Bulkhead__Reply reply = BULKHEAD__REPLY__INIT;
    reply.id = request->id;
    reply.body_case = BULKHEAD__REPLY__BODY_LIST;
    reply.list = &list;
    client_reply(client, &reply, -1);
    for (guint i = 0; i < machines->len; i++) {
        machine_status_finish(&status[i]);
    }
}

static void handle_stop(struct client *client, const Bulkhead__Request *request)
{
    struct machine *machine = find_or_refuse(client, request->id, request->stop->name);
    if (machine) {
        pending_add(client, request->id, machine);
        machine_stop(machine, request->stop->timeout_ms);
    }
}

static void handle_kill(struct client *client, const Bulkhead__Request *request)
{
    struct machine *machine = find_or_refuse(client, request->id, request->kill->name);
    if (machine) {
        pending_add(client, request->id, machine);
        machine_kill(machine);
    }
}

static void handle_console(struct client *client, const Bulkhead__Request *request)
{
    struct machine *machine = find_or_refuse(client, request->id, request->console->name);
    if (!machine) {
        return;
    }
    int fd = machine_attach(machine, false);
    if (fd < 0) {
        reply_error(client, request->id,
                    fd == -EBUSY ? "too many look at this console already; detach one" : strerror(-fd));
        return;
    }
    Bulkhead__ConsoleReply console = BULKHEAD__CONSOLE_REPLY__INIT;
    Bulkhead__Reply reply = BULKHEAD__REPLY__INIT;
    reply.id = request->id;
    reply.body_case = BULKHEAD__REPLY__BODY_CONSOLE;
    reply.console = &console;
    client_reply(client, &reply, fd);
    pending_add(client, request->id, machine);
}

static void handle_release(struct client *client, const Bulkhead__Request *request)
{
    struct machine *machine = find_or_refuse(client, request->id, request->release->name);
    if (!machine) {
        return;
    }
    for (guint i = 0; i < client->pendings->len; i++) {
        struct pending *pending = g_ptr_array_index(client->pendings, i);
        pending->owns = pending->owns && pending->observer.machine != machine;
    }
    Bulkhead__Done done = BULKHEAD__DONE__INIT;
    Bulkhead__Reply reply = BULKHEAD__REPLY__INIT;
    reply.id = request->id;
    reply.body_case = BULKHEAD__REPLY__BODY_DONE;
    reply.done = &done;
    client_reply(client, &reply, -1);
}

static const struct request_rule {
    Bulkhead__Request__BodyCase body;
    bool greeted; /* allowed in state serving; else in state greeting */
    void (*handle)(struct client *client, const Bulkhead__Request *request);
} request_rules[] = {
    {BULKHEAD__REQUEST__BODY_HELLO, false, handle_hello},
    {BULKHEAD__REQUEST__BODY_RUN, true, handle_run},
    {BULKHEAD__REQUEST__BODY_LIST, true, handle_list},
    {BULKHEAD__REQUEST__BODY_STOP, true, handle_stop},
    {BULKHEAD__REQUEST__BODY_KILL, true, handle_kill},
    {BULKHEAD__REQUEST__BODY_CONSOLE, true, handle_console},
    {BULKHEAD__REQUEST__BODY_RELEASE, true, handle_release},
};

static void client_request(struct client *client, const uint8_t *payload, size_t bytes)
{
    Bulkhead__Request *request = bulkhead__request__unpack(NULL, bytes, payload);
    const struct request_rule *rule = NULL;
    for (size_t i = 0; request && i < G_N_ELEMENTS(request_rules); i++) {
        if (request_rules[i].body == request->body_case && request_rules[i].greeted == client->greeted) {
            rule = &request_rules[i];
        }
    }
    if (!rule || client->pendings->len >= CLIENT_PENDING_MAX) {
        client->broken = true;
    } else {
        rule->handle(client, request);
    }
    bulkhead__request__free_unpacked(request, NULL);
}

/* The connection. */

/* After anything happened: sets what it may take until the next thing, or ends a broken client. */
static void client_settle(struct client *client)
{
    if (client->broken) {
        client_destroy(client);
    } else if (!client->greeted || control_channel_in_frame(&client->channel)) {
        /* The deadline of the greeting or the frame runs since its begin. */
    } else if (client->pendings->len) {
        deadline_clear(client->deadline);
    } else {
        deadline_set(client->deadline, CLIENT_IDLE_MS);
    }
}

static void client_read(struct client *client)
{
    bool was_in_frame = control_channel_in_frame(&client->channel);
    for (unsigned i = 0; i < 8 && !client->broken; i++) { /* then others have their turn */
        const uint8_t *payload;
        size_t bytes;
        int fd;
        int result = control_channel_receive(&client->channel, &payload, &bytes, &fd);
        if (result < 0) {
            client->broken = true;
        } else if (result == 0) {
            break;
        } else {
            was_in_frame = false;
            client_request(client, payload, bytes);
        }
    }
    if (!client->broken && client->greeted && !was_in_frame && control_channel_in_frame(&client->channel)) {
        deadline_set(client->deadline, CLIENT_FRAME_MS);
    }
}

static void client_ready(void *opaque, int events)
{
    struct client *client = opaque;
    if (events & UV_READABLE) {
        client_read(client);
    }
    client_update(client);
    client_settle(client);
}

static void client_overdue(void *opaque)
{
    client_destroy(opaque);
}

/* True for our own user and root. */
static bool peer_allowed(int fd)
{
    struct ucred peer;
    socklen_t bytes = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0) {
        return false;
    }
    if (peer.uid != geteuid() && peer.uid != 0) {
        log_warning("refused a client of uid %u (process %d)", (unsigned)peer.uid, peer.pid);
        return false;
    }
    return true;
}

void client_create(struct broker *broker, int fd)
{
    cleanup_fd int own_fd = fd;
    if (!peer_allowed(fd)) {
        return;
    }
    struct client *client = g_new0(struct client, 1);
    client->broker = broker;
    int channel_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (channel_fd < 0 || control_channel_init(&client->channel, channel_fd, false) < 0) {
        fd_close(&channel_fd);
        g_free(client);
        return;
    }
    if (watch_create(&broker->loop, fd_steal(&own_fd), UV_READABLE, client_ready, client, &client->watch) <
        0) {
        control_channel_finish(&client->channel);
        g_free(client);
        return;
    }
    client->pendings = g_ptr_array_new();
    client->deadline = deadline_create(&broker->loop, client_overdue, client);
    deadline_set(client->deadline, CLIENT_FRAME_MS);
    g_ptr_array_add(broker->clients, client);
}

void client_destroy(struct client *client)
{
    struct broker *broker = client->broker;
    g_ptr_array_remove_fast(broker->clients, client);
    watch_destroy(&client->watch);
    deadline_destroy(&client->deadline);
    control_channel_finish(&client->channel);
    while (client->pendings->len) {
        struct pending *pending = g_ptr_array_index(client->pendings, 0);
        struct machine *machine = pending->owns ? pending->observer.machine : NULL;
        pending_free(pending);
        if (machine) {
            machine_stop(machine, CLIENT_ORPHAN_MS);
        }
    }
    g_ptr_array_unref(client->pendings);
    g_free(client);
    broker_look_idle(broker);
}
