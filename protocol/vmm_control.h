/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm_control: the channel between the broker and one VMM.
 *
 * A connected SOCK_SEQPACKET Unix socket (`bulkhead-vmm --control-fd=N`); one packet is one message; only
 * DEVICE_SOCKET carries a descriptor. The broker sends commands, the VMM sends events, nobody answers. All integers
 * little-endian.
 *
 * A device's socket has a serial number: 0 for the one that the VMM started with, then that of its DEVICE_SOCKET. Events about
 * a device carry the serial of the socket that they speak of, so that a late one is not taken for the successor's.
 *
 *   message       sender  states             device  text           effect / what follows
 *   POWER_BUTTON  broker  any                0       none           ACPI power button; ignored before the guest runs
 *   RESET         broker  running            0       none           as if the guest wrote 0xcf9; answered by EV_RESET
 *   QUIT          broker  any                0       none           VMM stops its vCPUs and exits 0, no EV_SHUTDOWN
 *   DEVICE_SOCKET broker  running            index   none           go on with a successor of that device's server, at
 *                                                                   the socket that comes along; a server that still
 *                                                                   lives is left in order. Answered by
 *                                                                   EV_DEVICE_RESUMED or EV_DEVICE_REFUSED
 *   EV_RUNNING    VMM     starting->running  0       none           first message, once, when the vCPUs are started
 *   EV_RESET      VMM     running            0       why (may be 0) the machine starts again from its reset state
 *   EV_SHUTDOWN   VMM     running->ended     0       none           guest powered off; VMM exits 0 next
 *   EV_PANIC      VMM     any->ended         0       the cause      VMM cannot go on (internal error); exits 1 next
 *   EV_DEVICE_LOST VMM    any                index   the cause      --device number `device` (from 0) has no server;
 *                                                                   its driver waits for a successor
 *   EV_DEVICE_REFUSED VMM running            index   the cause      that successor cannot go on; still without server
 *   EV_DEVICE_FAILED VMM  any                index   the cause      the same, but no successor can help: that server
 *                                                                   did not track what is in flight
 *   EV_DEVICE_RESUMED VMM running            index   none           the successor serves the driver
 *
 * A packet that decodes to -EPROTO, or comes from the wrong side or in the wrong state, is a fault of the peer: the
 * VMM exits 1, the broker kills the VM. End of file: for the VMM the broker is gone, so it exits 1 at once (a VMM
 * never outlives its broker in this version); for the broker the VMM is ending, its pidfd tells how.
 *
 * A sender never blocks: sockets are non-blocking, a full socket (-EAGAIN) drops events other than EV_SHUTDOWN and
 * EV_PANIC, which the exit status repeats.
 *
 * Exit status of the VMM: 0 after EV_SHUTDOWN or QUIT, 1 otherwise.
 * Threads: the functions are pure; the callers own the socket.
 */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <endian.h>

enum vmm_control_kind {
    VMM_CONTROL_POWER_BUTTON = 1,
    VMM_CONTROL_RESET = 2,
    VMM_CONTROL_QUIT = 3,
    VMM_CONTROL_DEVICE_SOCKET = 4,

    VMM_CONTROL_EV_RUNNING = 64,
    VMM_CONTROL_EV_RESET = 65,
    VMM_CONTROL_EV_SHUTDOWN = 66,
    VMM_CONTROL_EV_PANIC = 67,
    VMM_CONTROL_EV_DEVICE_LOST = 68,
    VMM_CONTROL_EV_DEVICE_FAILED = 69,
    VMM_CONTROL_EV_DEVICE_RESUMED = 70,
    VMM_CONTROL_EV_DEVICE_REFUSED = 71,
};

#define VMM_CONTROL_HEADER_BYTES 12
#define VMM_CONTROL_TEXT_BYTES   240 /* longest text, without a terminator */
#define VMM_CONTROL_PACKET_BYTES (VMM_CONTROL_HEADER_BYTES + VMM_CONTROL_TEXT_BYTES)
#define VMM_CONTROL_DEVICES_MAX  32

/* --crash-fd: a memfd of this size, sealed against resizing, that the broker makes. A VMM that fails writes a report from its
 * start, text that ends with a zero byte; the broker reads it when the VMM has ended. Nothing there: no report. */
#define VMM_CONTROL_CRASH_BYTES (256 * 1024)

/* Host form. On the wire: le16 kind, le16 text bytes, le32 device, le32 serial, text (no terminator); nothing after it. */
struct vmm_control_message {
    enum vmm_control_kind kind;
    uint32_t device, serial;
    char text[VMM_CONTROL_TEXT_BYTES + 1]; /* UTF-8 or any bytes but control characters; terminated */
};

