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

using namespace std::chrono_literals;

const Crowding::Clock::time_point kStart(1h);

TEST(Crowding, more_threads_than_processors_always_yield) {
  Crowding crowding(3, 2, 0);
  EXPECT_EQ(crowding.patience(), Patience::yield);
  crowding.note_long_wait(0, kStart);
  crowding.note_long_wait(5, kStart);
  EXPECT_EQ(crowding.patience(), Patience::yield);
}

/// How many long waits are brief after a preemption at `now`.
int brief_waits(Crowding& crowding, long preempted, Crowding::Clock::time_point now) {
  crowding.note_long_wait(preempted, now);
  int waits = 0;
  for (; crowding.patience() == Patience::brief && waits < 1000; ++waits) crowding.note_long_wait(preempted, now);
  return waits;
}

TEST(Crowding, patience_is_brief_after_a_preemption_until_there_is_none_for_long) {
  Crowding crowding(2, 2, 7);
  EXPECT_EQ(crowding.patience(), Patience::spin);
  for (int i = 0; i < 1000; ++i) crowding.note_long_wait(7, kStart);  // long waits alone are uneven work
  EXPECT_EQ(crowding.patience(), Patience::spin);

  const int few = brief_waits(crowding, 8, kStart);
  EXPECT_GE(few, 1);
  EXPECT_LE(few, 10);

  crowding.note_long_wait(9, kStart + 1s);
  for (int i = 0; i < few - 1; ++i) crowding.note_long_wait(9, kStart + 1s);
  crowding.note_long_wait(10, kStart + 2s);  // again, before they are over
  for (int i = 0; i < few - 1; ++i) crowding.note_long_wait(10, kStart + 2s);
  EXPECT_EQ(crowding.patience(), Patience::brief);
}

TEST(Crowding, more_waits_are_brief_the_more_often_somebody_comes_back) {
  Crowding crowding(2, 2, 0);
  const int few = brief_waits(crowding, 1, kStart);
  auto now = kStart;
  int many = few;
  for (long i = 2; i < 20; ++i) {
    const int next = brief_waits(crowding, i, now += 5ms);
    EXPECT_GE(next, many);
    many = next;
  }
  EXPECT_GT(many, 4 * few);
  EXPECT_LE(many, 100);
  for (long i = 20; i < 25; ++i) EXPECT_EQ(brief_waits(crowding, i, now += 50ms), few) << "now and then";
}

TEST(Crowding, a_count_that_comes_late_is_no_preemption_nor_is_the_one_after_it) {
  Crowding crowding(2, 2, 0);
  const int few = brief_waits(crowding, 8, kStart);
  EXPECT_EQ(brief_waits(crowding, 7, kStart + 1ms), 0);
  EXPECT_EQ(brief_waits(crowding, 8, kStart + 2ms), 0);
  EXPECT_EQ(brief_waits(crowding, 9, kStart + 1s), few);
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
