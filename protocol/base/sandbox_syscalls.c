/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls that every process, or every process of a kind, needs. A program's own are beside its
 * code. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "protocol/base/sandbox.h"

static const struct sandbox_syscall base_calls[] = {
    SANDBOX_ALLOW(exit_group, "exit"),
    SANDBOX_ALLOW(exit, "a thread's exit"),
    SANDBOX_ALLOW(rt_sigreturn, "signal handlers"),
    SANDBOX_ALLOW(rt_sigprocmask, "abort, pthread_create"),
    SANDBOX_ALLOW(rt_sigaction, "abort"),
    SANDBOX_ALLOW(restart_syscall, "the kernel's own restart of interrupted waits"),

    SANDBOX_ALLOW(brk, "malloc"),
    SANDBOX_ALLOW_IF(mmap, 2, PROT_EXEC, 0, "malloc, shared memory; never executable"),
    SANDBOX_ALLOW_IF(mprotect, 2, PROT_EXEC, 0, "malloc's arenas, stacks; never executable"),
    SANDBOX_ALLOW(munmap, "free"),
    SANDBOX_ALLOW(mremap, "realloc"),
    SANDBOX_ALLOW(madvise, "malloc's trim, stacks"),

    SANDBOX_ALLOW(futex, "locks"),
    SANDBOX_ALLOW(rseq, "the C library, at thread start"),
    SANDBOX_ALLOW(sched_yield, "spinning locks"),
    SANDBOX_ALLOW(sched_getaffinity, "malloc counts CPUs before it makes an arena"),
    SANDBOX_ALLOW(getcpu, "sched_getcpu without vDSO"),
    SANDBOX_ALLOW(getpid, "logs"),
    SANDBOX_ALLOW(gettid, "logs, raise"),
    SANDBOX_ALLOW(getuid, "GLib"),
    SANDBOX_ALLOW(geteuid, "GLib"),
    SANDBOX_ALLOW(getgid, "GLib"),
    SANDBOX_ALLOW(getegid, "GLib"),
    SANDBOX_ALLOW(sysinfo, "qsort asks for the size of memory"),
    SANDBOX_ALLOW(getrandom, "malloc, hash seeds"),

    SANDBOX_ALLOW(clock_gettime, "clocks that the vDSO does not serve"),
    SANDBOX_ALLOW(clock_getres, "clocks"),
    SANDBOX_ALLOW(gettimeofday, "clocks"),
    SANDBOX_ALLOW(time, "clocks"),
    SANDBOX_ALLOW(clock_nanosleep, "sleep"),
    SANDBOX_ALLOW(nanosleep, "sleep"),

    SANDBOX_ALLOW(read, "open fds"),
    SANDBOX_ALLOW(write, "open fds"),
    SANDBOX_ALLOW(readv, "open fds"),
    SANDBOX_ALLOW(writev, "open fds"),
    SANDBOX_ALLOW(lseek, "stdio"),
    SANDBOX_ALLOW(close, "open fds"),
    SANDBOX_ALLOW(fstat, "stdio"),
    SANDBOX_ALLOW_IF(newfstatat, 3, AT_EMPTY_PATH, AT_EMPTY_PATH, "fstat of glibc 2.33 and later"),
    SANDBOX_ALLOW_IF(ioctl, 1, SANDBOX_INT, TCGETS, "isatty, from stdio"),
    SANDBOX_ALLOW_IF(fcntl, 1, SANDBOX_INT, F_GETFL, "non-blocking mode"),
    SANDBOX_ALLOW_IF(fcntl, 1, SANDBOX_INT, F_SETFL, "non-blocking mode"),
    SANDBOX_ALLOW_IF(fcntl, 1, SANDBOX_INT, F_GETFD, "close-on-exec"),
    SANDBOX_ALLOW_IF(fcntl, 1, SANDBOX_INT, F_SETFD, "close-on-exec"),
    SANDBOX_ALLOW_IF(fcntl, 1, SANDBOX_INT, F_GET_SEALS, "is this memfd sealed?"),
    SANDBOX_ALLOW_IF(fcntl, 1, SANDBOX_INT, F_DUPFD_CLOEXEC, "a second owner for an fd"),
    SANDBOX_ALLOW_IF(prctl, 0, SANDBOX_INT, PR_SET_NAME, "thread names"),

    /* Libraries look for time zones, locales and /proc and go on without: they get what an empty root says.
     */
    SANDBOX_REFUSE(openat, ENOENT, "library look-ups in an empty root"),
    SANDBOX_REFUSE(open, ENOENT, "library look-ups in an empty root"),
    SANDBOX_REFUSE(readlink, ENOENT, "library look-ups in an empty root"),
    SANDBOX_REFUSE(readlinkat, ENOENT, "library look-ups in an empty root"),
    SANDBOX_REFUSE(access, ENOENT, "library look-ups in an empty root"),
    SANDBOX_REFUSE(faccessat, ENOENT, "library look-ups in an empty root"),
    SANDBOX_REFUSE(faccessat2, ENOENT, "library look-ups in an empty root"),
    SANDBOX_REFUSE(stat, ENOENT, "library look-ups in an empty root"),
    SANDBOX_REFUSE(statx, ENOENT, "library look-ups in an empty root"),

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    SANDBOX_ALLOW(sigaltstack, "sanitizer run-time"),
#endif
};
const struct sandbox_syscall_set sandbox_syscalls_base = SANDBOX_SET(base_calls);

