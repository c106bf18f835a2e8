/* SPDX-License-Identifier: Apache-2.0 */
/*
 * devices: the machine's virtio devices: for each --device a vhost-user client and its PCI function.
 *
 * A server that goes away costs the machine nothing but time where a broker sends a successor (devices_resume()) and the
 * server tracked what is in flight; its driver waits. Otherwise it costs this one device: its driver sees NEEDS_RESET,
 * everything else goes on. The loss is noticed on any thread and told on the main thread, by devices_report_losses().
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

/* Calls report() for each loss since the last call; `final`: no successor can mend it, and its driver has been told. */
void devices_report_losses(struct devices *devices,
                           void (*report)(void *opaque, unsigned index, uint32_t serial, const char *why,
                                          bool final),
                           void *opaque);

/* Goes on with the server at `fd` (taken), the socket of that serial number (vmm_control.h): vhost_device_resume() for
 * device number `index`. -ENODEV: there is none. */
int devices_resume(struct devices *devices, unsigned index, uint32_t serial, int fd, char *why,
                   size_t why_bytes);
/* For the log. NULL if there is none. */
const char *devices_id(const struct devices *devices, unsigned index);
