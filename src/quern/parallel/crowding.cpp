// SPDX-License-Identifier: Apache-2.0
#include "quern/parallel/crowding.h"

#include <sys/resource.h>

namespace quern {
namespace {

// Less than a token's worth: a busy program comes back within milliseconds, while one that only reads a token now and
// then must not make every wait brief, for each of these may end in the system.
constexpr int kBriefWaits = 32;

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
