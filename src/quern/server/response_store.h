// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "quern/base/result.h"
#include "quern/server/services.h"

namespace quern {

inline constexpr int64_t kStoredResponsesInMemoryBytes = int64_t{64} << 20;
inline constexpr int64_t kStoredResponsesOnDiskBytes = int64_t{1} << 30;

/// Stored responses that go with the process. Beyond `cap_bytes` (of JSON text) the ones used longest ago go, those of
/// the owner with the most of them first.
std::unique_ptr<ResponseStore> make_memory_response_store(int64_t cap_bytes = kStoredResponsesInMemoryBytes);

/// Stored responses that outlive the process: a file for each, below a folder for each owner. Names are hashes of
/// owner and id, so nothing of a client's text reaches the file system. Folders 0700, files 0600, each written whole or
/// not at all. What stands there and is not ours (links, pipes, other names, other content) is left alone and never
/// followed. `put` and `remove` return at once; a thread of the store writes, and `get` sees what is still on its way.
/// Beyond `cap_bytes` (a file counts as whole blocks) they go as in memory; after a start the age is the file's time.
class DiskResponseStore : public ResponseStore {
 public:
  /// Makes the folder where it is absent. An error if that cannot be, or if it belongs to somebody else.
  static Result<std::unique_ptr<DiskResponseStore>> open(const std::filesystem::path& folder,
                                                         int64_t cap_bytes = kStoredResponsesOnDiskBytes);
  ~DiskResponseStore() override;

  void put(std::string_view owner, std::string_view id, std::string record) override;
  std::optional<Json> get(std::string_view owner, std::string_view id) override;
  bool remove(std::string_view owner, std::string_view id) override;

  /// Waits until everything is on disk.
  void flush();
  /// What went wrong (a full disk, say): told once, and again only after a response was written in between. A response
  /// that could not be written is lost, serving goes on.
  std::optional<Error> last_error();

 private:
  struct Impl;
  explicit DiskResponseStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace quern
