/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes what a guest can send: frame filter, libslirp, checksums and the queue of frames for the guest. libslirp itself is
 * the system's, without instrumentation: what it does wrong shows as a crash, or in memory functions.
 *
 * The input is a list of frames: options (1 byte), length (2, little-endian), bytes. Options: bit 0: make the checksums right;
 * bit 1: let the wire run before it. A network namespace of its own, so that nothing leaves: only a loopback.
 */
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devserver/net/checksum.h"
#include "devserver/net/frame_filter.h"
#include "devserver/net/frame_queue.h"
#include "devserver/net/user_net.h"

#define FRAMES_MAX    64
#define BACKLOG_BYTES (256u * 1024)
#define IP_AT         14

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct frame_queue backlog;

static void to_guest(void *opaque, const uint8_t *frame, size_t bytes)
{
    if (bytes > USER_NET_FRAME_BYTES_MAX)
        abort();
    frame_queue_push(&backlog, frame, bytes);
}

static void guest_error(void *opaque, const char *message)
{
}

static const struct user_net_ops ops = {.frame = to_guest, .guest_error = guest_error};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP};

    signal(SIGPIPE, SIG_IGN);
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
        perror("fuzz_user_net: needs a network namespace of its own (unprivileged user namespaces)");
        exit(1);
    }
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &loopback) < 0 || frame_queue_init(&backlog, BACKLOG_BYTES) < 0) {
        perror("fuzz_user_net: no loopback");
        exit(1);
    }
    close(fd);
    return 0;
}

static void put_checksum(uint8_t *packet, size_t bytes, size_t start, size_t end, size_t field,
                         uint32_t pseudo)
{
    uint16_t sum;

    if (end > bytes || start > end || field + sizeof sum > end)
        return;
    memset(packet + field, 0, sizeof sum);
    uint32_t total = pseudo + checksum_sum(packet + start, end - start);
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    sum = (uint16_t)~total;
    memcpy(packet + field, &sum, sizeof sum);
}

static size_t checksum_field(unsigned protocol)
{
    return protocol == 6 ? 16 : protocol == 17 ? 6 : 2;
}

/* Right checksums, so that more than the first check is reached. */
static void repair(uint8_t *frame, size_t bytes)
{
    uint8_t *ip = frame + IP_AT;
    bool v6 = bytes > 13 && frame[12] == 0x86;

    if (bytes < IP_AT + 40)
        return;
    bytes -= IP_AT;
    size_t header = v6 ? 40 : (size_t)(ip[0] & 0xf) * 4;
    size_t total = v6 ? 40 + (size_t)(ip[4] << 8 | ip[5]) : (size_t)(ip[2] << 8 | ip[3]);
    unsigned protocol = v6 ? ip[6] : ip[9];
    if (!v6)
        put_checksum(ip, bytes, 0, header, 10, 0);
    if (total < header || total > bytes)
        return;
    uint32_t pseudo = (uint32_t)(protocol << 8) + (uint16_t)((total - header) >> 8 | (total - header) << 8) +
                      checksum_sum(ip + (v6 ? 8 : 12), v6 ? 32 : 8);
    if (protocol == 1)
        pseudo = 0;
    put_checksum(ip, bytes, header, total, header + checksum_field(protocol), pseudo);
}

static void drain(void)
{
    size_t bytes;

    while (frame_queue_peek(&backlog, &bytes))
        frame_queue_pop(&backlog);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    const struct user_net_config config = {.mtu_bytes = 1500, .host_loopback = true, .ipv6 = true};
    static uint8_t frame[UINT16_MAX + 1];
    struct user_net *net;
    char why[256];

    if (user_net_create(&config, &ops, NULL, &net, why, sizeof why) < 0)
        abort();
    for (unsigned i = 0; i < FRAMES_MAX && bytes >= 3; i++) {
        unsigned options = data[0];
        size_t length = (size_t)data[1] | (size_t)data[2] << 8;
        data += 3;
        bytes -= 3;
        length = length > bytes ? bytes : length;
        memcpy(frame, data, length);
        data += length;
        bytes -= length;
        if (options & 1)
            repair(frame, length);
        if (options & 2) {
            user_net_arm(net, true);
            user_net_run(net);
        }
        user_net_input(net, frame, length);
    }
    user_net_arm(net, false);
    user_net_run(net);
    drain();
    user_net_destroy(net);
    return 0;
}
