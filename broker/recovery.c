/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/recovery.h"

#include <errno.h>
#include <string.h>

#include "broker/machine_internal.h"
#include "protocol/base/fd.h"
#include "protocol/base/log.h"

#define SHORT_LIFE_MS      100
#define FAILURES_AT_ONCE   3
#define FIRST_WAIT_MS      50
#define LONGEST_WAIT_MS    5000
#define START_LIMIT_MS     10000
#define HAND_OVER_LIMIT_MS 30000

static uint64_t now_ms(const struct machine_process *server)
{
    return uv_now(&server->machine->broker->loop);
}

static void set_cause(struct machine_process *server, const char *text)
{
    g_strlcpy(server->recovery.cause, text, sizeof(server->recovery.cause));
    server->recovery.cause_known = true;
}

static uint64_t wait_for(unsigned failures)
{
    if (failures <= FAILURES_AT_ONCE) {
        return 0;
    }
    unsigned doublings = MIN(failures - FAILURES_AT_ONCE - 1, 10);
    return MIN((uint64_t)FIRST_WAIT_MS << doublings, LONGEST_WAIT_MS);
}

static void try_again(struct machine_process *server);

/* Starts a successor. Its failure to start is one more failure. */
static void start_successor(struct machine_process *server)
{
    struct recovery *recovery = &server->recovery;
    struct reason reason;
    recovery->phase = RECOVERY_STARTING;
    recovery->cause_known = false;
    int result = machine_connect_server(server);
    if (result < 0) {
        reason_set(&reason, result, "no sockets for a successor: %s; raise the limit on open files",
                   strerror(-result));
    } else {
        result = machine_start_process(server, &reason);
    }
    if (result < 0) {
        set_cause(server, reason.text);
        recovery->failures++;
        try_again(server);
        return;
    }
    deadline_set(recovery->deadline, START_LIMIT_MS);
}

static void try_again(struct machine_process *server)
{
    struct recovery *recovery = &server->recovery;
    recovery->wait_ms = wait_for(recovery->failures);
    recovery->phase = RECOVERY_WAITING;
    if (recovery->wait_ms == 0 && recovery->failures <= FAILURES_AT_ONCE) {
        start_successor(server);
    } else {
        deadline_set(recovery->deadline, recovery->wait_ms);
    }
}

static void deadline_over(void *opaque)
{
    struct machine_process *server = opaque;
    if (!machine_serves(server->machine)) {
        return;
    }
    if (server->recovery.phase == RECOVERY_WAITING) {
        start_successor(server);
        return;
    }
    set_cause(server, server->recovery.phase == RECOVERY_STARTING
                          ? "its successor did not get ready in 10 seconds"
                          : "the hand-over took more than 30 seconds");
    process_kill(&server->process); /* its end brings the next try */
}

void recovery_init(struct machine_process *server)
{
    server->recovery = (struct recovery){
        .phase = RECOVERY_SERVING,
        .serving_since_ms = now_ms(server),
        .deadline = deadline_create(&server->machine->broker->loop, deadline_over, server),
    };
}

void recovery_finish(struct machine_process *server)
{
    deadline_destroy(&server->recovery.deadline);
}

void recovery_process_ended(struct machine_process *server)
{
    struct recovery *recovery = &server->recovery;
    bool was_serving = recovery->phase == RECOVERY_SERVING;
    deadline_clear(recovery->deadline);
    if (recovery->phase == RECOVERY_LOST) {
        return;
    }
    if (!recovery->cause_known) {
        g_snprintf(recovery->cause, sizeof(recovery->cause), "%s %s", server->kind->program,
                   server->process.exit_text);
    }
    if (was_serving && now_ms(server) - recovery->serving_since_ms >= SHORT_LIFE_MS) {
        recovery->failures = 0;
    } else {
        recovery->failures++;
    }
    if (was_serving) {
        recovery->down_since_ms = now_ms(server);
    }
    log_warning("[%s] %s; starting it again", server->process.name, recovery->cause);
    try_again(server);
}

void recovery_process_ready(struct machine_process *server, const char *error_text)
{
    struct recovery *recovery = &server->recovery;
    if (recovery->phase != RECOVERY_STARTING) {
        return;
    }
    if (error_text) {
        set_cause(server, error_text);
        return; /* its end follows */
    }
    int result = machine_hand_over(server, ++recovery->serial);
    if (result < 0) {
        g_autofree char *text =
            g_strdup_printf("its successor's socket cannot be handed to the VMM: %s", strerror(-result));
        set_cause(server, text);
        process_kill(&server->process);
        return;
    }
    recovery->phase = RECOVERY_HANDING_OVER;
    deadline_set(recovery->deadline, HAND_OVER_LIMIT_MS);
}

static void resumed(struct machine_process *server)
{
    struct recovery *recovery = &server->recovery;
    if (recovery->phase != RECOVERY_HANDING_OVER) {
        return;
    }
    deadline_clear(recovery->deadline);
    recovery->phase = RECOVERY_SERVING;
    recovery->restarts++;
    recovery->serving_since_ms = now_ms(server);
    recovery->cause_known = false;
    log_info("[%s] back after %" G_GUINT64_FORMAT " ms, process %d", server->process.name,
             recovery->serving_since_ms - recovery->down_since_ms, server->process.pid);
}

void recovery_vmm_event(struct machine_process *server, const struct vmm_control_message *event)
{
    struct recovery *recovery = &server->recovery;
    if (event->serial != recovery->serial) {
        return;
    }
    switch (event->kind) {
    case VMM_CONTROL_EV_DEVICE_RESUMED:
        resumed(server);
        break;
    case VMM_CONTROL_EV_DEVICE_LOST:
        /* In another phase: what the VMM saw of a death that is being mended already. */
        if (recovery->phase == RECOVERY_SERVING && process_alive(&server->process)) {
            set_cause(server, event->text);
            process_kill(&server->process);
        }
        break;
    case VMM_CONTROL_EV_DEVICE_REFUSED:
        if (recovery->phase == RECOVERY_HANDING_OVER) {
            set_cause(server, event->text);
            process_kill(&server->process);
        }
        break;
    case VMM_CONTROL_EV_DEVICE_FAILED:
        deadline_clear(recovery->deadline);
        recovery->phase = RECOVERY_LOST;
        set_cause(server, event->text);
        process_kill(&server->process);
        log_warning("[%s] %s; the machine goes on without it", server->process.name, event->text);
        break;
    default:
        break;
    }
}

const char *recovery_state_name(const struct machine_process *server)
{
    switch (server->recovery.phase) {
    case RECOVERY_SERVING:
        return "running";
    case RECOVERY_LOST:
        return "lost";
    default:
        return "restarting";
    }
}

const char *recovery_text(const struct machine_process *server)
{
    static char text[480];
    const struct recovery *recovery = &server->recovery;
    if (recovery->phase == RECOVERY_SERVING) {
        return NULL;
    }
    if (recovery->phase != RECOVERY_WAITING) {
        return recovery->cause;
    }
    g_snprintf(text, sizeof(text),
               "%u failures in a row, next try %" G_GUINT64_FORMAT " ms after the last: %s",
               recovery->failures, recovery->wait_ms, recovery->cause);
    return text;
}
