// SPDX-License-Identifier: Apache-2.0
#include "quern/parallel/crowding.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "quern/parallel/cores.h"
#include "quern/parallel/pool.h"

namespace quern {
namespace {

TEST(Crowding, more_threads_than_processors_always_yield) {
  Crowding crowding(3, 2, 0);
  EXPECT_EQ(crowding.patience(), Patience::yield);
  crowding.note_long_wait(0);
  crowding.note_long_wait(5);
  EXPECT_EQ(crowding.patience(), Patience::yield);
}

TEST(Crowding, patience_is_brief_after_a_preemption_until_there_is_none_for_long) {
  Crowding crowding(2, 2, 7);
  EXPECT_EQ(crowding.patience(), Patience::spin);
  for (int i = 0; i < 1000; ++i) crowding.note_long_wait(7);  // long waits alone are uneven work
  EXPECT_EQ(crowding.patience(), Patience::spin);

  crowding.note_long_wait(8);
  EXPECT_EQ(crowding.patience(), Patience::brief);
  int brief = 0;
  for (; crowding.patience() == Patience::brief && brief < 100'000; ++brief) crowding.note_long_wait(8);
  EXPECT_GE(brief, 10);
  EXPECT_LT(brief, 10'000);

  crowding.note_long_wait(9);
  for (int i = 0; i < brief - 1; ++i) crowding.note_long_wait(9);
  crowding.note_long_wait(10);  // again, in time
  for (int i = 0; i < brief - 1; ++i) crowding.note_long_wait(10);
  EXPECT_EQ(crowding.patience(), Patience::brief);
}

/// Keeps this process to the first two processors it may use.
class TwoProcessors {
 public:
  TwoProcessors() {
    holds_ = sched_getaffinity(0, sizeof before_, &before_) == 0;
    cpu_set_t two;
    CPU_ZERO(&two);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&two) < 2; ++cpu)
      if (CPU_ISSET(cpu, &before_)) CPU_SET(cpu, &two);
    holds_ = holds_ && CPU_COUNT(&two) == 2 && sched_setaffinity(0, sizeof two, &two) == 0;
  }
  TwoProcessors(const TwoProcessors&) = delete;
  TwoProcessors& operator=(const TwoProcessors&) = delete;
  ~TwoProcessors() { sched_setaffinity(0, sizeof before_, &before_); }
  bool holds() const { return holds_; }

 private:
  cpu_set_t before_{};
  bool holds_;
};

/// Of a region whose workers meet again and again, with some microseconds of work between.
double seconds_of_meetings(int threads, int meetings) {
  Pool pool(threads);
  std::vector<uint64_t> sums(threads * 8);
  const auto start = std::chrono::steady_clock::now();
  pool.run([&](const Worker& worker) {
    volatile uint64_t& sum = sums[worker.index() * 8];
    for (int i = 0; i < meetings; ++i) {
      for (int j = 0; j < 40'000; ++j) sum = sum + j;
      worker.barrier();
    }
  });
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

constexpr int kMeetings = 3000;

// Waiters that hold on to their processors cost a time slice, some milliseconds, at each meeting: together over ten
// seconds.
TEST(CrowdedPool, of_more_threads_than_processors_gets_on) {
  const TwoProcessors two;
  if (!two.holds()) GTEST_SKIP() << "fewer than two processors";
  const double quiet = seconds_of_meetings(2, kMeetings), crowded = seconds_of_meetings(4, kMeetings);
  EXPECT_LT(crowded, 20 * quiet + 2);
}

TEST(CrowdedPool, beside_a_busy_program_gets_on) {
  const TwoProcessors two;
  if (!two.holds()) GTEST_SKIP() << "fewer than two processors";
  const double quiet = seconds_of_meetings(2, kMeetings);
  std::jthread busy([](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
    }
  });
  const double crowded = seconds_of_meetings(2, kMeetings);
  EXPECT_LT(crowded, 20 * quiet + 2);
}

}  // namespace
}  // namespace quern
