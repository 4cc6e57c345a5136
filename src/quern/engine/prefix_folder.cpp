// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/prefix_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>

#include "quern/io/system_error.h"

namespace quern {
namespace {

constexpr int kOpenFolder = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr int kOpenEntry = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;  // a pipe must not make us wait
constexpr std::string_view kTemporaryEnd = ".part";
constexpr int kAttempts = 8;  ///< to make a file while others remove its folder

std::string model_name(uint64_t fingerprint) { return fmt::format("{:016x}", fingerprint); }
std::string shelf_name(const StoreKey& key) { return key_text(key).substr(0, 2); }

std::optional<uint64_t> parse_model_name(std::string_view name) {
  uint64_t fingerprint = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), fingerprint, 16);
  if (error != std::errc() || model_name(fingerprint) != name) return std::nullopt;
  return fingerprint;
}

FileHandle open_folder(int parent, const std::string& name) {
  return FileHandle(::openat(parent, name.c_str(), kOpenFolder));
}

/// The folder, made where it is absent; nothing and errno where that cannot be.
FileHandle make_folder(int parent, const std::string& name) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (::mkdirat(parent, name.c_str(), 0700) != 0 && errno != EEXIST) return FileHandle();
    FileHandle folder = open_folder(parent, name);
    if (folder || (errno != ENOTDIR && errno != ELOOP)) return folder;
    if (::unlinkat(parent, name.c_str(), 0) != 0 && errno != ENOENT) return FileHandle();
  }
  return FileHandle();
}

/// Since 1970, of a file that may say anything: none is of the year 2262 or later.
int64_t nanoseconds(const timespec& time) {
  constexpr int64_t kSecond = 1'000'000'000;
  return std::clamp<int64_t>(time.tv_sec, 0, INT64_MAX / kSecond - 1) * kSecond + time.tv_nsec;
}

template <typename Visit>
void for_each_name(int folder, Visit visit) {
  const int own = ::openat(folder, ".", kOpenFolder);  // with a position of its own
  if (own < 0) return;
  DIR* stream = ::fdopendir(own);
  if (!stream) {
    ::close(own);
    return;
  }
  while (const dirent* entry = ::readdir(stream)) visit(std::string(entry->d_name));
  ::closedir(stream);
}

int64_t whole_blocks(uint64_t bytes) {
  constexpr uint64_t kBlock = 4096, kMost = INT64_MAX - kBlock;  // a block of most file systems
  return static_cast<int64_t>((std::min(bytes, kMost) + kBlock - 1) / kBlock * kBlock);
}

/// A writer holds a lock on its file for as long as it lives, so what can be locked has none.
void remove_leftover(int shelf, const std::string& name) {
  const FileHandle file(::openat(shelf, name.c_str(), kOpenEntry));
  struct stat facts;
  if (!file || ::fstat(file.get(), &facts) != 0 || !S_ISREG(facts.st_mode)) return;
  if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) ::unlinkat(shelf, name.c_str(), 0);
}

bool write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return true;
}

bool read_all(int fd, std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::read(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return true;
}

}  // namespace

PrefixFolder::PrefixFolder(std::filesystem::path path, FileHandle root, uint64_t fingerprint, uint64_t first_number)
    : path_(std::move(path)), root_(std::move(root)), fingerprint_(fingerprint), next_number_(first_number) {}

Result<std::unique_ptr<PrefixFolder>> PrefixFolder::open(const std::filesystem::path& path, uint64_t fingerprint) {
  std::error_code ignored;  // what matters shows below
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), ignored);
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return system_error(path, "cannot make the folder");
  FileHandle root(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));  // the user's own link may be followed
  if (!root) return system_error(path, "cannot open the folder");
  // Processes that share a folder, perhaps with equal ids in containers, need different temporary names.
  uint64_t first_number = 0;
  if (::getrandom(&first_number, sizeof first_number, 0) != sizeof first_number)
    return system_error(path, "cannot draw a random number");
  return std::unique_ptr<PrefixFolder>(new PrefixFolder(path, std::move(root), fingerprint, first_number));
}

void PrefixFolder::for_each_shelf(const std::function<void(int, std::string_view, uint64_t)>& visit) const {
  for_each_name(root_.get(), [&](const std::string& name) {
    const auto fingerprint = parse_model_name(name);
    if (!fingerprint) return;
    const FileHandle model = open_folder(root_.get(), name);
    if (!model) return;
    for_each_name(model.get(), [&](const std::string& digits) {
      if (digits.size() != 2 || digits == "..") return;
      if (const FileHandle shelf = open_folder(model.get(), digits)) visit(shelf.get(), digits, *fingerprint);
    });
  });
}

std::vector<PrefixFolder::File> PrefixFolder::list() const {
  std::vector<File> out;
  for_each_shelf([&](int shelf, std::string_view digits, uint64_t fingerprint) {
    for_each_name(shelf, [&](const std::string& name) {
      const auto key = parse_key(name);
      struct stat facts;
      if (!key || !name.starts_with(digits) || ::fstatat(shelf, name.c_str(), &facts, AT_SYMLINK_NOFOLLOW) != 0) return;
      if (!S_ISREG(facts.st_mode)) return;
      out.push_back(
          {fingerprint, *key, whole_blocks(static_cast<uint64_t>(facts.st_size)), nanoseconds(facts.st_mtim)});
    });
  });
  std::ranges::sort(out, {}, &File::used_ns);
  return out;
}

