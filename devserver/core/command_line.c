/* SPDX-License-Identifier: Apache-2.0 */
#include "devserver/core/command_line.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/fd.h"
#include "protocol/base/units.h"

#define FAULT_BYTES 256

/* --- values ---------------------------------------------------------------------------------------------- */

int command_line_take_fd(int *slot, const char *value, char *why, size_t why_bytes)
{
    int fd = fd_parse(value);

    if (fd == -EBADF)
        snprintf(why, why_bytes, "descriptor %s is not open: pass it through exec", value);
    if (fd < 0)
        return -EINVAL;
    *slot = fd;
    return 0;
}

int command_line_take_number(unsigned *slot, const char *value, unsigned min, unsigned max, const char *what,
                             char *why, size_t why_bytes)
{
    char *end;
    unsigned long number = strtoul(value, &end, 10);

    if (value[0] < '0' || value[0] > '9' || *end || number < min || number > max) {
        snprintf(why, why_bytes, "'%.40s' is no %s: use %u to %u", value, what, min, max);
        return -EINVAL;
    }
    *slot = (unsigned)number;
    return 0;
}

/* --- the options of every server --------------------------------------------------------------------------- */

static int take_fd(void *settings, const char *value, char *why, size_t why_bytes)
{
    struct program_settings *program = settings;
    return command_line_take_fd(&program->connected_fd, value, why, why_bytes);
}

static int take_listen_fd(void *settings, const char *value, char *why, size_t why_bytes)
{
    struct program_settings *program = settings;
    return command_line_take_fd(&program->listen_fd, value, why, why_bytes);
}

static int take_ready_fd(void *settings, const char *value, char *why, size_t why_bytes)
{
    struct program_settings *program = settings;
    return command_line_take_fd(&program->ready_fd, value, why, why_bytes);
}

static int take_socket_path(void *settings, const char *value, char *why, size_t why_bytes)
{
    ((struct program_settings *)settings)->socket_path = value;
    return 0;
}

static int take_log_level(void *settings, const char *value, char *why, size_t why_bytes)
{
    return log_parse_level(value, &((struct program_settings *)settings)->log_level);
}

static int take_no_sandbox(void *settings, const char *value, char *why, size_t why_bytes)
{
    ((struct program_settings *)settings)->sandbox = false;
    return 0;
}

static int take_help(void *settings, const char *value, char *why, size_t why_bytes)
{
    ((struct program_settings *)settings)->help = true;
    return 0;
}

static int take_version(void *settings, const char *value, char *why, size_t why_bytes)
{
    ((struct program_settings *)settings)->version = true;
    return 0;
}

static const struct command_option socket_options[] = {
    {"socket-path", "PATH", "listen for front-ends there, one after the other", take_socket_path},
    {"listen-fd", "N", "the same, on this listening socket", take_listen_fd},
    {"fd", "N", "serve this connected socket, and end with it", take_fd},
};

static const struct command_option process_options[] = {
    {"ready-fd", "N", "write 'ready' or 'error: LINE' there once", take_ready_fd},
    {"log-level", "LEVEL", "error, warning, info (default) or debug", take_log_level},
    {"no-sandbox", NULL, "do not confine the process (for debugging)", take_no_sandbox},
    {"help", NULL, "show this text", take_help},
    {"version", NULL, "show the version", take_version},
};

/* --- parsing ----------------------------------------------------------------------------------------------- */

/* One table and what its options are about. */
struct option_group {
    const struct command_option *options;
    size_t count;
    void *settings;
};

#define GROUPS 3

static const struct command_option *find_in(const struct option_group *group, const char *name, size_t length)
{
    for (size_t i = 0; i < group->count; i++) {
        const struct command_option *option = &group->options[i];

        if (strlen(option->name) == length && strncmp(option->name, name, length) == 0)
            return option;
    }
    return NULL;
}

/* The option "--name" or "--name=value" and its group; NULL if there is none. */
static const struct command_option *find_option(const struct option_group groups[GROUPS],
                                                const char *argument, void **ret_settings)
{
    const struct command_option *option = NULL;

    if (strncmp(argument, "--", 2) != 0)
        return NULL;
    for (unsigned i = 0; i < GROUPS && !option; i++) {
        option = find_in(&groups[i], argument + 2, strcspn(argument + 2, "="));
        *ret_settings = groups[i].settings;
    }
    return option;
}

/* One argument; its value may be the next one, then *at moves on. */
static int parse_argument(const struct option_group groups[GROUPS], char **argv, int *at, char *why,
                          size_t why_bytes)
{
    const char *argument = argv[*at];
    const char *equals = strchr(argument, '=');
    const char *value = equals ? equals + 1 : NULL;
    void *settings = NULL;
    const struct command_option *option = find_option(groups, argument, &settings);

    if (!option) {
        snprintf(why, why_bytes, "unknown option '%.60s'; see --help", argument);
        return -EINVAL;
    }
    if (option->value && !value && argv[*at + 1])
        value = argv[++*at];
    if (!option->value != !value) {
        snprintf(why, why_bytes, "option --%s %s; see --help", option->name,
                 option->value ? "needs a value" : "takes no value");
        return -EINVAL;
    }
    why[0] = '\0';
    int r = option->take(settings, value, why, why_bytes);
    if (r < 0 && !why[0])
        snprintf(why, why_bytes, "'%.60s' is not a value for --%s; see --help", value ? value : "",
                 option->name);
    return r;
}

static int check_sockets(const struct program_settings *program, char *why, size_t why_bytes)
{
    int sockets = (program->connected_fd >= 0) + (program->listen_fd >= 0) + (program->socket_path != NULL);

    if (sockets == 1 || program->help || program->version)
        return 0;
    snprintf(why, why_bytes, "%s: give one of --socket-path, --fd and --listen-fd",
             sockets ? "more than one socket" : "no socket");
    return -EINVAL;
}

int command_line_parse(const struct command_line *line, int argc, char **argv,
                       struct program_settings *ret_program, void *settings, char *why, size_t why_bytes)
{
    const struct option_group groups[GROUPS] = {
        {socket_options, ARRAY_LEN(socket_options), ret_program},
        {line->options, line->option_count, settings},
        {process_options, ARRAY_LEN(process_options), ret_program},
    };
    char later[FAULT_BYTES];
    int r = 0;

    *ret_program = (struct program_settings){
        .connected_fd = -1, .listen_fd = -1, .ready_fd = -1, .log_level = LOG_LEVEL_INFO, .sandbox = true};
    for (int at = 1; at < argc; at++) {
        int fault =
            parse_argument(groups, argv, &at, r == 0 ? why : later, r == 0 ? why_bytes : sizeof(later));
        r = r == 0 ? fault : r;
    }
    return r == 0 ? check_sockets(ret_program, why, why_bytes) : r;
}

static void print_options(const struct command_option *options, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char left[40];

        snprintf(left, sizeof(left), "--%s%s%s", options[i].name, options[i].value ? "=" : "",
                 options[i].value ? options[i].value : "");
        printf("  %-22s %s\n", left, options[i].help);
    }
}

void command_line_print_help(const struct command_line *line)
{
    printf("Usage: %s (--socket-path=PATH | --listen-fd=N | --fd=N)%s%s [OPTION]...\n%s\n\n", line->program,
           line->usage[0] ? " " : "", line->usage, line->summary);
    print_options(socket_options, ARRAY_LEN(socket_options));
    print_options(line->options, line->option_count);
    print_options(process_options, ARRAY_LEN(process_options));
    printf("\nExample: %s %s\n", line->program, line->example);
}
