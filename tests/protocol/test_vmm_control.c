/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/vmm_control.h"

#include <glib.h>

/* Broken if it fails: a broker and a VMM of different builds no longer understand each other. */
static void test_golden(void)
{
    static const struct {
        enum vmm_control_kind kind;
        uint32_t device;
        const char *text, *bytes;
        size_t count;
    } rows[] = {
        {VMM_CONTROL_POWER_BUTTON, 0, NULL, "\x01\x00\x00\x00\x00\x00\x00\x00", 8},
        {VMM_CONTROL_RESET, 0, NULL, "\x02\x00\x00\x00\x00\x00\x00\x00", 8},
        {VMM_CONTROL_QUIT, 0, NULL, "\x03\x00\x00\x00\x00\x00\x00\x00", 8},
        {VMM_CONTROL_EV_RUNNING, 0, NULL, "\x40\x00\x00\x00\x00\x00\x00\x00", 8},
        {VMM_CONTROL_EV_RESET, 0, "0xcf9", "\x41\x00\x05\x00\x00\x00\x00\x00" "0xcf9", 13},
        {VMM_CONTROL_EV_SHUTDOWN, 0, NULL, "\x42\x00\x00\x00\x00\x00\x00\x00", 8},
        {VMM_CONTROL_EV_PANIC, 0, "why", "\x43\x00\x03\x00\x00\x00\x00\x00" "why", 11},
        {VMM_CONTROL_EV_DEVICE_LOST, 3, "eof", "\x44\x00\x03\x00\x03\x00\x00\x00" "eof", 11},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        uint8_t packet[VMM_CONTROL_PACKET_BYTES];
        size_t n = vmm_control_encode(rows[i].kind, rows[i].device, rows[i].text, packet);
        g_assert_cmpmem(packet, n, rows[i].bytes, rows[i].count);
        struct vmm_control_message message;
        int from_vmm = rows[i].kind >= VMM_CONTROL_EV_RUNNING;
        g_assert_cmpint(vmm_control_decode(packet, n, 0, from_vmm, &message), ==, 0);
        g_assert_cmpint(message.kind, ==, rows[i].kind);
        g_assert_cmpuint(message.device, ==, rows[i].device);
        g_assert_cmpstr(message.text, ==, rows[i].text ? rows[i].text : "");
        g_assert_cmpint(vmm_control_decode(packet, n, 0, !from_vmm, &message), ==, -EPROTO);
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
        {"\x42\x00\x00\x00\x00\x00\x00", 7},                        /* shorter than a header */
        {"\x00\x00\x00\x00\x00\x00\x00\x00", 8},                    /* no such kind */
        {"\xff\xff\x00\x00\x00\x00\x00\x00", 8},                    /* no such kind */
        {"\x42\x00\x00\x00\x00\x00\x00\x00" "x", 9},                /* more than it says */
        {"\x43\x00\x02\x00\x00\x00\x00\x00" "x", 9},                /* less than it says */
        {"\x43\x00\xff\xff\x00\x00\x00\x00" "x", 9},                /* far less than it says */
        {"\x42\x00\x01\x00\x00\x00\x00\x00" "x", 9},                /* a text where there is none */
        {"\x42\x00\x00\x00\x01\x00\x00\x00", 8},                    /* a device where there is none */
        {"\x44\x00\x00\x00\x20\x00\x00\x00", 8},                    /* a device that no machine has */
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
    g_assert_cmpuint(vmm_control_encode(VMM_CONTROL_EV_PANIC, 0, longer, packet), ==, VMM_CONTROL_PACKET_BYTES);
    g_assert_cmpint(vmm_control_decode(packet, VMM_CONTROL_PACKET_BYTES, 0, 1, &message), ==, 0);
    g_assert_cmpuint(strlen(message.text), ==, VMM_CONTROL_TEXT_BYTES);

    size_t n = vmm_control_encode(VMM_CONTROL_EV_PANIC, 0, "a\033[2Jb\nc\177", packet);
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
