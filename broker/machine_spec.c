/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/machine_spec.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <string.h>
#include <sys/sysinfo.h>

#include <glib.h>

#include "broker/accel_choice.h"
#include "protocol/base/units.h"
#include "protocol/cpu_words.h"
#include "protocol/vmm_control.h"

static_assert(MACHINE_DISKS_MAX + MACHINE_NETS_MAX <= VMM_CONTROL_DEVICES_MAX, "device numbers");

bool machine_name_valid(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n < MACHINE_NAME_BYTES && g_ascii_isalnum(name[0]) &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

void machine_name_generate(char name[MACHINE_NAME_BYTES], bool (*taken)(void *opaque, const char *name),
                           void *opaque)
{
    static const char *const first[] = {"brisk", "calm", "clear", "dry",   "fair",  "fast",  "high", "keen",
                                        "light", "neat", "north", "prime", "quick", "sound", "spry", "trim"};
    static const char *const second[] = {"anchor", "barque", "beacon", "cutter", "dock",   "ferry",
                                         "galley", "helm",   "ketch",  "keel",   "lugger", "mast",
                                         "pier",   "sloop",  "tiller", "yawl"};
    unsigned number = 0;
    do {
        const char *a = first[g_random_int_range(0, G_N_ELEMENTS(first))];
        const char *b = second[g_random_int_range(0, G_N_ELEMENTS(second))];
        if (number++ < 64) {
            g_snprintf(name, MACHINE_NAME_BYTES, "%s-%s", a, b);
        } else {
            g_snprintf(name, MACHINE_NAME_BYTES, "%s-%s-%u", a, b, number);
        }
    } while (taken(opaque, name));
}

/* Copies a path: absolute, not longer than the kernel takes. */
static int copy_path(const char *option, const char *path, char **ret_copy, struct reason *reason)
{
    if (path[0] != '/' || strlen(path) >= PATH_MAX) {
        return reason_set(reason, -EINVAL, "%s %.100s: not an absolute path of less than %d bytes", option,
                          path, PATH_MAX);
    }
    *ret_copy = g_strdup(path);
    return 0;
}

static int take_name(struct machine_spec *spec, const char *name, struct reason *reason)
{
    if (name[0] && !machine_name_valid(name)) {
        return reason_set(reason, -EINVAL,
                          "name \"%.60s\": use at most %d letters, digits, '.', '_' and '-', "
                          "beginning with a letter or digit",
                          name, MACHINE_NAME_BYTES - 1);
    }
    g_strlcpy(spec->name, name, sizeof(spec->name));
    return 0;
}

static int take_kernel(struct machine_spec *spec, const Bulkhead__Machine *wanted, struct reason *reason)
{
    if (!wanted->kernel[0]) {
        return reason_set(reason, -EINVAL, "no kernel: say which one to boot with --kernel FILE");
    }
    int result = copy_path("--kernel", wanted->kernel, &spec->kernel, reason);
    if (result == 0 && wanted->initrd[0]) {
        result = copy_path("--initrd", wanted->initrd, &spec->initrd, reason);
    }
    size_t append_bytes = strlen(wanted->append);
    if (result == 0 && append_bytes > MACHINE_APPEND_BYTES) {
        return reason_set(reason, -EINVAL, "--append: %zu bytes; Linux takes at most %d", append_bytes,
                          MACHINE_APPEND_BYTES);
    }
    for (const char *c = wanted->append; result == 0 && *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            return reason_set(reason, -EINVAL, "--append: holds a control character (0x%02x); remove it", *c);
        }
    }
    spec->append = g_strdup(append_bytes ? wanted->append : MACHINE_APPEND_DEFAULT);
    return result;
}

