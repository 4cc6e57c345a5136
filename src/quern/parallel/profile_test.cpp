// SPDX-License-Identifier: Apache-2.0
#include "quern/parallel/profile.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "quern/parallel/pool.h"

namespace quern {
namespace {

using std::chrono::milliseconds;

double total(const Profile& profile, int worker) {
  double sum = 0;
  for (size_t i = 0; i < kPhaseLabels.size(); ++i) {
    const Profile::Charge charge = profile.charge(worker, static_cast<Phase>(i));
    sum += charge.work_s + charge.wait_s;
  }
  return sum;
}

TEST(Profile, labels_are_distinct) {
  const std::set<std::string_view> labels(kPhaseLabels.begin(), kPhaseLabels.end());
  EXPECT_EQ(labels.size(), kPhaseLabels.size());
  EXPECT_EQ(phase_label(Phase::other), "other");
  EXPECT_EQ(phase_label(Phase::attention_out), "attention_out");
  EXPECT_EQ(phase_label(Phase::experts_down), "experts_down");
  EXPECT_EQ(phase_label(Phase::head), "head");
}

TEST(Profile, charges_of_each_worker_add_up_to_the_time_of_the_regions) {
  for (int threads : {1, 3}) {
    Pool pool(threads);
    Profile profile(threads);
    pool.profile(&profile);
    Profile::Clock::duration wall{};
    for (int region = 0; region < 5; ++region) {
      const auto start = Profile::Clock::now();
      pool.run([&](const Worker& worker) {
        worker.phase(Phase::norm);
        std::this_thread::sleep_for(milliseconds(1 + worker.index()));
        worker.barrier();
        worker.phase(Phase::head);
        std::this_thread::sleep_for(milliseconds(2));
      });
      wall += Profile::Clock::now() - start;
    }
    // Sleeping takes no less than asked for, and the slowest sets the pace; all of it lies between our two readings.
    for (int worker = 0; worker < threads; ++worker) {
      EXPECT_GE(total(profile, worker), 5 * (threads + 2) * 1e-3);
      EXPECT_LE(total(profile, worker), std::chrono::duration<double>(wall).count());
    }
    EXPECT_EQ(profile.barriers(), 2 * 5);
  }
}

TEST(Profile, waiting_for_a_slower_worker_is_apart_from_working) {
  Pool pool(2);
  Profile profile(2);
  pool.profile(&profile);
  pool.run([](const Worker& worker) {
    worker.phase(Phase::attention);
    if (worker.index() == 1) std::this_thread::sleep_for(milliseconds(50));
    worker.barrier();
    worker.phase(Phase::ffn_up);
  });
  const Profile::Charge fast = profile.charge(0, Phase::attention), slow = profile.charge(1, Phase::attention);
  EXPECT_GE(slow.work_s, 50e-3);
  EXPECT_LT(slow.wait_s, slow.work_s);
  EXPECT_GT(fast.wait_s, fast.work_s);
  const Profile::Charge mean = profile.mean(Phase::attention);
  EXPECT_DOUBLE_EQ(mean.work_s, (fast.work_s + slow.work_s) / 2);
  EXPECT_DOUBLE_EQ(mean.wait_s, (fast.wait_s + slow.wait_s) / 2);
}

TEST(Profile, the_end_of_a_region_is_a_barrier_of_its_last_phase) {
  Pool pool(2);
  Profile profile(2);
  pool.profile(&profile);
  pool.run([](const Worker& worker) {
    worker.phase(Phase::head);
    if (worker.index() == 0) std::this_thread::sleep_for(milliseconds(20));
  });
  EXPECT_GE(profile.charge(0, Phase::head).work_s, 20e-3);
  EXPECT_GT(profile.charge(1, Phase::head).wait_s, profile.charge(1, Phase::head).work_s);
  EXPECT_EQ(profile.barriers(), 1);
}

TEST(Profile, detached_and_reset_it_stays_empty) {
  Pool pool(2);
  Profile profile(2);
  const auto region = [](const Worker& worker) {
    worker.phase(Phase::qkv);
    worker.barrier();
  };
  pool.profile(&profile);
  pool.run(region);
  EXPECT_EQ(profile.barriers(), 2);
  EXPECT_GT(total(profile, 1), 0);
  profile.reset();
  pool.profile(nullptr);
  pool.run(region);
  EXPECT_EQ(profile.barriers(), 0);
  EXPECT_EQ(total(profile, 0), 0);
  EXPECT_EQ(total(profile, 1), 0);
}

// The others may wake from the last barrier after the caller went on; they must not touch a profile that is gone
// (AddressSanitizer and ThreadSanitizer see it).
TEST(Profile, may_go_as_soon_as_the_region_is_over) {
  Pool pool(4);
  for (int i = 0; i < 200; ++i) {
    Profile profile(4);
    pool.profile(&profile);
    pool.run([](const Worker& worker) { worker.phase(Phase::rope); });
    pool.profile(nullptr);
    EXPECT_EQ(profile.barriers(), 1);
  }
}

TEST(ProfileDeathTest, has_a_track_for_every_worker) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        Pool pool(2);
        Profile profile(1);
        pool.profile(&profile);
      },
      "a track for every worker");
}

}  // namespace
}  // namespace quern
