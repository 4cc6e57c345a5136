// SPDX-License-Identifier: Apache-2.0
#include "quern/parallel/pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

namespace quern {
namespace {

TEST(Pool, runs_every_worker_once_in_each_region) {
  for (int threads : {1, 2, 3, 9}) {
    Pool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    std::vector<int> ran(threads);
    for (int region = 1; region <= 200; ++region) {
      pool.run([&](const Worker& worker) {
        EXPECT_EQ(worker.count(), threads);
        ++ran[worker.index()];
      });
      for (int count : ran) ASSERT_EQ(count, region);
    }
  }
}

TEST(Pool, caller_is_worker_zero) {
  Pool pool(3);
  const std::thread::id self = std::this_thread::get_id();
  pool.run([&](const Worker& worker) { EXPECT_EQ(worker.index() == 0, std::this_thread::get_id() == self); });
}

// Each phase reads what the neighbour wrote in the phase before; under ThreadSanitizer this also proves the ordering.
TEST(Pool, barrier_publishes_what_was_written_before_it) {
  for (int threads : {2, 5}) {
    Pool pool(threads);
    std::vector<int64_t> cells(threads, 0);
    constexpr int kPhases = 500;
    pool.run([&](const Worker& worker) {
      for (int phase = 0; phase < kPhases; ++phase) {
        const int64_t seen = cells[(worker.index() + 1) % threads];
        worker.barrier();
        cells[worker.index()] = seen + 1;
        worker.barrier();
      }
    });
    for (int64_t cell : cells) EXPECT_EQ(cell, kPhases);
  }
}

TEST(Pool, wakes_workers_that_fell_asleep_between_regions_and_at_barriers) {
  Pool pool(3);
  std::vector<int> ran(3);
  for (int region = 0; region < 3; ++region) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    pool.run([&](const Worker& worker) {
      if (worker.index() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      worker.barrier();
      ++ran[worker.index()];
    });
  }
  EXPECT_EQ(ran, (std::vector<int>{3, 3, 3}));
}

TEST(Pool, shares_cover_everything_once_in_order_and_in_grains) {
  for (int threads : {1, 2, 3, 7}) {
    Pool pool(threads);
    for (int64_t n : {0, 1, 5, 16, 97, 1000})
      for (int64_t grain : {1, 4, 16}) {
        std::vector<Worker::Range> shares(threads);
        pool.run([&](const Worker& worker) { shares[worker.index()] = worker.share(n, grain); });
        int64_t at = 0;
        for (const auto& [begin, end] : shares) {
          ASSERT_EQ(begin, at);
          ASSERT_LE(begin, end);
          ASSERT_TRUE(end == n || end % grain == 0);
          ASSERT_LE(end - begin, (n / grain / threads + 2) * grain);
          at = end;
        }
        ASSERT_EQ(at, n);
      }
  }
}

TEST(Pool, default_is_at_least_one_thread) { EXPECT_GE(Pool::default_threads(), 1); }

}  // namespace
}  // namespace quern
