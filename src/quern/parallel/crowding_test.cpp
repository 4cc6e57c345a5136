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

/// Two workers on two processors, in regions of 2 ms.
class Team {
 public:
  /// Time goes by: of each region the workers lose so much, and sleep so long of their own will.
  void work(Crowding::Duration time, Crowding::Duration lost, bool preempted, Crowding::Duration asleep = 0ms) {
    constexpr auto kRegion = 2ms;
    for (Crowding::Duration done = 0ms; done < time; done += kRegion)
      for (int w = 0; w < 2; ++w) {
        crowding.begin(w, spent_[w]);
        spent_[w].now += kRegion;
        spent_[w].running += kRegion - lost - asleep;
        spent_[w].preempted += preempted;
        crowding.slept(w, asleep);
        crowding.note(w, spent_[w]);
        spent_[w].now += 10ms;  // idle between regions: nobody's loss
      }
  }

  Crowding crowding{2, 2};

 private:
  Crowding::Spent spent_[2] = {{.now = Crowding::Clock::time_point(1h)}, {.now = Crowding::Clock::time_point(2h)}};
};

TEST(Crowding, more_threads_than_processors_always_yield) {
  EXPECT_EQ(Crowding(3, 2).patience(), Patience::yield);
  EXPECT_FALSE(Crowding(3, 2).is_open());
  EXPECT_EQ(Crowding(2, 2).patience(), Patience::spin);
}

TEST(Crowding, patience_is_brief_while_a_busy_program_takes_its_share) {
  Team team;
  team.work(100ms, 0ms, false);
  EXPECT_EQ(team.crowding.patience(), Patience::spin);
  team.work(50ms, 400us, true);
  EXPECT_EQ(team.crowding.patience(), Patience::brief);
  team.work(1s, 400us, true);
  EXPECT_EQ(team.crowding.patience(), Patience::brief);
  team.work(200ms, 0ms, false);
  EXPECT_EQ(team.crowding.patience(), Patience::spin);
}

TEST(Crowding, who_takes_a_processor_for_moments_makes_no_waits_brief) {
  Team team;
  team.work(1s, 40us, true);
  EXPECT_EQ(team.crowding.patience(), Patience::spin);
}

TEST(Crowding, sleep_is_no_loss) {
  Team team;
  team.work(1s, 0ms, true, 1ms);
  EXPECT_EQ(team.crowding.patience(), Patience::spin);
}

TEST(Crowding, time_that_no_program_took_is_no_reason_to_sleep) {
  Team team;
  team.work(1s, 400us, false);
  EXPECT_EQ(team.crowding.patience(), Patience::spin);
}

TEST(Crowding, one_crowded_worker_makes_all_waits_brief) {
  Crowding crowding(2, 2);
  Crowding::Spent spent = {.now = Crowding::Clock::time_point(1h)};
  crowding.begin(1, spent);
  EXPECT_FALSE(crowding.note_is_due(1, spent.now + 1ms));
  EXPECT_TRUE(crowding.note_is_due(1, spent.now + 30ms));
  for (int i = 0; i < 4; ++i) {  // in one long region
    spent.now += 30ms;
    spent.running += 15ms;
    ++spent.preempted;
    crowding.note(1, spent);
  }
  EXPECT_EQ(crowding.patience(), Patience::brief);
}

TEST(Crowding, a_thread_reads_what_it_spent) {
  const Crowding::Spent before = Crowding::Spent::read();
  volatile uint64_t sum = 0;
  while (Crowding::Clock::now() - before.now < 20ms) sum = sum + 1;
  std::this_thread::sleep_for(20ms);
  const Crowding::Spent after = Crowding::Spent::read();
  EXPECT_GE(after.now - before.now, 40ms);
  EXPECT_GT(after.running - before.running, 0ms);
  EXPECT_LT(after.running - before.running, after.now - before.now - 19ms);
  EXPECT_GE(after.preempted, before.preempted);
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
