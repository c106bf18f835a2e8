/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/bulkhead/cli.h"

#include <string.h>
#include <unistd.h>

G_DEFINE_QUARK(bulkhead-cli-error, cli_error)

gboolean cli_fail(GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_propagate_error(error, g_error_new_valist(CLI_ERROR, 0, format, args));
    va_end(args);
    return FALSE;
}

/* Broken if it fails: a size means something else than people wrote. */
static void test_sizes(void)
{
    static const struct {
        const char *text;
        uint64_t bytes; /* 0: refused */
    } rows[] = {
        {"1K", 1024}, {"512M", 512ull << 20}, {"512m", 512ull << 20}, {"2G", 2ull << 30}, {"2GiB", 2ull << 30},
        {"1T", 1ull << 40}, {"", 0}, {"M", 0}, {"0", 0}, {"0M", 0}, {"512", 0}, {"-1M", 0}, {"+1M", 0}, {" 1M", 0},
        {"1.5G", 0}, {"1X", 0}, {"1MM", 0}, {"99999999999999999999M", 0}, {"17179869184G", 0},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        uint64_t bytes = 0;
        gboolean good = words_size("--memory", rows[i].text, &bytes, &error);
        g_assert_cmpuint(bytes, ==, rows[i].bytes);
        g_assert_cmpint(good, ==, rows[i].bytes != 0);
        g_assert_true(good || (error && strstr(error->message, "--memory")));
    }
}

/* Broken if it fails: a disk is writable, or another file, when the words say otherwise. */
static void test_disks(void)
{
    static const struct {
        const char *text, *path, *format;
        int readonly, ephemeral;
        const char *refused; /* a word of the message */
    } rows[] = {
        {"/d", "/d", "", 0, 0, NULL},
        {"/d,readonly", "/d", "", 1, 0, NULL},
        {"/d,ephemeral,format=raw", "/d", "raw", 0, 1, NULL},
        {"/d,format=a,format=b", "/d", "b", 0, 0, NULL},
        {"/a,,b,,,readonly", "/a,b,", "", 1, 0, NULL},
        {"/x/../d", "/d", "", 0, 0, NULL},
        {"", NULL, NULL, 0, 0, "file name"},
        {",readonly", NULL, NULL, 0, 0, "file name"},
        {"/d,", NULL, NULL, 0, 0, "unknown word"},
        {"/d,cached", NULL, NULL, 0, 0, "cached"},
        {"/d,readonly=yes", NULL, NULL, 0, 0, "takes no value"},
        {"/d,format", NULL, NULL, 0, 0, "takes a value"},
        {"/d,read", NULL, NULL, 0, 0, "unknown word"},
        {"/d,readonlyx", NULL, NULL, 0, 0, "unknown word"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        Bulkhead__Disk *disk = words_disk(rows[i].text, &error);
        g_assert_cmpint(disk != NULL, ==, rows[i].path != NULL);
        if (!disk) {
            g_assert_nonnull(strstr(error->message, rows[i].refused));
            continue;
        }
        g_assert_cmpstr(disk->path, ==, rows[i].path);
        g_assert_cmpstr(disk->format, ==, rows[i].format);
        g_assert_cmpint(disk->readonly, ==, rows[i].readonly);
        g_assert_cmpint(disk->ephemeral, ==, rows[i].ephemeral);
        bulkhead__disk__free_unpacked(disk, NULL);
    }
    g_autoptr(GError) error = NULL;
    g_autofree char *cwd = g_get_current_dir();
    g_autofree char *absolute = g_build_filename(cwd, "sub", "d", NULL);
    Bulkhead__Disk *disk = words_disk("sub/d", &error);
    g_assert_cmpstr(disk->path, ==, absolute);
    bulkhead__disk__free_unpacked(disk, NULL);
}

/* Broken if it fails: a qcow2 file is served to a guest as raw bytes, and destroyed by its first write. */
static void test_magic(void)
{
    g_autofree char *name = NULL;
    int fd = g_file_open_tmp("bulkhead-words-XXXXXX", &name, NULL);
    g_assert_cmpint(write(fd, "QFI\xfb\0\0\0\3", 8), ==, 8);
    close(fd);
    g_autoptr(GError) error = NULL;
    g_assert_null(words_disk(name, &error));
    g_assert_nonnull(strstr(error->message, "qcow2"));
    g_clear_error(&error);
    g_autofree char *forced = g_strconcat(name, ",format=raw", NULL);
    Bulkhead__Disk *disk = words_disk(forced, &error);
    g_assert_no_error(error);
    bulkhead__disk__free_unpacked(disk, NULL);
    unlink(name);
}

/* Broken if it fails: a port of the guest is published where nobody meant it. */
static void test_nets(void)
{
    static const struct {
        const char *text, *address;
        uint32_t host_port, guest_port;
        const char *refused;
    } rows[] = {
        {"user", NULL, 0, 0, NULL},
        {"bridge", NULL, 0, 0, NULL}, /* the broker refuses it */
        {"user,publish=2222:22", "", 2222, 22, NULL},
        {"user,publish=0.0.0.0:80:8080", "0.0.0.0", 80, 8080, NULL},
        {"user,publish=80", NULL, 0, 0, "HOSTPORT"},
        {"user,publish=", NULL, 0, 0, "HOSTPORT"},
        {"user,publish=0:22", NULL, 0, 0, "HOSTPORT"},
        {"user,publish=70000:22", NULL, 0, 0, "70000"},
        {"user,publish=22:-1", NULL, 0, 0, "HOSTPORT"},
        {"user,publish=a:b:c:d", NULL, 0, 0, "HOSTPORT"},
        {"user,publish", NULL, 0, 0, "takes a value"},
        {"user,mac=1", NULL, 0, 0, "unknown word"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        Bulkhead__Net *net = words_net(rows[i].text, &error);
        g_assert_cmpint(net == NULL, ==, rows[i].refused != NULL);
        if (!net) {
            g_assert_nonnull(strstr(error->message, rows[i].refused));
            continue;
        }
        g_assert_cmpuint(net->n_publish, ==, rows[i].address != NULL);
        if (net->n_publish) {
            g_assert_cmpstr(net->publish[0]->address, ==, rows[i].address);
            g_assert_cmpuint(net->publish[0]->host_port, ==, rows[i].host_port);
            g_assert_cmpuint(net->publish[0]->guest_port, ==, rows[i].guest_port);
        }
        bulkhead__net__free_unpacked(net, NULL);
    }
}

/* Broken if it fails: scripts that read `ps --json` break on an unusual path. */
static void test_json(void)
{
    g_autofree char *text = words_json("a\"b\\c\nd\001\xff");
    g_assert_cmpstr(text, ==, "\"a\\\"b\\\\c\\u000ad\\u0001\xef\xbf\xbd\"");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/words/sizes", test_sizes);
    g_test_add_func("/words/disks", test_disks);
    g_test_add_func("/words/magic", test_magic);
    g_test_add_func("/words/nets", test_nets);
    g_test_add_func("/words/json", test_json);
    return g_test_run();
}
