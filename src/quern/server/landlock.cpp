// SPDX-License-Identifier: Apache-2.0
#include "quern/server/landlock.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <system_error>

#include "quern/io/file_handle.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

// Of linux/landlock.h; Debian 12's knows the third version, kernels may know more.
constexpr uint64_t kExecute = 1 << 0, kWriteFile = 1 << 1, kReadFile = 1 << 2, kReadFolder = 1 << 3;
constexpr uint64_t kRemoveFolder = 1 << 4, kRemoveFile = 1 << 5, kMakeFolder = 1 << 7, kMakeFile = 1 << 8;
constexpr uint64_t kFirst = (1 << 13) - 1, kRefer = 1 << 13, kTruncate = 1 << 14, kDeviceControl = 1 << 15;
constexpr uint64_t kBindTcp = 1 << 0, kConnectTcp = 1 << 1;
constexpr uint64_t kAbstractSockets = 1 << 0, kSignals = 1 << 1;
constexpr uint32_t kAllThreads = 1 << 3;
static_assert(kExecute == LANDLOCK_ACCESS_FS_EXECUTE && kMakeFile == LANDLOCK_ACCESS_FS_MAKE_REG &&
              kRemoveFile == LANDLOCK_ACCESS_FS_REMOVE_FILE && kRefer == LANDLOCK_ACCESS_FS_REFER);

struct Attributes {
  uint64_t files = 0, network = 0, scoped = 0;
};

/// All that a version can take away.
Attributes known_to(long version) {
  Attributes out{.files = kFirst};
  if (version >= 2) out.files |= kRefer;
  if (version >= 3) out.files |= kTruncate;
  if (version >= 4) out.network = kBindTcp | kConnectTcp;
  if (version >= 5) out.files |= kDeviceControl;
  if (version >= 6) out.scoped = kAbstractSockets | kSignals;
  return out;
}

/// An older kernel takes the longer form only while what it does not know is zero; it is told the shorter one.
size_t attribute_bytes(long version) { return version >= 6 ? 24 : version >= 4 ? 16 : 8; }

/// Absent paths are no failure: what does not exist needs no leave.
void allow(int ruleset, const fs::path& path, uint64_t rights, uint64_t known) {
  const FileHandle at(::open(path.c_str(), O_PATH | O_CLOEXEC));
  struct stat facts;
  if (!at || ::fstat(at.get(), &facts) != 0) return;
  if (!S_ISDIR(facts.st_mode)) rights &= kReadFile | kWriteFile | kTruncate;
  const landlock_path_beneath_attr rule{.allowed_access = rights & known, .parent_fd = at.get()};
  ::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
}

/// Folders of downloads hold links to files elsewhere.
std::vector<fs::path> link_targets(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    std::error_code ignored;
    if (!entry->is_symlink(ignored) || !entry->is_regular_file(ignored)) continue;
    if (const fs::path target = fs::canonical(entry->path(), ignored); !ignored) out.push_back(target);
  }
  return out;
}

size_t thread_count() {
  std::error_code error;
  const fs::directory_iterator threads("/proc/self/task", error);
  return error ? 1 : static_cast<size_t>(std::distance(begin(threads), end(threads)));
}

Error failed(std::string_view doing) {
  return make_error(ErrorCode::unsupported, "{}{}", doing, std::generic_category().message(errno));
}

}  // namespace

Result<std::string> restrict_files(const SandboxPaths& paths) {
  const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version < 1) return failed("");
  const Attributes known = known_to(version);
  const FileHandle ruleset(
      static_cast<int>(::syscall(SYS_landlock_create_ruleset, &known, attribute_bytes(version), 0)));
  if (!ruleset) return failed("cannot make rules: ");

  constexpr uint64_t kRead = kReadFile | kReadFolder;
  constexpr uint64_t kAll =
      kRead | kWriteFile | kTruncate | kMakeFile | kMakeFolder | kRemoveFile | kRemoveFolder | kRefer;
  const auto give = [&](const fs::path& path, uint64_t rights) { allow(ruleset.get(), path, rights, known.files); };
  for (const fs::path& path : paths.read) {
    give(path, kRead);
    for (const fs::path& target : link_targets(path)) give(target, kReadFile);
  }
  for (const fs::path& path : paths.write) {
    std::error_code ignored;
    if (path.has_parent_path()) fs::create_directories(path.parent_path(), ignored);
    ::mkdir(path.c_str(), 0700);
    give(path, kAll);
  }
  // Limits of memory and processors are read whenever a model is loaded. Of /proc all or nothing: its inodes come and
  // go, and a rule for one of them would go with it. Landlock itself keeps other processes' memory, environment and
  // files shut.
  for (const char* path : {"/proc", "/sys/fs/cgroup", "/sys/devices/system", "/sys/kernel/mm", "/etc/localtime",
                           "/usr/share/zoneinfo", "/dev/urandom"})
    give(path, kRead);
  give("/dev/null", kReadFile | kWriteFile);

  const size_t others = thread_count() - 1;
  if (others > 0 && version >= 8 && ::syscall(SYS_landlock_restrict_self, ruleset.get(), kAllThreads) == 0)
    return fmt::format("landlock {}", version);
  if (::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) return failed("");
  return others == 0 ? fmt::format("landlock {}", version)
                     : fmt::format("landlock {} (but for {} threads that ran already)", version, others);
}

}  // namespace quern
