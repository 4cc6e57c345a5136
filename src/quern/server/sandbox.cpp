// SPDX-License-Identifier: Apache-2.0
#include "quern/server/sandbox.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <ctime>
#include <system_error>

#include "quern/io/file_handle.h"
#include "quern/server/landlock.h"
#include "quern/server/seccomp.h"

namespace quern {
namespace {

/// A state of the whole process, which no call tells.
constinit std::atomic<bool> files_are_restricted = false;

/// Root in a container keeps what reading files, locking memory and choosing processors take. With the rest it could
/// look into other processes (CAP_PERFMON reads their environment, past Landlock) and undo what follows.
void drop_capabilities() {
  constexpr uint32_t kKept =
      1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH | 1u << CAP_FOWNER | 1u << CAP_IPC_LOCK | 1u << CAP_SYS_NICE;
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  if (::syscall(SYS_capget, &header, data) != 0) return;
  data[0] = {.effective = data[0].effective & kKept, .permitted = data[0].permitted & kKept, .inheritable = 0};
  data[1] = {};
  ::syscall(SYS_capset, &header, data);
}

std::string told(std::string_view name, const Result<std::string>& done) {
  return done ? *done : fmt::format("no {} ({})", name, done.error().message);
}

}  // namespace

std::string enter_sandbox(const SandboxPaths& paths) {
  ::tzset();  // reads the time zone while it surely can
  // No core dumps and no debugger of the same user: memory holds prompts, and for a moment held keys.
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  drop_capabilities();
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return fmt::format("sandbox: none ({})", std::generic_category().message(errno));
  const Result<std::string> files = restrict_files(paths);
  if (files) files_are_restricted = true;
  return fmt::format("sandbox: {}, {}", told("landlock", files), told("seccomp", restrict_calls()));
}

bool is_shut_by_sandbox(const std::filesystem::path& path) {
  if (!files_are_restricted) return false;
  const FileHandle file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  // Landlock looks at what opens a file, not at who asks for its rights.
  return !file && errno == EACCES && ::faccessat(AT_FDCWD, path.c_str(), R_OK, AT_EACCESS) == 0;
}

}  // namespace quern
