// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "quern/chat/jinja/text.h"

namespace quern::jinja {

// What Python's str says of characters (Unicode character database; SpecialCasing.txt for the mappings to several).
bool is_space(char32_t c);
bool is_line_break(char32_t c);
bool is_printable(char32_t c);
bool is_letter(char32_t c);
bool is_decimal(char32_t c);
bool is_digit(char32_t c);
bool is_numeric(char32_t c);
bool is_upper(char32_t c);
bool is_lower(char32_t c);
bool is_title(char32_t c);
inline bool is_cased(char32_t c) { return is_upper(c) || is_lower(c) || is_title(c); }
bool is_word(char32_t c);        ///< what \w matches
bool is_name_start(char32_t c);  ///< of a Python identifier
bool is_name_part(char32_t c);

enum class Case { upper, lower, title, fold };
void append_case(std::string& out, char32_t c, Case to);

/// The whole text in upper or lower case, or case-folded; a final sigma becomes its final form.
Text convert_case(const Text& text, Case to);
/// First character of the text in title case, the rest in lower case.
Text capitalized(const Text& text);
/// Upper case becomes lower, everything else upper.
Text case_swapped(const Text& text);
/// Every run of cased characters capitalized.
Text titled(const Text& text);

// The range of the text without white space at an end, or without any of the characters in `set`.
struct Range {
  size_t from;
  size_t to;
};
Range stripped(std::string_view text, bool left, bool right);
Range stripped(std::string_view text, std::string_view set, bool left, bool right);

}  // namespace quern::jinja
