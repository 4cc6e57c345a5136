// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/chat/jinja/runtime.h"

namespace quern::jinja {

/// What Python's str() makes of the value; an error for values without a text of their own (macros, generators, ...).
Status append_str(Runtime& rt, const Value& value, Text& out);
/// What Python's repr() makes of it.
Status append_repr(Runtime& rt, const Value& value, Text& out);
/// str() as a string value; a string stays itself.
Result<Value> to_string(Runtime& rt, const Value& value);

struct JsonStyle {
  bool ascii = false;
  bool sort_keys = false;
  bool one_line = true;
  std::string indent;  ///< of one level, where not one_line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

/// What Python's json.dumps makes of it.
Status append_json(Runtime& rt, const Value& value, const JsonStyle& style, Text& out);

}  // namespace quern::jinja
