/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead-net: one network card, in a process of its own.
 *
 * Start: command line -> network and published ports (the last things that need names and privileges) ->
 * sandbox -> loop -> vhost-user. Everything that can go wrong before the loop is told in one line, on stderr
 * and, for who started us, on --ready-fd. The host's network stays open to it, because that is its job; see
 * user_net.h for which part.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "devserver/core/program.h"
#include "devserver/net/settings.h"
#include "protocol/base/sandbox.h"

#define KEEP_FDS_MAX (SETTINGS_PUBLISH_MAX + 8)
#define NOFILE_LIMIT (USER_NET_SOCKETS_MAX + 200)

static const struct sandbox_syscall_set *const syscall_sets[] = {
    &sandbox_syscalls_events, &sandbox_syscalls_messages, &devserver_syscalls,
    &program_syscalls,        &user_net_syscalls,         NULL,
};

/* As many descriptors as connections may take, or what the launcher lets us have. */
static struct sandbox_rlimit nofile_limit(void)
{
    struct rlimit now = {NOFILE_LIMIT, NOFILE_LIMIT};

    getrlimit(RLIMIT_NOFILE, &now);
    return (struct sandbox_rlimit){RLIMIT_NOFILE, now.rlim_max < NOFILE_LIMIT ? now.rlim_max : NOFILE_LIMIT};
}

static int enter_sandbox(const struct program_settings *program, const struct settings *settings,
                         const struct net_device *device, char *why, size_t why_bytes)
{
    char resolv_conf[RESOLVER_CONTENT_BYTES];
    const char *bad = NULL;
    int keep[KEEP_FDS_MAX];

    int servers = resolver_content(RESOLVER_PATH, settings->dns, settings->dns_count, resolv_conf,
                                   sizeof resolv_conf, &bad);
    if (servers < 0) {
        snprintf(why, why_bytes, "'%.60s' is no address of a name server", bad);
        return servers;
    }
    if (servers == 0)
        log_warning("no usable name server in %s: the guest's questions go to 127.0.0.1; use --dns",
                    RESOLVER_PATH);
    const struct sandbox_root_file files[] = {{RESOLVER_PATH, resolv_conf}};
    const struct sandbox_rlimit limits[] = {nofile_limit()};
    const struct sandbox_config config = {
        .flags = SANDBOX_HOST_NETWORK,
        .sets = syscall_sets,
        .keep_fds_count = net_device_list_fds(device, keep, KEEP_FDS_MAX - PROGRAM_SANDBOX_FDS),
        .rlimits = limits,
        .rlimits_count = 1,
        .root_files = files,
        .root_files_count = 1,
    };
    return program_enter_sandbox(program, config, keep, why, why_bytes);
}

static int serve(struct program_settings *program, struct net_device *device, char *why, size_t why_bytes)
{
    if (!user_net_can_ping())
        log_info(
            "the guest can ping its router only: the sysctl net.ipv4.ping_group_range leaves out group %u",
            getegid());
    return program_serve(program, net_device_server_config(device), why, why_bytes);
}

static int run(struct program_settings *program, void *opaque, char *why, size_t why_bytes)
{
    struct settings *settings = opaque;
    struct net_device *device = NULL;

    signal(SIGPIPE, SIG_IGN); /* libslirp writes to sockets whose peer may have gone */
    int ret = net_device_create(&settings->device, &device, why, why_bytes);
    if (ret < 0)
        return ret;
    if (program->sandbox)
        ret = enter_sandbox(program, settings, device, why, why_bytes);
    else if (settings->dns_count > 0)
        log_warning("--dns has no effect with --no-sandbox: libslirp reads %s", RESOLVER_PATH);
    if (ret == 0)
        ret = serve(program, device, why, why_bytes);
    net_device_destroy(device);
    return ret;
}

int main(int argc, char **argv)
{
    static const struct program program = {
        .command_line =
            {
                .program = "bulkhead-net",
                .usage = "",
                .summary = "A network card for one virtual machine (vhost-user), with the host's sockets as "
                           "its wire.",
                .example = "--socket-path=/run/user/1000/net.sock --publish=2222:22",
                .options = net_options,
                .option_count = NET_OPTIONS,
            },
        .run = run,
    };
    static struct settings settings;

    settings_init(&settings);
    return program_main(&program, argc, argv, &settings);
}
