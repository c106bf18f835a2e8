/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. libslirp tells before each sleep, from scratch, which descriptors it waits for and for
 * what (slirp_pollfds_fill), and wants the answers by its own numbering (slirp_pollfds_poll). We keep an
 * epoll set in step with it: `watches`, by descriptor, remembers what epoll has; `slots`, by libslirp's
 * numbering, what came. Only differences cost a system call. A descriptor that libslirp opens or is about to
 * close is announced (register_poll_fd, unregister_poll_fd) and forgotten, so that a re-used number never
 * inherits an old watch.
 *
 * libslirp's clock is a global that only slirp_pollfds_poll() sets; user_net_input() sets it first when it is
 * stale, because new UDP sockets expire relative to it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libslirp.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "devserver/net/frame_filter.h"
#include "devserver/net/user_net.h"
#include "protocol/base/sandbox.h"
#include "protocol/base/units.h"

#define FDS_MAX           (USER_NET_SOCKETS_MAX + 256) /* all descriptors of the process are below */
#define EVENTS_PER_RUN    256
#define TIMERS_MAX        4
#define NS_PER_MS         1000000
#define SLIRP_EVENTS_DATA (SLIRP_POLL_IN | SLIRP_POLL_PRI | SLIRP_POLL_HUP)

struct watch {
    uint32_t registered; /* epoll events, 0: not in the set */
    uint32_t round;      /* of the last arm that wanted it */
    int slot;
};

struct slot {
    int fd;
    int ready; /* SLIRP_POLL_... */
};

struct timer {
    bool used;
    SlirpTimerId id;
    void *opaque;
    int64_t expires_ms; /* INT64_MAX: not running */
};

struct user_net {
    Slirp *slirp;
    const struct user_net_ops *ops;
    void *opaque;
    int epoll_fd, timer_fd;
    int64_t timer_armed_ms; /* when timer_fd will fire; INT64_MAX: not armed */
    int64_t clock_set_ms;   /* libslirp's idea of now */
    uint32_t round;
    bool room_for_guest;
    unsigned sockets;      /* open ones, but listeners */
    struct watch *watches; /* FDS_MAX, by descriptor */
    struct slot *slots;    /* FDS_MAX */
    int slots_count;
    int *armed, *armed_before; /* FDS_MAX: descriptors in the epoll set after this arm and the one before */
    int armed_count;
    bool *listeners; /* FDS_MAX, by descriptor: published ports */
    struct timer timers[TIMERS_MAX];
};

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * (int64_t)NS_PER_SEC + now.tv_nsec;
}

static int64_t now_ms(void)
{
    return now_ns() / NS_PER_MS;
}

/* --- what libslirp asks of us --- */

static ssize_t slirp_send_frame(const void *frame, size_t bytes, void *opaque)
{
    struct user_net *net = opaque;

    net->ops->frame(net->opaque, frame, bytes);
    return (ssize_t)bytes;
}

static void slirp_guest_error(const char *message, void *opaque)
{
    struct user_net *net = opaque;

    net->ops->guest_error(net->opaque, message);
}

static int64_t slirp_clock(void *opaque)
{
    return now_ns();
}

static void *slirp_timer_create(SlirpTimerId id, void *cb_opaque, void *opaque)
{
    struct user_net *net = opaque;

    for (unsigned i = 0; i < TIMERS_MAX; i++) {
        if (!net->timers[i].used) {
            net->timers[i] = (struct timer){true, id, cb_opaque, INT64_MAX};
            return &net->timers[i];
        }
    }
    return NULL; /* not reached: libslirp has SLIRP_TIMER_NUM of them */
}

static void slirp_timer_destroy(void *timer, void *opaque)
{
    if (timer)
        ((struct timer *)timer)->used = false;
}

static void slirp_timer_set(void *timer, int64_t expires_ms, void *opaque)
{
    if (timer)
        ((struct timer *)timer)->expires_ms = expires_ms;
}

