// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace quern {

/// The symbol that stands for bytes which are no character. It belongs to no property, so only negated sets hold it.
inline constexpr char32_t kNoCharacter = 0x110000;

/// A set of code points (and perhaps kNoCharacter) as sorted ranges that neither touch nor overlap, both ends included.
class CodePointSet {
 public:
  using Range = std::pair<char32_t, char32_t>;

  CodePointSet() = default;
  explicit CodePointSet(std::vector<Range> ranges);  ///< any order, may overlap
  static CodePointSet one(char32_t cp) { return CodePointSet({{cp, cp}}); }

  CodePointSet united(const CodePointSet& other) const;
  CodePointSet intersected(const CodePointSet& other) const;
  CodePointSet negated() const;  ///< all other code points and kNoCharacter

  bool contains(char32_t cp) const;
  const std::vector<Range>& ranges() const { return ranges_; }
  bool operator==(const CodePointSet&) const = default;

 private:
  std::vector<Range> ranges_;
};

/// Names as in \p{..}: general categories of one or two letters (Unicode 15), their long names for the one-letter ones,
/// Han, White_Space, Any.
std::optional<CodePointSet> property_set(std::string_view name);

const CodePointSet& white_space_set();
bool is_white_space(char32_t cp);
/// A letter, mark, number or connector: what \w means.
bool is_word_character(char32_t cp);

/// The same letter in the other case, one code point each; ASCII k and s also have U+212A and U+017F.
CodePointSet with_other_case(char32_t cp);

}  // namespace quern
