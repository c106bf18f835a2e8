/* SPDX-License-Identifier: Apache-2.0 */
/* What each vhost-user request does. The rule table (protocol/vhost_user.c) has checked its form before. */
#include <errno.h>
#include <string.h>

#include "devserver/core/devserver_internal.h"
#include "protocol/base/fd.h"

#define TRANSPORT_FEATURES                                                                                   \
    (VHOST_USER_BIT(VIRTIO_F_VERSION_1_BIT) | VHOST_USER_BIT(VIRTIO_F_EVENT_IDX_BIT) |                       \
     VHOST_USER_BIT(VIRTIO_F_INDIRECT_DESC_BIT) | VHOST_USER_BIT(VIRTIO_F_RING_PACKED_BIT) |                 \
     VHOST_USER_BIT(VHOST_F_LOG_ALL) | VHOST_USER_BIT(VHOST_USER_F_PROTOCOL_FEATURES))

#define PROTOCOL_FEATURES                                                                                    \
    (VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_MQ) | VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) |            \
     VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_LOG_SHMFD) | VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |  \
     VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) |                                             \
     VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) | VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_STATUS))

typedef int (*handler_fn)(struct devserver *server, struct vhost_user_message *message);

uint64_t devserver_offered_features(const struct devserver *server)
{
    return server->config.features | TRANSPORT_FEATURES;
}

static uint64_t offered_protocol_features(const struct devserver *server)
{
    return PROTOCOL_FEATURES |
           (server->config.config_bytes > 0 ? VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_CONFIG) : 0);
}

static bool any_ring_started(const struct devserver *server)
{
    for (unsigned i = 0; i < server->config.max_queues; i++) {
        if (server->rings[i].started)
            return true;
    }
    return false;
}

static enum vhost_user_state session_state(const struct devserver *server)
{
    if (!server->features_acked)
        return VHOST_USER_STATE_OPEN;
    return any_ring_started(server) ? VHOST_USER_STATE_RUNNING : VHOST_USER_STATE_CONFIGURED;
}

void devserver_reset_session(struct devserver *server)
{
    for (unsigned i = 0; i < server->config.max_queues; i++) {
        ring_reset(&server->rings[i]);
        devserver_inflight_clear(server, i);
    }
    server->features = 0;
    server->features_acked = false;
    server->status = 0;
}

/* The ring that a request names, or NULL and the reason is set. */
static struct ring *find_ring(struct devserver *server, uint64_t index)
{
    if (index < server->config.max_queues)
        return &server->rings[index];
    devserver_refuse(server, -EINVAL, "no such queue");
    return NULL;
}

static int get_features(struct devserver *server, struct vhost_user_message *message)
{
    message->payload.u64 = devserver_offered_features(server);
    return 0;
}

static void pause_rings(struct devserver *server)
{
    for (unsigned i = 0; i < server->config.max_queues; i++)
        ring_pause(&server->rings[i]);
}

static void resume_rings(struct devserver *server)
{
    for (unsigned i = 0; i < server->config.max_queues; i++)
        ring_resume(&server->rings[i]);
}

/* Between pause_rings() and resume_rings(), or while no ring runs. */
static void use_log(struct devserver *server)
{
    bool wanted = server->log.bits && server->features & VHOST_USER_BIT(VHOST_F_LOG_ALL);

    server->memory.log = wanted ? &server->log : NULL;
}

/* Logging is not the device's business, and is switched while rings run. */
static int set_features(struct devserver *server, struct vhost_user_message *message)
{
    const uint64_t log_all = VHOST_USER_BIT(VHOST_F_LOG_ALL);
    uint64_t features = message->payload.u64;
    const struct devserver_ops *ops = server->config.ops;
    int r = 0;

    if (features & ~devserver_offered_features(server))
        return devserver_refuse(server, -EINVAL, "features that were not offered");
    if (any_ring_started(server) && (features ^ server->features) & ~log_all)
        return devserver_refuse(server, -EBUSY, "other features while a queue is started");
    if (!any_ring_started(server) && ops->features_set)
        r = ops->features_set(server->config.opaque, features & ~log_all);
    if (r < 0)
        return devserver_refuse(server, r, "the device cannot work with these features");
    pause_rings(server);
    server->features = features;
    server->features_acked = true;
    use_log(server);
    resume_rings(server);
    return 0;
}

static int ignore(struct devserver *server, struct vhost_user_message *message)
{
    return 0;
}

static int get_protocol_features(struct devserver *server, struct vhost_user_message *message)
{
    message->payload.u64 = offered_protocol_features(server);
    return 0;
}

static int set_protocol_features(struct devserver *server, struct vhost_user_message *message)
{
    if (message->payload.u64 & ~offered_protocol_features(server))
        return devserver_refuse(server, -EINVAL, "protocol features that were not offered");
    server->protocol_features = message->payload.u64;
    return 0;
}

