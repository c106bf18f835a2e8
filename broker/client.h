/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client: one connection to the control socket.
 *
 * States: greeting (only `hello` is allowed) -> serving -> closed. Anything that is not in the table of requests for
 * that state closes the connection, as do: another uid (root is let in), a frame that is too long or is no Request,
 * an fd on a frame, a greeting or a frame that takes longer than CLIENT_FRAME_MS, CLIENT_IDLE_MS without a request
 * and without one that is still to be answered, more than CLIENT_PENDING_MAX of those, answers that are not read.
 * None of this touches a machine, except that one that was started in the foreground is stopped when its client is
 * gone.
 *
 * Owner thread: the loop's.
 */
#pragma once

#include "broker/broker.h"

#define CLIENT_FRAME_MS    10000
#define CLIENT_IDLE_MS     60000
#define CLIENT_PENDING_MAX 32
#define CLIENT_ORPHAN_MS   10000 /* from the power button to force, when a foreground client is gone */

struct client;

/* Takes `fd`, freshly accepted, and adds the client to the broker. Closes it where that fails. */
void client_create(struct broker *broker, int fd);
void client_destroy(struct client *client);
