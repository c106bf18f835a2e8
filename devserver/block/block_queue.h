/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_queue: one virtqueue of the disk, worked by one thread with one io_uring.
 *
 * A round: take everything that the guest has published, turn it into operations, submit them all with the
 * one system call that also waits for completions, then hand all finished requests back at once with at most
 * one notification. A round allocates nothing and takes no lock; in a busy queue there is one system call per
 * batch, not per request.
 *
 * Writes into the page cache of a file are done at once, by this thread: file systems that cannot do them without a
 * chance to wait (ext4, tmpfs) make io_uring hand each to a kernel thread, and all of one file to the same, which costs
 * two switches per write and wins nothing. One that took long (BLOCK_QUEUE_SLOW_NS: the host throttles writers) sends
 * the next ones through the ring, so that reads need not wait behind them.
 *
 * The ring can do nothing but the operations below on its four registered files: it was restricted before the
 * first byte of the guest was read (io_uring operations do not pass through seccomp).
 *
 *     IDLE --start--> RUNNING --stop--> DRAINING --nothing in flight--> IDLE --exit--> gone
 *
 * Threads: start(), stop() and exit are commands from the loop's thread, which waits until they are done.
 * Between them everything here belongs to the queue's thread.
 */
#pragma once

#include <liburing.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "devserver/block/block_device.h"
#include "devserver/block/block_request.h"

#define BLOCK_QUEUE_SLOW_NS     UINT64_C(1000000)
#define BLOCK_QUEUE_SLOW_WRITES 256

enum block_queue_state { BLOCK_QUEUE_IDLE, BLOCK_QUEUE_RUNNING, BLOCK_QUEUE_DRAINING, BLOCK_QUEUE_GONE };
enum block_queue_command { BLOCK_QUEUE_NONE, BLOCK_QUEUE_START, BLOCK_QUEUE_STOP, BLOCK_QUEUE_EXIT };

struct block_queue {
    struct block_device *device; /* borrowed */
    struct io_uring ring;
    bool has_ring, has_thread;
    pthread_t thread;

    int wake_fd; /* eventfd: a command is there */
    _Atomic int command;
    sem_t done;
    struct devserver_queue *queue; /* set with START */

    enum block_queue_state state;
    bool kick_armed, wake_armed;
    bool more;     /* the round ended before the guest's buffers did */
    bool reported; /* broken, and said so */
    unsigned in_flight;
    unsigned slow_writes;           /* so many more go through the ring */
    struct block_request *requests; /* BLOCK_QUEUE_SIZE_MAX of them */
    struct block_request *free;     /* last in, first out: their memory is warm */
};

/* Outside the sandbox: memory, ring, files, restrictions. Negative errno and one line in `why`. */
int block_queue_init(struct block_queue *queue, struct block_device *device, char *why, size_t why_bytes);
/* Inside: the thread. */
int block_queue_spawn(struct block_queue *queue);
void block_queue_start(struct block_queue *queue, struct devserver_queue *source);
void block_queue_stop(struct block_queue *queue);
/* Idle or half-built. */
void block_queue_finish(struct block_queue *queue);

/* System calls of a queue thread. */
extern const struct sandbox_syscall_set block_queue_syscalls;
