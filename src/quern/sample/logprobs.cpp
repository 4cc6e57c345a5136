// SPDX-License-Identifier: Apache-2.0
#include "quern/sample/logprobs.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "quern/sample/candidates.h"
#include "quern/sample/weights.h"

namespace quern {

int32_t argmax(std::span<const float> logits) {
  constexpr size_t kPart = 4096;
  size_t best = 0;
  float most = -std::numeric_limits<float>::infinity();
  for (size_t at = 0; at < logits.size(); at += kPart) {
    const std::span<const float> part = logits.subspan(at, std::min(kPart, logits.size() - at));
    if (const float here = largest(part); here > most) {
      most = here;
      best = at;
    }
  }
  if (most == -std::numeric_limits<float>::infinity()) return 0;
  return static_cast<int32_t>(std::find(logits.begin() + static_cast<ptrdiff_t>(best), logits.end(), most) -
                              logits.begin());
}

double log_sum_exp(std::span<const float> logits) {
  const float top = largest(logits);
  if (!(std::abs(top) <= std::numeric_limits<float>::max())) return top;
  const auto equal = static_cast<double>(std::count(logits.begin(), logits.end(), top));
  return top + std::log(equal + fastest_sums().exact(logits, top, 1));
}

std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, size_t n) {
  Candidates candidates;
  candidates.assign(logits);
  if (candidates.empty()) return {};
  const double total = candidates.best().logit + std::log(candidates.weight_sum());
  std::vector<TokenLogprob> out;
  for (const Candidate& c : candidates.sorted(n).first(std::min(n, candidates.size())))
    out.push_back({c.id, c.logit - total});
  return out;
}

bool any_possible(std::span<const float> logits) {
  return std::any_of(logits.begin(), logits.end(), [](float l) { return l >= -std::numeric_limits<float>::max(); });
}

}  // namespace quern
