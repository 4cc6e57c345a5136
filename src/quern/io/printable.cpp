// SPDX-License-Identifier: Apache-2.0
#include "quern/io/printable.h"

#include <algorithm>

#include "quern/base/json.h"

namespace quern {

std::string printable(std::string_view text, size_t limit) {
  const auto plain = [](char c) { return c > ' ' && c < 0x7F && c != '"'; };
  if (!text.empty() && text.size() <= limit && std::all_of(text.begin(), text.end(), plain)) return std::string(text);
  std::string shown = json_quote(text.substr(0, limit), true);
  std::erase(shown, '\x7F');
  return text.size() > limit ? shown + "..." : shown;
}

bool is_lfs_pointer(std::string_view start) { return start.starts_with("version https://git-lfs.github.com/spec/"); }

}  // namespace quern
