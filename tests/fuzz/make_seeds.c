/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the fuzzers' seeds: one file per vhost-user message, one handshake, honest rings. Argument: fuzzer, folder. */
#include <glib.h>
#include <string.h>

#include "tests/devserver/net_client.h"
#include "tests/protocol/golden_messages.h"
#include "tests/protocol/ring_driver.h"

static void append_hex(GByteArray *bytes, const char *hex)
{
    for (; *hex; hex += 2) {
        guint8 byte = (guint8)(g_ascii_xdigit_value(hex[0]) << 4 | g_ascii_xdigit_value(hex[1]));

        g_byte_array_append(bytes, &byte, 1);
    }
}

static void write_seed(const char *folder, const char *name, const void *data, gsize bytes)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_autoptr(GError) error = NULL;

    if (!g_file_set_contents(path, data, (gssize)bytes, &error))
        g_error("%s", error->message);
}

/* A stream: cut byte, header, payload. */
static void vhost_user_seeds(const char *folder)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(goldens); i++) {
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        struct vhost_user_header header = {goldens[i].request, VHOST_USER_VERSION,
                                           (uint32_t)strlen(goldens[i].payload) / 2};
        guint8 first = goldens[i].direction == VHOST_USER_TO_FRONTEND ? 3 : 2;

        g_byte_array_append(bytes, &first, 1);
        g_byte_array_append(bytes, (const guint8 *)&header, sizeof(header));
        append_hex(bytes, goldens[i].payload);
        g_autofree char *name = g_strdup_printf("%u-%u", goldens[i].direction, goldens[i].request);
        write_seed(folder, name, bytes->data, bytes->len);
    }
}

static void append_message(GByteArray *bytes, guint8 kind, guint8 request, const char *payload)
{
    guint16 size = (guint16)(strlen(payload) / 2);
    guint8 head[] = {kind, request, 9, (guint8)size, (guint8)(size >> 8)};

    g_byte_array_append(bytes, head, sizeof(head));
    append_hex(bytes, payload);
}

#define QWORD(low) low "00000000"

/* One queue from the handshake to its end, with rings at 0x1000, 0x2000 and 0x3000 of a region at address 0. */
static void devserver_seeds(const char *folder)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    append_message(bytes, 0, VHOST_USER_GET_FEATURES, "");
    append_message(bytes, 0, VHOST_USER_SET_PROTOCOL_FEATURES, QWORD("09a20100"));
    append_message(bytes, 0, VHOST_USER_SET_FEATURES, QWORD("00000070"));
    append_message(bytes, 2, VHOST_USER_ADD_MEM_REG,
                   QWORD("00000000") QWORD("00000000") QWORD("00000100") QWORD("00000000") QWORD("00000000"));
    append_message(bytes, 0, VHOST_USER_SET_VRING_NUM, "0000000010000000");
    append_message(bytes, 0, VHOST_USER_SET_VRING_BASE, "0000000000000000");
    append_message(bytes, 0, VHOST_USER_SET_VRING_ADDR,
                   "0000000000000000" QWORD("00100000") QWORD("00300000") QWORD("00200000")
                       QWORD("00000000"));
    append_message(bytes, 1, VHOST_USER_SET_VRING_CALL, QWORD("00000000"));
    append_message(bytes, 1, VHOST_USER_SET_VRING_KICK, QWORD("00000000"));
    append_message(bytes, 0, VHOST_USER_SET_VRING_ENABLE, "0000000001000000");
    append_message(bytes, 0, VHOST_USER_GET_CONFIG, "00000000040000000000000000000000");
    append_message(bytes, 0, VHOST_USER_SET_STATUS, QWORD("0f000000"));
    append_message(bytes, 0, VHOST_USER_GET_VRING_BASE, "0000000000000000");
    append_message(bytes, 0, VHOST_USER_RESET_DEVICE, "");
    write_seed(folder, "session", bytes->data, bytes->len);
    g_byte_array_set_size(bytes, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(goldens); i++) {
        if (goldens[i].direction == VHOST_USER_TO_BACKEND)
            append_message(bytes, goldens[i].fds > 1 ? 4 : (guint8)goldens[i].fds, (guint8)goldens[i].request,
                           goldens[i].payload);
    }
    write_seed(folder, "all", bytes->data, bytes->len);
}

