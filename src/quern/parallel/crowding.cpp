// SPDX-License-Identifier: Apache-2.0
#include "quern/parallel/crowding.h"

#include <sys/resource.h>

namespace quern {
namespace {

// A few tokens' worth: whoever disturbs comes back within milliseconds.
constexpr int kBriefWaits = 256;

}  // namespace

void Crowding::note_long_wait(long preempted) {
  const long before = preempted_.exchange(preempted, std::memory_order_relaxed);
  if (preempted > before)
    brief_.store(kBriefWaits, std::memory_order_relaxed);
  else if (brief_.load(std::memory_order_relaxed) > 0)
    brief_.fetch_sub(1, std::memory_order_relaxed);
}

long Crowding::preemptions() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

}  // namespace quern
