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
    /* vpaddd, vaddps, vpextrd, vpcmpistri, vcvtps2ph, vfmadd213ps, vperm2i128, vpsllvd, vmaskmovps, vgatherdps, vzeroupper */
    static const guint8 vex[] = {
        0xc5, 0xf5, 0xfe, 0x06, 0xc5, 0xfc, 0x58, 0xc1, 0xc4, 0xe3, 0x79, 0x16, 0xc1, 0x02, 0xc4, 0xe3, 0x79, 0x63, 0x0e, 0x0c,
        0xc4, 0xe3, 0x7d, 0x1d, 0x0e, 0x04, 0xc4, 0xe2, 0x6d, 0xa8, 0x0e, 0xc4, 0xe3, 0x75, 0x46, 0xc2, 0x31, 0xc4, 0xe2, 0x75,
        0x47, 0xc2, 0xc4, 0xe2, 0x75, 0x2e, 0x16, 0xc4, 0xe2, 0x75, 0x92, 0x04, 0x1e, 0xc5, 0xf8, 0x77, 0xc3};
    for (guint8 mode = 0; mode < 8; mode++) {
        guint8 seed[2 + 32 + 64 + MAX(sizeof(code), sizeof(vex))] = {mode, mode & 1};
        for (unsigned i = 0; i < 16; i++)
            seed[2 + 2 * i + 1] = 0x40; /* all registers 0x4000 */
        for (unsigned i = 0; i < 64; i++)
            seed[34 + i] = (guint8)(i * 37);
        memcpy(seed + 98, code, sizeof(code));
        char name[] = {'m', 'o', 'd', 'e', (char)('0' + mode), 0};
        write_seed(folder, name, seed, 98 + sizeof(code));
        memcpy(seed + 98, vex, sizeof(vex));
        seed[1] |= 12; /* all features, AVX state enabled, exceptions masked */
        name[0] = 'v';
        write_seed(folder, name, seed, 98 + sizeof(vex));
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

static void put(guint8 *bytes, gsize offset, guint64 value, gsize size)
{
    value = GUINT64_TO_LE(value);
    memcpy(bytes + offset, &value, size);
}

/* The smallest bzImage and PVH kernel that load, behind the byte that chooses memory and initrd. */
static void boot_seeds(const char *folder)
{
    guint8 image[1 + 1024 + 256] = {3}, elf[1 + 64 + 56 * 2 + 20 + 16] = {0};
    guint8 *bz = image + 1, *e = elf + 1, *load = e + 64, *note = e + 64 + 56, *xen = e + 64 + 112;

    put(bz, 0x1f1, 1, 1);
    put(bz, 0x1f4, 16, 4);
    put(bz, 0x200, 0x6aeb, 2);
    memcpy(bz + 0x202, "HdrS", 4);
    put(bz, 0x206, 0x20f, 2);
    put(bz, 0x22c, 0x7fffffff, 4);
    put(bz, 0x230, 0x200000, 4);
    put(bz, 0x234, 0x10001, 4);
    put(bz, 0x238, 2047, 4);
    put(bz, 0x258, 0x1000000, 8);
    put(bz, 0x260, 0x100000, 4);
    write_seed(folder, "bzimage", image, sizeof(image));

    memcpy(e, "\177ELF\2\1\1", 7);
    put(e, 18, 62, 2);
    put(e, 32, 64, 8);
    put(e, 54, 56, 2);
    put(e, 56, 2, 2);
    put(load, 0, 1, 4);
    put(load, 8, 64 + 112 + 20, 8);
    put(load, 24, 0x200000, 8);
    put(load, 32, 16, 8);
    put(load, 40, 4096, 8);
    put(note, 0, 4, 4);
    put(note, 8, 64 + 112, 8);
    put(note, 32, 20, 8);
    put(note, 48, 4, 8);
    put(xen, 0, 4, 4);
    put(xen, 4, 4, 4);
    put(xen, 8, 18, 4);
    memcpy(xen + 12, "Xen", 4);
    put(xen, 16, 0x200000, 4);
    write_seed(folder, "pvh", elf, sizeof(elf));
}

/* A driver that brings the virtio function up and takes it down, in steps of fuzz_board.c. */
static void board_seeds(const char *folder)
{
    static const struct {
        guint8 kind, size, window, cpu;
        guint32 offset;
        guint64 value;
    } steps[] = {
        {3, 1, 2, 0, 4, 6},            /* memory and bus master on */
        {3, 0, 3, 0, 0x14, 1},         /* status: acknowledge, driver */
        {3, 0, 3, 0, 0x14, 3},
        {3, 2, 3, 0, 0x08, 1},         /* VERSION_1 */
        {3, 2, 3, 0, 0x0c, 1},
        {3, 0, 3, 0, 0x14, 0xb},
        {3, 1, 3, 0, 0x1a, 1},         /* queue 0: vector, areas, enable */
        {3, 3, 3, 0, 0x20, 0x100000},
        {3, 3, 3, 0, 0x28, 0x101000},
        {3, 3, 3, 0, 0x30, 0x102000},
        {3, 1, 3, 0, 0x1c, 1},
        {3, 3, 3, 0, 0x3010, 0xfee00000}, /* MSI-X entry 1 */
        {3, 2, 3, 0, 0x3018, 0x41},
        {3, 2, 3, 0, 0x301c, 0},
        {3, 1, 2, 0, 0x92, 0x8000},
        {3, 0, 3, 0, 0x14, 0xf},       /* DRIVER_OK */
        {3, 1, 3, 0, 0x4000, 0},       /* notify */
        {3, 2, 0, 0, 0xf0, 0x1ff},     /* local APIC on */
        {7, 1, 0, 0, 0, 0},            /* the device interrupts */
        {6, 0, 0, 0, 0, 0},
        {2, 2, 3, 0, 0x2000, 0},
        {7, 2, 0, 0, 0, 0},            /* needs reset */
        {3, 0, 3, 0, 0x14, 0},
        {1, 0, 0, 0, 0x70, 11},        /* RTC, PIT, 8259, serial port, PM1 control */
        {1, 0, 0, 0, 0x71, 0x72},
        {1, 0, 0, 0, 0x43, 0x34},
        {1, 1, 0, 0, 0x40, 0x1234},
        {1, 0, 0, 0, 0x20, 0x11},
        {1, 0, 0, 0, 0x3f8, 'x'},
        {1, 1, 0, 0, 0x604, 0x3400},
        {5, 0, 0, 1, 0x1b, 0xfee00c00}, /* x2APIC on CPU 1, a deadline, an IPI */
        {5, 0, 0, 1, 0x832, 0x40030},
        {5, 0, 0, 1, 0x6e0, 1},
        {5, 0, 0, 1, 0x830, 0xc0051},
        {4, 0, 0, 1, 0x802, 0},
    };

    write_seed(folder, "driver", steps, sizeof(steps));
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
        {"boot", boot_seeds},
        {"board", board_seeds},
    };

    g_assert_cmpint(argc, ==, 3);
    g_mkdir_with_parents(argv[2], 0755);
    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++) {
        if (strcmp(argv[1], table[i].fuzzer) == 0)
            table[i].write(argv[2]);
    }
    return 0;
}
