/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/vhost_user.h"

#include <errno.h>
#include <string.h>

#include "protocol/base/fd.h"

#define STATES_ALL     VHOST_USER_STATES_ALL
#define STATES_STOPPED VHOST_USER_STATES_STOPPED
#define STATES_SET     (VHOST_USER_STATE_CONFIGURED | VHOST_USER_STATE_RUNNING)
#define NO_BIT         (-1)
#define BIT(name)      VHOST_USER_PROTOCOL_F_##name
#define P(name)        VHOST_USER_PAYLOAD_##name

/* name, payload, min/max fds, protocol bit, states */
#define ACKED(request, payload, fds_min, fds_max, bit, states)                                               \
    [VHOST_USER_##request] = {#request, P(payload), VHOST_USER_REPLY_ACK, P(U64), fds_min, fds_max, 0, bit,  \
                              states,   false}
/* ...of a ring that must be stopped */
#define ACKED_STOPPED_RING(request, payload, fds_min, fds_max, bit, states)                                  \
    [VHOST_USER_##request] = {#request, P(payload), VHOST_USER_REPLY_ACK, P(U64), fds_min, fds_max, 0, bit,  \
                              states,   true}
/* ..., reply payload, most fds of the reply */
#define ANSWERED(request, payload, fds_min, fds_max, bit, states, reply, reply_fds)                          \
    [VHOST_USER_##request] = {                                                                               \
        #request, P(payload), VHOST_USER_REPLY_VALUE, P(reply), fds_min, fds_max, reply_fds, bit,            \
        states,   false}

/* clang-format off */
static const struct vhost_user_rule rules_to_backend[] = {
    /*       request              payload    fds   protocol bit          states          reply, its fds */
    ANSWERED(GET_FEATURES,           NONE,      0, 0, NO_BIT,                STATES_ALL,     U64, 0),
    ACKED   (SET_FEATURES,           U64,       0, 0, NO_BIT,                STATES_ALL),
    ACKED   (SET_OWNER,              NONE,      0, 0, NO_BIT,                STATES_ALL),
    ACKED   (RESET_OWNER,            NONE,      0, 0, NO_BIT,                STATES_ALL),
    ACKED   (SET_MEM_TABLE,          MEM_TABLE, 0, VHOST_USER_MEM_REGIONS_MAX, NO_BIT, STATES_ALL),
    ANSWERED(SET_LOG_BASE,           LOG,       1, 1, BIT(LOG_SHMFD),        STATES_SET,     U64, 0),
    ACKED   (SET_LOG_FD,             NONE,      1, 1, BIT(LOG_SHMFD),        STATES_SET),
    ACKED_STOPPED_RING(SET_VRING_NUM, STATE,    0, 0, NO_BIT,                STATES_ALL),
    ACKED   (SET_VRING_ADDR,         ADDR,      0, 0, NO_BIT,                STATES_ALL),
    ACKED_STOPPED_RING(SET_VRING_BASE, STATE,   0, 0, NO_BIT,                STATES_ALL),
    ANSWERED(GET_VRING_BASE,         STATE,     0, 0, NO_BIT,                STATES_ALL,     STATE, 0),
    ACKED   (SET_VRING_KICK,         VRING_FD,  0, 1, NO_BIT,                STATES_SET),
    ACKED   (SET_VRING_CALL,         VRING_FD,  0, 1, NO_BIT,                STATES_ALL),
    ACKED   (SET_VRING_ERR,          VRING_FD,  0, 1, NO_BIT,                STATES_ALL),
    ANSWERED(GET_PROTOCOL_FEATURES,  NONE,      0, 0, NO_BIT,                STATES_ALL,     U64, 0),
    ACKED   (SET_PROTOCOL_FEATURES,  U64,       0, 0, NO_BIT,                STATES_STOPPED),
    ANSWERED(GET_QUEUE_NUM,          NONE,      0, 0, BIT(MQ),               STATES_ALL,     U64, 0),
    ACKED   (SET_VRING_ENABLE,       STATE,     0, 0, NO_BIT,                STATES_ALL),
    ACKED   (SEND_RARP,              U64,       0, 0, BIT(RARP),             STATES_SET),
    ACKED   (NET_SET_MTU,            U64,       0, 0, BIT(MTU),              STATES_SET),
    ACKED   (SET_BACKEND_REQ_FD,     NONE,      1, 1, BIT(BACKEND_REQ),      STATES_ALL),
    ACKED   (IOTLB_MSG,              IOTLB,     0, 0, NO_BIT,                STATES_SET),
    ACKED_STOPPED_RING(SET_VRING_ENDIAN, STATE, 0, 0, BIT(CROSS_ENDIAN),     STATES_ALL),
    ANSWERED(GET_CONFIG,             CONFIG,    0, 0, BIT(CONFIG),           STATES_ALL,     CONFIG, 0),
    ACKED   (SET_CONFIG,             CONFIG,    0, 0, BIT(CONFIG),           STATES_ALL),
    ANSWERED(POSTCOPY_ADVISE,        NONE,      0, 0, BIT(PAGEFAULT),        STATES_ALL,     U64, 1),
    ACKED   (POSTCOPY_LISTEN,        NONE,      0, 0, BIT(PAGEFAULT),        STATES_ALL),
    ANSWERED(POSTCOPY_END,           NONE,      0, 0, BIT(PAGEFAULT),        STATES_ALL,     U64, 0),
    ANSWERED(GET_INFLIGHT_FD,        INFLIGHT,  0, 0, BIT(INFLIGHT_SHMFD),   STATES_STOPPED, INFLIGHT, 1),
    ACKED   (SET_INFLIGHT_FD,        INFLIGHT,  1, 1, BIT(INFLIGHT_SHMFD),   STATES_STOPPED),
    ACKED   (GPU_SET_SOCKET,         NONE,      1, 1, NO_BIT,                STATES_ALL),
    ACKED   (RESET_DEVICE,           NONE,      0, 0, BIT(RESET_DEVICE),     STATES_ALL),
    ACKED   (VRING_KICK,             STATE,     0, 0, BIT(INBAND_NOTIFICATIONS), STATES_SET),
    ANSWERED(GET_MAX_MEM_SLOTS,      NONE,      0, 0, BIT(CONFIGURE_MEM_SLOTS), STATES_ALL,  U64, 0),
    ACKED   (ADD_MEM_REG,            MEM_REG,   1, 1, BIT(CONFIGURE_MEM_SLOTS), STATES_ALL),
    ACKED   (REM_MEM_REG,            MEM_REG,   0, 1, BIT(CONFIGURE_MEM_SLOTS), STATES_ALL),
    ACKED   (SET_STATUS,             U64,       0, 0, BIT(STATUS),           STATES_ALL),
    ANSWERED(GET_STATUS,             NONE,      0, 0, BIT(STATUS),           STATES_ALL,     U64, 0),
    ANSWERED(SET_DEVICE_STATE_FD,    TRANSFER,  1, 1, BIT(DEVICE_STATE),     STATES_STOPPED, U64, 1),
    ANSWERED(CHECK_DEVICE_STATE,     NONE,      0, 0, BIT(DEVICE_STATE),     STATES_STOPPED, U64, 0),
    ANSWERED(GET_VRING_BASE_SKIP_DRAIN, STATE,  0, 0, BIT(SKIP_DRAIN),       STATES_ALL,     STATE, 0),
};

