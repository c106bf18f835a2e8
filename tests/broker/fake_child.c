/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for bulkhead-vmm, bulkhead-blk and bulkhead-net in the broker's tests: takes the same options, speaks the
 * same ready pipe and control channel, and does what a script says. The VMM's script is its "kernel", a device
 * server's is its image, if that begins with "#fake"; without one a server is ready and waits for the VMM to go.
 *
 * A script is a line per step:
 *   error TEXT      ready pipe: "error: TEXT", then exit 1        exit N, signal N   end so
 *   ready           ready pipe: "ready" (implied before others)   silent             wait for ever, never ready
 *   say TEXT        a line on the console                         flood N            N bytes on the console
 *   fds, args       print them on the console                     stderr TEXT        a line for the log
 *   echo            echo console input until the power button     deaf               ignore the power button, for ever
 *   shutdown, reset, panic TEXT, lost N TEXT, failed N, garbage, flood-control    on the control channel
 *   refuse N        refuse the next N successors of a device server; the others are accepted
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/base/fd.h"
#include "protocol/vmm_control.h"

static int ready_fd = -1, control_fd = -1, console_fd = -1, peer_fd = -1, script_fd = -1, crash_fd = -1;
static char **all_args;
static int successors_to_refuse;

static void say_ready(const char *line)
{
    if (ready_fd >= 0) {
        dprintf(ready_fd, "%s\n", line);
        close(ready_fd);
        ready_fd = -1;
    }
}

static void control_device(enum vmm_control_kind kind, uint32_t device, uint32_t serial, const char *text)
{
    uint8_t packet[VMM_CONTROL_PACKET_BYTES];
    size_t n = vmm_control_encode(kind, device, serial, text, packet);
    if (send(control_fd, packet, n, MSG_NOSIGNAL) < 0) {
        exit(1);
    }
}

static void control(enum vmm_control_kind kind, uint32_t device, const char *text)
{
    control_device(kind, device, 0, text);
}

/* Waits for the peer's end of file. */
static _Noreturn void wait_peer(void)
{
    char byte;
    while (read(peer_fd, &byte, 1) > 0 || errno == EINTR) {
    }
    exit(0);
}

/* A successor of a device server: its socket is held open, as a VMM does. */
static void take_successor(const struct vmm_control_message *command, int fd)
{
    uint32_t device = command->device;
    static int sockets[VMM_CONTROL_DEVICES_MAX]; /* plus 1 */
    if (successors_to_refuse-- > 0) {
        close(fd);
        control_device(VMM_CONTROL_EV_DEVICE_REFUSED, device, command->serial, "it lacks features");
        return;
    }
    if (sockets[device] > 0) {
        close(sockets[device] - 1);
    }
    sockets[device] = fd + 1;
    control_device(VMM_CONTROL_EV_DEVICE_RESUMED, device, command->serial, NULL);
}

/* Until the power button, or for ever; the broker's end always ends it. */
static void serve_control(int echo, int deaf)
{
    for (;;) {
        struct pollfd polls[] = {{control_fd, POLLIN, 0}, {echo ? console_fd : -1, POLLIN, 0}};
        if (poll(polls, 2, -1) < 0) {
            continue;
        }
        if (polls[0].revents) {
            uint8_t packet[VMM_CONTROL_PACKET_BYTES];
            struct vmm_control_message message;
            const struct iovec iov = {packet, sizeof(packet)};
            int fd = -1;
            size_t fds = 1;
            ssize_t n = fd_receive(control_fd, &iov, 1, &fd, &fds);
            if (n <= 0 || vmm_control_decode(packet, (size_t)n, fds, 0, &message) < 0) {
                exit(1);
            }
            if (message.kind == VMM_CONTROL_DEVICE_SOCKET) {
                take_successor(&message, fd);
            }
            if (message.kind == VMM_CONTROL_QUIT) {
                exit(0);
            }
            if (message.kind == VMM_CONTROL_POWER_BUTTON && !deaf) {
                return;
            }
        }
        if (polls[1].revents) {
            char bytes[512];
            ssize_t n = read(console_fd, bytes, sizeof(bytes));
            if (n > 0 && write(console_fd, bytes, (size_t)n) < 0) {
                exit(1);
            }
            echo = n > 0;
        }
    }
}

static void print_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *entry; (entry = readdir(dir));) {
        int fd = atoi(entry->d_name);
        char path[300], target[256];
        snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        if (entry->d_name[0] != '.' && fd != dirfd(dir) && n > 0) {
            target[n] = '\0';
            dprintf(console_fd, "fd %d %s\n", fd, target);
        }
    }
    closedir(dir);
}

