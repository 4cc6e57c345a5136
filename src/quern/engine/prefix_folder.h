// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "quern/base/result.h"
#include "quern/engine/prefix_entry.h"
#include "quern/io/file_handle.h"

namespace quern {

/// The files of a prefix store: `<fingerprint>/<first two digits of the key>/<key>`, one per entry, for their owner
/// only. Any thread. Several processes may share a folder: an entry appears whole, by a rename, or not at all.
///
/// What else lies there is hostile: links are never followed, pipes never waited for; what stands in the way of a
/// folder or an entry is removed unless it is a folder itself, everything else is left alone.
class PrefixFolder {
 public:
  struct File {
    uint64_t fingerprint;
    StoreKey key;
    int64_t bytes;    ///< on disk: whole blocks
    int64_t used_ns;  ///< when it was last written or read, since 1970
  };
  enum class Found : uint8_t {
    whole,
    damaged,     ///< not what was written, or another's
    absent,      ///< another process has removed it
    unreadable,  ///< by this process, now: no more descriptors, say
  };

  /// Makes the folder (0700) where it is absent.
  static Result<std::unique_ptr<PrefixFolder>> open(const std::filesystem::path& path, uint64_t fingerprint);

  /// All entries of all fingerprints, the longest unused first, told by their names alone.
  std::vector<File> list() const;
  /// Removes what killed processes left half written.
  void remove_leftovers() const;
  Status write(const StoreKey& key, std::span<const std::span<const std::byte>> parts) const;
  /// Fills the parts, whose sizes must be those that were written; unless `whole`, they may hold anything afterwards.
  Found read(const StoreKey& key, std::span<const std::span<std::byte>> parts) const;
  void remove(uint64_t fingerprint, const StoreKey& key) const;

  /// What an entry of these parts takes on disk.
  static int64_t bytes_on_disk(std::span<const std::span<const std::byte>> parts);

 private:
  PrefixFolder(std::filesystem::path path, FileHandle root, uint64_t fingerprint, uint64_t first_number);
  void for_each_shelf(const std::function<void(int shelf, std::string_view digits, uint64_t fingerprint)>& visit) const;

  // constant after construction
  std::filesystem::path path_;
  FileHandle root_;
  uint64_t fingerprint_;

  mutable std::atomic<uint64_t> next_number_;  // of a temporary name
};

}  // namespace quern
