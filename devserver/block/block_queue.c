/* SPDX-License-Identifier: Apache-2.0 */
#include "devserver/block/block_queue.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "protocol/base/log.h"

/* Each request has at most one operation in flight; beside them two polls and one removal. */
#define RING_ENTRIES (BLOCK_QUEUE_SIZE_MAX * 2)

enum ring_file { FILE_IMAGE, FILE_OVERLAY, FILE_WAKE, FILE_KICK, FILE_COUNT };

/* user_data of what is not a request; requests are pointers. */
enum { TAG_WAKE = 1, TAG_KICK = 2, TAG_REMOVE = 3, TAG_MAX = TAG_REMOVE };

static const struct sandbox_syscall queue_calls[] = {
    SANDBOX_ALLOW(io_uring_enter, "submit and wait"),
    SANDBOX_ALLOW(pwritev, "writes into the page cache"),
    SANDBOX_ALLOW(io_uring_register, "enable the ring; the kick eventfd of a queue that starts"),
};
const struct sandbox_syscall_set block_queue_syscalls = SANDBOX_SET(queue_calls);

static int queue_fail(char *why, size_t why_bytes, int error, const char *what)
{
    snprintf(why, why_bytes, "io_uring: %s: %s%s", what, strerror(-error),
             error == -EPERM || error == -ENOSYS ? "; allow it (sysctl kernel.io_uring_disabled=0)" : "");
    return error;
}

/* The newest mode that this kernel has, quiet by default: completions are handled only when this thread asks.
 */
static int ring_create(struct io_uring *ring)
{
    static const unsigned modes[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,
        0,
    };
    int r = -EINVAL;

    for (size_t i = 0; r == -EINVAL && i < ARRAY_LEN(modes); i++) {
        struct io_uring_params params = {.flags = modes[i] | IORING_SETUP_R_DISABLED};

        r = io_uring_queue_init_params(RING_ENTRIES, ring, &params);
    }
    return r;
}

/* liburing 2.3 declares its functions for restrictions and for enabling, but does not export them. */
static int ring_register(struct io_uring *ring, unsigned opcode, const void *argument, unsigned count)
{
    return syscall(SYS_io_uring_register, ring->ring_fd, opcode, argument, count) < 0 ? -errno : 0;
}

static int ring_restrict(struct io_uring *ring)
{
    static const uint8_t ops[] = {
        IORING_OP_READ,  IORING_OP_WRITE,     IORING_OP_READV,    IORING_OP_WRITEV,
        IORING_OP_FSYNC, IORING_OP_FALLOCATE, IORING_OP_POLL_ADD, IORING_OP_POLL_REMOVE,
    };
    struct io_uring_restriction rules[ARRAY_LEN(ops) + 4] = {
        {.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_FILES_UPDATE},
        {.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_ENABLE_RINGS},
        {.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_UNREGISTER_FILES},
        {.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_FIXED_FILE},
    };

    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        rules[4 + i] = (struct io_uring_restriction){.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = ops[i]};
    return ring_register(ring, IORING_REGISTER_RESTRICTIONS, rules, ARRAY_LEN(rules));
}

int block_queue_init(struct block_queue *queue, struct block_device *device, char *why, size_t why_bytes)
{
    int files[FILE_COUNT] = {device->image.fd, device->overlay.fd, -1, -1};
    int r;

    memset(queue, 0, sizeof(*queue));
    queue->device = device;
    sem_init(&queue->done, 0, 0);
    queue->wake_fd = fd_eventfd_create();
    if (queue->wake_fd < 0)
        return queue_fail(why, why_bytes, queue->wake_fd, "eventfd");
    files[FILE_WAKE] = queue->wake_fd;
    queue->requests = calloc(BLOCK_QUEUE_SIZE_MAX, sizeof(*queue->requests));
    if (!queue->requests)
        return queue_fail(why, why_bytes, -ENOMEM, "requests");
    for (unsigned i = 0; i < BLOCK_QUEUE_SIZE_MAX; i++) {
        queue->requests[i].next_free = queue->free;
        queue->free = &queue->requests[i];
    }
    r = ring_create(&queue->ring);
    if (r < 0)
        return queue_fail(why, why_bytes, r, "set-up");
    queue->has_ring = true;
    r = io_uring_register_files(&queue->ring, files, FILE_COUNT);
    if (r < 0)
        return queue_fail(why, why_bytes, r, "files");
    r = ring_restrict(&queue->ring);
    return r < 0 ? queue_fail(why, why_bytes, r, "restrictions") : 0;
}

