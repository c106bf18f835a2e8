/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/base/program_path.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where each program stands in the build tree. */
static const struct {
    const char *name, *build_path;
} programs[] = {
    {"bulkhead", "tools/bulkhead"},
    {"bulkheadd", "broker/bulkheadd"},
    {"bulkhead-vmm", "vmm/bulkhead-vmm"},
    {"bulkhead-blk", "devserver/block/bulkhead-blk"},
    {"bulkhead-net", "devserver/net/bulkhead-net"},
};

static int usable(char path[PATH_MAX], const char *format, const char *a, const char *b)
{
    int n = snprintf(path, PATH_MAX, format, a, b);
    if (n >= PATH_MAX) {
        return -ENAMETOOLONG;
    }
    return access(path, X_OK) < 0 ? -errno : 0;
}

/* The directory of the running program, and the root of its build tree ("" where it is in none). */
static int own_places(char dir[PATH_MAX], char root[PATH_MAX])
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    if (n < 0) {
        return -errno;
    }
    exe[n] = '\0';
    root[0] = '\0';
    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
        size_t tail = strlen(programs[i].build_path);
        if ((size_t)n > tail && exe[(size_t)n - tail - 1] == '/' &&
            strcmp(exe + (size_t)n - tail, programs[i].build_path) == 0) {
            memcpy(root, exe, (size_t)n - tail - 1);
            root[(size_t)n - tail - 1] = '\0';
        }
    }
    char *slash = strrchr(exe, '/');
    *slash = '\0';
    strcpy(dir, exe);
    return 0;
}

int program_path(const char *name, char path[PATH_MAX])
{
    const char *override = getenv("BULKHEAD_PROGRAM_DIR");
    if (override && override[0] && usable(path, "%s/%s", override, name) == 0) {
        return 0;
    }
    char dir[PATH_MAX], root[PATH_MAX];
    int result = own_places(dir, root);
    if (result < 0) {
        return result;
    }
    if (usable(path, "%s/%s", dir, name) == 0) {
        return 0;
    }
    for (size_t i = 0; root[0] && i < sizeof(programs) / sizeof(programs[0]); i++) {
        if (strcmp(programs[i].name, name) == 0 && usable(path, "%s/%s", root, programs[i].build_path) == 0) {
            return 0;
        }
    }
    if (usable(path, "%s/" BULKHEAD_LIBEXEC_FROM_BIN "/%s", dir, name) == 0 ||
        usable(path, "%s/" BULKHEAD_BIN_FROM_LIBEXEC "/%s", dir, name) == 0) {
        return 0;
    }
    return usable(path, "%s/%s", BULKHEAD_LIBEXECDIR, name);
}