void PrefixFolder::remove_leftovers() const {
  for_each_shelf([](int shelf, std::string_view digits, uint64_t) {
    for_each_name(shelf, [&](const std::string& name) {
      const auto key = parse_key(std::string_view(name).substr(0, 2 * sizeof(StoreKey)));
      if (key && name.starts_with(digits) && name.ends_with(kTemporaryEnd)) remove_leftover(shelf, name);
    });
  });
}

int64_t PrefixFolder::bytes_on_disk(std::span<const std::span<const std::byte>> parts) {
  uint64_t bytes = entry_header_bytes(parts.size());
  for (const auto& part : parts) bytes += part.size();
  return whole_blocks(bytes);
}

Status PrefixFolder::write(const StoreKey& key, std::span<const std::span<const std::byte>> parts) const {
  const std::string name = key_text(key);
  const std::filesystem::path shown = path_ / model_name(fingerprint_) / shelf_name(key) / name;
  std::vector<EntryPart> table;
  for (const auto& part : parts) table.push_back({part.size(), part_checksum(part)});
  const std::string temporary = fmt::format("{}.{:016x}{}", name, next_number_.fetch_add(1), kTemporaryEnd);

  // A folder that is empty still may go at any moment: it was another model's last entry, for another process.
  FileHandle shelf, file;
  for (int attempt = 0; !file && attempt < kAttempts; ++attempt) {
    const FileHandle model = make_folder(root_.get(), model_name(fingerprint_));
    if (model) shelf = make_folder(model.get(), shelf_name(key));
    if (model && shelf)
      file = FileHandle(
          ::openat(shelf.get(), temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file && errno != ENOENT) break;
  }
  if (!file) return system_error(shown, shelf ? "cannot create" : "cannot make its folder");
  ::flock(file.get(), LOCK_EX | LOCK_NB);  // without locks on this file system another process may remove it: a miss

  bool written = write_all(file.get(), entry_header(fingerprint_, key, table));
  for (const auto& part : parts) written = written && write_all(file.get(), part);
  // Without fsync: what has been written and renamed outlives this process, however it ends. A power cut may take it or
  // leave bytes that the checksums refuse, and costs a cache no more than a miss; waiting for the disk would cost more.
  if (written && ::renameat(shelf.get(), temporary.c_str(), shelf.get(), name.c_str()) == 0) return {};
  const Error error = system_error(shown, "cannot write");
  ::unlinkat(shelf.get(), temporary.c_str(), 0);
  return error;
}

PrefixFolder::Found PrefixFolder::read(const StoreKey& key, std::span<const std::span<std::byte>> parts) const {
  const auto failed = [] {
    if (errno == ENOENT || errno == ENOTDIR) return Found::absent;
    return errno == ELOOP ? Found::damaged : Found::unreadable;
  };
  const FileHandle model = open_folder(root_.get(), model_name(fingerprint_));
  if (!model) return failed();
  const FileHandle shelf = open_folder(model.get(), shelf_name(key));
  if (!shelf) return failed();
  const FileHandle file(::openat(shelf.get(), key_text(key).c_str(), kOpenEntry));
  struct stat facts;
  if (!file || ::fstat(file.get(), &facts) != 0) return failed();

  std::vector<std::byte> header(entry_header_bytes(parts.size()));
  uint64_t total_bytes = header.size();
  for (const auto& part : parts) total_bytes += part.size();
  if (!S_ISREG(facts.st_mode) || static_cast<uint64_t>(facts.st_size) != total_bytes) return Found::damaged;
  if (!read_all(file.get(), header)) return Found::damaged;
  const auto table = read_entry_header(header, fingerprint_, key, parts.size());
  if (!table) return Found::damaged;
  for (size_t i = 0; i < parts.size(); ++i) {
    if ((*table)[i].bytes != parts[i].size() || !read_all(file.get(), parts[i])) return Found::damaged;
    if (part_checksum(parts[i]) != (*table)[i].checksum) return Found::damaged;
  }
  ::futimens(file.get(), nullptr);  // where that fails, on a read-only disk, it only looks less used than it is
  return Found::whole;
}

void PrefixFolder::remove(uint64_t fingerprint, const StoreKey& key) const {
  const FileHandle model = open_folder(root_.get(), model_name(fingerprint));
  if (!model) return;
  {
    const FileHandle shelf = open_folder(model.get(), shelf_name(key));
    if (!shelf || ::unlinkat(shelf.get(), key_text(key).c_str(), 0) != 0) return;
  }
  if (fingerprint == fingerprint_) return;
  // Another model's folders go with its last entry; they stay while anything is in them.
  if (::unlinkat(model.get(), shelf_name(key).c_str(), AT_REMOVEDIR) == 0)
    ::unlinkat(root_.get(), model_name(fingerprint).c_str(), AT_REMOVEDIR);
}

}  // namespace quern
