// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

namespace quern {

/// Fewest insertions, deletions, replacements and swaps of neighbours that turn one text into the other (bytes;
/// Damerau-Levenshtein, each place edited once). Texts beyond 200 bytes are compared by their first 200.
int edit_distance(std::string_view a, std::string_view b);

/// The name with the smallest distance, the first of several; empty if there are no names. A name that begins with the
/// text counts as one edit away.
std::string_view nearest_name(std::string_view text, std::span<const std::string_view> names);

/// The same where it is near enough to be what was meant: at most three edits, or half of the text, and not every
/// letter of the name; else empty.
std::string_view near_name(std::string_view text, std::span<const std::string_view> names);

}  // namespace quern
