/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The payload of every vhost-user message, in hex, as the specification says (QEMU docs/interop/vhost-user.rst): for the
 * golden bytes test and for the fuzzers' seeds.
 */
#pragma once

#include "protocol/vhost_user.h"

struct golden {
    enum vhost_user_direction direction;
    uint32_t request;
    const char *payload; /* hex */
    unsigned fds;
    const char *reply; /* hex of the reply's payload; NULL: an acknowledgement only */
};

#define U64   "0807060504030201"
#define STATE "0100000002000000"
#define TO    VHOST_USER_TO_BACKEND
#define FROM  VHOST_USER_TO_FRONTEND
#define REGION1                                                                                              \
    "0000100000000000"                                                                                       \
    "0000200000000000"                                                                                       \
    "00000000007f0000"                                                                                       \
    "0010000000000000"
#define REGION2                                                                                              \
    "0000000001000000"                                                                                       \
    "0000400000000000"                                                                                       \
    "00000040007f0000"                                                                                       \
    "0000000000000000"
#define INFLIGHT                                                                                             \
    "0030000000000000"                                                                                       \
    "0000000000000000"                                                                                       \
    "0200"                                                                                                   \
    "8000"                                                                                                   \
    "00000000"
/* without the padding of QEMU's compiler */
#define INFLIGHT_SHORT                                                                                       \
    "0030000000000000"                                                                                       \
    "0000000000000000"                                                                                       \
    "0200"                                                                                                   \
    "8000"

static const struct golden goldens[] = {
    {TO, VHOST_USER_GET_FEATURES, "", 0, U64},
    {TO, VHOST_USER_SET_FEATURES, U64, 0, NULL},
    {TO, VHOST_USER_SET_OWNER, "", 0, NULL},
    {TO, VHOST_USER_RESET_OWNER, "", 0, NULL},
    {TO, VHOST_USER_SET_MEM_TABLE,
     "02000000"
     "00000000" REGION1 REGION2,
     2, NULL},
    {TO, VHOST_USER_SET_LOG_BASE,
     "0010000000000000"
     "0020000000000000",
     1, U64},
    {TO, VHOST_USER_SET_LOG_FD, "", 1, NULL},
    {TO, VHOST_USER_SET_VRING_NUM, STATE, 0, NULL},
    {TO, VHOST_USER_SET_VRING_ADDR,
     "01000000"
     "00000000"
     "0010000000000000"
     "0030000000000000"
     "0020000000000000"
     "0000000000000000",
     0, NULL},
    {TO, VHOST_USER_SET_VRING_BASE, STATE, 0, NULL},
    {TO, VHOST_USER_GET_VRING_BASE, "0100000000000000", 0, STATE},
    {TO, VHOST_USER_SET_VRING_KICK, "0100000000000000", 1, NULL},
    {TO, VHOST_USER_SET_VRING_CALL, "0101000000000000", 0, NULL},
    {TO, VHOST_USER_SET_VRING_ERR, "0300000000000000", 1, NULL},
    {TO, VHOST_USER_GET_PROTOCOL_FEATURES, "", 0, U64},
    {TO, VHOST_USER_SET_PROTOCOL_FEATURES, U64, 0, NULL},
    {TO, VHOST_USER_GET_QUEUE_NUM, "", 0, "0400000000000000"},
    {TO, VHOST_USER_SET_VRING_ENABLE, "0100000001000000", 0, NULL},
    {TO, VHOST_USER_SEND_RARP, "5254001234560000", 0, NULL},
    {TO, VHOST_USER_NET_SET_MTU, "dc05000000000000", 0, NULL},
    {TO, VHOST_USER_SET_BACKEND_REQ_FD, "", 1, NULL},
    {TO, VHOST_USER_IOTLB_MSG, U64 U64 U64 "0302000000000000", 0, NULL},
    {TO, VHOST_USER_SET_VRING_ENDIAN, "0100000001000000", 0, NULL},
    {TO, VHOST_USER_GET_CONFIG,
     "04000000"
     "02000000"
     "00000000"
     "0000",
     0,
     "04000000"
     "02000000"
     "00000000"
     "abcd"},
    {TO, VHOST_USER_SET_CONFIG,
     "20000000"
     "01000000"
     "00000000"
     "01",
     0, NULL},
    {TO, VHOST_USER_POSTCOPY_ADVISE, "", 0, U64},
    {TO, VHOST_USER_POSTCOPY_LISTEN, "", 0, NULL},
    {TO, VHOST_USER_POSTCOPY_END, "", 0, U64},
    {TO, VHOST_USER_GET_INFLIGHT_FD, INFLIGHT, 0, INFLIGHT},
    {TO, VHOST_USER_SET_INFLIGHT_FD, INFLIGHT, 1, NULL},
    {TO, VHOST_USER_GET_INFLIGHT_FD, INFLIGHT_SHORT, 0, INFLIGHT_SHORT},
    {TO, VHOST_USER_SET_INFLIGHT_FD, INFLIGHT_SHORT, 1, NULL},
    {TO, VHOST_USER_GPU_SET_SOCKET, "", 1, NULL},
    {TO, VHOST_USER_RESET_DEVICE, "", 0, NULL},
    {TO, VHOST_USER_VRING_KICK, "0100000000000000", 0, NULL},
    {TO, VHOST_USER_GET_MAX_MEM_SLOTS, "", 0, "fd01000000000000"},
    {TO, VHOST_USER_ADD_MEM_REG, "0000000000000000" REGION1, 1, NULL},
    {TO, VHOST_USER_REM_MEM_REG, "0000000000000000" REGION1, 0, NULL},
    {TO, VHOST_USER_SET_STATUS, "0f00000000000000", 0, NULL},
    {TO, VHOST_USER_GET_STATUS, "", 0, "0f00000000000000"},
    {TO, VHOST_USER_SET_DEVICE_STATE_FD,
     "01000000"
     "00000000",
     1, "0001000000000000"},
    {TO, VHOST_USER_CHECK_DEVICE_STATE, "", 0, "0000000000000000"},
    {TO, VHOST_USER_GET_VRING_BASE_SKIP_DRAIN, "0100000000000000", 0, STATE},
    {FROM, VHOST_USER_BACKEND_IOTLB_MSG, U64 U64 U64 "0301000000000000", 0, NULL},
    {FROM, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, "", 0, NULL},
    {FROM, VHOST_USER_BACKEND_VRING_HOST_NOTIFIER_MSG,
     "0100000000000000"
     "0010000000000000"
     "0000000000000000",
     1, NULL},
    {FROM, VHOST_USER_BACKEND_VRING_CALL, "0100000000000000", 0, NULL},
    {FROM, VHOST_USER_BACKEND_VRING_ERR, "0100000000000000", 0, NULL},
};
