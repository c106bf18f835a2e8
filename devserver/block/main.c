/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead-blk: one disk, in a process of its own.
 *
 * Start: command line -> image, its lock, overlay, io_urings (the last things that need names and privileges)
 * -> sandbox -> queue threads -> vhost-user. Everything that can go wrong before the loop is told in one
 * line, on stderr and, for who started us, on --ready-fd.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devserver/block/block_device.h"
#include "devserver/block/block_queue.h"
#include "devserver/block/settings.h"
#include "devserver/core/program.h"
#include "protocol/base/fd.h"
#include "protocol/base/sandbox.h"

#define KEEP_FDS_MAX (2 * BLOCK_QUEUES_MAX + 8)

static const struct sandbox_syscall_set *const syscall_sets[] = {
    &sandbox_syscalls_threads,
    &sandbox_syscalls_events,
    &sandbox_syscalls_messages,
    &devserver_syscalls,
    &program_syscalls,
    &block_queue_syscalls,
    NULL,
};

static int open_image(struct settings *settings, struct image *image, char *why, size_t why_bytes)
{
    bool writable = !settings->readonly && settings->overlay_fd < 0;
    const char *name = settings->image_path ? settings->image_path : "of --image-fd";
    int r;

    if (settings->image_path) {
        settings->image_fd = open(settings->image_path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
        if (settings->image_fd < 0) {
            r = -errno;
            snprintf(why, why_bytes, "image %s cannot be opened: %s%s", name, strerror(-r),
                     (r == -EACCES || r == -EROFS) && writable ? "; use --readonly, or change its mode" : "");
            return r;
        }
    }
    r = image_open(image, settings->image_fd, name, writable, why, why_bytes);
    if (r == 0)
        settings->image_fd = -1; /* taken */
    return r;
}

static int open_device(struct settings *settings, struct block_device *device, char *why, size_t why_bytes)
{
    int r = open_image(settings, &device->image, why, why_bytes);

    if (r == 0 && settings->overlay_fd >= 0) {
        r = overlay_open(&device->overlay, settings->overlay_fd, device->image.sectors, why, why_bytes);
        if (r == 0)
            settings->overlay_fd = -1; /* taken */
    }
    if (r < 0)
        return r;
    memcpy(device->serial, settings->serial, strlen(settings->serial));
    device->num_queues = settings->num_queues;
    return block_device_init(device, why, why_bytes);
}

static int enter_sandbox(const struct program_settings *program, const struct block_device *device, char *why,
                         size_t why_bytes)
{
    int keep[KEEP_FDS_MAX];
    const struct sandbox_config config = {
        .sets = syscall_sets,
        .keep_fds_count = block_device_list_fds(device, keep, KEEP_FDS_MAX - PROGRAM_SANDBOX_FDS),
    };

    return program_enter_sandbox(program, config, keep, why, why_bytes);
}

static int serve(struct program_settings *program, struct block_device *device, char *why, size_t why_bytes)
{
    const struct devserver_config config = {
        .name = "blk",
        .features = block_device_features(device),
        .max_queues = device->num_queues,
        .max_queue_size = BLOCK_QUEUE_SIZE_MAX,
        .config_bytes = sizeof(device->config),
        .threaded = true,
        .ops = &block_device_ops,
        .opaque = device,
    };
    int r = block_device_start(device, why, why_bytes);

    return r < 0 ? r : program_serve(program, config, why, why_bytes);
}

static int run(struct program_settings *program, void *opaque, char *why, size_t why_bytes)
{
    struct settings *settings = opaque;
    struct block_device device = {.image.fd = -1, .overlay.fd = -1};
    int r = open_device(settings, &device, why, why_bytes);

    if (r == 0)
        r = enter_sandbox(program, &device, why, why_bytes);
    if (r == 0)
        r = serve(program, &device, why, why_bytes);
    block_device_finish(&device);
    return r;
}

int main(int argc, char **argv)
{
    static const struct program program = {
        .command_line =
            {
                .program = "bulkhead-blk",
                .usage = "(--image=PATH | --image-fd=N)",
                .summary = "Serves a disk image as a vhost-user block device.",
                .example = "--socket-path=/run/disk.sock --image=disk.raw --num-queues=2",
                .options = block_options,
                .option_count = BLOCK_OPTIONS,
            },
        .check = settings_check,
        .run = run,
    };
    struct settings settings = SETTINGS_DEFAULTS;

    return program_main(&program, argc, argv, &settings);
}
