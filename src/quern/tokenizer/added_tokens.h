// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "quern/base/function_ref.h"
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
  bool empty() const { return nodes_.size() == 1; }

 private:
  struct Node {
    TokenId id = -1;
    std::vector<std::pair<uint8_t, uint32_t>> children;  // sorted by byte
  };
  uint32_t child(uint32_t node, uint8_t byte) const;  // 0: none
  std::optional<Part> match(std::string_view text, size_t at, FunctionRef<bool(TokenId, Span)> allowed) const;

  const Vocab* vocab_;
  std::vector<Node> nodes_;
  std::array<uint32_t, 256> roots_{};
};

}  // namespace quern
