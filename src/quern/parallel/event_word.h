// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace quern {

/// How a waiter spends its time before it sleeps.
enum class Patience {
  spin,   ///< a core of its own: spins some microseconds, because the others are about to arrive
  yield,  ///< more threads than processors: gives the processor away at once
};

/// A counter that threads wait on. Everything written before `advance` is seen by whom `wait_past` returns to.
class alignas(64) EventWord {
 public:
  uint32_t value() const { return word_.load(std::memory_order_acquire); }
  /// Adds one and wakes all waiters; a system call only if one sleeps.
  void advance();
  /// Returns once the value is not `seen`.
  void wait_past(uint32_t seen, Patience patience);

 private:
  void sleep_past(uint32_t seen);
  std::atomic<uint32_t> word_{0};
  std::atomic<int> sleepers_{0};
};

}  // namespace quern
