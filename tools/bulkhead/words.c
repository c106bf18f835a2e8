/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/bulkhead/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/units.h"

static const struct {
    const char *name;
    uint64_t bytes;
} size_units[] = {
    {"K", KIB}, {"KiB", KIB}, {"M", MIB},        {"MiB", MIB},
    {"G", GIB}, {"GiB", GIB}, {"T", GIB * 1024}, {"TiB", GIB * 1024},
};

gboolean words_size(const char *option, const char *text, uint64_t *ret_bytes, GError **error)
{
    char *end;
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    if (!g_ascii_isdigit(text[0]) || errno) {
        return cli_fail(error, "%s %s: not a size; write it like 512M or 2G", option, text);
    }
    for (size_t i = 0; i < ARRAY_LEN(size_units); i++) {
        if (g_ascii_strcasecmp(end, size_units[i].name) == 0) {
            if (number == 0 || number > UINT64_MAX / size_units[i].bytes) {
                return cli_fail(error, "%s %s: out of range", option, text);
            }
            *ret_bytes = number * size_units[i].bytes;
            return TRUE;
        }
    }
    if (!*end && number) {
        return cli_fail(error, "%s %s: which unit? Write %sM or %sG", option, text, text, text);
    }
    return cli_fail(error, "%s %s: no size; write a number and K, M, G or T, like 512M", option, text);
}

char *words_path(const char *path)
{
    return g_canonicalize_filename(path, NULL);
}

/* Splits at commas; a doubled comma stands for one. Returns a NULL-terminated owned array, never empty. */
static char **split_words(const char *text)
{
    GPtrArray *words = g_ptr_array_new();
    GString *word = g_string_new(NULL);
    for (const char *c = text;; c++) {
        if (c[0] == ',' && c[1] == ',') {
            g_string_append_c(word, ',');
            c++;
        } else if (*c == ',' || !*c) {
            g_ptr_array_add(words, g_string_free(word, FALSE));
            if (!*c) {
                break;
            }
            word = g_string_new(NULL);
        } else {
            g_string_append_c(word, *c);
        }
    }
    g_ptr_array_add(words, NULL);
    return (char **)g_ptr_array_free(words, FALSE);
}

/* One KEY or KEY=VALUE of an option and what it does. */
struct word_rule {
    const char *key;
    gboolean has_value;
    gboolean (*take)(void *message, const char *value, GError **error);
};

