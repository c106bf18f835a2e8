/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recovery: brings a device server back when it dies under a running machine.
 *
 *   serving       the VMM works with it                    its process ends -> starting (or waiting)
 *   waiting       the next try has its time                deadline -> starting
 *   starting      a successor gets ready                   ready -> handing over; its end, 10 s -> waiting
 *   handing over  the VMM does the handshake with it       EV_DEVICE_RESUMED -> serving;
 *                                                          EV_DEVICE_REFUSED, its end, 30 s -> waiting
 *   lost          no successor can help (EV_DEVICE_FAILED: what was in flight is not known); for good
 *
 * The successor gets the same image, overlay and settings, and one end of a new socket pair; the other end goes to the
 * VMM, which holds what was in flight. A server that the VMM cannot talk to (EV_DEVICE_LOST while its process lives) is
 * killed, and then this goes its way.
 *
 * It never gives up. Lives of less than a tenth of a second, and tries that did not come to serve, count as failures in a
 * row: three are followed by another try at once, later ones after 50 ms, doubled each time up to 5 s.
 *
 * Owner thread: the loop's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "broker/watch.h"
#include "protocol/vmm_control.h"

struct machine_process;

enum recovery_phase {
    RECOVERY_SERVING,
    RECOVERY_WAITING,
    RECOVERY_STARTING,
    RECOVERY_HANDING_OVER,
    RECOVERY_LOST,
};

struct recovery {
    enum recovery_phase phase;
    uint32_t serial;                          /* of the socket that the VMM was last given (vmm_control.h) */
    unsigned restarts;                        /* successors that came to serve */
    unsigned failures;                        /* in a row */
    uint64_t serving_since_ms, down_since_ms; /* uv_now() */
    uint64_t wait_ms;
    struct deadline *deadline;
    char cause[400];  /* why it last went down */
    bool cause_known; /* of this life, before its process has ended */
};

void recovery_init(struct machine_process *server);
void recovery_finish(struct machine_process *server);

/* The server's process has ended, or become ready (error_text: NULL, or why it cannot), while the machine runs. */
void recovery_process_ended(struct machine_process *server);
void recovery_process_ready(struct machine_process *server, const char *error_text);
/* One of the VMM's events EV_DEVICE_*; one about an earlier socket is passed over. */
void recovery_vmm_event(struct machine_process *server, const struct vmm_control_message *event);

/* For people: "running", "restarting" or "lost", and why unless it runs (NULL). The text is valid until the next call. */
const char *recovery_state_name(const struct machine_process *server);
const char *recovery_text(const struct machine_process *server);
