// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>

#include "quern/chat/jinja/runtime.h"

namespace quern::jinja {

/// Python's int(text, base) and float(text): white space around, a sign, single underscores between digits. Nothing
/// where Python raises ValueError. Integers beyond 64 bits (base 10 only) keep their digits.
std::optional<Value> parse_integer(Runtime& rt, std::string_view text, int base);
std::optional<double> parse_float(std::string_view text);

}  // namespace quern::jinja