static gboolean take_words(const char *option, char **words, const struct word_rule *rules, size_t count,
                           void *message, GError **error)
{
    for (; *words; words++) {
        const char *value = strchr(*words, '=');
        size_t key_bytes = value ? (size_t)(value - *words) : strlen(*words);
        const struct word_rule *rule = NULL;
        GString *known = g_string_new(NULL);
        for (size_t i = 0; i < count; i++) {
            if (strlen(rules[i].key) == key_bytes && strncmp(rules[i].key, *words, key_bytes) == 0) {
                rule = &rules[i];
            }
            g_string_append_printf(known, "%s%s%s",
                                   i == 0          ? ""
                                   : i + 1 < count ? ", "
                                                   : " or ",
                                   rules[i].key, rules[i].has_value ? "=…" : "");
        }
        g_autofree char *known_text = g_string_free(known, FALSE);
        if (!rule) {
            return cli_fail(error, "%s: unknown word \"%s\"; use %s (a comma in a name is written twice)",
                            option, *words, known_text);
        }
        if (rule->has_value != (value != NULL)) {
            return cli_fail(error, "%s: %s takes %s value", option, rule->key, rule->has_value ? "a" : "no");
        }
        if (!rule->take(message, value ? value + 1 : NULL, error)) {
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean take_format(void *message, const char *value, GError **error)
{
    Bulkhead__Disk *disk = message;
    if (disk->format != protobuf_c_empty_string) {
        g_free(disk->format);
    }
    disk->format = g_strdup(value);
    return TRUE;
}

static gboolean take_readonly(void *message, const char *value, GError **error)
{
    ((Bulkhead__Disk *)message)->readonly = TRUE;
    return TRUE;
}

static gboolean take_ephemeral(void *message, const char *value, GError **error)
{
    ((Bulkhead__Disk *)message)->ephemeral = TRUE;
    return TRUE;
}

static const struct word_rule disk_rules[] = {
    {"format", TRUE, take_format}, {"readonly", FALSE, take_readonly}, {"ephemeral", FALSE, take_ephemeral}};

/* A file of another format that would be served as raw bytes by mistake. Only asked where no format was given. */
static gboolean check_magic(const char *path, GError **error)
{
    static const struct {
        const char *bytes, *format;
    } magics[] = {{"QFI\xfb", "qcow2"}, {"KDMV", "vmdk"}, {"conectix", "vpc"},
                  {"vhdxfile", "vhdx"}, {"QED", "qed"},   {"<<< ", "vdi"}};
    char start[8] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n = fd < 0 ? 0 : pread(fd, start, sizeof(start), 0);
    if (fd >= 0) {
        close(fd);
    }
    for (size_t i = 0; i < ARRAY_LEN(magics); i++) {
        size_t bytes = strlen(magics[i].bytes);
        if (n >= (ssize_t)bytes && memcmp(start, magics[i].bytes, bytes) == 0) {
            return cli_fail(error,
                            "--disk %s: looks like a %s image, and only raw ones can be used; convert it: "
                            "qemu-img convert -O raw %s NEW.img (or add ,format=raw if it is raw)",
                            path, magics[i].format, path);
        }
    }
    return TRUE;
}

Bulkhead__Disk *words_disk(const char *text, GError **error)
{
    g_auto(GStrv) words = split_words(text);
    if (!words[0][0]) {
        cli_fail(error, "--disk %s: begins without a file name", text);
        return NULL;
    }
    Bulkhead__Disk *disk = g_new(Bulkhead__Disk, 1);
    bulkhead__disk__init(disk);
    disk->path = words_path(words[0]);
    g_autofree char *option = g_strdup_printf("--disk %s", words[0]);
    if (!take_words(option, words + 1, disk_rules, ARRAY_LEN(disk_rules), disk, error) ||
        (!disk->format[0] && !check_magic(disk->path, error))) {
        bulkhead__disk__free_unpacked(disk, NULL);
        return NULL;
    }
    return disk;
}

static gboolean parse_port(const char *text, uint32_t *ret_port)
{
    guint64 port;
    if (!g_ascii_string_to_unsigned(text, 10, 1, 65535, &port, NULL)) {
        return FALSE;
    }
    *ret_port = (uint32_t)port;
    return TRUE;
}

/* [ADDR:]HOSTPORT:GUESTPORT */
static gboolean take_publish(void *message, const char *value, GError **error)
{
    Bulkhead__Net *net = message;
    g_auto(GStrv) parts = g_strsplit(value, ":", 4);
    guint count = g_strv_length(parts);
    uint32_t host_port, guest_port;
    if (count < 2 || count > 3 || !parse_port(parts[count - 2], &host_port) ||
        !parse_port(parts[count - 1], &guest_port)) {
        return cli_fail(error,
                        "--net user,publish=%s: write [ADDR:]HOSTPORT:GUESTPORT with ports from 1 to 65535, "
                        "like publish=2222:22",
                        value);
    }
    Bulkhead__Publish *publish = g_new(Bulkhead__Publish, 1);
    bulkhead__publish__init(publish);
    if (count == 3) {
        publish->address = g_strdup(parts[0]);
    }
    publish->host_port = host_port;
    publish->guest_port = guest_port;
    net->publish = g_renew(Bulkhead__Publish *, net->publish, net->n_publish + 1);
    net->publish[net->n_publish++] = publish;
    return TRUE;
}

static const struct word_rule net_rules[] = {{"publish", TRUE, take_publish}};

Bulkhead__Net *words_net(const char *text, GError **error)
{
    g_auto(GStrv) words = split_words(text);
    Bulkhead__Net *net = g_new(Bulkhead__Net, 1);
    bulkhead__net__init(net);
    net->kind = g_strdup(words[0]);
    g_autofree char *option = g_strdup_printf("--net %s", words[0]);
    if (!take_words(option, words + 1, net_rules, ARRAY_LEN(net_rules), net, error)) {
        bulkhead__net__free_unpacked(net, NULL);
        return NULL;
    }
    return net;
}

char *words_show_bytes(uint64_t bytes)
{
    if (bytes >= GIB && bytes % (GIB / 4) == 0) {
        return g_strdup_printf("%g GiB", (double)bytes / (double)GIB);
    }
    return g_strdup_printf("%" PRIu64 " MiB", bytes / MIB);
}

char *words_show_duration(uint64_t ms)
{
    uint64_t s = ms / 1000;
    if (s < 60) {
        return g_strdup_printf("%" PRIu64 "s", s);
    }
    if (s < 3600) {
        return g_strdup_printf("%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
    }
    return g_strdup_printf("%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
}

char *words_json(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *out = g_string_new("\"");
    for (const char *c = valid; *c; c++) {
        if (*c == '"' || *c == '\\') {
            g_string_append_c(out, '\\');
            g_string_append_c(out, *c);
        } else if ((unsigned char)*c < 0x20) {
            g_string_append_printf(out, "\\u%04x", *c);
        } else {
            g_string_append_c(out, *c);
        }
    }
    g_string_append_c(out, '"');
    return g_string_free(out, FALSE);
}
