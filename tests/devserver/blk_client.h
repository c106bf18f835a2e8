/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A front-end and a driver for tests of bulkhead-blk: starts the real program, under its real sandbox,
 * connects to it, and does requests, honest or not, through rings in shared memory.
 *
 * Every wait has a time-out that fails the test; none decides one. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol/vhost_user_frontend.h"
#include "tests/protocol/ring_driver.h"

#define CLIENT_RAM_BYTES  (4u << 20)
#define CLIENT_QUEUE_SIZE 16
#define CLIENT_QUEUES_MAX 4
#define CLIENT_DATA_GPA   0x100000
#define CLIENT_HEADER_GPA 0x80000
#define CLIENT_STATUS_GPA 0x90000
#define CLIENT_TABLE_GPA  0xa0000
#define CLIENT_USER_BASE  UINT64_C(0x7f0000000000)
#define IMAGE_SECTORS     4096

struct blk_server {
    pid_t pid;
    char *folder, *image, *socket_path;
    const char *const *arguments; /* borrowed */
    int log_fd;                   /* what it wrote on stderr */
};

/* Makes an image whose sectors are filled with their number's low byte, and serves it. `arguments` are added,
 * NULL-terminated. */
void blk_server_start(struct blk_server *server, const char *const *arguments);
/* Checks that it still runs, ends it with SIGTERM, checks that its exit status is 0, removes everything. */
void blk_server_stop(struct blk_server *server);
/* kill -9; and a successor on the same image and socket. */
void blk_server_kill(struct blk_server *server);
void blk_server_restart(struct blk_server *server);
/* Waits until the log holds `text`. */
void blk_server_expect_log(struct blk_server *server, const char *text);

/* Runs bulkhead-blk with these arguments until it ends; its exit status, and its stderr in *ret_log (g_free).
 */
int blk_run(const char *const *arguments, const int *fds, unsigned fd_count, char **ret_log);

struct blk_client_options {
    bool packed, no_event_idx, no_flush;
    unsigned queues; /* 0: one */
    bool no_seals;   /* RAM that can be shortened */
};

struct blk_client {
    struct vhost_user_frontend frontend;
    struct blk_client_options options;
    bool connected;
    int ram_fd;
    uint8_t *ram;
    unsigned queues;
    struct ring_driver ring[CLIENT_QUEUES_MAX];
    int kick[CLIENT_QUEUES_MAX], call[CLIENT_QUEUES_MAX], err[CLIENT_QUEUES_MAX];
    uint16_t next_id;
    struct vhost_user_inflight inflight;
    int inflight_fd; /* -1: none */
};

int blk_connect_socket(const struct blk_server *server);
/* Connects and negotiates; no memory, no rings. */
void blk_client_open(struct blk_client *client, const struct blk_server *server,
                     const struct blk_client_options *options);
void blk_client_set_memory(struct blk_client *client);
int blk_client_start_queue(struct blk_client *client, unsigned queue);
/* All of these. */
void blk_client_start(struct blk_client *client, const struct blk_server *server,
                      const struct blk_client_options *options);
/* Asks for in-flight memory, before the queues start. */
void blk_client_get_inflight(struct blk_client *client);
/* To a successor of the server: everything anew, but what is in memory stays. */
void blk_client_reconnect(struct blk_client *client, const struct blk_server *server);
void blk_client_close(struct blk_client *client);

void blk_kick(struct blk_client *client, unsigned queue);
/* Waits for an eventfd. */
void blk_wait(int fd);
/* Waits for the next used element. */
void blk_wait_used(struct blk_client *client, unsigned queue, uint32_t *ret_id, uint32_t *ret_len);

/* One whole request on a queue: header, `bytes` of data at CLIENT_DATA_GPA, status. Returns the status byte.
 */
uint8_t blk_request(struct blk_client *client, unsigned queue, uint32_t type, uint64_t sector,
                    uint32_t bytes);
/* Checks that a read and a write work: the server is well. */
void blk_client_check(struct blk_client *client);
