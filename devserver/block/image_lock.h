/* SPDX-License-Identifier: Apache-2.0 */
/* The lock of an image: one writer or any number of readers, among processes that use OFD locks (QEMU does,
 * too). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* 0: `fd`'s open file holds the lock. -EAGAIN: another holds it; `holder` names who, as far as /proc tells.
 */
int image_lock(int fd, bool exclusive, char *holder, size_t holder_bytes);
