// SPDX-License-Identifier: Apache-2.0
#include "quern/parallel/crowding.h"

#include <sys/resource.h>

#include <algorithm>

namespace quern {
namespace {

// Each brief wait may end in the system. Who takes a processor for a moment now and then, as one that reads a stream of
// tokens does, makes few waits brief; a busy program, which comes back soon, twice as many each time.
// A program that shares a processor comes back after a time slice or two of the system's, 3 to 12 ms; a reader of a
// stream every 50 ms.
constexpr auto kSoon = std::chrono::milliseconds(25);
constexpr int kFewestBriefWaits = 4, kMostBriefWaits = 32;

/// Whether `value` was more than what `most` held, which it holds now. Threads come in another order than they counted.
bool raise(std::atomic<long>& most, long value) {
  long before = most.load(std::memory_order_relaxed);
  while (before < value)
    if (most.compare_exchange_weak(before, value, std::memory_order_relaxed)) return true;
  return false;
}

}  // namespace

void Crowding::note_long_wait(long preempted, Clock::time_point now) {
  if (raise(preempted_, preempted)) {
    const bool again = disturbed_.exchange(now, std::memory_order_relaxed) > now - kSoon;
    const int twice = 2 * waits_.load(std::memory_order_relaxed);
    const int waits = again ? std::clamp(twice, kFewestBriefWaits, kMostBriefWaits) : kFewestBriefWaits;
    waits_.store(waits, std::memory_order_relaxed);
    brief_.store(waits, std::memory_order_relaxed);
  } else if (brief_.load(std::memory_order_relaxed) > 0) {
    brief_.fetch_sub(1, std::memory_order_relaxed);
  }
}

long Crowding::preemptions() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

}  // namespace quern
