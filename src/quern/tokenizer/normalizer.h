// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/json.h"
#include "quern/base/result.h"
#include "quern/tokenizer/charsmap.h"
#include "quern/tokenizer/split_regex.h"

namespace quern {

enum class UnicodeForm : uint8_t { nfc, nfd, nfkc, nfkd };

/// Canonical or compatibility (de)composition, Unicode 15. O(n log n) for any text; broken UTF-8 stays as it is.
std::string normalize_unicode(std::string_view text, UnicodeForm form);

/// What happens to a stretch of text before it is split: steps in order. Immutable once filled in.
class Normalizer {
 public:
  /// When a prefix stands before a stretch: before each, or before the one that begins the text.
  enum class Prefix : uint8_t { always, first, never };
  using Step = std::function<std::string(std::string_view stretch, bool first)>;

  /// The normalizer of a tokenizer.json (null: none).
  static Result<Normalizer> from_json(const Json* json);

  void add(Step step) { steps_.push_back(std::move(step)); }
  void add_form(UnicodeForm form);
  void add_prepend(std::string text);  ///< before every stretch that is not empty
  void add_replace(SplitRegex what, std::string with);
  void add_charsmap(Charsmap map);
  void add_squeeze_spaces();  ///< runs of spaces become one, none at the ends (SentencePiece)
  /// Metaspace: blanks become `sign`, and one stands before the stretch unless it begins with one.
  void add_escape(std::string sign, Prefix prefix);
  void add_trim_end(std::string sign);  ///< `sign` is not empty
  bool empty() const { return steps_.empty(); }

  /// `first`: the stretch begins the whole text.
  std::string apply(std::string_view text, bool first) const;

 private:
  Status append_json(const Json& json, int depth);
  Status append_replace(const Json& json);
  std::vector<Step> steps_;
};

}  // namespace quern
