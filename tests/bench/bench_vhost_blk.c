/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures a vhost-user-blk server without a virtual machine: a driver in this process keeps so many random reads (or
 * writes) in flight on one queue and counts what is done per second.
 *
 *     bench_vhost_blk SOCKET [read|write] [DEPTH] [BYTES] [SECONDS] [REGION_MIB]
 *
 * For bulkhead-blk and for others (qemu-storage-daemon --export vhost-user-blk), in turn on the same image; see
 * docs/performance.md for the comparison's form. A write destroys the image.
 */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "protocol/vhost_user_frontend.h"
#include "tests/protocol/ring_driver.h"

#define RAM_BYTES  (64u << 20)
#define QUEUE_SIZE 256
#define DEPTH_MAX  (QUEUE_SIZE / 3)
#define HEADER_GPA 0x100000u
#define STATUS_GPA 0x110000u
#define DATA_GPA   0x200000u
#define USER_BASE  UINT64_C(0x7f0000000000)

struct bench {
    struct vhost_user_frontend frontend;
    struct ring_driver ring;
    uint8_t *ram;
    int ram_fd, kick, call;
    uint32_t type, bytes;
    unsigned depth;
    uint64_t region_sectors, random;
    uint64_t done, kicks, calls;
};

static void check(int r, const char *what)
{
    if (r >= 0)
        return;
    fprintf(stderr, "bench_vhost_blk: %s: %s\n", what, strerror(-r));
    exit(2);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

static void connect_to(struct bench *bench, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    check(connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0, path);
    check(vhost_user_frontend_init(&bench->frontend, fd, 5000), "set-up");
}

static void negotiate(struct bench *bench)
{
    const uint64_t wanted = VHOST_USER_BIT(VIRTIO_F_VERSION_1_BIT) | VHOST_USER_BIT(VIRTIO_F_EVENT_IDX_BIT) |
                            VHOST_USER_BIT(VHOST_USER_F_PROTOCOL_FEATURES) |
                            VHOST_USER_BIT(VIRTIO_BLK_F_FLUSH);
    uint64_t features, protocol;

    check(vhost_user_frontend_get_features(&bench->frontend, &features), "features");
    check(vhost_user_frontend_get_protocol_features(&bench->frontend, &protocol), "protocol features");
    protocol &= VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK);
    check(vhost_user_frontend_set_protocol_features(&bench->frontend, protocol), "protocol features");
    check(vhost_user_frontend_set_owner(&bench->frontend), "owner");
    check(vhost_user_frontend_set_features(&bench->frontend, features & wanted), "features");
}

static void start_queue(struct bench *bench)
{
    const struct vhost_user_region region = {0, RAM_BYTES, USER_BASE, 0};
    const struct virtqueue_config *config = &bench->ring.config;
    struct vhost_user_frontend *frontend = &bench->frontend;

    ring_driver_init(&bench->ring, bench->ram, 0x1000, QUEUE_SIZE, false);
    bench->ring.config.event_idx = true;
    const struct vhost_user_vring_addr addr = {
        .desc_user = USER_BASE + config->desc_gpa,
        .avail_user = USER_BASE + config->driver_gpa,
        .used_user = USER_BASE + config->device_gpa,
    };
    check(vhost_user_frontend_set_mem_table(frontend, &region, &bench->ram_fd, 1), "memory");
    check(vhost_user_frontend_set_vring_num(frontend, 0, QUEUE_SIZE), "ring size");
    check(vhost_user_frontend_set_vring_base(frontend, 0, 0), "ring base");
    check(vhost_user_frontend_set_vring_addr(frontend, &addr), "ring addresses");
    check(vhost_user_frontend_set_vring_call(frontend, 0, bench->call), "call");
    check(vhost_user_frontend_set_vring_kick(frontend, 0, bench->kick), "kick");
    check(vhost_user_frontend_set_vring_enable(frontend, 0, true), "enable");
}

