/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/translator/sys_machine.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>

static uint64_t io_read(void *opaque, unsigned vcpu, bool mmio, uint64_t addr, unsigned size)
{
    struct machine *machine = opaque;
    uint64_t value = UINT64_MAX;
    if (mmio && addr - MACHINE_MMIO < sizeof(machine->mmio) - 8) {
        memcpy(&value, machine->mmio + (addr - MACHINE_MMIO), 8);
    }
    return !mmio && addr == MACHINE_PORT_ECHO ? machine->echo : value;
}

void machine_nmi(struct machine *machine)
{
    machine->nmis += machine->nmis < 2;
    engine_request(machine->cpu, X86_REQ_IRQ);
}

static void io_write(void *opaque, unsigned vcpu, bool mmio, uint64_t addr, unsigned size, uint64_t data)
{
    struct machine *machine = opaque;
    if (mmio) {
        if (addr - MACHINE_MMIO < sizeof(machine->mmio) - 8) {
            memcpy(machine->mmio + (addr - MACHINE_MMIO), &data, size);
        }
        return;
    }
    switch (addr) {
    case MACHINE_PORT_TEXT:
        if (machine->text_bytes + 1 < sizeof(machine->text)) {
            machine->text[machine->text_bytes++] = (char)data;
        }
        break;
    case MACHINE_PORT_IRQ:
        machine->irq = (int)(data & 0xff);
        engine_request(machine->cpu, X86_REQ_IRQ);
        break;
    case MACHINE_PORT_NMI:
        machine_nmi(machine);
        break;
    case MACHINE_PORT_ECHO:
        machine->echo = data;
        break;
    default:
        break;
    }
}

static int irq_peek(void *opaque, unsigned vcpu)
{
    struct machine *machine = opaque;
    return machine->irq >= 0 ? machine->irq : -EAGAIN;
}

static int irq_ack(void *opaque, unsigned vcpu)
{
    struct machine *machine = opaque;
    int vector = irq_peek(opaque, vcpu);
    machine->irq = -1;
    return vector;
}

static bool nmi_take(void *opaque, unsigned vcpu)
{
    struct machine *machine = opaque;
    return machine->nmis && machine->nmis--;
}

static int msr_read(void *opaque, unsigned vcpu, uint32_t msr, uint64_t *ret_value)
{
    struct machine *machine = opaque;
    if (msr != 0x1b && msr != 0x6e0 && msr != 0x80f) {
        return -EINVAL;
    }
    *ret_value = msr == 0x1b ? machine->apic_base : machine->other_msr;
    return 0;
}

static int msr_write(void *opaque, unsigned vcpu, uint32_t msr, uint64_t value)
{
    struct machine *machine = opaque;
    if (msr != 0x1b && msr != 0x6e0 && msr != 0x80f) {
        return -EINVAL;
    }
    *(msr == 0x1b ? &machine->apic_base : &machine->other_msr) = value;
    return 0;
}

static uint8_t cr8_read(void *opaque, unsigned vcpu)
{
    return 0;
}

static void cr8_write(void *opaque, unsigned vcpu, uint8_t value)
{
}

static const struct x86_cpu_ops ops = {
    .io_read = io_read,
    .io_write = io_write,
    .irq_peek = irq_peek,
    .irq_ack = irq_ack,
    .nmi_take = nmi_take,
    .msr_read = msr_read,
    .msr_write = msr_write,
    .cr8_read = cr8_read,
    .cr8_write = cr8_write,
};

/* Everything that the translator can run. */
static void set_cpuid(struct x86_cpu *cpu)
{
    uint32_t words[X86_FEATURE_WORDS];
    x86_supported_features(words);
    bool avx = x86_has(words, FEAT_AVX);
    const struct x86_cpuid_leaf leaves[] = {
        {.leaf = 1, .eax = 0x30661, .ecx = words[1], .edx = words[0]},
        {.leaf = 7, .index_matters = true, .eax = 1, .ebx = words[2], .ecx = words[3], .edx = words[4]},
        {.leaf = 7, .subleaf = 1, .index_matters = true, .eax = words[8]},
        {.leaf = 0xd, .index_matters = true, .eax = avx ? 7 : 3, .ebx = 576, .ecx = avx ? 832 : 576},
        {.leaf = 0xd, .subleaf = 1, .index_matters = true, .eax = words[7]},
        {.leaf = 0x80000001, .ecx = words[6], .edx = words[5]},
        {.leaf = 0x80000008, .eax = 48 << 8 | 40},
    };
    g_assert_cmpint(x86_cpu_set_cpuid(cpu, leaves, G_N_ELEMENTS(leaves), NULL), ==, 0);
}

