/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/x86/acpi_tables.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "vmm/x86/acpi_pm.h"
#include "vmm/x86/aml.h"
#include "vmm/x86/ioapic.h"
#include "vmm/x86/lapic.h"
#include "vmm/x86/layout.h"

#define PACKED __attribute__((packed))

struct PACKED acpi_header {
    char signature[4];
    uint32_t length;
    uint8_t revision, checksum;
    char oem_id[6], oem_table_id[8];
    uint32_t oem_revision;
    char creator_id[4];
    uint32_t creator_revision;
};
static_assert(sizeof(struct acpi_header) == 36, "ACPI 6.5 table 5.4");

struct PACKED acpi_address {
    uint8_t space, bits, offset, access;
    uint64_t address;
};
static_assert(sizeof(struct acpi_address) == 12, "ACPI 6.5 table 5.1");

enum { SPACE_MEMORY = 0, SPACE_IO = 1 };

struct PACKED acpi_rsdp {
    char signature[8];
    uint8_t checksum;
    char oem_id[6];
    uint8_t revision;
    uint32_t rsdt_address, length;
    uint64_t xsdt_address;
    uint8_t extended_checksum, reserved[3];
};
static_assert(sizeof(struct acpi_rsdp) == 36, "ACPI 6.5 table 5.3");

struct PACKED acpi_fadt {
    struct acpi_header header;
    uint32_t firmware_ctrl, dsdt;
    uint8_t reserved0, pm_profile;
    uint16_t sci_int;
    uint32_t smi_cmd;
    uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
    uint32_t pm1a_evt, pm1b_evt, pm1a_cnt, pm1b_cnt, pm2_cnt, pm_tmr, gpe0, gpe1;
    uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_len, gpe1_len, gpe1_base, cst_cnt;
    uint16_t p_lvl2_lat, p_lvl3_lat, flush_size, flush_stride;
    uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
    uint16_t boot_arch;
    uint8_t reserved1;
    uint32_t flags;
    struct acpi_address reset_reg;
    uint8_t reset_value;
    uint16_t arm_boot_arch;
    uint8_t minor_version;
    uint64_t x_firmware_ctrl, x_dsdt;
    struct acpi_address x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr, x_gpe0, x_gpe1;
    struct acpi_address sleep_control, sleep_status;
    uint64_t hypervisor_id;
};
static_assert(sizeof(struct acpi_fadt) == 276, "ACPI 6.5 table 5.9");

#define BOOT_ARCH_LEGACY   (1u << 0)
#define BOOT_ARCH_NO_VGA   (1u << 2)
#define BOOT_ARCH_NO_ASPM  (1u << 4)
#define FADT_WBINVD        (1u << 0)
#define FADT_PROC_C1       (1u << 2)
#define FADT_SLEEP_BUTTON  (1u << 5) /* set: there is none among the fixed hardware */
#define FADT_TMR_VAL_EXT   (1u << 8)
#define FADT_RESET_REG_SUP (1u << 10)
#define PM_PROFILE_SERVER  4

struct PACKED acpi_facs {
    char signature[4];
    uint32_t length, hardware_signature, waking_vector, global_lock, flags;
    uint64_t x_waking_vector;
    uint8_t version, reserved[31];
};
static_assert(sizeof(struct acpi_facs) == 64, "ACPI 6.5 table 5.14");

struct PACKED acpi_madt {
    struct acpi_header header;
    uint32_t lapic_address, flags;
};

struct PACKED madt_lapic {
    uint8_t type, length, processor, apic_id;
    uint32_t flags;
};

struct PACKED madt_ioapic {
    uint8_t type, length, id, reserved;
    uint32_t address, gsi_base;
};

struct PACKED madt_override {
    uint8_t type, length, bus, source;
    uint32_t gsi;
    uint16_t flags;
};

struct PACKED madt_nmi {
    uint8_t type, length, processor;
    uint16_t flags;
    uint8_t lint;
};

#define MADT_PCAT_COMPAT       1u
#define MADT_ACTIVE_HIGH_LEVEL 0x000d
#define MADT_ACTIVE_HIGH_EDGE  0x0005

struct PACKED acpi_mcfg {
    struct acpi_header header;
    uint64_t reserved;
    uint64_t base;
    uint16_t segment;
    uint8_t first_bus, last_bus;
    uint32_t reserved1;
};

