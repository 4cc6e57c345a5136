// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/scoring.h"

#include <algorithm>
#include <cmath>

#include "quern/sample/logprobs.h"

namespace quern {

double negative_log_likelihood(std::span<const float> logits, int32_t id) {
  return log_sum_exp(logits) - static_cast<double>(logits[static_cast<size_t>(id)]);
}

double kl_divergence(std::span<const float> reference, std::span<const float> logits) {
  const double norm = log_sum_exp(reference), own = log_sum_exp(logits);
  double sum = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double log_p = reference[i] - norm;
    if (log_p > -700) sum += std::exp(log_p) * (log_p - (logits[i] - own));  // below, p is 0 in double
  }
  return sum;
}

int64_t best_index(std::span<const float> logits) { return std::ranges::max_element(logits) - logits.begin(); }

double mean_of(std::span<const double> values) {
  double sum = 0;
  for (double v : values) sum += v;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

double standard_error(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  if (n < 2) return 0;
  const double mean = mean_of(values);
  double squares = 0;
  for (double v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / (n - 1) / n);
}

double percentile(std::vector<double> values, double p) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const double at = p / 100 * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (at - static_cast<double>(below)) * (values[above] - values[below]);
}

}  // namespace quern
