/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost-user on the wire: ids, payloads, the one rule table, and framing. No policy: what a message means is
 * for devserver/core (back-end) and vmm (front-end, through vhost_user_frontend.h).
 *
 * Specification: QEMU docs/interop/vhost-user.rst ('Message Specification'). All integers are little-endian;
 * we run on little-endian hosts only.
 *
 * One socket carries requests in one direction and their replies in the other. The main socket carries
 * requests of the front-end; the back-end channel (SET_BACKEND_REQ_FD) those of the back-end.
 * vhost_user_find_rule() gives for a (direction, id) the payload, its size, how many descriptors, the reply,
 * the protocol feature that must be negotiated, and the session states that allow it. What the table does not
 * list is refused: an unknown id, another size, a missing or an extra descriptor, a message out of its state.
 *
 * Framing: a message is a 12-byte header, then `size` bytes; descriptors come with any of its bytes. The
 * stream may be cut anywhere, and messages may come together; struct vhost_user_stream puts them together
 * without blocking.
 *
 * Threads: no global state; an object belongs to one thread at a time.
 * Errors: negative errno. -EPROTO: the peer broke the framing or a rule; -EPIPE: it closed the socket between
 * two messages; -ECONNRESET: inside one. After any of these the stream is of no more use.
 */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/base/units.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire format is used as it is in memory");

enum vhost_user_request { /* front-end to back-end */
                          VHOST_USER_GET_FEATURES = 1,
                          VHOST_USER_SET_FEATURES = 2,
                          VHOST_USER_SET_OWNER = 3,
                          VHOST_USER_RESET_OWNER = 4,
                          VHOST_USER_SET_MEM_TABLE = 5,
                          VHOST_USER_SET_LOG_BASE = 6,
                          VHOST_USER_SET_LOG_FD = 7,
                          VHOST_USER_SET_VRING_NUM = 8,
                          VHOST_USER_SET_VRING_ADDR = 9,
                          VHOST_USER_SET_VRING_BASE = 10,
                          VHOST_USER_GET_VRING_BASE = 11,
                          VHOST_USER_SET_VRING_KICK = 12,
                          VHOST_USER_SET_VRING_CALL = 13,
                          VHOST_USER_SET_VRING_ERR = 14,
                          VHOST_USER_GET_PROTOCOL_FEATURES = 15,
                          VHOST_USER_SET_PROTOCOL_FEATURES = 16,
                          VHOST_USER_GET_QUEUE_NUM = 17,
                          VHOST_USER_SET_VRING_ENABLE = 18,
                          VHOST_USER_SEND_RARP = 19,
                          VHOST_USER_NET_SET_MTU = 20,
                          VHOST_USER_SET_BACKEND_REQ_FD = 21,
                          VHOST_USER_IOTLB_MSG = 22,
                          VHOST_USER_SET_VRING_ENDIAN = 23,
                          VHOST_USER_GET_CONFIG = 24,
                          VHOST_USER_SET_CONFIG = 25,
                          VHOST_USER_CREATE_CRYPTO_SESSION = 26,
                          VHOST_USER_CLOSE_CRYPTO_SESSION = 27,
                          VHOST_USER_POSTCOPY_ADVISE = 28,
                          VHOST_USER_POSTCOPY_LISTEN = 29,
                          VHOST_USER_POSTCOPY_END = 30,
                          VHOST_USER_GET_INFLIGHT_FD = 31,
                          VHOST_USER_SET_INFLIGHT_FD = 32,
                          VHOST_USER_GPU_SET_SOCKET = 33,
                          VHOST_USER_RESET_DEVICE = 34,
                          VHOST_USER_VRING_KICK = 35,
                          VHOST_USER_GET_MAX_MEM_SLOTS = 36,
                          VHOST_USER_ADD_MEM_REG = 37,
                          VHOST_USER_REM_MEM_REG = 38,
                          VHOST_USER_SET_STATUS = 39,
                          VHOST_USER_GET_STATUS = 40,
                          VHOST_USER_GET_SHARED_OBJECT = 41,
                          VHOST_USER_SET_DEVICE_STATE_FD = 42,
                          VHOST_USER_CHECK_DEVICE_STATE = 43,
                          VHOST_USER_GET_SHMEM_CONFIG = 44,
                          VHOST_USER_GET_VRING_BASE_SKIP_DRAIN = 45,
};