struct PACKED acpi_spcr {
    struct acpi_header header;
    uint8_t interface, reserved0[3];
    struct acpi_address base;
    uint8_t interrupt_type, irq;
    uint32_t gsi;
    uint8_t baud, parity, stop_bits, flow, terminal, language;
    uint16_t pci_device, pci_vendor;
    uint8_t pci_bus, pci_slot, pci_function;
    uint32_t pci_flags;
    uint8_t pci_segment;
    uint32_t clock_hz;
};
static_assert(sizeof(struct acpi_spcr) == 80, "SPCR revision 2");

/* Tables are laid out one after the other, 16-byte aligned. */
struct builder {
    gpa_t base;
    uint8_t *rom;
    size_t size, used;
    bool overflow;
};

static uint8_t checksum(const void *bytes, size_t count)
{
    const uint8_t *byte = bytes;
    uint8_t sum = 0;

    while (count--)
        sum += *byte++;
    return (uint8_t)-sum;
}

static struct acpi_header header(const char *signature, uint8_t revision)
{
    struct acpi_header header = {.revision = revision, .oem_revision = 1, .creator_revision = 1};

    memcpy(header.signature, signature, 4);
    memcpy(header.oem_id, "BULKHD", 6);
    memcpy(header.oem_table_id, "BULKHEAD", 8);
    memcpy(header.creator_id, "BLKH", 4);
    return header;
}

/* Copies a table into the ROM; its address, or 0 when there is no room. */
static gpa_t place(struct builder *b, const void *table, size_t bytes)
{
    size_t at = (b->used + 15) & ~(size_t)15;

    if (at > b->size || bytes > b->size - at) {
        b->overflow = true;
        return 0;
    }
    memcpy(b->rom + at, table, bytes);
    b->used = at + bytes;
    return b->base + at;
}

/* The same for a table that starts with the common header: fills in length and checksum. */
static gpa_t place_table(struct builder *b, void *table, size_t bytes)
{
    struct acpi_header *head = table;

    head->length = (uint32_t)bytes;
    head->checksum = 0;
    head->checksum = checksum(table, bytes);
    return place(b, table, bytes);
}

static void describe_host_bridge(struct aml *aml, uint64_t ram_bytes)
{
    uint64_t high = layout_high_window(ram_bytes);
    struct aml_mark device = aml_device(aml, "PCI0"), resources, package, method;

    aml_name_eisa_id(aml, "_HID", "PNP0A08");
    aml_name_eisa_id(aml, "_CID", "PNP0A03");
    aml_name_integer(aml, "_SEG", 0);
    aml_name_integer(aml, "_BBN", 0);
    aml_name_integer(aml, "_UID", 0);
    aml_name_integer(aml, "_CCA", 1);

    /* The guest may have every PCIe feature it asks for: there is no firmware to share them with. */
    method = aml_method(aml, "_OSC", 4);
    aml_return_arg(aml, 3);
    aml_end(aml, method);

    aml_name(aml, "_CRS");
    resources = aml_resources(aml);
    aml_word_bus(aml, 0, 255);
    aml_io(aml, 0xcf8, 8);
    aml_word_io(aml, LAYOUT_PCI_IO_FIRST, LAYOUT_PCI_IO_LAST);
    aml_dword_memory(aml, (uint32_t)LAYOUT_BAR32_BASE,
                     (uint32_t)(LAYOUT_BAR32_BASE + LAYOUT_BAR32_BYTES - 1));
    aml_qword_memory(aml, high, high + LAYOUT_BAR64_BYTES - 1);
    aml_resources_end(aml, resources);

    /* INTA# of each slot, hard-wired to an IOAPIC input. */
    aml_name(aml, "_PRT");
    package = aml_package(aml, 32);
    for (unsigned slot = 0; slot < 32; slot++) {
        struct aml_mark route = aml_package(aml, 4);

        aml_integer(aml, slot << 16 | 0xffff);
        aml_integer(aml, 0);
        aml_integer(aml, 0);
        aml_integer(aml, LAYOUT_GSI_PCI + slot % LAYOUT_PCI_LINES);
        aml_end(aml, route);
    }
    aml_end(aml, package);
    aml_end(aml, device);
}

/* What firmware would reserve: ECAM and the fixed ACPI ports. */
static void describe_board(struct aml *aml)
{
    struct aml_mark device = aml_device(aml, "MBRD"), resources;

    aml_name_eisa_id(aml, "_HID", "PNP0C02");
    aml_name_integer(aml, "_UID", 0);
    aml_name(aml, "_CRS");
    resources = aml_resources(aml);
    aml_memory32_fixed(aml, (uint32_t)LAYOUT_ECAM_BASE, (uint32_t)LAYOUT_ECAM_BYTES);
    aml_io(aml, ACPI_PM_BASE, ACPI_PM_BYTES);
    aml_io(aml, 0x4d0, 2);
    aml_resources_end(aml, resources);
    aml_end(aml, device);
}

