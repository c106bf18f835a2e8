/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine_internal: what machine.c (life) and machine_plan.c (who gets which fd, and why) share.
 *
 * Fds: those in machine_disk and the machine itself are kept for the machine's whole life, so that a process can be
 * started again with them. The ends of the socket pairs are made for one start and closed once both sides have them,
 * so that each side sees the other's death as end of file.
 */
#pragma once

#include <sys/stat.h>

#include "broker/machine.h"
#include "broker/process.h"
#include "broker/recovery.h"
#include "broker/spawn.h"

enum machine_state { MACHINE_STARTING, MACHINE_RUNNING, MACHINE_STOPPING, MACHINE_ENDING };

struct machine_disk {
    int image_fd;   /* carries the OFD lock */
    int overlay_fd; /* -1 unless ephemeral */
    struct stat stat;
};

/* One child in its role. Number 0 is the VMM; then the disks, then the network cards, in the order of --device. */
struct machine_process {
    struct process process;
    struct machine *machine;
    const struct process_kind *kind;
    unsigned index; /* among its kind: disks[index], nets[index] */
    char id[12];    /* vmm, disk0, net0 */
    int server_fd;  /* vhost-user: the server's end, until it is started; -1 */
    int vmm_fd;     /* and the VMM's, until that has it */
    struct recovery recovery; /* servers only */
};

/* What there is to know of a kind of process: its program, and each fd and setting that it gets with the reason. */
struct process_kind {
    const char *program;
    const char *holds; /* what it may touch, for the log */
    void (*plan)(const struct machine_process *process, struct spawn_plan *plan);
};

extern const struct process_kind process_kind_vmm, process_kind_blk, process_kind_net;

struct machine {
    struct broker *broker;
    struct machine_spec spec;
    enum machine_state state;
    uint64_t started_ms; /* uv_now() */
    unsigned resets;

    int memory_fd, kernel_fd, initrd_fd; /* initrd: -1 if none */
    int crash_fd;                        /* crash_report.h */
    struct machine_disk disks[MACHINE_DISKS_MAX];
    int vmm_console_fd, vmm_control_fd; /* the VMM's ends, until it is started; -1 */
    struct watch *control;
    struct console *console;

    struct machine_process *processes;
    unsigned process_count;

    GPtrArray *observers;
    struct deadline *deadline; /* of the start, of a stop, or of the end, by state */
    uint64_t force_at_ms;      /* while stopping */
    Bulkhead__EndKind end_kind; /* END_UNKNOWN until it is known */
    char end_text[640];
};

/* machine.c, for recovery.c. Whether the guest runs, so that its devices are wanted. */
bool machine_serves(const struct machine *machine);
/* A new socket pair for a server; its program; the other end to the VMM. Negative errno. */
int machine_connect_server(struct machine_process *server);
int machine_start_process(struct machine_process *process, struct reason *reason);
int machine_hand_over(struct machine_process *server, uint32_t serial);
