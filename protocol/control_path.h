/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_path: where the broker of this user is found.
 *
 * The runtime directory is the first of: $BULKHEAD_RUNTIME_DIR; $XDG_RUNTIME_DIR/bulkhead; /run/bulkhead for root;
 * /tmp/bulkhead-UID. It must be a real directory (no symbolic link) of this user with mode 0700, else it is refused:
 * in /tmp anybody may have put one there first. It holds
 *
 *   control.sock  the broker's socket
 *   broker.log    what the broker and its children had to say; removed when the broker ends in good order
 *
 * The state directory, for what outlives a broker, is the first of: $BULKHEAD_STATE_DIR; $XDG_STATE_HOME/bulkhead;
 * /var/lib/bulkhead for root; $HOME/.local/state/bulkhead. It holds
 *
 *   crashes/      reports of VMMs that failed (broker/crash_report.h), the newest 16
 *
 * flock(2) on the runtime directory itself is held exclusively while a broker looks whether there is one already and makes
 * its socket, and while one that ends because it is idle removes it. So there is never more than one, and the
 * locks leave no file behind.
 */
#pragma once

#include <limits.h>
#include <stddef.h>

#define CONTROL_SOCKET_NAME "control.sock"
#define CONTROL_LOG_NAME    "broker.log"
#define CONTROL_CRASH_DIR   "crashes"

#define CONTROL_PATH_BYTES 96 /* of the directory; with the socket's name it fits into sun_path */
#define CONTROL_WHY_BYTES  256

/* Writes the directory's path. 0 or -ENAMETOOLONG. */
int control_runtime_path(char path[CONTROL_PATH_BYTES]);
/*
 * Makes the runtime directory where it is missing, checks it, and opens it. Returns the directory's fd (owned), or a
 * negative errno and one line (what, where, cure) in `why`.
 */
int control_runtime_open(char path[CONTROL_PATH_BYTES], char why[CONTROL_WHY_BYTES]);
/* Writes the state directory's path; it need not exist. 0, -ENOENT (no home directory) or -ENAMETOOLONG. */
int control_state_path(char path[PATH_MAX]);
/* Connects to the broker's socket; the path is `dir`/control.sock. The socket's fd (owned, blocking) or -errno. */
int control_connect(const char *dir);
