// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/lost_file.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <climits>
#include <cstdint>
#include <string_view>

namespace quern {
namespace {

constexpr int kRestMilliseconds = 4000;

std::atomic<bool> flag{false}, rests{false};
static_assert(std::atomic<bool>::is_always_lock_free);

// Only what signal-safety(7) allows from here on: no memory, no locks, no formatting.

void put(std::string_view text) {
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

/// A hexadecimal number at the front of `text`, which is taken off.
uintptr_t take_address(std::string_view& text) {
  uintptr_t value = 0;
  for (; !text.empty(); text.remove_prefix(1)) {
    const char c = text.front();
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) break;
    value = value << 4 | static_cast<uintptr_t>(digit);
  }
  return value;
}

/// The path in a line of /proc/self/maps, "from-to rights offset device inode path"; empty where `address` lies
/// elsewhere or in no file.
std::string_view path_at(std::string_view line, uintptr_t address) {
  std::string_view rest = line;
  const uintptr_t from = take_address(rest);
  if (rest.empty() || rest.front() != '-') return {};
  rest.remove_prefix(1);
  if (address < from || address >= take_address(rest)) return {};
  const size_t slash = rest.find('/');
  return slash == rest.npos ? std::string_view() : rest.substr(slash);
}

/// Writes the path of the file that is mapped at `address`; false: there is none.
bool put_path(uintptr_t address) {
  static std::array<char, PATH_MAX + 256> line;  // too large for a small stack, and nobody else comes here
  const int fd = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  std::array<char, 1024> buffer;
  size_t length = 0;
  for (ssize_t n; (n = ::read(fd, buffer.data(), buffer.size())) > 0;) {
    for (const char c : std::string_view(buffer.data(), static_cast<size_t>(n))) {
      if (c != '\n') {
        if (length < line.size()) line[length++] = c;
        continue;
      }
      const std::string_view path = path_at({line.data(), length}, address);
      length = 0;
      if (path.empty()) continue;
      put(path);  // the kernel escapes line ends in it
      return true;
    }
  }
  return false;
}

void on_lost_file(int, siginfo_t* info, void*) {
  static std::atomic_flag told;
  if (told.test_and_set())  // another thread met it too and says so
    for (;;) ::pause();
  put("quern: ");
  if (!put_path(reinterpret_cast<uintptr_t>(info->si_addr))) put("a mapped file");
  put(": cannot be read any more: expected the file as it was opened, found it cut or its disk failing\n");
  if (rests.load()) {
    flag.store(true);
    ::poll(nullptr, 0, kRestMilliseconds);
  }
  ::_exit(kExitFailed);
}

}  // namespace

void rest_on_lost_file() { rests.store(true); }
const std::atomic<bool>& lost_file_flag() { return flag; }

void install_lost_file_handler() {
  struct sigaction action{};
  action.sa_sigaction = on_lost_file;
  action.sa_flags = SA_SIGINFO;
  sigfillset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace quern
