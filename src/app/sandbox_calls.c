/* Three kinds of system calls.
 *
 * Allowed: what the server, the C library, jemalloc, the resolver and the HTTP library use once everything is set up.
 * Denied with EPERM, and logged by the kernel's audit: the rest. A library that only tries something goes on.
 * The end: what no part of us would ever try, and somebody who has taken us over would try first.
 *
 * Rings: io_uring's operations do not pass here. That is why this is not alone: files are bound by Landlock, which
 * they do pass, and a ring can neither execute a program, nor trace, nor mount. No new ring can be made: those of the
 * shards exist already, and io_uring_setup is not on the list.
 *
 * clone3 keeps its flags in memory, where a filter cannot look. It is answered ENOSYS, upon which the C library falls
 * back to clone, whose flags can be seen: threads yes, processes no.
 */
#include "app/sandbox_calls.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <termios.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

#define CALL(name) SCMP_SYS(name)

static const int allowed[] = {
    /* files and descriptors */
    CALL(read),
    CALL(write),
    CALL(readv),
    CALL(writev),
    CALL(pread64),
    CALL(pwrite64),
    CALL(preadv),
    CALL(pwritev),
    CALL(preadv2),
    CALL(pwritev2),
    CALL(lseek),
    CALL(open),
    CALL(openat),
    CALL(close),
    CALL(close_range),
    CALL(fstat),
    CALL(fstat64),
    CALL(stat),
    CALL(lstat),
    CALL(newfstatat),
    CALL(fstatat64),
    CALL(statx),
    CALL(statfs),
    CALL(fstatfs),
    CALL(access),
    CALL(faccessat),
    CALL(faccessat2),
    CALL(readlink),
    CALL(readlinkat),
    CALL(getdents64),
    CALL(getcwd),
    CALL(mkdir),
    CALL(mkdirat),
    CALL(rmdir),
    CALL(unlink),
    CALL(unlinkat),
    CALL(rename),
    CALL(renameat),
    CALL(renameat2),
    CALL(link),
    CALL(linkat),
    CALL(truncate),
    CALL(ftruncate),
    CALL(fallocate),
    CALL(fsync),
    CALL(fdatasync),
    CALL(sync_file_range),
    CALL(fadvise64),
    CALL(flock),
    CALL(fcntl),
    CALL(dup),
    CALL(dup2),
    CALL(dup3),
    CALL(pipe2),
    CALL(chmod),
    CALL(fchmod),
    CALL(fchmodat),
    CALL(chown),
    CALL(fchown),
    CALL(fchownat),
    CALL(umask),
    CALL(utimensat),
    CALL(sendfile),
    /* waiting */
    CALL(eventfd2),
    CALL(epoll_create),
    CALL(epoll_create1),
    CALL(epoll_ctl),
    CALL(epoll_wait),
    CALL(epoll_pwait),
    CALL(poll),
    CALL(ppoll),
    CALL(select),
    CALL(pselect6),
    CALL(timerfd_create),
    CALL(timerfd_settime),
    CALL(signalfd4),
    CALL(inotify_init1),
    CALL(inotify_add_watch),
    CALL(inotify_rm_watch),
    CALL(io_uring_enter),
    CALL(io_uring_register),
    /* sockets */
    CALL(connect),
    CALL(bind),
    CALL(listen),
    CALL(accept),
    CALL(accept4),
    CALL(getsockname),
    CALL(getpeername),
    CALL(getsockopt),
    CALL(setsockopt),
    CALL(sendto),
    CALL(recvfrom),
    CALL(sendmsg),
    CALL(recvmsg),
    CALL(sendmmsg),
    CALL(recvmmsg),
    CALL(shutdown),
    /* memory */
    CALL(munmap),
    CALL(mremap),
    CALL(madvise),
    CALL(brk),
    CALL(mincore),
    CALL(mlock),
    CALL(munlock),
    CALL(msync),
    CALL(membarrier),
    /* threads, time, identity */
    CALL(futex),
    CALL(futex_waitv),
    CALL(rseq),
    CALL(set_robust_list),
    CALL(get_robust_list),
    CALL(set_tid_address),
    CALL(exit),
    CALL(exit_group),
    CALL(sched_yield),
    CALL(sched_getaffinity),
    CALL(sched_setaffinity),
    CALL(getcpu),
    CALL(sched_getparam),
    CALL(sched_getscheduler),
    CALL(sched_get_priority_max),
    CALL(sched_get_priority_min),
    CALL(getpriority),
    CALL(setpriority),
    CALL(getpid),
    CALL(gettid),
    CALL(getppid),
    CALL(getuid),
    CALL(geteuid),
    CALL(getgid),
    CALL(getegid),
    CALL(getresuid),
    CALL(getresgid),
    CALL(getgroups),
    CALL(capget),
    CALL(capset),
    CALL(getrandom),
    CALL(uname),
    CALL(sysinfo),
    CALL(getrusage),
    CALL(times),
    CALL(time),
    CALL(gettimeofday),
    CALL(clock_gettime),
    CALL(clock_getres),
    CALL(clock_nanosleep),
    CALL(nanosleep),
    CALL(restart_syscall),
    CALL(getrlimit),
    CALL(setrlimit),
    CALL(prlimit64),
    CALL(arch_prctl),
    /* signals, to ourselves */
    CALL(rt_sigaction),
    CALL(rt_sigprocmask),
    CALL(rt_sigreturn),
    CALL(rt_sigtimedwait),
    CALL(rt_sigpending),
    CALL(rt_sigsuspend),
    CALL(sigaltstack),
    CALL(tgkill),
};

