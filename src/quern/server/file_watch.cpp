// SPDX-License-Identifier: Apache-2.0
#include "quern/server/file_watch.h"

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
    files_.push_back({std::move(path), facts});
  }
}

std::optional<Error> FileWatch::change() {
  for (File& file : files_) {
    if (!file.facts) continue;
    const auto now = facts_of(file.path);
    if (!now || !same_file(*now, *file.facts)) {
      // Its name leads elsewhere; if it ever comes back, its times have changed by that.
      file.facts.reset();
      continue;
    }
    const auto before = std::exchange(file.facts, now);
    const std::string name = file.path.string();
    if (now->st_size != before->st_size)
      return make_error(ErrorCode::corrupt_data, "{}: changed while it is served: expected {} bytes, found {}", name,
                        before->st_size, now->st_size);
    const bool rewritten = !same(now->st_mtim, before->st_mtim);
    const bool touched = !same(now->st_ctim, before->st_ctim) && same_about(*now, *before);
    if (rewritten || touched)
      return make_error(ErrorCode::corrupt_data, "{}: changed while it is served: expected no writing, found some",
                        name);
  }
  return std::nullopt;
}

}  // namespace quern