static int get_queue_num(struct devserver *server, struct vhost_user_message *message)
{
    message->payload.u64 = server->config.max_queues;
    return 0;
}

static int add_region(struct devserver *server, struct memory_map *map,
                      const struct vhost_user_region *region, int fd)
{
    const struct memory_region_info info = {
        .gpa = region->gpa,
        .bytes = region->bytes,
        .user_addr = region->user_addr,
        .file_offset = region->mmap_offset,
    };
    int r = memory_map_add_fd(map, &info, fd);

    switch (r) {
    case 0:
        return 0;
    case -EINVAL:
        return devserver_refuse(server, r, "a memory region is empty, wraps or overlaps another");
    case -EBADF:
        return devserver_refuse(server, r, "a memory region is not a file that can be shared");
    case -ENXIO:
        return devserver_refuse(server, r, "a memory region is larger than its file");
    case -ENOSPC:
        return devserver_refuse(server, r, "too many memory regions");
    default:
        return devserver_refuse(server, r, "a memory region cannot be mapped");
    }
}

static int set_mem_table(struct devserver *server, struct vhost_user_message *message)
{
    const struct vhost_user_mem_table *table = &message->payload.mem_table;
    struct memory_map fresh, old;
    int r = memory_map_init(&fresh);

    for (unsigned i = 0; r == 0 && i < table->count; i++)
        r = add_region(server, &fresh, &table->regions[i], message->fds[i]);
    if (r < 0) {
        memory_map_finish(&fresh);
        return r;
    }
    pause_rings(server);
    old = server->memory;
    server->memory = fresh;
    use_log(server);
    memory_map_finish(&old);
    resume_rings(server);
    return 0;
}

static int set_log_base(struct devserver *server, struct vhost_user_message *message)
{
    const struct vhost_user_log *log = &message->payload.log;
    int r;

    pause_rings(server);
    server->memory.log = NULL;
    r = memory_log_map(&server->log, message->fds[0], log->offset, log->bytes);
    use_log(server);
    resume_rings(server);
    if (r < 0)
        return devserver_refuse(server, r,
                                "this is no log that can be shared: empty, wrapping, or not in its file");
    message->payload.u64 = 0;
    return 0;
}

/* For a back-end that reports when it logs; we do not. */
static int set_log_fd(struct devserver *server, struct vhost_user_message *message)
{
    return 0;
}

static int get_max_mem_slots(struct devserver *server, struct vhost_user_message *message)
{
    message->payload.u64 = MEMORY_MAP_REGIONS_MAX;
    return 0;
}

static int add_mem_reg(struct devserver *server, struct vhost_user_message *message)
{
    int r;

    pause_rings(server);
    r = add_region(server, &server->memory, &message->payload.mem_reg.region, message->fds[0]);
    resume_rings(server);
    return r;
}

static int rem_mem_reg(struct devserver *server, struct vhost_user_message *message)
{
    const struct vhost_user_region *region = &message->payload.mem_reg.region;
    const struct memory_region_info info = {
        .gpa = region->gpa,
        .bytes = region->bytes,
        .user_addr = region->user_addr,
    };
    int r;

    pause_rings(server);
    r = memory_map_remove(&server->memory, &info);
    resume_rings(server);
    return r < 0 ? devserver_refuse(server, r, "no such memory region") : 0;
}

static int set_vring_num(struct devserver *server, struct vhost_user_message *message)
{
    const struct vhost_user_vring_state *state = &message->payload.state;
    struct ring *ring = find_ring(server, state->index);

    if (!ring)
        return -EINVAL;
    if (state->num == 0 || state->num > server->config.max_queue_size)
        return devserver_refuse(server, -EINVAL, "a queue size of 0 or over the device's limit");
    ring->size = state->num;
    return 0;
}

static bool same_addresses(const struct vhost_user_vring_addr *a, const struct vhost_user_vring_addr *b)
{
    return a->desc_user == b->desc_user && a->avail_user == b->avail_user && a->used_user == b->used_user;
}

/* While the queue is started only whether its ring is logged may change. */
static int set_vring_addr(struct devserver *server, struct vhost_user_message *message)
{
    const struct vhost_user_vring_addr *addr = &message->payload.addr;
    const bool may_log = server->protocol_features & VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_LOG_SHMFD);
    struct ring *ring = find_ring(server, addr->index);

    if (!ring)
        return -EINVAL;
    if (addr->flags & ~(may_log ? VHOST_USER_VRING_F_LOG : 0))
        return devserver_refuse(server, -EINVAL,
                                may_log ? "unknown ring flags"
                                        : "ring flags, though logging was not negotiated");
    if (ring->started && !same_addresses(addr, &ring->addr))
        return devserver_refuse(server, -EBUSY, "other ring addresses while the queue is started");
    ring_pause(ring);
    ring->addr = *addr;
    ring->has_addr = true;
    ring_resume(ring);
    return 0;
}