/* ---- the queue's thread ---- */

static struct io_uring_sqe *get_sqe(struct block_queue *queue)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&queue->ring);

    assert(sqe); /* RING_ENTRIES covers all that can be there at once */
    return sqe;
}

static void set_tag(struct io_uring_sqe *sqe, uint64_t tag)
{
    sqe->flags |= IOSQE_FIXED_FILE;
    sqe->user_data = tag;
}

/* Eventfds are never read: a poll with many shots tells each increment. */
static void arm_poll(struct block_queue *queue, enum ring_file file, uint64_t tag)
{
    struct io_uring_sqe *sqe = get_sqe(queue);

    io_uring_prep_poll_multishot(sqe, (int)file, POLLIN);
    set_tag(sqe, tag);
}

static void submit_step(struct block_queue *queue, struct block_request *request)
{
    const struct block_step *step = &request->step;
    int file = step->on_overlay ? FILE_OVERLAY : FILE_IMAGE;
    struct io_uring_sqe *sqe = get_sqe(queue);

    switch (step->op) {
    case BLOCK_OP_READ:
        if (step->iov_count == 1)
            io_uring_prep_read(sqe, file, step->iov[0].iov_base, (unsigned)step->iov[0].iov_len,
                               step->offset_bytes);
        else
            io_uring_prep_readv(sqe, file, step->iov, step->iov_count, step->offset_bytes);
        break;
    case BLOCK_OP_WRITE:
        if (step->iov_count == 1)
            io_uring_prep_write(sqe, file, step->iov[0].iov_base, (unsigned)step->iov[0].iov_len,
                                step->offset_bytes);
        else
            io_uring_prep_writev(sqe, file, step->iov, step->iov_count, step->offset_bytes);
        sqe->rw_flags = step->durable ? RWF_DSYNC : 0;
        break;
    case BLOCK_OP_ALLOCATE:
        io_uring_prep_fallocate(sqe, file, step->allocate_mode, (off_t)step->offset_bytes,
                                (off_t)step->bytes);
        break;
    default:
        assert(step->op == BLOCK_OP_SYNC);
        io_uring_prep_fsync(sqe, FILE_IMAGE, IORING_FSYNC_DATASYNC);
        break;
    }
    set_tag(sqe, (uintptr_t)request);
}

