// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

namespace quern {

/// A time of a file, since 1970. Not in nanoseconds alone: a file may say that it is of the year 3000.
struct FileTime {
  int64_t seconds = 0, nanoseconds = 0;
  auto operator<=>(const FileTime&) const = default;
};

/// A file as it was: another one under its name, or one that was written into, is not equal to it.
struct FileState {
  struct Facts {
    uint64_t device, inode;
    int64_t bytes;
    FileTime written, changed;
    bool operator==(const Facts&) const = default;
  };
  std::filesystem::path path;
  std::optional<Facts> facts;  ///< nothing: there is no such file
  bool operator==(const FileState&) const = default;
};

/// The files that tell what a model at this path is, as they are and as far as the path tells: of a folder those of
/// weights, settings, tokens and templates, of a split file its parts up to the first that is missing. Lists nothing
/// but the model's own folder, which is all that the sandbox allows.
std::vector<FileState> model_file_states(const std::filesystem::path& path);

/// Adds those of `paths` that are not among them, as they are now.
void add_file_states(std::vector<FileState>& files, std::span<const std::filesystem::path> paths);

}  // namespace quern
