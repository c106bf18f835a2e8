/* SPDX-License-Identifier: Apache-2.0 */
#include "devserver/block/settings.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "devserver/block/block_device.h"

static int take_image_fd(void *opaque, const char *value, char *why, size_t why_bytes)
{
    return command_line_take_fd(&((struct settings *)opaque)->image_fd, value, why, why_bytes);
}

static int take_image(void *opaque, const char *value, char *why, size_t why_bytes)
{
    ((struct settings *)opaque)->image_path = value;
    return 0;
}

static int take_format(void *opaque, const char *value, char *why, size_t why_bytes)
{
    if (strcmp(value, "raw") == 0)
        return 0;
    snprintf(why, why_bytes,
             "format '%.40s' is not known; only 'raw' is (convert with qemu-img convert -O raw)", value);
    return -EINVAL;
}

static int take_readonly(void *opaque, const char *value, char *why, size_t why_bytes)
{
    ((struct settings *)opaque)->readonly = true;
    return 0;
}

static int take_overlay_fd(void *opaque, const char *value, char *why, size_t why_bytes)
{
    return command_line_take_fd(&((struct settings *)opaque)->overlay_fd, value, why, why_bytes);
}

static int take_serial(void *opaque, const char *value, char *why, size_t why_bytes)
{
    if (strlen(value) > VIRTIO_BLK_ID_BYTES) {
        snprintf(why, why_bytes, "the serial number is longer than %d bytes", VIRTIO_BLK_ID_BYTES);
        return -EINVAL;
    }
    ((struct settings *)opaque)->serial = value;
    return 0;
}

static int take_num_queues(void *opaque, const char *value, char *why, size_t why_bytes)
{
    return command_line_take_number(&((struct settings *)opaque)->num_queues, value, 1, BLOCK_QUEUES_MAX,
                                    "number of queues", why, why_bytes);
}

const struct command_option block_options[BLOCK_OPTIONS] = {
    {"image", "PATH", "the disk image or block device", take_image},
    {"image-fd", "N", "the same, open already", take_image_fd},
    {"format", "raw", "format of the image", take_format},
    {"readonly", NULL, "refuse writes", take_readonly},
    {"overlay-fd", "N", "put writes into this empty file; the image stays as it is", take_overlay_fd},
    {"serial", "TEXT", "serial number that the guest sees, at most 20 bytes", take_serial},
    {"num-queues", "N", "queues, each with a thread of its own (1)", take_num_queues},
};

int settings_check(const void *opaque, char *why, size_t why_bytes)
{
    const struct settings *settings = opaque;
    int images = (settings->image_fd >= 0) + (settings->image_path != NULL);

    if (images != 1)
        snprintf(why, why_bytes, "%s: give one of --image and --image-fd",
                 images ? "more than one image" : "no image");
    else if (settings->readonly && settings->overlay_fd >= 0)
        snprintf(why, why_bytes, "--readonly and --overlay-fd exclude each other");
    else
        return 0;
    return -EINVAL;
}
