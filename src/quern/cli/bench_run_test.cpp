// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/bench_run.h"

#include <gtest/gtest.h>

#include <thread>

namespace quern {
namespace {

TEST(BenchRun, spread_takes_the_middle) {
  const Spread odd = spread_of({3, 1, 2}), even = spread_of({4, 1, 2, 3});
  EXPECT_EQ(odd.min, 1);
  EXPECT_EQ(odd.median, 2);
  EXPECT_EQ(odd.max, 3);
  EXPECT_EQ(even.median, 2.5);
}

TEST(BenchRun, a_profile_accounts_for_all_of_a_step) {
  using std::chrono::milliseconds;
  Pool pool(2);
  Profile profile(2);
  pool.profile(&profile);
  constexpr int kSteps = 4;
  const auto start = Profile::Clock::now();
  for (int i = 0; i < kSteps; ++i) {
    pool.run([](const Worker& worker) {
      worker.phase(Phase::qkv);
      std::this_thread::sleep_for(milliseconds(worker.index() == 0 ? 1 : 3));
      worker.barrier();
      worker.phase(Phase::head);
      std::this_thread::sleep_for(milliseconds(12));
    });
    std::this_thread::sleep_for(milliseconds(1));
  }
  const double seconds = std::chrono::duration<double>(Profile::Clock::now() - start).count();
  const StepProfile out = step_profile(profile, kSteps, seconds, 2e-3);
  EXPECT_EQ(out.steps, kSteps);
  EXPECT_EQ(out.barriers_per_step, 2);
  EXPECT_DOUBLE_EQ(out.ms_per_step, seconds / kSteps * 1e3);
  double ms = 0, share = 0, waits = 0, outside = 0, sampling = 0;
  for (const StepProfile::Row& row : out.phases) {
    ms += row.ms_per_step;
    share += row.share;
    waits += row.barrier_share;
    if (row.phase == "outside") outside = row.ms_per_step;
    if (row.phase == "sampling") sampling = row.ms_per_step;
    EXPECT_LE(row.barrier_share, row.share);
    EXPECT_LE(row.ms_per_step, out.phases.front().ms_per_step);
  }
  EXPECT_NEAR(ms, out.ms_per_step, 1e-9 * ms);
  EXPECT_NEAR(share, 1, 1e-9);
  EXPECT_NEAR(waits, out.barrier_share, 1e-9);
  EXPECT_NEAR(sampling, 2.0 / kSteps, 1e-9);
  EXPECT_GE(outside + sampling, 1);
  EXPECT_GT(out.barrier_share, 0);
  // What did not happen has no row.
  for (const StepProfile::Row& row : out.phases) EXPECT_NE(row.phase, "attention");
}

TEST(BenchRun, shares_are_of_the_limit_that_a_test_meets) {
  const MachineLimits limits{.read_gbps = 50, .int_tops = 4};
  const Shares decode = shares_of_limits({.bytes_per_step = 100, .gbps = 25, .tops = {}}, limits);
  EXPECT_TRUE(decode.bandwidth == 0.5 && !decode.int_peak);
  const Shares prefill = shares_of_limits({.bytes_per_step = {}, .gbps = {}, .tops = 1}, limits);
  EXPECT_TRUE(prefill.int_peak == 0.25 && !prefill.bandwidth);
}

TEST(MachineLimits, are_possible_numbers) {
  Pool pool(1);
  for (Isa isa : usable_isas()) {
    const MachineLimits limits = measure_limits(pool, isa);
    // One thread of any machine of the last fifteen years reads more than 0.5 and less than 500 GB/s.
    EXPECT_GT(limits.read_gbps, 0.5) << isa_name(isa);
    EXPECT_LT(limits.read_gbps, 500) << isa_name(isa);
    EXPECT_GT(limits.int_tops, 0.002) << isa_name(isa);
    EXPECT_LT(limits.int_tops, 20) << isa_name(isa);
  }
}

}  // namespace
}  // namespace quern
