// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "quern/base/result.h"

namespace quern {

/// A regular file mapped for reading. Devices, folders and pipes are refused; an empty file has no bytes.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::filesystem::path& path);
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  /// A piece that will hardly be read again: its pages no longer count as this process's memory (the system keeps them
  /// while it has room). Reading still works. Nothing happens to what lies outside the file.
  void let_go(std::span<const std::byte> piece) const;
  /// Asks the system to read up to `bytes` from `from` on into its cache, in the background and as far as the file
  /// goes. Nothing happens if `from` lies outside the file.
  void read_ahead(const std::byte* from, size_t bytes) const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// A whole regular file as text, at most `limit` bytes.
Result<std::string> read_text_file(const std::filesystem::path& path, size_t limit = size_t{1} << 30);

/// Replaces the file in one step (atomic_file.h): a reader sees the old one or the new one, whole.
Status write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes);

}  // namespace quern