enum vhost_user_backend_request { /* back-end to front-end, on the back-end channel */
                                  VHOST_USER_BACKEND_IOTLB_MSG = 1,
                                  VHOST_USER_BACKEND_CONFIG_CHANGE_MSG = 2,
                                  VHOST_USER_BACKEND_VRING_HOST_NOTIFIER_MSG = 3,
                                  VHOST_USER_BACKEND_VRING_CALL = 4,
                                  VHOST_USER_BACKEND_VRING_ERR = 5,
                                  VHOST_USER_BACKEND_SHARED_OBJECT_ADD = 6,
                                  VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE = 7,
                                  VHOST_USER_BACKEND_SHARED_OBJECT_LOOKUP = 8,
                                  VHOST_USER_BACKEND_SHMEM_MAP = 9,
                                  VHOST_USER_BACKEND_SHMEM_UNMAP = 10,
};

enum vhost_user_protocol_feature { /* bit numbers */
                                   VHOST_USER_PROTOCOL_F_MQ = 0,
                                   VHOST_USER_PROTOCOL_F_LOG_SHMFD = 1,
                                   VHOST_USER_PROTOCOL_F_RARP = 2,
                                   VHOST_USER_PROTOCOL_F_REPLY_ACK = 3,
                                   VHOST_USER_PROTOCOL_F_MTU = 4,
                                   VHOST_USER_PROTOCOL_F_BACKEND_REQ = 5,
                                   VHOST_USER_PROTOCOL_F_CROSS_ENDIAN = 6,
                                   VHOST_USER_PROTOCOL_F_CRYPTO_SESSION = 7,
                                   VHOST_USER_PROTOCOL_F_PAGEFAULT = 8,
                                   VHOST_USER_PROTOCOL_F_CONFIG = 9,
                                   VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD = 10,
                                   VHOST_USER_PROTOCOL_F_HOST_NOTIFIER = 11,
                                   VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD = 12,
                                   VHOST_USER_PROTOCOL_F_RESET_DEVICE = 13,
                                   VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS = 14,
                                   VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15,
                                   VHOST_USER_PROTOCOL_F_STATUS = 16,
                                   VHOST_USER_PROTOCOL_F_XEN_MMAP = 17,
                                   VHOST_USER_PROTOCOL_F_SHARED_OBJECT = 18,
                                   VHOST_USER_PROTOCOL_F_DEVICE_STATE = 19,
                                   VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT = 20,
                                   VHOST_USER_PROTOCOL_F_GPA_ADDRESSES = 21,
                                   VHOST_USER_PROTOCOL_F_SHMEM = 22,
                                   VHOST_USER_PROTOCOL_F_SKIP_DRAIN = 23,
                                   VHOST_USER_PROTOCOL_F_COUNT
};

/* Feature bits beside those of the virtio specification (bit numbers in GET/SET_FEATURES). */
#define VHOST_F_LOG_ALL                26
#define VHOST_USER_F_PROTOCOL_FEATURES 30

#define VHOST_USER_BIT(n) (UINT64_C(1) << (n))

/* Header flags. */
#define VHOST_USER_VERSION         1u
#define VHOST_USER_VERSION_MASK    3u
#define VHOST_USER_FLAG_REPLY      (1u << 2)
#define VHOST_USER_FLAG_NEED_REPLY (1u << 3)

/* SET_VRING_KICK, _CALL, _ERR. */
#define VHOST_USER_VRING_INDEX_MASK UINT64_C(0xff)
#define VHOST_USER_VRING_NOFD       (UINT64_C(1) << 8)

#define VHOST_USER_VRING_F_LOG 1u /* SET_VRING_ADDR flags */

#define VHOST_USER_MEM_REGIONS_MAX  8 /* in one SET_MEM_TABLE */
#define VHOST_USER_FDS_MAX          8 /* with one message */
#define VHOST_USER_CONFIG_BYTES_MAX 256
#define VHOST_USER_QUEUES_MAX       256 /* ring indices are 8 bits wide in KICK, CALL and ERR */

struct vhost_user_header {
    uint32_t request, flags, size;
};
static_assert(sizeof(struct vhost_user_header) == 12, "wire format");