static void finish_request(struct block_queue *queue, struct block_request *request)
{
    const struct virtqueue_element *element = &request->element;
    const struct iovec status = {request->status_at, 1};
    const struct virtqueue *vq = &queue->queue->vq;
    uint32_t written = block_request_finish(request);

    virtqueue_written(vq, &status, 1, 1);
    if (request->type == VIRTIO_BLK_T_GET_ID)
        virtqueue_written(vq, element->iov + element->readable, element->writable, request->read_bytes);
    virtqueue_push(&queue->queue->vq, request->element.id, written);
    request->next_free = queue->free;
    queue->free = request;
    queue->in_flight--;
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

static bool is_inline_write(struct block_queue *queue, const struct block_step *step)
{
    if (step->op != BLOCK_OP_WRITE || step->durable || (!step->on_overlay && queue->device->image.is_device))
        return false;
    if (queue->slow_writes == 0)
        return true;
    queue->slow_writes--;
    return false;
}

/* The result as the ring would give it. */
static int32_t write_inline(struct block_queue *queue, const struct block_step *step)
{
    int fd = step->on_overlay ? queue->device->overlay.fd : queue->device->image.fd;
    uint64_t start_ns = now_ns();
    ssize_t n = pwritev(fd, step->iov, (int)step->iov_count, (off_t)step->offset_bytes);
    int32_t result = n < 0 ? -errno : (int32_t)n;

    if (now_ns() - start_ns > BLOCK_QUEUE_SLOW_NS)
        queue->slow_writes = BLOCK_QUEUE_SLOW_WRITES;
    return result;
}

/* Goes on with a request: `r` is what parse or complete said. */
static void drive_request(struct block_queue *queue, struct block_request *request, int r)
{
    while (r > 0) {
        if (!is_inline_write(queue, &request->step)) {
            submit_step(queue, request);
            return;
        }
        r = block_request_complete(request, queue->device, write_inline(queue, &request->step));
    }
    finish_request(queue, request);
}

/* A popped request; false: it has no place for an answer and the queue is broken. */
static bool begin_request(struct block_queue *queue, struct block_request *request)
{
    int r;

    queue->free = request->next_free;
    queue->in_flight++;
    r = block_request_parse(request, queue->device);
    if (r < 0) {
        virtqueue_break(&queue->queue->vq, r, "a request without a status byte");
        queue->free = request;
        queue->in_flight--;
        return false;
    }
    drive_request(queue, request, r);
    return true;
}

/* Takes what the guest has published, but no more than the queue's size in one round. */
static void take_requests(struct block_queue *queue)
{
    struct virtqueue *vq = &queue->queue->vq;
    unsigned budget = vq->config.size;
    int r = 1;

    virtqueue_disable_kick(vq);
    do {
        while (budget > 0) {
            struct block_request *request = queue->free;

            assert(request); /* virtqueue_pop() lets no more in flight than the queue has */
            request->element.iov = request->iov;
            request->element.iov_max = BLOCK_IOV_MAX;
            r = virtqueue_pop(vq, &request->element);
            if (r <= 0 || !begin_request(queue, request))
                break;
            budget--;
        }
        queue->more = budget == 0;
    } while (!queue->more && virtqueue_enable_kick(vq));
    if (vq->broken && !queue->reported) {
        queue->reported = true;
        devserver_queue_report(queue->queue);
    }
}

static void publish(struct block_queue *queue)
{
    if (virtqueue_flush(&queue->queue->vq))
        devserver_queue_notify(queue->queue);
}

static void begin_running(struct block_queue *queue)
{
    int r = io_uring_register_files_update(&queue->ring, FILE_KICK, &queue->queue->kick_fd, 1);

    if (r < 0)
        log_error("blk: queue %u: its kick eventfd cannot be watched: %s", queue->queue->index, strerror(-r));
    queue->reported = queue->more = false;
    queue->state = BLOCK_QUEUE_RUNNING;
    arm_poll(queue, FILE_KICK, TAG_KICK);
    queue->kick_armed = true;
}

static void begin_draining(struct block_queue *queue)
{
    queue->state = BLOCK_QUEUE_DRAINING;
    if (queue->kick_armed) {
        struct io_uring_sqe *sqe = get_sqe(queue);

        io_uring_prep_poll_remove(sqe, TAG_KICK);
        sqe->user_data = TAG_REMOVE;
    }
}

static void end_draining(struct block_queue *queue)
{
    int none = -1;

    publish(queue);
    io_uring_register_files_update(&queue->ring, FILE_KICK, &none, 1);
    queue->state = BLOCK_QUEUE_IDLE;
    queue->queue = NULL;
    sem_post(&queue->done);
}

static void obey(struct block_queue *queue)
{
    switch (atomic_exchange(&queue->command, BLOCK_QUEUE_NONE)) {
    case BLOCK_QUEUE_START:
        assert(queue->state == BLOCK_QUEUE_IDLE);
        begin_running(queue);
        sem_post(&queue->done);
        break;
    case BLOCK_QUEUE_STOP:
        assert(queue->state == BLOCK_QUEUE_RUNNING);
        begin_draining(queue);
        break;
    case BLOCK_QUEUE_EXIT:
        assert(queue->state == BLOCK_QUEUE_IDLE);
        queue->state = BLOCK_QUEUE_GONE;
        break;
    default:
        break;
    }
}

static void handle_completion(struct block_queue *queue, const struct io_uring_cqe *cqe)
{
    struct block_request *request;

    if (cqe->user_data == TAG_WAKE) {
        queue->wake_armed = cqe->flags & IORING_CQE_F_MORE;
    } else if (cqe->user_data == TAG_KICK) {
        queue->kick_armed = cqe->flags & IORING_CQE_F_MORE;
        /* Passed for an eventfd, but is none: to arm it again and again would spin. */
        if (cqe->res < 0 && queue->state == BLOCK_QUEUE_RUNNING)
            virtqueue_break(&queue->queue->vq, cqe->res, "its kick descriptor cannot be watched");
    } else if (cqe->user_data > TAG_MAX) {
        request = (struct block_request *)(uintptr_t)cqe->user_data;
        if (request->step.op == BLOCK_OP_READ && cqe->res > 0)
            virtqueue_written(&queue->queue->vq, request->step.iov, request->step.iov_count,
                              (uint64_t)cqe->res);
        drive_request(queue, request, block_request_complete(request, queue->device, cqe->res));
    }
}

static void reap(struct block_queue *queue)
{
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;

    io_uring_for_each_cqe(&queue->ring, head, cqe)
    {
        handle_completion(queue, cqe);
        count++;
    }
    io_uring_cq_advance(&queue->ring, count);
}

/* One round, up to where it must wait. */
static void round_once(struct block_queue *queue)
{
    obey(queue);
    if (!queue->wake_armed) {
        arm_poll(queue, FILE_WAKE, TAG_WAKE);
        queue->wake_armed = true;
    }
    if (queue->state == BLOCK_QUEUE_RUNNING) {
        if (!queue->kick_armed && !queue->queue->vq.broken) {
            arm_poll(queue, FILE_KICK, TAG_KICK);
            queue->kick_armed = true;
        }
        take_requests(queue);
    }
    if (queue->queue)
        publish(queue);
    if (queue->state == BLOCK_QUEUE_DRAINING && queue->in_flight == 0 && !queue->kick_armed)
        end_draining(queue);
}

static void *queue_thread(void *opaque)
{
    struct block_queue *queue = opaque;
    int r = ring_register(&queue->ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);

    if (r < 0) {
        log_error("blk: the ring of a queue cannot be enabled: %s", strerror(-r));
        abort();
    }
    for (;;) {
        round_once(queue);
        if (queue->state == BLOCK_QUEUE_GONE) {
            io_uring_unregister_files(&queue->ring); /* now, not some time after the ring is closed */
            return NULL;
        }
        r = io_uring_submit_and_wait(&queue->ring, queue->more ? 0 : 1);
        if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY) {
            log_error("blk: io_uring: %s", strerror(-r));
            abort();
        }
        reap(queue);
    }
}