static const struct vhost_user_rule rules_to_frontend[] = {
    ACKED(BACKEND_IOTLB_MSG,               IOTLB,    0, 0, BIT(BACKEND_REQ),          STATES_ALL),
    ACKED(BACKEND_CONFIG_CHANGE_MSG,       NONE,     0, 0, BIT(CONFIG),               STATES_ALL),
    ACKED(BACKEND_VRING_HOST_NOTIFIER_MSG, AREA,     0, 1, BIT(HOST_NOTIFIER),        STATES_ALL),
    ACKED(BACKEND_VRING_CALL,              STATE,    0, 0, BIT(INBAND_NOTIFICATIONS), STATES_ALL),
    ACKED(BACKEND_VRING_ERR,               STATE,    0, 0, BIT(INBAND_NOTIFICATIONS), STATES_ALL),
};
/* clang-format on */

const struct vhost_user_rule *vhost_user_find_rule(enum vhost_user_direction direction, uint32_t request)
{
    const struct vhost_user_rule *rules = rules_to_backend;
    size_t count = ARRAY_LEN(rules_to_backend);

    if (direction == VHOST_USER_TO_FRONTEND) {
        rules = rules_to_frontend;
        count = ARRAY_LEN(rules_to_frontend);
    }
    return request < count && rules[request].name ? &rules[request] : NULL;
}

const char *vhost_user_request_name(enum vhost_user_direction direction, uint32_t request)
{
    const struct vhost_user_rule *rule = vhost_user_find_rule(direction, request);

    return rule ? rule->name : "unknown request";
}

