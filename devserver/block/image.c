/* SPDX-License-Identifier: Apache-2.0 */
#include "devserver/block/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "devserver/block/image_lock.h"
#include "protocol/base/fd.h"
#include "protocol/base/units.h"

#define BLOCK_BYTES_MAX (64 * KIB)

__attribute__((format(printf, 4, 5))) static int image_fail(char *why, size_t why_bytes, int error,
                                                            const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, why_bytes, format, args);
    va_end(args);
    return error;
}

static bool is_block_size(uint64_t bytes)
{
    return bytes >= SECTOR_BYTES && bytes <= BLOCK_BYTES_MAX && (bytes & (bytes - 1)) == 0;
}

static int image_probe_device(struct image *image, uint64_t *ret_bytes)
{
    int logical = 0;
    unsigned physical = 0, optimal = 0;

    if (ioctl(image->fd, BLKGETSIZE64, ret_bytes) < 0)
        return -errno;
    if (ioctl(image->fd, BLKSSZGET, &logical) == 0 && logical > 0 && is_block_size((uint64_t)logical))
        image->logical_bytes = (uint32_t)logical;
    if (ioctl(image->fd, BLKPBSZGET, &physical) == 0 && is_block_size(physical))
        image->physical_bytes = physical;
    if (ioctl(image->fd, BLKIOOPT, &optimal) == 0)
        image->optimal_bytes = optimal;
    if (image->physical_bytes < image->logical_bytes)
        image->physical_bytes = image->logical_bytes;
    return 0;
}

static int image_probe(struct image *image, const char *name, char *why, size_t why_bytes)
{
    uint64_t bytes = 0;
    struct stat st;
    int r = 0;

    if (fstat(image->fd, &st) < 0)
        return image_fail(why, why_bytes, -errno, "image %s: %s", name, strerror(errno));
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return image_fail(why, why_bytes, -EINVAL,
                          "image %s is neither a file nor a block device; give a raw disk image", name);
    image->logical_bytes = SECTOR_BYTES;
    image->physical_bytes = 4096;
    image->is_device = S_ISBLK(st.st_mode);
    if (image->is_device)
        r = image_probe_device(image, &bytes);
    else
        bytes = (uint64_t)st.st_size;
    if (r < 0)
        return image_fail(why, why_bytes, r, "image %s: its size cannot be read: %s", name, strerror(-r));
    if (bytes == 0)
        return image_fail(why, why_bytes, -EINVAL, "image %s is empty; make it with 'truncate -s SIZE'",
                          name);
    if (bytes % image->logical_bytes != 0)
        return image_fail(why, why_bytes, -EINVAL,
                          "image %s has %" PRIu64
                          " bytes, which is no multiple of %u: it is not a raw disk image, or "
                          "it was cut; repair with 'truncate -s %%%u'",
                          name, bytes, image->logical_bytes, image->logical_bytes);
    image->sectors = bytes / SECTOR_BYTES;
    return 0;
}

static int image_check_mode(const struct image *image, const char *name, char *why, size_t why_bytes)
{
    int flags = fcntl(image->fd, F_GETFL);

    if (flags < 0)
        return image_fail(why, why_bytes, -errno, "image %s: %s", name, strerror(errno));
    if ((flags & O_ACCMODE) == O_WRONLY)
        return image_fail(why, why_bytes, -EBADF, "image %s is open for writing only", name);
    if (image->writable && (flags & O_ACCMODE) != O_RDWR)
        return image_fail(why, why_bytes, -EROFS,
                          "image %s is open for reading only; use --readonly, or an overlay for its writes",
                          name);
    return 0;
}

int image_open(struct image *image, int fd, const char *name, bool writable, char *why, size_t why_bytes)
{
    struct image opened = {.fd = fd, .writable = writable};
    char holder[160];
    int r = image_probe(&opened, name, why, why_bytes);

    if (r == 0)
        r = image_check_mode(&opened, name, why, why_bytes);
    if (r < 0)
        return r;
    r = image_lock(fd, writable, holder, sizeof(holder));
    if (r == -EAGAIN)
        return image_fail(why, why_bytes, r, "image %s is in use by %s; stop that, or use a copy", name,
                          holder);
    if (r < 0)
        return image_fail(why, why_bytes, r, "image %s cannot be locked: %s", name, strerror(-r));
    fd_set_nonblock(fd, false); /* io_uring would give up instead of waiting for the disk */
    *image = opened;
    return 0;
}

void image_finish(struct image *image)
{
    fd_close(&image->fd);
}
