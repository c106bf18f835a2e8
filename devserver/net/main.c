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
#define WHY_BYTES    SANDBOX_WHY_BYTES
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

static int enter_sandbox(const struct settings *settings, const struct net_device *device, char *why,
                         size_t why_bytes)
{
    char resolv_conf[RESOLVER_CONTENT_BYTES];
    const char *bad = NULL;
    int keep[KEEP_FDS_MAX];
    struct sandbox *sandbox = NULL;

    int servers = resolver_content(RESOLVER_PATH, settings->dns, settings->dns_count, resolv_conf,
                                   sizeof resolv_conf, &bad);
    if (servers < 0) {
        snprintf(why, why_bytes, "'%.60s' is no address of a name server", bad);
        return servers;
    }
    if (servers == 0)
        log_warning("no usable name server in %s: the guest's questions go to 127.0.0.1; use --dns",
                    RESOLVER_PATH);
    size_t count = net_device_list_fds(device, keep, KEEP_FDS_MAX - 3);
    for (unsigned i = 0; i < 3; i++) {
        int fd = (const int[]){settings->connected_fd, settings->listen_fd, settings->ready_fd}[i];
        if (fd >= 0)
            keep[count++] = fd;
    }
    const struct sandbox_root_file files[] = {{RESOLVER_PATH, resolv_conf}};
    const struct sandbox_rlimit limits[] = {nofile_limit()};
    const struct sandbox_config config = {
        .flags = SANDBOX_HOST_NETWORK,
        .sets = syscall_sets,
        .keep_fds = keep,
        .keep_fds_count = count,
        .rlimits = limits,
        .rlimits_count = 1,
        .root_files = files,
        .root_files_count = 1,
    };
    int ret = sandbox_prepare(&config, &sandbox, why, why_bytes);
    if (ret == 0)
        ret = sandbox_enter(sandbox, why, why_bytes);
    sandbox_destroy(sandbox);
    if (ret > 0)
        log_warning("%s", why);
    return ret < 0 ? ret : 0;
}

static int run(struct settings *settings, char *why, size_t why_bytes)
{
    struct net_device *device = NULL;
    int ret;

    signal(SIGPIPE, SIG_IGN); /* libslirp writes to sockets whose peer may have gone */
    if (settings->socket_path) {
        ret = settings->listen_fd = program_listen(settings->socket_path, why, why_bytes);
        if (ret < 0)
            return ret;
    }
    ret = net_device_create(&settings->device, &device, why, why_bytes);
    if (ret < 0)
        return ret;
    if (settings->sandbox)
        ret = enter_sandbox(settings, device, why, why_bytes);
    else if (settings->dns_count > 0)
        log_warning("--dns has no effect with --no-sandbox: libslirp reads %s", RESOLVER_PATH);
    if (ret == 0 && !user_net_can_ping())
        log_info(
            "the guest can ping its router only: the sysctl net.ipv4.ping_group_range leaves out group %u",
            getegid());
    if (ret == 0) {
        struct devserver_config config = net_device_server_config(device);
        config.connected_fd = settings->connected_fd;
        config.listen_fd = settings->listen_fd;
        ret = program_serve(&config, &settings->ready_fd, why, why_bytes);
    }
    net_device_destroy(device);
    return ret;
}

int main(int argc, char **argv)
{
    static struct settings settings;
    char why[WHY_BYTES] = "";

    log_init("bulkhead-net", LOG_LEVEL_INFO);
    int ret = settings_parse(argc, argv, &settings, why, sizeof why);
    if (ret == 0 && settings.help) {
        settings_print_help();
        return EXIT_SUCCESS;
    }
    if (ret == 0 && settings.version) {
        printf("bulkhead-net %s\n", BULKHEAD_VERSION);
        return EXIT_SUCCESS;
    }
    log_set_level(settings.log_level);
    if (ret == 0)
        ret = run(&settings, why, sizeof why);
    if (ret < 0)
        program_say_ready(&settings.ready_fd, why);
    return ret < 0 ? PROGRAM_EXIT_CANNOT_START : EXIT_SUCCESS;
}
