/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front-end's side of a vhost-user connection: one function per request, blocking with a time-out.
 *
 * Each function sends its request and waits for what is due: the value, or, once REPLY_ACK is negotiated, the
 * acknowledgement (asked for with every request that has no value). So a returned 0 means that the back-end
 * has done it; without REPLY_ACK it means 'sent', and vhost_user_frontend_barrier() makes sure.
 *
 * The usual order:
 *     init, get_features, [get/set_protocol_features, get_queue_num], set_owner, [get_config]
 *     set_features, set_mem_table or add_mem_reg, per ring: num, base, addr, call, kick, enable; [set_status]
 *     per ring: enable(false), get_vring_base -> stopped
 * Replies are checked against the rule table (vhost_user.h).
 *
 * Threads: one owner thread. Errors: negative errno; *ret_ untouched then. -EREMOTEIO: the back-end refused
 * the request (the session goes on). -ETIMEDOUT, -EPIPE, -ECONNRESET, -EPROTO and others: the connection is
 * of no more use, `failed` is set and everything later returns -ENOTCONN; finish, connect again, and do the
 * whole handshake. -EOPNOTSUPP: the protocol feature that this request needs is not negotiated; nothing was
 * sent. Nothing is logged.
 */
#pragma once

#include "protocol/vhost_user.h"

struct vhost_user_frontend {
    int socket; /* owned */
    int timeout_ms;
    uint64_t protocol_features; /* negotiated */
    bool failed;
    struct vhost_user_stream stream;
};

/* Takes `socket`, connected; it becomes non-blocking. timeout_ms > 0 is for one request. 0 or negative errno,
 * then `socket` stays the caller's. */
int vhost_user_frontend_init(struct vhost_user_frontend *frontend, int socket, int timeout_ms);
void vhost_user_frontend_finish(struct vhost_user_frontend *frontend);

int vhost_user_frontend_get_features(struct vhost_user_frontend *frontend, uint64_t *ret_features);
int vhost_user_frontend_set_features(struct vhost_user_frontend *frontend, uint64_t features);
int vhost_user_frontend_get_protocol_features(struct vhost_user_frontend *frontend, uint64_t *ret_features);
/* `features` is from then on what rules are checked against. */
int vhost_user_frontend_set_protocol_features(struct vhost_user_frontend *frontend, uint64_t features);
int vhost_user_frontend_set_owner(struct vhost_user_frontend *frontend);
/* Without MQ: 1. -EPROTO if the back-end claims 0 or more than VHOST_USER_QUEUES_MAX. */
int vhost_user_frontend_get_queue_num(struct vhost_user_frontend *frontend, unsigned *ret_count);

/* count <= VHOST_USER_MEM_REGIONS_MAX; fds are borrowed, one per region. */
int vhost_user_frontend_set_mem_table(struct vhost_user_frontend *frontend,
                                      const struct vhost_user_region *regions, const int *fds,
                                      unsigned count);
/* The bitmap of guest pages that the back-end sets bits in while LOG_ALL is negotiated (memory_log.h). `fd` is borrowed. */
int vhost_user_frontend_set_log_base(struct vhost_user_frontend *frontend, int fd, uint64_t offset,
                                     uint64_t bytes);
int vhost_user_frontend_get_max_mem_slots(struct vhost_user_frontend *frontend, uint64_t *ret_slots);
int vhost_user_frontend_add_mem_reg(struct vhost_user_frontend *frontend,
                                    const struct vhost_user_region *region, int fd);
int vhost_user_frontend_rem_mem_reg(struct vhost_user_frontend *frontend,
                                    const struct vhost_user_region *region);

int vhost_user_frontend_set_vring_num(struct vhost_user_frontend *frontend, unsigned index, unsigned size);
int vhost_user_frontend_set_vring_base(struct vhost_user_frontend *frontend, unsigned index, unsigned base);
int vhost_user_frontend_set_vring_addr(struct vhost_user_frontend *frontend,
                                       const struct vhost_user_vring_addr *addr);
/* fds are borrowed; -1 sends 'none' (the back-end polls, or does not call). */
int vhost_user_frontend_set_vring_kick(struct vhost_user_frontend *frontend, unsigned index, int fd);
int vhost_user_frontend_set_vring_call(struct vhost_user_frontend *frontend, unsigned index, int fd);
int vhost_user_frontend_set_vring_err(struct vhost_user_frontend *frontend, unsigned index, int fd);
/* Only once VHOST_USER_F_PROTOCOL_FEATURES was acked with set_features; without it rings start enabled. */
int vhost_user_frontend_set_vring_enable(struct vhost_user_frontend *frontend, unsigned index, bool enable);
/* Stops the ring: waits until requests in flight are done. */
int vhost_user_frontend_get_vring_base(struct vhost_user_frontend *frontend, unsigned index,
                                       unsigned *ret_base);

/* Any size; asked for in pieces of 256 bytes. -EREMOTEIO: the back-end has no such range. */
int vhost_user_frontend_get_config(struct vhost_user_frontend *frontend, unsigned offset, void *buffer,
                                   unsigned bytes);
int vhost_user_frontend_set_config(struct vhost_user_frontend *frontend, unsigned offset, const void *data,
                                   unsigned bytes);

int vhost_user_frontend_reset_device(struct vhost_user_frontend *frontend);
int vhost_user_frontend_set_status(struct vhost_user_frontend *frontend, uint8_t status);
int vhost_user_frontend_get_status(struct vhost_user_frontend *frontend, uint8_t *ret_status);
/* `fd` is borrowed: our end's peer of a socketpair for the back-end's own requests. */
int vhost_user_frontend_set_backend_req_fd(struct vhost_user_frontend *frontend, int fd);
/* Returns the in-flight area that the back-end made, owned, in *ret_fd. */
int vhost_user_frontend_get_inflight_fd(struct vhost_user_frontend *frontend, unsigned num_queues,
                                        unsigned queue_size, struct vhost_user_inflight *ret_inflight,
                                        int *ret_fd);
int vhost_user_frontend_set_inflight_fd(struct vhost_user_frontend *frontend,
                                        const struct vhost_user_inflight *inflight, int fd);

/* Returns once the back-end has handled everything sent before. */
int vhost_user_frontend_barrier(struct vhost_user_frontend *frontend);

/* The generic form that the others are made of. *message is sent (descriptors borrowed) and then holds the
 * reply, whose descriptors are the caller's. For values only when the rule says VHOST_USER_REPLY_VALUE. */
int vhost_user_frontend_call(struct vhost_user_frontend *frontend, struct vhost_user_message *message);
