/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/options.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "protocol/base/units.h"
#include "protocol/cpu_words.h"

enum option_kind {
    OPTION_TEXT,
    OPTION_COUNT,
    OPTION_SIZE,
    OPTION_FD,
    OPTION_FILE, /* a path, opened for reading into the fd field */
    OPTION_LOG,
    OPTION_DEVICE,
    OPTION_CONSOLE,
    OPTION_CPU,
    OPTION_NO_SANDBOX,
    OPTION_HELP,
    OPTION_VERSION,
};

struct option_rule {
    const char *name, *argument, *help;
    enum option_kind kind;
    size_t offset; /* in struct options */
};

#define AT(field) offsetof(struct options, field)

static const struct option_rule rules[] = {
    {"memory", "SIZE", "guest RAM, e.g. 512M or 2G (default 512M)", OPTION_SIZE, AT(memory_bytes)},
    {"memory-fd", "N", "memfd that holds it (default: a new one)", OPTION_FD, AT(memory_fd)},
    {"cpus", "N", "number of vCPUs, 1 to 16 (default 1)", OPTION_COUNT, AT(cpus)},
    {"cpu", "MODEL[,{+|-}FEATURE]...", "v1, v2, v3, host or max and single features; 'help' lists them", OPTION_CPU,
     AT(cpu_model)},
    {"accel", "NAME", "what runs the vCPUs (default jit)", OPTION_TEXT, AT(accel)},
    {"kernel", "PATH", "bzImage, or ELF with a PVH entry", OPTION_FILE, AT(kernel_fd)},
    {"kernel-fd", "N", "the same as a descriptor", OPTION_FD, AT(kernel_fd)},
    {"initrd", "PATH", "initial RAM disk", OPTION_FILE, AT(initrd_fd)},
    {"initrd-fd", "N", "the same as a descriptor", OPTION_FD, AT(initrd_fd)},
    {"append", "TEXT", "kernel command line", OPTION_TEXT, AT(append)},
    {"console-fd", "N", "serial console: a stream socket, terminal or pipe (default 0 and 1)", OPTION_CONSOLE,
     0},
    {"control-fd", "N", "SOCK_SEQPACKET socket to the broker", OPTION_FD, AT(control_fd)},
    {"crash-fd", "N", "memfd of 256 KiB that takes a report if this program fails (default: standard error)", OPTION_FD,
     AT(crash_fd)},
    {"ready-fd", "N", "gets 'ready' or 'error: ...' and is closed", OPTION_FD, AT(ready_fd)},
    {"device", "kind=blk|net,fd=N|socket=PATH[,queues=M][,id=NAME]", "a vhost-user device", OPTION_DEVICE, 0},
    {"log-level", "LEVEL", "error, warning, info or debug (default info)", OPTION_LOG, AT(log_level)},
    {"no-sandbox", NULL, "do not confine the process (for debugging)", OPTION_NO_SANDBOX, 0},
    {"help", NULL, "print this", OPTION_HELP, 0},
    {"version", NULL, "print the version", OPTION_VERSION, 0},
};

struct parser {
    struct options *options;
    char *why;
    size_t why_bytes;
};

