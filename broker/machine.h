/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine: one virtual machine's life: its resources, its processes, its end.
 *
 * States, and what moves them:
 *
 *   starting  the device servers run first; when all are ready the VMM is started, and when that is ready
 *             --> running   (observers: MACHINE_STARTED)
 *   running   --machine_stop()--> stopping (ACPI power button pressed)
 *   stopping  --deadline--> ending (END_STOPPED)
 *   any       --the VMM ended, machine_kill(), a failure while starting--> ending
 *   ending    every process is told to go or killed; when the last is reaped: observers get MACHINE_ENDED, then it
 *             is freed. Nothing of it is left then.
 *
 * A device server that dies while the machine runs is brought back (recovery.h).
 *
 * The first cause of the end that becomes known is the one that is told. Calls to a machine that is ending change
 * nothing but that machine_kill() makes it quicker.
 *
 * Owner thread: the loop's. Observers are called from the loop or from within machine_kill(), never from within
 * machine_create().
 */
#pragma once

#include "broker/broker.h"
#include "broker/console.h"
#include "broker/machine_spec.h"
#include "broker/reason.h"
#include "protocol/control.pb-c.h"

enum machine_event { MACHINE_STARTED, MACHINE_ENDED };

struct machine_observer {
    void (*event)(struct machine_observer *observer, enum machine_event event);
    struct machine *machine; /* set by observe, NULL once the machine is gone or unobserved */
};

/*
 * Opens everything, starts the first processes and adds the machine to the broker. 0, or a negative errno and one
 * line; then nothing is left of it.
 */
int machine_create(struct broker *broker, const Bulkhead__Machine *wanted, struct reason *reason,
                   struct machine **ret_machine);

/* The observer is borrowed until its machine's MACHINE_ENDED or until machine_unobserve(). */
void machine_observe(struct machine *machine, struct machine_observer *observer);
void machine_unobserve(struct machine_observer *observer);

/* Presses the power button; forces the machine off after timeout_ms, or sooner if that was asked for before. */
void machine_stop(struct machine *machine, uint32_t timeout_ms);
void machine_kill(struct machine *machine);

/* console_attach() of its console; -ENXIO when that is gone. */
int machine_attach(struct machine *machine, bool from_start);

const struct machine_spec *machine_get_spec(const struct machine *machine);
/* Valid from within a MACHINE_ENDED event. `text` is borrowed. */
Bulkhead__EndKind machine_get_end(const struct machine *machine, const char **ret_text);
/* Fills `status` with borrowed strings and with what must be given to machine_status_finish(). */
void machine_status_init(const struct machine *machine, Bulkhead__MachineStatus *status);
void machine_status_finish(Bulkhead__MachineStatus *status);
