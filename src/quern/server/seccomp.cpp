// SPDX-License-Identifier: Apache-2.0
// A list of what is denied, not of what is allowed: an allowed list has to name what libc, the allocator and the
// sanitizers of the day use, and a wrong guess ends the server at some later update. What is to be kept away (network,
// programs, other processes, the kernel's own switches) is a closed list. It stays closed because calls newer than the
// newest it knows do not exist for us.
#include "quern/server/seccomp.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <system_error>
#include <vector>

namespace quern {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kMachine = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kMachine = AUDIT_ARCH_AARCH64;
#else
constexpr uint32_t kMachine = 0;
#endif

/// Linux 5.17's set_mempolicy_home_node is the last one that the list was made with. The numbers from 424 on are the
/// same everywhere.
constexpr uint32_t kFirstUnknown = 451;

// The newest of these have no name in the headers of older systems.
constexpr uint32_t kPidfdGetfd = 438, kPidfdSendSignal = 424, kProcessMadvise = 440, kMountSetattr = 442,
                   kQuotactlFd = 443, kIoUringSetup = 425, kIoUringEnter = 426, kIoUringRegister = 427, kOpenTree = 428,
                   kMoveMount = 429, kFsopen = 430, kFsconfig = 431, kFsmount = 432, kFspick = 433, kClone3 = 435;

constexpr uint32_t kDenied[] = {
    // connections; what listens has been made, accept4 goes on
    SYS_socket, SYS_socketpair, SYS_connect, SYS_bind, SYS_listen,
    // io_uring does all of this without system calls
    kIoUringSetup, kIoUringEnter, kIoUringRegister,
    // programs and processes (clone: below)
    SYS_execve, SYS_execveat,
#ifdef SYS_fork
    SYS_fork, SYS_vfork,
#endif
    // other processes
    SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, kProcessMadvise, kPidfdGetfd, kPidfdSendSignal, SYS_kcmp,
    SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_tkill,
    // file systems and name spaces
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_setns, SYS_unshare, kOpenTree, kMoveMount, kFsopen,
    kFsconfig, kFsmount, kFspick, kMountSetattr, SYS_swapon, SYS_swapoff, SYS_quotactl, kQuotactlFd, SYS_mknodat,
    SYS_name_to_handle_at, SYS_open_by_handle_at, SYS_fanotify_init,
#ifdef SYS_mknod
    SYS_mknod,
#endif
    // the kernel
    SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load,
    SYS_reboot, SYS_add_key, SYS_request_key, SYS_keyctl, SYS_personality, SYS_acct, SYS_syslog, SYS_vhangup,
#ifdef SYS_kexec_file_load
    SYS_kexec_file_load,
#endif
#ifdef SYS_iopl
    SYS_iopl, SYS_ioperm, SYS_modify_ldt,
#endif
    // who we are and what time it is
    SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setgroups, SYS_setfsuid,
    SYS_setfsgid, SYS_capset, SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime, SYS_adjtimex, SYS_sethostname,
    SYS_setdomainname};

/// The filter, in the order in which it is asked. Every rule that has not decided hands on to the next with the call's
/// number loaded.
class Filter {
 public:
  Filter() {
    load(offsetof(seccomp_data, arch));
    unless(BPF_JEQ, kMachine, EPERM);  // 32-bit calls have other numbers
    load(offsetof(seccomp_data, nr));
#ifdef __x86_64__
    when(BPF_JGE, 0x40000000, EPERM);  // so have those of x32
#endif
    when(BPF_JGE, kFirstUnknown, ENOSYS);
    when(BPF_JEQ, kClone3, ENOSYS);  // its flags cannot be seen from here; libc goes on to clone
    for (uint32_t call : kDenied) when(BPF_JEQ, call, EPERM);
  }

  /// Denies a call unless, or if, an argument has a value (BPF_JEQ) or a bit (BPF_JSET).
  void deny_unless(uint32_t call, int argument, uint16_t test, uint32_t value) {
    skip_others(call, 4);
    load_argument(argument);
    jump(test, value, 1, 0);
    fail(EPERM);
    allow();
  }
  void deny_if(uint32_t call, int argument, uint16_t test, uint32_t value) {
    skip_others(call, 4);
    load_argument(argument);
    jump(test, value, 0, 1);
    fail(EPERM);
    load(offsetof(seccomp_data, nr));
  }

  sock_fprog program() {
    allow();
    return {static_cast<unsigned short>(code_.size()), code_.data()};
  }

 private:
  void add(uint16_t what, uint32_t value, uint8_t then = 0, uint8_t otherwise = 0) {
    code_.push_back({what, then, otherwise, value});
  }
  void load(size_t offset) { add(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset)); }
  void load_argument(int argument) {  // its low half: little-endian
    load(offsetof(seccomp_data, args) + sizeof(uint64_t) * static_cast<size_t>(argument));
  }
  void jump(uint16_t test, uint32_t value, uint8_t then, uint8_t otherwise) {
    add(BPF_JMP | BPF_K | test, value, then, otherwise);
  }
  void skip_others(uint32_t call, uint8_t steps) { jump(BPF_JEQ, call, 0, steps); }
  void fail(uint32_t error) { add(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error); }
  void allow() { add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW); }
  void when(uint16_t test, uint32_t value, uint32_t error) {
    jump(test, value, 0, 1);
    fail(error);
  }
  void unless(uint16_t test, uint32_t value, uint32_t error) {
    jump(test, value, 1, 0);
    fail(error);
  }

  std::vector<sock_filter> code_;
};

}  // namespace

Result<std::string> restrict_calls() {
  if (kMachine == 0) return make_error(ErrorCode::unsupported, "no list for this kind of processor");
  Filter filter;
  filter.deny_unless(SYS_clone, 0, BPF_JSET, CLONE_THREAD);
  const auto own = static_cast<uint32_t>(::getpid());
  filter.deny_unless(SYS_kill, 0, BPF_JEQ, own);
  filter.deny_unless(SYS_tgkill, 0, BPF_JEQ, own);
  filter.deny_if(SYS_ioctl, 1, BPF_JEQ, TIOCSTI);  // types into the terminal
  filter.deny_if(SYS_ioctl, 1, BPF_JEQ, 0x541c);   // TIOCLINUX: pastes into a console
  const sock_fprog program = filter.program();
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0) return "seccomp";
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0)
    return "seccomp (but for threads that ran already)";
  return make_error(ErrorCode::unsupported, "{}", std::generic_category().message(errno));
}

}  // namespace quern
