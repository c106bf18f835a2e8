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

static int enter_sandbox(const struct settings *settings, const struct block_device *device, char *why,
                         size_t why_bytes)
{
    const int others[] = {settings->connected_fd, settings->listen_fd, settings->ready_fd};
    int keep[KEEP_FDS_MAX];
    size_t count = block_device_list_fds(device, keep, KEEP_FDS_MAX - ARRAY_LEN(others));
    struct sandbox_config config = {.sets = syscall_sets, .keep_fds = keep};
    struct sandbox *sandbox = NULL;
    int r;

    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        if (others[i] >= 0)
            keep[count++] = others[i];
    }
    config.keep_fds_count = count;
    r = sandbox_prepare(&config, &sandbox, why, why_bytes);
    if (r == 0)
        r = sandbox_enter(sandbox, why, why_bytes);
    sandbox_destroy(sandbox);
    if (r > 0)
        log_warning("%s", why);
    return r < 0 ? r : 0;
}

static int serve(struct settings *settings, struct block_device *device, char *why, size_t why_bytes)
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
        .connected_fd = settings->connected_fd,
        .listen_fd = settings->listen_fd,
    };
    int r = block_device_start(device, why, why_bytes);

    return r < 0 ? r : program_serve(&config, &settings->ready_fd, why, why_bytes);
}

static int run(struct settings *settings, char *why, size_t why_bytes)
{
    struct block_device device = {.image.fd = -1, .overlay.fd = -1};
    int r = 0;

    if (settings->socket_path)
        r = settings->listen_fd = program_listen(settings->socket_path, why, why_bytes);
    if (r >= 0)
        r = open_device(settings, &device, why, why_bytes);
    if (r == 0 && settings->sandbox)
        r = enter_sandbox(settings, &device, why, why_bytes);
    if (r == 0)
        r = serve(settings, &device, why, why_bytes);
    block_device_finish(&device);
    return r;
}

int main(int argc, char **argv)
{
    struct settings settings;
    char why[SANDBOX_WHY_BYTES] = "";
    int r;

    log_init("bulkhead-blk", LOG_LEVEL_INFO);
    r = settings_parse(argc, argv, &settings, why, sizeof(why));
    log_set_level(settings.log_level);
    if (r == 0 && settings.help) {
        settings_print_help();
        return EXIT_SUCCESS;
    }
    if (r == 0 && settings.version) {
        puts("bulkhead-blk " BULKHEAD_VERSION);
        return EXIT_SUCCESS;
    }
    if (r == 0)
        r = run(&settings, why, sizeof(why));
    if (r < 0)
        program_say_ready(&settings.ready_fd, why);
    return r < 0 ? PROGRAM_EXIT_CANNOT_START : EXIT_SUCCESS;
}
