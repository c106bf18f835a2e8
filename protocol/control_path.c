/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/control_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int control_runtime_path(char path[CONTROL_PATH_BYTES])
{
    const char *own = getenv("BULKHEAD_RUNTIME_DIR");
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    int n;
    if (own && own[0] == '/') {
        n = snprintf(path, CONTROL_PATH_BYTES, "%s", own);
    } else if (xdg && xdg[0] == '/') {
        n = snprintf(path, CONTROL_PATH_BYTES, "%s/bulkhead", xdg);
    } else if (geteuid() == 0) {
        n = snprintf(path, CONTROL_PATH_BYTES, "/run/bulkhead");
    } else {
        n = snprintf(path, CONTROL_PATH_BYTES, "/tmp/bulkhead-%u", (unsigned)geteuid());
    }
    return n < CONTROL_PATH_BYTES ? 0 : -ENAMETOOLONG;
}

int control_state_path(char path[PATH_MAX])
{
    const char *own = getenv("BULKHEAD_STATE_DIR");
    const char *xdg = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    int n;
    if (own && own[0] == '/') {
        n = snprintf(path, PATH_MAX, "%s", own);
    } else if (xdg && xdg[0] == '/') {
        n = snprintf(path, PATH_MAX, "%s/bulkhead", xdg);
    } else if (geteuid() == 0) {
        n = snprintf(path, PATH_MAX, "/var/lib/bulkhead");
    } else if (home && home[0] == '/') {
        n = snprintf(path, PATH_MAX, "%s/.local/state/bulkhead", home);
    } else {
        return -ENOENT;
    }
    return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

int control_runtime_open(char path[CONTROL_PATH_BYTES], char why[CONTROL_WHY_BYTES])
{
    int result = control_runtime_path(path);
    if (result < 0) {
        snprintf(why, CONTROL_WHY_BYTES,
                 "the runtime directory's path is longer than %d bytes; set "
                 "BULKHEAD_RUNTIME_DIR to a shorter one",
                 CONTROL_PATH_BYTES - 1);
        return result;
    }
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        result = -errno;
        snprintf(why, CONTROL_WHY_BYTES,
                 "cannot make the runtime directory %s: %s; set BULKHEAD_RUNTIME_DIR to a "
                 "directory of yours",
                 path, strerror(-result));
        return result;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        result = -errno;
        snprintf(why, CONTROL_WHY_BYTES,
                 "cannot open the runtime directory %s: %s; remove what is there, or set "
                 "BULKHEAD_RUNTIME_DIR",
                 path, strerror(-result));
    } else if (st.st_uid != geteuid() || (st.st_mode & 0077)) {
        result = -EPERM;
        snprintf(why, CONTROL_WHY_BYTES,
                 "the runtime directory %s belongs to uid %u with mode %03o, not to uid %u "
                 "alone; set BULKHEAD_RUNTIME_DIR to a directory of yours with mode 700",
                 path, (unsigned)st.st_uid, (unsigned)(st.st_mode & 0777), (unsigned)geteuid());
    }
    if (result < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return result;
    }
    return fd;
}

int control_connect(const char *dir)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", dir, CONTROL_SOCKET_NAME);
    if (n >= (int)sizeof(address.sun_path)) {
        return -ENAMETOOLONG;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        int result = -errno;
        close(fd);
        return result;
    }
    return fd;
}
