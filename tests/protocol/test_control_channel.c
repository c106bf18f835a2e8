/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/control_channel.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/control.pb-c.h"

struct pair {
    struct control_channel channel;
    int peer; /* the other end, raw */
};

static void pair_init(struct pair *pair, bool accept_fds)
{
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    g_assert_cmpint(control_channel_init(&pair->channel, fds[0], accept_fds), ==, 0);
    pair->peer = fds[1];
}

static void pair_finish(struct pair *pair)
{
    control_channel_finish(&pair->channel);
    close(pair->peer);
}

static void send_raw(int socket, const void *bytes, size_t count, const int *fds, size_t fd_count)
{
    struct iovec iov = {(void *)bytes, count};
    char control[CMSG_SPACE(sizeof(int) * 8)] = {0};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd_count) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
    }
    g_assert_cmpint(sendmsg(socket, &message, MSG_NOSIGNAL), ==, (ssize_t)count);
}

static unsigned open_fds(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 1024; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

static int receive(struct pair *pair, const uint8_t **payload, size_t *bytes, int *fd)
{
    *fd = -1;
    return control_channel_receive(&pair->channel, payload, bytes, fd);
}

/* Broken if it fails: a frame that arrives in pieces, or with others, is read wrongly. */
static void test_split(void)
{
    static const uint8_t wire[] = {3, 0, 0, 0, 'a', 'b', 'c', 1, 0, 0, 0, 'd'};
    struct pair pair;
    pair_init(&pair, false);
    const uint8_t *payload;
    size_t bytes;
    int fd;
    for (size_t i = 0; i < 7; i++) {
        g_assert_cmpint(receive(&pair, &payload, &bytes, &fd), ==, 0);
        g_assert_cmpint(control_channel_in_frame(&pair.channel), ==, i > 0);
        send_raw(pair.peer, wire + i, 1, NULL, 0);
    }
    g_assert_cmpint(receive(&pair, &payload, &bytes, &fd), ==, 1);
    g_assert_cmpmem(payload, bytes, "abc", 3);
    send_raw(pair.peer, wire, sizeof(wire), NULL, 0);
    g_assert_cmpint(receive(&pair, &payload, &bytes, &fd), ==, 1);
    g_assert_cmpmem(payload, bytes, "abc", 3);
    g_assert_cmpint(receive(&pair, &payload, &bytes, &fd), ==, 1);
    g_assert_cmpmem(payload, bytes, "d", 1);
    g_assert_cmpint(receive(&pair, &payload, &bytes, &fd), ==, 0);
    pair_finish(&pair);
}

/* Broken if it fails: a hostile client makes the broker read, keep or leak what it must not. */
static void test_hostile(void)
{
    static const struct {
        uint8_t bytes[8];
        size_t count, fd_count;
        bool accept_fds;
        int result;
    } rows[] = {
        {{0, 0, 0, 0}, 4, 0, true, -EPROTO},             /* an empty frame */
        {{1, 0, 1, 0}, 4, 0, true, -EPROTO},             /* one byte too long */
        {{0xff, 0xff, 0xff, 0xff}, 4, 0, true, -EPROTO}, /* far too long */
        {{1, 0, 0, 0, 'x'}, 5, 1, false, -EPROTO},       /* an fd where none is taken */
        {{1, 0, 0, 0, 'x'}, 5, 2, true, -EPROTO},        /* two fds */
        {{1, 0, 0, 0, 'x'}, 5, 8, true, -EPROTO},        /* many fds */
        {{1, 0, 0}, 3, 0, true, -ECONNRESET},            /* the end in the header */
        {{2, 0, 0, 0, 'x'}, 5, 0, true, -ECONNRESET},    /* the end in the payload */
        {{2, 0, 0, 0, 'x'}, 5, 1, true, -ECONNRESET},    /* the same with an fd that nobody took */
        {{0}, 0, 0, true, -ECONNRESET},                  /* nothing at all */
    };
    unsigned before = open_fds();
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct pair pair;
        pair_init(&pair, rows[i].accept_fds);
        int fds[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        if (rows[i].count) {
            send_raw(pair.peer, rows[i].bytes, rows[i].count, fds, rows[i].fd_count);
        }
        shutdown(pair.peer, SHUT_WR);
        const uint8_t *payload;
        size_t bytes;
        int fd;
        g_assert_cmpint(receive(&pair, &payload, &bytes, &fd), ==, rows[i].result);
        pair_finish(&pair);
        g_assert_cmpuint(open_fds(), ==, before);
    }
    /* An fd in the middle of a frame. */
    struct pair pair;
    pair_init(&pair, true);
    int zero = 0;
    send_raw(pair.peer, "\2\0\0\0x", 5, NULL, 0);
    send_raw(pair.peer, "y", 1, &zero, 1);
    const uint8_t *payload;
    size_t bytes;
    int fd;
    g_assert_cmpint(receive(&pair, &payload, &bytes, &fd), ==, -EPROTO);
    pair_finish(&pair);
    g_assert_cmpuint(open_fds(), ==, before);
}

/* Broken if it fails: an fd arrives with another frame than the one it was sent with. */
static void test_fds(void)
{
    struct pair sender;
    pair_init(&sender, false);
    struct control_channel receiver;
    g_assert_cmpint(control_channel_init(&receiver, dup(sender.peer), true), ==, 0);
    int first[2], second[2];
    g_assert_cmpint(pipe2(first, O_CLOEXEC), ==, 0);
    g_assert_cmpint(pipe2(second, O_CLOEXEC), ==, 0);
    g_assert_cmpint(control_channel_queue(&sender.channel, (const uint8_t *)"none", 4, -1), ==, 0);
    g_assert_cmpint(control_channel_queue(&sender.channel, (const uint8_t *)"one", 3, first[1]), ==, 0);
    g_assert_cmpint(control_channel_queue(&sender.channel, (const uint8_t *)"two", 3, second[1]), ==, 0);
    g_assert_cmpint(control_channel_queue(&sender.channel, (const uint8_t *)"last", 4, -1), ==, 0);
    g_assert_cmpint(control_channel_flush(&sender.channel), ==, 0);

    const char *texts[] = {"none", "one", "two", "last"};
    int read_ends[] = {-1, first[0], second[0], -1};
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        const uint8_t *payload;
        size_t bytes;
        int fd;
        g_assert_cmpint(control_channel_receive(&receiver, &payload, &bytes, &fd), ==, 1);
        g_assert_cmpmem(payload, bytes, texts[i], strlen(texts[i]));
        g_assert_cmpint(fd >= 0, ==, read_ends[i] >= 0);
        if (fd >= 0) {
            char byte = 0;
            g_assert_cmpint(fcntl(fd, F_GETFD), ==, FD_CLOEXEC);
            g_assert_cmpint(write(fd, "!", 1), ==, 1);
            g_assert_cmpint(read(read_ends[i], &byte, 1), ==, 1);
            close(fd);
            close(read_ends[i]);
        }
    }
    control_channel_finish(&receiver);
    pair_finish(&sender);
}

