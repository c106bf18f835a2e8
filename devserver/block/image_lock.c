/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock is an OFD lock, which lasts as long as anything refers to the open file. That includes the kernel's io_uring:
 * a killed server's requests may still be written when its process has gone, and until they are, nobody else gets the
 * image.
 *
 * An OFD lock has no process that F_OFD_GETLK could name. Two ways to find out:
 *   - /proc/PID/fdinfo/FD lists the locks of that open file; but a confined server hides its own from its user;
 *   - who has the lock also holds an ordinary record lock, which F_GETLK does name, on a byte that no image has. It
 *     guards nothing, and where it cannot be had (the starter has locked all of the file) nothing is lost but the name.
 */
#include "devserver/block/image_lock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define HOLDERS_MAX 3

/* The kernel closes the files of a dead process's io_uring some time after the process itself has gone, and
 * the lock with them. So a lock that nobody seems to hold is asked for again, for so long. */
#define ORPHAN_WAIT_NS  (20 * 1000 * 1000)
#define ORPHAN_ATTEMPTS 100

#define NAME_TAG_OFFSET (INT64_MAX - 1)

/* Whether a line of fdinfo is a lock on the file: "lock:\t1: OFDLCK ADVISORY  WRITE -1 08:02:1234 0 EOF". */
static bool line_has_lock(const char *line, const struct stat *st)
{
    unsigned device_major, device_minor;
    unsigned long long inode;

    if (sscanf(line, "lock: %*d: %*s %*s %*s %*d %x:%x:%llu", &device_major, &device_minor, &inode) != 3)
        return false;
    return inode == st->st_ino && device_major == major(st->st_dev) && device_minor == minor(st->st_dev);
}

static bool fdinfo_has_lock(const char *path, const struct stat *st)
{
    FILE *file = fopen(path, "re");
    char line[256];
    bool found = false;

    while (file && !found && fgets(line, sizeof(line), file))
        found = line_has_lock(line, st);
    if (file)
        fclose(file);
    return found;
}

static bool process_has_lock(const char *pid, const struct stat *st)
{
    char path[64];
    struct dirent *entry;
    bool found = false;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%.20s/fdinfo", pid);
    dir = opendir(path);
    while (dir && !found && (entry = readdir(dir))) {
        char file[sizeof(path) + 32];

        snprintf(file, sizeof(file), "%s/%.20s", path, entry->d_name);
        found = entry->d_name[0] != '.' && fdinfo_has_lock(file, st);
    }
    if (dir)
        closedir(dir);
    return found;
}

static struct flock name_tag(short type)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = NAME_TAG_OFFSET, .l_len = 1};
}

/* The process whose name tag excludes ours, or 0. */
static pid_t tagged_process(int fd)
{
    struct flock tag = name_tag(F_WRLCK);

    return fcntl(fd, F_GETLK, &tag) == 0 && tag.l_type != F_UNLCK && tag.l_pid > 0 ? tag.l_pid : 0;
}

static void add_holder(const char *pid, char *holder, size_t holder_bytes)
{
    char path[64], name[32] = "unknown";
    size_t used = strlen(holder);
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
    file = fopen(path, "re");
    if (file && fgets(name, sizeof(name), file))
        name[strcspn(name, "\n")] = '\0';
    if (file)
        fclose(file);
    snprintf(holder + used, holder_bytes - used, "%s%s (process %.20s)", used ? ", " : "", name, pid);
}

/* The number of processes found. */
static unsigned find_holders(int fd, char *holder, size_t holder_bytes)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    unsigned found = 0;
    struct stat st;

    holder[0] = '\0';
    if (fstat(fd, &st) == 0) {
        while (proc && found < HOLDERS_MAX && (entry = readdir(proc))) {
            if (atoi(entry->d_name) <= 0 || !process_has_lock(entry->d_name, &st))
                continue;
            add_holder(entry->d_name, holder, holder_bytes);
            found++;
        }
    }
    if (proc)
        closedir(proc);
    if (found == 0 && tagged_process(fd) > 0) {
        char pid[24];

        snprintf(pid, sizeof(pid), "%d", tagged_process(fd));
        add_holder(pid, holder, holder_bytes);
        found++;
    }
    if (found == 0)
        snprintf(holder, holder_bytes, "a process that this user cannot see");
    return found;
}

int image_lock(int fd, bool exclusive, char *holder, size_t holder_bytes)
{
    const struct timespec pause = {.tv_nsec = ORPHAN_WAIT_NS};

    for (unsigned attempt = 0; attempt < ORPHAN_ATTEMPTS; attempt++) {
        short type = exclusive ? F_WRLCK : F_RDLCK;
        struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_len = NAME_TAG_OFFSET};
        struct flock tag = name_tag(type);

        if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
            fcntl(fd, F_SETLK, &tag);
            return 0;
        }
        if (errno != EAGAIN && errno != EACCES)
            return -errno;
        if (find_holders(fd, holder, holder_bytes) > 0)
            return -EAGAIN;
        nanosleep(&pause, NULL);
    }
    return -EAGAIN;
}
