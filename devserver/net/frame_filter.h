/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame_filter: which frames of the guest libslirp gets to see.
 *
 * libslirp parses what a hostile guest sends; each frame that it cannot use anyway is one that cannot break
 * it. Passed on are ARP for IPv4, and IPv4 and IPv6 packets whose lengths agree with the frame and that carry
 * TCP, UDP or ICMP without being fragments:
 *   - fragments, because the reassembly of libslirp 4.7.0 (Debian 12) follows a wild pointer on a hostile
 * sequence of them (tests/devserver/test_user_net.c, hostile-frames). A guest that knows our MTU has no need
 * to fragment;
 *   - NC-SI and other Ethernet types, TFTP, IPv6 extension headers, because nothing of ours uses them.
 *
 * Thread: no state. The frame is only read.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool frame_filter_pass(const uint8_t *frame, size_t bytes);
