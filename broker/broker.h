/* SPDX-License-Identifier: Apache-2.0 */
/*
 * broker: the one loop of bulkheadd, its listening socket, and who is there: clients and machines.
 *
 * The broker owns names, policy and file descriptors. It never maps guest memory, never reads an image and never
 * looks into what guests say.
 *
 *   client ──control.sock──▶ client.c ──▶ machine.c ──▶ process.c ──fork+exec──▶ bulkhead-vmm, bulkhead-blk, …
 *                                             │  ▲            │ pidfd, ready pipe, log pipe
 *                                             ▼  └────────────┘
 *                                         console.c (serial console)
 *
 * Life: it serves until it has had no client and no machine for idle_ms, or until SIGTERM, SIGINT or SIGHUP: then every
 * machine gets its power button, and is forced off after BROKER_STOP_MS; a second signal forces at once.
 *
 * Owner thread: the main thread; there is no other.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "broker/watch.h"
#include "protocol/control_path.h"

#define BROKER_CLIENTS_MAX 64
#define BROKER_IDLE_MS     5000
#define BROKER_STOP_MS     10000

struct machine;

struct broker {
    uv_loop_t loop;
    char dir[CONTROL_PATH_BYTES];
    int dir_fd; /* owned */
    uint64_t idle_ms;
    struct watch *listener;
    struct deadline *idle;
    uv_signal_t signals[3];
    GPtrArray *clients;  /* struct client */
    GPtrArray *machines; /* struct machine */
    bool ending;         /* a signal asked for the end */
};

/* Takes dir_fd (the open runtime directory `dir`) and listen_fd (a listening socket in it). 0 or a negative errno. */
int broker_init(struct broker *broker, const char *dir, int dir_fd, int listen_fd, uint64_t idle_ms);
/* Serves until its end; then nothing of it is left but dir_fd's directory. */
void broker_run(struct broker *broker);
void broker_finish(struct broker *broker);

struct machine *broker_find(struct broker *broker, const char *name); /* borrowed, or NULL */
/* To be called when a client or a machine is gone: looks whether it was the last. */
void broker_look_idle(struct broker *broker);
