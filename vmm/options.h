/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options: the command line of bulkhead-vmm, one table.
 *
 * The broker passes descriptors by number (--kernel-fd); a person at a shell passes paths (--kernel). Both
 * end as open descriptors here, so that nothing is opened by name later. A wrong option is one line on stderr
 * that names it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/log.h"
#include "protocol/vmm_control.h"

enum device_kind { DEVICE_BLK, DEVICE_NET };

struct device_option {
    enum device_kind kind;
    int fd;          /* connected vhost-user socket; owned */
    unsigned queues; /* 0: as many as the server offers */
    char id[32];     /* for messages */
};

struct options {
    uint64_t memory_bytes;
    int memory_fd; /* or -1: make one */
    unsigned cpus;
    const char *cpu_model; /* words of protocol/cpu_words.h, correct by themselves */
    bool cpu_help;         /* --cpu help: machine_cpu_help() answers */
    const char *accel;
    int kernel_fd, initrd_fd;
    const char *append;
    int console_in, console_out;
    bool console_is_ours; /* --console-fd was given; else standard input and output */
    int control_fd, ready_fd;
    int crash_fd; /* takes the report if this process fails, or -1 */
    bool sandbox;
    enum log_level log_level;
    unsigned device_count;
    struct device_option devices[VMM_CONTROL_DEVICES_MAX];
};

/* 0; 1 when there is nothing to run (--help and --version were answered, or cpu_help); -EINVAL with one line in `why`. Descriptors that were opened
 * stay in *ret_options in every case; options_finish() closes them. */
int options_parse(int argc, char **argv, struct options *ret_options, char *why, size_t why_bytes);
void options_finish(struct options *options);
