/* SPDX-License-Identifier: Apache-2.0 */
/* The JIT through accel.h: running, exits, kicks, and loading and saving the whole state. */
#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "accel/accel.h"

#define RAM_BYTES (1u << 20)
#define CODE      0x8000u

struct fixture {
    struct accel_vm *vm;
    struct accel_vcpu *vcpu, *second;
    uint8_t *ram;
    uint64_t port_value;
    int irq;
};

static uint64_t io_read(void *opaque, unsigned vcpu, enum accel_io_space space, uint64_t addr, unsigned size)
{
    return 0x5a;
}

static void io_write(void *opaque, unsigned vcpu, enum accel_io_space space, uint64_t addr, unsigned size,
                     uint64_t data)
{
    ((struct fixture *)opaque)->port_value = data;
}

static int irq_peek(void *opaque, unsigned vcpu)
{
    struct fixture *fixture = opaque;
    return fixture->irq >= 0 ? fixture->irq : -EAGAIN;
}

static int irq_ack(void *opaque, unsigned vcpu)
{
    struct fixture *fixture = opaque;
    int irq = irq_peek(opaque, vcpu);
    fixture->irq = -1;
    return irq;
}

static bool nmi_take(void *opaque, unsigned vcpu)
{
    return false;
}

static int msr_read(void *opaque, unsigned vcpu, uint32_t msr, uint64_t *ret_value)
{
    return -EINVAL;
}

static int msr_write(void *opaque, unsigned vcpu, uint32_t msr, uint64_t value)
{
    return -EINVAL;
}

static uint8_t cr8_read(void *opaque, unsigned vcpu)
{
    return 0;
}

static void cr8_write(void *opaque, unsigned vcpu, uint8_t value)
{
}

