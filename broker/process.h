/* SPDX-License-Identifier: Apache-2.0 */
/*
 * process: one child of the broker, from its start to the last trace of it.
 *
 * States, and what moves them:
 *
 *   idle      --process_start()-->          starting
 *   starting  --"ready" on its ready pipe--> running     events.ready(NULL)
 *   starting  --"error: TEXT"-->             starting    events.ready(TEXT); its end follows
 *   starting, running --pidfd readable-->    ended       events.ended(); reaped, its process group killed, no fd left
 *   ended     --process_start()-->           starting    (a new plan with fresh fds; this is what a restart uses)
 *
 * process_kill() asks for the end in every state; events.ended() still follows. Callbacks come from the loop, not
 * from within a call of this module (but for process_look_ready()). What the child writes to stderr goes to the
 * broker's log, at most PROCESS_LOG_BYTES of it; the last line is kept, since it often is the cause of a death.
 *
 * Owner thread: the loop's.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

#include "broker/reason.h"
#include "broker/spawn.h"
#include "broker/watch.h"

#define PROCESS_LOG_BYTES (256 * 1024)

enum process_state { PROCESS_IDLE, PROCESS_STARTING, PROCESS_RUNNING, PROCESS_ENDED };

struct process_events {
    void (*ready)(void *opaque, const char *error_text); /* NULL: it is ready */
    void (*ended)(void *opaque);                         /* see exit_text; may destroy the process */
};

struct process {
    uv_loop_t *loop;
    const struct process_events *events;
    void *opaque;

    char name[96]; /* MACHINE/vmm, for the log */
    enum process_state state;
    pid_t pid; /* 0 unless starting or running */
    struct watch *pidfd, *ready, *log;
    bool told_ready;
    int exit_status;     /* of exit(2), -1 after a signal */
    char exit_text[400]; /* "ended with status 1: LAST LINE", for people */

    char ready_line[512];
    size_t ready_bytes;
    char log_line[512]; /* the line that is coming in */
    size_t log_bytes, log_total;
    char last_line[320];
};

void process_init(struct process *process, uv_loop_t *loop, const struct process_events *events, void *opaque,
                  const char *name);
/* Kills it without an event if it still runs; waits for its end (SIGKILL: at once). */
void process_finish(struct process *process);

/*
 * Starts the program of `plan`, adding --ready-fd. 0, or a negative errno and one line. The caller may close the fds
 * of the plan afterwards.
 */
int process_start(struct process *process, struct spawn_plan *plan, struct reason *reason);
/* Looks at the ready pipe now: for who heard by another way what the process says only once it is ready. */
void process_look_ready(struct process *process);
void process_kill(struct process *process);
bool process_alive(const struct process *process);
