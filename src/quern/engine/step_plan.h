// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace quern {

// Who goes on next, as pure functions: no sequence, no model, no clock.

/// A request that waits for a place.
struct Waiter {
  int priority;         ///< lower first
  uint64_t arrival;     ///< rising
  int running;          ///< requests of its owner that have a place
  uint64_t served = 0;  ///< when its owner was last given one, rising: the same for all of an owner's; 0: never
};
/// The one whose turn it is: of those whose owner has the fewest places, and of these owners the one who was not given
/// any for longest, the ones of the lowest priority, and the first of them to come. Who sets priorities sets them for
/// what is his own. -1: nobody waits.
int next_waiter(std::span<const Waiter> waiters);

/// A request that has a place.
struct Runnable {
  int64_t pending;  ///< tokens to read before the next one can be drawn, at least 1
  int priority;
  uint64_t arrival;
  std::string_view owner = {};
};
/// How many tokens of each go into the next step. One that has a single token to read (it decodes) always gets it. The
/// others share `budget`: the shortest rest first, so that a short prompt passes a long one, after what the same owner
/// has of a lower priority. But a quarter is for the one that waits longest, so that nobody starves. At least one token
/// of somebody is read.
std::vector<int64_t> plan_step(std::span<const Runnable> runnable, int64_t budget);

/// Tokens of prompts per step: what the machine reads in `seconds`, between the least that is worth a step and the
/// most that fits into one.
class StepBudget {
 public:
  explicit StepBudget(int64_t most) : most_(most) {}
  /// `crowded`: others wait for the step to end.
  int64_t tokens(bool crowded) const;
  /// A step of so many tokens took so long.
  void measured(int64_t tokens, double seconds);

 private:
  int64_t most_;
  double seconds_per_token_ = 0;  // 0: not known yet
};

}  // namespace quern