static void describe_legacy(struct aml *aml, const char *name, const char *id, uint16_t port, uint8_t ports,
                            uint8_t irq)
{
    struct aml_mark device = aml_device(aml, name), resources;

    aml_name_eisa_id(aml, "_HID", id);
    aml_name_integer(aml, "_UID", 0);
    aml_name_integer(aml, "_STA", 0xf);
    aml_name(aml, "_CRS");
    resources = aml_resources(aml);
    aml_io(aml, port, ports);
    aml_irq(aml, irq);
    aml_resources_end(aml, resources);
    aml_end(aml, device);
}

static void describe_cpus(struct aml *aml, unsigned cpus)
{
    for (unsigned i = 0; i < cpus; i++) {
        char name[5] = {'C', 'P', (char)('0' + i / 10 % 10), (char)('0' + i % 10), 0};
        struct aml_mark device = aml_device(aml, name);

        aml_name(aml, "_HID");
        aml_string(aml, "ACPI0007");
        aml_name_integer(aml, "_UID", i);
        aml_end(aml, device);
    }
}

static gpa_t build_dsdt(struct builder *b, const struct acpi_config *config)
{
    uint8_t bytes[16 * 1024];
    struct acpi_header head = header("DSDT", 2);
    struct aml aml = {.bytes = bytes, .size = sizeof(bytes)};
    struct aml_mark scope, package;

    aml_bytes(&aml, &head, sizeof(head));
    scope = aml_scope(&aml, "\\_SB");
    describe_host_bridge(&aml, config->ram_bytes);
    describe_board(&aml);
    describe_legacy(&aml, "COM1", "PNP0501", LAYOUT_COM1_PORT, 8, LAYOUT_IRQ_COM1);
    describe_legacy(&aml, "RTC0", "PNP0B00", 0x70, 2, LAYOUT_IRQ_RTC);
    describe_legacy(&aml, "TIMR", "PNP0100", 0x40, 4, LAYOUT_IRQ_TIMER);
    describe_cpus(&aml, config->cpus);
    aml_end(&aml, scope);
    aml_name(&aml, "\\_S5");
    package = aml_package(&aml, 4);
    aml_integer(&aml, ACPI_PM_S5_TYPE);
    for (int i = 0; i < 3; i++)
        aml_integer(&aml, 0);
    aml_end(&aml, package);
    if (aml.overflow) {
        b->overflow = true;
        return 0;
    }
    return place_table(b, bytes, aml.used);
}

static struct acpi_address io_address(uint16_t port, uint8_t bits, uint8_t access)
{
    return (struct acpi_address){.space = SPACE_IO, .bits = bits, .access = access, .address = port};
}

static gpa_t build_fadt(struct builder *b, gpa_t dsdt)
{
    struct acpi_facs facs = {.signature = {'F', 'A', 'C', 'S'}, .length = sizeof(facs), .version = 2};
    size_t aligned = (b->used + 63) & ~(size_t)63;
    gpa_t facs_at;

    if (aligned > b->size) {
        b->overflow = true;
        return 0;
    }
    b->used = aligned; /* the FACS needs 64-byte alignment */
    facs_at = place(b, &facs, sizeof(facs));

    struct acpi_fadt fadt = {
        .header = header("FACP", 6),
        .firmware_ctrl = (uint32_t)facs_at,
        .dsdt = (uint32_t)dsdt,
        .pm_profile = PM_PROFILE_SERVER,
        .sci_int = LAYOUT_IRQ_SCI,
        .pm1a_evt = ACPI_PM_EVENT,
        .pm1a_cnt = ACPI_PM_CONTROL,
        .pm_tmr = ACPI_PM_TIMER,
        .pm1_evt_len = 4,
        .pm1_cnt_len = 2,
        .pm_tmr_len = 4,
        .p_lvl2_lat = 0xfff, /* no C2, no C3 */
        .p_lvl3_lat = 0xfff,
        .century = 0x32,
        .boot_arch = BOOT_ARCH_LEGACY | BOOT_ARCH_NO_VGA | BOOT_ARCH_NO_ASPM,
        .flags = FADT_WBINVD | FADT_PROC_C1 | FADT_SLEEP_BUTTON | FADT_TMR_VAL_EXT | FADT_RESET_REG_SUP,
        .reset_reg = io_address(ACPI_PM_RESET_PORT, 8, 1),
        .reset_value = ACPI_PM_RESET_VALUE,
        .minor_version = 3,
        .x_dsdt = dsdt,
        .x_pm1a_evt = io_address(ACPI_PM_EVENT, 32, 2),
        .x_pm1a_cnt = io_address(ACPI_PM_CONTROL, 16, 2),
        .x_pm_tmr = io_address(ACPI_PM_TIMER, 32, 3),
    };

    memcpy(&fadt.hypervisor_id, "BULKHEAD", 8);
    return place_table(b, &fadt, sizeof(fadt));
}

