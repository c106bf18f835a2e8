/* SPDX-License-Identifier: Apache-2.0 */
/* Broken if these fail: a VMM that runs into a bug of its own leaves nothing from which the bug could be found. */
#include "vmm/crash.h"

#include <glib.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/vmm_control.h"
#include "tests/translator/sys_machine.h"
#include "translator/report.h"

static char *volatile nowhere = (char *)16;

/* Part 0 faults in its middle, part 1 is whole, there is no part 2. */
static bool faulty_reporter(void *opaque, const struct host_fault *fault, unsigned part,
                            struct text_buffer *out)
{
    if (part == 0) {
        text_append(out, "before the fault");
        *(volatile char *)nowhere = 1;
        text_append(out, "never reached");
    } else {
        text_append(out, "second part of %s", (const char *)opaque);
    }
    return part == 0;
}

static void *fault_in_thread(void *argument)
{
    crash_thread_begin("vcpu-7", faulty_reporter, (void *)"seven");
    *(volatile char *)nowhere = 1;
    return NULL;
}

static void segv(void)
{
    pthread_t thread;

    pthread_create(&thread, NULL, fault_in_thread, NULL);
    pthread_join(thread, NULL);
}

static void undefined(void)
{
    __builtin_trap();
}

static void outside(void)
{
    pid_t child = fork();

    if (child == 0) {
        kill(getppid(), SIGFPE);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    pause();
}

/* A stack pointer that points nowhere, as in generated code that went astray. */
static void no_stack(void)
{
    crash_thread_begin("vcpu-0", NULL, NULL);
    __asm__ volatile("xor %%esp, %%esp\n\tpush %%rax" ::: "memory");
}

static void noticed(void)
{
    crash_report("two halves do not fit");
    crash_report("and a second one");
    abort(); /* the first report stays */
}

static bool machine_reporter(void *opaque, const struct host_fault *fault, unsigned part,
                             struct text_buffer *out)
{
    struct machine *machine = opaque;

    if (part == 0)
        report_cpu(machine->cpu, fault, out);
    else if (part == 1)
        report_block(machine->cpu, fault, out);
    else
        report_vm(machine->cpu, out);
    return part < 2;
}

/* The memory under a guest's load vanishes: generated code itself faults. */
static void generated(void)
{
    static const uint8_t code[] = {0x48, 0x8b, 0x07, 0xf4}; /* mov rax, [rdi]; hlt */
    struct machine machine;

    machine_create(&machine, ENGINE_T0);
    machine_enter_long_mode(&machine);
    memcpy(machine.ram + MACHINE_CODE, code, sizeof(code));
    machine.cpu->gpr[IR_RDI] = 0x123008;
    for (unsigned round = 0; round < 2; round++) {
        machine.cpu->halted = false;
        x86_set_rip(machine.cpu, MACHINE_CODE);
        g_assert_cmpint(x86_run(machine.cpu), ==, X86_RUN_HLT);
    }
    uintptr_t page = (uintptr_t)(machine.ram + 0x123000) & ~UINT64_C(4095);

    mprotect((void *)page, 8192, PROT_NONE);
    crash_thread_begin("vcpu-0", machine_reporter, &machine);
    machine.cpu->halted = false;
    x86_set_rip(machine.cpu, MACHINE_CODE);
    x86_run(machine.cpu);
}

static const struct {
    const char *name;
    void (*fail)(void);
    int signal;
    const char *says[8];
} cases[] = {
    {"segv",
     segv,
     SIGSEGV,
     {"Bulkhead crash report\nprogram: bulkhead-vmm ",
      "thread: vcpu-7\nwhat: SIGSEGV (code 1) at address 0x10\n",
      "possible callers:", "before the fault\n(cut short", "second part of seven", "please report it"}},
    {"trap", undefined, SIGILL, {"what: SIGILL (code 2)", "not a vCPU"}},
    {"outside", outside, SIGFPE, {"what: SIGFPE (code 0) sent by process ", "Nothing failed here"}},
    {"abort", abort, SIGABRT, {"what: SIGABRT: an assertion failed"}},
    {"no-stack", no_stack, SIGSEGV, {"thread: vcpu-0\nwhat: SIGSEGV", "rsp 0000000000000000"}},
    {"noticed", noticed, SIGABRT, {"what: two halves do not fit\n"}},
    {"generated-code",
     generated,
     SIGSEGV,
     {"what: SIGSEGV (code 2)", "vCPU 0:", "rdi 0000000000123008", "host code around 0x",
      "block at physical 0x20000,", " 48 8b 07 f4\n", "mov.8 rax []", "tier t0; "}},
};

static void test_case(gconstpointer argument)
{
    unsigned number = GPOINTER_TO_UINT(argument);
    int fd = memfd_create("report", MFD_CLOEXEC), status;
    char *text = NULL;

    g_assert_cmpint(ftruncate(fd, VMM_CONTROL_CRASH_BYTES), ==, 0);
    pid_t child = fork();

    if (child == 0) {
        dup2(STDOUT_FILENO, STDERR_FILENO); /* glib's test log is not for it */
        close(STDOUT_FILENO);
        if (crash_init(fd, -1) == 0)
            cases[number].fail();
        _exit(0);
    }
    waitpid(child, &status, 0);
    text = mmap(NULL, VMM_CONTROL_CRASH_BYTES, PROT_READ, MAP_PRIVATE, fd, 0);
    g_assert_true(text != MAP_FAILED);
    g_test_message("%s", text);
    g_assert_true(WIFSIGNALED(status));
    g_assert_cmpint(WTERMSIG(status), ==, cases[number].signal);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases[number].says) && cases[number].says[i]; i++)
        g_assert_nonnull(strstr(text, cases[number].says[i]));
    g_assert_null(strstr(text, "never reached"));
    munmap(text, VMM_CONTROL_CRASH_BYTES);
    close(fd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strdup_printf("/vmm/crash/%s", cases[i].name);

        g_test_add_data_func(path, GUINT_TO_POINTER(i), test_case);
    }
    return g_test_run();
}