static const struct accel_host_ops host_ops = {
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

static struct accel_vcpu *add_vcpu(struct fixture *fixture, unsigned index)
{
    struct accel_cpuid leaves[ACCEL_CPUID_MAX];
    struct accel_cpu_model_config model = {
        .model = "v2", .vcpus = 2, .apic_id = index, .tsc_khz = accel_jit_ops.vm_tsc_khz(fixture->vm)};
    struct accel_vcpu *vcpu;
    int count = accel_cpu_model(&accel_jit_ops, &model, leaves);
    g_assert_cmpint(count, >, 0);
    g_assert_cmpint(accel_jit_ops.vcpu_create(fixture->vm, index, leaves, (unsigned)count, &vcpu), ==, 0);
    return vcpu;
}

static void setup(struct fixture *fixture)
{
    struct accel_vm_config config = {.max_vcpus = 2, .host_ops = &host_ops, .opaque = fixture, .kvm_fd = -1};
    memset(fixture, 0, sizeof(*fixture));
    fixture->irq = -1;
    fixture->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g_assert_cmpint(accel_jit_ops.vm_create(&config, &fixture->vm), ==, 0);
    struct accel_slot slot = {.gpa = 0, .bytes = RAM_BYTES, .host = fixture->ram};
    g_assert_cmpint(accel_jit_ops.vm_set_slots(fixture->vm, &slot, 1), ==, 0);
    fixture->vcpu = add_vcpu(fixture, 0);
    fixture->second = add_vcpu(fixture, 1);
}

static void teardown(struct fixture *fixture)
{
    accel_jit_ops.vcpu_destroy(fixture->vcpu);
    accel_jit_ops.vcpu_destroy(fixture->second);
    accel_jit_ops.vm_destroy(fixture->vm);
    munmap(fixture->ram, RAM_BYTES);
}

/* Puts real-mode code at CODE and the vCPU there, as SIPI does. */
static void start_at_code(struct fixture *fixture, const void *code, size_t bytes)
{
    struct x86_vcpu_state state;
    memcpy(fixture->ram + CODE, code, bytes);
    g_assert_cmpint(accel_jit_ops.vcpu_save(fixture->vcpu, &state), ==, 0);
    state.seg[X86_CS].selector = CODE >> 4;
    state.seg[X86_CS].base = CODE;
    state.rip = 0;
    state.gpr[4] = 0x7000;
    g_assert_cmpint(accel_jit_ops.vcpu_load(fixture->vcpu, &state), ==, 0);
}

/* Broken if it fails: port accesses, HLT, interrupts after HLT or a triple fault do not reach the VMM. */
static void test_exits(void)
{
    /* in $0x60,%al; add $1,%al; out %al,$0x61; sti; hlt; mov $7,%al; out %al,$0x61; hlt; handler: iret */
    static const uint8_t code[] = {0xe4, 0x60, 0x04, 0x01, 0xe6, 0x61, 0xfb,
                                   0xf4, 0xb0, 0x07, 0xe6, 0x61, 0xf4, 0xcf};
    struct fixture fixture;
    setup(&fixture);
    start_at_code(&fixture, code, sizeof(code));
    fixture.ram[0x20 * 4] = sizeof(code) - 1;
    fixture.ram[0x20 * 4 + 3] = CODE >> 12;
    g_assert_cmpint(accel_jit_ops.vcpu_run(fixture.vcpu), ==, ACCEL_EXIT_HLT);
    g_assert_cmphex(fixture.port_value, ==, 0x5b);
    g_assert_cmpint(accel_jit_ops.vcpu_run(fixture.vcpu), ==, ACCEL_EXIT_HLT); /* still */
    g_assert_cmphex(fixture.port_value, ==, 0x5b);
    fixture.irq = 0x20;
    accel_jit_ops.vcpu_notify_irq(fixture.vcpu);
    g_assert_cmpint(accel_jit_ops.vcpu_run(fixture.vcpu), ==, ACCEL_EXIT_HLT);
    g_assert_cmphex(fixture.port_value, ==, 7);

    /* lidt of nothing, then ud2: no handler for anything */
    static const uint8_t bad[] = {0x0f, 0x01, 0x1e, 0x00, 0x10, 0x0f, 0x0b};
    memset(fixture.ram + CODE + 0x1000, 0, 16);
    start_at_code(&fixture, bad, sizeof(bad));
    struct x86_vcpu_state state;
    accel_jit_ops.vcpu_save(fixture.vcpu, &state);
    state.halted = 0;
    accel_jit_ops.vcpu_load(fixture.vcpu, &state);
    g_assert_cmpint(accel_jit_ops.vcpu_run(fixture.vcpu), ==, ACCEL_EXIT_SHUTDOWN);
    teardown(&fixture);
}

static void *kicker(void *opaque)
{
    accel_jit_ops.vcpu_kick(((struct fixture *)opaque)->vcpu);
    return NULL;
}

/* Broken if it fails: a vCPU in an endless loop cannot be stopped, or a kick before the run is lost. */
static void test_kick(void)
{
    static const uint8_t code[] = {0xeb, 0xfe}; /* jmp . */
    struct fixture fixture;
    pthread_t thread;
    setup(&fixture);
    start_at_code(&fixture, code, sizeof(code));
    accel_jit_ops.vcpu_kick(fixture.vcpu);
    g_assert_cmpint(accel_jit_ops.vcpu_run(fixture.vcpu), ==, ACCEL_EXIT_KICKED);
    g_assert_cmpint(pthread_create(&thread, NULL, kicker, &fixture), ==, 0);
    g_assert_cmpint(accel_jit_ops.vcpu_run(fixture.vcpu), ==, ACCEL_EXIT_KICKED);
    pthread_join(thread, NULL);
    teardown(&fixture);
}

/* Broken if it fails: a saved state is not what was loaded (migration, SIPI), or an impossible one is accepted. */
static void test_state(void)
{
    struct fixture fixture;
    struct x86_vcpu_state state, again;
    setup(&fixture);
    g_assert_cmpint(accel_jit_ops.vcpu_save(fixture.vcpu, &state), ==, 0);
    g_assert_cmphex(state.rip, ==, 0xfff0);
    g_assert_cmphex(state.seg[X86_CS].base, ==, 0xffff0000);
    g_assert_cmphex(state.gpr[2], ==, 0x30661);
    for (unsigned i = 0; i < 16; i++) {
        state.gpr[i] = 0x1111111111111111u * i;
        state.xsave[160 + i * 16] = (uint8_t)(i + 1);
    }
    state.rip = 0x1234;
    state.rflags = 0x246;
    state.lstar = 0xffffffff81000000;
    state.pat = 0x0007040600070406;
    state.mtrr_def_type = 0x806;
    state.dr[0] = 0x1000;
    state.cr2 = 0x2000;
    state.interrupt_shadow = 1;
    state.cr0 = 0x80000011;
    state.cr3 = 0x1000;
    state.cr4 = 0x20;
    state.efer = 0x500;
    state.seg[X86_CS] = (struct x86_segment){.limit = UINT32_MAX, .attr = 0xa09b, .selector = 8};
    state.seg[X86_SS] = (struct x86_segment){.limit = UINT32_MAX, .attr = 0xc093, .selector = 16};
    g_assert_cmpint(accel_jit_ops.vcpu_load(fixture.vcpu, &state), ==, 0);
    g_assert_cmpint(accel_jit_ops.vcpu_save(fixture.vcpu, &again), ==, 0);
    again.tsc = state.tsc;
    g_assert_cmpmem(&state, sizeof(state), &again, sizeof(again));

    struct x86_vcpu_state bad = state;
    bad.cr0 = 0x80000000; /* paging without protection */
    g_assert_cmpint(accel_jit_ops.vcpu_load(fixture.vcpu, &bad), ==, -EINVAL);
    bad = state;
    bad.efer = 0x100; /* LME and PG without LMA */
    g_assert_cmpint(accel_jit_ops.vcpu_load(fixture.vcpu, &bad), ==, -EINVAL);
    bad = state;
    bad.xsave[26] = 0xff; /* MXCSR */
    g_assert_cmpint(accel_jit_ops.vcpu_load(fixture.vcpu, &bad), ==, -EINVAL);
    g_assert_cmpint(accel_jit_ops.vcpu_save(fixture.vcpu, &again), ==, 0);
    again.tsc = state.tsc;
    g_assert_cmpmem(&state, sizeof(state), &again, sizeof(again));
    teardown(&fixture);
}

/* Broken if it fails: after SIPI or a reset the TSCs of two vCPUs differ, and Linux gives up the TSC as a clock. */
static void test_tsc_in_step(void)
{
    struct fixture fixture;
    struct x86_vcpu_state state;
    setup(&fixture);
    uint64_t second = (uint64_t)accel_jit_ops.vm_tsc_khz(fixture.vm) * 1000;
    int64_t before = (int64_t)accel_jit_ops.vcpu_tsc(fixture.vcpu), between;
    g_assert_cmpint(accel_jit_ops.vcpu_save(fixture.second, &state), ==, 0);
    g_assert_cmpint(accel_jit_ops.vcpu_load(fixture.second, &state), ==, 0);
    between = (int64_t)accel_jit_ops.vcpu_tsc(fixture.second);
    g_assert_cmpint(between, >=, before);
    g_assert_cmpint((int64_t)accel_jit_ops.vcpu_tsc(fixture.vcpu), >=, between);

    state.tsc += 100 * second; /* as another host's */
    g_assert_cmpint(accel_jit_ops.vcpu_load(fixture.second, &state), ==, 0);
    state.tsc += second / 1000;
    g_assert_cmpint(accel_jit_ops.vcpu_load(fixture.vcpu, &state), ==, 0);
    before = (int64_t)accel_jit_ops.vcpu_tsc(fixture.vcpu);
    between = (int64_t)accel_jit_ops.vcpu_tsc(fixture.second);
    g_assert_cmpint(between, >=, before);
    g_assert_cmpint((int64_t)accel_jit_ops.vcpu_tsc(fixture.vcpu), >=, between);
    g_assert_cmpint(before, >, (int64_t)(99 * second));
    teardown(&fixture);
}

/* Broken if it fails: slots that overlap, or more vCPUs than there may be, are accepted. */
static void test_refusals(void)
{
    struct fixture fixture;
    struct accel_vcpu *vcpu;
    struct accel_vm *vm;
    setup(&fixture);
    struct accel_slot slots[2] = {{.gpa = 0, .bytes = 0x2000, .host = fixture.ram},
                                  {.gpa = 0x1000, .bytes = 0x1000, .host = fixture.ram}};
    g_assert_cmpint(accel_jit_ops.vm_set_slots(fixture.vm, slots, 2), ==, -EINVAL);
    slots[0].bytes = 0x1001;
    g_assert_cmpint(accel_jit_ops.vm_set_slots(fixture.vm, slots, 1), ==, -EINVAL);
    struct accel_cpuid vmx = {.leaf = 1, .ecx = 1u << 5};
    accel_jit_ops.vcpu_destroy(fixture.second);
    g_assert_cmpint(accel_jit_ops.vcpu_create(fixture.vm, 1, &vmx, 1, &vcpu), ==, -ENOTSUP);
    g_assert_cmpint(accel_jit_ops.vcpu_create(fixture.vm, 2, &vmx, 1, &vcpu), ==, -EINVAL);
    fixture.second = add_vcpu(&fixture, 1);
    struct accel_vm_config config = {.max_vcpus = 17, .host_ops = &host_ops, .kvm_fd = -1};
    g_assert_cmpint(accel_jit_ops.vm_create(&config, &vm), ==, -EINVAL);
    teardown(&fixture);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/accel/jit/exits", test_exits);
    g_test_add_func("/accel/jit/kick", test_kick);
    g_test_add_func("/accel/jit/state", test_state);
    g_test_add_func("/accel/jit/tsc-in-step", test_tsc_in_step);
    g_test_add_func("/accel/jit/refusals", test_refusals);
    return g_test_run();
}
