// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>

#include "quern/base/utf8.h"
#include "quern/chat/jinja/case_table.h"

namespace quern::jinja {
namespace {

int category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

template <size_t N>
const SpecialCase* find_special(const SpecialCase (&table)[N], char32_t c) {
  const auto* row = std::lower_bound(std::begin(table), std::end(table), c,
                                     [](const SpecialCase& r, char32_t value) { return r.from < value; });
  return row != std::end(table) && row->from == c ? row : nullptr;
}

void append_special(std::string& out, const SpecialCase& row) {
  for (const char32_t c : row.to)
    if (c) utf8_append(out, c);
}

void append_folded(std::string& out, char32_t c) {
  utf8proc_int32_t buffer[8];
  int boundary = 0;
  const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), buffer, 8, UTF8PROC_CASEFOLD, &boundary);
  if (n < 0 || n > 8) return utf8_append(out, c);
  for (int i = 0; i < n; ++i) utf8_append(out, static_cast<char32_t>(buffer[i]));
}

/// Marks and signs that a search for the neighbouring letter looks past (Unicode: Case_Ignorable).
bool is_case_ignorable(char32_t c) {
  switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      break;
  }
  static constexpr std::u32string_view kMidWord =
      U"'.:\u00B7\u0387\u055F\u05F4\u2018\u2019\u2024\u2027\uFE13\uFE52\uFE55\uFF07\uFF0E\uFF1A";
  return kMidWord.find(c) != kMidWord.npos;
}

bool cased_after(std::string_view rest) {
  while (!rest.empty()) {
    const Utf8Step step = utf8_decode(rest);
    if (!is_case_ignorable(step.code_point)) return is_cased(step.code_point);
    rest.remove_prefix(static_cast<size_t>(step.length));
  }
  return false;
}

bool cased_before(std::string_view text) {
  while (!text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    const char32_t c = utf8_decode(text.substr(start)).code_point;
    if (!is_case_ignorable(c)) return is_cased(c);
    text = text.substr(0, start);
  }
  return false;
}

/// Lower case of one character inside its text: a capital sigma at the end of a word has a form of its own.
void append_lower(std::string& out, char32_t c, std::string_view before, std::string_view after) {
  if (c == 0x3A3 && cased_before(before) && !cased_after(after)) return utf8_append(out, 0x3C2);
  append_case(out, c, Case::lower);
}

/// Maps character by character: map(out, code point, text before, text after), keeping who wrote it.
template <typename Map>
Text map_chars(const Text& text, Map map) {
  Text out;
  size_t position = 0;
  std::string mapped;
  text.for_each_run([&](std::string_view run, bool user) {
    mapped.clear();
    for (size_t i = 0; i < run.size();) {
      const Utf8Step step = utf8_decode(run.substr(i));
      const size_t start = position + i;
      i += static_cast<size_t>(step.length);
      map(mapped, step.code_point, text.view().substr(0, start), text.view().substr(position + i));
    }
    position += run.size();
    out.append(mapped, user);
  });
  return out;
}

template <typename Drop>
Range strip_where(std::string_view text, bool left, bool right, Drop drop) {
  Range range{0, text.size()};
  while (left && range.from < range.to) {
    const Utf8Step step = utf8_decode(text.substr(range.from));
    if (!drop(step.code_point)) break;
    range.from += step.length;
  }
  while (right && range.from < range.to) {
    size_t start = range.to - 1;
    while (start > range.from && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    if (!drop(utf8_decode(text.substr(start)).code_point)) break;
    range.to = start;
  }
  return range;
}

}  // namespace

