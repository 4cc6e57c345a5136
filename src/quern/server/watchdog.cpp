// SPDX-License-Identifier: Apache-2.0
#include "quern/server/watchdog.h"

#include <algorithm>
#include <utility>

namespace quern {

Watchdog::Clock::duration Watchdog::look(uint64_t beats, bool works, Clock::time_point now) {
  const auto since = std::min<Clock::duration>(now - std::exchange(last_, now), kMostBetween);
  const bool moves = std::exchange(beats_, beats) != beats;
  silence_ = works && !moves ? silence_ + since : Clock::duration::zero();
  return silence_;
}

}  // namespace quern