/* ---- the loop's thread ---- */

static void send_command(struct block_queue *queue, enum block_queue_command command)
{
    atomic_store(&queue->command, command);
    fd_eventfd_signal(queue->wake_fd);
}

static void wait_done(struct block_queue *queue)
{
    while (sem_wait(&queue->done) < 0 && errno == EINTR)
        ;
}

int block_queue_spawn(struct block_queue *queue)
{
    sigset_t all, before;
    int r;

    /* Signals are the main thread's business; SIGBUS is raised where it happens, blocked it would kill. */
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&queue->thread, NULL, queue_thread, queue);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    queue->has_thread = r == 0;
    return -r;
}

void block_queue_start(struct block_queue *queue, struct devserver_queue *source)
{
    queue->queue = source;
    send_command(queue, BLOCK_QUEUE_START);
    wait_done(queue);
}

void block_queue_stop(struct block_queue *queue)
{
    send_command(queue, BLOCK_QUEUE_STOP);
    wait_done(queue);
}

void block_queue_finish(struct block_queue *queue)
{
    if (queue->has_thread) {
        send_command(queue, BLOCK_QUEUE_EXIT);
        pthread_join(queue->thread, NULL);
    }
    if (queue->has_ring)
        io_uring_queue_exit(&queue->ring);
    queue->has_thread = queue->has_ring = false;
    fd_close(&queue->wake_fd);
    free(queue->requests);
    queue->requests = NULL;
    sem_destroy(&queue->done);
}