static void add_request(struct bench *bench, unsigned slot)
{
    struct virtio_blk_outhdr header = {.type = bench->type};
    uint64_t steps = bench->region_sectors / (bench->bytes / SECTOR_BYTES);
    const struct ring_buffer buffers[] = {
        {HEADER_GPA + slot * 16, 16, 0},
        {DATA_GPA + (uint64_t)slot * bench->bytes, bench->bytes,
         bench->type == VIRTIO_BLK_T_IN ? RING_WRITE : 0},
        {STATUS_GPA + slot, 1, RING_WRITE},
    };

    bench->random = bench->random * UINT64_C(6364136223846793005) + 1442695040888963407;
    header.sector = (bench->random >> 20) % steps * (bench->bytes / SECTOR_BYTES);
    memcpy(bench->ram + HEADER_GPA + slot * 16, &header, sizeof(header));
    bench->ring.next_slot = (uint16_t)(slot * 3);
    ring_driver_add(&bench->ring, buffers, 3, 0);
}

/* Answers all that is used with new requests; their number. */
static unsigned turn_over(struct bench *bench)
{
    unsigned count = 0;
    uint32_t id, len;

    while (ring_driver_used(&bench->ring, &id, &len)) {
        if (bench->ram[STATUS_GPA + id / 3] != VIRTIO_BLK_S_OK)
            check(-EIO, "a request");
        add_request(bench, id / 3);
        count++;
    }
    return count;
}

static void kick(struct bench *bench, uint16_t before)
{
    uint16_t event, now = ring_driver_avail_idx(&bench->ring);

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    memcpy(&event, bench->ram + bench->ring.config.device_gpa + 4 + 8 * QUEUE_SIZE, 2);
    if ((uint16_t)(now - event - 1) >= (uint16_t)(now - before))
        return;
    fd_eventfd_signal(bench->kick);
    bench->kicks++;
}

static void wait_call(struct bench *bench)
{
    struct pollfd poller = {.fd = bench->call, .events = POLLIN};

    ring_driver_set_event(&bench->ring, bench->ring.next_used);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (*(volatile uint16_t *)(bench->ram + bench->ring.config.device_gpa + 2) != bench->ring.next_used)
        return;
    check(poll(&poller, 1, 10000) == 1 ? 0 : -ETIMEDOUT, "waiting for a notification");
    fd_eventfd_consume(bench->call);
    bench->calls++;
}

static void run(struct bench *bench, uint64_t duration_ns)
{
    uint64_t start = now_ns(), end = start + duration_ns, now;
    uint16_t before = 0;

    for (unsigned slot = 0; slot < bench->depth; slot++)
        add_request(bench, slot);
    kick(bench, before);
    do {
        before = ring_driver_avail_idx(&bench->ring);
        wait_call(bench);
        bench->done += turn_over(bench);
        kick(bench, before);
        now = now_ns();
    } while (now < end);
    printf("%.0f requests/s, %.1f MiB/s, %.2f kicks and %.2f notifications per request\n",
           (double)bench->done * 1e9 / (double)(now - start),
           (double)bench->done * bench->bytes * 1e9 / (double)(now - start) / (double)MIB,
           (double)bench->kicks / (double)bench->done, (double)bench->calls / (double)bench->done);
}

static unsigned long argument(int argc, char **argv, int at, unsigned long otherwise)
{
    return at < argc ? strtoul(argv[at], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    struct bench bench = {.random = 1};

    if (argc < 2) {
        fputs("usage: bench_vhost_blk SOCKET [read|write] [DEPTH] [BYTES] [SECONDS] [REGION_MIB]\n", stderr);
        return 2;
    }
    bench.type = argc > 2 && strcmp(argv[2], "write") == 0 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
    bench.depth = (unsigned)argument(argc, argv, 3, 32);
    bench.bytes = (uint32_t)argument(argc, argv, 4, 4096);
    bench.region_sectors = argument(argc, argv, 6, 64) * MIB / SECTOR_BYTES;
    if (bench.depth < 1 || bench.depth > DEPTH_MAX || bench.bytes % SECTOR_BYTES || bench.bytes == 0 ||
        (uint64_t)bench.bytes * bench.depth > RAM_BYTES - DATA_GPA)
        check(-EINVAL, "depth or size");
    bench.kick = fd_eventfd_create();
    bench.call = fd_eventfd_create();
    bench.ram_fd = memfd_create("ram", MFD_CLOEXEC);
    check(ftruncate(bench.ram_fd, RAM_BYTES) < 0 ? -errno : 0, "memory");
    bench.ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, bench.ram_fd, 0);
    connect_to(&bench, argv[1]);
    negotiate(&bench);
    start_queue(&bench);
    run(&bench, argument(argc, argv, 5, 3) * NS_PER_SEC);
    return 0;
}
