// SPDX-License-Identifier: Apache-2.0
#include "quern/parallel/crowding.h"

#include <sys/resource.h>

#include <algorithm>

namespace quern {
namespace {

// Each brief wait may end in the system. Who takes a processor for a moment now and then, as one that reads a stream of
// tokens does, makes few waits brief; a busy program, which comes back within milliseconds, twice as many each time.
constexpr auto kSoon = std::chrono::milliseconds(10);
constexpr int kFewestBriefWaits = 4, kMostBriefWaits = 32;

}  // namespace

void Crowding::note_long_wait(long preempted, Clock::time_point now) {
  const long before = preempted_.exchange(preempted, std::memory_order_relaxed);
  if (preempted > before) {
    const bool again = disturbed_.exchange(now, std::memory_order_relaxed) > now - kSoon;
    const int waits = again ? std::min(kMostBriefWaits, 2 * waits_.load(std::memory_order_relaxed)) : kFewestBriefWaits;
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
