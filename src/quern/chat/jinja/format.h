// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/chat/jinja/runtime.h"

namespace quern::jinja {

/// Python's `format % arguments`: a tuple's items, a dict's entries for %(name)s, or one value.
Result<Value> percent_format(Runtime& rt, const Value& format, const Value& arguments);

/// Python's format.format(...), with the usual mini-language for strings and numbers.
Result<Value> brace_format(Runtime& rt, const Text& format, const Values& positional, const NamedValues& named);

/// Rounded as Python's round() does: exactly, halves to even.
double round_decimals(double value, int decimals);

}  // namespace quern::jinja
