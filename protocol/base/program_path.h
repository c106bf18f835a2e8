/* SPDX-License-Identifier: Apache-2.0 */
/*
 * program_path: finds the project's other programs from the one that runs, installed or not.
 *
 * Looked for, in this order: in $BULKHEAD_PROGRAM_DIR if that is set; beside the running program; in the build
 * tree that the running program stands in; in libexecdir/bulkhead and bindir, relative to the running program (so that
 * a prefix may be moved) and then as configured.
 */
#pragma once

#include <limits.h>
#include <stddef.h>

/* Writes the path of program `name` ("bulkhead-vmm"). 0, or -ENOENT if it is nowhere, or another negative errno. */
int program_path(const char *name, char path[PATH_MAX]);
