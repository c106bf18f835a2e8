/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost-user on the wire: the bytes of every message in both directions, how messages are cut and put
 * together, and what the rule table refuses.
 *
 * The golden bytes (golden_messages.h) are written down by hand, not produced by the code under test.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "protocol/vhost_user_frontend.h"
#include "tests/protocol/golden_messages.h"

#define ALL_PROTOCOL_FEATURES (VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_COUNT) - 1)

static unsigned unhex(const char *text, uint8_t *bytes)
{
    unsigned count = 0;

    for (; *text; text += 2)
        bytes[count++] = (uint8_t)(g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]));
    return count;
}

/* Header and payload as on the wire; their length. */
static unsigned wire_bytes(uint32_t request, uint32_t flags, const char *payload, uint8_t *bytes)
{
    unsigned size = unhex(payload, bytes + 12);

    for (unsigned i = 0; i < 4; i++) {
        bytes[i] = (uint8_t)(request >> 8 * i);
        bytes[4 + i] = (uint8_t)(flags >> 8 * i);
        bytes[8 + i] = (uint8_t)(size >> 8 * i);
    }
    return 12 + size;
}

static struct vhost_user_message message_of(const struct golden *golden)
{
    struct vhost_user_message message = {.header = {.request = golden->request, .flags = VHOST_USER_VERSION}};

    message.header.size = unhex(golden->payload, message.payload.bytes);
    message.fd_count = golden->fds;
    for (unsigned i = 0; i < golden->fds; i++)
        message.fds[i] = fd_eventfd_create();
    return message;
}

static int check(const struct golden *golden, const struct vhost_user_message *message)
{
    const char *why = NULL;
    int r = vhost_user_check_request(golden->direction, message, ALL_PROTOCOL_FEATURES,
                                     golden->request == VHOST_USER_SET_PROTOCOL_FEATURES
                                         ? VHOST_USER_STATE_OPEN
                                         : VHOST_USER_STATE_CONFIGURED,
                                     &why);

    g_assert_true((r < 0) == (why != NULL));
    return r;
}

struct pair {
    int ours, theirs;
};

static struct pair make_pair(void)
{
    int sockets[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets), ==, 0);
    return (struct pair){sockets[0], sockets[1]};
}

static void close_pair(struct pair *pair)
{
    fd_close(&pair->ours);
    fd_close(&pair->theirs);
}

/* Broken: we do not speak the protocol that others speak. Every message that the rule table knows must be
 * here. */
static void test_golden_bytes(void)
{
    bool seen[2][64] = {{false}};

    for (unsigned i = 0; i < G_N_ELEMENTS(goldens); i++) {
        const struct golden *golden = &goldens[i];
        struct vhost_user_message message = message_of(golden), received;
        struct pair pair = make_pair();
        uint8_t expected[512], bytes[512];
        unsigned length = wire_bytes(golden->request, 1, golden->payload, expected);
        struct iovec iov = {bytes, sizeof(bytes)};
        int fds[VHOST_USER_FDS_MAX];
        size_t fd_count = VHOST_USER_FDS_MAX;
        struct vhost_user_stream stream;

        g_test_message("%s", vhost_user_request_name(golden->direction, golden->request));
        seen[golden->direction][golden->request] = true;
        /* out */
        g_assert_cmpint(vhost_user_send(pair.ours, &message), ==, 0);
        g_assert_cmpint(fd_receive(pair.theirs, &iov, 1, fds, &fd_count), ==, length);
        g_assert_cmpmem(bytes, length, expected, length);
        g_assert_cmpuint(fd_count, ==, golden->fds);
        /* in */
        iov.iov_len = length;
        g_assert_cmpint(fd_send(pair.theirs, &iov, 1, fds, fd_count), ==, length);
        vhost_user_stream_init(&stream, pair.ours);
        g_assert_cmpint(vhost_user_stream_receive(&stream, &received), ==, 1);
        g_assert_cmpuint(received.header.request, ==, golden->request);
        g_assert_cmpuint(received.fd_count, ==, golden->fds);
        g_assert_cmpint(check(golden, &received), ==, 0);
        vhost_user_message_finish(&received);
        vhost_user_message_finish(&message);
        fd_close_all(fds, fd_count);
        vhost_user_stream_finish(&stream);
        close_pair(&pair);
    }
    for (unsigned direction = 0; direction < 2; direction++) {
        for (unsigned request = 0; request < 64; request++)
            g_assert_true(seen[direction][request] ==
                          (vhost_user_find_rule((enum vhost_user_direction)direction, request) != NULL));
    }
}

