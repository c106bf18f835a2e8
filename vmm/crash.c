/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/crash.h"

#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "protocol/base/units.h"
#include "protocol/vmm_control.h"

#define STACK_BYTES   (128 * KIB)
#define MODULES_MAX   24
#define CALLERS_MAX   24
#define LAST_BYTES    256        /* kept free for the last line */
#define CALLERS_BYTES (16 * KIB) /* of stack that are searched for return addresses */

static const struct {
    int number;
    const char *name;
} signals[] = {{SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"},   {SIGILL, "SIGILL"}, {SIGFPE, "SIGFPE"},
               {SIGTRAP, "SIGTRAP"}, {SIGABRT, "SIGABRT"}, {SIGSYS, "SIGSYS"}};

/* What can only be found out while the process is healthy. */
static struct {
    struct {
        char name[48];
        uintptr_t base, start, end; /* of its code */
    } module[MODULES_MAX];
    unsigned module_count;
    char build_id[41];
    char cpu[96];
    struct utsname host;
    char *report; /* shared with the broker, or our own */
    bool shared;
    int control_fd;
} known = {.control_fd = -1};

static char own_report[VMM_CONTROL_CRASH_BYTES];
static struct text_buffer out;
enum { STATE_NONE, STATE_WRITING, STATE_WRITTEN };
static _Atomic int state;
static _Atomic pid_t writer; /* thread; valid from STATE_WRITING on */
static sigjmp_buf section_end;
static volatile sig_atomic_t in_section;

static _Thread_local struct {
    const char *name;
    crash_reporter reporter;
    void *opaque;
    void *stack;
} self;

/* --- while all is well --- */

static void note_build_id(const struct dl_phdr_info *info, const ElfW(Phdr) * segment)
{
    const uint8_t *at = (const uint8_t *)(info->dlpi_addr + segment->p_vaddr), *end = at + segment->p_memsz;

    while (at + sizeof(ElfW(Nhdr)) <= end) {
        const ElfW(Nhdr) *note = (const void *)at;
        const uint8_t *bytes = at + sizeof(*note) + ((note->n_namesz + 3) & ~3u);

        if (note->n_type == NT_GNU_BUILD_ID)
            for (unsigned i = 0; i < note->n_descsz && i < 20; i++)
                snprintf(known.build_id + 2 * i, 3, "%02x", bytes[i]);
        at = bytes + ((note->n_descsz + 3) & ~3u);
    }
}

static int note_module(struct dl_phdr_info *info, size_t bytes, void *opaque)
{
    const char *slash = strrchr(info->dlpi_name, '/');
    bool program = known.module_count == 0;

    for (unsigned i = 0; i < info->dlpi_phnum && known.module_count < MODULES_MAX; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];

        if (program && segment->p_type == PT_NOTE)
            note_build_id(info, segment);
        if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X))
            continue;
        unsigned number = known.module_count++;

        snprintf(known.module[number].name, sizeof(known.module[number].name), "%s",
                 program ? "bulkhead-vmm"
                 : slash ? slash + 1
                         : info->dlpi_name);
        known.module[number].base = info->dlpi_addr;
        known.module[number].start = info->dlpi_addr + segment->p_vaddr;
        known.module[number].end = known.module[number].start + segment->p_memsz;
    }
    return 0;
}

static void note_cpu(void)
{
    uint32_t brand[12] = {0}, eax, ebx, ecx, edx;

    for (unsigned i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002 + i, &brand[4 * i], &brand[4 * i + 1], &brand[4 * i + 2],
                         &brand[4 * i + 3]))
            break;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        eax = 0;
    snprintf(known.cpu, sizeof(known.cpu), "%.48s, signature %x", (const char *)brand, eax);
}

static void on_signal(int number, siginfo_t *info, void *context);

