/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine_spec: what a machine shall be, checked and completed.
 *
 * Made from a client's Machine message, of which nothing is believed: after machine_spec_init() every string is within
 * its limit and free of control characters, every number is in its range, every default is filled in and every word
 * is one that this version knows. What the words stand for (files, ports) is looked at later, by resource.h.
 *
 * Owner thread: any; no state.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <inttypes.h>
#include <stdint.h>

#include "broker/reason.h"
#include "protocol/control.pb-c.h"

#define MACHINE_NAME_BYTES   48
#define MACHINE_DISKS_MAX    16
#define MACHINE_NETS_MAX     8
#define MACHINE_PUBLISH_MAX  32
#define MACHINE_CPUS_MAX     16
#define MACHINE_MEMORY_MIN   (UINT64_C(32) << 20)
#define MACHINE_APPEND_BYTES 2047 /* x86 Linux COMMAND_LINE_SIZE, less the terminator */
#define MACHINE_APPEND_DEFAULT "console=ttyS0"

struct disk_spec {
    char *path;
    bool readonly, ephemeral;
};

struct publish_spec {
    struct in_addr address;
    uint16_t host_port, guest_port;
};

struct net_spec {
    struct publish_spec publish[MACHINE_PUBLISH_MAX];
    unsigned publish_count;
};

struct machine_spec {
    char name[MACHINE_NAME_BYTES]; /* empty: to be made up */
    char *kernel, *initrd, *append; /* initrd: NULL if none */
    unsigned cpus;
    uint64_t memory_bytes;
    struct disk_spec disks[MACHINE_DISKS_MAX];
    unsigned disk_count;
    struct net_spec nets[MACHINE_NETS_MAX];
    unsigned net_count;
    char *cpu_model;   /* protocol/cpu_words.h; empty: the accelerator's default */
    const char *accel; /* a literal: what will run */
    char accel_reason[160];
};

/* 0, or -EINVAL (or -ENOTSUP for what this version has not) and one line. */
int machine_spec_init(struct machine_spec *spec, const Bulkhead__Machine *wanted, struct reason *reason);
void machine_spec_finish(struct machine_spec *spec); /* accepts one that is zeroed or failed in init */

/* A name of letters, digits, '.', '_', '-', at most 47, beginning with a letter or digit. */
bool machine_name_valid(const char *name);
/* Makes up a name that `taken` does not know. */
void machine_name_generate(char name[MACHINE_NAME_BYTES], bool (*taken)(void *opaque, const char *name),
                           void *opaque);
