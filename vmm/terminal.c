/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/terminal.h"

#include <errno.h>
#include <stdbool.h>
#include <termios.h>

static struct termios saved;
static int saved_fd = -1;

int terminal_set_raw(int fd)
{
    struct termios raw;

    if (tcgetattr(fd, &saved) < 0)
        return -errno;
    raw = saved;
    cfmakeraw(&raw);
    raw.c_oflag |= OPOST; /* our own log lines share the terminal */
    if (tcsetattr(fd, TCSANOW, &raw) < 0)
        return -errno;
    saved_fd = fd;
    return 0;
}

void terminal_restore(void)
{
    if (saved_fd >= 0)
        tcsetattr(saved_fd, TCSANOW, &saved);
    saved_fd = -1;
}