static gpa_t build_madt(struct builder *b, unsigned cpus)
{
    uint8_t bytes[1024];
    struct aml out = {.bytes = bytes, .size = sizeof(bytes)};
    struct acpi_madt madt = {
        .header = header("APIC", 5), .lapic_address = (uint32_t)LAPIC_BASE, .flags = MADT_PCAT_COMPAT};
    struct madt_ioapic ioapic = {.type = 1, .length = sizeof(ioapic), .address = (uint32_t)IOAPIC_BASE};
    struct madt_override timer = {.type = 2,
                                  .length = sizeof(timer),
                                  .source = LAYOUT_IRQ_TIMER,
                                  .gsi = LAYOUT_GSI_TIMER,
                                  .flags = MADT_ACTIVE_HIGH_EDGE};
    struct madt_override sci = {.type = 2,
                                .length = sizeof(sci),
                                .source = LAYOUT_IRQ_SCI,
                                .gsi = LAYOUT_IRQ_SCI,
                                .flags = MADT_ACTIVE_HIGH_LEVEL};
    struct madt_nmi nmi = {.type = 4, .length = sizeof(nmi), .processor = 0xff, .lint = 1};

    aml_bytes(&out, &madt, sizeof(madt));
    for (unsigned i = 0; i < cpus; i++) {
        struct madt_lapic lapic = {
            .type = 0, .length = sizeof(lapic), .processor = (uint8_t)i, .apic_id = (uint8_t)i, .flags = 1};

        aml_bytes(&out, &lapic, sizeof(lapic));
    }
    aml_bytes(&out, &ioapic, sizeof(ioapic));
    aml_bytes(&out, &timer, sizeof(timer));
    aml_bytes(&out, &sci, sizeof(sci));
    aml_bytes(&out, &nmi, sizeof(nmi));
    if (out.overflow) {
        b->overflow = true;
        return 0;
    }
    return place_table(b, bytes, out.used);
}

static gpa_t build_mcfg(struct builder *b)
{
    struct acpi_mcfg mcfg = {.header = header("MCFG", 1), .base = LAYOUT_ECAM_BASE, .last_bus = 255};

    return place_table(b, &mcfg, sizeof(mcfg));
}

static gpa_t build_spcr(struct builder *b)
{
    struct acpi_spcr spcr = {
        .header = header("SPCR", 2),
        .interface = 0, /* full 16550 */
        .base = io_address(LAYOUT_COM1_PORT, 8, 1),
        .interrupt_type = 3, /* 8259 and IOAPIC */
        .irq = LAYOUT_IRQ_COM1,
        .gsi = LAYOUT_IRQ_COM1,
        .baud = 7, /* 115200 */
        .stop_bits = 1,
        .terminal = 3, /* ANSI */
        .pci_device = 0xffff,
        .pci_vendor = 0xffff,
    };

    return place_table(b, &spcr, sizeof(spcr));
}

int acpi_tables_build(const struct acpi_config *config, gpa_t base, uint8_t *rom, size_t rom_bytes)
{
    struct builder b = {.base = base, .rom = rom, .size = rom_bytes, .used = sizeof(struct acpi_rsdp)};
    struct PACKED {
        struct acpi_header header;
        uint64_t tables[4];
    } xsdt = {.header = header("XSDT", 1)};
    struct acpi_rsdp rsdp = {.revision = 2, .length = sizeof(rsdp)};

    if (rom_bytes < sizeof(rsdp))
        return -ENOSPC;
    xsdt.tables[0] = build_fadt(&b, build_dsdt(&b, config));
    xsdt.tables[1] = build_madt(&b, config->cpus);
    xsdt.tables[2] = build_mcfg(&b);
    xsdt.tables[3] = build_spcr(&b);
    memcpy(rsdp.signature, "RSD PTR ", 8);
    memcpy(rsdp.oem_id, "BULKHD", 6);
    rsdp.xsdt_address = place_table(&b, &xsdt, sizeof(xsdt));
    if (b.overflow)
        return -ENOSPC;
    rsdp.checksum = checksum(&rsdp, 20); /* the part that ACPI 1.0 knew */
    rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
    memcpy(rom, &rsdp, sizeof(rsdp));
    return (int)b.used;
}
