// SPDX-License-Identifier: Apache-2.0
#include "quern/server/watchdog.h"

#include <gtest/gtest.h>

namespace quern {
namespace {

using namespace std::chrono_literals;

class WatchdogTest : public ::testing::Test {
 protected:
  /// Looks after so long.
  Watchdog::Clock::duration after(Watchdog::Clock::duration time, uint64_t beats, bool works = true) {
    return dog_.look(beats, works, now_ += time);
  }
  Watchdog dog_;
  Watchdog::Clock::time_point now_ = Watchdog::Clock::now();
};

TEST_F(WatchdogTest, counts_from_the_last_beat) {
  EXPECT_EQ(after(0ms, 5), 0ms);
  EXPECT_EQ(after(50ms, 5), 50ms);
  EXPECT_EQ(after(500ms, 5), 550ms);
  EXPECT_EQ(after(900ms, 6), 0ms) << "it moves";
  for (int i = 1; i <= 600; ++i) EXPECT_EQ(after(50ms, 6), i * 50ms);
  EXPECT_EQ(after(50ms, 2), 0ms) << "any other number is a beat";
}

TEST_F(WatchdogTest, who_waits_for_work_is_not_late) {
  after(0ms, 1);
  EXPECT_EQ(after(900ms, 1), 900ms);
  EXPECT_EQ(after(50ms, 1, /*works=*/false), 0ms);
  EXPECT_EQ(after(50ms, 1), 50ms) << "from where he took it up";
}

TEST_F(WatchdogTest, a_process_that_was_stopped_has_not_hung) {
  after(0ms, 1);
  EXPECT_EQ(after(10h, 1), Watchdog::kMostBetween);
  EXPECT_EQ(after(50ms, 1), Watchdog::kMostBetween + 50ms);
}

}  // namespace
}  // namespace quern
