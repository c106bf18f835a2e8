/* SPDX-License-Identifier: Apache-2.0 */
/*
 * terminal: raw mode while a person runs bulkhead-vmm by hand, so that the guest gets every key. Ctrl-] ends
 * the machine (console.h). Under the broker the console is no terminal and nothing happens here.
 */
#pragma once

/* 0 and remembered; -ENOTTY when `fd` is no terminal. */
int terminal_set_raw(int fd);
/* Undoes it; harmless when nothing was set. */
void terminal_restore(void);
