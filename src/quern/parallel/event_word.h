// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace quern {

/// How a waiter spends its time before it sleeps.
enum class Patience {
  spin,   ///< a core of its own: spins some tens of microseconds, because the others are about to arrive
  brief,  ///< other programs take processors at times: spins a tenth of that
  yield,  ///< more threads than processors: gives the processor away at once
};

/// A counter that threads wait on. Everything written before `advance` is seen by whom `wait_past` returns to.
class alignas(64) EventWord {
 public:
  uint32_t value() const { return word_.load(std::memory_order_acquire); }
  /// Adds one and wakes all waiters; a system call only if one sleeps.
  void advance();
  /// Whether the value changes from `seen` before patience ends.
  bool spin_past(uint32_t seen, Patience patience) const;
  /// Returns once the value is not `seen`, and sleeps until then.
  void sleep_past(uint32_t seen);

 private:
  std::atomic<uint32_t> word_{0};
  std::atomic<int> sleepers_{0};
};

}  // namespace quern