static int wrong(const struct parser *parser, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int wrong(const struct parser *parser, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(parser->why, parser->why_bytes, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

/* A whole decimal number. */
static int parse_number(const char *text, uint64_t *ret_value)
{
    char *end;

    if (!isdigit((unsigned char)*text))
        return -EINVAL;
    errno = 0;
    *ret_value = strtoull(text, &end, 10);
    return errno || *end ? -EINVAL : 0;
}

/* Bytes, or with one of the suffixes K, M, G in powers of 1024. */
static int parse_size(const char *text, uint64_t *ret_bytes)
{
    static const char suffixes[] = "KMG";
    char digits[24];
    size_t length = strlen(text);
    uint64_t unit = 1, value;

    if (length == 0 || length >= sizeof(digits))
        return -EINVAL;
    memcpy(digits, text, length + 1);
    const char *suffix = strchr(suffixes, toupper((unsigned char)digits[length - 1]));
    if (suffix && *suffix) {
        unit = UINT64_C(1) << (10 * (suffix - suffixes + 1));
        digits[length - 1] = 0;
    }
    if (parse_number(digits, &value) < 0 || __builtin_mul_overflow(value, unit, ret_bytes))
        return -EINVAL;
    return 0;
}

static int take_fd(const struct parser *parser, const char *what, const char *text, int *fd)
{
    int parsed = fd_parse(text);

    if (parsed < 0)
        return wrong(parser, "%s: '%s' is not an open descriptor", what, text);
    fd_close(fd);
    *fd = parsed;
    return 0;
}

static int open_file(const struct parser *parser, const char *what, const char *path, int *fd)
{
    int opened = open(path, O_RDONLY | O_CLOEXEC);

    if (opened < 0)
        return wrong(parser, "cannot open %s '%s': %s; check the path", what, path, strerror(errno));
    fd_close(fd);
    *fd = opened;
    return 0;
}

static int connect_socket(const struct parser *parser, const char *path, int *fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    cleanup_fd int connected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof(address.sun_path))
        return wrong(parser, "device socket path '%s' is too long", path);
    strcpy(address.sun_path, path);
    if (connected < 0 || connect(connected, (struct sockaddr *)&address, sizeof(address)) < 0)
        return wrong(parser, "cannot connect to the device server at '%s': %s; is it running?", path,
                     strerror(errno));
    fd_close(fd);
    *fd = fd_steal(&connected);
    return 0;
}

static int device_key(const struct parser *parser, struct device_option *device, const char *key,
                      const char *value, bool *has_kind)
{
    uint64_t number;

    if (strcmp(key, "kind") == 0) {
        *has_kind = true;
        if (strcmp(value, "blk") == 0)
            device->kind = DEVICE_BLK;
        else if (strcmp(value, "net") == 0)
            device->kind = DEVICE_NET;
        else
            return wrong(parser, "--device: kind '%s' is not blk or net", value);
        return 0;
    }
    if (strcmp(key, "fd") == 0)
        return take_fd(parser, "--device fd", value, &device->fd);
    if (strcmp(key, "socket") == 0)
        return connect_socket(parser, value, &device->fd);
    if (strcmp(key, "queues") == 0) {
        if (parse_number(value, &number) < 0 || number < 1 || number > 64)
            return wrong(parser, "--device: queues '%s' is not a number from 1 to 64", value);
        device->queues = (unsigned)number;
        return 0;
    }
    if (strcmp(key, "id") == 0) {
        if (strlen(value) >= sizeof(device->id))
            return wrong(parser, "--device: id '%s' is too long", value);
        strcpy(device->id, value);
        return 0;
    }
    return wrong(parser, "--device: unknown key '%s'; kind, fd, socket, queues and id exist", key);
}

static int parse_device(const struct parser *parser, char *text)
{
    struct options *options = parser->options;
    struct device_option *device = &options->devices[options->device_count];
    bool has_kind = false;
    char *save = NULL;

    if (options->device_count == VMM_CONTROL_DEVICES_MAX)
        return wrong(parser, "--device: at most %d devices", VMM_CONTROL_DEVICES_MAX);
    *device = (struct device_option){.fd = -1};
    snprintf(device->id, sizeof(device->id), "device%u", options->device_count);
    options->device_count++;
    for (char *pair = strtok_r(text, ",", &save); pair; pair = strtok_r(NULL, ",", &save)) {
        char *value = strchr(pair, '=');
        int result;

        if (!value)
            return wrong(parser, "--device: '%s' is not key=value", pair);
        *value++ = 0;
        result = device_key(parser, device, pair, value, &has_kind);
        if (result < 0)
            return result;
    }
    if (!has_kind || device->fd < 0)
        return wrong(parser, "--device: kind and one of fd or socket are needed");
    return 0;
}

static int parse_console(const struct parser *parser, const char *text)
{
    struct options *options = parser->options;
    int result = take_fd(parser, "--console-fd", text, &options->console_in);

    if (result < 0)
        return result;
    options->console_is_ours = true;
    /* 0 means the pair 0 and 1; anything else carries both directions. */
    options->console_out = options->console_in == STDIN_FILENO ? STDOUT_FILENO : options->console_in;
    return 0;
}

/* What the words come to is the accelerator's matter. */
static int parse_cpu(const struct parser *parser, const char *text)
{
    struct cpu_choice choice;

    parser->options->cpu_help = strcmp(text, "help") == 0;
    if (parser->options->cpu_help)
        return 1;
    parser->options->cpu_model = text;
    return cpu_choice_parse(text, &choice, parser->why, parser->why_bytes);
}

static void print_help(void)
{
    printf("Usage: bulkhead-vmm --kernel PATH [OPTION]...\n"
           "Runs one virtual machine; started by bulkheadd, or by hand:\n"
           "  bulkhead-vmm --kernel vmlinuz --initrd initrd.img --append console=ttyS0 --memory 512M\n\n");
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        printf("  --%s%s%s\n        %s\n", rules[i].name, rules[i].argument ? "=" : "",
               rules[i].argument ? rules[i].argument : "", rules[i].help);
}

static int apply(const struct parser *parser, const struct option_rule *rule, char *text)
{
    uint8_t *base = (uint8_t *)parser->options;
    void *field = base + rule->offset;
    uint64_t number;

    switch (rule->kind) {
    case OPTION_TEXT:
        *(const char **)field = text;
        return 0;
    case OPTION_COUNT:
        if (parse_number(text, &number) < 0 || number < 1 || number > 16)
            return wrong(parser, "--%s: '%s' is not a number from 1 to 16", rule->name, text);
        *(unsigned *)field = (unsigned)number;
        return 0;
    case OPTION_SIZE:
        if (parse_size(text, (uint64_t *)field) < 0)
            return wrong(parser, "--%s: '%s' is not a size; write for example 512M or 2G", rule->name, text);
        return 0;
    case OPTION_FD:
        return take_fd(parser, rule->name, text, field);
    case OPTION_FILE:
        return open_file(parser, rule->name, text, field);
    case OPTION_LOG:
        if (log_parse_level(text, field) < 0)
            return wrong(parser, "--%s: '%s' is not error, warning, info or debug", rule->name, text);
        return 0;
    case OPTION_DEVICE:
        return parse_device(parser, text);
    case OPTION_CONSOLE:
        return parse_console(parser, text);
    case OPTION_CPU:
        return parse_cpu(parser, text);
    case OPTION_NO_SANDBOX:
        parser->options->sandbox = false;
        return 0;
    case OPTION_HELP:
        print_help();
        return 1;
    case OPTION_VERSION:
        printf("bulkhead-vmm %s\n", BULKHEAD_VERSION);
        return 1;
    }
    return wrong(parser, "--%s: not handled", rule->name);
}

int options_parse(int argc, char **argv, struct options *ret_options, char *why, size_t why_bytes)
{
    struct parser parser = {.options = ret_options, .why = why, .why_bytes = why_bytes};
    struct option table[ARRAY_LEN(rules) + 1] = {0};
    int chosen;

    *ret_options = (struct options){
        .memory_bytes = 512 * MIB,
        .memory_fd = -1,
        .cpus = 1,
        .cpu_model = "",
        .accel = "jit",
        .kernel_fd = -1,
        .initrd_fd = -1,
        .append = "console=ttyS0",
        .console_in = -1,
        .console_out = -1,
        .control_fd = -1,
        .crash_fd = -1,
        .ready_fd = -1,
        .sandbox = true,
        .log_level = LOG_LEVEL_INFO,
    };
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        table[i] =
            (struct option){rules[i].name, rules[i].argument ? required_argument : no_argument, NULL, (int)i};
    opterr = 0;
    while ((chosen = getopt_long(argc, argv, ":", table, NULL)) != -1) {
        int result;

        if (chosen == ':')
            return wrong(&parser, "option '%s' needs a value; see --help", argv[optind - 1]);
        if (chosen == '?')
            return wrong(&parser, "unknown option '%s'; see --help", argv[optind - 1]);
        result = apply(&parser, &rules[chosen], optarg);
        if (result != 0)
            return result;
    }
    if (optind < argc)
        return wrong(&parser, "'%s' is not an option; see --help", argv[optind]);
    if (ret_options->kernel_fd < 0)
        return wrong(&parser, "no kernel: give --kernel PATH");
    if (!ret_options->console_is_ours) {
        ret_options->console_in = STDIN_FILENO;
        ret_options->console_out = STDOUT_FILENO;
    }
    return 0;
}

void options_finish(struct options *options)
{
    fd_close(&options->memory_fd);
    fd_close(&options->kernel_fd);
    fd_close(&options->initrd_fd);
    fd_close(&options->control_fd);
    fd_close(&options->crash_fd);
    fd_close(&options->ready_fd);
    for (unsigned i = 0; i < options->device_count; i++)
        fd_close(&options->devices[i].fd);
}