struct vhost_user_vring_state {
    uint32_t index, num;
};
static_assert(sizeof(struct vhost_user_vring_state) == 8, "wire format");

struct vhost_user_vring_addr {
    uint32_t index, flags;
    uint64_t desc_user, used_user, avail_user, log_gpa;
};
static_assert(sizeof(struct vhost_user_vring_addr) == 40, "wire format");
static_assert(offsetof(struct vhost_user_vring_addr, avail_user) == 24, "wire format");

struct vhost_user_region {
    uint64_t gpa, bytes, user_addr, mmap_offset;
};
static_assert(sizeof(struct vhost_user_region) == 32, "wire format");

struct vhost_user_mem_table {
    uint32_t count, padding;
    struct vhost_user_region regions[VHOST_USER_MEM_REGIONS_MAX];
};
static_assert(offsetof(struct vhost_user_mem_table, regions) == 8, "wire format");

struct vhost_user_mem_reg {
    uint64_t padding;
    struct vhost_user_region region;
};
static_assert(sizeof(struct vhost_user_mem_reg) == 40, "wire format");

struct vhost_user_log {
    uint64_t bytes, offset;
};
static_assert(sizeof(struct vhost_user_log) == 16, "wire format");

/* The specification ends behind queue_size; QEMU and those that follow it send, and insist on, the padding of their
 * compiler. Both sizes are taken, and answered in kind; we send the longer one. */
#define VHOST_USER_INFLIGHT_SHORT_BYTES 20u
struct vhost_user_inflight {
    uint64_t mmap_bytes, mmap_offset;
    uint16_t num_queues, queue_size;
    uint32_t padding;
};
static_assert(sizeof(struct vhost_user_inflight) == 24, "wire format");

struct vhost_user_config {
    uint32_t offset, size, flags;
    uint8_t region[VHOST_USER_CONFIG_BYTES_MAX];
};
#define VHOST_USER_CONFIG_HEADER_BYTES offsetof(struct vhost_user_config, region)
static_assert(VHOST_USER_CONFIG_HEADER_BYTES == 12, "wire format");

struct vhost_user_iotlb {
    uint64_t iova, bytes, user_addr;
    uint8_t permission, type;
    uint8_t padding[6];
};
static_assert(sizeof(struct vhost_user_iotlb) == 32, "wire format");

struct vhost_user_vring_area {
    uint64_t index_flags, bytes, offset;
};
static_assert(sizeof(struct vhost_user_vring_area) == 24, "wire format");

struct vhost_user_transfer { /* SET_DEVICE_STATE_FD */
    uint32_t direction, phase;
};
static_assert(sizeof(struct vhost_user_transfer) == 8, "wire format");

union vhost_user_payload {
    uint64_t u64;
    struct vhost_user_vring_state state;
    struct vhost_user_vring_addr addr;
    struct vhost_user_mem_table mem_table;
    struct vhost_user_mem_reg mem_reg;
    struct vhost_user_log log;
    struct vhost_user_inflight inflight;
    struct vhost_user_config config;
    struct vhost_user_iotlb iotlb;
    struct vhost_user_vring_area area;
    struct vhost_user_transfer transfer;
    uint8_t bytes[VHOST_USER_CONFIG_HEADER_BYTES + VHOST_USER_CONFIG_BYTES_MAX];
};
#define VHOST_USER_PAYLOAD_BYTES_MAX sizeof(((union vhost_user_payload *)0)->bytes)

struct vhost_user_message {
    struct vhost_user_header header;
    union vhost_user_payload payload;
    int fds[VHOST_USER_FDS_MAX]; /* owned by the message once received; borrowed when sent */
    unsigned fd_count;
};

/* Closes the descriptors that are still in it (handlers take one with fd_steal()). */
void vhost_user_message_finish(struct vhost_user_message *message);

/* ---- the rule table ---- */

enum vhost_user_direction { VHOST_USER_TO_BACKEND, VHOST_USER_TO_FRONTEND };