static unsigned host_cpus(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

static int take_cpus(struct machine_spec *spec, const Bulkhead__Machine *wanted, struct reason *reason)
{
    if (wanted->cpus > MACHINE_CPUS_MAX) {
        return reason_set(reason, -EINVAL, "--cpus %u: at most %d", wanted->cpus, MACHINE_CPUS_MAX);
    }
    spec->cpus = wanted->cpus ? wanted->cpus : MIN(4, host_cpus());
    struct cpu_choice choice;
    char why[256];
    if (cpu_choice_parse(wanted->cpu, &choice, why, sizeof(why)) < 0) {
        return reason_set(reason, -EINVAL, "%s", why);
    }
    spec->cpu_model = g_strdup(wanted->cpu);
    return 0;
}

/* "512M", "4096T": the way in which people write it. */
static void show_size(uint64_t bytes, char *text, size_t text_bytes)
{
    static const char units[] = "BKMGT";
    unsigned unit = 0;
    while (bytes && bytes % KIB == 0 && units[unit + 1]) {
        bytes /= KIB;
        unit++;
    }
    snprintf(text, text_bytes, "%" PRIu64 "%c", bytes, units[unit]);
}

static int take_memory(struct machine_spec *spec, uint64_t bytes, struct reason *reason)
{
    struct sysinfo info;
    sysinfo(&info);
    uint64_t host = (uint64_t)info.totalram * info.mem_unit;
    if (bytes == 0) {
        bytes = MAX(MIN(4 * GIB, host / 2) & ~(MIB - 1), MACHINE_MEMORY_MIN);
    }
    char size[32];
    show_size(bytes, size, sizeof(size));
    if (bytes < MACHINE_MEMORY_MIN || bytes % MIB) {
        return reason_set(reason, -EINVAL, "--memory %s: use whole MiB, at least %uM", size,
                          (unsigned)(MACHINE_MEMORY_MIN / MIB));
    }
    if (bytes > host) {
        return reason_set(reason, -ENOMEM, "--memory %s: the host has %" PRIu64 "M; use less", size,
                          host / MIB);
    }
    spec->memory_bytes = bytes;
    return 0;
}

static int take_disk(struct machine_spec *spec, const Bulkhead__Disk *wanted, struct reason *reason)
{
    if (spec->disk_count == MACHINE_DISKS_MAX) {
        return reason_set(reason, -EINVAL, "--disk: at most %d disks", MACHINE_DISKS_MAX);
    }
    if (wanted->format[0] && strcmp(wanted->format, "raw") != 0) {
        return reason_set(reason, -ENOTSUP,
                          "--disk %.200s: format=%.20s is not known; use format=raw, and convert "
                          "the image: qemu-img convert -O raw",
                          wanted->path, wanted->format);
    }
    if (wanted->readonly && wanted->ephemeral) {
        return reason_set(reason, -EINVAL, "--disk %.200s: readonly and ephemeral exclude each other",
                          wanted->path);
    }
    struct disk_spec *disk = &spec->disks[spec->disk_count++];
    disk->readonly = wanted->readonly;
    disk->ephemeral = wanted->ephemeral;
    return copy_path("--disk", wanted->path, &disk->path, reason);
}

static int take_publish(struct net_spec *net, const Bulkhead__Publish *wanted, struct reason *reason)
{
    struct publish_spec *publish = &net->publish[net->publish_count];
    if (net->publish_count == MACHINE_PUBLISH_MAX) {
        return reason_set(reason, -EINVAL, "--net: at most %d published ports", MACHINE_PUBLISH_MAX);
    }
    if (wanted->host_port < 1 || wanted->host_port > 65535 || wanted->guest_port < 1 ||
        wanted->guest_port > 65535) {
        return reason_set(reason, -EINVAL, "--net user,publish=%u:%u: ports are 1 to 65535",
                          wanted->host_port, wanted->guest_port);
    }
    if (inet_pton(AF_INET, wanted->address[0] ? wanted->address : "127.0.0.1", &publish->address) != 1) {
        return reason_set(reason, -EINVAL, "--net user,publish=%.40s:…: not an IPv4 address of this host",
                          wanted->address);
    }
    publish->host_port = (uint16_t)wanted->host_port;
    publish->guest_port = (uint16_t)wanted->guest_port;
    net->publish_count++;
    return 0;
}

static int take_net(struct machine_spec *spec, const Bulkhead__Net *wanted, struct reason *reason)
{
    if (spec->net_count == MACHINE_NETS_MAX) {
        return reason_set(reason, -EINVAL, "--net: at most %d network cards", MACHINE_NETS_MAX);
    }
    if (strcmp(wanted->kind, "user") != 0) {
        return reason_set(reason, -EINVAL, "--net %.40s: no such network; use user", wanted->kind);
    }
    struct net_spec *net = &spec->nets[spec->net_count++];
    for (size_t i = 0; i < wanted->n_publish; i++) {
        int result = take_publish(net, wanted->publish[i], reason);
        if (result < 0) {
            return result;
        }
    }
    return 0;
}

int machine_spec_init(struct machine_spec *spec, const Bulkhead__Machine *wanted, struct reason *reason)
{
    *spec = (struct machine_spec){0};
    int result = take_name(spec, wanted->name, reason);
    if (result == 0) {
        result = take_kernel(spec, wanted, reason);
    }
    if (result == 0) {
        result = take_cpus(spec, wanted, reason);
    }
    if (result == 0) {
        result = take_memory(spec, wanted->memory_bytes, reason);
    }
    if (result == 0) {
        result =
            accel_choose(wanted->accel, &spec->accel, spec->accel_reason, sizeof(spec->accel_reason), reason);
    }
    for (size_t i = 0; i < wanted->n_disks && result == 0; i++) {
        result = take_disk(spec, wanted->disks[i], reason);
    }
    for (size_t i = 0; i < wanted->n_nets && result == 0; i++) {
        result = take_net(spec, wanted->nets[i], reason);
    }
    if (result < 0) {
        machine_spec_finish(spec);
    }
    return result;
}

void machine_spec_finish(struct machine_spec *spec)
{
    g_free(spec->kernel);
    g_free(spec->initrd);
    g_free(spec->append);
    g_free(spec->cpu_model);
    for (unsigned i = 0; i < spec->disk_count; i++) {
        g_free(spec->disks[i].path);
    }
    *spec = (struct machine_spec){0};
}
