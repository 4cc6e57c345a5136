// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/code_points.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

namespace quern {
namespace {

constexpr int kCategories = 30;
// In the order of utf8proc_category_t.
constexpr std::array<std::string_view, kCategories> kCategoryNames = {
    "Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps",
    "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co"};

constexpr std::pair<std::string_view, char> kLongNames[] = {{"Letter", 'L'},      {"Mark", 'M'},   {"Number", 'N'},
                                                            {"Punctuation", 'P'}, {"Symbol", 'S'}, {"Separator", 'Z'},
                                                            {"Other", 'C'}};

// Scripts.txt of Unicode 15, script Han.
constexpr CodePointSet::Range kHan[] = {{0x2E80, 0x2E99},   {0x2E9B, 0x2EF3},   {0x2F00, 0x2FD5},   {0x3005, 0x3005},
                                        {0x3007, 0x3007},   {0x3021, 0x3029},   {0x3038, 0x303B},   {0x3400, 0x4DBF},
                                        {0x4E00, 0x9FFF},   {0xF900, 0xFA6D},   {0xFA70, 0xFAD9},   {0x16FE2, 0x16FE3},
                                        {0x16FF0, 0x16FF1}, {0x20000, 0x2A6DF}, {0x2A700, 0x2B739}, {0x2B740, 0x2B81D},
                                        {0x2B820, 0x2CEA1}, {0x2CEB0, 0x2EBE0}, {0x2F800, 0x2FA1D}, {0x30000, 0x3134A},
                                        {0x31350, 0x323AF}};

constexpr CodePointSet::Range kWhiteSpace[] = {{0x09, 0x0D},     {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                                               {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                               {0x205F, 0x205F}, {0x3000, 0x3000}};

using CategoryTable = std::array<std::vector<CodePointSet::Range>, kCategories>;

/// One pass over all code points, some milliseconds, once per process.
const CategoryTable& category_table() {
  static const CategoryTable table = [] {
    CategoryTable t;
    int current = -1;
    for (char32_t cp = 0; cp < kNoCharacter; ++cp) {
      const int category = utf8proc_category(static_cast<utf8proc_int32_t>(cp));
      if (category == current) {
        t[category].back().second = cp;
      } else {
        t[category].emplace_back(cp, cp);
        current = category;
      }
    }
    return t;
  }();
  return table;
}

}  // namespace

CodePointSet::CodePointSet(std::vector<Range> ranges) : ranges_(std::move(ranges)) {
  std::sort(ranges_.begin(), ranges_.end());
  size_t kept = 0;
  for (const Range& r : ranges_) {
    if (kept > 0 && r.first <= ranges_[kept - 1].second + 1) {
      ranges_[kept - 1].second = std::max(ranges_[kept - 1].second, r.second);
    } else {
      ranges_[kept++] = r;
    }
  }
  ranges_.resize(kept);
}

CodePointSet CodePointSet::united(const CodePointSet& other) const {
  std::vector<Range> all = ranges_;
  all.insert(all.end(), other.ranges_.begin(), other.ranges_.end());
  return CodePointSet(std::move(all));
}

CodePointSet CodePointSet::negated() const {
  std::vector<Range> gaps;
  char32_t next = 0;
  for (const auto& [first, last] : ranges_) {
    if (first > next) gaps.emplace_back(next, first - 1);
    next = last + 1;
  }
  if (next <= kNoCharacter) gaps.emplace_back(next, kNoCharacter);
  return CodePointSet(std::move(gaps));
}

CodePointSet CodePointSet::intersected(const CodePointSet& other) const {
  return negated().united(other.negated()).negated();
}

bool CodePointSet::contains(char32_t cp) const {
  const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), cp,
                                      [](char32_t value, const Range& r) { return value < r.first; });
  return after != ranges_.begin() && cp <= std::prev(after)->second;
}

std::optional<CodePointSet> property_set(std::string_view name) {
  if (name == "Han" || name == "script=Han" || name == "sc=Han")
    return CodePointSet({std::begin(kHan), std::end(kHan)});
  if (name == "White_Space") return white_space_set();
  if (name == "Any") return CodePointSet({{0, kNoCharacter - 1}});
  for (const auto& [long_name, letter] : kLongNames)
    if (name == long_name) return property_set(std::string_view(&letter, 1));
  std::vector<CodePointSet::Range> ranges;
  bool found = false;
  for (int c = 0; c < kCategories; ++c) {
    if (name.empty() || name.size() > 2 || kCategoryNames[c].substr(0, name.size()) != name) continue;
    const auto& more = category_table()[c];
    ranges.insert(ranges.end(), more.begin(), more.end());
    found = true;
  }
  if (!found) return std::nullopt;
  return CodePointSet(std::move(ranges));
}

const CodePointSet& white_space_set() {
  static const CodePointSet set({std::begin(kWhiteSpace), std::end(kWhiteSpace)});
  return set;
}

bool is_white_space(char32_t cp) {
  return cp < 0x80 ? cp == 0x20 || (cp >= 9 && cp <= 13) : white_space_set().contains(cp);
}

bool is_word_character(char32_t cp) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(cp));
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_PC;
}

CodePointSet with_other_case(char32_t cp) {
  const auto c = static_cast<utf8proc_int32_t>(cp);
  std::vector<CodePointSet::Range> all = {{cp, cp}};
  for (const utf8proc_int32_t other : {utf8proc_tolower(c), utf8proc_toupper(c)})
    all.emplace_back(static_cast<char32_t>(other), static_cast<char32_t>(other));
  if ((cp | 0x20) == U'k') all.emplace_back(0x212A, 0x212A);
  if ((cp | 0x20) == U's') all.emplace_back(0x17F, 0x17F);
  return CodePointSet(std::move(all));
}

}  // namespace quern
