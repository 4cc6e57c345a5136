// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/result.h"

namespace quern {

/// SentencePiece's precompiled normalisation table: a double-array trie (darts-clone) from texts to replacements. Bytes
/// of a file: a size, the trie's units, then the replacements, each ended by a zero. Every step of the trie is
/// bounds-checked.
class Charsmap {
 public:
  static Result<Charsmap> parse(std::string_view bytes);
  /// Replaces the longest key at every place.
  std::string apply(std::string_view text) const;

 private:
  struct Hit {
    size_t length = 0;
    std::string_view with;
  };
  Hit longest(std::string_view text) const;
  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace quern