uint32_t vhost_user_payload_bytes(enum vhost_user_payload_kind kind, const union vhost_user_payload *payload)
{
    static const uint32_t fixed[] = {
        [VHOST_USER_PAYLOAD_NONE] = 0,
        [VHOST_USER_PAYLOAD_U64] = sizeof(uint64_t),
        [VHOST_USER_PAYLOAD_STATE] = sizeof(struct vhost_user_vring_state),
        [VHOST_USER_PAYLOAD_ADDR] = sizeof(struct vhost_user_vring_addr),
        [VHOST_USER_PAYLOAD_MEM_TABLE] = offsetof(struct vhost_user_mem_table, regions),
        [VHOST_USER_PAYLOAD_MEM_REG] = sizeof(struct vhost_user_mem_reg),
        [VHOST_USER_PAYLOAD_LOG] = sizeof(struct vhost_user_log),
        [VHOST_USER_PAYLOAD_INFLIGHT] = sizeof(struct vhost_user_inflight),
        [VHOST_USER_PAYLOAD_CONFIG] = VHOST_USER_CONFIG_HEADER_BYTES,
        [VHOST_USER_PAYLOAD_IOTLB] = sizeof(struct vhost_user_iotlb),
        [VHOST_USER_PAYLOAD_AREA] = sizeof(struct vhost_user_vring_area),
        [VHOST_USER_PAYLOAD_TRANSFER] = sizeof(struct vhost_user_transfer),
        [VHOST_USER_PAYLOAD_VRING_FD] = sizeof(uint64_t),
    };

    if (kind == VHOST_USER_PAYLOAD_MEM_TABLE && payload->mem_table.count <= VHOST_USER_MEM_REGIONS_MAX)
        return fixed[kind] + payload->mem_table.count * (uint32_t)sizeof(struct vhost_user_region);
    if (kind == VHOST_USER_PAYLOAD_CONFIG && payload->config.size <= VHOST_USER_CONFIG_BYTES_MAX)
        return fixed[kind] + payload->config.size;
    return fixed[kind];
}

/* NULL, or why the payload does not have the shape of its kind. */
static const char *payload_defect(enum vhost_user_payload_kind kind, const struct vhost_user_message *message)
{
    const union vhost_user_payload *payload = &message->payload;
    uint32_t head = vhost_user_payload_bytes(kind, &(const union vhost_user_payload){0});

    if (kind == VHOST_USER_PAYLOAD_INFLIGHT && message->header.size == VHOST_USER_INFLIGHT_SHORT_BYTES)
        return NULL;
    if (message->header.size < head)
        return "payload too short";
    if (kind == VHOST_USER_PAYLOAD_MEM_TABLE && payload->mem_table.count > VHOST_USER_MEM_REGIONS_MAX)
        return "more than 8 memory regions";
    if (kind == VHOST_USER_PAYLOAD_CONFIG && payload->config.size > VHOST_USER_CONFIG_BYTES_MAX)
        return "config range over 256 bytes";
    if (message->header.size != vhost_user_payload_bytes(kind, payload))
        return "size does not match the payload";
    if (kind == VHOST_USER_PAYLOAD_MEM_TABLE && message->fd_count != payload->mem_table.count)
        return "not one descriptor per memory region";
    if (kind == VHOST_USER_PAYLOAD_VRING_FD &&
        message->fd_count != (payload->u64 & VHOST_USER_VRING_NOFD ? 0 : 1))
        return "descriptor and its 'none' bit disagree";
    if (kind == VHOST_USER_PAYLOAD_VRING_FD &&
        (payload->u64 & ~(VHOST_USER_VRING_INDEX_MASK | VHOST_USER_VRING_NOFD)))
        return "reserved bits set";
    return NULL;
}

static const char *request_defect(const struct vhost_user_rule *rule,
                                  const struct vhost_user_message *message, uint64_t protocol_features,
                                  enum vhost_user_state state)
{
    const char *why;

    if (!rule)
        return "unknown request";
    if (message->header.flags & VHOST_USER_FLAG_REPLY)
        return "a reply where a request was due";
    if (rule->protocol_bit >= 0 && !(protocol_features & VHOST_USER_BIT(rule->protocol_bit)))
        return "its protocol feature was not negotiated";
    if (!(rule->states & state))
        return "not allowed in this state of the session";
    why = payload_defect(rule->payload, message);
    if (why)
        return why;
    if (message->fd_count < rule->fds_min)
        return "too few descriptors";
    if (message->fd_count > rule->fds_max)
        return "too many descriptors";
    return NULL;
}