static const int hostile[] = {
    CALL(execve),
    CALL(execveat),
    CALL(fork),
    CALL(vfork),
    CALL(ptrace),
    CALL(process_vm_readv),
    CALL(process_vm_writev),
    CALL(pidfd_getfd),
    CALL(kexec_load),
    CALL(kexec_file_load),
    CALL(init_module),
    CALL(finit_module),
    CALL(delete_module),
    CALL(bpf),
    CALL(perf_event_open),
    CALL(userfaultfd),
    CALL(mount),
    CALL(umount2),
    CALL(pivot_root),
    CALL(chroot),
    CALL(move_mount),
    CALL(open_tree),
    CALL(fsopen),
    CALL(fsmount),
    CALL(setns),
    CALL(unshare),
    CALL(open_by_handle_at),
    CALL(add_key),
    CALL(request_key),
    CALL(keyctl),
    CALL(setuid),
    CALL(setgid),
    CALL(setresuid),
    CALL(setresgid),
    CALL(setreuid),
    CALL(setregid),
    CALL(setgroups),
    CALL(swapon),
    CALL(reboot),
    CALL(io_uring_setup),
};

bool sandbox_calls_possible(void)
{
    return !SANITIZED && prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
}

static int allow_all(scmp_filter_ctx filter)
{
    int error = 0;
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed && error == 0; i++) {
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    }
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile && error == 0; i++) {
        error = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, hostile[i], 0);
    }
    return error;
}

/* The low half of an argument, which is all that the kernel looks at there. */
static struct scmp_arg_cmp argument_is(unsigned argument, unsigned value)
{
    return (struct scmp_arg_cmp){.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = UINT32_MAX, .datum_b = value};
}

/* Those of which only some arguments are allowed. */
static int allow_some(scmp_filter_ctx filter)
{
    static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
    static const unsigned requests[] = {FIONBIO, FIONREAD, TCGETS, TIOCGWINSZ};
    static const int options[] = {PR_SET_NAME, PR_GET_NAME, 0x53564d41 /* PR_SET_VMA: names of memory areas */};
    int error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), CALL(clone3), 0);
    error = error != 0 ? error
                       : seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(clone), 1,
                                          SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    for (size_t i = 0; i < sizeof families / sizeof *families && error == 0; i++) {
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(socket), 1, argument_is(0, (unsigned)families[i]));
    }
    for (size_t i = 0; i < sizeof requests / sizeof *requests && error == 0; i++) {
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(ioctl), 1, argument_is(1, requests[i]));
    }
    for (size_t i = 0; i < sizeof options / sizeof *options && error == 0; i++) {
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(prctl), 1, argument_is(0, (unsigned)options[i]));
    }
    /* Memory that may be executed could be written before: only what is mapped from a library that is loaded late. */
    error = error != 0 ? error
                       : seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(mmap), 1,
                                          SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_WRITE | PROT_EXEC, 0));
    error = error != 0 ? error
                       : seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(mmap), 1,
                                          SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_WRITE | PROT_EXEC, PROT_WRITE));
    error = error != 0 ? error
                       : seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(mmap), 2,
                                          SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_WRITE | PROT_EXEC, PROT_EXEC),
                                          SCMP_A3_32(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, 0));
    return error != 0 ? error
                      : seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(mprotect), 1,
                                         SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
}

int sandbox_calls_restrict(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (filter == NULL) {
        return -ENOMEM;
    }
    int error = allow_all(filter);
    error = error != 0 ? error : allow_some(filter);
    error = error != 0 ? error : seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 1);
    error = error != 0 ? error : seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (error == 0) {
        seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);      /* of what is denied, where the kernel can */
        seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree: some ten comparisons for any call */
        error = seccomp_load(filter);
    }
    seccomp_release(filter);
    return error;
}
