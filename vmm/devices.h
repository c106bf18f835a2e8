/* SPDX-License-Identifier: Apache-2.0 */
/*
 * devices: the machine's virtio devices: for each --device a vhost-user client and its PCI function.
 *
 * A server that goes away costs the machine this one device: its driver sees NEEDS_RESET, everything else
 * goes on. The loss is noticed on any thread and told on the main thread, by devices_report_losses().
 *
 * Threads: main, but `noticed` may be called on any thread.
 */
#pragma once

#include "accel/accel.h"
#include "vmm/options.h"
#include "vmm/ram.h"
#include "vmm/x86/pc.h"

struct devices;

struct devices_config {
    struct options *options; /* the sockets are taken out of it */
    const struct ram *ram;
    struct pc *pc;
    const struct accel_ops *ops; /* where the log of device writes goes, if it wants one */
    struct accel_vm *vm;
    void (*noticed)(void *opaque); /* a device is lost: call devices_report_losses() on the main thread */
    void *opaque;
};

/* Handshakes with all servers and puts the functions on the bus. Negative errno and one line in `why`. */
int devices_create(const struct devices_config *config, struct devices **ret_devices, char *why,
                   size_t why_bytes);
/* Stops the event thread: no device interrupts afterwards. Accepts NULL. */
void devices_stop(struct devices *devices);
/* After the vCPUs are gone. Accepts NULL. */
void devices_destroy(struct devices *devices);

/* Calls report() once for each device that was lost since the last call, and tells its driver. */
void devices_report_losses(struct devices *devices,
                           void (*report)(void *opaque, unsigned index, const char *id, const char *why),
                           void *opaque);
