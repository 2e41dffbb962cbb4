// The system calls that a box may make: those that ordinary programs need. Dangerous ones get EPERM. All others get
// ENOSYS, so programs fall back as on an older kernel, or on one without NUMA (mbind and relatives). Pure data for the
// OCI configuration. It is tighter than the usual default: no mount, no namespaces, no tracing of other processes, no
// key rings, no 32-bit entry.

const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET (sched.h). */
const namespaceFlags = [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000];
const namespaceMask = 0x7e020000;
/** AF_UNIX, AF_INET, AF_INET6, AF_NETLINK. The last one has the highest number. */
const socketFamilies = [1, 2, 10, 16];
const socketFamilyHighest = 16;
/** PER_LINUX and PER_LINUX32, each with and without UNAME26, and the value that only asks. */
const personalities = [0x0, 0x8, 0x20000, 0x20008, 0xffffffff];

const allowed = `
  accept accept4 access alarm arch_prctl bind brk cachestat capget capset chdir chmod chown chroot clock_adjtime
  clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3
  epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
  eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2
  fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync
  ftruncate futex futex_requeue futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64
  getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom
  getresgid getresuid getrlimit get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid
  gettimeofday getuid getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel
  ioctl io_destroy io_getevents io_pgetevents ioprio_get ioprio_set io_setup io_submit kill landlock_add_rule
  landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat listen listmount listxattr listxattrat
  llistxattr lremovexattr lseek lsetxattr lstat madvise map_shadow_stack membarrier memfd_create memfd_secret
  mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap modify_ldt mprotect mq_getsetattr mq_notify mq_open
  mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap
  name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2
  pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6
  pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages
  removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending
  rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_getaffinity
  sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler
  sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select
  semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto setfsgid setfsuid setgid setgroups setitimer
  setpgid setpriority setregid setresgid setresuid setreuid setrlimit set_robust_list setsid setsockopt
  set_thread_area set_tid_address setuid setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd
  signalfd4 socketpair splice stat statfs statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee
  tgkill time timer_create timer_delete timerfd_create timerfd_gettime timerfd_settime timer_getoverrun
  timer_gettime timer_settime times tkill truncate umask uname unlink unlinkat utime utimensat utimes vfork vmsplice
  wait4 waitid write writev
`;

const refused = `
  acct add_key bpf clock_settime delete_module fanotify_init finit_module fsconfig fsmount fsopen fspick
  get_kernel_syms init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load
  kexec_load keyctl lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr
  move_mount nfsservctl open_by_handle_at open_tree open_tree_attr perf_event_open pidfd_getfd pivot_root
  process_madvise process_vm_readv process_vm_writev ptrace query_module quotactl quotactl_fd reboot request_key
  setdomainname sethostname setns settimeofday swapoff swapon sysfs syslog umount umount2 unshare uselib userfaultfd
  ustat vhangup vm86 vm86old
`;

interface SeccompArgument {
  readonly index: number;
  readonly value: number;
  readonly valueTwo?: number;
  readonly op: 'SCMP_CMP_EQ' | 'SCMP_CMP_GE' | 'SCMP_CMP_MASKED_EQ';
}

interface SeccompRule {
  readonly names: readonly string[];
  readonly action: 'SCMP_ACT_ALLOW' | 'SCMP_ACT_ERRNO';
  readonly errnoRet?: number;
  readonly args?: readonly SeccompArgument[];
}

const words = (text: string) => text.trim().split(/\s+/);
const allow = (name: string, argument: SeccompArgument): SeccompRule => ({
  names: [name],
  action: 'SCMP_ACT_ALLOW',
  args: [argument],
});
const refuse = (name: string, errnoRet: number, argument: SeccompArgument): SeccompRule => ({
  names: [name],
  action: 'SCMP_ACT_ERRNO',
  errnoRet,
  args: [argument],
});

/**
 * `clone` without new namespaces. clone3 gets ENOSYS, because a filter cannot read its flags. Programs then use clone,
 * whose flags are checked here.
 */
function cloneRules(): SeccompRule[] {
  return [
    allow('clone', { index: 0, value: namespaceMask, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }),
    ...namespaceFlags.map((flag) =>
      refuse('clone', EPERM, { index: 0, value: flag, valueTwo: flag, op: 'SCMP_CMP_MASKED_EQ' }),
    ),
  ];
}

/** A rule may compare an argument only once, so each refused family needs its own rule. */
function socketRules(): SeccompRule[] {
  const below = Array.from({ length: socketFamilyHighest }, (_, family) => family);
  return [
    ...socketFamilies.map((value) => allow('socket', { index: 0, value, op: 'SCMP_CMP_EQ' })),
    ...below
      .filter((family) => !socketFamilies.includes(family))
      .map((value) => refuse('socket', EAFNOSUPPORT, { index: 0, value, op: 'SCMP_CMP_EQ' })),
    refuse('socket', EAFNOSUPPORT, { index: 0, value: socketFamilyHighest + 1, op: 'SCMP_CMP_GE' }),
  ];
}

interface SeccompProfile {
  readonly defaultAction: 'SCMP_ACT_ERRNO';
  readonly defaultErrnoRet: number;
  readonly architectures: readonly string[];
  readonly syscalls: readonly SeccompRule[];
}

/** Returns `linux.seccomp` of an OCI configuration. @param architecture amd64 or arm64 */
export function seccompProfile(architecture: string): SeccompProfile {
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: ENOSYS,
    architectures: [architecture === 'arm64' ? 'SCMP_ARCH_AARCH64' : 'SCMP_ARCH_X86_64'],
    syscalls: [
      { names: words(allowed), action: 'SCMP_ACT_ALLOW' },
      { names: words(refused), action: 'SCMP_ACT_ERRNO', errnoRet: EPERM },
      ...cloneRules(),
      ...personalities.map((value) => allow('personality', { index: 0, value, op: 'SCMP_CMP_EQ' })),
      ...socketRules(),
    ],
  };
}