/* Broken if it fails: a client that does not read makes the broker's memory grow. */
static void test_full(void)
{
    struct pair pair;
    pair_init(&pair, false);
    g_autofree uint8_t *payload = g_malloc0(CONTROL_FRAME_BYTES + 1);
    g_assert_cmpint(control_channel_queue(&pair.channel, payload, 0, -1), ==, -EMSGSIZE);
    g_assert_cmpint(control_channel_queue(&pair.channel, payload, CONTROL_FRAME_BYTES + 1, dup(0)), ==, -EMSGSIZE);
    int result = 0;
    unsigned sent = 0;
    while (result >= 0 && sent < 10000) {
        result = control_channel_queue(&pair.channel, payload, CONTROL_FRAME_BYTES, -1);
        if (result == 0) {
            sent++;
            result = control_channel_flush(&pair.channel);
        }
    }
    g_assert_cmpint(result, ==, -ENOBUFS);
    /* The peer reads after all: nothing is lost. */
    uint64_t received = 0;
    for (;;) {
        static char bytes[65536];
        ssize_t n = recv(pair.peer, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (n > 0) {
            received += (uint64_t)n;
        } else if (control_channel_flush(&pair.channel) == 0 && n < 0 && pair.channel.tx_bytes == 0) {
            n = recv(pair.peer, bytes, sizeof(bytes), MSG_DONTWAIT);
            if (n <= 0) {
                break;
            }
            received += (uint64_t)n;
        }
    }
    g_assert_cmpuint(received, ==, (uint64_t)sent * (CONTROL_FRAME_HEADER_BYTES + CONTROL_FRAME_BYTES));
    pair_finish(&pair);
}

static void check_bytes(const void *message, const char *name, const char *expected)
{
    size_t bytes = protobuf_c_message_get_packed_size(message);
    g_autofree uint8_t *packed = g_malloc(bytes);
    protobuf_c_message_pack(message, packed);
    GString *hex = g_string_new(NULL);
    for (size_t i = 0; i < bytes; i++) {
        g_string_append_printf(hex, "%02x", packed[i]);
    }
    g_autofree char *text = g_string_free(hex, FALSE);
    g_test_message("%s %s", name, text);
    g_assert_cmpstr(text, ==, expected);
}

/* Broken if it fails: a field or message changed its number or type, and clients of other versions misread it. */
static void test_golden(void)
{
    Bulkhead__Request request = BULKHEAD__REQUEST__INIT;
    request.id = 1;
    Bulkhead__Hello hello = BULKHEAD__HELLO__INIT;
    hello.version = 1;
    request.body_case = BULKHEAD__REQUEST__BODY_HELLO;
    request.hello = &hello;
    check_bytes(&request, "hello", "080112020801");

    Bulkhead__Disk disk = BULKHEAD__DISK__INIT;
    disk.path = (char *)"/d";
    disk.format = (char *)"raw";
    disk.readonly = disk.ephemeral = true;
    Bulkhead__Publish publish = BULKHEAD__PUBLISH__INIT;
    publish.address = (char *)"::";
    publish.host_port = 2222;
    publish.guest_port = 22;
    Bulkhead__Net net = BULKHEAD__NET__INIT;
    net.kind = (char *)"user";
    net.n_publish = 1;
    net.publish = (Bulkhead__Publish *[]){&publish};
    Bulkhead__Machine machine = BULKHEAD__MACHINE__INIT;
    machine.name = (char *)"n";
    machine.kernel = (char *)"/k";
    machine.initrd = (char *)"/i";
    machine.append = (char *)"a";
    machine.cpus = 2;
    machine.memory_bytes = UINT64_C(1) << 32;
    machine.n_disks = 1;
    machine.disks = (Bulkhead__Disk *[]){&disk};
    machine.n_nets = 1;
    machine.nets = (Bulkhead__Net *[]){&net};
    machine.accel = (char *)"jit";
    machine.cpu = (char *)"v2";
    Bulkhead__Run run = BULKHEAD__RUN__INIT;
    run.machine = &machine;
    run.detach = true;
    request.body_case = BULKHEAD__REQUEST__BODY_RUN;
    request.run = &run;
    check_bytes(&request, "run",
                "08011a450a410a016e12022f6b1a022f6922016128023080808080103a0d0a022f64120372617718012001"
                "42110a047573657212090a023a3a10ae1118164a036a69745202763210" "01");

    Bulkhead__List list = BULKHEAD__LIST__INIT;
    request.body_case = BULKHEAD__REQUEST__BODY_LIST;
    request.list = &list;
    check_bytes(&request, "list", "08012200");

    Bulkhead__Stop stop = BULKHEAD__STOP__INIT;
    stop.name = (char *)"n";
    stop.timeout_ms = 300;
    request.body_case = BULKHEAD__REQUEST__BODY_STOP;
    request.stop = &stop;
    check_bytes(&request, "stop", "08012a060a016e10ac02");

    Bulkhead__Kill kill = BULKHEAD__KILL__INIT;
    kill.name = (char *)"n";
    request.body_case = BULKHEAD__REQUEST__BODY_KILL;
    request.kill = &kill;
    check_bytes(&request, "kill", "080132030a016e");

    Bulkhead__Console console = BULKHEAD__CONSOLE__INIT;
    console.name = (char *)"n";
    request.body_case = BULKHEAD__REQUEST__BODY_CONSOLE;
    request.console = &console;
    check_bytes(&request, "console", "08013a030a016e");

    Bulkhead__Release release = BULKHEAD__RELEASE__INIT;
    release.name = (char *)"n";
    request.body_case = BULKHEAD__REQUEST__BODY_RELEASE;
    request.release = &release;
    check_bytes(&request, "release", "080142030a016e");
}

/* Broken if it fails: see test_golden; the broker's side. */
static void test_golden_replies(void)
{
    Bulkhead__Reply reply = BULKHEAD__REPLY__INIT;
    reply.id = 7;
    Bulkhead__Error error = BULKHEAD__ERROR__INIT;
    error.text = (char *)"no";
    reply.body_case = BULKHEAD__REPLY__BODY_ERROR;
    reply.error = &error;
    check_bytes(&reply, "error", "080712040a026e6f");

    Bulkhead__HelloReply hello = BULKHEAD__HELLO_REPLY__INIT;
    hello.version = 1;
    hello.broker_pid = 5;
    hello.release = (char *)"0";
    reply.body_case = BULKHEAD__REPLY__BODY_HELLO;
    reply.hello = &hello;
    check_bytes(&reply, "hello", "08071a07080110051a0130");

    Bulkhead__Started started = BULKHEAD__STARTED__INIT;
    started.name = (char *)"n";
    started.cpus = 1;
    started.memory_bytes = 1;
    started.accel = (char *)"j";
    started.accel_reason = (char *)"r";
    reply.body_case = BULKHEAD__REPLY__BODY_STARTED;
    reply.started = &started;
    check_bytes(&reply, "started", "0807220d0a016e1001180122016a2a0172");

    Bulkhead__ProcessStatus process = BULKHEAD__PROCESS_STATUS__INIT;
    process.name = (char *)"v";
    process.pid = 9;
    process.state = (char *)"s";
    process.text = (char *)"t";
    Bulkhead__MachineStatus status = BULKHEAD__MACHINE_STATUS__INIT;
    status.name = (char *)"n";
    status.state = (char *)"s";
    status.cpus = 1;
    status.memory_bytes = 2;
    status.accel = (char *)"j";
    status.uptime_ms = 3;
    status.resets = 4;
    status.consoles = 5;
    status.n_processes = 1;
    status.processes = (Bulkhead__ProcessStatus *[]){&process};
    Bulkhead__ListReply list = BULKHEAD__LIST_REPLY__INIT;
    list.n_machines = 1;
    list.machines = (Bulkhead__MachineStatus *[]){&status};
    reply.body_case = BULKHEAD__REPLY__BODY_LIST;
    reply.list = &list;
    check_bytes(&reply, "list", "08072a220a200a016e120173180120022a016a3003380440054a0b0a017610091a0173220174");

    Bulkhead__ConsoleReply console = BULKHEAD__CONSOLE_REPLY__INIT;
    reply.body_case = BULKHEAD__REPLY__BODY_CONSOLE;
    reply.console = &console;
    check_bytes(&reply, "console", "08073200");

    Bulkhead__Ended ended = BULKHEAD__ENDED__INIT;
    ended.name = (char *)"n";
    ended.kind = BULKHEAD__END_KIND__END_FAILED;
    ended.text = (char *)"t";
    reply.body_case = BULKHEAD__REPLY__BODY_ENDED;
    reply.ended = &ended;
    check_bytes(&reply, "ended", "08073a080a016e10041a0174");

    Bulkhead__Done done = BULKHEAD__DONE__INIT;
    reply.body_case = BULKHEAD__REPLY__BODY_DONE;
    reply.done = &done;
    check_bytes(&reply, "done", "08074200");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/control_channel/split", test_split);
    g_test_add_func("/control_channel/hostile", test_hostile);
    g_test_add_func("/control_channel/fds", test_fds);
    g_test_add_func("/control_channel/full", test_full);
    g_test_add_func("/control/golden", test_golden);
    g_test_add_func("/control/golden-replies", test_golden_replies);
    return g_test_run();
}