/* Choice bytes, then memory with rings at 0, 0x400 and 0x600. */
static void virtqueue_seeds(const char *folder)
{
    const struct ring_buffer buffers[] = {{0x900, 16, 0}, {0xf00, 0x300, RING_WRITE}, {0x800, 1, RING_WRITE}};

    for (unsigned packed = 0; packed < 2; packed++) {
        guint8 seed[4 + 4096 + 30] = {(guint8)(packed | 6 | 8), packed ? 15 : 4, 0, packed ? 0x80 : 0};
        struct ring_driver driver = {.memory = seed + 4, .wrap = true, .used_wrap = true};

        driver.config =
            (struct virtqueue_config){.size = 16, .packed = packed, .driver_gpa = 0x400, .device_gpa = 0x600};
        for (guint16 i = 0; i < 4; i++)
            ring_driver_add(&driver, buffers, 3, i);
        write_seed(folder, packed ? "packed" : "split", seed, sizeof(seed));
    }
}

/* A frame: options, length, bytes. */
static void add_frame(void *opaque, const uint8_t *frame, size_t bytes)
{
    const guint8 head[3] = {3, (guint8)bytes, (guint8)(bytes >> 8)};

    g_byte_array_append(opaque, head, sizeof(head));
    g_byte_array_append(opaque, frame, (guint)bytes);
}

/* What an honest guest sends first. */
static void user_net_seeds(const char *folder)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    struct net_client client;

    net_client_init(&client, 1500, add_frame, bytes);
    net_client_ask_router(&client);
    net_client_dhcp(&client, false);
    net_client_dhcp(&client, true);
    write_seed(folder, "dhcp", bytes->data, bytes->len);
    net_client_ping(&client, NET_CLIENT_ROUTER);
    net_client_udp(&client, NET_CLIENT_ROUTER, 9, "hello", 5);
    net_client_udp(&client, NET_CLIENT_DNS, 53, "name?", 5);
    write_seed(folder, "udp", bytes->data, bytes->len);
    net_client_tcp_connect(&client, NET_CLIENT_ROUTER, 9);
    write_seed(folder, "tcp", bytes->data, bytes->len);
}

/* Registers that point into memory, and some code per mode. */
static void x86_seeds(const char *folder)
{
    static const guint8 code[] = {
        0x48, 0x01, 0xd8, 0xf0, 0x0f, 0xb1, 0x0e, 0xf3, 0xa4, 0x66, 0x0f, 0x6f, 0x06, 0x0f, 0x58, 0xc1, 0xd9, 0xe8, 0xdd, 0x1f,
        0xf7, 0xf1, 0x0f, 0xa4, 0xd0, 0x11, 0xe8, 0x01, 0x00, 0x00, 0x00, 0x90, 0xc8, 0x10, 0x00, 0x01, 0xc9, 0xc3};
    for (guint8 mode = 0; mode < 8; mode++) {
        guint8 seed[2 + 32 + 64 + sizeof(code)] = {mode, mode & 1};
        for (unsigned i = 0; i < 16; i++)
            seed[2 + 2 * i + 1] = 0x40; /* all registers 0x4000 */
        for (unsigned i = 0; i < 64; i++)
            seed[34 + i] = (guint8)(i * 37);
        memcpy(seed + 98, code, sizeof(code));
        char name[] = {'m', 'o', 'd', 'e', (char)('0' + mode), 0};
        write_seed(folder, name, seed, sizeof(seed));
    }
}

/* Requests as test_control_channel.c has them, in frames behind the cut byte; and a packet of the VMM's channel. */
static void control_seeds(const char *folder)
{
    static const char *const requests[] = {
        "080112020801",
        ("08011a450a410a016e12022f6b1a022f6922016128023080808080103a0d0a022f641203726177180120014211"
         "0a047573657212090a023a3a10ae1118164a036a6974520276321001"),
        "08012200", "08012a060a016e10ac02", "080132030a016e", "08013a030a016e", "080142030a016e",
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(requests); i++) {
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        guint32 payload_bytes = GUINT32_TO_LE((guint32)strlen(requests[i]) / 2);

        append_hex(bytes, "03");
        g_byte_array_append(bytes, (const guint8 *)&payload_bytes, sizeof(payload_bytes));
        append_hex(bytes, requests[i]);
        g_autofree char *name = g_strdup_printf("request-%u", i);
        write_seed(folder, name, bytes->data, bytes->len);
    }
    write_seed(folder, "device-lost", "\x03\x44\0\3\0\3\0\0\0eof", 12);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *fuzzer;
        void (*write)(const char *folder);
    } table[] = {
        {"vhost_user", vhost_user_seeds},
        {"devserver", devserver_seeds},
        {"virtqueue", virtqueue_seeds},
        {"user_net", user_net_seeds},
        {"x86", x86_seeds},
        {"control", control_seeds},
    };

    g_assert_cmpint(argc, ==, 3);
    g_mkdir_with_parents(argv[2], 0755);
    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++) {
        if (strcmp(argv[1], table[i].fuzzer) == 0)
            table[i].write(argv[2]);
    }
    return 0;
}
