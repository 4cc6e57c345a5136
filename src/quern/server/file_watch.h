// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/stat.h>

#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "quern/base/result.h"

namespace quern {

/// Files that are mapped, as they were: what is written into them or cut off shows in what was loaded from them.
/// Another file under the same name, or none, is no matter: the one that is mapped stays.
class FileWatch {
 public:
  /// Of these files as they are now.
  explicit FileWatch(std::vector<std::filesystem::path> paths);
  /// Watches these alone: those that it knows as they were, others, and another file under a name, as they are now.
  void narrow_to(std::span<const std::filesystem::path> paths);

  /// Which of them was changed in place since, and how: by its length or time of writing, or by the time of its last
  /// change where neither its links, its name nor its rights tell what that was. Asks the disk: may take long.
  std::optional<Error> change();

 private:
  struct File {
    std::filesystem::path path;
    std::optional<struct stat> facts;  ///< nothing: they could not be told from the beginning
    bool was_away = false;             ///< from its name at the last look
  };
  std::vector<File> files_;
};

}  // namespace quern