void machine_create(struct machine *machine, enum engine_tier tier)
{
    memset(machine, 0, sizeof(*machine));
    machine->irq = -1;
    machine->ram = mmap(NULL, MACHINE_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g_assert_true(machine->ram != MAP_FAILED);
    g_assert_cmpint(translator_vm_create(2, tier, &machine->vm), ==, 0);
    struct mmu_slot slot = {.gpa = 0, .bytes = MACHINE_RAM_BYTES, .host = machine->ram};
    g_assert_cmpint(mmu_set_slots(machine->vm, &slot, 1), ==, 0);
    g_assert_cmpint(x86_cpu_create(machine->vm, 0, &ops, machine, &machine->cpu), ==, 0);
    set_cpuid(machine->cpu);
    x86_cpu_reset(machine->cpu);
}

struct x86_cpu *machine_add_cpu(struct machine *machine)
{
    const struct x86_cpu *first = machine->cpu;
    struct x86_cpu *cpu;
    g_assert_cmpint(x86_cpu_create(machine->vm, 1, &ops, machine, &cpu), ==, 0);
    set_cpuid(cpu);
    cpu->cr0 = first->cr0;
    cpu->cr4 = first->cr4;
    cpu->efer = first->efer;
    cpu->gdtr = first->gdtr;
    cpu->idtr = first->idtr;
    memcpy(cpu->seg, first->seg, sizeof(cpu->seg));
    cpu->gpr[IR_RSP] = MACHINE_STACK1;
    cpu->rip = first->rip;
    x86_state_changed(cpu, first->cr3);
    return cpu;
}

void machine_destroy(struct machine *machine)
{
    x86_cpu_destroy(machine->cpu);
    translator_vm_destroy(machine->vm);
    munmap(machine->ram, MACHINE_RAM_BYTES);
}

uint64_t machine_read64(const struct machine *machine, uint64_t address)
{
    uint64_t value;
    memcpy(&value, machine->ram + address, 8);
    return value;
}

void machine_write64(struct machine *machine, uint64_t address, uint64_t value)
{
    memcpy(machine->ram + address, &value, 8);
}

void machine_set_desc(struct machine *machine, uint16_t selector, uint64_t raw)
{
    machine_write64(machine, MACHINE_GDT + (selector & ~7u), raw);
}

void machine_set_gate(struct machine *machine, unsigned vector, uint16_t selector, uint64_t offset,
                      uint8_t rights, unsigned ist)
{
    uint64_t low = (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)ist << 32 |
                   (uint64_t)rights << 40 | (offset >> 16 & 0xffff) << 48;
    machine_write64(machine, MACHINE_IDT + vector * 16, low);
    machine_write64(machine, MACHINE_IDT + vector * 16 + 8, offset >> 32);
}

void machine_enter_long_mode(struct machine *machine)
{
    struct x86_cpu *cpu = machine->cpu;
    machine_set_desc(machine, MACHINE_CS64, UINT64_C(0x00af9b000000ffff));
    machine_set_desc(machine, MACHINE_SS, UINT64_C(0x00cf93000000ffff));
    machine_set_desc(machine, MACHINE_UCS32, UINT64_C(0x00cffb000000ffff));
    machine_set_desc(machine, MACHINE_USS, UINT64_C(0x00cff3000000ffff));
    machine_set_desc(machine, MACHINE_UCS64, UINT64_C(0x00affb000000ffff));
    machine_set_desc(machine, MACHINE_TR, UINT64_C(0x00008b0000000067) | (uint64_t)MACHINE_TSS << 16);
    machine_write64(machine, MACHINE_TSS + 4, MACHINE_RSP0);
    machine_write64(machine, MACHINE_TSS + 36, MACHINE_IST1);
    machine_write64(machine, MACHINE_PML4, (MACHINE_PML4 + 0x1000) | 7);
    machine_write64(machine, MACHINE_PML4 + 0x1000, (MACHINE_PML4 + 0x2000) | 7);
    for (unsigned i = 0; i < MACHINE_RAM_BYTES >> 21; i++) {
        machine_write64(machine, MACHINE_PML4 + 0x2000 + i * 8, ((uint64_t)i << 21) | 0x87);
    }
    cpu->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    cpu->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    cpu->gdtr = (struct x86_table){MACHINE_GDT, MACHINE_GDT_LIMIT};
    cpu->idtr = (struct x86_table){MACHINE_IDT, 0xfff};
    x86_set_flat_segment(&cpu->seg[SEG_CS], MACHINE_CS64, ATTR_FLAT_CODE64(0));
    for (unsigned i = 0; i < 6; i++) {
        if (i != SEG_CS) {
            x86_set_flat_segment(&cpu->seg[i], MACHINE_SS, ATTR_FLAT_DATA(0));
        }
    }
    cpu->seg[SEG_LDTR] = (struct x86_seg){.attr = SEG_ATTR_UNUSABLE};
    cpu->seg[SEG_TR] = (struct x86_seg){.sel = MACHINE_TR, .base = MACHINE_TSS, .limit = 0x67, .attr = 0x8b};
    cpu->gpr[IR_RSP] = MACHINE_STACK;
    cpu->rip = MACHINE_CODE;
    x86_state_changed(cpu, MACHINE_PML4);
}
