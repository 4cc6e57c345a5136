// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "quern/base/result.h"

namespace quern {

/// A new file that appears under its name only when it is whole: written beside it under a temporary name, then
/// renamed. Dropped without `commit`, nothing is left behind. Never replaces anything but a regular file.
class AtomicFile {
 public:
  /// `mode`: its permissions, less the process's umask.
  static Result<AtomicFile> create(const std::filesystem::path& path, mode_t mode = 0666);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  Status write(std::span<const std::byte> bytes);
  uint64_t written() const { return written_; }
  /// Makes the file durable and gives it its name. Nothing may be written afterwards.
  Status commit();

 private:
  AtomicFile(std::filesystem::path path, std::string temporary, int fd);
  Error failed(const char* doing) const;

  std::filesystem::path path_;
  std::string temporary_;  // empty once committed or moved from
  int fd_ = -1;
  uint64_t written_ = 0;
};

}  // namespace quern