int vhost_user_check_request(enum vhost_user_direction direction, const struct vhost_user_message *message,
                             uint64_t protocol_features, enum vhost_user_state state, const char **ret_why)
{
    const struct vhost_user_rule *rule = vhost_user_find_rule(direction, message->header.request);
    const char *why = request_defect(rule, message, protocol_features, state);

    if (!why)
        return 0;
    *ret_why = why;
    return -EPROTO;
}

static const char *reply_defect(const struct vhost_user_rule *rule, uint32_t request, bool expect_ack,
                                const struct vhost_user_message *reply)
{
    const char *why;

    if (reply->header.request != request)
        return "reply to another request";
    if (!(reply->header.flags & VHOST_USER_FLAG_REPLY))
        return "a request where a reply was due";
    /* A back-end that cannot give the config answers with an empty payload. */
    if (!expect_ack && rule->reply_payload == VHOST_USER_PAYLOAD_CONFIG && reply->header.size == 0)
        return reply->fd_count > 0 ? "too many descriptors" : NULL;
    why = payload_defect(expect_ack ? VHOST_USER_PAYLOAD_U64 : rule->reply_payload, reply);
    if (why)
        return why;
    return reply->fd_count > (expect_ack ? 0 : rule->reply_fds_max) ? "too many descriptors" : NULL;
}

int vhost_user_check_reply(enum vhost_user_direction direction, uint32_t request, bool expect_ack,
                           const struct vhost_user_message *reply, const char **ret_why)
{
    const struct vhost_user_rule *rule = vhost_user_find_rule(direction, request);
    const char *why;

    assert(rule);
    why = reply_defect(rule, request, expect_ack, reply);
    if (!why)
        return 0;
    *ret_why = why;
    return -EPROTO;
}

void vhost_user_message_finish(struct vhost_user_message *message)
{
    fd_close_all(message->fds, message->fd_count);
    message->fd_count = 0;
}

void vhost_user_stream_init(struct vhost_user_stream *stream, int socket)
{
    memset(stream, 0, sizeof(*stream));
    stream->socket = socket;
}

void vhost_user_stream_finish(struct vhost_user_stream *stream)
{
    vhost_user_message_finish(&stream->message);
    stream->received = 0;
}

/* Reads some of `bytes` and keeps descriptors that come along. 1, 0 (would block) or negative errno. */
static int stream_read(struct vhost_user_stream *stream, void *buffer, size_t bytes)
{
    struct vhost_user_message *message = &stream->message;
    struct iovec iov = {.iov_base = buffer, .iov_len = bytes};
    size_t fd_count = VHOST_USER_FDS_MAX - message->fd_count;
    ssize_t n = fd_receive(stream->socket, &iov, 1, message->fds + message->fd_count, &fd_count);

    if (n == -EAGAIN || n == -EWOULDBLOCK)
        return 0;
    if (n == -E2BIG)
        return -EPROTO;
    if (n < 0)
        return (int)n;
    message->fd_count += (unsigned)fd_count;
    if (n == 0)
        return stream->received == 0 ? -EPIPE : -ECONNRESET;
    stream->received += (size_t)n;
    return 1;
}

int vhost_user_stream_receive(struct vhost_user_stream *stream, struct vhost_user_message *ret_message)
{
    struct vhost_user_message *message = &stream->message;
    const size_t head = sizeof(message->header);
    int r;

    while (stream->received < head) {
        r = stream_read(stream, (uint8_t *)&message->header + stream->received, head - stream->received);
        if (r <= 0)
            return r;
    }
    if ((message->header.flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION ||
        message->header.size > VHOST_USER_PAYLOAD_BYTES_MAX)
        return -EPROTO;
    while (stream->received < head + message->header.size) {
        size_t at = stream->received - head;

        r = stream_read(stream, message->payload.bytes + at, message->header.size - at);
        if (r <= 0)
            return r;
    }
    *ret_message = *message;
    message->fd_count = 0;
    stream->received = 0;
    return 1;
}

int vhost_user_send(int socket, const struct vhost_user_message *message)
{
    struct iovec iov[2] = {
        {.iov_base = (void *)&message->header, .iov_len = sizeof(message->header)},
        {.iov_base = (void *)&message->payload, .iov_len = message->header.size},
    };
    ssize_t n = fd_send(socket, iov, message->header.size ? 2 : 1, message->fds, message->fd_count);

    if (n < 0)
        return (int)n;
    return (size_t)n == sizeof(message->header) + message->header.size ? 0 : -ECONNRESET;
}