/* Broken: fields are read at other offsets than the specification puts them. */
static void test_fields(void)
{
    struct vhost_user_message message = message_of(&goldens[4]);

    g_assert_cmpuint(message.payload.mem_table.count, ==, 2);
    g_assert_cmpuint(message.payload.mem_table.regions[0].gpa, ==, 0x100000);
    g_assert_cmpuint(message.payload.mem_table.regions[0].bytes, ==, 0x200000);
    g_assert_cmpuint(message.payload.mem_table.regions[0].user_addr, ==, 0x7f0000000000);
    g_assert_cmpuint(message.payload.mem_table.regions[0].mmap_offset, ==, 0x1000);
    vhost_user_message_finish(&message);
    message = message_of(&goldens[8]);
    g_assert_cmpuint(message.payload.addr.index, ==, 1);
    g_assert_cmpuint(message.payload.addr.desc_user, ==, 0x1000);
    g_assert_cmpuint(message.payload.addr.used_user, ==, 0x3000);
    g_assert_cmpuint(message.payload.addr.avail_user, ==, 0x2000);
    unhex(INFLIGHT, message.payload.bytes);
    g_assert_cmpuint(message.payload.inflight.mmap_bytes, ==, 0x3000);
    g_assert_cmpuint(message.payload.inflight.num_queues, ==, 2);
    g_assert_cmpuint(message.payload.inflight.queue_size, ==, 128);
}

/* Broken: a message that arrives in pieces, or two in one, is lost or blocks the loop. */
static void test_split_and_coalesced(void)
{
    uint8_t bytes[1024];
    unsigned first = wire_bytes(VHOST_USER_SET_VRING_ADDR, 1, goldens[8].payload, bytes);
    unsigned length = first + wire_bytes(VHOST_USER_GET_FEATURES, 1, "", bytes + first);
    struct pair pair = make_pair();
    struct vhost_user_message message;
    struct vhost_user_stream stream;

    vhost_user_stream_init(&stream, pair.ours);
    for (unsigned i = 0; i < first; i++) {
        g_assert_cmpint(vhost_user_stream_receive(&stream, &message), ==, 0);
        g_assert_cmpint(write(pair.theirs, bytes + i, 1), ==, 1);
    }
    g_assert_cmpint(vhost_user_stream_receive(&stream, &message), ==, 1);
    g_assert_cmpuint(message.header.request, ==, VHOST_USER_SET_VRING_ADDR);
    g_assert_cmpint(write(pair.theirs, bytes, length), ==, length);
    g_assert_cmpint(vhost_user_stream_receive(&stream, &message), ==, 1);
    g_assert_cmpint(vhost_user_stream_receive(&stream, &message), ==, 1);
    g_assert_cmpuint(message.header.request, ==, VHOST_USER_GET_FEATURES);
    g_assert_cmpint(vhost_user_stream_receive(&stream, &message), ==, 0);
    vhost_user_stream_finish(&stream);
    close_pair(&pair);
}

/* Broken: a peer that goes away inside a message is not noticed, at whatever byte. */
static void test_disconnect_at_every_byte(void)
{
    uint8_t bytes[512];
    unsigned length = wire_bytes(VHOST_USER_SET_MEM_TABLE, 1, goldens[4].payload, bytes);

    for (unsigned cut = 0; cut < length; cut++) {
        struct pair pair = make_pair();
        struct vhost_user_message message;
        struct vhost_user_stream stream;

        vhost_user_stream_init(&stream, pair.ours);
        if (cut > 0)
            g_assert_cmpint(write(pair.theirs, bytes, cut), ==, cut);
        fd_close(&pair.theirs);
        g_assert_cmpint(vhost_user_stream_receive(&stream, &message), ==, cut == 0 ? -EPIPE : -ECONNRESET);
        vhost_user_stream_finish(&stream);
        close_pair(&pair);
    }
}

static int receive_bytes(const void *bytes, size_t length, unsigned fd_count)
{
    struct pair pair = make_pair();
    struct vhost_user_message message = {.fd_count = 0};
    struct vhost_user_stream stream;
    struct iovec iov = {(void *)bytes, length};
    int fds[VHOST_USER_FDS_MAX + 1];
    int r;

    for (unsigned i = 0; i < fd_count; i++)
        fds[i] = fd_eventfd_create();
    g_assert_cmpint(fd_send(pair.theirs, &iov, 1, fds, fd_count), ==, length);
    fd_close_all(fds, fd_count);
    vhost_user_stream_init(&stream, pair.ours);
    r = vhost_user_stream_receive(&stream, &message);
    vhost_user_message_finish(&message);
    vhost_user_stream_finish(&stream);
    close_pair(&pair);
    return r;
}