static int set_vring_base(struct devserver *server, struct vhost_user_message *message)
{
    struct ring *ring = find_ring(server, message->payload.state.index);

    if (!ring)
        return -EINVAL;
    ring->base = message->payload.state.num;
    if (ring->base_told)
        devserver_inflight_clear(server, ring->queue.index);
    ring->base_told = false;
    return 0;
}

static int get_vring_base(struct devserver *server, struct vhost_user_message *message)
{
    struct ring *ring = find_ring(server, message->payload.state.index);

    if (!ring)
        return -EINVAL;
    ring_stop(ring);
    ring->base_told = true;
    message->payload.state.num = ring->base;
    return 0;
}

typedef int (*ring_fd_fn)(struct ring *ring, int *fd);

static int set_vring_fd(struct devserver *server, struct vhost_user_message *message, ring_fd_fn set)
{
    struct ring *ring = find_ring(server, message->payload.u64 & VHOST_USER_VRING_INDEX_MASK);
    int none = -1;
    int r;

    if (!ring)
        return -EINVAL;
    r = set(ring, message->fd_count > 0 ? &message->fds[0] : &none);
    fd_close(&none);
    return r;
}

static int set_vring_kick(struct devserver *server, struct vhost_user_message *message)
{
    return set_vring_fd(server, message, ring_set_kick);
}

static int set_vring_call(struct devserver *server, struct vhost_user_message *message)
{
    return set_vring_fd(server, message, ring_set_call);
}

static int set_vring_err(struct devserver *server, struct vhost_user_message *message)
{
    return set_vring_fd(server, message, ring_set_err);
}

static int set_vring_enable(struct devserver *server, struct vhost_user_message *message)
{
    const struct vhost_user_vring_state *state = &message->payload.state;
    struct ring *ring = find_ring(server, state->index);

    if (!ring)
        return -EINVAL;
    if (state->num > 1)
        return devserver_refuse(server, -EINVAL, "neither 0 nor 1");
    ring->enable_wish = state->num;
    return ring_update(ring);
}

/* A range that cannot be served is answered with an empty payload, as the specification says. */
static int get_config(struct devserver *server, struct vhost_user_message *message)
{
    struct vhost_user_config *config = &message->payload.config;
    unsigned limit = server->config.config_bytes;

    if (config->offset > VHOST_USER_CONFIG_BYTES_MAX ||
        config->size > VHOST_USER_CONFIG_BYTES_MAX - config->offset) {
        message->header.size = 0;
        return 0;
    }
    memset(config->region, 0, sizeof(config->region));
    if (config->offset < limit) {
        unsigned part = config->size < limit - config->offset ? config->size : limit - config->offset;

        server->config.ops->config_get(server->config.opaque, config->offset, config->region, part);
    }
    return 0;
}

static int set_config(struct devserver *server, struct vhost_user_message *message)
{
    const struct vhost_user_config *config = &message->payload.config;
    unsigned limit = server->config.config_bytes;
    int r = -EROFS;

    if (config->offset > limit || config->size > limit - config->offset)
        return devserver_refuse(server, -EINVAL, "outside the config space");
    if (server->config.ops->config_set)
        r = server->config.ops->config_set(server->config.opaque, config->offset, config->region,
                                           config->size);
    return r < 0 ? devserver_refuse(server, r, "this config field cannot be written") : 0;
}

static int get_inflight_fd(struct devserver *server, struct vhost_user_message *message)
{
    return devserver_inflight_get(server, &message->payload.inflight);
}

static int set_inflight_fd(struct devserver *server, struct vhost_user_message *message)
{
    return devserver_inflight_set(server, &message->payload.inflight, message->fds[0]);
}

static int reset_device(struct devserver *server, struct vhost_user_message *message)
{
    devserver_reset_session(server);
    return 0;
}

static int set_status(struct devserver *server, struct vhost_user_message *message)
{
    if (message->payload.u64 > UINT8_MAX)
        return devserver_refuse(server, -EINVAL, "a device status over 8 bits");
    if (message->payload.u64 == 0)
        devserver_reset_session(server);
    server->status = (uint8_t)message->payload.u64;
    return 0;
}

static int get_status(struct devserver *server, struct vhost_user_message *message)
{
    message->payload.u64 = server->status;
    return 0;
}

