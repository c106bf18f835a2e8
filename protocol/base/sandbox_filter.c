/* SPDX-License-Identifier: Apache-2.0 */
/* The seccomp layer: tables of system calls become one BPF program. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "protocol/base/sandbox_internal.h"

#define SYSCALL_NAMES_MAX 512

/* Filled before the filter is loaded: the handler may interrupt malloc. */
static char *syscall_names[SYSCALL_NAMES_MAX];

static bool rule_is_conditional(const struct sandbox_syscall *rule)
{
    return rule->when[0].mask != 0;
}

/* All tables as one list: the base set first. `index` runs over every rule; NULL after the last. */
static const struct sandbox_syscall *rule_at(const struct sandbox_syscall_set *const *sets, size_t index)
{
    if (index < sandbox_syscalls_base.count)
        return &sandbox_syscalls_base.calls[index];
    index -= sandbox_syscalls_base.count;
    for (; sets && *sets; sets++) {
        if (index < (*sets)->count)
            return &(*sets)->calls[index];
        index -= (*sets)->count;
    }
    return NULL;
}

/* An unconditional permission makes every other rule for the call void, any permission an unconditional refusal. */
static bool rule_is_void(const struct sandbox_syscall_set *const *sets, const struct sandbox_syscall *rule)
{
    const struct sandbox_syscall *other;

    for (size_t i = 0; (other = rule_at(sets, i)); i++) {
        if (other == rule || other->number != rule->number || other->refuse_errno)
            continue;
        if (rule_is_conditional(rule) ? !rule_is_conditional(other) : rule->refuse_errno != 0)
            return true;
    }
    return false;
}

static int add_rule(scmp_filter_ctx ctx, const struct sandbox_syscall *rule)
{
    struct scmp_arg_cmp compare[SANDBOX_CONDITIONS_MAX];
    unsigned count = 0;

    while (count < SANDBOX_CONDITIONS_MAX && rule->when[count].mask) {
        const struct sandbox_condition *condition = &rule->when[count];
        compare[count++] = SCMP_CMP(condition->arg, SCMP_CMP_MASKED_EQ, condition->mask, condition->value);
    }
    uint32_t action = rule->refuse_errno ? SCMP_ACT_ERRNO((uint32_t)rule->refuse_errno) : SCMP_ACT_ALLOW;
    int ret = seccomp_rule_add_array(ctx, action, rule->number, count, compare);
    return ret == -EEXIST ? 0 : ret;
}

static int add_rules(scmp_filter_ctx ctx, const struct sandbox_syscall_set *const *sets, char *why,
                     size_t why_bytes)
{
    /* raise() and abort(): signals to ourselves only. */
    const struct sandbox_syscall tgkill_self = {
        SCMP_SYS(tgkill), 0, "abort", {{0, SANDBOX_INT, (uint64_t)getpid()}}};
    const struct sandbox_syscall *rule;

    int ret = add_rule(ctx, &tgkill_self);
    for (size_t i = 0; ret >= 0 && (rule = rule_at(sets, i)); i++) {
        if (rule_is_void(sets, rule))
            continue;
        ret = add_rule(ctx, rule);
        if (ret < 0) {
            char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, rule->number);
            sandbox_fail(why, why_bytes, ret, "sandbox: the rule for system call %s (%d) is not usable: %s",
                         name ? name : "?", rule->number, strerror(-ret));
            free(name);
        }
    }
    return ret < 0 ? ret : 0;
}

