/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_report: what a VMM that failed has left, as a file for people.
 *
 * The VMM writes into a memfd that it got at its start (--crash-fd): it can neither name the file nor fill the disk. When it
 * has ended, the text is copied, stripped of everything but printable characters and ends of lines, to
 * NAME-DATETTIMEZ.txt in the state directory's crashes/ (control_path.h). Sixteen are kept.
 *
 * Owner thread: any; no state.
 */
#pragma once

#include <limits.h>

/* Saves the report in `fd` of the machine `name`, if there is one. 1 and the file's path; 0 when there is none; a negative
 * errno (and the directory's path) when it cannot be written. */
int crash_report_save(int fd, const char *name, char path[PATH_MAX]);