bool is_space(char32_t c) {
  if (c < 0x80) return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_line_break(char32_t c) {
  return (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}

bool is_letter(char32_t c) {
  const int k = category(c);
  return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT ||
         k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_LO;
}

bool is_decimal(char32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }

bool is_digit(char32_t c) {
  // Numeric_Type=Digit beside the decimals: superscripts, subscripts, circled digits and their kin.
  return is_decimal(c) || c == 0xB2 || c == 0xB3 || c == 0xB9 || c == 0x2070 || (c >= 0x2074 && c <= 0x2079) ||
         (c >= 0x2080 && c <= 0x2089) || (c >= 0x2460 && c <= 0x2468) || (c >= 0x2474 && c <= 0x247C) ||
         (c >= 0x2488 && c <= 0x2490);
}

bool is_numeric(char32_t c) {
  const int k = category(c);
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

bool is_upper(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LU || (c >= 0x2160 && c <= 0x216F) || (c >= 0x24B6 && c <= 0x24CF);
}
bool is_lower(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LL || c == 0xAA || c == 0xBA || (c >= 0x2170 && c <= 0x217F) ||
         (c >= 0x24D0 && c <= 0x24E9);
}
bool is_title(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LT; }
bool is_word(char32_t c) { return c == '_' || is_letter(c) || is_numeric(c); }
bool is_name_start(char32_t c) { return c == '_' || is_letter(c) || category(c) == UTF8PROC_CATEGORY_NL; }
bool is_name_part(char32_t c) {
  const int k = category(c);
  return is_name_start(c) || k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC ||
         k == UTF8PROC_CATEGORY_PC;
}

void append_case(std::string& out, char32_t c, Case to) {
  if (c < 0x80) {
    const bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
    const bool raise = to == Case::upper || to == Case::title;
    out += static_cast<char>(!letter ? c : raise ? c & ~char32_t{0x20} : c | 0x20);
    return;
  }
  const auto cp = static_cast<utf8proc_int32_t>(c);
  switch (to) {
    case Case::upper:
      if (const SpecialCase* row = find_special(kSpecialUpper, c)) return append_special(out, *row);
      return utf8_append(out, static_cast<char32_t>(utf8proc_toupper(cp)));
    case Case::title:
      if (const SpecialCase* row = find_special(kSpecialTitle, c)) return append_special(out, *row);
      return utf8_append(out, static_cast<char32_t>(utf8proc_totitle(cp)));
    case Case::lower:
      utf8_append(out, static_cast<char32_t>(utf8proc_tolower(cp)));
      if (c == 0x130) utf8_append(out, 0x307);  // the only lower case of two characters: dotted capital I
      return;
    case Case::fold:
      return append_folded(out, c);
  }
}

namespace {

/// Most text is ASCII, and most of the rest is long: one pass without decoding.
Text convert_ascii(const Text& text, bool raise) {
  Text out;
  std::string mapped;
  text.for_each_run([&](std::string_view run, bool user) {
    mapped.assign(run);
    const char first = raise ? 'a' : 'A';
    for (char& c : mapped)
      if (c >= first && c <= first + 25) c = static_cast<char>(c ^ 0x20);
    out.append(mapped, user);
  });
  return out;
}

}  // namespace

Text convert_case(const Text& text, Case to) {
  const bool ascii = std::all_of(text.bytes().begin(), text.bytes().end(),
                                 [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  if (ascii) return convert_ascii(text, to == Case::upper || to == Case::title);
  return map_chars(text, [&](std::string& out, char32_t c, std::string_view before, std::string_view after) {
    if (to == Case::lower)
      append_lower(out, c, before, after);
    else
      append_case(out, c, to);
  });
}

Text capitalized(const Text& text) {
  return map_chars(text, [&](std::string& out, char32_t c, std::string_view before, std::string_view after) {
    if (before.empty())
      append_case(out, c, Case::title);
    else
      append_lower(out, c, before, after);
  });
}

Text case_swapped(const Text& text) {
  return map_chars(text, [&](std::string& out, char32_t c, std::string_view before, std::string_view after) {
    if (is_upper(c))
      append_lower(out, c, before, after);
    else
      append_case(out, c, Case::upper);
  });
}

Text titled(const Text& text) {
  bool in_word = false;
  return map_chars(text, [&](std::string& out, char32_t c, std::string_view before, std::string_view after) {
    if (in_word)
      append_lower(out, c, before, after);
    else
      append_case(out, c, Case::title);
    in_word = is_cased(c);
  });
}

Range stripped(std::string_view text, bool left, bool right) { return strip_where(text, left, right, is_space); }

Range stripped(std::string_view text, std::string_view set, bool left, bool right) {
  std::u32string chars;
  while (!set.empty()) {
    const Utf8Step step = utf8_decode(set);
    chars += step.code_point;
    set.remove_prefix(step.length);
  }
  std::sort(chars.begin(), chars.end());
  return strip_where(text, left, right, [&](char32_t c) { return std::binary_search(chars.begin(), chars.end(), c); });
}

}  // namespace quern::jinja
