// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace quern {

/// One step of decoding: `length` bytes make `code_point`; `valid` false: they are one maximal invalid subpart
/// (Unicode 15, table 3-7) and code_point is U+FFFD. `incomplete`: the text ends inside a sequence that could go on.
struct Utf8Step {
  char32_t code_point;
  int length;
  bool valid;
  bool incomplete;
};

/// Decodes at the start of `text`, which must not be empty.
Utf8Step utf8_decode(std::string_view text);

void utf8_append(std::string& out, char32_t code_point);

bool utf8_valid(std::string_view text);

/// The text with every maximal invalid subpart replaced by U+FFFD.
std::string utf8_repair(std::string_view text);

}  // namespace quern
