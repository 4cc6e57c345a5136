// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "quern/base/function_ref.h"
#include "quern/tokenizer/prefix_table.h"
#include "quern/tokenizer/split_regex.h"
#include "quern/tokenizer/vocab.h"

namespace quern {

/// Finds tokens that are looked for as whole texts (control, user-defined), leftmost and longest first: a trie over
/// bytes.
class AddedTokens {
 public:
  /// Those tokens of the vocabulary with `after_normalizer` as given. The vocabulary outlives this.
  AddedTokens(const Vocab& vocab, bool after_normalizer);

  struct Part {
    Span span;   ///< with the white space that the token swallows
    TokenId id;  ///< -1: ordinary text
  };
  /// Cuts the text into tokens and the text between them. `allowed` says of a token at a place whether it may be one.
  std::vector<Part> split(std::string_view text, FunctionRef<bool(TokenId, Span)> allowed) const;
  bool empty() const { return texts_.empty(); }

 private:
  std::optional<Part> match(std::string_view text, size_t at, FunctionRef<bool(TokenId, Span)> allowed) const;

  const Vocab* vocab_;
  PrefixTable texts_;
};

}  // namespace quern
