// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "quern/sample/steps.h"

namespace quern {
namespace {

// z[i]: how many tokens, from i on, equal those from the start on (Gusfield's Z algorithm, linear).
void z_values(std::span<const int32_t> tokens, std::vector<int64_t>& z) {
  const auto n = static_cast<int64_t>(tokens.size());
  z.assign(tokens.size(), 0);
  for (int64_t i = 1, left = 0, right = 0; i < n; ++i) {
    int64_t& length = z[static_cast<size_t>(i)];
    if (i < right) length = std::min(right - i, z[static_cast<size_t>(i - left)]);
    while (i + length < n && tokens[static_cast<size_t>(length)] == tokens[static_cast<size_t>(i + length)]) ++length;
    if (i + length > right) {
      left = i;
      right = i + length;
    }
  }
}

}  // namespace

void dry(Candidates& candidates, const Dry& settings, std::span<const int32_t> window, DryScratch& scratch) {
  if (settings.multiplier == 0 || !(settings.base >= 1) || window.size() < 2) return;
  const auto is_breaker = [&](int32_t id) {
    return std::find(settings.breakers.begin(), settings.breakers.end(), id) != settings.breakers.end();
  };
  // Read backwards, what the window ends with is what the reversed one starts with.
  auto& [reversed, z, lengths] = scratch;
  reversed.assign(window.rbegin(), window.rend());
  const auto breaker = std::find_if(reversed.begin(), reversed.end(), is_breaker);
  const int64_t longest = breaker - reversed.begin();
  const int64_t allowed = std::max<int64_t>(settings.allowed_length, 1);
  if (longest < allowed) return;

  lengths.clear();  // of the repetitions that a token would go on with, one token's longest last
  z_values(reversed, z);
  for (size_t i = 1; i < reversed.size(); ++i)
    if (const int64_t length = std::min(z[i], longest); length >= allowed)
      lengths.emplace_back(reversed[i - 1], length);
  std::sort(lengths.begin(), lengths.end());
  // base^exponent stays below the largest float.
  const double most = settings.base > 1 ? std::log(std::numeric_limits<float>::max()) / std::log(settings.base)
                                        : std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < lengths.size(); ++i) {
    const auto [id, length] = lengths[i];
    if ((i + 1 < lengths.size() && lengths[i + 1].first == id) || is_breaker(id)) continue;
    const double exponent = std::min(static_cast<double>(length - settings.allowed_length), most);
    candidates.change(id,
                      [&](double logit) { return logit - settings.multiplier * std::pow(settings.base, exponent); });
  }
  candidates.drop_removed();
}

}  // namespace quern