#define THREAD_FLAGS                                                                                         \
    ((uint64_t)(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM))
#define NAMESPACE_FLAGS                                                                                      \
    ((uint64_t)(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |    \
                CLONE_NEWCGROUP))

static const struct sandbox_syscall threads_calls[] = {
    SANDBOX_ALLOW_IF(clone, 0, THREAD_FLAGS | NAMESPACE_FLAGS, THREAD_FLAGS, "a thread, never a process"),
    SANDBOX_REFUSE(clone3, ENOSYS, "its flags cannot be seen by a filter; the C library falls back to clone"),
    SANDBOX_ALLOW(set_robust_list, "the C library, at thread start"),
    SANDBOX_ALLOW(sched_setaffinity, "pinning"),
};
const struct sandbox_syscall_set sandbox_syscalls_threads = SANDBOX_SET(threads_calls);

static const struct sandbox_syscall events_calls[] = {
    SANDBOX_ALLOW(poll, "event loop"),
    SANDBOX_ALLOW(ppoll, "event loop"),
    SANDBOX_ALLOW(epoll_create1, "event loop"),
    SANDBOX_ALLOW(epoll_ctl, "event loop"),
    SANDBOX_ALLOW(epoll_wait, "event loop"),
    SANDBOX_ALLOW(epoll_pwait, "event loop"),
    SANDBOX_ALLOW(epoll_pwait2, "event loop"),
    SANDBOX_ALLOW(eventfd2, "wake-ups"),
    SANDBOX_ALLOW(pipe2, "wake-ups"),
    SANDBOX_ALLOW(timerfd_create, "timers"),
    SANDBOX_ALLOW(timerfd_settime, "timers"),
    SANDBOX_ALLOW(timerfd_gettime, "timers"),
    SANDBOX_ALLOW_IF(ioctl, 1, SANDBOX_INT, FIONBIO, "libuv's non-blocking mode"),
    SANDBOX_REFUSE(io_uring_setup, ENOSYS, "libuv 1.45 and later try it and go on without"),
};
const struct sandbox_syscall_set sandbox_syscalls_events = SANDBOX_SET(events_calls);

static const struct sandbox_syscall messages_calls[] = {
    SANDBOX_ALLOW(recvmsg, "messages with fds"),
    SANDBOX_ALLOW(sendmsg, "messages with fds"),
    SANDBOX_ALLOW(recvfrom, "messages"),
    SANDBOX_ALLOW(sendto, "messages"),
    SANDBOX_ALLOW(shutdown, "end of a connection"),
    SANDBOX_ALLOW(getsockopt, "what kind of fd did the peer send?"),
    SANDBOX_ALLOW(memfd_create, "memory that we share with a peer (in-flight area)"),
    SANDBOX_ALLOW(ftruncate, "its size"),
    SANDBOX_ALLOW_IF(fcntl, 1, SANDBOX_INT, F_ADD_SEALS, "its seals"),
};
const struct sandbox_syscall_set sandbox_syscalls_messages = SANDBOX_SET(messages_calls);

static const struct sandbox_syscall exec_memory_calls[] = {
    SANDBOX_ALLOW(mmap, "code that we generate"),
    SANDBOX_ALLOW(mprotect, "code that we generate"),
};
const struct sandbox_syscall_set sandbox_syscalls_exec_memory = SANDBOX_SET(exec_memory_calls);
