/* SPDX-License-Identifier: Apache-2.0 */
/* The Landlock layer: everything that this kernel can deny is denied.
 * Documentation/userspace-api/landlock.rst. */
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "protocol/base/sandbox_internal.h"

/* Own definitions: the kernel's headers at build time may be older than the kernel at run time. */
struct landlock_ruleset {
    uint64_t handled_access_fs;
    uint64_t handled_access_net; /* ABI 4 */
    uint64_t scoped;             /* ABI 6 */
};
struct landlock_path_rule {
    uint64_t allowed_access;
    int32_t parent_fd;
} __attribute__((packed));

#define LANDLOCK_VERSION_FLAG    1u
#define LANDLOCK_PATH_RULE       1
#define LANDLOCK_FS_READ_FILE    (UINT64_C(1) << 2)
#define LANDLOCK_NET_BIND_TCP    (UINT64_C(1) << 0)
#define LANDLOCK_NET_CONNECT_TCP (UINT64_C(1) << 1)
#define LANDLOCK_SCOPE_ABSTRACT  (UINT64_C(1) << 0)
#define LANDLOCK_SCOPE_SIGNAL    (UINT64_C(1) << 1)

/* How many file system rights each ABI knows; newer rights need newer kernels. */
static uint64_t fs_rights(long abi)
{
    if (abi >= 5)
        return (UINT64_C(1) << 16) - 1; /* ioctl on devices */
    if (abi >= 3)
        return (UINT64_C(1) << 15) - 1; /* truncate */
    if (abi == 2)
        return (UINT64_C(1) << 14) - 1; /* refer */
    return (UINT64_C(1) << 13) - 1;
}

void sandbox_landlock_init(struct sandbox_landlock *landlock, bool deny_tcp)
{
    *landlock = (struct sandbox_landlock){.ruleset_fd = -1};

    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION_FLAG);
    if (abi < 1) {
        landlock->missing_errno = abi < 0 ? errno : EOPNOTSUPP;
        return;
    }
    struct landlock_ruleset ruleset = {.handled_access_fs = fs_rights(abi)};
    size_t bytes = offsetof(struct landlock_ruleset, handled_access_net);
    if (abi >= 4) {
        bytes = offsetof(struct landlock_ruleset, scoped);
        ruleset.handled_access_net = deny_tcp ? LANDLOCK_NET_BIND_TCP | LANDLOCK_NET_CONNECT_TCP : 0;
    }
    if (abi >= 6) {
        bytes = sizeof ruleset;
        ruleset.scoped = LANDLOCK_SCOPE_ABSTRACT | LANDLOCK_SCOPE_SIGNAL;
    }
    landlock->ruleset_fd = (int)syscall(SYS_landlock_create_ruleset, &ruleset, bytes, 0);
    if (landlock->ruleset_fd < 0)
        landlock->missing_errno = errno;
}

void sandbox_landlock_finish(struct sandbox_landlock *landlock)
{
    if (landlock->ruleset_fd >= 0)
        close(landlock->ruleset_fd);
    landlock->ruleset_fd = -1;
}

int sandbox_landlock_allow_read(struct sandbox_landlock *landlock, const char *path)
{
    int ret = 0;

    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct landlock_path_rule rule = {.allowed_access = LANDLOCK_FS_READ_FILE, .parent_fd = fd};
    if (syscall(SYS_landlock_add_rule, landlock->ruleset_fd, LANDLOCK_PATH_RULE, &rule, 0) < 0)
        ret = -errno;
    close(fd);
    return ret;
}

int sandbox_landlock_enter(struct sandbox_landlock *landlock)
{
    if (syscall(SYS_landlock_restrict_self, landlock->ruleset_fd, 0) < 0)
        return -errno;
    return 0;
}