/* Requests that the rule table allows only with a protocol feature that we do not offer have no entry. */
static const handler_fn handlers[] = {
    [VHOST_USER_GET_FEATURES] = get_features,
    [VHOST_USER_SET_FEATURES] = set_features,
    [VHOST_USER_SET_OWNER] = ignore,
    [VHOST_USER_RESET_OWNER] = ignore, /* as the specification recommends */
    [VHOST_USER_SET_MEM_TABLE] = set_mem_table,
    [VHOST_USER_SET_LOG_BASE] = set_log_base,
    [VHOST_USER_SET_LOG_FD] = set_log_fd,
    [VHOST_USER_SET_VRING_NUM] = set_vring_num,
    [VHOST_USER_SET_VRING_ADDR] = set_vring_addr,
    [VHOST_USER_SET_VRING_BASE] = set_vring_base,
    [VHOST_USER_GET_VRING_BASE] = get_vring_base,
    [VHOST_USER_SET_VRING_KICK] = set_vring_kick,
    [VHOST_USER_SET_VRING_CALL] = set_vring_call,
    [VHOST_USER_SET_VRING_ERR] = set_vring_err,
    [VHOST_USER_GET_PROTOCOL_FEATURES] = get_protocol_features,
    [VHOST_USER_SET_PROTOCOL_FEATURES] = set_protocol_features,
    [VHOST_USER_GET_QUEUE_NUM] = get_queue_num,
    [VHOST_USER_SET_VRING_ENABLE] = set_vring_enable,
    [VHOST_USER_GET_CONFIG] = get_config,
    [VHOST_USER_SET_CONFIG] = set_config,
    [VHOST_USER_GET_INFLIGHT_FD] = get_inflight_fd,
    [VHOST_USER_SET_INFLIGHT_FD] = set_inflight_fd,
    [VHOST_USER_RESET_DEVICE] = reset_device,
    [VHOST_USER_GET_MAX_MEM_SLOTS] = get_max_mem_slots,
    [VHOST_USER_ADD_MEM_REG] = add_mem_reg,
    [VHOST_USER_REM_MEM_REG] = rem_mem_reg,
    [VHOST_USER_SET_STATUS] = set_status,
    [VHOST_USER_GET_STATUS] = get_status,
};

/* A request that names a ring which must be stopped: is it? */
static int check_ring_stopped(struct devserver *server, const struct vhost_user_rule *rule,
                              const struct vhost_user_message *message)
{
    uint32_t index = message->payload.state.index;

    if (rule->ring_stopped && index < server->config.max_queues && server->rings[index].started)
        return devserver_refuse(server, -EBUSY, "the queue is started");
    return 0;
}

static int perform(struct devserver *server, struct vhost_user_message *message)
{
    uint32_t request = message->header.request;
    int r = vhost_user_check_request(VHOST_USER_TO_BACKEND, message, server->protocol_features,
                                     session_state(server), &server->why);

    if (r < 0)
        return r;
    r = check_ring_stopped(server, vhost_user_find_rule(VHOST_USER_TO_BACKEND, request), message);
    if (r < 0)
        return r;
    if (request >= ARRAY_LEN(handlers) || !handlers[request])
        return devserver_refuse(server, -EOPNOTSUPP, "this server does not offer it");
    return handlers[request](server, message);
}

/* `*message` becomes the reply. */
static int send_reply(struct devserver *server, struct vhost_user_message *message)
{
    int r;

    message->header.flags = VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY;
    message->fd_count = server->reply_fd >= 0 ? 1 : 0;
    message->fds[0] = server->reply_fd;
    r = vhost_user_send(server->socket, message);
    message->fd_count = 0;
    fd_close(&server->reply_fd);
    if (r < 0)
        server->why = "the peer does not take replies";
    return r;
}

int devserver_handle(struct devserver *server, struct vhost_user_message *message)
{
    const struct vhost_user_rule *rule = vhost_user_find_rule(VHOST_USER_TO_BACKEND, message->header.request);
    const char *name = vhost_user_request_name(VHOST_USER_TO_BACKEND, message->header.request);
    bool wants_ack = (message->header.flags & VHOST_USER_FLAG_NEED_REPLY) &&
                     (server->protocol_features & VHOST_USER_BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK)) &&
                     (!rule || rule->reply == VHOST_USER_REPLY_ACK);
    int r;

    server->why = "internal error";
    r = perform(server, message);
    vhost_user_message_finish(message);
    if (r < 0)
        log_limited(&server->refusal_limit, LOG_LEVEL_WARNING, "%s: refused %s (%u) from the front-end: %s",
                    server->config.name, name, message->header.request, server->why);
    else
        log_debug("%s: %s", server->config.name, name);
    if (wants_ack) {
        message->header.size = sizeof(message->payload.u64);
        message->payload.u64 = r < 0;
        return send_reply(server, message);
    }
    if (r < 0 || rule->reply != VHOST_USER_REPLY_VALUE)
        return r;
    if (rule->payload != rule->reply_payload)
        message->header.size = vhost_user_payload_bytes(rule->reply_payload, &message->payload);
    return send_reply(server, message);
}
