// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "quern/base/result.h"

namespace quern::jinja {

enum class TokenKind : uint8_t {
  data,
  block_begin,
  block_end,
  variable_begin,
  variable_end,
  name,
  string,
  integer,
  floating,
  symbol,
  end
};

struct Token {
  TokenKind kind;
  std::string text;  ///< data: the text; string: its value; the others as written
  int line;
};

/// Splits a template as Jinja2 does with trim_blocks and lstrip_blocks: one line break after a block tag or comment is
/// dropped, blanks before one at the start of a line too, `-` strips all white space, `+` keeps it; comments and raw
/// blocks are resolved; line ends become \n and one at the end of the source is dropped. The last token is `end`.
Result<std::vector<Token>> lex(std::string_view source);

}  // namespace quern::jinja