/* Broken: a wrong version or an absurd size is believed; descriptors without end are kept. */
static void test_framing_refusals(void)
{
    uint8_t bytes[512];
    unsigned length = wire_bytes(VHOST_USER_GET_FEATURES, 0, "", bytes);

    g_assert_cmpint(receive_bytes(bytes, length, 0), ==, -EPROTO);
    wire_bytes(VHOST_USER_GET_FEATURES, 2, "", bytes);
    g_assert_cmpint(receive_bytes(bytes, length, 0), ==, -EPROTO);
    wire_bytes(VHOST_USER_GET_FEATURES, 1, "", bytes);
    bytes[8] = 13;
    bytes[9] = 1; /* 269 = 12 + 256 + 1 */
    g_assert_cmpint(receive_bytes(bytes, length, 0), ==, -EPROTO);
    memset(bytes + 8, 0xff, 4);
    g_assert_cmpint(receive_bytes(bytes, length, 0), ==, -EPROTO);
    wire_bytes(VHOST_USER_GET_FEATURES, 1, "", bytes);
    g_assert_cmpint(receive_bytes(bytes, length, VHOST_USER_FDS_MAX), ==, 1);
    g_assert_cmpint(receive_bytes(bytes, length, VHOST_USER_FDS_MAX + 1), ==, -EPROTO);
}

/* Broken: a message of another size than its payload, or with a descriptor too many or too few, is handled.
 */
static void test_rule_refusals(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(goldens); i++) {
        const struct golden *golden = &goldens[i];
        const struct vhost_user_rule *rule = vhost_user_find_rule(golden->direction, golden->request);
        struct vhost_user_message message = message_of(golden), changed;
        const char *why;

        g_test_message("%s", rule->name);
        changed = message;
        changed.header.size++;
        g_assert_cmpint(check(golden, &changed), ==, -EPROTO);
        for (uint32_t size = 0; size < message.header.size; size++) {
            bool is_short_form =
                rule->payload == VHOST_USER_PAYLOAD_INFLIGHT && size == VHOST_USER_INFLIGHT_SHORT_BYTES;

            changed.header.size = size;
            g_assert_cmpint(check(golden, &changed), ==, is_short_form ? 0 : -EPROTO);
        }
        changed = message;
        changed.fd_count++;
        if (golden->fds == rule->fds_max || rule->payload == VHOST_USER_PAYLOAD_MEM_TABLE ||
            rule->payload == VHOST_USER_PAYLOAD_VRING_FD)
            g_assert_cmpint(check(golden, &changed), ==, -EPROTO);
        if (golden->fds > 0 &&
            (golden->fds == rule->fds_min || rule->payload == VHOST_USER_PAYLOAD_MEM_TABLE ||
             rule->payload == VHOST_USER_PAYLOAD_VRING_FD)) {
            changed.fd_count = golden->fds - 1;
            g_assert_cmpint(check(golden, &changed), ==, -EPROTO);
        }
        changed = message;
        changed.header.flags |= VHOST_USER_FLAG_REPLY;
        g_assert_cmpint(check(golden, &changed), ==, -EPROTO);
        if (rule->protocol_bit >= 0)
            g_assert_cmpint(
                vhost_user_check_request(golden->direction, &message,
                                         ALL_PROTOCOL_FEATURES & ~VHOST_USER_BIT(rule->protocol_bit),
                                         VHOST_USER_STATE_CONFIGURED, &why),
                ==, -EPROTO);
        for (unsigned state = VHOST_USER_STATE_OPEN; state <= VHOST_USER_STATE_RUNNING; state <<= 1) {
            if (!(rule->states & state))
                g_assert_cmpint(vhost_user_check_request(golden->direction, &message, ALL_PROTOCOL_FEATURES,
                                                         (enum vhost_user_state)state, &why),
                                ==, -EPROTO);
        }
        vhost_user_message_finish(&message);
    }
}

static void test_unknown_requests(void)
{
    static const uint32_t ids[] = {0, 26, 27, 46, 1000, UINT32_MAX};

    for (unsigned i = 0; i < G_N_ELEMENTS(ids); i++) {
        const struct golden golden = {TO, ids[i], "", 0, NULL};
        struct vhost_user_message message = message_of(&golden);

        g_assert_cmpint(check(&golden, &message), ==, -EPROTO);
        g_assert_cmpstr(vhost_user_request_name(TO, ids[i]), ==, "unknown request");
    }
}