enum vhost_user_payload_kind {
    VHOST_USER_PAYLOAD_NONE,
    VHOST_USER_PAYLOAD_U64,
    VHOST_USER_PAYLOAD_STATE,
    VHOST_USER_PAYLOAD_ADDR,
    VHOST_USER_PAYLOAD_MEM_TABLE, /* one descriptor per region */
    VHOST_USER_PAYLOAD_MEM_REG,
    VHOST_USER_PAYLOAD_LOG,
    VHOST_USER_PAYLOAD_INFLIGHT,
    VHOST_USER_PAYLOAD_CONFIG, /* variable size */
    VHOST_USER_PAYLOAD_IOTLB,
    VHOST_USER_PAYLOAD_AREA,
    VHOST_USER_PAYLOAD_TRANSFER,
    VHOST_USER_PAYLOAD_VRING_FD, /* u64 with ring index, a descriptor unless VHOST_USER_VRING_NOFD */
};

enum vhost_user_reply {
    VHOST_USER_REPLY_ACK,   /* a u64, 0 for success, and only if asked for with NEED_REPLY after REPLY_ACK */
    VHOST_USER_REPLY_VALUE, /* always, with payload `reply_payload` */
};

/* Session of a back-end; see docs/vhost-user.md for the picture. */
enum vhost_user_state {
    VHOST_USER_STATE_OPEN = 1,       /* connected; SET_FEATURES not yet seen */
    VHOST_USER_STATE_CONFIGURED = 2, /* SET_FEATURES done, no ring started */
    VHOST_USER_STATE_RUNNING = 4,    /* at least one ring started */
};
#define VHOST_USER_STATES_ALL     (VHOST_USER_STATE_OPEN | VHOST_USER_STATE_CONFIGURED | VHOST_USER_STATE_RUNNING)
#define VHOST_USER_STATES_STOPPED (VHOST_USER_STATE_OPEN | VHOST_USER_STATE_CONFIGURED)

struct vhost_user_rule {
    const char *name;
    enum vhost_user_payload_kind payload;
    enum vhost_user_reply reply;
    enum vhost_user_payload_kind reply_payload;
    uint8_t fds_min, fds_max;
    uint8_t reply_fds_max;
    int8_t protocol_bit; /* must be negotiated, or -1 */
    uint8_t states;      /* mask of enum vhost_user_state */
    bool ring_stopped;   /* names a ring, which must not be started */
};

/* NULL if no such message exists. */
const struct vhost_user_rule *vhost_user_find_rule(enum vhost_user_direction direction, uint32_t request);

/* For logs; never NULL. */
const char *vhost_user_request_name(enum vhost_user_direction direction, uint32_t request);

/*
 * Checks a received request against its rule: size, descriptors, negotiated feature, state. 0, or -EPROTO
 * with the reason, a literal, in *ret_why. `ring_stopped` is left to the caller, who knows the rings.
 */
int vhost_user_check_request(enum vhost_user_direction direction, const struct vhost_user_message *message,
                             uint64_t protocol_features, enum vhost_user_state state, const char **ret_why);

/* Checks a received reply to `request`: id, REPLY flag, size, descriptors. */
int vhost_user_check_reply(enum vhost_user_direction direction, uint32_t request, bool expect_ack,
                           const struct vhost_user_message *reply, const char **ret_why);

/* Size in bytes of the payload that `message` holds, by its kind (and count, for variable ones). */
uint32_t vhost_user_payload_bytes(enum vhost_user_payload_kind kind, const union vhost_user_payload *payload);

/* ---- framing ---- */

/* Puts received bytes together. The socket is borrowed. */
struct vhost_user_stream {
    int socket;
    size_t received;
    struct vhost_user_message message;
};

void vhost_user_stream_init(struct vhost_user_stream *stream, int socket);
void vhost_user_stream_finish(struct vhost_user_stream *stream);

/*
 * Reads until one message is complete or the socket has no more. 1: *ret_message is complete and its
 * descriptors are the caller's (vhost_user_message_finish()); 0: the rest is not there yet; -EPIPE,
 * -ECONNRESET, -EPROTO (wrong version, size over the largest payload, too many descriptors). On a blocking
 * socket it waits.
 */
int vhost_user_stream_receive(struct vhost_user_stream *stream, struct vhost_user_message *ret_message);

/* Sends header, `header.size` bytes and descriptors. 0 or negative errno; -EAGAIN when a non-blocking
 * socket's peer does not read (nothing was sent then; a partly sent message is -ECONNRESET and the end of the
 * connection). */
int vhost_user_send(int socket, const struct vhost_user_message *message);
