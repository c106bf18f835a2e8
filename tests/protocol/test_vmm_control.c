/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/vmm_control.h"

#include <glib.h>

/* Broken if it fails: a broker and a VMM of different builds no longer understand each other. */
static void test_golden(void)
{
    static const struct {
        enum vmm_control_kind kind;
        uint32_t device, serial;
        const char *text, *bytes;
        size_t count;
    } rows[] = {
        {VMM_CONTROL_POWER_BUTTON, 0, 0, NULL, "\x01\0\0\0" "\0\0\0\0" "\0\0\0\0", 12},
        {VMM_CONTROL_RESET, 0, 0, NULL, "\x02\0\0\0" "\0\0\0\0" "\0\0\0\0", 12},
        {VMM_CONTROL_QUIT, 0, 0, NULL, "\x03\0\0\0" "\0\0\0\0" "\0\0\0\0", 12},
        {VMM_CONTROL_DEVICE_SOCKET, 2, 0x102, NULL, "\x04\0\0\0" "\x02\0\0\0" "\x02\x01\0\0", 12},
        {VMM_CONTROL_EV_RUNNING, 0, 0, NULL, "\x40\0\0\0" "\0\0\0\0" "\0\0\0\0", 12},
        {VMM_CONTROL_EV_RESET, 0, 0, "0xcf9", "\x41\0\x05\0" "\0\0\0\0" "\0\0\0\0" "0xcf9", 17},
        {VMM_CONTROL_EV_SHUTDOWN, 0, 0, NULL, "\x42\0\0\0" "\0\0\0\0" "\0\0\0\0", 12},
        {VMM_CONTROL_EV_PANIC, 0, 0, "why", "\x43\0\x03\0" "\0\0\0\0" "\0\0\0\0" "why", 15},
        {VMM_CONTROL_EV_DEVICE_LOST, 3, 7, "eof", "\x44\0\x03\0" "\x03\0\0\0" "\x07\0\0\0" "eof", 15},
        {VMM_CONTROL_EV_DEVICE_FAILED, 3, 0, "eof", "\x45\0\x03\0" "\x03\0\0\0" "\0\0\0\0" "eof", 15},
        {VMM_CONTROL_EV_DEVICE_RESUMED, 3, 1, NULL, "\x46\0\0\0" "\x03\0\0\0" "\x01\0\0\0", 12},
        {VMM_CONTROL_EV_DEVICE_REFUSED, 3, 1, "no", "\x47\0\x02\0" "\x03\0\0\0" "\x01\0\0\0" "no", 14},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        uint8_t packet[VMM_CONTROL_PACKET_BYTES];
        size_t n = vmm_control_encode(rows[i].kind, rows[i].device, rows[i].serial, rows[i].text, packet);
        g_assert_cmpmem(packet, n, rows[i].bytes, rows[i].count);
        struct vmm_control_message message;
        int from_vmm = rows[i].kind >= VMM_CONTROL_EV_RUNNING;
        size_t fds = rows[i].kind == VMM_CONTROL_DEVICE_SOCKET;
        g_assert_cmpint(vmm_control_decode(packet, n, fds, from_vmm, &message), ==, 0);
        g_assert_cmpint(message.kind, ==, rows[i].kind);
        g_assert_cmpuint(message.device, ==, rows[i].device);
        g_assert_cmpuint(message.serial, ==, rows[i].serial);
        g_assert_cmpstr(message.text, ==, rows[i].text ? rows[i].text : "");
        g_assert_cmpint(vmm_control_decode(packet, n, fds, !from_vmm, &message), ==, -EPROTO);
        g_assert_cmpint(vmm_control_decode(packet, n, !fds, from_vmm, &message), ==, -EPROTO);
    }
}

/* Broken if it fails: a confined VMM that was taken over could feed the broker what it does not expect. */
static void test_refused(void)
{
    static const struct {
        const char *bytes;
        size_t count;
    } rows[] = {
        {"", 0},
        {"\x42\0\0\0" "\0\0\0\0" "\0\0\0", 11},           /* shorter than a header */
        {"\0\0\0\0" "\0\0\0\0" "\0\0\0\0", 12},           /* no such kind */
        {"\xff\xff\0\0" "\0\0\0\0" "\0\0\0\0", 12},       /* no such kind */
        {"\x42\0\0\0" "\0\0\0\0" "\0\0\0\0" "x", 13},     /* more than it says */
        {"\x43\0\x02\0" "\0\0\0\0" "\0\0\0\0" "x", 13},   /* less than it says */
        {"\x43\0\xff\xff" "\0\0\0\0" "\0\0\0\0" "x", 13}, /* far less than it says */
        {"\x42\0\x01\0" "\0\0\0\0" "\0\0\0\0" "x", 13},   /* a text where there is none */
        {"\x42\0\0\0" "\x01\0\0\0" "\0\0\0\0", 12},       /* a device where there is none */
        {"\x42\0\0\0" "\0\0\0\0" "\x01\0\0\0", 12},       /* a serial where there is none */
        {"\x44\0\0\0" "\x20\0\0\0" "\0\0\0\0", 12},       /* a device that no machine has */
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct vmm_control_message message = {.device = 77};
        g_assert_cmpint(vmm_control_decode((const uint8_t *)rows[i].bytes, rows[i].count, 0, 1, &message), ==, -EPROTO);
        g_assert_cmpuint(message.device, ==, 77);
    }
    uint8_t packet[VMM_CONTROL_PACKET_BYTES + 1] = {0x43, 0, VMM_CONTROL_TEXT_BYTES + 1};
    struct vmm_control_message message;
    g_assert_cmpint(vmm_control_decode(packet, sizeof(packet), 0, 1, &message), ==, -EPROTO);
}

/* Broken if it fails: a VMM's words could drive the terminal of whoever reads them. */
static void test_text(void)
{
    char longer[400];
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    uint8_t packet[VMM_CONTROL_PACKET_BYTES];
    struct vmm_control_message message;
    g_assert_cmpuint(vmm_control_encode(VMM_CONTROL_EV_PANIC, 0, 0, longer, packet), ==, VMM_CONTROL_PACKET_BYTES);
    g_assert_cmpint(vmm_control_decode(packet, VMM_CONTROL_PACKET_BYTES, 0, 1, &message), ==, 0);
    g_assert_cmpuint(strlen(message.text), ==, VMM_CONTROL_TEXT_BYTES);

    size_t n = vmm_control_encode(VMM_CONTROL_EV_PANIC, 0, 0, "a\033[2Jb\nc\177", packet);
    g_assert_cmpint(vmm_control_decode(packet, n, 0, 1, &message), ==, 0);
    g_assert_cmpstr(message.text, ==, "a?[2Jb?c?");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vmm_control/golden", test_golden);
    g_test_add_func("/vmm_control/refused", test_refused);
    g_test_add_func("/vmm_control/text", test_text);
    return g_test_run();
}
