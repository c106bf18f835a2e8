/* SPDX-License-Identifier: Apache-2.0 */
/* Broken if these fail: a kernel rejects our ACPI tables, or the power button, shutdown, reset and PM timer
 * do nothing. */
#include "vmm/x86/acpi_pm.h"
#include "vmm/x86/acpi_tables.h"
#include "vmm/x86/layout.h"

#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

static uint8_t rom[LAYOUT_ROM_BYTES];

static uint8_t sum(const uint8_t *bytes, size_t count)
{
    uint8_t total = 0;

    while (count--)
        total += *bytes++;
    return total;
}

static uint64_t get(const uint8_t *bytes, size_t offset, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, bytes + offset, size);
    return value;
}

static const uint8_t *table_at(uint64_t gpa)
{
    g_assert_cmpuint(gpa, >=, LAYOUT_ROM_BASE);
    g_assert_cmpuint(gpa, <, LAYOUT_ROM_BASE + sizeof(rom));
    return rom + (gpa - LAYOUT_ROM_BASE);
}

static void test_tables(void)
{
    struct acpi_config config = {.cpus = 16, .ram_bytes = 8 * GIB};
    int used = acpi_tables_build(&config, LAYOUT_ROM_BASE, rom, sizeof(rom));

    g_assert_cmpint(used, >, 0);
    g_assert_cmpmem(rom, 8, "RSD PTR ", 8);
    g_assert_cmpuint(sum(rom, 20), ==, 0);
    g_assert_cmpuint(sum(rom, 36), ==, 0);
    const uint8_t *xsdt = table_at(get(rom, 24, 8));
    uint64_t count = (get(xsdt, 4, 4) - 36) / 8;
    g_assert_cmpuint(count, ==, 4);
    g_assert_cmpuint(sum(xsdt, get(xsdt, 4, 4)), ==, 0);
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *table = table_at(get(xsdt, 36 + i * 8, 8));

        g_assert_cmpuint(sum(table, get(table, 4, 4)), ==, 0);
    }
    for (size_t bytes = 0; bytes < (size_t)used; bytes += 37)
        g_assert_cmpint(acpi_tables_build(&config, LAYOUT_ROM_BASE, rom, bytes), ==, -ENOSPC);
}

/* iasl must read every table; it is the same interpreter that guests have. */
static void test_iasl(void)
{
    struct acpi_config config = {.cpus = 2, .ram_bytes = GIB};
    g_autofree char *iasl = g_find_program_in_path("iasl");
    g_autofree char *directory = g_dir_make_tmp("acpi-XXXXXX", NULL);
    uint64_t tables[5], fadt;

    if (!iasl) {
        g_test_skip("iasl (acpica-tools) is not installed");
        return;
    }
    acpi_tables_build(&config, LAYOUT_ROM_BASE, rom, sizeof(rom));
    const uint8_t *xsdt = table_at(get(rom, 24, 8));
    for (unsigned i = 0; i < 4; i++)
        tables[i] = get(xsdt, 36 + i * 8, 8);
    fadt = tables[0];
    tables[4] = get(table_at(fadt), 140, 8);
    g_assert_cmpmem(table_at(tables[4]), 4, "DSDT", 4);
    for (unsigned i = 0; i < 5; i++) {
        const uint8_t *table = table_at(tables[i]);
        g_autofree char *base = g_strdup_printf("%s/table%u", directory, i);
        g_autofree char *dat = g_strconcat(base, ".dat", NULL), *dsl = g_strconcat(base, ".dsl", NULL);
        g_autofree char *text = NULL, *errors = NULL, *content = NULL;
        char *disassemble[] = {iasl, (char *)"-d", dat, NULL};
        char *compile[] = {iasl, (char *)"-we", (char *)"-p", base, dsl, NULL};
        int status;

        g_assert_true(g_file_set_contents(dat, (const char *)table, (gssize)get(table, 4, 4), NULL));
        g_assert_true(
            g_spawn_sync(directory, disassemble, NULL, 0, NULL, NULL, &text, &errors, &status, NULL));
        g_assert_cmpint(status, ==, 0);
        g_assert_true(g_file_get_contents(dsl, &content, NULL, NULL));
        g_assert_null(strstr(content, "Invalid"));
        g_assert_null(strstr(content, "Unknown"));
        if (i == 4) {
            g_autofree char *out = NULL;

            g_assert_true(g_spawn_sync(directory, compile, NULL, 0, NULL, NULL, &out, NULL, &status, NULL));
            if (status != 0)
                g_test_message("%s", out);
            g_assert_cmpint(status, ==, 0);
            g_assert_nonnull(strstr(content, "PNP0A08"));
            g_autofree char *aml = g_strconcat(base, ".aml", NULL);
            g_unlink(aml);
        }
        g_unlink(dat);
        g_unlink(dsl);
    }
    g_rmdir(directory);
}

