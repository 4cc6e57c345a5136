// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/step_plan.h"

#include <algorithm>
#include <tuple>

namespace quern {
namespace {

/// Fewer tokens leave the matrix products without reuse of the weights they read.
constexpr int64_t kLeastTokens = 32;
/// How long a step may keep those waiting who decode or have just come, and how long it may take when nobody waits: a
/// request that comes then waits for its end.
constexpr double kCrowdedSeconds = 0.25, kAloneSeconds = 0.75;

/// The shortest of those before which their owner wants nothing else.
std::vector<size_t>::iterator next_reader(std::span<const Runnable> runnable, std::vector<size_t>& readers) {
  const auto has_better = [&](const Runnable& r) {
    return std::ranges::any_of(readers, [&](size_t other) {
      return runnable[other].owner == r.owner && runnable[other].priority < r.priority;
    });
  };
  return std::ranges::min_element(readers, std::less(), [&](size_t i) {
    const Runnable& r = runnable[i];
    return std::tuple(has_better(r), r.pending, r.arrival);
  });
}

}  // namespace

int next_waiter(std::span<const Waiter> waiters) {
  const auto rank = [](const Waiter& w) { return std::tuple(w.running, w.served, w.priority, w.arrival); };
  const auto first = std::ranges::min_element(waiters, std::less(), rank);
  return first == waiters.end() ? -1 : static_cast<int>(first - waiters.begin());
}

std::vector<int64_t> plan_step(std::span<const Runnable> runnable, int64_t budget) {
  std::vector<int64_t> tokens(runnable.size(), 0);
  std::vector<size_t> readers;
  for (size_t i = 0; i < runnable.size(); ++i) {
    if (runnable[i].pending == 1)
      tokens[i] = 1;
    else
      readers.push_back(i);
  }
  if (readers.empty()) return tokens;
  const size_t oldest = *std::ranges::min_element(readers, std::less(), [&](size_t i) { return runnable[i].arrival; });
  budget = std::max<int64_t>(budget, 1);
  tokens[oldest] = std::min(runnable[oldest].pending, (budget + 3) / 4);
  budget -= tokens[oldest];
  while (!readers.empty() && budget > 0) {
    const auto next = next_reader(runnable, readers);
    const int64_t more = std::min(runnable[*next].pending - tokens[*next], budget);
    tokens[*next] += more;
    budget -= more;
    readers.erase(next);
  }
  return tokens;
}

int64_t StepBudget::tokens(bool crowded) const {
  if (seconds_per_token_ <= 0) return std::min(most_, 2 * kLeastTokens);
  const double fit = (crowded ? kCrowdedSeconds : kAloneSeconds) / seconds_per_token_;
  // Whole tiles of 16 tokens.
  return std::clamp(static_cast<int64_t>(std::min(fit, 1e9)) / 16 * 16, std::min(kLeastTokens, most_), most_);
}

void StepBudget::measured(int64_t tokens, double seconds) {
  if (tokens < kLeastTokens || seconds <= 0) return;
  const double now = seconds / static_cast<double>(tokens);
  seconds_per_token_ = seconds_per_token_ <= 0 ? now : 0.7 * seconds_per_token_ + 0.3 * now;
}

}  // namespace quern
