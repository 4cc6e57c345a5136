// SPDX-License-Identifier: Apache-2.0
#include "quern/parallel/pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <stdexcept>
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

TEST(Pool, has_a_pulse_while_it_works_and_none_while_it_hangs) {
  for (int threads : {1, 3}) {
    Pool pool(threads);
    const uint64_t idle = pool.pulse();
    EXPECT_EQ(pool.pulse(), idle);
    std::mutex mutex;
    std::vector<uint64_t> seen;  // by any worker: who is late finds its own pieces done
    pool.run([&](const Worker& worker) {
      worker.work_through(100, 1, 1, [&](int64_t, int64_t) {
        const std::lock_guard lock(mutex);
        seen.push_back(pool.pulse());
      });
    });
    ASSERT_FALSE(seen.empty());
    EXPECT_NE(seen.front(), idle) << threads;
    if (threads == 1) {
      std::ranges::sort(seen);
      EXPECT_EQ(std::ranges::unique(seen).begin(), seen.end()) << "each piece is a beat";
    }
    const uint64_t after = pool.pulse();
    EXPECT_NE(after, idle);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_EQ(pool.pulse(), after);
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

TEST(Pool, work_is_passed_once_in_grains_and_pieces) {
  for (int threads : {1, 2, 3, 7}) {
    Pool pool(threads);
    for (int64_t n : {0, 1, 5, 16, 97, 1000})
      for (int64_t grain : {1, 4, 16})
        for (int64_t most : {1, 8, 1000}) {
          std::vector<std::atomic<int>> done(n);
          pool.run([&](const Worker& worker) {
            worker.work_through(n, grain, most, [&](int64_t begin, int64_t end) {
              EXPECT_EQ(begin % grain, 0);
              EXPECT_TRUE(end == n || end % grain == 0);
              EXPECT_LT(begin, end);
              EXPECT_LE(end - begin, std::max(grain, most));
              for (int64_t i = begin; i < end; ++i) ++done[i];
            });
          });
          for (const auto& count : done) ASSERT_EQ(count, 1);
        }
  }
}

TEST(Pool, one_work_after_the_other_needs_no_barrier) {
  Pool pool(3);
  constexpr int kWorks = 2000;
  std::vector<std::atomic<int>> done(kWorks);
  for (int region = 1; region <= 3; ++region) {
    pool.run([&](const Worker& worker) {
      for (int work = 0; work < kWorks; ++work)
        worker.work_through(work % 50, 2, 4,
                            [&](int64_t begin, int64_t end) { done[work] += static_cast<int>(end - begin); });
    });
    for (int work = 0; work < kWorks; ++work) ASSERT_EQ(done[work], region * (work % 50));
  }
}

// The last worker does not get ready with its first piece before everything else is done: others must have taken it.
TEST(Pool, the_rest_of_a_late_worker_is_done_by_others) {
  constexpr int kThreads = 3;
  constexpr int64_t kUnits = 300;
  Pool pool(kThreads);
  std::atomic<int64_t> done{0};
  std::vector<int64_t> by_worker(kThreads);
  pool.run([&](const Worker& worker) {
    worker.work_through(kUnits, 1, 10, [&](int64_t begin, int64_t end) {
      const int64_t count = end - begin;
      if (worker.index() == kThreads - 1)
        while (done < kUnits - count) std::this_thread::yield();
      done += count;
      by_worker[worker.index()] += count;
    });
  });
  EXPECT_EQ(done, kUnits);
  EXPECT_LE(by_worker[kThreads - 1], 10);
}

/// While it lives, the process may map only `room` bytes more.
class AddressSpaceLimit {
 public:
  explicit AddressSpaceLimit(rlim_t room) {
    getrlimit(RLIMIT_AS, &before_);
    rlim_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlimit less{pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + room, before_.rlim_max};
    holds_ = pages > 0 && setrlimit(RLIMIT_AS, &less) == 0;
  }
  AddressSpaceLimit(const AddressSpaceLimit&) = delete;
  AddressSpaceLimit& operator=(const AddressSpaceLimit&) = delete;
  ~AddressSpaceLimit() { setrlimit(RLIMIT_AS, &before_); }
  bool holds() const { return holds_; }

 private:
  rlimit before_;
  bool holds_;
};

TEST(Pool, made_with_as_many_threads_as_asked) {
  auto pool = Pool::make(3);
  ASSERT_TRUE(pool);
  std::vector<int> ran(3);
  (*pool)->run([&](const Worker& worker) { ++ran[worker.index()]; });
  EXPECT_EQ(ran, (std::vector<int>{1, 1, 1}));
}

TEST(Pool, says_when_the_system_starts_fewer_threads) {
#if defined(QUERN_SANITIZED)
  GTEST_SKIP() << "sanitizers map memory of their own and end the process where they cannot";
#endif
  {
    // Stacks are at least 2 MB each; the C library keeps at most 40 MB of those of ended threads.
    const AddressSpaceLimit limit(32 << 20);
    ASSERT_TRUE(limit.holds());
    const auto pool = Pool::make(400);
    ASSERT_FALSE(pool);
    EXPECT_EQ(pool.error().code, ErrorCode::out_of_memory);
    int started = 0;
    ASSERT_EQ(sscanf(pool.error().message.c_str(), "threads: expected 400, the system started %d", &started), 1)
        << pool.error().message;
    EXPECT_GE(started, 1);
    EXPECT_LT(started, 400);
  }
  EXPECT_TRUE(Pool::make(4));
}

TEST(PoolDeathTest, exceptions_of_a_region_end_the_process_with_their_message) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (int thrower : {0, 1})
    EXPECT_DEATH(
        {
          Pool pool(2);
          pool.run([&](const Worker& worker) {
            if (worker.index() == thrower) throw std::runtime_error("thrown by a worker");
            worker.barrier();
          });
        },
        "thrown by a worker");
}

TEST(Pool, default_is_at_least_one_thread) { EXPECT_GE(Pool::default_threads(), 1); }

}  // namespace
}  // namespace quern