static void forget_fd(struct user_net *net, int fd)
{
    if (fd < 0 || fd >= FDS_MAX)
        return;
    if (net->watches[fd].registered)
        epoll_ctl(net->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    net->watches[fd].registered = 0;
}

static void slirp_fd_opened(int fd, void *opaque)
{
    struct user_net *net = opaque;

    net->sockets++;
    forget_fd(net, fd);
}

static void slirp_fd_closing(int fd, void *opaque)
{
    struct user_net *net = opaque;

    if (net->sockets > 0)
        net->sockets--;
    forget_fd(net, fd);
}

static void slirp_notify(void *opaque)
{
    /* user_net_arm() runs before every sleep of the loop, so what libslirp can take next is always looked at.
     */
}

static const SlirpCb slirp_callbacks = {
    .send_packet = slirp_send_frame,
    .guest_error = slirp_guest_error,
    .clock_get_ns = slirp_clock,
    .timer_new_opaque = slirp_timer_create,
    .timer_free = slirp_timer_destroy,
    .timer_mod = slirp_timer_set,
    .register_poll_fd = slirp_fd_opened,
    .unregister_poll_fd = slirp_fd_closing,
    .notify = slirp_notify,
};

/* --- waiting --- */

static uint32_t to_epoll(int events)
{
    return (events & SLIRP_POLL_IN ? EPOLLIN : 0u) | (events & SLIRP_POLL_OUT ? EPOLLOUT : 0u) |
           (events & SLIRP_POLL_PRI ? EPOLLPRI : 0u) | (events & SLIRP_POLL_ERR ? EPOLLERR : 0u) |
           (events & SLIRP_POLL_HUP ? EPOLLHUP : 0u);
}

static int from_epoll(uint32_t events)
{
    return (events & EPOLLIN ? SLIRP_POLL_IN : 0) | (events & EPOLLOUT ? SLIRP_POLL_OUT : 0) |
           (events & EPOLLPRI ? SLIRP_POLL_PRI : 0) | (events & EPOLLERR ? SLIRP_POLL_ERR : 0) |
           (events & EPOLLHUP ? SLIRP_POLL_HUP : 0);
}

static void watch_fd(struct user_net *net, int fd, uint32_t events)
{
    struct watch *watch = &net->watches[fd];
    struct epoll_event event = {.events = events, .data.fd = fd};

    if (watch->registered != events) {
        int operation = watch->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
        int ret = epoll_ctl(net->epoll_fd, operation, fd, &event);
        if (ret < 0 && errno == EEXIST)
            ret = epoll_ctl(net->epoll_fd, EPOLL_CTL_MOD, fd, &event);
        else if (ret < 0 && errno == ENOENT)
            ret = epoll_ctl(net->epoll_fd, EPOLL_CTL_ADD, fd, &event);
        watch->registered = ret < 0 ? 0 : events;
    }
    if (watch->registered)
        net->armed[net->armed_count++] = fd;
}

static int add_poll(int fd, int events, void *opaque)
{
    struct user_net *net = opaque;

    if (fd < 0 || fd >= FDS_MAX || net->slots_count >= FDS_MAX || net->watches[fd].round == net->round)
        return -1;
    if (!net->room_for_guest)
        events &= ~SLIRP_EVENTS_DATA;
    if (net->listeners[fd] && net->sockets >= USER_NET_SOCKETS_MAX)
        events = 0;

    int slot = net->slots_count++;
    net->slots[slot] = (struct slot){fd, 0};
    net->watches[fd].slot = slot;
    net->watches[fd].round = net->round;
    /* epoll reports errors and hang-ups always: who waits for nothing else must not be in the set. */
    if (events & (SLIRP_POLL_IN | SLIRP_POLL_OUT | SLIRP_POLL_PRI))
        watch_fd(net, fd, to_epoll(events));
    else
        forget_fd(net, fd);
    return slot;
}

/* Wakes up no later than `deadline_ms`; an earlier wake-up that is set already stays, it costs less than a
 * call. */
static void arm_timer(struct user_net *net, int64_t deadline_ms)
{
    if (net->timer_armed_ms <= deadline_ms)
        return;
    struct itimerspec when = {
        .it_value = {.tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * NS_PER_MS}};
    timerfd_settime(net->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    net->timer_armed_ms = deadline_ms;
}

void user_net_arm(struct user_net *net, bool room_for_guest)
{
    uint32_t timeout_ms = UINT32_MAX;
    int *previous = net->armed;
    int previous_count = net->armed_count;

    net->armed = net->armed_before;
    net->armed_before = previous;
    net->armed_count = 0;
    net->slots_count = 0;
    net->round++;
    net->room_for_guest = room_for_guest;
    slirp_pollfds_fill(net->slirp, &timeout_ms, add_poll, net);
    for (int i = 0; i < previous_count; i++) {
        if (net->watches[previous[i]].round != net->round)
            forget_fd(net, previous[i]);
    }

    int64_t deadline_ms = timeout_ms == UINT32_MAX ? INT64_MAX : now_ms() + timeout_ms;
    for (unsigned i = 0; i < TIMERS_MAX; i++) {
        if (net->timers[i].used && net->timers[i].expires_ms < deadline_ms)
            deadline_ms = net->timers[i].expires_ms;
    }
    if (deadline_ms != INT64_MAX)
        arm_timer(net, deadline_ms < 1 ? 1 : deadline_ms);
}

static void run_timers(struct user_net *net)
{
    int64_t now = now_ms();

    for (unsigned i = 0; i < TIMERS_MAX; i++) {
        struct timer *timer = &net->timers[i];
        if (!timer->used || timer->expires_ms > now)
            continue;
        timer->expires_ms = INT64_MAX;
        slirp_handle_timer(net->slirp, timer->id, timer->opaque);
    }
}

static int slot_ready(int slot, void *opaque)
{
    struct user_net *net = opaque;

    return slot >= 0 && slot < net->slots_count ? net->slots[slot].ready : 0;
}

static void take_event(struct user_net *net, const struct epoll_event *event)
{
    int fd = event->data.fd;

    if (fd == net->timer_fd) {
        uint64_t expirations;
        if (read(net->timer_fd, &expirations, sizeof expirations) == sizeof expirations)
            net->timer_armed_ms = INT64_MAX;
        return;
    }
    struct watch *watch = &net->watches[fd];
    if (watch->registered && watch->round == net->round)
        net->slots[watch->slot].ready = from_epoll(event->events);
}

void user_net_run(struct user_net *net)
{
    struct epoll_event events[EVENTS_PER_RUN];

    int count = epoll_wait(net->epoll_fd, events, EVENTS_PER_RUN, 0);
    for (int i = 0; i < count; i++)
        take_event(net, &events[i]);
    net->clock_set_ms = now_ms();
    slirp_pollfds_poll(net->slirp, count < 0, slot_ready, net);
    for (int i = 0; i < net->slots_count; i++)
        net->slots[i].ready = 0;
    run_timers(net);
}

void user_net_input(struct user_net *net, const uint8_t *frame, size_t bytes)
{
    if (bytes > USER_NET_FRAME_BYTES_MAX || !frame_filter_pass(frame, bytes))
        return;
    int64_t now = now_ms();
    if (now != net->clock_set_ms) {
        net->clock_set_ms = now;
        slirp_pollfds_poll(net->slirp, 1, slot_ready, net); /* timers only */
    }
    slirp_input(net->slirp, frame, (int)bytes);
}

int user_net_fd(const struct user_net *net)
{
    return net->epoll_fd;
}

size_t user_net_list_fds(const struct user_net *net, int *fds, size_t max)
{
    size_t count = 0;

    for (int fd = 0; fd < FDS_MAX && count < max; fd++) {
        if (fd == net->epoll_fd || fd == net->timer_fd || net->listeners[fd])
            fds[count++] = fd;
    }
    return count;
}

bool user_net_can_ping(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* --- set-up --- */

static int publish_failed(const struct user_net_publish *publish, int error, char *why, size_t why_bytes)
{
    char address[INET_ADDRSTRLEN] = "?";
    const char *cure = "";

    inet_ntop(AF_INET, &publish->host_address, address, sizeof address);
    if (error == EADDRINUSE)
        cure = ": stop the program that holds it, or publish another port";
    else if (error == EACCES)
        cure = ": ports below net.ipv4.ip_unprivileged_port_start are root's, publish a higher one";
    else if (error == EADDRNOTAVAIL)
        cure = ": this host has no such address";
    snprintf(why, why_bytes, "cannot publish %s port %s:%u: %s%s", publish->udp ? "UDP" : "TCP", address,
             publish->host_port, strerror(error), cure);
    return -error;
}

static int add_publish(struct user_net *net, const struct user_net_publish *publish, char *why,
                       size_t why_bytes)
{
    const struct sockaddr_in host = {
        .sin_family = AF_INET, .sin_addr = publish->host_address, .sin_port = htons(publish->host_port)};
    const struct sockaddr_in guest = {.sin_family = AF_INET, .sin_port = htons(publish->guest_port)};

    errno = EIO;
    if (slirp_add_hostxfwd(net->slirp, (const struct sockaddr *)&host, sizeof host,
                           (const struct sockaddr *)&guest, sizeof guest,
                           publish->udp ? SLIRP_HOSTFWD_UDP : 0) < 0)
        return publish_failed(publish, errno, why, why_bytes);
    return 0;
}

static int note_listener(int fd, int events, void *opaque)
{
    struct user_net *net = opaque;

    if (fd >= 0 && fd < FDS_MAX) {
        net->listeners[fd] = true;
        listen(fd, SOMAXCONN); /* libslirp's queue has one place; without effect on UDP */
    }
    return -1;
}

static SlirpConfig slirp_config(const struct user_net_config *config)
{
    SlirpConfig slirp = {
        .version = 4,
        .in_enabled = true,
        .vnetwork.s_addr = htonl(0x0a000200),
        .vnetmask.s_addr = htonl(0xffffff00),
        .vhost.s_addr = htonl(0x0a000202),
        .vnameserver.s_addr = htonl(0x0a000203),
        .vdhcp_start.s_addr = htonl(0x0a00020f),
        .in6_enabled = config->ipv6,
        .vprefix_len = 64,
        .vhostname = config->hostname,
        .if_mtu = config->mtu_bytes,
        .if_mru = config->mtu_bytes,
        .disable_host_loopback = !config->host_loopback,
    };
    inet_pton(AF_INET6, "fec0::", &slirp.vprefix_addr6);
    inet_pton(AF_INET6, "fec0::2", &slirp.vhost6);
    inet_pton(AF_INET6, "fec0::3", &slirp.vnameserver6);
    return slirp;
}

static int create_waiting(struct user_net *net)
{
    net->watches = calloc(FDS_MAX, sizeof *net->watches);
    net->slots = calloc(FDS_MAX, sizeof *net->slots);
    net->armed = calloc(FDS_MAX, sizeof *net->armed);
    net->armed_before = calloc(FDS_MAX, sizeof *net->armed_before);
    net->listeners = calloc(FDS_MAX, sizeof *net->listeners);
    if (!net->watches || !net->slots || !net->armed || !net->armed_before || !net->listeners)
        return -ENOMEM;
    net->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    net->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = net->timer_fd};
    if (net->epoll_fd < 0 || net->timer_fd < 0 ||
        epoll_ctl(net->epoll_fd, EPOLL_CTL_ADD, net->timer_fd, &event) < 0)
        return -errno;
    return 0;
}

int user_net_create(const struct user_net_config *config, const struct user_net_ops *ops, void *opaque,
                    struct user_net **ret_net, char *why, size_t why_bytes)
{
    int ret;

    if (config->mtu_bytes < USER_NET_MTU_MIN || config->mtu_bytes > USER_NET_MTU_MAX) {
        snprintf(why, why_bytes, "an MTU of %u is not possible: use %u to %u", config->mtu_bytes,
                 USER_NET_MTU_MIN, USER_NET_MTU_MAX);
        return -EINVAL;
    }
    struct user_net *net = calloc(1, sizeof *net);
    if (!net) {
        snprintf(why, why_bytes, "no memory for the network");
        return -ENOMEM;
    }
    net->ops = ops;
    net->opaque = opaque;
    net->epoll_fd = net->timer_fd = -1;
    net->timer_armed_ms = INT64_MAX;
    net->clock_set_ms = -1;
    ret = create_waiting(net);
    if (ret < 0) {
        snprintf(why, why_bytes, "cannot set up the network's event loop: %s", strerror(-ret));
        goto fail;
    }
    SlirpConfig slirp = slirp_config(config);
    net->slirp = slirp_new(&slirp, &slirp_callbacks, net);
    if (!net->slirp) {
        ret = -EINVAL;
        snprintf(why, why_bytes, "libslirp %s refuses this network", slirp_version_string());
        goto fail;
    }
    for (size_t i = 0; i < config->publish_count; i++) {
        ret = add_publish(net, &config->publish[i], why, why_bytes);
        if (ret < 0)
            goto fail;
    }
    uint32_t timeout_ms = UINT32_MAX;
    slirp_pollfds_fill(net->slirp, &timeout_ms, note_listener, net);
    net->sockets = 0; /* those so far are listeners */
    *ret_net = net;
    return 0;

fail:
    user_net_destroy(net);
    return ret;
}

void user_net_destroy(struct user_net *net)
{
    if (!net)
        return;
    if (net->slirp)
        slirp_cleanup(net->slirp);
    if (net->timer_fd >= 0)
        close(net->timer_fd);
    if (net->epoll_fd >= 0)
        close(net->epoll_fd);
    free(net->watches);
    free(net->slots);
    free(net->armed);
    free(net->armed_before);
    free(net->listeners);
    free(net);
}

/* --- what the sandbox must leave us --- */

#define SOCKET_TYPE_MASK 0xfu /* without SOCK_CLOEXEC and SOCK_NONBLOCK */
#define ALLOW_SOCKET(domain, type)                                                                           \
    {                                                                                                        \
        SCMP_SYS(socket), 0, "a connection of the guest",                                                    \
        {                                                                                                    \
            {0, SANDBOX_INT, domain},                                                                        \
            {                                                                                                \
                1, SOCKET_TYPE_MASK, type                                                                    \
            }                                                                                                \
        }                                                                                                    \
    }
#define ALLOW_OPTION(level, option, why_)                                                                    \
    {                                                                                                        \
        SCMP_SYS(setsockopt), 0, why_,                                                                       \
        {                                                                                                    \
            {1, SANDBOX_INT, level},                                                                         \
            {                                                                                                \
                2, SANDBOX_INT, option                                                                       \
            }                                                                                                \
        }                                                                                                    \
    }

static const struct sandbox_syscall calls[] = {
    ALLOW_SOCKET(AF_INET, SOCK_STREAM),
    ALLOW_SOCKET(AF_INET, SOCK_DGRAM),
    ALLOW_SOCKET(AF_INET6, SOCK_STREAM),
    ALLOW_SOCKET(AF_INET6, SOCK_DGRAM),
    {SCMP_SYS(socket),
     EPERM,
     "libslirp tries it for ICMP without ping sockets",
     {{1, SOCKET_TYPE_MASK, SOCK_RAW}}},
    SANDBOX_ALLOW(connect, "TCP out"),
    SANDBOX_ALLOW(accept, "published ports"),
    SANDBOX_ALLOW(accept4, "published ports"),
    SANDBOX_ALLOW(getsockname, "published ports"),
    SANDBOX_ALLOW(getpeername, "has a connection failed?"),
    SANDBOX_ALLOW(getsockopt, "SO_ERROR"),
    SANDBOX_ALLOW(recvfrom, "data in"),
    SANDBOX_ALLOW(recvmsg, "UDP errors in"),
    SANDBOX_ALLOW(sendto, "data out"),
    SANDBOX_ALLOW(shutdown, "half-closed connections"),
    SANDBOX_ALLOW_IF(ioctl, 1, SANDBOX_INT, FIONREAD, "size of the next datagram"),
    ALLOW_OPTION(SOL_SOCKET, SO_REUSEADDR, "every socket of libslirp"),
    ALLOW_OPTION(SOL_SOCKET, SO_OOBINLINE, "TCP urgent data"),
    ALLOW_OPTION(IPPROTO_TCP, TCP_NODELAY, "TCP"),
    ALLOW_OPTION(IPPROTO_IP, IP_TTL, "UDP, traceroute"),
    ALLOW_OPTION(IPPROTO_IP, IP_RECVERR, "UDP errors"),
    ALLOW_OPTION(IPPROTO_IPV6, IPV6_UNICAST_HOPS, "UDP, traceroute"),
    ALLOW_OPTION(IPPROTO_IPV6, IPV6_RECVERR, "UDP errors"),
    /* The root holds /etc/resolv.conf only. */
    SANDBOX_ALLOW_IF(openat, 2, O_ACCMODE | O_CREAT, O_RDONLY, "libslirp re-reads /etc/resolv.conf"),
    SANDBOX_ALLOW(newfstatat, "has /etc/resolv.conf changed?"),
    SANDBOX_ALLOW(stat, "has /etc/resolv.conf changed?"),
    SANDBOX_ALLOW(epoll_ctl, "this module's own epoll set"),
    SANDBOX_ALLOW(epoll_wait, "this module's own epoll set"),
    SANDBOX_ALLOW(epoll_pwait, "this module's own epoll set"),
    SANDBOX_ALLOW(timerfd_settime, "libslirp's timers"),
};
const struct sandbox_syscall_set user_net_syscalls = SANDBOX_SET(calls);
