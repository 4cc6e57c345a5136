// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace quern {

/// A file as it was: another one under its name, or one that was written into, is not equal to it.
struct FileState {
  std::filesystem::path path;
  uint64_t device = 0, inode = 0;               ///< 0: there is none
  int64_t bytes = 0, written = 0, changed = 0;  ///< times in nanoseconds since 1970
  bool operator==(const FileState&) const = default;
};

/// The folder of a model that is one, given by its own path or by one of its files; empty: a GGUF file. As
/// ModelSource::open takes paths.
std::filesystem::path model_folder(const std::filesystem::path& path);

/// The files that tell what a model at this path is, as they are and as far as the path tells: of a folder those of
/// weights, settings, tokens and templates, of a split file this part. Lists nothing but the model's own folder, which
/// is all that the sandbox allows.
std::vector<FileState> model_file_states(const std::filesystem::path& path);

/// Adds those of `paths` that are not among them, as they are now.
void add_file_states(std::vector<FileState>& files, std::span<const std::filesystem::path> paths);

}  // namespace quern
