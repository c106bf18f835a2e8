/* SPDX-License-Identifier: Apache-2.0 */
/* The SIGBUS guard's side of memory_map.h. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Watches [mapping, mapping + bytes). A slot number, or -1 when the guard is not installed or has no room. */
int memory_guard_add(void *mapping, size_t bytes);
/* Before the munmap. Accepts -1. */
void memory_guard_remove(int slot);
bool memory_guard_lost(int slot);
bool memory_guard_installed(void);
