// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/result.h"
#include "quern/server/http.h"

namespace quern {

/// The keys that open a server. Kept as hashes and compared in a time that does not tell how much of a key was right.
/// Immutable, any thread.
class ApiKeys {
 public:
  /// One key per line; blanks around it and empty lines do not count, and there are no comments. A file that cannot be
  /// read, has no key, or a key that no header could carry, is an error that leads with the path.
  static Result<ApiKeys> load(const std::filesystem::path& path);

  /// What to tell the operator: the file can be read by others than its owner.
  const std::optional<std::string>& warning() const { return warning_; }

  /// Who asks: told by `Authorization: Bearer KEY` or `x-api-key: KEY`, the same for both, for every start of the
  /// server, and of no use for finding the key. Nothing: no key, or none of ours.
  std::optional<std::string> owner_of(const HttpHeaders& headers) const;

 private:
  std::vector<std::string> hashes_;  // 64 digits each
  std::optional<std::string> warning_;
};

}  // namespace quern
