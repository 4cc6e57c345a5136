// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/step_costs.h"

#include <algorithm>

namespace quern {
namespace {

/// Before anything is measured: each further token takes an eighth of the first. Rather too little than too much: too
/// much would never be put to the test.
double guess(double tokens) { return 1 + (tokens - 1) / 8; }

/// Newer steps weigh at least that much: contexts grow.
constexpr int64_t kWindow = 8;
/// A step that took longer than that many times the usual one was not the model's doing.
constexpr double kOutlier = 2;

}  // namespace

void StepCosts::measured(int64_t tokens, double seconds) {
  ++steps_;
  if (tokens < 1 || tokens > kMost || !(seconds > 0)) return;
  const int n = static_cast<int>(tokens);
  Sample& sample = samples_[n];
  if (!fresh(n)) sample.count = 0;
  sample.count = std::min(sample.count + 1, kWindow);
  if (sample.count > 2) seconds = std::min(seconds, kOutlier * sample.seconds);
  sample.seconds += (seconds - sample.seconds) / static_cast<double>(sample.count);
  sample.at = steps_;
}

double StepCosts::of(int64_t tokens) const {
  const int n = static_cast<int>(std::clamp<int64_t>(tokens, 1, kMost));
  int below = n, above = n;
  while (below > 0 && !fresh(below)) --below;
  while (above <= kMost && !fresh(above)) ++above;
  const double beyond = guess(static_cast<double>(tokens)) / guess(n);
  if (below == n) return samples_[n].seconds * beyond;
  if (below > 0 && above <= kMost) {
    const double low = samples_[below].seconds, high = samples_[above].seconds;
    return (low + (high - low) * (n - below) / (above - below)) * beyond;
  }
  if (below > 0) return samples_[below].seconds * guess(n) / guess(below) * beyond;
  if (above <= kMost) return samples_[above].seconds * guess(n) / guess(above) * beyond;
  return guess(n) * beyond;
}

}  // namespace quern
