/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resource: opens what a machine uses, with the client's rights, and says what is wrong in one line.
 *
 * The broker runs as the client's user (main.c refuses others), so the kernel's own checks at open(2) are the
 * client's. Nothing that is opened here is mapped, and no byte of it is read: contents are for the process that
 * serves them. All fds are returned owned and close-on-exec.
 *
 * Owner thread: any; no state.
 */
#pragma once

#include <stdint.h>
#include <sys/stat.h>

#include "broker/machine_spec.h"
#include "broker/reason.h"

/* A kernel or an initrd: a regular file that is not empty, read-only. `option` is named in the reason. */
int resource_open_boot_file(const char *option, const char *path, struct reason *reason);

/* Guest RAM: a memfd of that size, sealed against resizing and against other seals. */
int resource_create_memory(uint64_t bytes, struct reason *reason);

/* Shared memory of `bytes` for one child, sealed likewise; `name` is shown by the system. A negative errno. */
int resource_create_memfd(const char *name, uint64_t bytes);

/* Says who else of ours holds the file, as "machine NAME"; false if nobody. */
typedef bool (*resource_holder_fn)(void *opaque, const struct stat *st, char *name, size_t name_bytes);

/*
 * A disk image: a regular file or a block device of whole sectors. Read-only unless the disk is to be written to;
 * locked by an open-file-description lock, shared for readers, exclusive for a writer, that whoever gets the fd
 * keeps. *ret_stat identifies the file. Holders are asked of `holder`, then looked for in /proc.
 */
int resource_open_disk(const struct disk_spec *disk, resource_holder_fn holder, void *opaque,
                       struct stat *ret_stat, struct reason *reason);

/* Room for what an ephemeral disk writes: a file without a name in /var/tmp, empty. */
int resource_create_overlay(struct reason *reason);

/*
 * 0 when the port can be listened on now, for an early and clear refusal; who serves it binds it himself. `holder`
 * follows "in use" in the reason.
 */
int resource_check_port(const struct publish_spec *publish, const char *holder, struct reason *reason);
