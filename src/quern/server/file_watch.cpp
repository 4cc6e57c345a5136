// SPDX-License-Identifier: Apache-2.0
#include "quern/server/file_watch.h"

#include <algorithm>
#include <utility>

namespace quern {
namespace {

std::optional<struct stat> facts_of(const std::filesystem::path& path) {
  struct stat facts{};
  return ::stat(path.c_str(), &facts) == 0 ? std::optional(facts) : std::nullopt;
}

bool same(const timespec& a, const timespec& b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

bool same_file(const struct stat& a, const struct stat& b) { return a.st_dev == b.st_dev && a.st_ino == b.st_ino; }

/// A link more or less, other rights: they change the time of the last change too.
bool same_about(const struct stat& a, const struct stat& b) {
  return a.st_nlink == b.st_nlink && a.st_mode == b.st_mode && a.st_uid == b.st_uid && a.st_gid == b.st_gid;
}

}  // namespace

FileWatch::FileWatch(std::vector<std::filesystem::path> paths) {
  for (auto& path : paths) {
    auto facts = facts_of(path);
    files_.push_back({.path = std::move(path), .facts = facts});
  }
}

void FileWatch::narrow_to(std::span<const std::filesystem::path> paths) {
  std::vector<File> narrowed;
  for (const auto& path : paths) {
    File file{.path = path, .facts = facts_of(path)};
    const auto known = std::ranges::find(files_, path, &File::path);
    if (known != files_.end() && known->facts && file.facts && same_file(*known->facts, *file.facts)) file = *known;
    narrowed.push_back(std::move(file));
  }
  files_ = std::move(narrowed);
}

std::optional<Error> FileWatch::change() {
  for (File& file : files_) {
    if (!file.facts) continue;
    const auto now = facts_of(file.path);
    if (!now || !same_file(*now, *file.facts)) {  // its name leads elsewhere, or a disk does not answer
      file.was_away = true;
      continue;
    }
    const auto before = std::exchange(file.facts, now);
    const bool came_back = std::exchange(file.was_away, false);  // which changes the time of the last change too
    const std::string name = file.path.string();
    if (now->st_size != before->st_size)
      return make_error(ErrorCode::corrupt_data, "{}: changed while it is served: expected {} bytes, found {}", name,
                        before->st_size, now->st_size);
    const bool rewritten = !same(now->st_mtim, before->st_mtim);
    const bool touched = !came_back && !same(now->st_ctim, before->st_ctim) && same_about(*now, *before);
    if (rewritten || touched)
      return make_error(ErrorCode::corrupt_data, "{}: changed while it is served: expected no writing, found some",
                        name);
  }
  return std::nullopt;
}

}  // namespace quern