static void flood(long bytes)
{
    static char line[64] = "0123456789012345678901234567890123456789012345678901234567890\r\n";
    for (; bytes > 0; bytes -= (long)sizeof(line) - 1) {
        if (write(console_fd, line, sizeof(line) - 1) < 0) {
            exit(1);
        }
    }
}

static void step(char *word, char *rest)
{
    if (strcmp(word, "error") == 0) {
        char text[300];
        snprintf(text, sizeof(text), "error: %s", rest);
        say_ready(text);
        exit(1);
    } else if (strcmp(word, "exit") == 0) {
        exit(atoi(rest));
    } else if (strcmp(word, "signal") == 0) {
        raise(atoi(rest));
    } else if (strcmp(word, "silent") == 0) {
        pause();
    } else if (strcmp(word, "stderr") == 0) {
        fprintf(stderr, "%s\n", rest);
    } else {
        say_ready("ready");
    }
    if (strcmp(word, "say") == 0) {
        dprintf(console_fd, "%s\n", rest);
    } else if (strcmp(word, "flood") == 0) {
        flood(atol(rest));
    } else if (strcmp(word, "fds") == 0) {
        print_fds();
    } else if (strcmp(word, "args") == 0) {
        for (char **arg = all_args; *arg; arg++) {
            dprintf(console_fd, "arg %s\n", *arg);
        }
    } else if (strcmp(word, "echo") == 0) {
        serve_control(1, 0);
    } else if (strcmp(word, "deaf") == 0) {
        serve_control(0, 1);
    } else if (strcmp(word, "shutdown") == 0) {
        control(VMM_CONTROL_EV_SHUTDOWN, 0, NULL);
        exit(0);
    } else if (strcmp(word, "reset") == 0) {
        control(VMM_CONTROL_EV_RESET, 0, "keyboard controller");
    } else if (strcmp(word, "panic") == 0) {
        control(VMM_CONTROL_EV_PANIC, 0, rest);
        exit(1);
    } else if (strcmp(word, "crash") == 0) {
        /* a report without an end that would drive a terminal, and no more room than there is */
        for (off_t at = 0; pwrite(crash_fd, "Crash\033[2J\n", 10, at) == 10; at += 10) {
        }
        raise(SIGSEGV);
    } else if (strcmp(word, "lost") == 0) {
        control(VMM_CONTROL_EV_DEVICE_LOST, (uint32_t)atoi(rest), "its server is gone");
    } else if (strcmp(word, "failed") == 0) {
        control(VMM_CONTROL_EV_DEVICE_FAILED, (uint32_t)atoi(rest), "it did not track what is in flight");
    } else if (strcmp(word, "refuse") == 0) {
        successors_to_refuse = atoi(rest);
    } else if (strcmp(word, "garbage") == 0) {
        send(control_fd, "garbage!", 8, MSG_NOSIGNAL);
        pause();
    } else if (strcmp(word, "flood-control") == 0) {
        for (int i = 0; i < 10000; i++) {
            control(VMM_CONTROL_EV_RESET, 0, "again");
        }
    }
}

static void take_option(const char *arg)
{
    static const struct {
        const char *name;
        int *fd;
    } options[] = {{"--ready-fd=", &ready_fd},     {"--control-fd=", &control_fd},
                   {"--console-fd=", &console_fd}, {"--kernel-fd=", &script_fd},
                   {"--image-fd=", &script_fd},    {"--fd=", &peer_fd},
                   {"--crash-fd=", &crash_fd}};
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        size_t n = strlen(options[i].name);
        if (strncmp(arg, options[i].name, n) == 0) {
            *options[i].fd = atoi(arg + n);
        }
    }
}

int main(int argc, char **argv)
{
    all_args = argv;
    for (int i = 1; i < argc; i++) {
        take_option(argv[i]);
    }
    static char script[4096];
    ssize_t n = script_fd < 0 ? 0 : pread(script_fd, script, sizeof(script) - 1, 0);
    if (n > 0 && strncmp(script, "#fake", 5) == 0) {
        strtok(script, "\n");
        for (char *line; (line = strtok(NULL, "\n"));) {
            char *rest = strchr(line, ' ');
            if (rest) {
                *rest++ = '\0';
            }
            step(line, rest ? rest : line);
        }
    }
    say_ready("ready");
    if (control_fd >= 0) {
        serve_control(0, 0);
        control(VMM_CONTROL_EV_SHUTDOWN, 0, NULL);
        return 0;
    }
    wait_peer();
}