static void test_mem_table_count(void)
{
    const struct golden golden = {TO, VHOST_USER_SET_MEM_TABLE, "0900000000000000", 0, NULL};
    struct vhost_user_message message = message_of(&golden);

    g_assert_cmpint(check(&golden, &message), ==, -EPROTO);
    message.payload.mem_table.count = UINT32_MAX;
    g_assert_cmpint(check(&golden, &message), ==, -EPROTO);
    message.payload.mem_table.count = 0;
    g_assert_cmpint(check(&golden, &message), ==, 0);
}

/* ---- the front-end ---- */

struct frontend_fixture {
    struct pair pair;
    struct vhost_user_frontend frontend;
};

static void frontend_set_up(struct frontend_fixture *f, const void *data)
{
    f->pair = make_pair();
    g_assert_cmpint(vhost_user_frontend_init(&f->frontend, f->pair.ours, 200), ==, 0);
    f->frontend.protocol_features = ALL_PROTOCOL_FEATURES;
}

static void frontend_tear_down(struct frontend_fixture *f, const void *data)
{
    vhost_user_frontend_finish(&f->frontend);
    fd_close(&f->pair.theirs);
}

static void prepare_reply(struct frontend_fixture *f, uint32_t request, const char *payload)
{
    uint8_t bytes[512];
    unsigned length = wire_bytes(request, 5, payload, bytes);

    g_assert_cmpint(write(f->pair.theirs, bytes, length), ==, length);
}

static void expect_sent(struct frontend_fixture *f, uint32_t request, uint32_t flags, const char *payload)
{
    uint8_t expected[512], bytes[512];
    unsigned length = wire_bytes(request, flags, payload, expected);

    g_assert_cmpint(read(f->pair.theirs, bytes, sizeof(bytes)), ==, length);
    g_assert_cmpmem(bytes, length, expected, length);
}

/* Broken: the VMM sends other bytes than back-ends expect, or reads their answers wrongly. */
static void test_frontend_calls(struct frontend_fixture *f, const void *data)
{
    const struct vhost_user_vring_addr addr = {1, 0, 0x1000, 0x3000, 0x2000, 0};
    uint64_t value;
    unsigned number;
    uint8_t config[2], status;

    prepare_reply(f, VHOST_USER_GET_FEATURES, U64);
    g_assert_cmpint(vhost_user_frontend_get_features(&f->frontend, &value), ==, 0);
    g_assert_cmphex(value, ==, 0x0102030405060708);
    expect_sent(f, VHOST_USER_GET_FEATURES, 1, "");

    prepare_reply(f, VHOST_USER_SET_VRING_ADDR, "0000000000000000");
    g_assert_cmpint(vhost_user_frontend_set_vring_addr(&f->frontend, &addr), ==, 0);
    expect_sent(f, VHOST_USER_SET_VRING_ADDR, 9, goldens[8].payload);

    prepare_reply(f, VHOST_USER_GET_VRING_BASE, STATE);
    g_assert_cmpint(vhost_user_frontend_get_vring_base(&f->frontend, 1, &number), ==, 0);
    g_assert_cmpuint(number, ==, 2);
    expect_sent(f, VHOST_USER_GET_VRING_BASE, 1, "0100000000000000");

    prepare_reply(f, VHOST_USER_SET_VRING_CALL, "0000000000000000");
    g_assert_cmpint(vhost_user_frontend_set_vring_call(&f->frontend, 1, -1), ==, 0);
    expect_sent(f, VHOST_USER_SET_VRING_CALL, 9, "0101000000000000");

    prepare_reply(f, VHOST_USER_GET_CONFIG, "040000000200000000000000abcd");
    g_assert_cmpint(vhost_user_frontend_get_config(&f->frontend, 4, config, 2), ==, 0);
    g_assert_cmpmem(config, 2, "\xab\xcd", 2);
    expect_sent(f, VHOST_USER_GET_CONFIG, 1, "0400000002000000000000000000");

    prepare_reply(f, VHOST_USER_GET_STATUS, "0f00000000000000");
    g_assert_cmpint(vhost_user_frontend_get_status(&f->frontend, &status), ==, 0);
    g_assert_cmpuint(status, ==, 15);
}

