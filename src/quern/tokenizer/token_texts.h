// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

#include "quern/base/json.h"
#include "quern/base/result.h"
#include "quern/gguf/file.h"

namespace quern {

/// The tokens of a vocabulary as its file spells them, for who asks for a few of them and encodes nothing: takes a
/// fraction of the time that a Tokenizer takes, most of which goes into its merges.
class TokenTexts {
 public:
  /// Borrows from the file.
  static Result<TokenTexts> from_gguf(const gguf::File& file);
  static Result<TokenTexts> from_json(const std::filesystem::path& tokenizer_json);
  TokenTexts(TokenTexts&&) = default;
  TokenTexts& operator=(TokenTexts&&) = default;

  /// As Tokenizer::find knows it, where the text has no blanks and stands for itself: names of control tokens do. Looks
  /// at all of them: an index would take longer to make.
  bool has(std::string_view text) const;

 private:
  TokenTexts() = default;
  Json document_;  // first: `texts_` may point into it, so this is not copied
  std::vector<std::string_view> texts_;
};

}  // namespace quern