int crash_init(int fd, int control_fd)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

    known.report = own_report;
    known.control_fd = control_fd;
    if (fd >= 0) {
        void *shared = mmap(NULL, VMM_CONTROL_CRASH_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        if (shared == MAP_FAILED)
            return -errno;
        known.report = shared;
        known.shared = true;
    }
    dl_iterate_phdr(note_module, NULL);
    note_cpu();
    uname(&known.host);
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        if (sigaction(signals[i].number, &action, NULL) < 0)
            return -errno;
    return 0;
}

int crash_thread_begin(const char *name, crash_reporter reporter, void *opaque)
{
    stack_t stack = {.ss_size = STACK_BYTES};

    stack.ss_sp =
        mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack.ss_sp == MAP_FAILED)
        return -ENOMEM;
    sigaltstack(&stack, NULL);
    self.name = name;
    self.reporter = reporter;
    self.opaque = opaque;
    self.stack = stack.ss_sp;
    return 0;
}

void crash_thread_end(void)
{
    const stack_t none = {.ss_flags = SS_DISABLE};

    if (!self.stack)
        return;
    sigaltstack(&none, NULL);
    munmap(self.stack, STACK_BYTES);
    self.name = NULL;
    self.reporter = NULL;
    self.stack = NULL;
}

/* --- afterwards --- */

/* "bulkhead-vmm+0x1234", or false for an address outside all code. */
static bool append_place(uintptr_t address)
{
    for (unsigned i = 0; i < known.module_count; i++) {
        if (address >= known.module[i].start && address < known.module[i].end) {
            text_append(&out, "%s+%#zx", known.module[i].name, (size_t)(address - known.module[i].base));
            return true;
        }
    }
    return false;
}

static void append_head(const char *what)
{
    text_append(&out,
                "Bulkhead crash report\n"
                "program: bulkhead-vmm " BULKHEAD_VERSION ", build %s\n"
                "host: %s; %s %s\n"
                "thread: %s\n"
                "what: %s\n",
                known.build_id[0] ? known.build_id : "unknown", known.cpu, known.host.sysname,
                known.host.release, self.name ? self.name : "not a vCPU", what);
}

static void append_host(const struct host_fault *fault)
{
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

    if (!fault->pc)
        return;
    text_append(&out, "\nhost registers, pc %p", (const void *)fault->pc);
    text_append(&out, " = ");
    if (!append_place((uintptr_t)fault->pc))
        text_append(&out, "no code of the program or a library");
    text_append(&out, "\n");
    for (unsigned i = 0; i < 16; i++)
        text_append(&out, "%-3s %016llx%c", names[i], (unsigned long long)fault->gpr[i],
                    i % 4 == 3 ? '\n' : ' ');
}

/* Words on the stack that look like return addresses; only these, as the rest may be a guest's data. */
static void append_callers(const struct host_fault *fault)
{
    const uintptr_t *word = (const uintptr_t *)(fault->gpr[4] & ~UINT64_C(7));
    unsigned found = 0;

    if (!fault->pc)
        return;
    text_append(&out, "\npossible callers:\n");
    for (size_t i = 0; i < CALLERS_BYTES / sizeof(*word) && found < CALLERS_MAX; i++) {
        size_t before = out.used;

        text_append(&out, "  ");
        if (append_place(word[i])) {
            text_append(&out, "\n");
            found++;
        } else {
            out.used = before;
            out.text[before] = '\0';
        }
    }
}

static bool append_reporter(const struct host_fault *fault, unsigned part)
{
    text_append(&out, "\n");
    return self.reporter && self.reporter(self.opaque, fault, part, &out);
}

static bool append_section(const struct host_fault *fault, unsigned section)
{
    switch (section) {
    case 0:
        append_host(fault);
        return true;
    case 1:
        append_callers(fault);
        return true;
    default:
        return append_reporter(fault, section - 2);
    }
}

/* Each section is cut short if it faults. */
static void append_sections(const struct host_fault *fault)
{
    for (volatile unsigned section = 0; section < 16; section++) {
        volatile bool more = true;

        if (sigsetjmp(section_end, 0) == 0) {
            in_section = 1;
            more = append_section(fault, section);
        } else {
            text_append(&out, "\n(cut short: reading on faulted)\n");
        }
        in_section = 0;
        if (!more)
            return;
    }
}

