// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>

namespace quern {

/// How long somebody has been at work without a sign of it, told from a counter that moves while he gets on. A look
/// now and then adds up to `kMostBetween` each: a process that was stopped, or a machine that slept, has not hung.
class Watchdog {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr Clock::duration kMostBetween = std::chrono::seconds(1);

  /// The silence so far; none where he waits for work.
  Clock::duration look(uint64_t beats, bool works, Clock::time_point now);

 private:
  uint64_t beats_ = 0;
  Clock::time_point last_{};
  Clock::duration silence_{0};
};

}  // namespace quern
