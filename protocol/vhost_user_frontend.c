/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/vhost_user_frontend.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "protocol/base/fd.h"

int vhost_user_frontend_init(struct vhost_user_frontend *frontend, int socket, int timeout_ms)
{
    int r = fd_set_nonblock(socket, true);

    if (r < 0)
        return r;
    *frontend = (struct vhost_user_frontend){.socket = socket, .timeout_ms = timeout_ms};
    vhost_user_stream_init(&frontend->stream, socket);
    return 0;
}

void vhost_user_frontend_finish(struct vhost_user_frontend *frontend)
{
    vhost_user_stream_finish(&frontend->stream);
    fd_close(&frontend->socket);
    frontend->failed = true;
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits for the socket until `deadline_ms`. */
static int frontend_wait(struct vhost_user_frontend *frontend, short events, int64_t deadline_ms)
{
    for (;;) {
        struct pollfd poller = {.fd = frontend->socket, .events = events};
        int64_t left = deadline_ms - now_ms();
        int n = poll(&poller, 1, left > 0 ? (int)left : 0);

        if (n > 0)
            return 0;
        if (n == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

static int frontend_send(struct vhost_user_frontend *frontend, const struct vhost_user_message *message,
                         int64_t deadline_ms)
{
    for (;;) {
        int r = vhost_user_send(frontend->socket, message);

        if (r != -EAGAIN)
            return r;
        r = frontend_wait(frontend, POLLOUT, deadline_ms);
        if (r < 0)
            return r;
    }
}

static int frontend_receive(struct vhost_user_frontend *frontend, struct vhost_user_message *ret_reply,
                            int64_t deadline_ms)
{
    for (;;) {
        int r = vhost_user_stream_receive(&frontend->stream, ret_reply);

        if (r != 0)
            return r < 0 ? r : 0;
        r = frontend_wait(frontend, POLLIN, deadline_ms);
        if (r < 0)
            return r;
    }
}

static bool frontend_has(const struct vhost_user_frontend *frontend, enum vhost_user_protocol_feature bit)
{
    return frontend->protocol_features & VHOST_USER_BIT(bit);
}

/* Sends and receives what the rule says. Sets *ret_acked if *message now holds an acknowledgement. */
static int frontend_exchange(struct vhost_user_frontend *frontend, struct vhost_user_message *message,
                             const struct vhost_user_rule *rule, bool *ret_acked)
{
    const uint32_t request = message->header.request;
    const bool ack =
        rule->reply == VHOST_USER_REPLY_ACK && frontend_has(frontend, VHOST_USER_PROTOCOL_F_REPLY_ACK);
    int64_t deadline_ms = now_ms() + frontend->timeout_ms;
    struct vhost_user_message reply;
    const char *why;
    int r;

    message->header.flags = VHOST_USER_VERSION | (ack ? VHOST_USER_FLAG_NEED_REPLY : 0);
    message->header.size = vhost_user_payload_bytes(rule->payload, &message->payload);
    r = frontend_send(frontend, message, deadline_ms);
    message->fd_count = 0; /* they were borrowed */
    *ret_acked = ack;
    if (r < 0 || (!ack && rule->reply == VHOST_USER_REPLY_ACK))
        return r;
    r = frontend_receive(frontend, &reply, deadline_ms);
    if (r < 0)
        return r;
    r = vhost_user_check_reply(VHOST_USER_TO_BACKEND, request, ack, &reply, &why);
    if (r < 0) {
        vhost_user_message_finish(&reply);
        return r;
    }
    *message = reply;
    return 0;
}

int vhost_user_frontend_call(struct vhost_user_frontend *frontend, struct vhost_user_message *message)
{
    const struct vhost_user_rule *rule = vhost_user_find_rule(VHOST_USER_TO_BACKEND, message->header.request);
    bool acked = false;
    int r;

    assert(rule);
    if (frontend->failed)
        return -ENOTCONN;
    if (rule->protocol_bit >= 0 &&
        !frontend_has(frontend, (enum vhost_user_protocol_feature)rule->protocol_bit))
        return -EOPNOTSUPP;
    r = frontend_exchange(frontend, message, rule, &acked);
    if (r < 0) {
        frontend->failed = true;
        return r;
    }
    return acked && message->payload.u64 != 0 ? -EREMOTEIO : 0;
}

static int frontend_call_u64(struct vhost_user_frontend *frontend, enum vhost_user_request request,
                             uint64_t value, uint64_t *ret_value)
{
    struct vhost_user_message message = {.header.request = request, .payload.u64 = value};
    int r = vhost_user_frontend_call(frontend, &message);

    if (r == 0 && ret_value)
        *ret_value = message.payload.u64;
    return r;
}

static int frontend_call_state(struct vhost_user_frontend *frontend, enum vhost_user_request request,
                               unsigned index, unsigned num, unsigned *ret_num)
{
    struct vhost_user_message message = {.header.request = request, .payload.state = {index, num}};
    int r = vhost_user_frontend_call(frontend, &message);

    if (r < 0 || !ret_num)
        return r;
    if (message.payload.state.index != index) {
        frontend->failed = true;
        return -EPROTO;
    }
    *ret_num = message.payload.state.num;
    return 0;
}

int vhost_user_frontend_barrier(struct vhost_user_frontend *frontend)
{
    uint64_t features;

    return vhost_user_frontend_get_features(frontend, &features);
}

int vhost_user_frontend_get_features(struct vhost_user_frontend *frontend, uint64_t *ret_features)
{
    return frontend_call_u64(frontend, VHOST_USER_GET_FEATURES, 0, ret_features);
}

int vhost_user_frontend_set_features(struct vhost_user_frontend *frontend, uint64_t features)
{
    return frontend_call_u64(frontend, VHOST_USER_SET_FEATURES, features, NULL);
}

int vhost_user_frontend_get_protocol_features(struct vhost_user_frontend *frontend, uint64_t *ret_features)
{
    return frontend_call_u64(frontend, VHOST_USER_GET_PROTOCOL_FEATURES, 0, ret_features);
}

int vhost_user_frontend_set_protocol_features(struct vhost_user_frontend *frontend, uint64_t features)
{
    int r = frontend_call_u64(frontend, VHOST_USER_SET_PROTOCOL_FEATURES, features, NULL);

    if (r == 0)
        frontend->protocol_features = features;
    return r;
}

int vhost_user_frontend_set_owner(struct vhost_user_frontend *frontend)
{
    return frontend_call_u64(frontend, VHOST_USER_SET_OWNER, 0, NULL);
}

int vhost_user_frontend_get_queue_num(struct vhost_user_frontend *frontend, unsigned *ret_count)
{
    uint64_t count = 1;
    int r = 0;

    if (frontend_has(frontend, VHOST_USER_PROTOCOL_F_MQ))
        r = frontend_call_u64(frontend, VHOST_USER_GET_QUEUE_NUM, 0, &count);
    if (r < 0)
        return r;
    if (count == 0 || count > VHOST_USER_QUEUES_MAX)
        return -EPROTO;
    *ret_count = (unsigned)count;
    return 0;
}

int vhost_user_frontend_set_mem_table(struct vhost_user_frontend *frontend,
                                      const struct vhost_user_region *regions, const int *fds, unsigned count)
{
    struct vhost_user_message message = {.header.request = VHOST_USER_SET_MEM_TABLE, .fd_count = count};

    assert(count <= VHOST_USER_MEM_REGIONS_MAX);
    message.payload.mem_table.count = count;
    memcpy(message.payload.mem_table.regions, regions, count * sizeof(*regions));
    memcpy(message.fds, fds, count * sizeof(*fds));
    return vhost_user_frontend_call(frontend, &message);
}

int vhost_user_frontend_set_log_base(struct vhost_user_frontend *frontend, int fd, uint64_t offset,
                                     uint64_t bytes)
{
    struct vhost_user_message message = {.header.request = VHOST_USER_SET_LOG_BASE, .fd_count = 1};

    message.payload.log.bytes = bytes;
    message.payload.log.offset = offset;
    message.fds[0] = fd;
    return vhost_user_frontend_call(frontend, &message);
}

int vhost_user_frontend_get_max_mem_slots(struct vhost_user_frontend *frontend, uint64_t *ret_slots)
{
    return frontend_call_u64(frontend, VHOST_USER_GET_MAX_MEM_SLOTS, 0, ret_slots);
}

int vhost_user_frontend_add_mem_reg(struct vhost_user_frontend *frontend,
                                    const struct vhost_user_region *region, int fd)
{
    struct vhost_user_message message = {
        .header.request = VHOST_USER_ADD_MEM_REG,
        .payload.mem_reg.region = *region,
        .fds = {fd},
        .fd_count = 1,
    };

    return vhost_user_frontend_call(frontend, &message);
}

int vhost_user_frontend_rem_mem_reg(struct vhost_user_frontend *frontend,
                                    const struct vhost_user_region *region)
{
    struct vhost_user_message message = {
        .header.request = VHOST_USER_REM_MEM_REG,
        .payload.mem_reg.region = *region,
    };

    return vhost_user_frontend_call(frontend, &message);
}

int vhost_user_frontend_set_vring_num(struct vhost_user_frontend *frontend, unsigned index, unsigned size)
{
    return frontend_call_state(frontend, VHOST_USER_SET_VRING_NUM, index, size, NULL);
}

int vhost_user_frontend_set_vring_base(struct vhost_user_frontend *frontend, unsigned index, unsigned base)
{
    return frontend_call_state(frontend, VHOST_USER_SET_VRING_BASE, index, base, NULL);
}

int vhost_user_frontend_set_vring_addr(struct vhost_user_frontend *frontend,
                                       const struct vhost_user_vring_addr *addr)
{
    struct vhost_user_message message = {.header.request = VHOST_USER_SET_VRING_ADDR, .payload.addr = *addr};

    return vhost_user_frontend_call(frontend, &message);
}

static int frontend_set_vring_fd(struct vhost_user_frontend *frontend, enum vhost_user_request request,
                                 unsigned index, int fd)
{
    struct vhost_user_message message = {
        .header.request = request,
        .payload.u64 = index | (fd < 0 ? VHOST_USER_VRING_NOFD : 0),
        .fds = {fd},
        .fd_count = fd < 0 ? 0 : 1,
    };

    assert(index < VHOST_USER_QUEUES_MAX);
    return vhost_user_frontend_call(frontend, &message);
}

int vhost_user_frontend_set_vring_kick(struct vhost_user_frontend *frontend, unsigned index, int fd)
{
    return frontend_set_vring_fd(frontend, VHOST_USER_SET_VRING_KICK, index, fd);
}

int vhost_user_frontend_set_vring_call(struct vhost_user_frontend *frontend, unsigned index, int fd)
{
    return frontend_set_vring_fd(frontend, VHOST_USER_SET_VRING_CALL, index, fd);
}

int vhost_user_frontend_set_vring_err(struct vhost_user_frontend *frontend, unsigned index, int fd)
{
    return frontend_set_vring_fd(frontend, VHOST_USER_SET_VRING_ERR, index, fd);
}

int vhost_user_frontend_set_vring_enable(struct vhost_user_frontend *frontend, unsigned index, bool enable)
{
    return frontend_call_state(frontend, VHOST_USER_SET_VRING_ENABLE, index, enable, NULL);
}

int vhost_user_frontend_get_vring_base(struct vhost_user_frontend *frontend, unsigned index,
                                       unsigned *ret_base)
{
    return frontend_call_state(frontend, VHOST_USER_GET_VRING_BASE, index, 0, ret_base);
}

/* One piece of at most 256 bytes. GET sends a payload as large as what it asks for. */
static int frontend_config(struct vhost_user_frontend *frontend, enum vhost_user_request request,
                           unsigned offset, void *buffer, unsigned bytes)
{
    struct vhost_user_message message = {
        .header.request = request,
        .payload.config = {.offset = offset, .size = bytes},
    };
    int r;

    if (request == VHOST_USER_SET_CONFIG)
        memcpy(message.payload.config.region, buffer, bytes);
    r = vhost_user_frontend_call(frontend, &message);
    if (r < 0 || request == VHOST_USER_SET_CONFIG)
        return r;
    if (message.header.size == 0 || message.payload.config.size == 0)
        return -EREMOTEIO;
    if (message.payload.config.offset != offset || message.payload.config.size != bytes) {
        frontend->failed = true;
        return -EPROTO;
    }
    memcpy(buffer, message.payload.config.region, bytes);
    return 0;
}

static int frontend_config_pieces(struct vhost_user_frontend *frontend, enum vhost_user_request request,
                                  unsigned offset, uint8_t *buffer, unsigned bytes)
{
    while (bytes > 0) {
        unsigned part = bytes < VHOST_USER_CONFIG_BYTES_MAX ? bytes : VHOST_USER_CONFIG_BYTES_MAX;
        int r = frontend_config(frontend, request, offset, buffer, part);

        if (r < 0)
            return r;
        offset += part;
        buffer += part;
        bytes -= part;
    }
    return 0;
}

int vhost_user_frontend_get_config(struct vhost_user_frontend *frontend, unsigned offset, void *buffer,
                                   unsigned bytes)
{
    return frontend_config_pieces(frontend, VHOST_USER_GET_CONFIG, offset, buffer, bytes);
}

int vhost_user_frontend_set_config(struct vhost_user_frontend *frontend, unsigned offset, const void *data,
                                   unsigned bytes)
{
    return frontend_config_pieces(frontend, VHOST_USER_SET_CONFIG, offset, (uint8_t *)data, bytes);
}

int vhost_user_frontend_reset_device(struct vhost_user_frontend *frontend)
{
    return frontend_call_u64(frontend, VHOST_USER_RESET_DEVICE, 0, NULL);
}

int vhost_user_frontend_set_status(struct vhost_user_frontend *frontend, uint8_t status)
{
    return frontend_call_u64(frontend, VHOST_USER_SET_STATUS, status, NULL);
}

int vhost_user_frontend_get_status(struct vhost_user_frontend *frontend, uint8_t *ret_status)
{
    uint64_t status;
    int r = frontend_call_u64(frontend, VHOST_USER_GET_STATUS, 0, &status);

    if (r == 0)
        *ret_status = (uint8_t)status;
    return r;
}

int vhost_user_frontend_set_backend_req_fd(struct vhost_user_frontend *frontend, int fd)
{
    struct vhost_user_message message = {
        .header.request = VHOST_USER_SET_BACKEND_REQ_FD,
        .fds = {fd},
        .fd_count = 1,
    };

    return vhost_user_frontend_call(frontend, &message);
}

int vhost_user_frontend_get_inflight_fd(struct vhost_user_frontend *frontend, unsigned num_queues,
                                        unsigned queue_size, struct vhost_user_inflight *ret_inflight,
                                        int *ret_fd)
{
    struct vhost_user_message message = {
        .header.request = VHOST_USER_GET_INFLIGHT_FD,
        .payload.inflight = {.num_queues = (uint16_t)num_queues, .queue_size = (uint16_t)queue_size},
    };
    int r = vhost_user_frontend_call(frontend, &message);

    if (r < 0)
        return r;
    if (message.fd_count != 1) {
        frontend->failed = true;
        return -EPROTO;
    }
    *ret_inflight = message.payload.inflight;
    *ret_fd = message.fds[0];
    return 0;
}

int vhost_user_frontend_set_inflight_fd(struct vhost_user_frontend *frontend,
                                        const struct vhost_user_inflight *inflight, int fd)
{
    struct vhost_user_message message = {
        .header.request = VHOST_USER_SET_INFLIGHT_FD,
        .payload.inflight = *inflight,
        .fds = {fd},
        .fd_count = 1,
    };

    return vhost_user_frontend_call(frontend, &message);
}
