// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <vector>

#include "quern/parallel/event_word.h"

namespace quern {

/// Whether the threads of a pool have processors of their own: how long it is worth spinning for one that is late.
/// Where another program wants the same processors, who spins may hold the very one that the late thread waits for, and
/// spends the share of time that its own work will lack. Told by the share of its time that a worker neither ran nor
/// slept of its own will, in spans in which it was preempted: a program that takes a processor for a moment now and
/// then, as one that reads a stream of tokens does, costs less than sleeping at every uneven phase.
class Crowding {
 public:
  using Clock = std::chrono::steady_clock;
  using Duration = Clock::duration;

  /// What a thread has spent, ever.
  struct Spent {
    Clock::time_point now;
    Duration running{0};  ///< on a processor
    long preempted = 0;   ///< times that it was made to give its processor away
    /// Of the calling thread.
    static Spent read();
    /// `running` alone, which is less to ask for.
    static Duration read_running();
  };

  /// Of `threads` threads where `cpus` processors may be used.
  Crowding(int threads, int cpus) : always_(threads > cpus), workers_(threads) {}

  /// Any thread.
  Patience patience() const {
    if (always_) return Patience::yield;
    return crowded_.load(std::memory_order_relaxed) > 0 ? Patience::brief : Patience::spin;
  }

  /// Whether that can change, and so `begin` and the others are worth their calls.
  bool is_open() const { return !always_; }

  // The worker itself.
  /// It has work from now on; what was before does not count.
  void begin(int worker, const Spent& spent) {
    workers_[worker].last = spent;
    workers_[worker].asleep = {};
  }
  /// It slept so long and did not run, of its own will, since `begin` or `note`.
  void slept(int worker, Duration time) { workers_[worker].asleep += time; }
  /// Counts what happened since `begin` or the last of these.
  void note(int worker, const Spent& spent);
  /// Whether so much time has passed since then that this is worth a call in the midst of work.
  bool note_is_due(int worker, Clock::time_point now) const;

 private:
  struct alignas(64) Track {
    Spent last;
    Duration asleep{0};         // since then
    Duration wall{0}, lost{0};  // of the present span
    bool preempted = false;     // in it
    double share = 0;           // of time lost, of the spans before
    bool crowded = false;
  };
  const bool always_;
  std::vector<Track> workers_;
  std::atomic<int> crowded_{0};  // workers
};

}  // namespace quern
