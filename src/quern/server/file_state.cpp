// SPDX-License-Identifier: Apache-2.0
#include "quern/server/file_state.h"

#include <sys/stat.h>

#include <algorithm>
#include <system_error>
#include <utility>

namespace quern {
namespace {

namespace fs = std::filesystem;

int64_t nanoseconds(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

FileState state_of(fs::path path) {
  struct stat facts{};
  if (::stat(path.c_str(), &facts) != 0) return {.path = std::move(path)};
  return {.path = std::move(path),
          .device = facts.st_dev,
          .inode = facts.st_ino,
          .bytes = facts.st_size,
          .written = nanoseconds(facts.st_mtim),
          .changed = nanoseconds(facts.st_ctim)};
}

}  // namespace

fs::path model_folder(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return path;
  if (path.extension() != ".safetensors" && path.extension() != ".json") return {};
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

std::vector<FileState> model_file_states(const fs::path& path) {
  const fs::path folder = model_folder(path);
  if (folder.empty()) return {state_of(path)};
  std::vector<FileState> out;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    const fs::path kind = at->path().extension();
    if (kind == ".safetensors" || kind == ".json" || kind == ".jinja") out.push_back(state_of(at->path()));
  }
  std::ranges::sort(out, {}, &FileState::path);
  return out;
}

void add_file_states(std::vector<FileState>& files, std::span<const fs::path> paths) {
  for (const fs::path& path : paths)
    if (std::ranges::find(files, path, &FileState::path) == files.end()) files.push_back(state_of(path));
}

}  // namespace quern
