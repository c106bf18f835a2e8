/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/machine_spec.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "protocol/base/units.h"

static Bulkhead__Machine good_machine(void)
{
    Bulkhead__Machine machine = BULKHEAD__MACHINE__INIT;
    machine.kernel = (char *)"/boot/vmlinuz";
    return machine;
}

/* Broken if it fails: a machine that names only a kernel gets nonsense. */
static void test_defaults(void)
{
    Bulkhead__Machine machine = good_machine();
    struct machine_spec spec;
    struct reason reason;
    g_assert_cmpint(machine_spec_init(&spec, &machine, &reason), ==, 0);
    g_assert_cmpuint(spec.cpus, >=, 1);
    g_assert_cmpuint(spec.cpus, <=, 4);
    g_assert_cmpuint(spec.memory_bytes, >=, MACHINE_MEMORY_MIN);
    g_assert_cmpuint(spec.memory_bytes, <=, 4 * GIB);
    g_assert_cmpuint(spec.memory_bytes % MIB, ==, 0);
    g_assert_cmpstr(spec.append, ==, "console=ttyS0");
    g_assert_cmpstr(spec.accel, ==, "jit");
    g_assert_cmpstr(spec.cpu_model, ==, "");
    g_assert_nonnull(strstr(spec.accel_reason, "/dev/kvm"));
    machine_spec_finish(&spec);
}

struct refusal {
    const char *name;
    void (*spoil)(Bulkhead__Machine *machine);
    int error;
    const char *word;
};

static char long_text[5000];

static void spoil_kernel(Bulkhead__Machine *m)
{
    m->kernel = (char *)"";
}
static void spoil_relative(Bulkhead__Machine *m)
{
    m->kernel = (char *)"boot/vmlinuz";
}
static void spoil_long_path(Bulkhead__Machine *m)
{
    m->initrd = long_text;
}
static void spoil_append(Bulkhead__Machine *m)
{
    m->append = long_text;
}
static void spoil_control(Bulkhead__Machine *m)
{
    m->append = (char *)"console=ttyS0\ninit=/bin/sh";
}
static void spoil_name(Bulkhead__Machine *m)
{
    m->name = (char *)"../m";
}
static void spoil_long_name(Bulkhead__Machine *m)
{
    m->name = (char *)"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
}
static void spoil_cpus(Bulkhead__Machine *m)
{
    m->cpus = 17;
}
static void spoil_cpu(Bulkhead__Machine *m)
{
    m->cpu = (char *)"v9";
}
static void spoil_cpu_feature(Bulkhead__Machine *m)
{
    m->cpu = (char *)"v2,+aess";
}
static void spoil_accel(Bulkhead__Machine *m)
{
    m->accel = (char *)"magic";
}
static void spoil_kvm(Bulkhead__Machine *m)
{
    m->accel = (char *)"kvm";
}
static void spoil_small(Bulkhead__Machine *m)
{
    m->memory_bytes = MIB;
}
static void spoil_odd(Bulkhead__Machine *m)
{
    m->memory_bytes = 64 * MIB + 4096;
}
static void spoil_huge(Bulkhead__Machine *m)
{
    m->memory_bytes = UINT64_C(4096) << 40;
}

static Bulkhead__Disk disk;
static Bulkhead__Disk *disks[MACHINE_DISKS_MAX + 1];

static void add_disks(Bulkhead__Machine *m, size_t count)
{
    bulkhead__disk__init(&disk);
    disk.path = (char *)"/d";
    for (size_t i = 0; i < count; i++) {
        disks[i] = &disk;
    }
    m->disks = disks;
    m->n_disks = count;
}
static void spoil_many_disks(Bulkhead__Machine *m)
{
    add_disks(m, MACHINE_DISKS_MAX + 1);
}
static void spoil_format(Bulkhead__Machine *m)
{
    add_disks(m, 1);
    disk.format = (char *)"qcow2";
}
static void spoil_both(Bulkhead__Machine *m)
{
    add_disks(m, 1);
    disk.readonly = disk.ephemeral = 1;
}

static Bulkhead__Publish publish;
static Bulkhead__Publish *publishes[MACHINE_PUBLISH_MAX + 1];
static Bulkhead__Net net;
static Bulkhead__Net *nets[MACHINE_NETS_MAX + 1];

