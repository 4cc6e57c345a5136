// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "quern/base/json.h"
#include "quern/base/result.h"
#include "quern/tokenizer/charsmap.h"
#include "quern/tokenizer/split_regex.h"

namespace quern {

enum class UnicodeForm : uint8_t { nfc, nfd, nfkc, nfkd };

/// Canonical or compatibility (de)composition, Unicode 15. O(n log n) for any text; broken UTF-8 stays as it is.
std::string normalize_unicode(std::string_view text, UnicodeForm form);

/// What happens to a stretch of text before it is split. Immutable.
class Normalizer {
 public:
  struct Lowercase {};
  struct StripAccents {};
  struct Strip {
    bool left = true, right = true;
  };
  struct Prepend {
    std::string text;
  };
  struct Replace {
    SplitRegex what;
    std::string with;
  };
  struct SqueezeSpaces {};  ///< runs of spaces become one, none at the ends (SentencePiece)
  /// Metaspace: blanks become its sign, and one stands before the text unless it begins with one.
  struct Escape {
    std::string sign;
    enum class Prefix : uint8_t { always, first, never } prefix = Prefix::never;
  };
  using Step =
      std::variant<UnicodeForm, Lowercase, StripAccents, Strip, Prepend, Replace, SqueezeSpaces, Escape, Charsmap>;

  /// The normalizer of a tokenizer.json (null: none).
  static Result<Normalizer> from_json(const Json* json);

  Status add_replace(std::string_view literal, std::string with);
  void add(Step step) { steps_.push_back(std::move(step)); }
  bool empty() const { return steps_.empty(); }

  /// `first`: the stretch begins the whole text.
  std::string apply(std::string_view text, bool first) const;

 private:
  Status append_json(const Json& json, int depth);
  std::vector<Step> steps_;
};

}  // namespace quern
