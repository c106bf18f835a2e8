/* SPDX-License-Identifier: Apache-2.0 */
/* The namespace layers: a world without other processes' mounts, IPC and network, and an empty root. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "protocol/base/sandbox_internal.h"

static bool have_capability(unsigned capability)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};

    if (syscall(SYS_capget, &header, data) < 0)
        return false;
    return data[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability);
}

void sandbox_namespaces_init(struct sandbox_namespaces *namespaces, const struct sandbox_config *config)
{
    bool privileged =
        have_capability(CAP_SYS_ADMIN) && have_capability(CAP_SETUID) && have_capability(CAP_SETGID);

    *namespaces = (struct sandbox_namespaces){
        .flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP,
        .use_user = !privileged,
        .proc_self_fd = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC),
    };
    if (!(config->flags & SANDBOX_HOST_NETWORK))
        namespaces->flags |= CLONE_NEWNET;
    if (namespaces->use_user)
        namespaces->flags |= CLONE_NEWUSER;
}

void sandbox_namespaces_finish(struct sandbox_namespaces *namespaces)
{
    if (namespaces->proc_self_fd >= 0)
        close(namespaces->proc_self_fd);
    namespaces->proc_self_fd = -1;
}

static int write_proc(int proc_self_fd, const char *name, const char *text)
{
    int ret = 0;

    int fd = openat(proc_self_fd, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (write(fd, text, strlen(text)) < 0)
        ret = -errno;
    close(fd);
    return ret;
}

/* user_namespaces(7): without privilege, the caller's own ids and nothing else, and setgroups() off first. */
static int map_ids(int proc_self_fd, uid_t uid, gid_t gid)
{
    char uid_map[32], gid_map[32];

    snprintf(uid_map, sizeof uid_map, "%u %u 1", uid, uid);
    snprintf(gid_map, sizeof gid_map, "%u %u 1", gid, gid);
    int ret = write_proc(proc_self_fd, "setgroups", "deny");
    if (ret == 0)
        ret = write_proc(proc_self_fd, "uid_map", uid_map);
    if (ret == 0)
        ret = write_proc(proc_self_fd, "gid_map", gid_map);
    return ret;
}

static const char *unshare_cure(int error, bool use_user)
{
    if (error == ENOSPC)
        return "raise /proc/sys/user/max_user_namespaces";
    if (error == EINVAL || error == ENOSYS)
        return "use a kernel with namespaces (CONFIG_NAMESPACES, CONFIG_USER_NS)";
    if (use_user)
        return "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
               "kernel.apparmor_restrict_unprivileged_userns=0), or leave the outer sandbox or container";
    return "leave the outer sandbox or container, which forbids namespaces";
}

int sandbox_namespaces_enter(struct sandbox_namespaces *namespaces, char *why, size_t why_bytes)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();

    if (namespaces->proc_self_fd < 0)
        return sandbox_fail(why, why_bytes, -ENOENT, "no /proc, which namespaces need (mount it)");
    if (unshare((int)namespaces->flags) < 0) {
        int error = errno;
        return sandbox_fail(why, why_bytes, -error, "no namespaces: unshare: %s (%s)", strerror(error),
                            unshare_cure(error, namespaces->use_user));
    }
    if (namespaces->use_user) {
        int ret = map_ids(namespaces->proc_self_fd, uid, gid);
        if (ret < 0)
            return sandbox_fail(why, why_bytes, ret, "no ids in the user namespace: %s (%s)", strerror(-ret),
                                unshare_cure(-ret, true));
    }
    return 0;
}

static int write_root_file(const struct sandbox_root_file *file)
{
    char folder[64];
    const char *relative = file->path + 1;
    const char *slash = strchr(relative, '/');
    int ret = 0;

    if (slash) {
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - relative), relative);
        if (mkdir(folder, 0755) < 0 && errno != EEXIST)
            return -errno;
        if (chmod(folder, 0755) < 0) /* whatever the umask was */
            return -errno;
    }
    int fd = open(relative, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    if (fd < 0)
        return -errno;
    size_t length = strlen(file->content);
    if (write(fd, file->content, length) != (ssize_t)length)
        ret = -EIO;
    if (fchmod(fd, 0444) < 0)
        ret = -errno;
    close(fd);
    return ret;
}

static int step_failed(const char *step, char *why, size_t why_bytes)
{
    int error = errno;
    return sandbox_fail(
        why, why_bytes, -error,
        "no empty root: %s: %s (leave the outer sandbox or container; the root must not be an "
        "initramfs)",
        step, strerror(error));
}

/*
 * The tmpfs is mounted over /proc, which exists (its fd has been opened) and is not used any more, and
 * becomes the root with pivot_root(".", "."), which stacks the old root on top; detaching it leaves nothing
 * else (pivot_root(2), NOTES).
 */
int sandbox_empty_root_enter(const struct sandbox_root_file *files, size_t count, char *why, size_t why_bytes)
{
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return step_failed("making mounts private", why, why_bytes);
    if (mount("bulkhead", "/proc", "tmpfs", flags, "size=64k,nr_inodes=16,mode=0755") < 0)
        return step_failed("mounting a tmpfs", why, why_bytes);
    if (chdir("/proc") < 0)
        return step_failed("entering it", why, why_bytes);
    for (size_t i = 0; i < count; i++) {
        int ret = write_root_file(&files[i]);
        if (ret < 0)
            return sandbox_fail(why, why_bytes, ret, "no empty root: cannot write its %s: %s", files[i].path,
                                strerror(-ret));
    }
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return step_failed("pivot_root", why, why_bytes);
    if (umount2(".", MNT_DETACH) < 0)
        return step_failed("detaching the old root", why, why_bytes);
    if (chdir("/") < 0)
        return step_failed("chdir to the new root", why, why_bytes);
    if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL) < 0)
        return step_failed("making it read-only", why, why_bytes);
    return 0;
}
