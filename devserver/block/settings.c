/* SPDX-License-Identifier: Apache-2.0 */
#include "devserver/block/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devserver/block/block_device.h"
#include "protocol/base/fd.h"

struct option_row {
    const char *name;
    const char *value; /* its name in --help; NULL: takes none */
    const char *help;
    /* 0 or -EINVAL; may fill `why` with more than 'not a value for this option'. */
    int (*take)(struct settings *settings, const char *value, char *why, size_t why_bytes);
};

static int take_fd_into(int *slot, const char *value, char *why, size_t why_bytes)
{
    int fd = fd_parse(value);

    if (fd == -EBADF)
        snprintf(why, why_bytes, "descriptor %s is not open; pass it through exec", value);
    if (fd < 0)
        return -EINVAL;
    *slot = fd;
    return 0;
}

static int take_fd(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    return take_fd_into(&settings->connected_fd, value, why, why_bytes);
}

static int take_listen_fd(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    return take_fd_into(&settings->listen_fd, value, why, why_bytes);
}

static int take_socket_path(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    settings->socket_path = value;
    return 0;
}

static int take_image_fd(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    return take_fd_into(&settings->image_fd, value, why, why_bytes);
}

static int take_image(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    settings->image_path = value;
    return 0;
}

static int take_format(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    if (strcmp(value, "raw") == 0)
        return 0;
    snprintf(why, why_bytes,
             "format '%.40s' is not known; only 'raw' is (convert with qemu-img convert -O raw)", value);
    return -EINVAL;
}

static int take_readonly(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    settings->readonly = true;
    return 0;
}

static int take_overlay_fd(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    return take_fd_into(&settings->overlay_fd, value, why, why_bytes);
}

static int take_serial(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    if (strlen(value) > VIRTIO_BLK_ID_BYTES) {
        snprintf(why, why_bytes, "the serial number is longer than %d bytes", VIRTIO_BLK_ID_BYTES);
        return -EINVAL;
    }
    settings->serial = value;
    return 0;
}

static int take_num_queues(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    char *end;
    unsigned long count = strtoul(value, &end, 10);

    if (value[0] < '0' || value[0] > '9' || *end || count < 1 || count > BLOCK_QUEUES_MAX) {
        snprintf(why, why_bytes, "'%.40s' is no number of queues; use 1 to %d", value, BLOCK_QUEUES_MAX);
        return -EINVAL;
    }
    settings->num_queues = (unsigned)count;
    return 0;
}

static int take_ready_fd(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    return take_fd_into(&settings->ready_fd, value, why, why_bytes);
}

static int take_log_level(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    return log_parse_level(value, &settings->log_level);
}

static int take_no_sandbox(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    settings->sandbox = false;
    return 0;
}

static int take_help(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    settings->help = true;
    return 0;
}

static int take_version(struct settings *settings, const char *value, char *why, size_t why_bytes)
{
    settings->version = true;
    return 0;
}

static const struct option_row option_table[] = {
    {"socket-path", "PATH", "listen for front-ends there, one after the other", take_socket_path},
    {"fd", "N", "serve this connected socket, and end with it", take_fd},
    {"listen-fd", "N", "listen on this socket", take_listen_fd},
    {"image", "PATH", "the disk image or block device", take_image},
    {"image-fd", "N", "the same, open already", take_image_fd},
    {"format", "raw", "format of the image", take_format},
    {"readonly", NULL, "refuse writes", take_readonly},
    {"overlay-fd", "N", "put writes into this empty file; the image stays as it is", take_overlay_fd},
    {"serial", "TEXT", "serial number that the guest sees, at most 20 bytes", take_serial},
    {"num-queues", "N", "queues, each with a thread of its own (1)", take_num_queues},
    {"ready-fd", "N", "write 'ready' or 'error: LINE' there once", take_ready_fd},
    {"log-level", "LEVEL", "error, warning, info (default) or debug", take_log_level},
    {"no-sandbox", NULL, "do not confine the process (for debugging)", take_no_sandbox},
    {"help", NULL, "show this text", take_help},
    {"version", NULL, "show the version", take_version},
};

