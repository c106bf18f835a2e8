/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the framing and the rule table: the input is a stream as a peer sends it, cut in two at a point that its first
 * byte chooses. No input may crash, and what passes the rules must have the size and shape of its kind.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "protocol/vhost_user.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check(struct vhost_user_message *message, unsigned variant)
{
    enum vhost_user_direction direction = variant & 1 ? VHOST_USER_TO_FRONTEND : VHOST_USER_TO_BACKEND;
    enum vhost_user_state state = (enum vhost_user_state)(1 << (variant >> 1) % 3);
    const char *why = NULL;
    int r = vhost_user_check_request(direction, message, UINT64_MAX, state, &why);
    const struct vhost_user_rule *rule = vhost_user_find_rule(direction, message->header.request);

    if (r == 0 &&
        (!rule || (message->header.size != vhost_user_payload_bytes(rule->payload, &message->payload) &&
                   (rule->payload != VHOST_USER_PAYLOAD_INFLIGHT ||
                    message->header.size != VHOST_USER_INFLIGHT_SHORT_BYTES))))
        abort();
    if (r < 0 && !why)
        abort();
    if (rule)
        vhost_user_check_reply(direction, message->header.request, variant & 8, message, &why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct vhost_user_message message;
    struct vhost_user_stream stream;
    int sockets[2];
    size_t cut;
    int r;

    if (bytes < 2 || bytes > 8192 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) < 0)
        return 0;
    cut = 1 + data[0] % (bytes - 1);
    vhost_user_stream_init(&stream, sockets[0]);
    for (unsigned part = 0; part < 2; part++) {
        const uint8_t *from = part ? data + cut : data + 1;
        size_t count = part ? bytes - cut : cut - 1;

        if (count > 0 && write(sockets[1], from, count) != (ssize_t)count)
            abort();
        while ((r = vhost_user_stream_receive(&stream, &message)) > 0) {
            check(&message, data[0]);
            vhost_user_message_finish(&message);
        }
        if (r < 0)
            break;
    }
    vhost_user_stream_finish(&stream);
    fd_close_all(sockets, 2);
    return 0;
}