/* What a kind may carry; NULL for a kind that does not exist. */
struct vmm_control_rule {
    uint16_t kind;
    uint8_t from_vmm, has_device, has_text, has_fd;
    const char *name;
};

static inline const struct vmm_control_rule *vmm_control_rule(uint16_t kind)
{
    static const struct vmm_control_rule rules[] = {
        {VMM_CONTROL_POWER_BUTTON, 0, 0, 0, 0, "power-button"},
        {VMM_CONTROL_RESET, 0, 0, 0, 0, "reset"},
        {VMM_CONTROL_QUIT, 0, 0, 0, 0, "quit"},
        {VMM_CONTROL_DEVICE_SOCKET, 0, 1, 0, 1, "device-socket"},
        {VMM_CONTROL_EV_RUNNING, 1, 0, 0, 0, "running"},
        {VMM_CONTROL_EV_RESET, 1, 0, 1, 0, "reset"},
        {VMM_CONTROL_EV_SHUTDOWN, 1, 0, 0, 0, "shutdown"},
        {VMM_CONTROL_EV_PANIC, 1, 0, 1, 0, "panic"},
        {VMM_CONTROL_EV_DEVICE_LOST, 1, 1, 1, 0, "device-lost"},
        {VMM_CONTROL_EV_DEVICE_FAILED, 1, 1, 1, 0, "device-failed"},
        {VMM_CONTROL_EV_DEVICE_RESUMED, 1, 1, 0, 0, "device-resumed"},
        {VMM_CONTROL_EV_DEVICE_REFUSED, 1, 1, 1, 0, "device-refused"},
    };
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (rules[i].kind == kind) {
            return &rules[i];
        }
    }
    return NULL;
}

/*
 * Writes one packet. `text` may be NULL; longer texts are cut. Returns the packet's bytes
 * (<= VMM_CONTROL_PACKET_BYTES); send them with one send(fd, packet, n, MSG_NOSIGNAL | MSG_DONTWAIT).
 */
static inline size_t vmm_control_encode(enum vmm_control_kind kind, uint32_t device, uint32_t serial,
                                        const char *text, uint8_t packet[VMM_CONTROL_PACKET_BYTES])
{
    size_t text_bytes = text ? strnlen(text, VMM_CONTROL_TEXT_BYTES) : 0;
    uint16_t le_kind = htole16((uint16_t)kind), le_bytes = htole16((uint16_t)text_bytes);
    uint32_t le_device = htole32(device), le_serial = htole32(serial);
    memcpy(packet, &le_kind, 2);
    memcpy(packet + 2, &le_bytes, 2);
    memcpy(packet + 4, &le_device, 4);
    memcpy(packet + 8, &le_serial, 4);
    if (text_bytes) {
        memcpy(packet + VMM_CONTROL_HEADER_BYTES, text, text_bytes);
    }
    return VMM_CONTROL_HEADER_BYTES + text_bytes;
}

/*
 * Reads one packet of exactly `bytes` bytes as received, with `fds` descriptors, which stay the caller's. from_vmm:
 * which side must have sent it. Control characters in the text become '?'. 0, or -EPROTO with *ret_message untouched.
 */
static inline int vmm_control_decode(const uint8_t *packet, size_t bytes, size_t fds, int from_vmm,
                                     struct vmm_control_message *ret_message)
{
    if (bytes < VMM_CONTROL_HEADER_BYTES || bytes > VMM_CONTROL_PACKET_BYTES) {
        return -EPROTO;
    }
    uint16_t le_kind, le_bytes;
    uint32_t le_device, le_serial;
    memcpy(&le_kind, packet, 2);
    memcpy(&le_bytes, packet + 2, 2);
    memcpy(&le_device, packet + 4, 4);
    memcpy(&le_serial, packet + 8, 4);
    size_t text_bytes = le16toh(le_bytes);
    uint32_t device = le32toh(le_device);
    const struct vmm_control_rule *rule = vmm_control_rule(le16toh(le_kind));
    if (!rule || !rule->from_vmm != !from_vmm || text_bytes != bytes - VMM_CONTROL_HEADER_BYTES ||
        (text_bytes && !rule->has_text) || fds != rule->has_fd ||
        device >= (rule->has_device ? VMM_CONTROL_DEVICES_MAX : 1) || (le_serial && !rule->has_device)) {
        return -EPROTO;
    }
    ret_message->kind = (enum vmm_control_kind)rule->kind;
    ret_message->device = device;
    ret_message->serial = le32toh(le_serial);
    for (size_t i = 0; i < text_bytes; i++) {
        uint8_t c = packet[VMM_CONTROL_HEADER_BYTES + i];
        ret_message->text[i] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    ret_message->text[text_bytes] = '\0';
    return 0;
}