struct power {
    bool sci;
    int shutdowns, resets;
};

static void set_sci(void *opaque, unsigned irq, bool level)
{
    ((struct power *)opaque)->sci = level;
}

static void on_request(void *opaque, enum acpi_pm_request request)
{
    struct power *power = opaque;

    if (request == ACPI_PM_SHUTDOWN)
        power->shutdowns++;
    else
        power->resets++;
}

static void test_pm(void)
{
    struct timer_queue *timers;
    struct power power = {0};
    struct irq_line sci = {.set = set_sci, .opaque = &power};
    struct acpi_pm pm;

    g_assert_cmpint(timer_queue_create(&timers), ==, 0);
    acpi_pm_init(&pm, timers, &sci, on_request, &power);
    /* Power button: status, SCI once enabled, cleared by writing one. */
    acpi_pm_power_button(&pm);
    g_assert_false(power.sci);
    acpi_pm_bus_ops.write(&pm, 0, 2, 2, 0x100);
    g_assert_true(power.sci);
    g_assert_cmphex(acpi_pm_bus_ops.read(&pm, 0, 0, 2) & 0x100, ==, 0x100);
    acpi_pm_bus_ops.write(&pm, 0, 0, 2, 0x100);
    g_assert_false(power.sci);
    /* The timer advances and reads the same in parts. */
    uint64_t before = acpi_pm_bus_ops.read(&pm, 0, 8, 4);
    g_usleep(2000);
    g_assert_cmpuint(acpi_pm_bus_ops.read(&pm, 0, 8, 4), >, before);
    /* S5 only with SLP_EN and its own type. */
    acpi_pm_bus_ops.write(&pm, 0, 4, 2, 3 << 10 | 1 << 13);
    g_assert_cmpint(power.shutdowns, ==, 0);
    acpi_pm_bus_ops.write(&pm, 0, 4, 2, 5 << 10);
    g_assert_cmpint(power.shutdowns, ==, 0);
    acpi_pm_bus_ops.write(&pm, 0, 4, 2, 5 << 10 | 1 << 13);
    g_assert_cmpint(power.shutdowns, ==, 1);
    g_assert_cmphex(acpi_pm_bus_ops.read(&pm, 0, 4, 2) & 1, ==, 1);
    /* Every way to reset. */
    acpi_pm_reset_ops.write(&pm, 0, 0, 1, 0x02);
    acpi_pm_reset_ops.write(&pm, 0, 0, 1, 0x06);
    g_assert_cmpint(power.resets, ==, 1);
    acpi_pm_keyboard_ops.write(&pm, 0, 0, 1, 0xfe);
    g_assert_cmpint(power.resets, ==, 2);
    acpi_pm_keyboard_ops.write(&pm, 0, 0, 1, 0xff);
    g_assert_cmpint(power.resets, ==, 2);
    acpi_pm_port92_ops.write(&pm, 0, 0, 1, 0x03);
    g_assert_cmpint(power.resets, ==, 3);
    timer_queue_stop(timers);
    acpi_pm_finish(&pm);
    timer_queue_destroy(timers);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/acpi/tables", test_tables);
    g_test_add_func("/acpi/iasl", test_iasl);
    g_test_add_func("/acpi/pm", test_pm);
    return g_test_run();
}