static void add_nets(Bulkhead__Machine *m, size_t count, size_t ports)
{
    bulkhead__publish__init(&publish);
    publish.host_port = publish.guest_port = 22;
    for (size_t i = 0; i < ports; i++) {
        publishes[i] = &publish;
    }
    bulkhead__net__init(&net);
    net.kind = (char *)"user";
    net.publish = publishes;
    net.n_publish = ports;
    for (size_t i = 0; i < count; i++) {
        nets[i] = &net;
    }
    m->nets = nets;
    m->n_nets = count;
}
static void spoil_many_nets(Bulkhead__Machine *m)
{
    add_nets(m, MACHINE_NETS_MAX + 1, 0);
}
static void spoil_many_ports(Bulkhead__Machine *m)
{
    add_nets(m, 1, MACHINE_PUBLISH_MAX + 1);
}
static void spoil_net(Bulkhead__Machine *m)
{
    add_nets(m, 1, 0);
    net.kind = (char *)"bridge";
}
static void spoil_port(Bulkhead__Machine *m)
{
    add_nets(m, 1, 1);
    publish.host_port = 65536;
}
static void spoil_address(Bulkhead__Machine *m)
{
    add_nets(m, 1, 1);
    publish.address = (char *)"localhost";
}

/* Broken if it fails: a client's message makes the broker start what it should refuse, or write past a table. */
static void test_refused(void)
{
    static const struct refusal rows[] = {
        {"no kernel", spoil_kernel, -EINVAL, "--kernel"},
        {"relative path", spoil_relative, -EINVAL, "--kernel"},
        {"long path", spoil_long_path, -EINVAL, "--initrd"},
        {"long command line", spoil_append, -EINVAL, "--append"},
        {"control character", spoil_control, -EINVAL, "--append"},
        {"name", spoil_name, -EINVAL, "../m"},
        {"long name", spoil_long_name, -EINVAL, "name"},
        {"cpus", spoil_cpus, -EINVAL, "--cpus 17"},
        {"cpu model", spoil_cpu, -EINVAL, "v9"},
        {"cpu feature", spoil_cpu_feature, -EINVAL, "did you mean aes"},
        {"accelerator", spoil_accel, -EINVAL, "magic"},
        {"kvm", spoil_kvm, -ENOTSUP, "jit"},
        {"little memory", spoil_small, -EINVAL, "--memory 1M"},
        {"odd memory", spoil_odd, -EINVAL, "--memory"},
        {"much memory", spoil_huge, -ENOMEM, "4096T"},
        {"many disks", spoil_many_disks, -EINVAL, "--disk"},
        {"format", spoil_format, -ENOTSUP, "qcow2"},
        {"readonly and ephemeral", spoil_both, -EINVAL, "exclude"},
        {"many nets", spoil_many_nets, -EINVAL, "--net"},
        {"many ports", spoil_many_ports, -EINVAL, "--net"},
        {"net", spoil_net, -EINVAL, "bridge"},
        {"port", spoil_port, -EINVAL, "65536"},
        {"address", spoil_address, -EINVAL, "localhost"},
    };
    memset(long_text, 'a', sizeof(long_text) - 1);
    long_text[0] = '/';
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Bulkhead__Machine machine = good_machine();
        struct machine_spec spec;
        struct reason reason = {""};
        rows[i].spoil(&machine);
        g_test_message("%s", rows[i].name);
        g_assert_cmpint(machine_spec_init(&spec, &machine, &reason), ==, rows[i].error);
        g_assert_nonnull(strstr(reason.text, rows[i].word));
        g_assert_null(strchr(reason.text, '\n'));
        g_assert_null(spec.kernel);
    }
}

static bool taken_always_once(void *opaque, const char *name)
{
    unsigned *count = opaque;
    return ++*count < 200;
}

/* Broken if it fails: a made-up name is one that nobody may type, or none is found when many are taken. */
static void test_names(void)
{
    char name[MACHINE_NAME_BYTES];
    unsigned count = 0;
    machine_name_generate(name, taken_always_once, &count);
    g_assert_true(machine_name_valid(name));
    static const char *const bad[] = {"", ".x", "-x", "a b", "a/b", "\xc3\xa4", "a\n"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_false(machine_name_valid(bad[i]));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/machine_spec/defaults", test_defaults);
    g_test_add_func("/machine_spec/refused", test_refused);
    g_test_add_func("/machine_spec/names", test_names);
    return g_test_run();
}