/* Broken: a refusal is taken for success, or ends the session. */
static void test_frontend_refusal(struct frontend_fixture *f, const void *data)
{
    uint8_t config[2];

    prepare_reply(f, VHOST_USER_SET_OWNER, "0100000000000000");
    g_assert_cmpint(vhost_user_frontend_set_owner(&f->frontend), ==, -EREMOTEIO);
    g_assert_false(f->frontend.failed);
    prepare_reply(f, VHOST_USER_GET_CONFIG, "");
    g_assert_cmpint(vhost_user_frontend_get_config(&f->frontend, 0, config, 2), ==, -EREMOTEIO);
    f->frontend.protocol_features = 0;
    g_assert_cmpint(vhost_user_frontend_reset_device(&f->frontend), ==, -EOPNOTSUPP);
    g_assert_cmpint(vhost_user_frontend_set_owner(&f->frontend), ==, 0); /* nobody was asked to answer */
}

/* Broken: a silent or lying back-end hangs the VMM or is believed. */
static void test_frontend_hostile(void)
{
    static const struct {
        uint32_t request, flags;
        const char *payload;
        int error;
    } cases[] = {
        {0, 0, NULL, -ETIMEDOUT},
        {VHOST_USER_GET_QUEUE_NUM, 5, U64, -EPROTO}, /* the answer to something else */
        {VHOST_USER_GET_FEATURES, 1, U64, -EPROTO},  /* not a reply */
        {VHOST_USER_GET_FEATURES, 4, U64, -EPROTO},  /* no version */
        {VHOST_USER_GET_FEATURES, 5, "01020304", -EPROTO},
        {VHOST_USER_GET_FEATURES, 5, U64 "00", -EPROTO},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct frontend_fixture f;
        uint8_t bytes[512];
        uint64_t value = 77;

        frontend_set_up(&f, NULL);
        if (cases[i].payload) {
            unsigned length = wire_bytes(cases[i].request, cases[i].flags, cases[i].payload, bytes);

            g_assert_cmpint(write(f.pair.theirs, bytes, length), ==, length);
        }
        g_assert_cmpint(vhost_user_frontend_get_features(&f.frontend, &value), ==, cases[i].error);
        g_assert_cmpuint(value, ==, 77);
        g_assert_cmpint(vhost_user_frontend_get_features(&f.frontend, &value), ==, -ENOTCONN);
        frontend_tear_down(&f, NULL);
    }
}

static void test_frontend_disconnect(struct frontend_fixture *f, const void *data)
{
    uint64_t value;

    fd_close(&f->pair.theirs);
    g_assert_cmpint(vhost_user_frontend_get_features(&f->frontend, &value), ==, -EPIPE);
}

/* Broken: a back-end without MQ, or one that claims no queue, gets a wrong number of queues. */
static void test_frontend_queue_num(struct frontend_fixture *f, const void *data)
{
    unsigned count;

    prepare_reply(f, VHOST_USER_GET_QUEUE_NUM, "0000000000000000");
    g_assert_cmpint(vhost_user_frontend_get_queue_num(&f->frontend, &count), ==, -EPROTO);
    prepare_reply(f, VHOST_USER_GET_QUEUE_NUM, "0101000000000000");
    g_assert_cmpint(vhost_user_frontend_get_queue_num(&f->frontend, &count), ==, -EPROTO);
    f->frontend.protocol_features = 0;
    g_assert_cmpint(vhost_user_frontend_get_queue_num(&f->frontend, &count), ==, 0);
    g_assert_cmpuint(count, ==, 1);
}

#define FRONTEND(name, function)                                                                             \
    g_test_add("/vhost-user/frontend/" name, struct frontend_fixture, NULL, frontend_set_up, function,       \
               frontend_tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vhost-user/golden-bytes", test_golden_bytes);
    g_test_add_func("/vhost-user/fields", test_fields);
    g_test_add_func("/vhost-user/split-and-coalesced", test_split_and_coalesced);
    g_test_add_func("/vhost-user/disconnect-at-every-byte", test_disconnect_at_every_byte);
    g_test_add_func("/vhost-user/framing-refusals", test_framing_refusals);
    g_test_add_func("/vhost-user/rule-refusals", test_rule_refusals);
    g_test_add_func("/vhost-user/unknown-requests", test_unknown_requests);
    g_test_add_func("/vhost-user/mem-table-count", test_mem_table_count);
    FRONTEND("calls", test_frontend_calls);
    FRONTEND("refusal", test_frontend_refusal);
    FRONTEND("disconnect", test_frontend_disconnect);
    FRONTEND("queue-num", test_frontend_queue_num);
    g_test_add_func("/vhost-user/frontend/hostile", test_frontend_hostile);
    return g_test_run();
}