/* libseccomp writes its program to an fd; a memfd takes it from there. */
static int export_program(scmp_filter_ctx ctx, struct sandbox_filter *filter)
{
    struct stat st;
    int ret = 0;

    int fd = memfd_create("sandbox-filter", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    ret = seccomp_export_bpf(ctx, fd);
    if (ret < 0)
        goto out;
    if (fstat(fd, &st) < 0) {
        ret = -errno;
        goto out;
    }
    size_t count = (size_t)st.st_size / sizeof(struct sock_filter);
    if (count == 0 || count > BPF_MAXINSNS) {
        ret = -E2BIG;
        goto out;
    }
    filter->code = malloc((size_t)st.st_size);
    if (!filter->code) {
        ret = -ENOMEM;
        goto out;
    }
    if (pread(fd, filter->code, (size_t)st.st_size, 0) != st.st_size) {
        free(filter->code);
        filter->code = NULL;
        ret = -EIO;
        goto out;
    }
    filter->count = (unsigned short)count;
out:
    close(fd);
    return ret;
}

static void on_sigsys(int signal_number, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    char line[160];
    int number = info->si_syscall;
    const char *name = number >= 0 && number < SYSCALL_NAMES_MAX ? syscall_names[number] : NULL;

    int length = snprintf(line, sizeof line,
                          "sandbox: system call %s (%d) is not on the list, refused; called at %p\n",
                          name ? name : "?", number, info->si_call_addr);
    if (write(STDERR_FILENO, line, (size_t)length) < 0)
        errno = 0; /* no stderr: nothing can be said */
    ucontext_t *uc = context;
#if defined(__x86_64__)
    uc->uc_mcontext.gregs[REG_RAX] = -EPERM;
#elif defined(__aarch64__)
    uc->uc_mcontext.regs[0] = (uint64_t)-EPERM;
#else
#error "say where this architecture returns a system call's result"
#endif
    errno = saved_errno;
}

static enum sandbox_violation violation_from_environment(void)
{
    const char *word = secure_getenv("BULKHEAD_SANDBOX");

    if (word && strcmp(word, "log") == 0)
        return SANDBOX_VIOLATION_LOG;
    if (word && strcmp(word, "eperm") == 0)
        return SANDBOX_VIOLATION_EPERM;
    return SANDBOX_VIOLATION_KILL;
}

static uint32_t violation_action(enum sandbox_violation violation)
{
    switch (violation) {
    case SANDBOX_VIOLATION_LOG:
        return SCMP_ACT_TRAP;
    case SANDBOX_VIOLATION_EPERM:
        return SCMP_ACT_ERRNO(EPERM);
    case SANDBOX_VIOLATION_KILL:
        break;
    }
    return SCMP_ACT_KILL_PROCESS;
}

int sandbox_filter_init(struct sandbox_filter *filter, const struct sandbox_syscall_set *const *sets,
                        char *why, size_t why_bytes)
{
    *filter = (struct sandbox_filter){.violation = violation_from_environment()};

    scmp_filter_ctx ctx = seccomp_init(violation_action(filter->violation));
    if (!ctx)
        return sandbox_fail(why, why_bytes, -ENOMEM, "sandbox: no memory for the system call filter");
    why[0] = '\0';
    int ret = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (ret >= 0)
        ret = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (ret >= 0)
        ret = add_rules(ctx, sets, why, why_bytes);
    if (ret >= 0)
        ret = export_program(ctx, filter);
    seccomp_release(ctx);
    if (ret < 0 && !why[0])
        sandbox_fail(why, why_bytes, ret, "sandbox: cannot compile the system call filter: %s",
                     strerror(-ret));
    if (ret >= 0 && filter->violation == SANDBOX_VIOLATION_LOG) {
        for (int i = 0; i < SYSCALL_NAMES_MAX; i++) {
            if (!syscall_names[i])
                syscall_names[i] = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, i);
        }
    }
    return ret < 0 ? ret : 0;
}

void sandbox_filter_finish(struct sandbox_filter *filter)
{
    free(filter->code);
    filter->code = NULL;
}

int sandbox_filter_load(const struct sandbox_filter *filter)
{
    struct sock_fprog program = {.len = filter->count, .filter = filter->code};

    if (filter->violation == SANDBOX_VIOLATION_LOG) {
        struct sigaction action = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO | SA_NODEFER};
        if (sigaction(SIGSYS, &action, NULL) < 0)
            return -errno;
    }
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
        return -errno;
    return 0;
}
