/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/resource.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "protocol/base/units.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif

static const char *open_cure(int error)
{
    switch (error) {
    case ENOENT:
        return "check the path";
    case EACCES:
    case EPERM:
        return "check who may read (and write) it, or give another file";
    case EROFS:
        return "add ,readonly or ,ephemeral, or put it on a file system that can be written";
    case EISDIR:
        return "give a file";
    default:
        return "see errno(3)";
    }
}

/* Opens without hanging on a FIFO or a tty. */
static int open_file(const char *option, const char *path, int flags, struct stat *ret_stat,
                     struct reason *reason)
{
    cleanup_fd int fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, ret_stat) < 0) {
        int error = errno;
        return reason_set(reason, -error, "%s %s: %s; %s", option, path, strerror(error), open_cure(error));
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    return fd_steal(&fd);
}

int resource_open_boot_file(const char *option, const char *path, struct reason *reason)
{
    struct stat st;
    cleanup_fd int fd = open_file(option, path, O_RDONLY, &st, reason);
    if (fd < 0) {
        return fd;
    }
    if (!S_ISREG(st.st_mode) || st.st_size == 0) {
        return reason_set(reason, -EINVAL, "%s %s: %s; give a kernel's image file", option, path,
                          S_ISREG(st.st_mode) ? "the file is empty" : "not a regular file");
    }
    return fd_steal(&fd);
}

int resource_create_memfd(const char *name, uint64_t bytes)
{
    cleanup_fd int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) { /* before Linux 6.3 */
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    }
    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        return -errno;
    }
    return fd_steal(&fd);
}

int resource_create_memory(uint64_t bytes, struct reason *reason)
{
    int fd = resource_create_memfd("bulkhead-ram", bytes);
    if (fd < 0) {
        return reason_set(reason, fd,
                          "--memory %" PRIu64 "M: cannot make the guest's memory: %s; use less, or "
                          "raise the limits (ulimit -f, cgroup)",
                          bytes / MIB, strerror(-fd));
    }
    return fd;
}

/* Reads a small file of /proc/PID into `text`, up to the first NUL or line end: of cmdline, argv[0]. */
static void read_proc(const char *pid, const char *file, char *text, size_t bytes)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/%s", pid, file);
    cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, bytes - 1);
    n = n < 0 ? 0 : n;
    text[n] = '\0';
    text[strcspn(text, "\n")] = '\0';
}

/* True if a process of ours has that file open. */
static bool process_has_file(const char *pid, const struct stat *st)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/fd", pid);
    DIR *dir = opendir(path);
    bool found = false;
    for (struct dirent *entry; dir && !found && (entry = readdir(dir));) {
        struct stat other;
        found = entry->d_name[0] != '.' && fstatat(dirfd(dir), entry->d_name, &other, 0) == 0 &&
                other.st_dev == st->st_dev && other.st_ino == st->st_ino;
    }
    if (dir) {
        closedir(dir);
    }
    return found;
}

/* Names a process that has the file open, as far as we may look. Our servers carry the machine's name in argv[0]. False:
 * none was found. */
static bool find_holder(const struct stat *st, char *name, size_t name_bytes)
{
    bool found = false;
    g_snprintf(name, name_bytes, "another process (of another user, or in another container)");
    DIR *dir = opendir("/proc");
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (!g_ascii_isdigit(entry->d_name[0]) || atol(entry->d_name) == getpid() ||
            !process_has_file(entry->d_name, st)) {
            continue;
        }
        char program[80];
        read_proc(entry->d_name, "cmdline", program, sizeof(program));
        if (!program[0]) {
            read_proc(entry->d_name, "comm", program, sizeof(program));
        }
        g_snprintf(name, name_bytes, "%s (process %s)", program, entry->d_name);
        found = true;
        break;
    }
    if (dir) {
        closedir(dir);
    }
    return found;
}

/* A killed block server's requests may still be under way in the kernel, and hold the lock, when no process has it any
 * more: so a lock that nobody seems to hold is asked for again, for so long. */
#define ORPHAN_ATTEMPTS 50
#define ORPHAN_WAIT_US  10000

