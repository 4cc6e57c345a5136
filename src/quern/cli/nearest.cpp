// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/nearest.h"

#include <algorithm>
#include <climits>
#include <vector>

namespace quern {
namespace {

/// A name that begins with the text is one edit away.
int distance_to(std::string_view name, std::string_view text) {
  const int distance = edit_distance(text, name);
  return text.size() > 2 && name.starts_with(text) ? std::min(distance, 1) : distance;
}

}  // namespace

int edit_distance(std::string_view a, std::string_view b) {
  a = a.substr(0, 200);
  b = b.substr(0, 200);
  const size_t width = b.size() + 1;
  std::vector<int> before(width), last(width), now(width);
  for (size_t j = 0; j < width; ++j) last[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    now[0] = static_cast<int>(i);
    for (size_t j = 1; j < width; ++j) {
      const int replace = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      now[j] = std::min({replace, last[j] + 1, now[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) now[j] = std::min(now[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, now);
  }
  return last.back();
}

std::string_view nearest_name(std::string_view text, std::span<const std::string_view> names) {
  std::string_view best;
  int least = INT_MAX;
  for (std::string_view name : names) {
    const int distance = distance_to(name, text);
    if (distance < least) {
      least = distance;
      best = name;
    }
  }
  return best;
}

std::string_view near_name(std::string_view text, std::span<const std::string_view> names) {
  const std::string_view name = nearest_name(text, names);
  const auto limit = std::min(std::max<size_t>(3, text.size() / 2), name.size() - std::min<size_t>(name.size(), 1));
  return !name.empty() && distance_to(name, text) <= static_cast<int>(limit) ? name : std::string_view();
}

}  // namespace quern
