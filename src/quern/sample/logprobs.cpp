// SPDX-License-Identifier: Apache-2.0
#include "quern/sample/logprobs.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "quern/sample/candidates.h"

namespace quern {

int32_t argmax(std::span<const float> logits) {
  size_t best = 0;
  float largest = -std::numeric_limits<float>::infinity();
  for (size_t id = 0; id < logits.size(); ++id) {
    if (logits[id] > largest) {
      largest = logits[id];
      best = id;
    }
  }
  return static_cast<int32_t>(best);
}

double log_sum_exp(std::span<const float> logits) {
  const double top = logits.empty() ? -INFINITY : double{logits[static_cast<size_t>(argmax(logits))]};
  if (!(std::abs(top) <= std::numeric_limits<float>::max())) return top > 0 ? INFINITY : -INFINITY;
  double sum = 0;
  for (float logit : logits) {
    if (logit >= -std::numeric_limits<float>::max()) sum += std::exp(logit - top);
  }
  return top + std::log(sum);
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
