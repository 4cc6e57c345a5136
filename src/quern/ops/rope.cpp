// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "quern/kernels/vector.h"

namespace quern {

std::vector<double> rope_frequencies(int d, double base) {
  std::vector<double> inv_freq(d / 2);
  for (int i = 0; i < d / 2; ++i) inv_freq[i] = std::pow(base, -2.0 * i / d);
  return inv_freq;
}

// Long waves are slowed by `factor`, short ones kept, those between mixed by how many of them the original context
// held.
void scale_llama3(std::vector<double>& inv_freq, const Llama3Scaling& s) {
  for (double& f : inv_freq) {
    const double waves = s.original_context * f / (2 * std::numbers::pi);
    if (waves > s.high_freq_factor) continue;
    if (waves < s.low_freq_factor) {
      f /= s.factor;
    } else {
      const double keep = (waves - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
      f = (1 - keep) * f / s.factor + keep * f;
    }
  }
}

void scale_yarn(std::vector<double>& inv_freq, double base, const YarnScaling& s) {
  const double d = 2.0 * static_cast<double>(inv_freq.size());
  // The pair that turns `turns` times within the original context.
  const auto pair_of = [&](double turns) {
    return d * std::log(s.original_context / (turns * 2 * std::numbers::pi)) / (2 * std::log(base));
  };
  double low = pair_of(s.beta_fast), high = pair_of(s.beta_slow);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, d - 1);
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    const double slow = std::clamp((static_cast<double>(i) - low) / std::max(high - low, 0.001), 0.0, 1.0);
    inv_freq[i] = (1 - slow) * inv_freq[i] + slow * inv_freq[i] / s.factor;
  }
}

void rope_table(const Worker& worker, const Rope& rope, std::span<const int64_t> positions, float* table) {
  const int64_t pairs = static_cast<int64_t>(rope.inv_freq.size());
  const auto [begin, end] = worker.share(static_cast<int64_t>(positions.size()));
  for (int64_t t = begin; t < end; ++t) {
    float* cosines = table + t * 2 * pairs;
    float* sines = cosines + pairs;
    for (int64_t i = 0; i < pairs; ++i) {
      // In double: a float product of position and frequency would be off by 8e-3 at position 131072.
      const double angle = static_cast<double>(positions[t]) * rope.inv_freq[i];
      cosines[i] = static_cast<float>(std::cos(angle) * rope.magnitude);
      sines[i] = static_cast<float>(std::sin(angle) * rope.magnitude);
    }
  }
}

void turn(const KernelTable& kernels, const Rope& rope, const float* table, float* head, int64_t t) {
  const int64_t pairs = static_cast<int64_t>(rope.inv_freq.size());
  const float* cosines = table + t * 2 * pairs;
  const auto rotate = rope.pairs == RopePairs::halves ? kernels.vector->rope_halves : kernels.vector->rope_interleaved;
  rotate(head, cosines, cosines + pairs, pairs);
}

}  // namespace quern
