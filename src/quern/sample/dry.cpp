// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "quern/sample/steps.h"

namespace quern {
namespace {

// z[i]: how many tokens, from i on, equal those from the start on (Gusfield's Z algorithm, linear).
std::vector<int64_t> z_values(std::span<const int32_t> tokens) {
  const auto n = static_cast<int64_t>(tokens.size());
  std::vector<int64_t> z(tokens.size(), 0);
  for (int64_t i = 1, left = 0, right = 0; i < n; ++i) {
    int64_t& length = z[static_cast<size_t>(i)];
    if (i < right) length = std::min(right - i, z[static_cast<size_t>(i - left)]);
    while (i + length < n && tokens[static_cast<size_t>(length)] == tokens[static_cast<size_t>(i + length)]) ++length;
    if (i + length > right) {
      left = i;
      right = i + length;
    }
  }
  return z;
}

}  // namespace

void dry(Candidates& candidates, const Dry& settings, std::span<const int32_t> window) {
  if (settings.multiplier == 0 || !(settings.base >= 1) || window.size() < 2) return;
  const auto is_breaker = [&](int32_t id) {
    return std::find(settings.breakers.begin(), settings.breakers.end(), id) != settings.breakers.end();
  };
  // Read backwards, what the window ends with is what the reversed one starts with.
  const std::vector<int32_t> reversed(window.rbegin(), window.rend());
  const auto breaker = std::find_if(reversed.begin(), reversed.end(), is_breaker);
  const int64_t longest = breaker - reversed.begin();
  const int64_t allowed = std::max<int64_t>(settings.allowed_length, 1);
  if (longest < allowed) return;

  std::unordered_map<int32_t, int64_t> lengths;  // of the repetition that this token would go on with
  const std::vector<int64_t> z = z_values(reversed);
  for (size_t i = 1; i < reversed.size(); ++i) {
    const int64_t length = std::min(z[i], longest);
    if (length < allowed) continue;
    int64_t& known = lengths[reversed[i - 1]];
    known = std::max(known, length);
  }
  // base^exponent stays below the largest float.
  const double most = settings.base > 1 ? std::log(std::numeric_limits<float>::max()) / std::log(settings.base)
                                        : std::numeric_limits<double>::infinity();
  for (const auto& [id, length] : lengths) {
    if (is_breaker(id)) continue;
    const double exponent = std::min(static_cast<double>(length - settings.allowed_length), most);
    candidates.change(id,
                      [&](double logit) { return logit - settings.multiplier * std::pow(settings.base, exponent); });
  }
  candidates.drop_removed();
}

}  // namespace quern
