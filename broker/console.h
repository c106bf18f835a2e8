/* SPDX-License-Identifier: Apache-2.0 */
/*
 * console: relays a machine's serial console between its VMM and any number of viewers.
 *
 * Output goes into one ring that keeps the last CONSOLE_RING_BYTES; every viewer has a position in it. So memory is
 * bounded, a slow viewer holds up neither the guest nor the others (who falls behind by more than the ring skips
 * ahead, and is told so in the stream), and a new viewer is shown the last screen. Input of all viewers goes to the
 * VMM as it takes it; what it does not take waits in the viewer's own socket.
 *
 * The bytes are the guest's and are passed on as they are, never looked at (but for the last line ends, to begin a
 * replay at a line).
 *
 * States: open --console_end() (the VMM is gone)--> draining --every viewer has all output, is gone, or
 * CONSOLE_DRAIN_MS passed--> freed. After console_end() the pointer must not be used any more.
 * Owner thread: the loop's.
 */
#pragma once

#include <inttypes.h>
#include <stdbool.h>
#include <uv.h>

#define CONSOLE_RING_BYTES   (1024 * 1024)
#define CONSOLE_REPLAY_BYTES (8 * 1024)
#define CONSOLE_VIEWERS_MAX  16
#define CONSOLE_DRAIN_MS     5000

struct console;

/* Takes vmm_fd, our end of a connected stream socket. 0, or a negative errno and the fd is closed. */
int console_create(uv_loop_t *loop, int vmm_fd, struct console **ret_console);
/*
 * Adds a viewer that is shown everything that the ring holds (from_start) or the last CONSOLE_REPLAY_BYTES. Returns
 * the viewer's end of a stream socket (owned), -EBUSY when there are too many, or another negative errno.
 */
int console_attach(struct console *console, bool from_start);
unsigned console_viewers(const struct console *console);
/* Reads what the VMM left behind, then lets the viewers have it. Accepts NULL. Call it once the VMM is gone. */
void console_end(struct console *console);
