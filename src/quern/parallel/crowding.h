// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>

#include "quern/parallel/event_word.h"

namespace quern {

/// Whether the threads of a pool have processors of their own: how long it is worth spinning for one that is late.
/// Without, who spins may hold the very processor that the late one waits for.
class Crowding {
 public:
  using Clock = std::chrono::steady_clock;

  /// Of `threads` threads where `cpus` processors may be used; `preempted` as below, now.
  Crowding(int threads, int cpus, long preempted) : always_(threads > cpus), preempted_(preempted) {}

  Patience patience() const {
    if (always_) return Patience::yield;
    return brief_.load(std::memory_order_relaxed) > 0 ? Patience::brief : Patience::spin;
  }
  /// A wait outlasted its spinning. `preempted`: how often threads of this process were made to give their processor
  /// away, ever.
  void note_long_wait(long preempted, Clock::time_point now);
  /// That count, from the system.
  static long preemptions();

 private:
  const bool always_;
  std::atomic<long> preempted_;
  std::atomic<Clock::time_point> disturbed_{Clock::time_point::min()};  // when that last grew
  std::atomic<int> waits_{0};                                           // that were to be brief from then on
  std::atomic<int> brief_{0};  // long waits that remain until it counts as quiet again
};

}  // namespace quern