void settings_print_help(void)
{
    puts("Usage: bulkhead-blk (--socket-path=PATH | --fd=N | --listen-fd=N) (--image=PATH | --image-fd=N) "
         "[OPTION]...\n"
         "Serves a disk image as a vhost-user block device.\n");
    for (size_t i = 0; i < ARRAY_LEN(option_table); i++) {
        const struct option_row *row = &option_table[i];
        char left[40];

        snprintf(left, sizeof(left), "--%s%s%s", row->name, row->value ? "=" : "",
                 row->value ? row->value : "");
        printf("  %-22s %s\n", left, row->help);
    }
    puts("\nExample: bulkhead-blk --socket-path=/run/disk.sock --image=disk.raw --num-queues=2");
}

static const struct option_row *find_option(const char *name, size_t length)
{
    for (size_t i = 0; i < ARRAY_LEN(option_table); i++) {
        if (strlen(option_table[i].name) == length && strncmp(option_table[i].name, name, length) == 0)
            return &option_table[i];
    }
    return NULL;
}

/* One argument "--name" or "--name=value" (or its value is the next argument: *at moves on). */
static int parse_argument(int argc, char **argv, int *at, struct settings *settings, char *why,
                          size_t why_bytes)
{
    const char *argument = argv[*at];
    const char *name = argument + 2;
    size_t length = strcspn(name, "=");
    const char *value = name[length] ? name + length + 1 : NULL;
    const struct option_row *row = strncmp(argument, "--", 2) == 0 ? find_option(name, length) : NULL;
    int r;

    if (!row) {
        snprintf(why, why_bytes, "unknown option '%.60s'; see --help", argument);
        return -EINVAL;
    }
    if (row->value && !value && *at + 1 < argc)
        value = argv[++*at];
    if (!row->value != !value) {
        snprintf(why, why_bytes, "option --%s takes %s; see --help", row->name,
                 row->value ? "a value" : "no value");
        return -EINVAL;
    }
    why[0] = '\0';
    r = row->take(settings, value, why, why_bytes);
    if (r < 0 && !why[0])
        snprintf(why, why_bytes, "'%.60s' is not a value for --%s; see --help", value ? value : "",
                 row->name);
    return r;
}

static int check(const struct settings *settings, char *why, size_t why_bytes)
{
    int sockets =
        (settings->connected_fd >= 0) + (settings->listen_fd >= 0) + (settings->socket_path != NULL);
    int images = (settings->image_fd >= 0) + (settings->image_path != NULL);

    if (settings->help || settings->version)
        return 0;
    if (sockets != 1)
        snprintf(why, why_bytes, "give exactly one of --socket-path, --fd and --listen-fd");
    else if (images != 1)
        snprintf(why, why_bytes, "give exactly one of --image and --image-fd");
    else if (settings->readonly && settings->overlay_fd >= 0)
        snprintf(why, why_bytes, "--readonly and --overlay-fd exclude each other");
    else
        return 0;
    return -EINVAL;
}

int settings_parse(int argc, char **argv, struct settings *ret_settings, char *why, size_t why_bytes)
{
    *ret_settings = (struct settings){
        .connected_fd = -1,
        .listen_fd = -1,
        .image_fd = -1,
        .overlay_fd = -1,
        .ready_fd = -1,
        .serial = "",
        .num_queues = 1,
        .log_level = LOG_LEVEL_INFO,
        .sandbox = true,
    };
    for (int at = 1; at < argc; at++) {
        int r = parse_argument(argc, argv, &at, ret_settings, why, why_bytes);

        if (r < 0)
            return r;
    }
    return check(ret_settings, why, why_bytes);
}
