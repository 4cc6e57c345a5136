// SPDX-License-Identifier: Apache-2.0
#include "quern/server/file_state.h"

#include <sys/stat.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "quern/gguf/file.h"
#include "quern/safetensors/folder.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

FileTime file_time(const timespec& time) { return {.seconds = time.tv_sec, .nanoseconds = time.tv_nsec}; }

FileState state_of(fs::path path) {
  struct stat facts{};
  if (::stat(path.c_str(), &facts) != 0) return {.path = std::move(path), .facts = {}};
  return {.path = std::move(path),
          .facts = FileState::Facts{.device = facts.st_dev,
                                    .inode = facts.st_ino,
                                    .bytes = facts.st_size,
                                    .written = file_time(facts.st_mtim),
                                    .changed = file_time(facts.st_ctim)}};
}

}  // namespace

std::vector<FileState> model_file_states(const fs::path& path) {
  std::vector<FileState> out;
  const auto folder = safetensors::folder_of(path);
  if (!folder) {
    for (fs::path& part : gguf::part_paths(path)) {
      out.push_back(state_of(std::move(part)));
      if (!out.back().facts) break;  // without this one nobody asks for the next
    }
    return out;
  }
  std::error_code error;
  for (fs::directory_iterator at(*folder, error), end; !error && at != end; at.increment(error)) {
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
