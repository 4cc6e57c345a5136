// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

namespace quern {

/// What a step of so many tokens takes, as measured: the engine tells after each step that only decodes. One for all
/// sequences of a model; engine thread only.
class StepCosts {
 public:
  void measured(int64_t tokens, double seconds);

  /// Of a step of `tokens` tokens, at least one: seconds, in proportion to each other alone before anything was
  /// measured. What was not measured lately lies between or beyond its neighbours.
  double of(int64_t tokens) const;

 private:
  static constexpr int kMost = 64;  // tokens told apart
  /// A measurement counts for so many steps; then what it speaks of is tried anew. Contexts grow meanwhile, and the
  /// machine may have been busy.
  static constexpr int64_t kLifetime = 512;
  struct Sample {
    double seconds = 0;
    int64_t count = 0, at = 0;
  };
  bool fresh(int tokens) const { return samples_[tokens].count > 0 && steps_ - samples_[tokens].at <= kLifetime; }

  std::array<Sample, kMost + 1> samples_;
  int64_t steps_ = 0;
};

}  // namespace quern