static int lock_disk(int fd, const struct disk_spec *disk, const struct stat *st, resource_holder_fn holder,
                     void *opaque, struct reason *reason)
{
    bool writer = !disk->readonly && !disk->ephemeral;
    char name[160];
    for (unsigned attempt = 0; attempt < ORPHAN_ATTEMPTS; attempt++) {
        struct flock lock = {.l_type = writer ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};
        if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
            return 0;
        }
        int error = errno;
        if (error != EAGAIN && error != EACCES) {
            return reason_set(reason, -error,
                              "--disk %s: cannot lock it: %s; the file system must support locks", disk->path,
                              strerror(error));
        }
        if (holder(opaque, st, name, sizeof(name)) || find_holder(st, name, sizeof(name))) {
            break;
        }
        g_usleep(ORPHAN_WAIT_US);
    }
    return reason_set(reason, -EBUSY, "--disk %s: in use by %s; stop that first, or use a copy of the image",
                      disk->path, name);
}

static int check_disk_size(int fd, const struct disk_spec *disk, const struct stat *st, struct reason *reason)
{
    uint64_t bytes = (uint64_t)st->st_size;
    if (S_ISBLK(st->st_mode)) {
        if (ioctl(fd, BLKGETSIZE64, &bytes) < 0) {
            return reason_set(reason, -errno, "--disk %s: cannot tell the device's size: %s", disk->path,
                              strerror(errno));
        }
    } else if (!S_ISREG(st->st_mode)) {
        return reason_set(reason, -EINVAL,
                          "--disk %s: neither a regular file nor a block device; give an image", disk->path);
    }
    if (bytes == 0) {
        return reason_set(reason, -EINVAL, "--disk %s: the image is empty; give it a size: truncate -s 8G %s",
                          disk->path, disk->path);
    }
    if (bytes % SECTOR_BYTES) {
        return reason_set(reason, -EINVAL,
                          "--disk %s: %" PRIu64 " bytes is not a whole number of %u-byte sectors; "
                          "is it a raw image? If so: truncate -s %%%u %s",
                          disk->path, bytes, SECTOR_BYTES, SECTOR_BYTES, disk->path);
    }
    return 0;
}

int resource_open_disk(const struct disk_spec *disk, resource_holder_fn holder, void *opaque,
                       struct stat *ret_stat, struct reason *reason)
{
    struct stat st;
    bool writer = !disk->readonly && !disk->ephemeral;
    cleanup_fd int fd = open_file("--disk", disk->path, writer ? O_RDWR : O_RDONLY, &st, reason);
    if (fd < 0) {
        return fd;
    }
    int result = check_disk_size(fd, disk, &st, reason);
    if (result == 0) {
        result = lock_disk(fd, disk, &st, holder, opaque, reason);
    }
    if (result < 0) {
        return result;
    }
    *ret_stat = st;
    return fd_steal(&fd);
}

int resource_create_overlay(struct reason *reason)
{
    int fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
        char path[] = "/var/tmp/bulkhead-overlay-XXXXXX"; /* a file system without O_TMPFILE */
        fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0) {
            unlink(path);
        }
    }
    if (fd < 0) {
        return reason_set(reason, -errno,
                          "cannot make room for an ephemeral disk in /var/tmp: %s; free some space "
                          "there",
                          strerror(errno));
    }
    return fd;
}

int resource_check_port(const struct publish_spec *publish, const char *holder, struct reason *reason)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(publish->host_port), .sin_addr = publish->address};
    char text[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &publish->address, text, sizeof(text));
    cleanup_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0) {
        int error = errno;
        const char *cure = error == EADDRINUSE      ? "choose another port, or stop what listens there"
                           : error == EACCES        ? "choose a port above 1023"
                           : error == EADDRNOTAVAIL ? "choose an address of this host"
                                                    : "choose another port";
        return reason_set(reason, -error, "--net user,publish=%s:%u:%u: cannot listen on port %u: %s%s; %s",
                          text, publish->host_port, publish->guest_port, publish->host_port, strerror(error),
                          error == EADDRINUSE ? holder : "", cure);
    }
    return 0;
}
