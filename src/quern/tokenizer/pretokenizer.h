// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "quern/base/function_ref.h"
#include "quern/base/json.h"
#include "quern/base/result.h"
#include "quern/tokenizer/normalizer.h"
#include "quern/tokenizer/split_regex.h"

namespace quern {

/// What becomes of the matches of a split rule (names as in tokenizer.json).
enum class SplitBehavior : uint8_t { isolated, removed, merged_with_previous, merged_with_next, contiguous };

/// Cuts a stretch of text into the pieces that are encoded one by one: rules in order, each applied to the pieces of
/// the one before. Immutable.
class Pretokenizer {
 public:
  struct Rule {
    SplitRegex regex;
    SplitBehavior behavior = SplitBehavior::isolated;
    bool invert = false;  ///< what does not match counts as the match
  };

  /// The pre_tokenizer of a tokenizer.json (null: none).
  static Result<Pretokenizer> from_json(const Json* json);
  /// Rules that isolate the matches of these patterns.
  static Result<Pretokenizer> from_patterns(std::span<const std::string_view> patterns);

  /// `first`: the stretch begins the whole text. Pieces are valid during their call.
  void split(std::string_view text, bool first, FunctionRef<void(std::string_view)> piece) const;

  /// Pieces are spelled byte by byte in GPT-2's table.
  bool byte_level() const { return byte_level_; }
  void set_byte_level() { byte_level_ = true; }

 private:
  Status append_json(const Json& json, int depth);
  Status append_byte_level(const Json& json);
  Status append_split(const Json& json);
  Status append_metaspace(const Json& json);
  Status append_rule(std::string_view pattern, SplitBehavior behavior, bool invert = false);

  Normalizer before_;  // blanks and prefixes, on the whole stretch
  std::vector<Rule> rules_;
  bool byte_level_ = false;
};

}  // namespace quern
