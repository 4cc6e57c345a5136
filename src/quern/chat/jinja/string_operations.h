// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/chat/jinja/runtime.h"
#include "quern/chat/jinja/unicode.h"

namespace quern::jinja {

// What the string filters and the string methods share. A negative limit means none.

Result<Text> replaced(Runtime& rt, const Text& text, std::string_view old_text, const Text& new_text, int64_t limit);
/// Every place (byte) where `what`, not empty, is found without overlap, in order.
std::vector<size_t> find_all(std::string_view text, std::string_view what, int64_t limit);
/// Lines without their ends, or with them.
std::vector<Range> lines_of(std::string_view text, bool keep_ends);
/// `center`, `ljust`, `rjust`: blanks on the left and on the right for a width in characters.
Result<Text> padded(Runtime& rt, const Text& text, int64_t left, int64_t right, const Text& fill);
int64_t center_left(int64_t missing, int64_t width);
Result<Value> join(Runtime& rt, const Text& separator, const Values& items, bool strings_only);

}  // namespace quern::jinja