static void write_out(const char *text, size_t bytes)
{
    while (bytes > 0) {
        ssize_t wrote = write(STDERR_FILENO, text, bytes);

        if (wrote <= 0 && errno != EINTR)
            return;
        if (wrote > 0) {
            text += wrote;
            bytes -= (size_t)wrote;
        }
    }
}

static void tell_broker(const char *what)
{
    uint8_t packet[VMM_CONTROL_PACKET_BYTES];
    size_t bytes = vmm_control_encode(VMM_CONTROL_EV_PANIC, 0, 0, what, packet);

    if (known.control_fd >= 0)
        (void)!send(known.control_fd, packet, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* True for the one thread that is to write. */
static bool claim(void)
{
    int none = STATE_NONE;

    if (!atomic_compare_exchange_strong(&state, &none, STATE_WRITING))
        return false;
    atomic_store(&writer, gettid());
    return true;
}

static void make_report(const char *what, const struct host_fault *fault, bool from_outside)
{
    const char *last =
        from_outside
            ? "\nNothing failed here: somebody sent this program a signal.\n"
            : "\nThis is a bug of Bulkhead: please report it with this text (bulkhead-vmm(1), CRASHES).\n";

    text_buffer_init(&out, known.report ? known.report : own_report, VMM_CONTROL_CRASH_BYTES - LAST_BYTES);
    append_head(what);
    append_sections(fault);
    out.bytes += LAST_BYTES;
    text_append(&out, "%s", last);
    if (!known.shared)
        write_out(out.text, out.used);
    atomic_store(&state, STATE_WRITTEN);
}

void crash_report(const char *what)
{
    const struct host_fault none = {0};

    if (claim())
        make_report(what, &none, false);
}

static struct host_fault fault_of(const ucontext_t *context)
{
    static const int order[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    struct host_fault fault = {.pc = (const uint8_t *)context->uc_mcontext.gregs[REG_RIP]};

    for (unsigned i = 0; i < ARRAY_LEN(order); i++)
        fault.gpr[i] = (uint64_t)context->uc_mcontext.gregs[order[i]];
    return fault;
}

static bool is_from_outside(const siginfo_t *info)
{
    return info->si_code <= 0 && info->si_pid != getpid();
}

static void describe(int number, const siginfo_t *info, char *text, size_t bytes)
{
    const char *name = "signal";

    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        if (signals[i].number == number)
            name = signals[i].name;
    if (number == SIGABRT && !is_from_outside(info))
        snprintf(
            text, bytes,
            "SIGABRT: an assertion failed or the C library found damage; the log's last line says which");
    else if (is_from_outside(info))
        snprintf(text, bytes, "%s (code %d) sent by process %d of user %d: not a fault of this program", name,
                 info->si_code, (int)info->si_pid, (int)info->si_uid);
    else
        snprintf(text, bytes, "%s (code %d) at address %p", name, info->si_code, info->si_addr);
}

static void die(int number)
{
    signal(number, SIG_DFL);
    raise(number);
    _exit(1);
}

/* A fault that is not the first. */
static void fault_again(int number)
{
    const struct timespec moment = {.tv_nsec = 10000000};

    if (atomic_load(&writer) == gettid() && in_section)
        siglongjmp(section_end, 1);
    /* Another thread writes, and ends the process; unless it only reports, or is this one in its last steps. */
    while (atomic_load(&state) == STATE_WRITING && atomic_load(&writer) != gettid())
        nanosleep(&moment, NULL);
    die(number);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    static char what[VMM_CONTROL_TEXT_BYTES + 1];

    if (!claim())
        fault_again(number);
    struct host_fault fault = fault_of(context);

    describe(number, info, what, sizeof(what));
    write_out("bulkhead-vmm: error: the machine ends: ", 39);
    write_out(what, strlen(what));
    write_out("\n", 1);
    make_report(what, &fault, is_from_outside(info));
    tell_broker(what);
    die(number);
}
